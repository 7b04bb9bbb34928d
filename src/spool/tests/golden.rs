//! A spool of format 1 as it was written once: every later version must read it.

use std::path::Path;

use super::super::inspect::Inspection;
use super::super::{Compression, Item, Position, Spool};
use super::{batch, begin, cursor, key, options, runtime};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/spool-v1");

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
        spool.close();
    });
    let to = Path::new(GOLDEN).join("segments");
    std::fs::create_dir_all(&to).unwrap();
    for file in std::fs::read_dir(dir.path().join("segments")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[test]
fn the_golden_spool_of_format_1_is_read() {
    let spool = Inspection::open(Path::new(GOLDEN)).unwrap();
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
