//! The floor under Kafka to Delta: what a bare deltalake writer reaches on JSON lines that lie in memory.
//!
//! ```sh
//! cargo run --release -p ottla -p ottla-connector-delta --features ottla-connector-delta/floor --bin delta-floor -- \
//!     --records 1000000 --commit-rows 500000 --input rows.jsonl
//! ```
//!
//! Lines go through Arrow's JSON reader into deltalake's `RecordBatchWriter`, which writes Parquet and commits every
//! `--commit-rows` rows: no broker, no positions, no second look at the table. One JSON line on standard output says what that
//! took; making the lines and the table is not in it. Without `--input`, lines of about 140 bytes in six fields are made; with it,
//! its lines are repeated until there are enough. The table lies in `--dir`, or in a temporary folder that is removed.

#![allow(clippy::print_stdout)] // Its line is its purpose.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use arrow::datatypes::SchemaRef;
use arrow::json::ReaderBuilder;
use arrow::json::reader::infer_json_schema;
use deltalake_core::DeltaTable;
use deltalake_core::kernel::StructType;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel as _;
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::writer::{DeltaWriter as _, RecordBatchWriter};

/// Rows of a batch on its way from the reader to the writer: what deltalake's own examples use.
const BATCH_ROWS: usize = 8192;
/// How many lines tell the columns.
const INFERRED_FROM: usize = 1000;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The command line.
struct Options {
    records: usize,
    commit_rows: usize,
    input: Option<PathBuf>,
    dir: Option<PathBuf>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Outcome<()> {
    let options = options(std::env::args().skip(1))?;
    let lines = lines(&options)?;
    let (schema, _) = infer_json_schema(Cursor::new(lines.as_bytes()), Some(INFERRED_FROM))?;
    let folder = options
        .dir
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("ottla-delta-floor-{}", std::process::id())));
    std::fs::create_dir_all(&folder)?;
    let written = write(&options, &folder, Arc::new(schema), &lines).await;
    if options.dir.is_none() {
        std::fs::remove_dir_all(&folder)?;
    }
    println!("{}", written?);
    Ok(())
}

fn options(arguments: impl Iterator<Item = String>) -> Outcome<Options> {
    let mut options = Options { records: 1_000_000, commit_rows: 500_000, input: None, dir: None };
    let mut arguments = arguments;
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--records" => options.records = value.parse()?,
            "--commit-rows" => options.commit_rows = value.parse::<usize>()?.max(1),
            "--input" => options.input = Some(value.into()),
            "--dir" => options.dir = Some(value.into()),
            _ => return Err(format!("{name} is none of --records, --commit-rows, --input, --dir").into()),
        }
    }
    Ok(options)
}

/// All lines, each with its line break.
fn lines(options: &Options) -> Outcome<String> {
    let mut lines = String::new();
    let Some(input) = &options.input else {
        for number in 0..options.records {
            // Spread over the day and the users, without a pattern that compresses away.
            let mixed = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
            let second = mixed % 86_400;
            writeln!(
                lines,
                r#"{{"id":{},"user":"user-{:06}","at":"2026-11-{:02}T{:02}:{:02}:{:02}Z","kind":"page.{}","amount":{}.{},"note":"{:032x} of {}"}}"#,
                1_000_000 + number,
                mixed % 500_000,
                1 + mixed % 30,
                second / 3600,
                second / 60 % 60,
                second % 60,
                ["view", "close", "search", "buy"][(mixed % 4) as usize],
                mixed % 1000,
                1 + mixed % 9,
                u128::from(mixed).wrapping_mul(0x2545_f491_4f6c_dd1d_2545_f491_4f6c_dd1d),
                mixed % 97,
            )?;
        }
        return Ok(lines);
    };
    let text = std::fs::read_to_string(input)?;
    if text.trim().is_empty() {
        return Err(format!("{} has no lines", input.display()).into());
    }
    for line in text.lines().cycle().take(options.records) {
        lines.push_str(line);
        lines.push('\n');
    }
    Ok(lines)
}

async fn write(options: &Options, folder: &Path, schema: SchemaRef, lines: &str) -> Outcome<serde_json::Value> {
    let columns: StructType = schema.as_ref().try_into_kernel()?;
    let table = CreateBuilder::new()
        .with_location(url::Url::from_directory_path(folder.canonicalize()?).map_err(|()| "no folder")?.as_str())
        .with_columns(columns.fields().cloned());
    let mut table: DeltaTable = table.await?;
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    let mut writer = RecordBatchWriter::for_table(&table)?;
    let mut decoder = ReaderBuilder::new(schema).with_batch_size(BATCH_ROWS).build_decoder()?;
    let (mut at, mut waiting, mut rows, mut commits) = (0, 0, 0, 0);
    loop {
        let taken = decoder.decode(&lines.as_bytes()[at..])?;
        at += taken;
        let batch = decoder.flush()?;
        let is_end = taken == 0 && batch.is_none();
        if let Some(batch) = batch {
            waiting += batch.num_rows();
            rows += batch.num_rows();
            writer.write(batch).await?;
        }
        if waiting >= options.commit_rows || (is_end && waiting > 0) {
            writer.flush_and_commit(&mut table).await?;
            waiting = 0;
            commits += 1;
        }
        if is_end {
            break;
        }
    }
    let (seconds, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    Ok(serde_json::json!({
        "program": "deltalake",
        "records": rows,
        "bytes": lines.len() - rows,
        "commits": commits,
        "seconds": seconds,
        "cpu_s": cpu,
        "records_per_s": rows as f64 / seconds,
        "records_per_cpu_s": rows as f64 / cpu,
        "peak_rss_bytes": status("VmHWM:") * 1024,
        "input_in_rss_bytes": lines.len(),
    }))
}

/// Seconds of processor time that this process has taken, in hundredths as Linux counts them.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

/// A figure of `/proc/self/status`.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()).and_then(|text| text.parse().ok()).unwrap_or(0)
}
