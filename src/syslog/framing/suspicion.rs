//! Recognising a receiver that expects another framing.
//!
//! Such a receiver says nothing: it reads the first bytes, gives up, and closes. Seen from here,
//! connections are accepted and end right after the first data, one after the other, and nothing
//! ever gets through. A receiver that takes octet counts for text logs lines that begin with a
//! number and keeps the connection; that cannot be seen from here at all.

use std::time::Duration;

use super::Framing;

/// Connections in a row that ended like this before it is said.
const IN_A_ROW: u32 = 3;
/// How soon after the first data a receiver gives up that cannot read it.
const SOON: Duration = Duration::from_secs(5);

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer closed or reset it, unasked.
    ByPeer,
    /// In any other way: a failed connect, a timeout, a dead path, an end of our own.
    Otherwise,
}

/// Watches how the connections of one destination end. No clock and no socket here.
#[derive(Clone, Debug)]
pub struct Suspicion {
    framing: Framing,
    in_a_row: u32,
    /// Whether anything was ever read by the receiver: then it knows the framing.
    understood: bool,
}

impl Suspicion {
    /// For a destination that gets messages framed like this.
    pub fn new(framing: Framing) -> Self {
        Self { framing, in_a_row: 0, understood: false }
    }

    /// It was proven that the receiver read what was written: the framing is right.
    pub fn proven(&mut self) {
        self.understood = true;
        self.in_a_row = 0;
    }

    /// A connection ended on which `written` bytes had been written, the first of them `after`
    /// ago.
    pub fn ended(&mut self, written: u64, after: Duration, how: End) {
        match how {
            End::ByPeer if written > 0 && after <= SOON => {
                self.in_a_row = self.in_a_row.saturating_add(1);
            }
            // Nothing was sent that it could have disliked, or it went on reading.
            End::ByPeer => self.in_a_row = 0,
            // A receiver that is away tells nothing, one way or the other.
            End::Otherwise => {}
        }
    }

    /// What to say beside the error of the connection, once there is reason to: which framing
    /// the receiver may expect.
    pub fn hint(&self) -> Option<String> {
        if self.understood || self.in_a_row < IN_A_ROW {
            return None;
        }
        let others = match self.framing {
            Framing::OctetCounting => "\"lf\" or \"nul\"",
            Framing::Lf => "\"octet-counting\"",
            Framing::Nul => "\"octet-counting\" or \"lf\"",
        };
        Some(format!(
            "the receiver closed {} connections in a row right after the first data and has taken none so far: it may expect another framing than \"{}\"; try framing = {others}, or look into its log for what it dislikes",
            self.in_a_row, self.framing
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_millis(20);

    #[test]
    fn three_connections_closed_on_the_first_data_are_named() {
        let mut suspicion = Suspicion::new(Framing::Lf);
        for _ in 0..2 {
            suspicion.ended(4_000, NOW, End::ByPeer);
            assert_eq!(suspicion.hint(), None);
        }
        // Meanwhile the receiver was away for a moment.
        suspicion.ended(0, Duration::ZERO, End::Otherwise);
        suspicion.ended(1, NOW, End::ByPeer);
        let hint = suspicion.hint().unwrap();
        for part in ["3 connections", "\"lf\"", "framing = \"octet-counting\""] {
            assert!(hint.contains(part), "{part} in {hint}");
        }
    }

    #[test]
    fn a_receiver_that_has_read_anything_is_never_suspected() {
        let mut suspicion = Suspicion::new(Framing::OctetCounting);
        (0..9).for_each(|_| suspicion.ended(1, NOW, End::ByPeer));
        assert!(suspicion.hint().unwrap().contains("\"lf\" or \"nul\""));
        suspicion.proven();
        assert_eq!(suspicion.hint(), None);
        // A receiver that is restarted again and again is another matter.
        (0..9).for_each(|_| suspicion.ended(1, NOW, End::ByPeer));
        assert_eq!(suspicion.hint(), None);
    }

    #[test]
    fn connections_that_end_late_or_unused_are_no_sign() {
        let mut suspicion = Suspicion::new(Framing::OctetCounting);
        for (written, after) in [(0, NOW), (1, SOON + NOW)] {
            (0..2).for_each(|_| suspicion.ended(1, NOW, End::ByPeer));
            suspicion.ended(written, after, End::ByPeer);
            (0..2).for_each(|_| suspicion.ended(1, NOW, End::ByPeer));
            assert_eq!(suspicion.hint(), None);
            suspicion.ended(0, NOW, End::ByPeer);
        }
        (0..9).for_each(|_| suspicion.ended(1, NOW, End::Otherwise));
        assert_eq!(suspicion.hint(), None);
    }
}
