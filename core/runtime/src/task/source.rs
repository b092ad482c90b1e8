//! The source path: poll, transform, convert, produce, acknowledge, commit.
//!
//! Two things go on at a time: the source is polled while the batch before is on its way to the broker. Batches are sent one
//! after the other, each with the offsets it reaches, so that offsets never overtake records (G1). What is polled meanwhile
//! becomes one batch: an idle source's records go at once and alone, a busy one's in batches as large as the broker is slow.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use ottla_api::offset::{SourceOffset, SourceOffsets, SourcePartition};
use ottla_api::record::SourceRecord;
use ottla_api::source::{SourcePoll, SourceTask, SourceTaskContext, SourceTaskHost};
use ottla_api::{Error, Result};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::TaskEnd;
use super::away::Away;
use super::conversion::Conversion;
use super::transformation_chain::TransformationChain;
use crate::broker::{OffsetStore, Producer, ProducerRecord};
use crate::errors::retry::retry;
use crate::errors::{ErrorHandler, Failure, Stage};
use crate::status::{ConnectorStatus, TaskState, TaskStatus};

/// Records and their bytes that a transaction gathers at most, whatever its interval: they are held in memory, and have to be
/// written before the broker gives the transaction up.
const TRANSACTION_RECORDS_MAX: usize = 20_000;
const TRANSACTION_BYTES_MAX: usize = 8 << 20;

/// Records and their bytes that are gathered at most while the batch before is on its way. Larger batches cost no less a
/// record, but memory, and more records that come twice after a kill.
const BATCH_RECORDS_MAX: usize = 10_000;
const BATCH_BYTES_MAX: usize = 1 << 20;

/// How long a poll may go on before it is dropped so that the task can be told what has become durable. A poll may be a long
/// query, so this is no hurry.
const TELL_WITHIN: Duration = Duration::from_secs(5);

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
    /// How long a call of a loaded library may take.
    pub call_timeout: Duration,
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
    pub async fn run(self) -> Result<TaskEnd> {
        let number = self.task_status.number;
        let host = Arc::new(SourceHost {
            connector: Arc::clone(&self.connector),
            task: number,
            offsets: Arc::clone(&self.offsets),
            status: Arc::clone(&self.status),
        });
        let context = SourceTaskContext::new(Arc::clone(&self.connector), number, self.state_dir, host);
        let gathering = match self.gather {
            Some(interval) => Gathering::Interval(interval),
            None if self.producer.all_or_nothing() => Gathering::Never,
            None => Gathering::WhileSending,
        };
        let errors = Arc::new(self.errors);
        let what: Vec<String> = self.chain.blocking().into_iter().chain(self.conversion.blocking()).collect();
        let away = (!what.is_empty()).then(|| Away::new(self.call_timeout, &self.connector, &what.join(", ")));
        let path = Path {
            chain: self.chain,
            conversion: self.conversion,
            errors: Arc::clone(&errors),
            status: Arc::clone(&self.status),
        };
        let mut reading = Reading {
            task: self.task,
            path: Arc::new(Mutex::new(path)),
            away,
            task_status: Arc::clone(&self.task_status),
            stop: self.stop.clone(),
        };
        let mut outlet = Outlet::new(
            gathering,
            Writing {
                connector: self.connector,
                producer: self.producer,
                offsets: self.offsets,
                errors,
                status: self.status,
                task_status: self.task_status,
                stop: self.stop,
            },
        );
        let outcome = reading.run(&context, &mut outlet).await;
        if let Err(error) = reading.task.stop().await {
            warn!(error = %error, "the source did not stop cleanly");
        }
        outcome
    }
}

/// The half of a task that takes records from the source and makes bytes of them.
struct Reading {
    task: Box<dyn SourceTask>,
    path: Arc<Mutex<Path>>,
    /// What of chain and converters may hang.
    away: Option<Away>,
    task_status: Arc<TaskStatus>,
    stop: CancellationToken,
}

/// The way of records through chain and converters.
struct Path {
    chain: TransformationChain,
    conversion: Conversion,
    errors: Arc<ErrorHandler>,
    status: Arc<ConnectorStatus>,
}

impl Reading {
    async fn run(&mut self, context: &SourceTaskContext, outlet: &mut Outlet) -> Result<TaskEnd> {
        let started = retry!("start", &self.task_status, &self.stop, self.task.start(context));
        if started?.is_none() {
            return Ok(TaskEnd::Stopped);
        }
        self.task_status.set(TaskState::Running);
        loop {
            let begun = Instant::now();
            let step = match outlet.beside(self.poll()).await? {
                Beside::Done(polled) => self.take(polled, outlet).await?,
                Beside::Untold => Step::Next,
                Beside::Stopped => return Ok(TaskEnd::Stopped),
            };
            let durable = std::mem::take(&mut outlet.durable);
            if !durable.is_empty() {
                let told = retry!("commit", &self.task_status, &self.stop, self.task.commit(&durable));
                if told?.is_none() {
                    return Ok(TaskEnd::Stopped);
                }
            }
            match step {
                Step::Next => {}
                Step::CaughtUp => self.task_status.caught_up(begun),
                Step::End(end) => return end,
            }
        }
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

    /// Hands on what was polled, and says what follows from it.
    async fn take(&mut self, polled: Result<Option<SourcePoll>>, outlet: &mut Outlet) -> Result<Step> {
        let (goes_on, step) = match polled {
            Ok(Some(SourcePoll::Records(records))) if records.is_empty() => (true, Step::Next),
            Ok(Some(SourcePoll::Records(records))) => {
                let (batch, failed) = self.convert(records).await;
                outlet.add(batch);
                match failed {
                    None => (outlet.make_room().await?, Step::Next),
                    // What came before a record that fails the task is delivered first, so that a restart begins at it.
                    Some(error) => (outlet.drain().await?, Step::End(Err(error))),
                }
            }
            Ok(Some(SourcePoll::Offsets(reached))) => {
                outlet.add(Batch { reached, ..Batch::default() });
                (outlet.make_room().await?, Step::Next)
            }
            Ok(Some(SourcePoll::CaughtUp)) => (outlet.drain().await?, Step::CaughtUp),
            Ok(Some(SourcePoll::Finished)) => (outlet.drain().await?, Step::End(Ok(TaskEnd::Finished))),
            // What was gathered is not sent: nothing of it is stored, so it is read again.
            Ok(None) => (outlet.sent().await?, Step::End(Ok(TaskEnd::Stopped))),
            Err(error) => (outlet.drain().await?, Step::End(Err(error))),
        };
        Ok(if goes_on { step } else { Step::End(Ok(TaskEnd::Stopped)) })
    }

    /// Transforms and converts what was polled.
    async fn convert(&mut self, records: Vec<SourceRecord>) -> (Batch, Option<Error>) {
        let Some(away) = &self.away else { return self.path.lock().convert(records) };
        let path = Arc::clone(&self.path);
        match away.run(move || path.lock().convert(records)).await {
            Ok(converted) => converted,
            Err(error) => (Batch::default(), Some(error)),
        }
    }
}

impl Path {
    /// Transforms and converts records: up to one that fails the task, if there is one.
    fn convert(&mut self, records: Vec<SourceRecord>) -> (Batch, Option<Error>) {
        let counters = &self.status.counters;
        let mut batch = Batch { records: Vec::with_capacity(records.len()), ..Batch::default() };
        let (mut read, mut dropped, mut failed) = (0, 0, None);
        let mut last: Option<(SourcePartition, SourceOffset)> = None;
        for SourceRecord { record, source_partition, source_offset } in records {
            read += 1;
            let converted = match self.chain.apply(record) {
                Ok(Some(record)) => self.conversion.from_connect(record).map(Some),
                Ok(None) => Ok(None),
                Err(failure) => Err(failure),
            };
            match converted {
                Ok(Some(record)) => batch.push(record),
                Ok(None) => dropped += 1,
                Err(failure) => {
                    let place = format!("{source_partition} {}", source_offset.to_json());
                    if let Err(error) = self.errors.source_record(&place, failure) {
                        failed = Some(error);
                        break;
                    }
                }
            }
            // Also after a record that was dropped: otherwise a source of dropped records is read again for ever.
            match &mut last {
                Some((partition, offset)) if *partition == source_partition => *offset = source_offset,
                last => batch.reached.extend(last.replace((source_partition, source_offset))),
            }
        }
        batch.reached.extend(last);
        counters.read.fetch_add(read, Relaxed);
        counters.bytes.fetch_add(batch.bytes as u64, Relaxed);
        counters.dropped.fetch_add(dropped, Relaxed);
        (batch, failed)
    }
}

/// What follows from a poll.
enum Step {
    Next,
    /// Everything that the poll before told of is durable.
    CaughtUp,
    End(Result<TaskEnd>),
}

/// Records, and how far they reach in the source.
#[derive(Default)]
struct Batch {
    records: Vec<ProducerRecord>,
    reached: SourceOffsets,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, record: ProducerRecord) {
        self.bytes += size_of(&record);
        self.records.push(record);
    }

    fn append(&mut self, mut other: Self) {
        if self.records.is_empty() {
            self.records = other.records;
        } else {
            self.records.append(&mut other.records);
        }
        self.reached.append(&mut other.reached);
        self.bytes += other.bytes;
    }
}

/// What of several polls becomes one send.
#[derive(Debug, Clone, Copy)]
enum Gathering {
    /// What is polled while the send before is on its way.
    WhileSending,
    /// Nothing: each poll is a transaction of its own (`transaction.boundary = poll`).
    Never,
    /// What is polled within this time (`transaction.boundary = interval`).
    Interval(Duration),
}

impl Gathering {
    /// Whether there is room for one more.
    fn is_full(self, batch: &Batch) -> bool {
        let (records_max, bytes_max) = match self {
            Self::WhileSending => (BATCH_RECORDS_MAX, BATCH_BYTES_MAX),
            Self::Never => (0, 0),
            Self::Interval(_) => (TRANSACTION_RECORDS_MAX, TRANSACTION_BYTES_MAX),
        };
        batch.records.len() >= records_max || batch.bytes >= bytes_max
    }
}

/// Where batches go: one on its way, one being gathered.
struct Outlet {
    gathering: Gathering,
    /// What is sent next, and when that is due at the latest.
    gathered: Option<(Batch, tokio::time::Instant)>,
    lane: Lane,
    /// What has become durable, and the task was not told yet.
    durable: SourceOffsets,
    /// When it did.
    durable_since: tokio::time::Instant,
}

/// Whether a batch is on its way.
enum Lane {
    Free(Box<Writing>),
    Busy(BoxFuture<'static, (Box<Writing>, Result<Option<SourceOffsets>>)>),
    /// Only while one becomes the other.
    Changing,
}

/// How something ended that went on while a batch was on its way.
enum Beside<T> {
    Done(T),
    /// It took long, and was dropped: there is something to tell the task.
    Untold,
    /// A stop came before the batch was durable.
    Stopped,
}

impl Outlet {
    fn new(gathering: Gathering, writing: Writing) -> Self {
        Self {
            gathering,
            gathered: None,
            lane: Lane::Free(Box::new(writing)),
            durable: SourceOffsets::new(),
            durable_since: tokio::time::Instant::now(),
        }
    }

    /// Gathers a batch.
    fn add(&mut self, batch: Batch) {
        match &mut self.gathered {
            Some((gathered, _)) => gathered.append(batch),
            none => {
                let interval = match self.gathering {
                    Gathering::Interval(interval) => interval,
                    Gathering::WhileSending | Gathering::Never => Duration::ZERO,
                };
                *none = Some((batch, tokio::time::Instant::now() + interval));
            }
        }
    }

    /// Sends what was gathered, if nothing is on its way.
    fn send(&mut self) {
        if !matches!(self.lane, Lane::Free(_)) {
            return;
        }
        if let Some((batch, _)) = self.gathered.take()
            && let Lane::Free(mut writing) = std::mem::replace(&mut self.lane, Lane::Changing)
        {
            self.lane = Lane::Busy(Box::pin(async move {
                let written = writing.write(batch).await;
                (writing, written)
            }));
        }
    }

    /// Sends what was gathered if it is due.
    fn send_if_due(&mut self) {
        let due = |(batch, due): &(Batch, _)| self.gathering.is_full(batch) || *due <= tokio::time::Instant::now();
        if self.gathered.as_ref().is_some_and(due) {
            self.send();
        }
    }

    /// Waits for what is on its way. False where a stop came before it was durable. Dropping the future loses nothing.
    async fn sent(&mut self) -> Result<bool> {
        let Lane::Busy(sending) = &mut self.lane else { return Ok(true) };
        let (writing, written) = sending.await;
        self.lane = Lane::Free(writing);
        let Some(mut reached) = written? else { return Ok(false) };
        if self.durable.is_empty() {
            self.durable_since = tokio::time::Instant::now();
        }
        self.durable.append(&mut reached);
        Ok(true)
    }

    /// Waits until the next batch has room. False where a stop came first.
    async fn make_room(&mut self) -> Result<bool> {
        self.send_if_due();
        while self.gathered.as_ref().is_some_and(|(batch, _)| self.gathering.is_full(batch)) {
            if !self.sent().await? {
                return Ok(false);
            }
            self.send();
        }
        Ok(true)
    }

    /// Makes everything durable. False where a stop came first.
    async fn drain(&mut self) -> Result<bool> {
        while self.gathered.is_some() || matches!(self.lane, Lane::Busy(_)) {
            self.send();
            if !self.sent().await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Does something, and sends meanwhile.
    async fn beside<T>(&mut self, work: impl Future<Output = T>) -> Result<Beside<T>> {
        let mut work = pin!(work);
        loop {
            self.send_if_due();
            let busy = matches!(self.lane, Lane::Busy(_));
            let due = self.gathered.as_ref().map(|(_, due)| *due).filter(|_| !busy);
            let tell = Some(self.durable_since + TELL_WITHIN).filter(|_| !self.durable.is_empty());
            tokio::select! {
                biased;
                sent = self.sent(), if busy => if !sent? {
                    return Ok(Beside::Stopped);
                },
                done = &mut work => return Ok(Beside::Done(done)),
                () = at(tell) => return Ok(Beside::Untold),
                () = at(due) => {}
            }
        }
    }
}

/// Waits until then, or for ever.
async fn at(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The half of a task that makes batches durable.
struct Writing {
    connector: Arc<str>,
    producer: Box<dyn Producer>,
    offsets: Arc<dyn OffsetStore>,
    errors: Arc<ErrorHandler>,
    status: Arc<ConnectorStatus>,
    task_status: Arc<TaskStatus>,
    stop: CancellationToken,
}

impl Writing {
    /// Makes records and offsets durable (G1: the offsets only together with, or after, every record before them), and
    /// returns the offsets. Nothing where a stop came first.
    async fn write(&mut self, batch: Batch) -> Result<Option<SourceOffsets>> {
        let Batch { mut records, reached, .. } = batch;
        loop {
            let sent = retry!(
                "produce",
                &self.task_status,
                &self.stop,
                self.producer.send(&records, &reached, &self.connector)
            );
            let Some(results) = sent? else { return Ok(None) };
            let refused = results.iter().filter(|result| result.is_err()).count();
            if refused > 0 && self.producer.all_or_nothing() {
                // Nothing is written. Tolerated, the rest goes without them; otherwise the task ends before the batch.
                let mut rest = Vec::with_capacity(records.len());
                for (record, result) in records.into_iter().zip(results) {
                    match result {
                        Ok(_) => rest.push(record),
                        Err(error) => self.refused(&record, error)?,
                    }
                }
                records = rest;
                continue;
            }
            self.status.counters.written.fetch_add((results.len() - refused) as u64, Relaxed);
            if refused > 0 {
                for (record, result) in records.iter().zip(results) {
                    result.map_or_else(|error| self.refused(record, error), |_| Ok(()))?;
                }
                // Tolerated: the producer held the offsets back, so that they could still be refused here.
                self.offsets.put(&self.connector, &reached)?;
            }
            return Ok(Some(reached));
        }
    }

    /// The broker does not take a record: an error where that is not tolerated.
    fn refused(&self, record: &ProducerRecord, error: Error) -> Result<()> {
        self.errors.source_record(&record.topic, Failure::new(Stage::KafkaProduce, "producer", error))
    }
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
