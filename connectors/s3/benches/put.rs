//! What a record costs in the sink itself: `put` into objects of a store that takes them and forgets them, in nanoseconds
//! a record.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ottla_api::prelude::*;
use ottla_api::sink::SinkTaskHost;
use ottla_connector_s3::client::{Body, Chunk, MultipartUpload, NewObject, ObjectStore, Outcome};
use ottla_connector_s3::{S3SinkConfig, S3SinkTask};

/// Records of a batch, as the runtime hands them over.
const BATCH: i64 = 500;

/// A store that takes everything at once.
#[derive(Debug, Clone)]
struct Nowhere;

#[async_trait]
impl ObjectStore for Nowhere {
    async fn create(&self, _object: &NewObject, body: Body) -> Result<Outcome> {
        black_box(body);
        Ok(Outcome::Created)
    }

    fn create_in_parts(&self, _object: &NewObject) -> Box<dyn MultipartUpload> {
        Box::new(Self)
    }

    async fn read(&self, _key: &str, _from: u64, _length: u64) -> Result<Option<Chunk>> {
        Ok(None)
    }

    async fn delete(&self, _key: &str) -> Result<()> {
        Ok(())
    }

    fn location(&self, key: &str) -> String {
        format!("nowhere:{key}")
    }
}

#[async_trait]
impl MultipartUpload for Nowhere {
    async fn part(&mut self, body: Body) -> Result<Outcome> {
        black_box(body);
        Ok(Outcome::Created)
    }

    async fn finish(&mut self, rest: Body) -> Result<Outcome> {
        black_box(rest);
        Ok(Outcome::Created)
    }

    async fn abort(&mut self) {}
}

/// A runtime that listens to nothing.
struct Deaf;

impl SinkTaskHost for Deaf {
    fn report(&self, _partition: &TopicPartition, _record: &SinkRecord, error: Error) -> Result<()> {
        Err(error)
    }
    fn buffered(&self, bytes: usize) {
        black_box(bytes);
    }
    fn rewind(&self, _partition: &TopicPartition, _offset: i64) {}
    fn delivered(&self, delivery: Delivery) {
        black_box(delivery);
    }
    fn count(&self, _name: &'static str, _n: u64) {}
    fn gauge(&self, _name: &'static str, _value: u64) {}
    fn topic_identity(&self, _topic: &str) -> Option<String> {
        None
    }
}

/// One batch whose values are JSON text of `size` bytes, or the same decoded.
fn batch(partition: &TopicPartition, size: usize, decoded: bool) -> SinkBatch {
    let topic: Arc<str> = Arc::from(&*partition.topic);
    let record = |offset: i64| {
        let mut text = format!("{{\"n\":{offset:08},\"user\":\"u-{:05}\",\"kind\":\"click\"", offset % 977);
        for field in 0.. {
            if text.len() + 30 > size {
                break;
            }
            text.push_str(&format!(",\"field{field:02}\":\"{}\"", "v".repeat(15)));
        }
        let text = format!("{text},\"x\":\"{}\"}}", "y".repeat(size.saturating_sub(text.len() + 8)));
        let bytes = Bytes::from(text.replace(":0", ":1"));
        let mut value = Payload::json(bytes.clone());
        if decoded {
            value.value().expect("it is JSON");
        }
        SinkRecord {
            record: Record {
                topic: topic.clone(),
                partition: Some(partition.partition),
                key: Payload::null(),
                value,
                timestamp: Some(1_600_000_000_000 + offset),
                headers: Headers::new(),
                offset: Some(offset),
            },
            raw: RawRecord {
                offset,
                timestamp: Some(1_600_000_000_000 + offset),
                key: None,
                value: Some(bytes),
                headers: Vec::new(),
            },
        }
    };
    SinkBatch { partition: partition.clone(), records: (0..BATCH).map(record).collect(), next_offset: BATCH }
}

/// Puts the batch again and again, each time with the offsets that follow, and times the puts alone.
async fn put(batch: &mut SinkBatch, flush_size: u64, batches: u64) -> Duration {
    let properties = Properties::from_iter([
        ("s3.bucket.name".to_owned(), "b".to_owned()),
        ("flush.size".to_owned(), flush_size.to_string()),
        ("store.url".to_owned(), "file:/nowhere".to_owned()),
    ]);
    let config = S3SinkConfig::from_properties(&properties).expect("valid options");
    let mut task = S3SinkTask::new(&config, Arc::new(Nowhere));
    let context = SinkTaskContext::new("bench", 0, "unused".into(), Arc::new(Deaf));
    // The probe finds a store that overwrites; here that is as it should be.
    let mut task = {
        task = task.without_recovery();
        task.start(&context).await.expect("it starts");
        task
    };
    task.open(&Positions::from([(batch.partition.clone(), 0)])).await.expect("it opens");
    let mut spent = Duration::ZERO;
    for number in 0..batches {
        let first = number as i64 * BATCH;
        for (index, record) in batch.records.iter_mut().enumerate() {
            record.raw.offset = first + index as i64;
        }
        batch.next_offset = first + BATCH;
        let begun = Instant::now();
        task.put(batch).await.expect("the store takes everything");
        spent += begun.elapsed();
        // The uploader has its turn, as it has on another thread.
        tokio::task::yield_now().await;
    }
    spent
}

fn benches(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let partition = TopicPartition::new("posts", 0);
    for (name, size, decoded, flush_size) in [
        ("71 bytes of JSON text", 71, false, 10_000),
        ("71 bytes of JSON text, 100,000 an object", 71, false, 100_000),
        ("71 bytes of JSON text, one an object", 71, false, 1),
        ("700 bytes of JSON text", 700, false, 10_000),
        ("700 bytes of decoded JSON", 700, true, 10_000),
    ] {
        let mut batch = batch(&partition, size, decoded);
        let mut group = criterion.benchmark_group("put");
        group.throughput(Throughput::Elements(BATCH as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|batches| runtime.block_on(put(&mut batch, flush_size, batches)));
        });
        group.finish();
    }
}

criterion_group! {
    name = sink;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_millis(500));
    targets = benches
}
criterion_main!(sink);
