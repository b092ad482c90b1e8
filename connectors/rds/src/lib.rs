#![doc = include_str!("../README.md")]
// A build with fewer databases leaves out what only those need; so much is not worth a condition at every place.
#![cfg_attr(not(all(feature = "mysql", feature = "postgres")), allow(dead_code))]

mod client;
mod config;
pub mod demo;
mod emulator;
mod error;
mod python_random;
mod source;

use ottla_api::config::Config;
use ottla_api::plugin::{Constructor, Plugin};

/// The plugins of this crate.
pub fn plugins() -> Vec<Plugin> {
    vec![Plugin {
        name: "rds-source",
        // Not JDBC's source connector: that has modes which this one lacks.
        aliases: &[],
        version: env!("CARGO_PKG_VERSION"),
        doc: "Rows of a database (SQLite, MariaDB, MySQL, PostgreSQL, or a generated one): drawn at random, round after \
              round, as people post; or each table once.",
        definition: config::RdsSourceConfig::definition,
        constructor: Constructor::Source(|| Box::new(source::RdsSource)),
    }]
}
