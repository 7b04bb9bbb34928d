//! RELP frames: written whole, read from pieces of any size.
//!
//! ```text
//! TXNR SP COMMAND SP DATALEN [SP DATA] LF
//! ```
//!
//! | part | is | limit |
//! |---|---|---|
//! | TXNR | the number of a command, of its answer too; 0 on a hint | 1 to 9 digits |
//! | COMMAND | what the frame is | 1 to 32 ASCII letters |
//! | DATALEN | octets of DATA, in decimal | 1 to 9 digits, on reading [`MAX_ANSWER`] |
//! | DATA | anything, LF and NUL too; left out, with its space, when DATALEN is 0 | DATALEN |
//! | LF | the end; a byte that is not LF here means that the length was wrong | |
//!
//! | frame | from | DATA |
//! |---|---|---|
//! | `open` | client, first | offers, one a line: `NAME=VALUE` |
//! | `syslog` | client | one message |
//! | `close` | client, last | none |
//! | `rsp` | server | `CODE SP TEXT`, for `open` then LF and offers; none for `close` |
//! | `serverclose` | server, TXNR 0 | none: it goes, nothing may be sent any more |
//!
//! What is read may have the space before an empty DATA, which some servers write.

use crate::syslog::decimal;

/// Octets of DATA that are taken from a server, and that a server of the reference
/// implementation takes of a message.
pub const MAX_ANSWER: usize = 128 << 10;
/// The largest transaction number; 1 follows.
pub const LAST_TXNR: u32 = 999_999_999;

/// Digits of a number.
const DIGITS: usize = 9;
/// Letters of a command.
const LETTERS: usize = 32;

/// One frame that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Transaction number, 0 on a hint.
    pub txnr: u32,
    /// Command, 1 to 32 ASCII letters as they were sent.
    pub command: &'a str,
    /// What it carries.
    pub data: &'a [u8],
}

/// Why bytes are not RELP. Where the next frame begins is then unknown: end the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Something else where a number must be, or one of more than nine digits.
    #[error("the {part} is not a number of 1 to 9 digits")]
    Number {
        /// Which number.
        part: &'static str,
    },
    /// Something else where a command must be, or a longer one than 32 letters.
    #[error("the command is not 1 to 32 letters")]
    Command,
    /// More than we take. Nothing of it was stored.
    #[error("{length} octets of data are more than the {limit} that are taken")]
    TooLong {
        /// What the frame says.
        length: usize,
        /// What is taken.
        limit: usize,
    },
    /// The frame does not end where it says that it ends.
    #[error("the frame does not end with a line feed where its length says so")]
    End,
}

impl FrameError {
    /// The stable name of the cause.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "syslog.relp_answer_too_long",
            _ => "syslog.relp_frame",
        }
    }
}

/// Appends one frame to `out`. `txnr` is at most [`LAST_TXNR`], `command` is letters.
pub fn append(txnr: u32, command: &str, data: &[u8], out: &mut Vec<u8>) {
    debug_assert!(txnr <= LAST_TXNR && data.len() <= LAST_TXNR as usize);
    decimal::plain(txnr as usize, out);
    out.push(b' ');
    out.extend_from_slice(command.as_bytes());
    out.push(b' ');
    decimal::plain(data.len(), out);
    if !data.is_empty() {
        out.push(b' ');
        out.extend_from_slice(data);
    }
    out.push(b'\n');
}

/// Octets that [`append`] adds at most to the data of a `syslog` frame.
pub const OVERHEAD: usize = 2 * DIGITS + "  syslog \n".len();

/// Takes a stream apart into frames. Keeps at most one frame of the allowed size and the
/// piece that was pushed last; nothing is set aside for a length before its octets are here.
#[derive(Clone, Debug)]
pub struct FrameReader {
    limit: usize,
    buf: Vec<u8>,
    /// Where the frame begins that [`Self::next`] reads.
    at: usize,
}

impl FrameReader {
    /// Takes frames of at most `limit` octets of data.
    pub fn new(limit: usize) -> Self {
        Self { limit, buf: Vec::new(), at: 0 }
    }

    /// Takes the next piece of the stream. Read all frames out of it before the next.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buf.drain(..self.at);
        self.at = 0;
        self.buf.extend_from_slice(bytes);
    }

    /// The next frame, `None` when it is not here yet as a whole.
    ///
    /// # Errors
    /// [`FrameError`], as soon as the bytes cannot become a frame. Every later call fails alike.
    #[expect(clippy::should_implement_trait, reason = "a frame borrows the reader")]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let Some((frame, length)) = parse(&self.buf[self.at..], self.limit)? else {
            return Ok(None);
        };
        self.at += length;
        Ok(Some(frame))
    }

    /// Octets of a frame that is not whole; 0 between frames.
    pub fn pending(&self) -> usize {
        self.buf.len() - self.at
    }
}

/// The first frame of `bytes` and its length; `None` when they end before it does.
fn parse(bytes: &[u8], limit: usize) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some((txnr, rest)) = number(bytes, "transaction number", b" ")? else { return Ok(None) };
    let Some((command, rest)) = word(rest)? else { return Ok(None) };
    let Some((length, rest)) = number(rest, "length", b" \n")? else { return Ok(None) };
    let length = length as usize;
    if length > limit {
        return Err(FrameError::TooLong { length, limit });
    }
    let data = match rest {
        // Without data one LF ends both the length and the frame.
        [b'\n', ..] if length == 0 => rest,
        [b' ', data @ ..] => data,
        _ => return Err(FrameError::End),
    };
    match data.get(length) {
        None => Ok(None),
        Some(b'\n') => {
            let used = bytes.len() - data.len() + length + 1;
            Ok(Some((Frame { txnr, command, data: &data[..length] }, used)))
        }
        Some(_) => Err(FrameError::End),
    }
}

/// A number and what follows its digits, which begins with one of `ends`.
fn number<'a>(
    bytes: &'a [u8],
    part: &'static str,
    ends: &[u8],
) -> Result<Option<(u32, &'a [u8])>, FrameError> {
    let digits = bytes.iter().take(DIGITS + 1).take_while(|byte| byte.is_ascii_digit()).count();
    match bytes.get(digits) {
        None if digits <= DIGITS => return Ok(None),
        Some(end) if (1..=DIGITS).contains(&digits) && ends.contains(end) => {}
        _ => return Err(FrameError::Number { part }),
    }
    let value = bytes[..digits].iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    Ok(Some((value, &bytes[digits..])))
}

/// A command, and what follows the space after it. `bytes` begins with the space before it.
fn word(bytes: &[u8]) -> Result<Option<(&str, &[u8])>, FrameError> {
    let bytes = &bytes[1..];
    let letters = bytes.iter().take(LETTERS + 1).take_while(|byte| byte.is_ascii_alphabetic());
    let letters = letters.count();
    match bytes.get(letters) {
        None if letters <= LETTERS => return Ok(None),
        Some(b' ') if (1..=LETTERS).contains(&letters) => {}
        _ => return Err(FrameError::Command),
    }
    let command = std::str::from_utf8(&bytes[..letters]).map_err(|_| FrameError::Command)?;
    Ok(Some((command, &bytes[letters + 1..])))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<(u32, String, Vec<u8>)>, FrameError> {
        let mut reader = FrameReader::new(MAX_ANSWER);
        reader.push(bytes);
        let mut frames = Vec::new();
        while let Some(frame) = reader.next()? {
            frames.push((frame.txnr, frame.command.to_owned(), frame.data.to_vec()));
        }
        Ok(frames)
    }

    fn written(txnr: u32, command: &str, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        append(txnr, command, data, &mut out);
        out
    }

    #[test]
    fn frames_are_written_as_the_specification_says() {
        assert_eq!(written(1, "syslog", b"<14>1 a\n\0"), b"1 syslog 9 <14>1 a\n\0\n");
        assert_eq!(written(3, "close", b""), b"3 close 0\n");
        let longest = written(LAST_TXNR, "syslog", b"x");
        assert!(longest.len() <= 1 + OVERHEAD);
    }

    #[test]
    fn frames_of_a_server_are_read() {
        let open = b"1 rsp 93 200 OK\nrelp_version=0\nrelp_software=librelp,1.11.0,http://librelp.adiscon.com\ncommands=syslog\n";
        let frames = read(open).unwrap();
        assert_eq!((frames[0].0, frames[0].1.as_str()), (1, "rsp"));
        assert!(frames[0].2.ends_with(b"commands=syslog"));
        let frames =
            read(b"2 rsp 6 200 OK\n0 serverclose 0\n3 rsp 0 \n4 rsp 3 a\nb\n5 rs").unwrap();
        let shown: Vec<_> = frames.iter().map(|f| (f.0, f.1.as_str(), f.2.as_slice())).collect();
        let expected: [(u32, &str, &[u8]); 4] =
            [(2, "rsp", b"200 OK"), (0, "serverclose", b""), (3, "rsp", b""), (4, "rsp", b"a\nb")];
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_cannot_become_a_frame_is_refused_at_once() {
        let number = |part| FrameError::Number { part };
        let txnr = number("transaction number");
        let cases: [(&[u8], FrameError); 14] = [
            (b"x", txnr.clone()),
            (b" ", txnr.clone()),
            (b"1\n", txnr.clone()),
            (b"1234567890", txnr),
            (b"1  ", FrameError::Command),
            (b"1 rsp1", FrameError::Command),
            (&[b"1 ".as_slice(), &[b'a'; 33]].concat(), FrameError::Command),
            (b"1 rsp\n", FrameError::Command),
            (b"1 rsp x", number("length")),
            (b"1 rsp 6\r\n", number("length")),
            (b"1 rsp 131073 ", FrameError::TooLong { length: 131_073, limit: MAX_ANSWER }),
            (b"1 rsp 6\n", FrameError::End),
            (b"1 rsp 2 abc", FrameError::End),
            (b"1 rsp 0 x", FrameError::End),
        ];
        for (bytes, error) in cases {
            assert_eq!(read(bytes), Err(error), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn an_error_stays() {
        let mut reader = FrameReader::new(10);
        reader.push(b"1 rsp 11 ");
        let error = reader.next().unwrap_err();
        assert_eq!(error.code(), "syslog.relp_answer_too_long");
        reader.push(b"01234567890\n2 rsp 0\n");
        assert_eq!(reader.next().unwrap_err(), error);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_however_it_is_cut(
            frames in prop::collection::vec(
                (0..=LAST_TXNR, "[A-Za-z]{1,32}", prop::collection::vec(any::<u8>(), 0..60)), 0..6),
            cuts in prop::collection::vec(1usize..40, 0..40),
        ) {
            let mut stream = Vec::new();
            for (txnr, command, data) in &frames {
                append(*txnr, command, data, &mut stream);
            }
            let mut reader = FrameReader::new(60);
            let mut found = Vec::new();
            let mut rest = stream.as_slice();
            let mut cuts = cuts.into_iter();
            while !rest.is_empty() {
                let length = cuts.next().unwrap_or(rest.len()).min(rest.len());
                let (piece, after) = rest.split_at(length);
                rest = after;
                reader.push(piece);
                while let Some(frame) = reader.next().unwrap() {
                    found.push((frame.txnr, frame.command.to_owned(), frame.data.to_vec()));
                }
            }
            prop_assert_eq!(found, frames);
            prop_assert_eq!(reader.pending(), 0);
        }

        #[test]
        fn any_bytes_give_the_same_whole_or_in_single_bytes(
            bytes in prop::collection::vec(prop_oneof![
                Just(b' '), Just(b'\n'), Just(b'1'), Just(b'0'), Just(b'a'), any::<u8>()], 0..80)
        ) {
            let mut reader = FrameReader::new(MAX_ANSWER);
            let mut found = Vec::new();
            let mut failed = None;
            for byte in &bytes {
                reader.push(&[*byte]);
                match reader.next() {
                    Ok(None) => {}
                    Ok(Some(frame)) => {
                        found.push((frame.txnr, frame.command.to_owned(), frame.data.to_vec()));
                    }
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
            }
            match (read(&bytes), failed) {
                (Ok(frames), None) => prop_assert_eq!(frames, found),
                (whole, failed) => prop_assert_eq!(whole.err(), failed),
            }
        }
    }
}
