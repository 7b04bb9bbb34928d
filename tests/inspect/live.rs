//! Looking into a spool that is written, confirmed and emptied meanwhile.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use sls_relay::inspect::{self, Only, Question, Selection};
use sls_relay::spool::inspect::Inspection;
use sls_relay::spool::{Position, Spool};

use crate::asking::{answer, command, json};
use crate::scene::{Known, Maker, append, open, runtime, wait_for};

/// Appends batches and confirms them, until told to stop; returns the logs.
fn write(spool: Spool, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<Vec<Known>> {
    std::thread::spawn(move || {
        let mut maker = Maker::new(3);
        let mut all = Vec::new();
        runtime().block_on(async {
            spool.set_destinations(&["syslog".to_owned()]).await.unwrap();
            while !stop.load(Ordering::Relaxed) {
                let (key, batch, logs) = maker.next();
                append(&spool, key, batch).await;
                all.extend(logs);
                // Some twenty batches wait; what is before them goes, segment by segment.
                if let Some(confirmed) = maker.made.checked_sub(20) {
                    let position = Position { seq: confirmed, index: 0 };
                    let logs = all.iter().filter(|log| log.seq < confirmed).count();
                    spool.ack("syslog", position, logs as u64);
                }
            }
        });
        all
    })
}

/// What must hold for the answer to `cat`: no damage, each batch whole, and none left out but
/// those before `gone`, which the spool may have removed under the answer.
fn check(lines: &[Value], gone: u64, what: &str) -> Option<(u64, u64)> {
    assert!(lines.iter().all(|line| line.get("seq").is_some()), "{what}: not only logs");
    let mut last: Option<(u64, u64)> = None;
    for line in lines {
        let (seq, index) = (line["seq"].as_u64().unwrap(), line["index"].as_u64().unwrap());
        if index == 0 {
            if let Some((before, index)) = last {
                assert_eq!(index, 17, "{what}: batch {before} is not whole");
                assert!(seq > before, "{what}: {seq} after {before}");
                assert!(seq == before + 1 || seq <= gone, "{what}: {seq} after {before}");
            }
        } else {
            assert_eq!(last, Some((seq, index - 1)), "{what}");
        }
        last = Some((seq, index));
    }
    Some((lines.first()?["seq"].as_u64()?, last?.0))
}

#[test]
fn answers_are_right_while_batches_come_and_segments_go() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let stop = Arc::new(AtomicBool::new(false));
    let writer = write(spool.clone(), Arc::clone(&stop));
    let cat = Question::Cat { selection: Selection::default(), limit: None, follow: false };
    let waiting = Question::Cat {
        selection: Selection { only: Only::Waiting, ..Selection::default() },
        limit: None,
        follow: false,
    };
    let first = |state: &sls_relay::spool::State| {
        state.segments.values().next().map_or(0, |info| info.first_seq)
    };
    wait_for("the first batches", || spool.status().state.next_seq > 5);
    let (mut rounds, mut removed) = (0, 0);
    // Until the spool has removed a few segments under the answers.
    wait_for("segments to be removed under answers", || {
        rounds += 1;
        let view = spool.inspection();
        let state = view.state();
        let (lines, summary) = answer(&view, &cat);
        assert_eq!(summary["damage"], 0);
        let gone = || first(&spool.status().state);
        let found = check(&lines, gone(), "live");
        let end = found.map_or(0, |(_, to)| to + 1);
        assert!(end <= state.next_seq, "never later than the view");
        assert!(end == state.next_seq || state.next_seq <= gone(), "all that was durable then");
        assert!(found.is_none_or(|(from, _)| from >= first(&state)));
        // What waited at that moment may go as soon as nobody waits for it any more.
        let (lines, _) = answer(&view, &waiting);
        let found = check(&lines, gone(), "waiting");
        assert!(found.is_none_or(|(from, _)| from >= state.oldest_needed()));
        // The same beside it, by the directory.
        if rounds % 5 == 0 {
            let lines = json(dir.path(), &["cat"]);
            check(&lines, gone(), "directory");
            let verified = answer(&spool.inspection(), &Question::Verify).1;
            assert_eq!((&verified["damage"], &verified["undecodable"]), (&0.into(), &0.into()));
        }
        // A view whose oldest segments are gone has no damage, and begins behind them.
        if gone() > first(&state) {
            removed += 1;
            let (lines, summary) = answer(&view, &cat);
            assert_eq!(summary["damage"], 0);
            check(&lines, gone(), "removed under it");
        }
        removed >= 2 && rounds >= 10
    });
    stop.store(true, Ordering::Relaxed);
    let logs = writer.join().unwrap();
    let view = spool.inspection();
    let (lines, _) = answer(&view, &cat);
    let (from, to) = check(&lines, 0, "at the end").unwrap();
    assert_eq!((from, to), (first(&view.state()), logs.last().unwrap().seq));
    spool.close();
}

/// Wants an answer until told to stop.
struct Shared {
    lines: Arc<Mutex<Vec<Value>>>,
    stop: Arc<AtomicBool>,
}

impl inspect::Output for Shared {
    fn line(&mut self, line: &Value) -> std::io::Result<()> {
        self.lines.lock().unwrap().push(line.clone());
        Ok(())
    }

    fn is_wanted(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

#[test]
fn a_follower_gets_every_log_once_and_ends_when_it_is_not_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let (lines, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
    let mut out = Shared { lines: Arc::clone(&lines), stop: Arc::clone(&stop) };
    let view = spool.inspection();
    let follower = std::thread::spawn(move || {
        let question = Question::Cat { selection: Selection::default(), limit: None, follow: true };
        inspect::answer(&view, &question, &mut out).map(|summary| summary["logs"].clone())
    });
    let mut child = command(dir.path(), &["cat", "--follow", "--json"]);
    let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let beside: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&beside);
    let reader = std::thread::spawn(move || {
        stdout.lines().map_while(Result::ok).for_each(|line| kept.lock().unwrap().push(line));
    });

    let mut maker = Maker::new(4);
    let mut count = 0;
    let runtime = runtime();
    for _ in 0..6 {
        let (key, batch, logs) = maker.next();
        runtime.block_on(append(&spool, key, batch));
        count += logs.len();
        // Each comes before the next is there.
        wait_for("the log to be followed", || lines.lock().unwrap().len() == count);
    }
    wait_for("the logs to be followed beside", || beside.lock().unwrap().len() == count);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap();
    let beside: Vec<Value> =
        beside.lock().unwrap().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(beside, *lines.lock().unwrap());
    check(&beside, 0, "followed");
    stop.store(true, Ordering::Relaxed);
    assert_eq!(follower.join().unwrap().unwrap(), count);
    spool.close();
}

#[test]
fn a_follower_with_an_end_ends_there() {
    let scene = crate::scene::Scene::new();
    let spool = Inspection::open(scene.path()).unwrap();
    let follow = |limit, to_seq| Question::Cat {
        selection: Selection { to_seq, ..Selection::default() },
        limit,
        follow: true,
    };
    assert_eq!(answer(&spool, &follow(Some(10), None)).0.len(), 10);
    let until = scene.logs.iter().filter(|log| log.seq < 5).count();
    assert_eq!(answer(&spool, &follow(None, Some(5))).0.len(), until);
}
