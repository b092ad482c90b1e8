//! JSON without schemas, converted rightly or with one bug.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use bytes::Bytes;
use ottla_api::data::json;
use ottla_api::prelude::*;
use ottla_testkit::converter_suite::ConverterSuite;

use crate::{Planted, every_bug_is_found};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bug {
    None,
    CutsNumbers,
    /// Every second text has a blank at its end.
    WritesBlanks,
    WritesNull,
    FailsTheTask,
    DecodesOtherwise,
    BreaksOnBadBytes,
}

const BUGS: &[Planted<Bug>] = &[
    ("round_trips", Bug::CutsNumbers, "came back differently"),
    ("bytes_are_stable", Bug::WritesBlanks, "became other bytes"),
    ("null_is_null", Bug::WritesNull, "null without a schema must be no bytes"),
    ("hostile_bytes_fail_one_record", Bug::FailsTheTask, "bytes that can't be read fail one record"),
    ("decoding_at_once_is_the_same", Bug::DecodesOtherwise, "are other data than decoded later"),
    ("bytes_before_change_nothing", Bug::BreaksOnBadBytes, "after other bytes"),
];

struct Json {
    bug: Bug,
    written: AtomicU64,
    broken: AtomicBool,
}

impl Converter for Json {
    fn to_connect(&self, _topic: &str, bytes: Option<&Bytes>) -> Result<Payload> {
        let Some(bytes) = bytes else { return Ok(Payload::null()) };
        match json::parse(bytes) {
            Ok(_) if self.broken.load(SeqCst) => Ok(Payload::schemaless("broken")),
            Ok(value) => Ok(Payload::schemaless(value)),
            Err(error) => {
                self.broken.store(self.bug == Bug::BreaksOnBadBytes, SeqCst);
                Err(if self.bug == Bug::FailsTheTask { error.of_kind(ErrorKind::Fatal) } else { error })
            }
        }
    }

    fn to_connect_decoded(&self, topic: &str, bytes: Option<&Bytes>) -> Result<Payload> {
        let payload = self.to_connect(topic, bytes)?;
        let other = self.bug == Bug::DecodesOtherwise && !payload.is_null();
        Ok(if other { Payload::schemaless("other") } else { payload })
    }

    fn from_connect(&self, _topic: &str, payload: &Payload) -> Result<Option<Bytes>> {
        if payload.is_null() {
            return Ok((self.bug == Bug::WritesNull).then(|| Bytes::from_static(b"null")));
        }
        let mut text = Vec::new();
        payload.write_json(&Default::default(), &mut text);
        let mut text = String::from_utf8(text).unwrap();
        if self.bug == Bug::CutsNumbers {
            text = text.replace(".5", "");
        }
        if self.bug == Bug::WritesBlanks && self.written.fetch_add(1, SeqCst) % 2 == 1 {
            text.push(' ');
        }
        Ok(Some(text.into()))
    }
}

fn suite(bug: Bug) -> ConverterSuite {
    let converter = Json { bug, written: AtomicU64::new(0), broken: AtomicBool::new(false) };
    ConverterSuite::new(Box::new(converter)).schemaless(vec![Value::Int64(1), Value::Float64(1.5), "text".into()])
}

#[tokio::test]
async fn every_rule_for_converters_finds_its_bug() {
    every_bug_is_found(ConverterSuite::RULES, BUGS, Bug::None, async |bug, rule| suite(bug).check(rule)).await;
    suite(Bug::None).run();
}
