//! A plain TCP connection that is always read, watched, and ended with a proof or on purpose.
//!
//! A successful write proves nothing. What does: end our side, read up to the peer's end,
//! and find the out-queue empty and the socket without an error. Receivers read everything
//! before they end their side in turn.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::Interest;
use tokio::time::timeout_at;

use super::StreamSample;
use super::socket::{Patience, READS_PER_TURN, Socket};
use crate::syslog::error::SendError;
use crate::syslog::target::Target;

/// Limits of a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpSettings {
    /// For resolving the name, and then for each of its addresses.
    pub connect_timeout: Duration,
    /// Give a connection up when something is unanswered and nothing came back for so long.
    /// Seen only while [`TcpConnection::write`] or [`TcpConnection::idle`] runs; Linux only.
    pub dead_after: Duration,
    /// Give a connection up when the peer's host answers but has taken nothing for so long.
    pub stall_timeout: Duration,
}

impl Default for TcpSettings {
    /// 10 s, 30 s, 10 min.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            dead_after: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(600),
        }
    }
}

/// Why a drain proved nothing. Everything unconfirmed is to be sent again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DrainError {
    /// The peer did not end its side in time.
    #[error(
        "{peer} did not answer the end of the connection in time; check whether the receiver is stuck, or a proxy on the way does not pass half-closed connections on"
    )]
    Unanswered {
        /// The receiver.
        peer: SocketAddr,
        /// Whether its kernel at least has everything. If so the connection was closed and
        /// not reset, so that what was sent can still be read; otherwise it was reset.
        sent_queue_empty: bool,
    },
    /// The connection broke, or the peer had ended it before us.
    #[error(transparent)]
    Broken(#[from] SendError),
}

impl DrainError {
    /// The stable name of the cause, such as `syslog.drain_unanswered`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unanswered { .. } => "syslog.drain_unanswered",
            Self::Broken(error) => error.code(),
        }
    }
}

/// A connection that messages are written to.
///
/// Dropping it resets it: what is in flight is thrown away, to be sent again. Only
/// [`Self::drain`] ends it in an orderly way.
#[derive(Debug)]
pub struct TcpConnection {
    socket: Socket,
    ignored: u64,
}

impl TcpConnection {
    /// Resolves the name and tries all its addresses in turn.
    ///
    /// # Errors
    /// [`SendError::Resolve`], [`SendError::Refused`], [`SendError::ConnectTimeout`],
    /// [`SendError::Unreachable`], [`SendError::Io`]; with several addresses
    /// [`SendError::NoAddress`] holding one of these for each.
    pub async fn connect(target: &Target, settings: &TcpSettings) -> Result<Self, SendError> {
        Ok(Self { socket: Socket::connect(target, settings).await?, ignored: 0 })
    }

    /// The address that took the connection.
    pub fn peer(&self) -> SocketAddr {
        self.socket.peer()
    }

    /// Bytes handed to the kernel since the connection was made.
    pub fn written(&self) -> u64 {
        self.socket.written()
    }

    /// What the kernel knows of the connection now.
    ///
    /// # Errors
    /// [`SendError::Io`].
    pub fn sample(&mut self) -> Result<StreamSample, SendError> {
        self.socket.sample()
    }

    /// Bytes the peer sent. Syslog has no answers; they are read and thrown away.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// Hands all of `bytes` to the kernel, which proves nothing. Watches the peer meanwhile.
    ///
    /// Waits for as long as the peer's host answers, up to `stall_timeout`. Not cancel safe:
    /// if the future is dropped, part of a frame may be written, and the connection must not
    /// be written to again (it may be drained, receivers drop what ends amid a frame, or on
    /// LF framing log it).
    ///
    /// # Errors
    /// [`SendError::ClosedByPeer`], [`SendError::Reset`], [`SendError::DeadPath`],
    /// [`SendError::Lost`], [`SendError::Stalled`], [`SendError::Io`]. The connection is
    /// then of no use any more.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        let mut rest = bytes;
        let mut blocked = false;
        while !rest.is_empty() {
            self.socket.look_if_due(blocked)?;
            self.read()?;
            match self.socket.try_write(rest) {
                Ok(n) => {
                    rest = &rest[n..];
                    blocked = false;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    blocked = true;
                    self.socket.wait(Interest::READABLE | Interest::WRITABLE).await?;
                }
                Err(error) => return Err(self.socket.error("write to", error)),
            }
        }
        Ok(())
    }

    /// Watches the peer while there is nothing to write, and resolves when the connection
    /// ends, in whatever way. Cancel safe.
    pub async fn idle(&mut self) -> SendError {
        loop {
            let looked = self.socket.look_if_due(false).and_then(|()| self.read());
            if let Err(error) = looked {
                return error;
            }
            if let Err(error) = self.socket.wait(Interest::READABLE).await {
                return error;
            }
        }
    }

    /// Ends our side, waits for the peer to end its own, and checks that it has everything.
    ///
    /// `Ok` proves that the receiving process has read all that was written (on systems other
    /// than Linux, short of a process that died behind a broken path). It may still lose it
    /// in the next moments if it is being stopped: let it settle. Through a proxy this holds
    /// if the proxy passes half-closes on (nginx: `proxy_half_close on`).
    ///
    /// # Errors
    /// [`DrainError::Unanswered`] when the peer has read everything, as far as can be seen, and
    /// says nothing for `within`; [`DrainError::Broken`] on every other end, also if the peer's end was there before ours.
    pub async fn drain(mut self, within: Duration) -> Result<(), DrainError> {
        let mut patience = Patience::new(within);
        self.read()?;
        self.socket.end_ours()?;
        loop {
            match timeout_at(patience.deadline(), self.socket.read_to_end()).await {
                Ok(ended) => break ended?,
                Err(_) if self.socket.still_reads(&mut patience)? => {}
                Err(_) => return Err(self.socket.unanswered(within)),
            }
        }
        self.socket.finish(within).await
    }

    /// Resets the connection at once. What is in flight is thrown away.
    pub fn abort(self) {
        drop(self);
    }

    /// Reads what is there and throws it away; the peer's end is an error.
    fn read(&mut self) -> Result<(), SendError> {
        let mut buf = [0; 4096];
        for _ in 0..READS_PER_TURN {
            match self.socket.try_read(&mut buf) {
                Ok(0) => return Err(SendError::ClosedByPeer { peer: self.peer() }),
                Ok(n) => self.ignored += n as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(self.socket.error("read from", error)),
            }
        }
        Ok(())
    }
}
