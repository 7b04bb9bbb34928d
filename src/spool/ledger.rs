//! What outlives every segment: damage that was found, in words, and the damaged bytes.

use std::path::Path;

use super::disk::Disk;
use super::error::Error;
use super::reader::StoredBatch;
use super::recover::{Damage, QUARANTINE, set_aside_path};
use super::segment;

const LEDGER: &str = "ledger.jsonl";

/// Copies the damaged bytes to the quarantine and notes them. Doing it twice does nothing.
pub(crate) fn set_aside(disk: &dyn Disk, damage: &Damage) -> Result<(), Error> {
    let copy = set_aside_path(damage.segment, damage.from);
    let file = match disk.create(&copy) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(Error::io("create", copy, error)),
    };
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
    file.sync().map_err(|e| Error::io("sync", &copy, e))?;
    disk.sync_dir(Path::new(QUARANTINE)).map_err(|e| Error::io("sync", QUARANTINE, e))?;
    note(
        disk,
        &serde_json::json!({
            "what": "damage",
            "segment": damage.segment,
            "from": damage.from,
            "to": damage.to,
            "first_seq": damage.first_seq,
            "end_seq": damage.end_seq,
            "copy": copy.to_string_lossy(),
        }),
    )
}

/// Keeps the body of a batch and notes why. Doing it twice does nothing.
pub(crate) fn quarantine(disk: &dyn Disk, batch: &StoredBatch, why: &str) -> Result<(), Error> {
    let header = &batch.header;
    let copy = Path::new(QUARANTINE).join(format!("batch-{}.bin", header.seq));
    let file = match disk.create(&copy) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(Error::io("create", copy, error)),
    };
    file.append(&[&batch.body]).map_err(|e| Error::io("write", &copy, e))?;
    file.sync().map_err(|e| Error::io("sync", &copy, e))?;
    disk.sync_dir(Path::new(QUARANTINE)).map_err(|e| Error::io("sync", QUARANTINE, e))?;
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
    )
}

/// Appends one line, durable on return.
pub(crate) fn note(disk: &dyn Disk, what: &serde_json::Value) -> Result<(), Error> {
    let path = Path::new(LEDGER);
    let fail = |action| move |e| Error::io(action, LEDGER, e);
    let mut line = what.clone();
    if let Some(fields) = line.as_object_mut() {
        fields.insert("at".to_owned(), jiff::Timestamp::now().to_string().into());
    }
    let file = match disk.open(path, true) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let file = disk.create(path).map_err(fail("create"))?;
            disk.sync_dir(Path::new("")).map_err(fail("sync"))?;
            file
        }
        Err(error) => return Err(Error::io("open", LEDGER, error)),
    };
    file.append(&[line.to_string().as_bytes(), b"\n"]).map_err(fail("write"))?;
    file.sync().map_err(fail("sync"))
}
