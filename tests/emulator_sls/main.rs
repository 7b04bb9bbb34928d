//! The emulated SLS service, asked over raw HTTP: what it answers, whom it refuses,
//! and every fault as a client sees it.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod client;

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use serde_json::json;
use sls_relay::emulator::sls::{
    Fault, FaultKind, Generator, Operation, SlsConfig, SlsEmulator, cursor_number,
};
use sls_relay::sls::wire::{Content, Log, LogGroup};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use client::{Ask, GROUPS, Reply, SHARD, Signing, V1, V4};

const DEADLINE: Duration = Duration::from_secs(30);

fn group(id: u64) -> LogGroup {
    let content =
        |key: &'static str, value: String| Content { key: key.into(), value: value.into() };
    let contents = vec![content("id", id.to_string()), content("filler", "x".repeat(200))];
    LogGroup { logs: vec![Log { time: 1, contents, time_ns: None }], ..LogGroup::default() }
}

async fn wait_until(mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap();
}

/// Neither an answer nor the end of the connection comes within a while.
async fn is_silent(stream: &mut TcpStream) -> bool {
    tokio::time::timeout(Duration::from_millis(200), stream.read(&mut [0])).await.is_err()
}

/// A service whose shard 0 has `groups` groups, with ids from 0.
async fn start(groups: u64) -> SlsEmulator {
    start_with(groups, SlsConfig::default()).await
}

async fn start_with(groups: u64, config: SlsConfig) -> SlsEmulator {
    let make = Arc::new(|_, number| group(number));
    let generator = Some(Generator { groups_per_shard: vec![groups], make });
    SlsEmulator::start(SlsConfig { generator, ..config }).await.unwrap()
}

async fn begin(emulator: &SlsEmulator) -> String {
    let reply = Ask::get(SHARD, &[("type", "cursor"), ("from", "begin")]).send(emulator).await;
    reply.json()["cursor"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_loopback_is_listened_on() {
    let config = SlsConfig { listen: ([0, 0, 0, 0], 0).into(), ..SlsConfig::default() };
    let refused = SlsEmulator::start(config).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_project_the_logstore_and_its_shards_can_be_looked_at() {
    let emulator = start_with(0, SlsConfig { shards: 2, ..SlsConfig::default() }).await;
    assert_eq!(Ask::get("/", &[]).send(&emulator).await.json()["status"], "Normal");
    let logstore = Ask::get("/logstores/demo-logstore", &[]).send(&emulator).await.json();
    assert_eq!(logstore["shardCount"], 2);
    emulator.split(0).unwrap();
    let shards = Ask::get("/logstores/demo-logstore/shards", &[]).send(&emulator).await.json();
    let status: Vec<_> = shards.as_array().unwrap().iter().map(|s| &s["status"]).collect();
    assert_eq!(status, ["readonly", "readwrite", "readwrite", "readwrite"]);
    assert_eq!(shards[1]["exclusiveEndKey"], "f".repeat(32));

    let missing = Ask::get("/logstores/other", &[]).send(&emulator).await;
    assert_eq!(missing.refusal(), (404, "LogStoreNotExist".into()));
    let ask = Ask { host: "other.127.0.0.1".into(), ..Ask::get("/", &[]) };
    assert_eq!(ask.send(&emulator).await.refusal(), (404, "ProjectNotExist".into()));
    for host in ["demo-project.localhost", "demo-project.localhost:9999"] {
        let ask = Ask { host: host.into(), ..Ask::get("/", &[]).signed(V4) };
        assert_eq!(ask.send(&emulator).await.status, 200, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paging_by_cursors_reads_every_group_once_and_stays_at_the_end() {
    let emulator = start(25).await;
    let mut cursor = begin(&emulator).await;
    let first = cursor_number(&cursor).unwrap();
    let mut ids = Vec::new();
    loop {
        let reply = Ask::pull(&cursor, "10").send(&emulator).await;
        assert_eq!(reply.status, 200);
        ids.extend(reply.ids());
        let at_end = reply.headers["x-log-end-of-cursor"] == "1";
        assert_eq!(at_end, ids.len() == 25);
        if let Some(last) = reply.headers.get("x-log-read-last-cursor") {
            assert_eq!(last.parse::<i64>().unwrap(), first + ids.len() as i64 - 1);
        }
        if reply.cursor() == cursor {
            assert_eq!((reply.raw_size(), reply.body.len()), (0, 0));
            break;
        }
        cursor = reply.cursor().to_owned();
    }
    assert_eq!(ids, (0..25).map(|id| id.to_string()).collect::<Vec<_>>());
    assert_eq!(cursor, emulator.end_cursor(0).unwrap());

    emulator.put_group(0, &group(25)).unwrap();
    assert_eq!(Ask::pull(&cursor, "10").send(&emulator).await.ids(), ["25"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn log_groups_that_repeat_are_paged_like_others_up_to_what_was_put() {
    let config = SlsConfig { repeat: Some(4), max_raw_bytes: 1000, ..SlsConfig::default() };
    let emulator = start_with(10, config).await;
    emulator.put_group(0, &group(99)).unwrap();
    let read = async || {
        let (mut cursor, mut pages) = (begin(&emulator).await, Vec::new());
        loop {
            let reply = Ask::pull(&cursor, "6").send(&emulator).await;
            if reply.cursor() == cursor {
                return pages;
            }
            assert_eq!(reply.ids().len().to_string(), reply.headers["x-log-count"]);
            cursor = reply.cursor().to_owned();
            pages.push((reply.ids().join(" "), reply.raw_size(), cursor.clone()));
        }
    };
    let pages = read().await;
    let ids: Vec<_> = pages.iter().map(|(ids, ..)| ids.as_str()).collect();
    assert_eq!(ids, ["0 1 2 3", "0 1 2 3", "0 1 99"]);
    assert_eq!(read().await, pages, "kept answers are the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn end_cursor_count_and_size_bound_a_pull() {
    let config = SlsConfig { max_raw_bytes: 1000, ..SlsConfig::default() };
    let emulator = start_with(25, config).await;
    let cursor = begin(&emulator).await;
    assert_eq!(Ask::pull(&cursor, "1000").send(&emulator).await.ids(), ["0", "1", "2", "3"]);
    let third = Ask::pull(&cursor, "2").send(&emulator).await.cursor().to_owned();
    let mut ask = Ask::pull(&cursor, "1000");
    ask.query.push(("end_cursor".into(), third));
    assert_eq!(ask.send(&emulator).await.ids(), ["0", "1"]);
    for count in ["0", "1001", "x"] {
        let reply = Ask::pull(&cursor, count).send(&emulator).await;
        assert_eq!(reply.refusal(), (400, "ParameterInvalid".into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_or_a_processor_filters_while_the_cursor_moves_over_everything() {
    let emulator = start(25).await;
    let cursor = begin(&emulator).await;
    let end = emulator.end_cursor(0).unwrap();
    emulator.set_processor("seven", "* | where id = '7'").unwrap();
    for (key, value, ids, count) in [
        ("query", "* | where id = '7'", &["7"][..], "1"),
        ("processor", "seven", &["7"], "1"),
        ("query", "* | where id = '99'", &[], "0"),
    ] {
        let mut ask = Ask::pull(&cursor, "1000");
        ask.query.push((key.into(), value.into()));
        let reply = ask.send(&emulator).await;
        assert_eq!(reply.ids(), ids, "{key}={value}");
        assert_eq!(reply.cursor(), end);
        assert_eq!(reply.headers["x-log-count"], count);
        assert_eq!(reply.headers["x-log-rawdatacount"], "25");
        assert_eq!(reply.headers["x-log-rawdatalines"], "25");
        assert_eq!(reply.headers["x-log-resultlines"], count);
        assert!(reply.headers["x-log-rawdatasize"].parse::<u64>().unwrap() > 25 * 200);
    }
    for bad in [
        vec![("query", "* | where id like '7'")],
        vec![("processor", "eight")],
        vec![("query", "*"), ("processor", "seven")],
    ] {
        let mut ask = Ask::pull(&cursor, "1000");
        ask.query.extend(bad.into_iter().map(|(key, value)| (key.into(), value.into())));
        assert_eq!(ask.send(&emulator).await.refusal(), (400, "ParameterInvalid".into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_body_is_compressed_as_the_client_asks() {
    let emulator = start_with(3, SlsConfig { zstd: true, ..SlsConfig::default() }).await;
    let without = start(3).await;
    let cursor = begin(&emulator).await;
    for (service, accepted, sent) in [
        (&emulator, "lz4", Some("lz4")),
        (&emulator, "zstd", Some("zstd")),
        (&emulator, "", None),
        (&without, "zstd", Some("lz4")),
    ] {
        let query = [("type", "logs"), ("cursor", &*cursor), ("count", "10")];
        let ask = Ask::get(SHARD, &query).header("accept-encoding", accepted);
        let reply = ask.send(service).await;
        assert_eq!(reply.headers.get("x-log-compresstype").map(String::as_str), sent);
        assert_eq!(reply.ids(), ["0", "1", "2"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_and_unreadable_cursors_are_refused() {
    let emulator = start(5).await;
    let cursor = begin(&emulator).await;
    emulator.expire_before(0, 2).unwrap();
    for bad in [&*cursor, "nonsense"] {
        let reply = Ask::pull(bad, "10").send(&emulator).await;
        assert_eq!(reply.refusal(), (400, "InvalidCursor".into()));
    }
    let oldest = begin(&emulator).await;
    assert_eq!(Ask::pull(&oldest, "10").send(&emulator).await.ids(), ["2", "3", "4"]);
    let query = [("type", "cursor_time"), ("cursor", &*oldest)];
    let time = Ask::get(SHARD, &query).send(&emulator).await.json()["cursor_time"].clone();
    let expired = Ask::get(SHARD, &[("type", "cursor_time"), ("cursor", &*cursor)]);
    assert_eq!(expired.send(&emulator).await.refusal(), (400, "InvalidCursor".into()));
    let query = [("type", "cursor"), ("from", &*time.to_string())];
    let found = Ask::get(SHARD, &query).send(&emulator).await.json();
    assert_eq!(found["cursor"], oldest);
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_that_are_put_can_be_pulled() {
    let emulator = start(0).await;
    let raw = group(7).encode_to_vec();
    let plain = Ask { body: raw.clone(), ..Ask::new("POST", "/logstores/demo-logstore", &[]) };
    let plain = plain.header("content-type", "application/x-protobuf");
    assert_eq!(plain.send(&emulator).await.status, 200);
    let path = "/logstores/demo-logstore/shards/lb";
    let packed = Ask { body: lz4_flex::block::compress(&raw), ..Ask::new("POST", path, &[]) };
    let packed = packed
        .header("x-log-compresstype", "lz4")
        .header("x-log-bodyrawsize", &raw.len().to_string());
    assert_eq!(packed.send(&emulator).await.status, 200);
    let cursor = begin(&emulator).await;
    assert_eq!(Ask::pull(&cursor, "10").send(&emulator).await.ids(), ["7", "7"]);
    let broken = Ask { body: b"\xff\xff".to_vec(), ..plain };
    assert_eq!(broken.send(&emulator).await.refusal(), (400, "PostBodyInvalid".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_group_goes_from_creation_to_deletion() {
    let emulator = start(3).await;
    let unknown = Ask::heartbeat("a", &[]).send(&emulator).await;
    assert_eq!(unknown.refusal(), (404, "ConsumerGroupNotExist".into()));
    assert_eq!(Ask::create_group().send(&emulator).await.status, 200);
    let again = Ask::create_group().send(&emulator).await;
    assert_eq!(again.refusal(), (400, "ConsumerGroupAlreadyExist".into()));
    let change =
        Ask { method: "PUT", ..Ask::post(&format!("{GROUPS}/cg"), &[], &json!({"timeout": 9})) };
    assert_eq!(change.send(&emulator).await.status, 200);
    let groups = Ask::get(GROUPS, &[]).send(&emulator).await.json();
    assert_eq!(groups, json!([{"name": "cg", "timeout": 9, "order": false}]));
    let change =
        Ask { method: "PUT", ..Ask::post(&format!("{GROUPS}/cg"), &[], &json!({"order": true})) };
    assert_eq!(change.send(&emulator).await.status, 200);
    let groups = Ask::get(GROUPS, &[]).send(&emulator).await.json();
    assert_eq!(groups, json!([{"name": "cg", "timeout": 9, "order": true}]));

    let early = Ask::heartbeat("a", &[0]).send(&emulator).await;
    assert_eq!(early.refusal(), (400, "NotExistConsumerWithBody".into()));
    assert_eq!(Ask::heartbeat("a", &[]).send(&emulator).await.json(), json!([0]));
    assert_eq!(emulator.holders("cg"), [(0, "a".to_owned())].into());

    let cursor = begin(&emulator).await;
    let checkpoints = Ask::get(&format!("{GROUPS}/cg"), &[("shard", "0")]);
    assert_eq!(checkpoints.send(&emulator).await.json()[0]["checkpoint"], "");
    assert_eq!(Ask::commit("a", &cursor, "false").send(&emulator).await.status, 200);
    let theirs = Ask::commit("b", &cursor, "false").send(&emulator).await;
    assert_eq!(theirs.refusal(), (404, "ConsumerNotMatch".into()));
    assert_eq!(Ask::commit("b", &cursor, "True").send(&emulator).await.status, 200);
    let bad = Ask::commit("a", "nonsense", "false").send(&emulator).await;
    assert_eq!(bad.refusal(), (400, "InvalidShardCheckPoint".into()));
    let found = checkpoints.send(&emulator).await.json();
    assert_eq!((&found[0]["checkpoint"], &found[0]["consumer"]), (&json!(cursor), &json!("b")));
    assert!(found[0]["updateTime"].as_u64().unwrap() > 1_000_000_000_000_000);
    let missing = Ask::get(&format!("{GROUPS}/cg"), &[("shard", "7")]).send(&emulator).await;
    assert_eq!(missing.json(), json!([]));

    let log = emulator.checkpoint_log();
    let seen: Vec<_> = log.iter().map(|one| (one.consumer.as_str(), one.forced)).collect();
    assert_eq!(seen, [("a", false), ("b", true)]);
    emulator.set_checkpoint("cg", 0, &emulator.end_cursor(0).unwrap()).unwrap();
    assert_eq!(emulator.checkpoint("cg", 0), Some(emulator.end_cursor(0).unwrap()));

    let delete = Ask::new("DELETE", &format!("{GROUPS}/cg"), &[]);
    assert_eq!(delete.send(&emulator).await.status, 200);
    assert_eq!(emulator.checkpoint("cg", 0), None);
    assert_eq!(emulator.stats().heartbeats, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_right_signature_at_the_right_time_is_accepted() {
    let emulator = start(0).await;
    for signing in [V1, V4] {
        let odd = Ask::heartbeat("a b+c/é~", &[]).signed(signing.clone());
        let refusal = odd.send(&emulator).await.refusal();
        assert_eq!(refusal, (404, "ConsumerGroupNotExist".into()), "signed well, odd as it is");
        for minutes in [-14, 14] {
            let time = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(minutes);
            let ask = Ask { time, ..Ask::get("/", &[]).signed(signing.clone()) };
            assert_eq!(ask.send(&emulator).await.status, 200);
        }
        for minutes in [-16, 16] {
            let time = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(minutes);
            let ask = Ask { time, ..Ask::get("/", &[]).signed(signing.clone()) };
            assert_eq!(ask.send(&emulator).await.refusal(), (400, "RequestTimeExpired".into()));
        }
    }
    assert_eq!(emulator.stats().refused_signatures, 4);
    for signing in [Signing::V1 { secret: "wrong" }, Signing::V4 { secret: "wrong" }] {
        let reply = Ask::get("/", &[]).signed(signing).send(&emulator).await;
        assert_eq!(reply.refusal(), (401, "SignatureNotMatch".into()));
    }
    let reply = Ask::get("/", &[]).signed(Signing::None).send(&emulator).await;
    assert_eq!(reply.refusal(), (401, "Unauthorized".into()));
    let stranger = Ask::get("/", &[]).signed(Signing::None).header("authorization", "LOG x:y");
    let reply = stranger.send(&emulator).await;
    assert_eq!(reply.refusal(), (401, "InvalidAccessKeyId".into()));
    assert_eq!(emulator.stats().refused_signatures, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skewed_clock_shows_in_the_date_and_expires_requests() {
    let emulator = start(0).await;
    emulator.faults().set_clock_skew(3600);
    let reply = Ask::get("/", &[]).send(&emulator).await;
    assert_eq!(reply.refusal(), (400, "RequestTimeExpired".into()));
    let date = &reply.headers["date"];
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).unwrap();
    let ahead = time.as_second() - jiff::Timestamp::now().as_second();
    assert!((3500..=3600).contains(&ahead), "{ahead}");
    let ask = Ask { time, ..Ask::get("/", &[]) };
    assert_eq!(ask.send(&emulator).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_that_answer_with_a_status_leave_the_next_request_alone() {
    let emulator = start(3).await;
    let cursor = begin(&emulator).await;
    for (kind, status, code) in [
        (FaultKind::InternalServerError, 500, "InternalServerError"),
        (FaultKind::ServerBusy, 503, "ServerBusy"),
        (FaultKind::ReadQuotaExceed, 403, "ReadQuotaExceed"),
        (FaultKind::ShardReadQuotaExceed, 403, "ShardReadQuotaExceed"),
        (FaultKind::Unauthorized, 401, "Unauthorized"),
        (FaultKind::InvalidCursor, 400, "InvalidCursor"),
    ] {
        emulator.faults().add(Fault::new(kind).on(Operation::Pull).shard(0).times(1));
        assert_eq!(begin(&emulator).await, cursor, "not a pull, no fault");
        let reply = Ask::pull(&cursor, "10").send(&emulator).await;
        assert_eq!(reply.refusal(), (status, code.to_owned()));
        assert!(reply.headers.contains_key("x-log-requestid"));
        assert_eq!(Ask::pull(&cursor, "10").send(&emulator).await.ids().len(), 3);
    }
    emulator.faults().add(Fault::new(FaultKind::BadGateway));
    let reply = Ask::pull(&cursor, "10").send(&emulator).await;
    assert_eq!((reply.status, &*reply.headers["content-type"]), (502, "text/html"));
    assert!(reply.body.starts_with(b"<html>"));
    emulator.faults().clear();
    assert_eq!(Ask::pull(&cursor, "10").send(&emulator).await.status, 200);
    assert_eq!(emulator.faults().hits(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_fault_is_limited_to_the_shard_in_the_body() {
    let emulator = start(1).await;
    Ask::create_group().send(&emulator).await;
    Ask::heartbeat("a", &[]).send(&emulator).await;
    let cursor = begin(&emulator).await;
    let fault = Fault::new(FaultKind::ServerBusy).on(Operation::Checkpoint);
    emulator.faults().add(fault.shard(1).times(1));
    assert_eq!(Ask::commit("a", &cursor, "false").send(&emulator).await.status, 200);
    emulator.faults().add(fault.shard(0).times(1));
    assert_eq!(Ask::heartbeat("a", &[0]).send(&emulator).await.status, 200);
    assert_eq!(Ask::commit("a", &cursor, "false").send(&emulator).await.status, 503);
    assert_eq!(emulator.checkpoint_log().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_is_a_reset() {
    let emulator = start(3).await;
    emulator.faults().add(Fault::new(FaultKind::Reset).times(1));
    let error = Ask::get("/", &[]).bytes(&emulator).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(Ask::get("/", &[]).send(&emulator).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_answer_comes_late_but_the_call_was_carried_out() {
    let emulator = start(3).await;
    let slow = |delay| Fault::new(FaultKind::Slow(delay)).times(1);
    emulator.faults().add(slow(Duration::from_millis(1)));
    assert_eq!(Ask::create_group().send(&emulator).await.status, 200);

    emulator.faults().add(slow(Duration::from_secs(3600)));
    let end = emulator.end_cursor(0).unwrap();
    let mut stream = Ask::commit("a", &end, "true").write(&emulator).await;
    wait_until(|| emulator.checkpoint("cg", 0).as_ref() == Some(&end)).await;
    assert!(is_silent(&mut stream).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_answer_never_comes_until_the_service_ends() {
    let emulator = start(3).await;
    emulator.faults().add(Fault::new(FaultKind::NeverAnswers).times(1));
    let address = emulator.address();
    let mut stream = Ask::get("/", &[]).write(&emulator).await;
    wait_until(|| emulator.faults().hits() == 1).await;
    assert!(is_silent(&mut stream).await);
    tokio::time::timeout(DEADLINE, emulator.shutdown()).await.unwrap();
    assert!(matches!(stream.read(&mut [0]).await, Ok(0) | Err(_)), "shutdown ends it");
    assert!(TcpStream::connect(address).await.is_err(), "and frees the port");
}

#[tokio::test(flavor = "multi_thread")]
async fn spoiled_bodies_are_noticed_and_wait_for_an_answer_with_a_body() {
    let emulator = start_with(30, SlsConfig { zstd: true, ..SlsConfig::default() }).await;
    let cursor = begin(&emulator).await;
    let end = emulator.end_cursor(0).unwrap();
    let good = Ask::pull(&cursor, "100").send(&emulator).await;
    let spoil = |kind| emulator.faults().add(Fault::new(kind).on(Operation::Pull).times(1));

    spoil(FaultKind::Truncated);
    assert_eq!(Ask::pull(&end, "100").send(&emulator).await.status, 200, "nothing to spoil");
    let cut = Reply::parse(&Ask::pull(&cursor, "100").bytes(&emulator).await.unwrap());
    assert_eq!(cut.headers["content-length"], good.body.len().to_string());
    assert_eq!(cut.body, good.body[..good.body.len() / 2]);

    spoil(FaultKind::Corrupt);
    let corrupt = Ask::pull(&cursor, "100").send(&emulator).await;
    assert_eq!(corrupt.body.len(), good.body.len());
    assert!(lz4_flex::block::decompress(&corrupt.body, corrupt.raw_size()).is_err());

    spoil(FaultKind::Corrupt);
    let mut ask = Ask::pull(&cursor, "100");
    ask.headers = vec![("accept-encoding".into(), "zstd".into())];
    let corrupt = ask.send(&emulator).await;
    assert!(ruzstd::decoding::StreamingDecoder::new(&*corrupt.body).is_err());

    spoil(FaultKind::WrongRawSize);
    let wrong = Ask::pull(&cursor, "100").send(&emulator).await;
    assert_eq!((wrong.raw_size(), &wrong.body), (good.raw_size() + 1, &good.body));

    spoil(FaultKind::EmptyCursor);
    assert_eq!(Ask::pull(&end, "100").send(&emulator).await.cursor(), "");
    assert_eq!(Ask::pull(&cursor, "100").send(&emulator).await.ids().len(), 30);
    assert_eq!(emulator.faults().hits(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_noted_with_what_it_asked_and_how_it_was_answered() {
    let emulator = start(3).await;
    let cursor = begin(&emulator).await;
    Ask::create_group().send(&emulator).await;
    Ask::heartbeat("a", &[]).send(&emulator).await;
    Ask::heartbeat("a", &[0]).send(&emulator).await;
    Ask::pull(&cursor, "7").send(&emulator).await;
    emulator.faults().add(Fault::new(FaultKind::ServerBusy).times(1));
    Ask::commit("a", &cursor, "false").send(&emulator).await;
    emulator.faults().add(Fault::new(FaultKind::Reset).times(1));
    Ask::get("/", &[]).bytes(&emulator).await.unwrap_err();

    let requests = emulator.requests();
    let calls: Vec<_> = requests.iter().map(|asked| (asked.call, asked.status)).collect();
    let expected = [
        ("GetCursor", Some(200)),
        ("CreateConsumerGroup", Some(200)),
        ("HeartBeat", Some(200)),
        ("HeartBeat", Some(200)),
        ("PullLogs", Some(200)),
        ("UpdateCheckPoint", Some(503)),
        ("GetProject", None),
    ];
    assert_eq!(calls, expected);
    assert_eq!(requests[2].parameter("consumer"), Some("a"));
    assert_eq!((requests[2].reported(), requests[2].held()), (Some(vec![]), Some(vec![0])));
    assert_eq!(requests[3].reported(), Some(vec![0]));
    assert_eq!((requests[4].shard, requests[4].count()), (Some(0), Some(7)));
    assert_eq!(requests[5].shard, Some(0));
}
