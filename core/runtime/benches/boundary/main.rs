//! What the plugin boundary costs a record: the same plugins built in and in a shared library, in batches of 500.
//!
//! The difference of the two, divided by 500, is the cost in nanoseconds. It is wall time on an idle runtime, thread changes and all.

mod plugin;

use std::hint::black_box;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ottla_api::data::json;
use ottla_api::prelude::*;
use ottla_api::sink::SinkTaskHost;
use ottla_api::source::SourceTaskHost;
use ottla_runtime::plugins::loaded::{Limits, load};

const RECORDS: usize = 500;
const SIZES: [usize; 3] = [200, 1024, 10 * 1024];

/// The plugins in a shared library, which is built now if it is not up to date.
fn library() -> Vec<Plugin> {
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let cargo = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "ottla-runtime", "--example", "boundary_plugin", "--profile", profile])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(cargo.expect("cargo runs").success(), "the library of the bench does not build");
    // This program lies in the folder `deps` of its profile.
    let own = std::env::current_exe().expect("this program has a path");
    let profile = own.ancestors().nth(2).expect("the program lies in a folder of a target folder");
    let path: PathBuf = profile.join("examples/libboundary_plugin.so");
    load(&path, &Limits::default()).expect("the library loads").plugins
}

struct Host;

impl SinkTaskHost for Host {
    fn report(&self, _: &TopicPartition, _: &SinkRecord, error: Error) -> Result<()> {
        Err(error)
    }

    fn buffered(&self, _: usize) {}

    fn rewind(&self, _: &TopicPartition, _: i64) {}

    fn delivered(&self, _: Delivery) {}

    fn count(&self, _: &'static str, _: u64) {}

    fn gauge(&self, _: &'static str, _: u64) {}

    fn topic_identity(&self, _: &str) -> Option<String> {
        None
    }
}

impl SourceTaskHost for Host {
    fn offset(&self, _: &SourcePartition) -> Result<Option<SourceOffset>> {
        Ok(None)
    }

    fn count(&self, _: &'static str, _: u64) {}

    fn gauge(&self, _: &'static str, _: u64) {}
}

/// A batch as the consumer makes it: all payloads in one buffer.
fn batch(bytes: usize, decoded: bool) -> SinkBatch {
    let text = match decoded {
        false => format!("\"{}\"", "x".repeat(bytes - 2)),
        true => {
            // Fields of 20 bytes: `"f00":"xxxxxxxxxx",` and what else.
            let fields: Vec<String> = (0..bytes / 20).map(|n| format!("\"f{n:03}\":\"xxxxxxxxxx\"")).collect();
            format!("{{{}}}", fields.join(","))
        }
    };
    let buffer = Bytes::from(text.repeat(RECORDS));
    let record = |index: usize| {
        let raw_value = buffer.slice(index * text.len()..(index + 1) * text.len());
        let raw = RawRecord {
            offset: index as i64,
            timestamp: Some(1),
            value: Some(raw_value.clone()),
            ..RawRecord::default()
        };
        let mut record = Record::new("t", Value::Null);
        record.value =
            if decoded { Payload::schemaless(json::parse(&raw_value).unwrap()) } else { Payload::Json(raw_value) };
        record.partition = Some(0);
        record.timestamp = raw.timestamp;
        record.offset = Some(raw.offset);
        SinkRecord { record, raw }
    };
    SinkBatch {
        partition: TopicPartition::new("t", 0),
        records: (0..RECORDS).map(record).collect(),
        next_offset: RECORDS as i64,
    }
}

fn boundary(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let library = library();
    let ways = [("built in", plugin::PLUGINS), ("library", &library[..])];

    let mut group = criterion.benchmark_group("put");
    group.throughput(Throughput::Elements(RECORDS as u64));
    for (decoded, kind) in [(false, "text"), (true, "decoded")] {
        for bytes in SIZES {
            let batch = Arc::new(batch(bytes, decoded));
            for (way, plugins) in ways {
                let Constructor::Sink(make) = plugins[0].constructor else { unreachable!("a sink comes first") };
                let mut task = make().task(&Properties::new()).unwrap();
                let context = SinkTaskContext::new("bench", 0, std::env::temp_dir(), Arc::new(Host));
                runtime.block_on(task.start(&context)).unwrap();
                let id = BenchmarkId::new(format!("{kind} {way}"), bytes);
                group.bench_function(id, |bencher| {
                    bencher.iter_custom(|turns| {
                        // On a worker thread, where tasks run.
                        let batch = Arc::clone(&batch);
                        let put = async {
                            let begin = Instant::now();
                            for _ in 0..turns {
                                task.put(&batch).await.unwrap();
                            }
                            begin.elapsed()
                        };
                        runtime.block_on(put)
                    });
                });
                black_box(runtime.block_on(task.flush(FlushReason::Interval)).unwrap());
            }
        }
    }
    group.finish();

    let mut group = criterion.benchmark_group("poll");
    group.throughput(Throughput::Elements(RECORDS as u64));
    for bytes in SIZES {
        for (way, plugins) in ways {
            let Constructor::Source(make) = plugins[1].constructor else { unreachable!("a source comes second") };
            let properties = Properties::from_iter([("bytes", bytes.to_string()), ("records", RECORDS.to_string())]);
            let mut task = make().tasks(&properties, 1).unwrap().remove(0);
            let context = SourceTaskContext::new("bench", 0, std::env::temp_dir(), Arc::new(Host));
            runtime.block_on(task.start(&context)).unwrap();
            group.bench_function(BenchmarkId::new(format!("text {way}"), bytes), |bencher| {
                bencher.iter_custom(|turns| {
                    runtime.block_on(async {
                        let begin = Instant::now();
                        for _ in 0..turns {
                            black_box(task.poll().await.unwrap());
                        }
                        begin.elapsed()
                    })
                });
            });
        }
    }
    group.finish();

    let mut group = criterion.benchmark_group("apply");
    group.throughput(Throughput::Elements(RECORDS as u64));
    for (decoded, kind) in [(false, "text"), (true, "decoded")] {
        for bytes in SIZES {
            let batch = batch(bytes, decoded);
            for (way, plugins) in ways {
                let Constructor::Transformation(make) = plugins[2].constructor else {
                    unreachable!("a transformation comes third")
                };
                let mut transformation = make(&Properties::new()).unwrap();
                group.bench_function(BenchmarkId::new(format!("{kind} {way}"), bytes), |bencher| {
                    bencher.iter_custom(|turns| {
                        let mut records: Vec<Option<Record>> =
                            batch.records.iter().map(|record| Some(record.record.clone())).collect();
                        let begin = Instant::now();
                        for _ in 0..turns {
                            for record in &mut records {
                                *record = transformation.apply(record.take().unwrap()).unwrap();
                            }
                        }
                        begin.elapsed()
                    });
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, boundary);
criterion_main!(benches);
