//! Plugins out of shared libraries: found, checked, opened, and then used like any other.
//!
//! `check` looks at a file without running any of its code; `library` opens it; `calls` keeps the calls that wait for an
//! answer; `host` is what a library may ask of the worker; `connector`, `task` and `per_record` are the traits of `ottla_api`
//! over the boundary. The contract itself is in `ottla_plugin_abi`.
//!
//! What a library does wrong costs its own connector: a panic, a call that never answers or answers twice, a message that can't be
//! read, are errors of a task. Calls that may hang never run on a thread that others need, and are given up after [`Limits::call_timeout`]. A library
//! is never unloaded. Two things a worker can't live with, as nobody could in one process: what ends the process (a crash in foreign code, `exit`, a panic
//! while another one unwinds), and start-up code that hangs while a library is being opened.

#![allow(unsafe_code)]

mod calls;
mod check;
mod connector;
mod host;
mod library;
mod per_record;
mod task;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ottla_api::boundary::abi::method;
use ottla_api::boundary::abi::note::Note;
use ottla_api::boundary::body;
use ottla_api::boundary::flat::Kept;
use ottla_api::config::{ConfigDef, ConfigKey, Properties};
use ottla_api::plugin::{Constructor, Plugin, PluginKind};
use ottla_api::{Error, Result};
use parking_lot::Mutex;

pub use check::{Digest, Examined, examine, is_not_ours, look};
use library::Library;
pub use library::end_process;

/// What a worker grants its libraries.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How long a call may take (`plugin.call.timeout.ms`). Waiting in `poll` is not limited: a source may have nothing to say.
    pub call_timeout: Duration,
    /// Threads of each library's own runtime (`plugin.threads`).
    pub threads: usize,
    /// SHA-256 digests of the libraries that may be loaded (`plugin.sha256`); nothing: all may.
    pub allowed: Option<BTreeSet<Digest>>,
}

impl Default for Limits {
    /// Five minutes, as `max.poll.interval.ms` grants a consumer of Kafka's; two threads; all libraries.
    fn default() -> Self {
        Self { call_timeout: Duration::from_secs(300), threads: 2, allowed: None }
    }
}

/// A library that was loaded.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Its file.
    pub path: PathBuf,
    /// What it says of itself.
    pub note: Note,
    /// Its plugins.
    pub plugins: Vec<Plugin>,
}

/// Loads a library. One that is loaded already is not loaded again.
///
/// # Errors
///
/// Of kind `Config`: a phrase that names the file, what is wrong, and the way out.
pub fn load(path: &Path, limits: &Limits) -> Result<Loaded> {
    static LOADED: Mutex<Vec<(Digest, Loaded)>> = Mutex::new(Vec::new());
    let examined = examine(path, limits.allowed.as_ref())?;
    // Held while loading: what two ask for at once is loaded once.
    let mut loaded = LOADED.lock();
    if let Some((_, known)) = loaded.iter().find(|(digest, known)| *digest == examined.digest && known.path == path) {
        return Ok(known.clone());
    }
    let library = Library::open(path, &examined, limits)?;
    let plugins = plugins(library).map_err(|error| {
        Error::config(format!("{}: the library does not say what it holds", path.display())).caused_by(error)
    })?;
    let library = Loaded { path: path.to_owned(), note: examined.note, plugins };
    loaded.push((examined.digest, library.clone()));
    Ok(library)
}

/// The libraries of a `plugin.path`: of each entry the file, or the files ending in `.so` in the folder and in the folders in it, in the
/// order of their names, as Kafka Connect looks for its own.
///
/// # Errors
///
/// For each entry that can't be read, a phrase.
pub fn find(entries: &[PathBuf]) -> (Vec<PathBuf>, Vec<String>) {
    fn in_folder(folder: &Path, deeper: bool, found: &mut BTreeSet<PathBuf>) -> std::io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                if deeper {
                    in_folder(&path, false, found)?;
                }
            } else if path.extension().is_some_and(|end| end == "so") {
                found.insert(path);
            }
        }
        Ok(())
    }
    let (mut libraries, mut wrong) = (Vec::new(), Vec::new());
    for entry in entries {
        if entry.is_dir() {
            let mut found = BTreeSet::new();
            if let Err(error) = in_folder(entry, true, &mut found) {
                wrong.push(format!("{}: can't be read: {error}", entry.display()));
            }
            libraries.extend(found);
        } else if entry.exists() {
            libraries.push(entry.clone());
        } else {
            wrong.push(format!("{}: there is no such file or folder", entry.display()));
        }
    }
    (libraries, wrong)
}

/// The plugins of a library, as those of the worker are: what they are made by calls it.
fn plugins(library: &'static Library) -> Result<Vec<Plugin>> {
    let parts = library.plugins()?;
    let plugins = parts.into_iter().enumerate().map(|(number, (kind, Kept(name), aliases, (version, doc), keys))| {
        let aliases: Vec<&'static str> = aliases.into_iter().map(|alias| alias.0).collect();
        let Some(kind) = body::kind_of(kind) else {
            return Err(Error::config(format!("'{name}' is of a kind that this worker does not know")));
        };
        let number = number as u32;
        let keys: Vec<ConfigKey> = keys
            .into_iter()
            .enumerate()
            .map(|(option, key)| ConfigKey {
                check: Box::leak(Box::new(move |text: &str| library.check_option(number, option as u32, text))),
                ..key
            })
            .collect();
        Ok(Plugin {
            name,
            aliases: Box::leak(aliases.into_boxed_slice()),
            version: version.0,
            doc: doc.0,
            definition: Box::leak(Box::new(move || ConfigDef { keys: keys.clone() })),
            constructor: constructor(library, number, name, kind),
        })
    });
    plugins.collect()
}

fn constructor(library: &'static Library, number: u32, name: &'static str, kind: PluginKind) -> Constructor {
    // One small piece of memory for each plugin of each library, for ever: a library is never unloaded.
    macro_rules! kept {
        ($function:expr) => {
            Box::leak(Box::new($function))
        };
    }
    let plugin = PluginOf { library, number, name };
    match kind {
        PluginKind::Source => Constructor::Source(kept!(move || Box::new(connector::LoadedSource::new(plugin)) as _)),
        PluginKind::Sink => Constructor::Sink(kept!(move || Box::new(connector::LoadedSink::new(plugin)) as _)),
        PluginKind::Transformation => {
            Constructor::Transformation(kept!(move |properties: &Properties| per_record::transformation(
                plugin, properties
            )))
        }
        PluginKind::Predicate => {
            Constructor::Predicate(kept!(move |properties: &Properties| per_record::predicate(plugin, properties)))
        }
        PluginKind::Converter => {
            Constructor::Converter(kept!(move |properties: &Properties, for_keys: bool| per_record::converter(
                plugin, properties, for_keys
            )))
        }
        PluginKind::ConfigProvider => {
            Constructor::ConfigProvider(kept!(move |properties: &Properties| per_record::config_provider(
                plugin, properties
            )))
        }
    }
}

/// One plugin of a library.
#[derive(Clone, Copy)]
struct PluginOf {
    library: &'static Library,
    number: u32,
    name: &'static str,
}

impl PluginOf {
    /// Makes it.
    fn make(self, properties: &Properties, for_keys: bool) -> Result<library::Object> {
        let made = self.library.ask::<u64>(0, method::MAKE, &(self.number, properties.clone(), for_keys));
        Ok(library::Object::new(self.library, made?))
    }
}
