//! Embedded stores with batches as values: sled, fjall, redb.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fjall::{KvSeparationOptions, PartitionCreateOptions, PersistMode};
use redb::{Durability, TableDefinition};

use crate::Variant;

/// A store that makes a group of values durable at once.
pub(crate) trait Store {
    /// Adds the values, all durable on return.
    fn add(&mut self, first: u64, bodies: &[Bytes]);
    /// Removes the values before `end`.
    fn remove(&mut self, end: u64);
}

/// Batches as values, a barrier per group.
pub(crate) struct Values<S> {
    store: S,
    group: usize,
    next: u64,
}

impl<S: Store> Values<S> {
    pub(crate) fn new(store: S, group: usize) -> Self {
        Self { store, group, next: 0 }
    }
}

impl<S: Store> Variant for Values<S> {
    fn turn(&mut self, bodies: &[Bytes]) -> Duration {
        let start = Instant::now();
        for group in bodies.chunks(self.group) {
            self.store.add(self.next, group);
            self.next += group.len() as u64;
        }
        start.elapsed()
    }

    fn tidy(&mut self) {
        self.store.remove(self.next);
    }
}

pub(crate) struct Sled {
    db: sled::Db,
    /// Synced besides: `flush` is no full barrier.
    file: Option<File>,
}

impl Sled {
    pub(crate) fn new(dir: &Path, synced: bool) -> Self {
        let config = sled::Config::new().path(dir).cache_capacity(16 << 20).flush_every_ms(None);
        let db = config.open().unwrap();
        let file = synced.then(|| OpenOptions::new().write(true).open(dir.join("db")).unwrap());
        Self { db, file }
    }
}

impl Store for Sled {
    fn add(&mut self, first: u64, bodies: &[Bytes]) {
        for (key, body) in (first..).zip(bodies) {
            self.db.insert(key.to_be_bytes(), &body[..]).unwrap();
        }
        self.db.flush().unwrap();
        if let Some(file) = &self.file {
            file.sync_data().unwrap();
        }
    }

    fn remove(&mut self, end: u64) {
        for key in self.db.range(..end.to_be_bytes()).keys() {
            self.db.remove(key.unwrap()).unwrap();
        }
        self.db.flush().unwrap();
    }
}

pub(crate) struct Fjall {
    keyspace: fjall::Keyspace,
    batches: fjall::PartitionHandle,
    removed: u64,
}

impl Fjall {
    pub(crate) fn new(dir: &Path) -> Self {
        let keyspace = fjall::Config::new(dir).fsync_ms(None).open().unwrap();
        // As its documentation advises for large values.
        let options =
            PartitionCreateOptions::default().with_kv_separation(KvSeparationOptions::default());
        let batches = keyspace.open_partition("batches", options).unwrap();
        Self { keyspace, batches, removed: 0 }
    }
}

impl Store for Fjall {
    fn add(&mut self, first: u64, bodies: &[Bytes]) {
        for (key, body) in (first..).zip(bodies) {
            self.batches.insert(key.to_be_bytes(), &body[..]).unwrap();
        }
        self.keyspace.persist(PersistMode::SyncData).unwrap();
    }

    fn remove(&mut self, end: u64) {
        for key in self.removed..end {
            self.batches.remove(key.to_be_bytes()).unwrap();
        }
        self.removed = end;
        self.keyspace.persist(PersistMode::SyncData).unwrap();
    }
}

const BATCHES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("batches");

pub(crate) struct Redb {
    db: redb::Database,
}

impl Redb {
    pub(crate) fn new(file: &Path) -> Self {
        Self { db: redb::Database::create(file).unwrap() }
    }
}

impl Store for Redb {
    fn add(&mut self, first: u64, bodies: &[Bytes]) {
        let mut transaction = self.db.begin_write().unwrap();
        transaction.set_durability(Durability::Immediate).unwrap();
        {
            let mut table = transaction.open_table(BATCHES).unwrap();
            for (key, body) in (first..).zip(bodies) {
                table.insert(key, &body[..]).unwrap();
            }
        }
        transaction.commit().unwrap();
    }

    fn remove(&mut self, end: u64) {
        let transaction = self.db.begin_write().unwrap();
        transaction.open_table(BATCHES).unwrap().retain_in(..end, |_, _| false).unwrap();
        transaction.commit().unwrap();
    }
}
