//! Combines fields into one: an array, a struct, or text.
//!
//! ```toml
//! type = "combine-fields"
//! fields = "latitude, longitude"
//! into = "coordinates"
//! ```
//!
//! ```json
//! {"ind":1,"latitude":-88.8298,"longitude":-170.188,"country":"Albania"}
//! ```
//!
//! becomes
//!
//! ```json
//! {"ind":1,"coordinates":[-88.8298,-170.188],"country":"Albania"}
//! ```
//!
//! The parts stand in the order in which they are listed: `longitude, latitude` gives `[-170.188,-88.8298]`. With
//! `form = "struct"` the result is `{"latitude":-88.8298,"longitude":-170.188}` (`latitude:lat` renames a part), with
//! `form = "text"` it is `-88.8298,-170.188`. The parts go unless `keep = true`; the result stands where the first of them
//! stood, or at the end where they are kept. Where every part is null or missing, so is the result; `nulls` says what a
//! part that is null does otherwise.
//!
//! With a schema, an array needs parts of one type.

use std::sync::Arc;

use ottla_api::config::ConfigValue;
use ottla_api::data::{Field, SchemaType};
use ottla_api::prelude::*;

use crate::fields::{FieldName, Fields, fields_of, optional, push_text, struct_like, unknown, with_list};
use crate::key_or_value::{Change, Fate, On, OnPayload};
use crate::schema_cache::SchemaCache;
use crate::text_list::{Renamed, config_error, not_empty};

/// The plugin.
pub(crate) fn plugin() -> Plugin {
    Plugin {
        name: "combine-fields",
        aliases: &[],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("combine_fields.rs"),
        definition: &CombineFieldsConfig::definition,
        constructor: Constructor::Transformation(&CombineFields::construct),
    }
}

#[derive(Debug, Config)]
struct CombineFieldsConfig {
    /// The parts, in order; `field:name` names a part of a struct.
    #[config(name = "fields")]
    fields: Vec<Renamed>,
    /// The field that holds the result.
    #[config(name = "into")]
    into: String,
    /// `array`, `struct` or `text`.
    #[config(name = "form", default = "array")]
    form: Form,
    /// Stands between the parts of a text.
    #[config(name = "separator", default = ",")]
    separator: String,
    /// Whether the parts stay as fields of their own.
    #[config(name = "keep", default = "false")]
    keep: bool,
    /// What one null part does: it stays a null inside (`keep`; empty in a text), makes the whole null (`null`), or the record
    /// is dropped (`drop`) or fails (`fail`).
    #[config(name = "nulls", default = "keep")]
    nulls: Nulls,
    #[config(flatten)]
    on: On,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
enum Form {
    Array,
    Struct,
    Text,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
enum Nulls {
    Keep,
    Null,
    Drop,
    Fail,
}

struct CombineFields {
    merge: Merge,
    form: Form,
    separator: String,
    nulls: Nulls,
}

impl CombineFields {
    fn construct(properties: &Properties) -> Result<Box<dyn Transformation>> {
        let config = CombineFieldsConfig::from_properties(properties)?;
        let fields = not_empty("fields", config.fields)?;
        if config.form != Form::Struct
            && let Some(renamed) = fields.iter().find(|field| field.from != field.to)
        {
            return Err(config_error(
                "fields",
                format!("'{}:{}' renames a part, which only form = struct can", renamed.from, renamed.to),
            ));
        }
        let merge = Merge::new(fields, config.into, config.keep)?;
        let combine = Self { merge, form: config.form, separator: config.separator, nulls: config.nulls };
        Ok(OnPayload::boxed(config.on.on, combine))
    }
}

impl Change for CombineFields {
    fn change(&mut self, payload: &mut Payload) -> Result<Fate> {
        let Self { merge, form, separator, nulls } = self;
        merge.apply(
            &mut fields_of(payload, "combine-fields")?,
            |parts| combined_schema(*form, parts),
            |labels, parts, schema| {
                let null = parts.iter().filter(|value| value.is_null()).count();
                if null == parts.len() {
                    return Ok(Some(Value::Null));
                }
                if null > 0 {
                    match nulls {
                        Nulls::Keep => (),
                        Nulls::Null => return Ok(Some(Value::Null)),
                        Nulls::Drop => return Ok(None),
                        Nulls::Fail => {
                            let mut parts = labels.iter().zip(parts);
                            let part = parts.find(|(_, value)| value.is_null()).map_or("", |(name, _)| name);
                            return Err(Error::data(format!("'{part}' is null or missing, so it can't be combined")));
                        }
                    }
                }
                Ok(Some(match (*form, schema) {
                    (Form::Array, _) => Value::Array(std::mem::take(parts)),
                    (Form::Struct, None) => {
                        Value::Map(labels.iter().map(|label| label.as_str()).zip(parts.drain(..)).collect())
                    }
                    (Form::Struct, Some(schema)) => {
                        Value::Struct(Struct::from_values(Arc::clone(schema), std::mem::take(parts))?)
                    }
                    (Form::Text, _) => {
                        let mut text = String::with_capacity(32);
                        for (index, value) in parts.iter().enumerate() {
                            if index > 0 {
                                text.push_str(separator);
                            }
                            if !value.is_null() {
                                push_text(value, &mut text);
                            }
                        }
                        Value::String(text)
                    }
                }))
            },
        )
    }
}

/// The schema of the result; optional, since it is null where all parts are.
fn combined_schema(form: Form, parts: &[(&str, Option<&Arc<Schema>>)]) -> Result<Arc<Schema>> {
    match form {
        Form::Text => Ok(Schema::optional(SchemaType::String)),
        Form::Struct => {
            let fields = parts.iter().map(|(name, schema)| Field {
                name: (*name).to_owned(),
                schema: schema.map_or_else(unknown, Arc::clone),
            });
            Ok(optional(&struct_like(&Schema::structure().build(), fields)))
        }
        Form::Array => {
            let mut known = parts.iter().filter_map(|(_, schema)| *schema);
            let Some(first) = known.next() else { return Ok(Schema::array(unknown()).optional().build()) };
            let mut items = Arc::clone(first);
            for schema in known {
                if schema.schema_type() != first.schema_type() || schema.name() != first.name() {
                    return Err(Error::data(format!(
                        "an array can't hold {} and {}: use form = struct, or cast first",
                        first.describe(),
                        schema.describe()
                    )));
                }
                if schema.is_optional() {
                    items = optional(&items);
                }
            }
            if parts.iter().any(|(_, schema)| schema.is_none()) {
                items = optional(&items);
            }
            Ok(Schema::array(items).optional().build())
        }
    }
}

/// Takes several fields and puts one in: what `combine-fields` and `concat-fields` have in common.
pub(crate) struct Merge {
    parts: Vec<FieldName>,
    /// What each part is called inside the result.
    labels: Vec<String>,
    into: FieldName,
    keep: bool,
    plans: SchemaCache<MergePlan>,
    /// Where the parts of a record stand and what they hold; kept to reuse the memory.
    places: Vec<Option<usize>>,
    values: Vec<Value>,
}

/// What happens to structs of one schema.
struct MergePlan {
    schema: Arc<Schema>,
    result_schema: Arc<Schema>,
    /// Where each part stands, where it does.
    parts: Vec<Option<usize>>,
    /// Where each value of the result comes from; nothing for the merged one.
    values: Vec<Option<usize>>,
}

impl Merge {
    pub(crate) fn new(parts: Vec<Renamed>, into: String, keep: bool) -> Result<Self> {
        if into.is_empty() {
            return Err(config_error("into", "must name a field"));
        }
        if keep && parts.iter().any(|part| part.from == into) {
            return Err(config_error(
                "into",
                format!("is '{into}', which keep = true keeps as a part: choose another name"),
            ));
        }
        if let Some(twice) = (1..parts.len()).find(|&at| parts[..at].iter().any(|part| part.from == parts[at].from)) {
            return Err(config_error("fields", format!("lists '{}' twice", parts[twice].from)));
        }
        Ok(Self {
            labels: parts.iter().map(|part| part.to.clone()).collect(),
            parts: parts.into_iter().map(|part| FieldName::new(part.from)).collect(),
            into: FieldName::new(into),
            keep,
            plans: SchemaCache::new(),
            places: Vec::new(),
            values: Vec::new(),
        })
    }

    /// Calls `merge` with the parts' names and values (null for missing ones), which it may take; it returns the result, or
    /// nothing to drop the record. `schema` makes the result's schema from those of the parts.
    pub(crate) fn apply(
        &mut self,
        fields: &mut Fields<'_>,
        schema: impl Fn(&[(&str, Option<&Arc<Schema>>)]) -> Result<Arc<Schema>>,
        merge: impl FnOnce(&[String], &mut Vec<Value>, Option<&Arc<Schema>>) -> Result<Option<Value>>,
    ) -> Result<Fate> {
        let Self { parts: names, labels, into, keep, plans, places, values: parts } = self;
        let take = |value: &mut Value| if *keep { value.clone() } else { std::mem::take(value) };
        parts.clear();
        parts.reserve_exact(names.len());
        match fields {
            Fields::Map(map) => with_list(map, |fields| {
                places.clear();
                for name in names {
                    let place = name.place(fields);
                    places.push(place);
                    parts.push(place.map_or(Value::Null, |place| take(&mut fields[place].1)));
                }
                let Some(value) = merge(labels, parts, None)? else { return Ok(Fate::Drop) };
                let first = places.iter().flatten().min().copied().filter(|_| !*keep);
                let target = match into.place(fields).or(first) {
                    Some(target) => {
                        fields[target] = (into.name.clone(), value);
                        target
                    }
                    None => {
                        fields.push((into.name.clone(), value));
                        fields.len() - 1
                    }
                };
                if !*keep {
                    let mut place = 0..;
                    fields.retain(|_| place.next().is_some_and(|at| at == target || !places.contains(&Some(at))));
                }
                Ok(Fate::Keep)
            }),
            Fields::Struct(place) => {
                let plan = plans
                    .get(place.schema(), |input| MergePlan::new(input, names, labels, &into.name, *keep, schema))?;
                let mut values = place.take();
                for place in &plan.parts {
                    parts.push(place.map_or(Value::Null, |place| take(&mut values[place])));
                }
                let Some(value) = merge(labels, parts, Some(&plan.result_schema))? else { return Ok(Fate::Drop) };
                let mut value = Some(value);
                let source = |place: &Option<usize>| match place {
                    Some(place) => std::mem::take(&mut values[*place]),
                    None => value.take().unwrap_or_default(),
                };
                let values = plan.values.iter().map(source).collect();
                place.set(&plan.schema, values)?;
                Ok(Fate::Keep)
            }
        }
    }
}

impl MergePlan {
    fn new(
        input: &Arc<Schema>,
        names: &[FieldName],
        labels: &[String],
        into: &str,
        keep: bool,
        schema: impl Fn(&[(&str, Option<&Arc<Schema>>)]) -> Result<Arc<Schema>>,
    ) -> Result<Self> {
        let parts: Vec<Option<usize>> = names.iter().map(|part| input.field_index(&part.name)).collect();
        let schemas: Vec<_> = labels
            .iter()
            .zip(&parts)
            .map(|(label, place)| (label.as_str(), place.map(|place| &input.fields()[place].schema)))
            .collect();
        let result_schema = schema(&schemas)?;
        let merged = || Field { name: into.to_owned(), schema: Arc::clone(&result_schema) };
        let first = parts.iter().flatten().min().copied();
        let target = input.field_index(into).or(if keep { None } else { first });
        let (mut fields, mut values) = (Vec::new(), Vec::new());
        for (place, field) in input.fields().iter().enumerate() {
            if Some(place) == target {
                fields.push(merged());
                values.push(None);
            } else if keep || !parts.contains(&Some(place)) {
                fields.push(field.clone());
                values.push(Some(place));
            }
        }
        if target.is_none() {
            fields.push(merged());
            values.push(None);
        }
        Ok(Self { schema: struct_like(input, fields), result_schema, parts, values })
    }
}
