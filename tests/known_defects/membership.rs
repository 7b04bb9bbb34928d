//! Who holds a shard, who says so, and for how long.

use sls_relay::emulator::sls::{Asked, Fault, FaultKind, Operation};

use crate::pipeline::wait_for;
use crate::scene::{GROUP, OTHER, Other, Scene, ids, python};

const EVERY_BATCH: &[&str] = &["--save-every-batch"];

/// A shard that has changed hands.
struct Lost {
    /// The former holder.
    name: String,
    /// Requests until it learned of it.
    start: usize,
    /// Commits until it lost the shard.
    commits: usize,
    other: Other,
}

/// Takes shard 0 away from its holder, as the service does after lost heartbeats, and gives
/// it to another. Puts a log when the holder has learned of it.
async fn lose_the_shard(scene: &Scene) -> Lost {
    scene.all_arrived(&ids(0, 0..2)).await;
    wait_for("the checkpoint", || scene.committed(0)).await;
    let name = scene.held(0).await;
    scene.emulator().expel(GROUP, &name);
    let other = scene.other().await;
    assert_eq!(scene.holder(0).as_deref(), Some(OTHER));
    let commits = scene.emulator().checkpoint_log().len();
    let heartbeats = || scene.heartbeats_since(0, &name);
    let refused = || heartbeats().iter().any(|asked| asked.status == Some(400));
    wait_for("the refused heartbeat", refused).await;
    let start = scene.emulator().requests().len();
    scene.put(0, 2);
    Lost { name, start, commits, other }
}

/// After a heartbeat that proves the loss of its shards the SDK still pulls them, and it
/// forces its checkpoints over those of the new owner. The relay gives up at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_shard_is_still_pulled_and_committed_by_force() {
    let sdk = async {
        let Some(python) = python() else { return };
        let scene = Scene::new(&[2]).await;
        let more = ["--save-every-batch", "--heartbeat", "2"];
        let _sdk = scene.sdk(&python, &more);
        let Lost { name, start, commits, other: _other } = lose_the_shard(&scene).await;
        let committed = || {
            let log = scene.emulator().checkpoint_log().split_off(commits);
            log.into_iter().any(|commit| commit.consumer == name && commit.forced)
        };
        // An accepted heartbeat means that it has given up after all.
        let gave_up = || {
            let later = scene.heartbeats_since(start, &name);
            later.iter().any(|asked| asked.status == Some(200))
        };
        wait_for("a commit or the end", || committed() || gave_up()).await;
        assert!(committed(), "mended");
        assert!(!scene.asked_since(start, "PullLogs").is_empty(), "mended");
        assert_eq!(scene.holder(0).as_deref(), Some(OTHER));
    };
    let relay = async {
        let scene = Scene::new(&[2]).await;
        let relay = scene.relay().await;
        let Lost { name, start, commits, other } = lose_the_shard(&scene).await;
        let heartbeats = || scene.heartbeats_since(start, &name);
        wait_for("the relay to begin anew", || heartbeats().len() >= 2).await;
        let begun = scene.emulator().requests().len();
        wait_for("heartbeats", || heartbeats().len() >= 6).await;
        assert!(heartbeats().iter().all(|asked| asked.reported() == Some(vec![])));
        assert!(scene.asked_since(begun, "PullLogs").is_empty());
        assert_eq!(scene.emulator().checkpoint_log().len(), commits);
        assert_eq!(scene.holder(0).as_deref(), Some(OTHER));
        // The other consumer ends without having read anything.
        drop(other);
        scene.emulator().expel(GROUP, OTHER);
        scene.all_arrived(&ids(0, 0..3)).await;
        relay.stop().await;
        assert_eq!(scene.arrivals().len(), ids(0, 0..3).len());
    };
    tokio::join!(sdk, relay);
}

/// A consumer with a log that it could not commit yet, since commits fail.
async fn with_a_pending_commit(scene: &Scene) -> String {
    scene.all_arrived(&ids(0, 0..1)).await;
    wait_for("the first checkpoint", || scene.committed(0)).await;
    let refusal = Fault::new(FaultKind::InternalServerError).on(Operation::Checkpoint);
    scene.emulator().faults().add(refusal);
    scene.put(0, 1);
    scene.all_arrived(&ids(0, 0..2)).await;
    scene.held(0).await
}

/// Told to stop, the SDK ends its heartbeats first and has lost the shard by the time its
/// last checkpoint gets through. The relay goes on with them until then.
#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_stop_before_the_last_checkpoint() {
    let sdk = async {
        let Some(python) = python() else { return };
        let scene = Scene::new(&[1]).await;
        let sdk = scene.sdk(&python, &[]);
        with_a_pending_commit(&scene).await;
        sdk.terminate();
        let start = scene.emulator().requests().len();
        // They come a second apart, and the group's timeout is two seconds.
        let refused = || scene.asked_since(start, "UpdateCheckPoint").len();
        wait_for("refused checkpoints", || refused() >= 5).await;
        assert_eq!(scene.holder(0), None, "mended");
        scene.emulator().faults().clear();
        let (status, complaints) = sdk.end().await;
        assert!(status.success(), "{complaints}");
        assert!(scene.committed(0));
        assert!(scene.emulator().checkpoint_log().last().unwrap().forced, "mended");
    };
    let relay = async {
        let scene = Scene::new(&[1]).await;
        let relay = scene.relay().await;
        let name = with_a_pending_commit(&scene).await;
        let start = scene.emulator().requests().len();
        let commit_late = async {
            let heartbeats = || scene.heartbeats_since(start, &name).len();
            wait_for("heartbeats during the stop", || heartbeats() >= 5).await;
            assert_eq!(scene.holder(0).as_ref(), Some(&name));
            scene.emulator().faults().clear();
        };
        tokio::join!(relay.stop(), commit_late);
        assert!(scene.committed(0));
        assert!(!scene.emulator().checkpoint_log().last().unwrap().forced);
    };
    tokio::join!(sdk, relay);
}

/// With the process id in its name the sample is a stranger after a restart, and the shards
/// stay with the name that is gone. The relay comes back under its name and goes on at once.
#[tokio::test(flavor = "multi_thread")]
async fn the_process_id_in_the_name_stalls_a_restart() {
    let sdk = async {
        let Some(python) = python() else { return };
        let scene = Scene::new(&[2]).await;
        let sdk = scene.sdk(&python, &["--heartbeat", "10"]);
        scene.all_arrived(&ids(0, 0..2)).await;
        let name = scene.held(0).await;
        sdk.terminate();
        sdk.end().await;
        let start = scene.emulator().requests().len();
        let _sdk = scene.sdk(&python, &["--heartbeat", "10"]);
        wait_for("its heartbeat", || !scene.asked_since(start, "HeartBeat").is_empty()).await;
        let first = scene.asked_since(start, "HeartBeat").remove(0);
        assert_ne!(first.parameter("consumer"), Some(name.as_str()), "mended");
        assert_eq!(first.held(), Some(vec![]), "mended");
        assert_eq!(scene.holder(0), Some(name));
    };
    let relay = async {
        let scene = Scene::new(&[2]).await;
        // Waiting for the timeout would take longer than any test.
        scene.make_group(3600, false).await;
        let relay = scene.relay().await;
        scene.all_arrived(&ids(0, 0..2)).await;
        let name = scene.held(0).await;
        relay.stop().await;
        let start = scene.emulator().requests().len();
        scene.put(0, 2);
        let relay = scene.relay().await;
        scene.all_arrived(&ids(0, 0..3)).await;
        relay.stop().await;
        let first = scene.asked_since(start, "HeartBeat").remove(0);
        assert_eq!(first.parameter("consumer"), Some(name.as_str()));
        assert_eq!(first.held(), Some(vec![0]));
    };
    tokio::join!(sdk, relay);
}

/// Early versions of the SDK left a revoked shard out of the heartbeat while they still
/// processed it, and the next owner read the same logs. This one reports it until its
/// checkpoint is committed, and so does the relay.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_shard_leaves_the_heartbeat_before_it_is_drained() {
    let hand_over = async |scene: &Scene| {
        let all = |numbers: std::ops::Range<u64>| &ids(0, numbers.clone()) | &ids(1, numbers);
        scene.all_arrived(&all(0..1)).await;
        wait_for("the checkpoints", || scene.committed(0) && scene.committed(1)).await;
        let refusal = Fault::new(FaultKind::InternalServerError).on(Operation::Checkpoint);
        scene.emulator().faults().add(refusal);
        scene.put(0, 1);
        scene.put(1, 1);
        scene.all_arrived(&all(0..2)).await;
        let name = scene.held(0).await;
        let start = scene.emulator().requests().len();
        let _other = scene.other().await;
        let heartbeats = || scene.heartbeats_since(start, &name);
        let of_one = |held: Option<Vec<u32>>| held.is_some_and(|held| held.len() == 1);
        let revoked = || heartbeats().into_iter().skip_while(|asked| !of_one(asked.held()));
        wait_for("more heartbeats", || revoked().count() >= 3).await;
        assert!(revoked().all(|asked| asked.reported() == Some(vec![0, 1])));
        scene.emulator().faults().clear();
        let taken = |shard| scene.holder(shard).as_deref() == Some(OTHER);
        wait_for("the hand-over", || taken(0) || taken(1)).await;
        let shard = u32::from(taken(1));

        let place = |wanted: &dyn Fn(&Asked) -> bool| {
            scene.emulator().requests().iter().skip(start).position(wanted)
        };
        let left = || {
            place(&|asked| {
                asked.parameter("consumer") == Some(&name)
                    && asked.reported().is_some_and(|reported| !reported.contains(&shard))
            })
        };
        wait_for("the heartbeat without it", || left().is_some()).await;
        let committed = place(&|asked| {
            (asked.call, asked.shard, asked.status) == ("UpdateCheckPoint", Some(shard), Some(200))
        });
        assert!(committed.unwrap() < left().unwrap());
        assert!(scene.committed(shard));
    };
    let sdk = async {
        let Some(python) = python() else { return };
        let scene = Scene::new(&[1, 1]).await;
        let _sdk = scene.sdk(&python, EVERY_BATCH);
        hand_over(&scene).await;
    };
    let relay = async {
        let scene = Scene::new(&[1, 1]).await;
        let relay = scene.relay().await;
        hand_over(&scene).await;
        relay.stop().await;
    };
    tokio::join!(sdk, relay);
}
