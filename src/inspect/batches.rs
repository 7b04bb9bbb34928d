//! `List`, `Show`, `Cat` and `Grep`: batches and logs, a line each.

use serde_json::{Value, json};

use super::error::Error;
use super::filter::Verdict;
use super::logs;
use super::pass::{Scope, pass};
use super::{Output, send, send_bytes, time};
use crate::spool::Seq;
use crate::spool::inspect::{Inspection, Met, Stored};

/// Batches that hold a log that is meant.
pub(super) fn list(
    spool: &Inspection,
    scope: &Scope<'_>,
    limit: Option<u64>,
    out: &mut dyn Output,
) -> Result<Value, Error> {
    let (mut listed, mut more) = (0, false);
    let tally = pass(spool, scope, out, &mut |batch, tally, out| {
        let mut meant = matches!(batch.verdict, Verdict::All | Verdict::Some);
        if !meant {
            batch.logs(tally, out, &mut |_, _| {
                meant = true;
                Ok(false)
            })?;
        }
        if meant && limit == Some(listed) {
            more = true;
            return Ok(false);
        }
        if meant {
            send(out, &describe(batch.stored))?;
            listed += 1;
        }
        Ok(true)
    })?;
    Ok(
        json!({ "batches": listed, "more": more, "damage": tally.damage, "undecodable": tally.undecodable }),
    )
}

/// Logs that are meant; `quiet` ones are only counted.
pub(super) fn cat(
    spool: &Inspection,
    scope: &Scope<'_>,
    limit: Option<u64>,
    quiet: bool,
    out: &mut dyn Output,
) -> Result<Value, Error> {
    let (mut found, mut more) = (0, false);
    let tally = pass(spool, scope, out, &mut |batch, tally, out| {
        batch.logs(tally, out, &mut |log, out| {
            if limit == Some(found) {
                more = true;
                return Ok(false);
            }
            found += 1;
            if !quiet {
                send(out, &log.to_json())?;
            }
            Ok(true)
        })
    })?;
    Ok(
        json!({ "logs": found, "more": more, "damage": tally.damage, "undecodable": tally.undecodable }),
    )
}

/// One batch and its logs, or its body.
pub(super) fn show(
    spool: &Inspection,
    seq: Seq,
    limit: Option<u64>,
    raw: bool,
    out: &mut dyn Output,
) -> Result<Value, Error> {
    let stored = match spool.batch(seq)? {
        Some(Met::Batch(stored)) => stored,
        Some(Met::Damage(damage)) => return Err(Error::Damaged { seq, damage }),
        None => return Err(Error::NoBatch { seq }),
    };
    let body = stored.body()?.map_err(|damage| Error::Damaged { seq, damage })?;
    if raw {
        send_bytes(out, &body)?;
        return Ok(json!({ "bytes": body.len() }));
    }
    let mut decoded = Vec::new();
    send(out, &describe(&stored))?;
    logs::decode(&stored.header, &body, &mut decoded)
        .map_err(|why| Error::Undecodable { seq, why })?;
    let mut shown = 0;
    logs::each(&stored.header, &decoded, |log| {
        if limit == Some(shown) {
            return Ok(false);
        }
        shown += 1;
        send(out, &log.to_json()).map(|()| true)
    })?;
    Ok(json!({ "logs": shown, "left": u64::from(stored.header.logs).saturating_sub(shown) }))
}

/// A batch as it travels.
fn describe(batch: &Stored) -> Value {
    let header = &batch.header;
    let mut described = json!({
        "seq": header.seq, "source": header.key.source, "shard": header.key.shard,
        "cursor": header.cursor, "next_cursor": header.next_cursor,
        "groups": header.groups, "logs": header.logs, "stored_bytes": batch.stored_bytes(),
        "raw_bytes": header.raw_size, "compression": format!("{:?}", header.compression).to_lowercase(),
        "received": time(header.received_at),
        "oldest_log": time(i64::from(header.min_time) * 1000),
        "newest_log": time(i64::from(header.max_time) * 1000),
    });
    if header.key_id != 0 {
        described["key"] = format!("{:016x}", header.key_id).into();
    }
    described
}
