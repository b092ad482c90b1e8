//! MariaDB and MySQL.

use std::str::FromStr;

use futures::TryStreamExt as _;
use ottla_api::data::Value;
use sqlx::mysql::{MySqlConnectOptions, MySqlPool, MySqlRow, MySqlSslMode};
use sqlx::pool::PoolConnection;
use sqlx::{ConnectOptions, Row, ValueRef};
use tokio::sync::Mutex;

use super::page::{DriverRow, Page, write_text, write_value};
use super::{
    ColumnAccess, ColumnType, Database, Dialect, Kind, Statement, bind_values, over_the_pool, pool_options, widen,
};
use crate::config::{Connection, DateTimeFormat, Tls};

pub(super) struct MySql {
    pool: MySqlPool,
    /// What reads pages.
    reader: Mutex<Option<PoolConnection<sqlx::MySql>>>,
    options: MySqlConnectOptions,
}

impl MySql {
    pub(super) fn open(url: &str, connection: &Connection) -> sqlx::Result<Self> {
        let mut options = MySqlConnectOptions::from_str(url)?.disable_statement_logging();
        if let Some(user) = &connection.user {
            options = options.username(user);
        }
        if let Some(password) = &connection.password {
            options = options.password(password.expose());
        }
        if let Some(tls) = connection.tls {
            options = options.ssl_mode(match tls {
                Tls::Disable => MySqlSslMode::Disabled,
                Tls::Prefer => MySqlSslMode::Preferred,
                Tls::Require => MySqlSslMode::Required,
                Tls::VerifyCa => MySqlSslMode::VerifyCa,
                Tls::VerifyFull => MySqlSslMode::VerifyIdentity,
            });
        }
        if let Some(path) = &connection.tls_ca {
            options = options.ssl_ca(path);
        }
        Ok(Self {
            pool: pool_options(connection.timeout).connect_lazy_with(options.clone()),
            reader: Mutex::default(),
            options,
        })
    }
}

over_the_pool!(MySql);

impl Dialect for MySql {
    fn quote(&self) -> char {
        '`'
    }

    fn parameter(&self, _number: usize) -> String {
        "?".to_owned()
    }

    fn integer(&self, expression: &str) -> String {
        format!("CAST({expression} AS SIGNED)")
    }

    fn tables_sql(&self) -> &'static str {
        // Newer MySQL has its catalogue's names in a binary type; casts make text of it.
        "SELECT CAST(table_name AS CHAR), CAST(table_type = 'BASE TABLE' AS SIGNED) FROM information_schema.tables \
         WHERE table_schema = DATABASE() ORDER BY 1"
    }

    fn columns_sql(&self) -> &'static str {
        "SELECT CAST(c.column_name AS CHAR), CAST(c.data_type AS CHAR), CAST(c.column_type AS CHAR), \
         CAST(k.ordinal_position AS SIGNED) \
         FROM information_schema.columns c LEFT JOIN information_schema.key_column_usage k \
         ON k.table_schema = c.table_schema AND k.table_name = c.table_name AND k.column_name = c.column_name \
         AND k.constraint_name = 'PRIMARY' \
         WHERE c.table_schema = COALESCE(?, DATABASE()) AND c.table_name = ? ORDER BY c.ordinal_position"
    }

    fn column(&self, quoted: &str, type_name: &str, full_type: &str, _primary_key: bool) -> ColumnAccess {
        let cast = |to: &str| format!("CAST({quoted} AS {to})");
        let plain = || Some("{}".to_owned());
        let type_name = type_name.to_ascii_lowercase();
        // Casts to CHAR print as the server does: decimals with their zeros, times as times.
        let (kind, select, compare) = match type_name.as_str() {
            "bigint" if full_type.contains("unsigned") => {
                (Kind::Number, cast("CHAR"), Some("CAST({} AS DECIMAL(65))".to_owned()))
            }
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "year" => {
                (Kind::Integer, cast("SIGNED"), plain())
            }
            "bit" => (Kind::Number, format!("CAST(CAST({quoted} AS UNSIGNED) AS CHAR)"), None),
            "float" => (Kind::Float32, quoted.to_owned(), None),
            "double" => (Kind::Float64, quoted.to_owned(), None),
            "decimal" => (Kind::Number, cast("CHAR"), Some("CAST({} AS DECIMAL(65, 30))".to_owned())),
            "datetime" | "timestamp" => (Kind::DateTime, cast("CHAR"), plain()),
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => (Kind::Text, cast("CHAR"), plain()),
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => {
                (Kind::Bytes, quoted.to_owned(), plain())
            }
            "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring" | "multipolygon"
            | "geometrycollection" | "geomcollection" => (Kind::Text, format!("ST_AsText({quoted})"), None),
            // Dates, times, enums, sets, JSON, UUIDs, addresses.
            _ => (Kind::Text, cast("CHAR"), None),
        };
        ColumnAccess { kind, select, compare }
    }

    fn type_name(&self, column_type: ColumnType) -> &'static str {
        match column_type {
            ColumnType::Integer => "INT",
            ColumnType::Double => "DOUBLE",
            ColumnType::Text => "TEXT",
            ColumnType::DateTime => "DATETIME",
        }
    }

    fn table_options(&self) -> &'static str {
        // The server's default may be one without emoji.
        " DEFAULT CHARACTER SET utf8mb4"
    }
}

impl DriverRow for MySqlRow {
    fn decode(&self, index: usize, kind: Kind) -> sqlx::Result<Value> {
        if self.try_get_raw(index)?.is_null() {
            return Ok(Value::Null);
        }
        // The column's own type says less than the cast did: unchecked.
        Ok(match kind {
            Kind::Integer => Value::Int64(self.try_get_unchecked(index)?),
            Kind::Float32 => Value::Float64(widen(self.try_get_unchecked(index)?)),
            Kind::Float64 => Value::Float64(self.try_get_unchecked(index)?),
            Kind::Bytes => Value::Bytes(self.try_get_unchecked::<Vec<u8>, _>(index)?.into()),
            _ => Value::String(self.try_get_unchecked(index)?),
        })
    }

    fn write(&self, index: usize, kind: Kind, format: DateTimeFormat, out: &mut Vec<u8>) -> sqlx::Result<bool> {
        let written = match kind {
            Kind::Integer => {
                self.try_get_unchecked::<Option<i64>, _>(index)?.map(|n| write_value(&Value::Int64(n), out))
            }
            Kind::Float64 => {
                self.try_get_unchecked::<Option<f64>, _>(index)?.map(|n| write_value(&Value::Float64(n), out))
            }
            Kind::Float32 => Some(write_value(&self.decode(index, kind)?, out)),
            Kind::Bytes => Some(false),
            _ => self.try_get_unchecked::<Option<&str>, _>(index)?.map(|text| {
                write_text(text, kind, format, out);
                true
            }),
        };
        Ok(written.unwrap_or_else(|| write_value(&Value::Null, out)))
    }
}
