//! Numbers and truth values of fixed width, big-endian, as Kafka's own serializers write them.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use ottla_api::config::ConfigDef;
use ottla_api::data::SchemaType;
use ottla_api::prelude::*;

/// A type that has such a form.
pub trait Number: Into<Value> + Send + Sync + 'static {
    /// Kafka's word for it in error texts: `integer`.
    const NAME: &'static str;
    /// The type of its schema.
    const SCHEMA_TYPE: SchemaType;

    /// Reads the bytes. The message says what was wrong with them.
    fn read(bytes: &[u8]) -> Result<Self, String>;

    /// The bytes of a value of this type; nothing for other values.
    fn write(value: &Value) -> Option<Bytes>;
}

/// One number, or one truth value (Kafka Connect: `NumberConverter`, `BooleanConverter`).
pub struct NumberConverter<N> {
    schema: Arc<Schema>,
    number: PhantomData<N>,
}

impl<N: Number> NumberConverter<N> {
    /// A converter for `N`.
    pub fn new() -> Self {
        Self { schema: Schema::optional(N::SCHEMA_TYPE), number: PhantomData }
    }
}

impl<N: Number> Default for NumberConverter<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<N: Number> fmt::Debug for NumberConverter<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NumberConverter({})", N::NAME)
    }
}

impl<N: Number> Converter for NumberConverter<N> {
    fn to_connect(&self, _topic: &str, bytes: Option<&Bytes>) -> Result<Payload> {
        let number = bytes.map(|bytes| N::read(bytes)).transpose();
        let number = number.map_err(|wrong| Error::data(format!("Failed to deserialize {}: {wrong}", N::NAME)))?;
        Ok(Payload::with_schema(self.schema.clone(), number))
    }

    fn from_connect(&self, _topic: &str, payload: &Payload) -> Result<Option<Bytes>> {
        let value = payload.decoded()?;
        if value.is_null() {
            return Ok(None);
        }
        match N::write(&value) {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(Error::data(format!("Failed to serialize to {} (was {})", N::NAME, value.type_name()))),
        }
    }
}

macro_rules! numbers {
    ($($type:ty, $name:literal, $variant:ident, $java:literal;)*) => {
        $(impl Number for $type {
            const NAME: &'static str = $name;
            const SCHEMA_TYPE: SchemaType = SchemaType::$variant;

            fn read(bytes: &[u8]) -> Result<Self, String> {
                let size = size_of::<Self>();
                let wrong = |_| format!("Size of data received by {}Deserializer is not {size}", $java);
                bytes.try_into().map(Self::from_be_bytes).map_err(wrong)
            }

            fn write(value: &Value) -> Option<Bytes> {
                match value {
                    Value::$variant(n) => Some(Bytes::copy_from_slice(&n.to_be_bytes())),
                    _ => None,
                }
            }
        })*
    };
}

numbers! {
    i16, "short", Int16, "Short";
    i32, "integer", Int32, "Integer";
    i64, "long", Int64, "Long";
    f32, "float", Float32, "Float";
    f64, "double", Float64, "Double";
}

impl Number for bool {
    const NAME: &'static str = "boolean";
    const SCHEMA_TYPE: SchemaType = SchemaType::Boolean;

    fn read(bytes: &[u8]) -> Result<Self, String> {
        match bytes {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(format!("Unexpected byte received by BooleanDeserializer: {}", *other as i8)),
            _ => Err("Size of data received by BooleanDeserializer is not 1".to_owned()),
        }
    }

    fn write(value: &Value) -> Option<Bytes> {
        match value {
            Value::Boolean(truth) => Some(Bytes::from_static(if *truth { &[1] } else { &[0] })),
            _ => None,
        }
    }
}

/// The converters of this file.
pub(crate) fn plugins() -> Vec<Plugin> {
    fn plugin<N: Number>(aliases: &'static [&'static str], doc: &'static str) -> Plugin {
        Plugin {
            name: N::NAME,
            aliases,
            version: env!("CARGO_PKG_VERSION"),
            doc,
            definition: &ConfigDef::new,
            constructor: Constructor::Converter(&|_, _| Ok(Box::new(NumberConverter::<N>::new()))),
        }
    }
    vec![
        plugin::<i16>(&["org.apache.kafka.connect.converters.ShortConverter"], "A 16-bit integer, big-endian."),
        plugin::<i32>(&["org.apache.kafka.connect.converters.IntegerConverter"], "A 32-bit integer, big-endian."),
        plugin::<i64>(&["org.apache.kafka.connect.converters.LongConverter"], "A 64-bit integer, big-endian."),
        plugin::<f32>(&["org.apache.kafka.connect.converters.FloatConverter"], "Single precision, big-endian."),
        plugin::<f64>(&["org.apache.kafka.connect.converters.DoubleConverter"], "Double precision, big-endian."),
        plugin::<bool>(&["org.apache.kafka.connect.converters.BooleanConverter"], "One byte, 0 or 1."),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_big_endian() {
        let written = |value: Value| {
            let converter = NumberConverter::<i32>::new();
            converter.from_connect("t", &Payload::schemaless(value)).map(Option::unwrap)
        };
        assert_eq!(written(Value::Int32(-2)).unwrap(), Bytes::from_static(&[0xff, 0xff, 0xff, 0xfe]));
        assert_eq!(written(Value::Int64(1)).unwrap_err().to_string(), "Failed to serialize to integer (was int64)");
    }

    #[test]
    fn bytes_of_another_width_are_refused_in_kafkas_words() {
        let refused = |converter: &dyn Converter, bytes: &'static [u8]| {
            converter.to_connect("t", Some(&Bytes::from_static(bytes))).unwrap_err().to_string()
        };
        assert_eq!(
            refused(&NumberConverter::<i64>::new(), b"1234567"),
            "Failed to deserialize long: Size of data received by LongDeserializer is not 8"
        );
        assert_eq!(
            refused(&NumberConverter::<bool>::new(), &[0xff]),
            "Failed to deserialize boolean: Unexpected byte received by BooleanDeserializer: -1"
        );
    }
}
