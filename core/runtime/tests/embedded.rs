//! The embedded broker: what every broker must do, and what it promises beyond that about crashes, disks and time.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use ottla_api::config::Properties;
use ottla_api::offset::{Positions, SourceOffset, SourceOffsets, SourcePartition, TopicPartition};
use ottla_api::record::RawRecord;
use ottla_api::{ErrorKind, Result};
use ottla_runtime::broker::conformance::Harness;
use ottla_runtime::broker::embedded::{EmbeddedBroker, RECORD_BYTES_MAX};
use ottla_runtime::broker::{
    Broker, ConsumerEvent, ConsumerSpec, GroupConsumer, NewTopic, OffsetRange, OffsetStore, Producer, ProducerRecord,
    StartPosition, Subscription,
};
use ottla_runtime::storage::StateStore;
use ottla_runtime::topics::{PartitionState, Topics, TopicsServer};

async fn harness() -> Harness {
    let folder = tempfile::tempdir().expect("make a folder");
    let broker = open(folder.path());
    Harness { keep: Some(Box::new(folder)), ..Harness::new(broker, RECORD_BYTES_MAX) }
}

ottla_runtime::broker_conformance!(harness);

const RETENTION: Duration = Duration::from_secs(3600);

fn open(folder: &Path) -> Arc<EmbeddedBroker> {
    let store = StateStore::open(folder, true).expect("open the state folder");
    EmbeddedBroker::open(store, 1, RETENTION).expect("open the topics")
}

async fn producer(broker: &EmbeddedBroker) -> Box<dyn Producer> {
    broker.producer("test", &Properties::new()).await.expect("make a producer")
}

async fn consumer(broker: &EmbeddedBroker, group: &str, topic: &str) -> Box<dyn GroupConsumer> {
    let spec = ConsumerSpec {
        group: group.into(),
        client_id: "test".into(),
        instance_id: None,
        subscription: Subscription::Topics(vec![topic.into()]),
        start: StartPosition::Earliest,
        settings: Properties::new(),
        batch_records_max: 1000,
        ahead_bytes_max: 1 << 20,
    };
    broker.consumer(spec).await.expect("make a consumer")
}

/// The first assignment, where fetching begins.
async fn assigned(consumer: &mut dyn GroupConsumer) -> Positions {
    match consumer.next().await.expect("an event") {
        ConsumerEvent::Assigned(positions) => {
            consumer.start_at(&positions).await.expect("start");
            positions
        }
        other => panic!("an assignment was expected, not {other:?}"),
    }
}

fn record(topic: &str, partition: i32, value: impl Into<Bytes>) -> ProducerRecord {
    ProducerRecord {
        topic: topic.into(),
        partition: Some(partition),
        key: None,
        value: Some(value.into()),
        timestamp: None,
        headers: Vec::new(),
    }
}

fn source(name: &str) -> SourcePartition {
    SourcePartition::new([("source", name)])
}

fn offsets_at(name: &str, number: i64) -> SourceOffsets {
    SourceOffsets::from([(source(name), SourceOffset::new([("number", number)]))])
}

fn stored_number(broker: &EmbeddedBroker, name: &str) -> Option<i64> {
    let offset = broker.source_offsets().get("connector", &source(name)).expect("read a source offset");
    offset.map(|offset| offset.get_i64("number").expect("a number"))
}

async fn range(broker: &EmbeddedBroker, topic: &str) -> OffsetRange {
    let ranges = broker.offsets(&[topic.into()]).await.expect("offsets");
    ranges[&TopicPartition::new(topic, 0)]
}

/// Everything of a partition, in order.
async fn values(broker: &EmbeddedBroker, topic: &str, partition: i32) -> Vec<Bytes> {
    let partition = TopicPartition::new(topic, partition);
    let (mut values, mut next) = (Vec::new(), 0);
    loop {
        let records = broker.read(&partition, next, 10_000).await.expect("read");
        let Some(last) = records.last() else { return values };
        next = last.offset + 1;
        values.extend(records.into_iter().map(|record| record.value.expect("a value")));
    }
}

#[tokio::test]
async fn everything_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let settings: Properties = [("retention.ms", "-1")].into_iter().collect();
    {
        let broker = open(folder.path());
        let topic = NewTopic { name: "a".into(), partitions: Some(3), replication_factor: None, settings };
        broker.create_topic(&topic).await.unwrap();
        let records: Vec<_> = (0..30).map(|number| record("a", number % 3, format!("{number}"))).collect();
        producer(&broker).await.send(&records, &offsets_at("s", 30), "connector").await.unwrap();
        let mut consumer = consumer(&broker, "g", "a").await;
        assigned(&mut *consumer).await;
        consumer.commit(&Positions::from([(TopicPartition::new("a", 1), 4)])).await.unwrap();
    }
    let broker = open(folder.path());
    assert_eq!(broker.topics().await.unwrap(), BTreeMap::from([("a".into(), 3)]));
    assert_eq!(stored_number(&broker, "s"), Some(30));
    assert_eq!(values(&broker, "a", 1).await, ["1", "4", "7", "10", "13", "16", "19", "22", "25", "28"]);
    let mut consumer = consumer(&broker, "g", "a").await;
    let positions = assigned(&mut *consumer).await;
    assert_eq!(positions.values().copied().collect::<Vec<_>>(), [-1, 4, -1]);
    let results = producer(&broker).await.send(&[record("a", 1, "next")], &SourceOffsets::new(), "c").await.unwrap();
    assert_eq!(*results[0].as_ref().unwrap(), (TopicPartition::new("a", 1), 10));
}

#[test]
fn a_worker_keeps_its_identity() {
    let folder = tempfile::tempdir().unwrap();
    let first = StateStore::open(folder.path(), true).unwrap().worker_id().to_owned();
    let second = StateStore::open(folder.path(), true).unwrap().worker_id().to_owned();
    let other = StateStore::open(&folder.path().join("other"), true).unwrap().worker_id().to_owned();
    assert_eq!(first, second);
    assert_ne!(first, other);
}

#[test]
fn a_second_worker_on_the_same_folder_is_refused_and_told_why() {
    let folder = tempfile::tempdir().unwrap();
    let first = StateStore::open(folder.path(), true).unwrap();
    let error = StateStore::open(folder.path(), true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let place = folder.path().canonicalize().unwrap();
    assert_eq!(
        error.to_string(),
        format!(
            "state folder {} is in use by another worker (pid {}); stop it, or give this one another --state-dir",
            place.display(),
            std::process::id()
        )
    );
    drop(first);
    StateStore::open(folder.path(), true).expect("the folder is free again");
}

#[tokio::test]
async fn a_topics_name_follows_kafkas_rules() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let mut producer = producer(&broker).await;
    for name in ["", ".", "..", "a b", "a/b", "ä", &"x".repeat(250)] {
        let results = producer.send(&[record(name, 0, "value")], &SourceOffsets::new(), "c").await.unwrap();
        let error = results[0].as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PoisonRecord, "{error}");
    }
    assert_eq!(broker.topics().await.unwrap(), BTreeMap::new());
    let longest = "x".repeat(249);
    producer.send(&[record(&longest, 0, "value")], &SourceOffsets::new(), "c").await.unwrap()[0].as_ref().unwrap();
}

#[tokio::test]
async fn a_consumer_that_is_dropped_leaves_its_group() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    producer(&broker).await.send(&[record("a", 0, "value")], &SourceOffsets::new(), "c").await.unwrap();
    let mut first = consumer(&broker, "g", "a").await;
    assert_eq!(assigned(&mut *first).await.len(), 1);
    let mut second = consumer(&broker, "g", "a").await;
    drop(first);
    assert_eq!(assigned(&mut *second).await.len(), 1);
}

#[tokio::test]
async fn records_go_when_every_group_has_read_them_and_they_are_old_enough() {
    let folder = tempfile::tempdir().unwrap();
    let later = SystemTime::now() + 2 * RETENTION;
    let committed = |position| Positions::from([(TopicPartition::new("a", 0), position)]);
    {
        let broker = open(folder.path());
        let mut producer = producer(&broker).await;
        for number in 0..100 {
            let record = record("a", 0, vec![number; 10_000]);
            producer.send(&[record], &SourceOffsets::new(), "c").await.unwrap();
        }
        let (mut slow, mut fast) = (consumer(&broker, "slow", "a").await, consumer(&broker, "fast", "a").await);
        assigned(&mut *slow).await;
        assigned(&mut *fast).await;
        fast.commit(&committed(100)).await.unwrap();
        assert_eq!(broker.remove_expired(later).unwrap(), 0, "a group that has yet to commit needs everything");
        slow.commit(&committed(40)).await.unwrap();
        assert_eq!(broker.remove_expired(SystemTime::now()).unwrap(), 0, "nothing is old enough");
        drop((slow, fast));
        assert_eq!(broker.remove_expired(later).unwrap(), 40);
        assert_eq!(range(&broker, "a").await, OffsetRange { start: 40, end: 100 });
    }
    let broker = open(folder.path());
    assert_eq!(range(&broker, "a").await, OffsetRange { start: 40, end: 100 });
    assert_eq!(broker.read(&TopicPartition::new("a", 0), 0, 1).await.unwrap()[0].offset, 40);

    // Who stands before the start hears of it.
    let mut consumer = consumer(&broker, "slow", "a").await;
    assigned(&mut *consumer).await;
    consumer.start_at(&committed(7)).await.unwrap();
    match consumer.next().await.unwrap() {
        ConsumerEvent::OutOfRange { position: 7, range, .. } => assert_eq!(range, OffsetRange { start: 40, end: 100 }),
        other => panic!("a position out of range was expected, not {other:?}"),
    }

    // A partition that was emptied goes on where it ended.
    consumer.commit(&committed(100)).await.unwrap();
    assert_eq!(broker.remove_expired(later).unwrap(), 60);
    drop((consumer, broker));
    let broker = open(folder.path());
    assert_eq!(range(&broker, "a").await, OffsetRange { start: 100, end: 100 });
    let results = producer(&broker).await.send(&[record("a", 0, "x")], &SourceOffsets::new(), "c").await.unwrap();
    assert_eq!(results[0].as_ref().unwrap().1, 100);
}

#[tokio::test]
async fn the_space_of_removed_records_is_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let mut producer = producer(&broker).await;
    let mut noise = 1u64;
    for _ in 0..80 {
        let value: Vec<u8> = (0..1_000_000)
            .map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (noise >> 56) as u8
            })
            .collect();
        producer.send(&[record("a", 0, value)], &SourceOffsets::new(), "c").await.unwrap();
    }
    let size = || {
        let mut folders = vec![folder.path().join("store/keyspaces")];
        let mut size = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                match entry.metadata() {
                    Ok(data) if data.is_dir() => folders.push(entry.path()),
                    Ok(data) => size += data.len(),
                    // The background thread removed it.
                    Err(_) => {}
                }
            }
        }
        size
    };
    assert!(size() > 60_000_000, "{}", size());
    assert_eq!(broker.remove_expired(SystemTime::now() + 2 * RETENTION).unwrap(), 80);
    assert!(size() < 20_000_000, "{}", size());
}

#[tokio::test]
async fn topics_can_be_read_and_written_beside_a_running_worker() {
    let short = tempfile::tempdir().unwrap();
    // A socket's address holds about a hundred bytes.
    let long = short.path().join("a".repeat(120)).join("state");
    for folder in [short.path(), &long] {
        let broker = open(folder);
        let state = |end| PartitionState {
            topic: "a".into(),
            partition: 0,
            start: 0,
            end,
            committed: BTreeMap::from([("g".into(), 1)]),
        };
        producer(&broker).await.send(&[record("a", 0, "first")], &SourceOffsets::new(), "c").await.unwrap();
        let mut consumer = consumer(&broker, "g", "a").await;
        assigned(&mut *consumer).await;
        consumer.commit(&Positions::from([(TopicPartition::new("a", 0), 1)])).await.unwrap();

        assert!(Topics::of_worker(folder).await.unwrap().is_none());
        // One that was killed leaves its socket behind.
        drop(std::os::unix::net::UnixListener::bind(short.path().join("stale")).unwrap());
        std::fs::rename(short.path().join("stale"), folder.join("ottla.sock")).unwrap();
        assert!(Topics::of_worker(folder).await.unwrap().is_none());

        let server = TopicsServer::serve(folder, broker.clone()).await.unwrap();
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&folder.join("ottla.sock").metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        let mut topics = Topics::of_worker(folder).await.unwrap().expect("a worker runs");
        let whole = RawRecord {
            offset: 1,
            timestamp: Some(17),
            key: Some(Bytes::from_static(&[0, 255])),
            value: None,
            headers: vec![("h".into(), Some("text".into())), ("h".into(), None)],
        };
        assert_eq!(topics.write("a", None, std::slice::from_ref(&whole)).await.unwrap()[0].as_ref().unwrap(), &(0, 1));
        assert_eq!(topics.list(vec!["g".into()]).await.unwrap(), [state(2)]);
        let records = topics.read(&TopicPartition::new("a", 0), 0, 10).await.unwrap();
        assert_eq!(records[0].value.as_deref(), Some(&b"first"[..]));
        assert_eq!(records[1], whole);
        let error = topics.read(&TopicPartition::new("missing", 0), 0, 10).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Config, "there is no topic 'missing'"));

        server.stop().await;
        assert!(!folder.join("ottla.sock").exists());
        assert_eq!(topics.list(Vec::new()).await.unwrap_err().kind(), ErrorKind::Unreachable);
    }
}

// Sends that are cut short.

const CRASH_FOLDER: &str = "OTTLA_TEST_CRASH_FOLDER";
const CRASH_TASKS: usize = 3;

/// What the child process of the next test does: send as fast as it can until it is killed, and say what was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_sends_until_it_is_killed() {
    let Some(folder) = std::env::var_os(CRASH_FOLDER).map(PathBuf::from) else { return };
    let broker = open(&folder);
    let topic =
        NewTopic { name: "a".into(), partitions: Some(2), replication_factor: None, settings: Properties::new() };
    broker.create_topic(&topic).await.unwrap();
    let send = |task: usize| {
        let broker = broker.clone();
        async move {
            let name = format!("{task}");
            let mut producer = producer(&broker).await;
            let mut number = stored_number(&broker, &name).map_or(0, |number| number + 1);
            loop {
                let records = [0, 1, 0].map(|partition| record("a", partition, value(task, number)));
                let results = producer.send(&records, &offsets_at(&name, number), "connector").await.unwrap();
                assert!(results.iter().all(Result::is_ok));
                let mut out = std::io::stdout().lock();
                writeln!(out, "acknowledged {task} {number}").and_then(|()| out.flush()).unwrap();
                number += 1;
            }
        }
    };
    let tasks: Vec<_> = (0..CRASH_TASKS).map(|task| tokio::spawn(send(task))).collect();
    futures::future::join_all(tasks).await;
    panic!("every task has failed");
}

/// Large enough that files are written in the background, too.
fn value(task: usize, number: i64) -> Vec<u8> {
    let mut value = format!("{task} {number} ").into_bytes();
    value.resize(20_000, b'.');
    value
}

#[tokio::test]
async fn after_a_kill_each_send_is_there_with_its_offset_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_sends_until_it_is_killed", "--nocapture"])
            .env(CRASH_FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut acknowledged = [-1; CRASH_TASKS];
        let mut note = |line: String| {
            // The test harness writes lines of its own, and the last one may be cut.
            let Some(("", rest)) = line.split_once("acknowledged ") else { return false };
            let Some((task, number)) = rest.split_once(' ') else { return false };
            let (Ok(task), Ok(number)) = (task.parse::<usize>(), number.parse::<i64>()) else { return false };
            acknowledged[task] = acknowledged[task].max(number);
            true
        };
        let mut wanted = 150 + 37 * round;
        while wanted > 0 {
            wanted -= usize::from(note(lines.next().expect("the child works until it is killed")));
        }
        child.kill().unwrap();
        for line in lines {
            note(line);
        }
        child.wait().unwrap();

        let broker = open(folder.path());
        let found = [values(&broker, "a", 0).await, values(&broker, "a", 1).await];
        for (task, acknowledged) in acknowledged.into_iter().enumerate() {
            let stored = stored_number(&broker, &task.to_string()).expect("something was acknowledged");
            assert!(stored >= acknowledged, "task {task}: {acknowledged} was acknowledged, {stored} is stored");
            let prefix = format!("{task} ");
            for (partition, copies) in [(0, 2), (1, 1)] {
                let of_task = found[partition].iter().filter(|value| value.starts_with(prefix.as_bytes()));
                let expected = (0..=stored).flat_map(|number| vec![Bytes::from(value(task, number)); copies]);
                assert!(
                    of_task.cloned().eq(expected),
                    "task {task}, partition {partition}: records up to {stored} and no others"
                );
            }
        }
    }
}

// A disk that fills up.

/// A small file system of its own, gone with this value.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// None where this process may not mount one.
    fn mount(mebibytes: usize) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(folder));
        }
        eprintln!("skipped: this process may not mount a small file system, so nothing was shown about full disks");
        None
    }

    /// Writes a file that takes all the room there is.
    fn fill(&self) -> PathBuf {
        let path = self.0.path().join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Text that lz4 can't make smaller.
fn noise(seed: i64, length: usize) -> String {
    let mut state = seed as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b' ' + 2 + ((state >> 33) % 88) as u8)
    };
    (0..length).map(|_| next()).filter(|c| *c != '\\').collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_records_and_takes_them_again_when_there_is_room() {
    let Some(disk) = SmallDisk::mount(96) else { return };
    let state = disk.0.path().join("state");
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![0; 40 << 20]).unwrap();
    let broker = open(&state);
    let mut producer = producer(&broker).await;
    let mut number = 0;
    let full = loop {
        let records = [0, 1, 2].map(|nth| record("a", 0, noise(number * 3 + nth, 100_000)));
        match producer.send(&records, &offsets_at("s", number), "connector").await {
            Ok(_) => number += 1,
            Err(error) => break error,
        }
    };
    assert!(full.is_retriable(), "{full:?}");
    assert!(full.to_string().contains("is full"), "{full}");
    assert!(number > 10, "{number} sends fitted");

    // What was read is still remembered, so that readers go on and retention can make room.
    let mut consumer = consumer(&broker, "g", "a").await;
    assigned(&mut *consumer).await;
    consumer.commit(&Positions::from([(TopicPartition::new("a", 0), 1)])).await.expect("positions go on");

    // Now somebody else takes the reserve, too.
    let filler = disk.fill();
    for _ in 0..3 {
        let error = producer.send(&[record("a", 0, "x")], &offsets_at("s", -1), "connector").await.unwrap_err();
        assert!(error.is_retriable(), "{error:?}");
    }
    assert_eq!(values(&broker, "a", 0).await.len() as i64, number * 3, "what is there can be read");

    std::fs::remove_file(filler).unwrap();
    std::fs::remove_file(&ballast).unwrap();
    for _ in 0..20 {
        let records = [0, 1, 2].map(|nth| record("a", 0, noise(number * 3 + nth, 100_000)));
        producer.send(&records, &offsets_at("s", number), "connector").await.expect("there is room again");
        number += 1;
    }
    drop((consumer, producer, broker));
    let broker = open(&state);
    assert_eq!(stored_number(&broker, "s"), Some(number - 1));
    let found = values(&broker, "a", 0).await;
    assert!(found.iter().eq((0..number * 3).map(|nth| noise(nth, 100_000)).collect::<Vec<_>>().iter()));
    drop(broker);
}

/// Offsets are written in the reserve, so this reaches the point where the store's own writes fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_fails_halfway_is_never_seen_and_does_not_end_the_store() {
    for mebibytes in [24, 41] {
        let Some(disk) = SmallDisk::mount(mebibytes) else { return };
        let state = disk.0.path().join("state");
        let broker = open(&state);
        let store = broker.source_offsets();
        let at = |number: i64| {
            let offset = SourceOffset::new([("number", number.to_string()), ("noise", noise(number, 77_777))]);
            SourceOffsets::from([(source(&(number % 500).to_string()), offset)])
        };
        let stored = |store: &dyn OffsetStore, number: i64| {
            let found =
                store.get("connector", &source(&(number % 500).to_string())).expect("what is there can be read");
            found.map(|offset| offset.get_str("number").expect("a number").parse::<i64>().expect("a number"))
        };
        let mut number = 0;
        let mut rounds = 0;
        while rounds < 3 {
            let ballast = disk.0.path().join("ballast");
            std::fs::write(&ballast, vec![0; 3 << 20]).ok();
            // Opening the store again after a failure may free some room, so a later one may go through.
            let mut failures = 0;
            while failures < 5 {
                let before = stored(&*store, number);
                match store.put("connector", &at(number)) {
                    Ok(()) => number += 1,
                    Err(failed) => {
                        assert!(failed.is_retriable(), "{failed:?}");
                        assert!(failed.to_string().contains("full"), "{failed}");
                        assert_eq!(stored(&*store, number), before, "what failed is not there");
                        failures += 1;
                    }
                }
            }
            std::fs::remove_file(&ballast).unwrap();
            store.put("connector", &at(number)).expect("there is room again");
            number += 1;
            rounds += 1;
        }
        drop((store, broker));
        let broker = open(&state);
        for last in (0..number).rev().take(500) {
            assert_eq!(stored(&*broker.source_offsets(), last), Some(last));
        }
        drop(broker);
    }
}
