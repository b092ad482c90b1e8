//! Reading a shard by `GetRecords`: one call at a time, with an iterator that is renewed before it gets old.
//!
//! An iterator is a token that Kinesis forgets after five minutes. What counts is [`From`]: the place from which a new one is
//! asked for, always behind the last record that was read and never `LATEST` a second time.

use std::time::Duration;

use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{Record, ShardIteratorType};
use tokio::time::Instant;

use super::shards::ShardKey;
use crate::client::Kinesis;
use crate::error::{Failure, What, from_sdk};

/// Age at which an iterator is thrown away; Kinesis does so at 300 seconds.
const ITERATOR_AGE_MAX: Duration = Duration::from_secs(240);

/// From where a shard is read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum From {
    /// Its oldest record.
    Horizon,
    /// What comes from now on. `since` is a moment a little before now: from there on a second iterator begins, as long as no
    /// record was read.
    Latest {
        /// Milliseconds since 1970.
        since: i64,
    },
    /// The first record that arrived at or after this moment, in milliseconds since 1970.
    Time(i64),
    /// This record, once more.
    At(String),
    /// Behind this record.
    After(String),
}

/// What one read has brought.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) records: Vec<Record>,
    /// How far behind the shard's end this was, in milliseconds; 0 where there is nothing more.
    pub(crate) behind: Option<i64>,
    /// The shard is closed and this was the last of it.
    pub(crate) ended: bool,
    /// When it was asked for, or no earlier than which it was sent: what was there then is in it, or behind it.
    pub(crate) began: Instant,
    /// How many iterators had expired.
    pub(crate) expired: u64,
}

/// Reads one shard by polling.
#[derive(Debug)]
pub(crate) struct Poller {
    kinesis: Kinesis,
    key: ShardKey,
    from: From,
    limit: i32,
    iterator: Option<(String, Instant)>,
}

impl Poller {
    pub(crate) fn new(kinesis: Kinesis, key: ShardKey, from: From, limit: i32) -> Self {
        Self { kinesis, key, from, limit, iterator: None }
    }

    /// Reads once. After a failure the next call begins at the same place.
    pub(crate) async fn read(&mut self) -> Result<Fetched, Failure> {
        let began = Instant::now();
        match self.read_once(began).await {
            // Or one that the server doesn't know any more, because it was started anew. A place that it refuses shows when a new
            // one is asked for: then there is no iterator here.
            Err(failure)
                if matches!(failure.what, What::ExpiredIterator | What::InvalidArgument)
                    && self.iterator.take().is_some() =>
            {
                let mut fetched = self.read_once(began).await?;
                fetched.expired = 1;
                Ok(fetched)
            }
            outcome => outcome,
        }
    }

    async fn read_once(&mut self, began: Instant) -> Result<Fetched, Failure> {
        let fresh = self.iterator.take().filter(|(_, since)| since.elapsed() < ITERATOR_AGE_MAX);
        let iterator = match fresh {
            Some((iterator, _)) => iterator,
            None => {
                let iterator = iterator(&self.kinesis, &self.key, &self.from).await?;
                if let From::Latest { since } = self.from {
                    self.from = From::Time(since);
                }
                iterator
            }
        };
        // Kept over a failure: with `LATEST` it is the one that knows where reading began.
        self.iterator = Some((iterator.clone(), Instant::now()));
        let fetched = get_records(&self.kinesis, iterator, self.limit).await?;
        if let Some(last) = fetched.records.last() {
            self.from = From::After(last.sequence_number.clone());
        }
        let ended = fetched.next_shard_iterator.is_none();
        self.iterator = fetched.next_shard_iterator.map(|next| (next, Instant::now()));
        Ok(Fetched { records: fetched.records, behind: fetched.millis_behind_latest, ended, began, expired: 0 })
    }
}

/// An iterator at a place.
async fn iterator(kinesis: &Kinesis, key: &ShardKey, from: &From) -> Result<String, Failure> {
    let request = kinesis.client.get_shard_iterator().stream_name(&*key.stream).shard_id(&*key.shard);
    let request = match from {
        From::Horizon => request.shard_iterator_type(ShardIteratorType::TrimHorizon),
        From::Latest { .. } => request.shard_iterator_type(ShardIteratorType::Latest),
        From::Time(millis) => {
            request.shard_iterator_type(ShardIteratorType::AtTimestamp).timestamp(DateTime::from_millis(*millis))
        }
        From::At(sequence) => {
            request.shard_iterator_type(ShardIteratorType::AtSequenceNumber).starting_sequence_number(sequence)
        }
        From::After(sequence) => {
            request.shard_iterator_type(ShardIteratorType::AfterSequenceNumber).starting_sequence_number(sequence)
        }
    };
    const OPERATION: &str = "get a shard iterator";
    let answer = request.send().await.map_err(|error| {
        let mut failure = from_sdk(error, OPERATION, &kinesis.place);
        failure.error = failure.error.with("stream", &key.stream).with("shard", &key.shard);
        failure
    })?;
    answer.shard_iterator.ok_or_else(|| Failure {
        what: What::Unsure,
        error: ottla_api::Error::retriable(format!("{OPERATION}: the answer is empty")),
    })
}

async fn get_records(
    kinesis: &Kinesis,
    iterator: String,
    limit: i32,
) -> Result<aws_sdk_kinesis::operation::get_records::GetRecordsOutput, Failure> {
    let answer = kinesis.client.get_records().shard_iterator(iterator).limit(limit).send().await;
    answer.map_err(|error| from_sdk(error, "get records", &kinesis.place))
}

/// The oldest record that a shard still holds, if any, without reading more than one.
pub(crate) async fn oldest(kinesis: &Kinesis, key: &ShardKey) -> Result<Option<Record>, Failure> {
    let mut next = Some(iterator(kinesis, key, &From::Horizon).await?);
    // Answers may be empty although there is more: Kinesis looks through a stretch of the shard at each call.
    while let Some(iterator) = next {
        let fetched = get_records(kinesis, iterator, 1).await?;
        if let Some(record) = fetched.records.into_iter().next() {
            return Ok(Some(record));
        }
        if fetched.millis_behind_latest.unwrap_or_default() == 0 {
            return Ok(None);
        }
        next = fetched.next_shard_iterator;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(None)
}
