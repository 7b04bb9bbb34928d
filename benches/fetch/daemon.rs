//! The daemon that is measured.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use crate::service::{GROUP, Service};

/// A running daemon with a spool of its own. It is killed when dropped, and the spool removed.
pub(crate) struct Daemon {
    child: Child,
    dir: tempfile::TempDir,
}

impl Daemon {
    /// Starts it with more lines for its source.
    pub(crate) fn start(service: &Service, source: &str) -> Self {
        let base = std::env::var_os("SLS_RELAY_BENCH_DIR")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
        let dir = tempfile::Builder::new().prefix("bench-fetch").tempdir_in(base).unwrap();
        let config = dir.path().join("config.toml");
        fs::write(&config, text(service, dir.path(), source)).unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let program = std::env::var_os("SLS_RELAY_BIN")
            .unwrap_or_else(|| env!("CARGO_BIN_EXE_sls-relay").into());
        let child = Command::new(program)
            .args(["run", "--config"])
            .arg(&config)
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, dir }
    }

    /// CPU seconds it took so far, to a hundredth.
    pub(crate) fn cpu(&self) -> f64 {
        cpu(self.child.id())
    }

    /// CPU time of its threads so far, which must be the same ones all the time.
    pub(crate) fn cpu_ns(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let times = tasks.filter_map(|task| {
            let stat = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            stat.split_whitespace().next()?.parse::<u64>().ok()
        });
        times.sum()
    }

    /// `VmHWM` in MB.
    pub(crate) fn peak_memory(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0 / 1e6
    }

    /// Open sockets.
    pub(crate) fn connections(&self) -> usize {
        let files = fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        let sockets = files.filter(|file| {
            let to = file.as_ref().ok().and_then(|file| fs::read_link(file.path()).ok());
            to.is_some_and(|to| to.to_string_lossy().starts_with("socket:"))
        });
        sockets.count()
    }

    /// Bytes of its segments.
    pub(crate) fn spool_bytes(&self) -> u64 {
        let segments = fs::read_dir(self.dir.path().join("spool/segments")).unwrap();
        segments.filter_map(|file| file.ok()?.metadata().ok()).map(|file| file.len()).sum()
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// User and system time of a process, s.
pub(crate) fn cpu(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

fn text(service: &Service, dir: &Path, source: &str) -> String {
    let access = &service.access;
    // Nobody listens there.
    let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = match access.tls {
        true => format!(
            "endpoint = \"https://region.example\"\nconnect_to = \"{}\"\nca_file = \"{}\"",
            access.address,
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sls/tls/ca.pem"),
        ),
        false => format!("endpoint = \"http://{}\"", access.address),
    };
    format!(
        r#"
[spool]
dir = "{spool}"
max_bytes = "10 GiB"

[[source]]
{endpoint}
project = "{project}"
logstore = "{logstore}"
consumer_group = "{GROUP}"
access_key_id = "{key_id}"
access_key_secret = "{key_secret}"
shard_bytes_per_second = "10 GB"
{source}

[[destination]]
to = "tcp://{refusing}"
"#,
        spool = dir.join("spool").display(),
        project = access.project,
        logstore = access.logstore,
        key_id = access.key_id,
        key_secret = access.key_secret,
    )
}
