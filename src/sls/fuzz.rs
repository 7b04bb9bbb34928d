//! Entry points for fuzzing: they take any bytes, and panic only on a defect.

use super::body::{Compression, decompress};
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
