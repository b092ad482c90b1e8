//! Bodies: JSON whose parts stay text, and what is said where it is no JSON.
//!
//! A body is walked once to find its fields; a record's value is then checked and compacted as text, so that the order of its
//! fields and the digits of its numbers reach the topic as they were sent.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use ottla_api::data::json;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// An object, its fields in order, their values as text.
#[derive(Debug, Default)]
pub(crate) struct Object(Vec<(String, Bytes)>);

impl Object {
    /// Reads an object. The error says what else there is, and the probable reason.
    pub(crate) fn parse(text: &Bytes) -> Result<Self, Unreadable> {
        let fields: Fields<'_> = serde_json::from_slice(text).map_err(|error| Unreadable::new(text, &error))?;
        let fields = fields.0.into_iter().map(|(name, value)| (name.into_owned(), slice(text, value)));
        Ok(Self(fields.collect()))
    }

    /// The value of a field; of two with one name the last counts, as everywhere.
    pub(crate) fn get(&self, name: &str) -> Option<&Bytes> {
        self.0.iter().rev().find(|(field, _)| field == name).map(|(_, value)| value)
    }

    /// The first of these fields that is there.
    pub(crate) fn any(&self, names: &[&str]) -> Option<&Bytes> {
        names.iter().find_map(|name| self.get(name))
    }

    /// The first field that is none of these.
    pub(crate) fn unknown(&self, known: &[&str]) -> Option<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).find(|name| !known.contains(name))
    }
}

/// The items of an array, as text.
pub(crate) fn items(text: &Bytes) -> Result<Vec<Bytes>, Unreadable> {
    let items: Vec<&RawValue> = serde_json::from_slice(text).map_err(|error| Unreadable::new(text, &error))?;
    Ok(items.into_iter().map(|item| slice(text, item)).collect())
}

/// A text, or nothing where it is none.
pub(crate) fn text(value: &Bytes) -> Option<String> {
    serde_json::from_slice(value).ok()
}

/// A JSON value as compact text; the error says where it goes wrong.
pub(crate) fn compact(value: &Bytes) -> Result<Bytes, String> {
    json::compact(value).map_err(|error| error.to_string())
}

fn slice(text: &Bytes, value: &RawValue) -> Bytes {
    text.slice_ref(value.get().as_bytes())
}

struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Walk;
        impl<'de> Visitor<'de> for Walk {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    fields.push((Cow::Owned(name), value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Walk)
    }
}

/// Why a body, or a part of one, is not what it should be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// No JSON: where, and the probable reason.
    NotJson(String),
    /// JSON of another kind: what it is.
    Other(&'static str),
}

impl Unreadable {
    fn new(text: &Bytes, error: &serde_json::Error) -> Self {
        // What is JSON and still no good is of the wrong kind.
        match json::compact(text) {
            Ok(_) => Self::Other(kind(text)),
            Err(_) => Self::NotJson(format!(
                "not JSON at line {}, column {}{}",
                error.line(),
                error.column(),
                hint(text).map_or_else(String::new, |hint| format!(": {hint}")),
            )),
        }
    }
}

/// What a JSON text is.
pub(crate) fn kind(text: &[u8]) -> &'static str {
    match text.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// The probable reason why a text is no JSON, from what Python's clients send by mistake.
fn hint(text: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(&text[..text.len().min(64 * 1024)]);
    let start = text.trim_start();
    if start.is_empty() {
        return Some("the body is empty; pass data=json.dumps(payload)");
    }
    if text.contains("datetime.datetime(") || text.contains("datetime.date(") {
        return Some(
            "a datetime was written as Python shows it; serialise it, as in json.dumps(payload, default=str) or \
             value.isoformat()",
        );
    }
    if start.starts_with("{'") || start.starts_with("[{'") || text.contains("': ") {
        return Some("this is a Python dict as str() writes it; pass json=payload or data=json.dumps(payload)");
    }
    if !start.starts_with(['{', '[', '"']) && start.contains('=') {
        return Some("this is a form; a dict passed as data= is sent so: pass data=json.dumps(payload)");
    }
    for word in ["NaN", "Infinity"] {
        if text.contains(word) {
            return Some("NaN and Infinity are no JSON numbers; send null or a text");
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &'static str) -> String {
        match Object::parse(&Bytes::from_static(text.as_bytes())).expect_err("no object") {
            Unreadable::NotJson(message) => message,
            Unreadable::Other(kind) => kind.to_owned(),
        }
    }

    #[test]
    fn the_parts_of_an_object_keep_their_text() {
        let text = Bytes::from_static(br#" {"b" : 1.50, "a":{"z":1, "a" : [2]}, "b": "x"} "#);
        let object = Object::parse(&text).unwrap();
        assert_eq!(object.get("a").unwrap().as_ref(), br#"{"z":1, "a" : [2]}"#);
        assert_eq!(compact(object.get("a").unwrap()).unwrap().as_ref(), br#"{"z":1,"a":[2]}"#);
        assert_eq!(text_of(object.get("b")), "x");
        assert_eq!(object.unknown(&["b"]), Some("a"));
        assert!(object.get("c").is_none());
    }

    fn text_of(value: Option<&Bytes>) -> String {
        text(value.unwrap()).unwrap()
    }

    #[test]
    fn what_python_sends_by_mistake_is_named() {
        assert_eq!(refused(""), "not JSON at line 1, column 0: the body is empty; pass data=json.dumps(payload)");
        assert!(refused("{'records': []}").ends_with("pass json=payload or data=json.dumps(payload)"));
        assert!(refused("index=7528&title=x").contains("this is a form"));
        assert!(refused("{'records': [{'value': {'t': datetime.datetime(2018, 1, 1)}}]}").contains("default=str"));
        assert!(refused(r#"{"a": NaN}"#).contains("NaN and Infinity"));
        assert_eq!(refused(r#""{\"records\":[]}""#), "a string");
        assert_eq!(refused("[]"), "an array");
    }

    #[test]
    fn nesting_has_a_limit_and_costs_no_stack() {
        let deep = [b"{\"a\":".repeat(100_000), b"1".to_vec(), b"}".repeat(100_000)].concat();
        let text = Bytes::from(deep);
        let inner = Object::parse(&text).unwrap();
        assert!(
            compact(inner.get("a").unwrap()).unwrap_err().contains("nest"),
            "{:?}",
            compact(inner.get("a").unwrap())
        );
    }
}
