//! JSON text goes into columns in one walk, without a tree in between.
//!
//! The walk knows what is usual and says [`Unusual`] to everything else: a field that the columns don't have, a number that
//! does not fit, one name twice. Then the columns are cut back and the record goes the way of the tree
//! ([`Columns::append`](super::Columns::append)), which alone decides what is refused, why, and what makes columns grow. So
//! the walk can never take what the tree would not, as long as each value that it takes is the one that the tree would have.

use ottla_api::data::json;
use ottla_api::prelude::*;

use super::builders::{Bytes, offset};
use super::{Column, DOUBLE_EXACT_MAX, Fieldset, Fit, Values};

/// What the walk leaves to the tree.
#[derive(Debug)]
pub(super) struct Unusual;

type Walked<T> = Result<T, Unusual>;

/// Numbers of so many digits are exact as `i64`.
const LONG_DIGITS: usize = 18;

/// Numbers of so many digits survive as a `double`: no other number of as few digits means the same `double`, so its
/// shortest text has these digits again. (IEEE 754: a decimal of 15 digits is kept.)
const DOUBLE_DIGITS: usize = 15;

/// Powers of ten that a `double` holds exactly; a quotient of two exact numbers is rounded correctly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// Compact JSON text, and how far it is read.
#[derive(Debug)]
pub(super) struct Text<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A number as its digits: `-12.30` is 1230 with two digits after the point.
struct Digits {
    negative: bool,
    magnitude: u64,
    count: usize,
    after_point: usize,
}

impl<'a> Text<'a> {
    /// Text that [`json::compact`] has checked. Were it not UTF-8 after all, the tree would say so.
    pub(super) fn new(bytes: &'a [u8]) -> Walked<Self> {
        if !bytes.is_ascii() && std::str::from_utf8(bytes).is_err() {
            return Err(Unusual);
        }
        Ok(Self { bytes, at: 0 })
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    #[inline]
    fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    #[inline]
    fn peek(&self) -> u8 {
        // No token begins with this, so the end needs no case of its own.
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    #[inline]
    fn takes(&mut self, wanted: &[u8]) -> bool {
        let found = self.rest().starts_with(wanted);
        if found {
            self.at += wanted.len();
        }
        found
    }

    #[inline]
    fn expect(&mut self, wanted: u8) -> Walked<()> {
        if self.peek() != wanted {
            return Err(Unusual);
        }
        self.at += 1;
        Ok(())
    }

    /// True behind a comma, false behind the end of an array or object.
    #[inline]
    fn goes_on(&mut self, end: u8) -> Walked<bool> {
        let found = self.peek();
        self.at += 1;
        match found {
            b',' => Ok(true),
            found if found == end => Ok(false),
            _ => Err(Unusual),
        }
    }

    /// The inside of a string up to its end or its first escape; stands on the quote or backslash then.
    #[inline]
    fn plain(&mut self) -> Walked<&'a [u8]> {
        let rest = self.rest();
        let end = memchr::memchr2(b'"', b'\\', rest).ok_or(Unusual)?;
        self.at += end;
        Ok(&rest[..end])
    }

    /// A string without escapes.
    #[inline]
    fn string(&mut self) -> Walked<&'a [u8]> {
        self.expect(b'"')?;
        let text = self.plain()?;
        self.expect(b'"')?;
        Ok(text)
    }

    /// Appends a string with its escapes resolved.
    #[inline]
    fn string_into(&mut self, out: &mut Vec<u8>) -> Walked<()> {
        self.expect(b'"')?;
        loop {
            out.extend_from_slice(self.plain()?);
            if self.peek() == b'"' {
                self.at += 1;
                return Ok(());
            }
            let letter = match self.bytes.get(self.at + 1) {
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'b') => 0x08,
                Some(b'f') => 0x0c,
                Some(literal @ (b'"' | b'\\' | b'/')) => *literal,
                // \u: other control characters. In compact text there is nothing else that needs it.
                _ => return Err(Unusual),
            };
            out.push(letter);
            self.at += 2;
        }
    }

    /// A number without an exponent, of up to [`LONG_DIGITS`] digits.
    #[inline]
    fn digits(&mut self) -> Walked<Digits> {
        let negative = self.peek() == b'-';
        let start = self.at + usize::from(negative);
        let (mut at, mut magnitude, mut point) = (start, 0_u64, None);
        let end = loop {
            match self.bytes.get(at) {
                Some(digit @ b'0'..=b'9') => {
                    magnitude = magnitude.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
                }
                Some(b'.') if point.is_none() => point = Some(at),
                Some(b'.' | b'e' | b'E') => return Err(Unusual),
                _ => break at,
            }
            at += 1;
        };
        let count = end - start - usize::from(point.is_some());
        if count == 0 || count > LONG_DIGITS {
            return Err(Unusual);
        }
        self.at = end;
        Ok(Digits { negative, magnitude, count, after_point: point.map_or(0, |point| end - point - 1) })
    }

    #[inline]
    fn integer(&mut self) -> Walked<i64> {
        let digits = self.digits()?;
        // JSON's `-0` is not the integer 0.
        if digits.after_point > 0 || (digits.negative && digits.magnitude == 0) {
            return Err(Unusual);
        }
        let magnitude = i64::try_from(digits.magnitude).map_err(|_| Unusual)?;
        Ok(if digits.negative { -magnitude } else { magnitude })
    }

    #[inline]
    fn double(&mut self) -> Walked<f64> {
        let digits = self.digits()?;
        if digits.count > DOUBLE_DIGITS {
            return Err(Unusual);
        }
        let magnitude = digits.magnitude as f64 / POWERS.get(digits.after_point).ok_or(Unusual)?;
        Ok(if digits.negative { -magnitude } else { magnitude })
    }

    /// The unscaled number with `scale` digits after the point.
    #[inline]
    fn decimal(&mut self, precision: u8, scale: u8) -> Walked<i128> {
        let digits = self.digits()?;
        let missing = usize::from(scale).checked_sub(digits.after_point).ok_or(Unusual)?;
        let power = 10_i128.checked_pow(u32::try_from(missing).map_err(|_| Unusual)?).ok_or(Unusual)?;
        let magnitude = i128::from(digits.magnitude).checked_mul(power).ok_or(Unusual)?;
        if magnitude.unsigned_abs() >= 10_u128.pow(precision.into()) {
            return Err(Unusual);
        }
        Ok(if digits.negative { -magnitude } else { magnitude })
    }

    /// Walks over one value of any kind and returns its text.
    fn value(&mut self) -> Walked<&'a [u8]> {
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match self.peek() {
                b'"' => {
                    self.at += 1;
                    loop {
                        self.plain()?;
                        self.at += 1;
                        if self.bytes[self.at - 1] == b'"' {
                            break;
                        }
                        self.at += 1;
                        if self.at >= self.bytes.len() {
                            return Err(Unusual);
                        }
                    }
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                    continue;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1).ok_or(Unusual)?;
                    self.at += 1;
                }
                b',' | b':' if depth > 0 => {
                    self.at += 1;
                    continue;
                }
                0..=b' ' | b',' | b':' => return Err(Unusual),
                _ => {
                    let rest = self.rest();
                    let end = rest.iter().position(|byte| matches!(byte, b',' | b']' | b'}' | b'"'));
                    self.at += end.unwrap_or(rest.len());
                }
            }
            if depth == 0 {
                return Ok(&self.bytes[start..self.at]);
            }
        }
    }
}

impl Fieldset {
    /// Appends an object. On [`Unusual`], some columns may have a value more than others.
    pub(super) fn append_text(&mut self, text: &mut Text<'_>, rows: usize) -> Walked<()> {
        text.expect(b'{')?;
        let mut met = 0;
        if text.peek() == b'}' {
            text.at += 1;
        } else {
            // One more than the number of the column before.
            let mut previous = 0;
            loop {
                match self.field(text, previous)? {
                    Some(index) => {
                        let column = &mut self.columns[index];
                        // The record has this name twice.
                        if column.len() != rows {
                            return Err(Unusual);
                        }
                        column.append_text(text)?;
                        previous = index + 1;
                        met += 1;
                    }
                    None if text.takes(b"null") => {}
                    None => return Err(Unusual),
                }
                if !text.goes_on(b'}')? {
                    break;
                }
            }
        }
        if met < self.columns.len() {
            for column in &mut self.columns {
                if column.len() == rows {
                    if !column.nullable {
                        return Err(Unusual);
                    }
                    column.append(&Value::Null);
                }
            }
        }
        Ok(())
    }

    /// Reads the name of a field with its colon; says which column it has.
    #[inline]
    fn field(&mut self, text: &mut Text<'_>, previous: usize) -> Walked<Option<usize>> {
        // The column that followed last time, or with one or two left out the next but one or two.
        let mut guess = self.follows[previous];
        for _ in 0..3 {
            match self.heads.get(guess) {
                Some(head) if text.takes(head) => return Ok(Some(guess)),
                Some(_) => guess = self.follows[guess + 1],
                None => break,
            }
        }
        let start = text.at;
        let name = std::str::from_utf8(text.string()?).map_err(|_| Unusual)?;
        text.expect(b':')?;
        let found = self.index(name, previous);
        if let Some(index) = found {
            self.follows[previous] = index;
            // As records spell it, which may differ from the column's name in case.
            self.heads[index] = text.bytes[start..text.at].into();
        }
        Ok(found)
    }

    /// Takes values away until all columns have `rows` of them.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.columns.iter_mut().for_each(|column| column.truncate(rows));
    }
}

impl Column {
    #[inline]
    fn append_text(&mut self, text: &mut Text<'_>) -> Walked<()> {
        if text.peek() == b'n' {
            return self.append_text_null(text);
        }
        let start = text.at;
        let appended = match &mut self.values {
            Values::String(texts) => append_string(texts, text),
            Values::Long(numbers) => text.integer().and_then(|n| {
                // Whether a column that may become one of doubles holds such a number is the tree's to note.
                if !self.fixed && n.unsigned_abs() > DOUBLE_EXACT_MAX {
                    return Err(Unusual);
                }
                numbers.append(n);
                Ok(())
            }),
            Values::Double(numbers) => text.double().map(|n| numbers.append(n)),
            Values::Boolean(values) => {
                let value = match text.peek() {
                    b't' if text.takes(b"true") => true,
                    b'f' if text.takes(b"false") => false,
                    _ => return Err(Unusual),
                };
                values.append_option(Some(value));
                Ok(())
            }
            Values::Timestamp(instants) => text.string().and_then(|found| {
                instants.append(timestamp(found).ok_or(Unusual)?);
                Ok(())
            }),
            Values::Date(days) => text.string().and_then(|found| {
                days.append(date(found).ok_or(Unusual)?);
                Ok(())
            }),
            Values::Decimal { precision, scale, builder } => {
                text.decimal(*precision, *scale).map(|unscaled| builder.append(unscaled))
            }
            Values::Integer(numbers) => narrow(text).map(|n| numbers.append(n)),
            Values::Short(numbers) => narrow(text).map(|n| numbers.append(n)),
            Values::Byte(numbers) => narrow(text).map(|n| numbers.append(n)),
            Values::Float(numbers) => text.double().map(|n| numbers.append(n as f32)),
            Values::Array { items, offsets, nulls } => {
                append_items(items, text)?;
                offsets.push(offset(items.len()));
                nulls.append_non_null();
                return Ok(());
            }
            Values::Struct { fields, nulls } => {
                fields.append_text(text, nulls.len())?;
                nulls.append_non_null();
                return Ok(());
            }
            Values::Map { .. } => Err(Unusual),
            Values::Unknown(_) | Values::Binary(_) => return Err(Unusual),
        };
        appended.or_else(|Unusual| {
            text.at = start;
            self.append_parsed(text)
        })
    }

    #[cold]
    fn append_text_null(&mut self, text: &mut Text<'_>) -> Walked<()> {
        if !self.nullable || !text.takes(b"null") {
            return Err(Unusual);
        }
        self.append(&Value::Null);
        Ok(())
    }

    /// A single value by way of a tree: maps, numbers with an exponent or many digits, texts with rare escapes, times with offsets.
    fn append_parsed(&mut self, text: &mut Text<'_>) -> Walked<()> {
        let length = self.len();
        self.truncate(length);
        let value = json::parse(text.value()?).map_err(|_| Unusual)?;
        match self.check(&value, false) {
            Ok(Fit::AsIs) => {
                self.append(&value);
                Ok(())
            }
            _ => Err(Unusual),
        }
    }

    /// Takes values away until `length` are left. What is inside of a value that was begun and not ended goes, too.
    fn truncate(&mut self, length: usize) {
        match &mut self.values {
            Values::Unknown(rows) => *rows = (*rows).min(length),
            Values::Boolean(values) => values.truncate(length),
            Values::Byte(values) => values.truncate(length),
            Values::Short(values) => values.truncate(length),
            Values::Integer(values) => values.truncate(length),
            Values::Long(values) => values.truncate(length),
            Values::Float(values) => values.truncate(length),
            Values::Double(values) => values.truncate(length),
            Values::String(values) | Values::Binary(values) => values.truncate(length),
            Values::Date(values) => values.truncate(length),
            Values::Timestamp(values) => values.truncate(length),
            Values::Decimal { builder, .. } => builder.truncate(length),
            Values::Array { items, offsets, nulls } => {
                items.truncate(cut_offsets(offsets, length));
                nulls.truncate(length);
            }
            Values::Map { keys, values, offsets, nulls } => {
                let inside = cut_offsets(offsets, length);
                keys.truncate(inside);
                values.truncate(inside);
                nulls.truncate(length);
            }
            Values::Struct { fields, nulls } => {
                fields.truncate(length);
                nulls.truncate(length);
            }
        }
    }
}

/// How many items the lists that are left have.
fn cut_offsets(offsets: &mut Vec<i32>, length: usize) -> usize {
    offsets.truncate(length + 1);
    offsets.last().map_or(0, |end| usize::try_from(*end).unwrap_or(0))
}

#[inline]
fn append_string(texts: &mut Bytes, text: &mut Text<'_>) -> Walked<()> {
    match text.peek() {
        b'"' => {
            text.string_into(texts.open_value())?;
            texts.end_value();
            Ok(())
        }
        // A number keeps its digits.
        b'-' | b'0'..=b'9' => {
            texts.append(text.value()?);
            Ok(())
        }
        _ => Err(Unusual),
    }
}

fn append_items(items: &mut Column, text: &mut Text<'_>) -> Walked<()> {
    text.expect(b'[')?;
    if text.peek() == b']' {
        text.at += 1;
        return Ok(());
    }
    loop {
        items.append_text(text)?;
        if !text.goes_on(b']')? {
            return Ok(());
        }
    }
}

#[inline]
fn narrow<T: TryFrom<i64>>(text: &mut Text<'_>) -> Walked<T> {
    T::try_from(text.integer()?).map_err(|_| Unusual)
}

/// Days since the epoch of `2020-08-28`.
fn date(text: &[u8]) -> Option<i32> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else { return None };
    let (century, rest) = (two(*y1, *y2)?, two(*y3, *y4)?);
    let (year, month, day) = (century * 100 + rest, two(*m1, *m2)?, two(*d1, *d2)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=days).contains(&day) {
        return None;
    }
    // The year begins in March, so that the day that leap years have more comes last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let before = year.div_euclid(400) * 146_097;
    let year = year.rem_euclid(400);
    Some(before + year * 365 + year / 4 - year / 100 + (153 * month + 2) / 5 + day - 1 - 719_468)
}

/// Microseconds since the epoch of `2020-08-28T03:52:47.5Z`, with up to six digits of the second; the `Z` may be missing.
fn timestamp(text: &[u8]) -> Option<i64> {
    let (day, time) = text.split_at_checked(10)?;
    if day.starts_with(b"9999") {
        // The last day is beyond the calendar that the tree goes by.
        return None;
    }
    let [b'T' | b' ', h1, h2, b':', m1, m2, b':', s1, s2, rest @ ..] = time else { return None };
    let (hour, minute, second) = (two(*h1, *h2)?, two(*m1, *m2)?, two(*s1, *s2)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let fraction = rest.strip_suffix(b"Z").unwrap_or(rest);
    let micros = match fraction {
        [] => 0,
        [b'.', digits @ ..] if (1..=6).contains(&digits.len()) => {
            let mut micros = 0_i64;
            for place in 0..6 {
                let digit =
                    digits.get(place).map_or(Some(0), |digit| digit.checked_sub(b'0').filter(|digit| *digit < 10));
                micros = micros * 10 + i64::from(digit?);
            }
            micros
        }
        _ => return None,
    };
    let seconds = i64::from(date(day)?) * 86_400 + i64::from(hour * 3600 + minute * 60 + second);
    Some(seconds * 1_000_000 + micros)
}

/// Two digits as a number.
#[inline]
fn two(tens: u8, ones: u8) -> Option<i32> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i32::from(tens) * 10 + i32::from(ones))
}

#[cfg(test)]
mod tests {
    use arrow::array::RecordBatch;
    use proptest::prelude::*;

    use super::super::Columns;
    use super::*;
    use crate::schema::parse_ddl;

    /// Every kind of column, with names that records also spell in other ways.
    const ALL: &str = "i8 byte, i16 short, i32 int, i64 long, r float, f double, s string, t timestamp, d date, n decimal(6,2), \
                       b boolean, l array<int>, o struct<x:long,y:string not null>, m map<string,long>, bin binary, \
                       ls array<struct<a:string,b:double>>";

    /// What columns hold after some records, and what they said to each.
    fn taken(ddl: &str, grows: bool, records: &[String], by_text: bool) -> (Vec<String>, String, RecordBatch) {
        let fields = if ddl.is_empty() { Vec::new() } else { parse_ddl(ddl).unwrap() };
        let mut columns = Columns::new(&fields, grows);
        let mut said = Vec::new();
        for record in records {
            let taken = if by_text {
                columns.append_text(record.as_bytes())
            } else {
                json::parse(record.as_bytes()).and_then(|value| columns.append(None, &value))
            };
            said.push(taken.map_or_else(|error| error.to_string(), |()| "taken".to_owned()));
        }
        let fields = format!("{:?}", columns.fields());
        (said, fields, columns.finish(true).unwrap())
    }

    fn assert_same(ddl: &str, grows: bool, records: &[String]) {
        let (by_tree, by_text) = (taken(ddl, grows, records, false), taken(ddl, grows, records, true));
        assert_eq!(by_text.0, by_tree.0, "{records:#?}");
        assert_eq!(by_text.1, by_tree.1, "{records:#?}");
        assert_eq!(by_text.2, by_tree.2, "{records:#?}");
    }

    /// JSON text as `json::compact` leaves it.
    fn scalar() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("null".to_owned()),
            any::<bool>().prop_map(|value| value.to_string()),
            (-200_i64..200).prop_map(|n| n.to_string()),
            any::<i64>().prop_map(|n| n.to_string()),
            any::<i32>().prop_map(|n| n.to_string()),
            (any::<i32>(), 0_u32..5).prop_map(|(n, zeros)| format!(
                "{}.{:0zeros$}{}",
                n,
                0,
                n % 7 + 7,
                zeros = zeros as usize
            )),
            any::<f64>().prop_filter("JSON has no such number", |n| n.is_finite()).prop_map(|n| format!("{n:?}")),
            any::<f32>().prop_filter("JSON has no such number", |n| n.is_finite()).prop_map(|n| format!("{n}")),
            "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
            prop::sample::select(vec![
                "-0",
                "0",
                "-0.0",
                "0.00",
                "12.30",
                "1E400",
                "9007199254740992",
                "9007199254740993",
                "-9223372036854775808",
                "9223372036854775808",
                "123456789012345",
                "1234567890123456",
                "0.1",
                "1e2",
                "100000.000",
                "9999.99",
                "10000.00",
                "-1234.5",
                "3.4028236e38",
            ])
            .prop_map(str::to_owned),
            prop::sample::select(vec![
                "2020-08-28",
                "2020-02-29",
                "2021-02-29",
                "1900-02-29",
                "2000-02-29",
                "0000-03-01",
                "2020-13-01",
                "2020-00-10",
                "2020-08-28T03:52:47Z",
                "2020-08-28 03:52:47.5",
                "2020-08-28T03:52:47.123456Z",
                "2020-08-28T03:52:47.1234567Z",
                "2020-08-28T03:52:47+02:00",
                "2020-08-28T24:00:00Z",
                "2020-08-28T23:59:60Z",
                "1969-12-31T23:59:59.999999",
                "2020-08-28T03:52Z",
                "2020-08-28T03:52:47.",
                "2020-08-28t03:52:47z",
                "1600-01-01T00:00:00",
                "2020-08-28T03:52:47 ",
                "0001-01-01 00:00:00",
                "9999-12-31T23:59:59Z",
            ])
            .prop_map(|text| format!("\"{text}\"")),
            (0_i32..10_000, 1_i32..13, 1_i32..32, 0_i32..24, 0_i32..60).prop_map(|(year, month, day, hour, minute)| {
                format!("\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:07Z\"")
            }),
            ".{0,12}".prop_map(|text| json::to_string(&Value::String(text))),
            prop::sample::select(vec![
                r#""""#,
                r#""\u001F\u0000""#,
                r#""a\"b\\""#,
                r#""caf\u00e9 \ud83d\ude00 \/""#,
                r#""\n\t""#
            ])
            .prop_map(str::to_owned),
        ]
    }

    fn name() -> impl Strategy<Value = String> {
        prop::sample::select(vec![
            "i8", "i16", "i32", "i64", "r", "f", "s", "t", "d", "n", "b", "l", "o", "m", "bin", "ls", "x", "y", "a",
            "I64", "S", "new", "né", "NÉ", "q\\\"q", "",
        ])
        .prop_map(|name| format!("\"{name}\""))
    }

    fn value() -> impl Strategy<Value = String> {
        scalar().prop_recursive(3, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
                object(inner),
            ]
        })
    }

    fn object(values: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
        prop::collection::vec((name(), values), 0..7).prop_map(|fields| {
            let fields: Vec<String> = fields.into_iter().map(|(name, value)| format!("{name}:{value}")).collect();
            format!("{{{}}}", fields.join(","))
        })
    }

    /// Objects whose fields mostly fit the columns that are called so.
    fn fitting() -> impl Strategy<Value = String> {
        let item = (any::<i16>(), ".{0,5}")
            .prop_map(|(n, text)| format!("{{\"b\":{n}.5,\"a\":{}}}", json::to_string(&Value::String(text))));
        let fields = (
            prop::option::of(any::<i8>().prop_map(|n| format!("\"i8\":{n}"))),
            prop::option::of(any::<i64>().prop_map(|n| format!("\"i64\":{n}"))),
            prop::option::of((any::<i32>(), 0_u32..100).prop_map(|(n, cents)| format!("\"f\":{n}.{cents}"))),
            prop::option::of(".{0,20}".prop_map(|text| format!("\"s\":{}", json::to_string(&Value::String(text))))),
            prop::option::of((-999_i32..999, 0_u32..100).prop_map(|(n, cents)| format!("\"n\":{n}.{cents:02}"))),
            prop::option::of(
                prop::collection::vec(any::<i32>(), 0..4).prop_map(|items| format!("\"l\":{items:?}").replace(' ', "")),
            ),
            prop::option::of(any::<i64>().prop_map(|n| format!("\"o\":{{\"y\":\"{n}\",\"x\":{n}}}"))),
            prop::option::of(any::<i64>().prop_map(|n| format!("\"m\":{{\"k\":{n},\"j\":null,\"k\":1}}"))),
            prop::option::of(
                prop::collection::vec(item, 0..3).prop_map(|items| format!("\"ls\":[{}]", items.join(","))),
            ),
            prop::option::of((name(), value()).prop_map(|(name, value)| format!("{name}:{value}"))),
        );
        (fields, any::<prop::sample::Index>()).prop_map(|((a, b, c, d, e, f, g, h, i, j), turn)| {
            let mut fields: Vec<String> = [a, b, c, d, e, f, g, h, i, j].into_iter().flatten().collect();
            if !fields.is_empty() {
                let middle = turn.index(fields.len());
                fields.rotate_left(middle);
            }
            format!("{{{}}}", fields.join(","))
        })
    }

    fn record() -> impl Strategy<Value = String> {
        prop_oneof![5 => fitting(), 3 => object(value()), 1 => value()]
    }

    proptest! {
        /// The walk and the tree fill the same columns and refuse the same records with the same words.
        #[test]
        fn text_and_tree_agree(records in prop::collection::vec(record(), 1..12), grows: bool, bare: bool) {
            assert_same(if bare { "" } else { ALL }, grows, &records);
        }

        #[test]
        fn text_and_tree_agree_on_single_values(values in prop::collection::vec((0_usize..16, scalar()), 1..20)) {
            let names = ["i8", "i16", "i32", "i64", "r", "f", "s", "t", "d", "n", "b", "l", "o", "m", "bin", "ls"];
            let records: Vec<String> = values.iter().map(|(at, value)| format!("{{\"{}\":{value}}}", names[*at])).collect();
            assert_same(ALL, true, &records);
        }

        /// Whatever it is given, the walk takes it or leaves it.
        #[test]
        fn what_is_no_json_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..40), text in record(), cut: prop::sample::Index) {
            let mut columns = Columns::new(&parse_ddl(ALL).unwrap(), true);
            let _ = columns.append_text(&bytes);
            let cut = &text.as_bytes()[..cut.index(text.len())];
            if json::parse(cut).is_err() {
                assert!(columns.append_text(cut).is_err());
            }
        }
    }

    #[test]
    fn the_usual_record_needs_no_tree() {
        let mut columns = Columns::new(&parse_ddl(ALL).unwrap(), true);
        for record in [
            r#"{"i8":1,"i16":-2,"i32":3,"i64":-9007199254740993,"r":1.5,"f":12.30,"s":"a\nb","t":"2020-08-28T03:52:47.5Z"}"#,
            r#"{"S":"other case","f":5,"n":-12.3,"b":true,"gone":null,"l":[1,null],"o":{"y":"z"},"ls":[{"b":1},{}]}"#,
            r#"{"s":12.30,"m":{"a":1},"d":"2020-08-28","f":1e-7,"s2":null,"l":[],"bin":null}"#,
            "{}",
        ] {
            let rows = columns.rows;
            let mut text = Text::new(record.as_bytes()).unwrap();
            assert!(columns.root.append_text(&mut text, rows).is_ok() && text.is_at_end(), "{record}");
            columns.rows += 1;
        }
        assert_eq!(columns.finish(true).unwrap().num_rows(), 4);
    }

    #[test]
    fn an_order_of_fields_is_learnt() {
        let mut columns = Columns::new(&parse_ddl("a long, b long, c long, d long, e long").unwrap(), true);
        for _ in 0..2 {
            columns.append_text(br#"{"E":1,"d":2,"a":3,"c":4}"#).unwrap();
        }
        assert_eq!(columns.root.follows, [4, 1, 2, 3, 0, 3]);
        assert_eq!(&*columns.root.heads[4], br#""E":"#);
        assert_eq!(columns.rows(), 2);
    }
}
