//! Values: one item of data, with or without a schema.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::name::Name;
use super::schema::{Schema, SchemaType, logical};
use crate::error::{Error, Result};

/// One item of data.
///
/// A schemaless record uses `Null`, `Boolean`, `Int64`, `Float64`, `Number`, `String`, `Array` and `Map` (what JSON has), and
/// the logical types where a transformation made them. The other variants appear where a schema asks for them.
/// ```
/// use ottla_api::data::json;
/// use ottla_api::prelude::*;
///
/// let value = json::parse(br#"{"id":7,"price":12.30,"tags":["new"]}"#)?;
/// assert_eq!(value.field("id").and_then(Value::as_i64), Some(7));
/// // Digits are kept: as a floating point number this would be written 12.3.
/// assert_eq!(value.field("price"), Some(&Value::Number("12.30".into())));
/// assert_eq!(json::to_string(&value), r#"{"id":7,"price":12.30,"tags":["new"]}"#);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// No value.
    #[default]
    Null,
    /// True or false.
    Boolean(bool),
    /// Eight bits, signed.
    Int8(i8),
    /// Sixteen bits, signed.
    Int16(i16),
    /// Thirty-two bits, signed.
    Int32(i32),
    /// Sixty-four bits, signed.
    Int64(i64),
    /// Single precision.
    Float32(f32),
    /// Double precision.
    Float64(f64),
    /// A JSON number whose text neither `i64` nor `f64` reproduces, kept as written: `12.30`, `1E400`, 20 digits.
    Number(Box<str>),
    /// Text.
    String(String),
    /// Bytes; JSON writes them in base64.
    Bytes(Bytes),
    /// Values of one type, or of any where there is no schema.
    Array(Vec<Value>),
    /// Fields by name, in order.
    Map(Map),
    /// A map whose keys are not text. JSON writes it as an array of pairs.
    Pairs(Vec<(Value, Value)>),
    /// Fields laid out by a schema.
    Struct(Struct),
    /// Logical type Decimal.
    Decimal(Decimal),
    /// Logical type Date: days since 1970-01-01.
    Date(i32),
    /// Logical type Time: milliseconds since midnight.
    Time(i32),
    /// Logical type Timestamp: milliseconds since 1970-01-01T00:00:00Z.
    Timestamp(i64),
}

impl Value {
    /// True for [`Value::Null`].
    #[inline]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The value as text, where it is text.
    #[inline]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value as an integer, where it is one of any width (logical types are not).
    #[inline]
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::Int8(n) => Some(n.into()),
            Self::Int16(n) => Some(n.into()),
            Self::Int32(n) => Some(n.into()),
            Self::Int64(n) => Some(n),
            _ => None,
        }
    }

    /// The value as a floating point number, where it is a number of any kind. Large integers lose their last digits.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Float32(n) => Some((*n).into()),
            Self::Float64(n) => Some(*n),
            Self::Number(text) => text.parse().ok(),
            other => other.as_i64().map(|n| n as f64),
        }
    }

    /// The fields, where the value is a [`Map`].
    #[inline]
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The field `name` of a map or struct; nothing for other values and unknown names.
    #[inline]
    pub fn field(&self, name: &str) -> Option<&Value> {
        match self {
            Self::Map(map) => map.get(name),
            Self::Struct(fields) => fields.get(name),
            _ => None,
        }
    }

    /// The kind of value in a word, for messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean(_) => "boolean",
            Self::Int8(_) => "int8",
            Self::Int16(_) => "int16",
            Self::Int32(_) => "int32",
            Self::Int64(_) => "int64",
            Self::Float32(_) => "float32",
            Self::Float64(_) => "float64",
            Self::Number(_) => "number",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Array(_) => "array",
            Self::Map(_) | Self::Pairs(_) => "map",
            Self::Struct(_) => "struct",
            Self::Decimal(_) => "decimal",
            Self::Date(_) => "date",
            Self::Time(_) => "time",
            Self::Timestamp(_) => "timestamp",
        }
    }
}

macro_rules! value_from {
    ($($from:ty => $variant:ident),* $(,)?) => {
        $(impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Self::$variant(value.into())
            }
        })*
    };
}

value_from! {
    bool => Boolean, i8 => Int8, i16 => Int16, i32 => Int32, i64 => Int64, f32 => Float32, f64 => Float64,
    String => String, &str => String, Bytes => Bytes, Vec<Value> => Array, Map => Map, Struct => Struct,
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Named values in the order in which they came.
///
/// A list, not a hash table: records have a dozen fields, where walking beats hashing, and the order is the point.
/// ```
/// use ottla_api::prelude::*;
///
/// let mut map = Map::new();
/// map.push("id", 7i64);
/// map.push("name", "Ada");
/// map.insert("id", 8i64); // In its place.
/// map.insert("born", Value::Date(-56_270));
/// assert_eq!(map.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["id", "name", "born"]);
/// ```
#[derive(Clone, PartialEq, Default)]
pub struct Map(Vec<(Name, Value)>);

impl Map {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// No fields, with room for `capacity` of them.
    #[inline]
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// The value of field `name`.
    #[inline]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value)
    }

    /// The value of field `name`, to change in place.
    #[inline]
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.0.iter_mut().find(|(field, _)| field == name).map(|(_, value)| value)
    }

    /// True where there is a field `name`, null or not.
    #[inline]
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Sets field `name`: in its place where it exists, at the end where not. Returns what was there.
    #[inline]
    pub fn insert(&mut self, name: impl Into<Name> + AsRef<str>, value: impl Into<Value>) -> Option<Value> {
        match self.get_mut(name.as_ref()) {
            Some(place) => Some(std::mem::replace(place, value.into())),
            None => {
                self.0.push((name.into(), value.into()));
                None
            }
        }
    }

    /// Appends without looking for the name, for a caller that knows that it is new.
    #[inline]
    pub fn push(&mut self, name: impl Into<Name>, value: impl Into<Value>) {
        self.0.push((name.into(), value.into()));
    }

    /// Takes field `name` out; the others keep their order.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let index = self.0.iter().position(|(field, _)| field == name)?;
        Some(self.0.remove(index).1)
    }

    /// The fields in order.
    #[inline]
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &Value)> + ExactSizeIterator {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The fields in order, to change in place.
    #[inline]
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (&str, &mut Value)> + ExactSizeIterator {
        self.0.iter_mut().map(|(name, value)| (name.as_str(), value))
    }

    /// The fields as the list that they are, for a caller that keeps places in it, renames, or reorders. Two fields of one
    /// name must not remain.
    #[inline]
    pub fn fields_mut(&mut self) -> &mut Vec<(Name, Value)> {
        &mut self.0
    }

    /// These fields, no two of which have the same name.
    #[inline]
    pub(crate) fn from_fields(fields: Vec<(Name, Value)>) -> Self {
        Self(fields)
    }

    /// Of fields with one name keeps the last value, in the place of the first.
    pub(crate) fn keep_last(&mut self) {
        let mut places: HashMap<Name, usize> = HashMap::with_capacity(self.0.len());
        let mut kept: Vec<(Name, Value)> = Vec::with_capacity(self.0.len());
        for (name, value) in std::mem::take(&mut self.0) {
            match places.entry(name) {
                Entry::Occupied(place) => kept[*place.get()].1 = value,
                Entry::Vacant(place) => {
                    kept.push((place.key().clone(), value));
                    place.insert(kept.len() - 1);
                }
            }
        }
        self.0 = kept;
    }

    /// Keeps the fields for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &mut Value) -> bool) {
        self.0.retain_mut(|(name, value)| keep(name, value));
    }

    /// How many fields there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True where there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<N: Into<Name>> FromIterator<(N, Value)> for Map {
    fn from_iter<I: IntoIterator<Item = (N, Value)>>(fields: I) -> Self {
        Self(fields.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }
}

impl IntoIterator for Map {
    type Item = (Name, Value);
    type IntoIter = std::vec::IntoIter<(Name, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Values laid out by a schema of type struct.
/// ```
/// use ottla_api::data::SchemaType;
/// use ottla_api::prelude::*;
///
/// let schema = Schema::structure()
///     .name("Person")
///     .field("id", Schema::of(SchemaType::Int64))
///     .field("name", Schema::optional(SchemaType::String))
///     .build();
/// let mut person = Struct::new(schema.clone());
/// person.put("id", 7i64)?;
/// person.validate()?; // The name is optional.
/// assert!(person.put("age", 36i64).is_err());
///
/// let record = Payload::with_schema(schema, Value::Struct(person));
/// assert_eq!(record.decoded()?.field("id"), Some(&Value::Int64(7)));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct Struct {
    schema: Arc<Schema>,
    values: Vec<Value>,
}

impl Struct {
    /// A struct of this schema with every field null.
    ///
    /// # Panics
    ///
    /// If the schema is not a struct's.
    pub fn new(schema: Arc<Schema>) -> Self {
        assert_eq!(schema.schema_type(), SchemaType::Struct, "a struct needs a schema of type struct");
        let values = vec![Value::Null; schema.fields().len()];
        Self { schema, values }
    }

    /// A struct of these values, one for each field of the schema in its order.
    pub fn from_values(schema: Arc<Schema>, values: Vec<Value>) -> Result<Self> {
        if schema.schema_type() != SchemaType::Struct || schema.fields().len() != values.len() {
            return Err(Error::data(format!(
                "{} values do not fit a schema with {} fields",
                values.len(),
                schema.fields().len()
            )));
        }
        Ok(Self { schema, values })
    }

    /// The layout.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The value of field `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.schema.field_index(name).map(|index| &self.values[index])
    }

    /// Sets field `name`; an unknown name is an error (Kafka: `<name> is not a valid field name`).
    pub fn put(&mut self, name: &str, value: impl Into<Value>) -> Result<()> {
        let index =
            self.schema.field_index(name).ok_or_else(|| Error::data(format!("{name} is not a valid field name")))?;
        self.values[index] = value.into();
        Ok(())
    }

    /// The values in the schema's order.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// The fields with their values, in the schema's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.schema.fields().iter().map(|field| field.name.as_str()).zip(&self.values)
    }

    /// Takes it apart.
    pub fn into_parts(self) -> (Arc<Schema>, Vec<Value>) {
        (self.schema, self.values)
    }

    /// Checks every value against its field's schema, as Kafka's `Struct.validate`.
    pub fn validate(&self) -> Result<()> {
        for (field, value) in self.schema.fields().iter().zip(&self.values) {
            check(&field.schema, value).map_err(|error| error.with("field", &field.name))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Struct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Struct ")?;
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Checks that a value fits a schema: null only where optional or defaulted, the right type, the same for what is inside.
pub(crate) fn check(schema: &Schema, value: &Value) -> Result<()> {
    if value.is_null() {
        return if schema.is_optional() || schema.default().is_some() {
            Ok(())
        } else {
            Err(Error::data("a required value is null"))
        };
    }
    let fits = match (schema.name(), schema.schema_type(), value) {
        (Some(logical::DECIMAL), _, Value::Decimal(_))
        | (Some(logical::DATE), _, Value::Date(_))
        | (Some(logical::TIME), _, Value::Time(_))
        | (Some(logical::TIMESTAMP), _, Value::Timestamp(_)) => true,
        (_, SchemaType::Boolean, Value::Boolean(_))
        | (_, SchemaType::Int8, Value::Int8(_))
        | (_, SchemaType::Int16, Value::Int16(_))
        | (_, SchemaType::Int32, Value::Int32(_))
        | (_, SchemaType::Int64, Value::Int64(_))
        | (_, SchemaType::Float32, Value::Float32(_))
        | (_, SchemaType::Float64, Value::Float64(_))
        | (_, SchemaType::String, Value::String(_))
        | (_, SchemaType::Bytes, Value::Bytes(_)) => !schema.is_logical(),
        (_, SchemaType::Struct, Value::Struct(fields)) => return fields.validate(),
        (_, SchemaType::Array, Value::Array(items)) => {
            return items.iter().try_for_each(|item| check(schema.items(), item));
        }
        (_, SchemaType::Map, Value::Map(map)) => {
            return map.iter().try_for_each(|(_, item)| check(schema.items(), item));
        }
        (_, SchemaType::Map, Value::Pairs(pairs)) => {
            return pairs.iter().try_for_each(|(key, item)| {
                check(schema.keys(), key)?;
                check(schema.items(), item)
            });
        }
        _ => false,
    };
    if fits { Ok(()) } else { Err(Error::data(format!("expected {}, found {}", schema.describe(), value.type_name()))) }
}

/// Logical type Decimal: `unscaled / 10^scale`, of any size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decimal {
    /// Two's complement, big-endian, as Java's `BigInteger.toByteArray`.
    pub unscaled: Bytes,
    /// Digits after the point; may be negative.
    pub scale: i32,
}

impl Decimal {
    /// Reads decimal digits with an optional sign, point and exponent.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = || Error::data(format!("'{text}' is not a decimal number"));
        let (mantissa, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], text[at + 1..].parse::<i32>().map_err(|_| bad())?),
            None => (text, 0),
        };
        let (negative, digits) = match mantissa.as_bytes().first() {
            Some(b'-') => (true, &mantissa[1..]),
            Some(b'+') => (false, &mantissa[1..]),
            _ => (false, mantissa),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && fraction.is_empty()
            || !(whole.bytes().chain(fraction.bytes())).all(|b| b.is_ascii_digit())
        {
            return Err(bad());
        }
        let scale = i32::try_from(fraction.len()).map_err(|_| bad())? - exponent;
        // Base 256, little-endian, by repeated multiplication: short numbers, and no big-integer crate for them.
        let mut magnitude: Vec<u8> = vec![0];
        for digit in whole.bytes().chain(fraction.bytes()) {
            let mut carry = u16::from(digit - b'0');
            for byte in &mut magnitude {
                let product = u16::from(*byte) * 10 + carry;
                *byte = (product & 0xff) as u8;
                carry = product >> 8;
            }
            if carry > 0 {
                magnitude.push(carry as u8);
            }
        }
        if magnitude.last().is_some_and(|byte| byte & 0x80 != 0) {
            magnitude.push(0);
        }
        if negative {
            negate(&mut magnitude);
        }
        // Java's form is minimal: no byte that only repeats the sign.
        while magnitude.len() > 1 {
            let (last, before) = (magnitude[magnitude.len() - 1], magnitude[magnitude.len() - 2]);
            if (last == 0 && before & 0x80 == 0) || (last == 0xff && before & 0x80 != 0) {
                magnitude.pop();
            } else {
                break;
            }
        }
        magnitude.reverse();
        Ok(Self { unscaled: magnitude.into(), scale })
    }
}

/// Two's complement negation of a little-endian number.
fn negate(bytes: &mut [u8]) {
    let mut carry = true;
    for byte in bytes {
        let (value, overflow) = (!*byte).overflowing_add(u8::from(carry));
        *byte = value;
        carry = overflow;
    }
}

/// Prints plain digits, as Java's `BigDecimal.toPlainString`.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut magnitude: Vec<u8> = self.unscaled.iter().rev().copied().collect();
        let negative = magnitude.last().is_some_and(|byte| byte & 0x80 != 0);
        if negative {
            negate(&mut magnitude);
        }
        let mut digits = Vec::new();
        while magnitude.iter().any(|byte| *byte != 0) {
            let mut remainder = 0u16;
            for byte in magnitude.iter_mut().rev() {
                let value = (remainder << 8) | u16::from(*byte);
                *byte = (value / 10) as u8;
                remainder = value % 10;
            }
            digits.push(b'0' + remainder as u8);
        }
        if self.scale < 0 && !digits.is_empty() {
            digits.splice(0..0, std::iter::repeat_n(b'0', self.scale.unsigned_abs() as usize));
        }
        let point = self.scale.max(0) as usize;
        while digits.len() <= point {
            digits.push(b'0');
        }
        if negative {
            f.write_str("-")?;
        }
        for (index, digit) in digits.iter().enumerate().rev() {
            write!(f, "{}", *digit as char)?;
            if index == point && point > 0 {
                f.write_str(".")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_keeps_the_place_of_a_field_that_is_set_again() {
        let mut map = Map::new();
        map.insert("b", 1i64);
        map.insert("a", 2i64);
        map.insert("b", 3i64);
        assert_eq!(map.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(map.get("b"), Some(&Value::Int64(3)));
    }

    #[test]
    fn decimals_print_as_they_were_written() {
        for text in
            ["0", "-1", "12.30", "-0.05", "128", "-128", "127", "-129", "255", "123456789012345678901234567890.5"]
        {
            assert_eq!(Decimal::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Decimal::parse("1e3").unwrap().to_string(), "1000");
        assert_eq!(Decimal::parse("-128").unwrap().unscaled, Bytes::from_static(&[0x80]));
    }
}
