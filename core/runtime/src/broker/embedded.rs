//! Topics in the state folder: what `bootstrap.servers = "embedded"` means.
//!
//! A thin layer over [`StateStore`]. Records lie in batches by topic, partition and base offset; a send is one commit that
//! holds its records and the source offsets they reach. Offsets are given out by the store's one writing thread, so they
//! are contiguous whatever fails. Consumer groups live in memory (`group.rs`); only their positions are stored.
//!
//! No network protocol and no replication: whoever outgrows one machine names a Kafka.

mod batch;
mod consumer;
mod group;
mod partitioner;
mod producer;
mod retention;

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Buf;
use ottla_api::config::{Properties, check_topic_name};
use ottla_api::offset::{Positions, TopicPartition};
use ottla_api::record::RawRecord;
use ottla_api::{Error, ErrorKind, Result, error::ResultExt};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::{Broker, ConsumerSpec, GroupConsumer, NewTopic, OffsetRange, OffsetStore, Producer};
use crate::storage::{Space, StateStore, named_key, prefix_range};
use batch::BatchKey;
use group::{Groups, TopicSizes};
pub use partitioner::{murmur2, partition_of_key};
use retention::RetentionThread;

/// The largest record, key and headers included. A Kafka broker's default is 1 MiB.
pub const RECORD_BYTES_MAX: usize = 64 << 20;

/// Topics, groups and source offsets of one worker.
#[derive(Debug)]
pub struct EmbeddedBroker {
    shared: Arc<Shared>,
    _retention: RetentionThread,
}

/// What producers, consumers and retention work on.
#[derive(Debug)]
struct Shared {
    store: Arc<StateStore>,
    topics: RwLock<BTreeMap<Arc<str>, Arc<Topic>>>,
    groups: Arc<Mutex<Groups>>,
    /// Held while a topic is made, so that two tasks don't make it twice.
    making_topic: tokio::sync::Mutex<()>,
    partitions_default: usize,
    retention: Duration,
    /// Removed since files were last rewritten.
    removed_bytes: AtomicU64,
}

#[derive(Debug)]
struct Topic {
    retention: TopicRetention,
    partitions: Vec<Arc<Partition>>,
}

/// How long a topic keeps what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TopicRetention {
    /// As long as the worker's `embedded.retention.ms` says.
    Default,
    /// Its own `retention.ms`.
    Millis(i64),
    /// For ever: `retention.ms` is -1, or the topic is compacted on Kafka, where its newest values would stay, too.
    Forever,
}

#[derive(Debug)]
struct Partition {
    id: TopicPartition,
    topic: u32,
    number: u32,
    /// First offset that is still there.
    start: AtomicI64,
    /// Offset after the last durable record: what readers see.
    end: AtomicI64,
    /// Offset that the next record gets, counting those on their way. Only the store's thread touches it.
    reserved: AtomicI64,
    /// Consumers to wake when there is more, one per group at most.
    listeners: Mutex<Vec<Arc<Notify>>>,
}

impl Partition {
    fn range(&self) -> OffsetRange {
        // In this order the start is never behind the end, even while both move.
        let start = self.start.load(Ordering::Acquire);
        OffsetRange { start, end: self.end.load(Ordering::Acquire) }
    }

    fn state_key(&self) -> Vec<u8> {
        [b"p/", &self.topic.to_be_bytes()[..], &self.number.to_be_bytes()].concat()
    }

    fn wake_listeners(&self) {
        self.listeners.lock().iter().for_each(|notify| notify.notify_one());
    }
}

/// A topic as it is stored, at `t/` and its name.
#[derive(Debug, Serialize, Deserialize)]
struct StoredTopic {
    id: u32,
    partitions: usize,
    #[serde(default)]
    settings: BTreeMap<String, String>,
}

const KEY_TOPIC_ID: &[u8] = b"m/topic-id";

impl EmbeddedBroker {
    /// Topics in `store`. Those that are made by themselves have `partitions_default` partitions; what every group has read is
    /// removed after `retention`.
    pub fn open(store: Arc<StateStore>, partitions_default: usize, retention: Duration) -> Result<Arc<Self>> {
        let topics = load_topics(&store)?;
        let groups = load_groups(&store, &topics)?;
        let shared = Arc::new(Shared {
            store,
            topics: RwLock::new(topics),
            groups: Arc::new(Mutex::new(groups)),
            making_topic: tokio::sync::Mutex::default(),
            partitions_default,
            retention,
            removed_bytes: AtomicU64::new(0),
        });
        let retention = RetentionThread::start(shared.clone())?;
        Ok(Arc::new(Self { shared, _retention: retention }))
    }

    /// Removes what every group has read and what is older than its topic's retention at `now`. A thread does this by itself
    /// every few minutes. Answers how many records went.
    pub fn remove_expired(&self, now: SystemTime) -> Result<u64> {
        self.shared.remove_expired(millis_of(now))
    }

    /// The groups that have committed something, and where they stand.
    pub fn groups(&self) -> BTreeMap<String, Positions> {
        let groups = self.shared.groups.lock();
        groups.by_name.iter().map(|(name, group)| (name.clone(), group.committed.clone())).collect()
    }
}

#[async_trait]
impl Broker for EmbeddedBroker {
    async fn producer(&self, _client_id: &str, _settings: &Properties) -> Result<Box<dyn Producer>> {
        Ok(Box::new(producer::EmbeddedProducer::new(self.shared.clone())))
    }

    async fn consumer(&self, spec: ConsumerSpec) -> Result<Box<dyn GroupConsumer>> {
        Ok(Box::new(consumer::EmbeddedConsumer::join(self.shared.clone(), spec)))
    }

    async fn topics(&self) -> Result<BTreeMap<String, usize>> {
        let sizes = self.shared.topic_sizes();
        Ok(sizes
            .into_iter()
            .filter(|(name, _)| !name.starts_with("__"))
            .map(|(name, n)| (name.to_string(), n))
            .collect())
    }

    async fn create_topic(&self, topic: &NewTopic) -> Result<()> {
        self.shared.make_topic(topic).await.map(drop)
    }

    async fn offsets(&self, topics: &[String]) -> Result<BTreeMap<TopicPartition, OffsetRange>> {
        let all = self.shared.topics.read();
        let partitions = topics.iter().filter_map(|name| all.get(name.as_str())).flat_map(|topic| &topic.partitions);
        Ok(partitions.map(|partition| (partition.id.clone(), partition.range())).collect())
    }

    async fn committed(&self, group: &str, topics: &[String]) -> Result<Positions> {
        let groups = self.shared.groups.lock();
        let committed = groups.by_name.get(group).map(|group| &group.committed);
        let wanted = |partition: &TopicPartition| topics.iter().any(|topic| **topic == *partition.topic);
        let positions = committed.into_iter().flatten().filter(|(partition, _)| wanted(partition));
        Ok(positions.map(|(partition, position)| (partition.clone(), *position)).collect())
    }

    async fn read(&self, partition: &TopicPartition, offset: i64, records_max: usize) -> Result<Vec<RawRecord>> {
        let partition = self.shared.partition(partition)?;
        let offset = offset.max(partition.range().start);
        let mut rest = VecDeque::new();
        let mut records = blocking(|| self.shared.fetch(&partition, offset, records_max, &mut rest))?;
        records.truncate(records_max);
        Ok(records)
    }

    fn source_offsets(&self) -> Arc<dyn OffsetStore> {
        self.shared.store.clone()
    }
}

/// One event or answer carries about this much.
const FETCH_BYTES_MAX: usize = 1 << 20;

impl Shared {
    fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.read().get(name).cloned()
    }

    fn partition(&self, id: &TopicPartition) -> Result<Arc<Partition>> {
        let topic = self.topic(&id.topic).ok_or_else(|| Error::config(format!("there is no topic '{}'", id.topic)))?;
        let partition = usize::try_from(id.partition).ok().and_then(|number| topic.partitions.get(number)).cloned();
        partition.ok_or_else(|| {
            let count = topic.partitions.len();
            Error::config(format!(
                "topic '{}' has {count} partitions, so there is none with number {}",
                id.topic, id.partition
            ))
        })
    }

    fn topic_sizes(&self) -> TopicSizes {
        self.topics.read().iter().map(|(name, topic)| (name.clone(), topic.partitions.len())).collect()
    }

    /// The topic of this name, made where it does not exist.
    async fn topic_or_make(&self, name: &str) -> Result<Arc<Topic>> {
        if let Some(topic) = self.topic(name) {
            return Ok(topic);
        }
        let topic =
            NewTopic { name: name.to_owned(), partitions: None, replication_factor: None, settings: Properties::new() };
        self.make_topic(&topic).await
    }

    async fn make_topic(&self, new: &NewTopic) -> Result<Arc<Topic>> {
        check_topic_name(&new.name).map_err(|message| Error::config(format!("a topic's name {message}")))?;
        let _one_at_a_time = self.making_topic.lock().await;
        if let Some(topic) = self.topic(&new.name) {
            return Ok(topic);
        }
        let partitions = new.partitions.unwrap_or(self.partitions_default);
        if !(1..=10_000).contains(&partitions) {
            return Err(Error::config(format!("topic '{}' can't have {partitions} partitions: 1 to 10000", new.name)));
        }
        let id = match self.store.get(Space::State, KEY_TOPIC_ID)? {
            None => 0,
            Some(mut value) if value.len() == 4 => value.get_u32(),
            Some(_) => return Err(damaged("the number of the next topic can't be read")),
        };
        let settings = new.settings.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let stored = StoredTopic { id, partitions, settings };
        let topic = stored.open(&self.store, &new.name)?;
        let key = [b"t/", new.name.as_bytes()].concat();
        let value = serde_json::to_vec(&stored).or_error(ErrorKind::Fatal, "store topic")?;
        self.store
            .write(move |batch, _| {
                batch.put(Space::State, KEY_TOPIC_ID, &(id + 1).to_be_bytes());
                batch.put(Space::State, &key, &value);
                Ok(())
            })
            .await
            .map_err(|error| error.during(format!("make topic '{}'", new.name)))?;
        tracing::info!(topic = new.name, partitions, "made topic");
        let topic = Arc::new(topic);
        self.topics.write().insert(new.name.as_str().into(), topic.clone());
        let sizes = self.topic_sizes();
        self.groups.lock().topics_changed(&sizes);
        Ok(topic)
    }

    /// Reads from `offset` on: at most `records_max` records and about a mebibyte. What is left of the last batch goes to
    /// `rest`, where the next call finds it.
    fn fetch(
        &self,
        partition: &Partition,
        offset: i64,
        records_max: usize,
        rest: &mut VecDeque<RawRecord>,
    ) -> Result<Vec<RawRecord>> {
        let mut records = Vec::new();
        let mut bytes = 0;
        let end = partition.end.load(Ordering::Acquire);
        let mut next = offset;
        if rest.front().is_none_or(|record| record.offset != offset) {
            rest.clear();
        }
        loop {
            while records.len() < records_max && bytes < FETCH_BYTES_MAX {
                let Some(record) = rest.pop_front() else { break };
                bytes += record.size_estimate();
                next = record.offset + 1;
                records.push(record);
            }
            if !rest.is_empty() || records.len() >= records_max || bytes >= FETCH_BYTES_MAX || next >= end {
                return Ok(records);
            }
            self.read_batches(partition, next, end, FETCH_BYTES_MAX - bytes, rest)?;
            if rest.front().is_none_or(|record| record.offset != next) {
                rest.clear();
                if partition.start.load(Ordering::Acquire) > next {
                    // Retention was here; the caller sees that by the partition's range.
                    return Ok(records);
                }
                return Err(damaged(&format!("record {next} of {} is missing", partition.id)));
            }
        }
    }

    /// Reads whole batches, at least one, beginning with that which holds `offset`.
    fn read_batches(
        &self,
        partition: &Partition,
        offset: i64,
        end: i64,
        bytes_max: usize,
        rest: &mut VecDeque<RawRecord>,
    ) -> Result<()> {
        let range = |offsets| BatchKey::range(partition.topic, partition.number, offsets);
        // The batch that holds `offset` is the last that begins at or before it.
        let first = match self.store.last_key(Space::Records, range(0..offset + 1))? {
            Some(key) => BatchKey::decode(&key)?.base,
            None => offset,
        };
        let mut bytes = 0;
        self.store.scan(Space::Records, range(first..end), |key, value| {
            let key = BatchKey::decode(key)?;
            bytes += value.len();
            let records = batch::decode(&key, value).map_err(|error| error.with("partition", &partition.id))?;
            rest.extend(records.into_iter().filter(|record| record.offset >= offset));
            Ok(if bytes >= bytes_max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })
    }
}

impl StoredTopic {
    /// The topic with its partitions, where each begins and ends.
    fn open(&self, store: &StateStore, name: &str) -> Result<Topic> {
        let name: Arc<str> = name.into();
        let open = |number: usize| -> Result<Arc<Partition>> {
            let number = u32::try_from(number).map_err(|_| damaged("a topic has too many partitions"))?;
            let partition = Partition {
                id: TopicPartition::new(name.clone(), number as i32),
                topic: self.id,
                number,
                start: AtomicI64::new(0),
                end: AtomicI64::new(0),
                reserved: AtomicI64::new(0),
                listeners: Mutex::default(),
            };
            let start = store.get(Space::State, &partition.state_key())?;
            let start = start.map_or(Ok(0), |value| read_offset(&value))?;
            let range = BatchKey::range(self.id, number, start..i64::MAX);
            let last = store.last_key(Space::Records, range)?.map(|key| BatchKey::decode(&key)).transpose()?;
            let end = last.map_or(start, |batch| batch.end());
            partition.start.store(start, Ordering::Release);
            partition.end.store(end, Ordering::Release);
            partition.reserved.store(end, Ordering::Release);
            Ok(Arc::new(partition))
        };
        let partitions = (0..self.partitions).map(open).collect::<Result<_>>()?;
        let compacted = self.settings.get("cleanup.policy").is_some_and(|policy| policy.contains("compact"));
        let retention = match self.settings.get("retention.ms").map(|text| text.trim().parse::<i64>()) {
            _ if compacted => TopicRetention::Forever,
            None => TopicRetention::Default,
            Some(Ok(..0)) => TopicRetention::Forever,
            Some(Ok(millis)) => TopicRetention::Millis(millis),
            Some(Err(_)) => {
                let text = &self.settings["retention.ms"];
                return Err(Error::config(format!("topic '{name}': retention.ms must be a number, found '{text}'")));
            }
        };
        Ok(Topic { retention, partitions })
    }
}

fn load_topics(store: &StateStore) -> Result<BTreeMap<Arc<str>, Arc<Topic>>> {
    let mut stored = Vec::new();
    store.scan(Space::State, prefix_range(b"t/".to_vec()), |key, value| {
        let name = std::str::from_utf8(&key[2..]).map_err(|_| damaged("a topic's name is not text"))?;
        let topic: StoredTopic = serde_json::from_slice(&value)
            .map_err(|error| damaged("a topic can't be read").with("topic", name).caused_by(error))?;
        stored.push((name.to_owned(), topic));
        Ok(ControlFlow::Continue(()))
    })?;
    let open = |(name, topic): (String, StoredTopic)| Ok((name.as_str().into(), Arc::new(topic.open(store, &name)?)));
    stored.into_iter().map(open).collect()
}

/// Group positions lie at `g/`, the group's name with its length, topic id and partition.
fn group_key(group: &str, partition: &Partition) -> Result<Vec<u8>> {
    let mut key = named_key(b"g/", group)?;
    key.extend_from_slice(&partition.topic.to_be_bytes());
    key.extend_from_slice(&partition.number.to_be_bytes());
    Ok(key)
}

fn load_groups(store: &StateStore, topics: &BTreeMap<Arc<str>, Arc<Topic>>) -> Result<Groups> {
    let partitions: BTreeMap<(u32, u32), &TopicPartition> = topics
        .values()
        .flat_map(|topic| &topic.partitions)
        .map(|partition| ((partition.topic, partition.number), &partition.id))
        .collect();
    let mut groups = Groups::default();
    store.scan(Space::State, prefix_range(b"g/".to_vec()), |key, value| {
        let mut key = &key[2..];
        let unreadable = || damaged("a group's position can't be read");
        let length = key.try_get_u16().map_err(|_| unreadable())? as usize;
        if key.len() != length + 8 {
            return Err(unreadable());
        }
        let (name, mut place) = key.split_at(length);
        let name = std::str::from_utf8(name).map_err(|_| unreadable())?;
        let partition = partitions.get(&(place.get_u32(), place.get_u32())).ok_or_else(unreadable)?;
        let group = groups.by_name.entry(name.to_owned()).or_default();
        group.committed.insert((*partition).clone(), read_offset(&value)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(groups)
}

fn read_offset(value: &[u8]) -> Result<i64> {
    value.try_into().map(i64::from_be_bytes).map_err(|_| damaged("an offset can't be read"))
}

fn damaged(what: &str) -> Error {
    Error::fatal(format!("embedded topics are damaged: {what}"))
}

fn millis_of(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

fn now_millis() -> i64 {
    millis_of(SystemTime::now())
}

/// Runs something that may wait for the disk without holding up other tasks, as far as the runtime can do that.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}
