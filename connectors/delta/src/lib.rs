#![doc = include_str!("../README.md")]

mod columns;
mod commit;
mod config;
mod encoding;
mod log;
mod maintenance;
#[doc(hidden)]
pub mod measured;
mod schema;
mod sink;
pub mod store;
mod table;
mod upsert;

use ottla_api::prelude::*;

pub use config::{Codec, DeltaSinkConfig, Evolution, Mode, NullValues};
pub use maintenance::{Maintenance, MaintenanceConfig};
pub use sink::{DeltaSinkConnector, DeltaSinkTask};

const DOC: &str = r#"Writes topics into Delta tables, each record exactly once: rows and offsets are one commit.

```toml
[connectors.lake]
connector.class = "delta-sink"
topics = "pin, geo, user"
store.url = "file:./lake"        # or s3://bucket
table.name.format = "${topic}_table"
```

A topic's table is made from its first records, or from `schema.<table>`, and gets new columns as new fields come."#;

/// The plugins of this crate.
pub const PLUGINS: &[Plugin] = &[Plugin {
    name: "delta-sink",
    aliases: &[],
    version: env!("CARGO_PKG_VERSION"),
    doc: DOC,
    definition: &DeltaSinkConfig::definition,
    constructor: Constructor::Sink(&|| Box::new(DeltaSinkConnector)),
}];

#[cfg(feature = "plugin")]
ottla_api::export_plugins!(PLUGINS);
