//! The actions, and how a call finds its own.

mod consumers;
mod records;
mod shards;
mod streams;
mod tags;

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::EmbeddedKinesis;
use super::faults::{Action, Fault};
use super::storage::{StoredRecord, Streams};
use super::stream::{Shard, Stream, parse_shard_id, shard_id};
use super::wire::{ApiError, Format, Outcome, Reply, Request, Response, seconds};

/// Everything belongs to this account.
const ACCOUNT: &str = "000000000000";
const REGION: &str = "us-east-1";

/// What every action may want to know of its call.
#[derive(Debug, Clone)]
struct Call {
    region: String,
    format: Format,
    /// What is to go wrong while the action runs.
    fault: Option<Fault>,
}

type ApiResult<T = Reply> = Result<T, ApiError>;

impl EmbeddedKinesis {
    /// Answers one call: faults first, then the action.
    pub(super) async fn handle(self: &Arc<Self>, request: Request) -> Outcome {
        let format = Format::of(request.content_type.as_deref());
        let action = match parse_target(request.target.as_deref()) {
            Ok(action) => action,
            Err(error) => return Outcome::Answer(Response::of_error(&error, format)),
        };
        let (delay, fault) = self.faults.meet(action);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let cut_after = fault == Some(Fault::CutAfter) && action != Action::SubscribeToShard;
        let answered = match fault {
            Some(Fault::CutBefore) => return Outcome::Cut,
            Some(Fault::Throttled) => {
                Err(ApiError::throttled("Rate exceeded for shard: a fault that a test asked for."))
            }
            Some(Fault::Internal) => Err(ApiError::internal("A fault that a test asked for.")),
            Some(Fault::Unavailable) => {
                let message = "A fault that a test asked for.".into();
                Err(ApiError { code: "ServiceUnavailable", status: 503, message })
            }
            Some(Fault::ExpiredIterator) => Err(expired_iterator("a fault that a test asked for")),
            Some(Fault::Error(code, message)) => Err(ApiError::new(code, message)),
            fault => {
                let region = parse_region(request.authorization.as_deref()).unwrap_or(REGION).to_owned();
                self.act(action, Call { region, format, fault }, &request.body).await
            }
        };
        match answered {
            _ if cut_after => Outcome::Cut,
            Ok(reply) => Outcome::Answer(Response::of(reply, format)),
            Err(error) => Outcome::Answer(Response::of_error(&error, format)),
        }
    }

    async fn act(self: &Arc<Self>, action: Action, call: Call, body: &[u8]) -> ApiResult {
        let format = call.format;
        macro_rules! run {
            ($module:ident :: $function:ident) => {
                $module::$function(self, call, format.read(body)?).await
            };
        }
        match action {
            Action::CreateStream => run!(streams::create_stream),
            Action::DeleteStream => run!(streams::delete_stream),
            Action::ListStreams => run!(streams::list_streams),
            Action::DescribeStream => run!(streams::describe_stream),
            Action::DescribeStreamSummary => run!(streams::describe_stream_summary),
            Action::DescribeLimits => run!(streams::describe_limits),
            Action::IncreaseStreamRetentionPeriod => run!(streams::increase_retention),
            Action::DecreaseStreamRetentionPeriod => run!(streams::decrease_retention),
            Action::UpdateStreamMode => run!(streams::update_stream_mode),
            Action::UpdateMaxRecordSize => run!(streams::update_max_record_size),
            Action::ListShards => run!(shards::list_shards),
            Action::SplitShard => run!(shards::split_shard),
            Action::MergeShards => run!(shards::merge_shards),
            Action::UpdateShardCount => run!(shards::update_shard_count),
            Action::PutRecord => run!(records::put_record),
            Action::PutRecords => run!(records::put_records),
            Action::GetShardIterator => run!(records::get_shard_iterator),
            Action::GetRecords => run!(records::get_records),
            Action::RegisterStreamConsumer => run!(consumers::register_stream_consumer),
            Action::DeregisterStreamConsumer => run!(consumers::deregister_stream_consumer),
            Action::DescribeStreamConsumer => run!(consumers::describe_stream_consumer),
            Action::ListStreamConsumers => run!(consumers::list_stream_consumers),
            Action::SubscribeToShard => run!(consumers::subscribe_to_shard),
            Action::AddTagsToStream => run!(tags::add_tags_to_stream),
            Action::RemoveTagsFromStream => run!(tags::remove_tags_from_stream),
            Action::ListTagsForStream => run!(tags::list_tags_for_stream),
            Action::TagResource => run!(tags::tag_resource),
            Action::UntagResource => run!(tags::untag_resource),
            Action::ListTagsForResource => run!(tags::list_tags_for_resource),
        }
    }
}

/// `Kinesis_20131202.PutRecord`.
fn parse_target(target: Option<&str>) -> ApiResult<Action> {
    let unknown = |message: String| ApiError::new("UnknownOperationException", message);
    let target = target.ok_or_else(|| {
        unknown("the header X-Amz-Target is missing; it names the action, as in Kinesis_20131202.ListStreams".into())
    })?;
    let action = target.strip_prefix("Kinesis_20131202.").and_then(Action::parse);
    action.ok_or_else(|| unknown(format!("the embedded Kinesis has no action {target}")))
}

/// The region in `AWS4-HMAC-SHA256 Credential=KEY/20240131/eu-west-1/kinesis/aws4_request, ...`.
fn parse_region(authorization: Option<&str>) -> Option<&str> {
    let scope = authorization?.split_once("Credential=")?.1;
    let region = scope.split(['/', ',']).nth(2)?;
    let plausible = !region.is_empty() && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    plausible.then_some(region)
}

fn stream_arn(region: &str, name: &str) -> String {
    format!("arn:aws:kinesis:{region}:{ACCOUNT}:stream/{name}")
}

/// A stream's name, or the one in its ARN.
fn named_stream(name: Option<String>, arn: Option<String>) -> ApiResult<String> {
    match (name, arn) {
        (_, Some(arn)) => {
            let name = arn.starts_with("arn:").then(|| arn.split(":stream/").nth(1)).flatten();
            let name = name.and_then(|path| path.split('/').next()).filter(|name| !name.is_empty());
            name.map(str::to_owned).ok_or_else(|| {
                ApiError::validation(format!(
                    "1 validation error detected: Value '{arn}' at 'streamARN' failed to satisfy constraint: Member must look \
                     like arn:aws:kinesis:<region>:<account>:stream/<name>"
                ))
            })
        }
        (Some(name), None) => check_name("streamName", name),
        (None, None) => Err(ApiError::argument("Either streamName or streamARN must be provided.")),
    }
}

/// Names of streams and consumers.
fn check_name(member: &str, name: String) -> ApiResult<String> {
    let good = (1..=128).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if good {
        return Ok(name);
    }
    Err(ApiError::validation(format!(
        "1 validation error detected: Value '{name}' at '{member}' failed to satisfy constraint: Member must have 1 to 128 \
         characters and satisfy regular expression pattern: [a-zA-Z0-9_.-]+"
    )))
}

/// A member that has to be there.
fn required<T>(member: &str, value: Option<T>) -> ApiResult<T> {
    value.ok_or_else(|| {
        ApiError::validation(format!(
            "1 validation error detected: Value null at '{member}' failed to satisfy constraint: Member must not be null"
        ))
    })
}

/// There is nothing that a dry run could find out here, and taking one for the real thing would be worse than saying so.
fn refuse_dry_run(dry_run: Option<bool>) -> ApiResult<()> {
    if dry_run == Some(true) {
        return Err(ApiError::argument("The embedded Kinesis has no dry runs; leave DryRun out."));
    }
    Ok(())
}

/// A number within bounds, or `default` where it is not given.
fn bounded(member: &str, value: Option<i64>, default: usize, max: usize) -> ApiResult<usize> {
    match value {
        None => Ok(default),
        Some(value) if (1..=max as i64).contains(&value) => Ok(value as usize),
        Some(value) => Err(ApiError::validation(format!(
            "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: Member must have value \
             from 1 to {max}"
        ))),
    }
}

fn find_stream<'a>(streams: &'a Streams, name: &str) -> ApiResult<&'a Arc<Stream>> {
    streams.get(name).ok_or_else(|| ApiError::not_found(format!("Stream {name} under account {ACCOUNT} not found.")))
}

/// As [`find_stream`], and nothing is happening to it.
fn find_active_stream<'a>(streams: &'a Streams, name: &str) -> ApiResult<&'a Arc<Stream>> {
    let stream = find_stream(streams, name)?;
    if stream.pending.is_none() {
        return Ok(stream);
    }
    Err(ApiError::in_use(format!(
        "Stream {name} under account {ACCOUNT} not ACTIVE, instead in state {}",
        stream.status()
    )))
}

fn find_shard<'a>(stream: &'a Stream, id: &str) -> ApiResult<&'a Shard> {
    let shard = parse_shard_id(id).and_then(|number| stream.shard(number));
    shard.ok_or_else(|| {
        ApiError::not_found(format!("Could not find shard {id} in stream {} under account {ACCOUNT}.", stream.name))
    })
}

fn expired_iterator(why: &str) -> ApiError {
    ApiError::new("ExpiredIteratorException", format!("Iterator expired: {why}."))
}

/// A record in answers.
pub(super) fn record_json(shard: &Shard, record: &StoredRecord) -> Value {
    json!({
        "SequenceNumber": shard.sequence_number(record.index, record.arrived_ms).to_string(),
        "ApproximateArrivalTimestamp": seconds(record.arrived_ms),
        "Data": BASE64_STANDARD.encode(&record.data),
        "PartitionKey": record.partition_key,
    })
}

fn range_json(shard: &Shard) -> Value {
    json!({"StartingHashKey": shard.range.0.to_string(), "EndingHashKey": shard.range.1.to_string()})
}

/// A shard in listings.
fn shard_json(shard: &Shard) -> Value {
    let mut numbers = json!({"StartingSequenceNumber": shard.first_sequence_number().to_string()});
    if let Some(last) = shard.last_sequence_number() {
        numbers["EndingSequenceNumber"] = last.to_string().into();
    }
    let mut value = json!({"ShardId": shard.id()});
    if let Some(parent) = shard.parent {
        value["ParentShardId"] = shard_id(parent).into();
    }
    if let Some(parent) = shard.adjacent_parent {
        value["AdjacentParentShardId"] = shard_id(parent).into();
    }
    value["HashKeyRange"] = range_json(shard);
    value["SequenceNumberRange"] = numbers;
    value
}

/// The shards that go on where this one ended.
pub(super) fn children_json(stream: &Stream, shard: &Shard) -> Value {
    let child = |child: &Shard| {
        let parents: Vec<_> = [child.parent, child.adjacent_parent].into_iter().flatten().map(shard_id).collect();
        json!({"ShardId": child.id(), "ParentShards": parents, "HashKeyRange": range_json(child)})
    };
    stream.children_of(shard.number).map(child).collect()
}

#[cfg(test)]
mod tests {
    use super::super::cbor;
    use super::super::wire::Body;
    use super::*;

    #[test]
    fn the_region_is_that_of_the_credential_scope() {
        let header = "AWS4-HMAC-SHA256 Credential=AKID/20240131/eu-west-1/kinesis/aws4_request, SignedHeaders=host";
        assert_eq!(parse_region(Some(header)), Some("eu-west-1"));
        assert_eq!([None, Some(""), Some("Credential=a"), Some("Credential=a/b/c\"/d")].map(parse_region), [None; 4]);
    }

    #[test]
    fn a_stream_is_named_by_itself_or_by_its_arn() {
        let arn = |arn: &str| named_stream(None, Some(arn.into()));
        assert_eq!(arn("arn:aws:kinesis:us-east-1:000000000000:stream/a.b"), Ok("a.b".into()));
        assert_eq!(arn("arn:aws:kinesis:us-east-1:000000000000:stream/a.b/consumer/c:5"), Ok("a.b".into()));
        assert_eq!(arn("a.b").unwrap_err().code, "ValidationException");
        assert_eq!(named_stream(Some("a b".into()), None).unwrap_err().code, "ValidationException");
        assert_eq!(named_stream(None, None).unwrap_err().code, "InvalidArgumentException");
    }

    /// A call as the AWS SDK for Java makes it.
    async fn call_in_cbor(kinesis: &Arc<EmbeddedKinesis>, action: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
        let request = Request {
            target: Some(format!("Kinesis_20131202.{action}")),
            content_type: Some("application/x-amz-cbor-1.1".into()),
            authorization: None,
            body: body.into(),
        };
        let Outcome::Answer(answer) = kinesis.handle(request).await else { panic!("no answer to {action}") };
        assert_eq!(answer.content_type, "application/x-amz-cbor-1.1");
        let Body::Full(body) = answer.body else { panic!("{action} answers events") };
        (answer.status, body.to_vec())
    }

    #[tokio::test]
    async fn calls_in_cbor_are_answered_in_cbor() {
        let dir = tempfile::tempdir().unwrap();
        let kinesis = EmbeddedKinesis::open(dir.path()).unwrap();
        let call = async |action: &str, body: Value| {
            let (status, answer) = call_in_cbor(&kinesis, action, cbor::encode(&body)).await;
            (status, cbor::decode(&answer).unwrap())
        };
        assert_eq!(call("CreateStream", json!({"StreamName": "s", "ShardCount": 1})).await.0, 200);
        // Blobs are byte strings, in and out.
        let put = call("PutRecord", json!({"StreamName": "s", "PartitionKey": "k", "Data": "AQID"})).await;
        assert_eq!(put.1["ShardId"], "shardId-000000000000");
        let place = json!({"StreamName": "s", "ShardId": "shardId-000000000000", "ShardIteratorType": "TRIM_HORIZON"});
        let (_, place) = call("GetShardIterator", place).await;
        let get = cbor::encode(&json!({"ShardIterator": place["ShardIterator"]}));
        let (_, records) = call_in_cbor(&kinesis, "GetRecords", get).await;
        assert!(records.windows(9).any(|window| window == [b"dData".as_slice(), &[0x43, 1, 2, 3]].concat()));
        let records = cbor::decode(&records).unwrap();
        assert_eq!(
            (&records["Records"][0]["Data"], &records["Records"][0]["PartitionKey"]),
            (&"AQID".into(), &"k".into())
        );
        let (status, missing) = call("DescribeStreamSummary", json!({"StreamName": "no"})).await;
        assert_eq!((status, &missing["__type"]), (400, &"ResourceNotFoundException".into()));
        assert_eq!(call_in_cbor(&kinesis, "ListStreams", vec![0x9f]).await.0, 400);
    }
}
