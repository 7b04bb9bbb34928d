//! Pulling one shard into the spool: cursor by cursor, each answer checked before it is
//! stored and stored before it is committed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Sender;

use super::answer::{batch, check};
use super::backoff::{Backoff, Outage, Say};
use super::chain;
use super::expired::Onward;
use super::pace::{self, Pace};
use super::shard::Shard;
use super::status::add;
use super::unreadable::{Trials, Verdict};
use super::until::{End, end_of, is_near, is_reached};
use super::waiting::waits;
use crate::sls::{Advice, Cursor, Error, PullAnswer, PullRequest, Room};
use crate::spool::{self, Batch, Receipt, Tenure};

/// Log groups asked for at first, and at most (SLS: 1 to 1000).
const FIRST_COUNT: u32 = 100;
const MAX_COUNT: u32 = 1000;
/// Raw bytes one answer should come to; the count follows it.
const TARGET_RAW: u64 = 4 << 20;
/// Raw bytes of an answer that is taken; only a log group by itself may be larger.
const MAX_RAW: u64 = 4 * TARGET_RAW;
/// A shard that stands still is looked at and committed after so many idle polls, at most
/// after this time, so that SLS can release one that is read-only, and an operator who
/// has moved its checkpoint is obeyed.
const IDLE_POLLS: u32 = 30;
const IDLE_COMMIT: Duration = Duration::from_secs(30);
/// Pause after an answer of which a filter left nothing.
const FILTERED_PAUSE: Duration = Duration::from_millis(50);
/// Refusals of a cursor before it is believed to be expired.
const EXPIRED_AFTER: u32 = 3;

/// The task that pulls one shard.
pub(crate) struct Fetcher {
    pub(super) shard: Arc<Shard>,
    receipts: Sender<Receipt>,
    pub(super) count: u32,
    /// Bytes of the last body: the next one will be about as large.
    expected: u64,
    pub(super) backoff: Backoff,
    pub(super) outage: Outage,
    pub(super) trials: Trials,
    /// A filter that fails on logs.
    pub(super) filter_failing: Outage,
    /// Refusals in a row of the cursor.
    pub(super) invalid: u32,
    /// Where an export ends, once it is known.
    end: Option<Cursor>,
    pace: Pace,
    idle_since: Option<Instant>,
    /// The supervisor waits until the last of these is dropped.
    _pulling: Sender<()>,
}

/// What a pull came to.
enum Pulled {
    Batch { batch: Box<Batch>, more: bool, at_end: bool, room: Room },
    Nothing { next_cursor: String, at_end: bool },
}

/// Why a pull brought nothing to go on with.
pub(super) enum Failure {
    /// Try again after this time.
    Wait(Duration),
    /// SLS does not keep the log at the cursor any more.
    Expired,
    /// The answer cannot be read, and was tried long enough.
    Unreadable { answer: Box<PullAnswer>, why: String },
}

/// Why pulling stopped.
enum Stopped {
    /// It was told to, or cannot go on.
    End,
    /// The shard is taken anew.
    Anew,
}

/// Pulls until told to stop. A batch on its way into the spool is finished first: what is
/// durable must be committed, or the next owner of the shard delivers it again.
pub(crate) async fn run(mut fetcher: Fetcher) {
    let stop = fetcher.shard.stop.clone();
    while let Some((tenure, cursor)) = stop.run_until_cancelled(fetcher.acquire()).await {
        let stopped = fetcher.pull_all(&tenure, cursor).await;
        fetcher.shard.spool.end(&tenure);
        if matches!(stopped, Stopped::End) {
            return;
        }
    }
}

impl Fetcher {
    pub(crate) fn new(shard: Arc<Shard>, receipts: Sender<Receipt>, pulling: Sender<()>) -> Self {
        Self {
            pace: Pace::new(shard.source.shard_bytes_per_second),
            shard,
            receipts,
            count: FIRST_COUNT,
            expected: u64::MAX,
            backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(30)),
            outage: Outage::default(),
            trials: Trials::default(),
            filter_failing: Outage::default(),
            invalid: 0,
            end: None,
            idle_since: None,
            _pulling: pulling,
        }
    }

    /// Gives the checkpointer a receipt.
    pub(super) async fn hand_on(&mut self, receipt: Receipt) {
        let _ = self.receipts.send(receipt).await;
    }

    async fn pull_all(&mut self, tenure: &Tenure, mut cursor: Cursor) -> Stopped {
        let stop = self.shard.stop.clone();
        while let Some(pulled) = stop.run_until_cancelled(self.pull(&cursor)).await {
            let pause = match pulled {
                Ok(Pulled::Batch { batch, more, at_end, room }) => {
                    self.recovered();
                    self.idle_since = None;
                    let next = batch.next_cursor.clone();
                    // Until it is stored more may come: there may be no room for long.
                    self.set_at_end(false);
                    if !self.store(tenure, *batch, room).await {
                        return Stopped::End;
                    }
                    self.set_at_end(at_end);
                    cursor = Cursor::new(next);
                    if more { Duration::ZERO } else { self.shard.source.idle_poll / 4 }
                }
                Ok(Pulled::Nothing { next_cursor, at_end }) => {
                    self.recovered();
                    self.set_at_end(at_end);
                    if !self.stand(tenure, &cursor, &next_cursor).await {
                        return Stopped::End;
                    }
                    let moved = cursor.as_str() != next_cursor;
                    cursor = Cursor::new(next_cursor);
                    let idle = pace::idle_pause(self.shard.source.idle_poll, Instant::now());
                    // A filter left nothing of it: there may be more behind.
                    if moved { idle.min(FILTERED_PAUSE) } else { idle }
                }
                Err(Failure::Expired) => {
                    match stop.run_until_cancelled(self.onward(&cursor)).await {
                        Some(Onward::At(next)) => cursor = next,
                        Some(Onward::Behind(gap)) => {
                            if !self.pass(tenure, &cursor, &gap).await {
                                return Stopped::End;
                            }
                            cursor = gap.to;
                        }
                        Some(Onward::Anew) => return Stopped::Anew,
                        None => return Stopped::End,
                    }
                    Duration::ZERO
                }
                Err(Failure::Unreadable { mut answer, why }) => {
                    if !self.put_aside(tenure, &cursor, &mut answer, &why).await {
                        return Stopped::End;
                    }
                    cursor = answer.next_cursor;
                    Duration::ZERO
                }
                Err(Failure::Wait(pause)) => {
                    self.set_at_end(false);
                    pause
                }
            };
            let pause = pause.max(self.pace.wait(Instant::now()));
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                break;
            }
        }
        Stopped::End
    }

    async fn pull(&mut self, cursor: &Cursor) -> Result<Pulled, Failure> {
        let shard = Arc::clone(&self.shard);
        let count = self.count;
        if let Some(until) = shard.source.until {
            self.find_end(until).await?;
        }
        if let Some(end) = &self.end
            && is_reached(cursor, end)
        {
            shard.counters.exported.store(true, Ordering::Relaxed);
            return Ok(Pulled::Nothing { next_cursor: cursor.as_str().to_owned(), at_end: true });
        }
        let largest = (count > 1).then_some(MAX_RAW);
        let request =
            PullRequest { expected: self.expected, ..self.request(cursor, count, largest) };
        let sent = Instant::now();
        let answer = shard.client.pull_logs(&shard.source.logstore, shard.key.shard, request).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return Err(self.pull_failed(cursor, count, &error).await),
        };
        if self.end.is_none()
            && shard.source.until.is_some_and(|until| is_near(&shard.client, until))
        {
            // It waited long for its turn or its answer, and may hold logs from after the time.
            return Err(Failure::Wait(Duration::ZERO));
        }
        self.invalid = 0;
        self.expected = answer.body.len() as u64;
        self.pace.pulled(sent, answer.looked_at().1);
        let next_cursor = answer.next_cursor.as_str().to_owned();
        if answer.next_cursor.is_before(cursor) {
            return Err(self.no_way_on(cursor, &answer));
        }
        self.note_filter(&answer);
        let at_end = answer.next_cursor == *cursor || answer.end_of_cursor;
        if answer.groups == 0 && answer.raw_size == 0 {
            self.readable();
            if answer.filtered.is_some() && answer.next_cursor != *cursor {
                self.adapt(&answer);
            }
            return Ok(Pulled::Nothing { next_cursor, at_end });
        }
        let summary = match check(&answer) {
            Ok(_) if answer.next_cursor == *cursor => return Err(self.no_way_on(cursor, &answer)),
            Ok(summary) => summary,
            Err(error) => {
                let id = &answer.request_id;
                return Err(match self.judge(cursor, count, &error, error.code(), id) {
                    Verdict::Again(pause) => Failure::Wait(pause),
                    // Without a cursor to go on with there is nothing behind it.
                    Verdict::PutAside if answer.next_cursor == *cursor => {
                        Failure::Wait(self.backoff.next(Duration::from_secs(1)))
                    }
                    Verdict::PutAside => {
                        Failure::Unreadable { answer: Box::new(answer), why: chain(&error) }
                    }
                });
            }
        };
        self.readable();
        add(&shard.counters.pulled, u64::from(summary.logs));
        self.adapt(&answer);
        if summary.logs == 0 {
            return Ok(Pulled::Nothing { next_cursor, at_end });
        }
        let (groups, raw_size) = answer.looked_at();
        let full = groups >= count.into() || raw_size >= TARGET_RAW / 4;
        let more = full && !answer.end_of_cursor;
        let room = answer.room.clone();
        let filtered = shard.source.filter.is_some();
        let batch = Box::new(batch(cursor, answer, &summary, filtered));
        Ok(Pulled::Batch { batch, more, at_end, room })
    }

    /// What every pull of this shard has in common.
    fn request<'a>(
        &'a self,
        cursor: &'a Cursor,
        count: u32,
        max_raw_bytes: Option<u64>,
    ) -> PullRequest<'a> {
        PullRequest {
            end_cursor: self.end.as_ref(),
            filter: self.shard.source.filter.as_ref(),
            budget: Some(&self.shard.budget),
            max_raw_bytes,
            ..PullRequest::new(cursor, count)
        }
    }

    /// Learns where the export ends, as soon as that is certain.
    async fn find_end(&mut self, until: jiff::Timestamp) -> Result<(), Failure> {
        if self.end.is_some() {
            return Ok(());
        }
        let (client, logstore) = (&self.shard.client, &self.shard.source.logstore);
        match end_of(client, logstore, self.shard.key.shard, until).await {
            Ok(End::NotYet) => {}
            Ok(End::Wait(pause)) => return Err(Failure::Wait(pause)),
            Ok(End::At(end)) => self.end = Some(end),
            Err(error) => return Err(Failure::Wait(self.failed(&error))),
        }
        Ok(())
    }

    async fn pull_failed(&mut self, cursor: &Cursor, count: u32, error: &Error) -> Failure {
        if error.advice() == Advice::InvalidCursor {
            self.invalid += 1;
            if self.invalid >= EXPIRED_AFTER {
                return Failure::Expired;
            }
        }
        if !matches!(error, Error::TooLarge { .. }) {
            return Failure::Wait(self.failed(error));
        }
        if count > 1 {
            // Not a failure: the log groups are larger than those before.
            self.count = (count / 4).max(1);
            return Failure::Wait(Duration::ZERO);
        }
        let id = error.request_id().unwrap_or_default();
        match self.judge(cursor, count, error, error.code(), id) {
            Verdict::Again(pause) => Failure::Wait(pause),
            Verdict::PutAside => {
                let shard = Arc::clone(&self.shard);
                let logstore = &shard.source.logstore;
                let request =
                    PullRequest { expected: u64::MAX, ..self.request(cursor, 1, Some(u64::MAX)) };
                match shard.client.pull_logs(logstore, shard.key.shard, request).await {
                    Ok(answer) if answer.next_cursor != *cursor => {
                        Failure::Unreadable { answer: Box::new(answer), why: chain(error) }
                    }
                    Ok(_) => Failure::Wait(self.backoff.next(Duration::from_secs(1))),
                    Err(error) => Failure::Wait(self.failed(&error)),
                }
            }
        }
    }

    /// Asks for as many log groups as come to about the target size, and at most for twice
    /// as many as just now.
    fn adapt(&mut self, answer: &PullAnswer) {
        let (groups, raw_size) = answer.looked_at();
        let per_group = raw_size / groups.max(1);
        let fitting = u32::try_from(TARGET_RAW / per_group.max(1)).unwrap_or(MAX_COUNT);
        self.count = fitting.min(self.count.saturating_mul(2)).clamp(1, MAX_COUNT);
    }

    /// Stores a batch, however long the spool is full or the disk fails. False when the
    /// shard cannot go on, or is to stop before there was room.
    pub(super) async fn store(&mut self, tenure: &Tenure, batch: Batch, held: Room) -> bool {
        let mut room = self.shard.spool.room();
        let receipt = loop {
            match self.shard.spool.append(tenure, batch.clone()).await {
                Ok(receipt) => break receipt,
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
                    if !self.is_tried_again(&error).await {
                        return false;
                    }
                }
                Err(error) => {
                    tracing::error!(source = %self.shard.source.name, shard = self.shard.key.shard, code = error.code(), "{}", chain(&error));
                    return false;
                }
            }
        };
        add(&self.shard.counters.spooled, u64::from(receipt.logs()));
        self.recovered();
        // Commits may fail for long, and other sources need the memory meanwhile.
        drop((batch, held));
        self.receipts.send(receipt).await.is_ok()
    }

    fn set_at_end(&self, at_end: bool) {
        self.shard.counters.at_end.store(at_end, Ordering::Relaxed);
    }

    /// The shard has nothing new: notes progress, and now and then commits where it stands.
    async fn stand(&mut self, tenure: &Tenure, cursor: &Cursor, next_cursor: &str) -> bool {
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
                true
            }
            Some(_) => false,
        };
        if !moved && !due {
            return true;
        }
        loop {
            let (from, to) = (cursor.as_str().to_owned(), next_cursor.to_owned());
            match self.shard.spool.progress(tenure, from, to).await {
                Ok(receipt) => {
                    self.recovered();
                    return self.receipts.send(receipt).await.is_ok();
                }
                // A shard that cannot be moved is kept: nobody else could do it better.
                Err(error @ spool::Error::Io { .. }) => {
                    if !self.is_tried_again(&error).await {
                        return false;
                    }
                }
                Err(error) => {
                    self.spool_failed(&error);
                    return !moved;
                }
            }
        }
    }

    /// Logs a failed call and says how long to wait.
    pub(super) fn failed(&mut self, error: &Error) -> Duration {
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
        let hint = match error.retry_after() {
            Some(asked) => hint.max(asked),
            None if self.outage.is_young() => hint.min(Duration::from_secs(1)),
            None => hint,
        };
        self.backoff.next(hint)
    }

    pub(super) fn spool_failed(&mut self, error: &spool::Error) -> Duration {
        if self.outage.failed(Instant::now()) != Say::Nothing {
            let left = self.shard.of_source.retention_left.load(Ordering::Relaxed);
            tracing::warn!(source = %self.shard.source.name, shard = self.shard.key.shard, code = error.code(), "{}", waits(error, left));
        }
        self.backoff.next(Duration::ZERO)
    }

    /// Waits before the disk is tried again. False when the shard is to stop instead.
    pub(super) async fn is_tried_again(&mut self, error: &spool::Error) -> bool {
        let pause = tokio::time::sleep(self.spool_failed(error));
        self.shard.stop.run_until_cancelled(pause).await.is_some()
    }

    pub(super) fn recovered(&mut self) {
        self.backoff.reset();
        if let Some(lasted) = self.outage.recovered(Instant::now()) {
            tracing::info!(source = %self.shard.source.name, shard = self.shard.key.shard, seconds = lasted.as_secs(), "pulling works again");
        }
    }
}

#[cfg(test)]
mod tests;
