//! Which receiver a destination's logs go to: the first of a list that works, and back to the
//! first one when that has been reachable for a while. No clock and no socket here.
//!
//! The position belongs to the destination: whoever takes over goes on behind what is
//! confirmed.

use std::time::{Duration, Instant};

use super::backoff::Backoff;

/// Delays between two attempts at one receiver.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// The first receiver is tried so often while its way back is awaited.
const PROBES: u32 = 5;
const LEAST_BETWEEN: Duration = Duration::from_millis(200);
const MOST_BETWEEN: Duration = Duration::from_secs(60);

/// The receivers of one destination, by their number in its list, and the one in use.
#[derive(Debug)]
pub(crate) struct Route {
    ways: Vec<Way>,
    current: usize,
    failback_after: Duration,
    /// When the first one was tried last while another was in use.
    probed: Option<Instant>,
    /// Since when every such attempt worked.
    reachable: Option<Instant>,
}

#[derive(Debug)]
struct Way {
    backoff: Backoff,
    /// Not before this time again.
    ready: Option<Instant>,
}

impl Route {
    /// A route over so many receivers, at least one, that begins at the first.
    pub(crate) fn new(receivers: usize, failback_after: Duration) -> Self {
        let way = || Way { backoff: Backoff::new(FIRST_DELAY, LONGEST_DELAY), ready: None };
        Self {
            ways: (0..receivers.max(1)).map(|_| way()).collect(),
            current: 0,
            failback_after,
            probed: None,
            reachable: None,
        }
    }

    /// The one to connect to.
    pub(crate) fn current(&self) -> usize {
        self.current
    }

    /// The current one does not work. The next is the first of the list that may be tried; it
    /// is current now, and is tried after this pause.
    pub(crate) fn failed(&mut self, now: Instant) -> Duration {
        if let Some(way) = self.ways.get_mut(self.current) {
            way.ready = Some(now + way.backoff.next(Duration::ZERO));
        }
        // Of equal ones the first is taken.
        let waits =
            |way: &Way| way.ready.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let next = self.ways.iter().map(waits).enumerate().min_by_key(|(_, wait)| *wait);
        let (next, wait) = next.unwrap_or_default();
        if self.current == 0 && next != 0 {
            // It has just failed: a first probe at once would say little.
            self.probed = Some(now);
        }
        self.reachable = None;
        self.current = next;
        wait
    }

    /// The current one works: what it was sent is confirmed.
    pub(crate) fn worked(&mut self) {
        if let Some(way) = self.ways.get_mut(self.current) {
            way.backoff.reset();
            way.ready = None;
        }
    }

    /// When to see whether the first one is reachable; never while it is in use.
    pub(crate) fn probe_at(&self) -> Option<Instant> {
        let probed = self.probed.filter(|_| self.current != 0)?;
        Some(probed + (self.failback_after / PROBES).clamp(LEAST_BETWEEN, MOST_BETWEEN))
    }

    /// What that showed.
    pub(crate) fn probed(&mut self, reachable: bool, now: Instant) {
        self.probed = Some(now);
        self.reachable = reachable.then(|| self.reachable.unwrap_or(now));
    }

    /// Whether the first one was reachable for long enough: nothing is sent to the current one
    /// any more, and what was is to be proven.
    pub(crate) fn wants_back(&self, now: Instant) -> bool {
        let long = |since: Instant| now.saturating_duration_since(since) >= self.failback_after;
        self.current != 0 && self.reachable.is_some_and(long)
    }

    /// Everything that was sent is proven: goes back to the first one if it is time for that.
    pub(crate) fn at_rest(&mut self, now: Instant) -> bool {
        let back = self.wants_back(now);
        if back {
            (self.current, self.reachable, self.probed) = (0, None, None);
        }
        back
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BACK: Duration = Duration::from_secs(300);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn one_receiver_is_tried_again_and_again_with_growing_pauses() {
        let now = Instant::now();
        let mut route = Route::new(1, BACK);
        let pauses: Vec<Duration> = (0..12).map(|_| route.failed(now)).collect();
        assert!(pauses[0] < Duration::from_millis(121), "{pauses:?}");
        assert!(pauses[11] > seconds(20) && pauses[11] < seconds(37), "{pauses:?}");
        assert_eq!((route.current(), route.probe_at()), (0, None));
        route.worked();
        assert!(route.failed(now) < Duration::from_millis(121));
    }

    #[test]
    fn the_next_one_takes_over_at_once_and_all_that_fail_are_tried_in_turn() {
        let now = Instant::now();
        let mut route = Route::new(3, BACK);
        assert_eq!((route.failed(now), route.current()), (Duration::ZERO, 1));
        assert_eq!((route.failed(now), route.current()), (Duration::ZERO, 2));
        let pause = route.failed(now);
        assert!(pause > Duration::ZERO && pause < Duration::from_millis(121));
        // The one that is ready first, whichever that is.
        let mut tried = [0; 3];
        let mut at = now + pause;
        for _ in 0..30 {
            tried[route.current()] += 1;
            at += route.failed(at);
        }
        assert!(tried.iter().all(|times| *times >= 5), "{tried:?}");
    }

    #[test]
    fn when_the_one_that_took_over_fails_the_first_is_tried_before_others() {
        let now = Instant::now();
        let mut route = Route::new(3, BACK);
        route.failed(now);
        route.worked();
        assert_eq!((route.failed(now + seconds(60)), route.current()), (Duration::ZERO, 0));
    }

    #[test]
    fn the_way_back_is_open_when_the_first_was_reachable_all_the_time() {
        let start = Instant::now();
        let mut route = Route::new(2, BACK);
        route.failed(start);
        assert_eq!(route.probe_at(), Some(start + seconds(60)));
        for (second, reachable) in [(60, true), (120, true), (180, false), (240, true), (480, true)]
        {
            let now = start + seconds(second);
            assert!(!route.wants_back(now) && !route.at_rest(now), "at {second} s");
            route.probed(reachable, now);
        }
        assert!(!route.wants_back(start + seconds(539)));
        let now = start + seconds(540);
        assert!(route.wants_back(now));
        assert_eq!(route.current(), 1, "not before what was sent is proven");
        assert!(route.at_rest(now));
        assert_eq!((route.current(), route.probe_at()), (0, None));
        assert!(!route.at_rest(now), "it is back");
        route.failed(now);
        assert!(!route.wants_back(now + seconds(3600)), "nothing is known of the time before");
    }

    #[derive(Clone, Debug)]
    enum Happens {
        Fails,
        Works,
        Probed(bool),
        Rests,
        Passes(u64),
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            Just(Happens::Fails),
            Just(Happens::Works),
            any::<bool>().prop_map(Happens::Probed),
            Just(Happens::Rests),
            (0..200_000u64).prop_map(Happens::Passes),
        ]
    }

    proptest! {
        /// Whatever happens: a failure is followed by a try within the longest delay, nobody but
        /// a failure or a rest changes the receiver, and a rest only goes to the first.
        #[test]
        fn a_receiver_is_left_only_for_a_reason(
            receivers in 1..4usize, steps in prop::collection::vec(happens(), 1..200)
        ) {
            let mut now = Instant::now();
            let mut route = Route::new(receivers, BACK);
            let mut unreachable = now;
            for step in steps {
                let before = route.current();
                match step {
                    Happens::Fails => {
                        let pause = route.failed(now);
                        prop_assert!(pause <= LONGEST_DELAY.mul_f64(1.2));
                        prop_assert!(receivers == 1 || pause.is_zero() || route.ways.iter().all(|way| way.ready.is_some()));
                        unreachable = now;
                    }
                    Happens::Works => route.worked(),
                    Happens::Probed(reachable) => {
                        if before != 0 {
                            route.probed(reachable, now);
                        }
                        if !reachable {
                            unreachable = now;
                        }
                    }
                    Happens::Rests => {
                        if route.at_rest(now) {
                            prop_assert!(now.duration_since(unreachable) >= BACK);
                            prop_assert_eq!(route.current(), 0);
                            continue;
                        }
                    }
                    Happens::Passes(millis) => now += Duration::from_millis(millis),
                }
                if !matches!(step, Happens::Fails) {
                    prop_assert_eq!(route.current(), before);
                }
                prop_assert!(route.current() < receivers);
                prop_assert_eq!(route.probe_at().is_some(), route.current() != 0);
            }
        }
    }
}
