//! Reading batches in order, for one destination.

use std::collections::VecDeque;
use std::sync::Arc;

use super::disk::DiskFile;
use super::entry::{BatchHeader, Header, Seq};
use super::error::Error;
use super::format::{FILE_HEADER, GROUP_HEADER, GROUP_TRAILER, GroupHeader, GroupTrailer};
use super::recover::Damage;
use super::scan::{
    Bodies, EntryAt, Found, next_group, read_body, read_entry, salvage, whole_group,
};
use super::segment;
use super::shared::Shared;

/// A batch as it lies in the spool.
#[derive(Clone, Debug)]
pub struct StoredBatch {
    /// What the spool knows of it.
    pub header: BatchHeader,
    /// The body exactly as SLS sent it.
    pub body: Vec<u8>,
}

/// What [`Reader::read`] comes upon.
#[derive(Debug)]
pub enum Item {
    /// The next batch.
    Batch(Box<StoredBatch>),
    /// Bytes that do not check any more. The batches in them that do follow.
    Damage(Damage),
}

/// Reads forward from a batch, never past what is durable. Calls block on the disk.
pub struct Reader {
    shared: Arc<Shared>,
    /// Reads for a destination: stops in front of held batches, leaves dropped ones out.
    delivers: bool,
    next: Seq,
    segment: u64,
    file: Option<Arc<dyn DiskFile>>,
    offset: u64,
    incarnation: u64,
    salvaged: VecDeque<Found>,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, from: Seq) -> Self {
        Self {
            shared,
            delivers: false,
            next: from,
            segment: 0,
            file: None,
            offset: 0,
            incarnation: 0,
            salvaged: VecDeque::new(),
        }
    }

    /// A reader for a destination.
    pub(crate) fn delivering(shared: Arc<Shared>, from: Seq) -> Self {
        Self { delivers: true, ..Self::new(shared, from) }
    }

    /// Number of the batch this reader gives next, at the earliest.
    pub fn position(&self) -> Seq {
        self.next
    }

    /// Goes back, or forward, to batch `seq`.
    pub fn seek(&mut self, seq: Seq) {
        *self = Self { delivers: self.delivers, ..Self::new(Arc::clone(&self.shared), seq) };
    }

    /// Closes the segment that was read last. An open file keeps its disk space even when the
    /// spool has removed it: call this before a longer wait.
    pub fn release(&mut self) {
        self.file = None;
        self.salvaged.clear();
    }

    /// The next batch, or `None` where nothing more is durable, or may be delivered yet.
    ///
    /// # Errors
    /// [`Error::Io`] where the disk does not answer: that is not damage, and the next call
    /// tries the same again. [`Error::NewerFormat`], [`Error::KeyMissing`].
    pub fn read(&mut self) -> Result<Option<Item>, Error> {
        loop {
            if self.delivers {
                let Some(next) = self.shared.take(self.next) else { return Ok(None) };
                self.next = next;
            }
            let (durable, limit, following) = self.bounds();
            if self.next >= durable {
                return Ok(None);
            }
            let Some(limit) = limit else {
                // This segment is gone or none was opened yet: take the one that holds `next`.
                if self.locate() {
                    continue;
                }
                let Some(id) = self.shared.lock().state.segment_of(self.next) else {
                    return Ok(None);
                };
                match self.open(id)? {
                    None => continue,
                    damage => return Ok(damage),
                }
            };
            if let Some(found) = self.salvaged.front().cloned() {
                let item = self.take(&found)?;
                self.salvaged.pop_front();
                if item.is_some() {
                    return Ok(item);
                }
                if let Some(first_seq) = self.due(&found) {
                    // It did check when it was salvaged.
                    let (segment, from, to) = (self.segment, found.offset, found.end());
                    let end_seq = first_seq + 1;
                    let damage = Damage { segment, from, to, first_seq, end_seq };
                    return Ok(Some(Item::Damage(damage)));
                }
                continue;
            }
            if self.offset >= limit {
                let Some(id) = following else {
                    // Everything durable was read; what is missing was damage.
                    self.next = durable;
                    return Ok(None);
                };
                match self.open(id)? {
                    None => continue,
                    damage => return Ok(damage),
                }
            }
            if let Some(item) = self.step(limit)? {
                return Ok(Some(item));
            }
        }
    }

    /// Goes straight to the batch that is due, where the catalog knows it.
    fn locate(&mut self) -> bool {
        let Some(entry) = self.shared.catalog().get(self.next) else { return false };
        let Ok(file) = self.shared.disk().open(&segment::path(entry.segment), false) else {
            return false;
        };
        let Ok(EntryAt::Valid { found, .. }) =
            read_entry(file.as_ref(), entry.incarnation, entry.offset, u64::MAX)
        else {
            return false;
        };
        if !matches!(&found.header, Header::Batch(header) if header.seq == self.next) {
            return false;
        }
        self.segment = entry.segment;
        self.incarnation = entry.incarnation;
        self.offset = entry.offset;
        self.file = Some(file);
        true
    }

    /// The durable end, the proven length of the open segment, and the segment after it.
    fn bounds(&self) -> (Seq, Option<u64>, Option<u64>) {
        let inner = self.shared.lock();
        let state = &inner.state;
        let info = self.file.as_ref().and_then(|_| state.segments.get(&self.segment));
        let following = state.segments.range(self.segment + 1..).next().map(|(id, _)| *id);
        (state.next_seq, info.map(|info| info.length), following)
    }

    /// Goes to the beginning of a segment. One that is gone is damage; a disk that does not
    /// answer, or a process with too many open files, is not.
    fn open(&mut self, id: u64) -> Result<Option<Item>, Error> {
        let path = segment::path(id);
        let file = match self.shared.disk().open(&path, false) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::io("open", path, error)),
        };
        let info = self.shared.lock().state.segments.get(&id).copied();
        // It was passed by every destination and removed a moment ago.
        let Some(info) = info else { return Ok(None) };
        self.segment = id;
        self.offset = FILE_HEADER as u64;
        // A segment has one incarnation. Anything else in it is what someone put in a log.
        self.incarnation = 0;
        self.salvaged.clear();
        self.file = file;
        if self.file.is_some() {
            return Ok(None);
        }
        tracing::error!(code = "spool.damage", segment = id, "a segment of the spool is gone");
        let first_seq = self.next.max(info.first_seq);
        let end_seq = info.end_seq.max(first_seq);
        self.next = end_seq;
        Ok(Some(Item::Damage(Damage { segment: id, from: 0, to: info.length, first_seq, end_seq })))
    }

    /// Moves over one frame of the segment.
    fn step(&mut self, limit: u64) -> Result<Option<Item>, Error> {
        let Some(file) = self.file.clone() else { return Ok(None) };
        let fail = |e| Error::io("read", segment::path(self.segment), e);
        let mut front = [0; GROUP_HEADER];
        let read = file.read_at(&mut front, self.offset).map_err(fail)?;
        let front = &front[..read];
        let ours = |group: &GroupHeader| {
            group.segment == self.segment
                && (self.incarnation == 0 || group.incarnation == self.incarnation)
        };
        if let Some(group) = GroupHeader::parse(front).filter(ours) {
            self.incarnation = group.incarnation;
            self.offset += GROUP_HEADER as u64;
            return Ok(None);
        }
        if GroupTrailer::parse(front).is_some() {
            self.offset += GROUP_TRAILER as u64;
            return Ok(None);
        }
        match read_entry(file.as_ref(), self.incarnation, self.offset, limit).map_err(fail)? {
            EntryAt::Valid { found, .. } => match self.take(&found)? {
                None if self.due(&found).is_some() => {
                    self.resync(file.as_ref(), found.offset, limit)
                }
                item => {
                    self.offset = found.end();
                    Ok(item)
                }
            },
            EntryAt::Newer => Err(Error::NewerFormat { path: segment::path(self.segment) }),
            EntryAt::Nothing => self.resync(file.as_ref(), self.offset, limit),
        }
    }

    /// Reads a batch that is due; `None` for anything else, and for a body that does not check.
    fn take(&mut self, found: &Found) -> Result<Option<Item>, Error> {
        let Header::Batch(header) = &found.header else { return Ok(None) };
        if header.seq < self.next {
            return Ok(None);
        }
        let Some(file) = &self.file else { return Ok(None) };
        let fail = |e| Error::io("read", segment::path(self.segment), e);
        let Some(body) = read_body(file.as_ref(), found).map_err(fail)? else { return Ok(None) };
        let opened = self.shared.keys.open(header, body)?;
        self.next = header.seq + 1;
        let header = header.clone();
        Ok(Some(match opened {
            Some(body) => Item::Batch(Box::new(StoredBatch { header, body })),
            // The checksum is right and the tag is not: somebody changed it.
            None => Item::Damage(Damage {
                segment: self.segment,
                from: found.offset,
                to: found.end(),
                first_seq: header.seq,
                end_seq: header.seq + 1,
            }),
        }))
    }

    /// Skips to the next whole group, keeping the entries on the way that check.
    fn resync(
        &mut self,
        file: &dyn DiskFile,
        from: u64,
        limit: u64,
    ) -> Result<Option<Item>, Error> {
        let fail = |e| Error::io("read", segment::path(self.segment), e);
        let known = (self.incarnation != 0).then_some(self.incarnation);
        let next = next_group(file, self.segment, known, from + 1, limit).map_err(fail)?;
        let (to, incarnation) =
            next.map_or((limit, self.incarnation), |(offset, group)| (offset, group.incarnation));
        let salvaged = salvage(file, incarnation, from, to).map_err(fail)?;
        let behind = self.batch_behind(file, incarnation, to, limit).map_err(fail)?;
        let (first_seq, end_seq) = self.missing(&salvaged, behind);
        // Nothing is changed before all of it was read: a call that fails is made again.
        self.incarnation = incarnation;
        self.salvaged = salvaged.into();
        self.offset = to;
        Ok(Some(Item::Damage(Damage { segment: self.segment, from, to, first_seq, end_seq })))
    }

    /// The first batch that is due in the whole groups from `at` on, or the one that the next
    /// segment begins with.
    fn batch_behind(
        &self,
        file: &dyn DiskFile,
        incarnation: u64,
        mut at: u64,
        limit: u64,
    ) -> std::io::Result<Seq> {
        while let Some((start, _)) = next_group(file, self.segment, Some(incarnation), at, limit)? {
            let group = whole_group(file, self.segment, start, limit, Bodies::All, &mut false)?;
            let Some((_, entries, end)) = group else { break };
            if let Some(seq) = entries.iter().find_map(|found| self.due(found)) {
                return Ok(seq);
            }
            at = end;
        }
        let info = self.shared.lock().state.segments.get(&self.segment).copied();
        Ok(info.map_or(self.next, |info| info.end_seq.max(self.next)))
    }

    /// The range of the numbers between the next one and `behind` that were not salvaged.
    fn missing(&self, salvaged: &[Found], behind: Seq) -> (Seq, Seq) {
        let mut expected = self.next;
        let mut missing: Option<(Seq, Seq)> = None;
        for seq in salvaged.iter().filter_map(|found| self.due(found)).chain([behind]) {
            if seq > expected {
                missing = Some((missing.map_or(expected, |(first, _)| first), seq));
            }
            expected = expected.max(seq + 1);
        }
        missing.unwrap_or((self.next, self.next))
    }

    fn due(&self, found: &Found) -> Option<Seq> {
        match &found.header {
            Header::Batch(header) if header.seq >= self.next => Some(header.seq),
            _ => None,
        }
    }
}
