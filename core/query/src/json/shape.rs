//! What type a column has, from every value that it holds.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// What the values seen so far have in common.
///
/// Whole numbers and others make floating point numbers; anything else that differs but has no parts makes text. Whoever
/// mixes values that have parts with values that don't gets an error, because no column can hold both.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) enum Shape {
    /// Nothing but null.
    #[default]
    Null,
    Bool,
    /// A whole number of 64 bits.
    Int,
    /// Whole numbers of which some need the 64th bit for their size.
    BigInt,
    Float,
    Text,
    List(Box<Shape>),
    /// Fields in the order in which they were met.
    Object(Vec<(String, Shape)>),
}

impl Shape {
    /// The table of rows that have this shape.
    pub(crate) fn schema(&self) -> Schema {
        match self {
            Self::Object(fields) => Schema::new(arrow_fields(fields)),
            _ => Schema::empty(),
        }
    }

    /// The shape of what has either shape. `name` is the column's, for the error.
    pub(crate) fn merge(&mut self, other: Self, name: &str) -> Result<(), String> {
        match (&mut *self, other) {
            (_, Self::Null) => {}
            (Self::Object(fields), Self::Object(others)) => {
                for (index, (field, shape)) in others.into_iter().enumerate() {
                    slot(fields, index, &field).merge(shape, &field)?;
                }
            }
            (Self::List(of), Self::List(other)) => of.merge(*other, name)?,
            (Self::Null, other) => *self = other,
            (ours, theirs) if ours.has_parts() || theirs.has_parts() => {
                return Err(format!("'{name}' is {} here and {} elsewhere", theirs.noun(), ours.noun()));
            }
            (ours, theirs) => *ours = ours.common(&theirs),
        }
        Ok(())
    }

    /// Of two shapes without parts.
    fn common(&self, other: &Self) -> Self {
        let whole = |shape: &Self| matches!(shape, Self::Int | Self::BigInt);
        match (self, other) {
            (one, other) if one == other => one.clone(),
            (one, other) if whole(one) && whole(other) => Self::BigInt,
            (one, Self::Float) | (Self::Float, one) if whole(one) => Self::Float,
            _ => Self::Text,
        }
    }

    fn has_parts(&self) -> bool {
        matches!(self, Self::List(_) | Self::Object(_))
    }

    fn noun(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "true or false",
            Self::Int | Self::BigInt | Self::Float => "a number",
            Self::Text => "text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }

    fn data_type(&self) -> DataType {
        match self {
            Self::Null => DataType::Null,
            Self::Bool => DataType::Boolean,
            Self::Int => DataType::Int64,
            Self::BigInt => DataType::Decimal128(20, 0),
            Self::Float => DataType::Float64,
            Self::Text => DataType::Utf8,
            Self::List(of) => DataType::List(Arc::new(Field::new_list_field(of.data_type(), true))),
            Self::Object(fields) => DataType::Struct(arrow_fields(fields)),
        }
    }
}

fn arrow_fields(fields: &[(String, Shape)]) -> Fields {
    fields.iter().map(|(name, shape)| Field::new(name, shape.data_type(), true)).collect()
}

/// The field of this name, made where there is none. Rows mostly repeat the order of the first one, so it is looked for at
/// `expected` first.
fn slot<'a>(fields: &'a mut Vec<(String, Shape)>, expected: usize, name: &str) -> &'a mut Shape {
    let at = match fields.get(expected) {
        Some((known, _)) if known == name => expected,
        _ => fields.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            fields.push((name.to_owned(), Shape::Null));
            fields.len() - 1
        }),
    };
    &mut fields[at].1
}

/// Reads one row into the shape of all, without keeping any of it.
pub(crate) struct Row<'a>(pub(crate) &'a mut Shape);

impl<'de> DeserializeSeed<'de> for Row<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Row<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one JSON object a line")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        One { shape: self.0, name: "the row" }.visit_map(map)
    }
}

/// Reads one value into the shape of its column.
struct One<'a> {
    shape: &'a mut Shape,
    name: &'a str,
}

impl One<'_> {
    fn is<E: serde::de::Error>(self, shape: Shape) -> Result<(), E> {
        // The usual case is decided without a merge.
        if *self.shape == shape {
            return Ok(());
        }
        self.shape.merge(shape, self.name).map_err(E::custom)
    }
}

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for One<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        self.is(Shape::Bool)
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        self.is(Shape::Int)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<(), E> {
        self.is(if i64::try_from(number).is_ok() { Shape::Int } else { Shape::BigInt })
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        self.is(Shape::Float)
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        self.is(Shape::Text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        if *self.shape == Shape::Null {
            *self.shape = Shape::List(Box::default());
        }
        let Shape::List(of) = self.shape else {
            return Err(A::Error::custom(format!(
                "'{}' is a list here and {} elsewhere",
                self.name,
                self.shape.noun()
            )));
        };
        while values.next_element_seed(One { shape: of, name: self.name })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if *self.shape == Shape::Null {
            *self.shape = Shape::Object(Vec::new());
        }
        let Shape::Object(fields) = self.shape else {
            let noun = self.shape.noun();
            return Err(A::Error::custom(format!("'{}' is an object here and {noun} elsewhere", self.name)));
        };
        let mut index = 0;
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            map.next_value_seed(One { shape: slot(fields, index, &name), name: &name })?;
            index += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The columns of these lines as `name type`, or the mistake in one of them.
    fn columns(lines: &[&str]) -> String {
        let mut shape = Shape::default();
        for line in lines {
            let mut json = serde_json::Deserializer::from_str(line);
            if let Err(error) = Row(&mut shape).deserialize(&mut json) {
                // The place in the line is told by the caller.
                return error.to_string().split(" at line").next().unwrap_or_default().to_owned();
            }
        }
        let schema = shape.schema();
        let columns = schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type()));
        columns.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn a_column_has_the_type_that_all_its_values_fit() {
        for (lines, expected) in [
            (&[r#"{"a":1}"#, r#"{"a":-2,"b":"x"}"#][..], "a Int64, b Utf8"),
            (&[r#"{"a":1}"#, r#"{"a":2.5}"#], "a Float64"),
            (&[r#"{"a":2.5}"#, r#"{"a":1}"#], "a Float64"),
            (&[r#"{"a":1}"#, r#"{"a":18446744073709551615}"#], "a Decimal128(20, 0)"),
            (&[r#"{"a":1}"#, r#"{"a":"x"}"#], "a Utf8"),
            (&[r#"{"a":true}"#, r#"{"a":1}"#], "a Utf8"),
            (&[r#"{"a":null}"#, r#"{"a":null}"#], "a Null"),
            (&[r#"{"a":null}"#, r#"{"a":true}"#, r#"{"a":null}"#], "a Boolean"),
            (&[r#"{"a":[]}"#, r#"{"a":[1,null,2.5]}"#], "a List(Float64)"),
            (&[r#"{"b":1,"a":2}"#, r#"{"a":2,"c":3,"b":1}"#], "b Int64, a Int64, c Int64"),
        ] {
            assert_eq!(columns(lines), expected, "{lines:?}");
        }
        let nested = columns(&[r#"{"a":{"x":1}}"#, r#"{"a":{"y":[{"z":null}]}}"#]);
        assert_eq!(nested, "a Struct(\"x\": Int64, \"y\": List(Struct(\"z\": Null)))");
    }

    #[test]
    fn what_no_column_can_hold_is_named() {
        for (lines, expected) in [
            (&[r#"{"a":1}"#, r#"{"a":[1]}"#][..], "'a' is a list here and a number elsewhere"),
            (&[r#"{"a":[1]}"#, r#"{"a":"x"}"#], "'a' is text here and a list elsewhere"),
            (&[r#"{"a":{"b":{}}}"#, r#"{"a":{"b":7}}"#], "'b' is a number here and an object elsewhere"),
            (&["[1]"], "invalid type: sequence, expected one JSON object a line"),
        ] {
            assert_eq!(columns(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn shapes_of_parts_of_a_table_merge_as_their_rows_would() {
        let rows = [r#"{"a":1,"n":null,"l":[1]}"#, r#"{"c":"x","a":1.5,"l":[]}"#, r#"{"l":null,"a":3,"n":{"x":true}}"#];
        let shape = |lines: &[&str]| {
            let mut shape = Shape::default();
            for line in lines {
                Row(&mut shape).deserialize(&mut serde_json::Deserializer::from_str(line)).expect("a row");
            }
            shape
        };
        for split in 0..=rows.len() {
            let mut merged = shape(&rows[..split]);
            merged.merge(shape(&rows[split..]), "the row").expect("they fit");
            assert_eq!(merged, shape(&rows), "split at {split}");
        }
    }
}
