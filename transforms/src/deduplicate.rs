//! Drops records that were there before.
//!
//! ```toml
//! type = "deduplicate"
//! by = "fields"
//! fields = "ind"
//! window = "100000"
//! ```
//!
//! ```json
//! {"ind":1,"title":"Blue"}
//! ```
//!
//! becomes, the first time,
//!
//! ```json
//! {"ind":1,"title":"Blue"}
//! ```
//!
//! and is dropped the second time, whatever its title is then. What counts as the same is the topic together with the key and
//! the value (`by = "record"`), the key, or some fields of the value.
//!
//! **It remembers in memory only**: the last `window` different records of each task, as 128-bit hashes (about 60 bytes
//! each). A restart and a rebalance forget, and two tasks don't know of each other. So it takes the repeats out of a source
//! that replays, but it is no promise of uniqueness; for that, write into something that merges by key. Because its
//! outcome depends on what came before, it also takes from an exactly-once sink the certainty that a replayed batch comes out
//! the same; the worker warns about that.
//!
//! Tombstones pass. With `by = "key"` a tombstone also makes its key forgotten, so that the key may come again.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

use ottla_api::config::ConfigValue;
use ottla_api::data::json::{self, WriteOptions};
use ottla_api::prelude::*;

use crate::fields::{FieldName, fields_of};
use crate::text_list::config_error;

/// The plugin.
pub(crate) fn plugin() -> Plugin {
    Plugin {
        name: "deduplicate",
        aliases: &[],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("deduplicate.rs"),
        definition: &DeduplicateConfig::definition,
        constructor: Constructor::Transformation(&Deduplicate::construct),
    }
}

#[derive(Debug, Config)]
struct DeduplicateConfig {
    /// What makes two records the same, besides their topic: `record` (key and value), `key`, or `fields`.
    #[config(name = "by", default = "record")]
    by: By,
    /// Fields of the value for `by = "fields"`.
    #[config(name = "fields", default = "")]
    fields: Vec<String>,
    /// How many different records are remembered.
    #[config(name = "window", default = "100000", min = 1)]
    window: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
enum By {
    Record,
    Key,
    Fields,
}

/// The hash of what is a keyed hash already: half of it.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only `u128` is ever hashed; anything else still gets some hash.
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }
}

struct Deduplicate {
    by: By,
    fields: Vec<FieldName>,
    window: usize,
    seen: HashSet<u128, BuildHasherDefault<Hashed>>,
    /// What was seen, oldest first, to know what to forget.
    order: VecDeque<u128>,
    /// Two keyed hashes, so that nobody can make records that pass for others.
    hashers: (RandomState, RandomState),
    /// What is hashed, kept to reuse its memory.
    buffer: Vec<u8>,
}

impl Deduplicate {
    fn construct(properties: &Properties) -> Result<Box<dyn Transformation>> {
        let config = DeduplicateConfig::from_properties(properties)?;
        match (config.by, config.fields.is_empty()) {
            (By::Fields, true) => return Err(config_error("fields", "is required by by = fields")),
            (By::Record | By::Key, false) => {
                return Err(config_error("fields", "has no effect without by = fields"));
            }
            _ => (),
        }
        Ok(Box::new(Self {
            by: config.by,
            fields: FieldName::list(config.fields),
            window: config.window,
            seen: HashSet::default(),
            order: VecDeque::new(),
            hashers: (RandomState::new(), RandomState::new()),
            buffer: Vec::new(),
        }))
    }

    /// A hash of what makes this record the same as another.
    fn identity(&mut self, record: &mut Record) -> Result<u128> {
        let buffer = &mut self.buffer;
        buffer.clear();
        json::write_text(&record.topic, buffer);
        let options = WriteOptions::default();
        match self.by {
            By::Key => record.key.write_json(&options, buffer),
            By::Record => {
                record.key.write_json(&options, buffer);
                // JSON texts in a row need no separator but for two numbers.
                buffer.push(b',');
                record.value.write_json(&options, buffer);
            }
            By::Fields => {
                fields_of(&mut record.value, "deduplicate")?;
                let value = record.value.value()?;
                for field in &mut self.fields {
                    json::write(field.value(value), buffer);
                    buffer.push(b',');
                }
            }
        }
        let (first, second) = &self.hashers;
        let hash = |hasher: &RandomState| u128::from(hasher.hash_one(&self.buffer[..]));
        Ok(hash(first) << 64 | hash(second))
    }
}

impl Transformation for Deduplicate {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        if record.is_tombstone() {
            if self.by == By::Key {
                let identity = self.identity(&mut record)?;
                if self.seen.remove(&identity) {
                    self.order.retain(|known| *known != identity);
                }
            }
            return Ok(Some(record));
        }
        let identity = self.identity(&mut record)?;
        if !self.seen.insert(identity) {
            return Ok(None);
        }
        self.order.push_back(identity);
        if self.order.len() > self.window
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        Ok(Some(record))
    }

    fn is_deterministic(&self) -> bool {
        false
    }
}
