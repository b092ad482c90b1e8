//! The sink's options: Confluent's keys where they exist, a few of our own.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use ottla_api::config::ConfigValue;
use ottla_api::data::json::WriteOptions;
use ottla_api::prelude::*;

use crate::object_name::Layout;

/// The options of `s3-sink`.
#[derive(Debug, Clone, Config)]
pub struct S3SinkConfig {
    /// Bucket that receives the objects. It must exist; a folder as a store makes it.
    #[config(name = "s3.bucket.name")]
    pub bucket: String,
    /// How many records of a topic partition go into an object, or into the objects of one rotation where records of one
    /// partition go to several topics.
    #[config(name = "flush.size", min = 1)]
    pub flush_size: u64,
    /// Where the objects go: the address of an S3 endpoint (`https://` is added where there is no scheme), or `file:PATH`
    /// for a folder whose subfolders are buckets. Unset, AWS in the configured region.
    #[config(name = "store.url", importance = "high")]
    pub store_url: Option<StoreUrl>,
    /// Region of the bucket.
    #[config(name = "s3.region", default = "us-west-2")]
    pub region: String,
    /// Key id, together with `aws.secret.access.key`. Unset, the usual places are searched: environment, profile files, web
    /// identity, container and instance metadata.
    #[config(name = "aws.access.key.id")]
    pub access_key_id: Option<String>,
    /// Secret of the key.
    #[config(name = "aws.secret.access.key")]
    pub secret_access_key: Option<Secret>,
    /// Puts the bucket into the path of a request instead of the host name.
    #[config(name = "s3.path.style.access.enabled", default = "true", importance = "low")]
    pub path_style: bool,
    /// Objects above this size are uploaded in parts of this size while they are being filled, which bounds the memory of
    /// an open object.
    #[config(name = "s3.part.size", default = "26214400", min = 5242880, max = 2147483647i64)]
    pub part_size: usize,
    /// How often the S3 client tries one request before the failure shows. The sink goes on trying after that.
    #[config(name = "s3.part.retries", default = "3", min = 1, max = 1000, importance = "low")]
    pub part_retries: u32,
    /// First pause of the S3 client between two attempts; the following ones grow.
    #[config(name = "s3.retry.backoff.ms", default = "200", min = 1, importance = "low")]
    pub retry_backoff: Duration,
    /// Longest pause between two attempts at the same upload after the client's own attempts have failed.
    #[config(name = "retry.backoff.ms", default = "5000", min = 1, importance = "low")]
    pub upload_backoff_max: Duration,
    /// Canned access control list of new objects, such as `bucket-owner-full-control`.
    #[config(name = "s3.acl.canned", importance = "low")]
    pub acl: Option<String>,
    /// Server side encryption: `AES256` or `aws:kms`. Unset, the bucket's own setting.
    #[config(name = "s3.ssea.name", importance = "low")]
    pub encryption: Option<Encryption>,
    /// Key of the encryption `aws:kms`.
    #[config(name = "s3.sse.kms.key.id", importance = "low")]
    pub kms_key_id: Option<String>,
    /// First folder of every object's name; blank for none.
    #[config(name = "topics.dir", default = "topics")]
    pub topics_dir: String,
    /// What stands between folders in a name.
    #[config(name = "directory.delim", default = "/", importance = "low")]
    pub directory_delimiter: String,
    /// What stands between topic, partition and offset in a name.
    #[config(name = "file.delim", default = "+", importance = "low")]
    pub file_delimiter: String,
    /// How many digits the offset in a name has at least.
    #[config(name = "filename.offset.zero.pad.width", default = "10", min = 1, max = 19, importance = "low")]
    pub offset_digits: usize,
    /// Ends the open objects of a partition when a record is this many milliseconds younger than their first one, by the
    /// records' own timestamps; -1 for never. It takes a record to notice.
    #[config(name = "rotate.interval.ms", default = "-1", min = -1)]
    pub rotate_interval: i64,
    /// Ends all open objects by the clock, at multiples of this many milliseconds since midnight; -1 for never.
    #[config(name = "rotate.schedule.interval.ms", default = "-1", min = -1)]
    pub rotate_schedule_interval: i64,
    /// Time zone whose midnight `rotate.schedule.interval.ms` counts from, such as `Europe/Berlin`.
    #[config(name = "timezone", default = "UTC")]
    pub timezone: Timezone,
    /// What a change of the records' schema does. `NONE`: it ends the open objects of the partition.
    #[config(name = "schema.compatibility", default = "NONE")]
    pub schema_compatibility: SchemaCompatibility,
    /// Form of the objects: JSON, one record a line.
    #[config(name = "format.class", default = "JsonFormat")]
    pub format: Format,
    /// How records are divided among folders: by the partition they come from.
    #[config(name = "partitioner.class", default = "DefaultPartitioner")]
    pub partitioner: Partitioner,
    /// Kind of storage; there is one.
    #[config(name = "storage.class", default = "S3Storage", importance = "low")]
    pub storage: Storage,
    /// Compression of the objects; there is none yet.
    #[config(name = "s3.compression.type", default = "none", importance = "low")]
    pub compression: Compression,
    /// What to do with a record that has no value: `fail`, or `ignore`.
    #[config(name = "behavior.on.null.values", default = "fail")]
    pub null_values: NullValues,
    /// With `ignore`: report records without a value where a dead letter queue or the error log is configured.
    #[config(name = "report.null.values.to.dlq", default = "true", importance = "low")]
    pub report_null_values: bool,
    /// How decimals of a schema are written: in base64, or as numbers.
    #[config(name = "json.decimal.format", default = "BASE64", importance = "low")]
    pub decimal_format: DecimalFormat,
    /// How dates, times and timestamps of a schema are written: as numbers, or as ISO 8601 text.
    #[config(name = "json.timestamp.format", default = "unix-ms", importance = "low")]
    pub timestamp_format: TimestampFormat,
    /// Refuse to start on a store that overwrites objects although it is told not to. With `false` the sink runs there and
    /// delivers at least once.
    #[config(name = "exactly.once.required", default = "true")]
    pub exactly_once_required: bool,
}

impl S3SinkConfig {
    /// Checks what one option alone can't show.
    pub(crate) fn check(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        match (&self.access_key_id, &self.secret_access_key) {
            (Some(_), None) => errors
                .push(ConfigError::new("aws.secret.access.key", "is missing; aws.access.key.id is set and needs it")),
            (None, Some(_)) => errors
                .push(ConfigError::new("aws.access.key.id", "is missing; aws.secret.access.key is set and needs it")),
            _ => {}
        }
        if self.bucket.is_empty() {
            errors.push(ConfigError::new("s3.bucket.name", "must be a name, found nothing"));
        }
        if self.kms_key_id.is_some() && self.encryption != Some(Encryption::Kms) {
            errors.push(ConfigError::new("s3.sse.kms.key.id", "has no effect without s3.ssea.name=aws:kms"));
        }
        if let Some(StoreUrl::Folder(_)) = self.store_url {
            // These become paths; one that leaves its folder would write beside it.
            let leaves = |path: &str| path.split('/').any(|part| part == "." || part == "..");
            if self.bucket.contains('/') || self.bucket.starts_with('.') {
                errors.push(ConfigError::new(
                    "s3.bucket.name",
                    format!("must be the name of one folder and begin with no dot, found '{}'", self.bucket),
                ));
            }
            for (key, text) in [
                ("topics.dir", &self.topics_dir),
                ("directory.delim", &self.directory_delimiter),
                ("file.delim", &self.file_delimiter),
            ] {
                if leaves(text) || text.contains('\0') {
                    errors.push(ConfigError::new(
                        key,
                        format!("must not contain '.' or '..' as a folder, found '{text}'"),
                    ));
                }
            }
        }
        errors
    }

    /// How objects are named.
    pub(crate) fn layout(&self) -> Layout {
        Layout {
            topics_dir: self.topics_dir.clone(),
            directory_delimiter: self.directory_delimiter.clone(),
            file_delimiter: self.file_delimiter.clone(),
            offset_digits: self.offset_digits,
        }
    }

    /// How values become JSON.
    pub(crate) fn write_options(&self) -> WriteOptions {
        WriteOptions {
            decimal_numeric: self.decimal_format == DecimalFormat::Numeric,
            time_iso: self.timestamp_format == TimestampFormat::Iso,
        }
    }

    /// Bucket and folder as a user would open them.
    pub(crate) fn destination(&self) -> String {
        let bucket = match &self.store_url {
            Some(StoreUrl::Folder(root)) => format!("file:{}", root.join(&self.bucket).display()),
            _ => format!("s3://{}", self.bucket),
        };
        if self.topics_dir.trim().is_empty() { bucket } else { format!("{bucket}/{}", self.topics_dir) }
    }
}

/// `store.url`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// A folder whose subfolders are buckets.
    Folder(PathBuf),
    /// An S3 endpoint, with its scheme.
    Endpoint(String),
}

impl ConfigValue for StoreUrl {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(path) = text.strip_prefix("file:") {
            // file:///a is the form with an empty host, file:a and file:/a the short ones.
            let path = match path.strip_prefix("//") {
                Some(path) if path.starts_with('/') => path,
                Some(_) => return Err(format!("must be file:PATH or file:///PATH, found '{text}'")),
                None => path,
            };
            if path.is_empty() {
                return Err("must name a folder after 'file:'".to_owned());
            }
            return Ok(Self::Folder(path.into()));
        }
        let (scheme, host) = text.split_once("://").unwrap_or(("https", text));
        if !matches!(scheme, "http" | "https") {
            return Err(format!("must begin with http://, https:// or file:, found '{scheme}://'"));
        }
        if host.contains('@') {
            return Err("must not contain a user or a password; use aws.access.key.id".to_owned());
        }
        if host.is_empty() || host.starts_with('/') || host.contains(char::is_whitespace) {
            return Err(format!("must be an address such as http://localhost:9000, found '{text}'"));
        }
        Ok(Self::Endpoint(format!("{scheme}://{host}")))
    }

    fn type_name() -> Cow<'static, str> {
        "url".into()
    }
}

/// `timezone`.
#[derive(Debug, Clone)]
pub struct Timezone(pub TimeZone);

impl ConfigValue for Timezone {
    fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            "" => Ok(Self(TimeZone::UTC)),
            name => TimeZone::get(name)
                .map(Self)
                .map_err(|_| format!("must be the name of a time zone such as Europe/Berlin, found '{name}'")),
        }
    }

    fn type_name() -> Cow<'static, str> {
        "time zone".into()
    }
}

/// A choice that Confluent's configurations write as a Java class: the last part of the name decides.
macro_rules! java_class {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $($class:literal)|+),+ } $($unsupported:literal)*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs)] // The names say it all.
        pub enum $name { $($variant),+ }

        impl ConfigValue for $name {
            fn parse(text: &str) -> Result<Self, String> {
                let simple = text.trim().rsplit('.').next().unwrap_or_default();
                let supported = [$($($class),+),+].join(", ");
                match simple {
                    $($($class)|+ => Ok(Self::$variant),)+
                    $($unsupported => Err(format!("{simple} is not supported yet; supported: {supported}")),)*
                    _ => Err(format!("must be one of {supported}, found '{text}'")),
                }
            }

            fn type_name() -> Cow<'static, str> {
                "class".into()
            }

            fn choices() -> Vec<&'static str> {
                vec![$($($class),+),+]
            }
        }
    };
}

java_class! {
    /// `format.class`.
    Format { Json = "JsonFormat" } "AvroFormat" "ParquetFormat" "ByteArrayFormat"
}
java_class! {
    /// `partitioner.class`.
    Partitioner { Default = "DefaultPartitioner" }
    "FieldPartitioner" "TimeBasedPartitioner" "DailyPartitioner" "HourlyPartitioner"
}
java_class! {
    /// `storage.class`.
    Storage { S3 = "S3Storage" }
}
java_class! {
    /// `s3.compression.type`.
    Compression { None = "none" } "gzip"
}
java_class! {
    /// `schema.compatibility`.
    SchemaCompatibility { None = "NONE" | "none" } "BACKWARD" "FORWARD" "FULL" "backward" "forward" "full"
}
java_class! {
    /// `behavior.on.null.values`.
    NullValues { Fail = "fail", Ignore = "ignore" } "write"
}

/// `s3.ssea.name`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
pub enum Encryption {
    /// With the bucket's own keys.
    #[config(name = "AES256")]
    Aes256,
    /// With keys of the key management service.
    #[config(name = "aws:kms")]
    Kms,
}

/// `json.decimal.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
pub enum DecimalFormat {
    /// The unscaled bytes in base64.
    #[config(name = "BASE64")]
    Base64,
    /// A JSON number.
    #[config(name = "NUMERIC")]
    Numeric,
}

/// `json.timestamp.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
pub enum TimestampFormat {
    /// Days or milliseconds, as Confluent's sink writes them.
    UnixMs,
    /// ISO 8601 text.
    Iso,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file that MSK Connect runs today, with its framework keys.
    const MSK: [(&str, &str); 14] = [
        ("connector.class", "io.confluent.connect.s3.S3SinkConnector"),
        ("s3.region", "us-east-1"),
        ("flush.size", "1"),
        ("schema.compatibility", "NONE"),
        ("tasks.max", "3"),
        ("topics.regex", "0a1b2c3d4e5f.*"),
        ("format.class", "io.confluent.connect.s3.format.json.JsonFormat"),
        ("partitioner.class", "io.confluent.connect.storage.partitioner.DefaultPartitioner"),
        ("value.converter.schemas.enable", "false"),
        ("value.converter", "org.apache.kafka.connect.json.JsonConverter"),
        ("storage.class", "io.confluent.connect.s3.storage.S3Storage"),
        ("key.converter", "org.apache.kafka.connect.storage.StringConverter"),
        ("s3.bucket.name", "user-0a1b2c3d4e5f-bucket"),
        ("name", "msk"),
    ];

    fn messages(extra: &[(&str, &str)]) -> Vec<String> {
        let mut properties = Properties::from_iter(MSK);
        for (key, value) in extra {
            properties.set(*key, *value);
        }
        match S3SinkConfig::from_properties(&properties) {
            Ok(config) => config.check().iter().map(ToString::to_string).collect(),
            Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn the_configuration_of_msk_connect_is_accepted_as_it_stands() {
        let config = S3SinkConfig::from_properties(&Properties::from_iter(MSK)).unwrap();
        assert_eq!(config.check(), []);
        assert_eq!((config.flush_size, config.region.as_str()), (1, "us-east-1"));
        assert_eq!(config.destination(), "s3://user-0a1b2c3d4e5f-bucket/topics");
    }

    #[test]
    fn mistakes_are_named_with_their_way_out() {
        for (key, value, message) in [
            (
                "format.class",
                "io.confluent.connect.s3.format.parquet.ParquetFormat",
                "format.class: ParquetFormat is not supported yet; supported: JsonFormat",
            ),
            ("format.class", "Jsonformat", "format.class: must be one of JsonFormat, found 'Jsonformat'"),
            (
                "schema.compatibility",
                "BACKWARD",
                "schema.compatibility: BACKWARD is not supported yet; supported: NONE, none",
            ),
            (
                "behavior.on.null.values",
                "write",
                "behavior.on.null.values: write is not supported yet; supported: fail, ignore",
            ),
            ("s3.compression.type", "gzip", "s3.compression.type: gzip is not supported yet; supported: none"),
            ("s3.part.size", "1000", "s3.part.size: must be at least 5242880, found 1000"),
            (
                "timezone",
                "Mars/Olympus",
                "timezone: must be the name of a time zone such as Europe/Berlin, found 'Mars/Olympus'",
            ),
            ("store.url", "ftp://x", "store.url: must begin with http://, https:// or file:, found 'ftp://'"),
            (
                "store.url",
                "https://key:secret@x",
                "store.url: must not contain a user or a password; use aws.access.key.id",
            ),
            ("aws.access.key.id", "AK", "aws.secret.access.key: is missing; aws.access.key.id is set and needs it"),
        ] {
            assert_eq!(messages(&[(key, value)]), [message]);
        }
        assert_eq!(
            messages(&[("store.url", "file:/lake"), ("topics.dir", "../x")]),
            ["topics.dir: must not contain '.' or '..' as a folder, found '../x'"]
        );
    }

    #[test]
    fn store_urls_are_endpoints_or_folders() {
        let parse = |text: &str| StoreUrl::parse(text).unwrap();
        assert_eq!(parse("minio:9000"), StoreUrl::Endpoint("https://minio:9000".into()));
        assert_eq!(parse("http://127.0.0.1:9000"), StoreUrl::Endpoint("http://127.0.0.1:9000".into()));
        assert_eq!(parse("file:lake"), StoreUrl::Folder("lake".into()));
        assert_eq!(parse("file:/lake"), StoreUrl::Folder("/lake".into()));
        assert_eq!(parse("file:///lake"), StoreUrl::Folder("/lake".into()));
        assert!(StoreUrl::parse("file://host/lake").is_err());
        let mut folder = Properties::from_iter(MSK);
        folder.set("store.url", "file:/lake");
        let config = S3SinkConfig::from_properties(&folder).unwrap();
        assert_eq!(config.destination(), "file:/lake/user-0a1b2c3d4e5f-bucket/topics");
    }
}
