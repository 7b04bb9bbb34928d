//! One destination: takes framed messages from its encoder, hands them to the transport,
//! and moves the spool's position to what is confirmed.
//!
//! What was written proves nothing. What does, and what follows from it, is decided by
//! [`Delivery`], a state machine; this file is the loop that gives it sockets and time.

mod between;
mod ending;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use super::backoff::{Outage, Say};
use super::connection::Connection;
use super::encoder::{self, Chunk, Mark};
use super::feed::Feed;
use super::receivers::Receivers;
use super::status::{Counters, DestinationCounters, ShardCounters, add};
use super::tempo::Tempo;
use super::{chain, messages, poison, stopped_for};
use crate::config::Destination;
use crate::spool::crash;
use crate::syslog::delivery::{Death, Delivery, Room, Step, UNANSWERED, Unanswered};
use crate::syslog::{Proof, SendError, framing};

/// Time for the last drain, its settling, and one more connection.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// How often the kernel is asked what the receiver has, where that is the proof.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The task of one destination.
pub(crate) struct Sender {
    destination: Arc<Destination>,
    feed: Feed,
    counters: Arc<DestinationCounters>,
    shards: Arc<Counters>,
    delivery: Delivery<Mark>,
    /// The encoder's chunks, and the room that they fit.
    chunks: Option<(Receiver<Chunk>, Room)>,
    /// What was written and is not confirmed, by shard.
    unconfirmed: VecDeque<(Mark, u64, Arc<ShardCounters>)>,
    /// The first log written since the last abnormal end that is not confirmed.
    first: Option<Mark>,
    /// Whether the receiver expects another framing, and whether that was said.
    suspicion: framing::Suspicion,
    suspected: bool,
    /// When the kernel is asked next.
    looks_at: Instant,
    was_connected: bool,
    receivers: Receivers,
    tempo: Tempo,
    outage: Outage,
    stop: CancellationToken,
}

/// How a connection ended.
enum End {
    /// The receiver read everything and closed.
    Drained,
    /// It closed while everything was confirmed.
    Idle,
    /// It took everything but never closed; whether its window can be seen.
    Unanswered { window: bool },
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
        let counters = shards.destination(&destination.name);
        counters.next.store(start.position.seq, Ordering::Relaxed);
        Self {
            tempo: Tempo::new(&destination, feed.clone(), Arc::clone(&counters)),
            counters,
            feed,
            shards,
            delivery: Delivery::new(start, destination.delivery()),
            receivers: Receivers::new(Arc::clone(&destination)),
            chunks: None,
            unconfirmed: VecDeque::new(),
            first: None,
            suspicion: framing::Suspicion::new(destination.framing),
            suspected: false,
            looks_at: Instant::now(),
            was_connected: false,
            outage: Outage::default(),
            stop,
            destination,
        }
    }

    /// Delivers until told to stop, or to the end of a feed that has one; returns when what was
    /// written is confirmed, or when the time for that is over.
    pub(crate) async fn run(mut self) -> std::io::Result<()> {
        let stop = self.stop.clone();
        let name = self.destination.name.clone();
        tracing::info!(destination = %name, to = %self.destination.target, position = %self.confirmed().position, "delivery starts");
        while !stop.is_cancelled() && !self.feed.is_over(self.confirmed()) {
            if !self.wait_for_reason_to_connect().await {
                break;
            }
            self.delivery.connecting(Instant::now());
            let connected = tokio::select! {
                connected = self.receivers.open() => connected,
                () = stop.cancelled() => break,
            };
            let end = match connected {
                Ok(connection) => {
                    self.connected(&connection);
                    match self.delivery.step() {
                        Step::Control => self.control(connection).await?,
                        Step::Flow | Step::Few(_) => self.stream(connection).await?,
                    }
                }
                Err(error) => End::Broken(error),
            };
            match end {
                End::Drained => self.drained(),
                End::Idle => self.delivery.idle_end(),
                End::Unanswered { window } => self.unanswered(window),
                End::Stop => break,
                End::Broken(error) => {
                    let pause = self.broken(&error).await;
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

    fn confirmed(&self) -> Mark {
        self.delivery.positions().confirmed()
    }

    fn written(&self) -> Mark {
        self.delivery.positions().written()
    }

    fn connected(&mut self, connection: &Connection) {
        self.was_connected = true;
        self.counters.failing.store(false, Ordering::Relaxed);
        self.delivery.connected(Instant::now());
        if let Some(lasted) = self.outage.recovered(Instant::now()) {
            self.tempo.connected(lasted);
            tracing::info!(destination = %self.destination.name, peer = %connection.peer(), seconds = lasted.as_secs(), "receiver reached again");
        }
    }

    /// Writes until the connection ends one way or another.
    async fn stream(&mut self, mut connection: Connection) -> std::io::Result<End> {
        let stop = self.stop.clone();
        loop {
            let now = Instant::now();
            self.settle(now);
            self.tend(now);
            if self.feed.is_over(self.confirmed())
                || self.delivery.drain_due(now)
                || self.gives_back(now)
            {
                return Ok(self.drain(connection).await);
            }
            if self.delivery.wants_progress() && now >= self.looks_at {
                self.looks_at = now + LOOK_EVERY;
                if let Err(error) = self.look(&mut connection) {
                    return Ok(End::Broken(error));
                }
            }
            let may = self.tempo.waits(now).is_none() && !self.receivers.wants_back(now);
            let room = self.delivery.room().filter(|_| may);
            let wake = self.wake(now);
            let chunk = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(self.stop_with(connection).await),
                watched = connection.watch() => match watched {
                    Ok(()) => {
                        if let Err(error) = self.look(&mut connection) {
                            return Ok(End::Broken(error));
                        }
                        continue;
                    }
                    Err(error) => {
                        let idle = self.written() == self.confirmed()
                            && !self.feed.has_more_than(self.written());
                        if idle && matches!(error, SendError::ClosedByPeer { .. }) {
                            // Receivers close connections that idle. The next log opens another.
                            return Ok(End::Idle);
                        }
                        return Ok(End::Broken(error));
                    }
                },
                chunk = self.next_chunk(room) => chunk?,
                () = tokio::time::sleep_until(wake.into()) => continue,
            };
            let Some(chunk) = chunk else {
                if self.feed.ends() {
                    return Ok(self.drain(connection).await);
                }
                // The encoder ended by itself: that is a panic, and recovery is a restart.
                return Err(std::io::Error::other("the encoder of a destination ended"));
            };
            let began = Instant::now();
            let written = tokio::select! {
                written = connection.write(&chunk.frames) => written,
                () = stopped_for(&stop, STOP_WITHIN / 2) => {
                    connection.abort();
                    self.rewind();
                    return Ok(End::Stop);
                }
            };
            if let Err(error) = written {
                // Part of it may have arrived, and the connection may have ended for it.
                self.wrote(chunk, connection.written());
                return Ok(End::Broken(error));
            }
            let (logs, bytes) = (chunk.logs, chunk.frames.len() as u64);
            // Datagrams wait for their own rate alone.
            let datagram = self.delivery.proof() == Proof::Datagram;
            let took = if datagram { Duration::ZERO } else { began.elapsed() };
            self.tempo.wrote(logs, bytes, chunk.after, took);
            self.wrote(chunk, connection.written());
        }
    }

    /// When to look again if nothing happens.
    fn wake(&self, now: Instant) -> Instant {
        let look = self.delivery.wants_progress().then_some(self.looks_at);
        let wake = [self.delivery.wake(), look, self.tempo.waits(now), self.receivers.look_at(now)];
        let wake = wake.into_iter().flatten().min();
        wake.unwrap_or(now + Duration::from_secs(1)).max(now + Duration::from_millis(10))
    }

    /// Learns from the connection what the receiver has.
    fn look(&mut self, connection: &mut Connection) -> Result<(), SendError> {
        let proof = self.delivery.proof();
        let reached = connection.reached(proof)?;
        let logs = self.delivery.reached(reached, Instant::now());
        if proof.is_weak() {
            add(&self.counters.unproven, logs);
        }
        Ok(())
    }

    fn wrote(&mut self, chunk: Chunk, end: u64) {
        crash::point("chunk-written");
        let Chunk { frames, first, after, logs, key } = chunk;
        self.first = self.first.or(first);
        self.delivery.wrote(end, after, frames.len() as u64, logs, Instant::now());
        self.counters.next.store(after.position.seq, Ordering::Relaxed);
        add(&self.counters.written, logs);
        self.unconfirmed.push_back((after, logs, self.shards.shard(&key)));
        if self.delivery.proof() == Proof::Datagram {
            // That nobody refused it is all there is.
            add(&self.counters.unproven, logs);
        }
    }

    /// The next chunk that fits `room`, from a new encoder where there is none for it.
    async fn next_chunk(&mut self, room: Option<Room>) -> std::io::Result<Option<Chunk>> {
        let Some(room) = room else { return std::future::pending().await };
        let room = self.tempo.chunk(room);
        self.chunks.take_if(|(_, fits)| *fits != room);
        let (chunks, _) = match &mut self.chunks {
            Some(chunks) => chunks,
            none => {
                let (destination, counters) =
                    (Arc::clone(&self.destination), Arc::clone(&self.counters));
                let from = self.delivery.positions().written();
                let chunks = encoder::spawn(self.feed.clone(), destination, counters, from, room)?;
                none.insert((chunks, room))
            }
        };
        Ok(chunks.recv().await)
    }

    /// Ends the connection because the relay stops.
    async fn stop_with(&mut self, connection: Connection) -> End {
        match self.drain(connection).await {
            End::Drained => self.drained(),
            End::Unanswered { window } => self.unanswered(window),
            // Whatever was proven before and has not settled goes with it.
            _ => self.rewind(),
        }
        End::Stop
    }

    /// Everything written was read by the receiver.
    fn drained(&mut self) {
        crash::point("logs-proven");
        self.delivery.drained(Instant::now());
    }

    /// The receiver's kernel has everything, but the receiver never closes. After a few times
    /// that is how it is: going on is better than sending the same logs for ever.
    fn unanswered(&mut self, window: bool) {
        let name = &self.destination.name;
        add(&self.counters.unanswered_drains, 1);
        let known = self.delivery.is_deaf();
        match self.delivery.unanswered(window, Instant::now()) {
            Unanswered::Again => self.rewind(),
            Unanswered::Holds => {
                tracing::error!(destination = %name, code = "syslog.drain_unanswered", "the receiver never closes a connection that we have closed, so nothing proves that it read anything; assurance = \"strict\" holds the logs and sends them again: use a receiver that answers, or assurance = \"best\"");
                self.rewind();
            }
            Unanswered::Weaker { proof, unproven } => {
                if !known {
                    tracing::warn!(destination = %name, code = "syslog.drain_unanswered", proof = proof.as_str(), "the receiver left {UNANSWERED} connections open that we had closed, so nothing proves that it read everything (a proxy that does not pass half-closed connections on does the same); delivery goes on with a weaker proof, and logs without any are counted as unproven");
                }
                add(&self.counters.unproven, unproven);
            }
        }
    }

    async fn broken(&mut self, error: &SendError) -> Duration {
        let waiting =
            self.feed.spool.durable().borrow().saturating_sub(self.confirmed().position.seq);
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
        let poison = self.ended(error.death());
        if let Some(at) = poison
            && self.put_aside(at, error).await
        {
            return Duration::ZERO;
        }
        let now = Instant::now();
        self.tend(now);
        let deaf = self.delivery.is_deaf();
        let (pause, moved) = self.receivers.failed(now, deaf);
        if moved {
            self.moved();
        }
        pause
    }

    /// Goes back to what is confirmed.
    fn rewind(&mut self) {
        let _ = self.ended(Death::Unrelated);
    }

    /// Goes back to what is confirmed. Returns the log that is to blame, if one is.
    fn ended(&mut self, death: Death) -> Option<Mark> {
        let ended = self.delivery.ended(death, Instant::now());
        self.counters.next.store(ended.resume.position.seq, Ordering::Relaxed);
        if ended.again > 0 {
            add(&self.counters.resent, ended.again);
            tracing::info!(destination = %self.destination.name, logs = ended.again, "the last connection did not end with a proof: these logs are sent again, and the receiver may see them twice");
        }
        self.unconfirmed.clear();
        self.chunks = None;
        if ended.after_data && messages::framing(&self.destination).is_some() {
            self.suspicion.closed_on_data();
        }
        if !self.suspected
            && let Some(hint) = self.suspicion.hint()
        {
            self.suspected = true;
            tracing::warn!(destination = %self.destination.name, code = "syslog.framing", "{hint}");
        }
        let first = self.first.take();
        ended.poison.then_some(first).flatten()
    }

    /// Takes the one log that the receiver ends every connection for out of the way. False if it
    /// cannot be kept: then nothing is passed over, and it is tried again.
    async fn put_aside(&mut self, at: Mark, error: &SendError) -> bool {
        let why = format!(
            "the receiver ends every connection on which this log is sent, and takes a message of the relay: {error}"
        );
        match poison::quarantine(&self.feed, &self.destination, at, why).await {
            Ok(after) => {
                tracing::error!(destination = %self.destination.name, code = "syslog.poison", position = %at.position, "a log that the receiver ends every connection for is put into the spool's quarantine, and delivery goes on behind it; see it with: sls-relay spool quarantine list");
                add(&self.counters.quarantined, 1);
                self.delivery.passed(after);
                self.feed.confirmed(&self.destination, after);
                true
            }
            Err(error) => {
                tracing::error!(destination = %self.destination.name, code = error.code(), "{}; delivery waits until the log is kept", chain(&error));
                false
            }
        }
    }

    /// Sends a message of the relay's own, to see whether the receiver takes anything.
    async fn control(&mut self, mut connection: Connection) -> std::io::Result<End> {
        let refused = self.delivery.refuses_everything();
        let frames = messages::control(&self.destination, self.confirmed())
            .map_err(std::io::Error::other)?;
        let stop = self.stop.clone();
        let written = tokio::select! {
            written = connection.write(&frames) => written,
            () = stopped_for(&stop, STOP_WITHIN / 2) => return Ok(End::Stop),
        };
        let end = match written {
            Ok(()) => self.drain(connection).await,
            Err(error) => End::Broken(error),
        };
        match &end {
            End::Drained => self.delivery.control(true),
            // It left the connection alone for a settle time, and tells no more of any.
            End::Unanswered { .. } if self.delivery.is_deaf() => self.delivery.control(true),
            End::Broken(error) if error.death() != Death::Unrelated => self.delivery.control(false),
            // Nothing is known.
            _ => {}
        }
        if !refused && self.delivery.refuses_everything() {
            tracing::error!(destination = %self.destination.name, code = "syslog.refuses_everything", framing = %self.destination.framing, "the receiver ends every connection, also for a message of the relay's own, so it is no log's fault and none is put aside; check the receiver, and whether it expects this framing");
        }
        Ok(end)
    }

    /// Confirms what has settled and tells the spool.
    fn settle(&mut self, now: Instant) {
        let Some(mark) = self.delivery.tick(now) else { return };
        self.receivers.worked();
        self.suspicion.proven();
        crash::point("logs-confirmed");
        self.feed.confirmed(&self.destination, mark);
        crash::point("acks-noted");
        while let Some((after, logs, shard)) = self.unconfirmed.front() {
            if *after > mark {
                break;
            }
            self.first = None;
            add(&shard.delivered, *logs);
            add(&self.counters.confirmed, *logs);
            self.unconfirmed.pop_front();
        }
    }

    /// At the end: what the last drain proved settles, and one more accepted connection
    /// confirms it, so that the next start repeats nothing.
    async fn settle_last(&mut self) {
        let Some(at) = self.delivery.last_settle() else { return };
        tokio::time::sleep_until(at.into()).await;
        match self.receivers.open().await {
            Ok(mut connection) => {
                self.delivery.connected(Instant::now());
                let stood = tokio::time::timeout(self.delivery.alive_after(), connection.watch());
                match stood.await {
                    Ok(Err(error)) => {
                        tracing::warn!(destination = %self.destination.name, code = error.code(), "{}; the last logs are sent again at the next start", chain(&error));
                    }
                    Ok(Ok(())) | Err(_) => {
                        let _ = connection.drain(Duration::from_secs(1)).await;
                        self.settle(Instant::now());
                    }
                }
            }
            Err(error) => {
                tracing::warn!(destination = %self.destination.name, code = error.code(), "{}; the last logs are sent again at the next start", chain(&error));
            }
        }
    }
}
