use proptest::prelude::*;

use super::*;

const OPENED: &[u8] = b"1 rsp 55 200 OK\nrelp_version=0\nrelp_software=x,1\ncommands=syslog\n";

fn window(messages: usize, bytes: usize) -> Window {
    Window { messages, bytes }
}

fn rsp(txnr: u32, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::append(txnr, "rsp", data, &mut out);
    out
}

/// An open session.
fn opened(window: Window) -> Session {
    let mut session = Session::open(window, &mut Vec::new());
    session.receive(OPENED).unwrap();
    session
}

fn send(session: &mut Session, messages: usize) {
    for _ in 0..messages {
        assert!(session.send(b"<14>1 x", &mut Vec::new()));
    }
}

#[test]
fn the_session_begins_with_open_and_waits_for_the_answer() {
    let mut out = Vec::new();
    let mut session = Session::open(Window::default(), &mut out);
    let text = String::from_utf8(out.clone()).unwrap();
    assert!(text.starts_with("1 open "), "{text}");
    assert!(text.contains("relp_version=0\nrelp_software=sls-relay,"), "{text}");
    assert!(text.ends_with("\ncommands=syslog\n"), "{text}");

    out.clear();
    assert!(!session.send(b"<14>1 x", &mut out));
    session.close(&mut out);
    assert!(out.is_empty() && !session.is_open());
    session.receive(OPENED).unwrap();
    assert!(session.is_open());
    assert!(session.send(b"<14>1 x", &mut out));
    assert!(session.send(b"<14>1 y\n", &mut out));
    session.close(&mut out);
    assert_eq!(out, b"2 syslog 7 <14>1 x\n3 syslog 8 <14>1 y\n\n4 close 0\n");
    assert!(!session.send(b"<14>1 z", &mut out), "nothing follows close");

    session.receive(b"2 rsp 6 200 OK\n3 rsp 6 200 OK\n").unwrap();
    assert!(!session.is_closed());
    session.receive(b"4 rsp 0\n0 serverclose 0\n").unwrap();
    assert!(session.is_closed());
    assert_eq!((session.written(), session.proven()), (2, 2));
}

#[test]
fn answers_to_open_are_taken_or_refused_with_the_reason() {
    let answer = |data: &str| {
        let mut session = Session::open(Window::default(), &mut Vec::new());
        let received = session.receive(&rsp(1, data.as_bytes()));
        assert_eq!(session.is_open(), received.is_ok(), "{data}");
        received.map_err(|error| (error.code(), error.to_string()))
    };
    for data in [
        "200 OK\nrelp_version=0\ncommands=syslog",
        "200 OK\nrelp_version=1\ncommands=eventlog,syslog\nunknown=1\nnonsense",
        "200 OK\r\nrelp_version=0\r\ncommands=syslog\r\n",
        "200 OK relp_version=0\nrelp_software=y\ncommands=syslog",
        "200\ncommands=syslog",
    ] {
        assert_eq!(answer(data), Ok(()), "{data}");
    }
    for (data, code, part) in [
        ("500 required command not supported\n\x1b", "syslog.relp_open_refused", "not supported"),
        ("200 OK\nrelp_version=2\ncommands=syslog", "syslog.relp_offers", "version 0"),
        ("200 OK\nrelp_version=0", "syslog.relp_offers", "syslog"),
        ("200 OK\ncommands=syslogs,sys", "syslog.relp_offers", "syslog"),
        ("OK", "syslog.relp_unexpected", "status code"),
        ("", "syslog.relp_unexpected", "status code"),
        ("2000 OK", "syslog.relp_unexpected", "status code"),
    ] {
        let (found, text) = answer(data).unwrap_err();
        assert_eq!(found, code, "{data}");
        assert!(text.contains(part) && !text.contains(char::is_control), "{text}");
    }
}

#[test]
fn the_window_bounds_messages_and_octets_and_always_has_room_for_one() {
    let mut session = opened(window(3, 100));
    send(&mut session, 3);
    assert!(!session.has_room(1));
    session.receive(&rsp(3, b"200 OK")).unwrap();
    assert!(!session.has_room(1), "the oldest is not answered yet");
    session.receive(&rsp(2, b"200 OK")).unwrap();
    assert_eq!((session.written(), session.proven()), (3, 2));
    assert!(session.has_room(93) && !session.has_room(94));
    session.receive(&rsp(4, b"200 OK")).unwrap();
    assert!(session.has_room(1000));
    assert!(session.send(&[b'x'; 1000], &mut Vec::new()));
    assert!(!session.has_room(0));
}

#[test]
fn a_refused_message_is_named_and_what_was_acknowledged_before_counts() {
    let mut session = opened(Window::default());
    send(&mut session, 4);
    let answers = [rsp(2, b"200 OK"), rsp(4, b"500 too \x07bad\nmore"), rsp(3, b"200 OK")].concat();
    let error = session.receive(&answers).unwrap_err();
    let text = "too  bad".to_owned();
    assert_eq!(error, SessionError::MessageRefused { index: 2, code: 500, text });
    assert_eq!(session.proven(), 1);
}

#[test]
fn what_no_server_may_send_ends_the_session() {
    for (bytes, code) in [
        (rsp(1, b"200 OK"), "syslog.relp_unexpected"),
        (rsp(3, b"200 OK"), "syslog.relp_unexpected"),
        (rsp(0, b"200 OK"), "syslog.relp_unexpected"),
        ([rsp(2, b"200 OK"), rsp(2, b"200 OK")].concat(), "syslog.relp_unexpected"),
        (b"2 syslog 1 x\n".to_vec(), "syslog.relp_unexpected"),
        (b"2 rsp 0\n".to_vec(), "syslog.relp_unexpected"),
        (b"HTTP/1.1 400 Bad Request".to_vec(), "syslog.relp_frame"),
        (b"2 rsp 999999999 ".to_vec(), "syslog.relp_answer_too_long"),
        (b"0 serverclose 0\n".to_vec(), "syslog.closed_by_peer"),
    ] {
        let mut session = opened(Window::default());
        send(&mut session, 1);
        let error = session.receive(&bytes).unwrap_err();
        assert_eq!(error.code(), code, "{}", bytes.escape_ascii());
    }
    let mut session = opened(Window::default());
    session.receive(b"0 news 5 hello\n").unwrap();
    send(&mut session, 1);
    session.close(&mut Vec::new());
    assert_eq!(session.receive(b"0 serverclose 0\n"), Err(SessionError::ServerClose));
}

#[test]
fn after_the_last_number_comes_one() {
    let mut out = Vec::new();
    let mut session = Session::open_at(LAST_TXNR - 1, Window::default(), &mut out);
    session.receive(&rsp(LAST_TXNR - 1, b"200 OK\ncommands=syslog")).unwrap();
    out.clear();
    for text in [b"a", b"b", b"c"] {
        assert!(session.send(text, &mut out));
    }
    assert_eq!(out, b"999999999 syslog 1 a\n1 syslog 1 b\n2 syslog 1 c\n");
    session.receive(&rsp(2, b"200 OK")).unwrap();
    session.receive(&rsp(LAST_TXNR, b"200 OK")).unwrap();
    assert_eq!(session.proven(), 1);
    session.receive(&rsp(1, b"200 OK")).unwrap();
    assert_eq!(session.proven(), 3);
}

/// What the model of a server does next.
#[derive(Clone, Debug)]
enum Act {
    /// The client sends a message of so many octets if it may.
    Send(usize),
    /// Answer one of the messages that have no answer.
    Ack(prop::sample::Index),
    Refuse(prop::sample::Index),
    ServerClose,
    /// An answer to a message that has one, or to none.
    Wrong(u32),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        20 => (1usize..30).prop_map(Act::Send),
        20 => any::<prop::sample::Index>().prop_map(Act::Ack),
        1 => any::<prop::sample::Index>().prop_map(Act::Refuse),
        1 => Just(Act::ServerClose),
        1 => (0u32..80).prop_map(Act::Wrong),
    ];
    prop::collection::vec(act, 0..120)
}

proptest! {
    /// A server that reads everything, answers in any order, refuses, ends, and lies: what
    /// counts as proven is always the unbroken run of what it really acknowledged.
    #[test]
    fn proven_is_what_the_server_acknowledged_without_a_hole(
        acts in acts(), messages in 1usize..8, bytes in 1usize..100, start in prop_oneof![
            Just(1), Just(LAST_TXNR - 10)], cuts in any::<bool>(),
    ) {
        let mut wire = Vec::new();
        let mut session = Session::open_at(start, window(messages, bytes), &mut wire);
        session.receive(&rsp(start, b"200 OK\ncommands=syslog")).unwrap();
        let mut server = FrameReader::new(1 << 20);
        let mut expected = after(start);
        // The number, size and answer of each message, as the server saw them.
        let mut seen: Vec<(u32, usize, bool)> = Vec::new();
        wire.clear();
        for act in acts {
            let waiting: Vec<usize> = (0..seen.len()).filter(|&i| !seen[i].2).collect();
            let holes = waiting.first().map_or(0, |&first| seen.len() - first);
            let mut answer = Vec::new();
            let mut fails = None;
            match act {
                Act::Send(length) => {
                    let unproven = &seen[seen.len() - holes..];
                    let held: usize = unproven.iter().map(|message| message.1).sum();
                    let room = holes == 0 || (holes < messages && held + length <= bytes);
                    prop_assert_eq!(session.send(&vec![b'x'; length], &mut wire), room);
                    server.push(&wire);
                    wire.clear();
                    if let Some(frame) = server.next().unwrap() {
                        prop_assert_eq!((frame.txnr, frame.data.len()), (expected, length));
                        seen.push((frame.txnr, length, false));
                        expected = after(expected);
                    }
                    prop_assert!(server.next().unwrap().is_none());
                    continue;
                }
                Act::Ack(index) if !waiting.is_empty() => {
                    let message = &mut seen[*index.get(&waiting)];
                    message.2 = true;
                    answer = rsp(message.0, b"200 OK");
                }
                Act::Refuse(index) if !waiting.is_empty() => {
                    let place = *index.get(&waiting);
                    answer = rsp(seen[place].0, b"500 no");
                    let index = place as u64;
                    fails = Some(SessionError::MessageRefused { index, code: 500, text: "no".into() });
                }
                Act::ServerClose => {
                    answer = b"0 serverclose 0\n".to_vec();
                    fails = Some(SessionError::ServerClose);
                }
                Act::Wrong(txnr) => {
                    if waiting.iter().any(|&place| seen[place].0 == txnr) {
                        continue;
                    }
                    answer = rsp(txnr, b"200 OK");
                    fails = Some(SessionError::Unexpected { what: "an answer to nothing", txnr });
                }
                Act::Ack(_) | Act::Refuse(_) => {}
            }
            let piece = if cuts { 1 } else { answer.len().max(1) };
            let received = answer.chunks(piece).try_for_each(|piece| session.receive(piece));
            let acknowledged = seen.iter().take_while(|message| message.2).count() as u64;
            prop_assert_eq!(session.proven(), acknowledged);
            prop_assert_eq!(session.written(), seen.len() as u64);
            prop_assert_eq!(received.err(), fails.clone());
            if fails.is_some() {
                break;
            }
        }
    }

    #[test]
    fn no_bytes_of_a_server_panic_or_prove_more_than_was_sent(
        bytes in prop::collection::vec(any::<u8>(), 0..200), messages in 0usize..5
    ) {
        let mut session = opened(Window::default());
        send(&mut session, messages);
        let _ = session.receive(&bytes);
        prop_assert!(session.proven() <= messages as u64);
    }
}
