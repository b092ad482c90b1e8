//! `/streams`: the paths of an API gateway in front of Kinesis, as its bodies in and Kinesis's answers out.

use std::sync::Arc;
use std::time::SystemTime;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::http::HttpResponse;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::primitives::{Blob, DateTime};
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, Record, Shard, ShardIteratorType, StreamDescription};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::header::CONTENT_TYPE;
use hyper::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use crate::Call;
use crate::answer::Answer;
use crate::body::{self, Object, Unreadable};
use crate::error::{Api, Failure, Result};
use crate::guard::Guards;

/// Shards of a stream whose maker does not say how many.
const SHARDS_DEFAULT: i32 = 5;
/// Most records of one PutRecords call, as AWS documents it.
const PUT_RECORDS_MAX: usize = 500;

/// What serves `/streams`.
#[derive(Debug)]
pub(crate) struct Streams {
    client: Client,
    guards: Arc<Guards>,
}

impl Streams {
    pub(crate) fn new(client: Client, guards: Arc<Guards>) -> Self {
        Self { client, guards }
    }

    /// ListStreams.
    pub(crate) async fn list(&self, call: Call) -> Result<Answer> {
        let limit = number(&call, &["limit", "Limit"])?;
        let start = parameter(&call, &["exclusive-start-stream-name", "ExclusiveStartStreamName"]);
        let request = self.client.list_streams().set_limit(limit).set_exclusive_start_stream_name(start);
        let found = request.send().await.map_err(passed_on)?;
        let streams = json!({"HasMoreStreams": found.has_more_streams, "StreamNames": found.stream_names});
        Ok(Answer::kinesis(&streams))
    }

    /// CreateStream.
    pub(crate) async fn create(&self, call: Call) -> Result<Answer> {
        let expected = json!({"ShardCount": SHARDS_DEFAULT});
        let mut shards = SHARDS_DEFAULT;
        if !call.body.iter().all(u8::is_ascii_whitespace) {
            let body = Object::parse(&call.body).map_err(|error| unreadable(error, "the body", &expected))?;
            if let Some(field) = body.unknown(&["ShardCount", "shard-count", "StreamName"]) {
                let stream = &call.params[0];
                let hint = format!("this makes a stream; a record goes to PUT /streams/{stream}/record");
                return Err(unprocessable(format!("Unrecognized field: {field}; {hint}"), &expected));
            }
            if let Some(count) = body.any(&["ShardCount", "shard-count"]) {
                // Templates of the API gateway write numbers as text.
                let count = body::text(count).map_or_else(|| count.to_vec(), String::into_bytes);
                let count = serde_json::from_slice(&count).ok().filter(|count| *count > 0);
                shards =
                    count.ok_or_else(|| unprocessable("ShardCount must be a whole number, 1 or more", &expected))?;
            }
        }
        let request = self.client.create_stream().stream_name(&call.params[0]).shard_count(shards);
        request.send().await.map_err(passed_on)?;
        Ok(Answer::kinesis(&json!({})))
    }

    /// DescribeStream.
    pub(crate) async fn describe(&self, call: Call) -> Result<Answer> {
        let request = self
            .client
            .describe_stream()
            .stream_name(&call.params[0])
            .set_limit(number(&call, &["limit", "Limit"])?)
            .set_exclusive_start_shard_id(parameter(&call, &["exclusive-start-shard-id", "ExclusiveStartShardId"]));
        let found = request.send().await.map_err(passed_on)?;
        let description = found.stream_description.as_ref().map(described);
        Ok(Answer::kinesis(&json!({ "StreamDescription": description })))
    }

    /// DeleteStream.
    pub(crate) async fn delete(&self, call: Call) -> Result<Answer> {
        self.client.delete_stream().stream_name(&call.params[0]).send().await.map_err(passed_on)?;
        Ok(Answer::kinesis(&json!({})))
    }

    /// PutRecord. The stream is that of the path, as in the API gateway's template.
    pub(crate) async fn put_record(&self, call: Call) -> Result<Answer> {
        let stream = &call.params[0];
        let expected = json!({"StreamName": stream, "Data": {"field": "of the row"}, "PartitionKey": "partition-1"});
        json_body(&call.headers)?;
        let body = Object::parse(&call.body).map_err(|error| unreadable(error, "the body", &expected))?;
        if body.any(&["records", "Records"]).is_some() {
            let hint = format!("many records go to PUT /streams/{stream}/records");
            return Err(unprocessable(format!("Unrecognized field: records; {hint}"), &expected));
        }
        let entry = self.entry(stream, &body, "the body", &expected)?;
        let request = self
            .client
            .put_record()
            .stream_name(stream)
            .data(entry.data)
            .partition_key(entry.partition_key)
            .set_explicit_hash_key(entry.explicit_hash_key);
        let put = request.send().await.map_err(passed_on)?;
        let mut answer = json!({"SequenceNumber": put.sequence_number, "ShardId": put.shard_id});
        if let (Some(encryption), Value::Object(fields)) = (&put.encryption_type, &mut answer) {
            fields.insert("EncryptionType".to_owned(), encryption.as_str().into());
        }
        Ok(Answer::kinesis(&answer))
    }

    /// PutRecords, in either of two shapes. Records fail one by one: `FailedRecordCount` says how many did.
    pub(crate) async fn put_records(&self, call: Call) -> Result<Answer> {
        let stream = &call.params[0];
        let expected = json!({"records": [{"data": {"field": "of the row"}, "partition-key": "partition-1"}]});
        json_body(&call.headers)?;
        let body = Object::parse(&call.body).map_err(|error| unreadable(error, "the body", &expected))?;
        if let Some(field) = body.unknown(&["records", "Records", "StreamName"]) {
            let hint = format!("one record goes to PUT /streams/{stream}/record, a row goes into data");
            return Err(unprocessable(format!("Unrecognized field: {field}; {hint}"), &expected));
        }
        let records = body.any(&["records", "Records"]);
        let records = records.ok_or_else(|| unprocessable("field 'records' is missing", &expected))?;
        let records = body::items(records).map_err(|error| unreadable(error, "records", &expected))?;
        if records.is_empty() || records.len() > PUT_RECORDS_MAX {
            let message = format!("records must hold 1 to {PUT_RECORDS_MAX} records, found {}", records.len());
            return Err(unprocessable(message, &expected));
        }
        let mut entries = Vec::with_capacity(records.len());
        for (index, record) in records.iter().enumerate() {
            let place = format!("records[{index}]");
            let record = Object::parse(record).map_err(|error| unreadable(error, &place, &expected))?;
            let entry = self.entry(stream, &record, &place, &expected)?;
            let entry = PutRecordsRequestEntry::builder()
                .data(entry.data)
                .partition_key(entry.partition_key)
                .set_explicit_hash_key(entry.explicit_hash_key)
                .build();
            entries.push(entry.map_err(|error| unprocessable(format!("{place}: {error}"), &expected))?);
        }
        let put = self.client.put_records().stream_name(stream).set_records(Some(entries)).send().await;
        let put = put.map_err(passed_on)?;
        let results = put.records.iter().map(|result| match &result.error_code {
            Some(code) => json!({"ErrorCode": code, "ErrorMessage": result.error_message}),
            None => json!({"SequenceNumber": result.sequence_number, "ShardId": result.shard_id}),
        });
        let results = results.collect::<Vec<_>>();
        Ok(Answer::kinesis(&json!({"FailedRecordCount": put.failed_record_count.unwrap_or(0), "Records": results})))
    }

    /// GetShardIterator: of type TRIM_HORIZON, unless the query says otherwise.
    pub(crate) async fn shard_iterator(&self, call: Call) -> Result<Answer> {
        let Some(shard) = parameter(&call, &["shard-id", "ShardId"]) else {
            let message =
                "parameter 'shard-id' is missing: GET /streams/{stream}/sharditerator?shard-id=shardId-000000000000";
            return Err(Failure::of(Api::Kinesis, StatusCode::BAD_REQUEST, message));
        };
        let kind = parameter(&call, &["shard-iterator-type", "ShardIteratorType"]);
        let kind = kind.map_or(ShardIteratorType::TrimHorizon, |kind| ShardIteratorType::from(kind.as_str()));
        let request = self
            .client
            .get_shard_iterator()
            .stream_name(&call.params[0])
            .shard_id(shard)
            .shard_iterator_type(kind)
            .set_starting_sequence_number(parameter(&call, &["starting-sequence-number", "StartingSequenceNumber"]));
        let found = request.send().await.map_err(passed_on)?;
        Ok(Answer::kinesis(&json!({"ShardIterator": found.shard_iterator})))
    }

    /// GetRecords, with the iterator in the header `Shard-Iterator`.
    pub(crate) async fn get_records(&self, call: Call) -> Result<Answer> {
        let header =
            call.headers.get("shard-iterator").map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let Some(iterator) = header.or_else(|| parameter(&call, &["shard-iterator", "ShardIterator"])) else {
            let message =
                "header 'Shard-Iterator' is missing; GET /streams/{stream}/sharditerator?shard-id=.. answers one";
            return Err(Failure::of(Api::Kinesis, StatusCode::BAD_REQUEST, message));
        };
        let request = self.client.get_records().shard_iterator(iterator).set_limit(number(&call, &["limit", "Limit"])?);
        let found = request.send().await.map_err(passed_on)?;
        let records = found.records.iter().map(record).collect::<Vec<_>>();
        Ok(Answer::kinesis(&json!({
            "MillisBehindLatest": found.millis_behind_latest,
            "NextShardIterator": found.next_shard_iterator,
            "Records": records,
        })))
    }

    /// Reads one record of a body, and holds it against the guards.
    fn entry(&self, stream: &str, record: &Object, place: &str, expected: &Value) -> Result<Entry> {
        const FIELDS: &[&str] =
            &["StreamName", "Data", "data", "PartitionKey", "partition-key", "ExplicitHashKey", "explicit-hash-key"];
        if let Some(field) = record.unknown(FIELDS) {
            return Err(unprocessable(
                format!("Unrecognized field: {field} in {place}; a row goes into Data"),
                expected,
            ));
        }
        let missing = |name: &str| unprocessable(format!("{name} is missing in {place}"), expected);
        let data = record.any(&["Data", "data"]).ok_or_else(|| missing("Data"))?;
        let data =
            body::compact(data).map_err(|message| unprocessable(format!("Data of {place}: {message}"), expected))?;
        let key = record.any(&["PartitionKey", "partition-key"]).ok_or_else(|| missing("PartitionKey"))?;
        let key =
            body::text(key).ok_or_else(|| unprocessable(format!("PartitionKey of {place} must be text"), expected))?;
        let hash = match record.any(&["ExplicitHashKey", "explicit-hash-key"]).map(|hash| (hash, body::text(hash))) {
            None => None,
            Some((hash, _)) if hash.as_ref() == b"null" => None,
            Some((_, Some(text))) => Some(text),
            Some(_) => return Err(unprocessable(format!("ExplicitHashKey of {place} must be text"), expected)),
        };
        self.guards.check(stream, &data).map_err(|message| {
            let message = format!("Data of {place}: {message}; nothing of this request was written");
            Failure::of(Api::Kinesis, StatusCode::UNPROCESSABLE_ENTITY, message)
        })?;
        Ok(Entry { data: Blob::new(Vec::from(data)), partition_key: key, explicit_hash_key: hash })
    }
}

struct Entry {
    data: Blob,
    partition_key: String,
    explicit_hash_key: Option<String>,
}

fn parameter(call: &Call, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| call.query.get(*name)).cloned()
}

fn number(call: &Call, names: &[&str]) -> Result<Option<i32>> {
    let Some(text) = parameter(call, names) else { return Ok(None) };
    let number = text.parse().map_err(|_| format!("{} must be a whole number", names[0]));
    number.map(Some).map_err(|message| Failure::of(Api::Kinesis, StatusCode::BAD_REQUEST, message))
}

/// An API gateway takes a body without a type for JSON, and so is anything that says it is JSON.
fn json_body(headers: &HeaderMap) -> Result<()> {
    let Some(sent) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let sent = String::from_utf8_lossy(sent.as_bytes()).to_ascii_lowercase();
    let plain = sent.split(';').next().unwrap_or_default().trim();
    if plain == "application/json" || plain.ends_with("+json") || plain.starts_with("application/x-amz-json") {
        return Ok(());
    }
    let shown: String = plain.chars().filter(|c| c.is_ascii_graphic()).take(100).collect();
    let message = format!("Content-Type must be application/json, found {shown}");
    Err(Failure::of(Api::Kinesis, StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
}

fn unreadable(error: Unreadable, what: &str, expected: &Value) -> Failure {
    match error {
        Unreadable::NotJson(message) => {
            let kind = "SerializationException";
            Failure::kinesis(StatusCode::BAD_REQUEST, kind, format!("{what} is {message}")).expecting(expected.clone())
        }
        Unreadable::Other("a string") => unprocessable(
            format!(
                "{what} must not be a string: it is JSON twice; pass json=payload or data=json.dumps(payload), not both"
            ),
            expected,
        ),
        Unreadable::Other(kind) => {
            let needed = if what == "records" { "an array" } else { "an object" };
            unprocessable(format!("{what} must be {needed}, found {kind}"), expected)
        }
    }
}

fn unprocessable(message: impl Into<String>, expected: &Value) -> Failure {
    Failure::of(Api::Kinesis, StatusCode::UNPROCESSABLE_ENTITY, message).expecting(expected.clone())
}

/// What Kinesis said, with its status; and in the same shape what kept it from saying something.
fn passed_on<E>(error: SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let causes = |error: &dyn std::error::Error| {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let more = error.to_string();
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            cause = error.source();
        }
        text
    };
    match &error {
        SdkError::ServiceError(service) => {
            let status = StatusCode::from_u16(service.raw().status().as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
            let said = service.err();
            let code = said.code().unwrap_or("InternalFailure").to_owned();
            let message = said.message().unwrap_or_default();
            let message = match code.as_str() {
                "ResourceNotFoundException" if message.starts_with("Stream ") => {
                    format!("{message} (GET /streams lists those that exist, POST /streams/{{stream}} makes one)")
                }
                _ => message.to_owned(),
            };
            Failure::kinesis(status, code, message)
        }
        SdkError::TimeoutError(_) => {
            let message = "Kinesis did not answer in time; what was to be written may be written";
            Failure::of(Api::Kinesis, StatusCode::GATEWAY_TIMEOUT, message)
        }
        SdkError::DispatchFailure(_) => {
            let message = format!(
                "Kinesis can't be reached: {} (kinesis.endpoint, kinesis.region and the credentials of the gateway)",
                causes(&error)
            );
            Failure::of(Api::Kinesis, StatusCode::SERVICE_UNAVAILABLE, message)
        }
        _ => Failure::of(
            Api::Kinesis,
            StatusCode::BAD_GATEWAY,
            format!("the call to Kinesis failed: {}", causes(&error)),
        ),
    }
}

fn described(stream: &StreamDescription) -> Value {
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    set("StreamName", stream.stream_name.as_str().into());
    set("StreamARN", stream.stream_arn.as_str().into());
    set("StreamStatus", stream.stream_status.as_str().into());
    if let Some(mode) = &stream.stream_mode_details {
        set("StreamModeDetails", json!({"StreamMode": mode.stream_mode.as_str()}));
    }
    set("Shards", stream.shards.iter().map(shard).collect::<Vec<_>>().into());
    set("HasMoreShards", stream.has_more_shards.into());
    set("RetentionPeriodHours", stream.retention_period_hours.into());
    set("StreamCreationTimestamp", seconds(&stream.stream_creation_timestamp));
    let metrics = stream.enhanced_monitoring.iter().map(|metrics| {
        let names = metrics.shard_level_metrics.iter().flatten().map(|metric| metric.as_str()).collect::<Vec<_>>();
        json!({ "ShardLevelMetrics": names })
    });
    set("EnhancedMonitoring", metrics.collect::<Vec<_>>().into());
    if let Some(encryption) = &stream.encryption_type {
        set("EncryptionType", encryption.as_str().into());
    }
    if let Some(key) = &stream.key_id {
        set("KeyId", key.as_str().into());
    }
    Value::Object(fields)
}

fn shard(shard: &Shard) -> Value {
    let mut value = json!({"ShardId": shard.shard_id});
    let Value::Object(fields) = &mut value else { return value };
    let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    for (name, parent) in
        [("ParentShardId", &shard.parent_shard_id), ("AdjacentParentShardId", &shard.adjacent_parent_shard_id)]
    {
        if let Some(parent) = parent {
            set(name, parent.as_str().into());
        }
    }
    if let Some(range) = &shard.hash_key_range {
        set(
            "HashKeyRange",
            json!({"StartingHashKey": range.starting_hash_key, "EndingHashKey": range.ending_hash_key}),
        );
    }
    if let Some(range) = &shard.sequence_number_range {
        let mut numbers = json!({"StartingSequenceNumber": range.starting_sequence_number});
        if let (Some(end), Value::Object(fields)) = (&range.ending_sequence_number, &mut numbers) {
            fields.insert("EndingSequenceNumber".to_owned(), end.as_str().into());
        }
        set("SequenceNumberRange", numbers);
    }
    value
}

fn record(record: &Record) -> Value {
    let mut value = json!({
        "SequenceNumber": record.sequence_number,
        "ApproximateArrivalTimestamp": record.approximate_arrival_timestamp.as_ref().map(seconds),
        "Data": BASE64_STANDARD.encode(record.data.as_ref()),
        "PartitionKey": record.partition_key,
    });
    if let (Some(encryption), Value::Object(fields)) = (&record.encryption_type, &mut value) {
        fields.insert("EncryptionType".to_owned(), encryption.as_str().into());
    }
    value
}

/// A time as Kinesis writes it: seconds since 1970 with milliseconds.
fn seconds(time: &DateTime) -> Value {
    let since = SystemTime::try_from(*time).ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    since.map_or(Value::Null, |since| (since.as_millis() as f64 / 1000.0).into())
}
