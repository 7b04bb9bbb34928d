//! Promises that were broken once: each test names the defect that it keeps away.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sls_relay::emulator::receiver::Mode;
use sls_relay::emulator::sls::{Fault, FaultKind, Operation};
use sls_relay::emulator::waf::Waf;
use sls_relay::spool::inspect::Inspection;

use crate::pipeline::{Ends, GROUP, Running, wait_for};

/// The retry loop of the checkpointer empties the bounded channel of receipts, so that the
/// fetcher never has to wait: what is uncommitted, and the chain of cursors, grow for ever.
#[tokio::test(flavor = "multi_thread")]
async fn pulling_stops_while_commits_fail() {
    let ends = Ends::serve(Waf::new(3), 1, 20_000, |config| config.max_raw_bytes = 16 << 10).await;
    ends.emulator
        .faults()
        .add(Fault::new(FaultKind::InternalServerError).on(Operation::Checkpoint));
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    // Six refused commits: enough for the channel to have been emptied again and again.
    wait_for("refused commits", || ends.emulator.faults().hits() >= 6).await;
    let chains: Vec<usize> =
        relay.spool.status().state.shards.values().map(|shard| shard.chain.len()).collect();
    ends.emulator.faults().clear();
    relay.stop().await;
    assert!(chains[0] <= 40, "{} uncommitted cursors; 32 receipts may wait", chains[0]);
}

/// The checkpointer remembers what was committed before the shard was acquired. When an
/// operator sets the checkpoint back by one batch, its commit, at that very cursor, is left out.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_was_set_back_is_committed_up_to_the_end_again() {
    let ends = Ends::start(1, 10).await;
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    ends.all_arrived().await;
    wait_for("the checkpoints to reach the ends", || ends.all_committed()).await;
    relay.stop().await;
    let begin = ends.emulator.begin_cursor(0).unwrap();
    ends.emulator.set_checkpoint(GROUP, 0, &begin).unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    wait_for("the checkpoint to reach the end again", || ends.all_committed()).await;
    relay.stop().await;
}

/// A receiver that reads all of the first connection, resets the second one when the relay
/// ends it, and is there again for the third: as if it had been killed and restarted.
fn killed_between_proof_and_settling() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    std::thread::spawn(move || {
        for stream in listener.incoming().take(3) {
            let mut stream: TcpStream = stream.unwrap();
            let number = count.fetch_add(1, Ordering::SeqCst);
            let mut buf = [0; 65536];
            while stream.read(&mut buf).is_ok_and(|read| read > 0) {}
            if number == 1 {
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
        }
    });
    (format!("tcp://{address}"), accepted)
}

/// A drain that breaks during the stop is an abnormal end as well: it must take earlier proofs
/// that have not settled with it. Instead `settle_last` connects and confirms them.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_dies_during_the_stop_confirms_nothing_unsettled() {
    let ends = Ends::start(1, 500).await;
    let dir = tempfile::tempdir().unwrap();
    let (to, accepted) = killed_between_proof_and_settling();
    let mut settings = ends.settings_to(dir.path(), &to);
    settings.destinations[0].settle = Duration::from_secs(4);
    // The first drain ends the first connection in the middle of the logs.
    settings.destinations[0].drain_idle = Duration::from_secs(30);
    settings.destinations[0].drain_every = Duration::from_secs(30);
    settings.destinations[0].drain_bytes = 600_000;
    let relay = Running::start(settings).await;
    wait_for("the second connection", || accepted.load(Ordering::SeqCst) == 2).await;
    relay.stop().await;
    let state = Inspection::open(dir.path()).unwrap().state();
    let delivered = state.destinations.values().next().copied().unwrap();
    assert_eq!(delivered.log, 0, "confirmed by a receiver that reset the connection meanwhile");
}

/// The drain quantum is fixed: where each connection ends before it is reached, nothing is ever
/// proven and the same logs are sent for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_ends_every_connection_early_is_delivered_to_all_the_same() {
    let ends = Ends::start(1, 2000).await;
    ends.receiver.set_mode(Mode::ResetAfter { bytes: 300_000 }).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    wait_for("some progress", || relay.confirmed() > 0).await;
    relay.stop().await;
}

/// A shard that is wanted elsewhere waits for its last commit without a deadline, and stays in
/// the heartbeat: nobody reads it for as long as commits fail.
#[tokio::test(flavor = "multi_thread")]
async fn a_shard_is_handed_over_although_commits_fail() {
    let ends = Ends::start(2, 1000).await;
    ends.emulator
        .faults()
        .add(Fault::new(FaultKind::InternalServerError).on(Operation::Checkpoint));
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let first = Running::start(ends.settings(dirs[0].path())).await;
    wait_for("the first to hold all", || ends.emulator.holders(GROUP).len() == 2).await;
    wait_for("a refused commit", || ends.emulator.faults().hits() > 0).await;
    let second = Running::start(ends.settings(dirs[1].path())).await;
    let names = || {
        let mut names: Vec<_> = ends.emulator.holders(GROUP).into_values().collect();
        names.sort();
        names.dedup();
        names.len()
    };
    wait_for("the second to hold one", || names() == 2).await;
    ends.emulator.faults().clear();
    first.stop().await;
    second.stop().await;
}

/// Three refusals of a cursor that SLS still keeps lead to a restart at the oldest log: all of
/// the retention is delivered again, and a gap is noted that is none.
#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_is_refused_for_a_while_but_kept_is_not_given_up() {
    let ends = Ends::start(1, 1000).await;
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    ends.all_arrived().await;
    wait_for("the checkpoints to reach the ends", || ends.all_committed()).await;
    ends.emulator.faults().add(Fault::new(FaultKind::InvalidCursor).on(Operation::Pull).times(4));
    wait_for("the refusals", || ends.emulator.faults().is_clear()).await;
    let pulls = ends.emulator.stats().pulls;
    wait_for("more pulls", || ends.emulator.stats().pulls > pulls + 10).await;
    relay.stop().await;
    assert_eq!(ends.arrivals().report().duplicates, 0);
}

/// A checkpoint of our own name that the spool does not know means that the spool has lost what
/// was committed (an old copy restored, a disk that lied). What lies between is pulled again.
#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_is_behind_its_own_checkpoint_pulls_again_what_it_lost() {
    let ends = Ends::start(1, 20_000).await;
    ends.receiver.set_mode(Mode::Refuse).await.unwrap();
    let root = tempfile::tempdir().unwrap();
    let (dir, old) = (root.path().join("spool"), root.path().join("old"));
    let relay = Running::start(ends.settings(&dir)).await;
    wait_for("a part", || relay.counters.snapshot().commits > 0).await;
    relay.stop().await;
    copy(&dir, &old);
    let relay = Running::start(ends.settings(&dir)).await;
    wait_for("the checkpoints to reach the ends", || ends.all_committed()).await;
    relay.stop().await;
    std::fs::remove_dir_all(&dir).unwrap();
    copy(&old, &dir);
    ends.receiver.set_mode(Mode::Accept).await.unwrap();
    let relay = Running::start(ends.settings(&dir)).await;
    let before = relay.spool.status().state.next_log;
    assert!(before < 20_000, "the first part was all");
    wait_for("what the old copy holds", || relay.confirmed() >= before).await;
    ends.all_arrived().await;
    relay.stop().await;
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let target = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy(&file.path(), &target);
        } else {
            std::fs::copy(file.path(), target).unwrap();
        }
    }
}
