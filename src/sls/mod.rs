//! A consumer-group client for Simple Log Service.
//!
//! This leaf speaks the SLS HTTP API: signing, cursors, pulling log groups, and the
//! consumer group's heartbeats and checkpoints. It stores nothing and knows nothing
//! of syslog.

pub mod body;
mod budget;
mod client;
mod clock;
pub mod credentials;
pub mod cursor;
pub mod endpoint;
pub mod error;
pub mod fuzz;
pub mod membership;
pub mod network;
mod operations;
mod pull;
pub mod refusal;
mod request;
pub mod sign;
pub mod walk;
pub mod wire;

pub use body::Compression;
pub use budget::{PullBudget, Room};
pub use client::{Client, ClientConfig, DEFAULT_MAX_RAW_BYTES, SignVersion};
pub use credentials::{
    ChainSettings, CredentialError, CredentialSource, Credentials, CredentialsStatus, Provider,
};
pub use cursor::Cursor;
pub use endpoint::{Endpoint, EndpointError};
pub use error::{Advice, DecodeError, Error};
pub use membership::{Action, Membership, MembershipConfig};
pub use network::{Network, Proxy, Route};
pub use operations::{
    CheckpointState, ConsumerGroup, CursorFrom, GroupCreation, Logstore, Project, ShardInfo,
};
pub use pull::{Filter, Filtered, PullAnswer, PullRequest};
pub use refusal::Refusal;
