//! What librdkafka tells by itself: log lines, troubles, rebalances. And its errors in our words.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ottla_api::offset::TopicPartition;
use ottla_api::{Error, ErrorKind};
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;

/// What is known about the connection of one client.
#[derive(Debug)]
pub(super) struct Connection {
    /// Whose, for log lines.
    client: String,
    /// Where to, for errors.
    bootstrap: String,
    trouble: Mutex<Option<Trouble>>,
    /// A request may have been sent without its answer being read since this was last asked.
    disturbed: AtomicBool,
}

/// Why the cluster can't be used at the moment.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    pub(super) kind: ErrorKind,
    pub(super) reason: String,
    pub(super) since: Instant,
}

impl Connection {
    pub(super) fn new(client: &str, bootstrap: &str) -> Arc<Self> {
        Arc::new(Self {
            client: client.to_owned(),
            bootstrap: bootstrap.to_owned(),
            trouble: Mutex::new(None),
            disturbed: AtomicBool::new(false),
        })
    }

    /// Whether connections failed or requests timed out since the last call. librdkafka sends such requests again by itself, so
    /// copies of them may still be under way.
    pub(super) fn take_disturbance(&self) -> bool {
        self.disturbed.swap(false, Ordering::AcqRel)
    }

    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.trouble.lock().clone()
    }

    /// The cluster has answered.
    pub(super) fn is_well(&self) {
        *self.trouble.lock() = None;
    }

    /// How long there has been trouble.
    pub(super) fn troubled_for(&self) -> Option<Duration> {
        self.trouble.lock().as_ref().map(|trouble| trouble.since.elapsed())
    }

    fn note(&self, kind: ErrorKind, reason: &str) {
        let mut trouble = self.trouble.lock();
        let since = trouble.as_ref().map_or_else(Instant::now, |trouble| trouble.since);
        // "All brokers are down" follows the failure that says why.
        if let Some(known) = &*trouble
            && (kind == ErrorKind::Unreachable && (known.kind != kind || reason.contains("brokers are down")))
        {
            return;
        }
        *trouble = Some(Trouble { kind, reason: reason.to_owned(), since });
    }

    pub(super) fn log_line(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        if matches!(facility, "FAIL" | "ERROR" | "REQTMOUT" | "TXNERR") {
            self.disturbed.store(true, Ordering::Release);
        }
        let client = &self.client;
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::error!(target: "ottla::kafka", %client, %facility, "{line}");
            }
            RDKafkaLogLevel::Warning => tracing::warn!(target: "ottla::kafka", %client, %facility, "{line}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(target: "ottla::kafka", %client, %facility, "{line}");
            }
            RDKafkaLogLevel::Debug => tracing::debug!(target: "ottla::kafka", %client, %facility, "{line}"),
        }
    }

    pub(super) fn error(&self, error: &KafkaError, reason: &str) {
        self.disturbed.store(true, Ordering::Release);
        let kind = error.rdkafka_error_code().map_or(ErrorKind::Fatal, kind_of);
        if matches!(kind, ErrorKind::Unreachable | ErrorKind::RefreshAuth | ErrorKind::Config) {
            self.note(kind, reason);
        }
        tracing::debug!(target: "ottla::kafka", client = %self.client, "{error}: {reason}");
    }

    /// An error of librdkafka as ours: what was being done, at which address, and why it failed.
    pub(super) fn failure(&self, doing: &str, error: &KafkaError) -> Error {
        let code = code_of(error);
        let kind = match error {
            KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) => ErrorKind::Config,
            KafkaError::Canceled => ErrorKind::Retriable,
            _ => code.map_or(ErrorKind::Fatal, kind_of),
        };
        if kind == ErrorKind::Unreachable
            && let Some(trouble) = self.trouble()
        {
            return self.trouble_error(&trouble).during(doing);
        }
        let text = match (error, code) {
            (KafkaError::ClientCreation(reason), _) => reason.clone(),
            (_, Some(code)) => code.to_string(),
            (other, None) => other.to_string(),
        };
        let bootstrap = &self.bootstrap;
        match kind {
            ErrorKind::Unreachable => Error::unreachable(format!("Kafka at {bootstrap} can't be reached: {text}")),
            ErrorKind::RefreshAuth => Error::refresh_auth(format!("Kafka at {bootstrap} refuses access: {text}")),
            kind => Error::new(kind, format!("Kafka at {bootstrap}: {text}")),
        }
        .during(doing)
    }

    /// Trouble as an error.
    pub(super) fn trouble_error(&self, trouble: &Trouble) -> Error {
        let (bootstrap, reason) = (&self.bootstrap, &trouble.reason);
        Error::new(
            trouble.kind,
            match trouble.kind {
                ErrorKind::RefreshAuth => format!("Kafka at {bootstrap} refuses the credentials: {reason}"),
                ErrorKind::Config => format!("no secure connection to Kafka at {bootstrap}: {reason}"),
                _ => format!("Kafka at {bootstrap} can't be reached: {reason}"),
            },
        )
    }
}

/// The code of any error that has one.
pub(super) fn code_of(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// What follows from an error code.
pub(super) fn kind_of(code: RDKafkaErrorCode) -> ErrorKind {
    use RDKafkaErrorCode as Code;
    match code {
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::ClusterAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::TopicAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed => ErrorKind::RefreshAuth,
        Code::SSL | Code::UnsupportedSASLMechanism => ErrorKind::Config,
        Code::AllBrokersDown
        | Code::BrokerNotAvailable
        | Code::BrokerTransportFailure
        | Code::CoordinatorNotAvailable
        | Code::NetworkException
        | Code::OperationTimedOut
        | Code::RequestTimedOut
        | Code::Resolve
        | Code::TimedOutQueue
        | Code::MessageTimedOut
        | Code::WaitingForCoordinator => ErrorKind::Unreachable,
        Code::CoordinatorLoadInProgress
        | Code::DestroyBroker
        | Code::FencedLeaderEpoch
        | Code::InProgress
        | Code::ISRInsufficient
        | Code::KafkaStorageError
        | Code::LeaderNotAvailable
        | Code::NodeUpdate
        | Code::NotController
        | Code::NotCoordinator
        | Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend
        | Code::NotLeaderForPartition
        | Code::OffsetNotAvailable
        | Code::PreviousInProgress
        | Code::PurgeInflight
        | Code::PurgeQueue
        | Code::QueueFull
        | Code::RebalanceInProgress
        | Code::ReplicaNotAvailable
        | Code::ThrottlingQuotaExceeded
        | Code::UnknownLeaderEpoch
        | Code::UnstableOffsetCommit
        | Code::WaitCache => ErrorKind::Retriable,
        _ => ErrorKind::Fatal,
    }
}

/// Partitions as librdkafka wants them.
pub(super) fn partition_list<'a>(
    partitions: impl IntoIterator<Item = (&'a TopicPartition, Offset)>,
) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in partitions {
        let mut element = list.add_partition(&partition.topic, partition.partition);
        // Only negative numbers are refused, and nobody passes one.
        let _ = element.set_offset(offset);
    }
    list
}

/// The partitions of librdkafka's list.
pub(super) fn partitions_of(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements().iter().map(|element| TopicPartition::new(element.topic(), element.partition())).collect()
}

/// What the group has decided about our partitions.
#[derive(Debug)]
pub(super) enum Rebalance {
    Assign(Vec<TopicPartition>),
    Revoke(Vec<TopicPartition>),
    Lost(Vec<TopicPartition>),
}

/// A consumer's side of librdkafka. What happens is only written down: the thread that polls acts on it afterwards.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) connection: Arc<Connection>,
    pub(super) rebalances: Mutex<Vec<Rebalance>>,
    /// The consumer is being closed: nobody acts on rebalances any more, they are agreed to at once.
    pub(super) closing: AtomicBool,
    /// How many of the group's decisions were answered since then.
    pub(super) answers: AtomicUsize,
    /// How often librdkafka has told something. A poll that came upon that says it found nothing.
    pub(super) heard: AtomicUsize,
}

impl Context {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self {
            connection,
            rebalances: Mutex::new(Vec::new()),
            closing: AtomicBool::new(false),
            answers: AtomicUsize::new(0),
            heard: AtomicUsize::new(0),
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.heard.fetch_add(1, Ordering::AcqRel);
        self.connection.log_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.connection.error(&error, reason);
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        self.heard.fetch_add(1, Ordering::AcqRel);
        let partitions = partitions_of(list);
        let assigned = kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Acquire) {
            self.answers.fetch_add(1, Ordering::AcqRel);
            let nothing = TopicPartitionList::new();
            let result =
                if assigned { consumer.incremental_assign(&nothing) } else { consumer.incremental_unassign(&nothing) };
            if let Err(error) = result {
                tracing::warn!("leave group: {error}");
            }
            return;
        }
        self.rebalances.lock().push(match assigned {
            true => Rebalance::Assign(partitions),
            false if consumer.assignment_lost() => Rebalance::Lost(partitions),
            false => Rebalance::Revoke(partitions),
        });
    }
}
