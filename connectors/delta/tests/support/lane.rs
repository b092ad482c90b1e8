//! A lane drives the sink over some partitions until the table has all their records, through crashes and rewinds; the
//! checker reads the table as others do and compares every row.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use deltalake_core::logstore::LogStoreRef;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use ottla_api::prelude::*;
use ottla_connector_delta::store::Store;
use ottla_connector_delta::{DeltaSinkConfig, DeltaSinkTask};
use ottla_testkit::fault::Random;
use ottla_testkit::harness::{SinkHarness, sink_batch, sink_value};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::faults::{Call, Fault, FaultStore};
use super::open;

/// Where the tables lie in a store in memory.
pub const BASE: &str = "memory:///lake";
/// The topic, and so the table.
pub const TOPIC: &str = "posts";

/// How a lane goes about its work.
#[derive(Debug, Clone)]
pub struct Lane {
    pub name: String,
    pub seed: u64,
    pub partitions: Vec<i32>,
    /// The offset behind the last record of every partition.
    pub end: i64,
    /// Options of the sink beyond those of the store.
    pub options: Vec<(&'static str, &'static str)>,
}

/// What happened.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    pub crashes: u64,
    pub rewinds: u64,
    pub counts: BTreeMap<&'static str, u64>,
}

impl Seen {
    pub fn add(&mut self, other: &Self) {
        self.crashes += other.crashes;
        self.rewinds += other.rewinds;
        for (name, n) in &other.counts {
            *self.counts.entry(name).or_default() += n;
        }
    }
}

/// How one process of a lane ended.
enum End {
    Done,
    Crashed,
}

impl Lane {
    /// Drives the sink until everything is in the table. `decide` says what becomes of the calls of the n-th process.
    pub async fn run<D>(&self, store: &Arc<dyn ObjectStore>, decide: impl Fn(u64) -> D) -> Result<Seen, String>
    where
        D: Fn(&Call<'_>) -> Fault + Send + Sync + 'static,
    {
        let mut seen = Seen::default();
        for process in 0..50 {
            let faults = FaultStore::new(Arc::clone(store), decide(process));
            let mut random = Random::new(self.seed.wrapping_mul(1000) + process);
            let ended = {
                let work = self.process(&faults, &mut random, &mut seen);
                tokio::select! {
                    ended = work => ended,
                    () = faults.death() => Ok(End::Crashed),
                }
            };
            match ended {
                Ok(End::Done) => return Ok(seen),
                Ok(End::Crashed) => seen.crashes += 1,
                Err(_) if faults.is_dead() => seen.crashes += 1,
                // The runtime gives up on nothing that may pass; a test does after a while, and begins a new process.
                Err(error) if error.is_retriable() => seen.crashes += 1,
                Err(error) => return Err(format!("{}: {error:?}", self.name)),
            }
        }
        Err(format!("{}: fifty processes were not enough", self.name))
    }

    async fn process(&self, faults: &Arc<FaultStore>, random: &mut Random, seen: &mut Seen) -> Result<End> {
        let mut properties = Properties::from_iter([("store.url", "file:unused"), ("delta.app.id", "app")]);
        for (key, value) in &self.options {
            properties.set(*key, *value);
        }
        let config = DeltaSinkConfig::from_properties(&properties)?;
        let store = Store::over(Arc::clone(faults) as Arc<dyn ObjectStore>, BASE)?;
        let mut harness = SinkHarness::start(Box::new(DeltaSinkTask::new(config, store))).await?;
        let partitions = self.partitions.iter().map(|number| (TopicPartition::new(TOPIC, *number), -1));
        // No committed offsets: what is in the table is all that the next process knows.
        let mut next = harness.open(&partitions.collect()).await?;
        loop {
            let (partition, from) = {
                let behind: Vec<_> = next.iter().filter(|(_, offset)| **offset < self.end).collect();
                match behind.len() {
                    0 => {
                        let durable = harness.flush(FlushReason::CaughtUp).await?;
                        self.take_rewinds(&mut harness, &mut next, seen);
                        if durable.values().all(|offset| *offset == self.end) && next.values().all(|n| *n == self.end) {
                            break;
                        }
                        continue;
                    }
                    n => behind[random.below(n as u64) as usize],
                }
            };
            let (partition, from) = (partition.clone(), *from);
            let to = (from + 1 + random.below(6) as i64).min(self.end);
            harness.put(sink_batch(&partition, from..to, to)).await?;
            next.insert(partition, to);
            self.take_rewinds(&mut harness, &mut next, seen);
            if random.below(2) == 0 {
                let reason = if random.below(2) == 0 { FlushReason::CaughtUp } else { FlushReason::Pressure };
                harness.flush(reason).await?;
                self.take_rewinds(&mut harness, &mut next, seen);
            }
        }
        // What runs beside the ingest counts until the task has stopped.
        harness.stop().await?;
        for (name, n) in harness.counts() {
            *seen.counts.entry(name).or_default() += n;
        }
        Ok(End::Done)
    }

    fn take_rewinds(&self, harness: &mut SinkHarness, next: &mut Positions, seen: &mut Seen) {
        for (partition, offset) in harness.take_rewinds() {
            seen.rewinds += 1;
            next.insert(partition, offset);
        }
    }
}

/// Compares every row of the table, as a reader finds it now and as its versions brought it, with what the lanes were given.
pub async fn check(store: &Arc<dyn ObjectStore>, partitions: &[i32], end: i64) -> Result<(), String> {
    let log_store = Store::over(Arc::clone(store), BASE).and_then(|store| store.log_store(TOPIC)).expect("a store");
    let expected: Vec<String> = {
        let mut all: Vec<_> = partitions
            .iter()
            .flat_map(|number| (0..end).map(|offset| sink_value(&TopicPartition::new(TOPIC, *number), offset)))
            .collect();
        all.sort();
        all
    };
    let (_, stream) = open(&log_store).await.scan_table().await.map_err(|error| error.to_string())?;
    let batches: Vec<RecordBatch> = stream.try_collect().await.map_err(|error| error.to_string())?;
    let mut found: Vec<String> = batches.iter().flat_map(texts).collect();
    found.sort();
    let order = check_order(&log_store, partitions, end).await;
    match (compare(&expected, &found), order) {
        (Ok(()), Ok(())) => Ok(()),
        (rows, order) => {
            let log = history(&log_store).await;
            Err(format!("rows: {rows:?}; order: {order:?}; the log:\n{log}"))
        }
    }
}

fn compare(expected: &[String], found: &[String]) -> Result<(), String> {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for text in expected {
        *counts.entry(text).or_default() -= 1;
    }
    for text in found {
        *counts.entry(text).or_default() += 1;
    }
    let wrong: Vec<_> = counts.iter().filter(|(_, n)| **n != 0).take(5).collect();
    if wrong.is_empty() { Ok(()) } else { Err(format!("rows are missing (-) or too many (+): {wrong:?}")) }
}

/// Every version takes up each partition where the version before left it.
async fn check_order(log_store: &LogStoreRef, partitions: &[i32], end: i64) -> Result<(), String> {
    let store = log_store.object_store(None);
    let mut next: BTreeMap<i64, i64> = partitions.iter().map(|number| (i64::from(*number), 0)).collect();
    let newest = open(log_store).await.version().expect("loaded");
    for version in 0..=newest {
        let path = Path::from(format!("_delta_log/{version:020}.json"));
        let text = store.get(&path).await.expect("a version").bytes().await.expect("a version");
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let action: serde_json::Value = serde_json::from_slice(line).expect("JSON");
            let add = &action["add"];
            if add["dataChange"] != true {
                continue;
            }
            let file = Path::from(add["path"].as_str().expect("a path"));
            // A file that a vacuum or a compaction has removed can't be checked here.
            let Ok(found) = store.get(&file).await else { continue };
            let reader = ParquetRecordBatchReaderBuilder::try_new(found.bytes().await.expect("the file"));
            for batch in reader.expect("Parquet").build().expect("Parquet") {
                let batch = batch.expect("Parquet");
                let column =
                    |name: &str| batch.column_by_name(name).expect("a column").as_primitive::<Int64Type>().clone();
                for (partition, offset) in column("partition").values().iter().zip(column("offset").values()) {
                    let next = next.get_mut(partition).ok_or_else(|| format!("a row of partition {partition}"))?;
                    if next != offset {
                        return Err(format!(
                            "version {version}: partition {partition} goes on at {offset}, not {next}"
                        ));
                    }
                    *next += 1;
                }
            }
        }
    }
    match next.iter().find(|(_, next)| **next != end) {
        None => Ok(()),
        Some((partition, next)) => Err(format!("partition {partition} ends at {next}, not {end}")),
    }
}

/// The versions of the table without their statistics, for a person who looks for a mistake.
async fn history(log_store: &LogStoreRef) -> String {
    let mut text = String::new();
    for version in 0..=open(log_store).await.version().expect("loaded") {
        let path = Path::from(format!("_delta_log/{version:020}.json"));
        let bytes = log_store.object_store(None).get(&path).await.expect("a version").bytes().await.expect("a version");
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let action: serde_json::Value = serde_json::from_slice(line).expect("JSON");
            let said = match &action {
                action if action["add"].is_object() => format!("add {}", action["add"]["stats"]),
                action => action.to_string(),
            };
            text.push_str(&format!("{version}: {said}\n"));
        }
    }
    text
}

/// The rows of a batch as the values that the records had.
fn texts(batch: &RecordBatch) -> Vec<String> {
    let number = |name: &str| batch.column_by_name(name).expect("a column").as_primitive::<Int64Type>().clone();
    let text = |name: &str| {
        arrow::compute::cast(batch.column_by_name(name).expect("a column"), &arrow::datatypes::DataType::Utf8)
    };
    let (topic, note) = (text("topic").expect("text"), text("text").expect("text"));
    let (topic, note) = (topic.as_string::<i32>(), note.as_string::<i32>());
    let (partition, offset) = (number("partition"), number("offset"));
    (0..batch.num_rows())
        .map(|row| {
            let mut value = Map::new();
            value.push("topic", topic.value(row));
            value.push("partition", partition.value(row));
            value.push("offset", offset.value(row));
            value.push("text", note.value(row));
            ottla_api::data::json::to_string(&Value::Map(value))
        })
        .collect()
}
