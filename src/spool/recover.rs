//! Finding the state of a spool from its segments alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::catalog::CatalogEntry;
use super::crash;
use super::disk::{Disk, DiskFile};
use super::entry::Seq;
use super::error::Error;
use super::lost::{Known, Lost, survey};
use super::scan::{Bodies, Found, Piece, Scan, scan};
use super::segment;
use super::spans::Span;
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
    /// Batches that are lost: all in [`Self::lost`] lie from this one on …
    pub first_seq: Seq,
    /// … and before this one. Equal to it where none is lost.
    pub end_seq: Seq,
    /// Every destination was past all of it: nothing was still needed.
    pub harmless: bool,
    /// What lay there: every lost number lies in the span of one of these, where anything
    /// tells the shard.
    pub lost: Vec<Lost>,
}

/// What [`recover`] found.
pub(crate) struct Recovered {
    pub(crate) state: State,
    /// Highest segment id ever seen.
    pub(crate) highest: u64,
    /// Damage in the newest segments, and missing files; [`Self::name`] says what lay in it.
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
            let to = info.length;
            found.damage.push(Damage::unnamed(id, (0, to), (first_seq, end_seq)));
        }
    }
    found.state.raise_past_acks();
    Ok(found)
}

impl std::fmt::Display for Damage {
    /// What is lost, in words.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.harmless {
            return f.write_str("nothing that was still needed is lost");
        }
        f.write_str("lost: ")?;
        if self.lost.is_empty() {
            let (first, end) = (self.first_seq, self.end_seq);
            write!(f, "batches {}, of shards that nothing tells any more", Span { first, end })?;
        }
        for (index, lost) in self.lost.iter().filter(|lost| !lost.delivered).enumerate() {
            write!(f, "{}{lost}", if index > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

impl Damage {
    /// A damaged place of which is not known yet what lay in it.
    pub(crate) fn unnamed(segment: u64, (from, to): (u64, u64), seqs: (Seq, Seq)) -> Self {
        let (first_seq, end_seq) = seqs;
        Self { segment, from, to, first_seq, end_seq, harmless: false, lost: Vec::new() }
    }

    /// A place that held one batch.
    pub(crate) fn one(segment: u64, (from, to): (u64, u64), lost: Lost) -> Self {
        let (Span { first, end }, harmless) = (lost.span, lost.delivered);
        Self { segment, from, to, first_seq: first, end_seq: end, harmless, lost: vec![lost] }
    }
}

impl Recovered {
    /// Says what lay in the damaged places. `next_seq` and the rest of what a catalog tells
    /// count as seen: it only knows what was durable.
    pub(crate) fn name(
        &mut self,
        disk: &dyn Disk,
        last: Option<&CatalogEntry>,
        known: Known<'_>,
    ) -> Result<(), Error> {
        let mut damaged: BTreeSet<u64> = self.damage.iter().map(|damage| damage.segment).collect();
        if let Some(last) = last.filter(|last| last.header.seq >= self.state.next_seq) {
            // The newest segment has lost its end. Neither numbers nor ids are used again.
            self.state.next_seq = last.header.seq + 1;
            self.state.next_log = self.state.next_log.max(last.header.end_log());
            self.highest = self.highest.max(last.segment);
        }
        if let Some((&id, newest)) = self.state.segments.iter().next_back()
            && newest.end_seq < self.state.next_seq
        {
            damaged.insert(id);
        }
        if damaged.is_empty() {
            return Ok(());
        }
        let mut named = Vec::new();
        for id in damaged {
            let places = survey(disk, id, &self.state, known)?;
            named.extend(places.into_iter().map(|place| place.damage));
        }
        self.damage = named;
        Ok(())
    }

    fn fold(&mut self, id: u64, scan: &Scan) {
        let first_damage = self.damage.len();
        for piece in &scan.pieces {
            match piece {
                Piece::Group(entries) => self.apply(id, entries),
                Piece::Damage { from, to, entries } => {
                    let first_seq = self.state.next_seq;
                    self.apply(id, entries);
                    self.damage.push(Damage::unnamed(id, (*from, *to), (first_seq, first_seq)));
                }
            }
        }
        if let Some(info) = self.state.segments.get_mut(&id) {
            info.length = scan.end;
            if self.damage.len() > first_damage {
                // The last batch in it may be one that does not check.
                (info.end_seq, info.end_log) = (self.state.next_seq, self.state.next_log);
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
