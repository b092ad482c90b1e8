//! The places that hold tables: the file system, and buckets of S3 or of what speaks its protocol.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use futures::TryStreamExt as _;
use object_store::aws::{AmazonS3Builder, AwsCredential};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, CredentialProvider, ObjectMeta, ObjectStore, ObjectStoreExt as _, RetryConfig,
};
use ottla_api::error::ResultExt as _;
use ottla_api::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use url::Url;

use crate::error::{from_store, no_table};
use crate::location::{Kind, Place, absolute};

/// Region where nothing names one; the default of `s3-sink`.
const DEFAULT_REGION: &str = "us-west-2";
/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one request may take. A part of a file is at most some megabytes.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Somebody waits for the answer, so a store that does not answer shows soon.
const RETRY_TIMEOUT: Duration = Duration::from_secs(20);
/// Credentials are asked for anew so long before they end.
const EXPIRY_MARGIN: Duration = Duration::from_secs(60);

/// Where buckets are. Credentials come from where all of AWS's tools look: environment, profile files, web identity,
/// container and instance metadata.
#[derive(Debug, Clone, Default)]
pub struct S3Options {
    /// Address of an endpoint, `https://` unless it names a scheme; unset, AWS.
    pub endpoint: Option<String>,
    /// Region of the buckets; unset, the one of the environment or profile.
    pub region: Option<String>,
}

/// The stores in use, each opened once.
#[derive(Debug)]
pub(crate) struct Stores {
    options: S3Options,
    aws: OnceCell<SdkConfig>,
    buckets: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
}

/// What there is at a place.
#[derive(Debug)]
pub(crate) enum Found {
    /// A Delta table in this folder.
    Delta(Path),
    /// Files of one kind, by name.
    Files(Kind, Vec<ObjectMeta>),
}

impl Stores {
    pub(crate) fn new(options: S3Options) -> Self {
        Self { options, aws: OnceCell::new(), buckets: Mutex::default() }
    }

    /// The store of a place, and its address for DataFusion and Delta.
    pub(crate) async fn open(&self, place: &Place) -> Result<(Arc<dyn ObjectStore>, Url)> {
        let url = |text: &str| Url::parse(text).or_error(ErrorKind::Config, format!("read the address {text}"));
        let Some(bucket) = &place.bucket else {
            return Ok((Arc::new(LocalFileSystem::new()), url("file:///")?));
        };
        let address = url(&format!("s3://{bucket}"))?;
        if let Some(store) = self.buckets.lock().get(bucket) {
            return Ok((Arc::clone(store), address));
        }
        let store = self.bucket(bucket).await?;
        self.buckets.lock().insert(bucket.clone(), Arc::clone(&store));
        Ok((store, address))
    }

    async fn bucket(&self, bucket: &str) -> Result<Arc<dyn ObjectStore>> {
        let aws = self.aws.get_or_init(|| load_aws(&self.options)).await;
        let region = aws.region().map_or(DEFAULT_REGION, Region::as_ref);
        let credentials =
            aws.credentials_provider().ok_or_else(|| Error::config("there is no source of credentials"))?;
        let endpoint = self.options.endpoint.as_deref().or(aws.endpoint_url()).map(with_scheme).transpose()?;
        let client = ClientOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_timeout(REQUEST_TIMEOUT)
            // Only to an endpoint that was named so.
            .with_allow_http(endpoint.as_ref().is_some_and(|url| url.starts_with("http://")));
        let retry = RetryConfig { backoff: BackoffConfig::default(), max_retries: 3, retry_timeout: RETRY_TIMEOUT };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(region)
            .with_credentials(Arc::new(AwsChain { provider: credentials, current: tokio::sync::Mutex::new(None) }))
            .with_client_options(client)
            .with_retry(retry);
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let store = builder.build().map_err(|error| from_store(error, "open", &format!("s3://{bucket}")))?;
        Ok(Arc::new(store))
    }
}

/// Finds out what is at a place, without reading any of it.
pub(crate) async fn find(store: &dyn ObjectStore, place: &Place, kind: Option<Kind>) -> Result<Found> {
    let folder = folder_of(place)?;
    if kind == Some(Kind::Delta) {
        if place.pattern.is_some() {
            return Err(Error::config(format!("{place} is a pattern; a Delta table is one folder, name it")));
        }
        if is_file(store, place, &folder).await? {
            return Err(no_table(&place.to_string()));
        }
        return Ok(Found::Delta(folder));
    }
    let failed = |error| from_store(error, "look into", &place.to_string());
    if place.pattern.is_none() {
        if is_file(store, place, &folder).await? {
            let file = store.head(&folder).await.map_err(failed)?;
            return files_of_one_kind(place, kind, vec![file]);
        }
        let here = store.list_with_delimiter(Some(&folder)).await.map_err(failed)?;
        if kind.is_none() && here.common_prefixes.iter().any(|path| path.filename() == Some("_delta_log")) {
            return Ok(Found::Delta(folder));
        }
    }
    let mut files: Vec<ObjectMeta> = store.list(Some(&folder)).try_collect().await.map_err(failed)?;
    files.retain(|file| file.size > 0 && place.covers(&below(&folder, &file.location)));
    let mut tables: Vec<String> = files.iter().filter_map(|file| table_of(&file.location)).collect();
    tables.sort();
    tables.dedup();
    if !tables.is_empty() && kind.is_none() {
        // Its folders hold removed rows too; only its log knows which ones count.
        let tables = tables.iter().map(|table| shown(place, table)).collect::<Vec<_>>().join(", ");
        return Err(Error::config(format!("{place} holds Delta tables; name one: {tables}")));
    }
    // What begins with a dot or an underscore is somebody's bookkeeping, as Spark has it.
    files.retain(|file| !below(&folder, &file.location).split('/').any(|part| part.starts_with(['.', '_'])));
    files.sort_by(|a, b| a.location.cmp(&b.location));
    files_of_one_kind(place, kind, files)
}

/// A path as the user would open it.
pub(crate) fn shown(place: &Place, path: impl fmt::Display) -> String {
    match &place.bucket {
        Some(bucket) => format!("s3://{bucket}/{path}"),
        None => format!("/{path}"),
    }
}

/// The folder in the store.
fn folder_of(place: &Place) -> Result<Path> {
    if place.bucket.is_some() {
        return Path::parse(&place.folder).or_error(ErrorKind::Config, format!("read the location {place}"));
    }
    let path = absolute(&place.folder).or_error(ErrorKind::Config, format!("read the location {place}"))?;
    Path::from_absolute_path(path).or_error(ErrorKind::Config, format!("read the location {place}"))
}

async fn is_file(store: &dyn ObjectStore, place: &Place, path: &Path) -> Result<bool> {
    if place.bucket.is_none() {
        return match std::fs::metadata(&place.folder) {
            Ok(found) => Ok(found.is_file()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::config(format!("{place} does not exist")))
            }
            Err(error) => Err(Error::config(format!("look into {place}")).caused_by(error)),
        };
    }
    // A bucket knows no folders. What has the ending of a file may be one.
    if path.filename().and_then(Kind::of_file).is_none() {
        return Ok(false);
    }
    match store.head(path).await {
        Ok(_) => Ok(true),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(from_store(error, "look into", &place.to_string())),
    }
}

fn files_of_one_kind(place: &Place, kind: Option<Kind>, files: Vec<ObjectMeta>) -> Result<Found> {
    let Some(first) = files.first() else {
        return Err(Error::config(match (&place.pattern, &place.bucket) {
            (Some(_), _) => format!("no file matches {place}"),
            (None, Some(_)) => format!("there is nothing at {place}"),
            (None, None) => format!("{place} is empty"),
        }));
    };
    if let Some(kind) = kind {
        return Ok(Found::Files(kind, files));
    }
    let of = |file: &ObjectMeta| file.location.filename().and_then(Kind::of_file);
    let Some(kind) = of(first) else {
        let name = shown(place, &first.location);
        return Err(Error::config(format!(
            "{name} has no known ending (.json, .jsonl, .ndjson, .csv, .parquet); say what it is by json:, csv: or \
             parquet: before the location, or leave it out by a pattern such as '*.json'"
        )));
    };
    if let Some(other) = files.iter().find(|file| of(file) != Some(kind)) {
        return Err(Error::config(format!(
            "{place} holds files of several kinds ({} and {}); choose by a pattern such as '*.json'",
            shown(place, &first.location),
            shown(place, &other.location)
        )));
    }
    Ok(Found::Files(kind, files))
}

/// The part of a path below a folder.
fn below(folder: &Path, path: &Path) -> String {
    path.prefix_match(folder)
        .map(|parts| parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"))
        .unwrap_or_default()
}

/// The folder of the Delta table to whose log a file belongs.
fn table_of(path: &Path) -> Option<String> {
    path.as_ref().split_once("/_delta_log/").map(|(table, _)| table.to_owned())
}

fn with_scheme(endpoint: &str) -> Result<String> {
    let endpoint = endpoint.trim_end_matches('/');
    let (scheme, host) = endpoint.split_once("://").unwrap_or(("https", endpoint));
    if !matches!(scheme, "http" | "https") || host.is_empty() || host.contains('@') {
        return Err(Error::config(format!(
            "--s3-endpoint must be an address such as http://localhost:9000, found '{scheme}://{}'",
            host.rsplit('@').next().unwrap_or_default()
        )));
    }
    Ok(format!("{scheme}://{host}"))
}

async fn load_aws(options: &S3Options) -> SdkConfig {
    let http =
        aws_smithy_http_client::Builder::new().tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
    let named = |name: &str| std::env::var(name).ok().filter(|region| !region.is_empty());
    let region = options.region.clone().or_else(|| named("AWS_REGION")).or_else(|| named("AWS_DEFAULT_REGION"));
    match region {
        Some(region) => loader = loader.region(Region::new(region)),
        // Asking the metadata of a machine takes seconds where there is none, and an endpoint has no use for the answer.
        None if options.endpoint.is_some() => loader = loader.region(Region::new(DEFAULT_REGION)),
        None => {}
    }
    loader.load().await
}

/// AWS's chain of credentials, for `object_store`, which knows only some of its places.
struct AwsChain {
    provider: SharedCredentialsProvider,
    /// What the chain answered last, and until when that holds.
    current: tokio::sync::Mutex<Option<(Arc<AwsCredential>, Option<SystemTime>)>>,
}

#[async_trait]
impl CredentialProvider for AwsChain {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut current = self.current.lock().await;
        if let Some((credential, ends)) = &*current
            && ends.is_none_or(|ends| ends > SystemTime::now() + EXPIRY_MARGIN)
        {
            return Ok(Arc::clone(credential));
        }
        let found: Credentials = self.provider.provide_credentials().await.map_err(|error| {
            let ours = Error::refresh_auth(
                "no AWS credentials are found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile",
            );
            tracing::debug!(%error, "no AWS credentials");
            object_store::Error::Generic { store: "S3", source: Box::new(ours) }
        })?;
        let credential = Arc::new(AwsCredential {
            key_id: found.access_key_id().to_owned(),
            secret_key: found.secret_access_key().to_owned(),
            token: found.session_token().map(str::to_owned),
        });
        *current = Some((Arc::clone(&credential), found.expiry()));
        Ok(credential)
    }
}

impl fmt::Debug for AwsChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AwsChain")
    }
}
