//! The two ways of a JSON record, checked and compacted as text or through the tree, give the same bytes or the same error.
//!
//! `OTTLA_SEED=42 cargo test -p ottla-api --test json_paths` tries the documents of a failed run again; it says which.

use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;
use ottla_api::data::json;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

/// Runs a property over `cases` random inputs; a failure names the seed.
fn check<S: Strategy>(cases: u32, strategy: S, property: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let seed = match std::env::var("OTTLA_SEED") {
        Ok(seed) => seed.parse().expect("OTTLA_SEED is a number"),
        Err(_) => RandomState::new().hash_one(0) % 1_000_000,
    };
    let bytes: Vec<u8> = (0..4).flat_map(|part| (seed + part).to_le_bytes()).collect();
    let config = Config { failure_persistence: None, ..Config::with_cases(cases) };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    match runner.run(&strategy, property) {
        Ok(()) => {}
        Err(TestError::Fail(reason, input)) => panic!("{reason}\nwith {input:?}\nagain with OTTLA_SEED={seed}"),
        Err(TestError::Abort(reason)) => panic!("{reason}; again with OTTLA_SEED={seed}"),
    }
}

/// Both ways at once.
fn same_both_ways(text: &[u8]) -> Result<(), TestCaseError> {
    let bytes = Bytes::copy_from_slice(text);
    match (json::compact(&bytes), json::parse(text)) {
        (Ok(compact), Ok(value)) => {
            let compact_text = String::from_utf8(compact.to_vec()).expect("JSON is UTF-8");
            prop_assert_eq!(&compact_text, &json::to_string(&value));
            // What is compact is not copied; what came in so is not either.
            prop_assert_eq!(json::compact(&compact).unwrap().as_ptr(), compact.as_ptr());
            prop_assert_eq!(compact.as_ptr() == bytes.as_ptr(), compact == bytes);
            prop_assert_eq!(json::parse(&compact).unwrap(), value);
        }
        (Err(compact), Err(parse)) => {
            let message = compact.to_string();
            prop_assert_eq!(&message, &parse.to_string());
            prop_assert!(!message.contains("no single mistake"), "{}", message);
        }
        (compact, parse) => prop_assert!(false, "compact: {compact:?}, parse: {parse:?}"),
    }
    Ok(())
}

/// White space as it may stand between any two tokens; mostly none.
fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![5 => Just(""), 1 => select(vec![" ", "\n", "\t", "\r\n", "    ", " \t\r\n "])]
}

/// A piece of a string's inside: letters of any length in UTF-8, and every form of escape.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z ]{0,40}",
        "[^\"\\\\\\x00-\\x1f]{0,20}",
        select(vec![r#"\""#, r"\\", r"\/", r"\b", r"\f", r"\n", r"\r", r"\t", "\u{7f}", "é", "\u{2028}", "😀"])
            .prop_map(str::to_owned),
        any::<u16>()
            .prop_filter("half of a pair", |unit| !(0xd800..0xe000).contains(unit))
            .prop_map(|unit| format!("\\u{unit:04x}")),
        (0..0x80u16).prop_map(|unit| format!("\\u{unit:04X}")),
        (0xd800..0xdc00u16, 0xdc00..0xe000u16).prop_map(|(high, low)| format!("\\u{high:04X}\\u{low:04x}")),
    ]
}

fn string() -> impl Strategy<Value = String> {
    prop::collection::vec(piece(), 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

/// Names: often the same, also where they look different, and of every length around a word of eight bytes.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => select(vec!["a", "b", "\\u0061", "id", "i\\u0064", "a/b", "a\\/b", "\\n", "\\u000a", "\\u001F", "\\u001f", ""])
            .prop_map(|name| format!("\"{name}\"")),
        2 => "[ab]{0,2}[a-z_]{5,18}[ab]?".prop_map(|name| format!("\"{name}\"")),
        1 => string(),
    ]
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_filter("no word for it", |n| n.is_finite()).prop_map(|n| format!("{n:e}")),
        any::<f64>().prop_filter("no word for it", |n| n.is_finite()).prop_map(json::text_of_f64),
        any::<f32>().prop_filter("no word for it", |n| n.is_finite()).prop_map(json::text_of_f32),
        (-20_000_000_000i64..20_000_000_000, 0..12u32)
            .prop_map(|(n, digits)| format!("{}", n as f64 / 10f64.powi(digits as i32))),
        "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?",
        "-?(0|[1-9][0-9]{0,8})\\.[0-9]{1,9}",
        "[1-9][0-9]{0,400}",
    ]
}

/// A document, right in every way.
fn document() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        3 => number(),
        3 => string(),
        1 => select(vec!["true", "false", "null"]).prop_map(str::to_owned),
    ];
    let value = leaf.prop_recursive(5, 60, 8, |inner| {
        let items = prop::collection::vec((space(), inner.clone(), space()), 0..8);
        let fields = prop::collection::vec((space(), name(), space(), space(), inner, space()), 0..8);
        prop_oneof![
            1 => (space(), items).prop_map(|(empty, items)| {
                let items: Vec<String> = items.into_iter().map(|(a, item, b)| format!("{a}{item}{b}")).collect();
                format!("[{empty}{}]", items.join(","))
            }),
            3 => (space(), fields).prop_map(|(empty, fields)| {
                let field = |(a, name, b, c, value, d)| format!("{a}{name}{b}:{c}{value}{d}");
                let fields: Vec<String> = fields.into_iter().map(field).collect();
                format!("{{{empty}{}}}", fields.join(","))
            }),
        ]
    });
    (space(), value, space()).prop_map(|(a, value, b)| format!("{a}{value}{b}"))
}

#[test]
fn documents_come_out_the_same() {
    check(1000, document(), |text| {
        prop_assert!(json::parse(text.as_bytes()).is_ok());
        same_both_ways(text.as_bytes())
    });
}

#[test]
fn damaged_documents_come_out_the_same_or_fail_with_the_same_words() {
    let byte = prop_oneof![any::<u8>(), select(b"\"\\{}[]:,-+.eE0123456789u \x00\x1f\xc3\xff".to_vec())];
    let damage = prop::collection::vec((any::<Index>(), byte, 0..4u8), 1..4);
    check(2000, (document(), damage), |(text, damages)| {
        let mut text = text.into_bytes();
        for (at, byte, how) in damages {
            let at = at.index(text.len() + 1);
            match how {
                0 => text.insert(at, byte),
                1 => text.truncate(at),
                _ if at == text.len() => text.push(byte),
                2 => text[at] = byte,
                _ => drop(text.remove(at)),
            }
        }
        same_both_ways(&text)
    });
}

#[test]
fn any_bytes_come_out_the_same_or_fail_with_the_same_words() {
    let in_a_string = any::<Vec<u8>>().prop_map(|inside| [b"{\"a\":\"", &inside[..], b"\"}"].concat());
    check(1500, prop_oneof![any::<Vec<u8>>(), in_a_string], |text| same_both_ways(&text));
}

#[test]
fn nesting_ends_at_the_same_depth() {
    let deep = (prop::collection::vec(any::<bool>(), 200..300), space(), any::<bool>());
    check(200, deep, |(levels, space, closed)| {
        let mut text = String::new();
        for object in &levels {
            text.push_str(if *object { "{\"a\":" } else { "[" });
            text.push_str(space);
        }
        text.push('1');
        for object in levels.iter().rev().filter(|_| closed) {
            text.push_str(if *object { "}" } else { "]" });
        }
        prop_assert_eq!(json::parse(text.as_bytes()).is_ok(), closed && levels.len() <= json::DEPTH_MAX);
        same_both_ways(text.as_bytes())
    });
}

#[test]
fn wide_objects_keep_the_last_of_equal_names() {
    let fields = prop::collection::vec((0..400u32, any::<i32>()), 0..120);
    check(300, fields, |fields| {
        let text: Vec<String> = fields.iter().map(|(name, value)| format!("\"field {name}\":{value}")).collect();
        let text = format!("{{{}}}", text.join(","));
        let mut last: Vec<(u32, i32)> = Vec::new();
        for (name, value) in fields {
            match last.iter_mut().find(|(known, _)| *known == name) {
                Some(place) => place.1 = value,
                None => last.push((name, value)),
            }
        }
        let expected: Vec<String> = last.iter().map(|(name, value)| format!("\"field {name}\":{value}")).collect();
        let compact = json::compact(&Bytes::copy_from_slice(text.as_bytes())).unwrap();
        prop_assert_eq!(String::from_utf8_lossy(&compact), format!("{{{}}}", expected.join(",")));
        same_both_ways(text.as_bytes())
    });
}
