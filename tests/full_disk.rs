//! The real binary on a small file system that is filled for real, and one that turns
//! read-only for a while.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "support/config_file.rs"]
mod config_file;
#[path = "support/pipeline.rs"]
mod pipeline;
#[path = "support/process.rs"]
mod process;
#[path = "full_disk/small.rs"]
mod small;

use std::path::Path;

use rustix::process::Signal;
use sls_relay::emulator::receiver::Mode;
use sls_relay::emulator::waf::Waf;
use sls_relay::spool::inspect::Inspection;

use config_file::write_config;
use pipeline::{Ends, GROUP, wait_for};
use process::Process;
use small::{SmallDisk, say};

/// Bytes of the file system.
const DISK: u64 = 64 << 20;
/// The quota of the configuration below, and so two segments.
const QUOTA: u64 = 16 << 20;
/// More than the quota takes.
const LOGS: u64 = 80_000;
const TWO_SEGMENTS: u64 = 2 * QUOTA / 16;

const DRAINS: &str = "drain_every = \"1 s\"\ndrain_bytes = \"1 MiB\"\ndrain_idle = \"100 ms\"";

async fn heartbeats_go_on(ends: &Ends) {
    let heartbeats = || {
        let asked = ends.emulator.requests();
        asked.iter().filter(|asked| asked.call == "HeartBeat").count()
    };
    let before = heartbeats();
    wait_for("three more heartbeats", || heartbeats() >= before + 3).await;
    assert_eq!(ends.emulator.holders(GROUP).len(), 2, "a shard was lost");
}

/// Logs that the spool holds.
fn log_count(spool: &Path) -> u64 {
    Inspection::open(spool).unwrap().state().next_log
}

async fn end(process: Process) -> Vec<String> {
    process.signal(Signal::TERM);
    let (status, log) = tokio::task::spawn_blocking(|| process.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_holds_pulling_and_nothing_else() {
    let Some(disk) = SmallDisk::make(DISK) else { return };
    let ends = Ends::serve(Waf::new(11), 2, LOGS, |config| config.max_raw_bytes = 1 << 20).await;
    let spool = disk.path().join("spool");
    let config = write_config(&ends, disk.path(), "16 MiB", "", DRAINS);
    ends.receiver.set_mode(Mode::Refuse).await.unwrap();
    let process = Process::start(&config);

    // Logs pile up until the quota holds pulling.
    wait_for("spool.full in the log", || process.count("spool.full") > 0).await;
    assert!(SmallDisk::used(&spool) <= QUOTA, "{} bytes used", SmallDisk::used(&spool));
    heartbeats_go_on(&ends).await;

    // Something else takes the rest of the disk, to the last byte.
    let filler = disk.fill();
    let free = rustix::fs::statvfs(disk.path()).unwrap();
    assert!(free.f_bavail < 16, "{} blocks are left", free.f_bavail);
    heartbeats_go_on(&ends).await;

    // The receiver is back: what is there leaves, with the disk still full.
    let stored = log_count(&spool);
    assert!(stored > 1000 && stored < LOGS, "{stored} of {LOGS} logs stored");
    ends.receiver.set_mode(Mode::Accept).await.unwrap();
    wait_for("the spool to be delivered", || ends.arrivals().report().delivered >= stored).await;
    heartbeats_go_on(&ends).await;

    // The filler goes, and pulling goes on by itself.
    std::fs::remove_file(&filler).unwrap();
    ends.all_arrived().await;
    wait_for("the checkpoints to reach the ends", || ends.all_committed()).await;
    wait_for("the space to come back", || SmallDisk::used(&spool.join("segments")) < TWO_SEGMENTS)
        .await;
    let log = end(process).await;
    let report = ends.arrivals().report();
    assert!(report.is_faithful() && report.duplicates == 0, "{report}");
    let damaged: Vec<_> = log.iter().filter(|line| line.contains("spool.damage")).collect();
    assert!(damaged.is_empty(), "{damaged:?}");
    let told = log.iter().any(|line| line.contains("bytes needed"));
    assert!(told, "nothing says how much room is needed: {log:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_turns_read_only_stops_nothing_for_good() {
    let Some(disk) = SmallDisk::make(DISK) else { return };
    let ends = Ends::serve(Waf::new(12), 2, 40_000, |config| config.max_raw_bytes = 64 << 10).await;
    let spool = disk.path().join("spool");
    let config = write_config(&ends, disk.path(), "16 MiB", "", DRAINS);
    let process = Process::start(&config);
    for round in 1..=2 {
        let part = round * 10_000;
        wait_for("a part to arrive", || ends.arrivals().report().delivered >= part).await;
        let before = process.count("spool.io");
        if !disk.forbid_changes(&spool) {
            // Every call that changes something fails so on a simulated disk as well.
            say(
                "LEFT OUT here: a disk that turns read-only; only ext4 can be told to refuse changes",
            );
            return;
        }
        wait_for("spool.io in the log", || process.count("spool.io") > before).await;
        heartbeats_go_on(&ends).await;
        disk.allow_changes(&spool);
    }
    ends.all_arrived().await;
    wait_for("the checkpoints to reach the ends", || ends.all_committed()).await;
    end(process).await;
    let report = ends.arrivals().report();
    assert!(report.is_faithful() && report.duplicates == 0, "{report}");
}
