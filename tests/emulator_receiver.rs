//! The emulator's syslog receiver, seen from a client's sockets in every mode.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at what it cannot have")]

use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sls_relay::emulator::receiver::{Counts, Framing, Mode, Receiver, ReceiverConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

type Seen = Arc<Mutex<Vec<(u64, Vec<u8>)>>>;

fn any_port() -> Option<SocketAddr> {
    Some("127.0.0.1:0".parse().unwrap())
}

fn start(tcp: bool, udp: bool, framing: Framing) -> (Receiver, Seen) {
    let seen = Seen::default();
    let sink = seen.clone();
    let config = ReceiverConfig {
        tcp: any_port().filter(|_| tcp),
        udp: any_port().filter(|_| udp),
        framing,
    };
    let receiver = Receiver::start(
        config,
        Arc::new(move |connection, message: &[u8]| {
            sink.lock().unwrap().push((connection, message.to_vec()));
        }),
    )
    .unwrap();
    (receiver, seen)
}

async fn connect(receiver: &Receiver) -> TcpStream {
    let stream = TcpStream::connect(receiver.tcp_addr().unwrap()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Waits until the receiver's counts satisfy `condition`.
async fn until(receiver: &Receiver, what: &str, condition: impl Fn(Counts) -> bool) {
    let waiting = async {
        while !condition(receiver.counts()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    assert!(waited.is_ok(), "never saw {what}: {:?}", receiver.counts());
}

/// What a read of the client's socket ends in.
async fn end_of(stream: &mut TcpStream) -> Result<usize, ErrorKind> {
    let mut buffer = [0; 16];
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut buffer));
    read.await.expect("the receiver never ended the connection").map_err(|error| error.kind())
}

fn texts(seen: &Seen) -> Vec<String> {
    let seen = seen.lock().unwrap();
    seen.iter().map(|(_, message)| String::from_utf8_lossy(message).into_owned()).collect()
}

/// A child has every socket of this process until it executes its program, closed ones too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_is_kept_while_connects_are_refused_and_children_start() {
    let (receiver, _) = start(true, true, Framing::Auto);
    let address = receiver.tcp_addr().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let children = std::thread::spawn({
        let done = Arc::clone(&done);
        move || {
            while !done.load(Ordering::Relaxed) {
                std::process::Command::new("true").status().unwrap();
            }
        }
    });
    for _ in 0..200 {
        receiver.set_mode(Mode::Refuse).await.unwrap();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_ne!(taken.local_addr().unwrap(), address, "nobody else gets the number");
        let refused = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert!(std::net::UdpSocket::bind(receiver.udp_addr().unwrap()).is_err());
        receiver.set_mode(Mode::Accept).await.unwrap();
        connect(&receiver).await;
    }
    done.store(true, Ordering::Relaxed);
    children.join().unwrap();
    receiver.shutdown().await;
}

#[tokio::test]
async fn only_loopback_addresses_are_served() {
    for addr in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        for tcp in [true, false] {
            let addr = Some(addr.parse().unwrap());
            let (tcp, udp) = if tcp { (addr, None) } else { (None, addr) };
            let config = ReceiverConfig { tcp, udp, framing: Framing::Auto };
            let error = Receiver::start(config, Arc::new(|_, _| ())).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("loopback"), "{error}");
        }
    }
}

#[tokio::test]
async fn messages_arrive_whole_however_the_stream_is_cut_and_fin_is_answered() {
    let large = "x".repeat(200_000);
    let (counted, line) = (format!("200000 {large}3 end"), format!("{large}\nend\n"));
    let cases: [(_, &str, &[&str]); 5] = [
        (
            Framing::OctetCounting,
            "5 a\nb\nc6 second12 12 and a bit",
            &["a\nb\nc", "second", "12 and a bit"],
        ),
        (Framing::Lf, "first\n5 second\n\nfourth\n", &["first", "5 second", "", "fourth"]),
        (Framing::Auto, "5 a\nb\ncline\n3 abc", &["a\nb\nc", "line", "abc"]),
        (Framing::Auto, &counted, &[&large, "end"]),
        (Framing::Lf, &line, &[&large, "end"]),
    ];
    for (framing, stream, messages) in cases {
        for chunk in [1, 2, 7, 1000, 65_537] {
            if stream.len() / chunk > 1000 {
                continue;
            }
            let (receiver, seen) = start(true, false, framing);
            let mut client = connect(&receiver).await;
            for part in stream.as_bytes().chunks(chunk) {
                client.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
            assert_eq!(end_of(&mut client).await, Ok(0));
            assert!(texts(&seen) == messages, "{framing:?} in chunks of {chunk}");
            let messages = messages.len() as u64;
            let expected = Counts { messages, connections: 1, ..Counts::default() };
            assert_eq!(receiver.shutdown().await, expected);
            assert!(seen.lock().unwrap().iter().all(|(connection, _)| *connection == 1));
        }
    }
}

#[tokio::test]
async fn a_message_cut_by_the_end_is_counted_and_not_delivered() {
    for (framing, stream) in [(Framing::Auto, "3 one5 two"), (Framing::Lf, "one\ntwo")] {
        let (receiver, seen) = start(true, false, framing);
        let mut client = connect(&receiver).await;
        client.write_all(stream.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(end_of(&mut client).await, Ok(0));
        assert_eq!(receiver.shutdown().await.partial, 1);
        assert_eq!(texts(&seen), ["one"]);
    }
}

#[tokio::test]
async fn wrong_framing_ends_the_connection() {
    let (receiver, seen) = start(true, false, Framing::OctetCounting);
    let mut client = connect(&receiver).await;
    client.write_all(b"3 one<14>1 two\n").await.unwrap();
    assert!(matches!(end_of(&mut client).await, Ok(0) | Err(ErrorKind::ConnectionReset)));
    assert_eq!(receiver.shutdown().await.malformed, 1);
    assert_eq!(texts(&seen), ["one"]);
}

#[tokio::test]
async fn a_connection_that_the_client_resets_is_counted() {
    let (receiver, _) = start(true, false, Framing::Auto);
    let client = connect(&receiver).await;
    until(&receiver, "the connection", |counts| counts.connections == 1).await;
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    until(&receiver, "the reset", |counts| counts.broken == 1).await;
}

#[tokio::test]
async fn refusing_resets_connections_and_accepting_again_uses_the_same_port() {
    let (receiver, seen) = start(true, false, Framing::Auto);
    let addr = receiver.tcp_addr().unwrap();
    for round in 1..=3 {
        let mut client = connect(&receiver).await;
        client.write_all(b"3 abc").await.unwrap();
        until(&receiver, "the message", |counts| counts.messages == round).await;

        receiver.set_mode(Mode::Refuse).await.unwrap();
        assert_eq!(receiver.counts().resets, round);
        assert_eq!(end_of(&mut client).await, Err(ErrorKind::ConnectionReset));
        for _ in 0..3 {
            let error = TcpStream::connect(addr).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        }
        receiver.set_mode(Mode::Refuse).await.unwrap();

        receiver.set_mode(Mode::Accept).await.unwrap();
        assert_eq!(receiver.tcp_addr(), Some(addr));
    }
    drop(connect(&receiver).await);
    assert_eq!(texts(&seen), ["abc"; 3]);
}

#[tokio::test]
async fn connections_waiting_to_be_accepted_are_reset_too() {
    let (receiver, _) = start(true, false, Framing::Auto);
    // On this single thread the receiver cannot accept before it sees the order.
    let addr = receiver.tcp_addr().unwrap();
    let client = std::net::TcpStream::connect(addr).unwrap();
    client.set_nonblocking(true).unwrap();
    let mut client = TcpStream::from_std(client).unwrap();
    receiver.set_mode(Mode::Refuse).await.unwrap();
    assert_eq!(end_of(&mut client).await, Err(ErrorKind::ConnectionReset));
}

/// Writes `9 NNNNNNNNN` messages until the socket takes no more; how many octets it took.
fn fill(client: &TcpStream) -> usize {
    let mut sent = 0;
    loop {
        let messages: String = (sent / 11..).take(1000).map(|n| format!("9 {n:09}")).collect();
        match client.try_write(&messages.as_bytes()[sent % 11..]) {
            Ok(octets) => sent += octets,
            Err(_) => return sent,
        }
    }
}

#[tokio::test]
async fn stalling_reads_nothing_and_accepting_again_reads_what_waited() {
    for mode in [Mode::Stall, Mode::Slow { delay: Duration::from_secs(3600), bytes: 1000 }] {
        let (receiver, seen) = start(true, false, Framing::Auto);
        let early = connect(&receiver).await;
        until(&receiver, "the first connection", |counts| counts.connections == 1).await;
        receiver.set_mode(mode).await.unwrap();
        let late = connect(&receiver).await;
        until(&receiver, "the second connection", |counts| counts.connections == 2).await;
        let whole: usize = [&early, &late].map(|client| fill(client) / 11).iter().sum();
        assert!(whole > 1000, "only {whole} messages fit");
        // Whoever takes a third connection has had the occasion to read the other two.
        let _third = connect(&receiver).await;
        until(&receiver, "the third connection", |counts| counts.connections == 3).await;
        assert_eq!(receiver.counts().messages, 0);

        receiver.set_mode(Mode::Accept).await.unwrap();
        until(&receiver, "all messages", |counts| counts.messages == whole as u64).await;
        for connection in [1, 2] {
            let seen = seen.lock().unwrap();
            let texts = seen.iter().filter(|(id, _)| *id == connection).map(|(_, text)| text);
            assert!(texts.enumerate().all(|(n, text)| *text == format!("{n:09}").into_bytes()));
        }
    }
}

#[tokio::test]
async fn a_slow_receiver_reads_everything_in_small_pieces() {
    let (receiver, seen) = start(true, false, Framing::Lf);
    receiver.set_mode(Mode::Slow { delay: Duration::from_millis(1), bytes: 3 }).await.unwrap();
    let mut client = connect(&receiver).await;
    client.write_all(b"first line\nsecond\n").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(end_of(&mut client).await, Ok(0));
    assert_eq!(texts(&seen), ["first line", "second"]);
}

#[tokio::test]
async fn resetting_after_some_octets_delivers_only_what_they_hold() {
    let (receiver, seen) = start(true, false, Framing::Auto);
    receiver.set_mode(Mode::ResetAfter { bytes: 14 }).await.unwrap();
    for round in 1..=2 {
        let mut client = connect(&receiver).await;
        client.write_all(b"3 one3 two5 three4 four").await.unwrap();
        assert_eq!(end_of(&mut client).await, Err(ErrorKind::ConnectionReset));
        until(&receiver, "the reset", |counts| counts.resets == round).await;
    }
    assert_eq!(texts(&seen), ["one", "two", "one", "two"]);

    receiver.set_mode(Mode::ResetAfter { bytes: 0 }).await.unwrap();
    let mut client = connect(&receiver).await;
    assert_eq!(end_of(&mut client).await, Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn closing_after_some_messages_sends_fin_and_reads_nothing_more() {
    let (receiver, seen) = start(true, false, Framing::Auto);
    receiver.set_mode(Mode::CloseAfter { messages: 2 }).await.unwrap();
    let mut client = connect(&receiver).await;
    client.write_all(b"3 one").await.unwrap();
    until(&receiver, "the first message", |counts| counts.messages == 1).await;
    client.write_all(b"3 two5 three").await.unwrap();
    assert_eq!(end_of(&mut client).await, Ok(0));
    client.write_all(b"4 four").await.unwrap();

    // The next connection is counted on its own; the first one stays as it is meanwhile.
    let mut next = connect(&receiver).await;
    next.write_all(b"3 abc3 def").await.unwrap();
    assert_eq!(end_of(&mut next).await, Ok(0));

    receiver.set_mode(Mode::Accept).await.unwrap();
    let mut last = connect(&receiver).await;
    last.write_all(b"3 end").await.unwrap();
    until(&receiver, "the last message", |counts| counts.messages == 5).await;
    assert_eq!(texts(&seen), ["one", "two", "abc", "def", "end"]);
    assert_eq!(receiver.shutdown().await.connections, 3);
}

#[tokio::test]
async fn a_deaf_receiver_reads_the_fin_and_keeps_its_side_open() {
    let (receiver, seen) = start(true, false, Framing::Auto);
    receiver.set_mode(Mode::Deaf).await.unwrap();
    let mut client = connect(&receiver).await;
    client.write_all(b"3 one5 par").await.unwrap();
    client.shutdown().await.unwrap();
    // The unfinished message shows that the receiver has come to the end.
    until(&receiver, "the end", |counts| counts.partial == 1).await;
    let peeked = socket2::SockRef::from(&client).peek(&mut [MaybeUninit::uninit(); 1]);
    assert_eq!(peeked.unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(texts(&seen), ["one"]);

    receiver.set_mode(Mode::Accept).await.unwrap();
    assert_eq!(end_of(&mut client).await, Ok(0));
}

#[tokio::test]
async fn a_datagram_is_a_message_and_refusal_is_seen_by_the_sender() {
    let (receiver, seen) = start(true, true, Framing::Auto);
    let addr = receiver.udp_addr().unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(addr).await.unwrap();
    let large = vec![b'x'; 65_507];
    client.send(b"5 one\ntwo\n").await.unwrap();
    client.send(&large).await.unwrap();
    until(&receiver, "two datagrams", |counts| counts.messages == 2).await;
    assert_eq!(*seen.lock().unwrap(), [(0, b"5 one\ntwo\n".to_vec()), (0, large)]);

    for round in 1..=3 {
        receiver.set_mode(Mode::Refuse).await.unwrap();
        client.send(b"refused").await.unwrap();
        let mut buffer = [0; 1];
        let answer = tokio::time::timeout(Duration::from_secs(30), client.recv(&mut buffer));
        let error = answer.await.expect("the datagram was not refused").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);

        receiver.set_mode(Mode::Accept).await.unwrap();
        assert_eq!(receiver.udp_addr(), Some(addr));
        client.send(b"again").await.unwrap();
        until(&receiver, "the next datagram", |counts| counts.messages == 2 + round).await;
        drop(connect(&receiver).await);
    }
    assert_eq!(texts(&seen)[2..], ["again"; 3]);
}

#[tokio::test]
async fn a_stalled_udp_socket_keeps_what_fits_its_buffer() {
    let (receiver, seen) = start(true, true, Framing::Auto);
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(receiver.udp_addr().unwrap()).await.unwrap();
    receiver.set_mode(Mode::Stall).await.unwrap();
    for text in ["one", "two"] {
        client.send(text.as_bytes()).await.unwrap();
    }
    // Whoever takes two connections after them has had the occasion to read the datagrams.
    for connections in 1..=2 {
        drop(connect(&receiver).await);
        until(&receiver, "a connection", |counts| counts.connections == connections).await;
    }
    assert_eq!(receiver.counts().messages, 0);
    receiver.set_mode(Mode::Slow { delay: Duration::from_millis(1), bytes: 1 }).await.unwrap();
    until(&receiver, "both datagrams", |counts| counts.messages == 2).await;
    assert_eq!(texts(&seen), ["one", "two"]);
}

#[tokio::test]
async fn shutting_down_frees_the_ports() {
    let (receiver, _) = start(true, true, Framing::Auto);
    let (tcp, udp) = (receiver.tcp_addr().unwrap(), receiver.udp_addr().unwrap());
    let mut client = connect(&receiver).await;
    receiver.shutdown().await;
    assert!(matches!(end_of(&mut client).await, Ok(0) | Err(ErrorKind::ConnectionReset)));
    assert_eq!(TcpStream::connect(tcp).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    UdpSocket::bind(udp).await.unwrap();
}

#[tokio::test]
async fn a_panic_of_the_callback_comes_to_light_at_shutdown() {
    let config = ReceiverConfig { tcp: any_port(), ..ReceiverConfig::default() };
    let receiver = Receiver::start(config, Arc::new(|_, _| panic!("on purpose"))).unwrap();
    let mut client = connect(&receiver).await;
    client.write_all(b"3 one").await.unwrap();
    assert!(matches!(end_of(&mut client).await, Ok(0) | Err(ErrorKind::ConnectionReset)));
    let error = tokio::spawn(receiver.shutdown()).await.unwrap_err();
    assert!(error.is_panic());
}
