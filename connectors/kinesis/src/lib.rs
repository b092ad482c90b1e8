#![doc = include_str!("../README.md")]

mod client;
mod config;
pub mod embedded;
mod error;
mod kpl;
mod sink;
mod source;
mod template;

use ottla_api::prelude::*;

pub use client::connect;
pub use config::{ConnectionConfig, Endpoint, KinesisSinkConfig, KinesisSourceConfig};
pub use sink::KinesisSink;
pub use source::KinesisSource;

const SOURCE_DOC: &str = r#"Reads Kinesis streams by polling or enhanced fan-out; shards may be split and merged meanwhile.

```toml
[connectors.posts]
connector.class = "kinesis-source"
kinesis.stream = "posts"
kinesis.endpoint = "embedded"         # a Kinesis in the state folder; left out, AWS
value.converter = "bytes"             # the records' bytes as they are
```"#;

const SINK_DOC: &str = r#"Writes topics to Kinesis streams, each record at least once, in order per partition key.

```toml
[connectors.out]
connector.class = "kinesis-sink"
topics.regex = 'posts\..*'
kinesis.stream = "${topic}"
kinesis.endpoint = "embedded"         # a Kinesis in the state folder; left out, AWS
```"#;

/// The plugins of this crate.
pub const PLUGINS: &[Plugin] = &[
    Plugin {
        name: "kinesis-source",
        aliases: &["io.confluent.connect.kinesis.KinesisSourceConnector"],
        version: env!("CARGO_PKG_VERSION"),
        doc: SOURCE_DOC,
        definition: &KinesisSourceConfig::definition,
        constructor: Constructor::Source(&|| Box::new(KinesisSource)),
    },
    Plugin {
        name: "kinesis-sink",
        aliases: &[],
        version: env!("CARGO_PKG_VERSION"),
        doc: SINK_DOC,
        definition: &KinesisSinkConfig::definition,
        constructor: Constructor::Sink(&|| Box::new(KinesisSink)),
    },
];

#[cfg(feature = "plugin")]
ottla_api::export_plugins!(PLUGINS);
