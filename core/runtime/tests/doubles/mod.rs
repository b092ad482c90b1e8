//! In-process doubles of the broker and of connectors' tasks: every call is written down, every answer can be scripted.

#![allow(dead_code)] // Each test binary uses a part of this.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use ottla_api::config::{Config as _, Properties};
use ottla_api::offset::{Positions, SourceOffsets, TopicPartition};
use ottla_api::plugin::{Constructor, Plugin, PluginKind};
use ottla_api::prelude::*;
use ottla_api::record::RawRecord;
use ottla_runtime::broker::{ConsumerEvent, GroupConsumer, Producer, ProducerRecord};
use ottla_runtime::config::{ConnectorConfig, ErrorsConfig, PluginConfig, StageConfig};
use ottla_runtime::plugins::{Registry, builtin};
use ottla_runtime::status::ConnectorStatus;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

/// What was called, in order, as lines a person can read.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    lines: Mutex<Vec<String>>,
    changed: Notify,
}

impl Journal {
    pub(crate) fn note(&self, line: impl Into<String>) {
        self.lines.lock().push(line.into());
        self.changed.notify_waiters();
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().clone()
    }

    pub(crate) fn count(&self, line: &str) -> usize {
        self.lines.lock().iter().filter(|noted| *noted == line).count()
    }

    /// Waits until this line is there.
    pub(crate) async fn until(&self, line: &str) {
        self.until_times(line, 1).await;
    }

    /// Waits until this line is there so many times.
    pub(crate) async fn until_times(&self, line: &str, times: usize) {
        loop {
            let changed = self.changed.notified();
            if self.count(line) >= times {
                return;
            }
            changed.await;
        }
    }
}

/// Scripted answers to one kind of call, used up one after the other; then the call does what it does by itself.
pub(crate) struct Script<F: ?Sized>(Mutex<VecDeque<Box<F>>>);

impl<F: ?Sized> Default for Script<F> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<F: ?Sized> Script<F> {
    pub(crate) fn then(&self, answer: Box<F>) {
        self.0.lock().push_back(answer);
    }

    fn next(&self) -> Option<Box<F>> {
        self.0.lock().pop_front()
    }
}

// The broker.

/// A consumer whose events a test sends.
pub(crate) struct FakeConsumer {
    pub(crate) events: mpsc::UnboundedReceiver<Result<ConsumerEvent>>,
    pub(crate) journal: Arc<Journal>,
}

#[async_trait]
impl GroupConsumer for FakeConsumer {
    async fn next(&mut self) -> Result<ConsumerEvent> {
        match self.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    async fn start_at(&mut self, positions: &Positions) -> Result<()> {
        self.journal.note(format!("start at {positions:?}"));
        Ok(())
    }

    async fn pause(&mut self, _: &[TopicPartition]) -> Result<()> {
        Ok(())
    }

    async fn resume(&mut self, _: &[TopicPartition]) -> Result<()> {
        Ok(())
    }

    async fn commit(&mut self, positions: &Positions) -> Result<()> {
        self.journal.note(format!("commit {positions:?}"));
        Ok(())
    }

    async fn release(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.journal.note(format!("release {partitions:?}"));
        Ok(())
    }

    async fn close(self: Box<Self>) -> Result<()> {
        self.journal.note("leave");
        Ok(())
    }
}

type SendAnswer = dyn FnOnce(&[ProducerRecord]) -> Result<Vec<Result<(TopicPartition, i64)>>> + Send;

/// A producer that takes everything, unless its script says otherwise.
pub(crate) struct FakeProducer {
    pub(crate) journal: Arc<Journal>,
    pub(crate) script: Arc<Script<SendAnswer>>,
}

#[async_trait]
impl Producer for FakeProducer {
    async fn send(
        &mut self,
        records: &[ProducerRecord],
        offsets: &SourceOffsets,
        _connector: &str,
    ) -> Result<Vec<Result<(TopicPartition, i64)>>> {
        let values: Vec<_> = records.iter().map(|record| text(record.value.as_ref())).collect();
        let place = |record: &ProducerRecord| Ok((TopicPartition::new(Arc::clone(&record.topic), 0), 0));
        let answer = match self.script.next() {
            Some(answer) => answer(records),
            None => Ok(records.iter().map(place).collect()),
        };
        let how = if answer.is_ok() { "send" } else { "send in vain" };
        let offsets: Vec<_> =
            offsets.iter().map(|(partition, offset)| format!("{partition}{}", offset.to_json())).collect();
        self.journal.note(format!("{how} [{}] {}", values.join(", "), offsets.join(" ")).trim_end());
        answer
    }
}

fn text(value: Option<&Bytes>) -> String {
    value.map_or("null".into(), |value| String::from_utf8_lossy(value).into_owned())
}

// A sink.

type PutAnswer = dyn FnOnce(&SinkTaskContext, &SinkBatch) -> Result<()> + Send;
type FlushAnswer = dyn FnOnce(&SinkTaskContext, &Positions) -> Result<Positions> + Send;

/// What a [`FakeSink`] answers.
#[derive(Default)]
pub(crate) struct SinkScript {
    pub(crate) open: Script<dyn FnOnce() -> Result<Positions> + Send>,
    pub(crate) put: Script<PutAnswer>,
    pub(crate) flush: Script<FlushAnswer>,
    /// Whether a flush that is not scripted reports everything that was put, or nothing.
    pub(crate) durable: Mutex<bool>,
}

/// A sink that writes down what is asked of it.
pub(crate) struct FakeSink {
    pub(crate) journal: Arc<Journal>,
    pub(crate) script: Arc<SinkScript>,
    pub(crate) context: Option<SinkTaskContext>,
    pub(crate) put: Positions,
}

#[async_trait]
impl SinkTask for FakeSink {
    async fn start(&mut self, context: &SinkTaskContext) -> Result<()> {
        self.context = Some(context.clone());
        Ok(())
    }

    async fn open(&mut self, committed: &Positions) -> Result<Positions> {
        let answer = self.script.open.next().map_or_else(|| Ok(Positions::new()), |answer| answer());
        self.journal.note(format!("open {committed:?}"));
        answer
    }

    async fn put(&mut self, batch: &SinkBatch) -> Result<()> {
        let offsets: Vec<_> = batch.records.iter().map(SinkRecord::offset).collect();
        let line = format!("put {} {offsets:?} up to {}", batch.partition, batch.next_offset);
        let context = self.context.as_ref().expect("the task is started");
        let answer = self.script.put.next().map_or(Ok(()), |answer| answer(context, batch));
        if answer.is_ok() {
            self.put.insert(batch.partition.clone(), batch.next_offset);
        }
        self.journal.note(if answer.is_ok() { line } else { format!("{line} in vain") });
        answer
    }

    async fn flush(&mut self, reason: FlushReason) -> Result<Positions> {
        let context = self.context.as_ref().expect("the task is started");
        let durable = if *self.script.durable.lock() { self.put.clone() } else { Positions::new() };
        let answer = match self.script.flush.next() {
            Some(answer) => answer(context, &self.put),
            None => Ok(durable),
        };
        if reason != FlushReason::Interval {
            self.journal.note(format!("flush {reason:?}"));
        }
        answer
    }

    async fn close(&mut self, partitions: &[TopicPartition], reason: CloseReason) -> Result<()> {
        self.put.retain(|partition, _| !partitions.contains(partition));
        self.journal.note(format!("close {partitions:?} {reason:?}"));
        Ok(())
    }

    async fn stop(&mut self) -> Result<()> {
        self.journal.note("stop");
        Ok(())
    }
}

// What stands around a task.

/// Does what a record's field `do` says: `drop` it, `fail`, or let it pass.
struct Obedient;

impl Transformation for Obedient {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        match record.value.value()?.field("do").and_then(Value::as_str) {
            Some("drop") => Ok(None),
            Some("fail") => Err(Error::data("told to fail")),
            _ => Ok(Some(record)),
        }
    }
}

fn plugin(name: &'static str, constructor: Constructor) -> Plugin {
    Plugin { name, aliases: &[], version: "1", doc: "A double.", definition: &ErrorsConfig::definition, constructor }
}

/// A connector with JSON values and the chain above.
pub(crate) fn connector(errors: &[(&str, &str)]) -> ConnectorConfig {
    let registry = Registry::new([builtin(), ottla_converters::plugins()].concat());
    let converter = || PluginConfig {
        plugin: registry.find(&[PluginKind::Converter], "json").unwrap_or_else(|_| panic!("the json converter")),
        properties: Properties::from_iter([("schemas.enable", "false")]),
    };
    let obedient = Constructor::Transformation(&|_| Ok(Box::new(Obedient)));
    ConnectorConfig {
        name: "c".to_owned(),
        plugin: plugin("double", obedient),
        properties: Properties::new(),
        tasks_max: 1,
        key_converter: converter(),
        value_converter: converter(),
        chain: vec![StageConfig {
            name: "obedient".to_owned(),
            transformation: PluginConfig { plugin: plugin("obedient", obedient), properties: Properties::new() },
            guards: Vec::new(),
        }],
        errors: ErrorsConfig::from_properties(&Properties::from_iter(errors.iter().copied())).expect("valid options"),
        sink: None,
        client: Properties::new(),
    }
}

pub(crate) fn status(kind: PluginKind) -> Arc<ConnectorStatus> {
    Arc::new(ConnectorStatus::new("c", kind, "double", None, None))
}

pub(crate) fn partition(number: i32) -> TopicPartition {
    TopicPartition::new("a", number)
}

pub(crate) fn positions(of: &[(i32, i64)]) -> Positions {
    of.iter().map(|(number, position)| (partition(*number), *position)).collect()
}

/// A batch of these offsets; `what` of a record goes into its value.
pub(crate) fn batch(
    number: i32,
    offsets: std::ops::Range<i64>,
    what: fn(i64) -> &'static str,
) -> Result<ConsumerEvent> {
    let next_offset = offsets.end;
    let record = |offset| RawRecord {
        offset,
        value: Some(format!(r#"{{"n":{offset},"do":"{}"}}"#, what(offset)).into()),
        ..RawRecord::default()
    };
    Ok(ConsumerEvent::Batch { partition: partition(number), records: offsets.map(record).collect(), next_offset })
}

// A source.

/// What a [`FakeSource`] yields, poll by poll, and then nothing more for ever.
#[derive(Default)]
pub(crate) struct SourceScript {
    pub(crate) poll: Script<dyn FnOnce() -> Result<SourcePoll> + Send>,
    pub(crate) commit: Script<dyn FnOnce() -> Result<()> + Send>,
}

/// A source that yields what a test says.
pub(crate) struct FakeSource {
    pub(crate) journal: Arc<Journal>,
    pub(crate) script: Arc<SourceScript>,
}

#[async_trait]
impl SourceTask for FakeSource {
    async fn start(&mut self, context: &SourceTaskContext) -> Result<()> {
        let offset = context.offset(&source_partition())?;
        self.journal.note(format!("start at {}", offset.map_or("the beginning".into(), |offset| offset.to_json())));
        Ok(())
    }

    async fn poll(&mut self) -> Result<SourcePoll> {
        match self.script.poll.next() {
            Some(answer) => answer(),
            None => std::future::pending().await,
        }
    }

    async fn commit(&mut self, durable: &SourceOffsets) -> Result<()> {
        let answer = self.script.commit.next().map_or(Ok(()), |answer| answer());
        let offsets: Vec<_> = durable.values().map(SourceOffset::to_json).collect();
        self.journal.note(format!("told {}{}", offsets.join(" "), if answer.is_ok() { "" } else { " in vain" }));
        answer
    }

    async fn stop(&mut self) -> Result<()> {
        self.journal.note("stop");
        Ok(())
    }
}

pub(crate) fn source_partition() -> SourcePartition {
    SourcePartition::new([("table", "t")])
}

/// Records of these offsets; `what` of a record goes into its value.
pub(crate) fn source_records(offsets: std::ops::Range<i64>, what: fn(i64) -> &'static str) -> Result<SourcePoll> {
    let record = |offset| {
        let value = Value::Map([("n", Value::Int64(offset)), ("do", Value::from(what(offset)))].into_iter().collect());
        SourceRecord::new(Record::new("a", value), source_partition(), SourceOffset::new([("n", offset)]))
    };
    Ok(SourcePoll::Records(offsets.map(record).collect()))
}
