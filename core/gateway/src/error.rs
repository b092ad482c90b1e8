//! What is answered when something is wrong: the two shapes of errors, one for each of the interfaces that are served.
//!
//! Kafka's REST Proxy answers `{"error_code": .., "message": ..}`; its codes begin with the status. Kinesis answers
//! `{"__type": .., "message": ..}`. Either may carry `expected` (a body that would have been right) or `routes`.

use std::borrow::Cow;

use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use ottla_api::{Error, ErrorKind};
use serde_json::{Value, json};

use crate::answer::Answer;

/// Which interface is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    /// REST Proxy v2.
    Kafka,
    /// An API gateway in front of Kinesis.
    Kinesis,
}

/// Codes of REST Proxy v2 that are used here.
pub(crate) mod code {
    pub(crate) const UNAUTHORIZED: u32 = 40101;
    pub(crate) const TOPIC_NOT_FOUND: u32 = 40401;
    pub(crate) const PARTITION_NOT_FOUND: u32 = 40402;
    pub(crate) const CONSUMER_NOT_FOUND: u32 = 40403;
    pub(crate) const FORMAT_MISMATCH: u32 = 40601;
    pub(crate) const CONSUMER_EXISTS: u32 = 40902;
    pub(crate) const ILLEGAL_STATE: u32 = 40903;
    pub(crate) const CONVERSION: u32 = 42203;
    pub(crate) const CONSUMER_CONFIG: u32 = 42204;
    pub(crate) const KAFKA: u32 = 50002;
    pub(crate) const KAFKA_RETRIABLE: u32 = 50003;
}

/// Something that is answered instead of what was asked for.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    code: Code,
    message: String,
    more: Vec<(String, Value)>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// Shorthand.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

#[derive(Debug)]
enum Code {
    Kafka(u32),
    Kinesis(Cow<'static, str>),
}

impl Failure {
    /// An error of REST Proxy; the status is what its code begins with.
    pub(crate) fn kafka(code: u32, message: impl Into<String>) -> Self {
        let status = if code < 1000 { code } else { code / 100 };
        let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
        Self::new(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Code::Kafka(code), message.into())
    }

    /// An error as Kinesis has it.
    pub(crate) fn kinesis(status: StatusCode, kind: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(status, Code::Kinesis(kind.into()), message.into())
    }

    /// An error that has nothing to do with either, in the shape of the interface that is spoken.
    pub(crate) fn of(api: Api, status: StatusCode, message: impl Into<String>) -> Self {
        match api {
            Api::Kafka => Self::kafka(status.as_u16().into(), message),
            Api::Kinesis => Self::kinesis(status, kinesis_type(status), message),
        }
    }

    fn new(status: StatusCode, code: Code, message: String) -> Self {
        Self { status, code, message, more: Vec::new(), headers: Vec::new() }
    }

    /// Shows a body that would have been right.
    pub(crate) fn expecting(self, body: Value) -> Self {
        self.with("expected", body)
    }

    /// Adds a field.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.push((name.to_owned(), value.into()));
        self
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// What the broker said, as REST Proxy answers it.
    pub(crate) fn broker(error: &Error) -> Self {
        let message = error.to_string();
        match error.kind() {
            ErrorKind::Unreachable | ErrorKind::Retriable | ErrorKind::RefreshAuth => {
                Self { status: StatusCode::SERVICE_UNAVAILABLE, ..Self::kafka(code::KAFKA_RETRIABLE, message) }
            }
            ErrorKind::Config | ErrorKind::PoisonRecord => Self::kafka(422, message),
            _ => Self::kafka(code::KAFKA, message),
        }
    }
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        let (mut body, content_type) = match failure.code {
            Code::Kafka(code) => {
                (json!({"error_code": code, "message": failure.message}), "application/vnd.kafka.v2+json")
            }
            Code::Kinesis(kind) => (json!({"__type": kind, "message": failure.message}), "application/json"),
        };
        if let Value::Object(fields) = &mut body {
            fields.extend(failure.more);
        }
        Self { status: failure.status, content_type, headers: failure.headers, body: body.to_string().into() }
    }
}

/// How the API gateway, or Kinesis behind it, calls such an error.
fn kinesis_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "UnauthorizedException",
        403 => "ForbiddenException",
        404 => "UnknownOperationException",
        405 => "MethodNotAllowedException",
        408 | 504 => "RequestTimeoutException",
        413 => "RequestTooLargeException",
        415 => "UnsupportedMediaTypeException",
        429 => "TooManyRequestsException",
        500 => "InternalFailure",
        502 | 503 => "ServiceUnavailableException",
        _ => "ValidationException",
    }
}
