//! Numbered logs: how they are made, and how they are counted where they arrive.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::emulator::oracle::{Oracle, Report};
use crate::sls::wire::{Content, Log, LogGroup};

/// Field that holds the number of a log.
const NUMBER: &str = "torture_n";
/// What stands before it in a message.
const NUMBER_KEY: &str = "torture_n=";
/// The last field of a log: a message that does not end so was cut.
const LAST: &str = "||torture_end=1";
/// Octets of filling, which make a message of about 1,000.
const FILLING: usize = 800;

/// Counts messages by their numbers. Clones count together.
#[derive(Clone)]
pub(super) struct Tally(Arc<Mutex<State>>);

struct State {
    oracle: Oracle,
    damaged: u64,
}

impl Tally {
    /// Expects logs numbered 0 to `logs` - 1.
    pub(super) fn new(logs: u64) -> Self {
        Self(Arc::new(Mutex::new(State { oracle: Oracle::new(vec![logs]), damaged: 0 })))
    }

    /// Takes a message. One that carries no number is not one of ours: a notice of the relay, a
    /// line of the receiver's own. One that was cut does not count as arrived.
    pub(super) fn message(&self, message: &[u8]) {
        let message = String::from_utf8_lossy(message);
        let Some(number) = number_of(&message) else { return };
        let mut state = self.lock();
        match is_whole(&message) {
            true => state.oracle.delivered(0, number, true),
            false => state.damaged += 1,
        }
    }

    /// The account so far.
    pub(super) fn report(&self) -> Report {
        self.lock().oracle.report()
    }

    /// Messages that arrived cut or merged.
    pub(super) fn damaged(&self) -> u64 {
        self.lock().damaged
    }

    /// First numbers that are missing, for whoever looks into a loss.
    pub(super) fn missing(&self, limit: usize) -> Vec<u64> {
        self.lock().oracle.missing(limit).into_iter().map(|(_, number)| number).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `count` logs from number `first` on, as a log group of Log Service.
pub(super) fn group(first: u64, count: u64) -> LogGroup {
    let content = |key: &'static str, value: Bytes| Content { key: key.into(), value };
    let log = |number: u64| Log {
        time: 1_760_140_800 + u32::try_from(number / 1000).unwrap_or(0),
        contents: vec![
            content(NUMBER, number.to_string().into()),
            content("filling", vec![b'x'; FILLING].into()),
            content("torture_end", "1".into()),
        ],
        time_ns: None,
    };
    LogGroup { logs: (first..first + count).map(log).collect(), ..LogGroup::default() }
}

/// The same log as a message, for senders that do not read Log Service.
pub(super) fn message(number: u64) -> String {
    let body = body(number);
    format!("<14>1 2026-01-01T00:00:00Z torture feed - - [torture@32473 idx=\"{number}\"] {body}")
}

/// The last part of that message.
pub(super) fn body(number: u64) -> String {
    format!("||{NUMBER_KEY}{number}||filling={}{LAST}", "x".repeat(FILLING))
}

/// The number in a message.
fn number_of(message: &str) -> Option<u64> {
    let (_, rest) = message.split_once(NUMBER_KEY)?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// Whether it is one message, which ends as it was made.
fn is_whole(message: &str) -> bool {
    let one = message.find(NUMBER_KEY) == message.rfind(NUMBER_KEY);
    one && message.trim_ascii_end().ends_with(LAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_missing_repeated_late_and_cut() {
        let tally = Tally::new(6);
        for number in [0, 1, 3, 2, 3] {
            tally.message(message(number).as_bytes());
        }
        let cut = message(4);
        tally.message(&cut.as_bytes()[..cut.len() - 2]);
        tally.message(format!("{}{}", message(5), message(5)).as_bytes());
        tally.message(b"<46>1 - - - - - - a line of the receiver");
        let report = tally.report();
        assert_eq!((report.lost, report.duplicates, report.out_of_order), (2, 1, 1));
        assert_eq!((tally.damaged(), report.unknown), (2, 0));
        assert_eq!(tally.missing(9), [4, 5]);
    }
}
