//! Properties: a configuration as text, flat, in the order in which it was written.

use std::fmt;

/// Keys and values of a flat configuration, in the order of the file.
///
/// Its `Debug` form shows keys only: a value may be a password (G8).
/// ```
/// use ottla_api::prelude::*;
///
/// let mut properties = Properties::from_iter([("topics", "posts"), ("producer.acks", "all")]);
/// properties.set("topics", "posts.clean");
/// assert_eq!(properties.get("topics"), Some("posts.clean"));
/// assert_eq!(properties.with_prefix("producer.").get("acks"), Some("all"));
/// assert_eq!(format!("{properties:?}"), r#"Properties ["topics", "producer.acks"]"#);
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Properties(Vec<(String, String)>);

impl Properties {
    /// No properties.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// True where `key` is set.
    pub fn contains(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Sets `key`, in its place where it exists.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) {
        let (key, value) = (key.into(), value.into());
        match self.0.iter_mut().find(|(name, _)| *name == key) {
            Some((_, place)) => *place = value,
            None => self.0.push((key, value)),
        }
    }

    /// Takes `key` out.
    pub fn remove(&mut self, key: &str) -> Option<String> {
        let index = self.0.iter().position(|(name, _)| name == key)?;
        Some(self.0.remove(index).1)
    }

    /// All keys and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(key, _)| key)
    }

    /// The properties whose keys begin with `prefix`, which is cut off (Kafka: `originalsWithPrefix`).
    pub fn with_prefix(&self, prefix: &str) -> Self {
        self.iter().filter_map(|(key, value)| key.strip_prefix(prefix).map(|key| (key, value))).collect()
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

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Properties ")?;
        f.debug_list().entries(self.keys()).finish()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Properties {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut properties = Self::new();
        for (key, value) in pairs {
            properties.set(key, value);
        }
        properties
    }
}
