//! What a line becomes in the topic.

use ottla_api::data::json;
use ottla_api::prelude::*;

use crate::config::MyPluginConfig;

/// The record of a line: its JSON is the value.
///
/// # Errors
///
/// Where the line can't be a record. The source stops there and says why; it never leaves one out silently.
pub(crate) fn record_of(line: &str, config: &MyPluginConfig) -> Result<Record> {
    let value = json::parse(line.as_bytes())?;
    Ok(Record::new(config.topic.as_str(), value))
}
