//! Spools of each format as they were written once: every later version must read them.

use std::path::Path;

use super::super::inspect::Inspection;
use super::super::{Compression, Dropped, Item, Origin, Position, Span, Spool};
use super::{batch, begin, cursor, key, options, runtime};

const FORMAT_1: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/spool-v1");
const FORMAT_2: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/spool-v2");

/// Run by hand when a new format gets a golden spool of its own, never for an old one.
#[test]
#[ignore = "writes the golden spool: only for a new format"]
fn write_the_golden_spool() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let (spool, _) = Spool::open(&options(dir.path())).unwrap();
        spool.set_destinations(&["siem".to_owned(), "archive".to_owned()]).await.unwrap();
        let (first, second) = (begin(&spool, 0).await, begin(&spool, 7).await);
        for number in 0..3 {
            let mut batch = batch(number, format!("body {number} of shard 0"));
            batch.compression = Compression::Lz4;
            spool.append(&first, batch).await.unwrap();
        }
        let mut unknown = batch(0, &b"\x00\xff not text"[..]);
        unknown.first_group_cursor = None;
        unknown.compression = Compression::Zstd;
        spool.append(&second, unknown).await.unwrap();
        spool.progress(&second, cursor(1), cursor(5)).await.unwrap();
        spool.committed(key(0), cursor(2));
        spool.ack("siem", Position { seq: 1, index: 0 }, 1);
        spool.flush().await.unwrap();
        spool.insert(key(7), batch(3, "pulled again"), Origin::Refetch).await.unwrap();
        spool.insert(key(9), batch(4, "brought"), Origin::Import).await.unwrap();
        spool.discard(Span { first: 2, end: 3 }, 3).await.unwrap();
        spool.hold(Span { first: 4, end: 6 }).await.unwrap();
        spool.close();
    });
    let to = Path::new(FORMAT_2).join("segments");
    std::fs::create_dir_all(&to).unwrap();
    for file in std::fs::read_dir(dir.path().join("segments")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[test]
fn the_golden_spool_of_format_1_is_read() {
    let spool = Inspection::open(Path::new(FORMAT_1)).unwrap();
    assert!(spool.damage.is_empty() && spool.unfinished_bytes == 0);
    let state = spool.state();
    assert_eq!((state.next_seq, state.next_log), (4, 4));
    let shard = &state.shards[&key(0)];
    assert_eq!((shard.position.as_str(), shard.committed.as_deref()), ("c3", Some("c2")));
    assert_eq!(shard.chain, ["c3"]);
    assert_eq!(state.shards[&key(7)].position, "c5");
    assert_eq!(state.destinations["siem"].position, Position { seq: 1, index: 0 });
    assert_eq!(state.destinations["archive"].position, Position { seq: 0, index: 0 });
    let mut reader = spool.reader(0);
    let mut bodies = Vec::new();
    while let Some(Item::Batch(batch)) = reader.read().unwrap() {
        bodies.push((batch.header.key.shard, batch.header.first_group_cursor, batch.body));
    }
    let text = |number: u64| (0, Some(number), format!("body {number} of shard 0").into_bytes());
    let last = (7, None, b"\x00\xff not text".to_vec());
    assert_eq!(bodies, [text(0), text(1), text(2), last]);
}

#[test]
fn the_golden_spool_of_format_2_is_read() {
    let spool = Inspection::open(Path::new(FORMAT_2)).unwrap();
    assert!(spool.damage.is_empty() && spool.unfinished_bytes == 0);
    let state = spool.state();
    assert_eq!((state.next_seq, state.next_log), (6, 6));
    assert_eq!(state.shards[&key(0)].position, "c3");
    assert_eq!(state.shards[&key(7)].position, "c5");
    assert!(!state.shards.contains_key(&key(9)));
    let span = Span { first: 2, end: 3 };
    assert_eq!(state.drops, [Dropped { span, end_log: 3 }]);
    assert_eq!(state.holds.iter().collect::<Vec<_>>(), [Span { first: 4, end: 6 }]);
    let info = state.segments.values().next().unwrap();
    assert_eq!((info.min_received, info.max_received), (1_700_000_000_000, 1_700_000_000_000));
    let mut reader = spool.reader(0);
    let mut batches = Vec::new();
    while let Some(Item::Batch(batch)) = reader.read().unwrap() {
        batches.push((batch.header.key.shard, batch.header.origin, batch.header.key_id));
    }
    let live = |shard| (shard, Origin::Live, 0);
    let others = [(7, Origin::Refetch, 0), (9, Origin::Import, 0)];
    assert_eq!(batches, [live(0), live(0), live(0), live(7), others[0], others[1]]);
}
