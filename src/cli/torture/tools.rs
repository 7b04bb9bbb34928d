//! The real daemons: where their programs are, and their processes.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Between two looks whether a process has ended or listens.
const LOOK: Duration = Duration::from_millis(10);
/// How long a daemon may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where programs are looked for: a directory into which Debian packages were unpacked, else
/// the `PATH` and the directories of daemons.
#[derive(Clone, Debug, Default)]
pub(super) struct Tools {
    root: Option<PathBuf>,
    sdk: Option<PathBuf>,
}

impl Tools {
    /// `dir` holds `root`, as tests/receivers/fetch.sh leaves it; `sdk` is a virtual environment.
    pub(super) fn new(dir: Option<&Path>, sdk: Option<&Path>) -> Self {
        // rsyslogd changes its directory before it loads the driver of TLS.
        let root =
            |dir: &Path| std::path::absolute(dir).unwrap_or_else(|_| dir.into()).join("root");
        Self { root: dir.map(root), sdk: sdk.map(Path::to_owned) }
    }

    /// A Python that knows the official SDK.
    pub(super) fn sdk_python(&self) -> Option<PathBuf> {
        self.sdk.as_ref().map(|sdk| sdk.join("bin/python")).filter(|python| python.is_file())
    }

    /// A program by its name.
    pub(super) fn find(&self, name: &str) -> Option<PathBuf> {
        let unpacked = self.root.iter().flat_map(|root| {
            ["usr/sbin", "usr/bin", "sbin", "bin"].map(|folder| root.join(folder))
        });
        let path = std::env::var_os("PATH").unwrap_or_default();
        let system = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
        unpacked.chain(system).map(|folder| folder.join(name)).find(|program| program.is_file())
    }

    /// A command that finds the libraries beside the program.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some(root) = self.root.as_ref().filter(|root| program.starts_with(root)) {
            let folders = self.libraries().into_iter().chain([root.join("usr/lib/syslog-ng")]);
            let joined = std::env::join_paths(folders).unwrap_or_else(|_| OsString::new());
            command.env("LD_LIBRARY_PATH", joined);
        }
        command
    }

    /// The folder of plug-ins of an unpacked program: the first of `names` that is there.
    pub(super) fn plugins(&self, program: &Path, name: &str) -> Option<PathBuf> {
        let root = self.root.as_ref().filter(|root| program.starts_with(root))?;
        let folders = self.libraries().into_iter().chain([root.join("usr/lib")]);
        folders.map(|folder| folder.join(name)).find(|folder| folder.is_dir())
    }

    fn libraries(&self) -> Vec<PathBuf> {
        let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
        let folders = ["usr/lib", "lib"].map(|folder| PathBuf::from(folder).join(&triplet));
        self.root
            .iter()
            .flat_map(|root| folders.iter().map(|folder| root.join(folder)).collect::<Vec<_>>())
            .collect()
    }
}

/// A process of ours. Dropping it kills it.
pub(super) struct Daemon(Child);

impl Daemon {
    /// Starts it with its output in `log`, and waits until `listens` is true.
    pub(super) async fn start(
        command: &mut Command,
        log: &Path,
        listens: impl Fn() -> bool,
    ) -> anyhow::Result<Self> {
        let mut daemon = Self::start_with_input(command.stdin(Stdio::null()), log)?;
        let started = Instant::now();
        while !listens() {
            let name = command.get_program().to_string_lossy().into_owned();
            if let Some(status) = daemon.0.try_wait()? {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                anyhow::bail!("{name} ended with {status} and said: {}", said.trim_end());
            }
            anyhow::ensure!(started.elapsed() < PATIENCE, "{name} does not listen");
            tokio::time::sleep(LOOK).await;
        }
        Ok(daemon)
    }

    /// Starts it with its output in `log`, and standard input as `command` has it.
    pub(super) fn start_with_input(command: &mut Command, log: &Path) -> io::Result<Self> {
        let output = std::fs::File::options().create(true).append(true).open(log)?;
        command.stdout(output.try_clone()?).stderr(output).spawn().map(Self)
    }

    /// The pipe to its standard input, once.
    pub(super) fn input(&mut self) -> Option<ChildStdin> {
        self.0.stdin.take()
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = Pid::from_child(&self.0);
        Ok(kill_process(pid, signal)?)
    }

    /// Whether it still runs.
    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// Waits for its end.
    pub(super) async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            if started.elapsed() > PATIENCE {
                self.0.kill()?;
                return Ok(ExitStatus::from_raw(9));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
