//! One definition of an option: parse it, check it, explain it.
//!
//! A connector describes its options once, as the documented fields of a struct with `#[derive(Config)]`. From that come the
//! parser, the checks, `ottla plugins describe`, the reference page and the redaction of secrets.
//!
//! ```
//! use std::time::Duration;
//! use ottla_api::prelude::*;
//! use ottla_api::config::ConfigValue;
//!
//! /// How rows are picked.
//! #[derive(Debug, Clone, Copy, PartialEq, ConfigValue)]
//! enum Mode {
//!     /// Each table once.
//!     Bulk,
//!     /// By a growing key; written `by-key`.
//!     ByKey,
//! }
//!
//! #[derive(Debug, Config)]
//! struct ExampleConfig {
//!     /// Where the database is.
//!     #[config(name = "connection.url", importance = "high")]
//!     url: String,
//!     /// Its password.
//!     #[config(name = "connection.password")]
//!     password: Option<Secret>,
//!     /// How rows are picked.
//!     #[config(name = "mode", default = "bulk")]
//!     mode: Mode,
//!     /// Rows in a batch.
//!     #[config(name = "batch.rows", default = "500", min = 1, max = 100000)]
//!     batch_rows: usize,
//!     /// Pause between two looks at a table.
//!     #[config(name = "poll.interval.ms", default = "5000")]
//!     poll_interval: Duration,
//!     /// Topic of each table: `topics.<table> = "<topic>"`.
//!     #[config(prefix = "topics.")]
//!     topics: Vec<(String, String)>,
//! }
//!
//! let properties = Properties::from_iter([("connection.url", "sqlite:x"), ("mode", "by-key"), ("topics.pin", "p.pin")]);
//! let config = ExampleConfig::from_properties(&properties).unwrap();
//! assert_eq!(config.mode, Mode::ByKey);
//! assert_eq!(config.topics, [("pin".to_owned(), "p.pin".to_owned())]);
//!
//! let errors = ExampleConfig::from_properties(&Properties::from_iter([("batch.rows", "0")])).unwrap_err();
//! assert_eq!(errors.0[0].to_string(), "connection.url: is required and has no default");
//! assert_eq!(errors.0[1].to_string(), "batch.rows: must be at least 1, found 0");
//! ```

mod definition;
pub mod java_regex;
mod parse;
mod properties;
mod secret;

pub use definition::{ConfigDef, ConfigKey, Importance, KeyName};
pub use ottla_config_derive::{Config, ConfigValue};
pub use parse::{ConfigValue, Reader, check_topic_name, join_list, parse_in_range, split_list};
pub use properties::Properties;
pub use secret::Secret;

use std::fmt;

use crate::error::Error;

/// A struct whose fields are options. Implemented by `#[derive(Config)]`.
///
/// Attributes of a field: `name = "some.key"` (default: the field's name with dots for underscores), or `prefix = "some."`
/// for a `Vec<(String, T)>` that takes every key beginning so, in the order of the file; `default = "text"`;
/// `importance = "high" | "medium" | "low"`; `min`, `max` for numbers; `aliases = "old.name, other.name"`. The field's doc
/// comment is the option's documentation. `Option<T>` without a default is optional; everything else without a default is
/// required. `#[config(flatten)]` on a field takes in another `Config` struct's options.
pub trait Config: Sized {
    /// The options with type, default and documentation.
    fn definition() -> ConfigDef;

    /// Reads the options through a reader that collects every mistake; `None` if any of this struct's own was wrong.
    fn read(reader: &mut Reader<'_>) -> Option<Self>;

    /// Parses and checks, reporting every mistake at once. Keys that the definition does not know are left alone here: the
    /// runtime reports them, because only it knows which belong to somebody else.
    fn from_properties(properties: &Properties) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::new(properties);
        let config = Self::read(&mut reader);
        match (config, reader.into_errors()) {
            (Some(config), errors) if errors.is_empty() => Ok(config),
            (_, errors) => Err(ConfigErrors(errors)),
        }
    }
}

/// One mistake in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The key it is about.
    pub key: String,
    /// What was expected, what was found. Doesn't repeat the key, nor a secret's value.
    pub message: String,
}

impl ConfigError {
    /// A mistake at `key`.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

/// All mistakes of one configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if index > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigErrors> for Error {
    fn from(errors: ConfigErrors) -> Self {
        Self::config(errors.to_string())
    }
}
