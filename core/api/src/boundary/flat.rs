//! The flat encoding of everything that crosses the boundary: read in place, without a schema of its own.
//!
//! Numbers are little-endian; a text or a piece of bytes is its length as u32 and its bytes; a list is its length as u32 and
//! its items; an option is a byte, 0 or 1, and the item; a pair or a structure is its parts in order. A value is a byte that says of which
//! kind it is ([`tag`]) and its content. A schema is written once per object and direction; where a value needs one, its number stands.
//!
//! What is read comes from another library. A length that goes beyond the end, a kind that does not exist, a text that is not UTF-8 or a nesting
//! beyond [`DEPTH_MAX`] is an error, never a panic.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::config::{ConfigError, ConfigKey, Importance, KeyName, Properties};
use crate::data::{Decimal, Field, Map, Schema, SchemaType, Struct, Value};
use crate::error::{Error, ErrorKind, Result};
use crate::header::{Header, Headers};
use crate::offset::{SourceOffset, SourcePartition, TopicPartition};
use crate::record::{Payload, RawRecord, Record, SinkRecord};
use crate::sink::{CloseReason, Delivery, FlushReason};

/// How deep values and schemas may be nested: all that JSON may be, and some.
pub const DEPTH_MAX: usize = crate::data::json::DEPTH_MAX + 16;

/// How many names that come up while running are kept for ever: of counters, of facts in errors.
const NAMES_MAX: usize = 4096;

/// The kinds of values.
#[allow(missing_docs)] // As the variants of `Value`.
pub mod tag {
    pub const NULL: u8 = 0;
    pub const FALSE: u8 = 1;
    pub const TRUE: u8 = 2;
    pub const INT8: u8 = 3;
    pub const INT16: u8 = 4;
    pub const INT32: u8 = 5;
    pub const INT64: u8 = 6;
    pub const FLOAT32: u8 = 7;
    pub const FLOAT64: u8 = 8;
    pub const NUMBER: u8 = 9;
    pub const STRING: u8 = 10;
    pub const BYTES: u8 = 11;
    pub const ARRAY: u8 = 12;
    pub const MAP: u8 = 13;
    pub const PAIRS: u8 = 14;
    pub const STRUCT: u8 = 15;
    pub const DECIMAL: u8 = 16;
    pub const DATE: u8 = 17;
    pub const TIME: u8 = 18;
    pub const TIMESTAMP: u8 = 19;
}

/// The schemas that one side has announced, by their numbers.
#[derive(Debug, Default)]
pub struct SentSchemas {
    known: Vec<Arc<Schema>>,
    announced: usize,
    last: usize,
}

impl SentSchemas {
    /// So many may be known before all are forgotten and begun anew: somebody makes one for each record.
    const KNOWN_MAX: usize = 1024;

    /// The number of a schema, which is announced with the next message where it is new.
    pub fn number(&mut self, schema: &Arc<Schema>) -> u32 {
        let is_it = |known: &Arc<Schema>| Arc::ptr_eq(known, schema);
        if !self.known.get(self.last).is_some_and(is_it) {
            self.last = self.known.iter().rposition(is_it).unwrap_or_else(|| {
                self.number_defaults(schema);
                self.known.push(Arc::clone(schema));
                self.known.len() - 1
            });
        }
        self.last as u32
    }

    /// Structs among the default values of a schema have theirs announced before it.
    fn number_defaults(&mut self, schema: &Schema) {
        fn of_value(value: &Value, schemas: &mut SentSchemas) {
            match value {
                Value::Struct(fields) => {
                    schemas.number(fields.schema());
                    fields.values().iter().for_each(|value| of_value(value, schemas));
                }
                Value::Array(items) => items.iter().for_each(|value| of_value(value, schemas)),
                Value::Map(map) => map.iter().for_each(|(_, value)| of_value(value, schemas)),
                Value::Pairs(pairs) => pairs.iter().for_each(|(key, value)| {
                    of_value(key, schemas);
                    of_value(value, schemas);
                }),
                _ => {}
            }
        }
        if let Some(default) = schema.default() {
            of_value(default, self);
        }
        match schema.schema_type() {
            SchemaType::Array => self.number_defaults(schema.items()),
            SchemaType::Map => {
                self.number_defaults(schema.keys());
                self.number_defaults(schema.items());
            }
            _ => schema.fields().iter().for_each(|field| self.number_defaults(&field.schema)),
        }
    }

    /// To be called before a message is begun.
    pub fn begin(&mut self) {
        if self.known.len() > Self::KNOWN_MAX {
            *self = Self::default();
        }
    }

    /// What the message announces; empty for most.
    pub fn announce(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.announced == self.known.len() {
            return bytes;
        }
        let new: Vec<Arc<Schema>> = self.known[self.announced..].to_vec();
        let mut to = Encoder { bytes: &mut bytes, schemas: self };
        (to.schemas.announced as u32).write(&mut to);
        (new.len() as u32).write(&mut to);
        for schema in &new {
            write_schema(schema, &mut to);
        }
        self.announced += new.len();
        bytes
    }
}

/// The schemas that the other side has announced.
#[derive(Debug, Default)]
pub struct ReceivedSchemas(Vec<Arc<Schema>>);

impl ReceivedSchemas {
    /// Takes in what a message announces.
    pub fn learn(&mut self, announced: &[u8]) -> Result<()> {
        if announced.is_empty() {
            return Ok(());
        }
        let mut list = announced;
        let mut decoder = Decoder { bytes: &mut list, schemas: &[], depth: 0 };
        let (first, count) = (u32::read(&mut decoder)? as usize, u32::read(&mut decoder)?);
        if first > self.0.len() {
            return Err(malformed("its schemas are out of step"));
        }
        self.0.truncate(first);
        for _ in 0..count {
            let schema = read_schema(&mut Decoder { bytes: &mut list, schemas: &self.0, depth: 0 })?;
            self.0.push(schema);
        }
        Ok(())
    }

    /// All of them, by number.
    pub fn all(&self) -> &[Arc<Schema>] {
        &self.0
    }
}

/// Where things are written.
#[derive(Debug)]
pub struct Encoder<'a> {
    /// What was written.
    pub bytes: &'a mut Vec<u8>,
    /// The schemas that this side has announced.
    pub schemas: &'a mut SentSchemas,
}

/// Where things are read from.
#[derive(Debug)]
pub struct Decoder<'a, 'b> {
    /// What is left to read.
    pub bytes: &'b mut &'a [u8],
    /// The schemas that the other side has announced.
    pub schemas: &'b [Arc<Schema>],
    depth: usize,
}

/// The error for what can't be read.
pub fn malformed(what: &str) -> Error {
    Error::fatal(format!("a message over the plugin boundary can't be read: {what}"))
}

impl<'a, 'b> Decoder<'a, 'b> {
    /// Reads from `bytes`, which becomes what is left.
    pub fn new(bytes: &'b mut &'a [u8], schemas: &'b [Arc<Schema>]) -> Self {
        Self { bytes, schemas, depth: 0 }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or_else(|| malformed("it ends early"))?;
        *self.bytes = rest;
        Ok(taken)
    }

    fn piece(&mut self) -> Result<&'a [u8]> {
        let length = u32::read(self)? as usize;
        self.take(length)
    }

    /// A text, in place.
    pub fn text(&mut self) -> Result<&'a str> {
        let piece = self.piece()?;
        simdutf8::basic::from_utf8(piece).map_err(|_| malformed("a text is not UTF-8"))
    }

    /// The length of a list whose items take `least` bytes each, so that a wrong length can't ask for all memory.
    fn count(&mut self, least: usize) -> Result<usize> {
        let count = u32::read(self)? as usize;
        if count.saturating_mul(least) > self.bytes.len() {
            return Err(malformed("a list is longer than what is left"));
        }
        Ok(count)
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == DEPTH_MAX {
            return Err(malformed("it is nested too deeply"));
        }
        self.depth += 1;
        let read = read(self);
        self.depth -= 1;
        read
    }

    /// As many items as the list says. Not by `collect`: with it each level of nesting takes several times the stack.
    fn list<T>(&mut self, count: usize, mut read: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }

    fn schema(&mut self) -> Result<Arc<Schema>> {
        let number = u32::read(self)?;
        self.schemas.get(number as usize).cloned().ok_or_else(|| malformed("a schema was never announced"))
    }
}

/// What has a flat form.
pub trait Flat: Sized {
    /// Appends the flat form.
    fn write(&self, to: &mut Encoder<'_>);
    /// Reads it back.
    fn read(from: &mut Decoder<'_, '_>) -> Result<Self>;
}

/// The flat form of something without schemas.
pub fn to_bytes(item: &impl Flat) -> Vec<u8> {
    let mut bytes = Vec::new();
    item.write(&mut Encoder { bytes: &mut bytes, schemas: &mut SentSchemas::default() });
    bytes
}

/// Reads something without schemas, to the end.
pub fn from_bytes<T: Flat>(bytes: &[u8]) -> Result<T> {
    from_bytes_with(bytes, &[])
}

/// Reads something to the end.
pub fn from_bytes_with<T: Flat>(mut bytes: &[u8], schemas: &[Arc<Schema>]) -> Result<T> {
    let item = T::read(&mut Decoder { bytes: &mut bytes, schemas, depth: 0 })?;
    if bytes.is_empty() { Ok(item) } else { Err(malformed("more follows than belongs there")) }
}

/// A text that is kept for ever: what a library says of its plugins and their options, once, when it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept(pub &'static str);

impl Flat for Kept {
    fn write(&self, to: &mut Encoder<'_>) {
        write_bytes(self.0.as_bytes(), to);
    }

    fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
        Ok(Self(Box::leak(from.text()?.into())))
    }
}

/// Keeps a name for ever. There are few different ones, of counters and of facts in errors; a plugin that makes up ever new ones sees them
/// called `other`.
pub fn intern(name: &str) -> &'static str {
    static NAMES: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let names = names.get_or_insert_default();
    if let Some(known) = names.get(name) {
        return known;
    }
    if names.len() >= NAMES_MAX {
        return "other";
    }
    let name: &'static str = Box::leak(name.into());
    names.insert(name);
    name
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Flat for $number {
            #[inline]
            fn write(&self, to: &mut Encoder<'_>) {
                to.bytes.extend_from_slice(&self.to_le_bytes());
            }

            #[inline]
            fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
                let bytes = from.take(size_of::<Self>())?;
                Ok(Self::from_le_bytes(bytes.try_into().unwrap_or_default()))
            }
        }
    )*};
}

numbers!(u8 u32 u64 i8 i16 i32 i64 f32 f64);

macro_rules! tuples {
    ($(($($part:ident $index:tt),*))*) => {$(
        impl<$($part: Flat),*> Flat for ($($part,)*) {
            fn write(&self, to: &mut Encoder<'_>) {
                $(self.$index.write(to);)*
            }

            fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
                Ok(($($part::read(from)?,)*))
            }
        }
    )*};
}

tuples!((A 0, B 1) (A 0, B 1, C 2) (A 0, B 1, C 2, D 3) (A 0, B 1, C 2, D 3, E 4));

impl Flat for () {
    fn write(&self, _: &mut Encoder<'_>) {}

    fn read(_: &mut Decoder<'_, '_>) -> Result<Self> {
        Ok(())
    }
}

impl Flat for bool {
    fn write(&self, to: &mut Encoder<'_>) {
        to.bytes.push(u8::from(*self));
    }

    fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
        Ok(u8::read(from)? != 0)
    }
}

fn write_bytes(bytes: &[u8], to: &mut Encoder<'_>) {
    // A single value of 4 GiB does not come this far: no broker takes it.
    (u32::try_from(bytes.len()).unwrap_or(u32::MAX)).write(to);
    to.bytes.extend_from_slice(bytes);
}

impl Flat for Bytes {
    fn write(&self, to: &mut Encoder<'_>) {
        write_bytes(self, to);
    }

    fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
        Ok(Self::copy_from_slice(from.piece()?))
    }
}

macro_rules! texts {
    ($($text:ty)*) => {$(
        impl Flat for $text {
            fn write(&self, to: &mut Encoder<'_>) {
                write_bytes(self.as_bytes(), to);
            }

            fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
                Ok(from.text()?.into())
            }
        }
    )*};
}

texts!(String Arc<str> Box<str>);

/// A text that is read as a name kept for ever.
impl Flat for &'static str {
    fn write(&self, to: &mut Encoder<'_>) {
        write_bytes(self.as_bytes(), to);
    }

    fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
        Ok(intern(from.text()?))
    }
}

impl Flat for Cow<'static, str> {
    fn write(&self, to: &mut Encoder<'_>) {
        write_bytes(self.as_bytes(), to);
    }

    fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
        Ok(Cow::Owned(from.text()?.to_owned()))
    }
}

impl Flat for PathBuf {
    fn write(&self, to: &mut Encoder<'_>) {
        write_bytes(OsStr::as_bytes(self.as_os_str()), to);
    }

    fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
        Ok(std::ffi::OsString::from_vec(from.piece()?.to_vec()).into())
    }
}

impl<T: Flat> Flat for Option<T> {
    fn write(&self, to: &mut Encoder<'_>) {
        self.is_some().write(to);
        if let Some(item) = self {
            item.write(to);
        }
    }

    fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
        bool::read(from)?.then(|| T::read(from)).transpose()
    }
}

impl<T: Flat> Flat for Vec<T> {
    fn write(&self, to: &mut Encoder<'_>) {
        (self.len() as u32).write(to);
        for item in self {
            item.write(to);
        }
    }

    fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
        let count = from.count(1)?;
        from.list(count, T::read)
    }
}

impl<K: Flat + Ord, V: Flat> Flat for BTreeMap<K, V> {
    fn write(&self, to: &mut Encoder<'_>) {
        (self.len() as u32).write(to);
        for (key, value) in self {
            key.write(to);
            value.write(to);
        }
    }

    fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
        (0..from.count(1)?).map(|_| Ok((K::read(from)?, V::read(from)?))).collect()
    }
}

impl Flat for Value {
    fn write(&self, to: &mut Encoder<'_>) {
        macro_rules! tagged {
            ($tag:ident, $content:expr) => {{
                to.bytes.push(tag::$tag);
                $content.write(to);
            }};
        }
        match self {
            Self::Null => to.bytes.push(tag::NULL),
            Self::Boolean(false) => to.bytes.push(tag::FALSE),
            Self::Boolean(true) => to.bytes.push(tag::TRUE),
            Self::Int8(n) => tagged!(INT8, n),
            Self::Int16(n) => tagged!(INT16, n),
            Self::Int32(n) => tagged!(INT32, n),
            Self::Int64(n) => tagged!(INT64, n),
            Self::Float32(n) => tagged!(FLOAT32, n),
            Self::Float64(n) => tagged!(FLOAT64, n),
            Self::Number(text) => tagged!(NUMBER, text),
            Self::String(text) => tagged!(STRING, text),
            Self::Bytes(bytes) => tagged!(BYTES, bytes),
            Self::Array(items) => tagged!(ARRAY, items),
            Self::Map(map) => tagged!(MAP, map),
            Self::Pairs(pairs) => tagged!(PAIRS, pairs),
            Self::Struct(fields) => {
                to.bytes.push(tag::STRUCT);
                to.schemas.number(fields.schema()).write(to);
                for value in fields.values() {
                    value.write(to);
                }
            }
            Self::Decimal(decimal) => {
                to.bytes.push(tag::DECIMAL);
                decimal.scale.write(to);
                decimal.unscaled.write(to);
            }
            Self::Date(days) => tagged!(DATE, days),
            Self::Time(ms) => tagged!(TIME, ms),
            Self::Timestamp(ms) => tagged!(TIMESTAMP, ms),
        }
    }

    fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
        match u8::read(from)? {
            container @ (tag::ARRAY | tag::MAP | tag::PAIRS | tag::STRUCT) => read_container(container, from),
            leaf => read_leaf(leaf, from),
        }
    }
}

/// Apart from the leaves, and those apart from this: what a level of nesting takes of the stack is what stands here.
#[inline(never)]
fn read_container(tag: u8, from: &mut Decoder<'_, '_>) -> Result<Value> {
    Ok(match tag {
        tag::ARRAY => Value::Array(from.deeper(Flat::read)?),
        tag::MAP => Value::Map(from.deeper(Flat::read)?),
        tag::PAIRS => Value::Pairs(from.deeper(Flat::read)?),
        _ => Value::Struct(read_struct(from)?),
    })
}

#[inline(never)]
fn read_struct(from: &mut Decoder<'_, '_>) -> Result<Struct> {
    let schema = from.schema()?;
    if schema.schema_type() != SchemaType::Struct {
        return Err(malformed("the schema of a struct is not one"));
    }
    let values = from.deeper(|from| from.list(schema.fields().len(), Value::read))?;
    Struct::from_values(schema, values)
}

#[inline(never)]
fn read_leaf(tag: u8, from: &mut Decoder<'_, '_>) -> Result<Value> {
    Ok(match tag {
        tag::NULL => Value::Null,
        tag::FALSE => Value::Boolean(false),
        tag::TRUE => Value::Boolean(true),
        tag::INT8 => Value::Int8(Flat::read(from)?),
        tag::INT16 => Value::Int16(Flat::read(from)?),
        tag::INT32 => Value::Int32(Flat::read(from)?),
        tag::INT64 => Value::Int64(Flat::read(from)?),
        tag::FLOAT32 => Value::Float32(Flat::read(from)?),
        tag::FLOAT64 => Value::Float64(Flat::read(from)?),
        tag::NUMBER => Value::Number(Flat::read(from)?),
        tag::STRING => Value::String(Flat::read(from)?),
        tag::BYTES => Value::Bytes(Flat::read(from)?),
        tag::DECIMAL => {
            let scale = Flat::read(from)?;
            Value::Decimal(Decimal { scale, unscaled: Flat::read(from)? })
        }
        tag::DATE => Value::Date(Flat::read(from)?),
        tag::TIME => Value::Time(Flat::read(from)?),
        tag::TIMESTAMP => Value::Timestamp(Flat::read(from)?),
        _ => return Err(malformed("there is no such kind of value")),
    })
}

impl Flat for Map {
    fn write(&self, to: &mut Encoder<'_>) {
        (self.len() as u32).write(to);
        for (name, value) in self.iter() {
            write_bytes(name.as_bytes(), to);
            value.write(to);
        }
    }

    fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
        let count = from.count(5)?;
        let mut map = Self::with_capacity(count);
        for _ in 0..count {
            let name = from.text()?;
            map.push(name, Value::read(from)?);
        }
        Ok(map)
    }
}

const SCHEMA_TYPES: [SchemaType; 12] = [
    SchemaType::Boolean,
    SchemaType::Int8,
    SchemaType::Int16,
    SchemaType::Int32,
    SchemaType::Int64,
    SchemaType::Float32,
    SchemaType::Float64,
    SchemaType::String,
    SchemaType::Bytes,
    SchemaType::Array,
    SchemaType::Map,
    SchemaType::Struct,
];

/// A schema with all that is in it. Structs among default values name theirs by number.
fn write_schema(schema: &Schema, to: &mut Encoder<'_>) {
    let number = SCHEMA_TYPES.iter().position(|other| *other == schema.schema_type()).unwrap_or_default();
    (number as u8).write(to);
    schema.is_optional().write(to);
    schema.name().map(str::to_owned).write(to);
    schema.version().write(to);
    schema.doc().map(str::to_owned).write(to);
    schema.parameters().write(to);
    schema.default().cloned().write(to);
    match schema.schema_type() {
        SchemaType::Array => write_schema(schema.items(), to),
        SchemaType::Map => {
            write_schema(schema.keys(), to);
            write_schema(schema.items(), to);
        }
        SchemaType::Struct => {
            (schema.fields().len() as u32).write(to);
            for Field { name, schema } in schema.fields() {
                name.write(to);
                write_schema(schema, to);
            }
        }
        _ => {}
    }
}

fn read_schema(from: &mut Decoder<'_, '_>) -> Result<Arc<Schema>> {
    from.deeper(|from| {
        let number = u8::read(from)? as usize;
        let schema_type = *SCHEMA_TYPES.get(number).ok_or_else(|| malformed("there is no such type of schema"))?;
        let optional = bool::read(from)?;
        let name = Option::<String>::read(from)?;
        let version = Option::<i32>::read(from)?;
        let doc = Option::<String>::read(from)?;
        let parameters = BTreeMap::<String, String>::read(from)?;
        let default = Option::<Value>::read(from)?;
        let mut builder = match schema_type {
            SchemaType::Array => Schema::array(read_schema(from)?),
            SchemaType::Map => {
                let keys = read_schema(from)?;
                Schema::map(keys, read_schema(from)?)
            }
            other => Schema::builder(other),
        };
        if schema_type == SchemaType::Struct {
            for _ in 0..from.count(5)? {
                let name = String::read(from)?;
                builder = builder.field(name, read_schema(from)?);
            }
        }
        builder = builder.optional_if(optional);
        if let Some(name) = name {
            builder = builder.name(name);
        }
        if let Some(version) = version {
            builder = builder.version(version);
        }
        if let Some(doc) = doc {
            builder = builder.doc(doc);
        }
        for (name, value) in parameters {
            builder = builder.parameter(name, value);
        }
        if let Some(default) = default {
            builder = builder.default_value(default);
        }
        Ok(builder.build())
    })
}

/// A schema by its number.
impl Flat for Arc<Schema> {
    fn write(&self, to: &mut Encoder<'_>) {
        to.schemas.number(self).write(to);
    }

    fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
        from.schema()
    }
}

impl Flat for Payload {
    fn write(&self, to: &mut Encoder<'_>) {
        match self {
            Self::Json(text) => {
                to.bytes.push(0);
                text.write(to);
            }
            Self::Data { schema, value } => {
                to.bytes.push(1);
                schema.write(to);
                value.write(to);
            }
        }
    }

    fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
        match u8::read(from)? {
            0 => Ok(Self::Json(Flat::read(from)?)),
            1 => {
                let schema = Flat::read(from)?;
                Ok(Self::Data { schema, value: Flat::read(from)? })
            }
            _ => Err(malformed("there is no such kind of payload")),
        }
    }
}

impl Flat for Headers {
    fn write(&self, to: &mut Encoder<'_>) {
        (self.len() as u32).write(to);
        for Header { key, value, schema } in self {
            key.write(to);
            value.write(to);
            schema.write(to);
        }
    }

    fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
        (0..from.count(6)?)
            .map(|_| {
                let (key, value) = (Flat::read(from)?, Flat::read(from)?);
                Ok(Header { key, value, schema: Flat::read(from)? })
            })
            .collect()
    }
}

impl Flat for Record {
    fn write(&self, to: &mut Encoder<'_>) {
        self.topic.write(to);
        self.partition.write(to);
        self.key.write(to);
        self.value.write(to);
        self.timestamp.write(to);
        self.headers.write(to);
        self.offset.write(to);
    }

    fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
        Ok(Self {
            topic: Flat::read(from)?,
            partition: Flat::read(from)?,
            key: Flat::read(from)?,
            value: Flat::read(from)?,
            timestamp: Flat::read(from)?,
            headers: Flat::read(from)?,
            offset: Flat::read(from)?,
        })
    }
}

impl Flat for RawRecord {
    fn write(&self, to: &mut Encoder<'_>) {
        self.offset.write(to);
        self.timestamp.write(to);
        self.key.write(to);
        self.value.write(to);
        self.headers.write(to);
    }

    fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
        Ok(Self {
            offset: Flat::read(from)?,
            timestamp: Flat::read(from)?,
            key: Flat::read(from)?,
            value: Flat::read(from)?,
            headers: Flat::read(from)?,
        })
    }
}

impl Flat for SinkRecord {
    fn write(&self, to: &mut Encoder<'_>) {
        self.record.write(to);
        self.raw.write(to);
    }

    fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
        Ok(Self { record: Flat::read(from)?, raw: Flat::read(from)? })
    }
}

impl Flat for TopicPartition {
    fn write(&self, to: &mut Encoder<'_>) {
        self.topic.write(to);
        self.partition.write(to);
    }

    fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
        Ok(Self { topic: Flat::read(from)?, partition: Flat::read(from)? })
    }
}

impl Flat for SourcePartition {
    fn write(&self, to: &mut Encoder<'_>) {
        write_bytes(self.as_json().as_bytes(), to);
    }

    fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
        Self::from_json(from.text()?)
    }
}

impl Flat for SourceOffset {
    fn write(&self, to: &mut Encoder<'_>) {
        self.fields().write(to);
    }

    fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
        Ok(Self::from_fields(Flat::read(from)?))
    }
}

impl Flat for Properties {
    fn write(&self, to: &mut Encoder<'_>) {
        (self.len() as u32).write(to);
        for (key, value) in self.iter() {
            write_bytes(key.as_bytes(), to);
            write_bytes(value.as_bytes(), to);
        }
    }

    fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
        (0..from.count(8)?).map(|_| Ok((from.text()?, from.text()?))).collect()
    }
}

impl Flat for ConfigError {
    fn write(&self, to: &mut Encoder<'_>) {
        self.key.write(to);
        self.message.write(to);
    }

    fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
        Ok(Self { key: Flat::read(from)?, message: Flat::read(from)? })
    }
}

/// An option without its check, which is a call of its own.
impl Flat for ConfigKey {
    fn write(&self, to: &mut Encoder<'_>) {
        let (prefix, name) = match &self.name {
            KeyName::Exact(name) => (false, name),
            KeyName::Prefix(prefix) => (true, prefix),
        };
        prefix.write(to);
        name.write(to);
        let kept = |names: &[&'static str]| names.iter().map(|name| Kept(name)).collect::<Vec<_>>();
        kept(&self.aliases).write(to);
        self.type_name.write(to);
        kept(&self.choices).write(to);
        self.default.write(to);
        self.required.write(to);
        let importance = match self.importance {
            Importance::High => 0u8,
            Importance::Medium => 1,
            Importance::Low => 2,
        };
        importance.write(to);
        self.secret.write(to);
        self.doc.write(to);
    }

    fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
        let prefix = bool::read(from)?;
        let name = Flat::read(from)?;
        let names = |from: &mut Decoder<'_, '_>| -> Result<Vec<&'static str>> {
            Ok(Vec::<Kept>::read(from)?.into_iter().map(|kept| kept.0).collect())
        };
        Ok(Self {
            name: if prefix { KeyName::Prefix(name) } else { KeyName::Exact(name) },
            aliases: names(from)?,
            type_name: Flat::read(from)?,
            choices: names(from)?,
            default: Flat::read(from)?,
            required: Flat::read(from)?,
            importance: match u8::read(from)? {
                0 => Importance::High,
                1 => Importance::Medium,
                _ => Importance::Low,
            },
            secret: Flat::read(from)?,
            doc: Flat::read(from)?,
            check: &|_| Ok(()),
        })
    }
}

const ERROR_KINDS: [ErrorKind; 6] = [
    ErrorKind::Retriable,
    ErrorKind::Unreachable,
    ErrorKind::RefreshAuth,
    ErrorKind::PoisonRecord,
    ErrorKind::Config,
    ErrorKind::Fatal,
];

impl Flat for Error {
    fn write(&self, to: &mut Encoder<'_>) {
        let kind = ERROR_KINDS.iter().position(|kind| *kind == self.kind()).unwrap_or(ERROR_KINDS.len() - 1);
        (kind as u8).write(to);
        let (message, context, cause) = self.parts();
        write_bytes(message.as_bytes(), to);
        (context.len() as u32).write(to);
        for (name, value) in context {
            name.write(to);
            value.write(to);
        }
        cause.write(to);
    }

    fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
        // A kind that only the other side knows does the least harm as one that stops.
        let kind = ERROR_KINDS.get(u8::read(from)? as usize).copied().unwrap_or(ErrorKind::Fatal);
        let mut error = Self::new(kind, String::read(from)?);
        for _ in 0..from.count(8)? {
            let name = <&'static str>::read(from)?;
            error = error.with(name, from.text()?);
        }
        Ok(match Option::<String>::read(from)? {
            Some(cause) => error.caused_by(cause),
            None => error,
        })
    }
}

macro_rules! choices {
    ($($choice:ty: $($variant:ident)*;)*) => {$(
        impl Flat for $choice {
            fn write(&self, to: &mut Encoder<'_>) {
                let number = [$(Self::$variant),*].iter().position(|other| other == self).unwrap_or_default();
                (number as u8).write(to);
            }

            fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
                let number = u8::read(from)?;
                [$(Self::$variant),*].get(number as usize).copied().ok_or_else(|| malformed("there is no such choice"))
            }
        }
    )*};
}

choices! {
    FlushReason: Interval Pressure Closing CaughtUp;
    CloseReason: Revoked Stopped Lost;
}

impl Flat for Delivery {
    fn write(&self, to: &mut Encoder<'_>) {
        self.location.write(to);
        self.records.write(to);
        self.bytes.write(to);
        self.sample.write(to);
    }

    fn read(from: &mut Decoder<'_, '_>) -> Result<Self> {
        Ok(Self {
            location: Flat::read(from)?,
            records: Flat::read(from)?,
            bytes: Flat::read(from)?,
            sample: Flat::read(from)?,
        })
    }
}
