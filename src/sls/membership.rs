//! Which shards this consumer holds: one consumer of a consumer group as a state
//! machine, without I/O and without a clock of its own.
//!
//! The heartbeat's answer is the complete set of shards this consumer may hold. A shard
//! missing from it is drained and committed first; its absence from a later heartbeat
//! body is what SLS waits for before another consumer gets it. The lease ends one
//! heartbeat interval earlier here than at SLS, counted from the *sending* of the last
//! heartbeat that was answered, so that no two consumers ever believe they hold a shard.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::error::{Advice, Error};

/// The times a membership keeps.
#[derive(Clone, Copy, Debug)]
pub struct MembershipConfig {
    /// How often heartbeats are sent. At most a quarter of `group_timeout` leaves room
    /// for one to fail.
    pub heartbeat_interval: Duration,
    /// After so long without a heartbeat SLS gives the shards to others: the group's
    /// actual `timeout`, not the one that was asked for.
    pub group_timeout: Duration,
}

impl MembershipConfig {
    /// How long the lease lasts after the sending of a heartbeat that was answered.
    pub fn lease(&self) -> Duration {
        self.group_timeout.saturating_sub(self.heartbeat_interval)
    }

    /// How long one heartbeat may wait for its answer: half an interval. Where that is
    /// less than a second it may be a second, but never more than a third of the lease, so
    /// that one answer that does not come leaves room for others.
    pub fn heartbeat_timeout(&self) -> Duration {
        let quick = Duration::from_secs(1).min(self.lease() / 3);
        (self.heartbeat_interval / 2).max(quick)
    }

    /// How long to wait after a heartbeat that failed.
    pub fn retry_interval(&self) -> Duration {
        self.heartbeat_interval / 4
    }
}

/// What the owner of the membership has to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Take the shard: read its checkpoint and pull.
    Start(u32),
    /// The shard is wanted elsewhere: stop pulling, commit what was pulled, and answer
    /// with [`Membership::on_drained`].
    Stop(u32),
    /// The lease on all shards has ended: stop at once and commit nothing. Nothing
    /// needs to be answered.
    DropAll(Vec<u32>),
}

/// The shards of one consumer.
#[derive(Debug)]
pub struct Membership {
    config: MembershipConfig,
    shards: BTreeMap<u32, Hold>,
    /// Lost since the last body was made. The answer to a heartbeat that was under way
    /// then may still list them, and means nothing.
    lost: BTreeSet<u32>,
    /// When the last answered heartbeat was sent.
    answered: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Held,
    Draining {
        /// SLS has given the shard back meanwhile.
        returned: bool,
    },
}

impl Membership {
    /// A consumer that holds nothing yet. Its first heartbeat body is empty, as SLS
    /// demands of a consumer it does not know.
    pub fn new(config: MembershipConfig) -> Self {
        Self { config, shards: BTreeMap::new(), lost: BTreeSet::new(), answered: None }
    }

    /// The group's timeout was changed. The lease of the last answered heartbeat ends by
    /// the new times.
    pub fn set_times(&mut self, config: MembershipConfig) {
        self.config = config;
    }

    /// The body of the next heartbeat: everything still touched, that is held and
    /// draining shards. Make it right before sending.
    pub fn heartbeat_body(&mut self) -> Vec<u32> {
        self.lost.clear();
        self.shards.keys().copied().collect()
    }

    /// A heartbeat that was sent at `sent_at` was answered with `reply`, all shards this
    /// consumer may hold. Call it for one heartbeat after the other. An answer so late
    /// that the lease it would give has ended by `now` gives nothing: the process stood
    /// still, and SLS may have given the shards to others meanwhile.
    pub fn on_heartbeat(&mut self, sent_at: Instant, now: Instant, reply: &[u32]) -> Vec<Action> {
        if self.answered.is_some_and(|last| sent_at < last) {
            return Vec::new();
        }
        self.answered = Some(sent_at);
        if now.saturating_duration_since(sent_at) >= self.config.lease() {
            return self.drop_all();
        }
        let reply: BTreeSet<u32> = reply.iter().copied().collect();
        let mut actions = Vec::new();
        for (shard, hold) in &mut self.shards {
            match hold {
                Hold::Held if !reply.contains(shard) => {
                    *hold = Hold::Draining { returned: false };
                    actions.push(Action::Stop(*shard));
                }
                Hold::Held => {}
                Hold::Draining { returned } => *returned = reply.contains(shard),
            }
        }
        for shard in reply.difference(&self.lost) {
            if !self.shards.contains_key(shard) {
                self.shards.insert(*shard, Hold::Held);
                actions.push(Action::Start(*shard));
            }
        }
        actions
    }

    /// A heartbeat failed. Only an answer that proves the loss of the lease has
    /// consequences; after all others the deadline decides.
    pub fn on_heartbeat_error(&mut self, error: &Error) -> Vec<Action> {
        match error.advice() {
            Advice::Rejoin => self.drop_all(),
            _ => Vec::new(),
        }
    }

    /// Time has passed. Call it at least at [`Membership::deadline`].
    pub fn on_tick(&mut self, now: Instant) -> Vec<Action> {
        match self.deadline() {
            Some(deadline) if now >= deadline => self.drop_all(),
            _ => Vec::new(),
        }
    }

    /// A shard told to stop is drained and committed: it leaves the heartbeat body, or
    /// starts again when SLS has given it back meanwhile.
    pub fn on_drained(&mut self, shard: u32) -> Vec<Action> {
        match self.shards.get(&shard) {
            Some(Hold::Draining { returned: true }) => {
                self.shards.insert(shard, Hold::Held);
                vec![Action::Start(shard)]
            }
            Some(Hold::Draining { returned: false }) => {
                self.shards.remove(&shard);
                Vec::new()
            }
            // Lost or dropped before it was drained, or never told to stop.
            Some(Hold::Held) | None => Vec::new(),
        }
    }

    /// A commit was refused because another consumer holds the shard, and the caller has
    /// stopped it: it leaves the heartbeat body at once. It starts again when the answer
    /// to a later heartbeat lists it.
    pub fn on_lost(&mut self, shard: u32) {
        self.shards.remove(&shard);
        self.lost.insert(shard);
    }

    /// The shards held, without those draining.
    pub fn held(&self) -> Vec<u32> {
        self.with(|hold| hold == Hold::Held)
    }

    /// The shards told to stop and not drained yet.
    pub fn draining(&self) -> Vec<u32> {
        self.with(|hold| hold != Hold::Held)
    }

    /// When the lease ends unless a heartbeat is answered; none while nothing is held.
    pub fn deadline(&self) -> Option<Instant> {
        let answered = self.answered.filter(|_| !self.shards.is_empty())?;
        answered.checked_add(self.config.lease())
    }

    fn with(&self, wanted: impl Fn(Hold) -> bool) -> Vec<u32> {
        self.shards.iter().filter(|(_, hold)| wanted(**hold)).map(|(shard, _)| *shard).collect()
    }

    fn drop_all(&mut self) -> Vec<Action> {
        let dropped: Vec<u32> = std::mem::take(&mut self.shards).into_keys().collect();
        if dropped.is_empty() { Vec::new() } else { vec![Action::DropAll(dropped)] }
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
