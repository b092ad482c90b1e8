//! Producers that requests share: what waits while a write is under way is written by the next one, together.
//!
//! One record a request is how people post, and a write that is durable takes its time. So every topic has one of a few
//! lanes, and a lane takes whatever has come in while it was writing. Requests for one topic keep their order.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use ottla_api::config::Properties;
use ottla_api::offset::{SourceOffsets, TopicPartition};
use ottla_api::{Error, Result};
use ottla_runtime::broker::{Broker, Producer, ProducerRecord};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// How many writes are under way at a time.
const LANES: usize = 4;
/// How many requests wait for a lane; more wait at its door, within their own time.
const WAITING_MAX: usize = 256;
/// How many records are written together, unless one request has more.
const RECORDS_MAX: usize = 5000;
/// How many bytes are written together, unless one request has more.
const BYTES_MAX: usize = 8 << 20;

/// A result for each record, or what kept all of them from being written.
pub(crate) type Written = Result<Vec<Result<(TopicPartition, i64)>>, Arc<Error>>;

/// The producers.
#[derive(Debug)]
pub(crate) struct Lanes {
    doors: Mutex<Vec<mpsc::Sender<Job>>>,
    running: tokio::sync::Mutex<JoinSet<()>>,
}

#[derive(Debug)]
struct Job {
    records: Vec<ProducerRecord>,
    bytes: usize,
    reply: oneshot::Sender<Written>,
}

impl Lanes {
    pub(crate) fn start(broker: &Arc<dyn Broker>) -> Self {
        let mut running = JoinSet::new();
        let doors = (0..LANES).map(|number| {
            let (door, jobs) = mpsc::channel(WAITING_MAX);
            let lane = Lane { broker: Arc::clone(broker), client_id: format!("gateway-{number}"), producer: None };
            running.spawn(lane.run(jobs));
            door
        });
        Self { doors: Mutex::new(doors.collect()), running: tokio::sync::Mutex::new(running) }
    }

    /// Writes the records of one request, all to one topic. Returns when they are durable.
    ///
    /// Dropping the future before its records were taken means that they are not written.
    pub(crate) async fn write(&self, records: Vec<ProducerRecord>) -> Written {
        let Some(first) = records.first() else { return Ok(Vec::new()) };
        let closed = || Arc::new(Error::retriable("the gateway is stopping"));
        let door = {
            let doors = self.doors.lock();
            let mut hasher = DefaultHasher::new();
            first.topic.hash(&mut hasher);
            let lane = usize::try_from(hasher.finish() % LANES as u64).unwrap_or(0);
            doors.get(lane).cloned().ok_or_else(closed)?
        };
        let length = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
        let bytes = records.iter().map(|record| length(&record.key) + length(&record.value)).sum();
        let (reply, answer) = oneshot::channel();
        door.send(Job { records, bytes, reply }).await.map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Lets the lanes end after what waits.
    pub(crate) async fn close(&self) {
        self.doors.lock().clear();
        while self.running.lock().await.join_next().await.is_some() {}
    }
}

struct Lane {
    broker: Arc<dyn Broker>,
    client_id: String,
    producer: Option<Box<dyn Producer>>,
}

impl Lane {
    async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.recv().await {
            let (mut count, mut bytes) = (first.records.len(), first.bytes);
            let mut together = vec![first];
            while count < RECORDS_MAX && bytes < BYTES_MAX {
                let Ok(next) = jobs.try_recv() else { break };
                count += next.records.len();
                bytes += next.bytes;
                together.push(next);
            }
            // Who has given up was told that nothing is certain; not writing is the better half of that.
            together.retain(|job| !job.reply.is_closed());
            self.write(together).await;
        }
    }

    async fn write(&mut self, mut jobs: Vec<Job>) {
        let counts: Vec<usize> = jobs.iter().map(|job| job.records.len()).collect();
        let records: Vec<ProducerRecord> = jobs.iter_mut().flat_map(|job| std::mem::take(&mut job.records)).collect();
        if records.is_empty() {
            return;
        }
        match self.send(&records).await {
            Ok(mut results) => {
                for (job, count) in jobs.into_iter().zip(counts) {
                    let rest = results.split_off(count.min(results.len()));
                    let _ = job.reply.send(Ok(std::mem::replace(&mut results, rest)));
                }
            }
            Err(error) => {
                if !error.is_retriable() {
                    // The next write begins with a producer that has seen no trouble.
                    self.producer = None;
                }
                let error = Arc::new(error);
                for job in jobs {
                    let _ = job.reply.send(Err(Arc::clone(&error)));
                }
            }
        }
    }

    async fn send(&mut self, records: &[ProducerRecord]) -> Result<Vec<Result<(TopicPartition, i64)>>> {
        let producer = match &mut self.producer {
            Some(producer) => producer,
            none => none.insert(self.broker.producer(&self.client_id, &Properties::new()).await?),
        };
        producer.send(records, &SourceOffsets::new(), "gateway").await
    }
}
