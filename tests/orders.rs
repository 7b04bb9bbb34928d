//! What operators order, by the real commands: to a relay that runs, and to the spool of one
//! that is stopped.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "support/config_file.rs"]
mod config_file;
#[path = "support/pipeline.rs"]
mod pipeline;
#[path = "support/process.rs"]
mod process;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::process::Signal;
use serde_json::Value;
use sls_relay::emulator::receiver::Mode;

use config_file::write_config;
use pipeline::{Ends, wait_for};
use process::Process;

const DRAINS: &str = "drain_every = \"1 s\"\ndrain_idle = \"100 ms\"";

/// Runs `sls-relay spool`.
fn spool(config: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sls-relay"));
    command.arg("spool").args(args).arg("--config").arg(config).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", said(output));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn order(config: &Path, args: &[&str]) -> Value {
    let args = [args, &["--json", "--reason", "a test"]].concat();
    lines(&spool(config, &args)).remove(0)
}

fn status(config: &Path) -> Value {
    lines(&spool(config, &["status", "--json"])).remove(0)
}

/// The last lines of the ledger that tell of orders.
fn audited(dir: &Path) -> Vec<Value> {
    let lines = sls_relay::spool::read_ledger(&dir.join("spool")).unwrap();
    lines.into_iter().filter(|line| line["what"] == "order").collect()
}

async fn stop(process: Process) {
    process.signal(Signal::TERM);
    let (status, log) = tokio::task::spawn_blocking(|| process.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0), "{log:#?}");
}

/// A relay that has pulled `logs` logs of one shard while its receiver is away.
async fn filled(dir: &Path, logs: u64) -> (Ends, PathBuf, Process) {
    let ends = Ends::start(1, logs).await;
    ends.receiver.set_mode(Mode::Refuse).await.unwrap();
    let config = write_config(&ends, dir, "256 MiB", "", DRAINS);
    let process = Process::start(&config);
    wait_for("all to be in the spool", || ends.all_committed()).await;
    (ends, config, process)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_relay_holds_releases_and_drops_and_says_who_wanted_it() {
    let dir = tempfile::tempdir().unwrap();
    let (ends, config, process) = filled(dir.path(), 3000).await;
    assert_eq!(status(&config)["live"], true);
    let batches = lines(&spool(&config, &["list", "--json"]));
    let logs = |range: std::ops::Range<usize>| -> u64 {
        batches[range].iter().map(|batch| batch["logs"].as_u64().unwrap()).sum()
    };
    let count = batches.len();
    assert!(count > 30, "{count} batches");

    let (first, last) = (count - 6, count - 3);
    let held =
        order(&config, &["hold", "--first", &first.to_string(), "--last", &last.to_string()]);
    assert_eq!(held["logs"].as_u64().unwrap(), logs(first..last + 1));
    assert_eq!(status(&config)["holds"], serde_json::json!([[first, last]]));
    ends.receiver.set_mode(Mode::Accept).await.unwrap();
    let before = logs(0..first);
    wait_for("what is before the hold", || {
        status(&config)["destinations"]["syslog"]["seq"] == first
    })
    .await;
    assert_eq!(ends.arrivals().report().delivered, before, "and nothing behind it");
    let late = spool(&config, &["hold", "--last", "0", "--reason", "late"]);
    assert!(!late.status.success() && said(&late).contains("is delivered already"), "{late:?}");

    // Two of the held ones go for good, the others are released.
    let dropped = order(
        &config,
        &["drop", "--first", &first.to_string(), "--last", &(first + 1).to_string()],
    );
    order(&config, &["release"]);
    let gone = dropped["logs"].as_u64().unwrap();
    wait_for("the rest", || ends.arrivals().report().delivered == 3000 - gone).await;
    wait_for("everything to be confirmed", || status(&config)["batches_waiting"] == 0).await;
    let report = ends.arrivals().report();
    let wrong = (report.duplicates, report.corrupted, report.unknown, report.out_of_order);
    assert_eq!(wrong, (0, 0, 0, 0), "{report}");

    let told = audited(dir.path());
    let orders: Vec<_> = told.iter().map(|line| line["order"].as_str().unwrap()).collect();
    assert_eq!(orders, ["hold", "drop", "release"]);
    let uid = rustix::process::getuid().as_raw();
    assert!(told.iter().all(|line| line["reason"] == "a test" && line["uid"] == uid), "{told:?}");
    let ledger = sls_relay::spool::read_ledger(&dir.path().join("spool")).unwrap();
    let lost: Vec<_> = ledger.iter().filter(|line| line["what"] == "dropped").collect();
    assert_eq!((lost.len(), &lost[0]["logs"]), (1, &dropped["logs"]));
    assert_eq!(lost[0]["cursor"], batches[first]["cursor"]);
    assert_eq!(lost[0]["next_cursor"], batches[first + 2]["cursor"]);
    stop(process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_spool_of_a_stopped_relay_takes_the_same_orders() {
    let dir = tempfile::tempdir().unwrap();
    let (ends, config, process) = filled(dir.path(), 1000).await;
    stop(process).await;
    assert_eq!(status(&config)["live"], false);
    let first = &lines(&spool(&config, &["list", "--json", "--limit", "1"]))[0];
    let gone = first["logs"].as_u64().unwrap();
    for (args, code, text) in [
        (&["drop", "--reason", "x"][..], 64, "without any filter"),
        (&["drop", "--first", "0"], 64, "--reason"),
        (&["hold", "--contains", "a", "--reason", "x"], 69, "only some logs are meant"),
        (&["hold", "--first", "999999", "--reason", "x"], 69, "no batch in the spool"),
        (&["release", "--reason", "x"], 69, "no batch in the spool"),
        (&["drop", "--last", "0", "--reason", " "], 69, "needs a reason"),
        (&["forget", "--destination", "nobody", "--reason", "x"], 69, "it knows syslog"),
        (&["replay", "--reason", "x"], 69, "nothing that \"syslog\" has already"),
        (&["replay", "--to", "no", "--reason", "x"], 69, "it knows syslog"),
    ] {
        let output = spool(&config, args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", said(&output));
        assert!(said(&output).contains(text), "{args:?}: {}", said(&output));
    }
    assert!(audited(dir.path()).is_empty(), "what was refused did not happen");
    let dropped = order(&config, &["drop", "--last", "0"]);
    assert_eq!(dropped["logs"].as_u64().unwrap(), gone);
    ends.receiver.set_mode(Mode::Accept).await.unwrap();
    let process = Process::start(&config);
    wait_for("the rest", || ends.arrivals().report().delivered == 1000 - gone).await;
    stop(process).await;
    assert_eq!(ends.arrivals().report().delivered, 1000 - gone);
    let output = spool(&config, &["forget", "--destination", "syslog", "--reason", "moved"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(status(&config)["destinations"].as_object().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_delivered_is_sent_again_by_a_running_relay_and_without_one() {
    let dir = tempfile::tempdir().unwrap();
    let ends = Ends::start(2, 1200).await;
    let config = write_config(&ends, dir.path(), "256 MiB", "", DRAINS);
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("[spool]", "[spool]\nretain = \"1 h\"")).unwrap();
    let process = Process::start(&config);
    ends.all_arrived().await;
    wait_for("everything to be confirmed", || status(&config)["batches_waiting"] == 0).await;
    let of_shard_1: u64 = lines(&spool(&config, &["list", "--json", "--shard", "1"]))
        .iter()
        .map(|batch| batch["logs"].as_u64().unwrap())
        .sum();
    let done = order(&config, &["replay", "--shard", "1", "--to", "syslog"]);
    assert_eq!((&done["complete"], done["logs"].as_u64()), (&true.into(), Some(of_shard_1)));
    assert_eq!(ends.arrivals().report().duplicates, of_shard_1);
    let host = lines(&spool(&config, &["cat", "--json", "--limit", "1"])).remove(0);
    let fields = host["fields"].as_array().unwrap();
    let test = format!("{}={}", fields[2][0].as_str().unwrap(), fields[2][1].as_str().unwrap());
    let some = lines(&spool(&config, &["cat", "--json", "--where", &test])).len() as u64;
    stop(process).await;

    let done = order(&config, &["replay", "--where", &test, "--rate", "5000"]);
    assert_eq!((&done["complete"], done["logs"].as_u64()), (&true.into(), Some(some)));
    assert_eq!(ends.arrivals().report().duplicates, of_shard_1 + some);
    assert_eq!(status(&config)["destinations"]["syslog"]["batches_waiting"], 0);
    let again = order(&config, &["replay"]);
    assert_eq!(again["logs"], 1200, "a stopped spool that was opened keeps what it kept");
}
