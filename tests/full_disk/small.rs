//! A file system of its own, small enough to be filled.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// ext4 on a loop device where this process may mount one, else a tmpfs in a name space of its
/// own. Gone when it is dropped.
pub(crate) struct SmallDisk {
    path: PathBuf,
    mounted: bool,
    holder: Option<Child>,
    _dir: tempfile::TempDir,
}

impl SmallDisk {
    /// None where neither is allowed: said aloud, and noted for `./test`.
    pub(crate) fn make(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let disk = Self::ext4(dir, bytes).map_or_else(|dir| Self::tmpfs(dir, bytes), Some);
        if disk.is_none() {
            left_out("a full disk: neither a loop device nor a name space can be had here");
        }
        disk
    }

    fn ext4(dir: tempfile::TempDir, bytes: u64) -> Result<Self, tempfile::TempDir> {
        let (image, path) = (dir.path().join("image"), dir.path().join("disk"));
        File::create(&image).unwrap().set_len(bytes).unwrap();
        std::fs::create_dir(&path).unwrap();
        // Two that ask for a free loop device at once may be told the same one.
        let mount = || {
            (0..20).any(|_| {
                let mounted =
                    done(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&path));
                if !mounted {
                    std::thread::sleep(Duration::from_millis(100));
                }
                mounted
            })
        };
        let made =
            done(Command::new("mkfs.ext4").args(["-q", "-m", "0", "-F"]).arg(&image)) && mount();
        if made { Ok(Self { path, mounted: true, holder: None, _dir: dir }) } else { Err(dir) }
    }

    fn tmpfs(dir: tempfile::TempDir, bytes: u64) -> Option<Self> {
        let inside = dir.path().join("tmpfs");
        std::fs::create_dir(&inside).unwrap();
        let script = format!("mount -t tmpfs -o size={bytes} none \"$0\" && : >\"$0/up\" && cat");
        let mut holder = Command::new("unshare")
            .args(["-rm", "sh", "-c", &script])
            .arg(&inside)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        // Its name space is reached through its root.
        let root = PathBuf::from(format!("/proc/{}/root", holder.id()));
        let path = root.join(inside.strip_prefix("/").unwrap());
        let start = Instant::now();
        while !path.join("up").exists() {
            if holder.try_wait().unwrap().is_some() || start.elapsed() > Duration::from_secs(10) {
                let _ = holder.kill();
                let _ = holder.wait();
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        say("no loop device here: a tmpfs stands in for the full disk");
        Some(Self { path, mounted: false, holder: Some(holder), _dir: dir })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes allocated by everything below `dir`.
    pub(crate) fn used(dir: &Path) -> u64 {
        let Ok(files) = std::fs::read_dir(dir) else { return 0 };
        let sizes = files.flatten().map(|file| match file.file_type() {
            Ok(kind) if kind.is_dir() => Self::used(&file.path()),
            _ => file.metadata().map_or(0, |metadata| metadata.blocks() * 512),
        });
        sizes.sum()
    }

    /// Takes what is left, to the last block.
    pub(crate) fn fill(&self) -> PathBuf {
        let path = self.path.join("filler");
        let mut file = File::create(&path).unwrap();
        for size in [1 << 20, 4096] {
            let block = vec![1; size];
            while file.write_all(&block).and_then(|()| file.sync_data()).is_ok() {}
        }
        path
    }

    /// Makes every change of the files below `dir` fail. A file system on which files are open
    /// for writing cannot be mounted read-only, so they are made immutable: the same calls
    /// fail, with `EPERM`. False where that cannot be had.
    pub(crate) fn forbid_changes(&self, dir: &Path) -> bool {
        if !self.mounted {
            return false;
        }
        // The control socket cannot be made immutable, which is no matter.
        done(Command::new("chattr").args(["-R", "-f", "+i"]).arg(dir));
        File::create(dir.join("segments").join("no file")).is_err()
    }

    /// Takes [`Self::forbid_changes`] back.
    pub(crate) fn allow_changes(&self, dir: &Path) {
        done(Command::new("chattr").args(["-R", "-f", "-i"]).arg(dir));
        let path = dir.join("segments").join("no file");
        File::create(&path).unwrap();
        std::fs::remove_file(path).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.mounted {
            done(Command::new("chattr").args(["-R", "-i"]).arg(&self.path));
            done(Command::new("umount").args(["-l"]).arg(&self.path));
        }
        if let Some(holder) = &mut self.holder {
            let _ = holder.kill();
            let _ = holder.wait();
        }
    }
}

fn done(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Notes for `./test` what this machine cannot try; panics when `CI` is set.
pub(crate) fn left_out(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "CI is set, so nothing may be left out: {what}");
    say(&format!("LEFT OUT: {what}"));
    if let Some(path) = std::env::var_os("SLS_RELAY_LEFT_OUT") {
        let mut list = OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(list, "{what}").unwrap();
    }
}

/// Past the harness, which keeps what a passing test prints.
pub(crate) fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}
