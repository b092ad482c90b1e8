//! The built-in config providers, and the resolving of `${provider:path:key}`.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, LazyLock};

use ottla_api::config::{Config, Properties, java_regex};
use ottla_api::config_provider::ConfigProvider;
use ottla_api::error::{Error, ErrorKind, Result, ResultExt};
use ottla_api::plugin::{Constructor, Plugin};
use regex::Regex;

use crate::config::java_properties;

/// The providers `file`, `env` and `dir`.
pub fn plugins() -> Vec<Plugin> {
    vec![
        Plugin {
            name: "file",
            aliases: &["org.apache.kafka.common.config.provider.FileConfigProvider"],
            version: env!("CARGO_PKG_VERSION"),
            doc: "Reads `${file:/path/to/secrets.properties:key}` from a `.properties` file.",
            definition: &AllowedPaths::definition,
            constructor: Constructor::ConfigProvider(&|properties| {
                Ok(Box::new(FileConfigProvider(AllowedPaths::from_properties(properties)?)))
            }),
        },
        Plugin {
            name: "env",
            aliases: &["org.apache.kafka.common.config.provider.EnvVarConfigProvider"],
            version: env!("CARGO_PKG_VERSION"),
            doc: "Reads `${env:NAME}` from the worker's environment.",
            definition: &EnvOptions::definition,
            constructor: Constructor::ConfigProvider(&|properties| {
                let options = EnvOptions::from_properties(properties)?;
                let allowed = options.allowlist_pattern.map(|pattern| java_regex::full_match(&pattern)).transpose();
                let allowed = allowed.map_err(|message| Error::config(format!("allowlist.pattern: {message}")))?;
                Ok(Box::new(EnvVarConfigProvider { allowed }))
            }),
        },
        Plugin {
            name: "dir",
            aliases: &["org.apache.kafka.common.config.provider.DirectoryConfigProvider"],
            version: env!("CARGO_PKG_VERSION"),
            doc: "Reads `${dir:/path/to/folder:file}`: the whole content of a file, as mounted secrets come.",
            definition: &AllowedPaths::definition,
            constructor: Constructor::ConfigProvider(&|properties| {
                Ok(Box::new(DirectoryConfigProvider(AllowedPaths::from_properties(properties)?)))
            }),
        },
    ]
}

#[derive(Debug, Config)]
struct AllowedPaths {
    /// Files and folders that may be read, with everything below them. Unset, every file may be read.
    #[config(name = "allowed.paths")]
    allowed_paths: Option<Vec<String>>,
}

impl AllowedPaths {
    /// The path without `.` and `..`, if it may be read. Works on the text alone, so that a refused path tells nothing about
    /// what exists.
    fn check(&self, path: &Path) -> Result<PathBuf> {
        let plain = normalized(path)?;
        let allowed = match &self.allowed_paths {
            None => true,
            Some(paths) => {
                let paths = paths.iter().map(|path| normalized(Path::new(path))).collect::<Result<Vec<_>>>()?;
                paths.iter().any(|allowed| plain.starts_with(allowed))
            }
        };
        let refused = || Error::config("the path is not within 'allowed.paths'").with("path", path.display());
        allowed.then_some(plain).ok_or_else(refused)
    }
}

fn normalized(path: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(path).or_error(ErrorKind::Config, "read path")?;
    let mut plain = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    Ok(plain)
}

struct FileConfigProvider(AllowedPaths);

impl ConfigProvider for FileConfigProvider {
    fn get(&self, path: &str, key: &str) -> Result<Option<String>> {
        if path.is_empty() {
            return Err(Error::config("the path is missing: ${file:/path/to/file:key}"));
        }
        let text = read(&self.0.check(Path::new(path))?)?;
        let properties = java_properties::parse(&text).properties;
        // The last one counts, as in Java.
        Ok(properties.into_iter().rev().find(|property| property.key == key).map(|property| property.value))
    }
}

struct DirectoryConfigProvider(AllowedPaths);

impl ConfigProvider for DirectoryConfigProvider {
    fn get(&self, path: &str, key: &str) -> Result<Option<String>> {
        if path.is_empty() {
            return Err(Error::config("the path is missing: ${dir:/path/to/folder:file}"));
        }
        if !matches!(Path::new(key).components().collect::<Vec<_>>()[..], [Component::Normal(_)]) {
            return Err(Error::config("the key must be the name of a file in the folder"));
        }
        let file = self.0.check(&Path::new(path).join(key))?;
        if file.is_file() { read(&file).map(Some) } else { Ok(None) }
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|error| Error::config("read file").with("path", path.display()).caused_by(error))
}

#[derive(Debug, Config)]
struct EnvOptions {
    /// Java regular expression that a variable's whole name must match. Unset, every variable may be read.
    #[config(name = "allowlist.pattern")]
    allowlist_pattern: Option<String>,
}

struct EnvVarConfigProvider {
    allowed: Option<Regex>,
}

impl ConfigProvider for EnvVarConfigProvider {
    fn get(&self, path: &str, key: &str) -> Result<Option<String>> {
        if !path.is_empty() {
            return Err(Error::config("an environment variable has no path: ${env:NAME}"));
        }
        if self.allowed.as_ref().is_some_and(|allowed| !allowed.is_match(key)) {
            return Err(Error::config("the variable does not match 'allowlist.pattern'"));
        }
        Ok(std::env::var(key).ok())
    }
}

/// The config providers that a worker enables.
#[derive(Clone, Default)]
pub struct Providers(Vec<(String, Arc<dyn ConfigProvider>)>);

/// Kafka's grammar: `${provider:[path:]key}`, one level. A key may hold colons, a path may not.
static PLACEHOLDER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\$\{([^}:]*):(?:([^}:]*):)?([^}]*)\}").expect("a constant pattern"));

impl Providers {
    /// Makes the providers, each with its `param.` options.
    pub fn build(providers: &[(String, Plugin, Properties)]) -> Result<Self> {
        let mut made = Vec::with_capacity(providers.len());
        for (name, plugin, properties) in providers {
            match plugin.constructor {
                Constructor::ConfigProvider(construct) => made.push((name.clone(), Arc::from(construct(properties)?))),
                _ => return Err(Error::config(format!("'{}' is no config provider", plugin.name))),
            }
        }
        Ok(Self(made))
    }

    /// Replaces every placeholder in every value. To be called where a task starts, and nowhere else: what comes back holds
    /// secrets (G8). A placeholder of an unknown provider stays as it is, as in Kafka Connect; a key that a provider does not
    /// have is an error.
    pub fn resolve(&self, properties: &Properties) -> Result<Properties> {
        properties
            .iter()
            .map(|(key, text)| Ok((key, self.resolve_text(text).map_err(|error| error.during(key))?)))
            .collect::<Result<Vec<_>>>()
            .map(Properties::from_iter)
    }

    /// Replaces every placeholder in one text.
    pub fn resolve_text(&self, text: &str) -> Result<String> {
        let (mut resolved, mut rest) = (String::with_capacity(text.len()), 0);
        for found in PLACEHOLDER.captures_iter(text) {
            let whole = found.get(0).expect("group 0 is the match");
            let group = |index| found.get(index).map_or("", |group| group.as_str());
            let Some((_, provider)) = self.0.iter().find(|(name, _)| name == group(1)) else { continue };
            let missing = || Error::config(format!("'{}' has no value", whole.as_str()));
            let value = provider.get(group(2), group(3)).map_err(|error| error.during(whole.as_str()))?;
            resolved.push_str(&text[rest..whole.start()]);
            resolved.push_str(&value.ok_or_else(missing)?);
            rest = whole.end();
        }
        resolved.push_str(&text[rest..]);
        Ok(resolved)
    }

    /// True where the text holds a placeholder of one of these providers, so that its value is only known when a task starts.
    pub fn mentioned_in(&self, text: &str) -> bool {
        PLACEHOLDER.captures_iter(text).any(|found| self.0.iter().any(|(name, _)| *name == found[1]))
    }
}

/// The name of a built-in provider that the text mentions.
pub(crate) fn built_in_mentioned_in(text: &str) -> Option<&'static str> {
    let mut found = PLACEHOLDER.captures_iter(text);
    found.find_map(|found| ["file", "env", "dir"].into_iter().find(|name| *name == &found[1]))
}

impl fmt::Debug for Providers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Providers ")?;
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn providers(list: &[(&str, &[(&str, &str)])]) -> Providers {
        let made = list.iter().map(|(name, options)| {
            let plugin = plugins().into_iter().find(|plugin| plugin.name == *name).unwrap();
            ((*name).to_owned(), plugin, Properties::from_iter(options.iter().copied()))
        });
        Providers::build(&made.collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn files_folders_and_variables_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        std::fs::write(folder.path().join("secrets.properties"), "password = s3cret\na\\:b=c").unwrap();
        std::fs::write(folder.path().join("token"), "abc\n").unwrap();
        let providers = providers(&[("file", &[]), ("dir", &[]), ("env", &[])]);
        let resolve = |text: &str| providers.resolve_text(text).unwrap();
        assert_eq!(resolve(&format!("u:${{file:{path}/secrets.properties:password}}@h")), "u:s3cret@h");
        assert_eq!(resolve(&format!("${{file:{path}/secrets.properties:a:b}}")), "c");
        assert_eq!(resolve(&format!("${{dir:{path}:token}}")), "abc\n");
        assert_eq!(resolve("${env:PATH}"), std::env::var("PATH").unwrap());
        assert_eq!(resolve("${topic}-${timestamp}, ${vault:a:b}"), "${topic}-${timestamp}, ${vault:a:b}");
    }

    #[test]
    fn a_missing_key_is_an_error_that_names_key_and_placeholder() {
        let providers = providers(&[("env", &[])]);
        let properties = Properties::from_iter([("connection.password", "${env:OTTLA_NO_SUCH_VARIABLE}")]);
        let error = providers.resolve(&properties).unwrap_err();
        assert_eq!(error.to_string(), "connection.password: '${env:OTTLA_NO_SUCH_VARIABLE}' has no value");
    }

    #[test]
    fn only_what_is_allowed_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let allowed = folder.path().join("allowed").display().to_string();
        std::fs::create_dir(&allowed).unwrap();
        std::fs::write(folder.path().join("secret"), "x").unwrap();
        let options = [("allowed.paths", allowed.as_str())];
        let providers =
            providers(&[("dir", &options), ("file", &options), ("env", &[("allowlist.pattern", "OTTLA_.*")])]);
        let refused = |text: &str| providers.resolve_text(text).unwrap_err().to_string();
        let beside = format!("{allowed}/..");
        assert!(refused(&format!("${{dir:{beside}:secret}}")).contains("the path is not within 'allowed.paths'"));
        assert!(refused(&format!("${{dir:{allowed}:../secret}}")).contains("the key must be the name of a file"));
        assert!(refused(&format!("${{file:{beside}/secret:x}}")).contains("the path is not within 'allowed.paths'"));
        assert!(refused("${env:PATH}").contains("does not match 'allowlist.pattern'"));
    }
}
