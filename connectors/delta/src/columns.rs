//! Rows become columns: values go straight into Arrow builders.
//!
//! A record either fits as a whole or leaves no trace: it is checked first, then appended. A record that needs a column more,
//! or a wider one, makes the columns grow before it is appended; a column that the table has keeps its type for good.
//!
//! JSON text that nobody has decoded is appended without a tree ([`text`]); whatever is unusual about a record, the tree decides.

mod builders;
mod text;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, MapArray, NullArray, NullBufferBuilder, RecordBatch, RecordBatchOptions,
    StructArray, new_null_array,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field as ArrowField, Fields, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, Schema as ArrowSchema, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use ottla_api::data::{Decimal, Schema, json};
use ottla_api::prelude::*;

use crate::schema::{Field, Type, check_name, exact_double, find, shown};

use builders::{Booleans, Bytes, Primitives, offset, take_offsets};
use text::Text;

/// The largest number up to which a double holds every integer.
const DOUBLE_EXACT_MAX: u64 = 1 << 53;

/// Columns being filled.
#[derive(Debug)]
pub(crate) struct Columns {
    root: Fieldset,
    rows: usize,
    /// Fields that the columns don't have make them grow; else a record with such a field does not fit.
    grows: bool,
    /// The schema of the last record that came with one.
    seen: Option<Arc<Schema>>,
}

/// Whether a record fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    AsIs,
    /// After the columns have grown.
    Grown,
}

impl Columns {
    /// No rows yet. `fixed` are the table's columns, or those of the configuration; their types stay.
    pub(crate) fn new(fixed: &[Field], grows: bool) -> Self {
        Self { root: Fieldset::new(fixed, true), rows: 0, grows, seen: None }
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The columns with their types, as far as they are known.
    pub(crate) fn fields(&self) -> Vec<Field> {
        self.root.fields()
    }

    /// Appends a row that comes as compact JSON text.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub(crate) fn append_text(&mut self, text: &[u8]) -> Result<()> {
        let walked = Text::new(text).and_then(|mut text| {
            self.root.append_text(&mut text, self.rows)?;
            if text.is_at_end() { Ok(()) } else { Err(text::Unusual) }
        });
        if walked.is_ok() {
            self.rows += 1;
            return Ok(());
        }
        self.root.truncate(self.rows);
        self.append(None, &json::parse(text)?)
    }

    /// Appends a row.
    ///
    /// # Errors
    ///
    /// `PoisonRecord` with the field that doesn't fit, and the columns are as they were.
    pub(crate) fn append(&mut self, schema: Option<&Arc<Schema>>, value: &Value) -> Result<()> {
        if !matches!(value, Value::Map(_) | Value::Struct(_)) {
            return Err(Error::data(format!(
                "a row of a table is made of named fields; found {} (HoistField can put a name to it)",
                article(value)
            )));
        }
        let unseen = schema.is_some_and(|schema| !self.seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, schema)));
        if self.root.check(value, self.grows).map_err(Mismatch::into_error)? == Fit::Grown || (unseen && self.grows) {
            self.grow(schema, value)?;
            if self.root.check(value, self.grows).map_err(Mismatch::into_error)? == Fit::Grown {
                return Err(Error::data("the record's fields have no type that fits them all"));
            }
            self.seen = schema.cloned();
        }
        self.root.append(value, self.rows);
        self.rows += 1;
        Ok(())
    }

    /// Makes room for what the record has and the columns have not.
    fn grow(&mut self, schema: Option<&Arc<Schema>>, value: &Value) -> Result<()> {
        let of_record = match schema {
            Some(schema) => Type::of_schema(schema)?,
            None => Type::of_value(value)?,
        };
        if let Type::Struct(fields) = of_record {
            // Nothing is changed before everything is known to be right.
            self.root.check_growth(&fields)?;
            self.root.grow(&fields, self.rows);
        }
        Ok(())
    }

    /// True where no column has a type that a table can have: no row has a field with a value.
    pub(crate) fn is_hollow(&self) -> bool {
        self.root.columns.iter().all(|column| column.data_type().to_delta().is_none())
    }

    /// Takes the last row away.
    pub(crate) fn take_back(&mut self) {
        self.rows = self.rows.saturating_sub(1);
        self.root.truncate(self.rows);
    }

    /// Bytes that the rows take in memory.
    pub(crate) fn memory(&self) -> usize {
        self.root.memory()
    }

    /// Hands out the rows; the columns stay, with their types, and are fixed where `fix` says so.
    pub(crate) fn finish(&mut self, fix: bool) -> Result<RecordBatch> {
        let (fields, arrays) = self.root.finish();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let batch = RecordBatch::try_new_with_options(Arc::new(ArrowSchema::new(fields)), arrays, &options);
        self.rows = 0;
        if fix {
            self.root.fix();
        }
        batch.or_error(ErrorKind::Fatal, "put columns together")
    }
}

/// Rows as they have to be for a file: the table's columns in the table's order. What was not there is null; integers that
/// were there before a fraction came are doubles.
///
/// # Errors
///
/// `PoisonRecord` where a column has a type that the table's does not take, because somebody else has changed the table.
pub(crate) fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = conform_fields(batch.schema_ref().fields(), batch.columns(), schema.fields(), batch.num_rows())?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
        .or_error(ErrorKind::PoisonRecord, "the rows don't fit the table as it is now")
}

fn conform_fields(from: &Fields, arrays: &[ArrayRef], to: &Fields, rows: usize) -> Result<Vec<ArrayRef>> {
    let place = |name: &str| {
        let exact = from.iter().position(|field| field.name() == name);
        exact.or_else(|| from.iter().position(|field| crate::schema::same_name(field.name(), name)))
    };
    if let Some(lost) = from.iter().find(|field| {
        field.data_type() != &DataType::Null
            && !to.iter().any(|wanted| crate::schema::same_name(wanted.name(), field.name()))
            && !is_hollow(field.data_type())
    }) {
        return Err(Error::data(format!("the table has no column '{}' any more", lost.name())));
    }
    to.iter()
        .map(|field| match place(field.name()) {
            Some(index) => {
                conform_array(&arrays[index], field.data_type()).map_err(|error| error.with("column", field.name()))
            }
            None => Ok(new_null_array(field.data_type(), rows)),
        })
        .collect()
}

/// True for a struct that never had a field with a value, which no table has a column for.
fn is_hollow(data_type: &DataType) -> bool {
    match data_type {
        DataType::Null => true,
        DataType::Struct(fields) => fields.iter().all(|field| is_hollow(field.data_type())),
        _ => false,
    }
}

fn conform_array(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let from = array.data_type();
    if from == to {
        return Ok(Arc::clone(array));
    }
    let broken = |error: arrow::error::ArrowError| Error::fatal("put a column together").caused_by(error);
    match (from, to) {
        (DataType::Null, _) => Ok(new_null_array(to, array.len())),
        (DataType::Struct(from), DataType::Struct(to)) => {
            let array = array.as_struct();
            let columns = conform_fields(from, array.columns(), to, array.len())?;
            let made = StructArray::try_new_with_length(to.clone(), columns, array.nulls().cloned(), array.len());
            Ok(Arc::new(made.map_err(broken)?))
        }
        (DataType::List(_), DataType::List(item)) => {
            let array = array.as_list::<i32>();
            let values = conform_array(array.values(), item.data_type())?;
            let made = ListArray::try_new(item.clone(), array.offsets().clone(), values, array.nulls().cloned());
            Ok(Arc::new(made.map_err(broken)?))
        }
        (DataType::Map(_, _), DataType::Map(entry, sorted)) => {
            let array = array.as_map();
            let DataType::Struct(fields) = entry.data_type() else {
                return Err(Error::fatal("a map's entries are no struct"));
            };
            let keys = conform_array(array.keys(), fields[0].data_type())?;
            let values = conform_array(array.values(), fields[1].data_type())?;
            let entries = StructArray::try_new(fields.clone(), vec![keys, values], None).map_err(broken)?;
            let made =
                MapArray::try_new(entry.clone(), array.offsets().clone(), entries, array.nulls().cloned(), *sorted);
            Ok(Arc::new(made.map_err(broken)?))
        }
        // Only what loses nothing: the check before the rows were taken stands for the rest.
        (from, to)
            if from.is_integer()
                && (to.is_floating() || to.is_integer() && to.primitive_width() >= from.primitive_width())
                || *from == DataType::Float32 && *to == DataType::Float64 =>
        {
            arrow::compute::cast(array, to).map_err(broken)
        }
        (from, to) => Err(Error::data(format!("rows of type {from} don't fit the table's {to}"))),
    }
}

/// A value that doesn't fit, and where.
#[derive(Debug)]
struct Mismatch {
    /// Innermost first.
    path: Vec<String>,
    what: String,
}

impl Mismatch {
    fn new(what: impl Into<String>) -> Self {
        Self { path: Vec::new(), what: what.into() }
    }

    fn within(mut self, name: &str) -> Self {
        self.path.push(name.to_owned());
        self
    }

    fn into_error(self) -> Error {
        let path: Vec<String> = self.path.into_iter().rev().collect();
        Error::data(format!("field '{}': {}", path.join("."), self.what))
    }
}

fn article(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        other => format!("a {}", other.type_name()),
    }
}

/// Columns with names: the row itself, or a struct in it.
#[derive(Debug)]
struct Fieldset {
    names: Vec<String>,
    columns: Vec<Column>,
    /// How each column's field begins in JSON text: `"name":`.
    heads: Vec<Box<[u8]>>,
    /// Which column's field stood behind a column's in the last records; the first entry is the one at the beginning, the
    /// entry of column `n` is `n + 1`. A guess: most records have their fields in one order.
    follows: Vec<usize>,
}

/// One column, or the values inside one.
#[derive(Debug)]
struct Column {
    values: Values,
    nullable: bool,
    /// The table has it: its type stays.
    fixed: bool,
    /// Has held an integer that a double could not hold. Such a value may be in rows that were handed out and are in no table
    /// yet, so this stays as long as the column does.
    beyond_double: bool,
}

#[derive(Debug)]
enum Values {
    /// So many nulls.
    Unknown(usize),
    Boolean(Booleans),
    Byte(Primitives<Int8Type>),
    Short(Primitives<Int16Type>),
    Integer(Primitives<Int32Type>),
    Long(Primitives<Int64Type>),
    Float(Primitives<Float32Type>),
    Double(Primitives<Float64Type>),
    String(Bytes),
    Binary(Bytes),
    Date(Primitives<Date32Type>),
    Timestamp(Primitives<TimestampMicrosecondType>),
    Decimal {
        precision: u8,
        scale: u8,
        builder: Primitives<Decimal128Type>,
    },
    Array {
        items: Box<Column>,
        offsets: Vec<i32>,
        nulls: NullBufferBuilder,
    },
    Map {
        keys: Box<Column>,
        values: Box<Column>,
        offsets: Vec<i32>,
        nulls: NullBufferBuilder,
    },
    Struct {
        fields: Fieldset,
        nulls: NullBufferBuilder,
    },
}

impl Fieldset {
    fn new(fields: &[Field], fixed: bool) -> Self {
        let mut made = Self { names: Vec::new(), columns: Vec::new(), heads: Vec::new(), follows: Vec::new() };
        for field in fields {
            made.names.push(field.name.clone());
            made.columns.push(Column::new(&field.data_type, field.nullable, fixed));
        }
        made.expect_order();
        made
    }

    /// Expects fields as the columns are called and in their order, until records show another one.
    fn expect_order(&mut self) {
        self.heads = self.names.iter().map(|name| head(name)).collect();
        self.follows = (0..=self.columns.len()).collect();
    }

    fn fields(&self) -> Vec<Field> {
        let columns = self.names.iter().zip(&self.columns);
        let field = |(name, column): (&String, &Column)| Field {
            name: name.clone(),
            data_type: column.data_type(),
            nullable: column.nullable,
        };
        columns.map(field).collect()
    }

    /// The column of a field; `hint` is where it stood in the record, which is where it mostly stands here.
    fn index(&self, name: &str, hint: usize) -> Option<usize> {
        if self.names.get(hint).is_some_and(|there| there == name) {
            return Some(hint);
        }
        let exact = self.names.iter().position(|there| there == name);
        exact.or_else(|| self.names.iter().position(|there| crate::schema::same_name(there, name)))
    }

    fn check(&self, value: &Value, grows: bool) -> Result<Fit, Mismatch> {
        let mut fit = Fit::AsIs;
        // Which columns the record has; a record of more fields than bits is checked the slow way.
        let mut met = Met::new(self.columns.len());
        for (hint, (name, value)) in fields_of(value).enumerate() {
            match self.index(name, hint) {
                Some(index) => {
                    if !met.first(index) {
                        return Err(Mismatch::new("the record has this field twice, in different case").within(name));
                    }
                    if self.columns[index].check(value, grows).map_err(|error| error.within(name))? == Fit::Grown {
                        fit = Fit::Grown;
                    }
                }
                // A null says nothing, not even that there is a column.
                None if value.is_null() => {}
                None if grows => fit = Fit::Grown,
                None => {
                    let what = "the table has no such column; add it, drop the field with ReplaceField (exclude), or set \
                                schema.evolution=additive";
                    return Err(Mismatch::new(what).within(name));
                }
            }
        }
        for (index, column) in self.columns.iter().enumerate() {
            if !column.nullable && !met.has(index) {
                return Err(Mismatch::new("is missing, and the column takes no nulls").within(&self.names[index]));
            }
        }
        Ok(fit)
    }

    fn append(&mut self, value: &Value, rows: usize) {
        for (hint, (name, value)) in fields_of(value).enumerate() {
            if let Some(index) = self.index(name, hint) {
                self.columns[index].append(value);
            }
        }
        for column in &mut self.columns {
            if column.len() == rows {
                column.append(&Value::Null);
            }
        }
    }

    fn memory(&self) -> usize {
        self.columns.iter().map(Column::memory).sum()
    }

    fn append_nulls(&mut self) {
        self.columns.iter_mut().for_each(|column| column.append(&Value::Null));
    }

    /// Makes sure that [`grow`](Self::grow) will be able to do all of it.
    fn check_growth(&self, fields: &[Field]) -> Result<()> {
        for (index, field) in fields.iter().enumerate() {
            let checked = match self.index(&field.name, index) {
                Some(index) => self.columns[index].check_growth(&field.data_type),
                None if find(&fields[..index], &field.name).is_some() => {
                    Err(Error::data("the record has this field twice, in different case"))
                }
                None => check_name(&field.name).and_then(|()| check_names(&field.data_type)),
            };
            checked.map_err(|error| error.with("field", shown(&field.name)))?;
        }
        Ok(())
    }

    fn grow(&mut self, fields: &[Field], rows: usize) {
        for (hint, field) in fields.iter().enumerate() {
            match self.index(&field.name, hint) {
                Some(index) => self.columns[index].grow(&field.data_type),
                None if field.data_type == Type::Unknown => {}
                None => {
                    let mut column = Column::new(&field.data_type, true, false);
                    for _ in 0..rows {
                        column.append(&Value::Null);
                    }
                    self.names.push(field.name.clone());
                    self.columns.push(column);
                }
            }
        }
        self.expect_order();
    }

    fn fix(&mut self) {
        // What has no type yet is in no table; it is met again when it has a value.
        let known: Vec<bool> = self.columns.iter().map(|column| column.data_type().to_delta().is_some()).collect();
        let mut keep = known.iter();
        self.names.retain(|_| *keep.next().unwrap_or(&true));
        let mut keep = known.iter();
        self.columns.retain(|_| *keep.next().unwrap_or(&true));
        self.expect_order();
        self.columns.iter_mut().for_each(Column::fix);
    }

    fn finish(&mut self) -> (Fields, Vec<ArrayRef>) {
        let arrays: Vec<ArrayRef> = self.columns.iter_mut().map(Column::finish).collect();
        let fields = self.names.iter().zip(&arrays).map(|(name, array)| {
            // Whether nulls are allowed is the table's matter; see `conform`.
            ArrowField::new(name, array.data_type().clone(), true)
        });
        (fields.collect(), arrays)
    }
}

/// How a field of this name begins in compact JSON. A name that is escaped there is not looked for; zero is in no text.
fn head(name: &str) -> Box<[u8]> {
    if name.bytes().any(|byte| byte < b' ' || matches!(byte, b'"' | b'\\')) {
        return Box::new([0]);
    }
    format!("\"{name}\":").into_bytes().into()
}

/// Makes sure that Delta takes the names inside a type.
fn check_names(data_type: &Type) -> Result<()> {
    match data_type {
        Type::Struct(fields) => {
            for (index, field) in fields.iter().enumerate() {
                check_name(&field.name)?;
                check_names(&field.data_type)?;
                if find(&fields[..index], &field.name).is_some() {
                    let name = shown(&field.name);
                    return Err(Error::data(format!("the record has the field '{name}' twice, in different case")));
                }
            }
            Ok(())
        }
        Type::Array(items) => check_names(items),
        Type::Map(keys, values) => check_names(keys).and_then(|()| check_names(values)),
        _ => Ok(()),
    }
}

/// A set of columns' numbers.
struct Met {
    few: u128,
    many: Vec<bool>,
}

impl Met {
    fn new(columns: usize) -> Self {
        Self { few: 0, many: if columns > 128 { vec![false; columns] } else { Vec::new() } }
    }

    fn first(&mut self, index: usize) -> bool {
        let before = self.has(index);
        match self.many.get_mut(index) {
            Some(met) => *met = true,
            None => self.few |= 1 << index,
        }
        !before
    }

    fn has(&self, index: usize) -> bool {
        self.many.get(index).copied().unwrap_or_else(|| self.many.is_empty() && self.few & (1 << index) != 0)
    }
}

/// The fields of a row or a struct.
fn fields_of(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let (map, fields) = match value {
        Value::Map(map) => (Some(map), None),
        Value::Struct(fields) => (None, Some(fields)),
        _ => (None, None),
    };
    map.into_iter().flat_map(Map::iter).chain(fields.into_iter().flat_map(Struct::iter))
}

impl Column {
    fn new(data_type: &Type, nullable: bool, fixed: bool) -> Self {
        let values = match data_type {
            Type::Unknown => Values::Unknown(0),
            Type::Boolean => Values::Boolean(Booleans::new()),
            Type::Byte => Values::Byte(Primitives::new()),
            Type::Short => Values::Short(Primitives::new()),
            Type::Integer => Values::Integer(Primitives::new()),
            Type::Long => Values::Long(Primitives::new()),
            Type::Float => Values::Float(Primitives::new()),
            Type::Double => Values::Double(Primitives::new()),
            Type::String => Values::String(Bytes::new()),
            Type::Binary => Values::Binary(Bytes::new()),
            Type::Date => Values::Date(Primitives::new()),
            Type::Timestamp => {
                let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
                Values::Timestamp(Primitives::of(utc))
            }
            Type::Decimal { precision, scale } => Values::Decimal {
                precision: *precision,
                scale: *scale,
                builder: Primitives::of(DataType::Decimal128(*precision, i8::try_from(*scale).unwrap_or(i8::MAX))),
            },
            Type::Array(items) => Values::Array {
                items: Box::new(Self::new(items, true, fixed)),
                offsets: vec![0],
                nulls: NullBufferBuilder::new(0),
            },
            Type::Map(keys, values) => Values::Map {
                keys: Box::new(Self::new(keys, false, fixed)),
                values: Box::new(Self::new(values, true, fixed)),
                offsets: vec![0],
                nulls: NullBufferBuilder::new(0),
            },
            Type::Struct(fields) => {
                Values::Struct { fields: Fieldset::new(fields, fixed), nulls: NullBufferBuilder::new(0) }
            }
        };
        Self { values, nullable, fixed: fixed && *data_type != Type::Unknown, beyond_double: false }
    }

    fn data_type(&self) -> Type {
        match &self.values {
            Values::Unknown(_) => Type::Unknown,
            Values::Boolean(_) => Type::Boolean,
            Values::Byte(_) => Type::Byte,
            Values::Short(_) => Type::Short,
            Values::Integer(_) => Type::Integer,
            Values::Long(_) => Type::Long,
            Values::Float(_) => Type::Float,
            Values::Double(_) => Type::Double,
            Values::String(_) => Type::String,
            Values::Binary(_) => Type::Binary,
            Values::Date(_) => Type::Date,
            Values::Timestamp(_) => Type::Timestamp,
            Values::Decimal { precision, scale, .. } => Type::Decimal { precision: *precision, scale: *scale },
            Values::Array { items, .. } => Type::Array(Box::new(items.data_type())),
            Values::Map { keys, values, .. } => Type::Map(Box::new(keys.data_type()), Box::new(values.data_type())),
            Values::Struct { fields, .. } => Type::Struct(fields.fields()),
        }
    }

    fn len(&self) -> usize {
        match &self.values {
            Values::Unknown(rows) => *rows,
            Values::Boolean(builder) => builder.len(),
            Values::Byte(builder) => builder.len(),
            Values::Short(builder) => builder.len(),
            Values::Integer(builder) => builder.len(),
            Values::Long(builder) => builder.len(),
            Values::Float(builder) => builder.len(),
            Values::Double(builder) => builder.len(),
            Values::String(builder) => builder.len(),
            Values::Binary(builder) => builder.len(),
            Values::Date(builder) => builder.len(),
            Values::Timestamp(builder) => builder.len(),
            Values::Decimal { builder, .. } => builder.len(),
            Values::Array { nulls, .. } | Values::Map { nulls, .. } | Values::Struct { nulls, .. } => nulls.len(),
        }
    }

    /// Bytes of the buffers as they are reserved; what knows which values are null is an eighth of a byte each, and left out.
    fn memory(&self) -> usize {
        match &self.values {
            Values::Unknown(_) => 0,
            Values::Boolean(builder) => builder.len() / 8,
            Values::Byte(builder) => builder.memory(),
            Values::Short(builder) => builder.memory(),
            Values::Integer(builder) => builder.memory(),
            Values::Long(builder) => builder.memory(),
            Values::Float(builder) => builder.memory(),
            Values::Double(builder) => builder.memory(),
            Values::Date(builder) => builder.memory(),
            Values::Timestamp(builder) => builder.memory(),
            Values::Decimal { builder, .. } => builder.memory(),
            Values::String(builder) | Values::Binary(builder) => builder.memory(),
            Values::Array { items, offsets, .. } => items.memory() + offsets.capacity() * size_of::<i32>(),
            Values::Map { keys, values, offsets, .. } => {
                keys.memory() + values.memory() + offsets.capacity() * size_of::<i32>()
            }
            Values::Struct { fields, .. } => fields.memory(),
        }
    }

    fn check(&self, value: &Value, grows: bool) -> Result<Fit, Mismatch> {
        if value.is_null() {
            return if self.nullable {
                Ok(Fit::AsIs)
            } else {
                Err(Mismatch::new("is null, and the column takes no nulls"))
            };
        }
        let fits = match &self.values {
            Values::Unknown(_) => return Ok(Fit::Grown),
            Values::Boolean(_) => matches!(value, Value::Boolean(_)),
            Values::Byte(_) => integer(value).is_some_and(|n| i8::try_from(n).is_ok()),
            Values::Short(_) => integer(value).is_some_and(|n| i16::try_from(n).is_ok()),
            Values::Integer(_) => integer(value).is_some_and(|n| i32::try_from(n).is_ok()),
            Values::Long(_) => integer(value).is_some(),
            Values::Float(_) => single(value).is_some(),
            Values::Double(_) => double(value).is_some(),
            Values::String(_) => matches!(value, Value::String(_)) || is_json_number(value),
            Values::Binary(_) => matches!(value, Value::Bytes(_)),
            Values::Date(_) => date(value).is_some(),
            Values::Timestamp(_) => timestamp(value).is_some(),
            Values::Decimal { precision, scale, .. } => decimal(value, *precision, *scale).is_some(),
            Values::Array { items, .. } => {
                let Value::Array(found) = value else { return Err(self.mismatch(value)) };
                return check_all(found.iter(), |item| items.check(item, grows));
            }
            Values::Map { keys, values, .. } => {
                let fit = |key: &Value, item: &Value| -> Result<Fit, Mismatch> {
                    match (keys.check(key, grows)?, values.check(item, grows)?) {
                        (Fit::AsIs, Fit::AsIs) => Ok(Fit::AsIs),
                        _ => Ok(Fit::Grown),
                    }
                };
                return match value {
                    Value::Map(found) => check_all(found.iter(), |(name, item)| {
                        fit(&Value::from(name), item).map_err(|error| error.within(name))
                    }),
                    Value::Pairs(found) => check_all(found.iter(), |(key, item)| fit(key, item)),
                    _ => Err(self.mismatch(value)),
                };
            }
            Values::Struct { fields, .. } => {
                if !matches!(value, Value::Map(_) | Value::Struct(_)) {
                    return Err(self.mismatch(value));
                }
                return fields.check(value, grows);
            }
        };
        match fits {
            true => Ok(Fit::AsIs),
            false if self.can_widen(value) => Ok(Fit::Grown),
            false => Err(self.mismatch(value)),
        }
    }

    /// A column that is in no table yet may become wider.
    fn can_widen(&self, value: &Value) -> bool {
        !self.fixed
            && Type::of_value(value).is_ok_and(|found| {
                let known = self.data_type();
                known.merged(&found).is_ok_and(|common| common != known && self.can_become(&common))
            })
    }

    fn can_become(&self, wider: &Type) -> bool {
        !(matches!(wider, Type::Float | Type::Double) && self.beyond_double)
    }

    fn mismatch(&self, value: &Value) -> Mismatch {
        let shown = match value {
            Value::String(text) => format!("the text '{}'", shown(text)),
            Value::Number(text) => format!("the number {}", shown(text)),
            Value::Array(_) => "an array".to_owned(),
            Value::Map(_) | Value::Struct(_) | Value::Pairs(_) => "an object".to_owned(),
            Value::Bytes(_) => "bytes".to_owned(),
            other => format!("the {} {}", other.type_name(), shown(&json::to_string(other))),
        };
        Mismatch::new(format!("the column is {}, which does not take {shown}", self.data_type()))
    }

    /// Makes sure that values of this type have a place, as far as types tell; the values themselves were checked.
    fn check_growth(&self, data_type: &Type) -> Result<()> {
        match (&self.values, data_type) {
            (Values::Unknown(_), data_type) => check_names(data_type),
            (Values::Struct { fields, .. }, Type::Struct(new)) => fields.check_growth(new),
            (Values::Array { items, .. }, Type::Array(new)) => items.check_growth(new),
            (Values::Map { values, .. }, Type::Map(_, new)) => values.check_growth(new),
            _ => Ok(()),
        }
    }

    fn grow(&mut self, data_type: &Type) {
        match (&mut self.values, data_type) {
            (_, Type::Unknown) => {}
            (Values::Unknown(rows), data_type) => {
                let rows = *rows;
                *self = Self { nullable: self.nullable, ..Self::new(data_type, self.nullable, false) };
                for _ in 0..rows {
                    self.append(&Value::Null);
                }
            }
            (Values::Struct { fields, nulls }, Type::Struct(new)) => fields.grow(new, nulls.len()),
            (Values::Array { items, .. }, Type::Array(new)) => items.grow(new),
            (Values::Map { keys, values, .. }, Type::Map(new_keys, new_values)) => {
                keys.grow(new_keys);
                values.grow(new_values);
            }
            // A map of the configuration that is met by objects: each of their fields is a value.
            (Values::Map { keys, values, .. }, Type::Struct(new)) => {
                keys.grow(&Type::String);
                new.iter().for_each(|field| values.grow(&field.data_type));
            }
            (_, data_type) if !self.fixed => {
                let known = self.data_type();
                if let Ok(wider) = known.merged(data_type)
                    && wider != known
                    && self.can_become(&wider)
                {
                    self.widen(&wider);
                }
            }
            _ => {}
        }
    }

    /// Takes the rows over into a wider number.
    fn widen(&mut self, wider: &Type) {
        let mut column = Self::new(wider, self.nullable, false);
        column.beyond_double = self.beyond_double;
        let rows = self.finish();
        for row in 0..rows.len() {
            let value = if rows.is_null(row) {
                Value::Null
            } else {
                match rows.data_type() {
                    DataType::Int8 => Value::Int8(rows.as_primitive::<Int8Type>().value(row)),
                    DataType::Int16 => Value::Int16(rows.as_primitive::<Int16Type>().value(row)),
                    DataType::Int32 => Value::Int32(rows.as_primitive::<Int32Type>().value(row)),
                    DataType::Int64 => Value::Int64(rows.as_primitive::<Int64Type>().value(row)),
                    DataType::Float32 => Value::Float32(rows.as_primitive::<Float32Type>().value(row)),
                    _ => Value::Null,
                }
            };
            column.append(&value);
        }
        *self = column;
    }

    /// Appends a value that was checked.
    fn append(&mut self, value: &Value) {
        match &mut self.values {
            Values::Unknown(rows) => *rows += 1,
            Values::Boolean(builder) => builder.append_option(match value {
                Value::Boolean(value) => Some(*value),
                _ => None,
            }),
            Values::Byte(builder) => builder.append_option(integer(value).and_then(|n| n.try_into().ok())),
            Values::Short(builder) => builder.append_option(integer(value).and_then(|n| n.try_into().ok())),
            Values::Integer(builder) => builder.append_option(integer(value).and_then(|n| n.try_into().ok())),
            Values::Long(builder) => {
                let value = integer(value);
                self.beyond_double |= value.is_some_and(|n| n.unsigned_abs() > DOUBLE_EXACT_MAX);
                builder.append_option(value);
            }
            Values::Float(builder) => builder.append_option(single(value)),
            Values::Double(builder) => builder.append_option(double(value)),
            Values::String(builder) => match value {
                Value::String(text) => builder.append(text.as_bytes()),
                Value::Null => builder.append_null(),
                number => builder.append(json::to_string(number).as_bytes()),
            },
            Values::Binary(builder) => match value {
                Value::Bytes(bytes) => builder.append(bytes),
                _ => builder.append_null(),
            },
            Values::Date(builder) => builder.append_option(date(value)),
            Values::Timestamp(builder) => builder.append_option(timestamp(value)),
            Values::Decimal { precision, scale, builder } => {
                builder.append_option(decimal(value, *precision, *scale));
            }
            Values::Array { items, offsets, nulls } => {
                if let Value::Array(found) = value {
                    found.iter().for_each(|item| items.append(item));
                }
                offsets.push(offset(items.len()));
                nulls.append(!value.is_null());
            }
            Values::Map { keys, values, offsets, nulls } => {
                match value {
                    Value::Map(found) => {
                        for (name, item) in found.iter() {
                            keys.append(&Value::from(name));
                            values.append(item);
                        }
                    }
                    Value::Pairs(found) => {
                        for (key, item) in found {
                            keys.append(key);
                            values.append(item);
                        }
                    }
                    _ => {}
                }
                offsets.push(offset(keys.len()));
                nulls.append(!value.is_null());
            }
            Values::Struct { fields, nulls } => {
                if value.is_null() {
                    fields.append_nulls()
                } else {
                    fields.append(value, nulls.len())
                }
                nulls.append(!value.is_null());
            }
        }
    }

    fn fix(&mut self) {
        self.fixed = true;
        match &mut self.values {
            // Of items that never were, the table says string; see `Type::to_delta`.
            Values::Array { items, .. } => items.fix_inside(),
            Values::Map { keys, values, .. } => {
                keys.fix_inside();
                values.fix_inside();
            }
            Values::Struct { fields, .. } => fields.fix(),
            _ => {}
        }
    }

    fn fix_inside(&mut self) {
        if matches!(self.values, Values::Unknown(_)) {
            *self = Self::new(&Type::String, self.nullable, true);
        }
        self.fix();
    }

    /// Hands out the values. What they have shown about the column stays known: they may have to become wider yet.
    fn finish(&mut self) -> ArrayRef {
        match &mut self.values {
            Values::Unknown(rows) => Arc::new(NullArray::new(std::mem::take(rows))),
            Values::Boolean(builder) => builder.finish(),
            Values::Byte(builder) => builder.finish(),
            Values::Short(builder) => builder.finish(),
            Values::Integer(builder) => builder.finish(),
            Values::Long(builder) => builder.finish(),
            Values::Float(builder) => builder.finish(),
            Values::Double(builder) => builder.finish(),
            Values::String(builder) => builder.finish_text(),
            Values::Binary(builder) => builder.finish_binary(),
            Values::Date(builder) => builder.finish(),
            Values::Timestamp(builder) => builder.finish(),
            Values::Decimal { builder, .. } => builder.finish(),
            Values::Array { items, offsets, nulls } => {
                let items = items.finish();
                let field = Arc::new(ArrowField::new("element", items.data_type().clone(), true));
                Arc::new(ListArray::new(field, take_offsets(offsets), items, nulls.finish()))
            }
            Values::Map { keys, values, offsets, nulls } => {
                let (keys, values) = (keys.finish(), values.finish());
                let fields = Fields::from(vec![
                    ArrowField::new("key", keys.data_type().clone(), false),
                    ArrowField::new("value", values.data_type().clone(), true),
                ]);
                let entries = StructArray::new(fields.clone(), vec![keys, values], None);
                let field = Arc::new(ArrowField::new("key_value", DataType::Struct(fields), false));
                Arc::new(MapArray::new(field, take_offsets(offsets), entries, nulls.finish(), false))
            }
            Values::Struct { fields, nulls } => {
                let (length, nulls) = (nulls.len(), nulls.finish());
                let (fields, arrays) = fields.finish();
                if arrays.is_empty() {
                    return Arc::new(StructArray::new_empty_fields(length, nulls));
                }
                Arc::new(StructArray::new(fields, arrays, nulls))
            }
        }
    }
}

fn check_all<T>(items: impl Iterator<Item = T>, check: impl Fn(T) -> Result<Fit, Mismatch>) -> Result<Fit, Mismatch> {
    let mut fit = Fit::AsIs;
    for item in items {
        if check(item)? == Fit::Grown {
            fit = Fit::Grown;
        }
    }
    Ok(fit)
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Time(millis) => Some((*millis).into()),
        other => other.as_i64(),
    }
}

/// A number that loses nothing as a double.
fn double(value: &Value) -> Option<f64> {
    match value {
        Value::Float32(n) => Some((*n).into()),
        Value::Float64(n) => Some(*n),
        Value::Number(text) => exact_double(text),
        other => other.as_i64().filter(|n| n.unsigned_abs() <= DOUBLE_EXACT_MAX).map(|n| n as f64),
    }
}

/// A number as a single, rounded: who chooses that type wants it so. Too large a number is none.
fn single(value: &Value) -> Option<f32> {
    let wide = value.as_f64()?;
    let narrow = wide as f32;
    (narrow.is_finite() || !wide.is_finite()).then_some(narrow)
}

fn is_json_number(value: &Value) -> bool {
    matches!(value, Value::Number(_) | Value::Float32(_) | Value::Float64(_)) || value.as_i64().is_some()
}

/// Days since the epoch: a date, or text `2020-08-28`.
fn date(value: &Value) -> Option<i32> {
    match value {
        Value::Date(days) => Some(*days),
        Value::String(text) => {
            let date: jiff::civil::Date = text.parse().ok().filter(|_| text.len() == "2020-08-28".len())?;
            let days = date.since(jiff::civil::date(1970, 1, 1)).ok()?.get_days();
            Some(days)
        }
        _ => None,
    }
}

/// Microseconds since the epoch: a timestamp, or ISO 8601 text, which is UTC where it names no offset.
fn timestamp(value: &Value) -> Option<i64> {
    match value {
        Value::Timestamp(millis) => millis.checked_mul(1000),
        Value::String(text) => {
            if let Ok(instant) = text.parse::<jiff::Timestamp>() {
                return Some(instant.as_microsecond());
            }
            let local: jiff::civil::DateTime = text.parse().ok()?;
            Some(local.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_microsecond())
        }
        _ => None,
    }
}

/// The unscaled number with `scale` digits after the point, where that loses nothing.
fn decimal(value: &Value, precision: u8, scale: u8) -> Option<i128> {
    let parsed;
    let found = match value {
        Value::Decimal(found) => found,
        Value::Number(text) => {
            parsed = Decimal::parse(text).ok()?;
            &parsed
        }
        Value::Float64(_) | Value::Float32(_) => {
            parsed = Decimal::parse(&json::to_string(value)).ok()?;
            &parsed
        }
        other => {
            parsed = Decimal::parse(&other.as_i64()?.to_string()).ok()?;
            &parsed
        }
    };
    let mut unscaled = big_endian(&found.unscaled)?;
    let missing = i32::from(scale).checked_sub(found.scale)?;
    let power = 10i128.checked_pow(missing.unsigned_abs());
    if missing >= 0 {
        unscaled = if unscaled == 0 { 0 } else { unscaled.checked_mul(power?)? };
    } else {
        let power = power?;
        if unscaled % power != 0 {
            return None;
        }
        unscaled /= power;
    }
    (unscaled.unsigned_abs() < 10u128.checked_pow(precision.into())?).then_some(unscaled)
}

/// Two's complement, big-endian, of up to sixteen bytes.
fn big_endian(bytes: &[u8]) -> Option<i128> {
    let sign = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
    let cut = bytes.len().saturating_sub(16);
    if bytes[..cut].iter().any(|byte| *byte != sign) {
        return None;
    }
    let mut wide = [sign; 16];
    let kept = &bytes[cut..];
    wide[16 - kept.len()..].copy_from_slice(kept);
    Some(i128::from_be_bytes(wide))
}

#[cfg(test)]
mod tests {
    use deltalake_core::kernel::StructType;
    use deltalake_core::kernel::engine::arrow_conversion::TryIntoArrow as _;

    use super::*;
    use crate::schema::{parse_ddl, to_delta_fields};

    fn value(text: &str) -> Value {
        json::parse(text.as_bytes()).unwrap()
    }

    fn ddl(columns: &Columns) -> String {
        let written = |field: &Field| format!("{} {}", field.name, field.data_type);
        columns.fields().iter().map(written).collect::<Vec<_>>().join(", ")
    }

    /// The rows as a table would hold them, as JSON lines with nulls.
    fn rows(columns: &mut Columns) -> String {
        let schema = StructType::try_new(to_delta_fields(&columns.fields())).unwrap();
        let schema: ArrowSchema = (&schema).try_into_arrow().unwrap();
        let batch = conform(&columns.finish(true).unwrap(), &Arc::new(schema)).unwrap();
        let mut text = Vec::new();
        let builder = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
        let mut writer = builder.build::<_, arrow::json::writer::LineDelimited>(&mut text);
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        String::from_utf8(text).unwrap().replace('\n', " ").trim_end().to_owned()
    }

    #[test]
    fn columns_grow_as_values_come() {
        for (records, columns_then, rows_then) in [
            (
                &[r#"{"a":1}"#, r#"{"b":"x"}"#, r#"{"a":null,"c":[1]}"#][..],
                "a long, b string, c array<long>",
                r#"{"a":1,"b":null,"c":null} {"a":null,"b":"x","c":null} {"a":null,"b":null,"c":[1]}"#,
            ),
            (&[r#"{"a":1}"#, r#"{"a":2.5}"#, r#"{"a":3}"#], "a double", r#"{"a":1.0} {"a":2.5} {"a":3.0}"#),
            (&[r#"{"a":[]}"#, r#"{"a":[1.5,2]}"#], "a array<double>", r#"{"a":[]} {"a":[1.5,2.0]}"#),
            (
                &[r#"{"a":{"x":1}}"#, r#"{"a":{"y":"z"}}"#, r#"{"a":null}"#],
                "a struct<x:long,y:string>",
                r#"{"a":{"x":1,"y":null}} {"a":{"x":null,"y":"z"}} {"a":null}"#,
            ),
            (
                &[r#"{"a":[{"x":1}]}"#, r#"{"a":[{"y":true},{"x":2.5}]}"#],
                "a array<struct<x:double,y:boolean>>",
                r#"{"a":[{"x":1.0,"y":null}]} {"a":[{"x":null,"y":true},{"x":2.5,"y":null}]}"#,
            ),
            (&[r#"{"a":1,"A":null}"#, r#"{"A":2}"#], "a long", ""),
            (
                &[r#"{"a":12.30,"b":{},"c":null}"#, r#"{"b":{},"a":1}"#],
                "a double, b struct<>",
                r#"{"a":12.3} {"a":1.0}"#,
            ),
        ] {
            let mut columns = Columns::new(&[], true);
            let taken: Vec<Result<()>> = records.iter().map(|text| columns.append(None, &value(text))).collect();
            if rows_then.is_empty() {
                // The first of these has one field twice for Delta.
                assert!(taken[0].as_ref().unwrap_err().message().contains("twice, in different case"), "{taken:?}");
                assert!(taken[1].is_ok());
                assert_eq!(rows(&mut columns), r#"{"A":2}"#);
                continue;
            }
            taken.into_iter().for_each(|taken| taken.unwrap());
            assert_eq!(ddl(&columns), columns_then);
            assert_eq!(rows(&mut columns), rows_then);
        }
    }

    #[test]
    fn columns_of_the_table_take_what_loses_nothing() {
        let all = "i8 byte, i16 short, i32 int, i64 long, f double, s string, t timestamp, d date, n decimal(6,2), \
                   l array<int>, o struct<x:long>, m map<string,long>";
        for (record, row) in [
            (
                r#"{"i8":127,"i16":-32768,"i32":5,"i64":9007199254740993}"#,
                r#"{"i8":127,"i16":-32768,"i32":5,"i64":9007199254740993}"#,
            ),
            (r#"{"f":5}"#, r#"{"f":5.0}"#),
            (r#"{"f":12.30}"#, r#"{"f":12.3}"#),
            (r#"{"s":12.30}"#, r#"{"s":"12.30"}"#),
            (r#"{"s":5}"#, r#"{"s":"5"}"#),
            (r#"{"t":"2020-08-28T03:52:47+02:00"}"#, r#"{"t":"2020-08-28T01:52:47Z"}"#),
            (r#"{"t":"2020-08-28 03:52:47.5"}"#, r#"{"t":"2020-08-28T03:52:47.500Z"}"#),
            (r#"{"d":"2020-08-28"}"#, r#"{"d":"2020-08-28"}"#),
            (r#"{"n":1234.50}"#, r#"{"n":1234.50}"#),
            (r#"{"n":-7}"#, r#"{"n":-7.00}"#),
            (r#"{"l":[1,null]}"#, r#"{"l":[1,null]}"#),
            (r#"{"O":{"X":1}}"#, r#"{"o":{"x":1}}"#),
            (r#"{"m":{"a":1,"b":null}}"#, r#"{"m":{"a":1,"b":null}}"#),
        ] {
            let mut columns = Columns::new(&parse_ddl(all).unwrap(), true);
            columns.append(None, &value(record)).unwrap_or_else(|error| panic!("{record}: {error}"));
            let found: serde_json::Value = serde_json::from_str(&rows(&mut columns)).unwrap();
            let found: serde_json::Map<_, _> =
                found.as_object().unwrap().clone().into_iter().filter(|(_, value)| !value.is_null()).collect();
            let wanted: serde_json::Value = serde_json::from_str(row).unwrap();
            assert_eq!(serde_json::Value::Object(found), wanted, "{record}");
            assert_eq!(ddl(&columns).replace(", ", ","), all.replace(", ", ","), "{record}");
        }
    }

    #[test]
    fn what_does_not_fit_leaves_no_trace_and_is_named() {
        let all = "i8 byte, i64 long, f double, s string, t timestamp, d date, n decimal(6,2), b boolean, l array<int>, \
                   o struct<x:long>, m map<string,long>, bin binary";
        for (record, message) in [
            (r#"{"i8":128}"#, "field 'i8': the column is byte, which does not take the int64 128"),
            (r#"{"i64":1.5}"#, "field 'i64': the column is long, which does not take the float64 1.5"),
            (r#"{"i64":"5"}"#, "field 'i64': the column is long, which does not take the text '5'"),
            (
                r#"{"i64":12345678901234567890}"#,
                "field 'i64': the column is long, which does not take the number 12345678901234567890",
            ),
            (
                r#"{"f":9007199254740993}"#,
                "field 'f': the column is double, which does not take the int64 9007199254740993",
            ),
            (r#"{"f":1E400}"#, "field 'f': the column is double, which does not take the number 1E400"),
            (r#"{"s":true}"#, "field 's': the column is string, which does not take the boolean true"),
            (r#"{"s":{"a":1}}"#, "field 's': the column is string, which does not take an object"),
            (r#"{"t":"yesterday"}"#, "field 't': the column is timestamp, which does not take the text 'yesterday'"),
            (r#"{"t":1598586767}"#, "field 't': the column is timestamp, which does not take the int64 1598586767"),
            (r#"{"d":"2020-02-30"}"#, "field 'd': the column is date, which does not take the text '2020-02-30'"),
            (r#"{"n":0.005}"#, "field 'n': the column is decimal(6,2), which does not take the float64 0.005"),
            (r#"{"n":12345.5}"#, "field 'n': the column is decimal(6,2), which does not take the float64 12345.5"),
            (r#"{"b":1}"#, "field 'b': the column is boolean, which does not take the int64 1"),
            (r#"{"l":[1,"x"]}"#, "field 'l': the column is int, which does not take the text 'x'"),
            (r#"{"l":5}"#, "field 'l': the column is array<int>, which does not take the int64 5"),
            (r#"{"o":{"x":"y"}}"#, "field 'o.x': the column is long, which does not take the text 'y'"),
            (r#"{"o":[1]}"#, "field 'o': the column is struct<x:long>, which does not take an array"),
            (r#"{"m":{"k":"v"}}"#, "field 'm.k': the column is long, which does not take the text 'v'"),
            (r#"{"bin":"x"}"#, "field 'bin': the column is binary, which does not take the text 'x'"),
            (r#"{"new":1,"i8":"x"}"#, "field 'i8': the column is byte, which does not take the text 'x'"),
            (r#"{"new":[1,"x"]}"#, "long and string have no type in common"),
            (r#"{"a b":1}"#, "the field 'a b' can't become a column: Delta refuses"),
            (r#"{"new":{"x":{"y;":1}}}"#, "the field 'y;' can't become a column: Delta refuses"),
            ("5", "a row of a table is made of named fields; found a int64"),
            ("[{}]", "a row of a table is made of named fields; found an array"),
        ] {
            let mut columns = Columns::new(&parse_ddl(all).unwrap(), true);
            let error = columns.append(None, &value(record)).unwrap_err();
            assert!(error.message().starts_with(message), "{record}: {error}");
            assert_eq!(error.kind(), ErrorKind::PoisonRecord);
            assert_eq!((columns.rows(), ddl(&columns).replace(", ", ",")), (0, all.replace(", ", ",")), "{record}");
        }
        let mut closed = Columns::new(&parse_ddl("a long, r long not null").unwrap(), false);
        for (record, message) in [
            (r#"{"r":1,"b":1}"#, "field 'b': the table has no such column; add it,"),
            (r#"{"a":1}"#, "field 'r': is missing, and the column takes no nulls"),
            (r#"{"r":null}"#, "field 'r': is null, and the column takes no nulls"),
        ] {
            let error = closed.append(None, &value(record)).unwrap_err();
            assert!(error.message().starts_with(message), "{record}: {error}");
        }
    }

    #[test]
    fn integers_beyond_a_double_keep_their_column() {
        let mut columns = Columns::new(&[], true);
        columns.append(None, &value(r#"{"a":9007199254740993}"#)).unwrap();
        let error = columns.append(None, &value(r#"{"a":0.5}"#)).unwrap_err();
        assert_eq!(error.message(), "field 'a': the column is long, which does not take the float64 0.5");
        assert_eq!(rows(&mut columns), r#"{"a":9007199254740993}"#);
    }

    #[test]
    fn integers_beyond_a_double_keep_their_column_also_when_they_were_handed_out() {
        let mut columns = Columns::new(&[], true);
        columns.append(None, &value(r#"{"a":9007199254740993,"b":[{"c":9007199254740993}]}"#)).unwrap();
        let first = columns.finish(false).unwrap();
        for text in [r#"{"a":0.5}"#, r#"{"b":[{"c":0.5}]}"#] {
            assert!(columns.append(None, &value(text)).is_err(), "{text}");
            assert!(columns.append_text(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(ddl(&columns), "a long, b array<struct<c:long>>");
        let schema = first.schema();
        assert_eq!(&conform(&first, &schema).unwrap(), &first);
    }

    #[test]
    fn a_schema_says_all_columns_at_once() {
        let schema = Schema::structure()
            .field("id", Schema::of(ottla_api::data::SchemaType::Int32))
            .field("at", Schema::timestamp().optional().build())
            .field("price", Schema::decimal(2).optional().build())
            .build();
        let mut row = Struct::new(schema.clone());
        row.put("id", 7).unwrap();
        let mut columns = Columns::new(&[], true);
        columns.append(Some(&schema), &Value::Struct(row.clone())).unwrap();
        row.put("at", Value::Timestamp(1_598_586_767_000)).unwrap();
        row.put("price", Value::Decimal(Decimal::parse("12.30").unwrap())).unwrap();
        columns.append(Some(&schema), &Value::Struct(row)).unwrap();
        assert_eq!(ddl(&columns), "id int, at timestamp, price decimal(38,2)");
        assert_eq!(
            rows(&mut columns),
            r#"{"id":7,"at":null,"price":null} {"id":7,"at":"2020-08-28T03:52:47Z","price":12.30}"#
        );
    }

    #[test]
    fn a_type_that_is_in_the_table_stays() {
        let mut columns = Columns::new(&[], true);
        columns.append(None, &value(r#"{"a":1,"e":[]}"#)).unwrap();
        rows(&mut columns);
        assert_eq!(ddl(&columns), "a long, e array<string>");
        assert!(columns.append(None, &value(r#"{"a":1.5}"#)).is_err());
        columns.append(None, &value(r#"{"b":1.5}"#)).unwrap();
        assert_eq!(rows(&mut columns), r#"{"a":null,"e":null,"b":1.5}"#);
    }
}
