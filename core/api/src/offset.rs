//! Where a record stands: in its topic partition, and in the system it came from.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::data::{Map, Value, json};
use crate::error::{Error, Result};

/// One partition of one topic. Cheap to clone.
/// ```
/// use ottla_api::prelude::*;
///
/// let partition = TopicPartition::new("posts", 3);
/// assert_eq!(partition.to_string(), "posts-3");
/// // Everything before offset 120 is meant.
/// let positions = Positions::from([(partition.clone(), 120)]);
/// assert_eq!(positions[&partition], 120);
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// Name of the topic.
    pub topic: Arc<str>,
    /// Number of the partition, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

/// Prints as Kafka does: `topic-3`.
impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Per topic partition the offset of the *next* record: everything before it is meant.
pub type Positions = BTreeMap<TopicPartition, i64>;

/// The source's own division of its data: a table, a file, a shard. Records of one partition are committed in order (G1).
///
/// Held as the compact JSON of an object, which is also its identity and its stored form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourcePartition(Arc<str>);

impl SourcePartition {
    /// A partition named by these fields. The order of the fields is part of its identity.
    pub fn new<K: Into<String>, V: Into<Value>>(fields: impl IntoIterator<Item = (K, V)>) -> Self {
        let map: Map = fields.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self(json::to_string(&Value::Map(map)).into())
    }

    /// Reads the stored form, compact JSON as [`as_json`](Self::as_json) gave it.
    pub fn from_json(text: &str) -> Result<Self> {
        json::parse(text.as_bytes())?;
        Ok(Self(text.into()))
    }

    /// The stored form.
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SourcePartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SourcePartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A place within a [`SourcePartition`], in the source's own terms: a line number, a key, a sequence number.
/// ```
/// use ottla_api::prelude::*;
///
/// let offset = SourceOffset::new([("line", Value::Int64(12)), ("file", "notes.txt".into())]);
/// let stored = offset.to_json();
/// assert_eq!(stored, r#"{"line":12,"file":"notes.txt"}"#);
/// let offset = SourceOffset::from_json(stored.as_bytes())?;
/// assert_eq!(offset.get_i64("line"), Some(12));
/// assert_eq!(offset.get_str("file"), Some("notes.txt"));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SourceOffset(Map);

impl SourceOffset {
    /// An offset made of these fields.
    pub fn new<K: Into<String>, V: Into<Value>>(fields: impl IntoIterator<Item = (K, V)>) -> Self {
        Self(fields.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// Reads the stored form. An offset that can't be read is an error, never a start from zero.
    pub fn from_json(text: &[u8]) -> Result<Self> {
        match json::parse(text)? {
            Value::Map(map) => Ok(Self(map)),
            other => {
                Err(Error::fatal(format!("a stored source offset is not a JSON object but {}", other.type_name())))
            }
        }
    }

    /// The fields.
    #[cfg(feature = "plugin")]
    pub(crate) fn fields(&self) -> &Map {
        &self.0
    }

    /// An offset made of these fields.
    #[cfg(feature = "plugin")]
    pub(crate) fn from_fields(fields: Map) -> Self {
        Self(fields)
    }

    /// The stored form, compact JSON.
    pub fn to_json(&self) -> String {
        json::to_string(&Value::Map(self.0.clone()))
    }

    /// The field `name`, where the offset has it.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The field `name` as an integer.
    pub fn get_i64(&self, name: &str) -> Option<i64> {
        self.get(name).and_then(Value::as_i64)
    }

    /// The field `name` as text.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }
}

/// The newest durable offset per source partition.
pub type SourceOffsets = BTreeMap<SourcePartition, SourceOffset>;
