//! Plugins that are not for this worker, that panic, that hang, that break the contract: the worker lives, says what happened,
//! and its other connectors run on.
//!
//! What is loaded lies in `tests/plugins`: a library in Rust, with a lock file of its own and built by another compiler where one is
//! installed, and one in C.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ottla_tests::worker::{Finished, LogLine, Ottla, Running, http_get};
use ottla_tests::{config, free_port, services, temp_dir, wait};
use rustix::process::Signal;
use serde_json::Value;

const RUN: Duration = Duration::from_secs(60);
/// `plugin.call.timeout.ms` of these workers: what hangs is to be found soon, and what works must not be mistaken for it.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);
/// A stop may take `task.shutdown.graceful.timeout.ms` (5 s), and the end of the process a moment more.
const STOP: Duration = Duration::from_secs(9);

/// A folder of the repository, by its path from the top.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").join(path)
}

/// What a command says of itself; nothing where it is not there.
fn said(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).env_remove("RUSTUP_TOOLCHAIN").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs a build; shows what it said where it fails.
fn build(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The libraries of `tests/plugins/zoo`: the zoo, and one that aborts where it should unwind.
fn zoo() -> &'static (PathBuf, PathBuf) {
    static ZOO: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    ZOO.get_or_init(|| {
        let ours = said("rustc", &["--version"]);
        let installed = said("rustup", &["toolchain", "list"]).unwrap_or_default();
        let toolchains = installed.lines().filter_map(|line| line.split_whitespace().next());
        let is_other = |name: &&str| {
            let theirs = said("rustup", &["run", name, "rustc", "--version"]);
            // An older one may not know the language of the crates.
            theirs.is_some() && theirs > ours && theirs != ours
        };
        let other = toolchains.filter(is_other).max();
        match other {
            Some(toolchain) => println!("the zoo is built by {toolchain}, the worker by {ours:?}"),
            None => println!("the zoo is built by the worker's own compiler: no newer one is installed"),
        }
        // Beside the builds of the workspace, and kept from run to run.
        let debug = services::binary().parent().expect("a file lies in a folder").to_owned();
        let target = debug.parent().expect("so does a folder").join("zoo");
        let cargo = |args: &[&str]| {
            let mut command = match other {
                Some(toolchain) => {
                    let mut rustup = Command::new("rustup");
                    rustup.args(["run", toolchain, "cargo"]);
                    rustup
                }
                None => Command::new("cargo"),
            };
            command.args(args).current_dir(repository("tests/plugins/zoo")).env("CARGO_TARGET_DIR", &target);
            for variable in ["RUSTUP_TOOLCHAIN", "RUSTC", "CARGO", "RUSTFLAGS"] {
                command.env_remove(variable);
            }
            build(&mut command);
        };
        cargo(&["build", "--locked", "--quiet"]);
        cargo(&["rustc", "--locked", "--quiet", "--example", "aborts", "--", "-C", "panic=abort"]);
        (target.join("debug/libzoo.so"), target.join("debug/examples/libaborts.so"))
    })
}

/// Compiles the sinks in C, with these words defined.
fn c_library(folder: &Path, name: &str, defined: &[&str]) -> PathBuf {
    let library = folder.join(name);
    let verbose = said("rustc", &["-vV"]).expect("rustc is there");
    let target = verbose.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc says its host").to_owned();
    let mut compiler = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".to_owned()));
    compiler.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-D_GNU_SOURCE"]);
    compiler.args(defined.iter().map(|word| format!("-D{word}"))).arg(format!("-DTARGET=\"{target}\""));
    compiler.arg("-I").arg(repository("core/plugin-abi")).arg("-o").arg(&library);
    build(compiler.arg(repository("tests/plugins/c/plugin.c")).arg("-lpthread"));
    library
}

/// A library with some of its bytes changed.
fn changed(library: &Path, folder: &Path, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = fs::read(library).expect("the library is there");
    change(&mut bytes);
    let path = folder.join(name);
    fs::write(&path, bytes).expect("the folder is writable");
    path
}

/// Where a text stands in bytes.
fn find(bytes: &[u8], text: &str) -> usize {
    bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap_or_else(|| panic!("no {text}"))
}

fn quoted_list(paths: &[PathBuf]) -> String {
    format!("\"{}\"", paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(","))
}

/// The worker's table, for libraries.
fn worker(folder: &Path, libraries: &[PathBuf]) -> String {
    config::worker("embedded", &folder.join("state"))
        + &format!("plugin.path = {}\nplugin.call.timeout.ms = {}\n", quoted_list(libraries), CALL_TIMEOUT.as_millis())
}

/// The neighbours: lines of a file, through a topic, into a file.
fn neighbours(folder: &Path) -> String {
    format!(
        "
[connectors.in]
connector.class = \"file-source\"
file = \"{in}\"
topic = \"lines\"
value.converter = \"string\"

[connectors.good]
connector.class = \"file-sink\"
topics = \"lines\"
file = \"{out}\"
value.converter = \"string\"
",
        in = folder.join("in.txt").display(),
        out = folder.join("out.txt").display(),
    )
}

/// So many lines, each valid JSON as well.
fn lines(count: usize) -> String {
    (1..=count).fold(String::new(), |mut text, number| {
        writeln!(text, "{{\"number\":{number},\"text\":\"word {number}\"}}").expect("a string can be written to");
        text
    })
}

#[test]
fn a_library_that_does_not_fit_is_refused_with_the_reason_and_the_way_out() {
    let folder = temp_dir();
    let folder = folder.path();
    let (zoo, aborts) = zoo();
    let good = c_library(folder, "good.so", &[]);
    let bytes = fs::read(&good).expect("it was just made");
    let note = find(&bytes, "OTTLAPLG");
    let cases = [
        (changed(&good, folder, "empty.so", |bytes| bytes.clear()), "is not a whole shared library"),
        (changed(&good, folder, "cut-10.so", |bytes| bytes.truncate(10)), "is not a whole shared library"),
        (changed(&good, folder, "cut-64.so", |bytes| bytes.truncate(64)), "is not a whole shared library"),
        (
            changed(&good, folder, "cut-half.so", |bytes| bytes.truncate(bytes.len() / 2)),
            "is not a whole shared library",
        ),
        (changed(&good, folder, "cut-1.so", |bytes| bytes.truncate(bytes.len() - 1)), "is not a whole shared library"),
        (changed(zoo, folder, "cut-zoo.so", |bytes| bytes.truncate(bytes.len() / 3)), "is not a whole shared library"),
        (
            changed(&good, folder, "text.so", |bytes| *bytes = b"not a library\n".to_vec()),
            "is not a whole shared library",
        ),
        (changed(&good, folder, "magic.so", |bytes| bytes[note] = b'X'), "it does not begin as a note does"),
        (changed(&good, folder, "note.so", |bytes| bytes[note + 11] = 0x7f), "it is cut off"),
        (
            changed(&good, folder, "major.so", |bytes| bytes[note + 12] = 2),
            "built for plugin ABI 2, this worker has 1: rebuild it with ottla-api 0.1.0, or take a newer worker",
        ),
        (
            changed(&good, folder, "minor.so", |bytes| bytes[note + 14] = 9),
            "built for plugin ABI 1.9 (ottla-api none), this worker has 1.0: take a newer worker, or rebuild it with ottla-api",
        ),
        (changed(&good, folder, "sizes.so", |bytes| bytes[note + 16] += 8), "its structures have other sizes"),
        (changed(&good, folder, "flag.so", |bytes| bytes[note + 32] = 0), "built with panic = \"abort\""),
        (aborts.clone(), "a panic in it would end the whole worker; take that line out of the profile"),
        (changed(&good, folder, "target.so", |bytes| bytes[note + 37] = b'z'), "this worker runs on"),
        (
            changed(&good, folder, "symbol.so", |bytes| {
                while let Some(at) = bytes.windows(20).position(|window| window == b"OTTLA_PLUGIN_LIBRARY") {
                    bytes[at] = b'X';
                }
            }),
            "is damaged: it does not export OTTLA_PLUGIN_LIBRARY",
        ),
        (
            PathBuf::from(said("cc", &["-print-file-name=libc.so.6"]).expect("a C compiler is there")),
            "is not a library of Ottla plugins: it has no section .ottla.plugin",
        ),
        (folder.join("missing.so"), "there is no such file or folder"),
        (c_library(folder, "init.so", &["HANGS_IN_INIT"]), "has not answered init for 1s (plugin.call.timeout.ms)"),
        (
            c_library(folder, "test.so", &["HANGS_AT_THE_TEST"]),
            "has not answered the test at loading for 1s (plugin.call.timeout.ms)",
        ),
        (c_library(folder, "echo.so", &["FAILS_THE_TEST"]), "it does not pass the test at its loading"),
        (
            {
                let open = changed(&good, folder, "open.so", |_| ());
                fs::set_permissions(&open, fs::Permissions::from_mode(0o666)).expect("it is ours");
                open
            },
            "everybody may write to",
        ),
    ];
    let mut paths: Vec<PathBuf> = cases.iter().map(|(path, _)| path.clone()).collect();
    paths.insert(0, good);
    let text = worker(folder, &paths) + &neighbours(folder);
    let file = config::write(folder, "refused.toml", &text);
    let reasons = |finished: &Finished| {
        for (path, reason) in &cases {
            let refused = |line: &str| line.contains(&format!("{}: ", path.display())) && line.contains(reason);
            let unescaped = finished.stderr.replace("\\\"", "\"");
            assert!(
                unescaped.lines().any(refused),
                "nothing says that {} {reason}:\n{}",
                path.display(),
                finished.stderr
            );
        }
    };

    let validated = Ottla::new(["validate", &file.display().to_string()]).finish(RUN).exits_with(0);
    println!("{}", validated.report());
    reasons(&validated);

    // The one good library, and the neighbours, are there.
    fs::write(folder.join("in.txt"), lines(100)).expect("the folder is writable");
    let sink = format!(
        "\n[connectors.c]\nconnector.class = \"c-sink\"\ntopics = \"lines\"\nfile = \"{}\"\n",
        folder.join("c.txt").display()
    );
    let file = config::write(folder, "refused.toml", text.clone() + &sink);
    let run = Ottla::run([&file]).until_caught_up().arg("--log-format").arg("json").finish(RUN).exits_with(0);
    reasons(&run);
    assert_eq!(fs::read_to_string(folder.join("out.txt")).expect("the sink wrote"), lines(100));
    assert_eq!(fs::read_to_string(folder.join("c.txt")).expect("the sink in C wrote"), lines(100));

    // Who needs a plugin of a refused one is told both.
    let file = config::write(folder, "refused.toml", text + &sink.replace("c-sink", "aborts-sink"));
    let needed = Ottla::run([&file]).finish(RUN).exits_with(2).says("no connector is called 'aborts-sink'");
    reasons(&needed);
}

/// Its thread holds a lock of the C library's that every thread needs: whoever went on would stand still at some later moment.
#[test]
fn a_library_that_hangs_at_its_loading_ends_the_worker_before_anything_runs() {
    let folder = temp_dir();
    let folder = folder.path();
    let hangs = c_library(folder, "constructor.so", &["HANGS_AT_LOADING"]);
    let file =
        config::write(folder, "loading.toml", worker(folder, std::slice::from_ref(&hangs)) + &neighbours(folder));
    // More than once: there are many moments at which somebody could need the lock.
    for command in ["validate", "run", "run", "run", "run"] {
        let ended = Ottla::new([command, &file.display().to_string()]).finish(RUN).exits_with(2);
        ended
            .says(&format!("{}: loading it has not ended after 1s (plugin.call.timeout.ms)", hangs.display()))
            .says("repair the library, or take it out of plugin.path");
    }
    assert!(!folder.join("state").exists(), "nothing has begun");
}

#[test]
fn a_library_that_is_not_listed_is_refused_by_its_digest() {
    let folder = temp_dir();
    let folder = folder.path();
    let listed = c_library(folder, "listed.so", &[]);
    let other = changed(&listed, folder, "other.so", |bytes| bytes.push(0));
    let digest = |path: &Path| {
        let printed = said("sha256sum", &[&path.display().to_string()]).expect("sha256sum is there");
        printed.split(' ').next().expect("a digest").to_owned()
    };
    let text = worker(folder, &[listed.clone(), other.clone()])
        + &format!("plugin.sha256 = \"{}\"\n", digest(&listed))
        + &neighbours(folder)
        + "[connectors.c]\nconnector.class = \"c-sink\"\ntopics = \"lines\"\nfile = \"c.txt\"\n";
    let file = config::write(folder, "digest.toml", text);
    let validated = Ottla::new(["validate", &file.display().to_string()]).finish(RUN).exits_with(0);
    let refused = format!(
        "{}: its SHA-256 digest is {}, which plugin.sha256 does not list; if this is the file that you mean, add it there",
        other.display(),
        digest(&other)
    );
    assert!(!validated.stderr.contains(&format!("{}: its", listed.display())), "{}", validated.report());
    validated.says(&refused);
}

/// A connector that is to fail, or to say something.
struct Bad {
    name: String,
    toml: String,
    /// What its task's state is to be while the worker runs.
    state: String,
    /// Level and a part of a line that is in the log at the end.
    log: Option<(&'static str, String)>,
}

impl Bad {
    fn new(name: impl Into<String>, toml: impl Into<String>) -> Self {
        Self { name: name.into(), toml: toml.into(), state: "running".to_owned(), log: None }
    }

    /// It fails with these words.
    fn fails(mut self, words: impl std::fmt::Display) -> Self {
        self.state = format!("failed: {words}");
        self
    }

    fn says(mut self, level: &'static str, words: impl Into<String>) -> Self {
        self.log = Some((level, words.into()));
        self
    }
}

/// A sink of the zoo's in trouble.
fn sink(trouble: &str, at: &str) -> Bad {
    let name = format!("sink-{at}");
    Bad::new(&name, format!("connector.class = \"{trouble}-sink\"\ntopics = \"lines\"\nat = \"{at}\"\n"))
}

/// A source of the zoo's in trouble.
fn source(trouble: &str, at: &str) -> Bad {
    let name = format!("source-{at}");
    Bad::new(&name, format!("connector.class = \"{trouble}-source\"\ntopic = \"of-{at}\"\nat = \"{at}\"\n"))
}

/// Appends a connector's table.
fn write_connector(text: &mut String, name: &str, toml: &str, folder: &Path) {
    let toml = toml.replace("FOLDER", &folder.display().to_string());
    write!(text, "\n[connectors.{name}]\n{toml}").expect("a string can be written to");
}

/// Waits until the file holds what the neighbour should have written.
fn wait_for_neighbour(running: &mut Running, folder: &Path, count: usize) {
    running.wait_until("the neighbour's lines", RUN, |_| {
        let written = fs::read_to_string(folder.join("out.txt")).unwrap_or_default();
        if written == lines(count) { Ok(()) } else { Err(format!("{} lines", written.lines().count())) }
    });
}

/// Runs a worker with these beside their good neighbours: all come into the state that they should, the neighbours go on after that,
/// the worker stops in time, and the log says what it should.
fn the_worker_lives(libraries: &[PathBuf], settings: &str, bad: &[Bad]) -> Finished {
    let folder = temp_dir();
    let folder = folder.path();
    let listener = format!("127.0.0.1:{}", free_port());
    // Each fails once: its next start would be much later.
    let mut text = worker(folder, libraries).replace("task.restart.backoff", "# task.restart.backoff")
        + &format!("metrics.listener = \"{listener}\"\ntask.restart.backoff.ms = 600000\n{settings}")
        + &neighbours(folder);
    for Bad { name, toml, .. } in bad {
        write_connector(&mut text, name, toml, folder);
    }
    fs::write(folder.join("in.txt"), lines(300)).expect("the folder is writable");
    let file = config::write(folder, "hostile.toml", text);
    let mut running = Ottla::run([file]).arg("--log-format").arg("json").start();

    let expected: Vec<(String, String)> = [("in", "running"), ("good", "running")]
        .map(|(name, state)| (name.to_owned(), state.to_owned()))
        .into_iter()
        .chain(bad.iter().map(|bad| (bad.name.clone(), bad.state.clone())))
        .collect();
    running.wait_until("all states", RUN, |_| {
        let (_, health) = http_get(&listener, "/health")?;
        let health: Value = serde_json::from_str(&health).map_err(|error| error.to_string())?;
        let state =
            |name: &String| health["connectors"][name]["tasks"][0]["detail"].as_str().unwrap_or("unknown").to_owned();
        let others: Vec<String> = expected
            .iter()
            .filter(|(name, expected)| state(name) != *expected)
            .map(|(name, expected)| format!("{name}: {}, not {expected}", state(name)))
            .collect();
        if others.is_empty() { Ok(()) } else { Err(others.join("\n")) }
    });
    wait_for_neighbour(&mut running, folder, 300);
    // After all of that, too.
    let more = &lines(500)[lines(300).len()..];
    let opened = File::options().append(true).open(folder.join("in.txt"));
    opened.and_then(|mut file| file.write_all(more.as_bytes())).expect("the file is writable");
    wait_for_neighbour(&mut running, folder, 500);

    let stopping = Instant::now();
    running.signal(Signal::TERM);
    let finished = running.wait(wait::SOON);
    assert!(stopping.elapsed() < STOP, "the stop took {:?}; {}", stopping.elapsed(), finished.report());
    assert_eq!(fs::read_to_string(folder.join("out.txt")).expect("the sink wrote"), lines(500));
    let log = finished.log();
    for Bad { name, log: expected, .. } in bad {
        let Some((level, words)) = expected else { continue };
        let is_it = |line: &LogLine| line.level() == *level && line.0.to_string().contains(words.as_str());
        assert!(log.iter().any(is_it), "{name}: no {level} with '{words}'; {}", finished.report());
    }
    println!("{} connectors, {:?} with the stop", bad.len(), finished.took);
    finished
}

#[test]
fn the_worker_lives_with_plugins_that_panic_in_every_method() {
    let panics = |method: &str| format!("the library 'zoo' panicked in {method}: the zoo panics in {method}");
    let during = |method: &str| format!("{method}: {}", panics(method));
    let mut bad: Vec<Bad> =
        ["start", "open", "put", "flush"].map(|method| sink("panics", method).fails(during(method))).into();
    bad.extend(["task", "tick"].map(|method| sink("panics", method).fails(panics(method))));
    bad.extend(["close", "stop"].map(|method| sink("panics", method).says("WARN", panics(method))));
    bad.push(sink("panics", "destination").says("WARN", panics("destination")));
    bad.push(sink("panics", "drop").says("ERROR", "the zoo panics in drop library=\\\"zoo\\\""));
    bad.extend(["start", "poll", "commit"].map(|method| source("panics", method).fails(during(method))));
    bad.push(source("panics", "tasks").fails(panics("tasks")));
    bad.push(source("panics", "stop").says("WARN", panics("stop")));
    bad.push(source("panics", "drop").says("ERROR", "the zoo panics in drop library=\\\"zoo\\\""));
    let finished = the_worker_lives(&[zoo().0.clone()], "", &bad).exits_with(1);
    // The panic's own line says where it was, and in whose task.
    let of_put = finished.log().into_iter().find(|line| line.message().starts_with("the zoo panics in put "));
    let of_put = of_put.expect("the panic was logged");
    assert_eq!((of_put.field("task"), of_put.level()), ("sink-put-0", "ERROR"), "{}", of_put.0);
    assert!(of_put.message().contains("src/trouble.rs:"), "{}", of_put.0);
}

fn hangs(library: &str, method: &str) -> String {
    format!(
        "the library '{library}' has not answered {method} for {CALL_TIMEOUT:?} (plugin.call.timeout.ms): it hangs, or needs longer than that"
    )
}

#[test]
fn the_worker_lives_with_sinks_that_block_in_every_method() {
    let hangs = |method: &str| hangs("zoo", method);
    let during = |method: &str| format!("{method}: {}", hangs(method));
    let mut bad: Vec<Bad> =
        ["start", "open", "put", "flush"].map(|method| sink("blocks", method).fails(during(method))).into();
    bad.extend(["task", "tick"].map(|method| sink("blocks", method).fails(hangs(method))));
    bad.extend(["close", "stop"].map(|method| sink("blocks", method).says("WARN", hangs(method))));
    bad.push(sink("blocks", "destination").says("WARN", hangs("destination")));
    bad.push(sink("blocks", "drop").says("WARN", "the library 'zoo' has not ended release for 1s: it hangs"));
    // Each holds a thread of the library for ever.
    the_worker_lives(&[zoo().0.clone()], "plugin.threads = 32\n", &bad).exits_with(1);
}

#[test]
fn the_worker_lives_with_sources_that_block_in_every_method() {
    let hangs = |method: &str| hangs("zoo", method);
    let during = |method: &str| format!("{method}: {}", hangs(method));
    let mut bad: Vec<Bad> = ["start", "commit"].map(|method| source("blocks", method).fails(during(method))).into();
    bad.push(source("blocks", "tasks").fails(hangs("tasks")));
    // A source may have nothing to say for as long as it likes; that it hangs shows at the stop.
    bad.extend(["poll", "stop"].map(|method| source("blocks", method).says("WARN", hangs(method))));
    bad.push(source("blocks", "drop").says("WARN", "the library 'zoo' has not ended release for 1s: it hangs"));
    the_worker_lives(&[zoo().0.clone()], "plugin.threads = 32\n", &bad).exits_with(1);
}

#[test]
fn the_worker_lives_with_tasks_that_never_end_a_method() {
    let hangs = |method: &str| hangs("zoo", method);
    let during = |method: &str| format!("{method}: {}", hangs(method));
    let mut bad: Vec<Bad> =
        ["start", "open", "put", "flush"].map(|method| sink("pends", method).fails(during(method))).into();
    bad.push(sink("pends", "tick").fails(hangs("tick")));
    bad.extend(["close", "stop"].map(|method| sink("pends", method).says("WARN", hangs(method))));
    bad.extend(["start", "commit"].map(|method| source("pends", method).fails(during(method))));
    bad.push(source("pends", "poll"));
    bad.push(source("pends", "stop").says("WARN", hangs("stop")));
    // What only waits gives its thread back: two are enough for all, and for the tame ones beside them.
    let tame = "connector.class = \"zoo-sink\"\ntopics = \"lines\"\ndir = \"FOLDER/tame\"\n";
    bad.push(Bad::new("tame", tame));
    the_worker_lives(&[zoo().0.clone()], "plugin.threads = 2\n", &bad).exits_with(1);
}

#[test]
fn the_worker_lives_with_a_library_that_breaks_the_contract() {
    let folder = temp_dir();
    // Its end is the process's: it must not keep that from coming.
    let libraries = [c_library(folder.path(), "c.so", &["HANGS_AT_THE_END"])];
    let of = |name: &str| {
        Bad::new(name, format!("connector.class = \"c-{name}\"\ntopics = \"lines\"\nfile = \"FOLDER/{name}.txt\"\n"))
    };
    let hangs = format!("put: {}", hangs("c-plugins", "put"));
    let bad = [
        of("sink"),
        of("twice").says("WARN", "a plugin answered a call twice; the answer is thrown away"),
        of("never").fails(&hangs),
        of("blocks").fails(&hangs),
        of("late")
            .fails(&hangs)
            .says("INFO", "a plugin has answered a call that was given up; the answer is thrown away"),
        of("liar").fails("put: the library 'c-plugins' ended put with an unknown status, 4711"),
        of("cut").fails("flush: a message over the plugin boundary can't be read: it ends early"),
    ];
    the_worker_lives(&libraries, "", &bad).exits_with(1);
}

/// A file sink with a chain of one.
fn chain(name: &str, chain: &str) -> Bad {
    let sink = format!("connector.class = \"file-sink\"\ntopics = \"lines\"\nfile = \"FOLDER/{name}.txt\"\n");
    Bad::new(name, format!("{sink}transforms = \"x\"\n{chain}"))
}

#[test]
fn the_worker_lives_with_what_fails_at_a_record() {
    let mut bad = Vec::new();
    for trouble in ["panics", "blocks"] {
        let words = |method: &str, what: &str| match trouble {
            "panics" => format!("the library 'zoo' panicked in {method}: the zoo panics in {method}"),
            _ => format!(
                "{what} has not come back for {CALL_TIMEOUT:?} (plugin.call.timeout.ms): it hangs, or needs longer than that"
            ),
        };
        let apply = format!("\"transforms.x.type\" = \"{trouble}-transform\"\n\"transforms.x.at\" = \"apply\"\n");
        let transform = format!("transformation 'x' ({trouble}-transform)");
        bad.push(chain(&format!("{trouble}-apply"), &apply).fails(words("apply", &transform)));
        let test = format!(
            "\"transforms.x.type\" = \"zoo-shout\"\n\"transforms.x.field\" = \"text\"\n\"transforms.x.predicate\" = \"p\"\n\
             predicates = \"p\"\n\"predicates.p.type\" = \"{trouble}-predicate\"\n\"predicates.p.at\" = \"test\"\n"
        );
        let transform = format!("transformation 'x' (zoo-shout, {trouble}-predicate)");
        bad.push(chain(&format!("{trouble}-test"), &test).fails(words("test", &transform)));
        let name = format!("{trouble}-to-connect");
        let converter = format!(
            "connector.class = \"file-sink\"\ntopics = \"lines\"\nfile = \"FOLDER/{name}.txt\"\n\
             value.converter = \"{trouble}-converter\"\n\"value.converter.at\" = \"to_connect\"\n"
        );
        let what = format!("value converter '{trouble}-converter'");
        bad.push(Bad::new(name, converter).fails(words("to_connect", &what)));
        let name = format!("{trouble}-from-connect");
        let converter = format!(
            "connector.class = \"file-source\"\nfile = \"FOLDER/in.txt\"\ntopic = \"{name}\"\n\
             value.converter = \"{trouble}-converter\"\n\"value.converter.at\" = \"from_connect\"\n"
        );
        bad.push(Bad::new(name, converter).fails(words("from_connect", &what)));
    }
    the_worker_lives(&[zoo().0.clone()], "", &bad).exits_with(1);
}

/// Whoever waits in vain says so within the graceful stop's time, not within the five minutes that a call may take.
#[test]
fn a_stop_does_not_wait_for_what_hangs() {
    let folder = temp_dir();
    let folder = folder.path();
    let c = c_library(folder, "c.so", &["HANGS_AT_THE_END"]);
    let mut text = worker(folder, &[zoo().0.clone(), c]).replace("plugin.call.timeout.ms", "# plugin.call.timeout.ms")
        + "plugin.threads = 8\n\"task.shutdown.graceful.timeout.ms\" = 2000\n"
        + &neighbours(folder);
    let mut bad = vec![sink("blocks", "put"), sink("pends", "flush"), sink("blocks", "drop"), source("blocks", "poll")];
    let apply = "\"transforms.x.type\" = \"blocks-transform\"\n\"transforms.x.at\" = \"apply\"\n";
    bad.push(chain("apply", apply));
    let c_blocks = "connector.class = \"c-blocks\"\ntopics = \"lines\"\nfile = \"FOLDER/c-blocks.txt\"\n";
    bad.push(Bad::new("c-blocks", c_blocks));
    for Bad { name, toml, .. } in &bad {
        write_connector(&mut text, name, toml, folder);
    }
    fs::write(folder.join("in.txt"), lines(300)).expect("the folder is writable");
    let run = Ottla::run([config::write(folder, "stop.toml", &text)]).arg("--log-format").arg("json");
    let mut running = run.start();
    wait_for_neighbour(&mut running, folder, 300);
    let stopping = Instant::now();
    running.signal(Signal::TERM);
    let finished = running.wait(wait::SOON).exits_with(1).says("task.shutdown.graceful.timeout.ms has passed");
    println!("{:?}: {}", stopping.elapsed(), finished.report());
    assert!(stopping.elapsed() < Duration::from_secs(6), "the stop took {:?}", stopping.elapsed());
    let abandoned = finished.log().into_iter().find(|line| !line.field("tasks").is_empty());
    let abandoned = abandoned.expect("the abandoned tasks are named");
    let names: Vec<String> = bad.iter().map(|bad| format!("{}-0", bad.name)).collect();
    let left: Vec<&str> = abandoned.field("tasks").split(", ").collect();
    assert!(left.contains(&"sink-put-0") && left.iter().all(|task| names.iter().any(|name| name == task)), "{left:?}");

    // Also while it starts, where a plugin is asked for its tasks.
    let tasks = source("blocks", "tasks").toml;
    let mut starting = text.clone();
    write_connector(&mut starting, "tasks", &tasks, folder);
    let mut running =
        Ottla::run([config::write(folder, "start.toml", starting)]).arg("--log-format").arg("json").start();
    running.wait_for_log("the first tasks", RUN, |line| line.message() == "assigned");
    running.signal(Signal::TERM);
    running.wait_for_log("the stop", RUN, |line| line.message().starts_with("stopping; once more"));
    running.signal(Signal::TERM);
    running.wait(wait::SOON).exits_with(130);

    // And who is told twice ends at once.
    let mut running = run.start();
    running.wait_for_log("the start", RUN, |line| {
        line.message() == "assigned" && line.0.to_string().contains("c-blocks-0")
    });
    running.signal(Signal::TERM);
    running.wait_for_log("the stop", RUN, |line| line.message().starts_with("stopping; once more"));
    let again = Instant::now();
    running.signal(Signal::TERM);
    running.wait(wait::SOON).exits_with(130);
    assert!(again.elapsed() < Duration::from_secs(2), "the end took {:?}", again.elapsed());
}

/// Two tasks that block hold both threads of their library. A source of the same library could wait for ever, and nobody would know.
#[test]
fn what_waits_for_a_thread_that_will_not_be_is_told_so() {
    let folder = temp_dir();
    let folder = folder.path();
    let listener = format!("127.0.0.1:{}", free_port());
    let mut text = worker(folder, std::slice::from_ref(&zoo().0))
        .replace("task.restart.backoff", "# task.restart.backoff")
        + &format!("metrics.listener = \"{listener}\"\ntask.restart.backoff.ms = 600000\nplugin.threads = 2\n")
        + &neighbours(folder);
    for name in ["one", "two"] {
        write_connector(&mut text, name, &sink("blocks", "put").toml, folder);
    }
    let quiet = "connector.class = \"zoo-source\"\nfile = \"/dev/null\"\ntopic = \"nothing\"\n";
    write_connector(&mut text, "quiet", quiet, folder);
    fs::write(folder.join("in.txt"), "").expect("the folder is writable");
    let mut running = Ottla::run([config::write(folder, "threads.toml", text)]).start();
    let mut wait_for = |states: [&str; 3]| {
        running.wait_until("all states", RUN, |_| {
            let (_, health) = http_get(&listener, "/health")?;
            let health: Value = serde_json::from_str(&health).map_err(|error| error.to_string())?;
            let state =
                |name: &str| health["connectors"][name]["tasks"][0]["detail"].as_str().unwrap_or("unknown").to_owned();
            if ["one", "two", "quiet"].map(state) == states { Ok(()) } else { Err(health.to_string()) }
        });
    };
    wait_for(["running"; 3]);
    fs::write(folder.join("in.txt"), lines(300)).expect("the folder is writable");
    let blocked = format!("failed: put: {}", hangs("zoo", "put"));
    let without = "failed: poll: calls that do not come back hold all 2 threads of the library 'zoo' (plugin.threads): none of its tasks \
                   can go on before one does, or the worker is started again";
    wait_for([&blocked, &blocked, without]);
    wait_for_neighbour(&mut running, folder, 300);
    running.stop().exits_with(1);
}

/// Each start of a task that hangs costs a thread, so there is an end to them.
#[test]
fn a_task_that_hangs_at_every_start_is_not_started_for_ever() {
    let folder = temp_dir();
    let folder = folder.path();
    let listener = format!("127.0.0.1:{}", free_port());
    let mut text = worker(folder, &[zoo().0.clone()]).replace("task.restart.backoff", "# task.restart.backoff");
    text = text.replace("plugin.call.timeout.ms = 1000", "plugin.call.timeout.ms = 50")
        + &format!(
            "task.restart.backoff.ms = 10\ntask.restart.backoff.max.ms = 20\nmetrics.listener = \"{listener}\"\n"
        )
        + &neighbours(folder);
    write_connector(&mut text, "sink", &sink("blocks", "task").toml, folder);
    let apply = "\"transforms.x.type\" = \"blocks-transform\"\n\"transforms.x.at\" = \"apply\"\n";
    write_connector(&mut text, "apply", &chain("apply", apply).toml, folder);
    fs::write(folder.join("in.txt"), lines(300)).expect("the folder is writable");
    let mut running = Ottla::run([config::write(folder, "again.toml", text)]).start();
    let given_up = "16 calls of the library 'zoo' hang; it is asked nothing more before one comes back";
    running.wait_until("the end of the starts", RUN, |_| {
        let (_, health) = http_get(&listener, "/health")?;
        if health.matches(given_up).count() == 2 { Ok(()) } else { Err(health) }
    });
    wait_for_neighbour(&mut running, folder, 300);
    running.stop().exits_with(1);
}

#[test]
fn a_library_by_another_compiler_and_with_other_versions_passes_the_suites() {
    let library = zoo().0.display().to_string();
    let tame = ["zoo-sink", "zoo-source", "zoo-shout", "zoo-has", "zoo-reversed", "zoo-words"];
    let test = Ottla::new(["plugin", "test", "--plugin-path", &library, "--kills", "3"].iter().chain(&tame).copied());
    let tested = test.in_dir(repository("tests/plugins/zoo")).finish(RUN).exits_with(0);
    println!("{}", tested.report());
    // Faults are for code in the same process. Nothing else is left out.
    assert_eq!(tested.stdout.matches("left out ").count(), 2, "{}", tested.report());
    assert!(tested.stdout.contains("6 plugins: "), "{}", tested.report());
}

/// A provider is asked when a connector starts: its fault is that connector's.
#[test]
fn the_worker_lives_with_config_providers_that_fail() {
    for trouble in ["panics", "blocks"] {
        let provider = format!(
            "\"config.providers\" = \"p\"\n\"config.providers.p.class\" = \"{trouble}-provider\"\n\
             \"config.providers.p.param.at\" = \"get\"\n"
        );
        let words = match trouble {
            "panics" => "the library 'zoo' panicked in get: the zoo panics in get".to_owned(),
            _ => hangs("zoo", "get"),
        };
        let words = format!("file: ${{p:a:b}}: {words}");
        let file = "file = \"FOLDER/${p:a:b}\"\n";
        let bad = [
            Bad::new("sink", format!("connector.class = \"file-sink\"\ntopics = \"lines\"\n{file}")).fails(&words),
            Bad::new("source", format!("connector.class = \"file-source\"\ntopic = \"x\"\n{file}")).fails(&words),
        ];
        the_worker_lives(&[zoo().0.clone()], &provider, &bad).exits_with(1);
    }
}

/// What is asked before anything runs fails there, in time, as a mistake of the configuration.
#[test]
fn what_fails_while_the_configuration_is_checked_is_said_with_it() {
    let folder = temp_dir();
    let folder = folder.path();
    fs::write(folder.join("in.txt"), lines(1)).expect("the folder is writable");
    let validate = |toml: &str, early: &str| {
        let text = worker(folder, &[zoo().0.clone()]) + &neighbours(folder) + "\n[connectors.bad]\n" + toml;
        let file = config::write(folder, "early.toml", text);
        let finished = Ottla::new(["validate", &file.display().to_string()]).env("ZOO_EARLY", early).finish(RUN);
        println!("{}", finished.report());
        finished.exits_with(2)
    };
    let panicked =
        |method: &str, words: &str| format!("the library 'zoo' panicked in {method}: the zoo panics in {words}");
    for (trouble, early) in [("panics", "Panics"), ("blocks", "Blocks")] {
        let said = |method: &str, words: &str| match trouble {
            "panics" => panicked(method, words),
            _ => hangs("zoo", method),
        };
        let connector = format!("connector.class = \"{trouble}-sink\"\ntopics = \"lines\"\n");
        validate(&(connector.clone() + "at = \"validate\"\n"), "").says(&said("validate", "validate"));
        let finished = validate(&connector, &format!("{early}:constructor"));
        finished.says(&said("the constructor", "constructor"));
        // The whole library is of no use then.
        let finished = validate(&connector, &format!("{early}:definition"));
        finished.says(&said("init", "definition")).says(&format!("no connector is called '{trouble}-sink'"));
        for at in ["constructor", "is_deterministic"] {
            let transform = format!(
                "connector.class = \"file-sink\"\ntopics = \"lines\"\nfile = \"x.txt\"\ntransforms = \"x\"\n\
                 \"transforms.x.type\" = \"{trouble}-transform\"\n\"transforms.x.at\" = \"{at}\"\n"
            );
            let method = if at == "constructor" { "the constructor" } else { at };
            validate(&transform, "").says(&said(method, at));
        }
    }
}
