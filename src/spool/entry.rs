//! The encoded headers of entries, and the words they are made of.

use bincode::{Decode, Encode};
use bytes::Bytes;

use super::error::Error;
use super::format::Kind;
use super::spans::Span;
use super::state::{State, StateV1};

/// Number of a batch in the spool. Never used twice, not even after the spool ran empty.
pub type Seq = u64;

/// One shard of one source. `source` is an opaque, stable text that names endpoint,
/// project, logstore and consumer group: positions of one say nothing about another.
#[derive(Clone, Debug, Decode, Encode, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ShardKey {
    /// Where the shard lives.
    pub source: String,
    /// Shard number in its logstore.
    pub shard: u32,
}

impl std::fmt::Display for ShardKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} shard {}", self.source, self.shard)
    }
}

/// The next log a destination has to confirm: a batch and the index of a log in it.
/// The index counts all logs of the decompressed body; a finished batch is `(seq + 1, 0)`.
#[derive(Clone, Copy, Debug, Decode, Default, Encode, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Position {
    /// Batch.
    pub seq: Seq,
    /// Log in the batch, from 0.
    pub index: u32,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{}", self.seq, self.index)
    }
}

/// How SLS compressed a body.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Compression {
    /// Not at all.
    None,
    /// One raw LZ4 block, no frame, no length prefix.
    Lz4,
    /// One zstd frame.
    Zstd,
}

/// How a batch came into the spool.
#[derive(Clone, Copy, Debug, Decode, Default, Encode, Eq, PartialEq)]
pub enum Origin {
    /// Pulled by the shard's fetcher, in the order of the shard.
    #[default]
    Live,
    /// Pulled again because the spool's own copy was damaged.
    Refetch,
    /// Brought from another spool.
    Import,
}

/// One PullLogs answer on its way into the spool.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Cursor the answer was asked with. Must be the shard's position in the spool.
    pub cursor: String,
    /// Cursor to ask with next; what a checkpoint may say once the batch is durable.
    pub next_cursor: String,
    /// Numeric cursor of the first log group, where SLS tells it.
    pub first_group_cursor: Option<u64>,
    /// Log groups in the body.
    pub groups: u32,
    /// Logs in the body.
    pub logs: u32,
    /// Whether SLS filtered the answer.
    pub query: bool,
    /// When SLS received it, else when it answered; ms since the epoch.
    pub received_at: i64,
    /// Smallest log time, s since the epoch.
    pub min_time: u32,
    /// Largest log time, s since the epoch.
    pub max_time: u32,
    /// Bytes of the body once decompressed.
    pub raw_size: u64,
    /// How the body is compressed.
    pub compression: Compression,
    /// The body exactly as SLS sent it.
    pub body: Bytes,
}

/// What the spool keeps in front of a batch's body.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct BatchHeader {
    /// Number of the batch.
    pub seq: Seq,
    /// Logs spooled before this batch, ever.
    pub first_log: u64,
    /// Shard it came from.
    pub key: ShardKey,
    /// See [`Batch::cursor`].
    pub cursor: String,
    /// See [`Batch::next_cursor`].
    pub next_cursor: String,
    /// See [`Batch::first_group_cursor`].
    pub first_group_cursor: Option<u64>,
    /// See [`Batch::groups`].
    pub groups: u32,
    /// See [`Batch::logs`].
    pub logs: u32,
    /// See [`Batch::query`].
    pub query: bool,
    /// See [`Batch::received_at`].
    pub received_at: i64,
    /// See [`Batch::min_time`].
    pub min_time: u32,
    /// See [`Batch::max_time`].
    pub max_time: u32,
    /// See [`Batch::raw_size`].
    pub raw_size: u64,
    /// See [`Batch::compression`].
    pub compression: Compression,
    /// How it came into the spool. Only a live one moves its shard.
    pub origin: Origin,
    /// Which key the stored body is encrypted with; 0 for one in the clear.
    pub key_id: u64,
}

impl BatchHeader {
    /// What is kept of `batch`, and its body.
    pub(crate) fn of(
        batch: Batch,
        key: ShardKey,
        (seq, first_log): (Seq, u64),
        origin: Origin,
        key_id: u64,
    ) -> (Self, Bytes) {
        let header = Self {
            seq,
            first_log,
            key,
            cursor: batch.cursor,
            next_cursor: batch.next_cursor,
            first_group_cursor: batch.first_group_cursor,
            groups: batch.groups,
            logs: batch.logs,
            query: batch.query,
            received_at: batch.received_at,
            min_time: batch.min_time,
            max_time: batch.max_time,
            raw_size: batch.raw_size,
            compression: batch.compression,
            origin,
            key_id,
        };
        (header, batch.body)
    }

    /// One past its last log, counted in logs ever spooled.
    pub fn end_log(&self) -> u64 {
        self.first_log + u64::from(self.logs)
    }
}

/// Layout 1 of [`BatchHeader`].
#[derive(Decode)]
struct BatchHeaderV1 {
    seq: Seq,
    first_log: u64,
    key: ShardKey,
    cursor: String,
    next_cursor: String,
    first_group_cursor: Option<u64>,
    groups: u32,
    logs: u32,
    query: bool,
    received_at: i64,
    min_time: u32,
    max_time: u32,
    raw_size: u64,
    compression: Compression,
}

impl From<BatchHeaderV1> for BatchHeader {
    fn from(old: BatchHeaderV1) -> Self {
        Self {
            seq: old.seq,
            first_log: old.first_log,
            key: old.key,
            cursor: old.cursor,
            next_cursor: old.next_cursor,
            first_group_cursor: old.first_group_cursor,
            groups: old.groups,
            logs: old.logs,
            query: old.query,
            received_at: old.received_at,
            min_time: old.min_time,
            max_time: old.max_time,
            raw_size: old.raw_size,
            compression: old.compression,
            origin: Origin::Live,
            key_id: 0,
        }
    }
}

/// A batch as the footer of its segment tells it.
#[derive(Clone, Debug, Decode, Encode, PartialEq)]
pub(crate) struct Indexed {
    /// Of the entry's prefix.
    pub(crate) offset: u64,
    /// Bytes of the stored body.
    pub(crate) stored: u32,
    pub(crate) header: BatchHeader,
}

/// Every batch of a segment, in order, at its end.
#[derive(Clone, Debug, Decode, Default, Encode, PartialEq)]
pub(crate) struct Footer {
    /// The sources; a batch in [`Self::batches`] has the index of its own in place of it.
    sources: Vec<String>,
    batches: Vec<Indexed>,
}

impl Footer {
    pub(crate) fn of(batches: &[Indexed]) -> Self {
        let mut footer = Self::default();
        for batch in batches {
            let source = &batch.header.key.source;
            let known = footer.sources.iter().position(|known| known == source);
            let index = known.unwrap_or_else(|| {
                footer.sources.push(source.clone());
                footer.sources.len() - 1
            });
            let mut batch = batch.clone();
            batch.header.key.source = index.to_string();
            footer.batches.push(batch);
        }
        footer
    }

    /// The batches with their sources; `None` where one names a source that is not there.
    pub(crate) fn into_batches(self) -> Option<Vec<Indexed>> {
        let sources = self.sources;
        let named = self.batches.into_iter().map(|mut batch| {
            let index: usize = batch.header.key.source.parse().ok()?;
            batch.header.key.source.clone_from(sources.get(index)?);
            Some(batch)
        });
        named.collect()
    }
}

/// A shard moved on without logs: an idle shard, a filtered answer, or a new start.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub(crate) struct Progress {
    pub(crate) key: ShardKey,
    pub(crate) cursor: String,
    pub(crate) next_cursor: String,
    /// The shard starts anew at `next_cursor`; what was known of it is void.
    pub(crate) jump: bool,
}

/// One change of the state that belongs to no batch.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub(crate) enum Change {
    Ack {
        destination: String,
        position: Position,
        log: u64,
    },
    Committed {
        key: ShardKey,
        cursor: String,
    },
    Floor {
        segment: u64,
    },
    AddDestination {
        name: String,
        position: Position,
        log: u64,
    },
    ForgetDestination {
        name: String,
    },
    /// Numbers given out so far: damage in front of this must not make them be used again.
    Reached {
        next_seq: Seq,
        next_log: u64,
    },
    /// The cursor may be committed, however long ago the shard passed it.
    Intended {
        key: ShardKey,
        cursor: String,
    },
    /// Delivery stops in front of these batches until they are released.
    Hold {
        span: Span,
    },
    Release {
        span: Span,
    },
    /// These batches are not delivered to anybody any more. `end_log` is where the logs go on
    /// behind them.
    Drop {
        span: Span,
        end_log: u64,
    },
}

/// The encoded header of an entry, by kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Header {
    Batch(BatchHeader),
    Progress(Progress),
    Snapshot(State),
    Journal(Vec<Change>),
    Footer(Footer),
}

impl Header {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Batch(_) => Kind::Batch,
            Self::Progress(_) => Kind::Progress,
            Self::Snapshot(_) => Kind::Snapshot,
            Self::Journal(_) => Kind::Journal,
            Self::Footer(_) => Kind::Footer,
        }
    }

    /// Refuses what no reader would take: once written, it would be damage.
    pub(crate) fn checked(self) -> Result<Self, Error> {
        let (size, limit) = (self.encode().len(), self.kind().longest());
        if size > limit { Err(Error::TooLarge { size, limit }) } else { Ok(self) }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let config = bincode::config::standard();
        let encoded = match self {
            Self::Batch(header) => bincode::encode_to_vec(header, config),
            Self::Progress(header) => bincode::encode_to_vec(header, config),
            Self::Snapshot(header) => bincode::encode_to_vec(header, config),
            Self::Journal(header) => bincode::encode_to_vec(header, config),
            Self::Footer(header) => bincode::encode_to_vec(header, config),
        };
        #[expect(clippy::expect_used, reason = "none of these types has a failing Encode")]
        encoded.expect("plain data always encodes")
    }

    /// Decodes a header of `kind` in layout `version`; `None` when the bytes are not one.
    pub(crate) fn decode(kind: Kind, version: u8, bytes: &[u8]) -> Option<Self> {
        Some(match (kind, version) {
            (Kind::Batch, 1) => Self::Batch(decode::<BatchHeaderV1>(bytes)?.into()),
            (Kind::Batch, _) => Self::Batch(decode(bytes)?),
            (Kind::Progress, _) => Self::Progress(decode(bytes)?),
            (Kind::Snapshot, 1) => Self::Snapshot(decode::<StateV1>(bytes)?.into()),
            (Kind::Snapshot, _) => Self::Snapshot(decode(bytes)?),
            // Layout 2 only knows more changes.
            (Kind::Journal, _) => Self::Journal(decode(bytes)?),
            (Kind::Footer, _) => Self::Footer(decode(bytes)?),
        })
    }
}

/// Decodes all of `bytes`; what is left over makes it invalid.
pub(crate) fn decode<T: Decode<()>>(bytes: &[u8]) -> Option<T> {
    let config = bincode::config::standard().with_limit::<{ super::format::MAX_HEADER }>();
    let (value, used) = bincode::decode_from_slice(bytes, config).ok()?;
    (used == bytes.len()).then_some(value)
}
