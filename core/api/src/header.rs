//! Headers of a record: ordered, duplicates allowed, values any data.

use crate::data::{Schema, Value};
use std::sync::Arc;

/// One header.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// The header's name.
    pub key: String,
    /// Its value; text and bytes are by far the most common.
    pub value: Value,
    /// Schema of the value, where there is one.
    pub schema: Option<Arc<Schema>>,
}

/// The headers of a record in their order. Most records have none, which costs nothing.
/// ```
/// use ottla_api::prelude::*;
///
/// let mut headers = Headers::new();
/// headers.add("source", "orders-api");
/// headers.add("attempt", 1i64);
/// headers.add("attempt", 2i64); // The first one stays.
/// assert_eq!(headers.last("attempt"), Some(&Value::Int64(2)));
/// headers.remove("attempt");
/// assert_eq!(headers.len(), 1);
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Headers(Vec<Header>);

impl Headers {
    /// No headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// No headers, with room for so many.
    pub fn with_capacity(headers: usize) -> Self {
        Self(Vec::with_capacity(headers))
    }

    /// Appends a header; one of the same name stays.
    pub fn add(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        self.0.push(Header { key: key.into(), value: value.into(), schema: None });
    }

    /// Appends a header as it is.
    pub fn push(&mut self, header: Header) {
        self.0.push(header);
    }

    /// The value of the last header of this name, as Kafka's `lastHeader`.
    pub fn last(&self, key: &str) -> Option<&Value> {
        self.0.iter().rev().find(|header| header.key == key).map(|header| &header.value)
    }

    /// Removes all headers of this name.
    pub fn remove(&mut self, key: &str) {
        self.0.retain(|header| header.key != key);
    }

    /// All headers in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Header> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True where there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = &'a Header;
    type IntoIter = std::slice::Iter<'a, Header>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Headers {
    type Item = Header;
    type IntoIter = std::vec::IntoIter<Header>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<Header> for Headers {
    fn from_iter<I: IntoIterator<Item = Header>>(headers: I) -> Self {
        Self(headers.into_iter().collect())
    }
}
