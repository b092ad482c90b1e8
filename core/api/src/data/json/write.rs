//! Values as compact JSON text.

use super::number::{name_of_f64, write_f32, write_f64, write_integer};
use super::scan::plain_end;
use super::time::{iso_date, iso_time, iso_timestamp};
use crate::data::Value;

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
        Value::Float32(n) => match name_of_f64((*n).into()) {
            None => write_f32(*n, out),
            Some(name) => write_text(name, out),
        },
        Value::Float64(n) => match name_of_f64(*n) {
            None => write_f64(*n, out),
            Some(name) => write_text(name, out),
        },
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

#[inline]
fn write_fields<'a>(fields: impl Iterator<Item = (&'a str, &'a Value)>, options: &WriteOptions, out: &mut Vec<u8>) {
    out.push(b'{');
    let mut separator = None;
    for (name, value) in fields {
        out.extend(separator);
        separator = Some(b',');
        write_text(name, out);
        out.push(b':');
        write_with(value, options, out);
    }
    out.push(b'}');
}

fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    use base64::Engine as _;
    write_text(&base64::engine::general_purpose::STANDARD.encode(bytes), out);
}

/// Appends a JSON string: quoted, with only quotes, backslashes and control characters escaped.
#[inline]
pub fn write_text(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let end = plain_end(bytes, 0);
    out.extend_from_slice(&bytes[..end]);
    if end < bytes.len() {
        write_escapes(&bytes[end..], out);
    }
    out.push(b'"');
}

/// Appends the rest of a string, from the first byte on that must be escaped.
#[inline(never)]
fn write_escapes(mut bytes: &[u8], out: &mut Vec<u8>) {
    while let Some((first, rest)) = bytes.split_first() {
        match first {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            control => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                let (high, low) = (HEX[usize::from(control >> 4)], HEX[usize::from(control & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
        let end = plain_end(rest, 0);
        out.extend_from_slice(&rest[..end]);
        bytes = &rest[end..];
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn escapes_are_read_and_only_the_needed_ones_written() {
        let value = parse(br#""a\u00e9\ud83d\ude00\/\n\u0001\"""#).unwrap();
        assert_eq!(value, Value::String("aé😀/\n\u{1}\"".into()));
        assert_eq!(to_string(&value), "\"aé😀/\\n\\u0001\\\"\"");
    }

    #[test]
    fn every_letter_is_read_as_it_was_written() {
        let all: String = (0..0x300).filter_map(char::from_u32).collect();
        let text = to_string(&Value::from(all.as_str()));
        assert!(
            text.starts_with(r#""\u0000\u0001\u0002\u0003\u0004\u0005\u0006\u0007\b\t\n\u000B\f\r\u000E\u000F\u0010"#)
        );
        assert_eq!(parse(text.as_bytes()).unwrap(), Value::String(all));
    }
}
