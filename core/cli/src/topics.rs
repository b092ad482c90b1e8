//! `ottla topics`: looks into topics and writes to them, beside a running worker or without one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use ottla_api::config::Properties;
use ottla_api::offset::{SourceOffset, SourceOffsets, SourcePartition, TopicPartition};
use ottla_api::record::RawRecord;
use ottla_api::{Error, ErrorKind, Result, error::ResultExt};
use ottla_runtime::broker::OffsetStore;
use ottla_runtime::broker::embedded::EmbeddedBroker;
use ottla_runtime::broker::kafka::KafkaBroker;
use ottla_runtime::plugins::Registry;
use ottla_runtime::plugins::config_providers::Providers;
use ottla_runtime::storage::StateStore;
use ottla_runtime::topics::{PartitionState, Topics};
use serde_json::{Value, json};

/// Where topics are looked for unless something else is said: the default of `state.dir`.
pub(crate) const DEFAULT_STATE_DIR: &str = "./ottla-data";

/// Options of `ottla topics`.
#[derive(Debug, Args)]
#[command(after_help = "Without --config or --bootstrap these are the embedded topics of a state folder,
./ottla-data unless --state-dir names another, whether a worker runs with it or
not.

Examples:
  ottla topics list --group connect-s3-sink           and how far a sink has come
  ottla topics read posts.pin --max 3 --format json   with offset, key, headers
  ottla topics tail posts.pin --follow                and new ones as they come
  ottla topics write posts.pin --key 7 < lines.jsonl  one record a line
  ottla topics --config worker.toml list              of a worker's own broker")]
pub(crate) struct TopicsArgs {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

/// Whose topics.
#[derive(Debug, Args)]
struct Place {
    /// State folder of the embedded topics.
    #[arg(long, global = true, value_name = "DIR", display_order = 800)]
    state_dir: Option<PathBuf>,
    /// A worker's configuration, which says where its topics are.
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "bootstrap", display_order = 801)]
    config: Option<PathBuf>,
    /// A Kafka cluster without security; with it, name a configuration.
    #[arg(long, global = true, value_name = "HOST:PORT", display_order = 802)]
    bootstrap: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show all topics: first and next offset and number of records of each partition.
    List {
        /// Shows how many records this group has yet to read. Repeatable; a sink's group is connect-NAME.
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
    },
    /// Print what a topic holds, then end.
    Read {
        /// Its name.
        topic: String,
        /// This partition only.
        #[arg(long, value_name = "N")]
        partition: Option<i32>,
        /// Where to begin in each partition.
        #[arg(long, value_name = "N|start|end", default_value = "start")]
        offset: Offset,
        /// At most this many records.
        #[arg(long, value_name = "N")]
        max: Option<usize>,
        /// How records are printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Print the last records of a topic.
    Tail {
        /// Its name.
        topic: String,
        /// How many.
        #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 10)]
        count: usize,
        /// Goes on printing new ones until it is stopped.
        #[arg(short, long)]
        follow: bool,
        /// How records are printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Write each line of standard input, or of a file, as a record. The topic is made where the broker allows that.
    Write {
        /// Its name.
        topic: String,
        /// Key of every record; it decides the partition.
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        /// Partition of every record.
        #[arg(long, value_name = "N")]
        partition: Option<i32>,
        /// Lines from this file instead of standard input.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

/// Where reading begins.
#[derive(Debug, Clone, Copy)]
enum Offset {
    Start,
    End,
    At(i64),
}

impl FromStr for Offset {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "start" => Ok(Self::Start),
            "end" => Ok(Self::End),
            _ => match text.parse() {
                Ok(offset @ 0..) => Ok(Self::At(offset)),
                _ => Err(format!("must be an offset, start or end, found '{text}'")),
            },
        }
    }
}

/// How records are printed.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    /// The value and a line break; `null` for a tombstone.
    #[default]
    Value,
    /// A JSON object a line: partition, offset, timestamp, key, value, headers. A value that is JSON is shown as such; bytes
    /// that are not text as {"hex": ..}.
    Json,
}

/// Runs `ottla topics`.
pub(crate) async fn run(args: TopicsArgs, registry: &Registry) -> Result<()> {
    let makes_topics = matches!(args.command, Command::Write { .. });
    let mut topics = open(&args.place, registry, makes_topics).await?;
    let done = match args.command {
        Command::List { groups } => list(&mut topics, groups).await,
        Command::Read { topic, partition, offset, max, format } => {
            read(&mut topics, &topic, partition, offset, max, format).await
        }
        Command::Tail { topic, count, follow, format } => tail(&mut topics, &topic, count, follow, format).await,
        Command::Write { topic, key, partition, file } => {
            write(&mut topics, &topic, key, partition, file.as_deref()).await
        }
    };
    match done {
        // A closed pipe (`| head`) is the reader's choice.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(Failure::Output(error)) => Err(Error::fatal("write to standard output").caused_by(error)),
        Err(Failure::Topics(error)) => Err(error),
        Ok(()) => Ok(()),
    }
}

/// What can go wrong here.
enum Failure {
    Topics(Error),
    Output(io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Topics(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Finds the topics: a cluster's, a running worker's, or those of a state folder that nobody has open.
async fn open(place: &Place, registry: &Registry, makes_topics: bool) -> Result<Topics> {
    if let Some(servers) = &place.bootstrap {
        return Ok(Topics::of_broker(KafkaBroker::connect(servers, &Properties::new(), Arc::new(NoOffsets))?));
    }
    let (mut dir, mut partitions) = (PathBuf::from(DEFAULT_STATE_DIR), 1);
    if let Some(file) = &place.config {
        let configuration = ottla_runtime::config::load(std::slice::from_ref(file), &[], registry)
            .map_err(|diagnostics| Error::config(diagnostics.to_string().trim_end()))?;
        let worker = &configuration.worker;
        if worker.bootstrap_servers != "embedded" {
            let client = Providers::build(&configuration.providers)?.resolve(&configuration.client)?;
            return Ok(Topics::of_broker(KafkaBroker::connect(
                &worker.bootstrap_servers,
                &client,
                Arc::new(NoOffsets),
            )?));
        }
        (dir, partitions) = (worker.state_dir.clone(), worker.embedded_partitions);
    }
    let dir = place.state_dir.clone().unwrap_or(dir);
    // Looking must not make anything: any other folder would become a state folder.
    if !makes_topics && !StateStore::exists(&dir) {
        let what = if dir.is_dir() { "is no state folder" } else { "does not exist" };
        let dir = dir.display();
        return Err(Error::config(format!("{dir} {what}; name one with --state-dir, or a --config or --bootstrap")));
    }
    if let Some(topics) = Topics::of_worker(&dir).await? {
        return Ok(topics);
    }
    // What may go is for the worker to say, so nothing is removed from here.
    const FOR_EVER: Duration = Duration::from_secs(1000 * 365 * 86_400);
    let store = StateStore::open(&dir, true)?;
    Ok(Topics::of_broker(EmbeddedBroker::open(store, partitions, FOR_EVER)?))
}

async fn list(topics: &mut Topics, groups: Vec<String>) -> Result<(), Failure> {
    let partitions = topics.list(groups.clone()).await?;
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let columns = ["topic", "partition", "start", "end", "records"].map(str::to_owned);
    table.set_header(columns.into_iter().chain(groups.iter().map(|group| format!("lag of {group}"))));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for state in &partitions {
        let lag = groups.iter().map(|group| match state.committed.get(group) {
            Some(position) => (state.end - position).max(0).to_string(),
            None => "-".to_owned(),
        });
        let numbers = [i64::from(state.partition), state.start, state.end, state.end - state.start];
        table.add_row(std::iter::once(state.topic.clone()).chain(numbers.map(|n| n.to_string())).chain(lag));
    }
    let mut out = io::stdout().lock();
    if partitions.is_empty() {
        writeln!(out, "There are no topics.")?;
    } else {
        writeln!(out, "{}", table.trim_fmt())?;
    }
    Ok(())
}

/// The partitions of a topic, or of one of its partitions.
async fn partitions_of(topics: &mut Topics, topic: &str, only: Option<i32>) -> Result<Vec<PartitionState>> {
    let all = topics.list(Vec::new()).await?;
    let names: std::collections::BTreeSet<&str> = all.iter().map(|state| state.topic.as_str()).collect();
    if !names.contains(topic) {
        let known = match names.len() {
            0 => "none yet".to_owned(),
            _ => names.into_iter().collect::<Vec<_>>().join(", "),
        };
        return Err(Error::config(format!("there is no topic '{topic}'; there are: {known}")));
    }
    let mut found: Vec<PartitionState> = all.into_iter().filter(|state| state.topic == topic).collect();
    let count = found.len();
    found.retain(|state| only.is_none_or(|only| state.partition == only));
    match (found.is_empty(), only) {
        (true, Some(only)) => {
            let has = if count == 1 { "1 partition".to_owned() } else { format!("{count} partitions") };
            Err(Error::config(format!("topic '{topic}' has {has}, so there is none with number {only}")))
        }
        _ => Ok(found),
    }
}

async fn read(
    topics: &mut Topics,
    topic: &str,
    partition: Option<i32>,
    offset: Offset,
    max: Option<usize>,
    format: Format,
) -> Result<(), Failure> {
    let mut left = max.unwrap_or(usize::MAX);
    for state in partitions_of(topics, topic, partition).await? {
        let partition = TopicPartition::new(topic, state.partition);
        let mut next = match offset {
            Offset::Start => state.start,
            Offset::End => state.end,
            Offset::At(offset) => offset.max(state.start),
        };
        // What comes in while it prints is not part of it: otherwise it might never end.
        while next < state.end && left > 0 {
            let mut records = topics.read(&partition, next, left.min(1000)).await?;
            records.retain(|record| record.offset < state.end);
            let Some(last) = records.last() else { break };
            next = last.offset + 1;
            left -= records.len();
            print(&partition, &records, format)?;
        }
    }
    Ok(())
}

async fn tail(topics: &mut Topics, topic: &str, count: usize, follow: bool, format: Format) -> Result<(), Failure> {
    let mut positions = Vec::new();
    let mut last = Vec::new();
    for state in partitions_of(topics, topic, None).await? {
        let partition = TopicPartition::new(topic, state.partition);
        let mut next = state.start.max(state.end.saturating_sub_unsigned(count as u64));
        while next < state.end {
            let records = topics.read(&partition, next, 1000).await?;
            let Some(record) = records.last() else { break };
            next = record.offset + 1;
            last.extend(records.into_iter().map(|record| (record.timestamp, partition.clone(), record)));
        }
        positions.push((partition, next));
    }
    // Partitions know no common order; time is the nearest thing.
    last.sort_by_key(|(timestamp, partition, record)| (*timestamp, partition.partition, record.offset));
    for (_, partition, record) in &last[last.len().saturating_sub(count)..] {
        print(partition, std::slice::from_ref(record), format)?;
    }
    if !follow {
        return Ok(());
    }
    loop {
        let mut more = false;
        for (partition, next) in &mut positions {
            let records = topics.read(partition, *next, 1000).await?;
            if let Some(record) = records.last() {
                *next = record.offset + 1;
                more = true;
                print(partition, &records, format)?;
            }
        }
        if !more {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

fn print(partition: &TopicPartition, records: &[RawRecord], format: Format) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for record in records {
        match format {
            Format::Value => out.write_all(record.value.as_deref().unwrap_or(b"null"))?,
            Format::Json => out.write_all(as_json(partition, record).to_string().as_bytes())?,
        }
        out.write_all(b"\n")?;
    }
    out.flush()
}

fn as_json(partition: &TopicPartition, record: &RawRecord) -> Value {
    let headers = record.headers.iter().map(|(name, value)| json!({ "key": name, "value": text(value.as_deref()) }));
    let headers: Vec<Value> = headers.collect();
    json!({
        "partition": partition.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": text(record.key.as_deref()),
        "value": record.value.as_deref().and_then(nested).unwrap_or_else(|| text(record.value.as_deref())),
        "headers": headers,
    })
}

/// An object or an array; other JSON looks the same as text, and numbers must keep all their digits.
fn nested(bytes: &[u8]) -> Option<Value> {
    serde_json::from_slice(bytes).ok().filter(|value: &Value| value.is_object() || value.is_array())
}

fn text(bytes: Option<&[u8]>) -> Value {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => Value::Null,
        Some((_, Ok(text))) => text.into(),
        Some((bytes, Err(_))) => json!({ "hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() }),
    }
}

async fn write(
    topics: &mut Topics,
    topic: &str,
    key: Option<String>,
    partition: Option<i32>,
    file: Option<&Path>,
) -> Result<(), Failure> {
    let mut input: Box<dyn BufRead + Send> = match file {
        None => Box::new(BufReader::new(io::stdin())),
        Some(path) => {
            let file = File::open(path).or_error(ErrorKind::Config, format!("open {}", path.display()))?;
            Box::new(BufReader::new(file))
        }
    };
    let mut written = 0;
    loop {
        let (lines, rest) = read_lines(input).await?;
        input = rest;
        if lines.is_empty() {
            break;
        }
        let record = |line: Vec<u8>| RawRecord {
            key: key.clone().map(Into::into),
            value: Some(line.into()),
            ..RawRecord::default()
        };
        let records: Vec<RawRecord> = lines.into_iter().map(record).collect();
        for result in topics.write(topic, partition, &records).await? {
            result.map_err(|error| error.during(format!("line {}", written + 1)))?;
            written += 1;
        }
    }
    let records = if written == 1 { "record" } else { "records" };
    writeln!(io::stderr(), "Wrote {written} {records} to {topic}.")?;
    Ok(())
}

/// Lines that are there: one at least, unless the input has ended, and no more than one commit should hold.
async fn read_lines(mut input: Box<dyn BufRead + Send>) -> Result<(Vec<Vec<u8>>, Box<dyn BufRead + Send>)> {
    let read = move || {
        let (mut lines, mut bytes) = (Vec::new(), 0);
        loop {
            let mut line = Vec::new();
            if input.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            line.pop_if(|byte| *byte == b'\n');
            line.pop_if(|byte| *byte == b'\r');
            bytes += line.len();
            lines.push(line);
            // Whoever types sees each line arrive; a file goes in large pieces.
            if lines.len() == 1000 || bytes > 1 << 20 || !input.fill_buf()?.contains(&b'\n') {
                break;
            }
        }
        Ok((lines, input))
    };
    let lines: io::Result<_> = tokio::task::spawn_blocking(read).await.or_error(ErrorKind::Fatal, "read lines")?;
    lines.or_error(ErrorKind::Fatal, "read lines")
}

/// No source commits anything from here.
#[derive(Debug)]
struct NoOffsets;

impl OffsetStore for NoOffsets {
    fn get(&self, _: &str, _: &SourcePartition) -> Result<Option<SourceOffset>> {
        Ok(None)
    }

    fn put(&self, _: &str, _: &SourceOffsets) -> Result<()> {
        Ok(())
    }

    fn all(&self, _: &str) -> Result<SourceOffsets> {
        Ok(SourceOffsets::new())
    }
}
