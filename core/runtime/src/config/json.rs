//! JSON as a tree with lines.

use std::fmt;

use serde::Deserializer;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

use super::tree::{Lines, Member, Node};

/// Reads a file, whose outermost value is an object. A mistake is a line and a message that never shows a value.
pub(crate) fn parse(text: &str) -> Result<Vec<Member>, (usize, String)> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let parser = Parser { text, lines: &Lines::of(text) };
    let parsed = parser.deserialize(&mut reader).and_then(|node| reader.end().map(|()| node));
    match parsed {
        Ok(Node::Table(members)) => Ok(members),
        Ok(_) => Err((1, "must be an object: {\"name\": .., \"config\": {..}}".to_owned())),
        Err(error) => {
            let message = error.to_string();
            let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
            Err((error.line(), format!("not JSON: {message}")))
        }
    }
}

/// Builds the tree. serde_json hands out keys as slices of the text, so a key's address says where it stands.
#[derive(Clone, Copy)]
struct Parser<'a> {
    text: &'a str,
    lines: &'a Lines,
}

impl<'de> DeserializeSeed<'de> for Parser<'de> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Parser<'de> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_owned()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = items.next_element_seed(self)? {
            nodes.push(node);
        }
        Ok(Node::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut members: Vec<Member> = Vec::new();
        while let Some((key, offset)) = entries.next_key_seed(KeyParser(self))? {
            // A key with escapes in it is no slice of the text: then the place of the one before must do.
            let offset = offset.or(members.last().map(|member| member.offset)).unwrap_or(0);
            let node = entries.next_value_seed(self)?;
            members.push(Member { key, line: self.lines.at(offset), offset, node });
        }
        Ok(Node::Table(members))
    }
}

struct KeyParser<'a>(Parser<'a>);

impl<'de> DeserializeSeed<'de> for KeyParser<'de> {
    type Value = (String, Option<usize>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeyParser<'de> {
    type Value = (String, Option<usize>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: de::Error>(self, key: &'de str) -> Result<Self::Value, E> {
        let offset = (key.as_ptr() as usize).checked_sub(self.0.text.as_ptr() as usize);
        Ok((key.to_owned(), offset.filter(|offset| *offset <= self.0.text.len())))
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok((key.to_owned(), None))
    }
}
