//! Refetch: pulling again what damage of the spool took.

use std::ops::ControlFlow;
use std::time::Duration;

use serde_json::{Value, json};

use super::error::Error;
use super::{Audit, Configured, alone, wait};
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
    let Some(_alone) = alone(&configured.refetching) else { return Err(Error::Refetching) };
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

#[cfg(test)]
mod tests {
    use super::super::{Giver, Order, obey};
    use super::*;
    use crate::spool::{Options, Spool};

    /// Takes lines, and goes away where it is told to.
    struct Taker {
        lines: Vec<Value>,
        wanted: bool,
    }

    impl Output for Taker {
        fn line(&mut self, line: &Value) -> std::io::Result<()> {
            self.lines.push(line.clone());
            Ok(())
        }

        fn is_wanted(&self) -> bool {
            self.wanted
        }
    }

    fn order(spool: &Spool, configured: &Configured, out: &mut Taker) -> Result<Value, Error> {
        let order = Order::Refetch { reason: "a test".to_owned() };
        obey(spool, configured, &order, Giver { uid: 0, pid: None }, out)
    }

    /// A spool whose ledger names two lost ranges.
    fn damaged() -> (tempfile::TempDir, Spool) {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(&Options::new(dir.path(), 16 << 20)).unwrap();
        let lost = |shard: u32, seq: u64| {
            json!({
                "source": "h/p/l#g", "shard": shard, "cursor": "a", "next_cursor": "b",
                "first_seq": seq, "end_seq": seq + 1, "logs": 5, "delivered": false,
            })
        };
        spool.note(&json!({ "what": "damage", "lost": [lost(0, 1), lost(1, 2)] })).unwrap();
        (dir, spool)
    }

    #[test]
    fn each_range_that_fails_is_told_and_nothing_is_ordered_where_nothing_is_left() {
        let (_dir, spool) = damaged();
        let mut out = Taker { lines: Vec::new(), wanted: true };
        let done = order(&spool, &Configured::default(), &mut out).unwrap();
        assert_eq!(
            (&done["ranges"], &done["failed"], &done["unfinished"]),
            (&2.into(), &2.into(), &0.into())
        );
        assert_eq!(out.lines.len(), 2);
        assert!(out.lines.iter().all(|line| line["code"] == "order.no_source"), "{:?}", out.lines);
        assert_eq!(out.lines[1]["refetch"]["shard"], 1);
        spool.close();
        let dir = tempfile::tempdir().unwrap();
        let (empty, _) = Spool::open(&Options::new(dir.path(), 16 << 20)).unwrap();
        assert_eq!(order(&empty, &Configured::default(), &mut out).unwrap()["ranges"], 0);
        assert!(read_ledger(dir.path()).unwrap().is_empty());
        empty.close();
    }

    #[test]
    fn what_nobody_waits_for_any_more_ends_and_two_at_once_are_refused() {
        let (_dir, spool) = damaged();
        let configured = Configured::default();
        let mut out = Taker { lines: Vec::new(), wanted: false };
        let done = order(&spool, &configured, &mut out).unwrap();
        assert_eq!((&done["failed"], &done["unfinished"]), (&0.into(), &2.into()), "{done}");
        let running = configured.refetching.lock().unwrap();
        let refused = order(&spool, &configured, &mut out).unwrap_err();
        assert_eq!(refused.code(), "order.refetching");
        drop(running);
        spool.close();
    }
}
