//! Who may append what: continuity of shards, tenures, the quota, and numbers.

use tokio::sync::oneshot;

use super::super::Receipt;
use super::super::command::{Answer, Append, Pending};
use super::super::entry::{BatchHeader, Change, Header, Progress, ShardKey};
use super::super::error::Error;
use super::super::segment::NewEntry;
use super::Writer;

impl Writer {
    /// Checks one append against everything accepted before it and numbers it.
    pub(super) fn accept(
        &mut self,
        key: ShardKey,
        append: Append,
        accepted: &[Pending],
    ) -> Result<(Header, bytes::Bytes, u32, Receipt), Error> {
        if let Append::Batch { batch, .. } = &append {
            let pending: u64 = accepted.iter().map(|p| p.entry.body.len() as u64).sum();
            let admitted = self.quota.admit(self.shared.disk(), pending, batch.body.len() as u64);
            self.pressed |= admitted.is_err();
            admitted?;
        }
        let inner = self.shared.lock();
        let position = accepted
            .iter()
            .rev()
            .find_map(|pending| pending.moves(&key))
            .or_else(|| inner.state.shards.get(&key).map(|shard| shard.position.as_str()))
            .unwrap_or_default();
        let cursor = match &append {
            Append::Batch { batch, .. } => &batch.cursor,
            Append::Progress { cursor, .. } => cursor,
        };
        if append.is_live() && cursor != position {
            return Err(Error::NotContinuous {
                shard: key.to_string(),
                cursor: cursor.clone(),
                position: position.to_owned(),
            });
        }
        let before = accepted.iter().filter_map(|pending| match &pending.entry.header {
            Header::Batch(header) => Some(u64::from(header.logs)),
            _ => None,
        });
        let (batches, logs) = before.fold((0, 0), |(n, sum), logs| (n + 1, sum + logs));
        let next_seq = inner.state.next_seq + batches;
        let receipt = |next_cursor: &str, logs, end| Receipt {
            key: key.clone(),
            next_cursor: next_cursor.to_owned(),
            logs,
            end,
        };
        match append {
            Append::Progress { cursor, next_cursor } => {
                let receipt = receipt(&next_cursor, 0, next_seq);
                let progress = Progress { key, cursor, next_cursor, jump: false };
                Ok((Header::Progress(progress).checked()?, bytes::Bytes::new(), 0, receipt))
            }
            Append::Batch { batch, body_crc, origin, key_id } => {
                let receipt = receipt(&batch.next_cursor, batch.logs, next_seq + 1);
                let at = (next_seq, inner.state.next_log + logs);
                let (header, body) = BatchHeader::of(batch, key, at, origin, key_id);
                Ok((Header::Batch(header).checked()?, body, body_crc, receipt))
            }
        }
    }

    pub(super) fn begin(
        &mut self,
        key: ShardKey,
        start: String,
        checkpoint: Option<String>,
        reply: oneshot::Sender<Result<u64, Error>>,
        accepted: &mut Vec<Pending>,
    ) {
        self.tenures.remove(&key);
        let jump = Progress {
            key: key.clone(),
            cursor: checkpoint.clone().unwrap_or_default(),
            next_cursor: start.clone(),
            jump: true,
        };
        let jump = match Header::Progress(jump).checked() {
            Ok(jump) => jump,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let continues = {
            let inner = self.shared.lock();
            inner.state.shards.get(&key).is_some_and(|shard| shard.position == start)
                && !accepted.iter().any(|pending| pending.moves(&key).is_some())
        };
        if continues {
            if let Some(cursor) = checkpoint {
                self.note(Change::Committed { key: key.clone(), cursor });
            }
            let tenure = self.grant(key);
            let _ = reply.send(Ok(tenure));
        } else {
            accepted
                .push(Pending { entry: NewEntry::bare(jump), answer: Answer::Tenure(key, reply) });
        }
    }

    pub(super) fn grant(&mut self, key: ShardKey) -> u64 {
        let tenure = self.next_tenure;
        self.next_tenure += 1;
        self.tenures.insert(key, tenure);
        tenure
    }
}
