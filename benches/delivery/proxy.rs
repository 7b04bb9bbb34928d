//! A path of some length: passes TCP connections on, each byte half a round trip later.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes under way at most, each way: what a path of this kind holds.
const UNDER_WAY: usize = 32 << 20;

/// Listens on a port of its own and passes everything on to `to`. A connection begins with a
/// round trip in which nothing is taken, as its handshake would. Ends with the process.
pub(crate) fn start(to: SocketAddr, round_trip: Duration) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for near in listener.incoming() {
            let near = near.unwrap();
            thread::spawn(move || {
                thread::sleep(round_trip);
                let far = TcpStream::connect(to).unwrap();
                pass(near.try_clone().unwrap(), far.try_clone().unwrap(), round_trip / 2);
                pass(far, near, round_trip / 2);
            });
        }
    });
    address
}

/// One direction. Its end is passed on as the end of that direction alone.
fn pass(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let path = Arc::new(Path::default());
    let far = Arc::clone(&path);
    thread::spawn(move || {
        loop {
            let mut bytes = vec![0; 256 << 10];
            let read = from.read(&mut bytes).unwrap_or(0);
            bytes.truncate(read);
            path.push(bytes, Instant::now() + delay);
            if read == 0 {
                return;
            }
        }
    });
    thread::spawn(move || {
        loop {
            let (bytes, due) = far.pop();
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if bytes.is_empty() {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            if to.write_all(&bytes).is_err() {
                return;
            }
        }
    });
}

#[derive(Default)]
struct Queue {
    /// What is under way, and when it arrives.
    chunks: VecDeque<(Vec<u8>, Instant)>,
    bytes: usize,
}

#[derive(Default)]
struct Path {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Path {
    fn push(&self, bytes: Vec<u8>, due: Instant) {
        let mut queue = self.queue.lock().unwrap();
        while queue.bytes > UNDER_WAY {
            queue = self.changed.wait(queue).unwrap();
        }
        queue.bytes += bytes.len();
        queue.chunks.push_back((bytes, due));
        self.changed.notify_all();
    }

    fn pop(&self) -> (Vec<u8>, Instant) {
        let mut queue = self.queue.lock().unwrap();
        loop {
            if let Some((bytes, due)) = queue.chunks.pop_front() {
                queue.bytes -= bytes.len();
                self.changed.notify_all();
                return (bytes, due);
            }
            queue = self.changed.wait(queue).unwrap();
        }
    }
}
