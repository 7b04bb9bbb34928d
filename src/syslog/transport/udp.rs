//! A connected UDP socket: one message per datagram (RFC 5426), evenly paced.
//!
//! Nothing proves that a datagram arrived. What can be noticed is that nobody listens: the
//! host's answer shows up at a *later* call on a connected socket, and that call sends
//! nothing. The caller therefore keeps what it sent for the settle time and goes back to it
//! on [`SendError::Refused`].

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep};

use super::token_bucket::TokenBucket;
use super::{none_left, resolve};
use crate::syslog::error::SendError;
use crate::syslog::target::Target;

/// For resolving the name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Datagrams read in one turn, so that a peer that talks without end cannot stop us.
const READS_PER_TURN: usize = 16;

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

    /// Sends each frame as one datagram, at the pace that was set. Returns how many were
    /// sent: all. May be cancelled between two datagrams; then how many were sent is unknown.
    ///
    /// # Errors
    /// [`SendError::Refused`]: an earlier datagram found nobody listening, perhaps one of an
    /// earlier call. Go back to the oldest message that has not settled. If the name has more
    /// addresses, the next one is in use from now on.
    /// [`SendError::TooLarge`]: the frame after the `sent` first ones cannot be sent at all.
    /// [`SendError::Unreachable`], [`SendError::Io`]: connect anew.
    pub async fn send<'a, I>(&mut self, frames: I) -> Result<usize, SendError>
    where
        I: IntoIterator<Item = &'a [u8]>,
    {
        let mut sent = 0;
        for frame in frames {
            while let Err(wait) = self.bucket.take(Instant::now().into_std()) {
                sleep(wait).await;
            }
            self.send_one(frame, sent).await?;
            sent += 1;
        }
        self.check().await?;
        Ok(sent)
    }

    /// Resolves when the host's refusal of an earlier datagram, or another error, shows up
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
                Ok(socket) => return Ok(Self { socket, peers, current, bucket }),
                Err(error) => attempts.push(error),
            }
        }
        Err(none_left(target, attempts))
    }

    async fn send_one(&mut self, frame: &[u8], sent: usize) -> Result<(), SendError> {
        let mut pause = Duration::from_millis(1);
        loop {
            match self.socket.send(frame).await {
                Ok(_) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                    return Err(SendError::TooLarge { peer: self.peer(), size: frame.len(), sent });
                }
                Err(error) => return Err(self.failed("send to", error).await),
            }
        }
    }

    /// Reads and throws away what came, and reports a pending error.
    async fn check(&mut self) -> Result<(), SendError> {
        let mut buf = [0; 1];
        let received: io::Result<()> = (|| {
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
        match received {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(self.failed("send to", error).await),
        }
    }

    /// Names the error, and turns to the next address if this one refuses.
    async fn failed(&mut self, action: &'static str, error: io::Error) -> SendError {
        let error = SendError::from_io(action, self.peer(), error);
        if matches!(error, SendError::Refused { .. }) && self.peers.len() > 1 {
            for step in 1..self.peers.len() {
                let next = (self.current + step) % self.peers.len();
                if let Ok(socket) = open(self.peers[next]).await {
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
