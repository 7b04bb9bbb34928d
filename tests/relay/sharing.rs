//! Several relays in one consumer group, and several sources and destinations in one relay.

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

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_is_away_holds_neither_the_others_nor_pulling() {
    let ends = Ends::start(2, 1000).await;
    let dir = tempfile::tempdir().unwrap();
    let mut settings = ends.settings(dir.path());
    let mut away = settings.destinations[0].clone();
    away.name = "away".to_owned();
    // A port that was free a moment ago, with nobody behind it.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    away.target = format!("tcp://{nobody}").parse().unwrap();
    settings.destinations.push(away);
    let relay = Running::start(settings).await;
    ends.all_arrived().await;
    wait_for("the checkpoints to reach the ends", || ends.all_committed()).await;
    wait_for("confirmation", || relay.confirmed() == 1000).await;
    relay.spool.flush().await.unwrap();
    // The other one's logs wait for it.
    let state = relay.spool.status().state;
    assert_eq!(state.destinations["away"].log, 0);
    assert_eq!(state.oldest_needed(), 0);
    relay.stop().await;
    assert!(ends.arrivals().report().is_faithful());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sources_are_read_each_with_positions_of_its_own() {
    let ends = Ends::start(2, 1000).await;
    let dir = tempfile::tempdir().unwrap();
    let mut settings = ends.settings(dir.path());
    let mut other = settings.sources[0].clone();
    other.name = "other".to_owned();
    other.consumer_group = "other-group".to_owned();
    settings.sources.push(other);
    let relay = Running::start(settings).await;
    wait_for("every log twice", || relay.confirmed() == 2000).await;
    relay.stop().await;
    // The same logs by two groups: each arrives once for each.
    let report = ends.arrivals().report();
    assert_eq!((report.delivered, report.duplicates, report.corrupted), (1000, 1000, 0));
    let ends_of = |group: &str| ends.emulator.checkpoint(group, 0);
    assert!(ends_of(GROUP).is_some() && ends_of(GROUP) == ends_of("other-group"));
}
