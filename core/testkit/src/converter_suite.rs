//! Conformance of a converter: data goes through bytes and comes back.
//!
//! | Check | Promise |
//! |---|---|
//! | [`round_trips`](ConverterSuite::round_trips) | every sample that the converter takes comes back as the same data, with the same schema where it keeps schemas |
//! | [`bytes_are_stable`](ConverterSuite::bytes_are_stable) | the same data gives the same bytes, also after a round trip |
//! | [`null_is_null`](ConverterSuite::null_is_null) | no bytes are null without a schema, and the other way round |
//! | [`hostile_bytes_fail_one_record`](ConverterSuite::hostile_bytes_fail_one_record) | any bytes at all give data or `PoisonRecord` |
//! | [`decoding_at_once_is_the_same`](ConverterSuite::decoding_at_once_is_the_same) | `to_connect_decoded` gives the data and the errors of `to_connect` |
//! | [`bytes_before_change_nothing`](ConverterSuite::bytes_before_change_nothing) | good or bad bytes that came before change nothing |

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use ottla_api::data::{Decimal, SchemaType};
use ottla_api::prelude::*;

use crate::fault::Random;
use crate::rule::rules;

rules! {
    sync ConverterSuite,
    round_trips: "every sample that the converter takes comes back as the same data, with the same schema where it keeps schemas",
    bytes_are_stable: "the same data gives the same bytes, also after a round trip",
    null_is_null: "no bytes are null without a schema, and the other way round",
    hostile_bytes_fail_one_record: "any bytes at all give data or `PoisonRecord`",
    decoding_at_once_is_the_same: "`to_connect_decoded` gives the data and the errors of `to_connect`",
    bytes_before_change_nothing: "good or bad bytes that came before change nothing",
}

/// The suite for one converter in one configuration.
pub struct ConverterSuite {
    converter: Box<dyn Converter>,
    samples: Vec<(Arc<Schema>, Vec<Value>)>,
    schemaless: Vec<Value>,
    keeps_schemas: bool,
}

impl ConverterSuite {
    /// A suite over all of [`samples`] with their schemas, which must come back with them.
    pub fn new(converter: Box<dyn Converter>) -> Self {
        Self { converter, samples: samples(), schemaless: Vec::new(), keeps_schemas: true }
    }

    /// Declares which schemas the converter supports; all by default.
    #[must_use]
    pub fn supporting(mut self, supported: impl Fn(&Schema) -> bool) -> Self {
        self.samples.retain(|(schema, _)| supported(schema));
        self
    }

    /// Declares that the format has no schemas: the suite goes over these values, which must come back without one.
    #[must_use]
    pub fn schemaless(mut self, values: Vec<Value>) -> Self {
        self.samples.clear();
        self.schemaless = values;
        self
    }

    /// Declares that the converter always answers with its own schema, not with the one that was written.
    #[must_use]
    pub fn with_its_own_schema(mut self) -> Self {
        self.keeps_schemas = false;
        self
    }

    /// Data comes back as it was.
    pub fn round_trips(&self) {
        for payload in self.payloads() {
            let (schema, value) = self.read(self.write(&payload).as_ref()).into_data().expect("just converted");
            let (due_schema, due) = payload.into_data().expect("samples are data");
            assert_eq!(value, due, "a value of {due_schema:?} came back differently");
            if self.keeps_schemas {
                assert_eq!(schema, due_schema, "the schema of {due:?} came back differently");
            }
        }
    }

    /// The same data gives the same bytes.
    pub fn bytes_are_stable(&self) {
        for payload in self.payloads() {
            let bytes = self.write(&payload);
            assert_eq!(self.write(&payload), bytes, "the second time {payload:?} became other bytes");
            let again = self.write(&self.read(bytes.as_ref()));
            assert_eq!(again, bytes, "after a round trip {payload:?} became other bytes");
        }
    }

    /// No bytes are null; null without a schema is no bytes.
    pub fn null_is_null(&self) {
        let null = self.read(None);
        assert!(null.is_null(), "no bytes are not null but {null:?}");
        let bytes = self.converter.from_connect("conformance", &Payload::null());
        assert_eq!(bytes.expect("null without a schema is converted"), None, "null without a schema must be no bytes");
    }

    /// Bytes that nobody should have written give data or an error about that record.
    pub fn hostile_bytes_fail_one_record(&self) {
        for bytes in self.hostile() {
            let outcome = self.converter.to_connect("conformance", Some(&bytes)).and_then(Payload::into_data);
            if let Err(error) = outcome {
                assert_eq!(error.kind(), ErrorKind::PoisonRecord, "bytes that can't be read fail one record: {error}");
            }
        }
    }

    /// Whatever bytes come, good or bad: decoded at once they are the same data, or the same kind of error.
    pub fn decoding_at_once_is_the_same(&self) {
        let good = self.payloads().filter_map(|payload| self.write(&payload)).collect::<Vec<_>>();
        for bytes in good.iter().chain(&self.hostile()) {
            let later = self.converter.to_connect("conformance", Some(bytes)).and_then(Payload::into_data);
            let at_once = self.converter.to_connect_decoded("conformance", Some(bytes)).and_then(Payload::into_data);
            match (later, at_once) {
                (Ok(later), Ok(at_once)) => {
                    assert_eq!(at_once, later, "decoded at once, {bytes:?} are other data than decoded later");
                }
                (Err(later), Err(at_once)) => {
                    assert_eq!(
                        at_once.kind(),
                        later.kind(),
                        "decoded at once, {bytes:?} fail differently: {at_once}, not: {later}"
                    );
                }
                (later, at_once) => panic!("decoded at once, {bytes:?} are {at_once:?}, and decoded later {later:?}"),
            }
        }
        let null = self.converter.to_connect_decoded("conformance", None);
        assert!(null.is_ok_and(|null| null.is_null()), "decoded at once, no bytes are not null");
    }

    /// What was converted before, good or bad, changes nothing: a converter is shared by all records of a task.
    pub fn bytes_before_change_nothing(&self) {
        let payloads: Vec<Payload> = self.payloads().collect();
        let bytes: Vec<Option<Bytes>> = payloads.iter().map(|payload| self.write(payload)).collect();
        let data: Vec<Payload> = bytes.iter().map(|bytes| self.read(bytes.as_ref())).collect();
        for hostile in self.hostile() {
            let _ = self.converter.to_connect("conformance", Some(&hostile));
        }
        // The other way round, so that each has other ones before it.
        for ((payload, bytes), data) in payloads.iter().zip(&bytes).zip(&data).rev() {
            assert_eq!(self.read(bytes.as_ref()), *data, "after other bytes, {bytes:?} became other data");
            assert_eq!(self.write(payload), *bytes, "after other data, {payload:?} became other bytes");
        }
    }

    /// Bytes that nobody should have written: random ones, beginnings of good ones, and good ones with one byte changed.
    fn hostile(&self) -> Vec<Bytes> {
        let mut random = Random::new(5);
        let mut hostile: Vec<Vec<u8>> = (0..300usize)
            .map(|length| (0..length % 40).map(|_| random.next_u64().to_le_bytes()[0]).collect())
            .collect();
        for payload in self.payloads() {
            let bytes = self.write(&payload).unwrap_or_default();
            hostile.push(bytes[..random.below(bytes.len() as u64 + 1) as usize].to_vec());
            let mut changed = bytes.to_vec();
            if !changed.is_empty() {
                let at = random.below(changed.len() as u64) as usize;
                changed[at] = random.next_u64().to_le_bytes()[0];
            }
            hostile.push(changed);
        }
        hostile.into_iter().map(Bytes::from).collect()
    }

    fn payloads(&self) -> impl Iterator<Item = Payload> {
        let with_schema = self.samples.iter().flat_map(|(schema, values)| {
            values.iter().map(|value| Payload::with_schema(schema.clone(), value.clone()))
        });
        with_schema.chain(self.schemaless.iter().map(|value| Payload::schemaless(value.clone())))
    }

    fn write(&self, payload: &Payload) -> Option<Bytes> {
        let bytes = self.converter.from_connect("conformance", payload);
        bytes.unwrap_or_else(|error| panic!("{payload:?} was refused: {error}"))
    }

    fn read(&self, bytes: Option<&Bytes>) -> Payload {
        let payload = self.converter.to_connect("conformance", bytes);
        let mut payload = payload.unwrap_or_else(|error| panic!("{bytes:?} could not be read: {error}"));
        payload.value().expect("a converter answers with valid JSON");
        payload
    }
}

impl fmt::Debug for ConverterSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConverterSuite({} schemas, {} schemaless values)", self.samples.len(), self.schemaless.len())
    }
}

/// A schema of every kind, each with values at its edges: all primitive types, the logical types, arrays, maps with text
/// keys and with others, structs within structs, optional ones, with names, versions, documentation, parameters, defaults.
pub fn samples() -> Vec<(Arc<Schema>, Vec<Value>)> {
    use SchemaType::{Boolean, Float32, Float64, Int8, Int16, Int32, Int64};
    let decimal = |text: &str| Value::Decimal(Decimal::parse(text).expect("digits"));
    let bytes = |bytes: &'static [u8]| Value::Bytes(Bytes::from_static(bytes));
    let mut samples: Vec<(Arc<Schema>, Vec<Value>)> = vec![
        (Schema::of(Boolean), vec![true.into(), false.into()]),
        (Schema::of(Int8), vec![i8::MIN.into(), 0i8.into(), i8::MAX.into()]),
        (Schema::of(Int16), vec![i16::MIN.into(), 0i16.into(), i16::MAX.into()]),
        (Schema::of(Int32), vec![i32::MIN.into(), 0i32.into(), i32::MAX.into()]),
        (Schema::of(Int64), vec![i64::MIN.into(), 0i64.into(), i64::MAX.into()]),
        (Schema::of(Float32), vec![0f32.into(), (-0.1f32).into(), f32::MAX.into(), f32::MIN_POSITIVE.into()]),
        (Schema::of(Float64), vec![0f64.into(), (-0.1).into(), 1e10.into(), f64::MAX.into(), f64::MIN_POSITIVE.into()]),
        (Schema::of(SchemaType::String), vec!["".into(), "a".into(), "«é😀»\n\"\\\u{1}".into(), "null".into()]),
        (Schema::of(SchemaType::Bytes), vec![bytes(b""), bytes(&[0, 0xff, 0x80]), bytes(b"text")]),
        (Schema::date().build(), vec![Value::Date(0), Value::Date(-719_468), Value::Date(18_502)]),
        (Schema::time().build(), vec![Value::Time(0), Value::Time(86_399_999)]),
        (
            Schema::timestamp().build(),
            vec![Value::Timestamp(0), Value::Timestamp(-1), Value::Timestamp(1_598_586_767_123)],
        ),
    ];
    for scale in [0, 2, 10] {
        let digits = |text: &str| match scale {
            0 => text.to_owned(),
            scale => format!("{text}.{}", "5".repeat(scale as usize)),
        };
        let values = ["0", "-1", "123456789012345678901234567890"].map(|text| decimal(&digits(text)));
        samples.push((Schema::decimal(scale).build(), values.to_vec()));
    }
    // Each of these may be missing, or be in a list, in a map, in a struct.
    for (schema, values) in samples.clone() {
        let optional = schema.to_builder().optional().build();
        samples.push((optional.clone(), values.iter().cloned().chain([Value::Null]).collect()));
        let with_null: Vec<Value> = values.iter().cloned().chain([Value::Null]).collect();
        samples.push((
            Schema::array(optional.clone()).build(),
            vec![Value::Array(Vec::new()), Value::Array(with_null.clone())],
        ));
        let map: Map = with_null.iter().enumerate().map(|(n, value)| (format!("k{n}"), value.clone())).collect();
        samples.push((
            Schema::map(Schema::of(SchemaType::String), optional.clone()).build(),
            vec![Value::Map(Map::new()), Value::Map(map)],
        ));
        let pairs = with_null.iter().zip(0i32..).map(|(value, n)| (Value::Int32(n), value.clone())).collect();
        samples.push((Schema::map(Schema::of(Int32), optional.clone()).build(), vec![Value::Pairs(pairs)]));
        let structure = Schema::structure()
            .name("sample.Inner")
            .version(3)
            .doc("a struct \"with\" everything")
            .parameter("k", "v")
            .field("required", schema.clone())
            .field("optional", optional)
            .field("has a default", schema.to_builder().default_value(values[0].clone()).build())
            .build();
        let inner = |last: &Value| {
            let fields = vec![last.clone(), Value::Null, last.clone()];
            Value::Struct(Struct::from_values(structure.clone(), fields).expect("three fields"))
        };
        let structs: Vec<Value> = values.iter().map(inner).collect();
        let outer = Schema::structure()
            .optional()
            .field("inner", structure.clone())
            .field("list", Schema::array(structure.clone()).build())
            .build();
        let nested = Struct::from_values(outer.clone(), vec![structs[0].clone(), Value::Array(structs.clone())]);
        samples.push((structure.clone(), structs));
        samples.push((outer, vec![Value::Struct(nested.expect("two fields")), Value::Null]));
    }
    samples
}
