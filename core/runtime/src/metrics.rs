//! Every metric, and the listener that serves them: `/metrics` for Prometheus, `/health` for whoever restarts workers.
//!
//! The listener is off unless `metrics.listener` is set, and serves loopback addresses only: nothing here asks who calls.
//! The numbers are [`status`](crate::status)'s; they are copied into the exporter when somebody scrapes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use ottla_api::{ErrorKind, Result, error::ResultExt as _};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::LoopbackAddress;
use crate::status::{ConnectorStatus, Counters, MemoryBudget, TaskState, WorkerStatus};

/// A counter of a connector: its name, what it counts, and where it is kept.
type CounterMetric = (&'static str, &'static str, fn(&Counters) -> &AtomicU64);

/// The counters of a connector, each with a label `connector`.
const CONNECTOR_COUNTERS: &[CounterMetric] = &[
    ("ottla_connector_records_read_total", "Records that a source yielded or a sink's consumer read.", |c| &c.read),
    ("ottla_connector_records_written_total", "Records durable in a topic, or accepted by a destination.", |c| {
        &c.written
    }),
    ("ottla_connector_records_dropped_total", "Records that a transformation dropped.", |c| &c.dropped),
    ("ottla_connector_records_failed_total", "Records that failed and were skipped.", |c| &c.failed),
    ("ottla_connector_dead_letters_total", "Records that went to the dead letter queue.", |c| &c.dead_letters),
    ("ottla_connector_read_bytes_total", "Bytes of keys and values read.", |c| &c.bytes),
    ("ottla_connector_deliveries_total", "Objects, files or commits at a sink's destination.", |c| &c.deliveries),
    ("ottla_connector_delivered_records_total", "Records in a sink's deliveries.", |c| &c.delivered),
    ("ottla_connector_delivered_bytes_total", "Bytes of a sink's deliveries.", |c| &c.delivered_bytes),
    ("ottla_connector_task_restarts_total", "Tasks that were started again after a failure.", |c| &c.restarts),
];

/// Listens on `address`; the future returned serves until `stop`.
pub async fn serve(
    address: &LoopbackAddress,
    status: Arc<WorkerStatus>,
    memory: Arc<MemoryBudget>,
    stop: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + use<>> {
    let bound = TcpListener::bind(&**address).await;
    let listener = bound.or_error(ErrorKind::Config, format!("metrics.listener: listen on {}", &**address))?;
    let address = listener.local_addr().or_error(ErrorKind::Fatal, "look at the metrics listener")?;
    info!(%address, "serving /metrics and /health");
    let recorder = Arc::new(PrometheusBuilder::new().build_recorder());
    let health = Arc::clone(&status);
    let router = Router::new()
        .route("/metrics", get(move || async move { metrics_page(&recorder, &status, &memory) }))
        .route("/health", get(move || async move { health_page(&health) }));
    Ok(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
        if let Err(error) = served {
            warn!(error = %error, "the metrics listener ended");
        }
    })
}

fn metrics_page(
    recorder: &PrometheusRecorder,
    status: &WorkerStatus,
    memory: &MemoryBudget,
) -> impl IntoResponse + use<> {
    metrics::with_local_recorder(recorder, || {
        for connector in status.connectors() {
            copy(&connector);
        }
        for ((route, code), n) in status.requests() {
            metrics::describe_counter!("ottla_gateway_requests_total", "Requests that the gateway has answered.");
            metrics::counter!("ottla_gateway_requests_total", "route" => route, "status" => code.to_string())
                .absolute(n);
        }
        metrics::describe_gauge!("ottla_worker_buffered_bytes", "Bytes that all sinks hold in buffers.");
        metrics::gauge!("ottla_worker_buffered_bytes").set(memory.used() as f64);
    });
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], recorder.handle().render())
}

fn copy(connector: &ConnectorStatus) {
    let name = connector.name.to_string();
    for (metric, meaning, counter) in CONNECTOR_COUNTERS {
        metrics::describe_counter!(*metric, *meaning);
        metrics::counter!(*metric, "connector" => name.clone()).absolute(counter(&connector.counters).load(Relaxed));
    }
    metrics::describe_gauge!("ottla_connector_lag_records", "Records in a sink's topics that are not committed yet.");
    metrics::gauge!("ottla_connector_lag_records", "connector" => name.clone())
        .set(connector.counters.lag.load(Relaxed) as f64);
    metrics::describe_counter!("ottla_connector_events_total", "What the connector itself counts, by its own names.");
    for (event, n) in connector.extra() {
        metrics::counter!("ottla_connector_events_total", "connector" => name.clone(), "event" => event).absolute(n);
    }
    metrics::describe_gauge!("ottla_task_value", "What a task itself measures, by its own names, such as lag.ms.");
    for ((task, value), n) in connector.gauges() {
        let labels = [("connector", name.clone()), ("task", task.to_string()), ("value", value.to_owned())];
        metrics::gauge!("ottla_task_value", &labels).set(n as f64);
    }
    metrics::describe_gauge!("ottla_task_running", "1 while a task runs, 0 while it is failed or stopped.");
    metrics::describe_gauge!("ottla_task_stalled_seconds", "How long a task has been retrying something.");
    for task in connector.tasks() {
        let state = task.state();
        let labels = [("connector", name.clone()), ("task", task.number.to_string())];
        let running = matches!(state, TaskState::Running | TaskState::Retrying { .. });
        metrics::gauge!("ottla_task_running", &labels).set(f64::from(u8::from(running)));
        let stalled = if let TaskState::Retrying { since, .. } = state { since.elapsed().as_secs_f64() } else { 0.0 };
        metrics::gauge!("ottla_task_stalled_seconds", &labels).set(stalled);
    }
}

/// 200 while every task runs, starts, retries or has ended in order; 503 where one has failed.
fn health_page(status: &WorkerStatus) -> impl IntoResponse + use<> {
    let mut failed = false;
    let connectors: serde_json::Map<String, serde_json::Value> = status
        .connectors()
        .iter()
        .map(|connector| {
            let tasks: Vec<_> = connector
                .tasks()
                .iter()
                .map(|task| {
                    let state = task.state();
                    failed |= matches!(state, TaskState::Failed { .. });
                    json!({"id": task.number, "state": state.name(), "detail": state.to_string()})
                })
                .collect();
            (connector.name.to_string(), json!({ "tasks": tasks }))
        })
        .collect();
    let code = if failed { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let body = json!({"status": if failed { "unhealthy" } else { "healthy" }, "connectors": connectors});
    (code, [(header::CONTENT_TYPE, "application/json")], body.to_string())
}
