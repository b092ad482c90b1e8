//! Pauses between tries: growing, jittered, ended at once by a request to stop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla_api::Error;
use rand::RngExt as _;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::status::{TaskState, TaskStatus};

/// Pauses that double from `first` to `max`, each drawn from its upper half, so that many tasks do not return in step.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// The first pause, and the longest.
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, failures: 0 }
    }

    /// The next pause.
    pub fn next_pause(&mut self) -> Duration {
        let full = self.first.saturating_mul(2u32.saturating_pow(self.failures)).min(self.max);
        self.failures += 1;
        full.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// How often it failed.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// Retries of one operation of a task. Shows in the task's status, and in the log when it begins and when it ends.
#[derive(Debug)]
pub struct Retrying<'a> {
    operation: &'static str,
    status: &'a TaskStatus,
    stop: &'a CancellationToken,
    backoff: Backoff,
    since: Option<Instant>,
}

impl<'a> Retrying<'a> {
    /// For `operation`, a verb for the status line: `put`, `poll`.
    pub fn new(operation: &'static str, status: &'a TaskStatus, stop: &'a CancellationToken) -> Self {
        let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        Self { operation, status, stop, backoff, since: None }
    }

    /// The operation failed with a retriable error: waits before the next try. False where the task is to stop instead.
    pub async fn wait(&mut self, error: Error) -> bool {
        let pause = self.backoff.next_pause();
        // The first failures of a row are worth a line each; afterwards the status tells, and a line now and then.
        if self.backoff.failures() <= 2 || self.backoff.failures().is_multiple_of(10) {
            warn!(operation = self.operation, error = %error, tries = self.backoff.failures(), "will be tried again");
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        self.status.set(TaskState::Retrying { since, operation: self.operation, error: Arc::new(error) });
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep(pause) => true,
        }
    }

    /// The operation succeeded.
    pub fn succeeded(self) {
        if let Some(since) = self.since {
            self.status.set(TaskState::Running);
            info!(operation = self.operation, after_s = since.elapsed().as_secs(), "works again");
        }
    }
}

/// Makes a call of a task again and again while it fails with a retriable error: `Ok(None)` where a stop came first.
///
/// A macro, because the compiler does not see yet that the futures of a borrowing async closure can move between threads.
macro_rules! retry {
    ($operation:literal, $status:expr, $stop:expr, $call:expr) => {{
        let mut retrying = $crate::errors::retry::Retrying::new($operation, $status, $stop);
        loop {
            match $call.await {
                Ok(done) => {
                    retrying.succeeded();
                    break Ok(Some(done));
                }
                Err(error) if error.is_retriable() => {
                    if !retrying.wait(error).await {
                        break Ok(None);
                    }
                }
                Err(error) => break Err(error.during($operation)),
            }
        }
    }};
}
pub(crate) use retry;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_stay_there() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(1000));
        for full in [100, 200, 400, 800, 1000, 1000] {
            let pause = backoff.next_pause();
            assert!(
                pause >= Duration::from_millis(full / 2) && pause <= Duration::from_millis(full),
                "{pause:?} of {full}"
            );
        }
    }
}
