//! Conformance of a source task: what the runtime relies on, whatever the system behind it.
//!
//! | Check | Promise |
//! |---|---|
//! | [`yields_what_is_expected`](SourceSuite::yields_what_is_expected) | the whole records, in order per source partition; the same a second time |
//! | [`resumes_after_any_record`](SourceSuite::resumes_after_any_record) | from the stored offsets of any prefix of the output, exactly the rest follows (G1) |
//! | [`a_dropped_poll_loses_nothing`](SourceSuite::a_dropped_poll_loses_nothing) | the future of `poll` may be dropped at any await point |
//! | [`commits_change_nothing`](SourceSuite::commits_change_nothing) | `commit` between polls neither adds, drops nor reorders |
//! | [`stops_while_busy_and_while_idle`](SourceSuite::stops_while_busy_and_while_idle) | `stop` returns, and nothing is lost by it |
//! | [`a_kill_loses_nothing`](SourceSuite::a_kill_loses_nothing) | a task that dies with its thread, anywhere in a poll, is followed by one that goes on where it had come to |
//! | [`the_end_is_stable`](SourceSuite::the_end_is_stable) | a bounded source stays finished, also after a restart; an unbounded one waits |
//! | [`an_idle_source_says_so`](SourceSuite::an_idle_source_says_so) | an unbounded source that waits for news says `CaughtUp`, about once a second |
//! | [`offsets_grow`](SourceSuite::offsets_grow) | offsets of one source partition never go back |
//! | [`tasks_share_the_work`](SourceSuite::tasks_share_the_work) | several tasks read everything once, no source partition twice |
//! | [`survives_faults`](SourceSuite::survives_faults) | whatever call to the system fails, no record is lost |
//!
//! The last two run where the test has given them what they need ([`tasks`](SourceSuite::tasks), [`faulty`](SourceSuite::faulty)).

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use ottla_api::prelude::*;

use crate::fault::{Fault, Random};
use crate::harness::{DEADLINE, SourceHarness, decoded};
use crate::rule::{on_a_thread_that_ends, rules};

/// How long an unbounded source is watched to see that it yields nothing more.
const IDLE: Duration = Duration::from_millis(50);

/// An unbounded source that waits says so about once a second; a slow machine gets more time.
const IDLE_SAYS_SO: Duration = Duration::from_secs(5);

/// How many records a task has yielded when it is killed: this many places are tried.
const KILLS: usize = 6;

/// A fault run ends at this many places; a source that makes more calls than that for a few records has gone astray.
const FAULTS_MAX: u64 = 500;

rules! {
    SourceSuite<'_>,
    yields_what_is_expected: "the whole records, in order per source partition; the same a second time",
    resumes_after_any_record: "from the stored offsets of any prefix of the output, exactly the rest follows (G1)",
    a_dropped_poll_loses_nothing: "the future of `poll` may be dropped at any await point",
    commits_change_nothing: "`commit` between polls neither adds, drops nor reorders",
    stops_while_busy_and_while_idle: "`stop` returns, and nothing is lost by it",
    a_kill_loses_nothing: "a task that dies with its thread, anywhere in a poll, is followed by one that goes on where it had come to",
    the_end_is_stable: "a bounded source stays finished, also after a restart; an unbounded one waits",
    an_idle_source_says_so: "an unbounded source that waits for news says `CaughtUp`, about once a second",
    offsets_grow: "offsets of one source partition never go back",
    tasks_share_the_work: "several tasks read everything once, no source partition twice",
    survives_faults: "whatever call to the system fails, no record is lost",
}

/// The suite for one source, over data that doesn't change while it runs.
///
/// A task that the closure makes reads that data from wherever the durable offsets say. The suite makes dozens of tasks, one
/// after the other.
pub struct SourceSuite<'a> {
    task: Box<dyn Fn() -> Box<dyn SourceTask> + 'a>,
    records: usize,
    expected: Option<Vec<Record>>,
    bounded: bool,
    may_repeat: bool,
    prefixes_max: usize,
    patience: Duration,
    tasks: Option<Box<dyn Fn(usize) -> Vec<Box<dyn SourceTask>> + 'a>>,
    faulty: Option<Box<dyn Fn(Fault) -> Box<dyn SourceTask> + 'a>>,
}

impl<'a> SourceSuite<'a> {
    /// A suite over `records` records in all.
    pub fn new(records: usize, task: impl Fn() -> Box<dyn SourceTask> + 'a) -> Self {
        Self {
            task: Box::new(task),
            records,
            expected: None,
            bounded: false,
            may_repeat: false,
            prefixes_max: 40,
            patience: DEADLINE,
            tasks: None,
            faulty: None,
        }
    }

    /// The records that a task without durable offsets yields, whole. Where there are several source partitions, only the
    /// order within each matters.
    #[must_use]
    pub fn expecting(mut self, records: Vec<Record>) -> Self {
        assert_eq!(records.len(), self.records, "as many records are expected as the suite was told of");
        self.expected = Some(records.into_iter().map(|record| decoded(record).expect("valid JSON")).collect());
        self
    }

    /// Declares that the source ends: after the last record comes [`SourcePoll::Finished`].
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.bounded = true;
        self
    }

    /// Declares that a task may yield again, in order, what lies just before its start (an offset that names a group of
    /// records). It still never skips.
    #[must_use]
    pub fn may_repeat(mut self) -> Self {
        self.may_repeat = true;
        self
    }

    /// How many prefixes of the output are tried; all of them where there are no more. The first, the last and those spread
    /// evenly between are.
    #[must_use]
    pub fn prefixes_max(mut self, n: usize) -> Self {
        self.prefixes_max = n.max(2);
        self
    }

    /// How long a task may keep its thread before the suite says that it blocks it.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How the connector divides the work among up to so many tasks.
    #[must_use]
    pub fn tasks(mut self, tasks: impl Fn(usize) -> Vec<Box<dyn SourceTask>> + 'a) -> Self {
        self.tasks = Some(Box::new(tasks));
        self
    }

    /// How a task is made whose calls to the system fail where the fault says so.
    #[must_use]
    pub fn faulty(mut self, task: impl Fn(Fault) -> Box<dyn SourceTask> + 'a) -> Self {
        self.faulty = Some(Box::new(task));
        self
    }

    /// A task without durable offsets yields the expected records, whole; a second one yields the same.
    pub async fn yields_what_is_expected(&self) {
        let first = self.whole_output().await;
        if let Some(expected) = &self.expected {
            let mut rest: Vec<&Record> = expected.iter().collect();
            for (partition, records) in by_partition(&first) {
                // Each source partition is found in the expected records as a whole, in its order.
                let mut from = 0;
                for record in records {
                    let at = rest[from..].iter().position(|candidate| **candidate == record.record);
                    let at = at.unwrap_or_else(|| {
                        panic!(
                            "of source partition {partition}, this record was not expected here: {:?}",
                            record.record
                        )
                    });
                    from += at;
                    rest.remove(from);
                }
            }
        }
        let second = self.whole_output().await;
        expect_same(&second, &first, "a second task over the same data yields other records");
    }

    /// A task that starts from the stored offsets of any prefix yields exactly the rest.
    pub async fn resumes_after_any_record(&self) {
        let state_dir = tempfile::tempdir().expect("the system's temporary folder is writable");
        let mut baseline = self.start_in(&SourceOffsets::new(), Some(state_dir.path())).await;
        let output = self.read_whole(&mut baseline).await;
        drop(baseline);
        let prefixes = spread(self.records, self.prefixes_max);
        for (turn, prefix) in prefixes.into_iter().enumerate() {
            // Derived state may be there from before, or be gone with the machine.
            let state_dir = turn.is_multiple_of(2).then(|| state_dir.path());
            let mut harness = self.start_in(&newest(&output[..prefix]), state_dir).await;
            let rest = if self.may_repeat {
                self.read_until_caught_up(&mut harness, &output).await
            } else {
                read_exactly(&mut harness, self.records - prefix).await
            };
            self.expect_rest(&rest, &output, prefix, &format!("after a start from the offsets of record {prefix}"));
            self.expect_no_more(&mut harness, &format!("after a start from the offsets of record {prefix}")).await;
        }
    }

    /// A poll that is dropped at any await point loses nothing and repeats nothing.
    pub async fn a_dropped_poll_loses_nothing(&self) {
        let output = self.whole_output().await;
        for pending_max in 1.. {
            let mut harness = self.start_in(&SourceOffsets::new(), None).await;
            let (mut found, mut dropped) = (Vec::new(), 0);
            while found.len() < self.records {
                let poll = match harness.poll_dropped_after(pending_max).await {
                    Some(poll) => poll.map_err(|error| error.during("poll")),
                    None => {
                        dropped += 1;
                        harness.poll().await
                    }
                };
                if !take(poll, &mut found) {
                    break;
                }
            }
            let when = format!("when every poll is dropped at await point {pending_max}");
            expect_same(&found, &output, &format!("{when}, other records came"));
            self.expect_no_more(&mut harness, &when).await;
            if dropped == 0 || pending_max > 100 {
                break;
            }
        }
        // And at places that differ from poll to poll.
        for seed in 0..8 {
            let mut random = Random::new(seed);
            let mut harness = self.start_in(&SourceOffsets::new(), None).await;
            let mut found = Vec::new();
            let mut patience = 0;
            while found.len() < self.records {
                // The patience grows, so that a poll with many await points comes to its end some time.
                patience += 1;
                let pending_max = 1 + random.below(3 + patience / 8) as usize;
                if let Some(poll) = harness.poll_dropped_after(pending_max).await
                    && !take(poll, &mut found)
                {
                    break;
                }
                assert!(patience < 1_000_000, "a poll that is dropped at times never comes to an end (seed {seed})");
            }
            expect_same(&found, &output, &format!("after drops at random (seed {seed}), other records came"));
        }
    }

    /// Commits between the polls change nothing about the output.
    pub async fn commits_change_nothing(&self) {
        let output = self.whole_output().await;
        let mut harness = self.start_in(&SourceOffsets::new(), None).await;
        let mut found = Vec::new();
        while found.len() < self.records {
            if !take(harness.poll().await, &mut found) {
                break;
            }
            ok("commit", harness.commit().await);
            // An empty commit is ordinary: the timer doesn't ask whether there was anything.
            ok("commit again", harness.commit().await);
        }
        expect_same(&found, &output, "with commits between the polls, other records came");
        let mut successor = self.start_in(harness.offsets(), None).await;
        self.expect_no_more_after_restart(&mut successor, &output, "after a start from the committed offsets of all")
            .await;
    }

    /// A task stops before, during and after its work; what it had returned is where the next one goes on.
    pub async fn stops_while_busy_and_while_idle(&self) {
        let output = self.whole_output().await;
        let whens = [
            ("before the first poll", None),
            ("in the first poll", Some(0)),
            ("while busy", Some(1)),
            ("while busy, later", Some(2)),
            ("while idle", Some(usize::MAX)),
        ];
        for (when, polls) in whens {
            let mut harness = self.start_in(&SourceOffsets::new(), None).await;
            let mut found = Vec::new();
            for _ in 0..polls.unwrap_or(0) {
                if found.len() >= self.records || !take(harness.poll().await, &mut found) {
                    break;
                }
            }
            if polls.is_some() && (found.len() < self.records || !self.bounded) {
                // The runtime drops the poll that is waiting, then stops.
                if let Some(poll) = harness.poll_dropped_after(1).await {
                    take(poll, &mut found);
                }
            }
            ok("stop", harness.stop().await);
            let offsets = harness.offsets().clone();
            drop(harness);
            let mut successor = self.start_in(&offsets, None).await;
            self.expect_to_complete(&mut successor, found, &output, &format!("after a stop {when}")).await;
        }
    }

    /// A task dies without a stop, together with the thread and the runtime that it ran on: before its first poll, between
    /// polls and in the middle of one. The next one goes on behind what was returned.
    pub async fn a_kill_loses_nothing(&self) {
        let output = self.whole_output().await;
        for (turn, n) in spread(self.records, KILLS).into_iter().enumerate() {
            let task = (self.task)();
            let pending_max = 1 + turn;
            let when = format!("a task that is killed after {n} records");
            let (found, offsets) = on_a_thread_that_ends(&when, self.patience, move || async move {
                let mut harness = ok("start", SourceHarness::start(task, &SourceOffsets::new()).await);
                let mut found = Vec::new();
                while found.len() < n && take(harness.poll().await, &mut found) {}
                if let Some(poll) = harness.poll_dropped_after(pending_max).await {
                    take(poll, &mut found);
                }
                let offsets = harness.offsets().clone();
                (found, offsets)
            })
            .await;
            let mut successor = self.start_in(&offsets, None).await;
            self.expect_to_complete(&mut successor, found, &output, &format!("after {when}")).await;
        }
    }

    /// After the last record a bounded source has finished and stays so; an unbounded one waits.
    pub async fn the_end_is_stable(&self) {
        let mut harness = self.start_in(&SourceOffsets::new(), None).await;
        let output = self.read_whole(&mut harness).await;
        for _ in 0..3 {
            self.expect_no_more(&mut harness, "after the last record").await;
        }
        let mut successor = self.start_in(&newest(&output), None).await;
        self.expect_no_more_after_restart(&mut successor, &output, "after a start from the last offsets").await;
    }

    /// After the last record an unbounded source says that it has caught up, again and again: a run with `--until caught-up`
    /// waits for that.
    pub async fn an_idle_source_says_so(&self) {
        if self.bounded {
            return;
        }
        let mut harness = self.start_in(&SourceOffsets::new(), None).await;
        self.read_whole(&mut harness).await;
        for time in ["the first time", "the second time"] {
            let begun = tokio::time::Instant::now();
            loop {
                let left = IDLE_SAYS_SO.saturating_sub(begun.elapsed());
                assert!(
                    !left.is_zero(),
                    "after the last record the source says no CaughtUp within {IDLE_SAYS_SO:?} ({time})"
                );
                match harness.poll_for(left).await {
                    Some(Ok(SourcePoll::CaughtUp)) => break,
                    None | Some(Ok(SourcePoll::Offsets(_))) => {}
                    Some(Ok(SourcePoll::Records(records))) => {
                        assert!(records.is_empty(), "after the last record more records came: {records:?}");
                        // A source that answers at once, and for ever, must not keep this loop from its deadline.
                        tokio::task::yield_now().await;
                    }
                    Some(Ok(SourcePoll::Finished)) => panic!("the source is finished; declare it as bounded"),
                    Some(Err(error)) if error.is_retriable() => tokio::time::sleep(IDLE).await,
                    Some(Err(error)) => panic!("poll failed: {error}"),
                }
            }
        }
    }

    /// The offsets of one source partition never go back, as far as they can be compared: integers field by field.
    pub async fn offsets_grow(&self) {
        for (partition, records) in by_partition(&self.whole_output().await) {
            for pair in records.windows(2) {
                let (before, after) = (&pair[0].source_offset, &pair[1].source_offset);
                assert_ne!(
                    compare(before, after),
                    Some(Ordering::Greater),
                    "the offset of {partition} went back from {} to {}",
                    before.to_json(),
                    after.to_json()
                );
                let read_back =
                    SourceOffset::from_json(after.to_json().as_bytes()).expect("a stored offset is read back");
                assert_eq!(read_back.to_json(), after.to_json(), "an offset changes when it is stored and read back");
            }
        }
    }

    /// However many tasks share the work, each record comes once, and no source partition from two tasks.
    pub async fn tasks_share_the_work(&self) {
        let Some(tasks) = &self.tasks else { return };
        let output = self.whole_output().await;
        for tasks_max in 1..=4 {
            let made = tasks(tasks_max);
            assert!(
                !made.is_empty() && made.len() <= tasks_max,
                "asked for up to {tasks_max} tasks, got {}",
                made.len()
            );
            let mut harnesses = Vec::new();
            for task in made {
                harnesses.push((
                    ok("start", SourceHarness::start(task, &SourceOffsets::new()).await),
                    Vec::new(),
                    false,
                ));
            }
            let begun = tokio::time::Instant::now();
            while harnesses.iter().map(|(_, found, _)| found.len()).sum::<usize>() < self.records {
                assert!(begun.elapsed() < DEADLINE, "{tasks_max} tasks together don't yield {} records", self.records);
                for (harness, found, finished) in harnesses.iter_mut().filter(|(_, _, finished)| !finished) {
                    match harness.poll_for(IDLE).await {
                        None => {}
                        Some(Err(error)) if error.is_retriable() => {}
                        Some(poll) => *finished = !take(poll, found),
                    }
                }
            }
            let mut seen = BTreeSet::new();
            for (_, found, _) in &harnesses {
                for partition in by_partition(found).into_keys() {
                    assert!(
                        seen.insert(partition.clone()),
                        "two of {tasks_max} tasks read source partition {partition}"
                    );
                }
            }
            let found: Vec<SourceRecord> = harnesses.into_iter().flat_map(|(_, found, _)| found).collect();
            expect_same(&found, &output, &format!("{tasks_max} tasks yield other records than one"));
        }
    }

    /// The n-th call to the system fails, for every n: with a retriable error the task goes on, after a fatal one a new task
    /// takes over from the offsets of what was returned. Nothing is lost.
    pub async fn survives_faults(&self) {
        let Some(faulty) = &self.faulty else { return };
        let output = self.whole_output().await;
        for kind in [ErrorKind::Retriable, ErrorKind::Fatal] {
            for n in 1..=FAULTS_MAX {
                let fault = Fault::nth(n, kind);
                let mut found: Vec<SourceRecord> = Vec::new();
                // The runtime repeats after a retriable error, and makes a new task after another one; so does this loop.
                'tasks: while found.len() < self.records {
                    let offsets = newest(&found);
                    let Ok(mut harness) = SourceHarness::start(faulty(fault.clone()), &offsets).await else { continue };
                    while found.len() < self.records {
                        match harness.poll().await {
                            Ok(poll) => {
                                if !take(Ok(poll), &mut found) {
                                    break 'tasks;
                                }
                            }
                            Err(_) if !fault.struck().is_empty() => continue 'tasks,
                            Err(error) => panic!("poll failed without a fault of the test: {error}"),
                        }
                    }
                }
                let when = format!("after a fault ({kind:?}; {})", fault.struck().join("; "));
                if self.may_repeat {
                    self.expect_all_in_order(&found, &output, &when);
                } else {
                    expect_same(&found, &output, &format!("{when}, other records came"));
                }
                if fault.struck().is_empty() {
                    break;
                }
            }
        }
    }

    async fn start_in(&self, offsets: &SourceOffsets, state_dir: Option<&std::path::Path>) -> SourceHarness {
        let task = (self.task)();
        ok(
            "start",
            match state_dir {
                Some(state_dir) => SourceHarness::start_in(task, offsets, state_dir).await,
                None => SourceHarness::start(task, offsets).await,
            },
        )
    }

    async fn whole_output(&self) -> Vec<SourceRecord> {
        let mut harness = self.start_in(&SourceOffsets::new(), None).await;
        self.read_whole(&mut harness).await
    }

    async fn read_whole(&self, harness: &mut SourceHarness) -> Vec<SourceRecord> {
        let output = read_exactly(harness, self.records).await;
        assert_eq!(output.len(), self.records, "the source finished before its last record");
        output
    }

    /// Reads until every source partition has reached its last record.
    async fn read_until_caught_up(&self, harness: &mut SourceHarness, output: &[SourceRecord]) -> Vec<SourceRecord> {
        let mut found = Vec::new();
        let begun = tokio::time::Instant::now();
        // Nothing at all may come, where the start was at the end.
        while begun.elapsed() < DEADLINE {
            match harness.poll_for(IDLE * 4).await {
                None => break,
                Some(Err(error)) if error.is_retriable() => {}
                Some(Ok(SourcePoll::Records(records))) if records.is_empty() && !found.is_empty() => break,
                Some(Ok(SourcePoll::CaughtUp)) => break,
                Some(poll) => {
                    if !take(poll, &mut found) {
                        break;
                    }
                }
            }
            if by_partition(&found).len() == by_partition(output).len() && newest(&found) == newest(output) {
                break;
            }
        }
        found
    }

    /// A new task yields what is missing behind what a former one has returned.
    async fn expect_to_complete(
        &self,
        successor: &mut SourceHarness,
        mut found: Vec<SourceRecord>,
        output: &[SourceRecord],
        when: &str,
    ) {
        if self.may_repeat {
            let rest = self.read_until_caught_up(successor, output).await;
            self.expect_rest(&rest, output, found.len(), when);
        } else {
            let missing = self.records.saturating_sub(found.len());
            found.extend(read_exactly(successor, missing).await);
            expect_same(&found, output, &format!("{when}, records were lost, added or changed"));
        }
    }

    /// Per source partition: what came is what comes after the prefix (or begins earlier, where that was declared).
    fn expect_rest(&self, rest: &[SourceRecord], output: &[SourceRecord], prefix: usize, when: &str) {
        let (found, whole) = (by_partition(rest), by_partition(output));
        let due = by_partition(&output[prefix..]);
        for (partition, whole) in &whole {
            let due = due.get(partition).map_or(&[][..], Vec::as_slice);
            let found = found.get(partition).map_or(&[][..], Vec::as_slice);
            if self.may_repeat {
                let enough = found.len() >= due.len() && whole.ends_with(found);
                if !enough {
                    let difference =
                        difference(found, &whole[whole.len().saturating_sub(found.len().max(due.len()))..]);
                    let difference = difference.unwrap_or_default();
                    panic!("{when}, source partition {partition} skipped or changed records: {difference}");
                }
            } else {
                if let Some(difference) = difference(found, due) {
                    panic!("{when}, source partition {partition} did not go on with exactly the rest: {difference}");
                }
            }
        }
        for partition in found.keys() {
            assert!(whole.contains_key(partition), "{when}, an unknown source partition {partition} appeared");
        }
    }

    /// Repeats allowed: leaving out what came before, the whole output stands there in order.
    fn expect_all_in_order(&self, found: &[SourceRecord], output: &[SourceRecord], when: &str) {
        let found = by_partition(found);
        for (partition, due) in by_partition(output) {
            let mut left = due.as_slice();
            for record in found.get(&partition).into_iter().flatten() {
                if left.first() == Some(record) {
                    left = &left[1..];
                }
            }
            assert!(left.is_empty(), "{when}, source partition {partition} lost {} records", left.len());
        }
    }

    async fn expect_no_more_after_restart(&self, harness: &mut SourceHarness, output: &[SourceRecord], when: &str) {
        if self.may_repeat {
            let rest = self.read_until_caught_up(harness, output).await;
            self.expect_rest(&rest, output, output.len(), when);
        } else {
            self.expect_no_more(harness, when).await;
        }
    }

    async fn expect_no_more(&self, harness: &mut SourceHarness, when: &str) {
        if self.bounded {
            match ok("poll", harness.poll().await) {
                SourcePoll::Finished => {}
                // An empty batch may come before the end is known.
                SourcePoll::Records(records) if records.is_empty() => {
                    let last = ok("poll", harness.poll().await);
                    assert!(matches!(last, SourcePoll::Finished), "{when}, the source is not finished but {last:?}");
                }
                other => panic!("{when}, the source is not finished but yields {other:?}"),
            }
            return;
        }
        match harness.poll_for(IDLE).await {
            None | Some(Ok(SourcePoll::Offsets(_) | SourcePoll::CaughtUp)) => {}
            Some(Ok(SourcePoll::Records(records))) => {
                assert!(records.is_empty(), "{when}, more records came: {records:?}");
            }
            Some(Ok(SourcePoll::Finished)) => panic!("{when}, the source is finished; declare it as bounded"),
            Some(Err(error)) if error.is_retriable() => {}
            Some(Err(error)) => panic!("{when}, poll failed: {error}"),
        }
    }
}

impl fmt::Debug for SourceSuite<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceSuite({} records)", self.records)
    }
}

/// Reads until there are `n` records, with their payloads decoded; more than `n` is what the caller's comparison shows.
async fn read_exactly(harness: &mut SourceHarness, n: usize) -> Vec<SourceRecord> {
    let records = ok("poll", harness.read(n).await);
    records.into_iter().map(comparable).collect()
}

/// Adds what a poll found; false where the source has finished.
fn take(poll: Result<SourcePoll>, found: &mut Vec<SourceRecord>) -> bool {
    match poll {
        Ok(SourcePoll::Records(records)) => found.extend(records.into_iter().map(comparable)),
        Ok(SourcePoll::Offsets(_) | SourcePoll::CaughtUp) => {}
        Ok(SourcePoll::Finished) => return false,
        // A call that fails so is made again; the callers do.
        Err(error) if error.is_retriable() => {}
        Err(error) => panic!("poll failed: {error}"),
    }
    true
}

fn comparable(record: SourceRecord) -> SourceRecord {
    SourceRecord { record: decoded(record.record).expect("a source yields valid JSON"), ..record }
}

/// Both are the same, source partition by source partition.
fn expect_same(found: &[SourceRecord], due: &[SourceRecord], what: &str) {
    let (found, due) = (by_partition(found), by_partition(due));
    let partitions: BTreeSet<&SourcePartition> = found.keys().chain(due.keys()).collect();
    for partition in partitions {
        let of = |records: &BTreeMap<SourcePartition, Vec<SourceRecord>>| {
            records.get(partition).cloned().unwrap_or_default()
        };
        if let Some(difference) = difference(&of(&found), &of(&due)) {
            panic!("{what}: source partition {partition}: {difference}");
        }
    }
}

/// The first difference between the records of a source partition and those that are due, in words.
fn difference(found: &[SourceRecord], due: &[SourceRecord]) -> Option<String> {
    let at = found.iter().zip(due).position(|(found, due)| found != due).unwrap_or(found.len().min(due.len()));
    match (found.get(at), due.get(at)) {
        (None, None) => None,
        (None, Some(first)) => Some(format!("{} records are missing, the first is {}", due.len() - at, shown(first))),
        (Some(first), None) => Some(format!("{} records too many, the first is {}", found.len() - at, shown(first))),
        (Some(found), Some(due)) => Some(format!("record {at} is {}\nwhere due is {}", shown(found), shown(due))),
    }
}

/// A record in a line of some length.
fn shown(record: &SourceRecord) -> String {
    const LENGTH: usize = 400;
    let text = format!("{:?} with offset {}", record.record, record.source_offset.to_json());
    match text.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text,
    }
}

fn by_partition(records: &[SourceRecord]) -> BTreeMap<SourcePartition, Vec<SourceRecord>> {
    let mut partitions: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for record in records {
        partitions.entry(record.source_partition.clone()).or_default().push(record.clone());
    }
    partitions
}

/// The newest offset of each source partition: what would be stored after these records.
fn newest(records: &[SourceRecord]) -> SourceOffsets {
    records.iter().map(|record| (record.source_partition.clone(), record.source_offset.clone())).collect()
}

/// Compares the integers of two offsets field by field; nothing where they hold anything else or other fields.
fn compare(a: &SourceOffset, b: &SourceOffset) -> Option<Ordering> {
    let fields = |offset: &SourceOffset| {
        let value = ottla_api::data::json::parse(offset.to_json().as_bytes()).ok()?;
        let fields = value.as_map()?.iter().map(|(name, value)| Some((name.to_owned(), value.as_i64()?)));
        fields.collect::<Option<Vec<_>>>()
    };
    let (a, b) = (fields(a)?, fields(b)?);
    if !a.iter().map(|(name, _)| name).eq(b.iter().map(|(name, _)| name)) {
        return None;
    }
    Some(a.iter().map(|(_, n)| n).cmp(b.iter().map(|(_, n)| n)))
}

/// Up to `max` of the numbers `0..=n`, with both ends, spread evenly.
fn spread(n: usize, max: usize) -> Vec<usize> {
    let steps = n.min(max - 1).max(1);
    let mut picked: Vec<usize> = (0..=steps).map(|step| step * n / steps).collect();
    picked.dedup();
    picked
}

fn ok<T>(what: &str, outcome: Result<T>) -> T {
    outcome.unwrap_or_else(|error| panic!("{what} failed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_spread_with_both_ends() {
        assert_eq!(spread(3, 40), [0, 1, 2, 3]);
        assert_eq!(spread(0, 40), [0]);
        assert_eq!(spread(100, 5), [0, 25, 50, 75, 100]);
    }

    #[test]
    fn offsets_of_integers_compare_field_by_field() {
        let offset = |a: i64, b: i64| SourceOffset::new([("a", a), ("b", b)]);
        assert_eq!(compare(&offset(1, 9), &offset(2, 0)), Some(Ordering::Less));
        assert_eq!(compare(&offset(2, 1), &offset(2, 0)), Some(Ordering::Greater));
        assert_eq!(compare(&offset(2, 1), &SourceOffset::new([("a", "x")])), None);
    }
}
