//! The options of the source. The comment of a field is its documentation.

use std::path::PathBuf;
use std::time::Duration;

use ottla_api::prelude::*;

/// Options of `my-plugin`.
#[derive(Debug, Clone, Config)]
pub struct MyPluginConfig {
    /// The folder with the files `*.jsonl`.
    #[config(name = "dir", importance = "high")]
    pub dir: PathBuf,
    /// The topic that receives the records.
    #[config(name = "topic", importance = "high")]
    pub topic: String,
    /// A batch holds at most so many records.
    #[config(name = "batch.size", default = "500", min = 1)]
    pub batch_size: usize,
    /// Pause between two looks at a folder that has nothing new.
    #[config(name = "poll.interval.ms", default = "500", min = 1)]
    pub poll_interval: Duration,
}
