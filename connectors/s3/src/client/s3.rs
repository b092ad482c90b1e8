//! Objects in S3, or in whatever speaks its protocol.
//!
//! Creation is conditional (`If-None-Match: *`), for whole objects and for those in parts. A refusal may be the echo of an
//! earlier request of ours whose answer was lost; the object's metadata tells, because it names the attempt.
//!
//! Bodies are in memory and signed with their SHA-256, so no further checksums are asked for: not every store knows them.
//! Objects and parts are put by `direct`, everything else by the SDK's client.

mod direct;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, ObjectCannedAcl, ServerSideEncryption};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpConnector, http_client_fn};
use bytes::Bytes;
use ottla_api::prelude::*;
use tokio::sync::OnceCell;

use self::direct::{Address, Answer, Direct, Head};
use super::{Body, Chunk, MultipartUpload, NewObject, ObjectStore, Outcome, fault_overwrite};
use crate::config::{Encryption, S3SinkConfig, StoreUrl};
use crate::error::{Place, S3Failure, from_s3};

/// Names of the metadata of an object.
const ATTEMPT: &str = "ottla-attempt";
const FIRST: &str = "ottla-first";
const LAST: &str = "ottla-last";
const COUNT: &str = "ottla-count";

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one attempt at a small request may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(60);
/// The slowest link on which a full part gets through, in bytes a second.
const SLOWEST_LINK: u64 = 256 * 1024;

/// A bucket.
#[derive(Clone)]
pub struct S3Store {
    config: Arc<S3SinkConfig>,
    place: Arc<Place>,
    connection: Arc<OnceCell<Connection>>,
}

/// How a bucket is reached. Nothing is sent before the first request.
struct Connection {
    client: Client,
    connector: SharedHttpConnector,
    credentials: Option<SharedCredentialsProvider>,
    /// Once the SDK has told the address; nothing where requests must be made in its own way.
    direct: OnceCell<Option<Direct>>,
}

impl S3Store {
    /// The bucket of this configuration. Nothing is connected yet.
    pub fn new(config: &S3SinkConfig) -> Self {
        let endpoint = match &config.store_url {
            Some(StoreUrl::Endpoint(url)) => url.clone(),
            _ => format!("S3 in {}", config.region),
        };
        let place = Place { bucket: config.bucket.clone(), endpoint };
        Self { config: Arc::new(config.clone()), place: Arc::new(place), connection: Arc::default() }
    }

    async fn connection(&self) -> &Connection {
        self.connection.get_or_init(|| connect(&self.config)).await
    }

    async fn client(&self) -> &Client {
        &self.connection().await.client
    }

    /// The short way to put objects, where there is one.
    async fn direct(&self) -> Option<&Direct> {
        const KEY: &str = "k";
        let connection = self.connection().await;
        let found = connection.direct.get_or_try_init(async || {
            let Some(credentials) = &connection.credentials else { return Ok(None) };
            let presigning = PresigningConfig::expires_in(Duration::from_secs(60)).map_err(drop)?;
            let request = connection.client.put_object().bucket(&self.place.bucket).key(KEY);
            // What is wrong shows when the SDK makes the request itself, and may be better next time.
            let presigned = request.presigned(presigning).await.map_err(drop)?;
            let direct = |address| {
                let timeout = attempt_timeout(&self.config);
                Direct::new(address, connection.connector.clone(), credentials.clone(), timeout)
            };
            Ok::<_, ()>(Address::of_presigned(presigned.uri(), KEY).map(direct))
        });
        found.await.ok().and_then(Option::as_ref)
    }

    fn failure(&self, failure: S3Failure, operation: &str) -> Error {
        failure.into_error(operation)
    }

    /// True where the object that exists was made by this very attempt.
    async fn is_ours(&self, object: &NewObject) -> Result<bool> {
        let request = self.client().await.head_object().bucket(&self.place.bucket).key(&object.key);
        match request.send().await {
            Ok(found) => Ok(found.metadata().and_then(|metadata| metadata.get(ATTEMPT)) == Some(&object.attempt)),
            Err(error) => match from_s3(error, "look at an object", &self.place) {
                S3Failure::Missing => Ok(false),
                other => Err(self.failure(other, "look at an object")),
            },
        }
    }

    async fn settle(&self, object: &NewObject) -> Result<Outcome> {
        Ok(if self.is_ours(object).await? { Outcome::Created } else { Outcome::Contested })
    }

    fn metadata(object: &NewObject) -> impl Iterator<Item = (&'static str, String)> {
        [
            (ATTEMPT, Some(object.attempt.clone())),
            (FIRST, Some(object.first.to_string())),
            (LAST, object.last.map(|last| last.to_string())),
            (COUNT, object.records.map(|records| records.to_string())),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value)))
    }

    /// All that is said of an object that is put at once.
    fn head<'a>(&self, object: &'a NewObject) -> Head<'a> {
        let mut headers: Vec<_> = Self::metadata(object).map(|(name, value)| (metadata_header(name), value)).collect();
        headers.extend(only_if_absent().map(|value| ("if-none-match", value)));
        headers.extend(self.acl().map(|acl| ("x-amz-acl", acl.as_str().to_owned())));
        let encryption = self.encryption().map(|encryption| encryption.as_str().to_owned());
        headers.extend(encryption.map(|name| ("x-amz-server-side-encryption", name)));
        let key_id = self.config.kms_key_id.clone();
        headers.extend(key_id.map(|id| ("x-amz-server-side-encryption-aws-kms-key-id", id)));
        Head { key: &object.key, part: None, headers }
    }

    fn acl(&self) -> Option<ObjectCannedAcl> {
        self.config.acl.as_deref().map(ObjectCannedAcl::from)
    }

    fn encryption(&self) -> Option<ServerSideEncryption> {
        self.config.encryption.map(|encryption| match encryption {
            Encryption::Aes256 => ServerSideEncryption::Aes256,
            Encryption::Kms => ServerSideEncryption::AwsKms,
        })
    }
}

/// Names of the headers that make metadata of what follows.
fn metadata_header(name: &'static str) -> &'static str {
    match name {
        ATTEMPT => "x-amz-meta-ottla-attempt",
        FIRST => "x-amz-meta-ottla-first",
        LAST => "x-amz-meta-ottla-last",
        _ => "x-amz-meta-ottla-count",
    }
}

/// The header that makes a creation conditional.
fn only_if_absent() -> Option<String> {
    (!fault_overwrite()).then(|| "*".to_owned())
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn create(&self, object: &NewObject, body: Body) -> Result<Outcome> {
        let mut at_fault = None;
        if let Some(direct) = self.direct().await {
            match direct.put(self.head(object), &body).await {
                Answer::Stored(_) => return Ok(Outcome::Created),
                Answer::Exists => return self.settle(object).await,
                Answer::Refused => at_fault = Some(direct),
                Answer::Failed => {}
            }
        }
        let mut request = self
            .client()
            .await
            .put_object()
            .bucket(&self.place.bucket)
            .key(&object.key)
            .set_if_none_match(only_if_absent())
            .set_acl(self.acl())
            .set_server_side_encryption(self.encryption())
            .set_ssekms_key_id(self.config.kms_key_id.clone())
            .body(ByteStream::from(body.to_bytes()));
        for (name, value) in Self::metadata(object) {
            request = request.metadata(name, value);
        }
        match request.send().await {
            Ok(_) => {
                at_fault.inspect(|direct| direct.was_at_fault());
                Ok(Outcome::Created)
            }
            Err(error) => match from_s3(error, "create an object", &self.place) {
                S3Failure::Exists => self.settle(object).await,
                other => Err(self.failure(other, "create an object")),
            },
        }
    }

    fn create_in_parts(&self, object: &NewObject) -> Box<dyn MultipartUpload> {
        let (store, object) = (self.clone(), object.clone());
        Box::new(S3Upload { store, object, id: None, parts: Vec::new(), rest_stored: false })
    }

    async fn read(&self, key: &str, from: u64, length: u64) -> Result<Option<Chunk>> {
        const OPERATION: &str =
            "read an object (without the permission s3:ListBucket, S3 refuses to say that there is none)";
        let range = format!("bytes={from}-{}", from + length.max(1) - 1);
        let request = self.client().await.get_object().bucket(&self.place.bucket).key(key).range(range);
        let found = match request.send().await {
            Ok(found) => found,
            Err(error) => {
                return match from_s3(error, OPERATION, &self.place) {
                    S3Failure::Missing => Ok(None),
                    // Only an empty object has no first byte.
                    S3Failure::OutOfRange => Ok(Some(Chunk { bytes: Bytes::new(), total: 0 })),
                    other => Err(self.failure(other, OPERATION)),
                };
            }
        };
        let length_answered = found.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or(0);
        let total = match found.content_range().and_then(|range| range.rsplit('/').next()) {
            Some(total) => total.parse().map_err(|_| {
                Error::fatal("the store's answer to a range request makes no sense").with("object", key)
            })?,
            // The whole object, because the store knows no ranges or the object is shorter.
            None => length_answered,
        };
        let whole = found.content_range().is_none();
        let body = found.body.collect().await;
        let bytes = body.map_err(|error| Error::retriable("read an object's bytes").caused_by(error))?.into_bytes();
        let bytes =
            if whole && from > 0 { bytes.slice(usize::try_from(from).unwrap_or(0).min(bytes.len())..) } else { bytes };
        if (bytes.len() as u64) < length.min(total.saturating_sub(from)) {
            return Err(Error::retriable("the store sent fewer bytes than it said").with("object", key));
        }
        Ok(Some(Chunk { bytes, total }))
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let request = self.client().await.delete_object().bucket(&self.place.bucket).key(key);
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failure(from_s3(error, "remove an object", &self.place), "remove an object")),
        }
    }

    fn location(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.place.bucket)
    }
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Store(bucket {} at {})", self.place.bucket, self.place.endpoint)
    }
}

/// An object that comes in parts.
struct S3Upload {
    store: S3Store,
    object: NewObject,
    id: Option<String>,
    parts: Vec<CompletedPart>,
    /// True once the last part is stored too, so that only the completion is to be repeated.
    rest_stored: bool,
}

impl S3Upload {
    /// The upload's id, from the store's answer to its beginning. A beginning whose answer was lost leaves an upload that
    /// the bucket's lifecycle rules remove.
    async fn begin(&mut self) -> Result<String> {
        if let Some(id) = &self.id {
            return Ok(id.clone());
        }
        let store = &self.store;
        let mut request = store
            .client()
            .await
            .create_multipart_upload()
            .bucket(&store.place.bucket)
            .key(&self.object.key)
            .set_acl(store.acl())
            .set_server_side_encryption(store.encryption())
            .set_ssekms_key_id(store.config.kms_key_id.clone());
        for (name, value) in S3Store::metadata(&self.object) {
            request = request.metadata(name, value);
        }
        const OPERATION: &str = "begin an upload in parts";
        let begun =
            request.send().await.map_err(|error| store.failure(from_s3(error, OPERATION, &store.place), OPERATION))?;
        let id = begun.upload_id().ok_or_else(|| Error::fatal("the store gave an upload in parts no id"))?.to_owned();
        self.id = Some(id.clone());
        Ok(id)
    }
}

#[async_trait]
impl MultipartUpload for S3Upload {
    async fn part(&mut self, body: Body) -> Result<Outcome> {
        let id = self.begin().await?;
        let number = i32::try_from(self.parts.len() + 1).expect("at most 10,000 parts");
        let store = &self.store;
        let completed = |e_tag: Option<String>| CompletedPart::builder().part_number(number).set_e_tag(e_tag).build();
        let mut at_fault = None;
        if let Some(direct) = store.direct().await {
            let head = Head { key: &self.object.key, part: Some((number, &id)), headers: Vec::new() };
            match direct.put(head, &body).await {
                Answer::Stored(e_tag) => {
                    self.parts.push(completed(e_tag));
                    return Ok(Outcome::Created);
                }
                Answer::Refused => at_fault = Some(direct),
                Answer::Exists | Answer::Failed => {}
            }
        }
        let request = store
            .client()
            .await
            .upload_part()
            .bucket(&store.place.bucket)
            .key(&self.object.key)
            .upload_id(id)
            .part_number(number)
            .body(ByteStream::from(body.to_bytes()));
        match request.send().await {
            Ok(stored) => {
                at_fault.inspect(|direct| direct.was_at_fault());
                self.parts.push(completed(stored.e_tag().map(str::to_owned)));
                Ok(Outcome::Created)
            }
            Err(error) => match from_s3(error, "upload a part", &store.place) {
                S3Failure::Missing => Ok(Outcome::Contested),
                other => Err(store.failure(other, "upload a part")),
            },
        }
    }

    async fn finish(&mut self, rest: Body) -> Result<Outcome> {
        if !self.rest_stored {
            if self.part(rest).await? == Outcome::Contested {
                return Ok(Outcome::Contested);
            }
            self.rest_stored = true;
        }
        let id = self.begin().await?;
        let store = &self.store;
        let parts = CompletedMultipartUpload::builder().set_parts(Some(self.parts.clone())).build();
        let request = store
            .client()
            .await
            .complete_multipart_upload()
            .bucket(&store.place.bucket)
            .key(&self.object.key)
            .upload_id(id)
            .multipart_upload(parts)
            .set_if_none_match(only_if_absent());
        match request.send().await {
            Ok(_) => {
                self.id = None;
                Ok(Outcome::Created)
            }
            Err(error) => match from_s3(error, "complete an upload in parts", &store.place) {
                // The upload is gone: completed by a request whose answer was lost, or thrown away by somebody. Or its
                // object exists. Or the store could not decide between two, and S3 wants the parts again.
                S3Failure::Exists | S3Failure::Missing | S3Failure::Conflict => store.settle(&self.object).await,
                other => Err(store.failure(other, "complete an upload in parts")),
            },
        }
    }

    async fn abort(&mut self) {
        let Some(id) = self.id.take() else { return };
        let store = &self.store;
        let request = store.client().await.abort_multipart_upload().bucket(&store.place.bucket);
        if let Err(error) = request.key(&self.object.key).upload_id(id).send().await {
            let error =
                from_s3(error, "throw away an upload in parts", &store.place).into_error("throw away an upload");
            tracing::info!(%error, object = self.object.key, "parts stay until the bucket's lifecycle rules remove them");
        }
    }
}

/// How long one attempt at a request may take.
fn attempt_timeout(config: &S3SinkConfig) -> Duration {
    ATTEMPT_TIMEOUT + Duration::from_secs(config.part_size as u64 / SLOWEST_LINK)
}

async fn connect(config: &S3SinkConfig) -> Connection {
    let attempt_timeout = attempt_timeout(config);
    let settings =
        HttpConnectorSettings::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(attempt_timeout).build();
    let connector = Connector::builder().connector_settings(settings);
    let endpoint = match &config.store_url {
        Some(StoreUrl::Endpoint(url)) => Some(url.as_str()),
        _ => None,
    };
    // The certificates of the system are only read where they are needed: that takes longer than all the rest.
    let connector = match endpoint {
        Some(url) if url.starts_with("http://") => connector.build_http(),
        _ => connector.tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build(),
    };
    let connector = SharedHttpConnector::new(connector);
    let shared = connector.clone();
    let http = http_client_fn(move |_, _| shared.clone());
    let region = Region::new(config.region.clone());
    let credentials = match (&config.access_key_id, &config.secret_access_key) {
        (Some(id), Some(secret)) => {
            let credentials = Credentials::new(id, secret.expose(), None, None, "configuration");
            Some(SharedCredentialsProvider::new(credentials))
        }
        _ => None,
    };
    let (builder, credentials) = match (endpoint, credentials) {
        // All is said; neither the environment nor a profile is asked.
        (Some(_), Some(credentials)) => {
            let builder = aws_sdk_s3::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(region)
                .http_client(http)
                .credentials_provider(credentials.clone());
            (builder, Some(credentials))
        }
        (_, credentials) => {
            let mut loader = aws_config::defaults(BehaviorVersion::latest()).region(region).http_client(http);
            if let Some(credentials) = credentials {
                loader = loader.credentials_provider(credentials);
            }
            let shared = loader.load().await;
            (aws_sdk_s3::config::Builder::from(&shared), shared.credentials_provider())
        }
    };
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(attempt_timeout)
        .operation_attempt_timeout(attempt_timeout)
        .build();
    let retries =
        RetryConfig::standard().with_max_attempts(config.part_retries).with_initial_backoff(config.retry_backoff);
    let mut builder = builder
        .force_path_style(config.path_style)
        .retry_config(retries)
        .timeout_config(timeouts)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(url) = endpoint {
        builder = builder.endpoint_url(url);
    }
    Connection { client: Client::from_conf(builder.build()), connector, credentials, direct: OnceCell::new() }
}
