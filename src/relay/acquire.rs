//! Taking a shard: which cursor pulling begins at.
//!
//! Our own position where the server's checkpoint is one we made, else the server's, else
//! the configured start. An operator's reset, and the progress of another relay, are obeyed.

use std::sync::PoisonError;

use super::fetcher::Fetcher;
use crate::config::{Checkpoint, Start};
use crate::sls::{CheckpointState, Cursor, CursorFrom};
use crate::spool::{self, Tenure};

impl Fetcher {
    /// Takes the shard, however often it needs to be tried.
    pub(super) async fn acquire(&mut self) -> (Tenure, Cursor) {
        loop {
            match self.try_acquire().await {
                Ok((tenure, cursor, goes_on)) => {
                    self.recovered();
                    if goes_on {
                        self.owe(&tenure, &cursor).await;
                    }
                    return (tenure, cursor);
                }
                Err(pause) => tokio::time::sleep(pause).await,
            }
        }
    }

    /// The last says whether pulling goes on where the spool ends.
    async fn try_acquire(&mut self) -> Result<(Tenure, Cursor, bool), std::time::Duration> {
        let shard = std::sync::Arc::clone(&self.shard);
        let logstore = &shard.source.logstore;
        let server = shard.server_checkpoint().await.map_err(|error| self.failed(&error))?;
        let checkpoint = server.as_ref().and_then(|state| state.checkpoint.clone());
        let known = shard.spool.shard(&shard.key);
        let reached = known.as_ref().map(|known| Cursor::new(known.position.as_str()));
        let (start, why) = match known {
            Some(known) if self.is_ours(&known, server.as_ref()) => {
                (known.position, "goes on where the spool ends")
            }
            // Our own commit of something that the spool does not know: the spool lost its end.
            // Reading it again costs duplicates; going on behind it would cost logs.
            Some(known) if self.is_behind(&known, server.as_ref()) => {
                tracing::error!(source = %shard.source.name, shard = shard.key.shard, code = "spool.behind", position = %known.position, checkpoint = checkpoint.as_ref().map(Cursor::as_str), "the spool has lost logs whose checkpoint this relay had committed; they are pulled again");
                (known.position, "goes on where the spool ends, behind its own checkpoint")
            }
            _ => match &checkpoint {
                Some(cursor) => (cursor.as_str().to_owned(), "starts at the group's checkpoint"),
                None => {
                    let from = match shard.source.start {
                        Start::Begin => CursorFrom::Begin,
                        Start::End => CursorFrom::End,
                        Start::Time(time) => CursorFrom::Time(time.as_second()),
                    };
                    let cursor = shard.client.get_cursor(logstore, shard.key.shard, from).await;
                    let cursor = cursor.map_err(|error| self.failed(&error))?;
                    // The group was deleted, and its checkpoints with it: the logs behind the
                    // spool's end were never pulled, and to start behind them would lose them.
                    match reached.clone().filter(|reached| reached.is_before(&cursor)) {
                        Some(at) => (
                            at.as_str().to_owned(),
                            "has lost its checkpoint and goes on where the spool ends",
                        ),
                        None => (
                            cursor.as_str().to_owned(),
                            "has no checkpoint and starts as configured",
                        ),
                    }
                }
            },
        };
        shard.found.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&checkpoint);
        let checkpoint = checkpoint.map(|cursor| cursor.as_str().to_owned());
        let begun = shard.spool.begin(shard.key.clone(), start.clone(), checkpoint).await;
        let tenure = begun.map_err(|error| self.spool_failed(&error))?;
        tracing::info!(source = %shard.source.name, shard = shard.key.shard, cursor = %start, "shard taken, {why}");
        let start = Cursor::new(start);
        let goes_on = reached.as_ref() == Some(&start);
        Ok((tenure, start, goes_on))
    }

    /// What the spool holds of an earlier tenure and is not committed is owed as much as what
    /// is pulled from now on: its receipt is made anew, for this tenure.
    async fn owe(&mut self, tenure: &Tenure, cursor: &Cursor) {
        let cursor = cursor.as_str();
        let committed = self.shard.spool.shard(&self.shard.key).and_then(|known| known.committed);
        let known = committed.as_deref() == Some(cursor);
        let undelivered =
            self.shard.source.checkpoint == Checkpoint::Delivered && self.shard.spool.waiting() > 0;
        if known && !undelivered {
            return;
        }
        loop {
            let spool = self.shard.spool.clone();
            match spool.progress(tenure, cursor.to_owned(), cursor.to_owned()).await {
                Ok(receipt) => return self.hand_on(receipt).await,
                Err(error) => tokio::time::sleep(self.spool_failed(&error)).await,
            }
        }
    }

    /// Whether the server's checkpoint is one we made, or still the one we began at: then
    /// nothing lies between it and the spool's position that the spool does not hold. Another
    /// one that the shard has passed on its way may be an operator's reset, who names nobody.
    fn is_ours(&self, known: &spool::ShardState, server: Option<&CheckpointState>) -> bool {
        let checkpoint = server.and_then(|state| state.checkpoint.as_ref()).map(Cursor::as_str);
        let by_us = server.is_some_and(|state| state.consumer == self.shard.consumer);
        // Who committed the last one that was seen, another consumer perhaps, is all the same.
        let unchanged = known.committed.as_deref() == checkpoint;
        known.is_ours(checkpoint) && (by_us || unchanged)
    }

    fn is_behind(&self, known: &spool::ShardState, server: Option<&CheckpointState>) -> bool {
        let position = Cursor::new(known.position.as_str());
        server.filter(|state| state.consumer == self.shard.consumer).is_some_and(|state| {
            state.checkpoint.as_ref().is_some_and(|checkpoint| position.is_before(checkpoint))
        })
    }
}
