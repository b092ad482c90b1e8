//! Writing to streams: the connector, its task, and the requests that run beside it.
//!
//! `put` makes entries of records and leaves them in the [`Outbox`]; a sender of the task's own makes requests of them, several
//! at once, never two with the same partition key. `flush` reports the positions before which everything was answered as stored.
//!
//! Delivery is at least once. An answer that is lost leaves open whether its records are stored, and they are sent again; the
//! counter `records.repeated.possible` says how many that were.

mod outbox;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use bytes::Bytes;
use ottla_api::data::json::WriteOptions;
use ottla_api::prelude::*;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::Kinesis;
use crate::config::{KinesisSinkConfig, NullValues, check_stream_name};
use crate::error::{Failure, What, from_sdk};
use outbox::{Batch, Entry, Outbox, Rules};

/// Bytes in a request, data and keys together. AWS takes 10 MiB since 2025; other servers still 5.
const REQUEST_BYTES_MAX: usize = 5 * 1024 * 1024;
/// Bytes in a record, data and key together, where the stream says nothing else.
const RECORD_KIB_MAX: usize = 1024;
/// Characters in a partition key.
const KEY_CHARS_MAX: usize = 256;
/// How long requests fail before the task's status says so.
const FAILURE_PATIENCE: Duration = Duration::from_secs(10);
/// How long a call waits for requests in progress before it returns to the runtime, which may have to stop.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long partitions that are given up wait for requests in progress.
const CLOSING_PATIENCE: Duration = Duration::from_secs(20);
/// How much of a record is shown to a person.
const SAMPLE_MAX: usize = 300;

/// The connector `kinesis-sink`.
#[derive(Debug, Default)]
pub struct KinesisSink;

impl SinkConnector for KinesisSink {
    fn validate(&self, properties: &Properties) -> Vec<ConfigError> {
        // Mistakes in single options were reported before; they must not come twice.
        KinesisSinkConfig::from_properties(properties).map_or_else(|_| Vec::new(), |config| config.mistakes())
    }

    fn task(&self, properties: &Properties) -> Result<Box<dyn SinkTask>> {
        let config = KinesisSinkConfig::from_properties(properties)?;
        if let Some(mistake) = config.mistakes().first() {
            return Err(Error::config(mistake.to_string()));
        }
        Ok(Box::new(KinesisSinkTask::new(config)))
    }

    fn destination(&self, properties: &Properties) -> Option<String> {
        let config = KinesisSinkConfig::from_properties(properties).ok()?;
        let named = config.streams.iter().map(|(_, stream)| stream.as_str());
        let common = properties.get("kinesis.stream").or(config.streams.is_empty().then_some("${topic}"));
        let streams: Vec<_> = named.chain(common).collect();
        Some(format!("kinesis:{} ({})", streams.join(", kinesis:"), config.connection.place()))
    }
}

/// Writes records to streams.
struct KinesisSinkTask {
    config: KinesisSinkConfig,
    running: Option<Running>,
}

/// What exists only between `start` and `stop`.
struct Running {
    context: SinkTaskContext,
    kinesis: Kinesis,
    shared: Arc<Shared>,
    progress: watch::Receiver<u64>,
    /// The open partitions and their assignments in the outbox.
    open: BTreeMap<TopicPartition, u64>,
    /// Streams that are there, with the most bytes that a record may have.
    streams: HashMap<Arc<str>, usize>,
    /// When a failure was told last.
    told: Option<Instant>,
    /// One task, which ends with this.
    sender: JoinSet<()>,
}

/// What the task and its sender share.
struct Shared {
    outbox: Mutex<Outbox>,
    /// Told when there may be something to send.
    work: Notify,
    /// Counts the requests that have ended.
    progress: watch::Sender<u64>,
    trouble: Mutex<Trouble>,
}

/// What goes wrong at present.
#[derive(Default)]
struct Trouble {
    /// Since when no request has succeeded, and what the last one met with.
    failing: Option<(Instant, String, ErrorKind)>,
    /// What can't be retried.
    fatal: Option<(String, ErrorKind)>,
}

impl KinesisSinkTask {
    fn new(config: KinesisSinkConfig) -> Self {
        Self { config, running: None }
    }

    fn running(&mut self) -> Result<&mut Running> {
        self.running.as_mut().ok_or_else(|| Error::fatal("the task is not started"))
    }

    /// The stream that receives a record.
    fn stream_of(&self, record: &mut Record) -> Result<Arc<str>> {
        let named = self.config.streams.iter().find(|(topic, _)| **topic == *record.topic);
        let name = match named {
            Some((_, stream)) => stream.clone(),
            None => self.config.stream.render(record)?,
        };
        check_stream_name(&name).map_err(|message| {
            let topic = &record.topic;
            Error::config(format!(
                "topic '{topic}' has no stream: its name {message}; name one with kinesis.streams.{topic} = \"<stream>\""
            ))
        })?;
        Ok(name.into())
    }

    /// The bytes of a record's value: bytes and text as they are, anything else as JSON text. Nothing for a record that is to be
    /// left out.
    fn data_of(&self, value: &Payload) -> Result<Option<Bytes>> {
        Ok(Some(match value {
            Payload::Json(text) => text.clone(),
            Payload::Data { value: Value::Null, .. } => match self.config.null_values {
                NullValues::Empty => Bytes::new(),
                NullValues::Ignore => return Ok(None),
                NullValues::Fail => {
                    let message = "the record has no value; behavior.on.null.values = ignore or empty accepts that";
                    return Err(Error::data(message));
                }
            },
            Payload::Data { value: Value::Bytes(bytes), .. } => bytes.clone(),
            Payload::Data { value: Value::String(text), .. } => Bytes::copy_from_slice(text.as_bytes()),
            other => {
                let mut text = Vec::new();
                other.write_json(&WriteOptions::default(), &mut text);
                text.into()
            }
        }))
    }

    /// What is to be sent for a record; nothing where it is to be left out.
    fn entry_of(
        &self,
        record: &SinkRecord,
        assignment: u64,
        streams: &HashMap<Arc<str>, usize>,
    ) -> Result<Option<(Arc<str>, Entry)>> {
        let Some(data) = self.data_of(&record.record.value)? else { return Ok(None) };
        let mut own = record.record.clone();
        let stream = self.stream_of(&mut own)?;
        let key = self.config.partition_key.of(&mut own)?;
        if key.chars().count() > KEY_CHARS_MAX {
            let message =
                format!("the partition key has {} characters; Kinesis takes {KEY_CHARS_MAX}", key.chars().count());
            return Err(Error::data(message));
        }
        let entry = Entry { key: key.into(), data, assignment, offset: record.offset() };
        let most = streams.get(&stream).copied().unwrap_or(RECORD_KIB_MAX * 1024);
        if entry.size() > most {
            let message =
                format!("value and partition key have {} bytes; stream '{stream}' takes {most}", entry.size());
            return Err(Error::data(message));
        }
        Ok(Some((stream, entry)))
    }

    /// Looks at the streams of a batch that were not seen before.
    async fn ensure_streams(&mut self, records: &[SinkRecord]) -> Result<()> {
        let mut last: Option<Arc<str>> = None;
        for record in records {
            // Nearly always one topic after the other; its stream depends on nothing else.
            if last.as_deref() == Some(&*record.record.topic) {
                continue;
            }
            last = Some(record.record.topic.clone());
            let stream = self.stream_of(&mut record.record.clone())?;
            let running = self.running()?;
            if !running.streams.contains_key(&stream) {
                let summary = running.kinesis.ensure_stream(&stream).await?;
                let kib = summary.max_record_size_in_kib.and_then(|kib| usize::try_from(kib).ok());
                running.streams.insert(stream, kib.filter(|kib| *kib > 0).unwrap_or(RECORD_KIB_MAX) * 1024);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl SinkTask for KinesisSinkTask {
    async fn start(&mut self, context: &SinkTaskContext) -> Result<()> {
        let config = &self.config;
        let kinesis = Kinesis::connect(&config.connection, config.create_shards, &context.state_dir).await?;
        if let Some(stream) = config.stream.fixed() {
            kinesis.ensure_stream(stream).await?;
        }
        let rules = Rules {
            ordering: config.ordering,
            records_max: config.batch_records,
            bytes_max: REQUEST_BYTES_MAX,
            backoff_max: config.backoff_max,
        };
        let (sender, progress) = watch::channel(0);
        let shared = Arc::new(Shared {
            outbox: Mutex::new(Outbox::new(rules)),
            work: Notify::new(),
            progress: sender,
            trouble: Mutex::default(),
        });
        let mut sender = JoinSet::new();
        sender.spawn(send_all(shared.clone(), kinesis.clone(), context.clone(), config.requests_max));
        let (open, streams) = (BTreeMap::new(), HashMap::new());
        let context = context.clone();
        self.running = Some(Running { context, kinesis, shared, progress, open, streams, told: None, sender });
        Ok(())
    }

    async fn open(&mut self, committed: &Positions) -> Result<Positions> {
        let running = self.running()?;
        let mut outbox = running.shared.outbox.lock();
        outbox.halt(false);
        for (partition, position) in committed {
            let assignment = outbox.open(*position);
            if let Some(old) = running.open.insert(partition.clone(), assignment) {
                outbox.close(old);
            }
        }
        running.shared.work.notify_one();
        // A stream doesn't say which records of a topic it holds.
        Ok(Positions::new())
    }

    async fn put(&mut self, batch: &SinkBatch) -> Result<()> {
        let buffer_bytes = self.config.buffer_bytes;
        let running = self.running()?;
        running.check()?;
        running.make_room(buffer_bytes).await?;
        self.ensure_streams(&batch.records).await?;
        // Nothing waits from here on, so that a batch is taken as a whole or not at all.
        let running = self.running.as_ref().expect("it was there above");
        let Some(assignment) = running.open.get(&batch.partition).copied() else { return Ok(()) };
        let accepted = running.shared.outbox.lock().accepted(assignment);
        let mut entries = Vec::with_capacity(batch.records.len());
        for record in batch.records_from(accepted) {
            match self.entry_of(record, assignment, &running.streams) {
                Ok(Some(entry)) => entries.push(entry),
                Ok(None) => running.context.count("records.without.value", 1),
                Err(error) if error.kind() == ErrorKind::PoisonRecord => {
                    running.context.report(&batch.partition, record, error)?;
                }
                Err(error) => return Err(error),
            }
        }
        let mut outbox = running.shared.outbox.lock();
        outbox.halt(false);
        for (stream, entry) in entries {
            outbox.push(&stream, entry);
        }
        outbox.accept(assignment, batch.next_offset);
        running.context.buffered(outbox.bytes());
        drop(outbox);
        running.shared.work.notify_one();
        Ok(())
    }

    async fn flush(&mut self, reason: FlushReason) -> Result<Positions> {
        let running = self.running()?;
        running.check()?;
        match reason {
            FlushReason::Interval => running.check_failing()?,
            FlushReason::Pressure | FlushReason::CaughtUp => {
                running.wait(PATIENCE, Outbox::is_empty).await?;
            }
            FlushReason::Closing => {
                running.shared.outbox.lock().halt(true);
                let ended = running.wait(CLOSING_PATIENCE, |outbox| outbox.in_flight() == 0).await;
                if let Err(error) = ended {
                    tracing::info!(%error, "requests are still in progress; their records will be delivered again");
                }
            }
        }
        let outbox = running.shared.outbox.lock();
        running.context.buffered(outbox.bytes());
        let positions = running
            .open
            .iter()
            .filter_map(|(partition, assignment)| Some((partition.clone(), outbox.position(*assignment)?)))
            // Without a committed offset and without records there is no position yet.
            .filter(|(_, position)| *position >= 0);
        Ok(positions.collect())
    }

    async fn close(&mut self, partitions: &[TopicPartition], _reason: CloseReason) -> Result<()> {
        let running = self.running()?;
        let closed: Vec<u64> = partitions.iter().filter_map(|partition| running.open.remove(partition)).collect();
        {
            let mut outbox = running.shared.outbox.lock();
            for assignment in &closed {
                outbox.close(*assignment);
            }
            running.context.buffered(outbox.bytes());
        }
        // Whoever has the partitions next must not find records appearing behind its back.
        let quiet = |outbox: &Outbox| !closed.iter().any(|assignment| outbox.is_in_flight(*assignment));
        if let Err(error) = running.wait(CLOSING_PATIENCE, quiet).await {
            tracing::warn!(%error, "requests of partitions that are given up are still in progress");
        }
        running.shared.outbox.lock().halt(false);
        running.shared.work.notify_one();
        Ok(())
    }

    async fn stop(&mut self) -> Result<()> {
        if let Some(mut running) = self.running.take() {
            running.sender.shutdown().await;
        }
        Ok(())
    }
}

impl Running {
    /// What can't be retried ends the task at its next call.
    fn check(&self) -> Result<()> {
        match &self.shared.trouble.lock().fatal {
            Some((message, kind)) => Err(Error::new(*kind, message.clone())),
            None => Ok(()),
        }
    }

    /// Tells of requests that have failed for a while, once in a while: what the runtime shows.
    fn check_failing(&mut self) -> Result<()> {
        let trouble = self.shared.trouble.lock();
        let Some((since, message, kind)) = &trouble.failing else {
            self.told = None;
            return Ok(());
        };
        if self.told.unwrap_or(*since).elapsed() < FAILURE_PATIENCE {
            return Ok(());
        }
        self.told = Some(Instant::now());
        Err(Error::new(*kind, message.clone()))
    }

    /// Waits until less is held back than that.
    async fn make_room(&mut self, bytes_max: usize) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.progress.borrow_and_update();
            if self.shared.outbox.lock().bytes() < bytes_max {
                return Ok(());
            }
            self.wait_once(begun, PATIENCE).await?;
        }
    }

    /// Waits until the outbox is as wanted.
    async fn wait(&mut self, patience: Duration, wanted: impl Fn(&Outbox) -> bool) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.progress.borrow_and_update();
            if wanted(&self.shared.outbox.lock()) {
                return Ok(());
            }
            self.wait_once(begun, patience).await?;
        }
    }

    /// Waits for the end of a request.
    async fn wait_once(&mut self, begun: Instant, patience: Duration) -> Result<()> {
        self.check()?;
        self.check_failing()?;
        let until = (Instant::now() + FAILURE_PATIENCE).min(begun + patience);
        if tokio::time::timeout_at(until, self.progress.changed()).await.is_err() && begun.elapsed() >= patience {
            self.check_failing()?;
            return Err(Error::retriable(format!("requests are not through within {} s", patience.as_secs())));
        }
        Ok(())
    }
}

impl fmt::Debug for KinesisSinkTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KinesisSinkTask")
    }
}

/// Makes requests of what is in the outbox, until it is dropped.
async fn send_all(shared: Arc<Shared>, kinesis: Kinesis, context: SinkTaskContext, requests_max: usize) {
    let mut requests = JoinSet::new();
    loop {
        let due = {
            let mut outbox = shared.outbox.lock();
            while requests.len() < requests_max
                && let Some(batch) = outbox.next_batch(Instant::now())
            {
                let kinesis = kinesis.clone();
                requests.spawn(async move {
                    let outcome = send(&kinesis, &batch).await;
                    (batch, outcome)
                });
            }
            outbox.next_due()
        };
        let due = due.filter(|_| requests.len() < requests_max);
        tokio::select! {
            Some(done) = requests.join_next() => match done {
                Ok((batch, outcome)) => settle(&shared, &context, batch, outcome),
                Err(error) => {
                    shared.trouble.lock().fatal = Some((format!("a request broke down: {error}"), ErrorKind::Fatal));
                }
            },
            () = shared.work.notified() => continue,
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => continue,
        }
        shared.progress.send_modify(|requests| *requests += 1);
    }
}

/// Sends a batch. For each record the answer holds why it was refused, if it was.
async fn send(kinesis: &Kinesis, batch: &Batch) -> Result<Vec<Option<String>>, Failure> {
    const OPERATION: &str = "put records";
    let entries = batch.entries.iter().map(|entry| {
        let built = PutRecordsRequestEntry::builder().partition_key(&*entry.key).data(Blob::new(entry.data.to_vec()));
        built.build().expect("data and key are set")
    });
    let request = kinesis.client.put_records().stream_name(&*batch.stream).set_records(Some(entries.collect()));
    let answer = request.send().await.map_err(|error| {
        let mut failure = from_sdk(error, OPERATION, &kinesis.place);
        failure.error = failure.error.with("stream", &batch.stream);
        failure
    })?;
    if answer.records.len() != batch.entries.len() {
        let error = Error::retriable(format!(
            "{OPERATION}: {} records were sent and {} answered",
            batch.entries.len(),
            answer.records.len()
        ));
        return Err(Failure { what: What::Unsure, error });
    }
    let refused = answer.records.into_iter().map(|record| {
        let code = record.error_code?;
        Some(record.error_message.map_or_else(|| code.clone(), |message| format!("{code}: {message}")))
    });
    Ok(refused.collect())
}

fn settle(shared: &Shared, context: &SinkTaskContext, batch: Batch, outcome: Result<Vec<Option<String>>, Failure>) {
    let now = Instant::now();
    let count = batch.entries.len();
    let random = rand::random();
    match outcome {
        Ok(refused) => {
            let stored: Vec<bool> = refused.iter().map(Option::is_none).collect();
            let deliveries = batch.entries.iter().zip(&stored).filter(|(_, stored)| **stored);
            let (records, bytes) = deliveries
                .clone()
                .fold((0, 0), |(records, bytes), (entry, _)| (records + 1, bytes + entry.data.len() as u64));
            let sample = deliveries.map(|(entry, _)| sample(&entry.data)).next();
            let location = format!("kinesis:{}", batch.stream);
            let stream = batch.stream.clone();
            let overtaken = shared.outbox.lock().settle(batch, &stored, false, now, random);
            if records > 0 {
                context.delivered(Delivery { location, records, bytes, sample });
            }
            if overtaken > 0 {
                context.count("records.overtaken", overtaken as u64);
            }
            let mut trouble = shared.trouble.lock();
            match refused.into_iter().flatten().next() {
                Some(why) => {
                    context.count("records.refused", count as u64 - records);
                    if records > 0 {
                        trouble.failing = None;
                    } else {
                        let message =
                            format!("put records: every record of a request was refused: {why} (stream={stream})");
                        let since = trouble.failing.take().map_or(now, |(since, ..)| since);
                        trouble.failing = Some((since, message, ErrorKind::Retriable));
                    }
                }
                None => trouble.failing = None,
            }
        }
        Err(failure) => {
            if failure.what == What::Unsure {
                // Stored or not: who sends again may store twice, who doesn't may lose.
                context.count("records.repeated.possible", count as u64);
            }
            shared.outbox.lock().settle(batch, &vec![false; count], true, now, random);
            let (message, kind) = (failure.error.to_string(), failure.error.kind());
            let mut trouble = shared.trouble.lock();
            if failure.error.is_retriable() {
                let since = trouble.failing.take().map_or(now, |(since, ..)| since);
                trouble.failing = Some((since, message, kind));
            } else {
                trouble.fatal = Some((message, kind));
            }
        }
    }
}

/// The beginning of a record, for a person.
fn sample(data: &[u8]) -> String {
    String::from_utf8_lossy(&data[..data.len().min(SAMPLE_MAX)]).into_owned()
}
