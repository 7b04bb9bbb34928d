//! The one retry policy, and how a long outage is logged.

use std::time::{Duration, Instant};

/// Exponential delays with jitter, from `min` to `max`.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// Delays that begin at `min` and double up to `max`.
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, failures: 0 }
    }

    /// The next delay, 20 % more or less at random; never less than `hint`, up to 20 % more.
    pub(crate) fn next(&mut self, hint: Duration) -> Duration {
        let doubled = self.min.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        let spread = fastrand::f64();
        doubled.min(self.max).mul_f64(0.8 + 0.4 * spread).max(hint.mul_f64(1.0 + 0.2 * spread))
    }

    /// Something worked: the next delay is the first again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// When to say that something is still failing: at once, then once a minute.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    since: Option<Instant>,
    said: Option<Instant>,
    failures: u64,
}

/// What there is to say about a failure.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Say {
    /// It begins.
    First,
    /// It goes on: so many failures for so long.
    Still {
        /// Failures since it began.
        failures: u64,
        /// Time since it began.
        lasting: Duration,
    },
    /// Nothing new.
    Nothing,
}

impl Outage {
    const AGAIN: Duration = Duration::from_secs(60);

    /// Counts a failure at `now`.
    pub(crate) fn failed(&mut self, now: Instant) -> Say {
        self.failures += 1;
        let (Some(since), Some(said)) = (self.since, self.said) else {
            (self.since, self.said) = (Some(now), Some(now));
            return Say::First;
        };
        if now.duration_since(said) < Self::AGAIN {
            return Say::Nothing;
        }
        self.said = Some(now);
        Say::Still { failures: self.failures, lasting: now.duration_since(since) }
    }

    /// Whether it began with the last few failures: most outages are over at once.
    pub(crate) fn is_young(&self) -> bool {
        self.failures < 4
    }

    /// It works again at `now`; how long it did not, if it did not.
    pub(crate) fn recovered(&mut self, now: Instant) -> Option<Duration> {
        let lasted = self.since.map(|since| now.duration_since(since));
        *self = Self::default();
        lasted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_limit_and_start_over_after_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let within = |delay: Duration, ms: u64| {
            let nominal = Duration::from_millis(ms);
            assert!(delay >= nominal.mul_f64(0.79) && delay <= nominal.mul_f64(1.21), "{delay:?}");
        };
        for ms in [100, 200, 400, 800, 1000, 1000] {
            within(backoff.next(Duration::ZERO), ms);
        }
        for _ in 0..20 {
            let asked = Duration::from_secs(5);
            let delay = backoff.next(asked);
            assert!(delay >= asked && delay <= asked.mul_f64(1.21), "{delay:?}");
        }
        backoff.reset();
        within(backoff.next(Duration::ZERO), 100);
    }

    #[test]
    fn an_outage_is_named_once_then_each_minute_then_at_its_end() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut outage = Outage::default();
        assert_eq!(outage.recovered(at(0)), None);
        assert_eq!(outage.failed(at(0)), Say::First);
        assert_eq!(outage.failed(at(30)), Say::Nothing);
        let lasting = Duration::from_secs(60);
        assert_eq!(outage.failed(at(60)), Say::Still { failures: 3, lasting });
        assert_eq!(outage.failed(at(100)), Say::Nothing);
        assert_eq!(outage.recovered(at(110)), Some(Duration::from_secs(110)));
        assert_eq!(outage.failed(at(111)), Say::First);
    }
}
