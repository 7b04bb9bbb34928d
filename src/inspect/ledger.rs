//! `Gaps` and the quarantine: what the spool's ledger and the copies beside it tell.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::error::Error;
use super::{Output, logs, send, send_bytes};
use crate::spool::inspect::Inspection;
use crate::spool::{QUARANTINE_SENT, QUARANTINED_LOG, is_quarantined_log};

/// What of the ledger is about logs.
const ABOUT_LOGS: [&str; 9] = [
    "gap",
    "unreadable answer",
    "unreadable batch",
    "damage",
    QUARANTINED_LOG,
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
    let told = told(&ledger);
    for (name, bytes) in &copies {
        send(out, &describe(name, *bytes, &told))?;
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
        let mut about = describe(name, bytes, &told(&spool.ledger()?));
        if is_quarantined_log(name) {
            let log = logs::only(&spool.copy_of(name)?);
            about["log"] = log.unwrap_or_else(|why| json!({ "undecodable": why }));
        }
        send(out, &about)?;
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

/// The last line about each copy, by its name.
pub fn told(ledger: &[Value]) -> HashMap<&str, &Value> {
    let named = ledger.iter().filter_map(|line| {
        let name = line["copy"].as_str()?.strip_prefix("quarantine/")?;
        Some((name, line))
    });
    named.collect()
}

fn describe(name: &str, bytes: u64, told: &HashMap<&str, &Value>) -> Value {
    json!({ "name": name, "bytes": bytes, "told": told.get(name) })
}

/// The lines about logs, each once, but for logs that were sent out of the quarantine since.
pub(super) fn of_logs(mut lines: Vec<Value>) -> Vec<Value> {
    let mut sent = HashSet::new();
    let mut missing = |line: &Value| {
        if line["what"] == QUARANTINE_SENT {
            let names = line["copies"].as_array().into_iter().flatten().filter_map(Value::as_str);
            sent.extend(names.map(|name| format!("quarantine/{name}")));
        }
        !line["copy"].as_str().is_some_and(|copy| sent.contains(copy))
    };
    // From the end: a log that was put there again after it was sent is missing.
    lines.reverse();
    lines.retain(&mut missing);
    lines.reverse();
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

    #[test]
    fn a_log_that_was_sent_out_of_the_quarantine_is_missing_only_if_it_came_back() {
        let kept = |log: u32, at: &str| json!({"what": QUARANTINED_LOG, "index": log, "copy": format!("quarantine/log-{log}"), "at": at});
        let sent = json!({"what": QUARANTINE_SENT, "copies": ["log-1", "log-2"]});
        let lines = vec![kept(1, "a"), kept(2, "b"), kept(3, "c"), sent, kept(2, "d")];
        assert_eq!(of_logs(lines), [kept(3, "c"), kept(2, "d")]);
    }
}
