//! SQLite: values have types, columns only wishes.

use std::path::Path;
use std::str::FromStr;

use futures::TryStreamExt as _;
use ottla_api::data::Value;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteRow, SqliteSynchronous};
use sqlx::{ConnectOptions, Row, TypeInfo, ValueRef};
use tokio::sync::Mutex;

use super::page::{DriverRow, Page, write_value};
use super::{
    ACQUIRE_TIMEOUT, ColumnAccess, ColumnType, Database, Dialect, Kind, Statement, bind_values, finish, over_the_pool,
    pool_options,
};
use crate::config::DateTimeFormat;

pub(super) struct Sqlite {
    pool: SqlitePool,
    /// What reads pages.
    reader: Mutex<Option<PoolConnection<sqlx::Sqlite>>>,
    options: SqliteConnectOptions,
}

impl Sqlite {
    pub(super) fn open(url: &str) -> sqlx::Result<Self> {
        Ok(Self::with(SqliteConnectOptions::from_str(url)?))
    }

    pub(super) fn read_only(path: &Path) -> Self {
        Self::with(SqliteConnectOptions::new().filename(path).read_only(true))
    }

    pub(super) fn create(path: &Path) -> Self {
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
        Self::with(options.journal_mode(SqliteJournalMode::Off).synchronous(SqliteSynchronous::Off))
    }

    fn with(options: SqliteConnectOptions) -> Self {
        let options = options.disable_statement_logging();
        Self {
            pool: pool_options(ACQUIRE_TIMEOUT).connect_lazy_with(options.clone()),
            reader: Mutex::default(),
            options,
        }
    }
}

over_the_pool!(Sqlite);

impl Dialect for Sqlite {
    fn quote(&self) -> char {
        '"'
    }

    fn parameter(&self, _number: usize) -> String {
        "?".to_owned()
    }

    fn integer(&self, expression: &str) -> String {
        expression.to_owned()
    }

    fn tables_sql(&self) -> &'static str {
        "SELECT name, type = 'table' FROM sqlite_schema \
         WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
    }

    fn columns_sql(&self) -> &'static str {
        // The schema is always null here; naming it keeps the parameters in order. 1 hides a virtual table's own columns.
        "SELECT name, upper(type), upper(type), nullif(pk, 0) FROM pragma_table_xinfo(ifnull(?1, ?2)) WHERE hidden <> 1 \
         ORDER BY cid"
    }

    fn column(&self, quoted: &str, type_name: &str, _full_type: &str, primary_key: bool) -> ColumnAccess {
        let kind = match type_name {
            // The one type that is kept: the table's own row number.
            "INTEGER" if primary_key => Kind::Integer,
            name if name.contains("DATETIME") || name.contains("TIMESTAMP") => Kind::AnyDateTime,
            "BOOLEAN" | "BOOL" => Kind::AnyBoolean,
            _ => Kind::Any,
        };
        ColumnAccess { kind, select: quoted.to_owned(), compare: Some("{}".to_owned()) }
    }

    fn row_id(&self, _quoted_table: &str) -> Option<String> {
        Some("_rowid_".to_owned())
    }

    fn type_name(&self, column_type: ColumnType) -> &'static str {
        match column_type {
            ColumnType::Integer => "INTEGER",
            ColumnType::Double => "REAL",
            ColumnType::Text => "TEXT",
            ColumnType::DateTime => "DATETIME",
        }
    }

    fn has_schemas(&self) -> bool {
        false
    }
}

impl DriverRow for SqliteRow {
    fn decode(&self, index: usize, _kind: Kind) -> sqlx::Result<Value> {
        let raw = self.try_get_raw(index)?;
        if raw.is_null() {
            return Ok(Value::Null);
        }
        let stored = raw.type_info();
        Ok(match stored.name() {
            "INTEGER" => Value::Int64(self.try_get_unchecked(index)?),
            "REAL" => Value::Float64(self.try_get_unchecked(index)?),
            "BLOB" => Value::Bytes(self.try_get_unchecked::<Vec<u8>, _>(index)?.into()),
            _ => match String::from_utf8(self.try_get_unchecked(index)?) {
                Ok(text) => Value::String(text),
                Err(error) => Value::Bytes(error.into_bytes().into()),
            },
        })
    }

    fn write(&self, index: usize, kind: Kind, format: DateTimeFormat, out: &mut Vec<u8>) -> sqlx::Result<bool> {
        let mut value = self.decode(index, kind)?;
        finish(&mut value, kind, format);
        Ok(write_value(&value, out))
    }
}
