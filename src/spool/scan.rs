//! Reading a segment file front to back: whole groups, damage, and where to cut.

use std::io;

use super::disk::DiskFile;
use super::entry::{Header, Indexed, Seq};
use super::format::{
    ENTRY_MAGIC, ENTRY_PREFIX, EntryPrefix, FILE_HEADER, GROUP_HEADER, GROUP_MAGIC, GROUP_TRAILER,
    GroupHeader, GroupTrailer, is_newer, parse_file_header,
};

/// An entry that checks.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) header: Header,
    /// Of the entry's prefix.
    pub(crate) offset: u64,
    /// Of the body.
    pub(crate) body_offset: u64,
    pub(crate) body_len: u32,
    pub(crate) body_crc: u32,
}

impl Found {
    /// One past the entry's last byte.
    pub(crate) fn end(&self) -> u64 {
        self.body_offset + u64::from(self.body_len)
    }

    /// Its number, if it is a batch.
    pub(crate) fn batch(&self) -> Option<Seq> {
        match &self.header {
            Header::Batch(header) => Some(header.seq),
            _ => None,
        }
    }
}

/// One stretch of a segment, in file order.
#[derive(Debug)]
pub(crate) enum Piece {
    /// A whole group.
    Group(Vec<Found>),
    /// Bytes below a proven barrier that do not check, and the entries among them that do.
    Damage { from: u64, to: u64, entries: Vec<Found> },
}

impl Piece {
    /// The entries that check.
    pub(crate) fn entries(&self) -> &[Found] {
        match self {
            Self::Group(entries) | Self::Damage { entries, .. } => entries,
        }
    }
}

/// What a segment file holds.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) pieces: Vec<Piece>,
    /// End of the last whole group; what follows means nothing.
    pub(crate) end: u64,
    /// What the last whole group says was durable before it: only what follows may not be.
    pub(crate) proven: u64,
    /// Length of the file.
    pub(crate) length: u64,
    /// An entry of a format version this program does not know was met.
    pub(crate) newer: bool,
}

impl Scan {
    /// Whether the first group is whole and holds a snapshot.
    pub(crate) fn has_snapshot(&self) -> bool {
        matches!(
            self.pieces.first(),
            Some(Piece::Group(entries)) if matches!(entries.first().map(|e| &e.header), Some(Header::Snapshot(_)))
        )
    }
}

/// Which bodies a scan reads to see that they check.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Bodies {
    /// All of them.
    All,
    /// Those of the last group, which no later group proves. Enough for who reads no further
    /// than it must, since readers check each body anyway.
    Last,
}

/// Scans a segment up to `limit` bytes, its proven length where that is known.
pub(crate) fn scan(
    file: &dyn DiskFile,
    id: u64,
    limit: Option<u64>,
    bodies: Bodies,
) -> io::Result<Scan> {
    let scan = scan_groups(file, id, limit, bodies)?;
    if bodies == Bodies::Last
        && let Some(Piece::Group(entries)) = scan.pieces.last()
    {
        for entry in entries {
            if !body_checks(file, entry)? {
                return scan_groups(file, id, limit, Bodies::All);
            }
        }
    }
    Ok(scan)
}

fn scan_groups(
    file: &dyn DiskFile,
    id: u64,
    limit: Option<u64>,
    bodies: Bodies,
) -> io::Result<Scan> {
    let length = file.len()?;
    let stop = limit.unwrap_or(length).min(length);
    let mut scan = Scan { pieces: Vec::new(), end: 0, proven: 0, length, newer: false };
    let mut head = [0; FILE_HEADER];
    let read = file.read_at(&mut head, 0)?;
    let mut at = FILE_HEADER as u64;
    if is_newer(&head[..read]) {
        scan.newer = true;
        return Ok(scan);
    }
    if parse_file_header(&head[..read]) != Some(id) {
        // The header may be damaged while the groups are not.
        match next_group(file, id, None, 0, stop)? {
            Some((offset, ..)) => {
                scan.pieces.push(Piece::Damage { from: 0, to: offset, entries: Vec::new() });
                at = offset;
            }
            None => return Ok(scan),
        }
    }
    let mut incarnation = None;
    while at < stop {
        if let Some((group, entries, end)) =
            whole_group(file, id, at, stop, bodies, &mut scan.newer)?
            && incarnation.is_none_or(|known| known == group.incarnation)
        {
            incarnation = Some(group.incarnation);
            scan.pieces.push(Piece::Group(entries));
            at = end;
            scan.end = end;
            scan.proven = group.durable_to.min(at);
            continue;
        }
        // A proven length says that everything below it was durable; without one, only a
        // later group that names a barrier beyond this place does.
        let proven = match next_group(file, id, incarnation, at + 1, stop)? {
            Some((offset, group)) if limit.is_some() || group.durable_to > at => {
                Some((offset, group.incarnation))
            }
            _ => limit.map(|limit| (limit.min(stop), incarnation.unwrap_or_default())),
        };
        let Some((to, by)) = proven else { break };
        let entries = salvage(file, by, at, to)?;
        scan.pieces.push(Piece::Damage { from: at, to, entries });
        at = to;
        scan.end = to;
    }
    Ok(scan)
}

/// Calls `visit` with each entry up to `limit` and its group's incarnation, reading no body.
/// Stops at the first frame that does not check.
pub(crate) fn headers(
    file: &dyn DiskFile,
    id: u64,
    limit: u64,
    mut visit: impl FnMut(u64, Found),
) -> io::Result<()> {
    let (mut at, mut incarnation) = (FILE_HEADER as u64, 0);
    while at < limit {
        let mut front = [0; GROUP_HEADER];
        let read = file.read_at(&mut front, at)?;
        let ours = |group: &GroupHeader| {
            group.segment == id && (incarnation == 0 || group.incarnation == incarnation)
        };
        if let Some(group) = GroupHeader::parse(&front[..read]).filter(ours) {
            incarnation = group.incarnation;
            at += GROUP_HEADER as u64;
        } else if GroupTrailer::parse(&front[..read]).is_some() {
            at += GROUP_TRAILER as u64;
        } else {
            match read_entry(file, incarnation, at, limit)? {
                EntryAt::Valid { found, .. } => {
                    at = found.end();
                    visit(incarnation, *found);
                }
                _ => break,
            }
        }
    }
    Ok(())
}

/// The batches of a segment of `length` bytes as its footer tells them, with the incarnation
/// of the segment; `None` where no footer ends it. Reads nothing but the heads of the last
/// group.
pub(crate) fn footer(
    file: &dyn DiskFile,
    id: u64,
    length: u64,
) -> io::Result<Option<(u64, Vec<Indexed>)>> {
    let Some(at) = length.checked_sub(GROUP_TRAILER as u64) else { return Ok(None) };
    let mut bytes = [0; GROUP_TRAILER];
    let read = file.read_at(&mut bytes, at)?;
    let Some(start) =
        GroupTrailer::parse(&bytes[..read]).and_then(|trailer| at.checked_sub(trailer.length))
    else {
        return Ok(None);
    };
    let group = whole_group(file, id, start, length, Bodies::Last, &mut false)?;
    Ok(group.and_then(|(group, mut entries, end)| {
        let Header::Footer(footer) = entries.pop().filter(|_| end == length)?.header else {
            return None;
        };
        Some((group.incarnation, footer.into_batches()?))
    }))
}

/// The batches of a segment up to `limit`: from its footer, else from every header in it, as
/// far as they check.
pub(crate) fn batches(file: &dyn DiskFile, id: u64, limit: u64) -> io::Result<(u64, Vec<Indexed>)> {
    if let Some(found) = footer(file, id, limit)? {
        return Ok(found);
    }
    let (mut of, mut batches) = (0, Vec::new());
    headers(file, id, limit, |incarnation, found| {
        of = incarnation;
        if let Header::Batch(header) = found.header {
            batches.push(Indexed { offset: found.offset, stored: found.body_len, header });
        }
    })?;
    Ok((of, batches))
}

/// Reads the group at `at` if all of it checks, bodies included as `bodies` says.
pub(crate) fn whole_group(
    file: &dyn DiskFile,
    id: u64,
    at: u64,
    stop: u64,
    bodies: Bodies,
    newer: &mut bool,
) -> io::Result<Option<(GroupHeader, Vec<Found>, u64)>> {
    let mut head = [0; GROUP_HEADER];
    file.read_at(&mut head, at)?;
    let Some(group) = GroupHeader::parse(&head).filter(|group| group.segment == id) else {
        return Ok(None);
    };
    let mut checksum = crc32c::crc32c(&head);
    let mut entries = Vec::new();
    let mut offset = at + GROUP_HEADER as u64;
    loop {
        let mut bytes = [0; GROUP_TRAILER];
        let read = file.read_at(&mut bytes, offset)?;
        if let Some(trailer) = GroupTrailer::parse(&bytes[..read]) {
            let end = offset + GROUP_TRAILER as u64;
            let whole = trailer.checksum == checksum
                && trailer.count as usize == entries.len()
                && trailer.length == offset - at
                && end <= stop;
            return Ok(whole.then_some((group, entries, end)));
        }
        match read_entry(file, group.incarnation, offset, stop)? {
            EntryAt::Valid { found, head }
                if bodies == Bodies::Last || body_checks(file, &found)? =>
            {
                checksum = crc32c::crc32c_append(checksum, &head);
                offset = found.end();
                entries.push(*found);
            }
            EntryAt::Newer => {
                *newer = true;
                return Ok(None);
            }
            _ => return Ok(None),
        }
    }
}

/// What stands where an entry is expected.
pub(crate) enum EntryAt {
    /// An entry whose prefix and header check.
    Valid {
        /// The entry.
        found: Box<Found>,
        /// Prefix and header as written.
        head: Vec<u8>,
    },
    /// An entry of a later format.
    Newer,
    /// Anything else.
    Nothing,
}

/// Reads prefix and header of the entry at `offset`, not the body.
pub(crate) fn read_entry(
    file: &dyn DiskFile,
    incarnation: u64,
    offset: u64,
    stop: u64,
) -> io::Result<EntryAt> {
    let mut head = vec![0; ENTRY_PREFIX];
    let read = file.read_at(&mut head, offset)?;
    let Some(prefix) = EntryPrefix::parse(&head[..read]) else { return Ok(EntryAt::Nothing) };
    if offset.saturating_add(prefix.total()) > stop {
        return Ok(EntryAt::Nothing);
    }
    head.resize(ENTRY_PREFIX + prefix.header_len as usize, 0);
    let read = file.read_at(&mut head[ENTRY_PREFIX..], offset + ENTRY_PREFIX as u64)?;
    let (front, encoded) = head.split_at(ENTRY_PREFIX);
    if read != encoded.len() || !prefix.head_checks(incarnation, front, encoded) {
        return Ok(EntryAt::Nothing);
    }
    if prefix.version > prefix.kind.version() {
        return Ok(EntryAt::Newer);
    }
    let Some(header) = Header::decode(prefix.kind, prefix.version, encoded) else {
        return Ok(EntryAt::Nothing);
    };
    let body_offset = offset + head.len() as u64;
    let (body_len, body_crc) = (prefix.body_len, prefix.body_crc);
    let found = Box::new(Found { header, offset, body_offset, body_len, body_crc });
    Ok(EntryAt::Valid { found, head })
}

/// Reads the body of an entry; `None` when it does not check.
pub(crate) fn read_body(file: &dyn DiskFile, found: &Found) -> io::Result<Option<Vec<u8>>> {
    let mut body = vec![0; found.body_len as usize];
    let read = file.read_at(&mut body, found.body_offset)?;
    let checks = read == body.len() && crc32c::crc32c(&body) == found.body_crc;
    Ok(checks.then_some(body))
}

/// Offset and header of the first whole group at or after `from`.
pub(crate) fn next_group(
    file: &dyn DiskFile,
    id: u64,
    incarnation: Option<u64>,
    from: u64,
    stop: u64,
) -> io::Result<Option<(u64, GroupHeader)>> {
    let mut found = None;
    each_match(file, GROUP_MAGIC, from, stop, |offset| {
        if let Some((group, ..)) = whole_group(file, id, offset, stop, Bodies::All, &mut false)?
            && incarnation.is_none_or(|known| known == group.incarnation)
        {
            found = Some((offset, group));
        }
        Ok(found.is_some())
    })?;
    Ok(found)
}

/// The single entries between `from` and `to` that check.
pub(crate) fn salvage(
    file: &dyn DiskFile,
    incarnation: u64,
    from: u64,
    to: u64,
) -> io::Result<Vec<Found>> {
    let mut entries: Vec<Found> = Vec::new();
    each_match(file, ENTRY_MAGIC, from, to, |offset| {
        let inside = entries.last().is_some_and(|last| offset < last.end());
        if !inside
            && let EntryAt::Valid { found, .. } = read_entry(file, incarnation, offset, to)?
            && body_checks(file, &found)?
        {
            entries.push(*found);
        }
        Ok(false)
    })?;
    Ok(entries)
}

fn body_checks(file: &dyn DiskFile, found: &Found) -> io::Result<bool> {
    let mut crc = crc32c::crc32c(&[]);
    let mut chunk = vec![0; (found.body_len as usize).min(256 << 10)];
    let mut at = found.body_offset;
    while at < found.end() {
        let want = chunk.len().min(usize::try_from(found.end() - at).unwrap_or(usize::MAX));
        let read = file.read_at(&mut chunk[..want], at)?;
        if read < want {
            return Ok(false);
        }
        crc = crc32c::crc32c_append(crc, &chunk[..read]);
        at += read as u64;
    }
    Ok(crc == found.body_crc)
}

/// Calls `visit` with each offset in `[from, stop)` where `magic` stands, until it says stop.
fn each_match(
    file: &dyn DiskFile,
    magic: &[u8; 4],
    from: u64,
    stop: u64,
    mut visit: impl FnMut(u64) -> io::Result<bool>,
) -> io::Result<()> {
    let mut window = vec![0; 64 << 10];
    let mut at = from;
    while at < stop {
        let read = file.read_at(&mut window, at)?;
        if read < magic.len() {
            return Ok(());
        }
        for start in 0..=read - magic.len() {
            if window[start] == magic[0] && &window[start..start + 4] == magic {
                let offset = at + start as u64;
                if offset >= stop || visit(offset)? {
                    return Ok(());
                }
            }
        }
        at += (read - magic.len() + 1) as u64;
    }
    Ok(())
}
