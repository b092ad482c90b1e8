//! Calls that may not come back, made where nobody else waits.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ottla_api::{Error, Result};
use parking_lot::Mutex;

/// So many calls of one connector that have not come back, and it calls no more: each holds a thread, and other connectors need
/// threads too.
const HANGING_MAX: usize = 16;

/// The calls that nobody waits for any more, by connector and what it called.
static HANGING: LazyLock<Mutex<BTreeMap<Arc<str>, usize>>> = LazyLock::new(Mutex::default);

/// How long calls that may hang are waited for, and what they are.
#[derive(Debug, Clone)]
pub(super) struct Away {
    /// `plugin.call.timeout.ms`.
    limit: Duration,
    /// What may hang, for the error.
    what: Arc<str>,
    /// Under which its hanging calls are counted, also those of tasks before this one.
    counted_as: Arc<str>,
}

/// A call: who gives up first, the caller or the thread, tells the other.
#[derive(Debug, PartialEq, Eq)]
enum Call {
    Runs,
    GivenUp,
    Done,
}

impl Away {
    /// For what a connector calls.
    pub(super) fn new(limit: Duration, connector: &str, what: &str) -> Self {
        Self { limit, what: what.into(), counted_as: format!("{connector}: {what}").into() }
    }

    /// Runs `work` on a thread of its own and waits for it, at most for the limit.
    ///
    /// # Errors
    ///
    /// Where it has not come back by then: its thread is lost, and so is what was given to it. Where too many have not: they are
    /// counted from task to task, until they come back after all.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let hanging = HANGING.lock().get(&self.counted_as).copied().unwrap_or_default();
        if hanging >= HANGING_MAX {
            return Err(Error::fatal(format!(
                "{hanging} calls of {} have not come back; it is called no more before one does, or the worker is started again",
                self.what
            )));
        }
        let call = Arc::new(Mutex::new(Call::Runs));
        let (theirs, counted_as) = (Arc::clone(&call), Arc::clone(&self.counted_as));
        let running = tokio::task::spawn_blocking(move || {
            let done = work();
            if std::mem::replace(&mut *theirs.lock(), Call::Done) == Call::GivenUp {
                count(&counted_as, |hanging| hanging.saturating_sub(1));
            }
            done
        });
        match tokio::time::timeout(self.limit, running).await {
            Ok(Ok(done)) => Ok(done),
            // As it would be without the other thread: the supervisor tells of it.
            Ok(Err(panic)) if panic.is_panic() => std::panic::resume_unwind(panic.into_panic()),
            Ok(Err(_)) => Err(Error::fatal(format!("{} was cut off, because the worker ends", self.what))),
            Err(_) => {
                let mut call = call.lock();
                if *call == Call::Runs {
                    *call = Call::GivenUp;
                    count(&self.counted_as, |hanging| hanging + 1);
                }
                Err(Error::fatal(format!(
                    "{} has not come back for {:?} (plugin.call.timeout.ms): it hangs, or needs longer than that",
                    self.what, self.limit
                )))
            }
        }
    }
}

fn count(what: &Arc<str>, change: impl FnOnce(usize) -> usize) {
    let mut hanging = HANGING.lock();
    let count = hanging.entry(Arc::clone(what)).or_default();
    *count = change(*count);
    if *count == 0 {
        hanging.remove(what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_hangs_is_called_so_often_and_no_more_until_it_comes_back() {
        let away = Away::new(Duration::from_millis(5), "mine", "transformation 'x'");
        let (gate, waiting) = std::sync::mpsc::channel::<()>();
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..HANGING_MAX {
            let waiting = Arc::clone(&waiting);
            let hung = away.run(move || waiting.lock().recv().is_ok()).await.unwrap_err().to_string();
            assert!(hung.starts_with("transformation 'x' has not come back for 5ms"), "{hung}");
        }
        let refused = away.run(|| ()).await.unwrap_err().to_string();
        assert!(refused.starts_with("16 calls of transformation 'x' have not come back"), "{refused}");
        // Another connector's are counted apart.
        let other = Away::new(Duration::from_secs(60), "another", "transformation 'x'");
        assert_eq!(other.run(|| 7).await.unwrap(), 7);

        drop(gate);
        let patient = Away { limit: Duration::from_secs(60), ..away };
        tokio::time::timeout(Duration::from_secs(60), async {
            while patient.run(|| ()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .unwrap();
    }
}
