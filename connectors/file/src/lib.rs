#![doc = include_str!("../README.md")]

mod config;
mod sink;
mod source;

pub use config::{FileSinkConfig, FileSourceConfig, Read};
pub use sink::{FileSink, FileSinkTask};
pub use source::{FileSource, FileSourceTask};

use ottla_api::config::Config;
use ottla_api::plugin::{Constructor, Plugin};

/// The connectors of this crate.
pub fn plugins() -> Vec<Plugin> {
    vec![
        Plugin {
            name: "file-source",
            aliases: &["org.apache.kafka.connect.file.FileStreamSourceConnector", "FileStreamSource"],
            version: env!("CARGO_PKG_VERSION"),
            doc: "Reads the lines of a file, and follows it as it grows.",
            definition: FileSourceConfig::definition,
            constructor: Constructor::Source(|| Box::new(FileSource)),
        },
        Plugin {
            name: "file-sink",
            aliases: &["org.apache.kafka.connect.file.FileStreamSinkConnector", "FileStreamSink"],
            version: env!("CARGO_PKG_VERSION"),
            doc: "Appends each record to a file, as a line, exactly once.",
            definition: FileSinkConfig::definition,
            constructor: Constructor::Sink(|| Box::new(FileSink)),
        },
    ]
}
