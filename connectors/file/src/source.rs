//! The source: a file's lines become records.

use std::io::SeekFrom;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use ottla_api::config::check_topic_name;
use ottla_api::data::SchemaType;
use ottla_api::prelude::*;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncSeekExt, BufReader};

use crate::config::{FileSourceConfig, Read};

/// Pause between two looks at a file that has nothing new.
const IDLE_PAUSE: Duration = Duration::from_millis(100);

/// How much is read from the file at once.
const BUFFER_BYTES: usize = 256 * 1024;

static LINE_SCHEMA: LazyLock<Arc<Schema>> = LazyLock::new(|| Schema::of(SchemaType::String));

/// Reads the lines of one file. A file has one task: lines are in an order.
#[derive(Debug)]
pub struct FileSource;

impl SourceConnector for FileSource {
    fn validate(&self, properties: &Properties) -> Vec<ConfigError> {
        let topic = properties.get("topic").map_or(Ok(()), check_topic_name);
        topic.err().map(|message| ConfigError::new("topic", message)).into_iter().collect()
    }

    fn tasks(&self, properties: &Properties, _tasks_max: usize) -> Result<Vec<Box<dyn SourceTask>>> {
        let config = FileSourceConfig::from_properties(properties)?;
        Ok(vec![Box::new(FileSourceTask::new(config))])
    }
}

/// Reads from where the durable offset says.
///
/// Whatever `poll` has read but not returned is kept in the task, so that its future may be dropped at any time.
#[derive(Debug)]
pub struct FileSourceTask {
    partition: SourcePartition,
    config: FileSourceConfig,
    /// The file, once it was there.
    reader: Option<BufReader<File>>,
    /// Where the next line begins, in bytes.
    position: u64,
    /// What is read of that line.
    line: Vec<u8>,
    /// Lines that were read and not returned.
    records: Vec<SourceRecord>,
}

impl FileSourceTask {
    /// A task that has not looked at the file yet.
    pub fn new(config: FileSourceConfig) -> Self {
        let partition = SourcePartition::new([("filename", config.file.display().to_string())]);
        Self { partition, config, reader: None, position: 0, line: Vec::new(), records: Vec::new() }
    }
}

#[async_trait]
impl SourceTask for FileSourceTask {
    async fn start(&mut self, context: &SourceTaskContext) -> Result<()> {
        if let Some(offset) = context.offset(&self.partition)? {
            let position = offset.get_i64("position").and_then(|position| u64::try_from(position).ok());
            // An offset that can't be read stops the task; from the beginning it would send everything twice.
            self.position = position.ok_or_else(|| {
                Error::fatal("the stored offset has no usable 'position'").with("offset", offset.to_json())
            })?;
        }
        Ok(())
    }

    async fn poll(&mut self) -> Result<SourcePoll> {
        while self.records.len() < self.config.batch_size && self.read_line().await? {
            self.take_line()?;
        }
        // At the end of a file that doesn't grow the last line is one without its line break, too.
        if self.config.read == Read::Once && self.records.is_empty() && !self.line.is_empty() {
            self.take_line()?;
        }
        if !self.records.is_empty() {
            return Ok(SourcePoll::Records(std::mem::take(&mut self.records)));
        }
        if self.config.read == Read::Once {
            return Ok(SourcePoll::Finished);
        }
        self.expect_growing().await?;
        tokio::time::sleep(IDLE_PAUSE).await;
        Ok(SourcePoll::CaughtUp)
    }
}

impl FileSourceTask {
    /// Reads on; true where the line is complete.
    async fn read_line(&mut self) -> Result<bool> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            // Not there yet, perhaps: the runtime tries again, and the status says why.
            none => none.insert(open(&self.config, self.position).await?),
        };
        // Dropping this future loses nothing: what was read is in `line`.
        let read = reader.read_until(b'\n', &mut self.line).await;
        read.or_error(ErrorKind::Retriable, format!("read {}", self.config.file.display()))?;
        Ok(self.line.ends_with(b"\n"))
    }

    /// Makes a record of the line that was read.
    fn take_line(&mut self) -> Result<()> {
        let text = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let text = std::str::from_utf8(text).map_err(|error| {
            let place = self.position + error.valid_up_to() as u64;
            Error::data("a line is not UTF-8 text").with("file", self.config.file.display()).with("byte", place)
        })?;
        let mut record = Record::new(self.config.topic.as_str(), Value::Null);
        record.value = Payload::with_schema(LINE_SCHEMA.clone(), text);
        self.position += self.line.len() as u64;
        let offset = SourceOffset::new([("position", self.position as i64)]);
        self.records.push(SourceRecord::new(record, self.partition.clone(), offset));
        self.line.clear();
        Ok(())
    }

    /// A file that was cut or replaced by a shorter one would never be read again.
    async fn expect_growing(&self) -> Result<()> {
        let metadata = tokio::fs::metadata(&self.config.file).await;
        let operation = format!("look at {}", self.config.file.display());
        let length = metadata.or_error(ErrorKind::Retriable, operation)?.len();
        expect_length(&self.config, length, self.position + self.line.len() as u64)
    }
}

/// Opens the file at a position.
async fn open(config: &FileSourceConfig, position: u64) -> Result<BufReader<File>> {
    let operation = format!("open {}", config.file.display());
    let mut file = File::open(&config.file).await.or_error(ErrorKind::Retriable, &operation)?;
    let length = file.metadata().await.or_error(ErrorKind::Retriable, &operation)?.len();
    expect_length(config, length, position)?;
    file.seek(SeekFrom::Start(position)).await.or_error(ErrorKind::Retriable, &operation)?;
    Ok(BufReader::with_capacity(BUFFER_BYTES, file))
}

fn expect_length(config: &FileSourceConfig, length: u64, position: u64) -> Result<()> {
    if length >= position {
        return Ok(());
    }
    let error = Error::fatal(
        "the file is shorter than what was read of it: it was cut or replaced, so there is no place to go on from; \
         reset the connector's offsets to read it from the beginning",
    );
    Err(error.with("file", config.file.display()).with("length", length).with("position", position))
}
