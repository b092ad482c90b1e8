//! Plugins that do next to nothing, so that the way to them is what is measured.

use async_trait::async_trait;
use ottla_api::prelude::*;

/// A sink that looks at each value, a source that has records ready, a transformation that takes a look or takes the record apart.
pub(crate) const PLUGINS: &[Plugin] = &[
    Plugin {
        name: "bench-sink",
        aliases: &[],
        version: "1",
        doc: "Adds up the lengths of values.",
        definition: &ConfigDef::new,
        constructor: Constructor::Sink(&|| Box::new(Sink)),
    },
    Plugin {
        name: "bench-source",
        aliases: &[],
        version: "1",
        doc: "Yields the same batch again and again.",
        definition: &BatchConfig::definition,
        constructor: Constructor::Source(&|| Box::new(Source)),
    },
    Plugin {
        name: "bench-transform",
        aliases: &[],
        version: "1",
        doc: "Leaves the record as it is.",
        definition: &ConfigDef::new,
        constructor: Constructor::Transformation(&|_| Ok(Box::new(Untouched))),
    },
];

#[derive(Debug, Config)]
struct BatchConfig {
    /// Bytes of a value.
    #[config(name = "bytes")]
    bytes: usize,
    /// Records of a batch.
    #[config(name = "records")]
    records: usize,
}

struct Sink;

impl SinkConnector for Sink {
    fn task(&self, _: &Properties) -> Result<Box<dyn SinkTask>> {
        Ok(Box::new(Adding { bytes: 0, positions: Positions::new() }))
    }
}

struct Adding {
    bytes: usize,
    positions: Positions,
}

#[async_trait]
impl SinkTask for Adding {
    async fn start(&mut self, _: &SinkTaskContext) -> Result<()> {
        Ok(())
    }

    async fn open(&mut self, committed: &Positions) -> Result<Positions> {
        Ok(committed.clone())
    }

    async fn put(&mut self, batch: &SinkBatch) -> Result<()> {
        for record in &batch.records {
            self.bytes += match &record.record.value {
                Payload::Json(text) => text.len(),
                Payload::Data { value, .. } => value.as_map().map_or(0, |map| map.len()),
            };
        }
        Ok(())
    }

    async fn flush(&mut self, _: FlushReason) -> Result<Positions> {
        // What was added up must be used, or a compiler leaves it out.
        self.positions.insert(TopicPartition::new("bytes", 0), i64::try_from(self.bytes).unwrap_or_default());
        Ok(self.positions.clone())
    }

    async fn close(&mut self, _: &[TopicPartition], _: CloseReason) -> Result<()> {
        Ok(())
    }
}

struct Source;

impl SourceConnector for Source {
    fn tasks(&self, properties: &Properties, _: usize) -> Result<Vec<Box<dyn SourceTask>>> {
        let config = BatchConfig::from_properties(properties)?;
        let text = bytes::Bytes::from(format!("\"{}\"", "x".repeat(config.bytes - 2)));
        let record = |row: usize| {
            let mut record = Record::new("t", Value::Null);
            record.value = Payload::Json(text.clone());
            let offset = SourceOffset::new([("row", row as i64)]);
            SourceRecord::new(record, SourcePartition::new([("table", "t")]), offset)
        };
        Ok(vec![Box::new(Ready((0..config.records).map(record).collect()))])
    }
}

struct Ready(Vec<SourceRecord>);

#[async_trait]
impl SourceTask for Ready {
    async fn start(&mut self, _: &SourceTaskContext) -> Result<()> {
        Ok(())
    }

    async fn poll(&mut self) -> Result<SourcePoll> {
        Ok(SourcePoll::Records(self.0.clone()))
    }
}

struct Untouched;

impl Transformation for Untouched {
    fn apply(&mut self, record: Record) -> Result<Option<Record>> {
        Ok(Some(record))
    }
}
