//! An SLS service on loopback, good enough for the official SDKs to consume from.

mod group;
mod shard;
mod store;

pub use group::{Checkpoint, Commit, Group, GroupError, ShardFacts, ShardState};
pub use shard::{Shard, cursor_number, cursor_text};
pub use store::{Generator, Make, Store, StoreError};
