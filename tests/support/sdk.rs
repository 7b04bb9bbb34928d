//! The official Python SDK, run as a process of its own.
#![allow(dead_code, reason = "each test that includes this uses a part of it")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

/// The interpreter that has the SDK; without it the SDK is left out, but not in CI.
pub(crate) fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/venv/bin/python");
    if python.exists() {
        return Some(python);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing, run ./test", python.display());
    // Not println: the test harness would keep that to itself.
    let mut stdout = std::io::stdout();
    writeln!(stdout, "LEFT OUT: official SDK (run ./test)").unwrap();
    None
}

/// A script of tests/official_sdk that runs, and what it has written. It ends when dropped.
pub(crate) struct Script {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    complaints: Option<JoinHandle<String>>,
}

impl Script {
    pub(crate) fn start(python: &Path, name: &str, arguments: &[&str]) -> Self {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/official_sdk");
        let mut child = Command::new(python)
            .arg(scripts.join(name))
            .args(arguments)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (stdout, written) = (BufReader::new(child.stdout.take().unwrap()), Arc::clone(&lines));
        std::thread::spawn(move || {
            for line in stdout.lines() {
                written.lock().unwrap().push(line.unwrap());
            }
        });
        let mut stderr = child.stderr.take().unwrap();
        let complaints = std::thread::spawn(move || {
            let mut complaints = Vec::new();
            let _ = stderr.read_to_end(&mut complaints);
            String::from_utf8_lossy(&complaints).into_owned()
        });
        Self { child, lines, complaints: Some(complaints) }
    }

    /// What it has written to standard output, shared with it.
    pub(crate) fn lines(&self) -> Arc<Mutex<Vec<String>>> {
        Arc::clone(&self.lines)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Its exit status and what it complained about; blocks until it has ended.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        (self.child.wait().unwrap(), self.complaints.take().unwrap().join().unwrap())
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
