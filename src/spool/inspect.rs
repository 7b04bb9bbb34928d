//! Looking into a spool directory without changing it: segments only, never the catalog.

use std::path::Path;
use std::sync::Arc;

use super::disk::{Disk, OsDisk};
use super::error::Error;
use super::keys::Keys;
use super::reader::Reader;
use super::recover::{Damage, recover};
use super::scan::Bodies;
use super::shared::Shared;
use super::state::State;
use super::{Seq, catalog::Catalog, segment};

/// A spool as its segments tell it, at one moment.
pub struct Inspection {
    shared: Arc<Shared>,
    /// Damage in the newest segments, and missing files.
    pub damage: Vec<Damage>,
    /// Bytes behind the last whole group.
    pub unfinished_bytes: u64,
    /// Bytes allocated by everything in the directory.
    pub used_bytes: u64,
}

impl Inspection {
    /// Reads the state of the spool in `dir`.
    ///
    /// # Errors
    /// [`Error::Io`] where there is no spool or it cannot be read.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Self::with_keys(dir, Keys::default())
    }

    /// The same for a spool that may be encrypted.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn with_keys(dir: &Path, keys: Keys) -> Result<Self, Error> {
        let disk = OsDisk::new(dir);
        let found = recover(&disk, Bodies::Last).map_err(|error| match error {
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Error::io("find a spool in", dir, source)
            }
            other => other,
        })?;
        let beside = disk.used_beside(Path::new(segment::DIR));
        let segments = OsDisk::new(dir.join(segment::DIR)).used_beside(Path::new("-"));
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let (damage, unfinished_bytes) = (found.damage, found.cut);
        let shared =
            Shared::new(disk, Catalog::none(), found.state, found.highest, Arc::default(), keys);
        let used_bytes = beside + segments;
        Ok(Self { shared: Arc::new(shared), damage, unfinished_bytes, used_bytes })
    }

    /// Positions, segments, numbers.
    pub fn state(&self) -> State {
        self.shared.lock().state.clone()
    }

    /// Reads batches from `seq` on.
    pub fn reader(&self, seq: Seq) -> Reader {
        Reader::new(Arc::clone(&self.shared), seq)
    }

    /// The same with bodies as they are stored, which needs no key: for headers and copies.
    pub fn stored(&self, seq: Seq) -> Reader {
        self.reader(seq).stored()
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        self.shared.disk()
    }
}
