//! The first transformation against the suite, and what it is for.

use first_transform::{FirstTransform, FirstTransformConfig, PLUGINS};
use ottla_api::data::json;
use ottla_api::prelude::*;
use ottla_testkit::config_suite;
use ottla_testkit::transformation_suite::TransformationSuite;

fn record(text: &str) -> Record {
    Record::new("names", json::parse(text.as_bytes()).unwrap())
}

fn transformation() -> FirstTransform {
    FirstTransform::new(&Properties::from_iter([("fields", "name")])).unwrap()
}

#[test]
fn the_transformation_keeps_its_contract() {
    let records = vec![record(r#"{"name":"Ada"}"#), record(r#"{"name":null}"#), record("[1]")];
    TransformationSuite::new(records, || Box::new(transformation())).run();
}

#[test]
fn only_the_named_fields_change() {
    let changed = transformation().apply(record(r#"{"name":"Ada","other":"Ada"}"#)).unwrap();
    assert_eq!(changed, Some(record(r#"{"name":"ADA","other":"Ada"}"#)));
}

#[test]
fn options_and_plugin_are_described() {
    config_suite::check::<FirstTransformConfig>(&Properties::from_iter([("fields", "name")]));
    config_suite::check_plugins(PLUGINS);
}
