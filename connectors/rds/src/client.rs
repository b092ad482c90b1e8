//! Talking to databases: the only place that knows SQL. What differs between them is in one file each.
//!
//! A connector sees tables with columns, rows of values, and four questions: the row at an offset, rows by key, the next page
//! of a table, how many rows there are. Integers and floating point numbers come as such; types that JSON doesn't have come
//! as the text that the database itself prints, which is why the queries cast such columns.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use ottla_api::prelude::*;
use sqlx::pool::PoolOptions;

use crate::config::{Connection, DatabaseUrl, DateTimeFormat};
use crate::error::{from_sqlx, unknown_name};

pub(crate) use self::page::PageRow;
use self::page::{Layout, Page};

#[cfg(feature = "mysql")]
mod mysql;
mod page;
#[cfg(feature = "postgres")]
mod postgres;
mod sqlite;

/// Adds `values` to the query as parameters, whatever the database.
macro_rules! bind_values {
    ($query:expr, $values:expr) => {{
        let mut query = $query;
        for value in $values {
            query = match value {
                Value::Boolean(flag) => query.bind(*flag),
                Value::Int64(n) => query.bind(*n),
                Value::Float64(n) => query.bind(*n),
                Value::Bytes(bytes) => query.bind(bytes.to_vec()),
                Value::String(text) => query.bind(text.clone()),
                Value::Number(text) => query.bind(text.to_string()),
                _ => query.bind(None::<String>),
            };
        }
        query
    }};
}

/// Implements [`Database`] for a type with the fields `pool`, `options` and `reader`, whose rows are
/// [`DriverRow`](page::DriverRow)s.
macro_rules! over_the_pool {
    ($type:ty) => {
        #[async_trait::async_trait]
        impl Database for $type {
            async fn rows(&self, sql: String, parameters: &[Value], kinds: &[Kind]) -> sqlx::Result<Vec<Vec<Value>>> {
                let query = bind_values!(sqlx::query(sqlx::AssertSqlSafe(sql)), parameters);
                let rows = query.fetch_all(&self.pool).await?;
                rows.iter()
                    .map(|row| kinds.iter().enumerate().map(|(index, kind)| row.decode(index, *kind)).collect())
                    .collect()
            }

            async fn page(&self, sql: &str, parameters: &[Value], page: &mut Page) -> sqlx::Result<()> {
                // Taking a connection from the pool, and giving it back, is a question to the server each. So one is kept
                // between pages, which ends with the first failure.
                let mut reader = self.reader.lock().await;
                loop {
                    let kept = reader.take();
                    let may_be_stale = kept.is_some();
                    let mut connection = match kept {
                        Some(connection) => connection,
                        None => self.pool.acquire().await?,
                    };
                    let read = async {
                        let query = bind_values!(sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())), parameters);
                        let mut rows = query.fetch(&mut *connection);
                        while let Some(row) = rows.try_next().await? {
                            page.add(&row)?;
                        }
                        sqlx::Result::Ok(())
                    };
                    match read.await {
                        Ok(()) => {
                            *reader = Some(connection);
                            return Ok(());
                        }
                        // Closed since the last page, perhaps.
                        Err(sqlx::Error::Io(_)) if may_be_stale => page.clear(),
                        Err(error) => return Err(error),
                    }
                }
            }

            async fn transaction(&self, statements: &mut (dyn Iterator<Item = Statement> + Send)) -> sqlx::Result<()> {
                let mut transaction = self.pool.begin().await?;
                for statement in statements {
                    let query = bind_values!(sqlx::query(sqlx::AssertSqlSafe(statement.sql)), &statement.parameters);
                    query.execute(&mut *transaction).await?;
                }
                transaction.commit().await
            }

            async fn probe(&self) -> sqlx::Result<()> {
                let connection = sqlx::ConnectOptions::connect(&self.options).await?;
                sqlx::Connection::close(connection).await
            }

            async fn close(&self) {
                // The pool waits for it.
                drop(self.reader.lock().await.take());
                self.pool.close().await;
            }
        }
    };
}
use {bind_values, over_the_pool};

/// The most connections of one client: a task asks one question at a time, and a dropped question may still hold one.
const CONNECTIONS_MAX: u32 = 2;

/// How long a broken pool looks for a connection before the reason is asked for.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// The options of every pool. A slow start of a connection is no news: the caller waits for it, and says so when in vain.
///
/// The pool gives up well before the query does, so that there is time left to ask for the reason.
fn pool_options<DB: sqlx::Database>(query_timeout: Duration) -> PoolOptions<DB> {
    PoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .acquire_timeout(ACQUIRE_TIMEOUT.min(query_timeout / 2))
        .acquire_slow_threshold(Duration::MAX)
}

/// Rows in one INSERT: with twelve columns well below every database's limit of parameters.
const INSERT_ROWS: usize = 500;

/// What one kind of database says differently.
trait Dialect: Send + Sync {
    /// The character around identifiers.
    fn quote(&self) -> char;

    /// The text of parameter number `number`, from 1.
    fn parameter(&self, number: usize) -> String;

    /// An expression as an integer of 64 bits.
    fn integer(&self, expression: &str) -> String;

    /// Lists the tables: name, 1 for a table and 0 for a view; ordered by name.
    fn tables_sql(&self) -> &'static str;

    /// Lists the columns of a table in their order, given schema (or null) and name: name, type as [`Self::column`] takes
    /// it, full type, place in the primary key (or null).
    fn columns_sql(&self) -> &'static str;

    /// How a column is read.
    fn column(&self, quoted: &str, type_name: &str, full_type: &str, primary_key: bool) -> ColumnAccess;

    /// A hidden column that orders every table, where the database has one for this table.
    fn row_id(&self, _quoted_table: &str) -> Option<String> {
        None
    }

    /// The name of a type in CREATE TABLE, and what follows the table's columns.
    fn type_name(&self, column_type: ColumnType) -> &'static str;

    /// What follows the columns in CREATE TABLE.
    fn table_options(&self) -> &'static str {
        ""
    }

    /// True where names may be written as `schema.table`.
    fn has_schemas(&self) -> bool {
        true
    }
}

/// One database.
#[async_trait]
trait Database: Dialect {
    /// Runs a query.
    async fn rows(&self, sql: String, parameters: &[Value], kinds: &[Kind]) -> sqlx::Result<Vec<Vec<Value>>>;

    /// Runs a query that reads a page.
    async fn page(&self, sql: &str, parameters: &[Value], page: &mut Page) -> sqlx::Result<()>;

    /// Runs statements, all or none.
    async fn transaction(&self, statements: &mut (dyn Iterator<Item = Statement> + Send)) -> sqlx::Result<()>;

    /// Connects past the pool, which swallows the reason when it can't.
    async fn probe(&self) -> sqlx::Result<()>;

    /// Lets go of all connections.
    async fn close(&self);
}

/// A statement with its parameters.
struct Statement {
    sql: String,
    parameters: Vec<Value>,
}

/// How a value is decoded once the query has cast it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Integer,
    /// Single precision: its shortest text is that of an `f32`.
    Float32,
    Float64,
    /// The text of a number of any size and precision.
    Number,
    Boolean,
    Text,
    /// Text of date and time.
    DateTime,
    Bytes,
    /// SQLite: what the row itself says.
    Any,
    /// SQLite: a column declared to hold date and time.
    AnyDateTime,
    /// SQLite: a column declared to hold booleans.
    AnyBoolean,
}

/// How a column is read, as its database knows.
struct ColumnAccess {
    kind: Kind,
    /// The column, cast where that is needed.
    select: String,
    /// A parameter to compare the column with, `{}` being the parameter; none where that isn't exact.
    compare: Option<String>,
}

/// A column of a table.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    quoted: String,
    select: String,
    compare: Option<String>,
    /// Place in the primary key.
    key: Option<i64>,
}

/// A table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
    quoted: String,
    /// What orders its rows for paging, and identifies them; empty where nothing does.
    paging: Vec<Column>,
    /// How pages of it are read, and what they select.
    layout: Layout,
    page_select: String,
}

/// The type of a column in a table that is made here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnType {
    Integer,
    Double,
    Text,
    DateTime,
}

/// A table that is made here. The first column is its primary key.
#[derive(Debug)]
pub(crate) struct TableDefinition {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [(&'static str, ColumnType)],
}

impl Table {
    /// The columns that order the rows: the named one, else the primary key, else the first.
    pub(crate) fn key(&self, named: Option<&str>) -> Result<Vec<Column>> {
        if let Some(named) = named {
            let column = self.columns.iter().find(|column| column.name == named);
            let existing: Vec<String> = self.columns.iter().map(|column| column.name.clone()).collect();
            return column
                .map(|column| vec![column.clone()])
                .ok_or_else(|| unknown_name("column", named, &format!("table '{}'", self.name), &existing));
        }
        let primary = self.primary_key();
        Ok(if primary.is_empty() { self.columns[..1].to_vec() } else { primary })
    }

    fn primary_key(&self) -> Vec<Column> {
        let mut columns: Vec<_> = self.columns.iter().filter(|column| column.key.is_some()).cloned().collect();
        columns.sort_by_key(|column| column.key);
        columns
    }

    /// True where `key` is the whole primary key, one column of integers: each number is there once at most.
    pub(crate) fn is_integer_key(&self, key: &[Column]) -> bool {
        let primary = self.primary_key();
        matches!((primary.as_slice(), key), ([primary], [key]) if primary.name == key.name && key.kind == Kind::Integer)
    }

    /// A row's values by the names of their columns.
    pub(crate) fn map(&self, values: Vec<Value>) -> Map {
        self.columns.iter().map(|column| column.name.clone()).zip(values).collect()
    }

    fn kinds(&self) -> Vec<Kind> {
        self.columns.iter().map(|column| column.kind).collect()
    }

    fn select(&self) -> String {
        self.columns.iter().map(|column| column.select.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// Where reading a table goes on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PagePosition {
    /// After the row with this key.
    After(Vec<Value>),
    /// After so many rows.
    Skip(u64),
}

/// A database, by a pool of connections that are made when needed.
pub(crate) struct Client {
    database: Box<dyn Database>,
    address: String,
    timeout: Duration,
    datetime_format: DateTimeFormat,
}

impl Client {
    /// Connects once, so that a wrong address or password is told as such, and then when needed.
    pub(crate) async fn connect(
        connection: &Connection,
        emulator: Option<&Path>,
        datetime_format: DateTimeFormat,
    ) -> Result<Self> {
        let address = connection.url.to_string();
        if let Some(path) = connection.tls_ca.as_ref().filter(|path| !path.is_file()) {
            return Err(Error::config(format!("connection.tls.ca: there is no file {}", path.display())));
        }
        let wrong = |error| from_sqlx(error, "connect", &address);
        let database: Box<dyn Database> = match (&connection.url, emulator) {
            (DatabaseUrl::Emulator, None) => return Err(Error::fatal("the emulated database has no file")),
            (DatabaseUrl::Emulator, Some(path)) => Box::new(sqlite::Sqlite::read_only(path)),
            (DatabaseUrl::Sqlite(url), _) => Box::new(sqlite::Sqlite::open(url).map_err(wrong)?),
            #[cfg(feature = "mysql")]
            (DatabaseUrl::MySql(url), _) => Box::new(mysql::MySql::open(url, connection).map_err(wrong)?),
            #[cfg(feature = "postgres")]
            (DatabaseUrl::Postgres(url), _) => Box::new(postgres::Postgres::open(url, connection).map_err(wrong)?),
            #[allow(unreachable_patterns)] // Reachable in builds without some of the databases.
            _ => return Err(Error::config("this build can't talk to that database").with("database", address)),
        };
        let client = Self { database, address, timeout: connection.timeout, datetime_format };
        client.run("connect", client.database.probe()).await?;
        Ok(client)
    }

    /// A new database in a file, for writing it quickly: what a crash leaves of it is of no use.
    pub(crate) fn create_sqlite(path: &Path) -> Result<Self> {
        Ok(Self {
            database: Box::new(sqlite::Sqlite::create(path)),
            address: path.display().to_string(),
            timeout: Duration::from_secs(600),
            datetime_format: DateTimeFormat::Sql,
        })
    }

    /// Lets go of all connections.
    pub(crate) async fn close(&self) {
        self.database.close().await;
    }

    /// Names of tables, and of views where `views` says so.
    pub(crate) async fn table_names(&self, views: bool) -> Result<Vec<String>> {
        let sql = self.database.tables_sql().to_owned();
        let rows = self.rows("list tables", sql, &[], &[Kind::Text, Kind::Integer]).await?;
        Ok(rows
            .into_iter()
            .filter(|row| views || row[1].as_i64() == Some(1))
            .filter_map(|row| row[0].as_str().map(str::to_owned))
            .collect())
    }

    /// A table with its columns. A table that doesn't exist is an error which says what does.
    pub(crate) async fn table(&self, name: &str) -> Result<Table> {
        match self.find_table(name).await? {
            Some(table) => Ok(table),
            None => Err(unknown_name("table", name, &self.address, &self.table_names(true).await?)),
        }
    }

    /// A table with its columns, if it exists.
    pub(crate) async fn find_table(&self, name: &str) -> Result<Option<Table>> {
        let (schema, table) = match name.split_once('.') {
            Some((schema, table)) if self.database.has_schemas() => (Value::from(schema), table),
            _ => (Value::Null, name),
        };
        let quoted = match &schema {
            Value::String(schema) => format!("{}.{}", self.quote(schema), self.quote(table)),
            _ => self.quote(table),
        };
        let kinds = [Kind::Text, Kind::Text, Kind::Text, Kind::Integer];
        let sql = self.database.columns_sql().to_owned();
        let rows = self.rows("read columns", sql, &[schema, table.into()], &kinds).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let keys = rows.iter().filter(|row| !row[3].is_null()).count();
        let columns = rows.iter().map(|row| {
            let (name, key) = (text(&row[0]), row[3].as_i64());
            let quoted = self.quote(&name);
            let access = self.database.column(&quoted, &text(&row[1]), &text(&row[2]), key.is_some() && keys == 1);
            Column { name, kind: access.kind, quoted, select: access.select, compare: access.compare, key }
        });
        let mut table = Table { name: name.to_owned(), columns: columns.collect(), quoted, ..Table::default() };
        table.paging = self.paging(&table).await;
        (table.layout, table.page_select) = Layout::new(&table.columns, &table.paging);
        Ok(Some(table))
    }

    /// The columns that page through a table: the hidden row number, else a primary key that can be compared exactly.
    async fn paging(&self, table: &Table) -> Vec<Column> {
        let primary = table.primary_key();
        if let Some(row_id) = self.database.row_id(&table.quoted) {
            // Views and tables without row numbers refuse the question. An alias keeps quotes of a name from making it text.
            let sql = format!("SELECT t.{row_id} FROM {} AS t LIMIT 1", table.quoted);
            let named_so = table.columns.iter().any(|column| column.name.eq_ignore_ascii_case(&row_id));
            let answer = self.rows("look for row numbers", sql, &[], &[Kind::Any]).await;
            let numbered = answer.is_ok_and(|rows| rows.iter().all(|row| row[0].as_i64().is_some()));
            if numbered && !named_so {
                return vec![Column {
                    name: row_id.clone(),
                    kind: Kind::Integer,
                    quoted: row_id.clone(),
                    select: row_id,
                    compare: Some("{}".to_owned()),
                    key: None,
                }];
            }
        }
        if primary.iter().all(|column| column.compare.is_some()) { primary } else { Vec::new() }
    }

    /// The row that has `offset` rows before it in the order of `key`.
    pub(crate) async fn row_at(&self, table: &Table, key: &[Column], offset: u64) -> Result<Option<Vec<Value>>> {
        let order = key.iter().map(|column| column.quoted.as_str()).collect::<Vec<_>>().join(", ");
        let parameter = self.database.parameter(1);
        let sql =
            format!("SELECT {} FROM {} ORDER BY {order} LIMIT 1 OFFSET {parameter}", table.select(), table.quoted);
        let rows = self.rows("read a row", sql, &[Value::Int64(offset as i64)], &table.kinds()).await;
        Ok(rows.map_err(|error| error.with("table", &table.name))?.pop())
    }

    /// The row whose column `key` equals `number`.
    pub(crate) async fn row_by_key(&self, table: &Table, key: &Column, number: u64) -> Result<Option<Vec<Value>>> {
        let parameter = self.database.parameter(1);
        let sql = format!("SELECT {} FROM {} WHERE {} = {parameter} LIMIT 1", table.select(), table.quoted, key.quoted);
        let rows = self.rows("read a row", sql, &[Value::Int64(number as i64)], &table.kinds()).await;
        Ok(rows.map_err(|error| error.with("table", &table.name))?.pop())
    }

    /// The rows whose column `key` equals one of `numbers`, by these numbers. Those that a comparison of integers doesn't
    /// find are not among them.
    pub(crate) async fn rows_by_key(
        &self,
        table: &Table,
        key: &Column,
        numbers: &[u64],
    ) -> Result<BTreeMap<u64, Vec<Value>>> {
        let Some(last) = numbers.last() else { return Ok(BTreeMap::new()) };
        // Few different lengths make few different statements, which the connection keeps prepared.
        let length = numbers.len().next_power_of_two();
        let padded: Vec<Value> =
            numbers.iter().chain(std::iter::repeat(last)).take(length).map(|n| Value::Int64(*n as i64)).collect();
        let parameters: Vec<String> = (1..=length).map(|number| self.database.parameter(number)).collect();
        let (select, from, key_name) = (table.select(), &table.quoted, &key.quoted);
        let sql =
            format!("SELECT {}, {select} FROM {from} WHERE {key_name} IN ({})", key.select, parameters.join(", "));
        let kinds: Vec<Kind> = std::iter::once(key.kind).chain(table.kinds()).collect();
        let rows = self.rows("read rows", sql, &padded, &kinds).await;
        let mut found = BTreeMap::new();
        for mut row in rows.map_err(|error| error.with("table", &table.name))? {
            if let Some(number) = row.remove(0).as_i64().and_then(|number| u64::try_from(number).ok()) {
                found.entry(number).or_insert(row);
            }
        }
        Ok(found)
    }

    /// The smallest key and the number of rows, where the keys are all the integers from that one on, without a gap. For a
    /// key of which [`Table::is_integer_key`] is true.
    pub(crate) async fn gapless(&self, table: &Table, key: &Column) -> Result<Option<(i64, u64)>> {
        let integer = |function: &str| self.database.integer(&format!("{function}({})", key.quoted));
        let sql = format!("SELECT {}, {}, {} FROM {}", integer("COUNT"), integer("MIN"), integer("MAX"), table.quoted);
        let rows = self.rows("look for gaps", sql, &[], &[Kind::Integer; 3]).await?;
        let number = |index: usize| rows.first().and_then(|row: &Vec<Value>| row[index].as_i64());
        Ok(match (number(0), number(1), number(2)) {
            (Some(count), Some(least), Some(largest)) if largest.checked_sub(least) == Some(count - 1) => {
                Some((least, count as u64))
            }
            _ => None,
        })
    }

    /// Up to `rows` rows of a table after a position; nothing is the table's beginning.
    pub(crate) async fn page(
        &self,
        table: &Table,
        position: Option<&PagePosition>,
        rows: usize,
    ) -> Result<Vec<PageRow>> {
        let paging = &table.paging;
        let mut parameters = Vec::new();
        let mut add = |value: Value| {
            parameters.push(value);
            self.database.parameter(parameters.len())
        };
        let names = paging.iter().map(|column| column.quoted.as_str()).collect::<Vec<_>>().join(", ");
        let mut skipped = 0;
        let condition = match position {
            Some(PagePosition::After(key)) if key.len() != paging.len() || key.is_empty() => {
                let message = "the stored offset doesn't fit the table: its primary key has changed since";
                return Err(Error::fatal(message).with("table", &table.name));
            }
            Some(PagePosition::After(key)) => {
                let bounds = key.iter().zip(paging).map(|(value, column)| {
                    let parameter = add(value.clone());
                    column.compare.as_deref().unwrap_or("{}").replace("{}", &parameter)
                });
                let bounds = bounds.collect::<Vec<_>>().join(", ");
                format!(" WHERE ({names}) > ({bounds})")
            }
            Some(PagePosition::Skip(rows)) => {
                skipped = *rows;
                String::new()
            }
            None => String::new(),
        };
        let order = if paging.is_empty() {
            // Rows that are equal in all columns may trade places unseen.
            (1..=table.columns.len()).map(|number| number.to_string()).collect::<Vec<_>>().join(", ")
        } else {
            names
        };
        let limit = add(Value::Int64(rows as i64));
        let offset = add(Value::Int64(skipped as i64));
        let (select, from) = (&table.page_select, &table.quoted);
        let sql = format!("SELECT {select} FROM {from}{condition} ORDER BY {order} LIMIT {limit} OFFSET {offset}");
        let mut page = Page::new(table.layout.clone(), self.datetime_format, rows);
        let read = self.run("read a page", self.database.page(&sql, &parameters, &mut page)).await;
        read.map_err(|error| error.with("table", &table.name))?;
        Ok(page.finish(skipped))
    }

    /// How many rows a table has.
    pub(crate) async fn count(&self, table: &Table) -> Result<u64> {
        let sql = format!("SELECT {} FROM {}", self.database.integer("COUNT(*)"), table.quoted);
        let rows = self.rows("count rows", sql, &[], &[Kind::Integer]).await?;
        Ok(rows.first().and_then(|row| row[0].as_i64()).unwrap_or_default() as u64)
    }

    /// Makes a table.
    pub(crate) async fn create_table(&self, definition: &TableDefinition) -> Result<()> {
        let columns: Vec<String> = definition
            .columns
            .iter()
            .enumerate()
            .map(|(number, (name, column_type))| {
                let key = if number == 0 { " PRIMARY KEY" } else { "" };
                format!("{} {}{key}", self.quote(name), self.database.type_name(*column_type))
            })
            .collect();
        let name = self.quote(definition.name);
        let sql = format!("CREATE TABLE {name} ({}){}", columns.join(", "), self.database.table_options());
        let statement = Statement { sql, parameters: Vec::new() };
        self.run("create a table", self.database.transaction(&mut std::iter::once(statement))).await
    }

    /// Writes rows into a table, all or none. `progress` is told how many have been sent.
    pub(crate) async fn insert(
        &self,
        definition: &TableDefinition,
        rows: &mut (dyn Iterator<Item = Vec<Value>> + Send),
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<()> {
        let name = self.quote(definition.name);
        let columns: Vec<String> = definition.columns.iter().map(|(name, _)| self.quote(name)).collect();
        let beginning = format!("INSERT INTO {name} ({}) VALUES ", columns.join(", "));
        let mut sent = 0;
        let mut statements = std::iter::from_fn(|| {
            let batch: Vec<Vec<Value>> = rows.take(INSERT_ROWS).collect();
            progress(sent);
            if batch.is_empty() {
                return None;
            }
            sent += batch.len() as u64;
            let mut sql = beginning.clone();
            let mut number = 0;
            for row in &batch {
                sql.push_str(if number == 0 { "(" } else { ", (" });
                for (index, (_, column_type)) in definition.columns[..row.len()].iter().enumerate() {
                    number += 1;
                    let parameter = self.database.parameter(number);
                    let separator = if index == 0 { "" } else { ", " };
                    match (column_type, self.database.quote()) {
                        // PostgreSQL's parameters have the type of what is bound, not that of the column.
                        (_, '"') if parameter.starts_with('$') => {
                            let type_name = self.database.type_name(*column_type);
                            sql.push_str(&format!("{separator}{parameter}::{type_name}"));
                        }
                        _ => sql.push_str(&format!("{separator}{parameter}")),
                    }
                }
                sql.push(')');
            }
            Some(Statement { sql, parameters: batch.into_iter().flatten().collect() })
        });
        self.run("insert rows", self.database.transaction(&mut statements)).await
    }

    /// Runs a query and decodes its rows.
    async fn rows(&self, doing: &str, sql: String, parameters: &[Value], kinds: &[Kind]) -> Result<Vec<Vec<Value>>> {
        let mut rows = self.run(doing, self.database.rows(sql, parameters, kinds)).await?;
        for row in &mut rows {
            for (value, kind) in row.iter_mut().zip(kinds) {
                finish(value, *kind, self.datetime_format);
            }
        }
        Ok(rows)
    }

    /// Waits for the database, but not for ever, and names what went wrong.
    async fn run<T>(&self, doing: &str, work: impl Future<Output = sqlx::Result<T>> + Send) -> Result<T> {
        let silent = || {
            let message = format!("{doing}: the database gave no answer within {} ms", self.timeout.as_millis());
            Error::unreachable(message).with("database", &self.address)
        };
        let error = match tokio::time::timeout(self.timeout, work).await {
            Err(_) => return Err(silent()),
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
        };
        // The pool tries and tries, and says only that it gave up.
        let reason = match error {
            sqlx::Error::PoolTimedOut => match tokio::time::timeout(self.timeout, self.database.probe()).await {
                Err(_) => return Err(silent()),
                Ok(Err(reason)) => reason,
                Ok(Ok(())) => sqlx::Error::PoolTimedOut,
            },
            error => error,
        };
        Err(from_sqlx(reason, doing, &self.address))
    }

    fn quote(&self, name: &str) -> String {
        let quote = self.database.quote();
        let mut quoted = String::with_capacity(name.len() + 2);
        quoted.push(quote);
        for character in name.chars() {
            if character == quote {
                quoted.push(quote);
            }
            quoted.push(character);
        }
        quoted.push(quote);
        quoted
    }
}

/// What all databases have in common about a value that was decoded as its kind says.
fn finish(value: &mut Value, kind: Kind, format: DateTimeFormat) {
    match (kind, &mut *value) {
        (Kind::DateTime | Kind::AnyDateTime, Value::String(text)) if is_date_and_time(text) => {
            text.replace_range(SEPARATOR..=SEPARATOR, format.separator());
        }
        (Kind::AnyBoolean, Value::Int64(flag @ (0 | 1))) => *value = Value::Boolean(*flag == 1),
        (Kind::Number, Value::String(text)) => {
            if let Some(number) = number(text) {
                *value = number;
            }
        }
        _ => {}
    }
}

/// A number's text as a value: an integer where it is one, else the text; nothing for what JSON doesn't call a number, such
/// as PostgreSQL's `NaN`.
fn number(text: &str) -> Option<Value> {
    match text.parse() {
        Ok(integer) => Some(Value::Int64(integer)),
        Err(_) => is_plain_number(text).then(|| Value::Number(text.into())),
    }
}

/// Whether a text is a number as JSON writes it, without an exponent.
fn is_plain_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    all_digits(whole) && all_digits(fraction) && (whole == "0" || !whole.starts_with('0'))
}

/// Where in a text of date and time the date ends. Up to there nothing has to be escaped in JSON.
const SEPARATOR: usize = 10;

/// Whether a text looks like date and time.
fn is_date_and_time(text: &str) -> bool {
    const SHAPE: &[u8] = b"0000-00-00 00:00:00";
    text.len() >= SHAPE.len()
        && text.bytes().zip(SHAPE).all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            b' ' => byte == b' ' || byte == b'T' || byte == b't',
            shape => byte == *shape,
        })
}

/// A single precision number as the double that prints the same.
fn widen(n: f32) -> f64 {
    // Rust prints the shortest text that reads back as the same f32; NaN and the infinities have texts too.
    n.to_string().parse().unwrap_or(f64::from(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_precision_number_keeps_its_shortest_text() {
        for n in [-88.8298_f32, 0.1, 1e10, -170.188, 16_777_216.0, f32::MIN_POSITIVE] {
            assert_eq!(widen(n).to_string(), n.to_string());
        }
        assert!(widen(f32::NAN).is_nan());
    }

    #[test]
    fn date_and_time_are_separated_as_wished() {
        for (text, sql, iso) in [
            ("2020-08-28 03:52:47", "2020-08-28 03:52:47", "2020-08-28T03:52:47"),
            ("2020-08-28T03:52:47.250Z", "2020-08-28 03:52:47.250Z", "2020-08-28T03:52:47.250Z"),
            ("2020-08-28", "2020-08-28", "2020-08-28"),
            ("28 August 2020 at 3:52", "28 August 2020 at 3:52", "28 August 2020 at 3:52"),
            ("0000-00-00 00:00:00", "0000-00-00 00:00:00", "0000-00-00T00:00:00"),
        ] {
            for (format, expected) in [(DateTimeFormat::Sql, sql), (DateTimeFormat::Iso, iso)] {
                let mut value = Value::from(text);
                finish(&mut value, Kind::DateTime, format);
                assert_eq!(value, Value::from(expected));
            }
        }
    }

    #[test]
    fn decimals_keep_every_digit_and_integers_are_integers() {
        assert_eq!(number("12.30"), Some(Value::Number("12.30".into())));
        assert_eq!(number("-5"), Some(Value::Int64(-5)));
        assert_eq!(number("18446744073709551615"), Some(Value::Number("18446744073709551615".into())));
        for not_json in ["NaN", "Infinity", "007.50", ".5", "1.", "1e5", "-"] {
            assert_eq!(number(not_json), None, "{not_json}");
        }
    }
}
