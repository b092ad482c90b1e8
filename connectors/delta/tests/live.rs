//! Against a real S3 endpoint: what no double can show.
//!
//! Set `OTTLA_TEST_S3` (an address such as `http://127.0.0.1:9000`), `OTTLA_TEST_S3_KEY` and `OTTLA_TEST_S3_SECRET`; without
//! them the tests say that they were skipped. Every test makes a bucket of its own.

mod support;

use std::sync::Arc;

use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use ottla_api::prelude::*;
use ottla_connector_delta::store::{Store, StoreConfig};
use ottla_connector_delta::{DeltaSinkConnector, Maintenance, MaintenanceConfig};
use ottla_testkit::harness::{SinkHarness, sink_batch};
use support::{Host, append, create, file_count, names, numbers, open, position};

/// The endpoint, as the environment names it.
struct Live {
    url: String,
    key: String,
    secret: String,
}

impl Live {
    fn find() -> Option<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let found = (variable("OTTLA_TEST_S3"), variable("OTTLA_TEST_S3_KEY"), variable("OTTLA_TEST_S3_SECRET"));
        let (Some(url), Some(key), Some(secret)) = found else {
            eprintln!("skipped: OTTLA_TEST_S3, OTTLA_TEST_S3_KEY and OTTLA_TEST_S3_SECRET are not set");
            return None;
        };
        Some(Self { url, key, secret })
    }

    /// Makes a bucket: a PUT of its own path, signed by the client that signs everything else.
    async fn make_bucket(&self, name: &str) -> String {
        let bucket = format!("{name}-{}", uuid::Uuid::new_v4());
        let client = object_store::aws::AmazonS3Builder::new()
            .with_endpoint(&self.url)
            .with_bucket_name(&bucket)
            .with_access_key_id(&self.key)
            .with_secret_access_key(&self.secret)
            .with_region("us-east-1")
            .with_allow_http(true)
            .build()
            .expect("a client");
        // The answer to a bucket has no ETag, which the client misses. That the bucket is there shows in all that follows.
        if let Err(error) = client.put(&object_store::path::Path::default(), "".into()).await {
            assert!(format!("{error:?}").contains("MissingEtag"), "make a bucket: {error}");
        }
        bucket
    }

    fn properties(&self, bucket: &str, extra: &[(&str, &str)]) -> Properties {
        let mut properties = Properties::from_iter([
            ("s3.bucket.name", bucket),
            ("s3.region", "us-east-1"),
            ("store.url", &self.url),
            ("aws.access.key.id", &self.key),
            ("aws.secret.access.key", &self.secret),
        ]);
        for (key, value) in extra {
            properties.set(*key, *value);
        }
        properties
    }

    fn store(&self, bucket: &str, extra: &[(&str, &str)]) -> Store {
        let config = StoreConfig::from_properties(&self.properties(bucket, extra)).expect("valid");
        Store::new(&config).expect("nothing is connected yet")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_is_created_once() {
    let Some(live) = Live::find() else { return };
    let store = live.store(&live.make_bucket("create").await, &[]);
    store.probe().await.unwrap();
    let log_store = store.log_store("posts").unwrap();
    let root = log_store.root_object_store(None);
    assert_eq!(root.list(None).try_collect::<Vec<_>>().await.unwrap(), [], "the trial leaves nothing");
    // Sixteen at once, one wins.
    let log = log_store.object_store(None);
    let create = |n: usize| {
        let log = Arc::clone(&log);
        let path = "_delta_log/00000000000000000000.json".into();
        tokio::spawn(async move { log.put_opts(&path, n.to_string().into(), PutMode::Create.into()).await.is_ok() })
    };
    let created = futures::future::join_all((0..16).map(create)).await;
    let winners: Vec<_> = (0..16).filter(|n| *created[*n].as_ref().unwrap()).collect();
    assert_eq!(winners.len(), 1);
    let found = log.get(&"_delta_log/00000000000000000000.json".into()).await.unwrap().bytes().await.unwrap();
    assert_eq!(found, winners[0].to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_grows_and_gets_checkpoints() {
    let Some(live) = Live::find() else { return };
    let store = live.store(&live.make_bucket("table").await, &[("tables.dir", "lake/of tables")]);
    let log_store = store.log_store("posts").unwrap();
    let host = Arc::new(Host::default());
    let rules = MaintenanceConfig::from_properties(&Properties::from_iter([("checkpoint.commits", "5")])).unwrap();
    let maintenance = Maintenance::start(rules, &host.context());
    let mut table = create(&log_store, &[]).await;
    let stale = table.clone();
    for n in 0..12 {
        table = append(table, [n], "app", n + 1).await.unwrap();
        maintenance.committed("posts", &log_store, table.version().unwrap());
    }
    maintenance.stop().await;
    assert!(host.count_of("checkpoints") > 0);
    assert!(!names(&log_store, ".checkpoint.parquet").await.is_empty());
    // From an old version, another partition's rows go on top, and the same partition's are refused.
    append(stale.clone(), [100], "other", 1).await.unwrap();
    append(stale, [200], "app", 1).await.unwrap_err();
    assert_eq!(numbers(&log_store).await, (0..12).chain([100]).collect::<Vec<_>>());
    assert_eq!((file_count(&log_store).await, open(&log_store).await.version()), (13, Some(13)));
    assert_eq!((position(&log_store, "app").await, position(&log_store, "other").await), (Some(12), Some(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sink_writes_to_a_bucket() {
    let Some(live) = Live::find() else { return };
    let bucket = live.make_bucket("sink").await;
    let partition = TopicPartition::new("posts", 0);
    for (from, to) in [(0, 7), (7, 20)] {
        let task = DeltaSinkConnector.task(&live.properties(&bucket, &[("delta.app.id", "live")])).unwrap();
        let mut harness = SinkHarness::start(task).await.unwrap();
        let positions = harness.open(&Positions::from([(partition.clone(), -1)])).await.unwrap();
        assert_eq!(positions, Positions::from([(partition.clone(), from)]));
        harness.put(sink_batch(&partition, from..to, to)).await.unwrap();
        let durable = harness.flush(FlushReason::CaughtUp).await.unwrap();
        assert_eq!(durable, Positions::from([(partition.clone(), to)]));
        assert_eq!(harness.deliveries()[0].location, format!("s3://{bucket}/tables/posts"));
        harness.stop().await.unwrap();
    }
    let log_store = live.store(&bucket, &[]).log_store("posts").unwrap();
    assert_eq!(support::column(&log_store, "offset").await, (0..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_are_told_apart() {
    let Some(live) = Live::find() else { return };
    let probe = async |bucket: &str, extra: &[(&str, &str)]| live.store(bucket, extra).probe().await.unwrap_err();
    let error = probe("there-is-no-such-bucket", &[]).await;
    let said = format!("bucket 'there-is-no-such-bucket' does not exist at {}; make it", live.url);
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().starts_with(&said), "{error}");

    let bucket = live.make_bucket("mistakes").await;
    let error = probe(&bucket, &[("aws.secret.access.key", "wrong-secret")]).await;
    assert_eq!(error.kind(), ErrorKind::RefreshAuth, "{error}");
    assert!(error.message().starts_with("try out the store: refused: SignatureDoesNotMatch"), "{error}");
    assert!(!error.to_string().contains("wrong-secret"), "{error}");
    let error = probe(&bucket, &[("aws.access.key.id", "nobody")]).await;
    assert_eq!(error.kind(), ErrorKind::RefreshAuth, "{error}");

    // Nobody listens on the discard port.
    let error = probe(&bucket, &[("store.url", "http://127.0.0.1:9"), ("s3.part.retries", "1")]).await;
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert!(error.message().contains("http://127.0.0.1:9 can't be reached"), "{error}");
}
