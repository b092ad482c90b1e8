//! One member of a group: a thread that polls librdkafka, whatever the application does.
//!
//! The thread owns the consumer. It hands events over through an inbox and takes commands through a channel; questions that
//! may take long (committed positions, offsets, topics) are asked beside it. So heartbeats, `max.poll.interval.ms` and
//! rebalances are served while a sink writes for minutes.
//!
//! # Two clients
//!
//! One client of librdkafka is the *member*: it is in the group and commits, and its assignment is always empty. Another one,
//! which is in no group, *fetches* the partitions that the group gave to the member. One client for both will not do: while
//! librdkafka waits for an application to let go of one partition it fetches none, and its records stand in one queue with
//! the group's events, so that who is full of records can't hear what the group wants.
//!
//! # Rebalances
//!
//! The protocol is cooperative: only partitions that move are touched. librdkafka waits until the application agrees.
//!
//! - *Assign* is agreed to at once: the group need not wait until a sink has opened its partitions. Each is fetched when
//!   [`start_at`](GroupConsumer::start_at) has said from where. Only the first one may come from a decision that was made for a
//!   predecessor of the same name, and that nobody is left to follow (see `unowned`): it is agreed to when the group has been
//!   looked at, and if need be we join again at once, so that it decides anew. The partitions are ours meanwhile.
//! - *Revoke* stops fetching at once, and is agreed to when the application has [released](GroupConsumer::release) all of it.
//!   Until then the partitions are ours and commits for them count; whoever is to have them waits. Should the group rebalance
//!   again before that, it goes on without us after `max.poll.interval.ms`; then commits are refused.
//! - *Lost* is agreed to at once.
//!
//! # A full inbox
//!
//! means that the fetching client is not read. It stops by itself when its own small queue is full.
//!
//! # Positions
//!
//! Each partition knows the offset it expects next; what lies before is dropped. A rewind raises a barrier within librdkafka,
//! so nothing that was fetched before can follow it. Transaction markers are no records: where a partition ends in some, an
//! empty batch moves the position behind them.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::Thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ottla_api::offset::{Positions, TopicPartition};
use ottla_api::record::RawRecord;
use ottla_api::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::{Notify, oneshot};

use super::batch_reader::{BatchReader, Found};
use super::context::{Connection, Context, Rebalance, kind_of, partition_list};
use super::unowned::unowned;
use super::{PATIENCE, ask, committed_positions, is_missing, list_offsets, topics_of};
use crate::broker::{ConsumerEvent, ConsumerSpec, GroupConsumer, OffsetRange, StartPosition, Subscription};

/// Reads before commands are looked at again.
const READ_BURST: usize = 4;
/// The thread looks for work at least this often, should librdkafka's wake-up have been missed.
const NAP: Duration = Duration::from_millis(50);
/// How soon it looks again while it joins its group, and for how long it does.
const JOINING_NAP: Duration = Duration::from_millis(2);
const JOINING_MAX: Duration = Duration::from_secs(2);
/// How long the fetching client may take to connect before somebody needs it.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// How often topics are looked for, unless `topic.refresh.interval.ms` says otherwise.
const TOPIC_REFRESH: Duration = Duration::from_secs(10);
/// How soon they are looked for again while none is there, or just after one appeared.
const TOPIC_REFRESH_SOON: Duration = Duration::from_secs(1);
/// While there is trouble, how often it is found out whether the cluster answers.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// Pause before a question that failed is asked again.
const ASK_PAUSE: Duration = Duration::from_millis(500);
/// How long looking at the group may take, while its first decision waits for our agreement.
const LOOK_MAX: Duration = Duration::from_secs(2);
/// How long the group's decisions are answered while it is left, and how long none comes when it has no more.
const LEAVE_MAX: Duration = Duration::from_secs(2);
const LEAVE_QUIET: Duration = Duration::from_millis(20);
/// How long leaving a group may take; afterwards the thread is left to itself.
const CLOSE_MAX: Duration = Duration::from_secs(15);

/// The application's side.
pub(super) struct KafkaConsumer {
    inbox: Arc<Inbox>,
    commands: mpsc::Sender<Command>,
    thread: Thread,
    /// See [`Poller::waiting_bytes_max`].
    waiting_bytes_max: usize,
}

enum Command {
    Start(Positions, oneshot::Sender<Result<()>>),
    Pause(Vec<TopicPartition>, bool, oneshot::Sender<Result<()>>),
    Commit(Positions, oneshot::Sender<Result<()>>),
    Release(Vec<TopicPartition>, oneshot::Sender<Result<()>>),
    Close(Option<oneshot::Sender<Result<()>>>),
    Answer(Answer),
}

/// What was found out beside the thread. The number is the partition's epoch when the question was asked.
enum Answer {
    Committed(Vec<(TopicPartition, u64)>, Result<Positions>),
    Ranges(Vec<Wanted>, Result<BTreeMap<TopicPartition, OffsetRange>>),
    OutOfRange(Vec<(TopicPartition, u64)>, Result<BTreeMap<TopicPartition, OffsetRange>>),
    Commit(KafkaResult<()>),
    Unowned(KafkaResult<BTreeSet<TopicPartition>>),
    Topics(Result<BTreeSet<String>>),
    Connected(BTreeSet<String>, Result<()>),
    Probe(Result<()>),
}

/// A partition that is to be fetched from `position` (-1 for the configured start) on.
#[derive(Debug, Clone)]
struct Wanted {
    partition: TopicPartition,
    epoch: u64,
    position: i64,
}

/// Events on their way to the application.
#[derive(Default)]
struct Inbox {
    state: Mutex<InboxState>,
    arrived: Notify,
}

#[derive(Default)]
struct InboxState {
    items: VecDeque<Item>,
    bytes: usize,
    /// The thread has ended.
    ended: bool,
}

struct Item {
    bytes: usize,
    what: Result<ConsumerEvent>,
}

impl Inbox {
    fn push(&self, bytes: usize, what: Result<ConsumerEvent>) {
        let mut state = self.state.lock();
        state.bytes += bytes;
        state.items.push_back(Item { bytes, what });
        drop(state);
        self.arrived.notify_one();
    }

    /// Tells of a failure, unless one is already waiting to be told.
    fn push_failure(&self, error: Error) {
        if self.state.lock().items.iter().all(|item| item.what.is_ok()) {
            self.push(0, Err(error));
        }
    }

    fn bytes(&self) -> usize {
        self.state.lock().bytes
    }

    /// Takes back what was fetched of these partitions.
    fn purge(&self, partitions: &[TopicPartition]) {
        let mut state = self.state.lock();
        let mut freed = 0;
        state.items.retain(|item| {
            let stale = match &item.what {
                Ok(ConsumerEvent::Batch { partition, .. } | ConsumerEvent::OutOfRange { partition, .. }) => {
                    partitions.contains(partition)
                }
                _ => false,
            };
            freed += if stale { item.bytes } else { 0 };
            !stale
        });
        state.bytes -= freed;
    }

    /// Takes partitions back of which the application does not know yet that it has them; returns which.
    fn unassign(&self, partitions: &[TopicPartition]) -> Vec<TopicPartition> {
        let mut unseen = Vec::new();
        self.state.lock().items.retain_mut(|item| {
            let Ok(ConsumerEvent::Assigned(positions)) = &mut item.what else { return true };
            unseen.extend(partitions.iter().filter(|partition| positions.remove(partition).is_some()).cloned());
            !positions.is_empty()
        });
        unseen
    }
}

impl KafkaConsumer {
    pub(super) fn join(
        spec: ConsumerSpec,
        bootstrap: &str,
        mut config: ClientConfig,
        refresh: Option<&str>,
    ) -> Result<Self> {
        let refresh = match refresh.map(str::parse::<u64>) {
            None => TOPIC_REFRESH,
            Some(Ok(millis)) if millis > 0 => Duration::from_millis(millis),
            Some(_) => return Err(Error::config("topic.refresh.interval.ms: must be a number of milliseconds")),
        };
        if let Subscription::Topics(_) = spec.subscription
            && spec.settings.contains("topic.refresh.interval.ms")
        {
            config.set("topic.metadata.refresh.interval.ms", refresh.as_millis().to_string());
        }
        if config.get("client.id").is_none() {
            config.set("client.id", &spec.client_id);
        }
        config
            .set("group.id", &spec.group)
            // Offsets are committed when the sink has said so, and never by chance.
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // Never silently elsewhere: the task decides.
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true");
        let connection = Connection::new(&spec.client_id, bootstrap);
        let create = |config: &ClientConfig| -> Result<BaseConsumer<Context>> {
            config
                .create_with_context(Context::new(connection.clone()))
                .map_err(|error| connection.failure(&format!("join group '{}'", spec.group), &error))
        };
        // The group's name lets it read what the group may read; it never joins.
        let fetcher = create(&config)?;
        config.set("partition.assignment.strategy", "cooperative-sticky");
        if let Some(instance) = &spec.instance_id {
            config.set("group.instance.id", instance);
        }
        let member = create(&config)?;

        let waiting_bytes_max = spec.ahead_bytes_max / 2;
        let inbox = Arc::new(Inbox::default());
        let (commands, received) = mpsc::channel();
        let runtime = tokio::runtime::Handle::current();
        let (inbox_of_thread, commands_of_thread) = (inbox.clone(), commands.clone());
        let thread = std::thread::Builder::new()
            .name(format!("kafka {}", spec.client_id))
            .spawn(move || {
                // However this thread ends, nobody waits for it in vain.
                let _ended = EndOf(inbox_of_thread.clone());
                Poller::new(member, fetcher, spec, inbox_of_thread, commands_of_thread, received, runtime, refresh)
                    .run();
            })
            .map_err(|error| Error::retriable("start a thread for a consumer").caused_by(error))?;
        Ok(Self { inbox, commands, thread: thread.thread().clone(), waiting_bytes_max })
    }

    /// Has the thread do something, and waits until it has.
    async fn command(&self, command: impl FnOnce(oneshot::Sender<Result<()>>) -> Command) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.send(command(reply));
        self.thread.unpark();
        match sent {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(ended())),
            Err(_) => Err(ended()),
        }
    }
}

struct EndOf(Arc<Inbox>);

impl Drop for EndOf {
    fn drop(&mut self) {
        self.0.state.lock().ended = true;
        self.0.arrived.notify_one();
    }
}

fn ended() -> Error {
    Error::fatal("the consumer has ended")
}

#[async_trait]
impl GroupConsumer for KafkaConsumer {
    async fn next(&mut self) -> Result<ConsumerEvent> {
        loop {
            let arrived = self.inbox.arrived.notified();
            {
                let mut state = self.inbox.state.lock();
                if let Some(item) = state.items.pop_front() {
                    let before = state.bytes;
                    state.bytes -= item.bytes;
                    if before > self.waiting_bytes_max / 2 && state.bytes <= self.waiting_bytes_max / 2 {
                        self.thread.unpark();
                    }
                    return item.what;
                }
                if state.ended {
                    return Err(ended());
                }
            }
            arrived.await;
        }
    }

    async fn start_at(&mut self, positions: &Positions) -> Result<()> {
        self.command(|reply| Command::Start(positions.clone(), reply)).await
    }

    async fn pause(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.command(|reply| Command::Pause(partitions.to_vec(), true, reply)).await
    }

    async fn resume(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.command(|reply| Command::Pause(partitions.to_vec(), false, reply)).await
    }

    async fn commit(&mut self, positions: &Positions) -> Result<()> {
        self.command(|reply| Command::Commit(positions.clone(), reply)).await
    }

    async fn release(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.command(|reply| Command::Release(partitions.to_vec(), reply)).await
    }

    async fn close(self: Box<Self>) -> Result<()> {
        let closed = self.command(|reply| Command::Close(Some(reply)));
        match tokio::time::timeout(CLOSE_MAX, closed).await {
            Ok(result) => result,
            Err(_) => Err(Error::retriable("leave group: the cluster has not answered in time")),
        }
    }
}

impl Drop for KafkaConsumer {
    fn drop(&mut self) {
        // The thread holds a sender itself, so a closed channel would not tell it.
        let _ = self.commands.send(Command::Close(None));
        self.thread.unpark();
    }
}

/// One partition of ours.
struct Partition {
    stage: Stage,
    /// Changes whenever what was asked or fetched for it before does not count any more.
    epoch: u64,
    /// The offset expected next.
    next: i64,
    /// No commit below this one: what the group had, then the highest we have committed.
    committed: i64,
    /// The group wants it back; it is ours until it is released.
    revoked: bool,
    /// The application has paused it.
    paused: bool,
    /// It is in librdkafka's list.
    listed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its committed position is being asked for; the application does not know of it.
    Assigned,
    /// The application has to say where to start.
    Announced,
    /// It is being found out where that is.
    Starting,
    Fetching,
    /// There is nothing at its position.
    OutOfRange,
}

impl Partition {
    /// What is read for it now is for the application.
    fn is_fetching(&self) -> bool {
        self.stage == Stage::Fetching && !self.revoked
    }

    /// Hands records over, and what lies between them and `next`.
    fn hand_over(&mut self, key: TopicPartition, records: Vec<RawRecord>, next: i64, inbox: &Inbox) {
        self.next = next;
        let bytes = records.iter().map(RawRecord::size_estimate).sum();
        inbox.push(bytes, Ok(ConsumerEvent::Batch { partition: key, records, next_offset: next }));
    }
}

struct Commit {
    positions: Positions,
    reply: oneshot::Sender<Result<()>>,
}

/// How far we are with the first decision of the group that we hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FirstDecision {
    /// We have heard of none.
    Awaited,
    /// The group is being looked at, and the decision waits for our agreement.
    Unanswered,
    /// Later ones are agreed to at once.
    Answered,
}

/// The thread's side.
struct Poller {
    member: Arc<BaseConsumer<Context>>,
    fetcher: Arc<BaseConsumer<Context>>,
    reader: BatchReader,
    connection: Arc<Connection>,
    spec: ConsumerSpec,
    inbox: Arc<Inbox>,
    commands: mpsc::Receiver<Command>,
    /// For answers.
    sender: mpsc::Sender<Command>,
    runtime: tokio::runtime::Handle,
    /// Topic names, so that each message need not bring its own.
    names: HashSet<Arc<str>>,
    partitions: BTreeMap<TopicPartition, Partition>,
    epoch: u64,
    /// What the group wants back and the application has not released yet, while there is a revocation to agree to.
    revoking: Option<BTreeSet<TopicPartition>>,
    first_decision: FirstDecision,
    throttled: bool,
    /// Bytes of batches that may wait for the application before no more are read; at half of it reading goes on.
    waiting_bytes_max: usize,
    commits: VecDeque<Commit>,
    committing: Option<Commit>,
    refresh: Duration,
    refresh_at: Option<Instant>,
    subscribed: BTreeSet<String>,
    subscribed_at: Option<Instant>,
    told_no_topics: bool,
    probing: bool,
    probe_at: Instant,
}

impl Poller {
    fn new(
        mut member: BaseConsumer<Context>,
        mut fetcher: BaseConsumer<Context>,
        spec: ConsumerSpec,
        inbox: Arc<Inbox>,
        sender: mpsc::Sender<Command>,
        commands: mpsc::Receiver<Command>,
        runtime: tokio::runtime::Handle,
        refresh: Duration,
    ) -> Self {
        for client in [&mut member, &mut fetcher] {
            let me = std::thread::current();
            client.set_nonempty_callback(move || me.unpark());
        }
        let waiting_bytes_max = spec.ahead_bytes_max / 2;
        let fetcher = Arc::new(fetcher);
        Self {
            connection: member.context().connection.clone(),
            member: Arc::new(member),
            reader: BatchReader::new(fetcher.clone(), spec.batch_records_max),
            fetcher,
            spec,
            inbox,
            commands,
            sender,
            runtime,
            names: HashSet::new(),
            partitions: BTreeMap::new(),
            epoch: 0,
            revoking: None,
            first_decision: FirstDecision::Awaited,
            throttled: false,
            waiting_bytes_max,
            commits: VecDeque::new(),
            committing: None,
            refresh,
            refresh_at: None,
            subscribed: BTreeSet::new(),
            subscribed_at: None,
            told_no_topics: false,
            probing: false,
            probe_at: Instant::now(),
        }
    }

    fn run(mut self) {
        match self.spec.subscription.clone() {
            // Who joins before there is a connection waits half a second for librdkafka to look for the group again.
            Subscription::Topics(topics) => {
                let topic = topics.first().cloned();
                self.connect_fetcher(topic.clone());
                let connect = move |consumer: &BaseConsumer<Context>, timeout| {
                    consumer.fetch_metadata(topic.as_deref(), timeout).map(drop)
                };
                let names = topics.into_iter().collect();
                self.ask("join", Duration::ZERO, connect, |connected| Answer::Connected(names, connected));
            }
            Subscription::Regex(_) => self.refresh_at = Some(Instant::now()),
        }
        loop {
            let busy = self.poll();
            loop {
                match self.commands.try_recv() {
                    Ok(Command::Close(reply)) => return self.close(reply),
                    Ok(command) => self.obey(command),
                    Err(_) => break,
                }
            }
            self.look_after_connection();
            if !busy {
                std::thread::park_timeout(if self.hurry_joining() { JOINING_NAP } else { NAP });
            }
        }
    }

    /// Has the fetching client connect, and look where the topic's partitions are, while the group is still being joined. What
    /// goes wrong shows when it is to fetch.
    fn connect_fetcher(&self, topic: Option<String>) {
        let fetcher = self.fetcher.clone();
        self.runtime.spawn_blocking(move || {
            let _ = fetcher.fetch_metadata(topic.as_deref(), CONNECT_MAX);
        });
    }

    /// While the group has not given us anything yet, has librdkafka look at where joining stands; true if it is worth asking
    /// again soon. By itself it looks once a second, and otherwise only when it is asked something.
    fn hurry_joining(&self) -> bool {
        let joining = self.partitions.is_empty() && self.subscribed_at.is_some_and(|at| at.elapsed() < JOINING_MAX);
        if joining {
            let _ = self.member.subscription();
        }
        joining
    }

    /// Polls what is there; true if there may be more.
    fn poll(&mut self) -> bool {
        let member = self.member.clone();
        loop {
            let heard = member.context().heard.load(Ordering::Acquire);
            match member.poll(Duration::ZERO) {
                Some(Err(error)) => self.take_error(&error),
                // Also after a log line there is nothing, and more may wait behind it.
                _ if member.context().heard.load(Ordering::Acquire) == heard => break,
                _ => {}
            }
        }
        let events = self.take_rebalances();
        for _ in 0..READ_BURST {
            if self.is_full() {
                return events;
            }
            if !self.read() {
                return events;
            }
        }
        true
    }

    /// Reads what has been fetched; true if there may be more.
    fn read(&mut self) -> bool {
        let mut failures = Vec::new();
        let Self { reader, names, partitions, inbox, .. } = self;
        let mut with = |topic: &str, number: i32, hand_over: &dyn Fn(&mut Partition, TopicPartition)| {
            let Some(topic) = names.get(topic) else { return };
            let key = TopicPartition::new(topic.clone(), number);
            if let Some(partition) = partitions.get_mut(&key).filter(|partition| partition.is_fetching()) {
                hand_over(partition, key);
            }
        };
        let read = reader.read(|found| match found {
            Found::Run(run) => with(run.topic, run.partition, &|partition, key| {
                let records = run.records_from(partition.next);
                if let Some(last) = records.last() {
                    let next_offset = last.offset + 1;
                    partition.hand_over(key, records, next_offset, inbox);
                }
            }),
            // Behind the last record there may be transaction markers.
            Found::End { topic, partition, position } => with(topic, partition, &|partition, key| {
                if position > partition.next {
                    partition.hand_over(key, Vec::new(), position, inbox);
                }
            }),
            Found::Failure(error) => failures.push(error),
        });
        for error in failures {
            self.take_error(&error);
        }
        read > 0
    }

    /// Whether enough waits for the application.
    fn is_full(&mut self) -> bool {
        let bytes = self.inbox.bytes();
        let max = self.waiting_bytes_max;
        self.throttled = if self.throttled { bytes > max / 2 } else { bytes > max };
        self.throttled
    }

    /// What the group has decided; true if it has.
    fn take_rebalances(&mut self) -> bool {
        let rebalances = std::mem::take(&mut *self.member.context().rebalances.lock());
        let some = !rebalances.is_empty();
        for rebalance in rebalances {
            match rebalance {
                Rebalance::Assign(partitions) => self.assigned(partitions),
                Rebalance::Revoke(partitions) => self.revoked(partitions),
                Rebalance::Lost(partitions) => self.lost(partitions),
            }
        }
        some
    }

    // Records.

    fn take_error(&mut self, error: &KafkaError) {
        let (code, fatal) = match error {
            KafkaError::MessageConsumptionFatal(code) => (*code, true),
            KafkaError::MessageConsumption(code) => (*code, false),
            _ => return,
        };
        if fatal {
            let group = &self.spec.group;
            let text = match code {
                RDKafkaErrorCode::FencedInstanceId => format!(
                    "group '{group}': another member has joined under the name '{}' (group.instance.id); a second worker \
                     with the same configuration?",
                    self.spec.instance_id.as_deref().unwrap_or_default()
                ),
                code => format!("group '{group}': {code}"),
            };
            // librdkafka has let go of everything.
            let ours: Vec<TopicPartition> = self.partitions.keys().cloned().collect();
            self.inbox.purge(&ours);
            self.stop_fetching(&ours);
            self.partitions.clear();
            self.revoking = None;
            self.first_decision = FirstDecision::Answered;
            self.inbox.push(0, Err(Error::fatal(text)));
            return;
        }
        match code {
            RDKafkaErrorCode::AutoOffsetReset => {
                let fetching: Vec<(TopicPartition, u64)> = self
                    .partitions
                    .iter()
                    .filter(|(_, partition)| partition.stage == Stage::Fetching && !partition.revoked)
                    .map(|(key, partition)| (key.clone(), partition.epoch))
                    .collect();
                self.ask_ranges(fetching, Duration::ZERO, Answer::OutOfRange);
            }
            RDKafkaErrorCode::GroupAuthorizationFailed | RDKafkaErrorCode::TopicAuthorizationFailed => {
                self.inbox
                    .push_failure(self.connection.failure(&format!("read as group '{}'", self.spec.group), error));
            }
            RDKafkaErrorCode::PollExceeded => tracing::warn!("group '{}': {code}", self.spec.group),
            _ if is_missing(error) => {
                tracing::debug!("group '{}': {code}", self.spec.group);
                if let Some(at) = &mut self.refresh_at {
                    *at = (*at).min(Instant::now() + Duration::from_secs(1));
                }
            }
            // Connections that come and go; see `look_after_connection`.
            _ if kind_of(code) != ErrorKind::Fatal => {}
            code => tracing::warn!("group '{}': {code}", self.spec.group),
        }
    }

    // The group's decisions.

    fn assigned(&mut self, partitions: Vec<TopicPartition>) {
        // A member without a name has no predecessor, and one with nothing would be told the same again.
        if self.first_decision == FirstDecision::Awaited && self.spec.instance_id.is_some() && !partitions.is_empty() {
            self.first_decision = FirstDecision::Unanswered;
            self.look_for_unowned();
        } else {
            self.first_decision = FirstDecision::Answered;
            self.agree_to_take();
        }
        let mut asked = Vec::new();
        for key in partitions {
            self.epoch += 1;
            self.names.insert(key.topic.clone());
            self.partitions.insert(
                key.clone(),
                Partition {
                    stage: Stage::Assigned,
                    epoch: self.epoch,
                    next: -1,
                    committed: -1,
                    revoked: false,
                    paused: false,
                    listed: false,
                },
            );
            asked.push((key, self.epoch));
        }
        self.ask_committed(asked, Duration::ZERO);
    }

    /// The member's assignment stays empty: librdkafka only waits for the call.
    fn agree_to_take(&self) {
        self.say("take partitions", self.member.incremental_assign(&TopicPartitionList::new()));
    }

    /// Looks whether the group's decision leaves out partitions that wait for nobody.
    fn look_for_unowned(&self) {
        let (member, sender, thread) = (self.member.clone(), self.sender.clone(), std::thread::current());
        let (group, topics) = (self.spec.group.clone(), Vec::from_iter(self.subscribed.iter().cloned()));
        self.runtime.spawn_blocking(move || {
            let found = unowned(&member, &group, &topics, LOOK_MAX);
            drop(member);
            let _ = sender.send(Command::Answer(Answer::Unowned(found)));
            thread.unpark();
        });
    }

    /// Agrees to the first decision, and has the group decide anew if that one left partitions out, or may have.
    fn answer_first_decision(&mut self, found: KafkaResult<BTreeSet<TopicPartition>>) {
        if self.first_decision != FirstDecision::Unanswered {
            return;
        }
        self.first_decision = FirstDecision::Answered;
        let group = &self.spec.group;
        let again = match found {
            Ok(unowned) if unowned.is_empty() => false,
            Ok(unowned) => {
                let unowned = Vec::from_iter(unowned.iter().map(ToString::to_string)).join(", ");
                tracing::info!("group '{group}': joining again, because {unowned} would stay without a member");
                true
            }
            // A broker that is away is enough. It costs little: in a cooperative group nothing moves that need not.
            Err(error) => {
                tracing::info!(
                    "group '{group}': joining again, because partitions may stay without a member; looking failed: {error}"
                );
                true
            }
        };
        if again {
            // What is subscribed to while a decision waits is put off until it is agreed to, and then the group is joined once
            // more. It decides anew, because what we have by then is not what we had when we came.
            let names: Vec<&str> = self.subscribed.iter().map(String::as_str).collect();
            self.say("join again", self.member.subscribe(&names));
        }
        self.agree_to_take();
    }

    fn revoked(&mut self, partitions: Vec<TopicPartition>) {
        self.inbox.purge(&partitions);
        let unseen = self.inbox.unassign(&partitions);
        self.stop_fetching(&partitions);
        let mut known = Vec::new();
        for key in &partitions {
            let Some(partition) = self.partitions.get_mut(key) else { continue };
            partition.revoked = true;
            if partition.stage != Stage::Assigned && !unseen.contains(key) {
                known.push(key.clone());
            }
        }
        self.revoking = Some(known.iter().cloned().collect());
        if known.is_empty() {
            self.agree_to_revocation();
        } else {
            self.inbox.push(0, Ok(ConsumerEvent::Revoked(known)));
        }
    }

    fn lost(&mut self, partitions: Vec<TopicPartition>) {
        self.inbox.purge(&partitions);
        let unseen = self.inbox.unassign(&partitions);
        let known: Vec<TopicPartition> = partitions
            .iter()
            .filter(|key| {
                let stage = self.partitions.get(key).map(|partition| partition.stage);
                stage.is_some_and(|stage| stage != Stage::Assigned) && !unseen.contains(key)
            })
            .cloned()
            .collect();
        self.stop_fetching(&partitions);
        for key in &partitions {
            self.partitions.remove(key);
        }
        self.revoking = None;
        self.agree_to_give_up();
        if !known.is_empty() {
            self.inbox.push(0, Ok(ConsumerEvent::Lost(known)));
        }
    }

    fn agree_to_revocation(&mut self) {
        if self.revoking.take().is_some() {
            self.partitions.retain(|_, partition| !partition.revoked);
            self.agree_to_give_up();
        }
    }

    /// The member's assignment holds nothing, so nothing is taken out of it: librdkafka only waits for the call.
    fn agree_to_give_up(&self) {
        self.say("give partitions up", self.member.incremental_unassign(&TopicPartitionList::new()));
    }

    fn stop_fetching(&mut self, partitions: &[TopicPartition]) {
        let mut listed = Vec::new();
        for key in partitions {
            let Some(partition) = self.partitions.get_mut(key) else { continue };
            if std::mem::take(&mut partition.listed) {
                listed.push(key.clone());
            }
        }
        if !listed.is_empty() {
            self.say("stop fetching", self.fetcher.incremental_unassign(&list_of(&listed)));
        }
    }

    // The application's commands.

    fn obey(&mut self, command: Command) {
        match command {
            Command::Start(positions, reply) => {
                self.start(positions);
                let _ = reply.send(Ok(()));
            }
            Command::Pause(partitions, paused, reply) => {
                for key in partitions {
                    self.pause(&key, paused);
                }
                let _ = reply.send(Ok(()));
            }
            Command::Commit(positions, reply) => {
                // Whoever gave up waiting commits again, and more.
                self.commits.retain(|commit| !commit.reply.is_closed());
                self.commits.push_back(Commit { positions, reply });
                self.commit_next();
            }
            Command::Release(partitions, reply) => {
                if let Some(revoking) = &mut self.revoking {
                    revoking.retain(|key| !partitions.contains(key));
                    if revoking.is_empty() {
                        self.agree_to_revocation();
                    }
                }
                let _ = reply.send(Ok(()));
            }
            Command::Answer(answer) => self.take_answer(answer),
            Command::Close(_) => {}
        }
    }

    fn start(&mut self, positions: Positions) {
        let mut wanted = Vec::new();
        for (key, position) in positions {
            let Some(partition) = self.partitions.get_mut(&key) else {
                tracing::debug!("{key} is not ours any more, and does not start");
                continue;
            };
            if partition.revoked || partition.stage == Stage::Assigned {
                continue;
            }
            self.epoch += 1;
            partition.epoch = self.epoch;
            self.inbox.purge(std::slice::from_ref(&key));
            if partition.stage == Stage::Fetching && (0..=partition.next).contains(&position) {
                // Records that were there a moment ago; if they are not any more, librdkafka will say so.
                self.fetch_from(&key, position);
                continue;
            }
            if partition.stage == Stage::OutOfRange && position < partition.committed {
                // The topic was made anew: its offsets begin again.
                partition.committed = -1;
            }
            partition.stage = Stage::Starting;
            wanted.push(Wanted { partition: key, epoch: self.epoch, position });
        }
        self.ask_starts(wanted, Duration::ZERO);
    }

    /// Begins to fetch, or goes on elsewhere.
    fn fetch_from(&mut self, key: &TopicPartition, position: i64) {
        let Some(partition) = self.partitions.get_mut(key) else { return };
        if partition.revoked {
            return;
        }
        partition.stage = Stage::Fetching;
        partition.next = position;
        if partition.paused {
            // Resuming begins here.
            return;
        }
        let list = partition_list([(key, Offset::Offset(position))]);
        if partition.listed {
            // A seek waits until the barrier stands. It is refused where fetching has not begun or has stopped.
            match self.fetcher.seek_partitions(list.clone(), PATIENCE) {
                Ok(result) if result.elements().iter().all(|element| element.error().is_ok()) => return,
                _ => self.stop_fetching(std::slice::from_ref(key)),
            }
        }
        let begun = self.fetcher.incremental_assign(&list);
        if let Some(partition) = self.partitions.get_mut(key) {
            partition.listed = begun.is_ok();
        }
        self.say("start", begun);
    }

    /// A paused partition is not fetched at all, and goes on behind what was handed over (see [`BatchReader`]).
    fn pause(&mut self, key: &TopicPartition, paused: bool) {
        let Some(partition) = self.partitions.get_mut(key) else { return };
        if std::mem::replace(&mut partition.paused, paused) == paused || !partition.is_fetching() {
            return;
        }
        if paused {
            self.stop_fetching(std::slice::from_ref(key));
        } else {
            let next = partition.next;
            self.fetch_from(key, next);
        }
    }

    // Commits.

    fn commit_next(&mut self) {
        while self.committing.is_none()
            && let Some(Commit { mut positions, reply }) = self.commits.pop_front()
        {
            let foreign: Vec<String> = positions
                .keys()
                .filter(|key| self.partitions.get(key).is_none_or(|partition| partition.stage == Stage::Assigned))
                .map(ToString::to_string)
                .collect();
            if !foreign.is_empty() {
                let _ = reply.send(Err(self.not_ours(&foreign)));
                continue;
            }
            // A commit never goes back.
            positions.retain(|key, position| {
                self.partitions.get(key).is_some_and(|partition| *position > partition.committed)
            });
            if positions.is_empty() {
                let _ = reply.send(Ok(()));
                continue;
            }
            // A commit without waiting would never be answered: rdkafka has no way to tell of it. So somebody waits, but not
            // this thread.
            let (member, sender, thread) = (self.member.clone(), self.sender.clone(), std::thread::current());
            let committed = positions.clone();
            self.runtime.spawn_blocking(move || {
                let offsets = committed.iter().map(|(key, position)| (key, Offset::Offset(*position)));
                let result = member.commit(&partition_list(offsets), CommitMode::Sync);
                drop(member);
                let _ = sender.send(Command::Answer(Answer::Commit(result)));
                thread.unpark();
            });
            self.committing = Some(Commit { positions, reply });
        }
    }

    fn committed(&mut self, result: KafkaResult<()>) {
        let Some(Commit { positions, reply }) = self.committing.take() else { return };
        let result = match result {
            Ok(()) => {
                self.connection.is_well();
                for (key, position) in &positions {
                    if let Some(partition) = self.partitions.get_mut(key) {
                        partition.committed = partition.committed.max(*position);
                    }
                }
                Ok(())
            }
            // Also where only one of the partitions was refused: then the others are committed again with the next try.
            Err(error) => Err(self.commit_failure(&error, &positions)),
        };
        let _ = reply.send(result);
        self.commit_next();
    }

    fn commit_failure(&self, error: &KafkaError, positions: &Positions) -> Error {
        use RDKafkaErrorCode as Code;
        let names: Vec<String> = positions.keys().map(ToString::to_string).collect();
        match error.rdkafka_error_code() {
            Some(
                Code::UnknownMemberId | Code::FencedInstanceId | Code::Fenced | Code::Fatal | Code::AssignmentLost,
            ) => self.not_ours(&names),
            // The group has gone on without us while a revocation was being prepared.
            Some(Code::IllegalGeneration) if self.revoking.is_some() => self.not_ours(&names),
            // Otherwise we are about to be in the new generation, or to be told that our partitions are lost.
            Some(Code::IllegalGeneration | Code::RebalanceInProgress) => {
                Error::retriable(format!("commit as group '{}': it is rebalancing", self.spec.group))
            }
            // librdkafka has lost its way to the coordinator and sends nothing for now.
            Some(Code::State | Code::NoOffset | Code::UnknownTopicOrPartition) => {
                Error::retriable(format!("commit as group '{}': {error}", self.spec.group))
            }
            _ => self.connection.failure(&format!("commit as group '{}'", self.spec.group), error),
        }
    }

    fn not_ours(&self, names: &[String]) -> Error {
        Error::fatal(format!(
            "commit as group '{}': {} belong to another member now; nothing was committed",
            self.spec.group,
            names.join(", ")
        ))
    }

    // Questions.

    /// Asks beside the thread; the answer comes as a command.
    fn ask<T: 'static + Send>(
        &self,
        doing: &'static str,
        pause: Duration,
        question: impl Fn(&BaseConsumer<Context>, Duration) -> KafkaResult<T> + Send + 'static,
        answer: impl FnOnce(Result<T>) -> Answer + Send + 'static,
    ) {
        let (member, sender, thread) = (self.member.clone(), self.sender.clone(), std::thread::current());
        self.runtime.spawn_blocking(move || {
            std::thread::sleep(pause);
            let result = ask(&member, false, doing, question);
            // The thread waits for this before it closes the consumer.
            drop(member);
            let _ = sender.send(Command::Answer(answer(result)));
            thread.unpark();
        });
    }

    fn ask_committed(&self, asked: Vec<(TopicPartition, u64)>, pause: Duration) {
        if asked.is_empty() {
            return;
        }
        let partitions: Vec<TopicPartition> = asked.iter().map(|(key, _)| key.clone()).collect();
        self.ask(
            "read committed offsets",
            pause,
            move |consumer, timeout| committed_positions(consumer, &partitions, timeout),
            move |result| Answer::Committed(asked, result),
        );
    }

    fn ask_starts(&self, wanted: Vec<Wanted>, pause: Duration) {
        if wanted.is_empty() {
            return;
        }
        let partitions: Vec<TopicPartition> = wanted.iter().map(|wanted| wanted.partition.clone()).collect();
        self.ask(
            "list offsets",
            pause,
            move |consumer, timeout| list_offsets(consumer, &partitions, timeout),
            move |result| Answer::Ranges(wanted, result),
        );
    }

    fn ask_ranges(
        &self,
        asked: Vec<(TopicPartition, u64)>,
        pause: Duration,
        answer: fn(Vec<(TopicPartition, u64)>, Result<BTreeMap<TopicPartition, OffsetRange>>) -> Answer,
    ) {
        if asked.is_empty() {
            return;
        }
        let partitions: Vec<TopicPartition> = asked.iter().map(|(key, _)| key.clone()).collect();
        self.ask(
            "list offsets",
            pause,
            move |consumer, timeout| list_offsets(consumer, &partitions, timeout),
            move |result| answer(asked, result),
        );
    }

    fn take_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Committed(mut asked, result) => {
                asked.retain(|(key, epoch)| self.is_at(key, *epoch, Stage::Assigned));
                match result {
                    Ok(positions) => {
                        let mut announced = Positions::new();
                        for (key, _) in asked {
                            let position = positions.get(&key).copied().unwrap_or(-1);
                            if let Some(partition) = self.partitions.get_mut(&key) {
                                partition.stage = Stage::Announced;
                                partition.committed = position;
                                announced.insert(key, position);
                            }
                        }
                        if !announced.is_empty() {
                            self.inbox.push(0, Ok(ConsumerEvent::Assigned(announced)));
                        }
                    }
                    Err(error) => {
                        self.inbox.push_failure(error);
                        self.ask_committed(asked, ASK_PAUSE);
                    }
                }
            }
            Answer::Ranges(mut wanted, result) => {
                wanted.retain(|wanted| self.is_at(&wanted.partition, wanted.epoch, Stage::Starting));
                match result {
                    Ok(ranges) => {
                        for wanted in wanted {
                            if let Some(range) = ranges.get(&wanted.partition) {
                                self.start_within(wanted, *range);
                            }
                        }
                    }
                    Err(error) => {
                        self.inbox.push_failure(error);
                        self.ask_starts(wanted, ASK_PAUSE);
                    }
                }
            }
            Answer::OutOfRange(mut asked, result) => {
                asked.retain(|(key, epoch)| self.is_at(key, *epoch, Stage::Fetching));
                match result {
                    Ok(ranges) => self.find_out_of_range(asked, &ranges),
                    Err(error) => {
                        self.inbox.push_failure(error);
                        self.ask_ranges(asked, ASK_PAUSE, Answer::OutOfRange);
                    }
                }
            }
            Answer::Commit(result) => self.committed(result),
            Answer::Unowned(found) => self.answer_first_decision(found),
            Answer::Topics(result) => {
                // Topics appear together: while there is none, and just after one appeared, the next look comes soon.
                let settled = result.as_ref().is_ok_and(|topics| !topics.is_empty() && *topics == self.subscribed);
                let pause = if settled { self.refresh } else { self.refresh.min(TOPIC_REFRESH_SOON) };
                self.refresh_at = Some(Instant::now() + pause);
                match result {
                    Ok(topics) => self.subscribe(topics),
                    Err(error) => self.inbox.push_failure(error),
                }
            }
            Answer::Connected(topics, result) => {
                if let Err(error) = result {
                    self.inbox.push_failure(error);
                }
                // From here on librdkafka tries by itself.
                self.subscribe(topics);
            }
            Answer::Probe(result) => {
                self.probing = false;
                self.probe_at = Instant::now() + PROBE_INTERVAL;
                match result {
                    Ok(()) => self.connection.is_well(),
                    Err(error) => self.inbox.push_failure(error),
                }
            }
        }
    }

    fn is_at(&self, key: &TopicPartition, epoch: u64, stage: Stage) -> bool {
        self.partitions
            .get(key)
            .is_some_and(|partition| partition.epoch == epoch && partition.stage == stage && !partition.revoked)
    }

    fn start_within(&mut self, wanted: Wanted, range: OffsetRange) {
        let Wanted { partition: key, position, .. } = wanted;
        let position = match (position, self.spec.start) {
            (0.., _) => position,
            (_, StartPosition::Earliest) => range.start,
            (_, StartPosition::Latest) => range.end,
            (_, StartPosition::None) => {
                let group = &self.spec.group;
                self.inbox.push(
                    0,
                    Err(Error::fatal(format!(
                        "{key}: group '{group}' has no committed offset, and auto.offset.reset = none forbids to choose one"
                    ))),
                );
                return;
            }
        };
        // Whether it lies behind the end only the broker can say: a group that reads uncommitted records may be ahead of the
        // end that we see.
        if position < range.start {
            self.out_of_range(&key, position, range);
        } else {
            self.fetch_from(&key, position);
        }
    }

    /// librdkafka has stopped fetching a partition because its position is not there; it does not say which.
    fn find_out_of_range(&mut self, asked: Vec<(TopicPartition, u64)>, ranges: &BTreeMap<TopicPartition, OffsetRange>) {
        let mut found = false;
        for (key, _) in &asked {
            let (Some(range), Some(partition)) = (ranges.get(key), self.partitions.get(key)) else { continue };
            let position = partition.next;
            if position < range.start || position > range.end {
                self.out_of_range(key, position, *range);
                found = true;
            }
        }
        if !found {
            tracing::warn!("group '{}': an offset was refused that is there; reading it again", self.spec.group);
            for (key, _) in asked {
                if let Some(position) = self.partitions.get(&key).map(|partition| partition.next) {
                    self.fetch_from(&key, position);
                }
            }
        }
    }

    fn out_of_range(&mut self, key: &TopicPartition, position: i64, range: OffsetRange) {
        if let Some(partition) = self.partitions.get_mut(key) {
            partition.stage = Stage::OutOfRange;
            partition.next = position;
        }
        self.inbox.push(0, Ok(ConsumerEvent::OutOfRange { partition: key.clone(), position, range }));
    }

    // Topics and connection.

    fn subscribe(&mut self, topics: BTreeSet<String>) {
        if topics == self.subscribed {
            if topics.is_empty() && !self.told_no_topics {
                self.told_no_topics = true;
                tracing::info!("group '{}': no topic matches yet; looking again from time to time", self.spec.group);
            }
            return;
        }
        if topics.is_empty() {
            self.member.unsubscribe();
        } else {
            let names: Vec<&str> = topics.iter().map(String::as_str).collect();
            if let Err(error) = self.member.subscribe(&names) {
                self.inbox.push_failure(Error::fatal(format!("subscribe: {error}")));
                return;
            }
        }
        self.subscribed = topics;
        self.subscribed_at = Some(Instant::now());
    }

    fn look_after_connection(&mut self) {
        let now = Instant::now();
        if let Subscription::Regex(_) = &self.spec.subscription
            && self.refresh_at.is_some_and(|at| now >= at)
        {
            // Set again by the answer.
            self.refresh_at = None;
            let subscription = self.spec.subscription.clone();
            self.ask(
                "list topics",
                Duration::ZERO,
                move |consumer, timeout| {
                    let mut topics = topics_of(&consumer.fetch_metadata(None, timeout)?);
                    topics.retain(|topic, _| subscription.matches(topic));
                    Ok(topics.into_keys().collect())
                },
                Answer::Topics,
            );
        }
        // Whether trouble is over shows only when something is asked; an idle partition says nothing.
        if !self.probing && now >= self.probe_at && self.connection.trouble().is_some() {
            self.probing = true;
            self.ask(
                "read",
                Duration::ZERO,
                |consumer, timeout| consumer.fetch_metadata(None, timeout).map(|_| ()),
                Answer::Probe,
            );
        }
    }

    // The end.

    fn close(mut self, reply: Option<oneshot::Sender<Result<()>>>) {
        self.take_rebalances();
        self.member.context().closing.store(true, Ordering::Release);
        if self.first_decision == FirstDecision::Unanswered {
            self.agree_to_take();
        }
        self.agree_to_revocation();
        let Self { member, fetcher, reader, inbox, .. } = self;
        drop((reader, fetcher));
        // The group is left before the member is closed, and its decisions are answered until there is none left. One that came
        // while librdkafka closes could find it done with the group: it drops the answer, and whoever gave it waits for ever.
        member.unsubscribe();
        let begun = Instant::now();
        loop {
            let answers = member.context().answers.load(Ordering::Acquire);
            let _ = member.poll(LEAVE_QUIET);
            if member.context().answers.load(Ordering::Acquire) == answers || begun.elapsed() > LEAVE_MAX {
                break;
            }
        }
        // Questions that are being asked hold the member. They end by themselves.
        let begun = Instant::now();
        while Arc::strong_count(&member) > 1 && begun.elapsed() < PATIENCE {
            let _ = member.poll(Duration::from_millis(10));
        }
        // Leaves the group, polling until that is done.
        drop(member);
        inbox.state.lock().ended = true;
        if let Some(reply) = reply {
            let _ = reply.send(Ok(()));
        }
    }

    /// Logs what librdkafka refuses; it then keeps its own state, and the group will tell what follows.
    fn say(&self, doing: &str, result: KafkaResult<()>) {
        if let Err(error) = result {
            tracing::error!("group '{}': {doing}: {error}", self.spec.group);
        }
    }
}

fn list_of(partitions: &[TopicPartition]) -> TopicPartitionList {
    partition_list(partitions.iter().map(|key| (key, Offset::Invalid)))
}
