//! What a run has moved, where it lies, and what went wrong: the table at its end, on standard output.

use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{HumanBytes, HumanCount};
use ottla_api::plugin::PluginKind;
use ottla_runtime::status::{ConnectorStatus, WorkerStatus};
use ottla_runtime::worker::Outcome;

/// The report as text.
pub(crate) fn report(status: &WorkerStatus, outcome: &Outcome, took: Duration) -> String {
    let connectors = status.connectors();
    let mut text = String::new();
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["connector", "class", "read", "dropped", "failed", "written", "objects", "bytes", "state"]);
    for index in 2..=7 {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for connector in &connectors {
        table.add_row(row(connector));
    }
    let _ = writeln!(text, "{table}");
    let mut line = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    for connector in &connectors {
        if let Some(destination) = &connector.destination {
            line(format!("{}: data lies in {destination}", connector.name));
        }
        let dead_letters = connector.counters.dead_letters.load(Relaxed);
        if let Some(topic) = connector.dead_letter_topic.as_ref().filter(|_| dead_letters > 0) {
            line(format!(
                "{}: {} records are in the dead letter queue; look at them with: ottla topics read {topic} --format json",
                connector.name,
                HumanCount(dead_letters)
            ));
        }
        for (name, n) in connector.extra() {
            line(format!("{}: {} {name}", connector.name, HumanCount(n)));
        }
    }
    for sample in connectors.iter().flat_map(|connector| connector.samples()) {
        line(format!("\n{}\n  {}", sample.location, sample.sample.as_deref().unwrap_or_default().trim_end()));
    }
    for (task, error) in &outcome.failures {
        line(format!("\nFAILED {task}: {error}"));
    }
    if outcome.abandoned {
        line("\nThe stop took too long; what was left is delivered again by the next run.".to_owned());
    }
    line(format!("\n{} in {:.1} s", if outcome.exit_code() == 0 { "Done" } else { "Ended" }, took.as_secs_f64()));
    text
}

fn row(connector: &ConnectorStatus) -> Vec<String> {
    let counters = &connector.counters;
    let count = |counter: &std::sync::atomic::AtomicU64| HumanCount(counter.load(Relaxed)).to_string();
    let is_sink = connector.kind == PluginKind::Sink;
    let bytes = if is_sink { &counters.delivered_bytes } else { &counters.bytes };
    vec![
        connector.name.to_string(),
        connector.class.to_owned(),
        count(&counters.read),
        count(&counters.dropped),
        count(&counters.failed),
        count(&counters.written),
        if is_sink { count(&counters.deliveries) } else { "-".to_owned() },
        HumanBytes(bytes.load(Relaxed)).to_string(),
        connector.state().to_string().split(':').next().unwrap_or_default().to_owned(),
    ]
}
