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
    // The replay takes the pin over and moves it on.
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
    let (wanted_selection, of) = (selection.clone(), state);
    let plan = Plan {
        id: id.clone(),
        batches,
        wanted: Arc::new(move |header, raw| choose_logs(&wanted_selection, &of, header, raw)),
        rate,
        kept: None,
    };
    let stop = CancellationToken::new();
    let name = to.name.clone();
    let report = |at: Progress| {
        out.progress(at.seq.saturating_sub(begin), end - begin);
        if !out.is_wanted() {
            stop.cancel();
        }
    };
    let sent = wait(send(spool.clone(), Some(pin), to, plan, stop.clone(), report))
        .map_err(Error::Replay)?;
    let whole = sent.seq >= end;
    audit.spool.note(&json!({
        "what": "replay ended", "replay": id, "complete": whole, "logs": sent.confirmed,
    }))?;
    Ok(json!({
        "replay": id, "destination": name, "complete": whole, "logs": sent.confirmed,
        "unproven": sent.unproven, "written": sent.written,
    }))
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use prost::Message as _;

    use super::super::{Configured, Giver, Order, obey};
    use super::*;
    use crate::config;
    use crate::sls::wire::{Content, Log, LogGroup, LogGroupList};
    use crate::spool::{
        Batch, Compression, Delivered, MIN_QUOTA, Options, Origin, Position, ShardKey, Spool,
        read_ledger,
    };

    /// Wants the answer until it is told otherwise.
    struct Asked(Arc<AtomicBool>);

    impl Output for Asked {
        fn line(&mut self, _: &Value) -> std::io::Result<()> {
            Ok(())
        }

        fn is_wanted(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }
    }

    /// Ends the replay with the test, also where that fails.
    struct Ends(Arc<AtomicBool>);

    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.store(false, Ordering::Relaxed);
        }
    }

    /// Most of a segment.
    pub(in crate::orders) fn batch(number: u64) -> Batch {
        let content = Content { key: "k".into(), value: vec![b'x'; 800 << 10].into() };
        let log = Log { time: 1_760_140_800, contents: vec![content], ..Log::default() };
        let group = LogGroup { logs: vec![log], ..LogGroup::default() };
        let raw = LogGroupList { log_groups: vec![group] }.encode_to_vec();
        Batch {
            cursor: format!("c{number}"),
            next_cursor: format!("c{}", number + 1),
            first_group_cursor: None,
            groups: 1,
            logs: 1,
            query: false,
            received_at: 1_760_140_800_000,
            min_time: 1_760_140_800,
            max_time: 1_760_140_800,
            raw_size: raw.len() as u64,
            compression: Compression::None,
            body: raw.into(),
        }
    }

    /// One more batch that is delivered at once.
    fn deliver(spool: &Spool) {
        let Delivered { position, log } = spool.delivered("siem").unwrap();
        let key = ShardKey { source: "h/p/l#g".to_owned(), shard: 0 };
        wait(spool.insert(key, batch(position.seq), Origin::Import)).unwrap();
        spool.ack("siem", Position { seq: position.seq + 1, index: 0 }, log + 1);
        wait(spool.flush()).unwrap();
    }

    fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < Duration::from_secs(30), "waited for {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn destinations() -> Vec<Destination> {
        let text = "[spool]\ndir = \"/nowhere\"\n[[source]]\nendpoint = \"http://127.0.0.1:1\"\n\
                    project = \"p\"\nlogstore = \"logs\"\nconsumer_group = \"g\"\n\
                    access_key_id = \"i\"\naccess_key_secret = \"s\"\n\
                    [[destination]]\nname = \"siem\"\nto = \"tcp://127.0.0.1:9\"\n";
        config::parse(text, "test", &|_| None, "host").unwrap().settings.destinations
    }

    #[test]
    fn a_replay_keeps_only_what_it_still_has_to_send() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let _within = runtime.enter();
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(&Options::new(dir.path(), MIN_QUOTA)).unwrap();
        wait(spool.set_destinations(&["siem".to_owned()])).unwrap();
        let kept = spool.pin(0);
        (0..6).for_each(|_| deliver(&spool));
        let first = || spool.status().state.segments.values().next().unwrap().first_seq;
        assert_eq!(first(), 0);

        let wanted = Arc::new(AtomicBool::new(true));
        std::thread::scope(|threads| {
            let ordered = threads.spawn(|| {
                let _within = runtime.enter();
                let selection = Selection { from_seq: Some(4), ..Selection::default() };
                let reason = "a test".to_owned();
                let order = Order::Replay { selection, to: None, rate: None, reason };
                let configured = Configured::new(&destinations(), &[]);
                let giver = Giver { uid: 0, pid: None };
                obey(&spool, &configured, &order, giver, &mut Asked(Arc::clone(&wanted)))
            });
            let ends = Ends(Arc::clone(&wanted));
            wait_for("the replay", || {
                read_ledger(dir.path()).unwrap().iter().any(|line| line["order"] == "replay")
            });
            drop(kept);
            // What is before it makes room, and what it has to send stays.
            wait_for("the replay to let go of what it does not send", || {
                // Anything that is journalled lets go of what nobody needs.
                spool.ack("siem", Position::default(), 0);
                wait(spool.flush()).unwrap();
                first() >= 3
            });
            (0..6).for_each(|_| deliver(&spool));
            assert!(first() <= 4, "{} is the first batch left", first());
            drop(ends);
            let done = ordered.join().unwrap().unwrap();
            assert_eq!(done["complete"], false, "{done}");
        });
        deliver(&spool);
        assert!(first() > 4, "{} is the first batch left", first());
        spool.close();
    }
}
