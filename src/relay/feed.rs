//! Where a sender's logs come from: what its destination still needs, or a replay.

use std::sync::Arc;

use super::encoder::Mark;
use super::replay::Replay;
use crate::config::Destination;
use crate::spool::Spool;

/// The spool as one sender sees it.
#[derive(Clone)]
pub(crate) struct Feed {
    pub(crate) spool: Spool,
    /// Without one, everything from the destination's position on.
    pub(crate) replay: Option<Arc<Replay>>,
}

impl Feed {
    /// Where sending begins.
    pub(crate) fn start(&self, destination: &Destination) -> Mark {
        match &self.replay {
            Some(replay) => replay.start(),
            None => {
                let delivered = self.spool.delivered(&destination.name).unwrap_or_default();
                Mark { position: delivered.position, log: delivered.log }
            }
        }
    }

    /// Resolves when there is something behind `written` to send.
    pub(crate) async fn more_than(&self, written: Mark) {
        match &self.replay {
            Some(replay) if written.position < replay.end() => {}
            Some(_) => std::future::pending().await,
            None => {
                let mut durable = self.spool.durable();
                let _ = durable.wait_for(|next| *next > written.position.seq).await;
            }
        }
    }

    /// Whether there is something behind `written` to send now.
    pub(crate) fn has_more_than(&self, written: Mark) -> bool {
        match &self.replay {
            Some(replay) => written.position < replay.end(),
            None => *self.spool.durable().borrow() > written.position.seq,
        }
    }

    /// Everything before `mark` is confirmed.
    pub(crate) fn confirmed(&self, destination: &Destination, mark: Mark) {
        match &self.replay {
            Some(replay) => replay.confirmed(mark),
            None => self.spool.ack(&destination.name, mark.position, mark.log),
        }
    }

    /// Whether nothing comes any more, and everything is confirmed.
    pub(crate) fn is_over(&self, confirmed: Mark) -> bool {
        self.replay.as_ref().is_some_and(|replay| confirmed.position >= replay.end())
    }

    /// Whether a feed that came to its end did so because it is finite.
    pub(crate) fn ends(&self) -> bool {
        self.replay.is_some()
    }
}
