//! Making room: what is only kept goes first, then what is there for destinations alone that
//! are not required.

use std::time::Instant;

use super::super::entry::{Change, Header};
use super::super::error::Error;
use super::super::ledger;
use super::super::retention::oldest_kept;
use super::super::standing::GivingWay;
use super::{JOURNAL_EVERY, Writer};

impl Writer {
    /// Lets go of segments that are kept no longer, and of the oldest one that can go where a
    /// batch did not fit; true where that has to be written at once.
    pub(super) fn let_go(&mut self) -> bool {
        let Some(newest) = self.segment.as_ref().map(|open| open.id) else { return false };
        let pinned = self.shared.pinned();
        if std::mem::take(&mut self.pressed) {
            // One at a time, also while the disk refuses to write it down.
            let due = |change: &Change| matches!(change, Change::Floor { .. });
            if self.changes.iter().any(due) {
                return true;
            }
            let kept = oldest_kept(&self.shared.lock().state, newest, pinned);
            return match kept {
                Some(oldest) => {
                    self.note(Change::Floor { segment: oldest + 1 });
                    true
                }
                None => self.give_way(newest),
            };
        }
        if self.retained_at.elapsed() >= JOURNAL_EVERY {
            self.retained_at = Instant::now();
            let floor = {
                let inner = self.shared.lock();
                let floor = self.retention.floor(&inner.state, newest, pinned);
                (floor > inner.state.floor).then_some(floor)
            };
            if let Some(segment) = floor {
                self.note(Change::Floor { segment });
            }
        }
        false
    }

    /// Takes the oldest segment from the destinations that are not required, where they alone
    /// hold it. The ledger knows first: no crash makes that a loss nobody is told of.
    fn give_way(&mut self, newest: u64) -> bool {
        let giving = {
            let inner = self.shared.lock();
            if inner.yielding.is_empty() {
                return false;
            }
            let mut state = inner.state.without_shards();
            // What was confirmed a moment ago is not lost.
            state.apply(newest, &Header::Journal(self.changes.clone()));
            GivingWay::of(&state, &inner.yielding, newest, self.shared.pinned())
        };
        let Some(giving) = giving else { return false };
        for line in giving.lines() {
            if let Err(error) = self.note_with_reserve(&line) {
                self.shared.failed(&error);
                return false;
            }
        }
        for (destination, _, logs) in &giving.lost {
            self.shared.gave_up(destination, *logs);
        }
        giving.changes().for_each(|change| self.note(change));
        true
    }

    /// Writes to the ledger; on a full disk with the room of the reserve.
    fn note_with_reserve(&mut self, line: &serde_json::Value) -> Result<(), Error> {
        let shared = std::sync::Arc::clone(&self.shared);
        let note = || shared.keep(|disk| ledger::note(disk, line));
        note().or_else(|_| {
            self.quota.give_reserve_up(shared.disk());
            note()
        })
    }
}
