//! `my-plugin`: a source for Ottla. It reads the lines of the files of a folder, in the order of their names.
//!
//! | File | Holds |
//! |---|---|
//! | `config.rs` | the options |
//! | `record.rs` | what a line becomes: **begin with your own here** |
//! | `source.rs` | where it is, and where it goes on after a restart: the part that every source has |
//! | `folder.rs` | the system that is read: the only file that knows it |

mod config;
mod folder;
mod record;
mod source;

pub use config::MyPluginConfig;
pub use source::{MyPlugin, MyPluginTask};

use ottla_api::prelude::*;

/// What `ottla plugins describe my-plugin` prints above the options.
const DOC: &str = r#"Reads files of JSON lines out of a folder, each line once.

```toml
[connectors.in]
connector.class = "my-plugin"
dir = "inbox"
topic = "numbers"
```

Files are read in the order of their names. A file must be complete when it appears (write it under another name, then
rename it), and a later one must have a later name. Names that begin with a dot are left alone."#;

/// The plugins of this library.
pub const PLUGINS: &[Plugin] = &[Plugin {
    name: "my-plugin",
    aliases: &[],
    version: env!("CARGO_PKG_VERSION"),
    doc: DOC,
    definition: &MyPluginConfig::definition,
    constructor: Constructor::Source(&|| Box::new(MyPlugin)),
}];

// What a worker looks for when it loads the library.
ottla_api::export_plugins!(PLUGINS);
