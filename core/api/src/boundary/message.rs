//! Messages: made by one side, read and released by the other.
//!
//! Payloads of up to [`SMALL`] bytes are copied into one piece of memory for the whole message: reading that back costs a
//! count each and no allocation. Larger ones stay where they are and are shared.

use std::ffi::c_void;
use std::fmt;
use std::slice;
use std::sync::Arc;

use bytes::Bytes;
use ottla_plugin_abi::{Message, NO_SCHEMA, NO_TIMESTAMP, PayloadView, RecordView, Slice, payload};

use super::flat::{self, Encoder, Flat, ReceivedSchemas, SentSchemas, malformed};
use crate::error::Result;
use crate::header::Headers;
use crate::offset::{SourceOffset, SourcePartition, TopicPartition};
use crate::record::{Payload, RawRecord, Record, SinkBatch, SinkRecord, SourceRecord};

/// Payloads of up to so many bytes are copied.
pub const SMALL: usize = 2048;

/// What a message that this side made consists of, until the other releases it.
#[derive(Default)]
struct Made {
    body: Vec<u8>,
    schemas: Vec<u8>,
    /// The small payloads. Never grows beyond the capacity that it was given: views point into it.
    chunk: Vec<u8>,
    /// Encoded values and what else is in the flat encoding.
    arena: Vec<u8>,
    records: Vec<RecordView>,
    /// The large payloads.
    _kept: Vec<Bytes>,
}

impl Made {
    fn into_message(self) -> Message {
        let made = Box::new(self);
        Message {
            body: Slice::of(&made.body),
            schemas: Slice::of(&made.schemas),
            records: made.records.as_ptr(),
            records_len: made.records.len(),
            chunk: Slice::of(&made.chunk),
            owner: Box::into_raw(made).cast(),
            release: Some(release),
            ..Message::EMPTY
        }
    }
}

extern "C" fn release(owner: *mut c_void) {
    // SAFETY: made by `Made::into_message`, and released once, by contract.
    drop(unsafe { Box::from_raw(owner.cast::<Made>()) });
}

/// A message with a body.
pub fn message(item: &impl Flat, schemas: &mut SentSchemas) -> Message {
    schemas.begin();
    let mut body = Vec::new();
    item.write(&mut Encoder { bytes: &mut body, schemas });
    Made { body, schemas: schemas.announce(), ..Made::default() }.into_message()
}

/// A message of parts that are written already.
pub(crate) fn made(body: Vec<u8>, schemas: Vec<u8>) -> Message {
    Made { body, schemas, ..Made::default() }.into_message()
}

/// A message with a body that needs no schemas.
pub fn plain(item: &impl Flat) -> Message {
    message(item, &mut SentSchemas::default())
}

/// Writes the views of records.
struct Views<'a> {
    made: Made,
    kept: Vec<Bytes>,
    schemas: &'a mut SentSchemas,
    /// What lies in the arena, which may move while it grows: record, part of it, place, length.
    in_arena: Vec<(usize, Part, usize, usize)>,
}

#[derive(Clone, Copy)]
enum Part {
    Key,
    Value,
    Rest,
}

impl<'a> Views<'a> {
    fn new(records: usize, payloads: impl Iterator<Item = usize>, schemas: &'a mut SentSchemas) -> Self {
        schemas.begin();
        let chunk = Vec::with_capacity(payloads.filter(|length| *length <= SMALL).sum());
        let made = Made { chunk, records: Vec::with_capacity(records), ..Made::default() };
        Self { made, kept: Vec::new(), schemas, in_arena: Vec::new() }
    }

    fn bytes(&mut self, bytes: &Bytes) -> Slice {
        if bytes.len() > SMALL {
            self.kept.push(bytes.clone());
            return Slice::of(bytes);
        }
        let chunk = &mut self.made.chunk;
        let at = chunk.len();
        debug_assert!(at + bytes.len() <= chunk.capacity(), "the payloads were counted before");
        chunk.extend_from_slice(bytes);
        Slice::of(&chunk[at..])
    }

    fn flat(&mut self, part: Part, write: impl FnOnce(&mut Encoder<'_>)) {
        let at = self.made.arena.len();
        write(&mut Encoder { bytes: &mut self.made.arena, schemas: self.schemas });
        let length = self.made.arena.len() - at;
        self.in_arena.push((self.made.records.len(), part, at, length));
    }

    /// A payload; `raw` is what it may be a mere copy of, and where that is.
    fn payload(&mut self, part: Part, item: &Payload, raw: Option<(&Bytes, Slice)>) -> PayloadView {
        let mut view = PayloadView { kind: payload::NULL, schema: NO_SCHEMA, data: Slice::NONE };
        match item {
            Payload::Json(text) => {
                view.kind = payload::JSON;
                view.data = match raw {
                    Some((raw, at)) if is_same(raw, text) => at,
                    _ => self.bytes(text),
                };
            }
            Payload::Data { schema, value } => {
                if let Some(schema) = schema {
                    view.schema = self.schemas.number(schema);
                }
                if !value.is_null() {
                    view.kind = payload::FLAT;
                    self.flat(part, |to| value.write(to));
                }
            }
        }
        view
    }

    fn into_message(mut self, body: &impl Flat) -> Message {
        body.write(&mut Encoder { bytes: &mut self.made.body, schemas: self.schemas });
        for (record, part, at, length) in self.in_arena {
            let view = &mut self.made.records[record];
            let place = match part {
                Part::Key => &mut view.key.data,
                Part::Value => &mut view.value.data,
                Part::Rest => &mut view.rest,
            };
            *place = Slice::of(&self.made.arena[at..at + length]);
        }
        self.made.schemas = self.schemas.announce();
        self.made._kept = self.kept;
        self.made.into_message()
    }
}

/// True where two are the same bytes at the same place.
fn is_same(one: &Bytes, other: &Bytes) -> bool {
    one.as_ptr() == other.as_ptr() && one.len() == other.len()
}

fn json_length(payload: &Payload) -> usize {
    match payload {
        Payload::Json(text) => text.len(),
        Payload::Data { .. } => 0,
    }
}

/// The batch as a message.
pub fn sink_batch(batch: &SinkBatch, schemas: &mut SentSchemas) -> Message {
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let payloads = batch.records.iter().flat_map(|SinkRecord { record, raw }| {
        let changed = |payload: &Payload, raw: &Option<Bytes>| match (payload, raw) {
            (Payload::Json(text), Some(raw)) if is_same(raw, text) => 0,
            _ => json_length(payload),
        };
        let (key, value) = (changed(&record.key, &raw.key), changed(&record.value, &raw.value));
        [length(&raw.key), length(&raw.value), key, value]
    });
    let mut views = Views::new(batch.records.len(), payloads, schemas);
    for SinkRecord { record, raw } in &batch.records {
        let raw_key = raw.key.as_ref().map(|bytes| (bytes, views.bytes(bytes)));
        let raw_value = raw.value.as_ref().map(|bytes| (bytes, views.bytes(bytes)));
        let key = views.payload(Part::Key, &record.key, raw_key);
        let value = views.payload(Part::Value, &record.value, raw_value);
        let usual = (Arc::ptr_eq(&record.topic, &batch.partition.topic) || record.topic == batch.partition.topic)
            && record.partition == Some(batch.partition.partition)
            && record.timestamp == raw.timestamp
            && record.offset == Some(raw.offset)
            && record.headers.is_empty()
            && raw.headers.is_empty();
        if !usual {
            views.flat(Part::Rest, |to| {
                let Record { topic, partition, key: _, value: _, timestamp, headers, offset } = record;
                topic.write(to);
                partition.write(to);
                timestamp.write(to);
                headers.write(to);
                offset.write(to);
                raw.headers.write(to);
            });
        }
        let at = |raw: Option<(&Bytes, Slice)>| raw.map_or(Slice::NONE, |(_, at)| at);
        let (raw_key, raw_value) = (at(raw_key), at(raw_value));
        let timestamp = raw.timestamp.unwrap_or(NO_TIMESTAMP);
        let view = RecordView { offset: raw.offset, timestamp, raw_key, raw_value, key, value, rest: Slice::NONE };
        views.made.records.push(view);
    }
    views.into_message(&(batch.partition.clone(), batch.next_offset))
}

/// Reads a batch.
pub fn read_sink_batch(message: Received, schemas: &mut ReceivedSchemas) -> Result<SinkBatch> {
    schemas.learn(message.schemas())?;
    let (partition, next_offset): (TopicPartition, i64) = flat::from_bytes(message.body())?;
    let payloads = Payloads::new(message, schemas);
    let mut records = Vec::with_capacity(payloads.len());
    for index in 0..payloads.len() {
        let view = payloads.view(index);
        let raw = RawRecord {
            offset: view.offset,
            timestamp: (view.timestamp != NO_TIMESTAMP).then_some(view.timestamp),
            key: payloads.bytes(view.raw_key),
            value: payloads.bytes(view.raw_value),
            headers: Vec::new(),
        };
        let record = Record {
            topic: Arc::clone(&partition.topic),
            partition: Some(partition.partition),
            key: payloads.payload(&view.key, Some((view.raw_key, &raw.key)))?,
            value: payloads.payload(&view.value, Some((view.raw_value, &raw.value)))?,
            timestamp: raw.timestamp,
            headers: Headers::new(),
            offset: Some(raw.offset),
        };
        let mut record = SinkRecord { record, raw };
        if !view.rest.data.is_null() {
            let rest: ((Arc<str>, Option<i32>, Option<i64>), (Headers, Option<i64>, Vec<(String, Option<Bytes>)>)) =
                payloads.rest(&view)?;
            let ((topic, partition, timestamp), (headers, offset, raw_headers)) = rest;
            record.raw.headers = raw_headers;
            record.record = Record { topic, partition, timestamp, headers, offset, ..record.record };
        }
        records.push(record);
    }
    Ok(SinkBatch { partition, records, next_offset })
}

/// The records of a source as a message. The body says how the poll ended; that there are records is one way.
pub fn source_records(body: &impl Flat, records: &[SourceRecord], schemas: &mut SentSchemas) -> Message {
    let payloads =
        records.iter().flat_map(|record| [json_length(&record.record.key), json_length(&record.record.value)]);
    let mut views = Views::new(records.len(), payloads, schemas);
    for SourceRecord { record, source_partition, source_offset } in records {
        let key = views.payload(Part::Key, &record.key, None);
        let value = views.payload(Part::Value, &record.value, None);
        views.flat(Part::Rest, |to| {
            record.topic.write(to);
            source_partition.write(to);
            source_offset.write(to);
            record.partition.write(to);
            record.offset.write(to);
            record.headers.write(to);
        });
        let view = RecordView {
            offset: 0,
            timestamp: record.timestamp.unwrap_or(NO_TIMESTAMP),
            raw_key: Slice::NONE,
            raw_value: Slice::NONE,
            key,
            value,
            rest: Slice::NONE,
        };
        views.made.records.push(view);
    }
    views.into_message(body)
}

/// Reads the records of a source.
pub fn read_source_records(message: Received, schemas: &mut ReceivedSchemas) -> Result<Vec<SourceRecord>> {
    schemas.learn(message.schemas())?;
    let payloads = Payloads::new(message, schemas);
    let mut records: Vec<SourceRecord> = Vec::with_capacity(payloads.len());
    for index in 0..payloads.len() {
        let view = payloads.view(index);
        let mut rest = payloads.rest_bytes(&view)?;
        let mut from = flat::Decoder::new(&mut rest, payloads.schemas);
        // Records that follow each other mostly go to one topic and come from one partition: both are shared.
        let topic = from.text()?;
        let topic = match records.last() {
            Some(last) if *last.record.topic == *topic => Arc::clone(&last.record.topic),
            _ => topic.into(),
        };
        let partition = from.text()?;
        let source_partition = match records.last() {
            Some(last) if last.source_partition.as_json() == partition => last.source_partition.clone(),
            _ => SourcePartition::from_json(partition)?,
        };
        let source_offset = SourceOffset::read(&mut from)?;
        let record = Record {
            topic,
            partition: Flat::read(&mut from)?,
            offset: Flat::read(&mut from)?,
            headers: Flat::read(&mut from)?,
            key: payloads.payload(&view.key, None)?,
            value: payloads.payload(&view.value, None)?,
            timestamp: (view.timestamp != NO_TIMESTAMP).then_some(view.timestamp),
        };
        records.push(SourceRecord { record, source_partition, source_offset });
    }
    Ok(records)
}

/// A message of the other side. Dropping it releases it.
pub struct Received(Message);

// SAFETY: a message may be read and released from any thread, by contract.
unsafe impl Send for Received {}
// SAFETY: as above; nothing writes to it.
unsafe impl Sync for Received {}

impl Received {
    /// Takes a message over.
    ///
    /// # Safety
    ///
    /// It keeps the contract: its slices may be read until it is released, and it is released by nobody else. One without a
    /// `release` must outlive what is returned.
    pub unsafe fn new(message: Message) -> Self {
        Self(message)
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        self.slice(self.0.body)
    }

    /// The schemas that it announces.
    pub fn schemas(&self) -> &[u8] {
        self.slice(self.0.schemas)
    }

    /// Reads the body, and nothing else.
    pub fn read<T: Flat>(&self) -> Result<T> {
        flat::from_bytes(self.body())
    }

    /// Reads the body after what the message announces.
    pub fn read_with<T: Flat>(&self, schemas: &mut ReceivedSchemas) -> Result<T> {
        schemas.learn(self.schemas())?;
        flat::from_bytes_with(self.body(), schemas.all())
    }

    /// How many records it holds.
    pub fn records(&self) -> usize {
        if self.0.records.is_null() { 0 } else { self.0.records_len }
    }

    fn slice(&self, slice: Slice) -> &[u8] {
        if slice.data.is_null() {
            return &[];
        }
        // SAFETY: the slices of a message may be read until it is released, which is when this is dropped.
        unsafe { slice::from_raw_parts(slice.data, slice.len) }
    }

    fn view(&self, index: usize) -> RecordView {
        debug_assert!(index < self.records());
        // SAFETY: a message has `records_len` views, `record_size` bytes apart; what this side knows of a view is not longer than that, as was
        // checked when the library was loaded.
        unsafe { self.0.records.byte_add(index * self.0.record_size as usize).read() }
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if let Some(release) = self.0.release {
            release(self.0.owner);
        }
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Received({} bytes, {} records)", self.0.body.len, self.records())
    }
}

/// A piece of a message that keeps all of it.
struct Piece(Arc<Received>, Slice);

// SAFETY: as of the message that the piece belongs to.
unsafe impl Send for Piece {}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self.0.slice(self.1)
    }
}

/// The payloads of a message's records, shared.
struct Payloads<'a> {
    message: Arc<Received>,
    chunk: Bytes,
    schemas: &'a [Arc<crate::data::Schema>],
}

impl<'a> Payloads<'a> {
    fn new(message: Received, schemas: &'a ReceivedSchemas) -> Self {
        let message = Arc::new(message);
        let chunk = match message.0.chunk {
            Slice { len: 0, .. } => Bytes::new(),
            chunk => Bytes::from_owner(Piece(Arc::clone(&message), chunk)),
        };
        Self { message, chunk, schemas: schemas.all() }
    }

    fn len(&self) -> usize {
        self.message.records()
    }

    fn view(&self, index: usize) -> RecordView {
        self.message.view(index)
    }

    fn bytes(&self, slice: Slice) -> Option<Bytes> {
        if slice.data.is_null() {
            return None;
        }
        if slice.len == 0 {
            return Some(Bytes::new());
        }
        let begin = (slice.data as usize).wrapping_sub(self.chunk.as_ptr() as usize);
        Some(match begin.checked_add(slice.len) {
            Some(end) if end <= self.chunk.len() => self.chunk.slice(begin..end),
            _ => Bytes::from_owner(Piece(Arc::clone(&self.message), slice)),
        })
    }

    fn payload(&self, view: &PayloadView, raw: Option<(Slice, &Option<Bytes>)>) -> Result<Payload> {
        let schema = match view.schema {
            NO_SCHEMA => None,
            number => match self.schemas.get(number as usize) {
                Some(schema) => Some(Arc::clone(schema)),
                None => return Err(malformed("a schema was never announced")),
            },
        };
        match view.kind {
            payload::NULL => Ok(Payload::Data { schema, value: crate::data::Value::Null }),
            payload::JSON => Ok(Payload::Json(match raw {
                Some((slice, Some(raw))) if slice.data == view.data.data && slice.len == view.data.len => raw.clone(),
                _ => self.bytes(view.data).unwrap_or_default(),
            })),
            payload::FLAT => {
                let value = flat::from_bytes_with(self.message.slice(view.data), self.schemas)?;
                Ok(Payload::Data { schema, value })
            }
            _ => Err(malformed("there is no such kind of payload")),
        }
    }

    fn rest_bytes(&self, view: &RecordView) -> Result<&[u8]> {
        if view.rest.data.is_null() {
            return Err(malformed("a record of a source has no place"));
        }
        Ok(self.message.slice(view.rest))
    }

    fn rest<T: Flat>(&self, view: &RecordView) -> Result<T> {
        flat::from_bytes_with(self.rest_bytes(view)?, self.schemas)
    }
}
