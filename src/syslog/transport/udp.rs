//! A connected UDP socket: one message per datagram (RFC 5426), evenly paced, many with one
//! call of the system where it can.
//!
//! Nothing proves that a datagram arrived. What can be noticed is that nobody listens or that
//! no way leads there: the network's answer comes *later*, to a connected socket, and the call
//! that reports it sends nothing. The caller therefore keeps what it sent for the settle time
//! and goes back to it after any error. On Linux the kernel keeps these answers in the socket's
//! error queue, so that none is missed between the datagrams of one call.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, timeout};

use super::tcp::DrainError;
use super::token_bucket::TokenBucket;
use super::{Frames, kernel, none_left, resolve};
use crate::syslog::error::SendError;
use crate::syslog::target::Target;

/// For resolving the name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Datagrams and answers read in one turn, so that a peer that talks without end cannot stop us.
const READS_PER_TURN: usize = 16;
/// How long the first datagram of a socket goes alone: where it is refused, no other was sent
/// in vain.
const PROBE: Duration = Duration::from_millis(50);

/// What the network answered to a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounce {
    /// The cause as an error number of the system.
    pub(super) errno: i32,
    /// Largest packet that the path takes, where that was the cause.
    pub(super) mtu: Option<u32>,
    /// Whether this system itself said it, of a datagram that it never took.
    pub(super) local: bool,
}

/// The pace of a UDP destination. A receiver's default buffer holds about a hundred messages
/// of 1 kB, and nothing tells the sender when it overflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpSettings {
    /// Messages per second; 0 means no limit.
    pub max_rate: u32,
    /// Messages at once after a pause.
    pub burst: u32,
}

impl Default for UdpSettings {
    /// 2000 per second, 50 at once.
    fn default() -> Self {
        Self { max_rate: 2000, burst: 50 }
    }
}

/// A socket that messages are sent from. It stays usable after [`SendError::Refused`].
#[derive(Debug)]
pub struct UdpConnection {
    socket: UdpSocket,
    peers: Vec<SocketAddr>,
    /// Index into `peers` of the address in use.
    current: usize,
    bucket: TokenBucket,
    /// Datagrams of one call.
    batch: usize,
    /// Largest datagram that passes through the system together with others; 0 for none.
    segment: usize,
    /// Whether the next datagram is the first one to this address.
    probing: bool,
    written: u64,
}

impl UdpConnection {
    /// Resolves the name and takes the first address that this machine has a route to.
    /// Nothing is sent.
    ///
    /// # Errors
    /// [`SendError::Resolve`], [`SendError::Unreachable`], [`SendError::Io`]; with several
    /// addresses [`SendError::NoAddress`].
    pub async fn connect(target: &Target, settings: &UdpSettings) -> Result<Self, SendError> {
        let peers = resolve(target, RESOLVE_TIMEOUT).await?;
        Self::connect_to_any(target, peers, settings).await
    }

    /// The address in use.
    pub fn peer(&self) -> SocketAddr {
        self.peers[self.current]
    }

    /// Datagrams that the system took since [`Self::connect`].
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Sends all frames, as [`Self::send`] does.
    ///
    /// # Errors
    /// Those of [`Self::send`].
    pub async fn write(&mut self, frames: &Frames) -> Result<(), SendError> {
        self.send(frames.iter()).await.map(|_| ())
    }

    /// Sends each frame as one datagram, at the pace that was set. Returns how many were
    /// sent: all. May be cancelled; [`Self::written`] then tells how many were sent.
    ///
    /// The first datagram to an address goes alone, and the next ones follow when it was not
    /// refused for a moment.
    ///
    /// # Errors
    /// [`SendError::Refused`]: an earlier datagram found nobody listening, perhaps one of an
    /// earlier call. Go back to the oldest message that has not settled. If the name has more
    /// addresses, the next one is in use from now on.
    /// [`SendError::PathMtu`]: an earlier datagram was too large for the path. Go back, too.
    /// [`SendError::TooLarge`]: the frame after the `sent` first ones cannot be sent at all.
    /// [`SendError::Unreachable`], [`SendError::Io`]: connect anew.
    pub async fn send<'a, I>(&mut self, frames: I) -> Result<usize, SendError>
    where
        I: IntoIterator<Item = &'a [u8]>,
    {
        let mut frames = frames.into_iter();
        let mut waiting: Vec<&[u8]> = Vec::with_capacity(self.batch);
        let mut sent = 0;
        loop {
            let most = if self.probing { 1 } else { self.batch };
            waiting.extend(frames.by_ref().take(most - waiting.len()));
            if waiting.is_empty() {
                break;
            }
            let granted = loop {
                match self.bucket.take_up_to(waiting.len(), Instant::now().into_std()) {
                    Ok(granted) => break granted,
                    Err(wait) => sleep(wait).await,
                }
            };
            let taken = self.send_some(&waiting[..granted], sent).await?;
            self.bucket.give_back(granted - taken);
            waiting.drain(..taken);
            sent += taken;
            self.written += taken as u64;
            if self.probing {
                if let Ok(error) = timeout(PROBE, self.idle()).await {
                    return Err(error);
                }
                self.probing = false;
            }
            self.check().await?;
        }
        Ok(sent)
    }

    /// Resolves when the network's answer to an earlier datagram, or another error, shows up
    /// while there is nothing to send. What the peer sends is thrown away. Cancel safe.
    pub async fn idle(&mut self) -> SendError {
        loop {
            if let Err(error) = self.check().await {
                return error;
            }
            let interest = Interest::READABLE | Interest::ERROR;
            if let Err(error) = self.socket.ready(interest).await {
                return SendError::from_io("wait for", self.peer(), error);
            }
        }
    }

    /// Looks for an answer a last time. A datagram has no end that could prove anything, so
    /// this takes no time.
    ///
    /// # Errors
    /// [`DrainError::Broken`] with what [`Self::idle`] would have told.
    pub async fn drain(mut self, _within: Duration) -> Result<(), DrainError> {
        self.check().await.map_err(DrainError::Broken)
    }

    async fn connect_to_any(
        target: &Target,
        peers: Vec<SocketAddr>,
        settings: &UdpSettings,
    ) -> Result<Self, SendError> {
        let now = Instant::now().into_std();
        let bucket = TokenBucket::new(settings.max_rate, settings.burst, now);
        let mut attempts = Vec::new();
        for (current, &peer) in peers.iter().enumerate() {
            match open(peer).await {
                Ok(socket) => {
                    let (batch, segment) = batch(&socket, peer);
                    return Ok(Self {
                        socket,
                        peers,
                        current,
                        bucket,
                        batch,
                        segment,
                        probing: true,
                        written: 0,
                    });
                }
                Err(error) => attempts.push(error),
            }
        }
        Err(none_left(target, attempts))
    }

    /// Sends at least the first of these, and waits where the system has no room for it.
    async fn send_some(&mut self, frames: &[&[u8]], sent: usize) -> Result<usize, SendError> {
        let mut pause = Duration::from_millis(1);
        let mut too_large = false;
        loop {
            let taken = self
                .socket
                .async_io(Interest::WRITABLE, || {
                    kernel::send_many(&self.socket, frames, self.segment)
                })
                .await;
            match taken {
                Ok(taken) => return Ok(taken),
                // The path cannot do it, or takes less than it did: one by one from now on.
                Err(error) if self.segment > 0 && is_about_segments(&error) => self.segment = 0,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                    // Either this one, or the answer to one that is already lost on its way.
                    self.check().await?;
                    if too_large {
                        let size = frames[0].len();
                        return Err(SendError::TooLarge { peer: self.peer(), size, sent });
                    }
                    too_large = true;
                }
                Err(error) => return Err(self.failed("send to", error).await),
            }
        }
    }

    /// Reads and throws away what came, and reports a pending error.
    async fn check(&mut self) -> Result<(), SendError> {
        let mut buf = [0; 1];
        let mut bounce = None;
        let received: io::Result<()> = (|| {
            for _ in 0..READS_PER_TURN {
                let Some(next) = kernel::next_bounce(&self.socket)? else { break };
                bounce = bounce.or(Some(next).filter(|next| !next.local));
            }
            for _ in 0..READS_PER_TURN {
                match self.socket.try_recv(&mut buf) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
            // Taking the error this way also makes the next wait wait for a new one.
            self.socket.try_io(Interest::ERROR, || match self.socket.take_error()? {
                Some(error) => Err(error),
                None => Err(io::ErrorKind::WouldBlock.into()),
            })
        })();
        let error = match (bounce, received) {
            (Some(Bounce { mtu: Some(mtu), .. }), _) => {
                return Err(SendError::PathMtu { peer: self.peer(), mtu });
            }
            (Some(bounce), _) => io::Error::from_raw_os_error(bounce.errno),
            (None, Ok(())) => return Ok(()),
            (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            (None, Err(error)) => error,
        };
        Err(self.failed("send to", error).await)
    }

    /// Names the error, and turns to the next address if this one refuses.
    async fn failed(&mut self, action: &'static str, error: io::Error) -> SendError {
        let error = SendError::from_io(action, self.peer(), error);
        self.probing = true;
        if matches!(error, SendError::Refused { .. }) && self.peers.len() > 1 {
            for step in 1..self.peers.len() {
                let next = (self.current + step) % self.peers.len();
                if let Ok(socket) = open(self.peers[next]).await {
                    (self.batch, self.segment) = batch(&socket, self.peers[next]);
                    self.socket = socket;
                    self.current = next;
                    break;
                }
            }
        }
        error
    }
}

/// A socket on any free port, connected to `peer`.
async fn open(peer: SocketAddr) -> Result<UdpSocket, SendError> {
    let failed = |error| SendError::from_io("open a socket to", peer, error);
    let first = bind_and_connect(peer).await.map_err(failed)?;
    if first.local_addr().map_err(failed)? != peer {
        return Ok(first);
    }
    // Nobody listens, and the system chose the very port we send to: the socket would
    // receive its own messages. While it exists, another one gets another port.
    bind_and_connect(peer).await.map_err(failed)
}

/// How many datagrams one call may take, one where the socket cannot keep the answers that come
/// in the middle of it; and how large they may be to go together.
fn batch(socket: &UdpSocket, peer: SocketAddr) -> (usize, usize) {
    if kernel::keep_errors(socket, peer.is_ipv6()) {
        (kernel::BATCH, kernel::largest_segment(socket, peer.is_ipv6()))
    } else {
        (1, 0)
    }
}

/// Whether an error may come of sending datagrams together. A refusal does not.
fn is_about_segments(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EMSGSIZE | libc::EIO | libc::EOPNOTSUPP)
    )
}

async fn bind_and_connect(peer: SocketAddr) -> io::Result<UdpSocket> {
    let local: SocketAddr = match peer {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(peer).await?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refusal_leads_to_the_next_address() {
        let gone = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let refuses = gone.local_addr().unwrap();
        drop(gone);
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let listens = server.local_addr().unwrap();

        let target = "udp://siem".parse().unwrap();
        let peers = vec![refuses, listens];
        let mut connection =
            UdpConnection::connect_to_any(&target, peers, &UdpSettings::default()).await.unwrap();
        assert_eq!(connection.peer(), refuses);
        let refused = async {
            match connection.send([&b"lost"[..]]).await {
                Ok(_) => connection.idle().await,
                Err(error) => error,
            }
        };
        let error = tokio::time::timeout(Duration::from_secs(60), refused).await.unwrap();
        assert!(matches!(error, SendError::Refused { peer } if peer == refuses), "{error:?}");

        assert_eq!(connection.peer(), listens);
        connection.send([&b"here"[..]]).await.unwrap();
        let mut buf = [0; 10];
        assert_eq!(server.recv(&mut buf).await.unwrap(), 4);
    }
}
