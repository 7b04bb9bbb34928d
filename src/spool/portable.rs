//! Moving house: batches of one spool in one file, for another spool.
//!
//! An export is laid out as a segment with the id 0, so that whatever reads segments reads it:
//! a snapshot that knows numbers only, groups of batches, and a footer behind the last of
//! them, which tells a whole file from one that was cut. Bodies are copied as they are stored.
//! The random incarnation of the file is its identity: by it an import that was interrupted
//! knows what it stored already.

mod import;
mod verify;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::disk::DiskFile;
use super::entry::{BatchHeader, Header, Indexed};
use super::error::Error;
use super::format::MAX_HEADER;
use super::inspect::{Inspection, Met, Segment as Opened, Stored};
use super::recover::Damage;
use super::scan::footer;
use super::segment::{self, NewEntry, Segment};
use super::spans::Span;
use super::state::{SegmentInfo, State};

pub use import::{Imported, WhenFull, import};
pub use verify::{Contents, verify};

/// The segment id of every export: no segment of a spool has it.
const ID: u64 = 0;
/// Bytes of bodies after which a group ends, and batches: an import that dies stores no more
/// than one group twice.
const GROUP_BYTES: usize = 8 << 20;
const GROUP_BATCHES: usize = 128;

/// What can go wrong with an export or an import.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortableError {
    /// There is a file of that name already.
    #[error("{path} is there already and stays as it is; name another file")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The index at the end of the file would be larger than a reader takes.
    #[error(
        "these are more batches than one export holds; export the ones before batch {split} (--last {}) and the ones from there on (--first {split}) into files of their own", split - 1
    )]
    TooMany {
        /// First batch that does not fit.
        split: u64,
    },
    /// The file is something else.
    #[error("{path} is no export of a spool: {why}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is, or is not.
        why: &'static str,
    },
    /// The file was written by a newer version.
    #[error(
        "{path} was written in a format this version does not know; import it with the version that wrote it or a newer one"
    )]
    Newer {
        /// The file.
        path: PathBuf,
    },
    /// The file does not end as an export ends.
    #[error(
        "{path} is cut off: whole up to byte {at} of {length}, and its end is missing; nothing of it is imported: copy it again, or export again"
    )]
    Cut {
        /// The file.
        path: PathBuf,
        /// Bytes that check.
        at: u64,
        /// Bytes of the file.
        length: u64,
    },
    /// The file has its end, but not everything in front of it checks.
    #[error(
        "{path} is damaged at byte {at} of {length}, or behind it; nothing of it is imported: copy it again, or export again"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Bytes that check.
        at: u64,
        /// Bytes of the file.
        length: u64,
    },
    /// The spool has no room for the rest.
    #[error(
        "{stored} of {batches} batches are stored, and the spool has no room for the next; make room (deliver, or raise spool.max_bytes) and import the same file again: it goes on where it stopped"
    )]
    NoRoom {
        /// Batches of the file that are stored.
        stored: u64,
        /// Batches of the file.
        batches: u64,
        /// Which limit.
        source: Error,
    },
    /// The spool or the disk failed.
    #[error(transparent)]
    Spool(#[from] Error),
}

impl PortableError {
    /// Stable name of the kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Exists { .. } => "export.exists",
            Self::TooMany { .. } => "export.too_many",
            Self::Foreign { .. } => "import.foreign",
            Self::Newer { .. } => "import.newer_format",
            Self::Cut { .. } => "import.cut",
            Self::Damaged { .. } => "import.damaged",
            Self::NoRoom { .. } => "import.no_room",
            Self::Spool(error) => error.code(),
        }
    }
}

/// How far an export or an import has come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Progress {
    /// Batches done with.
    pub batches: u64,
    /// Batches in all.
    pub of_batches: u64,
    /// Bytes of stored bodies done with.
    pub bytes: u64,
    /// Bytes of stored bodies in all.
    pub of_bytes: u64,
}

/// What an export holds, and what it could not hold.
#[derive(Debug, Default)]
pub struct Exported {
    /// The identity of the file.
    pub export: u64,
    /// Batches in it.
    pub batches: u64,
    /// Logs in it.
    pub logs: u64,
    /// Bytes of the file.
    pub length: u64,
    /// Bytes of the spool that do not check: what was in them is not in the file.
    pub damage: Vec<Damage>,
    /// Batches that a running relay let go of meanwhile, since every destination has them.
    pub let_go: Vec<Span>,
}

/// Writes the batches of `span` that are `wanted` and not dropped into a new file `to`, in
/// their order. It has its name, and is durable, on return; until then it is called
/// `to.partial`. Blocks; memory does not grow with the bodies.
///
/// # Errors
/// [`PortableError::Exists`], [`PortableError::TooMany`] before anything is written;
/// [`Error::Io`] where the spool cannot be read or the file not be written.
pub fn export(
    spool: &Inspection,
    span: Span,
    wanted: &dyn Fn(&BatchHeader) -> bool,
    to: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Exported, PortableError> {
    if to.symlink_metadata().is_ok() {
        return Err(PortableError::Exists { path: to.to_owned() });
    }
    let state = spool.state();
    let wanted = |header: &BatchHeader| {
        span.contains(header.seq) && wanted(header) && !state.is_dropped(header.seq)
    };
    let plan = plan(spool, span, &wanted)?;
    let partial = partial(to);
    // What an export that was interrupted has left.
    let _ = std::fs::remove_file(&partial);
    let exported = (|| {
        let file = create(&partial).map_err(|e| Error::io("create", &partial, e))?;
        let written = write(spool, span, &wanted, &plan, Arc::clone(&file), progress);
        let exported = written.map_err(|error| of_file(error, &partial))?;
        let told = footer(file.as_ref(), ID, exported.length);
        match told.map_err(|e| Error::io("read", &partial, e))? {
            Some((_, told)) if told.len() as u64 == exported.batches => {}
            // The plan makes sure that it fits.
            _ => return Err(PortableError::TooMany { split: span.first + exported.batches / 2 }),
        }
        name(&partial, to)?;
        Ok(exported)
    })();
    if exported.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    exported
}

/// What will be written, as the headers tell it.
#[derive(Default)]
struct Plan {
    batches: u64,
    bytes: u64,
    /// Where numbers begin.
    first: Option<(u64, u64)>,
}

/// Counts what is wanted and makes sure that the footer fits, from the index of each segment.
fn plan(
    spool: &Inspection,
    span: Span,
    wanted: &dyn Fn(&BatchHeader) -> bool,
) -> Result<Plan, PortableError> {
    let (mut plan, mut index) = (Plan::default(), 0);
    walk(spool, span, &mut |seen| {
        // What is missing is told when its turn comes.
        let Seen::Batch(batch) = seen else { return Ok(()) };
        let header = &batch.header;
        if !wanted(header) {
            return Ok(());
        }
        index += in_memory(header);
        if index > MAX_HEADER {
            return Err(PortableError::TooMany { split: header.seq });
        }
        plan.batches += 1;
        plan.bytes += batch.stored_bytes();
        plan.first.get_or_insert((header.seq, header.first_log));
        Ok(())
    })?;
    Ok(plan)
}

/// What lies on the way through a span.
enum Seen {
    Batch(Box<Stored>),
    Damage(Damage),
    /// A running relay has removed their segment since the spool was opened here.
    Gone(Span),
}

/// Calls `visit` with all that lies in `span`, in order.
fn walk<E: From<Error>>(
    spool: &Inspection,
    span: Span,
    visit: &mut dyn FnMut(Seen) -> Result<(), E>,
) -> Result<(), E> {
    let clip = |first: u64, end: u64| Span { first: first.max(span.first), end: end.min(span.end) };
    let overlaps = |first, end| clip(first, end).first < clip(first, end).end;
    for (id, info) in spool.segments().filter(|(_, info)| overlaps(info.first_seq, info.end_seq)) {
        let mut found = match spool.headers_of(id, &info)? {
            Opened::There(found) => found,
            Opened::Missing(damage) => {
                visit(Seen::Damage(damage))?;
                continue;
            }
            Opened::Removed => {
                visit(Seen::Gone(clip(info.first_seq, info.end_seq)))?;
                continue;
            }
        };
        while let Some(met) = found.next()? {
            match met {
                Met::Batch(batch) if span.contains(batch.header.seq) => visit(Seen::Batch(batch))?,
                Met::Batch(_) => {}
                Met::Damage(damage) if overlaps(damage.first_seq, damage.end_seq) => {
                    visit(Seen::Damage(damage))?;
                }
                // No batch is missing in it, or only others.
                Met::Damage(_) => {}
            }
        }
    }
    Ok(())
}

/// Most that a batch takes of what a reader allows a footer.
fn in_memory(header: &BatchHeader) -> usize {
    let text = [&header.key.source, &header.cursor, &header.next_cursor];
    size_of::<Indexed>() + 128 + text.iter().map(|text| text.len()).sum::<usize>()
}

/// One file on its way.
struct Export {
    file: Segment,
    group: Vec<NewEntry>,
    bytes: usize,
    done: Exported,
    progress: Progress,
}

fn write(
    spool: &Inspection,
    span: Span,
    wanted: &dyn Fn(&BatchHeader) -> bool,
    plan: &Plan,
    file: Arc<dyn DiskFile>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Exported, Error> {
    let (next_seq, next_log) = plan.first.unwrap_or_default();
    let mut numbers = State { next_seq, next_log, ..State::default() };
    numbers.segments.insert(ID, SegmentInfo::beginning(&numbers));
    let export = fastrand::u64(1..);
    let mut out = Export {
        file: Segment::begin(file, ID, export, Header::Snapshot(numbers))?,
        group: Vec::new(),
        bytes: 0,
        done: Exported { export, ..Exported::default() },
        progress: Progress {
            of_batches: plan.batches,
            of_bytes: plan.bytes,
            ..Progress::default()
        },
    };
    progress(out.progress);
    walk(spool, span, &mut |seen| match seen {
        Seen::Batch(batch) if wanted(&batch.header) => match batch.stored_body()? {
            Ok(body) => {
                out.push(batch.header, body);
                if out.bytes >= GROUP_BYTES || out.group.len() >= GROUP_BATCHES {
                    out.end_group()?;
                    progress(out.progress);
                }
                Ok(())
            }
            Err(damage) => {
                out.done.damage.push(damage);
                Ok(())
            }
        },
        Seen::Batch(_) => Ok(()),
        Seen::Damage(damage) => {
            out.done.damage.push(damage);
            Ok(())
        }
        Seen::Gone(span) => {
            out.done.let_go.push(span);
            Ok::<(), Error>(())
        }
    })?;
    let last = std::mem::take(&mut out.group);
    out.file.append_last_group(&last)?;
    progress(out.progress);
    out.done.length = out.file.length;
    Ok(out.done)
}

impl Export {
    fn push(&mut self, header: BatchHeader, body: Vec<u8>) {
        self.done.batches += 1;
        self.done.logs += u64::from(header.logs);
        self.progress.batches += 1;
        self.progress.bytes += body.len() as u64;
        self.bytes += body.len();
        let (body_crc, body) = (crc32c::crc32c(&body), Bytes::from(body));
        self.group.push(NewEntry { header: Header::Batch(header), body, body_crc });
    }

    fn end_group(&mut self) -> Result<(), Error> {
        self.file.append_group(&self.group)?;
        self.group.clear();
        self.bytes = 0;
        Ok(())
    }
}

/// `FILE.partial`.
fn partial(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

fn create(path: &Path) -> std::io::Result<Arc<dyn DiskFile>> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = File::options();
    options.read(true).append(true).create_new(true).mode(0o600);
    Ok(Arc::new(options.open(path)?))
}

/// Names the file in an error of its segment.
fn of_file(error: Error, file: &Path) -> Error {
    match error {
        Error::Io { action, path, source } if path == segment::path(ID) => {
            Error::io(action, file, source)
        }
        other => other,
    }
}

/// Gives the whole file its name, which nothing else may have got meanwhile. Durable on return.
fn name(partial: &Path, to: &Path) -> Result<(), PortableError> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, partial, CWD, to, RenameFlags::NOREPLACE) {
        // Not every file system can do this; that there was none was checked.
        Err(Errno::INVAL | Errno::NOSYS) => {
            std::fs::rename(partial, to).map_err(|e| Error::io("name", to, e))?;
        }
        Err(Errno::EXIST) => return Err(PortableError::Exists { path: to.to_owned() }),
        other => other.map_err(|e| Error::io("name", to, e.into()))?,
    }
    let dir = to.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    Ok(synced.map_err(|e| Error::io("sync", dir, e))?)
}
