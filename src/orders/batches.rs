//! Hold, release and drop whole batches.

use serde_json::{Value, json};

use super::error::Error;
use super::{Audit, wait};
use crate::inspect::{Chosen, Selection, choose};
use crate::spool::Span;

pub(super) fn hold(audit: &Audit<'_>, selection: &Selection) -> Result<Value, Error> {
    let chosen = chosen(audit, selection, "held")?;
    let what = describe(&chosen);
    hold_and_note(audit, "hold", &chosen, &what)?;
    Ok(what)
}

pub(super) fn release(audit: &Audit<'_>, selection: &Selection) -> Result<Value, Error> {
    let holds = audit.spool.status().state.holds;
    let mut chosen = chosen(audit, selection, "released")?;
    chosen.runs.retain(|run| holds.iter().any(|held| overlaps(held, run.span)));
    if chosen.runs.is_empty() {
        return Err(Error::Nothing);
    }
    let what = describe(&chosen);
    audit.note("release", &what)?;
    for run in &chosen.runs {
        wait(audit.spool.release(run.span))?;
    }
    Ok(what)
}

/// Holds the batches first, so that nothing is noted as dropped that a destination gets.
pub(super) fn discard(audit: &Audit<'_>, selection: &Selection) -> Result<Value, Error> {
    let chosen = chosen(audit, selection, "dropped")?;
    let what = describe(&chosen);
    hold_and_note(audit, "drop", &chosen, &what)?;
    for run in &chosen.runs {
        for (key, part) in &run.shards {
            audit.spool.note(&json!({
                "what": "dropped", "source": key.source, "shard": key.shard,
                "cursor": part.cursor, "next_cursor": part.next_cursor, "logs": part.logs,
                "first_seq": run.span.first, "end_seq": run.span.end, "why": audit.reason,
            }))?;
        }
        wait(audit.spool.discard(run.span, run.end_log))?;
    }
    Ok(what)
}

fn chosen(audit: &Audit<'_>, selection: &Selection, what: &'static str) -> Result<Chosen, Error> {
    let chosen = choose(&audit.spool.inspection(), selection)?;
    match chosen.in_part {
        _ if chosen.runs.is_empty() => Err(Error::Nothing),
        Some(seq) => Err(Error::InPart { seq, what }),
        None => Ok(chosen),
    }
}

/// Holds the batches and notes the order; takes back what it held where either fails.
fn hold_and_note(
    audit: &Audit<'_>,
    order: &str,
    chosen: &Chosen,
    what: &Value,
) -> Result<(), Error> {
    let mut held = Vec::new();
    let mut hold = || {
        for run in &chosen.runs {
            held.extend(wait(audit.spool.hold(run.span))?.iter());
        }
        audit.note(order, what)
    };
    let done = hold();
    if done.is_err() {
        for span in held {
            wait(audit.spool.release(span))?;
        }
    }
    done
}

fn overlaps(one: Span, other: Span) -> bool {
    one.first < other.end && other.first < one.end
}

fn describe(chosen: &Chosen) -> Value {
    let runs: Vec<[u64; 2]> =
        chosen.runs.iter().map(|run| [run.span.first, run.span.end - 1]).collect();
    json!({ "batches": runs, "count": chosen.batches(), "logs": chosen.logs() })
}
