//! One held shard, from taking it to giving it up.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::checkpointer::{self, Committed};
use super::fetcher::{self, Fetcher};
use super::status::ShardCounters;
use crate::config::Source;
use crate::sls::{Client, Cursor, Error};
use crate::spool::{ShardKey, Spool};

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
    /// Stop pulling, commit, give the shard back.
    pub(crate) stop: CancellationToken,
}

/// How a shard ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ended {
    /// Stopped as asked; everything pulled is durable and committed.
    Drained,
    /// Another consumer holds it.
    Lost,
}

/// Fetches and commits until told to stop. Dropping the future ends it at once, with
/// nothing committed that was not: that is what a lost lease asks for.
pub(crate) async fn run(shard: Arc<Shard>) -> Ended {
    let (sender, receipts) = mpsc::channel(UNCOMMITTED);
    let fetcher = fetcher::run(Fetcher::new(Arc::clone(&shard), sender));
    let checkpointer = checkpointer::run(Arc::clone(&shard), receipts);
    tokio::pin!(fetcher, checkpointer);
    let committed = tokio::select! {
        // The fetcher ends when it is told to; the rest of the receipts still count.
        () = &mut fetcher => checkpointer.await,
        committed = &mut checkpointer => committed,
    };
    match committed {
        Committed::All if shard.stop.is_cancelled() => Ended::Drained,
        // Refused, or the fetcher cannot go on: the next heartbeat's answer starts anew.
        _ => Ended::Lost,
    }
}

impl Shard {
    pub(crate) async fn commit(&self, cursor: &Cursor) -> Result<(), Error> {
        let Source { logstore, consumer_group, .. } = &*self.source;
        let shard = self.key.shard;
        self.client.update_checkpoint(logstore, consumer_group, &self.consumer, shard, cursor).await
    }
}
