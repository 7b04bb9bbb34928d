//! The relay delivers to real receivers: every log, every field, in order.

use std::collections::BTreeMap;
use std::time::Duration;

use sls_relay::emulator::waf::{Waf, fields_of, id_of};
use sls_relay::emulator::workload::Workload;
use sls_relay::sls::wire::Log;
use sls_relay::syslog::Framing;
use sls_relay::syslog::body::Field;

use crate::decoder;
use crate::pipeline::{Ends, Running, wait_for};
use crate::receivers::{Kind, RealReceiver};

const SHARDS: u32 = 2;

/// Log `n` of a shard as SLS serves it, and its fields in a message.
pub(crate) fn served(workload: &Workload, shard: u32, n: u64) -> (Log, Vec<Field>) {
    let number = workload.group_of(n);
    let group = workload.group(shard, number);
    let log = group.logs[usize::try_from(n - workload.first_of(number)).unwrap()].clone();
    let fields = fields_of(&log, &group).into_iter().map(|(k, v)| (k.to_vec(), v.to_vec()));
    (log, fields.collect())
}

/// Delivers `logs` logs to a real receiver and compares what its own parser made of them.
pub(crate) async fn delivers(
    kind: Kind,
    to: impl Fn(&RealReceiver) -> String,
    framing: Framing,
    waf: Waf,
    logs: u64,
) {
    let dir = tempfile::tempdir().unwrap();
    let Some(receiver) = RealReceiver::start(kind, &dir.path().join("receiver")) else { return };
    let ends = Ends::serve(waf, SHARDS, logs, |_| {}).await;
    let mut settings = ends.settings_to(&dir.path().join("spool"), &to(&receiver));
    settings.destinations[0].framing = framing;
    // A rate that the receivers' sockets can take.
    settings.destinations[0].udp_max_rate = 2000;
    let relay = Running::start(settings).await;
    wait_for("confirmation", || relay.confirmed() == logs).await;
    relay.stop().await;
    let count = usize::try_from(logs).unwrap();
    tokio::task::block_in_place(|| receiver.wait_for(count, Duration::from_secs(30)));

    let workload = Workload::new(waf, SHARDS, logs, 10);
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    for parsed in receiver.parsed() {
        let text = |key: &str| parsed[key].as_str().unwrap();
        let fields = decoder::fields(text("msg"), "||");
        let id = fields.iter().rev().find(|(key, _)| key == b"request_traceid").unwrap();
        let (shard, n) = id_of(&id.1).unwrap();
        let expected = next.entry(shard).or_default();
        assert_eq!(n, *expected, "shard {shard} is out of order, or a log is missing");
        *expected += 1;

        let (log, served) = served(&workload, shard, n);
        assert_eq!(fields, served, "log {n} of shard {shard} changed on the way");

        assert_eq!((text("pri"), text("host"), text("app")), ("14", "relay.test", "sls-relay"));
        let time = jiff::Timestamp::from_second(i64::from(log.time)).unwrap();
        let second = time.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        assert!(text("time").starts_with(&second), "{} for {second}", text("time"));
        let micros = format!(".{:06}", log.time_ns.unwrap_or(0) / 1000);
        assert!(text("time").contains(&micros) || micros == ".000000", "{}", text("time"));
        for param in [format!("shard=\"{shard}\""), format!("idx=\"{}\"", n % 10)] {
            assert!(text("sd").contains(&param), "{param} is not in {}", text("sd"));
        }
    }
    assert_eq!(next.values().sum::<u64>(), logs);
}

async fn delivers_over_all(kind: Kind) {
    let tcp = |receiver: &RealReceiver| format!("tcp://{}", receiver.octet);
    delivers(kind, tcp, Framing::OctetCounting, Waf::new(11), 2500).await;
    let lf = |receiver: &RealReceiver| format!("tcp://{}", receiver.lf);
    delivers(kind, lf, Framing::Lf, Waf::new(12), 2500).await;
    let udp = |receiver: &RealReceiver| format!("udp://{}", receiver.udp);
    delivers(kind, udp, Framing::OctetCounting, Waf::plain(13), 1000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rsyslog_receives_every_field_of_every_log_in_order() {
    delivers_over_all(Kind::Rsyslog).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn syslog_ng_receives_every_field_of_every_log_in_order() {
    delivers_over_all(Kind::SyslogNg).await;
}
