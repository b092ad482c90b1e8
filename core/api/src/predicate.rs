//! Predicates: a question about one record, which guards a transformation or a chain.

use crate::error::Result;
use crate::record::Record;

/// Decides whether a transformation applies to a record (Kafka Connect: `Predicate`). As pure as a transformation.
/// ```
/// use ottla_api::prelude::*;
///
/// /// True for values of at least so many characters.
/// struct IsLong(usize);
///
/// impl Predicate for IsLong {
///     fn test(&mut self, record: &mut Record) -> Result<bool> {
///         Ok(record.value.value()?.as_str().is_some_and(|text| text.chars().count() >= self.0))
///     }
/// }
///
/// assert!(IsLong(3).test(&mut Record::new("posts", "long enough"))?);
/// assert!(!IsLong(3).test(&mut Record::new("posts", 12345i64))?);
/// # Ok::<(), Error>(())
/// ```
pub trait Predicate: Send {
    /// The answer for this record. Takes it mutably because looking inside decodes it, which changes nothing else.
    fn test(&mut self, record: &mut Record) -> Result<bool>;

    /// True where a call may hold up the thread that makes it: it looks something up, or leaves the worker's own code. The runtime then calls from a
    /// thread that nobody else waits for.
    fn is_blocking(&self) -> bool {
        false
    }
}
