use std::path::{Path, PathBuf};

use super::super::entry::{Footer, Indexed};
use super::super::spans::Span;
use super::*;

/// Where the committed inputs are, which are written anew with `SLS_RELAY_WRITE_CORPUS=1`.
fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

fn is_committed(target: &str, name: &str, bytes: &[u8]) {
    let path = corpus(target).join(name);
    if std::env::var_os("SLS_RELAY_WRITE_CORPUS").is_some() {
        std::fs::create_dir_all(corpus(target)).unwrap();
        std::fs::write(&path, bytes).unwrap();
    }
    let committed = std::fs::read(&path).unwrap_or_default();
    assert!(committed == bytes, "{}: the spool writes something else now", path.display());
}

#[test]
fn the_committed_segments_are_what_the_spool_writes() {
    let whole = |file: &[u8]| [&[0], file].concat();
    let valid = valid_segment();
    is_committed("spool_segment", "valid", &whole(valid));
    is_committed("spool_segment", "sealed", &whole(&sealed_segment()));
    is_committed("spool_segment", "snapshot-only", &whole(&written(&[])));
    is_committed("spool_segment", "torn", &whole(&valid[..valid.len() - 30]));
    let mut damaged = valid.to_vec();
    let inside = damaged.windows(5).position(|bytes| bytes == b"first").unwrap();
    damaged[inside] ^= 1;
    is_committed("spool_segment", "damaged-body", &whole(&damaged));
    let mut headless = valid.to_vec();
    headless[..FILE_HEADER].fill(0);
    is_committed("spool_segment", "damaged-file-header", &whole(&headless));
    let second = written(&[&[numbered(7, "c0", "c1", b"another")]]);
    let tail = &second[written(&[]).len()..];
    let offset = u32::try_from(valid.len() - 200).unwrap().to_le_bytes();
    is_committed("spool_segment", "group-over-the-end", &[&[1], &offset[..], tail].concat());
    is_committed("spool_segment", "group-put-between", &[&[2], &offset[..], tail].concat());
}

#[test]
fn mending_changes_nothing_in_a_valid_segment_and_makes_a_mutated_one_check() {
    let mut bytes = valid_segment().to_vec();
    mend(&mut bytes);
    assert!(bytes == valid_segment());
    let inside = bytes.windows(5).position(|bytes| bytes == b"first").unwrap();
    bytes[inside] ^= 1;
    mend(&mut bytes);
    let disk = SimDisk::default();
    stored(&disk, &bytes);
    let found = recovered(&disk).unwrap();
    assert_eq!((found.cut, found.damage.len()), (0, 0));
    assert_eq!(read_all(&disk, &found.state, bytes.len())[0].1[..5], *b"girst");
}

#[test]
fn the_committed_headers_are_what_the_spool_writes() {
    let batch = numbered(7, "c0", "c1", b"body").header;
    is_committed("spool_entry", "batch", &[&[0], &batch.encode()[..]].concat());
    let [cursor, next_cursor] = ["1", "2"].map(str::to_owned);
    let progress = Header::Progress(Progress { key: key(3), cursor, next_cursor, jump: true });
    is_committed("spool_entry", "progress", &[&[1], &progress.encode()[..]].concat());
    let snapshot = Header::Snapshot(valid_state());
    is_committed("spool_entry", "snapshot", &[&[2], &snapshot.encode()[..]].concat());
    let position = Position { seq: 9, index: 300 };
    let name = "siem".to_owned();
    let journal = Header::Journal(vec![
        Change::Ack { destination: name.clone(), position, log: 70_000 },
        Change::Committed { key: key(0), cursor: "c0".to_owned() },
        Change::Floor { segment: ID },
        Change::AddDestination { name: "second".to_owned(), position, log: 5_000_000_000 },
        Change::ForgetDestination { name },
    ]);
    is_committed("spool_entry", "journal", &[&[3], &journal.encode()[..]].concat());
    let span = Span { first: 7, end: 9 };
    let orders = Header::Journal(vec![
        Change::Hold { span },
        Change::Release { span },
        Change::Drop { span, end_log: 90 },
    ]);
    is_committed("spool_entry", "orders", &[&[3], &orders.encode()[..]].concat());
    let Header::Batch(header) = batch else { panic!("a batch") };
    let footer = Header::Footer(Footer::of(&[Indexed { offset: 900, stored: 4, header }]));
    is_committed("spool_entry", "footer", &[&[4], &footer.encode()[..]].concat());
}

#[test]
fn a_valid_segment_is_read_in_full() {
    let disk = SimDisk::default();
    stored(&disk, valid_segment());
    let found = recovered(&disk).unwrap();
    assert_eq!((found.cut, found.damage.len()), (0, 0));
    let batches = read_all(&disk, &found.state, valid_segment().len());
    assert_eq!(batches.iter().map(|(header, _)| header.seq).collect::<Vec<_>>(), [7, 8, 9]);
}
