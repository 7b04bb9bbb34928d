//! A relay as one consumer of its group: what others do to the checkpoints, the shards and
//! the group itself.

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
