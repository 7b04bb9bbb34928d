//! Several relays in one consumer group.

use crate::pipeline::{Ends, GROUP, Running, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn relays_that_come_and_go_share_the_shards_without_loss() {
    let ends = Ends::start(6, 12_000).await;
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let settings = |n: usize| {
        let mut settings = ends.settings(dirs[n].path());
        settings.sources[0].idle_poll = std::time::Duration::from_millis(300);
        settings
    };
    let first = Running::start(settings(0)).await;
    wait_for("the first to hold all", || ends.emulator.holders(GROUP).len() == 6).await;
    let second = Running::start(settings(1)).await;
    let third = Running::start(settings(2)).await;
    let held_by = || {
        let holders = ends.emulator.holders(GROUP);
        let mut names: Vec<_> = holders.into_values().collect();
        names.sort();
        names.dedup();
        names.len()
    };
    wait_for("three relays to share", || held_by() == 3).await;
    first.stop().await;
    wait_for("the two left to take over", || {
        ends.emulator.holders(GROUP).len() == 6 && held_by() == 2
    })
    .await;
    // What the first still had in its spool leaves it when it is back.
    let first = Running::start(settings(0)).await;
    ends.all_arrived().await;
    wait_for("the checkpoints to reach the ends", || ends.all_committed()).await;
    first.stop().await;
    second.stop().await;
    third.stop().await;
    let report = ends.arrivals().report();
    assert_eq!((report.lost, report.corrupted, report.unknown), (0, 0, 0), "{report:?}");
    assert_eq!(report.duplicates, 0, "graceful hand-over repeats nothing: {report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_consumer_keeps_its_name_over_restarts() {
    let ends = Ends::start(1, 100).await;
    let dir = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    for _ in 0..2 {
        let relay = Running::start(ends.settings(dir.path())).await;
        wait_for("the shard", || ends.emulator.holders(GROUP).len() == 1).await;
        names.extend(ends.emulator.holders(GROUP).into_values());
        relay.stop().await;
    }
    assert_eq!(names[0], names[1]);
    let suffix = names[0].rsplit('-').next().unwrap();
    assert_eq!(suffix.len(), 8, "{names:?}");
}
