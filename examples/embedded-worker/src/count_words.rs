//! A sink whose destination is the program's own memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use ottla_api::prelude::*;

/// How often each word has come.
static COUNTS: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

/// What the rest of the program sees of it.
pub(crate) fn counts() -> BTreeMap<String, u64> {
    COUNTS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// `connector.class = "count-words"`.
pub(crate) const PLUGIN: Plugin = Plugin {
    name: "count-words",
    aliases: &[],
    version: env!("CARGO_PKG_VERSION"),
    doc: "Counts words in the memory of this program.",
    definition: &ConfigDef::new,
    constructor: Constructor::Sink(&|| Box::new(CountWords)),
};

struct CountWords;

impl SinkConnector for CountWords {
    fn task(&self, _properties: &Properties) -> Result<Box<dyn SinkTask>> {
        Ok(Box::new(CountWordsTask { counted: Positions::new() }))
    }
}

struct CountWordsTask {
    /// Per open partition: everything before this offset is in the counts.
    counted: Positions,
}

#[async_trait]
impl SinkTask for CountWordsTask {
    async fn start(&mut self, _context: &SinkTaskContext) -> Result<()> {
        Ok(())
    }

    async fn open(&mut self, committed: &Positions) -> Result<Positions> {
        // The destination is the truth, and it is empty when the program starts: whatever was committed by an earlier run,
        // the counts begin with the first record. With more than one task, or partitions that move, the counts would have
        // to be kept for each partition.
        self.counted.extend(committed.keys().map(|partition| (partition.clone(), 0)));
        Ok(self.counted.clone())
    }

    async fn put(&mut self, batch: &SinkBatch) -> Result<()> {
        let mut counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = self.counted.entry(batch.partition.clone()).or_default();
        for record in batch.records_from(*counted) {
            let line = record.record.value.decoded()?;
            for word in line.as_str().unwrap_or_default().split_whitespace() {
                *counts.entry(word.to_owned()).or_default() += 1;
            }
        }
        *counted = batch.next_offset;
        Ok(())
    }

    async fn flush(&mut self, _reason: FlushReason) -> Result<Positions> {
        Ok(self.counted.clone())
    }

    async fn close(&mut self, partitions: &[TopicPartition], _reason: CloseReason) -> Result<()> {
        self.counted.retain(|partition, _| !partitions.contains(partition));
        Ok(())
    }
}
