//! One connection to a receiver, whatever its transport.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::Destination;
use crate::syslog::delivery::WindowEstimate;
use crate::syslog::transport::relp::session::Window;
use crate::syslog::transport::{
    RelpConnection, RelpSettings, StreamSample, TcpConnection, TcpSettings, TlsConnection,
    UdpConnection, UdpSettings,
};
use crate::syslog::{DrainError, Frames, Proof, Scheme, SendError, Target};

/// An open connection.
pub(crate) struct Connection {
    transport: Transport,
    estimate: WindowEstimate,
}

enum Transport {
    Tcp(TcpConnection),
    Tls(TlsConnection),
    Relp(Box<RelpConnection>),
    Udp(UdpConnection),
}

impl Connection {
    /// Connects to one of the receivers of `destination`.
    pub(crate) async fn open(
        destination: &Destination,
        target: &Target,
    ) -> Result<Self, SendError> {
        let tcp = TcpSettings {
            connect_timeout: destination.timeout,
            dead_after: destination.dead_after,
            stall_timeout: destination.stall_timeout,
        };
        let transport = match target.scheme {
            Scheme::Tcp => Transport::Tcp(TcpConnection::connect(target, &tcp).await?),
            Scheme::Tls => {
                Transport::Tls(TlsConnection::connect(target, &tcp, &destination.tls).await?)
            }
            scheme @ (Scheme::Relp | Scheme::RelpTls) => {
                let messages = destination.relp_window as usize;
                let window = Window { messages, ..Window::default() };
                let settings = RelpSettings { tcp, window };
                let connection = if scheme.is_encrypted() {
                    RelpConnection::connect_tls(target, &settings, &destination.tls).await?
                } else {
                    RelpConnection::connect(target, &settings).await?
                };
                Transport::Relp(Box::new(connection))
            }
            Scheme::Udp => {
                let settings =
                    UdpSettings { max_rate: destination.udp_max_rate, ..UdpSettings::default() };
                Transport::Udp(UdpConnection::connect(target, &settings).await?)
            }
        };
        Ok(Self { transport, estimate: WindowEstimate::default() })
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        match &self.transport {
            Transport::Tcp(connection) => connection.peer(),
            Transport::Tls(connection) => connection.peer(),
            Transport::Relp(connection) => connection.peer(),
            Transport::Udp(connection) => connection.peer(),
        }
    }

    /// Offset behind what was written, in the unit of the transport.
    pub(crate) fn written(&self) -> u64 {
        match &self.transport {
            Transport::Tcp(connection) => connection.written(),
            Transport::Tls(connection) => connection.written(),
            Transport::Relp(connection) => connection.written(),
            Transport::Udp(connection) => connection.written(),
        }
    }

    /// Up to which offset the receiver has everything, as far as `proof` can tell without a
    /// drain.
    ///
    /// # Errors
    /// [`SendError::NoWindow`] where the proof is the window and the kernel does not tell it.
    pub(crate) fn reached(&mut self, proof: Proof) -> Result<u64, SendError> {
        if let Transport::Relp(connection) = &self.transport {
            return Ok(connection.proven());
        }
        let Some(sample) = self.sample()? else { return Ok(0) };
        match proof {
            Proof::Window => {
                let peer = self.peer();
                self.estimate.read(&sample).ok_or(SendError::NoWindow { peer })
            }
            Proof::Kernel => Ok(sample.taken().unwrap_or(0)),
            Proof::Drain | Proof::Acknowledged | Proof::Datagram => Ok(0),
        }
    }

    /// Bytes that the receiver's kernel has not taken, where that is told.
    pub(crate) fn queued(&mut self) -> Result<Option<u64>, SendError> {
        Ok(self.sample()?.and_then(|sample| sample.queued))
    }

    /// Whether the window of the receiver can be seen.
    pub(crate) fn tells_window(&mut self) -> bool {
        self.sample().is_ok_and(|sample| sample.is_some_and(|sample| sample.window.is_some()))
    }

    /// What the kernel knows of a stream that nothing is acknowledged on.
    fn sample(&mut self) -> Result<Option<StreamSample>, SendError> {
        match &mut self.transport {
            Transport::Tcp(connection) => connection.sample().map(Some),
            Transport::Tls(connection) => connection.sample().map(Some),
            Transport::Relp(_) | Transport::Udp(_) => Ok(None),
        }
    }

    pub(crate) async fn write(&mut self, frames: &Frames) -> Result<(), SendError> {
        match &mut self.transport {
            Transport::Tcp(connection) => connection.write(frames.as_bytes()).await,
            Transport::Tls(connection) => connection.write(frames.as_bytes()).await,
            Transport::Relp(connection) => connection.write(frames).await,
            Transport::Udp(connection) => {
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

    /// Resolves when the connection breaks while nothing is written, or when there is more that
    /// [`Self::reached`] can tell. Cancel safe.
    pub(crate) async fn watch(&mut self) -> Result<(), SendError> {
        match &mut self.transport {
            Transport::Tcp(connection) => Err(connection.idle().await),
            Transport::Tls(connection) => Err(connection.idle().await),
            Transport::Relp(connection) => connection.watch().await,
            Transport::Udp(connection) => Err(connection.idle().await),
        }
    }

    pub(crate) async fn drain(self, timeout: Duration) -> Result<(), DrainError> {
        match self.transport {
            Transport::Tcp(connection) => connection.drain(timeout).await,
            Transport::Tls(connection) => connection.drain(timeout).await,
            Transport::Relp(connection) => connection.drain(timeout).await,
            Transport::Udp(_) => Ok(()),
        }
    }

    pub(crate) fn abort(self) {
        match self.transport {
            Transport::Tcp(connection) => connection.abort(),
            Transport::Tls(connection) => connection.abort(),
            Transport::Relp(connection) => connection.abort(),
            Transport::Udp(_) => {}
        }
    }
}
