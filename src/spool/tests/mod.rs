//! Tests of the spool: what each says is in its name.

mod behaviour;
mod damage;
mod encrypted;
mod faults;
mod golden;
mod keeping;
mod limits;
mod lives;
mod model;
mod moving;
mod operator;
mod power_loss;
mod quarantine;
mod regressions;
mod reserve;
mod room;
mod standing;

use std::path::Path;

use bytes::Bytes;

use super::{
    Batch, Compression, Error, Item, Keys, Options, Position, Reader, ShardKey, Spool, StoredBatch,
    Tenure,
};

pub(super) fn options(dir: &Path) -> Options {
    Options::new(dir, 16 << 20)
}

/// A key of 32 equal bytes.
pub(super) fn keys(bytes: &[u8]) -> Keys {
    let lines: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}").repeat(32)).collect();
    if lines.is_empty() { Keys::default() } else { Keys::parse(&lines.join("\n")).unwrap() }
}

pub(super) fn key(shard: u32) -> ShardKey {
    ShardKey { source: "https://sls.example/p/l/g".to_owned(), shard }
}

pub(super) fn cursor(number: u64) -> String {
    format!("c{number}")
}

/// A batch of one log that moves a shard from `number` to `number + 1`.
pub(super) fn batch(number: u64, body: impl Into<Bytes>) -> Batch {
    let body = body.into();
    Batch {
        cursor: cursor(number),
        next_cursor: cursor(number + 1),
        first_group_cursor: Some(number),
        groups: 1,
        logs: 1,
        query: false,
        received_at: 1_700_000_000_000,
        min_time: 1_700_000_000,
        max_time: 1_700_000_001,
        raw_size: body.len() as u64,
        compression: Compression::None,
        body,
    }
}

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

pub(super) async fn begin(spool: &Spool, shard: u32) -> Tenure {
    let start = spool.shard(&key(shard)).map_or_else(|| cursor(0), |state| state.position);
    spool.begin(key(shard), start, None).await.unwrap()
}

/// Reads everything there is; damage is an error of the test.
pub(super) fn drain(reader: &mut Reader) -> Vec<StoredBatch> {
    let mut batches = Vec::new();
    while let Some(item) = reader.read().unwrap() {
        match item {
            Item::Batch(batch) => batches.push(*batch),
            Item::Damage(damage) => panic!("damage: {damage:?}"),
        }
    }
    batches
}

pub(super) fn after(batch: &StoredBatch) -> (Position, u64) {
    let position = Position { seq: batch.header.seq + 1, index: 0 };
    (position, batch.header.first_log + u64::from(batch.header.logs))
}

pub(super) fn is_full(error: &Error) -> bool {
    matches!(error, Error::Full { .. })
}
