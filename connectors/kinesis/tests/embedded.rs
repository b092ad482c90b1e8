//! The client suite, run against the embedded Kinesis by both its ways in, and against independent servers where their
//! addresses are given: `OTTLA_TEST_KINESIS` (kinesis-local, plain HTTP) and `OTTLA_TEST_KINESALITE`.

#![allow(clippy::print_stdout, reason = "what is not checked, and measurements, are for whoever runs this")]

#[allow(
    dead_code,
    missing_debug_implementations,
    unreachable_pub,
    unused_macros,
    reason = "shared by two tests; neither uses all"
)]
mod client_suite;

use client_suite::{Target, client};
use ottla_connector_kinesis::embedded::EmbeddedKinesis;
use tokio_util::sync::CancellationToken;

macro_rules! in_process {
    ($($check:ident),+ $(,)?) => {
        mod in_process {
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let dir = tempfile::tempdir().unwrap();
                let kinesis = EmbeddedKinesis::open(dir.path()).unwrap();
                let target = Target::new(client("http://kinesis.invalid", Some(kinesis.http_client())));
                client_suite::$check(&target).await;
            })+
        }
    };
}

macro_rules! over_a_socket {
    ($($check:ident),+ $(,)?) => {
        mod over_a_socket {
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let dir = tempfile::tempdir().unwrap();
                let kinesis = EmbeddedKinesis::open(dir.path()).unwrap();
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let endpoint = format!("http://{}", listener.local_addr().unwrap());
                let stop = CancellationToken::new();
                let served = tokio::spawn(kinesis.serve(listener, stop.clone()));
                client_suite::$check(&Target::new(client(&endpoint, None))).await;
                stop.cancel();
                served.await.unwrap();
            })+
        }
    };
}

macro_rules! independent {
    ($($check:ident),+ $(,)?) => {
        mod kinesis_local {
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                if let Some(client) = independent("OTTLA_TEST_KINESIS") {
                    client_suite::$check(&Target::kinesis_local(client)).await;
                }
            })+
        }

        mod kinesalite {
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                if let Some(client) = independent("OTTLA_TEST_KINESALITE") {
                    client_suite::$check(&Target::kinesalite(client)).await;
                }
            })+
        }
    };
}

checks!(in_process);
checks!(over_a_socket);
checks!(independent);

/// A client of the server whose address the variable holds.
fn independent(variable: &str) -> Option<aws_sdk_kinesis::Client> {
    let Ok(endpoint) = std::env::var(variable) else {
        println!("not checked, because {variable} is not set");
        return None;
    };
    Some(client(&endpoint, None))
}
