//! The transformations and predicates that come with Ottla.
//!
//! [`plugins`] is the catalogue. The native ones carry cleaning rules: garbage to null, quantities, timestamps, choice and
//! order of fields; and expressions, for what none of them foresees. The others are Kafka Connect's, under its names and keys. One file each; the comment at its head is
//! the plugin's documentation, and the example in it is run by the tests.

mod cast;
mod combine_fields;
mod concat_fields;
mod date_pattern;
mod deduplicate;
mod drop_headers;
mod drop_if_all_null;
mod expression;
mod extract_field;
mod field_path;
mod fields;
mod filter;
mod flatten;
mod header_from;
mod hoist_field;
mod insert_field;
mod insert_header;
mod java_replacement;
mod key_or_value;
mod map;
mod mask_field;
mod module_doc;
mod null_if;
mod parse_quantity;
mod parse_timestamp;
mod predicates;
mod regex_router;
mod replace_field;
mod require_fields;
mod requirements;
mod route;
mod schema_cache;
mod select_fields;
mod set_schema_metadata;
mod split_field;
mod strip_prefix;
mod text_list;
mod timestamp_converter;
mod timestamp_router;
mod value_to_key;

use ottla_api::plugin::Plugin;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Every transformation and predicate of this crate.
pub fn plugins() -> Vec<Plugin> {
    let mut plugins = vec![
        // The cleaning rules.
        null_if::plugin(),
        parse_quantity::plugin(),
        parse_timestamp::plugin(),
        strip_prefix::plugin(),
        combine_fields::plugin(),
        concat_fields::plugin(),
        split_field::plugin(),
        select_fields::plugin(),
        require_fields::plugin(),
        drop_if_all_null::plugin(),
        deduplicate::plugin(),
        // Expressions.
        map::plugin(),
        route::plugin(),
    ];
    // Kafka Connect's.
    plugins.extend(cast::plugins());
    plugins.extend(extract_field::plugins());
    plugins.extend(flatten::plugins());
    plugins.extend(header_from::plugins());
    plugins.extend(hoist_field::plugins());
    plugins.extend(insert_field::plugins());
    plugins.extend(mask_field::plugins());
    plugins.extend(replace_field::plugins());
    plugins.extend(set_schema_metadata::plugins());
    plugins.extend(timestamp_converter::plugins());
    plugins.extend([
        drop_headers::plugin(),
        filter::plugin(),
        insert_header::plugin(),
        regex_router::plugin(),
        timestamp_router::plugin(),
        value_to_key::plugin(),
        predicates::expression::plugin(),
        predicates::has_header_key::plugin(),
        predicates::record_is_tombstone::plugin(),
        predicates::topic_name_matches::plugin(),
    ]);
    plugins
}
