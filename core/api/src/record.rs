//! Records on their way, in batches of one topic partition.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use crate::data::{Schema, Value, json};
use crate::error::{Error, Result};
use crate::header::Headers;
use crate::offset::{SourceOffset, SourcePartition, TopicPartition};

/// A key or a value, decoded when somebody asks.
///
/// Schemaless JSON arrives as text that was checked and compacted ([`Payload::Json`]); as long as nothing looks inside, it
/// goes on as that text. [`value`](Self::value), [`value_mut`](Self::value_mut) and [`into_data`](Self::into_data) parse.
/// ```
/// use bytes::Bytes;
/// use ottla_api::data::json;
/// use ottla_api::prelude::*;
///
/// let mut payload = Payload::json(Bytes::from_static(br#"{"name":"Ada"}"#));
/// // Looking inside decodes; until then it is the text that came in.
/// if let Value::Map(map) = payload.value_mut()? {
///     map.insert("year", 1843i64);
/// }
/// let mut text = Vec::new();
/// payload.write_json(&json::WriteOptions::default(), &mut text);
/// assert_eq!(text, br#"{"name":"Ada","year":1843}"#);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// Compact JSON text, valid as [`json::compact`] checks it; never the text `null`, which is [`Payload::null`].
    Json(Bytes),
    /// Decoded data, with its schema where it has one.
    Data {
        /// What the value looks like; nothing for schemaless data.
        schema: Option<Arc<Schema>>,
        /// The value itself.
        value: Value,
    },
}

impl Payload {
    /// No key, or a tombstone's value.
    pub fn null() -> Self {
        Self::schemaless(Value::Null)
    }

    /// Data without a schema.
    pub fn schemaless(value: impl Into<Value>) -> Self {
        Self::Data { schema: None, value: value.into() }
    }

    /// Data with a schema.
    pub fn with_schema(schema: Arc<Schema>, value: impl Into<Value>) -> Self {
        Self::Data { schema: Some(schema), value: value.into() }
    }

    /// Compact JSON text that the caller has checked with [`json::compact`].
    pub fn json(text: Bytes) -> Self {
        if text.as_ref() == b"null" { Self::null() } else { Self::Json(text) }
    }

    /// True where there is no value: a null key, or a tombstone.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Data { value: Value::Null, .. })
    }

    /// The schema, where the data has one.
    pub fn schema(&self) -> Option<&Arc<Schema>> {
        match self {
            Self::Json(_) => None,
            Self::Data { schema, .. } => schema.as_ref(),
        }
    }

    /// Decodes in place, once.
    fn decode(&mut self) -> Result<()> {
        if let Self::Json(text) = self {
            *self = Self::schemaless(json::parse(text)?);
        }
        Ok(())
    }

    /// The value, decoded now if it was text.
    pub fn value(&mut self) -> Result<&Value> {
        self.value_mut().map(|value| &*value)
    }

    /// The value, decoded now if it was text, to change in place. Mind the schema when changing types.
    pub fn value_mut(&mut self) -> Result<&mut Value> {
        self.decode()?;
        match self {
            Self::Data { value, .. } => Ok(value),
            Self::Json(_) => unreachable!("decoded above"),
        }
    }

    /// Schema and value, decoded now if it was text.
    pub fn into_data(mut self) -> Result<(Option<Arc<Schema>>, Value)> {
        self.decode()?;
        match self {
            Self::Data { schema, value } => Ok((schema, value)),
            Self::Json(_) => unreachable!("decoded above"),
        }
    }

    /// The value where the payload may not change: borrowed, or decoded from text for this once.
    pub fn decoded(&self) -> Result<Cow<'_, Value>> {
        match self {
            Self::Json(text) => json::parse(text).map(Cow::Owned),
            Self::Data { value, .. } => Ok(Cow::Borrowed(value)),
        }
    }

    /// Appends the payload as compact JSON without a schema; text that was never decoded is copied as it is.
    pub fn write_json(&self, options: &json::WriteOptions, out: &mut Vec<u8>) {
        match self {
            Self::Json(text) => out.extend_from_slice(text),
            Self::Data { value, .. } => json::write_with(value, options, out),
        }
    }

    /// About how many bytes this holds in memory, for the memory budget (G7).
    pub fn size_estimate(&self) -> usize {
        fn size(value: &Value) -> usize {
            size_of::<Value>()
                + match value {
                    Value::String(text) => text.len(),
                    Value::Number(text) => text.len(),
                    Value::Bytes(bytes) => bytes.len(),
                    Value::Array(items) => items.iter().map(size).sum(),
                    Value::Map(map) => {
                        map.iter().map(|(name, value)| size_of::<String>() + name.len() + size(value)).sum()
                    }
                    Value::Struct(fields) => fields.values().iter().map(size).sum(),
                    Value::Pairs(pairs) => pairs.iter().map(|(key, value)| size(key) + size(value)).sum(),
                    Value::Decimal(decimal) => decimal.unscaled.len(),
                    _ => 0,
                }
        }
        match self {
            Self::Json(text) => text.len(),
            Self::Data { value, .. } => size(value),
        }
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::null()
    }
}

/// One item on its way: what transformations see, for sources and sinks alike (Kafka Connect: `ConnectRecord`).
/// ```
/// use ottla_api::prelude::*;
///
/// let mut record = Record::new("posts", "hello");
/// record.key = Payload::schemaless(7i64);
/// record.headers.add("lang", "en");
/// assert!(!record.is_tombstone());
/// record.value = Payload::null();
/// assert!(record.is_tombstone());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The topic it is going to (source) or came from (sink); a transformation may change it.
    pub topic: Arc<str>,
    /// The topic's partition. For a source, none lets the broker's partitioner choose by key.
    pub partition: Option<i32>,
    /// The key; null is ordinary.
    pub key: Payload,
    /// The value; null makes it a tombstone.
    pub value: Payload,
    /// Milliseconds since 1970-01-01T00:00:00Z, where known.
    pub timestamp: Option<i64>,
    /// Headers in order.
    pub headers: Headers,
    /// The offset in the topic, for sink records; sources have none yet.
    pub offset: Option<i64>,
}

impl Record {
    /// A record with a schemaless value, no key and no timestamp.
    pub fn new(topic: impl Into<Arc<str>>, value: impl Into<Value>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            key: Payload::null(),
            value: Payload::schemaless(value),
            timestamp: None,
            headers: Headers::new(),
            offset: None,
        }
    }

    /// True where the value is null.
    pub fn is_tombstone(&self) -> bool {
        self.value.is_null()
    }

    /// About how many bytes this holds in memory.
    pub fn size_estimate(&self) -> usize {
        // Headers are rare and small; their names and values are counted roughly.
        size_of::<Self>() + self.key.size_estimate() + self.value.size_estimate() + self.headers.len() * 64
    }
}

/// A record that a source yields, with the place it came from.
/// ```
/// use ottla_api::prelude::*;
///
/// let record = Record::new("lines", "the third line");
/// let partition = SourcePartition::new([("file", "notes.txt")]);
/// let offset = SourceOffset::new([("lines", 3i64)]);
/// let record = SourceRecord::new(record, partition, offset);
/// assert_eq!(record.source_partition.as_json(), r#"{"file":"notes.txt"}"#);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SourceRecord {
    /// What goes to the topic.
    pub record: Record,
    /// The source's division it came from.
    pub source_partition: SourcePartition,
    /// The place in it to go on from: after a restart the task is given the newest of these that is durable.
    pub source_offset: SourceOffset,
}

impl SourceRecord {
    /// A record and where it came from.
    pub fn new(record: Record, source_partition: SourcePartition, source_offset: SourceOffset) -> Self {
        Self { record, source_partition, source_offset }
    }
}

/// A record as it lies in the broker: bytes, not yet converted. Payloads are shared slices, so a clone is cheap.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RawRecord {
    /// Offset in its topic partition.
    pub offset: i64,
    /// Milliseconds since the epoch, where the broker has one.
    pub timestamp: Option<i64>,
    /// Key bytes.
    pub key: Option<Bytes>,
    /// Value bytes; none is a tombstone.
    pub value: Option<Bytes>,
    /// Headers in order.
    pub headers: Vec<(String, Option<Bytes>)>,
}

impl RawRecord {
    /// About how many bytes this holds in memory.
    pub fn size_estimate(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + length(value)).sum();
        size_of::<Self>() + length(&self.key) + length(&self.value) + headers
    }
}

/// A record for a sink: converted, transformed, and still knowing what it was.
#[derive(Debug, Clone)]
pub struct SinkRecord {
    /// The record after converters and transformations. Its topic may have been changed by one.
    pub record: Record,
    /// The record as it came: its offset is the one that is committed, its bytes are what a dead letter queue receives.
    pub raw: RawRecord,
}

impl SinkRecord {
    /// The offset in the original topic partition.
    pub fn offset(&self) -> i64 {
        self.raw.offset
    }
}

/// Records of one topic partition in the order of their offsets.
///
/// Offsets may have gaps: transaction markers, compaction, records that a transformation dropped or that went to the dead
/// letter queue. `next_offset` accounts for those at the end, so a batch may even be empty and still move a position on.
/// A batch may come again after a restart or an error. A sink that knows how far its destination is leaves out what is there:
///
/// ```
/// use ottla_api::prelude::*;
///
/// let record = |offset| SinkRecord {
///     record: Record::new("posts", offset),
///     raw: RawRecord { offset, ..RawRecord::default() },
/// };
/// let batch = SinkBatch {
///     partition: TopicPartition::new("posts", 0),
///     records: vec![record(4), record(5), record(8)],
///     next_offset: 10,
/// };
/// let left: Vec<i64> = batch.records_from(5).iter().map(SinkRecord::offset).collect();
/// assert_eq!(left, [5, 8]);
/// ```
#[derive(Debug, Clone)]
pub struct SinkBatch {
    /// The original topic partition, before transformations.
    pub partition: TopicPartition,
    /// The records that survived conversion and transformations, oldest first.
    pub records: Vec<SinkRecord>,
    /// Everything before this offset is in this batch, was in an earlier one, or needs no delivery.
    pub next_offset: i64,
}

impl SinkBatch {
    /// The records at `position` and behind, for a sink whose destination already has those before.
    pub fn records_from(&self, position: i64) -> &[SinkRecord] {
        &self.records[self.records.partition_point(|record| record.offset() < position)..]
    }
}

/// The field `name` of a record's decoded value, or an error that names what is missing.
pub fn required_field<'a>(value: &'a Value, name: &str) -> Result<&'a Value> {
    value.field(name).ok_or_else(|| Error::data(format!("field '{name}' is missing")))
}
