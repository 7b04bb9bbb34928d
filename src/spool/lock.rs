//! One process owns a spool: the lock, and the identity that stays with the directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::crash;
use super::error::Error;

/// Held as long as the process owns the spool. The system releases it when the process
/// ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of the spool directory `dir` and writes who holds it.
    pub fn acquire(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("LOCK");
        let mut file = open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::InUse { dir: dir.to_owned(), holder: holder(&mut file) });
            }
            Err(TryLockError::Error(e)) => return Err(Error::io("lock", path, e)),
        }
        let text = format!(
            "process {} ({} since {})",
            std::process::id(),
            env!("CARGO_PKG_NAME"),
            jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ")
        );
        // The text is for people; a disk too full for it must not keep the relay from starting.
        let _ = file.set_len(0).and_then(|()| file.write_all(text.as_bytes()));
        Ok(Self { _file: file })
    }

    /// Who holds the lock of `dir`, or nobody.
    pub fn holder(dir: &Path) -> Option<String> {
        let mut file = File::open(dir.join("LOCK")).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(holder(&mut file)),
            _ => None,
        }
    }
}

fn open(path: &PathBuf) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map_err(|e| Error::io("open", path, e))
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let _ = file.rewind().and_then(|()| file.take(200).read_to_string(&mut text));
    if text.is_empty() { "another process".to_owned() } else { text }
}

/// The eight hex digits that make this spool's consumer name unlike any other. Made once.
pub fn identity(dir: &Path) -> Result<String, Error> {
    if let Some(known) = known_identity(dir)? {
        return Ok(known);
    }
    let path = dir.join(IDENTITY);
    let made = format!("{:08x}", fastrand::u32(..));
    let new = dir.join("identity.new");
    let written = File::create(&new)
        .and_then(|mut file| file.write_all(made.as_bytes()).and_then(|()| file.sync_all()))
        .inspect(|()| crash::point("identity-written"))
        .and_then(|()| std::fs::rename(&new, &path))
        .and_then(|()| File::open(dir)?.sync_all());
    written.map_err(|e| Error::io("write", path, e))?;
    crash::point("identity-named");
    Ok(made)
}

/// The [`identity`] if there is one already; makes nothing.
pub fn known_identity(dir: &Path) -> Result<Option<String>, Error> {
    let path = dir.join(IDENTITY);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let text = text.trim();
            let whole = text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
            Ok(whole.then(|| text.to_owned()))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", path, e)),
    }
}

const IDENTITY: &str = "identity";
