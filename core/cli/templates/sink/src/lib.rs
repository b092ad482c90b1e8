//! `my-plugin`: a sink for Ottla. It writes the values of records into the files of a folder, each record once.
//!
//! | File | Holds |
//! |---|---|
//! | `config.rs` | the options |
//! | `line.rs` | what a record becomes: **begin with your own here** |
//! | `sink.rs` | what is accepted, what is durable: the part that every sink has |
//! | `folder.rs` | the system that is written to: the only file that knows it |

mod config;
mod folder;
mod line;
mod sink;

pub use config::MyPluginConfig;
pub use sink::{MyPlugin, MyPluginTask};

use ottla_api::prelude::*;

/// What `ottla plugins describe my-plugin` prints above the options.
const DOC: &str = r#"Writes the values of records into files of JSON lines, each record once.

```toml
[connectors.out]
connector.class = "my-plugin"
topics = "numbers"
dir = "out"
```

A file is named after the topic, the partition and the offsets that it holds, and is never changed."#;

/// The plugins of this library.
pub const PLUGINS: &[Plugin] = &[Plugin {
    name: "my-plugin",
    aliases: &[],
    version: env!("CARGO_PKG_VERSION"),
    doc: DOC,
    definition: &MyPluginConfig::definition,
    constructor: Constructor::Sink(&|| Box::new(MyPlugin)),
}];

// What a worker looks for when it loads the library.
ottla_api::export_plugins!(PLUGINS);
