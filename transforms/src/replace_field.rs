//! Leaves fields out, or renames them.
//!
//! This is Kafka Connect's `ReplaceField`: `replace-field` is its `$Value`, `replace-field-key` its `$Key`.
//!
//! ```toml
//! type = "replace-field"
//! exclude = "downloaded"
//! renames = "index:ind"
//! ```
//!
//! ```json
//! {"index":7,"title":"Blue","downloaded":1}
//! ```
//!
//! becomes
//!
//! ```json
//! {"ind":7,"title":"Blue"}
//! ```
//!
//! `exclude` beats `include`; renames apply to what is left. Null passes untouched. Where two fields end up with one name, the
//! last wins; with a schema that is an error.

use std::sync::Arc;

use ottla_api::config::ConfigValue;
use ottla_api::data::Field;
use ottla_api::prelude::*;

use crate::fields::{Fields, struct_like, with_list};
use crate::key_or_value::{Change, Fate, KeyOrValue, OnPayload};
use crate::requirements::{NullWithDefault, or_default, require_fields};
use crate::schema_cache::SchemaCache;

/// The plugins for the value and for the key.
pub(crate) fn plugins() -> [Plugin; 2] {
    let value = Plugin {
        name: "replace-field",
        aliases: &["org.apache.kafka.connect.transforms.ReplaceField$Value"],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("replace_field.rs"),
        definition: ReplaceFieldConfig::definition,
        constructor: Constructor::Transformation(|properties| ReplaceField::construct(properties, KeyOrValue::Value)),
    };
    let key = Plugin {
        name: "replace-field-key",
        aliases: &["org.apache.kafka.connect.transforms.ReplaceField$Key"],
        constructor: Constructor::Transformation(|properties| ReplaceField::construct(properties, KeyOrValue::Key)),
        ..value
    };
    [value, key]
}

#[derive(Debug, Config)]
struct ReplaceFieldConfig {
    /// Fields to leave out. Takes precedence over `include`.
    #[config(name = "exclude", default = "", aliases = "blacklist")]
    exclude: Vec<String>,
    /// Fields to keep, all others are left out; empty keeps all.
    #[config(name = "include", default = "", aliases = "whitelist")]
    include: Vec<String>,
    /// New names: `old:new`.
    #[config(name = "renames", default = "")]
    renames: Vec<Rename>,
    #[config(flatten)]
    nulls: NullWithDefault,
}

#[derive(Debug, Clone)]
struct Rename {
    from: String,
    to: String,
}

impl ConfigValue for Rename {
    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((from, to)) if !from.trim().is_empty() && !to.trim().is_empty() && !to.contains(':') => {
                Ok(Self { from: from.trim().to_owned(), to: to.trim().to_owned() })
            }
            _ => Err(format!("Invalid rename mapping: {text} (a mapping is old:new)")),
        }
    }

    fn type_name() -> std::borrow::Cow<'static, str> {
        "list of old:new".into()
    }
}

struct ReplaceField {
    choice: Choice,
    replace_null_with_default: bool,
    plans: SchemaCache<ReplacePlan>,
}

/// Which fields stay, under which names.
struct Choice {
    exclude: Vec<String>,
    include: Vec<String>,
    renames: Vec<Rename>,
}

impl Choice {
    fn keeps(&self, name: &str) -> bool {
        let holds = |list: &[String]| list.iter().any(|listed| listed == name);
        !holds(&self.exclude) && (self.include.is_empty() || holds(&self.include))
    }

    fn new_name(&self, name: &str) -> Option<&str> {
        self.renames.iter().find(|rename| rename.from == name).map(|rename| rename.to.as_str())
    }
}

/// What happens to structs of one schema.
struct ReplacePlan {
    schema: Arc<Schema>,
    /// Where each value of the result comes from.
    places: Vec<usize>,
}

impl ReplaceField {
    fn construct(properties: &Properties, on: KeyOrValue) -> Result<Box<dyn Transformation>> {
        let config = ReplaceFieldConfig::from_properties(properties)?;
        let choice = Choice { exclude: config.exclude, include: config.include, renames: config.renames };
        let replace_null_with_default = config.nulls.replace;
        Ok(OnPayload::boxed(on, Self { choice, replace_null_with_default, plans: SchemaCache::new() }))
    }
}

impl Change for ReplaceField {
    fn change(&mut self, payload: &mut Payload) -> Result<Fate> {
        let Self { choice, replace_null_with_default, plans } = self;
        match require_fields(payload, "field replacement")? {
            Fields::Map(map) => with_list(map, |fields| {
                fields.retain(|(name, _)| choice.keeps(name));
                let mut renamed = false;
                for (name, _) in fields.iter_mut() {
                    if let Some(new_name) = choice.new_name(name) {
                        new_name.clone_into(name);
                        renamed = true;
                    }
                }
                if renamed {
                    keep_last(fields);
                }
            }),
            Fields::Struct(mut place) => {
                let plan = plans.get(place.schema(), |input| ReplacePlan::new(input, choice))?;
                let mut values = place.take();
                let fields = plan.schema.fields().iter();
                let values = fields.zip(&plan.places).map(|(field, place)| {
                    or_default(std::mem::take(&mut values[*place]), &field.schema, *replace_null_with_default)
                });
                let values = values.collect();
                place.set(&plan.schema, values)?;
            }
        }
        Ok(Fate::Keep)
    }
}

/// Of fields with one name, keeps the last value in the first place.
fn keep_last(fields: &mut Vec<(String, Value)>) {
    let mut index = 1;
    while index < fields.len() {
        let (before, rest) = fields.split_at_mut(index);
        match before.iter_mut().find(|(name, _)| *name == rest[0].0) {
            Some((_, value)) => {
                *value = std::mem::take(&mut rest[0].1);
                fields.remove(index);
            }
            None => index += 1,
        }
    }
}

impl ReplacePlan {
    fn new(input: &Arc<Schema>, choice: &Choice) -> Result<Self> {
        let (mut fields, mut places) = (Vec::<Field>::new(), Vec::new());
        for (place, field) in input.fields().iter().enumerate().filter(|(_, field)| choice.keeps(&field.name)) {
            let name = choice.new_name(&field.name).unwrap_or(&field.name);
            if fields.iter().any(|known| known.name == name) {
                return Err(Error::data(format!("Cannot create field because of field name duplication {name}")));
            }
            fields.push(Field { name: name.to_owned(), schema: Arc::clone(&field.schema) });
            places.push(place);
        }
        Ok(Self { schema: struct_like(input, fields), places })
    }
}
