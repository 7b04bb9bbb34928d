//! What the writer is asked to do, and what it has accepted and not answered yet.

use tokio::sync::oneshot;

use super::Receipt;
use super::entry::{Batch, Change, Header, ShardKey};
use super::error::Error;
use super::segment::NewEntry;
use super::state::State;

/// What the writer is asked to do.
pub(crate) enum Command {
    /// Store a batch, or progress without one.
    Append {
        tenure: u64,
        key: ShardKey,
        append: Append,
        reply: oneshot::Sender<Result<Receipt, Error>>,
    },
    /// Take a shard, starting at `start`; answers the number of the tenure.
    Begin {
        key: ShardKey,
        start: String,
        checkpoint: Option<String>,
        reply: oneshot::Sender<Result<u64, Error>>,
    },
    /// Give a shard up.
    End { key: ShardKey, tenure: u64 },
    /// Change positions; written soon.
    Change(Change),
    /// Write what is pending now.
    Flush(oneshot::Sender<Result<(), Error>>),
    /// End the thread after writing what is pending.
    Close,
}

/// What moves a shard on.
pub(crate) enum Append {
    Batch { batch: Batch, body_crc: u32 },
    Progress { cursor: String, next_cursor: String },
}

/// An accepted command on its way through a group.
pub(crate) struct Pending {
    pub(crate) entry: NewEntry,
    pub(crate) answer: Answer,
}

/// Who waits for it, and for what.
pub(crate) enum Answer {
    Receipt(Receipt, oneshot::Sender<Result<Receipt, Error>>),
    Tenure(ShardKey, oneshot::Sender<Result<u64, Error>>),
}

impl Pending {
    /// Where this leaves `key`, if it moves it.
    pub(crate) fn moves(&self, key: &ShardKey) -> Option<&str> {
        match &self.entry.header {
            Header::Batch(batch) if batch.key == *key => Some(&batch.next_cursor),
            Header::Progress(progress) if progress.key == *key => Some(&progress.next_cursor),
            _ => None,
        }
    }

    pub(crate) fn refuse(self, error: &Error) {
        match self.answer {
            Answer::Receipt(_, reply) => drop(reply.send(Err(error.again()))),
            Answer::Tenure(_, reply) => drop(reply.send(Err(error.again()))),
        }
    }
}

/// How far the numbers have gone, for a journal.
pub(crate) fn reached(state: &State) -> Change {
    Change::Reached { next_seq: state.next_seq, next_log: state.next_log }
}

/// The journal entry for `changes`, with the floor they justify.
pub(crate) fn journal(state: &State, changes: &[Change], newest: u64) -> Option<Vec<Change>> {
    if changes.is_empty() {
        return None;
    }
    let mut changes = changes.to_vec();
    changes.push(reached(state));
    let mut after = state.clone();
    after.apply(newest, &Header::Journal(changes.clone()));
    let floor = after.wanted_floor(newest);
    if floor > state.floor {
        changes.push(Change::Floor { segment: floor });
    }
    Some(changes)
}
