//! Lists of texts in which a text may contain the separator.

use std::borrow::Cow;

use ottla_api::config::{ConfigError, ConfigErrors, ConfigValue};
use ottla_api::prelude::*;

/// A comma list. An item between double quotes is taken as it is, blanks and commas included; `""` inside is one quote:
/// `Untitled, "N,o, ,T,a,g,s", """quoted"""`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TextList(pub(crate) Vec<String>);

impl ConfigValue for TextList {
    fn parse(text: &str) -> Result<Self, String> {
        let mut items = Vec::new();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            if let Some(quoted) = rest.strip_prefix('"') {
                let mut item = String::new();
                let mut chars = quoted.char_indices().peekable();
                let end = loop {
                    match chars.next() {
                        Some((_, '"')) if chars.next_if(|(_, c)| *c == '"').is_some() => item.push('"'),
                        Some((at, '"')) => break at + 1,
                        Some((_, c)) => item.push(c),
                        None => return Err(format!("has a quote that is not closed: \"{quoted}")),
                    }
                };
                items.push(item);
                rest = quoted[end..].trim_start();
                if !rest.is_empty() && !rest.starts_with(',') {
                    return Err(format!("must have a comma after the quoted item, found '{rest}'"));
                }
            } else {
                let end = rest.find(',').unwrap_or(rest.len());
                let item = rest[..end].trim();
                if !item.is_empty() {
                    items.push(item.to_owned());
                }
                rest = &rest[end..];
            }
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        }
        Ok(Self(items))
    }

    fn type_name() -> Cow<'static, str> {
        "list, items with commas in double quotes".into()
    }
}

/// A field and the name it is to have: `index:ind`, or `ind` for both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Renamed {
    pub(crate) from: String,
    pub(crate) to: String,
}

impl ConfigValue for Renamed {
    fn parse(text: &str) -> Result<Self, String> {
        let (from, to) = text.split_once(':').unwrap_or((text, text));
        let (from, to) = (from.trim(), to.trim());
        if from.is_empty() || to.is_empty() || to.contains(':') {
            return Err(format!("must hold 'field' or 'field:new-name', found '{text}'"));
        }
        Ok(Self { from: from.to_owned(), to: to.to_owned() })
    }

    fn type_name() -> Cow<'static, str> {
        "field[:new-name]".into()
    }
}

/// The error of one key.
pub(crate) fn config_error(key: &str, message: impl Into<String>) -> Error {
    ConfigErrors(vec![ConfigError::new(key, message)]).into()
}

/// A list that must name something.
pub(crate) fn not_empty<T>(key: &str, list: Vec<T>) -> Result<Vec<T>> {
    if list.is_empty() { Err(config_error(key, "must name at least one field")) } else { Ok(list) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_in_quotes_keep_commas_blanks_and_quotes() {
        let list = TextList::parse(r#" Untitled , "N,o, ,T", " ", """x""",, last "#).unwrap();
        assert_eq!(list.0, ["Untitled", "N,o, ,T", " ", "\"x\"", "last"]);
    }

    #[test]
    fn a_quote_left_open_is_a_mistake() {
        assert_eq!(TextList::parse("a, \"b").unwrap_err(), "has a quote that is not closed: \"b");
        assert_eq!(TextList::parse("\"a\"b").unwrap_err(), "must have a comma after the quoted item, found 'b'");
    }
}
