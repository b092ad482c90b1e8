//! What an object costs: this process's CPU time for objects created in a real store, through the store's client alone.
//!
//! `upload_cost <objects> <bytes of an object> <requests at once>`, with `OTTLA_TEST_S3`, `OTTLA_TEST_S3_KEY` and
//! `OTTLA_TEST_S3_SECRET` as the tests have them, and a bucket in `OTTLA_TEST_S3_BUCKET`.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use ottla_api::prelude::*;
use ottla_connector_s3::S3SinkConfig;
use ottla_connector_s3::client::s3::S3Store;
use ottla_connector_s3::client::{NewObject, ObjectStore, Outcome};

#[tokio::main(worker_threads = 2)]
async fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>().expect("a number"));
    let mut number = |default| numbers.next().unwrap_or(default);
    let (objects, size, at_once) = (number(5000), number(72), number(16));
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let properties = Properties::from_iter([
        ("s3.bucket.name".to_owned(), variable("OTTLA_TEST_S3_BUCKET")),
        ("s3.region".to_owned(), "us-east-1".to_owned()),
        ("store.url".to_owned(), variable("OTTLA_TEST_S3")),
        ("aws.access.key.id".to_owned(), variable("OTTLA_TEST_S3_KEY")),
        ("aws.secret.access.key".to_owned(), variable("OTTLA_TEST_S3_SECRET")),
        ("flush.size".to_owned(), "1".to_owned()),
    ]);
    let store = Arc::new(S3Store::new(&S3SinkConfig::from_properties(&properties).expect("valid options")));
    let begun = Instant::now();
    let cpu_begun = cpu_seconds();
    store.open().await.expect("the store opens");
    let run = uuid::Uuid::new_v4();
    create(&store, format!("{run}/first"), Bytes::from_static(b"x")).await;
    eprintln!("first object after {:?}, {:.3} s of CPU", begun.elapsed(), cpu_seconds() - cpu_begun);

    let (begun, cpu_begun) = (Instant::now(), cpu_seconds());
    let body = Bytes::from(vec![b'x'; size]);
    let workers = (0..at_once).map(|worker| {
        let (store, body) = (store.clone(), body.clone());
        tokio::spawn(async move {
            for n in 0..objects / at_once {
                create(&store, format!("{run}/partition={worker}/o+{worker}+{n:010}.json"), body.clone()).await;
            }
        })
    });
    futures::future::join_all(workers).await;
    let made = (objects / at_once * at_once) as f64;
    let (wall, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds() - cpu_begun);
    eprintln!(
        "{made} objects of {size} bytes, {at_once} at once: {:.3} ms of CPU an object, {:.2} a MB, {:.0} objects a second",
        cpu / made * 1e3,
        cpu * 1e9 / made / size as f64,
        made / wall
    );
}

async fn create(store: &S3Store, key: String, body: Bytes) {
    let object =
        NewObject { key, attempt: uuid::Uuid::new_v4().to_string(), first: 0, last: Some(0), records: Some(1) };
    assert_eq!(store.create(&object, body.into()).await.expect("created"), Outcome::Created);
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| fields[field].parse::<f64>().expect("a number");
    // Fields 14 and 15 of the whole line, in ticks of 10 ms.
    (ticks(11) + ticks(12)) / 100.0
}
