//! A sink into memory that writes a few records at a time, rightly or with one bug.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ottla_api::prelude::*;
use ottla_testkit::fault::Fault;
use ottla_testkit::sink_suite::SinkSuite;

use crate::{Planted, every_bug_is_found};

/// So many records are worth a write; fewer wait, except where a flush must not leave anything.
const WORTH_A_WRITE: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bug {
    None,
    /// Reports what it only holds in memory.
    ReportsEarly,
    /// Says one more than it was given.
    ReportsTooMuch,
    /// The text is cut.
    CutsText,
    /// Notes how far it has come when it is given records, not when it has written them.
    NotesOnPut,
    /// Notes how far it has come, waits, and then writes.
    NotesBeforeWriting,
    /// Waits with the thread.
    Blocks,
    /// Doesn't look whether a batch came before.
    WritesAgain,
    /// Can't stop before it has been given something.
    StopNeedsRecords,
    /// Takes up a partition that it had before from its beginning.
    ReopensFromZero,
    /// Takes a close for somebody else's work.
    LeavesTheRest,
    /// Writes on close, whatever the reason.
    WritesWhatWasLost,
    /// Thinks that a position is one after a record.
    IgnoresEmptyBatches,
    /// Thinks that as many offsets have passed as records came.
    CountsRecords,
    /// Leaves out records without a value.
    DropsTombstones,
    /// Goes on although its report was refused.
    IgnoresRefusal,
    /// Never says what it holds.
    NeverTells,
    /// Writes nothing under pressure.
    HoldsOn,
    /// Takes the records out of its memory before it knows that they were written.
    ForgetsOnError,
}

const BUGS: &[Planted<Bug>] = &[
    ("flush_means_durable", Bug::ReportsEarly, "is not in the destination"),
    ("flush_means_durable", Bug::ReportsTooMuch, "were put"),
    ("flush_means_durable", Bug::CutsText, "is not in the destination"),
    ("a_crash_loses_nothing", Bug::NotesOnPut, "the destination does not hold exactly the records"),
    ("a_kill_loses_nothing", Bug::NotesBeforeWriting, "the destination does not hold exactly the records"),
    ("a_kill_loses_nothing", Bug::Blocks, "the task still blocks its thread"),
    ("a_batch_that_comes_again_is_safe", Bug::WritesAgain, "batch-again: the destination does not hold exactly"),
    ("stops_while_idle_and_while_busy", Bug::StopNeedsRecords, "stop failed: there is no connection"),
    ("partitions_close_and_reopen", Bug::ReopensFromZero, "reopen-revoked: the destination does not hold exactly"),
    ("partitions_move_to_another_task", Bug::LeavesTheRest, "move: the destination does not hold exactly"),
    ("lost_partitions_write_nothing", Bug::WritesWhatWasLost, "closing lost partitions wrote to the destination"),
    ("empty_batches_move_positions", Bug::IgnoresEmptyBatches, "flush(CaughtUp) must report that position"),
    ("gaps_in_offsets_are_ordinary", Bug::CountsRecords, "flush(CaughtUp) makes everything durable that was put"),
    ("nulls_and_tombstones_are_not_lost_silently", Bug::DropsTombstones, "a record with no value was lost silently"),
    ("nulls_and_tombstones_are_not_lost_silently", Bug::IgnoresRefusal, "was refused, but put went on"),
    ("what_it_holds_is_told_and_let_go", Bug::NeverTells, "how many bytes was never told"),
    (
        "what_it_holds_is_told_and_let_go",
        Bug::HoldsOn,
        "after flush(Pressure), 40 times, the task still says that it holds",
    ),
    ("survives_faults", Bug::ForgetsOnError, "the destination does not hold exactly the records"),
];

/// What a sink's user sees, and what the sink keeps beside it.
#[derive(Debug, Default)]
struct Place {
    values: Vec<String>,
    positions: Positions,
}

/// Writes into memory; the places outlive the tasks.
struct Writer {
    place: Arc<Mutex<Place>>,
    context: Option<SinkTaskContext>,
    pending: Vec<(TopicPartition, String)>,
    /// Everything before this was put.
    positions: Positions,
    /// Everything before this is written.
    written: Positions,
    bug: Bug,
    fault: Fault,
    opened: bool,
}

impl Writer {
    /// Writes all that is pending, and what stands before it is durable from then on.
    async fn write(&mut self) -> Result<()> {
        if self.bug == Bug::ForgetsOnError {
            let taken = std::mem::take(&mut self.pending);
            self.fault.point("write")?;
            self.place.lock().unwrap().values.extend(taken.into_iter().map(|(_, text)| text));
        } else {
            self.fault.point("write")?;
            if self.bug == Bug::NotesBeforeWriting {
                self.place.lock().unwrap().positions.extend(self.positions.clone());
            }
            tokio::task::yield_now().await;
            let mut place = self.place.lock().unwrap();
            place.values.extend(self.pending.drain(..).map(|(_, text)| text));
        }
        self.place.lock().unwrap().positions.extend(self.positions.clone());
        self.written.extend(self.positions.clone());
        self.tell();
        self.fault.point("written")
    }

    fn tell(&self) {
        let bytes = self.pending.iter().map(|(_, text)| text.len()).sum();
        if let Some(context) = self.context.as_ref().filter(|_| self.bug != Bug::NeverTells) {
            context.buffered(bytes);
        }
    }
}

#[async_trait]
impl SinkTask for Writer {
    async fn start(&mut self, context: &SinkTaskContext) -> Result<()> {
        self.context = Some(context.clone());
        self.fault.point("connect")
    }

    async fn open(&mut self, committed: &Positions) -> Result<Positions> {
        let place = self.place.lock().unwrap();
        let mut answer = Positions::new();
        for (partition, committed) in committed {
            let from_zero = self.bug == Bug::ReopensFromZero && self.opened;
            let known = place.positions.get(partition).filter(|_| !from_zero);
            let position = if from_zero { 0 } else { (*known.unwrap_or(committed)).max(0) };
            answer.insert(partition.clone(), position);
        }
        self.opened = true;
        self.positions.extend(answer.clone());
        self.written.extend(answer.clone());
        Ok(answer)
    }

    async fn put(&mut self, batch: &SinkBatch) -> Result<()> {
        if self.bug == Bug::Blocks {
            std::thread::sleep(Duration::from_millis(100));
        }
        let before = self.positions[&batch.partition];
        let records = batch.records_from(if self.bug == Bug::WritesAgain { 0 } else { before });
        if records.is_empty() && self.bug == Bug::IgnoresEmptyBatches {
            return Ok(());
        }
        for record in records {
            if record.record.is_tombstone() {
                if self.bug != Bug::DropsTombstones {
                    let context = self.context.as_ref().expect("started");
                    let refused = context.report(&batch.partition, record, Error::data("there is no value to write"));
                    if self.bug != Bug::IgnoresRefusal {
                        refused?;
                    }
                }
                continue;
            }
            let mut text = Vec::new();
            record.record.value.write_json(&Default::default(), &mut text);
            let mut text = String::from_utf8(text).unwrap();
            if self.bug == Bug::CutsText {
                text = text.replace("éé", "é");
            }
            self.pending.push((batch.partition.clone(), text));
        }
        let after = if self.bug == Bug::CountsRecords { before + records.len() as i64 } else { batch.next_offset };
        let position = self.positions.entry(batch.partition.clone()).or_default();
        *position = after.max(*position);
        if self.bug == Bug::NotesOnPut {
            self.place.lock().unwrap().positions.extend(self.positions.clone());
        }
        self.tell();
        Ok(())
    }

    async fn flush(&mut self, reason: FlushReason) -> Result<Positions> {
        let all = reason != FlushReason::Interval;
        let leaves = match self.bug {
            Bug::LeavesTheRest => reason == FlushReason::Closing,
            Bug::HoldsOn => reason == FlushReason::Pressure,
            _ => false,
        };
        if !leaves && self.bug != Bug::ReportsEarly && (all || self.pending.len() >= WORTH_A_WRITE) {
            self.write().await?;
        }
        let early = self.bug == Bug::ReportsEarly || (leaves && self.bug == Bug::LeavesTheRest);
        let mut answer = if early { self.positions.clone() } else { self.written.clone() };
        if self.bug == Bug::ReportsTooMuch {
            answer.values_mut().for_each(|position| *position += 1);
        }
        Ok(answer)
    }

    async fn close(&mut self, partitions: &[TopicPartition], reason: CloseReason) -> Result<()> {
        if reason == CloseReason::Lost && self.bug == Bug::WritesWhatWasLost {
            self.write().await?;
        }
        self.pending.retain(|(partition, _)| !partitions.contains(partition));
        for partition in partitions {
            self.positions.remove(partition);
            self.written.remove(partition);
        }
        self.tell();
        Ok(())
    }

    async fn stop(&mut self) -> Result<()> {
        if self.bug == Bug::StopNeedsRecords && !self.opened {
            return Err(Error::fatal("there is no connection to close"));
        }
        Ok(())
    }
}

/// Runs one rule, or all of them, over a sink with this bug.
async fn check(bug: Bug, rule: Option<&str>) {
    let places: Mutex<BTreeMap<String, Arc<Mutex<Place>>>> = Mutex::default();
    let places = &places;
    let place = move |name: &str| places.lock().unwrap().entry(name.to_owned()).or_default().clone();
    let writer = move |name: &str, fault| -> Box<dyn SinkTask> {
        let (positions, written) = (Positions::new(), Positions::new());
        let (place, context, pending, opened) = (place(name), None, Vec::new(), false);
        Box::new(Writer { place, context, pending, positions, written, bug, fault, opened })
    };
    let suite = SinkSuite::new(
        move |name| writer(name, Fault::never()),
        move |name| async move { place(&name).lock().unwrap().values.clone() },
    )
    .patience(Duration::from_millis(if bug == Bug::Blocks { 20 } else { 30_000 }))
    .faulty(writer);
    match rule {
        Some(rule) => suite.check(rule).await,
        None => suite.run().await,
    }
}

#[tokio::test]
async fn every_rule_for_sinks_finds_its_bug() {
    every_bug_is_found(SinkSuite::RULES, BUGS, Bug::None, async |bug, rule| check(bug, Some(rule)).await).await;
}

#[tokio::test]
async fn a_right_sink_passes() {
    check(Bug::None, None).await;
}
