//! Choices that repeat: each test draws its own from one seed.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// How many rounds to do: `OTTLA_FAULTS`, or three.
pub(crate) fn rounds() -> usize {
    match std::env::var("OTTLA_FAULTS") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("OTTLA_FAULTS must be a number, found '{text}'")),
        Err(_) => 3,
    }
}

/// Draws for one test.
#[derive(Debug)]
pub(crate) struct Dice {
    test: &'static str,
    seed: u64,
    random: StdRng,
}

impl Dice {
    /// For a test: from `OTTLA_SEED`, or a random seed.
    pub(crate) fn of(test: &'static str) -> Self {
        let seed = match std::env::var("OTTLA_SEED") {
            Ok(text) => text.parse().unwrap_or_else(|_| panic!("OTTLA_SEED must be a number, found '{text}'")),
            Err(_) => u64::from(rand::random::<u32>()),
        };
        // Tests run in any order and side by side, so each has a stream of its own.
        let mut stream = DefaultHasher::new();
        (seed, test).hash(&mut stream);
        let dice = Self { test, seed, random: StdRng::seed_from_u64(stream.finish()) };
        println!("{}", dice.replay());
        dice
    }

    /// What repeats this test's choices.
    pub(crate) fn replay(&self) -> String {
        format!(
            "replay with: OTTLA_SEED={} OTTLA_FAULTS={} tests/run -- --test faults {}",
            self.seed,
            rounds(),
            self.test
        )
    }

    /// A time between.
    pub(crate) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.random.random_range(from..=to))
    }

    /// A number between.
    pub(crate) fn number(&mut self, from: usize, to: usize) -> usize {
        self.random.random_range(from..=to)
    }

    /// Dice for a thread of the same test: it draws at its own pace, and repeatably.
    pub(crate) fn fork(&mut self) -> Self {
        Self { test: self.test, seed: self.seed, random: StdRng::seed_from_u64(self.random.random()) }
    }

    /// Heads.
    pub(crate) fn coin(&mut self) -> bool {
        self.random.random()
    }
}
