//! What a destination can prove, and whether it answers.

use jiff::Timestamp;

use super::findings::Findings;
use super::promise::{Channel, Means, promise};
use crate::config::Destination;
use crate::relay;
use crate::syslog::transport::tls::TlsSession;
use crate::syslog::transport::{
    RelpConnection, RelpSettings, TcpConnection, TcpSettings, TlsConnection, UdpConnection,
    UdpSettings,
};
use crate::syslog::{DrainError, Format, Scheme, SendError, Target};

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
    if destination.target.scheme.is_encrypted() {
        describe_trust(destination, findings);
    }
}

fn means(destination: &Destination) -> Means {
    Means {
        channel: match destination.target.scheme {
            Scheme::Udp => Channel::Udp,
            Scheme::Tcp => Channel::Tcp,
            Scheme::Tls => Channel::Tls,
            Scheme::Relp | Scheme::RelpTls => Channel::Relp { window: destination.relp_window },
        },
        proof: destination.delivery,
        assurance: destination.assurance,
        settle: destination.settle,
        drain_every: destination.drain_every,
        drain_bytes: destination.drain_bytes,
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
    let wait = destination.timeout;
    let tcp = TcpSettings { connect_timeout: wait, ..TcpSettings::default() };
    let connected = match target.scheme {
        Scheme::Tcp => match TcpConnection::connect(target, &tcp).await {
            Ok(connection) => {
                findings.ok("connect", &connection.peer().to_string());
                drained(connection.drain(wait).await, findings)
            }
            Err(error) => Err(error),
        },
        Scheme::Tls => tls(destination, target, &tcp, findings).await,
        Scheme::Relp | Scheme::RelpTls => relp(destination, target, tcp, findings).await,
        Scheme::Udp => UdpConnection::connect(target, &UdpSettings::default())
            .await
            .map(|connection| findings.ok("resolve", &connection.peer().to_string())),
    };
    if let Err(error) = connected {
        findings.fail("connect", error.code(), &relay::chain(&error));
    }
}

/// What the receiver's certificate must be, and whether the files can be used.
fn describe_trust(destination: &Destination, findings: &mut Findings) {
    let settings = destination.tls.settings();
    let name = settings.server_name.as_ref().unwrap_or(&destination.target.host);
    let trust = match (settings.fingerprints.as_slice(), &settings.ca_file) {
        ([], None) => format!("certificates for {name} by authorities that this machine trusts"),
        ([], Some(file)) => format!("certificates for {name} by authorities in {}", file.display()),
        (pins, _) => {
            let pins: Vec<_> = pins.iter().map(ToString::to_string).collect();
            format!("the certificate with the fingerprint {}", pins.join(" or "))
        }
    };
    findings.note("trusts", &trust);
    if let Err(error) = destination.tls.load() {
        findings.fail("certificate files", error.code(), &relay::chain(&error));
    }
}

async fn tls(
    destination: &Destination,
    target: &Target,
    tcp: &TcpSettings,
    findings: &mut Findings,
) -> Result<(), SendError> {
    // What the files lack was found already.
    if destination.tls.load().is_err() {
        return Ok(());
    }
    let connect = TlsConnection::connect(target, tcp, &destination.tls);
    let connection = connect.await?;
    findings.ok("connect", &connection.peer().to_string());
    describe_session(connection.session(), findings);
    drained(connection.drain(destination.timeout).await, findings)
}

async fn relp(
    destination: &Destination,
    target: &Target,
    tcp: TcpSettings,
    findings: &mut Findings,
) -> Result<(), SendError> {
    let settings = RelpSettings { tcp, ..RelpSettings::default() };
    let connection = match target.scheme.is_encrypted() {
        // What the files lack was found already.
        true if destination.tls.load().is_err() => return Ok(()),
        true => RelpConnection::connect_tls(target, &settings, &destination.tls).await?,
        false => RelpConnection::connect(target, &settings).await?,
    };
    findings.ok("connect", &connection.peer().to_string());
    if let Some(session) = connection.tls() {
        describe_session(session, findings);
    }
    findings.ok("opens a RELP session", "offers the command syslog");
    let _ = connection.drain(destination.timeout).await;
    Ok(())
}

fn describe_session(session: &TlsSession, findings: &mut Findings) {
    findings.ok("TLS", &session.to_string());
    if let Some(certificate) = session.peer.first() {
        findings.ok("certificate", &certificate.to_string());
    }
    match (&session.ours, session.asked) {
        (Some(ours), true) => findings.ok("client certificate", &ours.to_string()),
        (Some(ours), false) => {
            findings.note("client certificate", &format!("the receiver asks for none; {ours}"));
        }
        (None, true) => {
            findings.note("client certificate", "the receiver asks for one, and none is configured")
        }
        (None, false) => {}
    }
    for warning in session.expiry_warnings(Timestamp::now()) {
        findings.warn("expiry", "syslog.tls_expiry", &warning);
    }
}

/// A drain without a proof is a warning; a receiver that refuses our certificate, which under
/// TLS 1.3 shows only now, takes no logs at all.
fn drained(drained: Result<(), DrainError>, findings: &mut Findings) -> Result<(), SendError> {
    match drained {
        Ok(()) => findings.ok("answers a drain", "closes when we close"),
        Err(DrainError::Broken(error @ SendError::Tls(_))) => return Err(error),
        Err(error) => findings.warn(
            "answers a drain",
            "check.drain",
            &format!("{error}; delivery will go on with weaker proof"),
        ),
    }
    Ok(())
}
