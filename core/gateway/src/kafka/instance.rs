//! One consumer instance: a member of its group between the calls of whoever uses it.
//!
//! It runs on its own, so that the group is served while nobody asks: partitions that are wanted back are given back at once.
//! What it fetches meanwhile is bounded. Nothing counts as read until it has been answered.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ottla_api::config::Properties;
use ottla_api::offset::{Positions, TopicPartition};
use ottla_api::record::RawRecord;
use ottla_api::{Error, data::json};
use ottla_runtime::broker::{Broker, ConsumerEvent, ConsumerSpec, GroupConsumer, StartPosition, Subscription};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::formats::Format;
use crate::error::{Failure, Result, code};

/// What is fetched before anybody asks for it.
const AHEAD_BYTES_MAX: usize = 2 << 20;
/// Most records of one batch of the broker's.
const BATCH_RECORDS_MAX: usize = 500;
/// How long is waited for more, once there is something to answer.
const GATHER: Duration = Duration::from_millis(20);
/// Pause after an error of the consumer that may pass.
const ERROR_PAUSE: Duration = Duration::from_millis(500);

/// What an instance may be asked.
#[derive(Debug)]
pub(super) enum Command {
    Subscribe(Subscription, oneshot::Sender<Result<()>>),
    Subscription(oneshot::Sender<Option<Subscription>>),
    Unsubscribe(oneshot::Sender<()>),
    Assignment(oneshot::Sender<Vec<TopicPartition>>),
    Records(Records, oneshot::Sender<Result<Vec<u8>>>),
    Commit(Option<Positions>, oneshot::Sender<Result<()>>),
    Seek(Positions, oneshot::Sender<Result<()>>),
    Close(oneshot::Sender<()>),
}

/// Which records are asked for.
#[derive(Debug)]
pub(super) struct Records {
    /// Until when is waited for some.
    pub(super) until: Instant,
    /// Most bytes of keys and values; one record is answered whatever its size.
    pub(super) bytes_max: usize,
    pub(super) format: Format,
}

/// A consumer instance.
pub(super) struct Instance {
    broker: Arc<dyn Broker>,
    group: String,
    name: String,
    start: StartPosition,
    auto_commit: bool,
    idle_max: Duration,
    member: Option<Member>,
    /// Who waits for records, and until when.
    waiting: Option<(Records, oneshot::Sender<Result<Vec<u8>>>)>,
    last_asked: Instant,
}

/// Its place in the group.
struct Member {
    consumer: Box<dyn GroupConsumer>,
    subscription: Subscription,
    assigned: BTreeSet<TopicPartition>,
    fetched: VecDeque<Fetched>,
    fetched_bytes: usize,
    paused: bool,
    /// The position behind what was answered, per partition.
    answered: Positions,
    /// That of it which is stored.
    stored: Positions,
    /// What is wrong, until somebody was told.
    trouble: Option<Error>,
    resting_until: Option<Instant>,
}

struct Fetched {
    partition: TopicPartition,
    record: RawRecord,
    /// The position behind it.
    next_offset: i64,
}

impl Fetched {
    fn bytes(&self) -> usize {
        self.record.size_estimate()
    }
}

impl Instance {
    pub(super) fn new(
        broker: Arc<dyn Broker>,
        group: String,
        name: String,
        start: StartPosition,
        auto_commit: bool,
        idle_max: Duration,
    ) -> Self {
        let last_asked = Instant::now();
        Self { broker, group, name, start, auto_commit, idle_max, member: None, waiting: None, last_asked }
    }

    /// Serves until it is closed, nobody asks any more, or everything stops.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>, stop: CancellationToken) {
        let closer = loop {
            let answer_at = self.waiting.as_ref().map(|(records, _)| records.until);
            let expires_at = self.last_asked + self.idle_max;
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Close(reply)) => break Some(reply),
                    Some(command) => {
                        self.last_asked = Instant::now();
                        self.obey(command).await;
                    }
                    None => break None,
                },
                event = next_event(&mut self.member) => self.take(event).await,
                () = sleep_until(answer_at.unwrap_or(expires_at)), if answer_at.is_some() => self.answer(),
                () = sleep_until(expires_at), if answer_at.is_none() => {
                    info!(group = self.group, instance = self.name, "a consumer instance that nobody asks has ended");
                    break None;
                }
                () = stop.cancelled() => break None,
            }
        };
        if self.waiting.is_some() {
            self.answer();
        }
        self.leave().await;
        if let Some(reply) = closer {
            let _ = reply.send(());
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Subscribe(subscription, reply) => {
                let subscribed = self.subscribe(subscription).await;
                let _ = reply.send(subscribed);
            }
            Command::Subscription(reply) => {
                let _ = reply.send(self.member.as_ref().map(|member| member.subscription.clone()));
            }
            Command::Unsubscribe(reply) => {
                self.leave().await;
                let _ = reply.send(());
            }
            Command::Assignment(reply) => {
                let assigned = self.member.iter().flat_map(|member| member.assigned.iter().cloned());
                let _ = reply.send(assigned.collect());
            }
            Command::Records(records, reply) => self.records(records, reply).await,
            Command::Commit(positions, reply) => {
                let committed = match &mut self.member {
                    None => Err(unsubscribed()),
                    Some(member) => member.commit(positions).await,
                };
                let _ = reply.send(committed);
            }
            Command::Seek(positions, reply) => {
                let sought = match &mut self.member {
                    None => Err(unsubscribed()),
                    Some(member) => member.seek(positions).await,
                };
                let _ = reply.send(sought);
            }
            Command::Close(_) => unreachable!("the loop ends with it"),
        }
    }

    async fn subscribe(&mut self, subscription: Subscription) -> Result<()> {
        self.leave().await;
        let spec = ConsumerSpec {
            group: self.group.clone(),
            client_id: self.name.clone(),
            instance_id: None,
            subscription: subscription.clone(),
            start: self.start,
            settings: Properties::new(),
            batch_records_max: BATCH_RECORDS_MAX,
            ahead_bytes_max: AHEAD_BYTES_MAX,
        };
        let consumer = self.broker.consumer(spec).await.map_err(|error| Failure::broker(&error))?;
        self.member = Some(Member {
            consumer,
            subscription,
            assigned: BTreeSet::new(),
            fetched: VecDeque::new(),
            fetched_bytes: 0,
            paused: false,
            answered: Positions::new(),
            stored: Positions::new(),
            trouble: None,
            resting_until: None,
        });
        Ok(())
    }

    async fn leave(&mut self) {
        let Some(mut member) = self.member.take() else { return };
        if self.auto_commit
            && let Err(failure) = member.commit(None).await
        {
            debug!(group = self.group, instance = self.name, failure = ?failure, "positions were not stored at the end");
        }
        if let Err(error) = member.consumer.close().await {
            warn!(group = self.group, instance = self.name, error = %error, "a consumer instance could not leave its group in order");
        }
    }

    async fn records(&mut self, records: Records, reply: oneshot::Sender<Result<Vec<u8>>>) {
        // Who gave up waiting has no claim on what comes.
        if self.waiting.as_ref().is_some_and(|(_, other)| !other.is_closed()) {
            let message =
                "another call is waiting for records of this instance; wait for its answer, or make an instance more";
            let _ = reply.send(Err(Failure::kafka(code::ILLEGAL_STATE, message)));
            return;
        }
        let Some(member) = &mut self.member else {
            let _ = reply.send(Err(unsubscribed()));
            return;
        };
        // Whoever asks for more has done with what came before, as Kafka's own consumers take it.
        if self.auto_commit
            && let Err(failure) = member.commit(None).await
        {
            debug!(group = self.group, instance = self.name, failure = ?failure, "positions were not stored");
        }
        self.waiting = Some((records, reply));
        self.hasten();
    }

    /// Answers soon if there is something to answer, at once if it is enough.
    fn hasten(&mut self) {
        let (Some((records, _)), Some(member)) = (&mut self.waiting, &self.member) else { return };
        if member.fetched_bytes >= records.bytes_max || member.trouble.is_some() {
            self.answer();
        } else if !member.fetched.is_empty() {
            records.until = records.until.min(Instant::now() + GATHER);
        }
    }

    fn answer(&mut self) {
        let Some((records, reply)) = self.waiting.take() else { return };
        self.last_asked = Instant::now();
        let Some(member) = &mut self.member else {
            let _ = reply.send(Err(unsubscribed()));
            return;
        };
        if member.fetched.is_empty()
            && let Some(error) = member.trouble.take()
        {
            let _ = reply.send(Err(Failure::broker(&error)));
            return;
        }
        let (body, taken) = match member.render(&records) {
            Ok(rendered) => rendered,
            Err(failure) => {
                let _ = reply.send(Err(failure));
                return;
            }
        };
        // Nobody there any more: the records stay for the next call.
        if reply.send(Ok(body)).is_ok() {
            member.take_out(taken);
        }
    }

    async fn take(&mut self, event: ottla_api::Result<ConsumerEvent>) {
        let Some(member) = &mut self.member else { return };
        let auto_commit = self.auto_commit;
        let done = match event {
            Ok(event) => member.on(event, self.start, auto_commit).await,
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            warn!(group = self.group, instance = self.name, error = %error, "a consumer instance has trouble");
            member.resting_until = Some(Instant::now() + ERROR_PAUSE);
            member.trouble = Some(error);
        }
        self.hasten();
        if let Some(member) = &mut self.member {
            member.pause_or_resume().await;
        }
    }
}

/// The next event of the group; never, without a subscription.
async fn next_event(member: &mut Option<Member>) -> ottla_api::Result<ConsumerEvent> {
    let Some(member) = member else { return std::future::pending().await };
    if let Some(until) = member.resting_until {
        sleep_until(until).await;
        member.resting_until = None;
    }
    member.consumer.next().await
}

impl Member {
    async fn on(&mut self, event: ConsumerEvent, start: StartPosition, auto_commit: bool) -> ottla_api::Result<()> {
        match event {
            ConsumerEvent::Assigned(positions) => {
                self.assigned.extend(positions.keys().cloned());
                self.paused = false;
                self.consumer.start_at(&positions).await
            }
            ConsumerEvent::Revoked(partitions) => {
                if auto_commit {
                    // What can't be stored is answered again by whoever gets the partitions.
                    if let Err(failure) = self.commit(None).await {
                        debug!(failure = ?failure, "positions of partitions that go were not stored");
                    }
                }
                self.forget(&partitions);
                self.consumer.release(&partitions).await
            }
            ConsumerEvent::Lost(partitions) => {
                self.forget(&partitions);
                Ok(())
            }
            ConsumerEvent::Batch { partition, records, next_offset } => {
                let count = records.len();
                for (index, record) in records.into_iter().enumerate() {
                    let next = if index + 1 == count { next_offset } else { record.offset + 1 };
                    let fetched = Fetched { partition: partition.clone(), record, next_offset: next };
                    self.fetched_bytes += fetched.bytes();
                    self.fetched.push_back(fetched);
                }
                Ok(())
            }
            ConsumerEvent::OutOfRange { partition, position, range } => {
                let place = match start {
                    StartPosition::Earliest => range.start,
                    StartPosition::Latest => range.end,
                    StartPosition::None => {
                        return Err(Error::fatal(format!(
                            "{partition} holds offsets {} to {}, and position {position} is none of them; move it by POST \
                             .../positions",
                            range.start, range.end
                        )));
                    }
                };
                warn!(%partition, position, start = range.start, end = range.end, "the records at a consumer's position are gone");
                self.consumer.start_at(&Positions::from([(partition, place)])).await
            }
        }
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        for id in partitions {
            self.assigned.remove(id);
            self.answered.remove(id);
            self.stored.remove(id);
        }
        self.drop_fetched(|id| partitions.contains(id));
    }

    fn drop_fetched(&mut self, which: impl Fn(&TopicPartition) -> bool) {
        self.fetched.retain(|fetched| !which(&fetched.partition));
        self.fetched_bytes = self.fetched.iter().map(Fetched::bytes).sum();
    }

    /// Stores positions: those given, or those of everything that was answered.
    async fn commit(&mut self, positions: Option<Positions>) -> Result<()> {
        let positions = positions.unwrap_or_else(|| {
            let new = self.answered.iter().filter(|(id, position)| self.stored.get(*id) != Some(*position));
            new.map(|(id, position)| (id.clone(), *position)).collect()
        });
        if positions.is_empty() {
            return Ok(());
        }
        self.consumer.commit(&positions).await.map_err(|error| Failure::broker(&error))?;
        self.stored.extend(positions);
        Ok(())
    }

    async fn seek(&mut self, positions: Positions) -> Result<()> {
        let strange: Vec<String> =
            positions.keys().filter(|id| !self.assigned.contains(*id)).map(ToString::to_string).collect();
        if !strange.is_empty() {
            let message = format!(
                "{} is not assigned to this instance (GET .../assignments shows what is; it takes a moment after subscribing)",
                strange.join(", ")
            );
            return Err(Failure::kafka(code::ILLEGAL_STATE, message));
        }
        self.drop_fetched(|id| positions.contains_key(id));
        self.consumer.start_at(&positions).await.map_err(|error| Failure::broker(&error))?;
        self.answered.retain(|id, _| !positions.contains_key(id));
        self.pause_or_resume().await;
        Ok(())
    }

    /// Stops fetching while much lies here, which keeps the group's own events coming.
    async fn pause_or_resume(&mut self) {
        let wanted =
            if self.paused { self.fetched_bytes > AHEAD_BYTES_MAX / 2 } else { self.fetched_bytes > AHEAD_BYTES_MAX };
        if wanted == self.paused {
            return;
        }
        let assigned: Vec<TopicPartition> = self.assigned.iter().cloned().collect();
        let done = if wanted { self.consumer.pause(&assigned).await } else { self.consumer.resume(&assigned).await };
        match done {
            Ok(()) => self.paused = wanted,
            // A partition has gone in between; its event follows.
            Err(error) => debug!(error = %error, "a consumer's pace could not be changed"),
        }
    }

    /// Writes an answer: the text, and how many records are in it.
    fn render(&self, wanted: &Records) -> Result<(Vec<u8>, usize)> {
        let (mut out, mut taken, mut bytes) = (vec![b'['], 0, 0);
        for fetched in &self.fetched {
            let size = length(&fetched.record);
            if taken > 0 && bytes + size > wanted.bytes_max {
                break;
            }
            let before = out.len();
            if let Err(why) = write(fetched, wanted.format, taken > 0, &mut out) {
                if taken > 0 {
                    out.truncate(before);
                    break;
                }
                let message = format!(
                    "the record at offset {} of {} {why}; read it with format 'binary', or pass it by POST .../positions",
                    fetched.record.offset, fetched.partition
                );
                return Err(Failure::kafka(code::CONVERSION, message));
            }
            taken += 1;
            bytes += size;
        }
        out.push(b']');
        Ok((out, taken))
    }

    /// What was answered counts as read.
    fn take_out(&mut self, count: usize) {
        for fetched in self.fetched.drain(..count) {
            self.fetched_bytes -= fetched.bytes();
            self.answered.insert(fetched.partition, fetched.next_offset);
        }
    }
}

fn length(record: &RawRecord) -> usize {
    record.key.as_ref().map_or(0, bytes::Bytes::len) + record.value.as_ref().map_or(0, bytes::Bytes::len)
}

/// Appends one record of an answer.
fn write(fetched: &Fetched, format: Format, comma: bool, out: &mut Vec<u8>) -> std::result::Result<(), String> {
    let record = &fetched.record;
    out.extend_from_slice(if comma { b",{\"topic\":" } else { b"{\"topic\":" });
    json::write_text(&fetched.partition.topic, out);
    out.extend_from_slice(b",\"key\":");
    format.write(record.key.as_ref(), out).map_err(|why| format!("has a key that {why}"))?;
    out.extend_from_slice(b",\"value\":");
    format.write(record.value.as_ref(), out).map_err(|why| format!("has a value that {why}"))?;
    out.extend_from_slice(
        format!(",\"partition\":{},\"offset\":{}}}", fetched.partition.partition, record.offset).as_bytes(),
    );
    Ok(())
}

fn unsubscribed() -> Failure {
    let message = "Consumer is not subscribed to any topics; POST .../subscription first";
    Failure::kafka(code::ILLEGAL_STATE, message)
}
