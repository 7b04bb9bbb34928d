//! Committing the checkpoints of one shard: receipts in, fenced commits out.
//!
//! Only a [`Receipt`] can be committed, and only the spool makes one. While commits fail,
//! receipts wait in a bounded channel; when it is full the fetcher stops pulling, so that
//! what another relay would read again stays bounded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Receiver;

use super::backoff::{Backoff, Outage, Say};
use super::shard::Shard;
use super::status::add;
use super::stopped_for;
use crate::sls::{Advice, Cursor};
use crate::spool::Receipt;

/// How long a shard that is wanted elsewhere waits for its last commit.
const HAND_OVER: Duration = Duration::from_secs(10);
/// Least time between two commits of a shard.
const COMMIT_EVERY: Duration = Duration::from_millis(500);

/// How a shard's commits ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Committed {
    /// Everything that has a receipt is committed.
    All,
    /// The shard had to be given back before the last commit worked.
    InPart,
    /// Another consumer holds the shard: nothing more can be committed.
    Refused,
}

/// Commits until the fetcher is done and everything is committed.
pub(crate) async fn run(shard: Arc<Shard>, mut receipts: Receiver<Receipt>) -> Committed {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    let mut outage = Outage::default();
    // What the server says now is not known here: the first receipt is always committed.
    let mut committed: Option<String> = None;
    while let Some(mut receipt) = receipts.recv().await {
        while let Ok(later) = receipts.try_recv() {
            receipt = later;
        }
        if committed.as_deref() == Some(receipt.next_cursor()) {
            continue;
        }
        loop {
            let cursor = Cursor::new(receipt.next_cursor());
            match shard.commit(&cursor).await {
                Ok(()) => break,
                Err(error) => {
                    let wait = match error.advice() {
                        Advice::NotOwner => {
                            tracing::warn!(source = %shard.source.name, shard = shard.key.shard, code = error.code(), %error, "another consumer holds the shard; it is given up, and what was not committed may be delivered twice");
                            return Committed::Refused;
                        }
                        Advice::Retry { after } | Advice::Throttled { after } => after,
                        _ => error.retry_after().unwrap_or(Duration::from_secs(1)),
                    };
                    match outage.failed(Instant::now()) {
                        Say::Nothing => {}
                        _ => {
                            tracing::warn!(source = %shard.source.name, shard = shard.key.shard, code = error.code(), request_id = error.request_id(), "{}; the checkpoint is tried again, nothing is lost", super::chain(&error))
                        }
                    }
                    // The receipts that wait meanwhile stay in the channel: when it is full,
                    // pulling stops.
                    tokio::select! {
                        () = tokio::time::sleep(backoff.next(wait)) => {}
                        () = stopped_for(&shard.stop, HAND_OVER) => {
                            tracing::warn!(source = %shard.source.name, shard = shard.key.shard, code = error.code(), "the last checkpoint could not be committed in time; the shard is given back, and what was not committed may be delivered twice");
                            return Committed::InPart;
                        }
                    }
                }
            }
        }
        backoff.reset();
        outage.recovered(Instant::now());
        add(&shard.counters.commits, 1);
        shard.spool.committed(shard.key.clone(), receipt.next_cursor().to_owned());
        committed = Some(receipt.next_cursor().to_owned());
        // A stop closes the channel: then the last commit does not wait.
        if !receipts.is_closed() {
            let pause = tokio::time::sleep(COMMIT_EVERY);
            tokio::select! {
                () = pause => {}
                () = shard.stop.cancelled() => {}
            }
        }
    }
    Committed::All
}
