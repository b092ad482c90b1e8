//! True where the record has a header of this name.
//!
//! ```toml
//! type = "has-header-key"
//! name = "origin"
//! ```
//!
//! This is Kafka Connect's `HasHeaderKey`.

use ottla_api::prelude::*;

use crate::text_list::config_error;

/// The plugin.
pub(crate) fn plugin() -> Plugin {
    Plugin {
        name: "has-header-key",
        aliases: &["org.apache.kafka.connect.transforms.predicates.HasHeaderKey"],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("has_header_key.rs"),
        definition: &HasHeaderKeyConfig::definition,
        constructor: Constructor::Predicate(&|properties| {
            let config = HasHeaderKeyConfig::from_properties(properties)?;
            if config.name.is_empty() {
                return Err(config_error("name", "must not be empty"));
            }
            Ok(Box::new(HasHeaderKey { name: config.name }))
        }),
    }
}

#[derive(Debug, Config)]
struct HasHeaderKeyConfig {
    /// The header's name.
    #[config(name = "name")]
    name: String,
}

struct HasHeaderKey {
    name: String,
}

impl Predicate for HasHeaderKey {
    fn test(&mut self, record: &mut Record) -> Result<bool> {
        Ok(record.headers.last(&self.name).is_some())
    }
}
