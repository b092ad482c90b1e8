//! Reads a Delta table in a folder the plain way: the log's files one after the other, then the Parquet files that are left.

#![allow(dead_code)] // Each test uses its part.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use arrow::json::LineDelimitedWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

/// The actions of all versions, by version.
pub(crate) fn versions(table: &Path) -> Vec<Vec<Value>> {
    let mut versions = Vec::new();
    loop {
        let file = table.join(format!("_delta_log/{:020}.json", versions.len()));
        let Ok(text) = std::fs::read_to_string(file) else { return versions };
        versions.push(text.lines().map(|line| serde_json::from_str(line).expect("an action is JSON")).collect());
    }
}

/// The rows as JSON lines, files in the order in which they were committed. Nulls are left out.
pub(crate) fn rows(table: &Path) -> Vec<String> {
    let mut files: Vec<(String, Value)> = Vec::new();
    for action in versions(table).into_iter().flatten() {
        if let Some(add) = action.get("add") {
            files.push((add["path"].as_str().expect("a path").to_owned(), add.clone()));
        } else if let Some(remove) = action.get("remove") {
            files.retain(|(path, _)| path != remove["path"].as_str().expect("a path"));
        }
    }
    files.iter().flat_map(|(path, _)| file_rows(&table.join(path.replace("%20", " ")))).collect()
}

fn file_rows(file: &Path) -> Vec<String> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(file).expect("the file exists"));
    let reader = reader.and_then(|builder| builder.build()).expect("it is Parquet");
    let mut text = Vec::new();
    let mut writer = LineDelimitedWriter::new(&mut text);
    for batch in reader {
        writer.write(&batch.expect("it is readable")).expect("rows have a JSON form");
    }
    writer.finish().expect("memory does not fail");
    String::from_utf8(text).expect("JSON is UTF-8").lines().map(str::to_owned).collect()
}

/// The transaction identifiers with the version that each holds in the end.
pub(crate) fn positions(table: &Path) -> BTreeMap<String, i64> {
    let actions = versions(table).into_iter().flatten();
    let transactions = actions.filter_map(|action| {
        let transaction = action.get("txn")?;
        Some((transaction["appId"].as_str()?.to_owned(), transaction["version"].as_i64()?))
    });
    transactions.collect()
}

/// The columns of the newest schema: name and type as Delta writes them.
pub(crate) fn columns(table: &Path) -> Vec<(String, Value)> {
    let mut columns = Vec::new();
    for action in versions(table).into_iter().flatten() {
        if let Some(metadata) = action.get("metaData") {
            let schema: Value = serde_json::from_str(metadata["schemaString"].as_str().expect("text")).expect("JSON");
            let fields = schema["fields"].as_array().expect("a list").iter();
            columns =
                fields.map(|field| (field["name"].as_str().expect("text").to_owned(), field["type"].clone())).collect();
        }
    }
    columns
}
