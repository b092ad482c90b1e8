//! Converts times between text, numbers and the logical types.
//!
//! This is Kafka Connect's `TimestampConverter`: `timestamp-converter` is its `$Value`, `timestamp-converter-key` its `$Key`.
//!
//! ```toml
//! type = "timestamp-converter"
//! field = "at"
//! target.type = "string"
//! format = "yyyy-MM-dd HH:mm:ss"
//! ```
//!
//! ```json
//! {"ind":1,"at":1632685763000}
//! ```
//!
//! becomes
//!
//! ```json
//! {"ind":1,"at":"2021-09-26 19:49:23"}
//! ```
//!
//! Without `field` the whole payload is converted. All is in UTC. Text is read and written by `format`, a pattern of Java's
//! `SimpleDateFormat` (letters `y M d E H h a m s S z Z X`); it is read as leniently as Java reads it. For several
//! patterns, another time zone, or a choice of what to do with text that is no time, see `parse-timestamp`.

use std::sync::Arc;

use ottla_api::config::ConfigValue;
use ottla_api::data::{Field, SchemaType, logical};
use ottla_api::prelude::*;

use crate::date_pattern::{DAY_MILLIS, DatePattern, Reading, Zone};
use crate::fields::{FieldName, Fields, struct_like, with_list};
use crate::key_or_value::{Change, Fate, KeyOrValue, OnPayload};
use crate::requirements::{NullWithDefault, class_name, or_default, require_fields};
use crate::schema_cache::SchemaCache;
use crate::text_list::config_error;

/// The plugins for the value and for the key.
pub(crate) fn plugins() -> [Plugin; 2] {
    let value = Plugin {
        name: "timestamp-converter",
        aliases: &["org.apache.kafka.connect.transforms.TimestampConverter$Value"],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("timestamp_converter.rs"),
        definition: &TimestampConverterConfig::definition,
        constructor: Constructor::Transformation(&|properties| {
            TimestampConverter::construct(properties, KeyOrValue::Value)
        }),
    };
    let key = Plugin {
        name: "timestamp-converter-key",
        aliases: &["org.apache.kafka.connect.transforms.TimestampConverter$Key"],
        constructor: Constructor::Transformation(&|properties| {
            TimestampConverter::construct(properties, KeyOrValue::Key)
        }),
        ..value
    };
    [value, key]
}

#[derive(Debug, Config)]
struct TimestampConverterConfig {
    /// The field to convert; empty, the whole payload.
    #[config(name = "field", default = "")]
    field: String,
    /// What it becomes: `string`, `unix`, `Date`, `Time` or `Timestamp`.
    #[config(name = "target.type")]
    target: Target,
    /// The pattern of text, read or written.
    #[config(name = "format", default = "")]
    format: OptionalPattern,
    /// The unit of numbers, read or written.
    #[config(name = "unix.precision", default = "milliseconds")]
    precision: Precision,
    #[config(flatten)]
    nulls: NullWithDefault,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
enum Target {
    String,
    Unix,
    #[config(name = "Date")]
    Date,
    #[config(name = "Time")]
    Time,
    #[config(name = "Timestamp")]
    Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
enum Precision {
    Milliseconds,
    Microseconds,
    Nanoseconds,
    Seconds,
}

/// A pattern, or empty text for none.
#[derive(Debug, Clone)]
struct OptionalPattern(Option<DatePattern>);

impl ConfigValue for OptionalPattern {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(Self(None)) } else { DatePattern::parse(text).map(|pattern| Self(Some(pattern))) }
    }

    fn type_name() -> std::borrow::Cow<'static, str> {
        DatePattern::type_name()
    }
}

struct TimestampConverter {
    /// None converts the whole payload.
    field: Option<FieldName>,
    conversion: Conversion,
    replace_null_with_default: bool,
    plans: SchemaCache<Arc<Schema>>,
}

struct Conversion {
    target: Target,
    pattern: Option<DatePattern>,
    precision: Precision,
}

impl TimestampConverter {
    fn construct(properties: &Properties, on: KeyOrValue) -> Result<Box<dyn Transformation>> {
        let config = TimestampConverterConfig::from_properties(properties)?;
        if config.target == Target::String && config.format.0.is_none() {
            return Err(config_error(
                "format",
                "TimestampConverter requires format option to be specified when using string timestamps",
            ));
        }
        let transformation = Self {
            field: (!config.field.is_empty()).then(|| FieldName::new(config.field)),
            conversion: Conversion { target: config.target, pattern: config.format.0, precision: config.precision },
            replace_null_with_default: config.nulls.replace,
            plans: SchemaCache::new(),
        };
        Ok(OnPayload::boxed(on, transformation))
    }
}

impl Change for TimestampConverter {
    fn change(&mut self, payload: &mut Payload) -> Result<Fate> {
        let Self { field, conversion, replace_null_with_default, plans } = self;
        let Some(name) = field else {
            let value = conversion.convert(payload.value()?)?;
            let schema = match payload.schema() {
                Some(schema) => Some(Arc::clone(plans.get(schema, |schema| conversion.schema(schema))?)),
                None => None,
            };
            *payload = Payload::Data { schema, value };
            return Ok(Fate::Keep);
        };
        match require_fields(payload, "converting timestamp formats")? {
            Fields::Map(map) => with_list(map, |fields| -> Result<()> {
                match name.place(fields) {
                    Some(place) => {
                        let converted = conversion.convert(&fields[place].1);
                        fields[place].1 = converted.map_err(|error| error.with("field", &name.name))?;
                    }
                    None => fields.push((name.name.clone(), Value::Null)),
                }
                Ok(())
            })?,
            Fields::Struct(mut place) => {
                let schema = plans.get(place.schema(), |input| {
                    let mut fields: Vec<Field> = input.fields().to_vec();
                    for field in fields.iter_mut().filter(|field| field.name == name.name) {
                        field.schema = conversion.schema(&field.schema)?;
                    }
                    Ok(struct_like(input, fields))
                })?;
                let input = Arc::clone(place.schema());
                let mut values = place.take();
                for (value, field) in values.iter_mut().zip(input.fields()) {
                    *value = or_default(std::mem::take(value), &field.schema, *replace_null_with_default);
                    if field.name == name.name {
                        *value = conversion.convert(value).map_err(|error| error.with("field", &name.name))?;
                    }
                }
                place.set(schema, values)?;
            }
        }
        Ok(Fate::Keep)
    }
}

impl Conversion {
    /// Null stays null.
    fn convert(&self, value: &Value) -> Result<Value> {
        let millis = match value {
            Value::Null => return Ok(Value::Null),
            Value::Timestamp(millis) => *millis,
            Value::Date(days) => i64::from(*days) * DAY_MILLIS,
            Value::Time(millis) => i64::from(*millis),
            Value::String(text) => self.read(text)?,
            other => match (other.as_i64(), self.precision) {
                (None, _) => {
                    return Err(Error::data(format!(
                        "TimestampConverter does not support class {} objects as timestamps",
                        class_name(other)
                    )));
                }
                (Some(n), Precision::Milliseconds) => n,
                (Some(n), Precision::Microseconds) => n / 1000,
                (Some(n), Precision::Nanoseconds) => n / 1_000_000,
                (Some(n), Precision::Seconds) => n.saturating_mul(1000),
            },
        };
        Ok(match self.target {
            Target::Timestamp => Value::Timestamp(millis),
            Target::Date => {
                let days = i32::try_from(millis.div_euclid(DAY_MILLIS));
                Value::Date(days.map_err(|_| Error::data(format!("{millis} milliseconds are no date")))?)
            }
            Target::Time => Value::Time(millis.rem_euclid(DAY_MILLIS) as i32),
            Target::Unix => Value::Int64(match self.precision {
                Precision::Milliseconds => millis,
                Precision::Microseconds => millis.saturating_mul(1000),
                Precision::Nanoseconds => millis.saturating_mul(1_000_000),
                Precision::Seconds => millis / 1000,
            }),
            Target::String => {
                let mut text = String::with_capacity(32);
                if let Some(pattern) = &self.pattern {
                    pattern.format(millis, &Zone::Utc, &mut text);
                }
                Value::String(text)
            }
        })
    }

    fn read(&self, text: &str) -> Result<i64> {
        let Some(pattern) = &self.pattern else {
            return Err(Error::data(
                "TimestampConverter requires format option to be specified when using string timestamps",
            ));
        };
        let time = pattern.read(text, Reading::AsJava).and_then(|time| time.to_millis(&Zone::Utc));
        time.ok_or_else(|| {
            Error::data(format!(
                "Could not parse timestamp: value ({text}) does not match pattern ({})",
                pattern.as_str()
            ))
        })
    }

    fn schema(&self, input: &Arc<Schema>) -> Result<Arc<Schema>> {
        let known = matches!(input.name(), Some(logical::DATE | logical::TIME | logical::TIMESTAMP))
            || matches!(input.schema_type(), SchemaType::Int64 | SchemaType::String) && !input.is_logical();
        if !known {
            return Err(Error::data(format!(
                "Schema {} does not correspond to a known timestamp type format",
                input.describe()
            )));
        }
        let builder = match self.target {
            Target::String => Schema::builder(SchemaType::String),
            Target::Unix => Schema::builder(SchemaType::Int64),
            Target::Date => Schema::date(),
            Target::Time => Schema::time(),
            Target::Timestamp => Schema::timestamp(),
        };
        Ok(builder.optional_if(input.is_optional()).build())
    }
}
