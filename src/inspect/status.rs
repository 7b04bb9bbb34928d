//! `Status`: what waits, for whom, and how much disk it takes.

use serde_json::{Map, Value, json};

use super::error::Error;
use super::ledger::of_logs;
use super::pass::describe;
use super::{Output, send, time};
use crate::spool::inspect::{Inspection, Met};
use crate::spool::{BatchHeader, Lock, Seq, Span, State};

pub(super) fn status(spool: &Inspection, out: &mut dyn Output) -> Result<Value, Error> {
    let state = spool.state();
    let now = jiff::Timestamp::now().as_second().unsigned_abs();
    let oldest = state.oldest_needed();
    let waiting = first_batch(spool, oldest)?;
    let age = waiting.as_ref().map(|h| now.saturating_sub(h.received_at.unsigned_abs() / 1000));
    let gaps = of_logs(spool.ledger()?);
    let told = |what: &str| gaps.iter().filter(|line| line["what"] == what).count();
    let damage: Vec<Value> = spool.damage.iter().map(describe).collect();
    let held = state.segments.values().map(|info| info.first_seq).next();
    let mut status = json!({
        "dir": spool.dir(), "held_by": Lock::holder(spool.dir()), "live": spool.is_live(),
        "used_bytes": spool.used_bytes, "max_bytes": spool.max_bytes,
        "segment_bytes": bytes(spool), "segments": state.segments.len(),
        "first_seq": held, "next_seq": state.next_seq,
        "batches_waiting": state.next_seq.saturating_sub(oldest), "logs_ever": state.next_log,
        "oldest_log": times(&state).map(|(oldest, _)| second(oldest)),
        "newest_log": times(&state).map(|(_, newest)| second(newest)),
        "oldest_waiting_received": waiting.as_ref().map(|header| time(header.received_at)),
        "oldest_age_seconds": age, "unfinished_bytes": spool.unfinished_bytes,
        "damaged_ranges": spool.damage.len(), "damage": damage,
        "quarantined": spool.quarantine()?.len(), "gaps": told("gap"),
        "holds": state.holds.iter().map(spans).collect::<Vec<_>>(),
        "drops": state.drops.iter().map(|dropped| spans(dropped.span)).collect::<Vec<_>>(),
        "damage_noted": told("damage"), "last_error": spool.last_error,
        "destinations": destinations(&state), "shards": shards(&state),
    });
    if !spool.is_live()
        && let Some(fields) = status.as_object_mut()
    {
        // Only the process that holds the spool knows them.
        fields.remove("max_bytes");
        fields.remove("last_error");
    }
    send(out, &status)?;
    Ok(json!({}))
}

/// First and last batch.
fn spans(span: Span) -> [Seq; 2] {
    [span.first, span.end - 1]
}

/// Bytes of all segments.
pub(super) fn bytes(spool: &Inspection) -> u64 {
    spool.segments().map(|(_, info)| info.length).sum()
}

fn destinations(state: &State) -> Map<String, Value> {
    let each = state.destinations.iter().map(|(name, delivered)| {
        let logs = state.next_log.saturating_sub(delivered.log);
        let batches = state.next_seq.saturating_sub(delivered.position.seq);
        let (seq, index) = (delivered.position.seq, delivered.position.index);
        (
            name.clone(),
            json!({ "seq": seq, "index": index, "batches_waiting": batches, "logs_waiting": logs }),
        )
    });
    each.collect()
}

fn shards(state: &State) -> Vec<Value> {
    let each = state.shards.iter().map(|(key, shard)| {
        json!({ "source": key.source, "shard": key.shard, "position": shard.position, "committed": shard.committed })
    });
    each.collect()
}

/// Smallest and largest log time, s since the epoch.
fn times(state: &State) -> Option<(u32, u32)> {
    let held = state.segments.values().filter(|info| info.min_time <= info.max_time);
    held.map(|info| (info.min_time, info.max_time))
        .reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))
}

fn second(seconds: u32) -> String {
    time(i64::from(seconds) * 1000)
}

fn first_batch(spool: &Inspection, from: Seq) -> Result<Option<BatchHeader>, Error> {
    for met in spool.headers(from, Seq::MAX, |_| true) {
        if let Met::Batch(stored) = met? {
            return Ok(Some(stored.header));
        }
    }
    Ok(None)
}
