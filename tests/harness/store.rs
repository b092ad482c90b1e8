//! Reads what the sink wrote, with clients of our own: a folder of buckets, or an S3 endpoint.

use std::fmt;
use std::path::{Path, PathBuf};

use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use aws_sdk_s3::primitives::ByteStream;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::runtime::Runtime;

use crate::services;

/// One object: its name and everything in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// Its name in the bucket.
    pub key: String,
    /// Its content.
    pub content: Vec<u8>,
}

impl Object {
    /// The content as text.
    ///
    /// # Panics
    ///
    /// Where it is not UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.content).unwrap_or_else(|error| panic!("{} is not UTF-8: {error}", self.key))
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, String::from_utf8_lossy(&self.content))
    }
}

/// All objects of a folder that stands for a bucket, by name. What the store keeps beside them (names that begin with a dot)
/// is not an object.
///
/// # Panics
///
/// Where the folder can't be read. One that is not there holds no objects.
pub fn folder_objects(bucket: &Path) -> Vec<Object> {
    fn walk(bucket: &Path, folder: &Path, found: &mut Vec<Object>) {
        for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("the folder can be listed").path();
            if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
                continue;
            }
            if path.is_dir() {
                walk(bucket, &path, found);
            } else {
                let key = path.strip_prefix(bucket).expect("below the bucket").to_string_lossy().into_owned();
                let content = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                found.push(Object { key, content });
            }
        }
    }
    let mut found = Vec::new();
    if bucket.is_dir() {
        walk(bucket, bucket, &mut found);
    }
    found.sort();
    found
}

/// A client of the S3 endpoint.
pub struct S3 {
    client: Client,
    runtime: Runtime,
}

impl S3 {
    /// The endpoint that `tests/run` started.
    pub fn connect() -> Self {
        let (key, secret) = services::s3_credentials();
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(services::s3())
            .force_path_style(true)
            .credentials_provider(Credentials::new(key, secret, None, None, "tests"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self { client: Client::from_conf(config), runtime: runtime.expect("a runtime") }
    }

    /// Makes a bucket.
    pub fn make_bucket(&self, bucket: &str) {
        let made = self.runtime.block_on(self.client.create_bucket().bucket(bucket).send());
        made.unwrap_or_else(|error| panic!("make bucket {bucket}: {error:?}"));
    }

    /// Puts an object.
    pub fn put(&self, bucket: &str, key: &str, content: &str) {
        let body = ByteStream::from(content.as_bytes().to_vec());
        let put = self.runtime.block_on(self.client.put_object().bucket(bucket).key(key).body(body).send());
        put.unwrap_or_else(|error| panic!("put {key}: {error:?}"));
    }

    /// All objects of a bucket, by name, left out what begins with a dot in one of its folders.
    pub fn objects(&self, bucket: &str) -> Vec<Object> {
        let mut objects =
            self.runtime.block_on(self.read_all(bucket)).unwrap_or_else(|error| panic!("{bucket}: {error}"));
        objects.sort();
        objects
    }

    /// How many objects there are now.
    pub fn count(&self, bucket: &str) -> usize {
        self.runtime.block_on(self.keys(bucket)).unwrap_or_else(|error| panic!("{bucket}: {error}")).len()
    }

    async fn keys(&self, bucket: &str) -> Result<Vec<String>, String> {
        let mut pages = self.client.list_objects_v2().bucket(bucket).into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| format!("list objects: {error:?}"))?;
            keys.extend(page.contents().iter().filter_map(|object| object.key()).map(str::to_owned));
        }
        keys.retain(|key| !key.split('/').any(|part| part.starts_with('.')));
        Ok(keys)
    }

    async fn read_all(&self, bucket: &str) -> Result<Vec<Object>, String> {
        let get = |key: String| async move {
            let failed = |error: String| format!("get {key}: {error}");
            let object = self.client.get_object().bucket(bucket).key(&key).send().await;
            let object = object.map_err(|error| failed(format!("{error:?}")))?;
            let content = object.body.collect().await.map_err(|error| failed(error.to_string()))?.to_vec();
            Ok::<_, String>(Object { key, content })
        };
        futures::stream::iter(self.keys(bucket).await?).map(get).buffer_unordered(32).try_collect().await
    }
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("S3")
    }
}

/// Where objects are: what the sink is told, and how to read them back.
#[derive(Debug)]
pub enum Store {
    /// A folder of buckets.
    Folder(PathBuf),
    /// The S3 endpoint.
    S3(S3),
}

impl Store {
    /// The value of `store.url`.
    pub fn url(&self) -> String {
        match self {
            Self::Folder(root) => format!("file:{}", root.display()),
            Self::S3(_) => services::s3(),
        }
    }

    /// All objects of a bucket, by name.
    pub fn objects(&self, bucket: &str) -> Vec<Object> {
        match self {
            Self::Folder(root) => folder_objects(&root.join(bucket)),
            Self::S3(s3) => s3.objects(bucket),
        }
    }
}
