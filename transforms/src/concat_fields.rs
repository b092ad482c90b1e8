//! Joins fields into one text, such as a first and a last name.
//!
//! ```toml
//! type = "concat-fields"
//! fields = "first_name, last_name"
//! into = "user_name"
//! ```
//!
//! ```json
//! {"ind":1,"first_name":"Ada","last_name":"Byron","age":36}
//! ```
//!
//! becomes
//!
//! ```json
//! {"ind":1,"user_name":"Ada Byron","age":36}
//! ```
//!
//! Parts that are null, missing or empty are left out together with their separator, unless `nulls` says otherwise; where
//! every part is null, so is the result. Nothing ever turns into the text `null` or `None`. Texts are not trimmed; numbers
//! are written as in JSON. For an array of the parts see `combine-fields`.

use ottla_api::config::ConfigValue;
use ottla_api::data::SchemaType;
use ottla_api::prelude::*;

use crate::combine_fields::Merge;
use crate::fields::{fields_of, push_text};
use crate::key_or_value::{Change, Fate, On, OnPayload};
use crate::text_list::{Renamed, not_empty};

/// The plugin.
pub(crate) fn plugin() -> Plugin {
    Plugin {
        name: "concat-fields",
        aliases: &[],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("concat_fields.rs"),
        definition: &ConcatFieldsConfig::definition,
        constructor: Constructor::Transformation(&ConcatFields::construct),
    }
}

#[derive(Debug, Config)]
struct ConcatFieldsConfig {
    /// The parts, in order.
    #[config(name = "fields")]
    fields: Vec<String>,
    /// The field that holds the result.
    #[config(name = "into")]
    into: String,
    /// Stands between two parts.
    #[config(name = "separator", default = " ")]
    separator: String,
    /// What a part that is null does: it is left out with its separator, as is an empty one (`skip`); it counts as empty text
    /// (`empty`); it makes the whole null (`null`); the record is dropped (`drop`) or fails (`fail`).
    #[config(name = "nulls", default = "skip")]
    nulls: Nulls,
    /// Whether the parts stay as fields of their own.
    #[config(name = "keep", default = "false")]
    keep: bool,
    #[config(flatten)]
    on: On,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
enum Nulls {
    Skip,
    Empty,
    Null,
    Drop,
    Fail,
}

struct ConcatFields {
    merge: Merge,
    separator: String,
    nulls: Nulls,
}

impl ConcatFields {
    fn construct(properties: &Properties) -> Result<Box<dyn Transformation>> {
        let config = ConcatFieldsConfig::from_properties(properties)?;
        let parts = not_empty("fields", config.fields)?;
        let parts = parts.into_iter().map(|field| Renamed { from: field.clone(), to: field }).collect();
        let merge = Merge::new(parts, config.into, config.keep)?;
        Ok(OnPayload::boxed(config.on.on, Self { merge, separator: config.separator, nulls: config.nulls }))
    }
}

impl Change for ConcatFields {
    fn change(&mut self, payload: &mut Payload) -> Result<Fate> {
        let Self { merge, separator, nulls } = self;
        merge.apply(
            &mut fields_of(payload, "concat-fields")?,
            |_| Ok(Schema::optional(SchemaType::String)),
            |labels, parts, _| {
                if parts.iter().all(Value::is_null) {
                    return Ok(Some(Value::Null));
                }
                let mut text = String::with_capacity(48);
                let mut begun = false;
                for (name, value) in labels.iter().zip(&*parts) {
                    match (value, *nulls) {
                        (Value::Null, Nulls::Null) => return Ok(Some(Value::Null)),
                        (Value::Null, Nulls::Drop) => return Ok(None),
                        (Value::Null, Nulls::Fail) => {
                            return Err(Error::data(format!("'{name}' is null or missing, so it can't be joined")));
                        }
                        (Value::Null, Nulls::Skip) => continue,
                        (Value::String(part), Nulls::Skip) if part.is_empty() => continue,
                        _ => (),
                    }
                    if begun {
                        text.push_str(separator);
                    }
                    begun = true;
                    if !value.is_null() {
                        push_text(value, &mut text);
                    }
                }
                Ok(Some(Value::String(text)))
            },
        )
    }
}
