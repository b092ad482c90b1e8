//! The smallest transformation: it writes texts in capitals.
//!
//! Run it, at the top of the repository:
//!
//! ```sh
//! cargo build -p first-transform
//! ottla transform try examples/first-transform/example.toml --topic names < examples/first-transform/names.jsonl
//! ```

use ottla_api::prelude::*;

/// Options of `first-transform`.
#[derive(Debug, Config)]
pub struct FirstTransformConfig {
    /// Fields whose texts are written in capitals.
    #[config(name = "fields")]
    pub fields: Vec<String>,
}

/// Writes texts in capitals.
#[derive(Debug)]
pub struct FirstTransform {
    config: FirstTransformConfig,
}

impl FirstTransform {
    /// One with these options, which are checked already.
    ///
    /// # Errors
    ///
    /// Where an option is wrong after all.
    pub fn new(properties: &Properties) -> Result<Self> {
        Ok(Self { config: FirstTransformConfig::from_properties(properties)? })
    }
}

impl Transformation for FirstTransform {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        if let Value::Map(map) = record.value.value_mut()? {
            for name in &self.config.fields {
                if let Some(Value::String(text)) = map.get_mut(name) {
                    *text = text.to_uppercase();
                }
            }
        }
        // `Ok(None)` would drop the record; `Err(Error::data(..))` would say that this one can't be processed.
        Ok(Some(record))
    }
}

/// The plugins of this library.
pub const PLUGINS: &[Plugin] = &[Plugin {
    name: "first-transform",
    aliases: &[],
    version: env!("CARGO_PKG_VERSION"),
    doc: "Writes texts in capitals.",
    definition: &FirstTransformConfig::definition,
    constructor: Constructor::Transformation(&|properties| Ok(Box::new(FirstTransform::new(properties)?))),
}];

ottla_api::export_plugins!(PLUGINS);
