//! `ottla plugin test`: the conformance suites over plugins by name, and what they say where a promise is broken.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ottla_tests::worker::{Finished, Ottla};
use ottla_tests::{config, services, temp_dir};

const RUN: Duration = Duration::from_secs(240);

/// What the rules need to know, for every plugin that is built in.
const SETUP: &str = include_str!("plugin_test.toml");

const LINES: &str = "\"one\"\n\"\"\n\"«é😀»\"\n\"last\"\n";

/// Those that have no section: their system is a service, or a folder that only `ottla query` reads, and their own crates run
/// the same suites over the embedded one; or the environment.
const ELSEWHERE: [&str; 4] = ["delta-sink", "env", "kinesis-sink", "kinesis-source"];

fn test(folder: &Path, args: &[&str]) -> Finished {
    let args = ["plugin", "test"].iter().chain(args).copied().collect::<Vec<_>>();
    Ottla::new(args).in_dir(folder).finish(RUN)
}

#[test]
fn every_built_in_plugin_keeps_its_promises() {
    let folder = temp_dir();
    config::write(folder.path(), "conformance.toml", SETUP);
    config::write(folder.path(), "lines.jsonl", LINES);
    let plugins = Ottla::new(["plugins", "--json"]).finish(RUN).exits_with(0).stdout;
    let plugins: Vec<serde_json::Value> = serde_json::from_str(&plugins).unwrap();
    let names: Vec<&str> = plugins.iter().filter_map(|plugin| plugin["name"].as_str()).collect();
    let names: Vec<&str> = names.into_iter().filter(|name| !ELSEWHERE.contains(name)).collect();
    let tested = test(folder.path(), &names);
    let mut failed = tested.stdout.lines().skip_while(|line| !line.starts_with("  FAILED")).take(4).peekable();
    assert!(failed.peek().is_none(), "{}", failed.collect::<Vec<_>>().join("\n"));
    let out = tested.exits_with(0).stdout;
    // What a fault needs is code in the same process, a source that ends is never idle, and the rows of the emulator are compared
    // with themselves; nothing else is left out.
    let ordinary = |line: &&str| {
        ["survives faults: ", "an idle source says so: ", "yields the records of the file: "]
            .iter()
            .any(|rule| line.contains(rule))
    };
    let left_out = out.lines().filter(|line| line.starts_with("  left out"));
    assert_eq!(left_out.filter(|line| !ordinary(line)).collect::<Vec<_>>(), Vec::<&str>::new(), "{out}");
    let killed = out.lines().filter(|line| line.starts_with("  ok") && line.contains(" kill: "));
    assert_eq!(killed.filter(|line| line.contains(" SIGKILL")).count(), 4, "{out}");
}

#[test]
fn a_broken_promise_is_named_and_the_rest_goes_on() {
    let folder = temp_dir();
    // Who reads the destination so loses a record of each.
    let setup = "[file-sink]\noptions = { file = \"{dir}/out.jsonl\" }\nread = \"sed 1d {dir}/out.jsonl\"\n\
                 kill.records = 300\n\
                 [file-source]\nprepare = \"seq 9 > {dir}/n\"\noptions = { file = \"{dir}/n\", topic = \"n\", read = \"once\" }\n\
                 expect = \"other.jsonl\"\n";
    config::write(folder.path(), "conformance.toml", setup);
    config::write(folder.path(), "other.jsonl", "\"1\"\n\"3\"\n");
    let out =
        test(folder.path(), &["file-sink", "file-source", "--rule", "durable", "--rule", "kill", "--rule", "file"]);
    let out = out.exits_with(1).stdout;
    let said = [
        "flush means durable: what a flush reports is in the destination, also if the task dies right then (G2)\n",
        ", but offset 0 is not in the destination\n",
        "the destination does not hold exactly the records of conformance-0: offset 0 is missing, 1 comes in its place\n",
        "offset 0 of partition 0 is missing: 1 comes in its place, in a run that nothing disturbed\n",
        "came topic \"n\", key null, value \"2\"\n",
        "where the file has       value \"3\"\n",
    ];
    for words in said {
        assert!(out.contains(words), "{words:?} in {out}");
    }
}

#[test]
fn what_was_not_given_is_left_out_with_what_to_write() {
    let folder = temp_dir();
    let out = test(folder.path(), &["file-sink", "--rule", "durable", "--rule", "kill", "--rule", "documented"]);
    let out = out.exits_with(0).stdout;
    let why = "write [file-sink] in conformance.toml with options = { .. } and read = \"cat {dir}/*.jsonl\", a command that \
               prints the value of each record a line";
    let line = format!("  left out           flush means durable, a kill loses nothing, kill: {why}\n");
    assert!(out.contains(&line), "{out}");
    assert!(out.contains("\n1 plugin: 2 rules ok, 0 failed, 3 left out, in "), "{out}");

    // For a machine.
    let json = test(folder.path(), &["replace-field", "--rule", "documented", "--json"]).exits_with(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["ok"], &json["failed"], &json["left_out"]), (&2.into(), &0.into(), &0.into()));
    assert_eq!((&json["rules"][0]["rule"], &json["rules"][0]["outcome"]), (&"is_documented".into(), &"ok".into()));
}

#[test]
fn what_cannot_be_tested_is_said_at_once() {
    let folder = temp_dir();
    test(folder.path(), &["file-sinc"]).exits_with(2).says("did you mean 'file-sink'?");
    test(folder.path(), &["./libnothing.so"]).exits_with(2).says("libnothing.so");
    test(folder.path(), &["file-sink", "--rule", "no such rule"]).exits_with(2).says("no rule");
    config::write(folder.path(), "conformance.toml", "[file-sink]\nreed = 1\nexpect = \"x\"\n[file-sinc]\n");
    let said = test(folder.path(), &["file-sink"]).exits_with(2).stderr;
    assert!(said.contains("conformance.toml: file-sink.reed: unknown key; there are name, options, "), "{said}");
    config::write(folder.path(), "conformance.toml", "[file-sink]\nexpect = \"x\"\n[file-sinc]\n");
    let said = test(folder.path(), &["file-sink"]).exits_with(2).stderr;
    assert!(said.contains("file-sink.expect: a sink has no use for this\n"), "{said}");
    assert!(said.contains("[file-sinc]: no plugin is called 'file-sinc'; did you mean 'file-sink'?\n"), "{said}");
}

/// `examples/first-sink` writes at least once, and says so. Held to more than that, it is found out: the library is tested as a
/// built-in plugin is, and what a kill leaves behind is compared whole.
#[test]
fn a_library_that_promises_more_than_it_keeps_is_found_by_a_kill() {
    let debug = services::binary().parent().expect("a file lies in a folder").to_owned();
    // Where the other tests build libraries.
    let target = debug.parent().expect("so does a folder").join("scaffold");
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository");
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "-p", "first-sink"]).current_dir(repository).env("CARGO_TARGET_DIR", &target);
    let built = cargo.output().expect("cargo starts");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let library = target.join("debug/libfirst_sink.so").display().to_string();

    let folder = temp_dir();
    let setup = |guarantee: &str| {
        let options =
            "options = { file = \"{dir}/out.jsonl\" }\nread.files = \"{dir}/out.jsonl\"\nkill.records = 60000";
        let text = format!("[first-sink]\n{options}\nguarantee = \"{guarantee}\"\n");
        config::write(folder.path(), "setup.toml", text);
    };
    let args = [library.as_str(), "--config", "setup.toml", "--rule", "kill", "--kills", "10"];
    setup("at-least-once");
    let kept = test(folder.path(), &args).exits_with(0).stdout;
    assert!(kept.contains("  kill: ") && kept.contains(" SIGKILL"), "{kept}");
    setup("exactly-once");
    let broken = test(folder.path(), &args).exits_with(1).stdout;
    let words = " is in the destination twice, ";
    assert!(broken.lines().any(|line| line.contains(words) && line.contains(" SIGKILLs, ")), "{broken}");
    // In the same process too: a task whose thread ends.
    assert!(broken.contains("offset 0 is there again, where "), "{broken}");
}
