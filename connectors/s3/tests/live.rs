//! Against a real S3 endpoint: what no double can show, and the public suite.
//!
//! Set `OTTLA_TEST_S3` (an address such as `http://127.0.0.1:9000`), `OTTLA_TEST_S3_KEY` and `OTTLA_TEST_S3_SECRET`; without
//! them the tests say that they were skipped. Every test makes a bucket of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use bytes::Bytes;
use ottla_api::prelude::*;
use ottla_connector_s3::client::s3::S3Store;
use ottla_connector_s3::client::{Body, Conditional, NewObject, ObjectStore, Outcome, probe};
use ottla_connector_s3::{S3SinkConfig, S3SinkConnector, S3SinkTask};
use ottla_testkit::harness::{SinkHarness, sink_batch, sink_value};
use ottla_testkit::sink_suite::SinkSuite;

/// The endpoint, and a client of our own to look at it with.
struct Live {
    url: String,
    key: String,
    secret: String,
    client: Client,
}

impl Live {
    /// The endpoint of the environment.
    fn find() -> Option<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let found = (variable("OTTLA_TEST_S3"), variable("OTTLA_TEST_S3_KEY"), variable("OTTLA_TEST_S3_SECRET"));
        let (Some(url), Some(key), Some(secret)) = found else {
            eprintln!("skipped: OTTLA_TEST_S3, OTTLA_TEST_S3_KEY and OTTLA_TEST_S3_SECRET are not set");
            return None;
        };
        let http =
            aws_smithy_http_client::Builder::new().tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build_https();
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .region(Region::new("us-east-1"))
            .endpoint_url(&url)
            .force_path_style(true)
            .credentials_provider(Credentials::new(&key, &secret, None, None, "test"))
            .build();
        Some(Self { url, key, secret, client: Client::from_conf(config) })
    }

    async fn make_bucket(&self, name: &str) -> String {
        let bucket = format!("{name}-{}", uuid::Uuid::new_v4());
        self.client.create_bucket().bucket(&bucket).send().await.expect("make a bucket");
        bucket
    }

    fn properties(&self, bucket: &str, extra: &[(&str, &str)]) -> Properties {
        let mut properties = Properties::from_iter([
            ("s3.bucket.name", bucket),
            ("s3.region", "us-east-1"),
            ("store.url", &self.url),
            ("aws.access.key.id", &self.key),
            ("aws.secret.access.key", &self.secret),
            ("flush.size", "4"),
        ]);
        for (key, value) in extra {
            properties.set(*key, *value);
        }
        properties
    }

    fn store(&self, bucket: &str, extra: &[(&str, &str)]) -> S3Store {
        S3Store::new(&S3SinkConfig::from_properties(&self.properties(bucket, extra)).expect("valid"))
    }

    /// The contents of the objects below a prefix, by name.
    async fn objects(&self, bucket: &str, prefix: &str) -> BTreeMap<String, Bytes> {
        let mut objects = BTreeMap::new();
        let mut pages = self.client.list_objects_v2().bucket(bucket).prefix(prefix).into_paginator().send();
        while let Some(page) = pages.next().await {
            for object in page.expect("list").contents() {
                let key = object.key().expect("an object has a name").to_owned();
                let found = self.client.get_object().bucket(bucket).key(&key).send().await.expect("get");
                objects.insert(key, found.body.collect().await.expect("read").into_bytes());
            }
        }
        objects
    }
}

fn object(key: &str, attempt: &str) -> NewObject {
    NewObject { key: key.to_owned(), attempt: attempt.to_owned(), first: 0, last: Some(1), records: Some(2) }
}

#[tokio::test]
async fn objects_are_created_once_and_recognized_by_their_maker() {
    let Some(live) = Live::find() else { return };
    let bucket = live.make_bucket("create").await;
    let store = live.store(&bucket, &[]);
    assert_eq!(probe(&store, "topics/.ottla/probe").await.unwrap(), Conditional::Refused);
    assert!(live.objects(&bucket, "").await.is_empty());

    let key = "topics/a/partition=0/a+0+0000000000.json";
    assert!(store.read(key, 0, 10).await.unwrap().is_none());
    assert_eq!(
        store.create(&object(key, "one"), Bytes::from_static(b"first\n").into()).await.unwrap(),
        Outcome::Created
    );
    assert_eq!(
        store.create(&object(key, "two"), Bytes::from_static(b"other\n").into()).await.unwrap(),
        Outcome::Contested
    );
    // The repetition of a request whose answer was lost.
    assert_eq!(
        store.create(&object(key, "one"), Bytes::from_static(b"first\n").into()).await.unwrap(),
        Outcome::Created
    );
    let chunk = store.read(key, 2, 3).await.unwrap().unwrap();
    assert_eq!((chunk.bytes.as_ref(), chunk.total), (b"rst".as_slice(), 6));
    assert_eq!(store.read(key, 0, 1 << 20).await.unwrap().unwrap().bytes.as_ref(), b"first\n");

    live.client.put_object().bucket(&bucket).key("empty").send().await.unwrap();
    assert_eq!(store.read("empty", 0, 10).await.unwrap().unwrap().total, 0);
    let head = live.client.head_object().bucket(&bucket).key(key).send().await.unwrap();
    let metadata = head.metadata().unwrap();
    assert_eq!(["ottla-first", "ottla-last", "ottla-count"].map(|name| metadata[name].as_str()), ["0", "1", "2"]);
}

#[tokio::test]
async fn objects_in_parts_are_created_once() {
    let Some(live) = Live::find() else { return };
    let bucket = live.make_bucket("parts").await;
    let store = live.store(&bucket, &[]);
    let part: Body = Bytes::from(vec![b'x'; 5 * 1024 * 1024]).into();
    let (mut one, mut other) = (store.create_in_parts(&object("k", "one")), store.create_in_parts(&object("k", "two")));
    for upload in [&mut one, &mut other] {
        assert_eq!(upload.part(part.clone()).await.unwrap(), Outcome::Created);
    }
    assert!(store.read("k", 0, 1).await.unwrap().is_none());
    assert_eq!(one.finish(Bytes::from_static(b"end").into()).await.unwrap(), Outcome::Created);
    assert_eq!(other.finish(Bytes::from_static(b"END").into()).await.unwrap(), Outcome::Contested);
    let chunk = store.read("k", 5 * 1024 * 1024, 100).await.unwrap().unwrap();
    assert_eq!((chunk.bytes.as_ref(), chunk.total), (b"end".as_slice(), 5 * 1024 * 1024 + 3));

    other.abort().await;
    let mut gone = store.create_in_parts(&object("gone", "three"));
    gone.part(part.clone()).await.unwrap();
    gone.abort().await;
    let left = live.client.list_multipart_uploads().bucket(&bucket).send().await.unwrap();
    assert!(left.uploads().is_empty(), "{:?}", left.uploads());
}

#[tokio::test]
async fn an_upload_that_somebody_threw_away_is_begun_anew() {
    let Some(live) = Live::find() else { return };
    let bucket = live.make_bucket("gone").await;
    let store = live.store(&bucket, &[]);
    let mut upload = store.create_in_parts(&object("k", "one"));
    upload.part(Bytes::from(vec![b'x'; 5 * 1024 * 1024]).into()).await.unwrap();
    let uploads = live.client.list_multipart_uploads().bucket(&bucket).prefix("k").send().await.unwrap();
    for found in uploads.uploads() {
        let request = live.client.abort_multipart_upload().bucket(&bucket).key("k");
        request.upload_id(found.upload_id().unwrap()).send().await.unwrap();
    }
    assert_eq!(upload.finish(Bytes::from_static(b"end").into()).await.unwrap(), Outcome::Contested);
}

#[tokio::test]
async fn mistakes_are_told_apart() {
    let Some(live) = Live::find() else { return };
    let start = async |properties: Properties| {
        let mut task = S3SinkConnector.task(&properties).unwrap();
        let host: Arc<dyn ottla_api::sink::SinkTaskHost> = Arc::new(NoHost);
        task.start(&SinkTaskContext::new("test", 0, "unused".into(), host)).await.unwrap_err()
    };
    let error = start(live.properties("there-is-no-such-bucket", &[])).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    let said = format!("bucket 'there-is-no-such-bucket' does not exist at {}; make it", live.url);
    assert!(error.message().starts_with(&said), "{error}");
    let bucket = live.make_bucket("mistakes").await;
    let error = start(live.properties(&bucket, &[("aws.secret.access.key", "wrong-secret")])).await;
    assert_eq!(error.kind(), ErrorKind::RefreshAuth, "{error}");
    assert!(!error.to_string().contains("wrong-secret"), "{error}");
    // Nobody listens on the discard port.
    let error = start(live.properties(&bucket, &[("store.url", "http://127.0.0.1:9"), ("s3.part.retries", "1")])).await;
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
}

struct NoHost;

impl ottla_api::sink::SinkTaskHost for NoHost {
    fn report(&self, _partition: &TopicPartition, _record: &SinkRecord, error: Error) -> Result<()> {
        Err(error)
    }
    fn buffered(&self, _bytes: usize) {}
    fn rewind(&self, _partition: &TopicPartition, _offset: i64) {}
    fn delivered(&self, _delivery: Delivery) {}
    fn count(&self, _name: &'static str, _n: u64) {}
    fn gauge(&self, _name: &'static str, _value: u64) {}
    fn topic_identity(&self, _topic: &str) -> Option<String> {
        None
    }
}

#[tokio::test]
async fn a_large_object_goes_out_in_parts_and_is_adopted_after_a_crash() {
    let Some(live) = Live::find() else { return };
    let bucket = live.make_bucket("large").await;
    let partition = TopicPartition::new("large", 0);
    let wide = |offset: i64| {
        let mut batch = sink_batch(&partition, [offset], offset + 1);
        let text = format!("{{\"n\":{offset},\"x\":\"{}\"}}", "é".repeat(200_000));
        batch.records[0].record.value = Payload::json(text.into());
        batch
    };
    let task = || {
        let properties = live.properties(&bucket, &[("flush.size", "1000"), ("s3.part.size", "5242880")]);
        let config = S3SinkConfig::from_properties(&properties).unwrap();
        Box::new(S3SinkTask::new(&config, Arc::new(S3Store::new(&config))))
    };
    for adopted in [0, 1] {
        let mut harness = SinkHarness::start(task()).await.unwrap();
        harness.open(&Positions::from([(partition.clone(), -1)])).await.unwrap();
        for offset in 0..40 {
            harness.put(wide(offset)).await.unwrap();
        }
        let positions = harness.flush(FlushReason::CaughtUp).await.unwrap();
        assert_eq!(positions, Positions::from([(partition.clone(), 40)]));
        assert_eq!(harness.counts().get("objects.adopted").copied().unwrap_or(0), adopted);
        assert_eq!(harness.deliveries().len() as u64, 1 - adopted);
    }
    let objects = live.objects(&bucket, "").await;
    assert_eq!(objects.keys().collect::<Vec<_>>(), ["topics/large/partition=0/large+0+0000000000.json"]);
    let text = String::from_utf8(objects.into_values().next().unwrap().to_vec()).unwrap();
    assert_eq!(text.lines().count(), 40);
    assert_eq!(text.len(), 40 * 400_000 + text.lines().map(|line| line.find(",\"x\"").unwrap() + 9).sum::<usize>());
}

#[tokio::test]
async fn an_object_that_holds_something_else_stops_the_task() {
    let Some(live) = Live::find() else { return };
    let bucket = live.make_bucket("other").await;
    let partition = TopicPartition::new("orders", 0);
    let key = "topics/orders/partition=0/orders+0+0000000000.json";
    let mut body = format!("{}\n", sink_value(&partition, 0)).into_bytes();
    body.extend_from_slice(b"{\"something\":\"else\"}\n");
    live.client.put_object().bucket(&bucket).key(key).body(body.clone().into()).send().await.unwrap();
    let mut harness = SinkHarness::start(S3SinkConnector.task(&live.properties(&bucket, &[])).unwrap()).await.unwrap();
    harness.open(&Positions::from([(partition.clone(), 0)])).await.unwrap();
    let error = harness.put(sink_batch(&partition, 0..3, 3)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fatal);
    let text = error.to_string();
    assert!(text.contains(key) && text.contains("offset 1") && !text.contains("something"), "{text}");
    assert_eq!(live.objects(&bucket, "").await[key], body);
}

#[tokio::test]
async fn the_sink_over_s3_passes_the_suite() {
    let Some(live) = Live::find() else { return };
    let bucket = live.make_bucket("suite").await;
    SinkSuite::new(
        |name| S3SinkConnector.task(&live.properties(&bucket, &[("topics.dir", name)])).unwrap(),
        |name| {
            let (live, bucket) = (&live, &bucket);
            async move {
                let objects = live.objects(bucket, &format!("{name}/conformance/")).await;
                let lines = objects.into_values().flat_map(|bytes| {
                    String::from_utf8(bytes.to_vec()).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
                });
                lines.collect()
            }
        },
    )
    .records(8)
    .run()
    .await;
}
