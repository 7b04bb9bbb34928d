//! What the writer is asked to do, and what it has accepted and not answered yet.

use tokio::sync::oneshot;

use super::Receipt;
use super::entry::{Batch, Change, Header, Origin, ShardKey};
use super::error::Error;
use super::format::MAX_BODY;
use super::keys::{Keys, OVERHEAD};
use super::segment::NewEntry;

/// What the writer is asked to do.
pub(crate) enum Command {
    /// Store a batch, or progress without one. The tenure counts for live ones only.
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
    /// Change what somebody ordered, now or not at all.
    Order(Change, oneshot::Sender<Result<(), Error>>),
    /// Write what is pending now.
    Flush(oneshot::Sender<Result<(), Error>>),
    /// End the thread after writing what is pending.
    Close,
}

/// What moves a shard on.
pub(crate) enum Append {
    /// The body is sealed already where `key_id` is not 0.
    Batch {
        batch: Batch,
        body_crc: u32,
        origin: Origin,
        key_id: u64,
    },
    Progress {
        cursor: String,
        next_cursor: String,
    },
}

impl Append {
    /// A batch, with its body sealed and the checksum of what will be stored: the costly
    /// things that the caller's thread can do before the writer's.
    pub(crate) fn of(
        keys: &Keys,
        shard: &ShardKey,
        mut batch: Batch,
        origin: Origin,
    ) -> Result<Self, Error> {
        const LIMIT: usize = MAX_BODY - OVERHEAD;
        if batch.body.len() > LIMIT {
            return Err(Error::TooLarge { size: batch.body.len(), limit: LIMIT });
        }
        let key_id = keys.seal(shard, &mut batch)?;
        let body_crc = crc32c::crc32c(&batch.body);
        Ok(Self::Batch { batch, body_crc, origin, key_id })
    }

    /// Whether it continues its shard.
    pub(crate) fn is_live(&self) -> bool {
        !matches!(self, Self::Batch { origin: Origin::Refetch | Origin::Import, .. })
    }
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
            Header::Batch(batch) if batch.key == *key && batch.origin == Origin::Live => {
                Some(&batch.next_cursor)
            }
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
