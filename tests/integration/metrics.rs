//! The numbers and the health of a running worker, on a listener that is off unless asked for and never leaves the machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ottla_tests::config;
use ottla_tests::wait::SOON;
use ottla_tests::worker::{Ottla, Running, http_get};
use ottla_tests::{free_port, services, temp_dir, unique};

const RUN: Duration = Duration::from_secs(60);

fn pipeline(folder: &Path, listener: &str, sink: &str) -> PathBuf {
    let text = config::worker("embedded", &folder.join("state"))
        + &format!("metrics.listener = \"{listener}\"\n")
        + &config::posts("demo", 50)
        + sink;
    config::write(folder, "metrics.toml", text)
}

fn folder_sink(folder: &Path) -> String {
    config::sink("s3", &config::posts_regex("demo"), &format!("file:{}", folder.join("lake").display()), "posts", 10)
}

/// Waits until the page has a line.
fn wait_for_metric(running: &mut Running, listener: &str, line: &str) -> String {
    running.wait_until(line, SOON, |_| {
        let (status, page) = http_get(listener, "/metrics")?;
        if status == 200 && page.lines().any(|found| found == line) { Ok(page) } else { Err(page) }
    })
}

#[test]
fn metrics_count_what_moved() {
    let folder = temp_dir();
    let listener = format!("127.0.0.1:{}", free_port());
    let file = pipeline(folder.path(), &listener, &folder_sink(folder.path()));
    let mut running = Ottla::run([file]).start();
    let page =
        wait_for_metric(&mut running, &listener, "ottla_connector_delivered_records_total{connector=\"s3\"} 150");
    for line in [
        "ottla_connector_records_read_total{connector=\"posts\"} 150",
        "ottla_connector_records_written_total{connector=\"posts\"} 150",
        "ottla_connector_records_read_total{connector=\"s3\"} 150",
        "ottla_connector_deliveries_total{connector=\"s3\"} 15",
        "ottla_connector_records_failed_total{connector=\"s3\"} 0",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is missing in\n{page}");
    }
    // Every metric says what it counts.
    let named = |comment: &str| page.lines().filter(|line| line.starts_with(comment)).count();
    assert!(named("# HELP") > 8 && named("# HELP") == named("# TYPE"), "{page}");

    let (status, health) = http_get(&listener, "/health").expect("an answer");
    assert_eq!(status, 200, "{health}");
    let health = ottla_tests::posts::parse(&health);
    assert_eq!(health["status"], "healthy");
    assert_eq!(health["connectors"]["s3"]["tasks"][0]["state"], "RUNNING");
    running.stop().exits_with(0);
}

#[test]
fn health_is_503_while_a_task_is_failed_and_says_why() {
    let folder = temp_dir();
    let listener = format!("127.0.0.1:{}", free_port());
    let bucket = unique("missing");
    let sink = config::sink("s3", &config::posts_regex("demo"), &services::s3(), &bucket, 10);
    let mut running = Ottla::run([pipeline(folder.path(), &listener, &sink)]).s3_credentials().start();
    let health = running.wait_until("unhealthy", SOON, |_| match http_get(&listener, "/health")? {
        (503, health) => Ok(health),
        other => Err(format!("{other:?}")),
    });
    let health = ottla_tests::posts::parse(&health);
    assert_eq!(health["status"], "unhealthy");
    let task = &health["connectors"]["s3"]["tasks"][0];
    assert_eq!(task["state"], "FAILED");
    assert!(task["detail"].as_str().is_some_and(|why| why.contains(&bucket)), "{health}");
    assert_eq!(health["connectors"]["posts"]["tasks"][0]["id"], 0);
    running.stop().exits_with(2);
}

#[test]
fn a_listener_for_strangers_is_refused() {
    let folder = temp_dir();
    let file = pipeline(folder.path(), "0.0.0.0:9464", &folder_sink(folder.path()));
    let finished = Ottla::run([file]).until_caught_up().finish(RUN).exits_with(2);
    finished.says("metrics.listener: must be a loopback address");
}
