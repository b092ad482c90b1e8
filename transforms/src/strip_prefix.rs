//! Takes a fixed beginning off texts, such as `Local save in ` off `Local save in /data/art`.
//!
//! Blanks that follow the prefix go too unless `trim = false`, so that it doesn't matter whether the blank at the end of
//! `prefix` survived the way into the configuration. What is left can be made a relative path or cut down to its last
//! segment.
//!
//! ```toml
//! type = "strip-prefix"
//! fields = "save_location"
//! prefix = "Local save in "
//! ```
//!
//! ```json
//! {"save_location":"Local save in /data/art","category":"art"}
//! ```
//!
//! becomes
//!
//! ```json
//! {"save_location":"/data/art","category":"art"}
//! ```
//!
//! With `form = "relative"` it becomes `data/art`, with `form = "last-segment"` `art`. Null, and what is not text, stays as
//! it is.

use std::sync::Arc;

use ottla_api::config::ConfigValue;
use ottla_api::data::SchemaType;
use ottla_api::prelude::*;

use crate::fields::{FieldEdits, fields_of, nullable_text};
use crate::key_or_value::{Change, Fate, On, OnPayload};
use crate::text_list::{config_error, not_empty};

/// The plugin.
pub(crate) fn plugin() -> Plugin {
    Plugin {
        name: "strip-prefix",
        aliases: &[],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("strip_prefix.rs"),
        definition: &StripPrefixConfig::definition,
        constructor: Constructor::Transformation(&StripPrefix::construct),
    }
}

#[derive(Debug, Config)]
struct StripPrefixConfig {
    /// Fields whose text loses the prefix.
    #[config(name = "fields")]
    fields: Vec<String>,
    /// The beginning to take off.
    #[config(name = "prefix")]
    prefix: String,
    /// Whether blanks after the prefix go too.
    #[config(name = "trim", default = "true")]
    trim: bool,
    /// What is kept of the rest: all of it (`path`), without separators in front (`relative`), or only what follows the last
    /// separator (`last-segment`).
    #[config(name = "form", default = "path")]
    form: Form,
    /// Separates the segments of a path.
    #[config(name = "separator", default = "/", importance = "low")]
    separator: String,
    /// What becomes of text that begins otherwise: it is left alone (`keep`), becomes `null`, or the record is dropped
    /// (`drop`) or fails (`fail`).
    #[config(name = "unmatched", default = "keep")]
    unmatched: Unmatched,
    #[config(flatten)]
    on: On,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
enum Form {
    Path,
    Relative,
    LastSegment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
enum Unmatched {
    Keep,
    Null,
    Drop,
    Fail,
}

struct StripPrefix {
    fields: FieldEdits,
    rule: Rule,
    unmatched: Unmatched,
}

/// What of a text is kept.
struct Rule {
    prefix: String,
    trim: bool,
    form: Form,
    separator: String,
}

impl Rule {
    /// Where the part of `text` that is kept begins; nothing where the text doesn't begin with the prefix.
    fn start(&self, text: &str) -> Option<usize> {
        let mut rest = text.strip_prefix(self.prefix.as_str())?;
        if self.trim {
            rest = rest.trim_start();
        }
        let rest = match self.form {
            Form::Path => rest,
            Form::Relative => rest.trim_start_matches(self.separator.as_str()),
            Form::LastSegment => rest.rsplit(self.separator.as_str()).next().unwrap_or(rest),
        };
        Some(text.len() - rest.len())
    }
}

impl StripPrefix {
    fn construct(properties: &Properties) -> Result<Box<dyn Transformation>> {
        let config = StripPrefixConfig::from_properties(properties)?;
        if config.prefix.is_empty() {
            return Err(config_error("prefix", "must not be empty"));
        }
        if config.separator.is_empty() {
            return Err(config_error("separator", "must not be empty"));
        }
        let rule = Rule { prefix: config.prefix, trim: config.trim, form: config.form, separator: config.separator };
        let fields = FieldEdits::of(not_empty("fields", config.fields)?);
        Ok(OnPayload::boxed(config.on.on, Self { fields, rule, unmatched: config.unmatched }))
    }
}

impl Change for StripPrefix {
    fn change(&mut self, payload: &mut Payload) -> Result<Fate> {
        let Self { fields, rule, unmatched } = self;
        fields.apply(
            &mut fields_of(payload, "strip-prefix")?,
            |_, schema: &Arc<Schema>| match unmatched {
                Unmatched::Null if schema.schema_type() == SchemaType::String => Ok(nullable_text(schema)),
                _ => Ok(Arc::clone(schema)),
            },
            |_, value, _| {
                let Value::String(text) = value else { return Ok(Fate::Keep) };
                match (rule.start(text), *unmatched) {
                    (Some(start), _) => drop(text.drain(..start)),
                    (None, Unmatched::Keep) => (),
                    (None, Unmatched::Null) => *value = Value::Null,
                    (None, Unmatched::Drop) => return Ok(Fate::Drop),
                    (None, Unmatched::Fail) => {
                        return Err(Error::data(format!("the text doesn't begin with '{}'", rule.prefix)));
                    }
                }
                Ok(Fate::Keep)
            },
        )
    }
}
