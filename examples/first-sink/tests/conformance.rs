//! The first sink against the suite: killed, revoked, given a batch twice, it loses nothing.

use first_sink::{FirstSink, FirstSinkConfig, PLUGINS};
use ottla_api::prelude::*;
use ottla_testkit::config_suite;
use ottla_testkit::sink_suite::SinkSuite;

#[tokio::test]
async fn the_sink_keeps_its_contract() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let task = |name: &str| FirstSink.task(&Properties::from_iter([("file", file(name).to_str().unwrap())])).unwrap();
    let read = |name: String| {
        let text = std::fs::read_to_string(file(&name)).unwrap();
        async move { text.lines().map(str::to_owned).collect() }
    };
    SinkSuite::new(task, read).at_least_once().run().await;
}

#[test]
fn options_and_plugin_are_described() {
    config_suite::check::<FirstSinkConfig>(&Properties::from_iter([("file", "out.jsonl")]));
    config_suite::check_plugins(PLUGINS);
}
