//! The repository about itself: each rule carries its reason, so that a rule that no longer makes sense can be changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_owned()
}

/// Every file that git knows or would take in, relative to the root.
fn files() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files");
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).expect("file names are UTF-8");
    let files: Vec<String> = names.lines().filter(|name| root().join(name).is_file()).map(str::to_owned).collect();
    assert!(files.len() > 50, "git lists only {} files: the rules below would check next to nothing", files.len());
    files
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Fails with all offenders at once: a list is mended faster than one line at a time.
fn assert_none(offenders: &[String], rule: &str) {
    assert!(offenders.is_empty(), "{rule}:\n  {}", offenders.join("\n  "));
}

/// The top of the repository shows the architecture; whatever else lies there hides it.
#[test]
fn the_top_level_is_the_agreed_one() {
    const ALLOWED: &[&str] = &[
        "Cargo.toml",
        "Cargo.lock",
        "LICENSE",
        "README.md",
        "rust-toolchain.toml",
        "core",
        "connectors",
        "transforms",
        "examples",
        "tests",
    ];
    let mut offenders: Vec<String> = files()
        .iter()
        .filter_map(|file| file.split('/').next().map(str::to_owned))
        .filter(|top| !top.starts_with('.') && !ALLOWED.contains(&top.as_str()))
        .collect();
    offenders.dedup();
    assert_none(&offenders, "unexpected at the top level");
}

/// Plugins that know only the contract are what a stranger's plugin can be; a back door for built-ins would show here.
#[test]
fn dependencies_point_one_way() {
    const RULES: &[(&str, &[&str])] = &[
        // The contract in C is for both ends of the plugin boundary, and has nothing below it.
        ("core/plugin-abi", &[]),
        ("core/api", &["ottla-config-derive", "ottla-plugin-abi"]),
        ("core/config-derive", &[]),
        ("core/converters", &["ottla-api"]),
        ("core/testkit", &["ottla-api"]),
        ("core/runtime", &["ottla-api"]),
        ("transforms", &["ottla-api"]),
        // Applications on top of the worker, beside the command line.
        ("core/gateway", &["ottla-api", "ottla-runtime", "ottla-connector-kinesis"]),
        ("core/query", &["ottla-api"]),
        ("connectors/delta", &["ottla-api"]),
        ("connectors/file", &["ottla-api"]),
        ("connectors/kinesis", &["ottla-api"]),
        ("connectors/rds", &["ottla-api"]),
        ("connectors/s3", &["ottla-api"]),
        // What a stranger writes, with what a stranger has.
        ("examples/first-sink", &["ottla-api"]),
        ("examples/first-source", &["ottla-api"]),
        ("examples/first-transform", &["ottla-api"]),
        ("examples/embedded-worker", &["ottla-api", "ottla-runtime", "ottla-converters", "ottla-connector-file"]),
        ("tests/plugins/zoo", &["ottla-api"]),
        // Data, floors and counting, beside which the product is measured.
        ("tests/benches", &[]),
    ];
    let mut offenders = Vec::new();
    for (crate_dir, allowed) in RULES {
        let manifest = read(&format!("{crate_dir}/Cargo.toml"));
        // Only what is built into the crate counts: its tests may use the testkit and the plugins.
        let dependencies =
            manifest.split("\n[").find(|section| section.starts_with("dependencies]")).unwrap_or_default();
        for line in dependencies.lines().filter(|line| line.starts_with("ottla-")) {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if !allowed.contains(&name) {
                offenders.push(format!("{crate_dir} depends on {name}"));
            }
        }
    }
    let known = files().iter().filter(|file| file.ends_with("/Cargo.toml")).count();
    assert_eq!(known, RULES.len() + 2, "a crate is missing in the rules (core/cli and tests may know everything)");
    assert_none(&offenders, "dependencies that point the wrong way");
}

/// Somebody who opens a file should know from its first line whether it is the one they look for.
#[test]
fn every_rust_file_begins_with_a_sentence_that_says_what_it_is_for() {
    let mut offenders = Vec::new();
    for file in files().iter().filter(|file| file.ends_with(".rs")) {
        let text = read(file);
        let first: Vec<&str> = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let sentence = first.first().and_then(|line| line.strip_prefix("//! ")).unwrap_or_default();
        let included = text.starts_with("#![doc = include_str!");
        let ends =
            first.iter().take(4).any(|line| line.trim_end().ends_with(['.', ':', '`', ')']) || line.contains(". "));
        if !included && (sentence.len() < 12 || !ends) {
            offenders.push(file.clone());
        }
    }
    assert_none(&offenders, "files without a first sentence (`//! ..`)");
}

/// What is left to do stands in an issue, where it is seen; in the code it is forgotten.
#[test]
fn no_leftover_markers() {
    // Spelled in halves, so that this file does not find itself.
    let markers = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("todo", "!("),
        concat!("dbg", "!("),
        concat!("unimplemented", "!("),
    ];
    let mut offenders = Vec::new();
    for file in files() {
        let source = [".rs", ".md", ".toml", ".sh", ".py", ".sql"].iter().any(|ending| file.ends_with(ending));
        if !source && !file.starts_with("tests/services/") {
            continue;
        }
        for (number, line) in read(&file).lines().enumerate() {
            if markers.iter().any(|marker| line.contains(marker)) {
                offenders.push(format!("{file}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert_none(&offenders, "leftover markers");
}

/// The project runs anywhere, so it names no folder of the machine it was written on.
#[test]
fn no_paths_of_one_machine() {
    let folders = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    let mut offenders = Vec::new();
    for file in files().iter().filter(|file| !file.ends_with(".lock") && !file.ends_with("LICENSE")) {
        let Ok(text) = fs::read_to_string(root().join(file)) else { continue };
        for (number, line) in text.lines().enumerate() {
            if folders.iter().any(|folder| line.contains(folder)) {
                offenders.push(format!("{file}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert_none(&offenders, "paths of one machine");
}

/// A page has one subject, and a reader who lands on it should see at once which.
#[test]
fn every_page_has_one_title() {
    let mut offenders = Vec::new();
    for file in files().iter().filter(|file| file.ends_with(".md")) {
        let text = read(file);
        let mut in_code = false;
        let titles = text.lines().filter(|line| {
            in_code ^= line.starts_with("```");
            !in_code && line.starts_with("# ")
        });
        let count = titles.count();
        if count != 1 || !text.starts_with("# ") {
            offenders.push(format!("{file}: {count} titles"));
        }
    }
    assert_none(&offenders, "pages that do not begin with their one title");
}

/// Links between pages break silently when a file moves.
#[test]
fn links_between_pages_lead_somewhere() {
    let mut offenders = Vec::new();
    for file in files().iter().filter(|file| file.ends_with(".md")) {
        let folder = root().join(file).parent().expect("a file lies in a folder").to_owned();
        for link in read(file).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !folder.join(target).exists() {
                offenders.push(format!("{file}: {link}"));
            }
        }
    }
    assert_none(&offenders, "links that lead nowhere");
}

/// The reference is generated from the definitions that the parser uses; a page that lags behind them misleads.
#[test]
fn the_configuration_reference_is_fresh() {
    let Some(binary) = std::env::var_os("OTTLA_BIN") else {
        panic!("OTTLA_BIN is not set: start the tests with tests/run, which builds the binary");
    };
    let printed = Command::new(binary).args(["plugins", "reference"]).output().expect("ottla starts");
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    let fresh = String::from_utf8(printed.stdout).expect("the reference is UTF-8");
    assert!(
        fresh == read("core/docs/configuration.md"),
        "core/docs/configuration.md is not fresh; make it so with: ottla plugins reference > core/docs/configuration.md"
    );
}
