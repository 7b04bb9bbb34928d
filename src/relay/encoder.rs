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
use super::notice::is_notice;
use super::replay::Replay;
use super::status::{DestinationCounters, add};
use crate::config::Destination;
use crate::sls::{self, Cursor, body, walk};
use crate::spool::{self, BatchHeader, Item, Origin, Position, Spool, StoredBatch};
use crate::syslog::{
    FormatSettings, Formatter, Frames, Framing, Identity, LogLine, Scheme, SettingsError, Severity,
};

/// Bytes of one chunk: what is written with one call.
const CHUNK: usize = 64 << 10;
/// Pause after which the spool's files are let go of.
const RELEASE_AFTER: std::time::Duration = std::time::Duration::from_secs(1);
/// Chunks made ahead.
const AHEAD: usize = 8;

/// Where a destination is: the next log of the spool, and how many logs came before it.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Mark {
    pub(crate) position: Position,
    pub(crate) log: u64,
}

/// Framed messages, and where the destination is once they are delivered.
pub(crate) struct Chunk {
    pub(crate) frames: Frames,
    pub(crate) after: Mark,
    /// How many logs these are, those that nobody could format included.
    pub(crate) logs: u64,
    /// Logs by shard, for the counters.
    pub(crate) key: spool::ShardKey,
}

/// Starts an encoder at `from`. It ends when the receiver is dropped.
pub(crate) fn spawn(
    feed: Feed,
    destination: Arc<Destination>,
    counters: Arc<DestinationCounters>,
    from: Mark,
) -> std::io::Result<Receiver<Chunk>> {
    let (sender, chunks) = mpsc::channel(AHEAD);
    let runtime = tokio::runtime::Handle::current();
    let encoder = Encoder {
        formatter: formatter(&destination, destination.severity).map_err(std::io::Error::other)?,
        notices: formatter(&destination, NOTICE).map_err(std::io::Error::other)?,
        framing: match destination.target.scheme {
            Scheme::Udp => None,
            Scheme::Tcp | Scheme::Tls => Some(destination.framing),
        },
        spool: feed.spool,
        replay: feed.replay,
        destination,
        counters,
        sender,
        from,
        raw: Vec::new(),
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
    sender: Sender<Chunk>,
    from: Mark,
    raw: Vec<u8>,
    /// When this encoder began, and the logs it has sent since.
    since: Instant,
    logs: u64,
    /// The batch of the last mark.
    at: spool::Seq,
}

/// The sender does not want any more.
struct Done;

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
            let read = reader.read();
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
        let project = source_name(header);
        let replay = self.replay.clone();
        let replay = replay.as_ref().map(|replay| replay.id());
        let origin = replay.map_or_else(|| origin(header), |_| Some("replay"));
        let mut frames = Frames::default();
        let (mut index, mut tags, mut fields) = (0, Vec::new(), Vec::new());
        let burst = self.replay.as_ref().map_or(u32::MAX, |replay| replay.burst());
        let wanted = self.replay.as_ref().and_then(|replay| replay.wanted(header, raw));
        let mut logs = 0;
        for (number, group) in walk::groups(raw).flatten().enumerate() {
            tags.clear();
            tags.extend(group.tags());
            let cursor =
                header.first_group_cursor.map(|first| Cursor::from_number(first + number as u64));
            for (in_group, log) in (0..).zip(group.logs()) {
                let place = if cursor.is_some() { in_group } else { index };
                index += 1;
                if index <= skip {
                    continue;
                }
                let last = index == header.logs;
                fields.clear();
                fields.extend(log.fields());
                let line = LogLine {
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
                };
                if wanted.as_ref().is_some_and(|some| some.binary_search(&(index - 1)).is_err()) {
                    continue;
                }
                self.append(&line, is_notice(header, group.topic), &mut frames);
                logs += 1;
                if (frames.len() >= CHUNK || logs >= burst) && !last {
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
    fn append(&mut self, line: &LogLine<'_>, notice: bool, frames: &mut Frames) {
        let formatter = if notice { &mut self.notices } else { &mut self.formatter };
        let framing = self.framing;
        let formatted = catch_unwind(AssertUnwindSafe(|| {
            let mut message = Vec::with_capacity(2048);
            let formatted = formatter.format(line, &mut message);
            (message, formatted)
        }));
        match formatted {
            Ok((message, formatted)) => {
                frames.push(|out| match framing {
                    Some(framing) => framing.append(&message, out),
                    None => out.extend_from_slice(&message),
                });
                if let Some(length) = formatted.truncated_from {
                    add(&self.counters.truncated, 1);
                    tracing::debug!(destination = %self.destination.name, length, shard = line.identity.shard, cursor = line.identity.cursor, index = line.identity.index, "message cut to the size limit");
                }
            }
            Err(_) => {
                tracing::error!(destination = %self.destination.name, code = "syslog.format", shard = line.identity.shard, cursor = line.identity.cursor, index = line.identity.index, "a log could not be formatted; it is noted in the spool's ledger and left out");
                let note = serde_json::json!({
                    "what": "unformattable", "destination": self.destination.name,
                    "source": line.identity.source, "shard": line.identity.shard,
                    "cursor": line.identity.cursor, "index": line.identity.index,
                });
                if let Err(error) = self.spool.note(&note) {
                    tracing::error!(code = error.code(), "{}", super::chain(&error));
                }
            }
        }
    }

    /// A batch that cannot be read back is kept whole and passed over.
    fn refuse(&mut self, batch: &StoredBatch, why: &str) -> Result<(), Done> {
        let header = &batch.header;
        tracing::error!(destination = %self.destination.name, code = "spool.unreadable", seq = header.seq, shard = header.key.shard, cursor = %header.cursor, next_cursor = %header.next_cursor, "a stored batch cannot be decoded: {why}; its bytes are kept in the spool's quarantine");
        while let Err(error) = self.spool.quarantine(batch, why) {
            tracing::error!(
                code = error.code(),
                "{}; delivery waits until the bytes are kept",
                super::chain(&error)
            );
            std::thread::sleep(std::time::Duration::from_secs(1));
            if self.sender.is_closed() {
                return Err(Done);
            }
        }
        self.send(Frames::default(), end_of(header), 0, header.key.clone())
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
        self.at = after.position.seq;
        self.sender.blocking_send(Chunk { frames, after, logs, key }).map_err(|_| Done)
    }
}

/// Severity of what the relay itself has to say: logs are missing.
const NOTICE: Severity = Severity::ERR;

/// Longest message in bytes: a UDP datagram over IPv4, and what rsyslog takes in one frame.
const MAX_UDP: usize = 65_507;
const MAX_TCP: usize = 200_000;

fn formatter(destination: &Destination, severity: Severity) -> Result<Formatter, SettingsError> {
    Formatter::new(FormatSettings {
        format: destination.format,
        separator: destination.separator.clone(),
        facility: destination.facility,
        severity,
        hostname: destination.hostname.clone(),
        app_name: destination.app_name.clone(),
        sd_id: destination.sd_id.clone(),
        zone: destination.zone.clone(),
        max_bytes: match destination.target.scheme {
            Scheme::Udp => MAX_UDP,
            Scheme::Tcp | Scheme::Tls => MAX_TCP,
        },
    })
}

fn end_of(header: &BatchHeader) -> Mark {
    let position = Position { seq: header.seq + 1, index: 0 };
    Mark { position, log: header.first_log + u64::from(header.logs) }
}

/// `project/logstore` out of the spool's name for the source.
fn source_name(header: &BatchHeader) -> String {
    let source = header.key.source.split('#').next().unwrap_or_default();
    let mut parts = source.rsplitn(3, '/');
    let (logstore, project) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    format!("{project}/{logstore}")
}

/// The mark of logs that did not come straight from SLS.
fn origin(header: &BatchHeader) -> Option<&'static str> {
    match header.origin {
        Origin::Live => None,
        Origin::Refetch => Some("refetch"),
        Origin::Import => Some("import"),
    }
}

/// The word of SLS for how a batch is compressed.
pub(crate) fn compression(header: &BatchHeader) -> sls::Compression {
    match header.compression {
        spool::Compression::None => sls::Compression::None,
        spool::Compression::Lz4 => sls::Compression::Lz4,
        spool::Compression::Zstd => sls::Compression::Zstd,
    }
}
