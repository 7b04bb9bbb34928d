//! The command line as its user meets it: the real binary, its output, its exit codes.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "support/pipeline.rs"]
mod pipeline;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use pipeline::{Ends, GROUP, Running, wait_for};
use sls_relay::emulator::receiver::Mode;

fn relay(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sls-relay"));
    command.args(args).stdin(Stdio::null()).env_clear();
    command
}

/// A process that ends with its test, also when the test fails.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn output(args: &[&str]) -> Output {
    relay(args).output().unwrap()
}

fn stdout(args: &[&str]) -> String {
    let output = output(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn version_and_usage() {
    assert_eq!(stdout(&["--version"]), concat!("sls-relay ", env!("CARGO_PKG_VERSION"), "\n"));
    // systemd must not restart after these: see RestartPreventExitStatus in the unit.
    assert_eq!(output(&["run", "--no-such-flag"]).status.code(), Some(64));
    assert_eq!(output(&["run"]).status.code(), Some(78));
    assert_eq!(output(&["run", "--config", "/no/such/file"]).status.code(), Some(78));
}

#[test]
fn a_demo_accounts_for_every_log_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let demo = relay(&["demo", "--json", "--logs", "2000", "--outage", "1"])
        .env("TMPDIR", temporary.path())
        .output()
        .unwrap();
    assert!(demo.status.success(), "{demo:?}");
    let account: serde_json::Value = serde_json::from_slice(&demo.stdout).unwrap();
    for (key, value) in
        [("pulled", 2000), ("delivered", 2000), ("lost", 0), ("out_of_order", 0), ("corrupted", 0)]
    {
        assert_eq!(account[key], value, "{account}");
    }
    assert!(account["duplicates"].is_u64() && account["cpu_seconds"].is_f64(), "{account}");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn an_emulator_says_how_to_reach_it_and_check_reaches_it() {
    let emulator = relay(&["emulator", "--logs", "100", "--shards", "2"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut emulator = Ended(emulator);
    let mut line = String::new();
    BufReader::new(emulator.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let access: serde_json::Value = serde_json::from_str(&line).unwrap();
    let receiver = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("tcp://{}", receiver.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in receiver.incoming() {
            std::io::copy(&mut connection.unwrap(), &mut std::io::sink()).unwrap();
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let check = |key: &str, more: &[&str]| {
        let text = |name: &str| access[name].as_str().unwrap().to_owned();
        relay(&[&["check", "--to", &to], more].concat())
            .current_dir(dir.path())
            .env("SLS_ENDPOINT", text("endpoint"))
            .env("SLS_PROJECT", text("project"))
            .env("SLS_LOGSTORE", text("logstore"))
            .env("SLS_AK_ID", text("access_key_id"))
            .env("SLS_AK_KEY", key)
            .env("SLS_CG", "check")
            .output()
            .unwrap()
    };
    let good = check(access["access_key_secret"].as_str().unwrap(), &[]);
    let text = String::from_utf8_lossy(&good.stdout).into_owned();
    assert_eq!(good.status.code(), Some(0), "{text}");
    assert!(text.contains("the oldest log that SLS keeps"), "{text}");
    assert!(text.contains("Everything works."), "{text}");
    let bad = check("not-the-secret", &[]);
    let text = String::from_utf8_lossy(&bad.stdout).into_owned();
    assert_eq!(bad.status.code(), Some(69), "{text}");
    assert!(text.contains("SignatureNotMatch") && !text.contains("not-the-secret"), "{text}");
    let offline = check("not-the-secret", &["--offline"]);
    assert_eq!(offline.status.code(), Some(0));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "check made something");
}

#[test]
fn proxy_variables_count_only_when_they_are_asked_for() {
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://relay:hidden-word@{}", proxy.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for connection in proxy.incoming() {
            *count.lock().unwrap() += 1;
            drop(connection);
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let check = |lines: &str, env: &[(&str, &str)]| {
        let path = dir.path().join("relay.toml");
        let text = format!(
            "[spool]\ndir = \"{}\"\n[[source]]\nendpoint = \"http://127.0.0.1:1\"\nproject = \"p\"\n\
             logstore = \"l\"\nconsumer_group = \"g\"\naccess_key_id = \"id\"\n\
             access_key_secret = \"secret\"\n{lines}\n[[destination]]\nto = \"udp://127.0.0.1:9\"\n",
            dir.path().join("spool").display()
        );
        std::fs::write(&path, text).unwrap();
        let mut command = relay(&["check", "--config", path.to_str().unwrap()]);
        let output = command.envs(env.iter().copied()).output().unwrap();
        assert_eq!(output.status.code(), Some(69), "{output:?}");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!said.contains("hidden-word"), "{said}");
        (std::mem::take(&mut *asked.lock().unwrap()) > 0, said)
    };
    let variables = [("HTTP_PROXY", &*address), ("ALL_PROXY", &*address)];
    let not_here = [("HTTP_PROXY", &*address), ("NO_PROXY", "127.0.0.1")];
    assert!(!check("", &variables).0);
    assert!(check("proxy = \"environment\"", &variables).0);
    assert!(!check("proxy = \"environment\"", &not_here).0);
    let (asked, said) = check(&format!("proxy = \"{address}\""), &not_here);
    assert!(asked && said.contains("http://***@127.0.0.1"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_can_be_looked_into_beside_a_running_relay_and_changes_by_nothing() {
    let ends = Ends::start(1, 300).await;
    ends.receiver.set_mode(Mode::Refuse).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().to_str().unwrap();
    let running = Running::start(ends.settings(dir.path())).await;
    wait_for("the spool to fill", || running.spool.status().state.next_log == 300).await;
    let status = stdout(&["spool", "status", "--spool", spool, "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert!(status["held_by"].as_str().unwrap().contains(&std::process::id().to_string()));
    assert_eq!(status["destinations"]["syslog"]["logs_waiting"], 300, "{status}");
    running.stop().await;

    let files = |dir: &std::path::Path| {
        let mut files = Vec::new();
        for file in std::fs::read_dir(dir.join("segments")).unwrap() {
            let path = file.unwrap().path();
            files.push((path.clone(), std::fs::read(path).unwrap()));
        }
        files.sort();
        files
    };
    let before = files(dir.path());
    let list = stdout(&["spool", "list", "--spool", spool, "--json"]);
    let batches: Vec<serde_json::Value> =
        list.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let logs: u64 = batches.iter().map(|batch| batch["logs"].as_u64().unwrap()).sum();
    assert_eq!(logs, 300);
    let shown = stdout(&["spool", "show", "--spool", spool, "0", "--json", "--limit", "2"]);
    assert_eq!(shown.lines().count(), 3, "{shown}");
    assert!(shown.contains("request_traceid"), "{shown}");
    let raw = output(&["spool", "show", "--spool", spool, "0", "--raw"]).stdout;
    assert_eq!(raw.len() as u64, batches[0]["stored_bytes"].as_u64().unwrap());
    let missing = output(&["spool", "show", "--spool", spool, "99999"]);
    assert_eq!(missing.status.code(), Some(69));
    assert_eq!(files(dir.path()), before, "looking changed something");

    let forgotten =
        output(&["spool", "forget", "--spool", spool, "--destination", "nobody", "--reason", "x"]);
    assert_eq!(forgotten.status.code(), Some(69));
    stdout(&["spool", "forget", "--spool", spool, "--destination", "syslog", "--reason", "x"]);
    let status = stdout(&["spool", "status", "--spool", spool, "--json"]);
    assert!(!status.contains("logs_waiting"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_are_told_beside_a_running_relay_and_without_one_each_once() {
    let ends = Ends::start(1, 100).await;
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    // Only the table that is needed, and a source that has no access key.
    let config = dir.path().join("relay.toml");
    let text = format!("[spool]\ndir = {spool:?}\n[[source]]\nproject = \"p\"\n");
    std::fs::write(&config, text).unwrap();
    let gaps = |more: &[&str]| {
        let config = ["--config", config.to_str().unwrap()];
        stdout(&[&["spool", "gaps"], &config[..], more].concat())
    };
    let absent = output(&["spool", "gaps", "--config", config.to_str().unwrap()]);
    assert_eq!(absent.status.code(), Some(69), "a spool that is not there has no gaps");

    let client = ends.client();
    client.create_consumer_group(ends.logstore(), GROUP, 30, false).await.unwrap();
    let begin = ends.emulator.begin_cursor(0).unwrap();
    ends.emulator.set_checkpoint(GROUP, 0, &begin).unwrap();
    ends.emulator.expire_before(0, 4).unwrap();
    let oldest = ends.emulator.begin_cursor(0).unwrap();
    let running = Running::start(ends.settings(&spool)).await;
    wait_for("the gap to be told", || !ends.notices().is_empty()).await;
    let beside = gaps(&[]);
    running.stop().await;
    assert_eq!(gaps(&[]), beside);
    assert_eq!(beside.lines().count(), 2, "{beside}");
    let row = beside.lines().nth(1).unwrap();
    let logstore = format!("demo-project/{}", ends.logstore());
    for part in ["gap", &logstore, &begin, &oldest, " 4 "] {
        assert!(row.contains(part), "{part} in {row}");
    }

    // A crash between the note and the position behind the gap has the gap noted again.
    let ledger = spool.join("ledger.jsonl");
    let noted = std::fs::read_to_string(&ledger).unwrap();
    std::fs::write(&ledger, format!("{noted}{noted}")).unwrap();
    assert_eq!(gaps(&[]), beside);
    let line: serde_json::Value = serde_json::from_str(&gaps(&["--json"])).unwrap();
    assert_eq!((&line["what"], &line["groups"]), (&"gap".into(), &4.into()), "{line}");

    std::fs::remove_file(&ledger).unwrap();
    assert_eq!(gaps(&[]), "no gaps\n");
    assert_eq!(gaps(&["--json"]), "");
}

#[test]
fn a_spool_is_found_by_its_table_alone_and_what_is_wrong_with_it_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("relay.toml");
    let status = |text: &str| {
        std::fs::write(&config, text).unwrap();
        let output = output(&["spool", "status", "--config", config.to_str().unwrap()]);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = status("[spool]\n");
    assert!(code == Some(78) && said.starts_with("error[config.missing_key]"), "{said}");
    let (code, said) = status(&format!("[spool]\ndir = {:?}\n[[source]]\n", dir.path()));
    assert!(code == Some(69) && said.contains("find a spool in"), "{said}");
}
