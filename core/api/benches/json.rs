//! What JSON costs a record, in nanoseconds: to check and compact, to parse, to write, and both.
//!
//! Each measurement goes over many different records, so that the processor can't learn one of them by heart. Beside ours
//! stand two others that do about the same, to know where we are: serde_json (checks with `IgnoredAny`, builds `Value`) and
//! sonic-rs.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Bencher, Criterion, criterion_group, criterion_main};
use ottla_api::data::{Value, json};

/// Records of one kind.
struct Rows {
    name: &'static str,
    texts: Vec<Bytes>,
}

/// About 71 bytes: four fields, as `tests/benches` fills its topics.
fn small(n: u64) -> String {
    let id = 100_000 + n * 7919 % 900_000;
    let (whole, tenth) = (1000 + n * 37 % 9000, 1 + n % 9);
    format!(r#"{{"id":{id},"name":"user-{id}","amount":{whole}.{tenth},"ts":{}}}"#, 1_700_000_000_000 + n * 977)
}

/// About 700 bytes: twelve fields as a collector of pictures writes them, half of them with letters beyond ASCII, a few with
/// escapes. `{,}` and `{:}` stand where Python's writer puts a space.
fn pin(n: u64) -> String {
    const WORDS: &str = "Drawing of a Mountain with Glow Canvas art in the article Beautiful pencil and magical lights for \
                         Living Room Ideas Simple to paint Fall";
    let all: Vec<&str> = WORDS.split(' ').collect();
    let words = |from: u64, count: u64, separator: &str| {
        let word = |i: u64| all[((from * 31 + i * i * 7 + i * n) % all.len() as u64) as usize];
        (0..count).map(word).collect::<Vec<_>>().join(separator)
    };
    let end = if n.is_multiple_of(2) { " \u{2026} " } else { "" };
    let quote = if n.is_multiple_of(32) { "\\\"so\\\" " } else { "" };
    let hash = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let fields = [
        ("index", n.to_string()),
        ("unique_id", format!("\"{:08x}-bda1-4453-bbcd-{:012x}\"", hash >> 32, hash & 0xffff_ffff_ffff)),
        ("title", format!("\"{quote}{}\"", words(n, 12 + n % 5, " "))),
        ("description", format!("\"{}{end}\"", words(n + 1, 22 + n % 9, " "))),
        ("poster_name", format!("\"{}\"", words(n + 2, 2, " "))),
        ("follower_count", format!("\"{}k\"", n % 900)),
        ("tag_list", format!("\"{}\"", words(n + 3, 17 + n % 6, ","))),
        ("is_image_or_video", "\"image\"".to_owned()),
        ("image_src", format!("\"https://i.example.com/originals/0c/37/fa/{hash:016x}{hash:016x}.jpg\"")),
        ("downloaded", "1".to_owned()),
        ("save_location", "\"Local save in /data/art\"".to_owned()),
        ("category", "\"art\"".to_owned()),
    ];
    let fields = fields.map(|(name, value)| format!("\"{name}\"{{:}}{value}"));
    format!("{{{}}}", fields.join("{,}"))
}

fn rows() -> Vec<Rows> {
    let texts = |make: &dyn Fn(u64) -> String| (0..64).map(|n| Bytes::from(make(n))).collect();
    let compact = |n| pin(n).replace("{,}", ",").replace("{:}", ":");
    let spaced = |n| pin(n).replace("{,}", ", ").replace("{:}", ": ");
    vec![
        Rows { name: "71", texts: texts(&small) },
        Rows { name: "700", texts: texts(&compact) },
        Rows { name: "700 spaced", texts: texts(&spaced) },
    ]
}

/// Runs one measurement, a record an iteration.
fn each<T, R>(bencher: &mut Bencher<'_>, items: &[T], mut run: impl FnMut(&T) -> R) {
    let mut next = items.iter().cycle();
    bencher.iter(|| run(black_box(next.next().expect("there are some"))));
}

fn json(c: &mut Criterion) {
    for Rows { name, texts } in rows() {
        let bytes = texts.iter().map(Bytes::len).sum::<usize>() / texts.len();
        let mut group = c.benchmark_group(format!("{name} ({bytes} bytes)"));
        group.bench_function("compact", |b| each(b, &texts, |text| json::compact(text).unwrap()));
        group.bench_function("parse", |b| each(b, &texts, |text| json::parse(text).unwrap()));
        let values: Vec<Value> = texts.iter().map(|text| json::parse(text).unwrap()).collect();
        let mut out = Vec::new();
        group.bench_function("write", |b| {
            each(b, &values, |value| {
                out.clear();
                json::write(value, &mut out);
            });
        });
        group.bench_function("parse+write", |b| {
            each(b, &texts, |text| {
                out.clear();
                json::write(&json::parse(text).unwrap(), &mut out);
            });
        });
        group.bench_function("serde_json check", |b| {
            each(b, &texts, |text| serde_json::from_slice::<serde::de::IgnoredAny>(text).unwrap());
        });
        group.bench_function("serde_json parse+write", |b| {
            each(b, &texts, |text| {
                out.clear();
                let value: serde_json::Value = serde_json::from_slice(text).unwrap();
                serde_json::to_writer(&mut out, &value).unwrap();
            });
        });
        group.bench_function("sonic-rs check", |b| {
            each(b, &texts, |text| {
                let value: sonic_rs::LazyValue<'_> = sonic_rs::from_slice(text).unwrap();
                value.as_raw_str().len()
            });
        });
        group.bench_function("sonic-rs parse+write", |b| {
            each(b, &texts, |text| {
                let value: sonic_rs::Value = sonic_rs::from_slice(text).unwrap();
                sonic_rs::to_vec(&value).unwrap()
            });
        });
        group.finish();
    }
}

criterion_group!(benches, json);
criterion_main!(benches);
