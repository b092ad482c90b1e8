//! Delta Lake tables: a sink whose rows and offsets are one commit.

pub mod store;

use ottla_api::plugin::Plugin;

/// The plugins of this crate.
pub fn plugins() -> Vec<Plugin> {
    Vec::new()
}
