//! `zoo-sink`: the values of records as lines of a file per partition, each record once.
//!
//! Each line holds the offset of its record, so the file knows where it goes on: the committed offsets are only a hint.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use ottla_api::data::json;
use ottla_api::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub(crate) const DOC: &str =
    "Appends values to a file for each partition, as JSON lines with their offsets, each record once.";

/// Options of `zoo-sink`.
#[derive(Debug, Clone, Config)]
pub(crate) struct ZooSinkConfig {
    /// The folder of the files. It is made where it is missing.
    #[config(name = "dir")]
    pub dir: PathBuf,
}

/// Makes tasks.
pub(crate) struct ZooSink;

impl SinkConnector for ZooSink {
    fn task(&self, properties: &Properties) -> Result<Box<dyn SinkTask>> {
        let config = ZooSinkConfig::from_properties(properties)?;
        Ok(Box::new(ZooSinkTask { dir: config.dir, context: None, open: BTreeMap::new() }))
    }

    fn destination(&self, properties: &Properties) -> Option<String> {
        properties.get("dir").map(|dir| format!("file:{dir}"))
    }
}

/// A line of a file.
#[derive(Debug, Serialize, Deserialize)]
struct Line<T> {
    offset: i64,
    value: T,
}

struct ZooSinkTask {
    dir: PathBuf,
    context: Option<SinkTaskContext>,
    open: BTreeMap<TopicPartition, Partition>,
}

/// A file, and what is to be appended to it.
struct Partition {
    /// Locked as long as it is open here.
    file: File,
    /// Everything before this offset is in the file, or needs no line; -1 where nothing is known.
    durable: i64,
    /// Everything before this offset was put.
    accepted: i64,
    lines: Vec<u8>,
    /// The file's length without what an append that failed may have left.
    length: u64,
}

impl Partition {
    fn open(dir: &Path, partition: &TopicPartition, committed: i64) -> Result<Self> {
        let path = dir.join(format!("{partition}.jsonl"));
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.or_error(ErrorKind::Retriable, format!("open {}", path.display()))?;
        file.try_lock().map_err(|error| {
            Error::retriable("another task writes this file").with("file", path.display()).caused_by(error)
        })?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).or_error(ErrorKind::Retriable, format!("read {}", path.display()))?;
        // A line without its end is of an append that was cut off.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let last = text[..whole].trim_ascii_end().rsplit(|byte| *byte == b'\n').next().filter(|line| !line.is_empty());
        let in_file = match last {
            None => -1,
            Some(line) => {
                let line: Line<&RawValue> = serde_json::from_slice(line).map_err(|error| {
                    Error::fatal(format!("{}: not a file of this sink", path.display())).caused_by(error)
                })?;
                line.offset + 1
            }
        };
        let durable = in_file.max(committed);
        Ok(Self { file, durable, accepted: durable, lines: Vec::new(), length: whole as u64 })
    }

    fn append(&mut self) -> Result<()> {
        if !self.lines.is_empty() {
            let append = |partition: &mut Self| {
                partition.file.set_len(partition.length)?;
                partition.file.seek(SeekFrom::Start(partition.length))?;
                partition.file.write_all(&partition.lines)?;
                partition.file.sync_data()
            };
            append(self).or_error(ErrorKind::Retriable, "append lines")?;
            self.length += self.lines.len() as u64;
            self.lines = Vec::new();
        }
        self.durable = self.accepted;
        Ok(())
    }
}

impl ZooSinkTask {
    fn positions(&self) -> Positions {
        let known = self.open.iter().filter(|(_, partition)| partition.durable >= 0);
        known.map(|(name, partition)| (name.clone(), partition.durable)).collect()
    }

    fn tell_what_is_held(&self) {
        if let Some(context) = &self.context {
            context.buffered(self.open.values().map(|partition| partition.lines.capacity()).sum());
        }
    }
}

#[async_trait]
impl SinkTask for ZooSinkTask {
    async fn start(&mut self, context: &SinkTaskContext) -> Result<()> {
        self.context = Some(context.clone());
        std::fs::create_dir_all(&self.dir).or_error(ErrorKind::Config, format!("dir: make {}", self.dir.display()))
    }

    async fn open(&mut self, committed: &Positions) -> Result<Positions> {
        for (name, committed) in committed {
            if !self.open.contains_key(name) {
                self.open.insert(name.clone(), Partition::open(&self.dir, name, *committed)?);
            }
        }
        Ok(self.positions().into_iter().filter(|(name, _)| committed.contains_key(name)).collect())
    }

    async fn put(&mut self, batch: &SinkBatch) -> Result<()> {
        // This library's own tokio, with its own timers.
        tokio::time::sleep(std::time::Duration::from_micros(1)).await;
        let context = self.context.clone().ok_or_else(|| Error::fatal("the task is not started"))?;
        let partition = self.open.get_mut(&batch.partition);
        let partition = partition.ok_or_else(|| Error::fatal("put into a partition that is not open"))?;
        for record in batch.records_from(partition.accepted) {
            let mut text = Vec::new();
            record.record.value.write_json(&json::WriteOptions::default(), &mut text);
            let line = serde_json::from_slice::<&RawValue>(&text)
                .and_then(|value| serde_json::to_vec(&Line { offset: record.offset(), value }));
            match line {
                Ok(line) => {
                    partition.lines.extend(line);
                    partition.lines.push(b'\n');
                }
                Err(error) => context.report(&batch.partition, record, Error::data("not JSON").caused_by(error))?,
            }
        }
        partition.accepted = partition.accepted.max(batch.next_offset);
        self.tell_what_is_held();
        Ok(())
    }

    async fn flush(&mut self, reason: FlushReason) -> Result<Positions> {
        if reason != FlushReason::Closing {
            for partition in self.open.values_mut() {
                partition.append()?;
            }
            self.tell_what_is_held();
        }
        Ok(self.positions())
    }

    async fn close(&mut self, partitions: &[TopicPartition], _reason: CloseReason) -> Result<()> {
        self.open.retain(|name, _| !partitions.contains(name));
        self.tell_what_is_held();
        Ok(())
    }
}
