//! JSON numbers: read so that they can be written as they were, and written as Java prints them.

use super::scan::{block, digits_end};
use crate::data::Value;

/// Powers of ten that a double holds exactly.
const POWERS_OF_TEN: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Reads the number that begins at `at`, and says where it ends. Nothing where the text is no number (RFC 8259, section 6).
///
/// What is read prints as the text that it was read from: see [`super::parse()`].
#[inline]
pub(super) fn read(text: &str, at: usize) -> Option<(Value, usize)> {
    let bytes = text.as_bytes();
    let negative = bytes.get(at) == Some(&b'-');
    let first = at + usize::from(negative);
    let whole_end = digits_end(bytes, first);
    let whole_length = whole_end - first;
    if whole_length == 0 || (bytes[first] == b'0' && whole_length > 1) {
        return None;
    }
    match bytes.get(whole_end) {
        Some(b'.') => {
            let end = digits_end(bytes, whole_end + 1);
            if end == whole_end + 1 {
                return None;
            }
            if matches!(bytes.get(end), Some(b'e' | b'E')) {
                return read_exponent(text, at, end);
            }
            let value = short_decimal(negative, &bytes[first..whole_end], &bytes[whole_end + 1..end]);
            Some((value.unwrap_or_else(|| decimal(&text[at..end])), end))
        }
        Some(b'e' | b'E') => read_exponent(text, at, whole_end),
        // "-0" is no i64: it would come out as 0.
        _ if whole_length <= 18 && !(negative && bytes[first] == b'0') => {
            let n = integer(&bytes[first..whole_end]) as i64;
            Some((Value::Int64(if negative { -n } else { n }), whole_end))
        }
        _ => {
            let text = &text[at..whole_end];
            let value = match text.parse() {
                Ok(n) if n != 0 => Value::Int64(n),
                _ => Value::Number(text.into()),
            };
            Some((value, whole_end))
        }
    }
}

/// Goes on with a number whose exponent begins at `exponent`.
#[cold]
fn read_exponent(text: &str, at: usize, exponent: usize) -> Option<(Value, usize)> {
    let bytes = text.as_bytes();
    let first = exponent + 1 + usize::from(matches!(bytes.get(exponent + 1), Some(b'+' | b'-')));
    let end = digits_end(bytes, first);
    (end > first).then(|| (decimal(&text[at..end]), end))
}

/// The number that up to 18 digits stand for.
#[inline(always)]
fn integer(digits: &[u8]) -> u64 {
    let (mut n, mut at) = (0, 0);
    while let Some(eight) = block::<8>(digits, at) {
        n = n * 100_000_000 + eight_digits(u64::from_le_bytes(*eight));
        at += 8;
    }
    digits[at..].iter().fold(n, |n, digit| n * 10 + u64::from(digit - b'0'))
}

/// The number that eight digits stand for, first digit lowest: pairs of digits are put together, then pairs of those, twice.
#[inline(always)]
fn eight_digits(digits: u64) -> u64 {
    let ones = digits - 0x3030_3030_3030_3030;
    let twos = (ones * 10 + (ones >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (twos * 100 + (twos >> 16)) & 0x0000_ffff_0000_ffff;
    (fours * 10_000 + (fours >> 32)) & 0xffff_ffff
}

/// A double for the usual number: at most 15 digits, laid out as Java would.
///
/// Two decimals of at most 15 digits are never the same double, so the shortest text of the double is this one, and nobody
/// has to print it to know. The division is exact, because neither side of it is rounded and it is rounded once.
#[inline(always)]
fn short_decimal(negative: bool, whole: &[u8], fraction: &[u8]) -> Option<Value> {
    // Java goes over to exponents at 10^7 and below 10^-3, and writes no zeros at the end but one where the fraction is zero.
    if whole.len() > 7
        || whole.len() + fraction.len() > 15
        || (fraction[fraction.len() - 1] == b'0' && fraction.len() > 1)
        || (whole == b"0" && fraction.starts_with(b"000"))
    {
        return None;
    }
    let power = POWERS_OF_TEN[fraction.len()];
    let digits = integer(whole) * power as u64 + integer(fraction);
    let n = digits as f64 / power;
    Some(Value::Float64(if negative { -n } else { n }))
}

/// A double where its text is this text, else the text.
fn decimal(text: &str) -> Value {
    match text.parse::<f64>() {
        Ok(n) if n.is_finite() && prints_as(n, text.as_bytes()) => Value::Float64(n),
        _ => Value::Number(text.into()),
    }
}

fn prints_as(n: f64, text: &[u8]) -> bool {
    if is_plain(n) {
        return zmij::Buffer::new().format_finite(n).as_bytes() == text;
    }
    let mut printed = Vec::with_capacity(32);
    write_f64(n, &mut printed);
    printed == text
}

/// Appends an integer.
#[inline]
pub(super) fn write_integer(n: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// Appends a finite double as Java's `Double.toString` prints it.
#[inline]
pub(super) fn write_f64(n: f64, out: &mut Vec<u8>) {
    write_java(is_plain(n), zmij::Buffer::new().format_finite(n), out);
}

/// Appends a finite float as Java's `Float.toString` prints it.
#[inline]
pub(super) fn write_f32(n: f32, out: &mut Vec<u8>) {
    write_java(is_plain(n.into()), zmij::Buffer::new().format_finite(n), out);
}

/// A double as Java's `Double.toString` prints it: `0.1`, `1.0`, `1.0E10`, `1.5E-5`, `NaN`, `Infinity`.
pub fn text_of_f64(n: f64) -> String {
    match name_of_f64(n) {
        Some(name) => name.to_owned(),
        None => text(|out| write_f64(n, out)),
    }
}

/// A float as Java's `Float.toString` prints it.
pub fn text_of_f32(n: f32) -> String {
    match name_of_f64(n.into()) {
        Some(name) => name.to_owned(),
        None => text(|out| write_f32(n, out)),
    }
}

fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut text = Vec::with_capacity(32);
    write(&mut text);
    String::from_utf8(text).expect("digits are ASCII")
}

/// Java's word for what is no finite number.
#[inline]
pub(super) fn name_of_f64(n: f64) -> Option<&'static str> {
    if n.is_finite() {
        None
    } else if n.is_nan() {
        Some("NaN")
    } else {
        Some(if n > 0.0 { "Infinity" } else { "-Infinity" })
    }
}

/// True where Java writes no exponent.
#[inline(always)]
fn is_plain(n: f64) -> bool {
    (1e-3..1e7).contains(&n.abs()) || n == 0.0
}

/// Appends the shortest digits in Java's layout: plain within 10^-3..10^7, one digit before the point and `E` outside.
#[inline(always)]
fn write_java(plain: bool, shortest: &str, out: &mut Vec<u8>) {
    if plain {
        // The two layouts differ outside of this range only.
        out.extend_from_slice(shortest.as_bytes());
    } else {
        write_java_exponent(shortest, out);
    }
}

#[cold]
fn write_java_exponent(shortest: &str, out: &mut Vec<u8>) {
    let body = shortest.strip_prefix('-').unwrap_or(shortest);
    let (mantissa, exponent) = body.split_once('e').unwrap_or((body, "0"));
    let exponent: i32 = exponent.parse().expect("a decimal exponent");
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    let leading = digits().take_while(|digit| *digit == b'0').count();
    let trailing = digits().rev().take_while(|digit| *digit == b'0').count();
    let significant = whole.len() + fraction.len() - leading - trailing;
    let mut significant = digits().skip(leading).take(significant);
    if body.len() < shortest.len() {
        out.push(b'-');
    }
    out.extend(significant.next());
    out.push(b'.');
    match significant.next() {
        None => out.push(b'0'),
        Some(second) => out.extend([second].into_iter().chain(significant)),
    }
    out.push(b'E');
    // The point stands behind the whole digits, of which some may be zeros in front: 0.00012 is 1.2E-4.
    write_integer(i64::from(exponent) + whole.len() as i64 - leading as i64 - 1, out);
}

#[cfg(test)]
mod tests {
    use super::super::{parse, to_string};
    use super::*;

    #[test]
    fn every_number_comes_out_as_it_went_in() {
        for text in [
            "0",
            "-0",
            "0.0",
            "-0.0",
            "0.00",
            "7",
            "-12345678",
            "123456789",
            "12.30",
            "0.001",
            "0.0001",
            "0.00010",
            "9999999.5",
            "10000000.5",
            "1e5",
            "1E400",
            "999999999999999999",
            "-9223372036854775808",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551616",
            "0.1",
            "-88.8298",
            "1.0E10",
            "100000000.5",
            "73.98765432101234",
            "0.12345678901234567890",
            "1234567.12345678",
        ] {
            assert_eq!(to_string(&parse(text.as_bytes()).unwrap()), text);
        }
        assert_eq!(parse(b"-170.188").unwrap(), Value::Float64(-170.188));
        assert_eq!(parse(b"73.98765432101234").unwrap(), Value::Float64(73.98765432101234));
        assert_eq!(parse(b"1.0E10").unwrap(), Value::Float64(1e10));
        assert_eq!(parse(b"-9223372036854775808").unwrap(), Value::Int64(i64::MIN));
        assert_eq!(parse(b"12.30").unwrap(), Value::Number("12.30".into()));
    }

    #[test]
    fn short_decimals_are_what_the_general_way_makes_of_them() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..200_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let (whole, length) = (state % 10u64.pow((state >> 32) as u32 % 8), 1 + (state >> 40) as usize % 11);
            let fraction = (state >> 20) % 10u64.pow(length as u32);
            let text = format!("{}{whole}.{fraction:0length$}", if state & 1 == 0 { "" } else { "-" });
            let (found, end) = read(&text, 0).unwrap();
            assert_eq!((&found, end), (&decimal(&text), text.len()), "{text}");
        }
    }

    #[test]
    fn floating_point_numbers_print_as_in_java() {
        for (n, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (100.0, "100.0"),
            (9999999.0, "9999999.0"),
            (1e7, "1.0E7"),
            (-12345678.9, "-1.23456789E7"),
            (1.5e-5, "1.5E-5"),
            (0.001, "0.001"),
            (0.000999, "9.99E-4"),
            (1234567.25, "1234567.25"),
            (1e15, "1.0E15"),
            (1e16, "1.0E16"),
            (1e300, "1.0E300"),
            (f64::MIN_POSITIVE, "2.2250738585072014E-308"),
            (f64::MAX, "1.7976931348623157E308"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(text_of_f64(n), text);
        }
        assert_eq!(text_of_f32(0.1), "0.1");
        assert_eq!(text_of_f32(0.001), "0.001");
        assert_eq!(text_of_f32(1.5e10), "1.5E10");
        assert_eq!(text_of_f32(f32::NAN), "NaN");
    }
}
