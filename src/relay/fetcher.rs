//! Pulling one shard into the spool: cursor by cursor, each answer checked before it is
//! stored and stored before it is committed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Sender;

use super::backoff::{Backoff, Outage, Say};
use super::chain;
use super::shard::Shard;
use super::status::add;
use crate::config::Start;
use crate::sls::{
    Advice, CheckpointState, Compression, Cursor, CursorFrom, DecodeError, Error, PullAnswer, body,
    walk,
};
use crate::spool::{self, Batch, Receipt, Tenure};

/// Log groups asked for at first, and at most (SLS: 1 to 1000).
const FIRST_COUNT: u32 = 100;
const MAX_COUNT: u32 = 1000;
/// Raw bytes one answer should come to; the count follows it.
const TARGET_RAW: u64 = 4 << 20;
/// A shard that stands still is looked at and committed after so many idle polls, at most
/// after this time, so that SLS can release one that is read-only, and an operator who
/// has moved its checkpoint is obeyed.
const IDLE_POLLS: u32 = 30;
const IDLE_COMMIT: Duration = Duration::from_secs(30);
/// Refusals of a cursor before it is believed to be expired.
const EXPIRED_AFTER: u32 = 3;

/// The task that pulls one shard.
pub(crate) struct Fetcher {
    shard: Arc<Shard>,
    receipts: Sender<Receipt>,
    count: u32,
    backoff: Backoff,
    outage: Outage,
    /// Answers in a row that could not be read.
    undecodable: u32,
    /// Refusals in a row of the cursor.
    invalid: u32,
    idle_since: Option<Instant>,
    raw: Vec<u8>,
}

/// What a pull came to.
enum Pulled {
    Batch(Box<Batch>, bool),
    Nothing { next_cursor: String },
}

/// Pulls until told to stop. A batch on its way into the spool is finished first: what is
/// durable must be committed, or the next owner of the shard delivers it again.
pub(crate) async fn run(mut fetcher: Fetcher) {
    let stop = fetcher.shard.stop.clone();
    let Some((mut tenure, mut cursor)) = stop.run_until_cancelled(fetcher.acquire()).await else {
        return;
    };
    while let Some(pulled) = stop.run_until_cancelled(fetcher.pull(&cursor)).await {
        let pause = match pulled {
            Ok(Pulled::Batch(batch, more)) => {
                fetcher.recovered();
                fetcher.idle_since = None;
                let next = batch.next_cursor.clone();
                if !fetcher.store(&tenure, *batch).await {
                    break;
                }
                cursor = Cursor::new(next);
                if more { Duration::ZERO } else { fetcher.shard.source.idle_poll / 4 }
            }
            Ok(Pulled::Nothing { next_cursor }) => {
                fetcher.recovered();
                if !fetcher.stand(&tenure, &cursor, &next_cursor).await {
                    break;
                }
                cursor = Cursor::new(next_cursor);
                fetcher.shard.source.idle_poll.mul_f64(0.8 + 0.4 * fastrand::f64())
            }
            Err(Failure::Expired) => {
                let restarted = stop.run_until_cancelled(fetcher.restart(tenure, &cursor)).await;
                let Some(restarted) = restarted else { return };
                (tenure, cursor) = restarted;
                Duration::ZERO
            }
            Err(Failure::Wait(pause)) => pause,
        };
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            break;
        }
    }
    fetcher.shard.spool.end(&tenure);
}

impl Fetcher {
    pub(crate) fn new(shard: Arc<Shard>, receipts: Sender<Receipt>) -> Self {
        Self {
            shard,
            receipts,
            count: FIRST_COUNT,
            backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(30)),
            outage: Outage::default(),
            undecodable: 0,
            invalid: 0,
            idle_since: None,
            raw: Vec::new(),
        }
    }

    /// Takes the shard at the right cursor: our own position where the server's checkpoint
    /// is ours, else the server's, else the configured start.
    async fn acquire(&mut self) -> (Tenure, Cursor) {
        loop {
            match self.try_acquire().await {
                Ok(taken) => {
                    self.recovered();
                    return taken;
                }
                Err(pause) => tokio::time::sleep(pause).await,
            }
        }
    }

    async fn try_acquire(&mut self) -> Result<(Tenure, Cursor), Duration> {
        let shard = Arc::clone(&self.shard);
        let (logstore, group) = (&shard.source.logstore, &shard.source.consumer_group);
        let states = shard.client.get_checkpoints(logstore, group, Some(shard.key.shard)).await;
        let states = states.map_err(|error| self.failed(&error))?;
        let server = states.into_iter().find(|state| state.shard == shard.key.shard);
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
                    let skips = |at: &Cursor| {
                        at.number().zip(cursor.number()).is_some_and(|(at, to)| at < to)
                    };
                    match reached.filter(skips) {
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
        let checkpoint = checkpoint.map(|cursor| cursor.as_str().to_owned());
        let begun = shard.spool.begin(shard.key.clone(), start.clone(), checkpoint).await;
        let tenure = begun.map_err(|error| self.spool_failed(&error))?;
        tracing::info!(source = %shard.source.name, shard = shard.key.shard, cursor = %start, "shard taken, {why}");
        Ok((tenure, Cursor::new(start)))
    }

    /// Whether the server's checkpoint is one we made: then nothing lies between it and the
    /// spool's position that the spool does not hold.
    fn is_ours(&self, known: &spool::ShardState, server: Option<&CheckpointState>) -> bool {
        let checkpoint = server.and_then(|state| state.checkpoint.as_ref());
        let by_us = server
            .is_none_or(|state| state.consumer.is_empty() || state.consumer == self.shard.consumer);
        known.is_ours(checkpoint.map(Cursor::as_str)) && (by_us || checkpoint.is_none())
    }

    fn is_behind(&self, known: &spool::ShardState, server: Option<&CheckpointState>) -> bool {
        let position = Cursor::new(known.position.as_str()).number();
        server.is_some_and(|state| {
            let checkpoint = state.checkpoint.as_ref().and_then(Cursor::number);
            state.consumer == self.shard.consumer
                && position.zip(checkpoint).is_some_and(|(position, at)| position < at)
        })
    }

    async fn pull(&mut self, cursor: &Cursor) -> Result<Pulled, Failure> {
        let shard = Arc::clone(&self.shard);
        let count = if self.undecodable > 2 { 1 } else { self.count };
        let answer =
            shard.client.pull_logs(&shard.source.logstore, shard.key.shard, cursor, count).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if error.advice() == Advice::InvalidCursor => {
                self.invalid += 1;
                if self.invalid >= EXPIRED_AFTER {
                    return Err(Failure::Expired);
                }
                return Err(Failure::Wait(self.failed(&error)));
            }
            Err(error) => {
                if matches!(error, Error::TooLarge { .. }) {
                    self.count = (self.count / 4).max(1);
                }
                return Err(Failure::Wait(self.failed(&error)));
            }
        };
        self.invalid = 0;
        let next_cursor = answer.next_cursor.as_str().to_owned();
        if answer.groups == 0 && answer.raw_size == 0 {
            return Ok(Pulled::Nothing { next_cursor });
        }
        let summary = match self.check(&answer) {
            Ok(summary) => summary,
            Err(error) => return Err(Failure::Wait(self.undecodable(cursor, &answer, &error))),
        };
        self.undecodable = 0;
        add(&shard.counters.pulled, u64::from(summary.logs));
        if summary.logs == 0 {
            return Ok(Pulled::Nothing { next_cursor });
        }
        let full = answer.groups >= count || answer.raw_size >= TARGET_RAW / 4;
        let more = full && !answer.end_of_cursor;
        self.adapt(&answer);
        Ok(Pulled::Batch(Box::new(batch(cursor, answer, &summary)), more))
    }

    /// Never store what nobody can read back: the body must decompress and parse.
    fn check(&mut self, answer: &PullAnswer) -> Result<walk::Summary, DecodeError> {
        body::decompress(answer.compression, &answer.body, answer.raw_size, &mut self.raw)?;
        let summary = walk::summary(&self.raw)?;
        if self.raw.capacity() > 2 * usize::try_from(TARGET_RAW).unwrap_or(usize::MAX) {
            self.raw = Vec::new();
        }
        Ok(summary)
    }

    /// Keeps asking for the same cursor, one log group at a time: what cannot be read is
    /// neither stored nor committed over.
    fn undecodable(
        &mut self,
        cursor: &Cursor,
        answer: &PullAnswer,
        error: &DecodeError,
    ) -> Duration {
        self.undecodable += 1;
        let shard = &self.shard;
        if self.outage.failed(Instant::now()) != Say::Nothing {
            tracing::error!(source = %shard.source.name, shard = shard.key.shard, %cursor, request_id = %answer.request_id, code = error.code(), "an answer of SLS cannot be read: {}; it is pulled again and nothing is skipped", chain(error));
        }
        self.backoff.next(Duration::ZERO)
    }

    /// Asks for as many log groups as come to about the target size.
    fn adapt(&mut self, answer: &PullAnswer) {
        let per_group = answer.raw_size / u64::from(answer.groups.max(1));
        let fitting = TARGET_RAW / per_group.max(1);
        self.count = u32::try_from(fitting).unwrap_or(MAX_COUNT).clamp(1, MAX_COUNT);
    }

    /// Stores a batch, however long the spool is full or the disk fails. False when the
    /// shard cannot go on, or is to stop before there was room.
    async fn store(&mut self, tenure: &Tenure, batch: Batch) -> bool {
        let mut room = self.shard.spool.room();
        loop {
            match self.shard.spool.append(tenure, batch.clone()).await {
                Ok(receipt) => {
                    add(&self.shard.counters.spooled, u64::from(receipt.logs()));
                    self.recovered();
                    return self.receipts.send(receipt).await.is_ok();
                }
                Err(spool::Error::Full { needed, detail }) => {
                    let error = spool::Error::Full { needed, detail };
                    self.spool_failed(&error);
                    let stop = self.shard.stop.clone();
                    let waited = tokio::time::timeout(Duration::from_secs(1), room.changed());
                    if stop.run_until_cancelled(waited).await.is_none() {
                        return false;
                    }
                }
                Err(error @ spool::Error::Io { .. }) => {
                    let pause = tokio::time::sleep(self.spool_failed(&error));
                    let stop = self.shard.stop.clone();
                    if stop.run_until_cancelled(pause).await.is_none() {
                        return false;
                    }
                }
                Err(error) => {
                    tracing::error!(source = %self.shard.source.name, shard = self.shard.key.shard, code = error.code(), "{}", chain(&error));
                    return false;
                }
            }
        }
    }

    /// The shard has nothing new: notes progress, and now and then commits where it stands.
    async fn stand(&mut self, tenure: &Tenure, cursor: &Cursor, next_cursor: &str) -> bool {
        self.raw = Vec::new();
        let now = Instant::now();
        let committed = self.shard.spool.shard(&self.shard.key).and_then(|state| state.committed);
        let moved = cursor.as_str() != next_cursor;
        let idle_commit = (IDLE_POLLS * self.shard.source.idle_poll).min(IDLE_COMMIT);
        let due = match self.idle_since {
            None => {
                self.idle_since = Some(now);
                committed.is_none()
            }
            Some(since) if now.duration_since(since) >= idle_commit => {
                self.idle_since = Some(now);
                if !moved && committed.as_deref() == Some(next_cursor) {
                    match self.is_where_we_left_it(next_cursor).await {
                        // Committed again: SLS notes the end of a shard only then, and it may
                        // have become read-only since.
                        Some(true) => true,
                        Some(false) => return false,
                        None => false,
                    }
                } else {
                    committed.as_deref() != Some(next_cursor)
                }
            }
            Some(_) => false,
        };
        if !moved && !due {
            return true;
        }
        let progress = (cursor.as_str().to_owned(), next_cursor.to_owned());
        match self.shard.spool.progress(tenure, progress.0, progress.1).await {
            Ok(receipt) => self.receipts.send(receipt).await.is_ok(),
            Err(error) => {
                self.spool_failed(&error);
                // The position was not stored: the same pull is made again from it.
                !moved
            }
        }
    }

    /// Whether the server's checkpoint is still the one that was committed last; none when
    /// it cannot be known now.
    async fn is_where_we_left_it(&mut self, committed: &str) -> Option<bool> {
        let shard = Arc::clone(&self.shard);
        let (logstore, group) = (&shard.source.logstore, &shard.source.consumer_group);
        let call = shard.client.get_checkpoints(logstore, group, Some(shard.key.shard));
        let states = shard.stop.run_until_cancelled(call).await?;
        let states = states.map_err(|error| self.failed(&error)).ok()?;
        let server = states.into_iter().find(|state| state.shard == shard.key.shard);
        let (server, by) =
            server.map(|state| (state.checkpoint, state.consumer)).unwrap_or_default();
        let server = server.as_ref().map(Cursor::as_str);
        if server == Some(committed) {
            return Some(true);
        }
        tracing::warn!(source = %shard.source.name, shard = shard.key.shard, code = "sls.checkpoint_moved", committed, checkpoint = server, by, "the checkpoint was moved while this relay holds the shard: it is obeyed, the shard is taken anew");
        Some(false)
    }

    /// SLS says that the cursor is expired. Where that is so, starts again at the oldest log
    /// that is left, never at the newest, and says what is missing.
    async fn restart(&mut self, tenure: Tenure, expired: &Cursor) -> (Tenure, Cursor) {
        loop {
            let pause = match self.oldest_and_newest().await {
                Ok((oldest, newest)) => {
                    let numbers = (oldest.number(), expired.number(), newest.number());
                    if let (Some(first), Some(at), Some(last)) = numbers
                        && (first..=last).contains(&at)
                    {
                        // SLS still has it: the refusal was a passing one.
                        self.invalid = 0;
                        tokio::time::sleep(self.backoff.next(Duration::from_secs(1))).await;
                        return (tenure, expired.clone());
                    }
                    match self.begin_behind_gap(expired, &oldest).await {
                        Ok(tenure) => {
                            self.invalid = 0;
                            return (tenure, oldest);
                        }
                        Err(error) => self.spool_failed(&error),
                    }
                }
                Err(error) => self.failed(&error),
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn oldest_and_newest(&self) -> Result<(Cursor, Cursor), Error> {
        let (logstore, shard) = (&self.shard.source.logstore, self.shard.key.shard);
        let oldest = self.shard.client.get_cursor(logstore, shard, CursorFrom::Begin).await?;
        let newest = self.shard.client.get_cursor(logstore, shard, CursorFrom::End).await?;
        Ok((oldest, newest))
    }

    /// The gap is in the ledger before the position moves over it.
    async fn begin_behind_gap(
        &self,
        expired: &Cursor,
        oldest: &Cursor,
    ) -> Result<Tenure, spool::Error> {
        let shard = &self.shard;
        let lost = oldest.number().zip(expired.number());
        let groups = lost.map(|(to, from)| to.saturating_sub(from));
        tracing::error!(source = %shard.source.name, shard = shard.key.shard, code = "sls.gap", %expired, %oldest, groups, "SLS has deleted logs that were not pulled yet: the retention of the logstore is shorter than the outage was. Pulling goes on at the oldest log that is left");
        let gap = serde_json::json!({
            "what": "gap", "source": shard.key.source, "shard": shard.key.shard,
            "expired_cursor": expired.as_str(), "oldest_cursor": oldest.as_str(), "groups": groups,
        });
        let spool = shard.spool.clone();
        let noted = tokio::task::spawn_blocking(move || spool.note(&gap)).await;
        noted.unwrap_or(Err(spool::Error::Closed))?;
        let committed = shard.spool.shard(&shard.key).and_then(|state| state.committed);
        shard.spool.begin(shard.key.clone(), oldest.as_str().to_owned(), committed).await
    }

    /// Logs a failed call and says how long to wait.
    fn failed(&mut self, error: &Error) -> Duration {
        let shard = &self.shard;
        let (hint, loud) = match error.advice() {
            Advice::Retry { after } | Advice::Throttled { after } => (after, false),
            Advice::InvalidCursor => (Duration::from_millis(500), false),
            _ => (Duration::from_secs(5), true),
        };
        match self.outage.failed(Instant::now()) {
            Say::Nothing => {}
            Say::First if !loud => {
                tracing::warn!(source = %shard.source.name, shard = shard.key.shard, code = error.code(), request_id = error.request_id(), "{}; tried again", chain(error));
            }
            say => {
                let failures = if let Say::Still { failures, .. } = say { failures } else { 1 };
                tracing::error!(source = %shard.source.name, shard = shard.key.shard, code = error.code(), request_id = error.request_id(), failures, "{}; tried again until it works, nothing is skipped", chain(error));
            }
        }
        let hint = if self.outage.is_young() { hint.min(Duration::from_secs(1)) } else { hint };
        self.backoff.next(hint)
    }

    fn spool_failed(&mut self, error: &spool::Error) -> Duration {
        if self.outage.failed(Instant::now()) != Say::Nothing {
            tracing::warn!(source = %self.shard.source.name, shard = self.shard.key.shard, code = error.code(), "{}", chain(error));
        }
        self.backoff.next(Duration::ZERO)
    }

    fn recovered(&mut self) {
        self.backoff.reset();
        if let Some(lasted) = self.outage.recovered(Instant::now()) {
            tracing::info!(source = %self.shard.source.name, shard = self.shard.key.shard, seconds = lasted.as_secs(), "pulling works again");
        }
    }
}

/// Why a pull brought nothing to go on with.
enum Failure {
    /// Try again after this time.
    Wait(Duration),
    /// SLS does not keep the log at the cursor any more.
    Expired,
}

fn batch(cursor: &Cursor, answer: PullAnswer, summary: &walk::Summary) -> Batch {
    // x-log-read-last-cursor numbers the last group; the first follows from the count.
    let first =
        answer.last_group_cursor.and_then(|last| (last + 1).checked_sub(u64::from(summary.groups)));
    let received = answer.cursor_time.or(answer.date).map_or_else(
        || jiff::Timestamp::now().as_millisecond(),
        |seconds| seconds.saturating_mul(1000),
    );
    Batch {
        cursor: cursor.as_str().to_owned(),
        next_cursor: answer.next_cursor.as_str().to_owned(),
        first_group_cursor: first,
        groups: summary.groups,
        logs: summary.logs,
        query: false,
        received_at: received,
        min_time: summary.min_time.unwrap_or(0),
        max_time: summary.max_time.unwrap_or(0),
        raw_size: answer.raw_size,
        compression: match answer.compression {
            Compression::None => spool::Compression::None,
            Compression::Lz4 => spool::Compression::Lz4,
            Compression::Zstd => spool::Compression::Zstd,
        },
        body: answer.body,
    }
}
