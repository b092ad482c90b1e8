//! The floors of a source of rows: a bare driver that reads a query, and one that also sends what it read to a topic.

#![expect(clippy::print_stdout, reason = "the driver reads what a program prints")]

use std::error::Error;
use std::fmt::Write;
use std::time::Duration;

use clap::Parser;
use futures::TryStreamExt;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use sqlx::mysql::MySqlConnection;
use sqlx::postgres::PgConnection;
use sqlx::{ColumnIndex, Connection, Decode, Row, Type, ValueRef};

/// Reads the rows of a query one after the other: an integer `id` first, then texts.
#[derive(Debug, Parser)]
struct Args {
    /// `mysql://user:password@host:port/database` or `postgres://..`; or set DATABASE_URL.
    #[arg(long)]
    url: Option<String>,
    #[arg(long)]
    query: String,
    /// Sends each row as a JSON object to `--topic` of this broker, host:port. Texts must need no escapes.
    #[arg(long, requires = "topic")]
    bootstrap: Option<String>,
    #[arg(long)]
    topic: Option<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = Args::parse();
    // In the environment rather than in the arguments, where every user of a machine sees the password.
    let given = args.url.take().or_else(|| std::env::var("DATABASE_URL").ok());
    let url = given.ok_or("neither --url nor DATABASE_URL is set")?;
    let query = sqlx::AssertSqlSafe(args.query.clone());
    let mut rows = Rows::new(args)?;
    // The two kinds of rows have no common type, so the loop stands here twice.
    if url.starts_with("postgres") {
        let mut connection = PgConnection::connect(&url).await?;
        let mut stream = sqlx::query(query).fetch(&mut connection);
        while let Some(row) = stream.try_next().await? {
            rows.take(&row)?;
        }
    } else {
        let mut connection = MySqlConnection::connect(&url).await?;
        let mut stream = sqlx::query(query).fetch(&mut connection);
        while let Some(row) = stream.try_next().await? {
            rows.take(&row)?;
        }
    }
    rows.finish()
}

/// What becomes of the rows.
struct Rows {
    records: u64,
    values: u64,
    to: Option<(ThreadedProducer<DefaultProducerContext>, String)>,
    text: String,
}

impl Rows {
    fn new(args: Args) -> Result<Self, Box<dyn Error>> {
        let to = match args.bootstrap.zip(args.topic) {
            Some((bootstrap, topic)) => {
                let mut config = ClientConfig::new();
                config.set("bootstrap.servers", bootstrap).set("enable.idempotence", "true").set("linger.ms", "20");
                Some((config.create()?, topic))
            }
            None => None,
        };
        Ok(Self { records: 0, values: 0, to, text: String::new() })
    }

    fn take<R: Row>(&mut self, row: &R) -> Result<(), Box<dyn Error>>
    where
        usize: ColumnIndex<R>,
        for<'r> i64: Decode<'r, R::Database> + Type<R::Database>,
        for<'r> &'r str: Decode<'r, R::Database> + Type<R::Database>,
    {
        self.records += 1;
        let Some((producer, topic)) = &self.to else {
            for column in 0..row.len() {
                self.values += u64::from(!row.try_get_raw(column)?.is_null());
            }
            return Ok(());
        };
        self.text.clear();
        write!(self.text, "{{\"id\":{}", row.try_get::<i64, usize>(0)?)?;
        for column in 1..row.len() {
            write!(self.text, ",\"column{column}\":\"{}\"", row.try_get::<&str, usize>(column)?)?;
        }
        self.text.push('}');
        let mut record: BaseRecord<'_, (), str> = BaseRecord::to(topic).payload(&self.text);
        while let Err((error, back)) = producer.send(record) {
            if !matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) {
                return Err(error.into());
            }
            std::thread::sleep(Duration::from_millis(1));
            record = back;
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Box<dyn Error>> {
        if let Some((producer, _)) = &self.to {
            producer.flush(Duration::from_secs(300))?;
        }
        println!("{}", serde_json::json!({ "records": self.records, "values": self.values }));
        Ok(())
    }
}
