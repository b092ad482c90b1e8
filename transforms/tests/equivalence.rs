//! Transformations that work fast, on arbitrary records, beside the same written plainly.
//!
//! They remember where a field stood in the last record, move fields inside of the record and keep results for the next one.
//! None of that may show: whatever came before, each record comes out as the plain way says.

mod harness;

use harness::transformation;
use ottla_api::prelude::*;
use proptest::prelude::*;

/// The names that records and rules draw from: few, so that they often meet, and one too long to lie in the name itself.
const NAMES: [&str; 6] = ["a", "b", "c", "ab", "", "a name that is longer than twenty-three bytes"];

type Fields = Vec<(String, Value)>;

fn name() -> impl Strategy<Value = String> {
    // Options can't name a field without a name.
    prop::sample::select(&NAMES[..4]).prop_map(str::to_owned)
}

fn names() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(name(), 0..4)
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        any::<i64>().prop_map(Value::Int64),
        (-1e6..1e6f64).prop_map(Value::Float64),
        Just(Value::Number("12.30".into())),
        "[ a-c/0-9:.-]{0,12}".prop_map(Value::String),
        Just(Value::from("2020-08-28 03:52:47")),
        Just(Value::Array(vec![Value::Int64(1)])),
    ]
}

/// Fields of different names.
fn fields() -> impl Strategy<Value = Fields> {
    let names = prop::sample::subsequence(NAMES.to_vec(), 0..=NAMES.len()).prop_shuffle();
    names.prop_flat_map(|names| {
        let values = prop::collection::vec(value(), names.len());
        values.prop_map(move |values| names.iter().map(|name| (*name).to_owned()).zip(values).collect())
    })
}

/// Records in a row.
fn rows() -> impl Strategy<Value = Vec<Fields>> {
    prop::collection::vec(fields(), 1..6)
}

fn record(fields: &Fields) -> Record {
    let mut record = Record::new("topic", fields.iter().cloned().collect::<Map>());
    record.timestamp = Some(fields.len() as i64 * 43_200_000);
    record
}

/// What a transformation makes of a row: the fields, or that it drops or refuses it.
fn outcome(step: &mut dyn Transformation, row: &Fields) -> Result<Option<Fields>, String> {
    match step.apply(record(row)) {
        Ok(Some(mut record)) => match record.value.value().unwrap() {
            Value::Map(map) => Ok(Some(map.iter().map(|(name, value)| (name.to_owned(), value.clone())).collect())),
            other => panic!("no fields any more: {other:?}"),
        },
        Ok(None) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

fn step(name: &str, options: &[(&str, String)]) -> Result<Box<dyn Transformation>> {
    let mut properties = Properties::new();
    options.iter().filter(|(_, text)| !text.is_empty()).for_each(|(key, text)| properties.set(*key, text.as_str()));
    transformation(name, &properties)
}

/// `replace-field`, field by field.
fn replaced(row: &Fields, exclude: &[String], include: &[String], renames: &[(String, String)]) -> Fields {
    let mut result = Fields::new();
    for (name, value) in row {
        if exclude.contains(name) || !include.is_empty() && !include.contains(name) {
            continue;
        }
        let name = renames.iter().find(|(from, _)| from == name).map_or(name, |(_, to)| to);
        match result.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value.clone(),
            None => result.push((name.clone(), value.clone())),
        }
    }
    result
}

/// `select-fields`, field by field.
fn selected(row: &Fields, fields: &[(String, String)], missing: &str) -> Result<Fields, String> {
    let mut result = Fields::new();
    for (from, to) in fields {
        match (row.iter().find(|(name, _)| name == from), missing) {
            (Some((_, value)), _) => result.push((to.clone(), value.clone())),
            (None, "null") => result.push((to.clone(), Value::Null)),
            (None, "skip") => (),
            (None, _) => return Err(format!("field '{from}' is missing")),
        }
    }
    Ok(result)
}

/// `combine-fields` into an array, field by field.
fn combined(row: &Fields, parts: &[String], into: &str, keep: bool) -> Fields {
    let part =
        |part: &String| row.iter().find(|(name, _)| name == part).map_or(Value::Null, |(_, value)| value.clone());
    let values: Vec<Value> = parts.iter().map(part).collect();
    let mut merged = Some(if values.iter().all(Value::is_null) { Value::Null } else { Value::Array(values) });
    let has_target = row.iter().any(|(name, _)| name == into);
    let mut result = Fields::new();
    for (name, value) in row {
        let is_part = parts.contains(name);
        if name == into || is_part && !keep && !has_target && merged.is_some() {
            result.push((into.to_owned(), merged.take().expect("names differ")));
        } else if keep || !is_part {
            result.push((name.clone(), value.clone()));
        }
    }
    result.extend(merged.map(|value| (into.to_owned(), value)));
    result
}

fn pairs(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(from, to)| format!("{from}:{to}")).collect::<Vec<_>>().join(",")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fields_are_replaced_as_one_by_one(
        rows in rows(),
        exclude in names(),
        include in names(),
        renames in prop::collection::vec((name(), name()), 0..4),
    ) {
        let options =
            [("exclude", exclude.join(",")), ("include", include.join(",")), ("renames", pairs(&renames))];
        let mut step = step("replace-field", &options).unwrap();
        for row in &rows {
            prop_assert_eq!(outcome(&mut *step, row), Ok(Some(replaced(row, &exclude, &include, &renames))));
        }
    }

    #[test]
    fn fields_are_selected_as_one_by_one(
        rows in rows(),
        fields in prop::collection::vec((name(), name()), 1..5),
        missing in prop::sample::select(&["null", "skip", "fail"][..]),
    ) {
        let Ok(mut step) = step("select-fields", &[("fields", pairs(&fields)), ("missing", missing.to_owned())]) else {
            // Two fields of one name.
            return Ok(());
        };
        for row in &rows {
            prop_assert_eq!(outcome(&mut *step, row), selected(row, &fields, missing).map(Some));
        }
    }

    #[test]
    fn fields_are_combined_as_one_by_one(rows in rows(), parts in names(), into in name(), keep: bool) {
        let options = [("fields", parts.join(",")), ("into", into.clone()), ("keep", keep.to_string())];
        let Ok(mut step) = step("combine-fields", &options) else { return Ok(()) };
        for row in &rows {
            prop_assert_eq!(outcome(&mut *step, row), Ok(Some(combined(row, &parts, &into, keep))));
        }
    }

    #[test]
    fn what_came_before_does_not_show(rows in rows()) {
        for (name, options) in [
            ("cast", &[("spec", "a:string,b:int32")][..]),
            ("concat-fields", &[("fields", "a,b"), ("into", "c")]),
            ("header-from", &[("fields", "a"), ("headers", "h"), ("operation", "move")]),
            ("insert-field", &[("topic.field", "a"), ("timestamp.field", "at")]),
            ("mask-field", &[("fields", "a,b")]),
            ("null-if", &[("blank", "true"), ("exact.a", "b")]),
            ("parse-quantity", &[("fields", "a,b")]),
            ("parse-timestamp", &[("fields", "a,b")]),
            ("require-fields", &[("fields", "a,b")]),
            ("split-field", &[("fields", "a,b")]),
            ("strip-prefix", &[("fields", "a,b"), ("prefix", "a")]),
            ("timestamp-converter", &[("field", "a"), ("target.type", "string"), ("format", "yyyy-MM-dd HH:mm:ss")]),
            ("timestamp-router", &[]),
        ] {
            let options: Vec<_> = options.iter().map(|(key, text)| (*key, (*text).to_owned())).collect();
            let mut experienced = step(name, &options).unwrap();
            for row in &rows {
                let mut fresh = step(name, &options).unwrap();
                let error = |error: Error| error.to_string();
                prop_assert_eq!(
                    experienced.apply(record(row)).map_err(error),
                    fresh.apply(record(row)).map_err(error),
                    "{}", name
                );
            }
        }
    }
}
