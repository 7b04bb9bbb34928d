//! The command line: one file per command, `output.rs` the only one that prints.

mod cert;
mod check;
mod demo;
mod emulator;
mod output;
mod owner;
mod run;
mod spool;
mod time;
mod torture;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Loaded, SampleFlags};

/// Moves logs from Alibaba Cloud Simple Log Service to a syslog receiver without losing one.
#[derive(Debug, Parser)]
#[command(name = "sls-relay", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the relay until it is told to stop (SIGTERM, SIGINT)
    Run(run::RunArgs),
    /// Check the configuration and try every connection, without consuming anything
    Check(check::CheckArgs),
    /// Show what is to be known of certificates before they are trusted
    Cert(cert::CertArgs),
    /// Show the main job in one process: an emulated SLS, a receiver with an outage, the relay
    Demo(demo::DemoArgs),
    /// Serve an emulated SLS on loopback for tests of your own
    Emulator(emulator::EmulatorArgs),
    /// Measure what is lost when receivers die, stall and lie, on loopback
    Torture(torture::TortureArgs),
    /// Look into a spool without changing it
    Spool(spool::SpoolArgs),
}

/// Where the settings come from.
#[derive(Args, Clone, Debug)]
pub(crate) struct ConfigArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    sample: SampleArgs,
}

/// Flags that go with the SLS_* variables of Alibaba's sample, in place of a file.
#[derive(Args, Clone, Debug)]
#[command(
    next_help_heading = "Without a file: SLS_ENDPOINT, SLS_AK_ID, SLS_AK_KEY, SLS_PROJECT, SLS_LOGSTORE and SLS_CG from the environment, and"
)]
struct SampleArgs {
    /// Receiver: udp://HOST:514, tcp://HOST:1468 or tls://HOST:6514
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    to: Option<String>,
    /// Spool directory [default: ./sls-relay-spool]
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    spool: Option<String>,
    /// Framing on TCP and TLS: octet-counting or lf
    #[arg(long, conflicts_with = "config")]
    framing: Option<String>,
    /// Message format: rfc5424 or sample
    #[arg(long, conflicts_with = "config")]
    format: Option<String>,
    /// Separator between key=value pairs [default: ||]
    #[arg(long, conflicts_with = "config")]
    sep: Option<String>,
    /// Syslog facility [default: user]
    #[arg(long, conflicts_with = "config")]
    facility: Option<String>,
    /// Syslog severity [default: info]
    #[arg(long, conflicts_with = "config")]
    severity: Option<String>,
    /// HOSTNAME of the messages [default: the name of this machine]
    #[arg(long, conflicts_with = "config")]
    hostname: Option<String>,
    /// APP-NAME of the messages [default: sls-relay]
    #[arg(long, conflicts_with = "config")]
    tag: Option<String>,
    /// Time for one connection attempt [default: 10 s]
    #[arg(long, conflicts_with = "config")]
    timeout: Option<String>,
}

/// Exit codes after sysexits.h; systemd must not restart after the configuration ones.
pub(crate) mod exit {
    pub(crate) const USAGE: u8 = 64;
    pub(crate) const UNAVAILABLE: u8 = 69;
    pub(crate) const SOFTWARE: u8 = 70;
    pub(crate) const IO: u8 = 74;
    pub(crate) const NO_PERMISSION: u8 = 77;
    pub(crate) const CONFIG: u8 = 78;
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(exit::USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Cert(args) => cert::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Emulator(args) => emulator::run(&args),
        Command::Torture(args) => torture::run(&args),
        Command::Spool(args) => spool::run(&args),
    }
}

impl ConfigArgs {
    /// Loads the file, or the environment where no file is named. Problems are printed.
    fn load(&self) -> Result<Loaded, ExitCode> {
        let env = |name: &str| std::env::var(name).ok();
        let hostname = machine_name();
        let loaded = match &self.config {
            Some(path) => config::load(path, &env, &hostname),
            None => config::from_environment(&env, &self.sample.flags(), &hostname),
        };
        match loaded {
            Ok(loaded) => Ok(loaded),
            Err(problems) => {
                output::error(&problems.to_string());
                Err(ExitCode::from(exit::CONFIG))
            }
        }
    }
}

impl SampleArgs {
    fn flags(&self) -> SampleFlags {
        let Self { to, spool, framing, format, sep, facility, severity, hostname, tag, timeout } =
            self.clone();
        SampleFlags { to, spool, framing, format, sep, facility, severity, hostname, tag, timeout }
    }
}

/// What this machine calls itself.
fn machine_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Resolves when the user has had enough.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut int), Ok(mut term)) => {
            tokio::select! {
                _ = int.recv() => {}
                _ = term.recv() => {}
            }
        }
        _ => std::future::pending().await,
    }
}

/// The runtime of every command that talks to the network. Two threads are plenty: the work
/// is in the spool's writer and the encoders, which have their own.
fn runtime() -> Result<tokio::runtime::Runtime, ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|error| {
        output::error(&format!("error: cannot start: {error}"));
        ExitCode::from(exit::SOFTWARE)
    })
}
