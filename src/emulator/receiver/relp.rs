//! A RELP server on loopback that can be late, refuse, lie and die at will.
//!
//! It reads frames by itself, apart from the client's reader on purpose, and is as strict as
//! the reference implementation: numbers without a gap, nothing before `open`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::{Sink, loopback};

/// The most that is read at once, in octets.
const CHUNK: usize = 64 << 10;
/// The longest message accepted, in octets.
const LIMIT: usize = 16 << 20;

/// What a RELP receiver does to its peers. Messages are counted on each connection from 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RelpMode {
    /// Hands every message on, then acknowledges it.
    #[default]
    Accept,
    /// Acknowledges what one read brought so much later.
    Late {
        /// The wait before the answers.
        delay: Duration,
    },
    /// Acknowledges what one read brought from the last to the first.
    Backwards,
    /// Hands every message on and acknowledges none.
    Silent,
    /// Answers 500 to `open`.
    RefuseOpen,
    /// Answers 500 to every message that holds `text`, and does not hand it on.
    Refuse {
        /// What such a message holds.
        text: String,
    },
    /// After so many messages says `serverclose` and ends the connection, without a word on
    /// what came with them in one read.
    ServerClose {
        /// Messages that are acknowledged before.
        messages: u64,
    },
    /// After so many messages answers with something that is not RELP.
    Garbage {
        /// Messages that are acknowledged before.
        messages: u64,
    },
    /// Acknowledges `messages` messages and resets the connection, having handed on only the
    /// first `kept` of them: a process killed with acknowledged messages in its memory.
    DieAfterAck {
        /// Messages that are acknowledged.
        messages: u64,
        /// Messages that are handed on.
        kept: u64,
    },
}

/// What a RELP receiver has seen since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelpCounts {
    /// Connections accepted.
    pub connections: u64,
    /// Messages handed on.
    pub messages: u64,
    /// Sessions that the client ended with `close`.
    pub closed: u64,
    /// Connections that did not speak RELP, or not in order.
    pub malformed: u64,
}

/// A running RELP receiver. Dropping it ends it and resets its connections.
#[derive(Debug)]
pub struct RelpReceiver {
    addr: SocketAddr,
    mode: watch::Sender<RelpMode>,
    counters: Arc<Counters>,
    task: JoinHandle<()>,
}

impl RelpReceiver {
    /// Binds and starts to accept. Must be called inside a tokio runtime; port 0 takes any.
    ///
    /// # Errors
    /// When the address is not loopback or cannot be bound.
    pub fn start(addr: SocketAddr, sink: Sink) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(loopback(addr)?)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let addr = listener.local_addr()?;
        let mode = watch::Sender::new(RelpMode::Accept);
        let counters = Arc::new(Counters::default());
        let task = tokio::spawn(accept(listener, mode.clone(), counters.clone(), sink));
        Ok(Self { addr, mode, counters, task })
    }

    /// The address listened on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Changes what happens to messages from now on, on open connections too.
    pub fn set_mode(&self, mode: RelpMode) {
        self.mode.send_replace(mode);
    }

    /// What it has seen so far.
    pub fn counts(&self) -> RelpCounts {
        let Counters { connections, messages, closed, malformed } = &*self.counters;
        RelpCounts {
            connections: connections.load(Relaxed),
            messages: messages.load(Relaxed),
            closed: closed.load(Relaxed),
            malformed: malformed.load(Relaxed),
        }
    }
}

impl Drop for RelpReceiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    messages: AtomicU64,
    closed: AtomicU64,
    malformed: AtomicU64,
}

async fn accept(
    listener: TcpListener,
    mode: watch::Sender<RelpMode>,
    counters: Arc<Counters>,
    sink: Sink,
) {
    let mut open = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, or the peer is gone already.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        // What ends without a word is reset; an orderly end takes this back.
        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        let connection = Connection {
            id: counters.connections.fetch_add(1, Relaxed) + 1,
            stream,
            buffer: BytesMut::new(),
            out: Vec::new(),
            next: 1,
            opened: false,
            messages: 0,
            mode: mode.subscribe(),
            counters: counters.clone(),
            sink: sink.clone(),
        };
        open.spawn(connection.run());
        while open.try_join_next().is_some() {}
    }
}

struct Connection {
    id: u64,
    stream: TcpStream,
    buffer: BytesMut,
    /// Answers of this round.
    out: Vec<Vec<u8>>,
    /// The number that must come next.
    next: u32,
    opened: bool,
    messages: u64,
    mode: watch::Receiver<RelpMode>,
    counters: Arc<Counters>,
    sink: Sink,
}

/// What becomes of a connection after a frame.
enum After {
    GoOn,
    /// An orderly end, once the answers are written.
    End,
    Reset,
}

impl Connection {
    async fn run(mut self) {
        loop {
            self.buffer.reserve(CHUNK);
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return self.orderly(),
                Ok(_) => {}
                Err(_) => return,
            }
            let mode = self.mode.borrow_and_update().clone();
            let after = loop {
                match frame(&mut self.buffer) {
                    Ok(None) => break After::GoOn,
                    Ok(Some((txnr, command, data))) => {
                        match self.take(&mode, txnr, &command, &data) {
                            After::GoOn => {}
                            after => break after,
                        }
                    }
                    Err(Malformed) => break self.malformed(),
                }
            };
            match mode {
                RelpMode::Late { delay } => tokio::time::sleep(delay).await,
                RelpMode::Backwards => self.out.reverse(),
                _ => {}
            }
            let answers = std::mem::take(&mut self.out).concat();
            if self.stream.write_all(&answers).await.is_err() {
                return;
            }
            match after {
                After::GoOn => {}
                After::End => return self.orderly(),
                // Whoever is told must have the time to hear it: what is under way goes
                // with a reset.
                After::Reset => return tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    fn take(&mut self, mode: &RelpMode, txnr: u32, command: &str, data: &[u8]) -> After {
        if txnr != self.next || (command == "open") == self.opened {
            return self.malformed();
        }
        self.next += 1;
        match command {
            "open" if *mode == RelpMode::RefuseOpen => {
                self.answer(txnr, "500 not today");
                self.out.push(b"0 serverclose 0\n".to_vec());
                After::End
            }
            "open" => {
                self.opened = true;
                self.answer(
                    txnr,
                    "200 OK\nrelp_version=0\nrelp_software=emulator\ncommands=syslog",
                );
                After::GoOn
            }
            "syslog" => self.message(mode, txnr, data),
            "close" => {
                self.counters.closed.fetch_add(1, Relaxed);
                self.answer(txnr, "");
                After::End
            }
            _ => self.malformed(),
        }
    }

    fn message(&mut self, mode: &RelpMode, txnr: u32, data: &[u8]) -> After {
        self.messages += 1;
        let number = self.messages;
        match mode {
            RelpMode::Refuse { text } if holds(data, text) => {
                self.answer(txnr, "500 this one not");
                return After::GoOn;
            }
            RelpMode::ServerClose { messages } if number > *messages => {
                self.out.push(b"0 serverclose 0\n".to_vec());
                return After::End;
            }
            RelpMode::Garbage { messages } if number > *messages => {
                self.out.push(b"\xff HTTP/1.1 400\n".to_vec());
                return After::GoOn;
            }
            RelpMode::DieAfterAck { messages, .. } if number > *messages => return After::Reset,
            RelpMode::DieAfterAck { kept, .. } if number > *kept => {}
            _ => {
                (self.sink)(self.id, data);
                self.counters.messages.fetch_add(1, Relaxed);
            }
        }
        if *mode != RelpMode::Silent {
            self.answer(txnr, "200 OK");
        }
        After::GoOn
    }

    fn answer(&mut self, txnr: u32, text: &str) {
        let space = if text.is_empty() { "" } else { " " };
        self.out.push(format!("{txnr} rsp {}{space}{text}\n", text.len()).into_bytes());
    }

    fn malformed(&mut self) -> After {
        self.counters.malformed.fetch_add(1, Relaxed);
        self.out.push(b"0 serverclose 0\n".to_vec());
        After::End
    }

    fn orderly(self) {
        // Fails only on a socket that is broken already.
        let _ = SockRef::from(&self.stream).set_linger(None);
    }
}

struct Malformed;

/// The first frame, taken out of the buffer when it is whole.
fn frame(buffer: &mut BytesMut) -> Result<Option<(u32, String, BytesMut)>, Malformed> {
    let ends = |byte: &u8| *byte == b' ' || *byte == b'\n';
    let mut head = Vec::new();
    let mut at = 0;
    while head.len() < 3 {
        let Some(length) = buffer[at..].iter().take(33).position(ends) else {
            return if buffer.len() - at > 32 { Err(Malformed) } else { Ok(None) };
        };
        head.push(String::from_utf8_lossy(&buffer[at..at + length]).into_owned());
        at += length + 1;
    }
    let txnr = head[0].parse().map_err(|_| Malformed)?;
    let length: usize = head[2].parse().map_err(|_| Malformed)?;
    if length > LIMIT || buffer[at - head[2].len() - 2] != b' ' {
        return Err(Malformed);
    }
    if length == 0 {
        let end = buffer[at - 1];
        buffer.advance(at);
        return if end == b'\n' {
            Ok(Some((txnr, head.swap_remove(1), BytesMut::new())))
        } else {
            Err(Malformed)
        };
    }
    match buffer.get(at + length) {
        None => Ok(None),
        Some(b'\n') => {
            buffer.advance(at);
            let data = buffer.split_to(length);
            buffer.advance(1);
            Ok(Some((txnr, head.swap_remove(1), data)))
        }
        Some(_) => Err(Malformed),
    }
}

fn holds(data: &[u8], text: &str) -> bool {
    data.windows(text.len().max(1)).any(|part| part == text.as_bytes())
}
