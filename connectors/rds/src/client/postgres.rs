//! PostgreSQL: its catalogue, its types, its errors.

use std::str::FromStr;

use futures::TryStreamExt as _;
use ottla_api::data::Value;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgRow, PgSslMode};
use sqlx::{ConnectOptions, Row, ValueRef};
use tokio::sync::Mutex;

use super::page::{DriverRow, Page, write_text, write_value};
use super::{
    ColumnAccess, ColumnType, Database, Dialect, Kind, Statement, bind_values, over_the_pool, pool_options, widen,
};
use crate::config::{Connection, DateTimeFormat, Tls};

pub(super) struct Postgres {
    pool: PgPool,
    /// What reads pages.
    reader: Mutex<Option<PoolConnection<sqlx::Postgres>>>,
    options: PgConnectOptions,
}

impl Postgres {
    pub(super) fn open(url: &str, connection: &Connection) -> sqlx::Result<Self> {
        // sqlx sets ISO dates and UTC for its sessions, which the casts to text below rely on.
        let mut options = PgConnectOptions::from_str(url)?.disable_statement_logging().application_name("ottla");
        if let Some(user) = &connection.user {
            options = options.username(user);
        }
        if let Some(password) = &connection.password {
            options = options.password(password.expose());
        }
        if let Some(tls) = connection.tls {
            options = options.ssl_mode(match tls {
                Tls::Disable => PgSslMode::Disable,
                Tls::Prefer => PgSslMode::Prefer,
                Tls::Require => PgSslMode::Require,
                Tls::VerifyCa => PgSslMode::VerifyCa,
                Tls::VerifyFull => PgSslMode::VerifyFull,
            });
        }
        if let Some(path) = &connection.tls_ca {
            options = options.ssl_root_cert(path);
        }
        Ok(Self {
            pool: pool_options(connection.timeout).connect_lazy_with(options.clone()),
            reader: Mutex::default(),
            options,
        })
    }
}

over_the_pool!(Postgres);

impl Dialect for Postgres {
    fn quote(&self) -> char {
        '"'
    }

    fn parameter(&self, number: usize) -> String {
        format!("${number}")
    }

    fn integer(&self, expression: &str) -> String {
        format!("({expression})::int8")
    }

    fn tables_sql(&self) -> &'static str {
        // Tables outside the search path go by their schema, too; a partition belongs to its table.
        "SELECT CASE WHEN pg_table_is_visible(c.oid) THEN c.relname::text ELSE n.nspname || '.' || c.relname END, \
         CASE WHEN c.relkind IN ('r', 'p') THEN 1 ELSE 0 END::int8 \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition \
         AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' ORDER BY 1"
    }

    fn columns_sql(&self) -> &'static str {
        // A domain is read as the type it is made of.
        "SELECT a.attname::text, COALESCE(b.typname, t.typname)::text, format_type(a.atttypid, NULL), \
         array_position(i.indkey::int2[], a.attnum)::int8 \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
         LEFT JOIN pg_catalog.pg_type b ON t.typtype = 'd' AND b.oid = t.typbasetype \
         LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisprimary \
         WHERE c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
         AND CASE WHEN $1::text IS NULL THEN pg_table_is_visible(c.oid) ELSE n.nspname = $1 END ORDER BY a.attnum"
    }

    fn column(&self, quoted: &str, type_name: &str, full_type: &str, _primary_key: bool) -> ColumnAccess {
        let cast = |to: &str| format!("{quoted}::{to}");
        let (kind, select) = match type_name {
            "int2" | "int4" | "int8" | "oid" => (Kind::Integer, cast("int8")),
            "float4" => (Kind::Float32, cast("float4")),
            "float8" => (Kind::Float64, cast("float8")),
            "numeric" => (Kind::Number, cast("text")),
            "bool" => (Kind::Boolean, cast("bool")),
            "bytea" => (Kind::Bytes, cast("bytea")),
            "timestamp" => (Kind::DateTime, cast("text")),
            // A cast would cut the blanks that fill it up.
            "bpchar" => (Kind::Text, quoted.to_owned()),
            // The session's zone is UTC; the text says so in the way that every reader knows.
            "timestamptz" => (Kind::DateTime, format!("({quoted} AT TIME ZONE 'UTC')::text || 'Z'")),
            // Texts, dates, times, JSON, UUIDs, enums, arrays, addresses, ranges.
            _ => (Kind::Text, cast("text")),
        };
        ColumnAccess { kind, select, compare: Some(format!("{{}}::{full_type}")) }
    }

    fn type_name(&self, column_type: ColumnType) -> &'static str {
        match column_type {
            ColumnType::Integer => "integer",
            ColumnType::Double => "double precision",
            ColumnType::Text => "text",
            ColumnType::DateTime => "timestamp",
        }
    }
}

impl DriverRow for PgRow {
    fn decode(&self, index: usize, kind: Kind) -> sqlx::Result<Value> {
        if self.try_get_raw(index)?.is_null() {
            return Ok(Value::Null);
        }
        Ok(match kind {
            Kind::Integer => Value::Int64(self.try_get(index)?),
            Kind::Float32 => Value::Float64(widen(self.try_get(index)?)),
            Kind::Float64 => Value::Float64(self.try_get(index)?),
            Kind::Boolean => Value::Boolean(self.try_get(index)?),
            Kind::Bytes => Value::Bytes(self.try_get::<Vec<u8>, _>(index)?.into()),
            _ => Value::String(self.try_get(index)?),
        })
    }

    fn write(&self, index: usize, kind: Kind, format: DateTimeFormat, out: &mut Vec<u8>) -> sqlx::Result<bool> {
        let raw = self.try_get_raw(index)?;
        if raw.is_null() {
            out.extend_from_slice(b"null");
            return Ok(true);
        }
        // Prepared statements answer in binary; whatever is not as expected is left to `decode`, which tells.
        let Ok(bytes) = raw.as_bytes() else { return Ok(false) };
        let number = || <[u8; 8]>::try_from(bytes).ok();
        Ok(match kind {
            Kind::Integer => match number() {
                Some(bytes) => write_value(&Value::Int64(i64::from_be_bytes(bytes)), out),
                None => false,
            },
            Kind::Float64 => match number() {
                Some(bytes) => write_value(&Value::Float64(f64::from_be_bytes(bytes)), out),
                None => false,
            },
            Kind::Float32 | Kind::Boolean => write_value(&self.decode(index, kind)?, out),
            Kind::Bytes => false,
            _ => match std::str::from_utf8(bytes) {
                Ok(text) => {
                    write_text(text, kind, format, out);
                    true
                }
                Err(_) => false,
            },
        })
    }
}
