//! Config providers: what `${provider:path:key}` in a configuration stands for.

use crate::error::Result;

/// Resolves references in a configuration (Kafka Connect: `ConfigProvider`). What it returns is a secret: it goes into the
/// connector that asked and nowhere else (G8).
pub trait ConfigProvider: Send + Sync {
    /// The value of `key` at `path`; the path is empty for `${provider:key}`. Nothing where there is no such key.
    fn get(&self, path: &str, key: &str) -> Result<Option<String>>;
}
