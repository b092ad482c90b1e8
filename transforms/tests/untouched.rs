//! What no transformation needs to look into is not decoded: it goes on as the very bytes that came.

mod harness;

use harness::{plugin, transformation};
use ottla_api::prelude::*;

/// A record whose key and value are JSON text.
fn record() -> Record {
    let mut record = Record::new("0a4e65e909bd.pin", Value::Null);
    record.key = Payload::json("{\"id\":1}".into());
    record.value = Payload::json("{\"ind\":1,\"title\":\"Blue\"}".into());
    record.timestamp = Some(1_598_586_767_000);
    record.headers.add("origin", "x");
    record
}

/// Fails where a payload is not the text that `record` has there, in the same memory.
fn assert_same_text(after: &Payload, before: &Payload, whose: &str) {
    match (after, before) {
        (Payload::Json(after), Payload::Json(before)) => {
            assert_eq!((after.as_ptr(), after.len()), (before.as_ptr(), before.len()), "{whose}");
        }
        _ => panic!("{whose}: decoded into {after:?}"),
    }
}

#[test]
fn transformations_of_topics_and_headers_leave_key_and_value_as_text() {
    for (name, options) in [
        ("drop-headers", &[("headers", "origin")][..]),
        ("insert-header", &[("header", "team"), ("value.literal", "blue")]),
        ("regex-router", &[("regex", "([0-9a-f]*)\\.(.*)"), ("replacement", "$2")]),
        ("timestamp-router", &[]),
    ] {
        let mut step = transformation(name, &Properties::from_iter(options.iter().copied())).unwrap();
        let before = record();
        let after = step.apply(before.clone()).unwrap().unwrap();
        assert_ne!((&after.topic, &after.headers), (&before.topic, &before.headers), "{name} does something");
        assert_same_text(&after.key, &before.key, name);
        assert_same_text(&after.value, &before.value, name);
    }
}

#[test]
fn transformations_of_one_payload_leave_the_other_as_text() {
    for (name, options) in [
        ("cast", &[("spec", "ind:string")][..]),
        ("extract-field", &[("field", "ind")]),
        ("flatten", &[]),
        ("header-from", &[("fields", "ind"), ("headers", "ind"), ("operation", "copy")]),
        ("hoist-field", &[("field", "all")]),
        ("insert-field", &[("timestamp.field", "at")]),
        ("mask-field", &[("fields", "ind")]),
        ("replace-field", &[("renames", "ind:number")]),
        ("timestamp-converter", &[("field", "at"), ("target.type", "unix")]),
    ] {
        let options = Properties::from_iter(options.iter().copied());
        let before = record();
        let after = transformation(name, &options).unwrap().apply(before.clone()).unwrap().unwrap();
        assert_same_text(&after.key, &before.key, name);
        let name = format!("{name}-key");
        let after = transformation(&name, &options).unwrap().apply(before.clone()).unwrap().unwrap();
        assert_same_text(&after.value, &before.value, &name);
    }
    for (name, options) in [
        ("null-if", &[("blank", "true")][..]),
        ("parse-quantity", &[("fields", "id")]),
        ("parse-timestamp", &[("fields", "id")]),
        ("strip-prefix", &[("fields", "id"), ("prefix", "x")]),
        ("split-field", &[("fields", "x")]),
        ("combine-fields", &[("fields", "id"), ("into", "ids")]),
        ("concat-fields", &[("fields", "id"), ("into", "ids")]),
        ("select-fields", &[("fields", "id")]),
        ("require-fields", &[("fields", "id")]),
        ("drop-if-all-null", &[]),
    ] {
        let mut options = Properties::from_iter(options.iter().copied());
        options.set("on", "key");
        let before = record();
        let after = transformation(name, &options).unwrap().apply(before.clone()).unwrap().unwrap();
        assert_same_text(&after.value, &before.value, name);
    }
}

#[test]
fn predicates_ask_without_decoding() {
    for (name, options) in [
        ("topic-name-matches", &[("pattern", ".*\\.pin")][..]),
        ("has-header-key", &[("name", "origin")]),
        ("record-is-tombstone", &[]),
    ] {
        let Constructor::Predicate(construct) = plugin(name).constructor else { panic!("{name} is no predicate") };
        let mut predicate = construct(&Properties::from_iter(options.iter().copied())).unwrap();
        let before = record();
        let mut after = before.clone();
        assert_eq!(predicate.test(&mut after).unwrap(), name != "record-is-tombstone");
        assert_same_text(&after.key, &before.key, name);
        assert_same_text(&after.value, &before.value, name);
    }
}
