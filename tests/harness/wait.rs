//! Waiting for something to become true, with a deadline and a sentence for the failure.

use std::time::{Duration, Instant};

/// How long a test waits for what should take moments, on a machine that is busy with other tests.
pub const SOON: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const EVERY: Duration = Duration::from_millis(25);

/// Looks again and again until there is an answer. `what` completes "waited 60 s for ..".
///
/// # Panics
///
/// When the deadline passes. The failure says what `last` has to tell.
pub fn until<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match look() {
            Ok(answer) => return answer,
            Err(instead) if started.elapsed() >= deadline => {
                panic!("waited {} s for {what}; instead: {instead}", deadline.as_secs())
            }
            Err(_) => std::thread::sleep(EVERY),
        }
    }
}
