//! One destination: takes framed messages from its encoder, hands them to the transport,
//! and moves the spool's position to what is confirmed.
//!
//! What was written proves nothing. A drain proves it, a settle time later it is confirmed,
//! and only then does the spool let go of it. Any abnormal end goes back to what is
//! confirmed. The states are those of [`Positions`] and [`DrainPlan`]; this file is the loop
//! around them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use super::backoff::{Backoff, Outage, Say};
use super::connection::Connection;
use super::encoder::{self, Chunk, Mark};
use super::feed::Feed;
use super::status::{Counters, DestinationCounters, ShardCounters, add};
use super::{chain, stopped_for};
use crate::config::Destination;
use crate::spool::crash;
use crate::syslog::{DrainError, DrainPlan, DrainSettings, Positions, SendError};

/// Unanswered drains in a row before the receiver counts as one that never answers.
const UNANSWERED: u32 = 3;
/// Time for the last drain, its settling, and one more connection.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// The task of one destination.
pub(crate) struct Sender {
    destination: Arc<Destination>,
    feed: Feed,
    counters: Arc<DestinationCounters>,
    shards: Arc<Counters>,
    positions: Positions<Mark>,
    plan: DrainPlan,
    chunks: Option<Receiver<Chunk>>,
    /// What was written and is not confirmed, by shard.
    unconfirmed: VecDeque<(Mark, u64, Arc<ShardCounters>)>,
    unanswered: u32,
    was_connected: bool,
    backoff: Backoff,
    outage: Outage,
    stop: CancellationToken,
}

/// How a connection ended.
enum End {
    /// The receiver read everything and closed.
    Drained,
    /// It took everything but never closed.
    Unanswered,
    /// Anything else.
    Broken(SendError),
    /// The relay stops.
    Stop,
}

impl Sender {
    /// A sender at the beginning of its feed.
    pub(crate) fn new(
        destination: Arc<Destination>,
        feed: Feed,
        shards: Arc<Counters>,
        stop: CancellationToken,
    ) -> Self {
        let start = feed.start(&destination);
        let settings = DrainSettings {
            bytes: destination.drain_bytes,
            every: destination.drain_every,
            idle: destination.drain_idle,
        };
        let counters = shards.destination(&destination.name);
        counters.next.store(start.position.seq, Ordering::Relaxed);
        Self {
            counters,
            destination,
            feed,
            shards,
            positions: Positions::new(start),
            plan: DrainPlan::new(settings),
            chunks: None,
            unconfirmed: VecDeque::new(),
            unanswered: 0,
            was_connected: false,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(30)),
            outage: Outage::default(),
            stop,
        }
    }

    /// Delivers until told to stop, or to the end of a feed that has one; returns when what was
    /// written is confirmed, or when the time for that is over.
    pub(crate) async fn run(mut self) -> std::io::Result<()> {
        let stop = self.stop.clone();
        let name = self.destination.name.clone();
        tracing::info!(destination = %name, to = %self.destination.target, position = %self.positions.confirmed().position, "delivery starts");
        while !stop.is_cancelled() && !self.feed.is_over(self.positions.confirmed()) {
            if !self.wait_for_reason_to_connect().await {
                break;
            }
            let connected = tokio::select! {
                connected = Connection::open(&self.destination) => connected,
                () = stop.cancelled() => break,
            };
            let end = match connected {
                Ok(connection) => {
                    self.connected(&connection);
                    self.stream(connection).await?
                }
                Err(error) => End::Broken(error),
            };
            match end {
                End::Drained => self.drained(),
                End::Unanswered => self.unanswered(),
                End::Stop => break,
                End::Broken(error) => {
                    let pause = self.broken(&error);
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = stop.cancelled() => {}
                    }
                }
            }
        }
        let _ = tokio::time::timeout(STOP_WITHIN, self.settle_last()).await;
        Ok(())
    }

    /// After a drain there is no connection. It is made again when there is something to
    /// send, or when a proof needs a sign of life to count. False when the relay stops.
    async fn wait_for_reason_to_connect(&mut self) -> bool {
        let probe = self.positions.next_settle(self.destination.settle);
        let probe = async {
            match probe {
                Some(probe) => tokio::time::sleep_until(probe.into()).await,
                // The first connection is made at once, so that a wrong address shows early.
                None if !self.was_connected => {}
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = probe => true,
            () = self.feed.more_than(self.positions.written()) => true,
            () = self.stop.cancelled() => false,
        }
    }

    fn connected(&mut self, connection: &Connection) {
        self.was_connected = true;
        self.counters.failing.store(false, Ordering::Relaxed);
        self.positions.alive(Instant::now());
        if let Some(lasted) = self.outage.recovered(Instant::now()) {
            tracing::info!(destination = %self.destination.name, peer = %connection.peer(), seconds = lasted.as_secs(), "receiver reached again");
        }
    }

    /// Writes until the connection ends one way or another.
    async fn stream(&mut self, mut connection: Connection) -> std::io::Result<End> {
        let stop = self.stop.clone();
        loop {
            let now = Instant::now();
            self.positions.alive(now);
            self.settle(now);
            if self.feed.is_over(self.positions.confirmed()) {
                return Ok(self.drain(connection).await);
            }
            if !connection.is_datagram() && self.plan.due(now).is_some() {
                return Ok(self.drain(connection).await);
            }
            let wake = [self.plan.due_at(), self.positions.next_settle(self.destination.settle)];
            let wake = wake.into_iter().flatten().min().unwrap_or(now + Duration::from_secs(1));
            let wake = wake.max(now + Duration::from_millis(10));
            let chunk = tokio::select! {
                biased;
                () = stop.cancelled() => {
                    match self.drain(connection).await {
                        End::Drained => self.drained(),
                        End::Unanswered => self.unanswered(),
                        // Whatever was proven before and has not settled goes with it.
                        _ => self.rewind(),
                    }
                    return Ok(End::Stop);
                }
                error = connection.idle() => {
                    let nothing_at_stake = self.positions.written() == self.positions.confirmed();
                    if nothing_at_stake && matches!(error, SendError::ClosedByPeer { .. }) {
                        // Receivers close connections that idle. The next log opens another.
                        return Ok(End::Drained);
                    }
                    return Ok(End::Broken(error));
                }
                chunk = next(&mut self.chunks, &self.feed, &self.destination, &self.counters, self.positions.written()) => chunk?,
                () = tokio::time::sleep_until(wake.into()) => continue,
            };
            let Some(chunk) = chunk else {
                if self.feed.ends() {
                    return Ok(self.drain(connection).await);
                }
                // The encoder ended by itself: that is a panic, and recovery is a restart.
                return Err(std::io::Error::other("the encoder of a destination ended"));
            };
            let written = tokio::select! {
                written = connection.write(&chunk.frames) => written,
                () = stopped_for(&stop, STOP_WITHIN / 2) => {
                    connection.abort();
                    self.rewind();
                    return Ok(End::Stop);
                }
            };
            if let Err(error) = written {
                return Ok(End::Broken(error));
            }
            self.wrote(chunk, connection.is_datagram());
        }
    }

    fn wrote(&mut self, chunk: Chunk, datagram: bool) {
        crash::point("chunk-written");
        let now = Instant::now();
        let logs = chunk.logs;
        self.positions.wrote(chunk.after);
        self.counters.next.store(chunk.after.position.seq, Ordering::Relaxed);
        if !datagram {
            self.plan.wrote(chunk.frames.len() as u64, now);
        }
        add(&self.counters.written, logs);
        self.unconfirmed.push_back((chunk.after, logs, self.shards.shard(&chunk.key)));
        if datagram {
            // No proof exists for a datagram; that nobody refused it is all there is.
            self.positions.prove(chunk.after, now);
            add(&self.counters.unproven, logs);
        }
    }

    async fn drain(&mut self, connection: Connection) -> End {
        let known_deaf = self.unanswered >= UNANSWERED;
        let patience = if known_deaf { Duration::from_secs(2) } else { self.destination.timeout };
        match connection.drain(patience).await {
            Ok(()) => End::Drained,
            Err(DrainError::Unanswered { sent_queue_empty: true, .. }) => End::Unanswered,
            Err(DrainError::Unanswered { peer, .. }) => {
                End::Broken(SendError::Stalled { peer, stalled: patience })
            }
            Err(DrainError::Broken(error)) => End::Broken(error),
        }
    }

    /// Everything written was read by the receiver.
    fn drained(&mut self) {
        self.unanswered = 0;
        crash::point("logs-proven");
        self.positions.prove(self.positions.written(), Instant::now());
        self.plan.reset();
    }

    /// The receiver's kernel has everything, but the receiver never closes. After a few times
    /// that is how it is: going on is better than sending the same logs for ever.
    fn unanswered(&mut self) {
        self.unanswered += 1;
        if self.unanswered < UNANSWERED {
            self.rewind();
            return;
        }
        if self.unanswered == UNANSWERED {
            tracing::warn!(destination = %self.destination.name, code = "syslog.drain_unanswered", "the receiver never closes a connection that we have closed, so nothing proves that it read everything; delivery goes on with the weaker proof that its kernel took all bytes, and counts these logs as unproven");
        }
        let logs = self.positions.written().log.saturating_sub(self.positions.proven().log);
        add(&self.counters.unproven, logs);
        self.positions.prove(self.positions.written(), Instant::now());
        self.plan.reset();
    }

    fn broken(&mut self, error: &SendError) -> Duration {
        let waiting = self
            .feed
            .spool
            .durable()
            .borrow()
            .saturating_sub(self.positions.confirmed().position.seq);
        add(&self.counters.failures, 1);
        self.counters.failing.store(true, Ordering::Relaxed);
        match self.outage.failed(Instant::now()) {
            Say::Nothing => {}
            Say::First => {
                tracing::warn!(destination = %self.destination.name, code = error.code(), "{}; logs wait in the spool and delivery is tried again until it works", chain(error));
            }
            Say::Still { failures, lasting } => {
                tracing::warn!(destination = %self.destination.name, code = error.code(), failures, seconds = lasting.as_secs(), batches_waiting = waiting, "{}; still tried again", chain(error));
            }
        }
        self.rewind();
        self.backoff.next(Duration::ZERO)
    }

    fn rewind(&mut self) {
        let written = self.positions.written();
        let confirmed = self.positions.abnormal_end();
        self.counters.next.store(confirmed.position.seq, Ordering::Relaxed);
        let again = written.log.saturating_sub(confirmed.log);
        if again > 0 {
            add(&self.counters.resent, again);
            tracing::info!(destination = %self.destination.name, logs = again, "the last connection did not end with a proof: these logs are sent again, and the receiver may see them twice");
        }
        self.unconfirmed.clear();
        self.plan.broken();
        self.chunks = None;
    }

    /// Confirms what has settled and tells the spool.
    fn settle(&mut self, now: Instant) {
        let Some(mark) = self.positions.settle(now, self.destination.settle) else { return };
        self.backoff.reset();
        self.plan.confirmed();
        crash::point("logs-confirmed");
        self.feed.confirmed(&self.destination, mark);
        crash::point("acks-noted");
        while let Some((after, logs, shard)) = self.unconfirmed.front() {
            if *after > mark {
                break;
            }
            add(&shard.delivered, *logs);
            add(&self.counters.confirmed, *logs);
            self.unconfirmed.pop_front();
        }
    }

    /// At the end: what the last drain proved settles, and one more accepted connection
    /// confirms it, so that the next start repeats nothing.
    async fn settle_last(&mut self) {
        let Some(at) = self.positions.last_settle(self.destination.settle) else { return };
        tokio::time::sleep_until(at.into()).await;
        match Connection::open(&self.destination).await {
            Ok(connection) => {
                let now = Instant::now();
                self.positions.alive(now);
                self.settle(now);
                let _ = connection.drain(Duration::from_secs(1)).await;
            }
            Err(error) => {
                tracing::warn!(destination = %self.destination.name, code = error.code(), "{}; the last logs are sent again at the next start", chain(&error));
            }
        }
    }
}

/// The next chunk, from a new encoder where there is none.
async fn next(
    chunks: &mut Option<Receiver<Chunk>>,
    feed: &Feed,
    destination: &Arc<Destination>,
    counters: &Arc<DestinationCounters>,
    from: Mark,
) -> std::io::Result<Option<Chunk>> {
    if chunks.is_none() {
        let (destination, counters) = (Arc::clone(destination), Arc::clone(counters));
        *chunks = Some(encoder::spawn(feed.clone(), destination, counters, from)?);
    }
    match chunks {
        Some(chunks) => Ok(chunks.recv().await),
        None => Ok(None),
    }
}
