//! Drives the tasks of `rds-source` without a worker.

#![allow(dead_code, unreachable_pub)] // Each test file uses a part of it.

pub mod proxy;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use ottla_api::data::json;
use ottla_api::plugin::Constructor;
use ottla_api::prelude::*;
use ottla_api::source::SourceTaskHost;

/// The worker's side: offsets that were stored, counters that were raised.
#[derive(Default)]
pub struct Host {
    pub offsets: Mutex<SourceOffsets>,
    pub counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl SourceTaskHost for Host {
    fn offset(&self, partition: &SourcePartition) -> Result<Option<SourceOffset>> {
        Ok(self.offsets.lock().unwrap().get(partition).cloned())
    }

    fn count(&self, name: &'static str, n: u64) {
        *self.counts.lock().unwrap().entry(name).or_default() += n;
    }

    fn gauge(&self, _name: &'static str, _value: u64) {}
}

impl Host {
    /// Stores the offset of a record, as after its acknowledgement.
    pub fn store(&self, record: &SourceRecord) {
        self.offsets.lock().unwrap().insert(record.source_partition.clone(), record.source_offset.clone());
    }

    pub fn count_of(&self, name: &str) -> u64 {
        self.counts.lock().unwrap().get(name).copied().unwrap_or_default()
    }
}

pub fn connector() -> Box<dyn SourceConnector> {
    let plugin = ottla_connector_rds::PLUGINS[0];
    match plugin.constructor {
        Constructor::Source(make) => make(),
        _ => panic!("not a source"),
    }
}

pub fn properties(pairs: &[(&str, &str)]) -> Properties {
    pairs.iter().copied().collect()
}

/// The properties of an emulation over the three tables, and what is added to them.
pub fn emulate(url: &str, more: &[(&str, &str)]) -> Properties {
    let mut all = properties(&[
        ("connection.url", url),
        ("mode", "emulate"),
        ("emulate.pace", "none"),
        ("emulate.topics.pinterest_data", "t.pin"),
        ("emulate.topics.geolocation_data", "t.geo"),
        ("emulate.topics.user_data", "t.user"),
    ]);
    for (key, value) in more {
        all.set(*key, *value);
    }
    all
}

/// The first task of these properties, not started.
pub fn task(properties: &Properties) -> Box<dyn SourceTask> {
    connector().tasks(properties, 1).unwrap().remove(0)
}

pub async fn started(properties: &Properties, host: &Arc<Host>, state: &Path) -> Result<Box<dyn SourceTask>> {
    let mut task = task(properties);
    task.start(&SourceTaskContext::new("c", 0, state.to_owned(), host.clone())).await?;
    Ok(task)
}

/// All records until the source ends.
pub async fn drain(task: &mut Box<dyn SourceTask>) -> Vec<SourceRecord> {
    let mut all = Vec::new();
    loop {
        match task.poll().await.unwrap() {
            SourcePoll::Records(records) => all.extend(records),
            SourcePoll::Finished => return all,
            other => panic!("{other:?}"),
        }
    }
}

/// Starts a task from nothing, takes all it yields, and stops it.
pub async fn run(properties: &Properties, state: &Path) -> Vec<SourceRecord> {
    let mut task = started(properties, &Arc::default(), state).await.unwrap();
    let records = drain(&mut task).await;
    task.stop().await.unwrap();
    records
}

/// Topic and value as JSON.
pub fn text(record: &SourceRecord) -> String {
    let mut value = Vec::new();
    record.record.value.write_json(&json::WriteOptions::default(), &mut value);
    format!("{} {}", record.record.topic, String::from_utf8(value).unwrap())
}

pub fn texts(records: &[SourceRecord]) -> Vec<String> {
    records.iter().map(text).collect()
}

/// A field of a record's value.
pub fn field<'a>(record: &'a SourceRecord, name: &str) -> &'a Value {
    match &record.record.value {
        Payload::Data { value, .. } => value.field(name).unwrap_or_else(|| panic!("no field {name} in {value:?}")),
        Payload::Json(_) => panic!("text"),
    }
}

/// Runs statements in a SQLite file, made where there is none.
pub async fn sql(url: &str, statements: &[&str]) {
    use sqlx::ConnectOptions;
    let options: sqlx::sqlite::SqliteConnectOptions = url.parse().unwrap();
    let mut connection = options.create_if_missing(true).connect().await.unwrap();
    for statement in statements {
        sqlx::query(sqlx::AssertSqlSafe(*statement)).execute(&mut connection).await.unwrap();
    }
    sqlx::Connection::close(connection).await.unwrap();
}
