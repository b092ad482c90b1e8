//! What Kafka Connect's own transformations ask of a record, and the words in which they refuse one.

use ottla_api::data::{Decimal, SchemaType, json};
use ottla_api::prelude::*;

use crate::fields::{Fields, Opened, open};

/// The fields of a payload; an error in Kafka Connect's words for payloads without.
pub(crate) fn require_fields<'a>(payload: &'a mut Payload, purpose: &str) -> Result<Fields<'a>> {
    match open(payload)? {
        Opened::Fields(fields) => Ok(fields),
        Opened::Other { has_schema, value } => {
            let wanted = match has_schema {
                true => "Only Struct objects supported for",
                false => "Only Map objects supported in absence of schema for",
            };
            Err(Error::data(format!("{wanted} [{purpose}], found: {}", class_name(value))))
        }
    }
}

/// The class that Kafka Connect would show for this value.
pub(crate) fn class_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Boolean(_) => "java.lang.Boolean",
        Value::Int8(_) => "java.lang.Byte",
        Value::Int16(_) => "java.lang.Short",
        Value::Int32(_) => "java.lang.Integer",
        Value::Int64(_) => "java.lang.Long",
        Value::Float32(_) => "java.lang.Float",
        Value::Float64(_) => "java.lang.Double",
        Value::Number(_) | Value::Decimal(_) => "java.math.BigDecimal",
        Value::String(_) => "java.lang.String",
        Value::Bytes(_) => "java.nio.HeapByteBuffer",
        Value::Array(_) => "java.util.ArrayList",
        Value::Map(_) | Value::Pairs(_) => "java.util.HashMap",
        Value::Struct(_) => "org.apache.kafka.connect.data.Struct",
        Value::Date(_) | Value::Time(_) | Value::Timestamp(_) => "java.util.Date",
    }
}

/// Null, or what the schema says should stand for it.
pub(crate) fn or_default(value: Value, schema: &Schema, replace_null_with_default: bool) -> Value {
    match (&value, schema.default()) {
        (Value::Null, Some(default)) if replace_null_with_default => default.clone(),
        _ => value,
    }
}

/// A scalar as Java's `toString` shows it.
pub(crate) fn java_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Decimal(decimal) => decimal.to_string(),
        Value::Number(text) => text.to_string(),
        other => match other.as_i64() {
            Some(n) => n.to_string(),
            None => json::to_string(other),
        },
    }
}

/// The physical type of a value, where Kafka Connect has one for it.
pub(crate) fn type_of(value: &Value) -> Option<SchemaType> {
    Some(match value {
        Value::Null => return None,
        Value::Boolean(_) => SchemaType::Boolean,
        Value::Int8(_) => SchemaType::Int8,
        Value::Int16(_) => SchemaType::Int16,
        Value::Int32(_) | Value::Date(_) | Value::Time(_) => SchemaType::Int32,
        Value::Int64(_) | Value::Timestamp(_) => SchemaType::Int64,
        Value::Float32(_) => SchemaType::Float32,
        Value::Float64(_) | Value::Number(_) => SchemaType::Float64,
        Value::String(_) => SchemaType::String,
        Value::Bytes(_) | Value::Decimal(Decimal { .. }) => SchemaType::Bytes,
        Value::Array(_) => SchemaType::Array,
        Value::Map(_) | Value::Pairs(_) => SchemaType::Map,
        Value::Struct(_) => SchemaType::Struct,
    })
}

/// The option that most of Kafka Connect's transformations have.
#[derive(Debug, Clone, Config)]
pub(crate) struct NullWithDefault {
    /// Whether a field that is null is read as the default that its schema gives.
    #[config(name = "replace.null.with.default", default = "true", importance = "low")]
    pub(crate) replace: bool,
}
