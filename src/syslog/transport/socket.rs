//! A connected TCP socket below a stream transport: its options, its path, its end.
//!
//! It counts what the kernel took, so that offsets are those of the bytes on the wire, and
//! resets the connection when it is dropped before its end was proven.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::path_watch::{Fault, PathInfo, PathWatch, Sample};
use super::{DrainError, StreamSample, TcpSettings, kernel, none_left, resolve};
use crate::syslog::error::SendError;
use crate::syslog::target::Target;

/// How often the path is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Reads of one turn, so that a peer that talks without end cannot stop us from writing.
pub(super) const READS_PER_TURN: usize = 16;

/// A connected socket. Dropping it resets the connection, unless [`Self::finish`] found its
/// end good or [`Self::unanswered`] found everything sent.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    peer: SocketAddr,
    watch: PathWatch,
    next_look: Instant,
    /// When a stall is worth a line in the log, and whether it got one.
    stall_notice: Duration,
    stall_noticed: bool,
    written: u64,
    /// The largest window that the peer has offered.
    largest_window: u32,
    reset_on_drop: bool,
}

/// How long the end of a connection is waited for: as long as the peer makes progress.
#[derive(Debug)]
pub(super) struct Patience {
    within: Duration,
    deadline: Instant,
    seen: Option<StreamSample>,
}

impl Patience {
    pub(super) fn new(within: Duration) -> Self {
        Self { within, deadline: Instant::now() + within, seen: None }
    }

    /// Until when nothing has to be decided.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }
}

/// Unread bytes in the peer's buffer from which on it counts as stuck: small differences between
/// windows come from how kernels account for packets.
const UNREAD: u32 = 64 << 10;

impl Socket {
    /// Resolves the name and tries all its addresses in turn.
    ///
    /// # Errors
    /// [`SendError::Resolve`], [`SendError::Refused`], [`SendError::ConnectTimeout`],
    /// [`SendError::Unreachable`], [`SendError::Io`]; with several addresses
    /// [`SendError::NoAddress`] holding one of these for each.
    pub(super) async fn connect(
        target: &Target,
        settings: &TcpSettings,
    ) -> Result<Self, SendError> {
        let peers = resolve(target, settings.connect_timeout).await?;
        Self::connect_to_any(target, peers, settings).await
    }

    /// The address that took the connection.
    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Bytes that the kernel took since the connection was made.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// When the path is to be looked at next.
    pub(super) fn next_look(&self) -> Instant {
        self.next_look
    }

    /// Leaves what is under way to the kernel when dropped, for a connection on which nothing
    /// of ours can be lost.
    pub(super) fn keep_on_drop(&mut self) {
        self.reset_on_drop = false;
    }

    /// What the kernel knows now.
    pub(super) fn sample(&mut self) -> Result<StreamSample, SendError> {
        let path = self.path()?;
        let (written, queued) = (self.written, self.out_queue()?);
        Ok(StreamSample { written, queued, window: path.and_then(|path| path.send_window) })
    }

    /// At the deadline of `patience`: whether the peer has taken or read anything since it was
    /// last asked, so that it is worth waiting on. A receiver that is slow is none that never
    /// answers.
    pub(super) fn still_reads(&mut self, patience: &mut Patience) -> Result<bool, SendError> {
        let sample = self.sample()?;
        let moved = patience
            .seen
            .is_none_or(|seen| seen.taken() != sample.taken() || sample.window > seen.window);
        let unread = self.unread(&sample) > 0 || sample.queued.is_some_and(|queued| queued > 1);
        patience.seen = Some(sample);
        patience.deadline = Instant::now() + patience.within;
        Ok(moved && unread)
    }

    /// About how much lies unread in the peer's buffer.
    fn unread(&self, sample: &StreamSample) -> u32 {
        let unread = self.largest_window - sample.window.unwrap_or(self.largest_window);
        if unread >= UNREAD { unread } else { 0 }
    }

    fn path(&mut self) -> Result<Option<PathInfo>, SendError> {
        let path = kernel::path_info(&self.stream).map_err(|e| self.error("inspect", e))?;
        let window = path.and_then(|path| path.send_window).unwrap_or(0);
        self.largest_window = self.largest_window.max(window);
        Ok(path)
    }

    /// Hands some of `bytes` to the kernel, as far as it takes them now.
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.stream.try_write(bytes)?;
        self.written += taken as u64;
        Ok(taken)
    }

    /// Reads what is there, at most `buf`; 0 is the peer's end.
    pub(super) fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.try_read(buf)
    }

    /// Waits for the socket, or for the next look at the path. Cancel safe.
    pub(super) async fn wait(&self, interest: Interest) -> Result<(), SendError> {
        match timeout_at(self.next_look, self.stream.ready(interest)).await {
            Ok(Err(error)) => Err(self.error("wait for", error)),
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }

    /// Looks at the path once a second. `blocked` says that the kernel takes no more of what
    /// we write.
    pub(super) fn look_if_due(&mut self, blocked: bool) -> Result<(), SendError> {
        let now = Instant::now();
        if now < self.next_look {
            return Ok(());
        }
        self.next_look = now + WATCH_EVERY;
        let path = self.path()?;
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

    /// Ends our side.
    pub(super) fn end_ours(&self) -> Result<(), SendError> {
        if let Err(error) = SockRef::from(&self.stream).shutdown(Shutdown::Write) {
            // Already broken: the pending error tells how, this one only that.
            self.check_error()?;
            return Err(self.error("end the connection to", error));
        }
        Ok(())
    }

    /// Reads to the peer's end and throws away what comes before it.
    pub(super) async fn read_to_end(&mut self) -> Result<(), SendError> {
        loop {
            // Not across an await, where it would be a part of every future around this one.
            let read = self.stream.try_read(&mut [0; 4096]);
            match read {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stream.readable().await.map_err(|e| self.error("wait for", e))?;
                }
                Err(error) => return Err(self.error("read from", error)),
            }
        }
    }

    /// After the end of both sides: checks that the peer has everything. Only then is the
    /// end a proof, and the connection is no longer reset when dropped.
    pub(super) async fn finish(&mut self, within: Duration) -> Result<(), DrainError> {
        let deadline = Instant::now() + within;
        // The peer's end may be the late one of a process that died while the path was
        // broken; then part of what was written is still here.
        let mut pause = Duration::from_millis(1);
        loop {
            self.check_error()?;
            match self.out_queue()? {
                None | Some(0) => break,
                Some(_) if Instant::now() >= deadline => return Err(self.unanswered(within)),
                Some(_) => sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        self.reset_on_drop = false;
        Ok(())
    }

    /// The error of a drain without an answer. Where the peer's kernel has everything the
    /// connection is closed and not reset, so that it can still be read. A peer that does not
    /// read says nothing about whether it would answer: that is a stall.
    pub(super) fn unanswered(&mut self, within: Duration) -> DrainError {
        let sent_queue_empty = matches!(self.out_queue(), Ok(Some(0)));
        if let Ok(sample) = self.sample()
            && self.unread(&sample) > 0
        {
            let (peer, stalled) = (self.peer, within);
            return DrainError::Broken(SendError::Stalled { peer, stalled });
        }
        self.reset_on_drop = !sent_queue_empty;
        DrainError::Unanswered { peer: self.peer, sent_queue_empty }
    }

    /// Names an error of this socket.
    pub(super) fn error(&self, action: &'static str, error: io::Error) -> SendError {
        SendError::from_io(action, self.peer, error)
    }

    /// Tries `peers` in turn.
    pub(super) async fn connect_to_any(
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
            largest_window: 0,
            reset_on_drop: true,
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
        kernel::out_queue(&self.stream).map_err(|e| self.error("inspect", e))
    }

    fn check_error(&self) -> Result<(), SendError> {
        match self.stream.take_error() {
            Ok(None) => Ok(()),
            Ok(Some(error)) | Err(error) => Err(self.error("end the connection to", error)),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.reset_on_drop {
            // Nothing better can be done if this fails: the kernel then goes on sending
            // for a while, and the receiver gets some of it twice.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.written += taken as u64;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
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
        let connection = Socket::connect_to_any(&target, peers, &settings).await.unwrap();
        assert_eq!(connection.peer(), listens);

        let peers = vec![refuses, refuses_too];
        let error = Socket::connect_to_any(&target, peers, &settings).await.unwrap_err();
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
