//! What a destination can prove, and whether it answers.

use super::findings::Findings;
use crate::cli::output;
use crate::config::Destination;
use crate::relay;
use crate::syslog::{Format, Scheme, Target, transport};

pub(super) fn describe(destination: &Destination, findings: &mut Findings) {
    findings.note("receiver", &format!("{} as {}", destination.target, destination.format));
    for other in &destination.failover {
        findings.note("takes over", &other.to_string());
    }
    if !destination.required {
        findings.note("not required", "loses its oldest logs when the spool is full and others need the room; checkpoints do not wait for it");
    }
    if destination.format == Format::Sample {
        findings.note("identity", "the sample's layout has no place for it: a receiver cannot tell a repeated log from a new one");
    }
    match destination.target.scheme {
        Scheme::Tcp => {
            findings.note("proof", "drain: from time to time the connection is closed in one direction, and the receiver closing the other proves that it read everything");
            findings.note(
                "a crash of the receiver",
                &format!(
                    "repeats at most {} or {} s of logs, whichever is less, and {} s more",
                    output::size(destination.drain_bytes),
                    destination.drain_every.as_secs(),
                    destination.settle.as_secs()
                ),
            );
            findings.note("loss", "none that this side can see; a receiver killed with a full queue in memory loses what it had read more than the settle time ago");
        }
        Scheme::Relp => {
            findings.note("proof", "the receiver acknowledges every message; rsyslog does so when it has it in its queue");
            findings.note(
                "a crash of the receiver",
                &format!(
                    "repeats at most {} logs that wait for an acknowledgement, and {} s of logs more",
                    destination.relp_window,
                    destination.settle.as_secs()
                ),
            );
            findings.note("loss", "none that this side can see; a receiver killed with a queue in memory loses what it had acknowledged more than the settle time ago");
        }
        Scheme::Udp => {
            findings.warn("proof", "check.udp", "none exists for UDP: a datagram that nobody refused counts as delivered after the settle time; use tcp:// where a loss matters");
        }
    }
}

/// Connects to each receiver of the destination.
pub(super) async fn connect(destination: &Destination, findings: &mut Findings) {
    for target in std::iter::once(&destination.target).chain(&destination.failover) {
        if !destination.failover.is_empty() {
            findings.note("receiver", &target.to_string());
        }
        connect_to(destination, target, findings).await;
    }
}

async fn connect_to(destination: &Destination, target: &Target, findings: &mut Findings) {
    let tcp = transport::TcpSettings {
        connect_timeout: destination.timeout,
        ..transport::TcpSettings::default()
    };
    let connected = match target.scheme {
        Scheme::Tcp => match transport::TcpConnection::connect(target, &tcp).await {
            Ok(connection) => {
                let peer = connection.peer();
                findings.ok("connect", &peer.to_string());
                match connection.drain(destination.timeout).await {
                    Ok(()) => findings.ok("answers a drain", "closes when we close"),
                    Err(error) => findings.warn(
                        "answers a drain",
                        "check.drain",
                        &format!("{error}; delivery will go on with weaker proof"),
                    ),
                }
                Ok(())
            }
            Err(error) => Err(error),
        },
        Scheme::Relp => {
            let settings = transport::RelpSettings { tcp, ..transport::RelpSettings::default() };
            match transport::RelpConnection::connect(target, &settings).await {
                Ok(connection) => {
                    findings.ok("connect", &connection.peer().to_string());
                    findings.ok("opens a RELP session", "offers the command syslog");
                    let _ = connection.drain(destination.timeout).await;
                    Ok(())
                }
                Err(error) => Err(error),
            }
        }
        Scheme::Udp => {
            transport::UdpConnection::connect(target, &transport::UdpSettings::default())
                .await
                .map(|connection| findings.ok("resolve", &connection.peer().to_string()))
        }
    };
    if let Err(error) = connected {
        findings.fail("connect", error.code(), &relay::chain(&error));
    }
}
