//! JSON text, bare or in an envelope with its schema: `{"schema":{..},"payload":..}`.
//!
//! Bare text (`schemas.enable=false`) is checked and compacted in one walk and goes on as text; a tree is made when somebody
//! looks inside, and at once where the record before was looked into. Text that nobody touched is written as the slice that
//! came in.
//!
//! An envelope is cut in two without a tree. Its schema is the same text for nearly every record, so it is parsed once and
//! found by its text afterwards; on the way out a schema's text is made once and found by the schema's address.

mod schema;
mod value;

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ottla_api::config::ConfigValue;
use ottla_api::data::json;
use ottla_api::prelude::*;

/// Options of [`JsonConverter`].
#[derive(Debug, Clone, Copy, Config)]
pub struct JsonConverterConfig {
    /// Wrap data in an envelope with its schema, and expect it so. Without, the JSON is the data.
    #[config(name = "schemas.enable", default = "true", importance = "high")]
    pub schemas_enable: bool,
    /// How many schemas are kept parsed, and how many as text.
    #[config(name = "schemas.cache.size", default = "1000", importance = "high")]
    pub schemas_cache_size: usize,
    /// How decimals are written: `BASE64` their unscaled bytes, `NUMERIC` as JSON numbers. Both are read.
    #[config(name = "decimal.format", default = "BASE64", importance = "low")]
    pub decimal_format: DecimalFormat,
    /// Put a field's default where it is null, reading and writing. Without, null stays null.
    #[config(name = "replace.null.with.default", default = "true", importance = "low")]
    pub replace_null_with_default: bool,
}

impl Default for JsonConverterConfig {
    fn default() -> Self {
        Self {
            schemas_enable: true,
            schemas_cache_size: 1000,
            decimal_format: DecimalFormat::Base64,
            replace_null_with_default: true,
        }
    }
}

/// How decimals are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
pub enum DecimalFormat {
    /// The unscaled number's bytes in base64; the scale is in the schema.
    #[config(name = "BASE64")]
    Base64,
    /// A JSON number.
    #[config(name = "NUMERIC")]
    Numeric,
}

/// JSON in, JSON out (Kafka Connect: `JsonConverter`).
pub struct JsonConverter {
    config: JsonConverterConfig,
    /// How the last envelope with a schema began, up to its payload, and that schema.
    last_envelope: Mutex<Option<(Bytes, Arc<Schema>)>>,
    /// Parsed schemas by their compact text.
    parsed: Cache<Bytes, Arc<Schema>>,
    /// The text of schemas by their address. Each entry holds its schema, so that no other one can get the address.
    written: Cache<usize, (Arc<Schema>, Bytes)>,
    /// How long the last text was that was written: the next one will hardly be longer.
    written_length: AtomicUsize,
}

impl JsonConverter {
    /// A converter with these options.
    pub fn new(config: JsonConverterConfig) -> Self {
        let size = config.schemas_cache_size;
        Self {
            config,
            last_envelope: Mutex::default(),
            parsed: Cache::new(size),
            written: Cache::new(size),
            written_length: AtomicUsize::new(128),
        }
    }

    /// The data of an envelope that begins as the last one did, letter for letter. What is left to check is its payload, so
    /// nothing is answered where that is wrong: what is said about it should be about the whole record.
    fn read_alike(&self, bytes: &Bytes) -> Option<Result<Payload>> {
        let last = unpoisoned(&self.last_envelope);
        let (beginning, schema) = last.as_ref()?;
        let payload = bytes.strip_prefix(beginning.as_ref())?.strip_suffix(b"}")?;
        let schema = schema.clone();
        drop(last);
        let payload = json::parse_below(payload, 1)?;
        Some(self.read_payload(schema, payload))
    }

    fn read_payload(&self, schema: Arc<Schema>, payload: Value) -> Result<Payload> {
        let value = value::read(&schema, payload, &self.config)?;
        Ok(Payload::Data { schema: Some(schema), value })
    }

    fn parsed_schema(&self, text: &Bytes) -> Result<Arc<Schema>> {
        if let Some(schema) = self.parsed.get(text) {
            return Ok(schema);
        }
        let schema = schema::read(json::parse(text)?, &self.config)?;
        // A copy: the slice would keep its whole record in memory.
        self.parsed.insert(Bytes::copy_from_slice(text), schema.clone());
        Ok(schema)
    }

    fn schema_text(&self, schema: &Arc<Schema>) -> Result<Bytes> {
        let address = Arc::as_ptr(schema) as usize;
        if let Some((_, text)) = self.written.get(&address) {
            return Ok(text);
        }
        let mut text = Vec::with_capacity(256);
        schema::write(schema, None, &self.config, &mut text)?;
        let text = Bytes::from(text);
        self.written.insert(address, (schema.clone(), text.clone()));
        Ok(text)
    }

    fn write_payload(&self, payload: &Payload, out: &mut Vec<u8>) -> Result<()> {
        match payload {
            Payload::Json(text) => out.extend_from_slice(text),
            Payload::Data { schema, value } => value::write(schema.as_ref(), value, &self.config, out)?,
        }
        Ok(())
    }
}

impl Converter for JsonConverter {
    fn to_connect(&self, _topic: &str, bytes: Option<&Bytes>) -> Result<Payload> {
        let Some(bytes) = bytes else { return Ok(Payload::null()) };
        if bytes.is_empty() && !self.config.schemas_enable {
            // Kafka's parser finds nothing there, which it takes for null.
            return Ok(Payload::null());
        }
        if self.config.schemas_enable
            && let Some(payload) = self.read_alike(bytes)
        {
            return payload;
        }
        let text = match json::compact(bytes) {
            Ok(text) => text,
            Err(_) if bytes.is_empty() => return Err(no_envelope()),
            Err(error) => {
                return Err(error.during("Converting byte[] to Kafka Connect data failed due to serialization error"));
            }
        };
        if !self.config.schemas_enable {
            return Ok(Payload::json(text));
        }
        let (schema, payload) = split_envelope(&text)?;
        if &text[schema.clone()] == b"null" {
            return Ok(Payload::json(text.slice(payload)));
        }
        let schema = self.parsed_schema(&text.slice(schema))?;
        if payload.end + 1 == text.len() && text == bytes && self.config.schemas_cache_size > 0 {
            // A copy: the slice would keep its whole record in memory.
            let beginning = Bytes::copy_from_slice(&text[..payload.start]);
            *unpoisoned(&self.last_envelope) = Some((beginning, schema.clone()));
        }
        self.read_payload(schema, json::parse(&text[payload])?)
    }

    fn to_connect_decoded(&self, topic: &str, bytes: Option<&Bytes>) -> Result<Payload> {
        // What is wrong with a text is for the other way to say.
        let value = match bytes {
            Some(bytes) if !self.config.schemas_enable => json::parse_below(bytes, 0),
            _ => None,
        };
        value.map_or_else(|| self.to_connect(topic, bytes), |value| Ok(Payload::schemaless(value)))
    }

    fn from_connect(&self, _topic: &str, payload: &Payload) -> Result<Option<Bytes>> {
        if payload.is_null() && payload.schema().is_none() {
            return Ok(None);
        }
        if let (Payload::Json(text), false) = (payload, self.config.schemas_enable) {
            return Ok(Some(text.clone()));
        }
        let expected = self.written_length.load(Ordering::Relaxed);
        let mut out = Vec::with_capacity(expected + expected / 8);
        if self.config.schemas_enable {
            out.extend_from_slice(b"{\"schema\":");
            match payload.schema() {
                Some(schema) => out.extend_from_slice(&self.schema_text(schema)?),
                None => out.extend_from_slice(b"null"),
            }
            out.extend_from_slice(b",\"payload\":");
            self.write_payload(payload, &mut out)?;
            out.push(b'}');
        } else {
            self.write_payload(payload, &mut out)?;
        }
        self.written_length.store(out.len(), Ordering::Relaxed);
        Ok(Some(out.into()))
    }
}

impl fmt::Debug for JsonConverter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JsonConverter({:?})", self.config)
    }
}

/// Where schema and payload lie in the compact text of an envelope.
fn split_envelope(text: &[u8]) -> Result<(Range<usize>, Range<usize>)> {
    let (mut schema, mut payload) = (None, None);
    if text.first() != Some(&b'{') {
        return Err(no_envelope());
    }
    let mut at = 1;
    while text[at] != b'}' {
        let name = at..skip_value(text, at);
        // After the name stands a colon: the text was checked.
        let value = name.end + 1..skip_value(text, name.end + 1);
        at = value.end + usize::from(text[value.end] == b',');
        // The names are written in one way only in compact text.
        let place = match &text[name] {
            b"\"schema\"" => &mut schema,
            b"\"payload\"" => &mut payload,
            _ => return Err(no_envelope()),
        };
        *place = Some(value);
    }
    schema.zip(payload).ok_or_else(no_envelope)
}

/// Where the value ends that begins at `at`, in compact text that was checked.
fn skip_value(text: &[u8], mut at: usize) -> usize {
    let mut depth = 0usize;
    loop {
        match text[at] {
            b'"' => {
                at += 1;
                while text[at] != b'"' {
                    at += if text[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth -= 1;
                at += 1;
            }
            _ => {
                // A word, a number, or what separates values inside of one.
                at += 1;
                while !matches!(text.get(at), None | Some(b'"' | b'{' | b'}' | b'[' | b']' | b',' | b':')) {
                    at += 1;
                }
            }
        }
        if depth == 0 {
            return at;
        }
    }
}

fn no_envelope() -> Error {
    Error::data(
        "JsonConverter with schemas.enable requires \"schema\" and \"payload\" fields and may not contain additional \
         fields. If you are trying to deserialize plain JSON data, set schemas.enable=false in your converter \
         configuration.",
    )
}

/// Remembers up to so many results.
///
/// When it is full it starts over: topics have a handful of schemas, so a full cache means that they never repeat (a schema
/// made anew for each record), where no order of eviction would help.
struct Cache<K, V> {
    size_max: usize,
    entries: Mutex<Entries<K, V>>,
}

struct Entries<K, V> {
    /// What was asked for last, which mostly is what is asked for next: comparing is quicker than hashing.
    last: Option<(K, V)>,
    all: HashMap<K, V>,
}

impl<K: Eq + Hash + Clone, V: Clone> Cache<K, V> {
    fn new(size_max: usize) -> Self {
        Self { size_max, entries: Mutex::new(Entries { last: None, all: HashMap::new() }) }
    }

    fn get(&self, key: &K) -> Option<V> {
        let mut entries = self.lock();
        if let Some((last, value)) = &entries.last
            && last == key
        {
            return Some(value.clone());
        }
        let (key, value) = entries.all.get_key_value(key)?;
        let found = (key.clone(), value.clone());
        let value = found.1.clone();
        entries.last = Some(found);
        Some(value)
    }

    fn insert(&self, key: K, value: V) {
        if self.size_max == 0 {
            return;
        }
        let mut entries = self.lock();
        if entries.all.len() >= self.size_max {
            entries.all.clear();
        }
        entries.all.insert(key.clone(), value.clone());
        entries.last = Some((key, value));
    }

    fn lock(&self) -> MutexGuard<'_, Entries<K, V>> {
        unpoisoned(&self.entries)
    }
}

/// Locks; nothing here leaves what it guards half changed between lock and unlock.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use ottla_api::data::SchemaType;

    use super::*;

    fn converter(schemas_enable: bool) -> JsonConverter {
        JsonConverter::new(JsonConverterConfig { schemas_enable, ..Default::default() })
    }

    fn read(converter: &JsonConverter, text: &'static str) -> Result<Payload> {
        converter.to_connect("t", Some(&Bytes::from_static(text.as_bytes())))
    }

    fn refused(text: &'static str) -> String {
        read(&converter(true), text).unwrap_err().to_string()
    }

    fn written(converter: &JsonConverter, payload: &Payload) -> String {
        String::from_utf8(converter.from_connect("t", payload).unwrap().unwrap().to_vec()).unwrap()
    }

    #[test]
    fn bare_text_that_nobody_touched_is_the_slice_that_came_in() {
        let converter = converter(false);
        let text = Bytes::from_static(r#"{"n":12.30,"s":"é\n"}"#.as_bytes());
        let payload = converter.to_connect("t", Some(&text)).unwrap();
        assert!(matches!(payload, Payload::Json(_)));
        assert_eq!(converter.from_connect("t", &payload).unwrap().unwrap().as_ptr(), text.as_ptr());
        assert!(read(&converter, "").unwrap().is_null());
        assert!(read(&converter, " null ").unwrap().is_null());
        assert_eq!(
            read(&converter, "{\"a\":}").unwrap_err().to_string(),
            "Converting byte[] to Kafka Connect data failed due to serialization error: not JSON: at byte 5 expected a \
             value, found '}'"
        );
    }

    #[test]
    fn an_envelope_is_written_as_kafka_writes_it() {
        let schema = Schema::structure()
            .name("pin")
            .version(2)
            .doc("a place")
            .parameter("k", "v")
            .field("id", Schema::of(SchemaType::Int64))
            .field("at", Schema::timestamp().optional().build())
            .field("score", Schema::builder(SchemaType::Float64).default_value(Value::Float64(0.5)).build())
            .field("tags", Schema::map(Schema::of(SchemaType::String), Schema::of(SchemaType::Int8)).build())
            .field("parts", Schema::array(Schema::of(SchemaType::Bytes)).optional().build())
            .build();
        let tags: Map = [("a".to_owned(), Value::Int8(1))].into_iter().collect();
        let parts = Value::Array(vec![Value::Bytes(Bytes::from_static(b"\x01\x02"))]);
        let values = vec![Value::Int64(7), Value::Null, Value::Null, Value::Map(tags), parts];
        let value = Value::Struct(Struct::from_values(schema.clone(), values).unwrap());
        assert_eq!(
            written(&converter(true), &Payload::with_schema(schema.clone(), value.clone())),
            "{\"schema\":{\"type\":\"struct\",\"fields\":[\
             {\"type\":\"int64\",\"optional\":false,\"field\":\"id\"},\
             {\"type\":\"int64\",\"optional\":true,\"name\":\"org.apache.kafka.connect.data.Timestamp\",\"version\":1,\
             \"field\":\"at\"},\
             {\"type\":\"double\",\"optional\":false,\"default\":0.5,\"field\":\"score\"},\
             {\"type\":\"map\",\"keys\":{\"type\":\"string\",\"optional\":false},\
             \"values\":{\"type\":\"int8\",\"optional\":false},\"optional\":false,\"field\":\"tags\"},\
             {\"type\":\"array\",\"items\":{\"type\":\"bytes\",\"optional\":false},\"optional\":true,\"field\":\"parts\"}],\
             \"optional\":false,\"name\":\"pin\",\"version\":2,\"doc\":\"a place\",\"parameters\":{\"k\":\"v\"}},\
             \"payload\":{\"id\":7,\"at\":null,\"score\":0.5,\"tags\":{\"a\":1},\"parts\":[\"AQI=\"]}}"
        );
        assert_eq!(
            written(&converter(false), &Payload::with_schema(schema, value)),
            r#"{"id":7,"at":null,"score":0.5,"tags":{"a":1},"parts":["AQI="]}"#
        );
    }

    #[test]
    fn null_is_no_bytes_without_a_schema_and_an_envelope_with_one() {
        let schema = Schema::optional(SchemaType::Int32);
        assert_eq!(converter(true).from_connect("t", &Payload::null()).unwrap(), None);
        assert_eq!(converter(false).from_connect("t", &Payload::null()).unwrap(), None);
        assert_eq!(
            written(&converter(true), &Payload::with_schema(schema, Value::Null)),
            r#"{"schema":{"type":"int32","optional":true},"payload":null}"#
        );
        assert!(read(&converter(true), r#"{"schema":null,"payload":null}"#).unwrap().is_null());
    }

    #[test]
    fn schemaless_data_in_an_envelope_stays_text() {
        let payload = read(&converter(true), r#"{ "payload": {"a": 1.50}, "\u0073chema": null }"#).unwrap();
        assert_eq!(payload, Payload::Json(Bytes::from_static(br#"{"a":1.50}"#)));
        assert_eq!(written(&converter(true), &payload), r#"{"schema":null,"payload":{"a":1.50}}"#);
    }

    #[test]
    fn what_is_no_envelope_is_refused_in_kafkas_words() {
        let words = "JsonConverter with schemas.enable requires \"schema\" and \"payload\" fields and may not contain \
                     additional fields. If you are trying to deserialize plain JSON data, set schemas.enable=false in \
                     your converter configuration.";
        for text in ["", "1", "[]", "{}", r#"{"schema":null}"#, r#"{"schema":null,"payload":1,"x":2}"#] {
            assert_eq!(refused(text), words, "{text}");
        }
    }

    #[test]
    fn an_envelope_that_begins_as_the_last_one_is_read_as_any_other() {
        let nested = |depth: usize| -> &'static str {
            format!(r#"{{"schema":{{"type":"int32"}},"payload":{}{}}}"#, "[".repeat(depth), "]".repeat(depth)).leak()
        };
        let texts = [
            nested(json::DEPTH_MAX - 1),
            nested(json::DEPTH_MAX),
            r#"{"schema":{"type":"int32"},"payload":1}"#,
            r#"{"schema":{"type":"int32"},"payload":2}"#,
            r#"{"schema":{"type":"int32"},"payload":2 }"#,
            r#"{"schema":{"type":"int32"},"payload":1,"payload":3}"#,
            r#"{"schema":{"type":"int32"},"payload":1,"schema":{"type":"int8"}}"#,
            r#"{"schema":{"type":"int32"},"payload":1,"x":2}"#,
            r#"{"schema":{"type":"int32"},"payload":}"#,
            r#"{"schema":{"type":"int32"},"payload":"no number"}"#,
            r#"{"schema":{"type":"int32"},"payload":1"#,
            r#"{"schema":{"type":"int64"},"payload":1}"#,
            // The payload is the schema's text, and stands in front.
            r#"{"payload":{"type":"int32"},"schema":{"type":"int32"}}"#,
            r#"{"payload":{"type":"int32"},"schema":{"type":"int8"}}"#,
        ];
        let shown = |read: Result<Payload>| format!("{:?}", read.map_err(|error| error.to_string()));
        for one in texts {
            for other in texts {
                let used = converter(true);
                let _ = read(&used, one);
                assert_eq!(shown(read(&used, other)), shown(read(&converter(true), other)), "{one}");
            }
        }
    }

    #[test]
    fn a_schema_is_parsed_once_and_written_once() {
        let converter = converter(true);
        let text = r#"{"schema":{"type":"int32"},"payload":1}"#;
        let schema = |payload: Payload| payload.schema().cloned().unwrap();
        let (first, second) = (schema(read(&converter, text).unwrap()), schema(read(&converter, text).unwrap()));
        assert!(Arc::ptr_eq(&first, &second));
        let text = |schema| converter.schema_text(schema).unwrap();
        assert_eq!(text(&first).as_ptr(), text(&second).as_ptr());

        let forgetful = JsonConverter::new(JsonConverterConfig { schemas_cache_size: 1, ..Default::default() });
        for _ in 0..2 {
            for text in [r#"{"schema":{"type":"int8"},"payload":1}"#, r#"{"schema":{"type":"int16"},"payload":1}"#] {
                read(&forgetful, text).unwrap();
            }
        }
        assert_eq!(forgetful.parsed.lock().all.len(), 1);
    }

    #[test]
    fn wrong_schemas_are_refused_in_kafkas_words() {
        for (schema, words) in [
            ("{}", "Schema must contain 'type' field"),
            (r#"{"type":"int31"}"#, "Unknown schema type: int31"),
            (r#"{"type":"array"}"#, "Array schema did not specify the element type"),
            (r#"{"type":"map","values":{"type":"int8"}}"#, "Map schema did not specify the key type"),
            (r#"{"type":"map","keys":{"type":"int8"}}"#, "Map schema did not specify the value type"),
            (r#"{"type":"struct"}"#, "Struct schema's \"fields\" argument is not an array."),
            (r#"{"type":"struct","fields":[{"type":"int8"}]}"#, "Struct schema's field name not specified properly"),
            (r#"{"type":"int8","parameters":{"a":1}}"#, "Schema parameters must have string values."),
        ] {
            let text = format!("{{\"schema\":{schema},\"payload\":1}}");
            let error = converter(true).to_connect("t", Some(&Bytes::from(text))).unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::PoisonRecord, words));
        }
    }

    #[test]
    fn payloads_that_do_not_fit_are_refused_in_kafkas_words() {
        for (schema, payload, words) in [
            (r#"{"type":"int32"}"#, "null", "Invalid null value for required INT32 field"),
            (r#"{"type":"struct","fields":[]}"#, "[]", "Structs should be encoded as JSON objects, but found ARRAY"),
            (
                r#"{"type":"struct","fields":[{"type":"int8","field":"a"}]}"#,
                "{}",
                "Invalid null value for required INT8 field (field=a)",
            ),
            (
                r#"{"type":"map","keys":{"type":"string"},"values":{"type":"int8"}}"#,
                "1",
                "Maps with string fields should be encoded as JSON objects, but found NUMBER",
            ),
            (
                r#"{"type":"map","keys":{"type":"int8"},"values":{"type":"int8"}}"#,
                "{}",
                "Maps with non-string fields should be encoded as JSON array of tuples, but found OBJECT",
            ),
            (
                r#"{"type":"map","keys":{"type":"int8"},"values":{"type":"int8"}}"#,
                "[true]",
                "Found invalid map entry instead of array tuple: BOOLEAN",
            ),
            (
                r#"{"type":"map","keys":{"type":"int8"},"values":{"type":"int8"}}"#,
                "[[1]]",
                "Found invalid map entry, expected length 2 but found :1",
            ),
            (r#"{"type":"bytes"}"#, "\"?\"", "Invalid bytes field"),
            (
                r#"{"type":"int32","name":"org.apache.kafka.connect.data.Date"}"#,
                "\"x\"",
                "Invalid type for Date, underlying representation should be integer but was STRING",
            ),
            (
                r#"{"type":"int64","name":"org.apache.kafka.connect.data.Timestamp"}"#,
                "1.5",
                "Invalid type for Timestamp, underlying representation should be integral but was NUMBER",
            ),
            (
                r#"{"type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"2"}}"#,
                "true",
                "Invalid type for Decimal, underlying representation should be numeric or bytes but was BOOLEAN",
            ),
            (r#"{"type":"int8"}"#, "300", "300 is not an INT8"),
            (r#"{"type":"string"}"#, "1", "Invalid type for STRING: NUMBER"),
        ] {
            let text = format!("{{\"schema\":{schema},\"payload\":{payload}}}");
            let error = converter(true).to_connect("t", Some(&Bytes::from(text))).unwrap_err();
            assert!(error.to_string().starts_with(words), "expected {words}, found {error}");
            assert_eq!(error.kind(), ErrorKind::PoisonRecord);
        }
    }

    #[test]
    fn a_default_stands_for_null_unless_told_not_to() {
        let text = r#"{"schema":{"type":"struct","fields":[{"type":"int32","optional":true,"default":5,"field":"a"}]},"payload":{"a":null}}"#;
        let field = |replace_null_with_default| {
            let config = JsonConverterConfig { replace_null_with_default, ..Default::default() };
            read(&JsonConverter::new(config), text).unwrap().value().unwrap().field("a").unwrap().clone()
        };
        assert_eq!(field(true), Value::Int32(5));
        assert_eq!(field(false), Value::Null);
    }

    #[test]
    fn decimals_are_read_in_both_forms_and_written_in_the_chosen_one() {
        let schema = r#"{"type":"bytes","optional":false,"name":"org.apache.kafka.connect.data.Decimal","version":1,"parameters":{"scale":"2"}}"#;
        let read = |payload: &str| {
            let text = format!("{{\"schema\":{schema},\"payload\":{payload}}}");
            converter(true).to_connect("t", Some(&Bytes::from(text))).unwrap()
        };
        assert_eq!(read("\"AJw=\""), read("1.56"));
        let numeric =
            JsonConverter::new(JsonConverterConfig { decimal_format: DecimalFormat::Numeric, ..Default::default() });
        assert!(written(&converter(true), &read("1.56")).ends_with("\"payload\":\"AJw=\"}"));
        assert!(written(&numeric, &read("\"AJw=\"")).ends_with("\"payload\":1.56}"));
        assert_eq!(
            converter(true).from_connect("t", &read("1.5")).unwrap_err().to_string(),
            "Decimal value has mismatching scale for given Decimal schema. Schema has scale 2, value has scale 1."
        );
    }

    #[test]
    fn data_that_does_not_fit_its_schema_is_not_written() {
        let refused = |schema, value: Value| {
            converter(true).from_connect("t", &Payload::with_schema(schema, value)).unwrap_err().to_string()
        };
        assert_eq!(refused(Schema::of(SchemaType::Int64), Value::Int32(1)), "Invalid type for INT64: int32");
        assert_eq!(
            refused(Schema::of(SchemaType::Int64), Value::Null),
            "Conversion error: null value for field that is required and has no default value"
        );
        let (a, b) = (Schema::structure().name("a").build(), Schema::structure().name("b").build());
        assert_eq!(refused(a, Value::Struct(Struct::new(b))), "Mismatching schema.");
        assert_eq!(
            refused(Schema::date().build(), Value::Int32(1)),
            "Invalid type for Date, expected Date but was int32"
        );
    }

    #[test]
    fn numbers_that_are_no_numbers_come_back() {
        let schema = Schema::of(SchemaType::Float64);
        let text = written(&converter(true), &Payload::with_schema(schema, f64::NEG_INFINITY));
        assert!(text.ends_with("\"payload\":\"-Infinity\"}"));
        let mut payload = converter(true).to_connect("t", Some(&Bytes::from(text))).unwrap();
        assert_eq!(payload.value().unwrap(), &Value::Float64(f64::NEG_INFINITY));
    }
}
