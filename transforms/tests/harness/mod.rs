//! What the suites of this folder share: making transformations by name, and schemas in a short notation.

// Each suite uses a part of this.
#![allow(dead_code)]

use std::sync::Arc;

use ottla_api::data::{SchemaType, json, logical};
use ottla_api::prelude::*;

/// The plugin of this name, native or alias.
pub(crate) fn plugin(name: &str) -> Plugin {
    let mut found = ottla_transforms::plugins().into_iter().filter(|plugin| plugin.answers_to(name));
    let plugin = found.next().unwrap_or_else(|| panic!("there is no plugin '{name}'"));
    assert!(found.next().is_none(), "'{name}' names two plugins");
    plugin
}

/// Makes a transformation as the runtime does: its keys checked against the definition first.
pub(crate) fn transformation(name: &str, properties: &Properties) -> Result<Box<dyn Transformation>> {
    let plugin = plugin(name);
    let definition = (plugin.definition)();
    for key in properties.keys() {
        assert!(definition.find(key).is_some(), "{name} has no option '{key}'");
    }
    match plugin.constructor {
        Constructor::Transformation(construct) => construct(properties),
        _ => panic!("'{name}' is no transformation"),
    }
}

/// The JSON text of a value: dates and times in ISO 8601, decimals as numbers, so that a reader sees what they are.
pub(crate) fn text(value: &Value) -> String {
    let mut out = Vec::new();
    json::write_with(value, &json::WriteOptions { decimal_numeric: true, time_iso: true }, &mut out);
    String::from_utf8(out).unwrap()
}

/// A payload from JSON text, with a schema in the notation of [`schema`] where one is given.
pub(crate) fn payload(text: &str, notation: Option<&str>) -> Payload {
    match notation {
        None => Payload::json(json::compact(&text.as_bytes().to_vec().into()).unwrap()),
        Some(notation) => {
            let schema = schema(notation);
            let value = typed(&schema, json::parse(text.as_bytes()).unwrap());
            // A null without its schema's leave is a tombstone.
            if !value.is_null() {
                schema.check(&value).unwrap_or_else(|error| panic!("{text} does not fit {notation}: {error}"));
            }
            Payload::with_schema(schema, value)
        }
    }
}

/// A schema in a short notation: `{ind: int32, tags: [string]?, at: Timestamp?, n: int8=3}`. A `?` allows null, `=` gives a
/// default, `<int32>` is a map from text, `point@2{x: int32}` a struct with name and version.
pub(crate) fn schema(notation: &str) -> Arc<Schema> {
    let mut parser = Notation { rest: notation };
    let schema = parser.schema();
    assert!(parser.rest.trim().is_empty(), "unread notation: {}", parser.rest);
    schema
}

/// A schema in the notation that [`schema`] reads.
pub(crate) fn notation(schema: &Schema) -> String {
    let mut text = match (schema.name(), schema.schema_type()) {
        (Some(logical::DECIMAL), _) => format!("Decimal({})", schema.parameters()[logical::SCALE_PARAMETER]),
        (Some(_), _) if schema.is_logical() => schema.describe().to_owned(),
        (name, SchemaType::Struct) => {
            let fields: Vec<_> =
                schema.fields().iter().map(|field| format!("{}: {}", field.name, notation(&field.schema))).collect();
            let version = schema.version().map(|version| format!("@{version}"));
            format!("{}{}{{{}}}", name.unwrap_or_default(), version.unwrap_or_default(), fields.join(", "))
        }
        (_, SchemaType::Array) => format!("[{}]", notation(schema.items())),
        (_, SchemaType::Map) => format!("<{}>", notation(schema.items())),
        (_, schema_type) => schema_type.name().to_owned(),
    };
    if schema.is_optional() {
        text.push('?');
    }
    if let Some(default) = schema.default() {
        text.push('=');
        text.push_str(&self::text(default));
    }
    text
}

struct Notation<'a> {
    rest: &'a str,
}

impl Notation<'_> {
    fn eat(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> &str {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| !c.is_alphanumeric() && !"._-".contains(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn schema(&mut self) -> Arc<Schema> {
        let mut builder = if self.eat("[") {
            let items = self.schema();
            assert!(self.eat("]"));
            Schema::array(items)
        } else if self.eat("<") {
            let items = self.schema();
            assert!(self.eat(">"));
            Schema::map(Schema::of(SchemaType::String), items)
        } else {
            let word = self.word().to_owned();
            let version = self.eat("@").then(|| self.word().parse().unwrap());
            if self.eat("{") {
                let mut builder = Schema::structure();
                while !self.eat("}") {
                    let name = self.word().to_owned();
                    assert!(self.eat(":"), "a field is written name: type, at {}", self.rest);
                    builder = builder.field(name, self.schema());
                    self.eat(",");
                }
                if !word.is_empty() {
                    builder = builder.name(word);
                }
                match version {
                    Some(version) => builder.version(version),
                    None => builder,
                }
            } else {
                match word.as_str() {
                    "boolean" => Schema::builder(SchemaType::Boolean),
                    "int8" => Schema::builder(SchemaType::Int8),
                    "int16" => Schema::builder(SchemaType::Int16),
                    "int32" => Schema::builder(SchemaType::Int32),
                    "int64" => Schema::builder(SchemaType::Int64),
                    "float32" => Schema::builder(SchemaType::Float32),
                    "float64" => Schema::builder(SchemaType::Float64),
                    "string" => Schema::builder(SchemaType::String),
                    "bytes" => Schema::builder(SchemaType::Bytes),
                    "Timestamp" => Schema::timestamp(),
                    "Date" => Schema::date(),
                    "Time" => Schema::time(),
                    "Decimal" => {
                        assert!(self.eat("("));
                        let scale = self.word().parse().unwrap();
                        assert!(self.eat(")"));
                        Schema::decimal(scale)
                    }
                    _ => panic!("unknown type '{word}'"),
                }
            }
        };
        if self.eat("?") {
            builder = builder.optional();
        }
        if self.eat("=") {
            let end = self.rest.find([',', '}', ']', '>']).unwrap_or(self.rest.len());
            let (default, rest) = self.rest.split_at(end);
            self.rest = rest;
            let bare = builder.clone().build();
            builder = builder.default_value(typed(&bare, json::parse(default.trim().as_bytes()).unwrap()));
        }
        builder.build()
    }
}

/// A value as its schema says, from what JSON makes of it.
fn typed(schema: &Arc<Schema>, value: Value) -> Value {
    let integer = |value: &Value| value.as_i64().unwrap_or_else(|| panic!("{value:?} is no integer"));
    match (schema.name(), schema.schema_type(), value) {
        (_, _, Value::Null) => Value::Null,
        (Some(logical::TIMESTAMP), _, value) => Value::Timestamp(integer(&value)),
        (Some(logical::DATE), _, value) => Value::Date(integer(&value) as i32),
        (Some(logical::TIME), _, value) => Value::Time(integer(&value) as i32),
        (Some(logical::DECIMAL), _, Value::String(text)) => {
            Value::Decimal(ottla_api::data::Decimal::parse(&text).unwrap())
        }
        (_, SchemaType::Int8, value) => Value::Int8(integer(&value) as i8),
        (_, SchemaType::Int16, value) => Value::Int16(integer(&value) as i16),
        (_, SchemaType::Int32, value) => Value::Int32(integer(&value) as i32),
        (_, SchemaType::Float32, value) => Value::Float32(value.as_f64().unwrap() as f32),
        (_, SchemaType::Float64, value) => Value::Float64(value.as_f64().unwrap()),
        (_, SchemaType::Bytes, Value::String(text)) => Value::Bytes(text.into_bytes().into()),
        (_, SchemaType::Array, Value::Array(items)) => {
            Value::Array(items.into_iter().map(|item| typed(schema.items(), item)).collect())
        }
        (_, SchemaType::Map, Value::Map(map)) => {
            Value::Map(map.into_iter().map(|(name, item)| (name, typed(schema.items(), item))).collect())
        }
        (_, SchemaType::Struct, Value::Map(mut map)) => {
            let mut result = Struct::new(Arc::clone(schema));
            for field in schema.fields() {
                result.put(&field.name, typed(&field.schema, map.remove(&field.name).unwrap_or_default())).unwrap();
            }
            assert!(map.is_empty(), "fields without a schema: {map:?}");
            Value::Struct(result)
        }
        (_, _, value) => value,
    }
}
