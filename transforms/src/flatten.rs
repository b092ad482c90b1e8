//! Takes nested maps and structs apart into fields of one level.
//!
//! This is Kafka Connect's `Flatten`: `flatten` is its `$Value`, `flatten-key` its `$Key`.
//!
//! ```toml
//! type = "flatten"
//! delimiter = "_"
//! ```
//!
//! ```json
//! {"ind":1,"place":{"country":"Albania","at":{"lat":1.5}},"tags":["a"]}
//! ```
//!
//! becomes
//!
//! ```json
//! {"ind":1,"place_country":"Albania","place_at_lat":1.5,"tags":["a"]}
//! ```
//!
//! Arrays stay as they are, an empty map disappears, null passes. With a schema, fields inside an optional struct become
//! optional, and a map fails the record. Of two fields that end up with one name the last wins; with a schema that is an
//! error.

use std::sync::Arc;

use ottla_api::data::{Field, SchemaType};
use ottla_api::prelude::*;

use crate::fields::{Fields, optional, struct_like};
use crate::key_or_value::{Change, Fate, KeyOrValue, OnPayload};
use crate::requirements::{class_name, require_fields};
use crate::schema_cache::SchemaCache;

/// The plugins for the value and for the key.
pub(crate) fn plugins() -> [Plugin; 2] {
    let value = Plugin {
        name: "flatten",
        aliases: &["org.apache.kafka.connect.transforms.Flatten$Value"],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("flatten.rs"),
        definition: &FlattenConfig::definition,
        constructor: Constructor::Transformation(&|properties| Flatten::construct(properties, KeyOrValue::Value)),
    };
    let key = Plugin {
        name: "flatten-key",
        aliases: &["org.apache.kafka.connect.transforms.Flatten$Key"],
        constructor: Constructor::Transformation(&|properties| Flatten::construct(properties, KeyOrValue::Key)),
        ..value
    };
    [value, key]
}

#[derive(Debug, Config)]
struct FlattenConfig {
    /// Stands between the names of a field and of the one around it.
    #[config(name = "delimiter", default = ".")]
    delimiter: String,
}

struct Flatten {
    delimiter: String,
    plans: SchemaCache<Arc<Schema>>,
}

impl Flatten {
    fn construct(properties: &Properties, on: KeyOrValue) -> Result<Box<dyn Transformation>> {
        let config = FlattenConfig::from_properties(properties)?;
        Ok(OnPayload::boxed(on, Self { delimiter: config.delimiter, plans: SchemaCache::new() }))
    }
}

impl Change for Flatten {
    fn change(&mut self, payload: &mut Payload) -> Result<Fate> {
        let Self { delimiter, plans } = self;
        match require_fields(payload, "flattening")? {
            Fields::Map(map) => {
                // Most maps are flat already.
                if map.iter().any(|(_, value)| !is_flat(value)) {
                    let mut flat = Map::with_capacity(map.len());
                    flatten_map(std::mem::take(map), "", delimiter, &mut flat)?;
                    *map = flat;
                }
            }
            Fields::Struct(mut place) => {
                let schema = plans.get(place.schema(), |input| {
                    let mut fields = Vec::new();
                    flatten_schema(input, "", delimiter, false, input.default(), &mut fields)?;
                    Ok(struct_like(input, fields))
                })?;
                let mut values = Vec::with_capacity(schema.fields().len());
                let input = Arc::clone(place.schema());
                for (field, value) in input.fields().iter().zip(place.take()) {
                    flatten_value(&field.schema, value, &mut values);
                }
                // A value that is null because the struct around it is reads as its default, as Kafka's `Struct.get`.
                for (value, field) in values.iter_mut().zip(schema.fields()) {
                    if let (Value::Null, Some(default)) = (&*value, field.schema.default()) {
                        *value = default.clone();
                    }
                }
                place.set(schema, values)?;
            }
        }
        Ok(Fate::Keep)
    }
}

fn is_flat(value: &Value) -> bool {
    !matches!(value, Value::Map(_) | Value::Pairs(_) | Value::Struct(_))
}

fn joined(prefix: &str, delimiter: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}{delimiter}{name}") }
}

fn flatten_map(map: Map, prefix: &str, delimiter: &str, flat: &mut Map) -> Result<()> {
    for (name, value) in map {
        let name = joined(prefix, delimiter, &name);
        match value {
            Value::Map(inner) => flatten_map(inner, &name, delimiter, flat)?,
            value if is_flat(&value) => drop(flat.insert(name, value)),
            other => {
                return Err(Error::data(format!(
                    "Flatten transformation does not support class {} for record without schemas (for field {name}).",
                    class_name(&other)
                )));
            }
        }
    }
    Ok(())
}

fn flatten_schema(
    schema: &Schema,
    prefix: &str,
    delimiter: &str,
    inside_optional: bool,
    default: Option<&Value>,
    fields: &mut Vec<Field>,
) -> Result<()> {
    for field in schema.fields() {
        let name = joined(prefix, delimiter, &field.name);
        let is_optional = inside_optional || field.schema.is_optional();
        // The field's own default, or what the default of the struct around it says.
        let default = field.schema.default().or_else(|| default.and_then(|default| default.field(&field.name)));
        match field.schema.schema_type() {
            SchemaType::Struct => flatten_schema(&field.schema, &name, delimiter, is_optional, default, fields)?,
            SchemaType::Map => {
                return Err(Error::data(format!(
                    "Flatten transformation does not support MAP for record with schemas (for field {name})."
                )));
            }
            _ => {
                if fields.iter().any(|known| known.name == name) {
                    return Err(Error::data(format!("Cannot create field because of field name duplication {name}")));
                }
                let mut schema = Arc::clone(&field.schema);
                if is_optional {
                    schema = optional(&schema);
                }
                if let (None, Some(default)) = (schema.default(), default.filter(|default| !default.is_null())) {
                    schema = schema.to_builder().default_value(default.clone()).build();
                }
                fields.push(Field { name, schema });
            }
        }
    }
    Ok(())
}

/// Appends the leaves of a value in the order of [`flatten_schema`].
fn flatten_value(schema: &Schema, value: Value, values: &mut Vec<Value>) {
    if schema.schema_type() != SchemaType::Struct {
        return values.push(value);
    }
    match value {
        Value::Struct(inner) => {
            let (inner_schema, inner_values) = inner.into_parts();
            for (field, value) in inner_schema.fields().iter().zip(inner_values) {
                flatten_value(&field.schema, value, values);
            }
        }
        _ => schema.fields().iter().for_each(|field| flatten_value(&field.schema, Value::Null, values)),
    }
}
