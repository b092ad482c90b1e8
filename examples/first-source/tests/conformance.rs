//! The first source against the suite: killed, dropped, resumed anywhere, it counts each number once.

use first_source::{FirstSource, FirstSourceConfig, PLUGINS};
use ottla_api::prelude::*;
use ottla_testkit::config_suite;
use ottla_testkit::source_suite::SourceSuite;

#[tokio::test]
async fn the_source_keeps_its_contract() {
    let options = Properties::from_iter([("topic", "numbers"), ("interval.ms", "0"), ("last", "20")]);
    let expected = (1..=20).map(|number| Record::new("numbers", Value::Int64(number))).collect();
    let tasks = |tasks_max| FirstSource.tasks(&options, tasks_max).unwrap();
    SourceSuite::new(20, || tasks(1).remove(0)).expecting(expected).bounded().tasks(tasks).run().await;
}

#[test]
fn options_and_plugin_are_described() {
    config_suite::check::<FirstSourceConfig>(&Properties::from_iter([("topic", "numbers")]));
    config_suite::check_plugins(PLUGINS);
}
