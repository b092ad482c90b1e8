//! Finding plugins by name: native names, Java class names and what people shorten them to.

pub mod config_providers;
pub mod loaded;

use std::fmt;
use std::path::PathBuf;

use loaded::{Limits, Loaded};
use ottla_api::plugin::{Plugin, PluginKind};
use tracing::warn;

use crate::config::nearest::nearest;

/// The runtime's own plugins: the config providers `file`, `env` and `dir`.
pub fn builtin() -> Vec<Plugin> {
    config_providers::plugins()
}

/// All plugins of a worker.
#[derive(Debug, Clone)]
pub struct Registry {
    plugins: Vec<Plugin>,
    libraries: Vec<Loaded>,
}

impl Registry {
    /// A registry of these plugins.
    pub fn new(plugins: Vec<Plugin>) -> Self {
        Self { plugins, libraries: Vec::new() }
    }

    /// Adds the plugins of a library. One that is called as one that is there already takes its place: a newer version of what is built in, or of
    /// an earlier library.
    pub fn add(&mut self, library: Loaded) {
        for plugin in &library.plugins {
            self.plugins.retain(|other| {
                let same = other.name == plugin.name && other.kind() == plugin.kind();
                if same {
                    let library = library.path.display();
                    warn!(plugin = plugin.name, version = plugin.version, %library, "is taken from the library, not from the worker");
                }
                !same
            });
            self.plugins.push(*plugin);
        }
        self.libraries.push(library);
    }

    /// Adds the libraries of a `plugin.path`. What can't be loaded is left out: a phrase for each says why.
    pub fn add_path(&mut self, entries: &[PathBuf], limits: &Limits) -> Vec<String> {
        let (files, mut wrong) = loaded::find(entries);
        for file in files {
            match loaded::load(&file, limits) {
                Ok(library) => self.add(library),
                // A folder of libraries also holds what they need.
                Err(error) if loaded::is_not_ours(&error) && !entries.contains(&file) => {}
                Err(error) => wrong.push(format!("left out: {error}")),
            }
        }
        wrong
    }

    /// The libraries that were added.
    pub fn libraries(&self) -> &[Loaded] {
        &self.libraries
    }

    /// The library that a plugin is of; nothing for one that is built in.
    pub fn library_of(&self, plugin: &Plugin) -> Option<&Loaded> {
        let has = |library: &&Loaded| {
            library.plugins.iter().any(|other| other.name == plugin.name && other.kind() == plugin.kind())
        };
        self.libraries.iter().rev().find(has)
    }

    /// All plugins, as they were given.
    pub fn plugins(&self) -> &[Plugin] {
        &self.plugins
    }

    /// The plugins of these kinds.
    pub fn of_kind<'a>(&'a self, kinds: &'a [PluginKind]) -> impl Iterator<Item = &'a Plugin> {
        self.plugins.iter().filter(|plugin| kinds.contains(&plugin.kind()))
    }

    /// The plugin of one of these kinds that `name` means: its native name, a full Java class name, the simple name of one,
    /// or that without the word for its kind at the end (`S3Sink` for `io.confluent.connect.s3.S3SinkConnector`).
    pub fn find(&self, kinds: &[PluginKind], name: &str) -> Result<Plugin, NotFound> {
        let name = name.trim();
        // An exact name wins over what it might be short for.
        let exact = |plugin: &&Plugin| plugin.name == name || plugin.aliases.contains(&name);
        let short = |plugin: &&Plugin| plugin.answers_to(name) || short_names(plugin).any(|short| short == name);
        let mut found = self.of_kind(kinds).filter(exact).collect::<Vec<_>>();
        if found.is_empty() {
            found = self.of_kind(kinds).filter(short).collect();
        }
        if let [plugin] = found[..] {
            return Ok(*plugin);
        }
        if !found.is_empty() {
            let candidates = found.iter().map(|plugin| plugin.aliases.first().unwrap_or(&plugin.name).to_string());
            return Err(NotFound::Ambiguous { name: name.to_owned(), candidates: candidates.collect() });
        }
        let kinds = kinds.to_vec();
        let name = name.to_owned();
        if let Some(other) = self.plugins.iter().find(|plugin| exact(plugin) || short(plugin)) {
            return Err(NotFound::OtherKind { name, kind: other.kind(), wanted: kinds });
        }
        let all_names = self.of_kind(&kinds).flat_map(|plugin| {
            std::iter::once(plugin.name).chain(plugin.aliases.iter().flat_map(|alias| [simple(alias), alias]))
        });
        let nearest = nearest(&name, all_names).map(str::to_owned);
        let known = self.of_kind(&kinds).map(|plugin| plugin.name).collect();
        Err(NotFound::Unknown { name, wanted: kinds, nearest, known })
    }

    /// The plugin of any kind that `name` means.
    pub fn find_any(&self, name: &str) -> Result<Plugin, NotFound> {
        use PluginKind::*;
        self.find(&[Source, Sink, Transformation, Predicate, Converter, ConfigProvider], name)
    }
}

/// The last part of a Java class name.
fn simple(class: &'static str) -> &'static str {
    class.rsplit('.').next().unwrap_or(class)
}

/// The simple names of a plugin's Java classes without the word for their kind, as Kafka Connect shortens them.
fn short_names(plugin: &Plugin) -> impl Iterator<Item = &'static str> {
    let suffix = match plugin.kind() {
        PluginKind::Source | PluginKind::Sink => "Connector",
        PluginKind::Transformation => "Transformation",
        PluginKind::Predicate => "Predicate",
        PluginKind::Converter => "Converter",
        PluginKind::ConfigProvider => "ConfigProvider",
    };
    plugin.aliases.iter().filter_map(move |alias| simple(alias).strip_suffix(suffix).filter(|short| !short.is_empty()))
}

/// Why a name means no plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotFound {
    /// Nothing is called so.
    Unknown {
        /// The name.
        name: String,
        /// What was looked for.
        wanted: Vec<PluginKind>,
        /// The name that was probably meant.
        nearest: Option<String>,
        /// The native names there are.
        known: Vec<&'static str>,
    },
    /// It is a plugin of another kind.
    OtherKind {
        /// The name.
        name: String,
        /// What it is.
        kind: PluginKind,
        /// What was looked for.
        wanted: Vec<PluginKind>,
    },
    /// It is short for several.
    Ambiguous {
        /// The name.
        name: String,
        /// Their full names.
        candidates: Vec<String>,
    },
}

/// What is looked for, in a word.
fn describe(kinds: &[PluginKind]) -> String {
    match kinds {
        [PluginKind::Source, PluginKind::Sink] => "connector".to_owned(),
        [kind] => kind.to_string().replace('-', " "),
        _ => "plugin".to_owned(),
    }
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name, wanted, nearest, known } => {
                write!(f, "no {} is called '{name}'", describe(wanted))?;
                match nearest {
                    Some(nearest) => write!(f, "; did you mean '{nearest}'?"),
                    None if known.is_empty() => write!(f, "; there is none"),
                    None => write!(f, "; there are {}", known.join(", ")),
                }
            }
            Self::OtherKind { name, kind, wanted } => {
                write!(f, "'{name}' is a {}, not a {}", describe(&[*kind]), describe(wanted))
            }
            Self::Ambiguous { name, candidates } => {
                write!(f, "'{name}' may mean {}: write the full name", candidates.join(" or "))
            }
        }
    }
}

impl std::error::Error for NotFound {}

#[cfg(test)]
mod tests {
    use ottla_api::config::ConfigDef;
    use ottla_api::plugin::Constructor;

    use super::*;

    fn plugin(name: &'static str, aliases: &'static [&'static str], constructor: Constructor) -> Plugin {
        Plugin { name, aliases, version: "1", doc: "", definition: &ConfigDef::new, constructor }
    }

    fn registry() -> Registry {
        let sink = Constructor::Sink(&|| unreachable!());
        let transform = Constructor::Transformation(&|_| unreachable!());
        Registry::new(vec![
            plugin("s3-sink", &["io.confluent.connect.s3.S3SinkConnector"], sink),
            plugin("file-sink", &["org.apache.kafka.connect.file.FileStreamSinkConnector"], sink),
            plugin("other-file-sink", &["com.example.FileStreamSinkConnector"], sink),
            plugin("replace-field", &["org.apache.kafka.connect.transforms.ReplaceField$Value"], transform),
        ])
    }

    #[test]
    fn a_plugin_answers_to_all_its_names() {
        for name in ["s3-sink", "io.confluent.connect.s3.S3SinkConnector", "S3SinkConnector", "S3Sink", " s3-sink "] {
            assert_eq!(registry().find(&[PluginKind::Source, PluginKind::Sink], name).unwrap().name, "s3-sink");
        }
        assert_eq!(registry().find_any("ReplaceField$Value").unwrap().name, "replace-field");
    }

    #[test]
    fn what_is_not_found_is_explained() {
        let connectors = [PluginKind::Source, PluginKind::Sink];
        let message = |name: &str| registry().find(&connectors, name).unwrap_err().to_string();
        assert_eq!(message("s3-snk"), "no connector is called 's3-snk'; did you mean 's3-sink'?");
        assert_eq!(message("kudu"), "no connector is called 'kudu'; there are s3-sink, file-sink, other-file-sink");
        assert_eq!(message("replace-field"), "'replace-field' is a transformation, not a connector");
        assert_eq!(
            message("FileStreamSink"),
            "'FileStreamSink' may mean org.apache.kafka.connect.file.FileStreamSinkConnector or \
             com.example.FileStreamSinkConnector: write the full name"
        );
        assert_eq!(
            registry().find(&[PluginKind::Converter], "x").unwrap_err().to_string(),
            "no converter is called 'x'; there is none"
        );
    }
}
