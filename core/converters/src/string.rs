//! Text, and other data as Java prints it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use bytes::Bytes;
use ottla_api::config::ConfigValue;
use ottla_api::data::{SchemaType, json};
use ottla_api::prelude::*;

static SCHEMA: LazyLock<Arc<Schema>> = LazyLock::new(|| Schema::optional(SchemaType::String));

/// Options of [`StringConverter`].
#[derive(Debug, Config)]
pub struct StringConverterConfig {
    /// The Java character set used for encoding and decoding text: UTF-8, ISO-8859-1 or US-ASCII, also by their other usual
    /// names.
    #[config(name = "converter.encoding", default = "UTF-8", importance = "high")]
    pub encoding: Encoding,
}

/// Text in, text out (Kafka Connect: `StringConverter`).
#[derive(Debug)]
pub struct StringConverter {
    encoding: Encoding,
}

impl StringConverter {
    /// A converter with these options.
    pub fn new(config: &StringConverterConfig) -> Self {
        Self { encoding: config.encoding }
    }
}

impl Converter for StringConverter {
    fn to_connect(&self, _topic: &str, bytes: Option<&Bytes>) -> Result<Payload> {
        let text = bytes.map(|bytes| self.encoding.decode(bytes)).transpose()?;
        Ok(Payload::with_schema(SCHEMA.clone(), text))
    }

    fn from_connect(&self, _topic: &str, payload: &Payload) -> Result<Option<Bytes>> {
        match &*payload.decoded()? {
            Value::Null => Ok(None),
            Value::String(text) => self.encoding.encode(text).map(Some),
            other => {
                let mut text = String::new();
                print(other, &mut text);
                self.encoding.encode(&text).map(Some)
            }
        }
    }
}

/// How characters become bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8.
    Utf8,
    /// ISO-8859-1: the first 256 characters, a byte each.
    Latin1,
    /// US-ASCII: the first 128 characters, a byte each.
    Ascii,
}

impl Encoding {
    fn decode(self, bytes: &Bytes) -> Result<String> {
        match self {
            Self::Utf8 => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(text.to_owned()),
                Err(error) => Err(Error::data(format!("not UTF-8 text: byte {} is wrong", error.valid_up_to()))),
            },
            Self::Latin1 => Ok(bytes.iter().map(|byte| char::from(*byte)).collect()),
            Self::Ascii => match bytes.iter().position(|byte| !byte.is_ascii()) {
                Some(at) => Err(Error::data(format!("not US-ASCII text: byte {at} is wrong"))),
                None => Ok(bytes.iter().map(|byte| char::from(*byte)).collect()),
            },
        }
    }

    fn encode(self, text: &str) -> Result<Bytes> {
        let (last, name) = match self {
            Self::Utf8 => return Ok(Bytes::copy_from_slice(text.as_bytes())),
            Self::Latin1 => ('\u{ff}', "ISO-8859-1"),
            Self::Ascii => ('\u{7f}', "US-ASCII"),
        };
        match text.chars().find(|c| *c > last) {
            Some(c) => Err(Error::data(format!("the character '{c}' has no place in {name}"))),
            None => Ok(text.chars().map(|c| c as u8).collect()),
        }
    }
}

impl ConfigValue for Encoding {
    fn parse(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_uppercase().as_str() {
            "UTF-8" | "UTF8" => Ok(Self::Utf8),
            "ISO-8859-1" | "ISO8859-1" | "ISO8859_1" | "LATIN1" => Ok(Self::Latin1),
            "US-ASCII" | "ASCII" => Ok(Self::Ascii),
            _ => Err(format!("must be one of UTF-8, ISO-8859-1, US-ASCII, found '{text}'")),
        }
    }

    fn type_name() -> Cow<'static, str> {
        "choice".into()
    }

    fn choices() -> Vec<&'static str> {
        vec!["UTF-8", "ISO-8859-1", "US-ASCII"]
    }
}

/// Java's `toString()` of a value: `{a=1, b=[x, y]}`, `Struct{a=1}`. Where Java prints an address (bytes) or a form of the
/// machine's language and place (dates), this prints base64 and ISO 8601.
fn print(value: &Value, out: &mut String) {
    // Writing into a string can't fail.
    let _ = match value {
        Value::Null => out.write_str("null"),
        Value::Boolean(truth) => write!(out, "{truth}"),
        Value::Int8(n) => write!(out, "{n}"),
        Value::Int16(n) => write!(out, "{n}"),
        Value::Int32(n) => write!(out, "{n}"),
        Value::Int64(n) => write!(out, "{n}"),
        Value::Float32(n) => out.write_str(&json::text_of_f32(*n)),
        Value::Float64(n) => out.write_str(&json::text_of_f64(*n)),
        Value::Number(text) => out.write_str(text),
        Value::String(text) => out.write_str(text),
        Value::Bytes(bytes) => out.write_str(&base64::engine::general_purpose::STANDARD.encode(bytes)),
        Value::Decimal(decimal) => write!(out, "{decimal}"),
        Value::Date(days) => out.write_str(&json::iso_date(*days)),
        Value::Time(millis) => out.write_str(&json::iso_time(*millis)),
        Value::Timestamp(millis) => out.write_str(&json::iso_timestamp(*millis)),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                print(item, out);
            }
            out.write_str("]")
        }
        Value::Map(map) => {
            out.push('{');
            for (index, (name, item)) in map.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                out.push_str(name);
                out.push('=');
                print(item, out);
            }
            out.write_str("}")
        }
        Value::Pairs(pairs) => {
            out.push('{');
            for (index, (key, item)) in pairs.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                print(key, out);
                out.push('=');
                print(item, out);
            }
            out.write_str("}")
        }
        // Kafka's own class: no blank after the comma, and what is null is left out.
        Value::Struct(fields) => {
            out.push_str("Struct{");
            for (index, (name, item)) in fields.iter().filter(|(_, item)| !item.is_null()).enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                out.push_str(name);
                out.push('=');
                print(item, out);
            }
            out.write_str("}")
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converter(encoding: &str) -> StringConverter {
        let properties = Properties::from_iter([("converter.encoding", encoding)]);
        StringConverter::new(&StringConverterConfig::from_properties(&properties).unwrap())
    }

    fn written(payload: &Payload) -> String {
        let bytes = converter("UTF-8").from_connect("t", payload).unwrap().unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn data_that_is_not_text_is_written_as_java_prints_it() {
        let text = Bytes::from_static(br#"{"a":1,"b":[1.50,true,null,"x"],"c":{}}"#);
        assert_eq!(written(&Payload::json(text)), "{a=1, b=[1.50, true, null, x], c={}}");
        let schema = Schema::structure()
            .field("a", Schema::of(SchemaType::Int32))
            .field("n", Schema::optional(SchemaType::Int32))
            .field("b", Schema::of(SchemaType::Float64))
            .build();
        let values = vec![Value::Int32(1), Value::Null, Value::Float64(1e10)];
        let structure = Value::Struct(Struct::from_values(schema.clone(), values).unwrap());
        assert_eq!(written(&Payload::with_schema(schema, structure)), "Struct{a=1,b=1.0E10}");
        assert_eq!(written(&Payload::json(Bytes::from_static(b"\"text\""))), "text");
    }

    #[test]
    fn text_that_an_encoding_has_no_place_for_is_refused() {
        let latin = converter("latin1");
        let bytes = latin.from_connect("t", &Payload::schemaless("é")).unwrap().unwrap();
        assert_eq!(bytes, Bytes::from_static(b"\xe9"));
        assert_eq!(latin.to_connect("t", Some(&bytes)).unwrap().value().unwrap(), &Value::from("é"));
        assert_eq!(
            latin.from_connect("t", &Payload::schemaless("€")).unwrap_err().to_string(),
            "the character '€' has no place in ISO-8859-1"
        );
        let error = converter("utf8").to_connect("t", Some(&bytes)).unwrap_err();
        assert_eq!(error.to_string(), "not UTF-8 text: byte 0 is wrong");
    }
}
