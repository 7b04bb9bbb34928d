//! Where the system is not Linux: the kernel tells nothing about a connection.
//!
//! This is weaker in two ways. A drain trusts the peer's end of stream without an empty
//! out-queue, so the late end of a process that died behind a broken path may count as a
//! proof. And a dead path is noticed only by the system's own timeouts.

use std::io;

use super::path_watch::PathInfo;

/// Not known.
pub(super) fn out_queue<S>(_socket: &S) -> io::Result<Option<u64>> {
    Ok(None)
}

/// Not known.
pub(super) fn path_info<S>(_socket: &S) -> io::Result<Option<PathInfo>> {
    Ok(None)
}
