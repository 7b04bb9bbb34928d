//! The server's half of a consumer group, without I/O: who holds which shard.
//!
//! Time comes in as an argument, answers go out as values. A shard is in one of five
//! states. It leaves a living holder only by way of `transfer`: the holder's heartbeats
//! no longer name it in the answer, and the first heartbeat that does not list it any
//! more hands it to the next owner. A holder that misses the group's timeout loses all
//! it had at once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What the logstore knows of a shard and a consumer group must know.
#[derive(Clone, Debug)]
pub struct ShardFacts {
    /// Shard id.
    pub id: u32,
    /// Shards it was split or merged from.
    pub parents: Vec<u32>,
    /// Cursor behind the last group, once the shard is read-only.
    pub end: Option<i64>,
}

/// Where a shard stands in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardState {
    /// Nobody has it.
    NotAlloc,
    /// Its owner may consume it.
    AlreadyAlloc,
    /// In-order groups only: an ancestor is not over.
    Wait,
    /// Taken away; its holder still reports it.
    Transfer,
    /// Read-only, and its end is committed.
    Over,
}

/// Why the group refused a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// `NotExistConsumerWithBody`: never seen or timed out.
    #[error("consumer {0} is unknown or timed out but reports shards, start with an empty list")]
    NotExistConsumerWithBody(String),
    /// `ConsumerNotMatch`: a fenced commit by someone who does not hold the shard.
    #[error("shard {shard} is not held by consumer {consumer}, stop consuming it")]
    ConsumerNotMatch {
        /// The shard.
        shard: u32,
        /// Who tried.
        consumer: String,
    },
    /// `ShardNotExist`.
    #[error("shard {0} does not exist, list the shards first")]
    ShardNotExist(u32),
}

/// A committed position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The cursor as a number.
    pub cursor: i64,
    /// Who committed it; empty when nobody was named.
    pub consumer: String,
    /// When, microseconds since the epoch.
    pub update_micros: u64,
}

/// A request to commit.
#[derive(Clone, Copy, Debug)]
pub struct Commit<'a> {
    /// Who asks.
    pub consumer: &'a str,
    /// The shard.
    pub shard: u32,
    /// The cursor as a number.
    pub cursor: i64,
    /// `forceSuccess`: accept it whoever holds the shard.
    pub force: bool,
    /// Wall clock, microseconds since the epoch.
    pub update_micros: u64,
}

/// One consumer group.
#[derive(Debug)]
pub struct Group {
    timeout: Duration,
    order: bool,
    consumers: BTreeMap<String, Instant>,
    tenures: BTreeMap<u32, Tenure>,
}

#[derive(Debug)]
struct Tenure {
    state: ShardState,
    /// Holds it in `already_alloc` and `transfer`, and in `over` while still reporting it.
    owner: Option<String>,
    /// Gets it after `transfer`.
    next: Option<String>,
    checkpoint: Option<Checkpoint>,
}

impl Group {
    /// A group nobody has joined.
    pub fn new(timeout: Duration, order: bool) -> Group {
        Group { timeout, order, consumers: BTreeMap::new(), tenures: BTreeMap::new() }
    }

    /// Changes the settings (`UpdateConsumerGroup`).
    pub fn update(&mut self, timeout: Option<Duration>, order: Option<bool>) {
        self.timeout = timeout.unwrap_or(self.timeout);
        self.order = order.unwrap_or(self.order);
    }

    /// Time without a heartbeat after which a consumer loses its shards.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Do children of a split or merge wait for their parents?
    pub fn order(&self) -> bool {
        self.order
    }

    /// Takes a heartbeat; gives the complete set of shards the consumer may consume.
    ///
    /// # Errors
    /// [`GroupError::NotExistConsumerWithBody`].
    pub fn heartbeat(
        &mut self,
        now: Instant,
        facts: &[ShardFacts],
        consumer: &str,
        reported: &[u32],
    ) -> Result<Vec<u32>, GroupError> {
        self.advance(now, facts);
        if !self.consumers.contains_key(consumer) && !reported.is_empty() {
            return Err(GroupError::NotExistConsumerWithBody(consumer.to_owned()));
        }
        self.consumers.insert(consumer.to_owned(), now);
        for (id, tenure) in &mut self.tenures {
            if tenure.owner.as_deref() == Some(consumer) && !reported.contains(id) {
                tenure.let_go();
            }
        }
        self.balance();
        let mine = self.tenures.iter().filter(|(_, tenure)| {
            tenure.state == ShardState::AlreadyAlloc && tenure.owner.as_deref() == Some(consumer)
        });
        Ok(mine.map(|(id, _)| *id).collect())
    }

    /// Commits a checkpoint; without `force` only for the present holder, which stays the
    /// holder in `transfer` for as long as it reports the shard.
    ///
    /// # Errors
    /// [`GroupError::ShardNotExist`], [`GroupError::ConsumerNotMatch`].
    pub fn commit(
        &mut self,
        now: Instant,
        facts: &[ShardFacts],
        commit: &Commit<'_>,
    ) -> Result<(), GroupError> {
        self.advance(now, facts);
        let Some(tenure) = self.tenures.get_mut(&commit.shard) else {
            return Err(GroupError::ShardNotExist(commit.shard));
        };
        if !commit.force && tenure.owner.as_deref() != Some(commit.consumer) {
            let consumer = commit.consumer.to_owned();
            return Err(GroupError::ConsumerNotMatch { shard: commit.shard, consumer });
        }
        tenure.checkpoint = Some(Checkpoint {
            cursor: commit.cursor,
            consumer: commit.consumer.to_owned(),
            update_micros: commit.update_micros,
        });
        self.advance(now, facts);
        Ok(())
    }

    /// Forgets a consumer, which loses its shards: as if its timeout had passed.
    pub fn expel(&mut self, now: Instant, consumer: &str) {
        self.consumers.remove(consumer);
        self.time_out(now);
    }

    /// Every shard with its checkpoint, if it has one.
    pub fn checkpoints(
        &mut self,
        now: Instant,
        facts: &[ShardFacts],
    ) -> Vec<(u32, Option<Checkpoint>)> {
        self.advance(now, facts);
        self.tenures.iter().map(|(id, tenure)| (*id, tenure.checkpoint.clone())).collect()
    }

    /// Who may commit which shard now.
    pub fn holders(&mut self, now: Instant, facts: &[ShardFacts]) -> BTreeMap<u32, String> {
        self.advance(now, facts);
        let held = self.tenures.iter().filter(|(_, tenure)| {
            matches!(tenure.state, ShardState::AlreadyAlloc | ShardState::Transfer)
        });
        held.filter_map(|(id, tenure)| Some((*id, tenure.owner.clone()?))).collect()
    }

    /// The state of one shard, if the group knows it.
    pub fn state(&self, shard: u32) -> Option<ShardState> {
        self.tenures.get(&shard).map(|tenure| tenure.state)
    }

    /// Applies what time and the logstore have changed since the last call.
    fn advance(&mut self, now: Instant, facts: &[ShardFacts]) {
        self.time_out(now);
        for shard in facts {
            self.tenures.entry(shard.id).or_insert_with(Tenure::new);
        }
        for shard in facts {
            let over = self.is_over(shard);
            if let Some(tenure) = self.tenures.get_mut(&shard.id) {
                tenure.set_over(over);
            }
        }
        for shard in facts {
            let waits = self.order && self.has_unfinished_ancestor(facts, shard);
            if let Some(tenure) = self.tenures.get_mut(&shard.id) {
                tenure.set_waiting(waits);
            }
        }
    }

    fn time_out(&mut self, now: Instant) {
        let timeout = self.timeout;
        self.consumers.retain(|_, last| now.saturating_duration_since(*last) <= timeout);
        for tenure in self.tenures.values_mut() {
            let alive = |name: &Option<String>| {
                name.as_ref().is_some_and(|name| self.consumers.contains_key(name))
            };
            if tenure.owner.is_some() && !alive(&tenure.owner) {
                tenure.owner = None;
                tenure.next = None;
                if tenure.state != ShardState::Over {
                    tenure.state = ShardState::NotAlloc;
                }
            } else if tenure.state == ShardState::Transfer && !alive(&tenure.next) {
                tenure.keep();
            }
        }
    }

    fn is_over(&self, shard: &ShardFacts) -> bool {
        let checkpoint = self.tenures.get(&shard.id).and_then(|tenure| tenure.checkpoint.as_ref());
        checkpoint.is_some_and(|checkpoint| Some(checkpoint.cursor) == shard.end)
    }

    fn has_unfinished_ancestor(&self, facts: &[ShardFacts], shard: &ShardFacts) -> bool {
        facts.iter().filter(|parent| shard.parents.contains(&parent.id)).any(|parent| {
            self.state(parent.id) != Some(ShardState::Over)
                || self.has_unfinished_ancestor(facts, parent)
        })
    }

    /// Gives every free shard an owner and evens out what the consumers will have once
    /// all transfers are done, to a difference of at most one.
    fn balance(&mut self) {
        loop {
            let mut loads: BTreeMap<&str, usize> =
                self.consumers.keys().map(|name| (name.as_str(), 0)).collect();
            for tenure in self.tenures.values() {
                if let Some(load) = tenure.heir().and_then(|heir| loads.get_mut(heir)) {
                    *load += 1;
                }
            }
            let Some((least, low)) = loads.iter().min_by_key(|(_, load)| **load) else { return };
            let Some((most, high)) = loads.iter().max_by_key(|(_, load)| **load) else { return };
            let (least, most, uneven) = ((*least).to_owned(), (*most).to_owned(), high - low > 1);
            let mut tenures: Vec<&mut Tenure> = self.tenures.values_mut().collect();
            let free = tenures.iter().position(|tenure| tenure.state == ShardState::NotAlloc);
            if let Some(free) = free {
                tenures[free].give_to(least);
                continue;
            }
            if !uneven {
                return;
            }
            // A shard on its way to the fullest is turned round before another is taken.
            let of_most = |tenure: &&mut Tenure| tenure.heir() == Some(most.as_str());
            tenures.retain(of_most);
            tenures.sort_by_key(|tenure| tenure.state != ShardState::Transfer);
            let Some(surplus) = tenures.into_iter().next() else { return };
            surplus.promise_to(least);
        }
    }
}

impl Tenure {
    fn new() -> Tenure {
        Tenure { state: ShardState::NotAlloc, owner: None, next: None, checkpoint: None }
    }

    /// Who has it once a transfer under way is done.
    fn heir(&self) -> Option<&str> {
        match self.state {
            ShardState::AlreadyAlloc => self.owner.as_deref(),
            ShardState::Transfer => self.next.as_deref(),
            ShardState::NotAlloc | ShardState::Wait | ShardState::Over => None,
        }
    }

    fn give_to(&mut self, consumer: String) {
        self.state = ShardState::AlreadyAlloc;
        self.owner = Some(consumer);
        self.next = None;
    }

    fn promise_to(&mut self, consumer: String) {
        if self.owner.as_ref() == Some(&consumer) {
            return self.keep();
        }
        self.state = ShardState::Transfer;
        self.next = Some(consumer);
    }

    fn keep(&mut self) {
        self.state = ShardState::AlreadyAlloc;
        self.next = None;
    }

    /// The holder does not report it: ends a transfer, means nothing while allocated.
    fn let_go(&mut self) {
        match (self.state, self.next.take()) {
            (ShardState::Transfer, Some(next)) => self.give_to(next),
            (ShardState::Over, _) => self.owner = None,
            _ => {}
        }
    }

    fn set_over(&mut self, over: bool) {
        if over {
            self.state = ShardState::Over;
            self.next = None;
        } else if self.state == ShardState::Over {
            self.state =
                if self.owner.is_some() { ShardState::AlreadyAlloc } else { ShardState::NotAlloc };
        }
    }

    /// Only a shard nobody has yet can be made to wait.
    fn set_waiting(&mut self, waits: bool) {
        if waits && self.state == ShardState::NotAlloc {
            self.state = ShardState::Wait;
        } else if !waits && self.state == ShardState::Wait {
            self.state = ShardState::NotAlloc;
        }
    }
}

#[cfg(test)]
mod tests;
