//! Drives one source task or one sink task without a worker, and keeps everything that it says to its host.
//!
//! The harness makes calls in the order the runtime makes them and repeats a call that failed with a retriable error. What
//! the contract forbids (a position beyond what was put, an answer about a partition that is not open) is a panic here, so
//! that every test that uses the harness checks it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use ottla_api::data::json;
use ottla_api::header::Headers;
use ottla_api::prelude::*;
use ottla_api::sink::SinkTaskHost;
use ottla_api::source::SourceTaskHost;
use tempfile::TempDir;

/// How often a call that fails with a retriable error is repeated. The runtime does so for ever; a test has to end.
pub const RETRIES_MAX: usize = 100;

/// How long one call may take before a test gives up on it.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The pause before a repetition: long enough for a file or socket to appear, short enough for [`RETRIES_MAX`] of them.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// Makes a call again while it fails with a retriable error, as the runtime does. The call must not take longer than
/// [`DEADLINE`].
macro_rules! with_retries {
    ($what:literal, $call:expr) => {{
        let mut tries = 0;
        loop {
            let outcome = match tokio::time::timeout(DEADLINE, $call).await {
                Ok(outcome) => outcome,
                Err(_) => panic!("{} took longer than {DEADLINE:?}", $what),
            };
            match outcome {
                Err(error) if error.is_retriable() && tries < RETRIES_MAX => {
                    tries += 1;
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                outcome => break outcome,
            }
        }
    }};
}

/// One source task, started.
pub struct SourceHarness {
    task: Box<dyn SourceTask>,
    host: Arc<SourceHost>,
    returned: SourceOffsets,
    /// Holds the folder until the harness goes, where the caller brought none.
    _state_dir: Option<TempDir>,
}

impl SourceHarness {
    /// Starts a task that finds these durable offsets, with an empty state folder.
    pub async fn start(task: Box<dyn SourceTask>, durable: &SourceOffsets) -> Result<Self> {
        let state_dir = tempfile::tempdir().expect("the system's temporary folder is writable");
        let mut harness = Self::start_in(task, durable, state_dir.path()).await?;
        harness._state_dir = Some(state_dir);
        Ok(harness)
    }

    /// Starts a task that finds these durable offsets, with the state folder that another task has left.
    pub async fn start_in(task: Box<dyn SourceTask>, durable: &SourceOffsets, state_dir: &Path) -> Result<Self> {
        let host = Arc::new(SourceHost::default());
        host.store(durable);
        let context = SourceTaskContext::new("conformance", 0, state_dir.to_owned(), host.clone());
        let mut harness = Self { task, host, returned: SourceOffsets::new(), _state_dir: None };
        with_retries!("start", harness.task.start(&context))?;
        Ok(harness)
    }

    /// Polls once, again after retriable errors.
    pub async fn poll(&mut self) -> Result<SourcePoll> {
        let found = with_retries!("poll", self.task.poll())?;
        self.note(&found);
        Ok(found)
    }

    /// Polls once and drops the future when it has been pending `pending_max` times, as the runtime does to stop or pause a
    /// task. Nothing if it was dropped.
    pub async fn poll_dropped_after(&mut self, pending_max: usize) -> Option<Result<SourcePoll>> {
        let found = dropped_after(self.task.poll(), pending_max).await;
        if let Some(Ok(found)) = &found {
            self.note(found);
        }
        found
    }

    /// Polls once and drops the future after a while. Nothing if it was dropped.
    pub async fn poll_for(&mut self, patience: Duration) -> Option<Result<SourcePoll>> {
        let found = tokio::time::timeout(patience, self.task.poll()).await.ok();
        if let Some(Ok(found)) = &found {
            self.note(found);
        }
        found
    }

    /// Polls until there are at least `n` records, or the task has finished.
    ///
    /// # Panics
    ///
    /// If that takes longer than [`DEADLINE`].
    pub async fn read(&mut self, n: usize) -> Result<Vec<SourceRecord>> {
        let mut records = Vec::new();
        let begun = tokio::time::Instant::now();
        while records.len() < n {
            assert!(begun.elapsed() < DEADLINE, "after {DEADLINE:?} there were {} records of {n}", records.len());
            match self.poll().await? {
                SourcePoll::Records(more) => records.extend(more),
                SourcePoll::Offsets(_) | SourcePoll::CaughtUp => {}
                SourcePoll::Finished => break,
            }
        }
        Ok(records)
    }

    /// Polls until the task has finished. Only for bounded sources.
    pub async fn read_all(&mut self) -> Result<Vec<SourceRecord>> {
        self.read(usize::MAX).await
    }

    /// Tells the task that everything it returned so far is durable.
    pub async fn commit(&mut self) -> Result<()> {
        let durable = self.returned.clone();
        self.host.store(&durable);
        with_retries!("commit", self.task.commit(&durable))
    }

    /// Stops the task.
    pub async fn stop(&mut self) -> Result<()> {
        with_retries!("stop", self.task.stop())
    }

    /// The newest offset of each source partition among the records returned so far.
    pub fn offsets(&self) -> &SourceOffsets {
        &self.returned
    }

    /// The counters that the task has raised.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.host.counts).clone()
    }

    /// The values that the task has set last.
    pub fn gauges(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.host.gauges).clone()
    }

    /// Stores offsets of other tasks of the connector, which this one may wait for.
    pub fn store(&self, durable: &SourceOffsets) {
        self.host.store(durable);
    }

    fn note(&mut self, found: &SourcePoll) {
        match found {
            SourcePoll::Records(records) => {
                let places =
                    records.iter().map(|record| (record.source_partition.clone(), record.source_offset.clone()));
                self.returned.extend(places);
            }
            SourcePoll::Offsets(offsets) => self.returned.extend(offsets.clone()),
            SourcePoll::CaughtUp | SourcePoll::Finished => {}
        }
    }
}

impl fmt::Debug for SourceHarness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceHarness(returned up to {:?})", self.returned)
    }
}

/// The runtime's side of a source task. Offsets are kept as text, as every real store keeps them.
#[derive(Default)]
struct SourceHost {
    offsets: Mutex<BTreeMap<String, String>>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    gauges: Mutex<BTreeMap<&'static str, u64>>,
}

impl SourceHost {
    fn store(&self, durable: &SourceOffsets) {
        let mut offsets = lock(&self.offsets);
        for (partition, offset) in durable {
            offsets.insert(partition.as_json().to_owned(), offset.to_json());
        }
    }
}

impl SourceTaskHost for SourceHost {
    fn offset(&self, partition: &SourcePartition) -> Result<Option<SourceOffset>> {
        let offsets = lock(&self.offsets);
        let text = offsets.get(partition.as_json());
        Ok(text.map(|text| SourceOffset::from_json(text.as_bytes()).expect("an offset that was stored can be read")))
    }

    fn count(&self, name: &'static str, n: u64) {
        *lock(&self.counts).entry(name).or_default() += n;
    }

    fn gauge(&self, name: &'static str, value: u64) {
        lock(&self.gauges).insert(name, value);
    }
}

/// One sink task, started.
pub struct SinkHarness {
    task: Box<dyn SinkTask>,
    host: Arc<SinkHost>,
    /// Per open partition: everything before this was put or was there already.
    accepted: Positions,
    /// Per open partition the last answer of a flush.
    flushed: Positions,
    /// Holds the folder until the harness goes, where the caller brought none.
    _state_dir: Option<TempDir>,
}

impl SinkHarness {
    /// Starts a task, with an empty state folder.
    pub async fn start(task: Box<dyn SinkTask>) -> Result<Self> {
        let state_dir = tempfile::tempdir().expect("the system's temporary folder is writable");
        let mut harness = Self::start_in(task, state_dir.path()).await?;
        harness._state_dir = Some(state_dir);
        Ok(harness)
    }

    /// Starts a task with the state folder that another task has left.
    pub async fn start_in(task: Box<dyn SinkTask>, state_dir: &Path) -> Result<Self> {
        let host = Arc::new(SinkHost::default());
        let context = SinkTaskContext::new("conformance", 0, state_dir.to_owned(), host.clone());
        let mut harness = Self { task, host, accepted: Positions::new(), flushed: Positions::new(), _state_dir: None };
        with_retries!("start", harness.task.start(&context))?;
        Ok(harness)
    }

    /// From now on topics have this identity ([`SinkTaskContext::topic_identity`]); at first they have none.
    pub fn set_topic_identity(&self, identity: Option<&str>) {
        *lock(&self.host.identity) = identity.map(str::to_owned);
    }

    /// The values that the task has set last.
    pub fn gauges(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.host.gauges).clone()
    }

    /// Opens partitions. The answer holds a position for each of them, also where the task had none: the next batch begins
    /// there.
    pub async fn open(&mut self, committed: &Positions) -> Result<Positions> {
        let better = with_retries!("open", self.task.open(committed))?;
        let mut positions = committed.clone();
        for (partition, position) in better {
            assert!(committed.contains_key(&partition), "open answered about {partition}, which it was not given");
            assert!(position >= 0, "open answered with position {position} for {partition}");
            positions.insert(partition, position);
        }
        for position in positions.values_mut() {
            // Without a committed offset the consumer begins at the first record.
            *position = (*position).max(0);
        }
        self.accepted.extend(positions.clone());
        self.flushed.extend(positions.clone());
        Ok(positions)
    }

    /// Puts a batch, again after retriable errors.
    pub async fn put(&mut self, batch: SinkBatch) -> Result<()> {
        let (partition, next_offset) = (batch.partition.clone(), batch.next_offset);
        with_retries!("put", self.task.put(&batch))?;
        let accepted = self.accepted.entry(partition).or_default();
        *accepted = next_offset.max(*accepted);
        Ok(())
    }

    /// Puts a batch and drops the future when it has been pending `pending_max` times. Nothing if it was dropped: then the
    /// task may have accepted any part of the batch, and is not to be used again.
    pub async fn put_dropped_after(&mut self, batch: SinkBatch, pending_max: usize) -> Option<Result<()>> {
        dropped_after(self.task.put(&batch), pending_max).await
    }

    /// Flushes and drops the future when it has been pending `pending_max` times. Nothing if it was dropped: then the task is
    /// not to be used again.
    pub async fn flush_dropped_after(&mut self, reason: FlushReason, pending_max: usize) -> Option<Result<Positions>> {
        dropped_after(self.task.flush(reason), pending_max).await
    }

    /// Flushes, again after retriable errors.
    ///
    /// # Panics
    ///
    /// If the answer is about a partition that is not open, lies beyond what was put, or goes back (G2).
    pub async fn flush(&mut self, reason: FlushReason) -> Result<Positions> {
        let positions = with_retries!("flush", self.task.flush(reason))?;
        for (partition, position) in &positions {
            let accepted = self.accepted.get(partition);
            let accepted = *accepted.unwrap_or_else(|| panic!("flush answered about {partition}, which is not open"));
            assert!(
                *position <= accepted,
                "flush({reason:?}) answered {position} for {partition}, but only offsets before {accepted} were put"
            );
            let before = self.flushed.insert(partition.clone(), *position).unwrap_or(0);
            assert!(*position >= before, "flush({reason:?}) went back from {before} to {position} for {partition}");
        }
        Ok(positions)
    }

    /// Closes partitions. Call [`flush`](Self::flush) with [`FlushReason::Closing`] first, except for
    /// [`CloseReason::Lost`].
    pub async fn close(&mut self, partitions: &[TopicPartition], reason: CloseReason) -> Result<()> {
        with_retries!("close", self.task.close(partitions, reason))?;
        for partition in partitions {
            self.accepted.remove(partition);
            self.flushed.remove(partition);
        }
        Ok(())
    }

    /// Lets the task notice that time passes.
    pub async fn tick(&mut self) -> Result<()> {
        with_retries!("tick", self.task.tick())
    }

    /// Stops the task.
    pub async fn stop(&mut self) -> Result<()> {
        with_retries!("stop", self.task.stop())
    }

    /// The partitions that are open, with the position before which everything was put.
    pub fn accepted(&self) -> &Positions {
        &self.accepted
    }

    /// The partitions that are open, with the position that the last flush has reported; where it opened before any did.
    pub fn flushed(&self) -> &Positions {
        &self.flushed
    }

    /// Everything that the task called delivered.
    pub fn deliveries(&self) -> Vec<Delivery> {
        lock(&self.host.deliveries).clone()
    }

    /// The counters that the task has raised.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.host.counts).clone()
    }

    /// The records that the task has reported as impossible to write: partition, offset and error.
    pub fn reported(&self) -> Vec<(TopicPartition, i64, String)> {
        lock(&self.host.reported).clone()
    }

    /// From now on a report is refused, as with `errors.tolerance = none`.
    pub fn tolerate_nothing(&self) {
        *lock(&self.host.intolerant) = true;
    }

    /// How many bytes the task last said to hold; 0 where it never said anything.
    pub fn buffered(&self) -> usize {
        lock(&self.host.buffered).unwrap_or(0)
    }

    /// True where the task has said how many bytes it holds, were it none.
    pub fn has_told_buffered(&self) -> bool {
        lock(&self.host.buffered).is_some()
    }

    /// The rewinds that the task has asked for since the last call. Put again from there.
    pub fn take_rewinds(&mut self) -> Vec<(TopicPartition, i64)> {
        let rewinds = std::mem::take(&mut *lock(&self.host.rewinds));
        for (partition, offset) in &rewinds {
            if let Some(accepted) = self.accepted.get_mut(partition) {
                *accepted = *offset;
            }
        }
        rewinds
    }
}

impl fmt::Debug for SinkHarness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SinkHarness(accepted {:?}, flushed {:?})", self.accepted, self.flushed)
    }
}

/// The runtime's side of a sink task.
#[derive(Default)]
struct SinkHost {
    deliveries: Mutex<Vec<Delivery>>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    reported: Mutex<Vec<(TopicPartition, i64, String)>>,
    rewinds: Mutex<Vec<(TopicPartition, i64)>>,
    buffered: Mutex<Option<usize>>,
    intolerant: Mutex<bool>,
    gauges: Mutex<BTreeMap<&'static str, u64>>,
    identity: Mutex<Option<String>>,
}

impl SinkTaskHost for SinkHost {
    fn report(&self, partition: &TopicPartition, record: &SinkRecord, error: Error) -> Result<()> {
        lock(&self.reported).push((partition.clone(), record.offset(), error.to_string()));
        if *lock(&self.intolerant) { Err(error) } else { Ok(()) }
    }

    fn buffered(&self, bytes: usize) {
        *lock(&self.buffered) = Some(bytes);
    }

    fn rewind(&self, partition: &TopicPartition, offset: i64) {
        lock(&self.rewinds).push((partition.clone(), offset));
    }

    fn delivered(&self, delivery: Delivery) {
        lock(&self.deliveries).push(delivery);
    }

    fn count(&self, name: &'static str, n: u64) {
        *lock(&self.counts).entry(name).or_default() += n;
    }

    fn gauge(&self, name: &'static str, value: u64) {
        lock(&self.gauges).insert(name, value);
    }

    fn topic_identity(&self, _topic: &str) -> Option<String> {
        lock(&self.identity).clone()
    }
}

/// Waits for a future until it has been pending so many times, then drops it.
async fn dropped_after<T>(mut future: Pin<Box<dyn Future<Output = T> + Send + '_>>, pending_max: usize) -> Option<T> {
    let mut pending = 0;
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if pending + 1 >= pending_max => Poll::Ready(None),
        Poll::Pending => {
            pending += 1;
            Poll::Pending
        }
    })
    .await
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A record for a sink, as it arrives with schemaless JSON: its value names its place, so that a reader of the destination
/// can tell which record it sees. Its timestamp is a second later for every offset, beginning in 2020.
pub fn sink_record(partition: &TopicPartition, offset: i64) -> SinkRecord {
    let value = Bytes::from(sink_value(partition, offset));
    let key = Bytes::from(format!("key-{}", offset % 7));
    let timestamp = Some(1_577_836_800_000 + offset * 1000);
    SinkRecord {
        record: Record {
            topic: partition.topic.clone(),
            partition: Some(partition.partition),
            key: Payload::schemaless(String::from_utf8_lossy(&key).into_owned()),
            value: Payload::json(value.clone()),
            timestamp,
            headers: Headers::new(),
            offset: Some(offset),
        },
        raw: RawRecord { offset, timestamp, key: Some(key), value: Some(value), headers: Vec::new() },
    }
}

/// The value of [`sink_record`], compact JSON text.
pub fn sink_value(partition: &TopicPartition, offset: i64) -> String {
    let mut value = Map::new();
    value.push("topic", partition.topic.as_ref());
    value.push("partition", i64::from(partition.partition));
    value.push("offset", offset);
    // Not ASCII, not short, not the same twice: a sink that cuts, re-encodes or mixes up shows it.
    value.push("text", format!("«{}» {}", offset, "é".repeat(usize::try_from(offset % 50).unwrap_or(0))));
    json::to_string(&Value::Map(value))
}

/// A batch of [`sink_record`]s with these offsets. Everything before `next_offset` counts as delivered with it.
pub fn sink_batch(partition: &TopicPartition, offsets: impl IntoIterator<Item = i64>, next_offset: i64) -> SinkBatch {
    let records = offsets.into_iter().map(|offset| sink_record(partition, offset)).collect();
    SinkBatch { partition: partition.clone(), records, next_offset }
}

/// The record with its payloads decoded, so that two records with the same data compare as equal however far each was
/// decoded before.
pub fn decoded(mut record: Record) -> Result<Record> {
    record.key.value()?;
    record.value.value()?;
    Ok(record)
}

/// The record as text that nobody has looked into yet, where JSON can say the same data.
pub(crate) fn as_text(mut record: Record) -> Record {
    for payload in [&mut record.key, &mut record.value] {
        let mut written = Vec::new();
        payload.write_json(&Default::default(), &mut written);
        let text = Payload::json(written.into());
        // Only what JSON can say comes back as the same data.
        if payload.schema().is_none() && text.clone().value().ok() == payload.clone().value().ok() {
            *payload = text;
        }
    }
    record
}
