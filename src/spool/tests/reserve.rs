//! Opening on a full disk, where only the reserve has room for the positions.

use std::path::Path;
use std::sync::Arc;

use super::super::Spool;
use super::super::disk::Disk;
use super::super::sim::SimDisk;
use super::{after, batch, begin, cursor, drain, key, options, runtime};

const CALLS: u64 = 1 << 40;

/// The crash point `reserve-given-up` needs a full disk, and there is none to be had without
/// privileges: here the power goes at every call around it, that one included.
#[test]
fn power_may_go_at_any_call_while_the_reserve_is_given_up() {
    let (mut calls, mut given_up) = (0, 0);
    loop {
        let disk = full();
        disk.stop_after(calls);
        assert!(reserve(&disk), "no reserve to give up");
        let opened = Spool::open_simulated(Arc::new(disk.clone()), &options(Path::new("sim")));
        given_up += u64::from(!reserve(&disk));
        let whole = opened.is_ok();
        if let Ok((spool, _)) = opened {
            spool.close();
        }
        let disk = disk.lose_power(&mut fastrand::Rng::with_seed(calls));
        // There is room again: whatever the full disk did, nothing is missing.
        disk.set_capacity(None);
        disk.stop_after(CALLS);
        check(&disk, calls);
        if whole {
            break;
        }
        calls += 1;
    }
    assert!(given_up > 1, "only {given_up} of {calls} runs came to the reserve");
}

/// A disk with two batches, one of them acknowledged, and not one free byte.
fn full() -> SimDisk {
    let disk = SimDisk::default();
    runtime().block_on(async {
        let opened = Spool::open_simulated(Arc::new(disk.clone()), &options(Path::new("sim")));
        let (spool, _) = opened.unwrap();
        spool.set_destinations(&["siem".to_owned()]).await.unwrap();
        let tenure = begin(&spool, 0).await;
        for number in 0..2 {
            spool.append(&tenure, batch(number, vec![7; 9000])).await.unwrap();
        }
        let (position, log) = after(&drain(&mut spool.reader(0))[0]);
        spool.ack("siem", position, log);
        spool.flush().await.unwrap();
        spool.close();
    });
    let large = 1 << 30;
    disk.set_capacity(Some(large));
    let used = large - disk.free_bytes().unwrap();
    disk.set_capacity(Some(used));
    disk
}

fn reserve(disk: &SimDisk) -> bool {
    disk.open(Path::new("reserve"), false).is_ok()
}

fn check(disk: &SimDisk, calls: u64) {
    let opened = Spool::open_simulated(Arc::new(disk.clone()), &options(Path::new("sim")));
    let (spool, opened) = opened.unwrap_or_else(|error| panic!("after {calls} calls: {error}"));
    assert!(opened.damage.is_empty(), "after {calls} calls: {:?}", opened.damage);
    let delivered = spool.delivered("siem").unwrap().position.seq;
    assert_eq!(delivered, 1, "after {calls} calls");
    let read = drain(&mut spool.reader(delivered));
    let bodies: Vec<(u64, usize)> = read.iter().map(|b| (b.header.seq, b.body.len())).collect();
    assert_eq!(bodies, [(1, 9000)], "after {calls} calls");
    assert_eq!(spool.shard(&key(0)).unwrap().position, cursor(2), "after {calls} calls");
    spool.close();
}
