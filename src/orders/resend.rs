//! Replay: sending again what a destination had.

use std::num::NonZeroU32;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::error::Error;
use super::{Audit, wait};
use crate::config::Destination;
use crate::inspect::{Output, Selection, choose, choose_logs};
use crate::relay::replay::{Plan, Progress, replay as send};
use crate::spool::{Span, Spans};

/// The destination that is meant.
pub(super) fn destination(
    configured: &[Arc<Destination>],
    name: Option<&str>,
) -> Result<Arc<Destination>, Error> {
    let known = || configured.iter().map(|destination| destination.name.clone()).collect();
    match (name, configured) {
        (None, [only]) => Ok(Arc::clone(only)),
        (None, _) => Err(Error::WhichDestination { known: known() }),
        (Some(name), _) => configured
            .iter()
            .find(|destination| destination.name == name)
            .cloned()
            .ok_or_else(|| Error::NoDestination { name: name.to_owned(), known: known() }),
    }
}

pub(super) fn replay(
    audit: &Audit<'_>,
    selection: &Selection,
    to: Arc<Destination>,
    rate: Option<NonZeroU32>,
    out: &mut dyn Output,
) -> Result<Value, Error> {
    let spool = audit.spool;
    // From here on nothing is let go of: what was to go before is gone once that is written.
    let pin = spool.pin(0);
    wait(spool.flush())?;
    let view = spool.inspection();
    let state = view.state();
    // What the destination does not have yet comes by itself, in its place.
    let has = state.destinations.get(&to.name).map_or(0, |delivered| delivered.position.seq);
    let until = selection.to_seq.map_or(has, |seq| seq.min(has));
    let chosen = choose(&view, &Selection { to_seq: Some(until), ..selection.clone() })?;
    let mut spans = Spans::default();
    chosen.runs.iter().for_each(|run| spans.insert(run.span));
    state.drops.iter().for_each(|dropped| spans.remove(dropped.span));
    let batches: Vec<Span> = spans.iter().collect();
    let (Some(first), Some(last)) = (batches.first(), batches.last()) else {
        return Err(Error::NothingDelivered { name: to.name.clone() });
    };
    let id = format!("{:08x}", fastrand::u32(..));
    audit.note(
        "replay",
        &json!({
            "replay": id, "destination": to.name, "batches": [first.first, last.end - 1],
            "selection": selection, "rate": rate,
        }),
    )?;
    let (begin, end) = (first.first, last.end);
    pin.move_to(begin);
    let (wanted_selection, of) = (selection.clone(), state);
    let plan = Plan {
        id: id.clone(),
        batches,
        wanted: Arc::new(move |header, raw| choose_logs(&wanted_selection, &of, header, raw)),
        rate,
        pin,
    };
    let stop = CancellationToken::new();
    let name = to.name.clone();
    let report = |at: Progress| {
        out.progress(at.seq.saturating_sub(begin), end - begin);
        if !out.is_wanted() {
            stop.cancel();
        }
    };
    let sent = wait(send(spool.clone(), to, plan, stop.clone(), report)).map_err(Error::Replay)?;
    let whole = sent.seq >= end;
    audit.spool.note(&json!({
        "what": "replay ended", "replay": id, "complete": whole, "logs": sent.confirmed,
    }))?;
    Ok(json!({
        "replay": id, "destination": name, "complete": whole, "logs": sent.confirmed,
        "unproven": sent.unproven, "written": sent.written,
    }))
}
