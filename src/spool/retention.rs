//! How long delivered segments stay, and what the journal says about it.

use std::time::Duration;

use super::entry::{Change, Header, Seq};
use super::state::State;

/// What is kept of segments that every destination has passed, so that it can be sent again.
/// It makes room for new logs first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Retention {
    /// For this long after SLS received their newest logs. Zero keeps nothing.
    pub time: Duration,
    /// No more than this many bytes.
    pub bytes: u64,
}

impl Retention {
    /// The lowest segment that must stay: needed, `newest`, read again by somebody from batch
    /// `pinned` on, or kept for a while.
    pub(crate) fn floor(&self, state: &State, newest: u64, pinned: Option<Seq>) -> u64 {
        let needed = needed(state, newest, pinned);
        if self.time.is_zero() {
            return needed;
        }
        let time = i64::try_from(self.time.as_millis()).unwrap_or(i64::MAX);
        let oldest = jiff::Timestamp::now().as_millisecond().saturating_sub(time);
        let (mut floor, mut room) = (needed, self.bytes);
        for (id, info) in state.segments.range(..needed).rev() {
            let too_old = info.end_seq > info.first_seq && info.max_received < oldest;
            match room.checked_sub(info.length) {
                Some(left) if !too_old => (floor, room) = (*id, left),
                _ => break,
            }
        }
        floor.max(state.floor)
    }
}

/// The oldest segment that is only kept, if there is one: what to let go of when room is
/// needed.
pub(crate) fn oldest_kept(state: &State, newest: u64, pinned: Option<Seq>) -> Option<u64> {
    let oldest = *state.segments.keys().next()?;
    (oldest < needed(state, newest, pinned)).then_some(oldest)
}

fn needed(state: &State, newest: u64, pinned: Option<Seq>) -> u64 {
    let wanted = state.wanted_floor(newest);
    let pinned = pinned.and_then(|seq| state.segment_of(seq));
    pinned.map_or(wanted, |pinned| wanted.min(pinned.max(state.floor)))
}

/// Numbers given out so far, to be written down.
pub(crate) fn reached(state: &State) -> Change {
    Change::Reached { next_seq: state.next_seq, next_log: state.next_log }
}

/// Bytes of a journal entry about which it is divided: a reader takes neither much longer ones
/// nor a great many changes in one.
const JOURNAL_BYTES: usize = 64 << 10;

/// `changes` in their order as entries that every reader takes.
pub(crate) fn entries(changes: Vec<Change>) -> Vec<Header> {
    let mut entries = Vec::new();
    let mut rest = vec![changes];
    while let Some(mut changes) = rest.pop() {
        let half = changes.len() / 2;
        let entry = Header::Journal(changes);
        if half == 0 || entry.encode().len() <= JOURNAL_BYTES {
            entries.push(entry);
        } else if let Header::Journal(first) = entry {
            changes = first;
            let second = changes.split_off(half);
            rest.extend([second, changes]);
        }
    }
    entries
}

/// The journal entry for `changes`, with the floor they justify.
pub(crate) fn journal(
    state: &State,
    changes: &[Change],
    newest: u64,
    (retention, pinned): (&Retention, Option<Seq>),
) -> Option<Vec<Change>> {
    if changes.is_empty() {
        return None;
    }
    let mut changes = changes.to_vec();
    changes.push(reached(state));
    let mut after = state.without_shards();
    after.apply(newest, &Header::Journal(changes.clone()));
    let floor = retention.floor(&after, newest, pinned);
    if floor > state.floor {
        changes.push(Change::Floor { segment: floor });
    }
    Some(changes)
}
