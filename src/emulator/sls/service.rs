//! The emulated service's state and the calls that read or change it.
//!
//! One lock guards the store and the groups; log groups are made, encoded and
//! compressed outside it. Everything runs on the service's own clock, which tests skew.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::Timestamp;

use super::answer::{Answer, Refusal};
use super::asked;
use super::auth::Key;
use super::faults::Faults;
use super::filter::Filter;
use super::group::{Group, ShardFacts};
use super::repeat::Repeated;
use super::request::{Call, Request};
use super::store::Store;

/// A checkpoint the service accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedCheckpoint {
    /// Consumer group.
    pub group: String,
    /// Who committed it; empty when a forced commit named nobody.
    pub consumer: String,
    /// The shard.
    pub shard: u32,
    /// The cursor as a number.
    pub cursor: i64,
    /// `forceSuccess`.
    pub forced: bool,
}

/// Counts of what was asked since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlsStats {
    /// PullLogs requests answered with 200.
    pub pulls: u64,
    /// Heartbeats answered with 200.
    pub heartbeats: u64,
    /// Checkpoints accepted.
    pub checkpoints: u64,
    /// Requests refused for their signature, key or time.
    pub refused_signatures: u64,
}

/// What the routes share.
pub(super) struct Service {
    pub project: String,
    pub logstore: String,
    pub key: Key,
    pub zstd: bool,
    pub max_raw_bytes: usize,
    /// Answers kept for the next who asks; none where log groups differ.
    pub repeated: Option<Repeated>,
    pub faults: Faults,
    pub counters: Counters,
    state: Mutex<State>,
}

/// [`SlsStats`] while it is counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub pulls: AtomicU64,
    pub heartbeats: AtomicU64,
    pub refused_signatures: AtomicU64,
    pub requests: AtomicU64,
}

/// What changes.
pub(super) struct State {
    pub store: Store,
    pub groups: BTreeMap<String, Group>,
    pub processors: BTreeMap<String, Filter>,
    pub accepted: Vec<AcceptedCheckpoint>,
    pub puts: usize,
    pub asked: asked::Log,
}

/// Settings of a [`Service`].
pub(super) struct Identity {
    pub project: String,
    pub logstore: String,
    pub key: Key,
}

impl Service {
    pub(super) fn new(
        identity: Identity,
        zstd: bool,
        max_raw_bytes: usize,
        store: impl FnOnce(u64) -> Store,
    ) -> Service {
        let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
        let state = State {
            store: store(now),
            groups: BTreeMap::new(),
            processors: BTreeMap::new(),
            accepted: Vec::new(),
            puts: 0,
            asked: asked::Log::default(),
        };
        Service {
            project: identity.project,
            logstore: identity.logstore,
            key: identity.key,
            zstd,
            max_raw_bytes,
            repeated: None,
            faults: Faults::default(),
            counters: Counters::default(),
            state: Mutex::new(state),
        }
    }

    /// Carries out a request, or says why not.
    pub(super) fn answer(
        &self,
        request: &Request,
        call: Result<Call, Refusal>,
    ) -> Result<Answer, Refusal> {
        self.key.check(request, self.clock().as_second()).inspect_err(|_| {
            self.counters.refused_signatures.fetch_add(1, Ordering::Relaxed);
        })?;
        let host = request.header("host").unwrap_or_default();
        let project = host.split('.').next().unwrap_or_default();
        if project != self.project {
            let message = format!("project {project} does not exist, the host was {host}");
            return Err(Refusal::new(404, "ProjectNotExist", message));
        }
        let call = call?;
        match call.logstore() {
            Some(name) if name != self.logstore => {
                let message = format!("logstore {name} does not exist in project {project}");
                Err(Refusal::new(404, "LogStoreNotExist", message))
            }
            _ => self.route(request, call),
        }
    }

    /// The service's clock.
    pub(super) fn clock(&self) -> Timestamp {
        let skew = jiff::SignedDuration::from_secs(self.faults.clock_skew());
        let now = Timestamp::now();
        now.checked_add(skew).unwrap_or(now)
    }

    /// The service's clock in seconds since the epoch.
    pub(super) fn unix(&self) -> u64 {
        u64::try_from(self.clock().as_second()).unwrap_or_default()
    }

    /// The state; a panic elsewhere does not make it unusable.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stats(&self) -> SlsStats {
        SlsStats {
            pulls: self.counters.pulls.load(Ordering::Relaxed),
            heartbeats: self.counters.heartbeats.load(Ordering::Relaxed),
            checkpoints: self.state().accepted.len() as u64,
            refused_signatures: self.counters.refused_signatures.load(Ordering::Relaxed),
        }
    }
}

impl State {
    /// Runs `act` on a group with the time and the shards as they are now.
    pub(super) fn with_group<T>(
        &mut self,
        name: &str,
        act: impl FnOnce(&mut Group, Instant, &[ShardFacts]) -> T,
    ) -> Result<T, Refusal> {
        let facts: Vec<ShardFacts> = self
            .store
            .shards()
            .map(|shard| ShardFacts {
                id: shard.id,
                parents: shard.parents.clone(),
                end: shard.is_read_only().then(|| shard.end()),
            })
            .collect();
        let group = self.groups.get_mut(name).ok_or_else(|| {
            let message = format!("consumer group {name} does not exist, create it first");
            Refusal::new(404, "ConsumerGroupNotExist", message)
        })?;
        Ok(act(group, Instant::now(), &facts))
    }
}
