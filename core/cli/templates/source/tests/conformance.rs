//! The source against the suites of `ottla-testkit`: what a worker relies on.

use std::fs;
use std::path::Path;

use my_plugin::{MyPlugin, MyPluginConfig, PLUGINS};
use ottla_api::prelude::*;
use ottla_testkit::config_suite;
use ottla_testkit::source_suite::SourceSuite;

fn tasks(dir: &Path, batch_size: &str, tasks_max: usize) -> Vec<Box<dyn SourceTask>> {
    let options =
        [("dir", dir.to_str().unwrap()), ("topic", "numbers"), ("batch.size", batch_size), ("poll.interval.ms", "5")];
    MyPlugin.tasks(&Properties::from_iter(options), tasks_max).unwrap()
}

/// Stopped, dropped in the middle of a poll, started from the offset of any record: every line comes, once and in order.
#[tokio::test]
async fn the_source_keeps_its_contract() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("1.jsonl"), "0\n1\n2\n3\n").unwrap();
    fs::write(folder.path().join("2.jsonl"), "").unwrap();
    fs::write(folder.path().join("3.jsonl"), "4\n5\n6").unwrap();
    fs::write(folder.path().join(".4.jsonl"), "not ready").unwrap();
    let expected: Vec<Record> = (0..7).map(|number| Record::new("numbers", Value::Int64(number))).collect();
    for batch_size in ["1", "3", "500"] {
        SourceSuite::new(expected.len(), || tasks(folder.path(), batch_size, 1).remove(0))
            .expecting(expected.clone())
            .tasks(|tasks_max| tasks(folder.path(), batch_size, tasks_max))
            .run()
            .await;
    }
}

/// Options are documented, defaults valid, the plugin described.
#[test]
fn options_and_plugin_are_described() {
    config_suite::check::<MyPluginConfig>(&Properties::from_iter([("dir", "in"), ("topic", "numbers")]));
    config_suite::check_plugins(PLUGINS);
}
