use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::Source;
use crate::emulator::sls::{Fault, FaultKind, Operation, SlsConfig, SlsEmulator};
use crate::relay::status::{Counters, read};
use crate::relay::supervisor::client;
use crate::sls::wire::{Log, LogGroup};
use crate::sls::{CredentialSource, Credentials, Endpoint, PullBudget};
use crate::spool::{Options, ShardKey, Spool};

const SOON: Duration = Duration::from_secs(60);

/// A shard of an emulated SLS, and a spool to store it in.
struct Scene {
    emulator: SlsEmulator,
    shard: Arc<Shard>,
    _dir: tempfile::TempDir,
}

impl Scene {
    async fn start(budget: PullBudget, adjust: impl FnOnce(&mut Source)) -> Self {
        let config = SlsConfig { shards: 2, ..SlsConfig::default() };
        let emulator = SlsEmulator::start(config).await.expect("an emulator");
        let SlsConfig { project, logstore, key_id, key_secret, .. } = SlsConfig::default();
        let key = Credentials { key_id, key_secret, security_token: None };
        let endpoint = Endpoint::parse(&emulator.endpoint()).expect("an endpoint");
        let mut source =
            Source::new(endpoint, project, logstore, "g", CredentialSource::Static(key));
        source.idle_poll = Duration::from_millis(20);
        adjust(&mut source);
        let client = client(&source, "test").expect("a client");
        client.create_consumer_group(&source.logstore, "g", 30, false).await.expect("a group");
        let dir = tempfile::tempdir().expect("a directory");
        let options =
            Options { dir: dir.path().to_owned(), max_bytes: 64 << 20, min_free_bytes: 0 };
        let (spool, _) = Spool::open(&options).expect("a spool");
        let key = ShardKey { source: source.spool_key(), shard: 0 };
        let shard = Arc::new(Shard {
            source: Arc::new(source),
            client,
            spool,
            counters: Counters::default().shard(&key),
            key,
            consumer: "test".to_owned(),
            budget,
            stop: CancellationToken::new(),
            stopping: CancellationToken::new(),
            finish: CancellationToken::new(),
        });
        Self { emulator, shard, _dir: dir }
    }

    fn put(&self, groups: u32) {
        let log = Log { time: 1, contents: Vec::new(), time_ns: None };
        let group = LogGroup { logs: vec![log], ..LogGroup::default() };
        for _ in 0..groups {
            self.emulator.put_group(0, &group).expect("put");
        }
    }

    fn begin(&self) -> Cursor {
        Cursor::new(self.emulator.begin_cursor(0).expect("a shard"))
    }
}

fn fetcher(shard: &Arc<Shard>, receipts: Sender<Receipt>) -> Fetcher {
    let (pulling, _) = mpsc::channel(1);
    Fetcher::new(Arc::clone(shard), receipts, pulling)
}

#[tokio::test]
async fn what_waits_for_a_commit_takes_no_memory_from_other_sources() {
    let budget = PullBudget::new(1, 1);
    let scene = Scene::start(budget.clone(), |_| {}).await;
    scene.put(3 * FIRST_COUNT);
    // Nobody takes the receipts: the second one waits.
    let (receipts, _waiting) = mpsc::channel(1);
    let pulling = tokio::spawn(run(fetcher(&scene.shard, receipts)));
    let shard = &scene.shard;
    let stored = async {
        while read(&shard.counters.spooled) < u64::from(2 * FIRST_COUNT) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, stored).await.expect("two batches in the spool");
    let cursor = scene.begin();
    let budget = budget.for_another(1);
    let request = PullRequest { budget: Some(&budget), ..PullRequest::new(&cursor, 1) };
    let pulled = shard.client.pull_logs(&shard.source.logstore, 0, request);
    let pulled = tokio::time::timeout(SOON / 6, pulled).await.expect("room for another source");
    assert_eq!(pulled.expect("an answer").groups, 1);
    pulling.abort();
}

#[tokio::test]
async fn a_pull_that_waits_until_after_the_end_of_an_export_brings_nothing_behind_it() {
    let budget = PullBudget::new(1 << 20, 1);
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(5500);
    let scene = Scene::start(budget.clone(), |source| source.until = Some(until)).await;
    let shard = Arc::clone(&scene.shard);
    scene.put(1);
    // The only pull at a time is another one, which is not answered.
    let fault = Fault::new(FaultKind::NeverAnswers).on(Operation::Pull).shard(1).times(1);
    scene.emulator.faults().add(fault);
    let other = tokio::spawn(async move {
        let cursor = Cursor::from_number(1);
        let request = PullRequest { budget: Some(&budget), ..PullRequest::new(&cursor, 1) };
        let _ = shard.client.pull_logs(&shard.source.logstore, 1, request).await;
    });
    while !scene.emulator.faults().is_clear() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (receipts, _taken) = mpsc::channel(8);
    let mut fetcher = fetcher(&scene.shard, receipts);
    let cursor = scene.begin();
    let pulled = {
        let mut pull = std::pin::pin!(fetcher.pull(&cursor));
        while jiff::Timestamp::now() < until + jiff::SignedDuration::from_secs(1) {
            let tick = tokio::time::timeout(Duration::from_millis(100), &mut pull).await;
            assert!(tick.is_err(), "it waits for its turn");
        }
        scene.put(1);
        other.abort();
        tokio::time::timeout(SOON, pull).await.expect("its turn")
    };
    if let Ok(Pulled::Batch { batch, .. }) = pulled {
        assert_eq!(batch.groups, 1, "received before the end");
    }
}

fn answer(groups: u32, body: Vec<u8>) -> PullAnswer {
    PullAnswer {
        next_cursor: Cursor::from_number(9),
        groups,
        raw_size: body.len() as u64,
        compression: crate::sls::Compression::None,
        body: body.into(),
        last_group_cursor: None,
        cursor_time: None,
        end_of_cursor: false,
        filtered: None,
        date: None,
        request_id: String::new(),
        room: Room::default(),
    }
}

#[test]
fn log_groups_that_are_announced_and_not_there_are_not_passed_over() {
    let error = check(&answer(3, Vec::new())).expect_err("three are missing");
    assert!(error.to_string().contains("log groups"), "{error}");
    check(&answer(0, Vec::new())).expect("nothing was announced");
}

#[test]
fn a_number_of_the_last_log_group_that_cannot_be_is_no_identity() {
    for (last, groups, first) in [(u64::MAX, 1, Some(u64::MAX)), (11, 2, Some(10)), (3, 9, None)] {
        let answer = PullAnswer { last_group_cursor: Some(last), ..answer(groups, Vec::new()) };
        let summary = Summary { groups, ..Summary::default() };
        let batch = batch(&Cursor::from_number(8), answer, &summary, false);
        assert_eq!(batch.first_group_cursor, first);
    }
}
