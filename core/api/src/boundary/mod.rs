//! The plugin boundary: what carries the traits of this crate over the C contract of [`abi`], in both directions.
//!
//! A worker and the author of a plugin see the ordinary traits. In between, [`flat`] says how things look as bytes, [`message`]
//! how records are lent, and [`guest`] is the library's side: entry points, objects, the library's own runtime. The worker's
//! side is `ottla_runtime::plugins::loaded`.

#![allow(unsafe_code)]

pub mod body;
pub mod flat;
pub mod guest;
pub mod message;

pub use ottla_plugin_abi as abi;

/// Version of this crate, which a library states.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
