//! The transactions of a source connector: who may write for it, and where it stands.
//!
//! # Taking over
//!
//! Every task has a transactional id of its own, so a broker fences an earlier producer of the *same* task by itself. That is not
//! enough: after a restart the tasks may divide the work otherwise, and a forgotten process may still write, or start again. So
//! the first task of a connector to start takes the whole connector over:
//!
//! 1. A claim is written into the offsets' topic: this process, so many tasks.
//! 2. Every transactional id that the connector has or had is initialised, which ends what its last producer had begun and
//!    refuses that producer from now on.
//! 3. The offsets are read to their end, and the claim is looked at once more.
//!
//! A producer that finds itself refused looks at the claim *after* it has initialised its id anew, and before it writes. If the
//! claim is still its own, it was a broker's timeout, and it goes on. If not, somebody has taken over, and the connector's tasks
//! end here for good. So of two processes exactly one stays, the one that claimed last, and the other writes nothing after the
//! offsets were read.
//!
//! # What became of a transaction
//!
//! See `transactional_producer`.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use ottla_api::config::Properties;
use ottla_api::offset::{SourceOffsets, TopicPartition};
use ottla_api::{Error, ErrorKind, Result};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message as _;
use rdkafka::producer::Producer as _;

use super::context::{Connection, Context, code_of};
use super::offsets::{CLAIM_PARTITION, Claim, CommittedOffsets, Isolation, TopicReader, place_of};
use super::producer::{Client, KafkaProducer, Reports, drop_later};
use super::settings::Role;
use super::transactional_producer::TransactionalProducer;
use super::{KafkaBroker, PATIENCE, blocking};
use crate::broker::{Broker as _, NewTopic, OffsetStore, Producer, ProducerRecord, TransactionSpec, Transactions};

/// How long a broker keeps a transaction open whose producer is silent, where `transaction.timeout.ms` does not say: longer than
/// any batch takes, since a batch is held in memory when its transaction begins.
const TRANSACTION_TIMEOUT_MS: u64 = 60_000;
/// How long one call may take at most, however long a transaction may stay open.
const CALL_MAX: Duration = Duration::from_secs(30);
/// How many ids of a connector whose number of tasks nobody has noted are fenced at most.
const UNKNOWN_TASKS_MAX: usize = 64;
/// How many ids are fenced at a time.
const FENCED_AT_ONCE: usize = 8;

/// See the module.
pub(super) struct KafkaTransactions {
    broker: Weak<KafkaBroker>,
    pub(super) spec: TransactionSpec,
    pub(super) reader: TopicReader,
    pub(super) offsets: Arc<CommittedOffsets>,
    /// A random name of this process's run of the connector.
    instance: String,
    config: ClientConfig,
    /// How long a call may take.
    pub(super) timeout: Duration,
    taken_over: AtomicBool,
    /// Producers that are ready and whose tasks have not started yet; nothing before the connector was taken over.
    ready: tokio::sync::Mutex<Option<BTreeMap<usize, Initialised>>>,
    /// Where the claims have been read to.
    claims_read: parking_lot::Mutex<ClaimsRead>,
}

#[derive(Debug, Default)]
struct ClaimsRead {
    to: i64,
    last: Option<Claim>,
}

/// A producer that may begin transactions.
#[derive(Clone)]
pub(super) struct Initialised {
    pub(super) client: Arc<Client>,
    pub(super) connection: Arc<Connection>,
}

impl KafkaTransactions {
    /// # Errors
    ///
    /// `Config` for producer settings that can't be.
    pub(super) fn new(broker: &KafkaBroker, spec: TransactionSpec) -> Result<Self> {
        let mut config = broker.settings.client_config(Role::Producer, &spec.settings)?;
        if spec.settings.contains("transactional.id") || broker.settings.has("producer.transactional.id") {
            tracing::warn!(connector = %spec.connector, "transactional.id is not used: each task has one of its own");
        }
        let number = |key: &str| config.get(key).and_then(|value| value.parse::<u64>().ok());
        let timeout = number("transaction.timeout.ms").unwrap_or(TRANSACTION_TIMEOUT_MS);
        // A record can't be waited for longer than its transaction lasts.
        let of_records = number("message.timeout.ms").filter(|millis| (1..timeout).contains(millis)).unwrap_or(timeout);
        config.set("transaction.timeout.ms", timeout.to_string());
        config.set("message.timeout.ms", of_records.to_string());
        config.set("enable.idempotence", "true").set("acks", "all");
        Ok(Self {
            broker: broker.me.clone(),
            reader: TopicReader { bootstrap: broker.bootstrap.clone(), settings: broker.settings.clone() },
            offsets: Arc::new(CommittedOffsets::new(spec.connector.clone(), broker.offsets.clone())),
            instance: uuid::Uuid::new_v4().to_string(),
            config,
            timeout: Duration::from_millis(timeout).min(CALL_MAX),
            taken_over: AtomicBool::new(false),
            ready: tokio::sync::Mutex::default(),
            claims_read: parking_lot::Mutex::default(),
            spec,
        })
    }

    /// Makes this process the one that runs the connector. Answers a ready producer for each of its tasks.
    async fn take_over(self: &Arc<Self>) -> Result<BTreeMap<usize, Initialised>> {
        self.make_topic().await?;
        let earlier = self.last_claim().await?;
        let group = self.spec.group.as_str();
        let ours = Claim { instance: self.instance.clone(), group: group.to_owned(), tasks: self.spec.tasks };
        let earlier_tasks = earlier.as_ref().filter(|claim| claim.group == group).map_or(0, |claim| claim.tasks);
        let tasks = ours.tasks.max(self.spec.tasks_max.min(UNKNOWN_TASKS_MAX)).max(earlier_tasks);
        let of_another_group = earlier.iter().filter(|claim| claim.group != group);
        let mut ids: VecDeque<(String, usize)> = of_another_group
            .flat_map(|claim| (0..claim.tasks).map(|task| (claim.group.clone(), task)))
            .chain((0..tasks).map(|task| (group.to_owned(), task)))
            .collect();
        let fenced = ids.len();
        // A try that failed half-way has left a claim of our own. Until all are fenced, it names all, for a successor.
        if earlier.as_ref().is_none_or(|claim| claim.instance != ours.instance) {
            self.write_claim(Claim { tasks, ..ours.clone() }).await?;
        }
        let mut ready = BTreeMap::new();
        while !ids.is_empty() {
            let some = ids.drain(..ids.len().min(FENCED_AT_ONCE));
            let initialise = async |(group, task): (String, usize)| {
                let initialised = self.initialise(&group, task).await;
                (group, task, initialised)
            };
            for (of, task, initialised) in futures::future::join_all(some.map(initialise)).await {
                let initialised = initialised?;
                match of == group && task < self.spec.tasks {
                    true => drop(ready.insert(task, initialised)),
                    false => drop_later(initialised.client),
                }
            }
        }
        if tasks > ours.tasks {
            self.write_claim(ours).await?;
        }
        self.read_offsets().await?;
        self.check_claim().await?;
        tracing::info!(
            connector = %self.spec.connector,
            topic = %self.spec.offsets_topic,
            fenced,
            "taken over: records and source offsets are written in transactions"
        );
        Ok(ready)
    }

    async fn make_topic(&self) -> Result<()> {
        let broker = self.broker.upgrade().ok_or_else(|| Error::fatal("the broker's client is closed"))?;
        let topic = NewTopic {
            name: self.spec.offsets_topic.clone(),
            partitions: self.spec.partitions,
            replication_factor: self.spec.replication_factor,
            settings: [("cleanup.policy", "compact")].into_iter().collect(),
        };
        broker.create_topic(&topic).await?;
        self.check_compaction(&broker).await
    }

    /// Kafka Connect refuses a topic that would forget offsets, and so do we. Who may not ask is believed.
    async fn check_compaction(&self, broker: &KafkaBroker) -> Result<()> {
        let topic = self.spec.offsets_topic.clone();
        let connection = Connection::new("ottla-admin", &broker.bootstrap);
        let admin: AdminClient<Context> = broker
            .settings
            .client_config(Role::Admin, &Properties::new())?
            .create_with_context(Context::new(connection.clone()))
            .map_err(|error| connection.failure("make a client", &error))?;
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        let described = admin.describe_configs([&ResourceSpecifier::Topic(&topic)], &options).await;
        blocking(move || {
            drop(admin);
            Ok(())
        })
        .await?;
        let Ok(described) = described else { return Ok(()) };
        let policy = described.iter().flatten().find_map(|resource| {
            resource.entries.iter().find(|entry| entry.name == "cleanup.policy").and_then(|entry| entry.value.clone())
        });
        match policy {
            Some(policy) if policy != "compact" => Err(Error::config(format!(
                "topic '{topic}' holds source offsets and must keep them: its cleanup.policy must be 'compact', found \
                 '{policy}'; set that, or name another topic (offsets.storage.topic of the connector)"
            ))),
            _ => Ok(()),
        }
    }

    /// The newest claim. Claims are written outside of transactions, so nothing hides them.
    async fn last_claim(self: &Arc<Self>) -> Result<Option<Claim>> {
        let shared = Arc::clone(self);
        blocking(move || {
            let key = Claim::key(&shared.spec.connector);
            let mut read = shared.claims_read.lock();
            let (from, mut last) = (read.to, read.last.clone());
            let ranges = shared.reader.read(
                &shared.spec.offsets_topic,
                Some(CLAIM_PARTITION),
                from,
                Isolation::Uncommitted,
                |message| {
                    if message.key() == Some(&key[..]) {
                        last = message.payload().and_then(Claim::parse);
                    }
                },
            )?;
            read.to = ranges.iter().flat_map(BTreeMap::values).map(|range| range.end).max().unwrap_or(from);
            read.last.clone_from(&last);
            Ok(last)
        })
        .await
    }

    async fn write_claim(&self, claim: Claim) -> Result<()> {
        let record = ProducerRecord {
            topic: self.spec.offsets_topic.as_str().into(),
            partition: Some(CLAIM_PARTITION),
            key: Some(Claim::key(&self.spec.connector)),
            value: Some(claim.value()),
            timestamp: None,
            headers: Vec::new(),
        };
        let settings = &self.reader.settings;
        let config = settings.client_config(Role::Producer, &self.spec.settings)?;
        let name = format!("ottla-claim-{}", self.spec.connector);
        let mut producer =
            KafkaProducer::new(&name, &self.reader.bootstrap, config, self.offsets.clone() as Arc<dyn OffsetStore>)?;
        let written = producer.send(&[record], &SourceOffsets::new(), &self.spec.connector).await?;
        written.into_iter().try_for_each(|result| {
            result.map(drop).map_err(|error| Error::fatal(error.to_string()).during("claim the connector's offsets"))
        })
    }

    /// Whether the connector is still ours.
    ///
    /// # Errors
    ///
    /// `Fatal` where it is not.
    pub(super) async fn check_claim(self: &Arc<Self>) -> Result<()> {
        if !self.taken_over.load(Ordering::Acquire) {
            match self.last_claim().await? {
                Some(claim) if claim.instance == self.instance => return Ok(()),
                _ => self.taken_over.store(true, Ordering::Release),
            }
        }
        Err(Error::fatal(format!(
            "another process runs connector '{}' now, so it has ended here: only the one that started last writes; stop one of \
             the two, or give them different names",
            self.spec.connector
        )))
    }

    /// A producer of a task, after which no earlier one can write, and no transaction of an earlier one is undecided.
    pub(super) async fn initialise(&self, group: &str, task: usize) -> Result<Initialised> {
        // As Kafka Connect calls it (KIP-618).
        let id = format!("{group}-{}-{task}", self.spec.connector);
        let connection =
            Connection::new(&format!("connector-producer-{}-{task}", self.spec.connector), &self.reader.bootstrap);
        let mut config = self.config.clone();
        config.set("transactional.id", &id);
        if config.get("client.id").is_none() {
            config.set("client.id", format!("connector-producer-{}-{task}", self.spec.connector));
        }
        let doing = format!("fence earlier producers of '{id}'");
        let client: Client = config
            .create_with_context(Reports::new(connection.clone()))
            .map_err(|error| connection.failure(&doing, &error))?;
        let client = Arc::new(client);
        let (asked, timeout) = (client.clone(), self.timeout);
        let initialised = {
            let (connection, doing) = (connection.clone(), doing.clone());
            blocking(move || {
                asked.init_transactions(timeout).map_err(|error| {
                    let failure = connection.failure(&doing, &error);
                    // Somebody does the same at this moment; the claim will say who of us stays.
                    let race = matches!(
                        code_of(&error),
                        Some(
                            RDKafkaErrorCode::ConcurrentTransactions
                                | RDKafkaErrorCode::Fenced
                                | RDKafkaErrorCode::InvalidProducerEpoch
                                | RDKafkaErrorCode::ProducerFenced
                        )
                    );
                    if race { failure.of_kind(ErrorKind::Retriable) } else { failure }
                })
            })
            .await
        };
        match initialised {
            Ok(()) => Ok(Initialised { client, connection }),
            Err(error) => {
                drop_later(client);
                Err(error)
            }
        }
    }

    /// Reads all that is committed, behind which nothing may be undecided, in place of what was known.
    pub(super) async fn read_offsets(self: &Arc<Self>) -> Result<()> {
        let shared = Arc::clone(self);
        blocking(move || {
            let (own, fallback) = (&shared.spec.offsets_topic, &shared.spec.fallback_topic);
            let mut reading = shared.offsets.begin_reading();
            for (topic, own_topic) in [(own, true), (fallback, false)] {
                if !own_topic && fallback == own {
                    continue;
                }
                shared.reader.read(topic, None, 0, Isolation::Committed, |message| {
                    if let Some(key) = message.key() {
                        reading.take(key, message.payload(), place_of(message, own_topic));
                    }
                })?;
            }
            shared.offsets.finish_reading(reading);
            Ok(())
        })
        .await
    }

    /// Whether the record at this place was written by a committed transaction; nothing where an open one hides it for long.
    pub(super) async fn is_committed(self: &Arc<Self>, place: &TopicPartition, offset: i64) -> Result<Option<bool>> {
        let (shared, place) = (Arc::clone(self), place.clone());
        blocking(move || shared.reader.is_committed(&place, offset)).await
    }
}

#[async_trait]
impl Transactions for KafkaTransactions {
    async fn producer(self: Arc<Self>, task: usize) -> Result<Box<dyn Producer>> {
        let shared = &self;
        let mut ready = shared.ready.lock().await;
        let waiting = match &mut *ready {
            Some(waiting) => waiting.remove(&task),
            None => {
                let mut waiting = shared.take_over().await?;
                let own = waiting.remove(&task);
                *ready = Some(waiting);
                own
            }
        };
        drop(ready);
        let initialised = match waiting {
            Some(initialised) => initialised,
            // The task starts again. It may not know how its last transaction ended, and what it knows may not be so any more.
            None => {
                shared.check_claim().await?;
                let initialised = shared.initialise(&shared.spec.group, task).await?;
                shared.check_claim().await?;
                shared.read_offsets().await?;
                initialised
            }
        };
        Ok(Box::new(TransactionalProducer::new(Arc::clone(shared), task, initialised)))
    }

    fn offsets(&self) -> Arc<dyn OffsetStore> {
        self.offsets.clone()
    }

    fn taken_over(&self) -> bool {
        self.taken_over.load(Ordering::Acquire)
    }
}

impl fmt::Debug for KafkaTransactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KafkaTransactions({}-{}-*)", self.spec.group, self.spec.connector)
    }
}
