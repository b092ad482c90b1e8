//! Keeps the listed fields, in the listed order, under the listed names.
//!
//! ```toml
//! type = "select-fields"
//! fields = "index:ind, title, category"
//! ```
//!
//! ```json
//! {"index":7,"category":"art","downloaded":1,"title":"Blue"}
//! ```
//!
//! becomes
//!
//! ```json
//! {"ind":7,"title":"Blue","category":"art"}
//! ```
//!
//! A listed field that the record doesn't have becomes null, is skipped, or fails the record, as `missing` says. With a
//! schema, a missing field that becomes null gets the type of an optional text.

use std::sync::Arc;

use ottla_api::config::ConfigValue;
use ottla_api::data::{Field, Name};
use ottla_api::prelude::*;

use crate::fields::{FieldName, Fields, fields_of, struct_like, unknown, with_list};
use crate::key_or_value::{Change, Fate, On, OnPayload};
use crate::schema_cache::SchemaCache;
use crate::text_list::{Renamed, config_error, not_empty};

/// The plugin.
pub(crate) fn plugin() -> Plugin {
    Plugin {
        name: "select-fields",
        aliases: &[],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("select_fields.rs"),
        definition: &SelectFieldsConfig::definition,
        constructor: Constructor::Transformation(&SelectFields::construct),
    }
}

#[derive(Debug, Config)]
struct SelectFieldsConfig {
    /// The fields to keep, in order; `old:new` renames.
    #[config(name = "fields")]
    fields: Vec<Renamed>,
    /// What becomes of a listed field that the record doesn't have: `null`, `skip` or `fail`.
    #[config(name = "missing", default = "null")]
    missing: Missing,
    #[config(flatten)]
    on: On,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
enum Missing {
    Null,
    Skip,
    Fail,
}

/// One field of the result.
struct Selected {
    from: FieldName,
    to: Name,
    /// Whether the two differ.
    renamed: bool,
    /// True where a later one takes the same field again, so this one may not move it away.
    again: bool,
}

/// How structs of one schema are selected from.
struct SelectPlan {
    schema: Arc<Schema>,
    /// Where each value of the result comes from; nothing for one that is null. The flag is [`Selected::again`].
    places: Vec<Option<(usize, bool)>>,
}

struct SelectFields {
    selected: Vec<Selected>,
    missing: Missing,
    plans: SchemaCache<SelectPlan>,
}

impl SelectFields {
    fn construct(properties: &Properties) -> Result<Box<dyn Transformation>> {
        let config = SelectFieldsConfig::from_properties(properties)?;
        let fields = not_empty("fields", config.fields)?;
        let mut selected = Vec::with_capacity(fields.len());
        for (index, field) in fields.iter().enumerate() {
            let later = &fields[index + 1..];
            if later.iter().any(|other| other.to == field.to) {
                return Err(config_error("fields", format!("names '{}' twice in the result", field.to)));
            }
            selected.push(Selected {
                from: FieldName::new(&field.from),
                to: field.to.as_str().into(),
                renamed: field.from != field.to,
                again: later.iter().any(|other| other.from == field.from),
            });
        }
        Ok(OnPayload::boxed(config.on.on, Self { selected, missing: config.missing, plans: SchemaCache::new() }))
    }
}

fn missing(field: &Selected) -> Error {
    Error::data(format!("field '{}' is missing", field.from.name))
}

impl Change for SelectFields {
    fn change(&mut self, payload: &mut Payload) -> Result<Fate> {
        let Self { selected, missing: policy, plans } = self;
        match fields_of(payload, "select-fields")? {
            Fields::Map(map) => with_list(map, |fields| select(fields, selected, *policy))?,
            Fields::Struct(mut place) => {
                let plan = plans.get(place.schema(), |schema| SelectPlan::new(schema, selected, *policy))?;
                let mut values = place.take();
                let take = |place: &Option<(usize, bool)>| match *place {
                    None => Value::Null,
                    Some((place, true)) => values[place].clone(),
                    Some((place, false)) => std::mem::take(&mut values[place]),
                };
                let values = plan.places.iter().map(take).collect();
                place.set(&plan.schema, values)?;
            }
        }
        Ok(Fate::Keep)
    }
}

/// Brings the selected fields to the front, one after the other, and cuts off the rest.
fn select(fields: &mut Vec<(Name, Value)>, selected: &mut [Selected], policy: Missing) -> Result<()> {
    let mut end = 0;
    for field in selected {
        // Those before `end` have their new names and are not looked at again.
        let place = match (field.from.place(&fields[end..]), policy) {
            (Some(place), _) if field.again => {
                fields.push((field.to.clone(), fields[end + place].1.clone()));
                fields.len() - 1
            }
            (Some(place), _) => {
                if field.renamed {
                    fields[end + place].0 = field.to.clone();
                }
                end + place
            }
            (None, Missing::Null) => {
                fields.push((field.to.clone(), Value::Null));
                fields.len() - 1
            }
            (None, Missing::Skip) => continue,
            (None, Missing::Fail) => return Err(missing(field)),
        };
        fields.swap(end, place);
        end += 1;
    }
    fields.truncate(end);
    Ok(())
}

impl SelectPlan {
    fn new(input: &Arc<Schema>, selected: &[Selected], policy: Missing) -> Result<Self> {
        let mut fields = Vec::with_capacity(selected.len());
        let mut places = Vec::with_capacity(selected.len());
        for field in selected {
            let schema = match (input.field_index(&field.from.name), policy) {
                (Some(place), _) => {
                    places.push(Some((place, field.again)));
                    Arc::clone(&input.fields()[place].schema)
                }
                (None, Missing::Null) => {
                    places.push(None);
                    unknown()
                }
                (None, Missing::Skip) => continue,
                (None, Missing::Fail) => return Err(missing(field)),
            };
            fields.push(Field { name: field.to.to_string(), schema });
        }
        Ok(Self { schema: struct_like(input, fields), places })
    }
}
