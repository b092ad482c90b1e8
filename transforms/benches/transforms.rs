//! What transformations cost, in nanoseconds a record: each alone, in chains, and from JSON text to JSON text.
//!
//! ```text
//! cargo bench -p ottla-transforms                      # all of it
//! cargo bench -p ottla-transforms -- chain             # one group: text, alone, chain, whole, passed
//! ```
//!
//! | Group | Measures |
//! |---|---|
//! | `text` | parsing and writing alone, which every record that is looked into pays |
//! | `alone` | one transformation on a decoded record |
//! | `chain` | a whole chain on a decoded record: what it costs above `text` |
//! | `whole` | JSON text in, chain, JSON text out |
//! | `passed` | a chain whose guard says no: the record goes on as the text it is |
//!
//! The records are like those of the posting pipeline (a post of about 700 bytes, a place, a user), and the cleaning chains are
//! read from `examples/pinterest/cleaning.toml`. Other work on the machine only ever adds, so of several runs the least counts.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use ottla_api::data::json::{self, WriteOptions};
use ottla_api::prelude::*;
use toml_edit::{DocumentMut, Item};

/// Records of one measurement: few enough to stay in the cache, enough for the clock not to count.
const BATCH: usize = 64;

const PIN: &str = r#"{"index":7528,"unique_id":"0f6b4c1e-1b2a-4c3d-8e9f-001122334455","title":"Paper cranes to hang from the ceiling – how to fold a hundred in one evening","description":"Fold them from old maps, then hang them where the light comes in. One sheet gives four small cranes or one large one, and no glue is needed. Step by step with pictures, for small hands too… ","poster_name":"Mika folds","follower_count":"985k","tag_list":"Paper Cranes,Origami For Beginners,Folding,Paper Crafts,Ceiling Decor,Kids Room Ideas,Slow Evenings","is_image_or_video":"image","image_src":"https://img.example.org/originals/0c/37/fa/0c37fab39da6ded220c3f9ccac8d117c.jpg","downloaded":1,"save_location":"Local save in /data/diy-and-crafts","category":"diy-and-crafts"}"#;
const GEO: &str =
    r#"{"ind":7528,"timestamp":"2020-08-28 03:52:47","latitude":-89.9787,"longitude":-173.293,"country":"Albania"}"#;
const USER: &str =
    r#"{"ind":7528,"first_name":"Abigail","last_name":"Ali","age":20,"date_joined":"2015-10-24 11:23:51"}"#;

/// The chain of five that is also measured on Kafka Connect.
const FIVE: &[Step] = &[
    ("replace-field", &[("renames", "index:ind"), ("exclude", "save_location")]),
    ("cast", &[("spec", "ind:int32,downloaded:string")]),
    ("insert-field", &[("timestamp.field", "received")]),
    ("mask-field", &[("fields", "poster_name")]),
    (
        "timestamp-converter",
        &[("field", "received"), ("target.type", "string"), ("format", "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'")],
    ),
];

/// Name and options of a transformation.
type Step = (&'static str, &'static [(&'static str, &'static str)]);

/// Transformations that are measured alone on a post, beside those of the chains.
const ON_POSTS: &[Step] = &[
    ("extract-field", &[("field", "category")]),
    ("hoist-field", &[("field", "post")]),
    ("flatten", &[]),
    ("header-from", &[("fields", "category"), ("headers", "category"), ("operation", "copy")]),
    ("insert-header", &[("header", "origin"), ("value.literal", "bench")]),
    ("drop-headers", &[("headers", "origin")]),
    ("value-to-key", &[("fields", "index")]),
    ("regex-router", &[("regex", r"([a-z]*)\.(.*)"), ("replacement", "$2")]),
    ("timestamp-router", &[]),
    ("deduplicate", &[("by", "fields"), ("fields", "index")]),
    ("split-field", &[("fields", "tag_list")]),
    ("require-fields", &[("fields", "index, category")]),
];

/// The same on a place.
const ON_PLACES: &[Step] = &[(
    "timestamp-converter-reading",
    &[("field", "timestamp"), ("target.type", "unix"), ("format", "yyyy-MM-dd HH:mm:ss")],
)];

fn plugin(name: &str) -> Constructor {
    let mut plugins = ottla_transforms::plugins().into_iter();
    plugins.find(|plugin| plugin.answers_to(name)).unwrap_or_else(|| panic!("there is no '{name}'")).constructor
}

fn transformation(name: &str, options: &Properties) -> Box<dyn Transformation> {
    match plugin(name) {
        Constructor::Transformation(construct) => construct(options).expect("the options are right"),
        _ => panic!("'{name}' is no transformation"),
    }
}

/// Transformations in a row behind a guard, as the runtime runs them.
struct Chain {
    guard: Option<Box<dyn Predicate>>,
    steps: Vec<(String, Box<dyn Transformation>)>,
}

impl Chain {
    fn of(steps: &[Step]) -> Self {
        let make = |(name, options): &Step| {
            ((*name).to_owned(), transformation(name, &Properties::from_iter(options.iter().copied())))
        };
        Self { guard: None, steps: steps.iter().map(make).collect() }
    }

    /// A chain of the example, guard and all.
    fn of_example(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/pinterest/cleaning.toml");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let document: DocumentMut = text.parse().expect("the example is TOML");
        let chain = &document["chains"][name];
        let pattern = chain["when"]["topic-matches"].as_str().expect("the chain is for topics");
        let guard = match plugin("topic-name-matches") {
            Constructor::Predicate(construct) => construct(&Properties::from_iter([("pattern", pattern)])),
            _ => panic!("not a predicate"),
        };
        let steps = chain["transforms"].as_array_of_tables().expect("the chain has transformations");
        let make = |step: &toml_edit::Table| {
            let name = step["type"].as_str().expect("a step has a type");
            let mut options = Properties::new();
            step.iter().filter(|(key, _)| *key != "type").for_each(|(key, item)| flatten(key, item, &mut options));
            (name.to_owned(), transformation(name, &options))
        };
        Self { guard: Some(guard.expect("the pattern is right")), steps: steps.iter().map(make).collect() }
    }

    fn apply(&mut self, mut record: Record) -> Option<Record> {
        for (_, step) in &mut self.steps {
            if let Some(guard) = &mut self.guard
                && !guard.test(&mut record).expect("a topic has a name")
            {
                continue;
            }
            match step.apply(record) {
                Ok(Some(changed)) => record = changed,
                Ok(None) => return None,
                Err(error) => panic!("the record is good, but {error}"),
            }
        }
        Some(record)
    }
}

/// Options of a TOML table, as the runtime reads them: tables by dots, lists by commas, texts with commas in quotes.
fn flatten(key: &str, item: &Item, options: &mut Properties) {
    if let Some(table) = item.as_table_like() {
        return table.iter().for_each(|(name, item)| flatten(&format!("{key}.{name}"), item, options));
    }
    let text = |value: &toml_edit::Value| match (value.as_str(), value.as_bool()) {
        (Some(text), _) if text.contains(',') => format!("\"{text}\""),
        (Some(text), _) => text.to_owned(),
        (None, Some(flag)) => flag.to_string(),
        (None, None) => panic!("{key} is neither text nor a truth value"),
    };
    let value = item.as_value().expect("an option is a value");
    let text = match value.as_array() {
        Some(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        None => value.as_str().map_or_else(|| text(value), str::to_owned),
    };
    options.set(key, text);
}

/// A record as a converter makes it: JSON text that nobody has looked into.
fn record(topic: &Arc<str>, text: &Bytes) -> Record {
    let mut record = Record::new(Arc::clone(topic), Value::Null);
    record.value = Payload::json(text.clone());
    record.partition = Some(3);
    record.offset = Some(1_234_567);
    record.timestamp = Some(1_598_586_767_000);
    record
}

fn compacted(text: &str) -> Bytes {
    json::compact(&Bytes::copy_from_slice(text.as_bytes())).expect("the record is JSON")
}

/// The record decoded.
fn decoded(topic: &Arc<str>, text: &str) -> Record {
    let mut record = record(topic, &compacted(text));
    record.value.value().expect("the record is JSON");
    record
}

/// Measures `apply` on records that `make` makes; neither making them nor dropping the results counts.
fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    make: impl Fn() -> Record,
    mut apply: impl FnMut(Record) -> Option<Record>,
) {
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let mut elapsed = Duration::ZERO;
            let mut left = iterations;
            let mut results = Vec::with_capacity(BATCH);
            while left > 0 {
                let count = left.min(BATCH as u64);
                let records: Vec<Record> = (0..count).map(|_| make()).collect();
                let begin = Instant::now();
                for record in records {
                    results.push(black_box(apply(black_box(record))));
                }
                elapsed += begin.elapsed();
                results.clear();
                left -= count;
            }
            elapsed
        });
    });
}

/// The chains, each with the topic and the text of its record.
fn chains() -> Vec<(&'static str, Arc<str>, &'static str, Chain)> {
    let topic = |name: &str| Arc::from(format!("bench.{name}"));
    vec![
        ("five", topic("pin"), PIN, Chain::of(FIVE)),
        ("clean-pin", topic("pin"), PIN, Chain::of_example("clean-pin")),
        ("clean-geo", topic("geo"), GEO, Chain::of_example("clean-geo")),
        ("clean-user", topic("user"), USER, Chain::of_example("clean-user")),
    ]
}

fn text(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("text");
    let topic = Arc::from("bench");
    let mut out = Vec::with_capacity(4096);
    for (name, text) in [("pin", PIN), ("geo", GEO), ("user", USER)] {
        let text = compacted(text);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut record = record(&topic, black_box(&text));
                record.value.value().expect("the record is JSON");
                out.clear();
                record.value.write_json(&WriteOptions::default(), &mut out);
                black_box(&out);
            });
        });
    }
}

fn alone(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("alone");
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (_, topic, text, mut chain) in chains() {
        // Each step on what the steps before it make.
        let mut record = decoded(&topic, text);
        for (name, step) in &mut chain.steps {
            let times = seen.entry(name.clone()).or_default();
            *times += 1;
            let label = if *times > 1 { format!("{name}-{times}") } else { name.clone() };
            measure(&mut group, &label, || record.clone(), |record| step.apply(record).expect("the record is good"));
            record = step.apply(record).expect("the record is good").expect("the record stays");
        }
    }
    let (posts, places) = (Arc::from("bench.pin"), Arc::from("bench.geo"));
    for (name, options) in ON_PLACES {
        let mut step = transformation("timestamp-converter", &Properties::from_iter(options.iter().copied()));
        measure(&mut group, name, || decoded(&places, GEO), |record| step.apply(record).expect("the record is good"));
    }
    for (name, options) in ON_POSTS {
        let mut step = transformation(name, &Properties::from_iter(options.iter().copied()));
        measure(&mut group, name, || decoded(&posts, PIN), |record| step.apply(record).expect("the record is good"));
    }
}

fn chain(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chain");
    let posts = Arc::from("bench.pin");
    measure(&mut group, "none", || decoded(&posts, PIN), Some);
    for (name, topic, text, mut chain) in chains() {
        measure(&mut group, name, || decoded(&topic, text), |record| chain.apply(record));
    }
}

fn whole(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("whole");
    let mut out = Vec::with_capacity(4096);
    for (name, topic, text, mut chain) in chains() {
        let record = record(&topic, &compacted(text));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let cleaned = chain.apply(black_box(record.clone())).expect("the record stays");
                out.clear();
                cleaned.value.write_json(&WriteOptions::default(), &mut out);
                black_box(&out);
            });
        });
    }
}

fn passed(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("passed");
    let mut chain = Chain::of_example("clean-pin");
    let record = record(&Arc::from("bench.geo"), &compacted(GEO));
    measure(&mut group, "clean-pin", || record.clone(), |record| chain.apply(record));
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = text, alone, chain, whole, passed
}
criterion_main!(benches);
