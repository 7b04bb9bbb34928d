//! Entry point for fuzzing: it takes any bytes, and panics only on a defect.

use super::transport::relp::session::{Session, SessionError, Window};

/// No message about a server comes near it, in bytes: its words are cut.
const LONGEST_MESSAGE: usize = 1000;

/// Runs the bytes through a RELP session as what a server sends, in one piece and in several.
///
/// Layout: one byte for how many messages are under way (modulo 8; from 128 on the session
/// was never opened), one byte for how large a piece is (0 as 1), the bytes.
///
/// # Panics
/// When the pieces make a difference, more is proven than was sent, or what is wrong is told
/// at length or with control characters.
pub fn relp_reader(data: &[u8]) {
    let Some((&[messages, piece], bytes)) = data.split_first_chunk() else { return };
    let whole = outcome(messages, [bytes]);
    let pieces = outcome(messages, bytes.chunks(usize::from(piece.max(1))));
    assert_eq!(whole, pieces, "the pieces make a difference");
    let (proven, error) = whole;
    assert!(proven <= u64::from(messages % 8), "more is proven than was sent");
    if let Some(error) = error {
        let text = error.to_string();
        assert!(text.len() <= LONGEST_MESSAGE, "a message is short");
        assert!(!text.contains(char::is_control), "a message is one line");
        assert!(error.code().starts_with("syslog."), "a message has its code");
    }
}

fn outcome<'a>(
    messages: u8,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (u64, Option<SessionError>) {
    let mut out = Vec::new();
    let mut session = Session::open(Window::default(), &mut out);
    if messages < 128 {
        let opened = session.receive(b"1 rsp 22 200 OK\ncommands=syslog\n");
        assert!(opened.is_ok() && session.is_open(), "a right answer opens the session");
        for _ in 0..messages % 8 {
            assert!(session.send(b"<14>1 - - - - - -", &mut out), "the window is larger");
        }
    }
    let error = pieces.into_iter().find_map(|piece| session.receive(piece).err());
    (session.proven(), error)
}
