//! An even rate with room for short bursts. No clock here: the caller passes the time in.

use std::time::{Duration, Instant};

/// Grants so many permissions a second, and up to `burst` at once after a pause.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    /// Time between two grants at the full rate; zero means no limit.
    interval: Duration,
    /// How far grants may run ahead of the even rate.
    tolerance: Duration,
    /// When the next grant is due at the even rate.
    due: Instant,
}

impl TokenBucket {
    /// A full bucket. `rate` is in grants per second, 0 means no limit; a `burst` of 0 counts
    /// as 1.
    pub fn new(rate: u32, burst: u32, now: Instant) -> Self {
        let interval = Duration::from_secs(1).checked_div(rate).unwrap_or_default();
        Self { interval, tolerance: interval * burst.saturating_sub(1), due: now }
    }

    /// Takes one grant, or says how long to wait before asking again.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.take_up_to(1, now).map(|_| ())
    }

    /// Takes as many grants as there are, at least one and at most `most`, or says how long to
    /// wait for one. A `most` of 0 counts as 1.
    pub fn take_up_to(&mut self, most: usize, now: Instant) -> Result<usize, Duration> {
        let early = self.due.saturating_duration_since(now);
        let Some(ahead) = self.tolerance.checked_sub(early) else {
            return Err(early - self.tolerance);
        };
        let most = most.max(1);
        let more = ahead.as_nanos().checked_div(self.interval.as_nanos());
        // Without an interval there is no limit.
        let grants = more.map_or(most, |more| most.min(usize::try_from(more + 1).unwrap_or(most)));
        let taken = u32::try_from(grants).unwrap_or(u32::MAX);
        self.due = self.due.max(now) + self.interval * taken;
        Ok(taken as usize)
    }

    /// Gives back grants that were taken and not used.
    pub fn give_back(&mut self, grants: usize) {
        let grants = u32::try_from(grants).unwrap_or(u32::MAX);
        self.due = self.due.checked_sub(self.interval * grants).unwrap_or(self.due);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let t = Instant::now();
        let mut bucket = TokenBucket::new(2000, 50, t);
        for n in 0..50 {
            assert_eq!(bucket.take(t), Ok(()), "grant {n}");
        }
        assert_eq!(bucket.take(t), Err(Duration::from_micros(500)));
        assert_eq!(bucket.take(t + Duration::from_micros(500)), Ok(()));
        assert!(bucket.take(t + Duration::from_micros(500)).is_err());
    }

    #[test]
    fn no_rate_means_no_limit() {
        let t = Instant::now();
        let mut bucket = TokenBucket::new(0, 0, t);
        assert!((0..100_000).all(|_| bucket.take(t).is_ok()));
    }

    #[test]
    fn many_grants_at_once_are_as_many_as_one_by_one() {
        let t = Instant::now();
        let mut bucket = TokenBucket::new(2000, 50, t);
        assert_eq!(bucket.take_up_to(30, t), Ok(30));
        assert_eq!(bucket.take_up_to(30, t), Ok(20));
        assert_eq!(bucket.take_up_to(30, t), Err(Duration::from_micros(500)));
        bucket.give_back(7);
        assert_eq!(bucket.take_up_to(30, t), Ok(7));
        assert_eq!(bucket.take_up_to(9, t + Duration::from_millis(2)), Ok(4));
        let mut free = TokenBucket::new(0, 0, t);
        assert_eq!(free.take_up_to(1000, t), Ok(1000));
        assert_eq!(free.take_up_to(0, t), Ok(1));
    }

    proptest! {
        /// Whoever waits as told gets the grant then, and no second takes more than the rate
        /// and one burst.
        #[test]
        fn never_more_than_the_rate_and_one_burst(
            rate in 1..5000u32, burst in 0..200u32, pauses in prop::collection::vec(0..20_000u64, 1..200)
        ) {
            let start = Instant::now();
            let (mut now, mut granted) = (start, 0u64);
            let mut bucket = TokenBucket::new(rate, burst, start);
            for pause in pauses {
                now += Duration::from_micros(pause);
                if let Err(wait) = bucket.take(now) {
                    now += wait;
                    prop_assert_eq!(bucket.take(now), Ok(()));
                }
                granted += 1;
                let most = now.duration_since(start).as_secs_f64() * f64::from(rate) * 1.001;
                prop_assert!(granted as f64 <= most + f64::from(burst.max(1)) + 1.0);
            }
        }
    }
}
