//! JSON, by properties: the scanner against an independent parser, and every schema through the envelope and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ottla_api::data::{Decimal, SchemaType, json};
use ottla_api::prelude::*;
use ottla_converters::{DecimalFormat, JsonConverter, JsonConverterConfig};
use proptest::prelude::*;

/// Text that is JSON: any layout of white space, any escape, any number.
fn document() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_filter("JSON has no word for it", |n| n.is_finite()).prop_map(|n| format!("{n:e}")),
        "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?",
    ];
    let leaf = prop_oneof![
        4 => number,
        4 => string(),
        1 => prop::sample::select(vec!["true", "false", "null"]).prop_map(str::to_owned),
    ];
    let value = leaf.prop_recursive(6, 40, 6, |inner| {
        let items = prop::collection::vec((space(), inner.clone(), space()), 0..6);
        let fields = prop::collection::vec((space(), string(), space(), space(), inner, space()), 0..6);
        prop_oneof![
            (space(), items).prop_map(|(empty, items)| {
                let items: Vec<String> = items.into_iter().map(|(a, item, b)| format!("{a}{item}{b}")).collect();
                format!("[{empty}{}]", items.join(","))
            }),
            (space(), fields).prop_map(|(empty, fields)| {
                let field = |(a, name, b, c, value, d)| format!("{a}{name}{b}:{c}{value}{d}");
                let fields: Vec<String> = fields.into_iter().map(field).collect();
                format!("{{{empty}{}}}", fields.join(","))
            }),
        ]
    });
    (space(), value, space()).prop_map(|(a, value, b)| format!("{a}{value}{b}"))
}

fn string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[^\"\\\\\\x00-\\x1f]{0,6}",
        prop::sample::select(vec![
            "\\n",
            "\\\"",
            "\\\\",
            "\\/",
            "\\b",
            "\\f",
            "\\r",
            "\\t",
            "\\u00e9",
            "\\u0000",
            "\\uD83D\\uDE00",
            "a",
            " : , ] }"
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn space() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "", "", " ", "\n", "\t", "\r\n", "   "])
}

/// Text that is nearly JSON: its tokens, good and bad, in any order.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let token = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"a\"",
        "\"\\u0041\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud83d\"",
        "\"\\ude00\"",
        "\"\\x\"",
        "\"\u{1}\"",
        "\"",
        "\\",
        "1",
        "-",
        "-0",
        "0",
        "01",
        "1.",
        ".5",
        "1.5",
        "1e5",
        "1e",
        "1E+2",
        "+1",
        "true",
        "nul",
        "null",
        "false",
        "NaN",
        " ",
        "\n",
        "\u{b}",
        "\u{feff}",
        "\u{0}",
        "é",
        "'a'",
        "//",
        "{\"a\":1}",
        "[1,2]",
        "{\"a\":[",
    ]);
    prop::collection::vec(token, 0..8).prop_map(|tokens| tokens.concat().into_bytes())
}

/// A document with a few bytes changed, put in or taken out.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let damage = (any::<prop::sample::Index>(), any::<u8>(), 0..3u8);
    (document(), prop::collection::vec(damage, 1..3)).prop_map(|(text, damages)| {
        let mut bytes = text.into_bytes();
        for (at, byte, how) in damages {
            let at = at.index(bytes.len() + 1);
            match how {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => bytes[at] = byte,
                _ if at < bytes.len() => drop(bytes.remove(at)),
                _ => {}
            }
        }
        bytes
    })
}

/// The other parser's verdict; nothing where its limits are others than ours (size of a number, depth).
fn others_verdict(text: &[u8]) -> Option<bool> {
    match serde_json::from_slice::<serde_json::Value>(text) {
        Ok(_) => Some(true),
        Err(error) if error.to_string().contains("number out of range") => None,
        Err(error) if error.to_string().contains("recursion limit") => None,
        Err(_) => Some(false),
    }
}

/// The data of a document as the other parser sees it, with numbers as floating point: it keeps fewer digits than we do.
fn as_others(text: &[u8]) -> serde_json::Value {
    fn rounded(value: serde_json::Value) -> serde_json::Value {
        match value {
            serde_json::Value::Number(n) if n.as_i64().is_none() => n.as_f64().into(),
            serde_json::Value::Array(items) => items.into_iter().map(rounded).collect(),
            serde_json::Value::Object(map) => map.into_iter().map(|(name, value)| (name, rounded(value))).collect(),
            other => other,
        }
    }
    rounded(serde_json::from_slice(text).unwrap())
}

fn compact(text: &[u8]) -> Result<Bytes> {
    json::compact(&Bytes::copy_from_slice(text))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn compact_text_means_the_same(text in document()) {
        let compacted = compact(text.as_bytes()).unwrap();
        let value = json::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(json::parse(&compacted).unwrap(), value.clone());
        prop_assert_eq!(compact(&compacted).unwrap(), compacted.clone());
        // Numbers and the order of fields come out as they went in; only escapes may be written differently.
        let written = json::to_string(&value);
        prop_assert_eq!(json::parse(written.as_bytes()).unwrap(), value);
        if others_verdict(text.as_bytes()).is_some() {
            prop_assert_eq!(as_others(&compacted), as_others(text.as_bytes()));
            prop_assert_eq!(as_others(written.as_bytes()), as_others(text.as_bytes()));
        }
    }

    #[test]
    fn what_is_nearly_json_is_judged_as_others_do(text in prop_oneof![soup(), damaged()]) {
        let verdict = compact(&text).is_ok();
        prop_assert_eq!(json::parse(&text).is_ok(), verdict);
        if let Some(others) = others_verdict(&text) {
            prop_assert_eq!(verdict, others, "{:?}", String::from_utf8_lossy(&text));
        }
    }

    #[test]
    fn bare_json_comes_out_compact_and_unchanged(text in document()) {
        let converter = JsonConverter::new(JsonConverterConfig { schemas_enable: false, ..Default::default() });
        let bytes = Bytes::from(text);
        let mut payload = converter.to_connect("t", Some(&bytes)).unwrap();
        let untouched = converter.from_connect("t", &payload).unwrap();
        payload.value().unwrap();
        let decoded = converter.from_connect("t", &payload).unwrap();
        if payload.is_null() {
            prop_assert_eq!((untouched, decoded), (None, None));
        } else {
            prop_assert_eq!(untouched.as_ref().unwrap(), &compact(&bytes).unwrap());
            prop_assert_eq!(json::parse(&decoded.unwrap()).unwrap(), json::parse(&bytes).unwrap());
        }
    }

    #[test]
    fn decoded_at_once_is_decoded_later(
        text in prop_oneof![document().prop_map(String::into_bytes), soup(), damaged()],
        schemas_enable in any::<bool>(),
    ) {
        let converter = JsonConverter::new(JsonConverterConfig { schemas_enable, ..Default::default() });
        let bytes = Bytes::from(text);
        let later = converter.to_connect("t", Some(&bytes)).and_then(Payload::into_data);
        let at_once = converter.to_connect_decoded("t", Some(&bytes)).and_then(Payload::into_data);
        let said = |outcome: Result<_>| outcome.map_err(|error| (error.kind(), error.to_string()));
        prop_assert_eq!(said(at_once), said(later));
    }

    #[test]
    fn schemaless_data_survives_the_envelope(text in document()) {
        let converter = JsonConverter::new(JsonConverterConfig::default());
        let envelope = Bytes::from(format!("{{\"payload\" : {text}, \"schema\":null}}"));
        let (schema, value) = converter.to_connect("t", Some(&envelope)).unwrap().into_data().unwrap();
        prop_assert_eq!(schema, None);
        prop_assert_eq!(value, json::parse(text.as_bytes()).unwrap());
    }

    #[test]
    fn data_of_every_schema_survives_the_envelope((schema, value) in data()) {
        schema.check(&value).unwrap();
        for decimal_format in [DecimalFormat::Base64, DecimalFormat::Numeric] {
            let converter = JsonConverter::new(JsonConverterConfig { decimal_format, ..Default::default() });
            let payload = Payload::with_schema(schema.clone(), value.clone());
            let bytes = converter.from_connect("t", &payload).unwrap().unwrap();
            prop_assert_eq!(others_verdict(&bytes), Some(true));
            let (read_schema, read_value) = converter.to_connect("t", Some(&bytes)).unwrap().into_data().unwrap();
            prop_assert_eq!(read_schema.unwrap(), schema.clone());
            prop_assert_eq!(read_value, value.clone());
            let again = Payload::with_schema(schema.clone(), value.clone());
            prop_assert_eq!(converter.from_connect("t", &again).unwrap().unwrap(), bytes);
        }
    }
}

/// Any schema with a value that fits it.
fn data() -> BoxedStrategy<(Arc<Schema>, Value)> {
    schema().prop_flat_map(|schema| value(&schema).prop_map(move |value| (schema.clone(), value))).boxed()
}

fn schema() -> impl Strategy<Value = Arc<Schema>> {
    let primitive = prop::sample::select(vec![
        SchemaType::Boolean,
        SchemaType::Int8,
        SchemaType::Int16,
        SchemaType::Int32,
        SchemaType::Int64,
        SchemaType::Float32,
        SchemaType::Float64,
        SchemaType::String,
        SchemaType::Bytes,
    ])
    .prop_map(Schema::of);
    let logical = prop_oneof![
        (0..6i32).prop_map(|scale| Schema::decimal(scale).build()),
        Just(Schema::date().build()),
        Just(Schema::time().build()),
        Just(Schema::timestamp().build()),
    ];
    let leaf = prop_oneof![3 => primitive, 1 => logical];
    let nested = leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|items| Schema::array(items).build()),
            inner.clone().prop_map(|values| Schema::map(Schema::of(SchemaType::String), values).build()),
            inner.clone().prop_map(|values| Schema::map(Schema::of(SchemaType::Int64), values).build()),
            prop::collection::vec(inner, 0..4).prop_map(|fields| {
                let fields = fields.into_iter().enumerate();
                fields.fold(Schema::structure(), |builder, (n, schema)| builder.field(format!("f{n}"), schema)).build()
            }),
        ]
    });
    (nested, any::<bool>(), prop::option::of("[ -~é]{0,8}"), prop::option::of(1..9i32)).prop_map(
        |(schema, optional, text, version)| {
            let mut builder = schema.to_builder().optional_if(optional);
            if let Some(text) = text {
                builder = builder.doc(text.clone()).parameter("note", text);
            }
            if let (false, Some(version)) = (schema.is_logical(), version) {
                builder = builder.name("sample.Name").version(version);
            }
            builder.build()
        },
    )
}

fn value(schema: &Arc<Schema>) -> BoxedStrategy<Value> {
    let scale = schema.parameters().get("scale").and_then(|scale| scale.parse::<usize>().ok()).unwrap_or(0);
    let some = match (schema.describe(), schema.schema_type()) {
        ("Decimal", _) => (any::<i64>(), "[0-9]{0,20}")
            .prop_map(move |(whole, more)| {
                let fraction = if scale > 0 { format!(".{}", "7".repeat(scale)) } else { String::new() };
                Value::Decimal(Decimal::parse(&format!("{whole}{more}{fraction}")).unwrap())
            })
            .boxed(),
        ("Date", _) => any::<i32>().prop_map(Value::Date).boxed(),
        ("Time", _) => any::<i32>().prop_map(Value::Time).boxed(),
        ("Timestamp", _) => any::<i64>().prop_map(Value::Timestamp).boxed(),
        (_, SchemaType::Boolean) => any::<bool>().prop_map(Value::Boolean).boxed(),
        (_, SchemaType::Int8) => any::<i8>().prop_map(Value::Int8).boxed(),
        (_, SchemaType::Int16) => any::<i16>().prop_map(Value::Int16).boxed(),
        (_, SchemaType::Int32) => any::<i32>().prop_map(Value::Int32).boxed(),
        (_, SchemaType::Int64) => any::<i64>().prop_map(Value::Int64).boxed(),
        // Not a number is not equal to itself, so it can't be compared here.
        (_, SchemaType::Float32) => any::<f32>().prop_map(|n| Value::Float32(if n.is_nan() { 0.1 } else { n })).boxed(),
        (_, SchemaType::Float64) => any::<f64>().prop_map(|n| Value::Float64(if n.is_nan() { 0.1 } else { n })).boxed(),
        (_, SchemaType::String) => any::<String>().prop_map(Value::String).boxed(),
        (_, SchemaType::Bytes) => any::<Vec<u8>>().prop_map(|bytes| Value::Bytes(bytes.into())).boxed(),
        (_, SchemaType::Array) => prop::collection::vec(value(schema.items()), 0..4).prop_map(Value::Array).boxed(),
        (_, SchemaType::Map) if schema.keys().schema_type() == SchemaType::String => {
            let fields = prop::collection::btree_map(any::<String>(), value(schema.items()), 0..4);
            fields.prop_map(|fields: BTreeMap<_, _>| Value::Map(fields.into_iter().collect())).boxed()
        }
        (_, SchemaType::Map) => {
            let pair = (any::<i64>().prop_map(Value::Int64), value(schema.items()));
            prop::collection::vec(pair, 0..4).prop_map(Value::Pairs).boxed()
        }
        (_, SchemaType::Struct) => {
            let layout = schema.clone();
            let fields: Vec<BoxedStrategy<Value>> = schema.fields().iter().map(|field| value(&field.schema)).collect();
            fields.prop_map(move |values| Value::Struct(Struct::from_values(layout.clone(), values).unwrap())).boxed()
        }
    };
    if schema.is_optional() { prop_oneof![4 => some, 1 => Just(Value::Null)].boxed() } else { some }
}
