//! `my-plugin`: a transformation for Ottla. It shortens texts that are too long.
//!
//! | File | Holds |
//! |---|---|
//! | `config.rs` | the options |
//! | `transform.rs` | what happens to a record: **begin with your own here** |

mod config;
mod transform;

pub use config::MyPluginConfig;
pub use transform::MyPlugin;

use ottla_api::prelude::*;

/// What `ottla plugins describe my-plugin` prints above the options.
const DOC: &str = r#"Shortens texts that are too long.

```toml
transforms = [{ type = "my-plugin", fields = "name, title", length.max = 80 }]
```

A field that is missing, or is no text, stays as it is."#;

/// The plugins of this library.
pub const PLUGINS: &[Plugin] = &[Plugin {
    name: "my-plugin",
    aliases: &[],
    version: env!("CARGO_PKG_VERSION"),
    doc: DOC,
    definition: &MyPluginConfig::definition,
    constructor: Constructor::Transformation(&|properties| Ok(Box::new(MyPlugin::new(properties)?))),
}];

// What a worker looks for when it loads the library.
ottla_api::export_plugins!(PLUGINS);
