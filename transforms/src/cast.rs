//! Changes the type of fields, or of the whole payload.
//!
//! This is Kafka Connect's `Cast`: `cast` is its `$Value`, `cast-key` its `$Key`.
//!
//! ```toml
//! type = "cast"
//! spec = "index:int32, price:string, downloaded:boolean"
//! ```
//!
//! ```json
//! {"index":"7","price":12.30,"downloaded":1}
//! ```
//!
//! becomes
//!
//! ```json
//! {"index":7,"price":"12.30","downloaded":true}
//! ```
//!
//! The types are `int8 int16 int32 int64 float32 float64 boolean string`; one type without a field casts the whole payload.
//! Numbers become other numbers as in Java: fractions are cut, what is too large for a smaller integer keeps its low bits.
//! Text that is no number of the type fails the record. Bytes become text in base64; dates and times become text in ISO 8601
//! or the number behind them. Without a schema every field of the spec is set: one that is missing becomes null.

use std::sync::Arc;

use base64::Engine as _;
use ottla_api::config::ConfigValue;
use ottla_api::data::{Field, SchemaType, json};
use ottla_api::prelude::*;

use crate::fields::{FieldName, Fields, struct_like, with_list};
use crate::key_or_value::{Change, Fate, KeyOrValue, OnPayload};
use crate::requirements::{NullWithDefault, class_name, java_text, or_default, require_fields};
use crate::schema_cache::SchemaCache;
use crate::text_list::config_error;

/// The plugins for the value and for the key.
pub(crate) fn plugins() -> [Plugin; 2] {
    let value = Plugin {
        name: "cast",
        aliases: &["org.apache.kafka.connect.transforms.Cast$Value"],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("cast.rs"),
        definition: &CastConfig::definition,
        constructor: Constructor::Transformation(&|properties| Cast::construct(properties, KeyOrValue::Value)),
    };
    let key = Plugin {
        name: "cast-key",
        aliases: &["org.apache.kafka.connect.transforms.Cast$Key"],
        constructor: Constructor::Transformation(&|properties| Cast::construct(properties, KeyOrValue::Key)),
        ..value
    };
    [value, key]
}

#[derive(Debug, Config)]
struct CastConfig {
    /// What becomes what: `field:type` for each field, or one type for the whole.
    #[config(name = "spec")]
    spec: Vec<Spec>,
    #[config(flatten)]
    nulls: NullWithDefault,
}

#[derive(Debug, Clone)]
struct Spec {
    field: Option<String>,
    target: SchemaType,
}

impl ConfigValue for Spec {
    fn parse(text: &str) -> Result<Self, String> {
        let (field, type_name) = match text.split_once(':') {
            Some((_, rest)) if rest.contains(':') => {
                return Err(format!("Invalid rename mapping: {text} (a cast is field:type)"));
            }
            Some((field, type_name)) => (Some(field.trim().to_owned()), type_name.trim()),
            None => (None, text.trim()),
        };
        let target = match type_name.to_ascii_lowercase().as_str() {
            "int8" => SchemaType::Int8,
            "int16" => SchemaType::Int16,
            "int32" => SchemaType::Int32,
            "int64" => SchemaType::Int64,
            "float32" => SchemaType::Float32,
            "float64" => SchemaType::Float64,
            "boolean" => SchemaType::Boolean,
            "string" => SchemaType::String,
            other @ ("bytes" | "array" | "map" | "struct") => {
                return Err(format!(
                    "Cast transformation does not support casting to {other}; supported types are int8, int16, int32, \
                     int64, float32, float64, boolean, string"
                ));
            }
            _ => return Err(format!("Invalid type: {type_name}")),
        };
        Ok(Self { field, target })
    }

    fn type_name() -> std::borrow::Cow<'static, str> {
        "list of field:type".into()
    }
}

struct Cast {
    /// The type of the whole payload; else of fields.
    whole: Option<SchemaType>,
    fields: Vec<(FieldName, SchemaType)>,
    replace_null_with_default: bool,
    plans: SchemaCache<CastPlan>,
}

/// What happens to data of one schema.
struct CastPlan {
    schema: Arc<Schema>,
    /// The new type of each field that has one, by place.
    places: Vec<(usize, SchemaType)>,
}

impl Cast {
    fn construct(properties: &Properties, on: KeyOrValue) -> Result<Box<dyn Transformation>> {
        let config = CastConfig::from_properties(properties)?;
        let mut whole = None;
        let mut fields: Vec<(FieldName, SchemaType)> = Vec::new();
        let several = config.spec.len() > 1;
        for Spec { field, target } in config.spec {
            match field {
                None if several => {
                    return Err(config_error(
                        "spec",
                        "Cast transformations that specify a type to cast the entire value to may only cast a single value \
                         in their spec",
                    ));
                }
                None => whole = Some(target),
                Some(field) => match fields.iter_mut().find(|(name, _)| name.name == field) {
                    Some((_, known)) => *known = target,
                    None => fields.push((FieldName::new(field), target)),
                },
            }
        }
        if whole.is_none() && fields.is_empty() {
            return Err(config_error("spec", "Must specify at least one field to cast."));
        }
        let replace_null_with_default = config.nulls.replace;
        Ok(OnPayload::boxed(on, Self { whole, fields, replace_null_with_default, plans: SchemaCache::new() }))
    }
}

impl Change for Cast {
    fn change(&mut self, payload: &mut Payload) -> Result<Fate> {
        let Self { whole, fields: casts, replace_null_with_default, plans } = self;
        if let Some(target) = *whole {
            let value = cast(payload.value_mut()?, target)?;
            let schema = match payload.schema() {
                Some(schema) => Some(Arc::clone(&plans.get(schema, |schema| CastPlan::whole(schema, target))?.schema)),
                None => None,
            };
            *payload = Payload::Data { schema, value };
            return Ok(Fate::Keep);
        }
        match require_fields(payload, "cast types")? {
            Fields::Map(map) => with_list(map, |fields| -> Result<()> {
                for (name, target) in casts {
                    match name.place(fields) {
                        Some(place) => {
                            let value = &mut fields[place].1;
                            *value = cast(value, *target).map_err(|error| error.with("field", &name.name))?;
                        }
                        None => fields.push((name.name.clone(), Value::Null)),
                    }
                }
                Ok(())
            })?,
            Fields::Struct(mut place) => {
                let plan = plans.get(place.schema(), |input| CastPlan::of_fields(input, casts))?;
                let input = Arc::clone(place.schema());
                let mut values = place.take();
                if *replace_null_with_default {
                    for (value, field) in values.iter_mut().zip(input.fields()) {
                        *value = or_default(std::mem::take(value), &field.schema, true);
                    }
                }
                for &(place, target) in &plan.places {
                    let name = &input.fields()[place].name;
                    values[place] = cast(&mut values[place], target).map_err(|error| error.with("field", name))?;
                }
                place.set(&plan.schema, values)?;
            }
        }
        Ok(Fate::Keep)
    }
}

impl CastPlan {
    fn whole(schema: &Schema, target: SchemaType) -> Result<Self> {
        Ok(Self { schema: cast_schema(schema, target)?, places: Vec::new() })
    }

    fn of_fields(input: &Arc<Schema>, casts: &[(FieldName, SchemaType)]) -> Result<Self> {
        let mut places = Vec::new();
        let mut fields: Vec<Field> = input.fields().to_vec();
        for (place, field) in fields.iter_mut().enumerate() {
            if let Some((_, target)) = casts.iter().find(|(name, _)| name.name == field.name) {
                field.schema = cast_schema(&field.schema, *target)?;
                places.push((place, *target));
            }
        }
        Ok(Self { schema: struct_like(input, fields), places })
    }
}

/// The schema of the result: optionality stays, a default is cast too, name and documentation go.
fn cast_schema(schema: &Schema, target: SchemaType) -> Result<Arc<Schema>> {
    let builder = Schema::builder(target).optional_if(schema.is_optional());
    Ok(match schema.default() {
        Some(default) => builder.default_value(cast(&mut default.clone(), target)?),
        None => builder,
    }
    .build())
}

/// Casts one value. Text is moved, not copied, so what is left of the old value may be nothing.
fn cast(value: &mut Value, target: SchemaType) -> Result<Value> {
    if value.is_null() {
        return Ok(Value::Null);
    }
    if target == SchemaType::String {
        return cast_to_text(value);
    }
    let value = &*value;
    let out_of_range = || Error::data(format!("Value ({}) was out of range for requested data type", java_text(value)));
    let unexpected = || match value {
        Value::Array(_) | Value::Map(_) | Value::Pairs(_) | Value::Struct(_) => Error::data(format!(
            "Cast transformation does not support casting from {}; supported types are int8, int16, int32, int64, float32, \
             float64, boolean, string, bytes",
            value.type_name()
        )),
        _ => Error::data(format!("Unexpected type in Cast transformation: class {}", class_name(value))),
    };
    let number = match value {
        Value::Boolean(flag) => Number::Integer(i64::from(*flag)),
        Value::String(text) if target == SchemaType::Boolean => {
            return Ok(Value::Boolean(text.eq_ignore_ascii_case("true")));
        }
        Value::String(text) => {
            let wide = match target {
                SchemaType::Float32 => return java_float(text).map(Value::Float32).ok_or_else(out_of_range),
                SchemaType::Float64 => return java_float(text).map(Value::Float64).ok_or_else(out_of_range),
                _ => text.parse::<i64>().map_err(|_| out_of_range())?,
            };
            // Text must fit the type, unlike a number, which is narrowed.
            return match target {
                SchemaType::Int8 => i8::try_from(wide).map(Value::Int8),
                SchemaType::Int16 => i16::try_from(wide).map(Value::Int16),
                SchemaType::Int32 => i32::try_from(wide).map(Value::Int32),
                _ => Ok(Value::Int64(wide)),
            }
            .map_err(|_| out_of_range());
        }
        Value::Date(n) | Value::Time(n) => Number::Integer((*n).into()),
        Value::Timestamp(n) => Number::Integer(*n),
        Value::Float32(n) => Number::Float((*n).into()),
        Value::Float64(n) => Number::Float(*n),
        Value::Number(text) if target == SchemaType::Float32 || target == SchemaType::Float64 || !is_whole(text) => {
            Number::Float(text.parse().map_err(|_| out_of_range())?)
        }
        // A whole number that is kept as text has more than 64 bits, of which the low ones mean nothing.
        Value::Number(_) => return Err(out_of_range()),
        Value::Decimal(decimal) => Number::Float(decimal.to_string().parse().map_err(|_| out_of_range())?),
        other => Number::Integer(other.as_i64().ok_or_else(unexpected)?),
    };
    Ok(number.narrowed(target))
}

/// True for a number's text without fraction and exponent.
fn is_whole(text: &str) -> bool {
    // "-0" is kept as text because no integer prints so.
    text != "-0" && !text.contains(['.', 'e', 'E'])
}

/// A number on its way to another type, as Java's `Number`.
#[derive(Clone, Copy)]
enum Number {
    Integer(i64),
    Float(f64),
}

impl Number {
    fn narrowed(self, target: SchemaType) -> Value {
        // Java narrows a float to int first, and that to the smaller types.
        let int32 = match self {
            Self::Integer(n) => n as i32,
            Self::Float(n) => n as i32,
        };
        let int64 = match self {
            Self::Integer(n) => n,
            Self::Float(n) => n as i64,
        };
        match target {
            SchemaType::Int8 => Value::Int8(int32 as i8),
            SchemaType::Int16 => Value::Int16(int32 as i16),
            SchemaType::Int32 => Value::Int32(int32),
            SchemaType::Boolean => Value::Boolean(int64 != 0),
            SchemaType::Float32 => Value::Float32(match self {
                Self::Integer(n) => n as f32,
                Self::Float(n) => n as f32,
            }),
            SchemaType::Float64 => Value::Float64(match self {
                Self::Integer(n) => n as f64,
                Self::Float(n) => n,
            }),
            _ => Value::Int64(int64),
        }
    }
}

fn cast_to_text(value: &mut Value) -> Result<Value> {
    const DAY_MILLIS: i64 = crate::date_pattern::DAY_MILLIS;
    // Java chooses the form by the point in time, not by the type.
    let date_text = |millis: i64| match millis {
        _ if millis < DAY_MILLIS => {
            format!("{}Z", with_millis(json::iso_time(millis.rem_euclid(DAY_MILLIS) as i32)))
        }
        _ => match i32::try_from(millis / DAY_MILLIS) {
            Ok(days) if millis % DAY_MILLIS == 0 => json::iso_date(days),
            _ => {
                let text = json::iso_timestamp(millis);
                format!("{}Z", with_millis(text.trim_end_matches('Z').to_owned()))
            }
        },
    };
    Ok(Value::String(match value {
        Value::String(text) => std::mem::take(text),
        Value::Bytes(bytes) => base64::engine::general_purpose::STANDARD.encode(bytes),
        Value::Date(days) => date_text(i64::from(*days) * DAY_MILLIS),
        Value::Time(millis) => date_text((*millis).into()),
        Value::Timestamp(millis) => date_text(*millis),
        Value::Array(_) | Value::Map(_) | Value::Pairs(_) | Value::Struct(_) => {
            return Err(Error::data(format!(
                "Cast transformation does not support casting from {}; supported types are int8, int16, int32, int64, \
                 float32, float64, boolean, string, bytes",
                value.type_name()
            )));
        }
        Value::Float32(n) if !n.is_finite() => json_text_without_quotes(value),
        Value::Float64(n) if !n.is_finite() => json_text_without_quotes(value),
        other => java_text(other),
    }))
}

/// `NaN`, `Infinity`: JSON has them in quotes, Java's text doesn't.
fn json_text_without_quotes(value: &Value) -> String {
    json::to_string(value).trim_matches('"').to_owned()
}

/// A time of day with its three digits of milliseconds, where it has none.
fn with_millis(text: String) -> String {
    if text.contains('.') { text } else { format!("{text}.000") }
}

/// Reads a number as Java's `parseFloat` and `parseDouble`: blanks around it don't count, `f` or `d` may end it.
fn java_float<F: std::str::FromStr + From<f32>>(text: &str) -> Option<F> {
    let text = text.trim();
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned == "NaN" || unsigned == "Infinity" {
        return text.parse().ok();
    }
    let number = text.strip_suffix(['f', 'F', 'd', 'D']).unwrap_or(text);
    // Rust also reads inf and nan in any spelling.
    if number.bytes().any(|byte| byte.is_ascii_alphabetic() && !byte.eq_ignore_ascii_case(&b'e')) {
        return None;
    }
    number.parse().ok()
}
