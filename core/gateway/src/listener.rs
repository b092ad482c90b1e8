//! Connections: how many, how long they may take to say what they want, and their end.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::Gateway;
use crate::error::{Api, Failure};

/// The first byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// How long the sentence to a connection that is refused may take.
const REFUSAL_TIME: Duration = Duration::from_secs(1);
/// Pause after the system could not take a connection in: too many open files pass.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How many refusals are on their way at a time; more connections are closed without a word.
const REFUSALS_MAX: usize = 32;

/// Takes connections in until `stop`; then no more, and what was accepted is answered.
pub(crate) async fn serve(listener: TcpListener, gateway: Arc<Gateway>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(gateway.limits.connections));
    let mut connections = JoinSet::new();
    let mut refusals = JoinSet::new();
    loop {
        let (stream, from) = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            Some(_) = refusals.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(error = %error, "the gateway could not take a connection in");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        // Answers are small, and each is written at once.
        let _ = stream.set_nodelay(true);
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                let (gateway, stop) = (Arc::clone(&gateway), stop.clone());
                connections.spawn(async move {
                    connection(stream, from, gateway, stop).await;
                    drop(place);
                });
            }
            Err(_) if refusals.len() < REFUSALS_MAX => {
                let message =
                    "too many connections (connections.max of the gateway); close some, or use one for many requests";
                let text = raw_answer("503 Service Unavailable", message, "retry-after: 1\r\n");
                refusals.spawn(async move { refuse(stream, &text).await });
            }
            Err(_) => drop(stream),
        }
    }
    drop(listener);
    refusals.abort_all();
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: TcpStream, from: SocketAddr, gateway: Arc<Gateway>, stop: CancellationToken) {
    let mut first = [0];
    let peeked = tokio::select! {
        peeked = tokio::time::timeout(gateway.limits.header_time, stream.peek(&mut first)) => peeked,
        () = stop.cancelled() => return,
    };
    match peeked {
        Ok(Ok(1)) if first[0] == TLS_HANDSHAKE => {
            warn!(%from, "a caller speaks https to the gateway, which speaks http: its URL must begin with http://");
            let message = "this listener speaks http, not https; write http:// in the URL";
            return refuse(stream, &raw_answer("400 Bad Request", message, "")).await;
        }
        Ok(Ok(1)) => {}
        // Closed, or nothing said in time.
        _ => return,
    }
    let limits = gateway.limits;
    let service = service_fn(move |request| {
        let gateway = Arc::clone(&gateway);
        async move { Ok::<_, std::convert::Infallible>(gateway.respond(request, from.ip()).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_header_size(limits.header_bytes)
        .max_headers(200)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = pin!(serving);
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = serving.as_mut() => {
                if let Err(error) = ended {
                    debug!(%from, error = %error, "a connection to the gateway ended");
                }
                return;
            }
            // The request that is being answered is the last one.
            () = stop.cancelled(), if !stopping => {
                serving.as_mut().graceful_shutdown();
                stopping = true;
            }
        }
    }
}

/// Writes a sentence and closes.
async fn refuse(mut stream: TcpStream, text: &str) {
    let writing = async {
        let _ = stream.write_all(text.as_bytes()).await;
        let _ = stream.shutdown().await;
        // What the caller has sent meanwhile is taken in: closing on it would break the connection before the sentence is read.
        let mut rest = [0; 1024];
        while let Ok(1..) = tokio::io::AsyncReadExt::read(&mut stream, &mut rest).await {}
    };
    let _ = tokio::time::timeout(REFUSAL_TIME, writing).await;
}

/// An answer for who is not served at all.
fn raw_answer(status: &str, message: &str, headers: &str) -> String {
    let code = status.get(..3).and_then(|code| code.parse().ok()).unwrap_or(hyper::StatusCode::BAD_REQUEST.as_u16());
    let status_code = hyper::StatusCode::from_u16(code).unwrap_or(hyper::StatusCode::BAD_REQUEST);
    let body = crate::answer::Answer::from(Failure::of(Api::Kafka, status_code, message)).body;
    let body = String::from_utf8_lossy(&body).into_owned();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{headers}connection: close\r\n\r\n{body}",
        body.len()
    )
}
