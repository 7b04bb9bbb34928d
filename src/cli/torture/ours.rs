//! The relay as a sender: an emulated Log Service that is fed on schedule, and a whole relay.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::feed::{Schedule, TICK};
use super::pki::Pki;
use super::scenario::{Scenario, Transport};
use super::tally;
use crate::config::{
    ControlSettings, Destination, LogFormat, LogSettings, Settings, Source, SpoolSettings,
};
use crate::emulator::sls::{Generator, SlsConfig, SlsEmulator};
use crate::relay::{Relay, RelayError, status::Counters};
use crate::sls::{CredentialSource, Credentials, Endpoint};
use crate::syslog::Proof;
use crate::syslog::transport::TlsProfile;

/// Logs in a log group.
const PER_GROUP: u64 = 50;

/// A relay at work.
pub(super) struct Ours {
    emulator: Arc<SlsEmulator>,
    counters: Arc<Counters>,
    fed: Arc<AtomicBool>,
    feeding: JoinHandle<anyhow::Result<()>>,
    running: JoinHandle<Result<(), RelayError>>,
    stop: CancellationToken,
}

impl Ours {
    /// Starts both with a spool in `dir`.
    pub(super) async fn start(
        dir: &Path,
        destination: Destination,
        schedule: Schedule,
    ) -> anyhow::Result<Self> {
        let config = SlsConfig {
            generator: schedule.rate.is_none().then(|| all_at_once(schedule.logs)),
            ..SlsConfig::default()
        };
        let key = Credentials {
            key_id: config.key_id.clone(),
            key_secret: config.key_secret.clone(),
            security_token: None,
        };
        let (project, logstore) = (config.project.clone(), config.logstore.clone());
        let emulator = Arc::new(SlsEmulator::start(config).await?);
        let endpoint = Endpoint::parse(&emulator.endpoint())?;
        let key = CredentialSource::Static(key);
        let mut source = Source::new(endpoint, project, logstore, "torture", key);
        source.group_timeout = Duration::from_secs(10);
        source.idle_poll = Duration::from_millis(50);
        source.shard_bytes_per_second = u64::MAX;
        let spool = dir.join("spool");
        let relay = Relay::start(Settings {
            control: ControlSettings::of_spool(&spool),
            spool: SpoolSettings { min_free_bytes: 64 << 20, ..SpoolSettings::new(spool, 8 << 30) },
            sources: vec![source],
            destinations: vec![destination],
            log: LogSettings { level: "info".to_owned(), format: LogFormat::Text },
        })
        .await?;
        let (counters, stop) = (relay.counters(), CancellationToken::new());
        let running = tokio::spawn(relay.run(stop.clone()));
        let fed = Arc::new(AtomicBool::new(schedule.rate.is_none()));
        let feeding = tokio::spawn(feed(Arc::clone(&emulator), schedule, Arc::clone(&fed)));
        Ok(Self { emulator, counters, fed, feeding, running, stop })
    }

    /// Whether every log is in Log Service.
    pub(super) fn is_fed(&self) -> bool {
        self.fed.load(Ordering::Relaxed)
    }

    /// Logs that the relay counts as delivered.
    pub(super) fn confirmed(&self) -> u64 {
        self.counters.snapshot().destinations.values().map(|d| d.confirmed).sum()
    }

    /// Logs confirmed on a weaker proof than the transport promises.
    pub(super) fn unproven(&self) -> u64 {
        self.counters.snapshot().destinations.values().map(|d| d.unproven).sum()
    }

    /// Whether it ended of itself.
    pub(super) fn has_ended(&self) -> bool {
        self.running.is_finished()
    }

    /// Stops as SIGTERM does.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.feeding.abort();
        self.stop.cancel();
        self.running.await??;
        // The feeding task had the other reference.
        let _ = self.feeding.await;
        if let Some(emulator) = Arc::into_inner(self.emulator) {
            emulator.shutdown().await;
        }
        Ok(())
    }
}

/// The settings of the loss tables: quick drains, and a second to settle.
pub(super) fn destination(
    scenario: &Scenario,
    to: SocketAddr,
    pki: Option<&Pki>,
) -> anyhow::Result<Destination> {
    let mut destination = Destination::new(scenario.target(to).parse()?, "torture");
    if scenario.transport == Transport::TcpWindow {
        destination.delivery = Proof::Window;
    }
    if let Some(pki) = pki {
        let settings = pki.trusting(scenario.shows_certificate());
        destination.tls = Arc::new(TlsProfile::new(settings));
    }
    destination.udp_max_rate = 1_000_000;
    destination.timeout = Duration::from_secs(5);
    destination.settle = Duration::from_secs(1);
    destination.drain_every = Duration::from_secs(1);
    destination.drain_bytes = 1 << 20;
    destination.drain_idle = Duration::from_millis(500);
    Ok(destination)
}

async fn feed(
    emulator: Arc<SlsEmulator>,
    schedule: Schedule,
    fed: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let (started, mut next) = (Instant::now(), 0);
    while schedule.rate.is_some() && next < schedule.logs {
        let count = (schedule.due(started) - next).min(PER_GROUP);
        if count > 0 {
            emulator.put_group(0, &tally::group(next, count))?;
            next += count;
        } else {
            tokio::time::sleep(TICK).await;
        }
    }
    fed.store(true, Ordering::Relaxed);
    Ok(())
}

fn all_at_once(logs: u64) -> Generator {
    Generator {
        groups_per_shard: vec![logs.div_ceil(PER_GROUP)],
        make: Arc::new(move |_, group| {
            let first = group * PER_GROUP;
            tally::group(first, PER_GROUP.min(logs.saturating_sub(first)))
        }),
    }
}
