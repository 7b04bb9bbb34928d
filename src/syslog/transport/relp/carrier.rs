//! What a RELP session runs on: a TCP connection, plain or encrypted.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::syslog::error::SendError;
use crate::syslog::transport::DrainError;
use crate::syslog::transport::socket::{Patience, Socket};
use crate::syslog::transport::tls::{TlsSession, TlsSocket};

/// A connection, read and written in polls. Dropping it resets it.
#[derive(Debug)]
pub(super) enum Carrier {
    Plain(Socket),
    Tls(TlsSocket),
}

impl Carrier {
    pub(super) fn peer(&self) -> SocketAddr {
        match self {
            Self::Plain(socket) => socket.peer(),
            Self::Tls(socket) => socket.peer(),
        }
    }

    /// When the path is to be looked at next.
    pub(super) fn next_look(&self) -> Instant {
        match self {
            Self::Plain(socket) => socket.next_look(),
            Self::Tls(socket) => socket.next_look(),
        }
    }

    /// Looks at the path once a second.
    pub(super) fn look_if_due(&mut self, blocked: bool) -> Result<(), SendError> {
        match self {
            Self::Plain(socket) => socket.look_if_due(blocked),
            Self::Tls(socket) => socket.look_if_due(blocked),
        }
    }

    /// Reads into `buf`; 0 is the peer's end.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<Result<usize, SendError>> {
        match self {
            Self::Plain(socket) => {
                let mut buf = ReadBuf::new(buf);
                let read = Pin::new(&mut *socket).poll_read(cx, &mut buf);
                read.map_ok(|()| buf.filled().len()).map_err(|e| socket.error("read from", e))
            }
            Self::Tls(socket) => socket.poll_read(cx, buf),
        }
    }

    /// Takes some of `bytes`. They are with the kernel only after [`Self::poll_flush`].
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, SendError>> {
        match self {
            Self::Plain(socket) => {
                let wrote = Pin::new(&mut *socket).poll_write(cx, bytes);
                wrote.map_err(|error| socket.error("write to", error))
            }
            Self::Tls(socket) => socket.poll_write(cx, bytes),
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        match self {
            // The kernel has what `poll_write` took.
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(socket) => socket.poll_flush(cx),
        }
    }

    /// What the peer's end is called while the connection is in use.
    pub(super) fn ended(&self) -> SendError {
        match self {
            Self::Plain(socket) => SendError::ClosedByPeer { peer: socket.peer() },
            Self::Tls(socket) => socket.ended(),
        }
    }

    /// Ends our side and waits for the peer to end its own.
    pub(super) async fn end(self, within: Duration) -> Result<(), DrainError> {
        match self {
            Self::Plain(mut socket) => {
                socket.end_ours()?;
                socket.read_to_end().await?;
                socket.finish(within).await
            }
            Self::Tls(mut socket) => {
                std::future::poll_fn(|cx| socket.poll_end(cx)).await?;
                socket.finish(Patience::new(within), within).await
            }
        }
    }

    /// What the handshake agreed upon, if there was one.
    pub(super) fn tls(&self) -> Option<&TlsSession> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(socket) => Some(socket.session()),
        }
    }
}
