//! The sink path against a scripted consumer and sink: what is called, in which order, and what is committed when.

mod doubles;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use doubles::{FakeConsumer, FakeProducer, FakeSink, Journal, Script, SinkScript, batch, partition, positions};
use ottla_api::plugin::PluginKind;
use ottla_api::prelude::*;
use ottla_runtime::broker::{ConsumerEvent, OffsetRange, ProducerRecord};
use ottla_runtime::errors::ErrorHandler;
use ottla_runtime::errors::dead_letter_queue::DeadLetterQueue;
use ottla_runtime::plugins::config_providers::Providers;
use ottla_runtime::status::{ConnectorStatus, MemoryBudget, MemorySlot, TaskState};
use ottla_runtime::task::TaskEnd;
use ottla_runtime::task::conversion::Conversion;
use ottla_runtime::task::sink::WorkerSinkTask;
use ottla_runtime::task::transformation_chain::TransformationChain;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const BUDGET: usize = 1000;
const PUT: &str = "put a-0 [0, 1, 2] up to 3";
const PUT_IN_VAIN: &str = "put a-0 [0, 1, 2] up to 3 in vain";

/// One sink task at work, and everything around it.
struct Stage {
    events: mpsc::UnboundedSender<Result<ConsumerEvent>>,
    journal: Arc<Journal>,
    sink: Arc<SinkScript>,
    dead_letters: Arc<Script<dyn FnOnce(&[ProducerRecord]) -> DeadLetterAnswer + Send>>,
    status: Arc<ConnectorStatus>,
    /// Of a task beside this one.
    neighbour: MemorySlot,
    catch_up: watch::Sender<Option<Arc<Positions>>>,
    stop: CancellationToken,
    task: JoinHandle<Result<TaskEnd>>,
}

type DeadLetterAnswer = Result<Vec<Result<(TopicPartition, i64)>>>;

impl Stage {
    /// A task with these `errors.*` options that has just been given partition 0, of which nothing is committed.
    fn new(errors: &[(&str, &str)]) -> Self {
        let (events, receiver) = mpsc::unbounded_channel();
        let (catch_up, targets) = watch::channel(None);
        let journal = Arc::<Journal>::default();
        let sink = Arc::<SinkScript>::default();
        let dead_letters = Arc::new(Script::default());
        let config = doubles::connector(errors);
        let status = doubles::status(PluginKind::Sink);
        let producer = FakeProducer { journal: Arc::clone(&journal), script: Arc::clone(&dead_letters) };
        let queue = config.errors.dead_letter_topic.as_deref();
        let queue = queue.map(|topic| DeadLetterQueue::new(topic, "c".into(), false, Box::new(producer)));
        let budget = MemoryBudget::new(BUDGET);
        let stop = CancellationToken::new();
        let providers = Providers::build(&[]).unwrap();
        let stages = config.chain.clone();
        let chain_providers = providers.clone();
        let task = WorkerSinkTask {
            connector: "c".into(),
            task: Box::new(FakeSink {
                journal: Arc::clone(&journal),
                script: Arc::clone(&sink),
                context: None,
                put: Positions::new(),
            }),
            consumer: Box::new(FakeConsumer { events: receiver, journal: Arc::clone(&journal) }),
            conversion: Arc::new(Conversion::build(&config, &providers).unwrap()),
            call_timeout: Duration::from_secs(60),
            chain: Box::new(move || TransformationChain::build(&stages, &chain_providers)),
            errors: Arc::new(ErrorHandler::new("c-0".into(), config.errors.clone(), Arc::clone(&status), queue)),
            status: Arc::clone(&status),
            task_status: status.add_task(),
            state_dir: "unused".into(),
            memory: Arc::new(budget.slot()),
            commit_interval: Duration::from_secs(5),
            commit_timeout: Duration::from_secs(5),
            catch_up: targets,
            tick_warned: None,
            stop: stop.clone(),
        };
        let stage = Self {
            events,
            journal,
            sink,
            dead_letters,
            status,
            neighbour: budget.slot(),
            catch_up,
            stop,
            task: tokio::spawn(task.run()),
        };
        stage.send(Ok(ConsumerEvent::Assigned(positions(&[(0, -1)]))));
        stage
    }

    fn send(&self, event: Result<ConsumerEvent>) {
        self.events.send(event).expect("the task listens");
    }

    /// Sends records 0, 1 and 2.
    fn send_three(&self, what: fn(i64) -> &'static str) {
        self.send(batch(0, 0..3, what));
    }

    fn everything_is_durable(&self) {
        *self.sink.durable.lock() = true;
    }

    fn state(&self) -> TaskState {
        self.status.tasks()[0].state()
    }

    /// What happened after the partition was opened, once the task has stopped.
    async fn stopped(self) -> Vec<String> {
        self.stop.cancel();
        assert_eq!(self.task.await.unwrap().unwrap(), TaskEnd::Stopped);
        self.journal.lines()[2..].to_vec()
    }

    /// The error that ended the task, and what happened after the partition was opened.
    async fn failed(self) -> (String, Vec<String>) {
        let error = self.task.await.unwrap().unwrap_err();
        (error.to_string(), self.journal.lines()[2..].to_vec())
    }
}

fn well(_: i64) -> &'static str {
    "pass"
}

fn second_fails(offset: i64) -> &'static str {
    if offset == 1 { "fail" } else { "pass" }
}

#[tokio::test(start_paused = true)]
async fn only_what_flush_has_reported_is_committed() {
    let stage = Stage::new(&[]);
    stage.send_three(well);
    stage.journal.until(PUT).await;
    stage.sink.flush.then(Box::new(|_, _| Ok(positions(&[(0, 2)]))));
    stage.journal.until("commit {a-0: 2}").await;
    // Nothing new is durable from here on, and what is committed is not committed again.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let lines = stage.stopped().await;
    assert_eq!(lines, [PUT, "commit {a-0: 2}", "flush Closing", "close [a-0] Stopped", "stop", "leave"]);
}

#[tokio::test(start_paused = true)]
async fn a_put_that_can_be_retried_gets_the_same_batch_until_it_takes_it() {
    let stage = Stage::new(&[]);
    for _ in 0..3 {
        stage.sink.put.then(Box::new(|_, _| Err(Error::unreachable("no route"))));
    }
    stage.send_three(well);
    stage.journal.until_times(PUT_IN_VAIN, 2).await;
    assert_eq!(stage.state().to_string(), "retrying put for 0 s: no route");
    stage.journal.until(PUT).await;
    assert!(matches!(stage.state(), TaskState::Running));
    let lines = stage.stopped().await;
    assert_eq!(lines[..4], [PUT_IN_VAIN, PUT_IN_VAIN, PUT_IN_VAIN, PUT]);
}

#[tokio::test(start_paused = true)]
async fn revoked_partitions_are_flushed_committed_closed_and_only_then_released() {
    let stage = Stage::new(&[]);
    stage.everything_is_durable();
    stage.send_three(well);
    stage.send(Ok(ConsumerEvent::Revoked(vec![partition(0)])));
    stage.journal.until("release [a-0]").await;
    let lines = stage.journal.lines()[2..].to_vec();
    assert_eq!(lines, [PUT, "flush Closing", "commit {a-0: 3}", "close [a-0] Revoked", "release [a-0]"]);
}

#[tokio::test(start_paused = true)]
async fn lost_partitions_are_closed_without_flush_and_commit() {
    let stage = Stage::new(&[]);
    stage.everything_is_durable();
    stage.send_three(well);
    stage.send(Ok(ConsumerEvent::Lost(vec![partition(0)])));
    stage.journal.until("close [a-0] Lost").await;
    // A batch that was on its way, and time for a commit.
    stage.send(batch(0, 3..4, well));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(stage.journal.lines()[2..], [PUT, "close [a-0] Lost"]);
}

#[tokio::test(start_paused = true)]
async fn a_position_without_records_stops_the_task_with_what_is_there_and_the_way_out() {
    for (position, range, expected) in [
        (
            3,
            OffsetRange { start: 7, end: 9 },
            "there is no record at offset 3 of a-0, where the group goes on: it holds the offsets from 7 to before 9; those \
             before were removed unread; if that gap is acceptable, set the group's committed offset to 7",
        ),
        (
            30,
            OffsetRange { start: 0, end: 9 },
            "there is no record at offset 30 of a-0, where the group goes on: it holds the offsets from 0 to before 9; the \
             topic was made anew or cut, and this offset belongs to what it was before; to begin with what it holds now, set \
             the group's committed offset to 0",
        ),
    ] {
        let stage = Stage::new(&[]);
        stage.send(Ok(ConsumerEvent::OutOfRange { partition: partition(0), position, range }));
        assert_eq!(stage.failed().await.0, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_outlived_its_topic_is_named_as_such() {
    let stage = Stage::new(&[]);
    stage.sink.open.then(Box::new(|| Ok(positions(&[(0, 30)]))));
    let range = OffsetRange { start: 0, end: 9 };
    stage.send(Ok(ConsumerEvent::OutOfRange { partition: partition(0), position: 30, range }));
    assert_eq!(
        stage.failed().await.0,
        "the destination already holds a-0 up to offset 30, but the topic ends at 9: it was made anew or cut (with a state \
         folder, for instance) while the destination stayed; move the old destination away, or name another"
    );
}

#[tokio::test(start_paused = true)]
async fn without_tolerance_a_record_that_fails_stops_the_task_and_nothing_of_its_batch_is_committed() {
    let stage = Stage::new(&[]);
    stage.everything_is_durable();
    stage.send_three(second_fails);
    let (error, lines) = stage.failed().await;
    assert_eq!(
        error,
        "transformation 'obedient' failed at a-0 offset 1 (TRANSFORMATION): told to fail; repair or skip the record, or set \
         errors.tolerance=all, best with errors.deadletterqueue.topic.name"
    );
    assert_eq!(lines, ["close [a-0] Stopped", "stop", "leave"]);
}

#[tokio::test(start_paused = true)]
async fn the_record_that_stops_the_task_is_in_the_dead_letter_queue_before_it_stops() {
    let stage = Stage::new(&[("errors.deadletterqueue.topic.name", "dead")]);
    // Also where the queue's broker is away for a while.
    stage.dead_letters.then(Box::new(|_| Err(Error::unreachable("no route"))));
    stage.send_three(second_fails);
    let (error, lines) = stage.failed().await;
    assert!(error.contains("the record is in the dead letter queue too"), "{error}");
    let record = r#"[{"n":1,"do":"fail"}]"#;
    assert_eq!(lines[..2], [format!("send in vain {record}"), format!("send {record}")]);
}

#[tokio::test(start_paused = true)]
async fn with_tolerance_a_record_that_fails_is_skipped_and_committed_once_the_dead_letter_queue_has_it() {
    let stage = Stage::new(&[("errors.tolerance", "all"), ("errors.deadletterqueue.topic.name", "dead")]);
    stage.everything_is_durable();
    for _ in 0..2 {
        stage.dead_letters.then(Box::new(|_| Err(Error::unreachable("no route"))));
    }
    stage.send_three(second_fails);
    stage.journal.until("commit {a-0: 3}").await;
    let record = r#"[{"n":1,"do":"fail"}]"#;
    let in_vain = format!("send in vain {record}");
    assert_eq!(
        stage.journal.lines()[2..],
        [&*in_vain, &*in_vain, &*format!("send {record}"), "put a-0 [0, 2] up to 3", "commit {a-0: 3}"]
    );
    assert_eq!(stage.status.counters.failed.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_sink_reports_is_committed_once_the_dead_letter_queue_has_it() {
    let stage = Stage::new(&[("errors.tolerance", "all"), ("errors.deadletterqueue.topic.name", "dead")]);
    stage.everything_is_durable();
    stage
        .sink
        .put
        .then(Box::new(|context, batch| context.report(&batch.partition, &batch.records[0], Error::data("too long"))));
    stage.dead_letters.then(Box::new(|_| Err(Error::unreachable("no route"))));
    stage.send_three(well);
    stage.journal.until("commit {a-0: 3}").await;
    let record = r#"[{"n":0,"do":"pass"}]"#;
    let expected = [PUT, &*format!("send in vain {record}"), &*format!("send {record}"), "commit {a-0: 3}"];
    assert_eq!(stage.journal.lines()[2..], expected);
}

#[tokio::test(start_paused = true)]
async fn records_that_a_transformation_drops_move_the_position_on() {
    let stage = Stage::new(&[]);
    stage.everything_is_durable();
    stage.send_three(|_| "drop");
    stage.journal.until("commit {a-0: 3}").await;
    assert_eq!(stage.journal.lines()[2..], ["put a-0 [] up to 3", "commit {a-0: 3}"]);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_reports_more_than_it_was_given_is_stopped() {
    let stage = Stage::new(&[]);
    stage.send_three(well);
    stage.journal.until(PUT).await;
    stage.sink.flush.then(Box::new(|_, _| Ok(positions(&[(0, 4)]))));
    let (error, lines) = stage.failed().await;
    assert_eq!(error, "the sink says that a-0 is durable up to offset 4, beyond what it was given");
    assert_eq!(lines, [PUT, "close [a-0] Stopped", "stop", "leave"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_retries_and_commits_what_the_sink_took_of_the_batch() {
    let stage = Stage::new(&[]);
    let (stop, sink) = (stage.stop.clone(), Arc::clone(&stage.sink));
    stage.sink.put.then(Box::new(move |_, _| {
        // It took two records, then its store went away, and the stop comes.
        sink.flush.then(Box::new(|_, _| Ok(positions(&[(0, 2)]))));
        stop.cancel();
        Err(Error::unreachable("no route"))
    }));
    stage.send_three(well);
    stage.journal.until(PUT_IN_VAIN).await;
    let lines = stage.stopped().await;
    assert_eq!(lines, [PUT_IN_VAIN, "flush Closing", "commit {a-0: 2}", "close [a-0] Stopped", "stop", "leave"]);
}

#[tokio::test(start_paused = true)]
async fn a_rewind_is_applied_before_the_next_batch() {
    let stage = Stage::new(&[]);
    stage.sink.put.then(Box::new(|context, batch| {
        context.rewind(&batch.partition, 0);
        Ok(())
    }));
    stage.send_three(well);
    stage.send_three(well);
    stage.journal.until_times(PUT, 2).await;
    assert_eq!(stage.journal.lines()[2..], [PUT, "start at {a-0: 0}", PUT]);
}

#[tokio::test(start_paused = true)]
async fn consuming_goes_on_after_the_broker_was_away() {
    let stage = Stage::new(&[]);
    for _ in 0..20 {
        stage.send(Err(Error::unreachable("no broker")));
    }
    stage.send_three(well);
    stage.journal.until(PUT).await;
    assert!(matches!(stage.state(), TaskState::Running));
}

#[tokio::test(start_paused = true)]
async fn a_bounded_run_finishes_partly_filled_files_once_all_of_its_records_were_put() {
    let stage = Stage::new(&[]);
    stage.send(Ok(ConsumerEvent::Assigned(positions(&[(1, 5)]))));
    let others = BTreeMap::from([(partition(0), 3), (partition(1), 5), (partition(2), 9)]);
    stage.catch_up.send_replace(Some(Arc::new(others)));
    stage.send(batch(0, 0..2, well));
    // Partition 1 holds nothing new, partition 2 is another task's, partition 0 lacks a record.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(stage.journal.count("flush CaughtUp"), 0);
    stage.sink.flush.then(Box::new(|_, put| Ok(put.clone())));
    stage.everything_is_durable();
    stage.send(batch(0, 2..3, well));
    stage.journal.until("commit {a-0: 3}").await;
    assert_eq!(stage.journal.count("flush CaughtUp"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_task_over_its_share_of_the_memory_writes_early_before_it_takes_more() {
    let stage = Stage::new(&[]);
    stage.sink.put.then(Box::new(|context, _| {
        context.buffered(BUDGET + 1);
        Ok(())
    }));
    // For the first commit, which comes before any record.
    stage.sink.flush.then(Box::new(|_, _| Ok(Positions::new())));
    for left in [BUDGET * 2, 0] {
        // One flush frees nothing, and a later one everything.
        stage.sink.flush.then(Box::new(move |context, _| {
            context.buffered(left);
            Ok(Positions::new())
        }));
    }
    stage.send_three(well);
    stage.send_three(well);
    stage.journal.until_times(PUT, 2).await;
    let pressure = "flush Pressure";
    assert_eq!(stage.journal.lines()[2..], [PUT, pressure, pressure, PUT]);
}

#[tokio::test(start_paused = true)]
async fn a_neighbour_that_holds_all_the_memory_stops_only_itself() {
    let stage = Stage::new(&[]);
    stage.neighbour.set(BUDGET * 2);
    stage.sink.put.then(Box::new(|context, _| {
        context.buffered(BUDGET / 4);
        Ok(())
    }));
    stage.send_three(well);
    stage.send_three(well);
    stage.journal.until_times(PUT, 2).await;
    assert_eq!(stage.journal.count("flush Pressure"), 0);
}
