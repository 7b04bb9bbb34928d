//! How far behind SLS the relay is, and how long SLS keeps what it has not pulled.

use std::sync::atomic::Ordering;

use sls_relay::emulator::sls::{Fault, FaultKind, Operation};

use crate::pipeline::{Ends, Running, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn the_lag_of_a_held_shard_is_exact_in_log_groups_and_gone_when_it_has_caught_up() {
    let ends = Ends::start(1, 1000).await;
    ends.emulator.faults().add(Fault::new(FaultKind::ServerBusy).on(Operation::Pull));
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    let shard = || relay.counters.snapshot().shards.first().cloned();
    wait_for("the lag", || shard().is_some_and(|shard| shard.lag_groups == Some(100))).await;
    assert!(shard().unwrap().lag_seconds.is_some());
    let left = || relay.counters.snapshot().sources["sls"].retention_left_seconds;
    wait_for("the time until retention", || left().is_some()).await;
    ends.emulator.faults().clear();
    ends.all_arrived().await;
    wait_for("no lag", || shard().unwrap().lag_groups == Some(0)).await;
    wait_for("nothing to lose", || left().is_none()).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_is_not_held_has_no_lag() {
    let ends = Ends::start(1, 100).await;
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    ends.all_arrived().await;
    let counters = std::sync::Arc::clone(&relay.counters);
    wait_for("the lag", || counters.snapshot().shards[0].lag_groups == Some(0)).await;
    relay.stop().await;
    let shard = &counters.snapshot().shards[0];
    assert_eq!((shard.held, shard.lag_groups, shard.lag_seconds), (false, None, None));
}

/// The last answer came up to the end of the shard, and cannot be stored: what came after it
/// would pile up in SLS unseen.
#[tokio::test(flavor = "multi_thread")]
async fn a_shard_whose_last_answer_waits_for_room_in_the_spool_is_not_at_its_end() {
    let ends = Ends::start(1, 10).await;
    let dir = tempfile::tempdir().unwrap();
    let mut settings = ends.settings(dir.path());
    settings.spool.min_free_bytes = 1 << 60;
    settings.sources[0].lag_every = std::time::Duration::from_millis(50);
    let relay = Running::start(settings).await;
    wait_for("the answer", || relay.counters.snapshot().pulled == 10).await;
    let shard = relay.counters.shards().remove(0).1;
    wait_for("the lag", || shard.lag_groups.load(Ordering::Relaxed) == 1).await;
    assert!(!shard.at_end.load(Ordering::Relaxed), "the lag would not be measured any more");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_cannot_be_pulled_any_more_is_not_said_to_be_at_its_end() {
    let ends = Ends::start(1, 10).await;
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    ends.all_arrived().await;
    let shard = relay.counters.shards().remove(0).1;
    wait_for("the end", || shard.at_end.load(Ordering::Relaxed)).await;
    ends.emulator.faults().add(Fault::new(FaultKind::ServerBusy).on(Operation::Pull));
    wait_for("doubt", || !shard.at_end.load(Ordering::Relaxed)).await;
    relay.stop().await;
}
