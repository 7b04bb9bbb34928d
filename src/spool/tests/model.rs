//! The spool against a plain queue, under arbitrary operations, failures and damage.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::super::disk::Disk as _;
use super::super::recover::{Damage, set_aside_path};
use super::super::scan::{Bodies, scan};
use super::super::sim::{Failure, SimDisk};
use super::super::{Item, Keys, Options, Reader, Spool, StoredBatch, segment};
use super::{after, batch, begin, cursor, key, keys, options, runtime};

#[derive(Clone, Debug)]
enum Operation {
    Append {
        size: usize,
    },
    Deliver {
        batches: usize,
    },
    /// An orderly end and a start.
    Reopen,
    /// The process dies; what it wrote is in the page cache.
    Crash,
    PowerLoss {
        seed: u64,
    },
    DiskFull {
        appends: u8,
    },
    /// Some changing calls fail, and then the disk works again or the process dies.
    FailWrite {
        calls: u64,
        how: usize,
        many: u64,
        dies: bool,
    },
    /// Half of a group, and then the power goes.
    TornWrite {
        size: usize,
        seed: u64,
    },
    /// Durable bytes change while the spool is stopped.
    Damage {
        segment: usize,
        at: usize,
        how: Hurt,
    },
}

#[derive(Clone, Copy, Debug)]
enum Hurt {
    Flip,
    Zero,
    Truncate,
    Remove,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let hurt = || {
        prop_oneof![
            3 => Just(Hurt::Flip),
            2 => Just(Hurt::Zero),
            1 => Just(Hurt::Truncate),
            1 => Just(Hurt::Remove)
        ]
    };
    let operation = prop_oneof![
        10 => prop_oneof![2 => 0usize..9000, 1 => 0usize..200_000, 1 => 200_000usize..700_000]
            .prop_map(|size| Operation::Append { size }),
        3 => (1usize..8).prop_map(|batches| Operation::Deliver { batches }),
        1 => Just(Operation::Reopen),
        1 => Just(Operation::Crash),
        1 => any::<u64>().prop_map(|seed| Operation::PowerLoss { seed }),
        1 => (1u8..4).prop_map(|appends| Operation::DiskFull { appends }),
        2 => (0u64..12, 0usize..7, 1u64..8, any::<bool>())
            .prop_map(|(calls, how, many, dies)| Operation::FailWrite { calls, how, many, dies }),
        1 => (0usize..9000, any::<u64>())
            .prop_map(|(size, seed)| Operation::TornWrite { size, seed }),
        2 => (any::<usize>(), any::<usize>(), hurt())
            .prop_map(|(segment, at, how)| Operation::Damage { segment, at, how }),
    ];
    proptest::collection::vec(operation, 1..30)
}

/// A batch with a receipt.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Kept {
    seq: u64,
    cursor: u64,
    body: Vec<u8>,
}

struct Harness {
    disk: SimDisk,
    spool: Spool,
    reader: Reader,
    queue: VecDeque<Kept>,
    /// Read and acknowledged, perhaps not for good.
    unsure: VecDeque<Kept>,
    /// Acknowledged for good, unless the ack is damaged.
    done: VecDeque<Kept>,
    /// Bodies that were refused at the next cursor: after a crash the last one may be there.
    refused: Vec<Vec<u8>>,
    /// Numbers of batches that damage took.
    lost: BTreeSet<u64>,
    next: u64,
    salt: u64,
    keys: Keys,
}

fn number(cursor: &str) -> u64 {
    cursor.trim_start_matches('c').parse().unwrap()
}

fn kept(read: &StoredBatch) -> Kept {
    Kept { seq: read.header.seq, cursor: number(&read.header.cursor), body: read.body.clone() }
}

impl Harness {
    async fn open(disk: &SimDisk, keys: &Keys) -> (Spool, Reader, Vec<Damage>) {
        let options = Options { keys: keys.clone(), ..options(Path::new("sim")) };
        let (spool, opened) = Spool::open_simulated(Arc::new(disk.clone()), &options).unwrap();
        spool.set_destinations(&["siem".to_owned()]).await.unwrap();
        begin(&spool, 0).await;
        let from = spool.delivered("siem").unwrap().position.seq;
        let reader = spool.reader(from);
        (spool, reader, opened.damage)
    }

    async fn run(operations: Vec<Operation>, keys: Keys) {
        let disk = SimDisk::default();
        let (spool, reader, _) = Self::open(&disk, &keys).await;
        let mut this = Self {
            disk,
            spool,
            reader,
            queue: VecDeque::new(),
            unsure: VecDeque::new(),
            done: VecDeque::new(),
            refused: Vec::new(),
            lost: BTreeSet::new(),
            next: 0,
            salt: 0,
            keys,
        };
        for operation in operations {
            this.apply(operation).await;
        }
        this.apply(Operation::Reopen).await;
        this.spool.close();
    }

    fn body(&mut self, size: usize) -> Vec<u8> {
        self.salt += 1;
        let mut body = vec![u8::try_from(self.salt % 251).unwrap(); size];
        body.extend_from_slice(&self.salt.to_le_bytes());
        body
    }

    async fn append(&mut self, size: usize) -> Result<(), super::Error> {
        let body = self.body(size);
        let tenure = begin(&self.spool, 0).await;
        match self.spool.append(&tenure, batch(self.next, body.clone())).await {
            Ok(receipt) => {
                self.queue.push_back(Kept { seq: receipt.end() - 1, cursor: self.next, body });
                self.next += 1;
                self.refused.clear();
                Ok(())
            }
            Err(error) => {
                self.refused.push(body);
                Err(error)
            }
        }
    }

    async fn deliver(&mut self, batches: usize) -> Result<(), super::Error> {
        for _ in 0..batches {
            let Some(read) = self.next_batch() else { break };
            let expected = self.queue.pop_front();
            assert_eq!(Some(kept(&read)), expected);
            self.unsure.extend(expected);
            let (position, log) = after(&read);
            self.spool.ack("siem", position, log);
        }
        self.spool.flush().await?;
        self.done.append(&mut self.unsure);
        Ok(())
    }

    /// The disk works again: so does the spool, without a restart.
    async fn healed(&mut self) {
        self.disk.heal();
        self.disk.set_capacity(None);
        for _ in 0..2000 {
            self.spool.committed(key(0), cursor(self.next));
            if self.spool.flush().await.is_ok() && self.spool.status().last_error.is_none() {
                self.done.append(&mut self.unsure);
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("it does not go on: {:?}", self.spool.status());
    }

    /// Starts on what `disk` holds, where nothing durable was hurt.
    async fn start(&mut self, disk: SimDisk) {
        self.disk = disk;
        let mut told;
        (self.spool, self.reader, told) = Self::open(&self.disk, &self.keys).await;
        let found = self.read_all(&mut told);
        assert!(told.iter().all(|d| (d.first_seq..d.end_seq).all(|seq| self.lost.contains(&seq))));
        self.put_back();
        let position = number(&self.spool.shard(&key(0)).unwrap().position);
        if position == self.next + 1 {
            let last = found.back().cloned().unwrap();
            assert!(self.refused.contains(&last.body), "a batch nobody brought");
            self.queue.push_back(last);
            self.next = position;
        }
        assert_eq!(position, self.next);
        self.refused.clear();
        assert_eq!(found, self.queue);
    }

    /// Acks that were not for good are asked for again.
    fn put_back(&mut self) {
        let from = self.spool.delivered("siem").unwrap().position.seq;
        while let Some(last) = self.unsure.pop_back() {
            if last.seq >= from {
                self.queue.push_front(last);
            } else {
                self.done.push_back(last);
            }
        }
    }

    fn read_all(&mut self, damage: &mut Vec<Damage>) -> VecDeque<Kept> {
        let from = self.spool.delivered("siem").unwrap().position.seq;
        let mut reader = self.spool.reader(from);
        let mut found = VecDeque::new();
        while let Some(item) = reader.read().unwrap() {
            match item {
                Item::Batch(read) => found.push_back(kept(&read)),
                Item::Damage(more) => damage.push(more),
            }
        }
        found
    }

    async fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Append { size } => {
                if let Err(error) = self.append(size).await {
                    assert!(super::is_full(&error), "{error}");
                }
            }
            Operation::Deliver { batches } => self.deliver(batches).await.unwrap(),
            Operation::Reopen => {
                self.spool.clone().close();
                self.start(self.disk.clone()).await;
            }
            Operation::Crash => self.crash().await,
            Operation::PowerLoss { seed } => self.power_loss(seed).await,
            Operation::DiskFull { appends } => {
                self.disk.set_capacity(Some(0));
                for _ in 0..appends {
                    self.append(5000).await.unwrap_err();
                }
                self.healed().await;
            }
            Operation::FailWrite { calls, how, many, dies } => {
                self.disk.fail(calls, Failure::ALL[how], many);
                for size in [100, 9000, 300_000] {
                    let _ = self.append(size).await;
                }
                let _ = self.deliver(1).await;
                if dies {
                    self.crash().await;
                } else {
                    self.healed().await;
                }
            }
            Operation::TornWrite { size, seed } => {
                self.disk.fail(0, Failure::Short, u64::MAX);
                self.append(size).await.unwrap_err();
                self.power_loss(seed).await;
            }
            Operation::Damage { segment, at, how } => self.damage(segment, at, how).await,
        }
    }

    async fn crash(&mut self) {
        self.disk.stop_after(0);
        self.spool.clone().close();
        self.disk.heal();
        self.disk.stop_after(u64::MAX);
        self.start(self.disk.clone()).await;
    }

    async fn power_loss(&mut self, seed: u64) {
        let lost = self.disk.lose_power(&mut fastrand::Rng::with_seed(seed));
        self.spool.clone().close();
        self.start(lost).await;
    }

    async fn damage(&mut self, chosen: usize, at: usize, how: Hurt) {
        self.spool.clone().close();
        let mut ids: Vec<u64> = self
            .disk
            .names(Path::new(segment::DIR))
            .iter()
            .filter_map(|name| segment::id_of(name))
            .collect();
        ids.sort_unstable();
        let id = ids[chosen % ids.len()];
        let path = segment::path(id);
        let file = self.disk.open(&path, false).unwrap();
        let newest = Some(&id) == ids.last();
        let scanned = scan(file.as_ref(), id, None, Bodies::All).unwrap();
        // What is proven: of the newest what its last group says, behind its snapshot, without
        // which there is no older state to go back to. That it was longer nothing can tell.
        let to = if newest { scanned.proven } else { scanned.end };
        let from = if newest { scanned.pieces[0].entries()[0].end() + 24 } else { 0 };
        let (from, to) = (usize::try_from(from).unwrap(), usize::try_from(to).unwrap());
        // Where a sync failed the file may be longer than what is durable of it.
        let to = to.min(self.disk.durable_length(&path));
        let possible = from < to && !(newest && matches!(how, Hurt::Truncate | Hurt::Remove));
        if possible {
            let at = from + at % (to - from);
            let page = (at / 4096 * 4096).max(from)..((at / 4096 + 1) * 4096).min(to);
            match how {
                Hurt::Flip => self.disk.flip_bit(&path, at),
                Hurt::Zero => self.disk.damage(&path, |bytes| bytes[page.clone()].fill(0)),
                Hurt::Truncate => self.disk.damage(&path, |bytes| bytes.truncate(at)),
                Hurt::Remove => self.disk.lose_file(&path),
            }
        }
        self.find_damage(id).await;
    }

    /// Starts where durable bytes were hurt: what is missing is told, and nothing else is.
    async fn find_damage(&mut self, hurt: u64) {
        let bytes = self.disk.bytes(&segment::path(hurt));
        let quarantine = Path::new("quarantine");
        let copies = self.disk.names(quarantine).into_iter().map(|name| quarantine.join(name));
        let copies: BTreeSet<_> = copies.collect();
        let mut damage;
        (self.spool, self.reader, damage) = Self::open(&self.disk, &self.keys).await;
        // The acks themselves may be in the damage: then batches come again.
        self.done.append(&mut self.unsure);
        self.unsure = std::mem::take(&mut self.done);
        self.put_back();
        let found = self.read_all(&mut damage);
        let told: BTreeSet<u64> = damage.iter().flat_map(|d| d.first_seq..d.end_seq).collect();
        let missing: BTreeSet<u64> =
            self.queue.iter().filter(|kept| !found.contains(kept)).map(|kept| kept.seq).collect();
        let first = self.queue.front().map_or(u64::MAX, |kept| kept.seq);
        let told_now = told.range(first..).filter(|seq| !self.lost.contains(seq));
        let told_now: BTreeSet<u64> = told_now.copied().collect();
        assert_eq!(missing, told_now, "missing, and told: {damage:?}");
        self.lost.extend(told);
        for kept in &found {
            assert!(self.queue.contains(kept), "batch {} is not what was stored", kept.seq);
        }
        assert!(found.iter().zip(found.iter().skip(1)).all(|(a, b)| a.seq < b.seq));
        for damage in &damage {
            let copy = set_aside_path(damage.segment, damage.from);
            let known = copies.contains(&copy);
            self.spool.set_aside(damage).unwrap();
            let Some(bytes) = bytes.as_ref().filter(|_| damage.segment == hurt && !known) else {
                continue;
            };
            let to = bytes.len().min(usize::try_from(damage.to).unwrap());
            let from = to.min(usize::try_from(damage.from).unwrap());
            let copy = self.disk.bytes(&copy).unwrap();
            assert!(copy == bytes[from..to], "the damaged bytes are not kept");
        }
        // Damaged entries do not move the shard: it is pulled again from where it stands.
        let position = number(&self.spool.shard(&key(0)).unwrap().position);
        let lost = self.queue.iter().filter(|kept| kept.cursor >= position);
        assert!(position == self.next || lost.clone().all(|kept| self.lost.contains(&kept.seq)));
        assert!(position <= self.next);
        self.next = position;
        self.queue = found;
        self.refused.clear();
    }

    /// The next batch, behind damage that is known.
    fn next_batch(&mut self) -> Option<Box<StoredBatch>> {
        loop {
            match self.reader.read().unwrap()? {
                Item::Batch(read) => return Some(read),
                Item::Damage(d) => {
                    assert!((d.first_seq..d.end_seq).all(|seq| self.lost.contains(&seq)), "{d:?}");
                }
            }
        }
    }
}

fn cases() -> u32 {
    let text = std::env::var("SLS_RELAY_SPOOL_MODEL_CASES").ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(32)
}

fn config() -> ProptestConfig {
    let kept = proptest::test_runner::FileFailurePersistence::Direct(
        "tests/proptest-regressions/spool.txt",
    );
    ProptestConfig {
        cases: cases(),
        failure_persistence: Some(Box::new(kept)),
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]
    #[test]
    fn the_spool_is_a_durable_queue(operations in operations()) {
        runtime().block_on(Harness::run(operations, Keys::default()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases().div_ceil(3), ..config() })]
    #[test]
    fn an_encrypted_spool_is_a_durable_queue(operations in operations()) {
        runtime().block_on(Harness::run(operations, keys(&[1])));
    }
}
