//! Config providers: what `${provider:path:key}` in a configuration stands for.

use crate::error::Result;

/// Resolves references in a configuration (Kafka Connect: `ConfigProvider`). What it returns is a secret: it goes into the
/// connector that asked and nowhere else (G8).
/// ```
/// use std::collections::BTreeMap;
/// use ottla_api::config_provider::ConfigProvider;
/// use ottla_api::prelude::*;
///
/// /// `${vault:db:password}`, out of a vault that was read when the worker started.
/// struct Vault(BTreeMap<(String, String), Secret>);
///
/// impl ConfigProvider for Vault {
///     fn get(&self, path: &str, key: &str) -> Result<Option<String>> {
///         Ok(self.0.get(&(path.to_owned(), key.to_owned())).map(|secret| secret.expose().to_owned()))
///     }
/// }
///
/// let vault = Vault(BTreeMap::from([(("db".to_owned(), "password".to_owned()), Secret::new("hunter2"))]));
/// assert_eq!(vault.get("db", "password")?.as_deref(), Some("hunter2"));
/// assert_eq!(vault.get("db", "user")?, None);
/// # Ok::<(), Error>(())
/// ```
pub trait ConfigProvider: Send + Sync {
    /// The value of `key` at `path`; the path is empty for `${provider:key}`. Nothing where there is no such key.
    fn get(&self, path: &str, key: &str) -> Result<Option<String>>;
}
