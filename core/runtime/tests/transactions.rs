//! Exactly-once sources against a real cluster, where `OTTLA_TEST_KAFKA` (`host:port`) names one; skipped elsewhere.
//!
//! Between client and broker stands a proxy of the test's own where answers are to get lost. With `OTTLA_TEST_KAFKA_HOME` (an
//! installed Kafka) a broker of the test's own is killed and started again.

#[path = "transactions/fault_proxy.rs"]
mod fault_proxy;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fault_proxy::{END_TXN, Fault, FaultProxy};
use ottla_api::config::Properties;
use ottla_api::offset::{SourceOffset, SourceOffsets, SourcePartition, TopicPartition};
use ottla_api::{Error, ErrorKind, Result};
use ottla_runtime::broker::kafka::KafkaBroker;
use ottla_runtime::broker::{Broker, NewTopic, OffsetStore, Producer, ProducerRecord, TransactionSpec, Transactions};
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// Longest wait for anything that should happen.
const LONG: Duration = Duration::from_secs(60);

/// Offsets as an earlier version has left them in the state folder.
#[derive(Debug, Default)]
struct StateFolder(Mutex<SourceOffsets>);

impl OffsetStore for StateFolder {
    fn get(&self, _: &str, partition: &SourcePartition) -> Result<Option<SourceOffset>> {
        Ok(self.0.lock().get(partition).cloned())
    }

    fn put(&self, _: &str, offsets: &SourceOffsets) -> Result<()> {
        self.0.lock().extend(offsets.clone());
        Ok(())
    }

    fn all(&self, _: &str) -> Result<SourceOffsets> {
        Ok(self.0.lock().clone())
    }
}

fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        eprintln!("skipped: {name} is not set");
    }
    value
}

fn unique(name: &str) -> String {
    format!("{name}-{}", uuid::Uuid::new_v4().simple())
}

fn partition(name: &str) -> SourcePartition {
    SourcePartition::new([("table", name)])
}

fn at(name: &str, position: i64) -> SourceOffsets {
    SourceOffsets::from([(partition(name), offset(position))])
}

fn offset(position: i64) -> SourceOffset {
    SourceOffset::new([("position", position)])
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// One connector's topics in a cluster, and the processes that run it.
struct Stage {
    bootstrap: String,
    connector: String,
    topic: String,
    offsets: String,
    earlier: Arc<StateFolder>,
}

impl Stage {
    async fn new(bootstrap: &str) -> Self {
        let name = unique("exactly");
        let stage = Self {
            bootstrap: bootstrap.to_owned(),
            connector: name.clone(),
            topic: name.clone(),
            offsets: format!("{name}-offsets"),
            earlier: Arc::default(),
        };
        stage.make_topic(&stage.topic, 1, &[]).await;
        stage
    }

    fn broker(&self) -> Arc<KafkaBroker> {
        self.broker_at(&self.bootstrap)
    }

    fn broker_at(&self, bootstrap: &str) -> Arc<KafkaBroker> {
        KafkaBroker::connect(bootstrap, &Properties::new(), self.earlier.clone()).expect("settings")
    }

    async fn make_topic(&self, name: &str, partitions: usize, settings: &[(&str, &str)]) {
        let topic = NewTopic {
            name: name.to_owned(),
            partitions: Some(partitions),
            replication_factor: Some(1),
            settings: settings.iter().copied().collect(),
        };
        self.broker().create_topic(&topic).await.expect("create topic");
    }

    fn spec(&self, tasks: usize) -> TransactionSpec {
        TransactionSpec {
            connector: self.connector.as_str().into(),
            tasks,
            tasks_max: tasks,
            group: "group".to_owned(),
            offsets_topic: self.offsets.clone(),
            fallback_topic: format!("{}-of-the-worker", self.offsets),
            partitions: Some(2),
            replication_factor: Some(1),
            settings: [("transaction.timeout.ms", "10000")].into_iter().collect(),
        }
    }

    /// A process that runs the connector with so many tasks.
    fn process(&self, tasks: usize) -> Process {
        self.process_of(&self.broker(), self.spec(tasks))
    }

    fn process_of(&self, broker: &Arc<KafkaBroker>, spec: TransactionSpec) -> Process {
        let transactions = broker.transactions(spec).expect("settings").expect("a cluster has transactions");
        Process { _broker: broker.clone(), transactions }
    }

    fn records(&self, range: std::ops::Range<usize>) -> Vec<ProducerRecord> {
        numbers(range).into_iter().map(|value| self.record(value)).collect()
    }

    fn record(&self, value: impl Into<Bytes>) -> ProducerRecord {
        ProducerRecord {
            topic: self.topic.as_str().into(),
            partition: Some(0),
            key: None,
            value: Some(value.into()),
            timestamp: None,
            headers: Vec::new(),
        }
    }

    /// The values of the topic that a reader of committed records sees.
    async fn values(&self) -> Vec<String> {
        read(&self.bootstrap, &self.topic).await.into_iter().map(|(_, value)| value.unwrap_or_default()).collect()
    }

    /// The newest value of each key of the offsets' topic, claims left out.
    async fn committed(&self) -> BTreeMap<String, Option<String>> {
        let records = read(&self.bootstrap, &self.offsets).await.into_iter();
        records
            .map(|(key, value)| (key.unwrap_or_default(), value))
            .filter(|(key, _)| !key.contains(r#"{"ottla":"#))
            .collect()
    }

    /// Writes a record as somebody else would, and waits for it.
    fn write(&self, topic: &str, key: &str, value: Option<&str>) {
        // Kafka Connect's partitioner: all records of a key lie in one partition, whoever writes them.
        let producer: BaseProducer = self.client().set("partitioner", "murmur2_random").create().expect("a producer");
        let record = BaseRecord::to(topic).key(key);
        let record = value.into_iter().fold(record, |record: BaseRecord<'_, str, str>, value| record.payload(value));
        producer.send(record).unwrap_or_else(|(error, _)| panic!("{error}"));
        producer.flush(LONG).expect("written");
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    /// A producer of transactions that is not ours.
    fn stranger(&self, id: &str) -> BaseProducer {
        let producer: BaseProducer = self
            .client()
            .set("transactional.id", id)
            .set("transaction.timeout.ms", "60000")
            .create()
            .expect("a producer");
        producer.init_transactions(LONG).expect("initialised");
        producer
    }
}

/// What runs a connector, as one process does.
struct Process {
    _broker: Arc<KafkaBroker>,
    transactions: Arc<dyn Transactions>,
}

impl Process {
    /// Asks until the cluster is ready for it.
    async fn producer(&self, task: usize) -> Result<Box<dyn Producer>> {
        let deadline = Instant::now() + LONG;
        loop {
            match Arc::clone(&self.transactions).producer(task).await {
                Err(error) if error.is_retriable() && Instant::now() < deadline => {
                    eprintln!("producer: {error}");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                other => return other,
            }
        }
    }

    fn offset(&self, connector: &str, name: &str) -> Option<SourceOffset> {
        self.transactions.offsets().get(connector, &partition(name)).expect("an offset that can be read")
    }
}

/// Sends as the source task does: the same again after an error that can be retried.
async fn send(
    producer: &mut Box<dyn Producer>,
    records: &[ProducerRecord],
    offsets: &SourceOffsets,
) -> Result<Vec<Result<(TopicPartition, i64)>>> {
    let deadline = Instant::now() + LONG;
    loop {
        match producer.send(records, offsets, "unused").await {
            Err(error) if error.is_retriable() && Instant::now() < deadline => {
                eprintln!("send: {error}");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            other => return other,
        }
    }
}

async fn send_all(producer: &mut Box<dyn Producer>, records: &[ProducerRecord], offsets: &SourceOffsets) {
    let results = send(producer, records, offsets).await.expect("sent");
    assert_eq!(results.len(), records.len());
    for result in results {
        result.expect("taken");
    }
}

/// Keys and values that a reader of committed records sees, partition by partition. Waits until no transaction is open.
async fn read(bootstrap: &str, topic: &str) -> Vec<(Option<String>, Option<String>)> {
    let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
    tokio::task::spawn_blocking(move || read_blocking(&bootstrap, &topic)).await.expect("a reader never panics")
}

fn read_blocking(bootstrap: &str, topic: &str) -> Vec<(Option<String>, Option<String>)> {
    let reader = |isolation| -> BaseConsumer {
        ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "reader")
            .set("enable.auto.commit", "false")
            .set("isolation.level", isolation)
            .set("enable.partition.eof", "true")
            .create()
            .expect("a reader")
    };
    let consumer = reader("read_committed");
    // A commit is answered before its markers are written: what lies behind them is waited for, so the end is the one without
    // regard to transactions.
    let ends = reader("read_uncommitted");
    let metadata = consumer.fetch_metadata(Some(topic), LONG).expect("metadata");
    let partitions: Vec<i32> = metadata.topics()[0].partitions().iter().map(|partition| partition.id()).collect();
    let mut found = Vec::new();
    for number in partitions {
        let (_, end) = ends.fetch_watermarks(topic, number, LONG).expect("watermarks");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, number, Offset::Beginning).expect("an offset");
        consumer.assign(&list).expect("assigned");
        let deadline = Instant::now() + LONG;
        loop {
            assert!(Instant::now() < deadline, "the end {end} of {topic}-{number} was not reached");
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    let text =
                        |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8(bytes.to_vec()).expect("text"));
                    found.push((text(message.key()), text(message.payload())));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    let position = consumer.position().expect("a position");
                    match position.find_partition(topic, number).map(|element| element.offset()) {
                        Some(Offset::Offset(position)) if position < end => {}
                        _ => break,
                    }
                }
                Some(Err(error)) => panic!("{error}"),
                None => {}
            }
        }
    }
    found
}

fn is_taken_over<T>(result: Result<T>) -> Error {
    let error = result.err().expect("an error");
    assert_eq!(error.kind(), ErrorKind::Fatal, "{error}");
    assert!(error.to_string().contains("another process runs connector"), "{error}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn records_and_offsets_are_one() {
    let Some(bootstrap) = variable("OTTLA_TEST_KAFKA") else { return };
    let stage = Stage::new(&bootstrap).await;
    let first = stage.process(1);
    let mut producer = first.producer(0).await.expect("taken over");
    assert!(producer.all_or_nothing());
    assert_eq!(first.offset(&stage.connector, "pin"), None);

    let results = send(&mut producer, &stage.records(0..3), &at("pin", 3)).await.unwrap();
    let places: Vec<i64> = results.into_iter().map(|result| result.unwrap().1).collect();
    assert_eq!(places, [0, 1, 2]);
    assert_eq!(first.offset(&stage.connector, "pin"), Some(offset(3)));
    // Behind the records lies the transaction's marker.
    send_all(&mut producer, &stage.records(3..5), &at("pin", 5)).await;
    // No record, and progress all the same.
    send_all(&mut producer, &[], &at("geo", 9)).await;
    send_all(&mut producer, &[], &SourceOffsets::new()).await;
    assert_eq!(stage.values().await, numbers(0..5));
    let committed: BTreeMap<String, Option<String>> = [
        (format!(r#"["{}",{{"table":"geo"}}]"#, stage.connector), Some(r#"{"position":9}"#.to_owned())),
        (format!(r#"["{}",{{"table":"pin"}}]"#, stage.connector), Some(r#"{"position":5}"#.to_owned())),
    ]
    .into();
    assert_eq!(stage.committed().await, committed);

    // The next process finds them there.
    drop(producer);
    let second = stage.process(1);
    second.producer(0).await.expect("taken over");
    assert_eq!(second.offset(&stage.connector, "pin"), Some(offset(5)));
    assert_eq!(
        second.transactions.offsets().all(&stage.connector).unwrap(),
        at("geo", 9).into_iter().chain(at("pin", 5)).collect()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_producer_left_open_is_never_seen() {
    let Some(bootstrap) = variable("OTTLA_TEST_KAFKA") else { return };
    let stage = Stage::new(&bootstrap).await;
    stage.make_topic(&stage.offsets, 1, &[("cleanup.policy", "compact")]).await;
    // A third task, which there is no more, under a group's name that has changed: the last process noted it.
    let key = format!(r#"["{}",{{"ottla":"claim"}}]"#, stage.connector);
    stage.write(&stage.offsets, &key, Some(r#"{"instance":"before","group":"of-old","tasks":3}"#));
    let mut dead = Vec::new();
    for task in [0, 2] {
        let group = if task == 0 { "group" } else { "of-old" };
        let producer = stage.stranger(&format!("{group}-{}-{task}", stage.connector));
        producer.begin_transaction().unwrap();
        producer.send(BaseRecord::<str, str>::to(&stage.topic).partition(0).payload("half")).unwrap();
        let key = format!(r#"["{}",{{"table":"pin"}}]"#, stage.connector);
        producer.send(BaseRecord::to(&stage.offsets).key(&key).payload(r#"{"position":77}"#)).unwrap();
        producer.flush(LONG).unwrap();
        dead.push(producer);
    }
    let process = stage.process(1);
    let mut producer = process.producer(0).await.expect("taken over");
    assert_eq!(process.offset(&stage.connector, "pin"), None);
    send_all(&mut producer, &stage.records(0..2), &at("pin", 2)).await;
    for zombie in &dead {
        assert!(zombie.commit_transaction(LONG).is_err());
    }
    assert_eq!(stage.values().await, numbers(0..2));
    assert_eq!(process.offset(&stage.connector, "pin"), Some(offset(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_the_later_one_stays_and_holds_everything_once() {
    let Some(bootstrap) = variable("OTTLA_TEST_KAFKA") else { return };
    let stage = Stage::new(&bootstrap).await;
    let older = stage.process(2);
    let mut zombie = older.producer(0).await.unwrap();
    let mut other_zombie = older.producer(1).await.unwrap();
    send_all(&mut zombie, &stage.records(0..10), &at("pin", 10)).await;

    let younger = stage.process(1);
    let mut producer = younger.producer(0).await.unwrap();
    assert_eq!(younger.offset(&stage.connector, "pin"), Some(offset(10)));
    // The zombie wakes up with what it had just read, and hears that it is one; its other task as well.
    let error = is_taken_over(send(&mut zombie, &stage.records(10..20), &at("pin", 20)).await);
    assert!(error.to_string().contains(&stage.connector), "{error}");
    is_taken_over(send(&mut other_zombie, &[], &at("geo", 1)).await);
    assert!(older.transactions.taken_over() && !younger.transactions.taken_over());
    send_all(&mut producer, &stage.records(10..15), &at("pin", 15)).await;
    // It does not come back, and fences nobody in trying.
    is_taken_over(older.producer(0).await);
    send_all(&mut producer, &stage.records(15..20), &at("pin", 20)).await;
    assert_eq!(stage.values().await, numbers(0..20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_starts_again_goes_on_where_it_was() {
    let Some(bootstrap) = variable("OTTLA_TEST_KAFKA") else { return };
    let stage = Stage::new(&bootstrap).await;
    let process = stage.process(2);
    let mut one = process.producer(0).await.unwrap();
    let mut other = process.producer(1).await.unwrap();
    send_all(&mut one, &stage.records(0..2), &at("pin", 2)).await;
    drop(one);
    let mut one = process.producer(0).await.unwrap();
    assert_eq!(process.offset(&stage.connector, "pin"), Some(offset(2)));
    // Its neighbour is none the worse for it.
    send_all(&mut other, &stage.records(2..4), &at("geo", 2)).await;
    send_all(&mut one, &stage.records(4..6), &at("pin", 4)).await;
    assert_eq!(stage.values().await, numbers(0..6));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_was_only_timed_out_goes_on() {
    let Some(bootstrap) = variable("OTTLA_TEST_KAFKA") else { return };
    let stage = Stage::new(&bootstrap).await;
    let process = stage.process(1);
    let mut producer = process.producer(0).await.unwrap();
    send_all(&mut producer, &stage.records(0..2), &at("pin", 2)).await;
    // As the broker's timeout does it: a new epoch, and no new process.
    drop(stage.stranger(&format!("group-{}-0", stage.connector)));
    send_all(&mut producer, &stage.records(2..4), &at("pin", 4)).await;
    assert_eq!(stage.values().await, numbers(0..4));
    assert!(!process.transactions.taken_over());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_got_lost_neither_loses_nor_doubles() {
    let Some(bootstrap) = variable("OTTLA_TEST_KAFKA") else { return };
    let stage = Stage::new(&bootstrap).await;
    let proxy = FaultProxy::start(&bootstrap).await;
    let broker = stage.broker_at(&proxy.address());
    let mut spec = stage.spec(1);
    // The commit gives up after this time.
    spec.settings.set("transaction.timeout.ms", "3000");
    let process = stage.process_of(&broker, spec);
    let mut producer = process.producer(0).await.unwrap();
    let faults = [Fault::LoseAnswers, Fault::LoseRequests, Fault::CutBefore, Fault::CutAfter, Fault::LoseAnswers];
    let mut sent = 0;
    for (round, fault) in faults.into_iter().enumerate() {
        send_all(&mut producer, &stage.records(sent..sent + 3), &at("pin", sent as i64 + 3)).await;
        sent += 3;
        // It ends when the producer was thrown away and the next one is initialised.
        proxy.fault(END_TXN, fault);
        send_all(&mut producer, &stage.records(sent..sent + 3), &at("pin", sent as i64 + 3)).await;
        sent += 3;
        assert!(proxy.struck() > round, "{fault:?} did not happen");
        assert_eq!(stage.values().await, numbers(0..sent), "{fault:?}");
        assert_eq!(process.offset(&stage.connector, "pin"), Some(offset(sent as i64)), "{fault:?}");
    }
}

/// As a broker does that is killed between the answer to a commit and its markers, and started again.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_the_cluster_takes_back_is_written_again() {
    let Some(bootstrap) = variable("OTTLA_TEST_KAFKA") else { return };
    let stage = Stage::new(&bootstrap).await;
    let proxy = FaultProxy::start(&bootstrap).await;
    let broker = stage.broker_at(&proxy.address());
    let mut spec = stage.spec(1);
    spec.settings.set("transaction.timeout.ms", "3000");
    let process = stage.process_of(&broker, spec);
    let mut producer = process.producer(0).await.unwrap();
    let mut sent = 0;
    for fault in [None, Some(Fault::AbortInstead), Some(Fault::LoseRequests), None] {
        let before = proxy.struck();
        if let Some(fault) = fault {
            proxy.fault(END_TXN, fault);
        }
        send_all(&mut producer, &stage.records(sent..sent + 3), &at("pin", sent as i64 + 3)).await;
        sent += 3;
        assert_eq!(proxy.struck() > before, fault.is_some(), "{fault:?}");
        let missing = 3 * usize::from(fault == Some(Fault::AbortInstead));
        assert_eq!(stage.values().await, numbers(0..sent - missing), "after {fault:?}");
    }
    assert_eq!(process.offset(&stage.connector, "pin"), Some(offset(sent as i64)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_starts_again_after_the_cluster_took_a_commit_back_goes_on_before_it() {
    let Some(bootstrap) = variable("OTTLA_TEST_KAFKA") else { return };
    let stage = Stage::new(&bootstrap).await;
    let proxy = FaultProxy::start(&bootstrap).await;
    let process = stage.process_of(&stage.broker_at(&proxy.address()), stage.spec(2));
    let mut producer = process.producer(0).await.expect("taken over");
    let mut neighbour = process.producer(1).await.expect("the other task's");
    send_all(&mut producer, &stage.records(0..5), &at("pin", 5)).await;
    send_all(&mut neighbour, &[], &at("geo", 4)).await;
    // As if the cluster had answered, and then forgotten it.
    proxy.fault(END_TXN, Fault::AbortInstead);
    send_all(&mut producer, &stage.records(5..8), &at("pin", 8)).await;
    assert_eq!(proxy.struck(), 1);
    assert_eq!(process.offset(&stage.connector, "pin"), Some(offset(8)), "nobody has noticed yet");
    // The task fails for whatever reason, and starts again in the same process. It reads from where it is told that it was.
    drop(producer);
    let mut producer = process.producer(0).await.expect("the task's next one");
    assert_eq!(process.offset(&stage.connector, "pin"), Some(offset(5)));
    assert_eq!(process.offset(&stage.connector, "geo"), Some(offset(4)));
    send_all(&mut producer, &stage.records(5..9), &at("pin", 9)).await;
    send_all(&mut neighbour, &[], &at("geo", 6)).await;
    assert_eq!(stage.values().await, numbers(0..9));
    assert_eq!(process.offset(&stage.connector, "pin"), Some(offset(9)));
    assert_eq!(process.offset(&stage.connector, "geo"), Some(offset(6)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_also_settled_by_the_next_process() {
    let Some(bootstrap) = variable("OTTLA_TEST_KAFKA") else { return };
    for (fault, landed) in [(Fault::LoseAnswers, true), (Fault::LoseRequests, false)] {
        let stage = Stage::new(&bootstrap).await;
        let proxy = FaultProxy::start(&bootstrap).await;
        let broker = stage.broker_at(&proxy.address());
        let mut spec = stage.spec(1);
        spec.settings.set("transaction.timeout.ms", "3000");
        let process = stage.process_of(&broker, spec);
        let mut producer = process.producer(0).await.unwrap();
        proxy.fault(END_TXN, fault);
        let error = producer.send(&stage.records(0..3), &at("pin", 3), "unused").await.unwrap_err();
        assert!(error.is_retriable(), "{error}");
        drop(producer);
        let next = stage.process(1);
        next.producer(0).await.unwrap();
        let (values, position) = if landed { (numbers(0..3), Some(offset(3))) } else { (Vec::new(), None) };
        assert_eq!((stage.values().await, next.offset(&stage.connector, "pin")), (values, position), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_record_leaves_nothing_of_its_batch() {
    let Some(bootstrap) = variable("OTTLA_TEST_KAFKA") else { return };
    let mut stage = Stage::new(&bootstrap).await;
    stage.topic = format!("{}-narrow", stage.topic);
    stage.make_topic(&stage.topic, 1, &[("max.message.bytes", "1000")]).await;
    let process = stage.process(1);
    let mut producer = process.producer(0).await.unwrap();
    let fits = |number: usize| stage.record(format!("{number:04}{}", "x".repeat(400)));
    let mut batch: Vec<ProducerRecord> = (0..20).map(fits).collect();
    batch[7] = stage.record("y".repeat(4000));
    batch[12] = stage.record("z".repeat(4000));

    let mut refused = Vec::new();
    let mut rest = batch.clone();
    loop {
        let results = send(&mut producer, &rest, &at("pin", 20)).await.unwrap();
        if results.iter().all(Result::is_ok) {
            break;
        }
        // Nothing of it is there, and no offset.
        assert_eq!(stage.values().await, Vec::<String>::new());
        assert_eq!(process.offset(&stage.connector, "pin"), None);
        let mut kept = Vec::new();
        for (record, result) in rest.into_iter().zip(results) {
            match result {
                Ok(_) => kept.push(record),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::PoisonRecord, "{error}");
                    assert!(error.to_string().contains(&stage.topic), "{error}");
                    refused.push(record);
                }
            }
        }
        rest = kept;
    }
    let text = |record: &ProducerRecord| String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap();
    assert_eq!(refused.iter().map(text).collect::<Vec<_>>(), [text(&batch[7]), text(&batch[12])]);
    // Together the others are far too large for one request of this topic; each alone is not. They keep their order.
    assert_eq!(stage.values().await, rest.iter().map(text).collect::<Vec<_>>());
    assert_eq!(process.offset(&stage.connector, "pin"), Some(offset(20)));

    let mine = ProducerRecord { topic: stage.offsets.as_str().into(), ..stage.record("x") };
    let results = send(&mut producer, &[mine], &at("pin", 21)).await.unwrap();
    assert_eq!(results[0].as_ref().unwrap_err().kind(), ErrorKind::PoisonRecord);
    assert_eq!(process.offset(&stage.connector, "pin"), Some(offset(20)));
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_kafka_connect_has_written_are_taken_over() {
    let Some(bootstrap) = variable("OTTLA_TEST_KAFKA") else { return };
    let stage = Stage::new(&bootstrap).await;
    stage.earlier.put("", &at("only-in-the-state-folder", 1).into_iter().chain(at("pin", 2)).collect()).unwrap();
    let fallback = format!("{}-of-the-worker", stage.offsets);
    for topic in [&stage.offsets, &fallback] {
        stage.make_topic(topic, 3, &[("cleanup.policy", "compact")]).await;
    }
    let name = &stage.connector;
    // The order of a Java hash map, not of the connector.
    let two_fields = format!(r#"["{name}",{{"schema":"a","database":"b"}}]"#);
    for (topic, key, value) in [
        (&stage.offsets, two_fields.clone(), Some(r#"{"position":5,"complete":true}"#)),
        (&stage.offsets, format!(r#"["{name}",{{"table":"pin"}}]"#), Some(r#"{"position":7}"#)),
        (&stage.offsets, format!(r#"["{name}",{{"table":"reset"}}]"#), Some(r#"{"position":7}"#)),
        (&stage.offsets, format!(r#"["{name}",{{"table":"reset"}}]"#), None),
        (&stage.offsets, r#"["another",{"table":"pin"}]"#.to_owned(), Some(r#"{"position":8}"#)),
        (&stage.offsets, "no key of an offset".to_owned(), Some("at all")),
        (&fallback, format!(r#"["{name}",{{"table":"pin"}}]"#), Some(r#"{"position":99}"#)),
        (&fallback, format!(r#"["{name}",{{"table":"geo"}}]"#), Some(r#"{"position":3}"#)),
        (&stage.offsets, format!(r#"["{name}",{{"table":"broken"}}]"#), Some("7")),
    ] {
        stage.write(topic, &key, value);
    }
    let process = stage.process(1);
    let mut producer = process.producer(0).await.unwrap();
    let ours = SourcePartition::new([("database", "b"), ("schema", "a")]);
    let offsets = process.transactions.offsets();
    let of_two_fields = offsets.get(name, &ours).unwrap().expect("an offset");
    assert_eq!(of_two_fields.to_json(), r#"{"position":5,"complete":true}"#);
    assert_eq!(process.offset(name, "pin"), Some(offset(7)));
    assert_eq!(process.offset(name, "geo"), Some(offset(3)));
    assert_eq!(process.offset(name, "reset"), None);
    assert_eq!(process.offset(name, "only-in-the-state-folder"), Some(offset(1)));
    let error = offsets.get(name, &partition("broken")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fatal, "{error}");

    // A key that is there is written as it stands: the topic's compaction compares bytes.
    send_all(&mut producer, &[], &[(ours, offset(6))].into()).await;
    assert_eq!(stage.committed().await.get(&two_fields), Some(&Some(r#"{"position":6}"#.to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_neighbours_open_transaction_hides_no_offset() {
    let Some(bootstrap) = variable("OTTLA_TEST_KAFKA") else { return };
    let stage = Stage::new(&bootstrap).await;
    stage.make_topic(&stage.offsets, 1, &[("cleanup.policy", "compact")]).await;
    let first = stage.process(1);
    let mut producer = first.producer(0).await.unwrap();
    // A neighbour writes its offset, and takes its time; ours lies behind it.
    let neighbour = stage.stranger(&unique("neighbour"));
    neighbour.begin_transaction().unwrap();
    neighbour.send(BaseRecord::to(&stage.offsets).key(r#"["neighbour",{}]"#).payload("{}")).unwrap();
    neighbour.flush(LONG).unwrap();
    send_all(&mut producer, &stage.records(0..3), &at("pin", 3)).await;
    drop(producer);

    let second = stage.process(1);
    let mut taking_over = tokio::spawn({
        let transactions = second.transactions.clone();
        async move { transactions.producer(0).await.map(drop) }
    });
    assert!(tokio::time::timeout(Duration::from_secs(2), &mut taking_over).await.is_err(), "it did not wait");
    neighbour.commit_transaction(LONG).unwrap();
    taking_over.await.unwrap().expect("taken over");
    assert_eq!(second.offset(&stage.connector, "pin"), Some(offset(3)));
}

/// What `--until caught-up` counts on.
#[tokio::test(flavor = "multi_thread")]
async fn where_a_topic_ends_is_told_behind_what_was_committed() {
    let Some(bootstrap) = variable("OTTLA_TEST_KAFKA") else { return };
    let stage = Stage::new(&bootstrap).await;
    let (broker, process) = (stage.broker(), stage.process(1));
    let topics = [stage.topic.clone()];
    let partition = TopicPartition::new(stage.topic.as_str(), 0);
    let mut producer = process.producer(0).await.unwrap();
    for batch in 0..20 {
        let results = send(&mut producer, &stage.records(batch..batch + 1), &at("pin", batch as i64)).await.unwrap();
        let (_, offset) = results[0].as_ref().expect("taken");
        let end = broker.settled_offsets(&topics).await.unwrap()[&partition].end;
        assert!(end > *offset, "batch {batch} lies at {offset}, and the end is told at {end}");
    }

    let neighbour = stage.stranger(&unique("neighbour"));
    neighbour.begin_transaction().unwrap();
    neighbour.send(BaseRecord::<str, str>::to(&stage.topic).payload("20").partition(0)).unwrap();
    neighbour.flush(LONG).unwrap();
    let mut asked = tokio::spawn(async move { broker.settled_offsets(&topics).await.map(|ends| ends[&partition].end) });
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut asked).await.is_err(), "it did not wait");
    neighbour.commit_transaction(LONG).unwrap();
    let end = asked.await.unwrap().unwrap();
    // Each transaction has its record and its marker.
    assert!(end > 2 * 20, "{end}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_forgets_offsets_is_refused() {
    let Some(bootstrap) = variable("OTTLA_TEST_KAFKA") else { return };
    let stage = Stage::new(&bootstrap).await;
    stage.make_topic(&stage.offsets, 1, &[("cleanup.policy", "delete")]).await;
    let error = stage.process(1).producer(0).await.err().expect("refused");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains(&stage.offsets) && error.to_string().contains("compact"), "{error}");
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
        let mut ports: Vec<u16> = (10_000..30_000).collect();
        rand::seq::SliceRandom::shuffle(&mut ports[..], &mut rand::rng());
        let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
        let port = ports.into_iter().find(free).expect("a free port");
        let folder = std::env::temp_dir().join(unique("ottla-own-kafka"));
        std::fs::create_dir_all(&folder).unwrap();
        Some(Self { port, process: Self::spawn(port, &folder), folder })
    }

    fn spawn(port: u16, folder: &std::path::Path) -> std::process::Child {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/services/kafka");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log.txt")).unwrap();
        let mut command = std::process::Command::new(script);
        command.arg(port.to_string()).arg(folder.join("data")).stdout(log.try_clone().unwrap()).stderr(log);
        command.spawn().unwrap()
    }

    fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for OwnKafka {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("what the broker wrote is kept in {}", self.folder.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_costs_time_and_nothing_else() {
    let Some(mut kafka) = OwnKafka::start() else { return };
    let bootstrap = format!("127.0.0.1:{}", kafka.port);
    let deadline = Instant::now() + LONG;
    let any = KafkaBroker::connect(&bootstrap, &Properties::new(), Arc::new(StateFolder::default())).unwrap();
    while any.topics().await.is_err() {
        assert!(Instant::now() < deadline, "the broker does not answer");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let stage = Arc::new(Stage::new(&bootstrap).await);
    const BATCHES: usize = 60;
    let (progress, mut seen) = tokio::sync::watch::channel(0);
    let writer = tokio::spawn({
        let stage = stage.clone();
        async move {
            let process = stage.process(1);
            let mut producer = process.producer(0).await.expect("taken over");
            for batch in 0..BATCHES {
                let records = stage.records(batch * 50..(batch + 1) * 50);
                send_all(&mut producer, &records, &at("pin", (batch as i64 + 1) * 50)).await;
                progress.send_replace(batch);
            }
            process.offset(&stage.connector, "pin")
        }
    });
    for kill_after in [10, 30] {
        seen.wait_for(|batch| *batch >= kill_after).await.unwrap();
        kafka.kill();
        tokio::time::sleep(Duration::from_secs(2)).await;
        kafka.process = OwnKafka::spawn(kafka.port, &kafka.folder);
    }
    assert_eq!(writer.await.unwrap(), Some(offset(BATCHES as i64 * 50)));
    let (found, wanted) = (stage.values().await, numbers(0..BATCHES * 50));
    let difference = found.iter().zip(&wanted).position(|(found, wanted)| found != wanted);
    assert!(found == wanted, "{} of {} values, different from {difference:?} on", found.len(), wanted.len());
}
