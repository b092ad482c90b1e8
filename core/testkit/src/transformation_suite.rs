//! Conformance of a transformation: the same record always comes out the same, whatever form it came in.
//!
//! | Check | Promise |
//! |---|---|
//! | [`yields_what_is_expected`](TransformationSuite::yields_what_is_expected) | each record comes out as the test says, where it says so |
//! | [`is_deterministic`](TransformationSuite::is_deterministic) | a second instance, and the same one later, give the same |
//! | [`text_and_data_come_out_the_same`](TransformationSuite::text_and_data_come_out_the_same) | JSON text and its decoded form are one record |
//! | [`tombstones_pass_or_are_refused`](TransformationSuite::tombstones_pass_or_are_refused) | null keys and values never panic, and fail only the record |
//! | [`errors_are_about_the_record`](TransformationSuite::errors_are_about_the_record) | data of any type fails with `PoisonRecord` if at all |
//! | [`a_refused_record_leaves_no_trace`](TransformationSuite::a_refused_record_leaves_no_trace) | an error about one record changes nothing about those that follow |
//! | [`the_place_stays`](TransformationSuite::the_place_stays) | the offset of a sink record is not touched |
//! | [`data_fits_its_schema`](TransformationSuite::data_fits_its_schema) | what has a schema fits it afterwards |

use std::fmt;

use ottla_api::prelude::*;

use crate::converter_suite::samples;
use crate::harness::{as_text, decoded};
use crate::rule::rules;

rules! {
    sync TransformationSuite<'_>,
    yields_what_is_expected: "each record comes out as the test says, where it says so",
    is_deterministic: "a second instance, and the same one later, give the same",
    text_and_data_come_out_the_same: "JSON text and its decoded form are one record",
    tombstones_pass_or_are_refused: "null keys and values never panic, and fail only the record",
    errors_are_about_the_record: "data of any type fails with `PoisonRecord` if at all",
    a_refused_record_leaves_no_trace: "an error about one record changes nothing about those that follow",
    the_place_stays: "the offset of a sink record is not touched",
    data_fits_its_schema: "what has a schema fits it afterwards",
}

/// The suite for one transformation in one configuration.
pub struct TransformationSuite<'a> {
    make: Box<dyn Fn() -> Box<dyn Transformation> + 'a>,
    records: Vec<Record>,
    expected: Option<Vec<Option<Record>>>,
}

impl<'a> TransformationSuite<'a> {
    /// A suite over these records, which the transformation is for: it must take every one of them.
    pub fn new(records: Vec<Record>, make: impl Fn() -> Box<dyn Transformation> + 'a) -> Self {
        Self { make: Box::new(make), records, expected: None }
    }

    /// What comes out of each of the records, in their order; nothing where it is dropped.
    ///
    /// # Panics
    ///
    /// Where these are not as many as the records.
    #[must_use]
    pub fn expecting(mut self, outcomes: Vec<Option<Record>>) -> Self {
        assert_eq!(outcomes.len(), self.records.len(), "there is an outcome for every record of the suite");
        let decode = |record| decoded(record).expect("the expected records hold valid JSON");
        self.expected = Some(outcomes.into_iter().map(|outcome| outcome.map(decode)).collect());
        self
    }

    /// Each record comes out as expected.
    pub fn yields_what_is_expected(&self) {
        let mut transformation = (self.make)();
        for (record, due) in self.records.iter().zip(self.expected.iter().flatten()) {
            assert_eq!(
                self.take(&mut *transformation, record),
                *due,
                "this record was to come out differently: {record:?}"
            );
        }
    }

    /// The records come out the same from a second instance, and from the same instance a second time.
    pub fn is_deterministic(&self) {
        if !(self.make)().is_deterministic() {
            return;
        }
        let (mut one, mut other) = ((self.make)(), (self.make)());
        for record in &self.records {
            let first = self.take(&mut *one, record);
            assert_eq!(
                self.take(&mut *one, record),
                first,
                "the second time this record came out differently: {record:?}"
            );
            assert_eq!(self.take(&mut *other, record), first, "another instance changed this differently: {record:?}");
        }
    }

    /// A record that is still text and the same one decoded come out as the same data.
    pub fn text_and_data_come_out_the_same(&self) {
        for record in &self.records {
            let data = decoded(record.clone()).expect("the records of the suite hold valid JSON");
            let text = as_text(data.clone());
            // Fresh ones: a transformation that remembers may drop the second of two equal records.
            let from_data = self.take(&mut *(self.make)(), &data);
            assert_eq!(
                self.take(&mut *(self.make)(), &text),
                from_data,
                "text came out differently from data: {data:?}"
            );
        }
    }

    /// Null values and keys pass, or fail that one record.
    pub fn tombstones_pass_or_are_refused(&self) {
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

    /// After records that were refused, or only taken, the others come out as they would have without.
    pub fn a_refused_record_leaves_no_trace(&self) {
        if !(self.make)().is_deterministic() {
            return;
        }
        let hostile: Vec<Record> = samples()
            .into_iter()
            .flat_map(|(schema, values)| {
                values.into_iter().map(move |value| {
                    let mut record = Record::new("conformance", Value::Null);
                    record.key = Payload::with_schema(schema.clone(), value);
                    record.value = record.key.clone();
                    record
                })
            })
            .collect();
        for record in &self.records {
            let due = self.take(&mut *(self.make)(), record);
            let mut one = (self.make)();
            let refused = hostile.iter().filter(|record| one.apply((*record).clone()).is_err()).count();
            assert_eq!(
                self.take(&mut *one, record),
                due,
                "after other records ({refused} were refused) this one came out differently: {record:?}"
            );
        }
    }

    /// The offset, by which the runtime knows a sink record, stays.
    pub fn the_place_stays(&self) {
        let mut transformation = (self.make)();
        for (offset, record) in self.records.iter().enumerate() {
            let record = Record { offset: Some(offset as i64), ..record.clone() };
            if let Some(changed) = self.take(&mut *transformation, &record) {
                assert_eq!(changed.offset, record.offset, "the offset was changed");
            }
        }
    }

    /// A value whose payload has a schema fits it.
    pub fn data_fits_its_schema(&self) {
        let mut transformation = (self.make)();
        for record in &self.records {
            let Some(changed) = self.take(&mut *transformation, record) else { continue };
            for payload in [changed.key, changed.value] {
                if let (Some(schema), value) = payload.into_data().expect("decoded") {
                    schema.check(&value).unwrap_or_else(|error| panic!("{error}: {value:?} does not fit its schema"));
                }
            }
        }
    }

    fn take(&self, transformation: &mut dyn Transformation, record: &Record) -> Option<Record> {
        let changed = transformation.apply(record.clone());
        let changed = changed.unwrap_or_else(|error| panic!("a record of the suite was refused: {error}: {record:?}"));
        changed.map(|record| decoded(record).expect("a transformation leaves valid JSON"))
    }

    fn may_refuse(&self, record: Record) {
        if let Err(error) = (self.make)().apply(record.clone()) {
            assert_eq!(
                error.kind(),
                ErrorKind::PoisonRecord,
                "an error about one record is PoisonRecord: {error}: {record:?}"
            );
        }
    }
}

impl fmt::Debug for TransformationSuite<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransformationSuite({} records)", self.records.len())
    }
}
