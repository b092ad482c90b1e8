//! Does somebody who has never seen the repository get to a plugin of their own? `ottla new`, the crate's own tests, the library
//! in a worker, `ottla dev`; and the examples that the guide shows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ottla_tests::worker::{Ottla, Running};
use ottla_tests::{services, temp_dir, wait};
use rustix::process::Signal;

/// A build from nothing, with other tests beside it.
const BUILD: Duration = Duration::from_secs(600);
const RUN: Duration = Duration::from_secs(60);

/// What the example of a new sink and of a new transformation reads.
const RECORDS: [&str; 5] = [
    r#"{"id":1,"name":"Ada","score":9.5}"#,
    r#"{"id":2,"name":"Brahmagupta","score":8}"#,
    r#"{"id":3,"name":"Cantor","score":7.25}"#,
    r#"{"id":4,"name":null,"score":null}"#,
    r#"{"id":5,"name":"Emmy","score":10}"#,
];

/// The root of the repository.
fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_owned()
}

/// Builds of the tests in here lie beside those of the workspace, and are kept from run to run.
fn target_dir() -> PathBuf {
    let debug = services::binary().parent().expect("a file lies in a folder").to_owned();
    debug.parent().expect("so does a folder").join("scaffold")
}

/// One build at a time: cargo would wait for its lock anyway, and the time of a test would mean nothing.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static BUILDS: Mutex<()> = Mutex::new(());
    BUILDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An empty folder of a test, always the same one: cargo keeps what it has built by path, and would keep it for ever.
fn fresh_folder(name: &str) -> PathBuf {
    let folder = target_dir().join("crates").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("the target folder is writable");
    folder
}

fn ottla<S: Into<String>>(args: impl IntoIterator<Item = S>) -> Ottla {
    Ottla::new(args).env("CARGO_TARGET_DIR", target_dir().display().to_string())
}

/// Runs cargo in a crate; shows what it said where it fails.
fn cargo(folder: &Path, args: &[&str]) {
    let output = Command::new("cargo").args(args).current_dir(folder).env("CARGO_TARGET_DIR", target_dir()).output();
    let output = output.expect("cargo starts");
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "cargo {args:?} in {}: {said}", folder.display());
}

/// The library of a crate.
fn library(name: &str) -> String {
    target_dir().join(format!("debug/lib{}.so", name.replace('-', "_"))).display().to_string()
}

/// The lines of a file, or of all files in a folder by name.
fn lines(path: &Path) -> Vec<String> {
    let read =
        |path: &Path| fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    if !path.is_dir() {
        return read(path);
    }
    let entries = fs::read_dir(path).expect("a folder can be listed").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "jsonl")).collect();
    files.sort();
    files.iter().flat_map(|file| read(file)).collect()
}

/// `ottla new`, as its messages say it should go on: tests, lints, the example in a worker, the suite over the library.
fn a_new_crate_works(kind: &str, name: &str, from_checkout: bool, written: &str, expected: &[&str]) {
    let _turn = one_at_a_time();
    let folder = fresh_folder(kind);
    let krate = folder.join(name);
    let mut new = ottla(["new", kind, name]).in_dir(&folder);
    if from_checkout {
        new = new.arg("--sdk").arg(checkout().display().to_string());
    }
    let made = new.finish(BUILD).exits_with(0);
    for words in [format!("{name} is in {name}, and it compiles ("), format!("cd {name}\n"), "ottla dev".to_owned()] {
        assert!(made.stdout.contains(&words), "{words}: {}", made.report());
    }
    cargo(&krate, &["fmt", "--check"]);
    cargo(&krate, &["clippy", "--all-targets", "--quiet", "--", "-D", "warnings"]);
    cargo(&krate, &["test", "--quiet"]);
    assert_eq!(krate.join("ottla-sdk").exists(), !from_checkout);

    let library = library(name);
    let run = ottla(["run", "example.toml"]).in_dir(&krate).until_caught_up().set("worker.plugin.path", &library);
    run.finish(RUN).exits_with(0);
    assert_eq!(lines(&krate.join("target/ottla-dev").join(written)), expected);
    // Nothing comes again.
    run.finish(RUN).exits_with(0);
    assert_eq!(lines(&krate.join("target/ottla-dev").join(written)), expected);

    let tested = ottla(["plugin", "test", &library]).in_dir(&krate).finish(BUILD);
    // Of a library no calls can be made to fail from outside; every other rule has to be tried.
    let left_out = tested.stdout.lines().filter_map(|line| line.trim_start().strip_prefix("left out"));
    let left_out: Vec<&str> = left_out.filter(|rule| !rule.trim_start().starts_with("survives faults")).collect();
    assert_eq!(left_out, [""; 0], "{}", tested.report());
    tested.exits_with(0);
}

#[test]
fn a_new_sink_works_from_the_sdk_in_the_binary() {
    a_new_crate_works("sink", "my-sink", false, "out", &RECORDS);
}

#[test]
fn a_new_source_works() {
    a_new_crate_works("source", "my-source", true, "out.jsonl", &RECORDS);
}

#[test]
fn a_new_transformation_works() {
    let shortened = RECORDS.map(|record| record.replace("Brahmagupta", "Brah").replace("Cantor", "Cant"));
    a_new_crate_works("transform", "my-transform", true, "out.jsonl", &shortened.each_ref().map(String::as_str));
}

/// The example of the guide, word for word: its option, and what the option does.
#[test]
fn the_ten_lines_of_the_guide_work() {
    let _turn = one_at_a_time();
    let krate = fresh_folder("guide").join("my-sink");
    let new = ottla(["new", "sink", "my-sink", "--sdk", &checkout().display().to_string(), "--no-build"]);
    new.in_dir(krate.parent().expect("made above")).finish(RUN).exits_with(0);
    let guide = fs::read_to_string(checkout().join("core/docs/writing-a-connector.md")).unwrap();
    let mut blocks = guide.split("```rust,ignore\n").skip(1).filter_map(|rest| rest.split("```").next());
    let (option, meaning) = (blocks.next().expect("an option"), blocks.next().expect("what it does"));
    let edit = |file: &str, edits: &[(&str, &str)]| {
        let mut text = fs::read_to_string(krate.join(file)).unwrap();
        for (before, after) in edits {
            assert_eq!(text.matches(before).count(), 1, "{before} in {file}: {text}");
            text = text.replace(before, after);
        }
        fs::write(krate.join(file), text).unwrap();
    };
    let field = "    pub file_records: usize,\n";
    edit("src/config.rs", &[(field, &format!("{field}{option}"))]);
    let import = "use ottla_api::prelude::*;\n";
    edit(
        "src/line.rs",
        &[
            ("    record.value.write_json(&json::WriteOptions::default(), lines);\n", meaning),
            ("_config", "config"),
            (import, &format!("{import}use ottla_api::record::required_field;\n")),
        ],
    );
    cargo(&krate, &["fmt", "--check"]);
    cargo(&krate, &["build", "--quiet"]);
    let run =
        ottla(["run", "example.toml"]).in_dir(&krate).until_caught_up().set("worker.plugin.path", library("my-sink"));
    run.set("connectors.out.fields", "name, id").finish(RUN).exits_with(0);
    let expected = ["\"Ada\"", "\"Brahmagupta\"", "\"Cantor\"", "null", "\"Emmy\""];
    let expected: Vec<String> =
        (1..).zip(expected).map(|(id, name)| format!("{{\"name\":{name},\"id\":{id}}}")).collect();
    assert_eq!(lines(&krate.join("target/ottla-dev/out")), expected);
}

/// A crate of one's own in the middle of a workspace of one's own: neither is in the other's way.
#[test]
fn a_new_crate_works_inside_another_workspace() {
    let _turn = one_at_a_time();
    let folder = temp_dir();
    let manifest = "[package]\nname = \"outer\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n";
    fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
    fs::create_dir(folder.path().join("src")).unwrap();
    fs::write(folder.path().join("src/lib.rs"), "").unwrap();
    let new = ottla(["new", "transform", "inner", "--path", "plugins/inner", "--no-build"]).in_dir(folder.path());
    new.finish(RUN).exits_with(0);
    cargo(&folder.path().join("plugins/inner"), &["metadata", "--format-version", "1", "--quiet"]);
    cargo(folder.path(), &["metadata", "--format-version", "1", "--quiet"]);
}

#[test]
fn what_can_not_be_made_is_refused_before_anything_is_written() {
    let folder = temp_dir();
    let refused = |args: &[&str], words: &str| {
        let new = Ottla::new(["new"].iter().chain(args).copied()).in_dir(folder.path());
        new.finish(RUN).exits_with(2).says(words);
    };
    refused(&["sink", "My_Sink"], "beginning with a letter, such as 'my-sink'");
    refused(&["sink", "s3-sink"], "means a plugin that is built in, the sink s3-sink: take 'my-s3-sink', say");
    refused(&["sink", "x", "--sdk", "."], "--sdk: . has no core/api: it is no checkout of Ottla");
    refused(&["sink"], "it needs a name: ottla new sink my-sink");
    refused(&["sdk"], "`ottla new sdk` renews the SDK of a crate that `ottla new` has made");
    refused(&["sdk", "my-sink"], "ottla new sdk: takes nothing but --path");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    fs::create_dir(folder.path().join("there")).unwrap();
    refused(&["sink", "there"], "there is there already: give another name, or another folder with --path");
    // Without cargo nothing can be proven.
    let without = Ottla::new(["new", "sink", "fine"]).in_dir(folder.path()).env("PATH", "/nowhere");
    without.finish(RUN).exits_with(2).says("cargo is missing: install Rust (https://rustup.rs)");
    Ottla::new(["dev"]).in_dir(folder.path()).finish(RUN).exits_with(2).says("Cargo.toml is not there");
}

/// The loop of an author: it runs; a change is built and takes over where the old one stopped; a mistake leaves that one
/// running; Ctrl-C ends it all.
#[test]
fn dev_runs_what_is_built_and_goes_on_with_it_while_a_build_fails() {
    let _turn = one_at_a_time();
    let folder = fresh_folder("dev");
    let krate = folder.join("my-sink");
    let new = ottla(["new", "sink", "my-sink", "--sdk", &checkout().display().to_string(), "--no-build"]);
    new.in_dir(&folder).finish(RUN).exits_with(0);
    let (source, input, out) =
        (krate.join("src/line.rs"), krate.join("example/records.jsonl"), krate.join("target/ottla-dev/out"));
    let mut dev: Running = ottla(["dev"]).in_dir(&krate).start();
    let mut expected: Vec<String> = RECORDS.map(str::to_owned).to_vec();
    let mut wait_for = |dev: &mut Running, more: &[&str], what: &str| {
        expected.extend(more.iter().map(|line| (*line).to_owned()));
        dev.wait_until(what, BUILD, |_| {
            let found = lines(&out);
            if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
        });
    };
    let said = |dev: &mut Running, words: &str, times: usize| {
        dev.wait_until(words, BUILD, |dev| {
            let found = dev.stderr().matches(words).count();
            if found >= times { Ok(()) } else { Err(format!("{found} times")) }
        });
    };
    let append = |line: &str| {
        let text = fs::read_to_string(&input).unwrap();
        fs::write(&input, format!("{text}{line}\n")).unwrap();
    };
    wait_for(&mut dev, &[], "the records of the example");

    let good = fs::read_to_string(&source).unwrap();
    assert!(good.contains("lines.push(b'\\n');"), "{good}");
    fs::write(&source, good.replace("lines.push(b'\\n');", "lines.extend_from_slice(b\" changed\\n\");")).unwrap();
    said(&mut dev, "ottla dev: built in", 2);
    append("{\"id\":6}");
    wait_for(&mut dev, &["{\"id\":6} changed"], "a record as the changed sink writes it");

    fs::write(&source, good.replace("lines.push", "lines.pusch")).unwrap();
    said(&mut dev, "the build failed; the worker goes on with the last one that did not", 1);
    assert!(dev.stderr().contains("no method named `pusch`"), "cargo's own words are shown: {}", dev.report());
    append("{\"id\":7}");
    wait_for(&mut dev, &["{\"id\":7} changed"], "a record by the sink that was built before");

    dev.signal(Signal::INT);
    let ended = dev.wait(wait::SOON).exits_with(0);
    assert!(
        ended.stdout.contains("data lies in file:target/ottla-dev/out"),
        "the worker was stopped in order, and reports: {}",
        ended.report()
    );
    // Nobody holds the state folder any more.
    let topics = Ottla::new(["topics", "--state-dir", "target/ottla-dev/state", "read", "records"]).in_dir(&krate);
    assert_eq!(topics.finish(RUN).exits_with(0).stdout.lines().count(), 7);
}

/// Whoever sees at once that it was the wrong thing to build doesn't wait for it; cargo ends, and whatever it has started.
#[test]
fn dev_can_be_stopped_in_the_middle_of_a_build() {
    let _turn = one_at_a_time();
    let krate = fresh_folder("stopped").join("slow");
    let new = ottla(["new", "transform", "slow", "--sdk", &checkout().display().to_string(), "--no-build"]);
    new.in_dir(krate.parent().expect("made above")).finish(RUN).exits_with(0);
    // A build script that tells that it runs, and would run for a long time.
    let script = "//! Takes its time.\nfn main() {\n    std::fs::write(\"building\", \"\").unwrap();\n    \
                  std::thread::sleep(std::time::Duration::from_secs(600));\n}\n";
    fs::write(krate.join("build.rs"), script).unwrap();
    let mut dev = ottla(["dev"]).in_dir(&krate).start();
    dev.wait_until("the build script", BUILD, |_| {
        if krate.join("building").exists() { Ok(()) } else { Err("it has not begun".to_owned()) }
    });
    dev.signal(Signal::TERM);
    dev.wait(wait::SOON).exits_with(0);
}

/// Builds one of the examples as its first lines say, and has the suites look at its library, which it gives.
fn example(name: &str) -> String {
    cargo(&checkout(), &["build", "--quiet", "-p", name]);
    let library = library(name);
    let home = checkout().join("examples").join(name);
    ottla(["plugin", "test", &library]).in_dir(home).finish(BUILD).exits_with(0);
    library
}

#[test]
fn the_first_source_counts() {
    let _turn = one_at_a_time();
    let (folder, library) = (temp_dir(), example("first-source"));
    let file = checkout().join("examples/first-source/example.toml");
    let run = |last: i64| {
        let run = Ottla::run([&file]).in_dir(folder.path()).until_caught_up().set("worker.plugin.path", &library);
        run.set("connectors.count.interval.ms", 1).set("connectors.count.last", last).finish(RUN).exits_with(0);
        lines(&folder.path().join("ottla-first-source.txt"))
    };
    let numbers = |last: i64| (1..=last).map(|number| number.to_string()).collect::<Vec<_>>();
    assert_eq!(run(10), numbers(10));
    // It goes on where it stopped.
    assert_eq!(run(25), numbers(25));
}

#[test]
fn the_first_sink_writes() {
    let _turn = one_at_a_time();
    let (folder, library) = (temp_dir(), example("first-sink"));
    let file = checkout().join("examples/first-sink/example.toml");
    let input = checkout().join("examples/first-sink/lines.txt");
    let run = Ottla::run([&file]).in_dir(folder.path()).until_caught_up().set("worker.plugin.path", &library);
    run.set("connectors.in.file", input.display()).finish(RUN).exits_with(0);
    assert_eq!(lines(&folder.path().join("ottla-first-sink.jsonl")), [r#""one""#, r#""two""#, r#""three""#]);
}

#[test]
fn the_first_transformation_changes_records() {
    let _turn = one_at_a_time();
    let (folder, library) = (temp_dir(), example("first-transform"));
    let file = checkout().join("examples/first-transform/example.toml");
    let input = checkout().join("examples/first-transform/names.jsonl");
    let run = Ottla::run([&file]).in_dir(folder.path()).until_caught_up().set("worker.plugin.path", &library);
    run.set("connectors.in.file", input.display()).finish(RUN).exits_with(0);
    let expected = [r#"{"name":"ADA","year":1843}"#, r#"{"name":"GRACE","year":1952}"#];
    assert_eq!(lines(&folder.path().join("ottla-first-transform.txt")), expected);
    // And as the first lines of the example say.
    let tried = Ottla::new(["transform", "try"]).arg(file.display().to_string()).arg("--topic").arg("names");
    let tried = tried.arg("--file").arg(input.display().to_string()).set("worker.plugin.path", &library);
    let tried = tried.in_dir(folder.path()).finish(RUN).exits_with(0);
    assert!(expected.iter().all(|record| tried.stdout.contains(record)), "{}", tried.report());
}

#[test]
fn a_worker_inside_another_program_runs() {
    let program = services::binary().with_file_name("embedded-worker");
    assert!(program.is_file(), "{} is not there: build the workspace first", program.display());
    let folder = temp_dir();
    let examples = checkout().join("examples/embedded-worker");
    fs::create_dir_all(folder.path().join("examples/embedded-worker")).unwrap();
    let input = "examples/embedded-worker/lines.txt";
    fs::copy(examples.join("lines.txt"), folder.path().join(input)).unwrap();
    // The second time everything is committed already, and is counted anew all the same.
    for _ in 0..2 {
        let output =
            Command::new(&program).arg(examples.join("worker.toml")).current_dir(folder.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let counted = String::from_utf8(output.stdout).unwrap();
        assert_eq!(counted, "3 a\n1 have\n1 inside\n1 is\n1 library\n1 may\n1 one\n1 program\n1 worker\n");
    }
}
