//! Parsing: from text to a checked type, collecting every mistake.

use std::borrow::Cow;
use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use super::{ConfigError, Properties, Secret};

/// A type that an option's text can be read as. `#[derive(ConfigValue)]` implements it for enums without fields, whose
/// variants are written in kebab-case (or as `#[config(name = "..")]` says).
pub trait ConfigValue: Sized {
    /// Reads the text. The message says what was expected; the key is added by the caller.
    fn parse(text: &str) -> Result<Self, String>;

    /// The type in a word, for documentation.
    fn type_name() -> Cow<'static, str>;

    /// The texts it may have, where they are a fixed list.
    fn choices() -> Vec<&'static str> {
        Vec::new()
    }

    /// True where the text must never be shown.
    fn is_secret() -> bool {
        false
    }

    /// The value as a number, for the checks `min` and `max`.
    fn as_number(&self) -> Option<i128> {
        None
    }
}

macro_rules! integers {
    ($($type:ty),*) => {
        $(impl ConfigValue for $type {
            fn parse(text: &str) -> Result<Self, String> {
                text.trim().parse().map_err(|_| match text.trim().parse::<i128>() {
                    Ok(_) => format!("must be between {} and {}, found {text}", <$type>::MIN, <$type>::MAX),
                    Err(_) => format!("must be a whole number, found '{text}'"),
                })
            }

            fn type_name() -> Cow<'static, str> {
                "int".into()
            }

            fn as_number(&self) -> Option<i128> {
                i128::try_from(*self).ok()
            }
        })*
    };
}

integers!(i16, i32, i64, u16, u32, u64, usize);

impl ConfigValue for f64 {
    fn parse(text: &str) -> Result<Self, String> {
        text.trim().parse().map_err(|_| format!("must be a number, found '{text}'"))
    }

    fn type_name() -> Cow<'static, str> {
        "double".into()
    }
}

impl ConfigValue for bool {
    fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            text if text.eq_ignore_ascii_case("true") => Ok(true),
            text if text.eq_ignore_ascii_case("false") => Ok(false),
            _ => Err(format!("must be true or false, found '{text}'")),
        }
    }

    fn type_name() -> Cow<'static, str> {
        "boolean".into()
    }
}

impl ConfigValue for String {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn type_name() -> Cow<'static, str> {
        "string".into()
    }
}

impl ConfigValue for PathBuf {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("must be a path, found nothing".to_owned()) } else { Ok(text.into()) }
    }

    fn type_name() -> Cow<'static, str> {
        "path".into()
    }
}

/// Milliseconds, as Kafka's `*.ms` keys.
impl ConfigValue for Duration {
    fn parse(text: &str) -> Result<Self, String> {
        let millis = text.trim().parse().map_err(|_| format!("must be a number of milliseconds, found '{text}'"))?;
        Ok(Self::from_millis(millis))
    }

    fn type_name() -> Cow<'static, str> {
        "duration (ms)".into()
    }

    fn as_number(&self) -> Option<i128> {
        i128::try_from(self.as_millis()).ok()
    }
}

impl ConfigValue for Secret {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self::new(text))
    }

    fn type_name() -> Cow<'static, str> {
        "password".into()
    }

    fn is_secret() -> bool {
        true
    }
}

/// A comma list, as Kafka's type LIST: blanks around items and empty items don't count.
impl<T: ConfigValue> ConfigValue for Vec<T> {
    fn parse(text: &str) -> Result<Self, String> {
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(T::parse).collect()
    }

    fn type_name() -> Cow<'static, str> {
        match T::type_name().as_ref() {
            "string" => "list".into(),
            other => format!("list of {other}").into(),
        }
    }

    fn choices() -> Vec<&'static str> {
        T::choices()
    }
}

/// Reads options one by one and remembers every mistake.
#[derive(Debug)]
pub struct Reader<'a> {
    properties: &'a Properties,
    errors: Vec<ConfigError>,
}

impl<'a> Reader<'a> {
    /// Reads from these properties.
    pub fn new(properties: &'a Properties) -> Self {
        Self { properties, errors: Vec::new() }
    }

    /// The text of the first of these keys that is set, with that key.
    fn text(&self, names: &[&'static str]) -> Option<(&'static str, &'a str)> {
        names.iter().find_map(|name| self.properties.get(name).map(|text| (*name, text)))
    }

    /// An option that must have a value: from the properties, else from its default.
    pub fn required<T: ConfigValue>(
        &mut self,
        names: &[&'static str],
        default: Option<&'static str>,
        range: (Option<i128>, Option<i128>),
    ) -> Option<T> {
        match (self.text(names), default) {
            (Some((name, text)), _) => self.parse(name, text, range),
            (None, Some(default)) => self.parse(names[0], default, range),
            (None, None) => {
                self.error(names[0], "is required and has no default");
                None
            }
        }
    }

    /// An option that may be unset. The outer `None` is a mistake, the inner one an unset option.
    pub fn optional<T: ConfigValue>(
        &mut self,
        names: &[&'static str],
        range: (Option<i128>, Option<i128>),
    ) -> Option<Option<T>> {
        match self.text(names) {
            Some((name, text)) => self.parse(name, text, range).map(Some),
            None => Some(None),
        }
    }

    /// All options that begin with `prefix`, in order, by the rest of their key.
    pub fn prefixed<T: ConfigValue>(&mut self, prefix: &str) -> Option<Vec<(String, T)>> {
        let found = self.properties.with_prefix(prefix);
        let mut values = Vec::with_capacity(found.len());
        let mut complete = true;
        for (rest, text) in found.iter() {
            match T::parse(text) {
                Ok(value) => values.push((rest.to_owned(), value)),
                Err(message) => {
                    self.error(format!("{prefix}{rest}"), message);
                    complete = false;
                }
            }
        }
        complete.then_some(values)
    }

    fn parse<T: ConfigValue>(&mut self, name: &str, text: &str, (min, max): (Option<i128>, Option<i128>)) -> Option<T> {
        let checked = T::parse(text).and_then(|value| match value.as_number() {
            Some(n) if min.is_some_and(|min| n < min) => {
                Err(format!("must be at least {}, found {n}", min.unwrap_or(n)))
            }
            Some(n) if max.is_some_and(|max| n > max) => {
                Err(format!("must be at most {}, found {n}", max.unwrap_or(n)))
            }
            _ => Ok(value),
        });
        match checked {
            Ok(value) => Some(value),
            Err(message) => {
                self.error(name, message);
                None
            }
        }
    }

    /// Remembers a mistake.
    pub fn error(&mut self, key: impl Into<String>, message: impl Display) {
        self.errors.push(ConfigError::new(key, message.to_string()));
    }

    /// All mistakes so far.
    pub fn into_errors(self) -> Vec<ConfigError> {
        self.errors
    }
}
