//! Readers of tables by others, in Python: what deltalake, DuckDB, polars and Spark see, in one form, to be compared whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value};

use crate::{services, temp_dir};

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// Python's deltalake. It shares its library with the sink, and shows what an ordinary user of that sees.
    Deltalake,
    /// DuckDB's Parquet reader; the log is read by deltalake.
    DuckDb,
    /// polars' Parquet reader; the log is read by deltalake.
    Polars,
    /// Spark with delta-spark: the log and the files are read by code that shares nothing with ours.
    Spark,
}

impl Reader {
    /// All of them, the quick ones first.
    pub const ALL: [Self; 4] = [Self::Deltalake, Self::DuckDb, Self::Polars, Self::Spark];
}

/// A table as a reader sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The table's version; none for JSON files.
    pub version: Option<u64>,
    /// The columns with their types, in the reader's own words (deltalake and Spark: those of Delta's protocol).
    pub columns: Map<String, Value>,
    /// Every row, each as [`canonical`] has it, sorted.
    pub rows: Vec<String>,
}

/// One row as text that does not depend on the order of its fields.
pub fn canonical(row: &Value) -> String {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let by_name: BTreeMap<&String, Value> = fields.iter().map(|(name, of)| (name, sorted(of))).collect();
                Value::Object(by_name.into_iter().map(|(name, of)| (name.clone(), of)).collect())
            }
            Value::Array(of) => Value::Array(of.iter().map(sorted).collect()),
            other => other.clone(),
        }
    }
    sorted(row).to_string()
}

/// JSON lines as a reader's rows: canonical and sorted.
pub fn canonical_rows<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut rows: Vec<String> = lines.into_iter().map(|line| canonical(&crate::posts::parse(line))).collect();
    rows.sort();
    rows
}

/// What a reader sees at each of these places, in their order: a folder, `s3://bucket/table`, either with `@version`; Spark
/// also reads `json:FOLDER/*.json`.
///
/// # Panics
///
/// Where it fails, with what it said.
pub fn read(reader: Reader, locations: &[String]) -> Vec<Seen> {
    try_read(reader, locations).unwrap_or_else(|said| panic!("{reader:?} could not read {locations:?}:\n{said}"))
}

/// As [`read`]; the reader's own words where it fails.
pub fn try_read(reader: Reader, locations: &[String]) -> Result<Vec<Seen>, String> {
    let (python, script, jars) = match reader {
        Reader::Deltalake => (services::python(), "read_deltalake.py", None),
        Reader::DuckDb => (services::python(), "read_duckdb.py", None),
        Reader::Polars => (services::python(), "read_polars.py", None),
        Reader::Spark => {
            let (python, jars) = services::spark();
            (python, "read_spark.py", Some(jars))
        }
    };
    let folder = temp_dir(); // Some leave files where they were started.
    let (key, secret) = services::s3_credentials();
    let mut command = Command::new(python);
    command
        .arg(script_path(script))
        .args(locations)
        .current_dir(folder.path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("AWS_ENDPOINT_URL", services::s3())
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", key)
        .env("AWS_SECRET_ACCESS_KEY", secret);
    if let Some(jars) = jars {
        command.env("OTTLA_TEST_SPARK_JARS", jars);
    }
    let output = command.output().map_err(|error| format!("{script}: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8(output.stdout).map_err(|error| format!("{script}: {error}"))?;
    let tables: Vec<Seen> = text.lines().map(table).collect();
    if tables.len() != locations.len() {
        return Err(format!("{script} showed {} tables", tables.len()));
    }
    Ok(tables)
}

/// A script of the folder `tests/readers`.
pub fn script_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("readers").join(name)
}

/// Reads one line of a script.
fn table(line: &str) -> Seen {
    let shown = crate::posts::fields(line);
    let rows = shown["rows"].as_array().expect("rows are a list");
    let mut rows: Vec<String> = rows.iter().map(canonical).collect();
    rows.sort();
    Seen { version: shown["version"].as_u64(), columns: shown["columns"].as_object().expect("columns").clone(), rows }
}
