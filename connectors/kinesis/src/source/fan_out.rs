//! Reading a shard by `SubscribeToShard`: a registered consumer to which Kinesis sends what comes, for five minutes at a time.

use std::time::Duration;

use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::primitives::event_stream::EventReceiver;
use aws_sdk_kinesis::types::error::SubscribeToShardEventStreamError;
use aws_sdk_kinesis::types::{
    ConsumerStatus, ShardIteratorType, StartingPosition, SubscribeToShardEvent, SubscribeToShardEventStream,
};
use ottla_api::prelude::*;
use tokio::time::Instant;

use super::polling::{Fetched, From};
use super::shards::ShardKey;
use crate::client::Kinesis;
use crate::error::{Failure, What, from_sdk};

type Events = EventReceiver<SubscribeToShardEventStream, SubscribeToShardEventStreamError>;

/// A subscription that shows nothing for so long, not even that nothing is new, is dead.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Who has waited so long for an event has taken in everything that was sent before: what comes then is fresh.
const FRESH_AFTER: Duration = Duration::from_millis(200);
/// How often is looked whether a new consumer is ready, and for how long.
const REGISTRATION_LOOK: Duration = Duration::from_millis(200);
const REGISTRATION_PATIENCE: Duration = Duration::from_secs(120);

/// Finds the consumer of this name, or registers it, and waits until it can be used. The answer is its ARN.
pub(crate) async fn register(kinesis: &Kinesis, stream_arn: &str, name: &str) -> Result<String> {
    let begun = Instant::now();
    loop {
        let found = kinesis.client.describe_stream_consumer().stream_arn(stream_arn).consumer_name(name).send().await;
        match found.map_err(|error| from_sdk(error, "look at a consumer", &kinesis.place)) {
            Ok(found) => {
                let description = found.consumer_description;
                let found = description.map(|found| (found.consumer_status, found.consumer_arn));
                match found {
                    Some((ConsumerStatus::Active, arn)) => return Ok(arn),
                    _ if begun.elapsed() > REGISTRATION_PATIENCE => {
                        return Err(Error::retriable("the consumer is still not ready").with("consumer", name));
                    }
                    _ => tokio::time::sleep(REGISTRATION_LOOK).await,
                }
            }
            Err(failure) if failure.what == What::NotFound => {
                let made =
                    kinesis.client.register_stream_consumer().stream_arn(stream_arn).consumer_name(name).send().await;
                match made.map_err(|error| from_sdk(error, "register a consumer", &kinesis.place)) {
                    Ok(_) => tracing::info!(consumer = name, stream_arn, "registered a consumer"),
                    // Another task was quicker.
                    Err(failure) if failure.what == What::InUse => {}
                    Err(failure) => return Err(failure.error.with("consumer", name)),
                }
            }
            Err(failure) => return Err(failure.error.with("consumer", name)),
        }
    }
}

/// Reads one shard by subscriptions.
pub(crate) struct Subscriber {
    kinesis: Kinesis,
    key: ShardKey,
    consumer_arn: String,
    from: From,
    events: Option<Box<Events>>,
    /// The next event was sent after this.
    sent_after: Instant,
}

impl Subscriber {
    pub(crate) fn new(kinesis: Kinesis, key: ShardKey, consumer_arn: String, from: From) -> Self {
        Self { kinesis, key, consumer_arn, from, events: None, sent_after: Instant::now() }
    }

    /// Waits for the next event. Events may lie in a connection for as long as nobody asks for them, and say of that time that
    /// nothing more is there; so an event that came at once is as old as the last one that was waited for.
    ///
    /// After a failure, and after the end of a subscription, the next call subscribes again behind
    /// what was read.
    pub(crate) async fn read(&mut self) -> Result<Fetched, Failure> {
        loop {
            let mut events = match self.events.take() {
                Some(events) => events,
                None => {
                    self.sent_after = Instant::now();
                    self.subscribe().await?
                }
            };
            let asked = Instant::now();
            let event = match tokio::time::timeout(SILENCE_MAX, events.recv()).await {
                Ok(Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event)))) => event,
                // An event of a kind that came after this was written.
                Ok(Ok(Some(_))) => {
                    self.events = Some(events);
                    continue;
                }
                // Five minutes are over.
                Ok(Ok(None)) => continue,
                Ok(Err(error)) => return Err(self.named(from_sdk(error, "read a subscription", &self.kinesis.place))),
                Err(_) => {
                    let message = format!("read a subscription: silent for {} s", SILENCE_MAX.as_secs());
                    return Err(self.named(Failure { what: What::Unsure, error: Error::retriable(message) }));
                }
            };
            self.events = Some(events);
            if asked.elapsed() >= FRESH_AFTER {
                self.sent_after = Instant::now() - FRESH_AFTER;
            }
            return Ok(self.absorb(event));
        }
    }

    fn absorb(&mut self, event: SubscribeToShardEvent) -> Fetched {
        let SubscribeToShardEvent { records, continuation_sequence_number, millis_behind_latest, child_shards, .. } =
            event;
        let ended = continuation_sequence_number.is_empty() || child_shards.is_some_and(|shards| !shards.is_empty());
        // The place of the last event also where it had no record: an idle subscription moves on too.
        if !continuation_sequence_number.is_empty() {
            self.from = From::After(continuation_sequence_number);
        }
        Fetched { records, behind: Some(millis_behind_latest), ended, began: self.sent_after, expired: 0 }
    }

    /// Within five seconds of the last one Kinesis refuses (`ResourceInUseException`), as it does while another process has the
    /// subscription; the caller's pauses grow until it is taken.
    async fn subscribe(&mut self) -> Result<Box<Events>, Failure> {
        let position = StartingPosition::builder();
        let position = match &self.from {
            From::Horizon => position.r#type(ShardIteratorType::TrimHorizon),
            From::Latest { .. } => position.r#type(ShardIteratorType::Latest),
            From::Time(millis) => {
                position.r#type(ShardIteratorType::AtTimestamp).timestamp(DateTime::from_millis(*millis))
            }
            From::At(sequence) => position.r#type(ShardIteratorType::AtSequenceNumber).sequence_number(sequence),
            From::After(sequence) => position.r#type(ShardIteratorType::AfterSequenceNumber).sequence_number(sequence),
        };
        let position = position.build().expect("the type is set");
        let request = self.kinesis.client.subscribe_to_shard().consumer_arn(&self.consumer_arn);
        let answer = request.shard_id(&*self.key.shard).starting_position(position).send().await;
        let answer =
            answer.map_err(|error| self.named(from_sdk(error, "subscribe to a shard", &self.kinesis.place)))?;
        if let From::Latest { since } = self.from {
            self.from = From::Time(since);
        }
        Ok(Box::new(answer.event_stream))
    }

    fn named(&self, mut failure: Failure) -> Failure {
        failure.error = failure.error.with("stream", &self.key.stream).with("shard", &self.key.shard);
        failure
    }
}

impl std::fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Subscriber({} from {:?})", self.key.shard, self.from)
    }
}
