//! The public suites, over a folder and over a store in memory that fails at every single call.

mod double;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use double::{Double, Manners};
use ottla_api::prelude::*;
use ottla_connector_s3::{S3SinkConfig, S3SinkConnector, S3SinkTask};
use ottla_testkit::sink_suite::SinkSuite;

fn properties(root: &Path, bucket: &str, extra: &[(&str, &str)]) -> Properties {
    let url = format!("file:{}", root.display());
    let mut properties =
        Properties::from_iter([("s3.bucket.name", bucket), ("flush.size", "4"), ("store.url", url.as_str())]);
    for (key, value) in extra {
        properties.set(*key, *value);
    }
    properties
}

/// The lines of all objects in the order of their names, which within a partition is the order of offsets.
fn lines(objects: impl IntoIterator<Item = Vec<u8>>) -> Vec<String> {
    let text = |bytes| String::from_utf8(bytes).expect("objects hold UTF-8");
    objects
        .into_iter()
        .flat_map(|bytes| {
            assert_eq!(bytes.last(), Some(&b'\n'), "the last line ends too");
            text(bytes).lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

/// Every file below a folder, leaving out what begins with a dot, sorted by path.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.expect("readable");
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.path().is_dir() { found.extend(files(&entry.path())) } else { found.push(entry.path()) }
    }
    found.sort();
    found
}

#[tokio::test]
async fn the_sink_over_a_folder_passes_the_suite() {
    let root = tempfile::tempdir().unwrap();
    SinkSuite::new(
        |bucket| S3SinkConnector.task(&properties(root.path(), bucket, &[])).unwrap(),
        |bucket| {
            let files = files(&root.path().join(bucket));
            async move { lines(files.iter().map(|file| std::fs::read(file).unwrap())) }
        },
    )
    .run()
    .await;
}

#[tokio::test]
async fn the_sink_survives_a_fault_at_every_call() {
    let stores: RefCell<BTreeMap<String, Double>> = RefCell::default();
    let store = |name: &str| {
        stores.borrow_mut().entry(name.to_owned()).or_insert_with(|| Double::new(Manners::good(), 0)).clone()
    };
    // Small parts, so that the faults meet uploads in parts as well.
    let task = |store: Double| -> Box<dyn SinkTask> {
        let config = S3SinkConfig::from_properties(&properties(Path::new("/"), "b", &[])).unwrap();
        Box::new(S3SinkTask::new(&config, Arc::new(store)).with_part_size(250))
    };
    SinkSuite::new(
        |name| task(store(name)),
        |name| {
            let objects = store(&name).objects();
            let data = objects.into_iter().filter(|(key, _)| !key.contains("/."));
            let data: Vec<Vec<u8>> = data.map(|(_, bytes)| bytes.to_vec()).collect();
            async move { lines(data) }
        },
    )
    .faulty(|name, fault| task(store(name).with_fault(fault)))
    .run()
    .await;
}

#[test]
fn options_and_plugins_are_in_order() {
    ottla_testkit::config_suite::check_plugins(ottla_connector_s3::PLUGINS);
    ottla_testkit::config_suite::check::<S3SinkConfig>(&Properties::from_iter([
        ("s3.bucket.name", "lake"),
        ("flush.size", "100"),
    ]));
}
