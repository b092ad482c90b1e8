//! The store's files: one fjall database, what is written to it at once, and what its failures mean.

use std::fs;
use std::io;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use fjall::config::{BlockSizePolicy, PinningPolicy};
use fjall::{AbstractTree, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode, UserKey, UserValue};
use ottla_api::{Error, ErrorKind, Result, error::ResultExt};

/// The two parts of the store. A commit may touch both and is still one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    /// Batches of records: large values, written once, removed by retention.
    Records,
    /// Everything else: small values, overwritten often.
    State,
}

/// What one commit puts and removes.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    operations: Vec<(Space, UserKey, Option<UserValue>)>,
    bytes: usize,
}

impl Batch {
    /// Puts a value in place of what is there.
    pub(crate) fn put(&mut self, space: Space, key: &[u8], value: &[u8]) {
        self.bytes += key.len() + value.len();
        self.operations.push((space, key.into(), Some(value.into())));
    }

    /// Removes a key.
    pub(crate) fn remove(&mut self, space: Space, key: &[u8]) {
        self.bytes += key.len();
        self.operations.push((space, key.into(), None));
    }

    /// How many operations there are.
    pub(super) fn len(&self) -> usize {
        self.operations.len()
    }

    /// How many bytes they hold.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes back everything after the first `len` operations.
    pub(super) fn truncate(&mut self, len: usize, bytes: usize) {
        self.operations.truncate(len);
        self.bytes = bytes;
    }
}

/// Why a commit failed, as far as that matters for what follows.
#[derive(Debug)]
pub(super) enum CommitError {
    /// The database refuses because an earlier write of its own failed; this commit wrote nothing.
    Poisoned,
    /// This commit failed while it was written: what is on the disk shows only when the database is opened anew.
    Unknown(fjall::Error),
}

/// One open fjall database. Dropping it closes it: no other handle to it exists.
pub(super) struct Database {
    database: fjall::Database,
    records: Keyspace,
    state: Keyspace,
}

/// Records wait in memory, beside the journal, until this much is there to be written in order. An idle worker holds nothing.
const RECORDS_MEMTABLE: u64 = 8 << 20;
const STATE_MEMTABLE: u64 = 1 << 20;
/// Few blocks are read twice: record batches go by once, and state is small.
const CACHE: u64 = 2 << 20;
/// The least fjall accepts.
const JOURNALS: u64 = 64 << 20;

impl Database {
    /// Opens the database in `dir/store`, making it on first use.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(super::STORE);
        if !path.join("version").exists() {
            Self::create(dir, &path)?;
        }
        Self::open_at(&path).map_err(|error| explain(error, format!("open state store {}", path.display())))
    }

    /// Makes an empty database elsewhere and moves it into place: one whose making was cut short can't be opened.
    fn create(dir: &Path, path: &Path) -> Result<()> {
        let unfinished = dir.join("store.new");
        let failed = |step: &str| format!("{step} {}", unfinished.display());
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).or_error(ErrorKind::Config, failed("remove unfinished state store"));
            }
            _ => {}
        }
        drop(Self::open_at(&unfinished).map_err(|error| explain(error, failed("make state store")))?);
        fs::rename(&unfinished, path).or_error(ErrorKind::Config, failed("move state store into place from"))?;
        fs::File::open(dir).and_then(|dir| dir.sync_all()).or_error(ErrorKind::Config, "sync state folder")
    }

    fn open_at(path: &Path) -> fjall::Result<Self> {
        // One thread flushes and compacts; with large values kept apart from the tree that is little work.
        let database = fjall::Database::builder(path)
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
                // Batches are written once and removed in order, so whole files of values fall free together.
                .with_kv_separation(Some(KvSeparationOptions::default().file_target_size(32 << 20)))
        })?;
        let state =
            database.keyspace("state", || KeyspaceCreateOptions::default().max_memtable_size(STATE_MEMTABLE))?;
        Ok(Self { database, records, state })
    }

    fn keyspace(&self, space: Space) -> &Keyspace {
        match space {
            Space::Records => &self.records,
            Space::State => &self.state,
        }
    }

    /// The value of a key.
    pub(super) fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        let value = self.keyspace(space).get(key).map_err(|error| explain(error, "read state store"))?;
        Ok(value.map(Bytes::from_owner))
    }

    /// Visits keys and values of a range in order, until told to stop.
    pub(super) fn scan(
        &self,
        space: Space,
        range: Range<Vec<u8>>,
        mut visit: impl FnMut(&[u8], Bytes) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        for entry in self.keyspace(space).range(range) {
            let (key, value) = entry.into_inner().map_err(|error| explain(error, "read state store"))?;
            if visit(&key, Bytes::from_owner(value))?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Visits the keys of a range in order, until told to stop. Large values are not read for it.
    pub(super) fn scan_keys(
        &self,
        space: Space,
        range: Range<Vec<u8>>,
        mut visit: impl FnMut(&[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        for entry in self.keyspace(space).range(range) {
            let key = entry.key().map_err(|error| explain(error, "read state store"))?;
            if visit(&key)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The last key of a range.
    pub(super) fn last_key(&self, space: Space, range: Range<Vec<u8>>) -> Result<Option<Bytes>> {
        let last = self.keyspace(space).range(range).next_back();
        let key = last.map(|entry| entry.key()).transpose().map_err(|error| explain(error, "read state store"))?;
        Ok(key.map(Bytes::from_owner))
    }

    /// Writes everything or nothing. With `fsync` it is on the disk when this returns.
    pub(super) fn commit(&self, batch: &Batch, fsync: bool) -> Result<(), CommitError> {
        self.wait_for_flushes()?;
        let mode = if fsync { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut write = self.database.batch().durability(Some(mode));
        for (space, key, value) in &batch.operations {
            let keyspace = self.keyspace(*space);
            match value {
                Some(value) => write.insert(keyspace, key.clone(), value.clone()),
                None => write.remove(keyspace, key.clone()),
            }
        }
        write.commit().map_err(|error| match error {
            fjall::Error::Poisoned => CommitError::Poisoned,
            error => CommitError::Unknown(error),
        })
    }

    /// Waits while the background thread is far behind.
    ///
    /// fjall does the same inside a commit, but without noticing that its thread has died of a full disk, and then for ever.
    fn wait_for_flushes(&self) -> Result<(), CommitError> {
        // The background thread would do this, too, but only once it is done flushing, and memory grows meanwhile.
        if self.records.tree.active_memtable().size() > RECORDS_MEMTABLE {
            self.records.rotate_memtable().map_err(|_| CommitError::Poisoned)?;
        }
        let behind = |keyspace: &Keyspace| keyspace.sealed_memtable_count() >= 2 || keyspace.l0_table_count() >= 16;
        while behind(&self.records) || behind(&self.state) {
            self.check_health()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Whether the background thread is alive: this is the only call that says so without changing anything.
    fn check_health(&self) -> Result<(), CommitError> {
        self.database.persist(PersistMode::Buffer).map_err(|_| CommitError::Poisoned)
    }

    /// Writes what is in memory into files of its own, so that nothing depends on pages of the journal that the disk may have
    /// refused.
    pub(super) fn start_flush(&self) -> Result<()> {
        for keyspace in [&self.records, &self.state] {
            keyspace.rotate_memtable().map_err(|error| explain(error, "flush state store"))?;
        }
        Ok(())
    }

    /// Gives the space of removed records back to the file system.
    pub(super) fn compact_records(&self) -> Result<()> {
        // What was removed has to be in a file for a compaction to see it.
        self.records.rotate_memtable().map_err(|error| explain(error, "flush state store"))?;
        while self.records.sealed_memtable_count() > 0 {
            self.check_health().map_err(|_| Error::retriable("flush state store: the disk is full or fails"))?;
            std::thread::sleep(Duration::from_millis(5));
        }
        // The first one finds out which files of values nobody points to any more, the second one drops them.
        for _ in 0..2 {
            self.records.major_compact().map_err(|error| explain(error, "compact state store"))?;
        }
        Ok(())
    }

    /// Lets go of files that only earlier states of the database point to. fjall does that when it flushes anything.
    pub(super) fn flush_state(&self) -> Result<()> {
        self.state.rotate_memtable().map_err(|error| explain(error, "flush state store"))?;
        Ok(())
    }

    /// Bytes on the disk that hold records.
    pub(super) fn records_size(&self) -> u64 {
        self.records.disk_space()
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

/// The input/output error inside, where that is what happened.
pub(super) fn io_error(error: &fjall::Error) -> Option<&io::Error> {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => Some(error),
        _ => None,
    }
}

/// True where there was no space left.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A disk that fails may recover; data that can't be read never does.
pub(super) fn explain(error: fjall::Error, operation: impl std::fmt::Display) -> Error {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
            Error::retriable(operation.to_string()).caused_by(error)
        }
        fjall::Error::Poisoned => Error::retriable(format!("{operation}: an earlier write failed")),
        fjall::Error::Locked => Error::config(format!("{operation}: another process has it open")),
        error => Error::fatal(format!("{operation}: its files are damaged")).caused_by(error),
    }
}
