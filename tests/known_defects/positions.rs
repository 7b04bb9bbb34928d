//! Where reading goes on: expired checkpoints and empty shards.

use std::collections::BTreeSet;

use crate::pipeline::wait_for;
use crate::scene::{GROUP, Scene, ids, python};

/// A group whose checkpoint is at the begin of shard 0, of whose 20 groups 8 have expired since.
async fn with_an_expired_checkpoint() -> Scene {
    let scene = Scene::new(&[20]).await;
    let emulator = scene.emulator();
    scene.make_group(2, false).await;
    emulator.set_checkpoint(GROUP, 0, &emulator.begin_cursor(0).unwrap()).unwrap();
    emulator.expire_before(0, 8).unwrap();
    scene
}

/// The SDK goes on at the end and never reads what is still retained; the relay goes on at
/// the oldest log that is left.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_checkpoint_skips_what_is_retained() {
    let sdk = async {
        let Some(python) = python() else { return };
        let scene = with_an_expired_checkpoint().await;
        let _sdk = scene.sdk(&python, &[]);
        scene.put_until_one_arrives(0, 20).await;
        assert!(scene.arrived().is_disjoint(&ids(0, 8..20)), "mended: {:?}", scene.arrived());
        wait_for("a checkpoint behind them", || scene.passed(0) >= 20).await;
    };
    let relay = async {
        let scene = with_an_expired_checkpoint().await;
        let relay = scene.relay().await;
        scene.all_arrived(&ids(0, 8..20)).await;
        scene.put(0, 20);
        scene.all_arrived(&ids(0, 8..21)).await;
        assert_eq!(scene.arrived(), ids(0, 8..21));
        relay.stop().await;
    };
    tokio::join!(sdk, relay);
}

/// The SDK commits nothing for a shard without logs, so that SLS never learns that a
/// read-only one is finished; the relay commits where it stands.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_read_only_shard_is_never_released() {
    let pulls = |scene: &Scene| {
        scene.asked("PullLogs").into_iter().filter(|asked| asked.shard == Some(1)).count()
    };
    let sdk = async {
        let Some(python) = python() else { return };
        let scene = Scene::new(&[2, 0]).await;
        scene.emulator().split(1).unwrap();
        let _sdk = scene.sdk(&python, &[]);
        scene.all_arrived(&ids(0, 0..2)).await;
        let committed = || scene.emulator().checkpoint(GROUP, 1).is_some();
        wait_for("several empty pulls", || pulls(&scene) >= 6 || committed()).await;
        assert!(!committed(), "mended");
        assert!(scene.holder(1).is_some(), "mended");
    };
    let relay = async {
        let scene = Scene::new(&[2, 0]).await;
        scene.emulator().split(1).unwrap();
        let relay = scene.relay().await;
        scene.all_arrived(&ids(0, 0..2)).await;
        wait_for("the commit of the empty shard", || scene.committed(1)).await;
        let held = || scene.emulator().holders(GROUP);
        wait_for("the others only", || held().into_keys().eq([0, 2, 3])).await;
        relay.stop().await;
    };
    tokio::join!(sdk, relay);
}

/// Children of a split wait for their parents in an ordered group. The SDK never commits an
/// empty parent, so that its children are never read; the relay reads all of them.
#[tokio::test(flavor = "multi_thread")]
async fn children_of_an_empty_parent_are_never_read_in_order() {
    // Shard 0 has logs and the children 2 and 3, shard 1 is empty and has 4 and 5.
    let split = async || {
        let scene = Scene::new(&[2, 0]).await;
        scene.make_group(3, true).await;
        scene.emulator().split(0).unwrap();
        scene.emulator().split(1).unwrap();
        (2..6).for_each(|shard| scene.put(shard, 0));
        scene
    };
    let children = |shards: std::ops::Range<u32>| -> BTreeSet<String> {
        shards.flat_map(|shard| ids(shard, 0..1)).collect()
    };
    let sdk = async {
        let Some(python) = python() else { return };
        let scene = split().await;
        let _sdk = scene.sdk(&python, &["--in-order", "--save-every-batch"]);
        scene.all_arrived(&children(2..4)).await;
        let pulls = || {
            let pulls = scene.asked("PullLogs").into_iter();
            pulls.filter(|asked| asked.shard == Some(1)).count()
        };
        let committed = || scene.emulator().checkpoint(GROUP, 1).is_some();
        wait_for("several empty pulls", || pulls() >= 8 || committed()).await;
        assert!(!committed(), "mended");
        assert!(scene.arrived().is_disjoint(&children(4..6)), "mended");
    };
    let relay = async {
        let scene = split().await;
        let relay = scene.relay().await;
        scene.all_arrived(&children(2..6)).await;
        relay.stop().await;
        let arrivals = scene.arrivals();
        let at = |id: &str| arrivals.iter().position(|arrived| arrived == id).unwrap();
        assert!(at("0/1/2") < at("2/0/0").min(at("3/0/0")), "{arrivals:?}");
    };
    tokio::join!(sdk, relay);
}
