//! Finding the state of a spool from its segments alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::crash;
use super::disk::{Disk, DiskFile};
use super::entry::Seq;
use super::error::Error;
use super::scan::{Bodies, Found, Piece, Scan, scan};
use super::segment;
use super::state::State;

/// Where bytes go that could not be read back.
pub(crate) const QUARANTINE: &str = "quarantine";

/// Bytes of a segment that were durable once and do not check any more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Damage {
    /// Segment id.
    pub segment: u64,
    /// First damaged byte.
    pub from: u64,
    /// One past the last damaged byte; for a missing segment, its proven length.
    pub to: u64,
    /// Batches that may be lost: from this one …
    pub first_seq: Seq,
    /// … to before this one.
    pub end_seq: Seq,
}

/// What [`recover`] found.
pub(crate) struct Recovered {
    pub(crate) state: State,
    /// Highest segment id ever seen.
    pub(crate) highest: u64,
    /// Damage in the newest segments, and missing files.
    pub(crate) damage: Vec<Damage>,
    /// Bytes of unfinished writes behind the last whole group.
    pub(crate) cut: u64,
    /// Segments that never held anything acknowledged.
    unfinished: Vec<u64>,
    /// Segments whose groups were read rather than known from a snapshot, with the part of
    /// them that nothing says was durable.
    read: Vec<(u64, std::ops::Range<u64>)>,
    /// The segment to cut, and where.
    tail: Option<(u64, u64)>,
}

/// Reads the segments below `disk` and changes nothing.
pub(crate) fn recover(disk: &dyn Disk, bodies: Bodies) -> Result<Recovered, Error> {
    let names =
        disk.list(Path::new(segment::DIR)).map_err(|e| Error::io("list", segment::DIR, e))?;
    let mut ids: Vec<u64> = names.iter().filter_map(|name| segment::id_of(name)).collect();
    ids.sort_unstable();
    let mut found = Recovered {
        state: State::default(),
        highest: ids.last().copied().unwrap_or(0),
        damage: Vec::new(),
        cut: 0,
        unfinished: Vec::new(),
        read: Vec::new(),
        tail: None,
    };
    // Newest first, down to the one whose snapshot is whole.
    let mut scans: Vec<(u64, Scan)> = Vec::new();
    for &id in ids.iter().rev() {
        let path = segment::path(id);
        let scan = open(disk, id).and_then(|file| {
            scan(file.as_ref(), id, None, bodies).map_err(|e| Error::io("read", &path, e))
        })?;
        if scan.newer {
            return Err(Error::NewerFormat { path });
        }
        let based = scan.has_snapshot();
        scans.push((id, scan));
        if based {
            break;
        }
    }
    for (id, scan) in scans.into_iter().rev() {
        if scan.pieces.is_empty() {
            found.unfinished.push(id);
            continue;
        }
        if !scan.has_snapshot() {
            // Its snapshot is damaged: what follows still applies to the state so far.
            let state = &mut found.state;
            let info = super::state::SegmentInfo::beginning(state);
            state.segments.entry(id).or_insert(info);
        }
        found.read.push((id, scan.proven..scan.end));
        found.fold(id, &scan);
    }
    let floor = found.state.floor;
    for (&id, info) in &found.state.segments {
        if id >= floor && ids.binary_search(&id).is_err() {
            let (first_seq, end_seq) = (info.first_seq, info.end_seq);
            found.damage.push(Damage { segment: id, from: 0, to: info.length, first_seq, end_seq });
        }
    }
    found.state.raise_past_acks();
    Ok(found)
}

impl Recovered {
    fn fold(&mut self, id: u64, scan: &Scan) {
        let first_damage = self.damage.len();
        for piece in &scan.pieces {
            match piece {
                Piece::Group(entries) => self.apply(id, entries),
                Piece::Damage { from, to, entries } => {
                    let first_seq = self.state.next_seq;
                    self.apply(id, entries);
                    let (from, to, end_seq) = (*from, *to, first_seq);
                    self.damage.push(Damage { segment: id, from, to, first_seq, end_seq });
                }
            }
        }
        // What follows tells which numbers lie in the damage: the next batch, or the end.
        let batches = scan.pieces.iter().flat_map(Piece::entries).filter_map(Found::batch);
        let batches: Vec<Seq> = batches.collect();
        let end = self.state.next_seq;
        for damage in &mut self.damage[first_damage..] {
            let first = damage.first_seq;
            let missing = (first..end).find(|seq| batches.binary_search(seq).is_err());
            let behind = missing.map(|m| batches.iter().copied().find(|seq| *seq > m));
            if let (Some(missing), Some(behind)) = (missing, behind) {
                (damage.first_seq, damage.end_seq) = (missing, behind.unwrap_or(end));
            }
        }
        if let Some(info) = self.state.segments.get_mut(&id) {
            info.length = scan.end;
            if self.damage.len() > first_damage {
                // The last batch in it may be one that does not check.
                (info.end_seq, info.end_log) = (end, self.state.next_log);
            }
        }
        self.cut += scan.length - scan.end;
        if scan.length > scan.end {
            self.tail = Some((id, scan.end));
        }
    }

    fn apply(&mut self, id: u64, entries: &[Found]) {
        for entry in entries {
            self.state.apply(id, &entry.header);
        }
    }

    /// Makes the files agree with what was found: cuts the unfinished tail, sets aside
    /// segments that never held anything, removes what lies below the floor.
    pub(crate) fn settle(&self, disk: &dyn Disk) -> Result<(), Error> {
        for (id, unproven) in &self.read {
            let path = segment::path(*id);
            let file = disk.open(&path, true).map_err(|e| Error::io("open", &path, e))?;
            if let Some((_, end)) = self.tail.filter(|(tail, _)| tail == id) {
                file.truncate(end).map_err(|e| Error::io("cut", &path, e))?;
                crash::point("recovery-cut");
            }
            file.sync().map_err(|e| Error::io("sync", &path, e))?;
            // A killed process leaves whole groups that only the page cache has, perhaps as
            // pages that a failed sync has called clean. The next snapshot builds on them, so
            // they must be durable before it is.
            disk.write_again(&path, unproven.start, unproven.end)
                .map_err(|e| Error::io("write", &path, e))?;
            crash::point("recovery-synced");
        }
        for &id in &self.unfinished {
            let path = segment::path(id);
            let empty = open(disk, id)?.is_empty().map_err(|e| Error::io("read", &path, e))?;
            let moved =
                if empty { disk.remove(&path) } else { disk.rename(&path, &set_aside_path(id, 0)) };
            moved.map_err(|e| Error::io("set aside", &path, e))?;
            crash::point("recovery-aside");
        }
        let names =
            disk.list(Path::new(segment::DIR)).map_err(|e| Error::io("list", segment::DIR, e))?;
        for id in names.iter().filter_map(|name| segment::id_of(name)) {
            if id < self.state.floor {
                let path = segment::path(id);
                disk.remove(&path).map_err(|e| Error::io("remove", &path, e))?;
                crash::point("recovery-removed");
            }
        }
        for dir in [segment::DIR, QUARANTINE] {
            disk.sync_dir(Path::new(dir)).map_err(|e| Error::io("sync", dir, e))?;
        }
        Ok(())
    }
}

/// Where the bytes at `offset` of a segment are kept once they are set aside.
pub(crate) fn set_aside_path(segment: u64, offset: u64) -> PathBuf {
    Path::new(QUARANTINE).join(format!("{segment:016x}-{offset}.bin"))
}

fn open(disk: &dyn Disk, id: u64) -> Result<Arc<dyn DiskFile>, Error> {
    let path = segment::path(id);
    disk.open(&path, false).map_err(|e| Error::io("open", &path, e))
}
