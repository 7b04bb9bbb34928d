//! Entry points for fuzzing: they take any bytes, and panic only on a defect.
//!
//! What is asserted: no input makes the spool panic, hang, or hand out a byte that does not
//! check; reading changes nothing, so that it gives the same twice; and what recovery settled
//! stays settled.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::catalog::Catalog;
use super::disk::{Disk, DiskFile};
use super::entry::{BatchHeader, Change, Header, Origin, Position, Progress};
use super::error::Error;
use super::format::{
    self, ENTRY_PREFIX, EntryPrefix, FILE_HEADER, GROUP_HEADER, GROUP_TRAILER, GroupHeader, Kind,
    seal,
};
use super::keys::Keys;
use super::recover::{Recovered, recover};
use super::scan::{Bodies, Found, Piece, Scan, batches, headers, read_body, salvage, scan};
use super::segment::{self, NewEntry, Segment};
use super::shared::Shared;
use super::sim::SimDisk;
use super::state::{Delivered, SegmentInfo, ShardState, State};
use super::{Batch, Compression, Item, MIN_QUOTA, Options, Reader, ShardKey, Spool};

/// The only segment of every spool made here.
const ID: u64 = 1;
/// Not random, so that an input does the same each time, and mutations can pass checksums.
const INCARNATION: u64 = 0x0123_4567_89ab_cdef;

/// What a reader may take beyond one step per batch, damage and segment.
const STEPS: usize = 4096;

/// A batch as it was read: what the spool knows of it, and its body.
type Read = (BatchHeader, Vec<u8>);

/// Reads the bytes as a segment, in every way the spool reads one.
///
/// Layout: one byte how (modulo 6). 0: the rest is the file. 1: four bytes offset, little
/// endian, modulo the length; the rest is written over a valid segment there. 2: the same,
/// and the rest goes between its bytes there. 3 to 5: as 0 to 2, and then every checksum is
/// made right, which gets mutations past them.
///
/// # Panics
/// When an invariant of the module does not hold.
pub fn segment(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else { return };
    let mut file = rest.to_vec();
    if how % 3 > 0 {
        let Some((offset, patch)) = rest.split_first_chunk() else { return };
        file = valid_segment().to_vec();
        let at = u32::from_le_bytes(*offset) as usize % file.len();
        let covered = if how % 3 == 1 { patch.len().min(file.len() - at) } else { 0 };
        file.splice(at..at + covered, patch.iter().copied());
    }
    if how / 3 % 2 == 1 {
        mend(&mut file);
    }
    read_everything(&file);
}

/// Decodes the bytes as an encoded header, and applies it to the state of a spool.
///
/// Layout: one byte kind and layout (modulo 7), the encoded header. The bytes need not come out of
/// encoding again: bincode reads integers that are longer than needed, and a map in any
/// order. The value must, and in no more bytes.
///
/// # Panics
/// When a header changes in encoding and decoding, or the state does not take it.
pub fn entry_header(data: &[u8]) {
    let Some((kind, encoded)) = data.split_first() else { return };
    let (kind, version) = match kind % 7 {
        0 => (Kind::Batch, 2),
        1 => (Kind::Progress, 1),
        2 => (Kind::Snapshot, 2),
        3 => (Kind::Journal, 2),
        4 => (Kind::Footer, 1),
        5 => (Kind::Batch, 1),
        _ => (Kind::Snapshot, 1),
    };
    let Some(header) = Header::decode(kind, version, encoded) else { return };
    let again = header.encode();
    let same = version == kind.version();
    assert!(!same || again.len() <= encoded.len(), "encoding is the shortest form");
    assert_eq!(
        Header::decode(kind, kind.version(), &again).as_ref(),
        Some(&header),
        "a header comes back"
    );

    let mut state = valid_state();
    state.apply(ID, &header);
    state.raise_past_acks();
    assert!(state.next_seq >= valid_state().next_seq || kind == Kind::Snapshot, "numbers grow");
    let floor = state.wanted_floor(ID);
    assert!(floor >= state.floor, "the floor never falls");
    // The same through a file. Whatever it says, recovery takes it or names a newer format.
    let disk = SimDisk::default();
    let snapshot = Header::Snapshot(valid_state());
    let Ok(mut open) = Segment::create(&disk, ID, INCARNATION, snapshot) else {
        panic!("a disk in memory takes a segment")
    };
    assert!(open.append_group(&[NewEntry::bare(header)]).is_ok(), "and a group");
    let Ok(mut found) = recover(&disk, Bodies::All) else {
        panic!("what the spool wrote is read back")
    };
    assert_eq!(found.cut, 0, "nothing is cut from whole groups");
    assert!(found.name(&disk, None, &|_| Vec::new()).is_ok(), "and what is missing is named");
}

/// Makes the checksum of every frame right, as far as a frame can be told.
fn mend(bytes: &mut [u8]) {
    if bytes.len() >= FILE_HEADER {
        seal(&mut bytes[..FILE_HEADER]);
    }
    let (mut at, mut incarnation, mut checksum) = (0, 0, 0);
    while let Some(rest) = bytes.get_mut(at..).filter(|rest| rest.len() >= GROUP_TRAILER) {
        at += if rest.starts_with(format::GROUP_MAGIC) && rest.len() >= GROUP_HEADER {
            let frame = &mut rest[..GROUP_HEADER];
            seal(frame);
            incarnation = GroupHeader::parse(frame).map_or(0, |group| group.incarnation);
            checksum = crc32c::crc32c(frame);
            GROUP_HEADER
        } else if let Some(head) = mended_head(rest, incarnation) {
            rest[..head.len()].copy_from_slice(&head);
            checksum = crc32c::crc32c_append(checksum, &head);
            EntryPrefix::parse(&head).map_or(1, |prefix| total(&prefix))
        } else if rest.starts_with(b"SEND") {
            let frame = &mut rest[..GROUP_TRAILER];
            frame[16..20].copy_from_slice(&checksum.to_le_bytes());
            seal(frame);
            GROUP_TRAILER
        } else {
            1
        };
    }
}

/// Prefix and header of the entry that `rest` begins with, with right checksums.
fn mended_head(rest: &[u8], incarnation: u64) -> Option<Vec<u8>> {
    let prefix = EntryPrefix::parse(rest)?;
    let header_end = ENTRY_PREFIX + prefix.header_len as usize;
    let header = rest.get(ENTRY_PREFIX..header_end)?;
    let body = rest.get(header_end..total(&prefix))?;
    let crc = crc32c::crc32c(body);
    Some(EntryPrefix::encode(incarnation, prefix.kind, header, prefix.body_len, crc))
}

fn total(prefix: &EntryPrefix) -> usize {
    usize::try_from(prefix.total()).unwrap_or(usize::MAX)
}

fn read_everything(bytes: &[u8]) {
    let disk = SimDisk::default();
    let file = stored(&disk, bytes);
    let proven = bytes.len() as u64;
    for limit in [None, Some(proven / 2), Some(proven)] {
        let first = scanned(file.as_ref(), limit);
        check_scan(file.as_ref(), &first, bytes);
        assert_eq!(outline(&first), outline(&scanned(file.as_ref(), limit)), "scanned twice");
    }
    let mut visited = 0;
    let walked = headers(file.as_ref(), ID, proven, |_, found| {
        assert!(found.offset >= visited && found.end() <= proven, "entries do not overlap");
        visited = found.end();
    });
    assert!(walked.is_ok(), "a disk in memory reads");
    assert!(batches(file.as_ref(), ID, proven).is_ok(), "whatever the footer says");
    let Ok(saved) = salvage(file.as_ref(), INCARNATION, 0, proven) else {
        panic!("a disk in memory reads")
    };
    check_entries(file.as_ref(), &saved, 0, proven, bytes);

    let Some(found) = recovered(&disk) else { return };
    let read = read_all(&disk, &found.state, bytes.len());
    for (_, body) in &read {
        assert!(contains(bytes, body), "a body is bytes of the file");
    }
    assert_eq!(read, read_all(&disk, &found.state, bytes.len()), "read twice");
    assert_eq!(stored_bytes(file.as_ref()), bytes, "reading changes nothing");
    reopen(&disk, &found, &read);
}

/// Settles the spool, recovers it again, opens it and appends behind what is there.
fn reopen(disk: &SimDisk, found: &Recovered, before: &[Read]) {
    assert!(found.settle(disk).is_ok(), "a disk in memory settles");
    let Some(again) = recovered(disk) else { panic!("settling made the spool newer") };
    assert_eq!(again.cut, 0, "settling cuts all there is to cut");
    if found.state.floor <= ID {
        assert_eq!(again.state, found.state, "settling keeps the state");
    }
    // Too little for the reserve, whose bytes would take most of the time.
    disk.set_capacity(Some(3 << 20));
    let options = Options::new("fuzz", MIN_QUOTA);
    let Ok((spool, _)) = Spool::open_simulated(Arc::new(disk.clone()), &options) else {
        panic!("a recovered spool opens")
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else {
        panic!("a runtime without drivers is made")
    };
    let appended = runtime.block_on(async {
        let tenure = spool.begin(key(7), "a".to_owned(), None).await?;
        spool.append(&tenure, batch("a", "b", b"appended")).await
    });
    assert!(appended.is_ok(), "a recovered spool takes a batch");
    let steps = before.len() + again.damage.len() + again.state.segments.len() + STEPS;
    let mut after = drained(&mut spool.reader(0), steps);
    let kept = spool.status().state.segments.contains_key(&ID);
    spool.close();
    // A mended snapshot may claim segments, numbers and a floor that never were.
    let state = &found.state;
    let strange = state.segments.keys().any(|id| *id != ID) || state.next_seq > u64::MAX / 2;
    if strange || state.floor > ID {
        return;
    }
    let last = after.pop();
    assert_eq!(last.map(|(_, body)| body), Some(b"appended".to_vec()), "the batch is the last");
    if kept {
        assert_eq!(after, before, "a new segment does not change the old one");
    }
}

fn check_scan(file: &dyn DiskFile, scan: &Scan, bytes: &[u8]) {
    assert!(scan.end <= scan.length, "the end lies in the file");
    assert_eq!(scan.length, bytes.len() as u64, "the file is as long as it is");
    let mut at = 0;
    for piece in &scan.pieces {
        let (from, to, entries) = match piece {
            Piece::Group(entries) => (at, scan.end, entries),
            Piece::Damage { from, to, entries } => (*from, *to, entries),
        };
        assert!(at <= from && from <= to && to <= scan.length, "pieces stand in file order");
        at = check_entries(file, entries, from, to, bytes);
        if matches!(piece, Piece::Damage { .. }) {
            at = to;
        }
    }
}

/// Each entry between `from` and `to` checks, and none overlaps the next. Gives the last end.
fn check_entries(file: &dyn DiskFile, entries: &[Found], from: u64, to: u64, bytes: &[u8]) -> u64 {
    let mut at = from;
    for entry in entries {
        assert!(at <= entry.offset && entry.end() <= to, "entries stand in file order");
        at = entry.end();
        let Ok(Some(body)) = read_body(file, entry) else { panic!("an entry found checks") };
        let start = usize::try_from(entry.body_offset).unwrap_or(usize::MAX);
        assert_eq!(bytes.get(start..start + body.len()), Some(&body[..]), "the body is there");
        assert_eq!(crc32c::crc32c(&body), entry.body_crc, "and is what was written");
    }
    at
}

fn read_all(disk: &SimDisk, state: &State, length: usize) -> Vec<Read> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let shared =
        Shared::new(disk, Catalog::none(), state.clone(), ID, Arc::default(), Keys::default());
    drained(&mut Reader::new(Arc::new(shared), 0), length + state.segments.len() + 1)
}

/// Everything a reader gives, in at most `steps`.
fn drained(reader: &mut Reader, steps: usize) -> Vec<Read> {
    let mut batches: Vec<Read> = Vec::new();
    for _ in 0..steps {
        match reader.read() {
            Ok(Some(Item::Batch(batch))) => {
                let last = batches.last().map(|(header, _)| header.seq);
                assert!(last < Some(batch.header.seq), "batches come in the order of numbers");
                batches.push((batch.header, batch.body));
            }
            Ok(Some(Item::Damage(damage))) => assert!(damage.from <= damage.to, "{damage:?}"),
            Ok(None) => return batches,
            Err(Error::NewerFormat { .. }) => return batches,
            Err(error) => panic!("a disk in memory reads: {error}"),
        }
    }
    panic!("reading comes to no end")
}

/// As opening does it.
fn recovered(disk: &SimDisk) -> Option<Recovered> {
    match recover(disk, Bodies::Last) {
        Ok(found) => Some(found),
        Err(Error::NewerFormat { .. }) => None,
        Err(error) => panic!("a disk in memory is recovered: {error}"),
    }
}

fn scanned(file: &dyn DiskFile, limit: Option<u64>) -> Scan {
    let Ok(scan) = scan(file, ID, limit, Bodies::All) else { panic!("a disk in memory reads") };
    scan
}

/// A scan in a form that compares.
fn outline(scan: &Scan) -> String {
    format!("{scan:?}")
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    part.is_empty() || bytes.windows(part.len()).any(|window| window == part)
}

fn stored(disk: &SimDisk, bytes: &[u8]) -> Arc<dyn DiskFile> {
    let Ok(file) = disk.create(&segment::path(ID)) else { panic!("an empty disk takes a file") };
    assert!(file.append(&[bytes]).is_ok(), "and its bytes");
    file
}

fn stored_bytes(file: &dyn DiskFile) -> Vec<u8> {
    let mut bytes = vec![0; file.len().map_or(0, |length| usize::try_from(length).unwrap_or(0))];
    assert!(file.read_at(&mut bytes, 0).is_ok(), "a disk in memory reads");
    bytes
}

/// A segment as the spool writes it: the snapshot, two batches with acks, progress and a batch.
fn valid_segment() -> &'static [u8] {
    static SEGMENT: OnceLock<Vec<u8>> = OnceLock::new();
    SEGMENT.get_or_init(|| {
        let position = Position { seq: 8, index: 1 };
        let ack = Change::Ack { destination: "siem".to_owned(), position, log: 71 };
        let committed = Change::Committed { key: key(0), cursor: "MTcwMA==".to_owned() };
        let progress = Progress {
            key: key(1),
            cursor: "p0".to_owned(),
            next_cursor: "p1".to_owned(),
            jump: false,
        };
        written(&[
            &[
                numbered(7, "c0", "c1", b"first body, short"),
                numbered(8, "c1", "c2", &b"second body: SGRP SENT SEND ".repeat(12)),
                NewEntry::bare(Header::Journal(vec![ack, committed])),
            ],
            &[NewEntry::bare(Header::Progress(progress)), numbered(9, "c2", "c3", b"")],
        ])
    })
}

/// A segment with two batches that was sealed: its last group ends in the footer.
#[cfg(test)]
fn sealed_segment() -> Vec<u8> {
    let disk = SimDisk::default();
    let Ok(mut open) = Segment::create(&disk, ID, INCARNATION, Header::Snapshot(valid_state()))
    else {
        panic!("a disk in memory takes a segment")
    };
    let batches = [numbered(7, "c0", "c1", b"a body"), numbered(8, "c1", "c2", b"another")];
    assert!(open.append_last_group(&batches).is_ok(), "and a group");
    let Ok(file) = disk.open(&segment::path(ID), false) else { panic!("the segment is there") };
    let mut bytes = stored_bytes(file.as_ref());
    bytes[..FILE_HEADER].copy_from_slice(&format::file_header(ID, 1_700_000_000_000));
    bytes
}

/// The bytes of a segment with a snapshot of [`valid_state`] and these groups.
fn written(groups: &[&[NewEntry]]) -> Vec<u8> {
    let disk = SimDisk::default();
    let snapshot = Header::Snapshot(valid_state());
    let Ok(mut open) = Segment::create(&disk, ID, INCARNATION, snapshot) else {
        panic!("a disk in memory takes a segment")
    };
    for group in groups {
        assert!(open.append_group(group).is_ok(), "and a group");
    }
    let Ok(file) = disk.open(&segment::path(ID), false) else { panic!("the segment is there") };
    let mut bytes = stored_bytes(file.as_ref());
    // The time of creation is the only thing that is not the same each time.
    bytes[..FILE_HEADER].copy_from_slice(&format::file_header(ID, 1_700_000_000_000));
    bytes
}

fn valid_state() -> State {
    let mut state = State { next_seq: 7, next_log: 70, ..State::default() };
    let shard = ShardState {
        position: "c0".to_owned(),
        committed: Some("MTY5OQ==".to_owned()),
        chain: vec!["MTcwMA==".to_owned(), "c0".to_owned()],
    };
    state.shards.insert(key(0), shard);
    let delivered = Delivered { position: Position { seq: 7, index: 0 }, log: 70 };
    state.destinations.insert("siem".to_owned(), delivered);
    state.floor = ID;
    state.segments.insert(ID, SegmentInfo::beginning(&state));
    state
}

fn numbered(seq: u64, cursor: &str, next_cursor: &str, body: &[u8]) -> NewEntry {
    let batch = batch(cursor, next_cursor, body);
    let (header, body) = BatchHeader::of(batch, key(0), (seq, seq * 10), Origin::Live, 0);
    let body_crc = crc32c::crc32c(&body);
    NewEntry { header: Header::Batch(header), body, body_crc }
}

fn batch(cursor: &str, next_cursor: &str, body: &[u8]) -> Batch {
    Batch {
        cursor: cursor.to_owned(),
        next_cursor: next_cursor.to_owned(),
        first_group_cursor: Some(1_700_000_000_000),
        groups: 1,
        logs: 10,
        query: false,
        received_at: 1_700_000_000_000,
        min_time: 1_700_000_000,
        max_time: 1_700_000_009,
        raw_size: body.len() as u64,
        compression: Compression::None,
        body: Bytes::copy_from_slice(body),
    }
}

fn key(shard: u32) -> ShardKey {
    ShardKey { source: "https://sls.example/project/logstore/group".to_owned(), shard }
}

#[cfg(test)]
mod tests;
