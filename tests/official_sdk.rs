//! The official Python SDK's consumer library reads from the emulator.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "support/pipeline.rs"]
mod pipeline;
#[path = "support/sdk.rs"]
mod sdk;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sls_relay::emulator::sls::{Generator, SlsConfig, SlsEmulator};
use sls_relay::sls::wire::{Content, Log, LogGroup};

use sdk::{Script, python};

const DEADLINE: Duration = Duration::from_secs(90);
const LOGS_PER_GROUP: u64 = 3;

/// A running consumer and what it has written.
struct Consumer {
    script: Script,
    ids: Arc<Mutex<Vec<String>>>,
}

impl Consumer {
    fn start(python: &Path, emulator: &SlsEmulator, name: &str, more: &[&str]) -> Consumer {
        let endpoint = format!("localhost:{}", emulator.address().port());
        let common = [
            ["--endpoint", &endpoint],
            ["--project", "demo-project"],
            ["--logstore", "demo-logstore"],
            ["--key-id", "demo-key-id"],
            ["--group", "sdk-group"],
            ["--consumer", name],
        ];
        let arguments = [common.as_flattened(), more].concat();
        let script = Script::start(python, "consume.py", &arguments);
        Consumer { ids: script.lines(), script }
    }

    fn ids(&self) -> Vec<String> {
        self.ids.lock().unwrap().clone()
    }

    fn signal(&self, signal: Signal) {
        self.script.signal(signal);
    }

    /// Waits for its end; gives its exit status and what it complained about.
    fn end(mut self) -> (ExitStatus, String) {
        wait_until("the consumer ends", || self.script.has_ended());
        self.script.end()
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

#[tokio::test(flavor = "multi_thread")]
async fn two_consumers_of_the_sdk_and_two_relays_share_a_group_without_loss() {
    let Some(python) = python() else { return };
    let ends = pipeline::Ends::start(8, 8000).await;
    let more = ["--key-secret", "demo-key-secret", "--groups-per-pull", "2"];
    let more = [&more[..], &["--group", pipeline::GROUP, "--id-field", "request_traceid"]].concat();
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    // The SDK comes first, so that the group has the timeout that it asks for.
    let consumers =
        ["one", "two"].map(|name| Consumer::start(&python, &ends.emulator, name, &more));
    wait_until("the SDK holds shards", || !ends.emulator.holders(pipeline::GROUP).is_empty());
    let relays = [
        pipeline::Running::start(ends.settings(dirs[0].path())).await,
        pipeline::Running::start(ends.settings(dirs[1].path())).await,
    ];
    let consumers_in_group = || {
        let holders = ends.emulator.holders(pipeline::GROUP).into_values();
        holders.collect::<BTreeSet<_>>().len()
    };
    wait_until("all four hold shards", || consumers_in_group() == 4);
    let read_by_sdk = || consumers.iter().flat_map(Consumer::ids).collect::<BTreeSet<_>>();
    // Every log went to the receiver or to one of the SDK's consumers.
    wait_until("every log is with someone", || {
        let sdk = read_by_sdk();
        let missing = ends.arrivals().missing(usize::MAX);
        missing.iter().all(|(shard, n)| {
            let id = sls_relay::emulator::waf::trace_id(*shard, *n);
            sdk.contains(std::str::from_utf8(&id).unwrap())
        })
    });
    for relay in relays {
        relay.stop().await;
    }
    assert!(ends.arrivals().report().delivered > 0 && !read_by_sdk().is_empty());
}
