//! From a pull to the receiver: what is skipped, and what comes although something failed.

use std::collections::BTreeSet;
use std::time::Duration;

use sls_relay::emulator::receiver::Mode;
use sls_relay::emulator::sls::{Asked, Fault, FaultKind, Operation};
use sls_relay::sls::wire::LogGroup;

use crate::pipeline::wait_for;
use crate::scene::{Scene, content, group, ids, python};

/// Log 1/1 of shard 0 has a field that the sample takes for its time.
fn with_a_bad_log(shard: u32, number: u64) -> LogGroup {
    let mut group = group(shard, number);
    if (shard, number) == (0, 1) {
        group.logs[1].contents.push(content("__time__", "soon"));
    }
    group
}

/// The sample raises, the SDK drops the rest of the batch and commits behind it with the
/// next one; the relay delivers the log as it is.
#[tokio::test(flavor = "multi_thread")]
async fn one_bad_log_drops_the_rest_of_its_batch() {
    let sdk = async {
        let Some(python) = python() else { return };
        let scene = Scene::serve(&[4], with_a_bad_log).await;
        let _sdk = scene.sdk(&python, &[]);
        scene.put_until_one_arrives(0, 4).await;
        let mut before = ids(0, 0..1);
        before.insert("0/1/0".to_owned());
        let first: BTreeSet<_> = scene.arrived().intersection(&ids(0, 0..4)).cloned().collect();
        assert_eq!(first, before, "mended");
        wait_for("a checkpoint behind them", || scene.passed(0) >= 4).await;
    };
    let relay = async {
        let scene = Scene::serve(&[4], with_a_bad_log).await;
        let relay = scene.relay().await;
        scene.all_arrived(&ids(0, 0..4)).await;
        scene.put(0, 4);
        scene.all_arrived(&ids(0, 0..5)).await;
        relay.stop().await;
    };
    tokio::join!(sdk, relay);
}

/// The sample passes over errors of sending and the checkpoint goes on; the relay keeps
/// the batch until the receiver has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_could_not_be_sent_is_skipped() {
    // The receiver is there for the first group, away for the second, and there again.
    let until_committed = async |scene: &Scene| {
        scene.all_arrived(&ids(0, 0..1)).await;
        scene.receiver.set_mode(Mode::Refuse).await.unwrap();
        scene.put(0, 1);
        wait_for("a checkpoint behind the outage", || scene.passed(0) >= 2).await;
        scene.receiver.set_mode(Mode::Accept).await.unwrap();
    };
    let sdk = async {
        let Some(python) = python() else { return };
        let scene = Scene::new(&[1]).await;
        let _sdk = scene.sdk(&python, &["--save-every-batch"]);
        until_committed(&scene).await;
        scene.put_until_one_arrives(0, 2).await;
        assert!(scene.arrived().is_disjoint(&ids(0, 1..2)), "mended: {:?}", scene.arrived());
    };
    let relay = async {
        let scene = Scene::new(&[1]).await;
        let relay = scene.relay().await;
        until_committed(&scene).await;
        scene.all_arrived(&ids(0, 0..2)).await;
        relay.stop().await;
    };
    tokio::join!(sdk, relay);
}

/// A group of about a mebibyte.
fn large(shard: u32, number: u64) -> LogGroup {
    let mut group = group(shard, number);
    group.logs[0].contents.push(content("filler", vec![b'x'; 1 << 20]));
    group
}

/// The SDK asks for the same number of log groups however large they are; the relay asks
/// for as many as fit its memory.
#[tokio::test(flavor = "multi_thread")]
async fn the_pull_size_does_not_follow_the_size_of_log_groups() {
    let counts = |asked: Vec<Asked>| -> Vec<u32> {
        let answered = asked.into_iter().filter(|asked| asked.status == Some(200));
        answered.filter_map(|asked| asked.count()).collect()
    };
    let sdk = async {
        let Some(python) = python() else { return };
        let scene = Scene::serve(&[12], large).await;
        let _sdk = scene.sdk(&python, &[]);
        scene.all_arrived(&ids(0, 0..12)).await;
        let counts = counts(scene.asked("PullLogs"));
        assert!(
            counts.len() >= 3 && counts.iter().all(|count| *count == 1000),
            "mended: {counts:?}"
        );
    };
    let relay = async {
        let scene = Scene::serve(&[12], large).await;
        let relay = scene.relay().await;
        scene.all_arrived(&ids(0, 0..12)).await;
        relay.stop().await;
        let counts = counts(scene.asked("PullLogs"));
        assert!(counts[0] > 4 && counts[1] <= 4, "{counts:?}");
    };
    tokio::join!(sdk, relay);
}

/// The network fails for longer than the group's timeout. Early versions of the SDK never
/// came back; this one and the relay do, the relay without reading anything twice.
#[tokio::test(flavor = "multi_thread")]
async fn errors_repeat_for_ever_after_a_network_flap() {
    let flap = async |scene: &Scene| {
        scene.all_arrived(&ids(0, 0..5)).await;
        wait_for("the checkpoint", || scene.committed(0)).await;
        let name = scene.held(0).await;
        scene.emulator().faults().add(Fault::new(FaultKind::Reset));
        scene.put(0, 5);
        wait_for("the group's timeout", || scene.holder(0).is_none()).await;
        scene.emulator().faults().clear();
        scene.all_arrived(&ids(0, 0..6)).await;
        let start = scene.emulator().requests().len();
        scene.put(0, 6);
        scene.all_arrived(&ids(0, 0..7)).await;
        wait_for("three heartbeats in a row to be answered", || {
            let heartbeats = scene.heartbeats_since(start, &name);
            heartbeats
                .rsplit(|asked| asked.status != Some(200))
                .next()
                .is_some_and(|answered| answered.len() >= 3)
        })
        .await;
        scene.heartbeats_since(start, &name)
    };
    let sdk = async {
        let Some(python) = python() else { return };
        let scene = Scene::new(&[5]).await;
        let _sdk = scene.sdk(&python, &["--save-every-batch"]);
        flap(&scene).await;
    };
    let relay = async {
        let scene = Scene::new(&[5]).await;
        let relay = scene.relay().await;
        let heartbeats = flap(&scene).await;
        relay.stop().await;
        assert!(heartbeats.iter().all(|asked| asked.status == Some(200)), "{heartbeats:?}");
        let arrivals = scene.arrivals();
        assert_eq!(arrivals.len(), scene.arrived().len(), "twice: {arrivals:?}");
    };
    tokio::join!(sdk, relay);
}

/// Heartbeats that take long beside pulls of megabytes: no shard is lost over it.
#[tokio::test(flavor = "multi_thread")]
async fn slow_heartbeats_beside_huge_pulls_cost_the_shards() {
    let read = async |scene: &Scene| {
        let slow = |milliseconds| FaultKind::Slow(Duration::from_millis(milliseconds));
        scene.emulator().faults().add(Fault::new(slow(600)).on(Operation::Heartbeat));
        scene.emulator().faults().add(Fault::new(slow(400)).on(Operation::Pull));
        scene.all_arrived(&ids(0, 0..24)).await;
        let heartbeats = scene.asked("HeartBeat");
        let held = heartbeats.iter().all(|asked| asked.held() == Some(vec![0]));
        assert!(held && heartbeats.len() >= 3, "{heartbeats:?}");
        assert_eq!(scene.arrivals().len(), scene.arrived().len());
    };
    let sdk = async {
        let Some(python) = python() else { return };
        let scene = Scene::serve(&[24], large).await;
        let _sdk = scene.sdk(&python, &[]);
        read(&scene).await;
    };
    let relay = async {
        let scene = Scene::serve(&[24], large).await;
        let relay = scene.relay().await;
        read(&scene).await;
        relay.stop().await;
    };
    tokio::join!(sdk, relay);
}
