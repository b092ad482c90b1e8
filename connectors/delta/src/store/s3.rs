//! Tables in S3, or in whatever speaks its protocol, through conditional puts.
//!
//! `object_store` makes the requests. Around it is what a table needs beyond that: credentials from all the places where AWS
//! keeps them, reloaded before they expire and after a refusal.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::BehaviorVersion;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsCredential, S3ConditionalPut};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, CopyOptions, CredentialProvider, Error, GetOptions, GetResult, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    RetryConfig,
};
use tokio::sync::{Mutex, OnceCell};

use super::config::{StoreConfig, StoreUrl};
use super::failure::{NoCredentials, causes};

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one attempt at a request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// After this time the client gives a request back to the sink, which goes on trying with fresh credentials.
const RETRY_TIMEOUT: Duration = Duration::from_secs(120);
/// Credentials are loaded anew so long before they expire.
const EXPIRY_MARGIN: Duration = Duration::from_secs(5 * 60);
/// After a refusal credentials are loaded anew, but not more often than this.
const RELOAD_PAUSE: Duration = Duration::from_secs(5);

/// A bucket.
#[derive(Debug)]
pub(crate) struct S3Tables {
    inner: AmazonS3,
    credentials: Option<Arc<ChainCredentials>>,
}

impl S3Tables {
    /// The bucket of this configuration. Nothing is connected yet.
    pub(crate) fn new(config: &StoreConfig, bucket: &str) -> Result<Self> {
        let endpoint = match &config.store_url {
            Some(StoreUrl::Endpoint(url)) => Some(url.as_str()),
            _ => None,
        };
        let plain = endpoint.is_some_and(|url| url.starts_with("http://"));
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: config.retry_backoff,
                max_backoff: config.retry_backoff.max(Duration::from_secs(5)),
                base: 2.0,
            },
            max_retries: config.request_attempts.saturating_sub(1) as usize,
            retry_timeout: RETRY_TIMEOUT,
        };
        let options = ClientOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_timeout(REQUEST_TIMEOUT)
            .with_allow_http(plain);
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(&config.region)
            .with_virtual_hosted_style_request(!config.path_style)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_client_options(options)
            .with_retry(retry);
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint_of(endpoint, bucket, config.path_style));
        }
        let mut chain = None;
        builder = match (&config.access_key_id, &config.secret_access_key) {
            (Some(id), Some(secret)) => builder.with_access_key_id(id).with_secret_access_key(secret.expose()),
            _ => {
                let credentials = Arc::new(ChainCredentials::new(&config.region));
                chain = Some(Arc::clone(&credentials));
                builder.with_credentials(credentials)
            }
        };
        Ok(Self { inner: builder.build()?, credentials: chain })
    }

    /// Looks at a result on its way to the caller: a refusal makes the next request load credentials anew.
    fn seen<T>(&self, result: Result<T>) -> Result<T> {
        if let (Err(error), Some(credentials)) = (&result, &self.credentials)
            && is_refusal(error)
        {
            credentials.suspect();
        }
        result
    }

    fn seen_stream<T: Send + 'static>(&self, stream: BoxStream<'static, Result<T>>) -> BoxStream<'static, Result<T>> {
        let Some(credentials) = self.credentials.clone() else { return stream };
        let look = move |result: &Result<T>| {
            if result.as_ref().is_err_and(is_refusal) {
                credentials.suspect();
            }
        };
        stream.inspect(look).boxed()
    }
}

/// With the bucket in the host name, `object_store` wants it in the endpoint already.
fn endpoint_of(endpoint: &str, bucket: &str, path_style: bool) -> String {
    match endpoint.split_once("://") {
        Some((scheme, host)) if !path_style => format!("{scheme}://{bucket}.{host}"),
        _ => endpoint.to_owned(),
    }
}

fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. })
        || error.to_string().contains("ExpiredToken")
}

impl fmt::Display for S3Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for S3Tables {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.seen(self.inner.put_opts(location, payload, options).await)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.seen(self.inner.put_multipart_opts(location, options).await)
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.seen(self.inner.get_opts(location, options).await)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.seen_stream(self.inner.delete_stream(locations))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.seen_stream(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.seen_stream(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.seen(self.inner.list_with_delimiter(prefix).await)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.seen(self.inner.copy_opts(from, to, options).await)
    }
}

/// Credentials from where AWS's tools look for them, in their order.
struct ChainCredentials {
    region: String,
    provider: OnceCell<Option<SharedCredentialsProvider>>,
    cached: Mutex<Option<Cached>>,
    /// When a request was refused last.
    suspected: parking_lot::Mutex<Option<SystemTime>>,
}

struct Cached {
    credential: Arc<AwsCredential>,
    loaded: SystemTime,
    expiry: Option<SystemTime>,
}

impl ChainCredentials {
    fn new(region: &str) -> Self {
        Self {
            region: region.to_owned(),
            provider: OnceCell::new(),
            cached: Mutex::new(None),
            suspected: parking_lot::Mutex::new(None),
        }
    }

    fn suspect(&self) {
        *self.suspected.lock() = Some(SystemTime::now());
    }

    async fn load(&self) -> Result<Credentials, NoCredentials> {
        let provider = self.provider.get_or_init(|| async {
            let http = aws_smithy_http_client::Builder::new()
                .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
                .build_https();
            let region = aws_config::Region::new(self.region.clone());
            let loader = aws_config::defaults(BehaviorVersion::latest()).region(region).http_client(http);
            loader.load().await.credentials_provider()
        });
        let Some(provider) = provider.await else { return Err(NoCredentials("none are configured".to_owned())) };
        provider.provide_credentials().await.map_err(|error| NoCredentials(causes(&error)))
    }

    /// True where these credentials may be used for another while.
    fn usable(&self, cached: &Cached, now: SystemTime) -> bool {
        let fresh = cached.expiry.is_none_or(|expiry| now + EXPIRY_MARGIN < expiry);
        let refused = self.suspected.lock().is_some_and(|time| time > cached.loaded);
        let just_loaded = now.duration_since(cached.loaded).is_ok_and(|age| age < RELOAD_PAUSE);
        just_loaded || (fresh && !refused)
    }
}

#[async_trait]
impl CredentialProvider for ChainCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> Result<Arc<AwsCredential>> {
        let mut cached = self.cached.lock().await;
        let now = SystemTime::now();
        if let Some(cached) = &*cached
            && self.usable(cached, now)
        {
            return Ok(Arc::clone(&cached.credential));
        }
        let loaded = self.load().await.map_err(|error| Error::Generic { store: "S3", source: Box::new(error) })?;
        let credential = Arc::new(AwsCredential {
            key_id: loaded.access_key_id().to_owned(),
            secret_key: loaded.secret_access_key().to_owned(),
            token: loaded.session_token().map(str::to_owned),
        });
        *cached = Some(Cached { credential: Arc::clone(&credential), loaded: now, expiry: loaded.expiry() });
        Ok(credential)
    }
}

impl fmt::Debug for ChainCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainCredentials({})", self.region)
    }
}
