#![doc = include_str!("../README.md")]

mod buffer;
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

const DOC: &str = r#"Writes topics as JSON lines into objects of S3 or a folder, each record exactly once.

```toml
[connectors.lake]
connector.class = "s3-sink"
topics.regex = 'posts\..*'
store.url = "file:./lake"       # or http://localhost:9000; left out, AWS
s3.bucket.name = "posts"
flush.size = 1000
```

Objects are called `topics/<topic>/partition=<p>/<topic>+<p>+<first offset>.json`."#;

/// The plugins of this crate.
pub const PLUGINS: &[Plugin] = &[Plugin {
    name: "s3-sink",
    aliases: &["io.confluent.connect.s3.S3SinkConnector"],
    version: env!("CARGO_PKG_VERSION"),
    doc: DOC,
    definition: &S3SinkConfig::definition,
    constructor: Constructor::Sink(&|| Box::new(S3SinkConnector)),
}];

#[cfg(feature = "plugin")]
ottla_api::export_plugins!(PLUGINS);
