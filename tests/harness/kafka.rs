//! Kafka from the outside: makes topics, writes known records, reads topics and committed offsets with a client of our own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::wait::SOON;

/// A topic and a partition.
pub type Place = (String, i32);

/// A record as it lies in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its offset.
    pub offset: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Stored {
    /// The value as text; empty where there is none.
    pub fn text(&self) -> String {
        String::from_utf8(self.value.clone().unwrap_or_default()).expect("a text")
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<String> {
        let found = self.headers.iter().find(|(key, _)| key == name)?;
        Some(String::from_utf8(found.1.clone()).expect("a text"))
    }
}

/// A broker.
#[derive(Debug, Clone)]
pub struct Kafka {
    servers: String,
}

impl Kafka {
    /// The broker at `servers`.
    pub fn at(servers: impl Into<String>) -> Self {
        Self { servers: servers.into() }
    }

    /// The broker that `tests/run` started.
    pub fn connect() -> Self {
        Self::at(crate::services::kafka())
    }

    /// The value of `bootstrap.servers`.
    pub fn servers(&self) -> &str {
        &self.servers
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers);
        config
    }

    /// Makes a topic.
    pub fn make_topic(&self, topic: &str, partitions: i32) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().expect("an admin client");
        let options = AdminOptions::new().operation_timeout(Some(SOON)).request_timeout(Some(SOON));
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let made = futures::executor::block_on(admin.create_topics([&new], &options));
        for result in made.unwrap_or_else(|error| panic!("make topic {topic}: {error}")) {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, error)) => panic!("make topic {topic}: {error}"),
            }
        }
    }

    /// A producer of known records.
    pub fn producer(&self) -> Producer {
        let producer = self
            .config()
            // In order and once per partition, also where the broker goes away in between: what was issued is what lies there.
            .set("enable.idempotence", "true")
            .set("linger.ms", "2")
            .set("message.timeout.ms", "120000")
            .create()
            .expect("a producer");
        Producer { producer }
    }

    /// Everything that a topic holds, by partition.
    pub fn read(&self, topic: &str) -> BTreeMap<Place, Vec<Stored>> {
        let consumer = self.consumer(&crate::unique("reader"));
        let metadata = consumer.fetch_metadata(Some(topic), SOON).unwrap_or_else(|error| panic!("{topic}: {error}"));
        let partitions: Vec<i32> = metadata.topics()[0].partitions().iter().map(|partition| partition.id()).collect();
        let mut ends = BTreeMap::new();
        let mut from = TopicPartitionList::new();
        let mut found = BTreeMap::new();
        for partition in partitions {
            let (start, end) = consumer.fetch_watermarks(topic, partition, SOON).expect("watermarks");
            found.insert((topic.to_owned(), partition), Vec::new());
            if end > start {
                ends.insert(partition, end);
                from.add_partition_offset(topic, partition, Offset::Offset(start)).expect("an offset");
            }
        }
        consumer.assign(&from).expect("an assignment");
        let deadline = Instant::now() + SOON;
        while !ends.is_empty() {
            assert!(Instant::now() < deadline, "read {topic}: the ends {ends:?} were not reached");
            let Some(message) = consumer.poll(Duration::from_millis(200)) else { continue };
            let message = message.unwrap_or_else(|error| panic!("read {topic}: {error}"));
            let headers = message.headers().map_or_else(Vec::new, |headers| {
                let pair = |header: rdkafka::message::Header<'_, &[u8]>| {
                    (header.key.to_owned(), header.value.unwrap_or_default().to_vec())
                };
                headers.iter().map(pair).collect()
            });
            found.entry((topic.to_owned(), message.partition())).or_default().push(Stored {
                offset: message.offset(),
                key: message.key().map(<[u8]>::to_vec),
                value: message.payload().map(<[u8]>::to_vec),
                headers,
            });
            if ends.get(&message.partition()).is_some_and(|end| message.offset() + 1 >= *end) {
                ends.remove(&message.partition());
            }
        }
        found
    }

    /// What a group has committed for the partitions of a topic; nothing where it has not.
    pub fn committed(&self, group: &str, topic: &str, partitions: i32) -> BTreeMap<i32, i64> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(topic, 0, partitions - 1);
        let committed = self.consumer(group).committed_offsets(asked, SOON);
        let committed = committed.unwrap_or_else(|error| panic!("committed offsets of {group}: {error}"));
        let known = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match element.offset() {
            Offset::Offset(offset) => Some((element.partition(), offset)),
            _ => None,
        };
        committed.elements().iter().filter_map(known).collect()
    }

    /// Commits an offset as another consumer of the group, which has left before this returns.
    pub fn commit(&self, group: &str, topic: &str, partition: i32, offset: i64) {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("an offset");
        let consumer = self.consumer(group);
        let deadline = Instant::now() + SOON;
        loop {
            match consumer.commit(&offsets, CommitMode::Sync) {
                Ok(()) => return,
                // The first group of a new broker finds its coordinator after a moment.
                Err(KafkaError::ConsumerCommit(_)) if Instant::now() < deadline => {
                    consumer.poll(Duration::from_millis(100));
                }
                Err(error) => panic!("commit for {group}: {error}"),
            }
        }
    }

    fn consumer(&self, group: &str) -> BaseConsumer {
        self.config()
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .create()
            .expect("a consumer")
    }
}

/// Writes records in order, each into the partition that the caller says.
pub struct Producer {
    producer: ThreadedProducer<DefaultProducerContext>,
}

impl Producer {
    /// Hands over a record; [`flush`](Self::flush) makes sure that it arrived.
    pub fn send(&self, topic: &str, partition: i32, key: Option<&str>, value: &[u8]) {
        loop {
            let record: BaseRecord<'_, str, [u8]> = BaseRecord::to(topic).partition(partition).payload(value);
            let record = match key {
                Some(key) => record.key(key),
                None => record,
            };
            match self.producer.send(record) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    self.producer.poll(Duration::from_millis(50));
                }
                Err((error, _)) => panic!("produce to {topic}: {error}"),
            }
        }
    }

    /// Waits until everything has arrived.
    pub fn flush(&self) {
        self.producer.flush(Duration::from_secs(120)).expect("everything was produced");
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Producer")
    }
}
