//! Batches of records as they are stored: one key and one value for all records that a send gives to a partition.
//!
//! The key is `topic id, partition, base offset, count, time written, size`, big-endian, so that keys sort by offset and
//! retention can decide without reading a value. The value is a version byte and the records, lengths as varints.

use std::ops::Range;

use bytes::{Buf, Bytes};
use ottla_api::record::RawRecord;
use ottla_api::{Error, Result};

use crate::broker::ProducerRecord;

const VERSION: u8 = 1;
const KEY_LENGTH: usize = 4 + 4 + 8 + 4 + 8 + 4;

/// A batch grows to about this much; a single record may be larger.
pub(super) const BATCH_BYTES_MAX: usize = 1 << 20;

/// What a key says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchKey {
    pub(super) topic: u32,
    pub(super) partition: u32,
    /// Offset of the first record; the others follow without a gap.
    pub(super) base: i64,
    pub(super) count: u32,
    /// When it was written, in milliseconds since the epoch. Retention goes by this, not by the records' own timestamps:
    /// those of old data would let it go before anybody read it.
    pub(super) written: i64,
    /// Bytes of the value.
    pub(super) size: u32,
}

impl BatchKey {
    pub(super) fn encode(&self) -> [u8; KEY_LENGTH] {
        let mut key = [0; KEY_LENGTH];
        key[0..4].copy_from_slice(&self.topic.to_be_bytes());
        key[4..8].copy_from_slice(&self.partition.to_be_bytes());
        key[8..16].copy_from_slice(&self.base.to_be_bytes());
        key[16..20].copy_from_slice(&self.count.to_be_bytes());
        key[20..28].copy_from_slice(&self.written.to_be_bytes());
        key[28..32].copy_from_slice(&self.size.to_be_bytes());
        key
    }

    pub(super) fn decode(mut key: &[u8]) -> Result<Self> {
        if key.len() != KEY_LENGTH {
            return Err(damaged("a key has the wrong length"));
        }
        Ok(Self {
            topic: key.get_u32(),
            partition: key.get_u32(),
            base: key.get_i64(),
            count: key.get_u32(),
            written: key.get_i64(),
            size: key.get_u32(),
        })
    }

    /// The offset after its last record.
    pub(super) fn end(&self) -> i64 {
        self.base + i64::from(self.count)
    }

    /// The range of keys of a partition whose base offset is in `offsets`.
    pub(super) fn range(topic: u32, partition: u32, offsets: Range<i64>) -> Range<Vec<u8>> {
        let bound = |offset: i64| [&topic.to_be_bytes()[..], &partition.to_be_bytes(), &offset.to_be_bytes()].concat();
        bound(offsets.start)..bound(offsets.end)
    }
}

fn damaged(what: &str) -> Error {
    Error::fatal(format!("embedded topics are damaged: {what}"))
}

/// Gathers records of one partition.
#[derive(Debug)]
pub(super) struct Encoder {
    pub(super) bytes: Vec<u8>,
    pub(super) count: u32,
    /// The clock when the batch was begun; what a record without a timestamp gets.
    pub(super) written: i64,
}

impl Encoder {
    pub(super) fn new(written: i64) -> Self {
        Self { bytes: vec![VERSION], count: 0, written }
    }

    pub(super) fn push(&mut self, record: &ProducerRecord) {
        let out = &mut self.bytes;
        out.extend_from_slice(&record.timestamp.unwrap_or(self.written).to_be_bytes());
        put_bytes(out, record.key.as_deref());
        put_bytes(out, record.value.as_deref());
        put_varint(out, record.headers.len() as u64);
        for (name, value) in &record.headers {
            put_bytes(out, Some(name.as_bytes()));
            put_bytes(out, value.as_deref());
        }
        self.count += 1;
    }
}

/// About how many bytes a record takes.
pub(super) fn encoded_size(record: &ProducerRecord) -> usize {
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + length(value) + 4).sum();
    16 + length(&record.key) + length(&record.value) + headers
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Length plus one, then the bytes; 0 where there are none.
fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => out.push(0),
        Some(bytes) => {
            put_varint(out, bytes.len() as u64 + 1);
            out.extend_from_slice(bytes);
        }
    }
}

/// The records of a stored batch. Keys and values are slices of `value`, not copies.
pub(super) fn decode(key: &BatchKey, value: Bytes) -> Result<Vec<RawRecord>> {
    let mut reader = Reader(value);
    if reader.byte()? != VERSION {
        return Err(damaged("a batch has an unknown version"));
    }
    let mut records = Vec::with_capacity(key.count as usize);
    for offset in key.base..key.end() {
        let timestamp = i64::from_be_bytes(reader.take(8)?.as_ref().try_into().expect("eight bytes were taken"));
        let (key, value) = (reader.bytes()?, reader.bytes()?);
        let count = reader.varint()?;
        // Room for as many as there usually are: a damaged number must not ask for all the memory there is.
        let mut headers = Vec::with_capacity(count.min(8) as usize);
        for _ in 0..count {
            let name = reader.bytes()?.ok_or_else(|| damaged("a header has no name"))?;
            let name = String::from_utf8(name.into()).map_err(|_| damaged("a header's name is not text"))?;
            headers.push((name, reader.bytes()?));
        }
        records.push(RawRecord { offset, timestamp: Some(timestamp), key, value, headers });
    }
    if !reader.0.is_empty() {
        return Err(damaged("a batch is longer than its records"));
    }
    Ok(records)
}

struct Reader(Bytes);

impl Reader {
    fn take(&mut self, length: usize) -> Result<Bytes> {
        if length > self.0.len() {
            return Err(damaged("a batch is cut short"));
        }
        Ok(self.0.split_to(length))
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn varint(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(damaged("a length is too long"))
    }

    fn bytes(&mut self) -> Result<Option<Bytes>> {
        match self.varint()? {
            0 => Ok(None),
            length => {
                let length = usize::try_from(length - 1).map_err(|_| damaged("a length is too long"))?;
                self.take(length).map(Some)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: Option<&'static str>, value: Option<&'static str>) -> ProducerRecord {
        ProducerRecord {
            topic: "t".into(),
            partition: None,
            key: key.map(Bytes::from),
            value: value.map(Bytes::from),
            timestamp: Some(-5),
            headers: vec![("a".into(), None), ("a".into(), Some(Bytes::from_static(b"")))],
        }
    }

    fn stored() -> (BatchKey, Bytes) {
        let mut encoder = Encoder::new(1_700_000_000_000);
        encoder.push(&record(None, Some("value")));
        encoder.push(&record(Some(""), None));
        encoder.push(&ProducerRecord { timestamp: None, ..record(Some("k"), Some("")) });
        let size = encoder.bytes.len() as u32;
        let key = BatchKey { topic: 1, partition: 2, base: 40, count: 3, written: encoder.written, size };
        (key, encoder.bytes.into())
    }

    #[test]
    fn a_batch_comes_back_as_it_was() {
        let (key, value) = stored();
        assert_eq!(BatchKey::decode(&key.encode()).unwrap(), key);
        let records = decode(&key, value).unwrap();
        assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), [40, 41, 42]);
        assert_eq!(records[0].value.as_deref(), Some(&b"value"[..]));
        assert_eq!((records[0].key.as_ref(), records[0].timestamp), (None, Some(-5)));
        assert_eq!(records[1].key.as_deref(), Some(&b""[..]));
        assert_eq!(records[1].value, None);
        assert_eq!(records[1].headers, [("a".into(), None), ("a".into(), Some(Bytes::new()))]);
        assert_eq!(records[2].timestamp, Some(1_700_000_000_000));
    }

    #[test]
    fn a_damaged_batch_is_an_error_at_every_length() {
        let (key, value) = stored();
        for length in 0..value.len() {
            assert!(decode(&key, value.slice(..length)).is_err(), "{length}");
        }
    }
}
