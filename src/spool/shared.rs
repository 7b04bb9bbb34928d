//! What the writer, the readers and the handles see of one another.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::catalog::Catalog;
use super::crash;
use super::disk::Disk;
use super::entry::Seq;
use super::error::Error;
use super::keys::Keys;
use super::segment;
use super::standing::{self, GivenUp};
use super::state::State;

pub(crate) struct Shared {
    disk: Arc<dyn Disk>,
    inner: Mutex<Inner>,
    catalog: Mutex<Catalog>,
    /// The number after the newest durable batch.
    durable: watch::Sender<Seq>,
    /// See [`Inner::needed`].
    needed: watch::Sender<Seq>,
    /// What destinations lost that are not required.
    given_up: watch::Sender<GivenUp>,
    /// Changes whenever there may be room again.
    room: watch::Sender<u64>,
    highest_segment: AtomicU64,
    /// One past the last batch that was given to a destination since the start.
    taken: AtomicU64,
    /// Batches from which on nothing is let go of, by the number of the pin.
    pins: Mutex<BTreeMap<u64, Seq>>,
    /// Held while the ledger and the quarantine are written to. What single logs in the
    /// quarantine take, in bytes, once that is known.
    kept: Mutex<Option<u64>>,
    pub(crate) used: Arc<AtomicU64>,
    pub(crate) keys: Keys,
}

pub(crate) struct Inner {
    pub(crate) state: State,
    /// Destinations that do not hold the spool.
    pub(crate) yielding: BTreeSet<String>,
    pub(crate) last_error: Option<String>,
}

impl Inner {
    /// The oldest batch that some destination which holds the spool still has to confirm; of
    /// all destinations where none does.
    pub(crate) fn needed(&self) -> Seq {
        standing::needed(&self.state, &self.yielding)
    }
}

impl Shared {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        catalog: Catalog,
        state: State,
        highest_segment: u64,
        used: Arc<AtomicU64>,
        keys: Keys,
    ) -> Self {
        let durable = watch::Sender::new(state.next_seq);
        let needed = watch::Sender::new(state.oldest_needed());
        Self {
            disk,
            inner: Mutex::new(Inner { state, yielding: BTreeSet::new(), last_error: None }),
            catalog: Mutex::new(catalog),
            durable,
            needed,
            given_up: watch::Sender::default(),
            room: watch::Sender::new(0),
            highest_segment: AtomicU64::new(highest_segment),
            taken: AtomicU64::new(0),
            pins: Mutex::default(),
            kept: Mutex::default(),
            used,
            keys,
        }
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// The disk for ledger and quarantine, for one at a time: destinations come upon the same
    /// damage at the same time.
    pub(crate) fn keep<T>(&self, act: impl FnOnce(&dyn Disk) -> T) -> T {
        self.keep_log(|disk, _| act(disk))
    }

    /// The same for what counts the single logs in the quarantine.
    pub(crate) fn keep_log<T>(&self, act: impl FnOnce(&dyn Disk, &mut Option<u64>) -> T) -> T {
        let mut taken = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        act(self.disk(), &mut taken)
    }

    pub(crate) fn disk_handle(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which batch a destination gets next when it is at `next`: none where that one is held,
    /// a later one where it was dropped. What is given counts as on its way from now on.
    pub(crate) fn take(&self, next: Seq) -> Option<Seq> {
        let inner = self.lock();
        let mut seq = next;
        while let Some(dropped) =
            inner.state.drops.iter().find(|dropped| dropped.span.contains(seq))
        {
            seq = dropped.span.end;
        }
        if inner.state.holds.of(seq).is_some() {
            return None;
        }
        if seq < inner.state.next_seq {
            self.taken.fetch_max(seq + 1, Ordering::Relaxed);
        }
        Some(seq)
    }

    /// One past the last batch that may be on its way to a destination.
    pub(crate) fn taken(&self) -> Seq {
        self.taken.load(Ordering::Relaxed)
    }

    /// The oldest batch that somebody reads again.
    pub(crate) fn pinned(&self) -> Option<Seq> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner).values().min().copied()
    }

    /// An id no segment ever had.
    pub(crate) fn next_segment(&self) -> u64 {
        self.highest_segment.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Lets readers go up to the state's end.
    pub(crate) fn publish(&self) {
        let inner = self.lock();
        self.durable.send_replace(inner.state.next_seq);
        let needed = inner.needed();
        self.needed.send_if_modified(|known| std::mem::replace(known, needed) != needed);
    }

    pub(crate) fn needed(&self) -> watch::Receiver<Seq> {
        self.needed.subscribe()
    }

    /// A destination lost `logs` because others needed the room.
    pub(crate) fn gave_up(&self, destination: &str, logs: u64) {
        self.given_up.send_modify(|all| *all.entry(destination.to_owned()).or_default() += logs);
    }

    pub(crate) fn given_up(&self) -> watch::Receiver<GivenUp> {
        self.given_up.subscribe()
    }

    pub(crate) fn durable(&self) -> watch::Receiver<Seq> {
        self.durable.subscribe()
    }

    pub(crate) fn room(&self) {
        self.room.send_modify(|count| *count += 1);
    }

    pub(crate) fn room_changes(&self) -> watch::Receiver<u64> {
        self.room.subscribe()
    }

    /// Forgets the failure of the disk: it works.
    pub(crate) fn works(&self) {
        self.lock().last_error = None;
    }

    /// Remembers and logs a failure of the disk, once per stretch of failures.
    pub(crate) fn failed(&self, error: &Error) {
        let cause = std::error::Error::source(error).map(|e| format!(": {e}")).unwrap_or_default();
        let text = format!("{error}{cause}");
        let mut inner = self.lock();
        if inner.last_error.as_deref() != Some(&text) {
            tracing::error!(
                code = error.code(),
                "{text}; nothing is lost: what could not be stored is pulled again once the disk answers"
            );
        }
        inner.last_error = Some(text);
    }

    /// See [`Pin`].
    pub(crate) fn pin(self: &Arc<Self>, seq: Seq) -> Pin {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        let number = pins.last_key_value().map_or(0, |(last, _)| last + 1);
        pins.insert(number, seq);
        drop(pins);
        Pin { shared: Arc::clone(self), number }
    }

    /// Removes the segment files below `floor`, and those of attempts that failed; true when
    /// there were any.
    pub(crate) fn remove_unneeded(&self, floor: u64) -> Result<bool, Error> {
        let dir = Path::new(segment::DIR);
        let names = self.disk.list(dir).map_err(|e| Error::io("list", dir, e))?;
        let known: Vec<u64> = self.lock().state.segments.keys().copied().collect();
        let mut any = false;
        for id in names.iter().filter_map(|name| segment::id_of(name)) {
            if id < floor || known.binary_search(&id).is_err() {
                if any {
                    crash::point("between-removals");
                }
                let path = segment::path(id);
                self.disk.remove(&path).map_err(|e| Error::io("remove", path, e))?;
                any = true;
            }
        }
        if any {
            crash::point("removals-unsynced");
            self.disk.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))?;
            crash::point("removals-synced");
        }
        Ok(any)
    }
}

/// Keeps the segments from one batch on, whoever else is done with them, while it lives.
/// It does not survive a restart.
pub struct Pin {
    shared: Arc<Shared>,
    number: u64,
}

impl Pin {
    /// Nothing before `seq` is needed any more.
    pub fn move_to(&self, seq: Seq) {
        self.pins().insert(self.number, seq);
    }

    fn pins(&self) -> MutexGuard<'_, BTreeMap<u64, Seq>> {
        self.shared.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.pins().remove(&self.number);
    }
}
