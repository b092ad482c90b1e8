//! Runs the behaviour that is written down as data: `tests/cases/*.toml`, and the examples in the plugins' documentation.
//!
//! A case names a configuration, a record in and what comes out:
//!
//! ```toml
//! transform = "null-if"            # for the file, or for one case
//!
//! [[case]]
//! name = "a sentence"
//! config = { exact = "nothing" }
//! schema = "{a: string}"           # of the value; left out, it is schemaless
//! in = '{"a":"nothing"}'           # or a list, for transformations that remember
//! out = '{"a":null}'               # `dropped` for a record that is dropped; the same type as `in`
//! out-schema = "{a: string?}"
//! ```
//!
//! `key`, `key-schema`, `topic`, `partition`, `timestamp`, `offset` and `headers` describe the rest of the record; with
//! `out-` in front, what they are to become. What has no `out-` must come out as it went in. `error` and `config-error` are
//! the whole text of the error that is expected instead.

mod harness;

use std::path::Path;

use harness::{notation, payload, plugin, text, transformation};
use ottla_api::prelude::*;
use toml_edit::{DocumentMut, Item, TableLike};

/// A TOML scalar as text.
fn scalar(item: &Item) -> Option<String> {
    let text = item.as_str().map(str::to_owned);
    text.or_else(|| item.as_integer().map(|n| n.to_string())).or_else(|| item.as_bool().map(|flag| flag.to_string()))
}

/// The value of `key` as text, whatever its type.
fn get(table: &dyn TableLike, key: &str) -> Option<String> {
    table.get(key).and_then(scalar)
}

/// Flattens tables by dots, as the runtime does.
fn properties(item: &Item, prefix: &str, out: &mut Properties) {
    if let Some(table) = item.as_table_like() {
        for (name, item) in table.iter() {
            let key = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
            properties(item, &key, out);
        }
    } else {
        out.set(prefix, scalar(item).expect("an option is text, a number or a truth value"));
    }
}

/// `table[key]`, or each of them where it is a list.
fn several(table: &dyn TableLike, key: &str) -> Option<Vec<String>> {
    match table.get(key)?.as_array() {
        Some(array) => Some(array.iter().map(|item| item.as_str().unwrap().to_owned()).collect()),
        None => Some(vec![get(table, key)?]),
    }
}

/// The record of a case; with `prefix` the one that is expected.
fn record(case: &dyn TableLike, value: &str, prefix: &str) -> Record {
    let of = |key: &str| get(case, &format!("{prefix}{key}")).or_else(|| get(case, key));
    let mut record = Record::new(of("topic").unwrap_or("topic".into()), Value::Null);
    let schema = of("schema").filter(|schema| schema != "none");
    record.value = payload(value, schema.as_deref());
    if let Some(key) = of("key") {
        let schema = of("key-schema").filter(|schema| schema != "none");
        record.key = payload(&key, schema.as_deref());
    }
    record.partition = of("partition").map(|text| text.parse().unwrap());
    record.timestamp = of("timestamp").map(|text| text.parse().unwrap());
    record.offset = of("offset").map(|text| text.parse().unwrap());
    if let Some(headers) = of("headers") {
        let headers = ottla_api::data::json::parse(headers.as_bytes()).unwrap();
        for (name, value) in headers.as_map().unwrap().iter() {
            record.headers.add(name, value.clone());
        }
    }
    record
}

/// A record as text, so that a difference can be read.
fn shown(mut record: Record) -> Vec<String> {
    let mut lines = vec![format!("topic {}", record.topic)];
    lines.push(format!("at {:?} {:?} {:?}", record.partition, record.offset, record.timestamp));
    for (name, payload) in [("key", &mut record.key), ("value", &mut record.value)] {
        let value = payload.value().unwrap().clone();
        lines.push(format!("{name} {}", text(&value)));
        if let Value::Struct(fields) = &value {
            let schema = payload.schema().expect("a struct comes with its schema");
            assert_eq!(schema, fields.schema(), "payload and struct must have one schema");
        }
        if let Some(schema) = payload.schema() {
            schema.check(&value).unwrap_or_else(|error| panic!("{value:?} does not fit its schema: {error}"));
            lines.push(format!("{name} schema {}", notation(schema)));
        }
    }
    for header in &record.headers {
        lines.push(format!("header {} {}", header.key, text(&header.value)));
    }
    lines
}

fn run(case: &dyn TableLike, transform: &str) {
    let mut config = Properties::new();
    if let Some(item) = case.get("config") {
        properties(item, "", &mut config);
    }
    let made = transformation(transform, &config);
    if let Some(expected) = get(case, "config-error") {
        let error = made.err().expect("the configuration is accepted");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert_eq!(error.to_string(), expected);
        return;
    }
    let mut transformation = made.unwrap();
    let inputs = several(case, "in").expect("`in` is missing");
    let outputs = several(case, "out");
    for (index, input) in inputs.iter().enumerate() {
        let result = transformation.apply(record(case, input, ""));
        if let Some(expected) = get(case, "error") {
            let error = result.expect_err("the record is accepted");
            assert_eq!(error.kind(), ErrorKind::PoisonRecord);
            assert_eq!(error.to_string(), expected);
            continue;
        }
        let output = &outputs.as_ref().expect("`out` or `error` is missing")[index];
        match result.unwrap() {
            None => assert_eq!("dropped", output, "record {index}"),
            Some(_) if output == "dropped" => panic!("record {index} was to be dropped"),
            Some(result) => assert_eq!(shown(result), shown(record(case, output, "out-")), "record {index}"),
        }
    }
    // Tombstones pass native transformations as they are, whatever the configuration. An option `on` tells those.
    if (plugin(transform).definition)().find("on").is_some() && config.get("on") != Some("key") {
        let mut tombstone = record(case, "null", "");
        tombstone.value = Payload::null();
        let result = transformation.apply(tombstone.clone()).unwrap();
        assert_eq!(result, Some(tombstone), "a tombstone must pass untouched");
    }
}

#[test]
fn every_case_comes_out_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut failures = Vec::new();
    let mut count = 0;
    for file in &files {
        let document: DocumentMut = std::fs::read_to_string(file).unwrap().parse().unwrap();
        let cases = document["case"].as_array_of_tables().expect("[[case]]");
        for case in cases {
            let name = get(case, "name").expect("a case has a name");
            let transform =
                get(case, "transform").or_else(|| get(document.as_table(), "transform")).expect("transform");
            let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(case, &transform)));
            if run.is_err() {
                failures.push(format!("{}: {name}", file.file_name().unwrap().display()));
            }
            count += 1;
        }
    }
    assert!(failures.is_empty(), "{} of {count} cases failed:\n{}", failures.len(), failures.join("\n"));
    assert!(count > 100, "only {count} cases were found");
}

/// The fenced blocks of a Markdown text: what follows the opening fence, and the content.
fn blocks(markdown: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        if let Some(info) = line.strip_prefix("```") {
            let content: Vec<_> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
            blocks.push((info.trim().to_owned(), content.join("\n")));
        }
    }
    blocks
}

/// The record of a documentation example: a value, or with `json record` topic, key, value, the value's schema, headers and
/// timestamp by name.
fn example_record(info: &str, content: &str) -> Record {
    if info == "json" {
        return Record::new("topic", ottla_api::data::json::parse(content.as_bytes()).unwrap());
    }
    assert_eq!(info, "json record");
    let parsed = ottla_api::data::json::parse(content.as_bytes()).unwrap();
    let mut record = Record::new("topic", Value::Null);
    for (name, value) in parsed.as_map().unwrap().iter() {
        match name {
            "topic" => record.topic = value.as_str().unwrap().into(),
            "key" => record.key = Payload::schemaless(value.clone()),
            "value" => record.value = Payload::schemaless(value.clone()),
            "schema" => {
                let schema = value;
                let value = text(record.value.value().unwrap());
                record.value = payload(&value, schema.as_str());
            }
            "timestamp" => record.timestamp = value.as_i64(),
            "headers" => {
                for (name, value) in value.as_map().unwrap().iter() {
                    record.headers.add(name, value.clone());
                }
            }
            other => panic!("a record has no '{other}'"),
        }
    }
    record
}

#[test]
fn every_documented_example_is_true() {
    for plugin in ottla_transforms::plugins() {
        let Constructor::Transformation(_) = plugin.constructor else { continue };
        let blocks = blocks(plugin.doc);
        let [(toml, config), (info, input), (out_info, output), ..] = &blocks[..] else {
            panic!("the documentation of {} needs an example: configuration, record in, record out", plugin.name);
        };
        assert_eq!(toml, "toml", "{}", plugin.name);
        let document: DocumentMut = config.parse().unwrap();
        let mut properties = Properties::new();
        self::properties(document.as_item(), "", &mut properties);
        let name = properties.remove("type").expect("an example names its type");
        assert!(plugin.doc.contains(plugin.name) || plugin.answers_to(&name), "{} shows '{name}'", plugin.name);
        // A two-sided transformation has one documentation for both its plugins; the example shows one of them.
        let mut transformation = transformation(&name, &properties).unwrap();
        let result = transformation.apply(example_record(info, input)).unwrap();
        match result {
            None => assert_eq!(output, "dropped", "{}", plugin.name),
            Some(result) => assert_eq!(shown(result), shown(example_record(out_info, output)), "{}", plugin.name),
        }
    }
}

#[test]
fn every_plugin_has_a_name_of_its_own_and_documented_options() {
    let plugins = ottla_transforms::plugins();
    for plugin in &plugins {
        let names = || std::iter::once(plugin.name).chain(plugin.aliases.iter().copied());
        for name in names() {
            let simple = name.rsplit('.').next().unwrap();
            for name in [name, simple] {
                let owners: Vec<_> = plugins.iter().filter(|other| other.answers_to(name)).collect();
                assert_eq!(owners.len(), 1, "'{name}' names {owners:?}");
            }
        }
        assert!(!plugin.doc.starts_with(' ') && plugin.doc.ends_with('\n'), "{}: {:?}", plugin.name, plugin.doc);
        let first = plugin.doc.lines().next().unwrap();
        assert!(first.ends_with('.') || plugin.doc.lines().nth(1) != Some(""), "{first}");
        for key in (plugin.definition)().keys {
            assert!(
                key.doc.ends_with('.') || key.doc.ends_with(')'),
                "{} {}: {}",
                plugin.name,
                key.display_name(),
                key.doc
            );
        }
    }
}

#[test]
fn unreadable_json_and_values_without_fields_are_poison() {
    let properties = Properties::from_iter([("fields", "a")]);
    let mut transformation = transformation("select-fields", &properties).unwrap();
    let error = transformation.apply(Record::new("t", "text")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PoisonRecord);
    assert_eq!(error.to_string(), "select-fields works on fields, found string: only maps and structs have fields");
}
