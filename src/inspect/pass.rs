//! One pass over what a selection may mean, batch by batch, and on to what comes later.

use std::time::Duration;

use serde_json::{Value, json};

use super::error::Error;
use super::filter::{Filter, Verdict};
use super::logs::{self, LogAt};
use super::question::Selection;
use super::{Output, send};
use crate::spool::inspect::{Inspection, Met, Stored};
use crate::spool::{Damage, Seq};

/// How long nothing may come before it is asked whether anybody still waits for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is passed over.
pub(super) struct Scope<'a> {
    pub(super) selection: &'a Selection,
    /// See [`Filter`].
    pub(super) pattern: Option<(&'a [u8], bool)>,
    pub(super) follow: bool,
}

/// What was met on the way.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) damage: u64,
    pub(super) undecodable: u64,
    raw: Vec<u8>,
}

/// A batch that may hold logs that are meant.
pub(super) struct Candidate<'a> {
    pub(super) stored: &'a Stored,
    pub(super) verdict: Verdict,
    filter: &'a Filter<'a>,
}

/// Whether to go on.
pub(super) type GoesOn = Result<bool, Error>;

/// Calls `visit` with each batch that may hold a log that is meant, until it says `false` or
/// nobody wants the answer any more.
pub(super) fn pass(
    spool: &Inspection,
    scope: &Scope<'_>,
    out: &mut dyn Output,
    visit: &mut dyn FnMut(&Candidate<'_>, &mut Tally, &mut dyn Output) -> GoesOn,
) -> Result<Tally, Error> {
    let mut tally = Tally::default();
    let mut from = scope.selection.from_seq.unwrap_or(0);
    let to = scope.selection.to_seq.unwrap_or(Seq::MAX);
    let mut later;
    let mut view = spool;
    loop {
        let state = view.state();
        let filter = Filter::new(scope.selection, scope.pattern, &state);
        let mut batches = view.headers(from, to, |info| filter.segment(info));
        while let Some(met) = batches.next() {
            if !scope.follow {
                let (done, of) = batches.progress();
                out.progress(done, of);
            }
            match met? {
                Met::Damage(damage) => tally.damaged(&damage, out)?,
                Met::Batch(stored) => {
                    let verdict = filter.batch(&stored.header);
                    if verdict == Verdict::None {
                        continue;
                    }
                    let candidate = Candidate { stored: &stored, verdict, filter: &filter };
                    if !out.is_wanted() || !visit(&candidate, &mut tally, out)? {
                        return Ok(tally);
                    }
                }
            }
        }
        from = from.max(state.next_seq);
        if !scope.follow || from >= to {
            return Ok(tally);
        }
        while !view.wait(PATIENCE) {
            if !out.is_wanted() {
                return Ok(tally);
            }
        }
        if !out.is_wanted() {
            return Ok(tally);
        }
        later = view.newer()?;
        view = &later;
    }
}

impl Candidate<'_> {
    /// Calls `visit` with each log that is meant, until it says `false`. What cannot be read is
    /// told instead.
    pub(super) fn logs(
        &self,
        tally: &mut Tally,
        out: &mut dyn Output,
        visit: &mut dyn FnMut(&LogAt<'_>, &mut dyn Output) -> GoesOn,
    ) -> GoesOn {
        let header = &self.stored.header;
        let body = match self.stored.body()? {
            Ok(body) => body,
            Err(damage) => {
                tally.damaged(&damage, out)?;
                return Ok(true);
            }
        };
        if let Err(why) = logs::decode(header, &body, &mut tally.raw) {
            tally.undecodable += 1;
            send(out, &undecodable(header.seq, &why))?;
            return Ok(true);
        }
        let mut goes_on = true;
        logs::each(header, &tally.raw, |log| {
            if self.verdict == Verdict::All || self.filter.log(log) {
                goes_on = visit(log, out)?;
            }
            Ok::<bool, Error>(goes_on)
        })?;
        if tally.raw.capacity() > KEPT {
            tally.raw = Vec::new();
        }
        Ok(goes_on)
    }
}

/// Bytes of a decompressed body that the buffer is kept for.
const KEPT: usize = 16 << 20;

impl Tally {
    pub(super) fn damaged(&mut self, damage: &Damage, out: &mut dyn Output) -> Result<(), Error> {
        self.damage += 1;
        send(out, &json!({ "damage": describe(damage) }))
    }
}

/// Damage as it travels.
pub fn describe(damage: &Damage) -> Value {
    json!({
        "segment": format!("{:016x}", damage.segment), "from": damage.from, "to": damage.to,
        "first_seq": damage.first_seq, "end_seq": damage.end_seq,
        "harmless": damage.harmless, "lost": damage.lost,
    })
}

/// A batch that checks but cannot be decoded, as it travels.
pub(super) fn undecodable(seq: Seq, why: &str) -> Value {
    json!({ "undecodable": { "seq": seq, "why": why } })
}
