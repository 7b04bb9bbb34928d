//! A plain TCP connection that is always read, watched, and ended with a proof or on purpose.
//!
//! A successful write proves nothing. What does: end our side, read up to the peer's end,
//! and find the out-queue empty and the socket without an error. Receivers read everything
//! before they end their side in turn.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::path_watch::{Fault, PathInfo, PathWatch, Sample};
use super::{kernel, none_left, resolve};
use crate::syslog::error::SendError;
use crate::syslog::target::Target;

/// How often the path is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Reads of one turn, so that a peer that talks without end cannot stop us from writing.
const READS_PER_TURN: usize = 16;

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
    stream: TcpStream,
    peer: SocketAddr,
    watch: PathWatch,
    next_look: Instant,
    /// When a stall is worth a line in the log, and whether it got one.
    stall_notice: Duration,
    stall_noticed: bool,
    written: u64,
    ignored: u64,
    reset_on_drop: bool,
}

impl TcpConnection {
    /// Resolves the name and tries all its addresses in turn.
    ///
    /// # Errors
    /// [`SendError::Resolve`], [`SendError::Refused`], [`SendError::ConnectTimeout`],
    /// [`SendError::Unreachable`], [`SendError::Io`]; with several addresses
    /// [`SendError::NoAddress`] holding one of these for each.
    pub async fn connect(target: &Target, settings: &TcpSettings) -> Result<Self, SendError> {
        let peers = resolve(target, settings.connect_timeout).await?;
        Self::connect_to_any(target, peers, settings).await
    }

    /// The address that took the connection.
    pub fn peer(&self) -> SocketAddr {
        self.peer
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
            self.look_if_due(blocked)?;
            self.read()?;
            match self.stream.try_write(rest) {
                Ok(n) => {
                    self.written += n as u64;
                    rest = &rest[n..];
                    blocked = false;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    blocked = true;
                    self.wait(Interest::READABLE | Interest::WRITABLE).await?;
                }
                Err(error) => return Err(self.io_error("write to", error)),
            }
        }
        Ok(())
    }

    /// Watches the peer while there is nothing to write, and resolves when the connection
    /// ends, in whatever way. Cancel safe.
    pub async fn idle(&mut self) -> SendError {
        loop {
            let looked = self.look_if_due(false).and_then(|()| self.read());
            if let Err(error) = looked {
                return error;
            }
            if let Err(error) = self.wait(Interest::READABLE).await {
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
    /// [`DrainError::Unanswered`] when `within` has passed, [`DrainError::Broken`] on every
    /// other end, also if the peer's end was there before ours.
    pub async fn drain(mut self, within: Duration) -> Result<(), DrainError> {
        let deadline = Instant::now() + within;
        self.read()?;
        if let Err(error) = SockRef::from(&self.stream).shutdown(Shutdown::Write) {
            // Already broken: the pending error tells how, this one only that.
            self.check_error()?;
            return Err(self.io_error("end the connection to", error).into());
        }
        match timeout_at(deadline, self.read_to_end()).await {
            Ok(ended) => ended?,
            Err(_) => return Err(self.unanswered()),
        }
        // The peer's end may be the late one of a process that died while the path was
        // broken; then part of what was written is still here.
        let mut pause = Duration::from_millis(1);
        loop {
            self.check_error()?;
            match self.out_queue()? {
                None | Some(0) => break,
                Some(_) if Instant::now() >= deadline => return Err(self.unanswered()),
                Some(_) => sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        self.reset_on_drop = false;
        Ok(())
    }

    /// Resets the connection at once. What is in flight is thrown away.
    pub fn abort(self) {
        drop(self);
    }

    async fn connect_to_any(
        target: &Target,
        peers: Vec<SocketAddr>,
        settings: &TcpSettings,
    ) -> Result<Self, SendError> {
        let mut attempts = Vec::new();
        for peer in peers {
            match connect_to(peer, settings).await {
                Ok(stream) => return Ok(Self::new(stream, peer, settings)),
                Err(error) => attempts.push(error),
            }
        }
        Err(none_left(target, attempts))
    }

    fn new(stream: TcpStream, peer: SocketAddr, settings: &TcpSettings) -> Self {
        Self {
            stream,
            peer,
            watch: PathWatch::new(settings.dead_after, settings.stall_timeout),
            next_look: Instant::now() + WATCH_EVERY,
            stall_notice: settings.dead_after,
            stall_noticed: false,
            written: 0,
            ignored: 0,
            reset_on_drop: true,
        }
    }

    /// Reads what is there and throws it away; the peer's end is an error.
    fn read(&mut self) -> Result<(), SendError> {
        match self.read_some()? {
            Read::Ended => Err(SendError::ClosedByPeer { peer: self.peer }),
            Read::Open => Ok(()),
        }
    }

    async fn read_to_end(&mut self) -> Result<(), SendError> {
        while let Read::Open = self.read_some()? {
            self.stream.readable().await.map_err(|e| self.io_error("wait for", e))?;
        }
        Ok(())
    }

    fn read_some(&mut self) -> Result<Read, SendError> {
        let mut buf = [0; 4096];
        for _ in 0..READS_PER_TURN {
            match self.stream.try_read(&mut buf) {
                Ok(0) => return Ok(Read::Ended),
                Ok(n) => self.ignored += n as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(self.io_error("read from", error)),
            }
        }
        Ok(Read::Open)
    }

    /// Waits for the socket, or for the next look at the path.
    async fn wait(&self, interest: Interest) -> Result<(), SendError> {
        match timeout_at(self.next_look, self.stream.ready(interest)).await {
            Ok(Err(error)) => Err(self.io_error("wait for", error)),
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }

    /// Looks at the path. `blocked` says that the kernel takes no more of what we write.
    fn look_if_due(&mut self, blocked: bool) -> Result<(), SendError> {
        let now = Instant::now();
        if now < self.next_look {
            return Ok(());
        }
        self.next_look = now + WATCH_EVERY;
        let path = kernel::path_info(&self.stream).map_err(|e| self.io_error("inspect", e))?;
        let queued = self.out_queue()?;
        let sample = Sample {
            path,
            waiting: queued.map_or(blocked, |bytes| bytes > 0),
            taken: self.written - queued.unwrap_or(0).min(self.written),
        };
        let fault = self.watch.judge(sample, now.into_std());
        self.notice_stall(path, now);
        let peer = self.peer;
        match fault {
            None => Ok(()),
            Some(Fault::Dead(silent)) => Err(SendError::DeadPath { peer, silent }),
            Some(Fault::Stalled(stalled)) => Err(SendError::Stalled { peer, stalled }),
        }
    }

    /// One line when a stall has become long, one when it is over.
    fn notice_stall(&mut self, path: Option<PathInfo>, now: Instant) {
        let stalled = self.watch.stalled(now.into_std());
        let long = stalled >= self.stall_notice;
        if long && !self.stall_noticed {
            let window = path.and_then(|path| path.send_window);
            tracing::warn!(peer = %self.peer, ?stalled, window, "the receiver reads nothing; waiting");
        } else if self.stall_noticed && !long {
            tracing::info!(peer = %self.peer, "the receiver reads again");
        }
        self.stall_noticed = long;
    }

    fn out_queue(&self) -> Result<Option<u64>, SendError> {
        kernel::out_queue(&self.stream).map_err(|e| self.io_error("inspect", e))
    }

    fn check_error(&self) -> Result<(), SendError> {
        match self.stream.take_error() {
            Ok(None) => Ok(()),
            Ok(Some(error)) | Err(error) => Err(self.io_error("end the connection to", error)),
        }
    }

    fn unanswered(&mut self) -> DrainError {
        let sent_queue_empty = matches!(self.out_queue(), Ok(Some(0)));
        self.reset_on_drop = !sent_queue_empty;
        DrainError::Unanswered { peer: self.peer, sent_queue_empty }
    }

    fn io_error(&self, action: &'static str, error: io::Error) -> SendError {
        SendError::from_io(action, self.peer, error)
    }
}

impl Drop for TcpConnection {
    fn drop(&mut self) {
        if self.reset_on_drop {
            // Nothing better can be done if this fails: the kernel then goes on sending
            // for a while, and the receiver gets some of it twice.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

enum Read {
    /// The peer may send more.
    Open,
    /// The peer ended its side.
    Ended,
}

async fn connect_to(peer: SocketAddr, settings: &TcpSettings) -> Result<TcpStream, SendError> {
    let after = settings.connect_timeout;
    let stream = match timeout(after, TcpStream::connect(peer)).await {
        Ok(connected) => connected,
        Err(_) => return Err(SendError::ConnectTimeout { peer, after }),
    }
    .map_err(|error| match SendError::from_io("connect to", peer, error) {
        SendError::Lost { peer } => SendError::ConnectTimeout { peer, after },
        error => error,
    })?;
    if is_own_socket(&stream) {
        return Err(SendError::Refused { peer });
    }
    set_options(&stream, settings).map_err(|e| SendError::from_io("set up", peer, e))?;
    Ok(stream)
}

/// Whether the connection leads to itself. TCP allows that when nobody listens and the system
/// happens to choose the target's port as ours; we would read our own messages and take
/// them for delivered.
fn is_own_socket(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(ours), Ok(theirs)) if ours == theirs)
}

fn set_options(stream: &TcpStream, settings: &TcpSettings) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    // With a user timeout set, Linux no longer counts keepalive probes to give up an idle
    // connection; they still carry the sign of life that the path watch looks for.
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(5))
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    // A net below our own rules, which tell more: it must not close before they speak.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(settings.stall_timeout + settings.dead_after))?;
    #[cfg(not(target_os = "linux"))]
    let _ = settings;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    /// A port that refuses, as long as the socket exists.
    fn refusing() -> (TcpSocket, SocketAddr) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    #[tokio::test]
    async fn all_addresses_are_tried_in_turn() {
        let target = "tcp://siem".parse().unwrap();
        let settings = TcpSettings::default();
        let (_first, refuses) = refusing();
        let (_second, refuses_too) = refusing();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listens = listener.local_addr().unwrap();

        let peers = vec![refuses, listens, refuses_too];
        let connection = TcpConnection::connect_to_any(&target, peers, &settings).await.unwrap();
        assert_eq!(connection.peer(), listens);

        let peers = vec![refuses, refuses_too];
        let error = TcpConnection::connect_to_any(&target, peers, &settings).await.unwrap_err();
        assert_eq!(error.code(), "syslog.refused");
        let text = error.to_string();
        for part in ["tcp://siem:1468", &refuses.to_string(), &refuses_too.to_string()] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[tokio::test]
    async fn a_connection_to_itself_is_noticed() {
        let (socket, address) = refusing();
        let stream = socket.connect(address).await.unwrap();
        assert!(is_own_socket(&stream));

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(!is_own_socket(&stream));
    }
}
