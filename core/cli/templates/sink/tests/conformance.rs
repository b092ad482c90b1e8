//! The sink against the suites of `ottla-testkit`: what a worker relies on, and what this sink promises.

use std::fs;
use std::path::Path;

use my_plugin::{MyPlugin, MyPluginConfig, PLUGINS};
use ottla_api::prelude::*;
use ottla_testkit::config_suite;
use ottla_testkit::harness::SinkHarness;
use ottla_testkit::sink_suite::SinkSuite;

fn task(dir: &Path) -> Box<dyn SinkTask> {
    let properties = Properties::from_iter([("dir", dir.to_str().unwrap()), ("file.records", "3")]);
    MyPlugin.task(&properties).unwrap()
}

/// Every line of every file, the files in the order of their names.
fn lines(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "jsonl"));
    files.sort();
    files
        .iter()
        .flat_map(|file| fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// Killed at any batch, revoked, handed over, given the same batch twice: every record is in a file, once.
#[tokio::test]
async fn the_sink_keeps_its_contract() {
    let folder = tempfile::tempdir().unwrap();
    let dir = |name: &str| folder.path().join(name);
    let read = |name: String| {
        let found = lines(&dir(&name));
        async move { found }
    };
    SinkSuite::new(|name| task(&dir(name)), read).run().await;
}

/// Options are documented, defaults valid, the plugin described.
#[test]
fn options_and_plugin_are_described() {
    config_suite::check::<MyPluginConfig>(&Properties::from_iter([("dir", "out")]));
    config_suite::check_plugins(PLUGINS);
}

/// Offsets of a topic that was made anew mean other records, which must not be taken for the ones that are there.
#[tokio::test]
async fn files_of_an_earlier_topic_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let partition = TopicPartition::new("records", 0);
    let open = async |identity: &str| {
        let mut sink = SinkHarness::start(task(folder.path())).await.unwrap();
        sink.set_topic_identity(Some(identity));
        sink.open(&Positions::from([(partition.clone(), -1)])).await
    };
    open("first").await.unwrap();
    open("first").await.unwrap();
    let error = open("second").await.unwrap_err();
    assert!(error.to_string().starts_with("the files are of an earlier topic of this name"), "{error}");
}
