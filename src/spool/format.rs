//! The fixed-size frames of a segment: file header, group header, entry prefix, group
//! trailer. `docs/spool-format.md` is the specification; offsets there are offsets here.

/// Bytes of the header at the start of a segment file.
pub(crate) const FILE_HEADER: usize = 32;
/// Bytes of a group header.
pub(crate) const GROUP_HEADER: usize = 40;
/// Bytes of a group trailer.
pub(crate) const GROUP_TRAILER: usize = 24;
/// Bytes in front of each encoded entry header.
pub(crate) const ENTRY_PREFIX: usize = 24;
/// Largest encoded entry header. A snapshot of some thousand shards stays far below.
pub(crate) const MAX_HEADER: usize = 16 << 20;
/// Largest body of one entry.
pub(crate) const MAX_BODY: usize = 256 << 20;

const FILE_MAGIC: &[u8; 8] = b"SLSRSEG1";
pub(crate) const GROUP_MAGIC: &[u8; 4] = b"SGRP";
pub(crate) const ENTRY_MAGIC: &[u8; 4] = b"SENT";
const TRAILER_MAGIC: &[u8; 4] = b"SEND";
const VERSION: u16 = 1;
/// Newest version of a segment file this program reads; it writes this one.
const FILE_VERSION: u16 = 2;

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Batch = 1,
    Progress = 2,
    Snapshot = 3,
    Journal = 4,
    Footer = 5,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Batch,
            2 => Self::Progress,
            3 => Self::Snapshot,
            4 => Self::Journal,
            5 => Self::Footer,
            _ => return None,
        })
    }

    /// Bytes of an encoded header at most. Few are large: a forged length must not make a reader
    /// of damage slow.
    pub(crate) fn longest(self) -> usize {
        match self {
            Self::Snapshot | Self::Footer => MAX_HEADER,
            Self::Journal => MAX_HEADER / 16,
            Self::Batch | Self::Progress => MAX_HEADER / 256,
        }
    }

    /// Layout version of the encoded header as it is written today. Older ones are read.
    pub(crate) fn version(self) -> u8 {
        match self {
            Self::Progress | Self::Footer => 1,
            Self::Batch | Self::Snapshot | Self::Journal => 2,
        }
    }
}

/// Header of a segment file.
pub(crate) fn file_header(segment: u64, created_ms: u64) -> [u8; FILE_HEADER] {
    let mut out = [0; FILE_HEADER];
    out[..8].copy_from_slice(FILE_MAGIC);
    out[8..10].copy_from_slice(&FILE_VERSION.to_le_bytes());
    out[12..20].copy_from_slice(&segment.to_le_bytes());
    out[20..28].copy_from_slice(&created_ms.to_le_bytes());
    seal(&mut out);
    out
}

/// Checks a segment file's header and returns the segment id in it.
pub(crate) fn parse_file_header(bytes: &[u8]) -> Option<u64> {
    let bytes: &[u8; FILE_HEADER] = bytes.get(..FILE_HEADER)?.try_into().ok()?;
    let known = (1..=FILE_VERSION).contains(&u16_at(bytes, 8));
    let valid = &bytes[..8] == FILE_MAGIC && known && sealed(bytes);
    valid.then(|| u64_at(bytes, 12))
}

/// Whether this is the header of a segment file of a version to come.
pub(crate) fn is_newer(bytes: &[u8]) -> bool {
    let header: Option<&[u8; FILE_HEADER]> =
        bytes.get(..FILE_HEADER).and_then(|bytes| bytes.try_into().ok());
    header.is_some_and(|bytes| {
        &bytes[..8] == FILE_MAGIC && u16_at(bytes, 8) > FILE_VERSION && sealed(bytes)
    })
}

/// Header of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    pub(crate) segment: u64,
    pub(crate) incarnation: u64,
    pub(crate) durable_to: u64,
    pub(crate) number: u32,
}

impl GroupHeader {
    pub(crate) fn encode(&self) -> [u8; GROUP_HEADER] {
        let mut out = [0; GROUP_HEADER];
        out[..4].copy_from_slice(GROUP_MAGIC);
        out[4..6].copy_from_slice(&VERSION.to_le_bytes());
        out[8..16].copy_from_slice(&self.segment.to_le_bytes());
        out[16..24].copy_from_slice(&self.incarnation.to_le_bytes());
        out[24..32].copy_from_slice(&self.durable_to.to_le_bytes());
        out[32..36].copy_from_slice(&self.number.to_le_bytes());
        seal(&mut out);
        out
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; GROUP_HEADER] = bytes.get(..GROUP_HEADER)?.try_into().ok()?;
        let valid = &bytes[..4] == GROUP_MAGIC && u16_at(bytes, 4) == VERSION && sealed(bytes);
        valid.then(|| Self {
            segment: u64_at(bytes, 8),
            incarnation: u64_at(bytes, 16),
            durable_to: u64_at(bytes, 24),
            number: u32_at(bytes, 32),
        })
    }
}

/// Trailer of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupTrailer {
    /// Bytes from the first of the group header to the last of the entries.
    pub(crate) length: u64,
    /// Number of entries.
    pub(crate) count: u32,
    /// Over the group header and every entry's prefix and header.
    pub(crate) checksum: u32,
}

impl GroupTrailer {
    pub(crate) fn encode(&self) -> [u8; GROUP_TRAILER] {
        let mut out = [0; GROUP_TRAILER];
        out[..4].copy_from_slice(TRAILER_MAGIC);
        out[4..12].copy_from_slice(&self.length.to_le_bytes());
        out[12..16].copy_from_slice(&self.count.to_le_bytes());
        out[16..20].copy_from_slice(&self.checksum.to_le_bytes());
        seal(&mut out);
        out
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; GROUP_TRAILER] = bytes.get(..GROUP_TRAILER)?.try_into().ok()?;
        let valid = &bytes[..4] == TRAILER_MAGIC && sealed(bytes);
        valid.then(|| Self {
            length: u64_at(bytes, 4),
            count: u32_at(bytes, 12),
            checksum: u32_at(bytes, 16),
        })
    }
}

/// The fixed bytes in front of an entry's encoded header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryPrefix {
    pub(crate) version: u8,
    pub(crate) kind: Kind,
    pub(crate) header_len: u32,
    pub(crate) body_len: u32,
    pub(crate) body_crc: u32,
    head_crc: u32,
}

impl EntryPrefix {
    /// Prefix plus encoded header, ready to be written in front of the body.
    ///
    /// The checksum covers the random incarnation, so that bytes an attacker placed in a log
    /// can never pass for an entry.
    pub(crate) fn encode(
        incarnation: u64,
        kind: Kind,
        header: &[u8],
        body_len: u32,
        body_crc: u32,
    ) -> Vec<u8> {
        let mut out = Vec::with_capacity(ENTRY_PREFIX + header.len());
        out.extend_from_slice(ENTRY_MAGIC);
        out.extend_from_slice(&[kind.version(), kind as u8, 0, 0]);
        out.extend_from_slice(&u32::try_from(header.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&body_len.to_le_bytes());
        out.extend_from_slice(&body_crc.to_le_bytes());
        let crc = head_crc(incarnation, &out, header);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(header);
        out
    }

    /// Reads a prefix; the checksum is checked later by [`Self::head_checks`].
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..ENTRY_PREFIX)?;
        if &bytes[..4] != ENTRY_MAGIC {
            return None;
        }
        let prefix = Self {
            version: bytes[4],
            kind: Kind::from_byte(bytes[5])?,
            header_len: u32_at(bytes, 8),
            body_len: u32_at(bytes, 12),
            body_crc: u32_at(bytes, 16),
            head_crc: u32_at(bytes, 20),
        };
        let longest = prefix.kind.longest();
        let sizes = prefix.header_len as usize <= longest && prefix.body_len as usize <= MAX_BODY;
        sizes.then_some(prefix)
    }

    /// Whether prefix and encoded header are what was written.
    pub(crate) fn head_checks(&self, incarnation: u64, prefix: &[u8], header: &[u8]) -> bool {
        head_crc(incarnation, &prefix[..ENTRY_PREFIX - 4], header) == self.head_crc
    }

    /// Bytes of prefix, header and body together.
    pub(crate) fn total(&self) -> u64 {
        ENTRY_PREFIX as u64 + u64::from(self.header_len) + u64::from(self.body_len)
    }
}

fn head_crc(incarnation: u64, prefix: &[u8], header: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&incarnation.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc, prefix), header)
}

/// Puts the checksum of a frame into its last four bytes.
pub(crate) fn seal(bytes: &mut [u8]) {
    let end = bytes.len() - 4;
    let crc = crc32c::crc32c(&bytes[..end]);
    bytes[end..].copy_from_slice(&crc.to_le_bytes());
}

fn sealed(bytes: &[u8]) -> bool {
    let end = bytes.len() - 4;
    crc32c::crc32c(&bytes[..end]) == u32_at(bytes, end)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | (u64::from(u32_at(bytes, at + 4)) << 32)
}
