//! Several destinations: each goes its own way, and those that are not required are in nobody's.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use sls_relay::config::{Checkpoint, Destination, Settings};
use sls_relay::emulator::arrivals::Arrivals;
use sls_relay::emulator::receiver::{Mode, Receiver, ReceiverConfig};
use sls_relay::emulator::waf::Waf;
use sls_relay::emulator::workload::Workload;
use sls_relay::relay::status::DestinationSnapshot;
use sls_relay::spool::{StartAt, read_ledger};

use crate::pipeline::{Ends, Running, wait_for};

/// Another receiver, which expects the same logs.
struct Another {
    receiver: Receiver,
    arrivals: Arc<Mutex<Arrivals>>,
}

impl Another {
    fn start(shards: u32, logs: u64) -> Self {
        let workload = Workload::new(Waf::new(7), shards, logs, 10);
        let arrivals = Arc::new(Mutex::new(Arrivals::new(workload, "||")));
        Self { receiver: receiver_of(&arrivals), arrivals }
    }

    fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap()
    }

    /// As a destination of this name.
    fn destination(&self, name: &str, like: &Destination) -> Destination {
        let to = format!("tcp://{}", self.receiver.tcp_addr().unwrap());
        Destination { name: name.to_owned(), target: to.parse().unwrap(), ..like.clone() }
    }
}

fn receiver_of(arrivals: &Arc<Mutex<Arrivals>>) -> Receiver {
    let sink = Arc::clone(arrivals);
    let tcp = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    Receiver::start(
        ReceiverConfig { tcp, ..ReceiverConfig::default() },
        Arc::new(move |_, message| sink.lock().unwrap().message(message)),
    )
    .unwrap()
}

/// `syslog`, which is the receiver of `ends`, and `archive`, which is the other one.
fn both(ends: &Ends, archive: &Another, dir: &Path) -> Settings {
    let mut settings = ends.settings(dir);
    let archive = archive.destination("archive", &settings.destinations[0]);
    settings.destinations.push(archive);
    settings
}

fn snapshot(relay: &Running, name: &str) -> DestinationSnapshot {
    relay.counters.snapshot().destinations.get(name).cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_goes_on_while_another_is_down_and_that_one_misses_nothing() {
    let ends = Ends::start(2, 3000).await;
    let archive = Another::start(2, 3000);
    archive.receiver.set_mode(Mode::Refuse).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(both(&ends, &archive, dir.path())).await;
    ends.all_arrived().await;
    wait_for("confirmation", || snapshot(&relay, "syslog").confirmed == 3000).await;
    assert_eq!(relay.spool.delivered("archive").unwrap().log, 0);
    archive.receiver.set_mode(Mode::Accept).await.unwrap();
    wait_for("the other to have all", || archive.arrivals().is_complete()).await;
    relay.stop().await;
    for arrivals in [ends.arrivals(), archive.arrivals()] {
        let report = arrivals.report();
        assert!(report.is_faithful() && report.duplicates == 0, "{report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_do_not_wait_for_one_that_is_not_required() {
    let ends = Ends::start(2, 1000).await;
    let archive = Another::start(2, 1000);
    archive.receiver.set_mode(Mode::Refuse).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut settings = both(&ends, &archive, dir.path());
    settings.sources[0].checkpoint = Checkpoint::Delivered;
    settings.destinations[1].required = false;
    let relay = Running::start(settings).await;
    wait_for("the checkpoints to reach the ends", || ends.all_committed()).await;
    assert_eq!(relay.spool.waiting(), 0);
    archive.receiver.set_mode(Mode::Accept).await.unwrap();
    wait_for("the other to have all", || archive.arrivals().is_complete()).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_not_required_loses_its_place_when_the_spool_is_full_and_says_so() {
    const LOGS: u64 = 60_000;
    let ends = Ends::serve(Waf::new(7), 2, LOGS, |config| config.max_raw_bytes = 1 << 20).await;
    let archive = Another::start(2, LOGS);
    archive.receiver.set_mode(Mode::Refuse).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut settings = both(&ends, &archive, dir.path());
    settings.spool.max_bytes = 16 << 20;
    settings.destinations[1].required = false;
    let relay = Running::start(settings).await;
    ends.all_arrived().await;
    wait_for("the checkpoints to reach the ends", || ends.all_committed()).await;
    let lost = || snapshot(&relay, "archive").given_up;
    assert!(lost() > 0, "{} bytes in the spool", relay.spool.status().used_bytes);
    assert_eq!(snapshot(&relay, "syslog").given_up, 0);
    archive.receiver.set_mode(Mode::Accept).await.unwrap();
    wait_for("the other to have what is left", || {
        let report = archive.arrivals().report();
        report.delivered + lost() >= LOGS
    })
    .await;
    let lost = lost();
    relay.stop().await;
    let report = archive.arrivals().report();
    assert_eq!((report.lost, report.duplicates, report.unknown), (lost, 0, 0), "{report}");
    assert_eq!(ends.arrivals().report().lost, 0);
    let ledger = read_ledger(dir.path()).unwrap();
    let told = ledger.iter().filter(|line| line["what"] == "gave way");
    let told: u64 = told
        .map(|line| {
            assert_eq!(line["destination"], "archive");
            line["logs"].as_u64().unwrap()
        })
        .sum();
    assert_eq!(told, lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_is_added_starts_where_it_is_told() {
    let ends = Ends::start(1, 2000).await;
    let dir = tempfile::tempdir().unwrap();
    let archive = Another::start(1, 2000);
    archive.receiver.set_mode(Mode::Refuse).await.unwrap();
    let settings = both(&ends, &archive, dir.path());
    let relay = Running::start(settings.clone()).await;
    ends.all_arrived().await;
    wait_for("confirmation", || snapshot(&relay, "syslog").confirmed == 2000).await;
    relay.stop().await;
    let (late, all) = (Another::start(1, 2000), Another::start(1, 2000));
    let mut settings = settings;
    for (another, name, start) in [(&late, "late", StartAt::Now), (&all, "all", StartAt::Oldest)] {
        let destination = another.destination(name, &settings.destinations[0]);
        settings.destinations.push(Destination { start, ..destination });
    }
    let relay = Running::start(settings).await;
    wait_for("all there is to arrive", || all.arrivals().is_complete()).await;
    assert_eq!(relay.spool.delivered("late").unwrap().log, 2000);
    assert_eq!(late.arrivals().report().delivered, 0);
    relay.stop().await;
    let starts: Vec<_> = read_ledger(dir.path())
        .unwrap()
        .into_iter()
        .filter(|line| line["what"] == "destination")
        .map(|line| (line["destination"].clone(), line["start"].clone()))
        .collect();
    assert_eq!(starts, [("late".into(), "now".into()), ("all".into(), "oldest".into())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_receiver_takes_over_and_the_first_gets_the_rest_with_nothing_lost() {
    let ends = Ends::start(1, 12_000).await;
    let second = receiver_of(&ends.arrivals);
    let dir = tempfile::tempdir().unwrap();
    let mut settings = ends.settings(dir.path());
    let destination = &mut settings.destinations[0];
    let other = format!("tcp://{}", second.tcp_addr().unwrap());
    destination.failover = vec![other.parse().unwrap()];
    destination.failback_after = Duration::from_secs(1);
    destination.drain_every = Duration::from_millis(300);
    // Slow enough that there is something left for the way back.
    destination.pacing.logs = Some(2000);
    let first = destination.target.to_string();
    let relay = Running::start(settings).await;
    let used = || snapshot(&relay, "syslog").sending.receiver;
    wait_for("logs at the first", || ends.receiver.counts().messages > 500).await;
    assert_eq!(used().as_ref(), Some(&first));
    ends.receiver.set_mode(Mode::Refuse).await.unwrap();
    wait_for("logs at the second", || second.counts().messages > 2500).await;
    assert_eq!(used(), Some(other));
    let repeated = ends.arrivals().report().duplicates;
    ends.receiver.set_mode(Mode::Accept).await.unwrap();
    wait_for("the first to be used again", || used().as_ref() == Some(&first)).await;
    ends.all_arrived().await;
    wait_for("confirmation", || relay.spool.waiting() == 0).await;
    let report = ends.arrivals().report();
    assert_eq!((report.lost, report.corrupted, report.unknown), (0, 0, 0), "{report}");
    assert_eq!(report.duplicates, repeated, "the way back repeats nothing");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_no_receiver_works_each_is_tried_and_the_one_that_does_gets_all() {
    let ends = Ends::start(1, 1000).await;
    let second = receiver_of(&ends.arrivals);
    ends.receiver.set_mode(Mode::Refuse).await.unwrap();
    second.set_mode(Mode::Refuse).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut settings = ends.settings(dir.path());
    let other = format!("tcp://{}", second.tcp_addr().unwrap());
    settings.destinations[0].failover = vec![other.parse().unwrap()];
    let relay = Running::start(settings.clone()).await;
    wait_for("some failures", || snapshot(&relay, "syslog").failures > 4).await;
    second.set_mode(Mode::Accept).await.unwrap();
    ends.all_arrived().await;
    relay.stop().await;
    assert_eq!((ends.receiver.counts().messages, second.counts().messages), (0, 1000));
    // The place is the destination's: the other one gets nothing again.
    ends.receiver.set_mode(Mode::Accept).await.unwrap();
    let relay = Running::start(settings).await;
    wait_for("the first to be used", || ends.receiver.counts().connections > 0).await;
    relay.stop().await;
    assert!(ends.arrivals().report().is_faithful());
    assert_eq!(ends.arrivals().report().duplicates, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_holds_for_its_destination_alone() {
    const LOGS: u64 = 3000;
    let ends = Ends::start(1, LOGS).await;
    let archive = Another::start(1, LOGS);
    let dir = tempfile::tempdir().unwrap();
    let mut settings = both(&ends, &archive, dir.path());
    settings.destinations[1].pacing.logs = Some(1000);
    let start = Instant::now();
    let relay = Running::start(settings).await;
    arrives_within_1000_a_second(&archive.receiver, start, || archive.arrivals().is_complete())
        .await;
    ends.all_arrived().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_for_the_relay_to_start_is_sent_at_the_rate_for_that() {
    let ends = Ends::start(1, 3000).await;
    ends.receiver.set_mode(Mode::Refuse).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut settings = ends.settings(dir.path());
    settings.destinations[0].pacing.catch_up = Some(1000);
    let relay = Running::start(settings.clone()).await;
    wait_for("everything to be spooled", || relay.counters.snapshot().spooled == 3000).await;
    relay.stop().await;
    ends.receiver.set_mode(Mode::Accept).await.unwrap();
    let start = Instant::now();
    let relay = Running::start(settings).await;
    arrives_within_1000_a_second(&ends.receiver, start, || ends.arrivals().is_complete()).await;
    relay.stop().await;
}

/// Waits until all is there, and looks all the time whether it came too early.
async fn arrives_within_1000_a_second(
    receiver: &Receiver,
    start: Instant,
    mut complete: impl FnMut() -> bool,
) {
    let mut most = 0.0_f64;
    wait_for("the one with a cap to have all", || {
        // Counted first: what passes in between only lowers what is seen.
        let arrived = receiver.counts().messages as f64;
        most = most.max(arrived - 1000.0 * start.elapsed().as_secs_f64());
        complete()
    })
    .await;
    assert!(most <= 201.0, "{most} logs ahead of the cap; a tenth of a second and a write may be");
}
