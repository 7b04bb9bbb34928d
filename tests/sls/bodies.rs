//! PullLogs answers, compressed, decompressed and walked.

use serde_json::{Value, json};
use sls_relay::sls::body::{Compression, decompress};
use sls_relay::sls::walk::{self, Summary};
use sls_relay::sls::{Cursor, PullRequest, fuzz, sign};

use crate::stub::{Answer, Stub};
use crate::{client, fixture, list, pairs, text, unhex};

fn unpack(compression: Compression, body: &[u8], raw_size: u64) -> Vec<u8> {
    let mut out = Vec::new();
    decompress(compression, body, raw_size, &mut out).expect("the body is sound");
    out
}

/// Bytes in the notation of the vectors: text where they are UTF-8.
fn notation(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => {
            json!({ "hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() })
        }
    }
}

fn walked(raw: &[u8]) -> Value {
    let pair = |(key, value): (&[u8], &[u8])| json!([notation(key), notation(value)]);
    let log = |log: walk::Log<'_>| {
        json!({
            "time": log.time,
            "time_ns": log.time_ns,
            "contents": log.fields().map(pair).collect::<Vec<_>>(),
        })
    };
    let groups = walk::groups(raw).map(|group| {
        let group = group.expect("the vectors are valid");
        json!({
            "topic": notation(group.topic),
            "source": notation(group.source),
            "tags": group.tags().map(pair).collect::<Vec<_>>(),
            "logs": group.logs().map(log).collect::<Vec<_>>(),
        })
    });
    groups.collect()
}

/// What the walk does not show, taken out of the truth.
fn shown(decoded: &Value) -> Value {
    let mut decoded = decoded.clone();
    for group in decoded.as_array_mut().expect("groups") {
        let group = group.as_object_mut().expect("a group");
        group.remove("reserved");
        group.remove("machine_uuid");
        for name in ["topic", "source"] {
            if group[name].is_null() {
                group[name] = json!("");
            }
        }
    }
    decoded
}

#[test]
fn every_body_decompresses_to_the_same_bytes_in_all_three_forms() {
    let vectors = fixture("bodies.json");
    for vector in list(&vectors) {
        let raw = unhex(&vector["raw_hex"]);
        let size = vector["raw_size"].as_u64().expect("a size");
        assert_eq!(sign::sha256_hex(&raw), text(&vector["raw_sha256"]));
        assert_eq!(unpack(Compression::None, &raw, size), raw, "{}", vector["name"]);
        let (lz4, zstd) = (unhex(&vector["lz4_block_hex"]), unhex(&vector["zstd_hex"]));
        assert_eq!(unpack(Compression::Lz4, &lz4, size), raw, "{}", vector["name"]);
        assert_eq!(unpack(Compression::Zstd, &zstd, size), raw, "{}", vector["name"]);
        for (compression, body) in [(Compression::Lz4, lz4), (Compression::Zstd, zstd)] {
            assert!(body.len() as u64 <= compression.longest_body(size), "{}", vector["name"]);
            for wrong in [size - 1, size + 1] {
                let result = decompress(compression, &body, wrong, &mut Vec::new());
                assert!(result.is_err(), "{} at {wrong}", vector["name"]);
            }
        }
    }
    assert_eq!(list(&vectors).len(), 12);
}

#[test]
fn every_body_is_walked_to_its_decoded_truth() {
    for vector in list(&fixture("bodies.json")) {
        let raw = unhex(&vector["raw_hex"]);
        let truth = shown(&vector["decoded"]);
        assert_eq!(walked(&raw), truth, "{}", vector["name"]);

        let times: Vec<u32> = list(&truth)
            .iter()
            .flat_map(|group| list(&group["logs"]))
            .map(|log| log["time"].as_u64().expect("a time") as u32)
            .collect();
        let expected = Summary {
            groups: vector["log_group_count"].as_u64().expect("a count") as u32,
            logs: times.len() as u32,
            min_time: times.iter().min().copied(),
            max_time: times.iter().max().copied(),
        };
        assert_eq!(walk::summary(&raw).expect("valid"), expected, "{}", vector["name"]);
    }
}

#[test]
fn every_body_runs_through_the_fuzz_target_whole_and_cut() {
    for vector in list(&fixture("bodies.json")) {
        let size = vector["raw_size"].as_u64().expect("a size") as u32;
        for (kind, name) in [(0u8, "raw_hex"), (1, "lz4_block_hex"), (2, "zstd_hex")] {
            let body = unhex(&vector[name]);
            let step = (body.len() / 50).max(1);
            for end in (0..=body.len()).rev().step_by(step) {
                let data = [&[kind][..], &size.to_le_bytes(), &body[..end]].concat();
                fuzz::pull_answer(&data);
            }
        }
    }
}

#[tokio::test]
async fn every_body_is_pulled_exactly_as_sent() {
    for vector in list(&fixture("bodies.json")) {
        let body = unhex(&vector["lz4_block_hex"]);
        let headers = pairs(&vector["response_headers_lz4"]);
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let stub = Stub::start(vec![Answer::head(200, &headers, &body)]).await;
        let cursor = Cursor::from_number(1_736_899_200_123_456_788);
        let answer = client(&stub.endpoint)
            .pull_logs("waf-logstore", 1, PullRequest::new(&cursor, 1000))
            .await
            .expect("pull");
        assert_eq!(answer.body, body);
        assert_eq!(answer.compression, Compression::Lz4);
        assert_eq!(Some(answer.raw_size), vector["raw_size"].as_u64());
        assert_eq!(Some(u64::from(answer.groups)), vector["log_group_count"].as_u64());
        assert_eq!(answer.next_cursor.number(), Some(1_736_899_200_123_456_790));
        assert_eq!(answer.last_group_cursor, Some(1_736_899_200_123_456_789));
        assert_eq!(answer.request_id, "6787A1B2C3D4E5F600000002");
        assert_eq!((answer.cursor_time, answer.end_of_cursor, answer.date), (None, false, None));
        let raw = unpack(answer.compression, &answer.body, answer.raw_size);
        assert_eq!(raw, unhex(&vector["raw_hex"]), "{}", vector["name"]);
    }
}

#[test]
fn cursors_have_the_numbers_of_the_vectors() {
    let numbers = fixture("numbers.json");
    for vector in list(&numbers["cursors"]) {
        let number = text(&vector["int"]).parse().expect("a number");
        let cursor = Cursor::new(text(&vector["base64"]));
        assert_eq!(cursor.number(), Some(number));
        assert_eq!(Cursor::from_number(number), cursor);
    }
    let rule = &numbers["log_group_cursor"];
    let last: u64 = text(&rule["read_last_cursor"]).parse().expect("a number");
    let count = rule["groups"].as_u64().expect("a count");
    for (index, expected) in (0..).zip(list(&rule["expected"])) {
        let cursor = Cursor::from_number(last - count + 1 + index);
        assert_eq!(cursor.as_str(), text(expected));
    }
}
