//! How long what waits will take, from how fast it was sent and how fast more came. No clock
//! here.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Time over which is measured: longer than what makes deliveries come in bursts.
const WINDOW: Duration = Duration::from_secs(60);
/// Time between two samples.
const EVERY: Duration = Duration::from_secs(1);
/// What nobody waits for.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// The logs that wait for one destination, over the last minute.
#[derive(Clone, Debug, Default)]
pub struct Backlog {
    /// Oldest first: when, logs sent until then, and logs ever spooled until then.
    samples: VecDeque<(Instant, u64, u64)>,
}

impl Backlog {
    /// At `now`, `sent` of all `spooled` logs were sent. What goes back, after a broken
    /// connection, makes everything before it void.
    pub fn observe(&mut self, sent: u64, spooled: u64, now: Instant) {
        if self.samples.back().is_some_and(|(_, before, _)| *before > sent) {
            self.samples.clear();
        }
        // The newest one moves until it is far enough from the one before it.
        let count = self.samples.len();
        if count > 1
            && self.samples[count - 1].0.saturating_duration_since(self.samples[count - 2].0)
                < EVERY
        {
            self.samples.pop_back();
        }
        self.samples.push_back((now, sent, spooled));
        while self.samples.len() > 2 && now.saturating_duration_since(self.samples[1].0) > WINDOW {
            self.samples.pop_front();
        }
    }

    /// Logs a second that were sent; nothing where that was not measured for a second yet.
    pub fn rate(&self) -> Option<f64> {
        let (seconds, sent, _) = self.measured()?;
        Some(sent as f64 / seconds)
    }

    /// How long it takes until nothing waits, if it goes on like this. Nothing where that is not
    /// known, and where more comes than is sent.
    pub fn eta(&self) -> Option<Duration> {
        let (_, sent, spooled) = self.samples.back()?;
        let waiting = spooled.saturating_sub(*sent);
        if waiting == 0 {
            return Some(Duration::ZERO);
        }
        let (seconds, sent, spooled) = self.measured()?;
        let gained = sent.checked_sub(spooled).filter(|gained| *gained > 0)?;
        let eta = Duration::try_from_secs_f64(waiting as f64 * seconds / gained as f64);
        eta.ok().filter(|eta| *eta < LONGEST)
    }

    /// Over so many seconds, so many logs were sent and so many came.
    fn measured(&self) -> Option<(f64, u64, u64)> {
        let (from, sent, spooled) = self.samples.front()?;
        let (to, sent_to, spooled_to) = self.samples.back()?;
        let time = to.saturating_duration_since(*from);
        let seconds = (time >= EVERY).then_some(time.as_secs_f64())?;
        Some((seconds, sent_to.saturating_sub(*sent), spooled_to.saturating_sub(*spooled)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sends `out` and gets `more` logs a second, with 100,000 that wait at first.
    fn after(seconds: u64, out: u64, more: u64) -> Backlog {
        let start = Instant::now();
        let mut backlog = Backlog::default();
        for tenth in 0..=seconds * 10 {
            let now = start + Duration::from_millis(tenth * 100);
            backlog.observe(tenth * out / 10, 100_000 + tenth * more / 10, now);
        }
        backlog
    }

    #[test]
    fn what_is_sent_faster_than_it_comes_has_an_end() {
        let backlog = after(20, 1000, 200);
        assert_eq!(backlog.rate().unwrap().round(), 1000.0);
        assert_eq!(backlog.eta().unwrap().as_secs(), (100_000 - 20 * 800) / 800);
        assert_eq!(after(20, 1000, 1000).eta(), None, "as fast as it comes");
        assert_eq!(after(20, 0, 5).eta(), None, "not sent at all");
    }

    #[test]
    fn nothing_that_waits_takes_no_time_and_nothing_measured_tells_nothing() {
        let mut backlog = Backlog::default();
        assert_eq!((backlog.rate(), backlog.eta()), (None, None));
        let now = Instant::now();
        backlog.observe(5, 5, now);
        assert_eq!((backlog.rate(), backlog.eta()), (None, Some(Duration::ZERO)));
        backlog.observe(5, 9, now + EVERY / 2);
        assert_eq!((backlog.rate(), backlog.eta()), (None, None));
    }

    #[test]
    fn an_hour_ago_says_nothing_about_now_and_a_rewind_starts_over() {
        let mut backlog = after(120, 1000, 0);
        assert!(backlog.samples.len() <= 63, "{}", backlog.samples.len());
        let (last, sent, spooled) = *backlog.samples.back().unwrap();
        for second in 1..=70 {
            backlog.observe(sent + 10 * second, spooled, last + Duration::from_secs(second));
        }
        assert_eq!(backlog.rate().unwrap().round(), 10.0);
        backlog.observe(sent, spooled, last + Duration::from_secs(71));
        assert_eq!(backlog.rate(), None);
    }

    proptest! {
        #[test]
        fn whatever_is_observed_the_answer_is_one(
            steps in prop::collection::vec((any::<u64>(), any::<u64>(), 0..100_000u64), 0..50)
        ) {
            let (mut backlog, mut now) = (Backlog::default(), Instant::now());
            for (sent, spooled, pause) in steps {
                now += Duration::from_millis(pause);
                backlog.observe(sent, spooled, now);
                prop_assert!(backlog.eta().is_none_or(|eta| eta < LONGEST));
                prop_assert!(backlog.rate().is_none_or(f64::is_finite));
            }
        }
    }
}
