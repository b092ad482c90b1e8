//! Faults: fails the n-th call, or calls chosen by a seed, and remembers what it did.
//!
//! A test double (a client, a file system, a server) passes a [`Fault`] at every place where the real thing could break. A
//! suite then runs the same work again and again, each time with the next place broken, until nothing is left to break.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ottla_api::{Error, ErrorKind, Result};

/// Decides which calls fail. Clones share the count, so that one plan covers all connections of a task.
#[derive(Clone)]
pub struct Fault(Arc<Plan>);

struct Plan {
    strikes: Strikes,
    kind: ErrorKind,
    calls: AtomicU64,
    struck: Mutex<Vec<String>>,
}

/// Which calls fail.
#[derive(Debug)]
enum Strikes {
    Never,
    Nth(u64),
    Seeded { random: Mutex<Random>, one_in: u64 },
}

impl Fault {
    /// Nothing fails; calls are counted.
    pub fn never() -> Self {
        Self::plan(Strikes::Never, ErrorKind::Retriable)
    }

    /// The n-th call fails with this kind of error, the first being 1; all others succeed.
    pub fn nth(n: u64, kind: ErrorKind) -> Self {
        Self::plan(Strikes::Nth(n), kind)
    }

    /// About one call in `one_in` fails with this kind of error. The same seed breaks the same calls.
    pub fn seeded(seed: u64, one_in: u64, kind: ErrorKind) -> Self {
        Self::plan(Strikes::Seeded { random: Mutex::new(Random::new(seed)), one_in }, kind)
    }

    fn plan(strikes: Strikes, kind: ErrorKind) -> Self {
        Self(Arc::new(Plan { strikes, kind, calls: AtomicU64::new(0), struck: Mutex::new(Vec::new()) }))
    }

    /// A place where the real thing could fail; call it before an operation (nothing happened) and after it (it happened,
    /// but the answer was lost). Give it a name that a person recognises in a failed test.
    pub fn point(&self, place: &str) -> Result<()> {
        let call = self.0.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let strikes = match &self.0.strikes {
            Strikes::Never => false,
            Strikes::Nth(n) => call == *n,
            Strikes::Seeded { random, one_in } => {
                random.lock().expect("no test panics while it holds this").below(*one_in) == 0
            }
        };
        if !strikes {
            return Ok(());
        }
        self.0.struck.lock().expect("no test panics while it holds this").push(format!("call {call}, {place}"));
        Err(Error::new(self.0.kind, "a fault of the test").with("call", call).with("place", place))
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::SeqCst)
    }

    /// The calls that failed, as a person would name them.
    pub fn struck(&self) -> Vec<String> {
        self.0.struck.lock().expect("no test panics while it holds this").clone()
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fault({:?}, {:?}, {} calls)", self.0.strikes, self.0.kind, self.calls())
    }
}

/// Numbers that look random and are the same for the same seed on every machine (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 on, below `bound` (which is at least 1).
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_nth_call_fails_and_clones_share_the_count() {
        let fault = Fault::nth(2, ErrorKind::Retriable);
        assert!(fault.point("first").is_ok());
        assert_eq!(fault.clone().point("write").unwrap_err().kind(), ErrorKind::Retriable);
        assert!(fault.point("third").is_ok());
        assert_eq!(fault.struck(), ["call 2, write"]);
    }

    #[test]
    fn a_seed_breaks_the_same_calls_every_time() {
        let broken = |seed| {
            let fault = Fault::seeded(seed, 3, ErrorKind::Fatal);
            (0..50).map(|_| fault.point("x").is_err()).collect::<Vec<_>>()
        };
        assert_eq!(broken(7), broken(7));
        assert_ne!(broken(7), broken(8));
    }
}
