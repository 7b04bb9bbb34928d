//! Answers that cannot be read: pulled again for a while, with fewer and fewer log groups,
//! then put aside byte for byte, so that one bad log group does not hold up its shard for
//! ever. Nothing is skipped without being kept, named and told to every receiver.

use std::time::{Duration, Instant};

use super::backoff::Say;
use super::chain;
use super::fetcher::{Failure, Fetcher};
use super::notice::Notice;
use super::status::add;
use crate::sls::{Compression, Cursor, PullAnswer};
use crate::spool::{self, ShardKey, Spool, Tenure, UnreadableAnswer};

/// Pulls of the same log groups before fewer are asked for.
const SAME: u32 = 2;

/// What was tried at one cursor.
#[derive(Debug, Default)]
pub(super) struct Trials {
    since: Option<Instant>,
    tries: u32,
}

/// What to do with an answer that cannot be read.
pub(super) enum Verdict {
    /// Pull again after this time.
    Again(Duration),
    /// Put it aside: it was pulled alone, again and again, for as long as configured.
    PutAside,
}

impl Fetcher {
    /// Judges an answer to a pull of `count` log groups that cannot be read.
    pub(super) fn judge(
        &mut self,
        cursor: &Cursor,
        count: u32,
        why: &dyn std::error::Error,
        code: &'static str,
        request_id: &str,
    ) -> Verdict {
        let now = Instant::now();
        let since = *self.trials.since.get_or_insert(now);
        self.trials.tries += 1;
        let shard = &self.shard;
        if self.outage.failed(now) != Say::Nothing {
            tracing::error!(source = %shard.source.name, shard = shard.key.shard, %cursor, request_id, code, "an answer of SLS cannot be read: {}; it is pulled again, and nothing is skipped", chain(why));
        }
        if count > 1 {
            if self.trials.tries >= SAME {
                self.trials.tries = 0;
                self.count = (count / 4).max(1);
                self.backoff.reset();
            }
        } else if self.trials.tries >= SAME
            && now.duration_since(since) >= self.shard.source.unreadable_after
        {
            return Verdict::PutAside;
        }
        Verdict::Again(self.backoff.next(Duration::ZERO))
    }

    /// An answer whose cursor to go on with does not lead behind its log groups: to follow it
    /// would repeat them for ever.
    pub(super) fn no_way_on(&mut self, cursor: &Cursor, answer: &PullAnswer) -> Failure {
        if self.outage.failed(Instant::now()) != Say::Nothing {
            let (next_cursor, shard) = (&answer.next_cursor, &self.shard);
            tracing::error!(source = %shard.source.name, shard = shard.key.shard, code = "sls.cursor_stands", %cursor, %next_cursor, request_id = %answer.request_id, "SLS answers with a cursor to go on with that leads to the same log groups again; it is not followed and the same is asked again. If this goes on, set the shard's checkpoint by hand");
        }
        Failure::Wait(self.backoff.next(Duration::from_secs(1)))
    }

    /// Counts the logs on which SLS says that the filter failed, and says so now and then.
    pub(super) fn note_filter(&mut self, answer: &PullAnswer) {
        let Some(failed) = answer.filtered.map(|filtered| filtered.logs_failed) else { return };
        if failed == 0 {
            return;
        }
        let shard = &self.shard;
        add(&shard.counters.filter_failed, failed);
        if self.filter_failing.failed(Instant::now()) != Say::Nothing {
            tracing::warn!(source = %shard.source.name, shard = shard.key.shard, code = "sls.filter_failed", logs = failed, request_id = %answer.request_id, "the query or processor of this source fails on logs, and SLS may leave them out: make it pass by what it does not expect");
        }
    }

    /// An answer was read: what was tried is over.
    pub(super) fn readable(&mut self) {
        self.trials = Trials::default();
    }

    /// Keeps the answer's bytes, and goes on behind them. False when the shard cannot go on, or
    /// is to stop before.
    pub(super) async fn put_aside(
        &mut self,
        tenure: &Tenure,
        cursor: &Cursor,
        answer: &mut PullAnswer,
        why: &str,
    ) -> bool {
        let next_cursor = answer.next_cursor.as_str().to_owned();
        let next_cursor = next_cursor.as_str();
        let shard = std::sync::Arc::clone(&self.shard);
        let copy = loop {
            match self.quarantine(cursor, answer, why).await {
                Ok(copy) => break copy,
                Err(error) if self.is_tried_again(&error).await => {}
                Err(_) => return false,
            }
        };
        let message =
            "an answer of SLS cannot be read: its bytes are in the quarantine of the relay's spool";
        tracing::error!(source = %shard.source.name, shard = shard.key.shard, code = "sls.unreadable", %cursor, next_cursor, groups = answer.groups, request_id = %answer.request_id, copy = %copy.display(), "{message}: {why}. Pulling goes on behind it");
        add(&shard.counters.unreadable, 1);
        let fields = vec![
            ("why", why.to_owned()),
            ("cursor", cursor.as_str().to_owned()),
            ("next_cursor", next_cursor.to_owned()),
            ("log_groups", answer.groups.to_string()),
            ("bytes", answer.body.len().to_string()),
            ("request_id", answer.request_id.clone()),
            ("copy", copy.display().to_string()),
        ];
        let notice = Notice { what: "unreadable", code: "sls.unreadable", message, fields };
        let notice = notice.batch(cursor.as_str(), next_cursor);
        answer.body = bytes::Bytes::new();
        let stored = self.store(tenure, notice, std::mem::take(&mut answer.room)).await;
        self.readable();
        stored
    }

    async fn quarantine(
        &self,
        cursor: &Cursor,
        answer: &PullAnswer,
        why: &str,
    ) -> Result<std::path::PathBuf, spool::Error> {
        let shard = std::sync::Arc::clone(&self.shard);
        let (cursor, answer, why) = (cursor.clone(), answer.clone(), why.to_owned());
        let kept = tokio::task::spawn_blocking(move || {
            keep(&shard.spool, &shard.key, &cursor, &answer, &why)
        });
        kept.await.unwrap_or(Err(spool::Error::Closed))
    }
}

/// Puts an answer to a pull at `cursor` into the spool's quarantine. Blocks.
pub(super) fn keep(
    spool: &Spool,
    key: &ShardKey,
    cursor: &Cursor,
    answer: &PullAnswer,
    why: &str,
) -> Result<std::path::PathBuf, spool::Error> {
    spool.quarantine_answer(&UnreadableAnswer {
        key,
        cursor: cursor.as_str(),
        next_cursor: answer.next_cursor.as_str(),
        why,
        request_id: &answer.request_id,
        groups: answer.groups,
        raw_size: answer.raw_size,
        compression: compression(answer.compression),
        body: &answer.body,
    })
}

/// The spool's word for a compression of SLS.
pub(super) fn compression(compression: Compression) -> spool::Compression {
    match compression {
        Compression::None => spool::Compression::None,
        Compression::Lz4 => spool::Compression::Lz4,
        Compression::Zstd => spool::Compression::Zstd,
    }
}
