//! The smallest source that loses nothing: it counts, and goes on where it stopped.
//!
//! Run it, at the top of the repository:
//!
//! ```sh
//! cargo build -p first-source
//! ottla run examples/first-source/example.toml --until 5s
//! ```

use std::time::Duration;

use async_trait::async_trait;
use ottla_api::prelude::*;

/// Options of `first-source`.
#[derive(Debug, Config)]
pub struct FirstSourceConfig {
    /// The topic that receives the numbers.
    #[config(name = "topic")]
    pub topic: String,
    /// Pause between two numbers.
    #[config(name = "interval.ms", default = "1000")]
    pub interval: Duration,
    /// The source ends behind this number. Unset, it counts for ever.
    #[config(name = "last")]
    pub last: Option<i64>,
}

/// Makes the task. Numbers have one order, so there is one task.
#[derive(Debug)]
pub struct FirstSource;

impl SourceConnector for FirstSource {
    fn tasks(&self, properties: &Properties, _tasks_max: usize) -> Result<Vec<Box<dyn SourceTask>>> {
        let config = FirstSourceConfig::from_properties(properties)?;
        Ok(vec![Box::new(FirstSourceTask { config, next: 1 })])
    }
}

struct FirstSourceTask {
    config: FirstSourceConfig,
    next: i64,
}

#[async_trait]
impl SourceTask for FirstSourceTask {
    async fn start(&mut self, context: &SourceTaskContext) -> Result<()> {
        if let Some(offset) = context.offset(&partition())? {
            let counted =
                offset.get_i64("counted").ok_or_else(|| Error::fatal("the stored offset has no 'counted'"))?;
            self.next = counted + 1;
        }
        Ok(())
    }

    async fn poll(&mut self) -> Result<SourcePoll> {
        if self.config.last.is_some_and(|last| self.next > last) {
            return Ok(SourcePoll::Finished);
        }
        // The worker may drop this future here, to stop. Nothing has changed yet, so nothing is lost.
        tokio::time::sleep(self.config.interval).await;
        let number = self.next;
        self.next += 1;
        let record = Record::new(self.config.topic.as_str(), Value::Int64(number));
        // Stored together with the record: where the next task goes on.
        let offset = SourceOffset::new([("counted", number)]);
        Ok(SourcePoll::Records(vec![SourceRecord::new(record, partition(), offset)]))
    }
}

/// What the offset is about. A source of many tables, files or shards has a partition for each.
fn partition() -> SourcePartition {
    SourcePartition::new([("counter", "numbers")])
}

/// The plugins of this library.
pub const PLUGINS: &[Plugin] = &[Plugin {
    name: "first-source",
    aliases: &[],
    version: env!("CARGO_PKG_VERSION"),
    doc: "Counts from 1.",
    definition: &FirstSourceConfig::definition,
    constructor: Constructor::Source(&|| Box::new(FirstSource)),
}];

ottla_api::export_plugins!(PLUGINS);
