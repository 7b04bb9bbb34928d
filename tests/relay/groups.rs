//! The consumer group: made as configured, changed only where that is wanted, and its own
//! timeout counts.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sls_relay::sls::{Client, ClientConfig, ConsumerGroup, DEFAULT_MAX_RAW_BYTES};
use tracing_subscriber::fmt::MakeWriter;

use crate::pipeline::{Ends, GROUP, Running, wait_for};

/// The warnings of this thread; tests that look at them run all tasks on it.
#[derive(Clone, Default)]
pub(crate) struct Warnings(Arc<Mutex<Vec<u8>>>);

impl io::Write for Warnings {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Warnings {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Warnings {
    pub(crate) fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::WARN)
            .with_writer(self.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    /// The lines about a group that is not as configured.
    fn of_group(&self) -> Vec<String> {
        self.with("sls.group_differs")
    }

    /// The lines with a code.
    pub(crate) fn with(&self, code: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(code)).map(str::to_owned).collect()
    }
}

struct Scene {
    ends: Ends,
    dir: tempfile::TempDir,
    client: Client,
    logstore: String,
}

impl Scene {
    async fn start() -> Self {
        let ends = Ends::start(1, 100).await;
        let dir = tempfile::tempdir().unwrap();
        let source = ends.settings(dir.path()).sources.remove(0);
        let client = Client::new(ClientConfig {
            endpoint: source.endpoint,
            project: source.project,
            credentials: source.credentials,
            sign: source.sign,
            region: None,
            user_agent: "operator".to_owned(),
            timeout: Duration::from_secs(30),
            max_raw_bytes: DEFAULT_MAX_RAW_BYTES,
            network: source.network,
            tls: None,
        });
        Self { ends, dir, client: client.unwrap(), logstore: source.logstore }
    }

    async fn group(&self) -> ConsumerGroup {
        self.client.list_consumer_groups(&self.logstore).await.unwrap().remove(0)
    }

    async fn make_group(&self, timeout_s: u32, order: bool) {
        let made = self.client.create_consumer_group(&self.logstore, GROUP, timeout_s, order);
        made.await.unwrap();
    }

    /// Runs a relay until it has joined the group and committed everything.
    async fn relay(&self, order: Option<bool>, manage_group: bool) -> ConsumerGroup {
        let mut settings = self.ends.settings(self.dir.path());
        settings.sources[0].order = order;
        settings.sources[0].manage_group = manage_group;
        let before = self.ends.emulator.stats().heartbeats;
        let relay = Running::start(settings).await;
        wait_for("a heartbeat", || self.ends.emulator.stats().heartbeats > before).await;
        wait_for("the checkpoint", || self.ends.all_committed()).await;
        relay.stop().await;
        self.group().await
    }
}

fn group(timeout_s: u32, order: bool) -> ConsumerGroup {
    ConsumerGroup { name: GROUP.to_owned(), timeout_s, order }
}

#[tokio::test]
async fn a_missing_group_is_made_as_configured() {
    let warnings = Warnings::default();
    let _listening = warnings.listen();
    assert_eq!(Scene::start().await.relay(Some(true), false).await, group(3, true));
    assert_eq!(Scene::start().await.relay(None, false).await, group(3, false));
    assert_eq!(warnings.of_group(), [""; 0]);
}

#[tokio::test]
async fn an_existing_group_is_left_alone_and_each_difference_is_named_once() {
    let warnings = Warnings::default();
    let _listening = warnings.listen();
    let scene = Scene::start().await;
    scene.make_group(4, false).await;
    assert_eq!(scene.relay(Some(true), false).await, group(4, false));
    let [warning] = &warnings.of_group()[..] else { panic!("{:?}", warnings.of_group()) };
    for part in [
        "its timeout is 4 s where group_timeout says 3 s",
        "it is unordered where order says ordered",
        "manage_group = true",
    ] {
        assert!(warning.contains(part), "{warning}");
    }
    assert_eq!(scene.relay(None, false).await, group(4, false));
    let after_restart = warnings.of_group().pop().unwrap();
    assert!(!after_restart.contains("ordered"), "{after_restart}");
}

#[tokio::test]
async fn a_managed_group_is_changed_to_what_is_configured_and_no_further() {
    let warnings = Warnings::default();
    let _listening = warnings.listen();
    let scene = Scene::start().await;
    scene.make_group(4, true).await;
    assert_eq!(scene.relay(None, true).await, group(3, true), "order is not configured");
    assert_eq!(scene.relay(Some(false), true).await, group(3, false));
    assert_eq!(warnings.of_group(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_made_shorter_while_the_relay_runs_is_followed() {
    let scene = Scene::start().await;
    scene.make_group(120, false).await;
    let mut settings = scene.ends.settings(scene.dir.path());
    settings.sources[0].heartbeat_interval = Duration::from_secs(3);
    let relay = Running::start(settings).await;
    wait_for("the shard", || !scene.ends.emulator.holders(GROUP).is_empty()).await;
    scene.client.update_consumer_group(&scene.logstore, GROUP, 1, false).await.unwrap();
    // One each 3 s, as before, would not come to this many in time.
    let before = scene.ends.emulator.stats().heartbeats;
    wait_for("heartbeats", || scene.ends.emulator.stats().heartbeats > before + 45).await;
    wait_for("the shard again", || !scene.ends.emulator.holders(GROUP).is_empty()).await;
    relay.stop().await;
}
