//! Promises that were broken once: each test names the defect that it keeps away.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::super::disk::{Disk, DiskFile};
use super::super::sim::{Failure, SimDisk};
use super::super::{Damage, Item, Reader, Spool, read_ledger, segment};
use super::{batch, begin, cursor, drain, key, options, runtime};

const LIFTED: u64 = u64::MAX;

fn open(disk: &SimDisk) -> Spool {
    Spool::open_simulated(Arc::new(disk.clone()), &options(Path::new("sim"))).unwrap().0
}

fn siem() -> Vec<String> {
    vec!["siem".to_owned()]
}

fn numbers(reader: &mut Reader) -> Vec<u64> {
    let mut seen = Vec::new();
    while let Some(item) = reader.read().unwrap() {
        if let Item::Batch(read) = item {
            seen.push(read.header.seq);
        }
    }
    seen
}

/// `roll_if_due` goes on with the old segment after `Segment::create` failed, but the failed
/// one may lie there with a whole snapshot (its file was synced, the directory was not): the
/// next start takes that snapshot for the newest state and never looks behind it.
#[test]
fn batches_appended_after_a_failed_roll_are_there_after_a_restart() {
    for calls in 2..=12 {
        let disk = SimDisk::default();
        runtime().block_on(async {
            let spool = open(&disk);
            spool.set_destinations(&siem()).await.unwrap();
            let tenure = begin(&spool, 0).await;
            disk.stop_after(calls);
            let mut at = 0;
            // This one makes the segment due: 1 MiB.
            spool.append(&tenure, batch(at, vec![1; 1 << 20])).await.unwrap();
            at += 1;
            disk.stop_after(LIFTED);
            // The next ones get receipts as well, in whatever segment.
            for _ in 0..2 {
                if spool.append(&tenure, batch(at, vec![2; 100])).await.is_ok() {
                    at += 1;
                }
            }
            // The process dies here: its disk as it is now, nothing lost by the machine.
            let after = disk.clone();
            let spool = open(&after);
            let position = spool.shard(&key(0)).map(|shard| shard.position);
            let expected: Vec<u64> = (0..at).collect();
            assert_eq!(numbers(&mut spool.reader(0)), expected, "roll failed at call {calls}");
            assert_eq!(position, Some(cursor(at)), "roll failed at call {calls}");
            spool.close();
        });
    }
}

/// `recover` takes a whole group at the end of the newest segment as it finds it in the page
/// cache, and builds a synced snapshot on it, without ever syncing the group itself. A killed
/// process (no power loss) leaves exactly that; so does a failed `fdatasync`.
#[test]
fn a_group_that_recovery_takes_over_survives_a_power_loss_afterwards() {
    let mut rng = fastrand::Rng::with_seed(3);
    for case in 0..40 {
        let disk = SimDisk::default();
        runtime().block_on(async {
            let spool = open(&disk);
            spool.set_destinations(&siem()).await.unwrap();
            let tenure = begin(&spool, 0).await;
            spool.append(&tenure, batch(0, vec![1; 9000])).await.unwrap();
            // Written, and then the process is gone before the barrier.
            disk.stop_after(1);
            spool.append(&tenure, batch(1, vec![2; 9000])).await.unwrap_err();
            spool.close();
            disk.stop_after(LIFTED);
            // A new process on the same, running machine.
            let spool = open(&disk);
            let taken = spool.shard(&key(0)).unwrap().position;
            let tenure = begin(&spool, 0).await;
            let at = taken.trim_start_matches('c').parse().unwrap();
            // This receipt allows a checkpoint behind everything before it.
            spool.append(&tenure, batch(at, vec![3; 9000])).await.unwrap();
            let disk = disk.lose_power(&mut rng);
            spool.close();
            let spool = open(&disk);
            let expected: Vec<u64> = (0..=at).collect();
            let read = numbers(&mut spool.reader(0));
            assert_eq!(read, expected, "case {case}: shard went on at {taken}");
            spool.close();
        });
    }
}

/// `Quota::admit` compares with `used` as it was *before* the last group was written.
#[test]
fn two_large_batches_in_a_row_do_not_pass_the_quota() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let (spool, _) = Spool::open(&options(dir.path())).unwrap();
        spool.set_destinations(&siem()).await.unwrap();
        let tenure = begin(&spool, 0).await;
        let mut stored = 0;
        while spool.append(&tenure, batch(stored, vec![7; 7 << 20])).await.is_ok() {
            stored += 1;
        }
        // One turn of the writer measures again.
        spool.committed(key(0), cursor(1));
        spool.flush().await.unwrap();
        let status = spool.status();
        assert!(
            status.used_bytes <= status.max_bytes,
            "{stored} batches of 7 MiB: {} of {} bytes used",
            status.used_bytes,
            status.max_bytes
        );
        spool.close();
    });
}

/// After an orderly end nothing says that the last group was durable, so a damaged one is cut
/// as "never acknowledged", though its checkpoint may be committed.
#[test]
fn damage_in_the_last_batch_of_an_orderly_closed_spool_is_reported() {
    let disk = SimDisk::default();
    runtime().block_on(async {
        let spool = open(&disk);
        spool.set_destinations(&siem()).await.unwrap();
        let tenure = begin(&spool, 0).await;
        for number in 0..3 {
            spool.append(&tenure, batch(number, vec![3; 700])).await.unwrap();
        }
        let length = spool.status().state.segments.values().last().unwrap().length;
        spool.close();
        disk.flip_bit(&segment::path(1), usize::try_from(length).unwrap() - 300);
        let (spool, opened) =
            Spool::open_simulated(Arc::new(disk.clone()), &options(Path::new("sim"))).unwrap();
        assert_eq!(opened.cut_bytes, 0, "{opened:?}");
        assert_eq!(spool.status().state.next_seq, 3, "a number is used again");
        // The journal of the orderly end proves the group, so its body is not read before now.
        let mut reader = spool.reader(0);
        let (mut seen, mut damage) = (Vec::new(), opened.damage);
        while let Some(item) = reader.read().unwrap() {
            match item {
                Item::Batch(read) => seen.push(read.header.seq),
                Item::Damage(found) => damage.push(found),
            }
        }
        assert_eq!((seen, damage.len()), (vec![0, 1], 1), "{damage:?}");
        assert_eq!((damage[0].first_seq, damage[0].end_seq), (2, 3));
        spool.close();
    });
}

/// A disk that counts what the writer asks of it.
struct Counting {
    disk: SimDisk,
    measured: AtomicU64,
    created: AtomicU64,
}

impl Disk for Counting {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        if path.starts_with(segment::DIR) {
            self.created.fetch_add(1, Ordering::Relaxed);
        }
        self.disk.create(path)
    }
    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(path, write)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.disk.list(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn write_again(&self, path: &Path, from: u64, to: u64) -> io::Result<()> {
        self.disk.write_again(path, from, to)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
    fn used_beside(&self, except: &Path) -> u64 {
        self.disk.used_beside(except)
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.measured.fetch_add(1, Ordering::Relaxed);
        self.disk.free_bytes()
    }
}

/// `patience` is 0 from half a second after a change that cannot be written on.
#[test]
fn the_writer_does_not_spin_while_the_disk_fails() {
    let sim = SimDisk::default();
    let disk = Arc::new(Counting {
        disk: sim.clone(),
        measured: AtomicU64::new(0),
        created: AtomicU64::new(0),
    });
    let (spool, _) =
        Spool::open_simulated(Arc::clone(&disk) as Arc<dyn Disk>, &options(Path::new("sim")))
            .unwrap();
    runtime().block_on(async {
        spool.set_destinations(&siem()).await.unwrap();
        begin(&spool, 0).await;
        sim.stop_after(0);
        let (measured, created) =
            (disk.measured.load(Ordering::Relaxed), disk.created.load(Ordering::Relaxed));
        spool.committed(key(0), cursor(0));
        let start = Instant::now();
        while disk.created.load(Ordering::Relaxed) < created + 3 {
            assert!(start.elapsed() < Duration::from_secs(60), "no new segment is tried");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let turns = disk.measured.load(Ordering::Relaxed) - measured;
        assert!(turns < 200, "{turns} turns for three attempts");
        spool.close();
    });
}

/// Reads once more what the other tests rely on.
#[test]
fn the_harness_itself_loses_nothing() {
    let disk = SimDisk::default();
    runtime().block_on(async {
        let spool = open(&disk);
        spool.set_destinations(&siem()).await.unwrap();
        let tenure = begin(&spool, 0).await;
        spool.append(&tenure, batch(0, vec![1; 9000])).await.unwrap();
        spool.close();
        let spool = open(&disk);
        assert_eq!(drain(&mut spool.reader(0)).len(), 1);
        spool.close();
    });
}

/// `next_group` is asked without the incarnation, and `step` believes any group header: a whole
/// group that an attacker placed in a log is read as the spool's own once the entry around it
/// is damaged. Its number makes the destination pass everything that follows.
#[test]
fn a_group_forged_inside_a_log_is_never_read() {
    let forged = {
        let disk = SimDisk::default();
        let other = SimDisk::default();
        runtime().block_on(async {
            // What the attacker needs is public: the format, and a segment id that is a guess.
            let spool = open(&other);
            let tenure = begin(&spool, 0).await;
            spool.append(&tenure, batch(0, "forged")).await.unwrap();
            spool.close();
        });
        drop(disk);
        let file = other.open(&segment::path(1), false).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_at(&mut bytes, 0).unwrap();
        let starts: Vec<usize> =
            (0..bytes.len() - 4).filter(|&at| &bytes[at..at + 4] == b"SGRP").collect();
        bytes[*starts.last().unwrap()..].to_vec()
    };
    let disk = SimDisk::default();
    runtime().block_on(async {
        let spool = open(&disk);
        spool.set_destinations(&siem()).await.unwrap();
        // So that the forged number 0 is one that is still due.
        let tenure = begin(&spool, 0).await;
        let before = spool.status().state.segments.values().last().unwrap().length;
        spool.append(&tenure, batch(0, forged)).await.unwrap();
        spool.append(&tenure, batch(1, "real")).await.unwrap();
        // Inside the encoded header of the first batch.
        disk.flip_bit(&segment::path(1), usize::try_from(before).unwrap() + 40 + 24 + 3);
        let mut reader = spool.reader(0);
        let mut bodies = Vec::new();
        while let Some(item) = reader.read().unwrap() {
            if let Item::Batch(read) = item {
                bodies.push(String::from_utf8(read.body).unwrap_or_default());
            }
        }
        assert_eq!(bodies, ["real"]);
        spool.close();
    });
}

/// What a failed attempt leaves in the quarantine makes the next one believe it is done.
#[test]
fn setting_aside_works_after_an_attempt_that_failed() {
    let disk = SimDisk::default();
    runtime().block_on(async {
        let spool = open(&disk);
        spool.set_destinations(&siem()).await.unwrap();
        let tenure = begin(&spool, 0).await;
        spool.append(&tenure, batch(0, vec![5; 9000])).await.unwrap();
        let read = drain(&mut spool.reader(0)).remove(0);
        disk.set_capacity(Some(0));
        spool.quarantine(&read, "a test").unwrap_err();
        disk.set_capacity(None);
        spool.quarantine(&read, "a test").unwrap();
        let copy = disk.open(Path::new("quarantine/batch-0.bin"), false).unwrap();
        assert_eq!(copy.len().unwrap(), 9000, "the copy is not whole");
        assert!(disk.open(Path::new("ledger.jsonl"), false).is_ok(), "nothing was noted");
        spool.close();
    });
}

/// Each attempt at a new segment on a failing disk leaves a file, which no quota counts and
/// nothing removes before the floor passes it.
#[test]
fn failed_attempts_at_a_new_segment_leave_no_files() {
    let disk = SimDisk::default();
    runtime().block_on(async {
        let spool = open(&disk);
        spool.set_destinations(&siem()).await.unwrap();
        let tenure = begin(&spool, 0).await;
        spool.append(&tenure, batch(0, vec![1; 9000])).await.unwrap();
        for _ in 0..3 {
            // The group is written and not synced; then a segment is made and not synced.
            disk.stop_after(1);
            spool.append(&tenure, batch(1, vec![1; 9000])).await.unwrap_err();
            tokio::time::sleep(Duration::from_millis(600)).await;
            disk.stop_after(2);
            spool.append(&tenure, batch(1, vec![1; 9000])).await.unwrap_err();
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
        disk.stop_after(LIFTED);
        spool.append(&tenure, batch(1, vec![1; 9000])).await.unwrap();
        let files = disk.list(Path::new(segment::DIR)).unwrap().len();
        let known = spool.status().state.segments.len();
        assert_eq!(files, known, "files that are no segments");
        spool.close();
    });
}

/// What a footer takes in memory counts against the limit of a header as well. One that was
/// only small enough on the disk did not read back, and with it the whole last group, batches
/// with receipts in it included, was taken for an unfinished write.
#[test]
fn a_segment_of_very_many_tiny_batches_is_whole_after_it_was_closed() {
    use super::super::entry::{BatchHeader, Header, Origin};
    use super::super::scan::{Bodies, batches, scan};
    use super::super::segment::{NewEntry, Segment};
    use super::super::state::State;
    let many = 110_000;
    let disk = SimDisk::default();
    disk.create_dir(Path::new(segment::DIR)).unwrap();
    let snapshot = Header::Snapshot(State::default());
    let mut open = Segment::create(&disk, 1, 7, snapshot).unwrap();
    let entry = |at| {
        let (header, _) = BatchHeader::of(batch(at, ""), key(0), (at, at), Origin::Live, 0);
        NewEntry::bare(Header::Batch(header))
    };
    let entries: Vec<_> = (0..many).map(entry).collect();
    open.append_last_group(&entries).unwrap();
    let file = disk.open(&segment::path(1), false).unwrap();
    let found = scan(file.as_ref(), 1, None, Bodies::All).unwrap();
    assert_eq!((found.end, found.length), (open.length, open.length));
    assert_eq!(batches(file.as_ref(), 1, open.length).unwrap().1.len() as u64, many);
}

/// `unlink` is only called when the floor moves: what could not be removed then stays, and no
/// quota counts it.
#[test]
fn a_segment_that_could_not_be_removed_goes_once_the_disk_works_again() {
    let disk = SimDisk::default();
    runtime().block_on(async {
        let spool = open(&disk);
        spool.set_destinations(&siem()).await.unwrap();
        let tenure = begin(&spool, 0).await;
        for number in 0..3 {
            spool.append(&tenure, batch(number, vec![1; 700_000])).await.unwrap();
        }
        let last = drain(&mut spool.reader(0)).pop().unwrap();
        let (position, log) = super::after(&last);
        // The group is written and synced; nothing is removed.
        disk.fail(2, Failure::ReadOnly, u64::MAX);
        spool.ack("siem", position, log);
        spool.flush().await.unwrap();
        let start = Instant::now();
        while spool.status().last_error.is_none() {
            assert!(start.elapsed() < Duration::from_secs(60), "the failure is not told");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        disk.heal();
        while disk.names(Path::new(segment::DIR)).len() != 1 || spool.status().last_error.is_some()
        {
            assert!(start.elapsed() < Duration::from_secs(60), "{:?}", spool.status());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        spool.close();
    });
}

/// The reserve that a crash left without its bytes was taken for a whole one.
#[test]
fn a_reserve_without_its_bytes_is_made_whole() {
    let disk = SimDisk::default();
    disk.create(Path::new("reserve")).unwrap();
    open(&disk).close();
    let reserve = disk.open(Path::new("reserve"), false).unwrap();
    assert_eq!(reserve.len().unwrap(), 1 << 20);
}

/// Two destinations come upon the same damage at the same time: each threw away the copy that
/// the other was writing, and both noted it.
#[test]
fn damage_that_many_come_upon_at_once_is_kept_and_noted_once() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(&options(dir.path())).unwrap();
        let tenure = begin(&spool, 0).await;
        spool.append(&tenure, batch(0, vec![7; 300_000])).await.unwrap();
        for round in 0..20 {
            let damage = Damage::unnamed(1, (round, 300_000), (0, 1));
            let start = std::sync::Barrier::new(8);
            std::thread::scope(|threads| {
                let all: Vec<_> = (0..8)
                    .map(|_| {
                        threads.spawn(|| {
                            start.wait();
                            spool.set_aside(&damage)
                        })
                    })
                    .collect();
                all.into_iter().for_each(|one| one.join().unwrap().unwrap());
            });
            let lines = read_ledger(dir.path()).unwrap();
            assert_eq!(lines.iter().filter(|line| line["from"] == round).count(), 1);
        }
        spool.close();
    });
}

/// While a new segment waited for its turn, that it does was told in place of what failed.
#[test]
fn what_is_told_of_a_disk_that_fails_is_what_the_disk_said() {
    runtime().block_on(async {
        let disk = SimDisk::default();
        let spool = open(&disk);
        let tenure = begin(&spool, 0).await;
        disk.fail(0, Failure::ReadOnly, LIFTED);
        for _ in 0..3 {
            let error = spool.append(&tenure, batch(0, "body")).await.unwrap_err();
            let said = std::error::Error::source(&error).unwrap().to_string();
            assert!(said.contains("Read-only"), "{said}");
            let standing = spool.status().last_error.unwrap();
            assert!(standing.contains("Read-only"), "{standing}");
        }
        disk.heal();
        spool.close();
    });
}
