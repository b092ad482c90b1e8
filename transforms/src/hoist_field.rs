//! Wraps the whole payload in a map or struct with one field.
//!
//! This is Kafka Connect's `HoistField`: `hoist-field` is its `$Value`, `hoist-field-key` its `$Key`.
//!
//! ```toml
//! type = "hoist-field"
//! field = "line"
//! ```
//!
//! ```json
//! "a line of text"
//! ```
//!
//! becomes
//!
//! ```json
//! {"line":"a line of text"}
//! ```
//!
//! Null is wrapped too, so a tombstone ceases to be one; guard with `record-is-tombstone` where that matters.

use std::sync::Arc;

use ottla_api::prelude::*;

use crate::key_or_value::{Change, Fate, KeyOrValue, OnPayload};
use crate::schema_cache::SchemaCache;

/// The plugins for the value and for the key.
pub(crate) fn plugins() -> [Plugin; 2] {
    let value = Plugin {
        name: "hoist-field",
        aliases: &["org.apache.kafka.connect.transforms.HoistField$Value"],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("hoist_field.rs"),
        definition: &HoistFieldConfig::definition,
        constructor: Constructor::Transformation(&|properties| HoistField::construct(properties, KeyOrValue::Value)),
    };
    let key = Plugin {
        name: "hoist-field-key",
        aliases: &["org.apache.kafka.connect.transforms.HoistField$Key"],
        constructor: Constructor::Transformation(&|properties| HoistField::construct(properties, KeyOrValue::Key)),
        ..value
    };
    [value, key]
}

#[derive(Debug, Config)]
struct HoistFieldConfig {
    /// Name of the field.
    #[config(name = "field")]
    field: String,
}

struct HoistField {
    field: String,
    plans: SchemaCache<Arc<Schema>>,
}

impl HoistField {
    fn construct(properties: &Properties, on: KeyOrValue) -> Result<Box<dyn Transformation>> {
        let config = HoistFieldConfig::from_properties(properties)?;
        Ok(OnPayload::boxed(on, Self { field: config.field, plans: SchemaCache::new() }))
    }
}

impl Change for HoistField {
    const TAKES_NULL: bool = true;

    fn change(&mut self, payload: &mut Payload) -> Result<Fate> {
        let field = &self.field;
        *payload = match std::mem::take(payload).into_data()? {
            (None, value) => {
                let mut map = Map::with_capacity(1);
                map.push(field.as_str(), value);
                Payload::schemaless(map)
            }
            (Some(inner), value) => {
                let schema =
                    self.plans.get(&inner, |inner| Ok(Schema::structure().field(field, Arc::clone(inner)).build()))?;
                Payload::with_schema(Arc::clone(schema), Struct::from_values(Arc::clone(schema), vec![value])?)
            }
        };
        Ok(Fate::Keep)
    }
}
