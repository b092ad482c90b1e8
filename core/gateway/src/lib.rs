//! The HTTP gateway: Kafka REST Proxy v2 and the paths of an API gateway in front of Kinesis, as a listener of the worker.
//!
//! A request goes through `Gateway::respond`, which reads straight down: whose name it was sent to, who calls, which route, its
//! body, the route's action, and an answer with the headers that every answer has.
//!
//! | File | What |
//! |---|---|
//! | `route.rs` | every route in one table, and what is told to who missed them |
//! | `kafka/` | REST Proxy: produce, topics, consumers |
//! | `kinesis.rs` | the `/streams` paths |
//! | `guard.rs` | what values must look like (`require.*`) |
//! | `auth.rs`, `limits.rs`, `listener.rs` | who may call, how much, how long |
//! | `body.rs`, `answer.rs`, `error.rs` | JSON in, JSON out, and what is said where something is wrong |

mod answer;
mod auth;
mod body;
mod error;
mod guard;
mod kafka;
mod kinesis;
mod limits;
mod listener;
mod route;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use ottla_api::config::Config as _;
use ottla_api::{ErrorKind, Result, error::ResultExt as _};
use ottla_connector_kinesis::ConnectionConfig;
use ottla_runtime::broker::Broker;
use ottla_runtime::config::GatewayConfig;
use ottla_runtime::status::WorkerStatus;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

use answer::Answer;
use auth::Auth;
use error::{Api, Failure};
use guard::Guards;
use kafka::Kafka;
use kinesis::Streams;
use limits::Hosts;
use route::{Action, Missed};

/// What a gateway has around it.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Where topics are.
    pub broker: Arc<dyn Broker>,
    /// The worker's state folder, where the embedded Kinesis lies.
    pub state_dir: PathBuf,
    /// Consumer groups of this worker's connectors, and whose they are: nobody may read, and commit, in their name.
    pub groups: BTreeMap<String, String>,
    /// Where requests are counted.
    pub status: Arc<WorkerStatus>,
}

/// Checks what can't be checked without reading schemas and hashes: for `ottla validate`, which listens to nothing.
///
/// # Errors
///
/// As [`serve`], of kind [`ErrorKind::Config`].
pub fn check(config: &GatewayConfig) -> Result<()> {
    Guards::build(config)?;
    Auth::new(config)?;
    ConnectionConfig::from_properties(&config.kinesis())?;
    Ok(())
}

/// Listens, and answers a future that serves until `stop` is cancelled; what was accepted by then is answered.
///
/// # Errors
///
/// Of kind [`ErrorKind::Config`] where the address can't be listened on, or a schema or a password's hash is none; where the
/// embedded Kinesis can't be opened.
pub async fn serve(
    config: &GatewayConfig,
    around: Surroundings,
    stop: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + use<>> {
    let guards = Arc::new(Guards::build(config)?);
    let auth = Auth::new(config)?;
    let connection = ConnectionConfig::from_properties(&config.kinesis())?;
    let client = ottla_connector_kinesis::connect(&connection, &around.state_dir).await?;
    let bound = TcpListener::bind(*config.listener).await;
    let listener = bound.or_error(ErrorKind::Config, format!("gateway.listener: listen on {}", *config.listener))?;
    let address = listener.local_addr().or_error(ErrorKind::Fatal, "look at the gateway's listener")?;
    info!(%address, "the gateway serves Kafka's REST Proxy and Kinesis streams");
    let limits = Limits {
        body_bytes: usize::try_from(config.body_max.0).unwrap_or(usize::MAX),
        header_bytes: usize::try_from(config.header_max.0).unwrap_or(usize::MAX),
        request_time: config.request_timeout,
        header_time: config.header_timeout,
        connections: config.connections_max,
    };
    let kafka = Kafka::new(config, &around, Arc::clone(&guards), &stop);
    let gateway = Arc::new(Gateway {
        hosts: Hosts::new(address, config.hosts.as_deref()),
        auth,
        limits,
        kafka,
        streams: Streams::new(client, guards),
        status: around.status,
    });
    Ok(async move {
        listener::serve(listener, Arc::clone(&gateway), stop).await;
        gateway.kafka.close().await;
    })
}

/// Everything that answers requests.
#[derive(Debug)]
pub(crate) struct Gateway {
    hosts: Hosts,
    auth: Auth,
    limits: Limits,
    kafka: Kafka,
    streams: Streams,
    status: Arc<WorkerStatus>,
}

/// What one caller may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    body_bytes: usize,
    header_bytes: usize,
    request_time: Duration,
    header_time: Duration,
    connections: usize,
}

/// A request whose route is known.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) params: Vec<String>,
    /// What stood in front of the path, as in `/test`.
    pub(crate) stage: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// When an answer must be there.
    pub(crate) deadline: Instant,
}

impl Gateway {
    /// Answers a request.
    pub(crate) async fn respond(&self, request: Request<Incoming>, from: IpAddr) -> Response<Full<Bytes>> {
        let mut route = "none";
        let answered = self.answer(request, from, &mut route).await;
        let answer = answered.unwrap_or_else(Answer::from);
        self.status.count_request(route, answer.status.as_u16());
        finish(answer)
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        from: IpAddr,
        counted_as: &mut &'static str,
    ) -> error::Result<Answer> {
        let deadline = Instant::now() + self.limits.request_time;
        let (head, body) = request.into_parts();
        let api = route::api(head.uri.path());
        let admitted = async {
            self.hosts.check(&head.uri, &head.headers, api)?;
            self.auth.check(&head.headers, from, api).await?;
            limits::plain(&head.headers, api)?;
            route::find(head.method.as_str(), head.uri.path())
                .map_err(|missed| miss(&head.method, &head.uri, missed, api))
        };
        let found = match admitted.await {
            Ok(found) => found,
            Err(failure) => {
                limits::drain(body).await;
                return Err(failure);
            }
        };
        *counted_as = found.route.path;
        let body = limits::body(body, self.limits.body_bytes, deadline, api).await?;
        let call = Call {
            params: found.params,
            stage: found.stage,
            query: query(head.uri.query().unwrap_or_default()),
            headers: head.headers,
            body,
            deadline,
        };
        match tokio::time::timeout_at(deadline, self.act(found.route.action, call)).await {
            Ok(answered) => answered,
            Err(_) => {
                let message = "no answer in time (request.timeout.ms of the gateway); what was to be written may be written, or \
                               be written still";
                Err(Failure::of(api, StatusCode::GATEWAY_TIMEOUT, message))
            }
        }
    }

    async fn act(&self, action: Action, call: Call) -> error::Result<Answer> {
        match action {
            Action::Routes => Ok(Answer::kafka(&serde_json::json!({ "routes": route::names() }))),
            Action::Produce => self.kafka.produce(call).await,
            Action::Topics => self.kafka.topics().await,
            Action::Topic => self.kafka.topic(call).await,
            Action::Partitions => self.kafka.partitions(call).await,
            Action::Partition => self.kafka.partition(call).await,
            Action::PartitionOffsets => self.kafka.partition_offsets(call).await,
            Action::CreateConsumer => self.kafka.consumers.create(call).await,
            Action::DeleteConsumer => self.kafka.consumers.delete(call).await,
            Action::Subscribe => self.kafka.consumers.subscribe(call).await,
            Action::Subscription => self.kafka.consumers.subscription(call).await,
            Action::Unsubscribe => self.kafka.consumers.unsubscribe(call).await,
            Action::Assignments => self.kafka.consumers.assignments(call).await,
            Action::Records => self.kafka.consumers.records(call).await,
            Action::Commit => self.kafka.consumers.commit(call).await,
            Action::Committed => self.kafka.consumers.committed(call).await,
            Action::Seek => self.kafka.consumers.seek(call).await,
            Action::SeekToBeginning => self.kafka.consumers.seek_to_beginning(call).await,
            Action::SeekToEnd => self.kafka.consumers.seek_to_end(call).await,
            Action::ListStreams => self.streams.list(call).await,
            Action::CreateStream => self.streams.create(call).await,
            Action::DescribeStream => self.streams.describe(call).await,
            Action::DeleteStream => self.streams.delete(call).await,
            Action::PutRecord => self.streams.put_record(call).await,
            Action::PutRecords => self.streams.put_records(call).await,
            Action::ShardIterator => self.streams.shard_iterator(call).await,
            Action::GetRecords => self.streams.get_records(call).await,
        }
    }
}

/// What is told to who missed the routes.
fn miss(method: &Method, uri: &hyper::Uri, missed: Missed, api: Api) -> Failure {
    // A path may be as long as a head; nobody needs to read all of it again.
    let path: String = uri.path().chars().take(200).collect();
    match missed {
        Missed::NotText => Failure::of(api, StatusCode::BAD_REQUEST, "the path is not UTF-8 once decoded"),
        Missed::Method(verbs) => {
            let mut verbs = verbs;
            verbs.dedup();
            let verbs = verbs.join(", ");
            let message = format!("{method} is no verb of {path}; it takes {verbs}");
            Failure::of(api, StatusCode::METHOD_NOT_ALLOWED, message)
                .with("routes", route::names())
                .header(header::ALLOW, &verbs)
        }
        Missed::Path(nearest) => {
            let hint = nearest.map_or_else(String::new, |route| format!("; did you mean {route}?"));
            let message = format!(
                "there is no route {method} {path}{hint} (an API gateway says Missing Authentication Token here)"
            );
            Failure::of(api, StatusCode::NOT_FOUND, message).with("routes", route::names())
        }
    }
}

/// The parameters of a query; of two with one name the last counts.
fn query(text: &str) -> BTreeMap<String, String> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned()
    };
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

/// Headers of every answer: it is no page, nobody keeps it, nobody guesses what it is.
const EVERY_ANSWER: [(HeaderName, HeaderValue); 4] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];

fn finish(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    for (name, value) in EVERY_ANSWER {
        headers.insert(name, value);
    }
    if answer.status != StatusCode::NO_CONTENT {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    }
    for (name, value) in answer.headers {
        headers.insert(name, value);
    }
    response
}
