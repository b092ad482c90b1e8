//! Converters: bytes in a topic to data, and back.

use bytes::Bytes;

use crate::error::Result;
use crate::record::Payload;

/// Translates between bytes and data (Kafka Connect: `Converter`). Shared by a task's records, so it holds no state that
/// matters.
///
/// An error is about this record: `errors.tolerance` and the dead letter queue decide what follows.
pub trait Converter: Send + Sync {
    /// Data from a record's bytes; no bytes are null. Decodes no more than it must, see [`Payload`].
    fn to_connect(&self, topic: &str, bytes: Option<&Bytes>) -> Result<Payload>;

    /// Bytes from data; nothing is a null key or a tombstone.
    #[allow(clippy::wrong_self_convention)] // Kafka Connect's word.
    fn from_connect(&self, topic: &str, payload: &Payload) -> Result<Option<Bytes>>;
}
