//! The file seam: the few calls the spool makes on a disk.
//!
//! [`OsDisk`] is the real one. [`super::sim::SimDisk`] keeps what was written apart from
//! what was synced and can lose power between any two calls.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write as _};
use std::os::unix::fs::{FileExt, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::crash;

/// Bytes of one write call at most. A call of several MiB lets the page cache take its largest
/// pages, and they can be so dear that groups of eight 512 KiB batches went at half the speed
/// (`benches/spool.rs`); smaller calls cost nothing.
const WRITE_BYTES: usize = 1 << 20;

/// A directory tree. All paths are relative to the spool directory.
pub trait Disk: Send + Sync {
    /// Makes a file that must not exist yet.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file for reading, and for appending where `write` is set.
    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn DiskFile>>;
    /// Makes a directory if it is missing.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// File names in a directory, in any order.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Moves a file. Durable after [`Self::sync_dir`] of both directories.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Durable after [`Self::sync_dir`].
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Writes the bytes of a file from `from` to `to` again as they are, durable on return. A
    /// sync that failed, for this process or one before it, may have left pages that the
    /// kernel takes for written: only writing them again makes the next sync write them.
    fn write_again(&self, path: &Path, from: u64, to: u64) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Bytes allocated by everything below the spool directory but `except`.
    fn used_beside(&self, except: &Path) -> u64;
    /// Bytes of the file system that this process may still write.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open file. Writers append; readers read at offsets and never move anything.
pub trait DiskFile: Send + Sync {
    /// Writes all of `parts`, one after the other, at the end of the file.
    fn append(&self, parts: &[&[u8]]) -> io::Result<()>;
    /// Reads up to `buf.len()` bytes at `offset`; short only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Makes content and length durable (`fdatasync`). Never call it again after it failed
    /// as if it had not: the kernel may have dropped the pages.
    fn sync(&self) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file holds no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Bytes the file takes on the disk.
    fn allocated(&self) -> io::Result<u64>;
    /// Cuts the file.
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// Reserves `length` bytes of the disk for the file.
    fn allocate(&self, length: u64) -> io::Result<()>;
    /// Lets the system use the memory that caches the file for something else: what is synced
    /// is not read soon. It costs time at most, and may do nothing.
    fn uncache(&self) {}
}

/// Files of the operating system below one directory.
#[derive(Debug)]
pub struct OsDisk {
    root: PathBuf,
}

impl OsDisk {
    /// A disk whose paths are below `root`, which must exist.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
}

impl Disk for OsDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create_new(true).mode(0o600);
        Ok(Arc::new(options.open(self.root.join(path))?))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).append(write).open(self.root.join(path))?))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match std::fs::create_dir(self.root.join(path)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(self.root.join(path))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(self.root.join(from), self.root.join(to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(self.root.join(path))
    }

    fn write_again(&self, path: &Path, from: u64, to: u64) -> io::Result<()> {
        // Not for appending: then the system would write at the end, whatever the offset.
        let file = OpenOptions::new().read(true).write(true).open(self.root.join(path))?;
        let mut chunk = vec![0; 256 << 10];
        let mut at = from;
        while at < to {
            let want = chunk.len().min(usize::try_from(to - at).unwrap_or(usize::MAX));
            FileExt::read_exact_at(&file, &mut chunk[..want], at)?;
            FileExt::write_all_at(&file, &chunk[..want], at)?;
            at += want as u64;
        }
        file.sync_data()
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(self.root.join(path))?.sync_all()
    }

    fn used_beside(&self, except: &Path) -> u64 {
        allocated_below(&self.root, &self.root.join(except))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// Files come and go while sled works: what vanished counts nothing.
fn allocated_below(dir: &Path, except: &Path) -> u64 {
    let Ok(files) = std::fs::read_dir(dir) else { return 0 };
    let sizes = files.flatten().filter(|file| file.path() != except).map(|file| {
        let below = match file.file_type() {
            Ok(kind) if kind.is_dir() => allocated_below(&file.path(), except),
            _ => 0,
        };
        below + file.metadata().map_or(0, |metadata| metadata.blocks() * 512)
    });
    sizes.sum()
}

/// Writes all of the slices.
fn write_all(file: &mut &File, mut rest: &mut [IoSlice<'_>]) -> io::Result<()> {
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl DiskFile for File {
    fn append(&self, parts: &[&[u8]]) -> io::Result<()> {
        let mut file = self;
        let mut slices = Vec::new();
        let mut room = WRITE_BYTES;
        for part in parts {
            let mut rest = *part;
            while rest.len() >= room {
                let (now, later) = rest.split_at(room);
                slices.push(IoSlice::new(now));
                write_all(&mut file, &mut slices)?;
                crash::point("write-split");
                slices.clear();
                (rest, room) = (later, WRITE_BYTES);
            }
            room -= rest.len();
            slices.push(IoSlice::new(rest));
        }
        write_all(&mut file, &mut slices)?;
        Ok(())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match FileExt::read_at(self, &mut buf[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn allocated(&self) -> io::Result<u64> {
        Ok(self.metadata()?.blocks() * 512)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(self, rustix::fs::FallocateFlags::empty(), 0, length)?)
    }

    fn uncache(&self) {
        let _ = rustix::fs::fadvise(self, 0, None, rustix::fs::Advice::DontNeed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_written_again_stay_where_and_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let disk = OsDisk::new(dir.path());
        let bytes: Vec<u8> = (0..700_000u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        disk.create(Path::new("file")).unwrap().append(&[&bytes]).unwrap();
        disk.write_again(Path::new("file"), 5000, 700_000).unwrap();
        assert!(std::fs::read(dir.path().join("file")).unwrap() == bytes);
        disk.write_again(Path::new("file"), 0, 700_001).unwrap_err();
    }

    #[test]
    fn parts_longer_than_one_write_call_arrive_whole_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = OsDisk::new(dir.path()).create(Path::new("file")).unwrap();
        let mut rng = fastrand::Rng::with_seed(1);
        let mut expected = Vec::new();
        for _ in 0..20 {
            let part = |rng: &mut fastrand::Rng| {
                let near = [0, 1, WRITE_BYTES - 1, WRITE_BYTES, WRITE_BYTES + 1];
                vec![rng.u8(..); near[rng.usize(..near.len())]]
            };
            let parts: Vec<Vec<u8>> = (0..4).map(|_| part(&mut rng)).collect();
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            file.append(&parts).unwrap();
            expected.extend(parts.concat());
        }
        let mut read = vec![0; expected.len() + 1];
        assert_eq!(file.read_at(&mut read, 0).unwrap(), expected.len());
        assert!(read[..expected.len()] == expected);
    }
}
