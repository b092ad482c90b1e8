//! The floor of `rds-source`: the bare driver reads one table by the connector's own query and touches every column.
//!
//! ```text
//! time cargo run --release -p ottla-connector-rds --example bare_read -- postgres://HOST:PORT/DATABASE TABLE stream
//! ```
//!
//! `TABLE` has columns `id bigint`, `customer`, `city` (text), `amount double`, `quantity integer`, `created_at timestamp`. The
//! last word is `stream` (one query, rows as they come) or `pages` (500 rows a query, as a reader has to that may stop
//! anywhere). User and password come from `OTTLA_TEST_DB_USER` and `OTTLA_TEST_DB_PASSWORD`.

#![allow(clippy::print_stdout)] // It is a program.

use futures::TryStreamExt as _;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};

macro_rules! read {
    ($options:ty, $url:expr, $user:expr, $password:expr, $sql:expr, $get:ident, $pages:expr, $parameter:expr) => {{
        let options: $options = $url.parse().expect("a URL");
        let mut connection = options.username(&$user).password(&$password).connect().await.expect("connect");
        let (mut rows, mut bytes, mut last) = (0u64, 0u64, i64::MIN);
        macro_rules! touch {
            ($row:expr) => {{
                let row = &$row;
                last = row.$get::<i64, _>(0).expect("id");
                let amount: f64 = row.$get(3).expect("amount");
                let quantity: i64 = row.$get(4).expect("quantity");
                let texts = [1, 2, 5].map(|column| row.$get::<&str, _>(column).expect("text").len() as u64);
                bytes += texts.iter().sum::<u64>() + u64::from(amount > 0.0) + u64::from(quantity > 0);
                rows += 1;
            }};
        }
        if $pages {
            let sql = format!("{} WHERE id > {} ORDER BY id LIMIT 500", $sql, $parameter);
            loop {
                let before = rows;
                let page = sqlx::query(AssertSqlSafe(sql.clone())).bind(last).fetch_all(&mut connection).await;
                for row in page.expect("a page") {
                    touch!(row);
                }
                if rows - before < 500 {
                    break;
                }
            }
        } else {
            let sql = format!("{} ORDER BY id", $sql);
            let mut stream = sqlx::query(AssertSqlSafe(sql)).fetch(&mut connection);
            while let Some(row) = stream.try_next().await.expect("a row") {
                touch!(row);
            }
        }
        (rows, bytes, last)
    }};
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, table, how] = arguments.as_slice() else { panic!("bare_read URL TABLE stream|pages") };
    let set = |name: &str| std::env::var(name).unwrap_or_default();
    let (user, password) = (set("OTTLA_TEST_DB_USER"), set("OTTLA_TEST_DB_PASSWORD"));
    let pages = how == "pages";
    let (rows, bytes, last) = if url.starts_with("postgres") {
        let sql = format!(
            "SELECT id::int8, customer::text, city::text, amount::float8, quantity::int8, created_at::text FROM {table}"
        );
        read!(sqlx::postgres::PgConnectOptions, url, user, password, sql, try_get, pages, "$1")
    } else {
        let sql = format!(
            "SELECT CAST(id AS SIGNED), CAST(customer AS CHAR), CAST(city AS CHAR), amount, CAST(quantity AS SIGNED), \
             CAST(created_at AS CHAR) FROM {table}"
        );
        read!(sqlx::mysql::MySqlConnectOptions, url, user, password, sql, try_get_unchecked, pages, "?")
    };
    println!("{rows} rows up to {last}, {bytes} bytes touched");
}
