#![doc = include_str!("../README.md")]

pub mod client;
mod config;
mod error;
mod object_name;
mod sink;
mod uploader;
mod writer;

use ottla_api::prelude::*;

pub use config::{
    Compression, DecimalFormat, Encryption, Format, NullValues, Partitioner, S3SinkConfig, SchemaCompatibility,
    Storage, StoreUrl, TimestampFormat, Timezone,
};
pub use sink::{Clock, S3SinkConnector, S3SinkTask};

/// The plugins of this crate.
pub fn plugins() -> Vec<Plugin> {
    vec![Plugin {
        name: "s3-sink",
        aliases: &["io.confluent.connect.s3.S3SinkConnector"],
        version: env!("CARGO_PKG_VERSION"),
        doc: "Writes topics as JSON lines into objects of S3 or a folder, each record exactly once.",
        definition: S3SinkConfig::definition,
        constructor: Constructor::Sink(|| Box::new(S3SinkConnector)),
    }]
}
