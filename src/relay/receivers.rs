//! The receivers of one destination as its sender uses them: connections to the one that
//! [`Route`] says, and looks at whether the first one is reachable again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::connection::Connection;
use super::route::Route;
use crate::config::Destination;
use crate::syslog::{DrainError, SendError, Target};

/// The receivers of one destination.
pub(crate) struct Receivers {
    destination: Arc<Destination>,
    route: Route,
    /// Whether the first one never ended a connection that we had ended, when it was used last.
    deaf: bool,
    /// A look at the first one that is not over.
    look: Option<oneshot::Receiver<bool>>,
}

impl Receivers {
    pub(crate) fn new(destination: Arc<Destination>) -> Self {
        let route = Route::new(1 + destination.failover.len(), destination.failback_after);
        Self { destination, route, deaf: false, look: None }
    }

    /// The receiver in use.
    pub(crate) fn target(&self) -> &Target {
        target(&self.destination, self.route.current())
    }

    /// A connection to it. Its name is resolved anew.
    pub(crate) async fn open(&self) -> Result<Connection, SendError> {
        Connection::open(&self.destination, self.target()).await
    }

    /// The one in use, which may be known as `deaf`, does not work. Returns after which pause to
    /// try the next, and whether that is another one.
    pub(crate) fn failed(&mut self, now: Instant, deaf: bool) -> (Duration, bool) {
        let before = self.route.current();
        if before == 0 {
            self.deaf = deaf;
        }
        let pause = self.route.failed(now);
        let moved = self.route.current() != before;
        if moved {
            self.look = None;
            tracing::warn!(destination = %self.destination.name, code = "relay.failover", from = %target(&self.destination, before), to = %self.target(), "another receiver takes over; what is not confirmed is sent to it again");
        }
        (pause, moved)
    }

    /// What the one in use was sent is confirmed.
    pub(crate) fn worked(&mut self) {
        self.route.worked();
    }

    /// Looks at the first receiver where that is due, beside everything else. Must be called in
    /// a runtime, again at [`Self::look_at`] at the latest.
    pub(crate) fn look(&mut self, now: Instant) {
        if let Some(look) = &mut self.look {
            let reachable = match look.try_recv() {
                Ok(reachable) => reachable,
                Err(oneshot::error::TryRecvError::Empty) => return,
                Err(oneshot::error::TryRecvError::Closed) => false,
            };
            self.look = None;
            self.route.probed(reachable, now);
        }
        if self.route.probe_at().is_some_and(|at| at <= now) {
            let (answer, look) = oneshot::channel();
            let (destination, deaf) = (Arc::clone(&self.destination), self.deaf);
            tokio::spawn(async move {
                let _ = answer.send(is_reachable(&destination, deaf).await);
            });
            self.look = Some(look);
        }
    }

    /// When to look again at the latest; nothing while the first one is in use.
    pub(crate) fn look_at(&self, now: Instant) -> Option<Instant> {
        let soon = now + Duration::from_millis(50);
        self.look.as_ref().map(|_| soon).or(self.route.probe_at())
    }

    /// Whether to let the one in use rest, because the first is reachable again.
    pub(crate) fn wants_back(&self, now: Instant) -> bool {
        self.route.wants_back(now)
    }

    /// All that was sent is confirmed. Goes back to the first one if it is time for that.
    pub(crate) fn at_rest(&mut self, now: Instant) -> bool {
        let before = self.route.current();
        let back = self.route.at_rest(now);
        if back {
            tracing::info!(destination = %self.destination.name, from = %target(&self.destination, before), to = %self.target(), "the first receiver is reachable again: logs go to it, and none is repeated for it");
        }
        back
    }
}

/// Whether the first receiver accepts a connection and ends it after us: a process that is
/// stopped, and a proxy without its server, accept connections, too. Of a `deaf` one nothing more
/// can be asked.
async fn is_reachable(destination: &Destination, deaf: bool) -> bool {
    let Ok(connection) = Connection::open(destination, &destination.target).await else {
        return false;
    };
    let answered = connection.drain(destination.timeout).await;
    answered.is_ok() || (deaf && matches!(answered, Err(DrainError::Unanswered { .. })))
}

/// By its number in the list.
fn target(destination: &Destination, number: usize) -> &Target {
    match number.checked_sub(1) {
        Some(other) => destination.failover.get(other).unwrap_or(&destination.target),
        None => &destination.target,
    }
}
