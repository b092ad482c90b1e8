//! Sources: from another system into topics.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::config::{ConfigError, Properties};
use crate::error::Result;
use crate::offset::{SourceOffset, SourceOffsets, SourcePartition};
use crate::record::SourceRecord;

/// A configured source: checks its configuration and divides the work into tasks. It moves no data itself.
///
/// # Lifecycle
///
/// 1. The plugin's constructor makes it.
/// 2. [`validate`](Self::validate) checks what a single option's definition can't; the definition itself was checked before.
/// 3. [`tasks`](Self::tasks) divides the work.
pub trait SourceConnector: Send + Sync {
    /// Checks the properties as a whole: options that exclude or need each other. Pure; connects to nothing; reports every
    /// mistake at once.
    fn validate(&self, _properties: &Properties) -> Vec<ConfigError> {
        Vec::new()
    }

    /// Makes between one and `tasks_max` tasks that share the work. No two tasks may read the same source partition.
    fn tasks(&self, properties: &Properties, tasks_max: usize) -> Result<Vec<Box<dyn SourceTask>>>;
}

/// Reads from a system. One runtime loop drives it; no two calls overlap.
///
/// # Lifecycle
///
/// 1. [`start`](Self::start) once.
/// 2. [`poll`](Self::poll) again and again. Between polls, [`commit`](Self::commit) after offsets became durable.
/// 3. [`stop`](Self::stop) once, also after an error of `poll`.
///
/// A task that failed is not used again: the runtime makes a new one, which starts from the durable offsets.
///
/// # Errors
///
/// A retriable error of `start` or `poll` makes the runtime wait, with growing and jittered pauses, and call again; the
/// status says why. Any other error fails the task.
#[async_trait]
pub trait SourceTask: Send {
    /// Connects, and takes up the place where the durable offsets say ([`SourceTaskContext::offset`]).
    async fn start(&mut self, context: &SourceTaskContext) -> Result<()>;

    /// Waits for something and returns it, a batch at a time.
    ///
    /// **Cancellation.** The runtime drops the future to stop the task or to pause it, and may poll again afterwards: a
    /// record that was taken from the source but not returned must be returned by the next call.
    async fn poll(&mut self) -> Result<SourcePoll>;

    /// Tells what has become durable: the broker acknowledged every record up to these offsets, and the offsets themselves
    /// are stored. For sources that must confirm (queues, replication slots).
    async fn commit(&mut self, _durable: &SourceOffsets) -> Result<()> {
        Ok(())
    }

    /// Lets go of connections. Nothing is called afterwards.
    async fn stop(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What [`SourceTask::poll`] found.
#[derive(Debug)]
pub enum SourcePoll {
    /// Records, oldest first. May be empty: then the runtime polls again.
    Records(Vec<SourceRecord>),
    /// No record, but places that moved on all the same, such as a shard that ended empty. Stored as the offsets of records
    /// are.
    Offsets(SourceOffsets),
    /// A source without an end has returned everything that was there when this poll began. It is polled again; a task that
    /// waits inside [`poll`](SourceTask::poll) for news says so about once a second. A run that ends when it has caught up
    /// (`--until caught-up`) waits for this.
    CaughtUp,
    /// A bounded source has yielded its last record. It is not polled again.
    Finished,
}

/// What the runtime gives a source task.
#[derive(Clone)]
pub struct SourceTaskContext {
    /// Name of the connector.
    pub connector: Arc<str>,
    /// Number of the task, from 0.
    pub task: usize,
    /// The worker's folder for state that a connector derives and can make again.
    pub state_dir: PathBuf,
    host: Arc<dyn SourceTaskHost>,
}

impl SourceTaskContext {
    /// Made by the runtime, and by test harnesses.
    pub fn new(connector: impl Into<Arc<str>>, task: usize, state_dir: PathBuf, host: Arc<dyn SourceTaskHost>) -> Self {
        Self { connector: connector.into(), task, state_dir, host }
    }

    /// The newest durable offset of a source partition; nothing at the very first start. It is looked up at each call, also
    /// for partitions that other tasks of this connector read, so a task can wait until another one's work is durable.
    ///
    /// # Errors
    ///
    /// Where an offset is there and can't be read: never start from the beginning then.
    pub fn offset(&self, partition: &SourcePartition) -> Result<Option<SourceOffset>> {
        self.host.offset(partition)
    }

    /// Adds to a counter of this task that is shown in metrics and in the final table, such as `rows.missing`.
    pub fn count(&self, name: &'static str, n: u64) {
        self.host.count(name, n);
    }

    /// Sets a value of this task that goes up and down and is shown in metrics, such as `lag.ms`.
    pub fn gauge(&self, name: &'static str, value: u64) {
        self.host.gauge(name, value);
    }
}

impl fmt::Debug for SourceTaskContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceTaskContext({}-{})", self.connector, self.task)
    }
}

/// The runtime's side of [`SourceTaskContext`].
pub trait SourceTaskHost: Send + Sync {
    /// See [`SourceTaskContext::offset`].
    fn offset(&self, partition: &SourcePartition) -> Result<Option<SourceOffset>>;
    /// See [`SourceTaskContext::count`].
    fn count(&self, name: &'static str, n: u64);
    /// See [`SourceTaskContext::gauge`].
    fn gauge(&self, name: &'static str, value: u64);
}
