//! The data model: values, optional schemas, and the JSON text of both.
//!
//! It is Kafka Connect's: primitives, text, bytes, arrays, maps and structs, with the logical types Decimal, Date, Time and
//! Timestamp. Two things differ, both so that data comes out as it went in: a [`Map`] keeps the order of its fields, and a
//! number that neither an `i64` nor an `f64` holds exactly is kept as it was written ([`Value::Number`]).

pub mod json;
mod name;
mod schema;
mod value;

pub use name::Name;
pub use schema::{Field, Schema, SchemaBuilder, SchemaType, logical};
pub use value::{Decimal, Map, Struct, Value};
