//! Makes the record's time part of its topic.
//!
//! This is Kafka Connect's `TimestampRouter`.
//!
//! ```toml
//! type = "timestamp-router"
//! topic.format = "${topic}-${timestamp}"
//! timestamp.format = "yyyyMM"
//! ```
//!
//! ```json record
//! {"topic":"posts","timestamp":1632685763000,"value":{"ind":1}}
//! ```
//!
//! becomes
//!
//! ```json record
//! {"topic":"posts-202109","timestamp":1632685763000,"value":{"ind":1}}
//! ```
//!
//! The time is the record's timestamp, in UTC, written by a pattern of Java's `SimpleDateFormat` (letters
//! `y M d E H h a m s S z Z X`). A record without a timestamp fails.

use std::sync::Arc;

use ottla_api::prelude::*;

use crate::date_pattern::{DatePattern, Zone};

/// The plugin.
pub(crate) fn plugin() -> Plugin {
    Plugin {
        name: "timestamp-router",
        aliases: &["org.apache.kafka.connect.transforms.TimestampRouter"],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("timestamp_router.rs"),
        definition: &TimestampRouterConfig::definition,
        constructor: Constructor::Transformation(&|properties| {
            let config = TimestampRouterConfig::from_properties(properties)?;
            let (format, pattern) = (config.topic, config.pattern);
            Ok(Box::new(TimestampRouter { format, pattern, time: String::new(), last: None }))
        }),
    }
}

#[derive(Debug, Config)]
struct TimestampRouterConfig {
    /// The new name; `${topic}` and `${timestamp}` stand for the old one and for the time.
    #[config(name = "topic.format", default = "${topic}-${timestamp}")]
    topic: String,
    /// The pattern of the time.
    #[config(name = "timestamp.format", default = "yyyyMMdd")]
    pattern: DatePattern,
}

struct TimestampRouter {
    format: String,
    pattern: DatePattern,
    /// The record's time as text, kept to reuse its memory.
    time: String,
    /// The last topic and time and what became of them: the time's text is the same for a whole day, as a rule.
    last: Option<Routed>,
}

struct Routed {
    topic: Arc<str>,
    time: String,
    result: Arc<str>,
}

impl Transformation for TimestampRouter {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        let Some(timestamp) = record.timestamp else {
            return Err(Error::data("Timestamp missing on record"));
        };
        self.time.clear();
        self.pattern.format(timestamp, &Zone::Utc, &mut self.time);
        record.topic = match &self.last {
            Some(last)
                if last.time == self.time
                    && (Arc::ptr_eq(&last.topic, &record.topic) || last.topic == record.topic) =>
            {
                Arc::clone(&last.result)
            }
            _ => {
                // In two steps, as Kafka does it.
                let topic = self.format.replace("${topic}", &record.topic).replace("${timestamp}", &self.time);
                let result: Arc<str> = topic.into();
                let time = self.time.clone();
                self.last = Some(Routed { topic: record.topic, time, result: Arc::clone(&result) });
                result
            }
        };
        Ok(Some(record))
    }
}
