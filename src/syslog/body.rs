//! The body of an RFC 5424 message: a log's fields as one line of text, and back.
//!
//! Whatever bytes a field holds, the line is valid UTF-8 without LF, CR or NUL, no field
//! can pass for another, and every field comes back byte for byte. The grammar (RFC 5234,
//! over the bytes of the line; `SEP` is the configured separator):
//!
//! ```text
//! body    = pair *(SEP pair)
//! pair    = key "=" value
//! key     = *(escape / plain)       ; plain here also excludes "="
//! value   = *(escape / plain)
//! escape  = "\\"                    ; a backslash
//!         / "\n"                    ; LF
//!         / "\r"                    ; CR
//!         / "\x" HEX HEX            ; the byte with this number, HEX = 0-9 / a-f / A-F
//! plain   = any character of UTF-8 except "\", U+0000 to U+001F, U+007F
//!           and the first character of SEP
//! ```
//!
//! The writer gives lower-case hex digits, and escapes what `plain` leaves out, every byte
//! that is not part of well-formed UTF-8, and nothing else. A first character of SEP that
//! takes several bytes is escaped as several `\xHH`. Since that character stands nowhere
//! in a pair, SEP is always a separator: a reader may split the line at SEP, each part at
//! its first `=`, and undo the escapes of both halves.
//!
//! For that to hold, SEP is not empty, holds none of `\`, `=`, LF, CR, NUL, and does not
//! begin with an ASCII letter or digit, which escapes are made of.

use super::sink::Sink;

/// A decoded field: its key and its value.
pub type Field = (Vec<u8>, Vec<u8>);

/// Reads a body written with `separator` back into its fields, in order.
///
/// An empty body has no fields. The reader is strict: it refuses what the writer would
/// have escaped, so that text which was altered on its way does not pass unseen.
pub fn decode(body: &[u8], separator: &str) -> Result<Vec<Field>, BodyError> {
    if let Some(why) = separator_fault(separator) {
        return Err(BodyError::Separator { why });
    }
    let escaper = Escaper::new(separator);
    if let Err(error) = std::str::from_utf8(body) {
        return Err(BodyError::NotUtf8 { offset: error.valid_up_to() });
    }
    let mut pairs: Vec<Field> = Vec::new();
    let mut at = 0;
    while !body.is_empty() {
        let start = at;
        let mut text = Vec::new();
        let mut key = None;
        while let Some(&byte) = body.get(at) {
            let rest = &body[at..];
            if rest.starts_with(separator.as_bytes()) {
                break;
            }
            if byte == b'\\' {
                let (byte, length) = unescape(rest).ok_or(BodyError::Escape { offset: at })?;
                text.push(byte);
                at += length;
            } else if byte == b'=' && key.is_none() {
                key = Some(std::mem::take(&mut text));
                at += 1;
            } else if escaper.must_escape(rest) {
                return Err(BodyError::Unescaped { offset: at });
            } else {
                text.push(byte);
                at += 1;
            }
        }
        pairs.push((key.ok_or(BodyError::NoEquals { offset: start })?, text));
        if at == body.len() {
            break;
        }
        at += separator.len();
    }
    Ok(pairs)
}

/// Why a text is not a body, and at which byte of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// No body can have been written with this separator.
    #[error("no body can be read with this separator: it {why}")]
    Separator {
        /// What is wrong with it.
        why: &'static str,
    },
    /// The text is not UTF-8.
    #[error("byte {offset} of the body is not part of well-formed UTF-8")]
    NotUtf8 {
        /// Where, from 0.
        offset: usize,
    },
    /// A backslash begins none of the escapes.
    #[error("the backslash at byte {offset} of the body begins no known escape")]
    Escape {
        /// Where, from 0.
        offset: usize,
    },
    /// A character that is always written escaped stands there as it is.
    #[error("the character at byte {offset} of the body should have been escaped")]
    Unescaped {
        /// Where, from 0.
        offset: usize,
    },
    /// A pair has a key only.
    #[error("the pair at byte {offset} of the body has no equals sign")]
    NoEquals {
        /// Where the pair begins, from 0.
        offset: usize,
    },
}

impl BodyError {
    /// Stable name of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Separator { .. } => "syslog.body_separator",
            Self::NotUtf8 { .. } => "syslog.body_not_utf8",
            Self::Escape { .. } => "syslog.body_escape",
            Self::Unescaped { .. } => "syslog.body_unescaped",
            Self::NoEquals { .. } => "syslog.body_no_equals",
        }
    }
}

/// What makes a separator unusable for this grammar, to follow the word "it".
pub(super) fn separator_fault(separator: &str) -> Option<&'static str> {
    match separator.chars().next() {
        None => Some("is empty"),
        Some(first) if first.is_ascii_alphanumeric() => {
            Some("begins with a letter or digit, which escapes are made of")
        }
        _ if separator.contains('\\') => Some("holds a backslash, which begins an escape"),
        _ if separator.contains('=') => Some("holds an equals sign, which ends a key"),
        _ if separator.contains(['\n', '\r', '\0']) => {
            Some("holds LF, CR or NUL, which end a message")
        }
        _ => None,
    }
}

/// Writes keys and values for one separator.
#[derive(Clone, Debug)]
pub(super) struct Escaper {
    /// The separator's first character; never empty.
    first: Vec<u8>,
}

impl Escaper {
    /// For a separator without [`separator_fault`].
    pub(super) fn new(separator: &str) -> Self {
        let first = separator.chars().next().unwrap_or('|');
        Self { first: first.to_string().into_bytes() }
    }

    /// Writes a key; `=` in it is escaped too.
    pub(super) fn key(&self, key: &[u8], sink: &mut Sink<'_>) {
        self.bytes(key, b'=', sink);
    }

    /// Writes a value.
    pub(super) fn value(&self, value: &[u8], sink: &mut Sink<'_>) {
        self.bytes(value, b'\\', sink);
    }

    /// Whether a text begins with a character that is never written as it is.
    fn must_escape(&self, text: &[u8]) -> bool {
        text.starts_with(&self.first)
            || text.first().is_some_and(|&byte| byte < 0x20 || byte == 0x7f || byte == b'\\')
    }

    fn bytes(&self, bytes: &[u8], also: u8, sink: &mut Sink<'_>) {
        if self.is_plain(bytes, also) {
            return sink.put(bytes);
        }
        if std::str::from_utf8(bytes).is_ok() {
            return self.text(bytes, also, sink);
        }
        for chunk in bytes.utf8_chunks() {
            self.text(chunk.valid().as_bytes(), also, sink);
            for &byte in chunk.invalid() {
                put_hex(byte, sink);
            }
        }
    }

    /// Whether all of it is ASCII without a byte that may need an escape, as most keys and values
    /// are: one pass then, where what follows takes two.
    fn is_plain(&self, bytes: &[u8], also: u8) -> bool {
        let first = self.first[0];
        // No branch inside: the compiler makes vector code of it.
        let dirty = |block: &[u8]| {
            block.iter().fold(false, |any, &byte| {
                any | (byte.cast_signed() < 0x20)
                    | (byte == 0x7f)
                    | (byte == b'\\')
                    | (byte == first)
                    | (byte == also)
            })
        };
        let (blocks, rest) = bytes.as_chunks::<16>();
        if blocks.iter().any(|block| dirty(block)) {
            return false;
        }
        // What is left over is looked at together with what is before it.
        match (bytes.last_chunk::<16>(), rest.first_chunk::<8>(), rest.last_chunk::<8>()) {
            (Some(last), ..) => !dirty(last),
            (None, Some(start), Some(end)) => !dirty(start) && !dirty(end),
            _ => !dirty(rest),
        }
    }

    /// Writes well-formed UTF-8. `also` is one more ASCII byte to escape.
    fn text(&self, text: &[u8], also: u8, sink: &mut Sink<'_>) {
        let mut rest = text;
        loop {
            let (clean, dirty) = rest.split_at(self.clean_run(rest, also));
            sink.put(clean);
            let Some(&byte) = dirty.first() else { return };
            let taken = if dirty.starts_with(&self.first) { self.first.len() } else { 1 };
            match byte {
                b'\\' => sink.put(b"\\\\"),
                b'\n' => sink.put(b"\\n"),
                b'\r' => sink.put(b"\\r"),
                // Another character that shares its first byte with the separator.
                _ if taken == 1 && !byte.is_ascii() => sink.put(&dirty[..1]),
                _ => dirty[..taken].iter().for_each(|&byte| put_hex(byte, sink)),
            }
            rest = &dirty[taken..];
        }
    }

    /// Length of the longest prefix without a byte that may need an escape.
    fn clean_run(&self, text: &[u8], also: u8) -> usize {
        let first = self.first[0];
        let dirty = |byte: u8| {
            (byte < 0x20) | (byte == 0x7f) | (byte == b'\\') | (byte == first) | (byte == also)
        };
        // Whole blocks without a branch inside: the compiler makes vector code of it.
        const BLOCK: usize = 32;
        let clean_blocks = text
            .chunks_exact(BLOCK)
            .take_while(|block| !block.iter().fold(false, |any, &byte| any | dirty(byte)))
            .count();
        let start = clean_blocks * BLOCK;
        text[start..].iter().position(|&byte| dirty(byte)).map_or(text.len(), |found| start + found)
    }
}

/// The longest prefix of a text, at most `room` bytes, that ends outside of characters and
/// escapes.
pub(super) fn whole_escapes(text: &[u8], room: usize) -> usize {
    let end = whole_characters(&text[..room.min(text.len())]);
    // Backslashes pair up from the left, so one that ends an even run closes an escape.
    let tail = end.saturating_sub(3);
    if let Some(last) = text[tail..end].iter().rposition(|&byte| byte == b'\\') {
        let last = tail + last;
        let run = text[..=last].iter().rev().take_while(|&&byte| byte == b'\\').count();
        let length = if text.get(last + 1) == Some(&b'x') { 4 } else { 2 };
        if run % 2 == 1 && last + length > end {
            return last;
        }
    }
    end
}

/// The longest prefix of a body, at most `room` bytes, that is itself a body: it ends
/// outside of characters and escapes, and neither in a separator nor in a key.
pub(super) fn cut(body: &[u8], room: usize, separator: &str) -> usize {
    let cut = whole_escapes(body, room);
    let separator = separator.as_bytes();
    let last_pair = body[..cut].windows(separator.len()).rposition(|window| window == separator);
    let pair_at = last_pair.map_or(0, |at| at + separator.len());
    if !body[pair_at..cut].contains(&b'=') {
        return last_pair.unwrap_or(0);
    }
    // The first character stands in separators only, so this is part of one.
    (1..separator.len())
        .rev()
        .find(|&length| body[pair_at..cut].ends_with(&separator[..length]))
        .map_or(cut, |length| cut - length)
}

/// How much of a text is well-formed UTF-8 from the start.
pub(super) fn whole_characters(text: &[u8]) -> usize {
    std::str::from_utf8(text).map_or_else(|error| error.valid_up_to(), str::len)
}

/// Writes `\xHH`.
pub(super) fn put_hex(byte: u8, sink: &mut Sink<'_>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let [high, low] = [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]);
    sink.put(&[b'\\', b'x', high, low]);
}

/// The byte an escape stands for and the length of the escape.
fn unescape(text: &[u8]) -> Option<(u8, usize)> {
    match *text {
        [_, b'\\', ..] => Some((b'\\', 2)),
        [_, b'n', ..] => Some((b'\n', 2)),
        [_, b'r', ..] => Some((b'\r', 2)),
        [_, b'x', high, low, ..] => {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            u8::try_from(digit(high)? * 16 + digit(low)?).ok().map(|byte| (byte, 4))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_to_escape_is_seen_at_every_place_of_texts_of_every_length() {
        let escaper = Escaper::new("||");
        for length in 1..=50 {
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut text = vec![b'a'; length];
                    text[at] = byte;
                    let plain = matches!(byte, 0x20..0x7f) && !b"\\|=".contains(&byte);
                    let mut out = Vec::new();
                    escaper.key(&text, &mut Sink::new(&mut out, usize::MAX));
                    assert_eq!(out == text, plain, "{byte:#x} at {at} of {length}");
                }
            }
        }
    }
}
