//! Several writers on one table while much goes wrong: by chance, from a seed that a failure prints.
//!
//! `OTTLA_SEED=<n>` runs that one alone, `OTTLA_STORM_SEEDS=<n>` chooses how many are run. The seed repeats the choices, not
//! the moments at which the writers meet.

mod support;

use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use object_store::memory::InMemory;
use ottla_testkit::fault::Random;
use parking_lot::Mutex;
use support::faults::{Call, Fault, Operation};
use support::lane::{Lane, Seen, check};

const END: i64 = 40;

fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    match number("OTTLA_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("OTTLA_STORM_SEEDS").unwrap_or(default),
    }
}

/// Faults by chance: one call in `one_in` meets one.
fn storm(seed: u64, one_in: u64) -> impl Fn(&Call<'_>) -> Fault + Send + Sync + 'static {
    let random = Mutex::new(Random::new(seed));
    move |call: &Call<'_>| {
        let mut random = random.lock();
        if random.below(one_in) > 0 {
            // A commit that is under way for a while meets those of others.
            let meets = call.operation == Operation::Create && random.below(3) == 0;
            return if meets { Fault::Slow(Duration::from_millis(random.below(15))) } else { Fault::None };
        }
        let writes = matches!(call.operation, Operation::Create | Operation::Put | Operation::Upload);
        match (writes, random.below(10)) {
            (true, 0..3) => Fault::Fail,
            (true, 3..6) => Fault::Lose,
            (true, 6..8) if call.operation == Operation::Create => Fault::Conflict,
            (true, 8) => Fault::DieBefore,
            (true, 9) => Fault::DieAfter,
            (false, 0..3) => Fault::Fail,
            (_, n) => Fault::Slow(Duration::from_millis(3 * n)),
        }
    }
}

/// Runs the lanes together, and compares what is in the table in the end.
async fn run(seed: u64, lanes: &[&[i32]], options: &[(&'static str, &'static str)], one_in: u64) -> Seen {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut tasks = Vec::new();
    for (number, partitions) in lanes.iter().enumerate() {
        let number = number as u64;
        let (partitions, options) = (partitions.to_vec(), options.to_vec());
        let lane = Lane { name: format!("lane {number}"), seed: seed * 10 + number, partitions, end: END, options };
        let store = Arc::clone(&store);
        let decide = move |process| storm(seed * 1000 + number * 100 + process, one_in);
        tasks.push(tokio::spawn(async move { lane.run(&store, decide).await }));
    }
    let mut all = Seen::default();
    for task in tasks {
        all.add(&task.await.expect("no panic").unwrap_or_else(|error| panic!("OTTLA_SEED={seed}: {error}")));
    }
    let mut partitions: Vec<i32> = lanes.concat();
    partitions.sort_unstable();
    partitions.dedup();
    if let Err(error) = check(&store, &partitions, END).await {
        panic!("OTTLA_SEED={seed}: {error}");
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_writers_of_different_partitions_do_not_hold_each_other_up() {
    let mut all = Seen::default();
    for seed in seeds(6) {
        let seen = run(seed, &[&[0, 1], &[2], &[3], &[4, 5]], &[("checkpoint.commits", "10")], 15).await;
        all.add(&seen);
    }
    eprintln!("{all:?}");
    assert!(all.counts.get("commits.conflicts").is_some_and(|n| *n > 0), "nothing happened: {all:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writers_of_the_same_partition_write_each_record_once() {
    let mut all = Seen::default();
    for seed in seeds(6) {
        all.add(&run(seed, &[&[0, 1], &[1, 0]], &[("checkpoint.commits", "10")], 15).await);
    }
    eprintln!("{all:?}");
    assert!(all.rewinds > 0, "nothing happened: {all:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_in_a_storm_changes_no_row() {
    let mut all = Seen::default();
    let options = [("checkpoint.commits", "5"), ("compact.interval.ms", "50")];
    for seed in seeds(3) {
        all.add(&run(seed, &[&[0], &[1], &[1]], &options, 25).await);
    }
    eprintln!("{all:?}");
}
