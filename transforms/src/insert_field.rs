//! Adds fields from the record's own place and time, or with a fixed text.
//!
//! This is Kafka Connect's `InsertField`: `insert-field` is its `$Value`, `insert-field-key` its `$Key`.
//!
//! ```toml
//! type = "insert-field"
//! topic.field = "topic"
//! timestamp.field = "received"
//! static.field = "team"
//! static.value = "blue"
//! ```
//!
//! ```json record
//! {"topic":"posts","timestamp":1632685763000,"value":{"ind":1}}
//! ```
//!
//! becomes
//!
//! ```json record
//! {"topic":"posts","timestamp":1632685763000,
//!  "value":{"ind":1,"topic":"posts","received":1632685763000,"team":"blue"}}
//! ```
//!
//! A name that ends in `!` makes a required field, one that ends in `?` or in neither an optional one; that matters with a
//! schema only. A timestamp is a number of milliseconds without a schema and a logical timestamp with one. `offset.field` is
//! for sinks: a source's records have no offset yet. Null passes untouched.

use std::sync::Arc;

use ottla_api::config::ConfigValue;
use ottla_api::data::SchemaType;
use ottla_api::prelude::*;

use crate::fields::{Fields, struct_like};
use crate::key_or_value::KeyOrValue;
use crate::requirements::{NullWithDefault, or_default, require_fields};
use crate::schema_cache::SchemaCache;
use crate::text_list::config_error;

/// The plugins for the value and for the key.
pub(crate) fn plugins() -> [Plugin; 2] {
    let value = Plugin {
        name: "insert-field",
        aliases: &["org.apache.kafka.connect.transforms.InsertField$Value"],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("insert_field.rs"),
        definition: &InsertFieldConfig::definition,
        constructor: Constructor::Transformation(&|properties| InsertField::construct(properties, KeyOrValue::Value)),
    };
    let key = Plugin {
        name: "insert-field-key",
        aliases: &["org.apache.kafka.connect.transforms.InsertField$Key"],
        constructor: Constructor::Transformation(&|properties| InsertField::construct(properties, KeyOrValue::Key)),
        ..value
    };
    [value, key]
}

#[derive(Debug, Config)]
struct InsertFieldConfig {
    /// Field for the topic's name.
    #[config(name = "topic.field")]
    topic: Option<NewField>,
    /// Field for the partition's number.
    #[config(name = "partition.field")]
    partition: Option<NewField>,
    /// Field for the offset; sinks only.
    #[config(name = "offset.field")]
    offset: Option<NewField>,
    /// Field for the record's timestamp.
    #[config(name = "timestamp.field")]
    timestamp: Option<NewField>,
    /// Field for a fixed text.
    #[config(name = "static.field")]
    fixed: Option<NewField>,
    /// That text.
    #[config(name = "static.value")]
    fixed_value: Option<String>,
    #[config(flatten)]
    nulls: NullWithDefault,
}

#[derive(Debug, Clone)]
struct NewField {
    name: String,
    optional: bool,
}

impl ConfigValue for NewField {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, optional) = match text.strip_suffix('!') {
            Some(name) => (name, false),
            None => (text.strip_suffix('?').unwrap_or(text), true),
        };
        if name.is_empty() {
            return Err(format!("must name a field, found '{text}'"));
        }
        Ok(Self { name: name.to_owned(), optional })
    }

    fn type_name() -> std::borrow::Cow<'static, str> {
        "field name, with ! required".into()
    }
}

/// What a new field holds.
#[derive(Debug, Clone)]
enum Content {
    Topic,
    Partition,
    Offset,
    Timestamp,
    Fixed(String),
}

impl Content {
    fn schema_type(&self, optional: bool) -> Arc<Schema> {
        match self {
            Self::Topic | Self::Fixed(_) => Schema::builder(SchemaType::String),
            Self::Partition => Schema::builder(SchemaType::Int32),
            Self::Offset => Schema::builder(SchemaType::Int64),
            Self::Timestamp => Schema::timestamp(),
        }
        .optional_if(optional)
        .build()
    }

    fn value(&self, of: &Origin<'_>, has_schema: bool) -> Result<Option<Value>> {
        Ok(match self {
            Self::Topic => Some(Value::from(of.topic)),
            Self::Partition => of.partition.map(Value::Int32),
            Self::Offset => match of.offset {
                Some(offset) => Some(Value::Int64(offset)),
                None => {
                    return Err(Error::data(
                        "Only SinkRecord supported for [field insertion], found: org.apache.kafka.connect.source.SourceRecord",
                    ));
                }
            },
            Self::Timestamp if has_schema => of.timestamp.map(Value::Timestamp),
            Self::Timestamp => of.timestamp.map(Value::Int64),
            Self::Fixed(text) => Some(Value::from(text.as_str())),
        })
    }
}

/// Where a record comes from.
struct Origin<'a> {
    topic: &'a str,
    partition: Option<i32>,
    offset: Option<i64>,
    timestamp: Option<i64>,
}

struct InsertField {
    on: KeyOrValue,
    fields: Vec<(NewField, Content)>,
    replace_null_with_default: bool,
    plans: SchemaCache<Arc<Schema>>,
}

impl InsertField {
    fn construct(properties: &Properties, on: KeyOrValue) -> Result<Box<dyn Transformation>> {
        let config = InsertFieldConfig::from_properties(properties)?;
        let mut fields = Vec::new();
        let mut add = |field: Option<NewField>, content| fields.extend(field.map(|field| (field, content)));
        add(config.topic, Content::Topic);
        add(config.partition, Content::Partition);
        add(config.offset, Content::Offset);
        add(config.timestamp, Content::Timestamp);
        match (config.fixed, config.fixed_value) {
            (Some(field), None) => {
                return Err(config_error(
                    "static.value",
                    format!("No value specified for static field: {}", field.name),
                ));
            }
            (field, text) => add(field, Content::Fixed(text.unwrap_or_default())),
        }
        if fields.is_empty() {
            return Err(config_error(
                "topic.field",
                "No field insertion configured: set this, partition.field, offset.field, timestamp.field or static.field",
            ));
        }
        let replace_null_with_default = config.nulls.replace;
        Ok(Box::new(Self { on, fields, replace_null_with_default, plans: SchemaCache::new() }))
    }
}

impl Transformation for InsertField {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        let Record { topic, partition, key, value, timestamp, offset, .. } = &mut record;
        let origin = Origin { topic, partition: *partition, offset: *offset, timestamp: *timestamp };
        let payload = match self.on {
            KeyOrValue::Key => key,
            KeyOrValue::Value => value,
        };
        if payload.is_null() {
            return Ok(Some(record));
        }
        match require_fields(payload, "field insertion")? {
            Fields::Map(map) => {
                for (field, content) in &self.fields {
                    if let Some(value) = content.value(&origin, false)? {
                        map.insert(field.name.as_str(), value);
                    }
                }
            }
            Fields::Struct(mut place) => {
                let fields = &self.fields;
                let schema = self.plans.get(place.schema(), |input| with_fields(input, fields))?;
                let mut values = place.take();
                if self.replace_null_with_default {
                    for (value, field) in values.iter_mut().zip(schema.fields()) {
                        *value = or_default(std::mem::take(value), &field.schema, true);
                    }
                }
                for (field, content) in fields {
                    let value = content.value(&origin, true)?.unwrap_or_default();
                    if value.is_null() && !field.optional {
                        return Err(Error::data(format!(
                            "Invalid value: null used for required field: \"{}\"",
                            field.name
                        )));
                    }
                    values.push(value);
                }
                place.set(schema, values)?;
            }
        }
        Ok(Some(record))
    }
}

fn with_fields(input: &Arc<Schema>, added: &[(NewField, Content)]) -> Result<Arc<Schema>> {
    let mut fields = input.fields().to_vec();
    for (field, content) in added {
        let name = field.name.clone();
        if fields.iter().any(|known| known.name == name) {
            return Err(Error::data(format!("Cannot create field because of field name duplication {name}")));
        }
        fields.push(ottla_api::data::Field { name, schema: content.schema_type(field.optional) });
    }
    Ok(struct_like(input, fields))
}
