//! Hold, release and drop whole batches.

use serde_json::{Value, json};

use super::error::Error;
use super::{Audit, wait};
use crate::inspect::{Chosen, Selection, choose};
use crate::spool::{Seq, Span};

pub(super) fn hold(audit: &Audit<'_>, selection: &Selection) -> Result<Value, Error> {
    let chosen = chosen(audit, selection, "held")?;
    let what = describe(&chosen);
    hold_and_note(audit, "hold", &chosen, &what)?;
    Ok(what)
}

/// Of what is meant only what is held. Holds that are meant by number, or all of them, end also
/// where damage took their batches: delivery stops in front of these as well.
pub(super) fn release(audit: &Audit<'_>, selection: &Selection) -> Result<Value, Error> {
    let holds = audit.spool.status().state.holds;
    let Selection { from_seq, to_seq, .. } = *selection;
    let by_number = Selection { from_seq, to_seq, ..Selection::default() };
    let meant = if *selection == by_number {
        vec![Span { first: from_seq.unwrap_or(0), end: to_seq.unwrap_or(Seq::MAX) }]
    } else {
        chosen(audit, selection, "released")?.runs.iter().map(|run| run.span).collect()
    };
    let held = holds.iter().flat_map(|held| meant.iter().map(move |meant| common(held, *meant)));
    let held: Vec<Span> = held.filter(|span| !span.is_empty()).collect();
    if held.is_empty() {
        return Err(Error::Nothing);
    }
    let mut logs = 0;
    for span in &held {
        let (from_seq, to_seq) = (Some(span.first), Some(span.end));
        let there = Selection { from_seq, to_seq, ..Selection::default() };
        logs += choose(&audit.spool.inspection(), &there)?.logs();
    }
    let count: u64 = held.iter().map(|span| span.end - span.first).sum();
    let what = json!({ "batches": ends(held.iter().copied()), "count": count, "logs": logs });
    audit.note("release", &what)?;
    for span in held {
        wait(audit.spool.release(span))?;
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

fn common(one: Span, other: Span) -> Span {
    Span { first: one.first.max(other.first), end: one.end.min(other.end) }
}

fn describe(chosen: &Chosen) -> Value {
    let batches = ends(chosen.runs.iter().map(|run| run.span));
    json!({ "batches": batches, "count": chosen.batches(), "logs": chosen.logs() })
}

/// First and last batch of each.
fn ends(spans: impl Iterator<Item = Span>) -> Vec<[Seq; 2]> {
    spans.map(|span| [span.first, span.end - 1]).collect()
}

#[cfg(test)]
mod tests {
    use super::super::resend::tests::batch;
    use super::super::{Configured, Giver, Order, obey};
    use super::*;
    use crate::inspect::Output;
    use crate::spool::{Options, Origin, ShardKey, Spool};

    struct Nobody;

    impl Output for Nobody {
        fn line(&mut self, _: &Value) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn order(spool: &Spool, order: &Order) -> Result<Value, Error> {
        let giver = Giver { uid: 0, pid: None };
        obey(spool, &Configured::default(), order, giver, &mut Nobody)
    }

    fn release_all(spool: &Spool) -> Result<Value, Error> {
        let (selection, reason) = (Selection::default(), "a test".to_owned());
        order(spool, &Order::Release { selection, reason })
    }

    #[test]
    fn what_is_held_is_released_and_nothing_else_also_where_its_batches_are_gone() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _within = runtime.enter();
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(&Options::keeping(dir.path())).unwrap();
        wait(spool.set_destinations(&["siem".to_owned()])).unwrap();
        for number in 0..4 {
            let key = ShardKey { source: "h/p/l#g".to_owned(), shard: 0 };
            wait(spool.insert(key, batch(number), Origin::Import)).unwrap();
        }
        let hold = |spool: &Spool| {
            let (from_seq, to_seq) = (Some(1), Some(3));
            let selection = Selection { from_seq, to_seq, ..Selection::default() };
            order(spool, &Order::Hold { selection, reason: "a test".to_owned() }).unwrap()
        };
        let held = hold(&spool);
        assert_eq!(held, json!({ "batches": [[1, 2]], "count": 2, "logs": 2 }));
        assert_eq!(release_all(&spool).unwrap(), held);
        assert_eq!(release_all(&spool).unwrap_err().code(), "order.nothing");

        hold(&spool);
        // All that held batches; the snapshot of the newest one still tells of the hold.
        spool.close();
        let (spool, _) = Spool::open(&Options::keeping(dir.path())).unwrap();
        let held_in = spool.status().state.segments;
        spool.close();
        for (id, _) in held_in.iter().filter(|(_, info)| info.end_seq > info.first_seq) {
            std::fs::remove_file(dir.path().join(format!("segments/{id:016x}.seg"))).unwrap();
        }
        let (spool, _) = Spool::open(&Options::keeping(dir.path())).unwrap();
        let released = release_all(&spool).unwrap();
        assert_eq!((&released["batches"], &released["count"]), (&json!([[1, 2]]), &json!(2)));
        assert_eq!(spool.status().state.holds.iter().count(), 0);
        spool.close();
    }
}
