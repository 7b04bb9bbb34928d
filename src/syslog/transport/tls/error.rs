//! What can go wrong with TLS, in words for those who must correct it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, OtherError};

use super::certificate::Certificate;

/// Why a connection is not, or no longer, encrypted and trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file of certificates or of a key cannot be used.
    #[error(transparent)]
    File(#[from] TlsFileError),
    /// The receiver's certificate is not one to believe in.
    #[error("the certificate of {peer} is refused: {refusal}")]
    Untrusted {
        /// The receiver.
        peer: SocketAddr,
        /// Why, and what was presented.
        refusal: Refusal,
    },
    /// The receiver does not take our client certificate, or asks for one.
    ///
    /// Under TLS 1.3 this comes after the handshake, when logs may have been written already.
    #[error("{peer} {}", ClientRefusal { alert, ours: ours.as_deref() })]
    ClientRefused {
        /// The receiver.
        peer: SocketAddr,
        /// What the receiver said; `None` where it broke the connection without a word.
        alert: Option<String>,
        /// The certificate we showed, if any.
        ours: Option<Box<Certificate>>,
    },
    /// The receiver ended TLS with an alert.
    #[error("{peer} ended TLS: {alert}; look into the receiver's log")]
    Alert {
        /// The receiver.
        peer: SocketAddr,
        /// The alert in plain words and by its name.
        alert: String,
    },
    /// The connection was accepted, and the handshake never ended.
    #[error(
        "{peer} did not finish the TLS handshake within {} s; check that the receiver speaks TLS on this port and is not stuck",
        .after.as_secs_f64()
    )]
    HandshakeTimeout {
        /// The receiver.
        peer: SocketAddr,
        /// How long it was tried.
        after: Duration,
    },
    /// The connection ended within the handshake.
    #[error(
        "{peer} closed the connection within the TLS handshake; check that the receiver speaks TLS on this port, and its log"
    )]
    HandshakeClosed {
        /// The receiver.
        peer: SocketAddr,
    },
    /// What came is not TLS, or not TLS that we can speak.
    #[error(
        "cannot speak TLS with {peer}: {source}; check that the receiver speaks TLS 1.2 or 1.3 on this port"
    )]
    Protocol {
        /// The receiver.
        peer: SocketAddr,
        /// What the TLS library says.
        source: rustls::Error,
    },
    /// The host of the destination cannot stand in a certificate.
    #[error(
        "`{name}` is no name that a certificate can be for; write a DNS name or an address as server_name"
    )]
    ServerName {
        /// The name.
        name: String,
    },
}

impl TlsError {
    /// The stable name of the cause, such as `syslog.tls_untrusted`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::File(error) => error.code(),
            Self::Untrusted { .. } => "syslog.tls_untrusted",
            Self::ClientRefused { .. } => "syslog.tls_client_refused",
            Self::Alert { .. } => "syslog.tls_alert",
            Self::HandshakeTimeout { .. } => "syslog.tls_timeout",
            Self::HandshakeClosed { .. } => "syslog.tls_closed",
            Self::Protocol { .. } => "syslog.tls_protocol",
            Self::ServerName { .. } => "syslog.tls_server_name",
        }
    }

    /// Whether the receiver broke a connection of which the handshake was done, and said nothing.
    pub(in crate::syslog) fn is_silent_end(&self) -> bool {
        matches!(self, Self::ClientRefused { alert: None, .. })
    }

    /// Names an error of the TLS library. `ours` is the certificate we showed; `asked` tells
    /// that the receiver wanted one.
    pub(super) fn from_rustls(
        peer: SocketAddr,
        error: rustls::Error,
        asked: bool,
        ours: Option<&Certificate>,
    ) -> Self {
        match error {
            rustls::Error::AlertReceived(alert) if asked && is_of_client(alert) => {
                let ours = ours.cloned().map(Box::new);
                Self::ClientRefused { peer, alert: Some(words(alert)), ours }
            }
            rustls::Error::AlertReceived(alert) => Self::Alert { peer, alert: words(alert) },
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(ref inner))) => {
                match inner.downcast_ref::<Refusal>() {
                    Some(refusal) => Self::Untrusted { peer, refusal: refusal.clone() },
                    None => Self::Protocol { peer, source: error },
                }
            }
            source => Self::Protocol { peer, source },
        }
    }
}

/// Why a file that TLS needs cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFileError {
    /// It cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It holds something else than what it should.
    #[error("{} holds no {what}; it must be PEM text with BEGIN {label}", .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// The word of PEM for it.
        label: &'static str,
    },
    /// A certificate or a key in it is of no use.
    #[error("{} cannot be used: {reason}", .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong. Never a part of a key.
        reason: String,
    },
    /// Certificate and key do not belong together.
    #[error("the key in {} is not that of the certificate in {}", .key.display(), .certificate.display())]
    Mismatch {
        /// File of the certificate.
        certificate: PathBuf,
        /// File of the key.
        key: PathBuf,
    },
    /// This machine trusts no authority.
    #[error(
        "this machine has no certificates of authorities; install ca-certificates, set ca_file, or pin the receiver with fingerprints"
    )]
    NoRoots,
}

impl TlsFileError {
    /// The stable name of the cause.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "syslog.tls_file_unreadable",
            Self::Empty { .. } | Self::Unusable { .. } => "syslog.tls_file_invalid",
            Self::Mismatch { .. } => "syslog.tls_key_mismatch",
            Self::NoRoots => "syslog.tls_no_roots",
        }
    }
}

/// Why a certificate is refused, with what it says of itself.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{why}; it presents {presented}; {}", self.advice())]
pub struct Refusal {
    /// The reason.
    pub why: String,
    /// What was presented.
    pub presented: Box<Certificate>,
    /// What to change, if that is clear.
    pub(super) fix: Fix,
}

/// What makes a refused certificate good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fix {
    /// Nobody we believe in has signed it.
    Authority,
    /// It is for another name.
    Name,
    /// It must be renewed.
    Renewal,
    /// It is of a kind that is not believed.
    Kind,
    /// Another one is pinned.
    Pin,
}

impl Refusal {
    fn advice(&self) -> String {
        let sha256 = &self.presented.sha256;
        let pin = format!(
            "if this certificate is the right one, pin it with fingerprints = \"{sha256}\""
        );
        match self.fix {
            Fix::Authority => {
                format!("name the certificate of the authority that signed it in ca_file; {pin}")
            }
            Fix::Name => format!("set server_name to a name that it is for; {pin}"),
            Fix::Renewal => format!("renew it, and check the clock of this machine; {pin}"),
            Fix::Kind => pin,
            Fix::Pin => {
                format!("if the receiver has a new certificate, write fingerprints = \"{sha256}\"")
            }
        }
    }
}

/// Words for a client certificate that was refused, or not there.
struct ClientRefusal<'a> {
    alert: &'a Option<String>,
    ours: Option<&'a Certificate>,
}

impl fmt::Display for ClientRefusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.alert, self.ours) {
            (Some(alert), None) => write!(
                f,
                "asks for a client certificate, and none is configured ({alert}); set client_cert_file and client_key_file"
            ),
            (Some(alert), Some(ours)) => write!(
                f,
                "refuses our client certificate: {alert}; it is {ours}; check which authority and names the receiver accepts"
            ),
            (None, None) => write!(
                f,
                "asked for a client certificate, got none and broke the connection; set client_cert_file and client_key_file, or look into the receiver's log"
            ),
            (None, Some(ours)) => write!(
                f,
                "broke the connection soon after it got our client certificate, which may be the reason: it is {ours}; look into the receiver's log"
            ),
        }
    }
}

/// Whether an alert is about the certificate of the one who receives it.
fn is_of_client(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(
        alert,
        A::NoCertificate
            | A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::UnknownCA
            | A::AccessDenied
            | A::DecryptError
            | A::HandshakeFailure
            | A::CertificateRequired
    )
}

/// An alert in plain words, with its name.
fn words(alert: AlertDescription) -> String {
    use AlertDescription as A;
    let words = match alert {
        A::NoCertificate | A::CertificateRequired => "it needs a certificate",
        A::BadCertificate => "the certificate is damaged or its signature is wrong",
        A::UnsupportedCertificate => "it does not take certificates of this kind",
        A::CertificateRevoked => "the certificate is revoked",
        A::CertificateExpired => "the certificate is out of date",
        A::CertificateUnknown => "it does not accept the certificate",
        A::UnknownCA => "it does not know the authority that signed the certificate",
        A::AccessDenied => "the certificate is good, but gives no access",
        A::DecryptError => "a signature is wrong",
        A::HandshakeFailure => "nothing that both sides accept was found",
        A::ProtocolVersion => "it takes other versions of TLS only",
        A::InsufficientSecurity => "it wants stronger ciphers",
        A::UnrecognisedName => "it does not know the name that it was called by (server_name)",
        A::InternalError => "something failed on its side",
        A::UserCanceled => "it gave up",
        _ => return format!("alert {alert:?}"),
    };
    format!("{words} (alert {alert:?})")
}
