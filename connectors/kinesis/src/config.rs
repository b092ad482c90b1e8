//! Options of the source and the sink, and those of the connection, which the HTTP gateway has too.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use ottla_api::config::{ConfigValue, check_topic_name};
use ottla_api::prelude::*;

use crate::template::{PartitionKey, Template};

/// Where a Kinesis is and who asks. Confluent's names where they exist.
#[derive(Debug, Clone, Config)]
pub struct ConnectionConfig {
    /// Where Kinesis is: `embedded` (one in the worker's `state.dir`, made when it is needed), or the address of an endpoint
    /// such as `http://localhost:4568`. Unset, AWS in the configured region.
    #[config(name = "kinesis.endpoint", aliases = "endpoint, kinesis.base.url", importance = "high")]
    pub endpoint: Option<Endpoint>,
    /// Region of the streams.
    #[config(name = "kinesis.region", default = "us-east-1")]
    pub region: String,
    /// Key id, together with `aws.secret.key.id`. Unset, the usual places are searched: environment, profile files, web
    /// identity, container and instance metadata.
    #[config(name = "aws.access.key.id")]
    pub access_key_id: Option<String>,
    /// Secret of the key.
    #[config(name = "aws.secret.key.id", aliases = "aws.secret.access.key")]
    pub secret_access_key: Option<Secret>,
}

impl ConnectionConfig {
    /// Checks what one option alone can't show.
    pub fn mistakes(&self) -> Vec<ConfigError> {
        let missing = |key, other| ConfigError::new(key, format!("is missing; {other} is set and needs it"));
        match (&self.access_key_id, &self.secret_access_key) {
            (Some(_), None) => vec![missing("aws.secret.key.id", "aws.access.key.id")],
            (None, Some(_)) => vec![missing("aws.access.key.id", "aws.secret.key.id")],
            _ => Vec::new(),
        }
    }

    /// True where streams lie in the worker's own folder.
    pub fn is_embedded(&self) -> bool {
        self.endpoint == Some(Endpoint::Embedded)
    }

    /// The place as a person would name it in an error.
    pub(crate) fn place(&self) -> String {
        match &self.endpoint {
            None => format!("Kinesis in {}", self.region),
            Some(endpoint) => endpoint.to_string(),
        }
    }
}

/// `kinesis.endpoint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// The Kinesis in the worker's state folder.
    Embedded,
    /// An address with its scheme.
    Url(String),
}

impl Endpoint {
    /// True where requests don't leave this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        match self {
            Self::Embedded => true,
            Self::Url(url) => {
                let host = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
                let host = host.split('/').next().unwrap_or_default();
                let host = host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']);
                host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("the embedded Kinesis"),
            Self::Url(url) => f.write_str(url),
        }
    }
}

impl ConfigValue for Endpoint {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "embedded" {
            return Ok(Self::Embedded);
        }
        let (scheme, host) = text.split_once("://").unwrap_or(("https", text));
        if !matches!(scheme, "http" | "https") {
            return Err(format!("must be 'embedded' or begin with http:// or https://, found '{scheme}://'"));
        }
        if host.contains('@') {
            return Err("must not contain a user or a password; use aws.access.key.id".to_owned());
        }
        if host.is_empty() || host.starts_with('/') || host.contains(char::is_whitespace) {
            return Err(format!("must be 'embedded' or an address such as http://localhost:4568, found '{text}'"));
        }
        Ok(Self::Url(format!("{scheme}://{host}")))
    }

    fn type_name() -> Cow<'static, str> {
        "endpoint".into()
    }
}

/// The options of `kinesis-source`.
#[derive(Debug, Clone, Config)]
pub struct KinesisSourceConfig {
    #[config(flatten)]
    pub(crate) connection: ConnectionConfig,
    /// Streams to read, as a comma list.
    #[config(name = "kinesis.stream", importance = "high")]
    pub(crate) streams: Vec<String>,
    /// Topic of a stream's records; `${stream}` stands for its name.
    #[config(name = "kafka.topic", default = "${stream}", importance = "high")]
    pub(crate) topic: String,
    /// Topic of one stream, before `kafka.topic`: `kinesis.topics.<stream> = "<topic>"`.
    #[config(prefix = "kinesis.topics.")]
    pub(crate) topics: Vec<(String, String)>,
    /// Where to begin in a stream that was never read: `TRIM_HORIZON` (the oldest record), `LATEST` (what comes from now on;
    /// the moment is stored, so that a restart loses nothing), or `AT_TIMESTAMP`. Shards that come of a split or a merge are
    /// read from their beginning.
    #[config(name = "kinesis.position", default = "TRIM_HORIZON")]
    pub(crate) position: Position,
    /// The moment of `AT_TIMESTAMP`: milliseconds since 1970, or ISO 8601 such as `2024-03-01T00:00:00Z`.
    #[config(name = "kinesis.shard.timestamp.ms", aliases = "kinesis.shard.timestamp")]
    pub(crate) timestamp: Option<Moment>,
    /// How shards are read: `polling` shares a shard's 2 MB/s with all other readers, `fan-out` has 2 MB/s of its own and
    /// costs extra on AWS.
    #[config(name = "kinesis.mode", default = "polling")]
    pub(crate) mode: Mode,
    /// Name of the registered consumer of `fan-out`; it is registered where it is not there. Unset, `ottla-` and the
    /// connector's name. Two connectors must not share one.
    #[config(name = "kinesis.consumer.name")]
    pub(crate) consumer_name: Option<String>,
    /// How many records one read of a shard takes at most.
    #[config(name = "kinesis.record.limit", default = "10000", min = 1, max = 10000)]
    pub(crate) record_limit: i32,
    /// Pause between two reads of a shard that has nothing new. Unset, 1000, and 100 with the embedded Kinesis.
    #[config(name = "kinesis.empty.records.backoff.ms", aliases = "kinesis.poll.interval.ms", min = 1)]
    pub(crate) idle_pause: Option<Duration>,
    /// How often a shard is read in a second at most. AWS allows 5, shared by all who poll the stream. Unset, 5, and 100 with
    /// the embedded Kinesis.
    #[config(name = "kinesis.reads.per.second", min = 1, max = 1000, importance = "low")]
    pub(crate) reads_per_second: Option<u32>,
    /// Longest pause after Kinesis said that a shard's throughput is exceeded. Pauses begin shorter, grow and are jittered.
    #[config(name = "kinesis.throughput.exceeded.backoff.ms", default = "10000", min = 1)]
    pub(crate) throughput_backoff: Duration,
    /// Take records apart that the Kinesis Producer Library put together. What is not such an aggregate stays as it is.
    #[config(name = "kpl.aggregation", default = "true")]
    pub(crate) kpl: bool,
    /// What to do with a record inside an aggregate that does not belong to the shard, which happens where a producer sends
    /// again after a split or a merge, and with aggregators that don't mind shards: `keep` may repeat a record in the first
    /// case, `drop` loses it in the second.
    #[config(name = "kpl.hash.range.check", default = "keep", importance = "low")]
    pub(crate) hash_range_check: HashRangeCheck,
    /// What to do where the stored position is older than what the stream still holds, so that records may be lost: `fail`
    /// says what is missing, `earliest` goes on with the oldest record there is.
    #[config(name = "kinesis.on.gap", default = "fail")]
    pub(crate) on_gap: OnGap,
    /// Make a missing stream with so many shards. Unset, a missing stream is an error; with the embedded Kinesis it is made
    /// with one shard.
    #[config(name = "kinesis.create.stream.shards", min = 1, max = 10000)]
    pub(crate) create_shards: Option<i32>,
}

impl KinesisSourceConfig {
    /// Checks what one option alone can't show.
    pub(crate) fn mistakes(&self) -> Vec<ConfigError> {
        let mut errors = self.connection.mistakes();
        if self.streams.is_empty() {
            errors.push(ConfigError::new("kinesis.stream", "must name at least one stream"));
        }
        for (at, stream) in self.streams.iter().enumerate() {
            if let Err(message) = check_stream_name(stream) {
                errors.push(ConfigError::new("kinesis.stream", message));
                continue;
            }
            if self.streams[..at].contains(stream) {
                errors.push(ConfigError::new("kinesis.stream", format!("names '{stream}' twice")));
            }
            if let Err(message) = check_topic_name(&self.topic_of(stream)) {
                let key = match self.topics.iter().any(|(named, _)| named == stream) {
                    true => format!("kinesis.topics.{stream}"),
                    false => "kafka.topic".to_owned(),
                };
                errors.push(ConfigError::new(key, message));
            }
        }
        for (stream, _) in &self.topics {
            if !self.streams.contains(stream) {
                let message = format!("'{stream}' is not among kinesis.stream, so this topic would never be used");
                errors.push(ConfigError::new(format!("kinesis.topics.{stream}"), message));
            }
        }
        match (self.position, &self.timestamp) {
            (Position::AtTimestamp, None) => errors.push(ConfigError::new(
                "kinesis.shard.timestamp.ms",
                "is missing; kinesis.position = AT_TIMESTAMP needs it",
            )),
            (Position::TrimHorizon | Position::Latest, Some(_)) => errors.push(ConfigError::new(
                "kinesis.shard.timestamp.ms",
                "has no effect without kinesis.position = AT_TIMESTAMP",
            )),
            _ => {}
        }
        match &self.consumer_name {
            Some(_) if self.mode == Mode::Polling => {
                errors.push(ConfigError::new("kinesis.consumer.name", "has no effect without kinesis.mode = fan-out"))
            }
            Some(name) => {
                if let Err(message) = check_stream_name(name) {
                    errors.push(ConfigError::new("kinesis.consumer.name", message));
                }
            }
            None => {}
        }
        errors
    }

    /// The topic that receives a stream's records.
    pub(crate) fn topic_of(&self, stream: &str) -> String {
        let named = self.topics.iter().find(|(named, _)| named == stream);
        named.map_or_else(|| self.topic.replace("${stream}", stream), |(_, topic)| topic.clone())
    }

    /// Pause between two reads of a shard that has nothing new.
    pub(crate) fn idle_pause(&self) -> Duration {
        let usual = if self.connection.is_embedded() { 100 } else { 1000 };
        self.idle_pause.unwrap_or(Duration::from_millis(usual))
    }

    /// How often a shard is read in a second at most.
    pub(crate) fn rate(&self) -> u32 {
        self.reads_per_second.unwrap_or(if self.connection.is_embedded() { 100 } else { 5 })
    }
}

/// The options of `kinesis-sink`.
#[derive(Debug, Clone, Config)]
pub struct KinesisSinkConfig {
    #[config(flatten)]
    pub(crate) connection: ConnectionConfig,
    /// Stream that receives a record: text with `${topic}`, or one name for all. Names of streams have letters, digits, `_`,
    /// `.` and `-`, as names of topics do.
    #[config(name = "kinesis.stream", default = "${topic}", importance = "high")]
    pub(crate) stream: Template,
    /// Stream of one topic, before `kinesis.stream`: `kinesis.streams.<topic> = "<stream>"`.
    #[config(prefix = "kinesis.streams.")]
    pub(crate) streams: Vec<(String, String)>,
    /// What decides about the shard: `key` (the record's key), `field:<path>` (a field of the value, `field:user.id`), `random`,
    /// or text with `${key}`, `${field:<path>}`, `${topic}`, `${partition}`. Where the outcome is empty, as for a record without
    /// a key, a random one is taken: such records have no order, and all shards get their share.
    #[config(name = "kinesis.partition.key", default = "key", importance = "high")]
    pub(crate) partition_key: PartitionKey,
    /// What stays in order: `strict` sends at most one record of a partition key at a time, since Kinesis may refuse one
    /// record of a request and take a later one. `batch` sends many of one key at once, which is faster with few keys, and
    /// lets a record be overtaken where Kinesis refuses it (counted as `records.overtaken`).
    #[config(name = "kinesis.ordering", default = "strict")]
    pub(crate) ordering: Ordering,
    /// How many records a request holds at most.
    #[config(name = "kinesis.batch.records", default = "500", min = 1, max = 500, importance = "low")]
    pub(crate) batch_records: usize,
    /// How many requests of a task are under way at once, never two with the same partition key of a stream.
    #[config(name = "kinesis.requests.in.flight", default = "4", min = 1, max = 64, importance = "low")]
    pub(crate) requests_max: usize,
    /// How many bytes a task holds back at most before it takes no more records.
    #[config(name = "kinesis.buffer.bytes", default = "16777216", min = 1048576, importance = "low")]
    pub(crate) buffer_bytes: usize,
    /// Longest pause before what Kinesis refused is sent again. Pauses begin at a twentieth of a second, grow and are jittered.
    #[config(name = "kinesis.throughput.exceeded.backoff.ms", default = "10000", min = 1)]
    pub(crate) backoff_max: Duration,
    /// What to do with a record that has no value: `fail` reports it as one that can't be written, `ignore` leaves it out,
    /// `empty` writes a record of no bytes.
    #[config(name = "behavior.on.null.values", default = "fail")]
    pub(crate) null_values: NullValues,
    /// Make a missing stream with so many shards. Unset, a missing stream is an error; with the embedded Kinesis it is made
    /// with one shard.
    #[config(name = "kinesis.create.stream.shards", min = 1, max = 10000)]
    pub(crate) create_shards: Option<i32>,
}

impl KinesisSinkConfig {
    /// Checks what one option alone can't show.
    pub(crate) fn mistakes(&self) -> Vec<ConfigError> {
        let mut errors = self.connection.mistakes();
        for (topic, stream) in &self.streams {
            if let Err(message) = check_stream_name(stream) {
                errors.push(ConfigError::new(format!("kinesis.streams.{topic}"), message));
            }
        }
        if let Some(fixed) = self.stream.fixed()
            && let Err(message) = check_stream_name(fixed)
        {
            errors.push(ConfigError::new("kinesis.stream", message));
        }
        if !self.stream.only_topic() {
            errors.push(ConfigError::new("kinesis.stream", "knows ${topic} only"));
        }
        errors
    }
}

/// Kinesis' rules for the name of a stream, and of a consumer.
pub(crate) fn check_stream_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=128).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    Err(format!("must have 1 to 128 characters, only a to z, A to Z, digits, '.', '_' and '-', found '{name}'"))
}

/// `kinesis.position`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
pub(crate) enum Position {
    /// The oldest record there is.
    #[config(name = "TRIM_HORIZON")]
    TrimHorizon,
    /// What comes from now on.
    #[config(name = "LATEST")]
    Latest,
    /// The first record at or behind `kinesis.shard.timestamp.ms`.
    #[config(name = "AT_TIMESTAMP")]
    AtTimestamp,
}

/// `kinesis.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
pub(crate) enum Mode {
    /// By `GetRecords`.
    Polling,
    /// By `SubscribeToShard`.
    FanOut,
}

/// `kpl.hash.range.check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
pub(crate) enum HashRangeCheck {
    /// Records of other shards are delivered.
    Keep,
    /// Records of other shards are left out.
    Drop,
}

/// `kinesis.on.gap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
pub(crate) enum OnGap {
    /// The task stops and says what is missing.
    Fail,
    /// The task goes on with the oldest record.
    Earliest,
}

/// `kinesis.ordering`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
pub(crate) enum Ordering {
    /// One record of a partition key at a time.
    Strict,
    /// Many records of a partition key in a request.
    Batch,
}

/// `behavior.on.null.values`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
pub(crate) enum NullValues {
    /// Reported as a record that can't be written.
    Fail,
    /// Left out.
    Ignore,
    /// A record of no bytes.
    Empty,
}

/// A moment, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment(pub(crate) i64);

impl ConfigValue for Moment {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Ok(millis) = text.parse::<i64>() {
            return if millis >= 0 { Ok(Self(millis)) } else { Err(format!("must not be negative, found {millis}")) };
        }
        text.parse::<Timestamp>().map(|moment| Self(moment.as_millisecond())).map_err(|_| {
            format!(
                "must be milliseconds since 1970, or a time with its zone such as 2024-03-01T00:00:00Z, found '{text}'"
            )
        })
    }

    fn type_name() -> Cow<'static, str> {
        "time".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(pairs: &[(&str, &str)]) -> Vec<String> {
        let config = KinesisSourceConfig::from_properties(&pairs.iter().copied().collect()).unwrap();
        config.mistakes().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn options_that_need_each_other_are_checked_together() {
        assert_eq!(
            mistakes(&[
                ("kinesis.stream", "a,b c,a"),
                ("kinesis.topics.d", "t"),
                ("aws.access.key.id", "x"),
                ("kinesis.position", "AT_TIMESTAMP"),
                ("kinesis.consumer.name", "c"),
            ]),
            [
                "aws.secret.key.id: is missing; aws.access.key.id is set and needs it",
                "kinesis.stream: must have 1 to 128 characters, only a to z, A to Z, digits, '.', '_' and '-', found 'b c'",
                "kinesis.stream: names 'a' twice",
                "kinesis.topics.d: 'd' is not among kinesis.stream, so this topic would never be used",
                "kinesis.shard.timestamp.ms: is missing; kinesis.position = AT_TIMESTAMP needs it",
                "kinesis.consumer.name: has no effect without kinesis.mode = fan-out",
            ]
        );
    }

    #[test]
    fn a_stream_has_the_topic_that_is_named_for_it_or_the_common_one() {
        let pairs = [("kinesis.stream", "a,b"), ("kafka.topic", "k.${stream}"), ("kinesis.topics.b", "other")];
        let config = KinesisSourceConfig::from_properties(&pairs.into_iter().collect()).unwrap();
        assert_eq!(["a", "b"].map(|stream| config.topic_of(stream)), ["k.a", "other"]);
    }

    #[test]
    fn endpoints_and_moments_are_read_in_their_forms() {
        let url = |text: &str| Ok(Endpoint::Url(text.to_owned()));
        assert_eq!(Endpoint::parse("embedded"), Ok(Endpoint::Embedded));
        assert_eq!(Endpoint::parse("http://localhost:4568"), url("http://localhost:4568"));
        assert_eq!(Endpoint::parse("kinesis.eu-west-1.amazonaws.com"), url("https://kinesis.eu-west-1.amazonaws.com"));
        assert!(Endpoint::parse("http://user:word@host").unwrap_err().contains("must not contain a user"));
        let local = |text: &str| Endpoint::parse(text).unwrap().is_loopback();
        let addresses = ["http://127.0.0.1:1/x", "http://[::1]:1", "http://localhost", "https://kinesis.amazonaws.com"];
        assert_eq!(addresses.map(local), [true, true, true, false]);
        assert_eq!(Moment::parse("2024-03-01T00:00:00Z"), Ok(Moment(1_709_251_200_000)));
        assert_eq!(Moment::parse("1709251200000"), Ok(Moment(1_709_251_200_000)));
    }
}
