//! What is on the disk: one fjall database, written by one thread.
//!
//! Every change is a closure that runs on that thread and adds to the commit being prepared, so changes see each other in
//! order, and what many callers want at the same moment shares one wait for the disk. Who called hears about it afterwards.
//!
//! | Keys of `state` | Values |
//! |---|---|
//! | `m/format`, `m/secret`, `m/counters` | version of all this, key of the tokens, the next stream's identity and epoch |
//! | `s/` name | a [`Stream`] in JSON |
//! | `t/` stream, shard | a shard's tail, for when its records are gone |
//! | `d/` stream | a deleted stream whose records are being removed |
//!
//! A key of `records` is stream (8 bytes), shard (4), index (8); its value arrival (8), length of the partition key (2), the
//! key, the data.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fjall::config::{BlockSizePolicy, PinningPolicy};
use fjall::{AbstractTree, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode, UserKey, UserValue};
use ottla_api::{Error, ErrorKind, Result, error::ResultExt};
use parking_lot::{Condvar, Mutex, RwLock};
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};

use super::Clock;
use super::stream::{Reshard, Shard, Stream, Tail, Transition};
use super::wire::ApiError;

/// Every stream by name, as of the last commit.
pub(super) type Streams = BTreeMap<String, Arc<Stream>>;

/// A record, as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredRecord {
    pub(super) index: u64,
    pub(super) arrived_ms: u64,
    pub(super) partition_key: String,
    pub(super) data: Bytes,
}

/// A stretch of a shard.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    pub(super) records: Vec<StoredRecord>,
    /// Bytes of data and partition keys.
    pub(super) bytes: usize,
    /// When the first record behind the stretch arrived, where there is one.
    pub(super) following_ms: Option<u64>,
}

/// The folder, open. Dropping it writes what is queued and closes the folder.
#[derive(Debug)]
pub(super) struct Store {
    inner: Arc<Inner>,
    writer: Option<JoinHandle<()>>,
    secret: [u8; 16],
}

struct Inner {
    dir: PathBuf,
    fsync: bool,
    clock: Arc<dyn Clock>,
    /// Pause between removals of what has left retention.
    trim_interval: Duration,
    /// None only after a failed write, until the store could be opened again.
    database: RwLock<Option<Database>>,
    streams: RwLock<Arc<Streams>>,
    /// When the next pending transition is due; the largest number for never.
    due_ms: AtomicU64,
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Counts commits, so that subscriptions notice them.
    commits: watch::Sender<u64>,
}

#[derive(Default)]
struct Queue {
    changes: VecDeque<Change>,
    closed: bool,
}

/// Adds to the commit; what it answers is called when the commit is through.
type Change = Box<dyn FnOnce(&mut Working) -> Finish + Send>;
type Finish = Box<dyn FnOnce(Result<(), ApiError>) + Send>;

const FORMAT: &[u8] = b"1";
const KEY_FORMAT: &[u8] = b"m/format";
const KEY_SECRET: &[u8] = b"m/secret";
const KEY_COUNTERS: &[u8] = b"m/counters";

/// One commit takes at most about this much from the queue, so that the first in it does not wait for the last.
const COMMIT_BYTES_MAX: usize = 8 << 20;
/// Records removed in one commit, so that puts get their turn in between.
const TRIM_RECORDS: usize = 5_000;
/// How long a folder that is in use is waited for: one that is being closed is free in a moment.
const PATIENCE: Duration = Duration::from_secs(2);

impl Store {
    /// Opens the folder, making it where it does not exist.
    ///
    /// An error of kind `Config` where another process has it.
    pub(super) fn open(dir: &Path, fsync: bool, clock: Arc<dyn Clock>, trim_interval: Duration) -> Result<Self> {
        let asked = Instant::now();
        let database = loop {
            match Database::open(dir) {
                Err(fjall::Error::Locked) if asked.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(20)),
                opened => break opened.map_err(|error| explain(error, format!("open {}", dir.display())))?,
            }
        };
        let secret = database.identify(dir)?;
        let working = Working::load(&database, clock.now_ms())?;
        let inner = Arc::new(Inner {
            dir: dir.to_owned(),
            fsync,
            clock,
            trim_interval,
            database: RwLock::new(Some(database)),
            streams: RwLock::new(Arc::new(working.streams.clone())),
            due_ms: AtomicU64::new(working.due_ms()),
            queue: Mutex::default(),
            wake: Condvar::new(),
            commits: watch::Sender::new(0),
        });
        let mut writer = Writer { inner: Arc::clone(&inner), working, trimmed: Instant::now() };
        let writer = thread::Builder::new()
            .name("ottla-kinesis".into())
            .spawn(move || writer.run())
            .or_error(ErrorKind::Fatal, "start the thread that writes the embedded Kinesis")?;
        Ok(Self { inner, writer: Some(writer), secret })
    }

    /// The folder's random secret.
    pub(super) fn secret(&self) -> [u8; 16] {
        self.secret
    }

    /// All streams, as they are now.
    pub(super) async fn streams(&self) -> Result<Arc<Streams>, ApiError> {
        if self.inner.due_ms.load(Relaxed) <= self.inner.clock.now_ms() {
            // The writer settles what is due before anything else.
            self.write(|_| Ok(())).await?;
        }
        Ok(Arc::clone(&self.inner.streams.read()))
    }

    /// Makes a change and waits until it is durable.
    ///
    /// The closure checks before it changes anything: what it added before an error stays.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Working) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let (reply, answer) = oneshot::channel();
        let change: Change = Box::new(move |working| {
            let changed = change(working);
            Box::new(move |committed| {
                // Nobody waits any more where the caller was dropped. The change holds all the same, as on AWS.
                let _ = reply.send(committed.and(changed));
            })
        });
        {
            let mut queue = self.inner.queue.lock();
            if !queue.closed {
                queue.changes.push_back(change);
                self.inner.wake.notify_one();
            }
        }
        answer.await.unwrap_or_else(|_| Err(ApiError::internal("the embedded Kinesis could not write its folder")))
    }

    /// Changes with every commit.
    pub(super) fn commits(&self) -> watch::Receiver<u64> {
        self.inner.commits.subscribe()
    }

    /// Records of a shard from `index` on that arrived at `horizon_ms` or later. Stops at either limit, but has one record
    /// where there is one.
    pub(super) fn read(
        &self,
        stream: u64,
        shard: &Shard,
        index: u64,
        horizon_ms: u64,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<Stretch> {
        let start = index.max(shard.tail.first());
        let mut stretch = Stretch::default();
        self.with_database(|database| {
            let mut expired = false;
            database.scan_records(record_range(stream, shard.number, start), |index, value| {
                let record = decode_record(index, value)?;
                if record.arrived_ms < horizon_ms {
                    expired = true;
                    return Ok(ControlFlow::Break(()));
                }
                Ok(stretch.add(record, records_max, bytes_max))
            })?;
            if expired {
                let start = database.index_at(stream, shard, horizon_ms)?;
                database.scan_records(record_range(stream, shard.number, start), |index, value| {
                    Ok(stretch.add(decode_record(index, value)?, records_max, bytes_max))
                })?;
            }
            Ok(())
        })?;
        Ok(stretch)
    }

    /// The index of the first record that arrived at `ms` or later, or the next one to come.
    pub(super) fn index_at(&self, stream: u64, shard: &Shard, ms: u64) -> Result<u64> {
        self.with_database(|database| database.index_at(stream, shard, ms))
    }

    fn with_database<T>(&self, read: impl FnOnce(&Database) -> Result<T>) -> Result<T> {
        match &*self.inner.database.read() {
            Some(database) => read(database),
            None => Err(Error::retriable("the folder is closed after a failed write, and can't be opened yet")),
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.inner.queue.lock().closed = true;
        self.inner.wake.notify_one();
        // A change that nobody waits for may hold the last handle; then this is the writer's own thread, which ends by itself.
        if let Some(writer) = self.writer.take()
            && writer.thread().id() != thread::current().id()
        {
            // It ends as soon as the queue is written; a panic of its own was heard by whoever waited.
            let _ = writer.join();
        }
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Stretch {
    fn add(&mut self, record: StoredRecord, records_max: usize, bytes_max: usize) -> ControlFlow<()> {
        let bytes = record.data.len() + record.partition_key.len();
        let full = self.records.len() >= records_max || (!self.records.is_empty() && self.bytes + bytes > bytes_max);
        if full {
            self.following_ms = Some(record.arrived_ms);
            return ControlFlow::Break(());
        }
        self.bytes += bytes;
        self.records.push(record);
        ControlFlow::Continue(())
    }
}

/// What the writer works on: everything that is stored, with the changes of the commit being prepared.
#[derive(Debug)]
pub(super) struct Working {
    now_ms: u64,
    streams: Streams,
    streams_changed: bool,
    counters: Counters,
    /// Shards that this commit appends to.
    cursors: HashMap<(u64, u32), Cursor>,
    /// Streams whose records are still to be removed.
    dropped: Vec<u64>,
    operations: Vec<(Space, UserKey, Option<UserValue>)>,
    bytes: usize,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Counters {
    streams: u64,
    epoch: u64,
}

#[derive(Debug)]
struct Cursor {
    tail: Arc<Tail>,
    next: u64,
    last_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Space {
    Records,
    State,
}

impl Working {
    fn load(database: &Database, now_ms: u64) -> Result<Self> {
        let mut working = Self {
            now_ms,
            streams: Streams::new(),
            streams_changed: false,
            counters: Counters::default(),
            cursors: HashMap::new(),
            dropped: Vec::new(),
            operations: Vec::new(),
            bytes: 0,
        };
        let damaged = || format!("read stored streams: {}", "their JSON is damaged");
        if let Some(counters) = database.get(KEY_COUNTERS)? {
            working.counters = serde_json::from_slice(&counters).or_error(ErrorKind::Fatal, damaged())?;
        }
        for (_, value) in database.all(b"s/")? {
            let mut stream: Stream = serde_json::from_slice(&value).or_error(ErrorKind::Fatal, damaged())?;
            for shard in &mut stream.shards {
                shard.tail = Arc::new(database.tail(stream.id, shard)?);
            }
            working.streams.insert(stream.name.clone(), Arc::new(stream));
        }
        for (key, _) in database.all(b"d/")? {
            working.dropped.extend(key[2..].try_into().map(u64::from_be_bytes));
        }
        Ok(working)
    }

    /// The time of this commit.
    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// All streams, with the changes of this commit.
    pub(super) fn streams(&self) -> &Streams {
        &self.streams
    }

    /// A new stream's identity.
    pub(super) fn next_stream_id(&mut self) -> u64 {
        self.counters.streams += 1;
        self.store_counters();
        self.counters.streams
    }

    /// Puts a stream in place of the one of its name; what is due at once happens now.
    pub(super) fn put_stream(&mut self, mut stream: Stream) {
        if stream.pending.as_ref().is_some_and(|pending| pending.due_ms <= self.now_ms) {
            if stream.pending.as_ref().is_some_and(|pending| matches!(pending.transition, Transition::Delete)) {
                return self.remove_stream(&stream);
            }
            let (now_ms, id) = (self.now_ms, stream.id);
            stream.settle(now_ms, &mut Resharding { stream: id, working: self });
        }
        // Serialising numbers, text and lists of them can't fail.
        let json = serde_json::to_vec(&stream).expect("a stream is plain data");
        self.put(Space::State, &[b"s/", stream.name.as_bytes()].concat(), &json);
        self.streams.insert(stream.name.clone(), Arc::new(stream));
        self.streams_changed = true;
    }

    fn remove_stream(&mut self, stream: &Stream) {
        self.remove(Space::State, &[b"s/", stream.name.as_bytes()].concat());
        self.put(Space::State, &dropped_key(stream.id), b"");
        self.streams.remove(&stream.name);
        self.dropped.push(stream.id);
        self.streams_changed = true;
    }

    /// Adds a record. `encoded` is what [`encode_record`] made. Answers its index and its time of arrival.
    pub(super) fn append(&mut self, stream: u64, shard: &Shard, mut encoded: Vec<u8>) -> (u64, u64) {
        let now_ms = self.now_ms;
        let cursor = self.cursor(stream, shard);
        // A clock that was set back must not put times out of order: places are found by time.
        cursor.last_ms = cursor.last_ms.max(now_ms);
        let (index, arrived_ms) = (cursor.next, cursor.last_ms);
        cursor.next += 1;
        encoded[..8].copy_from_slice(&arrived_ms.to_be_bytes());
        self.put(Space::Records, &record_key(stream, shard.number, index), &encoded);
        (index, arrived_ms)
    }

    /// The index that the next record of the shard gets.
    pub(super) fn next_index(&mut self, stream: u64, shard: &Shard) -> u64 {
        self.cursor(stream, shard).next
    }

    fn cursor(&mut self, stream: u64, shard: &Shard) -> &mut Cursor {
        self.cursors.entry((stream, shard.number)).or_insert_with(|| Cursor {
            tail: Arc::clone(&shard.tail),
            next: shard.tail.next(),
            last_ms: shard.tail.last_ms(),
        })
    }

    fn store_counters(&mut self) {
        let json = serde_json::to_vec(&self.counters).expect("two numbers are plain data");
        self.put(Space::State, KEY_COUNTERS, &json);
    }

    fn put(&mut self, space: Space, key: &[u8], value: &[u8]) {
        self.bytes += key.len() + value.len();
        self.operations.push((space, key.into(), Some(value.into())));
    }

    fn remove(&mut self, space: Space, key: &[u8]) {
        self.bytes += key.len();
        self.operations.push((space, key.into(), None));
    }

    /// Removes up to `max` records and answers their indexes.
    fn remove_records(&mut self, database: &Database, range: Range<Vec<u8>>, max: usize) -> Result<Vec<u64>> {
        let keys = database.record_keys(range, max)?;
        keys.iter().for_each(|key| self.remove(Space::Records, key));
        Ok(keys.iter().filter_map(|key| index_of(key)).collect())
    }

    /// Does every transition whose time has come.
    fn settle(&mut self) {
        let is_due = |stream: &&Arc<Stream>| stream.pending.as_ref().is_some_and(|it| it.due_ms <= self.now_ms);
        let due: Vec<Stream> = self.streams.values().filter(is_due).map(|stream| (**stream).clone()).collect();
        due.into_iter().for_each(|stream| self.put_stream(stream));
    }

    fn due_ms(&self) -> u64 {
        let due = self.streams.values().filter_map(|stream| stream.pending.as_ref()).map(|pending| pending.due_ms);
        due.min().unwrap_or(u64::MAX)
    }
}

/// The counters of one stream, for a change of its shards.
struct Resharding<'a> {
    stream: u64,
    working: &'a mut Working,
}

impl Reshard for Resharding<'_> {
    fn end_of(&mut self, shard: &Shard) -> u64 {
        self.working.next_index(self.stream, shard)
    }

    fn next_epoch(&mut self) -> u64 {
        let counters = &mut self.working.counters;
        // Kinesis has the second here. Where there are more splits than seconds, it runs ahead of the clock.
        counters.epoch = (counters.epoch + 1).max(self.working.now_ms / 1000);
        let epoch = counters.epoch;
        self.working.store_counters();
        epoch
    }
}

/// The thread that writes.
struct Writer {
    inner: Arc<Inner>,
    working: Working,
    trimmed: Instant,
}

impl Writer {
    fn run(&mut self) {
        while let Some(mut group) = self.take() {
            if let Err(error) = self.reopen_where_closed() {
                tracing::error!(%error, "the embedded Kinesis can't open its folder after a failed write");
                // Dropping a change tells its caller.
                continue;
            }
            while !group.is_empty() {
                self.working.now_ms = self.inner.clock.now_ms();
                self.working.settle();
                let mut finishes = Vec::new();
                while self.working.bytes < COMMIT_BYTES_MAX
                    && let Some(change) = group.pop_front()
                {
                    finishes.push(change(&mut self.working));
                }
                let committed = self.commit();
                finishes.into_iter().for_each(|finish| finish(committed.clone()));
            }
            if self.trimmed.elapsed() >= self.inner.trim_interval
                && let Err(error) = self.trim()
            {
                tracing::warn!(%error, "the embedded Kinesis can't remove records that have left retention");
            }
        }
    }

    /// Everything that waits, or nothing where it is time to trim. None where the store is closed.
    fn take(&mut self) -> Option<VecDeque<Change>> {
        let mut queue = self.inner.queue.lock();
        while queue.changes.is_empty() && !queue.closed {
            let pause = self.inner.trim_interval.saturating_sub(self.trimmed.elapsed());
            if self.inner.wake.wait_for(&mut queue, pause).timed_out() {
                break;
            }
        }
        let ended = queue.closed && queue.changes.is_empty();
        (!ended).then(|| std::mem::take(&mut queue.changes))
    }

    /// Writes what has been prepared, all of it or nothing, and shows it to everybody.
    fn commit(&mut self) -> Result<(), ApiError> {
        let operations = std::mem::take(&mut self.working.operations);
        self.working.bytes = 0;
        if !operations.is_empty() {
            let written = match &*self.inner.database.read() {
                Some(database) => database.commit(operations, self.inner.fsync),
                None => Err(fjall::Error::Poisoned),
            };
            if let Err(error) = written {
                let error = explain(error, format!("write {}", self.inner.dir.display()));
                tracing::error!(%error, "the embedded Kinesis could not write; its folder is opened again");
                // Whether it got in is not known: as with a lost answer, the caller tries again.
                *self.inner.database.write() = None;
                if let Err(error) = self.reopen_where_closed() {
                    tracing::error!(%error, "the embedded Kinesis can't open its folder after a failed write");
                }
                return Err(error.into());
            }
        }
        for (_, cursor) in self.working.cursors.drain() {
            cursor.tail.grown_to(cursor.next, cursor.last_ms);
        }
        // Shards are shown as closed only after their last records are shown.
        if std::mem::take(&mut self.working.streams_changed) {
            *self.inner.streams.write() = Arc::new(self.working.streams.clone());
            self.inner.due_ms.store(self.working.due_ms(), Relaxed);
        }
        self.inner.commits.send_modify(|commits| *commits += 1);
        Ok(())
    }

    /// Takes the state from the disk, where a failed write has closed it.
    fn reopen_where_closed(&mut self) -> Result<()> {
        let mut database = self.inner.database.write();
        if database.is_some() {
            return Ok(());
        }
        let dir = &self.inner.dir;
        let opened = Database::open(dir).map_err(|error| explain(error, format!("open {}", dir.display())))?;
        // After a failed fsync the disk may lack what the page cache shows.
        opened.start_flush()?;
        self.working = Working::load(&opened, self.inner.clock.now_ms())?;
        *self.inner.streams.write() = Arc::new(self.working.streams.clone());
        self.inner.due_ms.store(self.working.due_ms(), Relaxed);
        *database = Some(opened);
        Ok(())
    }

    /// Removes what has left retention, and what deleted streams have left behind. Bounded: the rest waits for the next time,
    /// which comes soon where there is more.
    fn trim(&mut self) -> Result<()> {
        self.trimmed = Instant::now();
        self.working.now_ms = self.inner.clock.now_ms();
        let mut room = TRIM_RECORDS;
        let mut tails: Vec<(Arc<Tail>, u64)> = Vec::new();
        {
            let database = self.inner.database.read();
            let Some(database) = &*database else { return Ok(()) };
            for stream in self.working.dropped.clone() {
                let removed = self.working.remove_records(database, stream_range(stream), room)?;
                room -= removed.len();
                if room > 0 {
                    let tails = database.all(&[b"t/", &stream.to_be_bytes()[..]].concat())?;
                    tails.iter().for_each(|(key, _)| self.working.remove(Space::State, key));
                    self.working.remove(Space::State, &dropped_key(stream));
                    self.working.dropped.retain(|dropped| *dropped != stream);
                }
            }
            let streams: Vec<_> = self.working.streams.values().cloned().collect();
            for stream in streams {
                let horizon_ms = stream.horizon_ms(self.working.now_ms);
                for shard in &stream.shards {
                    let first = shard.tail.first();
                    let oldest = database.first_record(record_range(stream.id, shard.number, first))?;
                    if room == 0 || oldest.is_none_or(|(_, arrived_ms)| arrived_ms >= horizon_ms) {
                        continue;
                    }
                    let until = database.index_at(stream.id, shard, horizon_ms)?;
                    let range = record_key(stream.id, shard.number, first)..record_key(stream.id, shard.number, until);
                    let removed = self.working.remove_records(database, range, room)?;
                    room -= removed.len();
                    let first = removed.last().map_or(until, |last| last + 1);
                    let tail = [first, shard.tail.next(), shard.tail.last_ms()].map(u64::to_be_bytes).concat();
                    self.working.put(Space::State, &tail_key(stream.id, shard.number), &tail);
                    tails.push((Arc::clone(&shard.tail), first));
                }
                let is_past = |shard: &Shard| shard.closed.is_some_and(|closed| closed.at_ms < horizon_ms);
                if stream.shards.iter().any(is_past) {
                    let mut changed = (*stream).clone();
                    let emptied = |shard: &Shard| {
                        let rest = record_range(stream.id, shard.number, shard.tail.first());
                        Ok::<_, Error>(is_past(shard) && database.first_record(rest)?.is_none())
                    };
                    let mut kept = Vec::new();
                    for shard in changed.shards.drain(..) {
                        if emptied(&shard)? {
                            self.working.remove(Space::State, &tail_key(stream.id, shard.number));
                        } else {
                            kept.push(shard);
                        }
                    }
                    if kept.len() < stream.shards.len() {
                        changed.shards = kept;
                        self.working.put_stream(changed);
                    }
                }
            }
        }
        if room == 0 {
            // More to do: come back as soon as the queue has had its turn.
            self.trimmed = Instant::now().checked_sub(self.inner.trim_interval).unwrap_or(self.trimmed);
        }
        if self.commit().is_ok() {
            tails.into_iter().for_each(|(tail, first)| tail.trimmed_to(first));
        }
        Ok(())
    }
}

impl Drop for Writer {
    /// Whoever still waits hears that nobody will write, also where a bug ended this thread.
    fn drop(&mut self) {
        let mut queue = self.inner.queue.lock();
        queue.closed = true;
        queue.changes.clear();
    }
}

/// The files.
struct Database {
    database: fjall::Database,
    records: Keyspace,
    state: Keyspace,
}

/// Records wait in memory, beside the journal, until this much is there to be written in order.
const RECORDS_MEMTABLE: u64 = 8 << 20;
const STATE_MEMTABLE: u64 = 1 << 20;
/// A record is read once or a few times, soon after it was written and then in order.
const CACHE: u64 = 4 << 20;
/// The least fjall accepts.
const JOURNALS: u64 = 64 << 20;
/// Values above this are kept apart from the keys, so that compactions don't copy them.
const SEPARATED_BYTES: u32 = 4 << 10;

impl Database {
    fn open(dir: &Path) -> fjall::Result<Self> {
        let database = fjall::Database::builder(dir)
            .cache_size(CACHE)
            .max_journaling_size(JOURNALS)
            .max_cached_files(Some(128))
            .worker_threads(1)
            .open()?;
        let records = database.keyspace("records", || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(RECORDS_MEMTABLE)
                .data_block_size_policy(BlockSizePolicy::all(16 << 10))
                .index_block_pinning_policy(PinningPolicy::all(false))
                .filter_block_pinning_policy(PinningPolicy::all(false))
                .with_kv_separation(Some(
                    KvSeparationOptions::default().separation_threshold(SEPARATED_BYTES).file_target_size(32 << 20),
                ))
        })?;
        let state =
            database.keyspace("state", || KeyspaceCreateOptions::default().max_memtable_size(STATE_MEMTABLE))?;
        Ok(Self { database, records, state })
    }

    /// Checks the format and makes what a new folder needs. Answers the secret.
    fn identify(&self, dir: &Path) -> Result<[u8; 16]> {
        if let Some(format) = self.get(KEY_FORMAT)?
            && format != FORMAT
        {
            return Err(Error::config(format!(
                "{} holds format {} of the embedded Kinesis, and this version of ottla knows format {}; use the version \
                 that wrote it, or another state folder",
                dir.display(),
                String::from_utf8_lossy(&format),
                String::from_utf8_lossy(FORMAT)
            )));
        }
        if let Some(secret) = self.get(KEY_SECRET)? {
            let secret = secret[..].try_into().ok();
            return secret.ok_or_else(|| Error::fatal("the embedded Kinesis is damaged: its secret can't be read"));
        }
        let secret = *uuid::Uuid::new_v4().as_bytes();
        let operations = [(KEY_FORMAT, FORMAT), (KEY_SECRET, &secret[..])];
        let operations = operations.map(|(key, value)| (Space::State, key.into(), Some(value.into())));
        self.commit(operations.into(), true).map_err(|error| explain(error, format!("write {}", dir.display())))?;
        Ok(secret)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let value = self.state.get(key).map_err(|error| explain(error, "read the embedded Kinesis"))?;
        Ok(value.map(Bytes::from_owner))
    }

    /// Everything in `state` that begins with `prefix`.
    fn all(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>> {
        let entries = self.state.prefix(prefix).map(|entry| entry.into_inner());
        let owned = entries.map(|entry| entry.map(|(key, value)| (Bytes::from_owner(key), Bytes::from_owner(value))));
        owned.collect::<fjall::Result<_>>().map_err(|error| explain(error, "read the embedded Kinesis"))
    }

    /// A shard's tail, from what is stored of it and from its records.
    fn tail(&self, stream: u64, shard: &Shard) -> Result<Tail> {
        let stored = self.get(&tail_key(stream, shard.number))?.unwrap_or_default();
        let number = |at: usize| stored.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        let (first, mut next, mut last_ms) =
            (number(0).unwrap_or(1), number(8).unwrap_or(1), number(16).unwrap_or(shard.created_ms));
        let last = self.records.range(record_range(stream, shard.number, first)).next_back();
        if let Some(entry) = last {
            let (key, value) = entry.into_inner().map_err(|error| explain(error, "read the embedded Kinesis"))?;
            next = next.max(index_of(&key).map_or(1, |index| index + 1));
            last_ms = last_ms.max(arrival_of(&value)?);
        }
        Ok(Tail::new(first, next, last_ms))
    }

    fn scan_records(
        &self,
        range: Range<Vec<u8>>,
        mut visit: impl FnMut(u64, Bytes) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        for entry in self.records.range(range) {
            let (key, value) = entry.into_inner().map_err(|error| explain(error, "read the embedded Kinesis"))?;
            let index =
                index_of(&key).ok_or_else(|| Error::fatal("the embedded Kinesis is damaged: a key is short"))?;
            if visit(index, Bytes::from_owner(value))?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Index and arrival of the first record of a range.
    fn first_record(&self, range: Range<Vec<u8>>) -> Result<Option<(u64, u64)>> {
        let mut first = None;
        self.scan_records(range, |index, value| {
            first = Some((index, arrival_of(&value)?));
            Ok(ControlFlow::Break(()))
        })?;
        Ok(first)
    }

    fn record_keys(&self, range: Range<Vec<u8>>, max: usize) -> Result<Vec<UserKey>> {
        let keys = self.records.range(range).take(max).map(|entry| entry.key());
        keys.collect::<fjall::Result<_>>().map_err(|error| explain(error, "read the embedded Kinesis"))
    }

    /// Arrival times ascend with the index, so the place is found by halving.
    fn index_at(&self, stream: u64, shard: &Shard, ms: u64) -> Result<u64> {
        let (mut low, mut high) = (shard.tail.first(), shard.tail.next());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.first_record(record_range(stream, shard.number, middle))? {
                Some((index, arrived_ms)) if arrived_ms < ms => low = index + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// Writes everything or nothing. With `fsync` it is on the disk when this returns.
    fn commit(&self, operations: Vec<(Space, UserKey, Option<UserValue>)>, fsync: bool) -> fjall::Result<()> {
        self.wait_for_flushes()?;
        let mode = if fsync { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut batch = self.database.batch().durability(Some(mode));
        for (space, key, value) in operations {
            let keyspace = if space == Space::Records { &self.records } else { &self.state };
            match value {
                Some(value) => batch.insert(keyspace, key, value),
                None => batch.remove(keyspace, key),
            }
        }
        batch.commit()
    }

    /// Waits while the background thread is far behind. fjall does the same inside a commit, but without noticing that its
    /// thread has died of a full disk.
    fn wait_for_flushes(&self) -> fjall::Result<()> {
        if self.records.tree.active_memtable().size() > RECORDS_MEMTABLE {
            self.records.rotate_memtable()?;
        }
        let behind = |keyspace: &Keyspace| keyspace.sealed_memtable_count() >= 2 || keyspace.l0_table_count() >= 16;
        while behind(&self.records) || behind(&self.state) {
            // The only call that says whether that thread is alive without changing anything.
            self.database.persist(PersistMode::Buffer)?;
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Writes what is in memory into files of its own, so that nothing depends on pages of the journal that the disk may have
    /// refused.
    fn start_flush(&self) -> Result<()> {
        for keyspace in [&self.records, &self.state] {
            keyspace.rotate_memtable().map_err(|error| explain(error, "flush the embedded Kinesis"))?;
        }
        Ok(())
    }
}

/// A disk that fails may recover; data that can't be read never does.
fn explain(error: fjall::Error, operation: impl std::fmt::Display) -> Error {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
            Error::retriable(operation.to_string()).caused_by(error)
        }
        fjall::Error::Poisoned => Error::retriable(format!("{operation}: an earlier write failed")),
        fjall::Error::Locked => Error::config(format!(
            "{operation}: another process has this embedded Kinesis open; stop it, or use another state folder"
        )),
        error => Error::fatal(format!("{operation}: its files are damaged")).caused_by(error),
    }
}

fn record_key(stream: u64, shard: u32, index: u64) -> Vec<u8> {
    [&stream.to_be_bytes()[..], &shard.to_be_bytes(), &index.to_be_bytes()].concat()
}

fn record_range(stream: u64, shard: u32, from: u64) -> Range<Vec<u8>> {
    record_key(stream, shard, from)..record_key(stream, shard, u64::MAX)
}

fn stream_range(stream: u64) -> Range<Vec<u8>> {
    stream.to_be_bytes().to_vec()..(stream + 1).to_be_bytes().to_vec()
}

fn tail_key(stream: u64, shard: u32) -> Vec<u8> {
    [b"t/", &stream.to_be_bytes()[..], &shard.to_be_bytes()].concat()
}

fn dropped_key(stream: u64) -> Vec<u8> {
    [b"d/", &stream.to_be_bytes()[..]].concat()
}

fn index_of(key: &[u8]) -> Option<u64> {
    key.last_chunk().copied().map(u64::from_be_bytes)
}

fn arrival_of(value: &[u8]) -> Result<u64> {
    let arrival = value.first_chunk().copied().map(u64::from_be_bytes);
    arrival.ok_or_else(|| Error::fatal("the embedded Kinesis is damaged: a record is short"))
}

/// A record's stored form, with room for its time of arrival.
pub(super) fn encode_record(partition_key: &str, data: &[u8]) -> Vec<u8> {
    // A partition key has at most 256 characters of four bytes.
    let length = (partition_key.len() as u16).to_be_bytes();
    [&[0; 8], &length[..], partition_key.as_bytes(), data].concat()
}

fn decode_record(index: u64, value: Bytes) -> Result<StoredRecord> {
    let damaged = || Error::fatal("the embedded Kinesis is damaged: a record can't be read");
    let arrived_ms = arrival_of(&value)?;
    let length = value.get(8..10).ok_or_else(damaged)?;
    let data_at = 10 + usize::from(u16::from_be_bytes([length[0], length[1]]));
    let key = value.get(10..data_at).and_then(|key| std::str::from_utf8(key).ok()).ok_or_else(damaged)?;
    Ok(StoredRecord { index, arrived_ms, partition_key: key.to_owned(), data: value.slice(data_at..) })
}
