//! Options that every connector has, whatever its plugin: the keys that the framework itself reads.

use std::time::Duration;

use ottla_api::config::{Config, ConfigValue};

use super::ErrorsConfig;

/// Options of sources and sinks alike.
#[derive(Debug, Clone, Config)]
pub struct CommonConfig {
    /// Its name: what its group, its offsets and its metrics are called by. A TOML table has it in its header; a
    /// `.properties` file without it takes its file's name.
    #[config(name = "name", importance = "high")]
    pub name: Option<String>,
    /// The plugin: a native name such as `s3-sink`, a Java class name, or what Kafka Connect shortens it to.
    #[config(name = "connector.class")]
    pub connector_class: String,
    /// Most tasks that share the work.
    #[config(name = "tasks.max", default = "1", min = 1, max = 10000, importance = "high")]
    pub tasks_max: usize,
    /// Whether a connector that makes more tasks than `tasks.max` fails. None here does.
    #[config(name = "tasks.max.enforce", default = "true", importance = "low")]
    pub tasks_max_enforce: bool,
    /// Converts keys; its options follow under `key.converter.`. Unset, the worker's, else `string`.
    #[config(name = "key.converter")]
    pub key_converter: Option<String>,
    /// Converts values; its options follow under `value.converter.`. Unset, the worker's, else `json` with
    /// `schemas.enable = false`.
    #[config(name = "value.converter")]
    pub value_converter: Option<String>,
    /// Accepted for Kafka Connect's files and not used: headers are handed on as they are.
    #[config(name = "header.converter", importance = "low")]
    pub header_converter: Option<String>,
    /// Transformations in order: names of chains, or of transformations of this connector
    /// (`transforms.<name>.type`, `.predicate`, `.negate`, `.when.*`, and the transformation's own options).
    #[config(name = "transforms")]
    pub transforms: Option<Vec<String>>,
    /// Predicates that guard transformations: `predicates.<name>.type` and the predicate's own options.
    #[config(name = "predicates")]
    pub predicates: Option<Vec<String>>,
    /// Accepted for Kafka Connect's files: what to do when a config provider's value expires. None here does.
    #[config(name = "config.action.reload", default = "restart", importance = "low")]
    pub config_action_reload: Reload,
    /// What happens to records that fail.
    #[config(flatten)]
    pub errors: ErrorsConfig,
}

/// Options of sinks.
#[derive(Debug, Clone, Config)]
pub struct SinkConfig {
    /// Topics to read. Either this or `topics.regex`.
    #[config(name = "topics", importance = "high")]
    pub topics: Option<Vec<String>>,
    /// Java regular expression that a topic's whole name must match; topics that appear later are read too.
    #[config(name = "topics.regex", importance = "high")]
    pub topics_regex: Option<String>,
}

/// Options of sources.
#[derive(Debug, Clone, Config)]
pub struct SourceConfig {
    /// Whether records and source offsets must appear together, or not at all. With embedded topics they always do. Into Kafka
    /// they do with `required`, and with `requested` where the worker says `exactly.once.source.support = enabled`; otherwise
    /// sources deliver at least once there.
    #[config(name = "exactly.once.support", default = "requested", importance = "low")]
    pub exactly_once_support: ExactlyOnce,
    /// Where a transaction into Kafka ends: with each batch that the source hands over, or at the first one after
    /// `transaction.boundary.interval.ms`. No source here defines boundaries of its own (`connector`). With embedded topics every
    /// batch is one.
    #[config(name = "transaction.boundary", default = "poll", importance = "low")]
    pub transaction_boundary: Boundary,
    /// How long a transaction gathers batches where `transaction.boundary = interval`. Unset, the worker's
    /// `offset.flush.interval.ms`.
    #[config(name = "transaction.boundary.interval.ms", importance = "low", min = 1)]
    pub transaction_boundary_interval: Option<Duration>,
    /// Topic for this source's offsets where it delivers exactly once into Kafka; made, compacted, where it is missing. Unset, the
    /// worker's `offset.storage.topic`, where offsets are also looked for that are not here yet. Otherwise offsets are kept in
    /// the worker's state folder.
    #[config(name = "offsets.storage.topic", importance = "low")]
    pub offsets_storage_topic: Option<String>,
    /// Groups of topics to make with settings of their own, first match first. For each:
    /// `topic.creation.<group>.include`, `.exclude`, `.partitions`, `.replication.factor` and any topic setting; `default`
    /// is for the rest.
    #[config(name = "topic.creation.groups", importance = "low")]
    pub topic_creation_groups: Option<Vec<String>>,
}

/// What an expired value of a config provider does to its connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
pub enum Reload {
    /// Starts it again.
    Restart,
    /// Nothing.
    None,
}

/// Whether a source insists on exactly-once delivery into topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
pub enum ExactlyOnce {
    /// Where it can be had.
    Requested,
    /// It must hold.
    Required,
}

/// Whether the sources of a worker deliver into Kafka exactly once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
pub enum ExactlyOnceSources {
    /// Only those that require it.
    Disabled,
    /// As [`Disabled`](Self::Disabled).
    Preparing,
    /// All of them.
    Enabled,
}

/// Where a source's transactions end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
pub enum Boundary {
    /// With each batch.
    Poll,
    /// After a time.
    Interval,
    /// Where the connector says.
    Connector,
}
