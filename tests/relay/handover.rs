//! `handover = "delivered"`: the next relay gets a shard when its logs are delivered.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sls_relay::config::{Checkpoint, Handover, Settings};
use sls_relay::emulator::arrivals::body_of;
use sls_relay::emulator::receiver::{Mode, Receiver, ReceiverConfig};
use sls_relay::emulator::waf::{Waf, id_of};
use sls_relay::emulator::workload::Workload;
use sls_relay::syslog::body;

use crate::groups::Warnings;
use crate::pipeline::{Ends, GROUP, Running, wait_for};

/// Log groups of a shard, and logs in one.
const GROUPS: u64 = 40;
const PER_GROUP: u64 = 10;

/// Two relays, each with a receiver and a spool of its own, and one account of all that comes.
struct Scene {
    ends: Ends,
    workload: Workload,
    receivers: [Receiver; 2],
    dirs: [tempfile::TempDir; 2],
    /// Shard and number of every log, as it came.
    came: Arc<Mutex<Vec<(u32, u64)>>>,
}

impl Scene {
    /// `shards` shards, and `later` more that a split makes.
    async fn start(shards: u32, later: u32) -> Self {
        let logs = u64::from(shards + later) * GROUPS * PER_GROUP;
        let ends = Ends::serve(Waf::new(7), shards + later, logs, |config| {
            config.generator = None;
            config.shards = shards;
        })
        .await;
        let came = Arc::new(Mutex::new(Vec::new()));
        let receiver = || {
            let (arrivals, came) = (Arc::clone(&ends.arrivals), Arc::clone(&came));
            let any = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
            let sink = move |_, message: &[u8]| {
                let mut arrivals = arrivals.lock().unwrap();
                arrivals.message(message);
                let fields = body::decode(body_of(message).unwrap(), "||").unwrap();
                let id = fields.iter().rev().find(|(key, _)| key == b"request_traceid");
                came.lock().unwrap().extend(id.and_then(|(_, id)| id_of(id)));
            };
            let config = ReceiverConfig { tcp: any, ..ReceiverConfig::default() };
            Receiver::start(config, Arc::new(sink)).unwrap()
        };
        let receivers = [receiver(), receiver()];
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let workload = Workload::new(Waf::new(7), shards + later, logs, PER_GROUP);
        Self { ends, workload, receivers, dirs, came }
    }

    fn settings(&self, relay: usize) -> Settings {
        let to = format!("tcp://{}", self.receivers[relay].tcp_addr().unwrap());
        let mut settings = self.ends.settings_to(self.dirs[relay].path(), &to);
        settings.sources[0].checkpoint = Checkpoint::Delivered;
        settings.sources[0].handover = Handover::Delivered;
        settings.sources[0].handover_timeout = Duration::from_secs(3600);
        settings
    }

    fn write(&self, shards: std::ops::Range<u32>, groups: std::ops::Range<u64>) {
        for shard in shards {
            for group in groups.clone() {
                let group = self.workload.group(shard, group);
                self.ends.emulator.put_group(shard, &group).unwrap();
            }
        }
    }

    async fn away(&self, relay: usize) {
        self.receivers[relay].set_mode(Mode::Refuse).await.unwrap();
    }

    async fn back(&self, relay: usize) {
        self.receivers[relay].set_mode(Mode::Accept).await.unwrap();
    }

    /// A relay without its receiver that has pulled half of two shards, and another that waits
    /// for one of them.
    async fn waiting(first: Settings, scene: &Self) -> [Running; 2] {
        scene.away(0).await;
        scene.write(0..2, 0..GROUPS / 2);
        let first = Running::start(first).await;
        let half = GROUPS * PER_GROUP;
        wait_for("half to be spooled", || first.counters.snapshot().spooled == half).await;
        let second = Running::start(scene.settings(1)).await;
        scene.is_kept().await;
        [first, second]
    }

    /// Waits until a relay has reported a shard five times that it is asked to give back.
    async fn is_kept(&self) {
        let from = self.ends.emulator.requests().len();
        wait_for("a shard to be wanted elsewhere", || {
            let asked = self.ends.emulator.requests().split_off(from);
            let kept = asked.iter().filter(|asked| {
                let lists = asked.reported().zip(asked.held());
                lists.is_some_and(|(reported, held)| reported.len() > held.len())
            });
            kept.count() >= 5
        })
        .await;
    }

    /// Every shard is held, by so many relays.
    fn holders(&self) -> usize {
        let holders = self.ends.emulator.holders(GROUP);
        holders.values().collect::<std::collections::BTreeSet<_>>().len()
    }

    fn committed(&self, mut shards: std::ops::Range<u32>) -> bool {
        let emulator = &self.ends.emulator;
        shards.all(|shard| emulator.checkpoint(GROUP, shard) == emulator.end_cursor(shard).ok())
    }

    /// Waits until everything is delivered and committed, and gives the number of duplicates.
    async fn end(&self, shards: std::ops::Range<u32>) -> u64 {
        self.ends.all_arrived().await;
        wait_for("the checkpoints to reach the ends", || self.committed(shards.clone())).await;
        let report = self.ends.arrivals().report();
        assert!(report.is_faithful(), "{report}");
        report.duplicates
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_relay_gets_a_shard_only_when_its_logs_are_delivered() {
    let scene = Scene::start(2, 0).await;
    let [first, second] = Scene::waiting(scene.settings(0), &scene).await;
    scene.write(0..2, GROUPS / 2..GROUPS);
    scene.is_kept().await;
    assert_eq!(scene.receivers[1].counts().messages, 0, "the next relay has got it");
    scene.back(0).await;
    assert_eq!(scene.end(0..2).await, 0);
    assert!(scene.receivers[1].counts().messages > 0, "the next relay has not got it");
    assert_eq!(scene.holders(), 2);
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn after_the_handover_timeout_the_rest_comes_twice_and_a_warning_says_so() {
    let warnings = Warnings::default();
    let _listening = warnings.listen();
    let scene = Scene::start(2, 0).await;
    scene.away(0).await;
    scene.write(0..2, 0..GROUPS);
    let mut settings = scene.settings(0);
    settings.sources[0].handover_timeout = Duration::from_secs(1);
    let first = Running::start(settings).await;
    let all = 2 * GROUPS * PER_GROUP;
    wait_for("everything to be spooled", || first.counters.snapshot().spooled == all).await;
    assert_eq!(warnings.with("sls.handover_timeout"), [""; 0]);
    let second = Running::start(scene.settings(1)).await;
    wait_for("a shard from the next relay", || {
        scene.ends.arrivals().report().delivered == GROUPS * PER_GROUP
    })
    .await;
    assert_eq!(warnings.with("sls.handover_timeout").len(), 1);
    scene.back(0).await;
    assert_eq!(scene.end(0..2).await, GROUPS * PER_GROUP, "one shard comes twice");
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_was_started_again_hands_over_what_its_spool_holds_delivered() {
    let scene = Scene::start(2, 0).await;
    scene.write(0..2, 0..GROUPS / 2);
    let first = Running::start(scene.settings(0)).await;
    wait_for("the first half to be committed", || scene.committed(0..2)).await;
    scene.away(0).await;
    scene.write(0..2, GROUPS / 2..GROUPS);
    let all = 2 * GROUPS * PER_GROUP;
    wait_for("everything to be spooled", || first.counters.snapshot().spooled == all).await;
    first.stop().await;
    let first = Running::start(scene.settings(0)).await;
    wait_for("the shards again", || scene.ends.emulator.holders(GROUP).len() == 2).await;
    let second = Running::start(scene.settings(1)).await;
    scene.is_kept().await;
    assert_eq!(scene.receivers[1].counts().messages, 0, "the next relay has got it");
    scene.back(0).await;
    assert_eq!(scene.end(0..2).await, 0);
    wait_for("a shard for each", || scene.holders() == 2).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_stops_while_a_hand_over_waits_and_delivers_the_rest_later() {
    let scene = Scene::start(2, 0).await;
    let [first, second] = Scene::waiting(scene.settings(0), &scene).await;
    first.stop().await;
    scene.write(0..2, GROUPS / 2..GROUPS);
    scene.ends.all_arrived().await;
    scene.back(0).await;
    let first = Running::start(scene.settings(0)).await;
    let half = GROUPS * PER_GROUP;
    wait_for("the rest", || scene.ends.arrivals().report().duplicates == half).await;
    assert_eq!(scene.end(0..2).await, half, "what the first had pulled comes twice");
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_lost_while_a_hand_over_waits_costs_duplicates_and_no_order() {
    let scene = Scene::start(2, 0).await;
    let holder = |shard| scene.ends.emulator.holders(GROUP).get(&shard).cloned();
    let [first, second] = Scene::waiting(scene.settings(0), &scene).await;
    scene.ends.emulator.expel(GROUP, &holder(0).unwrap());
    scene.write(0..2, GROUPS / 2..GROUPS);
    wait_for("the next relay to deliver", || scene.receivers[1].counts().messages > 0).await;
    scene.back(0).await;
    wait_for("the first to deliver", || first.spool.waiting() == 0).await;
    let again = scene.end(0..2).await;
    let spooled = [&first, &second].map(|relay| relay.counters.snapshot().spooled);
    assert!(again > 0);
    assert_eq!(again + 2 * GROUPS * PER_GROUP, spooled.iter().sum::<u64>());
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_is_given_back_while_its_hand_over_waits_goes_on_where_it_was() {
    let scene = Scene::start(2, 0).await;
    let [first, second] = Scene::waiting(scene.settings(0), &scene).await;
    second.stop().await;
    wait_for("both shards again", || {
        let last = scene.ends.emulator.requests().into_iter().rev().find_map(|asked| asked.held());
        last.is_some_and(|held| held.len() == 2)
    })
    .await;
    scene.write(0..2, GROUPS / 2..GROUPS);
    scene.back(0).await;
    assert_eq!(scene.end(0..2).await, 0);
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_children_of_a_split_come_after_all_of_their_parent_is_confirmed() {
    let scene = Scene::start(1, 2).await;
    scene.away(0).await;
    scene.write(0..1, 0..GROUPS);
    let settings = |relay| {
        let mut settings = scene.settings(relay);
        settings.sources[0].order = Some(true);
        settings
    };
    let first = Running::start(settings(0)).await;
    let parent = GROUPS * PER_GROUP;
    wait_for("the parent to be spooled", || first.counters.snapshot().spooled == parent).await;
    assert_eq!(scene.ends.emulator.split(0).unwrap(), (1, 2));
    scene.write(1..3, 0..GROUPS);
    let second = Running::start(settings(1)).await;
    let beats = || scene.ends.emulator.stats().heartbeats;
    let before = beats();
    wait_for("heartbeats of both", || beats() >= before + 12).await;
    let of_child = |shard: Option<u32>| shard.is_some_and(|shard| shard > 0);
    let asked = scene.ends.emulator.requests();
    assert!(!asked.iter().any(|asked| asked.call == "PullLogs" && of_child(asked.shard)));
    scene.back(0).await;
    assert_eq!(scene.end(0..3).await, 0);
    let came = scene.came.lock().unwrap().clone();
    assert!(came.iter().take(usize::try_from(parent).unwrap()).all(|(shard, _)| *shard == 0));
    first.stop().await;
    second.stop().await;
}
