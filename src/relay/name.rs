//! The consumer's name, and that one process of a host uses it alone.
//!
//! Two processes with one name are one consumer for SLS: both get the same shards, and every
//! log comes twice. The name comes from the identity file of the spool, whose lock keeps two
//! processes apart; a copy of the spool directory has a lock of its own, but the same name.

use std::io;

/// The host's name and the digits of the spool's identity: stable over restarts, unlike any
/// other relay's.
pub(crate) fn consumer_name(identity: &str) -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host: String =
        host.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    format!("{host}-{identity}")
}

/// What cannot be asked here, in a sandbox without sockets of this kind perhaps, is no proof
/// of another process.
#[cfg(target_os = "linux")]
fn taken<T>(bound: io::Result<T>) -> io::Result<Option<T>> {
    match bound {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        Err(error) => {
            tracing::warn!(%error, "it cannot be checked that no other sls-relay on this host uses the same consumer name");
            Ok(None)
        }
    }
}

/// Held as long as this process uses the name. The system releases it when the process ends,
/// however it ends.
#[derive(Debug)]
pub(crate) struct NameLock {
    #[cfg(target_os = "linux")]
    _socket: Option<std::os::unix::net::UnixListener>,
}

impl NameLock {
    /// Takes the name for this process: on Linux by a socket in the abstract namespace, which
    /// leaves no file behind. Elsewhere nothing is checked.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] where another process of this host has it.
    #[cfg(target_os = "linux")]
    pub(crate) fn take(consumer: &str) -> io::Result<Self> {
        use std::os::linux::net::SocketAddrExt as _;
        use std::os::unix::net::{SocketAddr, UnixListener};
        // The names of sockets are short; the end of the consumer's is what tells it apart.
        let name: String = format!("sls-relay/{consumer}");
        let name = name.get(name.len().saturating_sub(100)..).unwrap_or(&name);
        let address = SocketAddr::from_abstract_name(name)?;
        Ok(Self { _socket: taken(UnixListener::bind_addr(&address))? })
    }

    /// Nothing is checked here.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn take(_: &str) -> io::Result<Self> {
        Ok(Self {})
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_used_once_on_a_host_and_free_again_afterwards() {
        let name = consumer_name(&format!("{:08x}", fastrand::u32(..)));
        let held = NameLock::take(&name).expect("free");
        let error = NameLock::take(&name).expect_err("in use");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(held);
        NameLock::take(&name).expect("free again");
    }

    #[test]
    fn only_an_address_in_use_is_another_process() {
        let failed = |kind| taken::<()>(Err(io::Error::from(kind))).is_err();
        assert!(failed(io::ErrorKind::AddrInUse));
        assert!(!failed(io::ErrorKind::PermissionDenied) && !failed(io::ErrorKind::Unsupported));
    }
}
