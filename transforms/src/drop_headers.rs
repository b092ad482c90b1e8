//! Removes headers by name.
//!
//! This is Kafka Connect's `DropHeaders`.
//!
//! ```toml
//! type = "drop-headers"
//! headers = "trace, origin"
//! ```
//!
//! ```json record
//! {"value":{"ind":1},"headers":{"trace":"x","team":"blue"}}
//! ```
//!
//! becomes
//!
//! ```json record
//! {"value":{"ind":1},"headers":{"team":"blue"}}
//! ```

use ottla_api::prelude::*;

use crate::text_list::config_error;

/// The plugin.
pub(crate) fn plugin() -> Plugin {
    Plugin {
        name: "drop-headers",
        aliases: &["org.apache.kafka.connect.transforms.DropHeaders"],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("drop_headers.rs"),
        definition: &DropHeadersConfig::definition,
        constructor: Constructor::Transformation(&|properties| {
            let config = DropHeadersConfig::from_properties(properties)?;
            if config.headers.is_empty() {
                return Err(config_error("headers", "must name at least one header"));
            }
            Ok(Box::new(DropHeaders { headers: config.headers }))
        }),
    }
}

#[derive(Debug, Config)]
struct DropHeadersConfig {
    /// Names of the headers to remove.
    #[config(name = "headers")]
    headers: Vec<String>,
}

struct DropHeaders {
    headers: Vec<String>,
}

impl Transformation for DropHeaders {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        if !record.headers.is_empty() {
            for name in &self.headers {
                record.headers.remove(name);
            }
        }
        Ok(Some(record))
    }
}
