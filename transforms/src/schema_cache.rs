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

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_api::data::SchemaType;

    #[test]
    fn equal_schemas_share_one_result_and_the_oldest_are_forgotten() {
        let named = |name: &str| Schema::builder(SchemaType::String).name(name).build();
        let mut cache = SchemaCache::new();
        let mut made = 0;
        let mut get = |name: &str| {
            let result = cache.get(&named(name), |_| {
                made += 1;
                Ok(made)
            });
            *result.unwrap()
        };
        assert_eq!((get("a"), get("a"), get("b"), get("a"), get("b")), (1, 1, 2, 1, 2));
        for other in 0..ENTRIES_MAX {
            get(&other.to_string());
        }
        assert_eq!(get("a"), 3 + ENTRIES_MAX as i32);
    }
}
