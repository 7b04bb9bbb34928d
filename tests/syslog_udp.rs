//! Datagrams that are sent many at once, and what is noticed of those that nobody takes.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the report")]

use std::future::Future;
use std::time::Duration;

use sls_relay::syslog::transport::{Frames, UdpConnection, UdpSettings};
use sls_relay::syslog::{Scheme, SendError, Target};
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// Far more than anything here takes; reaching it is a failure.
const DEADLINE: Duration = Duration::from_secs(60);
/// No pace at all: as many as one call takes go at once.
const UNPACED: UdpSettings = UdpSettings { max_rate: 0, burst: 1 };

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    timeout(DEADLINE, what).await.expect("the deadline of the test has passed")
}

async fn pair(address: &str) -> (UdpSocket, UdpConnection) {
    let server = UdpSocket::bind(address).await.unwrap();
    let address = server.local_addr().unwrap();
    let target =
        Target { scheme: Scheme::Udp, host: address.ip().to_string(), port: address.port() };
    let connection = in_time(UdpConnection::connect(&target, &UNPACED)).await.unwrap();
    (server, connection)
}

/// Messages, numbered: runs of one size, a shorter one behind some, longer ones, all mixed.
fn numbered(numbers: std::ops::Range<usize>) -> Frames {
    let mut frames = Frames::new();
    for n in numbers {
        let size = if n % 7 < 4 { n / 7 * 37 % 300 } else { n * 37 % 300 };
        let text = format!("<13>{n:06} {}", "x".repeat(size));
        frames.push(|buf| buf.extend_from_slice(text.as_bytes()));
    }
    frames
}

async fn receive(server: &UdpSocket) -> Vec<u8> {
    let mut buf = vec![0; 65_536];
    let length = in_time(server.recv(&mut buf)).await.unwrap();
    buf.truncate(length);
    buf
}

#[tokio::test]
async fn batches_keep_sizes_borders_and_order_on_both_families() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (server, mut connection) = pair(address).await;
        let mut sent = 0;
        // Below, at and above what one call takes; read in between, so that nothing overflows.
        for count in [1, 63, 64, 65, 130, 3] {
            let frames = numbered(sent..sent + count);
            in_time(connection.write(&frames)).await.unwrap();
            sent += count;
            assert_eq!(connection.written(), sent as u64);
            for frame in frames.iter() {
                assert_eq!(receive(&server).await, frame);
            }
        }
        timeout(Duration::from_millis(1), connection.idle()).await.expect_err("nothing is wrong");
        connection.drain(Duration::ZERO).await.unwrap();
    }
}

/// Large ones fill what goes together; one that fits no datagram is told, whatever went with it.
#[tokio::test]
async fn large_and_empty_datagrams_keep_their_borders() {
    let (server, mut connection) = pair("127.0.0.1:0").await;
    let message = |size: usize| vec![b'x'; size];
    let sizes = [30_000, 30_000, 30_000, 0, 0, 7, 7, 7, 7, 3, 65_507, 65_507, 1, 1];
    for sizes in sizes.chunks(3) {
        let messages: Vec<_> = sizes.iter().map(|size| message(*size)).collect();
        in_time(connection.send(messages.iter().map(Vec::as_slice))).await.unwrap();
        for message in &messages {
            assert_eq!(receive(&server).await.len(), message.len());
        }
    }
    let (small, large) = (message(9), message(65_508));
    let frames = [&small[..], &small, &large, &large, &small];
    let error = in_time(connection.send(frames)).await.unwrap_err();
    assert!(matches!(error, SendError::TooLarge { size: 65_508, sent: 2, .. }), "{error:?}");
    assert_eq!(receive(&server).await, small);
}

#[tokio::test]
async fn the_first_datagram_to_nobody_goes_alone() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (server, mut connection) = pair(address).await;
        drop(server);
        for round in 1..=3 {
            let error = in_time(connection.write(&numbered(0..500))).await.unwrap_err();
            assert!(matches!(error, SendError::Refused { .. }), "{error:?}");
            assert_eq!(connection.written(), round, "one datagram each time");
        }
    }
}

/// The call that sends many says nothing of an answer that comes up in its middle; the error
/// queue does. Without it, each call would send one datagram and never fail.
#[tokio::test]
async fn a_refusal_between_the_datagrams_of_one_call_is_not_missed() {
    let (server, mut connection) = pair("127.0.0.1:0").await;
    in_time(connection.write(&numbered(0..1))).await.unwrap();
    receive(&server).await;
    drop(server);
    // An even number: if every second one took the answer away, the last would leave none.
    let outcome = in_time(connection.write(&numbered(0..640))).await;
    let error = match outcome {
        Ok(()) => in_time(connection.idle()).await,
        Err(error) => error,
    };
    assert!(matches!(error, SendError::Refused { .. }), "{error:?}");
    assert!(connection.written() <= 1 + 128, "{} sent into the void", connection.written());
}

#[tokio::test]
async fn a_drain_tells_of_a_late_refusal() {
    let (server, mut connection) = pair("127.0.0.1:0").await;
    in_time(connection.write(&numbered(0..1))).await.unwrap();
    drop(server);
    // One datagram into the void: its refusal may come during the call or after it.
    if in_time(connection.write(&numbered(1..2))).await.is_ok() {
        let error = connection.drain(Duration::ZERO).await.unwrap_err();
        assert!(error.to_string().contains("refused"), "{error}");
    }
}
