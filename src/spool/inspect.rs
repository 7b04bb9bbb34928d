//! Looking into a spool without changing it: segments only, never the catalog.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::catalog::Catalog;
use super::counting::CountingDisk;
use super::disk::{Disk, DiskFile, OsDisk};
use super::entry::Seq;
use super::error::Error;
use super::headers::SegmentHeaders;
pub use super::headers::{Headers, Met, Stored};
use super::keys::{self, Keys};
use super::ledger;
use super::lost::survey;
use super::reader::Reader;
use super::recover::{Damage, QUARANTINE, recover};
use super::scan::Bodies;
use super::shared::Shared;
use super::state::{SegmentInfo, State};
pub use super::verify::Verified;
use super::{Spool, segment};

/// A spool at one moment: that of a directory, as its segments tell it, or that of the spool
/// this process has open. What becomes durable later is not part of it; see [`Self::newer`].
pub struct Inspection {
    shared: Arc<Shared>,
    live: Option<Spool>,
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    read: Arc<AtomicU64>,
    state: State,
    /// Damage in the newest segments, and missing files. Of an open spool nothing is known here:
    /// what it found when it was opened is in its ledger.
    pub damage: Vec<Damage>,
    /// Bytes behind the last whole group.
    pub unfinished_bytes: u64,
    /// Bytes allocated by everything in the directory.
    pub used_bytes: u64,
    /// The quota in bytes, of an open spool.
    pub max_bytes: Option<u64>,
    /// The failure of the disk that still stands, of an open spool.
    pub last_error: Option<String>,
}

impl Inspection {
    /// Reads the state of the spool in `dir`.
    ///
    /// # Errors
    /// [`Error::Io`] where there is no spool or it cannot be read.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Self::with_keys(dir, Keys::default())
    }

    /// The same with what the bodies of an encrypted spool are read with. Without the key of a
    /// body everything but that body can be read.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn with_keys(dir: &Path, keys: Keys) -> Result<Self, Error> {
        Self::open_counting(dir, Arc::default(), keys)
    }

    fn open_counting(dir: &Path, read: Arc<AtomicU64>, keys: Keys) -> Result<Self, Error> {
        let files = OsDisk::new(dir);
        let used_bytes = files.used_beside(Path::new("-"));
        let disk: Arc<dyn Disk> = Arc::new(CountingDisk::new(Arc::new(files), Arc::clone(&read)));
        let mut found = recover(disk.as_ref(), Bodies::Last).map_err(|error| match error {
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Error::io("find a spool in", dir, source)
            }
            other => other,
        })?;
        found.name(disk.as_ref(), None, &|_| Vec::new())?;
        let (damage, unfinished_bytes, state) = (found.damage, found.cut, found.state);
        let shared = Shared::new(
            Arc::clone(&disk),
            Catalog::none(),
            state.clone(),
            found.highest,
            Arc::default(),
            keys,
        );
        Ok(Self {
            shared: Arc::new(shared),
            live: None,
            dir: dir.to_owned(),
            disk,
            read,
            state,
            damage,
            unfinished_bytes,
            used_bytes,
            max_bytes: None,
            last_error: None,
        })
    }

    fn of_open(spool: &Spool, read: Arc<AtomicU64>) -> Self {
        let status = spool.status();
        let disk = CountingDisk::new(spool.shared.disk_handle(), Arc::clone(&read));
        Self {
            shared: Arc::clone(&spool.shared),
            live: Some(spool.clone()),
            dir: spool.dir.clone(),
            disk: Arc::new(disk),
            read,
            state: status.state,
            damage: Vec::new(),
            unfinished_bytes: 0,
            used_bytes: status.used_bytes,
            max_bytes: Some(status.max_bytes),
            last_error: status.last_error,
        }
    }

    /// The same spool as it is now. Bytes read go on being counted.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn newer(&self) -> Result<Self, Error> {
        let read = Arc::clone(&self.read);
        match &self.live {
            Some(spool) => Ok(Self::of_open(spool, read)),
            None => Self::open_counting(&self.dir, read, self.shared.keys.clone()),
        }
    }

    /// Blocks until [`Self::newer`] may show more batches, `longest` at most; whether it may.
    /// A directory tells nothing: after `longest` it has to be opened again.
    pub fn wait(&self, longest: Duration) -> bool {
        match &self.live {
            Some(spool) => super::wait::changed(&mut spool.durable(), self.state.next_seq, longest),
            None => {
                std::thread::sleep(longest);
                true
            }
        }
    }

    /// Whether this is the spool that this process has open.
    pub fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// The spool directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Bytes read from files since this was opened, by it and those newer.
    pub fn read_bytes(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Positions, segments, numbers.
    pub fn state(&self) -> State {
        self.state.clone()
    }

    /// Reads batches from `seq` on.
    pub fn reader(&self, seq: Seq) -> Reader {
        Reader::new(Arc::clone(&self.shared), seq)
    }

    /// The segments, oldest first, with the times and numbers of what they hold.
    pub fn segments(&self) -> impl Iterator<Item = (u64, SegmentInfo)> + use<'_> {
        self.state.segments.iter().map(|(id, info)| (*id, *info))
    }

    /// The batches from `from` to before `to` without their bodies, and damage among them.
    /// Segments that are not `wanted` are passed over unread.
    pub fn headers(
        &self,
        from: Seq,
        to: Seq,
        mut wanted: impl FnMut(&SegmentInfo) -> bool,
    ) -> Headers<'_> {
        let overlaps = |info: &SegmentInfo| info.end_seq > from && info.first_seq < to;
        let chosen = self.segments().filter(|(_, info)| overlaps(info) && wanted(info));
        Headers::new(self, chosen.collect(), from..to)
    }

    /// Batch `seq`, the damage in which it lay, or nothing where the spool holds neither.
    ///
    /// # Errors
    /// [`Error::Io`] where a segment cannot be read.
    pub fn batch(&self, seq: Seq) -> Result<Option<Met>, Error> {
        self.headers(seq, seq.saturating_add(1), |_| true).next().transpose()
    }

    /// The lines of the ledger, oldest first.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read.
    pub fn ledger(&self) -> Result<Vec<serde_json::Value>, Error> {
        ledger::read(&self.dir)
    }

    /// Names and lengths of the files in the quarantine, in the order of their names.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read.
    pub fn quarantine(&self) -> Result<Vec<(String, u64)>, Error> {
        let names = match self.disk.list(Path::new(QUARANTINE)) {
            Ok(names) => names,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::io("list", QUARANTINE, error)),
        };
        let mut files = Vec::new();
        // What an interrupted copy left is no copy.
        for name in names.into_iter().filter(|name| !name.ends_with(".partial")) {
            let length = self.quarantined(&name)?.len();
            files.push((name.clone(), length.map_err(|e| Error::io("read", name, e))?));
        }
        files.sort();
        Ok(files)
    }

    /// A file in the quarantine. `name` must be one that [`Self::quarantine`] gives.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be opened.
    pub fn quarantined(&self, name: &str) -> Result<Arc<dyn DiskFile>, Error> {
        let path = Path::new(QUARANTINE).join(name);
        self.disk.open(&path, false).map_err(|e| Error::io("open", path, e))
    }

    /// The copy of that name as it was before it was encrypted; none where it is in the clear,
    /// as copies of damaged bytes always are. `name` must be one that [`Self::quarantine`] gives.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::KeyMissing`], and [`Error::Sealed`] where somebody changed it.
    pub fn decrypted(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let file = self.quarantined(name)?;
        let fail = |e| Error::io("read", Path::new(QUARANTINE).join(name), e);
        let length = usize::try_from(file.len().map_err(fail)?).unwrap_or(usize::MAX);
        let mut copy = vec![0; length.min(keys::COPY_HEADER)];
        let read = file.read_at(&mut copy, 0).map_err(fail)?;
        if !keys::is_sealed(&copy[..read]) || length > keys::LARGEST_COPY {
            return Ok(None);
        }
        copy.resize(length, 0);
        let read = file.read_at(&mut copy, 0).map_err(fail)?;
        copy.truncate(read);
        self.shared.keys.open_copy(name, copy).map(Some)
    }

    /// The batches of one segment. The only place that decides how they are found.
    pub(crate) fn headers_of(
        &self,
        id: u64,
        info: &SegmentInfo,
    ) -> Result<Segment<SegmentHeaders>, Error> {
        Ok(match self.segment(id, info)? {
            Segment::There(file) => {
                let (needed, keys) = (self.state.oldest_needed(), self.shared.keys.clone());
                Segment::There(SegmentHeaders::new(file, id, *info, needed, keys)?)
            }
            Segment::Missing(damage) => Segment::Missing(damage),
            Segment::Removed => Segment::Removed,
        })
    }

    /// Names what is damaged in segment `id`, reading all of it.
    pub(crate) fn survey(&self, id: u64) -> Result<Vec<Damage>, Error> {
        let known = |span| self.shared.catalog().range(span);
        let places = survey(self.disk.as_ref(), id, &self.state, &known)?;
        Ok(places.into_iter().map(|place| place.damage).collect())
    }

    pub(crate) fn segment(
        &self,
        id: u64,
        info: &SegmentInfo,
    ) -> Result<Segment<Arc<dyn DiskFile>>, Error> {
        let path = segment::path(id);
        match self.disk.open(&path, false) {
            Ok(file) => Ok(Segment::There(file)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let missing = match &self.live {
                    Some(_) => self.shared.lock().state.segments.contains_key(&id),
                    None => self.damage.iter().any(|damage| damage.segment == id),
                };
                let known = self.damage.iter().find(|damage| damage.segment == id).cloned();
                let seqs = (info.first_seq, info.end_seq);
                let damage = known.unwrap_or_else(|| Damage::unnamed(id, (0, info.length), seqs));
                Ok(if missing { Segment::Missing(damage) } else { Segment::Removed })
            }
            Err(error) => Err(Error::io("open", path, error)),
        }
    }
}

/// A segment when it is opened.
pub(crate) enum Segment<T> {
    There(T),
    /// It should be there.
    Missing(Damage),
    /// The spool has removed it since: everything in it is delivered.
    Removed,
}

impl Spool {
    /// The spool as it is now, to look into. Never past what is durable.
    pub fn inspection(&self) -> Inspection {
        Inspection::of_open(self, Arc::default())
    }
}
