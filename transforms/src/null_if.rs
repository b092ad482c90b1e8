//! Turns texts that mean "nothing" into null.
//!
//! Data collected by hand writes `User Info Error` or `No Title` where it has no value. List such texts, exactly, by their
//! beginning or by a regular expression (which must match the whole text), for some fields or for all. `exact`, `prefix`,
//! `regex` and `blank` look at the fields of `fields`, or at every field where that is unset; `exact.<field>`,
//! `prefix.<field>` and `regex.<field>` look at that field. `exact.*` is another way to write `exact`, since TOML can't have
//! `exact` and `exact.title` side by side. Only text is looked at, and only at the top level.
//!
//! ```toml
//! type = "null-if"
//! blank = "true"
//! exact."*" = "User Info Error"
//! exact.description = "No description available, Untitled"
//! prefix.tag_list = '"N,o, ,T,a,g,s"'
//! ```
//!
//! ```json
//! {"ind":1,"title":" ","description":"Untitled","poster_name":"User Info Error","tag_list":"N,o, ,T,a,g,s, ,A"}
//! ```
//!
//! becomes
//!
//! ```json
//! {"ind":1,"title":null,"description":null,"poster_name":null,"tag_list":null}
//! ```
//!
//! What stands in for the text is null unless `replacement` says otherwise; `replacement = "drop"` drops the whole record.
//! With a schema, a field that may become null becomes optional.

use std::sync::Arc;

use ottla_api::config::ConfigValue;
use ottla_api::config::java_regex::WholeRegex;
use ottla_api::data::SchemaType;
use ottla_api::prelude::*;

use crate::fields::{FieldEdits, Fields, fields_of, nullable_text};
use crate::key_or_value::{Change, Fate, On, OnPayload};
use crate::text_list::{TextList, config_error};

/// The plugin.
pub(crate) fn plugin() -> Plugin {
    Plugin {
        name: "null-if",
        aliases: &[],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("null_if.rs"),
        definition: &NullIfConfig::definition,
        constructor: Constructor::Transformation(&NullIf::construct),
    }
}

#[derive(Debug, Config)]
struct NullIfConfig {
    /// Fields that `exact`, `prefix`, `regex` and `blank` look at. Unset, they look at every field.
    #[config(name = "fields")]
    fields: Option<Vec<String>>,
    /// Texts that mean nothing. One with a comma goes between double quotes.
    #[config(name = "exact")]
    exact: Option<TextList>,
    /// Beginnings of texts that mean nothing.
    #[config(name = "prefix")]
    prefix: Option<TextList>,
    /// Regular expression that matches a whole text that means nothing.
    #[config(name = "regex")]
    regex: Option<WholeRegex>,
    /// Whether empty text and text of blanks alone mean nothing.
    #[config(name = "blank", default = "false")]
    blank: bool,
    /// Texts that mean nothing in one field.
    #[config(prefix = "exact.")]
    exact_in: Vec<(String, TextList)>,
    /// Beginnings of texts that mean nothing in one field.
    #[config(prefix = "prefix.")]
    prefix_in: Vec<(String, TextList)>,
    /// Regular expression for one field.
    #[config(prefix = "regex.")]
    regex_in: Vec<(String, WholeRegex)>,
    /// What stands in: `null`; `zero`, the number 0 (where a schema asks for text, the text `0`); `text`, that of the option
    /// `text`; or `drop`, which drops the record.
    #[config(name = "replacement", default = "null")]
    replacement: ReplacementKind,
    /// The text for `replacement = "text"`.
    #[config(name = "text")]
    text: Option<String>,
    #[config(flatten)]
    on: On,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
enum ReplacementKind {
    Null,
    Zero,
    Text,
    Drop,
}

#[derive(Debug, Clone)]
enum Replacement {
    Null,
    Zero,
    Text(String),
    Drop,
}

/// Recognises texts that mean nothing.
#[derive(Debug, Default)]
struct Matcher {
    exact: Vec<String>,
    prefixes: Vec<String>,
    regexes: Vec<WholeRegex>,
    blank: bool,
}

impl Matcher {
    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty() && self.regexes.is_empty() && !self.blank
    }

    fn matches(&self, text: &str) -> bool {
        self.exact.iter().any(|exact| exact == text)
            || self.prefixes.iter().any(|prefix| text.starts_with(prefix.as_str()))
            || self.blank && is_blank(text)
            || self.regexes.iter().any(|regex| regex.is_match(text))
    }
}

/// True for text without a visible character.
pub(crate) fn is_blank(text: &str) -> bool {
    // Nearly every text begins with a visible ASCII character, so the first byte decides.
    !text.as_bytes().first().is_some_and(u8::is_ascii_graphic) && text.chars().all(char::is_whitespace)
}

struct NullIf {
    /// The rules for all or the listed fields; none where there are only rules for single fields.
    general: Option<(FieldEdits, Matcher)>,
    /// The rules for single fields, with a matcher for each.
    single: Option<(FieldEdits, Vec<Matcher>)>,
    replacement: Replacement,
}

impl NullIf {
    fn construct(properties: &Properties) -> Result<Box<dyn Transformation>> {
        let config = NullIfConfig::from_properties(properties)?;
        let replacement = match (config.replacement, config.text) {
            (ReplacementKind::Text, Some(text)) => Replacement::Text(text),
            (ReplacementKind::Text, None) => {
                return Err(config_error("text", "is required by replacement = text"));
            }
            (_, Some(_)) => {
                return Err(config_error("text", "has no effect without replacement = text"));
            }
            (ReplacementKind::Null, None) => Replacement::Null,
            (ReplacementKind::Zero, None) => Replacement::Zero,
            (ReplacementKind::Drop, None) => Replacement::Drop,
        };
        let mut general = Matcher {
            exact: config.exact.unwrap_or_default().0,
            prefixes: config.prefix.unwrap_or_default().0,
            regexes: config.regex.into_iter().collect(),
            blank: config.blank,
        };
        let (mut names, mut matchers) = (Vec::new(), Vec::new());
        let mut add = |name: String, add: &mut dyn FnMut(&mut Matcher)| {
            if name == "*" {
                return add(&mut general);
            }
            let index = names.iter().position(|known| *known == name).unwrap_or_else(|| {
                names.push(name);
                matchers.push(Matcher::default());
                names.len() - 1
            });
            add(&mut matchers[index]);
        };
        for (name, mut texts) in config.exact_in {
            add(name, &mut |matcher| matcher.exact.append(&mut texts.0));
        }
        for (name, mut texts) in config.prefix_in {
            add(name, &mut |matcher| matcher.prefixes.append(&mut texts.0));
        }
        for (name, regex) in config.regex_in {
            add(name, &mut |matcher| matcher.regexes.push(regex.clone()));
        }
        if general.is_empty() && matchers.iter().all(Matcher::is_empty) {
            return Err(config_error(
                "exact",
                "or another of prefix, regex and blank must say which texts mean nothing",
            ));
        }
        if general.is_empty() && config.fields.is_some() {
            return Err(config_error("fields", "has no effect without exact, prefix, regex or blank"));
        }
        let edits = match config.fields {
            Some(fields) => FieldEdits::of(fields),
            None => FieldEdits::of_all(),
        };
        let null_if = Self {
            general: (!general.is_empty()).then_some((edits, general)),
            single: (!names.is_empty()).then(|| (FieldEdits::of(names), matchers)),
            replacement,
        };
        Ok(OnPayload::boxed(config.on.on, null_if))
    }
}

impl Change for NullIf {
    fn change(&mut self, payload: &mut Payload) -> Result<Fate> {
        let mut fields = fields_of(payload, "null-if")?;
        let replacement = &self.replacement;
        if let Some((edits, matcher)) = &mut self.general
            && replace(&mut fields, edits, |_| matcher, replacement)? == Fate::Drop
        {
            return Ok(Fate::Drop);
        }
        if let Some((edits, matchers)) = &mut self.single {
            return replace(&mut fields, edits, |number| &matchers[number], replacement);
        }
        Ok(Fate::Keep)
    }
}

fn replace<'a>(
    fields: &mut Fields<'_>,
    edits: &mut FieldEdits,
    matcher: impl Fn(usize) -> &'a Matcher,
    replacement: &Replacement,
) -> Result<Fate> {
    edits.apply(
        fields,
        |_, schema: &Arc<Schema>| match replacement {
            Replacement::Null if schema.schema_type() == SchemaType::String => Ok(nullable_text(schema)),
            _ => Ok(Arc::clone(schema)),
        },
        |number, value, has_schema| {
            let Value::String(text) = value else { return Ok(Fate::Keep) };
            if matcher(number).matches(text) {
                *value = match replacement {
                    Replacement::Null => Value::Null,
                    Replacement::Zero if has_schema => Value::from("0"),
                    Replacement::Zero => Value::Int64(0),
                    Replacement::Text(text) => Value::from(text.as_str()),
                    Replacement::Drop => return Ok(Fate::Drop),
                };
            }
            Ok(Fate::Keep)
        },
    )
}
