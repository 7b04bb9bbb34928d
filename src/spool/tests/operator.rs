//! What operators order: hold, release, drop; batches that are not the next of their shard;
//! delivered segments that stay for a while.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::super::disk::{Disk as _, OsDisk};
use super::super::scan::{batches, footer};
use super::super::sim::{Failure, SimDisk};
use super::super::{Error, Options, Origin, Position, Retention, Span, Spool, segment};
use super::{after, batch, begin, cursor, drain, key, options, runtime};

const SIEM: &str = "siem";

fn span(first: u64, end: u64) -> Span {
    Span { first, end }
}

fn open(disk: &SimDisk) -> Spool {
    Spool::open_simulated(Arc::new(disk.clone()), &options(Path::new("sim"))).unwrap().0
}

async fn with_batches(disk: &SimDisk, count: u64) -> Spool {
    let spool = open(disk);
    spool.set_destinations(&[SIEM.to_owned()]).await.unwrap();
    let tenure = begin(&spool, 0).await;
    for number in 0..count {
        spool.append(&tenure, batch(number, format!("body {number}"))).await.unwrap();
    }
    spool
}

fn delivered(spool: &Spool, from: u64) -> Vec<u64> {
    drain(&mut spool.delivery_reader(from)).iter().map(|batch| batch.header.seq).collect()
}

#[test]
fn a_hold_stops_delivery_in_front_of_it_until_it_is_released_also_after_a_restart() {
    runtime().block_on(async {
        let disk = SimDisk::default();
        let spool = with_batches(&disk, 6).await;
        spool.hold(span(2, 4)).await.unwrap();
        assert_eq!(delivered(&spool, 0), [0, 1]);
        assert_eq!(drain(&mut spool.reader(0)).len(), 6, "looking is not delivering");
        spool.close();
        let spool = open(&disk);
        assert_eq!(delivered(&spool, 0), [0, 1]);
        let mut durable = spool.durable();
        durable.borrow_and_update();
        spool.release(span(2, 4)).await.unwrap();
        assert!(durable.has_changed().unwrap(), "who waits for more is woken");
        assert_eq!(delivered(&spool, 2), [2, 3, 4, 5]);
        spool.close();
    });
}

#[test]
fn dropped_batches_are_left_out_and_positions_go_on_behind_them() {
    runtime().block_on(async {
        let disk = SimDisk::default();
        let spool = with_batches(&disk, 6).await;
        spool.discard(span(0, 2), 2).await.unwrap();
        let at = spool.delivered(SIEM).unwrap();
        assert_eq!((at.position.seq, at.log), (2, 2));
        spool.discard(span(4, 6), 6).await.unwrap();
        spool.close();
        let spool = open(&disk);
        let read = drain(&mut spool.delivery_reader(2));
        assert_eq!(read.iter().map(|batch| batch.header.seq).collect::<Vec<_>>(), [2, 3]);
        let (position, log) = after(&read[1]);
        spool.ack(SIEM, position, log);
        spool.flush().await.unwrap();
        let at = spool.delivered(SIEM).unwrap();
        assert_eq!((at.position.seq, at.log), (6, 6), "the end was dropped");
        assert_eq!(spool.waiting(), 0);
        spool.close();
    });
}

#[test]
fn a_hold_behind_batches_that_are_gone_stops_a_reader_that_still_stands_before_them() {
    runtime().block_on(async {
        let disk = SimDisk::default();
        let spool = with_batches(&disk, 1).await;
        let tenure = begin(&spool, 0).await;
        // The dropped batch is the last one of its segment, the held one the first of the next.
        spool.append(&tenure, batch(1, vec![7; 1_100_000])).await.unwrap();
        spool.append(&tenure, batch(2, "held")).await.unwrap();
        assert_eq!(spool.status().state.segments.len(), 2);
        spool.discard(span(1, 2), 2).await.unwrap();
        spool.hold(span(2, 3)).await.unwrap();
        let mut reader = spool.delivery_reader(0);
        let Some(super::Item::Batch(first)) = reader.read().unwrap() else { panic!("a batch") };
        let (position, log) = after(&first);
        spool.ack(SIEM, position, log);
        spool.flush().await.unwrap();
        let state = spool.status().state;
        assert!(state.drops.is_empty() && state.segments.len() == 1, "the segment is gone");
        assert!(reader.read().unwrap().is_none());
        spool.release(span(2, 3)).await.unwrap();
        assert_eq!(drain(&mut reader).len(), 1);
        spool.close();
    });
}

/// What was told as failed used to stay among the changes, and was written with the next ones.
#[test]
fn an_order_that_the_disk_refused_does_not_take_effect_later() {
    runtime().block_on(async {
        let disk = SimDisk::default();
        let spool = with_batches(&disk, 6).await;
        spool.hold(span(2, 3)).await.unwrap();
        disk.fail(0, Failure::ReadOnly, u64::MAX);
        for result in [
            spool.hold(span(4, 5)).await.map(drop),
            spool.discard(span(2, 3), 3).await,
            spool.release(span(2, 3)).await,
            spool.intend(key(0), cursor(6)).await,
            spool.forget_destination(SIEM).await,
        ] {
            assert!(matches!(result, Err(Error::Io { .. })), "{result:?}");
        }
        disk.heal();
        // An ack is taken whatever the disk says, and written once it works.
        spool.ack(SIEM, Position { seq: 1, index: 0 }, 1);
        while spool.flush().await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let state = spool.status().state;
        assert_eq!(state.holds.iter().collect::<Vec<_>>(), [span(2, 3)]);
        assert!(state.drops.is_empty());
        assert_eq!(state.shards[&key(0)].chain.len(), 7);
        assert_eq!(state.destinations[SIEM].position.seq, 1);
        spool.close();
    });
}

#[test]
fn a_dropped_batch_cannot_be_held_or_dropped_once_more() {
    runtime().block_on(async {
        let disk = SimDisk::default();
        let spool = with_batches(&disk, 6).await;
        spool.discard(span(3, 4), 4).await.unwrap();
        for result in [spool.hold(span(2, 5)).await.map(drop), spool.discard(span(3, 5), 5).await] {
            assert!(matches!(result, Err(Error::OutOfReach { seq: 3, .. })), "{result:?}");
        }
        assert!(spool.status().state.holds.is_empty());
        spool.close();
    });
}

#[test]
fn what_is_on_its_way_delivered_or_not_there_is_out_of_reach() {
    runtime().block_on(async {
        let disk = SimDisk::default();
        let spool = with_batches(&disk, 4).await;
        fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> u64 {
            match result {
                Err(Error::OutOfReach { seq, .. }) => seq,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(refused(spool.hold(span(3, 5)).await), 4);
        assert_eq!(refused(spool.hold(span(2, 2)).await), 1);
        let mut reader = spool.delivery_reader(0);
        let first = match reader.read().unwrap().unwrap() {
            super::Item::Batch(batch) => batch,
            super::Item::Damage(damage) => panic!("{damage:?}"),
        };
        assert_eq!(refused(spool.discard(span(0, 1), 1).await), 0);
        let (position, log) = after(&first);
        spool.ack(SIEM, position, log);
        spool.flush().await.unwrap();
        assert_eq!(refused(spool.discard(span(0, 2), 2).await), 0);
        assert!(spool.status().state.holds.is_empty(), "a refused order leaves nothing behind");
        spool.discard(span(1, 2), 2).await.unwrap();
        spool.close();
    });
}

#[test]
fn an_inserted_batch_is_delivered_and_moves_no_shard() {
    runtime().block_on(async {
        let disk = SimDisk::default();
        let spool = with_batches(&disk, 2).await;
        let tenure = begin(&spool, 0).await;
        let seq = spool.insert(key(0), batch(0, "again"), Origin::Refetch).await.unwrap();
        assert_eq!(seq, 2);
        assert_eq!(spool.shard(&key(0)).unwrap().position, cursor(2));
        spool.append(&tenure, batch(2, "next")).await.unwrap();
        let unknown = spool.insert(key(9), batch(7, "foreign"), Origin::Import).await.unwrap();
        assert!(spool.shard(&key(9)).is_none(), "a shard that was never held stays unknown");
        spool.close();
        let spool = open(&disk);
        let read = drain(&mut spool.delivery_reader(2));
        let origins: Vec<_> = read.iter().map(|batch| batch.header.origin).collect();
        assert_eq!(origins, [Origin::Refetch, Origin::Live, Origin::Import]);
        assert_eq!((unknown, read[2].header.key.clone()), (4, key(9)));
        assert_eq!(spool.shard(&key(0)).unwrap().position, cursor(3));
        spool.close();
    });
}

/// Fills some segments of 1 MiB with what SLS received `age` ago, and delivers everything.
async fn fill_and_deliver(spool: &Spool, count: u64, age: Duration) {
    spool.set_destinations(&[SIEM.to_owned()]).await.unwrap();
    let tenure = begin(spool, 0).await;
    let from = spool.status().state.next_seq;
    for number in from..from + count {
        let mut batch = batch(number, vec![7; 400_000]);
        let received = jiff::Timestamp::now() - age;
        batch.received_at = received.as_millisecond();
        spool.append(&tenure, batch).await.unwrap();
        let last = drain(&mut spool.delivery_reader(number)).pop().unwrap();
        let (position, log) = after(&last);
        spool.ack(SIEM, position, log);
        spool.flush().await.unwrap();
    }
}

#[test]
fn delivered_segments_stay_as_long_and_as_large_as_retention_says() {
    runtime().block_on(async {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let keep = |bytes| Retention { time: hours(1), bytes };
        for (retention, age, least, most) in [
            (Retention::default(), hours(0), 0, 3),
            (keep(4 << 20), hours(0), 8, 14),
            (keep(u64::MAX), hours(0), 20, 20),
            (keep(u64::MAX), hours(2), 0, 3),
        ] {
            let disk = SimDisk::default();
            let options = Options { retention, ..options(Path::new("sim")) };
            let (spool, _) = Spool::open_simulated(Arc::new(disk.clone()), &options).unwrap();
            fill_and_deliver(&spool, 20, age).await;
            let kept = drain(&mut spool.reader(0)).len();
            assert!((least..=most).contains(&kept), "{kept} batches of {age:?} with {retention:?}");
            spool.close();
        }
    });
}

#[test]
fn what_is_only_kept_makes_room_for_new_logs() {
    runtime().block_on(async {
        let disk = SimDisk::default();
        let retention = Retention { time: Duration::from_secs(3600), bytes: u64::MAX };
        let options = Options { retention, ..options(Path::new("sim")) };
        let (spool, _) = Spool::open_simulated(Arc::new(disk.clone()), &options).unwrap();
        fill_and_deliver(&spool, 30, Duration::ZERO).await;
        let tenure = begin(&spool, 0).await;
        let mut room = spool.room();
        for number in 30..60 {
            // As a fetcher does: the same batch again once there is room.
            loop {
                room.borrow_and_update();
                match spool.append(&tenure, batch(number, vec![7; 400_000])).await {
                    Ok(_) => break,
                    Err(Error::Full { .. }) => room.changed().await.unwrap(),
                    Err(error) => panic!("{error}"),
                }
                let waiting = spool.waiting();
                assert!(waiting < 30, "{waiting} batches do not fit");
            }
        }
        assert!(spool.status().used_bytes <= 16 << 20);
        spool.close();
    });
}

#[test]
fn a_sealed_segment_ends_in_a_footer_that_tells_what_its_headers_tell() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let (spool, _) = Spool::open(&options(dir.path())).unwrap();
        spool.set_destinations(&[SIEM.to_owned()]).await.unwrap();
        let (first, second) = (begin(&spool, 0).await, begin(&spool, 1).await);
        for number in 0..30 {
            spool.append(&first, batch(number, vec![1; 100_000])).await.unwrap();
            spool.append(&second, batch(number, vec![2; 50_000])).await.unwrap();
        }
        let state = spool.status().state;
        spool.close();
        let disk = OsDisk::new(dir.path());
        let sealed = state.segments.len() - 1;
        assert!(sealed >= 3, "{sealed}");
        let mut seqs = Vec::new();
        for (&id, info) in state.segments.iter().take(sealed) {
            let file = disk.open(&segment::path(id), false).unwrap();
            let (incarnation, told) = footer(file.as_ref(), id, info.length).unwrap().unwrap();
            seqs.extend(told.iter().map(|batch| batch.header.seq));
            // One byte less and there is no footer: the headers are read instead.
            let (same, read) = batches(file.as_ref(), id, info.length - 1).unwrap();
            assert_eq!((incarnation, &told), (same, &read));
        }
        let last = drain_dir(dir.path()).len() as u64 - seqs.len() as u64;
        seqs.extend(60 - last..60);
        assert_eq!(seqs, (0..60).collect::<Vec<_>>());
    });
}

fn drain_dir(dir: &Path) -> Vec<super::StoredBatch> {
    drain(&mut super::super::inspect::Inspection::open(dir).unwrap().reader(0))
}
