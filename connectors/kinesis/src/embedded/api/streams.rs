//! Actions on streams as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::EmbeddedKinesis;
use super::super::limits::{RECORD_KIB_DEFAULT, RECORD_KIB_MAX, RETENTION_HOURS};
use super::super::storage::Working;
use super::super::stream::{Pending, Stream, Transition};
use super::super::wire::{ApiError, Reply, seconds};
use super::{
    ACCOUNT, ApiResult, Call, bounded, check_name, find_active_stream, find_stream, named_stream, required, shard_json,
    stream_arn, tags,
};

/// StreamName or StreamARN, and nothing else that matters.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StreamInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreateStream {
    stream_name: Option<String>,
    shard_count: Option<i64>,
    stream_mode_details: Option<StreamModeDetails>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(rename = "MaxRecordSizeInKiB")]
    max_record_size_in_kib: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StreamModeDetails {
    stream_mode: String,
}

impl StreamModeDetails {
    fn is_on_demand(&self) -> ApiResult<bool> {
        match self.stream_mode.as_str() {
            "ON_DEMAND" => Ok(true),
            "PROVISIONED" => Ok(false),
            other => Err(ApiError::validation(format!(
                "1 validation error detected: Value '{other}' at 'streamModeDetails.streamMode' failed to satisfy constraint: \
                 Member must satisfy enum value set: [PROVISIONED, ON_DEMAND]"
            ))),
        }
    }
}

pub(super) async fn create_stream(kinesis: &Arc<EmbeddedKinesis>, _: Call, input: CreateStream) -> ApiResult {
    let name = check_name("streamName", required("streamName", input.stream_name)?)?;
    let on_demand = input.stream_mode_details.as_ref().map_or(Ok(false), StreamModeDetails::is_on_demand)?;
    let shards = bounded("shardCount", input.shard_count, kinesis.options.shard_count as usize, 100_000)? as u32;
    let record_kib_max = record_kib(input.max_record_size_in_kib)?;
    tags::check(&input.tags)?;
    let options = &kinesis.options;
    let (shard_limit, create_ms) = (options.shard_limit, options.create_duration.as_millis() as u64);
    kinesis
        .store
        .write(move |working| {
            if working.streams().contains_key(&name) {
                return Err(ApiError::in_use(format!("Stream {name} under account {ACCOUNT} already exists.")));
            }
            check_shard_limit(working, shards, shard_limit)?;
            let stream = Stream {
                id: working.next_stream_id(),
                name,
                created_ms: working.now_ms(),
                on_demand,
                retention_hours: *RETENTION_HOURS.start(),
                record_kib_max,
                pending: Some(Pending {
                    due_ms: working.now_ms() + create_ms,
                    transition: Transition::Create { shards },
                }),
                shards: Vec::new(),
                shards_made: 0,
                consumers: Vec::new(),
                tags: input.tags,
            };
            working.put_stream(stream);
            Ok(Reply::Empty)
        })
        .await
}

/// Refuses `more` open shards where that would be too many.
pub(super) fn check_shard_limit(working: &Working, more: u32, limit: u32) -> ApiResult<()> {
    let open: usize = working.streams().values().map(|stream| stream.open_shards().len()).sum();
    if open as u64 + u64::from(more) <= u64::from(limit) {
        return Ok(());
    }
    Err(ApiError::new(
        "LimitExceededException",
        format!(
            "This request would exceed the shard limit for the account {ACCOUNT} in this region. Current shard count for the \
             account: {open}. Limit: {limit}. Number of additional shards that would have resulted from this request: {more}."
        ),
    ))
}

fn record_kib(value: Option<i64>) -> ApiResult<u32> {
    let kib = bounded("maxRecordSizeInKiB", value, RECORD_KIB_DEFAULT as usize, RECORD_KIB_MAX as usize)? as u32;
    if kib >= RECORD_KIB_DEFAULT {
        return Ok(kib);
    }
    Err(ApiError::validation(format!(
        "1 validation error detected: Value '{kib}' at 'maxRecordSizeInKiB' failed to satisfy constraint: Member must have value \
         from {RECORD_KIB_DEFAULT} to {RECORD_KIB_MAX}"
    )))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DeleteStream {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    enforce_consumer_deletion: Option<bool>,
}

pub(super) async fn delete_stream(kinesis: &Arc<EmbeddedKinesis>, _: Call, input: DeleteStream) -> ApiResult {
    let name = named_stream(input.stream_name, input.stream_arn)?;
    let delete_ms = kinesis.options.delete_duration.as_millis() as u64;
    let enforce = input.enforce_consumer_deletion.unwrap_or(false);
    kinesis
        .store
        .write(move |working| {
            let mut stream = (**find_stream(working.streams(), &name)?).clone();
            if !stream.consumers.is_empty() && !enforce {
                return Err(ApiError::in_use(format!(
                    "Stream {name} under account {ACCOUNT} has {} registered consumers. Deregister them, or set \
                     EnforceConsumerDeletion.",
                    stream.consumers.len()
                )));
            }
            stream.pending = Some(Pending { due_ms: working.now_ms() + delete_ms, transition: Transition::Delete });
            working.put_stream(stream);
            Ok(Reply::Empty)
        })
        .await
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListStreams {
    limit: Option<i64>,
    exclusive_start_stream_name: Option<String>,
    next_token: Option<String>,
}

pub(super) async fn list_streams(kinesis: &Arc<EmbeddedKinesis>, call: Call, input: ListStreams) -> ApiResult {
    let limit = bounded("limit", input.limit, 100, 10_000)?;
    let after = match input.next_token {
        Some(token) => Some(kinesis.read_listing(&token)?),
        None => input.exclusive_start_stream_name,
    };
    let streams = kinesis.store.streams().await?;
    let mut rest = streams.values().filter(|stream| after.as_ref().is_none_or(|after| stream.name > *after));
    let page: Vec<_> = rest.by_ref().take(limit).collect();
    let more = rest.next().is_some();
    let names: Vec<_> = page.iter().map(|stream| stream.name.as_str()).collect();
    let summary = |stream: &&Arc<Stream>| {
        json!({
            "StreamName": stream.name,
            "StreamARN": stream_arn(&call.region, &stream.name),
            "StreamStatus": stream.status(),
            "StreamModeDetails": mode_json(stream),
            "StreamCreationTimestamp": seconds(stream.created_ms),
        })
    };
    let mut answer = json!({
        "StreamNames": names,
        "HasMoreStreams": more,
        "StreamSummaries": page.iter().map(summary).collect::<Vec<_>>(),
    });
    if more && let Some(last) = names.last() {
        answer["NextToken"] = kinesis.tokens.listing(last, kinesis.now_ms()).into();
    }
    Ok(Reply::Json(answer))
}

impl EmbeddedKinesis {
    /// What a `NextToken` says, where it is still good.
    pub(super) fn read_listing(&self, token: &str) -> ApiResult<String> {
        let (place, issued_ms) =
            self.tokens.read_listing(token).ok_or_else(|| ApiError::argument("The NextToken is not valid."))?;
        if self.now_ms().saturating_sub(issued_ms) > self.options.iterator_life.as_millis() as u64 {
            return Err(ApiError::new("ExpiredNextTokenException", "The NextToken is older than 300 seconds."));
        }
        Ok(place)
    }
}

fn mode_json(stream: &Stream) -> Value {
    json!({"StreamMode": if stream.on_demand { "ON_DEMAND" } else { "PROVISIONED" }})
}

/// What both descriptions say.
fn description_json(stream: &Stream, region: &str) -> Value {
    json!({
        "StreamName": stream.name,
        "StreamARN": stream_arn(region, &stream.name),
        "StreamStatus": stream.status(),
        "StreamModeDetails": mode_json(stream),
        "RetentionPeriodHours": stream.retention_hours,
        "StreamCreationTimestamp": seconds(stream.created_ms),
        "EnhancedMonitoring": [{"ShardLevelMetrics": []}],
        "EncryptionType": "NONE",
    })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeStream {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    limit: Option<i64>,
    exclusive_start_shard_id: Option<String>,
}

pub(super) async fn describe_stream(kinesis: &Arc<EmbeddedKinesis>, call: Call, input: DescribeStream) -> ApiResult {
    let name = named_stream(input.stream_name, input.stream_arn)?;
    let limit = bounded("limit", input.limit, 100, 10_000)?;
    let after = input.exclusive_start_shard_id.as_deref().map(super::shards::parse_id).transpose()?;
    let streams = kinesis.store.streams().await?;
    let stream = find_stream(&streams, &name)?;
    let mut rest = stream.shards.iter().filter(|shard| after.is_none_or(|after| shard.number > after));
    let page: Vec<_> = rest.by_ref().take(limit).map(shard_json).collect();
    let mut description = description_json(stream, &call.region);
    description["Shards"] = page.into();
    description["HasMoreShards"] = rest.next().is_some().into();
    Ok(Reply::Json(json!({"StreamDescription": description})))
}

pub(super) async fn describe_stream_summary(
    kinesis: &Arc<EmbeddedKinesis>,
    call: Call,
    input: StreamInput,
) -> ApiResult {
    let name = named_stream(input.stream_name, input.stream_arn)?;
    let streams = kinesis.store.streams().await?;
    let stream = find_stream(&streams, &name)?;
    let mut description = description_json(stream, &call.region);
    description["OpenShardCount"] = stream.open_shards().len().into();
    description["ConsumerCount"] = stream.consumers.len().into();
    description["MaxRecordSizeInKiB"] = stream.record_kib_max.into();
    Ok(Reply::Json(json!({"StreamDescriptionSummary": description})))
}

pub(super) async fn describe_limits(kinesis: &Arc<EmbeddedKinesis>, _: Call, _: Value) -> ApiResult {
    let streams = kinesis.store.streams().await?;
    let open: usize = streams.values().map(|stream| stream.open_shards().len()).sum();
    let on_demand = streams.values().filter(|stream| stream.on_demand).count();
    Ok(Reply::Json(json!({
        "ShardLimit": kinesis.options.shard_limit,
        "OpenShardCount": open,
        "OnDemandStreamCount": on_demand,
        "OnDemandStreamCountLimit": 50,
    })))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RetentionPeriod {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    retention_period_hours: Option<u32>,
}

pub(super) async fn increase_retention(kinesis: &Arc<EmbeddedKinesis>, _: Call, input: RetentionPeriod) -> ApiResult {
    set_retention(kinesis, input, "Increase", |wanted, current| wanted >= current).await
}

pub(super) async fn decrease_retention(kinesis: &Arc<EmbeddedKinesis>, _: Call, input: RetentionPeriod) -> ApiResult {
    set_retention(kinesis, input, "Decrease", |wanted, current| wanted <= current).await
}

async fn set_retention(
    kinesis: &Arc<EmbeddedKinesis>,
    input: RetentionPeriod,
    verb: &'static str,
    allowed: fn(u32, u32) -> bool,
) -> ApiResult {
    let name = named_stream(input.stream_name, input.stream_arn)?;
    let hours = required("retentionPeriodHours", input.retention_period_hours)?;
    if !RETENTION_HOURS.contains(&hours) {
        return Err(ApiError::argument(format!(
            "Retention period must be from {} to {} hours, and {hours} is not.",
            RETENTION_HOURS.start(),
            RETENTION_HOURS.end()
        )));
    }
    kinesis
        .store
        .write(move |working| {
            let mut stream = (**find_active_stream(working.streams(), &name)?).clone();
            if !allowed(hours, stream.retention_hours) {
                return Err(ApiError::argument(format!(
                    "Requested retention period ({hours} hours) for stream {name} does not {} the existing one ({} hours).",
                    verb.to_lowercase(),
                    stream.retention_hours
                )));
            }
            stream.retention_hours = hours;
            working.put_stream(stream);
            Ok(Reply::Empty)
        })
        .await
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UpdateStreamMode {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    stream_mode_details: Option<StreamModeDetails>,
}

pub(super) async fn update_stream_mode(kinesis: &Arc<EmbeddedKinesis>, _: Call, input: UpdateStreamMode) -> ApiResult {
    let name = named_stream(None, input.stream_arn)?;
    let on_demand = required("streamModeDetails", input.stream_mode_details)?.is_on_demand()?;
    kinesis
        .store
        .write(move |working| {
            let mut stream = (**find_active_stream(working.streams(), &name)?).clone();
            stream.on_demand = on_demand;
            working.put_stream(stream);
            Ok(Reply::Empty)
        })
        .await
}

#[derive(Debug, Deserialize)]
pub(super) struct UpdateMaxRecordSize {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    #[serde(rename = "MaxRecordSizeInKiB")]
    max_record_size_in_kib: Option<i64>,
}

pub(super) async fn update_max_record_size(
    kinesis: &Arc<EmbeddedKinesis>,
    _: Call,
    input: UpdateMaxRecordSize,
) -> ApiResult {
    let name = named_stream(None, input.stream_arn)?;
    let kib = record_kib(Some(required("maxRecordSizeInKiB", input.max_record_size_in_kib)?))?;
    kinesis
        .store
        .write(move |working| {
            let mut stream = (**find_active_stream(working.streams(), &name)?).clone();
            stream.record_kib_max = kib;
            working.put_stream(stream);
            Ok(Reply::Empty)
        })
        .await
}
