//! From files to a checked configuration: the worker, its connectors, their chains.
//!
//! Text > raw > validated, in that order and once; every mistake is reported with file, line and key. Nothing here connects
//! to anything.
//!
//! | File | Step |
//! |---|---|
//! | `java_properties.rs`, `toml.rs`, `json.rs` | the three syntaxes |
//! | `tree.rs`, `section.rs` | nested tables to flat keys, each with its place |
//! | `load.rs` | files, folders and overrides to worker, connectors and chains |
//! | `check/`, `options.rs`, `values.rs`, `keys.rs` | every key and value checked; plugins found and tried |
//! | `reference.rs` | the same definitions as a page |

mod check;
mod diagnostics;
mod gateway;
pub(crate) mod java_properties;
mod json;
mod keys;
mod libraries;
mod load;
pub(crate) mod nearest;
mod options;
mod reference;
mod section;
pub(crate) mod toml;
pub(crate) mod tree;
mod values;

pub use diagnostics::{Diagnostic, Diagnostics};
pub use gateway::{GatewayConfig, ListenAddress, Requirement, SecretList};
pub use load::load;
pub use options::{Boundary, CommonConfig, ExactlyOnce, ExactlyOnceSources, Reload, SinkConfig, SourceConfig};
pub use reference::{describe, reference};
pub use values::{LoopbackAddress, RunUntil, parse_time};

use std::path::PathBuf;
use std::time::Duration;

use ottla_api::config::{Config, ConfigValue, Properties};
use ottla_api::plugin::Plugin;

use crate::broker::{StartPosition, Subscription};
use crate::plugins::loaded::Digest;

/// A whole, checked configuration.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// The worker's own options.
    pub worker: WorkerConfig,
    /// Everything else of the worker's table: `producer.*`, `consumer.*`, `admin.*`, `security.protocol`, `sasl.*`, `ssl.*` and
    /// other client settings, as written.
    pub client: Properties,
    /// Config providers by name, with their `param.` options.
    pub providers: Vec<(String, Plugin, Properties)>,
    /// The HTTP gateway, where there is one.
    pub gateway: Option<GatewayConfig>,
    /// The connectors, in the order of the files.
    pub connectors: Vec<ConnectorConfig>,
    /// What works but is probably not meant.
    pub warnings: Vec<Diagnostic>,
}

/// The worker's own options.
#[derive(Debug, Clone, Config)]
pub struct WorkerConfig {
    /// `embedded` for topics in the state folder, or a Kafka cluster's `host:port,host:port`.
    #[config(name = "bootstrap.servers", importance = "high")]
    pub bootstrap_servers: String,
    /// Folder for the worker's state: embedded topics, source offsets, the emulated database.
    #[config(name = "state.dir", default = "./ottla-data", importance = "high")]
    pub state_dir: PathBuf,
    /// Memory for all buffers of the worker together, in bytes or with a suffix (`256MiB`). When it is used up the largest
    /// buffers are written early and fetching pauses.
    #[config(name = "worker.memory.max", default = "256MiB")]
    pub memory_max: ByteSize,
    /// How often offsets are committed.
    #[config(name = "offset.flush.interval.ms", default = "5000")]
    pub offset_flush_interval: Duration,
    /// How long a commit of offsets may take before it counts as failed and is tried again.
    #[config(name = "offset.flush.timeout.ms", default = "5000")]
    pub offset_flush_timeout: Duration,
    /// How long a graceful stop may take, all tasks together, before what is left is abandoned (nothing is lost by that: it is
    /// delivered again).
    #[config(name = "task.shutdown.graceful.timeout.ms", default = "30000")]
    pub shutdown_timeout: Duration,
    /// First pause before a failed task is started again; doubles each time.
    #[config(name = "task.restart.backoff.ms", default = "1000", min = 1)]
    pub restart_backoff: Duration,
    /// Longest pause before a failed task is started again.
    #[config(name = "task.restart.backoff.max.ms", default = "300000", min = 1)]
    pub restart_backoff_max: Duration,
    /// When `ottla run` ends by itself: `caught-up` (bounded sources have finished and the sinks have made everything durable),
    /// or a time such as `30s`, `5m`. Unset, it runs until it is stopped. `--until` goes before it.
    #[config(name = "run.until")]
    pub run_until: Option<RunUntil>,
    /// Libraries of plugins: files, and folders whose files ending in `.so` (also in the folders in them) are looked at. A library that
    /// does not fit this worker is left out with a warning. Relative to the working directory.
    #[config(name = "plugin.path")]
    pub plugin_path: Option<Vec<String>>,
    /// SHA-256 digests, as `sha256sum` prints them, of the libraries that may be loaded from `plugin.path`. Unset, all may that only root
    /// and the worker's user can write to.
    #[config(name = "plugin.sha256")]
    pub plugin_sha256: Option<Vec<Digest>>,
    /// How long a call of a loaded library may take before its task fails. A source that waits for news in `poll` may take for ever.
    #[config(name = "plugin.call.timeout.ms", default = "300000", min = 1)]
    pub plugin_call_timeout: Duration,
    /// Threads of the runtime that each loaded library has of its own.
    #[config(name = "plugin.threads", default = "2", min = 1, max = 256)]
    pub plugin_threads: usize,
    /// Loopback address such as `127.0.0.1:9464` that serves `/metrics` (Prometheus) and `/health`. Off unless set.
    #[config(name = "metrics.listener")]
    pub metrics_listener: Option<LoopbackAddress>,
    /// Loopback address such as `127.0.0.1:4567` that offers the embedded Kinesis, whose streams lie in the state folder, to other
    /// programs: boto3, the AWS command line. It asks for no credentials. Off unless set; connectors of this worker reach the
    /// same streams by `kinesis.endpoint = "embedded"`, with or without it.
    #[config(name = "kinesis.listener")]
    pub kinesis_listener: Option<LoopbackAddress>,
    /// Partitions of a topic that the embedded broker makes by itself.
    #[config(name = "embedded.partitions", default = "1", min = 1, max = 1000)]
    pub embedded_partitions: usize,
    /// How long the embedded broker keeps records that every group has read; records that a group has yet to read are kept.
    #[config(name = "embedded.retention.ms", default = "604800000")]
    pub embedded_retention: Duration,
    /// Whether each commit of the embedded broker waits for the disk (fsync). Without it a power cut, not a kill, may lose the
    /// last moments.
    #[config(name = "embedded.fsync", default = "true")]
    pub embedded_fsync: bool,
    /// Whether sources write into Kafka within transactions, so that records and source offsets appear together: `enabled` for
    /// every source, else only for those with `exactly.once.support = required`. `preparing` is one of Kafka Connect's steps on
    /// the way there, and means `disabled`.
    #[config(name = "exactly.once.source.support", default = "disabled")]
    pub exactly_once_source_support: ExactlyOnceSources,
    /// First part of the transactional ids of exactly-once sources, `<group.id>-<connector>-<task>`, as Kafka Connect forms them.
    /// Means nothing else here.
    #[config(name = "group.id", default = "ottla", importance = "low")]
    pub group_id: String,
    /// Topic of the cluster that holds the source offsets of exactly-once sources, in Kafka Connect's format; made, compacted,
    /// where it is missing. A connector's `offsets.storage.topic` goes before it.
    #[config(name = "offset.storage.topic", default = "connect-offsets", importance = "low")]
    pub offset_storage_topic: String,
    /// Partitions of that topic where it has to be made; -1 for the broker's default.
    #[config(name = "offset.storage.partitions", default = "25", importance = "low", min = -1)]
    pub offset_storage_partitions: i32,
    /// Replicas of that topic where it has to be made; -1 for the broker's default.
    #[config(name = "offset.storage.replication.factor", default = "-1", importance = "low", min = -1)]
    pub offset_storage_replication_factor: i32,
}

/// A number of bytes, written plainly or with `KiB`, `MiB`, `GiB` (or `KB`, `MB`, `GB`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ConfigValue for ByteSize {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("must be a number of bytes such as 268435456 or 256MiB, found '{text}'");
        let digits = text.trim().trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
        let unit = match text.trim()[digits.len()..].trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "kib" | "k" => 1 << 10,
            "mib" | "m" => 1 << 20,
            "gib" | "g" => 1 << 30,
            _ => return Err(wrong()),
        };
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        number.checked_mul(unit).map(Self).ok_or_else(wrong)
    }

    fn type_name() -> std::borrow::Cow<'static, str> {
        "size".into()
    }
}

/// One connector, checked.
#[derive(Debug, Clone)]
pub struct ConnectorConfig {
    /// Its name.
    pub name: String,
    /// The plugin that `connector.class` named: a source or a sink.
    pub plugin: Plugin,
    /// Its options as written, placeholders (`${file:..}`) unresolved: what the connector's own `Config` reads.
    pub properties: Properties,
    /// Most tasks.
    pub tasks_max: usize,
    /// Converts keys.
    pub key_converter: PluginConfig,
    /// Converts values.
    pub value_converter: PluginConfig,
    /// What happens to each record between converter and connector.
    pub chain: Vec<StageConfig>,
    /// What happens to records that fail.
    pub errors: ErrorsConfig,
    /// For a sink: what it reads, where from, and for whom.
    pub sink: Option<SinkInput>,
    /// `producer.override.*` or `consumer.override.*`, prefix cut off, over the worker's `producer.*` or `consumer.*`.
    pub client: Properties,
}

/// A plugin with its own options, placeholders unresolved.
#[derive(Debug, Clone)]
pub struct PluginConfig {
    /// The plugin.
    pub plugin: Plugin,
    /// Its options, prefix cut off.
    pub properties: Properties,
}

/// One transformation of a chain, with what guards it.
#[derive(Debug, Clone)]
pub struct StageConfig {
    /// Its name in messages: the alias, or `chain/alias`.
    pub name: String,
    /// The transformation.
    pub transformation: PluginConfig,
    /// It applies where every one of these holds (a chain's `when`, then its own `predicate`).
    pub guards: Vec<GuardConfig>,
}

/// A predicate, or its opposite.
#[derive(Debug, Clone)]
pub struct GuardConfig {
    /// The predicate.
    pub predicate: PluginConfig,
    /// True where the answer is turned round.
    pub negate: bool,
}

/// What a sink reads.
#[derive(Debug, Clone)]
pub struct SinkInput {
    /// The topics.
    pub subscription: Subscription,
    /// The consumer group: `connect-<name>`, or `consumer.override.group.id`.
    pub group: String,
    /// Where to begin without a committed offset (`consumer.override.auto.offset.reset`).
    pub start: StartPosition,
}

/// What happens to records that fail (`errors.*`).
#[derive(Debug, Clone, Config)]
pub struct ErrorsConfig {
    /// Accepted for Kafka Connect's files and not used yet: no built-in converter or transformation fails in a way that can be
    /// retried, and what can be (brokers, databases, stores) is retried for ever.
    #[config(name = "errors.retry.timeout", default = "0", min = -1)]
    pub retry_timeout_ms: i64,
    /// Accepted for Kafka Connect's files and not used yet, as `errors.retry.timeout`.
    #[config(name = "errors.retry.delay.max.ms", default = "60000", min = 1)]
    pub retry_delay_max: Duration,
    /// `none` stops the task at the first record that fails; `all` reports it and goes on.
    #[config(name = "errors.tolerance", default = "none")]
    pub tolerance: Tolerance,
    /// Writes a log line for each record that fails.
    #[config(name = "errors.log.enable", default = "false")]
    pub log_enable: bool,
    /// Adds the record's place (topic, partition, offset) to that line; never its contents.
    #[config(name = "errors.log.include.messages", default = "false")]
    pub log_include_messages: bool,
    /// Topic that receives records that fail, as they came. Sinks only; unset or empty, there is none.
    #[config(name = "errors.deadletterqueue.topic.name")]
    pub dead_letter_topic: Option<String>,
    /// Replicas of that topic where it has to be made.
    #[config(name = "errors.deadletterqueue.topic.replication.factor", default = "3")]
    pub dead_letter_replication_factor: i16,
    /// Adds headers that say where and why the record failed.
    #[config(name = "errors.deadletterqueue.context.headers.enable", default = "false")]
    pub dead_letter_context_headers: bool,
}

/// What a record that fails does to its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
pub enum Tolerance {
    /// Fails it.
    None,
    /// Is reported and skipped.
    All,
}
