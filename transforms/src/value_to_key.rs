//! Makes the key from fields of the value.
//!
//! This is Kafka Connect's `ValueToKey`.
//!
//! ```toml
//! type = "value-to-key"
//! fields = "ind"
//! ```
//!
//! ```json record
//! {"value":{"ind":1,"title":"Blue"}}
//! ```
//!
//! becomes
//!
//! ```json record
//! {"key":{"ind":1},"value":{"ind":1,"title":"Blue"}}
//! ```
//!
//! With `field.syntax.version = "V2"` fields may be inside of others (`place.country`); the key's field has the last name.
//! Without a schema a missing field gives null; with one it is an error. A record without value fails. For a key that is the
//! bare field, put `extract-field-key` after this.

use std::sync::Arc;

use ottla_api::prelude::*;

use crate::field_path::{FieldPath, FieldSyntax};
use crate::requirements::{NullWithDefault, require_fields};
use crate::schema_cache::SchemaCache;
use crate::text_list::{config_error, not_empty};

/// The plugin.
pub(crate) fn plugin() -> Plugin {
    Plugin {
        name: "value-to-key",
        aliases: &["org.apache.kafka.connect.transforms.ValueToKey"],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("value_to_key.rs"),
        definition: &ValueToKeyConfig::definition,
        constructor: Constructor::Transformation(&|properties| {
            let config = ValueToKeyConfig::from_properties(properties)?;
            let fields = not_empty("fields", config.fields)?;
            let paths: Result<Vec<_>, String> =
                fields.iter().map(|field| FieldPath::parse(field, config.syntax)).collect();
            Ok(Box::new(ValueToKey {
                paths: paths.map_err(|message| config_error("fields", message))?,
                replace_null_with_default: config.nulls.replace,
                plans: SchemaCache::new(),
            }))
        }),
    }
}

#[derive(Debug, Config)]
struct ValueToKeyConfig {
    /// Fields of the value that make up the key.
    #[config(name = "fields")]
    fields: Vec<String>,
    /// `V1`: names at the top. `V2`: names separated by dots, backticks around a name with a dot.
    #[config(name = "field.syntax.version", default = "V1")]
    syntax: FieldSyntax,
    #[config(flatten)]
    nulls: NullWithDefault,
}

struct ValueToKey {
    paths: Vec<FieldPath>,
    replace_null_with_default: bool,
    plans: SchemaCache<Arc<Schema>>,
}

impl Transformation for ValueToKey {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        require_fields(&mut record.value, "copying fields from value to key")?;
        let Self { paths, replace_null_with_default, plans } = self;
        record.key = match record.value.schema().map(Arc::clone) {
            None => {
                let value = record.value.value()?;
                let mut key = Map::with_capacity(paths.len());
                for path in paths {
                    key.insert(path.last(), path.find(value)?.cloned().unwrap_or_default());
                }
                Payload::schemaless(key)
            }
            Some(schema) => {
                let key_schema = plans.get(&schema, |schema| {
                    let mut builder = Schema::structure();
                    for path in paths.iter() {
                        let field = path.schema(schema);
                        let field =
                            field.ok_or_else(|| Error::data(format!("Field does not exist: {}", path.as_str())))?;
                        builder = builder.field(path.last(), Arc::clone(field));
                    }
                    Ok(builder.build())
                })?;
                let value = record.value.value()?;
                let values = paths.iter().map(|path| path.value(value, *replace_null_with_default)).collect();
                Payload::with_schema(Arc::clone(key_schema), Struct::from_values(Arc::clone(key_schema), values)?)
            }
        };
        Ok(Some(record))
    }
}
