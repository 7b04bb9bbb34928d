//! The receiving end: something that counts, that can be made to fail, and comes back.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::scenario::Kind;
use super::tally::Tally;
use crate::emulator::receiver::{Mode, Receiver, ReceiverConfig};

/// Where every receiver of a torture listens: an address of its own on loopback, so that packets
/// to and from it can be dropped while all others pass.
pub(super) const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// A receiver that runs, or is away at the moment.
pub(super) enum Receiving {
    /// The one in this process.
    Hostile(Receiver),
}

impl Receiving {
    /// Starts one that counts into `tally`.
    pub(super) async fn start(kind: Kind, tally: &Tally) -> anyhow::Result<Self> {
        match kind {
            Kind::Hostile => {
                let any = Some(SocketAddr::new(ADDRESS, 0));
                let config = ReceiverConfig { tcp: any, udp: any, ..ReceiverConfig::default() };
                let sink = tally.clone();
                let sink = Arc::new(move |_, message: &[u8]| sink.message(message));
                Ok(Self::Hostile(Receiver::start(config, sink)?))
            }
        }
    }

    /// Where it takes octet-counted frames over TCP.
    pub(super) fn tcp(&self) -> anyhow::Result<SocketAddr> {
        match self {
            Self::Hostile(receiver) => {
                receiver.tcp_addr().ok_or_else(|| anyhow::anyhow!("the receiver has no port"))
            }
        }
    }

    /// Reads what it has written since the last time into the tally.
    pub(super) fn count(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Hostile(_) => Ok(()),
        }
    }

    /// Changes how the hostile one behaves.
    pub(super) async fn behave(&self, mode: Mode) -> anyhow::Result<()> {
        match self {
            Self::Hostile(receiver) => Ok(receiver.set_mode(mode).await?),
        }
    }

    /// Ends it gracefully, with everything counted.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        match self {
            Self::Hostile(receiver) => {
                receiver.shutdown().await;
            }
        }
        Ok(())
    }
}
