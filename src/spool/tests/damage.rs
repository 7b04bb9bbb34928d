//! Damage of real files, at many places: what still checks is kept, the rest is set aside byte
//! for byte, and exactly what is lost is named.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::disk::{Disk as _, OsDisk};
use super::super::inspect::Inspection;
use super::super::scan::batches;
use super::super::sim::SimDisk;
use super::super::{
    BatchHeader, Item, Lost, Opened, Seq, Span, Spool, lost_in, read_ledger, segment,
};
use super::{after, batch, begin, key, options, runtime};

const SIEM: &str = "siem";
const BATCHES: u64 = 90;

/// A spool on disk and what is in it.
struct Model {
    dir: tempfile::TempDir,
    /// Offset, end and header of each batch by number, with its segment.
    stored: BTreeMap<Seq, (u64, u64, u64, BatchHeader)>,
    segments: Vec<u64>,
}

/// What tells of lost batches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Told {
    Footers,
    Catalog,
    Neighbours,
}

#[derive(Clone, Copy, Debug)]
enum Harm {
    Missing,
    Zeroed { at: u64, length: u64 },
    Flipped { at: u64 },
    Truncated { to: u64 },
}

/// Several segments over three shards, some groups of several batches.
fn model(seed: u64) -> Model {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut headers = BTreeMap::new();
    runtime().block_on(async {
        let (spool, _) = Spool::open(&options(dir.path())).unwrap();
        spool.set_destinations(&[SIEM.to_owned()]).await.unwrap();
        let mut tenures = Vec::new();
        for shard in 0..3 {
            tenures.push(begin(&spool, shard).await);
        }
        let (mut next, mut count) = ([0; 3], 0);
        while count < BATCHES {
            let shard = rng.usize(..3);
            let body = |rng: &mut fastrand::Rng| vec![rng.u8(..); rng.usize(100..90_000)];
            let number = next[shard];
            if rng.u8(..4) == 0 {
                let (one, two) = (batch(number, body(&mut rng)), batch(number + 1, body(&mut rng)));
                let (one, two) = tokio::join!(
                    spool.append(&tenures[shard], one),
                    spool.append(&tenures[shard], two)
                );
                one.unwrap();
                two.unwrap();
                (next[shard], count) = (number + 2, count + 2);
            } else if rng.u8(..6) == 0 {
                let (from, to) = (super::cursor(number), super::cursor(number));
                spool.progress(&tenures[shard], from, to).await.unwrap();
            } else {
                spool.append(&tenures[shard], batch(number, body(&mut rng))).await.unwrap();
                (next[shard], count) = (number + 1, count + 1);
            }
        }
        let state = spool.status().state;
        spool.close();
        let disk = OsDisk::new(dir.path());
        for &id in state.segments.keys() {
            let file = disk.open(&segment::path(id), false).unwrap();
            let (_, found) = batches(file.as_ref(), id, file.len().unwrap()).unwrap();
            for one in found {
                let head = one.offset + 24;
                let end = head + u64::from(one.stored);
                headers.insert(one.header.seq, (id, one.offset, end, one.header));
            }
        }
        assert!(state.segments.len() >= 4 && headers.len() as u64 >= BATCHES);
        Model { dir, stored: headers, segments: state.segments.keys().copied().collect() }
    })
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let target = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy_tree(&file.path(), &target);
        } else {
            std::fs::copy(file.path(), target).unwrap();
        }
    }
}

fn path(dir: &Path, id: u64) -> PathBuf {
    dir.join(segment::path(id))
}

impl Harm {
    fn any(rng: &mut fastrand::Rng, length: u64) -> Self {
        match rng.u8(..8) {
            0 => Self::Missing,
            1..4 => Self::Flipped { at: rng.u64(..length) },
            4..6 => {
                let at = rng.u64(..length) / 4096 * 4096;
                Self::Zeroed { at, length: 4096 * rng.u64(1..60) }
            }
            _ => Self::Truncated { to: rng.u64(..length) },
        }
    }

    fn does(self, path: &Path) {
        let mut bytes = std::fs::read(path).unwrap();
        let at = |at: u64| usize::try_from(at).unwrap();
        match self {
            Self::Missing => return std::fs::remove_file(path).unwrap(),
            Self::Flipped { at: place } => bytes[at(place)] ^= 4,
            Self::Zeroed { at: place, length } => {
                let end = at(place + length).min(bytes.len());
                bytes[at(place)..end].fill(0);
            }
            Self::Truncated { to } => bytes.truncate(at(to)),
        }
        std::fs::write(path, bytes).unwrap();
    }

    /// The bytes it touches.
    fn touches(self) -> std::ops::Range<u64> {
        match self {
            Self::Missing => 0..u64::MAX,
            Self::Flipped { at } => at..at + 1,
            Self::Zeroed { at, length } => at..at + length,
            Self::Truncated { to } => to..u64::MAX,
        }
    }
}

/// Opens, reads everything, and gives what is lost, as it was read and as the ledger names it.
fn lives_on(model: &Model, dir: &Path, told: Told, case: &str) -> (BTreeSet<Seq>, Vec<Lost>) {
    let original: BTreeMap<u64, Vec<u8>> = model
        .segments
        .iter()
        .filter_map(|&id| Some((id, std::fs::read(path(dir, id)).ok()?)))
        .collect();
    runtime().block_on(async {
        let (spool, Opened { damage: mut found, .. }) = Spool::open(&options(dir)).unwrap();
        let (mut reader, mut seen) = (spool.reader(0), BTreeSet::new());
        while let Some(item) = reader.read().unwrap() {
            match item {
                Item::Batch(read) => {
                    let (_, _, _, header) = &model.stored[&read.header.seq];
                    assert_eq!(&read.header, header, "{case}");
                    assert_eq!(read.body.len() as u64, header.raw_size, "{case}");
                    assert!(seen.insert(read.header.seq), "{case}");
                }
                Item::Damage(damage) => {
                    spool.set_aside(&damage).unwrap();
                    spool.set_aside(&damage).unwrap();
                    found.push(damage);
                }
            }
        }
        for damage in &found {
            let name = format!("quarantine/{:016x}-{}.bin", damage.segment, damage.from);
            let copy = std::fs::read(dir.join(name)).unwrap();
            let from = usize::try_from(damage.from).unwrap();
            let to = usize::try_from(damage.to).unwrap();
            let bytes = original.get(&damage.segment).map_or(&[][..], Vec::as_slice);
            let bytes = bytes.get(from..to.min(bytes.len())).unwrap_or_default();
            assert!(copy == bytes, "{case}: {damage:?}");
            assert_eq!(damage.harmless, damage.first_seq == damage.end_seq, "{case}: {damage:?}");
        }
        let lines = read_ledger(dir).unwrap();
        let places: BTreeSet<_> =
            lines.iter().map(|line| (line["segment"].as_u64(), line["from"].as_u64())).collect();
        assert_eq!(places.len(), lines.len(), "{case}: each place once");
        let lost: Vec<Lost> = lines.iter().flat_map(lost_in).collect();
        // What came last is there still, and more goes in.
        let tenure = begin(&spool, 0).await;
        let at = spool.shard(&key(0)).unwrap().position[1..].parse().unwrap();
        let before = spool.status().state.next_seq;
        let receipt = spool.append(&tenure, batch(at, "more")).await.unwrap();
        assert_eq!(receipt.end(), before + 1, "{case}");
        if told != Told::Neighbours {
            assert!(before >= BATCHES, "{case}: a number is used again");
        }
        let read = match reader.read().unwrap() {
            Some(Item::Batch(read)) => read,
            other => panic!("{case}: {other:?}"),
        };
        assert_eq!((read.header.seq, read.body), (before, b"more".to_vec()), "{case}");
        spool.close();
        let all: BTreeSet<Seq> = model.stored.keys().copied().collect();
        (all.difference(&seen).copied().collect(), lost)
    })
}

/// What the ranges cover: shard and number of the cursor.
fn covered(lost: &[Lost]) -> BTreeSet<(u32, u64)> {
    // Where a shard began is lost with the beginning of the first segment.
    let number =
        |cursor: &str| cursor.strip_prefix('c').map_or(0, |number| number.parse().unwrap());
    assert!(lost.iter().all(|one| !one.next_cursor.is_empty()), "{lost:?}");
    let ranges = lost.iter().map(|one| (one.key.shard, &one.cursor, &one.next_cursor));
    ranges
        .flat_map(|(shard, from, to)| (number(from)..number(to)).map(move |at| (shard, at)))
        .collect()
}

fn damaged_anywhere(told: Told, seed: u64, cases: u32) {
    let model = model(seed);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut losses = 0;
    for number in 0..cases {
        let dir = tempfile::tempdir().unwrap();
        copy_tree(model.dir.path(), dir.path());
        if told != Told::Catalog {
            std::fs::remove_dir_all(dir.path().join("catalog")).unwrap();
        }
        // Of the newest segment's end only the catalog can tell.
        let newest =
            if told == Told::Catalog { model.segments.len() } else { model.segments.len() - 1 };
        let id = model.segments[rng.usize(..newest)];
        let length = std::fs::metadata(path(dir.path(), id)).unwrap().len();
        let mut harms = vec![Harm::any(&mut rng, length)];
        if told == Told::Neighbours && length > 200 && !matches!(harms[0], Harm::Missing) {
            // The footer goes, too.
            harms.push(Harm::Flipped { at: length - 100 });
        }
        for harm in &harms {
            if harm.touches().start < std::fs::metadata(path(dir.path(), id)).unwrap().len() {
                harm.does(&path(dir.path(), id));
            }
        }
        let case = format!("seed {seed}, case {number}: {told:?}, segment {id}, {harms:?}");
        let (missing, lost) = lives_on(&model, dir.path(), told, &case);
        losses += missing.len();
        let spans: BTreeSet<Seq> =
            lost.iter().flat_map(|one| one.span.first..one.span.end).collect();
        assert_eq!(spans, missing, "{case}: {lost:?}");
        let expected: BTreeSet<(u32, u64)> = missing
            .iter()
            .map(|seq| &model.stored[seq].3)
            .map(|header| (header.key.shard, header.cursor[1..].parse().unwrap()))
            .collect();
        assert_eq!(covered(&lost), expected, "{case}: {lost:?}");
        for seq in &missing {
            let (segment, from, end, _) = &model.stored[seq];
            let hit = harms.iter().any(|harm| {
                let touched = harm.touches();
                touched.start < end + 2000 && touched.end > *from
            });
            // An unfinished group of the newest segment goes as a whole.
            assert!(hit || *segment == *model.segments.last().unwrap(), "{case}: {seq}");
        }
        if told != Told::Neighbours && !matches!(harms[0], Harm::Missing) {
            let logs: u64 = lost.iter().map(|one| one.logs.unwrap_or(0)).sum();
            let exact = lost.iter().all(|one| one.logs.is_some());
            assert!(!exact || logs == missing.len() as u64, "{case}: {lost:?}");
        }
    }
    assert!(losses > cases as usize / 2, "the damage did nothing: {losses}");
}

#[test]
fn footers_name_exactly_what_damage_took() {
    damaged_anywhere(Told::Footers, 31, 40);
}

#[test]
fn the_catalog_names_exactly_what_damage_took_also_the_end_of_the_newest_segment() {
    damaged_anywhere(Told::Catalog, 32, 40);
}

#[test]
fn neighbours_name_exactly_what_damage_took() {
    damaged_anywhere(Told::Neighbours, 33, 90);
}

#[test]
fn the_newest_segment_itself_may_vanish_where_there_is_a_catalog() {
    let model = model(14);
    let dir = tempfile::tempdir().unwrap();
    copy_tree(model.dir.path(), dir.path());
    let newest = *model.segments.last().unwrap();
    Harm::Missing.does(&path(dir.path(), newest));
    let (missing, lost) = lives_on(&model, dir.path(), Told::Catalog, "vanished");
    assert!(!missing.is_empty());
    let spans: BTreeSet<Seq> = lost.iter().flat_map(|one| one.span.first..one.span.end).collect();
    assert_eq!(spans, missing);
}

#[test]
fn damage_of_what_every_destination_has_is_called_harmless() {
    let model = model(15);
    let dir = tempfile::tempdir().unwrap();
    copy_tree(model.dir.path(), dir.path());
    let mut all = options(dir.path());
    // The batches are from 2023.
    all.retention.time = std::time::Duration::from_secs(3_600_000_000);
    all.retention.bytes = u64::MAX;
    runtime().block_on(async {
        let (spool, _) = Spool::open(&all).unwrap();
        let mut reader = spool.reader(0);
        while let Some(Item::Batch(read)) = reader.read().unwrap() {
            let (position, log) = after(&read);
            spool.ack(SIEM, position, log);
        }
        spool.flush().await.unwrap();
        let (id, from, ..) = model.stored[&3];
        Harm::Flipped { at: from + 40 }.does(&path(dir.path(), id));
        let mut reader = spool.reader(0);
        let mut found = Vec::new();
        while let Some(item) = reader.read().unwrap() {
            if let Item::Damage(damage) = item {
                found.push(damage);
            }
        }
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].harmless && found[0].lost[0].delivered, "{found:?}");
        assert!(found[0].to_string().contains("nothing that was still needed"), "{}", found[0]);
        spool.close();
    });
}

#[test]
fn where_nothing_tells_the_end_of_a_lost_range_it_is_left_open() {
    let disk = SimDisk::default();
    let open = |disk: &SimDisk| {
        Spool::open_simulated(Arc::new(disk.clone()), &options(Path::new("sim"))).unwrap()
    };
    runtime().block_on(async {
        let (spool, _) = open(&disk);
        spool.set_destinations(&[SIEM.to_owned()]).await.unwrap();
        let (one, two) = (begin(&spool, 0).await, begin(&spool, 1).await);
        spool.append(&one, batch(0, "a")).await.unwrap();
        spool.append(&two, batch(0, "b")).await.unwrap();
        let at = spool.status().state.segments.values().last().unwrap().length;
        spool.append(&one, batch(1, "c")).await.unwrap();
        spool.append(&two, batch(1, "d")).await.unwrap();
        // The process is killed: no footer, and there is no catalog. In the header of "c":
        disk.flip_bit(&segment::path(1), usize::try_from(at).unwrap() + 40 + 24 + 3);
        let (again, opened) = open(&disk.clone());
        assert_eq!(opened.damage.len(), 1, "{opened:?}");
        let lost = &opened.damage[0].lost;
        assert_eq!(lost.len(), 1, "{lost:?}");
        let span = Span { first: 2, end: 3 };
        assert_eq!((&lost[0].key, lost[0].span), (&key(0), span), "{lost:?}");
        assert_eq!((lost[0].cursor.as_str(), lost[0].next_cursor.as_str()), ("c1", ""));
        again.close();
        spool.close();
    });
}

#[test]
fn the_same_place_is_told_the_same_wherever_it_is_met() {
    let model = model(16);
    let (id, from, end, _) = model.stored[&7];
    Harm::Zeroed { at: from, length: end - from }.does(&path(model.dir.path(), id));
    // Every reader has to come upon it from the beginning of its segment.
    std::fs::remove_dir_all(model.dir.path().join("catalog")).unwrap();
    let before = Inspection::open(model.dir.path()).unwrap();
    runtime().block_on(async {
        let (spool, _) = Spool::open(&options(model.dir.path())).unwrap();
        let found = spool.scan().unwrap();
        let [place] = &found[..] else { panic!("{found:?}") };
        assert_eq!((place.first_seq, place.end_seq), (7, 8), "{place:?}");
        assert!(place.lost.len() == 1 && place.lost[0].next_cursor != place.lost[0].cursor);
        for inspection in [&before, &spool.inspection()] {
            let verified = inspection.verify(id).unwrap();
            assert_eq!((verified.lost, &verified.damage), (1, &found));
        }
        for from in 0..=7 {
            let mut reader = spool.reader(from);
            let mut met = Vec::new();
            while let Some(item) = reader.read().unwrap() {
                if let Item::Damage(damage) = item {
                    met.push(damage);
                }
            }
            assert_eq!(met, found, "from {from}");
        }
        spool.close();
    });
}

#[test]
fn a_damaged_beginning_of_a_file_takes_nothing_that_is_whole_behind_it() {
    for cut in [false, true] {
        let model = model(17);
        let (id, ..) = model.stored[&7];
        let path = path(model.dir.path(), id);
        let mut bytes = std::fs::read(&path).unwrap();
        if cut {
            // Everything moves to the front.
            bytes.drain(..16);
        } else {
            bytes[3] ^= 1;
        }
        std::fs::write(&path, bytes).unwrap();
        std::fs::remove_dir_all(model.dir.path().join("catalog")).unwrap();
        runtime().block_on(async {
            let (spool, _) = Spool::open(&options(model.dir.path())).unwrap();
            let mut reader = spool.reader(0);
            let (mut seen, mut met) = (BTreeSet::new(), Vec::new());
            while let Some(item) = reader.read().unwrap() {
                match item {
                    Item::Batch(read) => assert!(seen.insert(read.header.seq)),
                    Item::Damage(damage) => met.push(damage),
                }
            }
            assert!(seen.iter().copied().eq(0..seen.len() as u64), "{seen:?}");
            assert_eq!(seen.len(), model.stored.len());
            assert!(met.iter().all(|place| place.harmless && place.lost.is_empty()), "{met:?}");
            spool.close();
        });
    }
}
