//! One connection to a receiver, whatever its transport.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::Destination;
use crate::syslog::transport::relp::session::Window;
use crate::syslog::transport::{
    RelpConnection, RelpSettings, TcpConnection, TcpSettings, UdpConnection, UdpSettings,
};
use crate::syslog::{DrainError, Frames, Scheme, SendError};

/// An open connection.
pub(crate) enum Connection {
    Tcp(TcpConnection),
    Relp(Box<RelpConnection>),
    Udp(UdpConnection),
}

impl Connection {
    pub(crate) async fn open(destination: &Destination) -> Result<Self, SendError> {
        let target = &destination.target;
        let tcp = TcpSettings { connect_timeout: destination.timeout, ..TcpSettings::default() };
        Ok(match target.scheme {
            Scheme::Tcp => Self::Tcp(TcpConnection::connect(target, &tcp).await?),
            Scheme::Relp => {
                let messages = destination.relp_window as usize;
                let window = Window { messages, ..Window::default() };
                let settings = RelpSettings { tcp, window };
                Self::Relp(Box::new(RelpConnection::connect(target, &settings).await?))
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
            Self::Relp(connection) => connection.peer(),
            Self::Udp(connection) => connection.peer(),
        }
    }

    pub(crate) async fn write(&mut self, frames: &Frames) -> Result<(), SendError> {
        match self {
            Self::Tcp(connection) => connection.write(frames.as_bytes()).await,
            Self::Relp(connection) => connection.write(frames).await,
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
            Self::Relp(connection) => connection.idle().await,
            Self::Udp(connection) => connection.idle().await,
        }
    }

    pub(crate) async fn drain(self, timeout: Duration) -> Result<(), DrainError> {
        match self {
            Self::Tcp(connection) => connection.drain(timeout).await,
            Self::Relp(connection) => connection.drain(timeout).await,
            Self::Udp(_) => Ok(()),
        }
    }

    pub(crate) fn abort(self) {
        match self {
            Self::Tcp(connection) => connection.abort(),
            Self::Relp(connection) => connection.abort(),
            Self::Udp(_) => {}
        }
    }
}
