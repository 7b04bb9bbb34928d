//! The reference server: a consumer group as the protocol describes it, with shards of
//! numbered logs. Written apart from the emulator, so that the two do not share a mistake.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

pub(super) type Name = usize;

/// What the server says no with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum No {
    UnknownWithBody,
    NotMatch,
    GroupUnknown,
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    NotAlloc,
    Alloc(Name),
    Wait,
    Transfer { holder: Name, next: Name },
    Over { reporting: Option<Name> },
}

/// A checkpoint and who made it; an operator has no name.
pub(super) type Checkpoint = Option<(u64, Option<Name>)>;

#[derive(Debug)]
pub(super) struct Shard {
    pub(super) parents: Vec<u32>,
    /// Logs written so far.
    pub(super) end: u64,
    pub(super) read_only: bool,
    pub(super) state: State,
    pub(super) checkpoint: Checkpoint,
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) timeout: Duration,
    pub(super) ordered: bool,
    /// The literal reading: only a commit makes a shard `over`, never the split behind it.
    pub(super) over_by_commit_only: bool,
    pub(super) exists: bool,
    pub(super) shards: BTreeMap<u32, Shard>,
    consumers: BTreeMap<Name, Instant>,
}

impl Server {
    pub(super) fn new(timeout: Duration, ordered: bool, over_by_commit_only: bool) -> Self {
        let (shards, consumers) = (BTreeMap::new(), BTreeMap::new());
        Self { timeout, ordered, over_by_commit_only, exists: true, shards, consumers }
    }

    pub(super) fn add_shard(&mut self, parents: Vec<u32>) -> u32 {
        let id = self.shards.keys().next_back().map_or(0, |last| last + 1);
        let state = State::NotAlloc;
        let shard = Shard { parents, end: 0, read_only: false, state, checkpoint: None };
        self.shards.insert(id, shard);
        id
    }

    /// Splits one shard in two, or merges two into one.
    pub(super) fn replace(&mut self, parents: &[u32], children: usize) {
        for parent in parents {
            self.shard(*parent).read_only = true;
        }
        for _ in 0..children {
            self.add_shard(parents.to_vec());
        }
    }

    pub(super) fn delete_group(&mut self) {
        self.exists = false;
        self.consumers.clear();
        for shard in self.shards.values_mut() {
            (shard.state, shard.checkpoint) = (State::NotAlloc, None);
        }
    }

    pub(super) fn heartbeat(
        &mut self,
        now: Instant,
        name: Name,
        body: &[u32],
        rng: &mut fastrand::Rng,
    ) -> Result<Vec<u32>, No> {
        self.settle(now);
        if !self.exists {
            return Err(No::GroupUnknown);
        }
        if !body.is_empty() && !self.consumers.contains_key(&name) {
            return Err(No::UnknownWithBody);
        }
        self.consumers.insert(name, now);
        for (id, shard) in &mut self.shards {
            if body.contains(id) {
                continue;
            }
            match shard.state {
                State::Transfer { holder, next } if holder == name => {
                    shard.state = State::Alloc(next);
                }
                State::Over { reporting } if reporting == Some(name) => {
                    shard.state = State::Over { reporting: None };
                }
                _ => {}
            }
        }
        self.balance(rng);
        let mine = |shard: &Shard| shard.state == State::Alloc(name);
        Ok(self.shards.iter().filter(|(_, shard)| mine(shard)).map(|(id, _)| *id).collect())
    }

    /// Without a name it is the operator's, and always accepted.
    pub(super) fn commit(
        &mut self,
        now: Instant,
        by: Option<Name>,
        id: u32,
        cursor: u64,
    ) -> Result<(), No> {
        self.settle(now);
        if !self.exists {
            return Err(No::GroupUnknown);
        }
        let shard = self.shard(id);
        let holder = match shard.state {
            State::Alloc(holder) | State::Transfer { holder, .. } => Some(holder),
            State::Over { reporting } => reporting,
            State::NotAlloc | State::Wait => None,
        };
        if by.is_some() && by != holder {
            return Err(No::NotMatch);
        }
        shard.checkpoint = Some((cursor, by));
        let at_end = shard.read_only && cursor == shard.end;
        shard.state = match shard.state {
            State::Over { reporting: Some(name) } if !at_end => State::Alloc(name),
            State::Over { reporting: None } if !at_end => State::NotAlloc,
            State::Over { .. } => shard.state,
            _ if at_end => State::Over { reporting: holder },
            state => state,
        };
        Ok(())
    }

    pub(super) fn checkpoint(&mut self, now: Instant, id: u32) -> Result<Checkpoint, No> {
        self.settle(now);
        if self.exists { Ok(self.shard(id).checkpoint) } else { Err(No::GroupUnknown) }
    }

    pub(super) fn shard(&mut self, id: u32) -> &mut Shard {
        self.shards.get_mut(&id).expect("a shard is never deleted")
    }

    pub(super) fn is_over(&self, id: u32) -> bool {
        matches!(self.shards[&id].state, State::Over { .. })
    }

    /// What time and the logstore have changed.
    fn settle(&mut self, now: Instant) {
        let timeout = self.timeout;
        self.consumers.retain(|_, last| now < *last + timeout);
        let alive: BTreeSet<Name> = self.consumers.keys().copied().collect();
        for shard in self.shards.values_mut() {
            shard.state = match shard.state {
                State::Alloc(owner) if !alive.contains(&owner) => State::NotAlloc,
                State::Transfer { holder, .. } if !alive.contains(&holder) => State::NotAlloc,
                State::Transfer { holder, next } if !alive.contains(&next) => State::Alloc(holder),
                State::Over { reporting: Some(name) } if !alive.contains(&name) => {
                    State::Over { reporting: None }
                }
                state => state,
            };
            let at_end = shard.checkpoint.is_some_and(|(cursor, _)| cursor == shard.end);
            if !self.over_by_commit_only && shard.read_only && at_end {
                shard.state = match shard.state {
                    State::Alloc(name) | State::Transfer { holder: name, .. } => {
                        State::Over { reporting: Some(name) }
                    }
                    State::NotAlloc | State::Wait => State::Over { reporting: None },
                    over @ State::Over { .. } => over,
                };
            }
        }
        let ids: Vec<u32> = self.shards.keys().copied().collect();
        for id in ids {
            let waits = self.ordered && self.has_open_ancestor(id);
            let shard = self.shard(id);
            match shard.state {
                State::NotAlloc if waits => shard.state = State::Wait,
                State::Wait if !waits => shard.state = State::NotAlloc,
                _ => {}
            }
        }
    }

    fn has_open_ancestor(&self, id: u32) -> bool {
        let mut parents = self.shards[&id].parents.iter();
        parents.any(|parent| !self.is_over(*parent) || self.has_open_ancestor(*parent))
    }

    /// Any choice that evens out the loads is a right one, so it is left to chance.
    fn balance(&mut self, rng: &mut fastrand::Rng) {
        loop {
            let mut loads: Vec<(usize, Name)> =
                self.consumers.keys().map(|name| (self.heirlooms(*name).len(), *name)).collect();
            rng.shuffle(&mut loads);
            let (Some(least), Some(most)) =
                (loads.iter().min_by_key(|load| load.0), loads.iter().max_by_key(|load| load.0))
            else {
                return;
            };
            let (to, uneven) = (least.1, most.0 - least.0 > 1);
            let free: Vec<u32> = self
                .shards
                .iter()
                .filter(|(_, shard)| shard.state == State::NotAlloc)
                .map(|(id, _)| *id)
                .collect();
            if let Some(id) = rng.choice(free) {
                self.shard(id).state = State::Alloc(to);
            } else if uneven && let Some(id) = rng.choice(self.heirlooms(most.1)) {
                let shard = self.shard(id);
                shard.state = match shard.state {
                    State::Alloc(holder) | State::Transfer { holder, .. } if holder == to => {
                        State::Alloc(to)
                    }
                    State::Alloc(holder) | State::Transfer { holder, .. } => {
                        State::Transfer { holder, next: to }
                    }
                    state => state,
                };
            } else {
                return;
            }
        }
    }

    /// The shards a consumer will have once all transfers are done.
    fn heirlooms(&self, name: Name) -> Vec<u32> {
        let his = |shard: &Shard| match shard.state {
            State::Alloc(owner) => owner == name,
            State::Transfer { next, .. } => next == name,
            _ => false,
        };
        self.shards.iter().filter(|(_, shard)| his(shard)).map(|(id, _)| *id).collect()
    }
}
