//! `sls-relay demo`: the main job in one process, with an outage of the receiver in the
//! middle, and an account of every log at the end.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{exit, output};
use crate::config::{
    ControlSettings, Destination, LogFormat, LogSettings, Settings, Source, SpoolSettings,
};
use crate::emulator::arrivals::Arrivals;
use crate::emulator::oracle::Report;
use crate::emulator::receiver::{Mode, Receiver, ReceiverConfig};
use crate::emulator::sls::{SlsConfig, SlsEmulator};
use crate::emulator::waf::Waf;
use crate::emulator::workload::Workload;
use crate::relay::Relay;
use crate::sls::{CredentialSource, Credentials, Endpoint};
use crate::syslog::Target;
use crate::syslog::size::MAX_STREAM;
use crate::telemetry;

#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// Logs to move
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..))]
    logs: u64,
    /// Shards of the emulated logstore
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    shards: u32,
    /// Seconds that the receiver is away in the middle
    #[arg(long, value_name = "SECONDS", default_value_t = 4)]
    outage: u64,
    /// Give up when the logs have not arrived after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    deadline: u64,
    /// Print one JSON object instead of progress and a table
    #[arg(long)]
    json: bool,
    /// Also print what the relay logs
    #[arg(short, long)]
    verbose: bool,
}

pub(crate) fn run(args: &DemoArgs) -> ExitCode {
    let level = if args.verbose { "info" } else { "off" };
    if let Err(error) =
        telemetry::init(&LogSettings { level: level.to_owned(), format: LogFormat::Text })
    {
        output::error(&error);
    }
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    let dir = Scratch::new();
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = demo(args, &dir.0) => outcome,
            () = super::interrupted() => Err(anyhow::anyhow!("interrupted")),
        }
    });
    // The spool's files are gone before the account is given.
    drop(runtime);
    drop(dir);
    match outcome {
        Ok(account) => account.print(args.json),
        Err(error) => output::fail(error.as_ref(), exit::SOFTWARE),
    }
}

/// The demo's spool directory; removed at the end, however it ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let name = format!("sls-relay-demo-{}-{:08x}", std::process::id(), fastrand::u32(..));
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What the demo came to.
struct Account {
    served: u64,
    pulled: u64,
    report: Report,
    resent: u64,
    peak_spool_bytes: u64,
    waited_most: u64,
    elapsed: Duration,
    cpu_seconds: f64,
}

async fn demo(args: &DemoArgs, dir: &Path) -> anyhow::Result<Account> {
    let started = Instant::now();
    let workload = Workload::new(Waf::new(1), args.shards, args.logs, 50);
    let config = SlsConfig {
        shards: args.shards,
        generator: Some(workload.generator()),
        ..SlsConfig::default()
    };
    let key = Credentials {
        key_id: config.key_id.clone(),
        key_secret: config.key_secret.clone(),
        security_token: None,
    };
    let (project, logstore) = (config.project.clone(), config.logstore.clone());
    let emulator = SlsEmulator::start(config).await?;

    let arrivals = Arc::new(Mutex::new(Arrivals::new(workload, "||")));
    let sink = Arc::clone(&arrivals);
    let receiver = Receiver::start(
        ReceiverConfig {
            tcp: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            ..ReceiverConfig::default()
        },
        Arc::new(move |_, message| lock(&sink).message(message)),
    )?;
    let port = receiver.tcp_addr().map_or(0, |address| address.port());

    let settings = Settings {
        spool: SpoolSettings { min_free_bytes: 64 << 20, ..SpoolSettings::new(dir, 4 << 30) },
        sources: vec![source(&emulator.endpoint(), project, logstore, key)?],
        destinations: vec![destination(&format!("tcp://127.0.0.1:{port}"))?],
        log: LogSettings { level: "info".to_owned(), format: LogFormat::Text },
        control: ControlSettings::of_spool(dir),
    };
    let relay = Relay::start(settings).await?;
    let (counters, spool) = (relay.counters(), relay.spool());
    let stop = CancellationToken::new();
    let mut running = tokio::spawn(relay.run(stop.clone()));

    let bars = Bars::new(args);
    let mut outage = Outage::Ahead;
    let (mut peak_spool_bytes, mut waited_most) = (0, 0);
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            ended = &mut running => {
                ended??;
                anyhow::bail!("the relay ended before its time");
            }
        }
        let snapshot = counters.snapshot();
        let report = lock(&arrivals).report();
        let status = spool.status();
        peak_spool_bytes = peak_spool_bytes.max(status.used_bytes);
        let waiting = snapshot.spooled.saturating_sub(report.delivered);
        waited_most = waited_most.max(waiting);
        bars.show(snapshot.pulled, snapshot.spooled, report.delivered, waiting, &outage, started);
        let confirmed: u64 = snapshot.destinations.values().map(|d| d.confirmed).sum();
        match outage {
            Outage::Ahead if report.delivered >= args.logs / 3 && args.outage > 0 => {
                receiver.set_mode(Mode::Refuse).await?;
                outage = Outage::Until(Instant::now() + Duration::from_secs(args.outage));
            }
            Outage::Until(end) if Instant::now() >= end => {
                receiver.set_mode(Mode::Accept).await?;
                outage = Outage::Over;
            }
            Outage::Until(_) => {}
            _ if lock(&arrivals).is_complete() && confirmed >= args.logs => break,
            _ => {}
        }
        if started.elapsed() > Duration::from_secs(args.deadline) {
            break;
        }
    }
    stop.cancel();
    running.await??;
    bars.finish();
    receiver.shutdown().await;
    emulator.shutdown().await;
    let snapshot = counters.snapshot();
    let report = lock(&arrivals).report();
    Ok(Account {
        served: args.logs,
        pulled: snapshot.pulled,
        report,
        resent: snapshot.destinations.values().map(|d| d.resent).sum(),
        peak_spool_bytes,
        waited_most,
        elapsed: started.elapsed(),
        cpu_seconds: cpu_seconds(),
    })
}

enum Outage {
    Ahead,
    Until(Instant),
    Over,
}

fn source(
    endpoint: &str,
    project: String,
    logstore: String,
    key: Credentials,
) -> anyhow::Result<Source> {
    let endpoint = Endpoint::parse(endpoint)?;
    let mut source =
        Source::new(endpoint, project, logstore, "demo", CredentialSource::Static(key));
    source.group_timeout = Duration::from_secs(10);
    source.idle_poll = Duration::from_millis(200);
    Ok(source)
}

/// Quicker than the defaults, so that the demo does not wait for its own end.
fn destination(to: &str) -> anyhow::Result<Destination> {
    let mut destination = Destination::new(to.parse::<Target>()?, "demo");
    destination.timeout = Duration::from_secs(5);
    destination.settle = Duration::from_secs(1);
    destination.drain_idle = Duration::from_millis(500);
    destination.drain_bytes = 2 << 20;
    // What arrives is compared whole.
    destination.max_message = MAX_STREAM;
    Ok(destination)
}

struct Bars {
    _all: MultiProgress,
    pulled: ProgressBar,
    spooled: ProgressBar,
    delivered: ProgressBar,
    state: ProgressBar,
}

impl Bars {
    fn new(args: &DemoArgs) -> Self {
        let all = MultiProgress::new();
        if args.json || args.verbose || !output::interactive() {
            all.set_draw_target(ProgressDrawTarget::hidden());
        }
        let style =
            ProgressStyle::with_template("{prefix:>10} {wide_bar} {human_pos:>10} of {human_len}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = |name: &'static str| {
            all.add(ProgressBar::new(args.logs).with_style(style.clone()).with_prefix(name))
        };
        let (pulled, spooled, delivered) = (bar("pulled"), bar("spooled"), bar("delivered"));
        let text = ProgressStyle::with_template("{prefix:>10} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let state = all.add(ProgressBar::new(1).with_style(text).with_prefix("backlog"));
        Self { _all: all, pulled, spooled, delivered, state }
    }

    fn show(
        &self,
        pulled: u64,
        spooled: u64,
        delivered: u64,
        waiting: u64,
        outage: &Outage,
        started: Instant,
    ) {
        self.pulled.set_position(pulled);
        self.spooled.set_position(spooled);
        self.delivered.set_position(delivered);
        let rate =
            delivered * 1000 / u64::try_from(started.elapsed().as_millis()).unwrap_or(1).max(1);
        let receiver = match outage {
            Outage::Until(_) => "  RECEIVER IS AWAY: logs wait in the spool, checkpoints go on",
            Outage::Over => "  receiver is back",
            Outage::Ahead => "",
        };
        self.state.set_message(format!("{waiting} logs wait, {rate} logs/s delivered{receiver}"));
    }

    fn finish(&self) {
        for bar in [&self.pulled, &self.spooled, &self.delivered, &self.state] {
            bar.abandon();
        }
    }
}

impl Account {
    /// Whether every log arrived, as it was, in order.
    fn is_good(&self) -> bool {
        let report = &self.report;
        report.lost == 0 && report.out_of_order == 0 && report.corrupted == 0 && report.unknown == 0
    }

    fn print(&self, as_json: bool) -> ExitCode {
        let report = &self.report;
        if as_json {
            let account = json!({
                "served": self.served, "pulled": self.pulled, "delivered": report.delivered,
                "duplicates": report.duplicates, "out_of_order": report.out_of_order,
                "lost": report.lost, "corrupted": report.corrupted + report.unknown,
                "resent": self.resent, "waited_most": self.waited_most,
                "peak_spool_bytes": self.peak_spool_bytes,
                "seconds": self.elapsed.as_secs_f64(), "cpu_seconds": self.cpu_seconds,
            });
            output::line(&account.to_string());
        } else {
            let row = |name: &str, value: String| vec![name.to_owned(), value];
            if output::interactive() {
                // The last progress bar has no line end of its own.
                output::line("");
            }
            output::line("");
            output::table(
                &["", ""],
                &[
                    row("logs served by SLS", self.served.to_string()),
                    row("pulled", self.pulled.to_string()),
                    row("delivered", report.delivered.to_string()),
                    row("lost", report.lost.to_string()),
                    row("out of order", report.out_of_order.to_string()),
                    row("changed on the way", (report.corrupted + report.unknown).to_string()),
                    row("duplicates", report.duplicates.to_string()),
                    row("most that waited in the spool", format!("{} logs", self.waited_most)),
                    row("largest spool", output::size(self.peak_spool_bytes)),
                ],
            );
            output::line("");
            output::line(if self.is_good() {
                "Every log arrived, unchanged and in the order of its shard. Duplicates come from the\noutage: what the receiver had not confirmed when it went away was sent again."
            } else {
                "NOT every log arrived intact and in order."
            });
        }
        if self.is_good() { ExitCode::SUCCESS } else { ExitCode::from(exit::SOFTWARE) }
    }
}

/// CPU time of this process, user and system.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = text.rsplit(") ").next().unwrap_or_default();
    let ticks =
        after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
    #[expect(clippy::cast_precision_loss, reason = "a small constant of the system")]
    let per_second = rustix::param::clock_ticks_per_second() as f64;
    ticks.sum::<f64>() / per_second
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
