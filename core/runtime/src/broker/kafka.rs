//! A Kafka cluster as broker, through librdkafka.
//!
//! # Code map
//!
//! | Module | Holds |
//! |---|---|
//! | `settings` | client settings: layers, Java's names in, librdkafka's out |
//! | `context` | what librdkafka tells by itself (log, troubles, rebalances), and its errors in our words |
//! | `consumer` | one thread per member of a group, which polls whatever the application does |
//! | `unowned` | what a killed member leaves behind in its group, and nobody takes |
//! | `producer` | batches out, in order, then the source offsets they reach |
//! | `transactions` | who may write for a source connector, and where it stands: exactly once |
//! | `transactional_producer` | batches out, each with its source offsets in one transaction |
//! | `offsets` | source offsets in a topic, in Kafka Connect's format |
//!
//! # Errors
//!
//! Nothing connects before the first use. A cluster that can't be reached is `Unreachable`, refused credentials are
//! `RefreshAuth`, a certificate that isn't trusted is `Config`; each names the bootstrap address and what was being done.

mod batch_reader;
mod consumer;
mod context;
mod offsets;
mod producer;
mod settings;
mod transactional_producer;
mod transactions;
mod unowned;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use ottla_api::config::Properties;
use ottla_api::offset::{Positions, TopicPartition};
use ottla_api::record::RawRecord;
use ottla_api::{Error, Result};
use parking_lot::Mutex;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic as NativeTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::Offset;

use self::consumer::KafkaConsumer;
use self::context::{Connection, Context, code_of, partition_list};
use self::offsets::{Isolation, TopicReader, wait_for_open_transactions};
use self::producer::KafkaProducer;
use self::settings::{Role, Settings};
use self::transactions::KafkaTransactions;
use super::{
    Broker, ConsumerSpec, GroupConsumer, NewTopic, OffsetRange, OffsetStore, Producer, TransactionSpec, Transactions,
};

/// How long one question to the cluster may take before it counts as unreachable.
const PATIENCE: Duration = Duration::from_secs(10);
/// A question is asked in slices of this, between which a known reason to give up is looked for.
const SLICE: Duration = Duration::from_secs(2);
/// How long a new topic may take until every broker knows it.
const PROPAGATION: Duration = Duration::from_secs(5);

/// A Kafka cluster.
pub struct KafkaBroker {
    bootstrap: String,
    settings: Settings,
    offsets: Arc<dyn OffsetStore>,
    /// For questions about topics and offsets; made at the first one. It belongs to no group.
    asking: Mutex<Option<Arc<BaseConsumer<Context>>>>,
    me: Weak<Self>,
}

impl KafkaBroker {
    /// A cluster at `bootstrap`. `client` holds the worker's client settings as written: top-level security settings, which
    /// every client gets, and `producer.*`, `consumer.*`, `admin.*` (Java's names and librdkafka's, see the module).
    /// `offsets` is where source offsets are kept: not in the cluster.
    ///
    /// Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// `Config` for a setting that can't be.
    pub fn connect(bootstrap: &str, client: &Properties, offsets: Arc<dyn OffsetStore>) -> Result<Arc<Self>> {
        let settings = Settings::new(bootstrap, client);
        for role in [Role::Producer, Role::Consumer, Role::Admin] {
            settings.client_config(role, &Properties::new())?;
        }
        Ok(Arc::new_cyclic(|me| Self {
            bootstrap: bootstrap.to_owned(),
            settings,
            offsets,
            asking: Mutex::new(None),
            me: me.clone(),
        }))
    }

    /// Asks the cluster something. `question` may block for the time it is given.
    async fn ask<T: Send + 'static>(
        &self,
        doing: impl Into<String>,
        question: impl Fn(&BaseConsumer<Context>, Duration) -> KafkaResult<T> + Send + 'static,
    ) -> Result<T> {
        let doing = doing.into();
        let consumer = self.asking_client().map_err(|error| error.during(&doing))?;
        blocking(move || ask(&consumer, true, &doing, question)).await
    }

    fn asking_client(&self) -> Result<Arc<BaseConsumer<Context>>> {
        let mut asking = self.asking.lock();
        if let Some(client) = &*asking {
            return Ok(client.clone());
        }
        let client = Arc::new(self.admin_consumer("ottla-admin", None)?);
        *asking = Some(client.clone());
        Ok(client)
    }

    fn admin_consumer(&self, name: &str, group: Option<&str>) -> Result<BaseConsumer<Context>> {
        let mut config = self.settings.client_config(Role::Admin, &Properties::new())?;
        config.set("client.id", name).set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        if let Some(group) = group {
            config.set("group.id", group).set("auto.offset.reset", "error").set("enable.partition.eof", "true");
        }
        let connection = Connection::new(name, &self.bootstrap);
        let context = Context::new(connection.clone());
        config.create_with_context(context).map_err(|error| connection.failure("make a client", &error))
    }
}

impl fmt::Debug for KafkaBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KafkaBroker({})", self.bootstrap)
    }
}

#[async_trait]
impl Broker for KafkaBroker {
    async fn producer(&self, client_id: &str, settings: &Properties) -> Result<Box<dyn Producer>> {
        let config = self.settings.client_config(Role::Producer, settings)?;
        let producer = KafkaProducer::new(client_id, &self.bootstrap, config, self.offsets.clone())?;
        Ok(Box::new(producer))
    }

    async fn consumer(&self, spec: ConsumerSpec) -> Result<Box<dyn GroupConsumer>> {
        let config = self.settings.consumer_config(&spec.settings, spec.ahead_bytes_max)?;
        let refresh = spec.settings.get("topic.refresh.interval.ms").map(str::to_owned);
        Ok(Box::new(KafkaConsumer::join(spec, &self.bootstrap, config, refresh.as_deref())?))
    }

    async fn topics(&self) -> Result<BTreeMap<String, usize>> {
        self.ask("list topics", |consumer, timeout| Ok(topics_of(&consumer.fetch_metadata(None, timeout)?))).await
    }

    async fn create_topic(&self, topic: &NewTopic) -> Result<()> {
        // Also says clearly whether the cluster can be reached, which the next call could not.
        if self.topics().await?.contains_key(&topic.name) {
            return Ok(());
        }
        let doing = format!("create topic '{}'", topic.name);
        let connection = Connection::new("ottla-admin", &self.bootstrap);
        let admin: AdminClient<Context> = self
            .settings
            .client_config(Role::Admin, &Properties::new())?
            .create_with_context(Context::new(connection.clone()))
            .map_err(|error| connection.failure(&doing, &error))?;
        let number = |count: Option<usize>| count.map_or(-1, |count| i32::try_from(count).unwrap_or(i32::MAX));
        let mut native = NativeTopic::new(
            &topic.name,
            number(topic.partitions),
            TopicReplication::Fixed(number(topic.replication_factor)),
        );
        for (key, value) in topic.settings.iter() {
            native = native.set(key, value);
        }
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
        let results = admin.create_topics([&native], &options).await;
        let outcome = results.map_err(|error| connection.failure(&doing, &error))?;
        // The client's destructor waits for its thread.
        blocking(move || {
            drop(admin);
            Ok(())
        })
        .await?;
        for result in outcome {
            if let Err((_, code)) = result
                && code != RDKafkaErrorCode::TopicAlreadyExists
            {
                return Err(match code {
                    RDKafkaErrorCode::InvalidPartitions
                    | RDKafkaErrorCode::InvalidReplicationFactor
                    | RDKafkaErrorCode::InvalidTopic
                    | RDKafkaErrorCode::InvalidConfig
                    | RDKafkaErrorCode::InvalidRequest
                    | RDKafkaErrorCode::PolicyViolation => {
                        Error::config(format!("{doing}: Kafka at {} refuses it: {code}", self.bootstrap))
                    }
                    code => connection.failure(&doing, &KafkaError::AdminOp(code)),
                });
            }
        }
        // Brokers learn of a topic one after another; who asks for it next should find it.
        let begun = Instant::now();
        while !self.topics().await?.contains_key(&topic.name) && begun.elapsed() < PROPAGATION {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// The end is the last stable offset: records of an open transaction are behind it. It may stand before the high
    /// watermark that other tools show.
    async fn offsets(&self, topics: &[String]) -> Result<BTreeMap<TopicPartition, OffsetRange>> {
        let wanted = topics.to_vec();
        self.ask("list offsets", move |consumer, timeout| offsets_of(consumer, &wanted, timeout)).await
    }

    async fn settled_offsets(&self, topics: &[String]) -> Result<BTreeMap<TopicPartition, OffsetRange>> {
        const DOING: &str = "list offsets";
        let wanted = topics.to_vec();
        let everything = TopicReader { bootstrap: self.bootstrap.clone(), settings: self.settings.clone() };
        let committed = self.asking_client().map_err(|error| error.during(DOING))?;
        let visible = blocking(move || {
            let everything = everything.client(Isolation::Uncommitted)?;
            let written = ask(&everything, true, DOING, |consumer, timeout| offsets_of(consumer, &wanted, timeout))?;
            wait_for_open_transactions(&committed, &written, DOING)
        })
        .await?;
        if let Some(partition) = visible.hidden {
            tracing::warn!(%partition, "a transaction of somebody else stays open: what it hides is not waited for");
        }
        Ok(visible.ranges)
    }

    async fn committed(&self, group: &str, topics: &[String]) -> Result<Positions> {
        let doing = format!("read committed offsets of group '{group}'");
        let known = self.topics().await.map_err(|error| error.during(&doing))?;
        let partitions = partitions_among(topics, &known);
        // A client knows the coordinator of one group. It asks; it does not join.
        let consumer = self.admin_consumer("ottla-admin", Some(group)).map_err(|error| error.during(&doing))?;
        blocking(move || {
            ask(&consumer, true, &doing, |consumer, timeout| {
                let mut committed = committed_positions(consumer, &partitions, timeout)?;
                committed.retain(|_, position| *position >= 0);
                Ok(committed)
            })
        })
        .await
    }

    async fn read(&self, partition: &TopicPartition, offset: i64, records_max: usize) -> Result<Vec<RawRecord>> {
        let doing = format!("read {partition}");
        let (wanted, partition) = (partition.clone(), partition.clone());
        let range = self
            .ask(&*doing, move |consumer, timeout| {
                // A partition that does not exist is told apart from a cluster that can't answer.
                let known = topics_of(&consumer.fetch_metadata(None, timeout)?);
                match known.get(&*wanted.topic) {
                    Some(count) if (0..*count as i32).contains(&wanted.partition) => {
                        list_offsets(consumer, std::slice::from_ref(&wanted), timeout)
                    }
                    _ => Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition)),
                }
            })
            .await?;
        let Some(range) = range.get(&partition).copied() else {
            return Err(Error::fatal(format!("{doing}: no offsets were returned")));
        };
        let start = offset.max(range.start);
        if start >= range.end || records_max == 0 {
            return Ok(Vec::new());
        }
        // Without a group's name librdkafka does not read; nothing is ever sent in it.
        let consumer = self.admin_consumer("ottla-read", Some("ottla-read")).map_err(|error| error.during(&doing))?;
        blocking(move || {
            let connection = consumer.context().connection.clone();
            let failure = |error: &KafkaError| connection.failure(&doing, error);
            consumer.assign(&partition_list([(&partition, Offset::Offset(start))])).map_err(|error| failure(&error))?;
            let mut records = Vec::new();
            let mut last_progress = Instant::now();
            while records.len() < records_max {
                match consumer.poll(Duration::from_millis(100)) {
                    Some(Ok(message)) => {
                        let done = message.offset() + 1 >= range.end;
                        records.push(raw_record(&message));
                        last_progress = Instant::now();
                        if done {
                            break;
                        }
                    }
                    Some(Err(KafkaError::PartitionEOF(_))) => break,
                    Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::GroupAuthorizationFailed))) => {}
                    Some(Err(error)) if !Error::is_retriable(&failure(&error)) => return Err(failure(&error)),
                    _ if last_progress.elapsed() > PATIENCE => {
                        let timeout = KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut);
                        return Err(failure(&timeout));
                    }
                    _ => {}
                }
            }
            Ok(records)
        })
        .await
    }

    fn source_offsets(&self) -> Arc<dyn OffsetStore> {
        self.offsets.clone()
    }

    fn transactions(&self, spec: TransactionSpec) -> Result<Option<Arc<dyn Transactions>>> {
        Ok(Some(Arc::new(KafkaTransactions::new(self, spec)?)))
    }
}

/// Runs what blocks where blocking is allowed.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::fatal("a call to librdkafka ended unexpectedly").caused_by(error)),
    }
}

/// Asks in slices: librdkafka keeps trying for the whole time, although it may know already why it will be in vain.
///
/// `polls` where nobody else polls this client: then log lines, and the reasons of failures, are served here.
fn ask<T>(
    consumer: &BaseConsumer<Context>,
    polls: bool,
    doing: &str,
    question: impl Fn(&BaseConsumer<Context>, Duration) -> KafkaResult<T>,
) -> Result<T> {
    let connection = &consumer.context().connection;
    let begun = Instant::now();
    loop {
        let result = question(consumer, SLICE);
        // Not without any waiting: a log line would pass for the end of what is there.
        while polls && consumer.poll(Duration::from_millis(5)).is_some() {}
        match result {
            Ok(answer) => {
                connection.is_well();
                return Ok(answer);
            }
            Err(error) => {
                let failure = connection.failure(doing, &error);
                if !failure.is_retriable() || connection.trouble().is_some() || begun.elapsed() >= PATIENCE {
                    return Err(failure);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

/// Names and partition counts, internal topics left out.
fn topics_of(metadata: &rdkafka::metadata::Metadata) -> BTreeMap<String, usize> {
    metadata
        .topics()
        .iter()
        .filter(|topic| !topic.name().starts_with("__") && topic.error().is_none())
        .map(|topic| (topic.name().to_owned(), topic.partitions().len()))
        .collect()
}

/// First offset, and the one after the last that `consumer` may see, of all partitions of those topics that exist.
fn offsets_of(
    consumer: &BaseConsumer<Context>,
    topics: &[String],
    timeout: Duration,
) -> KafkaResult<BTreeMap<TopicPartition, OffsetRange>> {
    let known = topics_of(&consumer.fetch_metadata(None, timeout)?);
    list_offsets(consumer, &partitions_among(topics, &known), timeout)
}

/// The partitions of those topics that exist, by how many `known` gives each.
fn partitions_among(topics: &[String], known: &BTreeMap<String, usize>) -> Vec<TopicPartition> {
    let of_topic = |topic: &String| {
        let (name, count) = (topic.clone(), known.get(topic).copied().unwrap_or_default());
        (0..count as i32).map(move |partition| TopicPartition::new(name.as_str(), partition))
    };
    topics.iter().flat_map(of_topic).collect()
}

/// First offset, and the end as a reader of committed records sees it.
fn list_offsets(
    consumer: &BaseConsumer<Context>,
    partitions: &[TopicPartition],
    timeout: Duration,
) -> KafkaResult<BTreeMap<TopicPartition, OffsetRange>> {
    let mut ranges = BTreeMap::new();
    if partitions.is_empty() {
        return Ok(ranges);
    }
    let ask = |which: Offset| -> KafkaResult<Positions> {
        // In the protocol, first and last offset are two special timestamps; librdkafka writes them through.
        let list = partition_list(partitions.iter().map(|partition| (partition, which)));
        let answer = consumer.offsets_for_times(list, timeout)?;
        let mut positions = Positions::new();
        for element in answer.elements() {
            element.error()?;
            if let Offset::Offset(offset) = element.offset() {
                positions.insert(TopicPartition::new(element.topic(), element.partition()), offset);
            }
        }
        Ok(positions)
    };
    let (starts, ends) = (ask(Offset::Beginning)?, ask(Offset::End)?);
    for partition in partitions {
        match (starts.get(partition), ends.get(partition)) {
            (Some(start), Some(end)) => ranges.insert(partition.clone(), OffsetRange { start: *start, end: *end }),
            _ => return Err(KafkaError::OffsetFetch(RDKafkaErrorCode::LeaderNotAvailable)),
        };
    }
    Ok(ranges)
}

/// The group's positions; -1 where it has none.
fn committed_positions(
    consumer: &BaseConsumer<Context>,
    partitions: &[TopicPartition],
    timeout: Duration,
) -> KafkaResult<Positions> {
    if partitions.is_empty() {
        return Ok(Positions::new());
    }
    let list = partition_list(partitions.iter().map(|partition| (partition, Offset::Invalid)));
    let answer = consumer.committed_offsets(list, timeout)?;
    let mut positions = Positions::new();
    for element in answer.elements() {
        element.error()?;
        let position = match element.offset() {
            Offset::Offset(offset) => offset,
            _ => -1,
        };
        positions.insert(TopicPartition::new(element.topic(), element.partition()), position);
    }
    Ok(positions)
}

/// A message copied out of librdkafka's buffers.
fn raw_record(message: &BorrowedMessage<'_>) -> RawRecord {
    RawRecord {
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key().map(Bytes::copy_from_slice),
        value: message.payload().map(Bytes::copy_from_slice),
        headers: message.headers().map_or_else(Vec::new, |headers| {
            headers.iter().map(|header| (header.key.to_owned(), header.value.map(Bytes::copy_from_slice))).collect()
        }),
    }
}

/// Whether a partition or topic is simply not there.
fn is_missing(error: &KafkaError) -> bool {
    matches!(
        code_of(error),
        Some(
            RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
        )
    )
}
