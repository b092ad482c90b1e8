//! `ottla transform`: what a connector's transformations make of records, without a broker.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use clap::{Args, Subcommand, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use ottla_api::record::RawRecord;
use ottla_api::{Error, ErrorKind, Result, error::ResultExt};
use ottla_runtime::plugins::Registry;
use ottla_runtime::task::transformation_chain::Step;
use ottla_runtime::trial::cases::{CaseFile, Outcome};
use ottla_runtime::trial::{Shown, Trial};
use serde_json::{Value, json};

use crate::run::parse_override;
use crate::{EXIT_DONE, EXIT_FAILED, exit_code};

/// Options of `ottla transform`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ottla transform try pipeline.toml --topic posts.pin < rows.jsonl
      each record after each stage, and what every rule did
  ottla transform try pipeline.toml --topic posts.pin --summary < rows.jsonl
  ottla transform test cleaning.test.toml
      runs the cases of a file; its form is below
  ottla transform test cleaning.test.toml --bless
      writes what came out into the file, to be read over and kept

A file of cases:
  config = \"pipeline.toml\"
  [[cases]]
  name = \"10k is ten thousand\"
  topic = \"posts.pin\"
  value = '{\"follower_count\":\"10k\"}'
  expected.value = '{\"follower_count\":10000}'   or expected.dropped = true, or
                                               expected.error = 'part of its text'")]
pub(crate) struct TransformArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run files of cases, and say what differs from what they expect.
    Test {
        /// The files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Writes what came out into the files, in place of what was expected.
        #[arg(long)]
        bless: bool,
        /// Sets a key over the configuration's files. Repeatable.
        #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_override)]
        overrides: Vec<(String, String)>,
    },
    /// Send lines of standard input, or of a file, through a connector's transformations, and show each step.
    Try {
        /// Configuration files (.toml, .properties, .json), or folders of them.
        #[arg(required = true, value_name = "FILE|DIR")]
        files: Vec<PathBuf>,
        /// Topic of the records, as transformations and their guards see it.
        #[arg(long, value_name = "TOPIC")]
        topic: String,
        /// Whose transformations; not needed where only one connector has some.
        #[arg(long, value_name = "NAME")]
        connector: Option<String>,
        /// Key of every record, as text in the topic.
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        /// Lines from this file instead of standard input; each is the value of a record.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Only the table of what each stage did.
        #[arg(long)]
        summary: bool,
        /// How records are shown.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        /// Sets a key over the files. Repeatable.
        #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_override)]
        overrides: Vec<(String, String)>,
    },
}

/// How records are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// A JSON object a line for each record, the last one for the table.
    Json,
}

/// Runs; the answer is the exit code.
pub(crate) fn run(args: TransformArgs, registry: &Registry) -> u8 {
    let mut out = io::stdout().lock();
    let outcome = match args.command {
        Command::Test { files, bless, overrides } => test(&files, bless, &overrides, registry, &mut out),
        Command::Try { files, topic, connector, key, file, summary, format, overrides } => {
            let lines: Box<dyn BufRead> = match &file {
                None => Box::new(io::stdin().lock()),
                Some(file) => match File::open(file).or_error(ErrorKind::Config, format!("open {}", file.display())) {
                    Ok(file) => Box::new(BufReader::new(file)),
                    Err(error) => return exit_code(Err(error)),
                },
            };
            let trial = ottla_runtime::config::load(&files, &overrides, registry)
                .map_err(|diagnostics| Error::config(diagnostics.to_string().trim_end()))
                .and_then(|configuration| Trial::new(&configuration, connector.as_deref()));
            trial.and_then(|trial| {
                let report = Report { summary, format, out: &mut out };
                try_out(trial, &topic.into(), key.map(Bytes::from), lines, report)
            })
        }
    };
    match outcome {
        Ok(true) => EXIT_DONE,
        Ok(false) => EXIT_FAILED,
        Err(error) => exit_code(Err(error)),
    }
}

/// Runs files of cases. True where all came out as expected, or were blessed.
fn test(
    files: &[PathBuf],
    bless: bool,
    overrides: &[(String, String)],
    registry: &Registry,
    out: &mut dyn Write,
) -> Result<bool> {
    let (mut good, mut bad, mut written) = (0, 0, 0);
    for path in files {
        let file = CaseFile::read(path)?;
        let configuration = file.configuration(overrides, registry)?;
        let mut trial = Trial::new(&configuration, file.connector.as_deref())?;
        let verdicts = file.run(&mut trial);
        for verdict in &verdicts {
            let place = format!("{}:{}", path.display(), verdict.case.line);
            if verdict.differences.is_empty() {
                good += 1;
                print(out, format_args!("ok      {place} {}\n", verdict.case.name))?;
                continue;
            }
            bad += 1;
            print(out, format_args!("{} {place} {}\n", if bless { "blessed" } else { "FAILED " }, verdict.case.name))?;
            if bless {
                let what = match &verdict.outcome {
                    Outcome::Out(shown) => shown.value.clone(),
                    Outcome::Dropped(stage) => format!("dropped by {stage}"),
                    Outcome::Failed(text) => format!("failure: {text}"),
                };
                print(out, format_args!("          {what}\n"))?;
            } else {
                for difference in &verdict.differences {
                    print(out, format_args!("          {difference}\n"))?;
                }
            }
        }
        if bless && file.bless(&verdicts)? {
            written += 1;
        }
    }
    match bless {
        true => print(out, format_args!("\n{good} as expected, {bad} written; files changed: {written}\n"))?,
        false => print(out, format_args!("\n{} cases: {good} as expected, {bad} not\n", good + bad))?,
    }
    Ok(bless || bad == 0)
}

/// What a stage did to all records.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    reached: u64,
    guarded: u64,
    changed: u64,
    dropped: u64,
    failed: u64,
}

/// Where, and how much of it, is shown.
struct Report<'a> {
    summary: bool,
    format: Format,
    out: &'a mut dyn Write,
}

/// Sends lines through. True where none failed.
fn try_out(
    mut trial: Trial,
    topic: &Arc<str>,
    key: Option<Bytes>,
    lines: Box<dyn BufRead>,
    report: Report<'_>,
) -> Result<bool> {
    let Report { summary, format, out } = report;
    let stages: Vec<String> = trial.stages().map(str::to_owned).collect();
    let width = stages.iter().map(String::len).max().unwrap_or_default().max("before".len());
    let mut counts = vec![Count::default(); stages.len()];
    let (mut number, mut refused, mut through) = (0u64, 0u64, 0u64);
    for line in lines.split(b'\n') {
        let mut line = line.or_error(ErrorKind::Fatal, "read the records")?;
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if line.is_empty() {
            continue;
        }
        number += 1;
        let raw = RawRecord { key: key.clone(), value: Some(line.into()), ..RawRecord::default() };
        let mut steps: Vec<(usize, Did)> = Vec::new();
        let mut first = None;
        let result = trial.convert(topic, &raw).and_then(|record| {
            let mut last = Shown::from(&record);
            first = Some(last.clone());
            trial.apply(record, |stage, step| {
                let did = match step {
                    Step::Guarded => Did::Guarded,
                    Step::Dropped => Did::Dropped,
                    Step::Applied(record) => {
                        let shown = Shown::from(record);
                        let before = std::mem::replace(&mut last, shown);
                        if before == last { Did::Left } else { Did::Changed(Box::new(before), Box::new(last.clone())) }
                    }
                };
                steps.push((stage, did));
            })
        });
        let failure = match result {
            Ok(record) => {
                through += u64::from(record.is_some());
                None
            }
            Err(failure) if first.is_none() => {
                refused += 1;
                Some(format!("{}: {}", failure.class, failure.error))
            }
            Err(failure) => {
                // The stage behind the last one that did something.
                let stage = steps.last().map_or(0, |(stage, _)| stage + 1);
                steps.push((stage, Did::Failed(failure.error.to_string())));
                None
            }
        };
        for (stage, did) in &steps {
            counts[*stage].add(did);
        }
        if summary {
            continue;
        }
        match format {
            Format::Json => {
                let value = record_json(number, first.as_ref(), &steps, &stages, failure.as_deref());
                print(out, format_args!("{value}\n"))?;
            }
            Format::Text => {
                print(out, format_args!("record {number}\n"))?;
                if let Some(first) = &first {
                    for (index, line) in first.lines(None).iter().enumerate() {
                        let name = if index == 0 { "before" } else { "" };
                        print(out, format_args!("  {name:width$}  {line}\n"))?;
                    }
                }
                for (stage, did) in &steps {
                    for (index, line) in did.lines().iter().enumerate() {
                        let name = if index == 0 { stages[*stage].as_str() } else { "" };
                        print(out, format_args!("  {name:width$}  {line}\n"))?;
                    }
                }
                if let Some(failure) = failure {
                    print(out, format_args!("  {:width$}  failed: {failure}\n", ""))?;
                }
                print(out, format_args!("\n"))?;
            }
        }
    }
    let failed = refused + counts.iter().map(|count| count.failed).sum::<u64>();
    let dropped = counts.iter().map(|count| count.dropped).sum::<u64>();
    match format {
        Format::Json => {
            let stages = stages.iter().zip(&counts).map(|(name, count)| count.json(name));
            let value = json!({ "records": number, "through": through, "dropped": dropped, "failed": failed,
                "stages": stages.collect::<Vec<_>>() });
            print(out, format_args!("{value}\n"))?;
        }
        Format::Text => {
            print(out, format_args!("{}\n\n", table(&stages, &counts)))?;
            let refused = if refused == 0 { String::new() } else { format!(" ({refused} of them by the converters)") };
            print(
                out,
                format_args!("{number} records: {through} came through, {dropped} dropped, {failed} failed{refused}\n"),
            )?;
        }
    }
    Ok(failed == 0)
}

/// What a stage did to one record.
enum Did {
    Guarded,
    Left,
    Changed(Box<Shown>, Box<Shown>),
    Dropped,
    Failed(String),
}

impl Did {
    fn word(&self) -> &'static str {
        match self {
            Self::Guarded => "guarded",
            Self::Left => "unchanged",
            Self::Changed(..) => "changed",
            Self::Dropped => "dropped",
            Self::Failed(_) => "failed",
        }
    }

    fn lines(&self) -> Vec<String> {
        match self {
            Self::Guarded => vec!["- not for this record".to_owned()],
            Self::Left => vec!["=".to_owned()],
            Self::Changed(before, after) => after.lines(Some(before)),
            Self::Dropped => vec!["dropped".to_owned()],
            Self::Failed(text) => vec![format!("failed: {text}")],
        }
    }
}

impl Count {
    fn add(&mut self, did: &Did) {
        self.reached += 1;
        match did {
            Did::Guarded => self.guarded += 1,
            Did::Left => {}
            Did::Changed(..) => self.changed += 1,
            Did::Dropped => self.dropped += 1,
            Did::Failed(_) => self.failed += 1,
        }
    }

    fn json(&self, stage: &str) -> Value {
        json!({ "stage": stage, "reached": self.reached, "guarded": self.guarded, "changed": self.changed,
            "dropped": self.dropped, "failed": self.failed })
    }
}

/// The parts of a record that differ from another one.
trait Lines {
    fn parts(&self) -> Vec<(&'static str, String)>;

    fn lines(&self, before: Option<&Shown>) -> Vec<String>;
}

impl Lines for Shown {
    fn parts(&self) -> Vec<(&'static str, String)> {
        let mut parts = vec![("topic", self.topic.clone()), ("key", self.key.clone()), ("value", self.value.clone())];
        parts.push(("schema", self.schema.clone().unwrap_or_else(|| "none".to_owned())));
        parts.push(("timestamp", self.timestamp.map_or_else(|| "none".to_owned(), |time| time.to_string())));
        let headers = self.headers.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
        parts.push(("headers", if headers.is_empty() { "none".to_owned() } else { headers.join(", ") }));
        parts
    }

    fn lines(&self, before: Option<&Shown>) -> Vec<String> {
        let before = before.map(Lines::parts);
        // Of a record as it came, the topic is known.
        let nothing = |name: &str, text: &str| matches!((name, text), ("topic", _) | ("key", "null") | (_, "none"));
        let parts = self.parts().into_iter().enumerate().filter(|(index, (name, text))| match &before {
            Some(before) => before[*index].1 != *text,
            None => !nothing(name, text),
        });
        // A value speaks for itself.
        parts.map(|(_, (name, text))| if name == "value" { text } else { format!("{name} {text}") }).collect()
    }
}

fn record_json(
    number: u64,
    first: Option<&Shown>,
    steps: &[(usize, Did)],
    stages: &[String],
    failure: Option<&str>,
) -> Value {
    let data = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|_| json!(text));
    let shown = |shown: &Shown| {
        json!({ "topic": shown.topic, "key": data(&shown.key), "value": data(&shown.value), "timestamp": shown.timestamp,
            "headers": shown.headers.iter().map(|(name, value)| json!([name, data(value)])).collect::<Vec<_>>() })
    };
    let steps = steps.iter().map(|(stage, did)| {
        let mut step = json!({ "stage": stages[*stage], "outcome": did.word() });
        match did {
            Did::Changed(_, after) => step["record"] = shown(after),
            Did::Failed(error) => step["error"] = json!(error),
            _ => {}
        }
        step
    });
    json!({ "number": number, "record": first.map(shown), "steps": steps.collect::<Vec<_>>(), "error": failure })
}

fn table(stages: &[String], counts: &[Count]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["stage", "reached", "not for it", "changed", "dropped", "failed"]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for (stage, count) in stages.iter().zip(counts) {
        let numbers = [count.reached, count.guarded, count.changed, count.dropped, count.failed];
        table.add_row(std::iter::once(stage.clone()).chain(numbers.iter().map(u64::to_string)));
    }
    table
}

/// Prints; a reader that has seen enough (`| head`) ends the program quietly.
fn print(out: &mut dyn Write, text: std::fmt::Arguments<'_>) -> Result<()> {
    match out.write_fmt(text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(EXIT_DONE.into()),
        done => done.or_error(ErrorKind::Fatal, "write to standard output"),
    }
}
