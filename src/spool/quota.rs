//! What the spool may take of the disk: a quota over everything it allocated, a floor under
//! the free space of the file system, and a reserve that keeps positions writable when the
//! disk is full.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::crash;
use super::disk::Disk;
use super::error::Error;
use super::segment::{self, Segment};

/// Smallest quota: a few segments, the reserve, and the catalog.
pub const MIN_QUOTA: u64 = 16 << 20;
const MIN_SEGMENT: u64 = 1 << 20;
const MAX_SEGMENT: u64 = 64 << 20;
const RESERVE: &str = "reserve";
const RESERVE_BYTES: u64 = 1 << 20;
/// Left for journals while the spool is full.
const SLACK: u64 = 512 << 10;
const MEASURE_EVERY: Duration = Duration::from_secs(2);

/// The limits, and what is used of them.
pub(crate) struct Quota {
    max_bytes: u64,
    min_free_bytes: u64,
    sealed: HashMap<u64, u64>,
    used: Arc<AtomicU64>,
    measured: Option<Instant>,
    extra: u64,
    full: bool,
}

impl Quota {
    /// Checks the limits.
    pub(crate) fn new(
        max_bytes: u64,
        min_free_bytes: u64,
        used: Arc<AtomicU64>,
    ) -> Result<Self, Error> {
        if max_bytes < MIN_QUOTA {
            return Err(Error::QuotaTooSmall { given: max_bytes, minimum: MIN_QUOTA });
        }
        Ok(Self {
            max_bytes,
            min_free_bytes,
            sealed: HashMap::new(),
            used,
            measured: None,
            extra: 0,
            full: false,
        })
    }

    /// Size at which a segment is closed.
    pub(crate) fn segment_bytes(&self) -> u64 {
        (self.max_bytes / 16).clamp(MIN_SEGMENT, MAX_SEGMENT)
    }

    /// Whether a body of `body` bytes may be stored behind `pending` accepted ones.
    pub(crate) fn admit(&self, disk: &dyn Disk, pending: u64, body: u64) -> Result<(), Error> {
        let needed = pending + body + SLACK;
        let used = self.used.load(Ordering::Relaxed);
        if used + needed > self.max_bytes {
            let detail = format!("{used} of {} bytes used", self.max_bytes);
            return Err(Error::Full { needed: body, detail });
        }
        let free = disk.free_bytes().unwrap_or(u64::MAX);
        if free < self.min_free_bytes.saturating_add(needed) {
            let detail = format!(
                "{free} bytes free on the file system, {} to be kept free",
                self.min_free_bytes
            );
            return Err(Error::Full { needed: body, detail });
        }
        Ok(())
    }

    /// Measures what is allocated; true when there is room again after there was none.
    pub(crate) fn refresh(
        &mut self,
        disk: &dyn Disk,
        open: Option<&Segment>,
        segments: &[u64],
    ) -> bool {
        if self.measured.is_none_or(|at| at.elapsed() >= MEASURE_EVERY) {
            self.measured = Some(Instant::now());
            self.extra = disk.used_beside(Path::new(segment::DIR));
            self.restore_reserve(disk);
        }
        let open_id = open.map(|open| open.id);
        self.sealed.retain(|id, _| segments.binary_search(id).is_ok());
        let mut used = self.extra + open.map_or(0, Segment::allocated);
        for id in segments.iter().filter(|id| Some(**id) != open_id) {
            let known = self.sealed.get(id).copied();
            used += known.unwrap_or_else(|| {
                let file = disk.open(&segment::path(*id), false);
                match file.and_then(|file| file.allocated()) {
                    Ok(bytes) => {
                        self.sealed.insert(*id, bytes);
                        bytes
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
                    // Rather too much than too little, until the disk answers.
                    Err(_) => self.segment_bytes(),
                }
            });
        }
        self.used.store(used, Ordering::Relaxed);
        let full = self.admit(disk, 0, MIN_SEGMENT).is_err();
        let was_full = std::mem::replace(&mut self.full, full);
        was_full && !full
    }

    /// Counts what was just written, until it is measured.
    pub(crate) fn wrote(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Forgets measurements after files were removed.
    pub(crate) fn stale(&mut self) {
        self.measured = None;
    }

    /// Runs `act`; on a full disk once more after giving the reserve up.
    pub(crate) fn with_reserve<T>(
        &mut self,
        disk: &dyn Disk,
        act: impl Fn(&dyn Disk) -> Result<T, Error>,
    ) -> Result<T, Error> {
        match act(disk) {
            Err(Error::Io { source, path, .. })
                if matches!(
                    source.kind(),
                    std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
                ) =>
            {
                // What the failed attempt left in its own new file goes first.
                let _ = disk.remove(&path);
                self.give_reserve_up(disk);
                act(disk)
            }
            other => other,
        }
    }

    /// Makes the room of the reserve free, until there is enough for it again.
    pub(crate) fn give_reserve_up(&mut self, disk: &dyn Disk) {
        let _ = disk.remove(Path::new(RESERVE));
        crash::point("reserve-given-up");
        self.stale();
    }

    fn restore_reserve(&self, disk: &dyn Disk) {
        let free = disk.free_bytes().unwrap_or(0);
        if free < self.min_free_bytes.saturating_add(4 * RESERVE_BYTES) {
            return;
        }
        let path = Path::new(RESERVE);
        // A crash between these calls leaves one that holds nothing.
        let file = match disk.open(path, true) {
            Ok(file) if file.allocated().is_ok_and(|bytes| bytes >= RESERVE_BYTES) => return,
            Ok(file) => Ok(file),
            Err(_) => disk.create(path),
        };
        if let Ok(file) = file
            && file.allocate(RESERVE_BYTES).is_err()
        {
            let _ = disk.remove(path);
        }
    }
}
