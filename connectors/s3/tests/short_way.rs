//! The requests that are made without the SDK, beside those of the SDK: they say the same, and give way to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use ottla_api::prelude::*;
use ottla_connector_s3::S3SinkConfig;
use ottla_connector_s3::client::s3::S3Store;
use ottla_connector_s3::client::{Body, NewObject, ObjectStore, Outcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as it arrived.
#[derive(Debug, Clone)]
struct Request {
    line: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Request {
    /// True for one that the SDK has made.
    fn is_the_sdks(&self) -> bool {
        self.headers.contains_key("amz-sdk-request")
    }
}

/// A server that keeps all requests and answers each with the status that `answer` has for it.
#[derive(Clone)]
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    async fn start(answer: fn(&Request) -> u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { url, requests: Arc::default() };
        let requests = server.requests.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, requests.clone(), answer));
            }
        });
        server
    }

    fn store(&self, extra: &[(&str, &str)]) -> S3Store {
        let mut properties = Properties::from_iter([
            ("s3.bucket.name", "lake"),
            ("s3.region", "eu-central-1"),
            ("store.url", &self.url),
            ("aws.access.key.id", "id"),
            ("aws.secret.access.key", "secret"),
            ("s3.retry.backoff.ms", "1"),
            ("flush.size", "1"),
        ]);
        extra.iter().for_each(|(key, value)| properties.set(*key, *value));
        S3Store::new(&S3SinkConfig::from_properties(&properties).unwrap())
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Who made the requests so far, in order.
    fn makers(&self) -> Vec<&'static str> {
        self.requests().iter().map(|request| if request.is_the_sdks() { "sdk" } else { "short" }).collect()
    }
}

async fn serve(mut connection: TcpStream, requests: Arc<Mutex<Vec<Request>>>, answer: fn(&Request) -> u16) {
    let mut read = Vec::new();
    loop {
        let head_length = loop {
            if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if connection.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8(read[..head_length].to_vec()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let line = lines.next().unwrap().to_owned();
        let header =
            |line: &str| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
        let headers: BTreeMap<String, String> = lines.filter_map(header).collect();
        let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        while read.len() < head_length + length {
            if connection.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let rest = read.split_off(head_length + length);
        let request = Request { line, headers, body: read.split_off(head_length) };
        read = rest;
        let status = answer(&request);
        requests.lock().unwrap().push(request);
        let said = format!("HTTP/1.1 {status} Said\r\nContent-Length: 0\r\nETag: \"tag\"\r\n\r\n");
        if connection.write_all(said.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn object() -> NewObject {
    let key = "topics/a b/partition=0/a+0+0000000000.json".to_owned();
    NewObject { key, attempt: "one".to_owned(), first: 0, last: Some(1), records: Some(2) }
}

fn body() -> Body {
    Body::new(vec![Bytes::from_static(b"{\"n\":0}\n"), Bytes::from_static(b"{\"n\":1}\n")])
}

#[tokio::test]
async fn both_ways_say_the_same() {
    for extra in [
        &[][..],
        &[("s3.acl.canned", "bucket-owner-full-control"), ("s3.ssea.name", "AES256")],
        &[("s3.ssea.name", "aws:kms"), ("s3.sse.kms.key.id", "arn:aws:kms:eu-central-1:1:key/k")],
    ] {
        let server = Server::start(|request| if request.is_the_sdks() { 200 } else { 400 }).await;
        assert_eq!(server.store(extra).create(&object(), body()).await.unwrap(), Outcome::Created);
        let [short, sdk] = &server.requests()[..] else { panic!("two requests: {:?}", server.requests()) };
        // What identifies the client, and what is signed by each in its own way.
        let told = |request: &Request| {
            let mut headers = request.headers.clone();
            headers.retain(|name, _| {
                !name.starts_with("amz-sdk-")
                    && !["user-agent", "x-amz-user-agent", "authorization", "x-amz-date", "accept"]
                        .contains(&name.as_str())
            });
            headers
        };
        assert_eq!(told(short), told(sdk));
        assert_eq!(short.body, sdk.body);
        let path = "/lake/topics/a%20b/partition%3D0/a%2B0%2B0000000000.json";
        assert_eq!(short.line, format!("PUT {path} HTTP/1.1"));
        assert_eq!(sdk.line, format!("PUT {path}?x-id=PutObject HTTP/1.1"));
    }
}

#[tokio::test]
async fn a_store_that_will_not_have_the_short_way_is_left_alone_with_it() {
    let server = Server::start(|request| if request.is_the_sdks() { 200 } else { 403 }).await;
    let store = server.store(&[]);
    for _ in 0..5 {
        assert_eq!(store.create(&object(), body()).await.unwrap(), Outcome::Created);
    }
    assert_eq!(server.makers(), ["short", "sdk", "short", "sdk", "short", "sdk", "sdk", "sdk"]);
}

#[tokio::test]
async fn a_store_that_is_in_trouble_is_asked_again_through_the_sdk() {
    let server = Server::start(|request| if request.is_the_sdks() { 200 } else { 503 }).await;
    let store = server.store(&[]);
    for _ in 0..5 {
        assert_eq!(store.create(&object(), body()).await.unwrap(), Outcome::Created);
    }
    assert_eq!(server.makers(), ["short", "sdk"].repeat(5));
}

#[tokio::test]
async fn what_is_stored_or_refused_needs_no_second_request() {
    let server = Server::start(|_| 200).await;
    assert_eq!(server.store(&[]).create(&object(), body()).await.unwrap(), Outcome::Created);
    assert_eq!(server.makers(), ["short"]);

    // A refused creation is followed by a look at whose object that is: another's here.
    let server = Server::start(|request| if request.line.starts_with("HEAD") { 404 } else { 412 }).await;
    assert_eq!(server.store(&[]).create(&object(), body()).await.unwrap(), Outcome::Contested);
    let lines: Vec<String> = server.requests().into_iter().map(|request| request.line).collect();
    assert!(matches!(&lines[..], [put, head] if put.starts_with("PUT") && head.starts_with("HEAD")), "{lines:?}");
}
