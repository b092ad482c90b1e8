//! How often a shard is read: never more often than allowed, less often when nothing is new or Kinesis asks for it.

use std::time::Duration;

use tokio::time::Instant;

/// What a shard gives to one reader in a second, in bytes. Who takes more at once is refused until it is made up for.
const BYTES_PER_SECOND: f64 = 2_000_000.0;
/// Reads a second below which throttling doesn't push.
const SLOWEST: f64 = 0.2;
/// The first pause after a failure; the following ones double.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause after a failure that is not throttling.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The pace of one shard: more slowly by half after throttling, faster by a little after each read that went well.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Reads a second that are allowed.
    most: f64,
    /// Reads a second at present.
    current: f64,
    /// Pause while there is nothing new.
    idle: Duration,
    /// True where what was read counts against the shard's bytes a second.
    metered: bool,
    /// Longest pause after throttling.
    throttled_max: Duration,
    failures: u32,
    failing_since: Option<Instant>,
    due: Instant,
}

impl Pace {
    /// A shard that may be read `most` times a second, at once for the first time.
    pub(crate) fn new(most: u32, idle: Duration, metered: bool, throttled_max: Duration, now: Instant) -> Self {
        let most = f64::from(most);
        Self { most, current: most, idle, metered, throttled_max, failures: 0, failing_since: None, due: now }
    }

    /// When the next read may begin.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// Since when nothing has gone well.
    pub(crate) fn failing_since(&self) -> Option<Instant> {
        self.failing_since
    }

    /// A read that began at `began` went well and brought so many bytes; `more` says that the shard holds more already.
    pub(crate) fn succeeded(&mut self, began: Instant, bytes: usize, more: bool) {
        self.failures = 0;
        self.failing_since = None;
        self.current = (self.current + self.most / 20.0).min(self.most);
        let mut pause = Duration::from_secs_f64(1.0 / self.current);
        if self.metered {
            pause = pause.max(Duration::from_secs_f64(bytes as f64 / BYTES_PER_SECOND));
        }
        self.due = began + if more { pause } else { pause.max(self.idle) };
    }

    /// A read failed. `random` is between 0 and 1.
    pub(crate) fn failed(&mut self, now: Instant, throttled: bool, random: f64) {
        self.failing_since.get_or_insert(now);
        let longest = if throttled { self.throttled_max } else { LONGEST_PAUSE };
        if throttled {
            self.current = (self.current / 2.0).max(SLOWEST.min(self.most));
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures += 1;
        // Between half the pause and the whole, so that readers that failed together don't come back together.
        self.due = now + pause.mul_f64(0.5 + random / 2.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(now: Instant) -> Pace {
        Pace::new(5, Duration::from_secs(1), true, Duration::from_secs(10), now)
    }

    #[tokio::test(start_paused = true)]
    async fn a_shard_is_read_five_times_a_second_while_it_has_more_and_once_when_it_has_not() {
        let start = Instant::now();
        let mut pace = pace(start);
        assert_eq!(pace.due(), start);
        pace.succeeded(start, 100, true);
        assert_eq!(pace.due() - start, Duration::from_millis(200));
        pace.succeeded(start, 0, false);
        assert_eq!(pace.due() - start, Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn ten_megabytes_at_once_are_paid_for_with_five_seconds() {
        let start = Instant::now();
        let mut pace = pace(start);
        pace.succeeded(start, 10_000_000, true);
        assert_eq!(pace.due() - start, Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_halves_the_pace_which_comes_back_in_steps() {
        let start = Instant::now();
        let mut pace = pace(start);
        let pauses = [1.0; 8].map(|random| {
            pace.failed(start, true, random);
            pace.due() - start
        });
        let millis = pauses.map(|pause| pause.as_millis());
        assert_eq!(millis, [200, 400, 800, 1600, 3200, 6400, 10000, 10000]);
        assert_eq!(pace.failing_since(), Some(start));
        pace.succeeded(start, 0, true);
        assert_eq!(pace.failing_since(), None);
        assert!(pace.due() - start > Duration::from_secs(2), "{:?}", pace.due() - start);
        for _ in 0..20 {
            pace.succeeded(start, 0, true);
        }
        assert_eq!(pace.due() - start, Duration::from_millis(200));
    }
}
