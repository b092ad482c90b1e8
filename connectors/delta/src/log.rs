//! A Delta table's log: the three calls of the commit procedure, and the table's schema.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use async_trait::async_trait;
use buoyant_kernel::actions::LOG_TXN_SCHEMA;
use buoyant_kernel::engine_data::{GetData, RowVisitor, TypedGetData as _};
use buoyant_kernel::expressions::ColumnName;
use buoyant_kernel::snapshot::Snapshot;
use bytes::Bytes;
use deltalake_core::kernel::transaction::TransactionError;
use deltalake_core::kernel::{
    Action, DataType, Metadata, MetadataExt as _, StructField, StructType, StructTypeExt as _, new_metadata,
};
use deltalake_core::logstore::{CommitOrBytes, LogStoreRef, get_actions};
use deltalake_core::{BlindDeltaTable, DeltaTableError};
use ottla_api::prelude::*;

use crate::commit::{Created, Entry, Ledger, Loaded, Log};
use crate::schema::{Field, Type, find, of_delta_fields, to_delta_fields};
use crate::store::{Store, check_table_properties};

/// The key in `commitInfo` under which an attempt is found again.
pub(crate) const ATTEMPT: &str = "ottla.attempt";

/// Table features under which a plain append is right. Whoever switches on another one asks writers for more.
const FEATURES: &[&str] = &[
    "appendOnly",
    "changeDataFeed",
    "checkConstraints",
    "columnMapping",
    "deletionVectors",
    "domainMetadata",
    "generatedColumns",
    "invariants",
    "timestampNtz",
    "v2Checkpoint",
    "vacuumProtocolCheck",
];

/// The log of one table.
#[derive(Debug, Clone)]
pub(crate) struct DeltaLog {
    pub(crate) store: Store,
    pub(crate) log_store: LogStoreRef,
    /// As a user would open it, for messages.
    pub(crate) location: String,
}

/// A table's schema and what else a writer must know, at some version.
#[derive(Debug, Clone)]
pub(crate) struct TableSchema {
    pub(crate) version: u64,
    pub(crate) fields: Vec<Field>,
    pub(crate) partition_columns: Vec<String>,
    /// delta-rs' view of the table without its files: the writer starts from it.
    pub(crate) blind: BlindDeltaTable,
}

impl DeltaLog {
    /// An error of the library as ours.
    pub(crate) fn failure(&self, error: &DeltaTableError, operation: &str) -> Error {
        self.store.failure(error, operation).with("table", &self.location)
    }

    /// Makes sure that the newest version, which is never cleaned up, is still there: what is written behind a log that is
    /// gone, nobody can read.
    pub(crate) async fn still_has(&self, version: u64) -> Result<()> {
        let found = self.log_store.read_commit_entry(version).await;
        let found = found.map_err(|error| self.failure(&error, "look for the table"))?;
        found.map(|_| ()).ok_or_else(|| self.gone(version))
    }

    /// Somebody has deleted the table, or put another in its place.
    pub(crate) fn gone(&self, version: u64) -> Error {
        Error::fatal(format!(
            "version {version} of the table is gone: somebody has deleted the table or put another in its place. Nothing was \
             written. A restart goes on with what is there, or with a new table, from the consumer group's offsets on; to \
             have the earlier records in it, set those back"
        ))
        .with("table", &self.location)
    }

    /// True where there is a table.
    pub(crate) async fn exists(&self) -> Result<bool> {
        self.log_store.is_delta_table_location().await.map_err(|error| self.failure(&error, "look for the table"))
    }

    /// Reads the schema, no older than the ledger is after that.
    pub(crate) async fn schema_of(&self, ledger: &mut Ledger) -> Result<TableSchema> {
        loop {
            // Whoever changes the table from here on is seen by one of the two.
            ledger.table_seen();
            let schema = self.schema().await?;
            if !ledger.catch_up(self).await? || ledger.version() <= schema.version {
                ledger.table_seen();
                return Ok(schema);
            }
        }
    }

    /// Reads the schema of the newest version, and makes sure that this sink may append to such a table.
    pub(crate) async fn schema(&self) -> Result<TableSchema> {
        let blind = BlindDeltaTable::try_new_with_log_store(self.log_store.clone())
            .await
            .map_err(|error| self.failure(&error, "read the table's schema"))?;
        let schema = blind.schema();
        check_table_properties(&self.location, blind.table_properties().set_transaction_retention_duration)?;
        check_writable(&blind, &schema).map_err(|error| error.with("table", &self.location))?;
        Ok(TableSchema {
            version: blind.version(),
            fields: of_delta_fields(&schema).map_err(|error| error.with("table", &self.location))?,
            partition_columns: blind.metadata().partition_columns().to_vec(),
            blind,
        })
    }
}

/// What the transaction identifiers hold, as far as a log was read back.
///
/// A Delta reader may take a transaction for expired that is older than `delta.setTransactionRetentionDuration`. Ours say no
/// time, so they never are.
struct Stored {
    missing: BTreeSet<String>,
    found: BTreeMap<String, i64>,
}

/// Columns of a log's actions, with their types.
type Leaves = (Vec<ColumnName>, Vec<DataType>);

impl RowVisitor for Stored {
    fn selected_column_names_and_types(&self) -> (&'static [ColumnName], &'static [DataType]) {
        static LEAVES: LazyLock<Leaves> = LazyLock::new(|| {
            let leaves = ["appId", "version"].map(|name| ColumnName::new(["txn", name]));
            (leaves.into(), vec![DataType::STRING, DataType::LONG])
        });
        (&LEAVES.0, &LEAVES.1)
    }

    fn visit<'a>(&mut self, rows: usize, getters: &[&'a dyn GetData<'a>]) -> buoyant_kernel::DeltaResult<()> {
        for row in 0..rows {
            let id: Option<&str> = getters[0].get_opt(row, "txn.appId")?;
            if let Some(id) = id.and_then(|id| self.missing.take(id)) {
                self.found.insert(id, getters[1].get(row, "txn.version")?);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Log for DeltaLog {
    async fn load(&self, ids: &[String]) -> Result<Loaded> {
        // The kernel's own snapshot: delta-rs' one reads the list of all files along.
        let (engine, url, ids) = (self.log_store.engine(None), self.log_store.root_url().clone(), ids.to_vec());
        let work = move || {
            let snapshot = Snapshot::builder_for(url.as_str()).build(engine.as_ref())?;
            let mut wanted = Stored { missing: ids.into_iter().collect(), found: BTreeMap::new() };
            // Newest first, so what is found is what holds. (The kernel's own look-up reads the log once for each identifier.)
            for actions in snapshot.log_segment().read_actions(engine.as_ref(), LOG_TXN_SCHEMA.clone())? {
                if wanted.missing.is_empty() {
                    break;
                }
                wanted.visit_rows_of(actions?.actions.as_ref())?;
            }
            Ok::<_, buoyant_kernel::Error>(Loaded { version: snapshot.version(), positions: wanted.found })
        };
        let loaded = tokio::task::spawn_blocking(work).await.or_error(ErrorKind::Fatal, "read the table's log")?;
        loaded.map_err(|error| self.failure(&error.into(), "read the stored positions"))
    }

    async fn read(&self, version: u64) -> Result<Option<Entry>> {
        let found = self.log_store.read_commit_entry(version).await;
        let Some(bytes) = found.map_err(|error| self.failure(&error, "read a version of the table"))? else {
            return Ok(None);
        };
        let actions = get_actions(version, &bytes);
        let actions = actions.map_err(|error| self.failure(&error, "understand a version of the table"))?;
        let mut entry = Entry::default();
        for action in actions {
            match action {
                Action::CommitInfo(info) => {
                    entry.attempt = info.info.get(ATTEMPT).and_then(|value| value.as_str()).map(str::to_owned);
                }
                Action::Txn(transaction) => entry.transactions.push((transaction.app_id, transaction.version)),
                Action::Metadata(_) | Action::Protocol(_) => entry.changes_table = true,
                Action::Add(_) | Action::Remove(_) | Action::Cdc(_) | Action::DomainMetadata(_) => {}
            }
        }
        Ok(Some(entry))
    }

    async fn create(&self, version: u64, commit: &Bytes) -> Result<Created> {
        if version > 0 {
            self.still_has(version - 1).await?;
        }
        let bytes = CommitOrBytes::LogBytes(commit.clone());
        match self.log_store.write_commit_entry(version, bytes, uuid::Uuid::new_v4()).await {
            Ok(()) => Ok(Created::New),
            Err(TransactionError::VersionAlreadyExists(_)) => Ok(Created::Exists),
            Err(error) => Err(self.failure(&error.into(), "commit a version of the table")),
        }
    }
}

/// Refuses a table that asks of a writer what this sink does not do, rather than write rows that break its rules.
fn check_writable(table: &BlindDeltaTable, schema: &StructType) -> Result<()> {
    let refused = |what: String| Err(Error::config(format!("{what}; this sink can't write to such a table")));
    let configuration = table.metadata().configuration();
    if let Some(mode) = configuration.get("delta.columnMapping.mode").filter(|mode| *mode != "none") {
        return refused(format!("the table maps its columns (delta.columnMapping.mode={mode})"));
    }
    if let Some(name) = configuration.keys().find(|key| key.starts_with("delta.constraints.")) {
        return refused(format!("the table has a check constraint ({name})"));
    }
    if schema.get_generated_columns().is_ok_and(|columns| !columns.is_empty()) {
        return refused("the table has generated columns".to_owned());
    }
    if schema.get_invariants().is_ok_and(|invariants| !invariants.is_empty()) {
        return refused("the table has invariants on its columns".to_owned());
    }
    // The protocol's own fields are not all public; its JSON is.
    let protocol = serde_json::to_value(table.protocol()).or_error(ErrorKind::Fatal, "read the table's protocol")?;
    let needed = protocol["minWriterVersion"].as_i64().unwrap_or(0);
    if needed > 7 {
        return refused(format!("the table needs writers of version {needed}"));
    }
    let features = protocol["writerFeatures"].as_array().into_iter().flatten();
    match features.filter_map(serde_json::Value::as_str).find(|feature| !FEATURES.contains(feature)) {
        Some(feature) => refused(format!("the table has the feature {feature}")),
        None => Ok(()),
    }
}

/// Protocol and metadata of a new table.
pub(crate) fn new_table(fields: &[Field], partition_columns: &[String]) -> Result<(Action, Action, Metadata)> {
    let schema = struct_type(to_delta_fields(fields))?;
    let metadata = new_metadata(&schema, partition_columns, std::iter::empty::<(String, String)>())
        .or_error(ErrorKind::Fatal, "describe the new table")?;
    let protocol = serde_json::from_str(r#"{"minReaderVersion":1,"minWriterVersion":2}"#)
        .or_error(ErrorKind::Fatal, "describe the new table's protocol")?;
    Ok((Action::Protocol(protocol), Action::Metadata(metadata.clone()), metadata))
}

/// The table's metadata with what `fields` have more than its columns; nothing where they have not.
pub(crate) fn widened(table: &TableSchema, fields: &[Field]) -> Result<Option<(Metadata, Vec<StructField>)>> {
    let existing = table.blind.schema();
    let Some(all) = widened_fields(&existing, fields)? else { return Ok(None) };
    let new = all.iter().filter(|field| existing.field(field.name()) != Some(field)).cloned().collect();
    let schema = struct_type(all)?;
    let metadata = table.blind.metadata().clone().with_schema(&schema);
    Ok(Some((metadata.or_error(ErrorKind::Fatal, "describe the widened table")?, new)))
}

/// Existing columns keep everything they have; what is new comes behind them.
fn widened_fields(existing: &StructType, fields: &[Field]) -> Result<Option<Vec<StructField>>> {
    let mut changed = false;
    let mut all = Vec::new();
    for there in existing.fields() {
        let wanted = find(fields, there.name()).map(|index| &fields[index].data_type);
        let data_type = match wanted {
            Some(wanted) => widened_type(there.data_type(), wanted)?,
            None => None,
        };
        changed |= data_type.is_some();
        all.push(StructField { data_type: data_type.unwrap_or_else(|| there.data_type().clone()), ..there.clone() });
    }
    for field in to_delta_fields(fields) {
        if !existing.fields().any(|there| crate::schema::same_name(there.name(), field.name())) {
            changed = true;
            // A column that is required can't be added to rows that lack it.
            all.push(StructField { nullable: true, ..field });
        }
    }
    Ok(changed.then_some(all))
}

fn widened_type(existing: &DataType, wanted: &Type) -> Result<Option<DataType>> {
    Ok(match (existing, wanted) {
        (DataType::Struct(there), Type::Struct(fields)) => match widened_fields(there, fields)? {
            Some(fields) => Some(DataType::Struct(Box::new(struct_type(fields)?))),
            None => None,
        },
        (DataType::Array(array), Type::Array(items)) => {
            let items = widened_type(array.element_type(), items)?;
            items.map(|items| deltalake_core::kernel::ArrayType::new(items, array.contains_null()).into())
        }
        (DataType::Map(map), Type::Map(_, values)) => {
            let values = widened_type(map.value_type(), values)?;
            values.map(|values| {
                deltalake_core::kernel::MapType::new(map.key_type().clone(), values, map.value_contains_null()).into()
            })
        }
        _ => None,
    })
}

fn struct_type(fields: Vec<StructField>) -> Result<StructType> {
    StructType::try_new(fields).or_error(ErrorKind::PoisonRecord, "these columns make no table")
}
