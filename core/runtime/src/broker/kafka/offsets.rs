//! Source offsets in a topic of the cluster, in Kafka Connect's own format, so that either can take over from the other.
//!
//! A key is the JSON array of the connector's name and the source partition, `["posts",{"table":"pin"}]`; a value is the
//! JSON object of the offset, or nothing where it was removed. Kafka Connect writes the fields of a partition in the order of a
//! Java hash map, and the compaction of the topic compares bytes: so partitions are compared with their fields sorted, and a key
//! that is there already is written again as it stands.
//!
//! One key is ours alone: `["posts",{"ottla":"claim"}]` says which process runs the connector, see `transactions`. To Kafka
//! Connect it is the offset of a partition that nobody asks for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_api::config::Properties;
use ottla_api::data::{Map, Value, json};
use ottla_api::offset::{SourceOffset, SourceOffsets, SourcePartition, TopicPartition};
use ottla_api::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::topic_partition_list::Offset;

use super::context::{Connection, Context, partition_list};
use super::settings::{Role, Settings};
use super::{PATIENCE, ask, is_missing, list_offsets};
use crate::broker::{OffsetRange, OffsetStore};

/// How long somebody's open transaction may hide the end of the offsets before a call says so.
const OPEN_TRANSACTION_MAX: Duration = Duration::from_secs(15);

/// The field that makes a source partition a claim.
const CLAIM_FIELD: &str = "ottla";
/// Claims lie in this partition, whatever their hash: who looks for one need not read the others.
pub(super) const CLAIM_PARTITION: i32 = 0;

/// Which process runs a connector, and by which transactional ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    /// A random name of the process.
    pub(super) instance: String,
    /// The first part of its ids, for its successor, which has to fence them all.
    pub(super) group: String,
    /// How many there are.
    pub(super) tasks: usize,
}

impl Claim {
    pub(super) fn key(connector: &str) -> Bytes {
        key_of(connector, &format!(r#"{{"{CLAIM_FIELD}":"claim"}}"#))
    }

    pub(super) fn value(&self) -> Bytes {
        let fields: Map = [
            ("instance", Value::from(self.instance.as_str())),
            ("group", Value::from(self.group.as_str())),
            ("tasks", Value::from(self.tasks as i64)),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        Bytes::from(json::to_string(&Value::Map(fields)))
    }

    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        let offset = SourceOffset::from_json(value).ok()?;
        let tasks = usize::try_from(offset.get_i64("tasks")?).ok()?;
        let text = |name: &str| offset.get_str(name).map(str::to_owned);
        Some(Self { instance: text("instance")?, group: text("group")?, tasks })
    }
}

fn key_of(connector: &str, partition: &str) -> Bytes {
    let name = json::to_string(&Value::from(connector));
    Bytes::from(format!("[{name},{partition}]"))
}

/// The source partition of a key of this connector; nothing for another's, and for a claim.
fn partition_of_key(connector: &str, key: &[u8]) -> Option<SourcePartition> {
    let Ok(Value::Array(parts)) = json::parse(key) else { return None };
    match &parts[..] {
        [Value::String(name), Value::Map(fields)] if name == connector && !fields.contains(CLAIM_FIELD) => {
            SourcePartition::from_json(&json::to_string(&parts[1])).ok()
        }
        _ => None,
    }
}

/// A source partition with its fields sorted: what is equal to Kafka Connect is equal here.
fn sorted(partition: &str) -> String {
    match json::parse(partition.as_bytes()) {
        Ok(value) => json::to_string(&with_sorted_fields(value)),
        Err(_) => partition.to_owned(),
    }
}

fn with_sorted_fields(value: Value) -> Value {
    let Value::Map(map) = value else { return value };
    let mut fields: Vec<(String, Value)> =
        map.iter().map(|(name, value)| (name.to_owned(), with_sorted_fields(value.clone()))).collect();
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    Value::Map(fields.into_iter().collect())
}

/// Where the record of an offset lies, to tell which of two is newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// In the connector's own topic, not the one that is looked at afterwards.
    pub(super) own_topic: bool,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) timestamp: i64,
}

impl Place {
    fn is_newer_than(self, other: Self) -> bool {
        if self.own_topic != other.own_topic {
            return self.own_topic;
        }
        // One key with its fields in two orders may lie in two partitions.
        match self.partition == other.partition {
            true => self.offset > other.offset,
            false => self.timestamp >= other.timestamp,
        }
    }
}

#[derive(Debug, Clone)]
struct Known {
    key: Bytes,
    partition: SourcePartition,
    /// Nothing where the offset was removed.
    value: Option<Bytes>,
    place: Place,
    /// How many readings had begun when this was taken up.
    readings: u64,
}

impl Known {
    fn offset(&self) -> Result<Option<SourceOffset>> {
        let read = |value: &Bytes| {
            SourceOffset::from_json(value).map_err(|error| {
                error.of_kind(ErrorKind::Fatal).during(format!("read source offset of {}", self.partition))
            })
        };
        // Kafka Connect's JSON converter writes a missing value as `null`, too.
        self.value.as_ref().filter(|value| value.as_ref() != b"null").map(read).transpose()
    }
}

/// The newest record of each source partition, by the partition with its fields sorted.
type Newest = BTreeMap<String, Known>;

/// Takes a record up, where it is newer than what is there.
fn take_newer(newest: &mut Newest, record: Known) {
    let name = sorted(record.partition.as_json());
    if newest.get(&name).is_none_or(|there| record.place.is_newer_than(there.place)) {
        newest.insert(name, record);
    }
}

/// The committed offsets of one connector: what its topic held when it was read last, and what was committed since.
#[derive(Debug)]
pub(super) struct CommittedOffsets {
    connector: Arc<str>,
    known: Mutex<Newest>,
    /// How often a reading of the topic has begun. Changes only under the lock of `known`.
    readings: AtomicU64,
    /// Offsets from before the connector's were kept in the cluster.
    earlier: Arc<dyn OffsetStore>,
}

/// What a reading of the topic has found so far.
pub(super) struct Reading {
    connector: Arc<str>,
    number: u64,
    found: Newest,
}

impl Reading {
    /// Takes up a record of the topic. Keys of other connectors are passed over.
    pub(super) fn take(&mut self, key: &[u8], value: Option<&[u8]>, place: Place) {
        if let Some(record) = known(&self.connector, key, value, place, self.number) {
            take_newer(&mut self.found, record);
        }
    }
}

/// A record of the topic; nothing where it is not an offset of this connector.
fn known(connector: &str, key: &[u8], value: Option<&[u8]>, place: Place, readings: u64) -> Option<Known> {
    let partition = partition_of_key(connector, key)?;
    let (key, value) = (Bytes::copy_from_slice(key), value.map(Bytes::copy_from_slice));
    Some(Known { key, partition, value, place, readings })
}

impl CommittedOffsets {
    pub(super) fn new(connector: Arc<str>, earlier: Arc<dyn OffsetStore>) -> Self {
        Self { connector, known: Mutex::default(), readings: AtomicU64::new(0), earlier }
    }

    /// The key to write a partition's offset with.
    pub(super) fn key(&self, partition: &SourcePartition) -> Bytes {
        match self.known.lock().get(&sorted(partition.as_json())) {
            Some(known) => known.key.clone(),
            None => key_of(&self.connector, partition.as_json()),
        }
    }

    /// Takes up what was committed.
    pub(super) fn take(&self, key: &[u8], value: Option<&[u8]>, place: Place) {
        let mut newest = self.known.lock();
        if let Some(record) = known(&self.connector, key, value, place, self.readings.load(Ordering::Acquire)) {
            take_newer(&mut newest, record);
        }
    }

    /// Begins to read the topic from its start.
    pub(super) fn begin_reading(&self) -> Reading {
        let _unchanged = self.known.lock();
        let number = self.readings.fetch_add(1, Ordering::AcqRel) + 1;
        Reading { connector: self.connector.clone(), number, found: Newest::new() }
    }

    /// What was read takes the place of all that was known when the reading began: the cluster may have taken a commit back that it
    /// had called done. Only what other tasks have committed meanwhile stays.
    pub(super) fn finish_reading(&self, reading: Reading) {
        let mut newest = self.known.lock();
        newest.retain(|_, record| record.readings >= reading.number);
        for record in reading.found.into_values() {
            take_newer(&mut newest, record);
        }
    }
}

impl OffsetStore for CommittedOffsets {
    fn get(&self, connector: &str, partition: &SourcePartition) -> Result<Option<SourceOffset>> {
        let known = self.known.lock().get(&sorted(partition.as_json())).cloned();
        match known {
            Some(known) => known.offset(),
            None => self.earlier.get(connector, partition),
        }
    }

    fn put(&self, _connector: &str, _offsets: &SourceOffsets) -> Result<()> {
        Err(Error::fatal("the offsets of an exactly-once source are written within its transactions only"))
    }

    fn all(&self, connector: &str) -> Result<SourceOffsets> {
        let mut offsets = self.earlier.all(connector)?;
        let known = self.known.lock();
        offsets.retain(|partition, _| !known.contains_key(&sorted(partition.as_json())));
        for known in known.values() {
            if let Some(offset) = known.offset()? {
                offsets.insert(known.partition.clone(), offset);
            }
        }
        Ok(offsets)
    }
}

/// Which records a reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isolation {
    /// Those of committed transactions, and none behind the first open one.
    Committed,
    /// All.
    Uncommitted,
}

/// Reads topics from any place to their end, also internal ones. Blocks its thread.
#[derive(Debug, Clone)]
pub(super) struct TopicReader {
    pub(super) bootstrap: String,
    pub(super) settings: Settings,
}

impl TopicReader {
    pub(super) fn client(&self, isolation: Isolation) -> Result<BaseConsumer<Context>> {
        let mut config = self.settings.client_config(Role::Admin, &Properties::new())?;
        // Without a group's name librdkafka does not read; nothing is ever sent in it.
        config.set("client.id", "ottla-offsets").set("group.id", "ottla-offsets");
        config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        config.set("auto.offset.reset", "error").set("enable.partition.eof", "true");
        config.set(
            "isolation.level",
            match isolation {
                Isolation::Committed => "read_committed",
                Isolation::Uncommitted => "read_uncommitted",
            },
        );
        let connection = Connection::new("ottla-offsets", &self.bootstrap);
        let context = Context::new(connection.clone());
        config.create_with_context(context).map_err(|error| connection.failure("make a client", &error))
    }

    /// Visits every record that `topic` held when this was called, of one partition or all, and answers where each partition
    /// ended. Nothing where there is no such topic.
    ///
    /// With [`Isolation::Committed`] it waits until no transaction is open before those ends: otherwise a neighbour's open
    /// transaction would hide a committed offset behind it, and old work would be done again.
    pub(super) fn read(
        &self,
        topic: &str,
        only: Option<i32>,
        from: i64,
        isolation: Isolation,
        visit: impl FnMut(&BorrowedMessage<'_>),
    ) -> Result<Option<BTreeMap<TopicPartition, OffsetRange>>> {
        let doing = format!("read topic '{topic}'");
        let Some(ranges) = self.ranges(topic, only, &doing)? else { return Ok(None) };
        let reader = self.client(isolation)?;
        if isolation == Isolation::Committed
            && let Some(partition) = wait_for_open_transactions(&reader, &ranges, &doing)?.hidden
        {
            return Err(hidden_in(&partition).during(doing));
        }
        visit_ranges(&reader, &ranges, from, &doing, visit)?;
        Ok(Some(ranges))
    }

    /// Whether a committed transaction wrote the record at this place; nothing where an open one hides it for too long.
    pub(super) fn is_committed(&self, place: &TopicPartition, offset: i64) -> Result<Option<bool>> {
        let doing = format!("read {place}");
        let reader = self.client(Isolation::Committed)?;
        let record = BTreeMap::from([(place.clone(), OffsetRange { start: offset, end: offset + 1 })]);
        let Visible { ranges, hidden } = wait_for_open_transactions(&reader, &record, &doing)?;
        if hidden.is_some() {
            return Ok(None);
        }
        // What a topic has removed in the meantime was there.
        if ranges.get(place).is_some_and(|range| range.start > offset) {
            return Ok(Some(true));
        }
        let mut found = false;
        visit_ranges(&reader, &record, offset, &doing, |message| found |= message.offset() == offset)?;
        Ok(Some(found))
    }

    /// First offset, and the one after the last that was written, per partition.
    fn ranges(
        &self,
        topic: &str,
        only: Option<i32>,
        doing: &str,
    ) -> Result<Option<BTreeMap<TopicPartition, OffsetRange>>> {
        let consumer = self.client(Isolation::Uncommitted)?;
        ask(&consumer, true, doing, |consumer, timeout| {
            // Of all topics: asking for one by name may make it.
            let metadata = consumer.fetch_metadata(None, timeout)?;
            let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
            if let Some(error) = found.error().map(|error| KafkaError::MetadataFetch(error.into())) {
                return if is_missing(&error) { Ok(None) } else { Err(error) };
            }
            let partitions: Vec<TopicPartition> = found
                .partitions()
                .iter()
                .filter(|partition| only.is_none_or(|only| only == partition.id()))
                .map(|partition| TopicPartition::new(topic, partition.id()))
                .collect();
            list_offsets(consumer, &partitions, timeout).map(Some)
        })
    }
}

/// Visits the records of these ranges from one place on, and what `reader` sees behind them.
fn visit_ranges(
    reader: &BaseConsumer<Context>,
    ranges: &BTreeMap<TopicPartition, OffsetRange>,
    from: i64,
    doing: &str,
    mut visit: impl FnMut(&BorrowedMessage<'_>),
) -> Result<()> {
    let starts = ranges.iter().filter_map(|(partition, range)| {
        let start = range.start.max(from);
        (start < range.end).then_some((partition, Offset::Offset(start)))
    });
    let mut left: Vec<i32> = Vec::new();
    let list = partition_list(starts.inspect(|(partition, _)| left.push(partition.partition)));
    let connection = reader.context().connection.clone();
    let failure = |error: &KafkaError| connection.failure(doing, error);
    reader.assign(&list).map_err(|error| failure(&error))?;
    let mut last_progress = Instant::now();
    while !left.is_empty() {
        match reader.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                last_progress = Instant::now();
                visit(&message);
            }
            // The end as this reader sees it, which lies at or behind the one that was asked for.
            Some(Err(KafkaError::PartitionEOF(number))) => {
                last_progress = Instant::now();
                left.retain(|partition| *partition != number);
            }
            Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::GroupAuthorizationFailed))) => {}
            Some(Err(error)) if !failure(&error).is_retriable() => return Err(failure(&error)),
            _ if last_progress.elapsed() > PATIENCE => {
                return Err(failure(&KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut)));
            }
            _ => {}
        }
    }
    Ok(())
}

/// An error that says what hides the records of a partition, and for how long.
pub(super) fn hidden_in(partition: &TopicPartition) -> Error {
    Error::retriable(format!(
        "a transaction of another producer is open in {partition} and hides what lies behind it; it ends with that producer's \
         transaction.timeout.ms at the latest"
    ))
}

/// What a reader of committed records sees.
pub(super) struct Visible {
    /// First offset, and the one behind the last visible record, per partition.
    pub(super) ranges: BTreeMap<TopicPartition, OffsetRange>,
    /// A partition of which a transaction, open for longer than anybody waits, hides what was written.
    pub(super) hidden: Option<TopicPartition>,
}

/// Waits until every transaction that had begun before these ends is decided, and for [`OPEN_TRANSACTION_MAX`] at most: a commit
/// is answered before its records are visible, and a neighbour's transaction may stay open for much longer.
pub(super) fn wait_for_open_transactions(
    reader: &BaseConsumer<Context>,
    written: &BTreeMap<TopicPartition, OffsetRange>,
    doing: &str,
) -> Result<Visible> {
    let partitions: Vec<TopicPartition> = written.keys().cloned().collect();
    let begun = Instant::now();
    loop {
        let ranges = ask(reader, true, doing, |consumer, timeout| list_offsets(consumer, &partitions, timeout))?;
        let mut hidden = written
            .iter()
            .filter(|(partition, range)| ranges.get(*partition).is_none_or(|visible| visible.end < range.end));
        let hidden = hidden.next().map(|(partition, _)| partition.clone());
        if hidden.is_none() || begun.elapsed() > OPEN_TRANSACTION_MAX {
            return Ok(Visible { ranges, hidden });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Place of a message.
pub(super) fn place_of(message: &BorrowedMessage<'_>, own_topic: bool) -> Place {
    Place {
        own_topic,
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct NothingEarlier;

    impl OffsetStore for NothingEarlier {
        fn get(&self, _: &str, _: &SourcePartition) -> Result<Option<SourceOffset>> {
            Ok(None)
        }

        fn put(&self, _: &str, _: &SourceOffsets) -> Result<()> {
            Ok(())
        }

        fn all(&self, _: &str) -> Result<SourceOffsets> {
            Ok(SourceOffsets::new())
        }
    }

    fn key(table: &str) -> Vec<u8> {
        format!(r#"["posts",{{"table":"{table}"}}]"#).into_bytes()
    }

    fn value(number: i64) -> Vec<u8> {
        format!(r#"{{"n":{number}}}"#).into_bytes()
    }

    fn place(offset: i64) -> Place {
        Place { own_topic: true, partition: 0, offset, timestamp: 0 }
    }

    /// What is known, by table.
    fn all(offsets: &CommittedOffsets) -> BTreeMap<String, i64> {
        let all = offsets.all("posts").expect("offsets that can be read");
        all.iter()
            .map(|(partition, offset)| (partition.as_json().to_owned(), offset.get_i64("n").expect("a number")))
            .collect()
    }

    fn expected(tables: &[(&str, i64)]) -> BTreeMap<String, i64> {
        tables.iter().map(|(table, number)| (format!(r#"{{"table":"{table}"}}"#), *number)).collect()
    }

    #[test]
    fn a_reading_replaces_what_was_known_before_it_and_nothing_that_came_later() {
        let offsets = CommittedOffsets::new("posts".into(), Arc::new(NothingEarlier));
        offsets.take(&key("kept"), Some(&value(1)), place(0));
        offsets.take(&key("taken-back"), Some(&value(7)), place(9));
        offsets.take(&key("gone"), Some(&value(3)), place(5));
        let mut reading = offsets.begin_reading();
        // Another task commits, before and behind what the reading finds.
        offsets.take(&key("meanwhile"), Some(&value(20)), place(12));
        offsets.take(&key("overtaken"), Some(&value(30)), place(13));
        reading.take(&key("kept"), Some(&value(1)), place(0));
        reading.take(&key("taken-back"), Some(&value(5)), place(4));
        reading.take(&key("meanwhile"), Some(&value(19)), place(2));
        reading.take(&key("overtaken"), Some(&value(31)), place(14));
        reading.take(br#"["others",{"table":"kept"}]"#, Some(&value(99)), place(15));
        // A second one begins later and ends earlier; what it found is as good.
        let mut second = offsets.begin_reading();
        second.take(&key("kept"), Some(&value(2)), place(16));
        offsets.finish_reading(second);
        assert_eq!(all(&offsets), expected(&[("kept", 2)]));
        offsets.finish_reading(reading);
        assert_eq!(all(&offsets), expected(&[("kept", 2), ("taken-back", 5), ("meanwhile", 19), ("overtaken", 31)]));
    }
}
