//! Conformance of a predicate: the same answer for the same record, and the record is as it was.
//!
//! | Check | Promise |
//! |---|---|
//! | [`answers_as_expected`](PredicateSuite::answers_as_expected) | each record gets the answer that the test says, where it says one |
//! | [`is_deterministic`](PredicateSuite::is_deterministic) | a second instance, and the same one later, give the same answer |
//! | [`text_and_data_get_the_same_answer`](PredicateSuite::text_and_data_get_the_same_answer) | JSON text and its decoded form are one record |
//! | [`the_record_stays_untouched`](PredicateSuite::the_record_stays_untouched) | looking may decode a record, and changes nothing else |
//! | [`tombstones_get_an_answer_or_are_refused`](PredicateSuite::tombstones_get_an_answer_or_are_refused) | null keys and values never panic, and fail only the record |
//! | [`errors_are_about_the_record`](PredicateSuite::errors_are_about_the_record) | data of any type fails with `PoisonRecord` if at all |

use std::fmt;

use ottla_api::prelude::*;

use crate::converter_suite::samples;
use crate::harness::{as_text, decoded};
use crate::rule::rules;

rules! {
    sync PredicateSuite<'_>,
    answers_as_expected: "each record gets the answer that the test says, where it says one",
    is_deterministic: "a second instance, and the same one later, give the same answer",
    text_and_data_get_the_same_answer: "JSON text and its decoded form are one record",
    the_record_stays_untouched: "looking may decode a record, and changes nothing else",
    tombstones_get_an_answer_or_are_refused: "null keys and values never panic, and fail only the record",
    errors_are_about_the_record: "data of any type fails with `PoisonRecord` if at all",
}

/// The suite for one predicate in one configuration.
pub struct PredicateSuite<'a> {
    make: Box<dyn Fn() -> Box<dyn Predicate> + 'a>,
    records: Vec<Record>,
    expected: Option<Vec<bool>>,
}

impl<'a> PredicateSuite<'a> {
    /// A suite over these records, about which the predicate is asked: it must have an answer for every one of them.
    pub fn new(records: Vec<Record>, make: impl Fn() -> Box<dyn Predicate> + 'a) -> Self {
        Self { make: Box::new(make), records, expected: None }
    }

    /// The answers for the records, in their order.
    ///
    /// # Panics
    ///
    /// Where these are not as many as the records.
    #[must_use]
    pub fn expecting(mut self, answers: Vec<bool>) -> Self {
        assert_eq!(answers.len(), self.records.len(), "there is an answer for every record of the suite");
        self.expected = Some(answers);
        self
    }

    /// Each record gets the expected answer.
    pub fn answers_as_expected(&self) {
        let mut predicate = (self.make)();
        for (record, due) in self.records.iter().zip(self.expected.iter().flatten()) {
            assert_eq!(
                self.ask(&mut *predicate, record),
                *due,
                "the answer was to be {due} for this record: {record:?}"
            );
        }
    }

    /// The answers are the same from a second instance, and from the same instance a second time.
    pub fn is_deterministic(&self) {
        let (mut one, mut other) = ((self.make)(), (self.make)());
        for record in &self.records {
            let first = self.ask(&mut *one, record);
            assert_eq!(self.ask(&mut *one, record), first, "the second time the answer is another one: {record:?}");
            assert_eq!(self.ask(&mut *other, record), first, "another instance answers differently: {record:?}");
        }
    }

    /// A record that is still text and the same one decoded get the same answer.
    pub fn text_and_data_get_the_same_answer(&self) {
        for record in &self.records {
            let data = decoded(record.clone()).expect("the records of the suite hold valid JSON");
            let about_data = self.ask(&mut *(self.make)(), &data);
            let about_text = self.ask(&mut *(self.make)(), &as_text(data.clone()));
            assert_eq!(about_text, about_data, "text got another answer than data: {data:?}");
        }
    }

    /// The record is the same afterwards, apart from being decoded.
    pub fn the_record_stays_untouched(&self) {
        let mut predicate = (self.make)();
        for record in &self.records {
            let mut asked = record.clone();
            let _ = predicate.test(&mut asked);
            let before = decoded(record.clone()).expect("the records of the suite hold valid JSON");
            let after = decoded(asked).unwrap_or_else(|error| panic!("the record was changed into no JSON: {error}"));
            assert_eq!(after, before, "the predicate changed the record that it was asked about");
        }
    }

    /// Null values and keys get an answer, or fail that one record.
    pub fn tombstones_get_an_answer_or_are_refused(&self) {
        for record in &self.records {
            let tombstone = Record { value: Payload::null(), ..record.clone() };
            let keyless = Record { key: Payload::null(), ..record.clone() };
            let empty = Record { key: Payload::null(), ..tombstone.clone() };
            for record in [tombstone, keyless, empty] {
                self.may_refuse(record);
            }
        }
    }

    /// Whatever data comes, with a schema or without: an error is about the record, and nothing panics.
    pub fn errors_are_about_the_record(&self) {
        for (schema, values) in samples() {
            for value in values {
                let with_schema = Payload::with_schema(schema.clone(), value.clone());
                for payload in [with_schema, Payload::schemaless(value)] {
                    let mut record = Record::new("conformance", Value::Null);
                    record.key = payload.clone();
                    record.value = payload;
                    self.may_refuse(record);
                }
            }
        }
    }

    fn ask(&self, predicate: &mut dyn Predicate, record: &Record) -> bool {
        let answer = predicate.test(&mut record.clone());
        answer.unwrap_or_else(|error| panic!("a record of the suite was refused: {error}: {record:?}"))
    }

    fn may_refuse(&self, record: Record) {
        if let Err(error) = (self.make)().test(&mut record.clone()) {
            assert_eq!(
                error.kind(),
                ErrorKind::PoisonRecord,
                "an error about one record is PoisonRecord: {error}: {record:?}"
            );
        }
    }
}

impl fmt::Debug for PredicateSuite<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PredicateSuite({} records)", self.records.len())
    }
}
