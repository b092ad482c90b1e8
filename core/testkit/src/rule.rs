//! Rules: the promises that a suite checks, each by its name, so that a test or a command can go through them one by one.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::time::Duration;

/// One promise of a suite. The method of the suite that has this name checks it, and panics where it is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Its name, which is the name of the method.
    pub name: &'static str,
    /// The promise in a few words, as in the table at the head of the suite.
    pub promise: &'static str,
}

/// Runs one check. Where it panics, the words of the panic are the error, and the caller goes on with the next rule.
///
/// ```
/// # use ottla_testkit::rule::kept;
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// assert_eq!(kept(async { assert_eq!(1 + 1, 2) }).await, Ok(()));
/// assert_eq!(kept(async { panic!("offset 7 was skipped") }).await, Err("offset 7 was skipped".to_owned()));
/// # });
/// ```
pub async fn kept(check: impl Future<Output = ()>) -> Result<(), String> {
    let mut check = pin!(check);
    std::future::poll_fn(|context| {
        // What a check has changed half-way is its own and goes with it.
        match catch_unwind(AssertUnwindSafe(|| check.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => std::task::Poll::Ready(Err(words(&*panic))),
        }
    })
    .await
}

/// What a panic says.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".to_owned())
}

/// Does some work on a thread of its own, with a runtime of its own, and lets both end with it. Whatever the work has spawned
/// dies there at the place that it has reached, as when a process is killed; no task hears of it by a call.
///
/// # Panics
///
/// As the work does; and where it has not ended in `patience`, which means that it blocks its thread instead of waiting: then
/// no timeout, no stop and no neighbour gets a turn.
pub(crate) async fn on_a_thread_that_ends<T, F>(
    what: &str,
    patience: Duration,
    work: impl FnOnce() -> F + Send + 'static,
) -> T
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("conformance".to_owned()).spawn(move || {
        // One thread beside this one, as in a worker: a task may use `block_in_place`.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let runtime = runtime.expect("a thread can be made");
            runtime.block_on(work())
        }));
        // A receiver that has lost its patience is not there any more.
        let _ = sender.send(outcome);
    });
    thread.expect("a thread can be made");
    match tokio::time::timeout(patience, receiver).await {
        Ok(Ok(Ok(done))) => done,
        Ok(Ok(Err(panic))) => std::panic::resume_unwind(panic),
        Ok(Err(_)) => panic!("{what}: its thread ended without a word"),
        Err(_) => panic!("{what}: after {patience:?} the task still blocks its thread; it must wait with await"),
    }
}

/// Gives a suite its list of rules, and the three ways to run them: all, or one by its name.
macro_rules! rules {
    (sync [$($generics:tt)*] $suite:ty, $($rule:ident: $promise:literal,)+) => {
        rules!(@sync [$($generics)*] $suite, $($rule: $promise,)+);
    };
    (sync $suite:ty, $($rule:ident: $promise:literal,)+) => {
        rules!(@sync [] $suite, $($rule: $promise,)+);
    };
    (@sync [$($generics:tt)*] $suite:ty, $($rule:ident: $promise:literal,)+) => {
        impl<$($generics)*> $suite {
            /// Every rule of this suite, in the order of [`run`](Self::run).
            pub const RULES: &'static [crate::rule::Rule] =
                &[$(crate::rule::Rule { name: stringify!($rule), promise: $promise }),+];

            /// Runs every check.
            ///
            /// # Panics
            ///
            /// At the first promise that is broken, saying which.
            pub fn run(&self) {
                $(self.$rule();)+
            }

            /// Runs the check of the rule with this name.
            ///
            /// # Panics
            ///
            /// Where the promise is broken, saying how; and where no rule has this name.
            pub fn check(&self, rule: &str) {
                match rule {
                    $(stringify!($rule) => self.$rule(),)+
                    _ => panic!("this suite has no rule '{rule}'"),
                }
            }
        }
    };
    ($suite:ty, $($rule:ident: $promise:literal,)+) => {
        impl $suite {
            /// Every rule of this suite, in the order of [`run`](Self::run).
            pub const RULES: &'static [crate::rule::Rule] =
                &[$(crate::rule::Rule { name: stringify!($rule), promise: $promise }),+];

            /// Runs every check.
            ///
            /// # Panics
            ///
            /// At the first promise that is broken, saying which.
            pub async fn run(&self) {
                $(self.$rule().await;)+
            }

            /// Runs the check of the rule with this name.
            ///
            /// # Panics
            ///
            /// Where the promise is broken, saying how; and where no rule has this name.
            pub async fn check(&self, rule: &str) {
                match rule {
                    $(stringify!($rule) => self.$rule().await,)+
                    _ => panic!("this suite has no rule '{rule}'"),
                }
            }
        }
    };
}
pub(crate) use rules;
