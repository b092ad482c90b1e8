//! What a commit costs when there were thousands before: time and memory of one sink over 10,000 commits to a folder.
//!
//! ```sh
//! cargo bench -p ottla-connector-delta --bench delta_commits            # 10,000 commits of ten rows
//! cargo bench -p ottla-connector-delta --bench delta_commits -- 2000 50 # 2,000 commits of fifty
//! ```
//!
//! One line for every tenth of the run: milliseconds a commit took (half of them, 99 of 100, the longest), what the process
//! holds in memory, and which checkpoint the log has. Flat columns are the promise; the folder is a temporary one, so set
//! `TMPDIR` to choose the disk.

#![allow(clippy::print_stdout)] // Its lines are its purpose.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla_api::prelude::*;
use ottla_api::sink::SinkTaskHost;
use ottla_connector_delta::DeltaSinkConnector;
use ottla_testkit::harness::sink_batch;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let mut numbers = std::env::args().skip(1).filter_map(|text| text.parse::<i64>().ok());
    let commits = numbers.next().unwrap_or(10_000).max(10);
    let rows = numbers.next().unwrap_or(10).max(1);
    let folder = tempfile::tempdir().or_error(ErrorKind::Config, "make a temporary folder")?;
    let url = format!("file:{}", folder.path().display());
    let properties = Properties::from_iter([("store.url", url.as_str()), ("tables.dir", "")]);
    let mut task = DeltaSinkConnector.task(&properties)?;
    let context = SinkTaskContext::new("bench", 0, folder.path().join("state"), Arc::new(Silent));
    task.start(&context).await?;
    let partition = TopicPartition::new("posts", 0);
    task.open(&Positions::from([(partition.clone(), -1)])).await?;

    let mut out = Table::new();
    let (mut times, mut from) = (Vec::new(), 0);
    for commit in 1..=commits {
        let batch = sink_batch(&partition, from..from + rows, from + rows);
        from += rows;
        let begun = Instant::now();
        task.put(&batch).await?;
        let durable = task.flush(FlushReason::CaughtUp).await?;
        times.push(begun.elapsed());
        if durable.get(&partition) != Some(&from) {
            return Err(Error::fatal(format!("a commit was not durable: {durable:?} instead of {from}")));
        }
        if commit % (commits / 10) == 0 {
            out.line(commit, &mut times, folder.path());
        }
    }
    task.close(&[partition], CloseReason::Stopped).await?;
    task.stop().await
}

/// The lines.
struct Table {
    begun: Instant,
}

impl Table {
    fn new() -> Self {
        println!(
            "{:>8} {:>8} {:>8} {:>8} {:>9} {:>11} {:>9}",
            "commits", "p50 ms", "p99 ms", "max ms", "RSS MiB", "checkpoint", "seconds"
        );
        Self { begun: Instant::now() }
    }

    fn line(&mut self, commits: i64, times: &mut Vec<Duration>, folder: &Path) {
        times.sort_unstable();
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1000.0;
        let (half, most, all) = (at(0.5), at(0.99), at(1.0));
        let hint = std::fs::read_to_string(folder.join("posts/_delta_log/_last_checkpoint")).unwrap_or_default();
        let checkpoint =
            hint.split_once("\"version\":").map_or("", |(_, rest)| rest.split([',', '}']).next().unwrap_or(""));
        let (memory, seconds) = (resident() >> 20, self.begun.elapsed().as_secs());
        println!("{commits:>8} {half:>8.1} {most:>8.1} {all:>8.1} {memory:>9} {checkpoint:>11} {seconds:>9}");
        times.clear();
    }
}

/// Bytes of memory that this process holds.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

struct Silent;

impl SinkTaskHost for Silent {
    fn report(&self, _: &TopicPartition, _: &SinkRecord, error: Error) -> Result<()> {
        Err(error)
    }
    fn buffered(&self, _: usize) {}
    fn rewind(&self, _: &TopicPartition, _: i64) {}
    fn delivered(&self, _: Delivery) {}
    fn count(&self, _: &'static str, _: u64) {}
    fn gauge(&self, _: &'static str, _: u64) {}
    fn topic_identity(&self, _: &str) -> Option<String> {
        None
    }
}
