//! Adds a header with a fixed value.
//!
//! This is Kafka Connect's `InsertHeader`.
//!
//! ```toml
//! type = "insert-header"
//! header = "team"
//! value.literal = "blue"
//! ```
//!
//! ```json record
//! {"value":{"ind":1}}
//! ```
//!
//! becomes
//!
//! ```json record
//! {"value":{"ind":1},"headers":{"team":"blue"}}
//! ```
//!
//! The value's type is read off its text, as Kafka Connect does: `true`, `false` and `null`; whole numbers become the smallest
//! integer that holds them, others floating point; a date, a time or a timestamp in ISO 8601 becomes that; text in double
//! quotes, and everything else, is text; `[..]` and `{..}` are read as JSON.

use std::sync::Arc;

use ottla_api::config::ConfigValue;
use ottla_api::data::{SchemaType, json};
use ottla_api::header::Header;
use ottla_api::prelude::*;

use crate::date_pattern::{DAY_MILLIS, DatePattern, Reading, Zone};

/// The plugin.
pub(crate) fn plugin() -> Plugin {
    Plugin {
        name: "insert-header",
        aliases: &["org.apache.kafka.connect.transforms.InsertHeader"],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("insert_header.rs"),
        definition: &InsertHeaderConfig::definition,
        constructor: Constructor::Transformation(&|properties| {
            let config = InsertHeaderConfig::from_properties(properties)?;
            let (schema, value) = read_literal(&config.literal);
            Ok(Box::new(InsertHeader { header: Header { key: config.header, value, schema } }))
        }),
    }
}

#[derive(Debug, Config)]
struct InsertHeaderConfig {
    /// The header's name.
    #[config(name = "header")]
    header: String,
    /// Its value.
    #[config(name = "value.literal")]
    literal: String,
}

struct InsertHeader {
    header: Header,
}

impl Transformation for InsertHeader {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        record.headers.push(self.header.clone());
        Ok(Some(record))
    }
}

/// Reads a value off its text (Kafka Connect: `Values.parseString`).
fn read_literal(text: &str) -> (Option<Arc<Schema>>, Value) {
    let typed = |schema_type, value| (Some(Schema::of(schema_type)), value);
    let trimmed = text.trim();
    match trimmed {
        "null" => return (None, Value::Null),
        "true" => return typed(SchemaType::Boolean, Value::Boolean(true)),
        "false" => return typed(SchemaType::Boolean, Value::Boolean(false)),
        _ => (),
    }
    if let Ok(n) = trimmed.parse::<i64>() {
        return match (i8::try_from(n), i16::try_from(n), i32::try_from(n)) {
            (Ok(n), ..) => typed(SchemaType::Int8, Value::Int8(n)),
            (_, Ok(n), _) => typed(SchemaType::Int16, Value::Int16(n)),
            (_, _, Ok(n)) => typed(SchemaType::Int32, Value::Int32(n)),
            _ => typed(SchemaType::Int64, Value::Int64(n)),
        };
    }
    if trimmed.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
        && let Ok(n) = trimmed.parse::<f64>()
    {
        return match n as f32 {
            single if single.is_finite() => typed(SchemaType::Float32, Value::Float32(single)),
            _ => typed(SchemaType::Float64, Value::Float64(n)),
        };
    }
    let millis = |pattern: &str| {
        let time = DatePattern::parse(pattern).ok()?.read(trimmed, Reading::Exact)?;
        time.to_millis(&Zone::Utc)
    };
    if let Some(millis) = millis("yyyy-MM-dd") {
        let days = (millis / DAY_MILLIS) as i32;
        return (Some(Schema::date().build()), Value::Date(days));
    }
    if let Some(millis) = millis("HH:mm:ss.SSS'Z'") {
        return (Some(Schema::time().build()), Value::Time(millis as i32));
    }
    if let Some(millis) = millis("yyyy-MM-dd'T'HH:mm:ss.SSS'Z'") {
        return (Some(Schema::timestamp().build()), Value::Timestamp(millis));
    }
    if trimmed.starts_with(['[', '{'])
        && let Ok(value) = json::parse(trimmed.as_bytes())
    {
        return (None, value);
    }
    let unquoted = trimmed.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    typed(SchemaType::String, Value::from(unquoted.unwrap_or(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_read_off_the_text() {
        for (text, value) in [
            ("true", Value::Boolean(true)),
            ("null", Value::Null),
            ("7", Value::Int8(7)),
            ("-300", Value::Int16(-300)),
            ("70000", Value::Int32(70_000)),
            ("5000000000", Value::Int64(5_000_000_000)),
            ("1.5", Value::Float32(1.5)),
            ("1e300", Value::Float64(1e300)),
            ("2020-08-28", Value::Date(18_502)),
            ("00:00:01.005Z", Value::Time(1005)),
            ("2020-08-28T03:52:47.000Z", Value::Timestamp(1_598_586_767_000)),
            ("[1]", Value::Array(vec![Value::Int64(1)])),
            ("\"7\"", Value::from("7")),
            ("infinity", Value::from("infinity")),
            ("blue ", Value::from("blue ")),
        ] {
            assert_eq!(read_literal(text).1, value, "{text}");
        }
    }
}
