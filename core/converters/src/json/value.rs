//! Values as JSON, guided by their schema.

use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ottla_api::data::{Decimal, SchemaType, json, logical};
use ottla_api::prelude::*;

use super::{DecimalFormat, JsonConverterConfig};

/// Base64 as producers write it, with padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Appends the JSON of a value.
pub(super) fn write(
    schema: Option<&Arc<Schema>>,
    value: &Value,
    config: &JsonConverterConfig,
    out: &mut Vec<u8>,
) -> Result<()> {
    let options = json::WriteOptions {
        decimal_numeric: config.decimal_format == DecimalFormat::Numeric,
        ..json::WriteOptions::default()
    };
    let Some(schema) = schema else {
        json::write_with(value, &options, out);
        return Ok(());
    };
    if value.is_null() {
        return match schema.default() {
            Some(default) if config.replace_null_with_default => write(Some(schema), default, config, out),
            _ if schema.is_optional() => {
                out.extend_from_slice(b"null");
                Ok(())
            }
            _ => Err(Error::data("Conversion error: null value for field that is required and has no default value")),
        };
    }
    if schema.is_logical() {
        check_logical(schema, value, config)?;
        json::write_with(value, &options, out);
        return Ok(());
    }
    match (schema.schema_type(), value) {
        (SchemaType::Boolean, Value::Boolean(_))
        | (SchemaType::Int8, Value::Int8(_))
        | (SchemaType::Int16, Value::Int16(_))
        | (SchemaType::Int32, Value::Int32(_))
        | (SchemaType::Int64, Value::Int64(_))
        | (SchemaType::Float32, Value::Float32(_))
        | (SchemaType::Float64, Value::Float64(_))
        | (SchemaType::String, Value::String(_))
        | (SchemaType::Bytes, Value::Bytes(_)) => json::write_with(value, &options, out),
        (SchemaType::Array, Value::Array(items)) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                comma(index, out);
                write(Some(schema.items()), item, config, out)?;
            }
            out.push(b']');
        }
        (SchemaType::Map, Value::Map(map)) if has_text_keys(schema) => {
            out.push(b'{');
            for (index, (name, item)) in map.iter().enumerate() {
                comma(index, out);
                json::write_text(name, out);
                out.push(b':');
                write(Some(schema.items()), item, config, out)?;
            }
            out.push(b'}');
        }
        (SchemaType::Map, Value::Pairs(pairs)) if !has_text_keys(schema) => {
            out.push(b'[');
            for (index, (key, item)) in pairs.iter().enumerate() {
                comma(index, out);
                out.push(b'[');
                write(Some(schema.keys()), key, config, out)?;
                out.push(b',');
                write(Some(schema.items()), item, config, out)?;
                out.push(b']');
            }
            out.push(b']');
        }
        (SchemaType::Struct, Value::Struct(fields)) => {
            // Nearly always the very same; comparing is the slow way.
            if !Arc::ptr_eq(fields.schema(), schema) && fields.schema() != schema {
                return Err(Error::data("Mismatching schema."));
            }
            out.push(b'{');
            for (index, (field, item)) in schema.fields().iter().zip(fields.values()).enumerate() {
                comma(index, out);
                json::write_text(&field.name, out);
                out.push(b':');
                write(Some(&field.schema), item, config, out).map_err(|error| error.with("field", &field.name))?;
            }
            out.push(b'}');
        }
        (schema_type, value) => {
            let (expected, found) = (java_name(schema_type), value.type_name());
            return Err(Error::data(format!("Invalid type for {expected}: {found}")));
        }
    }
    Ok(())
}

fn comma(index: usize, out: &mut Vec<u8>) {
    if index > 0 {
        out.push(b',');
    }
}

fn check_logical(schema: &Schema, value: &Value, config: &JsonConverterConfig) -> Result<()> {
    let (name, class) = match (schema.name(), value) {
        (Some(logical::DECIMAL), Value::Decimal(decimal)) => {
            let scale = scale_of(schema)?;
            return if decimal.scale == scale || config.decimal_format == DecimalFormat::Numeric {
                Ok(())
            } else {
                Err(Error::data(format!(
                    "Decimal value has mismatching scale for given Decimal schema. Schema has scale {scale}, value has \
                     scale {}.",
                    decimal.scale
                )))
            };
        }
        (Some(logical::DATE), Value::Date(_))
        | (Some(logical::TIME), Value::Time(_))
        | (Some(logical::TIMESTAMP), Value::Timestamp(_)) => return Ok(()),
        (Some(logical::DECIMAL), _) => ("Decimal", "BigDecimal"),
        _ => (schema.describe(), "Date"),
    };
    Err(Error::data(format!("Invalid type for {name}, expected {class} but was {}", value.type_name())))
}

/// Makes a value of this schema from parsed JSON.
pub(super) fn read(schema: &Arc<Schema>, value: Value, config: &JsonConverterConfig) -> Result<Value> {
    if value.is_null() {
        return match schema.default() {
            Some(default) if config.replace_null_with_default => Ok(default.clone()),
            _ if schema.is_optional() => Ok(Value::Null),
            _ => Err(Error::data(format!("Invalid null value for required {} field", java_name(schema.schema_type())))),
        };
    }
    if schema.is_logical() {
        return read_logical(schema, value);
    }
    match schema.schema_type() {
        SchemaType::Boolean => match value {
            Value::Boolean(_) => Ok(value),
            _ => Err(misfit(schema, &value)),
        },
        SchemaType::Int8 => integer(schema, &value).map(Value::Int8),
        SchemaType::Int16 => integer(schema, &value).map(Value::Int16),
        SchemaType::Int32 => integer(schema, &value).map(Value::Int32),
        SchemaType::Int64 => integer(schema, &value).map(Value::Int64),
        SchemaType::Float32 => match float_text(&value).map(|text| text.parse::<f32>()) {
            Some(Ok(n)) if n.is_finite() || value.as_str().is_some() => Ok(Value::Float32(n)),
            _ => Err(misfit(schema, &value)),
        },
        SchemaType::Float64 => match (&value, float_text(&value).map(|text| text.parse::<f64>())) {
            (Value::Float64(_), _) => Ok(value),
            (_, Some(Ok(n))) if n.is_finite() || value.as_str().is_some() => Ok(Value::Float64(n)),
            _ => Err(misfit(schema, &value)),
        },
        SchemaType::String => match value {
            Value::String(_) => Ok(value),
            _ => Err(misfit(schema, &value)),
        },
        SchemaType::Bytes => match &value {
            Value::String(text) => match BASE64.decode(text) {
                Ok(bytes) => Ok(Value::Bytes(bytes.into())),
                Err(error) => Err(Error::data("Invalid bytes field").caused_by(error)),
            },
            _ => Err(misfit(schema, &value)),
        },
        SchemaType::Array => match value {
            Value::Array(items) => {
                let items = items.into_iter().map(|item| read(schema.items(), item, config));
                items.collect::<Result<_>>().map(Value::Array)
            }
            _ => Err(misfit(schema, &value)),
        },
        SchemaType::Map if has_text_keys(schema) => match value {
            Value::Map(map) => {
                let fields = map.into_iter().map(|(name, item)| Ok((name, read(schema.items(), item, config)?)));
                fields.collect::<Result<_>>().map(Value::Map)
            }
            other => Err(Error::data(format!(
                "Maps with string fields should be encoded as JSON objects, but found {}",
                node_type(&other)
            ))),
        },
        SchemaType::Map => match value {
            Value::Array(entries) => {
                let pairs = entries.into_iter().map(|entry| read_pair(schema, entry, config));
                pairs.collect::<Result<_>>().map(Value::Pairs)
            }
            other => Err(Error::data(format!(
                "Maps with non-string fields should be encoded as JSON array of tuples, but found {}",
                node_type(&other)
            ))),
        },
        SchemaType::Struct => match value {
            Value::Map(mut map) => {
                // Fields that the schema doesn't know are left out, as Kafka does.
                let values = schema.fields().iter().enumerate().map(|(place, field)| {
                    // Nearly always the fields come in the schema's order; looking for them is the slow way.
                    let value = match map.fields_mut().get_mut(place) {
                        Some((name, value)) if *name == field.name => Some(value),
                        _ => map.get_mut(&field.name),
                    };
                    let value = value.map(std::mem::take).unwrap_or_default();
                    read(&field.schema, value, config).map_err(|error| error.with("field", &field.name))
                });
                let values = values.collect::<Result<_>>()?;
                Struct::from_values(schema.clone(), values).map(Value::Struct)
            }
            other => {
                Err(Error::data(format!("Structs should be encoded as JSON objects, but found {}", node_type(&other))))
            }
        },
    }
}

fn read_pair(schema: &Arc<Schema>, entry: Value, config: &JsonConverterConfig) -> Result<(Value, Value)> {
    let Value::Array(entry) = entry else {
        return Err(Error::data(format!("Found invalid map entry instead of array tuple: {}", node_type(&entry))));
    };
    let length = entry.len();
    let Ok([key, item]) = <[Value; 2]>::try_from(entry) else {
        return Err(Error::data(format!("Found invalid map entry, expected length 2 but found :{length}")));
    };
    Ok((read(schema.keys(), key, config)?, read(schema.items(), item, config)?))
}

fn read_logical(schema: &Schema, value: Value) -> Result<Value> {
    let wrong = |name: &str, expected: &str| {
        let found = node_type(&value);
        Error::data(format!("Invalid type for {name}, underlying representation should be {expected} but was {found}"))
    };
    match schema.name() {
        Some(logical::DECIMAL) => match &value {
            Value::String(text) => match BASE64.decode(text) {
                Ok(bytes) if !bytes.is_empty() => {
                    Ok(Value::Decimal(Decimal { unscaled: bytes.into(), scale: scale_of(schema)? }))
                }
                Ok(_) => Err(Error::data("Invalid bytes for Decimal field")),
                Err(error) => Err(Error::data("Invalid bytes for Decimal field").caused_by(error)),
            },
            number => match number_text(number) {
                Some(text) => Decimal::parse(&text).map(Value::Decimal),
                None => Err(wrong("Decimal", "numeric or bytes")),
            },
        },
        Some(logical::DATE | logical::TIME) => {
            let name = schema.describe();
            let Value::Int64(n) = value else { return Err(wrong(name, "integer")) };
            let n = i32::try_from(n).map_err(|_| wrong(name, "integer"))?;
            Ok(if name == "Date" { Value::Date(n) } else { Value::Time(n) })
        }
        _ => match value {
            Value::Int64(n) => Ok(Value::Timestamp(n)),
            _ => Err(wrong("Timestamp", "integral")),
        },
    }
}

/// The scale that a Decimal's schema names.
fn scale_of(schema: &Schema) -> Result<i32> {
    match schema.parameters().get(logical::SCALE_PARAMETER) {
        None => Err(Error::data("Invalid Decimal schema: scale parameter not found.")),
        Some(scale) => scale.parse().map_err(|error: std::num::ParseIntError| {
            Error::data(format!("Invalid scale parameter found in Decimal schema: '{scale}'")).caused_by(error)
        }),
    }
}

/// An integer of the schema's width. Kafka cuts off what doesn't fit; here that is an error.
fn integer<N: TryFrom<i64>>(schema: &Schema, value: &Value) -> Result<N> {
    match value {
        Value::Int64(n) => {
            N::try_from(*n).map_err(|_| Error::data(format!("{n} is not an {}", java_name(schema.schema_type()))))
        }
        _ => Err(misfit(schema, value)),
    }
}

/// The text of a number, also of those that JSON has none for and that are written as text.
fn float_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if matches!(text.as_str(), "NaN" | "Infinity" | "-Infinity") => Some(text.clone()),
        other => number_text(other),
    }
}

/// The text of a JSON number as it was written.
fn number_text(value: &Value) -> Option<String> {
    match value {
        Value::Int64(_) | Value::Float64(_) | Value::Number(_) => Some(json::to_string(value)),
        _ => None,
    }
}

fn has_text_keys(schema: &Schema) -> bool {
    schema.keys().schema_type() == SchemaType::String
}

fn misfit(schema: &Schema, value: &Value) -> Error {
    Error::data(format!("Invalid type for {}: {}", java_name(schema.schema_type()), node_type(value)))
}

/// Kafka's name of a type in error texts: `INT32`.
fn java_name(schema_type: SchemaType) -> String {
    schema_type.name().to_uppercase()
}

/// The JSON parser's name of what was found, as Kafka's error texts have it.
fn node_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "NULL",
        Value::Boolean(_) => "BOOLEAN",
        Value::String(_) => "STRING",
        Value::Array(_) => "ARRAY",
        Value::Map(_) => "OBJECT",
        _ => "NUMBER",
    }
}
