//! Upsert: one row for each key, by a merge of the table with the newest row of each key.
//!
//! The merge is delta-rs' own. It commits by itself, so here it is made to commit one given version or none, and stands where
//! an append creates its file: the procedure around it ([`crate::commit`]) is the same.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::row::{OwnedRow, RowConverter, SortField};
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::common::Column;
use datafusion::logical_expr::{Expr, lit};
use datafusion::prelude::SessionContext;
use deltalake_core::kernel::Transaction;
use deltalake_core::kernel::transaction::{CommitProperties, TransactionError};
use deltalake_core::{DeltaTable, DeltaTableError};
use ottla_api::prelude::*;

use crate::commit::{Created, Entry, Ledger, Loaded, Log, Outcome, Plan};
use crate::log::{ATTEMPT, DeltaLog};
use crate::schema::same_name;

/// The column of the merged rows that says which of them delete. No column of a table can be called so: Delta refuses `=`.
const DELETED: &str = "=deleted";

/// The key's columns, and which rows delete, in the rows' order; nothing in mode append.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    columns: Option<Arc<[String]>>,
    deleted: Vec<bool>,
}

impl Keys {
    pub(crate) fn new(columns: Option<&[String]>) -> Self {
        Self { columns: columns.map(Into::into), deleted: Vec::new() }
    }

    /// True in mode upsert: a record is looked into before it is taken.
    pub(crate) fn are_needed(&self) -> bool {
        self.columns.is_some()
    }

    /// Makes sure that a record has a key: in its value, or for a deletion in its own key.
    pub(crate) fn check(&self, value: Option<&Value>, key: &Payload) -> Result<()> {
        let Some(columns) = &self.columns else { return Ok(()) };
        match value {
            Some(value) => columns.iter().try_for_each(|column| key_field(value, column).map(|_| ())),
            None => self.row_of(key).map(|_| ()),
        }
    }

    /// The row that a deletion stands for: the key's columns, taken from the record's key.
    pub(crate) fn row_of(&self, key: &Payload) -> Result<Map> {
        let columns = self.columns.as_deref().unwrap_or_default();
        let (_, key) = key.clone().into_data()?;
        let mut row = Map::new();
        match (&key, columns) {
            (Value::Map(_) | Value::Struct(_), columns) => {
                for column in columns {
                    row.push(column, key_field(&key, column)?.clone());
                }
            }
            (Value::Null, _) => return Err(Error::data("a deletion needs a key to say which row, and has none")),
            (_, [column]) => row.push(column, key.clone()),
            (_, columns) => {
                return Err(Error::data(format!(
                    "a deletion's key must have the fields {}, found {}",
                    columns.join(", "),
                    key.type_name()
                )));
            }
        }
        Ok(row)
    }

    /// Notes whether a row that was taken deletes.
    pub(crate) fn push(&mut self, deleted: bool) {
        if self.columns.is_some() {
            self.deleted.push(deleted);
        }
    }

    pub(crate) fn take(&mut self) -> Self {
        Self { columns: self.columns.clone(), deleted: std::mem::take(&mut self.deleted) }
    }

    /// Bytes in memory.
    pub(crate) fn memory(&self) -> usize {
        self.deleted.capacity()
    }

    pub(crate) fn clear(&mut self) {
        self.deleted.clear();
    }

    pub(crate) fn retain(&mut self, keep: &[bool]) {
        let mut keep = keep.iter();
        self.deleted.retain(|_| *keep.next().unwrap_or(&true));
    }
}

fn key_field<'a>(value: &'a Value, column: &str) -> Result<&'a Value> {
    let found = value.field(column).or_else(|| match value {
        Value::Map(map) => map.iter().find(|(name, _)| same_name(name, column)).map(|(_, value)| value),
        Value::Struct(fields) => fields.iter().find(|(name, _)| same_name(name, column)).map(|(_, value)| value),
        _ => None,
    });
    found
        .filter(|value| !value.is_null())
        .ok_or_else(|| Error::data(format!("field '{column}' of upsert.key is missing or null, so the row has no key")))
}

/// The last row of each key, with a column that says whether it deletes.
///
/// Keys are compared as the table's columns hold them: `1` and `1.0` are one key of a `double`, and a merge that gets a key
/// twice would insert it twice.
pub(crate) fn last_of_each<'a>(
    batches: &[RecordBatch],
    key: &[String],
    rows: impl DoubleEndedIterator<Item = &'a Keys>,
) -> Result<RecordBatch> {
    let broken = |error: arrow::error::ArrowError| Error::fatal("keep the last row of each key").caused_by(error);
    let Some(schema) = batches.first().map(RecordBatch::schema) else {
        return Ok(RecordBatch::new_empty(Arc::new(Schema::empty())));
    };
    let index = |name: &String| {
        let found = schema.fields().iter().position(|field| same_name(field.name(), name));
        let index = found
            .ok_or_else(|| Error::config(format!("upsert.key names '{name}', which is no column of the table")))?;
        if schema.field(index).data_type().is_nested() {
            return Err(Error::config(format!(
                "upsert.key names '{name}', which the table has as {}; only columns of single values will do",
                schema.field(index).data_type()
            )));
        }
        Ok(index)
    };
    let indices: Vec<usize> = key.iter().map(index).collect::<Result<_>>()?;
    let fields = indices.iter().map(|index| SortField::new(schema.field(*index).data_type().clone())).collect();
    let converter = RowConverter::new(fields).map_err(broken)?;
    let mut seen: HashSet<OwnedRow> = HashSet::new();
    let mut kept = Vec::new();
    // From the end, the first of a key is its last.
    for (batch, keys) in batches.iter().zip(rows.collect::<Vec<_>>()).rev() {
        let columns: Vec<ArrayRef> = indices.iter().map(|index| Arc::clone(batch.column(*index))).collect();
        let values = converter.convert_columns(&columns).map_err(broken)?;
        let mut mask = vec![false; batch.num_rows()];
        for (row, value) in values.iter().enumerate().rev() {
            mask[row] = seen.insert(value.owned());
        }
        let deleted: BooleanArray = keys.deleted.iter().map(|deleted| Some(*deleted)).collect();
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        columns.push(Arc::new(deleted));
        let mut fields = schema.fields().to_vec();
        fields.push(Arc::new(Field::new(DELETED, DataType::Boolean, false)));
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(broken)?;
        kept.push(arrow::compute::filter_record_batch(&batch, &BooleanArray::from(mask)).map_err(broken)?);
    }
    kept.reverse();
    arrow::compute::concat_batches(&kept[0].schema(), &kept).map_err(broken)
}

/// A merge that is to be committed.
#[derive(Debug)]
pub(crate) struct Merge {
    key: Vec<String>,
    source: RecordBatch,
    /// The plan's own commit moves the positions and no row, for a merge that changes nothing.
    plan: Plan,
    transactions: Vec<Transaction>,
}

impl Merge {
    pub(crate) fn new(key: Vec<String>, source: RecordBatch, plan: Plan, transactions: Vec<Transaction>) -> Self {
        Self { key, source, plan, transactions }
    }

    /// Bytes in memory, between two merges.
    pub(crate) fn memory(&self) -> usize {
        self.source.get_array_memory_size()
    }

    /// Merges and commits, once; as [`Ledger::commit`].
    pub(crate) async fn commit(&self, log: &DeltaLog, ledger: &mut Ledger) -> Result<Outcome> {
        ledger.commit(&MergeLog { log, merge: self }, &self.plan).await
    }

    /// Merges into the table as it is at `base` and commits that as the next version, or not at all.
    async fn run(&self, log: &DeltaLog, base: u64) -> Result<Merged, DeltaTableError> {
        let mut table = DeltaTable::new(log.log_store.clone());
        table.load_version(base).await?;
        let session = SessionContext::new();
        let source = session.read_batch(self.source.clone())?;
        let side = |alias: &str, name: &str| Expr::Column(Column::new(Some(alias), name));
        let keys = self.key.iter().map(|name| {
            let schema = self.source.schema();
            // The table's spelling of the column.
            let own = schema.fields().iter().map(|field| field.name().clone()).find(|own| same_name(own, name));
            let own = own.unwrap_or_else(|| name.clone());
            side("target", &own).eq(side("source", &own))
        });
        let matches = keys.reduce(Expr::and).unwrap_or_else(|| lit(false));
        let columns: Vec<String> = self.source.schema().fields().iter().map(|field| field.name().clone()).collect();
        let columns = columns.iter().filter(|name| *name != DELETED);
        let assigned: HashMap<&String, Expr> = columns.map(|name| (name, side("source", name))).collect();
        let properties = CommitProperties::default()
            .with_metadata([(ATTEMPT.to_owned(), self.plan.attempt.clone().into())])
            .with_application_transactions(self.transactions.clone())
            // No loop of its own: whether the rows still belong in is looked at before every attempt.
            .with_max_retries(0)
            .with_create_checkpoint(false)
            .with_cleanup_expired_logs(Some(false));
        let merge = table
            .merge(source, matches)
            .with_source_alias("source")
            .with_target_alias("target")
            .with_commit_properties(properties)
            .when_matched_delete(|delete| delete.predicate(side("source", DELETED)))?
            .when_matched_update(|update| {
                assigned.iter().fold(update, |update, (name, value)| {
                    update.update(Column::new_unqualified(name.as_str()), value.clone())
                })
            })?
            .when_not_matched_insert(|insert| {
                let insert = insert.predicate(Expr::Not(Box::new(side("source", DELETED))));
                assigned.iter().fold(insert, |insert, (name, value)| {
                    insert.set(Column::new_unqualified(name.as_str()), value.clone())
                })
            })?;
        match merge.await {
            Ok((table, _)) if table.version() == Some(base) => Ok(Merged::Nothing),
            Ok(_) => Ok(Merged::Committed),
            Err(DeltaTableError::Transaction { source: TransactionError::MaxCommitAttempts(_) }) => Ok(Merged::Late),
            Err(error) => Err(error),
        }
    }
}

enum Merged {
    Committed,
    /// There was nothing to change.
    Nothing,
    /// Somebody else has made that version.
    Late,
}

/// A log into which a version gets by merging.
struct MergeLog<'a> {
    log: &'a DeltaLog,
    merge: &'a Merge,
}

#[async_trait]
impl Log for MergeLog<'_> {
    async fn load(&self, ids: &[String]) -> Result<Loaded> {
        self.log.load(ids).await
    }

    async fn read(&self, version: u64) -> Result<Option<Entry>> {
        self.log.read(version).await
    }

    async fn create(&self, version: u64, commit: &Bytes) -> Result<Created> {
        self.log.still_has(version - 1).await?;
        match self.merge.run(self.log, version - 1).await {
            Ok(Merged::Committed) => Ok(Created::New),
            Ok(Merged::Nothing) => self.log.create(version, commit).await,
            Ok(Merged::Late) => Ok(Created::Exists),
            Err(error) => Err(self.log.failure(&error, "merge rows into the table")),
        }
    }
}
