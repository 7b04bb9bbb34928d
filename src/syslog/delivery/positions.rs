//! What is known about one destination, as three positions: `confirmed <= proven <= written`.
//!
//! *Written* is what a connection was given. *Proven* is what the receiving process is known
//! to have read, for instance by a drain. *Confirmed* is what the spool may let go of.
//!
//! Between the last two lies the *settle* time: a receiver that is being stopped may have
//! read messages and lose them all the same. A proof therefore counts only once it is at
//! least `settle` old **and** the receiver was seen alive at that age or later: it answered a
//! drain, acknowledged something, or a connection has stood undisturbed. Life seen earlier does not help,
//! since the receiver may have died between it and the end of the settle time. Any abnormal
//! end before that (a reset, an early close, a refused connection, a timeout) takes written
//! and proven back to confirmed, and everything from there is sent again.
//!
//! No clock and no socket here: the caller passes the time in. Memory is bounded.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Proofs kept apart while they settle. Further ones are merged, which only delays them.
const MAX_PROOFS: usize = 256;
/// Proofs closer together than this are merged.
const SPACING: Duration = Duration::from_millis(100);

/// The positions of one destination. `P` is a position in the stream of logs: everything
/// before it has been written, proven or confirmed.
#[derive(Debug, Clone)]
pub struct Positions<P> {
    confirmed: P,
    proven: P,
    written: P,
    /// Proofs that have not settled, oldest first; the last one is `proven`. Every second
    /// neighbour is at least [`SPACING`] apart.
    proofs: VecDeque<(P, Instant)>,
    alive: Option<Instant>,
}

impl<P: Copy + Ord> Positions<P> {
    /// Starts where the spool says the destination stands.
    pub fn new(confirmed: P) -> Self {
        Self {
            confirmed,
            proven: confirmed,
            written: confirmed,
            proofs: VecDeque::new(),
            alive: None,
        }
    }

    /// Everything before `p` was handed to the connection. Never moves back.
    pub fn wrote(&mut self, p: P) {
        self.written = self.written.max(p);
    }

    /// Everything before `p` is known, as of `now`, to have been read by the receiver.
    ///
    /// A position that was not written since the last abnormal end proves no more than what
    /// was written; one that is already proven changes nothing.
    pub fn prove(&mut self, p: P, now: Instant) {
        let p = p.min(self.written);
        if p <= self.proven {
            return;
        }
        self.proven = p;
        let now = self.proofs.back().map_or(now, |&(_, at)| at.max(now));
        let before_last = self.proofs.len().checked_sub(2).and_then(|i| self.proofs.get(i));
        let crowded = before_last.is_some_and(|&(_, at)| now.duration_since(at) < SPACING);
        if crowded || self.proofs.len() == MAX_PROOFS {
            // The older proof waits for the newer one: late, but never wrong.
            self.proofs.pop_back();
        }
        self.proofs.push_back((p, now));
    }

    /// The receiver showed life at `now`.
    pub fn alive(&mut self, now: Instant) {
        self.alive = Some(self.alive.map_or(now, |at| at.max(now)));
    }

    /// Confirms what has settled: the newest proof that is at least `settle` old, provided
    /// that the receiver was alive when it was `settle` old, or later.
    ///
    /// Returns the confirmed position if it moved. Call it about once a second, after
    /// [`Self::alive`]; the spool may then let go of everything before the result.
    pub fn settle(&mut self, now: Instant, settle: Duration) -> Option<P> {
        let until = self.alive?.min(now);
        let mut moved = None;
        while let Some(&(p, at)) = self.proofs.front() {
            if until.checked_duration_since(at).is_none_or(|age| age < settle) {
                break;
            }
            self.proofs.pop_front();
            self.confirmed = p;
            moved = Some(p);
        }
        moved
    }

    /// The connection ended, or could not be made, in any way but a completed drain: nothing
    /// beyond confirmed counts any more. Returns where to resume.
    pub fn abnormal_end(&mut self) -> P {
        self.proofs.clear();
        self.written = self.confirmed;
        self.proven = self.confirmed;
        self.confirmed
    }

    /// The spool may let go of everything before this.
    pub fn confirmed(&self) -> P {
        self.confirmed
    }

    /// The receiver has read everything before this.
    pub fn proven(&self) -> P {
        self.proven
    }

    /// Everything before this was written; the next thing to write.
    pub fn written(&self) -> P {
        self.written
    }

    /// Whether something was written that is not proven yet.
    pub fn needs_proof(&self) -> bool {
        self.proven < self.written
    }

    /// When the oldest unsettled proof will be `settle` old; `None` if all has settled.
    pub fn next_settle(&self, settle: Duration) -> Option<Instant> {
        self.proofs.front().map(|&(_, at)| at + settle)
    }

    /// When the newest unsettled proof will be `settle` old: life seen then (at the end of
    /// the relay: one more accepted connection) confirms all that is proven.
    pub fn last_settle(&self, settle: Duration) -> Option<Instant> {
        self.proofs.back().map(|&(_, at)| at + settle)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTLE: Duration = Duration::from_secs(2);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_proof_is_confirmed_once_old_enough_with_life_seen_then() {
        let t = Instant::now();
        let mut at = Positions::new(0);
        at.wrote(10);
        at.prove(7, t);
        at.alive(t + ms(1));
        assert_eq!(at.settle(t + ms(1999), SETTLE), None);
        assert_eq!(at.next_settle(SETTLE), Some(t + SETTLE));
        assert_eq!(at.settle(t + ms(5000), SETTLE), None, "life was seen too early");
        at.alive(t + ms(2000));
        assert_eq!(at.settle(t + ms(5000), SETTLE), Some(7));
        assert_eq!(at.settle(t + ms(5000), SETTLE), None, "it moved only once");
        assert_eq!((at.confirmed(), at.proven(), at.written()), (7, 7, 10));
        assert!(at.needs_proof());
    }

    #[test]
    fn without_any_life_nothing_is_confirmed() {
        let t = Instant::now();
        let mut at = Positions::new(0);
        at.wrote(10);
        at.prove(10, t);
        assert_eq!(at.settle(t + ms(60_000), SETTLE), None);
    }

    #[test]
    fn an_abnormal_end_within_the_settle_time_sends_proven_data_again() {
        let t = Instant::now();
        let mut at = Positions::new(3);
        at.wrote(10);
        at.prove(10, t);
        assert_eq!(at.abnormal_end(), 3);
        assert_eq!((at.confirmed(), at.proven(), at.written()), (3, 3, 3));
        at.alive(t + ms(9000));
        assert_eq!(at.settle(t + ms(9000), SETTLE), None, "the old proof is void");
        assert_eq!(at.last_settle(SETTLE), None);
    }

    #[test]
    fn nothing_unwritten_can_be_proven() {
        let t = Instant::now();
        let mut at = Positions::new(0);
        at.wrote(5);
        at.prove(9, t);
        assert_eq!(at.proven(), 5);
    }

    #[test]
    fn an_endless_run_of_proofs_settles_in_bounded_memory() {
        let t = Instant::now();
        let mut at = Positions::new(0u64);
        let mut last = t;
        for n in 1..200_000u64 {
            let now = t + Duration::from_micros(500 * n);
            at.wrote(n);
            at.prove(n, now);
            at.alive(now);
            assert!(at.proofs.len() <= MAX_PROOFS);
            if at.settle(now, SETTLE).is_some() {
                last = now;
            }
            assert!(now.duration_since(last) < SETTLE + 2 * SPACING, "settling starves");
        }
        assert!(at.confirmed() > 190_000);
    }

    #[test]
    fn proofs_beyond_the_bound_are_delayed_and_not_lost() {
        let t = Instant::now();
        let mut at = Positions::new(0u64);
        for n in 1..1000u64 {
            at.wrote(n);
            at.prove(n, t + SPACING * n as u32);
        }
        assert_eq!(at.proofs.len(), MAX_PROOFS);
        let end = at.last_settle(SETTLE).unwrap();
        assert_eq!(end, t + SPACING * 999 + SETTLE);
        at.alive(end);
        assert_eq!(at.settle(end, SETTLE), Some(999));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Wrote(u64),
        Prove(u64),
        Alive,
        Settle,
        AbnormalEnd,
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..50u64).prop_map(Step::Wrote),
            4 => (0..60u64).prop_map(Step::Prove),
            3 => Just(Step::Alive),
            3 => Just(Step::Settle),
            1 => Just(Step::AbnormalEnd),
            3 => (0..3000u64).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// Against the rule told plainly: every proof since the last abnormal end is kept, and
        /// one of them justifies each confirmation.
        #[test]
        fn only_settled_proofs_are_confirmed(steps in prop::collection::vec(step(), 1..300)) {
            let mut now = Instant::now();
            let mut at = Positions::new(0u64);
            let (mut written, mut proofs, mut life) = (0, Vec::new(), Vec::new());
            for step in steps {
                let before = at.confirmed();
                match step {
                    Step::Wrote(n) => {
                        written = at.written() + n;
                        at.wrote(written);
                    }
                    Step::Prove(n) => {
                        let p = at.proven() + n;
                        at.prove(p, now);
                        proofs.push((p.min(written), now));
                    }
                    Step::Alive => {
                        at.alive(now);
                        life.push(now);
                    }
                    Step::Settle => {
                        if let Some(p) = at.settle(now, SETTLE) {
                            prop_assert!(p > before);
                            prop_assert_eq!(p, at.confirmed());
                            let justified = proofs.iter().any(|&(q, since)| {
                                q >= p && since + SETTLE <= now
                                    && life.iter().any(|&seen| seen >= since + SETTLE)
                            });
                            prop_assert!(justified, "confirmed {} without a settled proof", p);
                        }
                    }
                    Step::AbnormalEnd => {
                        prop_assert_eq!(at.abnormal_end(), before);
                        proofs.clear();
                        written = before;
                    }
                    Step::Wait(n) => now += ms(n),
                }
                prop_assert!(at.confirmed() <= at.proven() && at.proven() <= at.written());
                prop_assert!(at.confirmed() >= before, "confirmed moved back");
                prop_assert!(at.proofs.len() <= MAX_PROOFS);
                prop_assert_eq!(at.proofs.back().map_or(at.confirmed(), |p| p.0), at.proven());
            }
            // Nothing proven is forgotten: with time and life, all of it is confirmed.
            let proven = at.proven();
            now += SETTLE;
            at.alive(now);
            at.settle(now, SETTLE);
            prop_assert_eq!(at.confirmed(), proven);
        }
    }
}
