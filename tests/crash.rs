//! The real binary, stopped politely and killed without a word.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "support/pipeline.rs"]
mod pipeline;
#[path = "support/process.rs"]
mod process;

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use sls_relay::emulator::receiver::Mode;
use sls_relay::emulator::waf::Waf;
use sls_relay::spool::inspect::Inspection;

use pipeline::{Ends, wait_for};
use process::Process;

/// A configuration file as a user writes it, with everything quick.
fn write_config(ends: &Ends, dir: &Path) -> std::path::PathBuf {
    let settings = ends.settings(dir);
    let (source, to) = (&settings.sources[0], ends.receiver.tcp_addr().unwrap());
    let secret = dir.join("secret");
    std::fs::write(&secret, ends.key_secret()).unwrap();
    let text = format!(
        r#"
[spool]
dir = {spool:?}
max_bytes = "256 MiB"
min_free_bytes = "0"

[[source]]
endpoint = "{endpoint}"
project = "{project}"
logstore = "{logstore}"
consumer_group = "{group}"
access_key_id = "{key_id}"
access_key_secret_file = {secret:?}
heartbeat_interval = "1 s"
group_timeout = "5 s"
idle_poll = "100 ms"

[[destination]]
to = "tcp://{to}"
settle = "200 ms"
drain_every = "1 s"
drain_bytes = "1 MiB"
drain_idle = "100 ms"
timeout = "3 s"
"#,
        spool = dir.join("spool"),
        endpoint = source.endpoint,
        project = source.project,
        logstore = source.logstore,
        group = source.consumer_group,
        key_id = ends.key_id(),
    );
    let path = dir.join("relay.toml");
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains_settles_and_repeats_nothing() {
    let ends = Ends::start(2, 4000).await;
    let dir = tempfile::tempdir().unwrap();
    let config = write_config(&ends, dir.path());
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

/// `SLS_RELAY_KILL_ROUNDS` for more rounds, `SLS_RELAY_SEED` to repeat a run.
#[tokio::test(flavor = "multi_thread")]
async fn kill_9_at_random_moments_loses_nothing() {
    let env = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = env("SLS_RELAY_KILL_ROUNDS").unwrap_or(25);
    let seed = env("SLS_RELAY_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let logs = rounds * 4000;
    let ends = Ends::serve(Waf::new(seed), 4, logs, |config| config.max_raw_bytes = 64 << 10).await;
    let dir = tempfile::tempdir().unwrap();
    let config = write_config(&ends, dir.path());
    let mut explained = 0;
    for round in 0..rounds {
        // Now and then the receiver is away, so that kills also meet a growing spool.
        let mode = if rng.u8(..4) == 0 { Mode::Refuse } else { Mode::Accept };
        ends.receiver.set_mode(mode).await.unwrap();
        let process = Process::start(&config);
        let moment = Duration::from_millis(rng.u64(30..700));
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
    ends.all_arrived().await;
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
