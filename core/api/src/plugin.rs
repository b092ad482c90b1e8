//! Plugins: everything that a configuration finds by name.

use std::fmt;

use crate::config::{ConfigDef, Properties};
use crate::config_provider::ConfigProvider;
use crate::converter::Converter;
use crate::error::Result;
use crate::predicate::Predicate;
use crate::sink::SinkConnector;
use crate::source::SourceConnector;
use crate::transformation::Transformation;

/// A function of a plugin. Most are plain functions or closures without captures, `&|| Box::new(MySink)`, so that a plugin can
/// be a constant; those of a loaded library know which library they call.
pub type Function<F> = &'static F;

/// The description of one plugin. A crate of plugins has `const PLUGINS: &[Plugin]`.
/// ```
/// use ottla_api::prelude::*;
///
/// #[derive(Debug, Config)]
/// struct UppercaseConfig {
///     /// Whether the key is changed as well.
///     #[config(name = "key", default = "false")]
///     key: bool,
/// }
///
/// struct Uppercase(UppercaseConfig);
///
/// impl Transformation for Uppercase {
///     fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
///         let Record { key, value, .. } = &mut record;
///         for payload in [Some(value), self.0.key.then_some(key)].into_iter().flatten() {
///             if let Value::String(text) = payload.value_mut()? {
///                 *text = text.to_uppercase();
///             }
///         }
///         Ok(Some(record))
///     }
/// }
///
/// /// The plugins of this library.
/// pub const PLUGINS: &[Plugin] = &[Plugin {
///     name: "uppercase",
///     aliases: &[],
///     version: env!("CARGO_PKG_VERSION"),
///     doc: "Writes text in capitals.",
///     definition: &UppercaseConfig::definition,
///     constructor: Constructor::Transformation(&|properties| {
///         Ok(Box::new(Uppercase(UppercaseConfig::from_properties(properties)?)))
///     }),
/// }];
/// // In a library that workers load: ottla_api::export_plugins!(PLUGINS);
///
/// let Constructor::Transformation(make) = &PLUGINS[0].constructor else { unreachable!() };
/// let record = make(&Properties::new())?.apply(Record::new("posts", "quiet"))?.unwrap();
/// assert_eq!(record.value, Payload::schemaless("QUIET"));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Plugin {
    /// The native name, kebab-case: `s3-sink`, `null-if`.
    pub name: &'static str,
    /// Other accepted names: full Java class names first. The simple name of each (after the last dot) is accepted too.
    pub aliases: &'static [&'static str],
    /// Version, for `ottla plugins`.
    pub version: &'static str,
    /// What it does: a first sentence, then as much Markdown as helps.
    pub doc: &'static str,
    /// Its options.
    pub definition: Function<dyn Fn() -> ConfigDef + Send + Sync>,
    /// How it is made.
    pub constructor: Constructor,
}

/// Makes a plugin; the variant says of which kind. Those with properties get them checked against the definition already.
#[derive(Clone, Copy)]
pub enum Constructor {
    /// A source connector.
    Source(Function<dyn Fn() -> Box<dyn SourceConnector> + Send + Sync>),
    /// A sink connector.
    Sink(Function<dyn Fn() -> Box<dyn SinkConnector> + Send + Sync>),
    /// A transformation with its own options (no `transforms.<name>.` in front).
    Transformation(Function<dyn Fn(&Properties) -> Result<Box<dyn Transformation>> + Send + Sync>),
    /// A predicate with its own options.
    Predicate(Function<dyn Fn(&Properties) -> Result<Box<dyn Predicate>> + Send + Sync>),
    /// A converter with its own options; the flag says whether it is for keys.
    Converter(Function<dyn Fn(&Properties, bool) -> Result<Box<dyn Converter>> + Send + Sync>),
    /// A config provider with its `param.` options.
    ConfigProvider(Function<dyn Fn(&Properties) -> Result<Box<dyn ConfigProvider>> + Send + Sync>),
}

/// The kind of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // The names say it all.
pub enum PluginKind {
    Source,
    Sink,
    Transformation,
    Predicate,
    Converter,
    ConfigProvider,
}

impl fmt::Display for PluginKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Sink => "sink",
            Self::Transformation => "transformation",
            Self::Predicate => "predicate",
            Self::Converter => "converter",
            Self::ConfigProvider => "config-provider",
        })
    }
}

impl Plugin {
    /// The kind.
    pub const fn kind(&self) -> PluginKind {
        match self.constructor {
            Constructor::Source(_) => PluginKind::Source,
            Constructor::Sink(_) => PluginKind::Sink,
            Constructor::Transformation(_) => PluginKind::Transformation,
            Constructor::Predicate(_) => PluginKind::Predicate,
            Constructor::Converter(_) => PluginKind::Converter,
            Constructor::ConfigProvider(_) => PluginKind::ConfigProvider,
        }
    }

    /// True where `name` means this plugin: its native name, an alias, or the simple name of an alias.
    pub fn answers_to(&self, name: &str) -> bool {
        let simple = |alias: &'static str| alias.rsplit('.').next().unwrap_or(alias);
        self.name == name || self.aliases.iter().any(|alias| *alias == name || simple(alias) == name)
    }
}

impl fmt::Debug for Constructor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Constructor")
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plugin({} {})", self.kind(), self.name)
    }
}
