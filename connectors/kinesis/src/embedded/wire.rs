//! Requests, answers and errors, as the JSON 1.1 protocol of AWS writes them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::de::{self, DeserializeOwned, Deserializer};
use serde_json::{Value, json};

use super::cbor;
use super::events::EventBody;

/// One call, whatever carried it here.
#[derive(Debug)]
pub(super) struct Request {
    /// `X-Amz-Target`.
    pub(super) target: Option<String>,
    /// `Content-Type`.
    pub(super) content_type: Option<String>,
    /// `Authorization`: read for the region, never checked.
    pub(super) authorization: Option<String>,
    pub(super) body: Bytes,
}

/// What becomes of a call.
#[derive(Debug)]
pub(super) enum Outcome {
    Answer(Response),
    /// The connection breaks, and nobody hears an answer.
    Cut,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    /// The kind of error, for `x-amzn-ErrorType`.
    pub(super) error: Option<&'static str>,
    pub(super) body: Body,
}

/// What an answer carries.
#[derive(Debug)]
pub(super) enum Body {
    Full(Bytes),
    Events(EventBody),
}

/// What an action answers.
#[derive(Debug)]
pub(super) enum Reply {
    /// Success without a word.
    Empty,
    Json(Value),
    /// JSON that is written already, for answers that are large.
    Written(Vec<u8>),
    Events(EventBody),
}

/// How bodies are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    /// What the AWS SDKs for Java speak to Kinesis unless told otherwise.
    Cbor,
}

impl Format {
    /// JSON where nothing else is asked for.
    pub(super) fn of(content_type: Option<&str>) -> Self {
        if content_type.is_some_and(|text| text.starts_with("application/x-amz-cbor")) {
            Self::Cbor
        } else {
            Self::Json
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/x-amz-json-1.1",
            Self::Cbor => "application/x-amz-cbor-1.1",
        }
    }

    /// Reads a request's body. No body is an empty object.
    pub(super) fn read<T: DeserializeOwned>(self, body: &[u8]) -> Result<T, ApiError> {
        let read = match self {
            Self::Json if body.is_empty() => serde_json::from_slice(b"{}"),
            Self::Json => serde_json::from_slice(body),
            Self::Cbor => cbor::decode(body).and_then(serde_json::from_value),
        };
        read.map_err(|error| ApiError::new("SerializationException", error.to_string()))
    }

    /// Writes an answer's body.
    pub(super) fn write(self, value: &Value) -> Vec<u8> {
        match self {
            Self::Json => value.to_string().into_bytes(),
            Self::Cbor => cbor::encode(value),
        }
    }
}

impl Response {
    /// The answer of an action that went well.
    pub(super) fn of(reply: Reply, format: Format) -> Self {
        let content_type = match &reply {
            Reply::Events(_) => "application/vnd.amazon.eventstream",
            _ => format.content_type(),
        };
        let body = match reply {
            Reply::Empty => Body::Full(Bytes::new()),
            Reply::Json(value) => Body::Full(format.write(&value).into()),
            Reply::Written(json) if format == Format::Json => Body::Full(json.into()),
            Reply::Written(json) => {
                Body::Full(serde_json::from_slice(&json).map(|value| format.write(&value)).unwrap_or_default().into())
            }
            Reply::Events(events) => Body::Events(events),
        };
        Self { status: 200, content_type, error: None, body }
    }

    /// The answer of an action that failed.
    pub(super) fn of_error(error: &ApiError, format: Format) -> Self {
        Self {
            status: error.status,
            content_type: format.content_type(),
            error: Some(error.code),
            body: Body::Full(format.write(&error.to_json()).into()),
        }
    }
}

/// An error of the API: Kinesis's own names, with messages for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) code: &'static str,
    pub(super) status: u16,
    pub(super) message: String,
}

impl ApiError {
    /// An error of the caller's.
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, status: 400, message: message.into() }
    }

    /// A parameter that can't be right, whatever the stream.
    pub(super) fn validation(message: impl Into<String>) -> Self {
        Self::new("ValidationException", message)
    }

    /// A parameter that does not fit the stream.
    pub(super) fn argument(message: impl Into<String>) -> Self {
        Self::new("InvalidArgumentException", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new("ResourceNotFoundException", message)
    }

    pub(super) fn in_use(message: impl Into<String>) -> Self {
        Self::new("ResourceInUseException", message)
    }

    pub(super) fn throttled(message: impl Into<String>) -> Self {
        Self::new("ProvisionedThroughputExceededException", message)
    }

    /// An error of ours: the same call may succeed later.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self { code: "InternalFailure", status: 500, message: message.into() }
    }

    pub(super) fn to_json(&self) -> Value {
        json!({"__type": self.code, "message": self.message})
    }
}

impl From<ottla_api::Error> for ApiError {
    fn from(error: ottla_api::Error) -> Self {
        Self::internal(error.to_string())
    }
}

/// Reads base64, as blobs are written in JSON.
pub(super) fn blob<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    struct Visitor;

    impl de::Visitor<'_> for Visitor {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("base64 text")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            BASE64_STANDARD.decode(text).map_err(|error| E::custom(format!("Data is not base64: {error}")))
        }
    }

    deserializer.deserialize_str(Visitor)
}

/// Milliseconds as the protocol's seconds.
pub(super) fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// The protocol's seconds as milliseconds. Before 1970 is 1970.
pub(super) fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}
