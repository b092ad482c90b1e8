//! What both kinds of task share, and the two record paths.

mod away;
pub mod conversion;
pub mod sink;
pub mod source;
pub mod transformation_chain;

/// How a task ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskEnd {
    /// A bounded source has yielded everything.
    Finished,
    /// It was asked to stop.
    Stopped,
}
