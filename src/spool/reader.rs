//! Reading batches in order, for one destination.

use std::collections::VecDeque;
use std::sync::Arc;

use super::disk::DiskFile;
use super::entry::{BatchHeader, Header, Seq};
use super::error::Error;
use super::format::{
    FILE_HEADER, GROUP_HEADER, GROUP_TRAILER, GroupHeader, GroupTrailer, parse_file_header,
};
use super::lost::{Lost, Place, survey};
use super::recover::Damage;
use super::scan::{EntryAt, Found, read_body, read_entry};
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
    /// Segment that was surveyed last, and its damaged places.
    surveyed: Option<(u64, Vec<Place>)>,
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
            surveyed: None,
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
                if self.passes_a_hole(&found) {
                    continue;
                }
                let item = self.take(&found)?;
                self.salvaged.pop_front();
                if item.is_some() {
                    return Ok(item);
                }
                if let Some(header) = self.due(&found) {
                    // It did check when it was salvaged.
                    let needed = self.shared.lock().state.oldest_needed();
                    let lost = Lost::batch(header, needed);
                    let damage = Damage::one(self.segment, (found.offset, found.end()), lost);
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
        let gone = match &file {
            Some(_) => None,
            None => Some(self.place_at(id, 0)?.map_or_else(
                || Damage::unnamed(id, (0, info.length), (info.first_seq, info.end_seq)),
                |place| place.damage,
            )),
        };
        let mut head = [0; FILE_HEADER];
        let read = file.as_ref().map_or(Ok(0), |file| file.read_at(&mut head, 0));
        let read = read.map_err(|e| Error::io("read", segment::path(id), e))?;
        // Behind a header that does not check, groups begin where they are found.
        let headed = parse_file_header(&head[..read]) == Some(id);
        self.segment = id;
        self.offset = if headed { FILE_HEADER as u64 } else { 0 };
        // A segment has one incarnation. Anything else in it is what someone put in a log.
        self.incarnation = 0;
        self.salvaged.clear();
        self.file = file;
        let Some(damage) = gone else { return Ok(None) };
        tracing::error!(code = "spool.damage", segment = id, "a segment of the spool is gone");
        self.next = self.next.max(info.end_seq);
        Ok(Some(Item::Damage(damage)))
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
            EntryAt::Valid { found, .. } if self.passes_a_hole(&found) => Ok(None),
            EntryAt::Valid { found, .. } => match self.take(&found)? {
                None if self.due(&found).is_some() => self.resync(found.offset),
                item => {
                    self.offset = found.end();
                    Ok(item)
                }
            },
            EntryAt::Newer => Err(Error::NewerFormat { path: segment::path(self.segment) }),
            EntryAt::Nothing => self.resync(self.offset),
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
            None => {
                let needed = self.shared.lock().state.oldest_needed();
                let lost = Lost::batch(&header, needed);
                Item::Damage(Damage::one(self.segment, (found.offset, found.end()), lost))
            }
        }))
    }

    /// The damaged place of segment `id` that holds `offset`, and what is known of it. The same
    /// place has the same bounds wherever a reader comes upon it.
    fn place_at(&mut self, id: u64, offset: u64) -> Result<Option<Place>, Error> {
        let holds = |place: &&Place| (place.damage.from..place.damage.to).contains(&offset);
        let known = self.surveyed.as_ref().filter(|(surveyed, _)| *surveyed == id);
        if let Some(place) = known.and_then(|(_, places)| places.iter().find(holds)) {
            return Ok(Some(place.clone()));
        }
        let state = self.shared.lock().state.clone();
        let known = |span| self.shared.catalog().range(span);
        let places = survey(self.shared.disk(), id, &state, &known)?;
        let place = places.iter().find(holds).cloned();
        self.surveyed = Some((id, places));
        Ok(place)
    }

    /// Passes over the damaged place that holds `offset`, keeping the entries in it that check.
    fn resync(&mut self, offset: u64) -> Result<Option<Item>, Error> {
        let Some(Place { damage, salvaged }) = self.place_at(self.segment, offset)? else {
            if std::mem::take(&mut self.incarnation) != 0 {
                // It was that of something else, and this may be a whole group.
                return Ok(None);
            }
            // What did not check does now, or was removed meanwhile: nothing is passed over.
            self.file = None;
            let changed = std::io::Error::other("the same bytes are not read twice as the same");
            return Err(Error::io("read", segment::path(self.segment), changed));
        };
        self.salvaged = salvaged.into();
        self.offset = damage.to;
        // The whole group there has the right one.
        self.incarnation = 0;
        Ok(Some(Item::Damage(damage)))
    }

    /// Whether a destination's reader comes to `found` over numbers that are not there any more;
    /// then it has to ask for that one before it reads it.
    fn passes_a_hole(&mut self, found: &Found) -> bool {
        let next = self.due(found).map_or(self.next, |header| header.seq);
        self.delivers && std::mem::replace(&mut self.next, next) != next
    }

    /// The header of a batch that was not read yet.
    fn due<'a>(&self, found: &'a Found) -> Option<&'a BatchHeader> {
        match &found.header {
            Header::Batch(header) if header.seq >= self.next => Some(header),
            _ => None,
        }
    }
}
