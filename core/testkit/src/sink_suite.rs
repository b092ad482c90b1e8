//! Conformance of a sink task: what the runtime relies on, and what the sink promises about its destination.
//!
//! | Check | Promise |
//! |---|---|
//! | [`flush_means_durable`](SinkSuite::flush_means_durable) | what a flush reports is in the destination, also if the task dies right then (G2) |
//! | [`a_crash_loses_nothing`](SinkSuite::a_crash_loses_nothing) | a task that dies after any batch is followed by one that completes the work (G3) |
//! | [`a_kill_loses_nothing`](SinkSuite::a_kill_loses_nothing) | a task that dies with its thread, also in the middle of a put or a flush, is followed by one that completes the work |
//! | [`a_batch_that_comes_again_is_safe`](SinkSuite::a_batch_that_comes_again_is_safe) | the answer to `put` was lost, so the same batch comes again |
//! | [`stops_while_idle_and_while_busy`](SinkSuite::stops_while_idle_and_while_busy) | a stop returns whatever came before it, and what the last flush said still holds |
//! | [`partitions_close_and_reopen`](SinkSuite::partitions_close_and_reopen) | one partition goes and comes back while the others go on |
//! | [`partitions_move_to_another_task`](SinkSuite::partitions_move_to_another_task) | revoked here, opened by a new task from the committed offsets |
//! | [`lost_partitions_write_nothing`](SinkSuite::lost_partitions_write_nothing) | after `Lost` nothing more appears |
//! | [`empty_batches_move_positions`](SinkSuite::empty_batches_move_positions) | a batch without records moves the position on |
//! | [`gaps_in_offsets_are_ordinary`](SinkSuite::gaps_in_offsets_are_ordinary) | offsets that don't exist are waited for by nobody |
//! | [`nulls_and_tombstones_are_not_lost_silently`](SinkSuite::nulls_and_tombstones_are_not_lost_silently) | a record without a key, a value or both is written, reported, counted or refused by name |
//! | [`what_it_holds_is_told_and_let_go`](SinkSuite::what_it_holds_is_told_and_let_go) | a task that holds records says how many bytes (G7), and `Pressure` and `CaughtUp` make it let go of them |
//! | [`survives_faults`](SinkSuite::survives_faults) | whatever call to the system fails, nothing is lost or written twice |
//!
//! In every check several partitions are interleaved, the destination is read back, and whole records are compared, in their
//! order. The harness checks every answer of a flush: contiguous, never back, never beyond what was put.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use ottla_api::prelude::*;

use crate::fault::{Fault, Random};
use crate::harness::{DEADLINE, SinkHarness, sink_batch, sink_value};
use crate::rule::{on_a_thread_that_ends, rules};

/// The topic that the suite's records come from.
pub const TOPIC: &str = "conformance";

/// How many partitions are interleaved.
const PARTITIONS: i32 = 3;

/// A fault run ends at this many places; a sink that makes more calls than that for a few records has gone astray.
const FAULTS_MAX: u64 = 500;

/// A task is killed after so many batches at most.
const KILLED_AFTER_MAX: usize = 6;

/// `flush(Pressure)` makes the largest buffers durable, half of what is held or so; so often is enough for all of it.
const PRESSURE_MAX: usize = 40;

/// Writes in progress that show nothing for so long are over.
const SETTLE: Duration = Duration::from_millis(50);

type Read<'a> = Box<dyn Fn(String) -> Pin<Box<dyn Future<Output = Vec<String>> + 'a>> + 'a>;

rules! {
    SinkSuite<'_>,
    flush_means_durable: "what a flush reports is in the destination, also if the task dies right then (G2)",
    a_crash_loses_nothing: "a task that dies after any batch is followed by one that completes the work (G3)",
    a_kill_loses_nothing: "a task that dies with its thread, also in the middle of a put or a flush, is followed by one that completes the work",
    a_batch_that_comes_again_is_safe: "the answer to `put` was lost, so the same batch comes again",
    stops_while_idle_and_while_busy: "a stop returns whatever came before it, and what the last flush said still holds",
    partitions_close_and_reopen: "one partition goes and comes back while the others go on",
    partitions_move_to_another_task: "revoked here, opened by a new task from the committed offsets",
    lost_partitions_write_nothing: "after `Lost` nothing more appears",
    empty_batches_move_positions: "a batch without records moves the position on",
    gaps_in_offsets_are_ordinary: "offsets that don't exist are waited for by nobody",
    nulls_and_tombstones_are_not_lost_silently: "a record without a key, a value or both is written, reported, counted or refused by name",
    what_it_holds_is_told_and_let_go: "a task that holds records says how many bytes (G7), and `Pressure` and `CaughtUp` make it let go of them",
    survives_faults: "whatever call to the system fails, nothing is lost or written twice",
}

/// The suite for one sink.
///
/// A destination has a name: a folder, a prefix, a table that the test makes of it. The same name is the same destination,
/// another name an empty one. Records have JSON values as [`sink_value`] makes them.
pub struct SinkSuite<'a> {
    task: Box<dyn Fn(&str) -> Box<dyn SinkTask> + 'a>,
    read: Read<'a>,
    at_least_once: bool,
    records: i64,
    patience: Duration,
    faulty: Option<Box<dyn Fn(&str, Fault) -> Box<dyn SinkTask> + 'a>>,
}

impl<'a> SinkSuite<'a> {
    /// A suite over tasks that the first closure makes for a destination. The second reads back what a user of the
    /// destination sees: the value of every record as JSON text, those of one topic partition in their order.
    pub fn new<F>(task: impl Fn(&str) -> Box<dyn SinkTask> + 'a, read: impl Fn(String) -> F + 'a) -> Self
    where
        F: Future<Output = Vec<String>> + 'a,
    {
        let read: Read<'a> = Box::new(move |destination| Box::pin(read(destination)));
        Self { task: Box::new(task), read, at_least_once: false, records: 23, patience: DEADLINE, faulty: None }
    }

    /// Declares that a record may be in the destination more than once after a crash or a retry. It is still never missing.
    #[must_use]
    pub fn at_least_once(mut self) -> Self {
        self.at_least_once = true;
        self
    }

    /// How many records each partition holds.
    #[must_use]
    pub fn records(mut self, per_partition: usize) -> Self {
        self.records = i64::try_from(per_partition).expect("a test holds few records").max(4);
        self
    }

    /// How long a task may keep its thread before the suite says that it blocks it.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How a task is made whose calls to the system fail where the fault says so.
    #[must_use]
    pub fn faulty(mut self, task: impl Fn(&str, Fault) -> Box<dyn SinkTask> + 'a) -> Self {
        self.faulty = Some(Box::new(task));
        self
    }

    /// After every flush, for every reason: what it reported can be read back, and is still there when the task has died.
    pub async fn flush_means_durable(&self) {
        for reason in [FlushReason::Interval, FlushReason::Pressure, FlushReason::Closing, FlushReason::CaughtUp] {
            let mut run = Run::begin(self, &format!("flush-means-durable-{reason:?}").to_lowercase()).await;
            while run.deliver_one().await {
                let reported = run.flush(reason).await;
                run.expect_at_least(&reported, &format!("what flush({reason:?}) reported")).await;
                if reason == FlushReason::CaughtUp {
                    run.expect_all_reported();
                }
            }
            let reported = run.flush(reason).await;
            run.crash().await;
            run.expect_at_least(&reported, &format!("after a crash, what flush({reason:?}) had reported")).await;
            run.finish().await;
        }
    }

    /// A task dies after the k-th batch, for every k, with a flush before that or without.
    pub async fn a_crash_loses_nothing(&self) {
        for flush in [None, Some(FlushReason::Interval), Some(FlushReason::CaughtUp)] {
            for k in 1.. {
                let kind = flush.map_or("none".to_owned(), |reason| format!("{reason:?}").to_lowercase());
                let mut run = Run::begin(self, &format!("crash-{kind}-{k}")).await;
                let mut more = true;
                for batch in 0..k {
                    more = run.deliver_one().await;
                    if let Some(reason) = flush
                        && batch % 2 == 0
                    {
                        run.flush(reason).await;
                    }
                }
                run.crash().await;
                run.finish().await;
                if !more {
                    break;
                }
            }
        }
    }

    /// A task dies without a stop, together with the thread and the runtime that it ran on: after a few batches, and in the
    /// middle of a put or a flush. The next one completes the work from the committed offsets.
    pub async fn a_kill_loses_nothing(&self) {
        for killed_in in [KilledIn::Nothing, KilledIn::Put, KilledIn::Flush] {
            for batches in 1..=KILLED_AFTER_MAX {
                let name = format!("kill-{killed_in:?}-{batches}").to_lowercase();
                let mut run = Run::begin(self, &name).await;
                let mut due = Vec::new();
                while due.len() < batches
                    && let Some(batch) = run.next_batch()
                {
                    run.next.insert(batch.partition.clone(), batch.next_offset);
                    due.push(batch);
                }
                let committed = run.committed.clone();
                run.leave().await;
                let task = (run.make)(&run.name);
                let what = format!("{name}: a task that is killed");
                let reported = on_a_thread_that_ends(&what, self.patience, move || async move {
                    let mut harness = ok("start", SinkHarness::start(task).await);
                    ok("open", harness.open(&committed).await);
                    let last = due.pop();
                    let mut reported = Positions::new();
                    for (turn, batch) in due.into_iter().enumerate() {
                        ok("put", harness.put(batch).await);
                        if turn % 2 == 1 {
                            reported.extend(ok("flush", harness.flush(FlushReason::Interval).await));
                        }
                    }
                    let pending_max = 1 + batches % 3;
                    match (killed_in, last) {
                        (KilledIn::Put, Some(last)) => {
                            let _ = harness.put_dropped_after(last, pending_max).await;
                        }
                        (killed_in, last) => {
                            if let Some(last) = last {
                                ok("put", harness.put(last).await);
                            }
                            if killed_in == KilledIn::Flush {
                                let _ = harness.flush_dropped_after(FlushReason::CaughtUp, pending_max).await;
                            }
                        }
                    }
                    reported
                })
                .await;
                run.committed.extend(reported.clone());
                run.expect_at_least(&reported, "what a flush had reported before the kill").await;
                run.restart().await;
                run.finish().await;
            }
        }
    }

    /// Every batch comes twice, as after an answer that was lost on its way.
    pub async fn a_batch_that_comes_again_is_safe(&self) {
        let mut run = Run::begin(self, "batch-again").await;
        while let Some(batch) = run.next_batch() {
            run.put(batch.clone()).await;
            run.put(batch).await;
        }
        run.finish().await;
    }

    /// A stop returns, with nothing open, with nothing put, and with records on their way; what the flush before it has
    /// reported is in the destination, and a new task completes the rest.
    pub async fn stops_while_idle_and_while_busy(&self) {
        let mut harness = start(&*self.task, "stop-unopened").await;
        ok("stop", harness.stop().await);
        for batches in [0, 1, 5] {
            let mut run = Run::begin(self, &format!("stop-after-{batches}")).await;
            for _ in 0..batches {
                run.deliver_one().await;
            }
            let open: Vec<TopicPartition> = run.next.keys().cloned().collect();
            let reported = run.flush(FlushReason::Closing).await;
            ok("close", run.harness.close(&open, CloseReason::Stopped).await);
            ok("stop", run.harness.stop().await);
            run.expect_at_least(&reported, "after a stop, what flush(Closing) had reported").await;
            run.restart().await;
            run.finish().await;
        }
    }

    /// One partition closes (revoked, stopped) and opens again on the same task while the others go on.
    pub async fn partitions_close_and_reopen(&self) {
        for reason in [CloseReason::Revoked, CloseReason::Stopped] {
            let mut run = Run::begin(self, &format!("reopen-{reason:?}").to_lowercase()).await;
            let moving = [partition(1)];
            for turn in 0..6 {
                for _ in 0..2 {
                    run.deliver_one().await;
                }
                if turn % 2 == 0 {
                    // Whatever the dice say: it goes with records of its own.
                    if let Some(batch) = run.next_batch_of(&moving) {
                        run.put(batch).await;
                    }
                    run.close(&moving, reason).await;
                } else {
                    run.open(&moving).await;
                }
            }
            run.finish().await;
        }
    }

    /// All partitions are revoked and go to a new task, again and again.
    pub async fn partitions_move_to_another_task(&self) {
        let mut run = Run::begin(self, "move").await;
        for _ in 0..4 {
            for _ in 0..3 {
                run.deliver_one().await;
            }
            run.hand_over().await;
        }
        run.finish().await;
    }

    /// Partitions are lost with records that no flush has reported: nothing more is written; the next owner gets them again.
    pub async fn lost_partitions_write_nothing(&self) {
        let mut run = Run::begin(self, "lost").await;
        for _ in 0..4 {
            run.deliver_one().await;
        }
        run.flush(FlushReason::Interval).await;
        run.deliver_one().await;
        let partitions: Vec<TopicPartition> = run.harness.accepted().keys().cloned().collect();
        // What was begun before the loss may end; whatever appears after that was begun too late.
        let before = run.read_settled().await;
        ok("close", run.harness.close(&partitions, CloseReason::Lost).await);
        assert_eq!(run.read().await, before, "closing lost partitions wrote to the destination");
        ok("flush", run.harness.flush(FlushReason::CaughtUp).await);
        ok("tick", run.harness.tick().await);
        ok("stop", run.harness.stop().await);
        assert_eq!(run.read().await, before, "records of lost partitions were written later");
        run.restart().await;
        run.finish().await;

        // And the same task gets them back.
        let mut run = Run::begin(self, "lost-and-found").await;
        for _ in 0..4 {
            run.deliver_one().await;
        }
        let partitions: Vec<TopicPartition> = run.harness.accepted().keys().cloned().collect();
        ok("close", run.harness.close(&partitions, CloseReason::Lost).await);
        run.open(&partitions).await;
        run.finish().await;
    }

    /// A batch without records moves a position on, at the beginning, between records and at the end.
    pub async fn empty_batches_move_positions(&self) {
        let mut run = Run::begin(self, "empty-batches").await;
        let partition = partition(0);
        run.log = BTreeMap::from([(partition.clone(), Log { offsets: vec![3, 4, 8], end: 20 })]);
        run.next.retain(|open, _| *open == partition);
        for (offsets, next_offset) in
            [(vec![], 3), (vec![3, 4], 5), (vec![], 8), (vec![8], 9), (vec![], 15), (vec![], 20)]
        {
            run.put(sink_batch(&partition, offsets, next_offset)).await;
            let reported = run.flush(FlushReason::CaughtUp).await;
            assert_eq!(
                reported.get(&partition),
                Some(&next_offset),
                "after a batch up to {next_offset}, flush(CaughtUp) must report that position"
            );
        }
        run.finish().await;
    }

    /// Offsets with gaps, inside batches and between them: whole runs of offsets don't exist.
    pub async fn gaps_in_offsets_are_ordinary(&self) {
        let mut run = Run::begin(self, "gaps").await;
        for (index, log) in run.log.values_mut().enumerate() {
            let mut random = Random::new(index as u64);
            let mut offset = 0;
            for place in &mut log.offsets {
                offset += 1 + random.below(4) as i64;
                *place = offset;
            }
            log.end = offset + 1 + random.below(9) as i64;
        }
        for _ in 0..4 {
            run.deliver_one().await;
            run.flush(FlushReason::Interval).await;
        }
        run.crash().await;
        run.finish().await;
    }

    /// A record without a key, without a value, without both: its neighbours are written, and it is written too, or reported,
    /// or counted, or the call that refused it says so. The same where nothing is tolerated.
    pub async fn nulls_and_tombstones_are_not_lost_silently(&self) {
        for (what, key, value) in
            [("no key", false, true), ("no value", true, false), ("neither key nor value", false, false)]
        {
            for tolerant in [true, false] {
                let name = format!("null-{}-{tolerant}", what.replace(' ', "-"));
                let mut harness = start(&*self.task, &name).await;
                if !tolerant {
                    harness.tolerate_nothing();
                }
                let partition = partition(0);
                ok("open", harness.open(&Positions::from([(partition.clone(), -1)])).await);
                let mut batch = sink_batch(&partition, 0..3, 3);
                let special = &mut batch.records[1];
                if !key {
                    (special.record.key, special.raw.key) = (Payload::null(), None);
                }
                if !value {
                    (special.record.value, special.raw.value) = (Payload::null(), None);
                }
                let outcome = match harness.put(batch).await {
                    Ok(()) => harness.flush(FlushReason::CaughtUp).await,
                    Err(error) => Err(error),
                };
                let reported = match outcome {
                    Ok(reported) => reported,
                    // Not silent: the task stops there, and the record comes again.
                    Err(error) => {
                        assert!(
                            !error.is_retriable(),
                            "{name}: a record with {what} is refused with an error that is tried again for ever: {error}"
                        );
                        continue;
                    }
                };
                assert_eq!(
                    reported.get(&partition),
                    Some(&3),
                    "{name}: a record with {what} keeps flush(CaughtUp) from reporting what came with it"
                );
                let stored = (self.read)(name.clone()).await;
                let known = [0, 1, 2].map(|offset| sink_value(&partition, offset));
                let times = |offset: usize| stored.iter().filter(|text| **text == known[offset]).count();
                assert!(
                    times(0) == 1 && times(2) == 1,
                    "{name}: the neighbours of a record with {what} are not in the destination once: {stored:?}"
                );
                let written = if value { times(1) == 1 } else { stored.iter().any(|text| !known.contains(text)) };
                let spoken_of =
                    harness.reported().iter().any(|(_, offset, _)| *offset == 1) || !harness.counts().is_empty();
                assert!(
                    written || spoken_of,
                    "{name}: a record with {what} was lost silently: write it, report it (SinkTaskContext::report) or count it"
                );
                assert!(
                    tolerant || harness.reported().is_empty(),
                    "{name}: the report of a record with {what} was refused, but put went on: return the error of report"
                );
            }
        }
    }

    /// What was put and is neither in the destination nor reported is held somewhere: how many bytes of memory that takes is
    /// told through [`SinkTaskContext::buffered`] (none, where it lies on disk). Under `Pressure` the task lets go of it, and
    /// when it has caught up it holds nothing.
    pub async fn what_it_holds_is_told_and_let_go(&self) {
        for reason in [FlushReason::Pressure, FlushReason::CaughtUp] {
            let mut run = Run::begin(self, &format!("held-{reason:?}").to_lowercase()).await;
            // With a flush after each batch, for what a task keeps back; and without any, so that it holds as much as it may.
            while run.deliver_one().await {
                if reason == FlushReason::CaughtUp {
                    run.expect_told().await;
                }
            }
            // A few bytes of bookkeeping are not what a budget is about.
            let (held, enough) = (run.harness.buffered(), run.harness.buffered() / 10);
            let times = if reason == FlushReason::Pressure { PRESSURE_MAX } else { 1 };
            for _ in 0..times {
                if run.harness.buffered() > enough {
                    run.flush(reason).await;
                }
            }
            let left = run.harness.buffered();
            assert!(
                left <= enough,
                "{}: after flush({reason:?}), {times} times, the task still says that it holds {left} of {held} bytes",
                run.name
            );
            run.finish().await;
        }
    }

    /// The n-th call to the system fails, for every n: with a retriable error the same call comes again, after a fatal one a
    /// new task takes over from the committed offsets.
    pub async fn survives_faults(&self) {
        let Some(faulty) = &self.faulty else { return };
        for kind in [ErrorKind::Retriable, ErrorKind::Fatal] {
            for n in 1..=FAULTS_MAX {
                let fault = Fault::nth(n, kind);
                let name = format!("fault-{kind:?}-{n}").to_lowercase();
                let mut run = Run::begin_with(self, &name, Box::new(|name| faulty(name, fault.clone()))).await;
                let mut turn = 0;
                while run.deliver_one().await {
                    turn += 1;
                    if turn % 3 == 0 {
                        run.flush(FlushReason::Interval).await;
                    }
                }
                run.finish().await;
                if fault.struck().is_empty() {
                    break;
                }
            }
        }
    }
}

impl fmt::Debug for SinkSuite<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SinkSuite({} records a partition, at least once: {})", self.records, self.at_least_once)
    }
}

/// What a task was doing when it was killed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum KilledIn {
    /// It had just accepted a batch.
    Nothing,
    Put,
    Flush,
}

/// What a topic partition holds.
struct Log {
    offsets: Vec<i64>,
    end: i64,
}

/// One destination being filled: the broker's and the runtime's part of the work.
struct Run<'s, 'a> {
    suite: &'s SinkSuite<'a>,
    name: String,
    make: Box<dyn Fn(&str) -> Box<dyn SinkTask> + 's>,
    log: BTreeMap<TopicPartition, Log>,
    harness: SinkHarness,
    /// Per open partition: the next batch begins here.
    next: Positions,
    /// What the group has committed; it outlives tasks.
    committed: Positions,
    random: Random,
}

impl<'s, 'a> Run<'s, 'a> {
    async fn begin(suite: &'s SinkSuite<'a>, name: &str) -> Self {
        Self::begin_with(suite, name, Box::new(|name| (suite.task)(name))).await
    }

    async fn begin_with(
        suite: &'s SinkSuite<'a>,
        name: &str,
        make: Box<dyn Fn(&str) -> Box<dyn SinkTask> + 's>,
    ) -> Self {
        let log = |_| Log { offsets: (0..suite.records).collect(), end: suite.records };
        let log = (0..PARTITIONS).map(|number| (partition(number), log(number))).collect();
        let harness = start(&make, name).await;
        let (next, committed) = (Positions::new(), (0..PARTITIONS).map(|number| (partition(number), -1)).collect());
        let mut run =
            Self { suite, name: name.to_owned(), make, log, harness, next, committed, random: Random::new(1) };
        assert_eq!(run.read().await, Vec::<String>::new(), "destination '{name}' is not empty at the beginning");
        run.open_all().await;
        run
    }

    async fn open_all(&mut self) {
        let partitions: Vec<TopicPartition> = self.log.keys().cloned().collect();
        self.open(&partitions).await;
    }

    async fn open(&mut self, partitions: &[TopicPartition]) {
        loop {
            let committed = partitions.iter().map(|partition| (partition.clone(), self.committed[partition])).collect();
            match self.harness.open(&committed).await {
                Ok(positions) => {
                    for (partition, position) in &positions {
                        let end = self.log[partition].end;
                        assert!(*position <= end, "open answered {position} for {partition}, which ends at {end}");
                    }
                    self.next.extend(positions);
                    return self.follow_rewinds();
                }
                Err(error) => self.replace_task("open", &error).await,
            }
        }
    }

    /// A few records of one open partition that has some left.
    fn next_batch(&mut self) -> Option<SinkBatch> {
        let open: Vec<TopicPartition> = self.next.keys().cloned().collect();
        self.next_batch_of(&open)
    }

    /// A few records of one of these partitions, which are open, that has some left.
    fn next_batch_of(&mut self, among: &[TopicPartition]) -> Option<SinkBatch> {
        let open: Vec<&TopicPartition> =
            among.iter().filter(|partition| self.next[*partition] < self.log[*partition].end).collect();
        if open.is_empty() {
            return None;
        }
        let partition = open[self.random.below(open.len() as u64) as usize].clone();
        let size = 1 + self.random.below(5) as usize;
        let log = &self.log[&partition];
        let left = &log.offsets[log.offsets.partition_point(|offset| *offset < self.next[&partition])..];
        let offsets = &left[..size.min(left.len())];
        let next_offset = match offsets.last() {
            Some(last) if offsets.len() < left.len() => last + 1,
            _ => log.end,
        };
        Some(sink_batch(&partition, offsets.iter().copied(), next_offset))
    }

    /// Puts one batch; false where nothing is left.
    async fn deliver_one(&mut self) -> bool {
        let Some(batch) = self.next_batch() else { return false };
        self.put(batch).await;
        true
    }

    async fn put(&mut self, batch: SinkBatch) {
        let (partition, next_offset) = (batch.partition.clone(), batch.next_offset);
        match self.harness.put(batch).await {
            Ok(()) => {
                self.next.insert(partition, next_offset);
            }
            Err(error) => return self.take_over("put", &error).await,
        }
        self.follow_rewinds();
        match self.harness.tick().await {
            Ok(()) => self.follow_rewinds(),
            Err(error) => self.take_over("tick", &error).await,
        }
    }

    /// After every call, as the runtime does: what the task asks for again comes next.
    fn follow_rewinds(&mut self) {
        for (partition, offset) in self.harness.take_rewinds() {
            if let Some(next) = self.next.get_mut(&partition) {
                *next = offset;
            }
        }
    }

    /// Flushes and commits. Nothing where the task failed and a new one took over.
    async fn flush(&mut self, reason: FlushReason) -> Positions {
        match self.harness.flush(reason).await {
            Ok(positions) => {
                self.committed.extend(positions.clone());
                self.follow_rewinds();
                positions
            }
            Err(error) => {
                self.take_over("flush", &error).await;
                Positions::new()
            }
        }
    }

    async fn close(&mut self, partitions: &[TopicPartition], reason: CloseReason) {
        self.flush(FlushReason::Closing).await;
        if let Err(error) = self.harness.close(partitions, reason).await {
            // The new task has them open.
            return self.take_over("close", &error).await;
        }
        for partition in partitions {
            self.next.remove(partition);
        }
        self.follow_rewinds();
    }

    /// All partitions go from this task to a new one, in good order.
    async fn hand_over(&mut self) {
        let open: Vec<TopicPartition> = self.next.keys().cloned().collect();
        self.close(&open, CloseReason::Revoked).await;
        let _ = self.harness.stop().await;
        self.restart().await;
    }

    /// The task dies: nothing of it is called any more.
    async fn crash(&mut self) {
        self.restart().await;
    }

    /// A new task takes over all partitions from the committed offsets.
    async fn restart(&mut self) {
        self.leave().await;
        self.harness = start(&self.make, &self.name).await;
        self.open_all().await;
    }

    /// The task goes, and lets go (of locks, of files) before another one starts, as when its process has ended.
    async fn leave(&mut self) {
        self.next.clear();
        self.harness = ok("start", SinkHarness::start(Box::new(Gone)).await);
    }

    /// After an error that is not retriable the runtime makes a new task, if that was the test's fault.
    async fn take_over(&mut self, what: &str, error: &Error) {
        self.replace_task(what, error).await;
        self.open_all().await;
    }

    async fn replace_task(&mut self, what: &str, error: &Error) {
        assert!(error.to_string().contains("a fault of the test"), "{}: {what} failed: {error}", self.name);
        let _ = self.harness.stop().await;
        self.leave().await;
        self.harness = start(&self.make, &self.name).await;
    }

    async fn read(&self) -> Vec<String> {
        (self.suite.read)(self.name.clone()).await
    }

    /// Reads until nothing more appears by itself.
    async fn read_settled(&self) -> Vec<String> {
        let mut before = self.read().await;
        loop {
            tokio::time::sleep(SETTLE).await;
            let now = self.read().await;
            if now == before {
                break now;
            }
            before = now;
        }
    }

    /// What the destination holds, per partition, in its order.
    async fn stored(&self) -> BTreeMap<TopicPartition, Vec<(i64, String)>> {
        let mut stored: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for text in self.read().await {
            let value = ottla_api::data::json::parse(text.as_bytes())
                .unwrap_or_else(|error| panic!("{}: the destination holds {text:?}: {error}", self.name));
            let field = |name: &str| value.field(name).and_then(Value::as_i64);
            let (Some(number), Some(offset)) = (field("partition"), field("offset")) else {
                panic!("{}: the destination holds a value that nobody put: {text}", self.name);
            };
            let partition = partition(i32::try_from(number).unwrap_or(-1));
            stored.entry(partition).or_default().push((offset, text));
        }
        stored
    }

    /// Everything before these positions is in the destination, whole.
    async fn expect_at_least(&self, positions: &Positions, what: &str) {
        let stored = self.stored().await;
        for (partition, position) in positions {
            let stored: BTreeSet<&str> =
                stored.get(partition).into_iter().flatten().map(|(_, text)| text.as_str()).collect();
            for offset in self.log[partition].offsets.iter().filter(|offset| *offset < position) {
                let due = sink_value(partition, *offset);
                assert!(
                    stored.contains(due.as_str()),
                    "{}: {what} is position {position} of {partition}, but offset {offset} is not in the destination",
                    self.name
                );
            }
        }
    }

    /// What was put is in the destination, or reported, or the task has said how much it holds.
    async fn expect_told(&mut self) {
        let reported = self.flush(FlushReason::Interval).await;
        let stored = self.stored().await;
        let held = self.next.iter().any(|(partition, next)| {
            let put = self.log[partition].offsets.iter().filter(|offset| *offset < next).count();
            let written = stored.get(partition).map_or(0, Vec::len);
            reported.get(partition).is_none_or(|position| position < next) && written < put
        });
        assert!(
            !held || self.harness.has_told_buffered(),
            "{}: records are held that no flush has reported, but how many bytes was never told \
             (SinkTaskContext::buffered)",
            self.name
        );
    }

    fn expect_all_reported(&self) {
        for (partition, next) in &self.next {
            assert_eq!(
                self.harness.flushed().get(partition),
                Some(next),
                "{}: flush(CaughtUp) makes everything durable that was put into {partition}, and says so",
                self.name
            );
        }
    }

    /// Delivers what is left, closes, and compares the whole destination.
    async fn finish(mut self) {
        // A partition that is closed at this point opens again, so that all of them are complete in the end.
        let closed: Vec<TopicPartition> =
            self.log.keys().filter(|partition| !self.next.contains_key(*partition)).cloned().collect();
        if !closed.is_empty() {
            self.open(&closed).await;
        }
        // A fault or a rewind in the flush puts the work back, which happens a few times at most.
        for _ in 0..5 {
            while self.deliver_one().await {}
            self.flush(FlushReason::CaughtUp).await;
            let complete = self.next.iter().all(|(partition, next)| *next == self.log[partition].end);
            if complete && self.next == *self.harness.flushed() {
                break;
            }
        }
        self.expect_all_reported();
        for (partition, next) in &self.next {
            assert_eq!(*next, self.log[partition].end, "{}: {partition} was not delivered to its end", self.name);
        }
        let open: Vec<TopicPartition> = self.next.keys().cloned().collect();
        self.close(&open, CloseReason::Stopped).await;
        let _ = self.harness.stop().await;
        let stored = self.stored().await;
        for (partition, log) in &self.log {
            let due: Vec<(i64, String)> =
                log.offsets.iter().map(|offset| (*offset, sink_value(partition, *offset))).collect();
            let mut found = stored.get(partition).cloned().unwrap_or_default();
            if self.suite.at_least_once {
                let mut seen = BTreeSet::new();
                found.retain(|record| seen.insert(record.clone()));
            }
            if let Some(difference) = difference(&found, &due) {
                panic!("{}: the destination does not hold exactly the records of {partition}: {difference}", self.name);
            }
        }
        for partition in stored.keys() {
            assert!(self.log.contains_key(partition), "{}: records of {partition} came from nowhere", self.name);
        }
    }
}

/// Starts a task over the destination `name`.
async fn start(make: &dyn Fn(&str) -> Box<dyn SinkTask>, name: &str) -> SinkHarness {
    // A fault may strike in start; the runtime makes another task then.
    let mut tries = 0;
    loop {
        match SinkHarness::start(make(name)).await {
            Ok(harness) => break harness,
            Err(error) if tries < 3 && error.to_string().contains("a fault of the test") => tries += 1,
            Err(error) => panic!("{name}: start failed: {error}"),
        }
    }
}

/// Stands where a task was, between its end and its successor's start.
struct Gone;

#[async_trait::async_trait]
impl SinkTask for Gone {
    async fn start(&mut self, _context: &SinkTaskContext) -> Result<()> {
        Ok(())
    }

    async fn open(&mut self, _committed: &Positions) -> Result<Positions> {
        Ok(Positions::new())
    }

    async fn put(&mut self, _batch: &SinkBatch) -> Result<()> {
        Ok(())
    }

    async fn flush(&mut self, _reason: FlushReason) -> Result<Positions> {
        Ok(Positions::new())
    }

    async fn close(&mut self, _partitions: &[TopicPartition], _reason: CloseReason) -> Result<()> {
        Ok(())
    }
}

fn partition(number: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, number)
}

/// The first difference between what a destination holds of a partition and what it should, in words.
fn difference(found: &[(i64, String)], due: &[(i64, String)]) -> Option<String> {
    for (n, (offset, text)) in due.iter().enumerate() {
        match found.get(n) {
            None => return Some(format!("offset {offset} is missing, and {} behind it", due.len() - n - 1)),
            Some((other, other_text)) if other == offset && other_text != text => {
                return Some(format!("offset {offset} was changed into {other_text}; it was {text}"));
            }
            Some((other, _)) if other != offset && found[..n].iter().any(|(before, _)| before == other) => {
                return Some(format!("offset {other} is there again, where {offset} should be"));
            }
            Some((other, _)) if other != offset => {
                return Some(format!("offset {offset} is missing, {other} comes in its place"));
            }
            Some(_) => {}
        }
    }
    found.get(due.len()).map(|(offset, _)| format!("offset {offset} comes after the last one"))
}

fn ok<T>(what: &str, outcome: Result<T>) -> T {
    outcome.unwrap_or_else(|error| panic!("{what} failed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_of_a_destination_is_said() {
        let records = |offsets: &[i64]| offsets.iter().map(|n| (*n, format!("<{n}>"))).collect::<Vec<_>>();
        let said = |found: &[i64]| difference(&records(found), &records(&[0, 1, 2]));
        assert_eq!(said(&[0, 1, 2]), None);
        assert_eq!(said(&[0]).unwrap(), "offset 1 is missing, and 1 behind it");
        assert_eq!(said(&[0, 2]).unwrap(), "offset 1 is missing, 2 comes in its place");
        assert_eq!(said(&[0, 1, 1, 2]).unwrap(), "offset 1 is there again, where 2 should be");
        assert_eq!(said(&[0, 1, 2, 2]).unwrap(), "offset 2 comes after the last one");
        let changed = [(0, "<0>".to_owned()), (1, "x".to_owned())];
        assert_eq!(difference(&changed, &records(&[0, 1])).unwrap(), "offset 1 was changed into x; it was <1>");
    }
}
