//! An answer, before it is HTTP.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::Value;

/// Media type of what REST Proxy v2 answers.
pub(crate) const KAFKA_V2: &str = "application/vnd.kafka.v2+json";
/// Media type of what Kinesis answers through an API gateway.
pub(crate) const JSON: &str = "application/json";

/// What is answered: always JSON, or nothing.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
}

impl Answer {
    /// 200 with this text.
    pub(crate) fn ok(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status: StatusCode::OK, content_type, headers: Vec::new(), body: body.into() }
    }

    /// 200 as REST Proxy answers.
    pub(crate) fn kafka(body: &Value) -> Self {
        Self::ok(KAFKA_V2, body.to_string())
    }

    /// 200 as Kinesis answers.
    pub(crate) fn kinesis(body: &Value) -> Self {
        Self::ok(JSON, body.to_string())
    }

    /// 204.
    pub(crate) fn nothing() -> Self {
        Self { status: StatusCode::NO_CONTENT, ..Self::ok(KAFKA_V2, Bytes::new()) }
    }
}
