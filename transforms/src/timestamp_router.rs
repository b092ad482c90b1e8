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

use ottla_api::prelude::*;

use crate::date_pattern::{DatePattern, Zone};

/// The plugin.
pub(crate) fn plugin() -> Plugin {
    Plugin {
        name: "timestamp-router",
        aliases: &["org.apache.kafka.connect.transforms.TimestampRouter"],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("timestamp_router.rs"),
        definition: TimestampRouterConfig::definition,
        constructor: Constructor::Transformation(|properties| {
            let config = TimestampRouterConfig::from_properties(properties)?;
            Ok(Box::new(TimestampRouter { topic: config.topic, pattern: config.pattern }))
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
    topic: String,
    pattern: DatePattern,
}

impl Transformation for TimestampRouter {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        let Some(timestamp) = record.timestamp else {
            return Err(Error::data("Timestamp missing on record"));
        };
        let mut time = String::with_capacity(16);
        self.pattern.format(timestamp, &Zone::Utc, &mut time);
        // In two steps, as Kafka does it.
        let topic = self.topic.replace("${topic}", &record.topic).replace("${timestamp}", &time);
        record.topic = topic.into();
        Ok(Some(record))
    }
}
