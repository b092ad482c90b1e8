//! The raw form of every syntax: flat keys in the order of the file, each with its place.

use ottla_api::config::Properties;

use super::diagnostics::{Diagnostics, Place};

/// Everything that the files said, unchecked.
#[derive(Debug, Default)]
pub(crate) struct Raw {
    pub(crate) worker: Option<Section>,
    pub(crate) gateway: Option<Section>,
    pub(crate) connectors: Vec<Section>,
    pub(crate) chains: Vec<Section>,
}

/// The options of the worker, of the gateway, of one connector or of one chain.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    /// Name of the connector or chain; `worker`, `gateway`.
    pub(crate) name: String,
    /// What its file writes in front of its keys: `connectors.s3.`, or nothing where the file holds nothing else.
    pub(crate) prefix: String,
    /// Where it begins: the place of what is missing.
    pub(crate) place: Place,
    pub(crate) entries: Vec<Entry>,
    /// Keys whose values could not be read, which was reported: they are not missing as well.
    pub(crate) unreadable: Vec<String>,
}

/// One key and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) place: Place,
    /// The key as its file writes it.
    pub(crate) written: String,
}

impl Section {
    pub(crate) fn new(name: impl Into<String>, prefix: impl Into<String>, place: Place) -> Self {
        Self { name: name.into(), prefix: prefix.into(), place, entries: Vec::new(), unreadable: Vec::new() }
    }

    /// An entry of this section, as its own file writes it.
    pub(crate) fn entry(&self, key: String, value: String, line: Option<usize>) -> Entry {
        let place = Place { file: self.place.file.clone(), line };
        Entry { written: format!("{}{key}", self.prefix), key, value, place }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The value of `key` without blanks around it, where it is not empty.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.get(key).map(|entry| entry.value.trim()).filter(|text| !text.is_empty())
    }

    /// Adds a key; one that is there already is a mistake that names both places.
    pub(crate) fn push(&mut self, entry: Entry, diagnostics: &mut Diagnostics) {
        match self.get(&entry.key) {
            None => self.entries.push(entry),
            Some(first) if first.place.file == entry.place.file => {
                let line = first.place.line.map_or_else(String::new, |line| format!(" in line {line}"));
                diagnostics.error(&entry.place, entry.written, format!("is set twice, first{line}"));
            }
            // Two files of one worker may agree.
            Some(first) if first.value == entry.value => {}
            Some(first) => {
                let message = format!("is set otherwise in {}", first.place);
                diagnostics.error(&entry.place, entry.written, message);
            }
        }
    }

    /// Sets a key whatever it was (`--set`).
    pub(crate) fn set(&mut self, entry: Entry) {
        match self.entries.iter_mut().find(|place| place.key == entry.key) {
            Some(place) => *place = entry,
            None => self.entries.push(entry),
        }
    }

    /// The entries whose keys begin with `prefix`, with the rest of their keys.
    pub(crate) fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Entry)> {
        self.entries.iter().filter_map(move |entry| Some((entry.key.strip_prefix(prefix)?, entry)))
    }

    /// Place of `key`, or of the section where it is missing, and the key as its file writes it.
    pub(crate) fn place_of(&self, key: &str) -> (Place, String) {
        match self.get(key) {
            Some(entry) => (entry.place.clone(), entry.written.clone()),
            None => (self.place.clone(), format!("{}{key}", self.prefix)),
        }
    }

    pub(crate) fn properties(&self) -> Properties {
        self.entries.iter().map(|entry| (entry.key.as_str(), entry.value.as_str())).collect()
    }
}
