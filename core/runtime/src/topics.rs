//! Looking into topics and writing to them from outside: `ottla topics`, also beside a running worker.
//!
//! The worker alone may open its state folder, so it answers questions at a socket in it, `ottla.sock`: one JSON object a
//! line, a question and an answer in turn. Where no worker runs, the same questions are answered by a broker in this process.
//! Only the owner of the folder may connect.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use ottla_api::config::Properties;
use ottla_api::offset::{SourceOffsets, TopicPartition};
use ottla_api::record::RawRecord;
use ottla_api::{Error, ErrorKind, Result, error::ResultExt};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::broker::{Broker, Producer, ProducerRecord};

const SOCKET: &str = "ottla.sock";
/// A path in a socket's address holds 107 bytes on Linux, 103 elsewhere.
const ADDRESS_MAX: usize = 100;
/// The longest question or answer: the largest record of the embedded topics in hexadecimal, and then some.
const LINE_MAX: u64 = 160 << 20;
/// Most records in one answer.
const RECORDS_MAX: usize = 1000;

/// Answers questions about a worker's topics as long as it lives.
#[derive(Debug)]
pub struct TopicsServer {
    path: PathBuf,
    stop: CancellationToken,
    serving: Option<AbortOnDropHandle<()>>,
}

impl TopicsServer {
    /// Begins to answer at `ottla.sock` in `dir`, which this worker has locked. Where the folder can't hold a socket the worker
    /// goes on without, and says so.
    pub async fn serve(dir: &Path, broker: Arc<dyn Broker>) -> Result<Self> {
        let (path, stop) = (dir.join(SOCKET), CancellationToken::new());
        let serving = match bind(dir) {
            Ok(listener) => Some(AbortOnDropHandle::new(tokio::spawn(accept(listener, broker, stop.clone())))),
            Err(error) => {
                tracing::warn!(%error, "'ottla topics' will not work beside this worker");
                None
            }
        };
        Ok(Self { path, stop, serving })
    }

    /// Stops answering; questions that are being answered are finished.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(serving) = self.serving.take() {
            let _ = serving.await;
        }
    }
}

impl Drop for TopicsServer {
    fn drop(&mut self) {
        self.stop.cancel();
        let _ = fs::remove_file(&self.path);
    }
}

/// A socket's path within what an address can hold: through an open folder where it is too long by name.
fn with_address<T>(dir: &Path, name: &str, work: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let path = dir.join(name);
    if path.as_os_str().len() <= ADDRESS_MAX {
        return work(&path);
    }
    if !cfg!(target_os = "linux") {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path is too long for a socket; use a shorter one",
        ));
    }
    let folder = fs::File::open(dir)?;
    work(&PathBuf::from(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd())))
}

fn bind(dir: &Path) -> Result<UnixListener> {
    // Under its real name it appears only when nobody else may connect, and in place of one that a killed worker left.
    let unfinished = format!("{SOCKET}.new");
    let make = || -> io::Result<UnixListener> {
        match fs::remove_file(dir.join(&unfinished)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = with_address(dir, &unfinished, |path| UnixListener::bind(path))?;
        fs::set_permissions(dir.join(&unfinished), fs::Permissions::from_mode(0o600))?;
        fs::rename(dir.join(&unfinished), dir.join(SOCKET))?;
        Ok(listener)
    };
    make().or_error(ErrorKind::Config, format!("make socket {}", dir.join(SOCKET).display()))
}

async fn accept(listener: UnixListener, broker: Arc<dyn Broker>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, broker.clone(), stop.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "'ottla topics' could not connect");
                    // Most likely no file handles are left; others will be closed.
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    while connections.join_next().await.is_some() {}
}

/// Answers one client until it goes away or the worker stops.
async fn converse(stream: UnixStream, broker: Arc<dyn Broker>, stop: CancellationToken) {
    let mut answering = Answering { broker, producer: None };
    let mut stream = BufReader::new(stream);
    loop {
        let line = tokio::select! {
            () = stop.cancelled() => return,
            line = read_line(&mut stream) => line,
        };
        let Ok(Some(line)) = line else { return };
        let answer = match serde_json::from_slice::<Question>(&line) {
            Ok(question) => answering.answer(question).await,
            Err(error) => Err(Error::config("the question can't be read").caused_by(error)),
        };
        let answer = answer.unwrap_or_else(|error| Answer::Failed(WireError::of(&error)));
        if write_line(&mut stream, &answer).await.is_err() {
            return;
        }
    }
}

async fn read_line(stream: &mut BufReader<UnixStream>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    stream.take(LINE_MAX).read_until(b'\n', &mut line).await?;
    Ok((line.last() == Some(&b'\n')).then_some(line))
}

async fn write_line(stream: &mut BufReader<UnixStream>, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.flush().await
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
enum Question {
    List { groups: Vec<String> },
    Read { topic: String, partition: i32, offset: i64, records_max: usize },
    Write { topic: String, partition: Option<i32>, records: Vec<WireRecord> },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Partitions(Vec<PartitionState>),
    Records(Vec<WireRecord>),
    Written(Vec<Result<(i32, i64), WireError>>),
    Failed(WireError),
}

/// What a partition holds, and how far groups have come in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    /// The topic.
    pub topic: String,
    /// The number of the partition.
    pub partition: i32,
    /// The oldest offset still there.
    pub start: i64,
    /// The offset that the next record gets.
    pub end: i64,
    /// Positions of the groups that were asked for, where they have one.
    pub committed: BTreeMap<String, i64>,
}

/// A record in JSON. Offset and timestamp are the broker's in answers; a question may name a timestamp.
#[derive(Debug, Serialize, Deserialize)]
struct WireRecord {
    #[serde(default)]
    offset: i64,
    timestamp: Option<i64>,
    key: Option<WireBytes>,
    value: Option<WireBytes>,
    #[serde(default)]
    headers: Vec<(String, Option<WireBytes>)>,
}

/// Bytes in JSON: text where they are text.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum WireBytes {
    Text(String),
    Hex { hex: String },
}

impl WireBytes {
    fn of(bytes: &Bytes) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Hex { hex: bytes.iter().map(|byte| format!("{byte:02x}")).collect() },
        }
    }

    fn into_bytes(self) -> Result<Bytes> {
        match self {
            Self::Text(text) => Ok(text.into()),
            Self::Hex { hex } => {
                let wrong = || Error::config("bytes in hexadecimal must be pairs of digits");
                let digits: Option<Vec<u32>> = hex.chars().map(|digit| digit.to_digit(16)).collect();
                let digits = digits.filter(|digits| digits.len() % 2 == 0).ok_or_else(wrong)?;
                Ok(digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect())
            }
        }
    }
}

impl WireRecord {
    fn of(record: &RawRecord) -> Self {
        let wire = |bytes: &Option<Bytes>| bytes.as_ref().map(WireBytes::of);
        Self {
            offset: record.offset,
            timestamp: record.timestamp,
            key: wire(&record.key),
            value: wire(&record.value),
            headers: record.headers.iter().map(|(name, value)| (name.clone(), wire(value))).collect(),
        }
    }

    fn into_raw(self) -> Result<RawRecord> {
        let bytes = |wire: Option<WireBytes>| wire.map(WireBytes::into_bytes).transpose();
        let header = |(name, value)| Ok((name, bytes(value)?));
        Ok(RawRecord {
            offset: self.offset,
            timestamp: self.timestamp,
            key: bytes(self.key)?,
            value: bytes(self.value)?,
            headers: self.headers.into_iter().map(header).collect::<Result<_>>()?,
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct WireError {
    kind: String,
    message: String,
}

impl WireError {
    fn of(error: &Error) -> Self {
        Self { kind: format!("{:?}", error.kind()), message: error.to_string() }
    }

    fn into_error(self) -> Error {
        let kind = match self.kind.as_str() {
            "Retriable" => ErrorKind::Retriable,
            "Unreachable" => ErrorKind::Unreachable,
            "RefreshAuth" => ErrorKind::RefreshAuth,
            "PoisonRecord" => ErrorKind::PoisonRecord,
            "Config" => ErrorKind::Config,
            _ => ErrorKind::Fatal,
        };
        Error::new(kind, self.message)
    }
}

/// Answers with a broker of this process.
struct Answering {
    broker: Arc<dyn Broker>,
    producer: Option<Box<dyn Producer>>,
}

impl Answering {
    async fn answer(&mut self, question: Question) -> Result<Answer> {
        match question {
            Question::List { groups } => self.list(groups).await.map(Answer::Partitions),
            Question::Read { topic, partition, offset, records_max } => {
                let partition = TopicPartition::new(topic, partition);
                let records = self.broker.read(&partition, offset, records_max.min(RECORDS_MAX)).await?;
                Ok(Answer::Records(records.iter().map(WireRecord::of).collect()))
            }
            Question::Write { topic, partition, records } => self.write(&topic, partition, records).await,
        }
    }

    async fn list(&mut self, groups: Vec<String>) -> Result<Vec<PartitionState>> {
        let topics: Vec<String> = self.broker.topics().await?.into_keys().collect();
        let mut committed = Vec::new();
        for group in groups {
            let positions = self.broker.committed(&group, &topics).await?;
            committed.push((group, positions));
        }
        let of = |partition: &TopicPartition| {
            committed
                .iter()
                .filter_map(|(group, positions)| Some((group.clone(), *positions.get(partition)?)))
                .collect()
        };
        let ranges = self.broker.offsets(&topics).await?;
        let state = |(partition, range): (TopicPartition, crate::broker::OffsetRange)| PartitionState {
            topic: partition.topic.to_string(),
            partition: partition.partition,
            start: range.start,
            end: range.end,
            committed: of(&partition),
        };
        Ok(ranges.into_iter().map(state).collect())
    }

    async fn write(&mut self, topic: &str, partition: Option<i32>, records: Vec<WireRecord>) -> Result<Answer> {
        let topic: Arc<str> = topic.into();
        let record = |wire: WireRecord| {
            let RawRecord { timestamp, key, value, headers, .. } = wire.into_raw()?;
            Ok(ProducerRecord { topic: topic.clone(), partition, key, value, timestamp, headers })
        };
        let records: Vec<ProducerRecord> = records.into_iter().map(record).collect::<Result<_>>()?;
        let producer = match &mut self.producer {
            Some(producer) => producer,
            none => none.insert(self.broker.producer("ottla-topics", &Properties::new()).await?),
        };
        let results = producer.send(&records, &SourceOffsets::new(), "").await?;
        let place = |result: Result<(TopicPartition, i64)>| match result {
            Ok((partition, offset)) => Ok((partition.partition, offset)),
            Err(error) => Err(WireError::of(&error)),
        };
        Ok(Answer::Written(results.into_iter().map(place).collect()))
    }
}

/// Topics to look into and to write to: those of a running worker, or of a broker in this process.
pub struct Topics(Way);

enum Way {
    Worker(Box<BufReader<UnixStream>>),
    Here(Box<Answering>),
}

impl fmt::Debug for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Way::Worker(_) => "Topics of a running worker",
            Way::Here(_) => "Topics",
        })
    }
}

impl Topics {
    /// The topics of the worker that runs with this state folder; none where no worker does.
    pub async fn of_worker(dir: &Path) -> Result<Option<Self>> {
        let connected = match with_address(dir, SOCKET, |path| std::os::unix::net::UnixStream::connect(path)) {
            Ok(stream) => stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream)),
            // A worker that was killed leaves its socket behind.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => Err(error),
        };
        let stream = connected
            .or_error(ErrorKind::Unreachable, format!("connect to the worker at {}", dir.join(SOCKET).display()))?;
        Ok(Some(Self(Way::Worker(Box::new(BufReader::new(stream))))))
    }

    /// The topics of a broker.
    pub fn of_broker(broker: Arc<dyn Broker>) -> Self {
        Self(Way::Here(Box::new(Answering { broker, producer: None })))
    }

    async fn ask(&mut self, question: Question) -> Result<Answer> {
        let answer = match &mut self.0 {
            Way::Here(answering) => answering.answer(question).await?,
            Way::Worker(stream) => {
                let ask = async {
                    write_line(stream, &question).await?;
                    read_line(stream).await
                };
                let answer = ask.await.or_error(ErrorKind::Unreachable, "ask the worker")?;
                let answer = answer.ok_or_else(|| Error::unreachable("the worker has stopped"))?;
                serde_json::from_slice(&answer).or_error(ErrorKind::Fatal, "read the worker's answer")?
            }
        };
        match answer {
            Answer::Failed(error) => Err(error.into_error()),
            answer => Ok(answer),
        }
    }

    /// All partitions, by topic, with the positions of these groups.
    pub async fn list(&mut self, groups: Vec<String>) -> Result<Vec<PartitionState>> {
        match self.ask(Question::List { groups }).await? {
            Answer::Partitions(partitions) => Ok(partitions),
            _ => Err(unexpected()),
        }
    }

    /// What is there now from `offset` on: some of it, at most `records_max`; nothing where there is no more.
    pub async fn read(
        &mut self,
        partition: &TopicPartition,
        offset: i64,
        records_max: usize,
    ) -> Result<Vec<RawRecord>> {
        let TopicPartition { topic, partition } = partition;
        let question = Question::Read { topic: topic.to_string(), partition: *partition, offset, records_max };
        match self.ask(question).await? {
            Answer::Records(records) => records.into_iter().map(WireRecord::into_raw).collect(),
            _ => Err(unexpected()),
        }
    }

    /// Writes records, durably when this returns. Their offsets are ignored. Answers partition and offset of each, or what is
    /// wrong with it.
    pub async fn write(
        &mut self,
        topic: &str,
        partition: Option<i32>,
        records: &[RawRecord],
    ) -> Result<Vec<Result<(i32, i64)>>> {
        let records = records.iter().map(WireRecord::of).collect();
        match self.ask(Question::Write { topic: topic.to_owned(), partition, records }).await? {
            Answer::Written(results) => {
                Ok(results.into_iter().map(|result| result.map_err(WireError::into_error)).collect())
            }
            _ => Err(unexpected()),
        }
    }
}

fn unexpected() -> Error {
    Error::fatal("the worker answered another question; it may be of another version")
}
