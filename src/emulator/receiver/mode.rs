//! How a receiver behaves, and how it is told to behave otherwise.

use std::io;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

/// What a receiver does to its peers. UDP knows `Refuse`, `Stall` and `Slow`; the other modes are
/// `Accept` to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Reads everything. When the peer has sent FIN it reads the rest, then closes, as rsyslog
    /// and syslog-ng do.
    #[default]
    Accept,
    /// Nobody listens. Open connections are reset. The port stays reserved for this receiver.
    Refuse,
    /// Accepts connections and reads nothing.
    Stall,
    /// Resets each connection once it has read `bytes` octets of it.
    ResetAfter {
        /// Octets, counted from the start of the connection.
        bytes: u64,
    },
    /// Sends FIN once a connection has brought `messages` messages, and reads nothing more of
    /// it. The socket is closed when the mode changes.
    CloseAfter {
        /// Messages, counted from the start of the connection.
        messages: u64,
    },
    /// Closes a connection on a message with this text in it, without taking it, as syslog-ng
    /// does on a frame that is too long for it.
    CloseOn {
        /// Not empty.
        text: &'static str,
    },
    /// Reads little and seldom.
    Slow {
        /// Wait before each read (on UDP: before each datagram).
        delay: Duration,
        /// Octets per read, at least 1 (on UDP a datagram is read whole).
        bytes: usize,
    },
    /// Reads everything, and when the peer has sent FIN leaves its own side open until the mode
    /// changes.
    Deaf,
}

impl Mode {
    /// Whether a connection is closed for this message.
    pub(super) fn is_closed_by(self, message: &[u8]) -> bool {
        match self {
            Self::CloseOn { text } => {
                message.windows(text.len()).any(|part| part == text.as_bytes())
            }
            _ => false,
        }
    }
}

/// A change of mode on its way to the task that serves a socket, which answers once it is done.
pub(super) struct Switch {
    pub(super) mode: Mode,
    pub(super) done: oneshot::Sender<io::Result<()>>,
}

pub(super) type Switches = mpsc::Receiver<Switch>;
