//! The options of the sink. The comment of a field is its documentation.

use std::path::PathBuf;

use ottla_api::prelude::*;

/// Options of `my-plugin`.
#[derive(Debug, Clone, Config)]
pub struct MyPluginConfig {
    /// The folder that receives the files. It is made where it is missing.
    #[config(name = "dir", importance = "high")]
    pub dir: PathBuf,
    /// A file is written when a partition has so many records for it, or when offsets are committed
    /// (`offset.flush.interval.ms`).
    #[config(name = "file.records", default = "1000", min = 1)]
    pub file_records: usize,
}
