//! Columns of single values while they are filled. Unlike Arrow's own builders they can be cut back to a length, so a record that
//! turns out not to fit when half of it is in leaves no trace.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, BooleanBufferBuilder, NullBufferBuilder, PrimitiveArray,
    StringArray,
};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::DataType;

/// Values of one width.
#[derive(Debug)]
pub(super) struct Primitives<T: ArrowPrimitiveType> {
    values: Vec<T::Native>,
    nulls: NullBufferBuilder,
    data_type: DataType,
}

impl<T: ArrowPrimitiveType> Primitives<T> {
    pub(super) fn new() -> Self {
        Self::of(T::DATA_TYPE)
    }

    /// With what the type says beside the width: time zone, digits.
    pub(super) fn of(data_type: DataType) -> Self {
        Self { values: Vec::new(), nulls: NullBufferBuilder::new(0), data_type }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// Bytes reserved for values.
    pub(super) fn memory(&self) -> usize {
        self.values.capacity() * size_of::<T::Native>()
    }

    #[inline]
    pub(super) fn append(&mut self, value: T::Native) {
        self.values.push(value);
        self.nulls.append_non_null();
    }

    pub(super) fn append_null(&mut self) {
        self.values.push(T::Native::default());
        self.nulls.append_null();
    }

    pub(super) fn append_option(&mut self, value: Option<T::Native>) {
        match value {
            Some(value) => self.append(value),
            None => self.append_null(),
        }
    }

    pub(super) fn truncate(&mut self, length: usize) {
        self.values.truncate(length);
        self.nulls.truncate(length);
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        let values = ScalarBuffer::from(std::mem::take(&mut self.values));
        let array = PrimitiveArray::<T>::new(values, self.nulls.finish());
        Arc::new(array.with_data_type(self.data_type.clone()))
    }
}

/// True and false.
#[derive(Debug)]
pub(super) struct Booleans {
    values: BooleanBufferBuilder,
    nulls: NullBufferBuilder,
}

impl Booleans {
    pub(super) fn new() -> Self {
        Self { values: BooleanBufferBuilder::new(0), nulls: NullBufferBuilder::new(0) }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    #[inline]
    pub(super) fn append_option(&mut self, value: Option<bool>) {
        self.values.append(value.unwrap_or_default());
        self.nulls.append(value.is_some());
    }

    pub(super) fn truncate(&mut self, length: usize) {
        self.values.truncate(length);
        self.nulls.truncate(length);
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        Arc::new(BooleanArray::new(self.values.finish(), self.nulls.finish()))
    }
}

/// Texts, or bytes.
#[derive(Debug)]
pub(super) struct Bytes {
    values: Vec<u8>,
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl Bytes {
    pub(super) fn new() -> Self {
        Self { values: Vec::new(), offsets: vec![0], nulls: NullBufferBuilder::new(0) }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Bytes reserved for values and their places.
    pub(super) fn memory(&self) -> usize {
        self.values.capacity() + self.offsets.capacity() * size_of::<i32>()
    }

    #[inline]
    pub(super) fn append(&mut self, value: &[u8]) {
        self.values.extend_from_slice(value);
        self.end_value();
    }

    /// Where to write a value in pieces, which [`end_value`](Self::end_value) ends.
    pub(super) fn open_value(&mut self) -> &mut Vec<u8> {
        &mut self.values
    }

    #[inline]
    pub(super) fn end_value(&mut self) {
        self.offsets.push(offset(self.values.len()));
        self.nulls.append_non_null();
    }

    pub(super) fn append_null(&mut self) {
        self.offsets.push(offset(self.values.len()));
        self.nulls.append_null();
    }

    /// Also forgets a value that was begun and not ended.
    pub(super) fn truncate(&mut self, length: usize) {
        self.offsets.truncate(length + 1);
        self.values.truncate(self.offsets.last().map_or(0, |end| usize::try_from(*end).unwrap_or(0)));
        self.nulls.truncate(length);
    }

    pub(super) fn finish_binary(&mut self) -> ArrayRef {
        let (offsets, values, nulls) = self.take();
        Arc::new(BinaryArray::new(offsets, values, nulls))
    }

    /// All that was appended must be UTF-8.
    pub(super) fn finish_text(&mut self) -> ArrayRef {
        let (offsets, values, nulls) = self.take();
        Arc::new(StringArray::new(offsets, values, nulls))
    }

    fn take(&mut self) -> (OffsetBuffer<i32>, Buffer, Option<arrow::buffer::NullBuffer>) {
        let values = Buffer::from_vec(std::mem::take(&mut self.values));
        (take_offsets(&mut self.offsets), values, self.nulls.finish())
    }
}

/// The number of values as Arrow counts them. A batch is cut long before two billion; see `flush.bytes`.
#[inline]
pub(super) fn offset(length: usize) -> i32 {
    i32::try_from(length).expect("a batch holds less than 2^31 values")
}

pub(super) fn take_offsets(offsets: &mut Vec<i32>) -> OffsetBuffer<i32> {
    OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(offsets, vec![0])))
}
