//! Random lives of a spool: passing failures of the disk, killed processes, and power losses,
//! in any order, with operators' orders in between. `power_loss` knows only power losses.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::super::sim::SimDisk;
use super::super::{BatchHeader, Error, Item, Origin, Position, Span, Spool};
use super::{after, batch, begin, key, options, runtime};

#[derive(Default)]
struct Oracle {
    kept: BTreeMap<u64, Vec<u8>>,
    acked: BTreeSet<u64>,
    highest_ack: Position,
    /// What each number that a reader ever saw stood for.
    numbers: BTreeMap<u64, Vec<u8>>,
    /// Inserted batches with an answer, by number, and those whose ack was asked for.
    inserted: BTreeMap<u64, Vec<u8>>,
    inserted_acked: BTreeSet<u64>,
    /// What is held, unless an order for it failed on the way.
    holds: Option<BTreeSet<u64>>,
    /// Batches whose drop was answered, by number.
    dropped: BTreeSet<u64>,
    /// The same with those whose order failed on the way.
    perhaps_dropped: BTreeSet<u64>,
}

impl Oracle {
    /// The batch need not be there any more.
    fn let_go(&mut self, header: &BatchHeader) {
        if header.origin == Origin::Import {
            self.inserted_acked.insert(header.seq);
        } else {
            self.acked.insert(number(&header.cursor));
        }
    }
}

fn number(cursor: &str) -> u64 {
    cursor.trim_start_matches('c').parse().unwrap()
}

fn open(disk: &SimDisk) -> Result<Spool, String> {
    let opened = Spool::open_simulated(Arc::new(disk.clone()), &options(Path::new("sim")));
    let (spool, opened) = opened.map_err(|e| format!("does not open: {e}"))?;
    if opened.damage.is_empty() {
        Ok(spool)
    } else {
        Err(format!("reports damage: {:?}", opened.damage))
    }
}

fn check(spool: &Spool, oracle: &mut Oracle) -> Result<(), String> {
    let state = spool.status().state;
    let delivered = state.destinations.get("siem").map(|d| d.position).unwrap_or_default();
    let mut reached = oracle.highest_ack;
    while oracle.perhaps_dropped.contains(&reached.seq) {
        reached = Position { seq: reached.seq + 1, index: 0 };
    }
    if delivered > reached {
        return Err(format!("delivered {delivered} is ahead of {}", oracle.highest_ack));
    }
    let (mut found, mut inserted) = (BTreeMap::new(), BTreeMap::new());
    let mut reader = spool.reader(delivered.seq);
    while let Some(item) = reader.read().map_err(|e| e.to_string())? {
        let Item::Batch(read) = item else { return Err(format!("damage: {item:?}")) };
        let at = number(&read.header.cursor);
        if read.header.origin == Origin::Import {
            oracle.numbers.insert(read.header.seq, read.body.clone());
            inserted.insert(read.header.seq, read.body);
            continue;
        }
        if found.last_key_value().is_some_and(|(last, _)| *last >= at) {
            return Err(format!("the shard goes back to {at}"));
        }
        if oracle.numbers.get(&read.header.seq).is_some_and(|body| *body != read.body) {
            return Err(format!("number {} was used again", read.header.seq));
        }
        oracle.numbers.insert(read.header.seq, read.body.clone());
        found.insert(at, read.body);
    }
    let position = state.shards.get(&key(0)).map_or(0, |shard| number(&shard.position));
    for (at, body) in &oracle.kept {
        match found.get(at) {
            Some(read) if read == body => {}
            Some(_) => return Err(format!("{at} came back with other bytes")),
            None if oracle.acked.contains(at) => {}
            None => return Err(format!("{at} had a receipt and is gone")),
        }
        if position <= *at {
            return Err(format!("the shard would be pulled again from {position}, behind {at}"));
        }
    }
    for (seq, body) in &oracle.inserted {
        if inserted.get(seq) != Some(body) && !oracle.inserted_acked.contains(seq) {
            return Err(format!("inserted batch {seq} is gone or has other bytes"));
        }
    }
    let held: BTreeSet<u64> = state.holds.iter().flat_map(|span| span.first..span.end).collect();
    if oracle.holds.as_ref().is_some_and(|holds| *holds != held) {
        return Err(format!("{held:?} is held in place of {:?}", oracle.holds));
    }
    let due = |seq: &&u64| **seq >= delivered.seq && !state.is_dropped(**seq);
    if let Some(seq) = oracle.dropped.iter().find(due) {
        return Err(format!("batch {seq} was dropped and would be delivered"));
    }
    // What the position says is there, is there: no hole in front of it.
    let first = found.first_key_value().map_or(position, |(at, _)| *at);
    for at in first..position {
        if !found.contains_key(&at) && !oracle.acked.contains(&at) {
            return Err(format!("the shard goes on at {position}, and {at} is missing"));
        }
    }
    Ok(())
}

async fn work(spool: &Spool, disk: &SimDisk, rng: &mut fastrand::Rng, oracle: &mut Oracle) {
    if spool.set_destinations(&["siem".to_owned()]).await.is_err() {
        return;
    }
    let tenure = begin(spool, 0).await;
    let from = spool.delivered("siem").map_or(0, |delivered| delivered.position.seq);
    let mut reader = spool.delivery_reader(from);
    for _ in 0..rng.u32(1..30) {
        match rng.u8(..16) {
            0 => disk.stop_after(rng.u64(..8)),
            1 | 2 => disk.stop_after(u64::MAX),
            3..=5 => {
                let Ok(Some(Item::Batch(read))) = reader.read() else { continue };
                let (position, log) = after(&read);
                spool.ack("siem", position, log);
                oracle.let_go(&read.header);
                oracle.highest_ack = position;
                oracle.numbers.insert(read.header.seq, read.body);
                if rng.bool() {
                    let _ = spool.flush().await;
                }
            }
            12 => {
                let body: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(500).collect();
                let again = batch(rng.u64(..90), body.clone());
                if let Ok(seq) = spool.insert(key(9), again, Origin::Import).await {
                    oracle.inserted.insert(seq, body);
                }
            }
            13..=15 => order(spool, rng, oracle).await,
            _ => {
                let at = spool.shard(&key(0)).map_or(0, |state| number(&state.position));
                let size = if rng.u8(..6) == 0 { rng.usize(..600_000) } else { rng.usize(..9000) };
                let mut body: Vec<u8> = vec![rng.u8(..); size];
                body.extend_from_slice(&rng.u64(..).to_le_bytes());
                match spool.append(&tenure, batch(at, body.clone())).await {
                    Ok(_) => drop(oracle.kept.insert(at, body)),
                    // A new segment is tried half a second later.
                    Err(super::Error::Io { .. }) if rng.u8(..4) == 0 => {
                        disk.stop_after(u64::MAX);
                        tokio::time::sleep(std::time::Duration::from_millis(510)).await;
                    }
                    Err(_) => {}
                }
            }
        }
    }
}

/// Holds, releases or drops some of what no reader has taken.
async fn order(spool: &Spool, rng: &mut fastrand::Rng, oracle: &mut Oracle) {
    let first = rng.u64(..=spool.status().state.next_seq);
    let span = Span { first, end: first + rng.u64(1..4) };
    match rng.u8(..3) {
        0 => match (spool.hold(span).await, &mut oracle.holds) {
            (Ok(_), Some(holds)) => holds.extend(span.first..span.end),
            (Ok(_), None) | (Err(Error::OutOfReach { .. }), _) => {}
            (Err(_), holds) => *holds = None,
        },
        1 => match (spool.release(span).await, &mut oracle.holds) {
            (Ok(()), Some(holds)) => holds.retain(|seq| !span.contains(*seq)),
            (_, holds) => *holds = None,
        },
        _ => discard(spool, span, oracle).await,
    }
}

async fn discard(spool: &Spool, span: Span, oracle: &mut Oracle) {
    let mut reader = spool.reader(span.first);
    let mut batches = Vec::new();
    while let Ok(Some(Item::Batch(read))) = reader.read()
        && span.contains(read.header.seq)
    {
        batches.push(read.header);
    }
    let Some(last) = batches.last().filter(|last| last.seq + 1 == span.end) else { return };
    let outcome = spool.discard(span, last.end_log()).await;
    match (&outcome, &mut oracle.holds) {
        (Err(Error::OutOfReach { .. }), _) => return,
        (Ok(()), Some(holds)) => holds.retain(|seq| !span.contains(*seq)),
        (_, holds) => *holds = None,
    }
    if outcome.is_ok() {
        oracle.dropped.extend(span.first..span.end);
    }
    oracle.perhaps_dropped.extend(span.first..span.end);
    batches.iter().for_each(|header| oracle.let_go(header));
}

fn run(seed: u64) -> Result<(), String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut oracle = Oracle { holds: Some(BTreeSet::new()), ..Oracle::default() };
    let mut disk = SimDisk::default();
    for _ in 0..rng.u32(2..6) {
        let spool = open(&disk)?;
        check(&spool, &mut oracle)?;
        runtime().block_on(work(&spool, &disk, &mut rng, &mut oracle));
        // The process ends here: everything it still tries fails.
        if rng.bool() {
            disk.stop_after(rng.u64(..4));
        }
        if rng.bool() {
            let lost = disk.lose_power(&mut rng);
            spool.close();
            disk = lost;
        } else {
            disk.stop_after(0);
            spool.close();
            disk.stop_after(u64::MAX);
        }
    }
    let spool = open(&disk)?;
    check(&spool, &mut oracle)?;
    spool.close();
    Ok(())
}

/// `SLS_RELAY_POWER_LOSS_CASES` runs more, `SLS_RELAY_SEED` one.
#[test]
fn every_receipt_holds_through_passing_failures_kills_and_power_losses() {
    let env = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let cases = env("SLS_RELAY_POWER_LOSS_CASES").unwrap_or(100);
    let seeds = env("SLS_RELAY_SEED").map_or(0..cases, |seed| seed..seed + 1);
    let mut failures = Vec::new();
    for seed in seeds {
        if let Err(what) = run(seed) {
            failures.push(format!("seed {seed}: {what}"));
        }
    }
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
}
