//! Questions about one record, by which a transformation or a chain is guarded.

pub(crate) mod expression;
pub(crate) mod has_header_key;
pub(crate) mod record_is_tombstone;
pub(crate) mod topic_name_matches;
