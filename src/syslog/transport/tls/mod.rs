//! Syslog over TLS (RFC 5425), by rustls.
//!
//! The receiver's certificate is always checked: against authorities and the name, or
//! against pinned fingerprints. The connection is always read, since a session ticket that
//! nobody has read turns a close into a reset, which throws away what is in flight.

mod certificate;
mod error;
mod fingerprint;
mod profile;
mod session;
mod stream;
mod verifier;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::timeout_at;

use super::socket::{Patience, READS_PER_TURN};
use super::{DrainError, StreamSample, TcpSettings};
use crate::syslog::error::SendError;
use crate::syslog::target::Target;

pub use certificate::Certificate;
pub use error::{Refusal, TlsError, TlsFileError};
pub use fingerprint::{Fingerprint, FingerprintError};
pub use profile::{ClientFiles, TlsProfile, TlsSettings, read_certificates, server_name};
pub use session::TlsSession;
pub(super) use stream::TlsSocket;

/// Asks a receiver for its certificate, believes nothing, and goes.
///
/// # Errors
/// Those of [`TlsConnection::connect`], but for a certificate that is refused.
pub async fn presented(target: &Target, limits: &TcpSettings) -> Result<Certificate, SendError> {
    // No certificate has this hash, and the refusal tells what was there.
    let fingerprints = vec![Fingerprint::Sha256([0; 32])];
    let profile = TlsProfile::new(TlsSettings { fingerprints, ..TlsSettings::default() });
    match TlsSocket::connect(target, limits, &profile).await {
        Ok(socket) => Err(TlsError::HandshakeClosed { peer: socket.peer() }.into()),
        Err(SendError::Tls(error)) => match *error {
            TlsError::Untrusted { refusal, .. } => Ok(*refusal.presented),
            error => Err(error.into()),
        },
        Err(error) => Err(error),
    }
}

/// An encrypted connection that messages are written to.
///
/// Dropping it resets it: what is in flight is thrown away, to be sent again. Only
/// [`Self::drain`] ends it in an orderly way.
#[derive(Debug)]
pub struct TlsConnection {
    socket: TlsSocket,
    ignored: u64,
}

impl TlsConnection {
    /// Resolves the name, tries all its addresses in turn, and does the handshake, for which
    /// there is `connect_timeout` once more. Files of the profile are read again if they
    /// have changed.
    ///
    /// That this works does not mean that the receiver takes our client certificate: under
    /// TLS 1.3 its refusal comes later, from [`Self::write`], [`Self::idle`] or
    /// [`Self::drain`].
    ///
    /// # Errors
    /// Those of [`super::TcpConnection::connect`], and [`SendError::Tls`].
    pub async fn connect(
        target: &Target,
        settings: &TcpSettings,
        profile: &TlsProfile,
    ) -> Result<Self, SendError> {
        Ok(Self { socket: TlsSocket::connect(target, settings, profile).await?, ignored: 0 })
    }

    /// The address that took the connection.
    pub fn peer(&self) -> SocketAddr {
        self.socket.peer()
    }

    /// What the handshake agreed upon, with all certificates.
    pub fn session(&self) -> &TlsSession {
        self.socket.session()
    }

    /// Bytes of ciphertext handed to the kernel since the connection was made, the handshake
    /// included: the unit in which the kernel counts what was acknowledged.
    pub fn written(&self) -> u64 {
        self.socket.written()
    }

    /// What the kernel knows of the connection now, in bytes of ciphertext.
    ///
    /// # Errors
    /// [`SendError::Io`].
    pub fn sample(&mut self) -> Result<StreamSample, SendError> {
        self.socket.sample()
    }

    /// Decrypted bytes that the peer sent. Syslog has no answers; they are thrown away.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// Encrypts all of `bytes` and hands them to the kernel, which proves nothing. Watches
    /// the peer meanwhile.
    ///
    /// Waits for as long as the peer's host answers, up to `stall_timeout`. Not cancel safe:
    /// if the future is dropped, part of a frame may be written, and the connection must not
    /// be written to again.
    ///
    /// # Errors
    /// [`SendError::Tls`], [`SendError::ClosedByPeer`], [`SendError::Reset`],
    /// [`SendError::DeadPath`], [`SendError::Lost`], [`SendError::Stalled`],
    /// [`SendError::Io`]. The connection is then of no use any more.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        let mut rest = bytes;
        let mut blocked = false;
        loop {
            self.socket.look_if_due(blocked)?;
            let next_look = self.socket.next_look();
            let all = poll_fn(|cx| self.poll_write_all(cx, &mut rest));
            match timeout_at(next_look, all).await {
                Ok(done) => return done,
                Err(_) => blocked = true,
            }
        }
    }

    /// Watches the peer while there is nothing to write, and resolves when the connection
    /// ends, in whatever way. Cancel safe.
    pub async fn idle(&mut self) -> SendError {
        loop {
            if let Err(error) = self.socket.look_if_due(false) {
                return error;
            }
            let next_look = self.socket.next_look();
            let ended = poll_fn(|cx| self.poll_ended(cx));
            if let Ok(error) = timeout_at(next_look, ended).await {
                return error;
            }
        }
    }

    /// Ends our side with a `close_notify` and the end of the stream, waits for the peer to
    /// end its own, and checks that it has everything.
    ///
    /// `Ok` proves what [`super::TcpConnection::drain`] does. The peer's end of the TCP
    /// stream is enough, with its `close_notify` or without, which receivers with GnuTLS do
    /// not send: somebody who can forge TCP segments on the way could fake it.
    ///
    /// # Errors
    /// [`DrainError::Unanswered`] when the peer has read everything, as far as can be seen, and
    /// says nothing for `within`; [`DrainError::Broken`] on every other end, also if the peer's
    /// end was there before ours.
    pub async fn drain(mut self, within: Duration) -> Result<(), DrainError> {
        let mut patience = Patience::new(within);
        loop {
            let ended = poll_fn(|cx| match self.poll_ended(cx) {
                Poll::Ready(error) => Poll::Ready(Err(error)),
                Poll::Pending => self.socket.poll_end(cx),
            });
            match timeout_at(patience.deadline(), ended).await {
                Ok(ended) => break ended?,
                Err(_) => self.socket.wait_on(&mut patience, within)?,
            }
        }
        self.socket.finish(patience, within).await
    }

    /// Resets the connection at once. What is in flight is thrown away.
    pub fn abort(self) {
        drop(self);
    }

    fn poll_write_all(
        &mut self,
        cx: &mut Context<'_>,
        rest: &mut &[u8],
    ) -> Poll<Result<(), SendError>> {
        if let Poll::Ready(error) = self.poll_ended(cx) {
            return Poll::Ready(Err(error));
        }
        while !rest.is_empty() {
            let taken = ready!(self.socket.poll_write(cx, rest))?;
            *rest = &rest[taken..];
        }
        self.socket.poll_flush(cx)
    }

    /// Reads what is there and throws it away, until the connection ends.
    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<SendError> {
        let mut buf = [0; 4096];
        for _ in 0..READS_PER_TURN {
            match ready!(self.socket.poll_read(cx, &mut buf)) {
                Ok(0) => return Poll::Ready(self.socket.ended()),
                Ok(read) => self.ignored += read as u64,
                Err(error) => return Poll::Ready(error),
            }
        }
        // There is more, but others have their turn first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
