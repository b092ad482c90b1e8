//! Upper-cases the field `name`, rightly or with one bug.

use bytes::Bytes;
use ottla_api::data::SchemaType;
use ottla_api::prelude::*;
use ottla_testkit::transformation_suite::TransformationSuite;

use crate::{Planted, every_bug_is_found};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bug {
    None,
    Lowers,
    Counts(i64),
    OnlyData,
    FailsTheTaskWithoutValue,
    FailsTheTaskForNumbers,
    /// Gives up for good once a record was not what it looks for; `true` when that has happened.
    GivesUp(bool),
    LosesPlace,
    ForgetsSchema,
}

const BUGS: &[Planted<Bug>] = &[
    ("yields_what_is_expected", Bug::Lowers, "this record was to come out differently"),
    ("is_deterministic", Bug::Counts(0), "the second time this record came out differently"),
    ("text_and_data_come_out_the_same", Bug::OnlyData, "text came out differently from data"),
    (
        "tombstones_pass_or_are_refused",
        Bug::FailsTheTaskWithoutValue,
        "an error about one record is PoisonRecord: there is no value",
    ),
    (
        "errors_are_about_the_record",
        Bug::FailsTheTaskForNumbers,
        "an error about one record is PoisonRecord: a number has no name",
    ),
    ("a_refused_record_leaves_no_trace", Bug::GivesUp(false), "this one came out differently"),
    ("the_place_stays", Bug::LosesPlace, "the offset was changed"),
    ("data_fits_its_schema", Bug::ForgetsSchema, "does not fit its schema"),
];

impl Transformation for Bug {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        if *self == Self::OnlyData && matches!(record.value, Payload::Json(_)) {
            return Ok(Some(record));
        }
        if *self == Self::FailsTheTaskWithoutValue && record.is_tombstone() {
            return Err(Error::fatal("there is no value"));
        }
        let value = record.value.value_mut()?;
        if *self == Self::FailsTheTaskForNumbers && matches!(value, Value::Int64(_)) {
            return Err(Error::fatal("a number has no name"));
        }
        match value {
            Value::Map(map) => {
                if let Some(Value::String(name)) = map.get_mut("name").filter(|_| *self != Self::GivesUp(true)) {
                    *name = if *self == Self::Lowers { name.to_lowercase() } else { name.to_uppercase() };
                    if let Self::Counts(n) = self {
                        *n += 1;
                        map.insert("n", *n);
                    }
                }
            }
            _ if matches!(self, Self::GivesUp(_)) => *self = Self::GivesUp(true),
            _ => {}
        }
        if *self == Self::LosesPlace {
            record.offset = None;
        }
        if *self == Self::ForgetsSchema {
            record.value = Payload::with_schema(Schema::of(SchemaType::Int32), "text");
        }
        Ok(Some(record))
    }
}

fn record(text: &'static str) -> Record {
    let mut record = Record::new("t", Value::Null);
    record.value = Payload::json(Bytes::from_static(text.as_bytes()));
    record
}

fn suite(bug: Bug) -> TransformationSuite<'static> {
    TransformationSuite::new(vec![record(r#"{"name":"ann"}"#)], move || Box::new(bug))
        .expecting(vec![Some(record(r#"{"name":"ANN"}"#))])
}

#[tokio::test]
async fn every_rule_for_transformations_finds_its_bug() {
    every_bug_is_found(TransformationSuite::RULES, BUGS, Bug::None, async |bug, rule| suite(bug).check(rule)).await;
    suite(Bug::None).run();
}
