//! What a source is to yield, as JSON lines.

use std::collections::BTreeMap;
use std::path::Path;

use ottla_api::data::json;
use ottla_api::prelude::*;

/// The parts of a record that a line may name.
const PARTS: [&str; 3] = ["topic", "key", "value"];

/// The lines of a file. Each is the value of a record; or an object of nothing but `value` and, where they matter, `topic` and
/// `key`, each as JSON.
#[derive(Debug)]
pub(super) struct Expectation(Vec<BTreeMap<&'static str, Value>>);

impl Expectation {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// Where it can't be read, or a line is not JSON.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).or_error(ErrorKind::Config, format!("expect: read {}", path.display()))?;
        let mut lines = Vec::new();
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let value = json::parse(line.as_bytes())
                .map_err(|error| Error::config(format!("expect: {}:{number}: {error}", path.display())))?;
            lines.push(parts_of(value));
        }
        Ok(Self(lines))
    }

    /// Compares with what came. Where there are several source partitions, only the order within each matters.
    ///
    /// # Panics
    ///
    /// At the first record that differs.
    pub(super) fn compare(&self, output: &[SourceRecord]) {
        let mut rest: Vec<&BTreeMap<&str, Value>> = self.0.iter().collect();
        let mut partitions: BTreeMap<&SourcePartition, Vec<&Record>> = BTreeMap::new();
        for record in output {
            partitions.entry(&record.source_partition).or_default().push(&record.record);
        }
        for (partition, records) in partitions {
            let mut from = 0;
            for record in records {
                let found =
                    rest[from..].iter().position(|due| due.iter().all(|(part, due)| part_of(record, part) == *due));
                let Some(at) = found else {
                    let next = rest.get(from).map_or("nothing".to_owned(), |due| shown(due.iter()));
                    let parts = PARTS.map(|part| (part, part_of(record, part)));
                    let record = shown(parts.iter().map(|(part, value)| (part, value)));
                    panic!("of source partition {partition} came {record}\nwhere the file has       {next}");
                };
                from += at;
                rest.remove(from);
            }
        }
        if let Some(missing) = rest.first() {
            panic!("{} records of the file did not come, the first is {}", rest.len(), shown(missing.iter()));
        }
    }
}

/// A line that names parts, or one that is the value.
fn parts_of(line: Value) -> BTreeMap<&'static str, Value> {
    match &line {
        Value::Map(map) if map.get("value").is_some() && map.iter().all(|(name, _)| PARTS.contains(&name)) => {
            PARTS.iter().filter_map(|part| Some((*part, map.get(part)?.clone()))).collect()
        }
        _ => BTreeMap::from([("value", line)]),
    }
}

/// A part of a record as JSON reads it.
fn part_of(record: &Record, part: &str) -> Value {
    let payload = match part {
        "topic" => return Value::from(record.topic.as_ref()),
        "key" => &record.key,
        _ => &record.value,
    };
    let mut text = Vec::new();
    payload.write_json(&Default::default(), &mut text);
    json::parse(&text).unwrap_or(Value::Null)
}

fn shown<'a>(parts: impl Iterator<Item = (&'a &'a str, &'a Value)>) -> String {
    parts.map(|(part, value)| format!("{part} {}", json::to_string(value))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(values: &[(&str, i64)]) -> Vec<SourceRecord> {
        let offset = || SourceOffset::new([("n", 0i64)]);
        let record = |(partition, n): &(&str, i64)| {
            SourceRecord::new(Record::new("t", *n), SourcePartition::new([("p", *partition)]), offset())
        };
        values.iter().map(record).collect()
    }

    fn expectation(text: &str) -> Expectation {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.jsonl");
        std::fs::write(&path, text).unwrap();
        Expectation::read(&path).unwrap()
    }

    #[test]
    fn the_order_counts_within_a_source_partition() {
        expectation("1\n{\"value\":7,\"topic\":\"t\"}\n2\n").compare(&output(&[("a", 1), ("a", 2), ("b", 7)]));
    }

    #[test]
    #[should_panic(expected = "came topic \"t\", key null, value 1")]
    fn another_order_is_another_output() {
        expectation("1\n2\n").compare(&output(&[("a", 2), ("a", 1)]));
    }

    #[test]
    #[should_panic(expected = "1 records of the file did not come, the first is value 3")]
    fn what_is_missing_is_named() {
        expectation("1\n3\n").compare(&output(&[("a", 1)]));
    }
}
