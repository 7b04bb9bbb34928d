//! Whether a file is a whole export, and what is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::disk::DiskFile;
use super::super::entry::{Header, Indexed, ShardKey};
use super::super::error::Error;
use super::super::format::{FILE_HEADER, GroupHeader, is_newer, parse_file_header};
use super::super::scan::{Bodies, Found, footer, whole_group};
use super::super::spans::Span;
use super::{ID, PortableError, Progress};

/// What a whole export holds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Contents {
    /// The identity of the file.
    pub export: u64,
    /// When it was begun, ms since the epoch.
    pub created_ms: u64,
    /// Bytes of the file.
    pub length: u64,
    /// Batches.
    pub batches: u64,
    /// Logs.
    pub logs: u64,
    /// Bytes of the stored bodies.
    pub bytes: u64,
    /// Their numbers in the spool they come from; there may be gaps.
    pub span: Option<Span>,
    /// Smallest and largest log time, s since the epoch.
    pub times: Option<(u32, u32)>,
    /// Batches and logs of each shard.
    pub shards: BTreeMap<ShardKey, (u64, u64)>,
    /// The keys that bodies are encrypted with.
    pub keys: BTreeSet<u64>,
}

/// Reads all of the file `path` and checks every byte that means something. Blocks.
///
/// # Errors
/// [`PortableError::Foreign`], [`PortableError::Newer`], [`PortableError::Cut`],
/// [`PortableError::Damaged`]; [`Error::Io`] where it cannot be read.
pub fn verify(path: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Contents, PortableError> {
    let file = ExportFile::open(path)?;
    let told = footer(file.disk.as_ref(), ID, file.length);
    let told = told.map_err(|e| Error::io("read", path, e))?;
    // Without its end it was cut; with it, what does not check in front was damaged.
    let wrong = |at| {
        let (path, length) = (path.to_owned(), file.length);
        match &told {
            Some(_) => PortableError::Damaged { path, at, length },
            None => PortableError::Cut { path, at, length },
        }
    };
    let index = told.as_ref().map_or(&[][..], |(_, batches)| batches);
    let mut contents =
        Contents { created_ms: file.created_ms, length: file.length, ..Contents::default() };
    let mut done = Progress {
        of_batches: index.len() as u64,
        of_bytes: index.iter().map(|batch| u64::from(batch.stored)).sum(),
        ..Progress::default()
    };
    let mut index = index.iter();
    let (mut at, mut groups, mut ended) = (FILE_HEADER as u64, 0, false);
    while at < file.length {
        let Some((group, mut entries, end)) = file.group(at, Bodies::All)? else {
            return Err(wrong(at));
        };
        // An export is written by one process in one go, group behind group.
        let durable_to = if groups == 0 { 0 } else { at };
        let follows = (group.number, group.durable_to) == (groups, durable_to);
        let same = groups == 0 || group.incarnation == contents.export;
        if ended || !follows || !same {
            return Err(wrong(at));
        }
        contents.export = group.incarnation;
        if groups == 0 {
            let [Found { header: Header::Snapshot(state), .. }] = &entries[..] else {
                return Err(wrong(at));
            };
            if !state.shards.is_empty() || !state.destinations.is_empty() {
                return Err(file.foreign("it brings positions, which an export has not"));
            }
            entries.clear();
        }
        ended = entries.pop_if(|last| matches!(last.header, Header::Footer(_))).is_some();
        for Found { header, offset, body_len: stored, .. } in entries {
            let Header::Batch(header) = header else { return Err(wrong(at)) };
            let found = Indexed { offset, stored, header };
            if index.next() != Some(&found) {
                return Err(wrong(at));
            }
            contents.count(&found);
        }
        groups += 1;
        at = end;
        (done.batches, done.bytes) = (contents.batches, contents.bytes);
        progress(done);
    }
    if !ended || index.next().is_some() {
        return Err(wrong(at));
    }
    Ok(contents)
}

impl Contents {
    fn count(&mut self, batch: &Indexed) {
        let header = &batch.header;
        self.batches += 1;
        self.logs += u64::from(header.logs);
        self.bytes += u64::from(batch.stored);
        let (first, end) = (header.seq, header.seq.saturating_add(1));
        let span = self.span.get_or_insert(Span { first, end });
        *span = Span { first: span.first.min(first), end: span.end.max(end) };
        let times = self.times.get_or_insert((header.min_time, header.max_time));
        *times = (times.0.min(header.min_time), times.1.max(header.max_time));
        let shard = self.shards.entry(header.key.clone()).or_default();
        *shard = (shard.0 + 1, shard.1 + u64::from(header.logs));
        self.keys.extend((header.key_id != 0).then_some(header.key_id));
    }
}

/// A file that begins as an export does.
pub(super) struct ExportFile {
    pub(super) disk: Arc<dyn DiskFile>,
    length: u64,
    created_ms: u64,
    path: PathBuf,
}

impl ExportFile {
    pub(super) fn open(path: &Path) -> Result<Self, PortableError> {
        let fail = |action| move |e| Error::io(action, path, e);
        let foreign = |why| PortableError::Foreign { path: path.to_owned(), why };
        // Asked by name first: opening a pipe would wait for somebody to write into it.
        if !std::fs::metadata(path).map_err(fail("open"))?.is_file() {
            return Err(foreign("it is no regular file"));
        }
        let disk: Arc<dyn DiskFile> = Arc::new(File::open(path).map_err(fail("open"))?);
        let length = disk.len().map_err(fail("read"))?;
        let mut head = [0; FILE_HEADER];
        let read = disk.read_at(&mut head, 0).map_err(fail("read"))?;
        if is_newer(&head[..read]) {
            return Err(PortableError::Newer { path: path.to_owned() });
        }
        match parse_file_header(&head[..read]) {
            Some(ID) => {}
            Some(_) => {
                return Err(foreign("it is a segment; `sls-relay spool export` makes an export"));
            }
            None => return Err(foreign("it does not begin as one")),
        }
        let created_ms = head[20..28].try_into().map_or(0, u64::from_le_bytes);
        Ok(Self { disk, length, created_ms, path: path.to_owned() })
    }

    /// The whole group at `at`, its entries, and where it ends.
    pub(super) fn group(
        &self,
        at: u64,
        bodies: Bodies,
    ) -> Result<Option<(GroupHeader, Vec<Found>, u64)>, PortableError> {
        let mut newer = false;
        let group = whole_group(self.disk.as_ref(), ID, at, self.length, bodies, &mut newer);
        let group = group.map_err(|e| Error::io("read", &self.path, e))?;
        if newer {
            return Err(PortableError::Newer { path: self.path.clone() });
        }
        Ok(group)
    }

    fn foreign(&self, why: &'static str) -> PortableError {
        PortableError::Foreign { path: self.path.clone(), why }
    }
}
