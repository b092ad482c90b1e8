//! `ottla plugins test`: does a plugin keep its promises? The suites of the testkit, over a library or what is built in.

mod expected;
mod kill;
mod report;
mod rules;
mod setup;

use std::path::{Path, PathBuf};

use clap::Args;
use ottla_api::plugin::{Plugin, PluginKind};
use ottla_api::{Error, ErrorKind, Result, error::ResultExt as _};
use ottla_runtime::plugins::Registry;
use ottla_runtime::plugins::loaded::{self, Limits};
use ottla_testkit::harness::DEADLINE;

use self::kill::Killing;
use self::report::Report;
use self::rules::{Examination, is_library};
use self::setup::{FILE_NAME, Setup, SetupFile, keys_of_others};
use crate::{EXIT_CONFIG, EXIT_DONE, EXIT_FAILED};

/// Options of `ottla plugins test`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ottla plugin test target/debug/libmy_sink.so
  ottla plugin test file-sink s3-sink --config conformance.toml
  ottla plugin test target/debug/libmy_sink.so --rule kill --seed 7

What the rules need to know stands in conformance.toml, beside the Cargo.toml of
the library's crate. {dir} is an empty folder for each destination, {name} a name.

  [my-sink]
  options = { file = \"{dir}/out.jsonl\" }
  read = \"cat {dir}/*.jsonl\"       prints the value of each record on a line,
                                   or read.files = \"{dir}/*.jsonl\"
  guarantee = \"exactly-once\"       or \"at-least-once\"

  [my-source]
  prepare = \"seq 100 > {dir}/in\"   makes what is read
  options = { file = \"{dir}/in\", topic = \"numbers\" }
  expect = \"records.jsonl\"         the value of each record on a line
  bounded = true
  kill.prepare = \"seq 50000 > {dir}/in\"   more to do where it is killed

  [my-transform]
  options = { field = \"name\" }
  cases = [{ value = '{\"name\":\"a\"}', expected.value = '{\"name\":\"A\"}' }]

A predicate has expected = true or false, a converter types = [\"string\"] or
values = ['1'], a config provider known = [{ path = \"..\", key = \"..\", value = \"..\" }].
What is not given is left out, and the line says what to write.

Exit codes: 0 every rule that was checked is kept, 1 one is broken,
2 it can't be tested.")]
pub(super) struct TestArgs {
    /// A library, or names of plugins: built-in ones, and those of --plugin-path.
    #[arg(required = true, value_name = "LIBRARY|NAME")]
    plugins: Vec<String>,
    /// What the rules need to know, instead of conformance.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only rules whose name contains this. Repeatable.
    #[arg(long = "rule", value_name = "TEXT")]
    rules: Vec<String>,
    /// How often the rule `kill` kills the worker.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    kills: u16,
    /// Repeats the moments at which the worker was killed.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// Tests; the answer is the exit code.
pub(super) async fn run(args: TestArgs, json: bool, registry: &Registry) -> u8 {
    // The words of a check that fails are in the report; a backtrace beside them helps nobody.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|panic| tracing::debug!("{panic}")));
    let report = test(args, json, registry).await;
    std::panic::set_hook(hook);
    match report {
        Ok(mut report) => {
            report.end();
            match report.is_good() {
                true if report.is_empty() => EXIT_CONFIG,
                true => EXIT_DONE,
                false => EXIT_FAILED,
            }
        }
        Err(error) => {
            eprintln!("ottla: {error}");
            EXIT_CONFIG
        }
    }
}

async fn test(args: TestArgs, json: bool, registry: &Registry) -> Result<Report> {
    let subjects = subjects(&args.plugins, registry)?;
    let libraries = subjects.iter().filter_map(|subject| subject.library.as_deref());
    let file = match args.config.or_else(|| libraries.chain([Path::new("./x")]).find_map(beside)) {
        Some(path) => Some(SetupFile::read(&path)?),
        None => None,
    };
    if let Some(file) = &file {
        expect_known(file, &subjects, registry)?;
    }
    let home = std::path::absolute(file.as_ref().map_or(Path::new("."), SetupFile::folder));
    let home = home.or_error(ErrorKind::Config, "find the folder of the setup")?;
    let seed = args.seed.unwrap_or_else(seed_of_now);
    let mut report = Report::new(args.rules, json);
    for subject in &subjects {
        let plugin = subject.plugin;
        let setups = file.iter().flat_map(|file| &file.plugins).filter(|(name, _)| plugin.answers_to(name));
        let mut setups: Vec<Option<&Setup>> = setups.map(|(_, setup)| Some(setup)).collect();
        if setups.is_empty() {
            setups.push(None);
        }
        for setup in setups {
            let name = match setup.and_then(|setup| setup.name.as_ref()) {
                Some(name) => format!("{}, {name}", plugin.name),
                None => plugin.name.to_owned(),
            };
            let from = subject.library.as_deref().map_or("built in".to_owned(), |path| path.display().to_string());
            report.begin(&name, &format!("{}, version {}, {from}", plugin.kind(), plugin.version));
            let folder = tempfile::tempdir().or_error(ErrorKind::Fatal, "make a temporary folder")?;
            let place = file.as_ref().map_or(FILE_NAME.to_owned(), |file| file.path.display().to_string());
            let library = subject.library.clone();
            let examination = Examination {
                plugin,
                setup,
                section: format!("[{}] in {place}", plugin.name),
                dir: folder.path().to_owned(),
                home: home.clone(),
                killing: Killing { library, times: args.kills.into(), seed },
            };
            examination.run(&mut report).await;
        }
    }
    if report.knows_no_rule() {
        return Err(Error::config("--rule: no rule has this in its name; without it, all rules are shown"));
    }
    Ok(report)
}

/// A plugin to be tested, and the library that it is in.
struct Subject {
    plugin: Plugin,
    library: Option<PathBuf>,
}

/// The plugins that the arguments mean.
fn subjects(names: &[String], registry: &Registry) -> Result<Vec<Subject>> {
    let mut subjects = Vec::new();
    for name in names {
        if is_library(name) {
            let path = std::path::absolute(name).or_error(ErrorKind::Config, format!("find {name}"))?;
            let limits = Limits { call_timeout: DEADLINE, ..Limits::default() };
            let library = loaded::load(&path, &limits)?;
            if library.plugins.is_empty() {
                return Err(Error::config(format!("{name}: the library has no plugins")));
            }
            subjects.extend(library.plugins.into_iter().map(|plugin| Subject { plugin, library: Some(path.clone()) }));
        } else {
            let plugin = registry.find_any(name).map_err(|error| Error::config(error.to_string()))?;
            // By its name, and yet of a library: of --plugin-path.
            let library = registry.library_of(&plugin).map(|library| std::path::absolute(&library.path)).transpose();
            let library = library.or_error(ErrorKind::Config, format!("find the library of {name}"))?;
            subjects.push(Subject { plugin, library });
        }
    }
    Ok(subjects)
}

/// The file beside the crate of a library: in the nearest folder above it that has a `Cargo.toml`, or where we are.
fn beside(library: &Path) -> Option<PathBuf> {
    let above = library.ancestors().skip(1).find(|folder| folder.join("Cargo.toml").is_file());
    let here = Path::new(".");
    above.into_iter().chain([here]).map(|folder| folder.join(FILE_NAME)).find(|file| file.is_file())
}

/// Every section is of a plugin that there is, and says what is for its kind.
fn expect_known(file: &SetupFile, subjects: &[Subject], registry: &Registry) -> Result<()> {
    let mut mistakes = Vec::new();
    for (name, setup) in &file.plugins {
        let subject = subjects.iter().map(|subject| subject.plugin).find(|plugin| plugin.answers_to(name));
        match subject.map_or_else(|| registry.find_any(name), Ok) {
            Err(_) if subjects.iter().any(|subject| subject.library.is_some()) => {
                let there: Vec<&str> = subjects.iter().map(|subject| subject.plugin.name).collect();
                mistakes.push(format!("[{name}]: the library has no such plugin; there are {}", there.join(", ")));
            }
            Err(error) => mistakes.push(format!("[{name}]: {error}")),
            Ok(plugin) => mistakes.extend(
                keys_of_others(plugin.kind(), setup)
                    .into_iter()
                    .map(|key| format!("{name}.{key}: {} has no use for this", article(plugin.kind()))),
            ),
        }
    }
    if mistakes.is_empty() {
        return Ok(());
    }
    let mistakes: Vec<String> =
        mistakes.into_iter().map(|mistake| format!("{}: {mistake}", file.path.display())).collect();
    Err(Error::config(mistakes.join("\n")))
}

fn article(kind: PluginKind) -> String {
    format!("a {}", kind.to_string().replace('-', " "))
}

/// Another one each time.
fn seed_of_now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |time| time.as_micros() as u64 % 1_000_000)
}
