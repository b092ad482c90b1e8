//! Writes batches in order, and stores the source offsets they reach once every record is durable (G1).
//!
//! librdkafka sends again what a broker did not confirm, numbered, so that a retry neither repeats nor reorders records. That
//! only holds as long as it is *its* retry. So a batch that was begun is never begun again: when [`Producer::send`] gives up
//! for now (the cluster is away, the future was dropped) the batch stays on its way, and the next call with the same records
//! waits on for it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ottla_api::offset::{SourceOffsets, TopicPartition};
use ottla_api::{Error, ErrorKind, Result};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::mpsc;

use super::context::{Connection, kind_of};
use super::{PATIENCE, SLICE, blocking};
use crate::broker::{OffsetStore, Producer, ProducerRecord};

/// How long trouble may last before a call says so, in order that the status shows it.
const TROUBLE_MAX: Duration = Duration::from_secs(10);
/// Pause before a full queue is tried again.
const QUEUE_PAUSE: Duration = Duration::from_millis(5);

/// A producer of one task.
pub(super) struct KafkaProducer {
    config: ClientConfig,
    connection: Arc<Connection>,
    /// None after a fatal error, until the next call makes another.
    client: Option<Arc<Client>>,
    /// Whether the cluster has answered this client. Until then a call first finds out if it is there at all.
    reached: bool,
    batch: Option<Batch>,
    offsets: Arc<dyn OffsetStore>,
}

pub(super) type Client = ThreadedProducer<Reports>;
/// One that nobody listens to.
pub(super) type PlainClient = ThreadedProducer<DefaultProducerContext>;

/// A batch that was given to librdkafka, at least in part.
pub(super) struct Batch {
    pub(super) records: Vec<ProducerRecord>,
    /// How many of them librdkafka has.
    pub(super) given: usize,
    /// How many results are missing of those.
    pub(super) missing: usize,
    pub(super) results: Vec<Option<Result<(TopicPartition, i64), KafkaError>>>,
    pub(super) reports: mpsc::UnboundedReceiver<Report>,
    reporter: mpsc::UnboundedSender<Report>,
}

pub(super) type Report = (usize, Result<(i32, i64), KafkaError>);

/// Takes librdkafka's log lines, troubles and delivery reports.
pub(super) struct Reports {
    pub(super) connection: Arc<Connection>,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.connection.log_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.connection.error(&error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<(usize, mpsc::UnboundedSender<Report>)>;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: Self::DeliveryOpaque) {
        let (index, reporter) = *opaque;
        let report = match result {
            Ok(message) => {
                self.connection.is_well();
                Ok((message.partition(), message.offset()))
            }
            Err((error, _)) => Err(error.clone()),
        };
        // Nobody waits any more: the task has ended.
        let _ = reporter.send((index, report));
    }
}

impl KafkaProducer {
    pub(super) fn new(
        client_id: &str,
        bootstrap: &str,
        mut config: ClientConfig,
        offsets: Arc<dyn OffsetStore>,
    ) -> Result<Self> {
        if config.get("client.id").is_none() {
            config.set("client.id", client_id);
        }
        let connection = Connection::new(client_id, bootstrap);
        let mut producer = Self { config, connection, client: None, reached: false, batch: None, offsets };
        producer.client()?;
        Ok(producer)
    }

    fn client(&mut self) -> Result<Arc<Client>> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let context = Reports { connection: self.connection.clone() };
        let client: Client = self
            .config
            .create_with_context(context)
            .map_err(|error| self.connection.failure("make a producer", &error))?;
        Ok(self.client.insert(Arc::new(client)).clone())
    }

    /// Finds out whether the cluster answers, before anything is given to a client that would wait for ever.
    async fn reach(&mut self) -> Result<()> {
        if self.reached {
            return Ok(());
        }
        let (client, connection) = (self.client()?, self.connection.clone());
        blocking(move || {
            let begun = std::time::Instant::now();
            loop {
                match client.client().fetch_metadata(None, SLICE) {
                    Ok(_) => {
                        connection.is_well();
                        return Ok(());
                    }
                    Err(error) => {
                        let failure = connection.failure("connect a producer", &error);
                        let known = connection.trouble().is_some();
                        if known || !failure.is_retriable() || begun.elapsed() > PATIENCE {
                            return Err(failure);
                        }
                    }
                }
            }
        })
        .await?;
        self.reached = true;
        Ok(())
    }

    /// Gives librdkafka what it does not have yet of the batch, and waits for the results of all of it.
    async fn deliver(&mut self) -> Result<()> {
        let client = self.client()?;
        let Some(batch) = &mut self.batch else { return Ok(()) };
        loop {
            batch.take_reports();
            batch.give(&client);
            if batch.given == batch.records.len() && batch.missing == 0 {
                return Ok(());
            }
            let pause = if batch.given < batch.records.len() { QUEUE_PAUSE } else { Duration::from_millis(500) };
            if let Ok(Some(report)) = tokio::time::timeout(pause, batch.reports.recv()).await {
                batch.take(report);
                continue;
            }
            if let Some((code, reason)) = client.client().fatal_error() {
                // This client is of no use any more; what it did not confirm is sent again by the next one.
                self.client = None;
                self.batch = None;
                drop_later(client);
                return Err(Error::retriable(format!("produce: the producer failed ({code}): {reason}")));
            }
            if self.connection.troubled_for().is_some_and(|time| time > TROUBLE_MAX)
                && let Some(trouble) = self.connection.trouble()
            {
                let error = self.connection.trouble_error(&trouble).during("produce");
                // The records are with librdkafka, which goes on trying.
                return Err(if error.is_retriable() { error } else { error.of_kind(ErrorKind::RefreshAuth) });
            }
        }
    }

    /// Records that failed because the request they shared with others was too large for the topic: each alone, once more.
    async fn deliver_alone(&mut self) -> Result<()> {
        let client = self.client()?;
        let Some(batch) = &mut self.batch else { return Ok(()) };
        if batch.records.len() < 2 {
            return Ok(());
        }
        for index in 0..batch.records.len() {
            if !matches!(&batch.results[index], Some(Err(error)) if is_too_large(error)) {
                continue;
            }
            while !batch.give_one(&client, index) {
                tokio::time::sleep(QUEUE_PAUSE).await;
            }
            while batch.missing > 0 {
                match batch.reports.recv().await {
                    Some(report) => batch.take(report),
                    None => break,
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Producer for KafkaProducer {
    async fn send(
        &mut self,
        records: &[ProducerRecord],
        offsets: &SourceOffsets,
        connector: &str,
    ) -> Result<Vec<Result<(TopicPartition, i64)>>> {
        if !self.batch.as_ref().is_some_and(|batch| batch.is_of(records)) {
            if !records.is_empty() {
                self.reach().await?;
            }
            self.batch = Some(Batch::new(records));
        }
        self.deliver().await?;
        self.deliver_alone().await?;

        let Some(batch) = &self.batch else { return Ok(Vec::new()) };
        let mut results = Vec::with_capacity(batch.results.len());
        for (record, result) in batch.records.iter().zip(&batch.results) {
            results.push(match result {
                Some(Ok(place)) => Ok(place.clone()),
                Some(Err(error)) if is_of_this_record(error) => {
                    Err(Error::data(format!("produce to topic '{}': {}", record.topic, text_of(error))))
                }
                Some(Err(error)) => {
                    let failure = self.connection.failure("produce", error);
                    self.batch = None;
                    return Err(failure);
                }
                None => {
                    self.batch = None;
                    return Err(Error::retriable("produce: a record has no result"));
                }
            });
        }
        if results.iter().all(Result::is_ok) && !offsets.is_empty() {
            // G1: every record before them is durable. Should this fail, the next call only stores the offsets.
            let (store, connector, offsets) = (self.offsets.clone(), connector.to_owned(), offsets.clone());
            blocking(move || store.put(&connector, &offsets)).await?;
        }
        self.batch = None;
        Ok(results)
    }
}

impl Drop for KafkaProducer {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            drop_later(client);
        }
    }
}

/// The destructor waits for the client's thread, and for records that are on their way to be given up.
pub(super) fn drop_later(client: Arc<Client>) {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(move || drop(client))),
        Err(_) => drop(client),
    }
}

impl Batch {
    pub(super) fn new(records: &[ProducerRecord]) -> Self {
        let (reporter, reports) = mpsc::unbounded_channel();
        Self {
            records: records.to_vec(),
            given: 0,
            missing: 0,
            results: records.iter().map(|_| None).collect(),
            reports,
            reporter,
        }
    }

    /// Whether these are the records of this batch.
    pub(super) fn is_of(&self, records: &[ProducerRecord]) -> bool {
        !records.is_empty() && self.records.len() == records.len() && self.begins_with(records)
    }

    /// Whether these are its first records. Their bytes are shared, so this rarely compares any.
    pub(super) fn begins_with(&self, records: &[ProducerRecord]) -> bool {
        fn same(one: &Option<Bytes>, other: &Option<Bytes>) -> bool {
            match (one, other) {
                (Some(one), Some(other)) => {
                    one.len() == other.len() && (one.as_ptr() == other.as_ptr() || one == other)
                }
                (None, None) => true,
                _ => false,
            }
        }
        self.records.len() >= records.len()
            && self.records.iter().zip(records).all(|(one, other)| {
                one.topic == other.topic
                    && one.partition == other.partition
                    && one.timestamp == other.timestamp
                    && one.headers == other.headers
                    && same(&one.key, &other.key)
                    && same(&one.value, &other.value)
            })
    }

    /// The records that failed so far, and why.
    pub(super) fn failures(&self) -> impl Iterator<Item = (usize, &KafkaError)> {
        self.results.iter().enumerate().filter_map(|(index, result)| match result {
            Some(Err(error)) => Some((index, error)),
            _ => None,
        })
    }

    /// Gives librdkafka so many of the next records; false if its queue is full.
    pub(super) fn give_some(&mut self, client: &Client, count: usize) -> bool {
        for _ in 0..count {
            if !self.give_one(client, self.given) {
                return false;
            }
            self.given += 1;
        }
        true
    }

    /// Gives librdkafka as many records as its queue takes.
    fn give(&mut self, client: &Client) {
        self.give_some(client, self.records.len() - self.given);
    }

    /// Gives librdkafka one record; false if its queue is full.
    pub(super) fn give_one(&mut self, client: &Client, index: usize) -> bool {
        let record = &self.records[index];
        // librdkafka takes names as C does.
        if record.topic.contains('\0') || record.headers.iter().any(|(name, _)| name.contains('\0')) {
            self.results[index] = Some(Err(KafkaError::MessageProduction(RDKafkaErrorCode::InvalidArgument)));
            return true;
        }
        let mut message: BaseRecord<'_, [u8], [u8], _> =
            BaseRecord::with_opaque_to(&record.topic, Box::new((index, self.reporter.clone())));
        message.partition = record.partition;
        message.key = record.key.as_deref();
        message.payload = record.value.as_deref();
        // librdkafka takes 0, the first millisecond of 1970, for "now"; the second one is nearer to it.
        message.timestamp = record.timestamp.map(|millis| millis.max(1));
        if !record.headers.is_empty() {
            let headers = OwnedHeaders::new_with_capacity(record.headers.len());
            message.headers = Some(
                record
                    .headers
                    .iter()
                    .fold(headers, |headers, (key, value)| headers.insert(Header { key, value: value.as_deref() })),
            );
        }
        match client.send(message) {
            Ok(()) => {
                self.results[index] = None;
                self.missing += 1;
                true
            }
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => false,
            Err((error, _)) => {
                self.results[index] = Some(Err(error));
                true
            }
        }
    }

    pub(super) fn take_reports(&mut self) {
        while let Ok(report) = self.reports.try_recv() {
            self.take(report);
        }
    }

    pub(super) fn take(&mut self, (index, report): Report) {
        let topic = &self.records[index].topic;
        self.missing -= 1;
        self.results[index] =
            Some(report.map(|(partition, offset)| (TopicPartition::new(topic.clone(), partition), offset)));
    }
}

pub(super) fn text_of(error: &KafkaError) -> String {
    error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string())
}

pub(super) fn is_too_large(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::MessageBatchTooLarge)
    )
}

/// Errors that the next record need not share.
pub(super) fn is_of_this_record(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(
            Code::InvalidArgument
            | Code::InvalidMessage
            | Code::InvalidMessageSize
            | Code::InvalidRecord
            | Code::InvalidTimestamp
            | Code::InvalidTopic
            | Code::MessageBatchTooLarge
            | Code::MessageSizeTooLarge
            | Code::PolicyViolation
            | Code::TopicAuthorizationFailed
            | Code::UnknownPartition
            | Code::UnknownTopic
            | Code::UnknownTopicOrPartition
            | Code::UnsupportedForMessageFormat,
        ) => true,
        Some(code) => kind_of(code) == ErrorKind::PoisonRecord,
        None => false,
    }
}
