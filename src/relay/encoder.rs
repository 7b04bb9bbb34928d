//! From the spool to framed messages: one thread per destination that reads batches in
//! order, decompresses, walks the log groups, and formats.
//!
//! It works ahead of the sender by a few chunks. When the sender has to go back, it drops
//! this encoder and starts another at the confirmed position.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::{self, Receiver, Sender};

use super::backoff::{Outage, Say};
use super::feed::Feed;
use super::filter;
use super::kept::Kept;
use super::messages;
use super::notice::is_notice;
use super::poison::{self, Found};
use super::replay::Replay;
use super::status::{DestinationCounters, add};
use crate::config::Destination;
use crate::sls::{self, Cursor, body, walk};
use crate::spool::{self, BatchHeader, Item, Position, Reader, Spool, StoredBatch};
use crate::syslog::delivery::Room;
use crate::syslog::{Formatted, Formatter, Frames, Framing, Identity, LogLine, Outcome};

/// Bytes of one chunk: what is written with one call.
pub(crate) const CHUNK: usize = 64 << 10;
/// Pause after which the spool's files are let go of.
const RELEASE_AFTER: std::time::Duration = std::time::Duration::from_secs(1);
/// Octets of a message whose memory is not kept for the next one.
const LARGE: usize = 1 << 20;
/// Chunks made ahead: about as much as is made while a connection is drained and the next one
/// opened on a short path, so that making goes on meanwhile.
const AHEAD: usize = 48;

/// Where a destination is: the next log of the spool, and how many logs came before it.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Mark {
    pub(crate) position: Position,
    pub(crate) log: u64,
}

/// Framed messages, and where the destination is once they are delivered.
pub(crate) struct Chunk {
    pub(crate) frames: Frames,
    /// The place of the first log in it, if there is one.
    pub(crate) first: Option<Mark>,
    pub(crate) after: Mark,
    /// How many logs these are, those that nobody could format included.
    pub(crate) logs: u64,
    /// Logs by shard, for the counters.
    pub(crate) key: spool::ShardKey,
}

/// Starts an encoder at `from` whose chunks fit `room`. It ends when the receiver is dropped.
pub(crate) fn spawn(
    feed: Feed,
    destination: Arc<Destination>,
    counters: Arc<DestinationCounters>,
    from: Mark,
    room: Room,
) -> std::io::Result<Receiver<Chunk>> {
    spawn_with(Formatter::format, feed, destination, counters, from, room)
}

/// The same with another way to format.
pub(super) fn spawn_with(
    format: Format,
    feed: Feed,
    destination: Arc<Destination>,
    counters: Arc<DestinationCounters>,
    from: Mark,
    room: Room,
) -> std::io::Result<Receiver<Chunk>> {
    let (sender, chunks) = mpsc::channel(AHEAD);
    let burst = feed.replay.as_ref().map_or(u32::MAX, |replay| replay.burst());
    let runtime = tokio::runtime::Handle::current();
    let encoder = Encoder {
        formatter: messages::logs(&destination).map_err(std::io::Error::other)?,
        notices: messages::notices(&destination).map_err(std::io::Error::other)?,
        framing: messages::framing(&destination),
        format,
        spool: feed.spool,
        replay: feed.replay,
        destination,
        counters,
        sender,
        from,
        most_bytes: usize::try_from(room.bytes).unwrap_or(CHUNK).min(CHUNK),
        most_logs: room.logs.min(burst),
        first: None,
        raw: Vec::new(),
        message: Vec::new(),
        since: Instant::now(),
        logs: 0,
        at: from.position.seq,
    };
    std::thread::Builder::new().name("encoder".to_owned()).spawn(move || encoder.run(&runtime))?;
    Ok(chunks)
}

struct Encoder {
    spool: Spool,
    replay: Option<Arc<Replay>>,
    destination: Arc<Destination>,
    counters: Arc<DestinationCounters>,
    formatter: Formatter,
    /// For what the relay itself has to say.
    notices: Formatter,
    framing: Option<Framing>,
    format: Format,
    sender: Sender<Chunk>,
    from: Mark,
    /// Limits of one chunk; one log may always exceed the bytes.
    most_bytes: usize,
    most_logs: u32,
    /// The first log of the chunk that is being made.
    first: Option<Mark>,
    raw: Vec<u8>,
    /// The messages of one log.
    message: Vec<u8>,
    /// When this encoder began, and the logs it has sent since.
    since: Instant,
    logs: u64,
    /// The batch of the last mark.
    at: spool::Seq,
}

/// The sender does not want any more.
struct Done;

/// Why a log has no message.
enum NotSent {
    /// The formatter panicked.
    Unformattable,
    /// It is longer than the limit, and the destination wants none of it then.
    TooLong { length: usize, limit: usize },
}

pub(super) type Format = fn(&mut Formatter, &LogLine<'_>, &mut Vec<u8>) -> Formatted;

impl Encoder {
    fn run(mut self, runtime: &tokio::runtime::Handle) {
        let mut durable = self.spool.durable();
        let from = self.from.position.seq;
        let mut reader = match &self.replay {
            Some(_) => self.spool.reader(from),
            None => self.spool.delivery_reader(from),
        };
        let mut outage = Outage::default();
        loop {
            durable.mark_unchanged();
            if let Some(replay) = &self.replay {
                match replay.next(reader.position()) {
                    Some(seq) if seq == reader.position() => {}
                    Some(seq) => reader.seek(seq),
                    None => return self.end(),
                }
            }
            let read = match self.kept() {
                Some(kept) => take(kept, &mut reader),
                None => reader.read(),
            };
            if read.is_ok()
                && let Some(lasted) = outage.recovered(Instant::now())
            {
                tracing::info!(destination = %self.destination.name, seconds = lasted.as_secs(), "the spool can be read again");
            }
            let done = match read {
                Ok(Some(Item::Batch(batch))) if !self.belongs(&batch.header) => false,
                Ok(Some(Item::Batch(batch))) => self.encode(*batch).is_err(),
                Ok(Some(Item::Damage(damage))) => {
                    super::say_damage(&damage, Some(&self.destination.name));
                    if let Err(error) = self.spool.set_aside(&damage) {
                        tracing::error!(code = error.code(), "{}", super::chain(&error));
                    }
                    false
                }
                Ok(None) if self.passes_lost_end(reader.position()).is_err() => true,
                Ok(None) => runtime.block_on(async {
                    tokio::select! {
                        changed = durable.changed() => changed.is_err(),
                        () = self.sender.closed() => true,
                        () = tokio::time::sleep(RELEASE_AFTER) => {
                            reader.release();
                            false
                        }
                    }
                }),
                Err(error) => {
                    if outage.failed(Instant::now()) != Say::Nothing {
                        tracing::error!(destination = %self.destination.name, code = error.code(), "{}; delivery waits, the same is read again and nothing is passed over", super::chain(&error));
                    }
                    runtime.block_on(async {
                        tokio::select! {
                            () = tokio::time::sleep(std::time::Duration::from_secs(1)) => false,
                            () = self.sender.closed() => true,
                        }
                    })
                }
            };
            if done {
                return;
            }
        }
    }

    fn encode(&mut self, batch: StoredBatch) -> Result<(), Done> {
        let header = &batch.header;
        let mut raw = std::mem::take(&mut self.raw);
        let read = catch_unwind(AssertUnwindSafe(|| {
            body::decompress(compression(header), &batch.body, header.raw_size, &mut raw)?;
            walk::summary(&raw)
        }));
        let result = match read {
            Ok(Ok(_)) => self.walk(header, &raw),
            // It was checked before it was stored; whatever happened, nothing is skipped silently.
            Ok(Err(error)) => self.refuse(&batch, &super::chain(&error)),
            Err(_) => self.refuse(&batch, "the decoder panicked"),
        };
        if raw.capacity() <= 16 << 20 {
            self.raw = raw;
        }
        result
    }

    fn walk(&mut self, header: &BatchHeader, raw: &[u8]) -> Result<(), Done> {
        let skip = if header.seq == self.from.position.seq { self.from.position.index } else { 0 };
        let project = messages::source_name(header);
        let replay = self.replay.clone();
        let replay = replay.as_ref().map(|replay| replay.id());
        let origin = replay.map_or_else(|| messages::origin(header), |_| Some("replay"));
        let mut frames = Frames::default();
        let (mut index, mut tags, mut fields) = (0, Vec::new(), Vec::new());
        let wanted = self.replay.as_ref().and_then(|replay| replay.wanted(header, raw));
        let mut logs = 0;
        let first_place = self.kept().map_or(0, |kept| kept.place(header.seq));
        for (number, group) in (0..).zip(walk::groups(raw).flatten()) {
            tags.clear();
            tags.extend(group.tags());
            let cursor = header.first_group_cursor.map(|first| Cursor::from_number(first + number));
            for (in_group, log) in (0..).zip(group.logs()) {
                let place = first_place + if cursor.is_some() { in_group } else { index };
                index += 1;
                if index <= skip {
                    continue;
                }
                let last = index == header.logs;
                fields.clear();
                fields.extend(log.fields());
                let mut line = LogLine {
                    time: log.time,
                    time_ns: log.time_ns,
                    topic: group.topic,
                    source: group.source,
                    tags: &tags,
                    fields: &fields,
                    identity: Identity {
                        source: &project,
                        shard: header.key.shard,
                        cursor: cursor.as_ref().map_or(&header.cursor, Cursor::as_str),
                        index: place,
                        approximate: cursor.is_none(),
                    },
                    origin,
                    replay,
                    severity: None,
                };
                if wanted.as_ref().is_some_and(|some| some.binary_search(&(index - 1)).is_err()) {
                    continue;
                }
                let notice = self.kept().is_none() && is_notice(header, group.topic);
                // What the relay itself has to say is told to everybody.
                if !notice {
                    let usual = self.destination.severity;
                    let severity = filter::severity(&self.destination.filter, &line, usual);
                    if severity.is_none() {
                        // Out of the quarantine it must not vanish as if it had been sent.
                        if let Some(kept) = self.kept() {
                            kept.refuse(header.seq, "the destination does not get such logs (`where`, `severity_at_least`)");
                        }
                        add(&self.counters.filtered, 1);
                        continue;
                    }
                    line.severity = severity;
                }
                if let Err(not_sent) = self.append(&line, notice, &mut frames) {
                    let found =
                        Found { group, log, index: index - 1, in_group: (number, in_group) };
                    self.quarantine(header, &found, &not_sent.to_string())?;
                }
                logs += 1;
                let (position, log) = (Position { seq: header.seq, index: index - 1 }, index - 1);
                let place = Mark { position, log: header.first_log + u64::from(log) };
                self.first.get_or_insert(place);
                if (frames.len() >= self.most_bytes || logs >= self.most_logs) && !last {
                    let position = Position { seq: header.seq, index };
                    let after = Mark { position, log: header.first_log + u64::from(index) };
                    self.send(std::mem::take(&mut frames), after, logs, header.key.clone())?;
                    logs = 0;
                }
            }
        }
        self.send(frames, end_of(header), logs, header.key.clone())
    }

    /// Whether a replay wants the batch; delivery wants every one.
    fn belongs(&self, header: &BatchHeader) -> bool {
        let next = self.replay.as_ref().map(|replay| replay.next(header.seq));
        next.is_none_or(|next| next == Some(header.seq))
    }

    /// Where the last batches were lost to damage, there is nothing behind them to send that
    /// would say that they are passed.
    fn passes_lost_end(&mut self, position: spool::Seq) -> Result<(), Done> {
        if self.replay.is_some() || position <= self.at {
            return Ok(());
        }
        let state = self.spool.status().state;
        if position < state.next_seq {
            return Ok(());
        }
        let nowhere = spool::ShardKey { source: String::new(), shard: 0 };
        let after = Mark { position: Position { seq: position, index: 0 }, log: state.next_log };
        self.send(Frames::default(), after, 0, nowhere)
    }

    /// The end of a replay: behind it nothing is left to send.
    fn end(mut self) {
        if let Some(replay) = &self.replay {
            let after = Mark { position: replay.end(), log: 0 };
            let nowhere = spool::ShardKey { source: String::new(), shard: 0 };
            let _ = self.send(Frames::default(), after, 0, nowhere);
        }
    }

    /// Formats one log. A panic costs this log its format, not the relay its life.
    fn append(
        &mut self,
        line: &LogLine<'_>,
        notice: bool,
        frames: &mut Frames,
    ) -> Result<(), NotSent> {
        let formatter = if notice { &mut self.notices } else { &mut self.formatter };
        let (framing, format) = (self.framing, self.format);
        let message = &mut self.message;
        message.clear();
        let formatted = catch_unwind(AssertUnwindSafe(|| format(formatter, line, message)))
            .map_err(|_| NotSent::Unformattable)?;
        let mut push = |message: &[u8]| {
            frames.push(|out| match framing {
                Some(framing) => framing.append(message, out),
                None => out.extend_from_slice(message),
            });
        };
        let length = formatted.truncated_from.unwrap_or(message.len());
        let (counter, became) = match formatted.outcome {
            Outcome::Whole => {
                push(message);
                return Ok(());
            }
            Outcome::Shrunk => (&self.counters.shrunk, "shrunk"),
            Outcome::Truncated => (&self.counters.truncated, "truncated"),
            Outcome::Split(_) => (&self.counters.split, "split"),
            Outcome::Refused => {
                return Err(NotSent::TooLong { length, limit: self.destination.max_message });
            }
        };
        add(counter, 1);
        tracing::debug!(destination = %self.destination.name, length, limit = self.destination.max_message, became, shard = line.identity.shard, cursor = line.identity.cursor, index = line.identity.index, "a message is longer than the limit");
        if let Outcome::Split(ends) = formatted.outcome {
            let starts = std::iter::once(0).chain(ends.iter().copied());
            starts.zip(&ends).for_each(|(start, &end)| push(&message[start..end]));
        } else {
            push(message);
        }
        // One log of unusual size does not hold its memory for ever.
        if message.capacity() > LARGE {
            *message = Vec::new();
        }
        Ok(())
    }

    /// A log that this destination does not get is kept and passed over.
    fn quarantine(
        &mut self,
        header: &BatchHeader,
        found: &Found<'_>,
        why: &str,
    ) -> Result<(), Done> {
        if let Some(kept) = self.kept() {
            kept.refuse(header.seq, why);
            return Ok(());
        }
        self.insist(|spool, name| poison::store(spool, name, header, found, why))?;
        add(&self.counters.quarantined, 1);
        Ok(())
    }

    /// A batch that cannot be read back is kept whole and passed over.
    fn refuse(&mut self, batch: &StoredBatch, why: &str) -> Result<(), Done> {
        let header = &batch.header;
        if let Some(kept) = self.kept() {
            kept.refuse(header.seq, why);
        } else {
            tracing::error!(destination = %self.destination.name, code = "spool.unreadable", seq = header.seq, shard = header.key.shard, cursor = %header.cursor, next_cursor = %header.next_cursor, "a stored batch cannot be decoded: {why}; its bytes are kept in the spool's quarantine");
            self.insist(|spool, _| spool.quarantine(batch, why))?;
        }
        self.send(Frames::default(), end_of(header), 0, header.key.clone())
    }

    /// Tries to keep something until that works.
    fn insist(&self, keep: impl Fn(&Spool, &str) -> Result<(), spool::Error>) -> Result<(), Done> {
        let mut outage = Outage::default();
        while let Err(error) = keep(&self.spool, &self.destination.name) {
            if outage.failed(Instant::now()) != Say::Nothing {
                tracing::error!(destination = %self.destination.name, code = error.code(), "{}; delivery waits until it is kept", super::chain(&error));
            }
            std::thread::sleep(std::time::Duration::from_secs(1));
            if self.sender.is_closed() {
                return Err(Done);
            }
        }
        Ok(())
    }

    /// The logs of the quarantine, where this is a replay of such.
    fn kept(&self) -> Option<&Kept> {
        self.replay.as_ref().and_then(|replay| replay.kept())
    }

    fn send(
        &mut self,
        frames: Frames,
        mut after: Mark,
        logs: u32,
        key: spool::ShardKey,
    ) -> Result<(), Done> {
        let logs = u64::from(logs);
        if let Some(replay) = &self.replay {
            loop {
                let pause = replay.pause(self.since, self.logs);
                if pause.is_zero() || self.sender.is_closed() {
                    break;
                }
                std::thread::sleep(pause.min(std::time::Duration::from_millis(100)));
            }
            // Only what is sent counts; it goes on where an encoder before this one ended.
            after.log = self.from.log + self.logs + logs;
        }
        self.logs += logs;
        let first = self.first.take();
        self.at = after.position.seq;
        self.sender.blocking_send(Chunk { frames, first, after, logs, key }).map_err(|_| Done)
    }
}

impl std::fmt::Display for NotSent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unformattable => f.write_str("it could not be formatted"),
            Self::TooLong { length, limit } => {
                write!(f, "its message of {length} octets is longer than max_message, {limit}")
            }
        }
    }
}

/// The next log out of the quarantine.
fn take(kept: &Kept, reader: &mut Reader) -> Result<Option<Item>, spool::Error> {
    let seq = reader.position();
    let batch = kept.batch(seq)?;
    reader.seek(seq + 1);
    Ok(batch.map(|batch| Item::Batch(Box::new(batch))))
}

fn end_of(header: &BatchHeader) -> Mark {
    let position = Position { seq: header.seq + 1, index: 0 };
    Mark { position, log: header.first_log + u64::from(header.logs) }
}

/// The word of SLS for how a batch is compressed.
pub(crate) fn compression(header: &BatchHeader) -> sls::Compression {
    match header.compression {
        spool::Compression::None => sls::Compression::None,
        spool::Compression::Lz4 => sls::Compression::Lz4,
        spool::Compression::Zstd => sls::Compression::Zstd,
    }
}
