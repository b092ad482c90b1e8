//! JSON text of values: check and compact without a tree, parse into a tree, write.
//!
//! Most records pass through untouched, so the first thing here is [`compact()`]: one walk over the text that proves it is
//! JSON and drops the white space between tokens, without building anything. Text that is compact already is returned as
//! the slice that came in. Fields keep their order and numbers their digits, so what a producer wrote is what a reader gets;
//! only escapes that need not be (`\u00e9`, `\/`) become the letters they stand for, as Kafka Connect's sinks write them.
//! Parsing and writing the tree gives the same bytes, so it shows nowhere which way a record went.
//!
//! The grammar is RFC 8259. Nesting is bounded by [`DEPTH_MAX`], so that a hostile record can't exhaust the stack.

mod compact;
mod mistake;
mod names;
mod number;
mod parse;
mod scan;
mod time;
mod write;

pub use compact::compact;
pub use number::{text_of_f32, text_of_f64};
pub use parse::{parse, parse_below};
pub use time::{civil_from_days, iso_date, iso_time, iso_timestamp};
pub use write::{WriteOptions, to_string, write, write_text, write_with};

/// How deep arrays and objects may nest. Jackson, which Kafka Connect uses, stops at 1000; both are far beyond real data.
pub const DEPTH_MAX: usize = 256;
