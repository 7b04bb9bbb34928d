//! `Stats`: how many logs, in how many bytes, from when to when.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::error::Error;
use super::filter::Verdict;
use super::octets::Octets;
use super::pass::{Scope, pass};
use super::question::{By, Clock};
use super::{Output, send, time};
use crate::spool::BatchHeader;
use crate::spool::inspect::Inspection;

/// Rows at most. The logs of all further ones are counted in one row without a name.
const ROWS: usize = 10_000;

/// What a row is about.
#[derive(Clone, Eq, Ord, PartialEq, PartialOrd)]
enum Key {
    Source(String),
    Shard(String, u32),
    Topic(Vec<u8>),
    /// Hours since the epoch.
    Hour(i64),
    Other,
}

/// What is counted. Bytes are those of the batches that hold such logs, whole.
struct Row {
    batches: u64,
    logs: u64,
    stored_bytes: u64,
    raw_bytes: u64,
    oldest: u32,
    newest: u32,
}

pub(super) fn stats(
    spool: &Inspection,
    scope: &Scope<'_>,
    by: By,
    out: &mut dyn Output,
) -> Result<Value, Error> {
    let mut rows: BTreeMap<Key, Row> = BTreeMap::new();
    let receive = scope.selection.by == Clock::Receive;
    let tally = pass(spool, scope, out, &mut |batch, tally, out| {
        let header = &batch.stored.header;
        let mut found: BTreeMap<Key, (u64, u32, u32)> = BTreeMap::new();
        match by_header(header, by, receive).filter(|_| batch.verdict == Verdict::All) {
            Some(key) => {
                let logs = u64::from(header.logs);
                found.insert(key, (logs, header.min_time, header.max_time));
            }
            None => {
                batch.logs(tally, out, &mut |log, _| {
                    let key = match by {
                        By::Topic => Key::Topic(log.topic.to_vec()),
                        By::Hour if !receive => Key::Hour(i64::from(log.time() / 3600)),
                        _ => by_header(header, by, receive).unwrap_or(Key::Other),
                    };
                    let (logs, oldest, newest) = found.entry(key).or_insert((0, u32::MAX, 0));
                    *logs += 1;
                    *oldest = (*oldest).min(log.time());
                    *newest = (*newest).max(log.time());
                    Ok(true)
                })?;
            }
        }
        for (key, (logs, oldest, newest)) in found {
            let known = rows.len() < ROWS || rows.contains_key(&key);
            let row = rows.entry(if known { key } else { Key::Other }).or_insert_with(Row::new);
            row.batches += 1;
            row.logs += logs;
            row.stored_bytes += batch.stored.stored_bytes();
            row.raw_bytes += header.raw_size;
            row.oldest = row.oldest.min(oldest);
            row.newest = row.newest.max(newest);
        }
        Ok(true)
    })?;
    for (key, row) in &rows {
        send(out, &row.to_json(key))?;
    }
    let logs: u64 = rows.values().map(|row| row.logs).sum();
    Ok(
        json!({ "rows": rows.len(), "logs": logs, "damage": tally.damage, "undecodable": tally.undecodable }),
    )
}

/// The row of all logs of a batch, where its header tells.
fn by_header(header: &BatchHeader, by: By, receive: bool) -> Option<Key> {
    let (oldest, newest) = (header.min_time / 3600, header.max_time / 3600);
    match by {
        By::Source => Some(Key::Source(header.key.source.clone())),
        By::Shard => Some(Key::Shard(header.key.source.clone(), header.key.shard)),
        By::Topic => None,
        By::Hour if receive => Some(Key::Hour(header.received_at.div_euclid(3_600_000))),
        By::Hour => (oldest == newest).then_some(Key::Hour(i64::from(oldest))),
    }
}

impl Row {
    fn new() -> Self {
        Self { batches: 0, logs: 0, stored_bytes: 0, raw_bytes: 0, oldest: u32::MAX, newest: 0 }
    }

    fn to_json(&self, key: &Key) -> Value {
        let mut row = json!({
            "batches": self.batches, "logs": self.logs, "stored_bytes": self.stored_bytes,
            "raw_bytes": self.raw_bytes, "oldest_log": time(i64::from(self.oldest) * 1000),
            "newest_log": time(i64::from(self.newest) * 1000),
        });
        match key {
            Key::Source(source) => row["source"] = json!(source),
            Key::Shard(source, shard) => {
                row["source"] = json!(source);
                row["shard"] = json!(shard);
            }
            Key::Topic(topic) => row["topic"] = Octets::to_json(topic),
            Key::Hour(hour) => row["hour"] = json!(time(hour.saturating_mul(3_600_000))),
            Key::Other => row["other"] = json!(true),
        }
        row
    }
}
