//! The two requests that carry data, made without the SDK's machinery, which costs several times what the request itself does.
//!
//! A request is made and signed here (Signature Version 4, with the SHA-256 of the body) and goes through the connections that
//! the SDK's client uses too. Where it goes and for which region and service it is signed is the SDK's word, taken from a
//! request that it presigns: addressing styles, ARNs and the environment's settings have their effect in one place.
//!
//! Only an answer that leaves nothing open counts: stored, or refused because the object exists. After any other the caller asks
//! through the SDK, which retries, corrects the clock, and knows what to say of a failure. All requests may be repeated, so
//! that nothing is lost by one too many.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::http::{HttpConnector, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use jiff::Timestamp;
use jiff::tz::Offset;
use ring::{digest, hmac};

use crate::client::{Body, Frames};

/// So many requests in a row that only the SDK got through end the attempts: there is something about this store that is not
/// known here.
const FAILURES_MAX: u32 = 3;
/// Credentials that end this soon are asked for again.
const EXPIRY_MARGIN: Duration = Duration::from_secs(5 * 60);
/// So are those this old: a file that they came from may hold others by now. The SDK keeps them as long.
const CREDENTIALS_AGE_MAX: Duration = Duration::from_secs(15 * 60);

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It did what it says, and this is the entity tag.
    Stored(Option<String>),
    /// It was refused because the object exists.
    Exists,
    /// The store would not have it as it was made here: ask through the SDK.
    Refused,
    /// Something went wrong on the way or in the store: ask through the SDK.
    Failed,
}

/// Where a bucket is, and how requests to it are signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// Scheme and authority.
    origin: String,
    /// The authority, as the `Host` header has it.
    host: String,
    /// What stands before a key in a path.
    prefix: String,
    region: String,
    service: String,
}

impl Address {
    /// Reads it from a presigned request for the key `key`. None for an address that is signed for in another way.
    pub(super) fn of_presigned(uri: &str, key: &str) -> Option<Self> {
        let (address, query) = uri.split_once('?')?;
        let (scheme, rest) = address.split_once("://")?;
        let (host, path) = rest.split_at(rest.find('/')?);
        let parameter = |name: &str| query.split('&').find_map(|one| one.strip_prefix(name)?.strip_prefix('='));
        if parameter("X-Amz-Algorithm") != Some("AWS4-HMAC-SHA256") || parameter("X-Amz-S3session-Token").is_some() {
            return None;
        }
        let mut scope = parameter("X-Amz-Credential")?.rsplit("%2F");
        let (_, service, region) = (scope.next()?, scope.next()?, scope.next()?);
        Some(Self {
            origin: format!("{scheme}://{host}"),
            host: host.to_owned(),
            prefix: path.strip_suffix(key)?.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
        })
    }
}

/// Makes and signs requests for one bucket.
pub(super) struct Direct {
    address: Address,
    connector: SharedHttpConnector,
    credentials: SharedCredentialsProvider,
    /// How long a request may take.
    timeout: Duration,
    signer: Mutex<Option<Arc<Signer>>>,
    failures: AtomicU32,
}

/// The part of a request that is not its body.
pub(super) struct Head<'a> {
    pub(super) key: &'a str,
    /// Number and upload of a part.
    pub(super) part: Option<(i32, &'a str)>,
    /// What is said of the object; names are in lower case.
    pub(super) headers: Vec<(&'static str, String)>,
}

impl Direct {
    pub(super) fn new(
        address: Address,
        connector: SharedHttpConnector,
        credentials: SharedCredentialsProvider,
        timeout: Duration,
    ) -> Self {
        Self { address, connector, credentials, timeout, signer: Mutex::default(), failures: AtomicU32::new(0) }
    }

    /// Puts an object or a part.
    pub(super) async fn put(&self, head: Head<'_>, body: &Body) -> Answer {
        if self.failures.load(Relaxed) >= FAILURES_MAX {
            return Answer::Failed;
        }
        let answer = match self.signer(Timestamp::now()).await {
            Some(signer) => self.send(self.request(&signer, Timestamp::now(), head, body)).await,
            // What is wrong with the credentials is for the SDK to say.
            None => Answer::Failed,
        };
        match answer {
            Answer::Stored(_) | Answer::Exists => self.failures.store(0, Relaxed),
            // The credentials may have been replaced before their time.
            Answer::Refused => *self.signer.lock().unwrap_or_else(PoisonError::into_inner) = None,
            Answer::Failed => {}
        }
        answer
    }

    /// The SDK got through with a request that was refused here.
    pub(super) fn was_at_fault(&self) {
        if self.failures.fetch_add(1, Relaxed) + 1 == FAILURES_MAX {
            tracing::info!(host = self.address.host, "requests to this store go the longer way from now on");
        }
    }

    async fn send(&self, request: Option<HttpRequest>) -> Answer {
        let Some(request) = request else { return Answer::Refused };
        match tokio::time::timeout(self.timeout, self.connector.call(request)).await {
            Ok(Ok(answer)) => match answer.status().as_u16() {
                200..=299 => Answer::Stored(answer.headers().get("etag").map(str::to_owned)),
                412 => Answer::Exists,
                // Too late, too many, or in conflict with another: as it may be with any request.
                408 | 409 | 429 | 500.. => Answer::Failed,
                status => {
                    tracing::debug!(status, host = self.address.host, "refused; asking once more through the SDK");
                    Answer::Refused
                }
            },
            _ => Answer::Failed,
        }
    }

    /// The signer of today with credentials that are still good.
    async fn signer(&self, now: Timestamp) -> Option<Arc<Signer>> {
        let day = Moment::of(now).day;
        let known = self.signer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(signer) = known.filter(|signer| signer.day == day && now < signer.good_until) {
            return Some(signer);
        }
        let credentials = self.credentials.provide_credentials().await.ok()?;
        let signer = Arc::new(Signer::new(&credentials, day, &self.address, now));
        *self.signer.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&signer));
        Some(signer)
    }

    /// The signed request. None where a header can't be sent.
    fn request(&self, signer: &Signer, now: Timestamp, head: Head<'_>, body: &Body) -> Option<HttpRequest> {
        let Address { origin, host, prefix, .. } = &self.address;
        let moment = Moment::of(now);
        let mut path = String::with_capacity(prefix.len() + head.key.len() + 16);
        path.push_str(prefix);
        encode(head.key, true, &mut path);
        let mut query = String::new();
        if let Some((number, upload)) = head.part {
            let _ = write!(query, "partNumber={number}&uploadId=");
            encode(upload, false, &mut query);
        }
        let mut headers = head.headers;
        headers.push(("content-type", "application/octet-stream".to_owned()));
        headers.push(("x-amz-content-sha256", hex(sha256(body).as_ref())));
        headers.push(("x-amz-date", moment.to_string()));
        if let Some(token) = &signer.token {
            headers.push(("x-amz-security-token", token.clone()));
        }
        headers.push(("host", host.clone()));
        headers.sort_unstable_by_key(|(name, _)| *name);
        // Other texts would have to be normalized before they are signed.
        let plain = |text: &str| text.bytes().all(|byte| (0x21..0x7f).contains(&byte));
        if !headers.iter().all(|(_, value)| plain(value)) {
            return None;
        }
        let authorization = signer.sign("PUT", &path, &query, &headers, &moment);

        let body = match body.pieces() {
            [one] => SdkBody::from(one.clone()),
            _ => SdkBody::from_body_1_x(Frames::new(body.clone())),
        };
        let mut request = HttpRequest::new(body);
        request.set_method("PUT").ok()?;
        let mark = if query.is_empty() { "" } else { "?" };
        request.set_uri(format!("{origin}{path}{mark}{query}")).ok()?;
        // The client adds host and length.
        for (name, value) in headers.into_iter().filter(|(name, _)| *name != "host") {
            request.headers_mut().try_insert(name, value).ok()?;
        }
        request.headers_mut().try_insert("authorization", authorization).ok()?;
        Some(request)
    }
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Direct").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Signs for one day with one set of credentials.
struct Signer {
    day: String,
    /// `<key id>/<day>/<region>/<service>/aws4_request`, and where the scope in it begins.
    credential: String,
    scope_from: usize,
    token: Option<String>,
    good_until: Timestamp,
    key: hmac::Key,
}

impl Signer {
    fn new(credentials: &Credentials, day: String, address: &Address, now: Timestamp) -> Self {
        let Address { region, service, .. } = address;
        let id = credentials.access_key_id();
        let secret = format!("AWS4{}", credentials.secret_access_key());
        let mut key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        for step in [&day, region, service, "aws4_request"] {
            key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, step.as_bytes()).as_ref());
        }
        let oldest = now.checked_add(CREDENTIALS_AGE_MAX).unwrap_or(Timestamp::MAX);
        let expiry = credentials.expiry().and_then(|expiry| Timestamp::try_from(expiry - EXPIRY_MARGIN).ok());
        Self {
            credential: format!("{id}/{day}/{region}/{service}/aws4_request"),
            scope_from: id.len() + 1,
            token: credentials.session_token().map(str::to_owned),
            good_until: expiry.map_or(oldest, |expiry| expiry.min(oldest)),
            key,
            day,
        }
    }

    /// The `Authorization` header for a request. The headers are sorted by name.
    fn sign(
        &self,
        method: &str,
        path: &str,
        query: &str,
        headers: &[(&'static str, String)],
        moment: &Moment,
    ) -> String {
        let mut names = String::with_capacity(256);
        let mut canonical = String::with_capacity(1024);
        let _ = write!(canonical, "{method}\n{path}\n{query}\n");
        let mut payload = "";
        for (name, value) in headers {
            let _ = writeln!(canonical, "{name}:{value}");
            if !names.is_empty() {
                names.push(';');
            }
            names.push_str(name);
            if *name == "x-amz-content-sha256" {
                payload = value;
            }
        }
        let _ = write!(canonical, "\n{names}\n{payload}");
        let digest = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        let scope = &self.credential[self.scope_from..];
        let signature = hmac::sign(&self.key, format!("AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}").as_bytes());
        format!(
            "AWS4-HMAC-SHA256 Credential={}, SignedHeaders={names}, Signature={}",
            self.credential,
            hex(signature.as_ref())
        )
    }
}

/// A moment in the form that signatures have it: `20261121T134512Z`.
struct Moment {
    day: String,
    time: String,
}

impl Moment {
    fn of(now: Timestamp) -> Self {
        let now = Offset::UTC.to_datetime(now);
        Self {
            day: format!("{:04}{:02}{:02}", now.year(), now.month(), now.day()),
            time: format!("{:02}{:02}{:02}", now.hour(), now.minute(), now.second()),
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}T{}Z", self.day, self.time)
    }
}

fn sha256(body: &Body) -> digest::Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    body.pieces().iter().for_each(|piece| context.update(piece));
    context.finish()
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// Percent-encodes as signatures want it: all but letters, digits, `-`, `.`, `_` and `~`, and in paths `/`.
fn encode(text: &str, path: bool, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            b'/' if path => out.push('/'),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> Address {
        Address {
            origin: "https://examplebucket.s3.amazonaws.com".to_owned(),
            host: "examplebucket.s3.amazonaws.com".to_owned(),
            prefix: "/".to_owned(),
            region: "us-east-1".to_owned(),
            service: "s3".to_owned(),
        }
    }

    /// The example "PUT Object" of the S3 reference, "Signature Calculations for the Authorization Header".
    #[test]
    fn signatures_are_those_of_the_s3_reference() {
        let credentials =
            Credentials::new("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", None, None, "test");
        let moment = Moment { day: "20130524".to_owned(), time: "000000".to_owned() };
        let signer = Signer::new(&credentials, moment.day.clone(), &address(), Timestamp::UNIX_EPOCH);
        let mut path = "/".to_owned();
        encode("test$file.text", true, &mut path);
        let body = Body::from(bytes::Bytes::from_static(b"Welcome to Amazon S3."));
        let headers = [
            ("date", "Fri, 24 May 2013 00:00:00 GMT".to_owned()),
            ("host", address().host),
            ("x-amz-content-sha256", hex(sha256(&body).as_ref())),
            ("x-amz-date", moment.to_string()),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY".to_owned()),
        ];
        assert_eq!(
            signer.sign("PUT", &path, "", &headers, &moment),
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
             SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class, \
             Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
        );
    }

    #[test]
    fn addresses_are_read_from_presigned_requests() {
        let query = "x-id=PutObject&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A%2FB%2F20130524%2Fus-east-1%2Fs3%2Faws4_request";
        assert_eq!(
            Address::of_presigned(&format!("https://examplebucket.s3.amazonaws.com/k?{query}"), "k"),
            Some(address())
        );
        let path_style = Address::of_presigned(&format!("http://127.0.0.1:9000/b/k?{query}"), "k").unwrap();
        assert_eq!((path_style.prefix.as_str(), path_style.host.as_str()), ("/b/", "127.0.0.1:9000"));
        assert_eq!(Address::of_presigned(&format!("https://b/k?{query}&X-Amz-S3session-Token=t"), "k"), None);
        assert_eq!(Address::of_presigned("https://b/k?X-Amz-Algorithm=AWS4-ECDSA-P256-SHA256", "k"), None);
    }

    #[test]
    fn pieces_have_the_digest_of_the_whole() {
        let body = Body::new(vec![bytes::Bytes::from_static(b"Welcome to "), bytes::Bytes::from_static(b"Amazon S3.")]);
        assert_eq!(hex(sha256(&body).as_ref()), "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072");
    }

    #[test]
    fn what_is_signed_is_encoded_byte_by_byte() {
        let mut text = String::new();
        encode("a b+é/~", true, &mut text);
        encode("/=", false, &mut text);
        assert_eq!(text, "a%20b%2B%C3%A9/~%2F%3D");
    }
}
