//! Naming a field, at the top or inside of others (Kafka Connect: `SingleFieldPath`).

use std::sync::Arc;

use ottla_api::config::ConfigValue;
use ottla_api::prelude::*;

use crate::requirements::class_name;

/// How a path is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
pub(crate) enum FieldSyntax {
    /// The name of a field at the top; dots belong to the name.
    #[config(name = "V1")]
    V1,
    /// Names separated by dots. A name with a dot goes between backticks; `\` before a backtick makes it part of the name.
    #[config(name = "V2")]
    V2,
}

/// The names on the way to a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldPath {
    text: String,
    steps: Vec<String>,
}

impl FieldPath {
    /// Reads a path.
    pub(crate) fn parse(text: &str, syntax: FieldSyntax) -> Result<Self, String> {
        let steps = match syntax {
            FieldSyntax::V1 => vec![text.to_owned()],
            FieldSyntax::V2 => steps(text)?,
        };
        Ok(Self { text: text.to_owned(), steps })
    }

    /// The path as it was written.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The name of the field at its end.
    pub(crate) fn last(&self) -> &str {
        self.steps.last().map_or("", String::as_str)
    }

    /// The field in schemaless data; nothing where it, or one on the way, is missing or null.
    pub(crate) fn find<'a>(&self, value: &'a Value) -> Result<Option<&'a Value>> {
        let mut value = value;
        for (index, step) in self.steps.iter().enumerate() {
            match value {
                Value::Map(map) => match map.get(step) {
                    Some(inner) => value = inner,
                    None => return Ok(None),
                },
                Value::Null => return Ok(None),
                other => {
                    return Err(Error::data(format!(
                        "Only Map objects supported in absence of schema for [nested field access to {}], found: {}",
                        self.steps[..index].join("."),
                        class_name(other)
                    )));
                }
            }
        }
        Ok(Some(value))
    }

    /// Takes the field out of schemaless data; nothing where [`find`](Self::find) finds nothing.
    pub(crate) fn take(&self, value: &mut Value) -> Result<Option<Value>> {
        if self.find(value)?.is_none() {
            return Ok(None);
        }
        let field = self.steps.iter().try_fold(value, |value, step| match value {
            Value::Map(map) => map.get_mut(step),
            _ => None,
        });
        Ok(field.map(std::mem::take))
    }

    /// The field's schema inside a struct's; nothing where there is no such field.
    pub(crate) fn schema<'a>(&self, schema: &'a Arc<Schema>) -> Option<&'a Arc<Schema>> {
        self.steps.iter().try_fold(schema, |schema, step| schema.field(step).map(|field| &field.schema))
    }

    /// The field in a struct, null where one on the way is null; a null reads as its schema's default where `defaults` says so.
    pub(crate) fn value(&self, value: &Value, defaults: bool) -> Value {
        let mut value = value;
        for step in &self.steps {
            let Value::Struct(fields) = value else { return Value::Null };
            match fields.get(step) {
                None => return Value::Null,
                Some(Value::Null) => {
                    let default = fields.schema().field(step).and_then(|field| field.schema.default());
                    return default.filter(|_| defaults).cloned().unwrap_or_default();
                }
                Some(inner) => value = inner,
            }
        }
        value.clone()
    }
}

fn steps(text: &str) -> Result<Vec<String>, String> {
    let mut steps = Vec::new();
    let mut rest = text;
    loop {
        let (step, after) = match rest.strip_prefix('`') {
            None => match rest.split_once('.') {
                Some((step, after)) => (step.to_owned(), Some(after)),
                None => (rest.to_owned(), None),
            },
            Some(quoted) => {
                // The closing backtick stands before a dot or the end, and no backslash stands before it.
                let closing = quoted.char_indices().find(|&(at, c)| {
                    c == '`'
                        && !quoted[..at].ends_with('\\')
                        && matches!(quoted.as_bytes().get(at + 1), None | Some(b'.'))
                });
                let Some((end, _)) = closing else {
                    return Err(format!(
                        "Incomplete backtick pair in path: [{text}], consider adding a backslash before backtick at position \
                         {} to escape it",
                        text.len() - rest.len()
                    ));
                };
                (quoted[..end].replace("\\`", "`"), quoted[end + 1..].strip_prefix('.'))
            }
        };
        steps.push(step);
        match after {
            Some(after) => rest = after,
            None => return Ok(steps),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_separate_and_backticks_protect() {
        for (path, expected) in [
            ("a", &["a"][..]),
            ("a.b.c", &["a", "b", "c"]),
            ("`a.b`.c", &["a.b", "c"]),
            ("a.`b.c`", &["a", "b.c"]),
            (r"`a\`.b`", &["a`.b"]),
            ("a`b.c", &["a`b", "c"]),
        ] {
            assert_eq!(FieldPath::parse(path, FieldSyntax::V2).unwrap().steps, expected, "{path}");
        }
        assert_eq!(FieldPath::parse("a.b", FieldSyntax::V1).unwrap().steps, ["a.b"]);
        assert_eq!(
            FieldPath::parse("a.`b", FieldSyntax::V2).unwrap_err(),
            "Incomplete backtick pair in path: [a.`b], consider adding a backslash before backtick at position 2 to escape it"
        );
    }
}
