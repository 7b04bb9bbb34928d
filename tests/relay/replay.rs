//! What was delivered once and kept is sent again, to one destination, as a replay.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sls_relay::config::Destination;
use sls_relay::emulator::receiver::{Mode, Receiver, ReceiverConfig};
use sls_relay::relay::replay::{Plan, Progress, Wanted, replay};
use sls_relay::spool::{Retention, Span};
use tokio_util::sync::CancellationToken;

use crate::pipeline::{Ends, Running, wait_for};

/// A second receiver, and what it got.
struct Archive {
    receiver: Receiver,
    got: Arc<Mutex<Vec<String>>>,
}

/// What marks the messages of [`plan`].
const MARK: &str = " origin=\"replay\" replay=\"r1\"] ";

impl Archive {
    fn start() -> Self {
        let got: Arc<Mutex<Vec<String>>> = Arc::default();
        let sink = Arc::clone(&got);
        let config =
            ReceiverConfig { tcp: Some("127.0.0.1:0".parse().unwrap()), ..Default::default() };
        let receiver = Receiver::start(
            config,
            Arc::new(move |_, message| {
                sink.lock().unwrap().push(String::from_utf8_lossy(message).into_owned());
            }),
        )
        .unwrap();
        Self { receiver, got }
    }

    fn destination(&self, like: &Destination) -> Arc<Destination> {
        let target = format!("tcp://{}", self.receiver.tcp_addr().unwrap()).parse().unwrap();
        Arc::new(Destination { name: "archive".to_owned(), target, ..like.clone() })
    }

    fn got(&self) -> Vec<String> {
        self.got.lock().unwrap().clone()
    }
}

fn plan(batches: Vec<Span>, wanted: Wanted) -> Plan {
    Plan { id: "r1".to_owned(), batches, wanted, rate: None, kept: None }
}

fn all() -> Wanted {
    Arc::new(|_, _| None)
}

/// Everything is delivered and still in the spool.
async fn delivered(ends: &Ends, dir: &std::path::Path) -> (Running, Destination) {
    let mut settings = ends.settings(dir);
    settings.spool.retention = Retention { time: Duration::from_secs(3600), bytes: u64::MAX };
    let destination = settings.destinations[0].clone();
    let relay = Running::start(settings).await;
    ends.all_arrived().await;
    wait_for("everything to be confirmed", || relay.spool.waiting() == 0).await;
    (relay, destination)
}

async fn run(relay: &Running, to: Arc<Destination>, plan: Plan) -> Progress {
    let stop = CancellationToken::new();
    replay(relay.spool.clone(), Some(relay.spool.pin(0)), to, plan, stop, |_| {}).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_sends_exactly_its_selection_and_moves_no_position() {
    let ends = Ends::start(2, 3000).await;
    let dir = tempfile::tempdir().unwrap();
    let (relay, destination) = delivered(&ends, dir.path()).await;
    let archive = Archive::start();
    let state = relay.spool.status().state;
    let end = state.next_seq;
    assert!(end > 6, "{end} batches");
    // Everything but one batch in the middle, and of that only what shard 0 has.
    let batches = vec![Span { first: 0, end: 3 }, Span { first: 4, end }];
    let progress =
        run(&relay, archive.destination(&destination), plan(batches.clone(), all())).await;
    let mut expected = 0;
    let mut reader = relay.spool.reader(0);
    let mut of_shard_0 = 0;
    while let Some(sls_relay::spool::Item::Batch(batch)) = reader.read().unwrap() {
        if batch.header.seq != 3 {
            expected += u64::from(batch.header.logs);
            of_shard_0 += u64::from(batch.header.logs) * u64::from(batch.header.key.shard == 0);
        }
    }
    assert_eq!((progress.seq, progress.confirmed), (end, expected));
    let got = archive.got();
    assert_eq!(got.len() as u64, expected);
    assert!(got.iter().all(|message| message.contains(MARK)), "{}", got[0]);
    let mut once = got.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), got.len(), "nothing twice");
    let wanted: Wanted = Arc::new(|header, _| (header.key.shard != 0).then(Vec::new));
    run(&relay, archive.destination(&destination), plan(batches, wanted)).await;
    assert_eq!(archive.got().len() as u64, expected + of_shard_0);
    let after = relay.spool.status().state;
    assert_eq!(after.destinations, state.destinations);
    relay.stop().await;
    assert_eq!(ends.arrivals().report().duplicates, 0, "the destination itself got nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn live_messages_beside_a_replay_are_the_same_without_its_marks() {
    let ends = Ends::start(1, 300).await;
    let dir = tempfile::tempdir().unwrap();
    let live = Archive::start();
    let mut settings = ends.settings(dir.path());
    settings.spool.retention = Retention { time: Duration::from_secs(3600), bytes: u64::MAX };
    settings.destinations[0].target =
        format!("tcp://{}", live.receiver.tcp_addr().unwrap()).parse().unwrap();
    let destination = settings.destinations[0].clone();
    let relay = Running::start(settings).await;
    let arrived = || relay.spool.status().state.next_log == 300 && relay.spool.waiting() == 0;
    wait_for("everything to be confirmed", arrived).await;
    let archive = Archive::start();
    let end = relay.spool.status().state.next_seq;
    let batches = vec![Span { first: 0, end }];
    run(&relay, archive.destination(&destination), plan(batches, all())).await;
    relay.stop().await;
    let sorted = |mut messages: Vec<String>| {
        messages.sort_unstable();
        messages
    };
    let (live, again) = (live.got(), archive.got());
    assert!(live.iter().all(|message| !message.contains(" origin=")), "{}", live[0]);
    let unmarked = again.iter().map(|message| message.replace(MARK, "] ")).collect();
    assert_eq!(sorted(unmarked), sorted(live));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_waits_for_its_receiver_and_loses_nothing_when_that_one_breaks() {
    let ends = Ends::start(1, 4000).await;
    let dir = tempfile::tempdir().unwrap();
    let (relay, destination) = delivered(&ends, dir.path()).await;
    let archive = Archive::start();
    archive.receiver.set_mode(Mode::Refuse).await.unwrap();
    let end = relay.spool.status().state.next_seq;
    let mut one = plan(vec![Span { first: 0, end }], all());
    one.rate = std::num::NonZeroU32::new(8000);
    let (spool, to) = (relay.spool.clone(), archive.destination(&destination));
    let pin = spool.pin(0);
    let (sender, mut reports) = tokio::sync::mpsc::unbounded_channel();
    let running =
        tokio::spawn(replay(spool, Some(pin), to, one, CancellationToken::new(), move |at| {
            let _ = sender.send(at);
        }));
    while reports.recv().await.unwrap().failures == 0 {}
    archive.receiver.set_mode(Mode::Accept).await.unwrap();
    wait_for("some to arrive", || archive.got().len() > 200).await;
    archive.receiver.set_mode(Mode::Refuse).await.unwrap();
    archive.receiver.set_mode(Mode::Accept).await.unwrap();
    let progress = running.await.unwrap().unwrap();
    assert_eq!(progress.confirmed, 4000);
    let mut got = archive.got();
    got.sort_unstable();
    got.dedup();
    assert_eq!(got.len(), 4000, "each at least once");
    relay.stop().await;
}
