//! The three tables of the emulated database, written into a real one: to see the emulation run against it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use ottla_api::config::ConfigValue;
use ottla_api::data::json;
use ottla_api::prelude::*;

use crate::client::{Client, ColumnType, Kind, Table, TableDefinition};
use crate::config::{Connection, DatabaseUrl, DateTimeFormat};
use crate::emulator::{Generator, ROWS, TABLES};

/// Writes the generated rows into the database at `url` (`sqlite://PATH`, `mysql://..`, `postgres://..`). A SQLite file is
/// made where there is none.
///
/// A table that is complete is left alone, so that a load that was interrupted goes on. `progress` is told the table, its
/// rows so far, and how many there will be.
///
/// # Errors
///
/// Of kind config, where a table of that name exists with other columns or with another number of rows: nothing that
/// somebody else wrote is overwritten.
pub async fn load(
    url: &str,
    user: Option<&str>,
    password: Option<&Secret>,
    mut progress: impl FnMut(&str, u64, u64) + Send,
) -> Result<()> {
    let client = connect(url, user, password).await?;
    let generator = Generator::new();
    for (number, definition) in TABLES.iter().enumerate() {
        let mut rows = (0..ROWS).map(|index| generator.row(number, index));
        load_table(&client, definition, ROWS, &mut rows, &mut progress).await?;
    }
    client.close().await;
    Ok(())
}

/// Writes rows from files instead: `pin.jsonl`, `geo.jsonl` and `user.jsonl` in `folder`, one JSON object a line with the
/// columns of the tables. Otherwise as [`load`].
pub async fn load_jsonl(
    url: &str,
    user: Option<&str>,
    password: Option<&Secret>,
    folder: &Path,
    mut progress: impl FnMut(&str, u64, u64) + Send,
) -> Result<()> {
    let client = connect(url, user, password).await?;
    for (definition, file) in TABLES.iter().zip(["pin.jsonl", "geo.jsonl", "user.jsonl"]) {
        let path = folder.join(file);
        let rows = read_jsonl(&path, definition).map_err(|error| error.with("path", path.display()))?;
        let total = rows.len() as u64;
        load_table(&client, definition, total, &mut rows.into_iter(), &mut progress).await?;
    }
    client.close().await;
    Ok(())
}

async fn connect(url: &str, user: Option<&str>, password: Option<&Secret>) -> Result<Client> {
    let url = match DatabaseUrl::parse(url).map_err(|message| Error::config(format!("the database's URL {message}")))? {
        DatabaseUrl::Emulator => return Err(Error::config("the emulator has these tables already")),
        DatabaseUrl::Sqlite(url) if !url.contains('?') => DatabaseUrl::Sqlite(format!("{url}?mode=rwc")),
        url => url,
    };
    let connection = Connection {
        url,
        user: user.map(str::to_owned),
        password: password.cloned(),
        tls: None,
        tls_ca: None,
        // One transaction a table: the slowest disk must have time for it.
        timeout: Duration::from_secs(600),
    };
    Client::connect(&connection, None, DateTimeFormat::Sql).await
}

async fn load_table(
    client: &Client,
    definition: &TableDefinition,
    total: u64,
    rows: &mut (dyn Iterator<Item = Vec<Value>> + Send),
    progress: &mut (impl FnMut(&str, u64, u64) + Send),
) -> Result<()> {
    let name = definition.name;
    match client.find_table(name).await? {
        None => client.create_table(definition).await?,
        Some(table) => {
            check_columns(&table, definition)?;
            match client.count(&table).await? {
                // The table was made, and nothing more: rows come all or none.
                0 => {}
                count if count == total => {
                    progress(name, total, total);
                    return Ok(());
                }
                count => {
                    let message = format!("table '{name}' holds {count} rows instead of {total}; drop it first");
                    return Err(Error::config(message));
                }
            }
        }
    }
    client.insert(definition, rows, &mut |sent| progress(name, sent, total)).await
}

/// Checks that an existing table is the one that would be made.
fn check_columns(table: &Table, definition: &TableDefinition) -> Result<()> {
    let fits = |kind: Kind, column_type: ColumnType| match column_type {
        ColumnType::Integer => matches!(kind, Kind::Integer | Kind::Any),
        ColumnType::Double => matches!(kind, Kind::Float32 | Kind::Float64 | Kind::Any),
        ColumnType::Text => matches!(kind, Kind::Text | Kind::Any),
        ColumnType::DateTime => matches!(kind, Kind::DateTime | Kind::AnyDateTime | Kind::Any),
    };
    let same = table.columns.len() == definition.columns.len()
        && table
            .columns
            .iter()
            .zip(definition.columns)
            .all(|(column, (name, column_type))| column.name == *name && fits(column.kind, *column_type));
    if same {
        return Ok(());
    }
    let found = table.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
    let wanted = definition.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let name = definition.name;
    Err(Error::config(format!("table '{name}' exists with other columns ({found}) than needed ({wanted})")))
}

/// The rows of a file, each in the order of the table's columns.
fn read_jsonl(path: &Path, definition: &TableDefinition) -> Result<Vec<Vec<Value>>> {
    let file = std::fs::File::open(path).or_error(ErrorKind::Config, "open a file of rows")?;
    let mut rows = Vec::new();
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line.or_error(ErrorKind::Config, "read a file of rows")?;
        let wrong = |error: Error| error.of_kind(ErrorKind::Config).with("line", number + 1);
        let row = json::parse(line.as_bytes()).map_err(wrong)?;
        let column = |(name, _): &(&str, ColumnType)| match row.field(name) {
            Some(value) => Ok(value.clone()),
            None => Err(wrong(Error::config(format!("there is no field '{name}'")))),
        };
        rows.push(definition.columns.iter().map(column).collect::<Result<_>>()?);
    }
    Ok(rows)
}
