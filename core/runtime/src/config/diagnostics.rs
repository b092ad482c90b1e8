//! Mistakes and warnings about configuration files: where, which key, what, and the way out.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// Everything that was found wrong, all at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Diagnostics {
    /// Mistakes: nothing runs until they are gone.
    pub errors: Vec<Diagnostic>,
    /// What works but is probably not meant.
    pub warnings: Vec<Diagnostic>,
}

/// One mistake or warning. Never holds a secret's value (G8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The file as it was named, or `--set`; none where something is missing altogether.
    pub file: Option<String>,
    /// The line, from 1.
    pub line: Option<usize>,
    /// The key as that file writes it.
    pub key: Option<String>,
    /// What was expected, what was found. Doesn't repeat the key.
    pub message: String,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The file as it was named, or `--set`.
    pub(crate) file: Option<Arc<str>>,
    /// The line, from 1.
    pub(crate) line: Option<usize>,
}

impl Diagnostics {
    /// True where nothing is wrong.
    pub fn is_valid(&self) -> bool {
        self.errors.is_empty()
    }

    pub(crate) fn error(&mut self, place: &Place, key: impl Into<Option<String>>, message: impl Into<String>) {
        self.errors.push(Diagnostic::new(place, key.into(), message.into()));
    }

    pub(crate) fn warning(&mut self, place: &Place, key: impl Into<Option<String>>, message: impl Into<String>) {
        self.warnings.push(Diagnostic::new(place, key.into(), message.into()));
    }

    /// Puts everything in the order of the files and their lines; what has no place comes last.
    pub(crate) fn sort(&mut self, files: &[Arc<str>]) {
        let rank = |diagnostic: &Diagnostic| {
            let file = diagnostic.file.as_ref().and_then(|file| files.iter().position(|name| **name == **file));
            (file.unwrap_or(usize::MAX), diagnostic.line.unwrap_or(0))
        };
        self.errors.sort_by_key(rank);
        self.warnings.sort_by_key(rank);
    }
}

impl Diagnostic {
    fn new(place: &Place, key: Option<String>, message: String) -> Self {
        Self { file: place.file.as_deref().map(str::to_owned), line: place.line, key, message }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{file}:{line}: ")?,
            (Some(file), None) => write!(f, "{file}: ")?,
            _ => {}
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// One line a mistake, then how many there were and where to look.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.errors {
            writeln!(f, "{error}")?;
        }
        match self.errors.len() {
            0 => writeln!(f, "no mistakes"),
            1 => writeln!(f, "1 mistake; `ottla plugins describe NAME` explains the options of a plugin"),
            n => writeln!(f, "{n} mistakes; `ottla plugins describe NAME` explains the options of a plugin"),
        }
    }
}

impl std::error::Error for Diagnostics {}

impl From<Diagnostics> for ottla_api::Error {
    fn from(diagnostics: Diagnostics) -> Self {
        Self::config(diagnostics.to_string())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{file}:{line}"),
            (Some(file), None) => write!(f, "{file}"),
            _ => f.write_str("the command line"),
        }
    }
}
