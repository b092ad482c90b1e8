//! Sinks: from topics into another system.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::config::{ConfigError, Properties};
use crate::error::{Error, Result};
use crate::offset::{Positions, TopicPartition};
use crate::record::{SinkBatch, SinkRecord};

/// A configured sink: checks its configuration and makes tasks. It moves no data itself.
///
/// # Lifecycle
///
/// 1. The plugin's constructor makes it.
/// 2. [`validate`](Self::validate) checks what a single option's definition can't.
/// 3. [`task`](Self::task) is called once per task; the tasks share the topics' partitions through the consumer group.
pub trait SinkConnector: Send + Sync {
    /// Checks the properties as a whole. Pure; connects to nothing; reports every mistake at once.
    fn validate(&self, _properties: &Properties) -> Vec<ConfigError> {
        Vec::new()
    }

    /// Makes one task.
    fn task(&self, properties: &Properties) -> Result<Box<dyn SinkTask>>;

    /// Where the data lies, for the table at the end of a run, such as `s3://posts/topics`.
    fn destination(&self, _properties: &Properties) -> Option<String> {
        None
    }
}

/// Writes to a system. One runtime loop drives it; no two calls overlap.
///
/// # Lifecycle
///
/// 1. [`start`](Self::start) once.
/// 2. [`open`](Self::open) when partitions are given to this task.
/// 3. [`put`](Self::put) and [`flush`](Self::flush) for open partitions, in any order; [`tick`](Self::tick) about once a
///    second.
/// 4. [`close`](Self::close) when partitions are taken. Other partitions stay open and go on.
/// 5. [`stop`](Self::stop) once, after all partitions were closed, also after an error.
///
/// A task that failed is not used again: the runtime makes a new one, which starts from the committed offsets.
///
/// # Delivery
///
/// The runtime commits an offset only when [`flush`](Self::flush) has reported it (G2). The destination is the truth, the
/// committed offset a hint (G3): `open` may answer with better positions than the committed ones, and a record may be
/// delivered again after a restart or a rebalance. Whether that shows in the destination is the sink's promise, stated in
/// its README.
///
/// # Errors
///
/// | Kind | What the runtime does |
/// |---|---|
/// | retriable (three kinds) | waits with growing, jittered pauses, then makes the same call again with the same arguments; partitions are paused meanwhile |
/// | `PoisonRecord` | fails the task; report single bad records through [`SinkTaskContext::report`] instead and go on |
/// | `Config`, `Fatal` | fails the task |
///
/// So `put` that returns a retriable error must have accepted either nothing of the batch, or remember what it accepted and
/// skip it (by offset) when the batch comes again. If a stop comes first, the batch does not come again; what was accepted of
/// it may be durable by then, and `flush` may say so.
/// # Example
///
/// A sink whose destination keeps the offset beside the records, so that it can tell by itself how far it is:
///
/// ```
/// use std::collections::BTreeMap;
/// use std::sync::{Arc, Mutex};
/// use async_trait::async_trait;
/// use ottla_api::prelude::*;
///
/// /// Some database. One call stores values and the offset behind them, or neither.
/// #[derive(Default)]
/// struct Database(Mutex<BTreeMap<TopicPartition, (Vec<Value>, i64)>>);
///
/// impl Database {
///     fn store(&self, partition: &TopicPartition, values: Vec<Value>, next_offset: i64) {
///         let mut tables = self.0.lock().unwrap();
///         let (table, offset) = tables.entry(partition.clone()).or_default();
///         table.extend(values);
///         *offset = next_offset;
///     }
///
///     fn offset(&self, partition: &TopicPartition) -> i64 {
///         self.0.lock().unwrap().get(partition).map_or(0, |(_, offset)| *offset)
///     }
/// }
///
/// struct DatabaseTask {
///     database: Arc<Database>,
///     context: Option<SinkTaskContext>,
///     stored: Positions,
/// }
///
/// #[async_trait]
/// impl SinkTask for DatabaseTask {
///     async fn start(&mut self, context: &SinkTaskContext) -> Result<()> {
///         self.context = Some(context.clone());
///         Ok(())
///     }
///
///     async fn open(&mut self, committed: &Positions) -> Result<Positions> {
///         let found: Positions = committed.keys().map(|p| (p.clone(), self.database.offset(p))).collect();
///         self.stored.extend(found.clone());
///         Ok(found)
///     }
///
///     async fn put(&mut self, batch: &SinkBatch) -> Result<()> {
///         let mut values = Vec::new();
///         for record in batch.records_from(self.stored[&batch.partition]) {
///             match record.record.value.decoded()?.into_owned() {
///                 // One bad record: it goes to the dead letter queue, and the others go on.
///                 Value::Null => {
///                     let context = self.context.as_ref().ok_or_else(|| Error::fatal("not started"))?;
///                     context.report(&batch.partition, record, Error::data("a tombstone means nothing here"))?;
///                 }
///                 value => values.push(value),
///             }
///         }
///         self.database.store(&batch.partition, values, batch.next_offset);
///         self.stored.insert(batch.partition.clone(), batch.next_offset);
///         Ok(())
///     }
///
///     async fn flush(&mut self, _reason: FlushReason) -> Result<Positions> {
///         Ok(self.stored.clone()) // Whatever was put is durable already.
///     }
///
///     async fn close(&mut self, partitions: &[TopicPartition], _reason: CloseReason) -> Result<()> {
///         self.stored.retain(|partition, _| !partitions.contains(partition));
///         Ok(())
///     }
/// }
/// ```
#[async_trait]
pub trait SinkTask: Send {
    /// Connects. A missing bucket or a refused password shows here.
    async fn start(&mut self, context: &SinkTaskContext) -> Result<()>;

    /// Takes over partitions. `committed` holds the position of each as the consumer group has it, or -1 for none yet. The
    /// answer holds better positions where the destination knows them; for the others the committed ones stand.
    async fn open(&mut self, committed: &Positions) -> Result<Positions>;

    /// Accepts records; they need not be durable yet. May wait while too many writes are in progress: fetching from the
    /// broker goes on beside it, bounded by the memory budget.
    async fn put(&mut self, batch: &SinkBatch) -> Result<()>;

    /// Says what is durable: per open partition the position before which every record is durable or needs no delivery. For
    /// some reasons it makes more durable first, see [`FlushReason`].
    async fn flush(&mut self, reason: FlushReason) -> Result<Positions>;

    /// Gives partitions up. After `Revoked` and `Stopped` the runtime has called `flush` just before; after `Lost` somebody
    /// else owns the partitions already: drop everything and write nothing.
    async fn close(&mut self, partitions: &[TopicPartition], reason: CloseReason) -> Result<()>;

    /// Time passes. Called about once a second while nothing else is; for rotation by the clock.
    async fn tick(&mut self) -> Result<()> {
        Ok(())
    }

    /// Lets go of connections. Nothing is called afterwards.
    async fn stop(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Why [`SinkTask::flush`] is called, which says how much it should make durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushReason {
    /// `offset.flush.interval.ms` has passed: report, don't wait, cut nothing short.
    Interval,
    /// The memory budget is used up: make the largest buffers durable, wait for that, and report.
    Pressure,
    /// Partitions are about to be closed: wait for writes in progress, start no new ones, and report.
    Closing,
    /// The run ends when everything so far is durable (`--until caught-up`): finish also what is only partly filled, wait
    /// for it, and report.
    CaughtUp,
}

/// Why [`SinkTask::close`] is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The group gives the partitions to another task; it waits until this call returns.
    Revoked,
    /// The worker or the connector stops.
    Stopped,
    /// The group has given the partitions away without waiting (this task was thought dead).
    Lost,
}

/// One thing that a sink has made durable: an object, a file, a commit. Feeds the run's counters and its final table.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Where it lies, as a user would open it: `file:/lake/posts/topics/..`, `s3://bucket/key`.
    pub location: String,
    /// How many records it holds.
    pub records: u64,
    /// How many bytes it takes at the destination.
    pub bytes: u64,
    /// The beginning of its first record, for a person to look at; a few hundred bytes at most.
    pub sample: Option<String>,
}

/// What the runtime gives a sink task.
#[derive(Clone)]
pub struct SinkTaskContext {
    /// Name of the connector.
    pub connector: Arc<str>,
    /// Number of the task, from 0.
    pub task: usize,
    /// The worker's folder for state that a connector derives and can make again.
    pub state_dir: PathBuf,
    host: Arc<dyn SinkTaskHost>,
}

impl SinkTaskContext {
    /// Made by the runtime, and by test harnesses.
    pub fn new(connector: impl Into<Arc<str>>, task: usize, state_dir: PathBuf, host: Arc<dyn SinkTaskHost>) -> Self {
        Self { connector: connector.into(), task, state_dir, host }
    }

    /// What tells this topic from another one of the same name: a topic that is made anew, or lies in another state folder,
    /// has another identity, and its offsets mean other records. Nothing where the broker has no such thing, or for a topic
    /// without open partitions.
    pub fn topic_identity(&self, topic: &str) -> Option<String> {
        self.host.topic_identity(topic)
    }

    /// Reports a record that can't be written (Kafka Connect: `ErrantRecordReporter`). The runtime logs it, sends it to the
    /// dead letter queue as it came, and counts it; its offset is committed only after the queue has it.
    ///
    /// # Errors
    ///
    /// With `errors.tolerance = none`: return that error from the method that reported.
    pub fn report(&self, partition: &TopicPartition, record: &SinkRecord, error: Error) -> Result<()> {
        self.host.report(partition, record, error)
    }

    /// Says how many bytes this task holds in memory now, all partitions together. The runtime adds up all tasks' and calls
    /// `flush(Pressure)` on the largest when `worker.memory.max` is used up (G7).
    pub fn buffered(&self, bytes: usize) {
        self.host.buffered(bytes);
    }

    /// Asks for the records of a partition again from `offset` on. Batches already on their way are discarded; the next
    /// `put` for this partition starts at `offset` (or behind it, where there is a gap).
    pub fn rewind(&self, partition: &TopicPartition, offset: i64) {
        self.host.rewind(partition, offset);
    }

    /// Tells that something is durable.
    pub fn delivered(&self, delivery: Delivery) {
        self.host.delivered(delivery);
    }

    /// Adds to a counter of this task that is shown in metrics and in the final table, such as `objects.adopted`.
    pub fn count(&self, name: &'static str, n: u64) {
        self.host.count(name, n);
    }

    /// Sets a value of this task that goes up and down and is shown in metrics.
    pub fn gauge(&self, name: &'static str, value: u64) {
        self.host.gauge(name, value);
    }
}

impl fmt::Debug for SinkTaskContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SinkTaskContext({}-{})", self.connector, self.task)
    }
}

/// The runtime's side of [`SinkTaskContext`].
pub trait SinkTaskHost: Send + Sync {
    /// See [`SinkTaskContext::report`].
    fn report(&self, partition: &TopicPartition, record: &SinkRecord, error: Error) -> Result<()>;
    /// See [`SinkTaskContext::buffered`].
    fn buffered(&self, bytes: usize);
    /// See [`SinkTaskContext::rewind`].
    fn rewind(&self, partition: &TopicPartition, offset: i64);
    /// See [`SinkTaskContext::delivered`].
    fn delivered(&self, delivery: Delivery);
    /// See [`SinkTaskContext::count`].
    fn count(&self, name: &'static str, n: u64);
    /// See [`SinkTaskContext::gauge`].
    fn gauge(&self, name: &'static str, value: u64);
    /// See [`SinkTaskContext::topic_identity`].
    fn topic_identity(&self, topic: &str) -> Option<String>;
}
