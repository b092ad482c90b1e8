//! The Kafka broker against a real cluster, where `OTTLA_TEST_KAFKA` (`host:port`) names one; skipped elsewhere.
//!
//! `OTTLA_TEST_KAFKA_SASL_SSL` and `OTTLA_TEST_KAFKA_CA` add a listener that knows the user `alice`. With
//! `OTTLA_TEST_KAFKA_HOME` (an installed Kafka) a broker of the test's own is killed and started again.

#[path = "transactions/fault_proxy.rs"]
mod fault_proxy;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fault_proxy::{Fault, FaultProxy, LIST_GROUPS};
use ottla_api::config::Properties;
use ottla_api::offset::{Positions, SourceOffset, SourceOffsets, SourcePartition, TopicPartition};
use ottla_api::{ErrorKind, Result};
use ottla_runtime::broker::conformance::Harness;
use ottla_runtime::broker::kafka::KafkaBroker;
use ottla_runtime::broker::{
    Broker, ConsumerEvent, ConsumerSpec, GroupConsumer, NewTopic, OffsetRange, OffsetStore, ProducerRecord,
    StartPosition, Subscription,
};
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use regex::Regex;

/// Longest wait for anything that should happen.
const LONG: Duration = Duration::from_secs(40);

#[derive(Debug, Default)]
struct MemoryOffsets(Mutex<BTreeMap<String, SourceOffsets>>);

impl OffsetStore for MemoryOffsets {
    fn get(&self, connector: &str, partition: &SourcePartition) -> Result<Option<SourceOffset>> {
        Ok(self.0.lock().get(connector).and_then(|offsets| offsets.get(partition).cloned()))
    }

    fn put(&self, connector: &str, offsets: &SourceOffsets) -> Result<()> {
        self.0.lock().entry(connector.to_owned()).or_default().extend(offsets.clone());
        Ok(())
    }

    fn all(&self, connector: &str) -> Result<SourceOffsets> {
        Ok(self.0.lock().get(connector).cloned().unwrap_or_default())
    }
}

fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        eprintln!("skipped: {name} is not set");
    }
    value
}

fn properties(pairs: &[(&str, &str)]) -> Properties {
    pairs.iter().copied().collect()
}

fn connect(bootstrap: &str, client: &[(&str, &str)]) -> Arc<KafkaBroker> {
    KafkaBroker::connect(bootstrap, &properties(client), Arc::new(MemoryOffsets::default())).expect("settings")
}

fn unique(name: &str) -> String {
    format!("{name}-{}", uuid::Uuid::new_v4().simple())
}

fn spec(group: &str, subscription: Subscription) -> ConsumerSpec {
    ConsumerSpec {
        group: group.to_owned(),
        client_id: format!("{group}-client"),
        instance_id: None,
        subscription,
        start: StartPosition::Earliest,
        settings: properties(&[("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "500")]),
        batch_records_max: 100,
        ahead_bytes_max: 1 << 20,
    }
}

fn topic_spec(group: &str, topic: &str) -> ConsumerSpec {
    spec(group, Subscription::Topics(vec![topic.to_owned()]))
}

async fn make_topic(broker: &KafkaBroker, name: &str, partitions: usize) -> String {
    let topic = NewTopic {
        name: unique(name),
        partitions: Some(partitions),
        replication_factor: Some(1),
        settings: Properties::new(),
    };
    broker.create_topic(&topic).await.expect("create topic");
    topic.name
}

fn record(topic: &str, partition: i32, value: impl Into<String>) -> ProducerRecord {
    ProducerRecord {
        topic: topic.into(),
        partition: Some(partition),
        key: None,
        value: Some(Bytes::from(value.into())),
        timestamp: None,
        headers: Vec::new(),
    }
}

async fn produce(broker: &KafkaBroker, topic: &str, partition: i32, values: std::ops::Range<usize>) {
    let mut producer = broker.producer("test-producer", &Properties::new()).await.expect("producer");
    let records: Vec<ProducerRecord> = values.map(|value| record(topic, partition, value.to_string())).collect();
    let results = producer.send(&records, &SourceOffsets::new(), "test").await.expect("send");
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

/// The next event; retriable errors are told and passed over.
async fn event(consumer: &mut Box<dyn GroupConsumer>) -> ConsumerEvent {
    let deadline = Instant::now() + LONG;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, consumer.next()).await.expect("an event in time") {
            Ok(event) => return event,
            Err(error) if error.is_retriable() => eprintln!("meanwhile: {error}"),
            Err(error) => panic!("{error}"),
        }
    }
}

async fn assigned(consumer: &mut Box<dyn GroupConsumer>) -> Positions {
    match event(consumer).await {
        ConsumerEvent::Assigned(positions) => positions,
        other => panic!("not an assignment: {other:?}"),
    }
}

/// The range of a partition once it ends there: a commit is answered before its markers are written.
async fn range_to(broker: &Arc<KafkaBroker>, partition: &TopicPartition, end: i64) -> OffsetRange {
    let deadline = Instant::now() + LONG;
    loop {
        let range = broker.offsets(&[partition.topic.to_string()]).await.unwrap()[partition];
        if range.end == end {
            return range;
        }
        assert!(range.end < end && Instant::now() < deadline, "{partition} ends at {}, not at {end}", range.end);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Starts what is assigned where the group stands, and reads until the partition's position is `end`.
async fn read_to(consumer: &mut Box<dyn GroupConsumer>, partition: &TopicPartition, end: i64) -> Vec<String> {
    let mut values = Vec::new();
    loop {
        match event(consumer).await {
            ConsumerEvent::Assigned(positions) => consumer.start_at(&positions).await.unwrap(),
            ConsumerEvent::Batch { partition: from, records, next_offset } if from == *partition => {
                values.extend(records.iter().map(|record| text(record.value.as_ref())));
                if next_offset >= end {
                    return values;
                }
            }
            ConsumerEvent::Batch { .. } => {}
            other => panic!("unexpected: {other:?}"),
        }
    }
}

fn text(bytes: Option<&Bytes>) -> String {
    bytes.map_or_else(|| "null".to_owned(), |bytes| String::from_utf8(bytes.to_vec()).expect("text"))
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

mod conformance {
    use super::*;

    /// None where there is no cluster, which is told once per test.
    async fn harness() -> Option<Harness> {
        let broker = connect(&variable("OTTLA_TEST_KAFKA")?, &[]);
        let mut harness = Harness::new(broker, 1_000_000);
        harness.consumer_settings = properties(&[("topic.refresh.interval.ms", "500")]);
        Some(harness)
    }

    ottla_runtime::broker_conformance!(harness);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_come_back_as_they_went_and_commits_are_kept() {
    let Some(bootstrap) = variable("OTTLA_TEST_KAFKA") else { return };
    let broker = connect(&bootstrap, &[]);
    let topic = make_topic(&broker, "round", 2).await;
    assert_eq!(broker.topics().await.unwrap().get(&topic), Some(&2));

    let mut producer = broker.producer("p", &properties(&[("compression.type", "zstd")])).await.unwrap();
    let offsets = SourceOffsets::from([(SourcePartition::new([("t", "a")]), SourceOffset::new([("n", 3i64)]))]);
    let mut full = record(&topic, 0, "value");
    full.key = Some(Bytes::from_static(b"key"));
    full.timestamp = Some(1_700_000_000_123);
    full.headers =
        vec![("h".into(), Some(Bytes::from_static(b"1"))), ("h".into(), None), ("e".into(), Some(Bytes::new()))];
    let mut tombstone = record(&topic, 0, "");
    tombstone.value = None;
    tombstone.key = Some(Bytes::new());
    let empty = record(&topic, 0, "");
    let sent = [full.clone(), tombstone, empty];
    let results = producer.send(&sent, &offsets, "connector").await.unwrap();
    let first = TopicPartition::new(topic.as_str(), 0);
    for (index, result) in results.iter().enumerate() {
        assert_eq!(result.as_ref().unwrap(), &(first.clone(), index as i64));
    }
    assert_eq!(broker.source_offsets().all("connector").unwrap(), offsets);

    let read = broker.read(&first, 0, 10).await.unwrap();
    assert_eq!(read.len(), 3);
    assert_eq!(read[0].key, full.key);
    assert_eq!(read[0].value, full.value);
    assert_eq!(read[0].timestamp, full.timestamp);
    assert_eq!(read[0].headers, full.headers);
    assert_eq!((&read[1].key, &read[1].value), (&Some(Bytes::new()), &None));
    assert_eq!(read[2].value, Some(Bytes::new()));
    assert_eq!(broker.read(&first, 2, 10).await.unwrap().len(), 1);
    assert_eq!(broker.read(&first, 0, 2).await.unwrap().len(), 2);
    assert!(broker.read(&first, 3, 10).await.unwrap().is_empty());

    let group = unique("group");
    let mut consumer = broker.consumer(topic_spec(&group, &topic)).await.unwrap();
    let positions = assigned(&mut consumer).await;
    assert_eq!(positions.values().copied().collect::<Vec<_>>(), [-1, -1]);
    consumer.start_at(&positions).await.unwrap();
    assert_eq!(read_to(&mut consumer, &first, 3).await.len(), 3);
    let committed = Positions::from([(first.clone(), 3)]);
    consumer.commit(&committed).await.unwrap();
    // Never back.
    consumer.commit(&Positions::from([(first.clone(), 1)])).await.unwrap();
    consumer.close().await.unwrap();
    assert_eq!(broker.committed(&group, std::slice::from_ref(&topic)).await.unwrap(), committed);

    let mut consumer = broker.consumer(topic_spec(&group, &topic)).await.unwrap();
    assert_eq!(assigned(&mut consumer).await.get(&first), Some(&3));
    let error = consumer.commit(&Positions::from([(TopicPartition::new("other", 7), 1)])).await.unwrap_err();
    assert!(!error.is_retriable() && error.to_string().contains("other-7"), "{error}");
    consumer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewind_returns_nothing_that_was_fetched_before() {
    let Some(bootstrap) = variable("OTTLA_TEST_KAFKA") else { return };
    let broker = connect(&bootstrap, &[]);
    let topic = make_topic(&broker, "rewind", 1).await;
    let partition = TopicPartition::new(topic.as_str(), 0);
    produce(&broker, &topic, 0, 0..2000).await;
    let mut consumer = broker.consumer(topic_spec(&unique("group"), &topic)).await.unwrap();
    let positions = assigned(&mut consumer).await;
    consumer.start_at(&positions).await.unwrap();
    let ConsumerEvent::Batch { next_offset, .. } = event(&mut consumer).await else { panic!("no batch") };
    assert!(next_offset <= 100, "{next_offset}");
    for start in [50, 0, 1500, 7] {
        consumer.start_at(&Positions::from([(partition.clone(), start)])).await.unwrap();
        let values = read_to(&mut consumer, &partition, 2000).await;
        assert_eq!(values, numbers(start as usize..2000));
    }
    // Behind a pause there is silence; what was handed over before may still come.
    consumer.pause(std::slice::from_ref(&partition)).await.unwrap();
    produce(&broker, &topic, 0, 2000..2010).await;
    assert!(tokio::time::timeout(Duration::from_millis(500), consumer.next()).await.is_err());
    // A rewind within the pause counts after it.
    consumer.start_at(&Positions::from([(partition.clone(), 1990)])).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(500), consumer.next()).await.is_err());
    consumer.resume(std::slice::from_ref(&partition)).await.unwrap();
    assert_eq!(read_to(&mut consumer, &partition, 2010).await, numbers(1990..2010));
    consumer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_application_gets_everything_once_and_keeps_its_partitions() {
    let Some(bootstrap) = variable("OTTLA_TEST_KAFKA") else { return };
    let broker = connect(&bootstrap, &[]);
    let topic = make_topic(&broker, "slow", 3).await;
    // 24 MB: many times what a consumer may hold.
    let filler = "x".repeat(4000);
    let mut producer = broker.producer("p", &Properties::new()).await.unwrap();
    for partition in 0..3 {
        let records: Vec<ProducerRecord> =
            (0..2000).map(|number| record(&topic, partition, format!("{number}:{filler}"))).collect();
        producer.send(&records, &SourceOffsets::new(), "test").await.unwrap();
    }
    let mut spec = topic_spec(&unique("group"), &topic);
    spec.settings.set("max.poll.interval.ms", "6000");
    let mut consumer = broker.consumer(spec).await.unwrap();
    let positions = assigned(&mut consumer).await;
    consumer.start_at(&positions).await.unwrap();
    // Longer than max.poll.interval.ms without a call.
    tokio::time::sleep(Duration::from_secs(9)).await;
    let mut next: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    let mut naps = 0;
    while next.values().sum::<i64>() < 6000 {
        match event(&mut consumer).await {
            ConsumerEvent::Batch { partition, records, next_offset } => {
                let expected = next.entry(partition).or_default();
                for record in records {
                    assert_eq!(record.offset, *expected);
                    assert!(text(record.value.as_ref()).starts_with(&format!("{expected}:")));
                    *expected += 1;
                }
                assert_eq!(*expected, next_offset);
                naps += 1;
                if naps % 10 == 0 {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
    consumer.commit(&next).await.unwrap();
    consumer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_moves_only_when_its_owner_lets_go() {
    let Some(bootstrap) = variable("OTTLA_TEST_KAFKA") else { return };
    let broker = connect(&bootstrap, &[]);
    let topic = make_topic(&broker, "move", 2).await;
    produce(&broker, &topic, 0, 0..10).await;
    produce(&broker, &topic, 1, 0..10).await;
    let group = unique("group");
    let mut first = broker.consumer(topic_spec(&group, &topic)).await.unwrap();
    let positions = assigned(&mut first).await;
    assert_eq!(positions.len(), 2);
    first.start_at(&positions).await.unwrap();
    let mut reached = Positions::new();
    while reached.values().sum::<i64>() < 20 {
        if let ConsumerEvent::Batch { partition, next_offset, .. } = event(&mut first).await {
            reached.insert(partition, next_offset);
        }
    }

    let mut second = broker.consumer(topic_spec(&group, &topic)).await.unwrap();
    let ConsumerEvent::Revoked(revoked) = event(&mut first).await else { panic!("not revoked") };
    assert_eq!(revoked.len(), 1);
    // Longer than the session: heartbeats go on, the partition is still ours, and the other member waits.
    let waiting = tokio::time::timeout(Duration::from_secs(8), second.next()).await;
    assert!(waiting.is_err(), "{waiting:?}");
    first.commit(&reached).await.unwrap();
    first.release(&revoked).await.unwrap();
    let taken = assigned(&mut second).await;
    assert_eq!(taken, Positions::from([(revoked[0].clone(), 10)]));
    second.start_at(&taken).await.unwrap();
    let error = first.commit(&Positions::from([(revoked[0].clone(), 11)])).await.unwrap_err();
    assert!(!error.is_retriable(), "{error}");

    // Both go on reading their own.
    let kept = TopicPartition::new(topic.as_str(), 1 - revoked[0].partition);
    produce(&broker, &topic, 0, 10..20).await;
    produce(&broker, &topic, 1, 10..20).await;
    assert_eq!(read_to(&mut first, &kept, 20).await, numbers(10..20));
    assert_eq!(read_to(&mut second, &revoked[0], 20).await, numbers(10..20));
    first.commit(&Positions::from([(kept.clone(), 20)])).await.unwrap();

    // Who leaves gives back, and the other one gets it.
    first.close().await.unwrap();
    let back = assigned(&mut second).await;
    assert_eq!(back, Positions::from([(kept, 20)]));
    second.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_keeps_the_group_waiting_for_too_long_cannot_commit_any_more() {
    let Some(bootstrap) = variable("OTTLA_TEST_KAFKA") else { return };
    let broker = connect(&bootstrap, &[]);
    let topic = make_topic(&broker, "late", 2).await;
    let group = unique("group");
    let member = || {
        let mut spec = topic_spec(&group, &topic);
        spec.settings.set("max.poll.interval.ms", "6000");
        spec
    };
    let mut first = broker.consumer(member()).await.unwrap();
    let positions = assigned(&mut first).await;
    first.start_at(&positions).await.unwrap();
    let mut second = broker.consumer(member()).await.unwrap();
    let ConsumerEvent::Revoked(revoked) = event(&mut first).await else { panic!("not revoked") };
    // A third member makes the group rebalance. It waits for max.poll.interval.ms and goes on without the first one.
    let mut third = broker.consumer(member()).await.unwrap();
    let (second_has, third_has) = (assigned(&mut second).await, assigned(&mut third).await);
    assert_eq!((second_has.len(), third_has.len()), (1, 1));
    let error = loop {
        match first.commit(&Positions::from([(revoked[0].clone(), 1)])).await {
            Err(error) if error.is_retriable() => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(error) => break error,
            Ok(()) => panic!("committed for another member's partition"),
        }
    };
    assert!(error.to_string().contains(&revoked[0].to_string()), "{error}");
    // Then it comes back, and hears that the other one is gone, too.
    first.release(&revoked).await.unwrap();
    match event(&mut first).await {
        ConsumerEvent::Lost(gone) | ConsumerEvent::Revoked(gone) => assert_eq!(gone.len(), 1),
        other => panic!("unexpected: {other:?}"),
    }
    first.close().await.unwrap();
    second.close().await.unwrap();
    third.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_appear_later_are_found() {
    let Some(bootstrap) = variable("OTTLA_TEST_KAFKA") else { return };
    let broker = connect(&bootstrap, &[]);
    let prefix = unique("later");
    let mut by_regex = spec(&unique("group"), Subscription::Regex(Regex::new(&format!("{prefix}\\..*")).unwrap()));
    by_regex.settings.set("topic.refresh.interval.ms", "300");
    let mut by_name = topic_spec(&unique("group"), &format!("{prefix}.a"));
    by_name.settings.set("topic.refresh.interval.ms", "300");
    let mut by_regex = broker.consumer(by_regex).await.unwrap();
    let mut by_name = broker.consumer(by_name).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(1), by_regex.next()).await.is_err());
    assert!(tokio::time::timeout(Duration::from_secs(1), by_name.next()).await.is_err());
    let topic = |name: String| NewTopic {
        name,
        partitions: None,
        replication_factor: None,
        settings: properties(&[("retention.ms", "100000")]),
    };
    broker.create_topic(&topic(format!("x{prefix}.no"))).await.unwrap();
    broker.create_topic(&topic(format!("{prefix}.a"))).await.unwrap();
    broker.create_topic(&topic(format!("{prefix}.a"))).await.unwrap();
    let a = TopicPartition::new(format!("{prefix}.a"), 0);
    assert!(assigned(&mut by_regex).await.contains_key(&a));
    assert!(assigned(&mut by_name).await.contains_key(&a));
    broker.create_topic(&topic(format!("{prefix}.b"))).await.unwrap();
    assert!(assigned(&mut by_regex).await.contains_key(&TopicPartition::new(format!("{prefix}.b"), 0)));
    by_regex.close().await.unwrap();
    by_name.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_that_are_not_there_are_told_and_can_be_mended() {
    let Some(bootstrap) = variable("OTTLA_TEST_KAFKA") else { return };
    let broker = connect(&bootstrap, &[]);
    let topic = make_topic(&broker, "range", 1).await;
    let partition = TopicPartition::new(topic.as_str(), 0);
    produce(&broker, &topic, 0, 0..10).await;
    delete_before(&bootstrap, &partition, 4).await;
    let range = broker.offsets(std::slice::from_ref(&topic)).await.unwrap()[&partition];
    assert_eq!((range.start, range.end), (4, 10));

    let mut consumer = broker.consumer(topic_spec(&unique("group"), &topic)).await.unwrap();
    assigned(&mut consumer).await;
    for position in [2, 99] {
        consumer.start_at(&Positions::from([(partition.clone(), position)])).await.unwrap();
        match event(&mut consumer).await {
            ConsumerEvent::OutOfRange { partition: of, position: at, range } => {
                assert_eq!((&of, at, range.start, range.end), (&partition, position, 4, 10));
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
    consumer.start_at(&Positions::from([(partition.clone(), 4)])).await.unwrap();
    assert_eq!(read_to(&mut consumer, &partition, 10).await, numbers(4..10));

    // While it is being read: paused, and then what comes next is gone.
    consumer.pause(std::slice::from_ref(&partition)).await.unwrap();
    produce(&broker, &topic, 0, 10..20).await;
    delete_before(&bootstrap, &partition, 15).await;
    consumer.resume(std::slice::from_ref(&partition)).await.unwrap();
    match event(&mut consumer).await {
        ConsumerEvent::OutOfRange { position, range, .. } => assert_eq!((position, range.start), (10, 15)),
        other => panic!("unexpected: {other:?}"),
    }
    consumer.start_at(&Positions::from([(partition.clone(), -1)])).await.unwrap();
    assert_eq!(read_to(&mut consumer, &partition, 20).await, numbers(15..20));
    consumer.close().await.unwrap();

    let mut none = topic_spec(&unique("group"), &topic);
    none.start = StartPosition::None;
    let mut consumer = broker.consumer(none).await.unwrap();
    let positions = assigned(&mut consumer).await;
    consumer.start_at(&positions).await.unwrap();
    let error = tokio::time::timeout(LONG, consumer.next()).await.unwrap().unwrap_err();
    assert!(!error.is_retriable() && error.to_string().contains("auto.offset.reset"), "{error}");
    consumer.close().await.unwrap();

    let mut latest = topic_spec(&unique("group"), &topic);
    latest.start = StartPosition::Latest;
    let mut consumer = broker.consumer(latest).await.unwrap();
    let positions = assigned(&mut consumer).await;
    consumer.start_at(&positions).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    produce(&broker, &topic, 0, 20..22).await;
    assert_eq!(read_to(&mut consumer, &partition, 22).await, numbers(20..22));
    consumer.close().await.unwrap();
}

async fn delete_before(bootstrap: &str, partition: &TopicPartition, offset: i64) {
    use rdkafka::admin::{AdminClient, AdminOptions};
    use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
    let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&partition.topic, partition.partition, Offset::Offset(offset)).unwrap();
    admin.delete_records(&list, &AdminOptions::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_read_when_committed_and_their_markers_are_passed() {
    let Some(bootstrap) = variable("OTTLA_TEST_KAFKA") else { return };
    let broker = connect(&bootstrap, &[]);
    let topic = make_topic(&broker, "transaction", 1).await;
    let partition = TopicPartition::new(topic.as_str(), 0);
    let mut consumer = broker.consumer(topic_spec(&unique("group"), &topic)).await.unwrap();
    let positions = assigned(&mut consumer).await;
    consumer.start_at(&positions).await.unwrap();

    let (bootstrap_, topic_) = (bootstrap.clone(), topic.clone());
    let producer = tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &bootstrap_)
            .set("transactional.id", unique("transaction"))
            .create()
            .unwrap();
        producer.init_transactions(LONG).unwrap();
        let send = |values: std::ops::Range<usize>| {
            for value in values {
                producer.send(BaseRecord::<(), _>::to(&topic_).payload(&value.to_string())).unwrap();
            }
            producer.flush(LONG).unwrap();
        };
        producer.begin_transaction().unwrap();
        send(0..3);
        producer.commit_transaction(LONG).unwrap();
        producer.begin_transaction().unwrap();
        send(100..105);
        producer.abort_transaction(LONG).unwrap();
        producer.begin_transaction().unwrap();
        send(3..5);
        producer
    })
    .await
    .unwrap();
    // 3 records and a marker, 5 aborted ones and a marker; two more are still open.
    assert_eq!(range_to(&broker, &partition, 10).await.start, 0);
    assert_eq!(read_to(&mut consumer, &partition, 10).await, numbers(0..3));
    assert_eq!(broker.read(&partition, 0, 100).await.unwrap().len(), 3);
    tokio::task::spawn_blocking(move || producer.commit_transaction(LONG).unwrap()).await.unwrap();
    range_to(&broker, &partition, 13).await;
    assert_eq!(read_to(&mut consumer, &partition, 13).await, numbers(3..5));
    consumer.commit(&Positions::from([(partition.clone(), 13)])).await.unwrap();
    // From a marker on there is nothing but the marker.
    consumer.start_at(&Positions::from([(partition.clone(), 12)])).await.unwrap();
    assert!(read_to(&mut consumer, &partition, 13).await.is_empty());
    consumer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_written_harms_no_other() {
    let Some(bootstrap) = variable("OTTLA_TEST_KAFKA") else { return };
    let broker = connect(&bootstrap, &[]);
    let topic = NewTopic {
        name: unique("small"),
        partitions: Some(1),
        replication_factor: None,
        settings: properties(&[("max.message.bytes", "20000")]),
    };
    broker.create_topic(&topic).await.unwrap();
    let mut producer = broker.producer("p", &Properties::new()).await.unwrap();
    let offsets = SourceOffsets::from([(SourcePartition::new([("t", "a")]), SourceOffset::new([("n", 1i64)]))]);
    let random: String =
        (0..40_000).map(|n: u32| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 27) as u8 % 26)).collect();
    let records = [
        record(&topic.name, 0, "one"),
        // Too large for the topic, and for the client.
        record(&topic.name, 0, random),
        record(&topic.name, 0, "x".repeat(2_000_000)),
        record(&topic.name, 5, "no such partition"),
        record("no such topic!", 0, "a name that can't be"),
        record(&topic.name, 0, "two"),
    ];
    let results = producer.send(&records, &offsets, "connector").await.unwrap();
    for (result, good) in results.iter().zip([true, false, false, false, false, true]) {
        assert_eq!(result.is_ok(), good, "{results:?}");
        if let Err(error) = result {
            assert_eq!(error.kind(), ErrorKind::PoisonRecord);
        }
    }
    // G1: the offsets would claim records that are not there.
    assert!(broker.source_offsets().all("connector").unwrap().is_empty());
    let values = broker.read(&TopicPartition::new(topic.name.as_str(), 0), 0, 10).await.unwrap();
    let mut values: Vec<String> = values.iter().map(|record| text(record.value.as_ref())).collect();
    values.sort();
    assert_eq!(values, ["one", "two"]);
    producer.send(&records[..1], &offsets, "connector").await.unwrap();
    assert_eq!(broker.source_offsets().all("connector").unwrap(), offsets);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_go_where_java_puts_them() {
    let Some(bootstrap) = variable("OTTLA_TEST_KAFKA") else { return };
    let broker = connect(&bootstrap, &[]);
    let topic = make_topic(&broker, "keys", 7).await;
    let mut producer = broker.producer("p", &Properties::new()).await.unwrap();
    for (key, hash) in [("21", -973932308i32), ("foobar", -790332482), ("a-little-bit-long-string", -985981536)] {
        let mut keyed = record(&topic, 0, "v");
        keyed.partition = None;
        keyed.key = Some(Bytes::from_static(key.as_bytes()));
        let results = producer.send(&[keyed], &SourceOffsets::new(), "test").await.unwrap();
        let (place, _) = results[0].as_ref().unwrap();
        assert_eq!(place.partition, (hash & 0x7fff_ffff) % 7, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_not_there_is_unreachable_by_name() {
    let address = "127.0.0.1:9";
    let broker = connect(address, &[]);
    let error = broker.topics().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert!(error.to_string().contains(address) && error.to_string().contains("list topics"), "{error}");
    let mut producer = broker.producer("p", &Properties::new()).await.unwrap();
    let error = producer.send(&[record("t", 0, "v")], &SourceOffsets::new(), "c").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    let mut consumer = broker.consumer(topic_spec("g", "t")).await.unwrap();
    let error = tokio::time::timeout(LONG, consumer.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    let regex = Subscription::Regex(Regex::new(".*").unwrap());
    let mut looking = broker.consumer(spec("g", regex)).await.unwrap();
    let error = tokio::time::timeout(LONG, looking.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    consumer.close().await.unwrap();
    looking.close().await.unwrap();
    assert_eq!(broker.read(&TopicPartition::new("t", 0), 0, 1).await.unwrap_err().kind(), ErrorKind::Unreachable);
    assert_eq!(broker.committed("g", &["t".into()]).await.unwrap_err().kind(), ErrorKind::Unreachable);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_and_certificates_are_checked_and_never_shown() {
    let (Some(bootstrap), Some(ca)) = (variable("OTTLA_TEST_KAFKA_SASL_SSL"), variable("OTTLA_TEST_KAFKA_CA")) else {
        return;
    };
    let jaas = |password: &str| {
        format!(
            "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"alice\" password=\"{password}\";"
        )
    };
    let settings = |password: &str, ca: &str| {
        let jaas = jaas(password);
        let pairs = [
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.jaas.config", &jaas),
            ("ssl.truststore.type", "PEM"),
            ("ssl.truststore.location", ca),
        ];
        KafkaBroker::connect(&bootstrap, &properties(&pairs), Arc::new(MemoryOffsets::default())).unwrap()
    };
    let broker = settings("alice-secret", &ca);
    let topic = make_topic(&broker, "secure", 1).await;
    produce(&broker, &topic, 0, 0..5).await;
    let mut consumer = broker.consumer(topic_spec(&unique("group"), &topic)).await.unwrap();
    let partition = TopicPartition::new(topic.as_str(), 0);
    assert_eq!(read_to(&mut consumer, &partition, 5).await, numbers(0..5));
    consumer.close().await.unwrap();

    let wrong = settings("not-the-password", &ca);
    let error = wrong.topics().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RefreshAuth, "{error}");
    assert!(error.to_string().contains(&bootstrap) && !error.to_string().contains("not-the-password"), "{error}");
    let mut producer = wrong.producer("p", &Properties::new()).await.unwrap();
    let error = producer.send(&[record("t", 0, "v")], &SourceOffsets::new(), "c").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RefreshAuth, "{error}");
    let mut consumer = wrong.consumer(topic_spec(&unique("group"), &topic)).await.unwrap();
    let error = tokio::time::timeout(LONG, consumer.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RefreshAuth, "{error}");
    consumer.close().await.unwrap();

    // The system's own authorities know nothing of the test's.
    let jaas = jaas("alice-secret");
    let untrusting = connect(
        &bootstrap,
        &[("security.protocol", "SASL_SSL"), ("sasl.mechanism", "SCRAM-SHA-512"), ("sasl.jaas.config", &jaas)],
    );
    let error = untrusting.topics().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_takes_a_static_members_place() {
    let Some(bootstrap) = variable("OTTLA_TEST_KAFKA") else { return };
    let broker = connect(&bootstrap, &[]);
    let topic = make_topic(&broker, "static", 1).await;
    let group = unique("group");
    let member = || {
        let mut spec = topic_spec(&group, &topic);
        spec.instance_id = Some("slot-0".into());
        spec
    };
    let mut first = broker.consumer(member()).await.unwrap();
    let positions = assigned(&mut first).await;
    first.start_at(&positions).await.unwrap();
    // Two of one name: the later one wins, the earlier one is told.
    let mut second = broker.consumer(member()).await.unwrap();
    assert_eq!(assigned(&mut second).await.len(), 1);
    let deadline = Instant::now() + LONG;
    let error = loop {
        assert!(Instant::now() < deadline);
        match tokio::time::timeout(LONG, first.next()).await.unwrap() {
            Err(error) if !error.is_retriable() => break error,
            other => eprintln!("meanwhile: {other:?}"),
        }
    };
    assert!(error.to_string().contains("slot-0"), "{error}");
    let error = first.commit(&Positions::from([(TopicPartition::new(topic.as_str(), 0), 1)])).await.unwrap_err();
    assert!(!error.is_retriable(), "{error}");
    first.close().await.unwrap();
    second.close().await.unwrap();
}

/// Joins under a name, with a session longer than the test.
async fn join_as(broker: &Arc<KafkaBroker>, group: &str, topic: &str, name: &str) -> Box<dyn GroupConsumer> {
    let mut spec = topic_spec(group, topic);
    spec.instance_id = Some(name.to_owned());
    spec.settings.set("session.timeout.ms", "45000");
    broker.consumer(spec).await.unwrap()
}

/// Waits until so many members have heard what the group decided.
async fn await_stable(bootstrap: &str, group: &str, members: usize) {
    let client: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", bootstrap).set("group.id", "unused").create().unwrap();
    let deadline = Instant::now() + LONG;
    loop {
        let groups = client.fetch_group_list(Some(group), Duration::from_secs(5)).unwrap();
        let found = groups.groups().iter().find(|found| found.name() == group).expect("the group");
        if found.state() == "Stable" && found.members().len() == members {
            return;
        }
        assert!(Instant::now() < deadline, "{} with {} members", found.state(), found.members().len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Takes what is assigned until it is so many partitions.
async fn assigned_in_all(consumer: &mut Box<dyn GroupConsumer>, partitions: usize) -> Positions {
    let mut all = Positions::new();
    while all.len() < partitions {
        all.extend(assigned(consumer).await);
    }
    all
}

/// Kills two members at the moment when one is to give partitions up to the other, and has successors come to this address.
async fn kill_between_two_owners(bootstrap: &str, successors_at: &str) {
    let broker = connect(bootstrap, &[]);
    let topic = make_topic(&broker, "half", 4).await;
    let group = unique("group");
    let mut first = join_as(&broker, &group, &topic, "slot-0").await;
    let positions = assigned(&mut first).await;
    assert_eq!(positions.len(), 4);
    // The group has decided that two partitions are to move. Their owner never lets go, and both end as if killed.
    let second = join_as(&broker, &group, &topic, "slot-1").await;
    match event(&mut first).await {
        ConsumerEvent::Revoked(partitions) => assert_eq!(partitions.len(), 2, "{partitions:?}"),
        other => panic!("not a revocation: {other:?}"),
    }
    await_stable(bootstrap, &group, 2).await;
    let begun = Instant::now();
    let broker = connect(successors_at, &[]);
    let mut successors =
        [join_as(&broker, &group, &topic, "slot-0").await, join_as(&broker, &group, &topic, "slot-1").await];
    let [one, other] = &mut successors;
    let (one, other) = tokio::join!(assigned_in_all(one, 2), assigned_in_all(other, 2));
    let taken: BTreeSet<TopicPartition> = one.into_keys().chain(other.into_keys()).collect();
    assert_eq!(taken, positions.into_keys().collect());
    // Not because a session ended.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    for member in successors.into_iter().chain([first, second]) {
        member.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_was_being_given_up_when_all_were_killed_is_taken_by_a_successor() {
    let Some(bootstrap) = variable("OTTLA_TEST_KAFKA") else { return };
    kill_between_two_owners(&bootstrap, &bootstrap).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_was_being_given_up_is_also_taken_where_nobody_can_see_that() {
    let Some(bootstrap) = variable("OTTLA_TEST_KAFKA") else { return };
    let proxy = FaultProxy::start(&bootstrap).await;
    proxy.fault(LIST_GROUPS, Fault::LoseAnswers);
    kill_between_two_owners(&bootstrap, &proxy.address()).await;
    assert!(proxy.struck() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_appeared_while_all_were_killed_are_taken_by_a_successor() {
    let Some(bootstrap) = variable("OTTLA_TEST_KAFKA") else { return };
    let broker = connect(&bootstrap, &[]);
    let topic = make_topic(&broker, "grown", 2).await;
    let group = unique("group");
    let mut first = join_as(&broker, &group, &topic, "slot-0").await;
    assert_eq!(assigned(&mut first).await.len(), 2);
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &bootstrap).create().unwrap();
    // Before the first one looks at its topics again.
    admin.create_partitions([&NewPartitions::new(&topic, 4)], &AdminOptions::new()).await.unwrap();
    let mut successor = join_as(&broker, &group, &topic, "slot-0").await;
    assert_eq!(assigned_in_all(&mut successor, 4).await.len(), 4);
    successor.close().await.unwrap();
    first.close().await.unwrap();
}

/// A broker of the test's own, killed when dropped.
struct OwnKafka {
    port: u16,
    folder: PathBuf,
    process: std::process::Child,
}

impl OwnKafka {
    fn start() -> Option<Self> {
        variable("OTTLA_TEST_KAFKA_HOME")?;
        let free = |range: std::ops::Range<u16>| {
            let mut ports: Vec<u16> = range.collect();
            rand::seq::SliceRandom::shuffle(&mut ports[..], &mut rand::rng());
            ports.into_iter().find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
        };
        // Below the range from which outgoing connections get theirs, so that it is still free after the kill.
        let port = free(10_000..30_000);
        let folder = std::env::temp_dir().join(unique("ottla-own-kafka"));
        std::fs::create_dir_all(&folder).unwrap();
        Some(Self { port, process: Self::spawn(port, &folder), folder })
    }

    fn spawn(port: u16, folder: &std::path::Path) -> std::process::Child {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/services/kafka");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log.txt")).unwrap();
        std::process::Command::new(script)
            .arg(port.to_string())
            .arg(folder.join("data"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    async fn answers(&self) {
        let broker = connect(&format!("127.0.0.1:{}", self.port), &[]);
        let deadline = Instant::now() + LONG;
        while broker.topics().await.is_err() {
            assert!(Instant::now() < deadline, "the broker does not answer");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for OwnKafka {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_costs_time_and_no_record() {
    let Some(mut kafka) = OwnKafka::start() else { return };
    kafka.answers().await;
    let broker = connect(&format!("127.0.0.1:{}", kafka.port), &[]);
    let topic = make_topic(&broker, "killed", 1).await;
    let partition = TopicPartition::new(topic.as_str(), 0);
    let mut consumer = broker.consumer(topic_spec(&unique("group"), &topic)).await.unwrap();
    let positions = assigned(&mut consumer).await;
    consumer.start_at(&positions).await.unwrap();

    const BATCHES: usize = 60;
    let writer = {
        let (broker, topic) = (broker.clone(), topic.clone());
        tokio::spawn(async move {
            let mut producer = broker.producer("p", &Properties::new()).await.unwrap();
            for batch in 0..BATCHES {
                let records: Vec<ProducerRecord> =
                    (batch * 50..(batch + 1) * 50).map(|value| record(&topic, 0, value.to_string())).collect();
                loop {
                    match producer.send(&records, &SourceOffsets::new(), "test").await {
                        Ok(results) => {
                            assert!(results.iter().all(Result::is_ok), "{results:?}");
                            break;
                        }
                        Err(error) if error.is_retriable() => {
                            eprintln!("producer: {error}");
                            tokio::time::sleep(Duration::from_millis(500)).await;
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
    };
    let mut values = Vec::new();
    let mut killed = false;
    while values.len() < BATCHES * 50 {
        match event(&mut consumer).await {
            ConsumerEvent::Batch { records, .. } => {
                values.extend(records.iter().map(|record| text(record.value.as_ref())));
            }
            // The group's coordinator may have forgotten us.
            ConsumerEvent::Lost(_) => {}
            ConsumerEvent::Assigned(_) => {
                let next = values.len() as i64;
                consumer.start_at(&Positions::from([(partition.clone(), next)])).await.unwrap();
            }
            other => panic!("unexpected: {other:?}"),
        }
        if !killed && values.len() > 500 {
            killed = true;
            kafka.kill();
            // Long enough for calls to notice.
            tokio::time::sleep(Duration::from_secs(15)).await;
            kafka.process = OwnKafka::spawn(kafka.port, &kafka.folder);
        }
    }
    writer.await.unwrap();
    // Nothing is missing, in order, and the producer's own retries left nothing twice.
    assert_eq!(values, numbers(0..BATCHES * 50));
    let deadline = Instant::now() + LONG;
    while let Err(error) = consumer.commit(&Positions::from([(partition.clone(), values.len() as i64)])).await {
        assert!(error.is_retriable() && Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    consumer.close().await.unwrap();
}
