//! The floor of a source of rows: a bare driver that reads the same query and looks at every column.

#![expect(clippy::print_stdout, reason = "the driver reads what a program prints")]

use std::error::Error;

use clap::Parser;
use futures::TryStreamExt;
use sqlx::mysql::MySqlConnection;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row, ValueRef};

/// Reads the rows of a query one after the other and adds up what is in them.
#[derive(Debug, Parser)]
struct Args {
    /// `mysql://user:password@host:port/database` or `postgres://..`; or set DATABASE_URL.
    #[arg(long)]
    url: Option<String>,
    #[arg(long)]
    query: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    // In the environment rather than in the arguments, where every user of a machine sees the password.
    let url = args.url.or_else(|| std::env::var("DATABASE_URL").ok()).ok_or("neither --url nor DATABASE_URL is set")?;
    let (rows, values) = match url.starts_with("postgres") {
        true => read_postgres(&url, args.query).await?,
        false => read_mysql(&url, args.query).await?,
    };
    println!("{}", serde_json::json!({ "records": rows, "values": values }));
    Ok(())
}

async fn read_postgres(url: &str, query: String) -> Result<(u64, u64), sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    let (mut rows, mut values) = (0, 0);
    let mut stream = sqlx::query(sqlx::AssertSqlSafe(query)).fetch(&mut connection);
    while let Some(row) = stream.try_next().await? {
        rows += 1;
        for column in 0..row.len() {
            values += u64::from(!row.try_get_raw(column)?.is_null());
        }
    }
    Ok((rows, values))
}

async fn read_mysql(url: &str, query: String) -> Result<(u64, u64), sqlx::Error> {
    let mut connection = MySqlConnection::connect(url).await?;
    let (mut rows, mut values) = (0, 0);
    let mut stream = sqlx::query(sqlx::AssertSqlSafe(query)).fetch(&mut connection);
    while let Some(row) = stream.try_next().await? {
        rows += 1;
        for column in 0..row.len() {
            values += u64::from(!row.try_get_raw(column)?.is_null());
        }
    }
    Ok((rows, values))
}
