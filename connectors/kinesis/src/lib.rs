//! Kinesis streams: a source, a sink, and a Kinesis for laptops.

mod client;
mod config;
pub mod embedded;
mod error;
mod template;

use ottla_api::plugin::Plugin;

pub use client::connect;
pub use config::{ConnectionConfig, Endpoint};

/// The plugins of this crate.
pub fn plugins() -> Vec<Plugin> {
    Vec::new()
}
