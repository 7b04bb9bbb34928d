//! What happens to one message: too long, not wanted, or refused on the way.

use std::time::Duration;

use sls_relay::config::{LogFilter, LogTest, Value};
use sls_relay::emulator::receiver::Mode;
use sls_relay::emulator::waf::Waf;
use sls_relay::relay::status::DestinationSnapshot;
use sls_relay::syslog::Oversize;

use crate::pipeline::{Ends, Running, wait_for};

fn counted(relay: &Running) -> DestinationSnapshot {
    relay.counters.snapshot().destinations.into_values().next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn long_messages_are_shortened_and_every_log_arrives() {
    const LOGS: u64 = 600;
    let ends = Ends::start(2, LOGS).await;
    let dir = tempfile::tempdir().unwrap();
    let mut settings = ends.settings(dir.path());
    settings.destinations[0].max_message = 2_048;
    let relay = Running::start(settings).await;
    ends.all_arrived().await;
    wait_for("confirmation", || relay.confirmed() == LOGS).await;
    let counted = counted(&relay);
    relay.stop().await;
    let report = ends.arrivals().report();
    assert_eq!((report.lost, report.unknown, report.duplicates), (0, 0, 0), "{report:?}");
    assert!(counted.shrunk > 0, "{counted:?}");
    assert!(report.corrupted > 0 && report.corrupted <= counted.shrunk + counted.truncated);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_goes_to_the_quarantine_and_the_rest_arrives() {
    const LOGS: u64 = 600;
    let ends = Ends::start(1, LOGS).await;
    let dir = tempfile::tempdir().unwrap();
    let mut settings = ends.settings(dir.path());
    settings.destinations[0].max_message = 2_048;
    settings.destinations[0].oversize = Oversize::Quarantine;
    let relay = Running::start(settings).await;
    wait_for("confirmation", || relay.confirmed() == LOGS).await;
    let counted = counted(&relay);
    let kept = relay.spool.inspection().quarantine().unwrap();
    relay.stop().await;
    let report = ends.arrivals().report();
    assert_eq!((report.corrupted, report.unknown, report.out_of_order), (0, 0, 0), "{report:?}");
    assert!(report.lost > 0 && report.delivered > 0, "{report:?}");
    assert_eq!(counted.quarantined, report.lost);
    assert_eq!(kept.len() as u64, report.lost, "each is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_that_a_destination_does_not_want_are_passed_over() {
    const LOGS: u64 = 900;
    let ends = Ends::start(2, LOGS).await;
    let dir = tempfile::tempdir().unwrap();
    let mut settings = ends.settings(dir.path());
    let test = |negated| LogTest {
        negated,
        name: b"request_method".to_vec(),
        of: Value::Is(b"GET".to_vec()),
    };
    let filter = |negated| LogFilter { tests: vec![test(negated)], ..LogFilter::default() };
    settings.destinations[0].filter = filter(false);
    let mut contrary = settings.destinations[0].clone();
    contrary.name = "contrary".to_owned();
    contrary.filter = filter(true);
    settings.destinations.push(contrary);
    let relay = Running::start(settings).await;
    // Both have the same receiver, so each log arrives once.
    ends.all_arrived().await;
    // What is left out moves the positions, and nothing stays in the spool for it.
    wait_for("both positions at the end", || {
        let state = relay.spool.status().state;
        state.next_log == LOGS
            && state.destinations.values().all(|at| at.position.seq == state.next_seq)
    })
    .await;
    let destinations = relay.counters.snapshot().destinations;
    relay.stop().await;
    let report = ends.arrivals().report();
    assert_eq!((report.duplicates, report.corrupted, report.unknown), (0, 0, 0), "{report:?}");
    let (sent, left_out): (Vec<_>, Vec<_>) =
        destinations.values().map(|at| (at.written, at.filtered)).unzip();
    assert_eq!(sent.iter().sum::<u64>(), LOGS);
    assert_eq!(left_out, [sent[1], sent[0]], "what one leaves out, the other gets");
    assert!(sent.iter().all(|logs| *logs > 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_udp_receiver_that_goes_and_comes_back_misses_nothing() {
    const LOGS: u64 = 3_000;
    let ends = Ends::serve(Waf::plain(5), 1, LOGS, |_| {}).await;
    let dir = tempfile::tempdir().unwrap();
    let to = format!("udp://{}", ends.receiver.udp_addr().unwrap());
    let mut settings = ends.settings_to(dir.path(), &to);
    let rate = 1_000;
    settings.destinations[0].udp_max_rate = rate;
    let settle = settings.destinations[0].settle;
    let relay = Running::start(settings).await;
    const OUTAGES: u64 = 3;
    for outage in 1..=OUTAGES {
        wait_for("some logs", || ends.arrivals().report().delivered >= outage * 400).await;
        let failures = counted(&relay).failures;
        ends.receiver.set_mode(Mode::Refuse).await.unwrap();
        wait_for("a refusal", || counted(&relay).failures > failures).await;
        ends.receiver.set_mode(Mode::Accept).await.unwrap();
    }
    ends.all_arrived().await;
    relay.stop().await;
    let report = ends.arrivals().report();
    let wrong = (report.lost, report.out_of_order, report.corrupted, report.unknown);
    assert_eq!(wrong, (0, 0, 0, 0), "{report:?}");
    // What had not settled comes again, and what was confirmed does not: the settle time, and
    // as much again for what a busy machine adds to it, at the rate that is kept.
    let most =
        OUTAGES * u64::from(rate) * (settle + Duration::from_secs(1)).as_millis() as u64 / 1_000;
    assert!(report.duplicates <= most, "{} of {most}", report.duplicates);
}
