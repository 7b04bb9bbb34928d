//! Takes a stream apart into messages, whatever the pieces it arrives in.

use super::Framing;

/// Which framing a [`Deframer`] reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expect {
    /// Decided by the first byte of each frame: octet counting begins with a digit from 1
    /// to 9, anything else is a line. This is what receivers do, too.
    #[default]
    Auto,
    /// This one only.
    Only(Framing),
}

/// Takes a stream apart into messages.
#[derive(Clone, Debug)]
pub struct Deframer {
    expect: Expect,
    /// Largest message, bytes.
    limit: usize,
    /// The beginning of a frame whose end has not arrived.
    rest: Vec<u8>,
    /// How much of `rest` is known to hold no end of a message.
    searched: usize,
    failed: Option<FrameError>,
}

/// What a look at the beginning of the buffered bytes found.
enum Step {
    /// The message lies at `start..end`, the next frame at `next`.
    Whole { start: usize, end: usize, next: usize },
    /// The frame goes on.
    More,
}

impl Deframer {
    /// `limit` is the largest message in bytes; at most that and one pushed piece are kept.
    pub fn new(expect: Expect, limit: usize) -> Self {
        Self { expect, limit, rest: Vec::new(), searched: 0, failed: None }
    }

    /// Takes the next piece of the stream and shows every message that is now complete.
    ///
    /// After an error the place of the next frame is unknown: close the connection. Every
    /// later call fails alike.
    pub fn push(&mut self, bytes: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<(), FrameError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.rest.extend_from_slice(bytes);
        let mut at = 0;
        let outcome = loop {
            match self.step(at) {
                Ok(Step::Whole { start, end, next }) => {
                    visit(&self.rest[start..end]);
                    self.searched = 0;
                    at = next;
                }
                Ok(Step::More) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.rest.drain(..at);
        if let Err(error) = &outcome {
            self.failed = Some(error.clone());
        }
        outcome
    }

    /// Ends the stream. Returns how many bytes of a frame without an end were left over;
    /// 0 after a stream of whole frames.
    pub fn finish(self) -> usize {
        self.rest.len()
    }

    fn step(&mut self, at: usize) -> Result<Step, FrameError> {
        let frame = &self.rest[at..];
        let Some(&first) = frame.first() else { return Ok(Step::More) };
        let framing = match self.expect {
            Expect::Only(framing) => framing,
            Expect::Auto if (b'1'..=b'9').contains(&first) => Framing::OctetCounting,
            Expect::Auto => Framing::Lf,
        };
        match framing {
            Framing::OctetCounting => counted(frame, at, self.limit),
            Framing::Lf | Framing::Nul => {
                let end = if framing == Framing::Lf { b'\n' } else { 0 };
                let found = frame[self.searched..].iter().position(|&byte| byte == end);
                let length = found.map_or(frame.len(), |found| self.searched + found);
                if length > self.limit {
                    return Err(FrameError::LineTooLong { limit: self.limit });
                }
                if found.is_none() {
                    self.searched = length;
                    return Ok(Step::More);
                }
                Ok(Step::Whole { start: at, end: at + length, next: at + length + 1 })
            }
        }
    }
}

/// Reads `LEN SP MSG` at the start of `frame`, which lies at `at` in the buffer.
fn counted(frame: &[u8], at: usize, limit: usize) -> Result<Step, FrameError> {
    let mut length = 0_usize;
    for (place, &byte) in frame.iter().enumerate() {
        match byte {
            b'0'..=b'9' if place > 0 || byte != b'0' => {
                length = length.saturating_mul(10).saturating_add(usize::from(byte - b'0'));
                if length > limit {
                    return Err(FrameError::TooLong { length, limit });
                }
            }
            b' ' if place > 0 => {
                let start = at + place + 1;
                let (end, have) = (start.saturating_add(length), at + frame.len());
                return Ok(if have < end {
                    Step::More
                } else {
                    Step::Whole { start, end, next: end }
                });
            }
            _ => return Err(FrameError::Length { byte }),
        }
    }
    Ok(Step::More)
}

/// Why a stream cannot be taken apart any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame does not begin with a decimal length and a space.
    #[error(
        "a frame's length holds the byte {byte:#04x}: the sender is not using octet counting, or lost count"
    )]
    Length {
        /// The first wrong byte.
        byte: u8,
    },
    /// A frame announces more than is allowed.
    #[error("a frame of {length} bytes or more was announced, and at most {limit} are taken")]
    TooLong {
        /// What its digits say so far.
        length: usize,
        /// The limit, bytes.
        limit: usize,
    },
    /// No LF or NUL came within the limit.
    #[error("a line is longer than {limit} bytes")]
    LineTooLong {
        /// The limit, bytes.
        limit: usize,
    },
}

impl FrameError {
    /// Stable name of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Length { .. } => "syslog.frame_length",
            Self::TooLong { .. } => "syslog.frame_too_long",
            Self::LineTooLong { .. } => "syslog.line_too_long",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pushes a stream whole; the messages, then the outcome and what is left over.
    fn take(expect: Expect, stream: &[u8]) -> (Vec<Vec<u8>>, Result<usize, FrameError>) {
        let mut deframer = Deframer::new(expect, 20);
        let mut messages = Vec::new();
        let pushed = deframer.push(stream, &mut |message| messages.push(message.to_vec()));
        (messages, pushed.map(|()| deframer.finish()))
    }

    #[test]
    fn auto_takes_lines_and_counted_frames_from_one_stream() {
        let (messages, left) = take(Expect::Auto, b"3 a\nb<14>1 x\n\n2 yz<14>1 un");
        assert_eq!(messages, [&b"a\nb"[..], b"<14>1 x", b"", b"yz"]);
        assert_eq!(left, Ok(8));
    }

    #[test]
    fn a_forced_framing_does_not_look_at_the_first_byte() {
        let (messages, left) = take(Expect::Only(Framing::Lf), b"12 monkeys\n");
        assert_eq!((messages, left), (vec![b"12 monkeys".to_vec()], Ok(0)));
        let (messages, left) = take(Expect::Only(Framing::OctetCounting), b"1 a<14>1 b\n");
        assert_eq!(messages, [b"a"]);
        assert_eq!(left, Err(FrameError::Length { byte: b'<' }));
    }

    #[test]
    fn lengths_that_are_none_are_refused() {
        for (stream, byte) in
            [(&b"01 a"[..], b'0'), (b" a", b' '), (b"1a b", b'a'), (b"-1 a", b'-')]
        {
            let (_, left) = take(Expect::Only(Framing::OctetCounting), stream);
            assert_eq!(left, Err(FrameError::Length { byte }), "{stream:?}");
        }
    }

    #[test]
    fn frames_over_the_limit_are_refused_before_they_arrive() {
        let (messages, left) = take(Expect::Auto, b"20 aaaaaaaaaaaaaaaaaaaa21");
        assert_eq!(messages.len(), 1);
        assert_eq!(left, Err(FrameError::TooLong { length: 21, limit: 20 }));
        let (_, left) = take(Expect::Auto, b"99999999999999999999999999999999");
        assert!(matches!(left, Err(FrameError::TooLong { .. })));
        let (_, left) = take(Expect::Auto, b"<aaaaaaaaaaaaaaaaaaa\n");
        assert_eq!(left, Ok(0));
        let (_, left) = take(Expect::Auto, b"<aaaaaaaaaaaaaaaaaaaa");
        assert_eq!(left, Err(FrameError::LineTooLong { limit: 20 }));
    }

    #[test]
    fn an_error_stays() {
        let mut deframer = Deframer::new(Expect::Only(Framing::OctetCounting), 20);
        let first = deframer.push(b"x", &mut |_| {});
        assert_eq!(first, Err(FrameError::Length { byte: b'x' }));
        assert_eq!(deframer.push(b"1 a", &mut |_| panic!("nothing may follow")), first);
    }
}
