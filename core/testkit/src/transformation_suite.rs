//! Conformance of a transformation: the same record always comes out the same, whatever form it came in.
//!
//! | Check | Promise |
//! |---|---|
//! | [`is_deterministic`](TransformationSuite::is_deterministic) | a second instance, and the same one later, give the same |
//! | [`text_and_data_come_out_the_same`](TransformationSuite::text_and_data_come_out_the_same) | JSON text and its decoded form are one record |
//! | [`tombstones_pass_or_are_refused`](TransformationSuite::tombstones_pass_or_are_refused) | null keys and values never panic, and fail only the record |
//! | [`errors_are_about_the_record`](TransformationSuite::errors_are_about_the_record) | data of any type fails with `PoisonRecord` if at all |
//! | [`the_place_stays`](TransformationSuite::the_place_stays) | the offset of a sink record is not touched |
//! | [`data_fits_its_schema`](TransformationSuite::data_fits_its_schema) | what has a schema fits it afterwards |

use std::fmt;

use ottla_api::prelude::*;

use crate::converter_suite::samples;
use crate::harness::decoded;

/// The suite for one transformation in one configuration.
pub struct TransformationSuite<'a> {
    make: Box<dyn Fn() -> Box<dyn Transformation> + 'a>,
    records: Vec<Record>,
}

impl<'a> TransformationSuite<'a> {
    /// A suite over these records, which the transformation is for: it must take every one of them.
    pub fn new(records: Vec<Record>, make: impl Fn() -> Box<dyn Transformation> + 'a) -> Self {
        Self { make: Box::new(make), records }
    }

    /// Runs every check.
    ///
    /// # Panics
    ///
    /// At the first promise that is broken, saying which.
    pub fn run(&self) {
        self.is_deterministic();
        self.text_and_data_come_out_the_same();
        self.tombstones_pass_or_are_refused();
        self.errors_are_about_the_record();
        self.the_place_stays();
        self.data_fits_its_schema();
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
            let mut text = data.clone();
            for payload in [&mut text.key, &mut text.value] {
                // Only what JSON can say comes back as the same data.
                let mut written = Vec::new();
                payload.write_json(&Default::default(), &mut written);
                let as_text = Payload::json(written.into());
                if payload.schema().is_none() && as_text.clone().value().ok() == payload.clone().value().ok() {
                    *payload = as_text;
                }
            }
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
