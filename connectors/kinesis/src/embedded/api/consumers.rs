//! Actions on consumers: registering them, and reading with enhanced fan-out.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::EmbeddedKinesis;
use super::super::events::{EventBody, Subscription};
use super::super::faults::Fault;
use super::super::limits::CONSUMERS_MAX;
use super::super::stream::{Consumer, Stream};
use super::super::wire::{ApiError, Reply, seconds};
use super::records::find_place;
use super::{
    ACCOUNT, ApiResult, Call, bounded, check_name, find_active_stream, find_shard, find_stream, named_stream,
    refuse_dry_run, required, stream_arn,
};

fn consumer_arn(region: &str, stream: &str, consumer: &Consumer) -> String {
    // The time of registration is a part of it: a consumer registered again is another one.
    format!("{}/consumer/{}:{}", stream_arn(region, stream), consumer.name, consumer.created_ms / 1000)
}

fn consumer_json(region: &str, stream: &str, consumer: &Consumer, now_ms: u64) -> Value {
    json!({
        "ConsumerName": consumer.name,
        "ConsumerARN": consumer_arn(region, stream, consumer),
        "ConsumerStatus": if now_ms < consumer.ready_ms { "CREATING" } else { "ACTIVE" },
        "ConsumerCreationTimestamp": seconds(consumer.created_ms),
    })
}

/// Stream, consumer, and where the ARN says so the second of registration.
#[derive(Debug)]
struct ConsumerName {
    stream: String,
    consumer: String,
    created: Option<u64>,
}

impl ConsumerName {
    fn parse_arn(arn: &str) -> ApiResult<Self> {
        let parsed = || {
            let (_, path) = arn.split_once(":stream/")?;
            let (stream, consumer) = path.split_once("/consumer/")?;
            let (consumer, created) = consumer.rsplit_once(':')?;
            Some(Self { stream: stream.into(), consumer: consumer.into(), created: Some(created.parse().ok()?) })
        };
        parsed().ok_or_else(|| {
            ApiError::validation(format!(
                "1 validation error detected: Value '{arn}' at 'consumerARN' failed to satisfy constraint: Member must look like \
                 arn:aws:kinesis:<region>:<account>:stream/<stream>/consumer/<consumer>:<time>"
            ))
        })
    }

    fn of(input: ConsumerInput) -> ApiResult<Self> {
        if let Some(arn) = input.consumer_arn {
            return Self::parse_arn(&arn);
        }
        let missing = || ApiError::argument("Either ConsumerARN, or StreamARN and ConsumerName, must be provided.");
        let arn = input.stream_arn.ok_or_else(missing)?;
        let consumer = input.consumer_name.ok_or_else(missing)?;
        Ok(Self { stream: named_stream(None, Some(arn))?, consumer, created: None })
    }

    fn find<'a>(&self, stream: &'a Stream) -> ApiResult<&'a Consumer> {
        let is_it = |consumer: &&Consumer| {
            consumer.name == self.consumer && self.created.is_none_or(|created| consumer.created_ms / 1000 == created)
        };
        stream.consumers.iter().find(is_it).ok_or_else(|| {
            ApiError::not_found(format!(
                "Consumer {} of stream {} under account {ACCOUNT} not found.",
                self.consumer, self.stream
            ))
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ConsumerInput {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    consumer_name: Option<String>,
    #[serde(rename = "ConsumerARN")]
    consumer_arn: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RegisterStreamConsumer {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    consumer_name: Option<String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

pub(super) async fn register_stream_consumer(
    kinesis: &Arc<EmbeddedKinesis>,
    call: Call,
    input: RegisterStreamConsumer,
) -> ApiResult {
    let stream_name = named_stream(None, Some(required("streamARN", input.stream_arn)?))?;
    let name = check_name("consumerName", required("consumerName", input.consumer_name)?)?;
    if !input.tags.is_empty() {
        return Err(ApiError::argument("The embedded Kinesis keeps tags of streams only, not of consumers."));
    }
    let register_ms = kinesis.options.register_duration.as_millis() as u64;
    let consumer = kinesis
        .store
        .write(move |working| {
            let mut stream = (**find_active_stream(working.streams(), &stream_name)?).clone();
            if stream.consumers.iter().any(|consumer| consumer.name == name) {
                return Err(ApiError::in_use(format!(
                    "Consumer {name} of stream {stream_name} under account {ACCOUNT} already exists."
                )));
            }
            if stream.consumers.len() >= CONSUMERS_MAX {
                return Err(ApiError::new(
                    "LimitExceededException",
                    format!(
                        "Stream {stream_name} has {CONSUMERS_MAX} registered consumers already, which is the limit."
                    ),
                ));
            }
            let now_ms = working.now_ms();
            let consumer = Consumer { name, created_ms: now_ms, ready_ms: now_ms + register_ms };
            let answer = consumer_json(&call.region, &stream.name, &consumer, now_ms);
            stream.consumers.push(consumer);
            working.put_stream(stream);
            Ok(answer)
        })
        .await?;
    Ok(Reply::Json(json!({"Consumer": consumer})))
}

pub(super) async fn deregister_stream_consumer(
    kinesis: &Arc<EmbeddedKinesis>,
    _: Call,
    input: ConsumerInput,
) -> ApiResult {
    let name = ConsumerName::of(input)?;
    kinesis
        .store
        .write(move |working| {
            let mut stream = (**find_stream(working.streams(), &name.stream)?).clone();
            let gone = name.find(&stream)?.name.clone();
            stream.consumers.retain(|consumer| consumer.name != gone);
            working.put_stream(stream);
            Ok(Reply::Empty)
        })
        .await
}

pub(super) async fn describe_stream_consumer(
    kinesis: &Arc<EmbeddedKinesis>,
    call: Call,
    input: ConsumerInput,
) -> ApiResult {
    let name = ConsumerName::of(input)?;
    let streams = kinesis.store.streams().await?;
    let stream = find_stream(&streams, &name.stream)?;
    let mut description = consumer_json(&call.region, &stream.name, name.find(stream)?, kinesis.now_ms());
    description["StreamARN"] = stream_arn(&call.region, &stream.name).into();
    Ok(Reply::Json(json!({"ConsumerDescription": description})))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListStreamConsumers {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    next_token: Option<String>,
    max_results: Option<i64>,
}

pub(super) async fn list_stream_consumers(
    kinesis: &Arc<EmbeddedKinesis>,
    call: Call,
    input: ListStreamConsumers,
) -> ApiResult {
    let limit = bounded("maxResults", input.max_results, 100, 10_000)?;
    let name = named_stream(None, Some(required("streamARN", input.stream_arn)?))?;
    let after = input.next_token.map(|token| kinesis.read_listing(&token)).transpose()?;
    let streams = kinesis.store.streams().await?;
    let stream = find_stream(&streams, &name)?;
    let mut consumers: Vec<_> = stream.consumers.iter().collect();
    consumers.sort_by(|one, other| one.name.cmp(&other.name));
    let mut rest = consumers.into_iter().filter(|consumer| after.as_ref().is_none_or(|after| consumer.name > *after));
    let page: Vec<_> = rest.by_ref().take(limit).collect();
    let more = rest.next().is_some();
    let now_ms = kinesis.now_ms();
    let listed: Vec<_> = page.iter().map(|consumer| consumer_json(&call.region, &name, consumer, now_ms)).collect();
    let mut answer = json!({"Consumers": listed});
    if more && let Some(last) = page.last() {
        answer["NextToken"] = kinesis.tokens.listing(&last.name, now_ms).into();
    }
    Ok(Reply::Json(answer))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SubscribeToShard {
    #[serde(rename = "ConsumerARN")]
    consumer_arn: Option<String>,
    shard_id: Option<String>,
    starting_position: Option<StartingPosition>,
    dry_run: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StartingPosition {
    r#type: String,
    sequence_number: Option<String>,
    timestamp: Option<f64>,
}

pub(super) async fn subscribe_to_shard(
    kinesis: &Arc<EmbeddedKinesis>,
    call: Call,
    input: SubscribeToShard,
) -> ApiResult {
    refuse_dry_run(input.dry_run)?;
    let name = ConsumerName::parse_arn(&required("consumerARN", input.consumer_arn)?)?;
    let id = required("shardId", input.shard_id)?;
    let position = required("startingPosition", input.starting_position)?;
    let streams = kinesis.store.streams().await?;
    let stream = find_stream(&streams, &name.stream)?;
    let consumer = name.find(stream)?;
    let shard = find_shard(stream, &id)?;
    let now_ms = kinesis.now_ms();
    if now_ms < consumer.ready_ms {
        return Err(ApiError::in_use(format!(
            "Consumer {} of stream {} under account {ACCOUNT} not ACTIVE, instead in state CREATING",
            consumer.name, stream.name
        )));
    }
    let commits = kinesis.store.commits();
    let index = find_place(kinesis, stream, shard, &position.r#type, position.sequence_number, position.timestamp)?;
    let key = (stream.id, shard.number, format!("{}:{}", consumer.name, consumer.created_ms));
    let pause_ms = kinesis.options.resubscribe_pause.as_millis() as u64;
    let number = kinesis.subscriptions.begin(key.clone(), now_ms, pause_ms)?;
    let subscription = Subscription {
        kinesis: Arc::clone(kinesis),
        key,
        stream_name: stream.name.clone(),
        number,
        index,
        format: call.format,
        commits,
        ends: Instant::now() + kinesis.options.subscription_life,
        started: false,
        greeted: false,
        ended: false,
    };
    Ok(Reply::Events(EventBody::new(subscription, call.fault == Some(Fault::CutAfter))))
}
