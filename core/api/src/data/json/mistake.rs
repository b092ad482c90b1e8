//! Where text stops being JSON, for the error message.
//!
//! The walks that [`compact`](super::compact()) and [`parse`](super::parse()) take only say that something is wrong. Records that
//! are wrong are rare, so finding out what it is may cost a second walk, a slow one, byte by byte.

use super::DEPTH_MAX;
use super::scan::is_space;
use crate::error::{Error, Result};

/// The first mistake in `text`, which is known to hold one.
#[cold]
pub(super) fn find(text: &[u8]) -> Error {
    let mut finder = Finder { text, at: 0, depth: 0 };
    match finder.document() {
        Err(mistake) => mistake,
        Ok(()) => Error::data("not JSON, though no single mistake in it can be named"),
    }
}

struct Finder<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
}

impl Finder<'_> {
    fn error(&self, expected: &str) -> Error {
        let found = match self.text.get(self.at) {
            None => "the end".to_owned(),
            Some(byte) if byte.is_ascii_graphic() => format!("'{}'", *byte as char),
            Some(byte) => format!("byte 0x{byte:02x}"),
        };
        Error::data(format!("not JSON: at byte {} expected {expected}, found {found}", self.at))
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn expect(&mut self, byte: u8, what: &str) -> Result<()> {
        if self.peek() != Some(byte) {
            return Err(self.error(what));
        }
        self.at += 1;
        Ok(())
    }

    fn space(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.at += 1;
        }
    }

    fn document(&mut self) -> Result<()> {
        self.space();
        self.value()?;
        self.space();
        if self.at < self.text.len() { Err(self.error("nothing more after the value")) } else { Ok(()) }
    }

    fn value(&mut self) -> Result<()> {
        match self.peek() {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'"') => self.string(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.error("a value")),
        }
    }

    fn enter(&mut self) -> Result<()> {
        self.at += 1;
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Error::data(format!("not usable JSON: nested deeper than {DEPTH_MAX} at byte {}", self.at)));
        }
        self.space();
        Ok(())
    }

    /// Steps over what stands behind an item; true where it is what ends the whole.
    fn ends(&mut self, end: u8, expected: &str) -> Result<bool> {
        self.space();
        match self.peek() {
            Some(byte) if byte == end => self.depth -= 1,
            Some(b',') => {}
            _ => return Err(self.error(expected)),
        }
        let ends = self.peek() == Some(end);
        self.at += 1;
        self.space();
        Ok(ends)
    }

    fn object(&mut self) -> Result<()> {
        self.enter()?;
        if self.peek() == Some(b'}') {
            return self.ends(b'}', "").map(drop);
        }
        loop {
            self.string()?;
            self.space();
            self.expect(b':', "':' after a field's name")?;
            self.space();
            self.value()?;
            if self.ends(b'}', "',' or '}' in an object")? {
                return Ok(());
            }
        }
    }

    fn array(&mut self) -> Result<()> {
        self.enter()?;
        if self.peek() == Some(b']') {
            return self.ends(b']', "").map(drop);
        }
        loop {
            self.value()?;
            if self.ends(b']', "',' or ']' in an array")? {
                return Ok(());
            }
        }
    }

    fn word(&mut self, word: &str) -> Result<()> {
        if !self.text[self.at..].starts_with(word.as_bytes()) {
            return Err(self.error("true, false or null"));
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<()> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<()> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return Err(self.error("a digit"));
        }
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<()> {
        self.expect(b'"', "a string")?;
        let start = self.at;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(0x00..=0x1f) | None => return Err(self.error("the end of a string")),
                Some(_) => self.at += 1,
            }
        }
        if let Err(error) = std::str::from_utf8(&self.text[start..self.at]) {
            self.at = start + error.valid_up_to();
            return Err(self.error("UTF-8 text"));
        }
        self.at += 1;
        Ok(())
    }

    fn escape(&mut self) -> Result<()> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let unit = self.unit()?;
                if (0xdc00..0xe000).contains(&unit) {
                    return Err(self.error("no lone half of a surrogate pair before this"));
                }
                if (0xd800..0xdc00).contains(&unit) {
                    self.expect(b'\\', "the other half of a surrogate pair")?;
                    if self.peek() != Some(b'u') || !(0xdc00..0xe000).contains(&self.unit()?) {
                        return Err(self.error("the other half of a surrogate pair before this"));
                    }
                }
            }
            _ => return Err(self.error("an escape such as \\n or \\u0041")),
        }
        Ok(())
    }

    /// Reads `uXXXX`, standing on the `u`.
    fn unit(&mut self) -> Result<u32> {
        let mut unit = 0;
        for _ in 0..4 {
            self.at += 1;
            let digit = self.peek().and_then(|byte| (byte as char).to_digit(16));
            unit = unit * 16 + digit.ok_or_else(|| self.error("four hexadecimal digits"))?;
        }
        self.at += 1;
        Ok(unit)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::{compact, parse};

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, message) in [
            ("{\"a\":1,}", "not JSON: at byte 7 expected a string, found '}'"),
            ("[1 2]", "not JSON: at byte 3 expected ',' or ']' in an array, found '2'"),
            ("{\"a\":1 2}", "not JSON: at byte 7 expected ',' or '}' in an object, found '2'"),
            ("{\"a\" 2}", "not JSON: at byte 5 expected ':' after a field's name, found '2'"),
            ("[1,]", "not JSON: at byte 3 expected a value, found ']'"),
            ("01", "not JSON: at byte 1 expected nothing more after the value, found '1'"),
            ("-", "not JSON: at byte 1 expected a digit, found the end"),
            ("1.e", "not JSON: at byte 2 expected a digit, found 'e'"),
            ("1e+", "not JSON: at byte 3 expected a digit, found the end"),
            ("\"a", "not JSON: at byte 2 expected the end of a string, found the end"),
            ("\"a\n\"", "not JSON: at byte 2 expected the end of a string, found byte 0x0a"),
            ("\"\\x\"", "not JSON: at byte 2 expected an escape such as \\n or \\u0041, found 'x'"),
            ("\"\\u12g4\"", "not JSON: at byte 5 expected four hexadecimal digits, found 'g'"),
            ("\"\\udc00\"", "not JSON: at byte 7 expected no lone half of a surrogate pair before this, found '\"'"),
            ("\"\\ud800x\"", "not JSON: at byte 7 expected the other half of a surrogate pair, found 'x'"),
            ("", "not JSON: at byte 0 expected a value, found the end"),
            ("nul", "not JSON: at byte 0 expected true, false or null, found 'n'"),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().to_string(), message);
            assert_eq!(compact(&Bytes::copy_from_slice(text.as_bytes())).unwrap_err().to_string(), message);
        }
        assert_eq!(
            parse(b"\"a\xff\"").unwrap_err().to_string(),
            "not JSON: at byte 2 expected UTF-8 text, found byte 0xff"
        );
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested = |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth)).into_bytes();
            assert!(parse(&nested(256)).is_ok());
            let place = 256 * open.len() + 1;
            assert_eq!(
                parse(&nested(257)).unwrap_err().to_string(),
                format!("not usable JSON: nested deeper than 256 at byte {place}")
            );
            assert!(parse(open.repeat(100_000).as_bytes()).is_err());
        }
    }
}
