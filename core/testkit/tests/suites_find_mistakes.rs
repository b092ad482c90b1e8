//! The suites must fail where a connector is wrong: small connectors, each with one mistake, and the message it gets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ottla_api::prelude::*;
use ottla_testkit::fault::Fault;
use ottla_testkit::sink_suite::SinkSuite;
use ottla_testkit::source_suite::SourceSuite;

/// Two partitions with ten numbers each, in batches of three.
#[derive(Default)]
struct Numbers {
    next: [i64; 2],
    pending: Vec<SourceRecord>,
    mistake: Mistake,
    fault: Option<Fault>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Mistake {
    #[default]
    None,
    /// Takes records and then waits with them in a local variable.
    LosesOnDrop,
    /// Starts one too far.
    SkipsOne,
    /// Starts one too early.
    RepeatsOne,
    /// Its end is not the end.
    StartsAgain,
    /// The offset of every second record is the one before.
    OffsetsGoBack,
}

const N: i64 = 10;

fn partition(index: usize) -> SourcePartition {
    SourcePartition::new([("numbers", index as i64)])
}

fn number(index: usize, n: i64) -> Record {
    Record::new(format!("numbers-{index}"), n)
}

#[async_trait]
impl SourceTask for Numbers {
    async fn start(&mut self, context: &SourceTaskContext) -> Result<()> {
        for index in 0..2 {
            let last = context.offset(&partition(index))?.and_then(|offset| offset.get_i64("last"));
            self.next[index] = match self.mistake {
                Mistake::SkipsOne if last == Some(4) => 6,
                Mistake::RepeatsOne if last == Some(4) => 4,
                _ => last.map_or(0, |last| last + 1),
            };
        }
        Ok(())
    }

    async fn poll(&mut self) -> Result<SourcePoll> {
        let mut taken = Vec::new();
        for index in 0..2 {
            for _ in 0..3 {
                if self.next[index] == N {
                    break;
                }
                let n = self.next[index];
                let last = if self.mistake == Mistake::OffsetsGoBack && n % 2 == 1 { n - 2 } else { n };
                let offset = SourceOffset::new([("last", last)]);
                taken.push(SourceRecord::new(number(index, n), partition(index), offset));
                self.next[index] += 1;
            }
        }
        if self.mistake == Mistake::LosesOnDrop {
            tokio::task::yield_now().await;
            return Ok(if taken.is_empty() { SourcePoll::Finished } else { SourcePoll::Records(taken) });
        }
        self.pending.extend(taken);
        tokio::task::yield_now().await;
        if let Some(fault) = &self.fault {
            fault.point("read")?;
        }
        tokio::task::yield_now().await;
        if self.pending.is_empty() {
            if self.mistake == Mistake::StartsAgain {
                self.next = [0; 2];
            }
            return Ok(SourcePoll::Finished);
        }
        Ok(SourcePoll::Records(std::mem::take(&mut self.pending)))
    }
}

fn source_suite(mistake: Mistake) -> SourceSuite<'static> {
    SourceSuite::new(20, move || Box::new(Numbers { mistake, ..Numbers::default() }))
        .expecting((0..N).flat_map(|n| [number(0, n), number(1, n)]).collect())
        .bounded()
        .tasks(|_| vec![Box::new(Numbers::default())])
        .faulty(move |fault| Box::new(Numbers { mistake, fault: Some(fault), ..Numbers::default() }))
}

#[tokio::test]
async fn a_right_source_passes() {
    source_suite(Mistake::None).run().await;
    source_suite(Mistake::None).may_repeat().run().await;
    source_suite(Mistake::RepeatsOne).may_repeat().resumes_after_any_record().await;
}

#[tokio::test]
#[should_panic(expected = "when every poll is dropped at await point 1, other records came")]
async fn a_source_that_loses_what_it_took_is_found() {
    source_suite(Mistake::LosesOnDrop).run().await;
}

#[tokio::test]
#[should_panic(expected = "did not go on with exactly the rest")]
async fn a_source_that_skips_after_a_restart_is_found() {
    source_suite(Mistake::SkipsOne).run().await;
}

#[tokio::test]
#[should_panic(expected = "skipped or changed records")]
async fn a_source_that_may_repeat_may_not_skip() {
    source_suite(Mistake::SkipsOne).may_repeat().run().await;
}

#[tokio::test]
#[should_panic(expected = "did not go on with exactly the rest")]
async fn a_source_that_repeats_after_a_restart_is_found() {
    source_suite(Mistake::RepeatsOne).run().await;
}

#[tokio::test]
#[should_panic(expected = "the source is not finished but yields")]
async fn a_source_whose_end_is_not_the_end_is_found() {
    source_suite(Mistake::StartsAgain).run().await;
}

#[tokio::test]
#[should_panic(expected = "went back from")]
async fn a_source_whose_offsets_go_back_is_found() {
    source_suite(Mistake::OffsetsGoBack).offsets_grow().await;
}

#[tokio::test]
#[should_panic(expected = "was not expected here")]
async fn a_source_that_yields_something_else_is_found() {
    SourceSuite::new(20, || Box::new(Numbers::default()))
        .expecting((0..20).map(|n| number(0, n)).collect())
        .bounded()
        .run()
        .await;
}

/// What a sink's user sees, and what the sink keeps beside it.
#[derive(Debug, Default)]
struct Place {
    values: Vec<String>,
    positions: Positions,
}

/// Writes into memory at each flush; the places outlive the tasks.
struct Writer {
    place: Arc<Mutex<Place>>,
    pending: Vec<(TopicPartition, String)>,
    positions: Positions,
    mistake: SinkMistake,
    fault: Fault,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum SinkMistake {
    #[default]
    None,
    /// Reports what it only holds in memory.
    ReportsEarly,
    /// Says one more than it was given.
    ReportsTooMuch,
    /// Doesn't look whether a batch came before.
    WritesAgain,
    /// Writes on close, whatever the reason.
    WritesWhatWasLost,
    /// Thinks that a position is one after a record.
    IgnoresEmptyBatches,
    /// The text is cut.
    CutsText,
}

#[async_trait]
impl SinkTask for Writer {
    async fn start(&mut self, _context: &SinkTaskContext) -> Result<()> {
        self.fault.point("connect")
    }

    async fn open(&mut self, committed: &Positions) -> Result<Positions> {
        let place = self.place.lock().unwrap();
        for (partition, committed) in committed {
            let position = *place.positions.get(partition).unwrap_or(committed);
            self.positions.insert(partition.clone(), position.max(0));
        }
        Ok(self.positions.iter().filter(|(p, _)| committed.contains_key(p)).map(|(p, n)| (p.clone(), *n)).collect())
    }

    async fn put(&mut self, batch: &SinkBatch) -> Result<()> {
        let from = if self.mistake == SinkMistake::WritesAgain { 0 } else { self.positions[&batch.partition] };
        let records = batch.records_from(from);
        if records.is_empty() && self.mistake == SinkMistake::IgnoresEmptyBatches {
            return Ok(());
        }
        for record in records {
            let mut text = Vec::new();
            record.record.value.write_json(&Default::default(), &mut text);
            let mut text = String::from_utf8(text).unwrap();
            if self.mistake == SinkMistake::CutsText {
                text = text.replace("éé", "é");
            }
            self.pending.push((batch.partition.clone(), text));
        }
        let position = self.positions.entry(batch.partition.clone()).or_default();
        *position = batch.next_offset.max(*position);
        Ok(())
    }

    async fn flush(&mut self, _reason: FlushReason) -> Result<Positions> {
        let mut answer = self.positions.clone();
        if self.mistake == SinkMistake::ReportsTooMuch {
            answer.values_mut().for_each(|position| *position += 1);
        }
        if self.mistake != SinkMistake::ReportsEarly {
            self.fault.point("write")?;
            self.write();
            self.fault.point("written")?;
        }
        Ok(answer)
    }

    async fn close(&mut self, partitions: &[TopicPartition], reason: CloseReason) -> Result<()> {
        if reason != CloseReason::Lost || self.mistake == SinkMistake::WritesWhatWasLost {
            self.write();
        }
        self.pending.retain(|(partition, _)| !partitions.contains(partition));
        for partition in partitions {
            self.positions.remove(partition);
        }
        Ok(())
    }
}

impl Writer {
    fn write(&mut self) {
        let mut place = self.place.lock().unwrap();
        place.values.extend(self.pending.drain(..).map(|(_, text)| text));
        place.positions.extend(self.positions.clone());
    }
}

/// Runs the suite over a sink with this mistake.
async fn run_sink_suite(mistake: SinkMistake) {
    let places: Mutex<BTreeMap<String, Arc<Mutex<Place>>>> = Mutex::default();
    let places = &places;
    let place = move |name: &str| places.lock().unwrap().entry(name.to_owned()).or_default().clone();
    let writer = move |name: &str, fault| -> Box<dyn SinkTask> {
        let (pending, positions) = (Vec::new(), Positions::new());
        Box::new(Writer { place: place(name), pending, positions, mistake, fault })
    };
    SinkSuite::new(
        move |name| writer(name, Fault::never()),
        move |name| async move { place(&name).lock().unwrap().values.clone() },
    )
    .faulty(writer)
    .run()
    .await;
}

#[tokio::test]
async fn a_right_sink_passes() {
    run_sink_suite(SinkMistake::None).await;
}

#[tokio::test]
#[should_panic(expected = "is not in the destination")]
async fn a_sink_that_reports_before_it_writes_is_found() {
    run_sink_suite(SinkMistake::ReportsEarly).await;
}

#[tokio::test]
#[should_panic(expected = "were put")]
async fn a_sink_that_reports_more_than_it_was_given_is_found() {
    run_sink_suite(SinkMistake::ReportsTooMuch).await;
}

#[tokio::test]
#[should_panic(expected = "batch-again: the destination does not hold exactly the records")]
async fn a_sink_that_writes_a_batch_twice_is_found() {
    run_sink_suite(SinkMistake::WritesAgain).await;
}

#[tokio::test]
#[should_panic(expected = "closing lost partitions wrote to the destination")]
async fn a_sink_that_writes_lost_partitions_is_found() {
    run_sink_suite(SinkMistake::WritesWhatWasLost).await;
}

#[tokio::test]
#[should_panic(expected = "flush(CaughtUp) must report that position")]
async fn a_sink_that_ignores_empty_batches_is_found() {
    run_sink_suite(SinkMistake::IgnoresEmptyBatches).await;
}

#[tokio::test]
#[should_panic(expected = "is not in the destination")]
async fn a_sink_that_changes_text_is_found() {
    run_sink_suite(SinkMistake::CutsText).await;
}
