//! The connection: the only place that knows how the SDK is set up, and the few calls that both connectors make alike.

use std::path::Path;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::config::{BehaviorVersion, Region, StalledStreamProtectionConfig};
use aws_sdk_kinesis::types::{StreamDescriptionSummary, StreamStatus};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use ottla_api::prelude::*;

use crate::config::{ConnectionConfig, Endpoint};
use crate::embedded::EmbeddedKinesis;
use crate::error::{Failure, What, from_sdk};

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the answer to a request may take. A full `GetRecords` carries 10 MB.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
/// How often is looked whether a new stream is ready.
const CREATION_LOOK: Duration = Duration::from_millis(200);
/// How long a stream may take to become ready. AWS says seconds; a table of a thousand shards takes minutes.
const CREATION_PATIENCE: Duration = Duration::from_secs(300);

/// A client of the Kinesis that the configuration names. `state_dir` is where the embedded one lies.
///
/// The client makes each call once: whoever calls decides about repetition, because a repeated put may store a record twice.
/// An endpoint on this machine is used with made-up credentials where none are configured.
///
/// # Errors
///
/// Where the embedded Kinesis can't be opened. Nothing else is connected yet.
pub async fn connect(config: &ConnectionConfig, state_dir: &Path) -> Result<Client> {
    let region = Region::new(config.region.clone());
    let configured = match (&config.access_key_id, &config.secret_access_key) {
        (Some(id), Some(secret)) => Some(Credentials::new(id, secret.expose(), None, None, "configuration")),
        _ => None,
    };
    let local = config.endpoint.as_ref().is_some_and(Endpoint::is_loopback);
    let made_up = Credentials::new("local", "local", None, None, "local");
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(ATTEMPT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .build();
    let builder = match &config.endpoint {
        Some(Endpoint::Embedded) => {
            let http = EmbeddedKinesis::open(state_dir)?.http_client();
            aws_sdk_kinesis::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(region)
                .endpoint_url("http://kinesis.embedded")
                .credentials_provider(configured.unwrap_or(made_up))
                .http_client(http)
        }
        endpoint => {
            let http = aws_smithy_http_client::Builder::new()
                .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
                .build_https();
            let mut loader = aws_config::defaults(BehaviorVersion::latest()).region(region).http_client(http);
            if let Some(credentials) = configured.or(local.then_some(made_up)) {
                loader = loader.credentials_provider(credentials);
            }
            let mut builder = aws_sdk_kinesis::config::Builder::from(&loader.load().await);
            if let Some(Endpoint::Url(url)) = endpoint {
                builder = builder.endpoint_url(url);
            }
            builder
        }
    };
    let builder = builder
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        // A subscription is quiet for as long as nobody writes; its reader has a patience of its own.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    Ok(Client::from_conf(builder.build()))
}

/// What both connectors know about where they are.
#[derive(Debug, Clone)]
pub(crate) struct Kinesis {
    pub(crate) client: Client,
    /// The endpoint as a person would name it.
    pub(crate) place: String,
    /// With how many shards a missing stream is made; nothing where that is an error.
    create_shards: Option<i32>,
}

impl Kinesis {
    /// Connects.
    pub(crate) async fn connect(
        config: &ConnectionConfig,
        create_shards: Option<i32>,
        state_dir: &Path,
    ) -> Result<Self> {
        let client = connect(config, state_dir).await?;
        let create_shards = create_shards.or(config.is_embedded().then_some(1));
        Ok(Self { client, place: config.place(), create_shards })
    }

    /// Looks at a stream, makes it where it is missing and that was asked for, and waits until it can be used.
    pub(crate) async fn ensure_stream(&self, stream: &str) -> Result<StreamDescriptionSummary> {
        let begun = tokio::time::Instant::now();
        loop {
            match self.describe(stream).await {
                Ok(summary) if matches!(summary.stream_status, StreamStatus::Active | StreamStatus::Updating) => {
                    return Ok(summary);
                }
                Ok(summary) if begun.elapsed() > CREATION_PATIENCE => {
                    let status = summary.stream_status.as_str().to_owned();
                    return Err(Error::retriable("the stream is still not ready")
                        .with("stream", stream)
                        .with("status", status));
                }
                Ok(_) => tokio::time::sleep(CREATION_LOOK).await,
                Err(failure) if failure.what == What::NotFound => self.create(stream).await?,
                Err(failure) => return Err(failure.error.with("stream", stream)),
            }
        }
    }

    async fn describe(&self, stream: &str) -> Result<StreamDescriptionSummary, Failure> {
        const OPERATION: &str = "look at a stream";
        let found = self.client.describe_stream_summary().stream_name(stream).send().await;
        let found = found.map_err(|error| from_sdk(error, OPERATION, &self.place))?;
        found.stream_description_summary.ok_or_else(|| Failure {
            what: What::Other,
            error: Error::retriable(format!("{OPERATION}: the answer is empty")),
        })
    }

    async fn create(&self, stream: &str) -> Result<()> {
        let Some(shards) = self.create_shards else {
            return Err(Error::config(format!(
                "stream '{stream}' does not exist at {}; make it, correct its name or kinesis.region, or let it be made with \
                 kinesis.create.stream.shards",
                self.place
            )));
        };
        match self.client.create_stream().stream_name(stream).shard_count(shards).send().await {
            Ok(_) => {
                tracing::info!(stream, shards, "made a stream");
                Ok(())
            }
            Err(error) => {
                let failure = from_sdk(error, "make a stream", &self.place);
                // Another task was quicker.
                if failure.what == What::InUse { Ok(()) } else { Err(failure.error.with("stream", stream)) }
            }
        }
    }
}
