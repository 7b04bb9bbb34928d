//! `Gaps` and the quarantine: what the spool's ledger and the copies beside it tell.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::error::Error;
use super::{Output, send, send_bytes};
use crate::spool::inspect::Inspection;

/// What of the ledger is about logs.
const ABOUT_LOGS: [&str; 8] = [
    "gap",
    "unreadable answer",
    "unreadable batch",
    "damage",
    "unformattable",
    "refetch gone",
    "dropped",
    "gave way",
];

/// What makes two lines tell the same: one is written before what it tells is durable, and
/// once more after a crash in between.
const SAME: [&str; 9] =
    ["what", "source", "shard", "cursor", "segment", "from", "destination", "index", "first_seq"];

/// The lines about logs, each once.
pub(super) fn gaps(spool: &Inspection, out: &mut dyn Output) -> Result<Value, Error> {
    let lines = of_logs(spool.ledger()?);
    for line in &lines {
        send(out, line)?;
    }
    Ok(json!({ "gaps": lines.len() }))
}

/// The copies in the quarantine, each with the line of the ledger that tells of it.
pub(super) fn list(spool: &Inspection, out: &mut dyn Output) -> Result<Value, Error> {
    let ledger = spool.ledger()?;
    let copies = spool.quarantine()?;
    for (name, bytes) in &copies {
        send(out, &describe(name, *bytes, &ledger))?;
    }
    Ok(json!({ "copies": copies.len() }))
}

/// One copy.
pub(super) fn show(
    spool: &Inspection,
    name: &str,
    raw: bool,
    out: &mut dyn Output,
) -> Result<Value, Error> {
    // Only what was listed is opened, so no name leads out of the directory.
    let copies = spool.quarantine()?;
    let Some((_, bytes)) = copies.into_iter().find(|(known, _)| known == name) else {
        return Err(Error::NoCopy { name: name.to_owned() });
    };
    if !raw {
        send(out, &describe(name, bytes, &spool.ledger()?))?;
        return Ok(json!({ "bytes": bytes }));
    }
    if let Some(content) = spool.decrypted(name)? {
        send_bytes(out, &content)?;
        return Ok(json!({ "bytes": content.len() }));
    }
    let file = spool.quarantined(name)?;
    let mut chunk = vec![0; 256 << 10];
    let mut at = 0;
    while out.is_wanted() {
        let read = file.read_at(&mut chunk, at);
        let read = read.map_err(|source| Error::Copy { name: name.to_owned(), source })?;
        if read == 0 {
            break;
        }
        send_bytes(out, &chunk[..read])?;
        at += read as u64;
    }
    Ok(json!({ "bytes": at }))
}

fn describe(name: &str, bytes: u64, ledger: &[Value]) -> Value {
    let copy = format!("quarantine/{name}");
    let told = ledger.iter().rev().find(|line| line["copy"] == copy);
    json!({ "name": name, "bytes": bytes, "told": told })
}

/// The lines about logs, each once.
pub(super) fn of_logs(lines: Vec<Value>) -> Vec<Value> {
    let mut seen = HashSet::new();
    let about_logs =
        |line: &Value| line["what"].as_str().is_some_and(|what| ABOUT_LOGS.contains(&what));
    let first = |line: &Value| seen.insert(SAME.map(|name| line[name].to_string()));
    lines.into_iter().filter(about_logs).filter(first).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_that_was_written_twice_is_shown_once_and_other_lines_not_at_all() {
        let gap = |shard: u32, at: &str| json!({"what": "gap", "source": "s", "shard": shard, "cursor": "c", "at": at});
        let other = json!({"what": "forget destination", "destination": "d"});
        let damage = |from: u64| json!({"what": "damage", "segment": 1, "from": from});
        let gave_way =
            |first: u64| json!({"what": "gave way", "destination": "d", "first_seq": first});
        let lines = vec![
            gap(0, "first"),
            other,
            gap(0, "second"),
            gap(1, "first"),
            damage(8),
            damage(9),
            gave_way(0),
            gave_way(4),
            gave_way(4),
            json!({}),
        ];
        let left = of_logs(lines);
        let told = [gap(0, "first"), gap(1, "first"), damage(8), damage(9)];
        assert_eq!(left[..4], told);
        assert_eq!(left[4..], [gave_way(0), gave_way(4)], "each loss of one destination");
    }
}
