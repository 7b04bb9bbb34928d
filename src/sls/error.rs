//! What can go wrong between the relay and SLS, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::credentials::CredentialError;
use super::refusal::Refusal;

/// A failure of the SLS leaf.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file with a part of the credentials cannot be read.
    #[error("cannot read the {part} from {}: check the path and its permissions", path.display())]
    CredentialFile {
        /// Which part of the credentials.
        part: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A part of the credentials cannot be what it should be.
    #[error("the {part}{} {problem}: put the value from the RAM console there", in_file(path))]
    CredentialInvalid {
        /// Which part of the credentials.
        part: &'static str,
        /// The file it came from, if any.
        path: Option<PathBuf>,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No access key could be had from Alibaba Cloud's ways to give one.
    #[error(transparent)]
    Credentials(Arc<CredentialError>),
    /// A name that cannot go into a request.
    #[error("the {what} {name:?} {problem}")]
    Name {
        /// What is named.
        what: &'static str,
        /// The name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Signature version 4 was asked for, and nothing says which region to sign for.
    #[error(
        "version 4 signatures need the region and the endpoint does not show it: set the region, or sign with version 1"
    )]
    NoRegion,
    /// This machine has no certificates to check the one of SLS against.
    #[error(
        "no root certificates found on this machine: install ca-certificates, or name a file in SSL_CERT_FILE"
    )]
    NoRoots,
    /// The file of certificates to believe cannot be read.
    #[error("cannot read the certificates in {}: check the path, its permissions, and that it is PEM", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file of certificates to believe holds none.
    #[error("{} holds no certificate: put the one that signed the certificate of SLS there, as PEM", path.display())]
    CaFileEmpty {
        /// The file.
        path: PathBuf,
    },
    /// The HTTP client cannot be set up.
    #[error("cannot set up the HTTPS client: this is a defect, please report it")]
    Setup {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer, or only a part of one: name resolution, connection, TLS, a reset.
    #[error("{call}: {failure}, check network, endpoint and certificates if this goes on")]
    Transport {
        /// What was asked.
        call: Context,
        /// How far it came.
        failure: &'static str,
        /// Why.
        source: reqwest::Error,
    },
    /// No complete answer in time.
    #[error("{call}: no complete answer within {} ms, it is tried again", after.as_millis())]
    Timeout {
        /// What was asked.
        call: Context,
        /// The time it was given.
        after: Duration,
    },
    /// SLS, or something in front of it, answered with an error.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// An answer larger than its cap; it was not read to the end.
    #[error(
        "{call}: the answer of {size} bytes is over the cap of {cap}, ask for fewer log groups (request {request_id})"
    )]
    TooLarge {
        /// What was asked.
        call: Context,
        /// Bytes announced or received so far.
        size: u64,
        /// Bytes allowed.
        cap: u64,
        /// `x-log-requestid`.
        request_id: String,
    },
    /// A successful answer that makes no sense.
    #[error(
        "{call}: {problem} (request {request_id}), is this endpoint SLS, with nothing in between"
    )]
    Malformed {
        /// What was asked.
        call: Context,
        /// What is missing or wrong.
        problem: &'static str,
        /// `x-log-requestid`; empty when the answer had none.
        request_id: String,
    },
}

/// Which call failed, and on what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The name of the operation in the SLS API reference.
    pub operation: &'static str,
    /// `project`, `project/logstore` or `project/logstore/shard`.
    pub target: String,
}

impl Context {
    /// The RAM action that permits the call, such as `log:GetCursorOrData`.
    pub fn ram_action(&self) -> &'static str {
        match self.operation {
            "GetProject" => "log:GetProject",
            "GetLogStore" => "log:GetLogStore",
            "ListShards" => "log:ListShards",
            "CreateConsumerGroup" => "log:CreateConsumerGroup",
            "ListConsumerGroup" => "log:ListConsumerGroup",
            "UpdateConsumerGroup" => "log:UpdateConsumerGroup",
            "HeartBeat" => "log:ConsumerGroupHeartBeat",
            "GetCheckPoint" => "log:GetConsumerGroupCheckPoint",
            "UpdateCheckPoint" => "log:ConsumerGroupUpdateCheckPoint",
            // GetCursor, GetCursorTime and PullLogs share one.
            _ => "log:GetCursorOrData",
        }
    }
}

impl fmt::Display for Context {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.operation, self.target)
    }
}

/// What the caller should do about an [`Error`].
///
/// The durations are the least to wait; who waits again and again backs off further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Try the same again.
    Retry {
        /// Wait at least this long.
        after: Duration,
    },
    /// The key was refused; the client has already tried a newer one if there was any.
    /// Try again slowly, and loudly.
    RefreshCredentials,
    /// The clock of this machine is off by more than SLS accepts, and the correction
    /// that the client has already tried did not help.
    FixClock,
    /// The group does not know this consumer any more: no shard is held. Make the group
    /// if it is gone, and join again.
    Rejoin,
    /// Quota used up: the same request works later.
    Throttled {
        /// Wait at least this long.
        after: Duration,
    },
    /// This consumer does not hold the shard: give it up.
    NotOwner,
    /// The cursor is expired, or of another shard or logstore.
    InvalidCursor,
    /// Only a person can change it. Try again slowly, and loudly.
    Operator,
}

/// The least wait before a failed call is made again.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Error {
    /// The stable code used in logs, metrics and documents.
    pub fn code(&self) -> &'static str {
        match self {
            Self::CredentialFile { .. } => "sls.credential_file",
            Self::CredentialInvalid { .. } => "sls.credential_invalid",
            Self::Credentials(error) => error.code(),
            Self::Name { .. } => "sls.name_invalid",
            Self::NoRegion => "sls.no_region",
            Self::NoRoots => "sls.no_root_certificates",
            Self::CaFile { .. } => "sls.ca_file",
            Self::CaFileEmpty { .. } => "sls.ca_file_empty",
            Self::Setup { .. } => "sls.setup",
            Self::Transport { .. } => "sls.transport",
            Self::Timeout { .. } => "sls.timeout",
            Self::Refused(refusal) => refusal.code(),
            Self::TooLarge { .. } => "sls.answer_too_large",
            Self::Malformed { .. } => "sls.answer_malformed",
        }
    }

    /// What to do about it.
    pub fn advice(&self) -> Advice {
        match self {
            Self::Refused(refusal) => refusal.advice(),
            Self::Credentials(error) => error.advice(),
            Self::Transport { .. }
            | Self::Timeout { .. }
            | Self::TooLarge { .. }
            | Self::Malformed { .. } => Advice::Retry { after: RETRY_AFTER },
            Self::CredentialFile { .. }
            | Self::CredentialInvalid { .. }
            | Self::Name { .. }
            | Self::NoRegion
            | Self::NoRoots
            | Self::CaFile { .. }
            | Self::CaFileEmpty { .. }
            | Self::Setup { .. } => Advice::Operator,
        }
    }

    /// How long the server asked to be left alone (`Retry-After`); five minutes at most.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after(),
            _ => None,
        }
    }

    /// Which call failed; none when it came to no call.
    pub fn call(&self) -> Option<&Context> {
        match self {
            Self::Refused(refusal) => Some(&refusal.call),
            Self::Transport { call, .. }
            | Self::Timeout { call, .. }
            | Self::TooLarge { call, .. }
            | Self::Malformed { call, .. } => Some(call),
            _ => None,
        }
    }

    /// The RAM action that permits the call. It is missing where the code is
    /// `sls.forbidden`.
    pub fn ram_action(&self) -> Option<&'static str> {
        self.call().map(Context::ram_action)
    }

    /// `x-log-requestid` of the answer, to quote to Alibaba Cloud's support.
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(&refusal.request_id),
            Self::TooLarge { request_id, .. } | Self::Malformed { request_id, .. } => {
                Some(request_id)
            }
            _ => None,
        }
        .map(String::as_str)
        .filter(|id| !id.is_empty())
    }
}

/// Why the body of a PullLogs answer cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The compressed bytes are damaged.
    #[error("the compressed body is damaged: pull it again, and keep the bytes if it stays so")]
    Compressed {
        /// What the decoder found.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The zstd frame's own checksum disagrees.
    #[error("the checksum of the compressed body does not match: pull it again")]
    Checksum,
    /// The size is not the one announced.
    #[error("the body comes out at {actual} bytes where x-log-bodyrawsize says {expected}")]
    RawSize {
        /// `x-log-bodyrawsize`.
        expected: u64,
        /// What there is, or could be at most.
        actual: u64,
    },
    /// The bytes are not protobuf.
    #[error("byte {at} of the decompressed body: {problem}")]
    Protobuf {
        /// Position in the decompressed body.
        at: usize,
        /// What is wrong there.
        problem: &'static str,
    },
    /// A required field is absent.
    #[error("byte {at} of the decompressed body: the {field} is missing")]
    Missing {
        /// Where the message ends in the decompressed body.
        at: usize,
        /// The field.
        field: &'static str,
    },
}

impl DecodeError {
    /// The stable code used in logs, metrics and documents.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Compressed { .. } => "sls.body_damaged",
            Self::Checksum => "sls.body_checksum",
            Self::RawSize { .. } => "sls.body_size",
            Self::Protobuf { .. } => "sls.body_not_protobuf",
            Self::Missing { .. } => "sls.body_incomplete",
        }
    }
}

fn in_file(path: &Option<PathBuf>) -> String {
    path.as_ref().map(|path| format!(" in {}", path.display())).unwrap_or_default()
}
