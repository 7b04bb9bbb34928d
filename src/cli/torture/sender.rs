//! The sending end: this relay or a peer, asked the same questions.

use super::ours::Ours;
use super::peer::Peer;

/// Who sends in a run.
pub(super) enum Sender {
    /// This relay.
    Ours(Ours),
    /// Another sender.
    Peer(Peer),
}

impl Sender {
    /// Whether it says that all `logs` are delivered. A peer never says so.
    pub(super) fn says_done(&self, logs: u64) -> bool {
        match self {
            Self::Ours(ours) => ours.is_fed() && ours.confirmed() >= logs,
            Self::Peer(_) => false,
        }
    }

    /// Whether it has taken every log, and only time can tell what becomes of them.
    pub(super) fn is_silent(&self) -> bool {
        match self {
            Self::Ours(_) => false,
            Self::Peer(peer) => peer.is_fed(),
        }
    }

    /// Logs that it counts as delivered on a weaker proof than its transport promises.
    pub(super) fn unproven(&self) -> u64 {
        match self {
            Self::Ours(ours) => ours.unproven(),
            Self::Peer(_) => 0,
        }
    }

    /// Whether it ended of itself.
    pub(super) fn has_ended(&mut self) -> bool {
        match self {
            Self::Ours(ours) => ours.has_ended(),
            Self::Peer(peer) => peer.has_ended(),
        }
    }

    /// Stops it as SIGTERM does.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        match self {
            Self::Ours(ours) => ours.stop().await,
            Self::Peer(peer) => peer.stop().await,
        }
    }
}
