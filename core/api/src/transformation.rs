//! Transformations: one record in, one or none out.

use crate::error::Result;
use crate::record::Record;

/// Changes a record, or drops it (Kafka Connect: `Transformation`, "single message transformation").
///
/// # Contract
///
/// The runtime makes one per task and calls [`apply`](Self::apply) for each record in order, on one thread at a time. It is
/// pure: no I/O, no clock, nothing that makes the same record come out differently a second time. Exactly-once delivery into
/// objects rests on that. A transformation that remembers earlier records (deduplication) says so by
/// [`is_deterministic`](Self::is_deterministic).
///
/// An error is about this record: `errors.tolerance` and the dead letter queue decide what follows. The record that failed
/// is not needed any more, so `apply` may have changed it half-way.
/// # Example
///
/// ```
/// use ottla_api::prelude::*;
///
/// /// Drops records whose field `deleted` is true, and takes that field out of the others.
/// struct DropDeleted;
///
/// impl Transformation for DropDeleted {
///     fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
///         if record.is_tombstone() {
///             return Ok(Some(record));
///         }
///         let Value::Map(map) = record.value.value_mut()? else {
///             return Err(Error::data("drop-deleted needs a value with fields"));
///         };
///         let deleted = map.remove("deleted");
///         Ok((deleted != Some(Value::Boolean(true))).then_some(record))
///     }
/// }
///
/// let record = |deleted| {
///     let mut map = Map::new();
///     map.push("id", 7i64);
///     map.push("deleted", Value::Boolean(deleted));
///     Record::new("posts", Value::Map(map))
/// };
/// assert_eq!(DropDeleted.apply(record(true))?, None);
/// let kept = DropDeleted.apply(record(false))?.unwrap();
/// assert_eq!(ottla_api::data::json::to_string(&*kept.value.decoded()?), r#"{"id":7}"#);
/// # Ok::<(), Error>(())
/// ```
pub trait Transformation: Send {
    /// The record changed, or nothing where it is to be dropped. A dropped record's offset still moves on.
    fn apply(&mut self, record: Record) -> Result<Option<Record>>;

    /// False where the outcome depends on more than the record. The runtime then warns where a sink's promise needs purity.
    fn is_deterministic(&self) -> bool {
        true
    }

    /// True where a call may hold up the thread that makes it: it looks something up, or leaves the worker's own code. The runtime then calls from a
    /// thread that nobody else waits for.
    fn is_blocking(&self) -> bool {
        false
    }
}
