//! The body of the `sample` format: the separator before every `key=value`, the first
//! included, as the syslog sample of the SLS Python SDK writes it.
//!
//! Meant for receivers whose parsers were written for the sample. CR, LF and NUL become
//! one space each and bytes that are not UTF-8 become `\xHH`, so that a message stays one
//! message. Nothing else is escaped: a separator inside a value stays, and such a value
//! cannot be told from two fields. Receivers that can decode get `rfc5424` instead.

use super::body::{put_hex, whole_characters};
use super::sink::Sink;

/// Writes one field.
pub(super) fn pair(separator: &str, key: &[&[u8]], value: &[u8], sink: &mut Sink<'_>) {
    sink.put(separator.as_bytes());
    key.iter().for_each(|part| self::value(part, sink));
    sink.put(b"=");
    self::value(value, sink);
}

/// The longest prefix of at most `room` bytes that ends outside of characters and of
/// anything that looks like `\xHH`.
pub(super) fn cut(body: &[u8], room: usize) -> usize {
    let end = whole_characters(&body[..room.min(body.len())]);
    let tail = end.saturating_sub(3);
    match body[tail..end].iter().rposition(|&byte| byte == b'\\') {
        Some(at) if matches!(body.get(tail + at + 1), None | Some(b'x')) => tail + at,
        _ => end,
    }
}

/// Writes a value; a key is written alike.
pub(super) fn value(bytes: &[u8], sink: &mut Sink<'_>) {
    for chunk in bytes.utf8_chunks() {
        for (number, line) in
            chunk.valid().as_bytes().split(|byte| matches!(byte, b'\r' | b'\n' | 0)).enumerate()
        {
            if number > 0 {
                sink.put(b" ");
            }
            sink.put(line);
        }
        chunk.invalid().iter().for_each(|&byte| put_hex(byte, sink));
    }
}
