//! Fields of a map and of a struct, worked on alike.
//!
//! A map is changed in place. A struct gets its values changed in place and a new schema, which is worked out once per input
//! schema. Names are compared, not hashed: a record has a dozen fields, and the next one has them in the same places.

use std::sync::Arc;

use ottla_api::data::{Field, Name, SchemaBuilder, SchemaType, json};
use ottla_api::prelude::*;

use crate::key_or_value::Fate;
use crate::schema_cache::SchemaCache;

/// A field's name that remembers where the field stood last time.
#[derive(Debug, Clone)]
pub(crate) struct FieldName {
    pub(crate) name: Name,
    place: usize,
}

impl FieldName {
    /// A name.
    pub(crate) fn new(name: impl Into<Name>) -> Self {
        Self { name: name.into(), place: 0 }
    }

    /// Names.
    pub(crate) fn list(names: impl IntoIterator<Item = impl Into<Name>>) -> Vec<Self> {
        names.into_iter().map(Self::new).collect()
    }

    /// Where the field stands among these.
    #[inline]
    pub(crate) fn place(&mut self, fields: &[(Name, Value)]) -> Option<usize> {
        if fields.get(self.place).is_none_or(|(name, _)| !same(name, &self.name)) {
            self.place = fields.iter().position(|(name, _)| same(name, &self.name))?;
        }
        Some(self.place)
    }

    /// The value of the field, null where there is none.
    pub(crate) fn value<'a>(&mut self, value: &'a Value) -> &'a Value {
        const NULL: &Value = &Value::Null;
        match value {
            Value::Map(map) => match map.iter().nth(self.place) {
                Some((name, value)) if name == self.name => value,
                _ => {
                    self.place = map.iter().position(|(name, _)| name == self.name).unwrap_or(0);
                    map.get(&self.name).unwrap_or(NULL)
                }
            },
            Value::Struct(fields) => fields.get(&self.name).unwrap_or(NULL),
            _ => NULL,
        }
    }
}

/// True where two names are the same. Most have 4 to 16 bytes: two words, which may overlap, are compared faster than the
/// library is called.
#[inline]
fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    match a.len() {
        4..8 => a.first_chunk::<4>() == b.first_chunk::<4>() && a.last_chunk::<4>() == b.last_chunk::<4>(),
        8..=16 => a.first_chunk::<8>() == b.first_chunk::<8>() && a.last_chunk::<8>() == b.last_chunk::<8>(),
        _ => a == b,
    }
}

/// Lends out a map's fields as a list; the map is this list, so nothing is copied.
pub(crate) fn with_list<T>(map: &mut Map, change: impl FnOnce(&mut Vec<(Name, Value)>) -> T) -> T {
    change(map.fields_mut())
}

/// What a payload holds, for a transformation that works on fields.
pub(crate) enum Fields<'a> {
    /// A schemaless map.
    Map(&'a mut Map),
    /// A struct and where its payload's schema is kept.
    Struct(StructPlace<'a>),
}

/// A struct inside its payload.
pub(crate) struct StructPlace<'a> {
    payload_schema: &'a mut Option<Arc<Schema>>,
    value: &'a mut Value,
}

impl StructPlace<'_> {
    /// The struct.
    pub(crate) fn get(&self) -> &Struct {
        match &*self.value {
            Value::Struct(fields) => fields,
            _ => unreachable!("made for structs only"),
        }
    }

    /// The schema of the struct.
    pub(crate) fn schema(&self) -> &Arc<Schema> {
        self.get().schema()
    }

    /// Takes the values out, to give them back with [`set`](Self::set).
    pub(crate) fn take(&mut self) -> Vec<Value> {
        match std::mem::take(self.value) {
            Value::Struct(fields) => fields.into_parts().1,
            _ => unreachable!("made for structs only"),
        }
    }

    /// Puts a struct in.
    pub(crate) fn set(&mut self, schema: &Arc<Schema>, values: Vec<Value>) -> Result<()> {
        *self.value = Value::Struct(Struct::from_values(Arc::clone(schema), values)?);
        if self.payload_schema.is_some() {
            *self.payload_schema = Some(Arc::clone(schema));
        }
        Ok(())
    }
}

/// A payload, decoded.
pub(crate) enum Opened<'a> {
    /// It has fields.
    Fields(Fields<'a>),
    /// It has none, or entries of a map with a schema, which all have one type.
    Other {
        /// Whether there is a schema.
        has_schema: bool,
        /// The value.
        value: &'a Value,
    },
}

/// Decodes a payload that is still text, and looks at what it holds.
#[inline]
pub(crate) fn open(payload: &mut Payload) -> Result<Opened<'_>> {
    if let Payload::Json(_) = payload {
        payload.value()?;
    }
    Ok(match payload {
        Payload::Data { value: Value::Map(map), schema: None } => Opened::Fields(Fields::Map(map)),
        Payload::Data { value: value @ Value::Struct(_), schema } => {
            Opened::Fields(Fields::Struct(StructPlace { payload_schema: schema, value }))
        }
        Payload::Data { value, schema } => Opened::Other { has_schema: schema.is_some(), value },
        Payload::Json(_) => unreachable!("decoded above"),
    })
}

/// The fields of a payload; an error for payloads without, in the words of the native transformations.
#[inline]
pub(crate) fn fields_of<'a>(payload: &'a mut Payload, transformation: &str) -> Result<Fields<'a>> {
    match open(payload)? {
        Opened::Fields(fields) => Ok(fields),
        Opened::Other { value: Value::Map(_), .. } => Err(Error::data(format!(
            "{transformation} works on fields, found a map with a schema, whose entries all have one type"
        ))),
        Opened::Other { value, .. } => Err(Error::data(format!(
            "{transformation} works on fields, found {}: only maps and structs have fields",
            value.type_name()
        ))),
    }
}

/// How a list of fields is worked on one by one.
pub(crate) struct FieldEdits {
    /// The fields; none means all.
    names: Option<Vec<FieldName>>,
    plans: SchemaCache<EditPlan>,
}

/// What [`FieldEdits`] does with structs of one schema.
struct EditPlan {
    /// The schema of the result.
    schema: Arc<Schema>,
    /// Place among the struct's values, and number of the name.
    places: Vec<(usize, usize)>,
}

impl FieldEdits {
    /// Edits of the named fields.
    pub(crate) fn of(names: impl IntoIterator<Item = impl Into<Name>>) -> Self {
        Self { names: Some(FieldName::list(names)), plans: SchemaCache::new() }
    }

    /// Edits of every field.
    pub(crate) fn of_all() -> Self {
        Self { names: None, plans: SchemaCache::new() }
    }

    /// The number that fields have where all are edited.
    pub(crate) const ANY: usize = usize::MAX;

    /// Calls `edit` with the number of each name and its value; names that the record doesn't have are passed over. Errors
    /// name the field. `schema` tells what an edited field's schema becomes.
    pub(crate) fn apply(
        &mut self,
        fields: &mut Fields<'_>,
        schema: impl Fn(usize, &Arc<Schema>) -> Result<Arc<Schema>>,
        mut edit: impl FnMut(usize, &mut Value, bool) -> Result<Fate>,
    ) -> Result<Fate> {
        match (fields, &mut self.names) {
            (Fields::Map(map), Some(names)) => with_list(map, |fields| {
                for (number, name) in names.iter_mut().enumerate() {
                    if let Some(place) = name.place(fields) {
                        let fate = edit(number, &mut fields[place].1, false);
                        if fate.map_err(|error| error.with("field", &name.name))? == Fate::Drop {
                            return Ok(Fate::Drop);
                        }
                    }
                }
                Ok(Fate::Keep)
            }),
            (Fields::Map(map), None) => {
                for (name, value) in map.iter_mut() {
                    let fate = edit(Self::ANY, value, false);
                    if fate.map_err(|error| error.with("field", name))? == Fate::Drop {
                        return Ok(Fate::Drop);
                    }
                }
                Ok(Fate::Keep)
            }
            (Fields::Struct(place), names) => {
                let plan = self.plans.get(place.schema(), |input| EditPlan::new(input, names.as_deref(), schema))?;
                let mut values = place.take();
                for &(place, number) in &plan.places {
                    let fate = edit(number, &mut values[place], true);
                    let fate = fate.map_err(|error| error.with("field", &plan.schema.fields()[place].name))?;
                    if fate == Fate::Drop {
                        return Ok(Fate::Drop);
                    }
                }
                place.set(&plan.schema, values)?;
                Ok(Fate::Keep)
            }
        }
    }
}

impl EditPlan {
    fn new(
        input: &Arc<Schema>,
        names: Option<&[FieldName]>,
        schema: impl Fn(usize, &Arc<Schema>) -> Result<Arc<Schema>>,
    ) -> Result<Self> {
        let mut places = Vec::new();
        let mut fields: Vec<Field> = input.fields().to_vec();
        for (place, field) in fields.iter_mut().enumerate() {
            let number = match names {
                None => FieldEdits::ANY,
                Some(names) => match names.iter().position(|name| name.name == field.name) {
                    Some(number) => number,
                    None => continue,
                },
            };
            field.schema = schema(number, &field.schema).map_err(|error| error.with("field", &field.name))?;
            places.push((place, number));
        }
        let schema = if fields == input.fields() { Arc::clone(input) } else { struct_like(input, fields) };
        Ok(Self { schema, places })
    }
}

/// A schema with everything of `schema` but its type, fields and default.
pub(crate) fn basics_of(schema: &Schema, schema_type: SchemaType) -> SchemaBuilder {
    let mut builder = Schema::builder(schema_type).optional_if(schema.is_optional());
    if let Some(name) = schema.name() {
        builder = builder.name(name);
    }
    if let Some(version) = schema.version() {
        builder = builder.version(version);
    }
    if let Some(doc) = schema.doc() {
        builder = builder.doc(doc);
    }
    for (name, value) in schema.parameters() {
        builder = builder.parameter(name, value);
    }
    builder
}

/// A struct's schema with other fields: name, version, documentation and optionality stay.
pub(crate) fn struct_like(schema: &Schema, fields: impl IntoIterator<Item = Field>) -> Arc<Schema> {
    let builder = basics_of(schema, SchemaType::Struct);
    fields.into_iter().fold(builder, |builder, field| builder.field(field.name, field.schema)).build()
}

/// The same schema, null allowed.
pub(crate) fn optional(schema: &Arc<Schema>) -> Arc<Schema> {
    if schema.is_optional() { Arc::clone(schema) } else { schema.to_builder().optional().build() }
}

/// The schema of a text that null is put into: null allowed, and no default, which a reader would take for the null.
pub(crate) fn nullable_text(schema: &Arc<Schema>) -> Arc<Schema> {
    match (schema.is_optional(), schema.default()) {
        (true, None) => Arc::clone(schema),
        _ => basics_of(schema, SchemaType::String).optional().build(),
    }
}

/// The schema of a field of which nothing is known but that it is null.
pub(crate) fn unknown() -> Arc<Schema> {
    Schema::optional(SchemaType::String)
}

/// Appends a value as text: text as it is, everything else as its JSON text.
pub(crate) fn push_text(value: &Value, text: &mut String) {
    match value {
        Value::String(part) => text.push_str(part),
        other => {
            let mut bytes = std::mem::take(text).into_bytes();
            json::write(other, &mut bytes);
            *text = String::from_utf8(bytes).expect("JSON is text");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

        #[test]
        fn names_are_the_same_where_their_texts_are(a in "[a-cé]{0,24}", at in 0..24usize, other in "[a-cé]{0,2}") {
            let mut b = a.clone();
            let at = b.floor_char_boundary(at);
            let end = b[at..].chars().next().map_or(at, |c| at + c.len_utf8());
            b.replace_range(at..end, &other);
            prop_assert!(same(&a, &a.clone()));
            prop_assert_eq!(same(&a, &b), a == b);
        }
    }
}
