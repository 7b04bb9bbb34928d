//! The encoded headers of entries, and the words they are made of.

use bincode::{Decode, Encode};
use bytes::Bytes;

use super::state::State;

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
}

/// The encoded header of an entry, by kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Header {
    Batch(BatchHeader),
    Progress(Progress),
    Snapshot(State),
    Journal(Vec<Change>),
}

impl Header {
    pub(crate) fn kind(&self) -> super::format::Kind {
        use super::format::Kind;
        match self {
            Self::Batch(_) => Kind::Batch,
            Self::Progress(_) => Kind::Progress,
            Self::Snapshot(_) => Kind::Snapshot,
            Self::Journal(_) => Kind::Journal,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let config = bincode::config::standard();
        let encoded = match self {
            Self::Batch(header) => bincode::encode_to_vec(header, config),
            Self::Progress(header) => bincode::encode_to_vec(header, config),
            Self::Snapshot(header) => bincode::encode_to_vec(header, config),
            Self::Journal(header) => bincode::encode_to_vec(header, config),
        };
        #[expect(clippy::expect_used, reason = "none of these types has a failing Encode")]
        encoded.expect("plain data always encodes")
    }

    /// Decodes a header of `kind`; `None` when the bytes are not one.
    pub(crate) fn decode(kind: super::format::Kind, bytes: &[u8]) -> Option<Self> {
        use super::format::Kind;
        Some(match kind {
            Kind::Batch => Self::Batch(decode(bytes)?),
            Kind::Progress => Self::Progress(decode(bytes)?),
            Kind::Snapshot => Self::Snapshot(decode(bytes)?),
            Kind::Journal => Self::Journal(decode(bytes)?),
        })
    }
}

/// Decodes all of `bytes`; what is left over makes it invalid.
pub(crate) fn decode<T: Decode<()>>(bytes: &[u8]) -> Option<T> {
    let config = bincode::config::standard().with_limit::<{ super::format::MAX_HEADER }>();
    let (value, used) = bincode::decode_from_slice(bytes, config).ok()?;
    (used == bytes.len()).then_some(value)
}
