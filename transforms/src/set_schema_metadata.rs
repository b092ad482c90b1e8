//! Sets name and version of a schema.
//!
//! This is Kafka Connect's `SetSchemaMetadata`: `set-schema-metadata` is its `$Value`, `set-schema-metadata-key` its `$Key`.
//!
//! ```toml
//! type = "set-schema-metadata"
//! schema.name = "com.example.Post"
//! schema.version = "2"
//! ```
//!
//! ```json record
//! {"value":{"ind":1},"schema":"{ind: int32}"}
//! ```
//!
//! becomes
//!
//! ```json record
//! {"value":{"ind":1},"schema":"com.example.Post@2{ind: int32}"}
//! ```
//!
//! Data without a schema fails the record, but for null, which passes.

use std::sync::Arc;

use ottla_api::prelude::*;

use crate::key_or_value::{Change, Fate, KeyOrValue, OnPayload};
use crate::requirements::{NullWithDefault, or_default};
use crate::schema_cache::SchemaCache;

/// The plugins for the value and for the key.
pub(crate) fn plugins() -> [Plugin; 2] {
    let value = Plugin {
        name: "set-schema-metadata",
        aliases: &["org.apache.kafka.connect.transforms.SetSchemaMetadata$Value"],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("set_schema_metadata.rs"),
        definition: &SetSchemaMetadataConfig::definition,
        constructor: Constructor::Transformation(&|properties| {
            SetSchemaMetadata::construct(properties, KeyOrValue::Value)
        }),
    };
    let key = Plugin {
        name: "set-schema-metadata-key",
        aliases: &["org.apache.kafka.connect.transforms.SetSchemaMetadata$Key"],
        constructor: Constructor::Transformation(&|properties| {
            SetSchemaMetadata::construct(properties, KeyOrValue::Key)
        }),
        ..value
    };
    [value, key]
}

#[derive(Debug, Config)]
struct SetSchemaMetadataConfig {
    /// The schema's name; unset, it stays.
    #[config(name = "schema.name")]
    name: Option<String>,
    /// The schema's version; unset, it stays.
    #[config(name = "schema.version")]
    version: Option<i32>,
    #[config(flatten)]
    nulls: NullWithDefault,
}

struct SetSchemaMetadata {
    name: Option<String>,
    version: Option<i32>,
    replace_null_with_default: bool,
    plans: SchemaCache<Arc<Schema>>,
}

impl SetSchemaMetadata {
    fn construct(properties: &Properties, on: KeyOrValue) -> Result<Box<dyn Transformation>> {
        let config = SetSchemaMetadataConfig::from_properties(properties)?;
        let (name, version, replace_null_with_default) = (config.name, config.version, config.nulls.replace);
        Ok(OnPayload::boxed(on, Self { name, version, replace_null_with_default, plans: SchemaCache::new() }))
    }
}

impl Change for SetSchemaMetadata {
    const TAKES_NULL: bool = true;

    fn change(&mut self, payload: &mut Payload) -> Result<Fate> {
        let Some(schema) = payload.schema() else {
            return match payload.is_null() {
                true => Ok(Fate::Keep),
                false => Err(Error::data("Schema required for [updating schema metadata]")),
            };
        };
        let Self { name, version, replace_null_with_default, plans } = self;
        let schema = plans.get(schema, |schema| {
            let mut builder = schema.to_builder();
            if let Some(name) = name {
                builder = builder.name(name.as_str());
            }
            if let Some(version) = version {
                builder = builder.version(*version);
            }
            Ok(builder.build())
        })?;
        let value = match std::mem::take(payload.value_mut()?) {
            Value::Struct(fields) => {
                let values = fields.into_parts().1.into_iter().zip(schema.fields());
                let values = values.map(|(value, field)| or_default(value, &field.schema, *replace_null_with_default));
                Struct::from_values(Arc::clone(schema), values.collect())?.into()
            }
            other => other,
        };
        *payload = Payload::with_schema(Arc::clone(schema), value);
        Ok(Fate::Keep)
    }
}
