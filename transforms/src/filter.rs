//! Drops every record it is given; a predicate says which those are.
//!
//! This is Kafka Connect's `Filter`.
//!
//! ```toml
//! type = "filter"
//! ```
//!
//! ```json
//! {"ind":1}
//! ```
//!
//! becomes
//!
//! ```text
//! dropped
//! ```

use ottla_api::prelude::*;

/// The plugin.
pub(crate) fn plugin() -> Plugin {
    Plugin {
        name: "filter",
        aliases: &["org.apache.kafka.connect.transforms.Filter"],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("filter.rs"),
        definition: ConfigDef::new,
        constructor: Constructor::Transformation(|_| Ok(Box::new(Filter))),
    }
}

struct Filter;

impl Transformation for Filter {
    fn apply(&mut self, _: Record) -> Result<Option<Record>> {
        Ok(None)
    }
}
