//! Writes the records of one task: one send, one commit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use ottla_api::offset::{SourceOffsets, TopicPartition};
use ottla_api::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

use super::batch::{BATCH_BYTES_MAX, BatchKey, Encoder, encoded_size};
use super::partitioner::{Spread, partition_of_key};
use super::{Partition, RECORD_BYTES_MAX, Shared, Topic, now_millis};
use crate::broker::{Producer, ProducerRecord};
use crate::storage::{Batch, Change, FreeSpace, Space, encode_source_offsets};

#[derive(Debug)]
pub(super) struct EmbeddedProducer {
    shared: Arc<Shared>,
    /// Topics this task has written to, and where records without a key go next.
    topics: BTreeMap<Arc<str>, (Arc<Topic>, Spread)>,
}

impl EmbeddedProducer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, topics: BTreeMap::new() }
    }

    /// Where a record goes. An error of kind `PoisonRecord` concerns this record alone.
    async fn place(&mut self, record: &ProducerRecord, size: usize) -> Result<Arc<Partition>> {
        if size > RECORD_BYTES_MAX {
            return Err(Error::data(format!(
                "the record has {size} bytes; embedded topics take at most {RECORD_BYTES_MAX}"
            )));
        }
        if !self.topics.contains_key(&record.topic) {
            let topic = self.shared.topic_or_make(&record.topic).await.map_err(|error| match error.kind() {
                ErrorKind::Config => error.of_kind(ErrorKind::PoisonRecord),
                _ => error,
            })?;
            self.topics.insert(record.topic.clone(), (topic, Spread::default()));
        }
        let (topic, spread) = self.topics.get_mut(&record.topic).expect("it is there now");
        let count = topic.partitions.len();
        let number = match (record.partition, &record.key) {
            (Some(number), _) => number,
            (None, Some(key)) => partition_of_key(key, count),
            (None, None) => spread.next(size, count),
        };
        let partition = usize::try_from(number).ok().and_then(|number| topic.partitions.get(number));
        partition.cloned().ok_or_else(|| {
            Error::data(format!(
                "topic '{}' has {count} partitions, so there is none with number {number}",
                record.topic
            ))
        })
    }
}

#[async_trait]
impl Producer for EmbeddedProducer {
    async fn send(
        &mut self,
        records: &[ProducerRecord],
        offsets: &SourceOffsets,
        connector: &str,
    ) -> Result<Vec<Result<(TopicPartition, i64)>>> {
        let written = now_millis();
        let mut parts: Vec<Part> = Vec::new();
        let mut part_of: BTreeMap<(u32, u32), usize> = BTreeMap::new();
        // Per record its part and its place in it, or what is wrong with it.
        let mut places: Vec<Result<(usize, i64)>> = Vec::with_capacity(records.len());
        for record in records {
            let size = encoded_size(record);
            match self.place(record, size).await {
                Ok(partition) => {
                    let index = *part_of.entry((partition.topic, partition.number)).or_insert_with(|| {
                        parts.push(Part { partition, batches: Vec::new(), count: 0 });
                        parts.len() - 1
                    });
                    places.push(Ok((index, parts[index].push(record, size, written))));
                }
                Err(error) if error.kind() == ErrorKind::PoisonRecord => places.push(Err(error)),
                Err(error) => return Err(error),
            }
        }

        // G1: with a record missing, nobody may go on after it.
        let complete = places.iter().all(Result::is_ok);
        let offsets = if complete { encode_source_offsets(connector, offsets)? } else { Vec::new() };
        let targets: Vec<TopicPartition> = parts.iter().map(|part| part.partition.id.clone()).collect();
        let (reply, answer) = oneshot::channel();
        self.shared.store.submit(Box::new(Send { parts, offsets, bases: Vec::new(), reply }));
        let bases = answer.await.unwrap_or_else(|_| Err(Error::fatal("the state store is closed")))?;
        let result =
            |place: Result<(usize, i64)>| place.map(|(index, nth)| (targets[index].clone(), bases[index] + nth));
        Ok(places.into_iter().map(result).collect())
    }
}

/// What a send has for one partition.
struct Part {
    partition: Arc<Partition>,
    batches: Vec<Encoder>,
    count: i64,
}

impl Part {
    /// Adds a record and answers its place in this part.
    fn push(&mut self, record: &ProducerRecord, size: usize, written: i64) -> i64 {
        match self.batches.last_mut() {
            Some(batch) if batch.bytes.len() + size <= BATCH_BYTES_MAX => batch.push(record),
            _ => {
                let mut batch = Encoder::new(written);
                batch.push(record);
                self.batches.push(batch);
            }
        }
        self.count += 1;
        self.count - 1
    }
}

/// A send on the store's thread, where offsets are given out.
struct Send {
    parts: Vec<Part>,
    offsets: Vec<(Vec<u8>, String)>,
    /// First offset of each part, once prepared.
    bases: Vec<i64>,
    reply: oneshot::Sender<Result<Vec<i64>>>,
}

impl Change for Send {
    fn prepare(&mut self, batch: &mut Batch, space: &FreeSpace) -> Result<()> {
        let bytes: usize = self.parts.iter().flat_map(|part| &part.batches).map(|batch| batch.bytes.len()).sum();
        space.check(bytes)?;
        for Part { partition, batches, count } in &self.parts {
            let mut base = partition.reserved.fetch_add(*count, Ordering::AcqRel);
            self.bases.push(base);
            for encoded in batches {
                let key = BatchKey {
                    topic: partition.topic,
                    partition: partition.number,
                    base,
                    count: encoded.count,
                    written: encoded.written,
                    size: encoded.bytes.len() as u32,
                };
                batch.put(Space::Records, &key.encode(), &encoded.bytes);
                base = key.end();
            }
        }
        for (key, value) in &self.offsets {
            batch.put(Space::State, key, value.as_bytes());
        }
        Ok(())
    }

    fn finish(self: Box<Self>, result: Result<()>) {
        for (part, base) in self.parts.iter().zip(&self.bases) {
            let partition = &part.partition;
            match &result {
                Ok(()) => {
                    partition.end.store(base + part.count, Ordering::Release);
                    partition.wake_listeners();
                }
                // Everything that was prepared together fails together, so this reaches all who took offsets after `end`.
                Err(_) => partition.reserved.store(partition.end.load(Ordering::Acquire), Ordering::Release),
            }
        }
        // A task that gave up waiting has no use for the answer.
        let Send { bases, reply, .. } = *self;
        let _ = reply.send(result.map(|()| bases));
    }
}
