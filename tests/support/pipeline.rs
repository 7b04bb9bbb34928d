//! A whole relay between the emulator and a receiver, in this process.
#![allow(dead_code, reason = "each test that includes this uses a part of it")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use sls_relay::config::{
    ControlSettings, Destination, LogFormat, LogSettings, Settings, Source, SpoolSettings,
};
use sls_relay::emulator::arrivals::{Arrivals, Notice};
use sls_relay::emulator::receiver::{Receiver, ReceiverConfig};
use sls_relay::emulator::sls::{SlsConfig, SlsEmulator};
use sls_relay::emulator::waf::Waf;
use sls_relay::emulator::workload::Workload;
use sls_relay::relay::Relay;
use sls_relay::relay::status::Counters;
use sls_relay::sls::{Client, ClientConfig, CredentialSource, Credentials, Endpoint};
use sls_relay::spool::Spool;
use tokio_util::sync::CancellationToken;

/// How long anything may take before the test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);
pub(crate) const GROUP: &str = "relay-test";

type BoxFuture = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// The two ends.
pub(crate) struct Ends {
    pub(crate) emulator: SlsEmulator,
    pub(crate) receiver: Receiver,
    pub(crate) arrivals: Arc<Mutex<Arrivals>>,
    config: SlsConfig,
}

/// A relay that runs.
pub(crate) struct Running {
    pub(crate) counters: Arc<Counters>,
    pub(crate) spool: Spool,
    exported: Mutex<Option<BoxFuture>>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), sls_relay::relay::RelayError>>,
}

impl Ends {
    /// Serves `logs` logs over `shards` shards.
    pub(crate) async fn start(shards: u32, logs: u64) -> Self {
        Self::serve(Waf::new(7), shards, logs, |_| {}).await
    }

    pub(crate) async fn serve(
        waf: Waf,
        shards: u32,
        logs: u64,
        adjust: impl FnOnce(&mut SlsConfig),
    ) -> Self {
        let workload = Workload::new(waf, shards, logs, 10);
        let mut config = SlsConfig {
            shards,
            generator: Some(workload.generator()),
            max_raw_bytes: 64 << 10,
            ..SlsConfig::default()
        };
        adjust(&mut config);
        let emulator = SlsEmulator::start(config.clone()).await.unwrap();
        let arrivals = Arc::new(Mutex::new(Arrivals::new(workload, "||")));
        let sink = Arc::clone(&arrivals);
        let any = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let receiver = Receiver::start(
            ReceiverConfig { tcp: any, udp: any, ..ReceiverConfig::default() },
            Arc::new(move |_, message| sink.lock().unwrap().message(message)),
        )
        .unwrap();
        Self { emulator, receiver, arrivals, config }
    }

    pub(crate) fn key_id(&self) -> &str {
        &self.config.key_id
    }

    pub(crate) fn key_secret(&self) -> &str {
        &self.config.key_secret
    }

    pub(crate) fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap()
    }

    pub(crate) fn notices(&self) -> Vec<Notice> {
        self.arrivals().notices().to_vec()
    }

    /// A client of the emulator, as another process would have.
    pub(crate) fn client(&self) -> Client {
        let source = &self.settings(Path::new("unused")).sources[0];
        Client::new(ClientConfig {
            endpoint: source.endpoint.clone(),
            project: source.project.clone(),
            credentials: source.credentials.clone(),
            sign: source.sign,
            region: None,
            user_agent: "another process".to_owned(),
            timeout: Duration::from_secs(10),
            max_raw_bytes: 64 << 20,
            network: source.network.clone(),
            tls: None,
        })
        .unwrap()
    }

    pub(crate) fn logstore(&self) -> &str {
        &self.config.logstore
    }

    /// Settings as a user would write them, with everything quick.
    pub(crate) fn settings(&self, dir: &Path) -> Settings {
        let tcp = self.receiver.tcp_addr().unwrap();
        self.settings_to(dir, &format!("tcp://{tcp}"))
    }

    pub(crate) fn settings_to(&self, dir: &Path, to: &str) -> Settings {
        let key = Credentials {
            key_id: self.config.key_id.clone(),
            key_secret: self.config.key_secret.clone(),
            security_token: None,
        };
        let mut source = Source::new(
            Endpoint::parse(&self.emulator.endpoint()).unwrap(),
            &self.config.project,
            &self.config.logstore,
            GROUP,
            CredentialSource::Static(key),
        );
        source.heartbeat_interval = Duration::from_millis(300);
        source.group_timeout = Duration::from_secs(3);
        source.idle_poll = Duration::from_millis(50);
        source.unreadable_after = Duration::from_millis(300);
        source.checkpoint_look = Duration::from_millis(200);
        source.shard_bytes_per_second = u64::MAX;
        source.lag_every = Duration::from_millis(100);
        let mut destination = Destination::new(to.parse().unwrap(), "relay.test");
        destination.settle = Duration::from_millis(200);
        destination.drain_idle = Duration::from_millis(100);
        destination.drain_every = Duration::from_secs(1);
        destination.timeout = Duration::from_secs(3);
        destination.udp_max_rate = 1_000_000;
        // Logs are compared whole; what is done with long ones is tested by itself.
        destination.max_message = 200_000;
        Settings {
            spool: SpoolSettings::new(dir, 256 << 20),
            sources: vec![source],
            destinations: vec![destination],
            log: LogSettings { level: "info".to_owned(), format: LogFormat::Text },
            control: ControlSettings::of_spool(dir),
        }
    }

    /// Waits until every log has arrived.
    pub(crate) async fn all_arrived(&self) {
        wait_for("every log to arrive", || self.arrivals().is_complete()).await;
    }

    /// Number of groups that the checkpoint of a shard has passed.
    pub(crate) fn committed(&self, shard: u32) -> i64 {
        let begin = self.emulator.begin_cursor(shard).unwrap();
        let begin = sls_relay::emulator::sls::cursor_number(&begin).unwrap();
        self.emulator.checkpoint_number(GROUP, shard).map_or(0, |at| at - begin)
    }

    /// Whether the checkpoints of all shards are at their ends.
    pub(crate) fn all_committed(&self) -> bool {
        (0..self.config.shards).all(|shard| {
            self.emulator.checkpoint(GROUP, shard) == self.emulator.end_cursor(shard).ok()
        })
    }
}

impl Running {
    pub(crate) async fn start(settings: Settings) -> Self {
        let relay = Relay::start(settings).await.unwrap();
        let (counters, spool) = (relay.counters(), relay.spool());
        let exported: BoxFuture = Box::pin(relay.exported());
        let stop = CancellationToken::new();
        let task = tokio::spawn(relay.run(stop.clone()));
        Self { counters, spool, exported: Mutex::new(Some(exported)), stop, task }
    }

    /// Waits until the export of the relay is complete.
    pub(crate) async fn exported(&self) {
        let exported = self.exported.lock().unwrap().take().unwrap();
        tokio::time::timeout(DEADLINE, exported).await.unwrap();
    }

    /// Stops gracefully and waits for the end.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }

    pub(crate) fn confirmed(&self) -> u64 {
        self.counters.snapshot().destinations.values().map(|d| d.confirmed).sum()
    }
}

/// Waits for a condition; a test never sleeps for luck.
pub(crate) async fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
