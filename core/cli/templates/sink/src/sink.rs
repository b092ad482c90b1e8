//! The sink: which records are accepted, and which of them are durable.
//!
//! The folder is the truth, the committed offsets are a hint: a partition goes on behind the last offset that a file holds.
//! So a task may be killed at any moment, and the next one neither loses a record nor writes one twice.

use std::collections::BTreeMap;

use async_trait::async_trait;
use ottla_api::prelude::*;

use crate::config::MyPluginConfig;
use crate::folder::{Claim, Folder};
use crate::line::write_line;

/// Makes tasks.
#[derive(Debug)]
pub struct MyPlugin;

impl SinkConnector for MyPlugin {
    fn task(&self, properties: &Properties) -> Result<Box<dyn SinkTask>> {
        Ok(Box::new(MyPluginTask::new(MyPluginConfig::from_properties(properties)?)))
    }

    fn destination(&self, properties: &Properties) -> Option<String> {
        properties.get("dir").map(|dir| format!("file:{dir}"))
    }
}

/// Gathers lines as records are put; a flush writes them into files.
#[derive(Debug)]
pub struct MyPluginTask {
    folder: Folder,
    config: MyPluginConfig,
    context: Option<SinkTaskContext>,
    open: BTreeMap<TopicPartition, Gathered>,
}

/// What is gathered of one open partition.
#[derive(Debug)]
struct Gathered {
    /// Everything before this offset is in a file, or needs no delivery; -1 where nothing is known yet.
    durable: i64,
    /// Everything before this offset was put.
    accepted: i64,
    /// The lines of the records between the two.
    lines: Vec<u8>,
    records: u64,
    /// Keeps other tasks out of this partition.
    claim: Claim,
}

impl MyPluginTask {
    /// A task that has not touched the folder yet.
    pub fn new(config: MyPluginConfig) -> Self {
        Self { folder: Folder::new(&config.dir), config, context: None, open: BTreeMap::new() }
    }
}

#[async_trait]
impl SinkTask for MyPluginTask {
    async fn start(&mut self, context: &SinkTaskContext) -> Result<()> {
        self.context = Some(context.clone());
        self.folder.make().await
    }

    async fn open(&mut self, committed: &Positions) -> Result<Positions> {
        for (partition, committed) in committed {
            // After an error that can be retried the same call comes again: what is claimed already stays so.
            if !self.open.contains_key(partition) {
                let claim = self.folder.claim(partition).await?;
                // Offsets mean nothing in a topic that was made anew under the same name.
                if let Some(identity) =
                    self.context.as_ref().and_then(|context| context.topic_identity(&partition.topic))
                {
                    self.folder.expect_topic(&claim, partition, &identity).await?;
                }
                let durable = self.folder.end_of(partition).await?.max(*committed);
                let gathered = Gathered { durable, accepted: durable, lines: Vec::new(), records: 0, claim };
                self.open.insert(partition.clone(), gathered);
            }
        }
        Ok(self.positions().into_iter().filter(|(partition, _)| committed.contains_key(partition)).collect())
    }

    async fn put(&mut self, batch: &SinkBatch) -> Result<()> {
        let context = self.context.clone().ok_or_else(|| Error::fatal("the task is not started"))?;
        let gathered = self.open.get_mut(&batch.partition);
        let gathered = gathered.ok_or_else(|| Error::fatal("put into a partition that is not open"))?;
        // A batch may come again, whole or in part: what was accepted is left out.
        for record in batch.records_from(gathered.accepted) {
            let end = gathered.lines.len();
            match write_line(&record.record, &self.config, &mut gathered.lines) {
                Ok(()) => gathered.records += 1,
                Err(error) => {
                    gathered.lines.truncate(end);
                    context.report(&batch.partition, record, error)?;
                }
            }
        }
        gathered.accepted = gathered.accepted.max(batch.next_offset);
        if gathered.records >= self.config.file_records as u64 {
            self.write(&batch.partition).await?;
        }
        self.tell_what_is_held();
        Ok(())
    }

    async fn flush(&mut self, reason: FlushReason) -> Result<Positions> {
        // What is not in a file when a partition closes goes to its next owner, so there is nothing to begin then.
        if reason != FlushReason::Closing {
            for partition in self.open.keys().cloned().collect::<Vec<_>>() {
                self.write(&partition).await?;
            }
            self.tell_what_is_held();
        }
        Ok(self.positions())
    }

    async fn close(&mut self, partitions: &[TopicPartition], _reason: CloseReason) -> Result<()> {
        // What was gathered goes, whatever the reason: nobody was told that it is durable, so its records come again.
        self.open.retain(|partition, _| !partitions.contains(partition));
        self.tell_what_is_held();
        Ok(())
    }
}

impl MyPluginTask {
    /// Writes what is gathered of a partition into a file of its own. After an error it is still gathered.
    async fn write(&mut self, partition: &TopicPartition) -> Result<()> {
        let Some(gathered) = self.open.get_mut(partition) else { return Ok(()) };
        if gathered.records > 0 {
            let (from, to) = (gathered.durable, gathered.accepted);
            let path = self.folder.create(&gathered.claim, partition, from, to, &gathered.lines).await?;
            if let Some(context) = &self.context {
                let first = gathered.lines.split(|byte| *byte == b'\n').next().unwrap_or_default();
                context.delivered(Delivery {
                    location: format!("file:{}", path.display()),
                    records: gathered.records,
                    bytes: gathered.lines.len() as u64,
                    sample: Some(String::from_utf8_lossy(&first[..first.len().min(200)]).into_owned()),
                });
            }
        }
        gathered.durable = gathered.accepted;
        gathered.records = 0;
        gathered.lines = Vec::new();
        Ok(())
    }

    /// Per open partition the offset before which everything is in a file.
    fn positions(&self) -> Positions {
        let known = self.open.iter().filter(|(_, gathered)| gathered.durable >= 0);
        known.map(|(partition, gathered)| (partition.clone(), gathered.durable)).collect()
    }

    /// The worker adds up what all tasks hold, and asks for an early flush where it gets too much.
    fn tell_what_is_held(&self) {
        if let Some(context) = &self.context {
            context.buffered(self.open.values().map(|gathered| gathered.lines.capacity()).sum());
        }
    }
}
