//! What a process measured of itself, and how it tells its parent.

use std::fs;
use std::path::Path;
use std::time::Instant;

/// Figures of one phase.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) seconds: f64,
    /// What the phase is compared with.
    pub(crate) other: f64,
    /// Bytes read, by any call on any file.
    pub(crate) read: u64,
    /// Peak of resident memory.
    pub(crate) memory: u64,
    pub(crate) quota: u64,
    /// Most bytes of the disk at any moment, and when all was delivered.
    pub(crate) peak: u64,
    pub(crate) after: u64,
    pub(crate) segment: u64,
}

impl Figures {
    /// Runs `act` and notes its time and what it read.
    pub(crate) fn of<T>(act: impl FnOnce() -> T) -> (Self, T) {
        let (before, start) = (read_bytes(), Instant::now());
        let done = act();
        let seconds = start.elapsed().as_secs_f64();
        (Self { seconds, read: read_bytes() - before, ..Self::default() }, done)
    }

    pub(crate) fn line(&self) -> String {
        let Self { seconds, other, read, quota, peak, after, segment, .. } = self;
        let memory = field("/proc/self/status", "VmHWM:") * 1024;
        format!("{seconds} {other} {read} {memory} {quota} {peak} {after} {segment}")
    }

    pub(crate) fn parse(line: &str) -> Self {
        let mut parts = line.split_whitespace();
        let mut next = || parts.next().expect("the phase failed; what it said stands above");
        Self {
            seconds: next().parse().unwrap(),
            other: next().parse().unwrap(),
            read: next().parse().unwrap(),
            memory: next().parse().unwrap(),
            quota: next().parse().unwrap(),
            peak: next().parse().unwrap(),
            after: next().parse().unwrap(),
            segment: next().parse().unwrap(),
        }
    }
}

fn read_bytes() -> u64 {
    field("/proc/self/io", "rchar:")
}

fn field(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Bytes that everything below `dir` takes of the disk. Files come and go meanwhile.
pub(crate) fn allocated(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(files) = fs::read_dir(dir) else { return 0 };
    let sizes = files.flatten().map(|file| {
        let below = if file.path().is_dir() { allocated(&file.path()) } else { 0 };
        below + file.metadata().map_or(0, |metadata| metadata.blocks() * 512)
    });
    sizes.sum()
}
