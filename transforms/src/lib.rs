//! The transformations and predicates that come with Ottla.
//!
//! [`plugins`] is the catalogue. The native ones carry cleaning rules: garbage to null, quantities, timestamps, choice and
//! order of fields. The others are Kafka Connect's, under its names and keys. One file each; the comment at its head is
//! the plugin's documentation, and the example in it is run by the tests.

mod combine_fields;
mod concat_fields;
mod date_pattern;
mod drop_if_all_null;
mod fields;
mod java_regex;
mod key_or_value;
mod module_doc;
mod null_if;
mod parse_quantity;
mod parse_timestamp;
mod predicates;
mod schema_cache;
mod select_fields;
mod strip_prefix;
mod text_list;

use ottla_api::plugin::Plugin;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Every transformation and predicate of this crate.
pub fn plugins() -> Vec<Plugin> {
    vec![
        combine_fields::plugin(),
        concat_fields::plugin(),
        drop_if_all_null::plugin(),
        null_if::plugin(),
        parse_quantity::plugin(),
        parse_timestamp::plugin(),
        select_fields::plugin(),
        strip_prefix::plugin(),
        predicates::has_header_key::plugin(),
        predicates::record_is_tombstone::plugin(),
        predicates::topic_name_matches::plugin(),
    ]
}
