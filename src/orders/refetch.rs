//! Refetch: pulling again what damage of the spool took.

use std::ops::ControlFlow;
use std::time::Duration;

use serde_json::{Value, json};

use super::error::Error;
use super::{Audit, Configured, wait};
use crate::config::Source;
use crate::inspect::Output;
use crate::relay::refetch::{Pending, Refetched, pending, refetch as pull};
use crate::relay::{chain, client_within};
use crate::spool::{identity, read_ledger};

/// Time for one call to SLS, its answer included.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Pulls every lost range that is left, a line for each. One that fails does not keep the
/// others from being pulled.
pub(super) fn refetch(
    audit: &Audit<'_>,
    configured: &Configured,
    out: &mut dyn Output,
) -> Result<Value, Error> {
    // Two at once would store the same logs twice.
    let Ok(_alone) = configured.refetching.try_lock() else { return Err(Error::Refetching) };
    let spool = audit.spool;
    let left: Vec<Pending> =
        pending(&read_ledger(spool.dir())?).into_iter().filter(|one| !one.done).collect();
    let batches = |one: &Pending| one.lost.span.end.saturating_sub(one.lost.span.first);
    let total: u64 = left.iter().map(batches).sum();
    if !left.is_empty() {
        audit.note("refetch", &json!({ "ranges": left.len(), "batches": total }))?;
    }
    let mut sum = Refetched::default();
    let (mut passed, mut failed, mut unfinished) = (0, 0, 0);
    for one in &left {
        out.progress(passed, total);
        if !out.is_wanted() {
            unfinished += 1;
            continue;
        }
        let mut line = json!({ "refetch": one.lost });
        let most = batches(one);
        let mut stored = 0;
        let progress = |_| {
            stored += 1;
            out.progress(passed + most.min(stored), total);
            if out.is_wanted() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        match range(audit, &configured.sources, one, progress) {
            Ok(done) => {
                line["logs"] = done.logs.into();
                line["batches"] = done.batches.into();
                line["gone"] = done.gone.into();
                sum.logs += done.logs;
                sum.batches += done.batches;
                sum.gone |= done.gone;
                unfinished += u64::from(done.stopped);
            }
            Err(error) => {
                line["error"] = chain(&error).into();
                line["code"] = error.code().into();
                failed += 1;
            }
        }
        passed += most;
        if out.is_wanted() {
            out.line(&line).map_err(Error::Told)?;
        }
    }
    Ok(json!({
        "ranges": left.len(), "failed": failed, "unfinished": unfinished,
        "batches": sum.batches, "logs": sum.logs, "gone": sum.gone,
    }))
}

fn range(
    audit: &Audit<'_>,
    sources: &[Source],
    one: &Pending,
    progress: impl FnMut(u32) -> ControlFlow<()>,
) -> Result<Refetched, Error> {
    let key = &one.lost.key.source;
    let Some(source) = sources.iter().find(|source| source.spool_key() == *key) else {
        let known = sources.iter().map(Source::spool_key).collect();
        return Err(Error::NoSource { name: key.clone(), known });
    };
    let client = client_within(source, &identity(audit.spool.dir())?, CALL_TIMEOUT)
        .map_err(|error| Error::Client(Box::new(error)))?;
    wait(pull(&client, source, audit.spool, &one.lost, progress))
        .map_err(|error| Error::Refetch(Box::new(error)))
}
