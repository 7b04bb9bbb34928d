//! Single promises of the spool.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::inspect::Inspection;
use super::super::sim::SimDisk;
use super::super::{Error, Item, Lock, Position, Spool, identity, segment};
use super::{after, batch, begin, cursor, drain, is_full, key, options, runtime};

fn siem() -> Vec<String> {
    vec!["siem".to_owned()]
}

fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        std::fs::read_dir(dir.join("segments")).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn batches_come_back_byte_for_byte_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let (spool, _) = Spool::open(&options(dir.path())).unwrap();
        spool.set_destinations(&siem()).await.unwrap();
        let tenure = begin(&spool, 7).await;
        for number in 0..5 {
            let body = vec![u8::try_from(number).unwrap(); 1000];
            spool.append(&tenure, batch(number, body)).await.unwrap();
        }
        spool.close();
        let (spool, opened) = Spool::open(&options(dir.path())).unwrap();
        assert_eq!((opened.cut_bytes, opened.damage.len()), (0, 0));
        let read = drain(&mut spool.reader(0));
        assert_eq!(read.len(), 5);
        for (number, batch) in read.iter().enumerate() {
            assert_eq!(batch.header.key, key(7));
            assert_eq!(batch.header.seq, number as u64);
            assert_eq!(batch.header.first_log, number as u64);
            assert_eq!(batch.body, vec![u8::try_from(number).unwrap(); 1000]);
        }
        assert_eq!(spool.shard(&key(7)).unwrap().position, cursor(5));
        spool.close();
    });
}

#[test]
fn a_batch_that_does_not_continue_its_shard_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let (spool, _) = Spool::open(&options(dir.path())).unwrap();
        let tenure = begin(&spool, 0).await;
        spool.append(&tenure, batch(0, "a")).await.unwrap();
        let gap = spool.append(&tenure, batch(2, "c")).await.unwrap_err();
        assert!(matches!(gap, Error::NotContinuous { .. }), "{gap}");
        let again = spool.append(&tenure, batch(0, "a")).await.unwrap_err();
        assert!(matches!(again, Error::NotContinuous { .. }), "{again}");
        spool.close();
    });
}

#[test]
fn a_tenure_that_ended_cannot_append() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let (spool, _) = Spool::open(&options(dir.path())).unwrap();
        let old = begin(&spool, 0).await;
        let new = begin(&spool, 0).await;
        let error = spool.append(&old, batch(0, "a")).await.unwrap_err();
        assert!(matches!(error, Error::TenureEnded { .. }), "{error}");
        spool.append(&new, batch(0, "a")).await.unwrap();
        spool.end(&new);
        let error = spool.append(&new, batch(1, "b")).await.unwrap_err();
        assert!(matches!(error, Error::TenureEnded { .. }), "{error}");
        spool.close();
    });
}

#[test]
fn the_chain_of_cursors_survives_until_a_commit_is_known() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let (spool, _) = Spool::open(&options(dir.path())).unwrap();
        let tenure = begin(&spool, 0).await;
        for number in 0..3 {
            spool.append(&tenure, batch(number, "x")).await.unwrap();
        }
        spool.close();
        let (spool, _) = Spool::open(&options(dir.path())).unwrap();
        let shard = spool.shard(&key(0)).unwrap();
        // A commit of any of them may have reached the server before the crash.
        for ours in 0..=3 {
            assert!(shard.is_ours(Some(&cursor(ours))), "{ours}");
        }
        assert!(shard.is_ours(None));
        assert!(!shard.is_ours(Some("c99")));
        spool.committed(key(0), cursor(2));
        spool.flush().await.unwrap();
        let shard = spool.shard(&key(0)).unwrap();
        assert!(!shard.is_ours(Some(&cursor(1))) && !shard.is_ours(None));
        assert!(shard.is_ours(Some(&cursor(2))) && shard.is_ours(Some(&cursor(3))));
        spool.close();
    });
}

#[test]
fn the_quota_refuses_batches_and_acks_make_room_again() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let (spool, _) = Spool::open(&options(dir.path())).unwrap();
        spool.set_destinations(&siem()).await.unwrap();
        let tenure = begin(&spool, 0).await;
        let mut stored = 0;
        let refused = loop {
            match spool.append(&tenure, batch(stored, vec![7; 300_000])).await {
                Ok(_) => stored += 1,
                Err(error) => break error,
            }
            assert!(stored < 100, "the quota never held");
        };
        assert!(is_full(&refused), "{refused}");
        assert!(spool.status().used_bytes <= spool.status().max_bytes);
        let mut room = spool.room();
        let mut reader = spool.reader(0);
        for read in drain(&mut reader) {
            let (position, log) = after(&read);
            spool.ack("siem", position, log);
        }
        room.changed().await.unwrap();
        // What was refused is accepted as it is, and at once: nothing was lost by the refusal,
        // and who is told of room finds it.
        spool.append(&tenure, batch(stored, vec![7; 300_000])).await.unwrap();
        assert!(segment_files(dir.path()).len() <= 2, "drained segments were not removed");
        spool.close();
    });
}

#[test]
fn numbers_go_on_after_the_spool_ran_empty() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        for round in 0..4 {
            let (spool, _) = Spool::open(&options(dir.path())).unwrap();
            spool.set_destinations(&siem()).await.unwrap();
            let tenure = begin(&spool, 0).await;
            spool.append(&tenure, batch(round, "x")).await.unwrap();
            let read = drain(&mut spool.reader(round));
            assert_eq!(read.last().unwrap().header.seq, round);
            spool.ack("siem", Position { seq: round + 1, index: 0 }, round + 1);
            spool.flush().await.unwrap();
            spool.close();
        }
        assert!(segment_files(dir.path()).len() <= 2);
    });
}

#[test]
fn a_second_process_is_told_who_holds_the_spool() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(&options(dir.path())).unwrap();
    let Err(error) = Spool::open(&options(dir.path())) else { panic!("opened twice") };
    let text = error.to_string();
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    assert!(Lock::holder(dir.path()).is_some());
    spool.close();
    assert!(Lock::holder(dir.path()).is_none());
}

#[test]
fn the_identity_is_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let made = identity(dir.path()).unwrap();
    assert_eq!(made.len(), 8);
    assert_eq!(identity(dir.path()).unwrap(), made);
}

#[test]
fn a_spool_without_catalog_or_with_a_broken_one_opens_the_same() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let (spool, _) = Spool::open(&options(dir.path())).unwrap();
        spool.set_destinations(&siem()).await.unwrap();
        let tenure = begin(&spool, 0).await;
        for number in 0..20 {
            spool.append(&tenure, batch(number, vec![9; 2000])).await.unwrap();
        }
        spool.close();
        let catalog = dir.path().join("catalog");
        for damage in ["gone", "garbage"] {
            if damage == "gone" {
                std::fs::remove_dir_all(&catalog).unwrap();
            } else {
                std::fs::write(catalog.join("db"), vec![0xa5; 100_000]).unwrap();
                std::fs::write(catalog.join("conf"), "nonsense").unwrap();
            }
            let (spool, opened) = Spool::open(&options(dir.path())).unwrap();
            assert!(opened.damage.is_empty(), "{damage}");
            assert_eq!(drain(&mut spool.reader(0)).len(), 20, "{damage}");
            // Read from the middle: found by the catalog where there is one.
            assert_eq!(drain(&mut spool.reader(13)).len(), 7, "{damage}");
            spool.close();
        }
    });
}

#[test]
fn a_flipped_bit_costs_one_batch_and_is_reported() {
    let rt = runtime();
    let mut rng = fastrand::Rng::with_seed(5);
    for case in 0..60 {
        let disk = SimDisk::default();
        rt.block_on(async {
            let (spool, _) =
                Spool::open_simulated(Arc::new(disk.clone()), &options(Path::new("s"))).unwrap();
            spool.set_destinations(&siem()).await.unwrap();
            let tenure = begin(&spool, 0).await;
            for number in 0..30 {
                spool.append(&tenure, batch(number, vec![3; 700])).await.unwrap();
            }
            let length = spool.status().state.segments.values().last().unwrap().length;
            let offset = rng.usize(32..usize::try_from(length).unwrap());
            // Half the cases while the segment is open, half after a restart sealed it.
            let spool = if case % 2 == 0 {
                spool
            } else {
                spool.close();
                Spool::open_simulated(Arc::new(disk.clone()), &options(Path::new("s"))).unwrap().0
            };
            disk.flip_bit(&segment::path(1), offset);
            let mut reader = spool.reader(0);
            let (mut batches, mut damage) = (Vec::new(), Vec::new());
            while let Some(item) = reader.read().unwrap() {
                match item {
                    Item::Batch(read) => batches.push(read.header.seq),
                    Item::Damage(found) => damage.push(found),
                }
            }
            assert!(batches.len() >= 29, "case {case} at {offset}: {batches:?}");
            assert!(batches.is_sorted_by(|a, b| a < b), "case {case}: {batches:?}");
            if batches.len() < 30 {
                assert_eq!(damage.len(), 1, "case {case} at {offset}");
                spool.set_aside(&damage[0]).unwrap();
                spool.set_aside(&damage[0]).unwrap();
            }
            spool.close();
        });
    }
}

#[test]
fn damage_below_a_proven_barrier_does_not_cut_what_follows() {
    // A header is checked when the spool opens, a body when it is read.
    for (place, at_open) in [(100, 1), (500, 0)] {
        let dir = tempfile::tempdir().unwrap();
        runtime().block_on(async {
            let (spool, _) = Spool::open(&options(dir.path())).unwrap();
            spool.set_destinations(&siem()).await.unwrap();
            let tenure = begin(&spool, 0).await;
            let mut ends = Vec::new();
            for number in 0..10 {
                spool.append(&tenure, batch(number, vec![3; 700])).await.unwrap();
                ends.push(spool.status().state.segments.values().last().unwrap().length);
            }
            spool.close();
            let newest = segment_files(dir.path()).pop().unwrap();
            let mut bytes = std::fs::read(&newest).unwrap();
            let middle = usize::try_from(ends[4]).unwrap() + place;
            bytes[middle] ^= 1;
            std::fs::write(&newest, bytes).unwrap();
            let (spool, opened) = Spool::open(&options(dir.path())).unwrap();
            assert_eq!((opened.damage.len(), opened.cut_bytes), (at_open, 0), "at {place}");
            let mut reader = spool.reader(0);
            let (mut seen, mut damage) = (Vec::new(), Vec::new());
            while let Some(item) = reader.read().unwrap() {
                match item {
                    Item::Batch(read) => seen.push(read.header.seq),
                    Item::Damage(found) => damage.push(found),
                }
            }
            assert_eq!(seen, [0, 1, 2, 3, 4, 6, 7, 8, 9], "at {place}");
            assert_eq!((damage[0].first_seq, damage[0].end_seq), (5, 6), "at {place}");
            spool.set_aside(&damage[0]).unwrap();
            let kept = std::fs::read_dir(dir.path().join("quarantine")).unwrap().count();
            assert_eq!(kept, 1, "at {place}");
            assert_eq!(spool.status().state.next_seq, 10);
            spool.close();
        });
    }
}

#[test]
fn an_unfinished_write_is_cut_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let (spool, _) = Spool::open(&options(dir.path())).unwrap();
        spool.set_destinations(&siem()).await.unwrap();
        let tenure = begin(&spool, 0).await;
        for number in 0..3 {
            spool.append(&tenure, batch(number, vec![3; 700])).await.unwrap();
        }
        spool.close();
        let newest = segment_files(dir.path()).pop().unwrap();
        let bytes = std::fs::read(&newest).unwrap();
        // The last group again, but without its end.
        let tail = bytes[bytes.len() - 600..bytes.len() - 100].to_vec();
        std::fs::write(&newest, [bytes.as_slice(), &tail].concat()).unwrap();
        let before = std::fs::read(&newest).unwrap();
        let seen = Inspection::open(dir.path()).unwrap();
        assert_eq!(seen.unfinished_bytes, 500);
        assert_eq!(std::fs::read(&newest).unwrap(), before, "inspecting changed a file");
        let (spool, opened) = Spool::open(&options(dir.path())).unwrap();
        assert_eq!((opened.cut_bytes, opened.damage.len()), (500, 0));
        assert_eq!(drain(&mut spool.reader(0)).len(), 3);
        spool.close();
    });
}

#[test]
fn a_missing_segment_is_damage_and_the_rest_is_read() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let (spool, _) = Spool::open(&options(dir.path())).unwrap();
        spool.set_destinations(&siem()).await.unwrap();
        let tenure = begin(&spool, 0).await;
        for number in 0..12 {
            spool.append(&tenure, batch(number, vec![3; 400_000])).await.unwrap();
        }
        spool.close();
        let files = segment_files(dir.path());
        assert!(files.len() > 3);
        std::fs::remove_file(&files[1]).unwrap();
        let (spool, opened) = Spool::open(&options(dir.path())).unwrap();
        assert_eq!(opened.damage.len(), 1);
        let lost = opened.damage[0].end_seq - opened.damage[0].first_seq;
        let mut reader = spool.reader(0);
        let mut read = 0;
        while let Some(item) = reader.read().unwrap() {
            read += u64::from(matches!(item, Item::Batch(_)));
        }
        assert_eq!(read + lost, 12);
        spool.close();
    });
}

#[test]
fn the_slowest_destination_holds_the_segments_until_it_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let (spool, _) = Spool::open(&options(dir.path())).unwrap();
        let both = vec!["fast".to_owned(), "slow".to_owned()];
        spool.set_destinations(&both).await.unwrap();
        let tenure = begin(&spool, 0).await;
        for number in 0..8 {
            spool.append(&tenure, batch(number, vec![3; 400_000])).await.unwrap();
        }
        spool.ack("fast", Position { seq: 8, index: 0 }, 8);
        spool.flush().await.unwrap();
        assert_eq!(drain(&mut spool.reader(0)).len(), 8);
        let vanished = spool.set_destinations(&["fast".to_owned()]).await.unwrap();
        assert_eq!(vanished, ["slow"]);
        spool.forget_destination("slow").await.unwrap();
        assert_eq!(spool.status().state.oldest_needed(), 8);
        assert!(segment_files(dir.path()).len() <= 2);
        spool.close();
    });
}
