//! Reading batches in order, for one destination.

use std::collections::VecDeque;
use std::sync::Arc;

use super::disk::DiskFile;
use super::entry::{BatchHeader, Header, Seq};
use super::error::Error;
use super::format::{FILE_HEADER, GROUP_HEADER, GROUP_TRAILER, GroupHeader, GroupTrailer};
use super::recover::Damage;
use super::scan::{EntryAt, Found, next_group, read_body, read_entry, salvage};
use super::segment;
use super::shared::Shared;

/// A batch as it lies in the spool.
#[derive(Clone, Debug)]
pub struct StoredBatch {
    /// What the spool knows of it.
    pub header: BatchHeader,
    /// The body exactly as SLS sent it, unless the reader gives it as it is stored.
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
    /// Leaves encrypted bodies as they are.
    stored: bool,
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
            stored: false,
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

    /// This reader with bodies as they are stored.
    pub(crate) fn stored(self) -> Self {
        Self { stored: true, ..self }
    }

    /// Number of the batch this reader gives next, at the earliest.
    pub fn position(&self) -> Seq {
        self.next
    }

    /// Goes back, or forward, to batch `seq`.
    pub fn seek(&mut self, seq: Seq) {
        let (delivers, stored) = (self.delivers, self.stored);
        *self = Self { delivers, stored, ..Self::new(Arc::clone(&self.shared), seq) };
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
    /// [`Error::Io`], [`Error::NewerFormat`], [`Error::KeyMissing`]. The reader stays where it
    /// is: nothing is passed over, and the next call tries the same again.
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
                match self.open(id) {
                    Ok(()) => continue,
                    Err(damage) => return Ok(Some(damage)),
                }
            };
            if let Some(found) = self.salvaged.front().cloned() {
                let item = self.take(&found)?;
                self.salvaged.pop_front();
                if item.is_some() {
                    return Ok(item);
                }
                continue;
            }
            if self.offset >= limit {
                let Some(id) = following else {
                    // Everything durable was read; what is missing was damage.
                    self.next = durable;
                    return Ok(None);
                };
                match self.open(id) {
                    Ok(()) => continue,
                    Err(damage) => return Ok(Some(damage)),
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

    fn open(&mut self, id: u64) -> Result<(), Item> {
        self.segment = id;
        self.offset = FILE_HEADER as u64;
        // A segment has one incarnation. Anything else in it is what someone put in a log.
        self.incarnation = 0;
        self.salvaged.clear();
        match self.shared.disk().open(&segment::path(id), false) {
            Ok(file) => {
                self.file = Some(file);
                Ok(())
            }
            Err(error) => {
                let info = self.shared.lock().state.segments.get(&id).copied();
                let (first_seq, end_seq, to) =
                    info.map_or((self.next, self.next, 0), |i| (i.first_seq, i.end_seq, i.length));
                tracing::error!(code = "spool.damage", segment = id, %error, "a segment of the spool cannot be opened");
                self.file = None;
                self.next = self.next.max(end_seq);
                Err(Item::Damage(Damage { segment: id, from: 0, to, first_seq, end_seq }))
            }
        }
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
            EntryAt::Valid { found, .. } => {
                match self.take(&found)? {
                    None if self.is_unread(&found) => {
                        self.resync(file.as_ref(), found.offset, limit)
                    }
                    other => {
                        // Not before: after an error the same entry is read again.
                        self.offset = found.end();
                        Ok(other)
                    }
                }
            }
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
        let opened = if self.stored { Some(body) } else { self.shared.keys.open(header, body)? };
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

    fn is_unread(&self, found: &Found) -> bool {
        matches!(&found.header, Header::Batch(header) if header.seq >= self.next)
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
        if self.incarnation == 0 {
            self.incarnation = incarnation;
        }
        self.salvaged = salvage(file, self.incarnation, from, to).map_err(fail)?.into();
        self.offset = to;
        let end_seq = self.salvaged.iter().find_map(|found| match &found.header {
            Header::Batch(header) if header.seq >= self.next => Some(header.seq),
            _ => None,
        });
        let first_seq = self.next;
        let end_seq = end_seq.unwrap_or(first_seq + 1);
        Ok(Some(Item::Damage(Damage { segment: self.segment, from, to, first_seq, end_seq })))
    }
}
