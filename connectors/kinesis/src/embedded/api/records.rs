//! Actions on records: putting them, finding a place, reading on from it.

use std::io::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::EmbeddedKinesis;
use super::super::faults::Fault;
use super::super::iterator::ShardIterator;
use super::super::limits::{GET_BYTES_MAX, GET_RECORDS_MAX, PARTITION_KEY_MAX, PUT_BYTES_MAX, PUT_RECORDS_MAX};
use super::super::sequence::SequenceNumber;
use super::super::storage::{Stretch, Working, encode_record};
use super::super::stream::{HashKey, Shard, Stream};
use super::super::wire::{ApiError, Reply, blob, milliseconds, seconds};
use super::{
    ACCOUNT, ApiResult, Call, bounded, children_json, expired_iterator, find_shard, find_stream, named_stream,
    refuse_dry_run, required,
};

/// A record that has been checked, ready to be stored.
#[derive(Debug)]
struct NewRecord {
    hash_key: HashKey,
    bytes: usize,
    encoded: Vec<u8>,
}

/// Where a record went.
#[derive(Debug)]
struct Placed {
    shard: String,
    sequence_number: String,
}

/// Why one record of several did not go anywhere.
#[derive(Debug)]
struct Refused {
    code: &'static str,
    message: String,
}

impl NewRecord {
    fn check(partition_key: Option<String>, explicit_hash_key: Option<String>, data: &[u8]) -> ApiResult<Self> {
        let key = required("partitionKey", partition_key)?;
        if key.is_empty() || key.chars().count() > PARTITION_KEY_MAX {
            return Err(ApiError::validation(format!(
                "1 validation error detected: Value '{key}' at 'partitionKey' failed to satisfy constraint: Member must have \
                 length from 1 to {PARTITION_KEY_MAX}"
            )));
        }
        let hash_key = match explicit_hash_key {
            None => HashKey::of(&key),
            Some(text) => HashKey::parse(&text).ok_or_else(|| {
                ApiError::argument(format!("Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {text}"))
            })?,
        };
        Ok(Self { hash_key, bytes: key.len() + data.len(), encoded: encode_record(&key, data) })
    }

    fn check_size(&self, stream: &Stream) -> ApiResult<()> {
        let max = stream.record_kib_max as usize * 1024;
        if self.bytes <= max {
            return Ok(());
        }
        Err(ApiError::validation(format!(
            "1 validation error detected: Value at 'data' failed to satisfy constraint: data and partition key together must not \
             be larger than {max} bytes, the MaxRecordSizeInKiB of stream {}; they are {} bytes",
            stream.name, self.bytes
        )))
    }
}

/// A stream that takes records: it is there, and has shards.
fn find_writable_stream(working: &Working, name: &str) -> ApiResult<Arc<Stream>> {
    let stream = find_stream(working.streams(), name)?;
    if stream.shards.is_empty() {
        return Err(ApiError::not_found(format!(
            "Stream {name} under account {ACCOUNT} not found: it is {}.",
            stream.status()
        )));
    }
    Ok(Arc::clone(stream))
}

/// Stores one record in the shard of its hash key, unless that shard has had enough for now.
fn place(
    kinesis: &EmbeddedKinesis,
    working: &mut Working,
    stream: &Stream,
    shards: &[&Shard],
    record: NewRecord,
) -> Result<Placed, Refused> {
    // Open shards cover the space in order, so the last one that begins at or before the key holds it.
    let shard = shards[shards.partition_point(|shard| shard.range.0 <= record.hash_key) - 1];
    if kinesis.options.rate_limits
        && !stream.on_demand
        && !kinesis.rates.write((stream.id, shard.number), record.bytes, working.now_ms())
    {
        let message =
            format!("Rate exceeded for shard {} in stream {} under account {ACCOUNT}.", shard.id(), stream.name);
        return Err(Refused { code: "ProvisionedThroughputExceededException", message });
    }
    let (index, arrived_ms) = working.append(stream.id, shard, record.encoded);
    Ok(Placed { shard: shard.id(), sequence_number: shard.sequence_number(index, arrived_ms).to_string() })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PutRecord {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    #[serde(deserialize_with = "blob")]
    data: Vec<u8>,
    partition_key: Option<String>,
    explicit_hash_key: Option<String>,
    sequence_number_for_ordering: Option<String>,
    dry_run: Option<bool>,
}

pub(super) async fn put_record(kinesis: &Arc<EmbeddedKinesis>, _: Call, input: PutRecord) -> ApiResult {
    refuse_dry_run(input.dry_run)?;
    let name = named_stream(input.stream_name, input.stream_arn)?;
    let record = NewRecord::check(input.partition_key, input.explicit_hash_key, &input.data)?;
    let after = input.sequence_number_for_ordering;
    let this = Arc::clone(kinesis);
    let placed = kinesis
        .store
        .write(move |working| {
            let stream = find_writable_stream(working, &name)?;
            record.check_size(&stream)?;
            if let Some(after) = after {
                check_ordering(working, &stream, &after)?;
            }
            place(&this, working, &stream, &stream.open_shards(), record)
                .map_err(|refused| ApiError::new(refused.code, refused.message))
        })
        .await?;
    Ok(Reply::Json(json!({"ShardId": placed.shard, "SequenceNumber": placed.sequence_number})))
}

/// Numbers only ever grow, so the number to come is larger than any that was given. A number that was not given is a mistake.
fn check_ordering(working: &mut Working, stream: &Stream, text: &str) -> ApiResult<()> {
    let number = SequenceNumber::parse(text);
    let shard = number.and_then(|number| stream.shard(number.shard).filter(|shard| shard.epoch == number.epoch));
    let given = match (number, shard) {
        (Some(number), Some(shard)) => number.index < working.next_index(stream.id, shard),
        _ => false,
    };
    if given {
        return Ok(());
    }
    Err(ApiError::argument(format!(
        "ExclusiveMinimumSequenceNumber {text} used in PutRecord on stream {} under account {ACCOUNT} is invalid.",
        stream.name
    )))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PutRecords {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    records: Option<Vec<PutRecordsEntry>>,
    dry_run: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutRecordsEntry {
    #[serde(deserialize_with = "blob")]
    data: Vec<u8>,
    partition_key: Option<String>,
    explicit_hash_key: Option<String>,
}

pub(super) async fn put_records(kinesis: &Arc<EmbeddedKinesis>, call: Call, input: PutRecords) -> ApiResult {
    refuse_dry_run(input.dry_run)?;
    let name = named_stream(input.stream_name, input.stream_arn)?;
    let entries = required("records", input.records)?;
    bounded("records.length", Some(entries.len() as i64), 1, PUT_RECORDS_MAX)?;
    let check = |entry: PutRecordsEntry| NewRecord::check(entry.partition_key, entry.explicit_hash_key, &entry.data);
    let records: Vec<_> = entries.into_iter().map(check).collect::<ApiResult<_>>()?;
    let bytes: usize = records.iter().map(|record| record.bytes).sum();
    if bytes > PUT_BYTES_MAX {
        return Err(ApiError::argument(format!(
            "Records size exceeds {} MiB limit: data and partition keys together are {bytes} bytes.",
            PUT_BYTES_MAX >> 20
        )));
    }
    let this = Arc::clone(kinesis);
    let placed = kinesis
        .store
        .write(move |working| {
            let stream = find_writable_stream(working, &name)?;
            records.iter().try_for_each(|record| record.check_size(&stream))?;
            let shards = stream.open_shards();
            let placed =
                records.into_iter().enumerate().map(|(at, record)| match refused_by(call.fault.as_ref(), at) {
                    Some(refused) => Err(refused),
                    None => place(&this, working, &stream, &shards, record),
                });
            Ok(placed.collect::<Vec<_>>())
        })
        .await?;
    let failed = placed.iter().filter(|placed| placed.is_err()).count();
    let entries: Vec<_> = placed
        .into_iter()
        .map(|placed| match placed {
            Ok(placed) => json!({"SequenceNumber": placed.sequence_number, "ShardId": placed.shard}),
            Err(refused) => json!({"ErrorCode": refused.code, "ErrorMessage": refused.message}),
        })
        .collect();
    Ok(Reply::Json(json!({"FailedRecordCount": failed, "Records": entries})))
}

fn refused_by(fault: Option<&Fault>, at: usize) -> Option<Refused> {
    let Some(&Fault::FailRecords { first, every, internal }) = fault else { return None };
    let hit = at == first || (every > 0 && at > first && (at - first).is_multiple_of(every));
    let code = if internal { "InternalFailure" } else { "ProvisionedThroughputExceededException" };
    hit.then(|| Refused { code, message: "A fault that a test asked for.".into() })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetShardIterator {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    shard_id: Option<String>,
    shard_iterator_type: Option<String>,
    starting_sequence_number: Option<String>,
    timestamp: Option<f64>,
    dry_run: Option<bool>,
}

pub(super) async fn get_shard_iterator(kinesis: &Arc<EmbeddedKinesis>, _: Call, input: GetShardIterator) -> ApiResult {
    refuse_dry_run(input.dry_run)?;
    let name = named_stream(input.stream_name, input.stream_arn)?;
    let id = required("shardId", input.shard_id)?;
    let kind = required("shardIteratorType", input.shard_iterator_type)?;
    let streams = kinesis.store.streams().await?;
    let stream = find_stream(&streams, &name)?;
    let shard = find_shard(stream, &id)?;
    let index = find_place(kinesis, stream, shard, &kind, input.starting_sequence_number, input.timestamp)?;
    let place = ShardIterator { stream: stream.id, shard: shard.number, index, issued_ms: kinesis.now_ms() };
    Ok(Reply::Json(json!({"ShardIterator": kinesis.tokens.iterator(place)})))
}

/// The index at which reading begins, for iterators and subscriptions.
pub(super) fn find_place(
    kinesis: &EmbeddedKinesis,
    stream: &Stream,
    shard: &Shard,
    kind: &str,
    sequence_number: Option<String>,
    timestamp: Option<f64>,
) -> ApiResult<u64> {
    let numbered = || -> ApiResult<u64> {
        let text = sequence_number.as_deref().ok_or_else(|| {
            ApiError::argument(format!(
                "Must either specify latest or starting sequence number: {kind} needs a sequence number."
            ))
        })?;
        let number = SequenceNumber::parse(text)
            .filter(|number| number.shard == shard.number && number.epoch == shard.epoch)
            .ok_or_else(|| {
                ApiError::argument(format!(
                    "StartingSequenceNumber {text} used in GetShardIterator on shard {} in stream {} under account {ACCOUNT} is \
                     invalid because it did not come from this stream.",
                    shard.id(),
                    stream.name
                ))
            })?;
        Ok(number.index)
    };
    let index = match kind {
        "TRIM_HORIZON" => shard.tail.first(),
        "LATEST" => shard.tail.next(),
        "AT_SEQUENCE_NUMBER" => numbered()?,
        "AFTER_SEQUENCE_NUMBER" => numbered()?.saturating_add(1),
        "AT_TIMESTAMP" => {
            let seconds = timestamp.ok_or_else(|| {
                ApiError::argument("Must specify timestamp parameter for iterator of type AT_TIMESTAMP.")
            })?;
            let ms = milliseconds(seconds);
            if ms > kinesis.now_ms() {
                return Err(ApiError::argument(format!(
                    "The timestamp {seconds} used in GetShardIterator on shard {} in stream {} under account {ACCOUNT} is in the \
                     future.",
                    shard.id(),
                    stream.name
                )));
            }
            kinesis.store.index_at(stream.id, shard, ms)?
        }
        other => {
            return Err(ApiError::validation(format!(
                "1 validation error detected: Value '{other}' at 'shardIteratorType' failed to satisfy constraint: Member must \
                 satisfy enum value set: [AFTER_SEQUENCE_NUMBER, LATEST, AT_TIMESTAMP, AT_SEQUENCE_NUMBER, TRIM_HORIZON]"
            )));
        }
    };
    // A shard's own first number stands before its first record.
    Ok(index.max(1))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetRecords {
    shard_iterator: Option<String>,
    limit: Option<i64>,
    dry_run: Option<bool>,
}

/// What an answer says behind its records.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct AfterRecords {
    #[serde(skip_serializing_if = "Option::is_none")]
    next_shard_iterator: Option<String>,
    millis_behind_latest: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    child_shards: Option<serde_json::Value>,
}

pub(super) async fn get_records(kinesis: &Arc<EmbeddedKinesis>, _: Call, input: GetRecords) -> ApiResult {
    refuse_dry_run(input.dry_run)?;
    let limit = bounded("limit", input.limit, GET_RECORDS_MAX, GET_RECORDS_MAX)?;
    let token = required("shardIterator", input.shard_iterator)?;
    let place = kinesis.tokens.read_iterator(&token).ok_or_else(|| ApiError::argument("Invalid ShardIterator."))?;
    let streams = kinesis.store.streams().await?;
    let now_ms = kinesis.now_ms();
    let life_ms = kinesis.options.iterator_life.as_millis() as u64;
    if now_ms.saturating_sub(place.issued_ms) > life_ms {
        return Err(expired_iterator(&format!(
            "the iterator was created {} ms ago, and iterators are good for {life_ms} ms",
            now_ms - place.issued_ms
        )));
    }
    let stream = streams.values().find(|stream| stream.id == place.stream).cloned();
    let stream = stream.ok_or_else(|| ApiError::not_found("The stream of this iterator has been deleted."))?;
    let shard = stream.shard(place.shard).cloned();
    let shard =
        shard.ok_or_else(|| ApiError::not_found("The shard of this iterator has left the stream's retention."))?;
    let limited = kinesis.options.rate_limits;
    if limited {
        kinesis.rates.read((stream.id, shard.number), now_ms)?;
    }
    let this = Arc::clone(kinesis);
    // Up to 10 MiB from the disk, and as much to write down: not on a thread that serves others.
    let read = tokio::task::spawn_blocking(move || {
        let horizon_ms = stream.horizon_ms(now_ms);
        let stretch = this.store.read(stream.id, &shard, place.index, horizon_ms, limit, GET_BYTES_MAX)?;
        if limited {
            this.rates.was_read((stream.id, shard.number), stretch.bytes, now_ms);
        }
        let index = stretch.records.last().map_or(place.index, |record| record.index + 1);
        // The shard was looked at before its records, so closed means that all of them were there to be read.
        let at_end = !shard.is_open() && stretch.following_ms.is_none();
        let next = ShardIterator { index, issued_ms: now_ms, ..place };
        let after = AfterRecords {
            next_shard_iterator: (!at_end).then(|| this.tokens.iterator(next)),
            // Behind by at least one millisecond where there is more: 0 says that the tip was reached.
            millis_behind_latest: stretch.following_ms.map_or(0, |ms| now_ms.saturating_sub(ms).max(1)),
            child_shards: at_end.then(|| children_json(&stream, &shard)),
        };
        answer_of_records(&shard, &stretch, &after).map_err(|error| ApiError::internal(error.to_string()))
    });
    Ok(Reply::Written(read.await.map_err(|error| ApiError::internal(error.to_string()))??))
}

/// What stands around the data and the partition key of a record, about.
const RECORD_OVERHEAD: usize = 180;

/// The answer, written as it goes: answers of ten thousand records are what a stream is read in, and a tree of each record would
/// cost more than all the rest.
fn answer_of_records(shard: &Shard, stretch: &Stretch, after: &AfterRecords) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(stretch.bytes / 3 * 4 + stretch.records.len() * RECORD_OVERHEAD + 512);
    out.extend_from_slice(b"{\"Records\":[");
    for (at, record) in stretch.records.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write!(out, r#"{{"SequenceNumber":"{}""#, shard.sequence_number(record.index, record.arrived_ms))?;
        out.extend_from_slice(br#","ApproximateArrivalTimestamp":"#);
        serde_json::to_writer(&mut out, &seconds(record.arrived_ms))?;
        out.extend_from_slice(br#","Data":""#);
        let begin = out.len();
        out.resize(begin + record.data.len().div_ceil(3) * 4, 0);
        BASE64_STANDARD.encode_slice(&record.data, &mut out[begin..]).map_err(std::io::Error::other)?;
        out.extend_from_slice(br#"","PartitionKey":"#);
        serde_json::to_writer(&mut out, &record.partition_key)?;
        out.push(b'}');
    }
    out.extend_from_slice(b"],");
    // The rest is an object that is never empty, and goes on here behind its bracket.
    let begin = out.len();
    serde_json::to_writer(&mut out, after)?;
    out.remove(begin);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::super::storage::StoredRecord;
    use super::super::record_json;
    use super::*;

    #[test]
    fn records_are_written_as_their_trees_are() {
        let shard = Shard {
            number: 1,
            parent: None,
            adjacent_parent: None,
            range: (HashKey::of("k"), HashKey::of("k")),
            epoch: 1_700_000_000,
            created_ms: 1_700_000_000_000,
            closed: None,
            tail: Arc::default(),
        };
        let keys = ["k", "\"quoted\" \\ and\nbroken", "é\u{1f600}", "\u{1}"];
        let records = keys.iter().zip(1..).map(|(key, index)| StoredRecord {
            index,
            arrived_ms: 1_700_000_000_000 + index * 7,
            partition_key: (*key).to_owned(),
            data: Bytes::from((0..index as u8 * 5).collect::<Vec<_>>()),
        });
        let stretch = Stretch { records: records.collect(), bytes: 60, following_ms: None };
        for (next, children) in [(Some("AAAA".to_owned()), None), (None, Some(json!([{"ShardId": "shardId-1"}])))] {
            let after = AfterRecords {
                next_shard_iterator: next.clone(),
                millis_behind_latest: 5,
                child_shards: children.clone(),
            };
            let written = answer_of_records(&shard, &stretch, &after).unwrap();
            let trees: Vec<_> = stretch.records.iter().map(|record| record_json(&shard, record)).collect();
            let mut expected = json!({"Records": trees, "MillisBehindLatest": 5});
            if let Some(next) = next {
                expected["NextShardIterator"] = next.into();
            }
            if let Some(children) = children {
                expected["ChildShards"] = children;
            }
            assert_eq!(serde_json::from_slice::<serde_json::Value>(&written).unwrap(), expected);
        }
    }
}
