//! Media types of REST Proxy v2, and how keys and values are written in them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::{HeaderMap, StatusCode};
use ottla_api::data::json;

use crate::error::{Api, Failure, Result, code};

/// How keys and values are written in a request, or an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// As JSON.
    Json,
    /// As base64 text.
    Binary,
}

const JSON_V2: &str = "application/vnd.kafka.json.v2+json";
const BINARY_V2: &str = "application/vnd.kafka.binary.v2+json";

impl Format {
    /// Its name in a consumer's configuration.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "json" => Some(Self::Json),
            "binary" => Some(Self::Binary),
            _ => None,
        }
    }

    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Json => JSON_V2,
            Self::Binary => BINARY_V2,
        }
    }

    /// What a body to produce is written in.
    pub(crate) fn of_body(headers: &HeaderMap) -> Result<Self> {
        let sent = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let plain = sent.as_deref().map(|text| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
        match plain.as_deref() {
            Some(JSON_V2) => Ok(Self::Json),
            Some(BINARY_V2) => Ok(Self::Binary),
            found => {
                let found = found.map_or_else(|| "there is none".to_owned(), |found| format!("found {}", shown(found)));
                let message = format!(
                    "Content-Type must be {JSON_V2} (values as JSON) or {BINARY_V2} (values in base64), {found}"
                );
                Err(Failure::of(Api::Kafka, StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
            }
        }
    }

    /// Checks that records in this format may be answered.
    pub(crate) fn accepted_by(self, headers: &HeaderMap) -> Result<()> {
        let Some(accept) = headers.get(ACCEPT) else { return Ok(()) };
        let accept = String::from_utf8_lossy(accept.as_bytes()).to_ascii_lowercase();
        let mut types = accept.split(',').map(|one| one.split(';').next().unwrap_or_default().trim());
        if types.any(|one| one == "*/*" || one == "application/*" || one == self.media_type()) {
            return Ok(());
        }
        let other =
            [Self::Json, Self::Binary].into_iter().find(|other| *other != self && accept.contains(other.media_type()));
        let message = match other {
            Some(other) => format!(
                "this consumer was made with format '{}', and {} is asked for; ask for {}",
                self.name(),
                other.media_type(),
                self.media_type()
            ),
            None => format!("Accept must be {}, found {}", self.media_type(), shown(&accept)),
        };
        Err(Failure::kafka(if other.is_some() { code::FORMAT_MISMATCH } else { 406 }, message))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Binary => "binary",
        }
    }

    /// Reads a key or a value, JSON text in either format, as bytes of a record; nothing for null.
    pub(crate) fn read(self, text: &Bytes) -> std::result::Result<Option<Bytes>, String> {
        let text = json::compact(text).map_err(|error| error.to_string())?;
        match (self, text.as_ref()) {
            (_, b"null") => Ok(None),
            (Self::Json, _) => Ok(Some(text)),
            (Self::Binary, _) => {
                let encoded: Option<String> = crate::body::text(&text);
                let bytes = encoded.and_then(|encoded| BASE64_STANDARD.decode(encoded).ok());
                bytes.map(|bytes| Some(bytes.into())).ok_or_else(|| "must be text in base64 or null".to_owned())
            }
        }
    }

    /// Appends a record's key or value to an answer.
    ///
    /// JSON is copied as it is. Text that is none, such as a key that a connector has written plainly, becomes a JSON string.
    pub(crate) fn write(self, bytes: Option<&Bytes>, out: &mut Vec<u8>) -> std::result::Result<(), &'static str> {
        let Some(bytes) = bytes else {
            out.extend_from_slice(b"null");
            return Ok(());
        };
        if self == Self::Binary {
            out.push(b'"');
            out.extend_from_slice(BASE64_STANDARD.encode(bytes).as_bytes());
            out.push(b'"');
            return Ok(());
        }
        if let Ok(text) = json::compact(bytes) {
            out.extend_from_slice(&text);
            return Ok(());
        }
        let text = str::from_utf8(bytes).map_err(|_| "is neither JSON nor text")?;
        json::write_text(text, out);
        Ok(())
    }
}

/// A header as it may be repeated: it is a stranger's text.
fn shown(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
    }

    #[test]
    fn bodies_say_what_they_are() {
        assert_eq!(Format::of_body(&headers("content-type", JSON_V2)).unwrap(), Format::Json);
        let with_charset = "Application/vnd.kafka.binary.v2+json; charset=utf-8";
        assert_eq!(Format::of_body(&headers("content-type", with_charset)).unwrap(), Format::Binary);
        for wrong in ["application/json", "application/vnd.kafka.avro.v2+json", "text/plain"] {
            assert_eq!(Format::of_body(&headers("content-type", wrong)).unwrap_err().status, 415, "{wrong}");
        }
    }

    #[test]
    fn answers_are_in_the_format_that_was_asked_for() {
        for fine in ["*/*", JSON_V2, "text/html, application/vnd.kafka.json.v2+json;q=0.5"] {
            assert!(Format::Json.accepted_by(&headers("accept", fine)).is_ok(), "{fine}");
        }
        for wrong in ["application/vnd.kafka.v2+json", BINARY_V2, "application/json"] {
            assert_eq!(Format::Json.accepted_by(&headers("accept", wrong)).unwrap_err().status, 406, "{wrong}");
        }
    }

    #[test]
    fn what_was_written_is_read_back() {
        for (format, text) in [
            (Format::Json, r#"{"b":1.50,"a":"\u0000é"}"#),
            (Format::Json, "12"),
            (Format::Json, "null"),
            (Format::Binary, r#""AP/+""#),
            (Format::Binary, "null"),
        ] {
            let bytes = format.read(&Bytes::from_static(text.as_bytes())).unwrap();
            let mut out = Vec::new();
            format.write(bytes.as_ref(), &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
        let mut out = Vec::new();
        Format::Json.write(Some(&Bytes::from_static(b"plain \"key\"")), &mut out).unwrap();
        assert_eq!(out, br#""plain \"key\"""#);
        assert!(Format::Json.write(Some(&Bytes::from_static(b"\xff")), &mut out).is_err());
        assert!(Format::Binary.read(&Bytes::from_static(b"1")).is_err());
    }
}
