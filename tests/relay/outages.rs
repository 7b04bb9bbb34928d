//! Receivers that are away, stall, reset, or never answer.

use std::time::Duration;

use sls_relay::emulator::receiver::Mode;
use sls_relay::emulator::sls::cursor_number;
use sls_relay::emulator::waf::Waf;
use sls_relay::sls::Cursor;
use sls_relay::spool::inspect::Inspection;
use sls_relay::syslog::{Assurance, Proof};
use tokio::io::AsyncReadExt as _;

use crate::pipeline::{Ends, Running, wait_for};

/// What must hold at the end of every outage: everything there, in order, as it was.
fn assert_faithful(ends: &Ends) {
    let report = ends.arrivals().report();
    let wrong = (report.lost, report.out_of_order, report.corrupted, report.unknown);
    assert_eq!(wrong, (0, 0, 0, 0), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_log_arrives_intact_and_in_order() {
    let ends = Ends::start(3, 3000).await;
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    ends.all_arrived().await;
    wait_for("the checkpoints to reach the ends", || ends.all_committed()).await;
    wait_for("confirmation", || relay.confirmed() == 3000).await;
    relay.stop().await;
    assert_faithful(&ends);
    assert_eq!(ends.arrivals().report().duplicates, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_down_from_the_start_misses_nothing() {
    let ends = Ends::start(2, 4000).await;
    ends.receiver.set_mode(Mode::Refuse).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    // Meanwhile everything is pulled, made durable and committed.
    wait_for("checkpoints at the ends", || ends.all_committed()).await;
    assert_eq!(ends.arrivals().report().delivered, 0);
    assert_eq!(relay.counters.snapshot().spooled, 4000);
    ends.receiver.set_mode(Mode::Accept).await.unwrap();
    ends.all_arrived().await;
    relay.stop().await;
    assert_faithful(&ends);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_during_the_outage_changes_nothing() {
    let ends = Ends::start(2, 2000).await;
    ends.receiver.set_mode(Mode::Refuse).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    wait_for("checkpoints at the ends", || ends.all_committed()).await;
    relay.stop().await;
    ends.receiver.set_mode(Mode::Accept).await.unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    ends.all_arrived().await;
    relay.stop().await;
    assert_faithful(&ends);
    assert_eq!(ends.arrivals().report().duplicates, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_restart_repeats_nothing() {
    let ends = Ends::start(2, 2000).await;
    let dir = tempfile::tempdir().unwrap();
    for part in 1..=4 {
        let relay = Running::start(ends.settings(dir.path())).await;
        wait_for("a part to arrive", || ends.arrivals().report().delivered >= part * 500).await;
        relay.stop().await;
    }
    let relay = Running::start(ends.settings(dir.path())).await;
    ends.all_arrived().await;
    relay.stop().await;
    assert_faithful(&ends);
    assert_eq!(ends.arrivals().report().duplicates, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_reset_or_close_in_the_middle_lose_nothing() {
    for mode in [Mode::ResetAfter { bytes: 300_000 }, Mode::CloseAfter { messages: 150 }] {
        let ends = Ends::start(2, 2000).await;
        ends.receiver.set_mode(mode).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let relay = Running::start(ends.settings(dir.path())).await;
        wait_for("a broken connection", || {
            relay.counters.snapshot().destinations.values().any(|d| d.failures > 2)
        })
        .await;
        ends.receiver.set_mode(Mode::Accept).await.unwrap();
        ends.all_arrived().await;
        relay.stop().await;
        assert_faithful(&ends);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_receiver_holds_delivery_but_not_pulling() {
    let ends = Ends::start(2, 6000).await;
    ends.receiver.set_mode(Mode::Stall).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    wait_for("checkpoints at the ends", || ends.all_committed()).await;
    assert_eq!(relay.confirmed(), 0);
    ends.receiver.set_mode(Mode::Accept).await.unwrap();
    ends.all_arrived().await;
    relay.stop().await;
    assert_faithful(&ends);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_never_closes_is_delivered_to_with_weaker_proof() {
    let ends = Ends::start(1, 1500).await;
    ends.receiver.set_mode(Mode::Deaf).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut settings = ends.settings(dir.path());
    settings.destinations[0].timeout = Duration::from_millis(300);
    let relay = Running::start(settings).await;
    wait_for("confirmation", || relay.confirmed() == 1500).await;
    let unproven: u64 = relay.counters.snapshot().destinations.values().map(|d| d.unproven).sum();
    assert!(unproven > 0, "what was not proven must be counted");
    relay.stop().await;
    assert_faithful(&ends);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_destination_holds_what_its_receiver_does_not_prove() {
    let ends = Ends::start(1, 300).await;
    ends.receiver.set_mode(Mode::Deaf).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut settings = ends.settings(dir.path());
    settings.destinations[0].timeout = Duration::from_millis(100);
    settings.destinations[0].assurance = Assurance::Strict;
    let relay = Running::start(settings).await;
    let unanswered = || {
        let destinations = relay.counters.snapshot().destinations;
        destinations.values().map(|d| d.unanswered_drains).sum::<u64>()
    };
    wait_for("six drains without an answer", || unanswered() >= 6).await;
    assert_eq!(relay.confirmed(), 0);
    ends.receiver.set_mode(Mode::Accept).await.unwrap();
    wait_for("confirmation", || relay.confirmed() == 300).await;
    relay.stop().await;
    assert_faithful(&ends);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_window_of_a_receiver_proves_what_it_has_read() {
    let ends = Ends::start(2, 6000).await;
    let dir = tempfile::tempdir().unwrap();
    let mut settings = ends.settings(dir.path());
    settings.destinations[0].delivery = Proof::Window;
    settings.destinations[0].drain_idle = Duration::from_secs(1);
    let relay = Running::start(settings).await;
    wait_for("confirmation without a drain", || relay.confirmed() > 0).await;
    let snapshot = relay.counters.snapshot();
    let destination = snapshot.destinations.values().next().unwrap();
    assert_eq!((destination.drains, destination.unproven), (0, 0));
    // The rest of it, which the margin hides, is proven by a drain once nothing flows.
    wait_for("confirmation", || relay.confirmed() == 6000).await;
    relay.stop().await;
    assert_faithful(&ends);
    assert_eq!(ends.arrivals().report().duplicates, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_window_mode_a_stalled_receiver_that_is_killed_costs_nothing() {
    let ends = Ends::start(2, 6000).await;
    ends.receiver.set_mode(Mode::Stall).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut settings = ends.settings(dir.path());
    settings.destinations[0].delivery = Proof::Window;
    settings.destinations[0].drain_idle = Duration::from_secs(1);
    let relay = Running::start(settings).await;
    let written =
        || relay.counters.snapshot().destinations.values().map(|d| d.written).sum::<u64>();
    wait_for("logs in the buffers of a receiver that does not read", || written() > 200).await;
    ends.receiver.set_mode(Mode::Refuse).await.unwrap();
    ends.receiver.set_mode(Mode::Accept).await.unwrap();
    wait_for("confirmation", || relay.confirmed() == 6000).await;
    relay.stop().await;
    assert_faithful(&ends);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_log_that_its_receiver_closes_connections_for_goes_into_the_quarantine() {
    let ends = Ends::start(1, 400).await;
    // The second log of the eighth group.
    let number = cursor_number(&ends.emulator.begin_cursor(0).unwrap()).unwrap() + 7;
    let cursor = Cursor::from_number(u64::try_from(number).unwrap());
    let text = format!("cursor=\"{cursor}\" idx=\"1\"");
    ends.receiver.set_mode(Mode::CloseOn { text: text.leak() }).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut settings = ends.settings(dir.path());
    settings.destinations[0].settle = Duration::from_millis(20);
    let relay = Running::start(settings).await;
    wait_for("confirmation of the others", || relay.confirmed() == 399).await;
    wait_for("the checkpoint to reach the end", || ends.all_committed()).await;
    let snapshot = relay.counters.snapshot();
    let destination = snapshot.destinations.values().next().unwrap();
    assert_eq!(destination.quarantined, 1);
    let kept = Inspection::open(dir.path()).unwrap().quarantine().unwrap();
    assert_eq!(kept.len(), 1, "{kept:?}");
    relay.stop().await;
    let report = ends.arrivals().report();
    assert_eq!((report.lost, report.out_of_order, report.corrupted), (1, 0, 0), "{report:?}");
    assert_eq!(ends.notices().len(), 1, "the receiver was asked whether it takes others");
}

/// Takes logs and never ends a connection, but for one on which `poison` comes.
async fn deaf_but_for(poison: String) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let poison = poison.clone();
            tokio::spawn(async move {
                let (mut seen, mut buf) = (Vec::new(), vec![0; 64 << 10]);
                while let Ok(read @ 1..) = stream.read(&mut buf).await {
                    seen.extend_from_slice(&buf[..read]);
                    if seen.windows(poison.len()).any(|part| part == poison.as_bytes()) {
                        return;
                    }
                }
                std::future::pending::<()>().await;
            });
        }
    });
    addr
}

#[tokio::test(flavor = "multi_thread")]
async fn one_log_that_a_receiver_that_never_answers_closes_for_does_not_hold_the_others() {
    let ends = Ends::start(1, 40).await;
    let number = cursor_number(&ends.emulator.begin_cursor(0).unwrap()).unwrap() + 2;
    let cursor = Cursor::from_number(u64::try_from(number).unwrap());
    let to = deaf_but_for(format!("cursor=\"{cursor}\" idx=\"1\"")).await;
    let dir = tempfile::tempdir().unwrap();
    let mut settings = ends.settings_to(dir.path(), &format!("tcp://{to}"));
    settings.destinations[0].settle = Duration::from_millis(20);
    settings.destinations[0].timeout = Duration::from_millis(100);
    let relay = Running::start(settings).await;
    wait_for("confirmation of the others", || relay.confirmed() == 39).await;
    let quarantined =
        relay.counters.snapshot().destinations.values().map(|d| d.quarantined).sum::<u64>();
    assert_eq!(quarantined, 1);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_reads_slowly_does_not_keep_the_relay_from_stopping() {
    let ends = Ends::start(1, 20_000).await;
    let slow = Mode::Slow { delay: Duration::from_millis(200), bytes: 4096 };
    ends.receiver.set_mode(slow).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    let counters = std::sync::Arc::clone(&relay.counters);
    let drains = move || counters.snapshot().destinations.values().map(|d| d.drains).sum::<u64>();
    wait_for("a drain that takes long", || drains() >= 1).await;
    let stopped = tokio::time::timeout(Duration::from_secs(60), relay.stop()).await;
    assert!(stopped.is_ok(), "it waits for the receiver to read everything");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_closes_on_every_message_gets_no_log_put_aside() {
    let ends = Ends::start(1, 50).await;
    ends.receiver.set_mode(Mode::CloseAfter { messages: 0 }).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    let failures =
        || relay.counters.snapshot().destinations.values().map(|d| d.failures).sum::<u64>();
    wait_for("many failures", || failures() >= 9).await;
    let quarantined =
        relay.counters.snapshot().destinations.values().map(|d| d.quarantined).sum::<u64>();
    assert_eq!(quarantined, 0);
    ends.receiver.set_mode(Mode::Accept).await.unwrap();
    ends.all_arrived().await;
    relay.stop().await;
    assert_faithful(&ends);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_closes_what_it_accepts_is_a_failure_and_not_idleness() {
    let ends = Ends::start(1, 50).await;
    ends.receiver.set_mode(Mode::CloseAfter { messages: 0 }).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    wait_for("logs to send", || relay.counters.snapshot().spooled == 50).await;
    let failures =
        || relay.counters.snapshot().destinations.values().map(|d| d.failures).sum::<u64>();
    wait_for("many failures", || failures() >= 8).await;
    // Every connection that brought nothing counts, and each is waited for longer than the last.
    let connections = ends.receiver.counts().connections;
    assert!(connections <= failures() + 3, "{connections} connections, {} failures", failures());
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_holds_pulling_until_the_receiver_is_back() {
    let ends = Ends::serve(Waf::new(3), 2, 60_000, |config| config.max_raw_bytes = 1 << 20).await;
    ends.receiver.set_mode(Mode::Refuse).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut settings = ends.settings(dir.path());
    settings.spool.max_bytes = sls_relay::spool::MIN_QUOTA;
    let relay = Running::start(settings).await;
    let mut room = 0;
    wait_for("the quota to hold", || {
        let status = relay.spool.status();
        assert!(status.used_bytes <= status.max_bytes, "the quota was passed: {status:?}");
        // Full: what is used has stopped growing, with most of the logs still in SLS.
        let (before, now) = (room, relay.counters.snapshot().spooled);
        room = now;
        now > 0 && now == before && status.used_bytes > status.max_bytes * 8 / 10
    })
    .await;
    assert!(relay.counters.snapshot().spooled < 60_000);
    // Heartbeats went on: the shards are still ours.
    assert_eq!(ends.emulator.holders(crate::pipeline::GROUP).len(), 2);
    ends.receiver.set_mode(Mode::Accept).await.unwrap();
    ends.all_arrived().await;
    relay.stop().await;
    assert_faithful(&ends);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_spool_gives_its_disk_space_back() {
    let ends = Ends::serve(Waf::new(3), 1, 20_000, |config| config.max_raw_bytes = 1 << 20).await;
    ends.receiver.set_mode(Mode::Refuse).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    wait_for("everything in the spool", || relay.spool.status().state.next_log == 20_000).await;
    ends.receiver.set_mode(Mode::Accept).await.unwrap();
    ends.all_arrived().await;
    // All of it lies in one segment, which is removed when it is confirmed.
    wait_for("a new segment alone", || {
        let state = relay.spool.status().state;
        state.segments.len() == 1 && state.segments.values().all(|s| s.first_seq == state.next_seq)
    })
    .await;
    // A file that is removed and still open takes its space until it is closed.
    let open_but_removed = || {
        let files = std::fs::read_dir("/proc/self/fd").unwrap();
        let links = files.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok());
        let ours = |path: &std::path::PathBuf| path.starts_with(dir.path());
        links.filter(ours).any(|path| path.to_string_lossy().ends_with("(deleted)"))
    };
    wait_for("removed files to be closed", || !open_but_removed()).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn udp_delivers_what_fits_and_survives_a_refused_port() {
    let ends = Ends::serve(Waf::plain(5), 1, 400, |_| {}).await;
    let dir = tempfile::tempdir().unwrap();
    let to = format!("udp://{}", ends.receiver.udp_addr().unwrap());
    let mut settings = ends.settings_to(dir.path(), &to);
    settings.destinations[0].udp_max_rate = 2000;
    ends.receiver.set_mode(Mode::Refuse).await.unwrap();
    let relay = Running::start(settings).await;
    wait_for("a refusal", || {
        relay.counters.snapshot().destinations.values().any(|d| d.failures > 0)
    })
    .await;
    ends.receiver.set_mode(Mode::Accept).await.unwrap();
    ends.all_arrived().await;
    relay.stop().await;
    let report = ends.arrivals().report();
    assert_eq!((report.lost, report.corrupted, report.unknown), (0, 0, 0), "{report:?}");
}
