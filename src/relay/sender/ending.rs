//! The end of a connection that is to prove something.

use std::time::{Duration, Instant};

use super::super::connection::Connection;
use super::super::status::add;
use super::super::stopped_for;
use super::{End, STOP_WITHIN, Sender};
use crate::syslog::delivery::Step;
use crate::syslog::{DrainError, Proof, SendError};

/// How long a receiver has for ending a connection because of the last message on it.
const QUIET: Duration = Duration::from_millis(20);
/// How often the out-queue is looked at before a drain.
const QUEUE_EVERY: Duration = Duration::from_millis(2);

impl Sender {
    /// Ends a connection so that its end tells what the receiver has read. A receiver that reads
    /// slowly is waited for, but for so long only when the relay stops: then all that is not
    /// confirmed is to be sent again.
    pub(super) async fn drain(&mut self, connection: Connection) -> End {
        let stop = self.stop.clone();
        tokio::select! {
            end = self.end_with_proof(connection) => end,
            () = stopped_for(&stop, STOP_WITHIN) => {
                self.rewind();
                End::Stop
            }
        }
    }

    async fn end_with_proof(&mut self, mut connection: Connection) -> End {
        let deaf = self.delivery.is_deaf();
        let patience = if deaf { Duration::from_secs(2) } else { self.destination.timeout };
        let window = connection.tells_window();
        self.delivery.draining(Instant::now());
        if let Err(error) = self.quiet(&mut connection, patience).await {
            return End::Broken(error);
        }
        add(&self.counters.drains, 1);
        match connection.drain(patience).await {
            Ok(()) => End::Drained,
            Err(DrainError::Unanswered { sent_queue_empty: true, .. }) => {
                End::Unanswered { window }
            }
            Err(DrainError::Unanswered { peer, .. }) => {
                End::Broken(SendError::Stalled { peer, stalled: patience })
            }
            Err(DrainError::Broken(error)) => End::Broken(error),
        }
    }

    /// Waits for what is under way and a moment longer, so that a receiver that ends the connection
    /// for the last message is seen to do it. After our own end that would look like its answer.
    async fn quiet(
        &mut self,
        connection: &mut Connection,
        patience: Duration,
    ) -> Result<(), SendError> {
        let control = self.delivery.step() == Step::Control;
        if !control && !matches!(self.delivery.proof(), Proof::Drain | Proof::Window) {
            return Ok(());
        }
        let since = Instant::now();
        while connection.queued()?.is_some_and(|queued| queued > 0) && since.elapsed() < patience {
            watch_for(connection, QUEUE_EVERY).await?;
        }
        let moment = match self.delivery.step() {
            Step::Flow => QUIET,
            Step::Few(_) | Step::Control => self.destination.settle.max(QUIET),
        };
        watch_for(connection, moment).await
    }
}

/// Watches a connection for so long, whatever it acknowledges meanwhile.
async fn watch_for(connection: &mut Connection, time: Duration) -> Result<(), SendError> {
    let until = tokio::time::Instant::now() + time;
    loop {
        match tokio::time::timeout_at(until, connection.watch()).await {
            Ok(watched) => watched?,
            Err(_) => return Ok(()),
        }
    }
}
