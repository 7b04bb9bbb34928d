//! How fast one destination is sent to, and what there is to tell about it.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::encoder::{CHUNK, Mark};
use super::feed::Feed;
use super::status::{DestinationCounters, Sending};
use crate::config::Destination;
use crate::syslog::delivery::Room;
use crate::syslog::{Backlog, Pacing, PacingSettings, Target};

/// Time between two looks at how far it is.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// The pace of one sender.
pub(crate) struct Tempo {
    pacing: Pacing,
    backlog: Backlog,
    settings: PacingSettings,
    feed: Feed,
    counters: Arc<DestinationCounters>,
    told: Option<Instant>,
}

impl Tempo {
    /// What waits already waited for the relay to start.
    pub(crate) fn new(
        destination: &Destination,
        feed: Feed,
        counters: Arc<DestinationCounters>,
    ) -> Self {
        let now = Instant::now();
        let mut pacing = Pacing::new(destination.pacing, now);
        if feed.replay.is_none() {
            pacing.catch_up(feed.spool.logs_ever(), now);
        }
        let (backlog, settings) = (Backlog::default(), destination.pacing);
        Self { pacing, backlog, settings, feed, counters, told: None }
    }

    /// A connection was made, so long after it was first tried.
    pub(crate) fn connected(&mut self, outage: Duration) {
        let end = if self.feed.replay.is_none() { self.feed.spool.logs_ever() } else { 0 };
        self.pacing.connected(outage, end, Instant::now());
    }

    /// When the next chunk may be written; nothing where that is now.
    pub(crate) fn waits(&self, now: Instant) -> Option<Instant> {
        let pause = self.pacing.pause(now);
        (!pause.is_zero()).then(|| now + pause)
    }

    /// What one chunk may hold of `room`.
    pub(crate) fn chunk(&self, room: Room) -> Room {
        let bytes = Pacing::most_bytes(&self.settings).min(CHUNK as u64);
        Room {
            logs: room.logs.min(Pacing::most_logs(&self.settings)),
            bytes: room.bytes.min(bytes),
        }
    }

    /// So many logs up to `after` were written in so many bytes, which took the socket so long.
    pub(crate) fn wrote(&mut self, logs: u64, bytes: u64, after: Mark, took: Duration) {
        self.pacing.wrote(logs, bytes, after.log, took, Instant::now());
    }

    /// Tells how it goes, now and then: what was written up to, and to whom.
    pub(crate) fn tell(&mut self, written: Mark, receiver: &Target, now: Instant) {
        let early = |told: Instant| now.saturating_duration_since(told) < TELL_EVERY;
        if self.feed.replay.is_some() || self.told.is_some_and(early) {
            return;
        }
        self.told = Some(now);
        self.backlog.observe(written.log, self.feed.spool.logs_ever(), now);
        let whole = |number: f64| number.round() as u64;
        let sending = Sending {
            receiver: Some(receiver.to_string()),
            rate: self.backlog.rate().map(whole),
            eta_seconds: self.backlog.eta().map(|eta| eta.as_secs()),
            slowed_to: self.pacing.adapted(),
        };
        *self.counters.sending.lock().unwrap_or_else(PoisonError::into_inner) = sending;
    }

    /// Told at the next chance, as the receiver is another one.
    pub(crate) fn tell_soon(&mut self) {
        self.told = None;
    }
}
