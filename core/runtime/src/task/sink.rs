//! The sink path: consume, convert, transform, put, flush, commit.
//!
//! One loop drives one [`SinkTask`]. The consumer behind it goes on serving the group while `put` waits for a slow
//! destination, so a partition is never lost to slowness; what it fetches meanwhile is bounded.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use ottla_api::offset::{Positions, TopicPartition};
use ottla_api::record::{Payload, RawRecord, Record, SinkBatch, SinkRecord};
use ottla_api::sink::{CloseReason, Delivery, FlushReason, SinkTask, SinkTaskContext, SinkTaskHost};
use ottla_api::{Error, Result};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::TaskEnd;
use super::away::Away;
use super::conversion::Conversion;
use super::transformation_chain::TransformationChain;
use crate::broker::{ConsumerEvent, GroupConsumer, OffsetRange};
use crate::errors::retry::{Retrying, retry};
use crate::errors::{ErrorHandler, Failure, Stage};
use crate::status::{ConnectorStatus, MemorySlot, TaskState, TaskStatus};

/// How long after its last failure consuming counts as working again where no record says so.
const QUIET_AFTER_FAILURE: Duration = Duration::from_secs(30);

/// Runs one sink task.
pub struct WorkerSinkTask {
    /// Name of the connector.
    pub connector: Arc<str>,
    /// The connector's task.
    pub task: Box<dyn SinkTask>,
    /// Reads the topics.
    pub consumer: Box<dyn GroupConsumer>,
    /// Bytes to data.
    pub conversion: Arc<Conversion>,
    /// Makes what happens to each record after that, once per assigned partition.
    pub chain: Box<dyn Fn() -> Result<TransformationChain> + Send>,
    /// What follows from a record's failure.
    pub errors: Arc<ErrorHandler>,
    /// The connector's counters.
    pub status: Arc<ConnectorStatus>,
    /// This task's state.
    pub task_status: Arc<TaskStatus>,
    /// The worker's state folder.
    pub state_dir: PathBuf,
    /// This task's part of the memory budget.
    pub memory: Arc<MemorySlot>,
    /// How long a call of a loaded library may take.
    pub call_timeout: Duration,
    /// How often offsets are committed.
    pub commit_interval: Duration,
    /// How long a commit may take before it counts as failed.
    pub commit_timeout: Duration,
    /// The positions at which a run that ends when it has caught up is done; set once the sources have finished.
    pub catch_up: watch::Receiver<Option<Arc<Positions>>>,
    /// When a failure between batches was logged last; none where the last one went well.
    pub tick_warned: Option<Instant>,
    /// Asks the task to stop.
    pub stop: CancellationToken,
}

/// What the task knows of one assigned partition.
struct Assigned {
    /// The offset behind the last record that the task was given; none until the first batch where the group had none
    /// committed.
    position: Option<i64>,
    /// What the group has committed, as far as this assignment knows.
    committed: i64,
    /// The destination held more when it was opened than the group had committed.
    ahead: bool,
    chain: Arc<Mutex<TransformationChain>>,
    /// What of chain and converters may hang.
    away: Option<Away>,
}

impl WorkerSinkTask {
    /// Runs until a stop is asked for or an error can't be retried.
    pub async fn run(mut self) -> Result<TaskEnd> {
        let host = Arc::new(SinkHost {
            status: Arc::clone(&self.status),
            memory: Arc::clone(&self.memory),
            errors: Arc::clone(&self.errors),
            task: self.task_status.number,
            identities: Mutex::default(),
            rewinds: Mutex::default(),
        });
        match self.start(&host).await {
            Ok(true) => {
                let mut partitions = BTreeMap::new();
                let outcome = self.run_until_stopped(&host, &mut partitions).await;
                self.end(partitions, outcome.is_ok()).await;
                outcome
            }
            // Nothing is called on a task that has not started.
            not_started => {
                self.leave().await;
                not_started.map(|_| TaskEnd::Stopped)
            }
        }
    }

    async fn run_until_stopped(
        &mut self,
        host: &Arc<SinkHost>,
        partitions: &mut BTreeMap<TopicPartition, Assigned>,
    ) -> Result<TaskEnd> {
        self.task_status.set(TaskState::Running);
        let mut commit_timer = interval(self.commit_interval);
        let mut tick_timer = interval(Duration::from_secs(1));
        for timer in [&mut commit_timer, &mut tick_timer] {
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let stop = self.stop.clone();
        let task_status = Arc::clone(&self.task_status);
        let mut catch_up = self.catch_up.clone();
        // Retries of consuming, and when it failed last. One row of failures stays one row, however often it is tried.
        let mut out_of_reach: Option<(Retrying<'_>, Instant)> = None;
        let budget = Arc::clone(self.memory.budget());
        loop {
            let freed = budget.freed();
            let room = !self.memory.is_over();
            let step = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(TaskEnd::Stopped),
                _ = commit_timer.tick() => {
                    let committed = self.commit(partitions, FlushReason::Interval).await;
                    // A commit may take longer than the interval, and reading must have its turn between two of them.
                    commit_timer.reset();
                    committed
                }
                _ = tick_timer.tick() => {
                    // A topic without news says nothing when its broker is back.
                    if out_of_reach.as_ref().is_some_and(|(_, last)| last.elapsed() > QUIET_AFTER_FAILURE)
                        && let Some((retrying, _)) = out_of_reach.take()
                    {
                        retrying.succeeded();
                    }
                    self.tick().await
                }
                Ok(()) = catch_up.changed() => Ok(()),
                event = self.consumer.next(), if room => match event {
                    Ok(event) => {
                        if let Some((retrying, _)) = out_of_reach.take() {
                            retrying.succeeded();
                        }
                        self.handle(host, partitions, event).await
                    }
                    Err(error) if error.is_retriable() => {
                        let first = || (Retrying::new("consume", &task_status, &stop), Instant::now());
                        let (retrying, last) = out_of_reach.get_or_insert_with(first);
                        retrying.wait(error).await;
                        *last = Instant::now();
                        Ok(())
                    }
                    Err(error) => Err(error.during("consume")),
                },
                () = freed, if !room => Ok(()),
            };
            step?;
            if stop.is_cancelled() {
                return Ok(TaskEnd::Stopped);
            }
            // After every call that may ask for records again, and before the next batch: a batch that was fetched before
            // must not be put.
            self.rewind(host, partitions).await?;
            self.relieve(partitions).await?;
            self.rewind(host, partitions).await?;
            self.catch_up(partitions).await?;
            self.rewind(host, partitions).await?;
        }
    }

    /// Starts the connector's task. False where a stop came first.
    async fn start(&mut self, host: &Arc<SinkHost>) -> Result<bool> {
        let host: Arc<dyn SinkTaskHost> = Arc::<SinkHost>::clone(host);
        let number = self.task_status.number;
        let context = SinkTaskContext::new(Arc::clone(&self.connector), number, self.state_dir.clone(), host);
        let started = retry!("start", &self.task_status, &self.stop, self.task.start(&context));
        Ok(started?.is_some())
    }

    async fn handle(
        &mut self,
        host: &SinkHost,
        partitions: &mut BTreeMap<TopicPartition, Assigned>,
        event: ConsumerEvent,
    ) -> Result<()> {
        match event {
            ConsumerEvent::Assigned(committed) => self.open(host, partitions, committed).await,
            ConsumerEvent::Batch { partition, records, next_offset } => {
                self.deliver(partitions, partition, records, next_offset).await
            }
            ConsumerEvent::Revoked(revoked) => {
                // Drain first, fence second: what is on its way to the destination is finished and committed while the
                // partitions are still ours, then they are let go.
                self.commit(partitions, FlushReason::Closing).await?;
                self.close(partitions, &revoked, CloseReason::Revoked).await?;
                self.consumer.release(&revoked).await
            }
            ConsumerEvent::Lost(lost) => {
                // Somebody else owns them: no flush, no commit (G4).
                warn!(partitions = ?lost, "partitions were lost to another member of the group");
                self.close(partitions, &lost, CloseReason::Lost).await
            }
            ConsumerEvent::OutOfRange { partition, position, range } => {
                let OffsetRange { start, end } = range;
                if position > end && partitions.get(&partition).is_some_and(|assigned| assigned.ahead) {
                    return Err(Error::fatal(format!(
                        "the destination already holds {partition} up to offset {position}, but the topic ends at {end}: it was \
                         made anew or cut (with a state folder, for instance) while the destination stayed; move the old \
                         destination away, or name another"
                    )));
                }
                let why = if position > end {
                    "the topic was made anew or cut, and this offset belongs to what it was before; to begin with what it holds \
                     now,"
                } else {
                    "those before were removed unread; if that gap is acceptable,"
                };
                Err(Error::fatal(format!(
                    "there is no record at offset {position} of {partition}, where the group goes on: it holds the offsets from \
                     {start} to before {end}; {why} set the group's committed offset to {start}"
                )))
            }
        }
    }

    async fn open(
        &mut self,
        host: &SinkHost,
        partitions: &mut BTreeMap<TopicPartition, Assigned>,
        committed: Positions,
    ) -> Result<()> {
        let mut topics: Vec<_> = committed.keys().map(|partition| Arc::clone(&partition.topic)).collect();
        topics.dedup();
        for topic in topics {
            let asked = retry!("open", &self.task_status, &self.stop, self.consumer.topic_identity(&topic));
            let Some(identity) = asked? else { return Ok(()) };
            host.identities.lock().insert(topic, identity);
        }
        let opened = retry!("open", &self.task_status, &self.stop, self.task.open(&committed));
        let Some(better) = opened? else { return Ok(()) };
        let mut start = Positions::new();
        for (partition, committed) in committed {
            let position = better.get(&partition).copied().unwrap_or(committed);
            let chain = (self.chain)()?;
            let away = self.away(&chain);
            let chain = Arc::new(Mutex::new(chain));
            let ahead = position > committed;
            let assigned = Assigned { position: (position >= 0).then_some(position), committed, ahead, chain, away };
            partitions.insert(partition.clone(), assigned);
            start.insert(partition, position);
        }
        info!(partitions = %places(&start), "assigned");
        self.consumer.start_at(&start).await
    }

    async fn close(
        &mut self,
        partitions: &mut BTreeMap<TopicPartition, Assigned>,
        closed: &[TopicPartition],
        reason: CloseReason,
    ) -> Result<()> {
        for partition in closed {
            partitions.remove(partition);
        }
        self.task.close(closed, reason).await.map_err(|error| error.during("close"))
    }

    /// Converts, transforms and puts one batch.
    async fn deliver(
        &mut self,
        partitions: &mut BTreeMap<TopicPartition, Assigned>,
        partition: TopicPartition,
        records: Vec<RawRecord>,
        next_offset: i64,
    ) -> Result<()> {
        let Some(assigned) = partitions.get_mut(&partition) else {
            debug!(%partition, "a batch of a partition that is not ours any more");
            return Ok(());
        };
        let status = Arc::clone(&self.status);
        let counters = &status.counters;
        let mut converted = Vec::with_capacity(records.len());
        let length = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
        let bytes: usize = records.iter().map(|raw| length(&raw.key) + length(&raw.value)).sum();
        counters.read.fetch_add(records.len() as u64, Relaxed);
        counters.bytes.fetch_add(bytes as u64, Relaxed);
        let mut path = Path::default();
        let sorted = match &assigned.away {
            None => {
                let mut chain = assigned.chain.lock();
                records.into_iter().try_for_each(|raw| {
                    let transformed = path.take(&self.conversion, &mut chain, &partition, &raw);
                    self.sort_out(&partition, raw, transformed, &mut converted)
                })
            }
            Some(away) => {
                let (conversion, chain) = (Arc::clone(&self.conversion), Arc::clone(&assigned.chain));
                let of = partition.clone();
                let transformed = away.run(move || {
                    let mut chain = chain.lock();
                    let mut taken = Vec::with_capacity(records.len());
                    for raw in records {
                        let transformed = path.take(&conversion, &mut chain, &of, &raw);
                        let fails = transformed.as_ref().is_err_and(Failure::fails_the_task);
                        taken.push((transformed, raw));
                        // What comes behind the one that fails the task is not tried for nothing.
                        if fails {
                            break;
                        }
                    }
                    taken
                });
                transformed
                    .await?
                    .into_iter()
                    .try_for_each(|(transformed, raw)| self.sort_out(&partition, raw, transformed, &mut converted))
            }
        };
        if let Err(error) = sorted {
            // Also the record that stops the task goes to the dead letter queue, before it stops.
            self.flush_dead_letters().await?;
            return Err(error);
        }
        if !self.flush_dead_letters().await? {
            return Ok(());
        }
        // Already now: where a stop ends the retries of `put`, the sink may have a part of the batch, and say that it is durable.
        assigned.position = Some(next_offset);
        let batch = SinkBatch { partition, records: converted, next_offset };
        match retry!("put", &self.task_status, &self.stop, self.task.put(&batch)) {
            Ok(None) => {}
            Ok(Some(())) => {
                counters.written.fetch_add(batch.records.len() as u64, Relaxed);
                // A sink that stores its positions itself may commit in any call that follows, and a record that only memory
                // holds would then be in neither place.
                self.flush_dead_letters().await?;
            }
            Err(error) => {
                self.flush_dead_letters().await?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// What became of one record on its way through converters and chain.
    fn sort_out(
        &self,
        partition: &TopicPartition,
        raw: RawRecord,
        transformed: Result<Option<Record>, Failure>,
        converted: &mut Vec<SinkRecord>,
    ) -> Result<()> {
        match transformed {
            Ok(Some(record)) => converted.push(SinkRecord { record, raw }),
            Ok(None) => {
                self.status.counters.dropped.fetch_add(1, Relaxed);
            }
            Err(failure) => self.errors.sink_record(partition, &raw, failure)?,
        }
        Ok(())
    }

    /// How converters and chain are called, where something of them may hang.
    fn away(&self, chain: &TransformationChain) -> Option<Away> {
        let what: Vec<String> = self.conversion.blocking().into_iter().chain(chain.blocking()).collect();
        (!what.is_empty()).then(|| Away::new(self.call_timeout, &self.connector, &what.join(", ")))
    }

    /// Makes durable what was sent to the dead letter queue, however long that takes. False where a stop came first.
    async fn flush_dead_letters(&mut self) -> Result<bool> {
        let flushed = retry!("write dead letters", &self.task_status, &self.stop, self.errors.flush());
        Ok(flushed?.is_some())
    }

    /// Commits what the sink says is durable (G2), after the dead letter queue has what was reported to it.
    async fn commit(&mut self, partitions: &mut BTreeMap<TopicPartition, Assigned>, reason: FlushReason) -> Result<()> {
        let flushed = retry!("flush", &self.task_status, &self.stop, self.task.flush(reason));
        let Some(durable) = flushed? else { return Ok(()) };
        // The queue must be durable before any offset behind what it was sent.
        if !self.flush_dead_letters().await? {
            return Ok(());
        }
        let mut positions = Positions::new();
        for (partition, position) in durable {
            let Some(assigned) = partitions.get(&partition) else { continue };
            if assigned.position.is_none_or(|put| position > put) {
                return Err(Error::fatal(format!(
                    "the sink says that {partition} is durable up to offset {position}, beyond what it was given"
                )));
            }
            // Only when greater: a committed offset never goes back.
            if position > assigned.committed {
                positions.insert(partition, position);
            }
        }
        if positions.is_empty() {
            return Ok(());
        }
        // A broker that goes away takes the answer with it. Waiting for that here would keep the task from seeing, and saying,
        // that it is out of reach.
        let committed = tokio::time::timeout(self.commit_timeout, self.consumer.commit(&positions)).await;
        match committed
            .unwrap_or_else(|_| Err(Error::retriable("commit offsets: no answer within offset.flush.timeout.ms")))
        {
            Ok(()) => {
                for (partition, position) in positions {
                    if let Some(assigned) = partitions.get_mut(&partition) {
                        assigned.committed = position;
                    }
                }
                self.status.committed.notify_one();
            }
            // The commit is a hint; the next one covers it. A lost partition announces itself as an event.
            Err(error) => warn!(error = %error, "offsets were not committed; will be tried again"),
        }
        Ok(())
    }

    /// Lets the sink look at the clock. What fails then is tried again at the next tick; the log says so now and then.
    async fn tick(&mut self) -> Result<()> {
        match self.task.tick().await {
            Err(error) if error.is_retriable() => {
                if self.tick_warned.is_none_or(|last| last.elapsed() > QUIET_AFTER_FAILURE) {
                    self.tick_warned = Some(Instant::now());
                    warn!(error = %error, "the sink could not write; will be tried again");
                }
                Ok(())
            }
            other => {
                self.tick_warned = None;
                other
            }
        }
    }

    /// Goes back where the sink asked for it.
    async fn rewind(&mut self, host: &SinkHost, partitions: &mut BTreeMap<TopicPartition, Assigned>) -> Result<()> {
        let rewinds = std::mem::take(&mut *host.rewinds.lock());
        let mut start = Positions::new();
        for (partition, offset) in rewinds {
            if let Some(assigned) = partitions.get_mut(&partition) {
                info!(%partition, offset, "the sink asked for these records again");
                assigned.position = Some(offset);
                assigned.chain = Arc::new(Mutex::new((self.chain)()?));
                start.insert(partition, offset);
            }
        }
        if start.is_empty() { Ok(()) } else { self.consumer.start_at(&start).await }
    }

    /// Writes early where the memory budget is used up and this task holds more than its share (G7).
    async fn relieve(&mut self, partitions: &mut BTreeMap<TopicPartition, Assigned>) -> Result<()> {
        let mut before = usize::MAX;
        // A flush that frees nothing is not repeated at once: what else is held is on its way, or others'.
        while self.memory.is_over() && self.memory.held() < before {
            before = self.memory.held();
            debug!(used = self.memory.budget().used(), held = before, "memory budget used up; writing early");
            self.status.count("flushes.under.pressure", 1);
            self.commit(partitions, FlushReason::Pressure).await?;
        }
        Ok(())
    }

    /// Finishes partly filled files once everything that a bounded run must deliver has been put.
    async fn catch_up(&mut self, partitions: &mut BTreeMap<TopicPartition, Assigned>) -> Result<()> {
        let Some(targets) = self.catch_up.borrow().clone() else { return Ok(()) };
        if all_put(partitions, &targets) { self.commit(partitions, FlushReason::CaughtUp).await } else { Ok(()) }
    }

    /// Ends the task: after a stop with everything committed that is durable, after an error as quickly as is safe.
    async fn end(mut self, mut partitions: BTreeMap<TopicPartition, Assigned>, orderly: bool) {
        if orderly && let Err(error) = self.commit(&mut partitions, FlushReason::Closing).await {
            warn!(error = %error, "could not commit at the end; what is not committed is delivered again");
        }
        let all: Vec<_> = partitions.keys().cloned().collect();
        if let Err(error) = self.close(&mut partitions, &all, CloseReason::Stopped).await {
            warn!(error = %error, "the sink did not close cleanly");
        }
        if let Err(error) = self.task.stop().await {
            warn!(error = %error, "the sink did not stop cleanly");
        }
        self.leave().await;
    }

    async fn leave(self) {
        if let Err(error) = self.consumer.close().await {
            warn!(error = %error, "could not leave the group cleanly");
        }
    }
}

/// The way of a batch's records through converters and chain. The first shows whether the chain looks into values; the others then
/// come decoded.
#[derive(Default)]
struct Path {
    decoded: bool,
}

impl Path {
    #[inline]
    fn take(
        &mut self,
        conversion: &Conversion,
        chain: &mut TransformationChain,
        partition: &TopicPartition,
        raw: &RawRecord,
    ) -> Result<Option<Record>, Failure> {
        let record = conversion.to_connect(&partition.topic, partition.partition, raw, self.decoded)?;
        let as_text = matches!(record.value, Payload::Json(_));
        let transformed = chain.apply(record)?;
        self.decoded |=
            as_text && transformed.as_ref().is_some_and(|record| matches!(record.value, Payload::Data { .. }));
        Ok(transformed)
    }
}

/// True where something is left to commit before the targets, and all of that has been put.
fn all_put(partitions: &BTreeMap<TopicPartition, Assigned>, targets: &Positions) -> bool {
    let mut open = partitions
        .iter()
        .filter_map(|(partition, assigned)| targets.get(partition).map(|target| (assigned, *target)))
        .filter(|(assigned, target)| assigned.committed < *target)
        .peekable();
    open.peek().is_some() && open.all(|(assigned, target)| assigned.position.is_some_and(|put| put >= target))
}

/// Where each partition begins, for the log.
fn places(start: &Positions) -> String {
    let place = |(partition, position): (&TopicPartition, &i64)| match position {
        0.. => format!("{partition} from {position}"),
        _ => partition.to_string(),
    };
    start.iter().map(place).collect::<Vec<_>>().join(", ")
}

impl std::fmt::Debug for WorkerSinkTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WorkerSinkTask({}-{})", self.connector, self.task_status.number)
    }
}

struct SinkHost {
    status: Arc<ConnectorStatus>,
    memory: Arc<MemorySlot>,
    errors: Arc<ErrorHandler>,
    task: usize,
    identities: Mutex<BTreeMap<Arc<str>, Option<String>>>,
    rewinds: Mutex<BTreeMap<TopicPartition, i64>>,
}

impl SinkTaskHost for SinkHost {
    fn report(&self, partition: &TopicPartition, record: &SinkRecord, error: Error) -> Result<()> {
        let failure = Failure::new(Stage::TaskPut, self.status.class, error);
        self.errors.sink_record(partition, &record.raw, failure)
    }

    fn buffered(&self, bytes: usize) {
        self.memory.set(bytes);
    }

    fn rewind(&self, partition: &TopicPartition, offset: i64) {
        self.rewinds.lock().insert(partition.clone(), offset);
    }

    fn delivered(&self, delivery: Delivery) {
        self.status.delivered(delivery);
    }

    fn count(&self, name: &'static str, n: u64) {
        self.status.count(name, n);
    }

    fn gauge(&self, name: &'static str, value: u64) {
        self.status.gauge(self.task, name, value);
    }

    fn topic_identity(&self, topic: &str) -> Option<String> {
        self.identities.lock().get(topic).cloned().flatten()
    }
}
