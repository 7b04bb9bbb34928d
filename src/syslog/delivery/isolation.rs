//! Finds the one log that a receiver ends every connection for.
//!
//! Some receivers close a connection, or refuse a message, because of what is in it: too long a
//! frame for syslog-ng is the known case. Sent again and again it would hold everything behind
//! it for ever. So when connections keep dying soon after taking data, without anything having
//! been confirmed in between, fewer and fewer logs are sent at a time, until one stands alone.
//!
//! A log that dies alone is not guilty yet: a receiver that is broken, or expects another
//! framing, ends every connection. The counter-proof is a message of the relay's own. Only if
//! the receiver takes that one, and the log alone kills the next connection too, is it the log.
//!
//! No clock and no socket here.

/// Deaths in a row at the same confirmed position before logs are suspected.
const SUSPICIOUS: u32 = 3;

/// How a connection died, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// Nothing to do with what was sent: no connection came about, the path broke, time ran out.
    Unrelated,
    /// The receiver ended the connection soon after it took data.
    AfterData,
    /// The receiver refused a message by its number: so many that were written and not confirmed
    /// before it are not concerned.
    Refused {
        /// Messages before it.
        before: u64,
    },
}

/// What may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// As much as flows.
    Flow,
    /// At most so many logs; nothing behind them before they are confirmed.
    Few(u32),
    /// No log, but a message of the relay's own.
    Control,
}

/// The search for the log, of one destination.
#[derive(Debug, Clone)]
pub struct Isolation<P> {
    /// Where deaths came in a row, and how many.
    stuck: Option<(P, u32)>,
    hunt: Option<Hunt<P>>,
}

#[derive(Debug, Clone)]
struct Hunt<P> {
    /// The log is before this.
    until: P,
    /// Logs to send at a time.
    most: u32,
    /// Whether the first log died alone.
    alone: bool,
    control: Control,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Control {
    Unknown,
    Failed,
    Passed,
}

impl<P> Default for Isolation<P> {
    fn default() -> Self {
        Self { stuck: None, hunt: None }
    }
}

impl<P: Copy + Ord> Isolation<P> {
    /// What to send next.
    pub fn step(&self) -> Step {
        match &self.hunt {
            None => Step::Flow,
            Some(hunt) if hunt.alone && hunt.control != Control::Passed => Step::Control,
            Some(hunt) => Step::Few(hunt.most),
        }
    }

    /// Whether the receiver refuses even what the relay says itself.
    pub fn refuses_everything(&self) -> bool {
        self.hunt.as_ref().is_some_and(|hunt| hunt.control == Control::Failed)
    }

    /// A connection died with `logs` logs written between `confirmed` and `written`. True if the
    /// log at `confirmed` is the one.
    pub fn died(&mut self, death: Death, confirmed: P, written: P, logs: u64) -> bool {
        let (named, logs) = match death {
            Death::Unrelated => {
                // Who comes back may be another, or the same with another configuration.
                if let Some(hunt) = &mut self.hunt
                    && hunt.control == Control::Passed
                {
                    hunt.control = Control::Unknown;
                }
                return false;
            }
            // Those before it are fine, so what remains is it, or they and it.
            Death::Refused { before } => (true, before.max(1).saturating_mul(2).min(logs)),
            Death::AfterData => (false, logs),
        };
        if logs == 0 {
            return false;
        }
        let first = matches!(death, Death::Refused { before: 0 });
        let deaths = match self.stuck {
            Some((at, deaths)) if at == confirmed => deaths + 1,
            _ => 1,
        };
        self.stuck = Some((confirmed, deaths));
        let half = u32::try_from(logs / 2).unwrap_or(u32::MAX).max(1);
        match &mut self.hunt {
            None if named || deaths >= SUSPICIOUS => {
                let alone = first || logs == 1;
                let most = if alone { 1 } else { half };
                self.hunt = Some(Hunt { until: written, most, alone, control: Control::Unknown });
                false
            }
            None => false,
            Some(hunt) if first || logs == 1 => {
                let guilty = hunt.alone && hunt.control == Control::Passed;
                hunt.until = hunt.until.min(written);
                (hunt.most, hunt.alone, hunt.control) = (1, true, Control::Unknown);
                guilty
            }
            Some(hunt) => {
                hunt.until = hunt.until.min(written);
                hunt.most = hunt.most.min(half);
                false
            }
        }
    }

    /// The relay's own message was taken, or not.
    pub fn control(&mut self, taken: bool) {
        if let Some(hunt) = &mut self.hunt {
            hunt.control = if taken { Control::Passed } else { Control::Failed };
        }
    }

    /// Another receiver is in use: that the last one took the relay's message acquits nobody of
    /// what this one does.
    pub fn another_receiver(&mut self) {
        if let Some(hunt) = &mut self.hunt
            && hunt.control == Control::Passed
        {
            hunt.control = Control::Unknown;
        }
    }

    /// Everything before `p` is confirmed, or out of the way.
    pub fn passed(&mut self, p: P) {
        if self.stuck.is_some_and(|(at, _)| at < p) {
            self.stuck = None;
            if let Some(hunt) = &mut self.hunt {
                (hunt.alone, hunt.control) = (false, Control::Unknown);
            }
        }
        if self.hunt.as_ref().is_some_and(|hunt| hunt.until <= p) {
            self.hunt = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A receiver that dies at some of the logs, and what a sender does to it. Returns what was
    /// found guilty, in order, and how many connections it took.
    fn hunt(logs: u64, poison: &[u64], named: bool, sick: bool) -> (Vec<u64>, u32) {
        let mut isolation = Isolation::default();
        let (mut confirmed, mut found) = (0u64, Vec::new());
        for connections in 0..10_000 {
            if confirmed >= logs {
                return (found, connections);
            }
            let most = match isolation.step() {
                Step::Control => {
                    isolation.control(!sick);
                    continue;
                }
                Step::Few(most) => u64::from(most),
                Step::Flow => 1000,
            };
            let written = (confirmed + most).min(logs);
            let hit = (confirmed..written).find(|log| sick || poison.contains(log));
            let Some(hit) = hit else {
                confirmed = written;
                isolation.passed(confirmed);
                continue;
            };
            let death = match named {
                true => Death::Refused { before: hit - confirmed },
                false => Death::AfterData,
            };
            if isolation.died(death, confirmed, written, written - confirmed) {
                found.push(confirmed);
                confirmed += 1;
                isolation.passed(confirmed);
            }
        }
        (found, 10_000)
    }

    #[test]
    fn the_guilty_logs_are_found_and_no_others() {
        for named in [false, true] {
            for poison in [&[][..], &[0], &[777], &[999], &[4000, 4001, 4002], &[5, 900, 8_999]] {
                let (found, connections) = hunt(9_000, poison, named, false);
                assert_eq!(found, poison, "named: {named}");
                let allowed = 10 + 40 * poison.len() as u32;
                assert!(connections < allowed, "{connections} connections for {poison:?}");
            }
        }
    }

    #[test]
    fn a_receiver_that_takes_nothing_at_all_costs_no_log() {
        for named in [false, true] {
            assert_eq!(hunt(9_000, &[], named, true), (vec![], 10_000));
        }
    }

    #[test]
    fn deaths_for_other_reasons_raise_no_suspicion() {
        let mut isolation = Isolation::default();
        for _ in 0..50 {
            assert!(!isolation.died(Death::Unrelated, 7, 9, 2));
            assert!(!isolation.died(Death::AfterData, 7, 7, 0), "nothing was written");
        }
        assert_eq!(isolation.step(), Step::Flow);
    }

    #[test]
    fn progress_between_deaths_is_no_pattern() {
        let mut isolation = Isolation::default();
        for at in 0..50u64 {
            isolation.passed(at);
            assert!(!isolation.died(Death::AfterData, at, at + 10, 10));
            assert!(!isolation.died(Death::AfterData, at, at + 10, 10));
            assert_eq!(isolation.step(), Step::Flow);
        }
    }

    #[test]
    fn the_counter_proof_is_asked_for_before_every_verdict() {
        let mut isolation = Isolation::default();
        for _ in 0..3 {
            assert!(!isolation.died(Death::AfterData, 5, 6, 1));
        }
        assert_eq!(isolation.step(), Step::Control);
        isolation.control(false);
        assert!(isolation.refuses_everything());
        assert_eq!(isolation.step(), Step::Control);
        isolation.control(true);
        assert_eq!(isolation.step(), Step::Few(1));
        assert!(isolation.died(Death::AfterData, 5, 6, 1));
    }

    #[test]
    fn what_one_receiver_took_is_no_proof_against_a_log_at_another() {
        let mut isolation = Isolation::default();
        for _ in 0..3 {
            isolation.died(Death::AfterData, 5, 6, 1);
        }
        isolation.control(true);
        // The one that took it cannot be reached any more.
        assert!(!isolation.died(Death::Unrelated, 5, 5, 0));
        isolation.another_receiver();
        assert_eq!(isolation.step(), Step::Control, "the other one is asked, too");
        assert!(!isolation.died(Death::AfterData, 5, 6, 1));
        isolation.control(false);
        isolation.another_receiver();
        assert!(isolation.refuses_everything(), "and what that one said stands until it is asked");
    }

    #[test]
    fn a_counter_proof_holds_for_one_receiver_and_until_it_is_away() {
        let mut isolation = Isolation::default();
        for _ in 0..3 {
            assert!(!isolation.died(Death::AfterData, 5, 6, 1));
        }
        isolation.control(true);
        isolation.another_receiver();
        assert_eq!(isolation.step(), Step::Control, "the other one may take nothing at all");
        isolation.control(true);
        isolation.died(Death::Unrelated, 5, 5, 0);
        assert_eq!(isolation.step(), Step::Control, "it may have come back as a broken one");
        isolation.control(true);
        assert!(isolation.died(Death::AfterData, 5, 6, 1));
    }
}
