//! The receiving end: something that counts, that can be made to fail, and comes back.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use rustix::process::Signal;
use rustls::ServerConfig;

use super::daemon::RealReceiver;
use super::pki::Pki;
use super::scenario::{Kind, Scenario};
use super::tally::Tally;
use super::tools::Tools;
use crate::emulator::receiver::tls::{TlsMode, TlsReceiver};
use crate::emulator::receiver::{Mode, Receiver, ReceiverConfig};

/// Where every receiver of a torture listens: an address of its own on loopback, so that packets
/// to and from it can be dropped while all others pass.
pub(super) const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// A receiver that runs, or is away at the moment.
pub(super) enum Receiving {
    /// The one in this process.
    Hostile(Receiver),
    /// The one in this process that speaks TLS.
    HostileTls {
        receiver: TlsReceiver,
        /// How it serves when it is well.
        well: Arc<ServerConfig>,
        /// How it serves when it refuses us.
        refusing: Arc<ServerConfig>,
    },
    /// rsyslog or syslog-ng.
    Real(RealReceiver),
}

/// How handshakes with the hostile receiver over TLS end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Handshake {
    /// Well.
    Done,
    /// Not: no hello is answered.
    Silent,
    /// It wants a client certificate that we do not have.
    Refused,
}

impl Receiving {
    /// Starts one that counts into `tally`; over TLS if there are certificates.
    pub(super) async fn start(
        scenario: &Scenario,
        pki: Option<&Pki>,
        tools: &Tools,
        dir: &Path,
        tally: &Tally,
    ) -> anyhow::Result<Self> {
        let any = SocketAddr::new(ADDRESS, 0);
        let sink = tally.clone();
        let sink = Arc::new(move |_, message: &[u8]| sink.message(message));
        match (scenario.receiver, pki) {
            (Kind::Hostile, None) => {
                let (tcp, udp) = (Some(any), Some(any));
                let config = ReceiverConfig { tcp, udp, ..ReceiverConfig::default() };
                Ok(Self::Hostile(Receiver::start(config, sink)?))
            }
            (Kind::Hostile, Some(pki)) => {
                let well = match scenario.shows_certificate() {
                    true => pki.taking()?,
                    false => pki.open()?,
                };
                let refusing = pki.refusing()?;
                let receiver = TlsReceiver::start(any, TlsMode::Serve(well.clone()), sink)?;
                Ok(Self::HostileTls { receiver, well, refusing })
            }
            (kind @ (Kind::Rsyslog | Kind::SyslogNg), pki) => {
                Ok(Self::Real(RealReceiver::start(kind, pki, tools, dir, tally).await?))
            }
        }
    }

    /// Where it takes octet-counted frames over TCP, or TLS if it speaks that.
    pub(super) fn tcp(&self) -> anyhow::Result<SocketAddr> {
        match self {
            Self::Hostile(receiver) => {
                receiver.tcp_addr().ok_or_else(|| anyhow::anyhow!("the receiver has no port"))
            }
            Self::HostileTls { receiver, .. } => Ok(receiver.addr()),
            Self::Real(receiver) => Ok(receiver.address()),
        }
    }

    /// Where it takes datagrams.
    pub(super) fn udp(&self) -> anyhow::Result<SocketAddr> {
        match self {
            Self::Hostile(receiver) => {
                receiver.udp_addr().ok_or_else(|| anyhow::anyhow!("the receiver has no port"))
            }
            Self::HostileTls { .. } => anyhow::bail!("over TLS there are no datagrams"),
            Self::Real(receiver) => Ok(receiver.address()),
        }
    }

    /// Where it speaks RELP.
    pub(super) fn relp(&self) -> anyhow::Result<SocketAddr> {
        match self {
            Self::Hostile(_) | Self::HostileTls { .. } => {
                anyhow::bail!("the hostile receiver speaks no RELP here")
            }
            Self::Real(receiver) => Ok(receiver.relp()),
        }
    }

    /// Where it takes LF-delimited frames over TCP.
    pub(super) fn lf(&self) -> anyhow::Result<SocketAddr> {
        match self {
            Self::Hostile(_) | Self::HostileTls { .. } => self.tcp(),
            Self::Real(receiver) => Ok(receiver.lf()),
        }
    }

    /// Reads what it has written since the last time into the tally.
    pub(super) fn count(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Hostile(_) | Self::HostileTls { .. } => Ok(()),
            Self::Real(receiver) => receiver.count(),
        }
    }

    /// Changes how the hostile one behaves.
    pub(super) async fn behave(&self, mode: Mode) -> anyhow::Result<()> {
        match self {
            Self::Hostile(receiver) => Ok(receiver.set_mode(mode).await?),
            Self::HostileTls { .. } => anyhow::bail!("over TLS only handshakes go wrong"),
            Self::Real(_) => anyhow::bail!("a real receiver behaves"),
        }
    }

    /// Changes how handshakes with the hostile one over TLS end, and resets what is open.
    pub(super) fn shake_hands(&self, ends: Handshake) -> anyhow::Result<()> {
        let Self::HostileTls { receiver, well, refusing } = self else {
            anyhow::bail!("only the hostile receiver over TLS has handshakes that go wrong")
        };
        receiver.set_mode(match ends {
            Handshake::Done => TlsMode::Serve(well.clone()),
            Handshake::Silent => TlsMode::Silent,
            Handshake::Refused => TlsMode::Serve(refusing.clone()),
        });
        Ok(())
    }

    /// Sends a real one a signal; after TERM and KILL it is gone when this returns.
    pub(super) async fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        match self {
            Self::Hostile(_) | Self::HostileTls { .. } => {
                anyhow::bail!("the hostile receiver is no process")
            }
            Self::Real(receiver) => receiver.signal(signal).await,
        }
    }

    /// Takes it away as a restart of its service does, or brings it back.
    pub(super) async fn listen(&mut self, listen: bool) -> anyhow::Result<()> {
        match (self, listen) {
            (Self::Hostile(receiver), true) => Ok(receiver.set_mode(Mode::Accept).await?),
            (Self::Hostile(receiver), false) => Ok(receiver.set_mode(Mode::Refuse).await?),
            (Self::HostileTls { .. }, _) => anyhow::bail!("over TLS only handshakes go wrong"),
            (Self::Real(receiver), true) => receiver.restart().await,
            (Self::Real(receiver), false) => receiver.signal(Signal::TERM).await,
        }
    }

    /// Ends it gracefully, with everything counted.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        match self {
            Self::Hostile(receiver) => {
                receiver.shutdown().await;
                Ok(())
            }
            Self::HostileTls { .. } => Ok(()),
            Self::Real(receiver) => receiver.end().await,
        }
    }
}
