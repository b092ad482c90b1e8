//! What a run has moved, where it lies, and what went wrong: the table at its end, on standard output.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{HumanBytes, HumanCount};
use ottla_api::Error;
use ottla_api::plugin::PluginKind;
use ottla_runtime::status::{ConnectorStatus, TaskState, WorkerStatus};
use ottla_runtime::worker::Outcome;

/// How much of a record is shown.
const SAMPLE_CHARS: usize = 160;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// When everything was durable, as asked.
    CaughtUp,
    /// When somebody stopped it, or its time was over.
    Stopped,
    /// By a signal, before everything was durable.
    Interrupted,
    /// With something failed.
    Failed,
}

/// The report as text. `place` is what `ottla topics` needs to find the topics.
pub(crate) fn report(status: &WorkerStatus, outcome: &Outcome, end: End, took: Duration, place: &str) -> String {
    let connectors = status.connectors();
    let mut text = String::new();
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["connector", "read", "dropped", "failed", "written", "objects", "bytes", "state"]);
    for index in 1..=6 {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for connector in &connectors {
        table.add_row(row(connector, end));
    }
    // Not wider than a terminal of 80 columns, as long as names and numbers allow it.
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let _ = writeln!(text, "{}\n", table.trim_fmt());
    let mut line = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    for connector in &connectors {
        if let Some(destination) = &connector.destination {
            line(format!("{}: data lies in {destination}", connector.name));
        }
        let dead_letters = connector.counters.dead_letters.load(Relaxed);
        if let Some(topic) = connector.dead_letter_topic.as_ref().filter(|_| dead_letters > 0) {
            let are =
                if dead_letters == 1 { "1 record is" } else { &format!("{} records are", HumanCount(dead_letters)) };
            line(format!(
                "{}: {are} in the dead letter queue; to look: ottla topics read {topic} --format json{place}",
                connector.name,
            ));
        }
        // `objects.adopted` reads better in words.
        for (name, n) in connector.extra().into_iter().filter(|(_, n)| *n > 0) {
            line(format!("{}: {} {}", connector.name, HumanCount(n), name.replace('.', " ")));
        }
    }
    for sample in connectors.iter().flat_map(|connector| connector.samples()) {
        line(format!("\n{}\n  {}", sample.location, shortened(sample.sample.as_deref().unwrap_or_default())));
    }
    for (tasks, error) in by_error(&outcome.failures) {
        line(format!("\nFAILED {tasks}: {error}"));
    }
    if outcome.abandoned {
        line("\nThe stop took too long; what was left is delivered again by the next run.".to_owned());
    }
    if end == End::Interrupted {
        line("\nStopped before everything was durable; the next run goes on from there.".to_owned());
    }
    let ended = if matches!(end, End::CaughtUp | End::Stopped) { "Done" } else { "Ended" };
    line(format!("\n{ended} in {:.1} s", took.as_secs_f64()));
    text
}

fn row(connector: &ConnectorStatus, end: End) -> Vec<String> {
    let counters = &connector.counters;
    let count = |counter: &AtomicU64| HumanCount(counter.load(Relaxed)).to_string();
    let is_sink = connector.kind == PluginKind::Sink;
    let bytes = if is_sink { &counters.delivered_bytes } else { &counters.bytes };
    let state = match connector.state() {
        TaskState::Stopped if end == End::CaughtUp && is_sink => "caught up".to_owned(),
        state => state.to_string().split(':').next().unwrap_or_default().to_owned(),
    };
    vec![
        connector.name.to_string(),
        count(&counters.read),
        count(&counters.dropped),
        count(&counters.failed),
        count(&counters.written),
        if is_sink { count(&counters.deliveries) } else { "-".to_owned() },
        HumanBytes(bytes.load(Relaxed)).to_string(),
        state,
    ]
}

/// One line of a record, cut with a sign that it is.
fn shortened(sample: &str) -> String {
    let sample = sample.trim_end();
    match sample.char_indices().nth(SAMPLE_CHARS) {
        Some((end, _)) => format!("{}…", &sample[..end]),
        None => sample.to_owned(),
    }
}

/// Tasks that failed for the same reason stand together.
fn by_error(failures: &[(String, Arc<Error>)]) -> Vec<(String, String)> {
    let mut groups: Vec<(Vec<&str>, String)> = Vec::new();
    for (task, error) in failures {
        let error = error.to_string();
        match groups.iter_mut().find(|(_, known)| *known == error) {
            Some((tasks, _)) => tasks.push(task),
            None => groups.push((vec![task], error)),
        }
    }
    let joined = |(mut tasks, error): (Vec<&str>, String)| {
        tasks.sort_unstable();
        (tasks.join(", "), error)
    };
    groups.into_iter().map(joined).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_fits_a_terminal_and_says_how_the_run_ended() {
        let status = WorkerStatus::default();
        let source = ConnectorStatus::new("posts", PluginKind::Source, "rds-source", None, None);
        source.add_task().set(TaskState::Finished);
        source.counters.read.store(3_000, Relaxed);
        let dead = Some("dead".to_owned());
        let sink =
            ConnectorStatus::new("cleaned", PluginKind::Sink, "s3-sink", Some("file:lake/posts".to_owned()), dead);
        sink.add_task().set(TaskState::Stopped);
        sink.counters.dead_letters.store(1, Relaxed);
        sink.count("objects.adopted", 30);
        status.add(Arc::new(source));
        status.add(Arc::new(sink));

        let outcome = Outcome::default();
        let text = report(&status, &outcome, End::CaughtUp, Duration::from_millis(1234), " --state-dir x");
        assert!(text.lines().take_while(|line| !line.is_empty()).all(|line| line.chars().count() <= 80), "{text}");
        for part in [
            "posts      3,000 ",
            "caught up\n",
            "cleaned: data lies in file:lake/posts\n",
            "cleaned: 1 record is in the dead letter queue; to look: ottla topics read dead --format json --state-dir x\n",
            "cleaned: 30 objects adopted\n",
            "\nDone in 1.2 s\n",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        let text = report(&status, &outcome, End::Interrupted, Duration::from_millis(1234), "");
        assert!(
            text.contains("Stopped before everything was durable") && text.ends_with("\nEnded in 1.2 s\n"),
            "{text}"
        );
        assert!(!text.contains("caught up"), "{text}");
    }

    #[test]
    fn tasks_that_failed_alike_stand_together() {
        let error = |text: &str| Arc::new(Error::config(text));
        let failures = [("s3-1", "no bucket"), ("s3-0", "no bucket"), ("x-0", "other")]
            .map(|(task, why)| (task.to_owned(), error(why)));
        let expected = [("s3-0, s3-1", "no bucket"), ("x-0", "other")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(by_error(&failures), expected);
    }

    #[test]
    fn a_long_record_is_cut_between_characters() {
        assert_eq!(shortened("{\"a\":1}\n"), "{\"a\":1}");
        let long = "é".repeat(SAMPLE_CHARS + 1);
        assert_eq!(shortened(&long), format!("{}…", "é".repeat(SAMPLE_CHARS)));
    }
}
