//! The real binary as a child of a test.
#![allow(dead_code, reason = "each test that includes this uses a part of it")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long it may take to end before the test fails.
const DEADLINE: Duration = Duration::from_secs(120);

/// `sls-relay run` with a configuration. It ends with its test, also when the test fails.
pub(crate) struct Process {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    reading: Option<std::thread::JoinHandle<()>>,
}

impl Process {
    pub(crate) fn start(config: &Path) -> Self {
        Self::spawn(config, Command::new(env!("CARGO_BIN_EXE_sls-relay")))
    }

    /// One that kills itself the `pass`th time that it comes to a point of `spool::crash`.
    pub(crate) fn start_to_crash(config: &Path, point: &str, pass: u64) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sls-relay"));
        command.env("SLS_RELAY_CRASH_AT", format!("{point}:{pass}"));
        Self::spawn(config, command)
    }

    fn spawn(config: &Path, mut command: Command) -> Self {
        let mut child = command
            .args(["run", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&log);
        let reading = std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).for_each(|line| sink.lock().unwrap().push(line));
        });
        Self { child, log, reading: Some(reading) }
    }

    /// Lines logged so far that hold `text`.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|line| line.contains(text)).count()
    }

    #[allow(dead_code, reason = "not every test that includes this needs it")]
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the end; returns how it ended and what it logged.
    pub(crate) fn wait(mut self) -> (ExitStatus, Vec<String>) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > DEADLINE {
                self.child.kill().unwrap();
                panic!("the relay did not end; it said: {:#?}", self.whole_log());
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        (status, self.whole_log())
    }

    fn whole_log(&mut self) -> Vec<String> {
        self.reading.take().unwrap().join().unwrap();
        std::mem::take(&mut *self.log.lock().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Logs that a relay says it sends again, as it does where a drain was not answered in time.
pub(crate) fn sent_again(log: &[String]) -> u64 {
    let lines = log.iter().filter(|line| line.contains("these logs are sent again"));
    let counts = lines
        .filter_map(|line| line.split(" logs=").nth(1)?.split(' ').next()?.parse::<u64>().ok());
    counts.sum()
}
