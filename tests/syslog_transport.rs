//! The TCP and UDP transports against real sockets on loopback, with receivers that answer,
//! stall, close and reset.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the report")]

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use sls_relay::syslog::transport::{
    DrainError, Frames, TcpConnection, TcpSettings, UdpConnection, UdpSettings,
};
use sls_relay::syslog::{Scheme, SendError, Target};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

/// Far more than anything here takes; reaching it is a failure.
const DEADLINE: Duration = Duration::from_secs(60);
/// For waits whose end is what the test expects.
const SHORT: Duration = Duration::from_millis(200);

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    timeout(DEADLINE, what).await.expect("the deadline of the test has passed")
}

fn target(scheme: Scheme, address: SocketAddr) -> Target {
    Target { scheme, host: address.ip().to_string(), port: address.port() }
}

async fn listen() -> (TcpListener, Target) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(Scheme::Tcp, listener.local_addr().unwrap());
    (listener, target)
}

async fn pair_with(settings: TcpSettings) -> (TcpConnection, TcpStream) {
    let (listener, target) = listen().await;
    let connection = in_time(TcpConnection::connect(&target, &settings)).await.unwrap();
    let (server, _) = in_time(listener.accept()).await.unwrap();
    assert_eq!(connection.peer(), server.local_addr().unwrap());
    (connection, server)
}

async fn pair() -> (TcpConnection, TcpStream) {
    pair_with(TcpSettings::default()).await
}

/// Bytes in which a missing, doubled or moved part shows.
fn numbered(len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    for n in 0..=len as u64 / 8 {
        bytes.extend_from_slice(&n.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn set_reset_on_close(stream: &TcpStream) {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Writes until the connection ends, and returns how it did.
async fn write_to_the_end(connection: &mut TcpConnection) -> SendError {
    let chunk = vec![b'x'; 4096];
    in_time(async {
        loop {
            if let Err(error) = connection.write(&chunk).await {
                return error;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

mod tcp {
    use super::*;

    #[tokio::test]
    async fn a_drain_is_proven_by_a_receiver_that_reads_all_and_closes() {
        let (mut connection, mut server) = pair().await;
        let sent = numbered(8 << 20);
        let receiver = tokio::spawn(async move {
            let mut received = Vec::new();
            server.read_to_end(&mut received).await.unwrap();
            received
        });
        for chunk in sent.chunks(64 << 10) {
            in_time(connection.write(chunk)).await.unwrap();
        }
        in_time(connection.drain(DEADLINE)).await.unwrap();
        assert!(in_time(receiver).await.unwrap() == sent);
    }

    #[tokio::test]
    async fn an_unanswered_drain_leaves_what_was_sent_readable() {
        let (mut connection, mut server) = pair().await;
        in_time(connection.write(b"5 hello")).await.unwrap();
        let mut received = [0; 7];
        in_time(server.read_exact(&mut received)).await.unwrap();
        let error = in_time(connection.drain(SHORT)).await.unwrap_err();
        assert!(matches!(error, DrainError::Unanswered { sent_queue_empty: true, .. }), "{error}");
        assert_eq!(error.code(), "syslog.drain_unanswered");
        assert_eq!(in_time(server.read(&mut received)).await.unwrap(), 0, "an end, no reset");
    }

    #[tokio::test]
    async fn an_unanswered_drain_tells_that_data_is_still_queued() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let target = target(Scheme::Tcp, listener.local_addr().unwrap());
        let mut connection =
            in_time(TcpConnection::connect(&target, &TcpSettings::default())).await.unwrap();
        let (mut server, _) = in_time(listener.accept()).await.unwrap();

        in_time(connection.write(&numbered(64 << 10))).await.unwrap();
        let error = in_time(connection.drain(SHORT)).await.unwrap_err();
        assert!(matches!(error, DrainError::Unanswered { sent_queue_empty: false, .. }), "{error}");
        let mut received = Vec::new();
        in_time(server.read_to_end(&mut received)).await.expect_err("the connection was reset");
    }

    #[tokio::test]
    async fn a_drain_after_the_peers_own_end_proves_nothing() {
        let (mut connection, mut server) = pair().await;
        in_time(connection.write(b"5 hello")).await.unwrap();
        in_time(server.shutdown()).await.unwrap();
        in_time(connection.idle()).await;
        let error = in_time(connection.drain(DEADLINE)).await.unwrap_err();
        assert!(matches!(error, DrainError::Broken(SendError::ClosedByPeer { .. })), "{error:?}");
    }

    #[tokio::test]
    async fn a_drain_that_is_reset_proves_nothing() {
        let (mut connection, server) = pair().await;
        in_time(connection.write(b"5 hello")).await.unwrap();
        let drain = tokio::spawn(connection.drain(DEADLINE));
        // The receiver closes with our message unread, which resets the connection.
        in_time(server.readable()).await.unwrap();
        set_reset_on_close(&server);
        drop(server);
        let error = in_time(drain).await.unwrap().unwrap_err();
        assert_eq!(error.code(), "syslog.reset");
    }

    #[tokio::test]
    async fn a_reset_in_mid_stream_fails_the_write() {
        let (mut connection, mut server) = pair().await;
        in_time(connection.write(&numbered(10_000))).await.unwrap();
        let mut some = [0; 1000];
        in_time(server.read_exact(&mut some)).await.unwrap();
        set_reset_on_close(&server);
        drop(server);
        assert_eq!(write_to_the_end(&mut connection).await.code(), "syslog.reset");
    }

    #[tokio::test]
    async fn an_early_close_fails_the_write_although_the_peer_still_reads() {
        let (mut connection, mut server) = pair().await;
        in_time(server.shutdown()).await.unwrap();
        let error = write_to_the_end(&mut connection).await;
        assert!(matches!(error, SendError::ClosedByPeer { .. }), "{error:?}");
        assert!(error.to_string().contains(&connection.peer().to_string()));
    }

    #[tokio::test]
    async fn idle_resolves_when_the_peer_closes() {
        let (mut connection, server) = pair().await;
        drop(server);
        assert_eq!(in_time(connection.idle()).await.code(), "syslog.closed_by_peer");
    }

    #[tokio::test]
    async fn idle_resolves_when_the_peer_resets() {
        let (mut connection, server) = pair().await;
        set_reset_on_close(&server);
        drop(server);
        assert_eq!(in_time(connection.idle()).await.code(), "syslog.reset");
    }

    #[tokio::test]
    async fn idle_can_be_cancelled_and_resumed() {
        let (mut connection, mut server) = pair().await;
        let receiver = tokio::spawn(async move {
            let mut received = Vec::new();
            server.read_to_end(&mut received).await.unwrap();
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
    async fn a_talking_receiver_is_read_and_ignored() {
        let (mut connection, server) = pair().await;
        let (mut input, mut output) = server.into_split();
        let talk = vec![b'!'; 4 << 20];
        let length = talk.len() as u64;
        let talker = tokio::spawn(async move {
            output.write_all(&talk).await.unwrap();
            output
        });
        let sent = numbered(4 << 20);
        let expected = sent.clone();
        let receiver = tokio::spawn(async move {
            let mut received = Vec::new();
            input.read_to_end(&mut received).await.unwrap();
            received == expected
        });
        in_time(connection.write(&sent)).await.unwrap();
        let output = in_time(async {
            tokio::select! {
                output = talker => output.unwrap(),
                error = connection.idle() => panic!("{error}"),
            }
        })
        .await;
        in_time(async {
            while connection.ignored() < length {
                let _ = timeout(Duration::from_millis(5), connection.idle()).await;
            }
        })
        .await;
        let drain = tokio::spawn(connection.drain(DEADLINE));
        assert!(in_time(receiver).await.unwrap());
        drop(output);
        in_time(drain).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_stalled_receiver_is_waited_for_and_then_gets_everything() {
        // So short that a rule which mistook silence of the receiver for a dead path, as
        // TCP_USER_TIMEOUT alone does, would cut the connection.
        let settings = TcpSettings { dead_after: Duration::from_secs(1), ..Default::default() };
        let (mut connection, mut server) = pair_with(settings).await;
        let sent = numbered(32 << 20);
        {
            let mut write = std::pin::pin!(connection.write(&sent));
            let blocked = timeout(Duration::from_millis(3500), &mut write).await;
            assert!(blocked.is_err(), "the write ended without a reader: {blocked:?}");
            let expected = sent.clone();
            let receiver = tokio::spawn(async move {
                let mut received = vec![0; expected.len()];
                server.read_exact(&mut received).await.unwrap();
                assert!(received == expected);
                server
            });
            in_time(write).await.unwrap();
            drop(in_time(receiver).await.unwrap());
        }
        assert_eq!(in_time(connection.idle()).await.code(), "syslog.closed_by_peer");
    }

    #[tokio::test]
    async fn a_stall_ends_at_its_timeout() {
        let settings = TcpSettings { stall_timeout: Duration::from_secs(1), ..Default::default() };
        let (mut connection, _server) = pair_with(settings).await;
        let error = in_time(connection.write(&numbered(32 << 20))).await.unwrap_err();
        assert!(matches!(error, SendError::Stalled { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn abort_and_drop_reset_the_connection() {
        for abort in [true, false] {
            let (connection, mut server) = pair().await;
            if abort {
                connection.abort();
            } else {
                drop(connection);
            }
            let error = in_time(server.read(&mut [0; 1])).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }

    #[tokio::test]
    async fn a_port_without_a_listener_refuses() {
        // Bound and not listening: the port stays free of other tests.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let target = target(Scheme::Tcp, address);
        let settings = TcpSettings::default();
        let error = in_time(TcpConnection::connect(&target, &settings)).await.unwrap_err();
        assert!(matches!(error, SendError::Refused { peer } if peer == address), "{error:?}");
    }

    #[tokio::test]
    async fn a_silent_address_ends_in_a_timeout() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        // Nobody accepts: once the queue is full, requests are dropped.
        let listener = socket.listen(1).unwrap();
        let target = target(Scheme::Tcp, listener.local_addr().unwrap());
        let settings = TcpSettings { connect_timeout: SHORT, ..Default::default() };
        let mut queued = Vec::new();
        let error = loop {
            match in_time(TcpConnection::connect(&target, &settings)).await {
                Ok(connection) => queued.push(connection),
                Err(error) => break error,
            }
            assert!(queued.len() < 100, "the queue never fills");
        };
        assert!(matches!(error, SendError::ConnectTimeout { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_name_is_resolved_and_its_listening_address_found() {
        let (listener, found) = listen().await;
        let name = Target { host: "localhost".to_owned(), ..found };
        let settings = TcpSettings::default();
        let connection = in_time(TcpConnection::connect(&name, &settings)).await.unwrap();
        assert_eq!(connection.peer(), listener.local_addr().unwrap());
    }

    #[tokio::test]
    async fn a_name_without_an_address_cannot_be_resolved() {
        let target: Target = "tcp://nowhere.invalid:1468".parse().unwrap();
        let settings = TcpSettings::default();
        let error = in_time(TcpConnection::connect(&target, &settings)).await.unwrap_err();
        assert!(matches!(error, SendError::Resolve { .. }), "{error:?}");
        assert!(error.to_string().contains("tcp://nowhere.invalid:1468"));
    }
}

mod udp {
    use super::*;

    async fn bind(address: &str) -> (UdpSocket, Target) {
        let server = UdpSocket::bind(address).await.unwrap();
        let target = target(Scheme::Udp, server.local_addr().unwrap());
        (server, target)
    }

    async fn connect(target: &Target) -> UdpConnection {
        in_time(UdpConnection::connect(target, &UdpSettings::default())).await.unwrap()
    }

    async fn receive(server: &UdpSocket) -> Vec<u8> {
        let mut buf = vec![0; 65_536];
        let length = in_time(server.recv(&mut buf)).await.unwrap();
        buf.truncate(length);
        buf
    }

    #[tokio::test]
    async fn each_frame_is_one_datagram_in_order() {
        let (server, target) = bind("127.0.0.1:0").await;
        let mut connection = connect(&target).await;
        let mut frames = Frames::new();
        for n in 0..80 {
            frames.push(|buf| buf.extend_from_slice(format!("<13>message {n}").as_bytes()));
        }
        assert_eq!(in_time(connection.send(frames.iter())).await.unwrap(), 80);
        for frame in frames.iter() {
            assert_eq!(receive(&server).await, frame);
        }
    }

    #[tokio::test]
    async fn a_refusal_is_noticed_and_the_same_socket_goes_on_when_the_receiver_is_back() {
        let (server, target) = bind("127.0.0.1:0").await;
        let address = server.local_addr().unwrap();
        let mut connection = connect(&target).await;
        assert_eq!(in_time(connection.send([&b"first"[..]])).await.unwrap(), 1);
        assert_eq!(receive(&server).await, b"first");

        drop(server);
        let refused = in_time(async {
            loop {
                if let Err(error) = connection.send([&b"lost"[..]]).await {
                    break error;
                }
                tokio::task::yield_now().await;
            }
        });
        let error = refused.await;
        assert!(matches!(error, SendError::Refused { peer } if peer == address), "{error:?}");

        let server = UdpSocket::bind(address).await.unwrap();
        in_time(connection.send([&b"again"[..]])).await.unwrap();
        assert_eq!(receive(&server).await, b"again");
    }

    #[tokio::test]
    async fn a_refusal_of_the_last_message_is_noticed_while_idle() {
        let (server, target) = bind("127.0.0.1:0").await;
        let mut connection = connect(&target).await;
        timeout(Duration::from_millis(1), connection.idle()).await.expect_err("nothing sent yet");
        drop(server);
        // On loopback the refusal may already be there when the call ends.
        let error = match in_time(connection.send([&b"lost"[..]])).await {
            Ok(_) => in_time(connection.idle()).await,
            Err(error) => error,
        };
        assert_eq!(error.code(), "syslog.refused");
        timeout(Duration::from_millis(1), connection.idle()).await.expect_err("told once");
    }

    #[tokio::test]
    async fn what_a_receiver_sends_is_ignored() {
        let (server, target) = bind("127.0.0.1:0").await;
        let mut connection = connect(&target).await;
        in_time(connection.send([&b"one"[..]])).await.unwrap();
        let (_, sender) = in_time(server.recv_from(&mut [0; 10])).await.unwrap();
        for _ in 0..100 {
            server.send_to(b"noise", sender).await.unwrap();
        }
        timeout(Duration::from_millis(20), connection.idle()).await.expect_err("no error");
        in_time(connection.send([&b"two"[..]])).await.unwrap();
        assert_eq!(receive(&server).await, b"two");
    }

    #[tokio::test]
    async fn a_message_that_fits_no_datagram_is_told_with_its_size() {
        let (server, target) = bind("127.0.0.1:0").await;
        let mut connection = connect(&target).await;
        let largest = vec![b'x'; 65_507];
        let larger = vec![b'y'; 65_508];
        let frames = [&b"small"[..], &largest, &larger, b"never"];
        let error = in_time(connection.send(frames)).await.unwrap_err();
        assert!(matches!(error, SendError::TooLarge { size: 65_508, sent: 2, .. }), "{error:?}");
        assert_eq!(receive(&server).await, b"small");
        assert_eq!(receive(&server).await, largest);
        in_time(connection.send([&b"after"[..]])).await.unwrap();
        assert_eq!(receive(&server).await, b"after");
    }
}
