//! Recognising a receiver that expects another framing.
//!
//! Such a receiver says nothing: it reads the first bytes, gives up, and closes. Seen from here,
//! connections are accepted and end right after the first data, one after the other, and nothing
//! ever gets through. A receiver that takes octet counts for text logs lines that begin with a
//! number and keeps the connection; that cannot be seen from here at all.

use super::Framing;

/// Connections in a row that ended like this before it is said.
const IN_A_ROW: u32 = 3;

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

    /// The receiver ended a connection, unasked, soon after it took the first data.
    pub fn closed_on_data(&mut self) {
        self.in_a_row = self.in_a_row.saturating_add(1);
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

    #[test]
    fn three_connections_closed_on_the_first_data_are_named() {
        let mut suspicion = Suspicion::new(Framing::Lf);
        for _ in 0..2 {
            suspicion.closed_on_data();
            assert_eq!(suspicion.hint(), None);
        }
        suspicion.closed_on_data();
        let hint = suspicion.hint().unwrap();
        for part in ["3 connections", "\"lf\"", "framing = \"octet-counting\""] {
            assert!(hint.contains(part), "{part} in {hint}");
        }
    }

    #[test]
    fn a_receiver_that_has_read_anything_is_never_suspected() {
        let mut suspicion = Suspicion::new(Framing::OctetCounting);
        (0..9).for_each(|_| suspicion.closed_on_data());
        assert!(suspicion.hint().unwrap().contains("\"lf\" or \"nul\""));
        suspicion.proven();
        assert_eq!(suspicion.hint(), None);
        // A receiver that is restarted again and again is another matter.
        (0..9).for_each(|_| suspicion.closed_on_data());
        assert_eq!(suspicion.hint(), None);
    }
}
