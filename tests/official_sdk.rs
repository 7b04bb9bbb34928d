//! The official Python SDK's consumer library reads from the emulator.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sls_relay::emulator::sls::{Generator, SlsConfig, SlsEmulator};
use sls_relay::sls::wire::{Content, Log, LogGroup};

const DEADLINE: Duration = Duration::from_secs(90);
const LOGS_PER_GROUP: u64 = 3;

/// The interpreter that has the SDK; without it the test is left out, but not in CI.
fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/venv/bin/python");
    if python.exists() {
        return Some(python);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing, run ./test", python.display());
    // Not println: the test harness would keep that to itself.
    let mut stdout = std::io::stdout();
    writeln!(stdout, "LEFT OUT: official SDK (run ./test)").unwrap();
    None
}

/// A running consumer and what it has written.
struct Consumer {
    child: Child,
    ids: Arc<Mutex<Vec<String>>>,
    complaints: Option<JoinHandle<String>>,
}

impl Consumer {
    fn start(python: &Path, emulator: &SlsEmulator, name: &str, more: &[&str]) -> Consumer {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/official_sdk/consume.py");
        let endpoint = format!("localhost:{}", emulator.address().port());
        let mut child = Command::new(python)
            .arg(script)
            .args(["--endpoint", &endpoint, "--project", "demo-project"])
            .args(["--logstore", "demo-logstore", "--key-id", "demo-key-id"])
            .args(["--group", "sdk-group", "--consumer", name])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let ids = Arc::new(Mutex::new(Vec::new()));
        let (lines, written) = (BufReader::new(child.stdout.take().unwrap()), Arc::clone(&ids));
        std::thread::spawn(move || {
            for line in lines.lines() {
                written.lock().unwrap().push(line.unwrap());
            }
        });
        let mut stderr = child.stderr.take().unwrap();
        let complaints = std::thread::spawn(move || {
            let mut complaints = String::new();
            let _ = stderr.read_to_string(&mut complaints);
            complaints
        });
        Consumer { child, ids, complaints: Some(complaints) }
    }

    fn ids(&self) -> Vec<String> {
        self.ids.lock().unwrap().clone()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end; gives its exit status and what it complained about.
    fn end(mut self) -> (ExitStatus, String) {
        wait_until("the consumer ends", || self.child.try_wait().unwrap().is_some());
        (self.child.wait().unwrap(), self.complaints.take().unwrap().join().unwrap())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Ids say shard, group and place; one field is not UTF-8.
fn group(shard: u32, number: u64) -> LogGroup {
    let log = |index| {
        let content =
            |key: &'static str, value: Vec<u8>| Content { key: key.into(), value: value.into() };
        let id = format!("{shard}/{number}/{index}").into_bytes();
        let contents = vec![content("path", b"/\xfd\xe4\xb8\xad".to_vec()), content("id", id)];
        Log { time: 1_700_000_000, contents, time_ns: Some(5) }
    };
    LogGroup { logs: (0..LOGS_PER_GROUP).map(log).collect(), ..LogGroup::default() }
}

fn all_ids(shards: u32, groups: u64) -> BTreeSet<String> {
    let ids = |shard| {
        (0..groups).flat_map(move |number| {
            (0..LOGS_PER_GROUP).map(move |index| format!("{shard}/{number}/{index}"))
        })
    };
    (0..shards).flat_map(ids).collect()
}

async fn start(shards: u32, groups: u64) -> SlsEmulator {
    let generator =
        Generator { groups_per_shard: vec![groups; shards as usize], make: Arc::new(group) };
    let config = SlsConfig { shards, generator: Some(generator), ..SlsConfig::default() };
    SlsEmulator::start(config).await.unwrap()
}

fn read_everything(python: &Path, emulator: &SlsEmulator, more: &[&str]) {
    let wanted = all_ids(3, 40);
    let count = wanted.len().to_string();
    let common = ["--key-secret", "demo-key-secret", "--wanted", &count, "--heartbeat", "10"];
    let consumer = Consumer::start(python, emulator, "alone", &[&common, more].concat());
    let ids = Arc::clone(&consumer.ids);
    let (status, complaints) = consumer.end();
    assert!(status.success(), "{complaints}");
    wait_until("the last line is read", || ids.lock().unwrap().len() >= wanted.len());
    let ids = ids.lock().unwrap();
    assert_eq!(ids.len(), wanted.len(), "nothing comes twice");
    assert_eq!(ids.iter().cloned().collect::<BTreeSet<_>>(), wanted);
    for shard in 0..3 {
        assert_eq!(emulator.checkpoint("sdk-group", shard), emulator.end_cursor(shard).ok());
    }
    assert_eq!(emulator.stats().refused_signatures, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_consumer_reads_every_log_and_commits_every_end() {
    let Some(python) = python() else { return };
    read_everything(&python, &start(3, 40).await, &["--groups-per-pull", "7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn signature_version_4_is_accepted() {
    let Some(python) = python() else { return };
    let sign = ["--sign", "v4", "--region", "cn-hangzhou"];
    read_everything(&python, &start(3, 40).await, &sign);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_refused() {
    let Some(python) = python() else { return };
    for sign in ["v1", "v4"] {
        let emulator = start(1, 1).await;
        let more = ["--key-secret", "wrong", "--sign", sign, "--region", "cn-hangzhou"];
        let (status, complaints) = Consumer::start(&python, &emulator, "thief", &more).end();
        assert!(!status.success());
        assert!(complaints.contains("SignatureNotMatch"), "{complaints}");
        assert_eq!((emulator.stats().pulls, emulator.stats().heartbeats), (0, 0));
        assert!(emulator.stats().refused_signatures > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_consumers_share_the_shards_and_one_inherits_them_without_loss() {
    let Some(python) = python() else { return };
    let emulator = start(4, 20).await;
    let more = ["--key-secret", "demo-key-secret", "--groups-per-pull", "5"];
    let shares = || {
        let mut shares: BTreeMap<String, usize> = BTreeMap::new();
        for holder in emulator.holders("sdk-group").into_values() {
            *shares.entry(holder).or_default() += 1;
        }
        shares
    };
    let put = |numbers: std::ops::Range<u64>| {
        for number in numbers {
            for shard in 0..4 {
                emulator.put_group(shard, &group(shard, number)).unwrap();
            }
        }
    };

    let first = Consumer::start(&python, &emulator, "first", &more);
    wait_until("the first has all shards", || shares() == [("first".into(), 4)].into());
    let second = Consumer::start(&python, &emulator, "second", &more);
    let halves = [("first".to_owned(), 2), ("second".to_owned(), 2)].into();
    wait_until("both have half", || shares() == halves);
    put(20..40);
    let read = || first.ids().into_iter().chain(second.ids()).collect::<BTreeSet<_>>();
    let wanted = all_ids(4, 40);
    wait_until("everything is read", || read().len() >= wanted.len());
    assert_eq!(read(), wanted);
    let shards: BTreeSet<char> = second.ids().iter().filter_map(|id| id.chars().next()).collect();
    assert!(shards.len() >= 2, "the second read its half: {shards:?}");

    second.signal(Signal::KILL);
    wait_until("the first inherits", || shares() == [("first".into(), 4)].into());
    put(40..60);
    let wanted = all_ids(4, 60);
    wait_until("the first reads on", || read().len() >= wanted.len());
    assert_eq!(read(), wanted);

    first.signal(Signal::TERM);
    let (status, complaints) = first.end();
    assert!(status.success(), "{complaints}");
    for shard in 0..4 {
        assert_eq!(emulator.checkpoint("sdk-group", shard), emulator.end_cursor(shard).ok());
    }
}
