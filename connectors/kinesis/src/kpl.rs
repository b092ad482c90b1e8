//! Records that the Kinesis Producer Library put together: one Kinesis record that holds many.
//!
//! An aggregate is four magic bytes, a protobuf message and the MD5 of that message. Anything that is not exactly that is a
//! plain record, however much it looks like one: bytes of somebody's own must pass unharmed. The format is described in
//! `aggregation-format.md` of the library's repository (awslabs/amazon-kinesis-producer).
//!
//! The message comes from outside. Nothing is reserved from a count that it declares, keys are bounded as Kinesis bounds them,
//! and the data of sub-records are slices of the record's own bytes.

use bytes::Bytes;
use md5::{Digest, Md5};
use prost::Message;

const MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];
const DIGEST: usize = 16;
/// How many sub-records an aggregate may hold. One megabyte of records of ten bytes.
const RECORDS_MAX: usize = 100_000;
/// How many bytes a partition key may have: 256 characters.
const KEY_MAX: usize = 1024;

#[derive(Clone, PartialEq, Message)]
struct Aggregate {
    #[prost(string, repeated, tag = "1")]
    partition_keys: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    hash_keys: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    records: Vec<Entry>,
}

/// A sub-record. Its tags, field 4, are not read: no version of the library has ever written any.
#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(uint64, required, tag = "1")]
    partition_key: u64,
    #[prost(uint64, optional, tag = "2")]
    hash_key: Option<u64>,
    #[prost(bytes = "bytes", required, tag = "3")]
    data: Bytes,
}

/// One record out of an aggregate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SubRecord {
    pub(crate) partition_key: String,
    /// Where the record belongs among the shards.
    pub(crate) hash_key: u128,
    pub(crate) data: Bytes,
}

/// What a Kinesis record's bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// A record as somebody put it.
    Plain,
    /// An aggregate of these.
    Aggregate(Vec<SubRecord>),
    /// Magic and digest of an aggregate, but not its content: delivered as it is.
    Broken(&'static str),
}

/// Looks at a record's bytes.
pub(crate) fn open(data: &Bytes) -> Content {
    let Some(message_end) = data.len().checked_sub(DIGEST).filter(|end| *end >= MAGIC.len()) else {
        return Content::Plain;
    };
    if data[..MAGIC.len()] != MAGIC {
        return Content::Plain;
    }
    let message = data.slice(MAGIC.len()..message_end);
    if Md5::digest(&message)[..] != data[message_end..] {
        return Content::Plain;
    }
    if let Err(why) = check_count(&message) {
        return Content::Broken(why);
    }
    let Ok(aggregate) = Aggregate::decode(message) else { return Content::Broken("it is no message of the format") };
    let mut records = Vec::new();
    for entry in aggregate.records {
        let index = |index: u64| usize::try_from(index).unwrap_or(usize::MAX);
        let Some(partition_key) = aggregate.partition_keys.get(index(entry.partition_key)) else {
            return Content::Broken("a sub-record names a partition key that is not there");
        };
        if partition_key.len() > KEY_MAX {
            return Content::Broken("a partition key is longer than Kinesis allows");
        }
        let hash_key = match entry.hash_key.map(|at| aggregate.hash_keys.get(index(at)).map(|text| text.parse())) {
            None => hash_of(partition_key),
            Some(Some(Ok(hash_key))) => hash_key,
            Some(_) => {
                return Content::Broken("a sub-record names an explicit hash key that is not there or no number");
            }
        };
        records.push(SubRecord { partition_key: partition_key.clone(), hash_key, data: entry.data });
    }
    Content::Aggregate(records)
}

/// Where a partition key belongs among the shards: its MD5 as a number.
pub(crate) fn hash_of(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into())
}

/// Walks over the message's fields, before anything is made of them: a message of a megabyte can hold half a million empty
/// sub-records, each of which takes a hundred bytes of memory.
fn check_count(message: &Bytes) -> Result<(), &'static str> {
    const BROKEN: &str = "it is no message of the format";
    let (mut rest, mut records) = (&message[..], 0);
    while !rest.is_empty() {
        let tag = prost::encoding::decode_varint(&mut rest).map_err(|_| BROKEN)?;
        let length = match tag & 7 {
            0 => {
                prost::encoding::decode_varint(&mut rest).map_err(|_| BROKEN)?;
                0
            }
            1 => 8,
            2 => usize::try_from(prost::encoding::decode_varint(&mut rest).map_err(|_| BROKEN)?).map_err(|_| BROKEN)?,
            5 => 4,
            _ => return Err(BROKEN),
        };
        rest = rest.get(length..).ok_or(BROKEN)?;
        records += usize::from(matches!(tag >> 3, 1..=3));
        if records > RECORDS_MAX {
            return Err("it holds more sub-records and keys than are accepted");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aggregate(message: &[u8]) -> Bytes {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(message);
        bytes.extend_from_slice(&Md5::digest(message));
        bytes.into()
    }

    fn message(partition_keys: &[&str], hash_keys: &[&str], records: &[(u64, Option<u64>, &'static str)]) -> Vec<u8> {
        let text = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        let records = records.iter().map(|(partition_key, hash_key, data)| Entry {
            partition_key: *partition_key,
            hash_key: *hash_key,
            data: Bytes::from_static(data.as_bytes()),
        });
        Aggregate { partition_keys: text(partition_keys), hash_keys: text(hash_keys), records: records.collect() }
            .encode_to_vec()
    }

    fn sub(partition_key: &str, hash_key: u128, data: &'static str) -> SubRecord {
        SubRecord { partition_key: partition_key.to_owned(), hash_key, data: Bytes::from_static(data.as_bytes()) }
    }

    /// Written out by hand, so that encoder and decoder can't agree on something wrong.
    #[test]
    fn an_aggregate_opens_into_its_records_in_order() {
        #[rustfmt::skip]
        let message = [
            0x0A, 1, b'a',                                     // partition key 0
            0x0A, 2, b'b', b'b',                               // partition key 1
            0x12, 2, b'4', b'2',                               // explicit hash key 0
            0x1A, 7, 0x08, 0, 0x1A, 3, b'o', b'n', b'e',       // key a
            0x1A, 9, 0x08, 1, 0x10, 0, 0x1A, 3, b't', b'w', b'o', // key bb, hash 42
            0x1A, 4, 0x08, 0, 0x1A, 0,                         // key a, no bytes
        ];
        let a = 0x0cc1_75b9_c0f1_b6a8_31c3_99e2_6977_2661; // MD5 of "a", as RFC 1321 has it
        let expected = vec![sub("a", a, "one"), sub("bb", 42, "two"), sub("a", a, "")];
        assert_eq!(open(&aggregate(&message)), Content::Aggregate(expected));
    }

    #[test]
    fn what_has_not_magic_and_digest_is_a_plain_record() {
        let whole = aggregate(&message(&["a"], &[], &[(0, None, "x")]));
        assert!(matches!(open(&whole), Content::Aggregate(_)));
        for at in 0..whole.len() {
            let mut bytes = whole.to_vec();
            bytes[at] ^= 1;
            assert_eq!(open(&bytes.into()), Content::Plain, "byte {at} changed");
        }
        for length in 0..whole.len() {
            assert_eq!(open(&whole.slice(..length)), Content::Plain, "cut to {length} bytes");
        }
        assert_eq!(open(&Bytes::from_static(br#"{"ind":7}"#)), Content::Plain);
    }

    #[test]
    fn an_aggregate_that_contradicts_itself_is_broken() {
        let cases: &[(Vec<u8>, &str)] = &[
            (message(&["a"], &[], &[(1, None, "x")]), "a sub-record names a partition key that is not there"),
            (
                message(&["a"], &["1"], &[(0, Some(1), "x")]),
                "a sub-record names an explicit hash key that is not there or no number",
            ),
            (
                message(&["a"], &["-1"], &[(0, Some(0), "x")]),
                "a sub-record names an explicit hash key that is not there or no number",
            ),
            (
                message(&["a".repeat(KEY_MAX + 1).as_str()], &[], &[(0, None, "x")]),
                "a partition key is longer than Kinesis allows",
            ),
            (vec![0x1A, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F], "it is no message of the format"),
            (vec![0x1A, 0x02, 0x1A, 0x7F], "it is no message of the format"),
            (vec![0x0B], "it is no message of the format"),
            ([0x1A, 0].repeat(RECORDS_MAX + 1), "it holds more sub-records and keys than are accepted"),
        ];
        for (message, why) in cases {
            assert_eq!(open(&aggregate(message)), Content::Broken(why));
        }
        assert_eq!(open(&aggregate(&[])), Content::Aggregate(Vec::new()), "nothing is an aggregate of nothing");
    }
}
