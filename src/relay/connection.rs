//! One connection to a receiver, whatever its transport.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::Destination;
use crate::syslog::transport::{
    TcpConnection, TcpSettings, TlsConnection, UdpConnection, UdpSettings,
};
use crate::syslog::{DrainError, Frames, Scheme, SendError};

/// An open connection.
pub(crate) enum Connection {
    Tcp(TcpConnection),
    // Sessions are large.
    Tls(Box<TlsConnection>),
    Udp(UdpConnection),
}

impl Connection {
    pub(crate) async fn open(destination: &Destination) -> Result<Self, SendError> {
        let target = &destination.target;
        let tcp = TcpSettings { connect_timeout: destination.timeout, ..TcpSettings::default() };
        Ok(match target.scheme {
            Scheme::Tcp => Self::Tcp(TcpConnection::connect(target, &tcp).await?),
            Scheme::Tls => {
                let connect = TlsConnection::connect(target, &tcp, &destination.tls);
                Self::Tls(Box::new(Box::pin(connect).await?))
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
            Self::Tls(connection) => connection.peer(),
            Self::Udp(connection) => connection.peer(),
        }
    }

    pub(crate) async fn write(&mut self, frames: &Frames) -> Result<(), SendError> {
        match self {
            Self::Tcp(connection) => connection.write(frames.as_bytes()).await,
            Self::Tls(connection) => connection.write(frames.as_bytes()).await,
            Self::Udp(connection) => {
                let mut sent = 0;
                while let Err(error) = connection.send(frames.iter().skip(sent)).await {
                    // The system takes less than UDP allows: this one can never be sent, and the
                    // others must not wait for it.
                    let SendError::TooLarge { sent: before, .. } = error else {
                        return Err(error);
                    };
                    tracing::error!(code = error.code(), "{error}; this message is left out");
                    sent += before + 1;
                }
                Ok(())
            }
        }
    }

    /// Resolves when the connection breaks while nothing is written. Cancel safe.
    pub(crate) async fn idle(&mut self) -> SendError {
        match self {
            Self::Tcp(connection) => connection.idle().await,
            Self::Tls(connection) => connection.idle().await,
            Self::Udp(connection) => connection.idle().await,
        }
    }

    pub(crate) async fn drain(self, timeout: Duration) -> Result<(), DrainError> {
        match self {
            Self::Tcp(connection) => connection.drain(timeout).await,
            Self::Tls(connection) => connection.drain(timeout).await,
            Self::Udp(_) => Ok(()),
        }
    }

    pub(crate) fn abort(self) {
        match self {
            Self::Tcp(connection) => connection.abort(),
            Self::Tls(connection) => connection.abort(),
            Self::Udp(_) => {}
        }
    }
}
