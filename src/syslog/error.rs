//! What can go wrong on the way to a receiver, and what to do about it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::delivery::Death;
use super::target::Target;
use super::transport::relp::session::SessionError;
use super::transport::tls::TlsError;

/// Why sending failed. Whatever was not confirmed before is to be sent again on the next
/// connection. [`Self::code`] is stable and used in logs, metrics and docs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The host name has no address, or the name service did not answer.
    #[error(
        "cannot resolve the host of {target}; check the name and the name servers of this machine"
    )]
    Resolve {
        /// Where messages should go.
        target: Target,
        /// What the resolver said.
        source: io::Error,
    },
    /// Nobody listens. On UDP this is the answer to an *earlier* datagram, and the one being
    /// sent did not leave either: both are to be sent again.
    #[error("{peer} refused; check that the receiver runs and listens on this port")]
    Refused {
        /// Address that was tried.
        peer: SocketAddr,
    },
    /// No answer to the connection request.
    #[error("{peer} did not answer within {} s; check the address and the firewalls between", .after.as_secs_f64())]
    ConnectTimeout {
        /// Address that was tried.
        peer: SocketAddr,
        /// How long it was tried.
        after: Duration,
    },
    /// The network, or this machine, will not carry anything to this address.
    #[error("no way to {peer}; check routes, firewalls and local addresses of this machine")]
    Unreachable {
        /// Address that was tried.
        peer: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Every address of the name was tried in turn, and each failed in its own way.
    #[error("no address of {target} takes a connection: {}", List(.attempts))]
    NoAddress {
        /// Where messages should go.
        target: Target,
        /// One error per address, in the order of trying; never empty.
        attempts: Vec<SendError>,
    },
    /// The peer broke the connection; what was in flight is lost on the way.
    #[error(
        "{peer} reset the connection; look into the receiver's log for a crash, a restart or a frame it does not take"
    )]
    Reset {
        /// The receiver.
        peer: SocketAddr,
    },
    /// The peer ended the connection while it was in use. How much it had read is unknown.
    #[error(
        "{peer} closed the connection; look into the receiver's log for a restart or a frame it does not take"
    )]
    ClosedByPeer {
        /// The receiver.
        peer: SocketAddr,
    },
    /// Data is under way and nothing at all comes back any more.
    #[error("nothing came back from {peer} for {} s; check the network on the way", .silent.as_secs())]
    DeadPath {
        /// The receiver.
        peer: SocketAddr,
        /// Time since the peer's last sign of life.
        silent: Duration,
    },
    /// The system gave the connection up: probes or data went unanswered.
    #[error("{peer} does not answer any more; check the network on the way")]
    Lost {
        /// The receiver.
        peer: SocketAddr,
    },
    /// The peer's host answers, but its receiver has read nothing for a long time.
    #[error(
        "the receiver at {peer} has read nothing for {} s; check what holds it up (a full disk, a blocked output)",
        .stalled.as_secs()
    )]
    Stalled {
        /// The receiver.
        peer: SocketAddr,
        /// Time without progress.
        stalled: Duration,
    },
    /// The peer does not speak RELP, or refuses to speak it with us.
    #[error(
        "no RELP session with {peer}; check that this is the port of a RELP receiver, and its log"
    )]
    Relp {
        /// The receiver.
        peer: SocketAddr,
        /// What it did.
        source: SessionError,
    },
    /// A RELP server did not take a message. It is to be sent alone, or kept aside.
    #[error("{peer} refused message {index} of the connection: {status} {text}")]
    MessageRefused {
        /// The receiver.
        peer: SocketAddr,
        /// Which message, the first of the connection being 0.
        index: u64,
        /// Status code, 500 as a rule.
        status: u16,
        /// The server's words, made printable and cut.
        text: String,
    },
    /// A RELP server does not answer.
    #[error(
        "{peer} has not answered for {} s, {messages} messages wait for it; check what holds the receiver up (a full queue, a blocked output)",
        .waited.as_secs_f64()
    )]
    Unacknowledged {
        /// The receiver.
        peer: SocketAddr,
        /// Messages without an answer; 0 while a session is opened.
        messages: u64,
        /// Time without an answer.
        waited: Duration,
    },
    /// Window mode needs what this system does not tell.
    #[error(
        "this system does not tell the window of {peer} (Linux 5.4 and newer do), so delivery = \"window\" proves nothing here; use delivery = \"drain\""
    )]
    NoWindow {
        /// The receiver.
        peer: SocketAddr,
    },
    /// A message does not fit a datagram. It was not sent.
    #[error(
        "a message of {size} bytes does not fit a datagram to {peer}; lower the size limit of this destination or use tcp://"
    )]
    TooLarge {
        /// The receiver.
        peer: SocketAddr,
        /// Size of the message in bytes.
        size: usize,
        /// Messages of the same call that were sent before it.
        sent: usize,
    },
    /// An earlier datagram was larger than a router on the way takes, and is lost. The system
    /// now sends such datagrams in fragments.
    #[error(
        "a datagram to {peer} was lost: the path takes {mtu} bytes; it is sent again in fragments, and max_message = \"udp-mtu\" avoids them"
    )]
    PathMtu {
        /// The receiver.
        peer: SocketAddr,
        /// Largest packet of the path in bytes, headers included.
        mtu: u32,
    },
    /// The connection is not, or no longer, encrypted and trusted.
    #[error(transparent)]
    Tls(Box<TlsError>),
    /// Anything else the system reported.
    #[error("cannot {action} {peer}")]
    Io {
        /// What was tried, to be read before the address.
        action: &'static str,
        /// The receiver.
        peer: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl SendError {
    /// The stable name of the cause, such as `syslog.refused`.
    ///
    /// Of several addresses the last one's cause counts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Resolve { .. } => "syslog.resolve",
            Self::Refused { .. } => "syslog.refused",
            Self::ConnectTimeout { .. } => "syslog.connect_timeout",
            Self::Unreachable { .. } => "syslog.unreachable",
            Self::NoAddress { attempts, .. } => {
                attempts.last().map_or("syslog.unreachable", Self::code)
            }
            Self::Reset { .. } => "syslog.reset",
            Self::ClosedByPeer { .. } => "syslog.closed_by_peer",
            Self::DeadPath { .. } | Self::Lost { .. } => "syslog.dead_path",
            Self::Stalled { .. } => "syslog.stalled",
            Self::Relp { source, .. } => source.code(),
            Self::MessageRefused { .. } => "syslog.message_refused",
            Self::Unacknowledged { .. } => "syslog.unacknowledged",
            Self::NoWindow { .. } => "syslog.no_window",
            Self::TooLarge { .. } => "syslog.too_large",
            Self::PathMtu { .. } => "syslog.path_mtu",
            Self::Tls(error) => error.code(),
            Self::Io { .. } => "syslog.io",
        }
    }

    /// What it says about the messages that were sent.
    pub fn death(&self) -> Death {
        match self {
            Self::Reset { .. } | Self::ClosedByPeer { .. } => Death::AfterData,
            Self::MessageRefused { index, .. } => Death::Refused { before: *index },
            // Not more than a guess at why a young connection was closed without a word.
            Self::Tls(error) if error.is_silent_end() => Death::AfterData,
            _ => Death::Unrelated,
        }
    }

    /// Names an error of a socket that talks, or tries to talk, to `peer`.
    pub(crate) fn from_io(action: &'static str, peer: SocketAddr, source: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match source.kind() {
            Kind::ConnectionRefused => Self::Refused { peer },
            Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::BrokenPipe
            | Kind::NotConnected => Self::Reset { peer },
            Kind::TimedOut => Self::Lost { peer },
            Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::AddrNotAvailable
            | Kind::PermissionDenied => Self::Unreachable { peer, source },
            _ => Self::Io { action, peer, source },
        }
    }
}

impl From<TlsError> for SendError {
    fn from(error: TlsError) -> Self {
        Self::Tls(Box::new(error))
    }
}

/// Why a target cannot be used. All are for the operator to correct.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// Nothing before `://`.
    #[error("`{text}` has no scheme; write tls://, relp://, tcp:// or udp:// and HOST:PORT")]
    NoScheme {
        /// What was written.
        text: String,
    },
    /// Not a transport.
    #[error(
        "`{scheme}` is not a syslog transport; use tls://, relp://, relp+tls://, tcp:// or udp://"
    )]
    UnknownScheme {
        /// What was written.
        scheme: String,
    },
    /// Not a host name or address.
    #[error(
        "`{host}` is not a host; write a name, an IPv4 address or [an IPv6 address], then at most :PORT"
    )]
    BadHost {
        /// What was written.
        host: String,
    },
    /// An IPv6 address whose end cannot be told from a port.
    #[error("`{host}` looks like IPv6; put the address into brackets: [2001:db8::1]:514")]
    NoBrackets {
        /// What was written.
        host: String,
    },
    /// Not a port.
    #[error("`{port}` is not a port; write a number from 1 to 65535")]
    BadPort {
        /// What was written.
        port: String,
    },
}

impl TargetError {
    /// The stable name of the cause.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoScheme { .. } => "syslog.target_no_scheme",
            Self::UnknownScheme { .. } => "syslog.target_unknown_scheme",
            Self::BadHost { .. } | Self::NoBrackets { .. } => "syslog.target_bad_host",
            Self::BadPort { .. } => "syslog.target_bad_port",
        }
    }
}

/// Errors one after the other. Their sources are not reachable through `source()`, which has
/// room for one, so each is followed by its own.
struct List<'a>(&'a [SendError]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", then " };
            write!(f, "{separator}{error}")?;
            if let Some(source) = std::error::Error::source(error) {
                write!(f, " ({source})")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_young_connection_that_ends_without_a_word_may_have_ended_for_a_log() {
        let refused = |alert: Option<&str>| {
            let (peer, alert) = ("127.0.0.1:6514".parse().unwrap(), alert.map(str::to_owned));
            SendError::from(TlsError::ClientRefused { peer, alert, ours: None })
        };
        assert_eq!(refused(None).death(), Death::AfterData);
        assert_eq!(refused(Some("unknown_ca")).death(), Death::Unrelated);
    }

    #[test]
    fn several_addresses_are_told_one_by_one() {
        let v6 = SendError::ConnectTimeout {
            peer: "[::1]:514".parse().unwrap(),
            after: Duration::from_secs(10),
        };
        let v4 = SendError::from_io(
            "connect to",
            "127.0.0.1:514".parse().unwrap(),
            io::Error::from(io::ErrorKind::HostUnreachable),
        );
        let all = SendError::NoAddress {
            target: "tcp://siem:514".parse().unwrap(),
            attempts: vec![v6, v4],
        };
        let text = all.to_string();
        for part in ["tcp://siem:514", "[::1]:514", "10 s", "127.0.0.1:514", "(host unreachable)"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(all.code(), "syslog.unreachable");
    }

    #[test]
    fn system_errors_become_causes() {
        let peer = "127.0.0.1:514".parse().unwrap();
        let code = |kind: io::ErrorKind| SendError::from_io("write to", peer, kind.into()).code();
        assert_eq!(code(io::ErrorKind::ConnectionRefused), "syslog.refused");
        assert_eq!(code(io::ErrorKind::BrokenPipe), "syslog.reset");
        assert_eq!(code(io::ErrorKind::TimedOut), "syslog.dead_path");
        assert_eq!(code(io::ErrorKind::OutOfMemory), "syslog.io");
    }
}
