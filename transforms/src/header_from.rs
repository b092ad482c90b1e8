//! Copies or moves fields into headers.
//!
//! This is Kafka Connect's `HeaderFrom`: `header-from` is its `$Value`, `header-from-key` its `$Key`.
//!
//! ```toml
//! type = "header-from"
//! fields = "team"
//! headers = "origin"
//! operation = "move"
//! ```
//!
//! ```json record
//! {"value":{"ind":1,"team":"blue"}}
//! ```
//!
//! becomes
//!
//! ```json record
//! {"value":{"ind":1},"headers":{"origin":"blue"}}
//! ```
//!
//! A header that exists stays, the new one is added. Without a schema a missing field gives a header that is null; with one it
//! is an error. A record without value fails.

use std::sync::Arc;

use ottla_api::config::ConfigValue;
use ottla_api::data::Field;
use ottla_api::header::Header;
use ottla_api::prelude::*;

use crate::fields::{Fields, struct_like};
use crate::key_or_value::KeyOrValue;
use crate::requirements::{NullWithDefault, or_default, require_fields};
use crate::schema_cache::SchemaCache;
use crate::text_list::{config_error, not_empty};

/// The plugins for the value and for the key.
pub(crate) fn plugins() -> [Plugin; 2] {
    let value = Plugin {
        name: "header-from",
        aliases: &["org.apache.kafka.connect.transforms.HeaderFrom$Value"],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("header_from.rs"),
        definition: &HeaderFromConfig::definition,
        constructor: Constructor::Transformation(&|properties| HeaderFrom::construct(properties, KeyOrValue::Value)),
    };
    let key = Plugin {
        name: "header-from-key",
        aliases: &["org.apache.kafka.connect.transforms.HeaderFrom$Key"],
        constructor: Constructor::Transformation(&|properties| HeaderFrom::construct(properties, KeyOrValue::Key)),
        ..value
    };
    [value, key]
}

#[derive(Debug, Config)]
struct HeaderFromConfig {
    /// The fields.
    #[config(name = "fields")]
    fields: Vec<String>,
    /// The headers, one for each field.
    #[config(name = "headers")]
    headers: Vec<String>,
    /// `copy`, or `move`, which takes the field out.
    #[config(name = "operation")]
    operation: Operation,
    #[config(flatten)]
    nulls: NullWithDefault,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
enum Operation {
    Copy,
    Move,
}

struct HeaderFrom {
    on: KeyOrValue,
    /// Field and header.
    pairs: Vec<(String, String)>,
    operation: Operation,
    replace_null_with_default: bool,
    plans: SchemaCache<Plan>,
}

/// What happens to structs of one schema.
struct Plan {
    /// Where each field stands.
    places: Vec<usize>,
    /// What is left when they are moved.
    schema: Arc<Schema>,
}

impl HeaderFrom {
    fn construct(properties: &Properties, on: KeyOrValue) -> Result<Box<dyn Transformation>> {
        let config = HeaderFromConfig::from_properties(properties)?;
        let fields = not_empty("fields", config.fields)?;
        if fields.len() != config.headers.len() {
            return Err(config_error(
                "headers",
                "'fields' config must have the same number of elements as 'headers' config.",
            ));
        }
        Ok(Box::new(Self {
            on,
            pairs: fields.into_iter().zip(config.headers).collect(),
            operation: config.operation,
            replace_null_with_default: config.nulls.replace,
            plans: SchemaCache::new(),
        }))
    }
}

impl Transformation for HeaderFrom {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        let Self { on, pairs, operation, replace_null_with_default, plans } = self;
        let mut headers = std::mem::take(&mut record.headers);
        let purpose = match operation {
            Operation::Copy => "header copy",
            Operation::Move => "header move",
        };
        match require_fields(on.of(&mut record), purpose)? {
            Fields::Map(map) => {
                for (field, header) in pairs.iter() {
                    headers.add(header.as_str(), map.get(field).cloned().unwrap_or_default());
                }
                if *operation == Operation::Move {
                    map.retain(|name, _| pairs.iter().all(|(field, _)| field != name));
                }
            }
            Fields::Struct(mut place) => {
                let plan = plans.get(place.schema(), |input| Plan::new(input, pairs))?;
                let input = Arc::clone(place.schema());
                for (place_of, (_, header)) in plan.places.iter().zip(pairs.iter()) {
                    let schema = &input.fields()[*place_of].schema;
                    let value = place.get().values()[*place_of].clone();
                    headers.push(Header {
                        key: header.clone(),
                        value: or_default(value, schema, *replace_null_with_default),
                        schema: Some(Arc::clone(schema)),
                    });
                }
                if *operation == Operation::Move {
                    let values = place.take().into_iter().enumerate();
                    let left = values.filter(|(index, _)| !plan.places.contains(index)).map(|(_, value)| value);
                    let left = left.collect();
                    place.set(&plan.schema, left)?;
                }
            }
        }
        record.headers = headers;
        Ok(Some(record))
    }
}

impl Plan {
    fn new(input: &Arc<Schema>, pairs: &[(String, String)]) -> Result<Self> {
        let place = |(field, _): &(String, String)| {
            input.field_index(field).ok_or_else(|| Error::data(format!("Field does not exist: {field}")))
        };
        let places = pairs.iter().map(place).collect::<Result<Vec<_>>>()?;
        let left = input.fields().iter().enumerate().filter(|(index, _)| !places.contains(index));
        let schema = struct_like(input, left.map(|(_, field)| Field::clone(field)));
        Ok(Self { places, schema })
    }
}
