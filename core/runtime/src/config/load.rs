//! From paths to a checked configuration: reads every file, whatever its syntax, and has the whole checked at once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::plugins::Registry;

use super::diagnostics::{Diagnostics, Place};
use super::nearest::did_you_mean;
use super::section::{Entry, Raw, Section};
use super::tree::{Member, Node, flatten};
use super::{Configuration, check, java_properties, json, libraries, toml};

/// Reads files, and folders of files in the order of their names, applies `--set` overrides and checks everything.
///
/// What a file is, its end says: `.toml`, `.properties` or `.json`. A TOML file holds `[worker]`, `[gateway]`,
/// `[connectors.<name>]` and `[chains.<name>]`. A flat file is a connector where it sets `connector.class`, else the worker's;
/// several files of the worker add up. JSON is flat, or `{"name": .., "config": {..}}`, or shaped as TOML.
///
/// An override's key begins with `worker.`, `gateway.`, `connectors.<name>.` or `chains.<name>.`.
///
/// # Errors
///
/// Every mistake at once, in the order of the files.
pub fn load(
    paths: &[PathBuf],
    overrides: &[(String, String)],
    registry: &Registry,
) -> Result<Configuration, Diagnostics> {
    let mut loader = Loader::default();
    for path in paths {
        loader.path(path);
    }
    for (key, value) in overrides {
        loader.set(key, value);
    }
    loader.expect_connectors_of_overrides();
    let Loader { raw, mut diagnostics, files, unread, .. } = loader;
    if raw.worker.is_none() && !unread {
        let nowhere = Place { file: None, line: None };
        let message = "no worker configuration: add a file that sets 'bootstrap.servers', \
                       or --set worker.bootstrap.servers=HOST:PORT (or =embedded)";
        diagnostics.error(&nowhere, None, message);
    }
    let registry = libraries::with_libraries(&raw, registry, &mut diagnostics);
    let configuration = check::check(&raw, &registry, &mut diagnostics);
    diagnostics.sort(&files);
    match configuration {
        Some(configuration) if diagnostics.is_valid() => {
            Ok(Configuration { warnings: diagnostics.warnings, ..configuration })
        }
        _ => Err(diagnostics),
    }
}

#[derive(Default)]
struct Loader {
    raw: Raw,
    diagnostics: Diagnostics,
    /// Every file in the order in which it was read.
    files: Vec<Arc<str>>,
    /// Those of them that another one included.
    included: BTreeSet<Arc<str>>,
    /// True where some file could not be read, so that what is missing may be in there.
    unread: bool,
}

impl Loader {
    fn path(&mut self, path: &Path) {
        if !path.is_dir() {
            return self.file(path);
        }
        let known = |path: &PathBuf| matches!(extension(path), "toml" | "properties" | "json");
        let entries = std::fs::read_dir(path).map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())));
        let mut files = match entries {
            Ok(entries) => entries.filter(known).collect::<Vec<_>>(),
            Err(error) => return self.unreadable(path, &format!("can't be read: {error}")),
        };
        if files.is_empty() {
            return self.unreadable(path, "holds no .toml, .properties or .json file");
        }
        files.sort();
        for file in files {
            self.file(&file);
        }
    }

    fn unreadable(&mut self, path: &Path, message: &str) {
        let place = Place { file: Some(path.display().to_string().into()), line: None };
        self.diagnostics.error(&place, None, message);
        self.unread = true;
    }

    fn file(&mut self, path: &Path) {
        let name: Arc<str> = path.display().to_string().into();
        if self.included.contains(&name) {
            return;
        }
        if self.files.contains(&name) {
            return self.unreadable(path, "is named twice");
        }
        self.files.push(name.clone());
        let text = match std::fs::read(path).map(String::from_utf8) {
            Ok(Ok(text)) => text,
            Ok(Err(_)) => return self.unreadable(path, "is not UTF-8 text"),
            Err(error) => return self.unreadable(path, &format!("can't be read: {error}")),
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let file = File { name, stem: path.file_stem().unwrap_or_default().to_string_lossy().into_owned() };
        let parsed = match extension(path) {
            "toml" => toml::parse(text),
            "json" => json::parse(text),
            "properties" => Ok(self.properties(&file, text)),
            _ => return self.unreadable(path, "must end in .toml, .properties or .json, which says how it is read"),
        };
        match parsed {
            Ok(members) => self.tree(&file, members),
            Err((line, message)) => {
                self.diagnostics.error(&file.at(line), None, message);
                self.unread = true;
            }
        }
    }

    fn properties(&mut self, file: &File, text: &str) -> Vec<Member> {
        let parsed = java_properties::parse(text);
        for (line, message) in parsed.errors {
            self.diagnostics.error(&file.at(line), None, message);
        }
        for (line, message) in parsed.warnings {
            self.diagnostics.warning(&file.at(line), None, message);
        }
        let members = parsed.properties.into_iter().enumerate().map(|(index, property)| Member {
            key: property.key,
            line: property.line,
            offset: index,
            node: Node::Scalar(property.value),
        });
        members.collect()
    }

    /// Sorts a file's content into worker, gateway, connectors and chains.
    fn tree(&mut self, file: &File, members: Vec<Member>) {
        let table =
            |name: &str| members.iter().find(|member| member.key == name && matches!(member.node, Node::Table(_)));
        let native = ["worker", "gateway", "connectors", "chains"];
        let includes = members.iter().any(|member| member.key == "include");
        if includes || native.iter().any(|name| table(name).is_some()) {
            for member in &members {
                self.native_table(file, member);
            }
        } else if let Some(config) = table("config") {
            self.create_request(file, &members, config);
        } else if !members.is_empty() {
            self.flat(file, None, &members);
        }
    }

    fn native_table(&mut self, file: &File, member: &Member) {
        match (member.key.as_str(), &member.node) {
            ("worker", Node::Table(options)) => {
                let section = self.section(file, "worker", "worker.", member.line, options);
                self.worker(section);
            }
            ("gateway", Node::Table(options)) => {
                let section = self.section(file, "gateway", "gateway.", member.line, options);
                self.gateway(section);
            }
            (kind @ ("connectors" | "chains"), Node::Table(tables)) => {
                for table in tables {
                    let prefix = format!("{kind}.{}.", table.key);
                    let Node::Table(options) = &table.node else {
                        let key = format!("{kind}.{}", table.key);
                        self.diagnostics.error(&file.at(table.line), key, format!("must be a table: [{kind}.<name>]"));
                        continue;
                    };
                    let section = self.section(file, &table.key, &prefix, table.line, options);
                    if kind == "chains" { self.chain(section) } else { self.connector(section) }
                }
            }
            ("include", Node::Scalar(name)) => self.include(file, member.line, name),
            ("include", Node::List(names)) => {
                for name in names {
                    match name {
                        Node::Scalar(name) => self.include(file, member.line, name),
                        _ => self.include(file, member.line, ""),
                    }
                }
            }
            (key, _) => {
                let message = format!(
                    "unknown table{} (there are [worker], [gateway], [connectors.<name>] and [chains.<name>], and include = [..] above them)",
                    did_you_mean(key, ["worker", "gateway", "connectors", "chains"])
                );
                self.diagnostics.error(&file.at(member.line), key.to_owned(), message);
            }
        }
    }

    /// Reads another file, named relative to this one. One that several files include is read once.
    fn include(&mut self, file: &File, line: usize, name: &str) {
        let path = Path::new(&*file.name).parent().unwrap_or(Path::new("")).join(name);
        if name.is_empty() || !path.is_file() {
            let message = format!("must name files beside this one; '{}' is none", path.display());
            return self.diagnostics.error(&file.at(line), "include".to_owned(), message);
        }
        let name: Arc<str> = path.display().to_string().into();
        if !self.files.contains(&name) {
            self.file(&path);
        }
        self.included.insert(name);
    }

    /// `{"name": .., "config": {..}}`, as it is posted to Kafka Connect.
    fn create_request(&mut self, file: &File, members: &[Member], config: &Member) {
        let mut outer = None;
        for member in members {
            match (member.key.as_str(), &member.node) {
                ("config", _) => {}
                ("name", Node::Scalar(name)) => outer = Some((name.clone(), member.line)),
                ("initial_state", Node::Scalar(_)) => {
                    self.diagnostics.warning(
                        &file.at(member.line),
                        member.key.clone(),
                        "not used: connectors are started",
                    );
                }
                (key, _) => {
                    let message = format!("unknown key{}", did_you_mean(key, ["name", "config"]));
                    self.diagnostics.error(&file.at(member.line), key.to_owned(), message);
                }
            }
        }
        if let Node::Table(options) = &config.node {
            self.flat(file, outer, options);
        }
    }

    /// A file that is one connector, or the worker.
    fn flat(&mut self, file: &File, name: Option<(String, usize)>, members: &[Member]) {
        let first = name.as_ref().map_or(1, |(_, line)| *line);
        let mut section = self.section(file, "", "", first, members);
        let of_a_connector = ["connector.class", "name", "topics", "topics.regex", "tasks.max"];
        if name.is_some() || of_a_connector.iter().any(|key| section.get(key).is_some()) {
            section.name = match (name, section.text("name")) {
                (Some((outer, line)), Some(inner)) if outer != inner => {
                    let place = section.place_of("name").0;
                    let message = format!("is '{inner}' here and '{outer}' in line {line}");
                    self.diagnostics.error(&place, "name".to_owned(), message);
                    outer
                }
                (Some((outer, _)), _) => outer,
                (None, Some(inner)) => inner.to_owned(),
                (None, None) if section.get("name").is_none() => file.stem.clone(),
                // An empty name is a mistake that the checks report.
                (None, None) => String::new(),
            };
            self.connector(section);
        } else {
            // A worker's flat file may hold chains, and the gateway.
            section.name = "worker".to_owned();
            let (chains, own): (Vec<_>, Vec<_>) =
                section.entries.drain(..).partition(|entry| entry.key.starts_with("chains."));
            let (gateway, own): (Vec<_>, Vec<_>) = own.into_iter().partition(|entry| entry.key.starts_with("gateway."));
            section.entries = own;
            if let Some(first) = gateway.first() {
                let mut own = Section::new("gateway", "gateway.", first.place.clone());
                for mut entry in gateway {
                    entry.key = entry.key["gateway.".len()..].to_owned();
                    own.push(entry, &mut self.diagnostics);
                }
                self.gateway(own);
            }
            let mut found: Vec<Section> = Vec::new();
            for mut entry in chains {
                let rest = entry.key["chains.".len()..].to_owned();
                let Some((name, key)) = rest.split_once('.') else {
                    self.diagnostics.error(&entry.place, entry.written, "must be chains.<name>.<key>");
                    continue;
                };
                if !found.iter().any(|chain| chain.name == name) {
                    found.push(Section::new(name, format!("chains.{name}."), entry.place.clone()));
                }
                entry.key = key.to_owned();
                if let Some(chain) = found.iter_mut().find(|chain| chain.name == name) {
                    chain.entries.push(entry);
                }
            }
            for chain in found {
                self.chain(chain);
            }
            if !section.entries.is_empty() {
                self.worker(section);
            }
        }
    }

    fn section(&mut self, file: &File, name: &str, prefix: &str, line: usize, members: &[Member]) -> Section {
        let mut section = Section::new(name, prefix, file.at(line));
        let (flat, mistakes) = flatten(members);
        for (line, key, message) in mistakes {
            self.diagnostics.error(&file.at(line), format!("{prefix}{key}"), message);
            section.unreadable.push(key);
        }
        for flat in flat {
            let entry = section.entry(flat.key, flat.value, Some(flat.line));
            section.push(entry, &mut self.diagnostics);
        }
        section
    }

    fn worker(&mut self, section: Section) {
        match &mut self.raw.worker {
            None => self.raw.worker = Some(section),
            Some(worker) => {
                for entry in section.entries {
                    worker.push(entry, &mut self.diagnostics);
                }
            }
        }
    }

    fn gateway(&mut self, section: Section) {
        match &mut self.raw.gateway {
            None => self.raw.gateway = Some(section),
            Some(gateway) => {
                for entry in section.entries {
                    gateway.push(entry, &mut self.diagnostics);
                }
            }
        }
    }

    fn connector(&mut self, section: Section) {
        match self.raw.connectors.iter().find(|other| other.name == section.name) {
            Some(first) => {
                let message = format!("connector '{}' is configured twice, first in {}", section.name, first.place);
                self.diagnostics.error(&section.place, None, message);
            }
            None => self.raw.connectors.push(section),
        }
    }

    fn chain(&mut self, section: Section) {
        match self.raw.chains.iter().find(|other| other.name == section.name) {
            Some(first) => {
                let message = format!("chain '{}' is defined twice, first in {}", section.name, first.place);
                self.diagnostics.error(&section.place, None, message);
            }
            None => self.raw.chains.push(section),
        }
    }

    /// `--set worker.key=value`, `--set gateway.key=value`, `--set connectors.<name>.key=value`, `--set chains.<name>.key=value`.
    fn set(&mut self, written: &str, value: &str) {
        let place = Place { file: Some("--set".into()), line: None };
        let entry = |key: &str| Entry {
            key: key.to_owned(),
            value: value.to_owned(),
            place: place.clone(),
            written: written.to_owned(),
        };
        if let Some(key) = written.strip_prefix("worker.") {
            let worker = &mut self.raw.worker;
            return worker.get_or_insert_with(|| Section::new("worker", "worker.", place.clone())).set(entry(key));
        }
        if let Some(key) = written.strip_prefix("gateway.") {
            let gateway = &mut self.raw.gateway;
            return gateway.get_or_insert_with(|| Section::new("gateway", "gateway.", place.clone())).set(entry(key));
        }
        for (kind, sections) in [("connectors.", &mut self.raw.connectors), ("chains.", &mut self.raw.chains)] {
            let Some(rest) = written.strip_prefix(kind) else { continue };
            // A name may hold dots: the longest one that exists is meant.
            let existing = sections.iter().enumerate().filter_map(|(index, section)| {
                let key = rest.strip_prefix(section.name.as_str())?.strip_prefix('.')?;
                Some((section.name.len(), index, key))
            });
            if let Some((_, index, key)) = existing.max() {
                return sections[index].set(entry(key));
            }
            if let Some((name, key)) = rest.split_once('.').filter(|(name, key)| !name.is_empty() && !key.is_empty()) {
                let mut section = Section::new(name, format!("{kind}{name}."), place.clone());
                section.set(entry(key));
                return sections.push(section);
            }
        }
        let message = "must begin with worker., gateway., connectors.<name>. or chains.<name>.";
        self.diagnostics.error(&place, written.to_owned(), message);
    }

    /// An override that names no connector of the files has misspelt one, unless it makes a new one whole.
    fn expect_connectors_of_overrides(&mut self) {
        let (made, of_files): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.raw.connectors).into_iter().partition(|section| {
                section.place.file.as_deref() == Some("--set") && section.get("connector.class").is_none()
            });
        self.raw.connectors = of_files;
        let names = || self.raw.connectors.iter().map(|section| section.name.as_str());
        let there_are = names().collect::<Vec<_>>().join(", ");
        for section in &made {
            let meant = did_you_mean(&section.name, names());
            for entry in &section.entries {
                let message = format!("no connector is called '{}', there are: {there_are}{meant}", section.name);
                self.diagnostics.error(&entry.place, entry.written.clone(), message);
            }
        }
    }
}

struct File {
    name: Arc<str>,
    stem: String,
}

impl File {
    fn at(&self, line: usize) -> Place {
        Place { file: Some(self.name.clone()), line: Some(line) }
    }
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}
