//! What crosses the plugin boundary comes out as it went in, and whatever else comes in is refused without harm.

use std::sync::Arc;

use bytes::Bytes;
use ottla_api::boundary::body::Applied;
use ottla_api::boundary::flat::{self, Encoder, Flat, ReceivedSchemas, SentSchemas};
use ottla_api::boundary::message::{self, Received};
use ottla_api::data::{Decimal, Map, Schema, SchemaType, Struct, Value};
use ottla_api::header::{Header, Headers};
use ottla_api::prelude::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        any::<i16>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // No NaN: it is not equal to itself.
        any::<i32>().prop_map(|n| Value::from(n as f32 / 8.0)),
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
        "[1-9][0-9]{0,40}".prop_map(|digits| Value::Number(digits.into())),
        any::<String>().prop_map(Value::from),
        vec(any::<u8>(), 0..20).prop_map(|bytes| Value::Bytes(bytes.into())),
        (vec(any::<u8>(), 1..9), -9i32..9)
            .prop_map(|(unscaled, scale)| Value::Decimal(Decimal { unscaled: unscaled.into(), scale })),
        any::<i32>().prop_map(Value::Date),
        any::<i32>().prop_map(Value::Time),
        any::<i64>().prop_map(Value::Timestamp),
    ]
}

/// A struct whose fields have schemas of their own, with a default that is a struct of another schema.
fn structure(fields: Vec<(String, i64)>) -> Value {
    let inner = Schema::structure().field("n", Schema::of(SchemaType::Int64)).name("inner").build();
    let mut default = Struct::new(Arc::clone(&inner));
    default.put("n", 7i64).unwrap();
    let mut builder = Schema::structure().name("outer").version(3).doc("a doc").parameter("p", "q").optional();
    for index in 0..fields.len() {
        builder = builder.field(format!("f{index}"), Schema::optional(SchemaType::Int64));
    }
    builder = builder.field("inner", inner.to_builder().default_value(Value::Struct(default.clone())).build());
    builder = builder.field("list", Schema::array(Schema::timestamp().build()).build());
    builder = builder.field("map", Schema::map(Schema::of(SchemaType::String), Schema::decimal(2).build()).build());
    let mut values: Vec<Value> = fields.into_iter().map(|(_, n)| n.into()).collect();
    values.push(Value::Struct(default));
    values.push(Value::Array(vec![Value::Timestamp(1)]));
    values.push(Value::Null);
    Value::Struct(Struct::from_values(builder.build(), values).unwrap())
}

fn value() -> impl Strategy<Value = Value> {
    let structures = vec((any::<String>(), any::<i64>()), 0..4).prop_map(structure);
    prop_oneof![leaf(), structures].prop_recursive(4, 64, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::Array),
            vec((any::<String>(), inner.clone()), 0..6)
                .prop_map(|fields| Value::Map(fields.into_iter().collect::<Map>())),
            vec((inner.clone(), inner), 0..4).prop_map(Value::Pairs),
        ]
    })
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        Just(Payload::null()),
        "[a-z]{0,30}".prop_map(|text| Payload::Json(format!("{{\"a\":\"{text}\"}}").into())),
        // Larger than what is copied.
        Just(Payload::Json(format!("\"{}\"", "x".repeat(message::SMALL + 5)).into())),
        value().prop_map(Payload::schemaless),
        value().prop_map(|value| match &value {
            Value::Struct(fields) => Payload::with_schema(Arc::clone(fields.schema()), value.clone()),
            _ => Payload::with_schema(Schema::optional(SchemaType::String), value),
        }),
    ]
}

fn headers() -> impl Strategy<Value = Headers> {
    let header = (any::<String>(), value()).prop_map(|(key, value)| Header { key, value, schema: None });
    prop_oneof![3 => Just(Headers::new()), 1 => vec(header, 1..4).prop_map(|headers| headers.into_iter().collect())]
}

prop_compose! {
    fn record()(
        topic in prop_oneof![3 => Just("t".to_owned()), 1 => "[a-z]{1,9}"],
        partition in prop::option::of(0..9),
        key in payload(),
        value in payload(),
        timestamp in prop::option::of(any::<i32>()),
        headers in headers(),
        offset in prop::option::of(any::<i32>()),
    ) -> Record {
        let (timestamp, offset) = (timestamp.map(i64::from), offset.map(i64::from));
        Record { topic: topic.into(), partition, key, value, timestamp, headers, offset }
    }
}

fn bytes() -> impl Strategy<Value = Option<Bytes>> {
    prop::option::of(prop_oneof![
        vec(any::<u8>(), 0..40).prop_map(Bytes::from),
        Just(Bytes::from(vec![7; message::SMALL + 1]))
    ])
}

prop_compose! {
    fn sink_record()(
        record in record(), key in bytes(), value in bytes(), offset in 0i64..1000, usual in any::<bool>(),
        raw_headers in vec((any::<String>(), bytes()), 0..2),
    ) -> SinkRecord {
        let mut record = record;
        let mut raw = RawRecord { offset, timestamp: Some(5), key, value, headers: raw_headers };
        if usual {
            // As most are: what came is what goes on.
            raw.headers.clear();
            record.topic = "t".into();
            (record.partition, record.timestamp, record.offset) = (Some(3), raw.timestamp, Some(offset));
            record.headers = Headers::new();
            if let Some(value) = &raw.value {
                record.value = Payload::Json(value.clone());
            }
        }
        SinkRecord { record, raw }
    }
}

/// A message as the other side receives it.
fn received(message: ottla_api::boundary::abi::Message) -> Received {
    // SAFETY: made by this very side for nobody else.
    #[allow(unsafe_code)]
    unsafe {
        Received::new(message)
    }
}

proptest! {
    #[test]
    fn a_record_comes_out_as_it_went_in(records in vec(record(), 1..5)) {
        // One pair of tables for all, as for one object: schemas are announced once.
        let (mut sent, mut known) = (SentSchemas::default(), ReceivedSchemas::default());
        for record in records {
            let there = received(message::message(&record, &mut sent));
            prop_assert_eq!(&there.read_with::<Record>(&mut known).unwrap(), &record);
        }
    }

    #[test]
    fn a_batch_comes_out_as_it_went_in(batches in vec(vec(sink_record(), 0..6), 1..4)) {
        let (mut sent, mut known) = (SentSchemas::default(), ReceivedSchemas::default());
        for records in batches {
            let batch = SinkBatch { partition: TopicPartition::new("t", 3), records, next_offset: 1000 };
            let there = received(message::sink_batch(&batch, &mut sent));
            let read = message::read_sink_batch(there, &mut known).unwrap();
            prop_assert_eq!((&read.partition, read.next_offset), (&batch.partition, batch.next_offset));
            prop_assert_eq!(read.records.len(), batch.records.len());
            for (read, written) in read.records.iter().zip(&batch.records) {
                prop_assert_eq!((&read.record, &read.raw), (&written.record, &written.raw));
            }
        }
    }

    #[test]
    fn records_of_a_source_come_out_as_they_went_in(polls in vec(vec((record(), 0..3, any::<i64>()), 0..6), 1..4)) {
        let (mut sent, mut known) = (SentSchemas::default(), ReceivedSchemas::default());
        for poll in polls {
            let records: Vec<SourceRecord> = poll.into_iter().map(|(record, table, row)| {
                SourceRecord::new(record, SourcePartition::new([("table", i64::from(table))]), SourceOffset::new([("row", row)]))
            }).collect();
            let there = received(message::source_records(&(0u8, SourceOffsets::new()), &records, &mut sent));
            prop_assert_eq!(&message::read_source_records(there, &mut known).unwrap(), &records);
        }
    }

    /// A byte that is wrong gives an error or something else, never a panic, and never more memory than there are bytes.
    #[test]
    fn what_is_damaged_does_no_harm(record in record(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut sent = SentSchemas::default();
        let mut bytes = Vec::new();
        record.write(&mut Encoder { bytes: &mut bytes, schemas: &mut sent });
        let announced = sent.announce();
        let mut known = ReceivedSchemas::default();
        known.learn(&announced).unwrap();
        let place = at.index(bytes.len());
        bytes[place] = byte;
        let _ = flat::from_bytes_with::<Record>(&bytes, known.all());
        bytes.truncate(cut.index(bytes.len()));
        let _ = flat::from_bytes_with::<Record>(&bytes, known.all());
        let _ = flat::from_bytes_with::<Record>(&bytes, &[]);
        let mut announced = announced;
        if !announced.is_empty() {
            let place = at.index(announced.len());
            announced[place] = byte;
            let _ = ReceivedSchemas::default().learn(&announced);
        }
    }

    #[test]
    fn an_error_keeps_kind_message_facts_and_cause(message in ".{0,20}", fact in ".{0,9}", cause in "[a-z]{1,9}") {
        let error = Error::retriable(message).with("object", fact).caused_by(cause);
        let read: Error = flat::from_bytes(&flat::to_bytes(&error)).unwrap();
        prop_assert_eq!((read.kind(), read.to_string()), (error.kind(), error.to_string()));
    }
}

#[test]
fn schemas_are_announced_once_and_keep_their_identity() {
    let (mut sent, mut known) = (SentSchemas::default(), ReceivedSchemas::default());
    let schema = Schema::of(SchemaType::Int64);
    let payload = Payload::with_schema(schema, 1i64);
    let mut schemas = Vec::new();
    for turn in 0..3 {
        let there = received(message::message(&payload, &mut sent));
        assert_eq!(there.schemas().is_empty(), turn > 0, "announced with the first message only");
        let Payload::Data { schema: Some(schema), .. } = there.read_with(&mut known).unwrap() else { panic!() };
        schemas.push(schema);
    }
    assert!(
        schemas.windows(2).all(|pair| Arc::ptr_eq(&pair[0], &pair[1])),
        "whoever caches by schema finds the same one"
    );
    // Somebody who makes a schema for every record does not fill the memory.
    for _ in 0..3000 {
        let payload = Payload::with_schema(Schema::of(SchemaType::Int64), 1i64);
        let there = received(message::message(&payload, &mut sent));
        assert_eq!(there.read_with::<Payload>(&mut known).unwrap(), payload);
        assert!(known.all().len() <= 1100);
    }
}

#[test]
fn a_nesting_without_end_is_refused() {
    let mut bytes = Vec::new();
    for _ in 0..100_000 {
        bytes.push(flat::tag::ARRAY);
        bytes.extend(1u32.to_le_bytes());
    }
    let error = flat::from_bytes::<Value>(&bytes).unwrap_err();
    assert!(error.to_string().contains("nested too deeply"), "{error}");
    // A length that can't be: no memory is asked for.
    let list = [[flat::tag::ARRAY].as_slice(), &u32::MAX.to_le_bytes()].concat();
    assert!(flat::from_bytes::<Value>(&list).unwrap_err().to_string().contains("longer than what is left"));
}

#[test]
fn a_payload_that_a_transformation_left_alone_is_not_sent_back() {
    let text = Bytes::from_static(b"{\"a\":1}");
    let mut record = Record::new("t", Value::Null);
    record.value = Payload::Json(text.clone());
    let applied = Applied::new(record.clone(), &(None, Some(text)));
    assert!(applied.same_value && !applied.same_key);
    let bytes = flat::to_bytes(&applied);
    assert!(!bytes.windows(7).any(|window| window == b"{\"a\":1}"));
    let changed = Applied::new(record, &(None, Some(Bytes::from(b"{\"a\":1}".to_vec()))));
    assert!(!changed.same_value, "the same words at another place may be other words");
}
