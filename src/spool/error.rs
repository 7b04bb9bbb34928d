//! What can go wrong in the spool, and what the caller should do about it.

use std::io;
use std::path::PathBuf;

/// An error of the spool. [`Self::code`] is stable and used in logs, metrics and docs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The quota or the free-space limit is reached. Nothing was stored; try again when the
    /// destinations have taken some.
    #[error(
        "the spool is full: {needed} bytes more would pass its limit ({detail}); pulling waits until destinations have taken some logs, or raise spool.max_bytes"
    )]
    Full {
        /// Bytes that were asked for.
        needed: u64,
        /// Which limit, in words.
        detail: String,
    },
    /// The batch does not continue its shard. A batch before it failed, or the shard was
    /// given up. Pull again from the spool's position.
    #[error(
        "batch at cursor {cursor} of {shard} does not continue the spool's position {position}"
    )]
    NotContinuous {
        /// Shard, in words.
        shard: String,
        /// Cursor of the refused batch.
        cursor: String,
        /// Where the shard stands.
        position: String,
    },
    /// The shard was given up, or taken again, since this tenure began.
    #[error("the tenure of {shard} has ended")]
    TenureEnded {
        /// Shard, in words.
        shard: String,
    },
    /// The batch, or a cursor, is larger than the format allows.
    #[error(
        "a batch, or what is kept with it, of {size} bytes is larger than an entry may be ({limit} bytes)"
    )]
    TooLarge {
        /// Size of the body, or of the header: its cursors.
        size: usize,
        /// The largest.
        limit: usize,
    },
    /// A read, write or sync failed. The batch was not stored; the spool goes on in a new
    /// segment once the disk answers again.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file, relative to the spool directory or absolute.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process owns the spool.
    #[error(
        "the spool {dir} is in use by {holder}; stop that process, or give this one a spool directory of its own"
    )]
    InUse {
        /// Spool directory.
        dir: PathBuf,
        /// Who holds the lock, as it wrote into the lock file.
        holder: String,
    },
    /// The spool was written by a newer version of this program.
    #[error(
        "{path} was written in a format this version does not know; use the version that wrote it or a newer one"
    )]
    NewerFormat {
        /// File.
        path: PathBuf,
    },
    /// The quota is too small to work with.
    #[error("spool.max_bytes is {given} bytes; at least {minimum} are needed")]
    QuotaTooSmall {
        /// What was configured.
        given: u64,
        /// What is needed.
        minimum: u64,
    },
    /// A batch cannot be held or dropped any more.
    #[error("batch {seq} {why}")]
    OutOfReach {
        /// The batch.
        seq: u64,
        /// Why, and what to do.
        why: &'static str,
    },
    /// The key that something is encrypted with is not here. Nothing is passed over: it can be
    /// read once the key is there again.
    #[error(
        "{what} is encrypted with key {key_id:016x}, which is not among the keys given; add it as a further line to the key file (spool.encrypt_key_file or the systemd credential sls_spool-key, --key-file for a command) and start again"
    )]
    KeyMissing {
        /// First 8 bytes of the SHA-256 of the key, as a number in little-endian order.
        key_id: u64,
        /// What it is, in words.
        what: String,
    },
    /// A file was changed or renamed since it was encrypted.
    #[error(
        "{what} is not what was encrypted under this name; give it the name it had in quarantine/, or fetch it again"
    )]
    Sealed {
        /// The file.
        what: String,
    },
    /// No more single logs are taken into the quarantine.
    #[error(
        "the quarantine holds {used} bytes of single logs and may hold {most}, an eighth of spool.max_bytes; delivery to the destination that refuses them waits. Look at them with `sls-relay spool quarantine list`, then send them again (`retry`) or let go of them (`drop`)"
    )]
    QuarantineFull {
        /// Bytes that single logs take.
        used: u64,
        /// Bytes that they may take.
        most: u64,
    },
    /// The spool is being closed.
    #[error("the spool is closed")]
    Closed,
}

impl Error {
    /// Stable name of the kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Full { .. } => "spool.full",
            Self::NotContinuous { .. } => "spool.not_continuous",
            Self::TenureEnded { .. } => "spool.tenure_ended",
            Self::TooLarge { .. } => "spool.too_large",
            Self::Io { .. } => "spool.io",
            Self::InUse { .. } => "spool.in_use",
            Self::NewerFormat { .. } => "spool.newer_format",
            Self::QuotaTooSmall { .. } => "spool.quota_too_small",
            Self::OutOfReach { .. } => "spool.out_of_reach",
            Self::KeyMissing { .. } => "spool.key_missing",
            Self::Sealed { .. } => "spool.sealed",
            Self::QuarantineFull { .. } => "spool.quarantine_full",
            Self::Closed => "spool.closed",
        }
    }

    /// The same error for another one who waits for the same group.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Io { action, path, source } => {
                let copy = match source.raw_os_error() {
                    Some(code) => io::Error::from_raw_os_error(code),
                    None => io::Error::new(source.kind(), source.to_string()),
                };
                Self::Io { action, path: path.clone(), source: copy }
            }
            Self::Full { needed, detail } => Self::Full { needed: *needed, detail: detail.clone() },
            _ => Self::Closed,
        }
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }
}
