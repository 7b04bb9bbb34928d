//! A syslog receiver on loopback that can refuse, stall, reset and close at will.
//!
//! It hands every whole message to a callback. [`Receiver::set_mode`] changes its
//! behaviour while peers are connected; the port number never changes. [`Mode`] lists
//! the outages. It parses nothing but the framing.

mod frames;
mod mode;
pub mod relp;
mod tcp;
pub mod tls;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub use mode::Mode;
use mode::Switch;

/// What a receiver calls with each message: the connection's number (from 1; 0 is UDP) and the
/// message without its framing. It runs on the connection's task, so it must not block for long.
pub type Sink = Arc<dyn Fn(u64, &[u8]) + Send + Sync>;

/// Where a receiver listens. Only loopback addresses; port 0 takes any free one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReceiverConfig {
    /// TCP address to listen on.
    pub tcp: Option<SocketAddr>,
    /// UDP address to listen on.
    pub udp: Option<SocketAddr>,
    /// How messages are delimited on TCP.
    pub framing: Framing,
}

/// How messages are delimited on TCP (RFC 6587 §3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// Octet counting for a message that starts with a digit, else LF, as rsyslog does.
    #[default]
    Auto,
    /// Octet counting only; anything else ends the connection.
    OctetCounting,
    /// LF only.
    Lf,
}

/// What a receiver has seen since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Messages handed to the callback.
    pub messages: u64,
    /// TCP connections accepted.
    pub connections: u64,
    /// Connections that the peer ended inside a message.
    pub partial: u64,
    /// Connections this receiver reset.
    pub resets: u64,
    /// Connections that broke from the other side.
    pub broken: u64,
    /// Connections closed because the framing was wrong.
    pub malformed: u64,
}

/// A running receiver. Dropping it stops it some time later, [`Receiver::shutdown`] waits for that.
#[derive(Debug)]
pub struct Receiver {
    tcp: Option<Transport>,
    udp: Option<Transport>,
    shared: Arc<Shared>,
}

impl Receiver {
    /// Binds and starts to accept. Must be called inside a tokio runtime.
    ///
    /// Fails when an address is not loopback or cannot be bound.
    pub fn start(config: ReceiverConfig, sink: Sink) -> io::Result<Receiver> {
        let shared =
            Arc::new(Shared { framing: config.framing, sink, counters: Counters::default() });
        let tcp = config.tcp.map(|at| tcp::start(loopback(at)?, shared.clone())).transpose()?;
        let udp = config.udp.map(|at| udp::start(loopback(at)?, shared.clone())).transpose()?;
        Ok(Receiver { tcp, udp, shared })
    }

    /// The TCP address listened on, now or in another mode.
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().map(|transport| transport.addr)
    }

    /// The UDP address listened on, now or in another mode.
    pub fn udp_addr(&self) -> Option<SocketAddr> {
        self.udp.as_ref().map(|transport| transport.addr)
    }

    /// Changes the behaviour and returns when it has changed: after `Refuse` every connect is
    /// refused and every connection is reset, after any other mode peers can connect. A message
    /// that was being read may still reach the callback.
    ///
    /// Fails when the port cannot be bound again.
    pub async fn set_mode(&self, mode: Mode) -> io::Result<()> {
        for transport in self.tcp.iter().chain(&self.udp) {
            let (done, answer) = oneshot::channel();
            let ended = || io::Error::other("the receiver has ended");
            transport.switches.send(Switch { mode, done }).await.map_err(|_| ended())?;
            answer.await.map_err(|_| ended())??;
        }
        Ok(())
    }

    /// What it has seen so far.
    pub fn counts(&self) -> Counts {
        self.shared.counters.read()
    }

    /// Closes all sockets and waits for the tasks. A panic of the callback goes on here.
    pub async fn shutdown(self) -> Counts {
        for Transport { switches, task, .. } in self.tcp.into_iter().chain(self.udp) {
            drop(switches);
            if let Err(error) = task.await
                && error.is_panic()
            {
                resume_unwind(error.into_panic());
            }
        }
        self.shared.counters.read()
    }
}

/// One socket's task and the way to it.
#[derive(Debug)]
struct Transport {
    addr: SocketAddr,
    switches: mpsc::Sender<Switch>,
    task: JoinHandle<()>,
}

/// What the tasks of one receiver share.
struct Shared {
    framing: Framing,
    sink: Sink,
    counters: Counters,
}

impl Shared {
    fn deliver(&self, connection: u64, message: &[u8]) {
        (self.sink)(connection, message);
        self.counters.messages.fetch_add(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.counters.read().fmt(f)
    }
}

#[derive(Default)]
struct Counters {
    messages: AtomicU64,
    connections: AtomicU64,
    partial: AtomicU64,
    resets: AtomicU64,
    broken: AtomicU64,
    malformed: AtomicU64,
}

impl Counters {
    fn read(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            messages: read(&self.messages),
            connections: read(&self.connections),
            partial: read(&self.partial),
            resets: read(&self.resets),
            broken: read(&self.broken),
            malformed: read(&self.malformed),
        }
    }
}

fn loopback(addr: SocketAddr) -> io::Result<SocketAddr> {
    if addr.ip().is_loopback() {
        return Ok(addr);
    }
    let text = format!("{addr} is not a loopback address; the emulator listens on loopback only");
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}
