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
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::Notify;

use super::context::{Connection, kind_of};
use super::{PATIENCE, SLICE, blocking};
use crate::broker::{OffsetStore, Producer, ProducerRecord};

/// How long trouble may last before a call says so, in order that the status shows it.
const TROUBLE_MAX: Duration = Duration::from_secs(10);
/// Pause before a full queue is tried again.
pub(super) const QUEUE_PAUSE: Duration = Duration::from_millis(5);
/// How long reports are waited for before a look at how the client is.
pub(super) const REPORT_PAUSE: Duration = Duration::from_millis(500);

/// A producer of one task.
pub(super) struct KafkaProducer {
    config: ClientConfig,
    connection: Arc<Connection>,
    /// None after a fatal error, until the next call makes another.
    client: Option<Arc<Client>>,
    /// Whether the cluster has answered this client. Until then a call first finds out if it is there at all.
    reached: bool,
    batch: Option<Batch>,
    /// The records of a batch whose call ended before it did. The next call may be about the same ones.
    unfinished: Vec<ProducerRecord>,
    offsets: Arc<dyn OffsetStore>,
}

pub(super) type Client = ThreadedProducer<Reports>;
/// One that nobody listens to.
pub(super) type PlainClient = ThreadedProducer<DefaultProducerContext>;

/// What became of one record: partition and offset, or why there are none. Nothing while it is on its way.
pub(super) type Report = Option<Result<(i32, i64), KafkaError>>;

/// A batch that was given to librdkafka, at least in part.
///
/// It doesn't hold the records: they are the caller's, who names the same ones in every call.
pub(super) struct Batch {
    inbox: Arc<Inbox>,
    /// Number of the first record.
    first: usize,
    /// How many records librdkafka has, or has refused at once.
    pub(super) given: usize,
    /// How many reports come of those in all.
    expected: usize,
}

/// Where librdkafka's thread puts what became of the records of one client's newest batch: a number travels with each record,
/// and its report goes straight into the batch's own list. Whoever waits is woken once, when the last one is there.
#[derive(Default)]
pub(super) struct Inbox {
    reports: Mutex<BatchReports>,
    news: Notify,
}

#[derive(Default)]
struct BatchReports {
    /// Number of the first record. No two records of a client have the same one, so a report that comes too late is known by it.
    first: usize,
    reports: Vec<Report>,
    /// How many have come.
    arrived: usize,
    /// How many are failures, those included that librdkafka refused at once.
    failed: usize,
    /// How many somebody waits for.
    awaited: usize,
}

/// Takes librdkafka's log lines, troubles and delivery reports.
pub(super) struct Reports {
    connection: Arc<Connection>,
    inbox: Arc<Inbox>,
}

impl Reports {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self { connection, inbox: Arc::default() }
    }
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
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let report = match result {
            Ok(message) => {
                self.connection.is_well();
                Ok((message.partition(), message.offset()))
            }
            Err((error, _)) => Err(error.clone()),
        };
        self.inbox.take(number, report);
    }
}

impl Inbox {
    /// Makes room for the reports of so many records, and forgets those before. The number of the first one.
    fn begin(&self, len: usize) -> usize {
        let mut batch = self.reports.lock();
        batch.first = batch.first.wrapping_add(batch.reports.len());
        batch.reports.clear();
        batch.reports.resize_with(len, || None);
        (batch.arrived, batch.failed, batch.awaited) = (0, 0, 0);
        batch.first
    }

    /// Takes a report of librdkafka.
    fn take(&self, number: usize, report: Result<(i32, i64), KafkaError>) {
        let mut batch = self.reports.lock();
        let index = number.wrapping_sub(batch.first);
        // Nobody waits for the others any more.
        if index < batch.reports.len() {
            let failed = report.is_err();
            batch.reports[index] = Some(report);
            batch.arrived += 1;
            batch.failed += usize::from(failed);
            if failed || batch.arrived == batch.awaited {
                drop(batch);
                self.news.notify_one();
            }
        }
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
        let mut producer =
            Self { config, connection, client: None, reached: false, batch: None, unfinished: Vec::new(), offsets };
        producer.client()?;
        Ok(producer)
    }

    fn client(&mut self) -> Result<Arc<Client>> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let context = Reports::new(self.connection.clone());
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
    async fn deliver(&mut self, records: &[ProducerRecord]) -> Result<()> {
        let client = self.client()?;
        let Some(batch) = &mut self.batch else { return Ok(()) };
        loop {
            let queue_is_full = !batch.give_some(&client, records, records.len() - batch.given);
            if !queue_is_full && batch.missing() == 0 {
                return Ok(());
            }
            // With nothing of ours in it, only time makes room in a full queue.
            if queue_is_full && batch.missing() == 0 {
                tokio::time::sleep(QUEUE_PAUSE).await;
            } else if batch.news_within(if queue_is_full { QUEUE_PAUSE } else { REPORT_PAUSE }).await {
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
    async fn deliver_alone(&mut self, records: &[ProducerRecord]) -> Result<()> {
        let client = self.client()?;
        let Some(batch) = &mut self.batch else { return Ok(()) };
        if records.len() < 2 || !batch.has_failures() {
            return Ok(());
        }
        let too_large: Vec<usize> =
            batch.failures().into_iter().filter(|(_, error)| is_too_large(error)).map(|(index, _)| index).collect();
        for index in too_large {
            while !batch.give_one(&client, &records[index], index) {
                tokio::time::sleep(QUEUE_PAUSE).await;
            }
            while batch.missing() > 0 {
                batch.news_within(REPORT_PAUSE).await;
            }
        }
        Ok(())
    }

    /// The answer to a call, once all reports of its batch are there.
    fn results(&mut self, records: &[ProducerRecord]) -> Result<Vec<Result<(TopicPartition, i64)>>> {
        let Some(batch) = &self.batch else { return Ok(Vec::new()) };
        let results: Result<Vec<_>> = batch.with_reports(|reports| {
            let result = |(record, report): (&ProducerRecord, &Report)| match report {
                Some(Ok((partition, offset))) => {
                    Ok(Ok((TopicPartition { topic: record.topic.clone(), partition: *partition }, *offset)))
                }
                Some(Err(error)) if is_of_this_record(error) => {
                    Ok(Err(Error::data(format!("produce to topic '{}': {}", record.topic, text_of(error)))))
                }
                Some(Err(error)) => Err(self.connection.failure("produce", error)),
                None => Err(Error::retriable("produce: a record has no result")),
            };
            records.iter().zip(reports).map(result).collect()
        });
        if results.is_err() {
            self.batch = None;
        }
        results
    }
}

/// One call. If it ends before its batch does, its records are kept, so that the next call can tell whether it is about them.
struct Call<'a> {
    producer: &'a mut KafkaProducer,
    records: &'a [ProducerRecord],
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if self.producer.batch.is_some() {
            self.producer.unfinished = self.records.to_vec();
        }
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
        let unfinished = std::mem::take(&mut self.unfinished);
        if self.batch.is_none() || records.is_empty() || !are_same(&unfinished, records) {
            self.batch = None;
            if !records.is_empty() {
                self.reach().await?;
            }
            let client = self.client()?;
            self.batch = Some(Batch::new(&client, records.len()));
        }
        let call = Call { producer: self, records };
        call.producer.deliver(records).await?;
        call.producer.deliver_alone(records).await?;
        let results = call.producer.results(records)?;
        if results.iter().all(Result::is_ok) && !offsets.is_empty() {
            // G1: every record before them is durable. Should this fail, the next call only stores the offsets.
            let (store, connector, offsets) = (call.producer.offsets.clone(), connector.to_owned(), offsets.clone());
            blocking(move || store.put(&connector, &offsets)).await?;
        }
        call.producer.batch = None;
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
    /// The next batch of this client, of so many records. Reports of its last one are forgotten.
    pub(super) fn new(client: &Client, len: usize) -> Self {
        let inbox = client.client().context().inbox.clone();
        Self { first: inbox.begin(len), inbox, given: 0, expected: 0 }
    }

    /// How many reports are still to come of what was given.
    pub(super) fn missing(&self) -> usize {
        self.expected - self.inbox.reports.lock().arrived
    }

    /// Waits until something fails or nothing is missing of what was given, but not for longer than this. False where the
    /// time went by.
    pub(super) async fn news_within(&self, pause: Duration) -> bool {
        {
            let mut batch = self.inbox.reports.lock();
            batch.awaited = self.expected;
            if batch.arrived == self.expected {
                return true;
            }
        }
        tokio::time::timeout(pause, self.inbox.news.notified()).await.is_ok()
    }

    fn with_reports<T>(&self, look: impl FnOnce(&[Report]) -> T) -> T {
        look(&self.inbox.reports.lock().reports)
    }

    /// Takes the reports out, when no more are waited for.
    pub(super) fn into_reports(self) -> Vec<Report> {
        let mut batch = self.inbox.reports.lock();
        batch.first = batch.first.wrapping_add(batch.reports.len());
        std::mem::take(&mut batch.reports)
    }

    /// Whether a record failed so far.
    pub(super) fn has_failures(&self) -> bool {
        self.inbox.reports.lock().failed > 0
    }

    /// The records that failed so far, and why.
    fn failures(&self) -> Vec<(usize, KafkaError)> {
        self.with_reports(|reports| failures(reports).map(|(index, error)| (index, error.clone())).collect())
    }

    /// Gives librdkafka so many of the next records; false if its queue is full.
    pub(super) fn give_some(&mut self, client: &Client, records: &[ProducerRecord], count: usize) -> bool {
        for _ in 0..count {
            if !self.give_one(client, &records[self.given], self.given) {
                return false;
            }
            self.given += 1;
        }
        true
    }

    /// Gives librdkafka one record; false if its queue is full.
    pub(super) fn give_one(&mut self, client: &Client, record: &ProducerRecord, index: usize) -> bool {
        // librdkafka takes names as C does.
        if record.topic.contains('\0') || record.headers.iter().any(|(name, _)| name.contains('\0')) {
            self.refuse(index, KafkaError::MessageProduction(RDKafkaErrorCode::InvalidArgument));
            return true;
        }
        let number = self.first.wrapping_add(index);
        let mut message: BaseRecord<'_, [u8], [u8], _> = BaseRecord::with_opaque_to(&record.topic, number);
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
                self.expected += 1;
                true
            }
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => false,
            Err((error, _)) => {
                self.refuse(index, error);
                true
            }
        }
    }

    /// Notes that librdkafka did not take a record.
    fn refuse(&self, index: usize, error: KafkaError) {
        let mut batch = self.inbox.reports.lock();
        batch.failed += 1;
        batch.reports[index] = Some(Err(error));
    }
}

/// The records that failed, and why.
pub(super) fn failures(reports: &[Report]) -> impl Iterator<Item = (usize, &KafkaError)> {
    reports.iter().enumerate().filter_map(|(index, report)| match report {
        Some(Err(error)) => Some((index, error)),
        _ => None,
    })
}

/// Whether these are the same records. Their bytes are shared, so this rarely compares any.
pub(super) fn are_same(some: &[ProducerRecord], others: &[ProducerRecord]) -> bool {
    fn same(one: &Option<Bytes>, other: &Option<Bytes>) -> bool {
        match (one, other) {
            (Some(one), Some(other)) => one.len() == other.len() && (one.as_ptr() == other.as_ptr() || one == other),
            (None, None) => true,
            _ => false,
        }
    }
    some.len() == others.len()
        && some.iter().zip(others).all(|(one, other)| {
            one.topic == other.topic
                && one.partition == other.partition
                && one.timestamp == other.timestamp
                && one.headers == other.headers
                && same(&one.key, &other.key)
                && same(&one.value, &other.value)
        })
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
