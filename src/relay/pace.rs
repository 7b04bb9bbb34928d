//! How fast one shard is pulled: under what SLS documents as the limits of a shard, so that
//! catching up after an outage does not run into its quotas.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Least time between two pulls of a shard. SLS allows 100 reads a second.
const BETWEEN: Duration = Duration::from_millis(12);
/// Most time between two pulls of a shard, whatever an answer claims to have cost: more than
/// the largest one that is read takes at 100 kB a second.
const LONGEST: Duration = Duration::from_secs(900);

/// Idle shards wake at so many moments of an idle poll and not each at its own: what a poll
/// costs is waking a thread with cold caches more than asking.
const MOMENTS: u32 = 4;

/// Pause before a shard that had nothing new at `now` is asked again: about `idle_poll`, an
/// eighth more or less to reach a moment at which others wake, and now and then the one
/// before or after.
pub(crate) fn idle_pause(idle_poll: Duration, now: Instant) -> Duration {
    /// Other relays that were started at another time have other moments.
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let apart = (idle_poll / MOMENTS).max(Duration::from_millis(1)).as_secs_f64();
    let now = now.saturating_duration_since(*START).as_secs_f64();
    let due = now + idle_poll.as_secs_f64() * (0.8 + 0.4 * fastrand::f64());
    Duration::from_secs_f64(((due / apart).round() * apart - now).max(0.0))
}

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
    fn idle_shards_wake_together_and_about_as_often_as_asked() {
        let (poll, first) = (Duration::from_secs(1), Instant::now());
        idle_pause(poll, first);
        let mut wakes = Vec::new();
        for shard in 0..400 {
            let now = first + Duration::from_millis(shard);
            let pause = idle_pause(poll, now);
            assert!((0.67..=1.33).contains(&pause.as_secs_f64()), "{pause:?}");
            wakes.push((now + pause).duration_since(first).as_millis());
        }
        wakes.sort_unstable();
        wakes.dedup_by(|a, b| a.abs_diff(*b) <= 2);
        assert!((2..=5).contains(&wakes.len()), "{wakes:?}");
        assert!(wakes.windows(2).all(|pair| (248..=252).contains(&(pair[1] - pair[0]))));
    }

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
