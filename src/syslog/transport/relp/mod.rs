//! RELP, the syslog transport that acknowledges every message.
//!
//! [`frame`] is the text on the wire, [`session`] what a client may say and when, and
//! [`RelpConnection`] the session on a socket. Positions are counted in messages: nothing
//! else is acknowledged. What an acknowledgement means is the server's matter: rsyslog says
//! 200 when the message is in its queue, in memory unless configured otherwise.

mod carrier;
pub mod frame;
pub mod session;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use self::carrier::Carrier;
use self::session::{Session, SessionError, Window};
use super::socket::{READS_PER_TURN, Socket};
use super::tls::{TlsProfile, TlsSession, TlsSocket};
use super::{DrainError, Frames, TcpSettings};
use crate::syslog::error::SendError;
use crate::syslog::target::Target;

/// How long the end of a session may take when everything is acknowledged: it proves nothing
/// more, but a server that is left without it complains.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// Octets that are gathered before they are handed to the kernel.
const GATHERED: usize = 64 << 10;

/// Limits of a RELP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RelpSettings {
    /// Those of the connection below. `connect_timeout` holds for the opening of the session
    /// once more; `stall_timeout` also for a server that reads but acknowledges nothing.
    pub tcp: TcpSettings,
    /// How much may wait for an acknowledgement.
    pub window: Window,
}

/// A session with a server. Dropping it resets the connection; what was not acknowledged is
/// to be sent again.
#[derive(Debug)]
pub struct RelpConnection {
    carrier: Carrier,
    session: Session,
    settings: RelpSettings,
    /// Frames that the kernel has not taken: from `taken` on.
    out: Vec<u8>,
    taken: usize,
    flushed: bool,
    /// What was proven at the last look, and since when it is the same while messages wait.
    proven: u64,
    waiting_since: Instant,
    noticed: bool,
    /// What [`Self::watch`] has told.
    told: u64,
}

impl RelpConnection {
    /// Resolves the name, tries all its addresses in turn, and opens a session on the first
    /// that takes a connection.
    ///
    /// # Errors
    /// Those of a TCP connection; [`SendError::Relp`] when the peer refuses or does not speak
    /// RELP, [`SendError::Unacknowledged`] when it does not answer in time.
    pub async fn connect(target: &Target, settings: &RelpSettings) -> Result<Self, SendError> {
        let socket = Socket::connect(target, &settings.tcp).await?;
        Self::open(Carrier::Plain(socket), settings).await
    }

    /// The same over TLS, with a handshake before the session, as rsyslog does it: there is no
    /// change from plain to encrypted.
    ///
    /// # Errors
    /// Those of [`Self::connect`], and [`SendError::Tls`]. Under TLS 1.3 the refusal of a
    /// client certificate comes with the opening of the session or later.
    pub async fn connect_tls(
        target: &Target,
        settings: &RelpSettings,
        profile: &TlsProfile,
    ) -> Result<Self, SendError> {
        let socket = TlsSocket::connect(target, &settings.tcp, profile).await?;
        Self::open(Carrier::Tls(socket), settings).await
    }

    /// What the handshake of TLS agreed upon, if there was one.
    pub fn tls(&self) -> Option<&TlsSession> {
        self.carrier.tls()
    }

    async fn open(carrier: Carrier, settings: &RelpSettings) -> Result<Self, SendError> {
        let mut out = Vec::new();
        let session = Session::open(settings.window, &mut out);
        let now = Instant::now();
        let mut connection = Self {
            carrier,
            session,
            settings: *settings,
            out,
            taken: 0,
            flushed: false,
            proven: 0,
            waiting_since: now,
            noticed: false,
            told: 0,
        };
        let waited = settings.tcp.connect_timeout;
        match timeout(waited, connection.opened()).await {
            Ok(opened) => opened?,
            Err(_) => return Err(connection.unacknowledged(waited)),
        }
        Ok(connection)
    }

    /// The address that took the connection.
    pub fn peer(&self) -> SocketAddr {
        self.carrier.peer()
    }

    /// How many messages were handed over.
    pub fn written(&self) -> u64 {
        self.session.written()
    }

    /// How many messages are acknowledged, counted from the first without a hole.
    pub fn proven(&self) -> u64 {
        self.session.proven()
    }

    /// Hands all messages to the kernel, each without framing of its own, and takes the
    /// server's answers meanwhile. Waits while the window is full.
    ///
    /// Not cancel safe: messages that had no room yet are not written when the future is
    /// dropped; [`Self::written`] tells how many were.
    ///
    /// # Errors
    /// Those of a TCP connection; [`SendError::MessageRefused`], [`SendError::Relp`],
    /// [`SendError::Unacknowledged`]. The connection is then of no use any more, but
    /// [`Self::proven`] holds.
    pub async fn write(&mut self, frames: &Frames) -> Result<(), SendError> {
        for message in frames.iter() {
            while !self.session.has_room(message.len()) {
                self.step().await?;
            }
            if self.session.written() == self.session.proven() {
                self.waiting_since = Instant::now();
            }
            self.session.send(message, &mut self.out);
            while self.out.len() - self.taken >= GATHERED {
                self.step().await?;
            }
        }
        while !self.flushed || !self.out.is_empty() {
            self.step().await?;
        }
        Ok(())
    }

    /// Watches the server while there is nothing to write. `Ok` when more is proven than at
    /// the last time. Cancel safe.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn watch(&mut self) -> Result<(), SendError> {
        while self.told == self.proven() {
            self.step().await?;
        }
        self.told = self.proven();
        Ok(())
    }

    /// Watches the server while there is nothing to write, and resolves when the connection
    /// ends, in whatever way. Cancel safe.
    pub async fn idle(&mut self) -> SendError {
        loop {
            if let Err(error) = self.watch().await {
                return error;
            }
        }
    }

    /// Waits until everything is acknowledged, and ends the session. `within` begins anew
    /// with every acknowledgement. May be cancelled, which resets the connection.
    ///
    /// # Errors
    /// [`DrainError::Broken`] with the reasons of [`Self::write`];
    /// [`SendError::Unacknowledged`] when `within` has passed.
    pub async fn drain(mut self, within: Duration) -> Result<(), DrainError> {
        let mut proven = self.proven();
        let mut deadline = Instant::now() + within;
        while self.proven() < self.written() {
            match timeout_at(deadline, self.step()).await {
                Ok(stepped) => stepped?,
                Err(_) => return Err(self.unacknowledged(within).into()),
            }
            if proven != self.proven() {
                proven = self.proven();
                deadline = Instant::now() + within;
            }
        }
        // The proof is complete. What the server does with the rest cannot take it away.
        let deadline = Instant::now() + CLOSE_WITHIN.min(within);
        let peer = self.peer();
        match timeout_at(deadline, Box::pin(self.close())).await {
            Ok(Err(error)) => tracing::debug!(%peer, %error, "the session has no good end"),
            Err(_) => tracing::debug!(%peer, "the server does not answer the end of the session"),
            Ok(Ok(())) => {}
        }
        Ok(())
    }

    /// Resets the connection at once. What is in flight is thrown away.
    pub fn abort(self) {
        drop(self);
    }

    async fn opened(&mut self) -> Result<(), SendError> {
        while !self.session.is_open() {
            self.step().await?;
        }
        Ok(())
    }

    /// Says `close`, waits for the answer, and ends the connection with the server.
    async fn close(mut self) -> Result<(), DrainError> {
        self.session.close(&mut self.out);
        self.flushed = false;
        while !self.session.is_closed() {
            self.step().await?;
        }
        self.carrier.end(CLOSE_WITHIN).await
    }

    /// Reads or writes something, or looks at the path. Cancel safe.
    async fn step(&mut self) -> Result<(), SendError> {
        self.carrier.look_if_due(self.taken < self.out.len())?;
        self.session.check().map_err(|error| self.session_error(error))?;
        self.look_at_answers()?;
        let next_look = self.carrier.next_look();
        match timeout_at(next_look, poll_fn(|cx| self.poll_step(cx))).await {
            Ok(stepped) => stepped,
            Err(_) => Ok(()),
        }
    }

    /// Ready when something was read or written.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let read = self.poll_answers(cx)?;
        let wrote = self.poll_out(cx)?;
        if read || wrote { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_answers(&mut self, cx: &mut Context<'_>) -> Result<bool, SendError> {
        let mut room = [0; 4096];
        let mut moved = false;
        for _ in 0..READS_PER_TURN {
            match self.carrier.poll_read(cx, &mut room) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => return Err(self.carrier.ended()),
                Poll::Ready(read) => {
                    let received = self.session.receive(&room[..read?]);
                    received.map_err(|error| self.session_error(error))?;
                    moved = true;
                }
            }
        }
        Ok(moved)
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Result<bool, SendError> {
        let mut moved = false;
        while self.taken < self.out.len() {
            let rest = &self.out[self.taken..];
            let Poll::Ready(taken) = self.carrier.poll_write(cx, rest) else { return Ok(moved) };
            self.taken += taken?;
            self.flushed = false;
            moved = true;
        }
        self.out.clear();
        self.taken = 0;
        if !self.flushed {
            let Poll::Ready(flushed) = self.carrier.poll_flush(cx) else { return Ok(moved) };
            flushed?;
            self.flushed = true;
            moved = true;
        }
        Ok(moved)
    }

    /// The kernel sees a peer that reads; whether it acknowledges is seen only here.
    fn look_at_answers(&mut self) -> Result<(), SendError> {
        let proven = self.proven();
        let now = Instant::now();
        if proven != self.proven || proven == self.written() {
            self.proven = proven;
            self.waiting_since = now;
        }
        let waited = now - self.waiting_since;
        if waited >= self.settings.tcp.stall_timeout {
            return Err(self.unacknowledged(waited));
        }
        let long = waited >= self.settings.tcp.dead_after;
        if long && !self.noticed {
            let messages = self.written() - proven;
            tracing::warn!(peer = %self.peer(), messages, ?waited, "the receiver acknowledges nothing; waiting");
        } else if self.noticed && !long {
            tracing::info!(peer = %self.peer(), "the receiver acknowledges again");
        }
        self.noticed = long;
        Ok(())
    }

    fn unacknowledged(&self, waited: Duration) -> SendError {
        let messages = self.written() - self.proven();
        SendError::Unacknowledged { peer: self.peer(), messages, waited }
    }

    fn session_error(&self, error: SessionError) -> SendError {
        let peer = self.peer();
        match error {
            SessionError::ServerClose => SendError::ClosedByPeer { peer },
            SessionError::MessageRefused { index, code, text } => {
                SendError::MessageRefused { peer, index, status: code, text }
            }
            source => SendError::Relp { peer, source },
        }
    }
}
