//! Encryption at rest: who has the key reads everything, who has not reads headers, and
//! nothing is passed over.

use std::path::Path;
use std::sync::Arc;

use super::super::inspect::{Inspection, Met};
use super::super::portable::{PortableError, WhenFull, export, import, verify};
use super::super::sim::SimDisk;
use super::super::{Error, Item, Keys, Options, Reader, Span, Spool, UnreadableAnswer, segment};
use super::{Compression, after, batch, begin, drain, key, keys, options, runtime};

const SIEM: &str = "siem";
const PLAIN: &[u8] = b"what nobody is to read";

fn open(disk: &SimDisk, of: &[u8]) -> Spool {
    let options = Options { keys: keys(of), ..options(Path::new("sim")) };
    Spool::open_simulated(Arc::new(disk.clone()), &options).unwrap().0
}

fn open_dir(dir: &Path, of: &[u8]) -> Spool {
    Spool::open(&Options { keys: keys(of), ..options(dir) }).unwrap().0
}

async fn append(spool: &Spool, numbers: std::ops::Range<u64>) {
    spool.set_destinations(&[SIEM.to_owned()]).await.unwrap();
    let tenure = begin(spool, 0).await;
    for number in numbers {
        let body = [PLAIN, &number.to_le_bytes()].concat();
        spool.append(&tenure, batch(number, body)).await.unwrap();
    }
}

fn bodies(reader: &mut Reader) -> Vec<Vec<u8>> {
    drain(reader).into_iter().map(|batch| batch.body).collect()
}

fn plain(numbers: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    numbers.map(|number| [PLAIN, &number.to_le_bytes()].concat()).collect()
}

fn id(key: u8) -> u64 {
    keys(&[key]).ids().next().unwrap()
}

/// Which key is missing.
fn missing<T: std::fmt::Debug>(result: Result<T, Error>) -> u64 {
    match result {
        Err(error @ Error::KeyMissing { key_id, .. }) => {
            let text = error.to_string();
            assert!(text.contains(&format!("{key_id:016x}")) && text.contains("encrypt_key_file"));
            key_id
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn keys_rotate_and_each_batch_is_read_with_its_own() {
    runtime().block_on(async {
        let disk = SimDisk::default();
        let lives: [(&[u8], u64); 4] =
            [(&[], 0), (&[1], id(1)), (&[2, 1], id(2)), (&[3, 2, 1], id(3))];
        for (at, (of, _)) in (0..).zip(lives) {
            let spool = open(&disk, of);
            append(&spool, 2 * at..2 * at + 2).await;
            assert_eq!(bodies(&mut spool.delivery_reader(0)), plain(0..2 * at + 2));
            spool.close();
        }
        let spool = open(&disk, &[1, 2, 3]);
        let ids: Vec<_> =
            drain(&mut spool.reader(0)).iter().map(|batch| batch.header.key_id).collect();
        assert_eq!(ids, lives.map(|(_, id)| [id, id]).concat());
        spool.close();
    });
}

#[test]
fn delivery_stops_at_a_batch_without_its_key_and_goes_on_once_it_is_there() {
    runtime().block_on(async {
        let disk = SimDisk::default();
        let spool = open(&disk, &[1]);
        append(&spool, 0..3).await;
        spool.close();
        // The new key is not enough, and neither is none: pulling goes on all the same.
        for (of, numbers) in [(&[2][..], 3..5), (&[], 5..6)] {
            let spool = open(&disk, of);
            append(&spool, numbers).await;
            let mut reader = spool.delivery_reader(0);
            for _ in 0..3 {
                assert_eq!(missing(reader.read()), id(1));
            }
            reader.release();
            assert_eq!(missing(reader.read()), id(1));
            spool.close();
        }
        let spool = open(&disk, &[2, 1]);
        let all = drain(&mut spool.delivery_reader(0));
        let (position, log) = after(all.last().unwrap());
        spool.ack(SIEM, position, log);
        spool.flush().await.unwrap();
        assert_eq!(all.into_iter().map(|batch| batch.body).collect::<Vec<_>>(), plain(0..6));
        spool.close();
        // A restart in the middle of a stretch without the key passes over nothing either.
        let spool = open(&disk, &[2]);
        append(&spool, 6..8).await;
        assert_eq!(bodies(&mut spool.delivery_reader(6)), plain(6..8));
        spool.close();
    });
}

#[test]
fn what_lies_behind_damage_waits_for_its_key_as_well() {
    runtime().block_on(async {
        let disk = SimDisk::default();
        let spool = open(&disk, &[1]);
        spool.set_destinations(&[SIEM.to_owned()]).await.unwrap();
        // Mostly one group, so that the entries behind the damaged one are found one by one.
        let inserts =
            (0..3).map(|n| spool.insert(key(0), batch(n, PLAIN), super::super::Origin::Import));
        let mut inserts: Vec<_> = inserts.map(Box::pin).collect();
        std::future::poll_fn(|context| {
            inserts.retain_mut(|insert| insert.as_mut().poll(context).is_pending());
            if inserts.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        drop(inserts);
        spool.close();
        let at = disk_offset(&disk, 0);
        disk.flip_bit(&segment::path(1), at);
        let without = open(&disk, &[]);
        let mut reader = without.delivery_reader(0);
        assert!(matches!(reader.read(), Ok(Some(Item::Damage(_)))));
        for _ in 0..3 {
            assert_eq!(missing(reader.read()), id(1));
        }
        without.close();
        let with = open(&disk, &[1]);
        let mut reader = with.delivery_reader(0);
        assert!(matches!(reader.read(), Ok(Some(Item::Damage(_)))));
        assert_eq!(bodies(&mut reader), [PLAIN, PLAIN]);
        with.close();
    });
}

/// Where the body of batch `seq` lies in the first segment.
fn disk_offset(disk: &SimDisk, seq: u64) -> usize {
    use super::super::disk::Disk as _;
    use super::super::scan::{EntryAt, batches, read_entry};
    let file = disk.open(&segment::path(1), false).unwrap();
    let (incarnation, found) = batches(file.as_ref(), 1, file.len().unwrap()).unwrap();
    let batch = found.iter().find(|batch| batch.header.seq == seq).unwrap();
    let entry = read_entry(file.as_ref(), incarnation, batch.offset, u64::MAX).unwrap();
    let EntryAt::Valid { found, .. } = entry else { panic!("it does not check") };
    usize::try_from(found.end() - 5).unwrap()
}

#[test]
fn a_changed_body_with_a_right_checksum_is_damage_of_one_batch() {
    runtime().block_on(async {
        let disk = SimDisk::default();
        let spool = open(&disk, &[1]);
        append(&spool, 0..2).await;
        spool.close();
        // Somebody who knows the format and not the key gives batch 2 another body.
        let forged = open(&disk, &[]);
        let tenure = begin(&forged, 0).await;
        let mut body = vec![7; 80];
        body.extend_from_slice(PLAIN);
        let mut batch = batch(2, body);
        batch.raw_size = 3;
        let append = super::super::command::Append::Batch {
            body_crc: crc32c::crc32c(&batch.body),
            batch,
            origin: super::super::Origin::Live,
            key_id: id(1),
        };
        forged.advance(&tenure, append).await.unwrap();
        forged.close();
        let spool = open(&disk, &[1]);
        append_from(&spool, 3).await;
        let mut reader = spool.delivery_reader(0);
        let mut seen = Vec::new();
        while let Some(item) = reader.read().unwrap() {
            seen.push(match item {
                Item::Batch(batch) => (batch.header.seq, batch.header.seq + 1, true),
                Item::Damage(damage) => (damage.first_seq, damage.end_seq, false),
            });
        }
        assert_eq!(seen, [(0, 1, true), (1, 2, true), (2, 3, false), (3, 4, true)]);
        spool.close();
    });
}

async fn append_from(spool: &Spool, number: u64) {
    append(spool, number..number + 1).await;
}

#[test]
fn without_the_key_a_look_shows_headers_and_refuses_bodies() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let spool = open_dir(dir.path(), &[1]);
        append(&spool, 0..3).await;
        spool.close();
    });
    let look = Inspection::open(dir.path()).unwrap();
    assert!(look.damage.is_empty() && look.state().next_seq == 3);
    for met in look.headers(0, 3, |_| true) {
        let Met::Batch(stored) = met.unwrap() else { panic!("damage") };
        assert_eq!((stored.header.key_id, stored.header.logs), (id(1), 1));
        let sealed = stored.stored_body().unwrap().unwrap();
        assert!(!sealed.windows(9).any(|nine| nine == &PLAIN[..9]));
        assert_eq!(missing(stored.body()), id(1));
    }
    assert!(look.segments().all(|(id, _)| look.verify(id).unwrap().damage.is_empty()));
    assert_eq!(missing(look.reader(1).read()), id(1));
    let look = Inspection::with_keys(dir.path(), keys(&[2, 1])).unwrap();
    assert_eq!(bodies(&mut look.reader(0)), plain(0..3));
    let look = look.newer().unwrap();
    let opened = look.headers(0, 3, |_| true).map(|met| match met.unwrap() {
        Met::Batch(stored) => stored.body().unwrap().unwrap(),
        Met::Damage(damage) => panic!("{damage:?}"),
    });
    assert_eq!(opened.collect::<Vec<_>>(), plain(0..3));
}

#[test]
fn a_look_into_an_open_spool_has_its_keys_and_calls_what_was_changed_damage() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let spool = open_dir(dir.path(), &[1]);
        append(&spool, 0..2).await;
        let look = spool.inspection();
        let Some(Met::Batch(first)) = look.batch(0).unwrap() else { panic!() };
        assert_eq!(first.body().unwrap().unwrap(), plain(0..1)[0]);
        let mut moved = (*first).clone();
        moved.header.cursor = "c9".to_owned();
        let damage = moved.body().unwrap().unwrap_err();
        assert_eq!((damage.first_seq, damage.end_seq), (0, 1));
        spool.close();
    });
}

#[test]
fn copies_in_the_quarantine_are_encrypted_and_open_with_the_key() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let spool = open_dir(dir.path(), &[1]);
        append(&spool, 0..1).await;
        let batch = drain(&mut spool.reader(0)).pop().unwrap();
        spool.quarantine(&batch, "test").unwrap();
        let answer = UnreadableAnswer {
            key: &key(0),
            cursor: "c1",
            next_cursor: "c2",
            why: "test",
            request_id: "r",
            groups: 1,
            raw_size: 9,
            compression: Compression::None,
            body: PLAIN,
        };
        let copy = spool.quarantine_answer(&answer).unwrap();
        spool.close();
        let answer = copy.file_name().unwrap().to_str().unwrap();
        for (name, content) in [(answer, PLAIN), ("batch-0.bin", &plain(0..1)[0])] {
            let copy = std::fs::read(dir.path().join("quarantine").join(name)).unwrap();
            assert!(!copy.windows(9).any(|nine| nine == &PLAIN[..9]));
            assert_eq!(missing(Keys::default().open_copy(name, copy.clone())), id(1));
            assert_eq!(keys(&[1]).open_copy(name, copy).unwrap(), content);
        }
    });
}

#[test]
fn an_export_stays_encrypted_and_an_import_encrypts_with_the_key_of_its_spool() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    runtime().block_on(async {
        let spool = open_dir(old.path(), &[1]);
        append(&spool, 0..3).await;
        spool.close();
        // Exporting needs no key.
        let look = Inspection::open(old.path()).unwrap();
        let file = old.path().join("moved");
        let span = Span { first: 0, end: 3 };
        export(&look, span, &|_| true, &file, &mut |_| ()).unwrap();
        let contents = verify(&file, &mut |_| ()).unwrap();
        assert_eq!(contents.keys.into_iter().collect::<Vec<_>>(), [id(1)]);
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(9).any(|nine| nine == &PLAIN[..9]));

        let spool = open_dir(new.path(), &[2]);
        let contents = verify(&file, &mut |_| ()).unwrap();
        let all = &mut |_| true;
        match import(&spool, &file, contents.clone(), "test", WhenFull::Fail, all).await {
            Err(PortableError::Spool(error)) => assert_eq!(missing::<()>(Err(error)), id(1)),
            other => panic!("{other:?}"),
        }
        assert_eq!(spool.status().state.next_seq, 0, "nothing is stored");
        spool.close();
        let spool = open_dir(new.path(), &[2, 1]);
        import(&spool, &file, contents, "test", WhenFull::Fail, all).await.unwrap();
        spool.close();
        let look = Inspection::with_keys(new.path(), keys(&[2])).unwrap();
        assert_eq!(bodies(&mut look.reader(0)), plain(0..3));
    });
}
