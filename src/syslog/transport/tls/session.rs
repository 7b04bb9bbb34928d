//! What was agreed upon in a handshake, and when its certificates end.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use rustls::{ClientConnection, ProtocolVersion};

use super::certificate::Certificate;

/// So long before its end a certificate is worth a warning.
const WARN_AHEAD: SignedDuration = SignedDuration::from_hours(30 * 24);

/// An encrypted connection as its handshake left it.
#[derive(Debug, Clone)]
pub struct TlsSession {
    /// Such as `TLS 1.3`.
    pub version: &'static str,
    /// Name of the cipher suite, such as `TLS13_AES_256_GCM_SHA384`.
    pub cipher: String,
    /// The receiver's certificates, its own first.
    pub peer: Vec<Certificate>,
    /// Our own, if we have one.
    pub ours: Option<Certificate>,
    /// Whether the receiver has asked for ours, now or on an earlier connection.
    pub asked: bool,
}

impl TlsSession {
    pub(super) fn new(
        connection: &ClientConnection,
        ours: Option<Certificate>,
        asked: bool,
    ) -> Self {
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
            Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
            _ => "TLS",
        };
        let suite = connection.negotiated_cipher_suite();
        let cipher = suite.map_or_else(String::new, |suite| format!("{:?}", suite.suite()));
        let peer = connection.peer_certificates().unwrap_or_default();
        let peer = peer.iter().map(|certificate| Certificate::from_der(certificate)).collect();
        Self { version, cipher, peer, ours, asked }
    }

    /// One sentence for each certificate that has ended or ends within 30 days of `now`.
    pub fn expiry_warnings(&self, now: Timestamp) -> Vec<String> {
        let of_peer = self.peer.iter().enumerate().map(|(place, certificate)| {
            let whose = if place == 0 { "the receiver's" } else { "an intermediate" };
            (whose, certificate)
        });
        let ours = self.ours.iter().map(|certificate| ("our client", certificate));
        of_peer.chain(ours).filter_map(|(whose, it)| warning(whose, it, now)).collect()
    }
}

impl fmt::Display for TlsSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.version, self.cipher)
    }
}

fn warning(whose: &str, certificate: &Certificate, now: Timestamp) -> Option<String> {
    let end = certificate.not_after?;
    let names = certificate.shown_names();
    if end < now {
        Some(format!("{whose} certificate ({names}) ended at {end}"))
    } else if certificate.ends_within(WARN_AHEAD, now) {
        let days = end.duration_since(now).as_hours() / 24;
        Some(format!("{whose} certificate ({names}) ends in {days} days, at {end}"))
    } else {
        None
    }
}
