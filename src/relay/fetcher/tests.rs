use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::Source;
use crate::emulator::sls::{Fault, FaultKind, Operation, SlsConfig, SlsEmulator};
use crate::relay::status::{Counters, read};
use crate::relay::supervisor::client;
use crate::sls::walk::Summary;
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
        let (shard, dir) = shard(&emulator.endpoint(), budget, adjust);
        let made = shard.client.create_consumer_group(&shard.source.logstore, "g", 30, false);
        made.await.expect("a group");
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

fn shard(
    endpoint: &str,
    budget: PullBudget,
    adjust: impl FnOnce(&mut Source),
) -> (Arc<Shard>, tempfile::TempDir) {
    let SlsConfig { project, logstore, key_id, key_secret, .. } = SlsConfig::default();
    let key = Credentials { key_id, key_secret, security_token: None };
    let endpoint = Endpoint::parse(endpoint).expect("an endpoint");
    let mut source = Source::new(endpoint, project, logstore, "g", CredentialSource::Static(key));
    source.idle_poll = Duration::from_millis(20);
    adjust(&mut source);
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options::new(dir.path(), 64 << 20);
    let (spool, _) = Spool::open(&options).expect("a spool");
    let key = ShardKey { source: source.spool_key(), shard: 0 };
    let shard = Shard {
        client: client(&source, "test").expect("a client"),
        source: Arc::new(source),
        spool,
        counters: Counters::default().shard(&key),
        of_source: Arc::default(),
        key,
        consumer: "test".to_owned(),
        budget,
        found: std::sync::Mutex::default(),
        stop: CancellationToken::new(),
        stopping: CancellationToken::new(),
        finish: CancellationToken::new(),
    };
    (Arc::new(shard), dir)
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

/// An SLS that answers every request so: a status line, headers and a body.
async fn answering(mut answer: impl FnMut(&str) -> String + Send + 'static) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let read = stream.read(&mut request).await.unwrap_or(0);
            let answer = answer(&String::from_utf8_lossy(&request[..read]));
            let _ = stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await;
        }
    });
    address
}

/// An SLS whose cursors are no numbers, and which fails when first asked for a cursor's time.
async fn with_opaque_cursors() -> String {
    let mut failed = false;
    answering(move |request| {
        let (status, body) = if request.contains("from=begin") {
            ("200 OK", r#"{"cursor":"oldest"}"#)
        } else if request.contains("from=end") {
            ("200 OK", r#"{"cursor":"newest"}"#)
        } else if request.contains("type=cursor_time") && std::mem::replace(&mut failed, true) {
            ("200 OK", r#"{"cursor_time":1700000000}"#)
        } else {
            ("503 Busy", "")
        };
        let length = body.len();
        format!("{status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
    })
    .await
}

#[tokio::test]
async fn a_logstore_that_was_made_anew_is_a_gap_of_unknown_size() {
    // The numbers of a shard begin with the time of its making, in nanoseconds.
    let (before, anew) = (1_700_000_000_000_000_123, 1_700_086_400_000_000_000);
    let oldest = Cursor::from_number(anew);
    let body = format!(r#"{{"cursor":"{oldest}"}}"#);
    let length = body.len();
    let answer = format!("Connection: close\r\nContent-Length: {length}\r\n\r\n{body}");
    let sls = answering(move |_| format!("200 OK\r\n{answer}")).await;
    let (shard, _dir) = shard(&sls, PullBudget::new(1, 1), |_| {});
    let (receipts, _taken) = mpsc::channel(8);
    let mut fetcher = fetcher(&shard, receipts);
    match fetcher.onward(&Cursor::from_number(before)).await {
        Onward::Behind(gap) => assert_eq!((gap.to, gap.groups), (oldest, None)),
        _ => panic!("it is gone"),
    }
    match fetcher.onward(&Cursor::from_number(anew - 7)).await {
        Onward::Behind(gap) => assert_eq!(gap.groups, Some(7)),
        _ => panic!("it is gone"),
    }
}

/// An SLS whose pulls bring nothing but these headers.
async fn with_headers(headers: String) -> String {
    let always = "Connection: close\r\nContent-Length: 0\r\nx-log-count: 0\r\nx-log-bodyrawsize: 0";
    answering(move |_| format!("200 OK\r\n{always}\r\n{headers}\r\n\r\n")).await
}

#[tokio::test]
async fn a_cursor_to_go_on_with_that_leads_back_is_not_followed() {
    let back = Cursor::from_number(5);
    let sls = with_headers(format!("x-log-cursor: {back}")).await;
    let (shard, _dir) = shard(&sls, PullBudget::new(1, 1), |_| {});
    let (receipts, _taken) = mpsc::channel(8);
    let mut fetcher = fetcher(&shard, receipts);
    let pulled = fetcher.pull(&Cursor::from_number(9)).await;
    assert!(matches!(pulled, Err(Failure::Wait(_))), "what was pulled would come again for ever");
    assert!(matches!(fetcher.pull(&back).await, Ok(Pulled::Nothing { .. })));
}

#[tokio::test]
async fn logs_on_which_a_filter_failed_are_counted() {
    let next = Cursor::from_number(5);
    let filtered = "x-log-rawdatasize: 900\r\nx-log-rawdatacount: 3\r\nx-log-failedlines: 7";
    let sls = with_headers(format!("x-log-cursor: {next}\r\n{filtered}")).await;
    let (shard, _dir) = shard(&sls, PullBudget::new(1, 1), |source| {
        source.filter = Some(crate::sls::Filter::Query("* | where a > 1".to_owned()));
    });
    let (receipts, _taken) = mpsc::channel(8);
    let mut fetcher = fetcher(&shard, receipts);
    assert!(matches!(fetcher.pull(&Cursor::from_number(2)).await, Ok(Pulled::Nothing { .. })));
    assert_eq!(read(&shard.counters.filter_failed), 7);
}

#[tokio::test]
async fn an_error_that_passes_does_not_make_a_cursor_expired() {
    let sls = with_opaque_cursors().await;
    let (shard, _dir) = shard(&sls, PullBudget::new(1, 1), |_| {});
    let here = Cursor::new("here");
    let (receipts, _taken) = mpsc::channel(8);
    let mut fetcher = fetcher(&shard, receipts);
    let onward = tokio::time::timeout(SOON, fetcher.onward(&here)).await;
    assert!(matches!(onward, Ok(Onward::At(cursor)) if cursor == here), "it is kept");
    assert_eq!(read(&shard.counters.gaps), 0);
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

#[tokio::test]
async fn a_stop_lets_a_gap_that_is_stored_reach_its_commit() {
    let scene = Scene::start(PullBudget::new(1 << 20, 1), |_| {}).await;
    scene.put(9);
    let begin = scene.emulator.begin_cursor(0).expect("a shard");
    scene.emulator.set_checkpoint("g", 0, &begin).expect("set");
    scene.emulator.expire_before(0, 5).expect("expired");
    let (sender, mut receipts) = mpsc::channel(1);
    // A receipt that nobody has taken yet.
    let (spool, key) = (&scene.shard.spool, ShardKey { source: "s".to_owned(), shard: 7 });
    let tenure = spool.begin(key, "a".to_owned(), None).await.expect("a tenure");
    let first = spool.progress(&tenure, "a".to_owned(), "b".to_owned()).await.expect("a receipt");
    sender.send(first).await.expect("room for one");
    let fetching = tokio::spawn(run(fetcher(&scene.shard, sender)));
    let stored = async {
        while read(&scene.shard.counters.spooled) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, stored).await.expect("the notice in the spool");
    scene.shard.stop.cancel();
    // The stop is seen before there is room for the receipt.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(receipts.recv().await.expect("the first").next_cursor(), "b");
    let oldest = scene.emulator.begin_cursor(0).expect("a shard");
    assert_eq!(receipts.recv().await.expect("the gap's").next_cursor(), oldest);
    fetching.await.expect("it ends");
}
