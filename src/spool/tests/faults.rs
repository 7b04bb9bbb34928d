//! Every changing and every reading call of one fixed life of a spool fails once, in every
//! way, alone or with those behind it, and then the disk works again without a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::super::sim::{Failure, SimDisk};
use super::super::{
    Compression, Error, Item, Position, QuarantinedLog, Spool, Tenure, UnreadableAnswer, segment,
};
use super::{after, batch, cursor, key, options, runtime};

const SIZES: [usize; 16] = [
    100, 5000, 300_000, 0, 20_000, 400_000, 100, 9000, 300_000, 4096, 1, 700_000, 100, 12_000,
    500_000, 100,
];
const ANSWER: &[u8] = b"\xffno protobuf";

fn destinations() -> [String; 2] {
    ["siem".to_owned(), "copy".to_owned()]
}

fn body(number: usize) -> Vec<u8> {
    let mut body = vec![u8::try_from(number).unwrap(); SIZES[number]];
    body.extend_from_slice(b"end");
    body
}

/// What happened so far, to be compared with what a disk holds.
#[derive(Default)]
struct Seen {
    /// Cursors with a receipt, by shard.
    kept: BTreeMap<(u32, u64), Vec<u8>>,
    acked: BTreeSet<(u32, u64)>,
    highest_ack: Position,
    numbers: BTreeMap<u64, Vec<u8>>,
    answer: bool,
    /// A log that was let go of.
    removed: Option<String>,
    failures: u64,
    /// Failures when the disk was last looked at after a power loss.
    looked: u64,
}

struct Life {
    disk: SimDisk,
    seen: Seen,
    rng: fastrand::Rng,
}

fn number(cursor: &str) -> u64 {
    cursor.trim_start_matches('c').parse().unwrap()
}

/// Tries until it works.
macro_rules! again {
    ($life:expr, $spool:expr, $what:expr) => {{
        let mut tries = 0;
        loop {
            match $what {
                Ok(done) => break done,
                Err(Error::Io { .. }) => {
                    $life.seen.failures += 1;
                    tries += 1;
                    assert!(tries < 12_000, "{} does not work again", stringify!($what));
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => panic!("{}: {error}", stringify!($what)),
            }
        }
    }};
}

impl Life {
    fn new(seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        Self { disk: SimDisk::default(), seen: Seen::default(), rng }
    }

    fn open(disk: &SimDisk) -> Result<Spool, Error> {
        let opened = Spool::open_simulated(Arc::new(disk.clone()), &options(Path::new("sim")));
        let (spool, opened) = opened?;
        assert!(opened.damage.is_empty(), "{:?}", opened.damage);
        Ok(spool)
    }

    async fn run(&mut self) {
        let (mut spool, mut tenures) = self.begin().await;
        for at in 0..SIZES.len() {
            let tenure = &tenures[at % 2];
            let shard = tenure.key().shard;
            let place = (at / 2) as u64;
            let append = || spool.append(tenure, batch(place, body(at)));
            let stored = again!(self, spool, append().await);
            assert_eq!(stored.next_cursor(), cursor(place + 1));
            self.seen.kept.insert((shard, place), body(at));
            self.look().await;
            match at {
                3 | 6 => self.deliver(&spool, 2).await,
                8 => self.keep_answer(&spool).await,
                9 => {
                    again!(
                        self,
                        spool,
                        spool.progress(tenure, cursor(place + 1), cursor(place + 1)).await
                    );
                    again!(
                        self,
                        spool,
                        spool.intend(tenure.key().clone(), cursor(place + 1)).await
                    );
                }
                11 => {
                    spool.close();
                    (spool, tenures) = self.begin().await;
                }
                13 => self.deliver(&spool, usize::MAX).await,
                _ => {}
            }
        }
        self.disk.heal();
        self.deliver(&spool, usize::MAX).await;
        // One more, as large as a segment, moves everything on that waits for a new one.
        let place = (SIZES.len() / 2) as u64;
        let large = vec![7; 1 << 20];
        again!(self, spool, spool.append(&tenures[0], batch(place, large.clone())).await);
        self.seen.kept.insert((0, place), large);
        again!(self, spool, spool.flush().await);
        self.settled(&spool).await;
        self.seen.looked = u64::MAX;
        self.look().await;
        spool.close();
    }

    async fn begin(&mut self) -> (Spool, Vec<Tenure>) {
        let spool = again!(self, (), Self::open(&self.disk));
        let mut tenures = Vec::new();
        again!(self, spool, spool.set_destinations(&destinations()).await);
        for shard in 0..2 {
            let start = spool.shard(&key(shard)).map_or_else(|| cursor(0), |s| s.position);
            let begin = || spool.begin(key(shard), start.clone(), Some(cursor(0)));
            tenures.push(again!(self, spool, begin().await));
        }
        (spool, tenures)
    }

    /// Everything that failures left half done is done.
    async fn settled(&self, spool: &Spool) {
        for _ in 0..12_000 {
            let status = spool.status();
            let files = self.disk.names(Path::new(segment::DIR)).len();
            if status.last_error.is_none() && files == status.state.segments.len() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let files = self.disk.names(Path::new(segment::DIR));
        panic!("the disk works, and: {:?}, files {files:?}", spool.status());
    }

    async fn deliver(&mut self, spool: &Spool, most: usize) {
        let from = spool.delivered("siem").unwrap().position.seq;
        let mut reader = spool.reader(from);
        let mut last = None;
        for _ in 0..most {
            let Some(Item::Batch(read)) = reader.read().unwrap() else { break };
            let before = self.seen.numbers.insert(read.header.seq, read.body.clone());
            assert!(before.is_none_or(|body| body == read.body), "a number was used again");
            let (position, log) = after(&read);
            last = Some((position, log));
            self.seen.highest_ack = self.seen.highest_ack.max(position);
            self.seen.acked.insert((read.header.key.shard, number(&read.header.cursor)));
        }
        let Some((position, log)) = last else { return };
        for name in destinations() {
            spool.ack(&name, position, log);
        }
        again!(self, spool, spool.flush().await);
        assert!(spool.delivered("copy").unwrap().position >= position, "an ack was lost");
    }

    async fn keep_answer(&mut self, spool: &Spool) {
        let key = key(1);
        let answer = UnreadableAnswer {
            key: &key,
            cursor: "c9",
            next_cursor: "c10",
            why: "a test",
            request_id: "R",
            groups: 1,
            raw_size: 1,
            compression: Compression::None,
            body: ANSWER,
        };
        again!(self, spool, spool.quarantine_answer(&answer));
        let log = QuarantinedLog {
            destination: "siem",
            key: &key,
            seq: 3,
            log: 0,
            cursor: "c9",
            index: 0,
            approximate: false,
            why: "a test",
            body: ANSWER,
        };
        let removed = QuarantinedLog { seq: 4, ..log };
        again!(self, spool, spool.quarantine_log(&log));
        let removed = again!(self, spool, spool.quarantine_log(&removed));
        again!(self, spool, spool.remove_quarantined(&[&removed]));
        self.seen.removed = Some(removed);
        self.seen.answer = true;
        self.seen.looked = u64::MAX;
        self.look().await;
    }

    /// After the first success behind a failure, the power goes in another world.
    async fn look(&mut self) {
        if self.seen.looked == self.seen.failures {
            return;
        }
        self.seen.looked = self.seen.failures;
        for _ in 0..3 {
            let lost = self.disk.lose_power(&mut self.rng);
            self.check(&lost);
        }
    }

    fn check(&self, disk: &SimDisk) {
        let spool = Self::open(disk).unwrap();
        let state = spool.status().state;
        let delivered = state.destinations.get("siem").map(|d| d.position).unwrap_or_default();
        assert!(delivered <= self.seen.highest_ack, "delivered is ahead of the acks");
        let mut found = BTreeMap::new();
        let mut reader = spool.reader(delivered.seq);
        while let Some(item) = reader.read().unwrap() {
            let Item::Batch(read) = item else { panic!("damage: {item:?}") };
            let known = self.seen.numbers.get(&read.header.seq);
            assert!(known.is_none_or(|body| *body == read.body), "a number was used again");
            found.insert((read.header.key.shard, number(&read.header.cursor)), read.body);
        }
        for (id, body) in &self.seen.kept {
            match found.get(id) {
                Some(read) => assert!(read == body, "{id:?} came back with other bytes"),
                None => assert!(self.seen.acked.contains(id), "{id:?} had a receipt and is gone"),
            }
            let position = state.shards.get(&key(id.0)).map_or(0, |s| number(&s.position));
            assert!(position > id.1, "shard {} would be pulled again from {position}", id.0);
        }
        // No hole in front of a position.
        for (key, shard) in &state.shards {
            for at in 0..number(&shard.position) {
                let id = (key.shard, at);
                assert!(
                    found.contains_key(&id) || self.seen.acked.contains(&id),
                    "shard {} goes on at {}, and {at} is missing",
                    key.shard,
                    shard.position
                );
            }
        }
        if self.seen.answer {
            let dir = Path::new("quarantine");
            let copies = disk.names(dir);
            for kind in ["answer-", "log-"] {
                let copy =
                    copies.iter().find(|name| name.starts_with(kind) && name.ends_with(".bin"));
                let bytes = copy.and_then(|name| disk.bytes(&dir.join(name)));
                assert_eq!(bytes.as_deref(), Some(ANSWER), "{kind} is gone: {copies:?}");
            }
            let removed = self.seen.removed.as_ref();
            assert!(removed.is_none_or(|name| !copies.contains(name)), "it is there again");
        }
        spool.close();
    }
}

/// Runs the cases, many at a time: they wait more than they work. Names what failed.
fn in_parallel<C: Copy + Send + Sync + std::fmt::Debug>(cases: &[C], run: impl Fn(C) + Sync) {
    let next = AtomicUsize::new(0);
    let failed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let tried = std::panic::AssertUnwindSafe(|| run(*case));
                    if std::panic::catch_unwind(tried).is_err() {
                        failed.lock().unwrap().push(*case);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {} cases fail: {failed:?}", failed.len(), cases.len());
}

/// `SLS_RELAY_FAULTS=all` fails every call in every way; otherwise every call in some.
fn ways(call: u64) -> Vec<Failure> {
    if std::env::var("SLS_RELAY_FAULTS").is_ok_and(|text| text == "all") {
        return Failure::ALL.to_vec();
    }
    let turn = usize::try_from(call).unwrap();
    vec![Failure::ALL[turn % Failure::ALL.len()], Failure::ALL[(turn + 3) % Failure::ALL.len()]]
}

#[test]
fn every_changing_call_may_fail() {
    let mut life = Life::new(1);
    runtime().block_on(life.run());
    let (calls, _) = life.disk.calls();
    let mut cases = Vec::new();
    for call in 0..calls {
        for how in ways(call) {
            cases.extend([(call, how, 1), (call, how, 5)]);
        }
    }
    in_parallel(&cases, |(call, how, many)| {
        let mut life = Life::new(call);
        life.disk.fail(call, how, many);
        runtime().block_on(life.run());
    });
}

#[test]
fn a_failure_of_the_disk_is_told_as_long_as_it_lasts() {
    in_parallel(&Failure::ALL, |how| {
        let disk = SimDisk::default();
        runtime().block_on(async {
            let spool = Life::open(&disk).unwrap();
            let tenure = super::begin(&spool, 0).await;
            disk.fail(0, how, u64::MAX);
            for _ in 0..3 {
                let refused = spool.append(&tenure, batch(0, "x")).await.unwrap_err();
                assert_eq!(refused.code(), "spool.io");
                assert!(spool.status().last_error.is_some(), "the failure is not told");
            }
            disk.heal();
            // It goes on by itself, without anything to write.
            let start = std::time::Instant::now();
            while spool.status().last_error.is_some() {
                assert!(start.elapsed() < Duration::from_secs(60), "{:?}", spool.status());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            spool.append(&tenure, batch(0, "x")).await.unwrap();
            spool.close();
        });
    });
}

/// A spool with three segments, and the bodies in it.
fn stored(disk: &SimDisk) -> Vec<Vec<u8>> {
    let mut spool = Life::open(disk).unwrap();
    for at in 0..SIZES.len() {
        if at == 8 {
            spool.close();
            spool = Life::open(disk).unwrap();
        }
        runtime().block_on(async {
            spool.set_destinations(&destinations()).await.unwrap();
            let tenure = super::begin(&spool, 0).await;
            spool.append(&tenure, batch(at as u64, body(at))).await.unwrap();
        });
    }
    let segments = spool.status().state.segments.len();
    assert!(segments > 2, "{segments} segments");
    spool.close();
    (0..SIZES.len()).map(body).collect()
}

/// Reads all there is, however often that fails; the bodies, and the numbers said to be lost.
fn read_all(spool: &Spool) -> (Vec<Vec<u8>>, Vec<u64>) {
    let mut reader = spool.reader(0);
    let (mut bodies, mut lost, mut failures) = (Vec::new(), Vec::new(), 0);
    loop {
        match reader.read() {
            Ok(Some(Item::Batch(read))) => bodies.push(read.body),
            Ok(Some(Item::Damage(damage))) => lost.extend(damage.first_seq..damage.end_seq),
            Ok(None) => return (bodies, lost),
            Err(Error::Io { .. }) => failures += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(failures < 50, "it does not work again");
    }
}

fn every_read(disk: &SimDisk, expected: &[Vec<u8>], lost: &[u64]) {
    let before = disk.calls().1;
    let spool = Spool::open_simulated(Arc::new(disk.clone()), &options(Path::new("sim")));
    let (spool, opened) = spool.unwrap();
    let opening = disk.calls().1 - before;
    let opened: Vec<u64> = opened.damage.iter().flat_map(|d| d.first_seq..d.end_seq).collect();
    assert!(opened.iter().all(|number| lost.contains(number)), "{opened:?}");
    let (bodies, told) = read_all(&spool);
    assert!(bodies == expected && told == lost, "{} bodies, lost {told:?}", bodies.len());
    let reading = disk.calls().1 - before - opening;
    for call in 0..reading {
        for (how, many) in [(Failure::Io, 1), (Failure::TooManyFiles, 1), (Failure::Io, 7)] {
            disk.fail_reads(call, how, many);
            let (bodies, told) = read_all(&spool);
            disk.heal();
            assert_eq!(told, lost, "read {call} fails, {how:?} {many} times");
            assert!(bodies == expected, "read {call} fails, {how:?} {many} times: a batch is lost");
        }
    }
    spool.close();
    // Opening fails as a whole, or finds everything.
    for call in 0..opening {
        disk.fail_reads(call, Failure::Io, 1);
        let opened = Spool::open_simulated(Arc::new(disk.clone()), &options(Path::new("sim")));
        disk.heal();
        let Ok((spool, _)) = opened else { continue };
        let (bodies, told) = read_all(&spool);
        assert!(bodies == expected && told == lost, "read {call} of opening fails");
        spool.close();
    }
}

#[test]
fn every_reading_call_may_fail_and_no_batch_is_passed_over() {
    let disk = SimDisk::default();
    let bodies = stored(&disk);
    every_read(&disk, &bodies, &[]);
}

#[test]
fn every_reading_call_may_fail_beside_damage() {
    let disk = SimDisk::default();
    let mut bodies = stored(&disk);
    let path = segment::path(1);
    let bytes = disk.bytes(&path).unwrap();
    let large = bytes.windows(64).position(|window| window == [2; 64]).unwrap();
    disk.flip_bit(&path, large);
    bodies.remove(2);
    every_read(&disk, &bodies, &[2]);
}

#[test]
fn every_reading_call_may_fail_beside_a_segment_that_is_gone() {
    let disk = SimDisk::default();
    let bodies = stored(&disk);
    let spool = Life::open(&disk).unwrap();
    let gone = spool.status().state.segments[&2];
    spool.close();
    disk.lose_file(&segment::path(2));
    let lost: Vec<u64> = (gone.first_seq..gone.end_seq).collect();
    let left = (0..).zip(&bodies).filter(|(seq, _)| !lost.contains(seq));
    let left: Vec<Vec<u8>> = left.map(|(_, body)| body.clone()).collect();
    every_read(&disk, &left, &lost);
}
