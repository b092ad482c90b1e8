//! True where the record's value is null.
//!
//! ```toml
//! type = "record-is-tombstone"
//! ```
//!
//! This is Kafka Connect's `RecordIsTombstone`.

use ottla_api::prelude::*;

/// The plugin.
pub(crate) fn plugin() -> Plugin {
    Plugin {
        name: "record-is-tombstone",
        aliases: &["org.apache.kafka.connect.transforms.predicates.RecordIsTombstone"],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("record_is_tombstone.rs"),
        definition: &ConfigDef::new,
        constructor: Constructor::Predicate(&|_| Ok(Box::new(RecordIsTombstone))),
    }
}

struct RecordIsTombstone;

impl Predicate for RecordIsTombstone {
    fn test(&mut self, record: &mut Record) -> Result<bool> {
        Ok(record.is_tombstone())
    }
}
