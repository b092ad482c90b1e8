//! The predicates answer as Kafka Connect's do.

mod harness;

use harness::plugin;
use ottla_api::prelude::*;

fn predicate(name: &str, options: &[(&str, &str)]) -> Result<Box<dyn Predicate>> {
    match plugin(name).constructor {
        Constructor::Predicate(construct) => construct(&Properties::from_iter(options.iter().copied())),
        _ => panic!("'{name}' is no predicate"),
    }
}

#[test]
fn a_topic_matches_as_a_whole() {
    let mut predicate =
        predicate("org.apache.kafka.connect.transforms.predicates.TopicNameMatches", &[("pattern", r".*\.pin")])
            .unwrap();
    for (topic, answer) in [("u.pin", true), ("u.pin", true), ("u.pin2", false), ("pin", false), ("a.b.pin", true)] {
        assert_eq!(predicate.test(&mut Record::new(topic, Value::Null)).unwrap(), answer, "{topic}");
    }
}

#[test]
fn a_header_is_found_by_its_name() {
    let mut predicate = predicate("HasHeaderKey", &[("name", "origin")]).unwrap();
    let mut record = Record::new("t", 1i64);
    assert!(!predicate.test(&mut record).unwrap());
    record.headers.add("Origin", "x");
    assert!(!predicate.test(&mut record).unwrap());
    record.headers.add("origin", Value::Null);
    assert!(predicate.test(&mut record).unwrap());
}

#[test]
fn a_tombstone_has_no_value() {
    let mut predicate = predicate("record-is-tombstone", &[]).unwrap();
    assert!(predicate.test(&mut Record::new("t", Value::Null)).unwrap());
    assert!(!predicate.test(&mut Record::new("t", "")).unwrap());
    let mut text = Record::new("t", Value::Null);
    text.value = Payload::json("null".into());
    assert!(predicate.test(&mut text).unwrap());
    text.value = Payload::json("{}".into());
    assert!(!predicate.test(&mut text).unwrap());
    assert!(matches!(text.value, Payload::Json(_)), "the question must not decode the record");
}

#[test]
fn an_expression_answers_and_decodes_what_it_names_alone() {
    let mut predicate = predicate("expression", &[("condition", "topic == 't'")]).unwrap();
    let mut record = Record::new("t", Value::Null);
    record.value = Payload::json("{\"a\":1}".into());
    assert!(predicate.test(&mut record).unwrap());
    assert!(matches!(record.value, Payload::Json(_)), "the question must not decode the record");
    let mut predicate = self::predicate("expression", &[("condition", "value.a == 1")]).unwrap();
    assert!(predicate.test(&mut record).unwrap());
    let error = predicate.test(&mut Record::new("t", Map::new())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PoisonRecord, "{error}");
}

#[test]
fn a_wrong_configuration_is_told_when_it_is_read() {
    let error = predicate("topic-name-matches", &[]).err().unwrap();
    assert_eq!(
        (error.kind(), error.to_string()),
        (ErrorKind::Config, "pattern: is required and has no default".into())
    );
    let error = predicate("topic-name-matches", &[("pattern", "(")]).err().unwrap();
    assert_eq!(error.to_string(), "pattern: is no regular expression: unclosed group");
    let error = predicate("has-header-key", &[("name", "")]).err().unwrap();
    assert_eq!(error.to_string(), "name: must not be empty");
}

#[test]
fn only_deduplication_depends_on_more_than_the_record() {
    let deduplicate = harness::transformation("deduplicate", &Properties::new()).unwrap();
    assert!(!deduplicate.is_deterministic());
    let filter = harness::transformation("filter", &Properties::new()).unwrap();
    assert!(filter.is_deterministic());
}
