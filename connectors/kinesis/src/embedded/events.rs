//! Event streams: what SubscribeToShard answers, for as long as the subscription lasts.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::Bytes;
use futures::{Stream as AsyncStream, StreamExt as _};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::EmbeddedKinesis;
use super::api::{children_json, record_json};
use super::limits::{EVENT_BYTES_MAX, GET_RECORDS_MAX};
use super::storage::Stretch;
use super::stream::{Shard, Stream};
use super::wire::{ApiError, Format};

/// A body that brings events as they come.
pub(super) struct EventBody {
    // A body has to be Sync. Nobody but its one reader ever asks for the lock.
    events: Mutex<Pin<Box<dyn AsyncStream<Item = std::io::Result<Bytes>> + Send>>>,
}

impl EventBody {
    /// The events of a subscription. With `cut` the connection breaks after the first one.
    pub(super) fn new(subscription: Subscription, cut: bool) -> Self {
        let events = futures::stream::unfold((subscription, 0), move |(mut subscription, sent)| async move {
            // The response's own message comes first.
            if cut && sent == 2 {
                subscription.ended = true;
                return Some((Err(std::io::Error::other("cut by a fault")), (subscription, sent + 1)));
            }
            let message = subscription.next().await?;
            Some((Ok(message), (subscription, sent + 1)))
        });
        // Who reads a body may ask once more after its end.
        Self { events: Mutex::new(Box::pin(events.fuse())) }
    }

    pub(super) fn into_stream(self) -> impl AsyncStream<Item = std::io::Result<Bytes>> + Send {
        self.events.into_inner()
    }
}

impl http_body::Body for EventBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        let event = self.events.get_mut().as_mut().poll_next(context);
        event.map(|event| event.map(|bytes| bytes.map(http_body::Frame::data)))
    }
}

impl fmt::Debug for EventBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBody").finish_non_exhaustive()
    }
}

/// Who is subscribed to what: stream and shard, and the consumer.
pub(super) type SubscriptionKey = (u64, u32, String);

/// The last subscription of every consumer and shard, so that two of them don't read at once.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    last: Mutex<HashMap<SubscriptionKey, (u64, u64)>>,
}

impl Subscriptions {
    /// Takes the place of an older subscription, which ends. Refused for `pause_ms` after that one began.
    pub(super) fn begin(&self, key: SubscriptionKey, now_ms: u64, pause_ms: u64) -> Result<u64, ApiError> {
        let mut last = self.last.lock();
        let entry = last.entry(key).or_insert((0, 0));
        if entry.0 > 0 && now_ms < entry.1 + pause_ms {
            return Err(ApiError::in_use(format!(
                "Another active subscription exists for this consumer: it began {} ms ago, and can be replaced {pause_ms} ms \
                 after its beginning.",
                now_ms.saturating_sub(entry.1)
            )));
        }
        *entry = (entry.0 + 1, now_ms);
        Ok(entry.0)
    }

    fn is_current(&self, key: &SubscriptionKey, number: u64) -> bool {
        self.last.lock().get(key).is_some_and(|last| last.0 == number)
    }
}

/// One subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) kinesis: Arc<EmbeddedKinesis>,
    pub(super) key: SubscriptionKey,
    pub(super) stream_name: String,
    /// What [`Subscriptions::begin`] answered.
    pub(super) number: u64,
    /// The next record has this index, or a larger one.
    pub(super) index: u64,
    pub(super) format: Format,
    pub(super) commits: watch::Receiver<u64>,
    pub(super) ends: Instant,
    pub(super) started: bool,
    /// Whether an event was sent: the first one comes at once, even where it is empty.
    pub(super) greeted: bool,
    pub(super) ended: bool,
}

impl Subscription {
    /// The next message. None at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        if !self.started {
            self.started = true;
            return Some(message("event", ":event-type", "initial-response", self.format, &json!({})));
        }
        match self.next_event().await {
            Ok(event) => {
                self.greeted = true;
                event.map(|event| message("event", ":event-type", "SubscribeToShardEvent", self.format, &event))
            }
            Err(error) => {
                self.ended = true;
                Some(message("exception", ":exception-type", error.code, self.format, &error.to_json()))
            }
        }
    }

    async fn next_event(&mut self) -> Result<Option<Value>, ApiError> {
        let mut heartbeat = Instant::now() + self.kinesis.options.subscription_heartbeat;
        if !self.greeted {
            heartbeat = Instant::now();
        }
        loop {
            // Seen before reading, so that a commit in between wakes the wait below.
            self.commits.borrow_and_update();
            if !self.kinesis.subscriptions.is_current(&self.key, self.number) {
                return Err(ApiError::in_use("Another subscription of this consumer to this shard took over."));
            }
            let streams = self.kinesis.store.streams().await?;
            let stream = streams.get(&self.stream_name).filter(|stream| stream.id == self.key.0);
            let stream =
                stream.ok_or_else(|| ApiError::not_found(format!("Stream {} not found.", self.stream_name)))?;
            let shard = stream.shard(self.key.1);
            let shard = shard.ok_or_else(|| ApiError::not_found("The shard has left the stream's retention."))?;
            let stretch = self.read(Arc::clone(stream), shard.clone()).await?;
            self.index = stretch.records.last().map_or(self.index, |record| record.index + 1);
            let at_end = !shard.is_open() && stretch.following_ms.is_none();
            if at_end || !stretch.records.is_empty() || Instant::now() >= heartbeat {
                self.ended = at_end;
                return Ok(Some(self.event(stream, shard, &stretch, at_end)));
            }
            tokio::select! {
                () = tokio::time::sleep_until(self.ends) => {
                    self.ended = true;
                    return Ok(None);
                }
                () = tokio::time::sleep_until(heartbeat) => {}
                changed = self.commits.changed() => {
                    if changed.is_err() {
                        return Ok(None);
                    }
                }
            }
        }
    }

    async fn read(&self, stream: Arc<Stream>, shard: Shard) -> Result<Stretch, ApiError> {
        let (kinesis, index) = (Arc::clone(&self.kinesis), self.index);
        let horizon_ms = stream.horizon_ms(kinesis.now_ms());
        let read = move || kinesis.store.read(stream.id, &shard, index, horizon_ms, GET_RECORDS_MAX, EVENT_BYTES_MAX);
        let read = tokio::task::spawn_blocking(read).await;
        Ok(read.map_err(|error| ApiError::internal(error.to_string()))??)
    }

    fn event(&self, stream: &Stream, shard: &Shard, stretch: &Stretch, at_end: bool) -> Value {
        let records: Vec<_> = stretch.records.iter().map(|record| record_json(shard, record)).collect();
        let now_ms = self.kinesis.now_ms();
        let mut event = json!({
            "Records": records,
            "MillisBehindLatest": stretch.following_ms.map_or(0, |ms| now_ms.saturating_sub(ms).max(1)),
        });
        if at_end {
            event["ChildShards"] = children_json(stream, shard);
        } else {
            let last_ms = stretch.records.last().map_or(shard.created_ms, |record| record.arrived_ms);
            let last = shard.sequence_number(self.index - 1, last_ms);
            event["ContinuationSequenceNumber"] = last.to_string().into();
        }
        event
    }
}

/// One message of an event stream, in a frame.
fn message(kind: &'static str, name: &'static str, value: &'static str, format: Format, payload: &Value) -> Bytes {
    let header = |name: &'static str, value: &'static str| Header::new(name, HeaderValue::String(value.into()));
    let message = Message::new(format.write(payload))
        .add_header(header(":message-type", kind))
        .add_header(header(name, value))
        .add_header(header(":content-type", format.content_type()));
    let mut frame = Vec::new();
    // Three short headers, and a payload far below the format's 16 MiB.
    write_message_to(&message, &mut frame).expect("a message of known size fits its frame");
    frame.into()
}
