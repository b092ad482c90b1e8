//! Converters: bytes in a topic to data, and back.

use bytes::Bytes;

use crate::error::Result;
use crate::record::Payload;

/// Translates between bytes and data (Kafka Connect: `Converter`). Shared by a task's records, so it holds no state that
/// matters.
///
/// An error is about this record: `errors.tolerance` and the dead letter queue decide what follows.
/// ```
/// use bytes::Bytes;
/// use ottla_api::prelude::*;
///
/// /// Whole numbers as decimal text.
/// struct Decimal;
///
/// impl Converter for Decimal {
///     fn to_connect(&self, _topic: &str, bytes: Option<&Bytes>) -> Result<Payload> {
///         let Some(bytes) = bytes else { return Ok(Payload::null()) };
///         let text = str::from_utf8(bytes).ok();
///         let number: Option<i64> = text.and_then(|text| text.parse().ok());
///         number.map(Payload::schemaless).ok_or_else(|| Error::data("expected a whole number in decimal"))
///     }
///
///     fn from_connect(&self, _topic: &str, payload: &Payload) -> Result<Option<Bytes>> {
///         if payload.is_null() {
///             return Ok(None);
///         }
///         let number = payload.decoded()?.as_i64().ok_or_else(|| Error::data("the value is not a whole number"))?;
///         Ok(Some(number.to_string().into()))
///     }
/// }
///
/// let payload = Decimal.to_connect("counts", Some(&Bytes::from_static(b"42")))?;
/// assert_eq!(payload, Payload::schemaless(42i64));
/// assert_eq!(Decimal.from_connect("counts", &payload)?, Some(Bytes::from_static(b"42")));
/// # Ok::<(), Error>(())
/// ```
pub trait Converter: Send + Sync {
    /// Data from a record's bytes; no bytes are null. Decodes no more than it must, see [`Payload`].
    fn to_connect(&self, topic: &str, bytes: Option<&Bytes>) -> Result<Payload>;

    /// The same for a record that will be looked into, as the one before it was: what would be decoded later can be decoded at
    /// once, which saves a walk over the text. Only the way differs, neither the data nor the errors.
    fn to_connect_decoded(&self, topic: &str, bytes: Option<&Bytes>) -> Result<Payload> {
        self.to_connect(topic, bytes)
    }

    /// Bytes from data; nothing is a null key or a tombstone.
    #[allow(clippy::wrong_self_convention)] // Kafka Connect's word.
    fn from_connect(&self, topic: &str, payload: &Payload) -> Result<Option<Bytes>>;

    /// True where a call may hold up the thread that makes it: it looks something up, or leaves the worker's own code. The runtime then calls from a
    /// thread that nobody else waits for.
    fn is_blocking(&self) -> bool {
        false
    }
}
