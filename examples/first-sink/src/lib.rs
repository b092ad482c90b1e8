//! The smallest sink that loses nothing: it appends the values of records to a file, at least once.
//!
//! Run it, at the top of the repository:
//!
//! ```sh
//! cargo build -p first-sink
//! ottla run examples/first-sink/example.toml --until caught-up
//! ```
//!
//! For a sink that writes each record exactly once, see what `ottla new sink NAME` makes.

use std::path::PathBuf;

use async_trait::async_trait;
use ottla_api::data::json;
use ottla_api::prelude::*;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

/// Options of `first-sink`.
#[derive(Debug, Config)]
pub struct FirstSinkConfig {
    /// The file to append to.
    #[config(name = "file")]
    pub file: PathBuf,
}

/// Makes tasks.
#[derive(Debug)]
pub struct FirstSink;

impl SinkConnector for FirstSink {
    fn task(&self, properties: &Properties) -> Result<Box<dyn SinkTask>> {
        let config = FirstSinkConfig::from_properties(properties)?;
        Ok(Box::new(FirstSinkTask { config, file: None, accepted: Positions::new() }))
    }
}

struct FirstSinkTask {
    config: FirstSinkConfig,
    file: Option<File>,
    /// Per open partition: everything before this offset was put.
    accepted: Positions,
}

#[async_trait]
impl SinkTask for FirstSinkTask {
    async fn start(&mut self, _context: &SinkTaskContext) -> Result<()> {
        let file = File::options().append(true).create(true).open(&self.config.file).await;
        self.file = Some(file.or_error(ErrorKind::Config, format!("file: open {}", self.config.file.display()))?);
        Ok(())
    }

    async fn open(&mut self, committed: &Positions) -> Result<Positions> {
        // The file does not know which records it holds, so the committed positions are where we go on.
        self.accepted.extend(committed.iter().filter(|(_, position)| **position >= 0).map(|(p, n)| (p.clone(), *n)));
        Ok(Positions::new())
    }

    async fn put(&mut self, batch: &SinkBatch) -> Result<()> {
        let mut lines = Vec::new();
        for record in &batch.records {
            record.record.value.write_json(&json::WriteOptions::default(), &mut lines);
            lines.push(b'\n');
        }
        let file = self.file.as_mut().ok_or_else(|| Error::fatal("the task is not started"))?;
        file.write_all(&lines).await.or_error(ErrorKind::Retriable, "write")?;
        self.accepted.insert(batch.partition.clone(), batch.next_offset);
        Ok(())
    }

    async fn flush(&mut self, _reason: FlushReason) -> Result<Positions> {
        // What is reported here is committed, and never comes again: first it has to be on the disk.
        if let Some(file) = &mut self.file {
            file.flush().await.or_error(ErrorKind::Retriable, "write")?;
            file.sync_data().await.or_error(ErrorKind::Fatal, "sync")?;
        }
        Ok(self.accepted.clone())
    }

    async fn close(&mut self, partitions: &[TopicPartition], _reason: CloseReason) -> Result<()> {
        self.accepted.retain(|partition, _| !partitions.contains(partition));
        Ok(())
    }
}

/// The plugins of this library.
pub const PLUGINS: &[Plugin] = &[Plugin {
    name: "first-sink",
    aliases: &[],
    version: env!("CARGO_PKG_VERSION"),
    doc: "Appends values to a file, as lines of JSON.",
    definition: &FirstSinkConfig::definition,
    constructor: Constructor::Sink(&|| Box::new(FirstSink)),
}];

ottla_api::export_plugins!(PLUGINS);
