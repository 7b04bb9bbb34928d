//! One snapshot of what the relay is doing, for logs, the demo and every command.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::spool::ShardKey;

/// Counters that the tasks keep while they work. Shared by all of them.
#[derive(Debug, Default)]
pub struct Counters {
    shards: Mutex<BTreeMap<ShardKey, Arc<ShardCounters>>>,
    destinations: Mutex<BTreeMap<String, Arc<DestinationCounters>>>,
    sources: Mutex<BTreeMap<String, Arc<SourceCounters>>>,
}

/// One source since the relay started.
#[derive(Debug)]
pub struct SourceCounters {
    /// Seconds that the clock of SLS is ahead of this machine's.
    pub clock_offset: AtomicI64,
    /// Seconds until SLS deletes the first log group of a held shard that was not pulled;
    /// [`UNKNOWN`] when nothing waits there, or its retention is not known.
    pub retention_left: AtomicI64,
}

impl Default for SourceCounters {
    fn default() -> Self {
        Self { clock_offset: AtomicI64::new(0), retention_left: AtomicI64::new(UNKNOWN) }
    }
}

/// One shard since the relay started.
#[derive(Debug, Default)]
pub struct ShardCounters {
    /// Logs in answers of SLS.
    pub pulled: AtomicU64,
    /// Logs with a receipt of the spool.
    pub spooled: AtomicU64,
    /// Logs confirmed by a receiver.
    pub delivered: AtomicU64,
    /// Checkpoints committed.
    pub commits: AtomicU64,
    /// Gaps: stretches that SLS deleted before they were pulled.
    pub gaps: AtomicU64,
    /// Log groups in those gaps, where SLS numbers them.
    pub gap_groups: AtomicU64,
    /// Answers that could not be read and were put into quarantine.
    pub unreadable: AtomicU64,
    /// Logs on which SLS says that the filter failed.
    pub filter_failed: AtomicU64,
    /// Whether another process was found to commit under our name.
    pub twin: AtomicBool,
    /// Whether the last answer reached the shard's end.
    pub at_end: AtomicBool,
    /// Whether everything before the end of an export was pulled.
    pub exported: AtomicBool,
    /// Whether the shard is held now.
    pub held: AtomicBool,
    /// Log groups that SLS has and the spool does not; [`UNKNOWN`] when that is not known.
    pub lag_groups: AtomicI64,
    /// Seconds since SLS received the first of them; [`UNKNOWN`] when that is not known.
    pub lag_seconds: AtomicI64,
}

/// A number that is not known.
pub const UNKNOWN: i64 = -1;

/// One destination since the relay started.
#[derive(Debug, Default)]
pub struct DestinationCounters {
    /// Messages written to the transport, repeated ones included.
    pub written: AtomicU64,
    /// Messages confirmed.
    pub confirmed: AtomicU64,
    /// Messages that were written again after an abnormal end.
    pub resent: AtomicU64,
    /// Messages confirmed on the word of the peer's kernel alone.
    pub unproven: AtomicU64,
    /// Messages cut at their end to the size limit.
    pub truncated: AtomicU64,
    /// Messages with values shortened to the size limit.
    pub shrunk: AtomicU64,
    /// Logs sent as several messages for the size limit.
    pub split: AtomicU64,
    /// Logs that the destination's filters leave out; counted again where delivery goes back.
    pub filtered: AtomicU64,
    /// Drains that were begun.
    pub drains: AtomicU64,
    /// Drains that the receiver did not answer.
    pub unanswered_drains: AtomicU64,
    /// Logs put into the quarantine; those of a log that is met again, too.
    pub quarantined: AtomicU64,
    /// Connections that ended abnormally or were refused.
    pub failures: AtomicU64,
    /// Logs that were let go of before they were confirmed, because the spool was full and the
    /// destination is not required.
    pub given_up: AtomicU64,
    /// The batch that is written next.
    pub next: AtomicU64,
    /// Whether the last connection ended abnormally or was refused.
    pub failing: AtomicBool,
    /// How it is sent to at the moment.
    pub sending: Mutex<Sending>,
}

/// How one destination is sent to at the moment.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Sending {
    /// The receiver in use.
    pub receiver: Option<String>,
    /// Logs sent a second over the last minute, where that was measured.
    pub rate: Option<u64>,
    /// Seconds until nothing waits, if it goes on like this; none where more comes than is sent.
    pub eta_seconds: Option<u64>,
    /// Logs a second that are not exceeded because the receiver is slow or was away.
    pub slowed_to: Option<u64>,
}

/// What [`Counters`] say at one moment.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Snapshot {
    /// Logs pulled from SLS.
    pub pulled: u64,
    /// Logs made durable.
    pub spooled: u64,
    /// Checkpoints committed.
    pub commits: u64,
    /// Gaps: stretches that SLS deleted before they were pulled.
    pub gaps: u64,
    /// Log groups in those gaps, where SLS numbers them.
    pub gap_groups: u64,
    /// Answers that could not be read and were put into quarantine.
    pub unreadable: u64,
    /// Logs on which SLS says that the filter failed.
    pub filter_failed: u64,
    /// Shards that another process commits under our name, and that stand still therefore.
    pub twins: u64,
    /// By source.
    pub sources: BTreeMap<String, SourceSnapshot>,
    /// The shards that were held since the start.
    pub shards: Vec<ShardSnapshot>,
    /// By destination.
    pub destinations: BTreeMap<String, DestinationSnapshot>,
}

/// What one source's counters say at one moment.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct SourceSnapshot {
    /// See [`SourceCounters::clock_offset`].
    pub clock_offset_seconds: i64,
    /// See [`SourceCounters::retention_left`].
    pub retention_left_seconds: Option<u64>,
}

/// What one shard's counters say at one moment.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ShardSnapshot {
    /// Where the shard lives.
    pub source: String,
    /// Its number.
    pub shard: u32,
    /// Whether it is held now.
    pub held: bool,
    /// See [`ShardCounters::pulled`].
    pub pulled: u64,
    /// See [`ShardCounters::spooled`].
    pub spooled: u64,
    /// See [`ShardCounters::delivered`].
    pub delivered: u64,
    /// Log groups that SLS has and the spool does not, where that is known.
    pub lag_groups: Option<u64>,
    /// Seconds since SLS received the first of them, where that is known.
    pub lag_seconds: Option<u64>,
}

/// What one destination's counters say at one moment.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct DestinationSnapshot {
    /// See [`DestinationCounters::written`].
    pub written: u64,
    /// See [`DestinationCounters::confirmed`].
    pub confirmed: u64,
    /// See [`DestinationCounters::resent`].
    pub resent: u64,
    /// See [`DestinationCounters::unproven`].
    pub unproven: u64,
    /// See [`DestinationCounters::truncated`].
    pub truncated: u64,
    /// See [`DestinationCounters::shrunk`].
    pub shrunk: u64,
    /// See [`DestinationCounters::split`].
    pub split: u64,
    /// See [`DestinationCounters::filtered`].
    pub filtered: u64,
    /// See [`DestinationCounters::drains`].
    pub drains: u64,
    /// See [`DestinationCounters::unanswered_drains`].
    pub unanswered_drains: u64,
    /// See [`DestinationCounters::quarantined`].
    pub quarantined: u64,
    /// See [`DestinationCounters::failures`].
    pub failures: u64,
    /// See [`DestinationCounters::given_up`].
    pub given_up: u64,
    /// See [`DestinationCounters::sending`].
    #[serde(flatten)]
    pub sending: Sending,
}

impl Counters {
    /// The counters of a shard.
    pub fn shard(&self, key: &ShardKey) -> Arc<ShardCounters> {
        Arc::clone(lock(&self.shards).entry(key.clone()).or_default())
    }

    /// The counters of a destination.
    pub fn destination(&self, name: &str) -> Arc<DestinationCounters> {
        Arc::clone(lock(&self.destinations).entry(name.to_owned()).or_default())
    }

    /// The counters of a source.
    pub fn source(&self, name: &str) -> Arc<SourceCounters> {
        Arc::clone(lock(&self.sources).entry(name.to_owned()).or_default())
    }

    /// All destinations.
    pub fn destinations(&self) -> Vec<Arc<DestinationCounters>> {
        lock(&self.destinations).values().cloned().collect()
    }

    /// All shards that were ever held.
    pub fn shards(&self) -> Vec<(ShardKey, Arc<ShardCounters>)> {
        lock(&self.shards).iter().map(|(key, shard)| (key.clone(), Arc::clone(shard))).collect()
    }

    /// Adds up.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (key, shard) in self.shards() {
            snapshot.shards.push(ShardSnapshot::of(key, &shard));
            snapshot.pulled += read(&shard.pulled);
            snapshot.spooled += read(&shard.spooled);
            snapshot.commits += read(&shard.commits);
            snapshot.gaps += read(&shard.gaps);
            snapshot.gap_groups += read(&shard.gap_groups);
            snapshot.unreadable += read(&shard.unreadable);
            snapshot.filter_failed += read(&shard.filter_failed);
            snapshot.twins += u64::from(shard.twin.load(Ordering::Relaxed));
        }
        for (name, counters) in lock(&self.sources).iter() {
            let left = counters.retention_left.load(Ordering::Relaxed);
            let source = SourceSnapshot {
                clock_offset_seconds: counters.clock_offset.load(Ordering::Relaxed),
                retention_left_seconds: u64::try_from(left).ok(),
            };
            snapshot.sources.insert(name.clone(), source);
        }
        for (name, counters) in lock(&self.destinations).iter() {
            snapshot.destinations.insert(name.clone(), DestinationSnapshot::of(counters));
        }
        snapshot
    }
}

impl DestinationSnapshot {
    fn of(counters: &DestinationCounters) -> Self {
        Self {
            written: read(&counters.written),
            confirmed: read(&counters.confirmed),
            resent: read(&counters.resent),
            unproven: read(&counters.unproven),
            truncated: read(&counters.truncated),
            shrunk: read(&counters.shrunk),
            split: read(&counters.split),
            filtered: read(&counters.filtered),
            drains: read(&counters.drains),
            unanswered_drains: read(&counters.unanswered_drains),
            quarantined: read(&counters.quarantined),
            failures: read(&counters.failures),
            given_up: read(&counters.given_up),
            sending: lock(&counters.sending).clone(),
        }
    }
}

impl ShardSnapshot {
    fn of(key: ShardKey, shard: &ShardCounters) -> Self {
        Self {
            source: key.source,
            shard: key.shard,
            held: shard.held.load(Ordering::Relaxed),
            pulled: read(&shard.pulled),
            spooled: read(&shard.spooled),
            delivered: read(&shard.delivered),
            lag_groups: known(&shard.lag_groups),
            lag_seconds: known(&shard.lag_seconds),
        }
    }
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

/// Reads a counter.
pub(crate) fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// A number, unless it is [`UNKNOWN`].
fn known(number: &AtomicI64) -> Option<u64> {
    u64::try_from(number.load(Ordering::Relaxed)).ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
