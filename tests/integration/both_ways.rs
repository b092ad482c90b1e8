//! A built-in connector and the same one as a library: one set of sources, two ways to it, and nothing that a user could tell them
//! apart by.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ottla_tests::worker::Ottla;
use ottla_tests::{config, services, temp_dir};
use serde_json::Value;

const RUN: Duration = Duration::from_secs(240);

/// The file connector, built as a library of plugins.
fn library() -> PathBuf {
    let debug = services::binary().parent().expect("a file lies in a folder").to_owned();
    // Where the other tests build libraries.
    let target = debug.parent().expect("so does a folder").join("scaffold");
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository");
    let mut cargo = Command::new("cargo");
    cargo.args([
        "rustc",
        "--quiet",
        "-p",
        "ottla-connector-file",
        "--lib",
        "--crate-type",
        "cdylib",
        "--features",
        "plugin",
    ]);
    let built = cargo.current_dir(repository).env("CARGO_TARGET_DIR", &target).output().expect("cargo starts");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    target.join("debug/libottla_connector_file.so")
}

/// The rules that were kept, and those that were not, as `ottla plugin test` tells of them.
fn rules(folder: &Path, plugins: &[&str]) -> BTreeSet<(String, String, String)> {
    let args = ["plugin", "test", "--json", "--config", "setup.toml"].iter().chain(plugins).copied();
    let out = Ottla::new(args.collect::<Vec<_>>()).in_dir(folder).finish(RUN).exits_with(0).stdout;
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"));
    let text = |rule: &Value, key: &str| rule[key].as_str().unwrap_or_else(|| panic!("no {key}: {rule}")).to_owned();
    let rules = report["rules"].as_array().expect("a list of rules");
    rules.iter().map(|rule| (text(rule, "plugin"), text(rule, "rule"), text(rule, "outcome"))).collect()
}

#[test]
fn the_same_suite_passes_for_the_connector_built_in_and_as_a_library() {
    let (library, folder) = (library(), temp_dir());
    config::write(folder.path(), "lines.jsonl", "\"one\"\n\"\"\n\"last\"\n");
    config::write(
        folder.path(),
        "setup.toml",
        r#"
[file-source]
prepare = "printf 'one\n\nlast\n' > {dir}/lines.txt"
options = { file = "{dir}/lines.txt", topic = "lines" }
expect = "lines.jsonl"
kill.prepare = "seq 20000 > {dir}/lines.txt"

[file-sink]
options = { file = "{dir}/out.jsonl" }
read.files = "{dir}/out.jsonl"
"#,
    );
    let built_in = rules(folder.path(), &["file-source", "file-sink"]);
    assert!(built_in.len() > 20, "{built_in:?}");
    assert_eq!(rules(folder.path(), &[&library.display().to_string()]), built_in);
}

#[test]
fn a_pipeline_writes_the_same_bytes_either_way() {
    let library = library();
    let lines: String = (0..30_000).map(|n| format!("line {n} «é😀» {}\n", "x".repeat(n % 3000 / 100))).collect();
    let written = |plugin_path: &str| {
        let folder = temp_dir();
        config::write(folder.path(), "in.txt", &lines);
        let text = format!(
            r#"
[worker]
bootstrap.servers = "embedded"
run.until = "caught-up"
{plugin_path}

[connectors.read]
connector.class = "file-source"
file = "in.txt"
read = "once"
topic = "lines"
value.converter = "string"

[connectors.write]
connector.class = "file-sink"
topics = "lines"
file = "out.txt"
value.converter = "string"
"#
        );
        config::write(folder.path(), "pipeline.toml", text);
        let run = Ottla::new(["run", "pipeline.toml"]).in_dir(folder.path()).finish(RUN).exits_with(0);
        (fs::read_to_string(folder.path().join("out.txt")).expect("the sink has written"), run)
    };
    let (built_in, _) = written("");
    assert!(built_in == lines, "the built-in connectors do not write what was read");
    let (loaded, run) = written(&format!("plugin.path = \"{}\"", library.display()));
    assert!(loaded == built_in, "the library's connectors write something else");
    run.says("is taken from the library, not from the worker");
}
