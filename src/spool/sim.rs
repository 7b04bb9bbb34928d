//! A disk in memory that loses power.
//!
//! Every file has pages as the process sees them and pages as the platter has them;
//! directories likewise. At a power loss each page written since the last sync survives
//! or not by itself, in no order, and may be torn; a name survives only if its directory
//! was synced, or by luck. What was synced always survives. Used by the crash tests, and by
//! whoever wants to test a reader of spools.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, DiskFile};

const PAGE: usize = 4096;

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
}

#[derive(Clone, Default)]
struct FileImage {
    live: Vec<u8>,
    durable: Vec<u8>,
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

    /// Limits the bytes all files may hold together; `None` lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// Flips one bit of a file, on the platter and in memory.
    pub fn flip_bit(&self, path: &Path, offset: usize) {
        let mut inner = self.lock();
        let Some(id) = inner.live.get(path).copied() else { return };
        if let Some(file) = inner.files.get_mut(&id) {
            for image in [&mut file.live, &mut file.durable] {
                if let Some(byte) = image.get_mut(offset) {
                    *byte ^= 0x10;
                }
            }
        }
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
            after.files.insert(id, FileImage { live: image.clone(), durable: image });
            after.live.insert(path.clone(), id);
            after.durable.insert(path, id);
        }
        Self { inner: Arc::new(Mutex::new(after)) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What of a file the platter holds after the power went: each page old or new.
fn survivors(file: &FileImage, rng: &mut fastrand::Rng) -> Vec<u8> {
    let length = if file.live.len() == file.durable.len() {
        file.live.len()
    } else {
        let (low, high) =
            (file.live.len().min(file.durable.len()), file.live.len().max(file.durable.len()));
        match rng.u8(..3) {
            0 => file.durable.len(),
            1 => file.live.len(),
            _ => rng.usize(low..=high),
        }
    };
    let mut image = file.durable.clone();
    image.resize(length, 0);
    for start in (0..length).step_by(PAGE) {
        let end = (start + PAGE).min(length);
        let Some(live) = file.live.get(start..end.min(file.live.len()).max(start)) else {
            continue;
        };
        let keep = match rng.u8(..8) {
            0..=3 => live.len(),
            4 => rng.usize(..=live.len()),
            _ => 0,
        };
        if file.durable.get(start..start + live.len()) != Some(live) {
            image[start..start + keep].copy_from_slice(&live[..keep]);
        }
    }
    image
}

impl Inner {
    fn change(&mut self) -> io::Result<()> {
        match &mut self.calls_left {
            Some(0) => Err(io::Error::other("the machine lost power")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn used(&self) -> u64 {
        self.live.values().filter_map(|id| self.files.get(id)).map(|f| f.live.len() as u64).sum()
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.lock();
        inner.change()?;
        if inner.live.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = inner.next;
        inner.next += 1;
        inner.files.insert(id, FileImage::default());
        inner.live.insert(path.to_owned(), id);
        Ok(Arc::new(SimFile { disk: self.clone(), id }))
    }

    fn open(&self, path: &Path, _write: bool) -> io::Result<Arc<dyn DiskFile>> {
        let id = *self.lock().live.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile { disk: self.clone(), id }))
    }

    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let inner = self.lock();
        let names = inner.live.keys().filter(|file| file.parent() == Some(path));
        Ok(names.filter_map(|file| Some(file.file_name()?.to_str()?.to_owned())).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        inner.change()?;
        let id = inner.live.remove(from).ok_or(io::ErrorKind::NotFound)?;
        inner.live.insert(to.to_owned(), id);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        inner.change()?;
        inner.live.remove(path).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        inner.change()?;
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
    }

    fn used_beside(&self, _except: &Path) -> u64 {
        0
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let inner = self.lock();
        Ok(inner.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(inner.used())))
    }
}

struct SimFile {
    disk: SimDisk,
    id: u64,
}

impl SimFile {
    fn with<T>(&self, act: impl FnOnce(&mut FileImage) -> T) -> io::Result<T> {
        let mut inner = self.disk.lock();
        inner.files.get_mut(&self.id).map(act).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl DiskFile for SimFile {
    fn append(&self, parts: &[&[u8]]) -> io::Result<()> {
        self.disk.lock().change()?;
        let wanted: usize = parts.iter().map(|part| part.len()).sum();
        let room = self.disk.free_bytes()?;
        let fits = usize::try_from(room).unwrap_or(usize::MAX).min(wanted);
        self.with(|file| {
            let mut left = fits;
            for part in parts {
                let take = part.len().min(left);
                file.live.extend_from_slice(&part[..take]);
                left -= take;
            }
        })?;
        if fits < wanted { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|file| {
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(file.live.len());
            let read = buf.len().min(file.live.len() - start);
            buf[..read].copy_from_slice(&file.live[start..start + read]);
            read
        })
    }

    fn sync(&self) -> io::Result<()> {
        let ignored = {
            let mut inner = self.disk.lock();
            inner.change()?;
            inner.syncs_ignored
        };
        if ignored { Ok(()) } else { self.with(|file| file.durable = file.live.clone()) }
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|file| file.live.len() as u64)
    }

    fn allocated(&self) -> io::Result<u64> {
        self.len()
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.disk.lock().change()?;
        self.with(|file| file.live.truncate(usize::try_from(length).unwrap_or(usize::MAX)))
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.disk.lock().change()?;
        if self.disk.free_bytes()? < length {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.with(|file| file.live.resize(usize::try_from(length).unwrap_or(usize::MAX), 0))
    }
}
