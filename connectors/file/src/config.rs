//! The options of both connectors.

use std::path::PathBuf;

use ottla_api::config::ConfigValue;
use ottla_api::prelude::*;

/// Options of `file-source`.
#[derive(Debug, Clone, Config)]
pub struct FileSourceConfig {
    /// The file to read. It may appear later.
    #[config(name = "file")]
    pub file: PathBuf,
    /// The topic that receives the lines.
    #[config(name = "topic")]
    pub topic: String,
    /// How many lines a batch holds at most.
    #[config(name = "batch.size", default = "2000", importance = "low", min = 1)]
    pub batch_size: usize,
    /// Whether to go on when the file grows (`follow`), or to end at its end (`once`).
    #[config(name = "read", default = "follow")]
    pub read: Read,
}

/// What happens at the end of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
pub enum Read {
    /// Wait for more.
    Follow,
    /// End. The last line counts without a line break.
    Once,
}

/// Options of `file-sink`.
#[derive(Debug, Clone, Config)]
pub struct FileSinkConfig {
    /// The file to append to. It is made if it isn't there; its folder must be.
    #[config(name = "file")]
    pub file: PathBuf,
}
