//! Sets of batch numbers, kept as few stretches as possible.

use bincode::{Decode, Encode};

use super::entry::Seq;

/// Batches from `first` on and before `end`.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Span {
    /// First batch.
    pub first: Seq,
    /// One past the last batch.
    pub end: Seq,
}

impl Span {
    /// Whether no batch lies in it.
    pub fn is_empty(&self) -> bool {
        self.first >= self.end
    }

    /// Whether `seq` lies in it.
    pub fn contains(&self, seq: Seq) -> bool {
        (self.first..self.end).contains(&seq)
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.end == self.first + 1 {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}..{}", self.first, self.end)
        }
    }
}

/// Spans in order, that neither touch nor overlap.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
pub struct Spans(Vec<Span>);

impl Spans {
    /// Adds the batches of `span`.
    pub(crate) fn insert(&mut self, mut span: Span) {
        if span.is_empty() {
            return;
        }
        self.0.retain(|old| {
            let apart = old.end < span.first || span.end < old.first;
            if !apart {
                span = Span { first: span.first.min(old.first), end: span.end.max(old.end) };
            }
            apart
        });
        let at = self.0.partition_point(|old| old.first < span.first);
        self.0.insert(at, span);
    }

    /// Takes the batches of `span` out.
    pub(crate) fn remove(&mut self, span: Span) {
        if span.is_empty() {
            return;
        }
        let left = self.0.iter().flat_map(|old| {
            let before = Span { first: old.first, end: old.end.min(span.first) };
            let after = Span { first: old.first.max(span.end), end: old.end };
            [before, after]
        });
        self.0 = left.filter(|span| !span.is_empty()).collect();
    }

    /// The span that holds `seq`.
    pub fn of(&self, seq: Seq) -> Option<Span> {
        self.0.iter().copied().find(|span| span.contains(seq))
    }

    /// The spans, in order.
    pub fn iter(&self) -> impl Iterator<Item = Span> + '_ {
        self.0.iter().copied()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn spans_hold_what_a_plain_set_would_and_never_touch() {
        let mut rng = fastrand::Rng::with_seed(4);
        for _ in 0..200 {
            let (mut spans, mut set) = (Spans::default(), BTreeSet::new());
            for _ in 0..rng.u32(1..20) {
                let first = rng.u64(..30);
                let span = Span { first, end: first + rng.u64(..6) };
                if rng.u8(..3) > 0 {
                    spans.insert(span);
                    set.extend(span.first..span.end);
                } else {
                    spans.remove(span);
                    set.retain(|seq| !span.contains(*seq));
                }
                let held: Vec<Seq> = (0..40).filter(|seq| spans.of(*seq).is_some()).collect();
                assert_eq!(held, set.iter().copied().collect::<Vec<_>>());
                assert!(spans.0.windows(2).all(|two| two[0].end < two[1].first), "{spans:?}");
            }
        }
    }
}
