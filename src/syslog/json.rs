//! The body of the `json` format: a log as one JSON object.
//!
//! ```text
//! {"_sls":{"src":"project/logstore","shard":0,"cursor":"MTUx","idx":3},"__topic__":"",
//!  "__source__":"10.0.0.1","__tag__:host":"web-1","status":"403"}
//! ```
//!
//! `_sls` has what the structured data has, so that a receiver that keeps only the object can
//! still tell a second copy from a second log. A field that is called `_sls` itself is written
//! as `_sls_`. All other values are strings, in the order of the log; the same name may come
//! twice. Bytes that are not UTF-8 become U+FFFD: receivers that need them get `rfc5424`.

use super::body::whole_characters;
use super::rfc5424::LogLine;
use super::sink::Sink;

/// Writes a log.
pub(super) fn object(log: &LogLine<'_>, sink: &mut Sink<'_>) {
    sink.put(b"{");
    identity(log, sink);
    member(&[b"__topic__"], log.topic, sink);
    member(&[b"__source__"], log.source, sink);
    for (key, value) in log.tags {
        member(&[b"__tag__:", key], value, sink);
    }
    for (key, value) in log.fields {
        let ours: &[u8] = if *key == b"_sls" { b"_" } else { b"" };
        member(&[key, ours], value, sink);
    }
    sink.put(b"}");
}

/// Writes the inside of a string.
pub(super) fn value(bytes: &[u8], sink: &mut Sink<'_>) {
    for chunk in bytes.utf8_chunks() {
        let mut rest = chunk.valid().as_bytes();
        while let Some(at) = rest.iter().position(|&b| b < 0x20 || b == b'"' || b == b'\\') {
            sink.put(&rest[..at]);
            match rest[at] {
                b'"' => sink.put(b"\\\""),
                b'\\' => sink.put(b"\\\\"),
                b'\n' => sink.put(b"\\n"),
                b'\r' => sink.put(b"\\r"),
                b'\t' => sink.put(b"\\t"),
                other => sink.put(format!("\\u{other:04x}").as_bytes()),
            }
            rest = &rest[at + 1..];
        }
        sink.put(rest);
        if !chunk.invalid().is_empty() {
            sink.put("\u{fffd}".as_bytes());
        }
    }
}

/// Takes the last members away until at most `room` octets are left, and closes the object.
/// Nothing is left where that is not enough for one.
pub(super) fn cut(text: &mut Vec<u8>, start: usize, room: usize) {
    let (mut quoted, mut escaped, mut depth, mut end) = (false, false, 0_usize, 0);
    for (at, &byte) in text[start..].iter().enumerate().take(room) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b'{' if !quoted => depth += 1,
            b'}' if !quoted => depth = depth.saturating_sub(1),
            b',' if !quoted && depth == 1 => end = at,
            _ => {}
        }
    }
    text.truncate(start + end);
    if end > 0 {
        text.push(b'}');
    }
}

/// The longest prefix of at most `room` bytes that ends outside of characters and escapes.
pub(super) fn whole_escapes(text: &[u8], room: usize) -> usize {
    let end = whole_characters(&text[..room.min(text.len())]);
    let tail = end.saturating_sub(5);
    if let Some(last) = text[tail..end].iter().rposition(|&byte| byte == b'\\') {
        let last = tail + last;
        let run = text[..=last].iter().rev().take_while(|&&byte| byte == b'\\').count();
        let length = if text.get(last + 1) == Some(&b'u') { 6 } else { 2 };
        if run % 2 == 1 && last + length > end {
            return last;
        }
    }
    end
}

fn identity(log: &LogLine<'_>, sink: &mut Sink<'_>) {
    let id = &log.identity;
    sink.put(b"\"_sls\":{\"src\":\"");
    value(id.source.as_bytes(), sink);
    sink.put(format!("\",\"shard\":{},\"cursor\":\"", id.shard).as_bytes());
    value(id.cursor.as_bytes(), sink);
    sink.put(format!("\",\"idx\":{}", id.index).as_bytes());
    if id.approximate {
        sink.put(b",\"approx\":true");
    }
    for (name, mark) in [("origin", log.origin), ("replay", log.replay)] {
        let Some(mark) = mark else { continue };
        sink.put(format!(",\"{name}\":\"").as_bytes());
        value(mark.as_bytes(), sink);
        sink.put(b"\"");
    }
    sink.put(b"}");
}

fn member(key: &[&[u8]], text: &[u8], sink: &mut Sink<'_>) {
    sink.put(b",\"");
    key.iter().for_each(|part| value(part, sink));
    sink.put(b"\":\"");
    value(text, sink);
    sink.put(b"\"");
}
