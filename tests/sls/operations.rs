//! Every operation: the request the official SDK sends, and its answer read back.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use sls_relay::sls::{Client, Cursor, CursorFrom, Filter, GroupCreation, PullRequest};

use crate::stub::{Answer, Stub, decode_query};
use crate::{PROJECT, client, fixture, list, pairs, text};

const LOGSTORE: &str = "waf-logstore";
const GROUP: &str = "syslog-relay";
const CONSUMER: &str = "relay-host1.example-7f3a";
const CURSOR: &str = "MTczNjg5OTIwMDEyMzQ1Njc4OQ==";

/// Operations of the vectors that a relay never uses.
const UNUSED: [&str; 4] = [
    "DeleteConsumerGroup",
    "UpdateCheckPoint_python_forceTrue",
    "UpdateCheckPoint_lowercase_true_noconsumer",
    "PutLogs_lz4_protobuf",
];

/// Makes the call and checks what it read; false for an operation not known here.
async fn call(client: &Client, operation: &str) -> bool {
    let cursor = Cursor::new(CURSOR);
    match operation {
        "GetProject" => {
            let project = client.get_project().await.expect("answered");
            assert_eq!(
                (project.name.as_str(), project.status.as_str(), project.region.as_str()),
                (PROJECT, "Normal", "cn-hangzhou")
            );
        }
        "GetLogStore" => {
            let logstore = client.get_logstore(LOGSTORE).await.expect("answered");
            assert_eq!(
                (logstore.name.as_str(), logstore.ttl_days, logstore.shard_count),
                (LOGSTORE, 180, 2)
            );
        }
        "ListShards" => {
            let shards = client.list_shards(LOGSTORE).await.expect("answered");
            let read_only: Vec<(u32, bool)> =
                shards.iter().map(|shard| (shard.shard, shard.is_read_only())).collect();
            assert_eq!(read_only[..2], [(0, true), (1, false)]);
            assert_eq!(shards[0].created, Some(1_736_800_000));
        }
        "GetCursor_begin" | "GetCursor_end" | "GetCursor_time" => {
            let (from, expected) = match operation {
                "GetCursor_begin" => (CursorFrom::Begin, CURSOR),
                "GetCursor_end" => (CursorFrom::End, "MTczNjg5OTIwMDEyMzQ1Njc5MA=="),
                _ => (CursorFrom::Time(1_736_899_200), CURSOR),
            };
            let cursor = client.get_cursor(LOGSTORE, 1, from).await.expect("answered");
            assert_eq!(cursor.as_str(), expected);
        }
        "GetCursorTime" => {
            let time = client.get_cursor_time(LOGSTORE, 1, &cursor).await.expect("answered");
            assert_eq!(time, 1_736_899_200);
        }
        "PullLogs_lz4" | "PullLogs_zstd_endcursor" | "PullLogs_spl" | "PullLogs_processor" => {
            let end = Cursor::new("MTczNjg5OTIwMDEyMzQ1Njc5MA==");
            let query = "* | where status >= 400 and final_action = 'block' | \
                         extend k = \"a+b ~*/&=%\" -- 中文";
            let query = Filter::Query(query.to_owned());
            let processor = Filter::Processor("consume-processor-1753854227-0001".to_owned());
            let all = PullRequest::new(&cursor, 1000);
            let request = match operation {
                "PullLogs_lz4" => all,
                "PullLogs_spl" => PullRequest { filter: Some(&query), ..all },
                "PullLogs_processor" => PullRequest { filter: Some(&processor), ..all },
                _ => PullRequest { end_cursor: Some(&end), count: 100, ..all },
            };
            let answer = client.pull_logs(LOGSTORE, 1, request).await.expect("answered");
            assert_eq!((answer.groups, answer.raw_size, answer.body.len()), (0, 0, 0));
            assert_eq!((answer.next_cursor, answer.filtered), (cursor, None));
        }
        "UpdateConsumerGroup" => {
            client.update_consumer_group(LOGSTORE, GROUP, 60, true).await.expect("answered");
        }
        "CreateConsumerGroup" => {
            let created = client.create_consumer_group(LOGSTORE, GROUP, 60, false).await;
            assert_eq!(created.expect("answered"), GroupCreation::Created);
        }
        "ListConsumerGroup" => {
            let groups = client.list_consumer_groups(LOGSTORE).await.expect("answered");
            assert_eq!(groups.len(), 1);
            assert_eq!(
                (groups[0].name.as_str(), groups[0].timeout_s, groups[0].order),
                (GROUP, 60, false)
            );
        }
        "HeartBeat_empty" | "HeartBeat_held" | "HeartBeat_oddname" => {
            let (consumer, body, expected): (_, &[u32], &[u32]) = match operation {
                "HeartBeat_empty" => (CONSUMER, &[], &[0, 1]),
                "HeartBeat_held" => (CONSUMER, &[0, 1, 12], &[1, 12]),
                _ => ("relay host/1+é", &[3], &[3]),
            };
            let timeout = Duration::from_secs(10);
            let reply = client.heartbeat(LOGSTORE, GROUP, consumer, body, timeout).await;
            assert_eq!(reply.expect("answered"), expected);
        }
        "UpdateCheckPoint_lowercase_false" => {
            let updated = client.update_checkpoint(LOGSTORE, GROUP, CONSUMER, 1, &cursor).await;
            updated.expect("answered");
        }
        "GetCheckPoint_all" | "GetCheckPoint_shard" => {
            let shard = (operation == "GetCheckPoint_shard").then_some(0);
            let states = client.get_checkpoints(LOGSTORE, GROUP, shard).await.expect("answered");
            assert_eq!(states[0].checkpoint, Some(cursor));
            assert_eq!(states[0].consumer, CONSUMER);
            assert_eq!(states[0].update_time_us, 1_736_929_800_123_456);
            if shard.is_none() {
                assert_eq!(states[1].shard, 1);
                assert_eq!(states[1].checkpoint, None);
                assert_eq!((states[1].consumer.as_str(), states[1].update_time_us), ("", 0));
            }
        }
        _ => return false,
    }
    true
}

/// The path of a URL that names its port.
fn path(url: &str) -> &str {
    url.split('?').next().and_then(|url| url.split_once(":443")).expect("a URL").1
}

#[tokio::test]
async fn each_operation_asks_as_the_official_sdk_and_reads_the_answer() {
    let mut unused = Vec::new();
    let vectors = fixture("operations.json");
    for vector in list(&vectors) {
        let operation = text(&vector["op"]);
        let response = &vector["response"];
        let headers = pairs(&response["headers"]);
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let body = text(&response["body_utf8"]);
        let stub = Stub::start(vec![Answer::status(200, &headers, body.as_bytes())]).await;
        if !call(&client(&stub.endpoint), operation).await {
            unused.push(operation);
            continue;
        }
        let request = stub.request();
        let expected = &vector["request"];
        let url = text(&expected["wire_url"]);
        assert_eq!(request.method, text(&expected["method"]), "{operation}");
        assert_eq!(request.path(), path(url), "{operation}");
        let query: BTreeMap<_, _> = request.query().into_iter().collect();
        assert_eq!(query, decode_query(url).into_iter().collect(), "{operation}");
        let json = |body: &[u8]| serde_json::from_slice::<Value>(body).ok();
        let body = expected["body_utf8"].as_str().unwrap_or_default();
        assert_eq!(json(&request.body), json(body.as_bytes()), "{operation}");

        assert_eq!(request.header("host"), Some(format!("{PROJECT}.127.0.0.1").as_str()));
        assert_eq!(request.header("x-log-apiversion"), Some("0.6.0"));
        let size = request.body.len().to_string();
        assert_eq!(request.header("x-log-bodyrawsize"), Some(size.as_str()));
        let kind = (!body.is_empty()).then_some("application/json");
        assert_eq!(request.header("content-type"), kind, "{operation}");
        if operation.starts_with("PullLogs") {
            assert_eq!(request.header("accept"), Some("application/x-protobuf"));
            assert_eq!(request.header("accept-encoding"), Some("lz4"));
        }
        let (id, secret) = ("LTAI0000EXAMPLEKEYID01", "EXAMPLEsecretEXAMPLEsecret0001");
        assert!(request.is_signed_with(id, secret, None), "{operation}");
    }
    assert_eq!(unused, UNUSED);
    assert_eq!(list(&vectors).len(), 24);
}

#[tokio::test]
async fn the_documented_object_forms_are_read_as_well_as_the_bare_arrays() {
    let stub = Stub::start(vec![
        Answer::json(r#"{"shards":[4,2]}"#),
        Answer::json(r#"{"count":1,"consumerGroups":[{"name":"g","timeout":30,"order":true}]}"#),
        Answer::json("[]"),
        Answer::json(r#"[{"shard":7,"checkpoint":null,"updateTime":1524224984,"consumer":null}]"#),
    ])
    .await;
    let client = client(&stub.endpoint);
    let timeout = Duration::from_secs(10);
    let shards = client.heartbeat(LOGSTORE, GROUP, CONSUMER, &[2], timeout).await;
    assert_eq!(shards.expect("answered"), [4, 2]);
    let groups = client.list_consumer_groups(LOGSTORE).await.expect("answered");
    assert_eq!((groups[0].name.as_str(), groups[0].timeout_s, groups[0].order), ("g", 30, true));
    let none = client.get_checkpoints(LOGSTORE, GROUP, Some(9)).await.expect("answered");
    assert!(none.is_empty(), "a shard the group does not know");
    let states = client.get_checkpoints(LOGSTORE, GROUP, None).await.expect("answered");
    assert_eq!((states[0].shard, states[0].checkpoint.clone()), (7, None));
    assert_eq!(states[0].update_time_us, 1_524_224_984_000_000, "seconds are scaled");
}

#[tokio::test]
async fn a_consumer_group_that_exists_is_no_error() {
    let answer = Answer::error(400, "ConsumerGroupAlreadyExist", &[]);
    let stub = Stub::start(vec![answer]).await;
    let created = client(&stub.endpoint).create_consumer_group(LOGSTORE, GROUP, 60, true).await;
    assert_eq!(created.expect("answered"), GroupCreation::AlreadyExists);
}
