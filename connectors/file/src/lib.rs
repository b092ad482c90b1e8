#![doc = include_str!("../README.md")]

mod config;
mod sink;
mod source;

pub use config::{FileSinkConfig, FileSourceConfig, Read};
pub use sink::{FileSink, FileSinkTask};
pub use source::{FileSource, FileSourceTask};

use ottla_api::config::Config;
use ottla_api::plugin::{Constructor, Plugin};

const SOURCE_DOC: &str = r#"Reads the lines of a file, and follows it as it grows.

```toml
[connectors.log]
connector.class = "file-source"
file = "/var/log/app.log"
topic = "app.log"
value.converter = "string"
```

A line is text. The converter `string` puts it into the topic as it is; without it, lines become JSON texts in quotes."#;

const SINK_DOC: &str = r#"Appends each record to a file, as a line, exactly once.

```toml
[connectors.copy]
connector.class = "file-sink"
topics = "app.log"
file = "app.txt"
value.converter = "string"
```

The converter `string` takes any text as it is; without it, values must be JSON and are written as JSON."#;

/// The connectors of this crate.
pub const PLUGINS: &[Plugin] = &[
    Plugin {
        name: "file-source",
        aliases: &["org.apache.kafka.connect.file.FileStreamSourceConnector", "FileStreamSource"],
        version: env!("CARGO_PKG_VERSION"),
        doc: SOURCE_DOC,
        definition: &FileSourceConfig::definition,
        constructor: Constructor::Source(&|| Box::new(FileSource)),
    },
    Plugin {
        name: "file-sink",
        aliases: &["org.apache.kafka.connect.file.FileStreamSinkConnector", "FileStreamSink"],
        version: env!("CARGO_PKG_VERSION"),
        doc: SINK_DOC,
        definition: &FileSinkConfig::definition,
        constructor: Constructor::Sink(&|| Box::new(FileSink)),
    },
];

#[cfg(feature = "plugin")]
ottla_api::export_plugins!(PLUGINS);
