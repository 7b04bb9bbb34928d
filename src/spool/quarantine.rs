//! Single logs in the quarantine: what one destination cannot take is kept, by itself, until
//! an operator decides about it.

use std::path::{Component, Path, PathBuf};

use super::Spool;
use super::disk::Disk;
use super::entry::{Seq, ShardKey};
use super::error::Error;
use super::format::MAX_BODY;
use super::inspect::Inspection;
use super::keys::Keys;
use super::ledger::{begin_copy, end_copy, note};
use super::recover::QUARANTINE;

/// `what` of the line that tells of a log in the quarantine.
pub const QUARANTINED_LOG: &str = "quarantined log";

/// `what` of the line that tells which logs of the quarantine a destination has since: `copies`
/// are their names.
pub const QUARANTINE_SENT: &str = "quarantine sent";

/// What the names of single logs begin with.
const PREFIX: &str = "log-";
/// Which part of the quota single logs may take.
const SHARE: u64 = 8;
/// What a file takes at least, and in steps of.
const BLOCK: u64 = 4096;

/// A log that one destination does not get.
#[derive(Clone, Copy, Debug)]
pub struct QuarantinedLog<'a> {
    /// The destination.
    pub destination: &'a str,
    /// The shard it came from.
    pub key: &'a ShardKey,
    /// The batch it is in.
    pub seq: Seq,
    /// Its place among the logs of the batch, from 0.
    pub log: u32,
    /// Its identity on the wire: the cursor of its log group, or of its batch where
    /// `approximate`.
    pub cursor: &'a str,
    /// Its identity on the wire: its place behind that cursor, from 0.
    pub index: u32,
    /// Whether the cursor is that of the batch.
    pub approximate: bool,
    /// Why the destination does not get it. Goes into the ledger in the clear, so it must hold
    /// nothing of the log.
    pub why: &'a str,
    /// A `LogGroupList` of its log group with this log alone.
    pub body: &'a [u8],
}

impl Spool {
    /// Keeps a log, encrypted where there is a key, with the reason in the ledger; durable on
    /// return. Doing it twice does nothing. Returns its name in the quarantine.
    ///
    /// # Errors
    /// [`Error::QuarantineFull`] where single logs take an eighth of the quota already: then
    /// delivery has to wait. [`Error::Io`].
    pub fn quarantine_log(&self, log: &QuarantinedLog<'_>) -> Result<String, Error> {
        let most = self.max_bytes / SHARE;
        self.shared.keep_log(|disk, taken| keep(disk, &self.shared.keys, log, taken, most))
    }

    /// Lets go of copies in the quarantine, and of the room that they take; durable on return.
    /// Returns how many there were of those names.
    ///
    /// # Errors
    /// [`Error::Io`]; some may be gone then.
    pub fn remove_quarantined(&self, names: &[&str]) -> Result<usize, Error> {
        self.shared.keep_log(|disk, taken| {
            let mut removed = 0;
            for name in names.iter().filter(|name| is_plain(name)) {
                let copy = Path::new(QUARANTINE).join(name);
                match disk.remove(&copy) {
                    Ok(()) => removed += 1,
                    // The attempt that removed it may have failed to make that durable.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(Error::io("remove", copy, error)),
                }
            }
            // Counted anew when it matters again.
            *taken = None;
            disk.sync_dir(Path::new(QUARANTINE)).map_err(|e| Error::io("sync", QUARANTINE, e))?;
            Ok(removed)
        })
    }
}

impl Inspection {
    /// A whole copy, as it was before it was encrypted. `name` must be one that
    /// [`Self::quarantine`] gives.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::KeyMissing`], and [`Error::Sealed`] where somebody changed it.
    /// [`Error::TooLarge`] for what no batch can be.
    pub fn copy_of(&self, name: &str) -> Result<Vec<u8>, Error> {
        if let Some(content) = self.decrypted(name)? {
            return Ok(content);
        }
        let fail = |e| Error::io("read", Path::new(QUARANTINE).join(name), e);
        let file = self.quarantined(name)?;
        let length = usize::try_from(file.len().map_err(fail)?).unwrap_or(usize::MAX);
        if length > MAX_BODY {
            return Err(Error::TooLarge { size: length, limit: MAX_BODY });
        }
        let mut content = vec![0; length];
        let read = file.read_at(&mut content, 0).map_err(fail)?;
        content.truncate(read);
        Ok(content)
    }
}

/// `taken` are the bytes that single logs take, once that is known.
fn keep(
    disk: &dyn Disk,
    keys: &Keys,
    log: &QuarantinedLog<'_>,
    taken: &mut Option<u64>,
    most: u64,
) -> Result<String, Error> {
    let name = name(log);
    let copy = Path::new(QUARANTINE).join(&name);
    let content = keys.seal_copy(&name, log.body)?;
    let used = match *taken {
        Some(used) => used,
        None => *taken.insert(measure(disk)?),
    };
    let needed = room(content.len() as u64);
    let Some(file) = begin_copy(disk, &copy)? else { return Ok(name) };
    // The first one is taken whatever its size: nothing could be let go of for it.
    if used > 0 && used + needed > most {
        let _ = disk.remove(&copy.with_extension("partial"));
        return Err(Error::QuarantineFull { used, most });
    }
    file.append(&[&content]).map_err(|e| Error::io("write", &copy, e))?;
    note(
        disk,
        &serde_json::json!({
            "what": QUARANTINED_LOG,
            "why": log.why,
            "destination": log.destination,
            "source": log.key.source,
            "shard": log.key.shard,
            "seq": log.seq,
            "log": log.log,
            "cursor": log.cursor,
            "index": log.index,
            "approximate": log.approximate,
            "bytes": log.body.len(),
            "copy": copy.to_string_lossy(),
        }),
    )?;
    end_copy(disk, &copy, file.as_ref())?;
    *taken = Some(used + needed);
    Ok(name)
}

/// Whether the copy of this name is a single log.
pub fn is_quarantined_log(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// The same log of the same batch for the same destination has the same name.
fn name(log: &QuarantinedLog<'_>) -> String {
    let destination = crc32c::crc32c(log.destination.as_bytes());
    format!("{PREFIX}{destination:08x}-{}-{}.bin", log.seq, log.log)
}

fn measure(disk: &dyn Disk) -> Result<u64, Error> {
    let dir = Path::new(QUARANTINE);
    let names = match disk.list(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(Error::io("list", dir, error)),
    };
    let mut used = 0;
    for name in names.iter().filter(|name| is_quarantined_log(name) && !is_partial(name)) {
        let path: PathBuf = dir.join(name);
        let length = disk.open(&path, false).and_then(|file| file.len());
        used += room(length.map_err(|e| Error::io("read", path, e))?);
    }
    Ok(used)
}

fn room(length: u64) -> u64 {
    length.max(1).next_multiple_of(BLOCK)
}

fn is_partial(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "partial")
}

/// Whether no name of this form leads out of the directory.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
}
