//! What happens to a record.
//!
//! It must come out the same whenever it is sent through: no clock, no randomness, nothing remembered from the record before.
//! Sinks that write each record once rest on that.

use ottla_api::prelude::*;

use crate::config::MyPluginConfig;

/// Shortens texts.
#[derive(Debug)]
pub struct MyPlugin {
    config: MyPluginConfig,
}

impl MyPlugin {
    /// One with these options.
    ///
    /// # Errors
    ///
    /// Where an option is wrong or missing: all of them at once.
    pub fn new(properties: &Properties) -> Result<Self> {
        Ok(Self { config: MyPluginConfig::from_properties(properties)? })
    }

    /// Changes one field.
    fn change(&self, value: &mut Value) {
        if let Value::String(text) = value
            && let Some((end, _)) = text.char_indices().nth(self.config.length_max)
        {
            text.truncate(end);
        }
    }
}

impl Transformation for MyPlugin {
    /// `Ok(None)` drops the record. An error, `Error::data(..)`, is about this record alone: `errors.tolerance` and the dead
    /// letter queue decide what becomes of it.
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        // A tombstone has nothing to shorten, and means something to whoever reads it.
        if record.is_tombstone() {
            return Ok(Some(record));
        }
        match record.value.value_mut()? {
            // Data without a schema.
            Value::Map(map) => {
                for name in &self.config.fields {
                    if let Some(value) = map.get_mut(name) {
                        self.change(value);
                    }
                }
            }
            // Data with one, whose fields keep their types: a shorter text is still a text.
            Value::Struct(fields) => {
                for name in &self.config.fields {
                    if let Some(mut value) = fields.get(name).cloned() {
                        self.change(&mut value);
                        fields.put(name, value)?;
                    }
                }
            }
            other => {
                return Err(Error::data(format!("my-plugin needs a value with fields, found {}", other.type_name())));
            }
        }
        Ok(Some(record))
    }
}
