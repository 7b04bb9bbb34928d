//! Cuts a TCP stream into messages (RFC 6587), written apart from the sender's framing on purpose.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::Framing;

/// The longest message accepted, in octets.
const LIMIT: usize = 16 * 1024 * 1024;

/// The unread part of a stream.
pub(super) struct Frames {
    framing: Framing,
    buffer: BytesMut,
    /// Octets at the front of the buffer that are known to hold no LF.
    searched: usize,
}

/// The stream cannot be cut any further.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Frames {
    pub(super) fn new(framing: Framing) -> Frames {
        Frames { framing, buffer: BytesMut::new(), searched: 0 }
    }

    /// Reads once, at most `limit` octets; 0 is the end. Cancelling it loses nothing.
    pub(super) async fn read(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        limit: usize,
    ) -> io::Result<usize> {
        use bytes::BufMut;
        self.buffer.reserve(limit.min(64 * 1024));
        stream.read_buf(&mut (&mut self.buffer).limit(limit)).await
    }

    /// The next whole message without its delimiter; `None` when more must be read first.
    pub(super) fn next(&mut self) -> Result<Option<BytesMut>, Malformed> {
        let Some(&first) = self.buffer.first() else { return Ok(None) };
        match self.framing {
            Framing::OctetCounting => self.counted(),
            Framing::Auto if first.is_ascii_digit() => self.counted(),
            Framing::Auto | Framing::Lf => self.line(),
        }
    }

    /// Whether the stream ended inside a message.
    pub(super) fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }

    fn counted(&mut self) -> Result<Option<BytesMut>, Malformed> {
        let mut length = 0;
        for (digits, &byte) in self.buffer.iter().enumerate() {
            match byte {
                b'1'..=b'9' => length = length * 10 + usize::from(byte - b'0'),
                b'0' if digits > 0 => length *= 10,
                b' ' if digits > 0 => {
                    if self.buffer.len() - digits - 1 < length {
                        return Ok(None);
                    }
                    self.buffer.advance(digits + 1);
                    return Ok(Some(self.buffer.split_to(length)));
                }
                _ => return Err(Malformed),
            }
            if length > LIMIT {
                return Err(Malformed);
            }
        }
        Ok(None)
    }

    fn line(&mut self) -> Result<Option<BytesMut>, Malformed> {
        let Some(at) = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n') else {
            self.searched = self.buffer.len();
            return if self.searched > LIMIT { Err(Malformed) } else { Ok(None) };
        };
        let message = self.buffer.split_to(self.searched + at);
        self.buffer.advance(1);
        self.searched = 0;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts `stream`, given in chunks of `chunk` octets.
    fn cut(framing: Framing, stream: &[u8], chunk: usize) -> (Vec<String>, Frames) {
        let mut frames = Frames::new(framing);
        let mut messages = Vec::new();
        for part in stream.chunks(chunk) {
            frames.buffer.extend_from_slice(part);
            while let Some(message) = frames.next().expect("well formed") {
                messages.push(String::from_utf8(message.to_vec()).unwrap());
            }
        }
        (messages, frames)
    }

    fn fails(framing: Framing, stream: &[u8]) -> bool {
        let mut frames = Frames::new(framing);
        frames.buffer.extend_from_slice(stream);
        frames.next() == Err(Malformed)
    }

    #[test]
    fn any_chunking_gives_the_same_messages() {
        let counted = b"5 ab\ncd1 x12 <14>1 - - -\n3 3 9";
        let lines = b"<14>1 one\n\n<14>1 two 5 abcde\n";
        let mixed = b"5 ab\ncdline\n3 xyzline two\n";
        for chunk in 1..40 {
            let (messages, frames) = cut(Framing::OctetCounting, counted, chunk);
            assert_eq!(messages, ["ab\ncd", "x", "<14>1 - - -\n", "3 9"]);
            assert!(!frames.is_partial());
            let (messages, _) = cut(Framing::Lf, lines, chunk);
            assert_eq!(messages, ["<14>1 one", "", "<14>1 two 5 abcde"]);
            let (messages, _) = cut(Framing::Auto, mixed, chunk);
            assert_eq!(messages, ["ab\ncd", "line", "xyz", "line two"]);
        }
    }

    #[test]
    fn an_unfinished_message_is_partial() {
        for stream in ["5", "5 ", "5 abcd"] {
            assert!(cut(Framing::OctetCounting, stream.as_bytes(), 1).1.is_partial());
        }
        assert!(cut(Framing::Lf, b"one\ntwo", 3).1.is_partial());
    }

    #[test]
    fn a_length_that_is_none_or_too_large_is_malformed() {
        for stream in ["<14>1 - x", "0 ", "05 hello", "5x", " 5", "16777217 ", "99999999999"] {
            assert!(fails(Framing::OctetCounting, stream.as_bytes()), "{stream}");
        }
        assert!(!fails(Framing::OctetCounting, b"16777216 "));
    }

    #[test]
    fn a_line_without_end_is_malformed_at_the_limit() {
        assert!(fails(Framing::Lf, &vec![b'x'; LIMIT + 1]));
    }
}
