//! Holds what was issued, and checks what arrived: every record once, whole, and in order.
//!
//! It compares bytes, not counts and not identifiers: an object that holds the right number of wrong records is a mistake
//! like a lost one. It knows the layout of object names from their documentation.

use std::collections::BTreeMap;
use std::fmt;

use crate::kafka::Place;
use crate::store::Object;

/// How many mistakes a failure lists; the first ones tell the story.
const MISTAKES_SHOWN: usize = 12;

/// What was issued, by topic partition and offset.
#[derive(Debug, Clone)]
pub struct Oracle {
    /// The first folder of every object's name.
    topics_dir: String,
    /// Whether objects in other folders are somebody else's.
    shares_bucket: bool,
    issued: BTreeMap<Place, BTreeMap<i64, Vec<u8>>>,
}

/// What a check without mistakes has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Objects.
    pub objects: usize,
    /// Records in them.
    pub records: usize,
}

/// What is wrong with the objects.
#[derive(Debug, Default)]
pub struct Mistakes {
    /// Records in no object.
    pub lost: usize,
    /// Records in two objects.
    pub duplicated: usize,
    /// Records that differ from what was issued, or that nobody issued.
    pub different: usize,
    /// Objects that should not be there, or whose names don't say what they hold.
    pub unexpected: usize,
    messages: Vec<String>,
}

impl Default for Oracle {
    fn default() -> Self {
        Self::new()
    }
}

impl Oracle {
    /// An oracle that expects nothing yet, for objects under `topics/`.
    pub fn new() -> Self {
        Self { topics_dir: "topics".to_owned(), shares_bucket: false, issued: BTreeMap::new() }
    }

    /// An oracle for objects under this `topics.dir`, of a bucket in which others write under theirs.
    pub fn in_dir(topics_dir: &str) -> Self {
        Self { topics_dir: topics_dir.to_owned(), shares_bucket: true, issued: BTreeMap::new() }
    }

    /// Expects a record: its line, without the newline.
    pub fn issue(&mut self, topic: &str, partition: i32, offset: i64, line: impl Into<Vec<u8>>) {
        let before = self.issued.entry((topic.to_owned(), partition)).or_default().insert(offset, line.into());
        assert!(before.is_none(), "{topic}-{partition}@{offset} is issued once");
    }

    /// How many records it expects.
    pub fn expected(&self) -> usize {
        self.issued.values().map(BTreeMap::len).sum()
    }

    /// Checks all objects of a bucket.
    pub fn check(&self, objects: &[Object]) -> Result<Seen, Mistakes> {
        let mut mistakes = Mistakes::default();
        let mut by_place: BTreeMap<&Place, BTreeMap<i64, &Object>> = BTreeMap::new();
        let folder = format!("{}/", self.topics_dir);
        for object in objects.iter().filter(|object| !self.shares_bucket || object.key.starts_with(&folder)) {
            let name = object.key.strip_prefix(&folder).and_then(parse_name);
            let named = name.and_then(|(place, offset)| Some((self.issued.get_key_value(&place)?.0, offset)));
            match named {
                Some((place, offset)) => {
                    by_place.entry(place).or_default().insert(offset, object);
                }
                None => mistakes.unexpected(format!("unexpected object {}", object.key)),
            }
        }
        for (place, issued) in &self.issued {
            check_partition(place, issued, by_place.get(place).unwrap_or(&BTreeMap::new()), &mut mistakes);
        }
        if mistakes.messages.is_empty() {
            Ok(Seen { objects: by_place.values().map(BTreeMap::len).sum(), records: self.expected() })
        } else {
            Err(mistakes)
        }
    }

    /// Checks all objects of a bucket, and fails with what is wrong. `replay` says how to meet the same again.
    #[track_caller]
    pub fn assert(&self, objects: &[Object], replay: &str) -> Seen {
        assert!(self.expected() > 0, "an oracle that expects nothing can't fail; {replay}");
        match self.check(objects) {
            Ok(seen) => seen,
            Err(mistakes) => panic!("{mistakes}\n{replay}"),
        }
    }
}

/// Reads the objects of one partition as one sequence and compares it with what was issued.
fn check_partition(
    (topic, partition): &Place,
    issued: &BTreeMap<i64, Vec<u8>>,
    objects: &BTreeMap<i64, &Object>,
    mistakes: &mut Mistakes,
) {
    let place = format!("{topic}-{partition}");
    // The offset of the next record that no object has held yet.
    let mut next = issued.keys().next().copied().unwrap_or(0);
    for (start, object) in objects {
        if *start > next {
            mistakes.lost(&place, issued, next, *start, &format!("{} begins", object.key));
        }
        if !issued.contains_key(start) {
            mistakes.unexpected(format!("{}: no record has the offset in its name", object.key));
            continue;
        }
        let Some(lines) = object.content.strip_suffix(b"\n") else {
            mistakes.different(format!("{} does not end with a newline", object.key));
            continue;
        };
        let mut expected = issued.range(start..);
        let mut end = *start;
        for (number, line) in lines.split(|byte| *byte == b'\n').enumerate() {
            let Some((offset, issued)) = expected.next() else {
                mistakes.different(format!("{} line {}: nobody issued {}", object.key, number + 1, show(line)));
                break;
            };
            if *offset < next {
                mistakes.duplicated(format!(
                    "{} line {}: {place}@{offset} is in an earlier object too",
                    object.key,
                    number + 1
                ));
            }
            if line != issued {
                let (line, issued) = (show(line), show(issued));
                mistakes.different(format!(
                    "{} line {}: {place}@{offset} is {line}, was issued as {issued}",
                    object.key,
                    number + 1
                ));
            }
            end = offset + 1;
        }
        next = next.max(end);
    }
    mistakes.lost(&place, issued, next, i64::MAX, "the end");
}

/// Place and start offset of `<topic>/partition=<p>/<topic>+<p>+<10 digits>.json`; none for any other name.
fn parse_name(name: &str) -> Option<(Place, i64)> {
    let [topic, partition, file] = name.split('/').collect::<Vec<_>>().try_into().ok()?;
    let partition: i32 = partition.strip_prefix("partition=")?.parse().ok()?;
    let digits = file.strip_prefix(&format!("{topic}+{partition}+"))?.strip_suffix(".json")?;
    let whole = digits.len() == 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
    whole.then_some(((topic.to_owned(), partition), digits.parse().ok()?))
}

fn show(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    match text.char_indices().nth(100) {
        Some((end, _)) => format!("'{}..'", &text[..end]),
        None => format!("'{text}'"),
    }
}

impl Mistakes {
    fn lost(&mut self, place: &str, issued: &BTreeMap<i64, Vec<u8>>, from: i64, to: i64, before: &str) {
        if from >= to {
            return;
        }
        let offsets: Vec<i64> = issued.range(from..to).map(|(offset, _)| *offset).collect();
        if let (Some(first), Some(last)) = (offsets.first(), offsets.last()) {
            self.lost += offsets.len();
            self.messages.push(format!(
                "{place}: {} records are lost, offsets {first} to {last}, before {before}",
                offsets.len()
            ));
        }
    }

    fn duplicated(&mut self, message: String) {
        self.duplicated += 1;
        self.messages.push(message);
    }

    fn different(&mut self, message: String) {
        self.different += 1;
        self.messages.push(message);
    }

    fn unexpected(&mut self, message: String) {
        self.unexpected += 1;
        self.messages.push(message);
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lost, duplicated, different, unexpected, messages } = self;
        write!(
            f,
            "{lost} records lost, {duplicated} duplicated, {different} different, {unexpected} objects unexpected"
        )?;
        for message in messages.iter().take(MISTAKES_SHOWN) {
            write!(f, "\n  {message}")?;
        }
        match messages.len().saturating_sub(MISTAKES_SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oracle(records: i64) -> Oracle {
        let mut oracle = Oracle::new();
        for offset in 0..records {
            oracle.issue("t", 0, offset, format!("r{offset}"));
        }
        oracle
    }

    fn object(start: i64, lines: &str) -> Object {
        let content = lines.split(' ').flat_map(|line| format!("{line}\n").into_bytes()).collect();
        Object { key: format!("topics/t/partition=0/t+0+{start:010}.json"), content }
    }

    /// Lost, duplicated, different, unexpected.
    fn found(records: i64, objects: &[Object]) -> [usize; 4] {
        match oracle(records).check(objects) {
            Ok(_) => [0; 4],
            Err(m) => [m.lost, m.duplicated, m.different, m.unexpected],
        }
    }

    #[test]
    fn a_whole_sequence_is_accepted_however_it_is_cut() {
        let seen = oracle(5).check(&[object(0, "r0 r1"), object(2, "r2"), object(3, "r3 r4")]).unwrap();
        assert_eq!(seen, Seen { objects: 3, records: 5 });
        assert_eq!(found(1, &[object(0, "r0")]), [0; 4]);
    }

    #[test]
    fn what_is_lost_is_found_at_the_start_in_the_middle_and_at_the_end() {
        assert_eq!(found(5, &[object(1, "r1 r2 r3 r4")]), [1, 0, 0, 0]);
        assert_eq!(found(5, &[object(0, "r0"), object(3, "r3 r4")]), [2, 0, 0, 0]);
        assert_eq!(found(5, &[object(0, "r0 r1 r2")]), [2, 0, 0, 0]);
        assert_eq!(found(5, &[]), [5, 0, 0, 0]);
    }

    #[test]
    fn a_record_in_two_objects_is_found() {
        assert_eq!(found(5, &[object(0, "r0 r1 r2"), object(2, "r2 r3 r4")]), [0, 1, 0, 0]);
        assert_eq!(found(5, &[object(0, "r0 r1 r2 r3 r4"), object(2, "r2 r3")]), [0, 2, 0, 0]);
    }

    #[test]
    fn what_differs_by_one_byte_is_found() {
        assert_eq!(found(2, &[object(0, "r0 r2")]), [0, 0, 1, 0]);
        assert_eq!(found(2, &[object(0, "r1 r0")]), [0, 0, 2, 0]);
        let cut = Object { content: b"r0\nr1".to_vec(), ..object(0, "r0") };
        assert_eq!(found(2, &[cut]), [2, 0, 1, 0]);
        assert_eq!(found(2, &[object(0, "r0 r1 r2")]), [0, 0, 1, 0]);
    }

    #[test]
    fn objects_of_other_names_are_found() {
        for key in [
            "topics/u/partition=0/u+0+0000000000.json",
            "topics/t/partition=1/t+1+0000000000.json",
            "topics/t/partition=0/t+0+000000000.json",
            "topics/t/partition=0/t+1+0000000000.json",
            "t/partition=0/t+0+0000000000.json",
            "topics/t/partition=0/t+0+0000000009.json",
        ] {
            let odd = Object { key: key.to_owned(), content: b"r0\n".to_vec() };
            assert_eq!(found(1, &[object(0, "r0"), odd]), [0, 0, 0, 1], "{key}");
        }
    }
}
