//! One held shard, from taking it to giving it up.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::checkpointer::{self, Committed};
use super::fetcher::{self, Fetcher};
use super::status::{ShardCounters, SourceCounters, UNKNOWN};
use crate::config::Source;
use crate::sls::{CheckpointState, Client, Cursor, Error, PullBudget};
use crate::spool::{self, ShardKey, Spool};

/// Receipts that may wait for their commit before pulling stops.
const UNCOMMITTED: usize = 32;

/// What the tasks of one shard share.
pub(crate) struct Shard {
    pub(crate) source: Arc<Source>,
    pub(crate) client: Client,
    pub(crate) spool: Spool,
    pub(crate) key: ShardKey,
    pub(crate) consumer: String,
    pub(crate) counters: Arc<ShardCounters>,
    /// Of the source: how long SLS keeps what was not pulled.
    pub(crate) of_source: Arc<SourceCounters>,
    pub(crate) budget: PullBudget,
    /// The checkpoint that the server had when the shard was taken.
    pub(crate) found: Mutex<Option<Cursor>>,
    /// Stop pulling, commit, give the shard back.
    pub(crate) stop: CancellationToken,
    /// The whole relay stops.
    pub(crate) stopping: CancellationToken,
    /// Nothing more will be delivered: commit what is.
    pub(crate) finish: CancellationToken,
}

/// How a shard ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ended {
    /// Stopped as asked; everything pulled is durable and committed.
    Drained,
    /// Another consumer holds it.
    Lost,
    /// Another process with our name consumes it.
    Twin,
}

/// Fetches and commits until told to stop. Dropping the future ends it at once, with
/// nothing committed that was not: that is what a lost lease asks for.
pub(crate) async fn run(shard: Arc<Shard>, pulling: mpsc::Sender<()>) -> Ended {
    let _held = Held::now(&shard.counters);
    let (sender, receipts) = mpsc::channel(UNCOMMITTED);
    let fetcher = fetcher::run(Fetcher::new(Arc::clone(&shard), sender, pulling));
    let checkpointer = checkpointer::run(Arc::clone(&shard), receipts);
    tokio::pin!(checkpointer);
    let committed = {
        let mut fetcher = Box::pin(fetcher);
        tokio::select! {
            // The fetcher ends when it is told to; the rest of the receipts still count.
            () = &mut fetcher => None,
            committed = &mut checkpointer => Some(committed),
        }
    };
    let committed = match committed {
        Some(committed) => committed,
        None => checkpointer.await,
    };
    match committed {
        Committed::All | Committed::InPart if shard.stop.is_cancelled() => Ended::Drained,
        Committed::Twin => Ended::Twin,
        // Refused, or the fetcher cannot go on: the next heartbeat's answer starts anew.
        _ => Ended::Lost,
    }
}

/// A shard counts as held as long as this is there, however its task ends.
struct Held(Arc<ShardCounters>);

impl Held {
    fn now(counters: &Arc<ShardCounters>) -> Self {
        counters.held.store(true, Ordering::Relaxed);
        Self(Arc::clone(counters))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.store(false, Ordering::Relaxed);
        self.0.at_end.store(false, Ordering::Relaxed);
        self.0.lag_groups.store(UNKNOWN, Ordering::Relaxed);
        self.0.lag_seconds.store(UNKNOWN, Ordering::Relaxed);
    }
}

impl Shard {
    pub(crate) async fn commit(&self, cursor: &Cursor) -> Result<(), Error> {
        let Source { logstore, consumer_group, .. } = &*self.source;
        let shard = self.key.shard;
        self.client.update_checkpoint(logstore, consumer_group, &self.consumer, shard, cursor).await
    }

    /// What SLS has as the checkpoint of this shard.
    pub(crate) async fn server_checkpoint(&self) -> Result<Option<CheckpointState>, Error> {
        let Source { logstore, consumer_group, .. } = &*self.source;
        let shard = self.key.shard;
        let states = self.client.get_checkpoints(logstore, consumer_group, Some(shard)).await?;
        Ok(states.into_iter().find(|state| state.shard == shard))
    }

    /// Writes a line to the spool's ledger.
    pub(crate) async fn note(&self, line: serde_json::Value) -> Result<(), spool::Error> {
        let spool = self.spool.clone();
        let noted = tokio::task::spawn_blocking(move || spool.note(&line)).await;
        noted.unwrap_or(Err(spool::Error::Closed))
    }
}
