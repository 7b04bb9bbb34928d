//! The client's side of one RELP connection, without its socket: what is to be sent goes into
//! a buffer, what came is pushed in.
//!
//! ```text
//! Opening ──rsp 200──▶ Open ──close──▶ Closing ──rsp──▶ Closed
//! ```
//!
//! Every message gets the next transaction number. Answers may come in any order; what
//! counts as proven is the run of answered messages from the beginning without a hole.
//! Any error ends the session: what was not proven is to be sent again on the next one.

use std::collections::VecDeque;

use super::frame::{self, FrameError, FrameReader, LAST_TXNR, MAX_ANSWER};

/// The only command that we need.
const SYSLOG: &str = "syslog";
/// What we say of ourselves. Version 0 is what all known servers speak; those that know more
/// answer with it, too.
const OFFERS: &str = concat!(
    "relp_version=0\nrelp_software=sls-relay,",
    env!("CARGO_PKG_VERSION"),
    "\ncommands=syslog"
);
/// The versions that can be spoken.
const VERSIONS: [&str; 2] = ["0", "1"];
/// Characters that are kept of what a server says.
const TEXT: usize = 200;

/// How much may be under way without an answer. One message always may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Messages. With the round trip it limits the rate: 1 024 at 50 ms are 20 000 a second.
    pub messages: usize,
    /// Octets of these messages.
    pub bytes: usize,
}

impl Default for Window {
    /// 1 024 messages, 4 MiB.
    fn default() -> Self {
        Self { messages: 1024, bytes: 4 << 20 }
    }
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// What the peer sends is not RELP.
    #[error("it sent something else than RELP")]
    Frame(#[from] FrameError),
    /// The server does not want us.
    #[error("it refused to open a session: {code} {text}")]
    OpenRefused {
        /// Status code, 500 as a rule.
        code: u16,
        /// The server's words, made printable and cut.
        text: String,
    },
    /// The server does not offer what we need.
    #[error("it does not offer what is needed: {missing}")]
    Offers {
        /// What is missing.
        missing: &'static str,
    },
    /// The server did not take a message. It is to be sent alone, or kept aside.
    #[error("it refused message {index} of the connection: {code} {text}")]
    MessageRefused {
        /// Which message, the first of the connection being 0.
        index: u64,
        /// Status code, 500 as a rule.
        code: u16,
        /// The server's words, made printable and cut.
        text: String,
    },
    /// The server ends the session; it takes nothing any more.
    #[error("it ends the session")]
    ServerClose,
    /// An answer without a status code, or to nothing that was asked, or no answer at all.
    #[error("it sent {what} with the transaction number {txnr}")]
    Unexpected {
        /// What came.
        what: &'static str,
        /// Its transaction number.
        txnr: u32,
    },
}

impl SessionError {
    /// The stable name of the cause, such as `syslog.relp_refused`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Frame(error) => error.code(),
            Self::OpenRefused { .. } => "syslog.relp_open_refused",
            Self::Offers { .. } => "syslog.relp_offers",
            Self::MessageRefused { .. } => "syslog.message_refused",
            Self::ServerClose => "syslog.closed_by_peer",
            Self::Unexpected { .. } => "syslog.relp_unexpected",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Opening { txnr: u32 },
    Open,
    Closing { txnr: u32 },
    Closed,
}

/// A message that is under way, or answered before an older one was.
#[derive(Clone, Copy, Debug)]
struct Sent {
    bytes: usize,
    answered: bool,
}

/// One session. Memory is bounded by the window and the largest answer.
#[derive(Debug)]
pub struct Session {
    reader: FrameReader,
    window: Window,
    state: State,
    /// The number of the next command.
    next: u32,
    /// From the oldest message without an answer on.
    sent: VecDeque<Sent>,
    /// The number of the first of `sent`.
    first: u32,
    bytes: usize,
    proven: u64,
    failed: Option<SessionError>,
}

impl Session {
    /// A session, whose first frame is written to `out`. Nothing else may be sent before
    /// [`Self::is_open`].
    pub fn open(window: Window, out: &mut Vec<u8>) -> Self {
        Self::open_at(1, window, out)
    }

    fn open_at(txnr: u32, window: Window, out: &mut Vec<u8>) -> Self {
        frame::append(txnr, "open", OFFERS.as_bytes(), out);
        Self {
            reader: FrameReader::new(MAX_ANSWER),
            window,
            state: State::Opening { txnr },
            next: after(txnr),
            sent: VecDeque::new(),
            first: after(txnr),
            bytes: 0,
            proven: 0,
            failed: None,
        }
    }

    /// Whether the server has agreed, and we have not said that we end.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether the server has answered our end.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// How many messages were handed over.
    pub fn written(&self) -> u64 {
        self.proven + self.sent.len() as u64
    }

    /// How many messages are acknowledged, counted from the first without a hole.
    pub fn proven(&self) -> u64 {
        self.proven
    }

    /// Whether a message of so many octets may be sent now.
    pub fn has_room(&self, length: usize) -> bool {
        let room = self.sent.len() < self.window.messages
            && self.bytes.saturating_add(length) <= self.window.bytes;
        self.is_open() && (room || self.sent.is_empty())
    }

    /// Appends the frame of a message to `out`. False, and nothing is done, without room.
    pub fn send(&mut self, message: &[u8], out: &mut Vec<u8>) -> bool {
        if !self.has_room(message.len()) {
            return false;
        }
        frame::append(self.next, SYSLOG, message, out);
        self.next = after(self.next);
        self.sent.push_back(Sent { bytes: message.len(), answered: false });
        self.bytes += message.len();
        true
    }

    /// Ends an open session: appends `close` to `out`, after which nothing may be sent.
    /// Does nothing in any other state.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        if self.is_open() {
            frame::append(self.next, "close", b"", out);
            self.state = State::Closing { txnr: self.next };
            self.next = after(self.next);
        }
    }

    /// Takes what came from the server.
    ///
    /// # Errors
    /// [`SessionError`]; what was acknowledged before it in the same bytes counts. The
    /// session is over then, and nothing is taken any more.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        self.check()?;
        let mut reader = std::mem::replace(&mut self.reader, FrameReader::new(MAX_ANSWER));
        reader.push(bytes);
        let taken = self.take_all(&mut reader);
        self.reader = reader;
        self.failed = taken.clone().err();
        taken
    }

    /// The error that ended the session, if one has.
    ///
    /// # Errors
    /// What [`Self::receive`] said.
    pub fn check(&self) -> Result<(), SessionError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn take_all(&mut self, reader: &mut FrameReader) -> Result<(), SessionError> {
        while let Some(frame) = reader.next()? {
            let txnr = frame.txnr;
            match frame.command {
                "rsp" => self.answer(txnr, frame.data)?,
                // Said after everything was answered, it changes nothing.
                "serverclose" if self.sent.is_empty() && self.is_closing() => {
                    self.state = State::Closed;
                }
                "serverclose" => return Err(SessionError::ServerClose),
                // A hint that is not understood is to be passed over.
                _ if txnr == 0 => {}
                _ => return Err(SessionError::Unexpected { what: "a command", txnr }),
            }
        }
        Ok(())
    }

    fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing { .. } | State::Closed)
    }

    fn answer(&mut self, txnr: u32, data: &[u8]) -> Result<(), SessionError> {
        match self.state {
            State::Opening { txnr: open } if txnr == open => return self.opened(txnr, data),
            State::Closing { txnr: close } if txnr == close => {
                self.state = State::Closed;
                return Ok(());
            }
            _ => {}
        }
        let place = distance(self.first, txnr);
        let Some(sent) = self.sent.get_mut(place).filter(|sent| txnr != 0 && !sent.answered) else {
            return Err(SessionError::Unexpected { what: "an answer to nothing", txnr });
        };
        let (code, text) = status(txnr, data)?;
        if code != 200 {
            let index = self.proven + place as u64;
            return Err(SessionError::MessageRefused { index, code, text: printable(text) });
        }
        sent.answered = true;
        while let Some(sent) = self.sent.front().filter(|sent| sent.answered) {
            self.bytes -= sent.bytes;
            self.proven += 1;
            self.first = after(self.first);
            self.sent.pop_front();
        }
        Ok(())
    }

    fn opened(&mut self, txnr: u32, data: &[u8]) -> Result<(), SessionError> {
        let (code, text) = status(txnr, data)?;
        if code != 200 {
            return Err(SessionError::OpenRefused { code, text: printable(text) });
        }
        check_offers(text)?;
        self.state = State::Open;
        Ok(())
    }
}

/// The number that follows.
fn after(txnr: u32) -> u32 {
    if txnr >= LAST_TXNR { 1 } else { txnr + 1 }
}

/// How many numbers `txnr` is behind `first`.
fn distance(first: u32, txnr: u32) -> usize {
    ((txnr + LAST_TXNR - first) % LAST_TXNR) as usize
}

/// `CODE [SP TEXT]`.
fn status(txnr: u32, data: &[u8]) -> Result<(u16, &[u8]), SessionError> {
    let bad = SessionError::Unexpected { what: "an answer without a status code", txnr };
    let (digits, text) = match data {
        [a, b, c] => ([a, b, c], &data[3..]),
        [a, b, c, b' ' | b'\n', ..] => ([a, b, c], &data[3..]),
        _ => return Err(bad),
    };
    if !digits.iter().all(|digit| digit.is_ascii_digit()) {
        return Err(bad);
    }
    let code = digits.iter().fold(0, |code, &&digit| code * 10 + u16::from(digit - b'0'));
    Ok((code, text))
}

/// Whether the server offers `syslog` in a version that we speak. Some servers put the first
/// offer on the line of the status.
fn check_offers(text: &[u8]) -> Result<(), SessionError> {
    let mut syslog = false;
    for line in text.split(|&byte| byte == b'\n') {
        let line = line.trim_ascii();
        let line = line.strip_prefix(b"OK").unwrap_or(line).trim_ascii();
        let Ok(line) = std::str::from_utf8(line) else { continue };
        match line.split_once('=') {
            Some(("relp_version", version)) if !VERSIONS.contains(&version.trim()) => {
                return Err(SessionError::Offers { missing: "version 0 of RELP" });
            }
            Some(("commands", commands)) => {
                syslog |= commands.split(',').any(|command| command.trim() == SYSLOG);
            }
            _ => {}
        }
    }
    if syslog { Ok(()) } else { Err(SessionError::Offers { missing: "the command syslog" }) }
}

/// The first line of what a server said, to be shown.
fn printable(text: &[u8]) -> String {
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let shown = String::from_utf8_lossy(&line[..line.len().min(4 * TEXT)]);
    shown.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT).collect()
}

#[cfg(test)]
mod tests;
