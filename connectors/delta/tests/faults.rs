//! One fault at a time, at every write of the sink: it fails, its answer is lost, it meets a conflict that is none, the
//! process dies before or after it. Whatever it was, a fresh reader finds every record exactly once and in order.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use object_store::ObjectStore;
use object_store::memory::InMemory;
use ottla_api::prelude::*;
use ottla_connector_delta::store::Store;
use ottla_connector_delta::{DeltaSinkConfig, DeltaSinkTask};
use ottla_testkit::harness::SinkHarness;
use support::faults::{Call, Fault, FaultStore, Operation};
use support::lane::{BASE, Lane, Seen, TOPIC, check};

const PARTITIONS: [i32; 2] = [0, 1];
const END: i64 = 40;

fn lane(options: &[(&'static str, &'static str)]) -> Lane {
    let name = "lane".to_owned();
    Lane { name, seed: 7, partitions: PARTITIONS.to_vec(), end: END, options: options.to_vec() }
}

/// Runs the lane with the n-th call that `counts` struck by `fault`. Nothing where there are fewer calls.
async fn strike(fault: Fault, nth: u64, counts: fn(&Call<'_>) -> bool) -> Option<Seen> {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let (calls, struck) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let decide = |_process| {
        let (calls, struck) = (Arc::clone(&calls), Arc::clone(&struck));
        move |call: &Call<'_>| {
            if counts(call) && calls.fetch_add(1, Ordering::SeqCst) + 1 == nth {
                struck.store(true, Ordering::SeqCst);
                return fault;
            }
            Fault::None
        }
    };
    let ended = lane(&[]).run(&store, decide).await;
    let seen = ended.unwrap_or_else(|error| panic!("{fault:?} at call {nth}: {error}"));
    if let Err(error) = check(&store, &PARTITIONS, END).await {
        panic!("{fault:?} at call {nth}: {error}");
    }
    struck.load(Ordering::SeqCst).then_some(seen)
}

/// Strikes the first, the second, .. call until there are no more. The answer holds how many there were, and what was seen.
async fn strike_each(fault: Fault, counts: fn(&Call<'_>) -> bool) -> (u64, Seen) {
    let mut all = Seen::default();
    for nth in 1.. {
        match strike(fault, nth, counts).await {
            Some(seen) => all.add(&seen),
            None => return (nth - 1, all),
        }
    }
    unreachable!("the loop ends by itself")
}

fn writes(call: &Call<'_>) -> bool {
    matches!(call.operation, Operation::Create | Operation::Put | Operation::Upload)
}

fn commits(call: &Call<'_>) -> bool {
    call.operation == Operation::Create && call.path.contains("_delta_log")
}

fn reads(call: &Call<'_>) -> bool {
    matches!(call.operation, Operation::Get | Operation::List) && call.path.contains("_delta_log")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_fails_is_repeated() {
    let (struck, seen) = strike_each(Fault::Fail, writes).await;
    assert!(struck > 6, "only {struck} writes: nothing was tried");
    assert_eq!(seen.crashes, 0, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_is_lost_happens_once() {
    let (struck, seen) = strike_each(Fault::Lose, writes).await;
    assert!(struck > 6, "only {struck} writes: nothing was tried");
    assert!(seen.counts.get("commits.adopted").is_some_and(|n| *n > 2), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_that_is_none_is_no_conflict() {
    let (struck, seen) = strike_each(Fault::Conflict, commits).await;
    assert!(struck > 3, "only {struck} commits: nothing was tried");
    assert_eq!((seen.crashes, seen.rewinds), (0, 0), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_may_die_at_every_write() {
    for fault in [Fault::DieBefore, Fault::DieAfter] {
        let (struck, seen) = strike_each(fault, writes).await;
        assert!(struck > 6, "only {struck} writes: nothing was tried");
        assert_eq!(seen.crashes, struck, "{seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_read_is_read_later() {
    let (struck, seen) = strike_each(Fault::Fail, reads).await;
    assert!(struck > 2, "only {struck} reads: nothing was tried");
    assert_eq!(seen.crashes, 0, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_store_is_only_slow() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    lane(&[]).run(&store, |_| |_: &Call<'_>| Fault::Slow(Duration::from_millis(30))).await.unwrap();
    check(&store, &PARTITIONS, END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_that_never_succeed_stop_nothing() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let decide =
        |_| |call: &Call<'_>| if writes(call) && call.path.contains(".checkpoint") { Fault::Fail } else { Fault::None };
    let seen = lane(&[("checkpoint.commits", "2")]).run(&store, decide).await.unwrap();
    check(&store, &PARTITIONS, END).await.unwrap();
    assert!(seen.counts.get("commits").is_some_and(|n| *n > 3), "{seen:?}");
    assert!(seen.counts.get("maintenance.failures").is_some_and(|n| *n > 0), "{seen:?}");
    assert_eq!((seen.crashes, seen.counts.get("checkpoints")), (0, None), "{seen:?}");
}

/// However many partitions a task has, it reads the table's log back once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_partitions_cost_no_more_reads_of_the_log_than_one() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    lane(&[]).run(&store, |_| |_: &Call<'_>| Fault::None).await.unwrap();
    let open = async |partitions: i32| {
        let made = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&made);
        let faults = FaultStore::new(Arc::clone(&store), move |call| {
            counted.fetch_add(u64::from(reads(call)), Ordering::SeqCst);
            Fault::None
        });
        let properties = Properties::from_iter([("store.url", "file:unused"), ("delta.app.id", "app")]);
        let config = DeltaSinkConfig::from_properties(&properties).unwrap();
        let task = DeltaSinkTask::new(config, Store::over(faults as Arc<dyn ObjectStore>, BASE).unwrap());
        let mut harness = SinkHarness::start(Box::new(task)).await.unwrap();
        let partitions = (0..partitions).map(|number| (TopicPartition::new(TOPIC, number), -1));
        let positions = harness.open(&partitions.collect()).await.unwrap();
        harness.stop().await.unwrap();
        (made.load(Ordering::SeqCst), positions.into_values().filter(|position| *position > 0).collect::<Vec<_>>())
    };
    let (of_one, first) = open(1).await;
    let (of_many, both) = open(40).await;
    assert_eq!((first, both), (vec![END], vec![END, END]));
    assert!(of_many <= of_one, "{of_many} reads for 40 partitions, {of_one} for one");
}
