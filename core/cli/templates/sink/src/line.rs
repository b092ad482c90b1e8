//! What a record becomes in the file.

use ottla_api::data::json;
use ottla_api::prelude::*;

use crate::config::MyPluginConfig;

/// Appends the line of a record: its value as JSON.
///
/// # Errors
///
/// About this record alone, `Error::data(..)`: it is reported and goes to the dead letter queue, as the user has configured.
pub(crate) fn write_line(record: &Record, _config: &MyPluginConfig, lines: &mut Vec<u8>) -> Result<()> {
    record.value.write_json(&json::WriteOptions::default(), lines);
    lines.push(b'\n');
    Ok(())
}
