//! Converters: bytes in a topic to data, and back. One file a format.
//!
//! | Name | Bytes | Data |
//! |---|---|---|
//! | `json` | JSON text, bare or in an envelope with its schema | anything |
//! | `string` | text | text; other data is written as Java prints it |
//! | `bytes` | as they are | bytes |
//! | `short`, `integer`, `long`, `float`, `double`, `boolean` | big-endian, of fixed width | one number, one truth value |
//!
//! They behave as Apache Kafka's converters of the same Java names, down to the error texts, with one difference: where
//! those silently change data that doesn't fit (text that is no number becomes 0, bytes that are no text become `�`),
//! these refuse the record, so that `errors.tolerance` and the dead letter queue decide.

mod bytes;
mod json;
mod number;
mod string;

pub use bytes::ByteArrayConverter;
pub use json::{DecimalFormat, JsonConverter, JsonConverterConfig};
pub use number::{Number, NumberConverter};
pub use string::{Encoding, StringConverter, StringConverterConfig};

use ottla_api::config::{Config, ConfigDef};
use ottla_api::plugin::{Constructor, Plugin};

/// The converters of this crate.
pub fn plugins() -> Vec<Plugin> {
    let plugin = |name, aliases, doc, definition, constructor| Plugin {
        name,
        aliases,
        version: env!("CARGO_PKG_VERSION"),
        doc,
        definition,
        constructor: Constructor::Converter(constructor),
    };
    let mut plugins = vec![
        plugin(
            "json",
            &["org.apache.kafka.connect.json.JsonConverter"],
            "JSON text. With `schemas.enable=false` any JSON, which goes on as it came as long as nothing looks inside; \
             else an envelope of a schema and a payload.",
            &JsonConverterConfig::definition,
            &|properties, _| Ok(Box::new(JsonConverter::new(JsonConverterConfig::from_properties(properties)?))),
        ),
        plugin(
            "string",
            &["org.apache.kafka.connect.storage.StringConverter"],
            "Text. Data that is not text is written as Java prints it.",
            &StringConverterConfig::definition,
            &|properties, _| Ok(Box::new(StringConverter::new(&StringConverterConfig::from_properties(properties)?))),
        ),
        plugin(
            "bytes",
            &["org.apache.kafka.connect.converters.ByteArrayConverter"],
            "Bytes as they are.",
            &ConfigDef::new,
            &|_, _| Ok(Box::new(ByteArrayConverter)),
        ),
    ];
    plugins.extend(number::plugins());
    plugins
}
