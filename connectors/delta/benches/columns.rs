//! What a row costs: from JSON text to Arrow columns, and from columns to the bytes of a Parquet file.
//!
//! ```sh
//! cargo bench -p ottla-connector-delta --bench columns
//! ```
//!
//! Each measurement takes all rows once; times are processor time, so that a busy machine doesn't show, and `thrpt` is rows a second
//! of it. `text` is the way that
//! records take which nobody has decoded, `tree` the way of those that a transformation has looked into (with the time that it took
//! to decode them), and `arrow-json` the floor: Arrow's own reader on the same lines. `parquet` are ways to write the same columns.

use std::hint::black_box;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ottla_api::data::json;
use ottla_connector_delta::measured::Rows;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};

/// Rows of one measurement, all different.
const ROWS: usize = 20_000;

/// A kind of record.
struct Kind {
    name: &'static str,
    ddl: &'static str,
    make: fn(&mut Random) -> String,
}

/// About 140 bytes in six fields; about 700 in twelve.
const KINDS: [Kind; 3] = [
    Kind { name: "140", ddl: "id long, user string, at string, kind string, amount double, note string", make: small },
    Kind {
        name: "140-typed",
        ddl: "id long, user string, at timestamp, kind string, amount decimal(12,2), note string",
        make: small,
    },
    Kind {
        name: "700",
        ddl: "index long, unique_id string, title string, description string, poster_name string, follower_count string, \
              tag_list string, is_image_or_video string, image_src string, downloaded long, save_location string, \
              category string",
        make: large,
    },
];

/// A row of numbers that is the same in every run (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn words(&mut self, count: usize) -> String {
        const WORDS: [&str; 12] = [
            "bright", "wide", "slow", "paper", "garden", "linen", "quiet", "walnut", "window", "harbour", "lantern",
            "thread",
        ];
        let words: Vec<&str> = (0..count).map(|_| WORDS[self.below(12) as usize]).collect();
        words.join(" ")
    }
}

fn small(random: &mut Random) -> String {
    format!(
        r#"{{"id":{},"user":"user-{:06}","at":"2026-11-{:02}T{:02}:{:02}:{:02}Z","kind":"page.{}","amount":{}.{:02},"note":"{}"}}"#,
        1_000_000 + random.below(9_000_000),
        random.below(500_000),
        1 + random.below(30),
        random.below(24),
        random.below(60),
        random.below(60),
        random.words(1),
        random.below(1000),
        10 * random.below(10) + 1 + random.below(9),
        random.words(6),
    )
}

fn large(random: &mut Random) -> String {
    let category = random.words(1);
    format!(
        r#"{{"index":{},"unique_id":"{:016x}-{:016x}","title":"{}","description":"{}","poster_name":"{}","follower_count":"{}k","tag_list":"{}","is_image_or_video":"image","image_src":"https://images.example.org/originals/{:016x}.jpg","downloaded":1,"save_location":"Local save in /data/{category}","category":"{category}"}}"#,
        random.below(20_000),
        random.below(u64::MAX),
        random.below(u64::MAX),
        random.words(7),
        random.words(23),
        random.words(2),
        random.below(999),
        (0..9).map(|_| random.words(2)).collect::<Vec<_>>().join(","),
        random.below(u64::MAX),
    )
}

fn texts(kind: &Kind) -> Vec<String> {
    let mut random = Random(7);
    (0..ROWS).map(|_| (kind.make)(&mut random)).collect()
}

fn batch_of(kind: &Kind, texts: &[String]) -> RecordBatch {
    let mut rows = Rows::new(kind.ddl).expect("columns as in the option");
    texts.iter().for_each(|text| rows.push_text(text.as_bytes()).expect("a record that fits"));
    rows.finish().expect("a batch")
}

fn columns(criterion: &mut Criterion<Processor>) {
    for kind in &KINDS {
        let texts = texts(kind);
        let lines = texts.join("\n");
        let schema = batch_of(kind, &texts).schema();
        let mut group = criterion.benchmark_group(format!("columns/{}", kind.name));
        group.throughput(Throughput::Elements(ROWS as u64)).sample_size(20);
        group.bench_function("text", |bench| bench.iter(|| batch_of(kind, black_box(&texts))));
        group.bench_function("tree", |bench| {
            bench.iter(|| {
                let mut rows = Rows::new(kind.ddl).expect("columns as in the option");
                for text in black_box(&texts) {
                    rows.push_value(&json::parse(text.as_bytes()).expect("JSON")).expect("a record that fits");
                }
                rows.finish().expect("a batch")
            });
        });
        group.bench_function("arrow-json", |bench| bench.iter(|| arrow_json(&schema, black_box(&lines))));
        group.finish();
    }
}

/// Arrow's own reader, one batch of all rows.
fn arrow_json(schema: &SchemaRef, lines: &str) -> RecordBatch {
    let builder = arrow::json::ReaderBuilder::new(Arc::clone(schema)).with_batch_size(ROWS);
    let mut decoder = builder.build_decoder().expect("a decoder");
    let mut at = 0;
    while at < lines.len() {
        at += decoder.decode(&lines.as_bytes()[at..]).expect("JSON");
    }
    decoder.flush().expect("a batch").expect("rows")
}

fn parquet(criterion: &mut Criterion<Processor>) {
    for kind in &KINDS {
        let batch = batch_of(kind, &texts(kind));
        let mut group = criterion.benchmark_group(format!("parquet/{}", kind.name));
        group.throughput(Throughput::Elements(ROWS as u64)).sample_size(10);
        let zstd = Compression::ZSTD(ZstdLevel::try_new(1).expect("a level"));
        let plain = || WriterProperties::builder().set_compression(Compression::SNAPPY);
        let ways = [
            ("uncompressed", WriterProperties::builder().build(), ROWS),
            ("snappy", plain().build(), ROWS),
            // As deltalake's writer hands rows on.
            ("snappy-slices", plain().build(), 1024),
            ("snappy-chunk-statistics", plain().set_statistics_enabled(EnabledStatistics::Chunk).build(), ROWS),
            ("snappy-no-dictionary", plain().set_dictionary_enabled(false).build(), ROWS),
            ("snappy-no-dictionary-slices", plain().set_dictionary_enabled(false).build(), 1024),
            ("zstd", WriterProperties::builder().set_compression(zstd).build(), ROWS),
            (
                "zstd-no-dictionary",
                WriterProperties::builder().set_compression(zstd).set_dictionary_enabled(false).build(),
                ROWS,
            ),
        ];
        for (name, properties, slice) in ways {
            let mut said = false;
            group.bench_function(name, |bench| {
                if !std::mem::replace(&mut said, true) {
                    // How large what comes out is, beside how long it takes.
                    eprintln!("{} bytes a row", parquet_bytes(&batch, &properties, slice) / ROWS);
                }
                bench.iter(|| parquet_bytes(black_box(&batch), &properties, slice));
            });
        }
        group.finish();
    }
}

fn parquet_bytes(batch: &RecordBatch, properties: &WriterProperties, slice: usize) -> usize {
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), Some(properties.clone())).expect("a writer");
    for from in (0..ROWS).step_by(slice) {
        writer.write(&batch.slice(from, slice.min(ROWS - from))).expect("rows");
    }
    writer.close().expect("a file");
    file.len()
}

/// Nanoseconds that this thread has had a processor, as Linux counts them.
struct Processor;

impl Measurement for Processor {
    type Intermediate = u64;
    type Value = u64;

    fn start(&self) -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with schedstat");
        text.split(' ').next().and_then(|text| text.parse().ok()).expect("nanoseconds")
    }

    fn end(&self, begun: u64) -> u64 {
        self.start() - begun
    }

    fn add(&self, one: &u64, other: &u64) -> u64 {
        one + other
    }

    fn zero(&self) -> u64 {
        0
    }

    fn to_f64(&self, value: &u64) -> f64 {
        *value as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(Processor);
    targets = columns, parquet
}
criterion_main!(benches);
