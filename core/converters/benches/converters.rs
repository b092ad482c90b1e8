//! What a converter costs a record in each direction, in nanoseconds: JSON bare, touched, and in an envelope; text and bytes.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use ottla_api::config::{Config, Properties};
use ottla_api::converter::Converter;
use ottla_api::record::Payload;
use ottla_converters::{
    ByteArrayConverter, JsonConverter, JsonConverterConfig, StringConverter, StringConverterConfig,
};

/// One record of about 71 bytes and one of about 700, many times with other numbers.
fn rows(length: usize) -> Vec<String> {
    let filler = "A picture of a mountain … with letters ".repeat(length / 40);
    let row = |n: u64| {
        let id = 100_000 + n * 7919 % 900_000;
        let small = format!(r#""id":{id},"name":"user-{id}","amount":{}.5,"ts":{}"#, 1000 + n, 1_700_000_000_000 + n);
        if length < 100 { format!("{{{small}}}") } else { format!(r#"{{{small},"text":"{filler}"}}"#) }
    };
    (0..64).map(row).collect()
}

fn converters(c: &mut Criterion) {
    let bare = JsonConverter::new(JsonConverterConfig { schemas_enable: false, ..Default::default() });
    let envelope = JsonConverter::new(JsonConverterConfig::default());
    let text = StringConverter::new(&StringConverterConfig::from_properties(&Properties::new()).expect("the defaults"));
    for length in [71, 700] {
        let rows = rows(length);
        let field = |name: &str, kind: &str| format!(r#"{{"type":"{kind}","optional":false,"field":"{name}"}}"#);
        let mut fields = vec![field("id", "int64"), field("name", "string"), field("amount", "double")];
        fields.push(field("ts", "int64"));
        if length > 100 {
            fields.push(field("text", "string"));
        }
        let schema = format!(r#"{{"type":"struct","fields":[{}],"optional":false}}"#, fields.join(","));
        let wrapped = rows.iter().map(|row| format!(r#"{{"schema":{schema},"payload":{row}}}"#)).collect();
        let cases: [(&str, &dyn Converter, Vec<String>); 4] = [
            ("json", &bare, rows.clone()),
            ("json with schemas", &envelope, wrapped),
            ("string", &text, rows.clone()),
            ("bytes", &ByteArrayConverter, rows),
        ];
        let mut group = c.benchmark_group(format!("{length} bytes"));
        for (name, converter, rows) in cases {
            let rows: Vec<Bytes> = rows.into_iter().map(Bytes::from).collect();
            let read = |bytes: &Bytes| converter.to_connect("topic", Some(bytes)).expect("good rows");
            let payloads: Vec<Payload> = rows.iter().map(read).collect();
            let mut next = rows.iter().cycle();
            group
                .bench_function(format!("{name}, to data"), |b| b.iter(|| read(black_box(next.next().expect("rows")))));
            let write = |payload: &Payload| converter.from_connect("topic", payload).expect("good data");
            let mut next = payloads.iter().cycle();
            group.bench_function(format!("{name}, to bytes"), |b| {
                b.iter(|| write(black_box(next.next().expect("rows"))))
            });
            if name == "json" {
                let decoded = payloads.iter().map(|payload| payload.clone().into_data().expect("good rows"));
                let decoded: Vec<Payload> = decoded.map(|(_, value)| Payload::schemaless(value)).collect();
                let mut next = decoded.iter().cycle();
                group.bench_function(format!("{name}, decoded to bytes"), |b| {
                    b.iter(|| write(black_box(next.next().expect("rows"))));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, converters);
criterion_main!(benches);
