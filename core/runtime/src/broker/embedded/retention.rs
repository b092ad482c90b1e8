//! Removes records that every group has read and that are old enough.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ottla_api::{ErrorKind, Result, error::ResultExt};
use parking_lot::{Condvar, Mutex};

use super::batch::BatchKey;
use super::{Partition, Shared, TopicRetention, now_millis};
use crate::storage::Space;

/// One commit removes at most this many batches, so that tasks that wait for theirs wait briefly.
const BATCHES_MAX: usize = 1000;
/// Files are rewritten for this much, not for less.
const COMPACTION_BYTES_MIN: u64 = 16 << 20;

impl Shared {
    /// Removes whole batches from the front of every partition, as far as groups and time allow. Answers how many records.
    pub(super) fn remove_expired(&self, now: i64) -> Result<u64> {
        let topics: Vec<_> = self.topics.read().values().cloned().collect();
        let (mut records, mut bytes) = (0, 0);
        for topic in topics {
            let retention = match topic.retention {
                TopicRetention::Forever => continue,
                TopicRetention::Millis(millis) => millis,
                TopicRetention::Default => i64::try_from(self.retention.as_millis()).unwrap_or(i64::MAX),
            };
            for partition in &topic.partitions {
                while let Some(removed) = self.remove_from(partition, now.saturating_sub(retention))? {
                    records += removed.records;
                    bytes += removed.bytes;
                }
            }
        }
        self.reclaim(bytes)?;
        if records > 0 {
            tracing::debug!(records, bytes, "removed records that every group has read");
        }
        Ok(records)
    }

    /// One commit's worth, or none where nothing can go.
    fn remove_from(&self, partition: &Arc<Partition>, written_before: i64) -> Result<Option<Removed>> {
        let range = partition.range();
        let read_by_all = {
            let groups = self.groups.lock();
            groups.by_name.values().filter_map(|group| group.progress(&partition.id)).min().unwrap_or(range.end)
        };
        let mut removed = Removed::default();
        let mut keys = Vec::new();
        let mut start = range.start;
        let offsets = BatchKey::range(
            partition.topic,
            partition.number,
            range.start..read_by_all.min(range.end).max(range.start),
        );
        self.store.scan_keys(Space::Records, offsets, |key| {
            let batch = BatchKey::decode(key)?;
            if batch.end() > read_by_all || batch.written > written_before || keys.len() == BATCHES_MAX {
                return Ok(ControlFlow::Break(()));
            }
            keys.push(key.to_vec());
            start = batch.end();
            removed.records += u64::from(batch.count);
            removed.bytes += u64::from(batch.size);
            Ok(ControlFlow::Continue(()))
        })?;
        if keys.is_empty() {
            return Ok(None);
        }
        let state_key = partition.state_key();
        // The new start is in the same commit: it also tells where an emptied partition goes on.
        self.store.write_blocking(move |batch, _| {
            keys.iter().for_each(|key| batch.remove(Space::Records, key));
            batch.put(Space::State, &state_key, &start.to_be_bytes());
            Ok(())
        })?;
        partition.start.store(start, Ordering::Release);
        // A consumer that stands before the new start has to hear of it.
        partition.wake_listeners();
        Ok(Some(removed))
    }

    /// Gives the space back where it is worth rewriting files.
    fn reclaim(&self, removed: u64) -> Result<()> {
        let total = self.removed_bytes.fetch_add(removed, Ordering::AcqRel) + removed;
        if total < COMPACTION_BYTES_MIN || total < self.store.records_size()? / 4 {
            return Ok(());
        }
        self.removed_bytes.store(0, Ordering::Release);
        self.store.compact_records()
    }
}

#[derive(Debug, Default)]
struct Removed {
    records: u64,
    bytes: u64,
}

/// The thread that does it every now and then.
#[derive(Debug)]
pub(super) struct RetentionThread {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl RetentionThread {
    pub(super) fn start(shared: Arc<Shared>) -> Result<Self> {
        let stop = Arc::<(Mutex<bool>, Condvar)>::default();
        let stopped = stop.clone();
        // A tenth of the retention is precise enough; topics may have a shorter one of their own.
        let pause = (shared.retention / 10).clamp(Duration::from_secs(1), Duration::from_secs(300));
        let run = move || {
            let (stopped, bell) = &*stopped;
            let mut is_stopped = stopped.lock();
            while !*is_stopped {
                if !bell.wait_for(&mut is_stopped, pause).timed_out() {
                    continue;
                }
                parking_lot::MutexGuard::unlocked(&mut is_stopped, || {
                    if let Err(error) = shared.remove_expired(now_millis()) {
                        tracing::warn!(%error, "could not remove old records; trying again later");
                    }
                });
            }
        };
        let thread = thread::Builder::new()
            .name("ottla-retention".into())
            .spawn(run)
            .or_error(ErrorKind::Fatal, "start the retention thread")?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for RetentionThread {
    fn drop(&mut self) {
        let (stopped, bell) = &*self.stop;
        *stopped.lock() = true;
        bell.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
