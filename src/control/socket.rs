//! The socket in the file system: made so that nobody else can ever connect, and removed when
//! its relay ends.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _,
};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of the longest path of a socket: the system takes 107, and three are needed while
/// the socket is made.
pub const LONGEST_PATH: usize = 104;

/// Owner and group may connect.
const MODE: u32 = 0o660;
/// Time for a process that may answer already.
const PROBE: Duration = Duration::from_secs(1);

/// Why there is no control socket. The relay runs without one.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The system's address of a socket has no room for the path.
    #[error(
        "the path {} of the control socket has {} bytes, at most {LONGEST_PATH} are possible; name a shorter one as socket in [control], such as /run/sls-relay/control.sock",
        path.display(),
        path.as_os_str().len()
    )]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// Another process answers there.
    #[error(
        "another process answers on the control socket {}; give each relay its own socket in [control]",
        path.display()
    )]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// Something else has its name, and is left as it is.
    #[error(
        "{} is in the way of the control socket and no socket; remove it, or name another path as socket in [control]",
        path.display()
    )]
    NoSocket {
        /// The path.
        path: PathBuf,
    },
    /// The system refuses.
    #[error(
        "cannot make the control socket {}; let the relay's user write to its directory, or name another path as socket in [control]",
        path.display()
    )]
    Io {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl BindError {
    /// Stable, for logs and metrics.
    pub fn code(&self) -> &'static str {
        "control.unavailable"
    }
}

/// A bound control socket. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: tokio::net::UnixListener,
    path: PathBuf,
    /// Device and inode of the file, to remove no other one.
    file: (u64, u64),
}

impl Listener {
    /// Makes the socket at `path`, with mode 0660. What is left of a relay that ended
    /// without goodbye is replaced. Must be called in a runtime.
    ///
    /// # Errors
    /// [`BindError`]; a socket that somebody answers on, and anything that is no socket, stay
    /// as they are.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        if path.as_os_str().len() > LONGEST_PATH {
            return Err(BindError::TooLong { path: path.to_owned() });
        }
        let failed = |source| BindError::Io { path: path.to_owned(), source };
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
            Ok(found) if !found.file_type().is_socket() => {
                return Err(BindError::NoSocket { path: path.to_owned() });
            }
            Ok(_) => match connect(path, PROBE) {
                // Nobody listens. It is replaced, not removed: there is no moment without one.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // A listener that has no room now is one, too.
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Err(failed(error));
                }
                _ => return Err(BindError::InUse { path: path.to_owned() }),
            },
        }
        let socket = bound(path).map_err(failed)?;
        let file = identity(path).map_err(failed)?;
        let socket = socket
            .set_nonblocking(true)
            .and_then(|()| tokio::net::UnixListener::from_std(socket))
            .map_err(failed)?;
        Ok(Self { socket, path: path.to_owned(), file })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) async fn accept(&self) -> io::Result<tokio::net::UnixStream> {
        Ok(self.socket.accept().await?.0)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A connection to the socket at `path`, waiting for room among those that connect no longer
/// than `patience`.
///
/// # Errors
/// What the system said; [`io::ErrorKind::WouldBlock`] where there was no room.
pub(super) fn connect(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    // The system waits in connect as long as in write.
    socket.set_write_timeout(Some(patience))?;
    socket.connect(&socket2::SockAddr::unix(path)?)?;
    Ok(UnixStream::from(std::os::fd::OwnedFd::from(socket)))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = std::fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// A listening socket at `path`. It gets its mode in a directory that nobody else can enter,
/// because between its making and its mode anybody could connect whom the umask lets.
fn bound(path: &Path) -> io::Result<UnixListener> {
    let private = private_dir(path);
    let inside = private.join("s");
    let made = make_private(&private, &inside).and_then(|()| UnixListener::bind(&inside)).and_then(
        |socket| {
            std::fs::set_permissions(&inside, Permissions::from_mode(MODE))?;
            std::fs::rename(&inside, path)?;
            Ok(socket)
        },
    );
    let _ = std::fs::remove_file(&inside);
    let _ = std::fs::remove_dir(&private);
    made
}

/// `.NAME` beside NAME.
fn private_dir(path: &Path) -> PathBuf {
    let mut name = b".".to_vec();
    name.extend_from_slice(path.file_name().unwrap_or_default().as_bytes());
    path.with_file_name(std::ffi::OsStr::from_bytes(&name))
}

fn make_private(dir: &Path, inside: &Path) -> io::Result<()> {
    let make = || DirBuilder::new().mode(0o700).create(dir);
    match make() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Left by a relay that was killed right here.
            let _ = std::fs::remove_file(inside);
            std::fs::remove_dir(dir)?;
            make()
        }
        made => made,
    }
}
