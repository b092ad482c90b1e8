//! Text with `${..}` places: names of streams and partition keys made from a record.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ottla_api::config::ConfigValue;
use ottla_api::data::json;
use ottla_api::prelude::*;

/// Text in which `${..}` stands for a part of the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Topic,
    Partition,
    Key,
    Field(Vec<String>),
}

impl Template {
    /// The text, where no record is needed for it.
    pub(crate) fn fixed(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// True where a record's topic is all that is needed.
    pub(crate) fn only_topic(&self) -> bool {
        self.0.iter().all(|part| matches!(part, Part::Text(_) | Part::Topic))
    }

    /// The text for a record. What the record does not have is empty.
    ///
    /// # Errors
    ///
    /// Where the value must be looked into and is no JSON.
    pub(crate) fn render(&self, record: &mut Record) -> Result<String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(fixed) => text.push_str(fixed),
                Part::Topic => text.push_str(&record.topic),
                Part::Partition => {
                    if let Some(partition) = record.partition {
                        text.push_str(&partition.to_string());
                    }
                }
                Part::Key => text.push_str(&as_text(record.key.value()?)),
                Part::Field(path) => {
                    let mut value = Some(record.value.value()?);
                    for name in path {
                        value = value.and_then(|value| value.field(name));
                    }
                    text.push_str(&value.map(as_text).unwrap_or_default());
                }
            }
        }
        Ok(text)
    }
}

/// A value as text: text as it is, bytes as text where they are UTF-8 and in base64 otherwise, everything else as JSON.
fn as_text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => "".into(),
        Value::String(text) => text.into(),
        Value::Bytes(bytes) => std::str::from_utf8(bytes).map_or_else(|_| STANDARD.encode(bytes).into(), Cow::from),
        other => json::to_string(other).into(),
    }
}

impl ConfigValue for Template {
    fn parse(text: &str) -> Result<Self, String> {
        let (mut parts, mut rest) = (Vec::new(), text.trim());
        while let Some((before, after)) = rest.split_once("${") {
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let Some((name, after)) = after.split_once('}') else {
                return Err(format!("has '${{' without '}}', found '{text}'"));
            };
            parts.push(match name.split_once(':') {
                None if name == "topic" => Part::Topic,
                None if name == "partition" => Part::Partition,
                None if name == "key" => Part::Key,
                Some(("field", path)) if !path.is_empty() => Part::Field(path.split('.').map(str::to_owned).collect()),
                _ => {
                    let known = "${key}, ${field:<path>}, ${topic}, ${partition}";
                    return Err(format!("knows {known}, found '${{{name}}}'"));
                }
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    fn type_name() -> Cow<'static, str> {
        "template".into()
    }
}

/// `kinesis.partition.key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionKey(Template);

impl PartitionKey {
    /// The partition key of a record; a random one where nothing in the record says one.
    pub(crate) fn of(&self, record: &mut Record) -> Result<String> {
        let key = self.0.render(record)?;
        Ok(if key.is_empty() { uuid::Uuid::new_v4().to_string() } else { key })
    }
}

impl ConfigValue for PartitionKey {
    fn parse(text: &str) -> Result<Self, String> {
        let template = match text.trim() {
            "random" | "" => Template(Vec::new()),
            "key" => Template(vec![Part::Key]),
            text => match text.strip_prefix("field:") {
                Some(path) => Template::parse(&format!("${{field:{path}}}"))?,
                None => Template::parse(text)?,
            },
        };
        Ok(Self(template))
    }

    fn type_name() -> Cow<'static, str> {
        "partition key".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let mut record = Record::new("posts.pin", Value::Null);
        record.key = Payload::schemaless("k1");
        record.partition = Some(3);
        record.value = Payload::json(r#"{"ind":7,"user":{"name":"é"}}"#.into());
        record
    }

    fn key(text: &str) -> String {
        PartitionKey::parse(text).unwrap().of(&mut record()).unwrap()
    }

    #[test]
    fn a_partition_key_comes_from_key_field_or_template() {
        let texts =
            ["key", "field:ind", "field:user.name", "partition-1", "${topic}-${partition}", "a${field:ind}b${key}"];
        assert_eq!(texts.map(key), ["k1", "7", "é", "partition-1", "posts.pin-3", "a7bk1"]);
    }

    #[test]
    fn without_anything_to_go_by_partition_keys_are_random() {
        for text in ["random", "", "field:missing"] {
            assert_ne!(key(text), key(text), "{text}");
            assert_eq!(key(text).len(), 36, "{text}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused_with_what_there_is() {
        let message = |text| Template::parse(text).unwrap_err();
        assert_eq!(message("${ind}"), "knows ${key}, ${field:<path>}, ${topic}, ${partition}, found '${ind}'");
        assert_eq!(message("a${topic"), "has '${' without '}', found 'a${topic'");
    }
}
