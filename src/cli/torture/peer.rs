//! What others lose in the same place: rsyslog, syslog-ng and the SDK's sample as senders.
//!
//! They are fed through a TCP connection on loopback or a pipe, which never breaks, with as
//! much as they take: nothing is lost on the way to them. They run from the beginning to the
//! end; only the receiver has trouble.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::ValueEnum;
use rustix::process::Signal;

use super::daemon::{syslog_ng_modules, version};
use super::feed::{Schedule, TICK};
use super::stage::left_out;
use super::tally;
use super::tools::{Daemon, Tools};

/// Who sends beside the relay.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Who {
    /// rsyslog with a disk queue
    Rsyslog,
    /// syslog-ng with a reliable disk buffer
    SyslogNg,
    /// The syslog client of the official SDK, used as its sample does
    Sample,
}

impl Who {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rsyslog => "rsyslog",
            Self::SyslogNg => "syslog-ng",
            Self::Sample => "sample",
        }
    }

    /// Whether it delimits messages with LF.
    pub(super) fn sends_lines(self) -> bool {
        self == Self::Sample
    }
}

/// A peer at work.
pub(super) struct Peer {
    process: Daemon,
    fed: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

impl Peer {
    /// Starts one with its files in `dir`, and feeds it.
    pub(super) async fn start(
        who: Who,
        tools: &Tools,
        dir: &Path,
        target: SocketAddr,
        schedule: Schedule,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let log = dir.join("stdout.log");
        let feed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let listens = || TcpStream::connect(feed).is_ok();
        let mut process = match who {
            Who::Rsyslog => {
                Daemon::start(&mut rsyslog(tools, dir, target, feed)?, &log, listens).await?
            }
            Who::SyslogNg => {
                Daemon::start(&mut syslog_ng(tools, dir, target, feed)?, &log, listens).await?
            }
            Who::Sample => {
                let mut command = sample(tools, dir, target)?;
                Daemon::start_with_input(&mut command, &log)?
            }
        };
        let (fed, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let flags = (Arc::clone(&fed), Arc::clone(&stop));
        let input: Box<dyn Write + Send> = match process.input() {
            Some(input) => Box::new(input),
            None => Box::new(TcpStream::connect(feed)?),
        };
        // Ends with the process, which closes the other end.
        std::thread::Builder::new().name("feed".to_owned()).spawn(move || {
            if write_all(input, schedule, who.sends_lines(), &flags.1).is_ok() {
                flags.0.store(true, Ordering::Relaxed);
            }
        })?;
        Ok(Self { process, fed, stop })
    }

    /// Whether it has taken every log.
    pub(super) fn is_fed(&self) -> bool {
        self.fed.load(Ordering::Relaxed)
    }

    /// Whether it ended before it was fed.
    pub(super) fn has_ended(&mut self) -> bool {
        !self.is_fed() && !self.process.is_running()
    }

    /// Stops it as its service would be.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.process.signal(Signal::TERM)?;
        self.process.ended().await?;
        Ok(())
    }
}

fn write_all(
    mut input: Box<dyn Write + Send>,
    schedule: Schedule,
    lines: bool,
    stop: &AtomicBool,
) -> std::io::Result<()> {
    let (started, mut next) = (Instant::now(), 0);
    while next < schedule.logs && !stop.load(Ordering::Relaxed) {
        let due = schedule.due(started).min(next + 100);
        if due == next {
            std::thread::sleep(TICK);
        }
        let mut frames = String::new();
        for number in next..due {
            let message = tally::message(number);
            frames += &match lines {
                true => tally::body(number) + "\n",
                false => format!("{} {message}", message.len()),
            };
        }
        input.write_all(frames.as_bytes())?;
        next = due;
    }
    input.flush()
}

fn rsyslog(
    tools: &Tools,
    dir: &Path,
    target: SocketAddr,
    feed: SocketAddr,
) -> anyhow::Result<Command> {
    let program = tools.find("rsyslogd").ok_or_else(|| left_out("needs rsyslogd"))?;
    let text = include_str!("conf/peer-rsyslog.conf");
    let config = configure(dir, "rsyslog.conf", text, target, feed)?;
    let mut command = tools.command(&program);
    command.arg("-n").arg("-f").arg(config).arg("-i").arg(dir.join("pid"));
    if let Some(modules) = tools.plugins(&program, "rsyslog") {
        command.arg("-M").arg(modules);
    }
    Ok(command)
}

fn syslog_ng(
    tools: &Tools,
    dir: &Path,
    target: SocketAddr,
    feed: SocketAddr,
) -> anyhow::Result<Command> {
    let program = tools.find("syslog-ng").ok_or_else(|| left_out("needs syslog-ng"))?;
    let text = include_str!("conf/peer-syslog-ng.conf");
    let text = text.replace("@VERSION@", &version(tools, &program));
    let config = configure(dir, "syslog-ng.conf", &text, target, feed)?;
    let mut command = tools.command(&program);
    command.args(["-F", "--no-caps", "-f"]).arg(config);
    command.arg("-p").arg(dir.join("pid")).arg("-c").arg(dir.join("ctl"));
    command.arg("-R").arg(dir.join("persist"));
    if let Some(modules) = syslog_ng_modules(tools, &program) {
        command.arg("--module-path").arg(modules);
    }
    Ok(command)
}

fn sample(tools: &Tools, dir: &Path, target: SocketAddr) -> anyhow::Result<Command> {
    let why = "needs --sdk, a virtual environment with aliyun-log-python-sdk";
    let python = tools.sdk_python().ok_or_else(|| left_out(why))?;
    let script = dir.join("sample.py");
    std::fs::write(&script, include_str!("conf/peer-sample.py"))?;
    let mut command = Command::new(python);
    command.arg(script).arg(target.ip().to_string()).arg(target.port().to_string());
    command.stdin(Stdio::piped());
    Ok(command)
}

fn configure(
    dir: &Path,
    name: &str,
    text: &str,
    target: SocketAddr,
    feed: SocketAddr,
) -> std::io::Result<PathBuf> {
    let text = text
        .replace("@DIR@", &dir.to_string_lossy())
        .replace("@HOST@", &target.ip().to_string())
        .replace("@PORT@", &target.port().to_string())
        .replace("@FEED@", &feed.port().to_string());
    let path = dir.join(name);
    std::fs::write(&path, text)?;
    Ok(path)
}
