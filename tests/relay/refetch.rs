//! Damage in the middle of what waits: everything else is delivered, and what was lost is pulled
//! again and delivered with a mark.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sls_relay::config::Settings;
use sls_relay::emulator::receiver::{Mode, Receiver, ReceiverConfig};
use sls_relay::emulator::sls::cursor_number;
use sls_relay::relay::refetch::{Pending, Refetched, pending, refetch};
use sls_relay::spool::{Options, Spool, read_ledger};

use crate::pipeline::{Ends, GROUP, Running, wait_for};

const LOGS: u64 = 3000;

/// Both ends, a receiver that counts marked messages, and a spool whose waiting data is damaged.
struct Scene {
    ends: Ends,
    receiver: Receiver,
    marked: Arc<AtomicU64>,
    dir: tempfile::TempDir,
}

fn data_file(dir: &Path) -> PathBuf {
    let files = std::fs::read_dir(dir.join("segments")).unwrap().map(|file| file.unwrap().path());
    files.max_by_key(|path| std::fs::metadata(path).unwrap().len()).unwrap()
}

impl Scene {
    /// Pulls everything while the receiver is away, stops, and damages the spool.
    async fn damaged(harm: impl FnOnce(&mut [u8])) -> Self {
        let ends = Ends::start(2, LOGS).await;
        let marked = Arc::new(AtomicU64::new(0));
        let (sink, counted) = (Arc::clone(&ends.arrivals), Arc::clone(&marked));
        let any = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let receiver = Receiver::start(
            ReceiverConfig { tcp: any, ..ReceiverConfig::default() },
            Arc::new(move |_, message: &[u8]| {
                if message.windows(18).any(|part| part == b" origin=\"refetch\"]") {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
                sink.lock().unwrap().message(message);
            }),
        )
        .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let scene = Self { ends, receiver, marked, dir };
        scene.receiver.set_mode(Mode::Refuse).await.unwrap();
        let relay = Running::start(scene.settings()).await;
        wait_for("everything to be spooled", || relay.counters.snapshot().spooled == LOGS).await;
        wait_for("the checkpoints", || scene.ends.all_committed()).await;
        relay.stop().await;
        let path = data_file(scene.dir.path());
        let mut bytes = std::fs::read(&path).unwrap();
        harm(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        scene.receiver.set_mode(Mode::Accept).await.unwrap();
        scene
    }

    fn settings(&self) -> Settings {
        let to = format!("tcp://{}", self.receiver.tcp_addr().unwrap());
        self.ends.settings_to(self.dir.path(), &to)
    }

    fn pending(&self) -> Vec<Pending> {
        pending(&read_ledger(self.dir.path()).unwrap())
    }

    /// Runs the relay until `logs` logs have arrived and nothing waits.
    async fn deliver(&self, logs: u64) {
        let relay = Running::start(self.settings()).await;
        wait_for("the rest to arrive", || {
            self.ends.arrivals().report().delivered == logs && relay.spool.waiting() == 0
        })
        .await;
        relay.stop().await;
    }

    /// Delivers what is not lost until nothing waits, and tells how many logs are lost.
    async fn deliver_the_rest(&self) -> u64 {
        let relay = Running::start(self.settings()).await;
        wait_for("nothing to wait", || relay.spool.waiting() == 0).await;
        relay.stop().await;
        let lost: u64 = self.pending().iter().map(|one| one.lost.logs.unwrap()).sum();
        let report = self.ends.arrivals().report();
        assert_eq!((report.delivered, report.lost), (LOGS - lost, lost));
        lost
    }

    async fn refetch(&self) -> Refetched {
        let (spool, _) = Spool::open(&Options::new(self.dir.path(), 256 << 20)).unwrap();
        let (client, source) = (self.ends.client(), &self.settings().sources[0]);
        let mut sum = Refetched::default();
        for one in self.pending() {
            let mut told = 0;
            let progress = |logs: u32| {
                told += u64::from(logs);
                ControlFlow::Continue(())
            };
            let done = refetch(&client, source, &spool, &one.lost, progress).await.unwrap();
            assert_eq!(told, done.logs);
            sum.batches += done.batches;
            sum.logs += done.logs;
            sum.gone |= done.gone;
        }
        spool.close();
        sum
    }

    fn checkpoints(&self) -> Vec<Option<String>> {
        (0..2).map(|shard| self.ends.emulator.checkpoint(GROUP, shard)).collect()
    }
}

fn zero_the_middle(bytes: &mut [u8]) {
    let (from, to) = (bytes.len() * 2 / 5, bytes.len() * 3 / 5);
    bytes[from..to].fill(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_at_the_very_end_holds_nothing_up() {
    // The last batch of what waits: behind it lies only what an orderly end writes.
    let scene = Scene::damaged(|bytes| {
        let last = bytes.windows(6).rposition(|bytes| bytes == b"SENT\x02\x01").unwrap();
        let length = u32::from_le_bytes(bytes[last + 8..last + 12].try_into().unwrap());
        bytes[last + 24 + length as usize + 10] ^= 1;
    })
    .await;
    let lost = scene.deliver_the_rest().await;
    assert!(lost > 0 && lost < LOGS / 2, "{lost} logs");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_flipped_bit_took_is_delivered_with_a_mark_after_a_refetch() {
    let scene = Scene::damaged(|bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    })
    .await;
    let lost = scene.deliver_the_rest().await;
    assert!(lost > 0 && lost < LOGS / 4, "{lost}");
    assert_eq!(scene.marked.load(Ordering::Relaxed), 0);
    let checkpoints = scene.checkpoints();
    let done = scene.refetch().await;
    assert_eq!((done.logs, done.gone), (lost, false));
    assert_eq!(scene.checkpoints(), checkpoints);
    assert!(scene.pending().iter().all(|one| one.done && !one.gone));
    // What is pulled again already is not pulled once more.
    assert_eq!(scene.refetch().await, Refetched::default());
    scene.deliver(LOGS).await;
    assert_eq!(scene.marked.load(Ordering::Relaxed), lost);
    let report = scene.ends.arrivals().report();
    assert_eq!((report.lost, report.duplicates, report.corrupted), (0, 0, 0), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refetch_goes_on_behind_what_it_has_stored() {
    let scene = Scene::damaged(zero_the_middle).await;
    let lost = scene.deliver_the_rest().await;
    let whole = scene.refetch().await;
    assert!(whole.batches > 3 && whole.logs == lost, "{whole:?}");
    // It ended between the last batch and its line.
    let path = scene.dir.path().join("ledger.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, last) = text.trim_end().rsplit_once('\n').unwrap();
    assert!(last.contains("\"refetched\""), "{last}");
    std::fs::write(&path, format!("{before}\n")).unwrap();
    let left: Vec<_> = scene.pending().into_iter().filter(|one| !one.done).collect();
    assert!(left.len() == 1 && left[0].at != left[0].lost.cursor, "{left:?}");
    let again = scene.refetch().await;
    assert_eq!(again.batches, 1);
    scene.deliver(LOGS).await;
    let report = scene.ends.arrivals().report();
    assert_eq!((report.lost, report.duplicates), (0, again.logs), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sls_has_deleted_stays_a_gap_and_the_rest_is_pulled_again() {
    let scene = Scene::damaged(zero_the_middle).await;
    let lost = scene.deliver_the_rest().await;
    let group = |shard: u32, cursor: &str| {
        let begin = scene.ends.emulator.begin_cursor(shard).unwrap();
        let number = |cursor: &str| cursor_number(cursor).unwrap();
        u64::try_from(number(cursor) - number(&begin)).unwrap()
    };
    // All that one shard lost, and one group of ten logs of what the other did.
    let mut gone = 0;
    let all = scene.pending();
    for shard in 0..2 {
        let of: Vec<_> = all.iter().filter(|one| one.lost.key.shard == shard).collect();
        let (first, last) = (&of[0].lost, &of[of.len() - 1].lost);
        let (to, logs) = match shard {
            0 => {
                let logs = of.iter().map(|one| one.lost.logs.unwrap()).sum::<u64>();
                (group(shard, &last.next_cursor), logs)
            }
            _ => (group(shard, &first.cursor) + 1, 10),
        };
        scene.ends.emulator.expire_before(shard, to).unwrap();
        gone += logs;
    }
    let done = scene.refetch().await;
    assert!(done.gone);
    assert_eq!(done.logs, lost - gone);
    let all = scene.pending();
    assert!(all.iter().all(|one| one.done));
    assert!(all.iter().all(|one| one.lost.key.shard == 1 || one.gone), "{all:?}");
    scene.deliver(LOGS - gone).await;
    assert_eq!(scene.marked.load(Ordering::Relaxed), lost - gone);
    let ledger = read_ledger(scene.dir.path()).unwrap();
    let line = ledger.iter().find(|line| line["what"] == "refetch gone").unwrap();
    assert!(line["why"].as_str().unwrap().contains("SLS has deleted"), "{line}");
}
