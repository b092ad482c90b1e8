//! Blanks out fields: their type stays, their content goes.
//!
//! This is Kafka Connect's `MaskField`: `mask-field` is its `$Value`, `mask-field-key` its `$Key`.
//!
//! ```toml
//! type = "mask-field"
//! fields = "name, age, tags"
//! ```
//!
//! ```json
//! {"ind":1,"name":"Ada","age":36,"tags":["a"]}
//! ```
//!
//! becomes
//!
//! ```json
//! {"ind":1,"name":"","age":0,"tags":[]}
//! ```
//!
//! Texts become empty, numbers 0, truth values false, dates 1970-01-01, arrays and maps empty; null stays null. `replacement`
//! stands in for numbers and texts only. A record without value fails: guard with `record-is-tombstone` where there are any.

use std::sync::Arc;

use ottla_api::data::{Decimal, SchemaType};
use ottla_api::prelude::*;

use crate::fields::{FieldName, Fields, with_list};
use crate::key_or_value::{Change, Fate, KeyOrValue, OnPayload};
use crate::requirements::{NullWithDefault, class_name, or_default, require_fields, type_of};
use crate::text_list::{config_error, not_empty};

/// The plugins for the value and for the key.
pub(crate) fn plugins() -> [Plugin; 2] {
    let value = Plugin {
        name: "mask-field",
        aliases: &["org.apache.kafka.connect.transforms.MaskField$Value"],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("mask_field.rs"),
        definition: &MaskFieldConfig::definition,
        constructor: Constructor::Transformation(&|properties| MaskField::construct(properties, KeyOrValue::Value)),
    };
    let key = Plugin {
        name: "mask-field-key",
        aliases: &["org.apache.kafka.connect.transforms.MaskField$Key"],
        constructor: Constructor::Transformation(&|properties| MaskField::construct(properties, KeyOrValue::Key)),
        ..value
    };
    [value, key]
}

#[derive(Debug, Config)]
struct MaskFieldConfig {
    /// Fields to blank out.
    #[config(name = "fields")]
    fields: Vec<String>,
    /// What stands in for numbers and texts.
    #[config(name = "replacement")]
    replacement: Option<String>,
    #[config(flatten)]
    nulls: NullWithDefault,
}

struct MaskField {
    fields: Vec<FieldName>,
    replacement: Option<String>,
    replace_null_with_default: bool,
}

impl MaskField {
    fn construct(properties: &Properties, on: KeyOrValue) -> Result<Box<dyn Transformation>> {
        let config = MaskFieldConfig::from_properties(properties)?;
        if config.replacement.as_deref() == Some("") {
            return Err(config_error("replacement", "String must be non-empty"));
        }
        let fields = FieldName::list(not_empty("fields", config.fields)?);
        let (replacement, replace_null_with_default) = (config.replacement, config.nulls.replace);
        Ok(OnPayload::boxed(on, Self { fields, replacement, replace_null_with_default }))
    }
}

impl Change for MaskField {
    const TAKES_NULL: bool = true;

    fn change(&mut self, payload: &mut Payload) -> Result<Fate> {
        let Self { fields: names, replacement, replace_null_with_default } = self;
        let mask = |value: &Value, name: &str| {
            masked(value, replacement.as_deref()).map_err(|error| error.with("field", name))
        };
        match require_fields(payload, "mask fields")? {
            Fields::Map(map) => with_list(map, |fields| -> Result<()> {
                for name in names {
                    match name.place(fields) {
                        Some(place) => fields[place].1 = mask(&fields[place].1, &name.name)?,
                        None => fields.push((name.name.clone(), Value::Null)),
                    }
                }
                Ok(())
            })?,
            Fields::Struct(mut place) => {
                let schema = Arc::clone(place.schema());
                let mut values = place.take();
                for (value, field) in values.iter_mut().zip(schema.fields()) {
                    *value = or_default(std::mem::take(value), &field.schema, *replace_null_with_default);
                    if names.iter().any(|name| name.name == field.name) {
                        *value = mask(value, &field.name)?;
                    }
                }
                place.set(&schema, values)?;
            }
        }
        Ok(Fate::Keep)
    }
}

/// What stands in for a value.
fn masked(value: &Value, replacement: Option<&str>) -> Result<Value> {
    if value.is_null() {
        return Ok(Value::Null);
    }
    if let Some(replacement) = replacement {
        return replaced(value, replacement);
    }
    Ok(match value {
        Value::Boolean(_) => Value::Boolean(false),
        Value::Int8(_) => Value::Int8(0),
        Value::Int16(_) => Value::Int16(0),
        Value::Int32(_) => Value::Int32(0),
        Value::Int64(_) => Value::Int64(0),
        Value::Float32(_) => Value::Float32(0.0),
        Value::Float64(_) => Value::Float64(0.0),
        Value::Number(_) => Value::Int64(0),
        Value::String(_) => Value::String(String::new()),
        Value::Date(_) => Value::Date(0),
        Value::Time(_) => Value::Time(0),
        Value::Timestamp(_) => Value::Timestamp(0),
        Value::Decimal(decimal) => Value::Decimal(Decimal { scale: decimal.scale, ..Decimal::parse("0")? }),
        Value::Array(_) => Value::Array(Vec::new()),
        Value::Map(_) => Value::Map(Map::new()),
        Value::Pairs(_) => Value::Pairs(Vec::new()),
        Value::Null | Value::Bytes(_) | Value::Struct(_) => {
            return Err(Error::data(format!("Cannot mask value of type: class {}", class_name(value))));
        }
    })
}

fn replaced(value: &Value, replacement: &str) -> Result<Value> {
    let unable = || Error::data(format!("Unable to convert {replacement} (class java.lang.String) to number"));
    Ok(match (value, type_of(value)) {
        (Value::String(_), _) => Value::from(replacement),
        (Value::Decimal(decimal), _) => {
            let parsed = Decimal::parse(replacement).map_err(|_| unable())?;
            if parsed.scale != decimal.scale {
                return Err(Error::data(format!(
                    "the replacement {replacement} must have {} digits after the point, as the field has",
                    decimal.scale
                )));
            }
            Value::Decimal(parsed)
        }
        (Value::Date(_) | Value::Time(_) | Value::Timestamp(_), _) => {
            return Err(Error::data(format!(
                "Cannot mask value of type class {} with custom replacement.",
                class_name(value)
            )));
        }
        (_, Some(SchemaType::Int8)) => Value::Int8(replacement.parse().map_err(|_| unable())?),
        (_, Some(SchemaType::Int16)) => Value::Int16(replacement.parse().map_err(|_| unable())?),
        (_, Some(SchemaType::Int32)) => Value::Int32(replacement.parse().map_err(|_| unable())?),
        (_, Some(SchemaType::Int64)) => Value::Int64(replacement.parse().map_err(|_| unable())?),
        (_, Some(SchemaType::Float32)) => Value::Float32(replacement.parse().map_err(|_| unable())?),
        (_, Some(SchemaType::Float64)) => Value::Float64(replacement.parse().map_err(|_| unable())?),
        _ => {
            return Err(Error::data(format!(
                "Cannot mask value of type class {} with custom replacement.",
                class_name(value)
            )));
        }
    })
}
