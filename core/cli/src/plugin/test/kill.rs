//! The rule `kill`: the connector runs in a real worker, a process of its own with embedded topics, which is killed with SIGKILL at
//! random moments and started again; then everything is compared whole.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ottla_api::offset::TopicPartition;
use ottla_api::plugin::Plugin;
use ottla_api::record::RawRecord;
use ottla_api::{Error, ErrorKind, Result, error::ResultExt as _};
use ottla_runtime::broker::embedded::EmbeddedBroker;
use ottla_runtime::storage::StateStore;
use ottla_runtime::topics::Topics;
use ottla_testkit::fault::Random;
use ottla_testkit::harness::sink_value;
use ottla_testkit::rule::Rule;
use tokio::process::{Child, Command};

use super::setup::{Place, Read, Setup};

/// The rule, for reports.
pub(super) const RULE: Rule =
    Rule { name: "kill", promise: "a worker that is killed at random moments and started again loses nothing" };

/// The topic that a sink reads.
const TOPIC: &str = "conformance";

/// Its partitions.
const PARTITIONS: i32 = 3;

/// Records for a sink where the file does not say.
const RECORDS: usize = 15_000;

/// A run that has not caught up by then never will.
const PATIENCE: Duration = Duration::from_secs(120);

/// Lines of the worker's log that a failure shows.
const LOG_LINES: usize = 12;

/// A secret of fewer characters may stand in a log by chance.
const TELLING: usize = 4;

/// How connectors are killed.
#[derive(Debug, Clone)]
pub(super) struct Killing {
    /// The library that the plugin is in, where it is not built in.
    pub(super) library: Option<PathBuf>,
    /// How often.
    pub(super) times: usize,
    /// Decides the moments.
    pub(super) seed: u64,
}

impl Killing {
    /// Fills a topic, runs the sink over it undisturbed and then with kills, and compares both destinations with what is due.
    /// Says what was done.
    ///
    /// # Panics
    ///
    /// Where something is missing, comes from nowhere, or twice where it must not; or a run fails.
    pub(super) async fn sink(&self, plugin: &Plugin, setup: &Setup, read: &Read, place: &Place) -> String {
        let setup = setup.for_kills();
        let per_partition = setup.kill.records.unwrap_or(RECORDS).div_ceil(PARTITIONS as usize) as i64;
        let due = |partition: i32| {
            let partition = TopicPartition::new(TOPIC, partition);
            (0..per_partition).map(move |offset| sink_value(&partition, offset))
        };
        let here = |name: &str| below(place, name);
        let filled = async |here: &Place| {
            let worker = self.worker(plugin, &setup, here, &format!("topics = \"{TOPIC}\"\n{JSON}")).await;
            let mut topics = open_topics(&worker.state).unwrap_or_else(|error| panic!("make a topic: {error}"));
            for partition in 0..PARTITIONS {
                let record = |value: String| RawRecord { value: Some(value.into()), ..RawRecord::default() };
                let records: Vec<RawRecord> = due(partition).map(record).collect();
                for chunk in records.chunks(1000) {
                    let written = topics.write(TOPIC, Some(partition), chunk).await;
                    let written = written.and_then(|all| all.into_iter().collect::<Result<Vec<_>>>());
                    written.unwrap_or_else(|error| panic!("write to a topic: {error}"));
                }
            }
            worker
        };
        let compare = async |here: &Place, at_least_once: bool, how: &str| {
            let (values, trouble) = here.read(read).await;
            let trouble = trouble.map(|trouble| format!("\nwhen it was read: {trouble}")).unwrap_or_default();
            let difference = compare_sink(&values, PARTITIONS, due, at_least_once);
            difference.unwrap_or_else(|difference| panic!("{difference}, {how}{trouble}"));
        };
        let undisturbed = here("undisturbed");
        let length = filled(&undisturbed).await.run_to_end().await;
        compare(&undisturbed, false, "in a run that nothing disturbed").await;
        for (name, latest) in attempts(length) {
            let here = here(&name);
            let worker = filled(&here).await;
            let Some(how) = self.kill(&worker, latest).await else { continue };
            compare(&here, setup.at_least_once, &how).await;
            return how;
        }
        panic!(
            "it has always ended before it could be killed; give it more to do: kill.records = {}",
            per_partition * 30
        )
    }

    /// Runs the source into topics undisturbed and then with kills, and compares the topics. Says what was done.
    ///
    /// # Panics
    ///
    /// Where something is missing, comes from nowhere, or twice where it must not; or a run fails.
    pub(super) async fn source(&self, plugin: &Plugin, setup: &Setup, place: &Place) -> String {
        let setup = setup.for_kills();
        let data = below(place, "data");
        data.prepare(setup.prepare.as_deref()).unwrap_or_else(|error| panic!("{error}"));
        // All runs read the same data.
        let worker = async |name: &str| self.worker_in(plugin, &setup, &data, &place.dir.join(name), JSON).await;
        let undisturbed = worker("undisturbed").await;
        let length = undisturbed.run_to_end().await;
        let due = everything(&undisturbed.state).await;
        assert!(!due.is_empty(), "in a run that nothing disturbed, no record reached a topic");
        for (name, latest) in attempts(length) {
            let worker = worker(&name).await;
            let Some(how) = self.kill(&worker, latest).await else { continue };
            let difference = compare_source(&everything(&worker.state).await, &due, setup.at_least_once);
            difference.unwrap_or_else(|difference| panic!("{difference}, {how}"));
            return how;
        }
        panic!("it has always ended before it could be killed; give it more to do, with kill.prepare or kill.options")
    }

    /// Starts the worker again and again and kills it at some moment before `latest`, then lets it run to its end. What was
    /// done, in words; nothing where it had ended before it could be killed once.
    async fn kill(&self, worker: &Worker, latest: Duration) -> Option<String> {
        let mut random = Random::new(self.seed);
        let mut moments = Vec::new();
        for _ in 0..self.times {
            let moment = Duration::from_micros(random.below(latest.as_micros().max(1) as u64));
            let mut child = worker.start();
            match tokio::time::timeout(moment, child.wait()).await {
                // There is nothing left to interrupt.
                Ok(ended) => {
                    worker.expect_good(ended);
                    break;
                }
                Err(_) => {
                    child.kill().await.unwrap_or_else(|error| panic!("kill the worker: {error}"));
                    moments.push(moment.as_millis().to_string());
                }
            }
        }
        let rest = worker.run_to_end().await;
        let (last, before) = moments.split_last()?;
        let moments = if before.is_empty() { last.clone() } else { format!("{} and {last}", before.join(", ")) };
        let (times, rest) = (before.len() + 1, rest.as_millis());
        Some(format!("{times} SIGKILLs, {moments} ms after a start, and {rest} ms for the rest (--seed {})", self.seed))
    }

    async fn worker(&self, plugin: &Plugin, setup: &Setup, place: &Place, more: &str) -> Worker {
        place.prepare(setup.prepare.as_deref()).unwrap_or_else(|error| panic!("{error}"));
        let folder = place.dir.with_extension("worker");
        self.worker_in(plugin, setup, place, &folder, more).await
    }

    /// A worker with this one connector, whose state is in `folder`.
    async fn worker_in(&self, plugin: &Plugin, setup: &Setup, place: &Place, folder: &Path, more: &str) -> Worker {
        let state = folder.join("state");
        let mut text = format!(
            "[worker]\nbootstrap.servers = \"embedded\"\nstate.dir = {}\noffset.flush.interval.ms = 100\n",
            quoted(&state.display().to_string())
        );
        if let Some(library) = &self.library {
            let _ = writeln!(text, "plugin.path = {}", quoted(&library.display().to_string()));
        }
        let _ = write!(text, "\n[connectors.conformance]\nconnector.class = {}\n{more}", quoted(plugin.name));
        for (name, value) in setup.properties(place).iter() {
            let _ = writeln!(text, "{} = {}", quoted(name), quoted(value));
        }
        let config = folder.join("worker.toml");
        let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&config, text));
        written.unwrap_or_else(|error| panic!("write {}: {error}", config.display()));
        let definition = (plugin.definition)();
        let is_secret = |key: &str| definition.find(key).is_some_and(|option| option.secret);
        let properties = setup.properties(place);
        let secrets = properties.iter().filter(|(key, value)| is_secret(key) && value.len() >= TELLING);
        let secrets = secrets.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Worker { config, state, log: folder.join("log"), home: place.home.clone(), secrets }
    }
}

/// Tries that each kill earlier than the one before, where a worker is quicker the next time: name, and the latest moment of a
/// kill. At first within half of the time that a run takes, so that a few kills find work left.
fn attempts(length: Duration) -> impl Iterator<Item = (String, Duration)> {
    (0..4).map(move |n| (format!("killed-{n}"), length / 2_u32.pow(n + 1)))
}

/// Records are JSON without schemas in their topic, as the suites have them.
const JSON: &str = "key.converter = { class = \"json\", schemas.enable = false }\n\
                    value.converter = { class = \"json\", schemas.enable = false }\n";

/// A worker's configuration, to be run in a process of its own.
struct Worker {
    config: PathBuf,
    state: PathBuf,
    log: PathBuf,
    home: PathBuf,
    /// Options that nobody may see, with their values.
    secrets: Vec<(String, String)>,
}

impl Worker {
    /// Starts it. It dies with this process at the latest.
    fn start(&self) -> Child {
        let started = || -> std::io::Result<Child> {
            let log = std::fs::File::options().create(true).append(true).open(&self.log)?;
            // The very program that runs here, even if its file has been replaced by a newer build meanwhile.
            let running = Path::new("/proc/self/exe");
            let program = if running.exists() { running.to_owned() } else { std::env::current_exe()? };
            let mut command = Command::new(program);
            command.arg0("ottla").arg("run").arg(&self.config).args(["--until", "caught-up", "--give-up-after", "20s"]);
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir(&self.home);
            command.kill_on_drop(true).spawn()
        };
        started().unwrap_or_else(|error| panic!("start a worker: {error}"))
    }

    /// Runs it until it has caught up. How long that took.
    async fn run_to_end(&self) -> Duration {
        let began = Instant::now();
        let mut child = self.start();
        match tokio::time::timeout(PATIENCE, child.wait()).await {
            Ok(ended) => self.expect_good(ended),
            Err(_) => panic!("the worker has not caught up in {PATIENCE:?}{}", self.tail()),
        }
        began.elapsed()
    }

    /// It ended well, and what it printed holds no secret (G8).
    fn expect_good(&self, ended: std::io::Result<ExitStatus>) {
        let printed = std::fs::read(&self.log).unwrap_or_default();
        let printed = String::from_utf8_lossy(&printed);
        let shown = self.secrets.iter().find(|(_, value)| printed.contains(value.as_str()));
        assert!(shown.is_none(), "the worker's output shows the value of {}", shown.map_or("", |(key, _)| key));
        match ended {
            Ok(status) if status.success() => {}
            Ok(status) => panic!("the worker ended with {status}{}", self.tail()),
            Err(error) => panic!("the worker can't be waited for: {error}"),
        }
    }

    /// The last lines of its log.
    fn tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
        format!("; its last lines:\n{}", last.join("\n"))
    }
}

fn below(place: &Place, name: &str) -> Place {
    Place { dir: place.dir.join(name), name: format!("{}-{name}", place.name), home: place.home.clone() }
}

/// Text as TOML writes it.
fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

/// The topics of a state folder that no worker has open.
fn open_topics(state: &Path) -> Result<Topics> {
    const FOR_EVER: Duration = Duration::from_secs(1000 * 365 * 86_400);
    std::fs::create_dir_all(state).or_error(ErrorKind::Fatal, format!("make {}", state.display()))?;
    let store = StateStore::open(state, true)?;
    Ok(Topics::of_broker(EmbeddedBroker::open(store, PARTITIONS as usize, FOR_EVER)?))
}

/// All records of all topics: topic, key, value and headers of each, with how often it is there.
type Everything = BTreeMap<String, usize>;

async fn everything(state: &Path) -> Everything {
    let read = async {
        let mut topics = open_topics(state)?;
        let mut all = Everything::new();
        for found in topics.list(Vec::new()).await? {
            let partition = TopicPartition::new(found.topic.as_str(), found.partition);
            let mut next = found.start;
            while next < found.end {
                let records = topics.read(&partition, next, 1000).await?;
                let Some(last) = records.last() else { break };
                next = last.offset + 1;
                for record in records {
                    *all.entry(shown(&found.topic, &record)).or_default() += 1;
                }
            }
        }
        Ok::<_, Error>(all)
    };
    read.await.unwrap_or_else(|error| panic!("read the topics: {error}"))
}

/// A record in a line, without what differs from run to run: partition, offset, time.
fn shown(topic: &str, record: &RawRecord) -> String {
    let text = |bytes: &Option<bytes::Bytes>| {
        bytes.as_ref().map_or("null".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    let headers: Vec<String> = record.headers.iter().map(|(name, value)| format!("{name}={}", text(value))).collect();
    format!("{topic}: key {}, value {}, headers [{}]", text(&record.key), text(&record.value), headers.join(", "))
}

/// What a source's topics hold, against what they held in a run that nothing disturbed.
fn compare_source(found: &Everything, due: &Everything, at_least_once: bool) -> std::result::Result<(), String> {
    for (record, times) in due {
        let there = found.get(record).copied().unwrap_or(0);
        if there < *times {
            return Err(format!("a record is missing (it is there {there} times of {times}): {record}"));
        }
        if there > *times && !at_least_once {
            return Err(format!(
                "a record came twice (it is there {there} times, not {times}; into embedded topics records and offsets are \
                 one commit, so the offsets don't say where the source was): {record}"
            ));
        }
    }
    match found.keys().find(|record| !due.contains_key(*record)) {
        Some(record) => Err(format!("a record came from nowhere: {record}")),
        None => Ok(()),
    }
}

/// What a destination holds, against what was in the topic: every record of a partition, in order, and nothing else.
fn compare_sink<I: Iterator<Item = String>>(
    found: &[String],
    partitions: i32,
    due: impl Fn(i32) -> I,
    at_least_once: bool,
) -> std::result::Result<(), String> {
    let mut places: BTreeMap<String, (i32, usize)> = BTreeMap::new();
    for partition in 0..partitions {
        places.extend(due(partition).enumerate().map(|(offset, value)| (value, (partition, offset))));
    }
    let mut next = vec![0; partitions as usize];
    for value in found {
        let Some((partition, offset)) = places.get(value) else {
            return Err(format!("the destination holds a value that nobody put: {value}"));
        };
        let next = &mut next[*partition as usize];
        match offset.cmp(next) {
            std::cmp::Ordering::Equal => *next += 1,
            std::cmp::Ordering::Less if at_least_once => {}
            std::cmp::Ordering::Less => {
                return Err(format!("offset {offset} of partition {partition} is in the destination twice"));
            }
            std::cmp::Ordering::Greater => {
                return Err(format!("offset {next} of partition {partition} is missing: {offset} comes in its place"));
            }
        }
    }
    for (partition, next) in (0..partitions).zip(next) {
        let count = due(partition).count();
        if next < count {
            return Err(format!(
                "offset {next} of partition {partition} is missing, and all {} behind it",
                count - next - 1
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(partition: i32) -> impl Iterator<Item = String> {
        (0..3).map(move |offset| format!("{partition}/{offset}"))
    }

    fn compare(found: &[&str], at_least_once: bool) -> std::result::Result<(), String> {
        let found: Vec<String> = found.iter().map(|text| (*text).to_owned()).collect();
        compare_sink(&found, 2, due, at_least_once)
    }

    #[test]
    fn what_differs_in_a_destination_is_named() {
        let whole = ["1/0", "0/0", "0/1", "1/1", "1/2", "0/2"];
        assert_eq!(compare(&whole, false), Ok(()));
        let twice = ["0/0", "0/1", "0/1", "0/2", "1/0", "1/1", "1/2"];
        assert_eq!(compare(&twice, true), Ok(()));
        let said = |found: &[&str]| compare(found, false).unwrap_err();
        assert_eq!(said(&twice), "offset 1 of partition 0 is in the destination twice");
        assert_eq!(said(&["0/0", "0/2"]), "offset 1 of partition 0 is missing: 2 comes in its place");
        assert_eq!(said(&whole[..4]), "offset 2 of partition 0 is missing, and all 0 behind it");
        assert_eq!(said(&["x"]), "the destination holds a value that nobody put: x");
    }

    #[test]
    fn what_differs_in_topics_is_named() {
        let all = |records: &[(&str, usize)]| records.iter().map(|(record, n)| ((*record).to_owned(), *n)).collect();
        let due: Everything = all(&[("a", 1), ("b", 2)]);
        assert_eq!(compare_source(&due, &due, false), Ok(()));
        assert_eq!(compare_source(&all(&[("a", 2), ("b", 2)]), &due, true), Ok(()));
        let said = |records: &[(&str, usize)]| compare_source(&all(records), &due, false).unwrap_err();
        assert!(said(&[("a", 2), ("b", 2)]).starts_with("a record came twice"));
        assert!(said(&[("a", 1), ("b", 1)]).starts_with("a record is missing (it is there 1 times of 2): b"));
        assert_eq!(said(&[("a", 1), ("b", 2), ("c", 1)]), "a record came from nowhere: c");
    }
}
