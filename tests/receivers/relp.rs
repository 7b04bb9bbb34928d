//! The relay delivers over RELP to rsyslog's imrelp, restarted and killed in the middle.

use std::collections::BTreeSet;
use std::time::Duration;

use sls_relay::emulator::waf::{Waf, id_of};
use sls_relay::syslog::Framing;

use crate::delivery::delivers;
use crate::pipeline::{Ends, Running, wait_for};
use crate::receivers::{Kind, RealReceiver};

const LOGS: u64 = 8000;

#[tokio::test(flavor = "multi_thread")]
async fn rsyslog_receives_every_field_of_every_log_in_order_over_relp() {
    let to = |receiver: &RealReceiver| format!("relp://{}", receiver.relp);
    delivers(Kind::Rsyslog, to, Framing::OctetCounting, Waf::new(14), 2500).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_rsyslog_in_the_middle_loses_nothing_over_relp() {
    loses_nothing(RealReceiver::restart).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_of_rsyslog_in_the_middle_loses_nothing_over_relp() {
    loses_nothing(RealReceiver::crash).await;
}

/// Ends the daemon in the middle of the delivery and starts it again.
async fn loses_nothing(again: fn(RealReceiver) -> RealReceiver) {
    let dir = tempfile::tempdir().unwrap();
    let receiver = RealReceiver::start(Kind::Rsyslog, &dir.path().join("receiver"));
    let Some(receiver) = receiver else { return };
    let ends = Ends::serve(Waf::plain(15), 2, LOGS, |_| {}).await;
    let to = format!("relp://{}", receiver.relp);
    let mut settings = ends.settings_to(&dir.path().join("spool"), &to);
    // Acknowledged logs may die in the daemon's memory; this long they are kept.
    settings.destinations[0].settle = Duration::from_secs(1);
    settings.destinations[0].relp_window = 8;
    let relay = Running::start(settings).await;
    wait_for("a part to arrive", || receiver.messages().len() >= 500).await;
    let receiver = tokio::task::block_in_place(|| again(receiver));
    wait_for("confirmation", || relay.confirmed() == LOGS).await;
    assert!(relay.counters.snapshot().destinations.values().any(|counts| counts.failures > 0));
    relay.stop().await;
    wait_for("every log in the daemon's file", || arrived(&receiver) == LOGS).await;
}

/// How many different logs the daemon wrote.
fn arrived(receiver: &RealReceiver) -> u64 {
    let ids: BTreeSet<_> = receiver.messages().iter().filter_map(|message| id(message)).collect();
    ids.len() as u64
}

fn id(message: &[u8]) -> Option<(u32, u64)> {
    let text = String::from_utf8_lossy(message);
    let (_, rest) = text.split_once("request_traceid=")?;
    id_of(rest.split("||").next()?.as_bytes())
}
