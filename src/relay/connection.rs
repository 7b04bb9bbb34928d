//! One connection to a receiver, whatever its transport.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::Destination;
use crate::syslog::transport::{TcpConnection, TcpSettings, UdpConnection, UdpSettings};
use crate::syslog::{DrainError, Frames, Scheme, SendError};

/// An open connection.
pub(crate) enum Connection {
    Tcp(TcpConnection),
    Udp(UdpConnection),
}

impl Connection {
    pub(crate) async fn open(destination: &Destination) -> Result<Self, SendError> {
        let target = &destination.target;
        Ok(match target.scheme {
            Scheme::Tcp => {
                let settings =
                    TcpSettings { connect_timeout: destination.timeout, ..TcpSettings::default() };
                Self::Tcp(TcpConnection::connect(target, &settings).await?)
            }
            Scheme::Udp => {
                let settings =
                    UdpSettings { max_rate: destination.udp_max_rate, ..UdpSettings::default() };
                Self::Udp(UdpConnection::connect(target, &settings).await?)
            }
        })
    }

    /// Whether each message travels by itself, and nothing can be drained.
    pub(crate) fn is_datagram(&self) -> bool {
        matches!(self, Self::Udp(_))
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        match self {
            Self::Tcp(connection) => connection.peer(),
            Self::Udp(connection) => connection.peer(),
        }
    }

    pub(crate) async fn write(&mut self, frames: &Frames) -> Result<(), SendError> {
        match self {
            Self::Tcp(connection) => connection.write(frames.as_bytes()).await,
            Self::Udp(connection) => connection.send(frames.iter()).await.map(drop),
        }
    }

    /// Resolves when the connection breaks while nothing is written. Cancel safe.
    pub(crate) async fn idle(&mut self) -> SendError {
        match self {
            Self::Tcp(connection) => connection.idle().await,
            Self::Udp(connection) => connection.idle().await,
        }
    }

    pub(crate) async fn drain(self, timeout: Duration) -> Result<(), DrainError> {
        match self {
            Self::Tcp(connection) => connection.drain(timeout).await,
            Self::Udp(_) => Ok(()),
        }
    }

    pub(crate) fn abort(self) {
        if let Self::Tcp(connection) = self {
            connection.abort();
        }
    }
}
