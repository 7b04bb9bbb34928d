//! A socket with TLS on it, for every transport that can be encrypted.
//!
//! All of it is in polls, so that a transport can read and write in one task and stop waiting
//! at any moment without losing a byte.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::TlsError;
use super::profile::{Client, TlsProfile};
use super::session::TlsSession;
use crate::syslog::error::SendError;
use crate::syslog::target::Target;
use crate::syslog::transport::socket::{Patience, Socket};
use crate::syslog::transport::{DrainError, StreamSample, TcpSettings};

/// A connection that ends so soon after the receiver asked for our certificate probably ends
/// because of it: under TLS 1.3 many receivers say nothing more than a reset.
const SOON: Duration = Duration::from_secs(5);

/// A connected socket on which the handshake is done. Dropping it resets the connection.
#[derive(Debug)]
pub(in crate::syslog::transport) struct TlsSocket {
    // Its state is large, and would be part of every future that holds a connection.
    stream: Box<TlsStream<Socket>>,
    peer: SocketAddr,
    client: Arc<Client>,
    session: TlsSession,
    since: Instant,
}

impl TlsSocket {
    /// Connects to any address of the target, and has `connect_timeout` once more for the
    /// handshake. Warns, at most once a day, of certificates that end soon.
    ///
    /// # Errors
    /// Those of a TCP connection, and [`SendError::Tls`].
    pub(in crate::syslog::transport) async fn connect(
        target: &Target,
        settings: &TcpSettings,
        profile: &TlsProfile,
    ) -> Result<Self, SendError> {
        let loaded = profile.current().map_err(TlsError::from)?;
        let name = profile.server_name(&target.host)?;
        let socket = Socket::connect(target, settings).await?;
        let (peer, client, after) = (socket.peer(), loaded.client, settings.connect_timeout);
        let handshake =
            Box::pin(TlsConnector::from(loaded.config).connect(name, socket).into_fallible());
        let stream = match timeout(after, handshake).await {
            Err(_) => return Err(TlsError::HandshakeTimeout { peer, after }.into()),
            Ok(Err((error, mut socket))) => {
                // Nothing is lost with this connection, and an alert may be under way on it.
                socket.keep_on_drop();
                return Err(match error.kind() {
                    io::ErrorKind::UnexpectedEof => TlsError::HandshakeClosed { peer }.into(),
                    _ => name_error("speak TLS with", error, peer, &client),
                });
            }
            Ok(Ok(stream)) => Box::new(stream),
        };
        let session = TlsSession::new(stream.get_ref().1, client.certificate(), client.was_asked());
        let warnings = session.expiry_warnings(Timestamp::now());
        if !warnings.is_empty() && profile.is_warning_due() {
            for warning in warnings {
                tracing::warn!(%target, code = "syslog.tls_expiry", "{warning}");
            }
        }
        Ok(Self { stream, peer, client, session, since: Instant::now() })
    }

    pub(in crate::syslog::transport) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// What the handshake agreed upon.
    pub(in crate::syslog::transport) fn session(&self) -> &TlsSession {
        &self.session
    }

    /// Bytes of ciphertext, handshake included, that the kernel took.
    pub(in crate::syslog::transport) fn written(&self) -> u64 {
        self.stream.get_ref().0.written()
    }

    /// When [`Self::look_if_due`] is to be called next.
    pub(in crate::syslog::transport) fn next_look(&self) -> Instant {
        self.stream.get_ref().0.next_look()
    }

    /// Looks at the path, see [`Socket::look_if_due`].
    pub(in crate::syslog::transport) fn look_if_due(
        &mut self,
        blocked: bool,
    ) -> Result<(), SendError> {
        self.stream.get_mut().0.look_if_due(blocked)
    }

    /// Reads decrypted bytes into `buf`; 0 is the peer's end, in order or not.
    pub(in crate::syslog::transport) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<Result<usize, SendError>> {
        let mut buf = ReadBuf::new(buf);
        let read = match Pin::new(&mut *self.stream).poll_read(cx, &mut buf) {
            Poll::Pending if self.stream.get_ref().1.wants_write() => {
                // An answer of the protocol itself, such as to a change of keys.
                if let Poll::Ready(Err(error)) = Pin::new(&mut *self.stream).poll_flush(cx) {
                    return Poll::Ready(Err(self.error("write to", error)));
                }
                return Poll::Pending;
            }
            read => ready!(read),
        };
        Poll::Ready(match read {
            Ok(()) => Ok(buf.filled().len()),
            // GnuTLS receivers end without a close_notify.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            Err(error) => Err(self.error("read from", error)),
        })
    }

    /// Encrypts some of `bytes`. They are with the kernel only after [`Self::poll_flush`].
    pub(in crate::syslog::transport) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, SendError>> {
        let taken = ready!(Pin::new(&mut *self.stream).poll_write(cx, bytes));
        Poll::Ready(taken.map_err(|error| self.write_error(cx, error)))
    }

    /// Hands everything encrypted to the kernel.
    pub(in crate::syslog::transport) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        let done = ready!(Pin::new(&mut *self.stream).poll_flush(cx));
        Poll::Ready(done.map_err(|error| self.write_error(cx, error)))
    }

    /// Ends our side: `close_notify`, everything to the kernel, and the end of the stream.
    pub(in crate::syslog::transport) fn poll_end(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        let done = ready!(Pin::new(&mut *self.stream).poll_shutdown(cx));
        Poll::Ready(done.map_err(|error| self.write_error(cx, error)))
    }

    /// After [`Self::poll_end`]: reads to the peer's end and checks that it has everything.
    ///
    /// The end of the TCP stream is what counts. A `close_notify` alone may come from a
    /// receiver that is about to close without having read; the end of TCP without one is
    /// all that receivers with GnuTLS send.
    ///
    /// # Errors
    /// As [`super::TlsConnection::drain`].
    pub(in crate::syslog::transport) async fn finish(
        mut self,
        mut patience: Patience,
        within: Duration,
    ) -> Result<(), DrainError> {
        loop {
            match timeout_at(patience.deadline(), self.read_to_end()).await {
                Ok(ended) => break ended?,
                Err(_) => self.wait_on(&mut patience, within)?,
            }
        }
        self.stream.get_mut().0.finish(within).await
    }

    /// At the deadline of `patience`: goes on where the peer still reads.
    ///
    /// # Errors
    /// That of a drain without an answer, see [`Socket::unanswered`].
    pub(in crate::syslog::transport) fn wait_on(
        &mut self,
        patience: &mut Patience,
        within: Duration,
    ) -> Result<(), DrainError> {
        let socket = self.stream.get_mut().0;
        if socket.still_reads(patience)? { Ok(()) } else { Err(socket.unanswered(within)) }
    }

    /// What the kernel knows now, in bytes of ciphertext.
    pub(in crate::syslog::transport) fn sample(&mut self) -> Result<StreamSample, SendError> {
        self.stream.get_mut().0.sample()
    }

    /// What the peer's end is called while the connection is in use.
    pub(in crate::syslog::transport) fn ended(&self) -> SendError {
        self.or_refused(SendError::ClosedByPeer { peer: self.peer })
    }

    /// Reads to the peer's end of TLS, and on to that of TCP. Cancel safe.
    async fn read_to_end(&mut self) -> Result<(), SendError> {
        while poll_fn(|cx| self.poll_read(cx, &mut [0; 4096])).await? > 0 {}
        self.stream.get_mut().0.read_to_end().await
    }

    /// A broken connection is known to writers first; an alert that explains it may still be
    /// there to read.
    fn write_error(&mut self, cx: &mut Context<'_>, error: io::Error) -> SendError {
        let mut buf = [0; 4096];
        loop {
            match self.poll_read(cx, &mut buf) {
                Poll::Ready(Err(explained @ SendError::Tls(_))) => return explained,
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) | Poll::Pending => return self.error("write to", error),
            }
        }
    }

    fn error(&self, action: &'static str, error: io::Error) -> SendError {
        self.or_refused(name_error(action, error, self.peer, &self.client))
    }

    fn or_refused(&self, error: SendError) -> SendError {
        let unexplained = matches!(error, SendError::Reset { .. } | SendError::ClosedByPeer { .. });
        if unexplained && self.client.was_asked() && self.since.elapsed() < SOON {
            let ours = self.client.certificate().map(Box::new);
            return TlsError::ClientRefused { peer: self.peer, alert: None, ours }.into();
        }
        error
    }
}

fn name_error(
    action: &'static str,
    error: io::Error,
    peer: SocketAddr,
    client: &Client,
) -> SendError {
    match error.downcast::<rustls::Error>() {
        Ok(error) => {
            let ours = client.certificate();
            TlsError::from_rustls(peer, error, client.was_asked(), ours.as_ref()).into()
        }
        Err(error) => SendError::from_io(action, peer, error),
    }
}
