//! What is longer than a reader takes is refused before it is written.

use std::path::Path;
use std::sync::Arc;

use super::super::sim::SimDisk;
use super::super::{Error, Span, Spool};
use super::{batch, begin, cursor, drain, key, options, runtime};

fn open(disk: &SimDisk) -> Spool {
    let opened = Spool::open_simulated(Arc::new(disk.clone()), &options(Path::new("sim")));
    let (spool, opened) = opened.unwrap();
    assert!(opened.damage.is_empty() && opened.cut_bytes == 0, "{opened:?}");
    spool
}

/// A server may answer with a cursor of any length. A header that no reader takes would have
/// got a receipt, and would have taken all of its group with it.
#[test]
fn a_cursor_that_no_reader_would_take_is_refused_and_nothing_else_with_it() {
    runtime().block_on(async {
        let disk = SimDisk::default();
        let spool = open(&disk);
        let (one, two) = (begin(&spool, 0).await, begin(&spool, 1).await);
        let long = "c".repeat(70_000);
        let mut first = batch(0, "first");
        first.next_cursor.clone_from(&long);
        let (refused, stored) =
            tokio::join!(spool.append(&one, first), spool.append(&two, batch(0, "second")));
        assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
        stored.unwrap();
        let refused = spool.progress(&one, cursor(0), long.clone()).await;
        assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
        let refused = spool.begin(key(2), long.clone(), None).await;
        assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
        let refused = spool.begin(key(1), cursor(1), Some("c".repeat(2 << 20))).await;
        assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
        spool.append(&one, batch(0, "third")).await.unwrap();
        spool.close();
        let spool = open(&disk);
        assert_eq!(drain(&mut spool.reader(0)).len(), 2);
        assert_eq!(spool.shard(&key(1)).unwrap().position, cursor(1));
        spool.close();
    });
}

#[test]
fn more_changes_than_one_journal_holds_are_all_there_after_a_restart() {
    runtime().block_on(async {
        let disk = SimDisk::default();
        let spool = open(&disk);
        let tenure = begin(&spool, 0).await;
        // Something waits, so that the segment is not closed behind the journal.
        spool.append(&tenure, batch(0, "before it")).await.unwrap();
        spool.set_destinations(&["siem".to_owned()]).await.unwrap();
        for shard in 1..=20 {
            begin(&spool, shard).await;
        }
        let long = "c".repeat(60_000);
        (1..=20).for_each(|shard| spool.committed(key(shard), long.clone()));
        spool.flush().await.unwrap();
        spool.append(&tenure, batch(1, "behind it")).await.unwrap();
        spool.hold(Span { first: 1, end: 2 }).await.unwrap();
        // The process dies here.
        let after = disk.clone();
        let again = open(&after);
        for shard in 1..=20 {
            assert_eq!(again.shard(&key(shard)).unwrap().committed.as_ref(), Some(&long));
        }
        assert_eq!(drain(&mut again.reader(0)).len(), 2);
        again.close();
        spool.close();
    });
}
