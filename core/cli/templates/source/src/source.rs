//! The source: where it is, and where it goes on.
//!
//! Each record carries the place behind it. The worker stores the place of the last record that is in the topic, and gives it
//! to the next task: so a task may be killed at any moment, and the next one neither leaves out a line nor reads one twice.

use async_trait::async_trait;
use ottla_api::config::check_topic_name;
use ottla_api::prelude::*;

use crate::config::MyPluginConfig;
use crate::folder::{Folder, Place};
use crate::record::record_of;

/// Makes the task. There is one: the files are in an order.
#[derive(Debug)]
pub struct MyPlugin;

impl SourceConnector for MyPlugin {
    fn validate(&self, properties: &Properties) -> Vec<ConfigError> {
        let topic = properties.get("topic").map_or(Ok(()), check_topic_name);
        topic.err().map(|message| ConfigError::new("topic", message)).into_iter().collect()
    }

    fn tasks(&self, properties: &Properties, _tasks_max: usize) -> Result<Vec<Box<dyn SourceTask>>> {
        Ok(vec![Box::new(MyPluginTask::new(MyPluginConfig::from_properties(properties)?))])
    }
}

/// Reads from where the durable offset says.
#[derive(Debug)]
pub struct MyPluginTask {
    /// What the offsets are about. To read several folders, or tables, or shards in parallel, give each its own.
    partition: SourcePartition,
    config: MyPluginConfig,
    folder: Folder,
    /// Everything before this was returned.
    place: Place,
}

impl MyPluginTask {
    /// A task that has not looked at the folder yet.
    pub fn new(config: MyPluginConfig) -> Self {
        let partition = SourcePartition::new([("dir", config.dir.display().to_string())]);
        Self { partition, folder: Folder::new(&config.dir), config, place: Place::default() }
    }
}

#[async_trait]
impl SourceTask for MyPluginTask {
    async fn start(&mut self, context: &SourceTaskContext) -> Result<()> {
        if let Some(offset) = context.offset(&self.partition)? {
            let file = offset.get_str("file").map(str::to_owned);
            let line = offset.get_i64("line").and_then(|line| usize::try_from(line).ok());
            // An offset that can't be read stops the task; from the beginning it would send everything twice.
            let unreadable =
                || Error::fatal("the stored offset has no 'file' and 'line'").with("offset", offset.to_json());
            self.place = Place { file: file.ok_or_else(unreadable)?, line: line.ok_or_else(unreadable)? };
        }
        Ok(())
    }

    async fn poll(&mut self) -> Result<SourcePoll> {
        // The worker may drop this future at any `.await`, to stop or to pause. So the place moves on only when the records
        // are about to be returned, with no `.await` in between.
        let lines = self.folder.after(&self.place, self.config.batch_size).await?;
        if lines.is_empty() {
            tokio::time::sleep(self.config.poll_interval).await;
            return Ok(SourcePoll::CaughtUp);
        }
        let mut records = Vec::with_capacity(lines.len());
        for line in lines {
            let record = match record_of(&line.text, &self.config) {
                Ok(record) => record,
                // What came before goes into the topic first.
                Err(_) if !records.is_empty() => break,
                Err(error) => return Err(error.with("file", &line.end.file).with("line", line.end.line)),
            };
            let offset: [(&str, Value); 2] =
                [("file", line.end.file.as_str().into()), ("line", (line.end.line as i64).into())];
            records.push(SourceRecord::new(record, self.partition.clone(), SourceOffset::new(offset)));
            self.place = line.end;
        }
        Ok(SourcePoll::Records(records))
    }
}
