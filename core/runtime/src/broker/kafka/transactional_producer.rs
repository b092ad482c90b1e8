//! Writes the batches of one task, each with the source offsets it reaches as one transaction.
//!
//! # What became of a transaction
//!
//! The answer to a commit can get lost, and librdkafka's ways to go on with the same producer have had their defects; worse, a
//! commit that was only delayed may end a *later* transaction of the same producer (KAFKA-17754). So after any error of any call
//! the producer is thrown away. The next one's initialisation decides the transaction, one way or the other, and its new epoch
//! makes the broker refuse what the old one may still have under way. Then the topic tells: the last record of the transaction is
//! visible to readers of committed records, or it is not. Only now is the batch done, or sent again.
//!
//! The same is done, quietly, after a commit that succeeded while connections failed: librdkafka had to ask twice, and the first
//! question may still arrive.
//!
//! Even the answer that a transaction is committed is not the last word. Its markers are written after that answer, and a broker
//! that is killed in between and starts again may forget them: Kafka 4.3's coordinator takes partitions that have no leader at
//! that moment for deleted ones and calls the transaction complete. In the partitions it stays open then, until the next marker
//! of this producer, and if that is an abort, the records are gone. So the last transaction is kept until the one after it is
//! committed; whenever a producer had to be replaced in between, its last record is looked for as well. If it stays hidden, an
//! aborted transaction over the same partitions ends what is open there. If it is gone, the transaction is written once more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use ottla_api::offset::{SourceOffsets, TopicPartition};
use ottla_api::{Error, ErrorKind, Result};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer as _};

use super::blocking;
use super::offsets::{Place, hidden_in};
use super::producer::{
    Batch, Client, QUEUE_PAUSE, REPORT_PAUSE, Report, are_same, drop_later, failures, is_of_this_record, is_too_large,
    text_of,
};
use super::transactions::{Initialised, KafkaTransactions};
use crate::broker::{Producer, ProducerRecord};

/// How long trouble may last before a call says so, in order that the status shows it.
const TROUBLE_MAX: Duration = Duration::from_secs(10);
/// How long an abort by a producer that goes away may take; the broker's timeout does the rest.
const LAST_ABORT_MAX: Duration = Duration::from_secs(5);

/// A producer of one task.
pub(super) struct TransactionalProducer {
    shared: Arc<KafkaTransactions>,
    task: usize,
    /// None after an error, until the next call makes another.
    current: Option<Initialised>,
    /// A transaction was begun with it and has not ended.
    open: bool,
    /// A commit was asked for, and nobody knows what became of it.
    doubt: Option<Arc<Transaction>>,
    /// The last one that was committed, as the cluster said.
    last: Option<Arc<Transaction>>,
    /// The producer was thrown away since then.
    last_in_doubt: bool,
    /// Topics whose last requests were too large for them: their records are sent one by one, until a batch succeeds.
    alone: BTreeSet<Arc<str>>,
}

/// A transaction that was written, and perhaps committed.
struct Transaction {
    /// The caller's records, then one for each source offset.
    batch: Vec<ProducerRecord>,
    /// What became of each.
    reports: Vec<Report>,
    /// How many of them are the caller's.
    records: usize,
    offsets: SourceOffsets,
}

impl Transaction {
    fn is_of(&self, records: &[ProducerRecord], offsets: &SourceOffsets) -> bool {
        self.records == records.len() && self.offsets == *offsets && are_same(&self.batch[..self.records], records)
    }

    /// The caller's records, each to the partition that it went to.
    fn pinned(&self) -> Vec<ProducerRecord> {
        let pin = |(index, record): (usize, &ProducerRecord)| {
            let partition = self.place(index).map(|(at, _)| at.partition).or(record.partition);
            ProducerRecord { partition, ..record.clone() }
        };
        self.batch[..self.records].iter().enumerate().map(pin).collect()
    }

    /// Where its last record lies.
    fn last_place(&self) -> Option<(TopicPartition, i64)> {
        self.place(self.batch.len().checked_sub(1)?)
    }

    /// Where the record at this index lies.
    fn place(&self, index: usize) -> Option<(TopicPartition, i64)> {
        match self.reports.get(index)? {
            Some(Ok((partition, offset))) => {
                Some((TopicPartition::new(self.batch[index].topic.clone(), *partition), *offset))
            }
            _ => None,
        }
    }

    fn places(&self) -> Vec<Result<(TopicPartition, i64)>> {
        let unknown = || Error::fatal("produce: a record of a committed transaction has no place");
        (0..self.records).map(|index| self.place(index).ok_or_else(unknown)).collect()
    }
}

/// What came of writing a transaction.
enum Written {
    /// All of it has arrived.
    Whole(Transaction),
    /// A record was refused, and everything was aborted.
    Refused(Transaction),
}

impl TransactionalProducer {
    pub(super) fn new(shared: Arc<KafkaTransactions>, task: usize, initialised: Initialised) -> Self {
        Self {
            shared,
            task,
            current: Some(initialised),
            open: false,
            doubt: None,
            last: None,
            last_in_doubt: false,
            alone: BTreeSet::new(),
        }
    }

    /// Throws the producer away. The broker aborts what it had begun when the next one is initialised.
    fn discard(&mut self) {
        self.open = false;
        self.last_in_doubt = true;
        if let Some(current) = self.current.take() {
            drop_later(current.client);
        }
    }

    /// The producer, a new one where the last was thrown away.
    async fn current(&mut self) -> Result<Initialised> {
        if let Some(current) = &self.current {
            return Ok(current.clone());
        }
        // If somebody has taken over, he is not to be fenced; and if he does so meanwhile, he is seen afterwards.
        self.shared.check_claim().await?;
        let initialised = self.shared.initialise(&self.shared.spec.group, self.task).await?;
        self.shared.check_claim().await?;
        Ok(self.current.insert(initialised).clone())
    }

    /// Finds out what became of a transaction that is in doubt. Answers whether it was this batch's, and was committed.
    async fn settle(
        &mut self,
        records: &[ProducerRecord],
        offsets: &SourceOffsets,
    ) -> Result<Option<Vec<Result<(TopicPartition, i64)>>>> {
        if self.open || self.doubt.is_some() {
            // Also where the last call was dropped half-way.
            self.discard();
        }
        if let Some(doubt) = self.doubt.clone() {
            // If it is committed, its markers have ended the one before as well, where that was still open.
            if self.is_committed(&doubt).await? {
                self.doubt = None;
                self.take_up(&doubt);
                let places = doubt.is_of(records, offsets).then(|| doubt.places());
                self.keep(doubt);
                return Ok(places);
            }
            self.doubt = None;
        }
        self.restore_last().await?;
        Ok(None)
    }

    /// Writes the last transaction once more if the cluster has lost it after all. Only the end of a producer can do that.
    async fn restore_last(&mut self) -> Result<()> {
        if !self.last_in_doubt {
            return Ok(());
        }
        let Some(last) = self.last.clone() else { return Ok(()) };
        if self.is_committed(&last).await? {
            self.last_in_doubt = false;
            return Ok(());
        }
        tracing::warn!(
            records = last.records,
            "the cluster has lost a transaction that it had called committed; it is written \
            once more"
        );
        let results = self.attempt(&last.pinned(), &last.offsets).await.inspect_err(|_| self.discard())?;
        let Some(refusal) = results.into_iter().find_map(Result::err) else { return Ok(()) };
        Err(refusal
            .of_kind(ErrorKind::Fatal)
            .during("the cluster has lost a transaction that it had called committed, and now refuses its records"))
    }

    /// Finds out whether a transaction of an earlier producer was committed.
    async fn is_committed(&mut self, transaction: &Transaction) -> Result<bool> {
        let Some((partition, offset)) = transaction.last_place() else { return Ok(false) };
        self.current().await?;
        let mut committed = self.shared.is_committed(&partition, offset).await?;
        if committed.is_none() {
            // It may be hidden by itself: the cluster thinks that it has ended, and its partitions never heard of that.
            tracing::warn!(at = %partition, offset, "a transaction stays open: one that is aborted ends it, if it is ours");
            let written = self.write(&transaction.pinned(), &transaction.offsets).await;
            if let Written::Whole(_) = written.inspect_err(|_| self.discard())? {
                let aborted = self.end("abort", |client, timeout| client.abort_transaction(timeout)).await;
                aborted.inspect_err(|_| self.discard())?;
            }
            committed = self.shared.is_committed(&partition, offset).await?;
        }
        let committed =
            committed.ok_or_else(|| hidden_in(&partition).during("find out what became of a transaction"))?;
        tracing::info!(committed, at = %partition, offset, "found out what became of the last transaction");
        Ok(committed)
    }

    /// Keeps what was committed last. Without an offset it could not be told from what a topic has removed in the meantime; the
    /// offsets' topic keeps the last record of each key.
    fn keep(&mut self, transaction: Arc<Transaction>) {
        self.last_in_doubt = self.current.is_none();
        self.last = (!transaction.offsets.is_empty()).then_some(transaction);
    }

    /// Makes committed offsets known to the connector's tasks.
    fn take_up(&self, transaction: &Transaction) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64);
        for (index, record) in transaction.batch.iter().enumerate().skip(transaction.records) {
            if let (Some(key), Some((at, offset))) = (&record.key, transaction.place(index)) {
                let place = Place { own_topic: true, partition: at.partition, offset, timestamp: now };
                self.shared.offsets.take(key, record.value.as_deref(), place);
            }
        }
    }

    /// The caller's records, and one for each offset.
    fn batch_of(&self, records: &[ProducerRecord], offsets: &SourceOffsets) -> Vec<ProducerRecord> {
        let topic: Arc<str> = self.shared.spec.offsets_topic.as_str().into();
        let offsets = offsets.iter().map(|(partition, offset)| ProducerRecord {
            topic: topic.clone(),
            partition: None,
            key: Some(self.shared.offsets.key(partition)),
            value: Some(Bytes::from(offset.to_json())),
            timestamp: None,
            headers: Vec::new(),
        });
        records.iter().cloned().chain(offsets).collect()
    }

    /// Begins a transaction and writes all of it.
    async fn write(&mut self, records: &[ProducerRecord], offsets: &SourceOffsets) -> Result<Written> {
        let Initialised { client, connection } = self.current().await?;
        // What went wrong while nothing was under way can't matter.
        connection.take_disturbance();
        let begin = client.begin_transaction();
        begin.map_err(|error| indefinite(connection.failure("begin a transaction", &error)))?;
        self.open = true;
        let outside = offsets_outside_of_transactions();
        let all = self.batch_of(records, if outside { const { &SourceOffsets::new() } } else { offsets });
        let mut batch = Batch::new(&client, all.len());
        let begun = Instant::now();
        while (batch.given < all.len() || batch.missing() > 0) && !batch.has_failures() {
            let next = batch.given;
            let alone = all.get(next).is_some_and(|record| self.alone.contains(&record.topic));
            let mut waits_for_queue = false;
            if alone && batch.missing() == 0 {
                waits_for_queue = !batch.give_one(&client, &all[next], next);
                batch.given += usize::from(!waits_for_queue);
            } else if !alone {
                let limit = all[next..].iter().take_while(|record| !self.alone.contains(&record.topic)).count();
                waits_for_queue = !batch.give_some(&client, &all, limit);
            }
            if batch.missing() == 0 {
                if waits_for_queue {
                    tokio::time::sleep(QUEUE_PAUSE).await;
                }
                continue;
            }
            let pause = if waits_for_queue { QUEUE_PAUSE } else { REPORT_PAUSE };
            if batch.news_within(pause).await {
                continue;
            }
            if let Some((code, reason)) = client.client().fatal_error() {
                return Err(Error::retriable(format!("produce: the producer failed ({code}): {reason}")));
            }
            if connection.troubled_for().is_some_and(|time| time > TROUBLE_MAX)
                && let Some(trouble) = connection.trouble()
            {
                let error = connection.trouble_error(&trouble).during("produce");
                return Err(if error.is_retriable() { error } else { error.of_kind(ErrorKind::RefreshAuth) });
            }
            if begun.elapsed() > self.shared.timeout {
                return Err(Error::unreachable(format!(
                    "produce: the batch was not acknowledged within transaction.timeout.ms ({} ms)",
                    self.shared.timeout.as_millis()
                )));
            }
        }
        let (count, offsets) = (records.len(), offsets.clone());
        let ended = |batch: Batch| Transaction { batch: all, reports: batch.into_reports(), records: count, offsets };
        if !batch.has_failures() {
            return Ok(Written::Whole(ended(batch)));
        }
        // The records that librdkafka still holds are given back by the abort.
        self.end("abort", move |client, timeout| client.abort_transaction(timeout)).await?;
        let deadline = Instant::now() + Duration::from_secs(1);
        while batch.missing() > 0 && Instant::now() < deadline {
            batch.news_within(Duration::from_millis(100)).await;
        }
        Ok(Written::Refused(ended(batch)))
    }

    /// Commits or aborts.
    async fn end(
        &mut self,
        doing: &'static str,
        call: impl FnOnce(&Client, Duration) -> Result<(), KafkaError> + Send + 'static,
    ) -> Result<()> {
        let Some(Initialised { client, connection }) = self.current.clone() else {
            return Err(Error::retriable(format!("{doing} a transaction: there is no producer")));
        };
        let timeout = self.shared.timeout;
        let doing = format!("{doing} a transaction");
        let ended =
            blocking(move || call(&client, timeout).map_err(|error| indefinite(connection.failure(&doing, &error))))
                .await;
        if ended.is_ok() {
            self.open = false;
        }
        ended
    }

    /// Commits what was written.
    async fn commit(&mut self, transaction: Transaction) -> Result<Vec<Result<(TopicPartition, i64)>>> {
        // From here on, until an answer says otherwise, nobody knows.
        let transaction = Arc::new(transaction);
        self.doubt = Some(Arc::clone(&transaction));
        self.end("commit", |client, timeout| client.commit_transaction(timeout)).await?;
        self.doubt = None;
        self.take_up(&transaction);
        if self.current.as_ref().is_some_and(|current| current.connection.take_disturbance()) {
            tracing::debug!("connections failed during a commit: the next transaction gets a producer of its own");
            self.discard();
        }
        if let Some(current) = &self.current {
            current.connection.is_well();
        }
        if offsets_outside_of_transactions() {
            self.write_offsets_outside(&transaction.offsets)?;
        }
        let places = transaction.places();
        self.keep(transaction);
        Ok(places)
    }

    /// One try at a batch, from its first record to the answer to its commit.
    async fn attempt(
        &mut self,
        records: &[ProducerRecord],
        offsets: &SourceOffsets,
    ) -> Result<Vec<Result<(TopicPartition, i64)>>> {
        loop {
            let refused = match self.write(records, offsets).await? {
                Written::Whole(transaction) => {
                    let results = self.commit(transaction).await?;
                    self.alone.clear();
                    return Ok(results);
                }
                Written::Refused(refused) => refused,
            };
            // A request holds several records. If it was too large for its topic, some of them may still fit alone.
            let crowded: Vec<Arc<str>> = failures(&refused.reports)
                .filter(|(_, error)| is_too_large(error))
                .map(|(index, _)| refused.batch[index].topic.clone())
                .filter(|topic| !self.alone.contains(topic))
                .filter(|topic| refused.batch.iter().filter(|record| record.topic == *topic).count() > 1)
                .collect();
            if !crowded.is_empty() {
                self.alone.extend(crowded);
                continue;
            }
            return self.refusals(&refused);
        }
    }

    /// The results of a batch that was aborted.
    fn refusals(&self, transaction: &Transaction) -> Result<Vec<Result<(TopicPartition, i64)>>> {
        let Transaction { batch, reports, records, .. } = transaction;
        let refused =
            |index: usize, error: &KafkaError| index < *records && is_of_this_record(error) && !is_given_back(error);
        if !failures(reports).any(|(index, error)| refused(index, error)) {
            let (index, error) = failures(reports)
                .find(|(_, error)| !is_given_back(error))
                .or_else(|| failures(reports).next())
                .ok_or_else(|| Error::retriable("produce: a transaction was aborted"))?;
            let doing = if index < *records { "produce" } else { "write source offsets" };
            let connection = self.current.as_ref().map(|current| current.connection.clone());
            return Err(connection.map_or_else(
                || Error::retriable(format!("{doing}: {}", text_of(error))),
                |connection| connection.failure(doing, error),
            ));
        }
        let result = |index: usize| {
            let record = &batch[index];
            match &reports[index] {
                Some(Err(error)) if refused(index, error) => {
                    Err(Error::data(format!("produce to topic '{}': {}", record.topic, text_of(error))))
                }
                _ => Ok((TopicPartition::new(record.topic.clone(), record.partition.unwrap_or(-1)), -1)),
            }
        };
        Ok((0..*records).map(result).collect())
    }

    /// The planted bug, see [`offsets_outside_of_transactions`]: the offsets follow a while after the records.
    fn write_offsets_outside(&self, offsets: &SourceOffsets) -> Result<()> {
        use std::sync::OnceLock;
        static OUTSIDE: OnceLock<Option<super::producer::PlainClient>> = OnceLock::new();
        let client = OUTSIDE.get_or_init(|| {
            let mut config =
                self.shared.reader.settings.client_config(super::Role::Producer, &Default::default()).ok()?;
            config.set("linger.ms", "1500").create().ok()
        });
        for record in self.batch_of(&[], offsets) {
            let (Some(client), Some(key), Some(value)) = (client, &record.key, &record.value) else { continue };
            let _ = client.send(BaseRecord::to(&record.topic).key(&key[..]).payload(&value[..]));
        }
        Ok(())
    }
}

/// A planted bug: source offsets are written outside of the transaction. Debug builds obey `OTTLA_FAULT_OFFSETS_OUTSIDE=1`, so
/// that the fault tests can show that their checker finds it.
fn offsets_outside_of_transactions() -> bool {
    cfg!(debug_assertions) && std::env::var_os("OTTLA_FAULT_OFFSETS_OUTSIDE").is_some_and(|value| value == "1")
}

/// An error of a transaction's call: whether it was a fence, a timeout or a defect, the next producer finds out.
fn indefinite(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Fatal => error.of_kind(ErrorKind::Retriable),
        _ => error,
    }
}

/// Whether a record was only given back because its transaction ended.
fn is_given_back(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight))
}

#[async_trait]
impl Producer for TransactionalProducer {
    async fn send(
        &mut self,
        records: &[ProducerRecord],
        offsets: &SourceOffsets,
        _connector: &str,
    ) -> Result<Vec<Result<(TopicPartition, i64)>>> {
        if records.is_empty() && offsets.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(results) = self.settle(records, offsets).await? {
            return Ok(results);
        }
        let to_offsets = |record: &ProducerRecord| *record.topic == *self.shared.spec.offsets_topic;
        if records.iter().any(to_offsets) {
            let refuse = |record: &ProducerRecord| match to_offsets(record) {
                true => Err(Error::data(format!(
                    "produce to topic '{}': it holds the source offsets of exactly-once connectors",
                    record.topic
                ))),
                false => Ok((TopicPartition::new(record.topic.clone(), -1), -1)),
            };
            return Ok(records.iter().map(refuse).collect());
        }
        let outcome = self.attempt(records, offsets).await;
        outcome.inspect_err(|_| self.discard())
    }

    fn all_or_nothing(&self) -> bool {
        true
    }
}

impl Drop for TransactionalProducer {
    /// Readers of committed records wait for open transactions, so one that will not end is aborted.
    fn drop(&mut self) {
        let Some(Initialised { client, .. }) = self.current.take() else { return };
        if !self.open {
            return drop_later(client);
        }
        let abort = move || {
            if let Err(error) = client.abort_transaction(LAST_ABORT_MAX) {
                tracing::debug!(%error, "the last transaction is left to the broker's timeout");
            }
            drop(client);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(abort)),
            Err(_) => abort(),
        }
    }
}
