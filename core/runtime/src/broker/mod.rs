//! The broker as traits: producer, group consumer, administration. Two implementations, one conformance suite.
//!
//! `kafka.rs` speaks to a cluster through librdkafka. `embedded.rs` keeps topics in the worker's own state folder. The rest of
//! the runtime knows only what stands here, so the two promise the same:
//!
//! - A record is durable when [`Producer::send`] returns its offset.
//! - A group's partitions are divided among its consumers; taking one away waits until its owner lets go
//!   ([`GroupConsumer::release`]), unless the owner was thought dead ([`ConsumerEvent::Lost`]).
//! - A commit never goes back, and a consumer that lost a partition can't commit for it.

pub mod conformance;
pub mod embedded;
pub mod kafka;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use ottla_api::config::Properties;
use ottla_api::offset::{SourceOffset, SourceOffsets, SourcePartition, TopicPartition};
use ottla_api::record::RawRecord;
use ottla_api::{Result, offset::Positions};
use regex::Regex;

/// One cluster, or the embedded topics.
#[async_trait]
pub trait Broker: fmt::Debug + Send + Sync {
    /// A producer for one task. `settings` are client properties for a Kafka cluster (`producer.*`, `producer.override.*`).
    async fn producer(&self, client_id: &str, settings: &Properties) -> Result<Box<dyn Producer>>;

    /// A consumer that joins a group. Returns before any partition is assigned: that is the first event.
    async fn consumer(&self, spec: ConsumerSpec) -> Result<Box<dyn GroupConsumer>>;

    /// All topics, with their partition counts, internal ones (`__consumer_offsets`) left out.
    async fn topics(&self) -> Result<BTreeMap<String, usize>>;

    /// Makes a topic. One that exists is left as it is, which is no error.
    async fn create_topic(&self, topic: &NewTopic) -> Result<()>;

    /// First offset still there, and offset after the last one a reader may see, per partition of these topics. A topic that
    /// does not exist is left out.
    async fn offsets(&self, topics: &[String]) -> Result<BTreeMap<TopicPartition, OffsetRange>>;

    /// The same, once all that was written until now can be seen: a cluster answers a commit before it shows the records. For
    /// somebody else's transaction that stays open it waits a while, and then answers without what that hides.
    async fn settled_offsets(&self, topics: &[String]) -> Result<BTreeMap<TopicPartition, OffsetRange>> {
        self.offsets(topics).await
    }

    /// What a group has committed.
    async fn committed(&self, group: &str, topics: &[String]) -> Result<Positions>;

    /// Reads one partition outside of any group, from `offset` on: at most `records_max` records, and what is there now (it
    /// does not wait for more). For `ottla topics read|tail`.
    async fn read(&self, partition: &TopicPartition, offset: i64, records_max: usize) -> Result<Vec<RawRecord>>;

    /// Where source offsets are kept. For the embedded broker they are part of the same store as the topics.
    fn source_offsets(&self) -> Arc<dyn OffsetStore>;

    /// What makes a source's records and its offsets one transaction, for all tasks of a connector together. Nothing where
    /// every [`Producer::send`] is one anyway. Connects to nothing yet.
    fn transactions(&self, _spec: TransactionSpec) -> Result<Option<Arc<dyn Transactions>>> {
        Ok(None)
    }
}

/// What the transactions of a source connector need to know of it.
#[derive(Debug, Clone)]
pub struct TransactionSpec {
    /// The connector: its name in the offsets' keys.
    pub connector: Arc<str>,
    /// How many tasks it has now.
    pub tasks: usize,
    /// How many it may have had at most when something else ran it (`tasks.max`).
    pub tasks_max: usize,
    /// First part of the transactional ids, `<group>-<connector>-<task>`.
    pub group: String,
    /// Topic of the offsets; made, compacted, where it is missing.
    pub offsets_topic: String,
    /// Topic where offsets are looked for that the first one does not hold; may be missing, or the same.
    pub fallback_topic: String,
    /// Partitions of the offsets' topic where it has to be made; none for the broker's default.
    pub partitions: Option<usize>,
    /// Its replicas; none for the broker's default.
    pub replication_factor: Option<usize>,
    /// Client properties of the producers (`producer.override.*`).
    pub settings: Properties,
}

/// The transactions of one source connector in a cluster.
///
/// Whoever asks for the first producer takes the connector over: every other process that wrote for it under the same `group`
/// is fenced before the offsets are read. Who has been fenced by somebody else does not fence back.
#[async_trait]
pub trait Transactions: fmt::Debug + Send + Sync {
    /// The producer of one task: each of its sends is one transaction. When this returns, no other producer of this task can
    /// commit any more, and [`offsets`](Self::offsets) knows all that was committed.
    ///
    /// # Errors
    ///
    /// Retriable while the cluster can't be reached or somebody's open transaction hides offsets; `Config` for a topic that
    /// can't hold offsets; `Fatal` where somebody else has [taken over](Self::taken_over).
    async fn producer(self: Arc<Self>, task: usize) -> Result<Box<dyn Producer>>;

    /// The connector's offsets. Written by its producers only.
    fn offsets(&self) -> Arc<dyn OffsetStore>;

    /// True when another process has taken the connector over: its tasks here have to end, and to stay ended.
    fn taken_over(&self) -> bool;
}

/// A topic to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; none for the broker's default (embedded: 1).
    pub partitions: Option<usize>,
    /// How many replicas; none for the broker's default. The embedded broker has one of everything.
    pub replication_factor: Option<usize>,
    /// Topic settings such as `retention.ms`, `cleanup.policy`.
    pub settings: Properties,
}

/// What a partition holds: offsets `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetRange {
    /// The oldest offset still there.
    pub start: i64,
    /// The offset that the next record will get (for readers of committed records: the last stable offset).
    pub end: i64,
}

/// A record to produce, converted to bytes.
#[derive(Debug, Clone)]
pub struct ProducerRecord {
    /// Its topic; made on first use if the broker allows that.
    pub topic: Arc<str>,
    /// Its partition; none lets the partitioner choose: by the key's murmur2 hash as Java's client, or spread where there is
    /// no key.
    pub partition: Option<i32>,
    /// Key bytes.
    pub key: Option<bytes::Bytes>,
    /// Value bytes; none is a tombstone.
    pub value: Option<bytes::Bytes>,
    /// Milliseconds since the epoch; none lets the broker's clock say.
    pub timestamp: Option<i64>,
    /// Headers in order.
    pub headers: Vec<(String, Option<bytes::Bytes>)>,
}

/// Writes records of one task, in order per partition.
#[async_trait]
pub trait Producer: Send {
    /// Makes a batch durable, together with the source offsets it reaches. Returns when everything is durable (`acks=all`,
    /// or fsync), with one result per record in order: its place, or the error that only concerns this record (too large,
    /// unknown topic): such an error has kind `PoisonRecord`.
    ///
    /// Embedded: records and offsets are one commit, so both are there after a crash or neither is. Kafka: the records
    /// first, then the offsets (G1: if a record failed, no offsets of this call are stored and the caller decides).
    ///
    /// Kafka with [`Transactions`]: all of it is one transaction, see [`all_or_nothing`](Self::all_or_nothing).
    ///
    /// An `Err` is about the whole batch. A retriable one may have written a part of it (Kafka) or nothing (embedded); the
    /// caller sends again what has no result yet. Within a transaction it may also have written everything: the caller sends
    /// the same once more, and hears of it then.
    async fn send(
        &mut self,
        records: &[ProducerRecord],
        offsets: &SourceOffsets,
        connector: &str,
    ) -> Result<Vec<Result<(TopicPartition, i64)>>>;

    /// True where a send whose results hold an error has written nothing at all. The caller sends the records without errors
    /// again, with the same offsets, or gives up; their places in such results mean nothing.
    fn all_or_nothing(&self) -> bool {
        false
    }
}

/// Which topics a group reads.
#[derive(Debug, Clone)]
pub enum Subscription {
    /// These.
    Topics(Vec<String>),
    /// Those whose whole name matches (Java's regex semantics: full match), also ones that appear later. Internal topics
    /// (names beginning with `__`) never match.
    Regex(Regex),
}

impl Subscription {
    /// True where it covers `topic`.
    pub fn matches(&self, topic: &str) -> bool {
        match self {
            Self::Topics(topics) => topics.iter().any(|name| name == topic),
            Self::Regex(regex) => {
                !topic.starts_with("__") && regex.find(topic).is_some_and(|found| found.len() == topic.len())
            }
        }
    }
}

/// A consumer to make.
#[derive(Debug, Clone)]
pub struct ConsumerSpec {
    /// The group, `connect-<connector>` unless overridden.
    pub group: String,
    /// Name of the client in the broker's logs.
    pub client_id: String,
    /// Stable name of this member, so that a killed worker's successor takes its place at once (KIP-345); none for a member
    /// that the group forgets when it goes.
    pub instance_id: Option<String>,
    /// Which topics.
    pub subscription: Subscription,
    /// Where to begin without a committed offset: `earliest` (default), `latest`, or `none` (an error).
    pub start: StartPosition,
    /// Client properties for a Kafka cluster (`consumer.*`, `consumer.override.*`).
    pub settings: Properties,
    /// Most records in one batch event.
    pub batch_records_max: usize,
    /// About how many bytes it may hold that the application has not taken yet. The embedded broker, which reads when it is
    /// asked, holds one batch.
    pub ahead_bytes_max: usize,
}

/// Where to begin without a committed offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartPosition {
    /// The oldest record there is.
    #[default]
    Earliest,
    /// What comes after now.
    Latest,
    /// Refuse: the task fails.
    None,
}

/// What happens to a consumer.
#[derive(Debug)]
pub enum ConsumerEvent {
    /// These partitions are ours now, each with the group's committed position or -1. Nothing is fetched for them until
    /// [`GroupConsumer::start_at`].
    Assigned(Positions),
    /// The group wants these partitions back. They are ours until [`GroupConsumer::release`]; nothing more is fetched.
    Revoked(Vec<TopicPartition>),
    /// These partitions belong to somebody else already.
    Lost(Vec<TopicPartition>),
    /// Records of one partition in offset order, beginning at its position.
    Batch {
        /// Whose.
        partition: TopicPartition,
        /// The records; offsets may have gaps.
        records: Vec<RawRecord>,
        /// The position after them.
        next_offset: i64,
    },
    /// The records from a partition's position on are gone (retention), or it lies beyond the end. Fetching has stopped.
    OutOfRange {
        /// Whose.
        partition: TopicPartition,
        /// Where it stood.
        position: i64,
        /// What there is.
        range: OffsetRange,
    },
}

/// Reads for one member of a group.
///
/// One task drives it: `next` in a loop; the other calls between. Heartbeats and `max.poll.interval.ms` are served inside,
/// whether or not anybody calls `next`: slow destinations must not cost a member its partitions.
#[async_trait]
pub trait GroupConsumer: Send {
    /// Waits for the next event. Dropping the future loses nothing.
    async fn next(&mut self) -> Result<ConsumerEvent>;

    /// Begins to fetch newly assigned partitions at these positions; a position of -1 means [`ConsumerSpec::start`].
    /// Also moves a partition that is being fetched (a rewind): batches of it that were fetched before are not returned.
    async fn start_at(&mut self, positions: &Positions) -> Result<()>;

    /// Stops fetching these for a while.
    async fn pause(&mut self, partitions: &[TopicPartition]) -> Result<()>;

    /// Goes on fetching.
    async fn resume(&mut self, partitions: &[TopicPartition]) -> Result<()>;

    /// Stores positions for the group. Positions of partitions that are not ours (any more) are an error that names them,
    /// and change nothing (G4); it is not retriable. A position behind the stored one leaves that as it is.
    async fn commit(&mut self, positions: &Positions) -> Result<()>;

    /// Gives revoked partitions back, after everything of them that is durable was committed.
    async fn release(&mut self, partitions: &[TopicPartition]) -> Result<()>;

    /// What tells a topic from another one of the same name: one that is made anew, or lies in another state folder, has
    /// another identity. Nothing where the broker's client does not tell.
    async fn topic_identity(&mut self, _topic: &str) -> Result<Option<String>> {
        Ok(None)
    }

    /// Leaves the group. What is assigned is given back; commit before.
    async fn close(self: Box<Self>) -> Result<()>;
}

/// Where source offsets are kept between runs, by connector and source partition.
pub trait OffsetStore: fmt::Debug + Send + Sync {
    /// The stored offset. An offset that is there and can't be read is an error, never a start from zero.
    fn get(&self, connector: &str, partition: &SourcePartition) -> Result<Option<SourceOffset>>;

    /// Stores offsets, durably when this returns.
    fn put(&self, connector: &str, offsets: &SourceOffsets) -> Result<()>;

    /// All of a connector's.
    fn all(&self, connector: &str) -> Result<SourceOffsets>;
}
