//! The sink: each record becomes a line of a file, exactly once.
//!
//! The file and `<file>.positions` beside it are the truth (G3): the second says how long the first is and which offsets are
//! in it. What lies behind that length was written and not flushed, so a new task cuts it off and gets those records again.

use std::collections::BTreeSet;
use std::fs::TryLockError;
use std::io::{ErrorKind as IoErrorKind, SeekFrom};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use ottla_api::data::json;
use ottla_api::prelude::*;
use tokio::fs::{self, File};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use crate::config::FileSinkConfig;

/// How much of a first line is shown to a person.
const SAMPLE_BYTES: usize = 200;

/// Appends records to one file.
#[derive(Debug)]
pub struct FileSink;

impl SinkConnector for FileSink {
    fn validate(&self, properties: &Properties) -> Vec<ConfigError> {
        match properties.get("tasks.max").and_then(|text| text.trim().parse().ok()) {
            Some(2..=u32::MAX) => vec![ConfigError::new("tasks.max", "must be 1: one task writes one file")],
            _ => Vec::new(),
        }
    }

    fn task(&self, properties: &Properties) -> Result<Box<dyn SinkTask>> {
        Ok(Box::new(FileSinkTask::new(FileSinkConfig::from_properties(properties)?)))
    }

    fn destination(&self, properties: &Properties) -> Option<String> {
        properties.get("file").map(|file| format!("file:{file}"))
    }
}

/// Writes lines as they are put; a flush makes them durable.
#[derive(Debug)]
pub struct FileSinkTask {
    config: FileSinkConfig,
    context: Option<SinkTaskContext>,
    file: Option<File>,
    open: BTreeSet<TopicPartition>,
    /// What is in the file.
    written: Contents,
    /// What `<file>.positions` says: what is in the file for sure.
    durable: Contents,
    /// Records since the last flush, and the beginning of the first, to tell the user.
    records: u64,
    sample: Option<String>,
}

impl FileSinkTask {
    /// A task that has not touched the file yet.
    pub fn new(config: FileSinkConfig) -> Self {
        let (written, durable) = (Contents::default(), Contents::default());
        Self { config, context: None, file: None, open: BTreeSet::new(), written, durable, records: 0, sample: None }
    }
}

#[async_trait]
impl SinkTask for FileSinkTask {
    async fn start(&mut self, context: &SinkTaskContext) -> Result<()> {
        let path = self.config.file.display();
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&self.config.file).await;
        let file = file.or_error(ErrorKind::Config, format!("open {path}"))?;
        let file = lock(file, &self.config.file).await?;
        let length = file.metadata().await.or_error(ErrorKind::Retriable, format!("look at {path}"))?.len();
        self.durable = match Contents::load(&self.config.file).await? {
            Some(contents) => contents,
            None => {
                // The lines that are there stay. From now on it is known where ours begin.
                let contents = Contents { bytes: length, positions: Positions::new() };
                contents.save(&self.config.file).await?;
                contents
            }
        };
        if length < self.durable.bytes {
            let error =
                Error::fatal("the file is shorter than what this sink has written: somebody cut or replaced it");
            return Err(error.with("file", path).with("length", length).with("written", self.durable.bytes));
        }
        // Behind that lies what no flush has confirmed, perhaps half a line: its records come again.
        file.set_len(self.durable.bytes).await.or_error(ErrorKind::Retriable, format!("cut {path}"))?;
        self.written = self.durable.clone();
        self.file = Some(file);
        self.context = Some(context.clone());
        Ok(())
    }

    async fn open(&mut self, committed: &Positions) -> Result<Positions> {
        for (partition, committed) in committed {
            self.open.insert(partition.clone());
            // Where more is committed than is in this file, another file has it.
            if *committed > self.position(partition) {
                self.written.positions.insert(partition.clone(), *committed);
            }
        }
        Ok(self.positions(|partition| committed.contains_key(partition)))
    }

    async fn put(&mut self, batch: &SinkBatch) -> Result<()> {
        let (mut lines, mut records) = (Vec::new(), 0);
        for record in batch.records_from(self.position(&batch.partition)) {
            match write_line(&record.record.value, &mut lines) {
                Ok(()) => records += 1,
                Err(error) => self.context()?.report(&batch.partition, record, error)?,
            }
        }
        let operation = format!("write {}", self.config.file.display());
        self.append(&lines).await.or_error(ErrorKind::Retriable, operation)?;
        if self.sample.is_none() && records > 0 {
            let first = lines.split(|byte| *byte == b'\n').next().unwrap_or_default();
            self.sample = Some(String::from_utf8_lossy(&first[..first.len().min(SAMPLE_BYTES)]).into_owned());
        }
        self.records += records;
        self.written.bytes += lines.len() as u64;
        let position = batch.next_offset.max(self.position(&batch.partition));
        self.written.positions.insert(batch.partition.clone(), position);
        Ok(())
    }

    async fn flush(&mut self, _reason: FlushReason) -> Result<Positions> {
        if self.written != self.durable {
            // G2: first the lines are durable, then the positions, and only then are they reported. After a sync that failed
            // nobody knows what the disk has; a new task finds out.
            let operation = format!("sync {}", self.config.file.display());
            self.sync().await.or_error(ErrorKind::Fatal, operation)?;
            self.written.save(&self.config.file).await?;
            if self.records > 0 {
                let delivery = Delivery {
                    location: format!("file:{}", self.config.file.display()),
                    records: std::mem::take(&mut self.records),
                    bytes: self.written.bytes - self.durable.bytes,
                    sample: self.sample.take(),
                };
                self.context()?.delivered(delivery);
            }
            self.durable = self.written.clone();
        }
        Ok(self.positions(|partition| self.open.contains(partition)))
    }

    async fn close(&mut self, partitions: &[TopicPartition], _reason: CloseReason) -> Result<()> {
        // Nothing waits to be written, whatever the reason. What is in the file stays known, should a partition come back.
        for partition in partitions {
            self.open.remove(partition);
        }
        Ok(())
    }

    async fn stop(&mut self) -> Result<()> {
        // With the file goes its lock.
        self.file = None;
        Ok(())
    }
}

impl FileSinkTask {
    /// Writes at the end of what is known to be written, so that a second try overwrites what a first one has left.
    async fn append(&mut self, lines: &[u8]) -> std::io::Result<()> {
        let end = SeekFrom::Start(self.written.bytes);
        let file = self.file().map_err(std::io::Error::other)?;
        file.seek(end).await?;
        file.write_all(lines).await?;
        file.flush().await
    }

    /// Makes the lines durable, and nothing else: a write that failed may have left something behind them.
    async fn sync(&mut self) -> std::io::Result<()> {
        let length = self.written.bytes;
        let file = self.file().map_err(std::io::Error::other)?;
        file.set_len(length).await?;
        file.sync_data().await
    }

    /// The position before which every record of this partition is in the file.
    fn position(&self, partition: &TopicPartition) -> i64 {
        self.written.positions.get(partition).copied().unwrap_or(-1)
    }

    fn positions(&self, wanted: impl Fn(&TopicPartition) -> bool) -> Positions {
        let positions = self.written.positions.iter().filter(|(partition, _)| wanted(partition));
        positions.map(|(partition, position)| (partition.clone(), *position)).collect()
    }

    fn file(&mut self) -> Result<&mut File> {
        self.file.as_mut().ok_or_else(|| Error::fatal("the task is not started"))
    }

    fn context(&self) -> Result<&SinkTaskContext> {
        self.context.as_ref().ok_or_else(|| Error::fatal("the task is not started"))
    }
}

/// Appends a value as a line: text and bytes as they are, everything else as JSON.
fn write_line(value: &Payload, lines: &mut Vec<u8>) -> Result<()> {
    let begin = lines.len();
    match value {
        Payload::Data { value: Value::String(text), .. } => lines.extend_from_slice(text.as_bytes()),
        Payload::Data { value: Value::Bytes(bytes), .. } => lines.extend_from_slice(bytes),
        other => other.write_json(&json::WriteOptions::default(), lines),
    }
    if lines[begin..].contains(&b'\n') {
        lines.truncate(begin);
        return Err(Error::data("the value has a line break in it, so it can't be one line of a file"));
    }
    lines.push(b'\n');
    Ok(())
}

/// Keeps other tasks out, in this process and in others, as long as the file is open.
async fn lock(file: File, path: &Path) -> Result<File> {
    let file = file.into_std().await;
    match file.try_lock() {
        Ok(()) => Ok(File::from_std(file)),
        // A task that is just going away, for instance.
        Err(TryLockError::WouldBlock) => {
            Err(Error::retriable("another task writes the file").with("file", path.display()))
        }
        Err(TryLockError::Error(error)) => {
            Err(Error::retriable("lock the file").with("file", path.display()).caused_by(error))
        }
    }
}

/// How long the file is, and which records are in it.
#[derive(Debug, Clone, PartialEq, Default)]
struct Contents {
    bytes: u64,
    positions: Positions,
}

impl Contents {
    /// Reads what `save` has written for this file; nothing if it never did.
    async fn load(file: &Path) -> Result<Option<Self>> {
        let path = positions_path(file);
        match fs::read(&path).await {
            Ok(text) => Self::from_json(&text).map(Some).map_err(|error| {
                // Without it nobody knows what the file holds; starting over would write records twice.
                error.of_kind(ErrorKind::Fatal).during(format!("read {}", path.display()))
            }),
            Err(error) if error.kind() == IoErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::retriable(format!("read {}", path.display())).caused_by(error)),
        }
    }

    /// Replaces what was saved before: a crash leaves either the old or the new, whole.
    async fn save(&self, file: &Path) -> Result<()> {
        let path = positions_path(file);
        let replace = async {
            let new = path.with_added_extension("new");
            let mut out = File::create(&new).await?;
            out.write_all(self.to_json().as_bytes()).await?;
            out.sync_all().await?;
            fs::rename(&new, &path).await?;
            // The folder's entry has to be durable as well.
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder).await?.sync_all().await
        };
        replace.await.or_error(ErrorKind::Retriable, format!("write {}", path.display()))
    }

    fn to_json(&self) -> String {
        let mut contents = Map::new();
        contents.push("bytes", self.bytes as i64);
        let positions = self.positions.iter().map(|(partition, position)| (partition.to_string(), (*position).into()));
        contents.push("positions", positions.collect::<Map>());
        json::to_string(&Value::Map(contents))
    }

    fn from_json(text: &[u8]) -> Result<Self> {
        let contents = json::parse(text)?;
        let bad = || Error::data("expected {\"bytes\":..,\"positions\":{\"<topic>-<partition>\":..}}");
        let bytes = contents.field("bytes").and_then(Value::as_i64).and_then(|bytes| u64::try_from(bytes).ok());
        let positions = contents.field("positions").and_then(Value::as_map).ok_or_else(bad)?.iter();
        let position = |(name, position): (&str, &Value)| {
            let (topic, partition) = name.rsplit_once('-')?;
            Some((TopicPartition::new(topic, partition.parse().ok()?), position.as_i64()?))
        };
        let positions = positions.map(position).collect::<Option<Positions>>().ok_or_else(bad)?;
        Ok(Self { bytes: bytes.ok_or_else(bad)?, positions })
    }
}

/// `<file>.positions`.
fn positions_path(file: &Path) -> PathBuf {
    file.with_added_extension("positions")
}
