//! JSON text into a tree.

use super::names::{self, Names};
use super::number;
use super::scan::{block, escape, is_space, plain_end, unescape};
use super::{DEPTH_MAX, mistake};
use crate::data::{Map, Name, Value};
use crate::error::Result;

/// How many fields a map has room for from the start: most records have no more.
const USUAL_FIELDS: usize = 12;

/// Parses one JSON value.
///
/// Integers become `Int64` where they fit; other numbers become `Float64` where its shortest text is the text that was
/// written, and stay text ([`Value::Number`]) where not. Of two fields with one name the last wins, in the place of the
/// first.
///
/// # Errors
///
/// [`ErrorKind::PoisonRecord`](crate::ErrorKind::PoisonRecord) with the byte position of the first mistake.
pub fn parse(text: &[u8]) -> Result<Value> {
    parse_below(text, 0).ok_or_else(|| mistake::find(text))
}

/// Parses a value that was cut out of a text in which it lies inside of `depth` arrays and objects: what may be nested in it is
/// that much less. Nothing where it is wrong or too deep, since what is said about that should be about the whole text.
pub fn parse_below(text: &[u8], depth: usize) -> Option<Value> {
    Parser { text: simdutf8::basic::from_utf8(text).ok()?, at: 0, depth }.document()
}

/// Where a parser stands. Its steps answer nothing where the text is not JSON, as those of the walk that compacts.
struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn document(mut self) -> Option<Value> {
        self.space();
        let value = self.value()?;
        self.space();
        (self.at == self.text.len()).then_some(value)
    }

    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline(always)]
    fn space(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.at += 1;
        }
    }

    fn value(&mut self) -> Option<Value> {
        match self.peek()? {
            b'"' => {
                let (inside, escaped) = self.string()?;
                Some(Value::String(if escaped { unescape(inside) } else { inside.to_owned() }))
            }
            b'{' => self.object(),
            b'[' => self.array(),
            b't' => self.word(b"true", Value::Boolean(true)),
            b'f' => self.word(b"false", Value::Boolean(false)),
            b'n' => self.word(b"null", Value::Null),
            _ => {
                let (value, end) = number::read(self.text, self.at)?;
                self.at = end;
                Some(value)
            }
        }
    }

    fn enter(&mut self) -> Option<()> {
        self.at += 1;
        self.depth += 1;
        self.space();
        (self.depth <= DEPTH_MAX).then_some(())
    }

    fn leave(&mut self, value: Value) -> Option<Value> {
        self.at += 1;
        self.depth -= 1;
        Some(value)
    }

    fn object(&mut self) -> Option<Value> {
        self.enter()?;
        if self.peek()? == b'}' {
            return self.leave(Value::Map(Map::new()));
        }
        let mut fields: Vec<(Name, Value)> = Vec::with_capacity(USUAL_FIELDS);
        let mut names = Names::new();
        loop {
            let (name, repeats) = self.name(&mut names)?;
            self.space();
            if self.peek()? != b':' {
                return None;
            }
            self.at += 1;
            self.space();
            let value = self.value()?;
            if repeats && let Some(place) = fields.iter_mut().find(|(known, _)| *known == name) {
                place.1 = value;
            } else {
                fields.push((name, value));
            }
            self.space();
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    let mut map = Map::from_fields(fields);
                    if names.repeat() {
                        map.keep_last();
                    }
                    return self.leave(Value::Map(map));
                }
                _ => return None,
            }
            self.space();
        }
    }

    /// Reads a field's name; true where the object may have had it before.
    #[inline(always)]
    fn name(&mut self, names: &mut Names) -> Option<(Name, bool)> {
        if self.peek()? != b'"' {
            return None;
        }
        let start = self.at + 1;
        if let Some((end, hash)) = names::walk(self.text.as_bytes(), start) {
            self.at = end + 1;
            return Some((Name::from(&self.text[start..end]), names.add(hash)));
        }
        let (inside, escaped) = self.string()?;
        let name = if escaped { Name::from(unescape(inside)) } else { Name::from(inside) };
        let repeats = names.add(names::hash(name.as_bytes()));
        Some((name, repeats))
    }

    fn array(&mut self) -> Option<Value> {
        self.enter()?;
        let mut items = Vec::new();
        if self.peek()? == b']' {
            return self.leave(Value::Array(items));
        }
        loop {
            items.push(self.value()?);
            self.space();
            match self.peek()? {
                b',' => self.at += 1,
                b']' => return self.leave(Value::Array(items)),
                _ => return None,
            }
            self.space();
        }
    }

    fn word<const N: usize>(&mut self, word: &[u8; N], value: Value) -> Option<Value> {
        (block(self.text.as_bytes(), self.at)? == word).then(|| {
            self.at += N;
            value
        })
    }

    /// The inside of a string as it is written, and whether it holds escapes.
    #[inline(always)]
    fn string(&mut self) -> Option<(&'a str, bool)> {
        if self.peek()? != b'"' {
            return None;
        }
        let start = self.at + 1;
        let mut escaped = false;
        self.at = plain_end(self.text.as_bytes(), start);
        while self.peek()? != b'"' {
            let (end, _) = escape(self.text.as_bytes(), self.at)?;
            escaped = true;
            self.at = plain_end(self.text.as_bytes(), end);
        }
        self.at += 1;
        Some((&self.text[start..self.at - 1], escaped))
    }
}
