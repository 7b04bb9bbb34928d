//! What the ends of a connection prove, and that nothing is lost on the way there.

use std::time::Duration;

use sls_relay::syslog::DrainError;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::server::TlsStream;

use super::*;
use crate::server::{Counted, Server, VERSIONS};

/// For waits whose end is what the test expects.
const SHORT: Duration = Duration::from_millis(300);

/// Bytes in which a missing, doubled or moved part shows.
fn numbered(len: usize) -> Vec<u8> {
    (0..len as u64 / 8).flat_map(u64::to_le_bytes).collect()
}

async fn pair(
    version: &'static rustls::SupportedProtocolVersion,
) -> (TlsConnection, TlsStream<Counted>, Server, Scene) {
    let scene = Scene::new();
    let server = Server::new(&scene.server, version).await;
    let target = server.target();
    let (connection, accepted) = tokio::join!(connect(&target, scene.trusting()), server.accept());
    (connection.unwrap(), accepted.unwrap(), server, scene)
}

async fn pair13() -> (TlsConnection, TlsStream<Counted>, Server, Scene) {
    pair(&rustls::version::TLS13).await
}

#[tokio::test]
async fn a_drain_is_proven_by_a_receiver_that_reads_all_and_closes() {
    for version in VERSIONS {
        let (mut connection, mut stream, server, _scene) = pair(version).await;
        let sent = numbered(4 << 20);
        let receiver = tokio::spawn(async move {
            let mut received = Vec::new();
            // Ends without an error only after a close_notify.
            stream.read_to_end(&mut received).await.unwrap();
            stream.shutdown().await.unwrap();
            received
        });
        for chunk in sent.chunks(64 << 10) {
            in_time(connection.write(chunk)).await.unwrap();
        }
        let written = connection.written();
        in_time(connection.drain(DEADLINE)).await.unwrap();
        assert!(in_time(receiver).await.unwrap() == sent);
        // Offsets are those of the ciphertext; only the close_notify came after them.
        assert!(written > sent.len() as u64);
        let after = server.ciphertext() - written;
        assert!((1..100).contains(&after), "{after} bytes after the last message");
    }
}

#[tokio::test]
async fn a_receiver_that_reads_late_gets_everything_although_it_sent_tickets() {
    let (mut connection, mut stream, _server, _scene) = pair13().await;
    let sent = numbered(1 << 20);
    let expected = sent.clone();
    // The tickets of the handshake and more of the receiver's talk are there before the end.
    in_time(stream.write_all(&[b'!'; 10_000])).await.unwrap();
    let receiver = tokio::spawn(async move {
        let mut first = [0; 1];
        stream.read_exact(&mut first).await.unwrap();
        tokio::time::sleep(SHORT).await;
        let mut received = first.to_vec();
        stream.read_to_end(&mut received).await.unwrap();
        received == expected
    });
    in_time(connection.write(&sent)).await.unwrap();
    in_time(connection.drain(DEADLINE)).await.unwrap();
    assert!(in_time(receiver).await.unwrap());
}

#[tokio::test]
async fn after_our_end_a_receivers_end_without_close_notify_is_a_proof() {
    for version in VERSIONS {
        let (mut connection, mut stream, _server, _scene) = pair(version).await;
        in_time(connection.write(b"5 hello")).await.unwrap();
        let receiver = tokio::spawn(async move {
            let mut received = Vec::new();
            stream.read_to_end(&mut received).await.unwrap();
            // As GnuTLS receivers do.
            stream.get_mut().0.stream.shutdown().await.unwrap();
            received
        });
        in_time(connection.drain(DEADLINE)).await.unwrap();
        assert_eq!(in_time(receiver).await.unwrap(), b"5 hello");
    }
}

#[tokio::test]
async fn a_close_notify_without_the_end_of_the_stream_is_no_proof() {
    let (mut connection, mut stream, _server, _scene) = pair13().await;
    in_time(connection.write(b"5 hello")).await.unwrap();
    let drain = tokio::spawn(connection.drain(SHORT));
    in_time(stream.read_to_end(&mut Vec::new())).await.unwrap();
    stream.get_mut().1.send_close_notify();
    in_time(stream.flush()).await.unwrap();
    let error = in_time(drain).await.unwrap().unwrap_err();
    assert!(matches!(error, DrainError::Unanswered { sent_queue_empty: true, .. }), "{error}");
}

#[tokio::test]
async fn a_receiver_that_closes_without_reading_proves_nothing() {
    let (mut connection, stream, _server, _scene) = pair13().await;
    in_time(connection.write(&numbered(64 << 10))).await.unwrap();
    let drain = tokio::spawn(connection.drain(DEADLINE));
    drop(stream);
    let error = in_time(drain).await.unwrap().unwrap_err();
    assert!(matches!(error, DrainError::Broken(_)), "{error}");
}

#[tokio::test]
async fn an_end_of_the_receiver_before_ours_proves_nothing() {
    for close_notify in [true, false] {
        let (mut connection, mut stream, _server, _scene) = pair13().await;
        in_time(connection.write(b"5 hello")).await.unwrap();
        if close_notify {
            in_time(stream.shutdown()).await.unwrap();
        } else {
            in_time(stream.get_mut().0.stream.shutdown()).await.unwrap();
        }
        let error = in_time(connection.idle()).await;
        assert_eq!(error.code(), "syslog.closed_by_peer");
        let error = in_time(connection.drain(DEADLINE)).await.unwrap_err();
        assert!(matches!(error, DrainError::Broken(_)), "{error}");
    }
}

#[tokio::test]
async fn idle_resolves_when_the_receiver_resets() {
    let (mut connection, stream, _server, _scene) = pair13().await;
    SockRef::from(&stream.get_ref().0.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    assert_eq!(in_time(connection.idle()).await.code(), "syslog.reset");
}

#[tokio::test]
async fn idle_can_be_cancelled_and_resumed() {
    let (mut connection, mut stream, _server, _scene) = pair13().await;
    let receiver = tokio::spawn(async move {
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        stream.shutdown().await.unwrap();
        received
    });
    for _ in 0..3 {
        timeout(Duration::from_millis(1), connection.idle()).await.expect_err("still open");
        in_time(connection.write(b"1 x")).await.unwrap();
    }
    in_time(connection.drain(DEADLINE)).await.unwrap();
    assert_eq!(in_time(receiver).await.unwrap(), b"1 x1 x1 x");
}

#[tokio::test]
async fn a_receiver_that_stops_reading_is_waited_for_until_the_stall_timeout() {
    let scene = Scene::new();
    let server = Server::new(&scene.server, &rustls::version::TLS13).await;
    let target = server.target();
    let limits = TcpSettings { stall_timeout: Duration::from_secs(1), ..TcpSettings::default() };
    let profile = TlsProfile::new(scene.trusting());
    let connect = TlsConnection::connect(&target, &limits, &profile);
    let (connection, stream) = tokio::join!(connect, server.accept());
    let (mut connection, _stream) = (connection.unwrap(), stream.unwrap());
    let error = in_time(connection.write(&numbered(32 << 20))).await.unwrap_err();
    assert_eq!(error.code(), "syslog.stalled");
}

#[tokio::test]
async fn abort_and_drop_reset_the_connection() {
    for abort in [true, false] {
        let (connection, mut stream, _server, _scene) = pair13().await;
        if abort {
            connection.abort();
        } else {
            drop(connection);
        }
        let error = in_time(stream.read(&mut [0; 1])).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}
