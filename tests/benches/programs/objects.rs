//! Counts what a run left in a bucket: lines, different records, their order, and what the objects are called.

#![expect(clippy::print_stdout, reason = "the driver reads what a program prints")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;

/// Reads all files below a folder as JSON lines and prints, as one line of JSON, what they hold.
///
/// Records are told apart by an integer field of theirs, from 0 to one less than their number.
#[derive(Debug, Parser)]
struct Args {
    folder: PathBuf,
    /// The integer field that tells records apart.
    #[arg(long)]
    field: String,
    /// How many records there should be.
    #[arg(long)]
    records: u64,
    /// The partitions of the topic: record i is in partition i modulo this.
    #[arg(long, default_value_t = 16)]
    partitions: u64,
    /// Records of an object, where names of objects say a partition and an offset, `<topic>+<partition>+<offset>.json`.
    #[arg(long)]
    flush: Option<u64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let mut files = Vec::new();
    list(&args.folder, &mut files)?;
    // Names with an offset are padded with zeros: sorted by name is sorted by offset.
    files.sort();
    let mut found = Found::new(args.records);
    for file in &files {
        found.read(&args, file)?;
    }
    println!(
        "{}",
        serde_json::json!({
            "objects": files.len(),
            "lines": found.lines,
            "distinct": found.distinct,
            "unknown": found.unknown,
            "out_of_order": found.out_of_order,
            "wrongly_named": found.wrongly_named,
        })
    );
    Ok(())
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))? {
        let entry = entry?;
        // Names that begin with a dot are the store's own business.
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => list(&entry.path(), files)?,
            false => files.push(entry.path()),
        }
    }
    Ok(())
}

struct Found {
    lines: u64,
    distinct: u64,
    /// Lines without the field, or with a number that no record has.
    unknown: u64,
    /// Lines whose number is not larger than that of the line before them in their partition.
    out_of_order: u64,
    /// Objects whose name is not that of `flush` records from a multiple of `flush` on, or which hold something else.
    wrongly_named: u64,
    seen: Vec<bool>,
    last: BTreeMap<u64, u64>,
}

impl Found {
    fn new(records: u64) -> Self {
        Self {
            lines: 0,
            distinct: 0,
            unknown: 0,
            out_of_order: 0,
            wrongly_named: 0,
            seen: vec![false; records as usize],
            last: BTreeMap::new(),
        }
    }

    fn read(&mut self, args: &Args, file: &Path) -> Result<(), Box<dyn Error>> {
        let text = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let marker = format!("\"{}\":", args.field).into_bytes();
        let mut numbers = Vec::new();
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            self.lines += 1;
            match number_after(line, &marker).filter(|number| *number < self.seen.len() as u64) {
                Some(number) => numbers.push(number),
                None => self.unknown += 1,
            }
        }
        for &number in &numbers {
            let seen = &mut self.seen[number as usize];
            self.distinct += u64::from(!*seen);
            *seen = true;
            let before = self.last.insert(number % args.partitions, number);
            self.out_of_order += u64::from(before.is_some_and(|before| before >= number));
        }
        if let Some(flush) = args.flush {
            self.wrongly_named += u64::from(!is_well_named(file, &numbers, flush, args.partitions));
        }
        Ok(())
    }
}

/// Whether an object holds the `flush` records that its name promises.
fn is_well_named(file: &Path, numbers: &[u64], flush: u64, partitions: u64) -> bool {
    let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let mut parts = name.rsplit('+').map(|part| part.parse::<u64>().ok());
    let (Some(Some(offset)), Some(Some(partition))) = (parts.next(), parts.next()) else { return false };
    let promised = (offset..offset + flush).map(|offset| offset * partitions + partition);
    offset % flush == 0 && numbers.iter().copied().eq(promised)
}

/// The integer that follows the first `"field":` of a line.
fn number_after(line: &[u8], marker: &[u8]) -> Option<u64> {
    let at = line.windows(marker.len()).position(|window| window == marker)? + marker.len();
    let rest = line[at..].trim_ascii_start();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_holds_the_records_that_its_name_promises() {
        let name = Path::new("topics/t/partition=3/t+3+0000000002.json");
        assert!(is_well_named(name, &[35, 51], 2, 16));
        assert!(!is_well_named(name, &[35], 2, 16), "one is missing");
        assert!(!is_well_named(name, &[51, 35], 2, 16), "the order is another one");
        assert!(!is_well_named(name, &[36, 52], 2, 16), "they are of another partition");
        let odd = Path::new("topics/t/partition=3/t+3+0000000001.json");
        assert!(!is_well_named(odd, &[19, 35], 2, 16), "no object begins there");
    }

    #[test]
    fn the_number_is_that_of_the_field() {
        assert_eq!(number_after(br#"{"amount":1.5,"id":42,"name":"x"}"#, br#""id":"#), Some(42));
        assert_eq!(number_after(br#"{"index": 7, "unique_id": "a"}"#, br#""index":"#), Some(7));
        assert_eq!(number_after(br#"{"name":"x"}"#, br#""id":"#), None);
        assert_eq!(number_after(br#"{"id":"x"}"#, br#""id":"#), None);
    }
}
