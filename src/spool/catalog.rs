//! The catalog: an index of the segments in sled, the only file that names it.
//!
//! It finds batches by number and shows positions without reading segments. It is written
//! after the barrier, never on its path, and nothing depends on it: whatever sled does
//! wrong, panics included, the catalog is set aside and built again from the segments.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use bincode::{Decode, Encode};

use super::crash;
use super::entry::{self, BatchHeader, Seq};
use super::state::State;

/// Where a batch lies, and its header.
#[derive(Clone, Debug, Decode, Encode, PartialEq)]
pub(crate) struct CatalogEntry {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) incarnation: u64,
    pub(crate) header: BatchHeader,
}

/// The open catalog.
pub(crate) struct Catalog {
    dir: PathBuf,
    open: Option<Open>,
}

struct Open {
    db: sled::Db,
    batches: sled::Tree,
    destinations: sled::Tree,
    shards: sled::Tree,
}

impl Catalog {
    /// Opens the catalog in `dir`. A damaged one is set aside as `catalog.bad` and a new,
    /// empty one made. Without a working sled the spool goes on without a catalog.
    pub(crate) fn open(dir: &Path) -> Self {
        let mut catalog = Self { dir: dir.to_owned(), open: None };
        catalog.open = match open(dir) {
            Ok(open) => Some(open),
            Err(reason) => {
                tracing::warn!(
                    code = "spool.catalog_rebuilt",
                    reason,
                    "the spool's catalog does not open; it is set aside and built anew from the segments"
                );
                crash::point("catalog-unusable");
                catalog.set_aside();
                crash::point("catalog-aside");
                open(dir).ok()
            }
        };
        catalog
    }

    /// No catalog at all, for disks that are not directories.
    pub(crate) fn none() -> Self {
        Self { dir: PathBuf::new(), open: None }
    }

    /// One past the newest batch the catalog knows of, 0 for an empty one.
    pub(crate) fn next_seq(&mut self) -> Seq {
        self.with(|open| {
            let last = open.batches.last()?;
            Ok(last.and_then(|(key, _)| seq_of(&key)).map_or(0, |seq| seq + 1))
        })
        .unwrap_or(0)
    }

    /// Adds batches.
    pub(crate) fn insert(&mut self, entries: &[CatalogEntry]) {
        self.with(|open| {
            let mut batch = sled::Batch::default();
            for entry in entries {
                batch.insert(&entry.header.seq.to_be_bytes(), encode(entry));
            }
            open.batches.apply_batch(batch)
        });
    }

    /// Finds a batch.
    pub(crate) fn get(&mut self, seq: Seq) -> Option<CatalogEntry> {
        let found = self.with(|open| open.batches.get(seq.to_be_bytes()))??;
        entry::decode(&found)
    }

    /// Forgets the batches before `seq`.
    pub(crate) fn remove_before(&mut self, seq: Seq) {
        self.with(|open| {
            let mut batch = sled::Batch::default();
            for key in open.batches.range(..seq.to_be_bytes()).keys() {
                batch.remove(key?);
            }
            open.batches.apply_batch(batch)
        });
    }

    /// Forgets the batches from `seq` on.
    pub(crate) fn remove_from(&mut self, seq: Seq) {
        self.with(|open| {
            for key in open.batches.range(seq.to_be_bytes()..).keys() {
                open.batches.remove(key?)?;
            }
            Ok(())
        });
    }

    /// Writes the positions.
    pub(crate) fn set_positions(&mut self, state: &State) {
        self.with(|open| {
            for (name, delivered) in &state.destinations {
                open.destinations.insert(name.as_bytes(), encode(delivered))?;
            }
            for (key, shard) in &state.shards {
                let name = format!("{}/{:010}", key.source, key.shard);
                open.shards.insert(name.as_bytes(), shard.position.as_bytes())?;
            }
            Ok(())
        });
    }

    /// Waits until sled has written what it holds; for an orderly end.
    pub(crate) fn flush(&mut self) {
        self.with(|open| open.db.flush().map(|_| ()));
    }

    /// Runs `act`; an error or a panic ends the use of this catalog.
    fn with<T>(&mut self, act: impl FnOnce(&Open) -> sled::Result<T>) -> Option<T> {
        let open = self.open.as_ref()?;
        let reason = match catch_unwind(AssertUnwindSafe(|| act(open))) {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it panicked".to_owned(),
        };
        tracing::warn!(
            code = "spool.catalog_lost",
            reason,
            "the spool's catalog failed; the spool goes on without it and builds a new one at the next start"
        );
        self.open = None;
        self.set_aside();
        None
    }

    fn set_aside(&self) {
        let bad = self.dir.with_extension("bad");
        let _ = std::fs::remove_dir_all(&bad);
        if let Err(error) = std::fs::rename(&self.dir, &bad) {
            tracing::warn!(%error, "cannot set the catalog aside");
        }
    }
}

fn open(dir: &Path) -> Result<Open, String> {
    // A process that dies while sled writes its snapshot leaves a file that the next open
    // takes for the newest one. It is never valid: sled renames it when it is complete.
    if let Ok(files) = std::fs::read_dir(dir) {
        for file in files.flatten() {
            if file.file_name().to_string_lossy().ends_with(".generating") {
                let _ = std::fs::remove_file(file.path());
            }
        }
    }
    let opened = catch_unwind(|| {
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(4 << 20)
            .segment_size(64 << 10)
            // It wakes eight threads, and nobody waits for what it makes durable.
            .flush_every_ms(Some(10_000));
        let db = config.open()?;
        Ok(Open {
            batches: db.open_tree("batches-2")?,
            destinations: db.open_tree("destinations")?,
            shards: db.open_tree("shards")?,
            db,
        })
    });
    match opened {
        Ok(Ok(open)) => Ok(open),
        Ok(Err(error)) => Err(sled::Error::to_string(&error)),
        Err(_) => Err("sled panicked while it opened".to_owned()),
    }
}

fn encode<T: Encode>(value: &T) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "none of these types has a failing Encode")]
    bincode::encode_to_vec(value, bincode::config::standard()).expect("plain data always encodes")
}

fn seq_of(key: &[u8]) -> Option<Seq> {
    Some(Seq::from_be_bytes(key.try_into().ok()?))
}
