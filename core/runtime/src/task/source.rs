//! The source path: poll, transform, convert, produce, acknowledge, commit.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use ottla_api::offset::{SourceOffset, SourceOffsets, SourcePartition};
use ottla_api::record::SourceRecord;
use ottla_api::source::{SourcePoll, SourceTask, SourceTaskContext, SourceTaskHost};
use ottla_api::{Error, Result};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::TaskEnd;
use super::conversion::Conversion;
use super::transformation_chain::TransformationChain;
use crate::broker::{OffsetStore, Producer, ProducerRecord};
use crate::errors::retry::retry;
use crate::errors::{ErrorHandler, Failure, Stage};
use crate::status::{ConnectorStatus, TaskState, TaskStatus};

/// Records and their bytes that a transaction gathers at most, whatever its interval: they are held in memory, and have to be
/// written before the broker gives the transaction up.
const GATHERED_RECORDS_MAX: usize = 20_000;
const GATHERED_BYTES_MAX: usize = 8 << 20;

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
    /// How long batches are gathered into one send (`transaction.boundary = interval`); none sends each by itself.
    pub gather: Option<Duration>,
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
        let mut gathered = Gathered::default();
        loop {
            let begun = Instant::now();
            let polled = match gathered.until {
                Some(until) => match tokio::time::timeout_at(until, self.poll()).await {
                    Ok(polled) => polled?,
                    // Dropping a poll loses nothing.
                    Err(_) => {
                        if !self.store_gathered(&mut gathered).await? {
                            return Ok(TaskEnd::Stopped);
                        }
                        continue;
                    }
                },
                None => self.poll().await?,
            };
            let delivered = match polled {
                Some(SourcePoll::Records(records)) if records.is_empty() => true,
                Some(SourcePoll::Records(records)) => self.deliver(records, &mut gathered).await?,
                Some(SourcePoll::Offsets(reached)) => self.gather(Vec::new(), reached, &mut gathered).await?,
                Some(SourcePoll::CaughtUp) => {
                    let stored = self.store_gathered(&mut gathered).await?;
                    if stored {
                        self.task_status.caught_up(begun);
                    }
                    stored
                }
                Some(SourcePoll::Finished) => match self.store_gathered(&mut gathered).await? {
                    true => return Ok(TaskEnd::Finished),
                    false => false,
                },
                // What was gathered is not sent: nothing of it is stored, so it is read again.
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
    async fn deliver(&mut self, records: Vec<SourceRecord>, gathered: &mut Gathered) -> Result<bool> {
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
                    counters.bytes.fetch_add(size_of(&record) as u64, Relaxed);
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
        if !self.gather(batch, reached, gathered).await? {
            return Ok(false);
        }
        match failed {
            Some(error) if self.store_gathered(gathered).await? => Err(error),
            Some(_) => Ok(false),
            None => Ok(true),
        }
    }

    /// Makes records and offsets durable, at once or when the transaction's time has come. False where a stop came first.
    async fn gather(
        &mut self,
        batch: Vec<ProducerRecord>,
        reached: SourceOffsets,
        gathered: &mut Gathered,
    ) -> Result<bool> {
        let Some(interval) = self.gather else { return self.store(batch, &reached).await };
        let now = tokio::time::Instant::now();
        let until = *gathered.until.get_or_insert(now + interval);
        gathered.bytes += batch.iter().map(size_of).sum::<usize>();
        gathered.records.extend(batch);
        gathered.reached.extend(reached);
        let full = gathered.records.len() >= GATHERED_RECORDS_MAX || gathered.bytes >= GATHERED_BYTES_MAX;
        if full || now >= until { self.store_gathered(gathered).await } else { Ok(true) }
    }

    async fn store_gathered(&mut self, gathered: &mut Gathered) -> Result<bool> {
        let Gathered { records, reached, until, .. } = std::mem::take(gathered);
        if until.is_none() {
            return Ok(true);
        }
        self.store(records, &reached).await
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
    async fn produce(&mut self, mut batch: Vec<ProducerRecord>, reached: &SourceOffsets) -> Result<bool> {
        loop {
            let sent =
                retry!("produce", &self.task_status, &self.stop, self.producer.send(&batch, reached, &self.connector));
            let Some(results) = sent? else { return Ok(false) };
            let refused = results.iter().any(Result::is_err);
            if refused && self.producer.all_or_nothing() {
                // Nothing is written. Tolerated, the rest goes without them; otherwise the task ends before the batch.
                let mut rest = Vec::with_capacity(batch.len());
                for (record, result) in batch.into_iter().zip(results) {
                    match result {
                        Ok(_) => rest.push(record),
                        Err(error) => self.refused(&record, error)?,
                    }
                }
                batch = rest;
                continue;
            }
            for (record, result) in batch.iter().zip(results) {
                match result {
                    Ok(_) => {
                        self.status.counters.written.fetch_add(1, Relaxed);
                    }
                    Err(error) => self.refused(record, error)?,
                }
            }
            if refused {
                // Tolerated: the producer held the offsets back, so that they could still be refused here.
                self.offsets.put(&self.connector, reached)?;
            }
            return Ok(true);
        }
    }

    /// The broker does not take a record: an error where that is not tolerated.
    fn refused(&self, record: &ProducerRecord, error: Error) -> Result<()> {
        self.errors.source_record(&record.topic, Failure::new(Stage::KafkaProduce, "producer", error))
    }
}

/// Batches that become one transaction.
#[derive(Default)]
struct Gathered {
    records: Vec<ProducerRecord>,
    reached: SourceOffsets,
    bytes: usize,
    /// When it is written at the latest; none while there is nothing.
    until: Option<tokio::time::Instant>,
}

fn size_of(record: &ProducerRecord) -> usize {
    let length = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
    length(&record.key) + length(&record.value)
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
