//! JSON text of values: check and compact without a tree, parse into a tree, write.
//!
//! Most records pass through untouched, so the first thing here is [`compact`]: one walk over the text that proves it is
//! JSON and drops the white space between tokens, without building anything. Text that is compact already is returned as
//! the slice that came in. Fields keep their order and numbers their digits, so what a producer wrote is what a reader gets;
//! only escapes that need not be (`\u00e9`, `\/`) become the letters they stand for, as Kafka Connect's sinks write them.
//!
//! The grammar is RFC 8259. Nesting is bounded by [`DEPTH_MAX`], so that a hostile record can't exhaust the stack.

use std::fmt;

use bytes::Bytes;

use super::value::{Map, Value};
use crate::error::{Error, Result};

/// How deep arrays and objects may nest. Jackson, which Kafka Connect uses, stops at 1000; both are far beyond real data.
pub const DEPTH_MAX: usize = 256;

/// Checks that `text` is one JSON value and returns it without white space between its tokens and without needless escapes.
///
/// # Errors
///
/// [`ErrorKind::PoisonRecord`](crate::ErrorKind::PoisonRecord) with the byte position of the first mistake.
pub fn compact(text: &Bytes) -> Result<Bytes> {
    let mut scanner = Scanner::new(text);
    scanner.space();
    scanner.value()?;
    scanner.space();
    if scanner.at != text.len() {
        return Err(scanner.error("nothing more after the value"));
    }
    Ok(match scanner.compacted.take() {
        None => text.clone(),
        Some(mut compacted) => {
            compacted.extend_from_slice(&text[scanner.copied..]);
            compacted.into()
        }
    })
}

/// Parses one JSON value.
///
/// Integers become `Int64` where they fit; other numbers become `Float64` where its shortest text is the text that was
/// written, and stay text ([`Value::Number`]) where not. Of two fields with one name the last wins, in the place of the
/// first.
pub fn parse(text: &[u8]) -> Result<Value> {
    let mut scanner = Scanner::new(text);
    scanner.skip_space();
    let value = scanner.parse_value()?;
    scanner.skip_space();
    if scanner.at != text.len() {
        return Err(scanner.error("nothing more after the value"));
    }
    Ok(value)
}

/// The compact JSON text of a value. See [`write()`].
pub fn to_string(value: &Value) -> String {
    let mut text = Vec::with_capacity(64);
    write(value, &mut text);
    String::from_utf8(text).expect("the writer emits whole strings, which are UTF-8")
}

/// Appends the compact JSON text of a value.
///
/// Kafka Connect's forms: floating point numbers as Java prints them (`1.0E10`), NaN and the infinities as text, bytes and
/// decimals in base64, dates as days, times and timestamps as milliseconds; nothing but what must be is escaped.
pub fn write(value: &Value, out: &mut Vec<u8>) {
    write_with(value, &WriteOptions::default(), out);
}

/// How [`write_with`] renders what JSON has no type for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteOptions {
    /// Decimals as JSON numbers instead of base64 (Kafka Connect: `decimal.format=NUMERIC`).
    pub decimal_numeric: bool,
    /// Dates, times and timestamps as ISO 8601 text instead of numbers.
    pub time_iso: bool,
}

/// Appends the compact JSON text of a value, with choices.
pub fn write_with(value: &Value, options: &WriteOptions, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Boolean(true) => out.extend_from_slice(b"true"),
        Value::Boolean(false) => out.extend_from_slice(b"false"),
        Value::Int8(n) => write_integer((*n).into(), out),
        Value::Int16(n) => write_integer((*n).into(), out),
        Value::Int32(n) => write_integer((*n).into(), out),
        Value::Int64(n) => write_integer(*n, out),
        Value::Float32(n) => write_float(f64::from(*n), &ryu_text_f32(*n), out),
        Value::Float64(n) => write_float(*n, &ryu_text_f64(*n), out),
        Value::Number(text) => out.extend_from_slice(text.as_bytes()),
        Value::String(text) => write_text(text, out),
        Value::Bytes(bytes) => write_base64(bytes, out),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_with(item, options, out);
            }
            out.push(b']');
        }
        Value::Map(map) => write_fields(map.iter(), options, out),
        Value::Struct(fields) => write_fields(fields.iter(), options, out),
        Value::Pairs(pairs) => {
            out.push(b'[');
            for (index, (key, item)) in pairs.iter().enumerate() {
                out.extend_from_slice(if index > 0 { b",[" } else { b"[" });
                write_with(key, options, out);
                out.push(b',');
                write_with(item, options, out);
                out.push(b']');
            }
            out.push(b']');
        }
        Value::Decimal(decimal) if options.decimal_numeric => out.extend_from_slice(decimal.to_string().as_bytes()),
        Value::Decimal(decimal) => write_base64(&decimal.unscaled, out),
        Value::Date(days) if options.time_iso => write_text(&iso_date(*days), out),
        Value::Time(millis) if options.time_iso => write_text(&iso_time(*millis), out),
        Value::Timestamp(millis) if options.time_iso => write_text(&iso_timestamp(*millis), out),
        Value::Date(n) | Value::Time(n) => write_integer((*n).into(), out),
        Value::Timestamp(n) => write_integer(*n, out),
    }
}

fn write_fields<'a>(fields: impl Iterator<Item = (&'a str, &'a Value)>, options: &WriteOptions, out: &mut Vec<u8>) {
    out.push(b'{');
    for (index, (name, value)) in fields.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_text(name, out);
        out.push(b':');
        write_with(value, options, out);
    }
    out.push(b'}');
}

fn write_integer(n: i64, out: &mut Vec<u8>) {
    use std::io::Write as _;
    // Writing into a vector can't fail.
    let _ = write!(out, "{n}");
}

fn write_float(n: f64, text: &str, out: &mut Vec<u8>) {
    if n.is_finite() {
        out.extend_from_slice(text.as_bytes());
    } else {
        let name = if n.is_nan() {
            "NaN"
        } else if n > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        };
        write_text(name, out);
    }
}

fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    use base64::Engine as _;
    write_text(&base64::engine::general_purpose::STANDARD.encode(bytes), out);
}

/// Appends a JSON string: quoted, with only quotes, backslashes and control characters escaped.
pub fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (index, byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0x08 => b"\\b",
            0x0c => b"\\f",
            0x00..=0x1f => b"",
            _ => continue,
        };
        out.extend_from_slice(&bytes[copied..index]);
        if escape.is_empty() {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        } else {
            out.extend_from_slice(escape);
        }
        copied = index + 1;
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}

/// A double as Java's `Double.toString` prints it: `0.1`, `1.0`, `1.0E10`, `1.5E-5`.
pub fn ryu_text_f64(n: f64) -> String {
    java_float_text(n.abs() >= 1e-3 && n.abs() < 1e7 || n == 0.0, ryu::Buffer::new().format(n))
}

/// A float as Java's `Float.toString` prints it.
pub fn ryu_text_f32(n: f32) -> String {
    java_float_text(n.abs() >= 1e-3 && n.abs() < 1e7 || n == 0.0, ryu::Buffer::new().format(n))
}

/// Rearranges the shortest digits into Java's layout: plain within 10^-3..10^7, one digit before the point and `E` outside.
fn java_float_text(plain: bool, shortest: &str) -> String {
    if !shortest.contains(|c: char| c.is_ascii_digit()) {
        return shortest.to_owned();
    }
    let (sign, body) = shortest.strip_prefix('-').map_or(("", shortest), |body| ("-", body));
    let (mantissa, exponent) = body.split_once('e').unwrap_or((body, "0"));
    let exponent: i32 = exponent.parse().expect("ryu writes a decimal exponent");
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let leading = digits.len() - digits.trim_start_matches('0').len();
    let significant = digits[leading..].trim_end_matches('0');
    if significant.is_empty() {
        return format!("{sign}0.0");
    }
    // The value is 0.significant × 10^point.
    let point = i32::try_from(whole.len()).expect("short") - i32::try_from(leading).expect("short") + exponent;
    if plain {
        return match usize::try_from(point) {
            Ok(0) => format!("{sign}0.{significant}"),
            Ok(point) if point >= significant.len() => {
                format!("{sign}{significant}{}.0", "0".repeat(point - significant.len()))
            }
            Ok(point) => format!("{sign}{}.{}", &significant[..point], &significant[point..]),
            Err(_) => format!("{sign}0.{}{significant}", "0".repeat(point.unsigned_abs() as usize)),
        };
    }
    let rest = if significant.len() > 1 { &significant[1..] } else { "0" };
    format!("{sign}{}.{rest}E{}", &significant[..1], point - 1)
}

/// `2020-08-28` for days since the epoch.
pub fn iso_date(days: i32) -> String {
    let (year, month, day) = civil_from_days(days.into());
    format!("{year:04}-{month:02}-{day:02}")
}

/// `03:52:47`, with `.123` where there are milliseconds.
pub fn iso_time(millis: i32) -> String {
    let (seconds, millis) = (millis.div_euclid(1000), millis.rem_euclid(1000));
    let mut text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if millis != 0 {
        text.push_str(&format!(".{millis:03}"));
    }
    text
}

/// `2020-08-28T03:52:47Z`, with `.123` where there are milliseconds.
pub fn iso_timestamp(millis: i64) -> String {
    const DAY: i64 = 86_400_000;
    let (year, month, day) = civil_from_days(millis.div_euclid(DAY));
    let time = iso_time(millis.rem_euclid(DAY) as i32);
    format!("{year:04}-{month:02}-{day:02}T{time}Z")
}

/// The Gregorian year, month and day so many days after 1970-01-01 (Hinnant's `civil_from_days`).
pub fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Walks over JSON text. The `compact` walk copies only from the first white space on.
struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
    /// What is compacted so far, once there was something to leave out.
    compacted: Option<Vec<u8>>,
    /// Everything before this index of `text` is in `compacted` or was left out.
    copied: usize,
    /// The last string held an escape that [`write_text`] would not have written so.
    unusual: bool,
}

impl fmt::Debug for Scanner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scanner at {} of {}", self.at, self.text.len())
    }
}

impl<'a> Scanner<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, depth: 0, compacted: None, copied: 0, unusual: false }
    }
}

impl Scanner<'_> {
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

    fn enter(&mut self) -> Result<()> {
        self.at += 1;
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Error::data(format!("not usable JSON: nested deeper than {DEPTH_MAX} at byte {}", self.at)));
        }
        Ok(())
    }

    fn leave(&mut self) {
        self.at += 1;
        self.depth -= 1;
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Skips white space and leaves it out of the compacted text.
    fn space(&mut self) {
        let start = self.at;
        self.skip_space();
        if self.at > start {
            self.copy_until(start);
        }
    }

    /// What lies before `end` and is not copied yet goes into the compacted text; what lies between `end` and here does not.
    fn copy_until(&mut self, end: usize) -> &mut Vec<u8> {
        let compacted = self.compacted.get_or_insert_with(|| Vec::with_capacity(self.text.len()));
        compacted.extend_from_slice(&self.text[self.copied..end]);
        self.copied = self.at;
        compacted
    }

    /// Walks over a string, and writes it anew where it holds needless escapes.
    fn compact_string(&mut self) -> Result<()> {
        let start = self.at;
        self.unusual = false;
        self.string()?;
        if self.unusual {
            let text = unescape(&self.text[start + 1..self.at - 1]);
            write_text(&text, self.copy_until(start));
        }
        Ok(())
    }

    /// Walks over one value, checking and compacting.
    fn value(&mut self) -> Result<()> {
        match self.peek() {
            Some(b'{') => {
                self.enter()?;
                self.space();
                if self.peek() == Some(b'}') {
                    self.leave();
                    return Ok(());
                }
                loop {
                    self.compact_string()?;
                    self.space();
                    self.expect(b':', "':' after a field's name")?;
                    self.space();
                    self.value()?;
                    self.space();
                    match self.peek() {
                        Some(b',') => self.at += 1,
                        Some(b'}') => break self.leave(),
                        _ => return Err(self.error("',' or '}' in an object")),
                    }
                    self.space();
                }
                Ok(())
            }
            Some(b'[') => {
                self.enter()?;
                self.space();
                if self.peek() == Some(b']') {
                    self.leave();
                    return Ok(());
                }
                loop {
                    self.value()?;
                    self.space();
                    match self.peek() {
                        Some(b',') => self.at += 1,
                        Some(b']') => break self.leave(),
                        _ => return Err(self.error("',' or ']' in an array")),
                    }
                    self.space();
                }
                Ok(())
            }
            Some(b'"') => self.compact_string(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            Some(b'-' | b'0'..=b'9') => self.number().map(drop),
            _ => Err(self.error("a value")),
        }
    }

    fn word(&mut self, word: &str) -> Result<()> {
        if !self.text[self.at..].starts_with(word.as_bytes()) {
            return Err(self.error("true, false or null"));
        }
        self.at += word.len();
        Ok(())
    }

    /// Walks over a number; says whether it is an integer.
    fn number(&mut self) -> Result<bool> {
        let mut integer = true;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.error("a digit")),
        }
        if self.peek() == Some(b'.') {
            integer = false;
            self.at += 1;
            self.digits_at_least_one()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            integer = false;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits_at_least_one()?;
        }
        Ok(integer)
    }

    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn digits_at_least_one(&mut self) -> Result<()> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.error("a digit"));
        }
        self.digits();
        Ok(())
    }

    /// Walks over a string; says whether it holds escapes. Its text is UTF-8 when this returns.
    fn string(&mut self) -> Result<bool> {
        self.expect(b'"', "a string")?;
        let start = self.at;
        let (mut escaped, mut ascii) = (false, true);
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.at += 1;
                    match self.peek() {
                        Some(b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
                        Some(b'/') => {
                            self.unusual = true;
                            self.at += 1;
                        }
                        Some(b'u') => {
                            let unit = self.hex4()?;
                            let has_a_letter = matches!(unit, 0x08 | 0x09 | 0x0a | 0x0c | 0x0d);
                            let lower = self.text[self.at - 4..self.at].iter().any(u8::is_ascii_lowercase);
                            self.unusual |= unit >= 0x20 || has_a_letter || lower;
                            if (0xdc00..0xe000).contains(&unit) {
                                return Err(self.error("no lone half of a surrogate pair before this"));
                            }
                            if (0xd800..0xdc00).contains(&unit) {
                                self.expect(b'\\', "the other half of a surrogate pair")?;
                                if self.peek() != Some(b'u') || !(0xdc00..0xe000).contains(&self.hex4()?) {
                                    return Err(self.error("the other half of a surrogate pair before this"));
                                }
                            }
                        }
                        _ => return Err(self.error("an escape such as \\n or \\u0041")),
                    }
                }
                Some(0x00..=0x1f) | None => return Err(self.error("the end of a string")),
                Some(byte) => {
                    ascii &= byte < 0x80;
                    self.at += 1;
                }
            }
        }
        if !ascii && let Err(error) = std::str::from_utf8(&self.text[start..self.at]) {
            self.at = start + error.valid_up_to();
            return Err(self.error("UTF-8 text"));
        }
        self.at += 1;
        Ok(escaped)
    }

    /// Reads `uXXXX`, standing on the `u`.
    fn hex4(&mut self) -> Result<u32> {
        let mut unit = 0;
        for _ in 0..4 {
            self.at += 1;
            let digit = self.peek().and_then(|byte| (byte as char).to_digit(16));
            unit = unit * 16 + digit.ok_or_else(|| self.error("four hexadecimal digits"))?;
        }
        self.at += 1;
        Ok(unit)
    }

    fn parse_value(&mut self) -> Result<Value> {
        Ok(match self.peek() {
            Some(b'{') => {
                self.enter()?;
                let mut map = Map::with_capacity(12);
                self.skip_space();
                if self.peek() == Some(b'}') {
                    self.leave();
                    return Ok(Value::Map(map));
                }
                loop {
                    let name = self.parse_string()?;
                    self.skip_space();
                    self.expect(b':', "':' after a field's name")?;
                    self.skip_space();
                    let value = self.parse_value()?;
                    map.insert(name, value);
                    self.skip_space();
                    match self.peek() {
                        Some(b',') => self.at += 1,
                        Some(b'}') => break self.leave(),
                        _ => return Err(self.error("',' or '}' in an object")),
                    }
                    self.skip_space();
                }
                Value::Map(map)
            }
            Some(b'[') => {
                self.enter()?;
                let mut items = Vec::new();
                self.skip_space();
                if self.peek() == Some(b']') {
                    self.leave();
                    return Ok(Value::Array(items));
                }
                loop {
                    items.push(self.parse_value()?);
                    self.skip_space();
                    match self.peek() {
                        Some(b',') => self.at += 1,
                        Some(b']') => break self.leave(),
                        _ => return Err(self.error("',' or ']' in an array")),
                    }
                    self.skip_space();
                }
                Value::Array(items)
            }
            Some(b'"') => Value::String(self.parse_string()?),
            Some(b't') => self.word("true").map(|()| Value::Boolean(true))?,
            Some(b'f') => self.word("false").map(|()| Value::Boolean(false))?,
            Some(b'n') => self.word("null").map(|()| Value::Null)?,
            Some(b'-' | b'0'..=b'9') => {
                let start = self.at;
                let integer = self.number()?;
                let text = std::str::from_utf8(&self.text[start..self.at]).expect("digits are ASCII");
                number(text, integer)
            }
            _ => return Err(self.error("a value")),
        })
    }

    fn parse_string(&mut self) -> Result<String> {
        let start = self.at + 1;
        let escaped = self.string()?;
        let raw = std::str::from_utf8(&self.text[start..self.at - 1]).expect("checked by the scanner");
        Ok(if escaped { unescape(raw.as_bytes()) } else { raw.to_owned() })
    }
}

/// The text that a string's inside stands for, which the scanner has checked.
fn unescape(raw: &[u8]) -> String {
    let raw = std::str::from_utf8(raw).expect("checked by the scanner");
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let code = rest.as_bytes()[at + 1];
        rest = &rest[at + 2..];
        text.push(match code {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = |text: &str| u32::from_str_radix(&text[..4], 16).expect("checked by the scanner");
                let mut point = unit(rest);
                rest = &rest[4..];
                if (0xd800..0xdc00).contains(&point) {
                    point = 0x10000 + ((point - 0xd800) << 10) + (unit(&rest[2..]) - 0xdc00);
                    rest = &rest[6..];
                }
                char::from_u32(point).expect("the scanner paired the surrogates")
            }
            literal => literal as char,
        });
    }
    text.push_str(rest);
    text
}

/// The value of a JSON number's text, exact.
fn number(text: &str, integer: bool) -> Value {
    // "-0" is no i64: it would come out as 0.
    if integer
        && text != "-0"
        && let Ok(n) = text.parse::<i64>()
    {
        return Value::Int64(n);
    }
    match text.parse::<f64>() {
        Ok(n) if n.is_finite() && ryu_text_f64(n) == text => Value::Float64(n),
        _ => Value::Number(text.into()),
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
    fn every_number_comes_out_as_it_went_in() {
        for text in [
            "0",
            "-0",
            "12.30",
            "1e5",
            "1E400",
            "9223372036854775807",
            "18446744073709551616",
            "0.1",
            "-88.8298",
            "1.0E10",
            "100000000.5",
        ] {
            assert_eq!(to_string(&parse(text.as_bytes()).unwrap()), text);
        }
        assert_eq!(parse(b"-170.188").unwrap(), Value::Float64(-170.188));
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, message) in [
            ("{\"a\":1,}", "not JSON: at byte 7 expected a string, found '}'"),
            ("[1 2]", "not JSON: at byte 3 expected ',' or ']' in an array, found '2'"),
            ("01", "not JSON: at byte 1 expected nothing more after the value, found '1'"),
            ("\"a", "not JSON: at byte 2 expected the end of a string, found the end"),
            ("", "not JSON: at byte 0 expected a value, found the end"),
            ("nul", "not JSON: at byte 0 expected true, false or null, found 'n'"),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().to_string(), message);
            assert_eq!(compact(&Bytes::copy_from_slice(text.as_bytes())).unwrap_err().to_string(), message);
        }
        assert!(parse(b"\"\xff\"").is_err());
        assert!(parse(br#""\ud800x""#).is_err());
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn escapes_are_read_and_only_the_needed_ones_written() {
        let value = parse(br#""a\u00e9\ud83d\ude00\/\n\u0001\"""#).unwrap();
        assert_eq!(value, Value::String("aé😀/\n\u{1}\"".into()));
        assert_eq!(to_string(&value), "\"aé😀/\\n\\u0001\\\"\"");
    }

    #[test]
    fn floating_point_numbers_print_as_in_java() {
        for (n, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (100.0, "100.0"),
            (1e7, "1.0E7"),
            (1.5e-5, "1.5E-5"),
            (0.001, "0.001"),
            (0.000999, "9.99E-4"),
            (1234567.25, "1234567.25"),
            (1e300, "1.0E300"),
            (f64::MIN_POSITIVE, "2.2250738585072014E-308"),
        ] {
            assert_eq!(ryu_text_f64(n), text);
        }
        assert_eq!(ryu_text_f32(0.1), "0.1");
    }

    #[test]
    fn times_print_as_iso_8601() {
        assert_eq!(iso_timestamp(1_598_586_767_000), "2020-08-28T03:52:47Z");
        assert_eq!(iso_timestamp(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(iso_date(0), "1970-01-01");
        assert_eq!(iso_date(-719_468), "0000-03-01");
    }
}
