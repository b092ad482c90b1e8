//! The connector and its task: what the runtime calls, and what the partitions' writers and uploaders make of it.
//!
//! The task does no uploads itself. `put` renders records and offers them to the [`Writer`] of their partition; what a writer
//! ends goes to the partition's [`Uploader`], which works beside; its events come back through one channel and are looked at
//! whenever the runtime calls.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{Timestamp, ToSpan};
use ottla_api::config::Properties;
use ottla_api::data::json::WriteOptions;
use ottla_api::prelude::*;
use tokio::sync::{OnceCell, Semaphore, mpsc};
use tokio::time::Instant;

use crate::buffer;
use crate::client::folder::FolderStore;
use crate::client::s3::S3Store;
use crate::client::{self, Conditional, ObjectStore};
use crate::config::{NullValues, S3SinkConfig, StoreUrl};
use crate::object_name::is_legal_topic;
use crate::uploader::{Event, Surroundings, Uploader, What};
use crate::writer::{Line, Offer, Rules, Writer};

/// How many requests of one task are under way at once: enough to hide the store's latency behind that of others.
const REQUESTS_MAX: usize = 16;
/// The smallest part that S3 takes, other than the last one of an object.
const PART_SIZE_MIN: usize = 5 * 1024 * 1024;
/// Parts of this size go ahead, whatever `s3.part.size` says, while the sinks of this process hold more than so much.
const EARLY_PARTS_FROM: usize = 24 * 1024 * 1024;
/// While they hold more than this, a partition with as much as such a part waits for its uploads before it takes more:
/// sixteen of them stay below 80 MiB.
const TIGHT_FROM: usize = 40 * 1024 * 1024;
/// How long a call waits for an uploader to show a sign of life before it returns to the runtime, which may have to stop.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long `flush(Closing)` waits for uploads in progress. What is not done by then is done by the next owner.
const CLOSING_PATIENCE: Duration = Duration::from_secs(20);

/// Writes topics as JSON lines into objects. See the crate's documentation.
#[derive(Debug, Default)]
pub struct S3SinkConnector;

impl SinkConnector for S3SinkConnector {
    fn validate(&self, properties: &Properties) -> Vec<ConfigError> {
        // Mistakes in single options are reported from the definition already.
        S3SinkConfig::from_properties(properties).map_or_else(|_| Vec::new(), |config| config.check())
    }

    fn task(&self, properties: &Properties) -> Result<Box<dyn SinkTask>> {
        let config = S3SinkConfig::from_properties(properties)?;
        let mut task = match &config.store_url {
            Some(StoreUrl::Folder(root)) => S3SinkTask::new(&config, Arc::new(FolderStore::new(root, &config.bucket))),
            _ => {
                let Shared { store, conditional } = shared_store(properties, &config);
                S3SinkTask { conditional, ..S3SinkTask::new(&config, store) }
            }
        };
        task.report_null_values &= ["errors.deadletterqueue.topic.name", "errors.log.enable"]
            .iter()
            .any(|key| properties.get(key).is_some_and(|value| !value.is_empty() && value != "false"));
        Ok(Box::new(task))
    }

    fn destination(&self, properties: &Properties) -> Option<String> {
        S3SinkConfig::from_properties(properties).ok().map(|config| config.destination())
    }
}

/// What the tasks of a connector share: connections, credentials, and what was found out about the store.
struct Shared {
    store: Arc<S3Store>,
    conditional: Arc<OnceCell<Conditional>>,
}

/// The stores of this process that some task uses, by what they were configured with.
static STORES: Mutex<Vec<(Properties, Weak<S3Store>, Arc<OnceCell<Conditional>>)>> = Mutex::new(Vec::new());

/// The store that these properties describe, one for all tasks of a connector.
fn shared_store(properties: &Properties, config: &S3SinkConfig) -> Shared {
    let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
    stores.retain(|(_, store, _)| store.strong_count() > 0);
    let found = stores
        .iter()
        .filter(|(of, ..)| of == properties)
        .find_map(|(_, store, conditional)| Some(Shared { store: store.upgrade()?, conditional: conditional.clone() }));
    found.unwrap_or_else(|| {
        let shared = Shared { store: Arc::new(S3Store::new(config)), conditional: Arc::default() };
        stores.push((properties.clone(), Arc::downgrade(&shared.store), shared.conditional.clone()));
        shared
    })
}

/// Tells the time, for rotation by the clock.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// One task of the sink.
pub struct S3SinkTask {
    store: Arc<dyn ObjectStore>,
    rules: Arc<Rules>,
    schedule: Option<Schedule>,
    clock: Clock,
    write_options: WriteOptions,
    null_values: NullValues,
    report_null_values: bool,
    exactly_once_required: bool,
    upload_backoff_max: Duration,
    /// Whether the store overwrites; tried out once for all tasks that share the store.
    conditional: Arc<OnceCell<Conditional>>,
    /// Set by `start`.
    running: Option<Running>,
    partitions: BTreeMap<TopicPartition, Partition>,
    assignments: u64,
    /// Uploaders of writers that began anew, on their way out.
    abandoned: Vec<Uploader>,
    line: Vec<u8>,
}

/// What exists only between `start` and `stop`.
struct Running {
    context: SinkTaskContext,
    surroundings: Surroundings,
    events: mpsc::UnboundedReceiver<Event>,
}

/// An open partition.
struct Partition {
    /// Tells this assignment from earlier ones, whose events may still arrive.
    id: u64,
    writer: Writer,
    uploader: Uploader,
    /// The offset of a record that was asked for again and must be the next one.
    awaited: Option<i64>,
}

impl S3SinkTask {
    /// A task that writes to `store`.
    pub fn new(config: &S3SinkConfig, store: Arc<dyn ObjectStore>) -> Self {
        Self {
            store,
            rules: Arc::new(Rules {
                layout: config.layout(),
                flush_size: config.flush_size,
                rotate_interval: (config.rotate_interval > 0).then_some(config.rotate_interval),
                part_size: config.part_size,
                part_size_min: PART_SIZE_MIN.min(config.part_size),
                early_parts_from: EARLY_PARTS_FROM,
                tight_from: TIGHT_FROM,
                recovery: !client::fault_overwrite(),
            }),
            schedule: (config.rotate_schedule_interval > 0).then(|| Schedule {
                interval: config.rotate_schedule_interval,
                timezone: config.timezone.0.clone(),
                next: None,
            }),
            clock: Arc::new(Timestamp::now),
            write_options: config.write_options(),
            null_values: config.null_values,
            report_null_values: config.report_null_values,
            exactly_once_required: config.exactly_once_required,
            upload_backoff_max: config.upload_backoff_max,
            conditional: Arc::default(),
            running: None,
            partitions: BTreeMap::new(),
            assignments: 0,
            abandoned: Vec::new(),
            line: Vec::new(),
        }
    }

    /// Takes the time from elsewhere.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// For tests of tests: plants the bug of not looking for existing objects. Together with a store that overwrites, it
    /// loses and repeats records, which a checker must notice.
    #[doc(hidden)]
    #[must_use]
    pub fn without_recovery(mut self) -> Self {
        Arc::get_mut(&mut self.rules).expect("no partition is open yet").recovery = false;
        self
    }

    /// For tests: parts smaller than the option allows.
    #[doc(hidden)]
    #[must_use]
    pub fn with_part_size(mut self, part_size: usize) -> Self {
        let rules = Arc::get_mut(&mut self.rules).expect("no partition is open yet");
        rules.part_size = part_size;
        rules.part_size_min = rules.part_size_min.min(part_size);
        self
    }

    fn running(&mut self) -> &mut Running {
        self.running.as_mut().expect("the runtime starts a task before it uses it")
    }

    /// Makes a writer that recovers from `next` on.
    fn assign(&mut self, partition: &TopicPartition, next: i64) {
        let id = self.assignments;
        self.assignments += 1;
        let surroundings = self.running().surroundings.clone();
        let (uploader, commands) = Uploader::start(surroundings, partition.clone(), id);
        let writer = Writer::new(partition.clone(), next, self.rules.clone(), commands);
        let new = Partition { id, writer, uploader, awaited: None };
        if let Some(old) = self.partitions.insert(partition.clone(), new) {
            self.abandoned.push(old.uploader);
        }
    }

    /// Throws a partition's writer away and asks for the records from its frontier on again, which is what a restart does
    /// too. What is durable is found in the store.
    fn begin_anew(&mut self, partition: &TopicPartition) {
        let Some(found) = self.partitions.get(partition) else { return };
        let (frontier, next) = (found.writer.frontier(), found.writer.next());
        self.assign(partition, frontier);
        if let Some(found) = self.partitions.get_mut(partition) {
            // A frontier behind which records were taken is the offset of one of them.
            found.awaited = (frontier < next).then_some(frontier);
        }
        self.running().context.rewind(partition, frontier);
    }

    /// Makes sure that nothing was left out after a rewind: what was asked for again has been there once.
    fn check_rewound(&mut self, batch: &SinkBatch) -> Result<()> {
        let Some(found) = self.partitions.get_mut(&batch.partition) else { return Ok(()) };
        let Some(awaited) = found.awaited else { return Ok(()) };
        let first = batch.records.first().map_or(batch.next_offset, SinkRecord::offset);
        if first > awaited {
            return Err(Error::fatal(format!(
                "the record at offset {awaited} was asked for again, but the next one has offset {first}; a restart reads \
                 from the committed offset on"
            ))
            .with("partition", &batch.partition));
        }
        if batch.next_offset > awaited {
            found.awaited = None;
        }
        Ok(())
    }

    /// Looks at everything that the uploaders have told meanwhile.
    fn absorb(&mut self) {
        while let Ok(event) = self.running().events.try_recv() {
            self.handle(event);
        }
    }

    /// Waits for an uploader to tell something. Some uploader must have work.
    async fn absorb_next(&mut self) -> Result<()> {
        match tokio::time::timeout(PATIENCE, self.running().events.recv()).await {
            Ok(event) => {
                self.handle(event.expect("this task holds a sender too"));
                self.absorb();
                Ok(())
            }
            Err(_) => Err(Error::retriable(format!("no upload has ended within {PATIENCE:?}"))),
        }
    }

    fn handle(&mut self, event: Event) {
        let Event { partition, writer: id, mut what } = event;
        let Some(found) = self.partitions.get_mut(&partition).filter(|found| found.id == id) else { return };
        let goes_on = found.writer.uploaded(&mut what);
        match what {
            What::Created(finish) => {
                let delivery = Delivery {
                    location: self.store.location(&finish.object.key),
                    records: finish.object.records.unwrap_or(0),
                    bytes: finish.length,
                    sample: finish.sample,
                };
                self.running().context.delivered(delivery);
            }
            What::Contested { key } => {
                tracing::info!(%partition, key, "another attempt has created this object; comparing it with the topic");
            }
            What::PartStored { .. } | What::Failed(_) => {}
        }
        if !goes_on {
            self.begin_anew(&partition);
        }
    }

    /// Tells of failed uploads. A failure is told once; after that the caller waits here for the next attempt's end, so that
    /// it is the store that sets the pace, and the runtime shows for how long that has been going on.
    async fn check_uploads(&mut self, only: Option<&TopicPartition>) -> Result<()> {
        loop {
            let mut troubled = false;
            let (one, all) = match only {
                Some(partition) => (self.partitions.get_mut(partition), None),
                None => (None, Some(self.partitions.values_mut())),
            };
            for found in one.into_iter().chain(all.into_iter().flatten()) {
                if let Some(error) = found.writer.take_trouble() {
                    return Err(error);
                }
                troubled |= found.writer.is_troubled();
            }
            if !troubled {
                return Ok(());
            }
            self.absorb_next().await?;
        }
    }

    /// Waits until nothing that was ended waits for its upload.
    async fn drain(&mut self) -> Result<()> {
        self.drain_while(Writer::is_uploading).await
    }

    async fn drain_while(&mut self, waits: impl Fn(&Writer) -> bool) -> Result<()> {
        self.absorb();
        loop {
            self.check_uploads(None).await?;
            if !self.partitions.values().any(|found| waits(&found.writer)) {
                return Ok(());
            }
            self.absorb_next().await?;
        }
    }

    /// Frees memory by the gentlest means that frees any: by waiting for what is on its way, by sending parts ahead, and
    /// only then by ending objects short of `flush.size`. The runtime calls again where that was not enough.
    async fn relieve(&mut self) -> Result<()> {
        if !self.partitions.values().any(|found| found.writer.is_sending()) {
            let sent = self.partitions.values_mut().map(|found| found.writer.send_parts());
            if !sent.fold(false, |any, sent| any | sent) {
                self.cut_largest();
            }
        }
        self.drain_while(Writer::is_sending).await
    }

    /// As [`drain`](Self::drain), for a while, and leaving out what fails.
    async fn drain_for_closing(&mut self) {
        let deadline = Instant::now() + CLOSING_PATIENCE;
        self.absorb();
        while self.partitions.values().any(|found| found.writer.is_uploading() && !found.writer.is_troubled()) {
            if !matches!(tokio::time::timeout_at(deadline, self.absorb_next()).await, Ok(Ok(()))) {
                tracing::info!("uploads are still in progress; the next owner of the partitions finishes them");
                return;
            }
        }
    }

    /// Ends all open files when the clock says so.
    fn rotate_by_clock(&mut self) {
        let Some(schedule) = &mut self.schedule else { return };
        if schedule.is_due((self.clock)()) {
            self.partitions.values_mut().for_each(|found| found.writer.cut());
        }
    }

    /// Ends the largest open files, until half of what is open is on its way.
    fn cut_largest(&mut self) {
        let mut writers: Vec<&mut Writer> = self.partitions.values_mut().map(|found| &mut found.writer).collect();
        let total: usize = writers.iter().map(|writer| writer.open_bytes()).sum();
        writers.sort_by_key(|writer| std::cmp::Reverse(writer.open_bytes()));
        let mut cut = 0;
        for writer in writers {
            if cut * 2 >= total {
                break;
            }
            cut += writer.open_bytes();
            writer.cut();
        }
    }

    fn report_memory(&mut self) {
        let bytes = self.partitions.values().map(|found| found.writer.buffered()).sum();
        self.running().context.buffered(bytes);
    }

    fn positions(&self) -> Positions {
        self.partitions
            .iter()
            .map(|(partition, found)| (partition.clone(), found.writer.frontier()))
            // A partition without a committed offset and without records has no position yet.
            .filter(|(_, position)| *position >= 0)
            .collect()
    }

    /// What keeps a record out of the objects: an error for one that is to be reported, nothing for one to be passed over.
    fn refusal(&self, partition: &TopicPartition, record: &SinkRecord) -> Result<Option<Option<Error>>> {
        if record.record.is_tombstone() {
            return match self.null_values {
                NullValues::Fail => {
                    let hint = "set behavior.on.null.values=ignore to leave such records out";
                    Err(Error::data(format!("record without a value; {hint}"))
                        .with("partition", partition)
                        .with("offset", record.offset()))
                }
                NullValues::Ignore if self.report_null_values => {
                    Ok(Some(Some(Error::data("record without a value is left out"))))
                }
                NullValues::Ignore => Ok(Some(None)),
            };
        }
        let topic = &record.record.topic;
        if *topic != partition.topic && !is_legal_topic(topic) {
            let message = format!("'{topic}', to which this record's topic was renamed, is no topic's name");
            return Ok(Some(Some(Error::data(message))));
        }
        Ok(None)
    }

    /// Offers one record until it is taken. False where the partition began anew meanwhile.
    async fn offer(&mut self, partition: &TopicPartition, id: u64, record: &SinkRecord) -> Result<bool> {
        self.line.clear();
        let mut text = std::mem::take(&mut self.line);
        let line = Line::render(record, &self.write_options, &mut text);
        let taken = self.offer_line(partition, id, &line).await;
        self.line = text;
        taken
    }

    async fn offer_line(&mut self, partition: &TopicPartition, id: u64, line: &Line<'_>) -> Result<bool> {
        loop {
            let Some(found) = self.partitions.get_mut(partition).filter(|found| found.id == id) else {
                return Ok(false);
            };
            if found.writer.is_full() {
                self.check_uploads(Some(partition)).await?;
                if self.partitions.get(partition).is_some_and(|found| found.id == id && found.writer.is_full()) {
                    self.report_memory();
                    self.absorb_next().await?;
                }
                continue;
            }
            let look = match found.writer.offer(line).map_err(|error| error.with("store", self.store.location("")))? {
                Offer::Taken => return Ok(true),
                Offer::Adopted { records } => {
                    let context = &self.running().context;
                    context.count("objects.adopted", 1);
                    context.count("records.adopted", records);
                    return Ok(true);
                }
                Offer::Look(look) => look,
            };
            let read = self.store.read(&look.key, look.from, look.length).await;
            let chunk = read.map_err(|error| error.with("object", &look.key))?;
            if !found.writer.looked(line, look, chunk) {
                self.begin_anew(partition);
                return Ok(false);
            }
        }
    }
}

#[async_trait]
impl SinkTask for S3SinkTask {
    async fn start(&mut self, context: &SinkTaskContext) -> Result<()> {
        self.store.open().await?;
        let probe = async || client::probe(&*self.store, &self.rules.layout.probe_key()).await;
        if self.rules.recovery && *self.conditional.get_or_try_init(probe).await? == Conditional::Overwritten {
            let what = "the store overwrites objects although it is told not to (If-None-Match), so that a restart may \
                        repeat records and a task that was thought dead may lose some";
            if self.exactly_once_required {
                return Err(Error::config(format!("{what}; exactly.once.required=false accepts that"))
                    .with("store", self.store.location("")));
            }
            tracing::warn!(store = self.store.location(""), "{what}: delivery is at least once");
        }
        let (sender, events) = mpsc::unbounded_channel();
        let surroundings = Surroundings {
            store: self.store.clone(),
            permits: Arc::new(Semaphore::new(REQUESTS_MAX)),
            events: sender,
            backoff_max: self.upload_backoff_max,
        };
        self.running = Some(Running { context: context.clone(), surroundings, events });
        Ok(())
    }

    async fn open(&mut self, committed: &Positions) -> Result<Positions> {
        for (partition, position) in committed {
            self.assign(partition, *position);
        }
        // The store is asked when the first record is here: its offset makes the name to look for.
        Ok(Positions::new())
    }

    async fn put(&mut self, batch: &SinkBatch) -> Result<()> {
        let partition = &batch.partition;
        let Some(id) = self.partitions.get(partition).map(|found| found.id) else {
            return Err(Error::fatal("records of a partition that is not open").with("partition", partition));
        };
        self.absorb();
        self.check_uploads(Some(partition)).await?;
        if self.partitions.get(partition).is_some_and(|found| found.id == id) {
            self.check_rewound(batch)?;
        }
        self.rotate_by_clock();
        // After an error the same batch comes again; what was taken then is known by its offset.
        let position = self.partitions.get(partition).map_or(0, |found| found.writer.next());
        let mut records = batch.records_from(position);
        loop {
            let Some(found) = self.partitions.get_mut(partition).filter(|found| found.id == id) else {
                // The partition begins anew, and this batch comes again from the frontier on.
                return Ok(());
            };
            records = &records[found.writer.take_run(records, &self.write_options, &mut self.line)..];
            // What is left begins with a record that needs a closer look.
            let Some((record, rest)) = records.split_first() else { break };
            records = rest;
            match self.refusal(partition, record)? {
                None => {
                    if !self.offer(partition, id, record).await? {
                        return Ok(());
                    }
                }
                Some(report) => {
                    if let Some(error) = report {
                        self.running().context.report(partition, record, error)?;
                    }
                    if let Some(found) = self.partitions.get_mut(partition) {
                        found.writer.pass(record.offset() + 1);
                    }
                }
            }
        }
        if let Some(found) = self.partitions.get_mut(partition).filter(|found| found.id == id) {
            found.writer.pass(batch.next_offset);
        }
        self.report_memory();
        Ok(())
    }

    async fn flush(&mut self, reason: FlushReason) -> Result<Positions> {
        self.absorb();
        match reason {
            FlushReason::Interval => self.check_uploads(None).await?,
            FlushReason::Pressure => self.relieve().await?,
            FlushReason::Closing => self.drain_for_closing().await,
            FlushReason::CaughtUp => {
                self.partitions.values_mut().for_each(|found| found.writer.cut());
                self.drain().await?;
                self.partitions.values().try_for_each(|found| found.writer.check_ended())?;
            }
        }
        self.report_memory();
        Ok(self.positions())
    }

    async fn close(&mut self, partitions: &[TopicPartition], _reason: CloseReason) -> Result<()> {
        // Whatever the reason: what is not durable by now is the next owner's, and a request that is under way can do no
        // harm, because it can't overwrite anything.
        let closed = partitions.iter().filter_map(|partition| self.partitions.remove(partition));
        let uploaders: Vec<Uploader> = closed.map(|closed| closed.uploader).chain(self.abandoned.drain(..)).collect();
        futures::future::join_all(uploaders.into_iter().map(Uploader::abandon)).await;
        self.report_memory();
        Ok(())
    }

    async fn tick(&mut self) -> Result<()> {
        self.absorb();
        self.rotate_by_clock();
        // A failure that will be tried again is for the next put or flush, which can show it.
        let stopped = self.partitions.values_mut().find(|found| found.writer.is_stopped());
        let result = stopped.and_then(|found| found.writer.take_trouble()).map_or(Ok(()), Err);
        self.report_memory();
        buffer::trim_spare();
        let abandoned = self.abandoned.drain(..).map(Uploader::abandon);
        futures::future::join_all(abandoned).await;
        result
    }

    async fn stop(&mut self) -> Result<()> {
        let open: Vec<TopicPartition> = self.partitions.keys().cloned().collect();
        if self.running.is_some() {
            self.close(&open, CloseReason::Stopped).await?;
        }
        self.running = None;
        Ok(())
    }
}

impl fmt::Debug for S3SinkTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let writers: Vec<&Writer> = self.partitions.values().map(|found| &found.writer).collect();
        f.debug_struct("S3SinkTask").field("store", &self.store).field("writers", &writers).finish_non_exhaustive()
    }
}

/// Rotation by the clock, at multiples of an interval since local midnight; every midnight is one of them.
#[derive(Debug)]
struct Schedule {
    interval: i64,
    timezone: jiff::tz::TimeZone,
    next: Option<Timestamp>,
}

impl Schedule {
    /// True once for every moment of the schedule that has passed.
    fn is_due(&mut self, now: Timestamp) -> bool {
        let due = self.next.is_some_and(|next| now >= next);
        if due || self.next.is_none() {
            self.next = Some(self.after(now));
        }
        due
    }

    fn after(&self, now: Timestamp) -> Timestamp {
        let local = now.to_zoned(self.timezone.clone());
        // Only the ends of representable time have no midnight; there the schedule counts from now.
        let midnight = local.start_of_day().map_or(now, |midnight| midnight.timestamp());
        let next_midnight = local.tomorrow().and_then(|day| day.start_of_day()).map(|day| day.timestamp());
        let elapsed = now.as_millisecond() - midnight.as_millisecond();
        let ahead = (elapsed / self.interval + 1).saturating_mul(self.interval);
        let next = midnight.checked_add(ahead.milliseconds());
        match (next, next_midnight) {
            (Ok(next), Ok(end)) => next.min(end),
            (Ok(next), Err(_)) => next,
            (Err(_), Ok(end)) => end,
            (Err(_), Err(_)) => Timestamp::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_counts_from_local_midnight_and_ends_there() {
        let schedule = |interval: i64, timezone: &str| Schedule {
            interval,
            timezone: jiff::tz::TimeZone::get(timezone).unwrap(),
            next: None,
        };
        let hour = 3_600_000;
        for (interval, timezone, now, next) in [
            (hour, "UTC", "2026-11-20T10:20:00Z", "2026-11-20T11:00:00Z"),
            (hour, "UTC", "2026-11-20T10:00:00Z", "2026-11-20T11:00:00Z"),
            (7 * hour, "UTC", "2026-11-20T15:00:00Z", "2026-11-20T21:00:00Z"),
            (7 * hour, "UTC", "2026-11-20T22:00:00Z", "2026-11-21T00:00:00Z"),
            (24 * hour, "Europe/Berlin", "2026-11-20T22:00:00Z", "2026-11-20T23:00:00Z"),
        ] {
            let next: Timestamp = next.parse().unwrap();
            assert_eq!(schedule(interval, timezone).after(now.parse().unwrap()), next);
        }
    }

    #[test]
    fn the_schedule_is_due_once_for_each_moment() {
        let mut schedule = Schedule { interval: 60_000, timezone: jiff::tz::TimeZone::UTC, next: None };
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        assert!(!schedule.is_due(at(0)));
        assert!(!schedule.is_due(at(59)));
        assert!(schedule.is_due(at(61)));
        assert!(!schedule.is_due(at(62)));
        assert!(schedule.is_due(at(300)));
    }

    #[test]
    fn tasks_share_a_store_while_one_of_them_is_there() {
        let properties = |bucket: &str| {
            Properties::from_iter([
                ("s3.bucket.name", bucket),
                ("flush.size", "1"),
                ("store.url", "http://127.0.0.1:9"),
            ])
        };
        let store = |bucket: &str| {
            let properties = properties(bucket);
            shared_store(&properties, &S3SinkConfig::from_properties(&properties).unwrap())
        };
        let (one, same, other) = (store("one"), store("one"), store("other"));
        assert!(Arc::ptr_eq(&one.store, &same.store) && Arc::ptr_eq(&one.conditional, &same.conditional));
        assert!(!Arc::ptr_eq(&one.store, &other.store));
        one.conditional.set(Conditional::Refused).unwrap();
        drop((one, same));
        assert_eq!(store("one").conditional.get(), None, "a new store is tried out anew");
    }
}
