//! When a connection is to be drained: the cadence at which written becomes proven.
//!
//! A drain costs a round trip and a new connection; not draining costs duplicates, since
//! everything unproven is sent again after an abnormal end. No clock and no socket here.

use std::time::{Duration, Instant};

/// The limits of what may stay unproven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainSettings {
    /// Drain after this many bytes.
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

/// The cadence of one destination. Starts with nothing unproven.
#[derive(Debug, Clone)]
pub struct DrainPlan {
    settings: DrainSettings,
    /// Bytes after which to drain: at most the setting, less after broken connections.
    quantum: u64,
    /// Confirmations since the quantum changed.
    successes: u32,
    bytes: u64,
    /// Times of the first and the last unproven write.
    span: Option<(Instant, Instant)>,
}

impl DrainPlan {
    /// A plan for a new connection.
    pub fn new(settings: DrainSettings) -> Self {
        Self { settings, quantum: settings.bytes, successes: 0, bytes: 0, span: None }
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

    /// When the next drain is due if nothing more is written (in the past if it already is);
    /// `None` while nothing is unproven.
    pub fn due_at(&self) -> Option<Instant> {
        let (first, last) = self.span?;
        if self.bytes >= self.quantum {
            return Some(first);
        }
        Some((first + self.settings.every).min(last + self.settings.idle))
    }

    /// The confirmed position moved. After some of that in a row connections may carry twice
    /// as much again, up to the setting. A drain alone is no reason: what it proved is void if
    /// the next connection breaks before it has settled.
    pub fn confirmed(&mut self) {
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
