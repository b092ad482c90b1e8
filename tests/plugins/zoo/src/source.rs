//! `zoo-source`: the lines of a file as JSON values, each once.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use ottla_api::prelude::*;

pub(crate) const DOC: &str = "Reads the lines of a file as JSON, each once, and then waits for more.";

/// Lines of one poll.
const BATCH_MAX: usize = 100;

/// Options of `zoo-source`.
#[derive(Debug, Clone, Config)]
pub(crate) struct ZooSourceConfig {
    /// The file to read.
    #[config(name = "file")]
    pub file: PathBuf,
    /// The topic that receives the records.
    #[config(name = "topic")]
    pub topic: String,
}

/// Makes the task. There is one: the lines are in an order.
pub(crate) struct ZooSource;

impl SourceConnector for ZooSource {
    fn tasks(&self, properties: &Properties, _tasks_max: usize) -> Result<Vec<Box<dyn SourceTask>>> {
        let config = ZooSourceConfig::from_properties(properties)?;
        let partition = SourcePartition::new([("file", config.file.display().to_string())]);
        Ok(vec![Box::new(ZooSourceTask { config, partition, place: 0 })])
    }
}

struct ZooSourceTask {
    config: ZooSourceConfig,
    partition: SourcePartition,
    /// Bytes of the file before the next line.
    place: i64,
}

impl ZooSourceTask {
    fn next_lines(&self) -> std::io::Result<Vec<(String, i64)>> {
        let mut file = File::open(&self.config.file)?;
        file.seek(SeekFrom::Start(self.place as u64))?;
        let (mut reader, mut place, mut lines) = (BufReader::new(file), self.place, Vec::new());
        while lines.len() < BATCH_MAX {
            let mut line = String::new();
            place += reader.read_line(&mut line)? as i64;
            // A line without its end is still being written.
            if !line.ends_with('\n') {
                break;
            }
            lines.push((line, place));
        }
        Ok(lines)
    }
}

#[async_trait]
impl SourceTask for ZooSourceTask {
    async fn start(&mut self, context: &SourceTaskContext) -> Result<()> {
        if let Some(offset) = context.offset(&self.partition)? {
            let place = offset.get_i64("place");
            self.place =
                place.ok_or_else(|| Error::fatal("the stored offset has no place").with("offset", offset.to_json()))?;
        }
        Ok(())
    }

    async fn poll(&mut self) -> Result<SourcePoll> {
        let file = self.config.file.display().to_string();
        let lines = self.next_lines().or_error(ErrorKind::Retriable, format!("read {file}"))?;
        if lines.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            return Ok(SourcePoll::CaughtUp);
        }
        let mut records = Vec::with_capacity(lines.len());
        for (line, place) in lines {
            // As whoever uses serde would do it: parsed here, and written anew.
            let value: serde_json::Value = serde_json::from_str(&line).map_err(|error| {
                Error::fatal("the line is not JSON").with("file", &file).with("place", place).caused_by(error)
            })?;
            let mut record = Record::new(self.config.topic.as_str(), Value::Null);
            record.value = Payload::json(value.to_string().into());
            let offset = SourceOffset::new([("place", place)]);
            records.push(SourceRecord::new(record, self.partition.clone(), offset));
            self.place = place;
        }
        Ok(SourcePoll::Records(records))
    }
}
