//! The source path against a scripted source and producer: offsets only with or after their records, whatever fails.

mod doubles;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;
use doubles::{FakeProducer, FakeSource, Journal, Script, SourceScript, partition, source_partition, source_records};
use ottla_api::plugin::PluginKind;
use ottla_api::prelude::*;
use ottla_runtime::broker::{OffsetStore, Producer, ProducerRecord};
use ottla_runtime::errors::ErrorHandler;
use ottla_runtime::plugins::config_providers::Providers;
use ottla_runtime::status::ConnectorStatus;
use ottla_runtime::task::TaskEnd;
use ottla_runtime::task::conversion::Conversion;
use ottla_runtime::task::source::WorkerSourceTask;
use ottla_runtime::task::transformation_chain::TransformationChain;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

type SendAnswer = Result<Vec<Result<(TopicPartition, i64)>>>;

/// Offsets in memory, as an earlier run has left them.
#[derive(Debug, Default)]
struct Offsets {
    stored: Mutex<SourceOffsets>,
    journal: Arc<Journal>,
}

impl OffsetStore for Offsets {
    fn get(&self, _: &str, partition: &SourcePartition) -> Result<Option<SourceOffset>> {
        Ok(self.stored.lock().get(partition).cloned())
    }

    fn put(&self, _: &str, offsets: &SourceOffsets) -> Result<()> {
        let texts: Vec<_> = offsets.values().map(SourceOffset::to_json).collect();
        self.journal.note(format!("store {}", texts.join(" ")));
        self.stored.lock().extend(offsets.clone());
        Ok(())
    }

    fn all(&self, _: &str) -> Result<SourceOffsets> {
        Ok(self.stored.lock().clone())
    }
}

/// A producer whose sends are transactions.
struct AllOrNothing(FakeProducer);

#[async_trait]
impl Producer for AllOrNothing {
    async fn send(&mut self, records: &[ProducerRecord], offsets: &SourceOffsets, connector: &str) -> SendAnswer {
        self.0.send(records, offsets, connector).await
    }

    fn all_or_nothing(&self) -> bool {
        true
    }
}

/// One source task at work, and everything around it.
struct Stage {
    journal: Arc<Journal>,
    source: Arc<SourceScript>,
    sends: Arc<Script<dyn FnOnce(&[ProducerRecord]) -> SendAnswer + Send>>,
    status: Arc<ConnectorStatus>,
    stop: CancellationToken,
    task: JoinHandle<Result<TaskEnd>>,
}

impl Stage {
    fn new(errors: &[(&str, &str)]) -> Self {
        Self::within(errors, None, false)
    }

    /// Sends are transactions, which gather batches for so long.
    fn of_transactions(errors: &[(&str, &str)], gather: Option<Duration>) -> Self {
        Self::within(errors, gather, true)
    }

    fn within(errors: &[(&str, &str)], gather: Option<Duration>, transactions: bool) -> Self {
        Self::with(errors, gather, move |producer| match transactions {
            true => Box::new(AllOrNothing(producer)),
            false => Box::new(producer),
        })
    }

    /// With a producer of its own around the one of the script.
    fn with(
        errors: &[(&str, &str)],
        gather: Option<Duration>,
        around: impl FnOnce(FakeProducer) -> Box<dyn Producer>,
    ) -> Self {
        let journal = Arc::<Journal>::default();
        let source = Arc::<SourceScript>::default();
        let sends = Arc::new(Script::default());
        let status = doubles::status(PluginKind::Source);
        let config = doubles::connector(errors);
        let providers = Providers::build(&[]).unwrap();
        let stop = CancellationToken::new();
        let offsets = Offsets { journal: Arc::clone(&journal), ..Offsets::default() };
        offsets.stored.lock().insert(source_partition(), SourceOffset::new([("n", -1)]));
        let task = WorkerSourceTask {
            connector: "c".into(),
            task: Box::new(FakeSource { journal: Arc::clone(&journal), script: Arc::clone(&source) }),
            producer: around(FakeProducer { journal: Arc::clone(&journal), script: Arc::clone(&sends) }),
            offsets: Arc::new(offsets),
            gather,
            conversion: Conversion::build(&config, &providers).unwrap(),
            call_timeout: Duration::from_secs(60),
            chain: TransformationChain::build(&config.chain, &providers).unwrap(),
            errors: ErrorHandler::new("c-0".into(), config.errors, Arc::clone(&status), None),
            status: Arc::clone(&status),
            task_status: status.add_task(),
            state_dir: PathBuf::new(),
            stop: stop.clone(),
        };
        Self { journal, source, sends, status, stop, task: tokio::spawn(task.run()) }
    }

    /// The source yields records 0, 1 and 2.
    fn yields_three(&self, what: fn(i64) -> &'static str) {
        self.source.poll.then(Box::new(move || source_records(0..3, what)));
    }

    fn finishes(&self) {
        self.source.poll.then(Box::new(|| Ok(SourcePoll::Finished)));
    }

    /// How the task ended, and what happened after its start.
    async fn ended(self) -> (Result<TaskEnd>, Vec<String>) {
        let end = self.task.await.unwrap();
        let lines = self.journal.lines();
        assert_eq!(lines[0], r#"start at {"n":-1}"#);
        (end, lines[1..].to_vec())
    }
}

const ALL: &str = r#"[{"n":0,"do":"pass"}, {"n":1,"do":"pass"}, {"n":2,"do":"pass"}] {"table":"t"}{"n":2}"#;

fn well(_: i64) -> &'static str {
    "pass"
}

fn second_fails(offset: i64) -> &'static str {
    if offset == 1 { "fail" } else { "pass" }
}

fn unreachable() -> SendAnswer {
    Err(Error::unreachable("no broker"))
}

/// Takes all records but the second.
fn second_refused(records: &[ProducerRecord]) -> SendAnswer {
    let answer = |index| if index == 1 { Err(Error::data("too large")) } else { Ok((partition(0), 0)) };
    Ok((0..records.len()).map(answer).collect())
}

#[tokio::test(start_paused = true)]
async fn offsets_go_with_their_records_and_the_source_is_told_afterwards() {
    let stage = Stage::new(&[]);
    stage.yields_three(well);
    stage.finishes();
    let status = Arc::clone(&stage.status);
    let (end, lines) = stage.ended().await;
    assert_eq!(end.unwrap(), TaskEnd::Finished);
    assert_eq!(lines, [&*format!("send {ALL}"), r#"told {"n":2}"#, "stop"]);
    assert_eq!(status.counters.written.load(Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn what_can_be_retried_is_retried_in_place() {
    let stage = Stage::new(&[]);
    stage.source.poll.then(Box::new(|| Err(Error::unreachable("no database"))));
    stage.yields_three(well);
    stage.finishes();
    stage.sends.then(Box::new(|_| unreachable()));
    stage.source.commit.then(Box::new(|| Err(Error::unreachable("no queue"))));
    let (end, lines) = stage.ended().await;
    assert_eq!(end.unwrap(), TaskEnd::Finished);
    let expected = [
        &*format!("send in vain {ALL}"),
        &*format!("send {ALL}"),
        r#"told {"n":2} in vain"#,
        r#"told {"n":2}"#,
        "stop",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test(start_paused = true)]
async fn what_comes_before_a_record_that_stops_the_task_is_delivered_with_its_offset() {
    let stage = Stage::new(&[]);
    stage.yields_three(second_fails);
    let (end, lines) = stage.ended().await;
    let error = end.unwrap_err().to_string();
    assert!(
        error.starts_with(r#"transformation 'obedient' failed at {"table":"t"} {"n":1} (TRANSFORMATION)"#),
        "{error}"
    );
    assert_eq!(lines, [r#"send [{"n":0,"do":"pass"}] {"table":"t"}{"n":0}"#, r#"told {"n":0}"#, "stop"]);
}

#[tokio::test(start_paused = true)]
async fn a_first_record_that_fails_moves_no_offset() {
    let stage = Stage::new(&[]);
    stage.yields_three(|_| "fail");
    let (end, lines) = stage.ended().await;
    end.unwrap_err();
    assert_eq!(lines, ["send []", "stop"]);
}

#[tokio::test(start_paused = true)]
async fn tolerated_failures_are_counted_and_passed_over() {
    let stage = Stage::new(&[("errors.tolerance", "all")]);
    stage.yields_three(second_fails);
    stage.finishes();
    let status = Arc::clone(&stage.status);
    let (end, lines) = stage.ended().await;
    end.unwrap();
    assert_eq!(lines[0], r#"send [{"n":0,"do":"pass"}, {"n":2,"do":"pass"}] {"table":"t"}{"n":2}"#);
    assert_eq!(status.counters.failed.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_which_everything_is_dropped_still_moves_the_offset() {
    let stage = Stage::new(&[]);
    stage.yields_three(|_| "drop");
    stage.finishes();
    let (end, lines) = stage.ended().await;
    end.unwrap();
    assert_eq!(lines, [r#"send [] {"table":"t"}{"n":2}"#, r#"told {"n":2}"#, "stop"]);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_the_broker_refuses_stops_the_task_and_stores_no_offset() {
    let stage = Stage::new(&[]);
    stage.yields_three(well);
    stage.sends.then(Box::new(second_refused));
    let (end, lines) = stage.ended().await;
    let error = end.unwrap_err().to_string();
    assert!(error.starts_with("producer failed at a (KAFKA_PRODUCE): too large"), "{error}");
    assert_eq!(lines, [&*format!("send {ALL}"), "stop"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_record_that_is_tolerated_lets_the_offsets_follow() {
    let stage = Stage::new(&[("errors.tolerance", "all")]);
    stage.yields_three(well);
    stage.finishes();
    stage.sends.then(Box::new(second_refused));
    let status = Arc::clone(&stage.status);
    let (end, lines) = stage.ended().await;
    end.unwrap();
    assert_eq!(lines, [&*format!("send {ALL}"), r#"store {"n":2}"#, r#"told {"n":2}"#, "stop"]);
    assert_eq!((status.counters.written.load(Relaxed), status.counters.failed.load(Relaxed)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_a_poll_that_waits() {
    let stage = Stage::new(&[]);
    stage.journal.until(r#"start at {"n":-1}"#).await;
    stage.stop.cancel();
    let (end, lines) = stage.ended().await;
    assert_eq!((end.unwrap(), lines), (TaskEnd::Stopped, vec!["stop".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_retries_and_what_was_not_durable_is_not_confirmed() {
    let stage = Stage::new(&[]);
    stage.yields_three(well);
    let stop = stage.stop.clone();
    stage.sends.then(Box::new(move |_| {
        stop.cancel();
        unreachable()
    }));
    let (end, lines) = stage.ended().await;
    assert_eq!(end.unwrap(), TaskEnd::Stopped);
    assert_eq!(lines, [&*format!("send in vain {ALL}"), "stop"]);
}

#[tokio::test(start_paused = true)]
async fn within_a_transaction_a_refused_record_takes_its_batch_with_it() {
    let stage = Stage::of_transactions(&[], None);
    stage.yields_three(well);
    stage.sends.then(Box::new(second_refused));
    let status = Arc::clone(&stage.status);
    let (end, lines) = stage.ended().await;
    let error = end.unwrap_err().to_string();
    assert!(error.starts_with("producer failed at a (KAFKA_PRODUCE): too large"), "{error}");
    assert_eq!(lines, [&*format!("send {ALL}"), "stop"]);
    assert_eq!(status.counters.written.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn within_a_transaction_the_rest_of_a_tolerated_refusal_is_sent_with_the_offsets() {
    let stage = Stage::of_transactions(&[("errors.tolerance", "all")], None);
    stage.yields_three(well);
    stage.finishes();
    stage.sends.then(Box::new(second_refused));
    let status = Arc::clone(&stage.status);
    let (end, lines) = stage.ended().await;
    end.unwrap();
    let rest = r#"send [{"n":0,"do":"pass"}, {"n":2,"do":"pass"}] {"table":"t"}{"n":2}"#;
    assert_eq!(lines, [&*format!("send {ALL}"), rest, r#"told {"n":2}"#, "stop"]);
    assert_eq!((status.counters.written.load(Relaxed), status.counters.failed.load(Relaxed)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn batches_of_an_interval_are_one_send() {
    let stage = Stage::of_transactions(&[], Some(Duration::from_secs(1)));
    stage.yields_three(well);
    stage.source.poll.then(Box::new(|| Ok(SourcePoll::Records(Vec::new()))));
    stage.source.poll.then(Box::new(|| source_records(3..5, well)));
    // Then the source waits, and the interval ends.
    stage.journal.until(r#"told {"n":4}"#).await;
    stage.stop.cancel();
    let (end, lines) = stage.ended().await;
    assert_eq!(end.unwrap(), TaskEnd::Stopped);
    let all: Vec<String> = (0..5).map(|n| format!(r#"{{"n":{n},"do":"pass"}}"#)).collect();
    let sent = format!(r#"send [{}] {{"table":"t"}}{{"n":4}}"#, all.join(", "));
    assert_eq!(lines, [&*sent, r#"told {"n":4}"#, "stop"]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_source_ends_the_interval_and_a_stop_forgets_what_it_gathered() {
    let stage = Stage::of_transactions(&[], Some(Duration::from_secs(3600)));
    stage.yields_three(well);
    stage.finishes();
    let (end, lines) = stage.ended().await;
    assert_eq!(end.unwrap(), TaskEnd::Finished);
    assert_eq!(lines, [&*format!("send {ALL}"), r#"told {"n":2}"#, "stop"]);

    let stage = Stage::of_transactions(&[], Some(Duration::from_secs(3600)));
    stage.yields_three(well);
    let stop = stage.stop.clone();
    stage.source.poll.then(Box::new(move || {
        stop.cancel();
        Ok(SourcePoll::Records(Vec::new()))
    }));
    let (end, lines) = stage.ended().await;
    assert_eq!((end.unwrap(), lines), (TaskEnd::Stopped, vec!["stop".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn what_was_gathered_before_a_record_that_stops_the_task_is_delivered() {
    let stage = Stage::of_transactions(&[], Some(Duration::from_secs(3600)));
    stage.yields_three(well);
    stage.source.poll.then(Box::new(|| source_records(3..5, |_| "fail")));
    let (end, lines) = stage.ended().await;
    end.unwrap_err();
    assert_eq!(lines, [&*format!("send {ALL}"), r#"told {"n":2}"#, "stop"]);
}

/// A producer whose sends end when a test lets them.
struct Slow {
    producer: FakeProducer,
    lets_go: Arc<tokio::sync::Semaphore>,
}

#[async_trait]
impl Producer for Slow {
    async fn send(&mut self, records: &[ProducerRecord], offsets: &SourceOffsets, connector: &str) -> SendAnswer {
        self.producer.journal.note(format!("begin {}", records.len()));
        self.lets_go.acquire().await.unwrap().forget();
        self.producer.send(records, offsets, connector).await
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_polled_while_a_batch_is_on_its_way_becomes_one_batch() {
    let lets_go = Arc::new(tokio::sync::Semaphore::new(0));
    let gate = Arc::clone(&lets_go);
    let stage = Stage::with(&[], None, move |producer| Box::new(Slow { producer, lets_go: gate }));
    for polled in [0..1, 1..3, 3..4] {
        stage.source.poll.then(Box::new(move || source_records(polled, well)));
    }
    stage.journal.until("begin 1").await;
    // The source has nothing more, and waits; neither the broker nor the source knows of the others yet.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(stage.journal.lines()[1..], ["begin 1"]);
    lets_go.add_permits(1);
    stage.journal.until("begin 3").await;
    lets_go.add_permits(1);
    stage.journal.until(r#"told {"n":3}"#).await;
    stage.stop.cancel();
    let (end, lines) = stage.ended().await;
    assert_eq!(end.unwrap(), TaskEnd::Stopped);
    let record = |n| format!(r#"{{"n":{n},"do":"pass"}}"#);
    let expected = [
        "begin 1".to_owned(),
        format!(r#"send [{}] {{"table":"t"}}{{"n":0}}"#, record(0)),
        "begin 3".to_owned(),
        format!(r#"send [{}] {{"table":"t"}}{{"n":3}}"#, [1, 2, 3].map(record).join(", ")),
        r#"told {"n":3}"#.to_owned(),
        "stop".to_owned(),
    ];
    assert_eq!(lines, expected);
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_what_is_on_its_way_and_forgets_what_was_polled_since() {
    let lets_go = Arc::new(tokio::sync::Semaphore::new(0));
    let gate = Arc::clone(&lets_go);
    let stage = Stage::with(&[], None, move |producer| Box::new(Slow { producer, lets_go: gate }));
    stage.source.poll.then(Box::new(|| source_records(0..3, well)));
    stage.source.poll.then(Box::new(|| source_records(3..5, well)));
    stage.journal.until("begin 3").await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    stage.stop.cancel();
    tokio::time::sleep(Duration::from_millis(10)).await;
    lets_go.add_permits(9);
    let (end, lines) = stage.ended().await;
    assert_eq!(end.unwrap(), TaskEnd::Stopped);
    assert_eq!(lines, ["begin 3", &*format!("send {ALL}"), r#"told {"n":2}"#, "stop"]);
}

#[tokio::test(start_paused = true)]
async fn what_came_before_an_error_of_the_source_is_delivered() {
    let lets_go = Arc::new(tokio::sync::Semaphore::new(0));
    let gate = Arc::clone(&lets_go);
    let stage = Stage::with(&[], None, move |producer| Box::new(Slow { producer, lets_go: gate }));
    stage.source.poll.then(Box::new(|| source_records(0..3, well)));
    stage.source.poll.then(Box::new(|| source_records(3..4, well)));
    stage.source.poll.then(Box::new(|| Err(Error::fatal("the table is gone"))));
    stage.journal.until("begin 3").await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    lets_go.add_permits(9);
    let (end, lines) = stage.ended().await;
    assert!(end.unwrap_err().to_string().contains("the table is gone"));
    let last = r#"send [{"n":3,"do":"pass"}] {"table":"t"}{"n":3}"#;
    assert_eq!(lines, ["begin 3", &*format!("send {ALL}"), "begin 1", last, r#"told {"n":3}"#, "stop"]);
}
