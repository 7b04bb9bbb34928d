//! Real rsyslog and syslog-ng: they take one message over each transport, and everything that
//! the relay delivers.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test ends at the first surprise, and says what it leaves out"
)]

#[path = "../syslog_format/decoder.rs"]
mod decoder;
mod deduplication;
mod delivery;
#[path = "../support/pipeline.rs"]
mod pipeline;
#[path = "../support/pki.rs"]
mod pki;
#[path = "../support/receivers.rs"]
mod receivers;
mod relp;
mod tls;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use receivers::{Kind, RealReceiver};

#[test]
fn rsyslog_takes_datagrams_octet_counted_and_lf_frames() {
    takes_every_transport(Kind::Rsyslog);
}

#[test]
fn syslog_ng_takes_datagrams_octet_counted_and_lf_frames() {
    takes_every_transport(Kind::SyslogNg);
}

fn takes_every_transport(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    let Some(receiver) = RealReceiver::start(kind, dir.path()) else { return };

    let message = |name: &str| {
        format!(
            "<134>1 2026-11-23T13:50:00.123456Z waf-1 waf 42 access [sls@32473 idx=\"3\"] via={name}"
        )
    };
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    udp.send_to(message("udp").as_bytes(), receiver.udp).unwrap();
    let octet = message("octet");
    send(receiver.octet, &format!("{} {octet}", octet.len()));
    send(receiver.lf, &(message("lf") + "\n"));
    receiver.wait_for(3, Duration::from_secs(30));

    let received: BTreeSet<Vec<u8>> = receiver.messages().into_iter().collect();
    assert_eq!(received, ["udp", "octet", "lf"].map(|name| message(name).into_bytes()).into());
    for parsed in receiver.parsed() {
        assert_eq!(parsed["pri"], "134");
        assert_eq!(parsed["host"], "waf-1");
        assert_eq!(parsed["app"], "waf");
        assert_eq!(parsed["procid"], "42");
        assert_eq!(parsed["msgid"], "access");
        assert_eq!(parsed["sd"], "[sls@32473 idx=\"3\"]");
        assert!(parsed["time"].as_str().unwrap().starts_with("2026-11-23T13:50:00.123456"));
    }
}

/// Sends, half-closes and waits for the receiver's end, so that nothing is cut off.
fn send(address: SocketAddr, bytes: &str) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
}
