//! The control socket with a real server: what it answers, and what a client can do to it.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use sls_relay::control::{
    Answer, BindError, CONNECTIONS, Client, ClientError, LONGEST_LINE, LONGEST_PATH,
    LONGEST_REQUEST, Listener, Peer, Refusal, Reply, serve,
};
use sls_relay::inspect::Output;
use tokio_util::sync::CancellationToken;

/// How long anything may take before the test fails.
const DEADLINE: Duration = Duration::from_secs(60);

/// Answers what a test needs, and tells it what happened.
#[derive(Default)]
struct Subject {
    dir: PathBuf,
    sent: AtomicUsize,
    following: AtomicUsize,
    ended: AtomicUsize,
    peers: Mutex<Vec<Peer>>,
    gate: (Mutex<bool>, Condvar),
}

impl Answer for Subject {
    fn dir(&self) -> &Path {
        &self.dir
    }

    fn answer(&self, request: Value, peer: Peer, out: &mut dyn Output) -> Result<Value, Refusal> {
        let answered = match request["ask"].as_str() {
            Some("count") => {
                for number in 0..request["to"].as_u64().unwrap() {
                    out.progress(number, 10);
                    out.line(&json!(number))?;
                }
                Ok(json!({ "done": true }))
            }
            Some("endless") => loop {
                let line = json!([self.sent.load(Ordering::SeqCst), "x".repeat(64 << 10)]);
                if let Err(error) = out.line(&line) {
                    break Err(error.into());
                }
                self.sent.fetch_add(1, Ordering::SeqCst);
            },
            Some("follow") => {
                self.following.fetch_add(1, Ordering::SeqCst);
                while out.is_wanted() {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(Value::Null)
            }
            Some("gate") => {
                self.following.fetch_add(1, Ordering::SeqCst);
                let (open, opened) = &self.gate;
                drop(opened.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
                Ok(json!({ "wanted": out.is_wanted() }))
            }
            Some("held") => {
                self.following.fetch_add(1, Ordering::SeqCst);
                let (open, opened) = &self.gate;
                drop(opened.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
                Ok(json!({ "done": true }))
            }
            Some("long") => {
                let long = "y".repeat(usize::try_from(request["bytes"].as_u64().unwrap()).unwrap());
                let refused = out.line(&json!(long)).map_err(|error| format!("{:?}", error.kind()));
                Ok(json!({ "refused": refused.err() }))
            }
            Some("panic") => panic!("as the test wants"),
            Some("length") => Ok(json!({ "bytes": request["text"].as_str().unwrap().len() })),
            _ => Err(Refusal::new("test.unknown", "ask something else")),
        };
        self.peers.lock().unwrap().push(peer);
        self.ended.fetch_add(1, Ordering::SeqCst);
        answered
    }
}

/// A server that runs.
struct Server {
    subject: Arc<Subject>,
    stop: CancellationToken,
    path: PathBuf,
    runtime: tokio::runtime::Runtime,
    serving: Option<tokio::task::JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let stop = CancellationToken::new();
        let subject = Arc::new(Subject { dir: "/the/spool".into(), ..Subject::default() });
        let listener = {
            let _inside = runtime.enter();
            Listener::bind(&path).unwrap()
        };
        let answer: Arc<dyn Answer> = Arc::clone(&subject) as _;
        let serving = Some(runtime.spawn(serve(listener, stop.clone(), answer)));
        Self { subject, stop, path, runtime, serving, _dir: dir }
    }

    fn client(&self) -> Client {
        Client::connect(&self.path).unwrap().unwrap()
    }

    /// Asks; returns the lines and the end.
    fn ask(&self, request: Value) -> (Vec<Value>, Result<Map<String, Value>, ClientError>) {
        ask(self.client(), request)
    }

    /// A connection whose hello is read, without a client's good manners.
    fn raw(&self) -> BufReader<UnixStream> {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut stream = BufReader::new(stream);
        let hello = line(&mut stream).unwrap();
        assert_eq!(hello["hello"]["version"], 1, "{hello}");
        assert_eq!(hello["hello"]["dir"], "/the/spool");
        stream
    }

    /// The code that the server answers these bytes with, and how the connection ends.
    fn code_for(&self, bytes: &[u8]) -> String {
        let mut stream = self.raw();
        // A server that refuses early does not read everything.
        let _ = stream.get_mut().write_all(bytes);
        let _ = stream.get_mut().shutdown(Shutdown::Write);
        let answer = line(&mut stream).unwrap();
        assert_eq!(line(&mut stream), None, "the connection is closed");
        answer["error"]["code"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    fn is_alive(&self) {
        let (lines, end) = self.ask(json!({ "ask": "count", "to": 3 }));
        assert_eq!(
            (lines, end.unwrap()["done"].clone()),
            (vec![0.into(), 1.into(), 2.into()], true.into())
        );
    }

    /// Stops; the server must end though nobody helps.
    fn stopped(&mut self) {
        self.stop.cancel();
        let serving = self.serving.take().unwrap();
        self.runtime
            .block_on(async { tokio::time::timeout(DEADLINE, serving).await })
            .unwrap()
            .unwrap();
        assert!(!self.path.exists(), "the socket is removed");
        assert!(Client::connect(&self.path).unwrap().is_none());
    }
}

fn ask(client: Client, request: Value) -> (Vec<Value>, Result<Map<String, Value>, ClientError>) {
    let Value::Object(request) = request else { panic!("a request is an object") };
    let mut lines = Vec::new();
    let end = client.ask(request, &mut |reply| {
        if let Reply::Line(line) = reply {
            lines.push(line);
        }
    });
    (lines, end)
}

/// The next line, or none where the connection has ended.
fn line(stream: &mut BufReader<UnixStream>) -> Option<Value> {
    let mut text = String::new();
    match stream.read_line(&mut text) {
        // What was sent and not read by the other side ends a connection with a reset.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
        read => (read.unwrap() > 0).then(|| serde_json::from_str(&text).unwrap()),
    }
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_answer_comes_line_by_line_and_the_server_knows_who_asks() {
    let server = Server::start();
    let client = server.client();
    assert_eq!(client.hello().dir, "/the/spool");
    assert!(client.hello().program.starts_with("sls-relay "));
    let mut progress = 0;
    let Value::Object(request) = json!({ "ask": "count", "to": 3 }) else { unreachable!() };
    let end = client.ask(request, &mut |reply| {
        progress += usize::from(reply == Reply::Progress(0, 10));
    });
    assert_eq!((Value::from(end.unwrap()), progress), (json!({ "done": true }), 1));
    let peer = server.subject.peers.lock().unwrap()[0];
    assert_eq!(peer.pid, Some(i32::try_from(std::process::id()).unwrap()));
    assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
    assert_eq!(peer.gid, rustix::process::getegid().as_raw());

    let refused = server.ask(json!({ "ask": "what" })).1.unwrap_err();
    assert_eq!(
        (refused.code(), refused.to_string().as_str()),
        ("test.unknown", "ask something else")
    );
}

#[test]
fn whatever_is_sent_gets_a_reason_and_the_next_client_an_answer() {
    let server = Server::start();
    for (bytes, code) in [
        (&b"\n"[..], "control.bad_request"),
        (b"{\n", "control.bad_request"),
        (b"[1]\n", "control.bad_request"),
        (b"\xff\xfe\0\n", "control.bad_request"),
        (b"{\"version\":1,\"ask\":\"count\"", "control.bad_request"),
        (b"{\"ask\":\"count\",\"to\":1}\n", "control.version"),
        (b"{\"version\":2,\"ask\":\"count\",\"to\":1}\n", "control.version"),
        (b"{\"version\":1}\n{\"version\":1,\"ask\":\"count\"}\n", "test.unknown"),
        (&"[".repeat(LONGEST_REQUEST - 1).into_bytes(), "control.bad_request"),
        (&vec![b'['; 1 << 20], "control.request_too_large"),
        (&vec![b'\n'; 1 << 20], "control.bad_request"),
    ] {
        assert_eq!(server.code_for(bytes), code, "{:?}…", bytes.get(..40));
        server.is_alive();
    }
    drop(server.raw());
    server.is_alive();
}

#[test]
fn the_longest_request_is_answered_and_one_byte_more_is_not() {
    let server = Server::start();
    let request = |bytes: usize| {
        let frame = "{\"version\":1,\"ask\":\"length\",\"text\":\"\"}\n".len();
        format!("{{\"version\":1,\"ask\":\"length\",\"text\":\"{}\"}}\n", "z".repeat(bytes - frame))
    };
    let mut stream = server.raw();
    stream.get_mut().write_all(request(LONGEST_REQUEST).as_bytes()).unwrap();
    let answer = line(&mut stream).unwrap();
    assert!(answer["end"]["bytes"].as_u64().unwrap() > 65_000, "{answer}");
    let longer = request(LONGEST_REQUEST + 1);
    assert_eq!(server.code_for(longer.as_bytes()), "control.request_too_large");
    let text = "z".repeat(LONGEST_REQUEST);
    let error = server.ask(json!({ "ask": "length", "text": text })).1.unwrap_err();
    assert_eq!(error.code(), "control.request_too_large");
}

#[test]
fn a_request_in_pieces_is_one_request() {
    let server = Server::start();
    let mut stream = server.raw();
    for byte in b"{\"version\":1,\"ask\":\"count\",\"to\":1}\n" {
        stream.get_mut().write_all(&[*byte]).unwrap();
    }
    assert_eq!(line(&mut stream).unwrap(), json!({ "progress": { "done": 0, "of": 10 } }));
    assert_eq!(line(&mut stream).unwrap(), json!({ "line": 0 }));
    assert_eq!(line(&mut stream).unwrap(), json!({ "end": { "done": true } }));
    assert_eq!(line(&mut stream), None);
}

#[test]
fn one_connection_too_many_is_told_so_and_places_come_free() {
    let server = Server::start();
    let mut held: Vec<_> = (0..CONNECTIONS).map(|_| server.raw()).collect();
    for stream in &mut held {
        stream.get_mut().write_all(b"{\"version\":1,\"ask\":\"follow\"}\n").unwrap();
    }
    wait_for("all to follow", || server.subject.following.load(Ordering::SeqCst) == CONNECTIONS);
    let refused = server.ask(json!({ "ask": "count", "to": 1 })).1.unwrap_err();
    assert_eq!(refused.code(), "control.busy");
    held.pop();
    wait_for("a place", || server.ask(json!({ "ask": "count", "to": 1 })).1.is_ok());
    drop(held);
    // Those that come and go at once leave nothing behind.
    for _ in 0..200 {
        drop(UnixStream::connect(&server.path).unwrap());
    }
    wait_for("a place", || server.ask(json!({ "ask": "count", "to": 1 })).1.is_ok());
}

#[test]
fn a_client_that_does_not_read_holds_up_its_answer_and_nothing_else() {
    let server = Server::start();
    let mut slow = server.raw();
    slow.get_mut().write_all(b"{\"version\":1,\"ask\":\"endless\"}\n").unwrap();
    wait_for("lines", || server.subject.sent.load(Ordering::SeqCst) > 5);
    for _ in 0..100 {
        server.is_alive();
    }
    // The queue, what is being written, and the buffers of the kernel.
    let sent = server.subject.sent.load(Ordering::SeqCst);
    assert!(sent < 64, "{sent} lines of 64 KiB are somewhere");
    for number in 0..200 {
        assert_eq!(line(&mut slow).unwrap()["line"][0], number, "each once, in order");
    }
    let ended = server.subject.ended.load(Ordering::SeqCst);
    drop(slow);
    wait_for("the answer to end", || server.subject.ended.load(Ordering::SeqCst) > ended);
}

#[test]
fn an_answer_sees_that_its_client_is_gone_though_it_says_nothing() {
    let server = Server::start();
    let mut gone = server.raw();
    gone.get_mut().write_all(b"{\"version\":1,\"ask\":\"follow\"}\n").unwrap();
    wait_for("the answer to begin", || server.subject.following.load(Ordering::SeqCst) == 1);
    assert_eq!(server.subject.ended.load(Ordering::SeqCst), 0);
    drop(gone);
    wait_for("the answer to end", || server.subject.ended.load(Ordering::SeqCst) == 1);
}

#[test]
fn a_client_that_closed_its_writing_half_still_waits() {
    let server = Server::start();
    let mut half = server.raw();
    half.get_mut().write_all(b"{\"version\":1,\"ask\":\"gate\"}\n").unwrap();
    wait_for("the answer to begin", || server.subject.following.load(Ordering::SeqCst) == 1);
    half.get_mut().shutdown(Shutdown::Write).unwrap();
    *server.subject.gate.0.lock().unwrap() = true;
    server.subject.gate.1.notify_all();
    assert_eq!(line(&mut half).unwrap(), json!({ "end": { "wanted": true } }));
}

#[test]
fn a_long_line_arrives_whole_and_one_that_is_too_long_not_at_all() {
    let server = Server::start();
    let (lines, end) = server.ask(json!({ "ask": "long", "bytes": 5 << 20 }));
    assert_eq!(lines[0].as_str().unwrap().len(), 5 << 20);
    assert_eq!(end.unwrap()["refused"], Value::Null);
    let (lines, end) = server.ask(json!({ "ask": "long", "bytes": LONGEST_LINE }));
    assert!(lines.is_empty());
    assert_eq!(end.unwrap()["refused"], "InvalidInput");
}

#[test]
fn an_answer_that_panics_ends_with_an_error_and_the_server_goes_on() {
    let server = Server::start();
    let error = server.ask(json!({ "ask": "panic" })).1.unwrap_err();
    assert_eq!(error.code(), "control.failed");
    server.is_alive();
}

#[test]
fn a_stop_is_told_to_everyone_who_waits() {
    let mut server = Server::start();
    let client = server.client();
    let waiting = std::thread::spawn(move || ask(client, json!({ "ask": "follow" })).1);
    wait_for("the answer to begin", || server.subject.following.load(Ordering::SeqCst) == 1);
    let mut idle = server.raw();
    let mut stalled = server.raw();
    stalled.get_mut().write_all(b"{\"version\":1,\"ask\":\"endless\"}\n").unwrap();
    wait_for("lines", || server.subject.sent.load(Ordering::SeqCst) > 5);
    server.stopped();
    let error = waiting.join().unwrap().unwrap_err();
    assert_eq!(error.code(), "control.stopping");
    assert_eq!(line(&mut idle).unwrap()["error"]["code"], "control.stopping");
    let mut rest = Vec::new();
    stalled.read_to_end(&mut rest).unwrap();
    let rest = String::from_utf8_lossy(&rest);
    assert!(!rest.contains("{\"end\""), "an answer that was cut off does not look complete");
    wait_for("the answers to end", || server.subject.ended.load(Ordering::SeqCst) == 2);
}

#[test]
fn what_is_done_while_the_relay_stops_is_told_as_done() {
    let mut server = Server::start();
    let client = server.client();
    let waiting = std::thread::spawn(move || ask(client, json!({ "ask": "held" })).1);
    wait_for("the order to begin", || server.subject.following.load(Ordering::SeqCst) == 1);
    server.stop.cancel();
    *server.subject.gate.0.lock().unwrap() = true;
    server.subject.gate.1.notify_all();
    assert_eq!(waiting.join().unwrap().unwrap()["done"], true);
    server.stopped();
}

#[tokio::test]
async fn the_socket_is_for_its_user_and_group_and_leaves_nothing_else_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.sock");
    // What a relay leaves that is killed while it makes the socket.
    std::fs::create_dir(dir.path().join(".c.sock")).unwrap();
    drop(UnixListener::bind(dir.path().join(".c.sock/s")).unwrap());
    let listener = Listener::bind(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o660);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    assert_eq!(listener.path(), path);
    drop(listener);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn only_a_socket_that_nobody_answers_on_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(Client::connect(&path).unwrap().is_none(), "nobody listens any more");
    let first = Listener::bind(&path).unwrap();
    assert!(matches!(Listener::bind(&path), Err(BindError::InUse { .. })));
    assert!(path.exists());
    // Whose file it is not any more, the first does not remove.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    drop(first);
    assert!(matches!(Listener::bind(&path), Err(BindError::NoSocket { .. })));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    let full = UnixListener::bind(dir.path().join("full")).unwrap();
    let mut waiting = Vec::new();
    loop {
        let socket =
            socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        match socket.connect(&socket2::SockAddr::unix(dir.path().join("full")).unwrap()) {
            Ok(()) => waiting.push(socket),
            Err(_) => break,
        }
    }
    let bound = Listener::bind(&dir.path().join("full"));
    assert!(matches!(bound, Err(BindError::InUse { .. })), "it does not accept now: {bound:?}");
    drop(full);
    let absent = Listener::bind(&dir.path().join("absent/control.sock")).unwrap_err();
    assert!(matches!(absent, BindError::Io { .. }), "{absent}");
}

#[tokio::test]
async fn a_path_that_no_socket_can_have_is_told_with_its_length() {
    let dir = tempfile::tempdir().unwrap();
    let room = LONGEST_PATH - dir.path().as_os_str().len() - 1;
    let longest = dir.path().join("s".repeat(room));
    drop(Listener::bind(&longest).unwrap());
    let error = Listener::bind(&dir.path().join("s".repeat(room + 1))).unwrap_err();
    assert!(error.to_string().contains("105 bytes"), "{error}");
    assert!(Client::connect(&dir.path().join("s".repeat(200))).unwrap().is_none());
}

#[test]
fn a_client_says_what_is_wrong_with_what_answers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    assert!(Client::connect(&path).unwrap().is_none(), "there is no socket");
    assert!(Client::connect(&path.join("beneath")).unwrap().is_none());
    for (first, code) in [
        (
            "{\"hello\":{\"version\":7,\"program\":\"sls-relay 9\",\"dir\":\"/\"}}\n",
            "control.version",
        ),
        ("{\"line\":1}\n", "control.not_understood"),
        ("220 mail.example ESMTP\u{1b}[2J\n", "control.not_understood"),
    ] {
        let listener = UnixListener::bind(&path).unwrap();
        let other = std::thread::spawn(move || {
            listener.accept().unwrap().0.write_all(first.as_bytes()).unwrap();
        });
        let error = Client::connect(&path).unwrap_err();
        other.join().unwrap();
        assert_eq!(error.code(), code, "{error}");
        assert!(!error.to_string().contains('\u{1b}'), "{error}");
        std::fs::remove_file(&path).unwrap();
    }
    let listener = UnixListener::bind(&path).unwrap();
    let other = std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let hello =
            "{\"hello\":{\"version\":1,\"program\":\"p\",\"dir\":\"/\"}}\n{\"line\":1}\n{\"end\":";
        stream.write_all(hello.as_bytes()).unwrap();
        let _ = BufReader::new(stream).read_line(&mut String::new());
    });
    let (lines, end) = ask(Client::connect(&path).unwrap().unwrap(), json!({ "ask": "x" }));
    other.join().unwrap();
    assert_eq!((lines, end.unwrap_err().code()), (vec![json!(1)], "control.cut_off"));
}

#[test]
fn who_may_not_connect_is_told_the_group_that_may() {
    let server = Server::start();
    std::fs::set_permissions(server.path.parent().unwrap(), std::fs::Permissions::from_mode(0o755))
        .unwrap();
    let path = server.path.clone();
    let error = std::thread::spawn(move || {
        if rustix::process::geteuid().is_root() {
            let (uid, gid) =
                (rustix::thread::Uid::from_raw(65534), rustix::thread::Gid::from_raw(65534));
            rustix::thread::set_thread_groups(&[]).unwrap();
            rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
        } else {
            // The owner without the right is no better than a stranger.
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o060)).unwrap();
        }
        Client::connect(&path).unwrap_err()
    })
    .join()
    .unwrap();
    assert_eq!(error.code(), "control.denied");
    assert!(error.to_string().contains("add yourself to the group "), "{error}");
}
