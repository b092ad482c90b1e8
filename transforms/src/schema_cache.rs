//! What was worked out for a schema, kept for the next record that has it.

use std::sync::Arc;

use ottla_api::prelude::*;

/// Most schemas remembered at once. A task sees one or two; the bound only keeps a source of ever new schemas from filling
/// the memory (G7).
const ENTRIES_MAX: usize = 32;

/// Results by input schema. Records of a batch share their schema, so a look at the pointer nearly always suffices.
#[derive(Debug)]
pub(crate) struct SchemaCache<T> {
    /// The most recently used first.
    entries: Vec<(Arc<Schema>, T)>,
}

impl<T> SchemaCache<T> {
    /// Remembers nothing yet.
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// The result for this schema, made now if it is new. Equal schemas behind different pointers share one result, so that
    /// whoever comes after sees one output schema.
    pub(crate) fn get(&mut self, schema: &Arc<Schema>, make: impl FnOnce(&Arc<Schema>) -> Result<T>) -> Result<&T> {
        let found = self.entries.iter().position(|(known, _)| Arc::ptr_eq(known, schema));
        match found.or_else(|| self.entries.iter().position(|(known, _)| known == schema)) {
            Some(0) => self.entries[0].0 = Arc::clone(schema),
            Some(index) => {
                self.entries[..=index].rotate_right(1);
                self.entries[0].0 = Arc::clone(schema);
            }
            None => {
                let made = make(schema)?;
                self.entries.truncate(ENTRIES_MAX - 1);
                self.entries.insert(0, (Arc::clone(schema), made));
            }
        }
        Ok(&self.entries[0].1)
    }
}
