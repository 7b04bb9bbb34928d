//! What a destination can prove, and whether it answers.

use super::findings::Findings;
use super::promise::{Channel, Means, promise};
use crate::config::Destination;
use crate::relay;
use crate::syslog::{Format, Scheme, transport};

pub(super) fn describe(destination: &Destination, findings: &mut Findings) {
    findings.note("receiver", &format!("{} as {}", destination.target, destination.format));
    if destination.format == Format::Sample {
        findings.note("identity", "the sample's layout has no place for it: a receiver cannot tell a repeated log from a new one");
    }
    let promise = promise(&means(destination));
    match promise.proves {
        true => findings.note("proof", &promise.proof),
        false => findings.warn("proof", "check.udp", &promise.proof),
    }
    if let Some(otherwise) = &promise.otherwise {
        findings.note("without that proof", otherwise);
    }
    findings.note("can be lost", &promise.loss);
    findings.note("can arrive twice", &promise.duplicates);
}

fn means(destination: &Destination) -> Means {
    Means {
        channel: match destination.target.scheme {
            Scheme::Udp => Channel::Udp,
            Scheme::Tcp => Channel::Tcp,
        },
        proof: destination.delivery,
        assurance: destination.assurance,
        settle: destination.settle,
        drain_every: destination.drain_every,
        drain_bytes: destination.drain_bytes,
    }
}

pub(super) async fn connect(destination: &Destination, findings: &mut Findings) {
    let connected = match destination.target.scheme {
        Scheme::Tcp => {
            let settings = transport::TcpSettings {
                connect_timeout: destination.timeout,
                ..transport::TcpSettings::default()
            };
            match transport::TcpConnection::connect(&destination.target, &settings).await {
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
            }
        }
        Scheme::Udp => transport::UdpConnection::connect(
            &destination.target,
            &transport::UdpSettings::default(),
        )
        .await
        .map(|connection| findings.ok("resolve", &connection.peer().to_string())),
    };
    if let Err(error) = connected {
        findings.fail("connect", error.code(), &relay::chain(&error));
    }
}
