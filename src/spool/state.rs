//! All live state of the spool, as the fold of its entries.
//!
//! Every segment begins with a snapshot of this; applying the entries behind it in order
//! gives the state at any later point. Nothing else has to be remembered.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};

use super::entry::{Change, Header, Origin, Position, Seq, ShardKey};
use super::spans::{Span, Spans};

/// Live state: see the module.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
pub struct State {
    /// Number of the next batch.
    pub next_seq: Seq,
    /// Logs ever spooled.
    pub next_log: u64,
    /// Positions in SLS.
    pub shards: BTreeMap<ShardKey, ShardState>,
    /// Positions of delivery.
    pub destinations: BTreeMap<String, Delivered>,
    /// Segments below this id are done with.
    pub floor: u64,
    /// The segments from the floor on.
    pub segments: BTreeMap<u64, SegmentInfo>,
    /// Batches in front of which delivery stops.
    pub holds: Spans,
    /// Batches that nobody gets any more, and where the logs go on behind each.
    pub drops: Vec<Dropped>,
}

/// Batches that an operator dropped.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Dropped {
    /// The batches.
    pub span: Span,
    /// Logs ever spooled before the batch behind them.
    pub end_log: u64,
}

/// Where one shard stands.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
pub struct ShardState {
    /// Cursor to pull with next: everything before it is, or was, in the spool.
    pub position: String,
    /// The last checkpoint known to be committed.
    pub committed: Option<String>,
    /// Cursors that a commit may have left on the server without its answer being seen:
    /// the one that was announced, if any, and those reached since, oldest first.
    pub chain: Vec<String>,
}

/// Most cursors in a chain. Where commits follow the spool, some thirty wait for one at
/// most. Where they follow delivery, any number may, but only the announced one, which
/// comes first and stays, can be on the server.
const CHAIN: usize = 128;

impl ShardState {
    /// Whether `checkpoint`, as the server tells it, is one we made ourselves.
    pub fn is_ours(&self, checkpoint: Option<&str>) -> bool {
        match checkpoint {
            None => self.committed.is_none(),
            Some(cursor) => {
                self.committed.as_deref() == Some(cursor)
                    || self.chain.iter().any(|known| known == cursor)
            }
        }
    }
}

/// Where one destination stands.
#[derive(Clone, Copy, Debug, Decode, Default, Encode, Eq, PartialEq)]
pub struct Delivered {
    /// The next log to confirm.
    pub position: Position,
    /// The same, counted in logs ever spooled.
    pub log: u64,
}

/// One segment file.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct SegmentInfo {
    /// First batch in it, or the next one to come.
    pub first_seq: Seq,
    /// One past the last batch in it.
    pub end_seq: Seq,
    /// Logs ever spooled when it began.
    pub first_log: u64,
    /// Logs ever spooled at its end.
    pub end_log: u64,
    /// Proven length in bytes.
    pub length: u64,
    /// Smallest log time in it, s since the epoch; `u32::MAX` without logs.
    pub min_time: u32,
    /// Largest log time in it, s since the epoch.
    pub max_time: u32,
    /// Smallest time of receipt in it, ms since the epoch; `i64::MAX` without batches.
    pub min_received: i64,
    /// Largest time of receipt in it, ms since the epoch; `i64::MIN` without batches.
    pub max_received: i64,
}

/// Layout 1 of [`State`].
#[derive(Decode)]
pub(crate) struct StateV1 {
    next_seq: Seq,
    next_log: u64,
    shards: BTreeMap<ShardKey, ShardState>,
    destinations: BTreeMap<String, Delivered>,
    floor: u64,
    segments: BTreeMap<u64, SegmentInfoV1>,
}

#[derive(Decode)]
struct SegmentInfoV1 {
    first_seq: Seq,
    end_seq: Seq,
    first_log: u64,
    end_log: u64,
    length: u64,
    min_time: u32,
    max_time: u32,
}

impl From<StateV1> for State {
    fn from(old: StateV1) -> Self {
        let segment = |info: SegmentInfoV1| SegmentInfo {
            first_seq: info.first_seq,
            end_seq: info.end_seq,
            first_log: info.first_log,
            end_log: info.end_log,
            length: info.length,
            min_time: info.min_time,
            max_time: info.max_time,
            // Unknown: any time.
            min_received: i64::MIN,
            max_received: i64::MAX,
        };
        Self {
            next_seq: old.next_seq,
            next_log: old.next_log,
            shards: old.shards,
            destinations: old.destinations,
            floor: old.floor,
            segments: old.segments.into_iter().map(|(id, info)| (id, segment(info))).collect(),
            holds: Spans::default(),
            drops: Vec::new(),
        }
    }
}

impl SegmentInfo {
    /// A segment that begins where `state` ends.
    pub(crate) fn beginning(state: &State) -> Self {
        Self {
            first_seq: state.next_seq,
            end_seq: state.next_seq,
            first_log: state.next_log,
            end_log: state.next_log,
            length: 0,
            min_time: u32::MAX,
            max_time: 0,
            min_received: i64::MAX,
            max_received: i64::MIN,
        }
    }
}

impl State {
    /// Applies one entry of `segment`. A snapshot replaces everything.
    pub(crate) fn apply(&mut self, segment: u64, header: &Header) {
        match header {
            Header::Snapshot(snapshot) => *self = snapshot.clone(),
            Header::Batch(batch) => {
                self.next_seq = self.next_seq.max(batch.seq + 1);
                self.next_log = self.next_log.max(batch.end_log());
                if batch.origin == Origin::Live {
                    self.advance(&batch.key, &batch.next_cursor);
                }
                let (next_seq, next_log) = (self.next_seq, self.next_log);
                if let Some(info) = self.segments.get_mut(&segment) {
                    info.end_seq = next_seq;
                    info.end_log = next_log;
                    info.min_time = info.min_time.min(batch.min_time);
                    info.max_time = info.max_time.max(batch.max_time);
                    info.min_received = info.min_received.min(batch.received_at);
                    info.max_received = info.max_received.max(batch.received_at);
                }
            }
            Header::Progress(progress) if progress.jump => {
                let shard = ShardState {
                    position: progress.next_cursor.clone(),
                    committed: (!progress.cursor.is_empty()).then(|| progress.cursor.clone()),
                    chain: vec![progress.next_cursor.clone()],
                };
                self.shards.insert(progress.key.clone(), shard);
            }
            Header::Progress(progress) => self.advance(&progress.key, &progress.next_cursor),
            Header::Journal(changes) => changes.iter().for_each(|change| self.change(change)),
            Header::Footer(_) => {}
        }
    }

    /// A copy that knows of no shard. A thousand of them are most of what a copy costs, and
    /// nothing about segments and delivery depends on them.
    pub(crate) fn without_shards(&self) -> Self {
        Self {
            next_seq: self.next_seq,
            next_log: self.next_log,
            shards: BTreeMap::new(),
            destinations: self.destinations.clone(),
            floor: self.floor,
            segments: self.segments.clone(),
            holds: self.holds.clone(),
            drops: self.drops.clone(),
        }
    }

    /// The oldest batch that some destination still has to confirm.
    pub fn oldest_needed(&self) -> Seq {
        let needed = self.destinations.values().map(|delivered| delivered.position.seq).min();
        needed.unwrap_or(self.segments.values().next().map_or(self.next_seq, |info| info.first_seq))
    }

    /// The lowest segment that must stay: it holds a batch still needed, or it is `newest`.
    pub(crate) fn wanted_floor(&self, newest: u64) -> u64 {
        let needed = self.oldest_needed();
        let holding = self.segments.iter().find(|(_, info)| info.end_seq > needed);
        holding.map_or(newest, |(id, _)| *id).max(self.floor)
    }

    /// The segment that holds batch `seq`, or the first one after it.
    pub(crate) fn segment_of(&self, seq: Seq) -> Option<u64> {
        self.segments.iter().find(|(_, info)| info.end_seq > seq).map(|(id, _)| *id)
    }

    /// An ack beyond the recovered end is possible after damage; numbers still never repeat.
    pub(crate) fn raise_past_acks(&mut self) {
        for delivered in self.destinations.values() {
            let past = delivered.position.seq + u64::from(delivered.position.index > 0);
            self.next_seq = self.next_seq.max(past);
            self.next_log = self.next_log.max(delivered.log);
        }
    }

    fn advance(&mut self, key: &ShardKey, next_cursor: &str) {
        let shard = self.shards.entry(key.clone()).or_default();
        shard.position = next_cursor.to_owned();
        if shard.chain.last().map(String::as_str) != Some(next_cursor) {
            shard.chain.push(next_cursor.to_owned());
            if shard.chain.len() > CHAIN {
                shard.chain.remove(1);
            }
        }
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::Ack { destination, position, log } => {
                if let Some(delivered) = self.destinations.get_mut(destination)
                    && delivered.position < *position
                {
                    *delivered = Delivered { position: *position, log: *log };
                }
                self.pass_drops();
            }
            Change::Committed { key, cursor } => {
                if let Some(shard) = self.shards.get_mut(key) {
                    if let Some(at) = shard.chain.iter().position(|known| known == cursor) {
                        shard.chain.drain(..=at);
                    }
                    shard.committed = Some(cursor.clone());
                }
            }
            Change::Floor { segment } => {
                self.floor = self.floor.max(*segment);
                self.segments.retain(|id, _| *id >= *segment);
                let first = self.segments.values().next().map_or(self.next_seq, |i| i.first_seq);
                self.holds.remove(Span { first: 0, end: first });
                self.drops.retain(|dropped| dropped.span.end > first);
            }
            Change::AddDestination { name, position, log } => {
                let delivered = Delivered { position: *position, log: *log };
                self.destinations.entry(name.clone()).or_insert(delivered);
            }
            Change::Intended { key, cursor } => {
                if let Some(shard) = self.shards.get_mut(key) {
                    shard.chain = vec![cursor.clone()];
                }
            }
            Change::Reached { next_seq, next_log } => {
                self.next_seq = self.next_seq.max(*next_seq);
                self.next_log = self.next_log.max(*next_log);
            }
            Change::ForgetDestination { name } => {
                self.destinations.remove(name);
            }
            Change::Hold { span } => self.holds.insert(*span),
            Change::Release { span } => self.holds.remove(*span),
            Change::Drop { span, end_log } => {
                self.holds.remove(*span);
                self.drops.push(Dropped { span: *span, end_log: *end_log });
                self.pass_drops();
            }
        }
    }

    /// A destination that stands at dropped batches goes on behind them.
    fn pass_drops(&mut self) {
        for delivered in self.destinations.values_mut() {
            while let Some(dropped) =
                self.drops.iter().find(|dropped| dropped.span.contains(delivered.position.seq))
            {
                let position = Position { seq: dropped.span.end, index: 0 };
                *delivered = Delivered { position, log: dropped.end_log.max(delivered.log) };
            }
        }
    }

    /// Whether nobody gets batch `seq` any more.
    pub fn is_dropped(&self, seq: Seq) -> bool {
        self.drops.iter().any(|dropped| dropped.span.contains(seq))
    }
}
