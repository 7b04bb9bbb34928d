//! When a connection is to be drained: the cadence at which written becomes proven.
//!
//! A drain costs a round trip and a new connection; not draining costs duplicates, since
//! everything unproven is sent again after an abnormal end. So a connection carries a *quantum*
//! of bytes: the setting, less where connections break before anything is confirmed, and more
//! where the path is so long that drains would take over a tenth of the time. No clock and no
//! socket here.

use std::time::{Duration, Instant};

/// The limits of what may stay unproven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainSettings {
    /// Drain after this many bytes; after up to [`MOST`] times as many where a drain takes long.
    pub bytes: u64,
    /// Drain this long after the first unproven byte.
    pub every: Duration,
    /// Drain this long after the last write.
    pub idle: Duration,
}

impl Default for DrainSettings {
    /// 16 MiB, 30 s, 2 s.
    fn default() -> Self {
        Self { bytes: 16 << 20, every: Duration::from_secs(30), idle: Duration::from_secs(2) }
    }
}

/// How many times the bytes of the setting a connection carries at most, on long paths.
pub const MOST: u64 = 16;
/// How many times longer than a drain takes a connection should carry logs.
const WORTH: u32 = 12;
/// How many times more one drain may make a connection carry: a single slow one proves little.
const LEAP: u64 = 8;

/// Confirmations in a row after which more may stay unproven again.
const GROW_AFTER: u32 = 8;

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainReason {
    /// Enough bytes.
    Bytes,
    /// The first unproven byte is old enough.
    Age,
    /// Nothing more came.
    Idle,
}

/// The time that one drain takes, when there is more to send.
#[derive(Debug, Clone, Copy)]
enum Cycle {
    /// None is measured.
    Idle,
    /// So long logs had flowed when it began.
    Draining { flowed: Duration, since: Instant },
    /// The drain took this, and the next connection is not there yet.
    Drained { flowed: Duration, took: Duration },
    /// It is being made.
    Connecting { flowed: Duration, took: Duration, since: Instant },
}

/// The cadence of one destination. Starts with nothing unproven.
#[derive(Debug, Clone)]
pub struct DrainPlan {
    settings: DrainSettings,
    /// Bytes after which to drain: less than the setting after broken connections, more on long
    /// paths.
    quantum: u64,
    /// What the present drain interrupts.
    cycle: Cycle,
    /// Confirmations since the quantum changed.
    successes: u32,
    bytes: u64,
    /// Times of the first and the last unproven write.
    span: Option<(Instant, Instant)>,
}

impl DrainPlan {
    /// A plan for a new connection.
    pub fn new(settings: DrainSettings) -> Self {
        Self {
            settings,
            quantum: settings.bytes,
            cycle: Cycle::Idle,
            successes: 0,
            bytes: 0,
            span: None,
        }
    }

    /// So many bytes were written at `now`.
    pub fn wrote(&mut self, bytes: u64, now: Instant) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.span = Some(self.span.map_or((now, now), |(first, last)| (first, last.max(now))));
    }

    /// Whether to drain at `now`, and why. Never while nothing is unproven.
    pub fn due(&self, now: Instant) -> Option<DrainReason> {
        let (first, last) = self.span?;
        if self.bytes >= self.quantum {
            Some(DrainReason::Bytes)
        } else if now >= first + self.settings.every {
            Some(DrainReason::Age)
        } else if now >= last + self.settings.idle {
            Some(DrainReason::Idle)
        } else {
            None
        }
    }

    /// When so little flowed for so long that a drain interrupts nothing; `None` while nothing is
    /// unproven.
    pub fn idle_at(&self) -> Option<Instant> {
        self.span.map(|(_, last)| last + self.settings.idle)
    }

    /// When the next drain is due if nothing more is written (in the past if it already is);
    /// `None` while nothing is unproven.
    pub fn due_at(&self) -> Option<Instant> {
        let (first, last) = self.span?;
        if self.bytes >= self.quantum {
            return Some(first);
        }
        Some((first + self.settings.every).min(last + self.settings.idle))
    }

    /// A drain begins at `now`.
    pub fn draining(&mut self, now: Instant) {
        // One that has another reason than bytes interrupts nothing.
        self.cycle = match self.span {
            Some((first, _)) if self.bytes >= self.quantum => {
                Cycle::Draining { flowed: now.saturating_duration_since(first), since: now }
            }
            _ => Cycle::Idle,
        };
    }

    /// It is complete.
    pub fn drained(&mut self, now: Instant) {
        self.cycle = match self.cycle {
            Cycle::Draining { flowed, since } => {
                Cycle::Drained { flowed, took: now.saturating_duration_since(since) }
            }
            _ => Cycle::Idle,
        };
        self.reset();
    }

    /// The next connection is asked for.
    pub fn connecting(&mut self, now: Instant) {
        self.cycle = match self.cycle {
            Cycle::Drained { flowed, took } => Cycle::Connecting { flowed, took, since: now },
            _ => Cycle::Idle,
        };
    }

    /// It is there: what the drain cost is known.
    pub fn connected(&mut self, now: Instant) {
        if let Cycle::Connecting { flowed, took, since } = self.cycle {
            self.adapt(flowed, took + now.saturating_duration_since(since));
        }
        self.cycle = Cycle::Idle;
    }

    fn adapt(&mut self, flowed: Duration, cost: Duration) {
        // Less than the setting is what broken connections asked for.
        if self.quantum < self.settings.bytes {
            return;
        }
        let most = self.settings.bytes.saturating_mul(MOST);
        if cost * WORTH > flowed {
            // As many times more as it takes, at once: what is learned in steps costs a drain each.
            let times = (cost * WORTH).as_nanos().div_ceil(flowed.as_nanos().max(1));
            let times = u64::try_from(times).unwrap_or(LEAP).min(LEAP);
            self.quantum = self.quantum.saturating_mul(times).min(most);
        } else if cost * WORTH * 4 < flowed {
            self.quantum = (self.quantum / 2).max(self.settings.bytes);
        }
    }

    /// Bytes that one connection carries now.
    pub fn quantum(&self) -> u64 {
        self.quantum
    }

    /// The confirmed position moved. After some of that in a row connections may carry twice
    /// as much again, up to the setting. A drain alone is no reason: what it proved is void if
    /// the next connection breaks before it has settled.
    pub fn confirmed(&mut self) {
        if self.quantum >= self.settings.bytes {
            return;
        }
        self.successes += 1;
        if self.successes >= GROW_AFTER {
            self.successes = 0;
            self.quantum = self.quantum.saturating_mul(2).min(self.settings.bytes);
        }
    }

    /// The connection broke before it proved anything: the next one is drained after half as
    /// much, so that a receiver that ends every connection early still gets all of it.
    pub fn broken(&mut self) {
        if self.span.is_some() {
            self.quantum = (self.quantum / 2).max(1);
            self.successes = 0;
        }
        self.cycle = Cycle::Idle;
        self.reset();
    }

    /// Nothing is unproven any more.
    pub fn reset(&mut self) {
        (self.bytes, self.span) = (0, None);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn nothing_written_is_never_due() {
        let plan = DrainPlan::new(DrainSettings::default());
        assert_eq!(plan.due(Instant::now() + s(3600)), None);
        assert_eq!(plan.due_at(), None);
    }

    #[test]
    fn each_limit_is_reached_on_its_own() {
        let t = Instant::now();
        let mut plan = DrainPlan::new(DrainSettings::default());
        plan.wrote((16 << 20) - 1, t);
        assert_eq!(plan.due(t + s(1)), None);
        assert_eq!(plan.due(t + s(2)), Some(DrainReason::Idle));
        plan.wrote(1, t + s(1));
        assert_eq!(plan.due(t + s(1)), Some(DrainReason::Bytes));

        plan.reset();
        for second in 0..30 {
            plan.wrote(100, t + s(second));
            assert_eq!(plan.due(t + s(second)), None);
        }
        assert_eq!(plan.due(t + s(30)), Some(DrainReason::Age));
        plan.reset();
        assert_eq!(plan.due(t + s(60)), None);
    }

    proptest! {
        #[test]
        fn due_and_due_at_agree(
            writes in prop::collection::vec((0..(4u64 << 20), 0..4000u64), 1..20), wait in 0..40_000u64
        ) {
            let mut now = Instant::now();
            let mut plan = DrainPlan::new(DrainSettings::default());
            for (bytes, pause) in writes {
                now += Duration::from_millis(pause);
                plan.wrote(bytes, now);
            }
            now += Duration::from_millis(wait);
            prop_assert_eq!(plan.due(now).is_some(), plan.due_at().unwrap() <= now);
        }
    }

    /// One connection that logs flow on for `flowed` and whose end costs `cost`, in milliseconds.
    fn cycle(plan: &mut DrainPlan, flowed: u64, cost: u64) -> u64 {
        let t = Instant::now();
        let ms = Duration::from_millis;
        plan.wrote(plan.quantum(), t);
        assert_eq!(plan.due(t), Some(DrainReason::Bytes));
        plan.draining(t + ms(flowed));
        plan.drained(t + ms(flowed + cost / 2));
        // Waiting for something to send is not what a drain costs.
        plan.connecting(t + ms(flowed + cost / 2 + 60_000));
        plan.connected(t + ms(flowed + cost + 60_000));
        plan.quantum()
    }

    #[test]
    fn a_long_path_makes_a_connection_carry_more_and_a_short_one_less_again() {
        let mut plan = DrainPlan::new(DrainSettings { bytes: 1000, ..DrainSettings::default() });
        assert_eq!(cycle(&mut plan, 600, 4), 1000, "a cheap drain changes nothing");
        assert_eq!(cycle(&mut plan, 600, 90), 2000, "1,080 ms are twice as much, rounded up");
        assert_eq!(cycle(&mut plan, 600, 140), 6000, "three times as much, at once");
        assert_eq!(cycle(&mut plan, 600, 300), 16_000, "six times, and no more than the most");
        assert_eq!(cycle(&mut plan, 9600, 300), 16_000, "worth its while");
        for quantum in [8000, 4000, 2000, 1000, 1000] {
            assert_eq!(cycle(&mut plan, 600, 4), quantum);
        }
        plan.wrote(1000, Instant::now());
        plan.broken();
        assert_eq!(cycle(&mut plan, 600, 300), 500, "a receiver that breaks gets no more");
    }

    #[test]
    fn a_drain_of_an_idle_connection_is_not_measured() {
        let (t, mut plan) = (Instant::now(), DrainPlan::new(DrainSettings::default()));
        plan.wrote(100, t);
        plan.draining(t + s(2));
        plan.drained(t + s(4));
        plan.connecting(t + s(4));
        plan.connected(t + s(9));
        assert_eq!(plan.quantum(), DrainSettings::default().bytes);
    }

    #[test]
    fn a_broken_connection_halves_what_the_next_may_carry_until_things_are_confirmed() {
        let t = Instant::now();
        let settings = DrainSettings { bytes: 1000, ..DrainSettings::default() };
        let mut plan = DrainPlan::new(settings);
        plan.broken();
        plan.wrote(999, t);
        assert_eq!(plan.due(t), None, "nothing was written on the one that broke");
        plan.broken();
        plan.wrote(500, t);
        assert_eq!(plan.due(t), Some(DrainReason::Bytes));
        for _ in 0..GROW_AFTER {
            plan.confirmed();
        }
        plan.reset();
        plan.wrote(999, t);
        assert_eq!(plan.due(t), None);
        for _ in 0..40 {
            plan.wrote(1, t);
            plan.broken();
        }
        plan.wrote(1, t);
        assert_eq!(plan.due(t), Some(DrainReason::Bytes), "at least one byte");
    }
}
