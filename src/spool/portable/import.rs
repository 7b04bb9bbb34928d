//! Bringing an export into a spool that may be in use.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::Spool;
use super::super::entry::{Batch, BatchHeader, Header, Origin};
use super::super::error::Error;
use super::super::format::FILE_HEADER;
use super::super::ledger;
use super::super::scan::{Bodies, Found, read_body};
use super::verify::{Contents, ExportFile};
use super::{PortableError, Progress};

/// How long the spool is left alone before a batch that did not fit is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What an import does while the spool has no room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WhenFull {
    /// It waits until destinations have taken some: for a spool that is in use.
    Wait,
    /// It ends with [`PortableError::NoRoom`], to be repeated.
    Fail,
}

/// What an import did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Imported {
    /// What the file holds.
    pub contents: Contents,
    /// Batches that were stored now.
    pub stored: u64,
    /// Batches that earlier imports of the same file had stored.
    pub before: u64,
    /// Whether all of it is stored now, and not only a part.
    pub whole: bool,
}

/// Stores the batches of the file `path`, of which [`verify`] told the `contents`, in their
/// order, as [`Origin::Import`], each durable before the next. No shard is moved, and the
/// appends of running ones go on. How far it came is noted in the ledger after each group, with
/// `reason`: repeated after an interruption it stores one group twice at most, and leaves
/// nothing out. It ends early when `goes_on` says so, which is asked after each group and while
/// the spool has no room.
///
/// Bodies are encrypted with the key of this spool, where it has one.
///
/// # Errors
/// [`Error::KeyMissing`], with nothing stored; [`PortableError::Damaged`] where the file has
/// changed since. After [`PortableError::NoRoom`], [`Error::Io`] and [`Error::Closed`] import
/// the same file again: it goes on where it stopped.
pub async fn import(
    spool: &Spool,
    path: &Path,
    contents: Contents,
    reason: &str,
    when_full: WhenFull,
    goes_on: &mut dyn FnMut(Progress) -> bool,
) -> Result<Imported, PortableError> {
    let (from, dir) = (path.to_owned(), spool.dir().to_owned());
    if let Some(&key_id) = contents.keys.iter().find(|id| spool.shared.keys.lacks(**id)) {
        let what = path.display().to_string();
        return Err(Error::KeyMissing { key_id, what }.into());
    }
    let export = contents.export;
    let (file, noted) = blocking(move || {
        let file = Arc::new(ExportFile::open(&from)?);
        Ok((file, noted(&ledger::read(&dir)?, export)))
    })
    .await?;
    let before = noted.min(contents.batches);
    let (of_batches, of_bytes) = (contents.batches, contents.bytes);
    let mut done = Progress { of_batches, of_bytes, ..Progress::default() };
    let mut import = Import { spool, path, reason, when_full, contents, file, stored: before };
    if before < of_batches {
        import.note().await?;
    }
    let mut at = FILE_HEADER as u64;
    while at < import.contents.length {
        let file = Arc::clone(&import.file);
        let group = blocking(move || file.group(at, Bodies::Last)).await?;
        let Some((group, entries, end)) = group else { return Err(import.changed(at)) };
        if group.incarnation != import.contents.export {
            return Err(import.changed(at));
        }
        let stored = import.stored;
        for entry in entries {
            if !matches!(entry.header, Header::Batch(_)) {
                continue;
            }
            done.bytes += u64::from(entry.body_len);
            if done.batches >= before {
                let mut waits_on = || goes_on(done);
                if !import.store(entry, &mut waits_on).await? {
                    let _ = import.note().await;
                    return Ok(import.ended(before));
                }
            }
            done.batches += 1;
        }
        if import.stored > stored {
            import.note().await?;
        }
        at = end;
        if !goes_on(done) {
            break;
        }
    }
    Ok(import.ended(before))
}

/// How many batches of `export` the ledger tells stored.
fn noted(lines: &[Value], export: u64) -> u64 {
    let export = name(export);
    let ours = lines.iter().filter(|line| line["what"] == "import" && line["export"] == export);
    ours.filter_map(|line| line["batches"].as_u64()).max().unwrap_or(0)
}

fn name(export: u64) -> Value {
    format!("{export:016x}").into()
}

struct Import<'a> {
    spool: &'a Spool,
    path: &'a Path,
    reason: &'a str,
    when_full: WhenFull,
    contents: Contents,
    file: Arc<ExportFile>,
    /// Batches of the file that are durable in the spool.
    stored: u64,
}

impl Import<'_> {
    fn ended(self, before: u64) -> Imported {
        let Self { contents, stored, .. } = self;
        let whole = stored == contents.batches;
        Imported { contents, stored: stored - before, before, whole }
    }

    /// Stores one batch, however long that takes while `goes_on` says so; whether it did.
    async fn store(
        &mut self,
        entry: Found,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<bool, PortableError> {
        let Header::Batch(header) = entry.header.clone() else { return Ok(true) };
        let (file, at) = (Arc::clone(&self.file), entry.offset);
        let (from, sealed) = (self.path.to_owned(), header.clone());
        let keys = self.spool.shared.keys.clone();
        let body = blocking(move || {
            let read = read_body(file.disk.as_ref(), &entry);
            match read.map_err(|e| Error::io("read", from, e))? {
                Some(body) => Ok(keys.open(&sealed, body)?),
                None => Ok(None),
            }
        });
        let body = body.await?.ok_or_else(|| self.changed(at))?;
        let (key, batch) = (header.key.clone(), batch(header, body.into()));
        let mut room = self.spool.room();
        loop {
            room.mark_unchanged();
            match self.spool.insert(key.clone(), batch.clone(), Origin::Import).await {
                Ok(_) => break,
                Err(source @ Error::Full { .. }) if self.when_full == WhenFull::Fail => {
                    // Without the note the next import only stores more of this group twice.
                    let _ = self.note().await;
                    let (stored, batches) = (self.stored, self.contents.batches);
                    return Err(PortableError::NoRoom { stored, batches, source });
                }
                Err(Error::Full { .. }) => {
                    if !goes_on() {
                        return Ok(false);
                    }
                    let _ = tokio::time::timeout(RETRY, room.changed()).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.stored += 1;
        Ok(true)
    }

    /// Tells the ledger how far this came; durable on return.
    async fn note(&self) -> Result<(), PortableError> {
        let line = json!({
            "what": "import",
            "export": name(self.contents.export),
            "file": self.path.to_string_lossy(),
            "reason": self.reason,
            "batches": self.stored,
            "of_batches": self.contents.batches,
        });
        let spool = self.spool.clone();
        blocking(move || Ok(spool.note(&line)?)).await
    }

    fn changed(&self, at: u64) -> PortableError {
        let (path, length) = (self.path.to_owned(), self.contents.length);
        PortableError::Damaged { path, at, length }
    }
}

/// The batch as it came from SLS.
fn batch(header: BatchHeader, body: Bytes) -> Batch {
    Batch {
        cursor: header.cursor,
        next_cursor: header.next_cursor,
        first_group_cursor: header.first_group_cursor,
        groups: header.groups,
        logs: header.logs,
        query: header.query,
        received_at: header.received_at,
        min_time: header.min_time,
        max_time: header.max_time,
        raw_size: header.raw_size,
        compression: header.compression,
        body,
    }
}

/// Runs what waits for a disk beside the runtime's own threads.
async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, PortableError> + Send + 'static,
) -> Result<T, PortableError> {
    tokio::task::spawn_blocking(act).await.unwrap_or(Err(PortableError::Spool(Error::Closed)))
}
