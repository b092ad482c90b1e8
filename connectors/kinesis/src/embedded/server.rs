//! The way in for strangers: the same calls over HTTP/1.1, for boto3, the KCL, scripts and browsers of one machine.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body as HttpBody;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use futures::StreamExt as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::EmbeddedKinesis;
use super::wire::{Body, Outcome, Request};

/// The largest body: 10 MiB of records in base64, and what is around them.
const BODY_MAX: usize = 16 << 20;

impl EmbeddedKinesis {
    /// Serves the API on `listener` until `stop`, then ends open subscriptions and waits for calls that are being answered.
    ///
    /// Plain HTTP, and nobody is asked who they are: callers of this function offer loopback listeners only.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let router = Router::new().fallback(answer).with_state(Service { kinesis: self, stop: stop.clone() });
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await {
            tracing::warn!(%error, "the listener of the embedded Kinesis ended");
        }
    }
}

#[derive(Clone)]
struct Service {
    kinesis: Arc<EmbeddedKinesis>,
    stop: CancellationToken,
}

async fn answer(State(service): State<Service>, request: HttpRequest) -> HttpResponse {
    let (parts, body) = request.into_parts();
    // A web page may have its own name lead to this machine (DNS rebinding); its browser says so in these headers.
    for (name, found) in [("Host", text(&parts.headers, "host")), ("Origin", text(&parts.headers, "origin"))] {
        if found.is_some_and(|found| !is_local(&found)) {
            let help = format!("{name} is no name of this machine; call this Kinesis by 127.0.0.1 or localhost\n");
            return (StatusCode::FORBIDDEN, help).into_response();
        }
    }
    if parts.method != Method::POST {
        let help =
            "this is a Kinesis: POST / with the header X-Amz-Target: Kinesis_20131202.<Action> and a JSON body\n";
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "POST")], help).into_response();
    }
    let Ok(body) = axum::body::to_bytes(body, BODY_MAX).await else {
        return (StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 16 MiB, or was cut short\n").into_response();
    };
    let text = |name: &str| text(&parts.headers, name);
    let request = Request {
        target: text("x-amz-target"),
        content_type: text("content-type"),
        authorization: text("authorization"),
        body,
    };
    match service.kinesis.handle(request).await {
        Outcome::Cut => {
            // A body that breaks is how a handler breaks its connection.
            let broken =
                futures::stream::once(async { Err::<bytes::Bytes, _>(std::io::Error::other("cut by a fault")) });
            HttpBody::from_stream(broken).into_response()
        }
        Outcome::Answer(answer) => {
            let body = match answer.body {
                Body::Full(bytes) => HttpBody::from(bytes),
                Body::Events(events) => {
                    HttpBody::from_stream(events.into_stream().take_until(service.stop.cancelled_owned()))
                }
            };
            let mut response = HttpResponse::new(body);
            *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(answer.content_type));
            if let Ok(id) = uuid::Uuid::new_v4().to_string().parse() {
                headers.insert("x-amzn-requestid", id);
            }
            if let Some(error) = answer.error {
                headers.insert("x-amzn-errortype", header::HeaderValue::from_static(error));
            }
            response
        }
    }
}

/// True for loopback addresses and names of this machine, as `Host` and `Origin` have them.
fn is_local(authority: &str) -> bool {
    let host = authority.split_once("://").map_or(authority, |(_, host)| host);
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or_default(),
    };
    name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        || name.trim_end_matches('.').eq_ignore_ascii_case("localhost")
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_answered_to() {
        for local in
            ["localhost:4567", "LOCALHOST.", "127.0.0.1:4567", "127.9.9.9", "[::1]:4567", "http://localhost:3000"]
        {
            assert!(is_local(local), "{local}");
        }
        for strange in
            ["", "null", "evil.example:4567", "127.0.0.1.evil.example", "10.0.0.1:4567", "https://evil.example"]
        {
            assert!(!is_local(strange), "{strange}");
        }
    }
}
