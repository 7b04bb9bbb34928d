//! A checkpoint that moves without our commit while we hold the shard.

use sls_relay::emulator::sls::cursor_number;
use sls_relay::sls::Cursor;

use crate::pipeline::{Ends, GROUP, Running, wait_for};

fn cursor(number: i64) -> Cursor {
    Cursor::from_number(u64::try_from(number).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_of_the_checkpoint_is_obeyed_while_the_relay_runs() {
    let ends = Ends::start(1, 500).await;
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    ends.all_arrived().await;
    wait_for("the checkpoint to reach the end", || ends.all_committed()).await;
    let begin = cursor_number(&ends.emulator.begin_cursor(0).unwrap()).unwrap();
    ends.emulator.set_checkpoint(GROUP, 0, cursor(begin + 40).as_str()).unwrap();
    // The last ten groups of ten logs come again, because somebody wanted them again.
    wait_for("the logs to come again", || ends.arrivals().report().duplicates == 100).await;
    wait_for("the checkpoint to reach the end", || ends.all_committed()).await;
    relay.stop().await;
    assert_eq!(ends.arrivals().report().duplicates, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_with_our_name_makes_the_shard_stop() {
    let ends = Ends::start(2, 500).await;
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    ends.all_arrived().await;
    wait_for("the checkpoints to reach the ends", || ends.all_committed()).await;
    let name = ends.emulator.holders(GROUP)[&0].clone();
    let begin = cursor_number(&ends.emulator.begin_cursor(0).unwrap()).unwrap();
    let client = ends.client();
    let commit = || async {
        let at = cursor(begin + 1);
        client.update_checkpoint(ends.logstore(), GROUP, &name, 0, &at).await.unwrap();
    };
    // Once it may be an old commit of our own that was long under way: it is put right.
    commit().await;
    wait_for("the checkpoint to be put right", || ends.all_committed()).await;
    assert_eq!(relay.counters.snapshot().twins, 0);
    commit().await;
    wait_for("the twin to be noticed", || relay.counters.snapshot().twins == 1).await;
    let pulls = |shard| {
        let requests = ends.emulator.requests();
        requests
            .iter()
            .filter(|asked| asked.call == "PullLogs" && asked.shard == Some(shard))
            .count()
    };
    let (stopped, before) = (pulls(0), pulls(1));
    wait_for("the other shard to be pulled on", || pulls(1) > before + 5).await;
    assert_eq!(pulls(0), stopped, "pulled although another process has it");
    relay.stop().await;
    assert_eq!(ends.arrivals().report().duplicates, 0);
}
