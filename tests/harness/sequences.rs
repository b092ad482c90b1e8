//! Rows that count: each belongs to a sequence (a key, a partition) and carries its number in it, so that a table can be
//! checked for every row being there once, whole, and in the order of its sequence.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use crate::delta_log::Row;

/// The row with this number of a sequence. Some are short, some are long, none is like another.
pub fn row(sequence: &str, number: i64) -> String {
    let salt = sequence.bytes().map(usize::from).sum::<usize>();
    let pad = "é".repeat((number as usize * 37 + salt * 11) % 150);
    json!({"sequence": sequence, "number": number, "pad": format!("{sequence}/{number}{pad}")}).to_string()
}

/// What is wrong with the rows of a table.
#[derive(Debug, Default)]
pub struct Mistakes {
    /// Rows that are not there.
    pub lost: usize,
    /// Rows that are there more than once.
    pub duplicated: usize,
    /// Rows that stand before one of a smaller number.
    pub out_of_order: usize,
    /// Rows that nobody issued, or that differ from what was issued.
    pub different: usize,
    messages: Vec<String>,
}

impl Mistakes {
    fn is_empty(&self) -> bool {
        self.lost + self.duplicated + self.out_of_order + self.different == 0
    }

    fn note(&mut self, message: impl FnOnce() -> String) {
        // The first ones tell the story.
        if self.messages.len() < 12 {
            self.messages.push(message());
        }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lost, duplicated, out_of_order, different, messages } = self;
        write!(f, "{lost} lost, {duplicated} duplicated, {out_of_order} out of order, {different} different")?;
        messages.iter().try_for_each(|message| write!(f, "\n  {message}"))
    }
}

/// Checks that the rows are those of the sequences, each from 0 to before its length. The answer is how many there are.
pub fn check(rows: &[Row], lengths: &BTreeMap<String, i64>) -> Result<usize, Mistakes> {
    let mut mistakes = Mistakes::default();
    let mut seen: BTreeMap<&str, BTreeMap<i64, usize>> = BTreeMap::new();
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    for found in rows {
        let sequence = found.get("sequence").and_then(Value::as_str).unwrap_or_default();
        let number = found.get("number").and_then(Value::as_i64).unwrap_or(-1);
        let issued = lengths.get(sequence).is_some_and(|length| (0..*length).contains(&number));
        let whole = || serde_json::from_str::<Row>(&row(sequence, number)).is_ok_and(|expected| expected == *found);
        if !issued || !whole() {
            mistakes.different += 1;
            mistakes.note(|| format!("nobody issued {}", Value::Object(found.clone())));
            continue;
        }
        let times = seen.entry(sequence).or_default().entry(number).or_default();
        *times += 1;
        if *times > 1 {
            mistakes.duplicated += 1;
            mistakes.note(|| format!("{sequence}/{number} is there {times} times"));
            continue;
        }
        if let Some(before) = last.insert(sequence, number)
            && before > number
        {
            mistakes.out_of_order += 1;
            mistakes.note(|| format!("{sequence}/{number} comes after {sequence}/{before}"));
        }
    }
    for (sequence, length) in lengths {
        let numbers = seen.get(sequence.as_str());
        let missing: Vec<i64> = (0..*length).filter(|n| numbers.is_none_or(|found| !found.contains_key(n))).collect();
        if let (Some(first), Some(last)) = (missing.first(), missing.last()) {
            mistakes.lost += missing.len();
            mistakes.note(|| format!("{} rows of {sequence} are missing, from {first} to {last}", missing.len()));
        }
    }
    if mistakes.is_empty() { Ok(rows.len()) } else { Err(mistakes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(numbers: &[i64]) -> Result<usize, Mistakes> {
        let rows: Vec<Row> = numbers.iter().map(|n| serde_json::from_str(&row("a", *n)).unwrap()).collect();
        check(&rows, &BTreeMap::from([("a".to_owned(), 4)]))
    }

    #[test]
    fn each_kind_of_mistake_is_seen() {
        assert_eq!(found(&[0, 1, 2, 3]).unwrap(), 4);
        let counts = |numbers: &[i64]| {
            let mistakes = found(numbers).unwrap_err();
            (mistakes.lost, mistakes.duplicated, mistakes.out_of_order, mistakes.different)
        };
        assert_eq!(counts(&[0, 1, 3]), (1, 0, 0, 0));
        assert_eq!(counts(&[0, 1, 1, 2, 3]), (0, 1, 0, 0));
        assert_eq!(counts(&[0, 2, 1, 3]), (0, 0, 1, 0));
        assert_eq!(counts(&[0, 1, 2, 3, 4]), (0, 0, 0, 1));
        assert_eq!(counts(&[]), (4, 0, 0, 0));
    }
}
