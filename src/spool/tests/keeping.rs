//! What the spool remembers beside batches: announced commits, what is needed, the ledger.

use super::super::{Compression, Spool, UnreadableAnswer, read_ledger};
use super::*;

#[test]
fn an_announced_commit_is_known_as_ours_however_far_the_shard_went_since() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let (spool, _) = Spool::open(&options(dir.path())).unwrap();
        let tenure = begin(&spool, 0).await;
        spool.append(&tenure, batch(0, "x")).await.unwrap();
        spool.append(&tenure, batch(1, "x")).await.unwrap();
        spool.intend(key(0), cursor(1)).await.unwrap();
        for number in 2..400 {
            spool.append(&tenure, batch(number, "x")).await.unwrap();
        }
        spool.close();
        let (spool, _) = Spool::open(&options(dir.path())).unwrap();
        let shard = spool.shard(&key(0)).unwrap();
        assert!(shard.is_ours(Some(&cursor(1))), "announced");
        assert!(!shard.is_ours(Some(&cursor(50))), "neither announced nor recent");
        assert!(shard.chain.len() <= 128, "{}", shard.chain.len());
        spool.committed(key(0), cursor(1));
        spool.intend(key(0), cursor(300)).await.unwrap();
        let shard = spool.shard(&key(0)).unwrap();
        assert!(shard.is_ours(Some(&cursor(1))) && shard.is_ours(Some(&cursor(300))));
        assert!(!shard.is_ours(Some(&cursor(399))), "a cursor nobody may commit");
        spool.close();
    });
}

#[test]
fn a_receipt_is_covered_once_every_destination_has_passed_it() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let (spool, _) = Spool::open(&options(dir.path())).unwrap();
        spool.set_destinations(&["a".to_owned(), "b".to_owned()]).await.unwrap();
        let tenure = begin(&spool, 0).await;
        let first = spool.append(&tenure, batch(0, "x")).await.unwrap();
        let second = spool.append(&tenure, batch(1, "x")).await.unwrap();
        let stands = spool.progress(&tenure, cursor(2), cursor(2)).await.unwrap();
        assert_eq!((first.end(), second.end(), stands.end()), (1, 2, 2));
        let needed = spool.needed();
        let mut reader = spool.reader(0);
        let batches = drain(&mut reader);
        let (position, log) = after(&batches[1]);
        spool.ack("a", position, log);
        spool.flush().await.unwrap();
        assert_eq!(*needed.borrow(), 0, "b has nothing yet");
        let (position, log) = after(&batches[0]);
        spool.ack("b", position, log);
        spool.flush().await.unwrap();
        assert_eq!(*needed.borrow(), first.end());
        spool.close();
    });
}

#[test]
fn an_unreadable_answer_is_kept_once_with_its_bytes_and_reason() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(&options(dir.path())).unwrap();
    let key = key(3);
    let answer = UnreadableAnswer {
        key: &key,
        cursor: "c7",
        next_cursor: "c8",
        why: "byte 3: no such wire type",
        request_id: "R1",
        groups: 1,
        raw_size: 40,
        compression: Compression::Lz4,
        body: b"\xff\x00raw",
    };
    let copy = spool.quarantine_answer(&answer).unwrap();
    assert_eq!(spool.quarantine_answer(&answer).unwrap(), copy);
    assert_eq!(std::fs::read(dir.path().join(copy)).unwrap(), b"\xff\x00raw");
    let lines = read_ledger(dir.path()).unwrap();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let found = |name: &str| lines[0][name].as_str().unwrap_or_default().to_owned();
    assert_eq!((found("what"), found("next_cursor")), ("unreadable answer".into(), "c8".into()));
    spool.close();
}

#[test]
fn a_ledger_line_cut_by_a_crash_does_not_swallow_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(&options(dir.path())).unwrap();
    assert!(read_ledger(dir.path()).unwrap().is_empty(), "no ledger yet");
    spool.note(&serde_json::json!({"what": "one"})).unwrap();
    let path = dir.path().join("ledger.jsonl");
    let mut text = std::fs::read(&path).unwrap();
    text.extend_from_slice(b"{\"what\": \"cut");
    std::fs::write(&path, text).unwrap();
    spool.note(&serde_json::json!({"what": "two"})).unwrap();
    let what: Vec<_> = read_ledger(dir.path()).unwrap().iter().map(|l| l["what"].clone()).collect();
    assert_eq!(what, ["one", "two"]);
    spool.close();
}
