//! A small quota, filled, drained, filled again: what it takes of the disk at any moment.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sls_relay::spool::{Options, Position, Spool};

use crate::figures::{Figures, allocated};
use crate::phases::{Filler, next};

const QUOTA: u64 = 256 << 20;

/// Watches the disk from a second thread meanwhile.
pub(crate) fn run(dir: &Path) -> Figures {
    let (done, peak) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut figures, after) = Figures::of(|| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    peak.fetch_max(allocated(dir), Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
            let after = turn(dir);
            done.store(true, Ordering::Relaxed);
            after
        })
    });
    (figures.quota, figures.segment) = (QUOTA, QUOTA / 16);
    (figures.peak, figures.after) = (peak.load(Ordering::Relaxed), after);
    figures
}

fn turn(dir: &Path) -> u64 {
    let (spool, _) = Spool::open(&Options::new(dir, QUOTA)).unwrap();
    let mut filler = Filler::new(spool);
    let mut after = 0;
    for _ in 0..3 {
        let mut stored = 0;
        while filler.group(1) {
            stored += 1;
        }
        assert!(stored > 800, "only {stored} batches went into the quota");
        drain(&filler);
        after = after.max(allocated(&dir.join("segments")));
    }
    filler.spool.close();
    after
}

/// Delivers everything, and acknowledges each batch by itself.
fn drain(filler: &Filler) {
    let spool = &filler.spool;
    let from = spool.delivered("siem").unwrap().position.seq;
    let mut reader = spool.delivery_reader(from);
    while let Some(batch) = next(&mut reader) {
        let position = Position { seq: batch.header.seq + 1, index: 0 };
        spool.ack("siem", position, batch.header.end_log());
    }
    filler.runtime.block_on(spool.flush()).unwrap();
}
