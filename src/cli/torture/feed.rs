//! How many logs are due: the same schedule for every sender.

use std::time::{Duration, Instant};

/// Pause between two looks at the clock.
pub(super) const TICK: Duration = Duration::from_millis(20);

/// When which log comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    /// Logs in all.
    pub(super) logs: u64,
    /// Logs a second; all at once without one.
    pub(super) rate: Option<u64>,
}

impl Schedule {
    /// Logs that are due `started.elapsed()` after the start.
    pub(super) fn due(&self, started: Instant) -> u64 {
        let Some(rate) = self.rate else { return self.logs };
        let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.logs.min(millis.saturating_mul(rate) / 1000)
    }
}
