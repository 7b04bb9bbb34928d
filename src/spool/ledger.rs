//! What outlives every segment: damage that was found, in words, and the damaged bytes.

use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::crash;
use super::disk::{Disk, DiskFile};
use super::entry::{Compression, ShardKey};
use super::error::Error;
use super::keys::Keys;
use super::lost::Lost;
use super::reader::StoredBatch;
use super::recover::{Damage, QUARANTINE, set_aside_path};
use super::segment;
use super::spans::Span;

const LEDGER: &str = "ledger.jsonl";

/// Copies the damaged bytes to the quarantine and notes them. Doing it twice does nothing.
pub(crate) fn set_aside(disk: &dyn Disk, damage: &Damage) -> Result<(), Error> {
    let copy = set_aside_path(damage.segment, damage.from);
    let Some(file) = begin_copy(disk, &copy)? else { return Ok(()) };
    if let Ok(source) = disk.open(&segment::path(damage.segment), false) {
        let mut chunk = vec![0; 256 << 10];
        let mut at = damage.from;
        while at < damage.to {
            let want = chunk.len().min(usize::try_from(damage.to - at).unwrap_or(usize::MAX));
            match source.read_at(&mut chunk[..want], at) {
                // What the disk refuses to give cannot be kept.
                Ok(0) | Err(_) => break,
                Ok(read) => {
                    file.append(&[&chunk[..read]]).map_err(|e| Error::io("write", &copy, e))?;
                    at += read as u64;
                }
            }
        }
    }
    note(
        disk,
        &serde_json::json!({
            "what": "damage",
            "segment": damage.segment,
            "from": damage.from,
            "to": damage.to,
            "first_seq": damage.first_seq,
            "end_seq": damage.end_seq,
            "harmless": damage.harmless,
            "lost": damage.lost,
            "copy": copy.to_string_lossy(),
        }),
    )?;
    end_copy(disk, &copy, file.as_ref())
}

/// What a line of the ledger says is lost; nothing for a line about anything else.
pub fn lost_in(line: &serde_json::Value) -> Vec<Lost> {
    if line["what"] == "damage" { lost_of(line) } else { Vec::new() }
}

/// The cursor ranges that damage, in the form in which it is noted and told, names as lost.
pub fn lost_of(damage: &serde_json::Value) -> Vec<Lost> {
    let read = |one: &serde_json::Value| {
        let text = |name: &str| one[name].as_str().map(str::to_owned);
        let shard = u32::try_from(one["shard"].as_u64()?).ok()?;
        Some(Lost {
            key: ShardKey { source: text("source")?, shard },
            cursor: text("cursor")?,
            next_cursor: text("next_cursor")?,
            span: Span { first: one["first_seq"].as_u64()?, end: one["end_seq"].as_u64()? },
            logs: one["logs"].as_u64(),
            delivered: one["delivered"].as_bool()?,
        })
    };
    damage["lost"].as_array().into_iter().flatten().filter_map(read).collect()
}

/// Keeps the body of a batch and notes why. Doing it twice does nothing.
pub(crate) fn quarantine(
    disk: &dyn Disk,
    keys: &Keys,
    batch: &StoredBatch,
    why: &str,
) -> Result<(), Error> {
    let header = &batch.header;
    let name = format!("batch-{}.bin", header.seq);
    let copy = Path::new(QUARANTINE).join(&name);
    let Some(file) = begin_copy(disk, &copy)? else { return Ok(()) };
    file.append(&[&keys.seal_copy(&name, &batch.body)?])
        .map_err(|e| Error::io("write", &copy, e))?;
    note(
        disk,
        &serde_json::json!({
            "what": "unreadable batch",
            "why": why,
            "seq": header.seq,
            "source": header.key.source,
            "shard": header.key.shard,
            "cursor": header.cursor,
            "next_cursor": header.next_cursor,
            "copy": copy.to_string_lossy(),
        }),
    )?;
    end_copy(disk, &copy, file.as_ref())
}

/// An answer of SLS that cannot be read.
#[derive(Clone, Copy, Debug)]
pub struct UnreadableAnswer<'a> {
    /// The shard.
    pub key: &'a ShardKey,
    /// Cursor it was asked with.
    pub cursor: &'a str,
    /// Cursor to go on with.
    pub next_cursor: &'a str,
    /// Why it cannot be read.
    pub why: &'a str,
    /// `x-log-requestid`.
    pub request_id: &'a str,
    /// Log groups it is said to hold.
    pub groups: u32,
    /// Bytes it is said to decompress to.
    pub raw_size: u64,
    /// How it is said to be compressed.
    pub compression: Compression,
    /// The body exactly as received.
    pub body: &'a [u8],
}

/// Keeps the body of an answer and notes why. Doing it twice does nothing.
pub(crate) fn quarantine_answer(
    disk: &dyn Disk,
    keys: &Keys,
    answer: &UnreadableAnswer<'_>,
) -> Result<PathBuf, Error> {
    // The same shard number and cursor of another source are another answer.
    let source = crc32c::crc32c(answer.key.source.as_bytes());
    let cursor = crc32c::crc32c(answer.cursor.as_bytes());
    let name = format!("answer-{source:08x}-{}-{cursor:08x}.bin", answer.key.shard);
    let copy = Path::new(QUARANTINE).join(&name);
    let Some(file) = begin_copy(disk, &copy)? else { return Ok(copy) };
    file.append(&[&keys.seal_copy(&name, answer.body)?])
        .map_err(|e| Error::io("write", &copy, e))?;
    note(
        disk,
        &serde_json::json!({
            "what": "unreadable answer",
            "why": answer.why,
            "source": answer.key.source,
            "shard": answer.key.shard,
            "cursor": answer.cursor,
            "next_cursor": answer.next_cursor,
            "request_id": answer.request_id,
            "groups": answer.groups,
            "raw_size": answer.raw_size,
            "compression": format!("{:?}", answer.compression).to_lowercase(),
            "bytes": answer.body.len(),
            "copy": copy.to_string_lossy(),
        }),
    )?;
    end_copy(disk, &copy, file.as_ref())?;
    Ok(copy)
}

/// The lines of the ledger in `dir`, oldest first; none where there is no ledger. A last line
/// that was not written to its end, and lines that are no JSON object, are left out.
///
/// # Errors
/// [`Error::Io`] where the file cannot be read.
pub fn read(dir: &Path) -> Result<Vec<serde_json::Value>, Error> {
    let path = dir.join(LEDGER);
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("open", path, error)),
    };
    let mut lines = Vec::new();
    for line in std::io::BufReader::new(file).split(b'\n') {
        let line = line.map_err(|error| Error::io("read", &path, error))?;
        lines.extend(serde_json::from_slice(&line).ok().filter(serde_json::Value::is_object));
    }
    Ok(lines)
}

/// A new file beside `copy`, or nothing where the whole copy is there already. What an
/// attempt that failed has left is thrown away.
pub(crate) fn begin_copy(disk: &dyn Disk, copy: &Path) -> Result<Option<Arc<dyn DiskFile>>, Error> {
    match disk.open(copy, false) {
        Ok(_) => {
            // The attempt that gave it its name may have failed to make that durable.
            disk.sync_dir(Path::new(QUARANTINE)).map_err(|e| Error::io("sync", QUARANTINE, e))?;
            return Ok(None);
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io("open", copy, error)),
    }
    let partial = copy.with_extension("partial");
    let _ = disk.remove(&partial);
    let file = disk.create(&partial).map_err(|e| Error::io("create", &partial, e))?;
    crash::point("copy-begun");
    Ok(Some(file))
}

/// Gives a whole copy its name, durable on return.
pub(crate) fn end_copy(disk: &dyn Disk, copy: &Path, file: &dyn DiskFile) -> Result<(), Error> {
    crash::point("copy-noted");
    file.sync().map_err(|e| Error::io("sync", copy, e))?;
    crash::point("copy-synced");
    disk.rename(&copy.with_extension("partial"), copy).map_err(|e| Error::io("name", copy, e))?;
    crash::point("copy-named");
    disk.sync_dir(Path::new(QUARANTINE)).map_err(|e| Error::io("sync", QUARANTINE, e))
}

/// Appends one line, durable on return.
pub(crate) fn note(disk: &dyn Disk, what: &serde_json::Value) -> Result<(), Error> {
    let path = Path::new(LEDGER);
    let fail = |action| move |e| Error::io(action, LEDGER, e);
    crash::point("ledger-due");
    let mut line = what.clone();
    if let Some(fields) = line.as_object_mut() {
        fields.insert("at".to_owned(), jiff::Timestamp::now().to_string().into());
    }
    let file = match disk.open(path, true) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            disk.create(path).map_err(fail("create"))?
        }
        Err(error) => return Err(Error::io("open", LEDGER, error)),
    };
    // A crash may have left half a line at the end, which must not swallow this one.
    let mut last = [b'\n'];
    let end = file.len().map_err(fail("read"))?;
    if end == 0 {
        disk.sync_dir(Path::new("")).map_err(fail("sync"))?;
    }
    file.read_at(&mut last, end.saturating_sub(1)).map_err(fail("read"))?;
    let before: &[u8] = if last == [b'\n'] { b"" } else { b"\n" };
    file.append(&[before, line.to_string().as_bytes(), b"\n"]).map_err(fail("write"))?;
    crash::point("ledger-written");
    file.sync().map_err(fail("sync"))?;
    crash::point("ledger-synced");
    Ok(())
}
