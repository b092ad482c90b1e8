//! The dead letter queue: a record that failed, as it came, with headers that say where and why.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use ottla_api::offset::{SourceOffsets, TopicPartition};
use ottla_api::record::RawRecord;
use ottla_api::{ErrorKind, Result};
use parking_lot::Mutex;

use super::Failure;
use crate::broker::{Producer, ProducerRecord};

/// Collects one task's failed records and produces them.
pub struct DeadLetterQueue {
    topic: Arc<str>,
    connector: Arc<str>,
    context_headers: bool,
    /// Added by the task's own calls, which are synchronous; taken by [`flush`](Self::flush).
    pending: Mutex<Vec<ProducerRecord>>,
    /// Only the task's loop flushes, so nobody ever waits for this lock.
    producer: tokio::sync::Mutex<Box<dyn Producer>>,
}

impl DeadLetterQueue {
    /// A queue in `topic`, which exists.
    pub fn new(topic: &str, connector: Arc<str>, context_headers: bool, producer: Box<dyn Producer>) -> Self {
        Self {
            topic: topic.trim().into(),
            connector,
            context_headers,
            pending: Mutex::default(),
            producer: tokio::sync::Mutex::new(producer),
        }
    }

    /// Adds a record. It is in the queue only after [`flush`](Self::flush).
    pub fn add(&self, task_id: &str, origin: &TopicPartition, raw: &RawRecord, failure: &Failure) {
        let mut headers = raw.headers.clone();
        if self.context_headers {
            // Names and order are Kafka Connect's `DeadLetterQueueReporter.populateContextHeaders`.
            let mut add = |name: &str, value: String| {
                headers.push((format!("__connect.errors.{name}"), Some(Bytes::from(value))));
            };
            add("topic", origin.topic.to_string());
            add("partition", origin.partition.to_string());
            add("offset", raw.offset.to_string());
            add("connector.name", self.connector.to_string());
            add("task.id", task_id.rsplit('-').next().unwrap_or_default().to_owned());
            add("stage", failure.stage.to_string());
            add("class.name", failure.class.clone());
            add("exception.class.name", format!("{:?}", failure.error.kind()));
            add("exception.message", failure.error.to_string());
            add("exception.stacktrace", format!("{:?}", failure.error));
        }
        self.pending.lock().push(ProducerRecord {
            topic: Arc::clone(&self.topic),
            partition: None,
            key: raw.key.clone(),
            value: raw.value.clone(),
            timestamp: raw.timestamp,
            headers,
        });
    }

    /// Produces what was added; says how many records that were. After an error everything is still pending.
    pub async fn flush(&self) -> Result<u64> {
        let batch = std::mem::take(&mut *self.pending.lock());
        if batch.is_empty() {
            return Ok(0);
        }
        let outcome = self.producer.lock().await.send(&batch, &SourceOffsets::new(), &self.connector).await;
        let refused = match outcome {
            Ok(results) => results.into_iter().find_map(Result::err),
            Err(error) => Some(error),
        };
        match refused {
            None => Ok(batch.len() as u64),
            // A record that the queue refuses must not pass silently (G5): the task waits or fails with the reason.
            Some(error) => {
                self.pending.lock().splice(0..0, batch);
                let kind = if error.is_retriable() { error.kind() } else { ErrorKind::Fatal };
                Err(error.during(format!("topic {}", self.topic)).of_kind(kind))
            }
        }
    }
}

impl fmt::Debug for DeadLetterQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeadLetterQueue({})", self.topic)
    }
}
