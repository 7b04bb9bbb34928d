//! The receiving end: something that counts, that can be made to fail, and comes back.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use rustix::process::Signal;

use super::daemon::RealReceiver;
use super::scenario::Kind;
use super::tally::Tally;
use super::tools::Tools;
use crate::emulator::receiver::{Mode, Receiver, ReceiverConfig};

/// Where every receiver of a torture listens: an address of its own on loopback, so that packets
/// to and from it can be dropped while all others pass.
pub(super) const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// A receiver that runs, or is away at the moment.
pub(super) enum Receiving {
    /// The one in this process.
    Hostile(Receiver),
    /// rsyslog or syslog-ng.
    Real(RealReceiver),
}

impl Receiving {
    /// Starts one that counts into `tally`.
    pub(super) async fn start(
        kind: Kind,
        tools: &Tools,
        dir: &Path,
        tally: &Tally,
    ) -> anyhow::Result<Self> {
        match kind {
            Kind::Hostile => {
                let any = Some(SocketAddr::new(ADDRESS, 0));
                let config = ReceiverConfig { tcp: any, udp: any, ..ReceiverConfig::default() };
                let sink = tally.clone();
                let sink = Arc::new(move |_, message: &[u8]| sink.message(message));
                Ok(Self::Hostile(Receiver::start(config, sink)?))
            }
            Kind::Rsyslog | Kind::SyslogNg => {
                Ok(Self::Real(RealReceiver::start(kind, tools, dir, tally).await?))
            }
        }
    }

    /// Where it takes octet-counted frames over TCP.
    pub(super) fn tcp(&self) -> anyhow::Result<SocketAddr> {
        match self {
            Self::Hostile(receiver) => {
                receiver.tcp_addr().ok_or_else(|| anyhow::anyhow!("the receiver has no port"))
            }
            Self::Real(receiver) => Ok(receiver.address()),
        }
    }

    /// Where it takes datagrams.
    pub(super) fn udp(&self) -> anyhow::Result<SocketAddr> {
        match self {
            Self::Hostile(receiver) => {
                receiver.udp_addr().ok_or_else(|| anyhow::anyhow!("the receiver has no port"))
            }
            Self::Real(receiver) => Ok(receiver.address()),
        }
    }

    /// Where it speaks RELP.
    pub(super) fn relp(&self) -> anyhow::Result<SocketAddr> {
        match self {
            Self::Hostile(_) => anyhow::bail!("the hostile receiver speaks no RELP here"),
            Self::Real(receiver) => Ok(receiver.relp()),
        }
    }

    /// Where it takes LF-delimited frames over TCP.
    pub(super) fn lf(&self) -> anyhow::Result<SocketAddr> {
        match self {
            Self::Hostile(_) => self.tcp(),
            Self::Real(receiver) => Ok(receiver.lf()),
        }
    }

    /// Reads what it has written since the last time into the tally.
    pub(super) fn count(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Hostile(_) => Ok(()),
            Self::Real(receiver) => receiver.count(),
        }
    }

    /// Changes how the hostile one behaves.
    pub(super) async fn behave(&self, mode: Mode) -> anyhow::Result<()> {
        match self {
            Self::Hostile(receiver) => Ok(receiver.set_mode(mode).await?),
            Self::Real(_) => anyhow::bail!("a real receiver behaves"),
        }
    }

    /// Sends a real one a signal; after TERM and KILL it is gone when this returns.
    pub(super) async fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        match self {
            Self::Hostile(_) => anyhow::bail!("the hostile receiver is no process"),
            Self::Real(receiver) => receiver.signal(signal).await,
        }
    }

    /// Takes it away as a restart of its service does, or brings it back.
    pub(super) async fn listen(&mut self, listen: bool) -> anyhow::Result<()> {
        match (self, listen) {
            (Self::Hostile(receiver), true) => Ok(receiver.set_mode(Mode::Accept).await?),
            (Self::Hostile(receiver), false) => Ok(receiver.set_mode(Mode::Refuse).await?),
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
            Self::Real(receiver) => receiver.end().await,
        }
    }
}
