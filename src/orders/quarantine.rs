//! Orders about the quarantine: letting go of copies, and sending single logs again.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::error::Error;
use super::{Audit, Configured, alone, resend, wait};
use crate::config::Destination;
use crate::inspect::{self, Output};
use crate::relay::kept::{Kept, KeptLog};
use crate::relay::replay::{Plan, Progress, replay as send};
use crate::spool::{self, QUARANTINE_SENT, ShardKey, Span, Spool, is_quarantined_log};

/// Copies in the quarantine.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Copies {
    /// All; of those to be sent, all single logs.
    All,
    /// The one of this name.
    Name(String),
}

/// Logs and who is to get them.
type ToSend = (Arc<Destination>, Vec<KeptLog>);

/// Names in one line of the ledger at most.
const NAMES_A_LINE: usize = 500;

pub(super) fn discard(audit: &Audit<'_>, copies: &Copies) -> Result<Value, Error> {
    let chosen = choose(audit.spool, copies)?;
    let bytes: u64 = chosen.iter().map(|(_, bytes)| bytes).sum();
    let done = json!({ "copies": chosen.len(), "bytes": bytes });
    for names in chosen.chunks(NAMES_A_LINE) {
        let names: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
        audit.note("quarantine_drop", &json!({ "copies": names }))?;
        audit.spool.remove_quarantined(&names)?;
    }
    Ok(done)
}

pub(super) fn retry(
    audit: &Audit<'_>,
    configured: &Configured,
    copies: &Copies,
    to: Option<&str>,
    rate: Option<NonZeroU32>,
    out: &mut dyn Output,
) -> Result<Value, Error> {
    let _alone = alone(&configured.retrying).ok_or(Error::Retrying)?;
    let mut sum = Outcome::default();
    for (to, logs) in plan(audit.spool, configured, copies, to)? {
        if !out.is_wanted() {
            sum.left += logs.len();
            continue;
        }
        let one = retry_to(audit, to, logs, rate, out)?;
        sum.sent += one.sent;
        sum.refused += one.refused;
        sum.left += one.left;
        sum.unproven += one.unproven;
    }
    Ok(json!({
        "sent": sum.sent, "refused": sum.refused, "left": sum.left, "unproven": sum.unproven,
        "complete": sum.left == 0,
    }))
}

/// What became of the logs.
#[derive(Default)]
struct Outcome {
    sent: usize,
    refused: usize,
    left: usize,
    unproven: u64,
}

/// The copies that are meant, with their lengths.
fn choose(spool: &Spool, copies: &Copies) -> Result<Vec<(String, u64)>, Error> {
    let mut found = spool.inspection().quarantine()?;
    if let Copies::Name(wanted) = copies {
        found.retain(|(name, _)| name == wanted);
        if found.is_empty() {
            return Err(inspect::Error::NoCopy { name: wanted.clone() }.into());
        }
    }
    Ok(found)
}

/// The logs to send by destination, in the order of the spool.
fn plan(
    spool: &Spool,
    configured: &Configured,
    copies: &Copies,
    to: Option<&str>,
) -> Result<Vec<ToSend>, Error> {
    let all = &configured.destinations;
    let named = to.map(|to| resend::destination(all, Some(to))).transpose()?;
    let ledger = spool.inspection().ledger()?;
    let told = inspect::told(&ledger);
    let mut by_name = BTreeMap::<String, Vec<((u64, u64), KeptLog)>>::new();
    for (name, _) in choose(spool, copies)? {
        if !is_quarantined_log(&name) {
            match copies {
                Copies::All => continue,
                Copies::Name(_) => return Err(Error::NotALog { name }),
            }
        }
        let about = told.get(name.as_str()).and_then(|line| read(&name, line));
        let Some((destination, at, log)) = about else { return Err(Error::Untold { name }) };
        by_name.entry(destination).or_default().push((at, log));
    }
    if by_name.is_empty() {
        return Err(Error::NoLogs);
    }
    if let Some(to) = named {
        return Ok(vec![(to, in_order(by_name.into_values().flatten().collect()))]);
    }
    let gone = |name: &String| Error::DestinationGone {
        name: name.clone(),
        known: all.iter().map(|destination| destination.name.clone()).collect(),
    };
    let find = |(name, logs): (String, _)| {
        let to = all.iter().find(|destination| destination.name == name);
        Ok((Arc::clone(to.ok_or_else(|| gone(&name))?), in_order(logs)))
    };
    by_name.into_iter().map(find).collect()
}

fn in_order(mut logs: Vec<((u64, u64), KeptLog)>) -> Vec<KeptLog> {
    logs.sort_by_key(|(at, _)| *at);
    logs.into_iter().map(|(_, log)| log).collect()
}

/// What the ledger says of a log: its destination, its place in the spool, and the rest.
fn read(name: &str, line: &Value) -> Option<(String, (u64, u64), KeptLog)> {
    let text = |name: &str| line[name].as_str().map(str::to_owned);
    let number = |name: &str| line[name].as_u64();
    let log = KeptLog {
        name: name.to_owned(),
        key: ShardKey { source: text("source")?, shard: number("shard")?.try_into().ok()? },
        cursor: text("cursor")?,
        index: number("index")?.try_into().ok()?,
        approximate: line["approximate"].as_bool()?,
    };
    Some((text("destination")?, (number("seq")?, number("log")?), log))
}

fn retry_to(
    audit: &Audit<'_>,
    to: Arc<Destination>,
    logs: Vec<KeptLog>,
    rate: Option<NonZeroU32>,
    out: &mut dyn Output,
) -> Result<Outcome, Error> {
    let id = format!("{:08x}", fastrand::u32(..));
    let (name, count) = (to.name.clone(), logs.len());
    audit.note(
        "quarantine_retry",
        &json!({ "replay": id, "destination": name, "logs": count, "rate": rate }),
    )?;
    let spool = audit.spool.clone();
    let kept = Arc::new(Kept::new(logs, Box::new(move |name| copy(&spool, name))));
    let end = count as u64;
    let plan = Plan {
        id: id.clone(),
        batches: vec![Span { first: 0, end }],
        wanted: Arc::new(|_, _| None),
        rate,
        kept: Some(Arc::clone(&kept)),
    };
    let stop = CancellationToken::new();
    let mut settled = Settled { spool: audit.spool, id: &id, to: &name, kept: &kept, next: 0 };
    let mut failed = None;
    let report = |at: Progress| {
        out.progress(at.seq.min(end), end);
        if failed.is_none() {
            failed = settled.until(at.seq).err();
        }
        if failed.is_some() || !out.is_wanted() {
            stop.cancel();
        }
    };
    let sent = wait(send(audit.spool.clone(), None, to, plan, stop.clone(), report));
    let sent = sent.map_err(Error::Replay)?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    settled.until(sent.seq)?;
    let done = usize::try_from(settled.next).unwrap_or(usize::MAX);
    let refused: Vec<_> = (0..settled.next).filter_map(|seq| kept.refusal(seq)).collect();
    for (log, seq) in kept.logs().iter().zip(0..settled.next) {
        if let Some(why) = kept.refusal(seq) {
            let line = json!({ "name": log.name, "destination": name, "refused": why });
            out.line(&line).map_err(Error::Told)?;
        }
    }
    Ok(Outcome {
        sent: done - refused.len(),
        refused: refused.len(),
        left: count - done,
        unproven: sent.unproven,
    })
}

/// The content of a copy; none where it is gone.
fn copy(spool: &Spool, name: &str) -> Result<Option<Vec<u8>>, spool::Error> {
    match spool.inspection().copy_of(name) {
        Ok(content) => Ok(Some(content)),
        Err(spool::Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Lets go of what the destination has.
struct Settled<'a> {
    spool: &'a Spool,
    id: &'a str,
    to: &'a str,
    kept: &'a Kept,
    /// The first log that is not confirmed.
    next: u64,
}

impl Settled<'_> {
    /// Everything before `seq` is confirmed, or was passed over.
    fn until(&mut self, seq: u64) -> Result<(), spool::Error> {
        let all = (0..).zip(self.kept.logs());
        let new = all.filter(|(at, _)| (self.next..seq).contains(at));
        let sent = new.filter(|(at, _)| self.kept.refusal(*at).is_none());
        let names: Vec<&str> = sent.map(|(_, log)| log.name.as_str()).collect();
        for names in names.chunks(NAMES_A_LINE) {
            self.spool.note(&json!({
                "what": QUARANTINE_SENT, "replay": self.id, "destination": self.to,
                "copies": names,
            }))?;
            self.spool.remove_quarantined(names)?;
        }
        self.next = self.next.max(seq.min(self.kept.logs().len() as u64));
        Ok(())
    }
}
