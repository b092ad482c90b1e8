//! Reads a Delta table from its log and its Parquet files, without any Delta library: the checker of the fault tests.
//!
//! It follows the protocol's text: the JSON commits in the order of their versions, each with files added and removed. It does
//! not read checkpoints, so the log must still hold every commit (they are kept for 30 days by default).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use arrow::json::LineDelimitedWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};

/// A row: its columns that are not null.
pub type Row = Map<String, Value>;

/// What the log of a table says.
#[derive(Debug, Default)]
pub struct DeltaLog {
    /// Version of the newest commit; none where there is no table.
    pub version: Option<u64>,
    /// Files of the newest version, in the order in which they were added.
    pub files: Vec<String>,
    /// The newest version of each application transaction.
    pub transactions: BTreeMap<String, i64>,
    /// How many commits there are that added rows of ingest (not compaction).
    pub appends: usize,
}

/// The log of the table in a folder. A folder that is not there, or holds no log, is a table without versions.
pub fn log(table: &Path) -> DeltaLog {
    let folder = table.join("_delta_log");
    let mut commits: BTreeMap<u64, String> = BTreeMap::new();
    for entry in fs::read_dir(&folder).into_iter().flatten() {
        let path = entry.expect("the log can be listed").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(version) = name.strip_suffix(".json").filter(|digits| digits.len() == 20) {
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            commits.insert(version.parse().unwrap_or_else(|_| panic!("{name} is no version")), text);
        }
    }
    let mut log = DeltaLog::default();
    for (expected, (version, text)) in (0..).zip(commits) {
        assert_eq!(version, expected, "{}: a version is missing", folder.display());
        log.version = Some(version);
        let mut changes_data = false;
        for line in text.lines() {
            let action: Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("version {version}: {error} in {line}"));
            if let Some(add) = action.get("add") {
                changes_data |= add["dataChange"].as_bool().unwrap_or(true);
                let path = decoded(add["path"].as_str().expect("an add has a path"));
                assert!(!log.files.contains(&path), "version {version} adds {path} a second time");
                log.files.push(path);
            } else if let Some(remove) = action.get("remove") {
                let path = decoded(remove["path"].as_str().expect("a remove has a path"));
                log.files.retain(|file| *file != path);
            } else if let Some(transaction) = action.get("txn") {
                let id = transaction["appId"].as_str().expect("a txn has an appId").to_owned();
                log.transactions.insert(id, transaction["version"].as_i64().expect("a txn has a version"));
            }
        }
        log.appends += usize::from(changes_data);
    }
    log
}

/// All rows of the newest version, in the order of commits, of files in them, and of rows in those.
pub fn rows(table: &Path) -> Vec<Row> {
    log(table).files.iter().flat_map(|file| parquet_rows(&table.join(file))).collect()
}

fn parquet_rows(path: &Path) -> Vec<Row> {
    let failed = |error: &dyn std::fmt::Display| -> ! { panic!("{}: {error}", path.display()) };
    let file = File::open(path).unwrap_or_else(|error| failed(&error));
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| builder.build());
    let mut lines = LineDelimitedWriter::new(Vec::new());
    for batch in reader.unwrap_or_else(|error| failed(&error)) {
        lines.write(&batch.unwrap_or_else(|error| failed(&error))).unwrap_or_else(|error| failed(&error));
    }
    lines.finish().unwrap_or_else(|error| failed(&error));
    let text = String::from_utf8(lines.into_inner()).expect("JSON is UTF-8");
    let row = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| failed(&error));
    text.lines().map(row).collect()
}

/// Paths in the log are URL-encoded.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'%', [high, low, after @ ..]) => {
                let hex = [*high, *low];
                let hex = std::str::from_utf8(&hex).expect("hex digits");
                bytes.push(u8::from_str_radix(hex, 16).unwrap_or_else(|_| panic!("{path} is not URL-encoded")));
                after
            }
            _ => {
                bytes.push(*first);
                tail
            }
        };
    }
    String::from_utf8(bytes).expect("a path is UTF-8")
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn paths_are_decoded() {
        assert_eq!(decoded("day=2026-01-01%2000%3A00/part%2520.parquet"), "day=2026-01-01 00:00/part%20.parquet");
    }
}
