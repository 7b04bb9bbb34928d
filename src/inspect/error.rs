//! Why a question has no answer.

use std::io;

use crate::spool::{self, Damage, Seq};

/// An error of [`super::answer`]. [`Self::code`] is stable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The spool cannot be read.
    #[error(transparent)]
    Spool(#[from] spool::Error),
    /// Nobody takes the answer any more.
    #[error("cannot pass the answer on")]
    Output(#[source] io::Error),
    /// There is no such batch.
    #[error("the spool holds no batch {seq}; `sls-relay spool list` shows those it holds")]
    NoBatch {
        /// The batch that was asked for.
        seq: Seq,
    },
    /// The batch does not check any more.
    #[error(
        "batch {seq} lies in damaged bytes: {} to {} of segment {:016x}; `sls-relay spool verify` names all damage", damage.from, damage.to, damage.segment
    )]
    Damaged {
        /// The batch that was asked for.
        seq: Seq,
        /// Where.
        damage: Damage,
    },
    /// The body of the batch is not what SLS says it sends.
    #[error("batch {seq} cannot be decoded: {why}; `--raw` gives its body")]
    Undecodable {
        /// The batch that was asked for.
        seq: Seq,
        /// Why not.
        why: String,
    },
    /// There is no such copy.
    #[error(
        "the quarantine holds no {name:?}; `sls-relay spool quarantine list` shows what it holds"
    )]
    NoCopy {
        /// The name that was asked for.
        name: String,
    },
    /// A file of the quarantine cannot be read.
    #[error("cannot read {name:?} in the quarantine")]
    Copy {
        /// Its name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// Stable name of the kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Spool(error) => error.code(),
            Self::Output(_) => "inspect.output",
            Self::NoBatch { .. } => "inspect.no_batch",
            Self::Damaged { .. } => "inspect.damaged",
            Self::Undecodable { .. } => "inspect.undecodable",
            Self::NoCopy { .. } => "inspect.no_copy",
            Self::Copy { .. } => "inspect.copy",
        }
    }
}
