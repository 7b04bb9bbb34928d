//! What a large spool takes to open, to read in, and of the disk.
//!
//! ```text
//! cargo bench --bench spool_open                       2 GB, about two minutes
//! SLS_RELAY_BENCH_BYTES=10000000000 cargo bench --bench spool_open
//! ```
//!
//! Builds a spool in batches of 256 KiB, one a second by their times of receipt, then measures
//! each question in a process of its own, so that its peak of resident memory (`VmHWM`) and the
//! bytes it reads (`rchar`, all files, the catalog's included) are its own. Before each opening
//! the newest segment is filled, so that it is none of the nearly empty ones that openings leave.
//! "Cold" means that the system was asked to forget what it caches of the spool's files.
//!
//! `SLS_RELAY_BENCH_BYTES`: bytes of the spool, 2 GB by default. It takes as much disk.
//! `SLS_RELAY_BENCH_DIR`: where it goes, `target/bench-spool-open` by default.
//!
//! Bytes, memory and the quota are checked, and decide how this ends; times are only shown beside
//! what is wanted, since they depend on the machine.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a program that only measures"
)]

mod cycle;
mod figures;
mod phases;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use figures::{Figures, allocated};

const MEMORY: u64 = 64_000_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, phase, dir, bytes] = arguments.as_slice() {
        let figures = phases::run(phase, Path::new(dir), bytes.parse().unwrap());
        println!("{}", figures.line());
        return ExitCode::SUCCESS;
    }
    let bytes = std::env::var("SLS_RELAY_BENCH_BYTES");
    let bytes: u64 = bytes.map_or(2_000_000_000, |bytes| bytes.parse().unwrap());
    let dir = std::env::var_os("SLS_RELAY_BENCH_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench-spool-open"),
        |dir| Path::new(&dir).join("bench-spool-open"),
    );
    let met = Bench { dir: dir.join("spool"), bytes, met: true }.run();
    let _ = fs::remove_dir_all(&dir);
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Bench {
    dir: PathBuf,
    bytes: u64,
    met: bool,
}

impl Bench {
    fn run(mut self) -> bool {
        let _ = fs::remove_dir_all(self.dir.parent().unwrap());
        fs::create_dir_all(&self.dir).unwrap();
        println!("{:<44}{:>9}{:>10}{:>9}{:>9}", "", "seconds", "MB read", "of all", "RSS MB");
        self.measure("building it", "build", None);

        self.cold();
        self.measure("opening with the catalog, cold, wanted 1 s", "open", None);
        self.measure("the same, warm", "open", None);
        self.measure("the same, never closed", "open-kill", None);
        self.measure("the same, next start", "open", None);
        self.forget_catalog();
        self.cold();
        self.measure("opening without catalog, cold, wanted 5 s", "open", Some(1.0));
        self.forget_catalog();
        self.measure("the same, warm", "open", Some(1.0));

        self.cold();
        self.measure("reading one minute, cold", "minute", Some(1.0));
        let drained = self.measure("reading 512 MB from page cache", "drain", None);
        let [copied, read] = [drained.other, drained.seconds];
        println!("{:<44}{copied:>9.2}{:>28}", "memcpy + crc32c of as many bytes", "");
        println!("{:<44}{:>9.2}", "reading takes times as long", read / copied);

        let cycle = self.measure("filling, draining, filling 256 MB", "cycle", None);
        let [quota, peak, after] = [cycle.quota, cycle.peak, cycle.after];
        println!(
            "{:<44}{:.1} MB of {:.1} MB; {:.1} MB drained, two segments are {:.1} MB",
            "most bytes of the disk",
            mb(peak),
            mb(quota),
            mb(after),
            mb(2 * cycle.segment)
        );
        self.expect(peak <= quota, "the quota was passed");
        self.expect(after < 2 * cycle.segment, "the disk was not given back");
        println!("{}", if self.met { "all that is checked is met" } else { "MISSED" });
        self.met
    }

    fn measure(&mut self, what: &str, phase: &str, most: Option<f64>) -> Figures {
        let program = std::env::current_exe().unwrap();
        let mut child = Command::new(program);
        child.arg(phase).arg(&self.dir).arg(self.bytes.to_string());
        let output = child.stderr(std::process::Stdio::inherit()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let figures = Figures::parse(&text);
        let percent = 100.0 * figures.read as f64 / allocated(&self.dir) as f64;
        println!(
            "{what:<44}{:>9.2}{:>10.2}{percent:>8.2}%{:>9.1}",
            figures.seconds,
            mb(figures.read),
            mb(figures.memory)
        );
        self.expect(most.is_none_or(|most| percent < most), "too many bytes were read");
        self.expect(figures.memory < MEMORY, "it took more memory than it may");
        figures
    }

    fn expect(&mut self, holds: bool, otherwise: &str) {
        if !holds {
            println!("  MISSED: {otherwise}");
            self.met = false;
        }
    }

    fn forget_catalog(&self) {
        fs::remove_dir_all(self.dir.join("catalog")).unwrap();
    }

    /// Asks the system to forget what it caches of the files.
    fn cold(&self) {
        for place in ["segments", "catalog"] {
            let Ok(files) = fs::read_dir(self.dir.join(place)) else { continue };
            for file in files.flatten() {
                let Ok(file) = fs::File::open(file.path()) else { continue };
                file.sync_all().unwrap();
                let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
            }
        }
    }
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
