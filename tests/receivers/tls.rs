//! TLS to real receivers: through a restart of the receiver nothing is lost or changed, and a
//! client certificate is shown, and missed by name.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sls_relay::emulator::waf::{Waf, id_of};
use sls_relay::emulator::workload::Workload;
use sls_relay::syslog::transport::tls::{ClientFiles, TlsSettings};
use sls_relay::syslog::transport::{TcpSettings, TlsConnection, TlsProfile};

use crate::decoder;
use crate::delivery::served;
use crate::pipeline::{Ends, Running, wait_for};
use crate::pki::{Authority, Until};
use crate::receivers::{Kind, RealReceiver, Stack};

const SHARDS: u32 = 2;
const LOGS: u64 = 4000;
const DEADLINE: Duration = Duration::from_secs(60);

/// What a receiver shows, in the folder of the receiver.
fn certificates(dir: &Path) -> Authority {
    std::fs::create_dir_all(dir).unwrap();
    let authority = Authority::new(dir, "ca");
    authority.server("server", &["127.0.0.1"], Until::Later);
    authority
}

fn trusting(authority: &Authority) -> TlsSettings {
    TlsSettings { ca_file: Some(authority.file.clone()), ..TlsSettings::default() }
}

/// Delivers through a restart and compares every log with what was served.
async fn survives_a_restart(stack: Stack, to: impl Fn(&RealReceiver) -> String) {
    let dir = tempfile::tempdir().unwrap();
    let receiver_dir = dir.path().join("receiver");
    let authority = certificates(&receiver_dir);
    let Some(receiver) = RealReceiver::start(Kind::Tls(stack), &receiver_dir) else { return };
    let waf = Waf::new(21);
    let ends = Ends::serve(waf, SHARDS, LOGS, |_| {}).await;
    let mut settings = ends.settings_to(&dir.path().join("spool"), &to(&receiver));
    // Several connections before and after the restart.
    settings.destinations[0].drain_bytes = 256 << 10;
    settings.destinations[0].tls = Arc::new(TlsProfile::new(trusting(&authority)));
    let relay = Running::start(settings).await;
    wait_for("the first logs", || !receiver.messages().is_empty()).await;
    assert!(relay.confirmed() < LOGS, "the restart comes in the middle");
    let receiver = tokio::task::spawn_blocking(|| receiver.restart()).await.unwrap();
    wait_for("confirmation", || relay.confirmed() == LOGS).await;
    relay.stop().await;

    let workload = Workload::new(waf, SHARDS, LOGS, 10);
    let mut missing: BTreeSet<(u32, u64)> = (0..SHARDS)
        .flat_map(|shard| (0..LOGS / u64::from(SHARDS)).map(move |n| (shard, n)))
        .collect();
    let start = std::time::Instant::now();
    while !missing.is_empty() {
        for parsed in receiver.parsed() {
            let fields = decoder::fields(parsed["msg"].as_str().unwrap(), "||");
            let id = fields.iter().rev().find(|(key, _)| key == b"request_traceid").unwrap();
            let (shard, n) = id_of(&id.1).unwrap();
            if !missing.remove(&(shard, n)) {
                continue;
            }
            let (_, served) = served(&workload, shard, n);
            assert_eq!(fields, served, "log {n} of shard {shard} changed on the way");
        }
        assert!(start.elapsed() < DEADLINE, "{} logs are lost: {missing:?}", missing.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn syslog(receiver: &RealReceiver) -> String {
    format!("tls://{}", receiver.octet)
}

#[tokio::test(flavor = "multi_thread")]
async fn rsyslog_gets_every_log_over_relp_with_tls_through_a_restart() {
    let relp = |receiver: &RealReceiver| format!("relp+tls://{}", receiver.relp);
    survives_a_restart(Stack::RsyslogOpenssl, relp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rsyslog_with_openssl_gets_every_log_through_a_restart() {
    survives_a_restart(Stack::RsyslogOpenssl, syslog).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rsyslog_with_gnutls_gets_every_log_through_a_restart() {
    survives_a_restart(Stack::RsyslogGnutls, syslog).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn syslog_ng_gets_every_log_through_a_restart() {
    survives_a_restart(Stack::SyslogNg, syslog).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_shown_to_real_receivers_and_missed_by_name() {
    for stack in [Stack::RsyslogOpenssl, Stack::RsyslogGnutls, Stack::SyslogNg] {
        let dir = tempfile::tempdir().unwrap();
        let authority = certificates(dir.path());
        let client = authority.client("client", &["relay.test"], Until::Later);
        let Some(receiver) = RealReceiver::start(Kind::TlsAuth(stack), dir.path()) else { return };
        let target = format!("tls://{}", receiver.octet).parse().unwrap();
        let files = ClientFiles { certificate: client.file.clone(), key: client.key_file.clone() };
        let profile = TlsProfile::new(TlsSettings { client: Some(files), ..trusting(&authority) });
        let limits = TcpSettings::default();
        let mut connection = TlsConnection::connect(&target, &limits, &profile).await.unwrap();
        assert!(connection.session().asked, "{stack:?}");
        let message = "<134>1 2026-11-23T13:50:00.123456Z waf-1 waf 42 access - via=tls";
        connection.write(format!("{} {message}", message.len()).as_bytes()).await.unwrap();
        connection.drain(DEADLINE).await.unwrap();
        tokio::task::block_in_place(|| receiver.wait_for(1, DEADLINE));
        assert_eq!(receiver.messages(), [message.as_bytes()]);

        let profile = TlsProfile::new(trusting(&authority));
        let error: Box<dyn std::error::Error> =
            match TlsConnection::connect(&target, &limits, &profile).await {
                Ok(connection) => Box::new(connection.drain(DEADLINE).await.unwrap_err()),
                Err(error) => Box::new(error),
            };
        assert!(error.to_string().contains("client_cert_file"), "{stack:?}: {error}");
    }
}
