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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_begin_thirty_days_ahead_and_name_whose_certificate_it_is() {
        let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        let ending = |days: i64| {
            let mut certificate = Certificate::from_der(b"");
            certificate.names = vec!["siem.test".to_owned()];
            certificate.not_after = Some(now + SignedDuration::from_hours(24 * days));
            certificate
        };
        let session = |peer: Vec<Certificate>, ours| TlsSession {
            version: "TLS 1.3",
            cipher: String::new(),
            peer,
            ours,
            asked: false,
        };
        let good = session(vec![ending(31), Certificate::from_der(b"")], Some(ending(400)));
        assert!(good.expiry_warnings(now).is_empty());
        let ends = session(vec![ending(29), ending(3)], Some(ending(-1))).expiry_warnings(now);
        assert_eq!(
            ends,
            [
                "the receiver's certificate (siem.test) ends in 29 days, at 2026-06-30T00:00:00Z",
                "an intermediate certificate (siem.test) ends in 3 days, at 2026-06-04T00:00:00Z",
                "our client certificate (siem.test) ended at 2026-05-31T00:00:00Z",
            ]
        );
    }
}
