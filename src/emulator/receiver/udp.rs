//! The UDP side of the receiver: a datagram is a message.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::mode::{Mode, Switch, Switches};
use super::{Shared, Transport};

/// The number under which the callback sees datagrams.
const CONNECTION: u64 = 0;

/// Receive buffer asked of the kernel, in octets; it grants what its own limit allows.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

pub(super) fn start(addr: SocketAddr, shared: Arc<Shared>) -> io::Result<Transport> {
    let socket = open(addr)?;
    let addr = socket.local_addr()?;
    let (switches, orders) = mpsc::channel(1);
    let server = Server { addr, socket: Some(socket), reserved: None, mode: Mode::Accept, shared };
    let task = tokio::spawn(server.run(orders));
    Ok(Transport { addr, switches, task })
}

struct Server {
    addr: SocketAddr,
    /// None while refusing.
    socket: Option<UdpSocket>,
    /// Holds the port number while refusing.
    reserved: Option<UdpSocket>,
    mode: Mode,
    shared: Arc<Shared>,
}

impl Server {
    async fn run(mut self, mut orders: Switches) {
        let mut datagram = vec![0; 65_536];
        loop {
            tokio::select! {
                biased;
                order = orders.recv() => {
                    let Some(Switch { mode, done }) = order else { return };
                    // Whoever asked may have stopped waiting.
                    let _ = done.send(self.switch(mode));
                }
                received = self.receive(&mut datagram) => match received {
                    Ok(length) => self.shared.deliver(CONNECTION, &datagram[..length]),
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                },
            }
        }
    }

    fn switch(&mut self, mode: Mode) -> io::Result<()> {
        self.mode = mode;
        // The next one is there before the last one goes: nobody else gets the number.
        if mode == Mode::Refuse {
            if self.reserved.is_none() {
                self.reserved = Some(reserve(self.addr)?);
            }
            self.socket = None;
        } else if self.socket.is_none() {
            self.socket = Some(open(self.addr)?);
            self.reserved = None;
        }
        Ok(())
    }

    async fn receive(&self, datagram: &mut [u8]) -> io::Result<usize> {
        match (&self.socket, self.mode) {
            (None, _) | (_, Mode::Stall) => pending().await,
            (Some(socket), Mode::Slow { delay, .. }) => {
                tokio::time::sleep(delay).await;
                socket.recv(datagram).await
            }
            (Some(socket), _) => socket.recv(datagram).await,
        }
    }
}

/// A socket that owns the port and yet receives nothing: connected to itself, it accepts no other
/// sender, and the kernel refuses their datagrams.
fn reserve(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = bind(addr)?;
    socket.connect(&addr.into())?;
    UdpSocket::from_std(socket.into())
}

fn open(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = bind(addr)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    UdpSocket::from_std(socket.into())
}

/// Also where this process has the number already, or a child that has not executed its program.
fn bind(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}
