//! The sink's options.

use std::collections::BTreeSet;
use std::time::Duration;

use ottla_api::config::{ConfigValue, split_list};
use ottla_api::prelude::*;

use crate::maintenance::MaintenanceConfig;
use crate::schema::{Field, find, parse_ddl};
use crate::store::StoreConfig;

/// What stands for the topic in `table.name.format`.
const TOPIC: &str = "${topic}";

/// The options of `delta-sink`.
#[derive(Debug, Clone, Config)]
pub struct DeltaSinkConfig {
    /// Where the tables live.
    #[config(flatten)]
    pub store: StoreConfig,
    /// Name of a topic's table; `${topic}` stands for the topic (after transformations).
    #[config(name = "table.name.format", default = "${topic}", importance = "high")]
    pub table_name_format: String,
    /// Put `_` in the place of characters other than letters, digits and `_` in a table's name.
    #[config(name = "table.name.sanitize", default = "true", importance = "low")]
    pub table_name_sanitize: bool,
    /// `append` adds a row for each record; `upsert` replaces the row that has the same key, and deletes it for a record
    /// without a value.
    #[config(name = "delta.mode", default = "append", importance = "high")]
    pub mode: Mode,
    /// With `upsert`: the columns that tell rows apart, separated by commas.
    #[config(name = "upsert.key")]
    pub upsert_key: Option<String>,
    /// Columns of the tables as in Spark: `ind long, unique_id string, coordinates array<double>`. Unset, an existing table's
    /// or inferred from the first records. Columns of the configuration keep their type whatever comes.
    #[config(name = "schema")]
    pub schema: Option<String>,
    /// What a field that the table has no column for does: `additive` adds one, `none` reports the record.
    #[config(name = "schema.evolution", default = "additive")]
    pub evolution: Evolution,
    /// Columns of one table: `schema.<table>`. (A table that is called `evolution` can't have any.)
    #[config(prefix = "schema.")]
    pub schemas: Vec<(String, String)>,
    /// Columns by whose values the files of new tables are divided into folders, separated by commas.
    #[config(name = "partition.columns")]
    pub partition_columns: Option<String>,
    /// The same for one table: `partition.columns.<table>`.
    #[config(prefix = "partition.columns.")]
    pub partition_columns_of: Vec<(String, String)>,
    /// A table is committed when it has so many new rows. This and the next two are looked at between batches of at most 500
    /// records, so a commit may hold a few more.
    #[config(name = "flush.size", default = "500000", min = 1)]
    pub flush_rows: usize,
    /// A table is committed when its new rows have so many bytes, measured before Parquet makes them smaller.
    #[config(name = "flush.bytes", default = "67108864", min = 1, max = 1073741824)]
    pub flush_bytes: usize,
    /// A table is committed when its oldest new row has waited so long.
    #[config(name = "flush.interval.ms", default = "5000", min = 1)]
    pub flush_interval: Duration,
    /// Parquet files are ended at this size.
    #[config(name = "target.file.size", default = "134217728", min = 1048576, importance = "low")]
    pub target_file_size: u64,
    /// Compression of the Parquet files.
    #[config(name = "parquet.codec", default = "snappy", importance = "low")]
    pub codec: Codec,
    /// Name under which the tables remember how far each topic partition has come. Unset, the connector's name. Under another
    /// name they know nothing, and records come from the consumer group's offsets on.
    #[config(name = "delta.app.id")]
    pub app_id: Option<String>,
    /// What to do with a record that has no value, in mode `append`: `fail`, or `ignore`.
    #[config(name = "behavior.on.null.values", default = "fail")]
    pub null_values: NullValues,
    /// Checkpoints, compaction, vacuum.
    #[config(flatten)]
    pub maintenance: MaintenanceConfig,
}

/// `delta.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
pub enum Mode {
    /// A row for each record.
    Append,
    /// One row for each key.
    Upsert,
}

/// `schema.evolution`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
pub enum Evolution {
    /// New fields become new columns.
    Additive,
    /// A record with a new field is reported.
    None,
}

/// `behavior.on.null.values`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
pub enum NullValues {
    /// The task fails.
    Fail,
    /// The record is left out.
    Ignore,
}

/// `parquet.codec`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
pub enum Codec {
    /// Fast; what Spark and delta-rs write.
    Snappy,
    /// Smaller, slower.
    Zstd,
    /// As they are.
    None,
}

/// What holds for one table.
#[derive(Debug, Clone)]
pub(crate) struct TableOptions {
    /// Columns of the configuration; empty for none.
    pub(crate) fields: Vec<Field>,
    pub(crate) grows: bool,
    pub(crate) partition_columns: Vec<String>,
    /// The columns that tell rows apart; nothing in mode append.
    pub(crate) upsert_key: Option<Vec<String>>,
    pub(crate) codec: Codec,
    pub(crate) target_file_size: u64,
}

impl DeltaSinkConfig {
    /// Checks what one option alone can't show.
    pub(crate) fn check(&self) -> Vec<ConfigError> {
        let mut errors = self.store.check();
        if self.table_name_format.trim().is_empty() {
            errors.push(ConfigError::new("table.name.format", "must be a name, such as ${topic}_table"));
        }
        let written = self.schema.iter().map(|text| ("schema".to_owned(), text));
        let all = written.chain(self.own_schemas().map(|(table, text)| (format!("schema.{table}"), text)));
        for (key, text) in all {
            if let Err(error) = parse_ddl(text) {
                errors.push(ConfigError::new(key, error));
            }
        }
        match (self.mode, &self.upsert_key) {
            (Mode::Upsert, None) => {
                errors
                    .push(ConfigError::new("upsert.key", "is missing; delta.mode=upsert needs the columns of the key"));
            }
            (Mode::Append, Some(_)) => {
                errors.push(ConfigError::new("upsert.key", "has no effect without delta.mode=upsert"));
            }
            (Mode::Upsert, Some(key)) if split_list(key).is_empty() => {
                errors.push(ConfigError::new("upsert.key", "must name at least one column"));
            }
            _ => {}
        }
        if errors.is_empty() {
            errors.extend(self.unknown_columns());
        }
        errors
    }

    /// Columns that options name and that the table's schema, where the configuration has one, does not. The schemas have been
    /// read without mistakes. A key may also be in a column that comes with the records.
    fn unknown_columns(&self) -> Vec<ConfigError> {
        let named = self.own_schemas().chain(&self.partition_columns_of).map(|(table, _)| table.as_str());
        let tables: BTreeSet<&str> = named.collect();
        // No table is called by the empty name: there the options for all tables are compared with each other.
        let tables = tables.into_iter().chain([""]);
        let mut errors = Vec::new();
        for table in tables {
            let options = self.table(table);
            if options.fields.is_empty() {
                continue;
            }
            let own = self.partition_columns_of.iter().any(|(name, _)| name == table);
            let divided = if own { format!("partition.columns.{table}") } else { "partition.columns".to_owned() };
            let schema = match table {
                "" => "schema".to_owned(),
                _ if self.own_schemas().any(|(name, _)| name == table) => format!("schema.{table}"),
                _ => "schema".to_owned(),
            };
            let key = options.upsert_key.iter().flatten().map(|column| ("upsert.key".to_owned(), column));
            for (option, column) in options.partition_columns.iter().map(|column| (divided.clone(), column)).chain(key)
            {
                match find(&options.fields, column) {
                    Some(index) => {
                        errors.extend(
                            options.fields[index].check_single().err().map(|error| ConfigError::new(option, error)),
                        );
                    }
                    None if option == "upsert.key" && options.grows => {}
                    None => {
                        errors.push(ConfigError::new(option, format!("names '{column}', which {schema} does not have")))
                    }
                }
            }
            if !options.grows && options.partition_columns.len() >= options.fields.len() {
                errors.push(ConfigError::new(
                    divided,
                    format!("names every column of {schema}; one at least must be left"),
                ));
            }
        }
        errors
    }

    /// The prefix `schema.` also takes `schema.evolution`, which is another option.
    fn own_schemas(&self) -> impl Iterator<Item = &(String, String)> {
        self.schemas.iter().filter(|(table, _)| table != "evolution")
    }

    /// The table of a topic.
    pub(crate) fn table_name(&self, topic: &str) -> String {
        let name = self.table_name_format.replace(TOPIC, topic);
        if !self.table_name_sanitize {
            return name;
        }
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
    }

    /// What holds for a table. The options have been checked.
    pub(crate) fn table(&self, name: &str) -> TableOptions {
        let ddl = self.own_schemas().find(|(table, _)| table == name).map(|(_, text)| text).or(self.schema.as_ref());
        let own = self.partition_columns_of.iter().find(|(table, _)| table == name).map(|(_, text)| text);
        let partition_columns = own.or(self.partition_columns.as_ref());
        TableOptions {
            fields: ddl.and_then(|text| parse_ddl(text).ok()).unwrap_or_default(),
            grows: self.evolution == Evolution::Additive,
            partition_columns: partition_columns.map(|text| split_list(text)).unwrap_or_default(),
            upsert_key: (self.mode == Mode::Upsert)
                .then(|| self.upsert_key.as_deref().map(split_list).unwrap_or_default()),
            codec: self.codec,
            target_file_size: self.target_file_size,
        }
    }
}
