//! Asks whether a record has the field `name`, rightly or with one bug.

use bytes::Bytes;
use ottla_api::prelude::*;
use ottla_testkit::predicate_suite::PredicateSuite;

use crate::{Planted, every_bug_is_found};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bug {
    None,
    SaysTheOpposite,
    /// Every second answer is another one; `true` for the next.
    Alternates(bool),
    OnlyData,
    TakesTheNameOut,
    FailsTheTaskWithoutValue,
    FailsTheTaskForNumbers,
}

const BUGS: &[Planted<Bug>] = &[
    ("answers_as_expected", Bug::SaysTheOpposite, "the answer was to be true for this record"),
    ("is_deterministic", Bug::Alternates(false), "the second time the answer is another one"),
    ("text_and_data_get_the_same_answer", Bug::OnlyData, "text got another answer than data"),
    ("the_record_stays_untouched", Bug::TakesTheNameOut, "the predicate changed the record that it was asked about"),
    (
        "tombstones_get_an_answer_or_are_refused",
        Bug::FailsTheTaskWithoutValue,
        "an error about one record is PoisonRecord: there is no value",
    ),
    (
        "errors_are_about_the_record",
        Bug::FailsTheTaskForNumbers,
        "an error about one record is PoisonRecord: a number has no name",
    ),
];

impl Predicate for Bug {
    fn test(&mut self, record: &mut Record) -> Result<bool> {
        if *self == Self::OnlyData && matches!(record.value, Payload::Json(_)) {
            return Ok(false);
        }
        if *self == Self::FailsTheTaskWithoutValue && record.is_tombstone() {
            return Err(Error::fatal("there is no value"));
        }
        let value = record.value.value_mut()?;
        if *self == Self::FailsTheTaskForNumbers && matches!(value, Value::Int64(_)) {
            return Err(Error::fatal("a number has no name"));
        }
        let found = match value {
            Value::Map(map) if *self == Self::TakesTheNameOut => map.remove("name").is_some(),
            value => value.field("name").is_some(),
        };
        if let Self::Alternates(next) = self {
            *next = !*next;
            return Ok(found ^ *next);
        }
        Ok(found ^ (*self == Self::SaysTheOpposite))
    }
}

fn suite(bug: Bug) -> PredicateSuite<'static> {
    let record = |text: &'static str| {
        let mut record = Record::new("t", Value::Null);
        record.value = Payload::json(Bytes::from_static(text.as_bytes()));
        record
    };
    PredicateSuite::new(vec![record(r#"{"name":"ann"}"#), record(r#"{"age":7}"#)], move || Box::new(bug))
        .expecting(vec![true, false])
}

#[tokio::test]
async fn every_rule_for_predicates_finds_its_bug() {
    every_bug_is_found(PredicateSuite::RULES, BUGS, Bug::None, async |bug, rule| suite(bug).check(rule)).await;
    suite(Bug::None).run();
}
