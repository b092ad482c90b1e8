//! What the tests of tables share: a host that counts, and rows written and read back with deltalake alone.

// Each test binary uses its part.
#![allow(dead_code, unreachable_pub)]

pub mod faults;
pub mod lane;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use deltalake_core::kernel::transaction::CommitProperties;
use deltalake_core::kernel::{StructField, Transaction};
use deltalake_core::logstore::LogStoreRef;
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::{DeltaTable, DeltaTableError};
use futures::{StreamExt, TryStreamExt};
use ottla_api::prelude::*;
use ottla_api::sink::SinkTaskHost;
use parking_lot::Mutex;

/// Counts, and nothing else.
#[derive(Default)]
pub struct Host {
    pub counts: Mutex<BTreeMap<&'static str, u64>>,
    pub gauges: Mutex<BTreeMap<&'static str, u64>>,
}

impl Host {
    pub fn count_of(&self, name: &str) -> u64 {
        self.counts.lock().get(name).copied().unwrap_or(0)
    }

    pub fn context(self: &Arc<Self>) -> SinkTaskContext {
        SinkTaskContext::new("test", 0, "unused".into(), Arc::clone(self) as Arc<dyn SinkTaskHost>)
    }
}

impl SinkTaskHost for Host {
    fn report(&self, _: &TopicPartition, _: &SinkRecord, error: Error) -> Result<()> {
        Err(error)
    }
    fn buffered(&self, _: usize) {}
    fn rewind(&self, _: &TopicPartition, _: i64) {}
    fn delivered(&self, _: Delivery) {}
    fn count(&self, name: &'static str, n: u64) {
        *self.counts.lock().entry(name).or_default() += n;
    }
    fn gauge(&self, name: &'static str, value: u64) {
        self.gauges.lock().insert(name, value);
    }
    fn topic_identity(&self, _: &str) -> Option<String> {
        None
    }
}

/// Waits for a condition, for half a minute at most.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Creates a table of two columns, `n long` and `text string`.
pub async fn create(log_store: &LogStoreRef, properties: &[(&str, &str)]) -> DeltaTable {
    CreateBuilder::new()
        .with_log_store(Arc::clone(log_store))
        .with_columns([
            StructField::nullable("n", deltalake_core::kernel::DataType::LONG),
            StructField::nullable("text", deltalake_core::kernel::DataType::STRING),
        ])
        .with_configuration(properties.iter().map(|(key, value)| ((*key).to_owned(), Some((*value).to_owned()))))
        .await
        .expect("create a table")
}

/// The rows `numbers` in two columns.
pub fn rows(numbers: impl IntoIterator<Item = i64>) -> RecordBatch {
    let numbers: Vec<_> = numbers.into_iter().collect();
    let texts: Vec<_> = numbers.iter().map(|n| format!("row {n}")).collect();
    let schema = Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("text", DataType::Utf8, true)]);
    let columns: Vec<Arc<dyn Array>> = vec![Arc::new(Int64Array::from(numbers)), Arc::new(StringArray::from(texts))];
    RecordBatch::try_new(Arc::new(schema), columns).expect("the columns fit")
}

/// Appends a file with these rows, as a commit that sets the transaction identifier `app` to `position`.
pub async fn append(
    table: DeltaTable,
    numbers: impl IntoIterator<Item = i64>,
    app: &str,
    position: i64,
) -> Result<DeltaTable, DeltaTableError> {
    let properties = CommitProperties::default()
        .with_create_checkpoint(false)
        .with_cleanup_expired_logs(Some(false))
        .with_application_transaction(Transaction::new(app, position));
    table.write([rows(numbers)]).with_commit_properties(properties).await
}

/// The table as somebody finds it who knows nothing of it.
pub async fn open(log_store: &LogStoreRef) -> DeltaTable {
    let mut table = DeltaTable::new(Arc::clone(log_store));
    table.load().await.expect("open the table");
    table
}

/// The column `n` of all rows, sorted, as a fresh reader sees it.
pub async fn numbers(log_store: &LogStoreRef) -> Vec<i64> {
    column(log_store, "n").await
}

/// A column of numbers of all rows, sorted, as a fresh reader sees it.
pub async fn column(log_store: &LogStoreRef, name: &str) -> Vec<i64> {
    let table = open(log_store).await;
    let (_, stream) = table.scan_table().await.expect("read the table");
    let batches: Vec<RecordBatch> = stream.try_collect().await.expect("read the table's rows");
    let mut found: Vec<i64> = Vec::new();
    for batch in &batches {
        let column = batch.column_by_name(name).expect("the table has this column");
        found.extend(column.as_primitive::<Int64Type>().values().iter());
    }
    found.sort_unstable();
    found
}

/// How many files belong to the table, as a fresh reader sees it.
pub async fn file_count(log_store: &LogStoreRef) -> usize {
    let table = open(log_store).await;
    table.snapshot().expect("loaded").log_data().num_files()
}

/// What a fresh reader finds under a transaction identifier.
pub async fn position(log_store: &LogStoreRef, app: &str) -> Option<i64> {
    let table = open(log_store).await;
    table.snapshot().expect("loaded").transaction_version(log_store.as_ref(), app).await.expect("read a position")
}

/// The names in the table's folder that end so, sorted.
pub async fn names(log_store: &LogStoreRef, ending: &str) -> Vec<String> {
    let mut listing = log_store.object_store(None).list(None);
    let mut found = Vec::new();
    while let Some(meta) = listing.next().await {
        found.push(meta.expect("list the table").location.to_string());
    }
    found.retain(|name| name.ends_with(ending));
    found.sort();
    found
}
