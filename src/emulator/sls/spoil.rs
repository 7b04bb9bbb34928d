//! Faults that spoil an answer after it was made.

use super::answer::Answer;
use super::faults::FaultKind;

/// Could this fault be noticed on this answer?
pub(super) fn applies(kind: FaultKind, answer: &Answer) -> bool {
    let has = |name| answer.headers.iter().any(|(key, _)| *key == name);
    answer.status.is_success()
        && match kind {
            FaultKind::Truncated | FaultKind::Corrupt => !answer.body.is_empty(),
            FaultKind::WrongRawSize | FaultKind::HugeRawSize => {
                has("x-log-bodyrawsize") && !answer.body.is_empty()
            }
            FaultKind::EmptyCursor => has("x-log-cursor"),
            _ => false,
        }
}

/// Applies a fault to the headers and the bytes; a truncated body is cut where it is sent.
pub(super) fn spoil(kind: FaultKind, answer: &mut Answer) {
    match kind {
        FaultKind::Corrupt => corrupt(answer),
        FaultKind::WrongRawSize => {
            if let Some(size) = header(answer, "x-log-bodyrawsize") {
                *size = (size.parse().unwrap_or(0u64) + 1).to_string();
            }
        }
        FaultKind::HugeRawSize => {
            if let Some(size) = header(answer, "x-log-bodyrawsize") {
                *size = (1u64 << 40).to_string();
            }
        }
        FaultKind::EmptyCursor => {
            if let Some(cursor) = header(answer, "x-log-cursor") {
                cursor.clear();
            }
        }
        _ => {}
    }
}

/// Flips bytes from the front until the body does not decompress. SLS sends no checksum:
/// a flipped literal would decompress to another log, which no client could notice.
fn corrupt(answer: &mut Answer) {
    let size = header(answer, "x-log-bodyrawsize").and_then(|size| size.parse().ok());
    let lz4 = header(answer, "x-log-compresstype").is_some_and(|name| name == "lz4");
    let mut body = answer.body.to_vec();
    for at in 0..body.len() {
        body[at] ^= 0xff;
        let readable = match size {
            Some(size) if lz4 => {
                lz4_flex::block::decompress(&body, size).is_ok_and(|raw| raw.len() == size)
            }
            _ => false,
        };
        if !readable {
            break;
        }
    }
    answer.body = body.into();
}

fn header<'a>(answer: &'a mut Answer, name: &str) -> Option<&'a mut String> {
    answer.headers.iter_mut().find(|(key, _)| *key == name).map(|(_, value)| value)
}
