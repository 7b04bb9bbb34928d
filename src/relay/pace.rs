//! How fast one shard is pulled: under what SLS documents as the limits of a shard, so that
//! catching up after an outage does not run into its quotas.

use std::time::{Duration, Instant};

/// Least time between two pulls of a shard. SLS allows 100 reads a second.
const BETWEEN: Duration = Duration::from_millis(12);
/// Most time between two pulls of a shard, whatever an answer claims to have cost: more than
/// the largest one that is read takes at 100 kB a second.
const LONGEST: Duration = Duration::from_secs(900);

/// The pulls of one shard.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_second: u64,
    /// No pull before this.
    next: Option<Instant>,
}

impl Pace {
    /// At most this many bytes a second, counted as SLS counts them: decompressed, and
    /// before any filter.
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), next: None }
    }

    /// A pull sent at `sent` brought so many bytes. What it takes at the allowed rate counts
    /// from its sending, or from when it would have been due.
    pub(crate) fn pulled(&mut self, sent: Instant, bytes: u64) {
        let takes = Duration::try_from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        self.next = sent.checked_add(takes.unwrap_or(LONGEST).clamp(BETWEEN, LONGEST));
    }

    /// Time from `now` until the next pull is allowed.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        self.next.map_or(Duration::ZERO, |next| next.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_answer_makes_the_next_pull_wait_and_a_small_one_only_a_moment() {
        let start = Instant::now();
        let mut pace = Pace::new(10_000_000);
        assert_eq!(pace.wait(start), Duration::ZERO);
        pace.pulled(start, 5_000_000);
        assert_eq!(pace.wait(start), Duration::from_millis(500));
        assert_eq!(pace.wait(start + Duration::from_millis(400)), Duration::from_millis(100));
        assert_eq!(pace.wait(start + Duration::from_secs(1)), Duration::ZERO);
        pace.pulled(start, 10);
        assert_eq!(pace.wait(start), BETWEEN);
    }
    #[test]
    fn whatever_size_an_answer_claims_the_next_pull_comes() {
        let start = Instant::now();
        let mut pace = Pace::new(0);
        pace.pulled(start, u64::MAX);
        assert_eq!(pace.wait(start), LONGEST);
    }
}
