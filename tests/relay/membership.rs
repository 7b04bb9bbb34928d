//! A relay as one consumer of its group: what others do to the checkpoints, the shards and
//! the group itself.

use std::time::Duration;

use sls_relay::config::Start;
use sls_relay::emulator::sls::{Fault, FaultKind, Operation};
use sls_relay::emulator::waf::Waf;
use sls_relay::emulator::workload::Workload;
use sls_relay::sls::Cursor;

use crate::pipeline::{Ends, GROUP, Running, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_an_operator_moves_while_the_shard_is_idle_is_obeyed() {
    let ends = Ends::start(1, 100).await;
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    ends.all_arrived().await;
    wait_for("the checkpoint to reach the end", || ends.all_committed()).await;
    let begin = ends.emulator.begin_cursor(0).unwrap();
    ends.emulator.set_checkpoint(GROUP, 0, &begin).unwrap();
    wait_for("every log a second time", || ends.arrivals().report().duplicates == 100).await;
    wait_for("the checkpoint to reach the end again", || ends.all_committed()).await;
    relay.stop().await;
    let report = ends.arrivals().report();
    assert!(report.is_faithful() && report.duplicates == 100, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_shard_is_committed_again_so_that_sls_notes_its_end() {
    let ends = Ends::start(1, 100).await;
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    wait_for("the checkpoint to reach the end", || ends.all_committed()).await;
    // SLS makes a shard that is read-only by now `over` when its end is committed, not before.
    let commits = ends.emulator.checkpoint_log().len();
    wait_for("the end to be committed again", || ends.emulator.checkpoint_log().len() > commits)
        .await;
    let log = ends.emulator.checkpoint_log();
    assert_eq!(log[commits - 1].cursor, log[commits].cursor);
    relay.stop().await;
    assert_eq!(ends.arrivals().report().duplicates, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_was_deleted_skips_nothing_that_the_spool_knows_to_be_missing() {
    let ends = Ends::serve(Waf::new(7), 1, 100, |config| config.generator = None).await;
    let workload = Workload::new(Waf::new(7), 1, 100, 10);
    let write = |groups: std::ops::Range<u64>| {
        for group in groups {
            ends.emulator.put_group(0, &workload.group(0, group)).unwrap();
        }
    };
    let dir = tempfile::tempdir().unwrap();
    let mut settings = ends.settings(dir.path());
    settings.sources[0].start = Start::End;
    let relay = Running::start(settings.clone()).await;
    wait_for("the end to be committed", || ends.all_committed()).await;
    write(0..4);
    wait_for("the first logs", || ends.arrivals().report().delivered == 40).await;
    wait_for("their commit", || ends.all_committed()).await;
    // While it runs: it makes the group anew and goes on.
    ends.emulator.delete_group(GROUP).unwrap();
    write(4..7);
    wait_for("the next logs", || ends.arrivals().report().delivered == 70).await;
    wait_for("their commit", || ends.all_committed()).await;
    relay.stop().await;
    // While it does not.
    ends.emulator.delete_group(GROUP).unwrap();
    write(7..10);
    let relay = Running::start(settings).await;
    ends.all_arrived().await;
    relay.stop().await;
    let report = ends.arrivals().report();
    assert!(report.is_faithful() && report.duplicates == 0, "{report}");
}

/// Taken at the checkpoint of another consumer, and not committed once before the end: the
/// spool holds what comes behind that checkpoint all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_pulled_from_the_checkpoint_of_another_is_not_pulled_again_after_a_restart() {
    let ends = Ends::start(1, 1000).await;
    let (client, begin) = (ends.client(), ends.emulator.begin_cursor(0).unwrap());
    client.create_consumer_group(ends.logstore(), GROUP, 3, false).await.unwrap();
    let second = Duration::from_secs(1);
    client.heartbeat(ends.logstore(), GROUP, "another", &[], second).await.unwrap();
    let begin = Cursor::new(begin);
    client.update_checkpoint(ends.logstore(), GROUP, "another", 0, &begin).await.unwrap();
    ends.emulator.expel(GROUP, "another");
    let refused = Fault::new(FaultKind::InternalServerError).on(Operation::Checkpoint);
    ends.emulator.faults().add(refused);
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    ends.all_arrived().await;
    relay.stop().await;
    assert_eq!(ends.committed(0), 0);
    ends.emulator.faults().clear();
    let relay = Running::start(ends.settings(dir.path())).await;
    wait_for("the checkpoint to reach the end", || ends.all_committed()).await;
    relay.stop().await;
    let report = ends.arrivals().report();
    assert_eq!((report.delivered, report.duplicates, report.unknown), (1000, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_to_what_the_relay_itself_once_committed_is_obeyed() {
    let ends = Ends::serve(Waf::new(7), 1, 100, |config| config.generator = None).await;
    let workload = Workload::new(Waf::new(7), 1, 100, 10);
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    wait_for("the empty shard to be committed", || ends.all_committed()).await;
    let begin = ends.emulator.begin_cursor(0).unwrap();
    for group in 0..10 {
        ends.emulator.put_group(0, &workload.group(0, group)).unwrap();
    }
    ends.all_arrived().await;
    wait_for("the checkpoint to reach the end", || ends.all_committed()).await;
    ends.emulator.set_checkpoint(GROUP, 0, &begin).unwrap();
    wait_for("every log a second time", || ends.arrivals().report().duplicates == 100).await;
    wait_for("the checkpoint to reach the end again", || ends.all_committed()).await;
    relay.stop().await;
}
