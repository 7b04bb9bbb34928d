//! Random lives of a spool: passing failures of the disk, killed processes, and power losses,
//! in any order. `power_loss` knows only the last of these.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::super::sim::SimDisk;
use super::super::{Item, Position, Spool};
use super::{after, batch, begin, key, options, runtime};

#[derive(Default)]
struct Oracle {
    kept: BTreeMap<u64, Vec<u8>>,
    acked: BTreeSet<u64>,
    highest_ack: Position,
    /// What each number that a reader ever saw stood for.
    numbers: BTreeMap<u64, Vec<u8>>,
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
    if delivered > oracle.highest_ack {
        return Err(format!("delivered {delivered} is ahead of {}", oracle.highest_ack));
    }
    let mut found = BTreeMap::new();
    let mut reader = spool.reader(delivered.seq);
    while let Some(item) = reader.read().map_err(|e| e.to_string())? {
        let Item::Batch(read) = item else { return Err(format!("damage: {item:?}")) };
        let at = number(&read.header.cursor);
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
    let mut reader = spool.reader(from);
    for _ in 0..rng.u32(1..30) {
        match rng.u8(..12) {
            0 => disk.stop_after(rng.u64(..8)),
            1 | 2 => disk.stop_after(u64::MAX),
            3..=5 => {
                let Ok(Some(Item::Batch(read))) = reader.read() else { continue };
                let (position, log) = after(&read);
                spool.ack("siem", position, log);
                oracle.acked.insert(number(&read.header.cursor));
                oracle.highest_ack = position;
                oracle.numbers.insert(read.header.seq, read.body);
                if rng.bool() {
                    let _ = spool.flush().await;
                }
            }
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

fn run(seed: u64) -> Result<(), String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut oracle = Oracle::default();
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
