//! Entry points for fuzzing: they take any bytes, and panic only on a defect.

use std::time::Duration;

use serde::Deserialize as _;

use super::body::{Compression, decompress};
use super::clock::parse_retry_after;
use super::error::{Advice, Context};
use super::operations::{CheckpointAnswer, GroupList, HeartbeatReply};
use super::refusal::{Answer, Refusal};
use super::{credentials, walk};

/// The largest raw size tried, bytes: mutations should not spend their time on memory.
const LARGEST: u64 = 1 << 20;

/// Runs the bytes through decompression, checking and walking as a PullLogs answer.
///
/// Layout: one byte compression (modulo 3: none, lz4, zstd), four bytes raw size little
/// endian, the body.
///
/// # Panics
/// When the parts disagree with each other: a size not met, a walk that fails or counts
/// otherwise than the summary said.
pub fn pull_answer(data: &[u8]) {
    let Some((&[kind, a, b, c, d], body)) = data.split_first_chunk() else {
        return;
    };
    let compression = match kind % 3 {
        0 => Compression::None,
        1 => Compression::Lz4,
        _ => Compression::Zstd,
    };
    let raw_size = u64::from(u32::from_le_bytes([a, b, c, d])).min(LARGEST);
    let mut raw = Vec::new();
    if decompress(compression, body, raw_size, &mut raw).is_err() {
        assert!(raw.is_empty(), "a failed body leaves bytes behind");
        return;
    }
    assert_eq!(raw.len() as u64, raw_size, "a body comes out at its size");
    decompressed_answer(&raw);
}

/// Reads the bytes as a document with an access key.
///
/// Layout: one byte kind (modulo 4: metadata service or credentials URI, STS, profile of
/// the command line tool, shared profile; with bit 2 set the first two have status 403),
/// the document.
///
/// # Panics
/// When a key is accepted that no header can carry, or what is wrong is told at length or
/// with control characters.
pub fn credential_document(data: &[u8]) {
    if let Some((kind, document)) = data.split_first() {
        credentials::fuzz::read(*kind, document);
    }
}

/// Checks and walks the bytes as a decompressed PullLogs answer.
///
/// # Panics
/// When walking and [`walk::summary`] disagree.
pub fn decompressed_answer(raw: &[u8]) {
    let mut walked = walk::Summary::default();
    let mut failed = false;
    for group in walk::groups(raw) {
        assert!(!failed, "nothing follows an error");
        let Ok(group) = group else {
            failed = true;
            continue;
        };
        walked.groups += 1;
        let mut bytes = group.topic.len() + group.source.len();
        bytes += group.tags().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        for log in group.logs() {
            walked.logs += 1;
            walked.min_time = Some(walked.min_time.map_or(log.time, |time| time.min(log.time)));
            walked.max_time = Some(walked.max_time.map_or(log.time, |time| time.max(log.time)));
            bytes += log.fields().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        }
        assert!(bytes <= raw.len(), "no byte is handed out twice");
    }
    match walk::summary(raw) {
        Ok(summary) => {
            assert!(!failed, "the summary accepts what the walk refuses");
            assert_eq!(summary, walked, "summary and walk count the same");
        }
        Err(_) => assert!(failed, "the walk accepts what the summary refuses"),
    }
}

/// Reads the bytes as an error answer.
///
/// Layout: two bytes status little endian, one byte length of a header, the header, which
/// stands for `Retry-After` and for the request id, the body.
///
/// # Panics
/// When what is made of it could break a line of a log, is longer than it may be, or asks
/// for a wait outside of the limits.
pub fn error_answer(data: &[u8]) {
    let Some((&[low, high, length], rest)) = data.split_first_chunk() else {
        return;
    };
    let (header, body) = rest.split_at(usize::from(length).min(rest.len()));
    let header = String::from_utf8_lossy(header);
    let answer = Answer {
        status: u16::from_le_bytes([low, high]),
        body,
        request_id: &header,
        date: None,
        retry_after: parse_retry_after(&header, 1_768_465_800),
    };
    let call = Context { operation: "PullLogs", target: "p/l/0".to_owned() };
    let refusal = Refusal::new(call, answer);
    let shown = refusal.to_string();
    assert!(!shown.chars().any(char::is_control), "it stays in its line");
    assert!(shown.chars().count() < 1000, "it stays short");
    let longest = Duration::from_secs(300);
    assert!(refusal.retry_after().is_none_or(|after| after <= longest));
    if let Advice::Retry { after } | Advice::Throttled { after } = refusal.advice() {
        assert!((Duration::from_secs(1)..=longest).contains(&after), "a wait within its limits");
    }
}

/// Reads the bytes as an answer about a consumer group.
///
/// Layout: one byte kind (modulo 3: heartbeat's reply, checkpoints, list of groups), the
/// body.
///
/// # Panics
/// When the two forms of an answer are read differently, or a checkpoint is empty.
pub fn group_answer(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else {
        return;
    };
    match kind % 3 {
        0 => {
            let Ok(reply) = serde_json::from_slice::<HeartbeatReply>(body) else { return };
            let shards = reply.shards();
            for form in [serde_json::json!(shards), serde_json::json!({ "shards": shards })] {
                let again = HeartbeatReply::deserialize(form);
                assert_eq!(again.map(HeartbeatReply::shards).ok().as_ref(), Some(&shards));
            }
        }
        1 => {
            let Ok(answers) = serde_json::from_slice::<Vec<CheckpointAnswer>>(body) else { return };
            for state in answers.into_iter().map(CheckpointAnswer::state) {
                assert!(state.checkpoint.is_none_or(|cursor| !cursor.as_str().is_empty()));
            }
        }
        _ => {
            let Ok(list) = serde_json::from_slice::<GroupList>(body) else { return };
            assert!(list.groups().len() <= body.len(), "no group is made up");
        }
    }
}
