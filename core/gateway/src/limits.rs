//! Limits of one request: its body's size and time, and whose name it was sent to.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_ENCODING, HOST, ORIGIN};
use hyper::{HeaderMap, StatusCode, Uri};
use tokio::time::{Instant, timeout_at};

use crate::error::{Api, Failure, Result};

/// How long the rest of a body that nobody wants is taken in, so that the answer is read instead of a broken connection.
const DRAIN_TIME: Duration = Duration::from_secs(1);
/// How much of it is taken in.
const DRAIN_BYTES: usize = 16 << 20;

/// Takes in a body.
pub(crate) async fn body(mut body: Incoming, max: usize, deadline: Instant, api: Api) -> Result<Bytes> {
    let too_large = |api| {
        let message = format!(
            "the body is larger than {max} bytes (body.bytes.max of the gateway); send fewer records at a time"
        );
        Failure::of(api, StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    let announced = body.size_hint().lower();
    if announced > max as u64 {
        drain(body).await;
        return Err(too_large(api));
    }
    let mut taken = BytesMut::new();
    loop {
        let frame = timeout_at(deadline, body.frame()).await.map_err(|_| {
            let message = "the body did not arrive in time (request.timeout.ms of the gateway)";
            Failure::of(api, StatusCode::REQUEST_TIMEOUT, message)
        })?;
        match frame {
            None => return Ok(taken.freeze()),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                if taken.len() + data.len() > max {
                    drain(body).await;
                    return Err(too_large(api));
                }
                taken.extend_from_slice(&data);
            }
            // The caller has gone, or its chunks are none. Nobody may read this.
            Some(Err(_)) => return Err(Failure::of(api, StatusCode::BAD_REQUEST, "the body ended before its end")),
        }
    }
}

/// Takes in, for a moment, a body that nobody wants.
pub(crate) async fn drain(mut body: Incoming) {
    let mut left = DRAIN_BYTES;
    let taking = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_TIME, taking).await;
}

/// Refuses bodies that are packed: what they unpack to has no limit.
pub(crate) fn plain(headers: &HeaderMap, api: Api) -> Result<()> {
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            let message = "Content-Encoding is not taken here; send the JSON as it is";
            Err(Failure::of(api, StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
        }
        _ => Ok(()),
    }
}

/// Names that a listener goes by.
#[derive(Debug)]
pub(crate) struct Hosts {
    names: Vec<String>,
    /// Whether names are checked at all.
    checked: bool,
}

impl Hosts {
    pub(crate) fn new(listener: SocketAddr, configured: Option<&[String]>) -> Self {
        let mut names: Vec<String> = configured.unwrap_or_default().iter().map(|name| name.to_lowercase()).collect();
        names.push("localhost".to_owned());
        names.push(listener.ip().to_string());
        Self { names, checked: configured.is_some() || listener.ip().is_loopback() }
    }

    /// A web page may have its own name lead to this machine (DNS rebinding), or post from another origin. Browsers say so
    /// in `Host` and `Origin`, so both must be ours.
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap, api: Api) -> Result<()> {
        if !self.checked {
            return Ok(());
        }
        let header = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let host = uri.authority().map(ToString::to_string).or_else(|| header(HOST));
        let origin = header(ORIGIN).map(|origin| match origin.split_once("://") {
            Some((_, rest)) => rest.to_owned(),
            None => origin,
        });
        for (what, found) in [("Host", host), ("Origin", origin)] {
            if let Some(found) = found.filter(|found| !self.is_ours(found)) {
                // A header is a stranger's text: only what a name may consist of is repeated.
                let shown: String =
                    found.chars().filter(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(*c)).take(80).collect();
                let message = format!(
                    "{what} '{shown}' is no name of this gateway; call it by 127.0.0.1 or localhost, or add the name to hosts in \
                     [gateway]"
                );
                return Err(Failure::of(api, StatusCode::FORBIDDEN, message));
            }
        }
        Ok(())
    }

    fn is_ours(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => host.split(':').next().unwrap_or_default(),
        };
        name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            || self.names.iter().any(|ours| ours.eq_ignore_ascii_case(name.trim_end_matches('.')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(hosts: &Hosts, pairs: &[(&'static str, &'static str)]) -> u16 {
        let headers = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        hosts
            .check(&Uri::from_static("/topics"), &headers, Api::Kafka)
            .map_or_else(|failure| failure.status.as_u16(), |()| 200)
    }

    #[test]
    fn only_our_own_names_are_answered_to_on_loopback() {
        let names = ["Gateway.internal".to_owned()];
        let hosts = Hosts::new("127.0.0.1:8082".parse().unwrap(), Some(&names));
        for ours in ["localhost:8082", "127.0.0.1:8082", "127.9.9.9", "[::1]:8082", "LOCALHOST", "gateway.internal:1"] {
            assert_eq!(status(&hosts, &[("host", ours)]), 200, "{ours}");
        }
        for strange in ["evil.example:8082", "127.0.0.1.evil.example", "", "10.0.0.1:8082"] {
            assert_eq!(status(&hosts, &[("host", strange)]), 403, "{strange}");
        }
        assert_eq!(status(&hosts, &[("host", "localhost"), ("origin", "http://localhost:3000")]), 200);
        for origin in ["https://evil.example", "null"] {
            assert_eq!(status(&hosts, &[("host", "localhost"), ("origin", origin)]), 403, "{origin}");
        }
    }

    #[test]
    fn a_listener_that_asks_who_calls_goes_by_any_name_unless_names_are_given() {
        let hosts = Hosts::new("0.0.0.0:8082".parse().unwrap(), None);
        assert_eq!(status(&hosts, &[("host", "gateway.example")]), 200);
        let names = ["gateway.example".to_owned()];
        let hosts = Hosts::new("0.0.0.0:8082".parse().unwrap(), Some(&names));
        assert_eq!(status(&hosts, &[("host", "gateway.example")]), 200);
        assert_eq!(status(&hosts, &[("host", "evil.example")]), 403);
    }
}
