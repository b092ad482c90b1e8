//! The folder that is read. To read another system, write this file anew: what a place is, and what lies behind one.

use std::io::ErrorKind as IoErrorKind;
use std::path::{Path, PathBuf};

use ottla_api::prelude::*;
use tokio::fs;

/// A place in the folder: in this file, so many lines are behind us. The default is before everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: String,
    pub(crate) line: usize,
}

/// A line, and the place behind it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) end: Place,
}

/// A folder of files that are complete when they appear, and are read in the order of their names.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: PathBuf,
    /// The file that is being read: its name and its lines. One file at a time is in memory.
    reading: Option<(String, Vec<String>)>,
}

impl Folder {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), reading: None }
    }

    /// Up to `limit` lines behind a place, in order; none where there are none yet.
    pub(crate) async fn after(&mut self, place: &Place, limit: usize) -> Result<Vec<Line>> {
        let mut found = Vec::new();
        for file in self.files_from(&place.file).await? {
            let read = if file == place.file { place.line } else { 0 };
            let lines = self.lines(&file).await?;
            if lines.len() < read {
                let error = Error::fatal("a file has fewer lines than were read of it: it was cut or replaced");
                return Err(error.with("file", file).with("lines", lines.len()).with("read", read));
            }
            for (index, text) in lines.iter().enumerate().skip(read).take(limit - found.len()) {
                found.push(Line { text: text.clone(), end: Place { file: file.clone(), line: index + 1 } });
            }
            if found.len() == limit {
                break;
            }
        }
        Ok(found)
    }

    /// The names of the files from this one on, in their order.
    async fn files_from(&self, first: &str) -> Result<Vec<String>> {
        let operation = format!("list {}", self.dir.display());
        // A folder that is not there yet is tried again, and the connector's status says so.
        let mut entries = fs::read_dir(&self.dir).await.or_error(ErrorKind::Retriable, &operation)?;
        let mut names = Vec::new();
        while let Some(entry) = entries.next_entry().await.or_error(ErrorKind::Retriable, &operation)? {
            if let Ok(name) = entry.file_name().into_string()
                && name.ends_with(".jsonl")
                && !name.starts_with('.')
                && name.as_str() >= first
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// The lines of a file.
    async fn lines(&mut self, file: &str) -> Result<&[String]> {
        if self.reading.as_ref().is_none_or(|(name, _)| name != file) {
            let path = self.dir.join(file);
            let text = fs::read_to_string(&path).await.map_err(|error| {
                let kind = if error.kind() == IoErrorKind::InvalidData {
                    ErrorKind::PoisonRecord
                } else {
                    ErrorKind::Retriable
                };
                Error::new(kind, format!("read {}", path.display())).caused_by(error)
            })?;
            self.reading = Some((file.to_owned(), text.lines().map(str::to_owned).collect()));
        }
        Ok(self.reading.as_ref().map_or(&[], |(_, lines)| lines))
    }
}
