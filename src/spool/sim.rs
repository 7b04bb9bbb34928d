//! A disk in memory that loses power.
//!
//! Every file has pages as the process sees them and pages as the platter has them;
//! directories likewise. At a power loss each page written since the last sync survives
//! or not by itself, in no order, and may be torn; a name survives only if its directory
//! was synced, or by luck. What was synced always survives. Any call can be made to fail:
//! [`SimDisk::fail`]. Used by the crash tests, and by whoever wants to test a reader of spools.

mod failure;
mod image;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use failure::Failure;
use failure::Plan;
use image::{FileImage, survivors};

use super::disk::{Disk, DiskFile};

/// The disk. Clones share it.
#[derive(Clone, Default)]
pub struct SimDisk {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    files: BTreeMap<u64, FileImage>,
    live: BTreeMap<PathBuf, u64>,
    durable: BTreeMap<PathBuf, u64>,
    next: u64,
    capacity: Option<u64>,
    syncs_ignored: bool,
    calls_left: Option<u64>,
    changes: Plan,
    reads: Plan,
}

impl SimDisk {
    /// Makes every later `sync` of a file return without doing anything: the mutation that
    /// proves the power-loss test can fail.
    pub fn ignore_syncs(&self) {
        self.lock().syncs_ignored = true;
    }

    /// Lets `calls` more changing calls succeed; every later one fails as if the machine
    /// were gone.
    pub fn stop_after(&self, calls: u64) {
        self.lock().calls_left = Some(calls);
    }

    /// Lets `calls` more changing calls (create, append, sync, truncate, allocate, rename,
    /// remove, sync of a directory) succeed; the `many` after them fail as `how` says.
    pub fn fail(&self, calls: u64, how: Failure, many: u64) {
        self.lock().changes.fail(calls, how, many);
    }

    /// The same for reading calls (open, list, read, length).
    pub fn fail_reads(&self, calls: u64, how: Failure, many: u64) {
        self.lock().reads.fail(calls, how, many);
    }

    /// Takes back what [`Self::fail`] and [`Self::fail_reads`] asked for.
    pub fn heal(&self) {
        let mut inner = self.lock();
        inner.changes.heal();
        inner.reads.heal();
    }

    /// Changing and reading calls made so far.
    pub fn calls(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.changes.made(), inner.reads.made())
    }

    /// Limits the bytes all files may hold together; `None` lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// Flips one bit of a file, on the platter and in memory.
    pub fn flip_bit(&self, path: &Path, offset: usize) {
        self.damage(path, |bytes| {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte ^= 0x10;
            }
        });
    }

    /// Changes the bytes of a file, on the platter and in memory.
    pub fn damage(&self, path: &Path, change: impl Fn(&mut Vec<u8>)) {
        let mut inner = self.lock();
        let Some(id) = inner.live.get(path).copied() else { return };
        if let Some(file) = inner.files.get_mut(&id) {
            change(&mut file.live);
            change(&mut file.durable);
        }
    }

    /// Removes a file, on the platter and in memory.
    pub fn lose_file(&self, path: &Path) {
        let mut inner = self.lock();
        inner.live.remove(path);
        inner.durable.remove(path);
    }

    /// The bytes of a file as a process sees them.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let inner = self.lock();
        let id = inner.live.get(path)?;
        inner.files.get(id).map(|file| file.live.clone())
    }

    /// Bytes of a file that are on the platter.
    pub fn durable_length(&self, path: &Path) -> usize {
        let inner = self.lock();
        let file = inner.live.get(path).and_then(|id| inner.files.get(id));
        file.map_or(0, |file| file.durable.len())
    }

    /// The files of a directory as a process sees them.
    pub fn names(&self, dir: &Path) -> Vec<String> {
        let inner = self.lock();
        let names = inner.live.keys().filter(|file| file.parent() == Some(dir));
        names.filter_map(|file| Some(file.file_name()?.to_str()?.to_owned())).collect()
    }

    /// Turns the power off and on again: a new disk with what the platter happened to hold.
    pub fn lose_power(&self, rng: &mut fastrand::Rng) -> Self {
        let inner = self.lock();
        let mut after = Inner { next: inner.next, capacity: inner.capacity, ..Inner::default() };
        let mut names = inner.durable.clone();
        for path in inner.live.keys().chain(inner.durable.keys()) {
            if inner.live.get(path) != inner.durable.get(path) && rng.bool() {
                match inner.live.get(path) {
                    Some(id) => names.insert(path.clone(), *id),
                    None => names.remove(path),
                };
            }
        }
        for (path, id) in names {
            let image = inner.files.get(&id).map(|file| survivors(file, rng)).unwrap_or_default();
            after.files.insert(id, FileImage::of(image));
            after.live.insert(path.clone(), id);
            after.durable.insert(path, id);
        }
        Self { inner: Arc::new(Mutex::new(after)) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Counts a changing call; how it is to fail, if it is.
    fn change(&mut self) -> io::Result<Option<Failure>> {
        match &mut self.calls_left {
            Some(0) => return Err(io::Error::other("the machine lost power")),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(self.changes.call())
    }

    /// Makes a change that is done or not, but never in part.
    fn whole<T>(&mut self, act: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        match self.change()? {
            None => act(self),
            Some(Failure::Done) => act(self).and(Err(Failure::Done.error())),
            Some(how) => Err(how.error()),
        }
    }

    /// Counts a reading call.
    fn read(&mut self) -> io::Result<()> {
        self.reads.call().map_or(Ok(()), |how| Err(how.error()))
    }

    fn free(&self) -> u64 {
        let files = self.live.values().filter_map(|id| self.files.get(id));
        let used: u64 = files.map(|file| file.live.len() as u64).sum();
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(used))
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let id = self.lock().whole(|inner| {
            if inner.live.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let id = inner.next;
            inner.next += 1;
            inner.files.insert(id, FileImage::default());
            inner.live.insert(path.to_owned(), id);
            Ok(id)
        })?;
        Ok(Arc::new(SimFile { disk: self.clone(), id }))
    }

    fn open(&self, path: &Path, _write: bool) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.lock();
        inner.read()?;
        let id = *inner.live.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile { disk: self.clone(), id }))
    }

    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.lock().read()?;
        Ok(self.names(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.lock().whole(|inner| {
            let id = inner.live.remove(from).ok_or(io::ErrorKind::NotFound)?;
            inner.live.insert(to.to_owned(), id);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.lock().whole(|inner| {
            inner.live.remove(path).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    fn write_again(&self, path: &Path, from: u64, to: u64) -> io::Result<()> {
        self.lock().whole(|inner| {
            let id = *inner.live.get(path).ok_or(io::ErrorKind::NotFound)?;
            let file = inner.files.get_mut(&id).ok_or(io::ErrorKind::NotFound)?;
            let offset = |at| usize::try_from(at).unwrap_or(usize::MAX);
            file.write_again(offset(from), offset(to));
            if !inner.syncs_ignored {
                file.sync();
            }
            Ok(())
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.lock().whole(|inner| {
            let here = |file: &PathBuf| file.parent() == Some(path);
            let current: Vec<_> = inner
                .live
                .iter()
                .filter(|(file, _)| here(file))
                .map(|(file, id)| (file.clone(), *id))
                .collect();
            inner.durable.retain(|file, _| !here(file));
            inner.durable.extend(current);
            Ok(())
        })
    }

    fn used_beside(&self, _except: &Path) -> u64 {
        0
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.lock().free())
    }
}

struct SimFile {
    disk: SimDisk,
    id: u64,
}

impl SimFile {
    fn with<T>(&self, inner: &mut Inner, act: impl FnOnce(&mut FileImage) -> T) -> io::Result<T> {
        inner.files.get_mut(&self.id).map(act).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl DiskFile for SimFile {
    fn append(&self, parts: &[&[u8]]) -> io::Result<()> {
        let mut inner = self.disk.lock();
        let how = inner.change()?;
        let wanted: usize = parts.iter().map(|part| part.len()).sum();
        let most = match how {
            None | Some(Failure::Done) => wanted,
            Some(Failure::Short) => wanted * 2 / 3,
            Some(how) => return Err(how.error()),
        };
        let fits = usize::try_from(inner.free()).unwrap_or(usize::MAX).min(most);
        self.with(&mut inner, |file| file.append(parts, fits))?;
        match how {
            Some(how) => Err(how.error()),
            None if fits < wanted => Err(io::ErrorKind::StorageFull.into()),
            None => Ok(()),
        }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut inner = self.disk.lock();
        inner.read()?;
        self.with(&mut inner, |file| {
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(file.live.len());
            let read = buf.len().min(file.live.len() - start);
            buf[..read].copy_from_slice(&file.live[start..start + read]);
            read
        })
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.disk.lock();
        let how = inner.change()?;
        let ignored = inner.syncs_ignored;
        self.with(&mut inner, |file| match how {
            None | Some(Failure::Done) if !ignored => file.sync(),
            Some(Failure::Dropped) => file.drop_pages(),
            _ => {}
        })?;
        how.map_or(Ok(()), |how| Err(how.error()))
    }

    fn len(&self) -> io::Result<u64> {
        let mut inner = self.disk.lock();
        inner.read()?;
        self.with(&mut inner, |file| file.live.len() as u64)
    }

    fn allocated(&self) -> io::Result<u64> {
        self.with(&mut self.disk.lock(), |file| file.live.len() as u64)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        self.disk.lock().whole(|inner| self.with(inner, |file| file.cut(length)))
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let wanted = usize::try_from(length).unwrap_or(usize::MAX);
        self.disk.lock().whole(|inner| {
            if inner.free() < length {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.with(inner, |file| file.live.resize(wanted, 0))
        })
    }
}
