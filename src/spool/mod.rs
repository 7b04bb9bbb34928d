//! The durable queue between SLS and the receivers.
//!
//! # Contract
//!
//! - [`Spool::append`] returns a [`Receipt`] only after `fdatasync` of the segment that
//!   holds the batch returned, and nothing else can make a receipt. Whatever order the disk
//!   keeps un-synced pages in, a batch with a receipt is there after a power loss.
//! - Batches come out in the order of their numbers. Within one shard that is the order of
//!   the cursors: a batch whose `cursor` is not the shard's position is refused, so a failed
//!   batch fails every later one of its shard.
//! - A number is never used twice, not after the spool ran empty, not after damage.
//! - [`Spool::ack`] moves a destination's position; it is durable within about half a
//!   second, and always before a segment that it justifies is removed. A crash in between
//!   makes duplicates, never a loss.
//! - A batch is refused with [`Error::Full`] when it would pass the quota or the free-space
//!   limit. Nothing that a required destination still needs is ever dropped to make room; one
//!   that is not required loses the oldest segment, which the ledger tells before it is gone.
//!   Acks are always taken.
//! - [`Spool::hold`], [`Spool::release`] and [`Spool::discard`] are durable on return, survive the
//!   loss of the catalog, and are refused for a batch that may be on its way.
//! - A log that one destination does not get is kept by itself ([`Spool::quarantine_log`]) until
//!   somebody decides about it. What such logs take is bounded; then delivery waits.
//! - What every destination has stays as [`Retention`] says, and goes first when room is
//!   short.
//! - Bytes that do not check any more are never handed out. They are reported as [`Damage`], which
//!   names the cursor ranges that are lost with them, and everything around them stays readable.
//! - With [`Keys`], bodies and copies of answers and batches in `quarantine/` are encrypted and
//!   authenticated. Headers, names and the ledger are not: cursors, names of sources, times and
//!   counts, nothing of a log. A reader without the key stops at the batch
//!   ([`Error::KeyMissing`]) and passes over none. What was stored without a key stays as it is.
//! - One process owns a spool. Reading segments with [`inspect`] changes nothing.
//!
//! Promised on local file systems whose `fdatasync` reaches the disk (ext4, xfs, btrfs).
//! Not promised on network file systems, on tmpfs, or on disks that acknowledge a flush they
//! have not done. `docs/spool-format.md` describes the files.

mod catalog;
mod command;
mod counting;
pub mod crash;
pub mod disk;
mod entry;
mod error;
mod format;
pub mod fuzz;
mod headers;
pub mod inspect;
mod keys;
mod ledger;
mod lock;
mod lost;
mod open;
pub mod portable;
mod quarantine;
mod quota;
mod reader;
mod recover;
mod retention;
mod scan;
mod segment;
mod shared;
pub mod sim;
mod spans;
mod standing;
mod state;
mod verify;
mod wait;
mod writer;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use tokio::sync::{oneshot, watch};

pub use entry::{Batch, BatchHeader, Compression, Origin, Position, Seq, ShardKey};
pub use error::Error;
pub use keys::{Keys, KeysError};
pub use ledger::{UnreadableAnswer, lost_in, lost_of, read as read_ledger};
pub use lock::{Lock, identity, known_identity};
pub use lost::Lost;
pub use open::{Opened, Options};
pub use quarantine::{QUARANTINE_SENT, QUARANTINED_LOG, QuarantinedLog, is_quarantined_log};
pub use quota::MIN_QUOTA;
pub use reader::{Item, Reader, StoredBatch};
pub use recover::Damage;
pub use retention::Retention;
pub use shared::Pin;
pub use spans::{Span, Spans};
pub use standing::{GivenUp, StartAt, Terms};
pub use state::{Delivered, Dropped, SegmentInfo, ShardState, State};

use command::{Append, Command};
use entry::Change;
use shared::Shared;

/// Proof that a shard's progress up to `next_cursor` survives a crash. Only the spool makes
/// one, only after the barrier.
#[derive(Debug)]
pub struct Receipt {
    key: ShardKey,
    next_cursor: String,
    logs: u32,
    end: Seq,
}

impl Receipt {
    /// The shard.
    pub fn key(&self) -> &ShardKey {
        &self.key
    }

    /// What a checkpoint may say now.
    pub fn next_cursor(&self) -> &str {
        &self.next_cursor
    }

    /// Logs stored with it; 0 for progress without logs.
    pub fn logs(&self) -> u32 {
        self.logs
    }

    /// Everything the receipt covers is delivered once [`Spool::needed`] has reached this.
    pub fn end(&self) -> Seq {
        self.end
    }
}

/// The right to append to one shard, from taking it to giving it up.
#[derive(Debug)]
pub struct Tenure {
    key: ShardKey,
    number: u64,
}

impl Tenure {
    /// The shard.
    pub fn key(&self) -> &ShardKey {
        &self.key
    }
}

/// What the spool holds, for people and metrics.
#[derive(Clone, Debug)]
pub struct Status {
    /// Positions, segments, numbers.
    pub state: State,
    /// Bytes allocated on the disk by everything in the spool.
    pub used_bytes: u64,
    /// The quota in bytes.
    pub max_bytes: u64,
    /// The failure of the disk that still stands, in words.
    pub last_error: Option<String>,
}

/// The open spool. Handles are cheap to clone; [`Spool::close`] ends it.
#[derive(Clone)]
pub struct Spool {
    shared: Arc<Shared>,
    commands: Sender<Command>,
    dir: PathBuf,
    max_bytes: u64,
    /// The writer's thread and the lock, until one handle closes the spool.
    open: Arc<std::sync::Mutex<Option<Open>>>,
}

/// What one handle's `close` ends for all.
struct Open {
    thread: JoinHandle<()>,
    lock: Option<Lock>,
}

impl Spool {
    /// Where `key` stands, if the spool ever saw it.
    pub fn shard(&self, key: &ShardKey) -> Option<ShardState> {
        self.shared.lock().state.shards.get(key).cloned()
    }

    /// Takes a shard. It goes on at `start`; where that is not the spool's position, what
    /// was known of the shard is void. `checkpoint` is what the server says now.
    pub async fn begin(
        &self,
        key: ShardKey,
        start: String,
        checkpoint: Option<String>,
    ) -> Result<Tenure, Error> {
        let command = |reply| Command::Begin { key: key.clone(), start, checkpoint, reply };
        let number = self.ask(command).await?;
        Ok(Tenure { key, number })
    }

    /// Gives a shard up: later appends of this tenure are refused.
    pub fn end(&self, tenure: &Tenure) {
        let _ = self.commands.send(Command::End { key: tenure.key.clone(), tenure: tenure.number });
    }

    /// Stores a batch. Bodies are written in the order of the calls' first polls.
    ///
    /// # Errors
    /// [`Error::Full`] while the quota holds; [`Error::Io`] while the disk fails. Both leave
    /// the spool usable: append the same batch again later.
    pub async fn append(&self, tenure: &Tenure, batch: Batch) -> Result<Receipt, Error> {
        let append = Append::of(&self.shared.keys, &tenure.key, batch, Origin::Live)?;
        self.advance(tenure, append).await
    }

    /// Stores a batch that is not the next one of its shard, which it does not move: pulled
    /// again, or brought from another spool. Returns its number, durable.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub async fn insert(&self, key: ShardKey, batch: Batch, origin: Origin) -> Result<Seq, Error> {
        let append = Append::of(&self.shared.keys, &key, batch, origin)?;
        let receipt = self.ask(|reply| Command::Append { tenure: 0, key, append, reply }).await?;
        Ok(receipt.end.saturating_sub(1))
    }

    /// Stores that a shard moved from `cursor` to `next_cursor` without logs, or stands still.
    pub async fn progress(
        &self,
        tenure: &Tenure,
        cursor: String,
        next_cursor: String,
    ) -> Result<Receipt, Error> {
        self.advance(tenure, Append::Progress { cursor, next_cursor }).await
    }

    /// Remembers that the server took `cursor` as the checkpoint of `key`.
    pub fn committed(&self, key: ShardKey, cursor: String) {
        self.change(Change::Committed { key, cursor });
    }

    /// Remembers, durable on return, that `cursor` may be committed from now on however long
    /// ago the shard passed it. Checkpoints that follow delivery need it: what a commit whose
    /// answer is never seen may leave on the server has to be known as ours.
    ///
    /// # Errors
    /// [`Error::Io`] while the disk fails: do not commit.
    pub async fn intend(&self, key: ShardKey, cursor: String) -> Result<(), Error> {
        self.order(Change::Intended { key, cursor }).await
    }

    /// A destination has confirmed everything before `position`, which is log number `log`
    /// of all logs ever spooled.
    pub fn ack(&self, destination: &str, position: Position, log: u64) {
        self.change(Change::Ack { destination: destination.to_owned(), position, log });
    }

    /// Stops delivery in front of the batches of `span` until [`Self::release`]; durable on
    /// return. Order is kept: everything behind them waits, too. Returns those that were not
    /// held before.
    ///
    /// # Errors
    /// [`Error::OutOfReach`] where one of them is not there, delivered, dropped, or on its way.
    pub async fn hold(&self, span: Span) -> Result<Spans, Error> {
        self.within_reach(span)?;
        let mut added = Spans::default();
        added.insert(span);
        self.shared.lock().state.holds.iter().for_each(|held| added.remove(held));
        self.order(Change::Hold { span }).await?;
        // A reader may have taken one in between; none does from now on.
        if let Err(error) = self.within_reach(span) {
            for span in added.iter() {
                self.release(span).await?;
            }
            return Err(error);
        }
        Ok(added)
    }

    /// Lets delivery go on past the batches of `span`; durable on return.
    pub async fn release(&self, span: Span) -> Result<(), Error> {
        self.order(Change::Release { span }).await
    }

    /// Drops the batches of `span` for good: no destination gets them. `end_log` is the
    /// [`BatchHeader::end_log`] of the last of them. Durable on return.
    ///
    /// # Errors
    /// As [`Self::hold`].
    pub async fn discard(&self, span: Span, end_log: u64) -> Result<(), Error> {
        self.hold(span).await?;
        self.order(Change::Drop { span, end_log }).await
    }

    fn within_reach(&self, span: Span) -> Result<(), Error> {
        let inner = self.shared.lock();
        let state = &inner.state;
        let fail = |seq, why| Err(Error::OutOfReach { seq, why });
        if span.is_empty() || span.end > state.next_seq {
            return fail(span.end.saturating_sub(1), "is not in the spool");
        }
        let started = |at: &Delivered| at.position > Position { seq: span.first, index: 0 };
        if state.destinations.values().any(started) || span.first < state.oldest_needed() {
            return fail(span.first, "is delivered already, or in part");
        }
        if let Some(seq) = (span.first..span.end).find(|seq| state.is_dropped(*seq)) {
            return fail(seq, "was dropped already");
        }
        if span.first < self.shared.taken() {
            return fail(
                span.first,
                "may be on its way to a destination already; stop the relay first, then give the order again",
            );
        }
        Ok(())
    }

    /// Position of a destination.
    pub fn delivered(&self, destination: &str) -> Option<Delivered> {
        self.shared.lock().state.destinations.get(destination).copied()
    }

    /// Batches that some destination which holds the spool still has to confirm.
    pub fn waiting(&self) -> u64 {
        let inner = self.shared.lock();
        inner.state.next_seq.saturating_sub(inner.needed())
    }

    /// A reader that starts at batch `seq`.
    pub fn reader(&self, seq: Seq) -> Reader {
        Reader::new(Arc::clone(&self.shared), seq)
    }

    /// The same for a destination: it stops in front of held batches and leaves out dropped
    /// ones.
    pub fn delivery_reader(&self, seq: Seq) -> Reader {
        Reader::delivering(Arc::clone(&self.shared), seq)
    }

    /// Keeps batch `seq` and everything behind it until the pin is dropped.
    pub fn pin(&self, seq: Seq) -> Pin {
        self.shared.pin(seq)
    }

    /// The number after the newest durable batch, and its changes.
    pub fn durable(&self) -> watch::Receiver<Seq> {
        self.shared.durable()
    }

    /// The oldest batch that some destination which holds the spool still has to confirm, and
    /// its changes; of all destinations where none does. An ack shows here once it is durable.
    pub fn needed(&self) -> watch::Receiver<Seq> {
        self.shared.needed()
    }

    /// Changes whenever there may be room again after [`Error::Full`].
    pub fn room(&self) -> watch::Receiver<u64> {
        self.shared.room_changes()
    }

    /// Writes pending positions now.
    pub async fn flush(&self) -> Result<(), Error> {
        self.ask(Command::Flush).await
    }

    /// Reads every byte there is and names what is damaged. Blocks, and reads the whole spool.
    pub fn scan(&self) -> Result<Vec<Damage>, Error> {
        let mut found = Vec::new();
        let segments: Vec<u64> = self.shared.lock().state.segments.keys().copied().collect();
        for id in segments {
            let state = self.shared.lock().state.clone();
            let known = |span| self.shared.catalog().range(span);
            let places = lost::survey(self.shared.disk(), id, &state, &known)?;
            // The writer may have let go of it in the meantime.
            if self.shared.lock().state.segments.contains_key(&id) {
                found.extend(places.into_iter().map(|place| place.damage));
            }
        }
        Ok(found)
    }

    /// Copies damaged bytes to `quarantine/` and notes them in the ledger.
    pub fn set_aside(&self, damage: &Damage) -> Result<(), Error> {
        self.shared.keep(|disk| ledger::set_aside(disk, damage))
    }

    /// Copies a batch that checks but cannot be used to `quarantine/`, with the reason in the
    /// ledger.
    pub fn quarantine(&self, batch: &StoredBatch, why: &str) -> Result<(), Error> {
        self.shared.keep(|disk| ledger::quarantine(disk, &self.shared.keys, batch, why))
    }

    /// Keeps an answer of SLS that cannot be read, encrypted where there is a key, with the reason in the ledger; durable on
    /// return. Doing it twice does nothing. Returns the path of the copy in the spool.
    pub fn quarantine_answer(&self, answer: &UnreadableAnswer<'_>) -> Result<PathBuf, Error> {
        self.shared.keep(|disk| ledger::quarantine_answer(disk, &self.shared.keys, answer))
    }

    /// Writes one JSON object with a time to the ledger, which outlives every segment.
    pub fn note(&self, what: &serde_json::Value) -> Result<(), Error> {
        self.shared.keep(|disk| ledger::note(disk, what))
    }

    /// A snapshot for people and metrics.
    pub fn status(&self) -> Status {
        let inner = self.shared.lock();
        Status {
            state: inner.state.clone(),
            used_bytes: self.shared.used.load(Ordering::Relaxed),
            max_bytes: self.max_bytes,
            last_error: inner.last_error.clone(),
        }
    }

    /// The spool directory.
    pub fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// Writes pending positions, ends the writer, and releases the lock, whatever other
    /// handles there still are. Blocks.
    pub fn close(self) {
        let _ = self.commands.send(Command::Close);
        let open = self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(Open { thread, lock }) = open {
            let _ = thread.join();
            drop(lock);
        }
    }

    async fn advance(&self, tenure: &Tenure, append: Append) -> Result<Receipt, Error> {
        let (key, tenure) = (tenure.key.clone(), tenure.number);
        self.ask(|reply| Command::Append { tenure, key, append, reply }).await
    }

    fn change(&self, change: Change) {
        let _ = self.commands.send(Command::Change(change));
    }

    /// A change that is durable on return, and never made where this fails.
    async fn order(&self, change: Change) -> Result<(), Error> {
        self.ask(|reply| Command::Order(change, reply)).await
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Command,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| Error::Closed)?;
        answer.await.unwrap_or(Err(Error::Closed))
    }
}
