//! What is: the state and the counters of every connector and task, for the progress display, metrics and the final table.
//!
//! One place holds the truth; whoever shows something reads it here. Updating is a relaxed atomic add, so it costs a record
//! nothing that could be measured.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use ottla_api::Error;
use ottla_api::plugin::PluginKind;
use ottla_api::sink::Delivery;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// How many of a sink's first deliveries are remembered for the final table.
const SAMPLES_MAX: usize = 3;

/// Everything that runs in a worker.
#[derive(Debug, Default)]
pub struct WorkerStatus {
    connectors: Mutex<Vec<Arc<ConnectorStatus>>>,
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
}

impl WorkerStatus {
    /// Adds a connector.
    pub fn add(&self, connector: Arc<ConnectorStatus>) {
        self.connectors.lock().push(connector);
    }

    /// All connectors, in the order of the configuration.
    pub fn connectors(&self) -> Vec<Arc<ConnectorStatus>> {
        self.connectors.lock().clone()
    }

    /// Counts a request that a listener has answered, by its route and the answer's status.
    pub fn count_request(&self, route: &'static str, status: u16) {
        *self.requests.lock().entry((route, status)).or_default() += 1;
    }

    /// The requests answered so far, by route and status.
    pub fn requests(&self) -> BTreeMap<(&'static str, u16), u64> {
        self.requests.lock().clone()
    }
}

/// One connector: its counters and its tasks.
#[derive(Debug)]
pub struct ConnectorStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Source or sink.
    pub kind: PluginKind,
    /// Native name of its plugin.
    pub class: &'static str,
    /// Where a sink's data lies.
    pub destination: Option<String>,
    /// What it has moved.
    pub counters: Counters,
    /// Where it sends records that fail.
    pub dead_letter_topic: Option<String>,
    /// Told whenever one of its tasks has committed offsets, for whoever waits until all are.
    pub committed: Notify,
    tasks: Mutex<Vec<Arc<TaskStatus>>>,
    extra: Mutex<BTreeMap<&'static str, u64>>,
    gauges: Mutex<BTreeMap<(usize, &'static str), u64>>,
    samples: Mutex<Vec<Delivery>>,
}

/// What a connector has moved since the worker started. All of them only grow, but for `lag`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Records that a source yielded, or that a sink's consumer read.
    pub read: AtomicU64,
    /// Records that a transformation dropped.
    pub dropped: AtomicU64,
    /// Records that failed and were skipped (`errors.tolerance = all`), dead letters included.
    pub failed: AtomicU64,
    /// Records that went to the dead letter queue.
    pub dead_letters: AtomicU64,
    /// Records that are durable in a topic (source), or that the destination accepted (sink).
    pub written: AtomicU64,
    /// Bytes of keys and values read.
    pub bytes: AtomicU64,
    /// Objects, files or commits at a sink's destination.
    pub deliveries: AtomicU64,
    /// Records in those.
    pub delivered: AtomicU64,
    /// Bytes in those.
    pub delivered_bytes: AtomicU64,
    /// Tasks that were started again after a failure.
    pub restarts: AtomicU64,
    /// Records in a sink's topics that are not committed yet; counted every few seconds.
    pub lag: AtomicU64,
}

impl ConnectorStatus {
    /// A connector without tasks yet.
    pub fn new(
        name: impl Into<Arc<str>>,
        kind: PluginKind,
        class: &'static str,
        destination: Option<String>,
        dead_letter_topic: Option<String>,
    ) -> Self {
        Self {
            name: name.into(),
            kind,
            class,
            destination,
            counters: Counters::default(),
            dead_letter_topic,
            committed: Notify::new(),
            tasks: Mutex::default(),
            extra: Mutex::default(),
            gauges: Mutex::default(),
            samples: Mutex::default(),
        }
    }

    /// Adds a task.
    pub fn add_task(&self) -> Arc<TaskStatus> {
        let mut tasks = self.tasks.lock();
        let task = Arc::new(TaskStatus {
            number: tasks.len(),
            state: Mutex::new(TaskState::Starting),
            caught_up: Mutex::default(),
        });
        tasks.push(Arc::clone(&task));
        task
    }

    /// All tasks.
    pub fn tasks(&self) -> Vec<Arc<TaskStatus>> {
        self.tasks.lock().clone()
    }

    /// The most serious state of its tasks: one that failed outweighs one that waits, and so on.
    pub fn state(&self) -> TaskState {
        self.tasks().iter().map(|task| task.state()).max_by_key(TaskState::severity).unwrap_or(TaskState::Starting)
    }

    /// Adds to a counter that the connector named.
    pub fn count(&self, name: &'static str, n: u64) {
        *self.extra.lock().entry(name).or_default() += n;
    }

    /// The counters that the connector named.
    pub fn extra(&self) -> BTreeMap<&'static str, u64> {
        self.extra.lock().clone()
    }

    /// Sets a value that a task named.
    pub fn gauge(&self, task: usize, name: &'static str, value: u64) {
        self.gauges.lock().insert((task, name), value);
    }

    /// The values that tasks named, by task number and name.
    pub fn gauges(&self) -> BTreeMap<(usize, &'static str), u64> {
        self.gauges.lock().clone()
    }

    /// Notes something that a sink has made durable.
    pub fn delivered(&self, delivery: Delivery) {
        self.counters.deliveries.fetch_add(1, Relaxed);
        self.counters.delivered.fetch_add(delivery.records, Relaxed);
        self.counters.delivered_bytes.fetch_add(delivery.bytes, Relaxed);
        let mut samples = self.samples.lock();
        // Samples of different topics say more than three of one: the folder is what tells them apart.
        let folder = |location: &str| location.rsplit_once('/').map(|(folder, _)| folder.to_owned());
        let known = samples.iter().any(|sample| folder(&sample.location) == folder(&delivery.location));
        if samples.len() < SAMPLES_MAX && !known {
            samples.push(delivery);
        }
    }

    /// A few of the first deliveries.
    pub fn samples(&self) -> Vec<Delivery> {
        self.samples.lock().clone()
    }
}

/// One task.
#[derive(Debug)]
pub struct TaskStatus {
    /// Its number, from 0.
    pub number: usize,
    state: Mutex<TaskState>,
    caught_up: Mutex<Option<Instant>>,
}

/// What a task is doing.
#[derive(Debug, Clone)]
pub enum TaskState {
    /// It connects.
    Starting,
    /// It moves data, or waits for some.
    Running,
    /// Something can't be reached or refuses for now; it is tried again.
    Retrying {
        /// Since when.
        since: Instant,
        /// What is tried.
        operation: &'static str,
        /// Why it failed last.
        error: Arc<Error>,
    },
    /// It stopped on an error. The worker starts it again after a pause, unless the run is to end by itself.
    Failed {
        /// Why.
        error: Arc<Error>,
    },
    /// A bounded source has yielded everything.
    Finished,
    /// It was asked to stop and has.
    Stopped,
}

impl TaskState {
    fn severity(&self) -> u8 {
        match self {
            Self::Stopped => 0,
            Self::Finished => 1,
            Self::Running => 2,
            Self::Starting => 3,
            Self::Retrying { .. } => 4,
            Self::Failed { .. } => 5,
        }
    }

    /// Kafka Connect's word for the state.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Starting => "UNASSIGNED",
            Self::Running | Self::Retrying { .. } => "RUNNING",
            Self::Failed { .. } => "FAILED",
            Self::Finished | Self::Stopped => "STOPPED",
        }
    }
}

/// The state as a person reads it: `running`, `retrying put for 12 s: ..`.
impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Running => f.write_str("running"),
            Self::Retrying { since, operation, error } => {
                write!(f, "retrying {operation} for {} s: {error}", since.elapsed().as_secs())
            }
            Self::Failed { error } => write!(f, "failed: {error}"),
            Self::Finished => f.write_str("finished"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

impl TaskStatus {
    /// The state now.
    pub fn state(&self) -> TaskState {
        self.state.lock().clone()
    }

    /// A source has returned all that was there when the poll that `begun` then began.
    pub fn caught_up(&self, begun: Instant) {
        *self.caught_up.lock() = Some(begun);
    }

    /// True where the task has returned, or never will have more than, all that was there at `moment`.
    pub fn had_caught_up(&self, moment: Instant) -> bool {
        matches!(self.state(), TaskState::Finished) || self.caught_up.lock().is_some_and(|begun| begun >= moment)
    }

    /// Changes the state. Going on retrying the same thing keeps its `since`.
    pub fn set(&self, new: TaskState) {
        let mut state = self.state.lock();
        *state = match (&*state, new) {
            (TaskState::Retrying { since, .. }, TaskState::Retrying { operation, error, .. }) => {
                TaskState::Retrying { since: *since, operation, error }
            }
            (_, new) => new,
        };
    }
}

/// The worker's memory budget for buffers (G7): each sink task has a slot in which it says what it holds.
///
/// When all of them together hold too much, whoever holds more than its share (and somebody does) writes early and takes
/// nothing more until there is room again. The others go on, so that one destination that is down does not stop its
/// neighbours (G6).
#[derive(Debug)]
pub struct MemoryBudget {
    max: usize,
    used: AtomicUsize,
    slots: Mutex<Vec<Arc<AtomicUsize>>>,
    freed: Notify,
}

impl MemoryBudget {
    /// A budget of `max` bytes.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, used: AtomicUsize::new(0), slots: Mutex::default(), freed: Notify::new() })
    }

    /// A slot for one task; given back when dropped.
    pub fn slot(self: &Arc<Self>) -> MemorySlot {
        let held = Arc::new(AtomicUsize::new(0));
        self.slots.lock().push(Arc::clone(&held));
        MemorySlot { budget: Arc::clone(self), held }
    }

    /// Bytes that all tasks hold.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Waits until somebody has freed memory, from the moment of this call on. A wake-up without need is harmless: callers
    /// look again.
    pub fn freed(&self) -> tokio::sync::futures::Notified<'_> {
        self.freed.notified()
    }
}

/// One task's part of the budget.
#[derive(Debug)]
pub struct MemorySlot {
    budget: Arc<MemoryBudget>,
    held: Arc<AtomicUsize>,
}

impl MemorySlot {
    /// Says how much the task holds now.
    pub fn set(&self, bytes: usize) {
        let before = self.held.swap(bytes, Relaxed);
        if bytes >= before {
            self.budget.used.fetch_add(bytes - before, Relaxed);
        } else {
            self.budget.used.fetch_sub(before - bytes, Relaxed);
            self.budget.freed.notify_waiters();
        }
    }

    /// How much the task holds.
    pub fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// True where all tasks hold too much and this one more than its share: it should write early.
    pub fn is_over(&self) -> bool {
        let MemoryBudget { max, slots, .. } = &*self.budget;
        self.budget.used() > *max && self.held() > max / slots.lock().len().max(1)
    }

    /// The budget it is part of.
    pub fn budget(&self) -> &Arc<MemoryBudget> {
        &self.budget
    }
}

impl Drop for MemorySlot {
    fn drop(&mut self) {
        self.set(0);
        self.budget.slots.lock().retain(|slot| !Arc::ptr_eq(slot, &self.held));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_more_than_its_share_is_over_once_the_sum_is() {
        let budget = MemoryBudget::new(100);
        let (small, large) = (budget.slot(), budget.slot());
        large.set(70);
        assert!(!large.is_over(), "there is room for all");
        small.set(40);
        assert!(large.is_over() && !small.is_over(), "the one that is stuck does not stop the other");
        small.set(60);
        assert!(large.is_over() && small.is_over(), "together they stay below twice the budget");
        large.set(10);
        assert!(!large.is_over() && !small.is_over());
        drop(small);
        assert_eq!(budget.used(), 10);
    }
}
