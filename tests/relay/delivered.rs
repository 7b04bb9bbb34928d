//! `checkpoint = "delivered"`: the checkpoint follows the receiver, not the spool.

use std::time::Duration;

use sls_relay::config::{Checkpoint, Handover, Settings};
use sls_relay::emulator::receiver::Mode;
use sls_relay::emulator::sls::{Fault, FaultKind, Operation};
use sls_relay::emulator::waf::Waf;

use crate::pipeline::{Ends, GROUP, Running, wait_for};

fn delivered(ends: &Ends, dir: &std::path::Path) -> Settings {
    let mut settings = ends.settings(dir);
    settings.sources[0].checkpoint = Checkpoint::Delivered;
    settings.sources[0].handover = Handover::Delivered;
    settings
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_committed_before_the_receiver_has_it() {
    let ends = Ends::start(2, 2000).await;
    ends.receiver.set_mode(Mode::Refuse).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(delivered(&ends, dir.path())).await;
    wait_for("everything to be spooled", || relay.counters.snapshot().spooled == 2000).await;
    assert!(ends.emulator.checkpoint_log().is_empty(), "committed while nothing is delivered");
    ends.receiver.set_mode(Mode::Accept).await.unwrap();
    ends.all_arrived().await;
    wait_for("the checkpoints to reach the ends", || ends.all_committed()).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loss_of_the_whole_spool_loses_no_log() {
    let ends = Ends::start(2, 4000).await;
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(delivered(&ends, dir.path())).await;
    wait_for("a part to arrive", || ends.arrivals().report().delivered > 1000).await;
    ends.receiver.set_mode(Mode::Refuse).await.unwrap();
    wait_for("everything to be spooled", || relay.counters.snapshot().spooled == 4000).await;
    relay.stop().await;
    drop(dir);
    ends.receiver.set_mode(Mode::Accept).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(delivered(&ends, dir.path())).await;
    ends.all_arrived().await;
    wait_for("the checkpoints to reach the ends", || ends.all_committed()).await;
    relay.stop().await;
    assert_eq!(ends.arrivals().report().lost, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_commits_what_the_last_drain_confirmed_and_a_restart_repeats_nothing() {
    let ends = Ends::start(2, 2000).await;
    let dir = tempfile::tempdir().unwrap();
    let mut settings = delivered(&ends, dir.path());
    // Nothing is confirmed until the drain at the stop.
    settings.destinations[0].drain_idle = Duration::from_secs(600);
    settings.destinations[0].drain_every = Duration::from_secs(600);
    let relay = Running::start(settings).await;
    ends.all_arrived().await;
    assert!(ends.emulator.checkpoint_log().is_empty(), "committed before it was confirmed");
    relay.stop().await;
    assert!(ends.all_committed());
    let relay = Running::start(delivered(&ends, dir.path())).await;
    wait_for("the shards to be taken", || relay.counters.shards().len() == 2).await;
    relay.stop().await;
    assert_eq!(ends.arrivals().report().duplicates, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_was_lost_is_known_as_ours_after_a_restart() {
    // So many batches that the chain of cursors does not reach back to the commit.
    let ends = Ends::serve(Waf::new(7), 1, 3000, |config| config.max_raw_bytes = 1).await;
    let dir = tempfile::tempdir().unwrap();
    let mut settings = delivered(&ends, dir.path());
    settings.destinations[0].drain_bytes = 20_000;
    ends.receiver.set_mode(Mode::Refuse).await.unwrap();
    let relay = Running::start(settings.clone()).await;
    wait_for("everything to be spooled", || relay.counters.snapshot().spooled == 3000).await;
    // Slowly, so that the commit is one of many to come.
    let slowly = Mode::Slow { delay: Duration::from_millis(20), bytes: 4096 };
    ends.receiver.set_mode(slowly).await.unwrap();
    wait_for("a commit", || !ends.emulator.checkpoint_log().is_empty()).await;
    // Carried out, and answered too late for the relay to hear of it.
    let slow = FaultKind::Slow(Duration::from_secs(60));
    ends.emulator.faults().add(Fault::new(slow).on(Operation::Checkpoint));
    let known = ends.emulator.checkpoint_log().len();
    wait_for("another commit", || ends.emulator.checkpoint_log().len() > known).await;
    ends.receiver.set_mode(Mode::Refuse).await.unwrap();
    relay.stop().await;
    ends.emulator.faults().clear();
    ends.receiver.set_mode(Mode::Accept).await.unwrap();
    let behind = 300 - ends.committed(0);
    assert!(behind > 128, "the lost commit is only {behind} batches behind");
    let pulled = ends.emulator.requests().len();
    let relay = Running::start(settings).await;
    let first = || {
        let again = ends.emulator.requests().split_off(pulled);
        again.into_iter().find(|asked| asked.call == "PullLogs")
    };
    wait_for("a pull", || first().is_some()).await;
    let end = ends.emulator.end_cursor(0).unwrap();
    let cursor = first().unwrap().parameter("cursor").map(str::to_owned);
    assert_eq!(cursor, Some(end), "pulled from the spool's end on");
    ends.all_arrived().await;
    wait_for("the checkpoints to reach the ends", || ends.all_committed()).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_delivers_what_was_pulled_where_shards_are_handed_over_delivered() {
    let ends = Ends::start(2, 8000).await;
    ends.receiver.set_mode(Mode::Refuse).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(delivered(&ends, dir.path())).await;
    wait_for("everything to be spooled", || relay.counters.snapshot().spooled == 8000).await;
    ends.receiver.set_mode(Mode::Accept).await.unwrap();
    wait_for("the first logs", || ends.arrivals().report().delivered > 0).await;
    relay.stop().await;
    assert!(ends.all_committed(), "another relay would read some again");
}

/// Spools everything without a receiver, and has an operator set the checkpoint to a cursor
/// that the spool has passed, while the relay runs or while it does not.
async fn everything_from_a_reset_on_comes_again(while_it_runs: bool) {
    let ends = Ends::start(1, 1000).await;
    ends.receiver.set_mode(Mode::Refuse).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let settings = delivered(&ends, dir.path());
    let mut relay = Running::start(settings.clone()).await;
    wait_for("everything to be spooled", || relay.counters.snapshot().spooled == 1000).await;
    let key = relay.counters.shards()[0].0.clone();
    let chain = relay.spool.shard(&key).unwrap().chain;
    let reset = chain[1].clone();
    let set = || ends.emulator.set_checkpoint(GROUP, 0, &reset).unwrap();
    if while_it_runs {
        set();
    } else {
        relay.stop().await;
        set();
        relay = Running::start(settings).await;
    }
    let end = chain.last().unwrap();
    let pulled = |cursor: &str| {
        let asked = ends.emulator.requests();
        asked.iter().filter(|asked| asked.parameter("cursor") == Some(cursor)).count()
    };
    let (before, at_end) = (pulled(&reset), pulled(end));
    wait_for("the shard to be pulled on or anew", || {
        pulled(&reset) > before || pulled(end) > at_end + 20
    })
    .await;
    ends.receiver.set_mode(Mode::Accept).await.unwrap();
    ends.all_arrived().await;
    wait_for("the checkpoint to reach the end", || ends.all_committed()).await;
    wait_for("the spool to be empty", || relay.spool.waiting() == 0).await;
    relay.stop().await;
    let number = |cursor: &str| sls_relay::emulator::sls::cursor_number(cursor).unwrap();
    let again = u64::try_from(number(end) - number(&reset)).unwrap() * 10;
    assert!(again > 0);
    let report = ends.arrivals().report();
    assert!(report.is_faithful(), "{report}");
    assert_eq!(report.duplicates, again, "all from there on comes again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_before_anything_is_delivered_is_obeyed_while_the_relay_runs() {
    everything_from_a_reset_on_comes_again(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_before_anything_is_delivered_is_obeyed_at_the_next_start() {
    everything_from_a_reset_on_comes_again(false).await;
}
