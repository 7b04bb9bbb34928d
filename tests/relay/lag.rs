//! How far behind SLS the relay is, and how long SLS keeps what it has not pulled.

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
