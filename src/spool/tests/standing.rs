//! Destinations that do not hold the spool, and where new ones start.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::super::sim::SimDisk;
use super::super::{Options, Retention, Span, Spool, StartAt, Terms, read_ledger};
use super::{after, batch, begin, cursor, drain, is_full, key, options, runtime};

const BODY: usize = 300_000;

fn terms(name: &str, required: bool) -> Terms {
    Terms { name: name.to_owned(), required, start: StartAt::default() }
}

fn siem_and_archive() -> [Terms; 2] {
    [terms("siem", true), terms("archive", false)]
}

/// Appends batches until one does not fit, and returns how many did.
async fn fill(spool: &Spool, tenure: &super::Tenure, from: u64, most: u64) -> u64 {
    for number in from..most {
        match spool.append(tenure, batch(number, vec![7; BODY])).await {
            Ok(_) => {}
            Err(error) if is_full(&error) => return number,
            Err(error) => panic!("{error}"),
        }
    }
    most
}

/// The same batch again and again, as a fetcher does.
async fn append_patiently(spool: &Spool, tenure: &super::Tenure, number: u64) -> bool {
    for _ in 0..100 {
        match spool.append(tenure, batch(number, vec![7; BODY])).await {
            Ok(_) => return true,
            Err(error) if is_full(&error) => spool.flush().await.unwrap(),
            Err(error) => panic!("{error}"),
        }
    }
    false
}

fn gave_way(dir: &Path) -> Vec<(String, u64, u64, u64)> {
    let lines = read_ledger(dir).unwrap();
    let lines = lines.iter().filter(|line| line["what"] == "gave way");
    let told = lines.map(|line| {
        let number = |name: &str| line[name].as_u64().unwrap();
        let destination = line["destination"].as_str().unwrap().to_owned();
        (destination, number("first_seq"), number("end_seq"), number("logs"))
    });
    told.collect()
}

#[test]
fn one_that_is_not_required_loses_its_place_when_room_is_short_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let (spool, _) = Spool::open(&options(dir.path())).unwrap();
        spool.set_terms(&siem_and_archive()).await.unwrap();
        let tenure = begin(&spool, 0).await;
        let full = fill(&spool, &tenure, 0, u64::MAX).await;
        // The one that is required needs the oldest segment, too.
        assert!(!append_patiently(&spool, &tenure, full).await);
        assert!(gave_way(dir.path()).is_empty());
        let mut reader = spool.reader(0);
        for read in drain(&mut reader) {
            let (position, log) = after(&read);
            spool.ack("siem", position, log);
        }
        reader.release();
        spool.flush().await.unwrap();
        assert_eq!(spool.waiting(), 0, "what is not required is not waited for");
        assert_eq!(spool.delivered("archive").unwrap().log, 0, "room is not short any more");
        for number in full..full + 20 {
            assert!(append_patiently(&spool, &tenure, number).await, "held up at {number}");
            spool.ack("siem", super::Position { seq: number + 1, index: 0 }, number + 1);
        }
        let archive = spool.delivered("archive").unwrap();
        assert!(archive.log > 0 && archive.log < full + 20);
        let lost: u64 = gave_way(dir.path()).iter().map(|(_, _, _, logs)| logs).sum();
        assert_eq!(lost, archive.log, "the ledger tells of every log, and of none twice");
        let given_up = spool.given_up().borrow().clone();
        assert_eq!(given_up, BTreeMap::from([("archive".to_owned(), lost)]));
        let left = drain(&mut spool.delivery_reader(0));
        assert_eq!(left[0].header.seq, archive.position.seq, "it goes on where its place is now");
        assert_eq!(left.len() as u64, full + 20 - archive.position.seq);
        spool.close();
        let (spool, opened) = Spool::open(&options(dir.path())).unwrap();
        assert!(opened.damage.is_empty());
        assert_eq!(spool.delivered("archive").unwrap(), archive);
        spool.close();
    });
}

#[test]
fn what_it_confirmed_a_moment_ago_is_not_counted_as_lost_and_an_older_ack_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let (spool, _) = Spool::open(&options(dir.path())).unwrap();
        spool.set_terms(&[terms("archive", false)]).await.unwrap();
        let tenure = begin(&spool, 0).await;
        let pin = spool.pin(0);
        let full = fill(&spool, &tenure, 0, u64::MAX).await;
        drop(pin);
        spool.ack("archive", super::Position { seq: 2, index: 0 }, 2);
        assert!(append_patiently(&spool, &tenure, full).await);
        let told = gave_way(dir.path());
        assert_eq!((told.len(), told[0].1), (1, 2), "{told:?}");
        let archive = spool.delivered("archive").unwrap();
        assert_eq!((archive.position.seq, archive.log), (told[0].2, told[0].3 + 2));
        spool.ack("archive", super::Position { seq: 3, index: 0 }, 3);
        spool.flush().await.unwrap();
        assert_eq!(spool.delivered("archive").unwrap(), archive);
        spool.close();
    });
}

#[test]
fn what_is_only_kept_goes_before_anybody_loses_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let retention = Retention { time: std::time::Duration::MAX, bytes: u64::MAX };
    let options = Options { retention, ..options(dir.path()) };
    runtime().block_on(async {
        let (spool, _) = Spool::open(&options).unwrap();
        spool.set_terms(&siem_and_archive()).await.unwrap();
        let tenure = begin(&spool, 0).await;
        let full = fill(&spool, &tenure, 0, u64::MAX).await;
        let half = super::Position { seq: full / 2, index: 0 };
        for name in ["siem", "archive"] {
            spool.ack(name, half, full / 2);
        }
        spool.flush().await.unwrap();
        let more = full / 4;
        for number in full..full + more {
            assert!(append_patiently(&spool, &tenure, number).await);
        }
        assert!(gave_way(dir.path()).is_empty(), "there was room in what is only kept");
        assert!(spool.status().state.segments.values().next().unwrap().first_seq > 0);
        spool.close();
    });
}

#[test]
fn held_and_pinned_batches_stay_whoever_is_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let (spool, _) = Spool::open(&options(dir.path())).unwrap();
        spool.set_terms(&[terms("archive", false)]).await.unwrap();
        let tenure = begin(&spool, 0).await;
        let pin = spool.pin(0);
        let full = fill(&spool, &tenure, 0, u64::MAX).await;
        assert!(!append_patiently(&spool, &tenure, full).await, "pinned");
        drop(pin);
        let span = Span { first: 1, end: 2 };
        spool.hold(span).await.unwrap();
        assert!(!append_patiently(&spool, &tenure, full).await, "held");
        spool.release(span).await.unwrap();
        assert!(append_patiently(&spool, &tenure, full).await);
        spool.close();
    });
}

#[test]
fn checkpoints_follow_what_is_required_and_all_where_nothing_is() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let (spool, _) = Spool::open(&options(dir.path())).unwrap();
        spool.set_terms(&siem_and_archive()).await.unwrap();
        let tenure = begin(&spool, 0).await;
        spool.append(&tenure, batch(0, "x")).await.unwrap();
        spool.ack("siem", super::Position { seq: 1, index: 0 }, 1);
        spool.flush().await.unwrap();
        assert_eq!((*spool.needed().borrow(), spool.waiting()), (1, 0));
        spool.set_terms(&[terms("archive", false), terms("siem", false)]).await.unwrap();
        assert_eq!((*spool.needed().borrow(), spool.waiting()), (0, 1));
        spool.close();
    });
}

#[test]
fn a_new_destination_starts_where_it_is_told_and_the_ledger_says_so() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let (spool, _) = Spool::open(&options(dir.path())).unwrap();
        spool.set_destinations(&["first".to_owned()]).await.unwrap();
        let tenure = begin(&spool, 0).await;
        for number in 0..6 {
            let mut batch = batch(number, "x");
            batch.received_at = 1_000 * i64::try_from(number).unwrap();
            batch.logs = 10;
            spool.append(&tenure, batch).await.unwrap();
        }
        let starts = [
            ("fresh", StartAt::Fresh, 6),
            ("now", StartAt::Now, 6),
            ("oldest", StartAt::Oldest, 0),
            ("between", StartAt::Received(2_500), 3),
            ("exactly", StartAt::Received(2_000), 2),
            ("later", StartAt::Received(60_000), 6),
        ];
        for (name, start, seq) in starts {
            let one = Terms { name: name.to_owned(), required: true, start };
            spool.set_terms(&[one]).await.unwrap();
            let found = spool.delivered(name).unwrap();
            assert_eq!((found.position.seq, found.log), (seq, seq * 10), "{name}");
        }
        let again = Terms { name: "now".to_owned(), required: true, start: StartAt::Oldest };
        spool.set_terms(&[again]).await.unwrap();
        assert_eq!(spool.delivered("now").unwrap().position.seq, 6, "it is not new any more");
        spool.close();
        let lines = read_ledger(dir.path()).unwrap();
        let noted: Vec<_> = lines.iter().map(|line| (&line["destination"], &line["seq"])).collect();
        assert_eq!(noted.len(), starts.len(), "{noted:?}");
        for ((name, _, seq), noted) in starts.iter().zip(noted) {
            assert_eq!(noted, (&(*name).into(), &(*seq).into()));
        }
        assert_eq!(lines[3]["start"], "1970-01-01T00:00:02.5Z");
    });
}

#[test]
fn the_first_destination_of_a_spool_gets_everything_unless_it_is_told_otherwise() {
    for (start, seq) in [(StartAt::Fresh, 0), (StartAt::Now, 2)] {
        let dir = tempfile::tempdir().unwrap();
        runtime().block_on(async {
            let (spool, _) = Spool::open(&options(dir.path())).unwrap();
            let tenure = begin(&spool, 0).await;
            spool.append(&tenure, batch(0, "x")).await.unwrap();
            spool.append(&tenure, batch(1, "x")).await.unwrap();
            assert_eq!(spool.shard(&key(0)).unwrap().position, cursor(2));
            let siem = Terms { name: "siem".to_owned(), required: true, start };
            spool.set_terms(&[siem]).await.unwrap();
            assert_eq!(spool.delivered("siem").unwrap().position.seq, seq);
            spool.close();
        });
    }
}

/// Gives way some times, and loses power at a random call around that.
fn give_way_and_lose_power(seed: u64) {
    let (disk, mut rng) = (SimDisk::default(), fastrand::Rng::with_seed(seed));
    let open = |disk: &SimDisk| {
        Spool::open_simulated(Arc::new(disk.clone()), &options(Path::new("sim"))).unwrap()
    };
    let (spool, _) = open(&disk);
    runtime().block_on(async {
        spool.set_terms(&[terms("archive", false)]).await.unwrap();
        let tenure = begin(&spool, 0).await;
        let pin = spool.pin(0);
        let full = fill(&spool, &tenure, 0, u64::MAX).await;
        drop(pin);
        disk.stop_after(rng.u64(..30));
        for number in full..full + rng.u64(1..12) {
            if spool.append(&tenure, batch(number, vec![7; BODY])).await.is_err() {
                let _ = spool.flush().await;
                let _ = spool.append(&tenure, batch(number, vec![7; BODY])).await;
            }
        }
    });
    spool.close();
    let disk = disk.lose_power(&mut rng);
    let (spool, opened) = open(&disk);
    assert!(opened.damage.is_empty(), "seed {seed}: {:?}", opened.damage);
    let place = spool.delivered("archive").unwrap();
    let left = drain(&mut spool.delivery_reader(place.position.seq));
    let end = spool.status().state.next_seq;
    let seqs: Vec<u64> = left.iter().map(|read| read.header.seq).collect();
    assert_eq!(seqs, (place.position.seq..end).collect::<Vec<_>>(), "seed {seed}: a hole");
    let ledger = disk.bytes(Path::new("ledger.jsonl")).unwrap_or_default();
    let lines = ledger.split(|byte| *byte == b'\n');
    let lines = lines.filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
    let told: u64 = lines.filter_map(|line| line["logs"].as_u64()).sum();
    assert!(told >= place.log, "seed {seed}: {} logs are gone, {told} told", place.log);
    spool.close();
}

#[test]
fn no_power_loss_makes_a_loss_that_is_not_told_or_a_hole_that_is_none() {
    (0..20).for_each(give_way_and_lose_power);
}
