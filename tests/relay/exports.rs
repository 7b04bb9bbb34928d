//! `run --until`: pulling ends at a time, for everybody and exactly.

use sls_relay::config::Start;
use sls_relay::emulator::sls::cursor_number;

use crate::pipeline::{Ends, GROUP, Running, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn an_export_delivers_what_was_received_in_between_and_ends() {
    let ends = Ends::start(2, 2000).await;
    let dir = tempfile::tempdir().unwrap();
    let client = ends.client();
    let begin = cursor_number(&ends.emulator.begin_cursor(0).unwrap()).unwrap();
    let cursor = |groups: i64| sls_relay::sls::Cursor::from_number((begin + groups) as u64);
    let received = async |groups: i64| {
        let seconds = client.get_cursor_time(ends.logstore(), 0, &cursor(groups)).await.unwrap();
        jiff::Timestamp::from_second(seconds).unwrap()
    };
    let mut settings = ends.settings(dir.path());
    let (since, until) = (received(20).await, received(60).await);
    settings.sources[0].start = Start::Time(since);
    settings.sources[0].until = Some(until);
    let relay = Running::start(settings).await;
    relay.exported().await;
    // Groups that share a second of receiving are all in or all out.
    let first = |time: jiff::Timestamp| {
        let client = client.clone();
        let logstore = ends.logstore().to_owned();
        async move {
            let from = sls_relay::sls::CursorFrom::Time(time.as_second());
            let mut all = Vec::new();
            for shard in 0..2 {
                all.push(
                    client.get_cursor(&logstore, shard, from).await.unwrap().number().unwrap(),
                );
            }
            all
        }
    };
    let expected: u64 =
        first(until).await.iter().zip(first(since).await).map(|(to, from)| (to - from) * 10).sum();
    assert!(expected > 100, "a part worth the name: {expected}");
    assert_eq!(ends.arrivals().report().delivered, expected);
    relay.stop().await;
    let ended = first(until).await;
    for (shard, end) in (0..).zip(ended) {
        let at = ends.emulator.checkpoint_number(GROUP, shard).unwrap();
        assert_eq!(u64::try_from(at).unwrap(), end, "shard {shard}");
    }
    // The same group goes on from there.
    let relay = Running::start(ends.settings(dir.path())).await;
    wait_for("the checkpoints to reach the ends", || ends.all_committed()).await;
    relay.stop().await;
    assert_eq!(ends.arrivals().report().duplicates, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_waits_for_its_receiver_and_for_shards_that_are_empty() {
    let ends = Ends::start(3, 20).await;
    let dir = tempfile::tempdir().unwrap();
    let mut settings = ends.settings(dir.path());
    settings.sources[0].until = Some(jiff::Timestamp::now());
    let relay = Running::start(settings).await;
    relay.exported().await;
    assert!(ends.arrivals().is_complete());
    relay.stop().await;
}
