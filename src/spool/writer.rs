//! The one thread that writes: gathers what all fetchers brought, appends it as one group,
//! waits for the barrier, answers with receipts, and lets go of what is done with.

mod accept;
mod room;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::catalog::CatalogEntry;
use super::command::{Answer, Command, Pending};
use super::crash;
use super::entry::{Change, Header, ShardKey};
use super::error::Error;
use super::quota::Quota;
use super::retention::{Retention, entries as journals, journal, reached};
use super::segment::{NewEntry, Segment};
use super::shared::Shared;
use super::state::SegmentInfo;

/// Bytes of bodies that one barrier covers at most.
const GROUP_BYTES: usize = 8 << 20;
/// Positions are written with the next group, or by themselves after this time.
const JOURNAL_EVERY: Duration = Duration::from_millis(500);
/// How long the writer stays awake after a group for the next batch.
const AWAKE: Duration = Duration::from_micros(150);
/// Pause before a new segment is tried after the disk failed.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Batches the catalog may be behind while more come in; in a pause it catches up. What one
/// batch costs there is a tenth of its barrier, most of it is saved by many at once.
const UNINDEXED: usize = 64;

pub(crate) struct Writer {
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    quota: Quota,
    retention: Retention,
    /// When it was last seen what retention lets go of.
    retained_at: Instant,
    /// A batch did not fit, and segments that nobody holds may make room.
    pressed: bool,
    segment: Option<Segment>,
    incarnation: u64,
    segment_bytes: u64,
    tenures: HashMap<ShardKey, u64>,
    next_tenure: u64,
    changes: Vec<Change>,
    changed_at: Option<Instant>,
    retry_at: Option<Instant>,
    /// Why it waits until then.
    failure: Option<Error>,
    /// When segments that could not be removed are tried again.
    remove_at: Option<Instant>,
    /// Durable batches that the catalog does not know yet, oldest first.
    unindexed: Vec<CatalogEntry>,
    flushes: Vec<oneshot::Sender<Result<(), Error>>>,
    /// Changes that are made with the next group or, where it fails, not at all.
    orders: Vec<(Change, oneshot::Sender<Result<(), Error>>)>,
    closing: bool,
    /// The last turn stored something.
    busy: bool,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        commands: Receiver<Command>,
        (quota, retention): (Quota, Retention),
        segment: Segment,
        incarnation: u64,
    ) -> Self {
        let segment_bytes = quota.segment_bytes();
        Self {
            shared,
            commands,
            quota,
            retention,
            retained_at: Instant::now(),
            pressed: false,
            segment: Some(segment),
            incarnation,
            segment_bytes,
            tenures: HashMap::new(),
            next_tenure: 1,
            changes: Vec::new(),
            changed_at: None,
            retry_at: None,
            failure: None,
            remove_at: None,
            unindexed: Vec::new(),
            flushes: Vec::new(),
            orders: Vec::new(),
            closing: false,
            busy: false,
        }
    }

    pub(crate) fn run(mut self) {
        while !self.closing {
            let (mut accepted, mut pause) = (Vec::new(), false);
            match self.next_command() {
                Ok(command) => self.take(command, &mut accepted),
                Err(RecvTimeoutError::Timeout) => pause = true,
                Err(RecvTimeoutError::Disconnected) => self.closing = true,
            }
            let mut bytes = 0;
            while bytes < GROUP_BYTES
                && let Ok(command) = self.commands.try_recv()
            {
                self.take(command, &mut accepted);
                bytes = accepted.iter().map(|pending| pending.entry.body.len()).sum();
            }
            self.busy = !accepted.is_empty();
            self.turn(accepted);
            if pause || self.unindexed.len() >= UNINDEXED {
                self.index();
            }
        }
        crash::point("last-group-due");
        self.prove_last();
        crash::point("last-group-proven");
        self.index();
        let state = self.shared.lock().state.clone();
        let mut catalog = self.shared.catalog();
        catalog.set_positions(&state);
        catalog.flush();
        crash::point("ended");
    }

    /// The next command. Right after a group the next batch is often a moment away, and
    /// waking a sleeping thread takes as long as that moment: it is waited for awake.
    fn next_command(&self) -> Result<Command, RecvTimeoutError> {
        if self.busy {
            let start = Instant::now();
            while start.elapsed() < AWAKE {
                if let Ok(command) = self.commands.try_recv() {
                    return Ok(command);
                }
                std::thread::yield_now();
            }
        }
        self.commands.recv_timeout(self.patience())
    }

    /// Ends with a group without batches, whose header says that the group before it is
    /// durable: without it, later damage to that one would look like an unfinished write.
    fn prove_last(&mut self) {
        let Some(mut open) = self.segment.take() else { return };
        let reached = reached(&self.shared.lock().state);
        if open.append_last_group(&[NewEntry::bare(Header::Journal(vec![reached]))]).is_ok()
            && let Some(info) = self.shared.lock().state.segments.get_mut(&open.id)
        {
            info.length = open.length;
        }
    }

    fn patience(&self) -> Duration {
        let retry = self.retry_at.map(|at| at.saturating_duration_since(Instant::now()));
        match (self.changed_at, retry) {
            (Some(at), retry) => {
                JOURNAL_EVERY.saturating_sub(at.elapsed()).max(retry.unwrap_or_default())
            }
            (None, _) => Duration::from_secs(1),
        }
    }

    fn take(&mut self, command: Command, accepted: &mut Vec<Pending>) {
        match command {
            Command::Append { tenure, key, append, reply } => {
                if append.is_live() && self.tenures.get(&key) != Some(&tenure) {
                    let _ = reply.send(Err(Error::TenureEnded { shard: key.to_string() }));
                    return;
                }
                match self.accept(key, append, accepted) {
                    Ok((header, body, body_crc, receipt)) => accepted.push(Pending {
                        entry: NewEntry { header, body, body_crc },
                        answer: Answer::Receipt(receipt, reply),
                    }),
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            Command::Begin { key, start, checkpoint, reply } => {
                self.begin(key, start, checkpoint, reply, accepted);
            }
            Command::End { key, tenure } => {
                if self.tenures.get(&key) == Some(&tenure) {
                    self.tenures.remove(&key);
                }
            }
            Command::Change(change) => self.note(change),
            Command::Order(change, reply) => self.orders.push((change, reply)),
            Command::Flush(reply) => self.flushes.push(reply),
            Command::Close => self.closing = true,
        }
    }

    /// Remembers a change; a later ack or commit replaces an earlier one.
    fn note(&mut self, change: Change) {
        // Where a destination gave way, what it confirms may be behind that.
        let behind = |old: &Change| match (old, &change) {
            (
                Change::Ack { destination: a, position: from, .. },
                Change::Ack { destination: b, position: to, .. },
            ) => a == b && from > to,
            _ => false,
        };
        if self.changes.iter().any(behind) {
            return;
        }
        self.changes.retain(|old| match (old, &change) {
            (Change::Ack { destination: a, .. }, Change::Ack { destination: b, .. }) => a != b,
            (Change::Committed { key: a, .. }, Change::Committed { key: b, .. }) => a != b,
            (Change::Intended { key: a, .. }, Change::Intended { key: b, .. }) => a != b,
            _ => true,
        });
        self.changes.push(change);
        self.changed_at.get_or_insert_with(Instant::now);
    }

    fn turn(&mut self, mut accepted: Vec<Pending>) {
        let urgent = self.let_go();
        let due = self.closing
            || urgent
            || !self.flushes.is_empty()
            || self.changed_at.is_some_and(|at| at.elapsed() >= JOURNAL_EVERY);
        self.measure();
        if self.remove_at.is_some_and(|at| at <= Instant::now()) {
            self.unlink();
        }
        let ordered = !self.orders.is_empty();
        let waiting = !accepted.is_empty() || ordered || (due && !self.changes.is_empty());
        if waiting && let Err(error) = self.write(&mut accepted) {
            self.shared.failed(&error);
            for pending in accepted {
                pending.refuse(&error);
            }
            let orders = self.orders.drain(..).map(|(_, reply)| reply);
            for reply in self.flushes.drain(..).chain(orders) {
                let _ = reply.send(Err(error.again()));
            }
            return;
        }
        if self.segment.is_none()
            && self.retry_at.is_some_and(|at| at <= Instant::now())
            && let Err(error) = self.roll()
        {
            self.shared.failed(&error);
        }
        let orders = self.orders.drain(..).map(|(_, reply)| reply);
        for reply in self.flushes.drain(..).chain(orders) {
            let _ = reply.send(Ok(()));
        }
        for pending in accepted {
            match pending.answer {
                Answer::Receipt(receipt, reply) => drop(reply.send(Ok(receipt))),
                Answer::Tenure(key, reply) => {
                    let tenure = self.grant(key);
                    let _ = reply.send(Ok(tenure));
                }
            }
        }
    }

    /// Writes one group, and a new segment where one is due.
    fn write(&mut self, accepted: &mut [Pending]) -> Result<(), Error> {
        if self.segment.is_none() {
            self.roll()?;
        }
        let Some(open) = self.segment.as_mut() else { return Err(Error::Closed) };
        let mut changes = self.changes.clone();
        changes.extend(self.orders.iter().map(|(change, _)| change.clone()));
        let journal = {
            let inner = self.shared.lock();
            journal(&inner.state, &changes, open.id, (&self.retention, self.shared.pinned()))
        };
        let mut entries: Vec<NewEntry> = accepted
            .iter_mut()
            .map(|pending| {
                std::mem::replace(&mut pending.entry, NewEntry::bare(Header::Journal(Vec::new())))
            })
            .collect();
        if let Some(changes) = journal {
            entries.extend(journals(changes).into_iter().map(NewEntry::bare));
        }
        let before = open.length;
        let size: u64 = entries.iter().map(|entry| entry.body.len() as u64).sum();
        let last = before + size >= self.segment_bytes;
        let written =
            if last { open.append_last_group(&entries) } else { open.append_group(&entries) };
        let offsets = match written {
            Ok(offsets) => offsets,
            Err(error) => {
                // Seal the file at its proven length: what the failed write left is unknown.
                self.segment = None;
                self.retry_at = Some(Instant::now() + RETRY_AFTER);
                self.failure = Some(error.again());
                return Err(error);
            }
        };
        crash::point("group-synced");
        if self.changes.iter().any(|change| matches!(change, Change::Ack { .. })) {
            crash::point("acks-synced");
        }
        self.changes.clear();
        self.changed_at = None;
        let (segment, length) = (open.id, open.length);
        self.quota.wrote(length - before);
        let floor = {
            let mut inner = self.shared.lock();
            let floor = inner.state.floor;
            for (entry, offset) in entries.iter().zip(offsets) {
                inner.state.apply(segment, &entry.header);
                if let Header::Batch(header) = &entry.header {
                    let (incarnation, header) = (self.incarnation, header.clone());
                    self.unindexed.push(CatalogEntry { segment, offset, incarnation, header });
                }
            }
            if let Some(info) = inner.state.segments.get_mut(&segment) {
                info.length = length;
            }
            (inner.state.floor > floor).then_some(inner.state.floor)
        };
        self.publish();
        crash::point("group-published");
        if floor.is_some() {
            crash::point("floor-synced");
            self.unlink();
        }
        self.roll_if_due();
        Ok(())
    }

    /// Something was written: shows it, and that the disk works.
    fn publish(&self) {
        self.shared.publish();
        if self.remove_at.is_none() {
            self.shared.works();
        }
    }

    fn roll_if_due(&mut self) {
        let due = {
            let inner = self.shared.lock();
            let length = self.segment.as_ref().map_or(0, |open| open.length);
            let sealed = self.segment.as_ref().is_some_and(Segment::is_sealed);
            let drained = inner.state.oldest_needed() >= inner.state.next_seq;
            sealed || length >= self.segment_bytes || (drained && length >= self.segment_bytes / 4)
        };
        if due && let Err(error) = self.roll() {
            // The failed one may lie on the disk with a whole snapshot, and the next start
            // would take it for the newest: nothing may be written behind it any more.
            self.segment = None;
            self.shared.failed(&error);
        }
    }

    /// Opens a new segment, which makes everything older removable down to the floor.
    fn roll(&mut self) -> Result<(), Error> {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            // What the disk said stands until it is asked again.
            return Err(self.failure.as_ref().map_or(Error::Closed, Error::again));
        }
        let mut state = self.shared.lock().state.clone();
        let id = self.shared.next_segment();
        let info = SegmentInfo::beginning(&state);
        state.segments.insert(id, info);
        let floor = self.retention.floor(&state, id, self.shared.pinned());
        if let Some(open) = &mut self.segment
            && open.id >= floor
            && open.holds_batches()
            && !open.is_sealed()
        {
            open.append_last_group(&[])?;
            if let Some(info) = state.segments.get_mut(&open.id) {
                info.length = open.length;
            }
        }
        state.apply(id, &Header::Journal(vec![Change::Floor { segment: floor }]));
        let created = self.quota.with_reserve(self.shared.disk(), |disk| {
            Segment::create(disk, id, self.incarnation, Header::Snapshot(state.clone()))
        });
        let created = match created {
            Ok(created) => created,
            Err(error) => {
                self.retry_at = Some(Instant::now() + RETRY_AFTER);
                self.failure = Some(error.again());
                return Err(error);
            }
        };
        self.retry_at = None;
        if let Some(info) = state.segments.get_mut(&id) {
            info.length = created.length;
        }
        // With more than a segment waiting before it, the closed one is not read for a while. Its
        // memory is of more use to the next segment: pages that were never used before can
        // cost ten times as much to fill where the machine is a virtual one.
        if let Some(closed) = self.segment.replace(created)
            && let Some(info) = state.segments.get(&closed.id)
            && state.oldest_needed() < info.first_seq
        {
            closed.uncache();
        }
        self.shared.catalog().set_positions(&state);
        self.shared.lock().state = state;
        self.publish();
        crash::point("segment-rolled");
        self.unlink();
        Ok(())
    }

    /// Removes the segments below the floor. A failure only delays it: no quota counts what is
    /// not removed, so it is tried until it works.
    fn unlink(&mut self) {
        let (floor, oldest) = {
            let inner = self.shared.lock();
            let first = inner.state.segments.values().next();
            (inner.state.floor, first.map_or(inner.state.next_seq, |info| info.first_seq))
        };
        let removed = self.shared.remove_unneeded(floor);
        // Who is told of room must find it.
        self.quota.stale();
        self.measure();
        self.remove_at = match removed {
            Ok(any) => {
                if any {
                    self.shared.room();
                }
                if self.remove_at.is_some() && self.segment.is_some() {
                    self.shared.works();
                }
                None
            }
            Err(error) => {
                self.shared.failed(&error);
                Some(Instant::now() + RETRY_AFTER)
            }
        };
        self.unindexed.retain(|entry| entry.header.seq >= oldest);
        self.shared.catalog().remove_before(oldest);
    }

    /// Counts what is used. Never asks the disk while holding the state: a hung one must not
    /// stop heartbeats.
    fn measure(&mut self) {
        let segments: Vec<u64> = self.shared.lock().state.segments.keys().copied().collect();
        if self.quota.refresh(self.shared.disk(), self.segment.as_ref(), &segments) {
            self.shared.room();
        }
    }

    /// Brings the catalog up to date.
    fn index(&mut self) {
        if self.unindexed.is_empty() {
            return;
        }
        crash::point("catalog-inserting");
        self.shared.catalog().insert(&self.unindexed);
        crash::point("catalog-inserted");
        self.unindexed.clear();
    }
}
