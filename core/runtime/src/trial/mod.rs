//! Records through one connector's converters and transformations, without a broker: what `ottla transform` shows.
//!
//! [`Trial`] sends one record through and tells what each stage did; [`cases`] holds records with what is expected of them.

pub mod cases;

use std::sync::Arc;

use bytes::Bytes;
use ottla_api::data::json;
use ottla_api::plugin::PluginKind;
use ottla_api::record::{Payload, RawRecord, Record};
use ottla_api::{Error, Result};

use crate::config::{Configuration, ConnectorConfig};
use crate::errors::{Failure, Stage};
use crate::plugins::config_providers::Providers;
use crate::task::conversion::Conversion;
use crate::task::transformation_chain::{Step, TransformationChain};

/// A connector's record path, without the connector.
#[derive(Debug)]
pub struct Trial {
    conversion: Conversion,
    chain: TransformationChain,
    kind: PluginKind,
    /// The class of the connector, which a source's failures name.
    class: &'static str,
}

impl Trial {
    /// Makes the converters and transformations of the connector of that name; without a name, of the only one that has
    /// transformations.
    ///
    /// # Errors
    ///
    /// Where there is no such connector, or a plugin can't be made.
    pub fn new(configuration: &Configuration, connector: Option<&str>) -> Result<Self> {
        let connector = choose(configuration, connector)?;
        let providers = Providers::build(&configuration.providers)?;
        Ok(Self {
            conversion: Conversion::build(connector, &providers)?,
            chain: TransformationChain::build(&connector.chain, &providers)?,
            kind: connector.plugin.kind(),
            class: connector.plugin.name,
        })
    }

    /// Names of the stages, in order.
    pub fn stages(&self) -> impl Iterator<Item = &str> {
        self.chain.stages()
    }

    /// The record as the first stage is given it. For a sink that is what its converters make of bytes in the topic; for a source,
    /// whose records don't come from bytes, key and value are read as JSON.
    ///
    /// # Errors
    ///
    /// What the converters refuse, as it would be reported in a run.
    pub fn convert(&self, topic: &Arc<str>, raw: &RawRecord) -> Result<Record, Failure> {
        if self.kind == PluginKind::Sink {
            return self.conversion.to_connect(topic, 0, raw, false);
        }
        let payload = |stage: Stage, bytes: &Option<Bytes>| match bytes {
            None => Ok(Payload::null()),
            Some(text) => json::compact(text).map(Payload::json).map_err(|error| {
                let error = error.during("read what the source is to yield as JSON");
                Failure::new(stage, self.class, error)
            }),
        };
        let mut record = Record::new(Arc::clone(topic), None::<bool>);
        record.key = payload(Stage::KeyConverter, &raw.key)?;
        record.value = payload(Stage::ValueConverter, &raw.value)?;
        record.timestamp = raw.timestamp;
        for (name, value) in &raw.headers {
            let value = value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned());
            record.headers.add(name.as_str(), value);
        }
        Ok(record)
    }

    /// Sends a record through all stages, which remember what they remember in a run. `watch` is told what each one did, up to
    /// the one that drops the record or fails.
    ///
    /// # Errors
    ///
    /// The failure of a stage, as it would be reported in a run.
    pub fn apply(&mut self, record: Record, watch: impl FnMut(usize, Step<'_>)) -> Result<Option<Record>, Failure> {
        self.chain.apply_watched(record, watch)
    }
}

fn choose<'a>(configuration: &'a Configuration, name: Option<&str>) -> Result<&'a ConnectorConfig> {
    let all = &configuration.connectors;
    let names = |connectors: &[&ConnectorConfig]| {
        connectors.iter().map(|connector| connector.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    if let Some(name) = name {
        let found = all.iter().find(|connector| connector.name == name);
        return found.ok_or_else(|| {
            let there = names(&all.iter().collect::<Vec<_>>());
            Error::config(format!("no connector is called '{name}'; there are: {there}"))
        });
    }
    let with_stages: Vec<_> = all.iter().filter(|connector| !connector.chain.is_empty()).collect();
    match with_stages[..] {
        [one] => Ok(one),
        [] => Err(Error::config("no connector of this configuration has transformations")),
        _ => {
            let names = names(&with_stages);
            Err(Error::config(format!("several connectors have transformations; name one of them: {names}")))
        }
    }
}

/// What is to be seen of a record, each part as one line of text; JSON where it is data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its topic.
    pub topic: String,
    /// Its key as compact JSON.
    pub key: String,
    /// Its value as compact JSON; `null` for a tombstone.
    pub value: String,
    /// What its value's schema is called, where it has one.
    pub schema: Option<String>,
    /// Its timestamp in milliseconds, where it has one.
    pub timestamp: Option<i64>,
    /// Its headers, each value as compact JSON.
    pub headers: Vec<(String, String)>,
}

impl From<&Record> for Shown {
    fn from(record: &Record) -> Self {
        let text = |payload: &Payload| {
            let mut text = Vec::new();
            payload.write_json(&SHOWN, &mut text);
            String::from_utf8_lossy(&text).into_owned()
        };
        Self {
            topic: record.topic.to_string(),
            key: text(&record.key),
            value: text(&record.value),
            schema: record
                .value
                .schema()
                .map(|schema| format!("{} {}", schema.describe(), schema.version().unwrap_or(0))),
            timestamp: record.timestamp,
            headers: record
                .headers
                .iter()
                .map(|header| (header.key.clone(), text(&Payload::schemaless(header.value.clone()))))
                .collect(),
        }
    }
}

/// For people: times as ISO 8601 and decimals as numbers.
const SHOWN: json::WriteOptions = json::WriteOptions { decimal_numeric: true, time_iso: true };
