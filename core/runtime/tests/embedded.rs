//! The embedded broker: what every broker must do, and what it promises beyond that about crashes, disks and time.

use std::time::Duration;

use ottla_runtime::broker::conformance::Harness;
use ottla_runtime::broker::embedded::{EmbeddedBroker, RECORD_BYTES_MAX};
use ottla_runtime::storage::StateStore;

async fn harness() -> Harness {
    let folder = tempfile::tempdir().expect("make a folder");
    let store = StateStore::open(folder.path(), true).expect("open the state folder");
    let broker = EmbeddedBroker::open(store, 1, Duration::from_secs(3600)).expect("open the topics");
    Harness { keep: Some(Box::new(folder)), ..Harness::new(broker, RECORD_BYTES_MAX) }
}

ottla_runtime::broker_conformance!(harness);
