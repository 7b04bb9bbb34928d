//! Whatever order the disk keeps un-synced writes in, every receipt holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::super::sim::SimDisk;
use super::super::{Error, Keys, Opened, Options, Position, Spool};
use super::{batch, begin, cursor, key, keys, options, runtime};

/// What must be true after a power loss.
#[derive(Default)]
struct Oracle {
    /// Batches with a receipt: shard and number, and what the body was.
    kept: BTreeMap<(u32, u64), Vec<u8>>,
    /// Batches whose ack was asked for.
    acked: BTreeSet<(u32, u64)>,
    highest_ack: Position,
    highest_seq: u64,
    keys: Keys,
}

fn open(disk: &SimDisk, keys: &Keys) -> Result<(Spool, Opened), Error> {
    let options = Options { keys: keys.clone(), ..options(Path::new("sim")) };
    Spool::open_simulated(Arc::new(disk.clone()), &options)
}

/// One life of a machine: some work, a power loss in the middle, the check after it.
fn live_and_die(
    disk: &SimDisk,
    rng: &mut fastrand::Rng,
    oracle: &mut Oracle,
) -> Result<SimDisk, String> {
    let (spool, opened) = open(disk, &oracle.keys).map_err(|e| format!("does not open: {e}"))?;
    if !opened.damage.is_empty() {
        return Err(format!("reports damage: {:?}", opened.damage));
    }
    check(&spool, oracle)?;
    runtime().block_on(work(&spool, disk, rng, oracle));
    spool.close();
    Ok(disk.lose_power(rng))
}

async fn work(spool: &Spool, disk: &SimDisk, rng: &mut fastrand::Rng, oracle: &mut Oracle) {
    if spool.set_destinations(&["siem".to_owned()]).await.is_err() {
        return;
    }
    let mut tenures = Vec::new();
    for shard in 0..3 {
        tenures.push(begin(spool, shard).await);
    }
    disk.stop_after(rng.u64(1..120));
    let from = spool.delivered("siem").map_or(0, |delivered| delivered.position.seq);
    let mut reader = spool.reader(from);
    for _ in 0..rng.u32(1..60) {
        if rng.u8(..4) == 0 {
            // Deliver one and acknowledge it.
            let Ok(Some(super::Item::Batch(read))) = reader.read() else { continue };
            let (position, log) = super::after(&read);
            spool.ack("siem", position, log);
            oracle.acked.insert((read.header.key.shard, number(&read.header.cursor)));
            oracle.highest_ack = position;
            if rng.bool() && spool.flush().await.is_err() {
                return;
            }
            continue;
        }
        // Several shards at once share one group.
        let together = rng.usize(1..=3);
        let appends =
            tenures[..together].iter().map(|tenure| {
                let at = spool.shard(tenure.key()).map_or(0, |state| number(&state.position));
                let size =
                    if rng.u8(..20) == 0 { rng.usize(..300_000) } else { rng.usize(..20_000) };
                let body: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(size).collect();
                let kept = body.clone();
                async move {
                    (tenure.key().shard, at, kept, spool.append(tenure, batch(at, body)).await)
                }
            });
        let mut dead = false;
        for (shard, at, body, answer) in join_all(appends).await {
            match answer {
                Ok(receipt) => {
                    assert_eq!(receipt.next_cursor(), cursor(at + 1));
                    oracle.kept.insert((shard, at), body);
                }
                Err(_) => dead = true,
            }
        }
        oracle.highest_seq = oracle.highest_seq.max(spool.status().state.next_seq);
        if dead {
            return;
        }
    }
}

fn check(spool: &Spool, oracle: &Oracle) -> Result<(), String> {
    let state = spool.status().state;
    let delivered = state.destinations.get("siem").map(|d| d.position).unwrap_or_default();
    if delivered > oracle.highest_ack {
        return Err(format!("delivered {delivered} is ahead of the acks {}", oracle.highest_ack));
    }
    if state.next_seq < oracle.highest_seq && !oracle.kept.is_empty() {
        return Err(format!("number {} would be used again", state.next_seq));
    }
    let mut found: BTreeMap<(u32, u64), Vec<u8>> = BTreeMap::new();
    let mut last: BTreeMap<u32, u64> = BTreeMap::new();
    let mut reader = spool.reader(delivered.seq);
    while let Some(item) = reader.read().map_err(|e| e.to_string())? {
        let super::Item::Batch(read) = item else { return Err(format!("damage: {item:?}")) };
        let (shard, at) = (read.header.key.shard, number(&read.header.cursor));
        if last.insert(shard, at).is_some_and(|before| before >= at) {
            return Err(format!("shard {shard} goes back to {at}"));
        }
        found.insert((shard, at), read.body);
    }
    for (id, body) in &oracle.kept {
        match found.get(id) {
            Some(read) if read == body => {}
            Some(_) => return Err(format!("{id:?} came back with other bytes")),
            None if oracle.acked.contains(id) => {}
            None => return Err(format!("{id:?} had a receipt and is gone")),
        }
        let position = state.shards.get(&key(id.0)).map_or(0, |shard| number(&shard.position));
        if position <= id.1 {
            return Err(format!("shard {} would be pulled again from {position}", id.0));
        }
    }
    Ok(())
}

fn run(seed: u64, ignore_syncs: bool, keys: Keys) -> Result<(), String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut oracle = Oracle { keys, ..Oracle::default() };
    let mut disk = SimDisk::default();
    for _ in 0..rng.u32(2..5) {
        if ignore_syncs {
            disk.ignore_syncs();
        }
        disk = live_and_die(&disk, &mut rng, &mut oracle)?;
        // A batch that was stored without a receipt may be there or not; numbers never repeat.
        oracle.highest_seq = 0;
    }
    let (spool, _) = open(&disk, &oracle.keys).map_err(|e| format!("does not open: {e}"))?;
    check(&spool, &oracle)?;
    spool.close();
    Ok(())
}

fn number(cursor: &str) -> u64 {
    cursor.trim_start_matches('c').parse().unwrap()
}

async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut pinned: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut ready = true;
        for (future, output) in &mut pinned {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => ready = false,
                }
            }
        }
        if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    pinned.into_iter().filter_map(|(_, output)| output).collect()
}

/// `SLS_RELAY_POWER_LOSS_CASES` runs more, `SLS_RELAY_SEED` one.
#[test]
fn every_receipt_holds_after_power_loss() {
    let env = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let cases = env("SLS_RELAY_POWER_LOSS_CASES").unwrap_or(500);
    let seeds = env("SLS_RELAY_SEED").map_or(0..cases, |seed| seed..seed + 1);
    for seed in seeds {
        if let Err(what) = run(seed, false, Keys::default()) {
            panic!("seed {seed}: {what}");
        }
    }
}

#[test]
fn every_receipt_of_an_encrypted_spool_holds_after_power_loss() {
    for seed in 0..12 {
        if let Err(what) = run(seed, false, keys(&[1])) {
            panic!("seed {seed}: {what}");
        }
    }
}

#[test]
fn without_the_barrier_receipts_would_be_lost() {
    let failing = (0..40).filter(|&seed| run(seed, true, Keys::default()).is_err()).count();
    assert!(failing > 20, "only {failing} of 40 seeds notice that nothing was synced");
}
