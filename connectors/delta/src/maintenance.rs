//! What keeps tables fast: checkpoints, a short log, large files. Beside the ingest, never in its way.
//!
//! A task of its own does one job after the other. What fails is logged, counted, and tried again later; the sink goes on.
//!
//! Several tasks, also of several workers, may write to one table, and none of them knows of the others. Any of them may do
//! any job: a checkpoint that somebody else has written is found, and compaction and vacuum are ordinary commits. To spare
//! the work, the task whose commit got a multiple of `checkpoint.commits` as its version writes the checkpoint, the others
//! wait a while and look whether there is one; and who wrote the newest checkpoint is the one who compacts and vacuums.

mod checkpoint;
mod files;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deltalake_core::DeltaTableError;
use deltalake_core::logstore::LogStoreRef;
use ottla_api::prelude::*;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::store::failure::causes;

/// How long a task leaves a checkpoint to the one that ought to write it.
const GRACE: Duration = Duration::from_secs(30);
/// By age alone a table gets a checkpoint only after so many commits: readers open fewer versions in no time.
const AGED_COMMITS_MIN: u64 = 10;
/// First and longest pause after a failure.
const RETRY_FIRST: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(10 * 60);
/// The first compaction and the first vacuum come so soon at the latest, so that they come at all to a worker that is
/// restarted every day.
const FIRST_ROUND_MAX: Duration = Duration::from_secs(10 * 60);
/// How long the end of a task waits for a checkpoint that is due.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// The options of maintenance. Flattened into the sink's own.
#[derive(Debug, Clone, Config)]
pub struct MaintenanceConfig {
    /// After how many versions a table gets a checkpoint, which spares its readers all versions before.
    #[config(name = "checkpoint.commits", default = "100", min = 1, importance = "low")]
    pub checkpoint_commits: u64,
    /// After what time a table with at least ten new versions gets a checkpoint; -1 for never.
    #[config(name = "checkpoint.interval.ms", default = "600000", min = -1, importance = "low")]
    pub checkpoint_interval: i64,
    /// How often the rows of small files are put into large files; -1 for never. It takes memory and processor time for
    /// the files it rewrites; the old ones stay until a vacuum.
    #[config(name = "compact.interval.ms", default = "-1", min = -1)]
    pub compact_interval: i64,
    /// How large compaction makes files.
    #[config(name = "compact.target.bytes", default = "134217728", min = 1048576, importance = "low")]
    pub compact_target: u64,
    /// How often files are deleted that no recent version of a table needs, and those that were never committed; -1 for
    /// never.
    #[config(name = "vacuum.interval.ms", default = "-1", min = -1)]
    pub vacuum_interval: i64,
    /// How long a file stays that no longer belongs to its table, for readers of earlier versions and for writers that have
    /// not committed it yet. The table's `delta.deletedFileRetentionDuration` holds where it is longer.
    #[config(name = "vacuum.retention.ms", default = "604800000", min = 86400000, importance = "low")]
    pub vacuum_retention: i64,
}

/// The maintenance of the tables that one task of the sink writes to.
pub struct Maintenance {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    /// The one task; it ends with this.
    task: JoinSet<()>,
}

impl Maintenance {
    /// Starts the task that does the jobs. Nothing is due before the first commit.
    pub fn start(config: MaintenanceConfig, context: &SinkTaskContext) -> Self {
        let shared = Arc::new(Shared {
            rules: Rules::new(&config),
            tables: Mutex::new(BTreeMap::new()),
            news: Notify::new(),
            context: context.clone(),
        });
        let (stop, stopped) = watch::channel(false);
        let mut task = JoinSet::new();
        task.spawn(run(Arc::clone(&shared), stopped));
        Self { shared, stop, task }
    }

    /// Tells of a commit of ours: `version` of the table of this name. Cheap; call it after every one.
    pub fn committed(&self, table: &str, log_store: &LogStoreRef, version: u64) {
        let now = Instant::now();
        let rules = &self.shared.rules;
        let mut tables = self.shared.tables.lock();
        match tables.get_mut(table) {
            Some(known) => known.committed(version, rules, now),
            None => {
                let mut new = Table::new(Arc::clone(log_store), rules, now);
                new.committed(version, rules, now);
                tables.insert(table.to_owned(), new);
            }
        }
        self.shared.news.notify_one();
    }

    /// Writes the checkpoints that are due by number, then ends. A compaction or a vacuum on its way is given up, which
    /// leaves files that a later vacuum removes.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        if tokio::time::timeout(STOP_PATIENCE, self.task.join_next()).await.is_err() {
            tracing::info!("a checkpoint took too long to wait for; the next run writes it");
        }
    }
}

impl fmt::Debug for Maintenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Maintenance({} tables)", self.shared.tables.lock().len())
    }
}

struct Shared {
    rules: Rules,
    tables: Mutex<BTreeMap<String, Table>>,
    news: Notify,
    context: SinkTaskContext,
}

/// The schedule.
#[derive(Debug, Clone)]
struct Rules {
    commits: u64,
    age: Option<Duration>,
    compact: Option<Duration>,
    compact_target: u64,
    vacuum: Option<Duration>,
    vacuum_retention: Duration,
}

impl Rules {
    fn new(config: &MaintenanceConfig) -> Self {
        let every = |ms: i64| u64::try_from(ms).ok().map(Duration::from_millis);
        Self {
            commits: config.checkpoint_commits.max(1),
            age: every(config.checkpoint_interval),
            compact: every(config.compact_interval),
            compact_target: config.compact_target,
            vacuum: every(config.vacuum_interval),
            vacuum_retention: every(config.vacuum_retention).unwrap_or_default(),
        }
    }
}

/// One thing to do for a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Job {
    Checkpoint,
    Compact,
    Vacuum,
}

/// Why a checkpoint is wanted; the stronger reason is the later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    None,
    /// The newest one is old.
    Age,
    /// A round number was passed, by somebody. That may have been another engine, or a writer that is gone.
    Number,
    /// A commit of ours got a round number, which makes it our job.
    OurNumber,
}

/// What is known of a table, and what is due.
#[derive(Debug)]
struct Table {
    log_store: LogStoreRef,
    /// The newest version that is ours.
    version: u64,
    /// The newest checkpoint that was seen or written, if any was.
    checkpoint: Option<u64>,
    /// When that was, or when the table was first seen.
    checkpoint_seen: Instant,
    /// True where this task wrote the newest checkpoint it knows: then it compacts and vacuums.
    caretaker: bool,
    /// Why a checkpoint is due, if it is.
    reason: Reason,
    /// When each job is to be done next.
    due: BTreeMap<Job, Instant>,
    /// How often in a row each job has failed.
    failures: BTreeMap<Job, u32>,
}

impl Table {
    fn new(log_store: LogStoreRef, rules: &Rules, now: Instant) -> Self {
        let mut due = BTreeMap::new();
        for (job, every) in [(Job::Compact, rules.compact), (Job::Vacuum, rules.vacuum)] {
            if let Some(every) = every {
                due.insert(job, now + random_up_to(every.min(FIRST_ROUND_MAX)));
            }
        }
        Self {
            log_store,
            version: 0,
            checkpoint: None,
            checkpoint_seen: now,
            caretaker: false,
            reason: Reason::None,
            due,
            failures: BTreeMap::new(),
        }
    }

    fn committed(&mut self, version: u64, rules: &Rules, now: Instant) {
        self.version = self.version.max(version);
        let reason = self.reason(version, rules);
        // A job that failed keeps its pause.
        if reason > self.reason && !self.failures.contains_key(&Job::Checkpoint) {
            let at = match reason {
                Reason::None => return,
                Reason::Age => (self.checkpoint_seen + rules.age.unwrap_or_default()).max(now) + random_up_to(GRACE),
                Reason::Number => now + GRACE / 6 + random_up_to(GRACE),
                Reason::OurNumber => now,
            };
            self.reason = reason;
            self.due.insert(Job::Checkpoint, at);
        }
    }

    /// Why a checkpoint is wanted after this version of ours.
    fn reason(&self, version: u64, rules: &Rules) -> Reason {
        match self.by_number(rules) {
            true if version.is_multiple_of(rules.commits) => Reason::OurNumber,
            true => Reason::Number,
            false if rules.age.is_some() && self.behind() >= AGED_COMMITS_MIN => Reason::Age,
            false => Reason::None,
        }
    }

    /// How many versions the newest checkpoint is behind.
    fn behind(&self) -> u64 {
        self.checkpoint.map_or(self.version + 1, |checkpoint| self.version.saturating_sub(checkpoint))
    }

    /// True where the versions since the newest checkpoint call for another one.
    fn by_number(&self, rules: &Rules) -> bool {
        self.version / rules.commits > self.checkpoint.map_or(0, |checkpoint| checkpoint / rules.commits)
    }

    /// What can be done next, and when.
    fn next(&self) -> Option<(Instant, Job)> {
        let allowed = |job: &Job| *job == Job::Checkpoint || self.caretaker;
        self.due.iter().filter(|(job, _)| allowed(job)).map(|(job, at)| (*at, *job)).min()
    }
}

/// The task: one job after the other, the one that is due longest first.
async fn run(shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        let next = next_job(&shared);
        let Some((at, job, table)) = next else {
            tokio::select! {
                () = shared.news.notified() => {}
                _ = stopped.changed() => {}
            }
            continue;
        };
        if at > Instant::now() {
            tokio::select! {
                _ = stopped.changed() => {}
                () = tokio::time::sleep_until(at) => {}
                // What has come in may be due earlier.
                () = shared.news.notified() => {}
            }
        } else if job == Job::Checkpoint {
            do_job(&shared, &table, job).await;
        } else {
            tokio::select! {
                _ = stopped.changed() => {}
                () = do_job(&shared, &table, job) => {}
            }
        }
    }
    for table in tables_that_are_due(&shared) {
        do_job(&shared, &table, Job::Checkpoint).await;
    }
}

fn next_job(shared: &Shared) -> Option<(Instant, Job, String)> {
    let tables = shared.tables.lock();
    let jobs = tables.iter().filter_map(|(name, table)| table.next().map(|(at, job)| (at, job, name.clone())));
    jobs.min()
}

/// The tables whose checkpoint this task ought to write now.
fn tables_that_are_due(shared: &Shared) -> Vec<String> {
    let tables = shared.tables.lock();
    let due = tables.iter().filter(|(_, table)| table.reason >= Reason::Number);
    due.map(|(name, _)| name.clone()).collect()
}

async fn do_job(shared: &Shared, name: &str, job: Job) {
    let known = shared.tables.lock().get(name).map(|table| (Arc::clone(&table.log_store), table.version));
    let Some((log_store, version)) = known else { return };
    let rules = &shared.rules;
    let context = &shared.context;
    let outcome = match job {
        Job::Checkpoint => write_checkpoint(shared, name, &log_store, version).await,
        Job::Compact => files::compact(&log_store, rules.compact_target).await.map(|removed| {
            context.count("files.compacted", removed);
            tracing::info!(table = name, files = removed, "small files were put into large ones");
        }),
        Job::Vacuum => files::vacuum(&log_store, rules.vacuum_retention).await.map(|removed| {
            context.count("files.vacuumed", removed);
            tracing::info!(table = name, files = removed, "files that nobody needs were deleted");
        }),
    };
    let mut tables = shared.tables.lock();
    let Some(table) = tables.get_mut(name) else { return };
    match outcome {
        Ok(()) => {
            table.failures.remove(&job);
            let every = match job {
                Job::Checkpoint => None,
                Job::Compact => rules.compact,
                Job::Vacuum => rules.vacuum,
            };
            match every {
                Some(every) => table.due.insert(job, Instant::now() + every + random_up_to(every / 10)),
                None => table.due.remove(&job),
            };
            if job == Job::Checkpoint {
                table.reason = Reason::None;
                // Commits have come in while it was written.
                table.committed(table.version, rules, Instant::now());
            }
        }
        Err(error) => {
            let failures = table.failures.entry(job).or_default();
            *failures += 1;
            let pause = RETRY_FIRST.saturating_mul(1 << (*failures - 1).min(10)).min(RETRY_MAX);
            tracing::warn!(
                table = name, error = %causes(&error), failures = *failures, again_in = ?pause,
                "maintenance failed ({job:?}); the table is complete, and slower to read until it succeeds"
            );
            table.due.insert(job, Instant::now() + pause + random_up_to(pause / 4));
            context.count("maintenance.failures", 1);
        }
    }
    let behind = tables.values().map(Table::behind).max().unwrap_or_default();
    context.gauge("versions.since.checkpoint", behind);
}

/// Writes the checkpoint unless somebody else has.
async fn write_checkpoint(
    shared: &Shared,
    name: &str,
    log_store: &LogStoreRef,
    version: u64,
) -> Result<(), DeltaTableError> {
    let rules = &shared.rules;
    let found = checkpoint::newest(log_store).await?;
    let note = |newest: u64, age: Duration, by_us: Option<bool>| {
        if let Some(table) = shared.tables.lock().get_mut(name) {
            let ours = table.caretaker && table.checkpoint == Some(newest);
            table.caretaker = by_us.unwrap_or(ours);
            table.checkpoint = Some(newest);
            let now = Instant::now();
            table.checkpoint_seen = now.checked_sub(age).unwrap_or(now);
        }
    };
    if let Some((newest, age)) = found {
        note(newest, age, None);
        let old = rules.age.is_some_and(|limit| age >= limit) && version >= newest + AGED_COMMITS_MIN;
        if newest >= version || (newest / rules.commits == version / rules.commits && !old) {
            return Ok(());
        }
    }
    let written = checkpoint::write(log_store).await?;
    note(written.version, Duration::ZERO, written.by_us.then_some(true));
    if written.by_us {
        shared.context.count("checkpoints", 1);
        shared.context.count("log.files.removed", written.removed as u64);
        tracing::info!(table = name, version = written.version, removed = written.removed, "a checkpoint was written");
    }
    Ok(())
}

fn random_up_to(limit: Duration) -> Duration {
    limit.mul_f64(rand::random_range(0.0..1.0))
}
