//! Refuses records that lack something.
//!
//! ```toml
//! type = "require-fields"
//! fields = "ind, country"
//! action = "drop"
//! ```
//!
//! ```json
//! {"ind":17,"country":null}
//! ```
//!
//! becomes
//!
//! ```text
//! dropped
//! ```
//!
//! A field that is missing or null makes the record fail, so that it goes where failed records go (the dead letter queue, if
//! there is one), or drops it, as `action` says.

use ottla_api::config::ConfigValue;
use ottla_api::prelude::*;

use crate::fields::{FieldName, fields_of};
use crate::key_or_value::{Change, Fate, On, OnPayload};
use crate::null_if::is_blank;
use crate::text_list::not_empty;

/// The plugin.
pub(crate) fn plugin() -> Plugin {
    Plugin {
        name: "require-fields",
        aliases: &[],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("require_fields.rs"),
        definition: &RequireFieldsConfig::definition,
        constructor: Constructor::Transformation(&RequireFields::construct),
    }
}

#[derive(Debug, Config)]
struct RequireFieldsConfig {
    /// Fields that every record must have, not null.
    #[config(name = "fields")]
    fields: Vec<String>,
    /// Whether text without a visible character counts as null.
    #[config(name = "blank", default = "false")]
    blank: bool,
    /// `fail` fails the record, `drop` drops it.
    #[config(name = "action", default = "fail")]
    action: Action,
    #[config(flatten)]
    on: On,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
enum Action {
    Fail,
    Drop,
}

struct RequireFields {
    fields: Vec<FieldName>,
    blank: bool,
    action: Action,
}

impl RequireFields {
    fn construct(properties: &Properties) -> Result<Box<dyn Transformation>> {
        let config = RequireFieldsConfig::from_properties(properties)?;
        let fields = FieldName::list(not_empty("fields", config.fields)?);
        Ok(OnPayload::boxed(config.on.on, Self { fields, blank: config.blank, action: config.action }))
    }
}

impl Change for RequireFields {
    fn change(&mut self, payload: &mut Payload) -> Result<Fate> {
        fields_of(payload, "require-fields")?;
        let value = payload.value()?;
        for field in &mut self.fields {
            let lacks = match field.value(value) {
                Value::Null => true,
                Value::String(text) => self.blank && is_blank(text),
                _ => false,
            };
            if lacks {
                return match self.action {
                    Action::Drop => Ok(Fate::Drop),
                    Action::Fail => {
                        let how = match value.field(&field.name) {
                            None => "missing",
                            Some(Value::Null) => "null",
                            Some(_) => "blank",
                        };
                        Err(Error::data(format!("required field '{}' is {how}", field.name)))
                    }
                };
            }
        }
        Ok(Fate::Keep)
    }
}
