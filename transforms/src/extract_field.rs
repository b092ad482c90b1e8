//! Replaces the whole payload by one of its fields.
//!
//! This is Kafka Connect's `ExtractField`: `extract-field` is its `$Value`, `extract-field-key` its `$Key`.
//!
//! ```toml
//! type = "extract-field"
//! field = "place.country"
//! "field.syntax.version" = "V2"
//! ```
//!
//! ```json
//! {"ind":1,"place":{"country":"Albania"}}
//! ```
//!
//! becomes
//!
//! ```json
//! "Albania"
//! ```
//!
//! With `field.syntax.version = "V1"`, the default, a dot is part of a name at the top. Without a schema a missing field gives
//! null; with one it is an error. Null stays null.

use std::sync::Arc;

use ottla_api::prelude::*;

use crate::field_path::{FieldPath, FieldSyntax};
use crate::key_or_value::{Change, Fate, KeyOrValue, OnPayload};
use crate::requirements::{NullWithDefault, require_fields};
use crate::text_list::config_error;

/// The plugins for the value and for the key.
pub(crate) fn plugins() -> [Plugin; 2] {
    let value = Plugin {
        name: "extract-field",
        aliases: &["org.apache.kafka.connect.transforms.ExtractField$Value"],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("extract_field.rs"),
        definition: &ExtractFieldConfig::definition,
        constructor: Constructor::Transformation(&|properties| ExtractField::construct(properties, KeyOrValue::Value)),
    };
    let key = Plugin {
        name: "extract-field-key",
        aliases: &["org.apache.kafka.connect.transforms.ExtractField$Key"],
        constructor: Constructor::Transformation(&|properties| ExtractField::construct(properties, KeyOrValue::Key)),
        ..value
    };
    [value, key]
}

#[derive(Debug, Config)]
struct ExtractFieldConfig {
    /// The field.
    #[config(name = "field")]
    field: String,
    /// `V1`: a name at the top. `V2`: names separated by dots, backticks around a name with a dot.
    #[config(name = "field.syntax.version", default = "V1")]
    syntax: FieldSyntax,
    #[config(flatten)]
    nulls: NullWithDefault,
}

struct ExtractField {
    path: FieldPath,
    replace_null_with_default: bool,
}

impl ExtractField {
    fn construct(properties: &Properties, on: KeyOrValue) -> Result<Box<dyn Transformation>> {
        let config = ExtractFieldConfig::from_properties(properties)?;
        let path = FieldPath::parse(&config.field, config.syntax).map_err(|message| config_error("field", message))?;
        Ok(OnPayload::boxed(on, Self { path, replace_null_with_default: config.nulls.replace }))
    }
}

impl Change for ExtractField {
    const TAKES_NULL: bool = true;

    fn change(&mut self, payload: &mut Payload) -> Result<Fate> {
        let schema = match payload.schema() {
            Some(schema) => {
                let found = self.path.schema(schema).map(Arc::clone);
                Some(found.ok_or_else(|| Error::data(format!("Unknown field: {}", self.path.as_str())))?)
            }
            None => None,
        };
        if !payload.is_null() {
            require_fields(payload, "field extraction")?;
        }
        let value = match schema {
            None => self.path.take(payload.value_mut()?)?.unwrap_or_default(),
            Some(_) => self.path.value(payload.value()?, self.replace_null_with_default),
        };
        *payload = Payload::Data { schema, value };
        Ok(Fate::Keep)
    }
}
