//! Log groups that repeat, so that the answers with them are made once and kept: what a
//! client costs and how fast it is shows only beside a service that costs little.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// Answers kept; with more than these all are made anew.
const KEPT: usize = 512;

/// Answers with repeating log groups.
pub(super) struct Repeated {
    period: u64,
    kept: Mutex<HashMap<Key, Kept>>,
}

/// What makes two answers the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// Number of the first log group within the period.
    first: u64,
    /// Log groups asked for that are there.
    groups: usize,
    compression: &'static str,
}

/// One answer without what depends on the cursor.
#[derive(Clone)]
pub(super) struct Kept {
    /// Compressed.
    pub body: Bytes,
    pub raw_size: usize,
    pub groups: u64,
}

impl Repeated {
    /// For log groups that repeat after `period`.
    pub(super) fn new(period: u64) -> Repeated {
        Repeated { period: period.max(1), kept: Mutex::default() }
    }

    /// The key of an answer with so many log groups from the one with number `first` on.
    pub(super) fn key(&self, first: u64, groups: usize, compression: &'static str) -> Key {
        Key { first: first % self.period, groups, compression }
    }

    pub(super) fn get(&self, key: Key) -> Option<Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    pub(super) fn keep(&self, key: Key, answer: Kept) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(key, answer);
    }
}
