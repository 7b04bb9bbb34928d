//! Carrying framed messages to a receiver, over UDP, TCP and TLS.
//!
//! A transport knows nothing of positions and never retries: it sends, watches the peer, and
//! says precisely how a connection ended. What that proves is decided in
//! [`super::delivery`].

#[cfg(target_os = "linux")]
mod linux;
mod path_watch;
#[cfg(not(target_os = "linux"))]
mod portable;
pub mod relp;
mod socket;
mod tcp;
pub mod tls;
mod token_bucket;
mod udp;

#[cfg(target_os = "linux")]
use linux as kernel;
#[cfg(not(target_os = "linux"))]
use portable as kernel;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use super::error::SendError;
use super::target::Target;

pub use relp::{RelpConnection, RelpSettings};
pub use tcp::{DrainError, TcpConnection, TcpSettings};
pub use tls::{TlsConnection, TlsProfile, TlsSettings};
pub use token_bucket::TokenBucket;
pub use udp::{UdpConnection, UdpSettings};

/// Framed messages, one after the other in one buffer that is used again and again.
#[derive(Debug, Default)]
pub struct Frames {
    buf: Vec<u8>,
    /// Where each frame ends in `buf`; it begins where the one before ends.
    ends: Vec<usize>,
}

impl Frames {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one frame: what `append` appends. Returns what `append` returns.
    ///
    /// `append` sees the frames before and must leave them alone.
    pub fn push<R>(&mut self, append: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let start = self.buf.len();
        let result = append(&mut self.buf);
        debug_assert!(self.buf.len() >= start, "a frame took bytes away");
        self.ends.push(self.buf.len());
        result
    }

    /// Forgets the frames and keeps the memory.
    pub fn clear(&mut self) {
        self.buf.clear();
        self.ends.clear();
    }

    /// Whether there is no frame.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All frames together, in bytes.
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// How many frames there are.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// All frames as one run of bytes, as a stream carries them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.buf
    }

    /// Each frame on its own, as datagrams carry them.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.buf[start..end])
    }
}

/// A stream connection at one moment, as the kernel tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSample {
    /// Bytes written to the socket so far.
    pub written: u64,
    /// Those of them that the peer's kernel has not acknowledged, where that is told.
    pub queued: Option<u64>,
    /// What the peer is ready to take, in bytes, where that is told.
    pub window: Option<u32>,
}

impl StreamSample {
    /// Bytes that the peer's kernel has.
    pub fn taken(&self) -> Option<u64> {
        Some(self.written - self.queued?.min(self.written))
    }
}

/// All addresses of a target now, in the resolver's order; at least one.
async fn resolve(target: &Target, within: Duration) -> Result<Vec<SocketAddr>, SendError> {
    let failed = |source| SendError::Resolve { target: target.clone(), source };
    let lookup = tokio::net::lookup_host((target.host.as_str(), target.port));
    let mut found: Vec<SocketAddr> = match timeout(within, lookup).await {
        Ok(found) => found.map_err(failed)?.collect(),
        Err(_) => return Err(failed(io::ErrorKind::TimedOut.into())),
    };
    found.dedup();
    if found.is_empty() {
        return Err(failed(io::Error::new(io::ErrorKind::NotFound, "the name has no address")));
    }
    Ok(found)
}

/// The error for a target of which every address failed.
fn none_left(target: &Target, mut attempts: Vec<SendError>) -> SendError {
    match attempts.pop() {
        Some(only) if attempts.is_empty() => only,
        last => {
            attempts.extend(last);
            SendError::NoAddress { target: target.clone(), attempts }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_kept_apart_and_together() {
        let mut frames = Frames::new();
        assert!(frames.is_empty());
        for text in ["one", "", "three"] {
            frames.push(|buf| buf.extend_from_slice(text.as_bytes()));
        }
        assert_eq!(frames.as_bytes(), b"onethree");
        assert_eq!(frames.iter().collect::<Vec<_>>(), [&b"one"[..], b"", b"three"]);
        assert_eq!((frames.len(), frames.count()), (8, 3));
        frames.clear();
        assert!(frames.is_empty());
        assert_eq!(frames.iter().count(), 0);
        assert_eq!(frames.push(|buf| buf.len()), 0);
    }
}
