//! The contract of Ottla: everything that the author of a connector, converter or transformation compiles against.
//!
//! Nothing in here talks to a network, a disk or a broker. The types follow Kafka Connect's words and data model, so that
//! somebody who wrote a connector for it finds the same things under the same names.
//!
//! # A source, whole
//!
//! ```
//! use async_trait::async_trait;
//! use ottla_api::prelude::*;
//!
//! /// Counts from where it stopped.
//! #[derive(Debug, Config)]
//! struct CounterConfig {
//!     /// Topic that receives the numbers.
//!     #[config(name = "topic")]
//!     topic: String,
//!     /// The source ends after this number; unset, it counts for ever.
//!     #[config(name = "count.max")]
//!     count_max: Option<i64>,
//! }
//!
//! struct CounterTask {
//!     config: CounterConfig,
//!     next: i64,
//! }
//!
//! #[async_trait]
//! impl SourceTask for CounterTask {
//!     async fn start(&mut self, context: &SourceTaskContext) -> Result<()> {
//!         let last = context.offset(&SourcePartition::new([("counter", "0")]))?;
//!         self.next = last.and_then(|offset| offset.get_i64("last")).map_or(0, |last| last + 1);
//!         Ok(())
//!     }
//!
//!     async fn poll(&mut self) -> Result<SourcePoll> {
//!         if self.config.count_max.is_some_and(|max| self.next > max) {
//!             return Ok(SourcePoll::Finished);
//!         }
//!         let record = Record::new(self.config.topic.as_str(), Value::Int64(self.next));
//!         let partition = SourcePartition::new([("counter", "0")]);
//!         let offset = SourceOffset::new([("last", self.next)]);
//!         self.next += 1;
//!         Ok(SourcePoll::Records(vec![SourceRecord::new(record, partition, offset)]))
//!     }
//! }
//! ```
//!
//! # A library that a worker loads
//!
//! A crate with `crate-type = ["cdylib", "rlib"]` and this crate's feature `plugin` exports a constant list of plugins
//! ([`Plugin`](plugin::Plugin) shows one) with one line, `ottla_api::export_plugins!(PLUGINS);`. `ottla new sink NAME` makes
//! such a crate, with tests. The contract of a sink is at [`SinkTask`](sink::SinkTask), that of a source at
//! [`SourceTask`](source::SourceTask), that of a transformation at [`Transformation`](transformation::Transformation).
//!
//! # Where to read on
//!
//! | Module | Holds |
//! |---|---|
//! | [`source`], [`sink`] | the two kinds of connector, their tasks, who calls what when |
//! | [`record`], [`data`], [`header`], [`offset`] | what moves, and where it came from |
//! | [`transformation`], [`predicate`], [`converter`] | what happens to a record on its way |
//! | [`config`] | one definition of an option: parse, check, explain, describe |
//! | [`error`] | what an error makes the caller do |
//! | [`plugin`] | how all of these are found by name |

// `#[derive(Config)]` writes `::ottla_api::..` paths; this lets the crate's own tests use it.
extern crate self as ottla_api;

#[cfg(feature = "plugin")]
pub mod boundary;
pub mod config;
pub mod config_provider;
pub mod converter;
pub mod data;
pub mod error;
pub mod header;
pub mod offset;
pub mod plugin;
pub mod predicate;
pub mod record;
pub mod sink;
pub mod source;
pub mod transformation;

pub use error::{Error, ErrorKind, Result};

/// Exports a library's plugins; with the feature `plugin`.
#[cfg(not(feature = "plugin"))]
#[macro_export]
macro_rules! export_plugins {
    ($($plugins:tt)*) => {
        ::core::compile_error!(
            "export_plugins! needs the feature `plugin`: ottla-api = { .., features = [\"plugin\"] }"
        );
    };
}

/// What nearly every plugin needs, in one import.
pub mod prelude {
    pub use crate::config::{Config, ConfigDef, ConfigError, Properties, Secret};
    pub use crate::converter::Converter;
    pub use crate::data::{Map, Schema, Struct, Value};
    pub use crate::error::{Error, ErrorKind, Result, ResultExt};
    pub use crate::header::Headers;
    pub use crate::offset::{Positions, SourceOffset, SourceOffsets, SourcePartition, TopicPartition};
    pub use crate::plugin::{Constructor, Plugin};
    pub use crate::predicate::Predicate;
    pub use crate::record::{Payload, RawRecord, Record, SinkBatch, SinkRecord, SourceRecord};
    pub use crate::sink::{CloseReason, Delivery, FlushReason, SinkConnector, SinkTask, SinkTaskContext};
    pub use crate::source::{SourceConnector, SourcePoll, SourceTask, SourceTaskContext};
    pub use crate::transformation::Transformation;
}
