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

const DOC: &str = r#"Reads rows of SQLite, MariaDB, MySQL, PostgreSQL or a generated database: drawn at random, round after round, as people
post; or each table once.

```toml
[connectors.shop]
connector.class = "rds-source"
connection.url = "postgres://db.example/shop"
connection.user = "reader"
connection.password = "${env:DB_PASSWORD}"      # allowed by [worker.config.providers.env]
mode = "bulk"
topic.prefix = "shop."                          # table customers goes to topic shop.customers
table.whitelist = ["customers", "orders"]
```

```toml
[connectors.posts]
connector.class = "rds-source"
connection.url = "emulator"
mode = "emulate"
emulate.topics.pinterest_data = "posts.pin"
emulate.topics.user_data = "posts.user"
```"#;

/// The plugins of this crate.
pub const PLUGINS: &[Plugin] = &[Plugin {
    name: "rds-source",
    // Not JDBC's source connector: that has modes which this one lacks.
    aliases: &[],
    version: env!("CARGO_PKG_VERSION"),
    doc: DOC,
    definition: &config::RdsSourceConfig::definition,
    constructor: Constructor::Source(&|| Box::new(source::RdsSource)),
}];

#[cfg(feature = "plugin")]
ottla_api::export_plugins!(PLUGINS);
