//! The side of the relay. Whatever a client does costs one of [`CONNECTIONS`] places, a
//! bounded time, and a bounded amount of memory.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::protocol::{self, Hello, LONGEST_LINE, LONGEST_REQUEST, Refusal, VERSION};
use super::socket::Listener;
use crate::inspect::Output;

/// Most connections that are answered at once.
pub const CONNECTIONS: usize = 16;
/// What clients get.
const PATIENCE: Patience =
    Patience { request: Duration::from_secs(10), stalled: Duration::from_secs(30) };
/// Time for the last words of a relay that stops.
const GOODBYE_WITHIN: Duration = Duration::from_millis(500);
/// Time for answers to see that the relay stops; their threads are left to themselves then.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// Bytes of lines on their way to one client; a longer line is there alone.
const ON_THE_WAY: usize = 1 << 20;
/// Bytes of all such longer lines on their way, to whomever. Short ones never wait for these.
const LONG_ON_THE_WAY: usize = LONGEST_LINE;
/// Lines of one connection on their way, beside the one that is being written.
const QUEUE: usize = 8;
/// Shortest time between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Who is on the other side, as the kernel says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Peer {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Process id, where the system tells it.
    pub pid: Option<i32>,
}

/// Who answers requests.
pub trait Answer: Send + Sync + 'static {
    /// Absolute path of the spool, for the hello.
    fn dir(&self) -> &Path;

    /// Answers one request, an object without its version, on a thread of its own that may
    /// block. Something that goes on for long must look at [`Output::is_wanted`] at least
    /// every second, and end when it is not. The value returned ends the answer; it is an
    /// object or null.
    ///
    /// # Errors
    /// Why there is no answer; an error of [`Output::line`] converts. That is
    /// [`io::ErrorKind::BrokenPipe`] when the client is gone or the relay stops, and
    /// [`io::ErrorKind::InvalidInput`] for a part longer than [`LONGEST_LINE`], of which nothing
    /// was sent.
    fn answer(&self, request: Value, peer: Peer, out: &mut dyn Output) -> Result<Value, Refusal>;
}

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For a whole request.
    pub(super) request: Duration,
    /// In which it takes nothing of what waits for it.
    pub(super) stalled: Duration,
}

/// Answers connections until `stop` is cancelled. Then it says so to those that wait, removes
/// the socket, and ends within seconds. Must run in a runtime with time and io.
pub async fn serve(listener: Listener, stop: CancellationToken, answer: Arc<dyn Answer>) {
    serve_with(PATIENCE, listener, stop, answer).await;
}

pub(super) async fn serve_with(
    patience: Patience,
    listener: Listener,
    stop: CancellationToken,
    answer: Arc<dyn Answer>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let long = Arc::new(Semaphore::new(LONG_ON_THE_WAY));
    let hello: Arc<[u8]> = protocol::hello_line(&Hello {
        version: VERSION,
        program: concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).to_owned(),
        dir: answer.dir().to_string_lossy().into_owned(),
    })
    .into();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(code = "control.accept", %error, "no connection to the control socket can be accepted; trying again");
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(Duration::from_secs(1)) => continue,
                }
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            turn_away(&stream, &hello);
            continue;
        };
        let connection = Connection {
            stream: Arc::new(stream),
            patience,
            stop: stop.clone(),
            long: Arc::clone(&long),
            _place: place,
        };
        connections.spawn(connection.run(Arc::clone(&hello), Arc::clone(&answer)));
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(STOP_WITHIN, ended).await;
}

/// Says what fits into the socket's buffer at once.
fn turn_away(stream: &UnixStream, hello: &[u8]) {
    let refusal = Refusal::new(
        "control.busy",
        format!("{CONNECTIONS} connections are answered already; end one of them, or try again"),
    );
    let lines = [hello, &protocol::last_line(Err(refusal))].concat();
    let _ = stream.try_write(&lines);
}

struct Connection {
    stream: Arc<UnixStream>,
    patience: Patience,
    stop: CancellationToken,
    long: Arc<Semaphore>,
    _place: OwnedSemaphorePermit,
}

/// Why nothing more is written.
#[derive(Debug)]
enum Cut {
    /// The client is gone, or takes nothing.
    Gone,
    /// The relay stops; `whole` when the client has only whole lines.
    Stopping { whole: bool },
}

/// A line on its way, with what it takes of the budgets.
struct Queued {
    line: Vec<u8>,
    _room: OwnedSemaphorePermit,
    _long: Option<OwnedSemaphorePermit>,
}

impl Connection {
    async fn run(self, hello: Arc<[u8]>, answer: Arc<dyn Answer>) {
        if self.write(&hello).await.is_err() {
            return;
        }
        if let Err(Cut::Stopping { whole: true }) = self.talk(answer).await {
            let refusal = Refusal::new(
                "control.stopping",
                "the relay stops, and the answer is not complete; ask again when it runs or is stopped",
            );
            let line = protocol::last_line(Err(refusal));
            let _ = tokio::time::timeout(GOODBYE_WITHIN, self.write_all(&line, &mut 0)).await;
        }
    }

    async fn talk(&self, answer: Arc<dyn Answer>) -> Result<(), Cut> {
        let request = tokio::select! {
            () = self.stop.cancelled() => return Err(Cut::Stopping { whole: true }),
            request = tokio::time::timeout(self.patience.request, self.request()) => request,
        };
        let late = || {
            let what =
                format!("no whole request came within {} s", self.patience.request.as_secs());
            Some(Err(Refusal::new("control.request_timeout", what)))
        };
        let outcome = match request.unwrap_or_else(|_| late()) {
            None => return Err(Cut::Gone),
            Some(Err(refusal)) => Err(refusal),
            Some(Ok(request)) => self.answer(request, answer).await?,
        };
        self.write(&protocol::last_line(outcome)).await
    }

    /// What is asked; none when the client left without a word.
    async fn request(&self) -> Option<Result<Value, Refusal>> {
        let mut line = Vec::new();
        let mut piece = [0; 4096];
        loop {
            self.stream.readable().await.ok()?;
            let read = match self.stream.try_read(&mut piece) {
                Ok(0) if line.is_empty() => return None,
                Ok(0) => {
                    let what = "the connection was closed in the middle of the request";
                    return Some(Err(protocol::bad_request(what)));
                }
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => return None,
            };
            let end = piece[..read].iter().position(|byte| *byte == b'\n');
            line.extend_from_slice(&piece[..end.unwrap_or(read)]);
            // The end of the line counts, whether it was seen or not.
            if line.len() >= LONGEST_REQUEST {
                return Some(Err(Refusal::new(
                    "control.request_too_large",
                    format!("the request is longer than {LONGEST_REQUEST} bytes; ask for less"),
                )));
            }
            if end.is_some() {
                return Some(protocol::request(&line));
            }
        }
    }

    /// Passes the answer on while it is made.
    async fn answer(
        &self,
        request: Value,
        answer: Arc<dyn Answer>,
    ) -> Result<Result<Value, Refusal>, Cut> {
        let Ok(cred) = self.stream.peer_cred() else { return Err(Cut::Gone) };
        let peer = Peer { uid: cred.uid(), gid: cred.gid(), pid: cred.pid() };
        let (lines, mut queue) = mpsc::channel(QUEUE);
        let cut = Arc::new(AtomicBool::new(false));
        let mut out = Lines {
            lines,
            room: Arc::new(Semaphore::new(ON_THE_WAY)),
            long: Arc::clone(&self.long),
            stream: Arc::clone(&self.stream),
            stop: self.stop.clone(),
            runtime: Handle::current(),
            cut: Arc::clone(&cut),
            progress: None,
        };
        let answered = tokio::task::spawn_blocking(move || answer.answer(request, peer, &mut out));
        let passed = self.pass_on(&mut queue).await;
        // Whoever still makes lines sees now that nobody wants them.
        queue.close();
        let outcome = answered.await.unwrap_or_else(|error| {
            tracing::error!(code = "control.failed", %error, "a request could not be answered");
            let what = "the relay failed to answer because of a defect; its log says more";
            Err(Refusal::new("control.failed", what))
        });
        // An order that was carried out to its end is not called incomplete, and what ended
        // because nobody wanted it is not called complete.
        match passed {
            Ok(()) | Err(Cut::Stopping { whole: true }) => {
                if queue.is_empty() && !cut.load(Ordering::Relaxed) {
                    Ok(outcome)
                } else if self.stop.is_cancelled() {
                    Err(Cut::Stopping { whole: true })
                } else {
                    Err(Cut::Gone)
                }
            }
            Err(cut) => Err(cut),
        }
    }

    async fn pass_on(&self, queue: &mut mpsc::Receiver<Queued>) -> Result<(), Cut> {
        loop {
            let next = tokio::select! {
                () = self.stop.cancelled() => return Err(Cut::Stopping { whole: true }),
                next = queue.recv() => next,
            };
            let Some(queued) = next else { return Ok(()) };
            self.write(&queued.line).await?;
        }
    }

    /// Writes a whole line, unless the client takes nothing for too long.
    async fn write(&self, line: &[u8]) -> Result<(), Cut> {
        let mut done = 0;
        tokio::select! {
            biased;
            written = self.write_all(line, &mut done) => return written.map_err(|_| Cut::Gone),
            () = self.stop.cancelled() => {}
        }
        Err(Cut::Stopping { whole: done == 0 })
    }

    async fn write_all(&self, line: &[u8], done: &mut usize) -> io::Result<()> {
        while *done < line.len() {
            let writable = self.stream.writable();
            let writable = tokio::time::timeout(self.patience.stalled, writable).await;
            writable.map_err(|_| io::ErrorKind::TimedOut)??;
            match self.stream.try_write(&line[*done..]) {
                Ok(written) => *done += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The output of one answer, on the thread that makes it.
struct Lines {
    lines: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
    long: Arc<Semaphore>,
    stream: Arc<UnixStream>,
    stop: CancellationToken,
    runtime: Handle,
    /// Whether the answer was told that nobody wants it.
    cut: Arc<AtomicBool>,
    progress: Option<Instant>,
}

impl Output for Lines {
    fn line(&mut self, part: &Value) -> io::Result<()> {
        let line = protocol::part_line(part);
        if line.len() > LONGEST_LINE {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a part of {} bytes is longer than a line may be", line.len()),
            ));
        }
        let size = line.len();
        let take = |budget: &Arc<Semaphore>, most: usize| {
            // Within u32: no line is longer than LONGEST_LINE.
            let size = u32::try_from(size.min(most)).unwrap_or(u32::MAX);
            Arc::clone(budget).acquire_many_owned(size)
        };
        let permits = async {
            let room = take(&self.room, ON_THE_WAY).await.ok()?;
            let long = match size > ON_THE_WAY {
                true => Some(take(&self.long, LONG_ON_THE_WAY).await.ok()?),
                false => None,
            };
            Some((room, long))
        };
        let sent = self.runtime.block_on(async {
            let (room, long) = tokio::select! {
                () = self.lines.closed() => return None,
                permits = permits => permits?,
            };
            self.lines.send(Queued { line, _room: room, _long: long }).await.ok()
        });
        sent.ok_or_else(|| {
            self.cut.store(true, Ordering::Relaxed);
            io::Error::new(io::ErrorKind::BrokenPipe, "nobody waits for the answer any more")
        })
    }

    fn progress(&mut self, done: u64, of: u64) {
        if self.progress.is_some_and(|last| last.elapsed() < PROGRESS_EVERY) {
            return;
        }
        self.progress = Some(Instant::now());
        let line = protocol::progress_line(done, of);
        let size = u32::try_from(line.len()).unwrap_or(u32::MAX);
        if let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(size) {
            let _ = self.lines.try_send(Queued { line, _room: room, _long: None });
        }
    }

    fn is_wanted(&self) -> bool {
        let wanted = !self.stop.is_cancelled() && !self.lines.is_closed() && !hung_up(&self.stream);
        self.cut.fetch_or(!wanted, Ordering::Relaxed);
        wanted
    }
}

/// Whether the other side has closed both halves.
fn hung_up(stream: &UnixStream) -> bool {
    let mut ask = [PollFd::new(stream, PollFlags::empty())];
    let asked = poll(&mut ask, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    asked.is_ok() && ask[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}
