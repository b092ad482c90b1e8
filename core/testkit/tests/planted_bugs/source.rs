//! Two source partitions with ten numbers each, read rightly or with one bug.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use ottla_api::prelude::*;
use ottla_testkit::fault::Fault;
use ottla_testkit::source_suite::SourceSuite;

use crate::{Planted, every_bug_is_found};

/// Numbers in each partition.
const N: i64 = 10;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bug {
    None,
    /// One number is another one.
    YieldsSomethingElse,
    /// Each task writes another time into its records.
    StampsTheTask,
    /// Starts one too far.
    SkipsOne,
    /// Starts one too early.
    RepeatsOne,
    /// Takes records and then waits with them in a local variable.
    LosesOnDrop,
    /// Takes a commit for a reason to go on.
    CommitSkips,
    /// Can't stop before it has polled.
    StopNeedsAPoll,
    /// Takes all for delivered when it goes without a stop.
    GoneMeansDone,
    /// Waits with the thread.
    Blocks,
    /// Its end is not the end.
    StartsAgain,
    /// Waits for news without a word.
    NeverCaughtUp,
    /// The offset of every second record is the one before.
    OffsetsGoBack,
    /// Every task reads everything.
    SharesNothing,
    /// Forgets what it took when the call after that fails.
    LosesOnError,
}

const BUGS: &[Planted<Bug>] = &[
    ("yields_what_is_expected", Bug::YieldsSomethingElse, "was not expected here"),
    ("yields_what_is_expected", Bug::StampsTheTask, "was not expected here"),
    ("resumes_after_any_record", Bug::SkipsOne, "did not go on with exactly the rest"),
    ("resumes_after_any_record", Bug::RepeatsOne, "did not go on with exactly the rest"),
    (
        "a_dropped_poll_loses_nothing",
        Bug::LosesOnDrop,
        "when every poll is dropped at await point 1, other records came",
    ),
    ("commits_change_nothing", Bug::CommitSkips, "with commits between the polls, other records came"),
    ("stops_while_busy_and_while_idle", Bug::StopNeedsAPoll, "stop failed: there is no connection"),
    ("a_kill_loses_nothing", Bug::GoneMeansDone, "after a task that is killed after 0 records, records were lost"),
    ("a_kill_loses_nothing", Bug::Blocks, "the task still blocks its thread"),
    ("the_end_is_stable", Bug::StartsAgain, "the source is not finished but yields"),
    ("an_idle_source_says_so", Bug::NeverCaughtUp, "the source says no CaughtUp within 5s"),
    ("offsets_grow", Bug::OffsetsGoBack, "went back from"),
    ("tasks_share_the_work", Bug::SharesNothing, "two of 2 tasks read source partition"),
    ("survives_faults", Bug::LosesOnError, "other records came"),
];

/// What outlives the tasks.
#[derive(Default)]
struct Outside {
    tasks: AtomicI64,
    done: AtomicBool,
}

struct Numbers {
    outside: Arc<Outside>,
    bug: Bug,
    bounded: bool,
    /// The partitions of this task.
    partitions: Vec<usize>,
    next: [i64; 2],
    pending: Vec<SourceRecord>,
    fault: Fault,
    number: i64,
    polled: bool,
    stopped: bool,
    commits: i64,
}

impl Numbers {
    fn task(
        outside: &Arc<Outside>,
        bug: Bug,
        bounded: bool,
        partitions: Vec<usize>,
        fault: Fault,
    ) -> Box<dyn SourceTask> {
        let number = outside.tasks.fetch_add(1, SeqCst);
        let (outside, pending) = (outside.clone(), Vec::new());
        let (polled, stopped, commits) = (false, false, 0);
        Box::new(Self {
            outside,
            bug,
            bounded,
            partitions,
            next: [0; 2],
            pending,
            fault,
            number,
            polled,
            stopped,
            commits,
        })
    }

    fn take_some(&mut self) -> Vec<SourceRecord> {
        let mut taken = Vec::new();
        for index in self.partitions.clone() {
            for _ in 0..3 {
                let n = self.next[index];
                if n >= N {
                    break;
                }
                let last = if self.bug == Bug::OffsetsGoBack && n % 2 == 1 { n - 2 } else { n };
                let mut record = number(index, if self.bug == Bug::YieldsSomethingElse && n == 7 { 70 } else { n });
                if self.bug == Bug::StampsTheTask {
                    record.timestamp = Some(self.number);
                }
                taken.push(SourceRecord::new(record, partition(index), SourceOffset::new([("last", last)])));
                self.next[index] += 1;
            }
        }
        taken
    }
}

#[async_trait]
impl SourceTask for Numbers {
    async fn start(&mut self, context: &SourceTaskContext) -> Result<()> {
        for index in 0..2 {
            let last = context.offset(&partition(index))?.and_then(|offset| offset.get_i64("last"));
            self.next[index] = match self.bug {
                Bug::SkipsOne if last == Some(4) => 6,
                Bug::RepeatsOne if last == Some(4) => 4,
                Bug::GoneMeansDone if self.outside.done.load(SeqCst) => N,
                _ => last.map_or(0, |last| last + 1),
            };
        }
        Ok(())
    }

    async fn poll(&mut self) -> Result<SourcePoll> {
        self.polled = true;
        if self.bug == Bug::Blocks {
            std::thread::sleep(Duration::from_millis(100));
        }
        let taken = self.take_some();
        if matches!(self.bug, Bug::LosesOnDrop | Bug::LosesOnError) {
            if self.bug == Bug::LosesOnDrop {
                tokio::task::yield_now().await;
            } else {
                self.fault.point("read")?;
            }
            return Ok(if taken.is_empty() { SourcePoll::Finished } else { SourcePoll::Records(taken) });
        }
        self.pending.extend(taken);
        tokio::task::yield_now().await;
        self.fault.point("read")?;
        tokio::task::yield_now().await;
        if !self.pending.is_empty() {
            return Ok(SourcePoll::Records(std::mem::take(&mut self.pending)));
        }
        if self.bounded {
            if self.bug == Bug::StartsAgain {
                self.next = [0; 2];
            }
            return Ok(SourcePoll::Finished);
        }
        if self.bug == Bug::NeverCaughtUp {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(SourcePoll::CaughtUp)
    }

    async fn commit(&mut self, _durable: &SourceOffsets) -> Result<()> {
        self.commits += 1;
        if self.bug == Bug::CommitSkips && self.commits == 1 {
            self.next[0] += 1;
        }
        Ok(())
    }

    async fn stop(&mut self) -> Result<()> {
        self.stopped = true;
        if self.bug == Bug::StopNeedsAPoll && !self.polled {
            return Err(Error::fatal("there is no connection to close"));
        }
        Ok(())
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        // Asked when a task is killed, which the suite does on a thread of that name.
        let killed = std::thread::current().name() == Some("conformance");
        if self.bug == Bug::GoneMeansDone && !self.stopped && killed {
            self.outside.done.store(true, SeqCst);
        }
    }
}

fn partition(index: usize) -> SourcePartition {
    SourcePartition::new([("numbers", index as i64)])
}

fn number(index: usize, n: i64) -> Record {
    Record::new(format!("numbers-{index}"), n)
}

fn suite(bug: Bug, bounded: bool) -> SourceSuite<'static> {
    let outside = Arc::new(Outside::default());
    let (here, there) = (outside.clone(), outside.clone());
    let suite = SourceSuite::new(20, move || Numbers::task(&outside, bug, bounded, vec![0, 1], Fault::never()))
        .expecting((0..N).flat_map(|n| [number(0, n), number(1, n)]).collect())
        .patience(Duration::from_millis(if bug == Bug::Blocks { 20 } else { 30_000 }))
        .tasks(move |tasks_max| {
            let parts = match tasks_max {
                1 => vec![vec![0, 1]],
                _ if bug == Bug::SharesNothing => vec![vec![0, 1], vec![0, 1]],
                _ => vec![vec![0], vec![1]],
            };
            parts.into_iter().map(|part| Numbers::task(&here, bug, bounded, part, Fault::never())).collect()
        })
        .faulty(move |fault| Numbers::task(&there, bug, bounded, vec![0, 1], fault));
    if bounded { suite.bounded() } else { suite }
}

#[tokio::test]
async fn every_rule_for_sources_finds_its_bug() {
    every_bug_is_found(SourceSuite::RULES, BUGS, Bug::None, async |bug, rule| {
        suite(bug, rule != "an_idle_source_says_so").check(rule).await;
    })
    .await;
}

#[tokio::test]
async fn a_right_source_passes_however_it_is_declared() {
    suite(Bug::None, true).run().await;
    suite(Bug::None, false).run().await;
    suite(Bug::None, true).may_repeat().run().await;
    suite(Bug::RepeatsOne, true).may_repeat().resumes_after_any_record().await;
}

#[tokio::test]
#[should_panic(expected = "skipped or changed records")]
async fn a_source_that_may_repeat_may_not_skip() {
    suite(Bug::SkipsOne, true).may_repeat().resumes_after_any_record().await;
}
