//! Moving house by the real binary: what a relay could not deliver is delivered by another.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "support/pipeline.rs"]
mod pipeline;
#[path = "support/process.rs"]
mod process;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use sls_relay::emulator::receiver::Mode;
use sls_relay::spool::inspect::Inspection;

use pipeline::{Ends, GROUP, wait_for};
use process::Process;

/// A relay of its own: a directory with configuration and spool.
struct Relay {
    dir: tempfile::TempDir,
    config: PathBuf,
}

impl Relay {
    fn new(ends: &Ends) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().join("spool");
        let source = &ends.settings(&spool).sources[0];
        let text = format!(
            "[spool]\ndir = {spool:?}\nmax_bytes = \"256 MiB\"\nmin_free_bytes = 0\n\
             [[source]]\nendpoint = \"{}\"\nproject = \"{}\"\nlogstore = \"{}\"\n\
             consumer_group = \"{GROUP}\"\naccess_key_id = \"{}\"\naccess_key_secret = \"{}\"\n\
             idle_poll = \"100 ms\"\nheartbeat_interval = \"1 s\"\ngroup_timeout = \"5 s\"\n\
             [[destination]]\nto = \"tcp://{}\"\nmax_message = 200000\nsettle = \"100 ms\"\ndrain_idle = \"100 ms\"\n",
            source.endpoint,
            source.project,
            source.logstore,
            ends.key_id(),
            ends.key_secret(),
            ends.receiver.tcp_addr().unwrap(),
        );
        let config = dir.path().join("relay.toml");
        std::fs::write(&config, text).unwrap();
        Self { dir, config }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Logs in the spool that no receiver has confirmed.
    fn waiting(&self) -> u64 {
        let Ok(spool) = Inspection::open(&self.path("spool")) else { return 0 };
        let state = spool.state();
        state.destinations.values().map(|at| state.next_log - at.log).sum()
    }
}

/// A command of the binary with the configuration of a relay.
fn order(relay: &Relay, words: &[&str], file: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sls-relay"));
    let (words, options) = words.split_at(2.min(words.len()));
    command.args(words).arg("--config").arg(&relay.config);
    if !file.as_os_str().is_empty() {
        command.arg(file);
    }
    command.args(options).env_clear().stdin(Stdio::null()).output().unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

fn export(relay: &Relay, name: &str, more: &[&str]) -> Output {
    let file = relay.path(name);
    let file = file.to_str().unwrap();
    order(relay, &[&["spool", "export", "--out", file, "--json"], more].concat(), Path::new(""))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_relay_could_not_deliver_another_one_does() {
    const LOGS: u64 = 4000;
    let ends = Ends::start(2, LOGS).await;
    ends.receiver.set_mode(Mode::Refuse).await.unwrap();
    let (old, new) = (Relay::new(&ends), Relay::new(&ends));
    let process = Process::start(&old.config);
    wait_for("all logs to be spooled", || old.waiting() == LOGS && ends.all_committed()).await;

    // Out of a spool in use, in parts.
    let of_shards: Vec<u64> = ["0", "1"]
        .iter()
        .map(|shard| json(&export(&old, shard, &["--shard", shard]))["logs"].as_u64().unwrap())
        .collect();
    assert_eq!(of_shards.iter().sum::<u64>(), LOGS, "{of_shards:?}");
    let never = ["--until", "2001-01-01T00:00:00Z"];
    assert_eq!(json(&export(&old, "never", &never))["batches"], 0);
    let elsewhere = ["--source", "another/logstore"];
    assert_eq!(json(&export(&old, "elsewhere", &elsewhere))["batches"], 0);
    process.signal(Signal::KILL);
    tokio::task::spawn_blocking(|| process.wait()).await.unwrap();

    let told = json(&export(&old, "all", &[]));
    assert_eq!((told["logs"].as_u64(), told["damaged_ranges"].as_u64()), (Some(LOGS), Some(0)));
    let file = old.path("all");
    let checked = order(&new, &["spool", "import", "--check", "--json"], &file);
    assert_eq!(json(&checked)["export"], told["export"]);
    assert!(!new.path("spool").exists(), "checking makes no spool");
    let move_in = ["spool", "import", "--reason", "the old machine dies", "--json"];
    let imported = json(&order(&new, &move_in, &file));
    assert_eq!((&imported["stored"], &imported["stored_before"]), (&told["batches"], &0.into()));
    let again = json(&order(&new, &move_in, &file));
    assert_eq!((&again["stored"], &again["stored_before"]), (&0.into(), &told["batches"]));
    let ledger = std::fs::read_to_string(new.path("spool/ledger.jsonl")).unwrap();
    assert!(ledger.contains("the old machine dies"), "{ledger}");

    ends.receiver.set_mode(Mode::Accept).await.unwrap();
    let drained = tokio::task::spawn_blocking(move || {
        let drained = order(&new, &["run", "--drain"], Path::new(""));
        (drained, new.waiting())
    });
    let (drained, waiting) = drained.await.unwrap();
    assert!(drained.status.success() && waiting == 0, "{}", text(&drained));
    let report = ends.arrivals().report();
    assert!(report.is_faithful() && report.duplicates == 0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_relay_imports_what_it_is_told_and_delivers_it() {
    const LOGS: u64 = 2000;
    let ends = Ends::start(1, LOGS).await;
    ends.receiver.set_mode(Mode::Refuse).await.unwrap();
    let (old, new) = (Relay::new(&ends), Relay::new(&ends));
    let process = Process::start(&old.config);
    wait_for("all logs to be spooled", || old.waiting() == LOGS && ends.all_committed()).await;
    let told = json(&export(&old, "all", &["--waiting"]));
    assert_eq!(told["logs"].as_u64(), Some(LOGS));
    process.signal(Signal::KILL);
    tokio::task::spawn_blocking(|| process.wait()).await.unwrap();

    ends.receiver.set_mode(Mode::Accept).await.unwrap();
    let process = Process::start(&new.config);
    wait_for("the relay to answer", || {
        order(&new, &["spool", "status", "--json"], Path::new(""))
            .stdout
            .windows(11)
            .any(|text| text == b"\"live\":true")
    })
    .await;
    let move_in = ["spool", "import", "--reason", "a test", "--json"];
    for (name, said) in [("no", "No such file"), ("spool", "no regular file")] {
        let refused = order(&new, &move_in, &new.path(name));
        assert!(!refused.status.success() && text(&refused).contains(said), "{}", text(&refused));
    }
    let imported = json(&order(&new, &move_in, &old.path("all")));
    assert_eq!((&imported["stored"], &imported["complete"]), (&told["batches"], &true.into()));
    wait_for("all to be delivered", || ends.arrivals().report().delivered == LOGS).await;
    let again = json(&order(&new, &move_in, &old.path("all")));
    assert_eq!((&again["stored"], &again["stored_before"]), (&0.into(), &told["batches"]));
    let ledger = sls_relay::spool::read_ledger(&new.path("spool")).unwrap();
    let orders: Vec<_> = ledger.iter().filter(|line| line["what"] == "order").collect();
    assert_eq!(orders.len(), 2, "what cannot be imported is no order: {orders:?}");
    assert!(orders[0]["order"] == "import" && orders[0]["export"] == told["export"]);
    process.signal(Signal::TERM);
    tokio::task::spawn_blocking(|| process.wait()).await.unwrap();
    let report = ends.arrivals().report();
    assert!(report.is_faithful() && report.duplicates == 0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_imported_makes_no_spool() {
    let ends = Ends::start(1, 200).await;
    ends.receiver.set_mode(Mode::Refuse).await.unwrap();
    let (old, new) = (Relay::new(&ends), Relay::new(&ends));
    let process = Process::start(&old.config);
    wait_for("all logs to be spooled", || old.waiting() == 200).await;
    json(&export(&old, "whole", &[]));
    let move_in = ["spool", "import", "--reason", "test"];
    let overwritten = export(&old, "whole", &[]);
    assert!(text(&overwritten).contains("is there already"), "{}", text(&overwritten));
    drop(process);

    let mut bytes = std::fs::read(old.path("whole")).unwrap();
    bytes.truncate(bytes.len() - 1);
    std::fs::write(old.path("cut"), bytes).unwrap();
    for (name, said) in [("cut", "is cut off"), ("relay.toml", "no export"), ("no", "No such")] {
        let refused = order(&new, &move_in, &old.path(name));
        assert_eq!(refused.status.code(), Some(69), "{name}");
        assert!(text(&refused).contains(said), "{name}: {}", text(&refused));
    }
    assert!(!new.path("spool").exists());
    let no_reason = order(&new, &["spool", "import"], &old.path("whole"));
    assert_eq!(no_reason.status.code(), Some(64));
}
