//! Reading streams: the connector, and the task that reads its share of the shards.
//!
//! Each shard is a source partition. Its reader makes one call at a time; the calls of different shards run beside each other
//! and beside the runtime's work, in tasks that belong to this one and end with it. `poll` only takes what has arrived:
//!
//! 1. decide about shards that are listed and not yet read ([`shards::decide`]),
//! 2. begin the reads that are due ([`rate::Pace`]),
//! 3. return what has arrived, as records or as places that moved without records.
//!
//! **Cancellation.** A poll waits only for its readers or for the clock. What a reader brings is kept in the task before
//! anything else is waited for.

mod fan_out;
mod polling;
mod rate;
mod shards;
#[cfg(test)]
mod simulation;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_kinesis::types::Record as KinesisRecord;
use bytes::Bytes;
use ottla_api::prelude::*;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::Kinesis;
use crate::config::{HashRangeCheck, KinesisSourceConfig, Mode, OnGap, Position};
use crate::error::{Failure, What, from_sdk};
use crate::kpl;
use fan_out::Subscriber;
use polling::{Fetched, From, Poller};
use rate::Pace;
use shards::{Decision, Listing, Place, Shard, ShardKey, Start, compare_sequences, decide};

/// How many polling reads of a task are under way at once. An answer may take 10 MB.
const READS_MAX: usize = 8;
/// The same where the Kinesis is in this process: no network to wait for, so one read while another's records are taken over.
const READS_IN_PROCESS_MAX: usize = 2;
/// Bytes that have arrived and were not returned, above which no further read is begun.
const PENDING_MAX: usize = 16 * 1024 * 1024;
/// What a record takes in memory beside its data, about: its headers, its place, and themselves.
const RECORD_OVERHEAD: usize = 1024;
/// How old a list of shards gets where nothing asks for a new one.
const LISTING_AGE_MAX: Duration = Duration::from_secs(30);
/// How often is looked whether a shard's parents are durable.
const PARENTS_LOOK: Duration = Duration::from_millis(100);
/// How long a shard fails before the task's status says so.
const FAILURE_PATIENCE: Duration = Duration::from_secs(10);
/// How far the clocks of this machine and of Kinesis may differ. A restart after `LATEST` and before the first record begins
/// so much earlier.
const CLOCK_DIFFERENCE_MAX: i64 = 10_000;
/// As many headers as a record gets at most.
const HEADERS_MAX: usize = 6;
/// After so long without a record a shard's place is stored again, so that being idle never looks like a gap.
const IDLE_PLACE_AGE_MAX: i64 = 600_000;
/// How long an idle task waits before it looks around.
const IDLE_LOOK: Duration = Duration::from_secs(1);

/// The connector `kinesis-source`.
#[derive(Debug, Default)]
pub struct KinesisSource;

impl SourceConnector for KinesisSource {
    fn validate(&self, properties: &Properties) -> Vec<ConfigError> {
        // Mistakes in single options were reported before; they must not come twice.
        KinesisSourceConfig::from_properties(properties).map_or_else(|_| Vec::new(), |config| config.mistakes())
    }

    fn tasks(&self, properties: &Properties, tasks_max: usize) -> Result<Vec<Box<dyn SourceTask>>> {
        let config = Arc::new(KinesisSourceConfig::from_properties(properties)?);
        if let Some(mistake) = config.mistakes().first() {
            return Err(Error::config(mistake.to_string()));
        }
        // How many shards there are is known only after connecting, and changes.
        let tasks = tasks_max.max(1);
        let make = |number| Box::new(KinesisSourceTask::new(config.clone(), number, tasks)) as Box<dyn SourceTask>;
        Ok((0..tasks).map(make).collect())
    }
}

/// Reads the shards that are this task's.
pub(crate) struct KinesisSourceTask {
    config: Arc<KinesisSourceConfig>,
    number: usize,
    tasks: usize,
    running: Option<Running>,
}

/// The ends of shards, which the tasks of a connector tell each other: the children may be any task's.
#[derive(Debug)]
struct Ends {
    /// How many ends any task has seen. Each asks for new lists of shards.
    seen: AtomicU64,
    /// For each task how many of them it has followed: listed the children, and read to the end those that are its own.
    followed: Vec<AtomicU64>,
}

/// The ends that running tasks of this process share: by state folder, connector and number of tasks. The runtime makes every
/// task by a [`KinesisSource`] of its own, so they can't be handed one.
static ENDS: LazyLock<Mutex<HashMap<(PathBuf, Arc<str>, usize), Weak<Ends>>>> = LazyLock::new(Mutex::default);

impl Ends {
    fn of(context: &SourceTaskContext, tasks: usize) -> Arc<Self> {
        let mut all = ENDS.lock();
        all.retain(|_, ends| ends.strong_count() > 0);
        let ends = all.entry((context.state_dir.clone(), context.connector.clone(), tasks)).or_default();
        ends.upgrade().unwrap_or_else(|| {
            let followed = (0..tasks).map(|_| AtomicU64::new(0)).collect();
            let made = Arc::new(Self { seen: AtomicU64::new(0), followed });
            *ends = Arc::downgrade(&made);
            made
        })
    }
}

impl KinesisSourceTask {
    pub(crate) fn new(config: Arc<KinesisSourceConfig>, number: usize, tasks: usize) -> Self {
        Self { config, number, tasks, running: None }
    }
}

#[async_trait]
impl SourceTask for KinesisSourceTask {
    async fn start(&mut self, context: &SourceTaskContext) -> Result<()> {
        let config = &self.config;
        let kinesis = Kinesis::connect(&config.connection, config.create_shards, &context.state_dir).await?;
        let ends = Ends::of(context, self.tasks);
        let mut streams = BTreeMap::new();
        for name in &config.streams {
            let name: Arc<str> = name.as_str().into();
            let summary = kinesis.ensure_stream(&name).await?;
            let consumer_arn = match config.mode {
                Mode::Polling => None,
                Mode::FanOut => {
                    let consumer = config.consumer_name.clone().unwrap_or_else(|| consumer_name(&context.connector));
                    Some(fan_out::register(&kinesis, &summary.stream_arn, &consumer).await?)
                }
            };
            // Before the list is made: a shard that ends meanwhile asks for another.
            let resharding = ends.seen.load(SeqCst);
            let listing = list(&kinesis, &name).await?;
            let stream = Stream {
                topic: config.topic_of(&name).into(),
                consumer_arn,
                retention: i64::from(summary.retention_period_hours) * 3_600_000,
                listing,
                listed: Instant::now(),
                resharding,
                being_listed: false,
                listing_pace: Pace::new(5, LISTING_AGE_MAX, false, LISTING_AGE_MAX, Instant::now()),
            };
            streams.insert(name, stream);
        }
        self.running = Some(Running {
            context: context.clone(),
            config: config.clone(),
            kinesis,
            number: self.number,
            tasks: self.tasks,
            ends,
            streams,
            readers: BTreeMap::new(),
            done: BTreeSet::new(),
            waiting: BTreeSet::new(),
            next_look: Instant::now(),
            jobs: JoinSet::new(),
            reads: 0,
            records: Vec::new(),
            bytes: 0,
            places: SourceOffsets::new(),
            failure: None,
        });
        Ok(())
    }

    async fn poll(&mut self) -> Result<SourcePoll> {
        let running = self.running.as_mut().ok_or_else(|| Error::fatal("the task is not started"))?;
        let began = Instant::now();
        loop {
            running.decide_about_shards().await?;
            running.begin_reads();
            if let Some(found) = running.take_arrived() {
                return Ok(found);
            }
            if let Some(error) = running.take_failure() {
                return Err(error);
            }
            if running.is_caught_up_since(began) {
                return Ok(SourcePoll::CaughtUp);
            }
            let wake = running.wake();
            tokio::select! {
                biased;
                Some(done) = running.jobs.join_next() => running.absorb(done)?,
                () = tokio::time::sleep_until(wake) => {}
            }
            while let Some(done) = running.jobs.try_join_next() {
                running.absorb(done)?;
            }
        }
    }

    async fn commit(&mut self, _durable: &SourceOffsets) -> Result<()> {
        if let Some(running) = &mut self.running
            && !running.waiting.is_empty()
        {
            // The end of a shard may be among what is durable now.
            running.next_look = Instant::now();
        }
        Ok(())
    }

    async fn stop(&mut self) -> Result<()> {
        if let Some(mut running) = self.running.take() {
            running.jobs.shutdown().await;
        }
        Ok(())
    }
}

impl fmt::Debug for KinesisSourceTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KinesisSourceTask({} of {})", self.number, self.tasks)
    }
}

/// The time in milliseconds since 1970.
fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// The name of a consumer that a connector registers: Kinesis allows letters, digits, `_`, `.` and `-`.
fn consumer_name(connector: &str) -> String {
    let clean = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') { c } else { '_' };
    format!("ottla-{}", connector.chars().map(clean).take(120).collect::<String>())
}

/// What exists only between `start` and `stop`.
struct Running {
    context: SourceTaskContext,
    config: Arc<KinesisSourceConfig>,
    kinesis: Kinesis,
    number: usize,
    tasks: usize,
    ends: Arc<Ends>,
    streams: BTreeMap<Arc<str>, Stream>,
    /// The shards that are being read.
    readers: BTreeMap<ShardKey, Reader>,
    /// Shards of this task to which nothing is to be done any more.
    done: BTreeSet<ShardKey>,
    /// Shards of this task whose parents are not durable to their ends.
    waiting: BTreeSet<ShardKey>,
    /// When the shards are looked at again where no new list asks for it.
    next_look: Instant,
    jobs: JoinSet<Done>,
    /// How many of the jobs are reads by polling.
    reads: usize,
    /// What has arrived, to be returned by the next poll.
    records: Vec<SourceRecord>,
    bytes: usize,
    /// Places that moved without records.
    places: SourceOffsets,
    /// Something that has been failing for a while, to be told once.
    failure: Option<Error>,
}

/// One stream.
struct Stream {
    topic: Arc<str>,
    consumer_arn: Option<String>,
    /// How long records are kept, in milliseconds.
    retention: i64,
    listing: Listing,
    listed: Instant,
    /// How many reshardings had been seen when the list was asked for.
    resharding: u64,
    being_listed: bool,
    listing_pace: Pace,
}

/// One shard that is being read.
struct Reader {
    partition: SourcePartition,
    shard: Shard,
    /// Nothing while a read is under way.
    feed: Option<Feed>,
    pace: Pace,
    /// What has been taken over: the next place to be stored.
    place: Place,
    /// `arrival.ms` of the place that was handed to the runtime last.
    stored_as_of: i64,
    /// Sub-records of this record, up to the number, were delivered before the start.
    resumed_inside: Option<(String, i64)>,
    /// True where a place without a record is to be kept as the beginning of children too.
    began_at_time: bool,
    behind: Option<i64>,
    /// The begin of the last read that found nothing more.
    caught_up: Option<Instant>,
    /// When a failure was told last.
    told: Option<Instant>,
}

enum Feed {
    Polling(Box<Poller>),
    FanOut(Box<Subscriber>),
}

/// What a job brings back.
enum Done {
    Read(ShardKey, Feed, Result<Fetched, Failure>),
    Listed { stream: Arc<str>, resharding: u64, listing: Result<Listing, Failure> },
}

impl Running {
    /// Looks at the shards that are listed and neither read nor done with, where there is a reason to.
    async fn decide_about_shards(&mut self) -> Result<()> {
        if Instant::now() < self.next_look {
            return Ok(());
        }
        let goes_on = self.config.on_gap == OnGap::Earliest;
        let mut waiting = BTreeSet::new();
        let mut begin = Vec::new();
        for (stream_name, stream) in &self.streams {
            for (name, shard) in &stream.listing {
                let key = ShardKey::new(stream_name, name.clone());
                if key.owner(self.tasks) != self.number || self.done.contains(&key) || self.readers.contains_key(&key) {
                    continue;
                }
                let stored = |name: &Arc<str>| {
                    let offset = self.context.offset(&ShardKey::new(stream_name, name.clone()).partition())?;
                    offset.map(|offset| Place::from_offset(&offset)).transpose()
                };
                match decide(name, shard, &stream.listing, self.config.position, goes_on, stored)? {
                    Decision::Done => {
                        self.done.insert(key);
                    }
                    Decision::Wait => {
                        waiting.insert(key);
                    }
                    Decision::Skip => {
                        let first = Some(shard.first.clone());
                        let place = Place { first, ended: true, skipped: true, as_of: now_ms(), ..Place::default() };
                        self.places.insert(key.partition(), place.to_offset());
                        self.done.insert(key);
                    }
                    Decision::Read(start) => begin.push((key, shard.clone(), start)),
                    Decision::ParentGone { parent, place } => {
                        return Err(gap(
                            &ShardKey::new(stream_name, parent),
                            &place,
                            "the shard is not listed any more",
                        ));
                    }
                }
            }
        }
        self.waiting = waiting;
        for (key, shard, start) in begin {
            self.begin_shard(key, shard, start).await?;
        }
        // Only now: a poll that was dropped above does it all again.
        self.next_look = Instant::now() + if self.waiting.is_empty() { LISTING_AGE_MAX } else { PARENTS_LOOK };
        Ok(())
    }

    /// Makes the reader of a shard.
    async fn begin_shard(&mut self, key: ShardKey, shard: Shard, start: Start) -> Result<()> {
        let now = now_ms();
        let mut place = Place { first: Some(shard.first.clone()), ..Place::default() };
        let mut resumed_inside = None;
        let mut began_at_time = false;
        let from = match start {
            Start::Resume(stored) => {
                let whole = !self.is_gap(&key, &shard, &stored).await?;
                if whole {
                    place = Place { first: place.first.filter(|_| stored.sequence.is_none()), ..stored };
                } else {
                    self.context.count("gaps", 1);
                    tracing::warn!(stream = %key.stream, shard = %key.shard, "going on with the oldest record");
                }
                began_at_time =
                    place.sequence.is_none() && place.began.is_some() && self.config.position == Position::AtTimestamp;
                match (&place.sequence, place.sub_sequence, place.began) {
                    (Some(sequence), Some(sub), _) => {
                        resumed_inside = Some((sequence.clone(), sub));
                        From::At(sequence.clone())
                    }
                    (Some(sequence), None, _) => From::After(sequence.clone()),
                    (None, _, Some(began)) => From::Time(began),
                    (None, _, None) => From::Horizon,
                }
            }
            Start::Beginning => From::Horizon,
            Start::At(began) => {
                began_at_time = true;
                place.began = Some(began);
                From::Time(began)
            }
            Start::Initial => match (self.config.position, self.config.timestamp) {
                (Position::Latest, _) => {
                    // Stored before the first record comes, so that a restart until then begins here and not later.
                    let since = now - CLOCK_DIFFERENCE_MAX;
                    place.began = Some(since);
                    place.as_of = since;
                    self.places.insert(key.partition(), place.to_offset());
                    From::Latest { since }
                }
                (Position::AtTimestamp, Some(moment)) => {
                    began_at_time = true;
                    place.began = Some(moment.0);
                    From::Time(moment.0)
                }
                _ => From::Horizon,
            },
        };
        let config = &self.config;
        let metered = !config.connection.is_embedded();
        // Subscriptions are paced by Kinesis.
        let rate = if config.mode == Mode::FanOut { 1000 } else { config.rate() };
        let reader = Reader {
            partition: key.partition(),
            shard,
            feed: Some(self.feed(&key, from)),
            pace: Pace::new(rate, config.idle_pause(), metered, config.throughput_backoff, Instant::now()),
            stored_as_of: place.as_of,
            place,
            resumed_inside,
            began_at_time,
            behind: None,
            caught_up: None,
            told: None,
        };
        tracing::debug!(stream = %key.stream, shard = %key.shard, place = ?reader.place, "begin to read a shard");
        self.readers.insert(key, reader);
        Ok(())
    }

    /// What reads a shard from a place on.
    fn feed(&self, key: &ShardKey, from: From) -> Feed {
        let consumer_arn = self.streams.get(&key.stream).and_then(|stream| stream.consumer_arn.clone());
        let (kinesis, key) = (self.kinesis.clone(), key.clone());
        match consumer_arn {
            Some(arn) => Feed::FanOut(Box::new(Subscriber::new(kinesis, key, arn, from))),
            None => Feed::Polling(Box::new(Poller::new(kinesis, key, from, self.config.record_limit))),
        }
    }

    /// True where records behind `place` may be lost and that was accepted.
    ///
    /// Kinesis does not say: from a place that has left retention it silently goes on with the oldest record. The rule:
    ///
    /// 1. A shard whose first sequence number is another than the place's or lies behind it, or that is open although the place
    ///    is its end, is not the shard of that place: the stream was made anew.
    /// 2. A place that is younger than the stream's retention is whole: nothing behind it can have expired.
    /// 3. Otherwise the oldest record is looked at. If it is not behind the place, nothing in between is missing.
    /// 4. Otherwise records may have come and expired unseen. Nobody can tell; so it counts as a gap.
    ///
    /// A place grows older only while nobody reads: reading an idle shard stores it anew from time to time.
    async fn is_gap(&mut self, key: &ShardKey, shard: &Shard, place: &Place) -> Result<bool> {
        let accepted = self.config.on_gap == OnGap::Earliest;
        if !shard.may_hold(place) {
            let why = if place.ended && !shard.closed {
                "the shard, which had ended, is open: the stream was made anew".to_owned()
            } else {
                format!("the shard is another one of that name, from {} on: the stream was made anew", shard.first)
            };
            return if accepted { Ok(true) } else { Err(gap(key, place, &why)) };
        }
        let Some(stream) = self.streams.get_mut(&key.stream) else { return Ok(false) };
        let age = now_ms() - place.as_of;
        if age < stream.retention {
            return Ok(false);
        }
        // It may have been changed since.
        let summary = self.kinesis.ensure_stream(&key.stream).await?;
        stream.retention = i64::from(summary.retention_period_hours) * 3_600_000;
        if age < stream.retention {
            return Ok(false);
        }
        let hours = summary.retention_period_hours;
        let oldest = polling::oldest(&self.kinesis, key).await?;
        let why = match (&oldest, &place.sequence) {
            (Some(oldest), Some(sequence)) if compare_sequences(&oldest.sequence_number, sequence).is_le() => {
                return Ok(false);
            }
            (Some(oldest), _) => format!(
                "the stream keeps records for {hours} hours; the oldest it holds is {} (arrived {})",
                oldest.sequence_number,
                time(arrival(oldest))
            ),
            (None, _) => format!("the stream keeps records for {hours} hours, and holds none of this shard"),
        };
        if accepted { Ok(true) } else { Err(gap(key, place, &why)) }
    }

    fn reads_max(&self) -> usize {
        if self.config.connection.is_embedded() { READS_IN_PROCESS_MAX } else { READS_MAX }
    }

    /// Begins the reads and the lists that are due.
    fn begin_reads(&mut self) {
        let now = Instant::now();
        let reshardings = self.ends.seen.load(SeqCst);
        for (name, stream) in &mut self.streams {
            let wanted = stream.resharding < reshardings || stream.listed.elapsed() >= LISTING_AGE_MAX;
            if wanted && !stream.being_listed && now >= stream.listing_pace.due() {
                stream.being_listed = true;
                let (kinesis, name) = (self.kinesis.clone(), name.clone());
                self.jobs.spawn(async move {
                    let listing = list(&kinesis, &name).await;
                    Done::Listed { stream: name, resharding: reshardings, listing }
                });
            }
        }
        if self.bytes >= PENDING_MAX {
            return;
        }
        let reads_max = self.reads_max();
        let mut due: Vec<_> = self.readers.iter_mut().filter(|(_, reader)| reader.feed.is_some()).collect();
        // The one that has waited longest first, so that all get their turn.
        due.sort_by_key(|(_, reader)| reader.pace.due());
        for (key, reader) in due {
            let polling = matches!(reader.feed, Some(Feed::Polling(_)));
            if reader.pace.due() > now || (polling && self.reads >= reads_max) {
                break;
            }
            let Some(mut feed) = reader.feed.take() else { continue };
            self.reads += usize::from(polling);
            let key = key.clone();
            self.jobs.spawn(async move {
                let outcome = match &mut feed {
                    Feed::Polling(poller) => poller.read().await,
                    Feed::FanOut(subscriber) => subscriber.read().await,
                };
                Done::Read(key, feed, outcome)
            });
        }
    }

    /// Takes over what a job has brought.
    fn absorb(&mut self, done: std::result::Result<Done, tokio::task::JoinError>) -> Result<()> {
        match done.map_err(|error| Error::fatal("a reader broke down").caused_by(error))? {
            Done::Listed { stream, resharding, listing } => self.absorb_listing(&stream, resharding, listing),
            Done::Read(key, feed, outcome) => self.absorb_read(key, feed, outcome),
        }
    }

    fn absorb_listing(&mut self, name: &Arc<str>, resharding: u64, listing: Result<Listing, Failure>) -> Result<()> {
        let Some(stream) = self.streams.get_mut(name) else { return Ok(()) };
        stream.being_listed = false;
        match listing {
            Ok(listing) => {
                let other = |(shard, found): (&Arc<str>, &Shard)| {
                    stream.listing.get(shard).is_some_and(|known| known.first != found.first)
                };
                if listing.iter().any(other) {
                    // What was read and is done with belongs to the other one; a start decides anew, by what is stored.
                    let message = "the stream was deleted and made anew while it was read; start the connector again: \
                                   kinesis.on.gap decides whether it goes on with the new one";
                    return Err(Error::fatal(message).with("stream", name));
                }
                let now = Instant::now();
                stream.listing_pace.succeeded(now, 0, true);
                stream.listed = now;
                stream.resharding = resharding;
                stream.listing = listing;
                self.done.retain(|key| key.stream != *name || self.streams[name].listing.contains_key(&key.shard));
                self.next_look = now;
                Ok(())
            }
            Err(failure) if failure.is_retriable() => {
                stream.listing_pace.failed(Instant::now(), failure.what == What::Throttled, rand::random());
                let long = stream.listing_pace.failing_since().is_some_and(|since| since.elapsed() > FAILURE_PATIENCE);
                if long {
                    self.failure = Some(failure.error);
                }
                Ok(())
            }
            Err(failure) => Err(failure.error),
        }
    }

    fn absorb_read(&mut self, key: ShardKey, feed: Feed, outcome: Result<Fetched, Failure>) -> Result<()> {
        self.reads -= usize::from(matches!(feed, Feed::Polling(_)));
        let now = now_ms();
        let Some(reader) = self.readers.get_mut(&key) else { return Ok(()) };
        reader.feed = Some(feed);
        let fetched = match outcome {
            Ok(fetched) => fetched,
            Err(failure) if failure.is_retriable() => {
                match failure.what {
                    What::Throttled => self.context.count("throttled", 1),
                    // The reader had asked for a new one already.
                    What::ExpiredIterator => self.context.count("iterators.expired", 2),
                    _ => {}
                }
                reader.caught_up = None;
                reader.pace.failed(Instant::now(), failure.what == What::Throttled, rand::random());
                let since = reader.told.or(reader.pace.failing_since());
                if since.is_some_and(|since| since.elapsed() > FAILURE_PATIENCE) {
                    reader.told = Some(Instant::now());
                    self.failure = Some(failure.error.with("shard", &key.shard));
                } else {
                    tracing::debug!(error = %failure.error, shard = %key.shard, "read again after a pause");
                }
                return Ok(());
            }
            Err(failure) if failure.what == What::InvalidArgument && reader.place.sequence.is_some() => {
                // What Kinesis answers for a place in a stream that was deleted and made anew.
                if self.config.on_gap == OnGap::Fail {
                    return Err(gap(&key, &reader.place, &failure.error.to_string()));
                }
                self.context.count("gaps", 1);
                tracing::warn!(stream = %key.stream, shard = %key.shard, "going on with the oldest record");
                let feed = self.feed(&key, From::Horizon);
                if let Some(reader) = self.readers.get_mut(&key) {
                    reader.feed = Some(feed);
                    reader.place = Place::default();
                    reader.resumed_inside = None;
                }
                return Ok(());
            }
            Err(failure) => return Err(failure.error.with("stream", &key.stream).with("shard", &key.shard)),
        };
        if fetched.expired > 0 {
            self.context.count("iterators.expired", fetched.expired);
        }
        reader.told = None;
        reader.behind = fetched.behind;
        let more = fetched.behind.unwrap_or_default() > 0 || !fetched.records.is_empty();
        let bytes: usize = fetched.records.iter().map(|record| record.data.as_ref().len()).sum();
        match reader.feed {
            Some(Feed::FanOut(_)) => reader.pace.succeeded(fetched.began, 0, true),
            _ => reader.pace.succeeded(fetched.began, bytes, more),
        }
        reader.caught_up = (fetched.behind == Some(0)).then_some(fetched.began);
        self.bytes += bytes + fetched.records.len() * RECORD_OVERHEAD;
        // Everything older than this has been read. An empty answer far from the end moves it on as well.
        let read_until = fetched.behind.map_or(reader.place.as_of, |behind| now - behind);
        let count = fetched.records.len();
        let mut placed = false;
        for (at, record) in fetched.records.into_iter().enumerate() {
            let last = at + 1 == count;
            let topic = &self.streams[&key.stream].topic;
            placed =
                reader.take(&key, topic, record, last && fetched.ended, &self.config, &self.context, &mut self.records);
        }
        if placed {
            // What was to be stored without records lies before these.
            self.places.remove(&reader.partition);
            reader.stored_as_of = reader.place.as_of;
        }
        if count == 0 {
            reader.place.as_of = reader.place.as_of.max(read_until);
        }
        if fetched.ended {
            reader.place.ended = true;
            if !reader.began_at_time {
                reader.place.began = None;
            }
        }
        let idle = reader.place.as_of - reader.stored_as_of > IDLE_PLACE_AGE_MAX && count == 0;
        if !placed && (count > 0 || fetched.ended || idle) {
            self.places.insert(reader.partition.clone(), reader.place.to_offset());
            reader.stored_as_of = reader.place.as_of;
        }
        if fetched.ended {
            tracing::info!(stream = %key.stream, shard = %key.shard, "a shard has ended");
            self.readers.remove(&key);
            self.done.insert(key);
            self.ends.seen.fetch_add(1, SeqCst);
            self.next_look = Instant::now();
        }
        let lag = self.readers.values().filter_map(|reader| reader.behind).max().unwrap_or_default();
        self.context.gauge("lag.ms", u64::try_from(lag).unwrap_or_default());
        Ok(())
    }

    /// What has arrived: records first, so that a place without records never overtakes them.
    fn take_arrived(&mut self) -> Option<SourcePoll> {
        if !self.records.is_empty() {
            self.bytes = 0;
            return Some(SourcePoll::Records(std::mem::take(&mut self.records)));
        }
        self.bytes = 0;
        (!self.places.is_empty()).then(|| SourcePoll::Offsets(std::mem::take(&mut self.places)))
    }

    fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// True where every shard of this task was read to its end by reads that began after `began`, and none waits to be read.
    ///
    /// Whoever has seen a shard's end waits for the other tasks, too: what was put into its children may be theirs to read, and they may
    /// have said that they are caught up before they knew of them.
    fn is_caught_up_since(&self, began: Instant) -> bool {
        let reshardings = self.ends.seen.load(SeqCst);
        let caught_up = self.waiting.is_empty()
            && self.next_look > Instant::now()
            && self.streams.values().all(|stream| stream.resharding >= reshardings)
            && self.readers.values().all(|reader| reader.caught_up.is_some_and(|read| read >= began))
            && (!self.readers.is_empty() || began.elapsed() >= IDLE_LOOK);
        if caught_up {
            self.ends.followed[self.number].fetch_max(reshardings, SeqCst);
        }
        caught_up && self.ends.followed.iter().all(|followed| followed.load(SeqCst) >= reshardings)
    }

    /// When there is something to do without any job's end.
    fn wake(&self) -> Instant {
        let now = Instant::now();
        let reads = self.readers.values().filter(|reader| reader.feed.is_some()).map(|reader| reader.pace.due());
        let lists = self.streams.values().filter(|stream| !stream.being_listed).map(|stream| stream.listing_pace.due());
        let reads = if self.reads >= self.reads_max() { None } else { reads.min() };
        let wake = reads.into_iter().chain(lists.filter(|due| *due > now)).chain([self.next_look]).min();
        wake.unwrap_or(now).min(now + IDLE_LOOK)
    }
}

impl Reader {
    /// Makes records of one Kinesis record and moves the place behind it. True where the last of them carries that place;
    /// otherwise nothing of it was left to carry it.
    #[expect(clippy::too_many_arguments)]
    fn take(
        &mut self,
        key: &ShardKey,
        topic: &Arc<str>,
        record: KinesisRecord,
        ended: bool,
        config: &KinesisSourceConfig,
        context: &SourceTaskContext,
        out: &mut Vec<SourceRecord>,
    ) -> bool {
        let arrived = arrival(&record);
        let KinesisRecord { sequence_number, data, partition_key, .. } = record;
        let data = Bytes::from(data.into_inner());
        self.place =
            Place { as_of: self.place.as_of.max(arrived), sequence: Some(sequence_number), ended, ..Place::default() };
        let sequence = self.place.sequence.as_deref().unwrap_or_default();
        let content = if config.kpl { kpl::open(&data) } else { kpl::Content::Plain };
        let parts = match content {
            kpl::Content::Aggregate(parts) => parts,
            content => {
                if let kpl::Content::Broken(why) = content {
                    context.count("kpl.broken", 1);
                    tracing::warn!(shard = %key.shard, sequence, why, "a record looks like an aggregate; kept as it is");
                }
                let made = make(key, topic, partition_key.unwrap_or_default(), data, sequence, None, arrived);
                out.push(SourceRecord::new(made, self.partition.clone(), self.place.to_offset()));
                return true;
            }
        };
        let delivered = match &self.resumed_inside {
            Some((inside, sub)) if inside == sequence => Some(*sub),
            _ => None,
        };
        let (begin, end) = self.shard.hash_range;
        let mut kept = Vec::with_capacity(parts.len());
        let mut out_of_range = 0;
        for (sub, part) in (0i64..).zip(parts) {
            if delivered.is_some_and(|delivered| sub <= delivered) {
                continue;
            }
            if !(begin..=end).contains(&part.hash_key) {
                out_of_range += 1;
                if config.hash_range_check == HashRangeCheck::Drop {
                    continue;
                }
            }
            kept.push((sub, part));
        }
        if out_of_range > 0 {
            context.count("kpl.out.of.range", out_of_range);
        }
        let last = kept.len();
        for (at, (sub, part)) in kept.into_iter().enumerate() {
            let made = make(key, topic, part.partition_key, part.data, sequence, Some(sub), arrived);
            let offset = if at + 1 == last {
                self.place.to_offset()
            } else {
                Place { sub_sequence: Some(sub), ended: false, ..self.place.clone() }.to_offset()
            };
            out.push(SourceRecord::new(made, self.partition.clone(), offset));
        }
        last > 0
    }
}

/// The record as it goes to the topic.
fn make(
    key: &ShardKey,
    topic: &Arc<str>,
    partition_key: String,
    data: Bytes,
    sequence: &str,
    sub: Option<i64>,
    arrived: i64,
) -> Record {
    let mut record = Record::new(topic.clone(), Value::Bytes(data));
    record.timestamp = Some(arrived);
    record.headers = Headers::with_capacity(HEADERS_MAX);
    record.headers.add("kinesis.partition.key", partition_key.as_str());
    record.headers.add("kinesis.sequence.number", sequence);
    if let Some(sub) = sub {
        record.headers.add("kinesis.sub.sequence.number", sub);
    }
    record.headers.add("kinesis.arrival.ms", arrived);
    record.headers.add("kinesis.shard.id", &*key.shard);
    record.headers.add("kinesis.stream", &*key.stream);
    record.key = Payload::schemaless(partition_key);
    record
}

/// When a record arrived, in milliseconds since 1970.
fn arrival(record: &KinesisRecord) -> i64 {
    record.approximate_arrival_timestamp.and_then(|time| time.to_millis().ok()).unwrap_or_default()
}

fn time(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| millis.to_string(), |time| time.to_string())
}

/// The stored place has left what the stream holds.
fn gap(key: &ShardKey, place: &Place, why: &str) -> Error {
    let sequence = place.sequence.as_deref().unwrap_or("none");
    Error::fatal(format!(
        "records may be lost: this shard is delivered up to sequence number {sequence} (everything that arrived before {}), and \
         {why}; to go on with the oldest record there is, set kinesis.on.gap = earliest",
        time(place.as_of)
    ))
    .with("stream", &key.stream)
    .with("shard", &key.shard)
}

/// The shards of a stream, all pages.
async fn list(kinesis: &Kinesis, stream: &Arc<str>) -> Result<Listing, Failure> {
    const OPERATION: &str = "list the shards of a stream";
    let (mut listing, mut token) = (Listing::new(), None);
    loop {
        let request = kinesis.client.list_shards();
        // A token stands for the stream; Kinesis refuses both together.
        let request = match token.take() {
            Some(token) => request.next_token(token),
            None => request.stream_name(&**stream),
        };
        let page = request.send().await.map_err(|error| {
            let mut failure = from_sdk(error, OPERATION, &kinesis.place);
            failure.error = failure.error.with("stream", stream);
            failure
        })?;
        for shard in page.shards.unwrap_or_default() {
            let hash = |text: Option<&str>, default| text.and_then(|text| text.parse().ok()).unwrap_or(default);
            let hashes = shard.hash_key_range.as_ref();
            let sequences = shard.sequence_number_range.as_ref();
            let parents = [shard.parent_shard_id.as_deref(), shard.adjacent_parent_shard_id.as_deref()];
            let found = Shard {
                parents: parents.into_iter().flatten().map(Arc::from).collect(),
                first: sequences.map(|range| range.starting_sequence_number.clone()).unwrap_or_default(),
                closed: sequences.is_some_and(|range| range.ending_sequence_number.is_some()),
                hash_range: (
                    hash(hashes.map(|range| range.starting_hash_key.as_str()), 0),
                    hash(hashes.map(|range| range.ending_hash_key.as_str()), u128::MAX),
                ),
            };
            listing.insert(shard.shard_id.as_str().into(), found);
        }
        token = page.next_token;
        if token.is_none() {
            return Ok(listing);
        }
    }
}
