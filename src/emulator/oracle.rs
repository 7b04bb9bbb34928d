//! The reconciliation oracle: what arrived, against what was sent.
//!
//! It knows how many logs each shard has, is told of every arrival, and at the end says
//! how many were lost, repeated, out of order or damaged. One bit a log, so that a
//! run of millions costs nothing.

use std::fmt;

/// Counts arrivals per shard. Not synchronised: put it behind a mutex to share it.
#[derive(Debug, Clone)]
pub struct Oracle {
    shards: Vec<Shard>,
    counts: Counts,
}

/// What an [`Oracle`] has seen so far, in logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Report {
    /// Sent, over all shards.
    pub expected: u64,
    /// Arrived at least once. A log counts even if it arrived damaged; see `corrupted`.
    pub delivered: u64,
    /// Arrivals of logs that had arrived before.
    pub duplicates: u64,
    /// First arrivals after the first arrival of a later log of the same shard.
    pub out_of_order: u64,
    /// Not arrived yet.
    pub lost: u64,
    /// Arrivals whose fields were not those sent.
    pub corrupted: u64,
    /// Arrivals that belong to no log sent.
    pub unknown: u64,
}

impl Oracle {
    /// Expects `expected[shard]` logs of each shard, numbered from 0.
    pub fn new(expected: Vec<u64>) -> Oracle {
        Oracle { shards: expected.into_iter().map(Shard::new).collect(), counts: Counts::default() }
    }

    /// Log `n` of `shard` arrived; `intact` if every field was as sent.
    pub fn delivered(&mut self, shard: u32, n: u64, intact: bool) {
        let shard = usize::try_from(shard).ok().and_then(|at| self.shards.get_mut(at));
        let Some(shard) = shard.filter(|shard| n < shard.expected) else {
            self.counts.unknown += 1;
            return;
        };
        self.counts.corrupted += u64::from(!intact);
        if !shard.seen.insert(n) {
            self.counts.duplicates += 1;
            return;
        }
        shard.delivered += 1;
        // A repeated log never moves `next`, so a replayed stretch is duplicates and no disorder.
        self.counts.out_of_order += u64::from(n < shard.next);
        shard.next = shard.next.max(n + 1);
    }

    /// A message arrived from which no id could be read.
    pub fn unknown(&mut self) {
        self.counts.unknown += 1;
    }

    /// The sums over all shards.
    pub fn report(&self) -> Report {
        let expected = self.shards.iter().map(|shard| shard.expected).sum();
        let delivered = self.shards.iter().map(|shard| shard.delivered).sum();
        let Counts { duplicates, out_of_order, corrupted, unknown } = self.counts;
        let lost = expected - delivered;
        Report { expected, delivered, duplicates, out_of_order, lost, corrupted, unknown }
    }

    /// Whether every log has arrived, each at least once.
    pub fn is_complete(&self) -> bool {
        self.shards.iter().all(|shard| shard.delivered == shard.expected)
    }

    /// The first `limit` logs that have not arrived, as shard and number.
    pub fn missing(&self, limit: usize) -> Vec<(u32, u64)> {
        let logs = (0u32..).zip(&self.shards).flat_map(|(at, shard)| {
            (0..shard.expected).filter(|&n| !shard.seen.contains(n)).map(move |n| (at, n))
        });
        logs.take(limit).collect()
    }
}

impl Report {
    /// Whether every log arrived intact and in order, and nothing else did. Duplicates are allowed.
    pub fn is_faithful(&self) -> bool {
        self.lost == 0 && self.out_of_order == 0 && self.corrupted == 0 && self.unknown == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} delivered, {} lost, {} duplicates, {} out of order, {} corrupted, {} unknown",
            self.delivered,
            self.expected,
            self.lost,
            self.duplicates,
            self.out_of_order,
            self.corrupted,
            self.unknown
        )
    }
}

#[derive(Debug, Clone, Default)]
struct Counts {
    duplicates: u64,
    out_of_order: u64,
    corrupted: u64,
    unknown: u64,
}

#[derive(Debug, Clone)]
struct Shard {
    expected: u64,
    delivered: u64,
    /// One more than the highest number that has arrived.
    next: u64,
    seen: Bitmap,
}

impl Shard {
    fn new(expected: u64) -> Shard {
        Shard { expected, delivered: 0, next: 0, seen: Bitmap::default() }
    }
}

/// A set of numbers that grows to the highest one it was given.
#[derive(Debug, Clone, Default)]
struct Bitmap(Vec<u64>);

impl Bitmap {
    /// Adds `n`; false when it was there.
    fn insert(&mut self, n: u64) -> bool {
        let (word, bit) = Self::place(n);
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let fresh = self.0[word] & bit == 0;
        self.0[word] |= bit;
        fresh
    }

    fn contains(&self, n: u64) -> bool {
        let (word, bit) = Self::place(n);
        self.0.get(word).is_some_and(|bits| bits & bit != 0)
    }

    fn place(n: u64) -> (usize, u64) {
        ((n / 64) as usize, 1 << (n % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(expected: &[u64], arrivals: &[(u32, u64)]) -> Oracle {
        let mut oracle = Oracle::new(expected.to_vec());
        for &(shard, n) in arrivals {
            oracle.delivered(shard, n, true);
        }
        oracle
    }

    #[test]
    fn everything_once_and_in_order_is_faithful() {
        let oracle = after(&[3, 0, 2], &[(0, 0), (2, 0), (0, 1), (2, 1), (0, 2)]);
        assert!(oracle.is_complete());
        assert!(oracle.report().is_faithful());
        assert_eq!(oracle.report(), Report { expected: 5, delivered: 5, ..Report::default() });
    }

    #[test]
    fn a_log_that_never_came_is_lost_and_named() {
        let oracle = after(&[3, 2], &[(0, 0), (0, 2), (1, 0)]);
        assert!(!oracle.is_complete());
        assert!(!oracle.report().is_faithful());
        assert_eq!(oracle.report().lost, 2);
        assert_eq!(oracle.report().out_of_order, 0);
        assert_eq!(oracle.missing(10), [(0, 1), (1, 1)]);
        assert_eq!(oracle.missing(1), [(0, 1)]);
    }

    #[test]
    fn a_repeated_log_is_a_duplicate_and_fills_no_hole() {
        let oracle = after(&[2], &[(0, 0), (0, 0), (0, 0)]);
        assert_eq!((oracle.report().delivered, oracle.report().duplicates), (1, 2));
        assert!(!oracle.is_complete());
    }

    #[test]
    fn a_first_arrival_behind_a_later_one_is_disorder() {
        let oracle = after(&[4, 4], &[(0, 0), (0, 3), (0, 1), (0, 2), (1, 0)]);
        assert_eq!(oracle.report().out_of_order, 2);
        assert!(!oracle.report().is_faithful());
    }

    #[test]
    fn a_replay_from_the_start_is_duplicates_and_no_disorder() {
        let mut arrivals: Vec<_> = (0..100).map(|n| (0, n)).collect();
        arrivals.extend((40..200).map(|n| (0, n)));
        let report = after(&[200], &arrivals).report();
        assert_eq!((report.duplicates, report.out_of_order, report.lost), (60, 0, 0));
        assert!(report.is_faithful());
    }

    #[test]
    fn a_hole_filled_during_a_replay_is_disorder() {
        let mut arrivals: Vec<_> = (0..10).filter(|&n| n != 5).map(|n| (0, n)).collect();
        arrivals.extend((0..10).map(|n| (0, n)));
        let report = after(&[10], &arrivals).report();
        assert_eq!((report.duplicates, report.out_of_order, report.lost), (9, 1, 0));
    }

    #[test]
    fn damaged_and_foreign_logs_are_counted_apart() {
        let mut oracle = after(&[2], &[(0, 2), (1, 0), (u32::MAX, u64::MAX)]);
        oracle.unknown();
        oracle.delivered(0, 0, false);
        let report = oracle.report();
        assert_eq!((report.unknown, report.corrupted, report.delivered), (4, 1, 1));
    }

    #[test]
    fn shards_far_larger_than_what_arrived_cost_no_memory() {
        let oracle = after(&[u64::MAX / 4, u64::MAX / 4], &[(0, 0), (1, 1_000)]);
        assert_eq!(oracle.report().delivered, 2);
        assert!(oracle.shards.iter().all(|shard| shard.seen.0.len() < 100));
    }
}
