//! The real binary, stopped politely and killed without a word.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "support/config_file.rs"]
mod config_file;
#[path = "support/pipeline.rs"]
mod pipeline;
#[path = "support/process.rs"]
mod process;

use std::time::Duration;

use rustix::process::Signal;
use sls_relay::emulator::receiver::Mode;
use sls_relay::emulator::waf::Waf;
use sls_relay::spool::inspect::Inspection;

use config_file::write_config;
use pipeline::{Ends, wait_for};
use process::Process;

const DRAINS: &str = r#"
drain_every = "1 s"
drain_bytes = "1 MiB"
drain_idle = "100 ms"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains_settles_and_repeats_nothing() {
    let ends = Ends::start(2, 4000).await;
    let dir = tempfile::tempdir().unwrap();
    let config = write_config(&ends, dir.path(), "256 MiB", "", DRAINS);
    for part in 1..=3 {
        let process = Process::start(&config);
        wait_for("a part to arrive", || ends.arrivals().report().delivered >= part * 1000).await;
        process.signal(Signal::TERM);
        let (status, log) = tokio::task::spawn_blocking(|| process.wait()).await.unwrap();
        assert_eq!(status.code(), Some(0), "{log:#?}");
    }
    let process = Process::start(&config);
    ends.all_arrived().await;
    wait_for("the checkpoints to reach the ends", || ends.all_committed()).await;
    process.signal(Signal::TERM);
    let (status, log) = tokio::task::spawn_blocking(|| process.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    let report = ends.arrivals().report();
    assert!(report.is_faithful() && report.duplicates == 0, "{report}");
}

/// `SLS_RELAY_KILL_ROUNDS` for more rounds (2,000 in the long form), `SLS_RELAY_SEED` to repeat a run.
#[tokio::test(flavor = "multi_thread")]
async fn kill_9_at_random_moments_loses_nothing() {
    let env = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = env("SLS_RELAY_KILL_ROUNDS").unwrap_or(60);
    let seed = env("SLS_RELAY_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let logs = rounds * 800;
    let ends = Ends::serve(Waf::new(seed), 4, logs, |config| config.max_raw_bytes = 64 << 10).await;
    let dir = tempfile::tempdir().unwrap();
    let config = write_config(&ends, dir.path(), "256 MiB", "", DRAINS);
    let mut explained = 0;
    for round in 0..rounds {
        // Now and then the receiver is away, so that kills also meet a growing spool.
        let mode = if rng.u8(..4) == 0 { Mode::Refuse } else { Mode::Accept };
        ends.receiver.set_mode(mode).await.unwrap();
        let process = Process::start(&config);
        let moment = Duration::from_millis(rng.u64(20..300));
        tokio::time::sleep(moment).await;
        process.signal(Signal::KILL);
        let (status, log) = tokio::task::spawn_blocking(|| process.wait()).await.unwrap();
        assert_eq!(status.code(), None, "round {round}: it ended by itself: {log:#?}");
        let damaged: Vec<_> = log.iter().filter(|line| line.contains("spool.damage")).collect();
        assert!(damaged.is_empty(), "round {round}: {damaged:?}");
        // What had arrived and was not confirmed may arrive again, and nothing else.
        let arrived = ends.receiver.counts().messages;
        let confirmed = match Inspection::open(&dir.path().join("spool")) {
            Ok(spool) => spool.state().destinations.get("syslog").map_or(0, |d| d.log),
            Err(_) => 0,
        };
        explained += arrived.saturating_sub(confirmed);
    }
    ends.receiver.set_mode(Mode::Accept).await.unwrap();
    let process = Process::start(&config);
    // What is left grows with the rounds, so it is enough that there is always more.
    while !ends.arrivals().is_complete() {
        let before = ends.arrivals().report().delivered;
        wait_for("another log", || ends.arrivals().report().delivered > before).await;
    }
    wait_for("the checkpoints to reach the ends", || ends.all_committed()).await;
    process.signal(Signal::TERM);
    let (status, log) = tokio::task::spawn_blocking(|| process.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    let report = ends.arrivals().report();
    println!("{rounds} rounds: {report}; at most {explained} duplicates are explained");
    let wrong = (report.lost, report.corrupted, report.unknown, report.out_of_order);
    assert_eq!(wrong, (0, 0, 0, 0), "seed {seed}: {report}");
    assert!(report.duplicates <= explained, "seed {seed}: {report}, {explained} explained");
}
