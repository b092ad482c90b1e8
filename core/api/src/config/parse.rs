//! Parsing: from text to a checked type, collecting every mistake.

use std::borrow::Cow;
use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use super::{ConfigError, Properties, Secret};

/// A type that an option's text can be read as. `#[derive(ConfigValue)]` implements it for enums without fields, whose
/// variants are written in kebab-case (or as `#[config(name = "..")]` says).
/// A type of one's own says how its text is read, and the rest follows:
///
/// ```
/// use std::borrow::Cow;
/// use ottla_api::config::ConfigValue;
/// use ottla_api::prelude::*;
///
/// /// `90%`, as a part of one.
/// #[derive(Debug, PartialEq)]
/// struct Percent(f64);
///
/// impl ConfigValue for Percent {
///     fn parse(text: &str) -> std::result::Result<Self, String> {
///         let number = text.trim().strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
///         number.map(|number| Self(number / 100.0)).ok_or_else(|| format!("must be a percentage such as 90%, found '{text}'"))
///     }
///
///     fn type_name() -> Cow<'static, str> {
///         "percentage".into()
///     }
/// }
///
/// #[derive(Debug, Config)]
/// struct SamplingConfig {
///     /// How many of the records are kept.
///     #[config(name = "keep", default = "100%")]
///     keep: Percent,
/// }
///
/// let config = SamplingConfig::from_properties(&Properties::from_iter([("keep", "25%")])).unwrap();
/// assert_eq!(config.keep, Percent(0.25));
/// let errors = SamplingConfig::from_properties(&Properties::from_iter([("keep", "some")])).unwrap_err();
/// assert_eq!(errors.to_string(), "keep: must be a percentage such as 90%, found 'some'");
/// ```
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

/// A comma list, as Kafka's type LIST: see [`split_list`].
impl<T: ConfigValue> ConfigValue for Vec<T> {
    fn parse(text: &str) -> Result<Self, String> {
        split_list(text).iter().map(|item| T::parse(item)).collect()
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

/// Kafka's rules for the name of a topic; the message says what they are.
///
/// ```
/// # use ottla_api::config::check_topic_name;
/// assert!(check_topic_name("posts.pin").is_ok());
/// assert!(check_topic_name("posts pin").unwrap_err().starts_with("must have 1 to 249 characters"));
/// ```
pub fn check_topic_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=249).contains(&name.len()) && name != "." && name != ".." && name.chars().all(allowed) {
        return Ok(());
    }
    let rules = "1 to 249 characters, only a to z, A to Z, digits, '.', '_' and '-', and not be '.' or '..'";
    Err(format!("must have {rules}, as a topic's name, found '{name}'"))
}

/// The items of a comma list, as Kafka's type LIST: blanks around items and empty items don't count.
///
/// Beyond Kafka, an item in double quotes is taken as it is, commas and blanks included, with `""` for a quote; and `\,` is a
/// comma within an item. Any other backslash is itself. [`join_list`] is the opposite.
///
/// ```
/// # use ottla_api::config::split_list;
/// assert_eq!(split_list("a, b,,"), ["a", "b"]);
/// assert_eq!(split_list(r#""N,o", N\,o, "Local save in ", """x""", "", \.pin$"#), ["N,o", "N,o", "Local save in ", "\"x\"", "", r"\.pin$"]);
/// ```
pub fn split_list(text: &str) -> Vec<String> {
    let mut items = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some((item, after)) = quoted(rest) {
            items.push(item);
            rest = after.trim_start();
            continue;
        }
        let mut commas = rest.match_indices(',').map(|(at, _)| at);
        let end = commas.find(|at| !rest[..*at].ends_with('\\')).unwrap_or(rest.len());
        let item = rest[..end].trim().replace("\\,", ",");
        if !item.is_empty() {
            items.push(item);
        }
        rest = rest[end..].trim_start_matches(',').trim_start();
    }
    items
}

/// The item in quotes at the beginning of `text`, and what follows its comma; nothing where that is not what it is.
fn quoted(text: &str) -> Option<(String, &str)> {
    let (mut item, mut rest) = (String::new(), text.strip_prefix('"')?);
    loop {
        let (before, after) = rest.split_once('"')?;
        item.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                item.push('"');
                rest = after;
            }
            None if after.trim_start().is_empty() => return Some((item, "")),
            None => return after.trim_start().strip_prefix(',').map(|after| (item, after)),
        }
    }
}

/// Writes items as a comma list that [`split_list`] reads back the same.
pub fn join_list<S: AsRef<str>>(items: &[S]) -> String {
    let items = items.iter().map(AsRef::as_ref).map(|item| {
        let plain = item == item.trim() && !item.is_empty() && !item.contains(',');
        if plain && !item.starts_with('"') && !item.ends_with('\\') {
            Cow::Borrowed(item)
        } else {
            format!("\"{}\"", item.replace('"', "\"\"")).into()
        }
    });
    items.collect::<Vec<_>>().join(",")
}

/// Reads a value and holds it against the option's bounds, if it is a number.
pub fn parse_in_range<T: ConfigValue>(text: &str, (min, max): (Option<i128>, Option<i128>)) -> Result<T, String> {
    T::parse(text).and_then(|value| match (value.as_number(), min, max) {
        (Some(n), Some(min), _) if n < min => Err(format!("must be at least {min}, found {n}")),
        (Some(n), _, Some(max)) if n > max => Err(format!("must be at most {max}, found {n}")),
        _ => Ok(value),
    })
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
        match parse_in_range(text, (min, max)) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_was_joined_splits_into_the_same_items() {
        let pieces = ["a", ",", " ", "\\", "\"", "\t", "é"];
        // Every text of up to four of these pieces, alone and between neighbours.
        let mut texts = vec![String::new()];
        for _ in 0..4 {
            let longer = texts.iter().flat_map(|text| pieces.map(|piece| format!("{text}{piece}"))).collect::<Vec<_>>();
            texts.extend(longer);
        }
        for text in &texts {
            for items in [vec![text.as_str()], vec!["x", text, "y"], vec![text, text]] {
                assert_eq!(split_list(&join_list(&items)), items, "written as {:?}", join_list(&items));
            }
        }
    }

    #[test]
    fn what_looks_like_quotes_or_escapes_and_is_not_stays_as_it_is() {
        assert_eq!(split_list(r"\d+\.pin, C:\data\x, \\server\"), [r"\d+\.pin", r"C:\data\x", r"\\server\"]);
        assert_eq!(split_list(r#"say "a", "b" c, "open"#), [r#"say "a""#, r#""b" c"#, r#""open"#]);
    }

    #[test]
    fn a_number_out_of_bounds_is_refused_with_the_bound() {
        assert_eq!(parse_in_range::<u16>("0", (Some(1), None)), Err("must be at least 1, found 0".to_owned()));
        assert_eq!(parse_in_range::<u16>("7", (None, Some(5))), Err("must be at most 5, found 7".to_owned()));
    }
}
