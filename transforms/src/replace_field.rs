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
use ottla_api::data::{Field, Name};
use ottla_api::prelude::*;

use crate::fields::{FieldName, Fields, struct_like, with_list};
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
        definition: &ReplaceFieldConfig::definition,
        constructor: Constructor::Transformation(&|properties| ReplaceField::construct(properties, KeyOrValue::Value)),
    };
    let key = Plugin {
        name: "replace-field-key",
        aliases: &["org.apache.kafka.connect.transforms.ReplaceField$Key"],
        constructor: Constructor::Transformation(&|properties| ReplaceField::construct(properties, KeyOrValue::Key)),
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
    exclude: Vec<FieldName>,
    include: Vec<String>,
    /// Old and new names; no old name twice.
    renames: Vec<(FieldName, Name)>,
    /// Where the fields to rename stand, kept to reuse its memory.
    places: Vec<Option<usize>>,
}

impl Choice {
    fn new(exclude: Vec<String>, include: Vec<String>, renames: Vec<Rename>) -> Self {
        let mut unique: Vec<(FieldName, Name)> = Vec::with_capacity(renames.len());
        for Rename { from, to } in renames {
            if unique.iter().all(|(known, _)| known.name != from) {
                unique.push((FieldName::new(from), to.into()));
            }
        }
        Self { exclude: FieldName::list(exclude), include, renames: unique, places: Vec::new() }
    }

    fn keeps(&self, name: &str) -> bool {
        self.exclude.iter().all(|listed| listed.name != *name)
            && (self.include.is_empty() || self.include.iter().any(|listed| listed == name))
    }

    fn new_name(&self, name: &str) -> Option<&str> {
        self.renames.iter().find(|(from, _)| from.name == *name).map(|(_, to)| to.as_str())
    }

    /// Leaves out and renames. Each rule looks for its field, not each field for its rule: a rule knows where its field stood
    /// in the last record.
    fn apply(&mut self, fields: &mut Vec<(Name, Value)>) {
        let Self { exclude, include, renames, places } = self;
        for name in exclude {
            if let Some(place) = name.place(fields) {
                fields.remove(place);
            }
        }
        if !include.is_empty() {
            fields.retain(|(name, _)| include.iter().any(|listed| name == listed));
        }
        // All are found before one is renamed, so that fields can swap their names.
        places.clear();
        places.extend(renames.iter_mut().map(|(from, _)| from.place(fields)));
        for ((_, to), place) in renames.iter().zip(&*places) {
            if let Some(place) = *place {
                fields[place].0 = to.clone();
            }
        }
        let taken_twice = |to: &Name| fields.iter().filter(|(name, _)| name == to).nth(1).is_some();
        if renames.iter().zip(&*places).any(|((_, to), place)| place.is_some() && taken_twice(to)) {
            keep_last(fields);
        }
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
        let choice = Choice::new(config.exclude, config.include, config.renames);
        let replace_null_with_default = config.nulls.replace;
        Ok(OnPayload::boxed(on, Self { choice, replace_null_with_default, plans: SchemaCache::new() }))
    }
}

impl Change for ReplaceField {
    fn change(&mut self, payload: &mut Payload) -> Result<Fate> {
        let Self { choice, replace_null_with_default, plans } = self;
        match require_fields(payload, "field replacement")? {
            Fields::Map(map) => with_list(map, |fields| choice.apply(fields)),
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
fn keep_last(fields: &mut Vec<(Name, Value)>) {
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
