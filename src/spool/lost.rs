//! What lay in bytes that do not check any more: which batches, and which cursor ranges of
//! which shards they held, so that they can be pulled again.
//!
//! Told by the footer of the segment where it checks, else by the catalog, else by the
//! neighbours: a shard whose position moves on from elsewhere than where it was has a hole
//! there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use serde::ser::SerializeStruct as _;

use super::catalog::CatalogEntry;
use super::disk::{Disk, DiskFile};
use super::entry::{BatchHeader, Header, Origin, Seq, ShardKey};
use super::error::Error;
use super::recover::Damage;
use super::scan::{Bodies, Found, Piece, Scan, footer, scan};
use super::segment;
use super::spans::Span;
use super::state::State;

/// A cursor range of one shard that lay in damaged bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lost {
    /// The shard.
    pub key: ShardKey,
    /// Where the range begins; empty where nothing tells it any more.
    pub cursor: String,
    /// Where it ends; empty where nothing tells it yet: where the shard went on, at the latest.
    pub next_cursor: String,
    /// Numbers of the lost batches. Where only the neighbours tell of them, shards between
    /// which they cannot be divided name the same numbers.
    pub span: Span,
    /// Logs in them, where that is known.
    pub logs: Option<u64>,
    /// Every destination had these batches already.
    pub delivered: bool,
}

impl Lost {
    /// A batch whose header is known. Destinations need what is not before `needed`.
    pub(crate) fn batch(header: &BatchHeader, needed: Seq) -> Self {
        let span = Span { first: header.seq, end: header.seq + 1 };
        Self {
            key: header.key.clone(),
            cursor: header.cursor.clone(),
            next_cursor: header.next_cursor.clone(),
            span,
            logs: Some(u64::from(header.logs)),
            delivered: span.end <= needed,
        }
    }
}

impl serde::Serialize for Lost {
    /// As the ledger names it.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Lost", 8)?;
        fields.serialize_field("source", &self.key.source)?;
        fields.serialize_field("shard", &self.key.shard)?;
        fields.serialize_field("cursor", &self.cursor)?;
        fields.serialize_field("next_cursor", &self.next_cursor)?;
        fields.serialize_field("first_seq", &self.span.first)?;
        fields.serialize_field("end_seq", &self.span.end)?;
        fields.serialize_field("logs", &self.logs)?;
        fields.serialize_field("delivered", &self.delivered)?;
        fields.end()
    }
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let or = |cursor: &str, unknown: &str| {
            if cursor.is_empty() { unknown.to_owned() } else { format!("cursor {cursor}") }
        };
        let begin = or(&self.cursor, "an unknown cursor");
        let end = or(&self.next_cursor, "where the shard went on");
        write!(f, "{} from {begin} to {end} (batches {}", self.key, self.span)?;
        if let Some(logs) = self.logs {
            write!(f, ", {logs} logs")?;
        }
        f.write_str(if self.delivered { ", all delivered)" } else { ")" })
    }
}

/// One damaged place of a segment, and the entries in it that check.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) damage: Damage,
    pub(crate) salvaged: Vec<Found>,
}

/// Asks the catalog for the batches of a span that it knows.
pub(crate) type Known<'a> = &'a dyn Fn(Span) -> Vec<CatalogEntry>;

/// Reads all of segment `id` and names what is damaged in it, in file order. `state` is what
/// is known of the spool; `known` is the catalog.
pub(crate) fn survey(
    disk: &dyn Disk,
    id: u64,
    state: &State,
    known: Known<'_>,
) -> Result<Vec<Place>, Error> {
    let Some(info) = state.segments.get(&id) else { return Ok(Vec::new()) };
    let following = state.segments.range(id + 1..).next().map(|(_, next)| next.first_seq);
    let numbers = Span { first: info.first_seq, end: following.unwrap_or(state.next_seq) };
    let read = Read::new(disk, id, info.length)?;
    let whole: BTreeSet<Seq> = read.batches().map(|header| header.seq).collect();
    if read.places.is_empty() && numbers.end <= read.end_seq(numbers.first) {
        return Ok(Vec::new());
    }
    let told = told(disk, id, state, numbers, known)?;
    let mut places = read.places.clone();
    if places.is_empty() {
        // All that is there checks, and something was behind it.
        places.push((info.length, read.length.max(info.length), Vec::new()));
    }
    let events = events(&read.whole, &told);
    let before = positions_before(disk, id, state, &read)?;
    let after = positions_after(disk, id, state)?;
    let needed = state.oldest_needed();
    let mut lost: Vec<(usize, Lost)> = Vec::new();
    for (offset, header) in told.iter().filter(|(_, header)| !whole.contains(&header.seq)) {
        let place = places.iter().position(|(from, to, _)| (*from..*to).contains(offset));
        add(&mut lost, place.unwrap_or(places.len() - 1), header, needed);
    }
    for (place, one) in by_neighbours(numbers, &events, before, after.as_ref(), &places, needed) {
        lost.push((place, one));
    }
    let unnamed = missing(numbers, &events);
    let place_of = |hole: &Hole| place_behind(&places, hole.after);
    let mut found = Vec::new();
    for (index, (from, to, salvaged)) in places.iter().enumerate() {
        let mut lost: Vec<Lost> =
            lost.iter().filter(|(at, _)| *at == index).map(|(_, one)| one.clone()).collect();
        lost.sort_by(|a, b| (a.span.first, &a.key).cmp(&(b.span.first, &b.key)));
        let holes = unnamed.iter().filter(|hole| place_of(hole) == index).map(|hole| hole.span);
        let spans: Vec<Span> = lost.iter().map(|one| one.span).chain(holes).collect();
        // Without a lost batch: the number of the one behind the place.
        let here = events
            .iter()
            .find(|event| event.offset >= *from && event.seq.is_some())
            .and_then(|event| event.seq)
            .unwrap_or(numbers.end);
        let first_seq = spans.iter().map(|span| span.first).min().unwrap_or(here);
        let end_seq = spans.iter().map(|span| span.end).max().unwrap_or(first_seq);
        let harmless = spans.iter().all(|span| span.end <= needed);
        let (from, to) = (*from, *to);
        let damage = Damage { segment: id, from, to, first_seq, end_seq, harmless, lost };
        found.push(Place { damage, salvaged: salvaged.clone() });
    }
    Ok(found)
}

/// A segment as far as it checks.
struct Read {
    snapshot: Option<State>,
    /// Everything in file order.
    whole: Vec<Found>,
    /// First and last byte of each damaged place, and what checks in it.
    places: Vec<(u64, u64, Vec<Found>)>,
    /// Bytes of the file.
    length: u64,
}

impl Read {
    fn new(disk: &dyn Disk, id: u64, limit: u64) -> Result<Self, Error> {
        let none = |length| Self {
            snapshot: None,
            whole: Vec::new(),
            places: vec![(0, length, Vec::new())],
            length: 0,
        };
        let Some(scan) = scan_segment(disk, id, Some(limit), Bodies::All)? else {
            return Ok(none(limit));
        };
        if scan.newer {
            return Err(Error::NewerFormat { path: segment::path(id) });
        }
        let snapshot = snapshot(&scan).cloned();
        let (end, length) = (scan.end, scan.length);
        let (mut whole, mut places) = (Vec::new(), Vec::new());
        for piece in scan.pieces {
            match piece {
                Piece::Group(entries) => whole.extend(entries),
                Piece::Damage { from, to, entries } => {
                    whole.extend(entries.iter().cloned());
                    places.push((from, to, entries));
                }
            }
        }
        if end < limit {
            // Cut off: the last place goes on to where the segment ended.
            match places.last_mut().filter(|(_, to, _)| *to >= end && *to > 0) {
                Some((_, to, _)) => *to = limit,
                None => places.push((end, limit, Vec::new())),
            }
        }
        Ok(Self { snapshot, whole, places, length })
    }

    fn batches(&self) -> impl Iterator<Item = &BatchHeader> {
        self.whole.iter().filter_map(|found| match &found.header {
            Header::Batch(header) => Some(header),
            _ => None,
        })
    }

    /// One past the last batch, where none before it is missing.
    fn end_seq(&self, first: Seq) -> Seq {
        self.batches().fold(first, |end, header| if header.seq == end { end + 1 } else { end })
    }
}

/// What footer and catalog tell of the batches of segment `id`: offset and header of each, in
/// file order.
fn told(
    disk: &dyn Disk,
    id: u64,
    state: &State,
    numbers: Span,
    known: Known<'_>,
) -> Result<Vec<(u64, BatchHeader)>, Error> {
    let mut told = BTreeMap::new();
    let path = segment::path(id);
    let length = state.segments.get(&id).map_or(0, |info| info.length);
    if let Some(file) = open(disk, &path)?
        && let Some((_, batches)) =
            footer(file.as_ref(), id, length).map_err(|e| Error::io("read", &path, e))?
    {
        told.extend(batches.into_iter().map(|one| (one.header.seq, (one.offset, one.header))));
    }
    for entry in known(numbers) {
        // A segment that vanished without the others knowing of it counts to the one before.
        let vanished = !state.segments.contains_key(&entry.segment);
        let offset = if vanished { u64::MAX } else { entry.offset };
        if vanished || entry.segment == id {
            told.entry(entry.header.seq).or_insert((offset, entry.header));
        }
    }
    told.retain(|seq, _| numbers.contains(*seq));
    Ok(told.into_values().collect())
}

/// Adds a lost batch whose header is known, to the one before it where it continues that.
fn add(lost: &mut Vec<(usize, Lost)>, place: usize, header: &BatchHeader, needed: Seq) {
    let batch = Lost::batch(header, needed);
    let before = lost.iter_mut().rev().find(|(at, one)| *at == place && one.key == batch.key);
    if let Some((_, one)) = before
        && one.next_cursor == batch.cursor
        && one.delivered == batch.delivered
    {
        one.next_cursor = batch.next_cursor;
        one.span.end = batch.span.end;
        one.logs = one.logs.zip(batch.logs).map(|(sum, logs)| sum + logs);
        return;
    }
    lost.push((place, batch));
}

/// An entry that moves a shard or has a number, whole or told of.
struct Event<'a> {
    offset: u64,
    seq: Option<Seq>,
    /// Where the shard must have been, and where it is.
    moves: Option<(&'a ShardKey, &'a str, &'a str)>,
    /// What was known of the shard is void.
    jump: bool,
}

fn events<'a>(whole: &'a [Found], told: &'a [(u64, BatchHeader)]) -> Vec<Event<'a>> {
    fn of(offset: u64, header: &BatchHeader) -> Event<'_> {
        let moves = (header.origin == Origin::Live).then_some((
            &header.key,
            header.cursor.as_str(),
            header.next_cursor.as_str(),
        ));
        Event { offset, seq: Some(header.seq), moves, jump: false }
    }
    let mut events: BTreeMap<(u64, Option<Seq>), Event<'a>> = BTreeMap::new();
    let mut insert = |event: Event<'a>| {
        events.insert((event.offset, event.seq), event);
    };
    told.iter().for_each(|(offset, header)| insert(of(*offset, header)));
    for found in whole {
        match &found.header {
            Header::Batch(header) => insert(of(found.offset, header)),
            Header::Progress(progress) => {
                let (from, to) = (progress.cursor.as_str(), progress.next_cursor.as_str());
                let from = if progress.jump { to } else { from };
                let moves = Some((&progress.key, from, to));
                insert(Event { offset: found.offset, seq: None, moves, jump: progress.jump });
            }
            _ => {}
        }
    }
    events.into_values().collect()
}

/// Numbers of which nothing is told.
struct Hole {
    span: Span,
    /// Offset of the batch in front of it.
    after: Option<u64>,
    /// The events around it, counted from 1.
    between: (usize, usize),
}

fn missing(numbers: Span, events: &[Event<'_>]) -> Vec<Hole> {
    let mut holes = Vec::new();
    let (mut next, mut after, mut last) = (numbers.first, None, 0);
    for (index, event) in events.iter().enumerate() {
        let Some(seq) = event.seq.filter(|seq| *seq >= next) else { continue };
        let span = Span { first: next, end: seq.min(numbers.end) };
        if !span.is_empty() {
            holes.push(Hole { span, after, between: (last, index + 1) });
        }
        (next, after, last) = (seq.saturating_add(1), Some(event.offset), index + 1);
    }
    let span = Span { first: next, end: numbers.end };
    if !span.is_empty() {
        holes.push(Hole { span, after, between: (last, events.len() + 1) });
    }
    holes
}

/// The damaged place that a hole behind the entry at `after` lies in.
fn place_behind(places: &[(u64, u64, Vec<Found>)], after: Option<u64>) -> usize {
    let behind = |offset: u64| places.iter().position(|(_, to, _)| *to > offset);
    after.map_or(Some(0), behind).unwrap_or(places.len() - 1)
}

/// What the shards' positions before and behind each hole tell.
fn by_neighbours(
    numbers: Span,
    events: &[Event<'_>],
    before: BTreeMap<ShardKey, String>,
    after: Option<&BTreeMap<ShardKey, String>>,
    places: &[(u64, u64, Vec<Found>)],
    needed: Seq,
) -> Vec<(usize, Lost)> {
    let holes = missing(numbers, events);
    if holes.is_empty() {
        return Vec::new();
    }
    // Steps of a shard: from where, to where, and the events between which it lies.
    let mut steps: Vec<(ShardKey, String, String, usize, usize)> = Vec::new();
    let mut at: BTreeMap<ShardKey, (String, usize)> =
        before.into_iter().map(|(key, position)| (key, (position, 0))).collect();
    for (index, event) in events.iter().enumerate() {
        let Some((key, from, to)) = event.moves else { continue };
        match at.get(key) {
            Some((position, _)) if position == from => {}
            Some((position, last)) => {
                steps.push((key.clone(), position.clone(), from.to_owned(), *last, index + 1));
            }
            None if event.jump => {}
            None => steps.push((key.clone(), String::new(), from.to_owned(), 0, index + 1)),
        }
        at.insert(key.clone(), (to.to_owned(), index + 1));
    }
    let end = events.len() + 1;
    for (key, position) in after.into_iter().flatten() {
        match at.get(key) {
            Some((known, _)) if known == position => {}
            Some((known, last)) => {
                steps.push((key.clone(), known.clone(), position.clone(), *last, end));
            }
            None => steps.push((key.clone(), String::new(), position.clone(), 0, end)),
        }
    }
    let mut lost = Vec::new();
    for hole in holes {
        let (first, last) = hole.between;
        let place = place_behind(places, hole.after);
        let mut name = |key: &ShardKey, cursor: &str, next_cursor: &str| {
            let (cursor, next_cursor) = (cursor.to_owned(), next_cursor.to_owned());
            let delivered = hole.span.end <= needed;
            let (key, span) = (key.clone(), hole.span);
            lost.push((place, Lost { key, cursor, next_cursor, span, logs: None, delivered }));
        };
        let mut explained = false;
        for (key, from, to, i, j) in &steps {
            if *i < last && *j > first {
                name(key, from, to);
                explained = true;
            }
        }
        // A start after the damage takes the last position that is left for the last there was:
        // it explains nothing.
        if after.is_none() || !explained {
            for (key, (position, i)) in &at {
                if *i < last {
                    name(key, position, "");
                }
            }
        }
    }
    lost
}

type Positions = BTreeMap<ShardKey, String>;

/// Where the shards stood when segment `id` began: as its own snapshot tells, else the segments
/// before it.
fn positions_before(
    disk: &dyn Disk,
    id: u64,
    state: &State,
    read: &Read,
) -> Result<Positions, Error> {
    if let Some(snapshot) = &read.snapshot {
        return Ok(positions(snapshot));
    }
    let mut scans = Vec::new();
    for (&earlier, info) in state.segments.range(..id).rev() {
        let Some(scan) = scan_segment(disk, earlier, Some(info.length), Bodies::Last)? else {
            continue;
        };
        let based = snapshot(&scan).is_some();
        scans.push((earlier, scan));
        if based {
            break;
        }
    }
    let mut folded = State::default();
    for (earlier, scan) in scans.into_iter().rev() {
        for piece in scan.pieces {
            let (Piece::Group(entries) | Piece::Damage { entries, .. }) = piece;
            entries.iter().for_each(|entry| folded.apply(earlier, &entry.header));
        }
    }
    Ok(positions(&folded))
}

/// Where the shards stood behind segment `id`: as the next snapshot tells that is whole.
fn positions_after(disk: &dyn Disk, id: u64, state: &State) -> Result<Option<Positions>, Error> {
    for (&later, info) in state.segments.range(id + 1..) {
        let scan = scan_segment(disk, later, Some(info.length), Bodies::Last)?;
        if let Some(snapshot) = scan.as_ref().and_then(snapshot) {
            return Ok(Some(positions(snapshot)));
        }
    }
    Ok(None)
}

fn positions(state: &State) -> Positions {
    state.shards.iter().map(|(key, shard)| (key.clone(), shard.position.clone())).collect()
}

/// The snapshot a segment begins with, if its first group is whole.
fn snapshot(scan: &Scan) -> Option<&State> {
    let Piece::Group(entries) = scan.pieces.first()? else { return None };
    match &entries.first()?.header {
        Header::Snapshot(state) => Some(state),
        _ => None,
    }
}

/// Nothing where the file is gone.
fn scan_segment(
    disk: &dyn Disk,
    id: u64,
    limit: Option<u64>,
    bodies: Bodies,
) -> Result<Option<Scan>, Error> {
    let path = segment::path(id);
    let Some(file) = open(disk, &path)? else { return Ok(None) };
    scan(file.as_ref(), id, limit, bodies).map(Some).map_err(|e| Error::io("read", path, e))
}

/// Nothing where the file is gone. What the disk does not answer tells nothing.
fn open(disk: &dyn Disk, path: &Path) -> Result<Option<Arc<dyn DiskFile>>, Error> {
    match disk.open(path, false) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("open", path, error)),
    }
}
