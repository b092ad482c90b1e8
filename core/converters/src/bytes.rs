//! Bytes as they are, shared with the record that came and never copied.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use ottla_api::data::SchemaType;
use ottla_api::prelude::*;

static SCHEMA: LazyLock<Arc<Schema>> = LazyLock::new(|| Schema::optional(SchemaType::Bytes));

/// Bytes in, bytes out (Kafka Connect: `ByteArrayConverter`).
#[derive(Debug)]
pub struct ByteArrayConverter;

impl Converter for ByteArrayConverter {
    fn to_connect(&self, _topic: &str, bytes: Option<&Bytes>) -> Result<Payload> {
        Ok(Payload::with_schema(SCHEMA.clone(), bytes.cloned()))
    }

    fn from_connect(&self, _topic: &str, payload: &Payload) -> Result<Option<Bytes>> {
        if let Some(schema) = payload.schema()
            && schema.schema_type() != SchemaType::Bytes
        {
            let found = schema.schema_type().name().to_uppercase();
            return Err(Error::data(format!("Invalid schema type for ByteArrayConverter: {found}")));
        }
        let found = match payload {
            Payload::Data { value: Value::Null, .. } => return Ok(None),
            Payload::Data { value: Value::Bytes(bytes), .. } => return Ok(Some(bytes.clone())),
            other => other.clone().value()?.type_name(),
        };
        Err(Error::data(format!("ByteArrayConverter is not compatible with objects of type {found}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shared_and_not_copied() {
        let bytes = Bytes::from_static(b"\x00\xff");
        let payload = ByteArrayConverter.to_connect("t", Some(&bytes)).unwrap();
        let written = ByteArrayConverter.from_connect("t", &payload).unwrap().unwrap();
        assert_eq!(written.as_ptr(), bytes.as_ptr());
    }

    #[test]
    fn other_data_is_refused_in_kafkas_words() {
        let refused = |payload| ByteArrayConverter.from_connect("t", &payload).unwrap_err().to_string();
        assert_eq!(
            refused(Payload::with_schema(Schema::of(SchemaType::Int32), 1i32)),
            "Invalid schema type for ByteArrayConverter: INT32"
        );
        assert_eq!(
            refused(Payload::schemaless("text")),
            "ByteArrayConverter is not compatible with objects of type string"
        );
    }
}
