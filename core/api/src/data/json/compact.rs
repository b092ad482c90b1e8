//! The walk that most records take: proves that text is JSON and drops what need not be there, without building anything.

use bytes::Bytes;

use super::names::{self, Names};
use super::scan::{block, digits_end, escape, is_space, is_utf8, plain_end, unescape};
use super::write::write_text;
use super::{DEPTH_MAX, mistake, parse, to_string};
use crate::error::Result;

/// Checks that `text` is one JSON value and returns it without white space between its tokens and without needless escapes.
///
/// Text that is so already is the slice that came in. Of two fields with one name the last wins, in the place of the first,
/// as in [`parse()`] and in Kafka Connect.
///
/// # Errors
///
/// [`ErrorKind::PoisonRecord`](crate::ErrorKind::PoisonRecord) with the byte position of the first mistake.
pub fn compact(text: &Bytes) -> Result<Bytes> {
    if !is_utf8(text) {
        return Err(mistake::find(text));
    }
    let mut walk = Walk { text, at: 0, depth: 0, compacted: Vec::new(), copied: 0, repeats: false };
    if walk.document().is_none() {
        return Err(mistake::find(text));
    }
    if walk.repeats {
        return Ok(to_string(&parse(text)?).into());
    }
    if walk.copied == 0 {
        return Ok(text.clone());
    }
    walk.compacted.extend_from_slice(&text[walk.copied..]);
    Ok(walk.compacted.into())
}

/// Where a walk over text stands. Its steps answer nothing where the text is not JSON; what is wrong with it is then found
/// out by [`mistake::find`], which costs nothing here.
struct Walk<'a> {
    /// UTF-8 text.
    text: &'a [u8],
    at: usize,
    depth: usize,
    /// What is compacted so far.
    compacted: Vec<u8>,
    /// Everything before this index of `text` is in `compacted` or was left out; 0 as long as nothing was left out.
    copied: usize,
    /// Two fields of one object have the same name, or may have.
    repeats: bool,
}

impl Walk<'_> {
    fn document(&mut self) -> Option<()> {
        self.space();
        self.value()?;
        self.space();
        (self.at == self.text.len()).then_some(())
    }

    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Skips white space and leaves it out of the compacted text.
    #[inline(always)]
    fn space(&mut self) {
        if self.peek().is_some_and(is_space) {
            self.leave_out_space();
        }
    }

    #[inline(never)]
    fn leave_out_space(&mut self) {
        let start = self.at;
        while self.peek().is_some_and(is_space) {
            self.at += 1;
        }
        self.copy_until(start);
    }

    /// What lies before `end` and is not copied yet goes into the compacted text; what lies between `end` and here does not.
    fn copy_until(&mut self, end: usize) {
        if self.copied == 0 {
            self.compacted.reserve_exact(self.text.len());
        }
        self.compacted.extend_from_slice(&self.text[self.copied..end]);
        self.copied = self.at;
    }

    fn value(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(drop),
            b'{' => self.object(),
            b'[' => self.array(),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number(),
        }
    }

    #[inline(always)]
    fn enter(&mut self) -> Option<()> {
        self.at += 1;
        self.depth += 1;
        (self.depth <= DEPTH_MAX).then_some(())
    }

    #[inline(always)]
    fn leave(&mut self) -> Option<()> {
        self.at += 1;
        self.depth -= 1;
        Some(())
    }

    fn object(&mut self) -> Option<()> {
        self.enter()?;
        self.space();
        if self.peek()? == b'}' {
            return self.leave();
        }
        let mut names = Names::new();
        loop {
            self.repeats |= self.name(&mut names)?;
            self.space();
            if self.peek()? != b':' {
                return None;
            }
            self.at += 1;
            self.space();
            self.value()?;
            self.space();
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.repeats |= names.repeat();
                    return self.leave();
                }
                _ => return None,
            }
            self.space();
        }
    }

    /// Walks over a field's name. True where the object may have had it before.
    #[inline(always)]
    fn name(&mut self, names: &mut Names) -> Option<bool> {
        if self.peek()? != b'"' {
            return None;
        }
        let start = self.at + 1;
        if let Some((end, hash)) = names::walk(self.text, start) {
            self.at = end + 1;
            return Some(names.add(hash));
        }
        let canonical = self.string()?;
        // A name that was written anew may equal one that looks otherwise.
        Some(!canonical || names.add(names::hash(&self.text[start..self.at - 1])))
    }

    fn array(&mut self) -> Option<()> {
        self.enter()?;
        self.space();
        if self.peek()? == b']' {
            return self.leave();
        }
        loop {
            self.value()?;
            self.space();
            match self.peek()? {
                b',' => self.at += 1,
                b']' => return self.leave(),
                _ => return None,
            }
            self.space();
        }
    }

    fn word<const N: usize>(&mut self, word: &[u8; N]) -> Option<()> {
        (block(self.text, self.at)? == word).then(|| self.at += N)
    }

    /// Walks over a number. See RFC 8259, section 6.
    #[inline(always)]
    fn number(&mut self) -> Option<()> {
        let first = self.at + usize::from(self.peek() == Some(b'-'));
        self.at = self.digits(first)?;
        if self.text[first] == b'0' && self.at > first + 1 {
            return None;
        }
        if self.peek() == Some(b'.') {
            self.at = self.digits(self.at + 1)?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            let signed = matches!(self.text.get(self.at + 1), Some(b'+' | b'-'));
            self.at = self.digits(self.at + 1 + usize::from(signed))?;
        }
        Some(())
    }

    /// Where the digits end that begin at `at`; nothing where there is none.
    #[inline(always)]
    fn digits(&self, at: usize) -> Option<usize> {
        let end = digits_end(self.text, at);
        (end > at).then_some(end)
    }

    /// Walks over a string. False where it had to be written anew, because it held needless escapes.
    #[inline(always)]
    fn string(&mut self) -> Option<bool> {
        if self.peek()? != b'"' {
            return None;
        }
        let start = self.at;
        self.at = plain_end(self.text, start + 1);
        match self.peek()? {
            b'"' => {
                self.at += 1;
                Some(true)
            }
            b'\\' => self.string_with_escapes(start),
            _ => None,
        }
    }

    /// Goes on with a string that began at `start`, from its first backslash on.
    #[inline(never)]
    fn string_with_escapes(&mut self, start: usize) -> Option<bool> {
        let mut canonical = true;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => {
                    let (end, usual) = escape(self.text, self.at)?;
                    canonical &= usual;
                    self.at = plain_end(self.text, end);
                }
                _ => return None,
            }
        }
        self.at += 1;
        if !canonical {
            let inside = std::str::from_utf8(&self.text[start + 1..self.at - 1]).expect("checked at the beginning");
            let inside = unescape(inside);
            self.copy_until(start);
            write_text(&inside, &mut self.compacted);
        }
        Some(canonical)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compacted(text: &str) -> String {
        String::from_utf8(compact(&Bytes::copy_from_slice(text.as_bytes())).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn compact_text_is_the_slice_that_came_in() {
        let text = Bytes::from_static(br#"{"a":[1,2.50,{"b":null}],"c":"x y"}"#);
        assert_eq!(compact(&text).unwrap().as_ptr(), text.as_ptr());
    }

    #[test]
    fn only_white_space_between_tokens_goes() {
        assert_eq!(
            compacted(" { \"a b\" : [ 1 , 12.30 , true ] ,\n\t\"c\": { } } \r\n"),
            r#"{"a b":[1,12.30,true],"c":{}}"#
        );
        assert_eq!(compacted("[ ]"), "[]");
    }

    #[test]
    fn needless_escapes_become_letters_and_needed_ones_stay() {
        assert_eq!(
            compacted(r#"{"caf\u00e9" : ["\ud83d\ude00 a\/b \u000a \u001f", "x\"\\\n\u001F"]}"#),
            r#"{"café":["😀 a/b \n \u001F","x\"\\\n\u001F"]}"#
        );
        let usual = Bytes::from_static(br#"["\"\\\b\f\n\r\t\u001F"]"#);
        assert_eq!(compact(&usual).unwrap().as_ptr(), usual.as_ptr());
    }

    #[test]
    fn of_two_fields_with_one_name_the_last_wins_in_the_place_of_the_first() {
        assert_eq!(compacted(r#"{"a":1,"b":2,"a":3.10}"#), r#"{"a":3.10,"b":2}"#);
        assert_eq!(compacted(r#"[{"é":[],"x":{"y":1, "\u0079":2},"\u00e9":0}]"#), r#"[{"é":0,"x":{"y":2}}]"#);
        let distinct = Bytes::from_static(br#"{"a":{"a":{"a":1},"b":2},"b":[{"a":1},{"a":2}]}"#);
        assert_eq!(compact(&distinct).unwrap().as_ptr(), distinct.as_ptr());
        let wide: Vec<String> = (0..1000).map(|n| format!("\"{}\":{n}", n % 990)).collect();
        let expected: Vec<String> = (0..990).map(|n| format!("\"{n}\":{}", if n < 10 { n + 990 } else { n })).collect();
        assert_eq!(compacted(&format!("{{{}}}", wide.join(","))), format!("{{{}}}", expected.join(",")));
    }
}
