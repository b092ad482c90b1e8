//! Calls that may not come back, made where nobody else waits.

use std::time::Duration;

use ottla_api::{Error, Result};

/// How long calls that may hang are waited for, and what they are.
#[derive(Debug, Clone)]
pub(super) struct Away {
    /// `plugin.call.timeout.ms`.
    pub(super) limit: Duration,
    /// What may hang, for the error.
    pub(super) what: String,
}

impl Away {
    /// Runs `work` on a thread of its own and waits for it, at most for the limit.
    ///
    /// # Errors
    ///
    /// Where it has not come back by then. Its thread is lost, and so is what was given to it.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        match tokio::time::timeout(self.limit, tokio::task::spawn_blocking(work)).await {
            Ok(Ok(done)) => Ok(done),
            // As it would be without the other thread: the supervisor tells of it.
            Ok(Err(panic)) if panic.is_panic() => std::panic::resume_unwind(panic.into_panic()),
            Ok(Err(_)) => Err(Error::fatal(format!("{} was cut off, because the worker ends", self.what))),
            Err(_) => Err(Error::fatal(format!(
                "{} has not come back for {:?} (plugin.call.timeout.ms): it hangs, or needs longer than that",
                self.what, self.limit
            ))),
        }
    }
}
