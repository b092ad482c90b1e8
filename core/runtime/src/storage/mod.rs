//! The state folder: one transactional store, owned by one worker at a time.
//!
//! Everything the worker must remember goes through [`StateStore`]: embedded topics, group offsets, source offsets. One
//! thread writes. It takes what all tasks want written at that moment into one commit, so that sixteen tasks share one wait
//! for the disk; each task's change is still all there or not there at all.
//!
//! # When the disk is full
//!
//! New records are refused early, while there is room left to store offsets and to remove old records. If a write fails all
//! the same, the database closes itself; it is then opened again in place and asked whether the write got in, so that no
//! change is ever reported as failed and found later.

mod database;
mod lock;

use std::collections::VecDeque;
use std::fs;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use ottla_api::offset::{SourceOffset, SourceOffsets, SourcePartition};
use ottla_api::{Error, ErrorKind, Result, error::ResultExt};
use parking_lot::{Condvar, Mutex, RwLock};

use crate::broker::OffsetStore;
pub(crate) use database::{Batch, Space};
use database::{CommitError, Database};
use lock::FolderLock;

/// The version of what is stored. A worker that meets another one refuses to guess.
/// The database's folder in the state folder.
const STORE: &str = "store";
const FORMAT: &[u8] = b"1";

const KEY_FORMAT: &[u8] = b"m/format";
const KEY_WORKER: &[u8] = b"m/worker";
const KEY_COMMIT: &[u8] = b"m/commit";
const KEY_COMPACTED: &[u8] = b"m/compacted";

/// One commit takes at most this much from the queue, so that the first in it does not wait for a gigabyte.
const COMMIT_BYTES_MAX: usize = 8 << 20;
/// Pause between attempts to open the store again after a failed write.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// The worker's state folder, open. Dropping the last handle writes what is queued, closes the store and unlocks the folder.
pub struct StateStore {
    inner: Arc<Inner>,
    writer: Option<JoinHandle<()>>,
    worker_id: String,
    // Last, so that the folder is free only when the store is closed.
    _lock: FolderLock,
}

struct Inner {
    dir: PathBuf,
    fsync: bool,
    /// None only after a failed write, until the store could be opened again.
    database: RwLock<Option<Database>>,
    queue: Mutex<Queue>,
    wake: Condvar,
}

/// What waits to be written: at most one change per task, because whoever submits one waits for it.
#[derive(Default)]
struct Queue {
    changes: VecDeque<Box<dyn Change>>,
    closed: bool,
}

/// Something to be written. Both methods run on the writer thread, so that changes see each other in the order of the queue.
pub(crate) trait Change: Send {
    /// Adds what is to be written. An error refuses this change only.
    fn prepare(&mut self, batch: &mut Batch, space: &FreeSpace) -> Result<()>;

    /// Hears how it went: durable, or not written at all.
    fn finish(self: Box<Self>, result: Result<()>);
}

/// What is left on the disk, as of the commit that is being prepared.
#[derive(Debug)]
pub(crate) struct FreeSpace {
    dir: PathBuf,
    available: u64,
    reserve: u64,
}

impl FreeSpace {
    fn of(dir: &Path) -> Self {
        let (available, total) = match fs4::statvfs(dir) {
            Ok(stats) => (stats.available_space(), stats.total_space()),
            // Where nobody can say, the write itself will.
            Err(_) => (u64::MAX, 0),
        };
        // Offsets and removals go on in the reserve; it also holds what is in memory and still has to be flushed.
        Self { dir: dir.to_owned(), available, reserve: (32 << 20).min(total / 8) }
    }

    /// Refuses `bytes` more where that would use up the reserve.
    pub(crate) fn check(&self, bytes: usize) -> Result<()> {
        if self.available >= self.reserve.saturating_add(bytes as u64) {
            return Ok(());
        }
        Err(Error::retriable(format!(
            "the disk of state folder {} is full: {} MiB are free and {} MiB of them are kept in reserve; make room",
            self.dir.display(),
            self.available >> 20,
            self.reserve >> 20
        )))
    }
}

impl StateStore {
    /// True where a worker, or somebody who wrote to topics, has used this folder as its state folder.
    pub fn exists(dir: &Path) -> bool {
        dir.join(STORE).is_dir()
    }

    /// Opens the state folder, making it where it does not exist, and locks it. With `fsync` every commit waits for the disk.
    ///
    /// An error of kind `Config` where another worker has it.
    pub fn open(dir: &Path, fsync: bool) -> Result<Arc<Self>> {
        make_private_folder(dir)?;
        let dir = fs::canonicalize(dir).or_error(ErrorKind::Config, format!("state folder {}", dir.display()))?;
        let lock = FolderLock::acquire(&dir)?;
        let database = Database::open(&dir)?;
        let (worker_id, commits) = Self::identify(&dir, &database)?;
        let inner = Arc::new(Inner {
            dir,
            fsync,
            database: RwLock::new(Some(database)),
            queue: Mutex::default(),
            wake: Condvar::new(),
        });
        let mut writer = Writer { inner: inner.clone(), commits };
        let writer = thread::Builder::new()
            .name("ottla-store".into())
            .spawn(move || writer.run())
            .or_error(ErrorKind::Fatal, "start the store's thread")?;
        Ok(Arc::new(Self { inner, writer: Some(writer), worker_id, _lock: lock }))
    }

    /// Checks the format, and makes what a new store needs. Answers the worker's identity and the number of the last commit.
    fn identify(dir: &Path, database: &Database) -> Result<(String, u64)> {
        if let Some(format) = database.get(Space::State, KEY_FORMAT)? {
            if format != FORMAT {
                let (found, known) = (String::from_utf8_lossy(&format), String::from_utf8_lossy(FORMAT));
                return Err(Error::config(format!(
                    "state folder {} has format {found}, this version of ottla knows format {known}; use the version that \
                     wrote it, or another --state-dir",
                    dir.display()
                )));
            }
        } else {
            let mut batch = Batch::default();
            batch.put(Space::State, KEY_FORMAT, FORMAT);
            batch.put(Space::State, KEY_WORKER, uuid::Uuid::new_v4().to_string().as_bytes());
            batch.put(Space::State, KEY_COMMIT, &0u64.to_be_bytes());
            database.commit(&batch, true).map_err(|error| match error {
                CommitError::Poisoned => Error::retriable("write state store: an earlier write failed"),
                CommitError::Unknown(error) => database::explain(error, "write state store"),
            })?;
        }
        let missing = |what: &str| Error::fatal(format!("state folder {}: the {what} is missing", dir.display()));
        let worker = database.get(Space::State, KEY_WORKER)?.ok_or_else(|| missing("worker's identity"))?;
        let worker = String::from_utf8(worker.to_vec()).or_error(ErrorKind::Fatal, "read the worker's identity")?;
        Ok((worker, read_commit_number(database)?))
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// A random name of this worker, made once and kept with the folder.
    pub fn worker_id(&self) -> &str {
        &self.worker_id
    }

    /// Queues a change.
    pub(crate) fn submit(&self, change: Box<dyn Change>) {
        let mut queue = self.inner.queue.lock();
        if queue.closed {
            drop(queue);
            return change.finish(Err(Error::fatal("the state store is closed")));
        }
        queue.changes.push_back(change);
        self.inner.wake.notify_one();
    }

    /// Writes what `prepare` adds, and waits until it is durable. Blocks its thread.
    pub(crate) fn write_blocking(
        &self,
        prepare: impl FnMut(&mut Batch, &FreeSpace) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let (reply, answer) = mpsc::sync_channel(1);
        let finish = move |result| {
            let _ = reply.send(result);
        };
        self.submit(Box::new(Simple { prepare, finish }));
        answer.recv().unwrap_or_else(|_| Err(Error::fatal("the state store is closed")))
    }

    /// Writes what `prepare` adds, and waits until it is durable.
    pub(crate) async fn write(
        &self,
        prepare: impl FnMut(&mut Batch, &FreeSpace) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let finish = move |result| {
            let _ = reply.send(result);
        };
        self.submit(Box::new(Simple { prepare, finish }));
        answer.await.unwrap_or_else(|_| Err(Error::fatal("the state store is closed")))
    }

    fn with_database<T>(&self, read: impl FnOnce(&Database) -> Result<T>) -> Result<T> {
        match &*self.inner.database.read() {
            Some(database) => read(database),
            None => Err(Error::retriable("the state store is closed after a failed write, and can't be opened yet")),
        }
    }

    /// The value of a key.
    pub(crate) fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        self.with_database(|database| database.get(space, key))
    }

    /// Visits keys and values of a range in order, until told to stop.
    pub(crate) fn scan(
        &self,
        space: Space,
        range: Range<Vec<u8>>,
        visit: impl FnMut(&[u8], Bytes) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.with_database(|database| database.scan(space, range, visit))
    }

    /// Visits the keys of a range in order, until told to stop.
    pub(crate) fn scan_keys(
        &self,
        space: Space,
        range: Range<Vec<u8>>,
        visit: impl FnMut(&[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.with_database(|database| database.scan_keys(space, range, visit))
    }

    /// The last key of a range.
    pub(crate) fn last_key(&self, space: Space, range: Range<Vec<u8>>) -> Result<Option<Bytes>> {
        self.with_database(|database| database.last_key(space, range))
    }

    /// Gives the space of removed records back to the file system. Blocks its thread.
    pub(crate) fn compact_records(&self) -> Result<()> {
        self.with_database(Database::compact_records)?;
        // A flush needs something to flush.
        self.write_blocking(|batch, _| {
            batch.put(Space::State, KEY_COMPACTED, b"");
            Ok(())
        })?;
        self.with_database(Database::flush_state)
    }

    /// Bytes on the disk that hold records.
    pub(crate) fn records_size(&self) -> Result<u64> {
        self.with_database(|database| Ok(database.records_size()))
    }
}

impl Drop for StateStore {
    fn drop(&mut self) {
        self.inner.queue.lock().closed = true;
        self.inner.wake.notify_one();
        if let Some(writer) = self.writer.take()
            && writer.thread().id() != thread::current().id()
        {
            let _ = writer.join();
        }
    }
}

impl std::fmt::Debug for StateStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateStore").field("dir", &self.inner.dir).finish_non_exhaustive()
    }
}

/// Topics may hold anything, so the folder is its owner's alone.
fn make_private_folder(dir: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).or_error(ErrorKind::Config, format!("make state folder {}", dir.display()))
}

/// A change made of two closures.
struct Simple<P, F> {
    prepare: P,
    finish: F,
}

impl<P, F> Change for Simple<P, F>
where
    P: FnMut(&mut Batch, &FreeSpace) -> Result<()> + Send,
    F: FnOnce(Result<()>) + Send,
{
    fn prepare(&mut self, batch: &mut Batch, space: &FreeSpace) -> Result<()> {
        (self.prepare)(batch, space)
    }

    fn finish(self: Box<Self>, result: Result<()>) {
        (self.finish)(result);
    }
}

/// The thread that writes.
struct Writer {
    inner: Arc<Inner>,
    /// Number of the last commit, stored within it: how a commit of unknown fate is recognised.
    commits: u64,
}

impl Writer {
    fn run(&mut self) {
        while let Some(first) = self.wait() {
            self.write_group(first);
        }
    }

    /// The next change, or none when the store is closed and everything is written.
    fn wait(&self) -> Option<Box<dyn Change>> {
        let mut queue = self.inner.queue.lock();
        loop {
            if let Some(change) = queue.changes.pop_front() {
                return Some(change);
            }
            if queue.closed {
                return None;
            }
            self.inner.wake.wait(&mut queue);
        }
    }

    /// Commits the first change together with what else is waiting.
    fn write_group(&mut self, first: Box<dyn Change>) {
        let space = FreeSpace::of(&self.inner.dir);
        let mut batch = Batch::default();
        let mut group = Vec::new();
        let mut next = Some(first);
        while let Some(mut change) = next {
            let (len, bytes) = (batch.len(), batch.bytes());
            match change.prepare(&mut batch, &space) {
                Ok(()) => group.push(change),
                Err(error) => {
                    batch.truncate(len, bytes);
                    change.finish(Err(error));
                }
            }
            next = if batch.bytes() < COMMIT_BYTES_MAX { self.inner.queue.lock().changes.pop_front() } else { None };
        }
        let result = if batch.len() == 0 { Ok(()) } else { self.commit(batch) };
        for change in group {
            change.finish(result.as_ref().copied().map_err(copy_error));
        }
    }

    /// All of it, or nothing: what failed on the way is found out by opening the store anew.
    fn commit(&mut self, mut batch: Batch) -> Result<()> {
        let number = self.commits + 1;
        batch.put(Space::State, KEY_COMMIT, &number.to_be_bytes());
        for attempt in 0.. {
            let outcome = match &*self.inner.database.read() {
                Some(database) => database.commit(&batch, self.inner.fsync),
                None => Err(CommitError::Poisoned),
            };
            match outcome {
                Ok(()) => {
                    self.commits = number;
                    return Ok(());
                }
                Err(CommitError::Poisoned) => {
                    tracing::warn!("the state store could not write in the background; it is opened again");
                    self.reopen(None)?;
                    if attempt > 0 {
                        return Err(Error::retriable(format!(
                            "write state folder {}: the disk is full or fails",
                            self.inner.dir.display()
                        )));
                    }
                }
                Err(CommitError::Unknown(error)) => {
                    self.commits = self.reopen(Some(&error))?;
                    if self.commits == number {
                        return Ok(());
                    }
                    return Err(self.explain_write(error));
                }
            }
        }
        unreachable!("every second attempt answers")
    }

    fn explain_write(&self, error: fjall::Error) -> Error {
        let dir = self.inner.dir.display();
        match database::io_error(&error) {
            Some(cause) if database::is_full(cause) => {
                Error::retriable(format!("the disk of state folder {dir} is full; make room"))
                    .caused_by(error_text(cause))
            }
            _ => database::explain(error, format!("write state folder {dir}")),
        }
    }

    /// Closes the database and opens it again. Answers the number of the last commit that is there.
    ///
    /// It tries for as long as it takes: until the store is open nobody can say what became of the last commit, and a change
    /// that is called failed must not turn up later.
    fn reopen(&self, cause: Option<&fjall::Error>) -> Result<u64> {
        let mut database = self.inner.database.write();
        *database = None;
        let opened = loop {
            match Database::open(&self.inner.dir) {
                Ok(opened) => break opened,
                Err(error) if error.kind() == ErrorKind::Fatal || self.inner.queue.lock().closed => {
                    return Err(error.of_kind(ErrorKind::Fatal));
                }
                Err(error) => {
                    tracing::error!(%error, "the state store can't be opened after a failed write; trying again");
                    parking_lot::RwLockWriteGuard::unlocked(&mut database, || thread::sleep(REOPEN_PAUSE));
                }
            }
        };
        let number = read_commit_number(&opened)?;
        // After a failed fsync the disk may lack what the page cache shows.
        if cause.is_some_and(|error| database::io_error(error).is_none_or(|error| !database::is_full(error))) {
            opened.start_flush()?;
        }
        *database = Some(opened);
        Ok(number)
    }
}

fn read_commit_number(database: &Database) -> Result<u64> {
    let value = database.get(Space::State, KEY_COMMIT)?;
    let number = value.as_deref().and_then(|value| value.try_into().ok()).map(u64::from_be_bytes);
    number.ok_or_else(|| Error::fatal("the state store is damaged: the number of its last commit can't be read"))
}

fn error_text(error: &std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), error.to_string())
}

impl Drop for Writer {
    /// Whoever still waits hears that nobody will write, also where a bug ended this thread.
    fn drop(&mut self) {
        let mut queue = self.inner.queue.lock();
        queue.closed = true;
        let abandoned = std::mem::take(&mut queue.changes);
        drop(queue);
        for change in abandoned {
            change.finish(Err(Error::fatal("the state store is closed")));
        }
    }
}

/// The same error once more, for the next one who waits for the same commit.
fn copy_error(error: &Error) -> Error {
    Error::new(error.kind(), error.to_string())
}

/// Source offsets lie at `s/`, the connector's name with its length, and the source partition's JSON.
fn offset_key(connector: &str, partition: &str) -> Result<Vec<u8>> {
    let mut key = named_key(b"s/", connector)?;
    key.extend_from_slice(partition.as_bytes());
    // The store's keys end at 65,535 bytes.
    if key.len() > 60_000 {
        return Err(Error::fatal("a source partition is longer than 60,000 bytes").with("connector", connector));
    }
    Ok(key)
}

/// A key that begins with a name of any length, so that no name is the beginning of another's keys.
pub(crate) fn named_key(prefix: &[u8], name: &str) -> Result<Vec<u8>> {
    let length = u16::try_from(name.len()).ok().filter(|length| *length < 50_000);
    let length = length.ok_or_else(|| Error::config("a name is longer than 50,000 bytes"))?;
    Ok([prefix, &length.to_be_bytes(), name.as_bytes()].concat())
}

/// Everything that begins with `prefix`, which never ends in 255s here.
pub(crate) fn prefix_range(prefix: Vec<u8>) -> Range<Vec<u8>> {
    let mut end = prefix.clone();
    while end.pop_if(|byte| *byte == u8::MAX).is_some() {}
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    prefix..end
}

/// Keys and values of source offsets, to be added to a commit.
pub(crate) fn encode_source_offsets(connector: &str, offsets: &SourceOffsets) -> Result<Vec<(Vec<u8>, String)>> {
    let encode = |(partition, offset): (&SourcePartition, &SourceOffset)| {
        Ok((offset_key(connector, partition.as_json())?, offset.to_json()))
    };
    offsets.iter().map(encode).collect()
}

impl OffsetStore for StateStore {
    fn get(&self, connector: &str, partition: &SourcePartition) -> Result<Option<SourceOffset>> {
        let value = self.get(Space::State, &offset_key(connector, partition.as_json())?)?;
        let read = |value: Bytes| {
            SourceOffset::from_json(&value)
                .map_err(|error| error.of_kind(ErrorKind::Fatal).during(format!("read source offset of {partition}")))
        };
        value.map(read).transpose()
    }

    fn put(&self, connector: &str, offsets: &SourceOffsets) -> Result<()> {
        let entries = encode_source_offsets(connector, offsets)?;
        self.write_blocking(move |batch, _| {
            entries.iter().for_each(|(key, value)| batch.put(Space::State, key, value.as_bytes()));
            Ok(())
        })
    }

    fn all(&self, connector: &str) -> Result<SourceOffsets> {
        let prefix = named_key(b"s/", connector)?;
        let mut offsets = SourceOffsets::new();
        let start = prefix.len();
        self.scan(Space::State, prefix_range(prefix), |key, value| {
            let damaged =
                |error: Error| error.of_kind(ErrorKind::Fatal).during(format!("read source offsets of {connector}"));
            let partition = std::str::from_utf8(&key[start..])
                .or_error(ErrorKind::Fatal, "a stored source partition is not text")
                .and_then(SourcePartition::from_json)
                .map_err(damaged)?;
            offsets.insert(partition, SourceOffset::from_json(&value).map_err(damaged)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(offsets)
    }
}
