//! Plain writing: what the disk and the system take whoever writes.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::Variant;

/// Where plain writing goes on in a new file, as the spool does.
const FILE_BYTES: u64 = 64 << 20;

/// Appends to a file, with a barrier per group.
pub(crate) struct Plain {
    path: PathBuf,
    file: File,
    length: u64,
    group: usize,
}

impl Plain {
    pub(crate) fn new(path: PathBuf, group: usize) -> Self {
        let file = new_file(&path);
        Self { path, file, length: 0, group }
    }
}

impl Variant for Plain {
    fn turn(&mut self, bodies: &[Bytes]) -> Duration {
        let start = Instant::now();
        for group in bodies.chunks(self.group) {
            if self.length >= FILE_BYTES {
                fs::remove_file(&self.path).unwrap();
                self.file = new_file(&self.path);
                self.length = 0;
            }
            for body in group {
                self.file.write_all(body).unwrap();
                self.length += body.len() as u64;
            }
            self.file.sync_data().unwrap();
        }
        start.elapsed()
    }

    fn tidy(&mut self) {}
}

fn new_file(path: &Path) -> File {
    let file = OpenOptions::new().append(true).create_new(true).open(path).unwrap();
    File::open(path.parent().unwrap()).unwrap().sync_all().unwrap();
    file
}
