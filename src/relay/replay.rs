//! Sending a range of the spool again, to one destination, marked as a replay.
//!
//! It goes through a sender of its own: the same proofs, the same going back after a broken
//! connection. It moves no position of the spool, and the destination's own sender does not
//! notice.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::encoder::Mark;
use super::feed::Feed;
use super::kept::Kept;
use super::sender::Sender;
use super::status::{Counters, read};
use crate::config::Destination;
use crate::spool::{BatchHeader, Pin, Position, Span, Spool};

/// Which logs of a decompressed batch are sent, as their indexes in order; none for all.
pub type Wanted = Arc<dyn Fn(&BatchHeader, &[u8]) -> Option<Vec<u32>> + Send + Sync>;

/// What is sent again.
pub struct Plan {
    /// Names this replay in the structured data of its messages.
    pub id: String,
    /// The batches, in order.
    pub batches: Vec<Span>,
    /// The logs in them.
    pub wanted: Wanted,
    /// Logs a second at most.
    pub rate: Option<NonZeroU32>,
    /// The logs, where they come out of the quarantine and not out of batches: then `batches`
    /// are their numbers.
    pub kept: Option<Arc<Kept>>,
}

/// A running replay.
pub(crate) struct Replay {
    plan: Plan,
    progress: watch::Sender<Mark>,
}

/// How far a replay is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Progress {
    /// The next batch.
    pub seq: u64,
    /// Logs written so far, those that had to be written twice included.
    pub written: u64,
    /// Logs confirmed.
    pub confirmed: u64,
    /// Logs confirmed on the word of the receiver's kernel alone.
    pub unproven: u64,
    /// Connections that broke or were refused.
    pub failures: u64,
}

impl Replay {
    pub(crate) fn id(&self) -> &str {
        &self.plan.id
    }

    pub(crate) fn start(&self) -> Mark {
        let seq = self.plan.batches.first().map_or(0, |span| span.first);
        Mark { position: Position { seq, index: 0 }, log: 0 }
    }

    /// Where nothing comes any more.
    pub(crate) fn end(&self) -> Position {
        Position { seq: self.plan.batches.last().map_or(0, |span| span.end), index: 0 }
    }

    /// The first batch from `seq` on that belongs to it.
    pub(crate) fn next(&self, seq: u64) -> Option<u64> {
        let span = self.plan.batches.iter().find(|span| span.end > seq)?;
        Some(span.first.max(seq))
    }

    /// The logs, where they come out of the quarantine.
    pub(crate) fn kept(&self) -> Option<&Kept> {
        self.plan.kept.as_deref()
    }

    pub(crate) fn wanted(&self, header: &BatchHeader, raw: &[u8]) -> Option<Vec<u32>> {
        (self.plan.wanted)(header, raw)
    }

    pub(crate) fn confirmed(&self, mark: Mark) {
        self.progress.send_replace(mark);
    }

    /// How long to wait before `logs` logs, of which the first was due at `since`, are sent.
    pub(crate) fn pause(&self, since: Instant, logs: u64) -> Duration {
        let Some(rate) = self.plan.rate else { return Duration::ZERO };
        let due = Duration::from_secs_f64(logs as f64 / f64::from(rate.get()));
        due.saturating_sub(since.elapsed())
    }

    /// Most logs in one chunk: a tenth of a second's worth.
    pub(crate) fn burst(&self) -> u32 {
        self.plan.rate.map_or(u32::MAX, |rate| (rate.get() / 10).max(1))
    }
}

/// Sends `plan` to `destination` and returns when all of it is confirmed, or `stop` is
/// cancelled. A receiver that is away is tried until it is there. `report` hears of progress
/// about once a second. `pin` holds the batches of the plan, or more: it is moved to the first of
/// them at once, then on with what is confirmed. Logs out of the quarantine need none.
///
/// # Errors
/// When the encoder cannot be started, or ends by itself.
pub async fn replay(
    spool: Spool,
    pin: Option<Pin>,
    destination: Arc<Destination>,
    plan: Plan,
    stop: CancellationToken,
    mut report: impl FnMut(Progress),
) -> std::io::Result<Progress> {
    if plan.batches.is_empty() {
        return Ok(Progress::default());
    }
    let replay = Arc::new(Replay { progress: watch::Sender::new(Mark::default()), plan });
    let pin = pin.filter(|_| replay.kept().is_none());
    let move_to = |seq| pin.iter().for_each(|pin| pin.move_to(seq));
    move_to(replay.start().position.seq);
    let shards = Arc::new(Counters::default());
    let counters = shards.destination(&destination.name);
    let progress = || {
        let at = replay.progress.borrow().position.seq.max(replay.start().position.seq);
        move_to(at);
        Progress {
            seq: at,
            written: read(&counters.written),
            confirmed: read(&counters.confirmed),
            unproven: read(&counters.unproven),
            failures: read(&counters.failures),
        }
    };
    let feed = Feed { spool, replay: Some(Arc::clone(&replay)) };
    let sender = Sender::new(destination, feed, Arc::clone(&shards), stop);
    let mut running = Box::pin(sender.run());
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            ended = &mut running => {
                ended?;
                return Ok(progress());
            }
            _ = tick.tick() => report(progress()),
        }
    }
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan")
            .field("id", &self.id)
            .field("batches", &self.batches)
            .field("rate", &self.rate)
            .finish_non_exhaustive()
    }
}
