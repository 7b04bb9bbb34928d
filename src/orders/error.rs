//! Why an order is not carried out.

use std::io;
use std::path::PathBuf;

use crate::relay::RelayError;
use crate::relay::refetch::RefetchError;
use crate::spool::portable::PortableError;
use crate::{inspect, spool};

/// An error of [`super::obey`]. [`Self::code`] is stable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No reason, or an endless one.
    #[error(
        "an order needs a reason of at most {longest} bytes: --reason TEXT; it is kept in the spool's ledger"
    )]
    Reason {
        /// Bytes at most.
        longest: usize,
    },
    /// The selection means no batch.
    #[error(
        "no batch in the spool is meant by that; `sls-relay spool list` with the same filters shows those that are"
    )]
    Nothing,
    /// The selection means some logs of a batch and not others.
    #[error(
        "of batch {seq} only some logs are meant, and batches can only be {what} whole; choose by batch (--first, --last), source or shard, or by --received time"
    )]
    InPart {
        /// The batch.
        seq: u64,
        /// Held or dropped.
        what: &'static str,
    },
    /// The spool has no such destination.
    #[error("the spool knows no destination {name:?}; it knows {}", list(known))]
    NoDestination {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The destination is configured.
    #[error(
        "destination {name:?} is configured and gets logs; take it out of the configuration and restart the relay first"
    )]
    InUse {
        /// Its name.
        name: String,
    },
    /// Several destinations, and none was named.
    #[error("there are several destinations; name one: --to {}", known.join(" or --to "))]
    WhichDestination {
        /// What there is.
        known: Vec<String>,
    },
    /// Nothing that the destination has already is meant.
    #[error(
        "nothing that {name:?} has already is meant and still in the spool; what it does not have yet comes by itself, and `spool.retain` says how long delivered logs stay"
    )]
    NothingDelivered {
        /// Its name.
        name: String,
    },
    /// The replay cannot go on.
    #[error("the replay ended early")]
    Replay(#[source] io::Error),
    /// A copy that is no single log.
    #[error(
        "{name:?} is a copy of what could not be read, which cannot be sent; what SLS still has of it is pulled again by `sls-relay spool repair --refetch --reason TEXT`, and `sls-relay spool quarantine show {name} --raw` prints its bytes"
    )]
    NotALog {
        /// Its name.
        name: String,
    },
    /// There is nothing to send.
    #[error(
        "the quarantine holds no single log; `sls-relay spool quarantine list` shows what it holds"
    )]
    NoLogs,
    /// The line about a log is missing.
    #[error(
        "the spool's ledger does not tell where the log {name:?} came from and who was to get it, so it cannot be sent; `sls-relay spool quarantine show {name}` prints it"
    )]
    Untold {
        /// Its name.
        name: String,
    },
    /// The destination of a log is not configured any more.
    #[error(
        "a log in the quarantine was for {name:?}, which is not configured any more; send it to another: --to {}",
        known.join(" or --to ")
    )]
    DestinationGone {
        /// Its name.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// Logs of the quarantine are being sent already.
    #[error("logs of the quarantine are being sent already; wait until that has ended")]
    Retrying,
    /// A refetch runs already.
    #[error("a refetch runs already; wait until it has ended")]
    Refetching,
    /// An import runs already.
    #[error("an import runs already; wait until it has ended, then give the order again")]
    Importing,
    /// The configuration has no source with the name that the spool has.
    #[error(
        "the configuration has no source {name:?}; it has {}. Configure it again to pull its logs",
        list(known)
    )]
    NoSource {
        /// As the spool names it.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// There is no client for a source.
    #[error("SLS cannot be asked")]
    Client(#[source] Box<RelayError>),
    /// A lost range cannot be pulled again now.
    #[error(transparent)]
    Refetch(Box<RefetchError>),
    /// What was done cannot be told.
    #[error("the order ended early: nobody takes what it tells")]
    Told(#[source] io::Error),
    /// A file that depends on where somebody stands.
    #[error("{} is no absolute path", path.display())]
    Relative {
        /// The file.
        path: PathBuf,
    },
    /// Who obeys may not read the file.
    #[error(
        "user {uid}, as whom the spool is written, may not read {}; let that user read it, or copy it to where that user can", path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The user.
        uid: u32,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no whole export, or does not fit.
    #[error(transparent)]
    Portable(#[from] PortableError),
    /// The spool refuses.
    #[error(transparent)]
    Spool(#[from] spool::Error),
    /// The batches cannot be looked up.
    #[error(transparent)]
    Inspect(#[from] inspect::Error),
}

impl Error {
    /// Stable name of the kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Reason { .. } => "order.reason",
            Self::Nothing => "order.nothing",
            Self::InPart { .. } => "order.in_part",
            Self::NoDestination { .. } => "order.no_destination",
            Self::InUse { .. } => "order.in_use",
            Self::WhichDestination { .. } => "order.which_destination",
            Self::NothingDelivered { .. } => "order.nothing_delivered",
            Self::Replay(_) => "order.replay",
            Self::NotALog { .. } => "order.not_a_log",
            Self::NoLogs => "order.no_logs",
            Self::Untold { .. } => "order.untold_log",
            Self::DestinationGone { .. } => "order.destination_gone",
            Self::Retrying => "order.retrying",
            Self::Refetching => "order.refetching",
            Self::Importing => "order.importing",
            Self::NoSource { .. } => "order.no_source",
            Self::Client(_) => "order.client",
            Self::Refetch(error) => error.code(),
            Self::Told(_) => "order.untold",
            Self::Relative { .. } => "order.relative_path",
            Self::Unreadable { .. } => "order.unreadable",
            Self::Portable(error) => error.code(),
            Self::Spool(error) => error.code(),
            Self::Inspect(error) => error.code(),
        }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
