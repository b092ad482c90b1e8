//! Reads texts as points in time.
//!
//! ```toml
//! type = "parse-timestamp"
//! fields = "timestamp, seen"
//! output = "text"
//! format = "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'"
//! ```
//!
//! ```json
//! {"ind":1,"timestamp":"2021-09-26 19:49:23","seen":"09/26/2021, 19:49:23"}
//! ```
//!
//! becomes
//!
//! ```json
//! {"ind":1,"timestamp":"2021-09-26T19:49:23.000Z","seen":"2021-09-26T19:49:23.000Z"}
//! ```
//!
//! `patterns` lists what is accepted, in the notation of Java's `SimpleDateFormat` (letters `y M d E H h a m s S z Z X`; a
//! pattern with a comma goes between double quotes); `unix-ms` and `unix-s` in the list accept numbers. After a pattern that
//! ends in seconds a fraction and an offset (`Z`, `+0000`, `+00:00`) are accepted too. Texts that name no offset are in
//! `timezone`. A two-digit year is one of 1970 to 2069.
//!
//! The result is a logical timestamp unless `output` says otherwise: what a converter or sink then writes (a number, an ISO
//! text, a column of type timestamp) is its choice. Fractions are cut to milliseconds. Null stays null, timestamps and dates
//! are taken as they are; anything else is treated as `unparsable` says.

use std::borrow::Cow;
use std::sync::Arc;

use ottla_api::config::ConfigValue;
use ottla_api::data::{SchemaType, json};
use ottla_api::prelude::*;

use crate::date_pattern::{COMMON, DAY_MILLIS, DatePattern, Reading, Zone, parse_common};
use crate::fields::{FieldEdits, fields_of};
use crate::key_or_value::{Change, Fate, On, OnPayload};
use crate::text_list::{TextList, config_error, not_empty};

/// The plugin.
pub(crate) fn plugin() -> Plugin {
    Plugin {
        name: "parse-timestamp",
        aliases: &[],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("parse_timestamp.rs"),
        definition: &ParseTimestampConfig::definition,
        constructor: Constructor::Transformation(&ParseTimestamp::construct),
    }
}

#[derive(Debug, Config)]
struct ParseTimestampConfig {
    /// Fields that hold times.
    #[config(name = "fields")]
    fields: Vec<String>,
    /// Patterns that are accepted.
    #[config(
        name = "patterns",
        default = "yyyy-MM-dd'T'HH:mm:ss, yyyy-MM-dd HH:mm:ss, \"MM/dd/yyyy, HH:mm:ss\", yyyy-MM-dd"
    )]
    patterns: Patterns,
    /// Zone of texts that name none, and of dates and texts that come out.
    #[config(name = "timezone", default = "UTC")]
    timezone: Zone,
    /// `timestamp` or `date` (logical types), `text`, or `unix-ms` (a number).
    #[config(name = "output", default = "timestamp")]
    output: OutputKind,
    /// The pattern for `output = "text"`.
    #[config(name = "format")]
    format: Option<DatePattern>,
    /// What becomes of anything else: `null`, `drop` (the record), `fail` (the record; it goes where failed records go), or
    /// `keep` (it stays as it is; not for records with a schema, unless `output = "text"`).
    #[config(name = "unparsable", default = "null")]
    unparsable: Unparsable,
    #[config(flatten)]
    on: On,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
enum OutputKind {
    Timestamp,
    Date,
    Text,
    UnixMs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
enum Unparsable {
    Null,
    Drop,
    Fail,
    Keep,
}

#[derive(Debug, Clone)]
enum Pattern {
    /// All of [`COMMON`], by the fast reader.
    Common,
    Date(DatePattern),
    UnixMillis,
    UnixSeconds,
}

#[derive(Debug, Clone)]
struct Patterns(Vec<Pattern>);

impl ConfigValue for Patterns {
    fn parse(text: &str) -> Result<Self, String> {
        let list = TextList::parse(text)?;
        if list.0.is_empty() {
            return Err("must list at least one pattern".to_owned());
        }
        let mut texts = list.0.as_slice();
        let mut patterns = Vec::new();
        let common = TextList::parse(COMMON)?;
        if let Some(rest) = texts.strip_prefix(common.0.as_slice()) {
            patterns.push(Pattern::Common);
            texts = rest;
        }
        for text in texts {
            patterns.push(match text.as_str() {
                "unix-ms" => Pattern::UnixMillis,
                "unix-s" => Pattern::UnixSeconds,
                text => Pattern::Date(DatePattern::parse(text)?),
            });
        }
        Ok(Self(patterns))
    }

    fn type_name() -> Cow<'static, str> {
        "list of date patterns".into()
    }
}

#[derive(Debug)]
enum Output {
    Timestamp,
    Date,
    Text(DatePattern),
    UnixMillis,
}

struct ParseTimestamp {
    fields: FieldEdits,
    clock: Clock,
    unparsable: Unparsable,
}

impl ParseTimestamp {
    fn construct(properties: &Properties) -> Result<Box<dyn Transformation>> {
        let config = ParseTimestampConfig::from_properties(properties)?;
        let output = match (config.output, config.format) {
            (OutputKind::Text, Some(pattern)) => Output::Text(pattern),
            (OutputKind::Text, None) => return Err(config_error("format", "is required by output = text")),
            (_, Some(_)) => return Err(config_error("format", "has no effect without output = text")),
            (OutputKind::Timestamp, None) => Output::Timestamp,
            (OutputKind::Date, None) => Output::Date,
            (OutputKind::UnixMs, None) => Output::UnixMillis,
        };
        let transformation = Self {
            fields: FieldEdits::of(not_empty("fields", config.fields)?),
            clock: Clock { patterns: config.patterns.0, zone: config.timezone, output },
            unparsable: config.unparsable,
        };
        Ok(OnPayload::boxed(config.on.on, transformation))
    }
}

impl Change for ParseTimestamp {
    fn change(&mut self, payload: &mut Payload) -> Result<Fate> {
        let Self { fields, clock, unparsable } = self;
        fields.apply(
            &mut fields_of(payload, "parse-timestamp")?,
            |_, schema: &Arc<Schema>| Ok(clock.schema(schema.is_optional() || *unparsable == Unparsable::Null)),
            |_, value, has_schema| {
                if value.is_null() {
                    return Ok(Fate::Keep);
                }
                match (clock.read(value), *unparsable) {
                    (Some(millis), _) => clock.write(millis, value),
                    (None, Unparsable::Null) => *value = Value::Null,
                    (None, Unparsable::Drop) => return Ok(Fate::Drop),
                    (None, Unparsable::Keep)
                        if !has_schema || matches!((&clock.output, &*value), (Output::Text(_), Value::String(_))) => {}
                    (None, Unparsable::Keep | Unparsable::Fail) => {
                        let shown = json::to_string(value);
                        return Err(Error::data(format!("{shown} is no time in any of the accepted patterns")));
                    }
                }
                Ok(Fate::Keep)
            },
        )
    }
}

/// Reads and writes times.
struct Clock {
    patterns: Vec<Pattern>,
    zone: Zone,
    output: Output,
}

impl Clock {
    /// Milliseconds since the epoch.
    fn read(&self, value: &Value) -> Option<i64> {
        match value {
            Value::String(text) => self.patterns.iter().find_map(|pattern| match pattern {
                Pattern::Common => parse_common(text)?.to_millis(&self.zone),
                Pattern::Date(pattern) => pattern.read(text, Reading::Exact)?.to_millis(&self.zone),
                Pattern::UnixMillis => text.parse().ok(),
                Pattern::UnixSeconds => text.parse::<i64>().ok()?.checked_mul(1000),
            }),
            Value::Timestamp(millis) => Some(*millis),
            Value::Date(days) => {
                let midnight = i64::from(*days) * DAY_MILLIS;
                Some(midnight - self.zone.offset_at(midnight) * 1000)
            }
            number => {
                let number = number.as_i64()?;
                self.patterns.iter().find_map(|pattern| match pattern {
                    Pattern::UnixMillis => Some(number),
                    Pattern::UnixSeconds => number.checked_mul(1000),
                    _ => None,
                })
            }
        }
    }

    fn write(&self, millis: i64, value: &mut Value) {
        *value = match &self.output {
            Output::Timestamp => Value::Timestamp(millis),
            Output::UnixMillis => Value::Int64(millis),
            Output::Date => {
                let local = millis.saturating_add(self.zone.offset_at(millis) * 1000);
                i32::try_from(local.div_euclid(DAY_MILLIS)).map_or(Value::Null, Value::Date)
            }
            Output::Text(pattern) => {
                let mut text = String::with_capacity(32);
                pattern.format(millis, &self.zone, &mut text);
                Value::String(text)
            }
        };
    }

    fn schema(&self, optional: bool) -> Arc<Schema> {
        let builder = match self.output {
            Output::Timestamp => Schema::timestamp(),
            Output::Date => Schema::date(),
            Output::Text(_) => Schema::builder(SchemaType::String),
            Output::UnixMillis => Schema::builder(SchemaType::Int64),
        };
        builder.optional_if(optional).build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_what_the_fast_reader_reads() {
        let properties = Properties::from_iter([("fields", "t")]);
        let config = ParseTimestampConfig::from_properties(&properties).unwrap();
        assert!(matches!(config.patterns.0[..], [Pattern::Common]));
    }
}
