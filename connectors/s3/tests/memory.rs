//! How much memory the sink takes, and by what it frees some: the process-wide account means that these tests take turns.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ottla_api::prelude::*;
use ottla_api::sink::SinkTaskHost;
use ottla_connector_s3::client::{Body, Chunk, MultipartUpload, NewObject, ObjectStore, Outcome};
use ottla_connector_s3::{S3SinkConfig, S3SinkTask};

const MIB: usize = 1024 * 1024;
const BATCH: i64 = 500;
/// How long a batch is on its way here at a million records a second.
const BATCH_TIME: Duration = Duration::from_micros(500);

/// One test at a time.
static TURN: Mutex<()> = Mutex::new(());

/// A store that takes 100 MB a second on each connection, after an answer's time.
#[derive(Debug, Clone, Default)]
struct Slow {
    objects: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    parts: Arc<AtomicUsize>,
    /// No upload ends while this is set.
    stuck: Arc<AtomicUsize>,
}

impl Slow {
    async fn take(&self, bytes: u64) {
        tokio::time::sleep(Duration::from_millis(5) + Duration::from_nanos(bytes * 10)).await;
        while self.stuck.load(Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn insert(&self, key: &str, bytes: Vec<u8>) -> Outcome {
        let mut objects = self.objects.lock().unwrap();
        let contested = key.ends_with("probe") && objects.contains_key(key);
        objects.insert(key.to_owned(), bytes);
        if contested { Outcome::Contested } else { Outcome::Created }
    }

    fn names(&self) -> Vec<String> {
        self.objects.lock().unwrap().keys().cloned().collect()
    }
}

#[async_trait]
impl ObjectStore for Slow {
    async fn create(&self, object: &NewObject, body: Body) -> Result<Outcome> {
        self.take(body.len()).await;
        Ok(self.insert(&object.key, body.to_bytes().to_vec()))
    }

    fn create_in_parts(&self, object: &NewObject) -> Box<dyn MultipartUpload> {
        Box::new(Parts { store: self.clone(), key: object.key.clone(), bytes: Vec::new() })
    }

    async fn read(&self, _key: &str, _from: u64, _length: u64) -> Result<Option<Chunk>> {
        Ok(None)
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.objects.lock().unwrap().remove(key);
        Ok(())
    }

    fn location(&self, key: &str) -> String {
        format!("slow:{key}")
    }
}

struct Parts {
    store: Slow,
    key: String,
    bytes: Vec<u8>,
}

#[async_trait]
impl MultipartUpload for Parts {
    async fn part(&mut self, body: Body) -> Result<Outcome> {
        assert!(body.len() >= 5 * MIB as u64, "S3 refuses a part of {} bytes", body.len());
        self.store.take(body.len()).await;
        self.store.parts.fetch_add(1, Relaxed);
        self.bytes.extend_from_slice(&body.to_bytes());
        Ok(Outcome::Created)
    }

    async fn finish(&mut self, rest: Body) -> Result<Outcome> {
        assert!(!rest.is_empty(), "the last part is never empty");
        self.store.take(rest.len()).await;
        self.bytes.extend_from_slice(&rest.to_bytes());
        Ok(self.store.insert(&self.key, std::mem::take(&mut self.bytes)))
    }

    async fn abort(&mut self) {}
}

/// Adds up what all tasks say they hold.
#[derive(Default)]
struct Account {
    held: Mutex<BTreeMap<usize, usize>>,
    peak: AtomicUsize,
}

impl Account {
    fn sum(&self) -> usize {
        self.held.lock().unwrap().values().sum()
    }
}

struct Host {
    task: usize,
    account: Arc<Account>,
}

impl SinkTaskHost for Host {
    fn report(&self, _partition: &TopicPartition, _record: &SinkRecord, error: Error) -> Result<()> {
        Err(error)
    }
    fn buffered(&self, bytes: usize) {
        self.account.held.lock().unwrap().insert(self.task, bytes);
        self.account.peak.fetch_max(self.account.sum(), Relaxed);
    }
    fn rewind(&self, _partition: &TopicPartition, _offset: i64) {
        panic!("nobody else writes here");
    }
    fn delivered(&self, _delivery: Delivery) {}
    fn count(&self, _name: &'static str, _n: u64) {}
    fn gauge(&self, _name: &'static str, _value: u64) {}
    fn topic_identity(&self, _topic: &str) -> Option<String> {
        None
    }
}

/// A started task with these partitions.
async fn task(number: usize, partitions: &[TopicPartition], store: &Slow, account: &Arc<Account>) -> S3SinkTask {
    let properties =
        Properties::from_iter([("s3.bucket.name", "b"), ("flush.size", "100000"), ("store.url", "file:/nowhere")]);
    let config = S3SinkConfig::from_properties(&properties).unwrap();
    let mut task = S3SinkTask::new(&config, Arc::new(store.clone()));
    let host = Arc::new(Host { task: number, account: account.clone() });
    task.start(&SinkTaskContext::new("memory", number, "unused".into(), host)).await.unwrap();
    task.open(&partitions.iter().map(|partition| (partition.clone(), 0)).collect()).await.unwrap();
    task
}

/// A record of `length` bytes with its newline.
fn text(offset: i64, length: usize) -> String {
    let text = format!("{{\"n\":{offset:010},\"x\":\"");
    format!("{text}{}\"}}", "y".repeat(length - text.len() - 3))
}

fn batch(partition: &TopicPartition, first: i64, count: i64, length: usize) -> SinkBatch {
    let topic: Arc<str> = Arc::from(&*partition.topic);
    let record = |offset: i64| {
        let text = Bytes::from(text(offset, length));
        let record = Record {
            topic: topic.clone(),
            partition: Some(partition.partition),
            key: Payload::null(),
            value: Payload::json(text.clone()),
            timestamp: Some(0),
            headers: Headers::new(),
            offset: Some(offset),
        };
        let raw = RawRecord { offset, timestamp: Some(0), key: None, value: Some(text), headers: Vec::new() };
        SinkRecord { record, raw }
    };
    SinkBatch {
        partition: partition.clone(),
        records: (first..first + count).map(record).collect(),
        next_offset: first + count,
    }
}

fn name(partition: i32, first: i64) -> String {
    format!("topics/posts/partition={partition}/posts+{partition}+{first:010}.json")
}

/// Sixteen partitions fill objects of 7 MB at the same pace, which is the worst one: all of them are largest at once. Held
/// whole that would be 114 MB, and the uploads' on top.
async fn fill_sixteen(tasks: usize) {
    let (store, account) = (Slow::default(), Arc::new(Account::default()));
    let partitions: Vec<TopicPartition> = (0..16).map(|number| TopicPartition::new("posts", number)).collect();
    let share = partitions.len() / tasks;
    let mut running = Vec::new();
    for (number, partitions) in partitions.chunks(share).enumerate() {
        running.push(task(number, partitions, &store, &account).await);
    }
    const RECORDS: i64 = 200_000;
    for first in (0..RECORDS).step_by(BATCH as usize) {
        for (number, partition) in partitions.iter().enumerate() {
            running[number / share].put(&batch(partition, first, BATCH, 71)).await.unwrap();
            tokio::time::sleep(BATCH_TIME).await;
        }
    }
    for task in &mut running {
        task.flush(FlushReason::CaughtUp).await.unwrap();
    }
    let peak = account.peak.load(Relaxed);
    eprintln!("{tasks} tasks: {} MiB at most, {} parts", peak / MIB, store.parts.load(Relaxed));
    assert!(peak < 84 * MIB, "{tasks} tasks held {} MiB", peak / MIB);
    assert!(account.sum() < MIB, "{} bytes are still held", account.sum());

    // Nothing was cut short, and every byte is in its place.
    let expected: Vec<String> =
        [0, 100_000].iter().flat_map(|first| (0..16).map(|partition| name(partition, *first))).collect();
    assert_eq!(
        store.names(),
        expected.into_iter().collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    );
    for (index, first) in [0, 100_000].into_iter().enumerate() {
        let contents: String = (first..first + 100_000).map(|offset| text(offset, 71) + "\n").collect();
        let objects = store.objects.lock().unwrap();
        for partition in 0..16 {
            assert!(objects[&name(partition, first)] == contents.as_bytes(), "object {index} of {partition} differs");
        }
    }
}

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

#[test]
fn large_objects_of_sixteen_partitions_go_ahead_in_parts() {
    let _turn = TURN.lock().unwrap_or_else(|turn| turn.into_inner());
    for tasks in [1, 16] {
        paused().block_on(fill_sixteen(tasks));
    }
}

#[test]
fn pressure_waits_first_sends_parts_then_and_cuts_last() {
    let _turn = TURN.lock().unwrap_or_else(|turn| turn.into_inner());
    paused().block_on(async {
        let (store, account) = (Slow::default(), Arc::new(Account::default()));
        let partitions = [TopicPartition::new("posts", 0), TopicPartition::new("posts", 1)];
        let mut task = task(0, &partitions, &store, &account).await;
        // A whole object of partition 0 is on its way, 12,000,000 bytes of the next are open, and 3,000,000 of partition 1.
        task.put(&batch(&partitions[0], 0, 100_000, 71)).await.unwrap();
        task.put(&batch(&partitions[0], 100_000, 12_000, 1000)).await.unwrap();
        task.put(&batch(&partitions[1], 0, 3000, 1000)).await.unwrap();
        assert_eq!(store.names(), [] as [String; 0]);
        let mut held = vec![account.sum()];

        // First, what is on its way.
        task.flush(FlushReason::Pressure).await.unwrap();
        held.push(account.sum());
        assert_eq!((store.names(), store.parts.load(Relaxed)), (vec![name(0, 0)], 0));
        // Second, parts of what is open: one of 10 MiB.
        task.flush(FlushReason::Pressure).await.unwrap();
        held.push(account.sum());
        assert_eq!((store.names(), store.parts.load(Relaxed)), (vec![name(0, 0)], 1));
        // Last, objects end early, the largest first.
        task.flush(FlushReason::Pressure).await.unwrap();
        held.push(account.sum());
        assert_eq!(store.names(), [name(0, 0), name(1, 0)]);
        task.flush(FlushReason::Pressure).await.unwrap();
        held.push(account.sum());
        assert_eq!(store.names(), [name(0, 0), name(0, 100_000), name(1, 0)]);

        assert!(held.is_sorted_by(|before, after| before > after), "each step frees memory: {held:?}");
        assert_eq!(held.last(), Some(&0));
        let contents: String = (100_000..112_000).map(|offset| text(offset, 1000) + "\n").collect();
        assert!(store.objects.lock().unwrap()[&name(0, 100_000)] == contents.as_bytes());
    });
}

/// While the store does not answer, a partition takes what two uploads and an open object need, and then waits.
#[test]
fn a_store_that_is_stuck_stops_a_partition_at_a_few_megabytes() {
    let _turn = TURN.lock().unwrap_or_else(|turn| turn.into_inner());
    paused().block_on(async {
        let (store, account) = (Slow::default(), Arc::new(Account::default()));
        let partition = TopicPartition::new("posts", 0);
        let mut task = task(0, std::slice::from_ref(&partition), &store, &account).await;
        store.stuck.store(1, Relaxed);
        let mut first = 0;
        let stopped = loop {
            assert!(first < 10_000_000, "it goes on for ever");
            match task.put(&batch(&partition, first, BATCH, 71)).await {
                Ok(()) => first += BATCH,
                Err(error) => break error,
            }
        };
        assert!(stopped.is_retriable() && stopped.message().contains("no upload has ended"), "{stopped}");
        assert!(account.sum() < 24 * MIB, "{} MiB are held", account.sum() / MIB);
        // It goes on where it stopped.
        store.stuck.store(0, Relaxed);
        task.put(&batch(&partition, first, BATCH, 71)).await.unwrap();
        task.flush(FlushReason::CaughtUp).await.unwrap();
        let stored: usize = store.objects.lock().unwrap().values().map(Vec::len).sum();
        assert_eq!(stored, 71 * (first + BATCH) as usize);
    });
}
