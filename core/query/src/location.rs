//! Where a table lies, as the user names it: `NAME=[KIND:]PLACE[@VERSION]`.

use std::fmt;
use std::path::{Component, PathBuf};
use std::str::FromStr;

use glob::{MatchOptions, Pattern};
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// What `--table` says: a name for SQL, and where its rows are.
#[derive(Debug, Clone, PartialEq)]
pub struct TableLocation {
    /// What SQL calls it.
    pub name: String,
    /// Folder, file or pattern.
    pub place: Place,
    /// What is there, where the user says so; otherwise it is found out.
    pub kind: Option<Kind>,
    /// Which state of a Delta table; unset, the newest.
    pub version: Option<Version>,
}

/// A folder, a file or a pattern in one of the stores.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// The bucket; none for files of this machine.
    pub bucket: Option<String>,
    /// Everything before the first part that holds a wildcard. A key without slashes at its ends in a bucket, a path as
    /// the user wrote it in the file system.
    pub folder: String,
    /// The rest, where it holds wildcards.
    pub pattern: Option<Pattern>,
}

/// What a table is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Objects that hold one JSON object a line.
    Json,
    /// CSV files with names in their first line.
    Csv,
    /// Parquet files.
    Parquet,
    /// A Delta table.
    Delta,
}

/// Which state of a Delta table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The state after this commit; the first is 0.
    Number(u64),
    /// The state at this time: the last commit that was not later.
    Time(Timestamp),
}

impl Kind {
    /// The kind of a data file, by the end of its name.
    pub(crate) fn of_file(name: &str) -> Option<Self> {
        let (_, ending) = name.rsplit_once('.')?;
        match ending.to_ascii_lowercase().as_str() {
            "json" | "jsonl" | "ndjson" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "JSON",
            Self::Csv => "CSV",
            Self::Parquet => "Parquet",
            Self::Delta => "Delta",
        })
    }
}

impl Place {
    /// True where `path`, relative to [`folder`](Self::folder), is meant: everything without a pattern; with one, what it
    /// matches, or what lies in a folder that it matches.
    pub(crate) fn covers(&self, path: &str) -> bool {
        const OPTIONS: MatchOptions =
            MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
        let Some(pattern) = &self.pattern else { return true };
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        ends.into_iter().any(|end| pattern.matches_with(&path[..end], OPTIONS))
    }
}

/// As the user would write it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(bucket) = &self.bucket {
            write!(f, "s3://{bucket}/")?;
        }
        f.write_str(&self.folder)?;
        if let Some(pattern) = &self.pattern {
            let slash = if self.folder.is_empty() || self.folder.ends_with('/') { "" } else { "/" };
            write!(f, "{slash}{pattern}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Time(time) => write!(f, "{time}"),
        }
    }
}

impl FromStr for TableLocation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "must be NAME=LOCATION, such as pin=lake/posts/cleaned/0a4e65e909bd.pin";
        let (name, location) = text.split_once('=').ok_or_else(|| format!("{FORM}, found '{text}'"))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(plain) {
            return Err(format!("must begin with a name of letters, digits and _ for SQL, found '{name}'"));
        }
        // SQL reads a name without quotes as lower case.
        let name = name.to_ascii_lowercase();
        let (kind, rest) = kind(location);
        let (rest, version) = version(rest);
        if version.is_some() && !matches!(kind, None | Some(Kind::Delta)) {
            return Err(format!("can't have a version after '@': only Delta tables do, found '{text}'"));
        }
        if rest.is_empty() {
            return Err(format!("{FORM}, found no location in '{text}'"));
        }
        Ok(Self { name, place: rest.parse()?, kind, version })
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // s3a is how Hadoop and Spark write it.
        if let Some(rest) = text.strip_prefix("s3://").or_else(|| text.strip_prefix("s3a://")) {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() || bucket.contains(['@', ':', '*', '?', '[']) {
                return Err(format!("must be s3://BUCKET/FOLDER, found '{text}'"));
            }
            let (folder, pattern) = split_pattern(key.trim_matches('/'))?;
            return Ok(Self { bucket: Some(bucket.to_owned()), folder, pattern });
        }
        let path = match text.strip_prefix("file:") {
            // file:///a is the form with an empty host, file:a and file:/a the short ones.
            Some(path) => match path.strip_prefix("//") {
                Some(path) if path.starts_with('/') => path,
                Some(_) => return Err(format!("must be file:PATH or file:///PATH, found '{text}'")),
                None => path,
            },
            None => match text.split_once("://") {
                Some((scheme, _)) => {
                    return Err(format!("must be a path, or begin with file: or s3://, found '{scheme}://'"));
                }
                None => text,
            },
        };
        if path.is_empty() {
            return Err("must name a folder after 'file:'".to_owned());
        }
        let (folder, pattern) = split_pattern(path)?;
        Ok(Self { bucket: None, folder: if folder.is_empty() { ".".to_owned() } else { folder }, pattern })
    }
}

/// The absolute form of a path, without looking whether it is there.
pub(crate) fn absolute(path: &str) -> std::io::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for part in std::path::absolute(path)?.components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            part => clean.push(part),
        }
    }
    Ok(clean)
}

fn kind(location: &str) -> (Option<Kind>, &str) {
    for (prefix, kind) in
        [("delta:", Kind::Delta), ("json:", Kind::Json), ("parquet:", Kind::Parquet), ("csv:", Kind::Csv)]
    {
        if let Some(rest) = location.strip_prefix(prefix) {
            return (Some(kind), rest);
        }
    }
    (None, location)
}

/// What stands behind the last `@`, where it is a number or a time; anything else is part of a name.
fn version(location: &str) -> (&str, Option<Version>) {
    let Some((place, text)) = location.rsplit_once('@') else { return (location, None) };
    let number = || text.parse().ok().map(Version::Number);
    // Without a zone it is UTC, as everything that Ottla writes.
    let utc = |time: DateTime| time.to_zoned(TimeZone::UTC).ok().map(|zoned| Version::Time(zoned.timestamp()));
    let version = number()
        .or_else(|| text.parse().ok().map(Version::Time))
        .or_else(|| text.parse::<DateTime>().ok().and_then(utc))
        .or_else(|| text.parse::<Date>().ok().and_then(|date| utc(date.into())));
    if version.is_some() { (place, version) } else { (location, None) }
}

/// Splits before the first part with a wildcard.
fn split_pattern(path: &str) -> Result<(String, Option<Pattern>), String> {
    let Some(wildcard) = path.find(['*', '?', '[']) else {
        return Ok((path.to_owned(), None));
    };
    let split = path[..wildcard].rfind('/').map_or(0, |slash| slash + 1);
    let pattern = Pattern::new(path[split..].trim_end_matches('/'))
        .map_err(|error| format!("must be a pattern of *, ?, [..] and **, found '{path}': {}", error.msg))?;
    let folder = match &path[..split] {
        "/" => "/",
        folder => folder.trim_end_matches('/'),
    };
    Ok((folder.to_owned(), Some(pattern)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, kind, place and version, as one line; or the mistake.
    fn read(text: &str) -> String {
        match text.parse::<TableLocation>() {
            Ok(table) => {
                let kind = table.kind.map_or_else(|| "?".to_owned(), |kind| kind.to_string());
                let version = table.version.map_or_else(|| "newest".to_owned(), |version| version.to_string());
                let Place { bucket, folder, pattern } = &table.place;
                let pattern = pattern.as_ref().map_or("", |pattern| pattern.as_str());
                format!("{} {kind} {}|{folder}|{pattern} {version}", table.name, bucket.as_deref().unwrap_or("-"))
            }
            Err(error) => error,
        }
    }

    #[test]
    fn a_location_is_read_as_people_write_it() {
        for (text, expected) in [
            ("pin=lake/cleaned/u.pin", "pin ? -|lake/cleaned/u.pin| newest"),
            ("PIN=file:lake", "pin ? -|lake| newest"),
            ("pin=file:///lake/x", "pin ? -|/lake/x| newest"),
            ("pin=*.json", "pin ? -|.|*.json newest"),
            ("pin=/*.json", "pin ? -|/|*.json newest"),
            ("pin=lake/topics/*.pin/partition=0/", "pin ? -|lake/topics|*.pin/partition=0 newest"),
            ("pin=s3://posts/topics/u.pin/", "pin ? posts|topics/u.pin| newest"),
            ("pin=s3a://posts", "pin ? posts|| newest"),
            ("pin=s3://posts/topics/*.pin", "pin ? posts|topics|*.pin newest"),
            ("geo=delta:tables/geo", "geo Delta -|tables/geo| newest"),
            ("geo=delta:s3://lake/geo@12", "geo Delta lake|geo| 12"),
            ("geo=tables/geo@2026-11-21T10:00:00Z", "geo ? -|tables/geo| 2026-11-21T10:00:00Z"),
            ("geo=tables/geo@2026-11-21T12:00:00+02:00", "geo ? -|tables/geo| 2026-11-21T10:00:00Z"),
            ("geo=tables/geo@2026-11-21T10:00", "geo ? -|tables/geo| 2026-11-21T10:00:00Z"),
            ("geo=tables/geo@2026-11-21", "geo ? -|tables/geo| 2026-11-21T00:00:00Z"),
            ("geo=tables/me@home", "geo ? -|tables/me@home| newest"),
            ("x=json:a.txt", "x Json -|a.txt| newest"),
        ] {
            let expected = expected.replace("Json", "JSON");
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn a_mistake_in_a_location_is_named() {
        for (text, expected) in [
            ("lake", "must be NAME=LOCATION, such as pin=lake/posts/cleaned/0a4e65e909bd.pin, found 'lake'"),
            (
                "pin=",
                "must be NAME=LOCATION, such as pin=lake/posts/cleaned/0a4e65e909bd.pin, found no location in 'pin='",
            ),
            ("1a=x", "must begin with a name of letters, digits and _ for SQL, found '1a'"),
            ("a.b=x", "must begin with a name of letters, digits and _ for SQL, found 'a.b'"),
            ("a=json:x@3", "can't have a version after '@': only Delta tables do, found 'a=json:x@3'"),
            ("a=gs://x/y", "must be a path, or begin with file: or s3://, found 'gs://'"),
            ("a=s3:///y", "must be s3://BUCKET/FOLDER, found 's3:///y'"),
            ("a=file://host/y", "must be file:PATH or file:///PATH, found 'file://host/y'"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
        assert!(read("a=x/[").starts_with("must be a pattern of *, ?, [..] and **, found 'x/['"), "{}", read("a=x/["));
    }

    #[test]
    fn a_pattern_covers_what_it_matches_and_what_lies_below() {
        let place: Place = "lake/*.pin/partition=[01]".parse().expect("a place");
        for (path, covered) in [
            ("u.pin/partition=0/a.json", true),
            ("u.pin/partition=1/deep/a.json", true),
            ("u.pin/partition=2/a.json", false),
            ("u.geo/partition=0/a.json", false),
            ("deep/u.pin/partition=0/a.json", false),
        ] {
            assert_eq!(place.covers(path), covered, "{path}");
        }
        let deep: Place = "lake/**/*.json".parse().expect("a place");
        assert!(deep.covers("a/b/c.json") && deep.covers("c.json") && !deep.covers("a/b/c.csv"));
    }

    #[test]
    fn parents_are_resolved_without_looking() {
        assert_eq!(absolute("/a/b/../c/./d").expect("a path"), PathBuf::from("/a/c/d"));
    }
}
