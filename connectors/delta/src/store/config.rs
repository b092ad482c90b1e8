//! Where tables live, as options: the keys of `s3-sink`, with the same meaning.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use ottla_api::config::ConfigValue;
use ottla_api::prelude::*;

/// The options that say where tables live. Flattened into the sink's own.
#[derive(Debug, Clone, Config)]
pub struct StoreConfig {
    /// Where the tables go: `file:PATH` for a folder, `s3://BUCKET` or `s3://BUCKET/PREFIX`, or the address of an S3
    /// endpoint (`https://` is added where there is no scheme). Unset, AWS in the configured region.
    #[config(name = "store.url", importance = "high")]
    pub store_url: Option<StoreUrl>,
    /// Bucket that holds the tables. It must exist. Needed unless `store.url` names it; of a folder it is a subfolder.
    #[config(name = "s3.bucket.name", importance = "high")]
    pub bucket: Option<String>,
    /// Folder of the tables inside the bucket or folder; blank for none.
    #[config(name = "tables.dir", default = "tables")]
    pub tables_dir: String,
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
    /// How often the S3 client tries one request before the failure shows. The sink goes on trying after that.
    #[config(name = "s3.part.retries", default = "3", min = 1, max = 1000, importance = "low")]
    pub request_attempts: u32,
    /// First pause of the S3 client between two attempts; the following ones grow.
    #[config(name = "s3.retry.backoff.ms", default = "200", min = 1, importance = "low")]
    pub retry_backoff: Duration,
    /// Try out at the start that the store refuses to overwrite a file, with one small file beside the tables. Two writers
    /// on a store that overwrites lose each other's commits, so with `false` be sure of the store.
    #[config(name = "store.probe", default = "true", importance = "low")]
    pub probe: bool,
}

impl StoreConfig {
    /// Checks what one option alone can't show.
    pub fn check(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        match (&self.access_key_id, &self.secret_access_key) {
            (Some(_), None) => errors
                .push(ConfigError::new("aws.secret.access.key", "is missing; aws.access.key.id is set and needs it")),
            (None, Some(_)) => errors
                .push(ConfigError::new("aws.access.key.id", "is missing; aws.secret.access.key is set and needs it")),
            _ => {}
        }
        match (&self.store_url, &self.bucket) {
            (_, Some(bucket)) if bucket.trim().is_empty() => {
                errors.push(ConfigError::new("s3.bucket.name", "must be a name, found nothing"));
            }
            (Some(StoreUrl::Bucket { bucket: named, .. }), Some(bucket)) if named != bucket => {
                errors.push(ConfigError::new(
                    "s3.bucket.name",
                    format!("is '{bucket}', but store.url names the bucket '{named}'; leave one of them out"),
                ));
            }
            (Some(StoreUrl::Endpoint(_)), None) => {
                errors.push(ConfigError::new("s3.bucket.name", "is missing; store.url is the address of an endpoint"));
            }
            (None, None) => errors.push(ConfigError::new(
                "store.url",
                "is missing; say where the tables go, such as file:lake or s3://bucket (or set s3.bucket.name)",
            )),
            (Some(StoreUrl::Folder(_)), Some(bucket)) if bucket.contains('/') || bucket.starts_with('.') => {
                errors.push(ConfigError::new(
                    "s3.bucket.name",
                    format!("must be the name of one folder and begin with no dot, found '{bucket}'"),
                ));
            }
            _ => {}
        }
        // A path that leaves its folder would write beside it, and S3 has no such thing as a parent.
        if self.tables_dir.split('/').any(|part| part == "." || part == "..") || self.tables_dir.contains('\0') {
            errors.push(ConfigError::new(
                "tables.dir",
                format!("must not contain '.' or '..' as a folder, found '{}'", self.tables_dir),
            ));
        }
        errors
    }

    /// The folder that holds the tables: the bucket's prefix, if any, and `tables.dir`, without slashes at the ends.
    pub(crate) fn folder_in_bucket(&self) -> String {
        let prefix = match &self.store_url {
            Some(StoreUrl::Bucket { prefix, .. }) => prefix.as_str(),
            _ => "",
        };
        let parts = prefix.split('/').chain(self.tables_dir.trim().split('/'));
        parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
    }

    /// The bucket, where there is one.
    pub(crate) fn bucket_name(&self) -> Option<&str> {
        match &self.store_url {
            Some(StoreUrl::Bucket { bucket, .. }) => Some(bucket),
            _ => self.bucket.as_deref(),
        }
    }

    /// The folder of all tables as a user would open it: `file:lake/tables`, `s3://bucket/tables`.
    pub fn destination(&self) -> String {
        let folder = self.folder_in_bucket();
        let root = match &self.store_url {
            Some(StoreUrl::Folder(root)) => {
                let root = self.bucket.as_ref().map_or_else(|| root.clone(), |bucket| root.join(bucket));
                format!("file:{}", root.display())
            }
            _ => format!("s3://{}", self.bucket_name().unwrap_or_default()),
        };
        if folder.is_empty() { root } else { format!("{}/{folder}", root.trim_end_matches('/')) }
    }
}

/// `store.url`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// A folder.
    Folder(PathBuf),
    /// A bucket in AWS, and a folder in it, which may be empty.
    Bucket {
        /// Name of the bucket.
        bucket: String,
        /// Folder inside, without slashes at the ends.
        prefix: String,
    },
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
        // s3a is how Hadoop and Spark write it.
        if let Some(rest) = text.strip_prefix("s3://").or_else(|| text.strip_prefix("s3a://")) {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() || bucket.contains(['@', ':']) || bucket.contains(char::is_whitespace) {
                return Err(format!("must be s3://BUCKET or s3://BUCKET/PREFIX, found '{text}'"));
            }
            let prefix = prefix.trim_matches('/').to_owned();
            if prefix.split('/').any(|part| part == "." || part == "..") {
                return Err(format!("must not contain '.' or '..' as a folder, found '{text}'"));
            }
            return Ok(Self::Bucket { bucket: bucket.to_owned(), prefix });
        }
        let (scheme, host) = text.split_once("://").unwrap_or(("https", text));
        if !matches!(scheme, "http" | "https") {
            return Err(format!("must begin with file:, s3://, http:// or https://, found '{scheme}://'"));
        }
        if host.contains('@') {
            return Err("must not contain a user or a password; use aws.access.key.id".to_owned());
        }
        if host.is_empty() || host.starts_with('/') || host.contains(char::is_whitespace) {
            return Err(format!("must be an address such as http://localhost:9000, found '{text}'"));
        }
        Ok(Self::Endpoint(format!("{scheme}://{}", host.trim_end_matches('/'))))
    }

    fn type_name() -> Cow<'static, str> {
        "url".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(properties: &[(&str, &str)]) -> Result<String, Vec<String>> {
        let texts = |errors: &[ConfigError]| errors.iter().map(ToString::to_string).collect::<Vec<_>>();
        let config = StoreConfig::from_properties(&Properties::from_iter(properties.iter().copied()))
            .map_err(|errors| texts(&errors.0))?;
        match config.check() {
            errors if errors.is_empty() => Ok(config.destination()),
            errors => Err(texts(&errors)),
        }
    }

    #[test]
    fn tables_go_where_the_options_say() {
        for (properties, destination) in [
            (&[("store.url", "file:lake")][..], "file:lake/tables"),
            (&[("store.url", "file:///lake/")], "file:/lake/tables"),
            (&[("store.url", "file:/lake"), ("s3.bucket.name", "b")], "file:/lake/b/tables"),
            (&[("store.url", "file:/lake"), ("tables.dir", "")], "file:/lake"),
            (&[("s3.bucket.name", "b")], "s3://b/tables"),
            (&[("s3.bucket.name", "b"), ("tables.dir", "")], "s3://b"),
            (&[("store.url", "s3://b")], "s3://b/tables"),
            (&[("store.url", "s3://b/some/where/"), ("tables.dir", "/t/")], "s3://b/some/where/t"),
            (&[("store.url", "s3a://b/x"), ("s3.bucket.name", "b"), ("tables.dir", "")], "s3://b/x"),
            (&[("store.url", "http://127.0.0.1:9000/"), ("s3.bucket.name", "b")], "s3://b/tables"),
        ] {
            assert_eq!(outcome(properties), Ok(destination.to_owned()), "{properties:?}");
        }
    }

    #[test]
    fn mistakes_are_named_with_their_way_out() {
        for (properties, message) in [
            (
                &[][..],
                "store.url: is missing; say where the tables go, such as file:lake or s3://bucket (or set \
                 s3.bucket.name)",
            ),
            (
                &[("store.url", "http://127.0.0.1:9000")],
                "s3.bucket.name: is missing; store.url is the address of an endpoint",
            ),
            (
                &[("store.url", "s3://a"), ("s3.bucket.name", "b")],
                "s3.bucket.name: is 'b', but store.url names the bucket 'a'; leave one of them out",
            ),
            (
                &[("store.url", "ftp://x")],
                "store.url: must begin with file:, s3://, http:// or https://, found 'ftp://'",
            ),
            (&[("store.url", "s3:///x")], "store.url: must be s3://BUCKET or s3://BUCKET/PREFIX, found 's3:///x'"),
            (&[("store.url", "file:")], "store.url: must name a folder after 'file:'"),
            (
                &[("store.url", "https://key:secret@x"), ("s3.bucket.name", "b")],
                "store.url: must not contain a user or a password; use aws.access.key.id",
            ),
            (
                &[("store.url", "file:x"), ("s3.bucket.name", "../b")],
                "s3.bucket.name: must be the name of one folder and begin with no dot, found '../b'",
            ),
            (
                &[("store.url", "file:x"), ("tables.dir", "../x")],
                "tables.dir: must not contain '.' or '..' as a folder, found '../x'",
            ),
            (
                &[("s3.bucket.name", "b"), ("aws.access.key.id", "AK")],
                "aws.secret.access.key: is missing; aws.access.key.id is set and needs it",
            ),
        ] {
            assert_eq!(outcome(properties), Err(vec![message.to_owned()]), "{properties:?}");
        }
    }
}
