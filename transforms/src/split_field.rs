//! Splits text into an array, such as a comma list of tags.
//!
//! ```toml
//! type = "split-field"
//! fields = "tag_list"
//! ```
//!
//! ```json
//! {"ind":1,"tag_list":"Art,Oil Painting,Blue"}
//! ```
//!
//! becomes
//!
//! ```json
//! {"ind":1,"tag_list":["Art","Oil Painting","Blue"]}
//! ```
//!
//! Null stays null, empty text becomes an empty array, an array stays what it is; anything else fails the record.

use std::sync::Arc;

use ottla_api::data::SchemaType;
use ottla_api::prelude::*;

use crate::fields::{FieldEdits, fields_of};
use crate::key_or_value::{Change, Fate, On, OnPayload};
use crate::text_list::{config_error, not_empty};

/// The plugin.
pub(crate) fn plugin() -> Plugin {
    Plugin {
        name: "split-field",
        aliases: &[],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("split_field.rs"),
        definition: &SplitFieldConfig::definition,
        constructor: Constructor::Transformation(&SplitField::construct),
    }
}

#[derive(Debug, Config)]
struct SplitFieldConfig {
    /// Fields whose text is split.
    #[config(name = "fields")]
    fields: Vec<String>,
    /// Stands between two items.
    #[config(name = "separator", default = ",")]
    separator: String,
    /// Whether blanks around an item go.
    #[config(name = "trim", default = "false")]
    trim: bool,
    /// Whether items that are empty are kept.
    #[config(name = "empty", default = "true")]
    empty: bool,
    #[config(flatten)]
    on: On,
}

struct SplitField {
    fields: FieldEdits,
    separator: String,
    trim: bool,
    empty: bool,
}

impl SplitField {
    fn construct(properties: &Properties) -> Result<Box<dyn Transformation>> {
        let config = SplitFieldConfig::from_properties(properties)?;
        if config.separator.is_empty() {
            return Err(config_error("separator", "must not be empty"));
        }
        let fields = FieldEdits::of(not_empty("fields", config.fields)?);
        let (separator, trim, empty) = (config.separator, config.trim, config.empty);
        Ok(OnPayload::boxed(config.on.on, Self { fields, separator, trim, empty }))
    }
}

impl Change for SplitField {
    fn change(&mut self, payload: &mut Payload) -> Result<Fate> {
        let Self { fields, separator, trim, empty } = self;
        fields.apply(
            &mut fields_of(payload, "split-field")?,
            |_, schema: &Arc<Schema>| match schema.schema_type() {
                SchemaType::Array => Ok(Arc::clone(schema)),
                _ => Ok(Schema::array(Schema::of(SchemaType::String)).optional_if(schema.is_optional()).build()),
            },
            |_, value, _| {
                *value = match value {
                    Value::Null | Value::Array(_) => return Ok(Fate::Keep),
                    Value::String(text) if text.is_empty() => Value::Array(Vec::new()),
                    Value::String(text) => {
                        let items = text.split(separator.as_str());
                        let items = items.map(|item| if *trim { item.trim() } else { item });
                        Value::Array(items.filter(|item| *empty || !item.is_empty()).map(Value::from).collect())
                    }
                    other => {
                        return Err(Error::data(format!("only text can be split, found {}", other.type_name())));
                    }
                };
                Ok(Fate::Keep)
            },
        )
    }
}
