//! Sets fields to what expressions in CEL make of the record.
//!
//! `set.<field>` names a field and says what it is to hold; one that is not there is added at the end. Each expression sees the record as
//! it came, and may name `value`, `key`, `topic`, `partition`, `offset`, `timestamp` (milliseconds) and `headers`. CEL has
//! `+ - * / % == != < && || ! ? :`, `in`, `has(..)`, `size`, `int`, `double`, `string`, `matches`, `startsWith`, lists and maps, and here
//! its extensions for text (`lowerAscii`, `trim`, `split`, `replace`, ..), numbers (`math.greatest`, ..), lists and base64. It doesn't mix
//! whole numbers and others: `double(value.n) * 0.5`. A field that may be missing is `value.?name.orValue("")`.
//!
//! ```toml
//! type = "map"
//! set.name = 'value.first + " " + value.last'
//! set.adult = 'value.age >= 18'
//! set.age = 'value.age + 1'
//! ```
//!
//! ```json
//! {"first":"Abigail","last":"Ali","age":20}
//! ```
//!
//! becomes
//!
//! ```json
//! {"first":"Abigail","last":"Ali","age":21,"name":"Abigail Ali","adult":true}
//! ```
//!
//! An expression that can't be worked out fails the record. Records with a schema keep it: only fields that it has can be set, to
//! values that fit. Tombstones pass untouched.

use ottla_api::data::{SchemaType, logical};
use ottla_api::prelude::*;

use crate::expression::Expression;
use crate::fields::{Fields, Opened, open, with_list};
use crate::key_or_value::{KeyOrValue, On};
use crate::text_list::config_error;

/// The plugin.
pub(crate) fn plugin() -> Plugin {
    Plugin {
        name: "map",
        aliases: &[],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("map.rs"),
        definition: &MapConfig::definition,
        constructor: Constructor::Transformation(&|properties| {
            let config = MapConfig::from_properties(properties)?;
            if config.set.is_empty() {
                return Err(config_error(
                    "set.<field>",
                    "there is none: set.name = 'value.first + \" \" + value.last'",
                ));
            }
            Ok(Box::new(MapFields { on: config.on.on, set: config.set }))
        }),
    }
}

#[derive(Debug, Config)]
struct MapConfig {
    /// What a field is to hold.
    #[config(prefix = "set.")]
    set: Vec<(String, Expression)>,
    #[config(flatten)]
    on: On,
}

struct MapFields {
    on: KeyOrValue,
    set: Vec<(String, Expression)>,
}

impl Transformation for MapFields {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        if self.on.of(&mut record).is_null() {
            return Ok(Some(record));
        }
        let results = self.set.iter().map(|(_, expression)| expression.value(&mut record));
        let results = results.collect::<Result<Vec<_>>>()?;
        match open(self.on.of(&mut record))? {
            Opened::Fields(Fields::Map(map)) => with_list(map, |fields| {
                for ((name, _), value) in self.set.iter().zip(results) {
                    match fields.iter_mut().find(|(field, _)| field == name) {
                        Some((_, old)) => *old = value,
                        None => fields.push((name.as_str().into(), value)),
                    }
                }
            }),
            Opened::Fields(Fields::Struct(mut place)) => {
                let schema = place.schema().clone();
                let mut values = place.take();
                for ((name, _), value) in self.set.iter().zip(results) {
                    let Some(index) = schema.field_index(name) else {
                        return Err(Error::data(format!(
                            "the record's schema has no field '{name}' that map could set; add it before, with insert-field"
                        )));
                    };
                    let of_field = &schema.fields()[index].schema;
                    let value = fitted(value, of_field);
                    of_field.check(&value).map_err(|error| error.during(format!("set field '{name}'")))?;
                    values[index] = value;
                }
                place.set(&schema, values)?;
            }
            Opened::Other { value, .. } => {
                return Err(Error::data(format!("map sets fields, found {}", value.type_name())));
            }
        }
        Ok(Some(record))
    }
}

/// The value in the type that a schema asks for, where nothing of it is lost; otherwise as it is.
fn fitted(value: Value, schema: &Schema) -> Value {
    let narrow = match (schema.schema_type(), schema.name(), &value) {
        (SchemaType::Int8, _, Value::Int64(n)) => i8::try_from(*n).ok().map(Value::Int8),
        (SchemaType::Int16, _, Value::Int64(n)) => i16::try_from(*n).ok().map(Value::Int16),
        (SchemaType::Int32, Some(logical::DATE), Value::Int64(n)) => i32::try_from(*n).ok().map(Value::Date),
        (SchemaType::Int32, Some(logical::TIME), Value::Int64(n)) => i32::try_from(*n).ok().map(Value::Time),
        (SchemaType::Int32, _, Value::Int64(n)) => i32::try_from(*n).ok().map(Value::Int32),
        (SchemaType::Int64, Some(logical::TIMESTAMP), Value::Int64(n)) => Some(Value::Timestamp(*n)),
        (SchemaType::Float64, _, Value::Int64(n)) => Some(Value::Float64(*n as f64)),
        (SchemaType::Float32, _, Value::Float64(n)) if f64::from(*n as f32) == *n => Some(Value::Float32(*n as f32)),
        _ => None,
    };
    narrow.unwrap_or(value)
}
