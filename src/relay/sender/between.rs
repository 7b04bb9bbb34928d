//! Between two connections: when the next one is made, and to which receiver.

use std::time::{Duration, Instant};

use super::Sender;

/// How often is told how it goes while there is nothing to do.
const TELL_EVERY: Duration = Duration::from_secs(5);

impl Sender {
    /// After a drain there is no connection. It is made again when there is something to
    /// send, or when a proof needs a sign of life to count. False when the relay stops.
    pub(super) async fn wait_for_reason_to_connect(&mut self) -> bool {
        loop {
            let now = Instant::now();
            self.tend(now);
            if self.written() == self.confirmed() && self.receivers.at_rest(now) {
                self.moved();
            }
            let wake = self.receivers.look_at(now).unwrap_or(now + TELL_EVERY);
            let probe = async {
                match self.delivery.probe_at() {
                    Some(probe) => tokio::time::sleep_until(probe.into()).await,
                    // The first connection is made at once, so that a wrong address shows early.
                    None if !self.was_connected => {}
                    None => std::future::pending().await,
                }
            };
            // Where what was written has to be confirmed first, more to send is no reason.
            let waits = self.delivery.probe_at().is_some()
                && (self.delivery.room().is_none() || self.receivers.wants_back(now));
            tokio::select! {
                () = probe => return true,
                () = self.feed.more_than(self.written()), if !waits => return true,
                () = self.stop.cancelled() => return false,
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
    }

    /// What is to be done from time to time, connected or not.
    pub(super) fn tend(&mut self, now: Instant) {
        self.receivers.look(now);
        self.tempo.tell(self.written(), self.receivers.target(), now);
    }

    /// Another receiver is in use.
    pub(super) fn moved(&mut self) {
        self.delivery.another_receiver();
        self.tempo.tell_soon();
    }

    /// Whether the one in use is to be drained for the first one to take over again.
    pub(super) fn gives_back(&self, now: Instant) -> bool {
        let positions = self.delivery.positions();
        let (written, proven) = (positions.written(), positions.proven());
        // What is proven settles first, on this connection.
        self.receivers.wants_back(now) && (written > proven || written == positions.confirmed())
    }
}
