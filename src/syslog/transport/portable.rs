//! Where the system is not Linux: the kernel tells nothing about a connection.
//!
//! This is weaker in two ways. A drain trusts the peer's end of stream without an empty
//! out-queue, so the late end of a process that died behind a broken path may count as a
//! proof. And a dead path is noticed only by the system's own timeouts. Datagrams are sent one
//! by one.

use std::io;
use std::os::fd::AsFd;

use super::path_watch::PathInfo;
use super::udp::Bounce;

/// Not known.
pub(super) fn out_queue<S>(_socket: &S) -> io::Result<Option<u64>> {
    Ok(None)
}

/// Not known.
pub(super) fn path_info<S>(_socket: &S) -> io::Result<Option<PathInfo>> {
    Ok(None)
}

/// Datagrams of one [`send_many`] at most.
pub(super) const BATCH: usize = 1;

/// Sends the first datagram over a connected socket.
pub(super) fn send_many(
    socket: &impl AsFd,
    datagrams: &[&[u8]],
    _segment: usize,
) -> io::Result<usize> {
    match datagrams.first() {
        Some(first) => socket2::SockRef::from(socket).send(first).map(|_| 1),
        None => Ok(0),
    }
}

/// No datagrams are sent together.
pub(super) fn largest_segment(_socket: &impl AsFd, _v6: bool) -> usize {
    0
}

/// There is no error queue: an answer shows up at a later call.
pub(super) fn keep_errors(_socket: &impl AsFd, _v6: bool) -> bool {
    false
}

/// There is no error queue.
pub(super) fn next_bounce(_socket: &impl AsFd) -> io::Result<Option<Bounce>> {
    Ok(None)
}
