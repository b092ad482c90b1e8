//! Drops records that hold nothing: every field but the listed ones is null.
//!
//! A row that came from the wrong table, or whose every value turned out to be garbage, ends up so after the other steps of a
//! cleaning chain. Put this last.
//!
//! ```toml
//! type = "drop-if-all-null"
//! except = "ind"
//! ```
//!
//! ```json
//! {"ind":17,"country":null,"coordinates":null,"timestamp":null}
//! ```
//!
//! becomes
//!
//! ```text
//! dropped
//! ```
//!
//! With `action = "fail"` such a record fails instead, and goes where failed records go: the dead letter queue, if there is
//! one.

use ottla_api::config::ConfigValue;
use ottla_api::prelude::*;

use crate::key_or_value::{Change, Fate, On, OnPayload};
use crate::null_if::is_blank;

/// The plugin.
pub(crate) fn plugin() -> Plugin {
    Plugin {
        name: "drop-if-all-null",
        aliases: &[],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("drop_if_all_null.rs"),
        definition: &DropIfAllNullConfig::definition,
        constructor: Constructor::Transformation(&DropIfAllNull::construct),
    }
}

#[derive(Debug, Config)]
struct DropIfAllNullConfig {
    /// Fields that don't count, such as an identifier that every record has.
    #[config(name = "except", default = "")]
    except: Vec<String>,
    /// Whether text without a visible character counts as null.
    #[config(name = "blank", default = "false")]
    blank: bool,
    /// `drop` drops the record, `fail` fails it.
    #[config(name = "action", default = "drop")]
    action: Action,
    #[config(flatten)]
    on: On,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
enum Action {
    Drop,
    Fail,
}

struct DropIfAllNull {
    except: Vec<String>,
    blank: bool,
    action: Action,
}

impl DropIfAllNull {
    fn construct(properties: &Properties) -> Result<Box<dyn Transformation>> {
        let config = DropIfAllNullConfig::from_properties(properties)?;
        let on = config.on.on;
        Ok(OnPayload::boxed(on, Self { except: config.except, blank: config.blank, action: config.action }))
    }

    fn says_something(&self, (name, value): (&str, &Value)) -> bool {
        let null = match value {
            Value::Null => true,
            Value::String(text) => self.blank && is_blank(text),
            _ => false,
        };
        !null && !self.except.iter().any(|except| except == name)
    }
}

impl Change for DropIfAllNull {
    fn change(&mut self, payload: &mut Payload) -> Result<Fate> {
        let something = match payload.value()? {
            Value::Map(map) => map.iter().any(|field| self.says_something(field)),
            Value::Struct(fields) => fields.iter().any(|field| self.says_something(field)),
            // What has no fields and is not null is something.
            _ => true,
        };
        match (something, self.action) {
            (true, _) => Ok(Fate::Keep),
            (false, Action::Drop) => Ok(Fate::Drop),
            (false, Action::Fail) if self.except.is_empty() => Err(Error::data("every field is null")),
            (false, Action::Fail) => Err(Error::data(format!("every field but {} is null", self.except.join(", ")))),
        }
    }
}
