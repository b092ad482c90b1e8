//! Kinesis streams: a source, a sink, and a Kinesis for laptops.

use ottla_api::plugin::Plugin;

/// The plugins of this crate.
pub fn plugins() -> Vec<Plugin> {
    Vec::new()
}
