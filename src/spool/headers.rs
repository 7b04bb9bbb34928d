//! Walking over the batches of segments by their headers; a body is read when it is asked for.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::disk::DiskFile;
use super::entry::{BatchHeader, Header, Indexed, Seq};
use super::error::Error;
use super::format::{FILE_HEADER, GROUP_HEADER, GROUP_TRAILER, GroupHeader, GroupTrailer};
use super::inspect::{Inspection, Segment};
use super::keys::Keys;
use super::lost::Lost;
use super::recover::Damage;
use super::scan::{EntryAt, Found, footer, next_group, read_body, read_entry, salvage};
use super::segment;
use super::state::SegmentInfo;

/// A batch as it lies in the spool, its body not read yet. It holds its segment open: the
/// body stays readable when the segment is removed.
#[derive(Clone)]
pub struct Stored {
    /// What the spool knows of it.
    pub header: BatchHeader,
    /// Id of its segment.
    pub segment: u64,
    offset: u64,
    stored: u32,
    incarnation: u64,
    /// The oldest batch that a destination needed.
    needed: Seq,
    file: Arc<dyn DiskFile>,
    keys: Keys,
}

/// What a walk comes upon.
pub enum Met {
    /// The next batch.
    Batch(Box<Stored>),
    /// Bytes that do not check any more, or a segment that is missing.
    Damage(Damage),
}

impl Stored {
    /// Bytes of the body as it is stored.
    pub fn stored_bytes(&self) -> u64 {
        u64::from(self.stored)
    }

    /// The body exactly as SLS sent it, or the damage where it does not check any more.
    ///
    /// # Errors
    /// [`Error::Io`] where the disk does not give it, [`Error::KeyMissing`].
    pub fn body(&self) -> Result<Result<Vec<u8>, Damage>, Error> {
        let (body, to) = self.read()?;
        let opened = match body {
            Some(body) => self.keys.open(&self.header, body)?,
            None => None,
        };
        Ok(opened.ok_or_else(|| self.damage(to)))
    }

    /// The body as it is stored, encrypted or not, or the damage.
    ///
    /// # Errors
    /// [`Error::Io`] where the disk does not give it.
    pub(crate) fn stored_body(&self) -> Result<Result<Vec<u8>, Damage>, Error> {
        let (body, to) = self.read()?;
        Ok(body.ok_or_else(|| self.damage(to)))
    }

    /// The stored body where it checks, and where its entry ends.
    fn read(&self) -> Result<(Option<Vec<u8>>, u64), Error> {
        let fail = |e| Error::io("read", segment::path(self.segment), e);
        let file = self.file.as_ref();
        let there = read_entry(file, self.incarnation, self.offset, u64::MAX).map_err(fail)?;
        let (mut body, mut to) = (None, self.offset + self.stored_bytes());
        if let EntryAt::Valid { found, .. } = there
            && matches!(&found.header, Header::Batch(header) if *header == self.header)
        {
            to = found.end();
            body = read_body(file, &found).map_err(fail)?;
        }
        Ok((body, to))
    }

    fn damage(&self, to: u64) -> Damage {
        let lost = Lost::batch(&self.header, self.needed);
        Damage::one(self.segment, (self.offset, to), lost)
    }
}

/// Batches in order: see [`Inspection::headers`].
pub struct Headers<'a> {
    spool: &'a Inspection,
    segments: VecDeque<(u64, SegmentInfo)>,
    open: Option<(SegmentHeaders, u64)>,
    seqs: Range<Seq>,
    done: u64,
    total: u64,
}

impl<'a> Headers<'a> {
    pub(crate) fn new(
        spool: &'a Inspection,
        segments: VecDeque<(u64, SegmentInfo)>,
        seqs: Range<Seq>,
    ) -> Self {
        let total = segments.iter().map(|(_, info)| info.length).sum();
        Self { spool, segments, open: None, seqs, done: 0, total }
    }

    /// Bytes of the chosen segments that lie behind, and all of them.
    pub fn progress(&self) -> (u64, u64) {
        let open = self.open.as_ref().map_or(0, |(headers, _)| headers.passed());
        (self.done + open, self.total)
    }

    fn advance(&mut self) -> Result<Option<Met>, Error> {
        loop {
            if let Some((headers, length)) = &mut self.open {
                match headers.next()? {
                    Some(met) => return Ok(Some(met)),
                    None => {
                        self.done += *length;
                        self.open = None;
                    }
                }
            }
            let Some((id, info)) = self.segments.pop_front() else { return Ok(None) };
            match self.spool.headers_of(id, &info)? {
                Segment::There(headers) => self.open = Some((headers, info.length)),
                Segment::Removed => self.done += info.length,
                Segment::Missing(damage) => {
                    self.done += info.length;
                    return Ok(Some(Met::Damage(damage)));
                }
            }
        }
    }
}

impl Iterator for Headers<'_> {
    type Item = Result<Met, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let met = match self.advance() {
                Ok(met) => met?,
                Err(error) => {
                    // Nothing is read twice after an error.
                    self.open = None;
                    self.segments.clear();
                    return Some(Err(error));
                }
            };
            let (first, end) = match &met {
                Met::Batch(batch) => (batch.header.seq, batch.header.seq + 1),
                Met::Damage(damage) => {
                    (damage.first_seq, damage.end_seq.max(damage.first_seq.saturating_add(1)))
                }
            };
            if first >= self.seqs.end {
                self.open = None;
                self.segments.clear();
                return None;
            }
            if end > self.seqs.start {
                return Some(Ok(met));
            }
        }
    }
}

/// The batches of one segment, front to back, up to its proven length.
pub(crate) struct SegmentHeaders {
    file: Arc<dyn DiskFile>,
    id: u64,
    info: SegmentInfo,
    needed: Seq,
    at: u64,
    incarnation: u64,
    /// The batch that comes next, at the earliest.
    next: Seq,
    /// What the footer tells, where there is one: nothing else is read then.
    indexed: Option<std::vec::IntoIter<Indexed>>,
    /// What was met while looking for the end of damage.
    ahead: VecDeque<Met>,
    salvaged: VecDeque<Found>,
    keys: Keys,
}

impl SegmentHeaders {
    /// `needed` is the oldest batch that a destination needs.
    pub(crate) fn new(
        file: Arc<dyn DiskFile>,
        id: u64,
        info: SegmentInfo,
        needed: Seq,
        keys: Keys,
    ) -> Result<Self, Error> {
        let footer = footer(file.as_ref(), id, info.length)
            .map_err(|e| Error::io("read", segment::path(id), e))?;
        let (incarnation, indexed) = match footer {
            Some((incarnation, batches)) => (incarnation, Some(batches.into_iter())),
            None => (0, None),
        };
        Ok(Self {
            file,
            id,
            info,
            needed,
            at: FILE_HEADER as u64,
            // A segment has one incarnation. Anything else in it is what someone put in a log.
            incarnation,
            indexed,
            next: info.first_seq,
            ahead: VecDeque::new(),
            salvaged: VecDeque::new(),
            keys,
        })
    }

    /// Bytes of the segment that lie behind.
    pub(crate) fn passed(&self) -> u64 {
        self.at
    }

    pub(crate) fn next(&mut self) -> Result<Option<Met>, Error> {
        if let Some(met) = self.ahead.pop_front() {
            return Ok(Some(met));
        }
        let met = self.step()?;
        let Some(Met::Damage(_)) = &met else { return Ok(met) };
        // What may be lost ends where the next batch begins.
        self.ahead.extend(met);
        while let Some(following) = self.step()? {
            let is_batch = matches!(following, Met::Batch(_));
            self.ahead.push_back(following);
            if is_batch {
                break;
            }
        }
        let end_seq = match self.ahead.back() {
            Some(Met::Batch(batch)) => batch.header.seq,
            _ => self.info.end_seq,
        };
        for met in &mut self.ahead {
            if let Met::Damage(damage) = met {
                damage.end_seq = end_seq.max(damage.first_seq);
            }
        }
        Ok(self.ahead.pop_front())
    }

    fn step(&mut self) -> Result<Option<Met>, Error> {
        let (id, limit) = (self.id, self.info.length);
        let file = Arc::clone(&self.file);
        let fail = |e| Error::io("read", segment::path(id), e);
        if let Some(indexed) = &mut self.indexed {
            let Some(Indexed { offset, stored, header }) = indexed.next() else {
                self.at = limit;
                return Ok(None);
            };
            self.at = offset + u64::from(stored);
            return Ok(Some(self.met(header, offset, stored)));
        }
        loop {
            if let Some(found) = self.salvaged.pop_front() {
                if let Some(met) = self.take(found) {
                    return Ok(Some(met));
                }
                continue;
            }
            if self.at >= limit {
                return Ok(None);
            }
            let mut front = [0; GROUP_HEADER];
            let read = file.read_at(&mut front, self.at).map_err(fail)?;
            let incarnation = self.incarnation;
            let ours = |group: &GroupHeader| {
                group.segment == id && (incarnation == 0 || group.incarnation == incarnation)
            };
            if let Some(group) = GroupHeader::parse(&front[..read]).filter(ours) {
                self.incarnation = group.incarnation;
                self.at += GROUP_HEADER as u64;
            } else if GroupTrailer::parse(&front[..read]).is_some() {
                self.at += GROUP_TRAILER as u64;
            } else {
                match read_entry(file.as_ref(), incarnation, self.at, limit).map_err(fail)? {
                    EntryAt::Valid { found, .. } => {
                        self.at = found.end();
                        self.salvaged.push_back(*found);
                    }
                    EntryAt::Newer => {
                        return Err(Error::NewerFormat { path: segment::path(id) });
                    }
                    EntryAt::Nothing => return self.resync().map(Some),
                }
            }
        }
    }

    fn take(&mut self, found: Found) -> Option<Met> {
        let Header::Batch(header) = found.header else { return None };
        Some(self.met(header, found.offset, found.body_len))
    }

    fn met(&mut self, header: BatchHeader, offset: u64, stored: u32) -> Met {
        self.next = header.seq + 1;
        let (segment, incarnation, needed) = (self.id, self.incarnation, self.needed);
        let (file, keys) = (Arc::clone(&self.file), self.keys.clone());
        Met::Batch(Box::new(Stored {
            header,
            segment,
            offset,
            stored,
            incarnation,
            needed,
            file,
            keys,
        }))
    }

    /// Skips to the next whole group, keeping the entries on the way that check.
    fn resync(&mut self) -> Result<Met, Error> {
        let (from, limit) = (self.at, self.info.length);
        let fail = |e| Error::io("read", segment::path(self.id), e);
        let file = Arc::clone(&self.file);
        let known = (self.incarnation != 0).then_some(self.incarnation);
        let next = next_group(file.as_ref(), self.id, known, from + 1, limit).map_err(fail)?;
        let (to, incarnation) =
            next.map_or((limit, self.incarnation), |(offset, group)| (offset, group.incarnation));
        if self.incarnation == 0 {
            self.incarnation = incarnation;
        }
        self.salvaged = salvage(file.as_ref(), self.incarnation, from, to).map_err(fail)?.into();
        self.at = to;
        Ok(Met::Damage(Damage::unnamed(self.id, (from, to), (self.next, self.next))))
    }
}
