//! Moving house: an export holds what it says, an import stores it once, and neither disturbs
//! a spool that is in use.

use std::path::{Path, PathBuf};

use super::super::disk::{Disk as _, OsDisk};
use super::super::entry::{BatchHeader, Header};
use super::super::format::seal;
use super::super::inspect::Inspection;
use super::super::portable::{PortableError, Progress, WhenFull, export, import, verify};
use super::super::scan::{Bodies, batches, scan};
use super::super::segment::{self, NewEntry, Segment};
use super::super::state::{Delivered, State};
use super::super::{Options, Origin, Position, Span, Spool, read_ledger};
use super::{StoredBatch, after, batch, begin, cursor, drain, key, options, runtime};

const SIEM: &str = "siem";
const ALL: Span = Span { first: 0, end: u64::MAX };

struct House {
    dir: tempfile::TempDir,
    spool: Option<Spool>,
}

impl House {
    async fn new() -> Self {
        let mut house = Self { dir: tempfile::tempdir().unwrap(), spool: None };
        house.open(&house.options()).await;
        house
    }

    fn options(&self) -> Options {
        options(self.dir.path())
    }

    async fn open(&mut self, options: &Options) {
        let spool = Spool::open(options).unwrap().0;
        spool.set_destinations(&[SIEM.to_owned()]).await.unwrap();
        self.spool = Some(spool);
    }

    fn spool(&self) -> &Spool {
        self.spool.as_ref().unwrap()
    }

    /// Appends batches of `size` bytes to two shards in turns.
    async fn fill(&self, count: u64, size: usize) {
        let tenures = [begin(self.spool(), 0).await, begin(self.spool(), 1).await];
        let from = self.spool().status().state.next_seq;
        for number in from..from + count {
            let tenure = &tenures[usize::try_from(number % 2).unwrap()];
            let mut body = vec![u8::try_from(number % 251).unwrap(); size];
            body.extend_from_slice(&number.to_le_bytes());
            self.spool().append(tenure, batch(number / 2, body)).await.unwrap();
        }
    }

    async fn deliver(&self) {
        let from = self.spool().delivered(SIEM).unwrap().position.seq;
        if let Some(last) = drain(&mut self.spool().delivery_reader(from)).last() {
            let (position, log) = after(last);
            self.spool().ack(SIEM, position, log);
            self.spool().flush().await.unwrap();
        }
    }

    fn look(&self) -> Inspection {
        Inspection::open(self.dir.path()).unwrap()
    }

    fn batches(&self) -> Vec<StoredBatch> {
        drain(&mut self.look().reader(0))
    }

    /// Exports everything into a file beside the spool.
    fn export(&self) -> PathBuf {
        let to = self.dir.path().join("moved.export");
        let exported = export(&self.look(), ALL, &|_| true, &to, &mut |_| ()).unwrap();
        assert!(exported.damage.is_empty() && exported.let_go.is_empty(), "{exported:?}");
        to
    }

    async fn import(&self, file: &Path, when_full: WhenFull) -> Result<(u64, u64), PortableError> {
        let contents = verify(file, &mut |_| ())?;
        let all = &mut |_| true;
        let done = import(self.spool(), file, contents, "test", when_full, all).await?;
        assert!(done.whole);
        Ok((done.stored, done.before))
    }

    fn close(&self) {
        self.spool().clone().close();
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(spool) = self.spool.take() {
            spool.close();
        }
    }
}

/// What of a batch moves with it.
fn moved(batches: &[StoredBatch]) -> Vec<(BatchHeader, Vec<u8>)> {
    let same = |batch: &StoredBatch| {
        let (seq, first_log, origin) = (0, 0, Origin::Import);
        let header = BatchHeader { seq, first_log, origin, ..batch.header.clone() };
        (header, batch.body.clone())
    };
    batches.iter().map(same).collect()
}

#[test]
fn what_was_exported_from_several_segments_is_delivered_elsewhere_in_the_same_order() {
    runtime().block_on(async {
        let (old, new) = (House::new().await, House::new().await);
        old.fill(40, 150_000).await;
        assert!(old.spool().status().state.segments.len() > 4);
        let file = old.export();
        new.fill(3, 100).await;
        let mut seen = Vec::new();
        let mut see = |progress| {
            seen.push(progress);
            true
        };
        let contents = verify(&file, &mut |_| ()).unwrap();
        let imported = import(new.spool(), &file, contents, "test", WhenFull::Fail, &mut see);
        let imported = imported.await.unwrap();
        assert_eq!((imported.stored, imported.before, imported.contents.logs), (40, 0, 40));
        let whole = Progress { batches: 40, of_batches: 40, bytes: 6_000_320, of_bytes: 6_000_320 };
        assert_eq!(seen.last(), Some(&whole));
        let delivered = drain(&mut new.spool().delivery_reader(3));
        assert_eq!(moved(&delivered), moved(&old.batches()));
        let origins = delivered.iter().all(|batch| batch.header.origin == Origin::Import);
        assert!(origins && new.spool().shard(&key(1)).unwrap().position == cursor(1));
    });
}

#[test]
fn an_export_is_a_segment_to_every_reader_of_segments() {
    runtime().block_on(async {
        let old = House::new().await;
        old.fill(5, 3_000_000).await;
        let file = std::fs::File::open(old.export()).unwrap();
        let length = file.metadata().unwrap().len();
        let found = scan(&file, 0, None, Bodies::All).unwrap();
        assert!(found.has_snapshot() && found.end == length, "{found:?}");
        assert_eq!(found.pieces.len(), 3, "the snapshot, what fills a group, the rest");
        let (_, told) = batches(&file, 0, length).unwrap();
        let headers: Vec<_> = old.batches().into_iter().map(|batch| batch.header).collect();
        assert_eq!(told.into_iter().map(|batch| batch.header).collect::<Vec<_>>(), headers);
    });
}

#[test]
fn only_what_is_wanted_and_not_dropped_is_exported() {
    runtime().block_on(async {
        let old = House::new().await;
        old.fill(20, 10).await;
        old.spool().discard(Span { first: 8, end: 10 }, 10).await.unwrap();
        let to = old.dir.path().join("some");
        let of_shard = |header: &BatchHeader| header.key == key(1);
        let span = Span { first: 4, end: 15 };
        let exported = export(&old.look(), span, &of_shard, &to, &mut |_| ()).unwrap();
        let contents = verify(&to, &mut |_| ()).unwrap();
        assert_eq!((contents.export, contents.length), (exported.export, exported.length));
        assert_eq!((exported.batches, contents.batches, contents.logs), (4, 4, 4));
        assert_eq!(contents.span, Some(Span { first: 5, end: 14 }));
        assert_eq!(contents.times, Some((1_700_000_000, 1_700_000_001)));
        assert_eq!(contents.shards.into_iter().collect::<Vec<_>>(), [(key(1), (4, 4))]);
    });
}

#[test]
fn an_export_of_nothing_is_a_file_that_holds_nothing() {
    runtime().block_on(async {
        let (old, new) = (House::new().await, House::new().await);
        let file = old.export();
        assert_eq!(verify(&file, &mut |_| ()).unwrap().batches, 0);
        assert_eq!(new.import(&file, WhenFull::Fail).await.unwrap(), (0, 0));
    });
}

#[test]
fn a_file_that_is_there_is_not_overwritten_and_what_an_interrupted_export_left_is() {
    runtime().block_on(async {
        let old = House::new().await;
        old.fill(2, 10).await;
        let to = old.dir.path().join("there");
        std::fs::write(&to, "mine").unwrap();
        let result = export(&old.look(), ALL, &|_| true, &to, &mut |_| ());
        assert!(matches!(result, Err(PortableError::Exists { .. })), "{result:?}");
        assert_eq!(std::fs::read(&to).unwrap(), b"mine");
        let to = old.dir.path().join("new");
        std::fs::write(old.dir.path().join("new.partial"), "half").unwrap();
        export(&old.look(), ALL, &|_| true, &to, &mut |_| ()).unwrap();
        assert_eq!(verify(&to, &mut |_| ()).unwrap().batches, 2);
        assert!(!old.dir.path().join("new.partial").exists());
    });
}

#[test]
fn a_file_cut_or_flipped_anywhere_is_refused_with_nothing_stored() {
    runtime().block_on(async {
        let (old, new) = (House::new().await, House::new().await);
        old.fill(4, 60).await;
        let whole = std::fs::read(old.export()).unwrap();
        let file = new.dir.path().join("broken");
        for length in 0..whole.len() {
            std::fs::write(&file, &whole[..length]).unwrap();
            match verify(&file, &mut |_| ()) {
                Err(PortableError::Cut { .. }) if length >= 32 => {}
                Err(PortableError::Foreign { .. }) if length < 32 => {}
                other => panic!("cut to {length}: {other:?}"),
            }
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            std::fs::write(&file, &flipped).unwrap();
            match verify(&file, &mut |_| ()) {
                Err(PortableError::Cut { .. } | PortableError::Damaged { .. }) if at >= 32 => {}
                Err(PortableError::Foreign { .. }) if at < 32 => {}
                other => panic!("flipped at {at}: {other:?}"),
            }
            if at % 50 == 0 {
                assert!(new.import(&file, WhenFull::Fail).await.is_err());
            }
        }
        for more in [&b"\0"[..], &whole[32..]] {
            std::fs::write(&file, [&whole, more].concat()).unwrap();
            assert!(verify(&file, &mut |_| ()).is_err(), "something behind the end");
        }
        assert!(new.batches().is_empty() && read_ledger(new.dir.path()).unwrap().is_empty());
    });
}

#[test]
fn foreign_and_newer_files_are_refused_by_name() {
    runtime().block_on(async {
        let house = House::new().await;
        house.fill(2, 10).await;
        let file = house.export();
        let said = |path: &Path| verify(path, &mut |_| ()).unwrap_err().to_string();
        let segments = house.dir.path().join("segments");
        let segment = std::fs::read_dir(&segments).unwrap().next().unwrap().unwrap().path();
        assert!(said(&segment).contains("it is a segment"), "{}", said(&segment));
        assert!(said(&segments).contains("no regular file"));
        assert!(said(&house.dir.path().join("LOCK")).contains("LOCK is no export"));
        let mut newer = std::fs::read(&file).unwrap();
        newer[8] = 3;
        seal(&mut newer[..32]);
        std::fs::write(&file, newer).unwrap();
        assert!(said(&file).contains("newer"), "{}", said(&file));
        assert!(said(Path::new("/no/such/file")).contains("/no/such/file"));
    });
}

#[test]
fn an_import_that_found_no_room_goes_on_where_it_stopped() {
    runtime().block_on(async {
        let (old, mut new) = (House::new().await, House::new().await);
        old.fill(25, 400_000).await;
        let file = old.export();
        new.fill(15, 400_000).await;
        let stopped = match new.import(&file, WhenFull::Fail).await {
            Err(PortableError::NoRoom { stored, batches: 25, .. }) => stored,
            other => panic!("{other:?}"),
        };
        assert!((1..25).contains(&stopped), "{stopped}");
        new.deliver().await;
        new.close();
        new.open(&new.options()).await;
        let from = new.spool().status().state.next_seq;
        let stored = new.import(&file, WhenFull::Fail).await.unwrap();
        assert_eq!(stored, (25 - stopped, stopped));
        let rest = drain(&mut new.spool().delivery_reader(from));
        assert_eq!(moved(&rest), moved(&old.batches()[usize::try_from(stopped).unwrap()..]));
        assert_eq!(new.import(&file, WhenFull::Fail).await.unwrap(), (0, 25), "all is there");
    });
}

#[test]
fn an_import_that_nobody_wants_any_more_ends_and_the_next_one_goes_on() {
    runtime().block_on(async {
        let (old, new) = (House::new().await, House::new().await);
        old.fill(300, 10).await;
        let file = old.export();
        let contents = verify(&file, &mut |_| ()).unwrap();
        let mut first = |at: Progress| at.batches == 0;
        let part = import(new.spool(), &file, contents, "test", WhenFull::Fail, &mut first).await;
        let part = part.unwrap();
        assert_eq!((part.stored, part.before, part.whole), (128, 0, false));
        assert_eq!(new.import(&file, WhenFull::Fail).await.unwrap(), (172, 128));
        assert_eq!(moved(&new.batches()), moved(&old.batches()));
    });
}

#[test]
fn an_import_that_waits_for_room_ends_when_nobody_wants_it_any_more() {
    runtime().block_on(async {
        let (old, new) = (House::new().await, House::new().await);
        old.fill(10, 500_000).await;
        while new.spool().status().used_bytes + 5_000_000 < new.options().max_bytes {
            new.fill(1, 500_000).await;
        }
        let file = old.export();
        let contents = verify(&file, &mut |_| ()).unwrap();
        let never = &mut |_| false;
        let part = import(new.spool(), &file, contents, "test", WhenFull::Wait, never).await;
        let part = part.unwrap();
        assert!(!part.whole && part.stored < 10, "{part:?}");
        let noted = read_ledger(new.dir.path()).unwrap().pop().unwrap();
        assert_eq!(noted["batches"], part.stored);
    });
}

#[test]
fn an_import_waits_for_room_while_it_is_delivered() {
    runtime().block_on(async {
        let (old, new) = (House::new().await, House::new().await);
        // More than the new spool takes at once.
        for _ in 0..2 {
            old.fill(15, 500_000).await;
            old.deliver().await;
        }
        old.fill(20, 500_000).await;
        new.fill(20, 500_000).await;
        let file = old.export();
        let moving = new.import(&file, WhenFull::Wait);
        let delivering = async {
            loop {
                new.deliver().await;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let stored = tokio::select! {
            stored = moving => stored.unwrap().0,
            () = delivering => unreachable!(),
        };
        assert_eq!(stored, verify(&file, &mut |_| ()).unwrap().batches);
    });
}

/// What a crash between the last batches and the note about them leaves behind.
#[test]
fn without_the_last_notes_one_group_is_stored_twice_and_nothing_is_left_out() {
    runtime().block_on(async {
        let (old, mut new) = (House::new().await, House::new().await);
        old.fill(300, 100).await;
        let file = old.export();
        new.import(&file, WhenFull::Fail).await.unwrap();
        new.close();
        let ledger = new.dir.path().join("ledger.jsonl");
        let text = std::fs::read_to_string(&ledger).unwrap();
        let notes: Vec<_> = text.lines().filter(|line| line.contains("\"import\"")).collect();
        assert_eq!(notes.len(), 4, "one at the start, one a group: {notes:#?}");
        assert!(notes.iter().all(|note| note.contains("\"reason\":\"test\"")));
        std::fs::write(&ledger, format!("{}\n{}", notes[..2].join("\n"), &notes[2][..40])).unwrap();
        new.open(&new.options()).await;
        assert_eq!(new.import(&file, WhenFull::Fail).await.unwrap(), (172, 128));
        let (all, found) = (moved(&old.batches()), moved(&new.batches()));
        assert_eq!(found[..300], all[..]);
        assert_eq!(found[300..], all[128..], "groups that were noted are not repeated");
    });
}

#[test]
fn live_appends_of_the_same_shard_go_on_during_an_import() {
    runtime().block_on(async {
        let (old, new) = (House::new().await, House::new().await);
        old.fill(60, 20_000).await;
        let file = old.export();
        let tenure = begin(new.spool(), 0).await;
        let mut live = 0;
        let appending = async {
            loop {
                new.spool().append(&tenure, batch(live, "live")).await.unwrap();
                live += 1;
            }
        };
        let stored = tokio::select! {
            stored = new.import(&file, WhenFull::Wait) => stored.unwrap(),
            () = appending => unreachable!(),
        };
        assert_eq!(stored, (60, 0));
        // The append that was given up may still have come through; now nothing moves any more.
        new.close();
        let (imported, appended): (Vec<_>, Vec<_>) =
            new.batches().into_iter().partition(|batch| batch.header.origin == Origin::Import);
        assert_eq!(moved(&imported), moved(&old.batches()));
        let cursors: Vec<_> = appended.iter().map(|batch| batch.header.cursor.clone()).collect();
        assert_eq!(cursors, (0..appended.len() as u64).map(cursor).collect::<Vec<_>>());
        assert!(appended.len() > 5, "{} batches between them", appended.len());
        let at = new.spool().shard(&key(0)).unwrap().position;
        assert_eq!(at, cursor(appended.len() as u64));
        assert!(new.spool().shard(&key(1)).is_none());
    });
}

#[test]
fn what_a_running_relay_lets_go_of_meanwhile_is_told_and_no_damage() {
    runtime().block_on(async {
        let old = House::new().await;
        old.fill(20, 400_000).await;
        let look = old.look();
        old.deliver().await;
        let first = old.spool().status().state.segments.values().next().unwrap().first_seq;
        assert!(first > 10, "delivered segments are gone: {first}");
        let to = old.dir.path().join("late");
        let exported = export(&look, ALL, &|_| true, &to, &mut |_| ()).unwrap();
        assert!(exported.damage.is_empty(), "{exported:?}");
        assert_eq!(exported.let_go.iter().map(|span| span.end - span.first).sum::<u64>(), first);
        assert_eq!(verify(&to, &mut |_| ()).unwrap().batches, 20 - first);
    });
}

#[test]
fn damage_is_told_and_the_rest_exported() {
    runtime().block_on(async {
        let old = House::new().await;
        old.fill(6, 1000).await;
        old.close();
        let path = old.dir.path().join(segment::path(1));
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(8).position(|bytes| bytes == [2; 8]).unwrap();
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let to = old.dir.path().join("rest");
        let exported = export(&old.look(), ALL, &|_| true, &to, &mut |_| ()).unwrap();
        assert_eq!((exported.batches, exported.damage.len()), (5, 1), "{exported:?}");
        assert_eq!((exported.damage[0].first_seq, exported.damage[0].end_seq), (2, 3));
        assert_eq!(verify(&to, &mut |_| ()).unwrap().batches, 5);
    });
}

#[test]
fn more_batches_than_an_index_holds_are_refused_with_the_place_to_split() {
    let dir = tempfile::tempdir().unwrap();
    let disk = OsDisk::new(dir.path());
    disk.create_dir(Path::new(segment::DIR)).unwrap();
    let mut state = State::default();
    let position = Position::default();
    state.destinations.insert(SIEM.to_owned(), Delivered { position, log: 0 });
    state.segments.insert(1, super::super::SegmentInfo::beginning(&state));
    let mut open = Segment::create(&disk, 1, 7, Header::Snapshot(state)).unwrap();
    let entry = |at| {
        let (header, _) = BatchHeader::of(batch(at, ""), key(0), (at, at), Origin::Live, 0);
        NewEntry::bare(Header::Batch(header))
    };
    open.append_group(&(0..60_000).map(entry).collect::<Vec<_>>()).unwrap();
    let look = Inspection::open(dir.path()).unwrap();
    let to = dir.path().join("many");
    let split = match export(&look, ALL, &|_| true, &to, &mut |_| ()) {
        Err(PortableError::TooMany { split }) => split,
        other => panic!("{other:?}"),
    };
    assert!((30_000..60_000).contains(&split), "{split}");
    assert!(!to.exists() && !dir.path().join("many.partial").exists());
    let parts = [Span { first: 0, end: split }, Span { first: split, end: u64::MAX }];
    let parts = parts.map(|span| {
        let to = dir.path().join(span.first.to_string());
        export(&look, span, &|_| true, &to, &mut |_| ()).unwrap().batches
    });
    assert_eq!(parts, [split, 60_000 - split]);
}
