//! Answers that cannot be read: pulled again, narrowed, kept, named, and passed.

use sls_relay::emulator::sls::{Fault, FaultKind, Operation};
use sls_relay::spool::read_ledger;

use crate::pipeline::{Ends, Running, wait_for};

/// Spoils every answer of shard 0 until a few are put aside; then SLS is well again.
async fn put_aside(kind: FaultKind) {
    let ends = Ends::start(2, 2000).await;
    ends.emulator.faults().add(Fault::new(kind).on(Operation::Pull).shard(0));
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(ends.settings(dir.path())).await;
    wait_for("two answers to be put aside", || relay.counters.snapshot().unreadable >= 2).await;
    ends.emulator.faults().clear();
    wait_for("the checkpoints to reach the ends", || ends.all_committed()).await;
    let aside = relay.counters.snapshot().unreadable;
    // Narrowed to one group of ten logs each time.
    let left = 2000 - 10 * aside;
    wait_for("all other logs to arrive", || ends.arrivals().report().delivered == left).await;
    wait_for("the notices", || ends.notices().len() as u64 == aside).await;
    relay.stop().await;
    let report = ends.arrivals().report();
    assert_eq!((report.out_of_order, report.duplicates, report.unknown), (0, 0, 0), "{kind:?}");
    let ledger = read_ledger(dir.path()).unwrap();
    assert_eq!(ledger.len() as u64, aside, "{kind:?}");
    for (line, notice) in ledger.iter().zip(ends.notices()) {
        assert_eq!(notice["notice"], "unreadable");
        assert_eq!(line["what"], "unreadable answer");
        assert_eq!((&line["groups"], line["shard"].as_u64()), (&1.into(), Some(0)), "{line}");
        assert_eq!(line["cursor"].as_str().unwrap(), notice["cursor"]);
        let copy = std::fs::read(dir.path().join(line["copy"].as_str().unwrap())).unwrap();
        assert_eq!(Some(copy.len() as u64), line["bytes"].as_u64());
        assert!(!copy.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_answer_is_kept_byte_for_byte_and_passed() {
    put_aside(FaultKind::Corrupt).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_claims_a_terabyte_is_kept_and_passed_without_allocating_it() {
    put_aside(FaultKind::HugeRawSize).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_can_be_read_the_second_time_is_not_put_aside() {
    let ends = Ends::start(1, 1000).await;
    let fault = Fault::new(FaultKind::Corrupt).on(Operation::Pull).times(5);
    ends.emulator.faults().add(fault);
    let dir = tempfile::tempdir().unwrap();
    let mut settings = ends.settings(dir.path());
    settings.sources[0].unreadable_after = std::time::Duration::from_secs(3600);
    let relay = Running::start(settings).await;
    ends.all_arrived().await;
    assert_eq!(relay.counters.snapshot().unreadable, 0);
    relay.stop().await;
    assert!(read_ledger(dir.path()).unwrap().is_empty());
}
