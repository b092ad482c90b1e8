//! The protocol's other writing: CBOR, translated to and from what the JSON would be.
//!
//! Two things differ from a plain translation. Blobs are byte strings, where JSON has base64. Timestamps carry tag 1 with
//! milliseconds, as the AWS SDKs for Java write and expect them, where JSON has seconds.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::de::Error as _;
use serde_json::{Map, Number, Value};

/// Nothing in the API nests deeper than five.
const DEPTH_MAX: usize = 16;
const TAG_TIME: u64 = 1;
const BREAK: u8 = 0xff;

/// Members that are blobs, and members that are times, wherever they occur in answers.
const BLOBS: &[&str] = &["Data"];
const TIMES: &[&str] = &["ApproximateArrivalTimestamp", "StreamCreationTimestamp", "ConsumerCreationTimestamp"];

/// Reads one item and nothing behind it.
pub(super) fn decode(bytes: &[u8]) -> serde_json::Result<Value> {
    let mut reader = Reader { rest: bytes };
    let value = if bytes.is_empty() { Value::Object(Map::new()) } else { reader.item(0)? };
    if reader.rest.is_empty() { Ok(value) } else { Err(damaged("bytes follow the value")) }
}

fn damaged(what: &str) -> serde_json::Error {
    serde_json::Error::custom(format!("the body is not CBOR that Kinesis knows: {what}"))
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: u64) -> serde_json::Result<&'a [u8]> {
        let n = usize::try_from(n).ok().filter(|n| *n <= self.rest.len()).ok_or_else(|| damaged("it ends early"))?;
        let (taken, rest) = self.rest.split_at(n);
        self.rest = rest;
        Ok(taken)
    }

    /// Major type, and the argument, which is missing where the length is open.
    fn head(&mut self) -> serde_json::Result<(u8, u8, Option<u64>)> {
        let first = self.take(1)?[0];
        let (major, info) = (first >> 5, first & 0x1f);
        let argument = match info {
            0..=23 => Some(u64::from(info)),
            24..=27 => Some(self.take(1 << (info - 24))?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))),
            31 => None,
            _ => return Err(damaged("a reserved length")),
        };
        Ok((major, info, argument))
    }

    fn at_break(&mut self) -> bool {
        let found = self.rest.first() == Some(&BREAK);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    /// The bytes of a string, in one piece or in several.
    fn string(&mut self, major: u8, length: Option<u64>) -> serde_json::Result<Vec<u8>> {
        if let Some(length) = length {
            return Ok(self.take(length)?.to_vec());
        }
        let mut whole = Vec::new();
        while !self.at_break() {
            match self.head()? {
                (part, _, Some(length)) if part == major => whole.extend_from_slice(self.take(length)?),
                _ => return Err(damaged("a string of something else")),
            }
        }
        Ok(whole)
    }

    fn item(&mut self, depth: usize) -> serde_json::Result<Value> {
        if depth > DEPTH_MAX {
            return Err(damaged("it nests too deep"));
        }
        let (major, info, argument) = self.head()?;
        let known = || argument.ok_or_else(|| damaged("an open length where none can be"));
        Ok(match major {
            0 => known()?.into(),
            1 => i64::try_from(known()?)
                .map_err(|_| damaged("a number out of range"))?
                .wrapping_neg()
                .wrapping_sub(1)
                .into(),
            2 => BASE64_STANDARD.encode(self.string(2, argument)?).into(),
            3 => String::from_utf8(self.string(3, argument)?).map_err(|_| damaged("text that is not UTF-8"))?.into(),
            4 => {
                let mut items = Vec::new();
                while argument.map_or_else(|| !self.at_break(), |length| (items.len() as u64) < length) {
                    items.push(self.item(depth + 1)?);
                }
                items.into()
            }
            5 => {
                let (mut members, mut read) = (Map::new(), 0);
                while argument.map_or_else(|| !self.at_break(), |length| read < length) {
                    let Value::String(name) = self.item(depth + 1)? else {
                        return Err(damaged("a name that is no text"));
                    };
                    let value = self.item(depth + 1)?;
                    members.insert(name, value);
                    read += 1;
                }
                members.into()
            }
            6 => {
                let tag = known()?;
                let value = self.item(depth + 1)?;
                match value.as_i64() {
                    Some(ms) if tag == TAG_TIME => float(ms as f64 / 1000.0)?,
                    _ => value,
                }
            }
            _ => match (info, argument) {
                (20, _) => false.into(),
                (21, _) => true.into(),
                (22 | 23, _) => Value::Null,
                (26, Some(bits)) => float(f64::from(f32::from_bits(bits as u32)))?,
                (27, Some(bits)) => float(f64::from_bits(bits))?,
                _ => return Err(damaged("a simple value that means nothing")),
            },
        })
    }
}

fn float(value: f64) -> serde_json::Result<Value> {
    Number::from_f64(value).map(Value::Number).ok_or_else(|| damaged("a number that is none"))
}

/// Writes what would be this JSON.
pub(super) fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes, value, None);
    bytes
}

fn write(out: &mut Vec<u8>, value: &Value, member: Option<&str>) {
    let is_one_of = |names: &[&str]| member.is_some_and(|member| names.contains(&member));
    match value {
        Value::Null => out.push(0xf6),
        Value::Bool(value) => out.push(0xf4 + u8::from(*value)),
        Value::Number(number) => {
            if is_one_of(TIMES) {
                head(out, 6, TAG_TIME);
                head(out, 0, super::wire::milliseconds(number.as_f64().unwrap_or_default()));
            } else if let Some(value) = number.as_u64() {
                head(out, 0, value);
            } else if let Some(value) = number.as_i64() {
                head(out, 1, !value as u64);
            } else {
                out.push(0xfb);
                out.extend_from_slice(&number.as_f64().unwrap_or_default().to_be_bytes());
            }
        }
        Value::String(text) => match is_one_of(BLOBS).then(|| BASE64_STANDARD.decode(text)) {
            Some(Ok(blob)) => {
                head(out, 2, blob.len() as u64);
                out.extend_from_slice(&blob);
            }
            _ => string(out, text),
        },
        Value::Array(items) => {
            head(out, 4, items.len() as u64);
            items.iter().for_each(|item| write(out, item, None));
        }
        Value::Object(members) => {
            head(out, 5, members.len() as u64);
            for (name, value) in members {
                string(out, name);
                write(out, value, Some(name));
            }
        }
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    head(out, 3, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    match argument {
        0..=23 => out.push(major | argument as u8),
        24..=0xff => out.extend_from_slice(&[major | 24, argument as u8]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend_from_slice(&(argument as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend_from_slice(&(argument as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&argument.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_in_cbor_says_the_same() {
        let answer = json!({
            "Records": [{"Data": "AQID", "PartitionKey": "k", "ApproximateArrivalTimestamp": 1700000000.123}],
            "MillisBehindLatest": 100_000,
            "NextShardIterator": null,
            "HasMoreShards": true,
            "Small": -3,
        });
        let bytes = encode(&answer);
        assert!(bytes.windows(4).any(|window| window == [0x43, 1, 2, 3]), "Data is a byte string");
        assert_eq!(decode(&bytes).unwrap(), answer);
    }

    #[test]
    fn open_lengths_and_floats_are_read() {
        // {_ "a": [_ 1, 1.5], "b": (_ "x", "y")}
        let bytes = [
            &[0xbf, 0x61, b'a', 0x9f, 0x01, 0xfb][..],
            &1.5f64.to_be_bytes(),
            &[0xff, 0x61, b'b', 0x7f, 0x61, b'x', 0x61, b'y', 0xff, 0xff],
        ]
        .concat();
        assert_eq!(decode(&bytes).unwrap(), json!({"a": [1, 1.5], "b": "xy"}));
    }

    #[test]
    fn damaged_bodies_are_refused_without_believing_their_lengths() {
        for bytes in [
            &[0xbf][..],
            &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x5a, 0x7f, 0, 0, 0],
            &[0x1c],
            &[1, 1],
        ] {
            assert!(decode(bytes).is_err(), "{bytes:?}");
        }
        assert!(decode(&[0x81; 1000]).is_err());
    }
}
