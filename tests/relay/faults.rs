//! SLS misbehaving in one way after the other: the relay recovers from each, and commits
//! nothing that it does not have.

use sls_relay::emulator::sls::{Fault, FaultKind, Operation};

use crate::pipeline::{Ends, GROUP, Running, wait_for};

/// Runs a relay through `faults` and checks the account.
async fn survive(faults: Vec<Fault>) {
    let text = format!("{faults:?}");
    let ends = Ends::start(2, 2000).await;
    for fault in faults {
        ends.emulator.faults().add(fault);
    }
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    ends.all_arrived().await;
    wait_for("the checkpoints to reach the ends", || ends.all_committed()).await;
    relay.stop().await;
    let report = ends.arrivals().report();
    let wrong = (report.lost, report.out_of_order, report.corrupted, report.unknown);
    assert_eq!(wrong, (0, 0, 0, 0), "{text}: {report:?}");
}

fn some(kind: FaultKind, operation: Operation) -> Fault {
    Fault::new(kind).on(operation).times(3)
}

#[tokio::test(flavor = "multi_thread")]
async fn server_errors_are_tried_again() {
    for kind in [FaultKind::InternalServerError, FaultKind::BadGateway, FaultKind::ServerBusy] {
        survive(vec![some(kind, Operation::Any)]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_is_waited_for() {
    survive(vec![some(FaultKind::ReadQuotaExceed, Operation::Pull)]).await;
    survive(vec![some(FaultKind::ShardReadQuotaExceed, Operation::Pull)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_connections_and_bodies_are_pulled_again() {
    survive(vec![some(FaultKind::Reset, Operation::Any)]).await;
    survive(vec![some(FaultKind::Truncated, Operation::Pull)]).await;
    survive(vec![some(FaultKind::Corrupt, Operation::Pull)]).await;
    survive(vec![some(FaultKind::WrongRawSize, Operation::Pull)]).await;
    survive(vec![some(FaultKind::EmptyCursor, Operation::Pull)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_answers_and_those_that_never_come_are_survived() {
    let slow = FaultKind::Slow(std::time::Duration::from_millis(300));
    survive(vec![some(slow, Operation::Any)]).await;
    survive(vec![some(FaultKind::NeverAnswers, Operation::Heartbeat)]).await;
    survive(vec![Fault::new(FaultKind::NeverAnswers).on(Operation::Pull).times(1)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_cursor_is_not_believed_at_once() {
    survive(vec![Fault::new(FaultKind::InvalidCursor).on(Operation::Pull).times(1)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_heartbeats_and_checkpoints_are_made_up_for() {
    survive(vec![some(FaultKind::InternalServerError, Operation::Heartbeat)]).await;
    survive(vec![some(FaultKind::Reset, Operation::Checkpoint)]).await;
    survive(vec![some(FaultKind::Unauthorized, Operation::Any)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_by_an_hour_is_corrected() {
    let ends = Ends::start(1, 500).await;
    ends.emulator.faults().set_clock_skew(3600);
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    ends.all_arrived().await;
    relay.stop().await;
    assert_eq!(ends.arrivals().report().lost, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stays_corrupt_is_never_committed_over() {
    let ends = Ends::start(1, 1000).await;
    let dir = tempfile::tempdir().unwrap();
    ends.emulator.faults().add(Fault::new(FaultKind::Corrupt).on(Operation::Pull));
    let relay = Running::start(ends.settings(dir.path())).await;
    wait_for("several attempts", || ends.emulator.stats().pulls > 4).await;
    assert_eq!(relay.counters.snapshot().spooled, 0);
    assert_eq!(ends.committed(0), 0, "a checkpoint passed a body that nobody could read");
    ends.emulator.faults().clear();
    ends.all_arrived().await;
    wait_for("the checkpoints to reach the ends", || ends.all_committed()).await;
    relay.stop().await;
    assert_eq!(ends.arrivals().report().lost, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_cursor_goes_on_at_the_oldest_log_and_names_the_gap() {
    let ends = Ends::start(1, 1000).await;
    let dir = tempfile::tempdir().unwrap();
    // A checkpoint of long ago: SLS has deleted the first 40 of 100 groups since.
    let begin = ends.emulator.begin_cursor(0).unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    wait_for("the group", || ends.emulator.holders(GROUP).len() == 1).await;
    relay.stop().await;
    let dir = tempfile::tempdir().unwrap();
    ends.emulator.set_checkpoint(GROUP, 0, &begin).unwrap();
    ends.emulator.expire_before(0, 40).unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    wait_for("the rest to arrive", || ends.arrivals().report().delivered >= 600).await;
    wait_for("the checkpoints to reach the ends", || ends.all_committed()).await;
    relay.stop().await;
    let ledger = std::fs::read_to_string(dir.path().join("ledger.jsonl")).unwrap();
    let gap: serde_json::Value = serde_json::from_str(ledger.lines().next().unwrap()).unwrap();
    assert_eq!((&gap["what"], &gap["groups"]), (&"gap".into(), &40.into()), "{ledger}");
}
