//! Merges at whose commits something goes wrong: each fails, loses its answer or meets a conflict that is none, one after the
//! other. Whatever it was, the table holds the newest row of each key, and no deleted one.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use object_store::ObjectStore;
use object_store::memory::InMemory;
use ottla_api::prelude::*;
use ottla_connector_delta::store::Store;
use ottla_connector_delta::{DeltaSinkConfig, DeltaSinkTask};
use ottla_testkit::harness::SinkHarness;
use support::faults::{Call, Fault, FaultStore, Operation};
use support::lane::{BASE, TOPIC};

const END: i64 = 24;
const KEYS: i64 = 5;

/// Offsets in steps of 3 over 5 keys; every seventh record deletes its key.
fn record(offset: i64) -> SinkRecord {
    let id = offset * 3 % KEYS;
    let mut record = Record::new(TOPIC, Value::Null);
    record.key = Payload::json(format!("{{\"id\":{id}}}").into());
    record.value = match offset % 7 {
        6 => Payload::null(),
        _ => Payload::json(format!("{{\"id\":{id},\"n\":{offset}}}").into()),
    };
    SinkRecord { record, raw: RawRecord { offset, ..RawRecord::default() } }
}

/// What a map would hold in the end.
fn expected() -> Vec<i64> {
    let mut rows = std::collections::BTreeMap::new();
    for offset in 0..END {
        let key = offset * 3 % KEYS;
        if offset % 7 == 6 {
            rows.remove(&key)
        } else {
            rows.insert(key, offset)
        };
    }
    let mut rows: Vec<i64> = rows.into_values().collect();
    rows.sort_unstable();
    rows
}

/// Runs with the n-th commit struck. Answers how many commits there were, and how many of ours were found without an answer.
async fn strike(fault: Fault, nth: u64) -> (u64, u64) {
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let faults = FaultStore::new(Arc::clone(&inner), move |call: &Call<'_>| {
        let commit = call.operation == Operation::Create && call.path.contains("_delta_log");
        if commit && counted.fetch_add(1, Ordering::SeqCst) + 1 == nth { fault } else { Fault::None }
    });
    let properties = Properties::from_iter([
        ("store.url", "file:unused"),
        ("delta.app.id", "app"),
        ("delta.mode", "upsert"),
        ("upsert.key", "id"),
    ]);
    let config = DeltaSinkConfig::from_properties(&properties).unwrap();
    let store = Store::over(faults as Arc<dyn ObjectStore>, BASE).unwrap();
    let mut harness = SinkHarness::start(Box::new(DeltaSinkTask::new(config, store))).await.unwrap();
    let partition = TopicPartition::new(TOPIC, 0);
    harness.open(&Positions::from([(partition.clone(), -1)])).await.unwrap();
    for from in (0..END).step_by(4) {
        let (records, next_offset) = ((from..from + 4).map(record).collect(), from + 4);
        harness.put(SinkBatch { partition: partition.clone(), records, next_offset }).await.unwrap();
        harness.flush(FlushReason::CaughtUp).await.unwrap();
        assert_eq!(harness.take_rewinds(), [], "{fault:?} at commit {nth}");
    }
    let adopted = harness.counts()["commits.adopted"];
    harness.stop().await.unwrap();
    let log_store = Store::over(inner, BASE).and_then(|store| store.log_store(TOPIC)).unwrap();
    let mut found = support::column(&log_store, "n").await;
    found.sort_unstable();
    assert_eq!(found, expected(), "{fault:?} at commit {nth}");
    assert_eq!(support::position(&log_store, "ottla/app/posts/0").await, Some(END), "{fault:?} at commit {nth}");
    (calls.load(Ordering::SeqCst), adopted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_whose_commit_goes_wrong_happens_once() {
    let (commits, _) = strike(Fault::None, 1).await;
    assert!(commits > 6, "only {commits} commits: nothing was tried");
    for fault in [Fault::Fail, Fault::Lose, Fault::Conflict] {
        let mut found = 0;
        for nth in 1..=commits {
            let (_, adopted) = strike(fault, nth).await;
            found += adopted;
        }
        // All but the table's creation are commits of rows.
        assert_eq!(found, if fault == Fault::Lose { commits - 1 } else { 0 }, "{fault:?}");
    }
}
