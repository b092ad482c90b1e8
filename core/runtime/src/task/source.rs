//! The source path: poll, transform, convert, produce, acknowledge, commit.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use ottla_api::Result;
use ottla_api::offset::{SourceOffset, SourceOffsets, SourcePartition};
use ottla_api::record::SourceRecord;
use ottla_api::source::{SourcePoll, SourceTask, SourceTaskContext, SourceTaskHost};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::TaskEnd;
use super::conversion::Conversion;
use super::transformation_chain::TransformationChain;
use crate::broker::{OffsetStore, Producer, ProducerRecord};
use crate::errors::retry::retry;
use crate::errors::{ErrorHandler, Failure, Stage};
use crate::status::{ConnectorStatus, TaskState, TaskStatus};

/// Runs one source task.
pub struct WorkerSourceTask {
    /// Name of the connector.
    pub connector: Arc<str>,
    /// The connector's task.
    pub task: Box<dyn SourceTask>,
    /// Writes to the topics.
    pub producer: Box<dyn Producer>,
    /// Holds the durable offsets.
    pub offsets: Arc<dyn OffsetStore>,
    /// Data to bytes.
    pub conversion: Conversion,
    /// What happens to each record before that.
    pub chain: TransformationChain,
    /// What follows from a record's failure.
    pub errors: ErrorHandler,
    /// The connector's counters.
    pub status: Arc<ConnectorStatus>,
    /// This task's state.
    pub task_status: Arc<TaskStatus>,
    /// The worker's state folder.
    pub state_dir: PathBuf,
    /// Asks the task to stop.
    pub stop: CancellationToken,
}

impl WorkerSourceTask {
    /// Runs until the source ends, a stop is asked for, or an error can't be retried.
    pub async fn run(mut self) -> Result<TaskEnd> {
        let outcome = self.run_until_end().await;
        if let Err(error) = self.task.stop().await {
            warn!(error = %error, "the source did not stop cleanly");
        }
        outcome
    }

    async fn run_until_end(&mut self) -> Result<TaskEnd> {
        if !self.start().await? {
            return Ok(TaskEnd::Stopped);
        }
        self.task_status.set(TaskState::Running);
        loop {
            let begun = Instant::now();
            let delivered = match self.poll().await? {
                Some(SourcePoll::Records(records)) if records.is_empty() => true,
                Some(SourcePoll::Records(records)) => self.deliver(records).await?,
                Some(SourcePoll::Offsets(reached)) => self.store(Vec::new(), &reached).await?,
                Some(SourcePoll::CaughtUp) => {
                    self.task_status.caught_up(begun);
                    true
                }
                Some(SourcePoll::Finished) => return Ok(TaskEnd::Finished),
                None => false,
            };
            if !delivered {
                return Ok(TaskEnd::Stopped);
            }
        }
    }

    /// Starts the connector's task. False where a stop came first.
    async fn start(&mut self) -> Result<bool> {
        let host = Arc::new(SourceHost {
            connector: Arc::clone(&self.connector),
            task: self.task_status.number,
            offsets: Arc::clone(&self.offsets),
            status: Arc::clone(&self.status),
        });
        let context =
            SourceTaskContext::new(Arc::clone(&self.connector), self.task_status.number, self.state_dir.clone(), host);
        let started = retry!("start", &self.task_status, &self.stop, self.task.start(&context));
        Ok(started?.is_some())
    }

    /// Polls until there is something. Nothing where a stop came first.
    async fn poll(&mut self) -> Result<Option<SourcePoll>> {
        let polled = async { retry!("poll", &self.task_status, &self.stop, self.task.poll()) };
        tokio::select! {
            biased;
            // Dropping a poll loses nothing.
            () = self.stop.cancelled() => Ok(None),
            polled = polled => polled,
        }
    }

    /// Takes one polled batch all the way. False where a stop came before it was durable.
    async fn deliver(&mut self, records: Vec<SourceRecord>) -> Result<bool> {
        let mut batch = Vec::with_capacity(records.len());
        let mut reached = SourceOffsets::new();
        let mut failed = None;
        let counters = &self.status.counters;
        for SourceRecord { record, source_partition, source_offset } in records {
            counters.read.fetch_add(1, Relaxed);
            let transformed = self.chain.apply(record);
            let converted = match transformed {
                Ok(Some(record)) => self.conversion.from_connect(&record).map(Some),
                Ok(None) => Ok(None),
                Err(failure) => Err(failure),
            };
            match converted {
                Ok(Some(record)) => {
                    let length = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
                    counters.bytes.fetch_add((length(&record.key) + length(&record.value)) as u64, Relaxed);
                    batch.push(record);
                }
                Ok(None) => {
                    counters.dropped.fetch_add(1, Relaxed);
                }
                Err(failure) => {
                    let place = format!("{source_partition} {}", source_offset.to_json());
                    if let Err(error) = self.errors.source_record(&place, failure) {
                        failed = Some(error);
                        break;
                    }
                }
            }
            // Also after a record that was dropped: otherwise a source of dropped records is read again for ever.
            reached.insert(source_partition, source_offset);
        }
        // What came before a record that fails the task is delivered first, so that a restart begins at that record.
        if !self.store(batch, &reached).await? {
            return Ok(false);
        }
        failed.map_or(Ok(true), Err)
    }

    /// Makes records and offsets durable and tells the task so. False where a stop came first.
    async fn store(&mut self, batch: Vec<ProducerRecord>, reached: &SourceOffsets) -> Result<bool> {
        if !self.produce(batch, reached).await? {
            return Ok(false);
        }
        if reached.is_empty() {
            return Ok(true);
        }
        let told = retry!("commit", &self.task_status, &self.stop, self.task.commit(reached));
        Ok(told?.is_some())
    }

    /// Makes records and offsets durable (G1: the offsets only together with, or after, every record before them). False
    /// where a stop came first.
    async fn produce(&mut self, batch: Vec<ProducerRecord>, reached: &SourceOffsets) -> Result<bool> {
        let sent =
            retry!("produce", &self.task_status, &self.stop, self.producer.send(&batch, reached, &self.connector));
        let Some(results) = sent? else { return Ok(false) };
        let mut refused = false;
        for (record, result) in batch.iter().zip(results) {
            match result {
                Ok(_) => {
                    self.status.counters.written.fetch_add(1, Relaxed);
                }
                Err(error) => {
                    refused = true;
                    let failure = Failure::new(Stage::KafkaProduce, "producer", error);
                    self.errors.source_record(&record.topic, failure)?;
                }
            }
        }
        if refused {
            // Tolerated: the producer held the offsets back, so that they could still be refused here.
            self.offsets.put(&self.connector, reached)?;
        }
        Ok(true)
    }
}

impl std::fmt::Debug for WorkerSourceTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WorkerSourceTask({}-{})", self.connector, self.task_status.number)
    }
}

struct SourceHost {
    connector: Arc<str>,
    task: usize,
    offsets: Arc<dyn OffsetStore>,
    status: Arc<ConnectorStatus>,
}

impl SourceTaskHost for SourceHost {
    fn offset(&self, partition: &SourcePartition) -> Result<Option<SourceOffset>> {
        self.offsets.get(&self.connector, partition)
    }

    fn count(&self, name: &'static str, n: u64) {
        tracing::trace!(connector = %self.connector, name, n, "count");
        self.status.count(name, n);
    }

    fn gauge(&self, name: &'static str, value: u64) {
        self.status.gauge(self.task, name, value);
    }
}
