//! The options of the transformation. The comment of a field is its documentation.

use ottla_api::prelude::*;

/// Options of `my-plugin`.
#[derive(Debug, Clone, Config)]
pub struct MyPluginConfig {
    /// Fields whose texts are shortened.
    #[config(name = "fields", importance = "high")]
    pub fields: Vec<String>,
    /// A text keeps at most so many characters.
    #[config(name = "length.max", default = "100", min = 1)]
    pub length_max: usize,
}
