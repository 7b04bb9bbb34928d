//! The TCP side of the receiver: one task that listens, one task per connection.

use std::future::pending;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};

use super::frames::Frames;
use super::mode::{Mode, Switch, Switches};
use super::{Shared, Transport};

/// The most that is read at once, in octets.
const CHUNK: usize = 64 * 1024;

pub(super) fn start(addr: SocketAddr, shared: Arc<Shared>) -> io::Result<Transport> {
    let listener = listen(bind(addr)?)?;
    let addr = listener.local_addr()?;
    let port = Port::Open(listener);
    let mode = watch::Sender::new(Mode::Accept);
    let (switches, orders) = mpsc::channel(1);
    let server = Server { addr, port, mode, open: JoinSet::new(), shared };
    let task = tokio::spawn(server.run(orders));
    Ok(Transport { addr, switches, task })
}

struct Server {
    addr: SocketAddr,
    port: Port,
    mode: watch::Sender<Mode>,
    open: JoinSet<()>,
    shared: Arc<Shared>,
}

/// What holds the port number.
enum Port {
    Open(TcpListener),
    /// Bound and not listening: connects are refused, and nobody else gets the number.
    Reserved(Socket),
    /// Nothing: the last change failed half-way.
    Lost,
}

impl Server {
    async fn run(mut self, mut orders: Switches) {
        loop {
            tokio::select! {
                order = orders.recv() => {
                    let Some(Switch { mode, done }) = order else { break };
                    let result = self.switch(mode).await;
                    // Whoever asked may have stopped waiting.
                    let _ = done.send(result);
                }
                accepted = self.port.accept() => match accepted {
                    Ok(stream) => self.serve(stream),
                    // Out of descriptors, or the peer is gone already.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                },
                Some(ended) = self.open.join_next() => propagate(ended),
            }
        }
        self.open.shutdown().await;
    }

    async fn switch(&mut self, mode: Mode) -> io::Result<()> {
        if mode == Mode::Refuse {
            self.port = match std::mem::replace(&mut self.port, Port::Lost) {
                Port::Open(listener) => Port::Reserved(stop_listening(listener)?),
                reserved => reserved,
            };
            self.mode.send_replace(mode);
            while let Some(ended) = self.open.join_next().await {
                propagate(ended);
            }
            return Ok(());
        }
        self.port = match std::mem::replace(&mut self.port, Port::Lost) {
            Port::Open(listener) => Port::Open(listener),
            Port::Reserved(socket) => Port::Open(listen(socket)?),
            Port::Lost => Port::Open(listen(bind(self.addr)?)?),
        };
        self.mode.send_replace(mode);
        Ok(())
    }

    fn serve(&mut self, stream: TcpStream) {
        let id = self.shared.counters.connections.fetch_add(1, Relaxed) + 1;
        let connection = Connection {
            id,
            stream,
            frames: Frames::new(self.shared.framing),
            octets: 0,
            messages: 0,
            mode: self.mode.subscribe(),
            shared: self.shared.clone(),
        };
        self.open.spawn(connection.run());
    }
}

impl Port {
    async fn accept(&self) -> io::Result<TcpStream> {
        match self {
            Port::Open(listener) => listener.accept().await.map(|(stream, _)| stream),
            Port::Reserved(_) | Port::Lost => pending().await,
        }
    }
}

struct Connection {
    id: u64,
    stream: TcpStream,
    frames: Frames,
    /// Read so far.
    octets: u64,
    /// Delivered so far.
    messages: u64,
    mode: watch::Receiver<Mode>,
    shared: Arc<Shared>,
}

impl Connection {
    async fn run(mut self) {
        loop {
            let mode = *self.mode.borrow_and_update();
            if mode == Mode::Refuse {
                return self.reset();
            }
            if !self.deliver(mode) {
                return;
            }
            let limit = match mode {
                Mode::ResetAfter { bytes } if self.octets >= bytes => return self.reset(),
                Mode::CloseAfter { messages } if self.messages >= messages => {
                    return match self.has_ended().await {
                        true => self.at_end().await,
                        false => self.half_close().await,
                    };
                }
                Mode::Stall => {
                    self.until_switched().await;
                    continue;
                }
                Mode::Slow { delay, bytes } => {
                    tokio::select! {
                        biased;
                        () = self.until_switched() => continue,
                        () = tokio::time::sleep(delay) => bytes.max(1),
                    }
                }
                Mode::ResetAfter { bytes } => {
                    usize::try_from(bytes - self.octets).unwrap_or(CHUNK).min(CHUNK)
                }
                Mode::Accept
                | Mode::Refuse
                | Mode::CloseAfter { .. }
                | Mode::CloseOn { .. }
                | Mode::Deaf => CHUNK,
            };
            let read = tokio::select! {
                biased;
                _ = self.mode.changed() => continue,
                read = self.frames.read(&mut self.stream, limit) => read,
            };
            match read {
                Ok(0) => return self.at_end().await,
                Ok(octets) => self.octets += octets as u64,
                Err(_) => {
                    self.shared.counters.broken.fetch_add(1, Relaxed);
                    return;
                }
            }
        }
    }

    /// Whether the peer's FIN is there already: then all before it counts as brought. To send
    /// FIN and leave it unread would say to the peer that it was read.
    async fn has_ended(&mut self) -> bool {
        loop {
            let read = self.frames.read(&mut self.stream, CHUNK);
            match tokio::time::timeout(std::time::Duration::ZERO, read).await {
                Ok(Ok(0)) => return self.deliver(Mode::Accept),
                Ok(Ok(octets)) => self.octets += octets as u64,
                Ok(Err(_)) | Err(_) => return false,
            }
        }
    }

    /// Hands on what has been read, as far as `mode` allows; false if the connection is to be
    /// closed for it.
    fn deliver(&mut self, mode: Mode) -> bool {
        let most = match mode {
            Mode::CloseAfter { messages } => messages,
            _ => u64::MAX,
        };
        while self.messages < most {
            match self.frames.next() {
                Ok(Some(message)) if mode.is_closed_by(&message) => return false,
                Ok(Some(message)) => {
                    self.shared.deliver(self.id, &message);
                    self.messages += 1;
                }
                Ok(None) => break,
                Err(_) => {
                    self.shared.counters.malformed.fetch_add(1, Relaxed);
                    return false;
                }
            }
        }
        true
    }

    /// The peer has sent FIN and everything before it was read: closing now sends FIN, not RST.
    async fn at_end(mut self) {
        if self.frames.is_partial() {
            self.shared.counters.partial.fetch_add(1, Relaxed);
        }
        while *self.mode.borrow_and_update() == Mode::Deaf {
            self.until_switched().await;
        }
        if *self.mode.borrow() == Mode::Refuse {
            self.reset();
        }
    }

    async fn half_close(mut self) {
        // An error means that the peer is gone, which changes nothing here.
        let _ = self.stream.shutdown().await;
        self.until_switched().await;
        if *self.mode.borrow() == Mode::Refuse {
            self.reset();
        }
    }

    fn reset(self) {
        self.shared.counters.resets.fetch_add(1, Relaxed);
        // Fails only on a socket that is reset already.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    async fn until_switched(&mut self) {
        if self.mode.changed().await.is_err() {
            // The server has ended, and ends this task with it.
            pending().await
        }
    }
}

/// A socket that keeps its port number until it is closed, listening or not.
fn bind(addr: SocketAddr) -> io::Result<Socket> {
    let chosen = bind_once(addr)?;
    if addr.port() != 0 {
        return Ok(chosen);
    }
    // A number that the system chose is given back by `stop_listening`, one that was asked for is
    // not. Two sockets may have the same while neither listens, so nobody can come between.
    let addr = chosen.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    bind_once(addr)
}

fn bind_once(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

fn listen(socket: Socket) -> io::Result<TcpListener> {
    socket.listen(128)?;
    TcpListener::from_std(socket.into())
}

/// Refuses connects and keeps the port number. Linux: a listening socket that is shut down can
/// listen again. Closing it would not do: a child that is being started has it until it executes.
fn stop_listening(listener: TcpListener) -> io::Result<Socket> {
    let socket = Socket::from(listener.into_std()?);
    socket.shutdown(Shutdown::Both)?;
    Ok(socket)
}

/// Lets a panic of the callback end the server too, so that it comes to light.
fn propagate(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        resume_unwind(error.into_panic());
    }
}
