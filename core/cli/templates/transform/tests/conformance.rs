//! The transformation against the suites of `ottla-testkit`, and what it is for.

use my_plugin::{MyPlugin, MyPluginConfig, PLUGINS};
use ottla_api::data::json;
use ottla_api::prelude::*;
use ottla_testkit::config_suite;
use ottla_testkit::transformation_suite::TransformationSuite;

fn record(text: &str) -> Record {
    Record::new("records", json::parse(text.as_bytes()).unwrap())
}

fn transformation() -> MyPlugin {
    MyPlugin::new(&Properties::from_iter([("fields", "name"), ("length.max", "3")])).unwrap()
}

/// The same record comes out the same, tombstones pass, errors are about one record, data fits its schema.
#[test]
fn the_transformation_keeps_its_contract() {
    let records = [r#"{"name":"Brahmagupta"}"#, r#"{"name":null}"#, r#"{"other":1}"#].map(record).to_vec();
    TransformationSuite::new(records, || Box::new(transformation())).run();
}

#[test]
fn only_the_named_fields_are_shortened() {
    let cases = [
        (r#"{"name":"Brahmagupta","title":"Opened"}"#, r#"{"name":"Bra","title":"Opened"}"#),
        (r#"{"name":"äöüß"}"#, r#"{"name":"äöü"}"#),
        (r#"{"name":12345}"#, r#"{"name":12345}"#),
    ];
    for (before, after) in cases {
        assert_eq!(transformation().apply(record(before)).unwrap(), Some(record(after)), "{before}");
    }
}

/// Options are documented, defaults valid, the plugin described.
#[test]
fn options_and_plugin_are_described() {
    config_suite::check::<MyPluginConfig>(&Properties::from_iter([("fields", "name")]));
    config_suite::check_plugins(PLUGINS);
}
