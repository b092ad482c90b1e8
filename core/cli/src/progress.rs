//! Progress of a run: one live line a connector on a terminal, a log line every few seconds otherwise.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use ottla_api::plugin::PluginKind;
use ottla_runtime::status::{ConnectorStatus, WorkerStatus};
use tracing::info;

use crate::logging::Logging;

/// How often a live line changes.
const LIVE_EVERY: Duration = Duration::from_millis(200);
/// How often a log line is written where nobody watches.
const LOG_EVERY: Duration = Duration::from_secs(5);

/// Shows progress for as long as the future lives; ends by being dropped.
pub(crate) async fn show(status: Arc<WorkerStatus>, logging: Logging) {
    let every = if logging.terminal { LIVE_EVERY } else { LOG_EVERY };
    let mut timer = tokio::time::interval(every);
    timer.tick().await;
    // Every connector is there before the first line is shown: the worker adds them before it runs.
    let connectors = status.connectors();
    let mut lines: Vec<Line> = connectors.iter().map(|connector| Line::new(connector, &logging)).collect();
    loop {
        timer.tick().await;
        for (line, connector) in lines.iter_mut().zip(&connectors) {
            line.update(connector);
        }
    }
}

/// One connector's line, and what it needs to know a rate.
struct Line {
    bar: Option<ProgressBar>,
    records: u64,
    at: Instant,
    rate: f64,
}

impl Line {
    fn new(connector: &ConnectorStatus, logging: &Logging) -> Self {
        let bar = logging.terminal.then(|| {
            // What does not fit the terminal's width is cut off; the log has the whole of it.
            let style = ProgressStyle::with_template("{spinner} {prefix:12} {wide_msg}").expect("a constant template");
            let bar = logging.live.add(ProgressBar::new_spinner().with_style(style));
            bar.set_prefix(connector.name.to_string());
            bar
        });
        Self { bar, records: 0, at: Instant::now(), rate: 0.0 }
    }

    fn update(&mut self, connector: &ConnectorStatus) {
        let counters = &connector.counters;
        let records = counters.read.load(Relaxed);
        let elapsed = self.at.elapsed().as_secs_f64();
        if elapsed > 0.0 {
            let now = (records - self.records) as f64 / elapsed;
            // A live line that jumps five times a second can't be read.
            self.rate = if self.bar.is_some() { self.rate * 0.7 + now * 0.3 } else { now };
        }
        (self.records, self.at) = (records, Instant::now());
        let state = connector.state();
        let lag = counters.lag.load(Relaxed);
        let is_sink = connector.kind == PluginKind::Sink;
        match &self.bar {
            Some(bar) => {
                let lag = if is_sink { format!("lag {}", HumanCount(lag)) } else { String::new() };
                bar.set_message(format!(
                    "{:>9} records {:>7}/s {:>10}  {lag:<10} {state}",
                    HumanCount(records).to_string(),
                    HumanCount(self.rate as u64).to_string(),
                    HumanBytes(counters.bytes.load(Relaxed)).to_string(),
                ));
                bar.tick();
            }
            None => info!(
                connector = %connector.name,
                records,
                per_second = self.rate as u64,
                lag = is_sink.then_some(lag),
                bytes = counters.bytes.load(Relaxed),
                failed = counters.failed.load(Relaxed),
                state = %state,
                "progress"
            ),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
