//! Writing one segment file: group by group, each ended by one barrier.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::crash;
use super::disk::{Disk, DiskFile};
use super::entry::{Footer, Header, Indexed};
use super::error::Error;
use super::format::{self, EntryPrefix, GroupHeader, GroupTrailer};

/// The directory of the segments, below the spool directory.
pub(crate) const DIR: &str = "segments";

/// Path of a segment file, below the spool directory.
pub(crate) fn path(id: u64) -> PathBuf {
    Path::new(DIR).join(format!("{id:016x}.seg"))
}

/// The id in a segment's file name.
pub(crate) fn id_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// An entry ready to be written.
pub(crate) struct NewEntry {
    pub(crate) header: Header,
    pub(crate) body: Bytes,
    pub(crate) body_crc: u32,
}

impl NewEntry {
    /// An entry that is all header.
    pub(crate) fn bare(header: Header) -> Self {
        Self { header, body: Bytes::new(), body_crc: crc32c::crc32c(&[]) }
    }
}

/// The segment being written. After a failed write or sync it must not be used again.
pub(crate) struct Segment {
    pub(crate) id: u64,
    /// Bytes proven durable; also the length, since every group is synced.
    pub(crate) length: u64,
    incarnation: u64,
    groups: u32,
    file: Arc<dyn DiskFile>,
    /// The batches so far, for the footer.
    batches: Vec<Indexed>,
    sealed: bool,
}

impl Segment {
    /// Makes a segment whose first group is `snapshot`. Durable, name included, on return.
    pub(crate) fn create(
        disk: &dyn Disk,
        id: u64,
        incarnation: u64,
        snapshot: Header,
    ) -> Result<Self, Error> {
        let path = path(id);
        let file = disk.create(&path).map_err(|e| Error::io("create", &path, e))?;
        crash::point("segment-created");
        let segment = Self::begin(file, id, incarnation, snapshot)?;
        crash::point("segment-synced");
        disk.sync_dir(Path::new(DIR)).map_err(|e| Error::io("sync", DIR, e))?;
        crash::point("segment-named");
        Ok(segment)
    }

    /// The same in an empty file, wherever it lies; its name is the caller's to make durable.
    pub(crate) fn begin(
        file: Arc<dyn DiskFile>,
        id: u64,
        incarnation: u64,
        snapshot: Header,
    ) -> Result<Self, Error> {
        let mut segment = Self {
            id,
            length: 0,
            incarnation,
            groups: 0,
            file,
            batches: Vec::new(),
            sealed: false,
        };
        let now = jiff::Timestamp::now().as_millisecond().unsigned_abs();
        segment.append(Some(format::file_header(id, now)), &[NewEntry::bare(snapshot)], false)?;
        Ok(segment)
    }

    /// Writes one group and waits for the barrier. Returns the offset of each entry.
    pub(crate) fn append_group(&mut self, entries: &[NewEntry]) -> Result<Vec<u64>, Error> {
        self.append(None, entries, false)
    }

    /// The same for the last group: behind the entries comes the footer. Nothing may be
    /// written to the segment after it.
    pub(crate) fn append_last_group(&mut self, entries: &[NewEntry]) -> Result<Vec<u64>, Error> {
        self.append(None, entries, true)
    }

    /// Whether the footer is written.
    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// Whether there is anything that a footer could tell of.
    pub(crate) fn holds_batches(&self) -> bool {
        !self.batches.is_empty()
    }

    /// Bytes the file takes on the disk.
    pub(crate) fn allocated(&self) -> u64 {
        self.file.allocated().unwrap_or(self.length)
    }

    /// Lets the system forget what it caches of the file: see [`DiskFile::uncache`].
    pub(crate) fn uncache(&self) {
        self.file.uncache();
    }

    fn append(
        &mut self,
        file_header: Option<[u8; format::FILE_HEADER]>,
        entries: &[NewEntry],
        last: bool,
    ) -> Result<Vec<u64>, Error> {
        let group = GroupHeader {
            segment: self.id,
            incarnation: self.incarnation,
            durable_to: self.length,
            number: self.groups,
        }
        .encode();
        let start = self.length + file_header.map_or(0, |header| header.len() as u64);
        let mut at = start + group.len() as u64;
        let mut checksum = crc32c::crc32c(&group);
        let mut offsets = Vec::with_capacity(entries.len());
        let mut heads = Vec::with_capacity(entries.len() + 1);
        let known = self.batches.len();
        for entry in entries {
            let stored = u32::try_from(entry.body.len()).unwrap_or(u32::MAX);
            let encoded = entry.header.encode();
            let kind = entry.header.kind();
            let head =
                EntryPrefix::encode(self.incarnation, kind, &encoded, stored, entry.body_crc);
            checksum = crc32c::crc32c_append(checksum, &head);
            offsets.push(at);
            if let Header::Batch(header) = &entry.header {
                self.batches.push(Indexed { offset: at, stored, header: header.clone() });
            }
            at += head.len() as u64 + entry.body.len() as u64;
            heads.push(head);
        }
        if last && let Some(head) = self.footer() {
            checksum = crc32c::crc32c_append(checksum, &head);
            at += head.len() as u64;
            heads.push(head);
        }
        let count = u32::try_from(heads.len()).unwrap_or(u32::MAX);
        let trailer = GroupTrailer { length: at - start, count, checksum }.encode();

        let mut parts: Vec<&[u8]> = Vec::with_capacity(2 * entries.len() + 3);
        if let Some(header) = &file_header {
            parts.push(header);
        }
        parts.push(&group);
        for (index, head) in heads.iter().enumerate() {
            parts.push(head);
            if let Some(entry) = entries.get(index).filter(|entry| !entry.body.is_empty()) {
                parts.push(&entry.body);
            }
        }
        parts.push(&trailer);
        let path = path(self.id);
        let written = self.file.append(&parts).map_err(|e| Error::io("write", &path, e));
        let written = written.inspect(|()| crash::point("group-written"));
        let synced =
            written.and_then(|()| self.file.sync().map_err(|e| Error::io("sync", &path, e)));
        if let Err(error) = synced {
            // After a failed sync the kernel may call its pages clean: cut them off, or a later
            // start would read them back and believe that they are on the disk.
            let _ = self.file.truncate(self.length).and_then(|()| self.file.sync());
            self.batches.truncate(known);
            return Err(error);
        }
        self.length = at + trailer.len() as u64;
        self.groups += 1;
        self.sealed |= last;
        Ok(offsets)
    }

    /// The footer as an entry; nothing where it would be larger than a header may be, on the
    /// disk or in a reader's memory, which only costs the readers time.
    fn footer(&self) -> Option<Vec<u8>> {
        let footer = Header::Footer(Footer::of(&self.batches));
        let (encoded, kind) = (footer.encode(), footer.kind());
        let fits = encoded.len() <= format::MAX_HEADER
            && Header::decode(kind, kind.version(), &encoded).is_some();
        fits.then(|| EntryPrefix::encode(self.incarnation, kind, &encoded, 0, crc32c::crc32c(&[])))
    }
}
