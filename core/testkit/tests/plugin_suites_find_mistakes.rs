//! The suites for transformations, converters and options must fail where a plugin is wrong.

use bytes::Bytes;
use ottla_api::prelude::*;
use ottla_testkit::config_suite;
use ottla_testkit::converter_suite::ConverterSuite;
use ottla_testkit::transformation_suite::TransformationSuite;

/// Upper-cases the field `name`, rightly or with one mistake.
#[derive(Default, Clone, Copy, PartialEq)]
enum Upper {
    #[default]
    Right,
    Counts(i64),
    OnlyData,
    LosesPlace,
    FailsTheTask,
    ForgetsSchema,
}

impl Transformation for Upper {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        if *self == Self::OnlyData && matches!(record.value, Payload::Json(_)) {
            return Ok(Some(record));
        }
        if *self == Self::FailsTheTask && record.is_tombstone() {
            return Err(Error::fatal("no value"));
        }
        if let Value::Map(map) = record.value.value_mut()?
            && let Some(Value::String(name)) = map.get_mut("name")
        {
            *name = name.to_uppercase();
            if let Self::Counts(n) = self {
                *n += 1;
                map.insert("n", *n);
            }
        }
        if *self == Self::LosesPlace {
            record.offset = None;
        }
        if *self == Self::ForgetsSchema {
            record.value = Payload::with_schema(Schema::of(ottla_api::data::SchemaType::Int32), "text");
        }
        Ok(Some(record))
    }
}

fn run(upper: Upper) {
    let mut record = Record::new("t", Value::Null);
    record.value = Payload::json(Bytes::from_static(br#"{"name":"ann"}"#));
    TransformationSuite::new(vec![record], move || Box::new(upper)).run();
}

#[test]
fn a_right_transformation_passes() {
    run(Upper::Right);
}

#[test]
#[should_panic(expected = "the second time this record came out differently")]
fn a_transformation_that_remembers_is_found() {
    run(Upper::Counts(0));
}

#[test]
#[should_panic(expected = "text came out differently from data")]
fn a_transformation_that_looks_only_at_data_is_found() {
    run(Upper::OnlyData);
}

#[test]
#[should_panic(expected = "the offset was changed")]
fn a_transformation_that_loses_the_place_is_found() {
    run(Upper::LosesPlace);
}

#[test]
#[should_panic(expected = "an error about one record is PoisonRecord")]
fn a_transformation_that_fails_the_task_for_one_record_is_found() {
    run(Upper::FailsTheTask);
}

#[test]
#[should_panic(expected = "does not fit its schema")]
fn a_transformation_that_breaks_the_schema_is_found() {
    run(Upper::ForgetsSchema);
}

/// JSON without schemas, that cuts numbers.
struct Cutter;

impl Converter for Cutter {
    fn to_connect(&self, _topic: &str, bytes: Option<&Bytes>) -> Result<Payload> {
        bytes.map_or(Ok(Payload::null()), |bytes| Ok(Payload::schemaless(ottla_api::data::json::parse(bytes)?)))
    }

    fn from_connect(&self, _topic: &str, payload: &Payload) -> Result<Option<Bytes>> {
        if payload.is_null() {
            return Ok(None);
        }
        let mut text = Vec::new();
        payload.write_json(&Default::default(), &mut text);
        let text = String::from_utf8_lossy(&text).replace(".5", "");
        Ok(Some(text.into()))
    }
}

#[test]
#[should_panic(expected = "came back differently")]
fn a_converter_that_changes_data_is_found() {
    ConverterSuite::new(Box::new(Cutter)).schemaless(vec![Value::Int64(1), Value::Float64(1.5)]).run();
}

#[test]
fn a_converter_is_judged_by_what_it_supports() {
    ConverterSuite::new(Box::new(Cutter)).schemaless(vec![Value::Int64(1), "text".into()]).run();
}

/// Options with a mistake.
#[derive(Debug, Config)]
struct ShownPassword {
    /// The password of the database.
    #[config(name = "db.password")]
    _password: Option<String>,
}

/// Options with a mistake.
#[derive(Debug, Config)]
struct WrongDefault {
    /// How many there are at most.
    #[config(name = "n", default = "0", min = 1)]
    _n: usize,
}

/// Options without one.
#[derive(Debug, Config)]
struct RightOptions {
    /// Where the database is.
    #[config(name = "url", aliases = "old.url")]
    _url: String,
    /// Its password.
    #[config(name = "password")]
    _password: Option<Secret>,
    /// How many there are at most.
    #[config(name = "n", default = "5", min = 1)]
    _n: usize,
}

#[test]
fn right_options_pass() {
    config_suite::check::<RightOptions>(&Properties::from_iter([("url", "x")]));
}

#[test]
#[should_panic(expected = "db.password sounds like a secret, but would be shown")]
fn a_password_that_would_be_shown_is_found() {
    config_suite::check::<ShownPassword>(&Properties::new());
}

#[test]
#[should_panic(expected = "n: must be at least 1, found 0")]
fn a_default_that_is_not_valid_is_found() {
    config_suite::check::<WrongDefault>(&Properties::new());
}
