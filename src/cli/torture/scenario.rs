//! What can be played: who receives, over what, and what happens to it.

use std::fmt;
use std::net::SocketAddr;

/// One run: everything that decides what may be lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Scenario {
    pub(super) transport: Transport,
    pub(super) path: Path,
    pub(super) receiver: Kind,
    pub(super) fault: Fault,
    pub(super) pace: Pace,
}

/// How messages travel, and what proves their arrival.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Transport {
    /// TCP; a drain proves.
    TcpDrain,
    /// TCP; the receiver's window proves.
    TcpWindow,
    /// TLS over TCP; a drain proves.
    Tls,
    /// RELP, which only rsyslog speaks; it acknowledges.
    Relp,
    /// Datagrams; nothing proves.
    Udp,
}

/// What stands between the sender and the receiver.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Path {
    Direct,
    /// HAProxy as it comes: it takes a connection and tries for seconds to reach the receiver.
    Haproxy,
    /// HAProxy with `retries 0`.
    HaproxyNoRetries,
    /// nginx stream as it comes: it does not hand a half-close on.
    Nginx,
    /// nginx stream with `proxy_half_close on`.
    NginxHalfClose,
}

/// Who receives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// The receiver in this binary, which misbehaves on demand.
    Hostile,
    /// A real rsyslog.
    Rsyslog,
    /// A real syslog-ng.
    SyslogNg,
}

/// What happens to the receiver once a quarter of the logs has arrived.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    /// Nothing.
    None,
    /// SIGTERM, back after 2 s.
    Term,
    /// SIGKILL, back after 2 s.
    Kill,
    /// SIGSTOP, a second later SIGKILL, back after 2 s.
    StopKill,
    /// Packets vanish both ways for 3 s, after 1.5 s of which it is killed; back after the hole.
    Hole,
    /// Refuses connections and resets the open one, 2 s.
    Refuse,
    /// Resets every connection after 256 KiB, 3 s.
    Reset,
    /// Sends FIN after 200 messages of each connection and reads nothing more, 3 s.
    AcceptClose,
    /// Reads 4 KiB every 10 ms, 3 s.
    Slow,
    /// Reads nothing for 2 s, then is gone for 1 s and resets what was open.
    StallKill,
    /// Reads, and never closes its side when the sender has closed its own, 5 s.
    Deaf,
    /// Five times gone for 0.3 s and back for 0.5 s.
    RestartLoop,
    /// TLS: resets the open connection and answers no hello for 7 s, which is longer than a
    /// connection attempt may take; then answers what waits.
    HandshakeStall,
    /// TLS: resets the open connection and wants a client certificate for 3 s; we have none.
    ClientCertMissing,
    /// TLS: the same, and ours is by an authority that it does not know; then it does.
    ClientCertForeign,
}

/// How fast logs come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pace {
    /// At the rate of the command line: the receiver is idle between two logs.
    Paced,
    /// All at once: the receiver is behind.
    Full,
}

impl Scenario {
    /// Everything, in the order of the report.
    pub(super) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for transport in Transport::ALL {
            for path in Path::ALL {
                for receiver in Kind::ALL {
                    for fault in Fault::ALL {
                        for pace in Pace::ALL {
                            all.push(Self { transport, path, receiver, fault, pace });
                        }
                    }
                }
            }
        }
        all.retain(Self::makes_sense);
        all
    }

    /// Whether this relay may lose nothing here.
    pub(super) fn must_not_lose(&self) -> bool {
        // nginx answers a half-close at once, whatever the receiver has: a drain proves nothing.
        // HAProxy ends our side cleanly when a receiver dies behind it, and takes the next
        // connection: it looks as if the receiver were well for longer than a settle time.
        !matches!(self.path, Path::Nginx | Path::Haproxy) && self.transport != Transport::Udp
    }

    /// URL of a destination.
    pub(super) fn target(&self, address: SocketAddr) -> String {
        let scheme = match self.transport {
            Transport::TcpDrain | Transport::TcpWindow => "tcp",
            Transport::Tls => "tls",
            Transport::Relp => "relp",
            Transport::Udp => "udp",
        };
        format!("{scheme}://{address}")
    }

    /// Whether `pattern` names it: parts of the name between slashes, in any order.
    pub(super) fn is_called(&self, pattern: &str) -> bool {
        let name = self.to_string();
        pattern.split('/').all(|part| name.split('/').any(|own| own == part))
    }

    /// Whether a client certificate is part of it.
    pub(super) fn shows_certificate(&self) -> bool {
        self.fault == Fault::ClientCertForeign
    }

    /// Nothing says to a sender of datagrams that a receiver is slow or stands still, and none
    /// of them takes all that a sender has.
    fn suits_datagrams(&self) -> bool {
        let fault = !matches!(self.fault, Fault::Reset | Fault::AcceptClose | Fault::Deaf);
        fault && self.path == Path::Direct && self.pace == Pace::Paced
    }

    fn makes_sense(&self) -> bool {
        if self.transport == Transport::Relp && self.receiver != Kind::Rsyslog {
            return false;
        }
        if self.transport == Transport::Udp && !self.suits_datagrams() {
            return false;
        }
        if self.fault.is_of_tls() {
            return self.transport == Transport::Tls
                && self.path == Path::Direct
                && self.receiver == Kind::Hostile;
        }
        // The hostile one knows these alone over TLS: below it, TLS is TCP.
        if self.transport == Transport::Tls
            && self.receiver == Kind::Hostile
            && self.fault != Fault::None
        {
            return false;
        }
        if self.path != Path::Direct {
            // A window is that of the proxy: such a destination is not to be used through one.
            return self.transport == Transport::TcpDrain
                && matches!(
                    (self.receiver, self.fault),
                    (Kind::Rsyslog, Fault::Term | Fault::Kill | Fault::StopKill)
                        | (Kind::Hostile, Fault::Slow | Fault::StallKill)
                );
        }
        match self.fault {
            Fault::None | Fault::RestartLoop => true,
            Fault::Term | Fault::Kill | Fault::StopKill | Fault::Hole => {
                self.receiver != Kind::Hostile
            }
            Fault::Refuse
            | Fault::Reset
            | Fault::AcceptClose
            | Fault::Slow
            | Fault::StallKill
            | Fault::Deaf
            | Fault::HandshakeStall
            | Fault::ClientCertMissing
            | Fault::ClientCertForeign => self.receiver == Kind::Hostile,
        }
    }
}

impl Transport {
    const ALL: [Self; 5] = [Self::TcpDrain, Self::TcpWindow, Self::Tls, Self::Relp, Self::Udp];

    fn name(self) -> &'static str {
        match self {
            Self::TcpDrain => "tcp-drain",
            Self::TcpWindow => "tcp-window",
            Self::Tls => "tls",
            Self::Relp => "relp",
            Self::Udp => "udp",
        }
    }
}

impl Path {
    const ALL: [Self; 5] =
        [Self::Direct, Self::Haproxy, Self::HaproxyNoRetries, Self::Nginx, Self::NginxHalfClose];

    fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Haproxy => "haproxy",
            Self::HaproxyNoRetries => "haproxy-no-retries",
            Self::Nginx => "nginx",
            Self::NginxHalfClose => "nginx-half-close",
        }
    }
}

impl Kind {
    const ALL: [Self; 3] = [Self::Rsyslog, Self::SyslogNg, Self::Hostile];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hostile => "hostile",
            Self::Rsyslog => "rsyslog",
            Self::SyslogNg => "syslog-ng",
        }
    }
}

impl Fault {
    const ALL: [Self; 15] = [
        Self::None,
        Self::Term,
        Self::Kill,
        Self::StopKill,
        Self::Hole,
        Self::Refuse,
        Self::Reset,
        Self::AcceptClose,
        Self::Slow,
        Self::StallKill,
        Self::Deaf,
        Self::RestartLoop,
        Self::HandshakeStall,
        Self::ClientCertMissing,
        Self::ClientCertForeign,
    ];

    /// Whether it takes a TLS handshake to happen.
    fn is_of_tls(self) -> bool {
        matches!(self, Self::HandshakeStall | Self::ClientCertMissing | Self::ClientCertForeign)
    }

    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Term => "term",
            Self::Kill => "kill",
            Self::StopKill => "stop-kill",
            Self::Hole => "hole",
            Self::Refuse => "refuse",
            Self::Reset => "reset",
            Self::AcceptClose => "accept-close",
            Self::Slow => "slow",
            Self::StallKill => "stall-kill",
            Self::Deaf => "deaf",
            Self::RestartLoop => "restart-loop",
            Self::HandshakeStall => "handshake-stall",
            Self::ClientCertMissing => "client-cert-missing",
            Self::ClientCertForeign => "client-cert-foreign",
        }
    }
}

impl Pace {
    const ALL: [Self; 2] = [Self::Paced, Self::Full];

    fn name(self) -> &'static str {
        match self {
            Self::Paced => "paced",
            Self::Full => "full",
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transport, path, receiver, fault, pace } = self;
        let names = [transport.name(), path.name(), receiver.name(), fault.name(), pace.name()];
        f.write_str(&names.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_has_a_name_of_its_own() {
        let names: Vec<String> = Scenario::all().iter().map(ToString::to_string).collect();
        let unique: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
    }

    #[test]
    fn parts_of_a_name_choose() {
        let chosen = |pattern| Scenario::all().iter().filter(|s| s.is_called(pattern)).count();
        assert_eq!(chosen("tcp-drain/direct/hostile/refuse/paced"), 1);
        assert_eq!(chosen("refuse/hostile/tcp-drain"), 2);
        assert_eq!(chosen("refuse/full"), 2);
        assert_eq!(chosen("ref"), 0);
    }
}
