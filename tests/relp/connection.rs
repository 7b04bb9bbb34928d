use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sls_relay::emulator::receiver::relp::{RelpMode, RelpReceiver};
use sls_relay::syslog::transport::relp::session::Window;
use sls_relay::syslog::transport::{DrainError, RelpConnection, RelpSettings, TcpSettings};
use sls_relay::syslog::{Frames, Scheme, SendError, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::pipeline::DEADLINE;

type Seen = Arc<Mutex<Vec<String>>>;

fn server() -> (RelpReceiver, Seen) {
    let seen = Seen::default();
    let sink = seen.clone();
    let keep = move |_, message: &[u8]| {
        sink.lock().unwrap().push(String::from_utf8(message.to_vec()).unwrap());
    };
    let receiver = RelpReceiver::start("127.0.0.1:0".parse().unwrap(), Arc::new(keep)).unwrap();
    (receiver, seen)
}

fn target(at: SocketAddr) -> Target {
    Target { scheme: Scheme::Relp, host: at.ip().to_string(), port: at.port() }
}

/// A session with a window of 10 messages and 4,000 octets.
async fn open(at: SocketAddr) -> Result<RelpConnection, SendError> {
    let window = Window { messages: 10, bytes: 4000 };
    let settings = RelpSettings { window, ..RelpSettings::default() };
    in_time(RelpConnection::connect(&target(at), &settings)).await
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("the deadline of the test has passed")
}

fn numbered(numbers: std::ops::Range<u32>) -> Frames {
    let mut frames = Frames::new();
    for number in numbers {
        frames.push(|out| {
            out.extend_from_slice(format!("<14>1 - - - - - - number {number}\n\0").as_bytes())
        });
    }
    frames
}

fn texts(frames: &Frames) -> Vec<String> {
    frames.iter().map(|text| String::from_utf8(text.to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn every_message_arrives_as_it_is_and_is_proven_by_its_acknowledgement() {
    for mode in
        [RelpMode::Accept, RelpMode::Backwards, RelpMode::Late { delay: Duration::from_millis(5) }]
    {
        let (server, seen) = server();
        server.set_mode(mode.clone());
        let mut connection = open(server.addr()).await.unwrap();
        assert_eq!((connection.written(), connection.proven()), (0, 0));
        let mut frames = numbered(0..100);
        // Larger than the whole window, and than the buffers that are gathered.
        frames.push(|out| out.resize(out.len() + 100_000, b'x'));
        in_time(connection.write(&frames)).await.unwrap();
        assert_eq!(connection.written(), 101);
        assert!(connection.proven() >= 90, "{mode:?}: no more than a window is under way");
        in_time(async {
            while connection.proven() < 101 {
                connection.watch().await.unwrap();
            }
        })
        .await;
        in_time(connection.drain(DEADLINE)).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), texts(&frames), "{mode:?}");
        assert_eq!(server.counts().closed, 1, "{mode:?}");
        assert_eq!(server.counts().malformed, 0);
    }
}

#[tokio::test]
async fn a_drain_waits_for_acknowledgements_as_long_as_they_come() {
    let (server, seen) = server();
    server.set_mode(RelpMode::Late { delay: Duration::from_millis(100) });
    let mut connection = open(server.addr()).await.unwrap();
    let frames = numbered(0..10);
    in_time(connection.write(&frames)).await.unwrap();
    in_time(connection.drain(DEADLINE)).await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 10);
}

#[tokio::test]
async fn a_server_that_acknowledges_nothing_proves_nothing() {
    let (server, seen) = server();
    server.set_mode(RelpMode::Silent);
    let mut connection = open(server.addr()).await.unwrap();
    in_time(connection.write(&numbered(0..10))).await.unwrap();
    let more = numbered(10..11);
    let full = tokio::time::timeout(Duration::from_millis(200), connection.write(&more));
    assert!(full.await.is_err(), "the window is full");
    assert_eq!((connection.written(), connection.proven()), (10, 0));
    let error = in_time(connection.drain(Duration::from_millis(200))).await.unwrap_err();
    assert_eq!(error.code(), "syslog.unacknowledged");
    assert!(error.to_string().contains("10 messages"), "{error}");
    assert_eq!(seen.lock().unwrap().len(), 10);

    // Without a drain it is given up after the stall timeout, though it reads.
    let tcp = TcpSettings { stall_timeout: Duration::from_millis(300), ..TcpSettings::default() };
    let settings = RelpSettings { tcp, ..RelpSettings::default() };
    let connected = RelpConnection::connect(&target(server.addr()), &settings).await;
    let mut connection = connected.unwrap();
    in_time(connection.write(&numbered(0..1))).await.unwrap();
    assert_eq!(in_time(connection.idle()).await.code(), "syslog.unacknowledged");
}

#[tokio::test]
async fn a_refused_message_is_named_by_its_place_on_the_connection() {
    let (server, seen) = server();
    server.set_mode(RelpMode::Refuse { text: "number 7".to_owned() });
    let mut connection = open(server.addr()).await.unwrap();
    let sent = in_time(connection.write(&numbered(0..8))).await;
    let error = match sent {
        Ok(()) => in_time(connection.idle()).await,
        Err(error) => error,
    };
    assert_eq!(error.code(), "syslog.message_refused");
    let SendError::MessageRefused { index, status, text, .. } = error else { panic!("{error}") };
    assert_eq!((index, status, text.as_str()), (7, 500, "this one not"));
    assert_eq!(connection.proven(), 7);
    assert_eq!(seen.lock().unwrap().len(), 7);
}

#[tokio::test]
async fn what_was_acknowledged_before_the_end_stays_proven() {
    for (mode, codes) in [
        (RelpMode::ServerClose { messages: 4 }, ["syslog.closed_by_peer", "syslog.reset"]),
        (RelpMode::Garbage { messages: 4 }, ["syslog.relp_frame", "syslog.relp_frame"]),
        (RelpMode::DieAfterAck { messages: 4, kept: 2 }, ["syslog.closed_by_peer", "syslog.reset"]),
    ] {
        let (server, _) = server();
        server.set_mode(mode.clone());
        let mut connection = open(server.addr()).await.unwrap();
        in_time(connection.write(&numbered(0..4))).await.unwrap();
        while connection.proven() < 4 {
            in_time(connection.watch()).await.unwrap();
        }
        let error = in_time(async {
            if let Err(error) = connection.write(&numbered(4..8)).await {
                return error;
            }
            connection.idle().await
        })
        .await;
        assert!(codes.contains(&error.code()), "{mode:?}: {error}");
        assert_eq!(connection.proven(), 4, "{mode:?}: {error}");
        let drained = in_time(connection.drain(DEADLINE)).await;
        assert!(matches!(drained, Err(DrainError::Broken(_))), "{mode:?}");
    }
}

#[tokio::test]
async fn a_server_that_goes_after_everything_is_acknowledged_takes_nothing_back() {
    let (server, _) = server();
    server.set_mode(RelpMode::ServerClose { messages: 4 });
    let mut connection = open(server.addr()).await.unwrap();
    in_time(connection.write(&numbered(0..4))).await.unwrap();
    while connection.proven() < 4 {
        in_time(connection.watch()).await.unwrap();
    }
    drop(server);
    in_time(connection.drain(DEADLINE)).await.unwrap();
}

#[tokio::test]
async fn a_session_that_does_not_open_says_why() {
    let (server, _) = server();
    server.set_mode(RelpMode::RefuseOpen);
    let error = open(server.addr()).await.unwrap_err();
    assert_eq!(error.code(), "syslog.relp_open_refused");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("500 not today"), "{source}");

    for (answer, code) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "syslog.relp_frame"),
        (b"1 rsp 32 200 OK\nrelp_version=0\ncommands=x\n", "syslog.relp_offers"),
        (b"0 serverclose 0\n", "syslog.closed_by_peer"),
        (b"", "syslog.closed_by_peer"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let peer = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut open = [0; 256];
            let read = stream.read(&mut open).await.unwrap();
            stream.write_all(answer).await.unwrap();
            stream.shutdown().await.unwrap();
            open[..read].to_vec()
        });
        assert_eq!(open(at).await.unwrap_err().code(), code, "{}", answer.escape_ascii());
        assert!(in_time(peer).await.unwrap().starts_with(b"1 open "));
    }
}

#[tokio::test]
async fn a_peer_that_never_answers_the_opening_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp = TcpSettings { connect_timeout: Duration::from_millis(300), ..TcpSettings::default() };
    let settings = RelpSettings { tcp, ..RelpSettings::default() };
    let at = target(listener.local_addr().unwrap());
    let error = in_time(RelpConnection::connect(&at, &settings)).await.unwrap_err();
    assert_eq!(error.code(), "syslog.unacknowledged");
}
