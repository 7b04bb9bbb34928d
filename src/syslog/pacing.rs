//! How fast a destination gets logs: caps, less while the receiver is slow, and gently after
//! an outage. Oldest first always: pacing decides when, never what. No clock and no socket
//! here.
//!
//! A receiver with flow control tells itself how much it takes, but only once its buffers and
//! ours are full, and all that is in them is sent again when it breaks. So a write that has to
//! wait halves the rate, and every second without one adds a tenth of it again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The caps of one destination; without one there is no limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PacingSettings {
    /// Most logs a second.
    pub logs: Option<u32>,
    /// Most bytes a second.
    pub bytes: Option<u64>,
    /// Most logs a second of those that waited out an outage.
    pub catch_up: Option<u32>,
}

/// How far writing may run ahead of the even rate after a pause. In any stretch of time no
/// more is written than the cap allows for that stretch, this time, and one chunk.
pub const AHEAD: Duration = Duration::from_millis(100);
/// A write that takes longer shows that the receiver is slow.
pub const SLOW_WRITE: Duration = Duration::from_secs(1);
/// Time between two decreases: the first one needs a while to show.
const DECREASE_EVERY: Duration = Duration::from_secs(2);
/// The lowest rate that slow writes lead to, in logs a second.
const FLOOR: f64 = 10.0;
/// An outage of this length leaves enough behind to flood a receiver that just came up.
const OUTAGE: Duration = Duration::from_secs(10);
/// Logs a second right after it; the rate doubles every second.
const GENTLE: f64 = 1000.0;
/// Where doubling ends, in logs a second: nothing is held back any more.
const UNLIMITED: f64 = 1_000_000.0;

/// Decides when the next chunk may be written.
#[derive(Clone, Debug)]
pub struct Pacing {
    logs: Option<Bucket>,
    bytes: Option<Bucket>,
    settings: PacingSettings,
    /// For logs before the end of the last outage.
    catch_up: Option<(Bucket, u64)>,
    adapted: Option<Adapted>,
    throughput: Throughput,
    decreased: Option<Instant>,
}

/// A rate that follows the receiver, in logs a second.
#[derive(Clone, Copy, Debug)]
struct Adapted {
    bucket: Bucket,
    rate: f64,
    growth: Growth,
    grown: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Growth {
    /// By so much a second, until the rate is so high that nothing was wrong with it.
    Adding { a_second: f64, until: f64 },
    /// Twofold every second.
    Doubling,
}

impl Pacing {
    /// Nothing was written before `now`.
    pub fn new(settings: PacingSettings, now: Instant) -> Self {
        Self {
            logs: settings.logs.map(|rate| Bucket::new(rate.into(), now)),
            bytes: settings.bytes.map(|rate| Bucket::new(rate, now)),
            settings,
            catch_up: None,
            adapted: None,
            throughput: Throughput::default(),
            decreased: None,
        }
    }

    /// How long to wait before the next write. It stays right until the next call of
    /// [`Self::wrote`] or [`Self::connected`].
    pub fn pause(&self, now: Instant) -> Duration {
        let catch_up = self.catch_up.map(|(bucket, _)| bucket);
        let adapted = self.adapted.map(|adapted| adapted.bucket);
        let buckets = [self.logs, self.bytes, catch_up, adapted];
        let due = buckets.into_iter().flatten().map(|bucket| bucket.due).max();
        due.map_or(Duration::ZERO, |due| due.saturating_duration_since(now))
    }

    /// `logs` in `bytes` were written by `now`, after waiting `took` for the socket. `log` is
    /// how many of all logs ever spooled are written with them.
    pub fn wrote(&mut self, logs: u64, bytes: u64, log: u64, took: Duration, now: Instant) {
        if let Some(bucket) = &mut self.logs {
            bucket.take(logs, now);
        }
        if let Some(bucket) = &mut self.bytes {
            bucket.take(bytes, now);
        }
        if let Some((bucket, until)) = &mut self.catch_up {
            bucket.take(logs, now);
            if log >= *until {
                self.catch_up = None;
            }
        }
        self.throughput.add(logs, now);
        if took > SLOW_WRITE {
            self.slow(now);
        }
        if let Some(adapted) = &mut self.adapted
            && !adapted.took(logs, now)
        {
            self.adapted = None;
        }
    }

    /// A connection was made at `now`, `outage` after it was first tried. `end` is how many logs
    /// were ever spooled: those are the ones that waited.
    pub fn connected(&mut self, outage: Duration, end: u64, now: Instant) {
        if outage < OUTAGE {
            return;
        }
        let bucket = Bucket::new(GENTLE as u64, now);
        self.adapted = Some(Adapted { bucket, rate: GENTLE, growth: Growth::Doubling, grown: now });
        self.catch_up(end, now);
    }

    /// Everything before log `end` waited while nothing was sent.
    pub fn catch_up(&mut self, end: u64, now: Instant) {
        let bucket = self.settings.catch_up.map(|rate| Bucket::new(rate.into(), now));
        self.catch_up = bucket.map(|bucket| (bucket, end));
    }

    /// Logs a second that are not exceeded because the receiver was slow or away, where that
    /// is so.
    pub fn adapted(&self) -> Option<u64> {
        self.adapted.map(|adapted| adapted.rate as u64)
    }

    /// Most logs of one chunk: a tenth of what a second may carry.
    pub fn most_logs(settings: &PacingSettings) -> u32 {
        let least = [settings.logs, settings.catch_up].into_iter().flatten().min();
        least.map_or(u32::MAX, |logs| (logs / 10).max(1))
    }

    /// Bytes at which a chunk ends: a tenth of what a second may carry.
    pub fn most_bytes(settings: &PacingSettings) -> u64 {
        settings.bytes.map_or(u64::MAX, |bytes| (bytes / 10).max(1))
    }

    fn slow(&mut self, now: Instant) {
        let early = |at: Instant| now.saturating_duration_since(at) < DECREASE_EVERY;
        if self.decreased.is_some_and(early) {
            return;
        }
        self.decreased = Some(now);
        let measured = self.throughput.rate(now);
        let rate = self.adapted.map_or(measured, |adapted| adapted.rate.min(measured));
        let growth = Growth::Adding { a_second: (rate / 10.0).max(1.0), until: rate * 2.0 };
        let rate = (rate / 2.0).max(FLOOR);
        let bucket = Bucket::new(rate as u64, now);
        self.adapted = Some(Adapted { bucket, rate, growth, grown: now });
    }
}

impl Adapted {
    /// Grows, and counts what was written; false when it holds nothing back any more.
    fn took(&mut self, logs: u64, now: Instant) -> bool {
        let seconds = now.saturating_duration_since(self.grown).as_secs_f64();
        self.grown = now;
        let most = match self.growth {
            Growth::Adding { a_second, until } => {
                self.rate += a_second * seconds;
                until
            }
            Growth::Doubling => {
                self.rate *= seconds.min(60.0).exp2();
                UNLIMITED
            }
        };
        self.bucket.rate = (self.rate as u64).max(1);
        self.bucket.take(logs, now);
        self.rate < most
    }
}

/// An even rate. What was taken too much is waited for before more is.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Units a second, at least 1.
    rate: u64,
    /// When what was taken is paid for.
    due: Instant,
}

impl Bucket {
    fn new(rate: u64, now: Instant) -> Self {
        Self { rate: rate.max(1), due: now }
    }

    fn take(&mut self, units: u64, now: Instant) {
        let nanos = (u128::from(units) * 1_000_000_000).div_ceil(u128::from(self.rate));
        // Longer than any connection, and far from the end of time.
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX).min(86_400_000_000_000);
        let from = now.checked_sub(AHEAD).map_or(self.due, |credit| self.due.max(credit));
        self.due = from + Duration::from_nanos(nanos);
    }
}

/// Logs a second over the last seconds.
#[derive(Clone, Debug, Default)]
struct Throughput {
    /// By second, newest last: when it began, and what was written in it.
    seconds: VecDeque<(Instant, u64)>,
}

impl Throughput {
    const SECONDS: usize = 5;

    fn add(&mut self, logs: u64, now: Instant) {
        match self.seconds.back_mut() {
            Some((began, sum)) if now.saturating_duration_since(*began).as_secs() == 0 => {
                *sum += logs;
            }
            _ => {
                self.seconds.push_back((now, logs));
                if self.seconds.len() > Self::SECONDS {
                    self.seconds.pop_front();
                }
            }
        }
    }

    fn rate(&self, now: Instant) -> f64 {
        let Some((began, _)) = self.seconds.front() else { return 0.0 };
        let sum: u64 = self.seconds.iter().map(|(_, logs)| logs).sum();
        sum as f64 / now.saturating_duration_since(*began).as_secs_f64().max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOTHING: PacingSettings = PacingSettings { logs: None, bytes: None, catch_up: None };
    const QUICK: Duration = Duration::from_millis(1);

    /// Writes chunks as soon as they are allowed for so long; returns how many logs.
    fn run(pacing: &mut Pacing, now: &mut Instant, time: Duration, chunk: u64) -> u64 {
        let (mut sum, until) = (0, *now + time);
        loop {
            *now += pacing.pause(*now).max(QUICK);
            if *now >= until {
                *now = until;
                return sum;
            }
            sum += chunk;
            pacing.wrote(chunk, chunk * 500, 0, Duration::ZERO, *now);
        }
    }

    #[test]
    fn without_caps_and_trouble_nothing_waits() {
        let now = Instant::now();
        let mut pacing = Pacing::new(NOTHING, now);
        pacing.connected(Duration::from_secs(1), 1_000_000, now);
        for _ in 0..1000 {
            assert_eq!(pacing.pause(now), Duration::ZERO);
            pacing.wrote(1000, 1 << 20, 0, QUICK, now);
        }
        assert_eq!(pacing.adapted(), None);
    }

    #[test]
    fn the_lower_one_of_two_caps_holds() {
        let settings = PacingSettings { logs: Some(1000), bytes: Some(50_000), catch_up: None };
        let start = Instant::now();
        let (mut pacing, mut now) = (Pacing::new(settings, start), start);
        let sum = run(&mut pacing, &mut now, Duration::from_secs(10), 10);
        assert!((990..=1020).contains(&sum), "50,000 bytes are 100 logs a second: {sum}");
    }

    #[test]
    fn slow_writes_halve_the_rate_and_quick_ones_bring_it_back() {
        let start = Instant::now();
        let (mut pacing, mut now) = (Pacing::new(NOTHING, start), start);
        let second = Duration::from_secs(1);
        run(&mut pacing, &mut now, 5 * second, 10);
        assert_eq!(pacing.adapted(), None);
        let mut rates = Vec::new();
        for _ in 0..6 {
            now += 2 * second;
            pacing.wrote(10, 10, 0, 2 * second, now);
            rates.extend(pacing.adapted());
        }
        assert!(rates.is_sorted_by(|a, b| a >= b) && rates[0] > rates[5], "{rates:?}");
        assert!(rates[5] >= 10, "the floor: {rates:?}");
        let slow = run(&mut pacing, &mut now, second, 1);
        assert!(slow <= 2 * rates[5] + 10, "{slow} at {rates:?}");
        run(&mut pacing, &mut now, 30 * second, 1);
        assert_eq!(pacing.adapted(), None, "recovered");
        assert_eq!(pacing.pause(now), Duration::ZERO);
    }

    #[test]
    fn one_slow_write_is_not_counted_twice() {
        let start = Instant::now();
        let (mut pacing, mut now) = (Pacing::new(NOTHING, start), start);
        run(&mut pacing, &mut now, Duration::from_secs(5), 100);
        let slow = Duration::from_secs(2);
        now += slow;
        pacing.wrote(100, 100, 0, slow, now);
        let rate = pacing.adapted();
        pacing.wrote(0, 0, 0, slow, now);
        assert_eq!(pacing.adapted(), rate);
    }

    #[test]
    fn after_an_outage_it_begins_gently_and_is_soon_at_full_speed() {
        let start = Instant::now();
        let (mut pacing, mut now) = (Pacing::new(NOTHING, start), start);
        pacing.connected(Duration::from_secs(86_400), 0, start);
        let second = Duration::from_secs(1);
        let mut sums = Vec::new();
        for _ in 0..12 {
            sums.push(run(&mut pacing, &mut now, second, 10));
        }
        assert!(sums[0] <= 2200, "{sums:?}");
        assert!(sums[1] > sums[0] && sums[2] > sums[1], "{sums:?}");
        assert_eq!(pacing.adapted(), None, "{sums:?}");
    }

    #[test]
    fn what_waited_goes_at_the_rate_for_that_and_what_comes_later_at_the_other() {
        let settings = PacingSettings { logs: None, bytes: None, catch_up: Some(100) };
        let start = Instant::now();
        let (mut pacing, mut now, mut log) = (Pacing::new(settings, start), start, 0);
        pacing.catch_up(1000, start);
        while log < 1000 {
            now += pacing.pause(now);
            log += 10;
            pacing.wrote(10, 10, log, Duration::ZERO, now);
        }
        let took = now.duration_since(start).as_secs_f64();
        assert!((9.7..10.1).contains(&took), "{took}");
        assert_eq!(pacing.pause(now), Duration::ZERO);
    }

    #[test]
    fn a_chunk_is_a_tenth_of_a_second_and_never_nothing() {
        let all = PacingSettings { logs: Some(500), bytes: Some(1 << 20), catch_up: Some(5) };
        assert_eq!((Pacing::most_logs(&all), Pacing::most_bytes(&all)), (1, 104_857));
        let cap = PacingSettings { logs: Some(500), ..NOTHING };
        assert_eq!((Pacing::most_logs(&cap), Pacing::most_bytes(&cap)), (50, u64::MAX));
        assert_eq!(Pacing::most_logs(&NOTHING), u32::MAX);
    }

    proptest! {
        /// Whatever is written whenever it may be: no stretch of time carries more than the cap
        /// for it, a tenth of a second more, and one chunk.
        #[test]
        fn no_stretch_of_time_carries_more_than_its_cap(
            rate in 1..100_000u32,
            steps in prop::collection::vec((1..2000u64, 0..400_000u64, 0..3000u64), 1..120),
            outage in 0..100u64,
        ) {
            let settings = PacingSettings { logs: Some(rate), bytes: None, catch_up: Some(rate) };
            let start = Instant::now();
            let (mut pacing, mut now) = (Pacing::new(settings, start), start);
            pacing.connected(Duration::from_secs(outage), 50_000, start);
            let mut writes = Vec::new();
            for (chunk, idle, took) in steps {
                now += Duration::from_micros(idle);
                now += pacing.pause(now);
                prop_assert_eq!(pacing.pause(now), Duration::ZERO, "whoever waits as told may write");
                writes.push((now, chunk));
                let log = writes.iter().map(|(_, logs)| logs).sum();
                pacing.wrote(chunk, chunk, log, Duration::from_millis(took), now);
            }
            for (first, (from, _)) in writes.iter().enumerate() {
                let mut sum = 0;
                for (to, logs) in &writes[first..] {
                    let stretch = to.duration_since(*from) + AHEAD;
                    let most = stretch.as_secs_f64() * f64::from(rate);
                    prop_assert!(sum as f64 <= most + 1.0, "{sum} of {most}, and a chunk");
                    sum += logs;
                }
            }
        }

        /// However slow the receiver is for however long: once it is not, it has full speed
        /// again.
        #[test]
        fn a_receiver_that_is_quick_again_gets_full_speed_again(
            slow in prop::collection::vec(1_001..20_000u64, 1..40), chunk in 1..500u64
        ) {
            let start = Instant::now();
            let (mut pacing, mut now) = (Pacing::new(NOTHING, start), start);
            for took in slow {
                let took = Duration::from_millis(took);
                now += pacing.pause(now) + took;
                pacing.wrote(chunk, chunk, 0, took, now);
            }
            run(&mut pacing, &mut now, Duration::from_secs(60), chunk);
            prop_assert_eq!(pacing.adapted(), None);
        }
    }
}
