//! A syslog receiver over TLS on loopback whose handshakes fail at will.
//!
//! It reads octet-counted frames, hands every whole message on, and answers the end of a
//! connection with its own.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::frames::Frames;
use super::{Framing, Sink, loopback};

/// The most that is read at once, in octets.
const CHUNK: usize = 64 << 10;

/// What a TLS receiver does with connections.
#[derive(Clone, Debug)]
pub enum TlsMode {
    /// Shakes hands as this configuration has it, and reads.
    Serve(Arc<ServerConfig>),
    /// Accepts connections and reads nothing: no hello is answered until it serves again.
    Silent,
}

/// A running TLS receiver. Dropping it ends it and its connections.
#[derive(Debug)]
pub struct TlsReceiver {
    addr: SocketAddr,
    mode: watch::Sender<TlsMode>,
    task: JoinHandle<()>,
}

impl TlsReceiver {
    /// Binds and starts to accept. Must be called inside a tokio runtime; port 0 takes any.
    ///
    /// # Errors
    /// When the address is not loopback or cannot be bound.
    pub fn start(addr: SocketAddr, mode: TlsMode, sink: Sink) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(loopback(addr)?)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let addr = listener.local_addr()?;
        let mode = watch::Sender::new(mode);
        let task = tokio::spawn(accept(listener, mode.clone(), sink));
        Ok(Self { addr, mode, task })
    }

    /// The address listened on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Changes what happens to connections from now on. Those that are served are reset, those
    /// that waited in silence are served.
    pub fn set_mode(&self, mode: TlsMode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for TlsReceiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, mode: watch::Sender<TlsMode>, sink: Sink) {
    let mut open = JoinSet::new();
    let mut id = 0;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    id += 1;
                    open.spawn(connection(stream, mode.subscribe(), sink.clone(), id));
                }
                // Out of descriptors, or the peer is gone already.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = open.join_next() => {}
        }
    }
}

/// One connection. Errors are the peer's end, or ours on purpose: there is nobody to tell.
async fn connection(stream: TcpStream, mut mode: watch::Receiver<TlsMode>, sink: Sink, id: u64) {
    let config = loop {
        match &*mode.borrow_and_update() {
            TlsMode::Serve(config) => break config.clone(),
            TlsMode::Silent => {}
        }
        switched(&mut mode).await;
    };
    let shaken = tokio::select! {
        shaken = TlsAcceptor::from(config).accept(stream) => shaken,
        () = switched(&mut mode) => return,
    };
    let Ok(mut stream) = shaken else { return };
    tokio::select! {
        biased;
        () = switched(&mut mode) => {}
        read = read(&mut stream, &sink, id) => {
            if read.is_ok() {
                // The peer may be gone: it has said all.
                let _ = stream.shutdown().await;
                return;
            }
        }
    }
    // Fails only on a socket that is reset already.
    let _ = SockRef::from(stream.get_ref().0).set_linger(Some(Duration::ZERO));
}

/// Hands every message on until the peer's orderly end.
async fn read(stream: &mut TlsStream<TcpStream>, sink: &Sink, id: u64) -> io::Result<()> {
    let mut frames = Frames::new(Framing::OctetCounting);
    while frames.read(stream, CHUNK).await? > 0 {
        while let Some(message) = frames.next().map_err(|_| io::ErrorKind::InvalidData)? {
            sink(id, &message);
        }
    }
    Ok(())
}

async fn switched(mode: &mut watch::Receiver<TlsMode>) {
    if mode.changed().await.is_err() {
        // The receiver has ended, and ends this task with it.
        pending().await
    }
}
