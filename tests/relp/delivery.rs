//! A whole relay that delivers over RELP.

use std::sync::Arc;
use std::time::Duration;

use sls_relay::config::{LogTest, Value};
use sls_relay::emulator::receiver::relp::{RelpMode, RelpReceiver};
use sls_relay::emulator::sls::cursor_number;
use sls_relay::sls::Cursor;

use crate::pipeline::{Ends, Running, wait_for};

fn server(ends: &Ends) -> RelpReceiver {
    let arrivals = Arc::clone(&ends.arrivals);
    let sink = move |_, message: &[u8]| arrivals.lock().unwrap().message(message);
    RelpReceiver::start("127.0.0.1:0".parse().unwrap(), Arc::new(sink)).unwrap()
}

fn assert_faithful(ends: &Ends) {
    let report = ends.arrivals().report();
    let wrong = (report.lost, report.out_of_order, report.corrupted, report.unknown);
    assert_eq!(wrong, (0, 0, 0, 0), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_log_arrives_intact_in_order_and_once() {
    let ends = Ends::start(3, 3000).await;
    let server = server(&ends);
    let dir = tempfile::tempdir().unwrap();
    let mut settings = ends.settings_to(dir.path(), &format!("relp://{}", server.addr()));
    settings.destinations[0].relp_window = 50;
    let relay = Running::start(settings).await;
    ends.all_arrived().await;
    wait_for("confirmation", || relay.confirmed() == 3000).await;
    relay.stop().await;
    assert_faithful(&ends);
    assert_eq!(ends.arrivals().report().duplicates, 0);
    let counts = server.counts();
    assert_eq!(counts.malformed, 0);
    assert_eq!(counts.closed, counts.connections, "every session was ended in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_sessions_or_dies_with_what_it_acknowledged_loses_nothing() {
    for mode in [
        RelpMode::ServerClose { messages: 150 },
        RelpMode::DieAfterAck { messages: 150, kept: 100 },
        RelpMode::Garbage { messages: 150 },
        RelpMode::RefuseOpen,
    ] {
        let ends = Ends::start(2, 2000).await;
        let server = server(&ends);
        server.set_mode(mode.clone());
        let dir = tempfile::tempdir().unwrap();
        let settings = ends.settings_to(dir.path(), &format!("relp://{}", server.addr()));
        let relay = Running::start(settings).await;
        wait_for("connections that fail", || server.counts().connections >= 3).await;
        server.set_mode(RelpMode::Accept);
        ends.all_arrived().await;
        wait_for("confirmation", || relay.confirmed() == 2000).await;
        relay.stop().await;
        assert_faithful(&ends);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_log_that_the_server_refuses_goes_into_the_quarantine() {
    let ends = Ends::start(1, 400).await;
    // The second log of the eighth group.
    let number = cursor_number(&ends.emulator.begin_cursor(0).unwrap()).unwrap() + 7;
    let cursor = Cursor::from_number(u64::try_from(number).unwrap());
    let server = server(&ends);
    server.set_mode(RelpMode::Refuse { text: format!("cursor=\"{cursor}\" idx=\"1\"") });
    let dir = tempfile::tempdir().unwrap();
    let mut settings = ends.settings_to(dir.path(), &format!("relp://{}", server.addr()));
    settings.destinations[0].settle = Duration::from_millis(20);
    let relay = Running::start(settings).await;
    wait_for("confirmation of the others", || relay.confirmed() == 399).await;
    let quarantined =
        relay.counters.snapshot().destinations.values().map(|d| d.quarantined).sum::<u64>();
    assert_eq!(quarantined, 1);
    relay.stop().await;
    let report = ends.arrivals().report();
    assert_eq!((report.lost, report.out_of_order, report.corrupted), (1, 0, 0), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_that_the_destination_does_not_want_leave_the_spool_without_an_acknowledgement() {
    let ends = Ends::start(1, 300).await;
    let server = server(&ends);
    let dir = tempfile::tempdir().unwrap();
    let mut settings = ends.settings_to(dir.path(), &format!("relp://{}", server.addr()));
    let test = LogTest { negated: false, name: b"no such field".to_vec(), of: Value::Exists };
    settings.destinations[0].filter.tests.push(test);
    let relay = Running::start(settings).await;
    wait_for("the checkpoint to reach the end", || ends.all_committed()).await;
    let end = *relay.spool.durable().borrow();
    wait_for("the position to pass them", || {
        relay.spool.delivered("syslog").is_some_and(|at| at.position.seq == end)
    })
    .await;
    assert_eq!(server.counts().messages, 0);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_restarted_in_the_middle_misses_nothing() {
    let ends = Ends::start(2, 4000).await;
    let first = server(&ends);
    let addr = first.addr();
    let dir = tempfile::tempdir().unwrap();
    first.set_mode(RelpMode::Late { delay: Duration::from_millis(20) });
    let relay = Running::start(ends.settings_to(dir.path(), &format!("relp://{addr}"))).await;
    wait_for("a part to arrive", || ends.arrivals().report().delivered >= 1000).await;
    drop(first);
    wait_for("the end to be seen", || {
        relay.counters.snapshot().destinations.values().any(|counts| counts.failures > 0)
    })
    .await;
    let arrivals = Arc::clone(&ends.arrivals);
    let sink = move |_, message: &[u8]| arrivals.lock().unwrap().message(message);
    let second = RelpReceiver::start(addr, Arc::new(sink)).unwrap();
    ends.all_arrived().await;
    wait_for("confirmation", || relay.confirmed() == 4000).await;
    relay.stop().await;
    assert_faithful(&ends);
    assert_eq!(second.counts().malformed, 0);
}
