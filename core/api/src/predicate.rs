//! Predicates: a question about one record, which guards a transformation or a chain.

use crate::error::Result;
use crate::record::Record;

/// Decides whether a transformation applies to a record (Kafka Connect: `Predicate`). As pure as a transformation.
pub trait Predicate: Send {
    /// The answer for this record. Takes it mutably because looking inside decodes it, which changes nothing else.
    fn test(&mut self, record: &mut Record) -> Result<bool>;

    /// True where a call may hold up the thread that makes it: it looks something up, or leaves the worker's own code. The runtime then calls from a
    /// thread that nobody else waits for.
    fn is_blocking(&self) -> bool {
        false
    }
}
