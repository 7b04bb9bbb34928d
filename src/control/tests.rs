//! What takes too long, with a server that has little patience.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::server::{Patience, serve_with};
use super::{Answer, Listener, Peer, Refusal};
use crate::inspect::Output;

/// How long anything may take before the test fails.
const DEADLINE: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(100);

/// Sends lines until nobody takes them, and says so.
struct Endless(Sender<std::io::ErrorKind>);

impl Answer for Endless {
    fn dir(&self) -> &Path {
        Path::new("/spool")
    }

    fn answer(&self, _: Value, _: Peer, out: &mut dyn Output) -> Result<Value, Refusal> {
        loop {
            if let Err(error) = out.line(&json!("x".repeat(10_000))) {
                let _ = self.0.send(error.kind());
                return Err(error.into());
            }
        }
    }
}

/// Runs `client` against a server with this patience; returns how the answer ended, if it did.
fn against(
    patience: Patience,
    client: impl FnOnce(BufReader<UnixStream>) -> Option<BufReader<UnixStream>>,
) -> Option<std::io::ErrorKind> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let stop = CancellationToken::new();
    let (ended, end) = channel();
    let listener = {
        let _inside = runtime.enter();
        Listener::bind(&path).unwrap()
    };
    let serving =
        runtime.spawn(serve_with(patience, listener, stop.clone(), Arc::new(Endless(ended))));
    let stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut stream = BufReader::new(stream);
    stream.read_line(&mut String::new()).unwrap();
    let still_there = client(stream);
    let how = still_there.as_ref().map(|_| end.recv_timeout(DEADLINE).unwrap());
    drop(still_there);
    stop.cancel();
    runtime.block_on(serving).unwrap();
    how
}

#[test]
fn who_asks_nothing_or_too_slowly_is_sent_away() {
    let patience = Patience { request: SHORT, stalled: LONG };
    for trickles in [false, true] {
        against(patience, |mut stream| {
            let mut asking = stream.get_ref().try_clone().unwrap();
            let asking = std::thread::spawn(move || {
                // Blanks before the object: the request never ends.
                while trickles && asking.write_all(b" ").is_ok() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            let mut answer = String::new();
            stream.read_line(&mut answer).unwrap();
            assert!(answer.contains("control.request_timeout"), "{answer}");
            asking.join().unwrap();
            None
        });
    }
}

#[test]
fn who_takes_nothing_is_cut_off() {
    let patience = Patience { request: LONG, stalled: SHORT };
    let how = against(patience, |mut stream| {
        stream.get_mut().write_all(b"{\"version\":1}\n").unwrap();
        Some(stream)
    });
    assert_eq!(how, Some(std::io::ErrorKind::BrokenPipe));
}

#[test]
fn who_takes_little_at_a_time_is_not_cut_off() {
    let patience = Patience { request: LONG, stalled: LONG };
    against(patience, |mut stream| {
        stream.get_mut().write_all(b"{\"version\":1}\n").unwrap();
        for _ in 0..300 {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            assert_eq!(line.len(), 10_000 + "{\"line\":\"\"}\n".len());
        }
        None
    });
}
