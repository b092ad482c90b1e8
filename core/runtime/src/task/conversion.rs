//! Converters applied to key, value and headers of a record, in both directions.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use ottla_api::converter::Converter;
use ottla_api::data::{Value, json};
use ottla_api::header::Header;
use ottla_api::plugin::Constructor;
use ottla_api::record::{Payload, RawRecord, Record};
use ottla_api::{Error, Result};

use crate::broker::ProducerRecord;
use crate::config::{ConnectorConfig, PluginConfig};
use crate::errors::{Failure, Stage};
use crate::plugins::config_providers::Providers;

/// A connector's converters.
pub struct Conversion {
    key: Box<dyn Converter>,
    value: Box<dyn Converter>,
    key_class: &'static str,
    value_class: &'static str,
}

impl Conversion {
    /// Makes the converters.
    pub fn build(config: &ConnectorConfig, providers: &Providers) -> Result<Self> {
        let make = |converter: &PluginConfig, for_keys: bool| -> Result<Box<dyn Converter>> {
            match converter.plugin.constructor {
                Constructor::Converter(make) => make(&providers.resolve(&converter.properties)?, for_keys),
                _ => Err(Error::config(format!("'{}' is not a converter", converter.plugin.name))),
            }
        };
        Ok(Self {
            key: make(&config.key_converter, true)?,
            value: make(&config.value_converter, false)?,
            key_class: config.key_converter.plugin.name,
            value_class: config.value_converter.plugin.name,
        })
    }

    /// What may hang, in a few words; nothing where nothing may.
    pub fn blocking(&self) -> Option<String> {
        let converters = [(&self.key, "key", self.key_class), (&self.value, "value", self.value_class)];
        let blocking = converters.into_iter().filter(|(converter, ..)| converter.is_blocking());
        let names: Vec<_> = blocking.map(|(_, of, class)| format!("{of} converter '{class}'")).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    /// From the broker's bytes to data: key, value, headers, in Kafka Connect's order. `decoded` says that the value will be
    /// looked into, and changes nothing but how long that takes.
    pub fn to_connect(
        &self,
        topic: &Arc<str>,
        partition: i32,
        raw: &RawRecord,
        decoded: bool,
    ) -> Result<Record, Failure> {
        let key = self.key.to_connect(topic, raw.key.as_ref());
        let key = key.map_err(|error| Failure::new(Stage::KeyConverter, self.key_class, error))?;
        let value = match decoded {
            true => self.value.to_connect_decoded(topic, raw.value.as_ref()),
            false => self.value.to_connect(topic, raw.value.as_ref()),
        };
        let value = value.map_err(|error| Failure::new(Stage::ValueConverter, self.value_class, error))?;
        let header = |(name, value): &(String, Option<Bytes>)| Header {
            key: name.clone(),
            value: header_value(value.as_ref()),
            schema: None,
        };
        let headers = raw.headers.iter().map(header).collect();
        Ok(Record {
            topic: Arc::clone(topic),
            partition: Some(partition),
            key,
            value,
            timestamp: raw.timestamp,
            headers,
            offset: Some(raw.offset),
        })
    }

    /// From data to bytes for the broker.
    pub fn from_connect(&self, record: Record) -> Result<ProducerRecord, Failure> {
        let bytes = |converter: &dyn Converter, payload: &Payload| converter.from_connect(&record.topic, payload);
        let key = bytes(self.key.as_ref(), &record.key);
        let key = key.map_err(|error| Failure::new(Stage::KeyConverter, self.key_class, error))?;
        let value = bytes(self.value.as_ref(), &record.value);
        let value = value.map_err(|error| Failure::new(Stage::ValueConverter, self.value_class, error))?;
        Ok(ProducerRecord {
            topic: record.topic,
            partition: record.partition,
            key,
            value,
            timestamp: record.timestamp,
            headers: record.headers.into_iter().map(|header| (header.key, header_bytes(header.value))).collect(),
        })
    }
}

/// A header's bytes as text where they are text, else as bytes. (Kafka Connect's `SimpleHeaderConverter` goes on to guess
/// numbers and dates in the text; nothing here looks inside, and what is not guessed comes out as it went in.)
fn header_value(bytes: Option<&Bytes>) -> Value {
    match bytes {
        None => Value::Null,
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::String(text.to_owned()),
            Err(_) => Value::Bytes(bytes.clone()),
        },
    }
}

fn header_bytes(value: Value) -> Option<Bytes> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.into()),
        Value::Bytes(bytes) => Some(bytes),
        other => Some(json::to_string(&other).into()),
    }
}

impl fmt::Debug for Conversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conversion(key {}, value {})", self.key_class, self.value_class)
    }
}
