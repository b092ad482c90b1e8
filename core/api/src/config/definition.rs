//! Definitions: the options of a plugin as data, for checking, explaining and generating reference pages.

use std::borrow::Cow;
use std::fmt;

use crate::plugin::Function;

/// The options of one plugin, in the order in which they are documented.
#[derive(Debug, Clone, Default)]
pub struct ConfigDef {
    /// One entry an option.
    pub keys: Vec<ConfigKey>,
}

impl ConfigDef {
    /// No options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an option.
    #[must_use]
    pub fn with(mut self, key: ConfigKey) -> Self {
        self.keys.push(key);
        self
    }

    /// Appends another definition's options.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.keys.extend(other.keys);
        self
    }

    /// The option that `key` belongs to: the one of that name or alias, or the one with a prefix that fits.
    pub fn find(&self, key: &str) -> Option<&ConfigKey> {
        self.keys.iter().find(|option| option.matches(key))
    }
}

/// How an option is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyName {
    /// One key.
    Exact(Cow<'static, str>),
    /// Every key that begins so, such as `emulate.topics.`.
    Prefix(Cow<'static, str>),
}

/// How much an option matters to somebody who reads the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // Kafka Connect's three words.
pub enum Importance {
    High,
    Medium,
    Low,
}

/// One option.
#[derive(Clone)]
pub struct ConfigKey {
    /// Its key, or the beginning of its keys.
    pub name: KeyName,
    /// Other keys that mean the same.
    pub aliases: Vec<&'static str>,
    /// The type in a word: `string`, `int`, `boolean`, `list`, `duration (ms)`, `password`, or the choices.
    pub type_name: Cow<'static, str>,
    /// The values it may have, where they are a fixed list.
    pub choices: Vec<&'static str>,
    /// Its default as text; none where it is required or simply unset.
    pub default: Option<Cow<'static, str>>,
    /// True where it must be set.
    pub required: bool,
    /// How much it matters.
    pub importance: Importance,
    /// True where the value must not be shown.
    pub secret: bool,
    /// What it does.
    pub doc: Cow<'static, str>,
    /// Checks a text without keeping what it means: type, bounds, choices.
    pub check: Function<dyn Fn(&str) -> Result<(), String> + Send + Sync>,
}

impl ConfigKey {
    /// The key as documentation writes it: `flush.size`, or `emulate.topics.<name>`.
    pub fn display_name(&self) -> String {
        match &self.name {
            KeyName::Exact(name) => name.to_string(),
            KeyName::Prefix(prefix) => format!("{prefix}<name>"),
        }
    }

    /// True where `key` sets this option.
    pub fn matches(&self, key: &str) -> bool {
        match &self.name {
            KeyName::Exact(name) => name == key || self.aliases.contains(&key),
            KeyName::Prefix(prefix) => key.len() > prefix.len() && key.starts_with(prefix.as_ref()),
        }
    }
}

/// Without the check, which is code.
impl fmt::Debug for ConfigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigKey({}: {})", self.display_name(), self.type_name)
    }
}
