//! Checkpoints, the clean-up of logs, compaction and vacuum, beside appends that go on.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use deltalake_core::logstore::LogStoreRef;
use object_store::ObjectStoreExt;
use ottla_api::prelude::*;
use ottla_connector_delta::store::{Store, StoreConfig};
use ottla_connector_delta::{Maintenance, MaintenanceConfig};
use support::faults::{Fault, FaultStore, Operation};
use support::{Host, append, create, file_count, names, numbers, open, position, until};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn config(extra: &[(&str, &str)]) -> MaintenanceConfig {
    MaintenanceConfig::from_properties(&Properties::from_iter(extra.iter().copied())).expect("valid")
}

fn store_in(folder: &Path) -> Store {
    let url = format!("file:{}", folder.display());
    let properties = Properties::from_iter([("store.url", url.as_str()), ("tables.dir", "")]);
    Store::new(&StoreConfig::from_properties(&properties).expect("valid")).expect("a folder is enough")
}

/// The version in the table's hint.
async fn hint(log_store: &LogStoreRef) -> Option<u64> {
    let found = log_store.object_store(None).get(&"_delta_log/_last_checkpoint".into()).await.ok()?;
    let hint: serde_json::Value =
        serde_json::from_slice(&found.bytes().await.expect("read")).expect("the hint is JSON");
    hint["version"].as_u64()
}

/// Makes the files below a folder look older.
fn age(folder: &Path, by: Duration) {
    for entry in std::fs::read_dir(folder).expect("list").map(|entry| entry.expect("list")) {
        if entry.path().is_file() {
            let file = std::fs::File::options().write(true).open(entry.path()).expect("open");
            file.set_modified(SystemTime::now() - by).expect("set the time");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_hold_every_file_and_every_position() {
    let folder = tempfile::tempdir().unwrap();
    let log_store = store_in(folder.path()).log_store("posts").unwrap();
    let host = Arc::new(Host::default());
    let maintenance = Maintenance::start(config(&[("checkpoint.commits", "10")]), &host.context());
    let mut table = create(&log_store, &[]).await;
    table = append(table, [-1], "once", 7).await.unwrap();
    for n in 0..33 {
        table = append(table, [n], "app", n + 1).await.unwrap();
        maintenance.committed("posts", &log_store, table.version().unwrap());
        if n % 10 == 8 {
            // The checkpoint of this round number, before the next one is wanted.
            until("the checkpoint is there", async || hint(&log_store).await >= Some(n as u64 + 2)).await;
        }
    }
    maintenance.stop().await;
    assert_eq!(hint(&log_store).await, Some(30));
    assert_eq!(host.count_of("checkpoints"), 3);
    assert_eq!(host.count_of("maintenance.failures"), 0);
    // Only the checkpoint can know of these files now.
    for name in names(&log_store, ".json").await {
        if name.as_str() < "_delta_log/00000000000000000030.json" {
            log_store.object_store(None).delete(&name.into()).await.unwrap();
        }
    }
    assert_eq!(file_count(&log_store).await, 34);
    assert_eq!(numbers(&log_store).await, (-1..33).collect::<Vec<_>>());
    assert_eq!(position(&log_store, "app").await, Some(33));
    assert_eq!(position(&log_store, "once").await, Some(7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_that_a_table_does_not_keep_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let log_store = store_in(folder.path()).log_store("posts").unwrap();
    let host = Arc::new(Host::default());
    let mut table = create(&log_store, &[("delta.logRetentionDuration", "interval 1 days")]).await;
    table = append(table, [-1], "once", 7).await.unwrap();
    for (round, until_version) in [(0, 12), (1, 20)] {
        let maintenance = Maintenance::start(config(&[("checkpoint.commits", "10")]), &host.context());
        while table.version().unwrap() < until_version {
            let n = i64::try_from(table.version().unwrap()).unwrap();
            table = append(table, [n], "app", n).await.unwrap();
            maintenance.committed("posts", &log_store, table.version().unwrap());
        }
        maintenance.stop().await;
        assert!(hint(&log_store).await >= Some(10 * (round + 1)));
        age(&folder.path().join("posts/_delta_log"), 2 * DAY);
    }
    let left = names(&log_store, ".json").await;
    assert_eq!(left.last().unwrap(), "_delta_log/00000000000000000020.json");
    assert!(left[0].as_str() >= "_delta_log/00000000000000000010.json", "{left:?}");
    assert_eq!(host.count_of("log.files.removed"), 21 - left.len() as u64);
    assert_eq!(numbers(&log_store).await, (-1..20).filter(|n| *n != 0).collect::<Vec<_>>());
    assert_eq!(position(&log_store, "once").await, Some(7));
    // The next commit is on top of it.
    let table = append(open(&log_store).await, [100], "app", 100).await.unwrap();
    assert_eq!(table.version(), Some(21));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_and_appends_are_in_nobodys_way() {
    let folder = tempfile::tempdir().unwrap();
    let log_store = store_in(folder.path()).log_store("posts").unwrap();
    let host = Arc::new(Host::default());
    let rules = [("checkpoint.commits", "5"), ("compact.interval.ms", "20"), ("checkpoint.interval.ms", "-1")];
    let maintenance = Maintenance::start(config(&rules), &host.context());
    let mut table = create(&log_store, &[]).await;
    let mut next = 0;
    until("something was compacted twice", async || {
        for _ in 0..10 {
            // From the snapshot before: what a compaction has committed meanwhile is no conflict.
            table = append(table.clone(), [next], "app", next + 1).await.expect("an append never loses");
            maintenance.committed("posts", &log_store, table.version().unwrap());
            next += 1;
        }
        let versions = names(&log_store, ".json").await.len() as i64;
        versions - 1 - next >= 2
    })
    .await;
    maintenance.stop().await;
    assert!(host.count_of("files.compacted") > 0);
    assert_eq!(numbers(&log_store).await, (0..next).collect::<Vec<_>>());
    assert_eq!(position(&log_store, "app").await, Some(next));
    assert!((file_count(&log_store).await as i64) < next);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vacuum_deletes_only_what_nobody_can_need() {
    let folder = tempfile::tempdir().unwrap();
    let log_store = store_in(folder.path()).log_store("posts").unwrap();
    let mut table = create(&log_store, &[]).await;
    for n in 0..3 {
        table = append(table, [n], "app", n + 1).await.unwrap();
    }
    let posts = folder.path().join("posts");
    std::fs::write(posts.join("part-never-committed.parquet"), "x").unwrap();
    age(&posts, 8 * DAY);
    std::fs::write(posts.join("part-not-committed-yet.parquet"), "x").unwrap();
    let host = Arc::new(Host::default());
    let rules = [("checkpoint.commits", "1"), ("vacuum.interval.ms", "10"), ("vacuum.retention.ms", "86400000")];
    let maintenance = Maintenance::start(config(&rules), &host.context());
    maintenance.committed("posts", &log_store, table.version().unwrap());
    until("a vacuum ran", async || host.count_of("files.vacuumed") > 0).await;
    maintenance.stop().await;
    assert_eq!(host.count_of("files.vacuumed"), 1);
    let left = names(&log_store, ".parquet").await;
    assert!(left.contains(&"part-not-committed-yet.parquet".to_owned()), "{left:?}");
    assert!(!left.contains(&"part-never-committed.parquet".to_owned()), "{left:?}");
    assert_eq!(numbers(&log_store).await, [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_fails_is_written_later() {
    let folder = tempfile::tempdir().unwrap();
    let inner = Store::folder_store(folder.path());
    let failed = AtomicBool::new(false);
    let faults = FaultStore::new(inner, move |call| {
        let checkpoint =
            matches!(call.operation, Operation::Put | Operation::Upload) && call.path.contains(".checkpoint");
        if checkpoint && !failed.swap(true, Ordering::SeqCst) { Fault::Fail } else { Fault::None }
    });
    let store = Store::over(faults, &format!("file://{}", folder.path().display())).unwrap();
    let log_store = store.log_store("posts").unwrap();
    let host = Arc::new(Host::default());
    let maintenance = Maintenance::start(config(&[("checkpoint.commits", "3")]), &host.context());
    let mut table = create(&log_store, &[]).await;
    for n in 0..3 {
        table = append(table, [n], "app", n + 1).await.unwrap();
        maintenance.committed("posts", &log_store, table.version().unwrap());
    }
    until("it failed", async || host.count_of("maintenance.failures") > 0).await;
    assert_eq!(hint(&log_store).await, None);
    table = append(table, [3], "app", 4).await.unwrap();
    maintenance.committed("posts", &log_store, table.version().unwrap());
    until("a checkpoint is there", async || hint(&log_store).await.is_some()).await;
    maintenance.stop().await;
    assert_eq!(numbers(&log_store).await, [0, 1, 2, 3]);
    assert_eq!(position(&log_store, "app").await, Some(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_writers_one_writes_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let log_store = store_in(folder.path()).log_store("posts").unwrap();
    let hosts: Vec<_> = (0..3).map(|_| Arc::new(Host::default())).collect();
    let rules = [("checkpoint.commits", "10"), ("checkpoint.interval.ms", "-1")];
    let tasks: Vec<_> = hosts.iter().map(|host| Maintenance::start(config(&rules), &host.context())).collect();
    let mut table = create(&log_store, &[]).await;
    for n in 0..25 {
        table = append(table, [n], "app", n + 1).await.unwrap();
        let version = table.version().unwrap();
        tasks[version as usize % 3].committed("posts", &log_store, version);
        if version % 10 == 0 {
            until("the checkpoint is there", async || hint(&log_store).await == Some(version)).await;
        }
    }
    for task in tasks {
        task.stop().await;
    }
    let written: Vec<_> = hosts.iter().map(|host| host.count_of("checkpoints")).collect();
    assert_eq!(written, [0, 1, 1], "version 10 was the second's, version 20 the third's");
    assert_eq!(file_count(&log_store).await, 25);
}
