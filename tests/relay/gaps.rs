//! Logs that SLS deleted before they were pulled: never jumped over in silence.

use sls_relay::config::OnExpired;
use sls_relay::emulator::receiver::Mode;
use sls_relay::emulator::sls::cursor_number;
use sls_relay::spool::read_ledger;

use crate::pipeline::{Ends, GROUP, Running, wait_for};

/// A relay that has pulled and delivered some groups of shard 0 and is stopped; then SLS
/// deletes everything before `group`, which the relay's checkpoint has not reached.
async fn fall_behind(ends: &Ends, dir: &std::path::Path, group: u64) {
    let first = ends.emulator.begin_cursor(0).unwrap();
    let at = cursor_number(&first).unwrap() + 5;
    let cursor = sls_relay::sls::Cursor::from_number(u64::try_from(at).unwrap());
    let client = ends.client();
    client.create_consumer_group(ends.logstore(), GROUP, 3, false).await.unwrap();
    ends.emulator.set_checkpoint(GROUP, 0, cursor.as_str()).unwrap();
    assert!(read_ledger(dir).unwrap().is_empty());
    ends.emulator.expire_before(0, group).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pulling_goes_on_at_the_oldest_log_and_every_receiver_is_told_what_is_missing() {
    let ends = Ends::start(1, 1000).await;
    let dir = tempfile::tempdir().unwrap();
    fall_behind(&ends, dir.path(), 30).await;
    let relay = Running::start(ends.settings(dir.path())).await;
    // 100 groups of 10 logs; those before the 30th are gone.
    wait_for("what is left to arrive", || ends.arrivals().report().delivered == 700).await;
    wait_for("the notice", || ends.notices().len() == 1).await;
    wait_for("the checkpoint to reach the end", || ends.all_committed()).await;
    let notice = ends.notices().remove(0);
    assert_eq!((notice["notice"].as_str(), notice["code"].as_str()), ("gap", "sls.gap"));
    assert_eq!((notice["log_groups"].as_str(), notice["pri"].as_str()), ("25", "11"));
    let snapshot = relay.counters.snapshot();
    assert_eq!((snapshot.gaps, snapshot.gap_groups), (1, 25));
    relay.stop().await;
    let ledger = read_ledger(dir.path()).unwrap();
    assert_eq!(ledger.len(), 1, "{ledger:?}");
    assert_eq!((&ledger[0]["what"], &ledger[0]["groups"]), (&"gap".into(), &25.into()));
    assert_eq!(ledger[0]["cursor"].as_str().unwrap(), notice["cursor"]);
    assert!(ledger[0]["until"].is_string(), "the time of the first log that is left");
    let report = ends.arrivals().report();
    assert_eq!((report.out_of_order, report.duplicates, report.unknown), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_log_is_gone_on_with_only_where_that_is_configured() {
    let ends = Ends::start(1, 1000).await;
    let dir = tempfile::tempdir().unwrap();
    fall_behind(&ends, dir.path(), 30).await;
    let mut settings = ends.settings(dir.path());
    settings.sources[0].on_expired = OnExpired::Newest;
    let relay = Running::start(settings).await;
    wait_for("the notice", || ends.notices().len() == 1).await;
    wait_for("the checkpoint to reach the end", || ends.all_committed()).await;
    assert_eq!(ends.notices()[0]["log_groups"], "95");
    relay.stop().await;
    assert_eq!(ends.arrivals().report().delivered, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_stands_still_before_a_gap_until_its_checkpoint_is_set() {
    let ends = Ends::start(2, 1000).await;
    let dir = tempfile::tempdir().unwrap();
    fall_behind(&ends, dir.path(), 30).await;
    let mut settings = ends.settings(dir.path());
    settings.sources[0].on_expired = OnExpired::Stop;
    let relay = Running::start(settings).await;
    wait_for("the other shard to arrive", || ends.arrivals().report().delivered == 500).await;
    assert_eq!((relay.counters.snapshot().gaps, ends.notices().len()), (0, 0));
    let oldest = ends.emulator.begin_cursor(0).unwrap();
    ends.emulator.set_checkpoint(GROUP, 0, &oldest).unwrap();
    wait_for("what is left to arrive", || ends.arrivals().report().delivered == 700).await;
    relay.stop().await;
    assert!(read_ledger(dir.path()).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_found_while_the_receiver_is_away_is_told_after_a_restart() {
    let ends = Ends::start(1, 400).await;
    let dir = tempfile::tempdir().unwrap();
    fall_behind(&ends, dir.path(), 30).await;
    ends.receiver.set_mode(Mode::Refuse).await.unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    wait_for("the rest to be spooled", || relay.counters.snapshot().spooled == 101).await;
    relay.stop().await;
    ends.receiver.set_mode(Mode::Accept).await.unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    wait_for("what is left to arrive", || ends.arrivals().report().delivered == 100).await;
    relay.stop().await;
    assert_eq!(ends.notices().len(), 1);
    assert_eq!(read_ledger(dir.path()).unwrap().len(), 1);
}
