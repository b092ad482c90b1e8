//! What every broker must do: one suite, run against the embedded topics and against a Kafka cluster.
//!
//! Each test makes its own topics and groups under new names, so that all can run at once on a cluster that others use, too.
//! A broker's test file says [`broker_conformance!`](crate::broker_conformance) and how to make a [`Harness`]. Waiting always
//! ends: after [`PATIENCE`] a test fails and says what it waited for.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::select_all;
use ottla_api::config::Properties;
use ottla_api::offset::{Positions, SourceOffset, SourceOffsets, SourcePartition, TopicPartition};
use ottla_api::record::RawRecord;
use ottla_api::{ErrorKind, Result};
use regex::Regex;

use super::{
    Broker, ConsumerEvent, ConsumerSpec, GroupConsumer, NewTopic, ProducerRecord, StartPosition, Subscription,
};

/// How long a test waits for one thing. Rebalances of a busy Kafka take some seconds.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Makes one test of each function of the suite. The argument is an async function without arguments that gives a
/// [`Harness`], or an `Option` of one: the tests pass without one, for a service that is not there.
#[macro_export]
macro_rules! broker_conformance {
    ($harness:path) => {
        $crate::broker_conformance!($harness:
            records_come_back_whole_and_in_order,
            offsets_go_on_from_send_to_send,
            a_key_goes_to_the_partition_that_javas_client_chooses,
            records_without_a_key_reach_every_partition,
            a_wrong_partition_concerns_its_record_only,
            a_record_that_is_too_large_concerns_itself_only,
            source_offsets_are_stored_with_their_records,
            topics_are_made_once_and_listed,
            a_partition_is_read_from_any_offset,
            a_group_goes_on_where_it_committed,
            a_commit_never_goes_back,
            a_commit_for_a_partition_that_was_given_back_is_refused,
            consumers_share_partitions_and_nothing_is_read_twice,
            a_partition_moves_only_after_its_owner_let_go,
            a_closed_consumers_partitions_go_to_the_others,
            a_regex_finds_topics_that_appear_later,
            start_at_rewinds,
            a_paused_partition_waits,
            without_a_committed_offset_the_start_decides,
            a_position_beyond_the_end_is_reported,
            dropping_a_wait_loses_nothing,
        );
    };
    ($harness:path: $($test:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let harness: Option<$crate::broker::conformance::Harness> = $harness().await.into();
                let Some(harness) = harness else { return };
                $crate::broker::conformance::$test(&harness).await;
            }
        )+
    };
}

/// The broker under test, and what it can't do.
pub struct Harness {
    /// It.
    pub broker: Arc<dyn Broker>,
    /// The largest record it takes, in bytes.
    pub record_bytes_max: usize,
    /// Client settings for its consumers, such as a shorter refresh of Kafka's topic list.
    pub consumer_settings: Properties,
    /// What must live as long as the broker, such as its folder.
    pub keep: Option<Box<dyn Any + Send + Sync>>,
}

impl fmt::Debug for Harness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Harness").field("broker", &self.broker).finish_non_exhaustive()
    }
}

impl Harness {
    /// A broker that takes records of up to `record_bytes_max` bytes.
    pub fn new(broker: Arc<dyn Broker>, record_bytes_max: usize) -> Self {
        Self { broker, record_bytes_max, consumer_settings: Properties::new(), keep: None }
    }

    /// A new topic with this many partitions.
    async fn topic(&self, partitions: usize) -> Arc<str> {
        let name = unique("conformance");
        self.make_topic(&name, partitions).await;
        name.into()
    }

    async fn make_topic(&self, name: &str, partitions: usize) {
        let topic = NewTopic {
            name: name.to_owned(),
            partitions: Some(partitions),
            replication_factor: None,
            settings: Properties::new(),
        };
        within("a topic", self.broker.create_topic(&topic)).await.expect("make a topic");
    }

    /// Sends records that must all arrive, and answers where they lie.
    async fn send(&self, records: &[ProducerRecord]) -> Vec<(TopicPartition, i64)> {
        let mut producer = self.broker.producer("conformance", &Properties::new()).await.expect("make a producer");
        let results = within("a send", producer.send(records, &SourceOffsets::new(), "none")).await.expect("send");
        results.into_iter().map(|result| result.expect("each record arrives")).collect()
    }

    async fn reader(&self, group: &str, subscription: Subscription) -> Reader {
        self.reader_from(group, subscription, StartPosition::Earliest).await
    }

    async fn reader_from(&self, group: &str, subscription: Subscription, start: StartPosition) -> Reader {
        let spec = ConsumerSpec {
            group: group.to_owned(),
            client_id: "conformance".to_owned(),
            instance_id: None,
            subscription,
            start,
            settings: self.consumer_settings.clone(),
            batch_records_max: 100,
            ahead_bytes_max: 1 << 20,
        };
        let consumer = within("a consumer", self.broker.consumer(spec)).await.expect("make a consumer");
        Reader {
            consumer,
            positions: Positions::new(),
            revoked: BTreeSet::new(),
            obliging: true,
            records: BTreeMap::new(),
        }
    }

    async fn committed(&self, group: &str, topic: &str) -> Positions {
        within("committed offsets", self.broker.committed(group, &[topic.to_owned()])).await.expect("committed offsets")
    }
}

fn unique(what: &str) -> String {
    format!("{what}-{}", uuid::Uuid::new_v4())
}

fn only(topic: &Arc<str>) -> Subscription {
    Subscription::Topics(vec![topic.to_string()])
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => panic!("waited {PATIENCE:?} for {what}"),
    }
}

fn record(topic: &Arc<str>, partition: i32, value: impl Into<String>) -> ProducerRecord {
    ProducerRecord {
        topic: topic.clone(),
        partition: Some(partition),
        key: None,
        value: Some(Bytes::from(value.into())),
        timestamp: None,
        headers: Vec::new(),
    }
}

/// `count` records for a partition, numbered.
fn numbered(topic: &Arc<str>, partition: i32, count: usize) -> Vec<ProducerRecord> {
    (0..count).map(|number| record(topic, partition, format!("{partition}/{number}"))).collect()
}

/// A member of a group that reads what it is given and notes it.
struct Reader {
    consumer: Box<dyn GroupConsumer>,
    /// Where it stands in each of its partitions.
    positions: Positions,
    /// What it was asked to give back and still has.
    revoked: BTreeSet<TopicPartition>,
    /// True where it commits and gives back at once what it is asked for.
    obliging: bool,
    records: BTreeMap<TopicPartition, Vec<RawRecord>>,
}

impl Reader {
    async fn handle(&mut self, event: ConsumerEvent) {
        match event {
            ConsumerEvent::Assigned(positions) => {
                for partition in positions.keys() {
                    assert!(!self.positions.contains_key(partition), "{partition} was assigned twice");
                }
                self.consumer.start_at(&positions).await.expect("start at the assigned positions");
                self.positions.extend(positions);
            }
            ConsumerEvent::Revoked(partitions) => {
                self.revoked.extend(partitions);
                if self.obliging {
                    self.let_go().await;
                }
            }
            ConsumerEvent::Lost(partitions) => panic!("partitions {partitions:?} were lost"),
            ConsumerEvent::Batch { partition, records, next_offset } => {
                let position = self.positions.get_mut(&partition).expect("records come from assigned partitions");
                assert!(!self.revoked.contains(&partition), "{partition} was asked back, and is still read");
                for record in &records {
                    assert!(record.offset >= *position, "{partition}: {} came again at {position}", record.offset);
                    *position = record.offset + 1;
                }
                assert!(next_offset >= *position, "{partition}: {next_offset} is before {position}");
                *position = next_offset;
                self.records.entry(partition).or_default().extend(records);
            }
            ConsumerEvent::OutOfRange { partition, position, range } => {
                panic!("{partition}: {position} is not within {range:?}")
            }
        }
    }

    /// Commits what was read of the partitions that were asked back, and gives them back.
    async fn let_go(&mut self) {
        let partitions: Vec<TopicPartition> = std::mem::take(&mut self.revoked).into_iter().collect();
        let position = |partition: &TopicPartition| Some((partition.clone(), self.positions.remove(partition)?));
        let positions: Positions =
            partitions.iter().filter_map(position).filter(|(_, position)| *position >= 0).collect();
        within("a commit", self.consumer.commit(&positions)).await.expect("commit before giving back");
        within("a release", self.consumer.release(&partitions)).await.expect("give back");
    }

    /// Commits what was read of everything, then leaves the group.
    async fn leave(mut self) {
        self.commit_all().await;
        within("a consumer to close", self.consumer.close()).await.expect("close");
    }

    async fn commit_all(&mut self) {
        let positions = self.positions.iter().filter(|(_, position)| **position >= 0);
        let positions = positions.map(|(partition, position)| (partition.clone(), *position)).collect();
        within("a commit", self.consumer.commit(&positions)).await.expect("commit");
    }

    fn count(&self) -> usize {
        self.records.values().map(Vec::len).sum()
    }

    /// Reads until it has had `count` records.
    async fn read(&mut self, count: usize) {
        drive(&mut [self], &format!("{count} records"), |readers| readers[0].count() >= count).await;
    }
}

/// Lets all readers read until something holds of them.
async fn drive(readers: &mut [&mut Reader], what: &str, until: impl Fn(&[&mut Reader]) -> bool) {
    within(what, async {
        while !until(readers) {
            let (event, index, _) = select_all(readers.iter_mut().map(|reader| reader.consumer.next().boxed())).await;
            readers[index].handle(event.expect("an event")).await;
        }
    })
    .await;
}

/// True where every partition has an owner that was not asked to give it back, and nobody has two more than another.
fn settled(readers: &[&mut Reader], partitions: usize) -> bool {
    let loads: Vec<usize> = readers.iter().map(|reader| reader.positions.len()).collect();
    let most = loads.iter().max().expect("there are readers");
    let least = loads.iter().min().expect("there are readers");
    loads.iter().sum::<usize>() == partitions
        && most - least <= 1
        && readers.iter().all(|reader| reader.revoked.is_empty())
}

/// Key, value, timestamp and headers come back as they were, also where they are null, empty or there twice.
pub async fn records_come_back_whole_and_in_order(harness: &Harness) {
    let topic = harness.topic(1).await;
    let bytes = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    let plain = record(&topic, 0, "plain");
    let records = [
        plain.clone(),
        ProducerRecord { key: bytes("key"), value: None, ..plain.clone() },
        ProducerRecord { key: bytes(""), value: bytes(""), timestamp: Some(1_234_567_890_123), ..plain.clone() },
        ProducerRecord {
            value: Some(Bytes::from((0..=255).collect::<Vec<u8>>())),
            // Not 0: librdkafka takes that for "now".
            timestamp: Some(1),
            ..plain.clone()
        },
        ProducerRecord {
            headers: vec![
                ("twice".into(), bytes("1")),
                ("null".into(), None),
                ("empty".into(), bytes("")),
                ("twice".into(), bytes("2")),
                ("".into(), bytes("no name")),
            ],
            ..plain.clone()
        },
        ProducerRecord { value: Some(Bytes::from(vec![b'x'; 900_000])), ..plain },
    ];
    let places = harness.send(&records).await;
    for (nth, (partition, offset)) in places.iter().enumerate() {
        assert_eq!((&*partition.topic, partition.partition, *offset), (&*topic, 0, nth as i64));
    }

    let mut reader = harness.reader(&unique("group"), only(&topic)).await;
    reader.read(records.len()).await;
    let read = &reader.records[&TopicPartition::new(topic.clone(), 0)];
    let plainly =
        within("a plain read", harness.broker.read(&TopicPartition::new(topic, 0), 0, 100)).await.expect("read");
    for (nth, sent) in records.iter().enumerate() {
        for found in [&read[nth], &plainly[nth]] {
            assert_eq!(found.offset, nth as i64);
            assert_eq!(found.key, sent.key, "key of record {nth}");
            assert_eq!(found.value, sent.value, "value of record {nth}");
            assert_eq!(found.headers, sent.headers, "headers of record {nth}");
            match sent.timestamp {
                Some(timestamp) => assert_eq!(found.timestamp, Some(timestamp), "timestamp of record {nth}"),
                None => assert!(found.timestamp.is_some_and(|millis| millis > 1_600_000_000_000), "record {nth}"),
            }
        }
    }
}

/// Each record gets the next offset of its partition, whoever sends it.
pub async fn offsets_go_on_from_send_to_send(harness: &Harness) {
    let topic = harness.topic(2).await;
    let mut next = [0, 0];
    for round in 0..5 {
        let mut records = numbered(&topic, 0, 10 + round);
        records.extend(numbered(&topic, 1, 3));
        records.extend(numbered(&topic, 0, 1));
        for (partition, offset) in harness.send(&records).await {
            let next = &mut next[partition.partition as usize];
            assert_eq!(offset, *next, "{partition}");
            *next += 1;
        }
    }
}

/// Topics that move to another broker, or are fed by a Java client as well, keep a key's records together.
pub async fn a_key_goes_to_the_partition_that_javas_client_chooses(harness: &Harness) {
    // The hashes are those of Kafka's own test of its murmur2.
    let keys = [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107_i32),
    ];
    let topic = harness.topic(7).await;
    let records: Vec<ProducerRecord> = keys
        .iter()
        .map(|(key, _)| ProducerRecord { partition: None, key: Some(Bytes::from(*key)), ..record(&topic, 0, "value") })
        .collect();
    for ((key, hash), (partition, _)) in keys.iter().zip(harness.send(&records).await) {
        assert_eq!(partition.partition, (hash & i32::MAX) % 7, "{key}");
    }
}

/// Records without a key are spread, in runs.
pub async fn records_without_a_key_reach_every_partition(harness: &Harness) {
    let topic = harness.topic(3).await;
    let mut seen = BTreeSet::new();
    for _ in 0..20 {
        let value = "x".repeat(700);
        let records = vec![ProducerRecord { partition: None, ..record(&topic, 0, value) }; 200];
        seen.extend(harness.send(&records).await.into_iter().map(|(partition, _)| partition.partition));
    }
    assert_eq!(seen, BTreeSet::from([0, 1, 2]));
}

/// The records around it arrive.
pub async fn a_wrong_partition_concerns_its_record_only(harness: &Harness) {
    let topic = harness.topic(2).await;
    let records = [record(&topic, 1, "before"), record(&topic, 9, "wrong"), record(&topic, 1, "after")];
    concerns_the_second_only(harness, &topic, &records).await;
}

/// The records around it arrive.
pub async fn a_record_that_is_too_large_concerns_itself_only(harness: &Harness) {
    let topic = harness.topic(2).await;
    let large = record(&topic, 1, "x".repeat(harness.record_bytes_max + 1));
    concerns_the_second_only(harness, &topic, &[record(&topic, 1, "before"), large, record(&topic, 1, "after")]).await;
}

async fn concerns_the_second_only(harness: &Harness, topic: &Arc<str>, records: &[ProducerRecord]) {
    let (connector, offsets) = (unique("connector"), offsets_at(1));
    let mut producer = harness.broker.producer("conformance", &Properties::new()).await.expect("make a producer");
    let results = within("a send", producer.send(records, &offsets, &connector)).await.expect("send");
    let error = results[1].as_ref().expect_err("the second record is refused");
    assert_eq!(error.kind(), ErrorKind::PoisonRecord, "{error}");
    for nth in [0, 2] {
        let (partition, _) = results[nth].as_ref().expect("the others arrive");
        assert_eq!(partition, &TopicPartition::new(topic.clone(), 1));
    }
    // G1: with a record missing, the source must not go on after it by itself.
    let stored = harness.broker.source_offsets().all(&connector).expect("source offsets");
    assert_eq!(stored, SourceOffsets::new());
    let read =
        within("a read", harness.broker.read(&TopicPartition::new(topic.clone(), 1), 0, 10)).await.expect("read");
    let values: Vec<_> = read.iter().filter_map(|record| record.value.as_deref()).collect();
    assert_eq!(values, [b"before".as_slice(), b"after"]);
}

fn offsets_at(line: i64) -> SourceOffsets {
    SourceOffsets::from([(SourcePartition::new([("file", "a")]), SourceOffset::new([("line", line)]))])
}

/// They are there when the send returns, for their connector only.
pub async fn source_offsets_are_stored_with_their_records(harness: &Harness) {
    let topic = harness.topic(1).await;
    let (connector, other) = (unique("connector"), unique("connector"));
    let store = harness.broker.source_offsets();
    let partition = SourcePartition::new([("file", "a")]);
    assert_eq!(store.get(&connector, &partition).expect("read"), None);

    let mut producer = harness.broker.producer("conformance", &Properties::new()).await.expect("make a producer");
    for position in [1, 2] {
        let records = numbered(&topic, 0, 2);
        within("a send", producer.send(&records, &offsets_at(position), &connector)).await.expect("send");
    }
    // Offsets may go on without a record, where a transformation dropped them all.
    within("a send", producer.send(&[], &offsets_at(3), &connector)).await.expect("send");

    assert_eq!(store.get(&connector, &partition).expect("read"), offsets_at(3).remove(&partition));
    assert_eq!(store.all(&connector).expect("read"), offsets_at(3));
    assert_eq!(store.all(&other).expect("read"), SourceOffsets::new());
}

/// Making one again changes nothing.
pub async fn topics_are_made_once_and_listed(harness: &Harness) {
    let name = unique("conformance");
    harness.make_topic(&name, 3).await;
    let topic: Arc<str> = name.as_str().into();
    harness.send(&numbered(&topic, 2, 5)).await;
    harness.make_topic(&name, 3).await;

    within("the topic to be listed", async {
        while harness.broker.topics().await.expect("list topics").get(&name) != Some(&3) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let ranges = within("offsets", harness.broker.offsets(&[name, unique("missing")])).await.expect("offsets");
    let found: Vec<_> = ranges.iter().map(|(partition, range)| (partition.partition, range.start, range.end)).collect();
    assert_eq!(found, [(0, 0, 0), (1, 0, 0), (2, 0, 5)]);
    assert!(ranges.keys().all(|partition| partition.topic == topic));
}

/// As far as there is something, and no more than asked for.
pub async fn a_partition_is_read_from_any_offset(harness: &Harness) {
    let topic = harness.topic(1).await;
    for _ in 0..4 {
        harness.send(&numbered(&topic, 0, 25)).await;
    }
    let partition = TopicPartition::new(topic, 0);
    for (offset, max, expected) in [(0, 10, 0..10), (30, 50, 30..80), (95, 100, 95..100), (100, 10, 100..100)] {
        let read = within("a read", harness.broker.read(&partition, offset, max)).await.expect("read");
        let offsets: Vec<i64> = read.iter().map(|record| record.offset).collect();
        assert_eq!(offsets, expected.collect::<Vec<_>>(), "from {offset}, at most {max}");
    }
}

/// Whoever reads next for the group gets what comes after.
pub async fn a_group_goes_on_where_it_committed(harness: &Harness) {
    let (topic, group) = (harness.topic(1).await, unique("group"));
    let partition = TopicPartition::new(topic.clone(), 0);
    harness.send(&numbered(&topic, 0, 10)).await;
    assert_eq!(harness.committed(&group, &topic).await, Positions::new());

    let mut reader = harness.reader(&group, only(&topic)).await;
    reader.read(10).await;
    let positions = Positions::from([(partition.clone(), 4)]);
    within("a commit", reader.consumer.commit(&positions)).await.expect("commit");
    assert_eq!(harness.committed(&group, &topic).await, positions);
    within("a consumer to close", reader.consumer.close()).await.expect("close");

    let mut reader = harness.reader(&group, only(&topic)).await;
    reader.read(6).await;
    assert_eq!(reader.records[&partition][0].offset, 4);
    reader.leave().await;
    assert_eq!(harness.committed(&group, &topic).await, Positions::from([(partition, 10)]));
}

/// A late commit of something older, as after a rewind, must not make anybody read again what is done.
pub async fn a_commit_never_goes_back(harness: &Harness) {
    let (topic, group) = (harness.topic(1).await, unique("group"));
    harness.send(&numbered(&topic, 0, 10)).await;
    let mut reader = harness.reader(&group, only(&topic)).await;
    reader.read(10).await;
    let at = |position| Positions::from([(TopicPartition::new(topic.clone(), 0), position)]);
    within("a commit", reader.consumer.commit(&at(7))).await.expect("commit");
    within("a commit", reader.consumer.commit(&at(3))).await.expect("a commit that changes nothing");
    assert_eq!(harness.committed(&group, &topic).await, at(7));
    within("a commit", reader.consumer.commit(&at(8))).await.expect("commit");
    assert_eq!(harness.committed(&group, &topic).await, at(8));
}

/// G4: who lost a partition can't say anything about it any more.
pub async fn a_commit_for_a_partition_that_was_given_back_is_refused(harness: &Harness) {
    let (topic, group) = (harness.topic(2).await, unique("group"));
    harness.send(&[numbered(&topic, 0, 10), numbered(&topic, 1, 10)].concat()).await;
    let mut first = harness.reader(&group, only(&topic)).await;
    first.read(20).await;
    first.commit_all().await;
    let mut second = harness.reader(&group, only(&topic)).await;
    drive(&mut [&mut first, &mut second], "two shares", |readers| settled(readers, 2)).await;

    let before = harness.committed(&group, &topic).await;
    let (kept, _) = first.positions.iter().next().expect("the first keeps one");
    let (lost, _) = second.positions.iter().next().expect("the second has one");
    let both = Positions::from([(kept.clone(), 11), (lost.clone(), 11)]);
    let error = within("a commit", first.consumer.commit(&both)).await.expect_err("the commit is refused");
    assert!(!error.is_retriable(), "{error:?}");
    assert!(error.to_string().contains(&lost.to_string()), "it names {lost}: {error}");
    assert_eq!(harness.committed(&group, &topic).await, before);
    let own = Positions::from([(kept.clone(), 11)]);
    within("a commit", first.consumer.commit(&own)).await.expect("its own partition is not concerned");
}

/// A second and a third consumer join, one leaves; what is committed when partitions move is read once, all of it is read.
pub async fn consumers_share_partitions_and_nothing_is_read_twice(harness: &Harness) {
    let (topic, group) = (harness.topic(6).await, unique("group"));
    let send = || async {
        let records: Vec<_> = (0..6).flat_map(|partition| numbered(&topic, partition, 50)).collect();
        harness.send(&records).await;
    };
    let total = |readers: &[&mut Reader]| readers.iter().map(|reader| reader.count()).sum::<usize>();

    send().await;
    let mut a = harness.reader(&group, only(&topic)).await;
    drive(&mut [&mut a], "one consumer to read all", |readers| total(readers) >= 300).await;
    let mut b = harness.reader(&group, only(&topic)).await;
    drive(&mut [&mut a, &mut b], "two shares", |readers| settled(readers, 6)).await;
    send().await;
    let mut c = harness.reader(&group, only(&topic)).await;
    drive(&mut [&mut a, &mut b, &mut c], "three shares, all read", |readers| {
        settled(readers, 6) && total(readers) >= 600
    })
    .await;
    send().await;
    let read_by_a = std::mem::take(&mut a.records);
    a.leave().await;
    let gone: usize = read_by_a.values().map(Vec::len).sum();
    drive(&mut [&mut b, &mut c], "two shares again, all read", |readers| {
        settled(readers, 6) && total(readers) + gone >= 900
    })
    .await;

    for number in 0..6 {
        let partition = TopicPartition::new(topic.clone(), number);
        let mut offsets: Vec<i64> = [&read_by_a, &b.records, &c.records]
            .iter()
            .filter_map(|records| records.get(&partition))
            .flatten()
            .map(|record| record.offset)
            .collect();
        offsets.sort_unstable();
        assert_eq!(offsets, (0..150).collect::<Vec<_>>(), "{partition}");
    }
}

/// Until then its owner may commit for it, and the next one gets what was committed last.
pub async fn a_partition_moves_only_after_its_owner_let_go(harness: &Harness) {
    let (topic, group) = (harness.topic(2).await, unique("group"));
    harness.send(&[numbered(&topic, 0, 10), numbered(&topic, 1, 10)].concat()).await;
    let mut first = harness.reader(&group, only(&topic)).await;
    first.obliging = false;
    first.read(20).await;
    let mut second = harness.reader(&group, only(&topic)).await;
    drive(&mut [&mut first, &mut second], "a partition to be asked back", |readers| !readers[0].revoked.is_empty())
        .await;
    assert_eq!(first.revoked.len(), 1, "{:?}", first.revoked);

    // What comes in now is read from the partition that stays, and only from that one.
    harness.send(&[numbered(&topic, 0, 5), numbered(&topic, 1, 5)].concat()).await;
    drive(&mut [&mut first, &mut second], "more of the other partition", |readers| readers[0].count() >= 25).await;
    assert_eq!(second.positions, Positions::new());
    let moving = first.revoked.iter().next().expect("one is asked back").clone();
    let halfway = Positions::from([(moving.clone(), 4)]);
    within("a commit", first.consumer.commit(&halfway)).await.expect("it is still its owner's");

    first.positions.insert(moving.clone(), 6);
    first.let_go().await;
    first.obliging = true;
    drive(&mut [&mut first, &mut second], "the rest of the moved partition", |readers| readers[1].count() >= 9).await;
    assert_eq!(second.records.keys().collect::<Vec<_>>(), [&moving]);
    assert_eq!(second.records[&moving][0].offset, 6);
}

/// All of them, at the positions that it committed.
pub async fn a_closed_consumers_partitions_go_to_the_others(harness: &Harness) {
    let (topic, group) = (harness.topic(4).await, unique("group"));
    let mut first = harness.reader(&group, only(&topic)).await;
    let mut second = harness.reader(&group, only(&topic)).await;
    drive(&mut [&mut first, &mut second], "two shares", |readers| settled(readers, 4)).await;
    first.leave().await;
    drive(&mut [&mut second], "all partitions", |readers| settled(readers, 4)).await;
    second.leave().await;
}

/// Whole names only, as Java's `Pattern.matches`.
pub async fn a_regex_finds_topics_that_appear_later(harness: &Harness) {
    let base = unique("conformance");
    harness.make_topic(&format!("{base}-1"), 1).await;
    harness.make_topic(&format!("{base}-1-no"), 1).await;
    let regex = Regex::new(&format!("{base}-[0-9]")).expect("a regex");
    let mut reader = harness.reader(&unique("group"), Subscription::Regex(regex)).await;
    for number in 1..=3 {
        let name = format!("{base}-{number}");
        harness.make_topic(&name, 1).await;
        let topic: Arc<str> = name.into();
        harness.send(&numbered(&topic, 0, 5)).await;
        drive(&mut [&mut reader], "records of a new topic", |readers| {
            readers[0].records.get(&TopicPartition::new(topic.clone(), 0)).is_some_and(|records| records.len() == 5)
        })
        .await;
    }
    let other: Arc<str> = format!("{base}-1-no").into();
    assert!(!reader.positions.contains_key(&TopicPartition::new(other, 0)));
}

/// As a sink does whose destination has less than the group thinks; what was fetched before does not turn up.
pub async fn start_at_rewinds(harness: &Harness) {
    let topic = harness.topic(1).await;
    let partition = TopicPartition::new(topic.clone(), 0);
    harness.send(&numbered(&topic, 0, 500)).await;
    let mut reader = harness.reader(&unique("group"), only(&topic)).await;
    reader.read(100).await;
    reader.commit_all().await;
    for position in [30, 7, 450] {
        let positions = Positions::from([(partition.clone(), position)]);
        within("a rewind", reader.consumer.start_at(&positions)).await.expect("rewind");
        reader.positions.insert(partition.clone(), position);
        reader.records.clear();
        reader.read(1).await;
        assert_eq!(reader.records[&partition][0].offset, position);
    }
}

/// The others go on.
pub async fn a_paused_partition_waits(harness: &Harness) {
    let topic = harness.topic(2).await;
    let [paused, other] = [0, 1].map(|number| TopicPartition::new(topic.clone(), number));
    let mut reader = harness.reader(&unique("group"), only(&topic)).await;
    drive(&mut [&mut reader], "both partitions", |readers| readers[0].positions.len() == 2).await;
    within("a pause", reader.consumer.pause(std::slice::from_ref(&paused))).await.expect("pause");
    for round in 1..=5 {
        harness.send(&[numbered(&topic, 0, 10), numbered(&topic, 1, 10)].concat()).await;
        reader.read(round * 10).await;
        assert!(!reader.records.contains_key(&paused));
    }
    assert_eq!(reader.records[&other].len(), 50);
    within("a resume", reader.consumer.resume(std::slice::from_ref(&paused))).await.expect("resume");
    reader.read(100).await;
    assert_eq!(reader.records[&paused].len(), 50);
}

/// The oldest, only what comes after, or an error.
pub async fn without_a_committed_offset_the_start_decides(harness: &Harness) {
    let topic = harness.topic(1).await;
    let partition = TopicPartition::new(topic.clone(), 0);
    harness.send(&numbered(&topic, 0, 10)).await;
    let is_assigned = |readers: &[&mut Reader]| !readers[0].positions.is_empty();

    let mut earliest = harness.reader_from(&unique("group"), only(&topic), StartPosition::Earliest).await;
    let mut latest = harness.reader_from(&unique("group"), only(&topic), StartPosition::Latest).await;
    drive(&mut [&mut earliest], "the oldest records", |readers| readers[0].count() >= 10).await;
    drive(&mut [&mut latest], "an assignment", is_assigned).await;
    harness.send(&numbered(&topic, 0, 5)).await;
    drive(&mut [&mut latest], "new records", |readers| readers[0].count() >= 5).await;
    assert_eq!(latest.records[&partition][0].offset, 10);

    let mut none = harness.reader_from(&unique("group"), only(&topic), StartPosition::None).await;
    let error = within("an error", async {
        loop {
            // An implementation may refuse at once, or when it looks for the records.
            match none.consumer.next().await {
                Ok(ConsumerEvent::Assigned(positions)) => match none.consumer.start_at(&positions).await {
                    Ok(()) => {}
                    Err(error) => return error,
                },
                Ok(other) => panic!("an error was expected, not {other:?}"),
                Err(error) => return error,
            }
        }
    })
    .await;
    assert!(!error.is_retriable(), "{error:?}");
}

/// A group that committed for records that a topic made anew does not have, or that are gone.
pub async fn a_position_beyond_the_end_is_reported(harness: &Harness) {
    let topic = harness.topic(1).await;
    let partition = TopicPartition::new(topic.clone(), 0);
    harness.send(&numbered(&topic, 0, 10)).await;
    let mut reader = harness.reader(&unique("group"), only(&topic)).await;
    reader.read(10).await;
    within("a move", reader.consumer.start_at(&Positions::from([(partition.clone(), 1000)]))).await.expect("move");
    let event = within("a report", reader.consumer.next()).await.expect("an event");
    let ConsumerEvent::OutOfRange { partition: found, position, range } = event else {
        panic!("a position out of range was expected, not {event:?}")
    };
    assert_eq!((found, position, range.start, range.end), (partition, 1000, 0, 10));
}

/// A task waits for records and for other things at once; what it did not wait for to the end must come again.
pub async fn dropping_a_wait_loses_nothing(harness: &Harness) {
    let topic = harness.topic(3).await;
    let mut reader = harness.reader(&unique("group"), only(&topic)).await;
    let mut producer = harness.broker.producer("conformance", &Properties::new()).await.expect("make a producer");
    let sending = async {
        for round in 0..100 {
            let records = numbered(&topic, round % 3, 10);
            let _: Vec<Result<_>> = producer.send(&records, &SourceOffsets::new(), "none").await.expect("send");
        }
    };
    let reading = async {
        while reader.count() < 1000 {
            let waited = {
                let next = reader.consumer.next();
                tokio::select! {
                    biased;
                    event = next => Some(event),
                    () = tokio::task::yield_now() => None,
                }
            };
            if let Some(event) = waited {
                reader.handle(event.expect("an event")).await;
            }
        }
    };
    within("1000 records", async { tokio::join!(sending, reading) }).await;
    for (partition, records) in &reader.records {
        let offsets: Vec<i64> = records.iter().map(|record| record.offset).collect();
        assert_eq!(offsets, (0..records.len() as i64).collect::<Vec<_>>(), "{partition}");
    }
}
