//! Reads quantities such as `985k` and `2M` as whole numbers.
//!
//! A quantity is digits, perhaps a point and more digits, perhaps a suffix: `^(\d+(\.\d+)?)([kKmMbB]?)$` with the default
//! suffixes. The arithmetic is exact; what is left after the point is cut off. Null stays null and whole numbers stay what
//! they are; anything else, text that is no quantity and quantities beyond 64 bits, is treated as `unparsable` says.
//!
//! ```toml
//! type = "parse-quantity"
//! fields = "follower_count, likes, views"
//! ```
//!
//! ```json
//! {"follower_count":"985k","likes":"1.25M","views":"User Info Error"}
//! ```
//!
//! becomes
//!
//! ```json
//! {"follower_count":985000,"likes":1250000,"views":null}
//! ```

use std::sync::Arc;

use ottla_api::config::ConfigValue;
use ottla_api::data::{SchemaType, json};
use ottla_api::prelude::*;

use crate::fields::{FieldEdits, fields_of};
use crate::key_or_value::{Change, Fate, On, OnPayload};
use crate::text_list::not_empty;

/// The plugin.
pub(crate) fn plugin() -> Plugin {
    Plugin {
        name: "parse-quantity",
        aliases: &[],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("parse_quantity.rs"),
        definition: &ParseQuantityConfig::definition,
        constructor: Constructor::Transformation(&ParseQuantity::construct),
    }
}

#[derive(Debug, Config)]
struct ParseQuantityConfig {
    /// Fields that hold quantities.
    #[config(name = "fields")]
    fields: Vec<String>,
    /// What each suffix multiplies by.
    #[config(name = "suffixes", default = "k:1000, m:1000000, b:1000000000")]
    suffixes: Vec<Suffix>,
    /// Whether `K` differs from `k`.
    #[config(name = "case.sensitive", default = "false")]
    case_sensitive: bool,
    /// What becomes of anything else: `null`, `zero`, `drop` (the record) or `fail` (the record; it goes where failed records
    /// go).
    #[config(name = "unparsable", default = "null")]
    unparsable: Unparsable,
    #[config(flatten)]
    on: On,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
enum Unparsable {
    Null,
    Zero,
    Drop,
    Fail,
}

/// `k:1000`
#[derive(Debug, Clone)]
struct Suffix {
    text: String,
    factor: u64,
}

impl ConfigValue for Suffix {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("must hold items such as k:1000, found '{text}'");
        let (suffix, factor) = text.rsplit_once(':').ok_or_else(wrong)?;
        let (suffix, factor) = (suffix.trim(), factor.trim());
        if suffix.is_empty() || suffix.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return Err(format!("must hold suffixes that don't begin like a number, found '{text}'"));
        }
        let factor = factor.parse().ok().filter(|factor| (1..=i64::MAX as u64).contains(factor)).ok_or_else(wrong)?;
        Ok(Self { text: suffix.to_owned(), factor })
    }

    fn type_name() -> std::borrow::Cow<'static, str> {
        "suffix:factor".into()
    }
}

struct ParseQuantity {
    fields: FieldEdits,
    reader: QuantityReader,
    unparsable: Unparsable,
}

impl ParseQuantity {
    fn construct(properties: &Properties) -> Result<Box<dyn Transformation>> {
        let config = ParseQuantityConfig::from_properties(properties)?;
        let transformation = Self {
            fields: FieldEdits::of(not_empty("fields", config.fields)?),
            reader: QuantityReader { suffixes: config.suffixes, case_sensitive: config.case_sensitive },
            unparsable: config.unparsable,
        };
        Ok(OnPayload::boxed(config.on.on, transformation))
    }
}

impl Change for ParseQuantity {
    fn change(&mut self, payload: &mut Payload) -> Result<Fate> {
        let Self { fields, reader, unparsable } = self;
        fields.apply(
            &mut fields_of(payload, "parse-quantity")?,
            |_, schema: &Arc<Schema>| {
                let optional = schema.is_optional() || *unparsable == Unparsable::Null;
                Ok(Schema::builder(SchemaType::Int64).optional_if(optional).build())
            },
            |_, value, _| {
                let quantity = match &*value {
                    Value::Null => return Ok(Fate::Keep),
                    Value::String(text) => reader.read(text),
                    number => integer(number),
                };
                *value = match (quantity, *unparsable) {
                    (Some(quantity), _) => Value::Int64(quantity),
                    (None, Unparsable::Null) => Value::Null,
                    (None, Unparsable::Zero) => Value::Int64(0),
                    (None, Unparsable::Drop) => return Ok(Fate::Drop),
                    (None, Unparsable::Fail) => {
                        return Err(Error::data(format!("{} is no quantity", json::to_string(value))));
                    }
                };
                Ok(Fate::Keep)
            },
        )
    }
}

/// The integer part of a number.
fn integer(value: &Value) -> Option<i64> {
    if let Some(n) = value.as_i64() {
        return Some(n);
    }
    if let Value::Number(text) = value
        && let Ok(n) = text.split('.').next()?.parse()
        && !text.contains(['e', 'E'])
    {
        return Some(n);
    }
    // 2^63 itself is out of range; every double below it converts exactly.
    let n = value.as_f64()?.trunc();
    (n >= i64::MIN as f64 && n < i64::MAX as f64).then_some(n as i64)
}

/// Reads texts by hand: it is a handful of bytes for each record.
struct QuantityReader {
    suffixes: Vec<Suffix>,
    case_sensitive: bool,
}

impl QuantityReader {
    fn read(&self, text: &str) -> Option<i64> {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, rest) = text.split_at(digits(text));
        if whole.is_empty() {
            return None;
        }
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => rest.split_at(digits(rest)),
            None => ("", rest),
        };
        if fraction.is_empty() && rest.starts_with('.') {
            return None;
        }
        let factor = if suffix.is_empty() { 1 } else { self.factor(suffix)? };
        let mut result = 0i64;
        for digit in whole.bytes() {
            result = result.checked_mul(10)?.checked_add(i64::from(digit - b'0'))?;
        }
        // From the last digit on: rounding down after each division rounds the whole down once, so nothing is lost.
        let part = fraction
            .bytes()
            .rev()
            .fold(0u128, |part, digit| (u128::from(digit - b'0') * u128::from(factor) + part) / 10);
        result.checked_mul(i64::try_from(factor).ok()?)?.checked_add(i64::try_from(part).ok()?)
    }

    fn factor(&self, suffix: &str) -> Option<u64> {
        let fits = |known: &&Suffix| match self.case_sensitive {
            true => known.text == suffix,
            false => known.text.eq_ignore_ascii_case(suffix),
        };
        self.suffixes.iter().find(fits).map(|suffix| suffix.factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<i64> {
        let suffixes = Vec::parse("k:1000, m:1000000, b:1000000000").unwrap();
        QuantityReader { suffixes, case_sensitive: false }.read(text)
    }

    #[test]
    fn quantities_are_exact() {
        for (text, quantity) in [
            ("0", 0),
            ("305", 305),
            ("10k", 10_000),
            ("985K", 985_000),
            ("2M", 2_000_000),
            ("1.1M", 1_100_000),
            ("0.29k", 290),
            ("8.41b", 8_410_000_000),
            ("1.2345k", 1234),
            ("007", 7),
            ("1.9999999999999999999999999999999999999999999999k", 1999),
            ("9223372036854775807", i64::MAX),
            ("9223372036.854775807B", i64::MAX),
        ] {
            assert_eq!(read(text), Some(quantity), "{text}");
        }
    }

    #[test]
    fn anything_else_is_no_quantity() {
        for text in [
            "",
            " ",
            "k",
            "-1",
            "+1",
            "1.",
            ".5",
            "1.k",
            "1 k",
            " 1",
            "1k ",
            "1kk",
            "1,000",
            "1t",
            "١",
            "9223372036854775808",
            "9223372036.854775808B",
            "99999999999999999999999b",
            "User Info Error",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
